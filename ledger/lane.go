package ledger

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/clearward/clearward/ledger/db"
	"github.com/jackc/pgx/v5"
)

// lanes is how many lanes a journal has: as many processes may write at a time.
const lanes = 16

func everyLane() []int16 {
	all := make([]int16, lanes)
	for i := range all {
		all[i] = int16(i)
	}
	return all
}

// errNoLane says that every lane allowed is leased to a process that is alive.
var errNoLane = errors.New("no lane is free")

// laneHold is a lane that was claimed, and the last batch known in it.
type laneHold struct {
	lane  int16
	owner string
	epoch int64
	seq   int64 // only the writing goroutine changes it
}

// claim takes a lane whose lease has run out, waiting until there is one. The
// former owner may be alive and not know: an empty batch at the next place in
// the lane makes every later write of his fail on its key.
func (c *Committer) claim(ctx context.Context) error {
	for {
		hold, err := c.tryClaim(ctx)
		switch {
		case err == nil:
			c.Claims.Add(1)
			c.lane.Store(hold)
			return nil
		case violates(err, "batches_key"): // the former owner was quicker
		case !errors.Is(err, errNoLane) && !errors.Is(err, db.ErrAmbiguous):
			return fmt.Errorf("claim a lane: %w", err)
		}
		timer := time.NewTimer(c.opts.Lease / 20)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("claim a lane: %w: %w", err, context.Cause(ctx))
		}
	}
}

// claimSoon is claim by a committer that has callers waiting.
func (c *Committer) claimSoon() error {
	ctx, cancel := context.WithTimeout(c.ctx, 3*c.opts.Lease)
	defer cancel()
	return c.claim(ctx)
}

func (c *Committer) tryClaim(ctx context.Context) (*laneHold, error) {
	id := randomID()
	hold := &laneHold{owner: hex.EncodeToString(id[:])}
	err := c.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var epoch int64
		err := tx.QueryRow(ctx, `
			SELECT lane, epoch FROM lanes
			WHERE lane = ANY($1) AND expires_at < now()
			ORDER BY lane LIMIT 1 FOR UPDATE`, c.opts.Lanes).Scan(&hold.lane, &epoch)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNoLane
		} else if err != nil {
			return err
		}
		hold.epoch = epoch + 1
		tag, err := tx.Exec(ctx, `
			UPDATE lanes SET owner = $3, epoch = $4, expires_at = now() + $5::int8 * INTERVAL '1 millisecond'
			WHERE lane = $1 AND epoch = $2 AND expires_at < now()`,
			hold.lane, epoch, hold.owner, hold.epoch, c.opts.Lease.Milliseconds())
		if err != nil {
			return err
		}
		if tag.RowsAffected() != 1 {
			return errNoLane
		}
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(seq), 0) + 1 FROM batches WHERE lane = $1`, hold.lane).Scan(&hold.seq); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, insertBatch, batchRow(hold.lane, hold.seq, hold.epoch, randomID(), nil, c.opts.Now())...)
		return err
	})
	return hold, err
}

// insertBatch is what makes a group commit, and what fences.
const insertBatch = `
	INSERT INTO batches (lane, seq, prev, epoch, id, items, content, at)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`

func batchRow(lane int16, seq, epoch int64, id [16]byte, content []byte, at time.Time) []any {
	var prev *int64
	if seq > 1 {
		before := seq - 1
		prev = &before
	}
	if content == nil {
		content = []byte{}
	}
	return []any{lane, seq, prev, epoch, id, int32(len(content) / leafSize), content, at}
}

func randomID() (id [16]byte) {
	if _, err := rand.Read(id[:]); err != nil {
		panic(err) // the system gives no random numbers
	}
	return id
}

// renew keeps the lease alive. That a renewal comes too late does no harm: the
// key of batches decides who writes.
func (c *Committer) renew(stop <-chan struct{}) {
	ticker := time.NewTicker(c.opts.Lease / 5)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
		c.setLease(c.opts.Lease)
	}
}

// release lets the next process take the lane at once.
func (c *Committer) release() { c.setLease(-time.Millisecond) }

func (c *Committer) setLease(lease time.Duration) {
	ctx, cancel := context.WithTimeout(c.ctx, c.opts.Lease)
	defer cancel()
	hold := c.lane.Load()
	// An error is met again by the next renewal; at worst the lane is lost.
	_, _ = c.db.Pool.Exec(ctx, `
		UPDATE lanes SET expires_at = now() + $4::int8 * INTERVAL '1 millisecond'
		WHERE lane = $1 AND owner = $2 AND epoch = $3`, hold.lane, hold.owner, hold.epoch, lease.Milliseconds())
}

// settle finds out what became of a batch whose COMMIT was not answered, by
// writing an empty batch in its place. Where that succeeds the batch will never
// be there; where the place is taken, its id says by whom.
func (c *Committer) settle(doubt error) verdict {
	c.Settled.Add(1)
	hold := *c.lane.Load()
	mine := doubtfulBatch(doubt)
	verdict := inDoubt
	for attempt := 0; verdict == inDoubt && c.ctx.Err() == nil; attempt++ {
		if attempt > 0 {
			pause(c.ctx, attempt)
		}
		err := c.db.InTx(c.ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, insertBatch, batchRow(hold.lane, hold.seq+1, hold.epoch, randomID(), nil, c.opts.Now())...)
			return err
		})
		if err == nil {
			c.advance()
			return again
		}
		// Also after an unknown outcome of this very INSERT the row tells.
		var id [16]byte
		switch err := c.db.Pool.QueryRow(c.ctx, `SELECT id FROM batches WHERE lane = $1 AND seq = $2`, hold.lane, hold.seq+1).Scan(&id); {
		case err != nil:
		case id == mine:
			c.advance()
			verdict = done
		default:
			verdict = fenced
		}
	}
	return verdict
}

// advance notes that the batch after the last one known stands.
func (c *Committer) advance() {
	next := *c.lane.Load()
	next.seq++
	c.lane.Store(&next)
}

// doubtError carries the id of the batch whose COMMIT was not answered.
type doubtError struct {
	db.AmbiguousError
	id [16]byte
}

func doubtfulBatch(err error) [16]byte {
	var doubt *doubtError
	if !errors.As(err, &doubt) {
		panic("ledger: an ambiguous COMMIT that is not the committer's")
	}
	return doubt.id
}

// connect takes a connection out of the pool for good. PostgreSQL plans a
// statement once for arrays of any length; on a table that was empty then, only an
// index is good for long, and the right one is chosen when there are rows (db.Use).
func (c *Committer) connect(ctx context.Context, settings ...string) (*pgx.Conn, error) {
	pooled, err := c.db.Pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotReached, err)
	}
	link := pooled.Hijack()
	if c.db.Dialect == db.Postgres {
		settings = append(settings, `SET plan_cache_mode = force_generic_plan`, `SET enable_seqscan = off`)
	}
	for _, setting := range settings {
		if _, err := link.Exec(ctx, setting); err != nil {
			closeLink(link)
			return nil, fmt.Errorf("%w: %w", errNotReached, err)
		}
	}
	return link, nil
}

// abandon ends a transaction that was not committed. A connection that cannot
// say so is given up.
func (c *Committer) abandon() {
	if lostLink(c.link) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), time.Second)
	defer cancel()
	if _, err := c.link.Exec(ctx, `ROLLBACK`); err != nil {
		closeLink(c.link)
	}
}

func closeLink(link *pgx.Conn) {
	if link == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = link.Close(ctx)
}
