package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/clearward/clearward/ledger/db"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	maxAttempts    = 30 // of one transaction, with pauses from a millisecond to half a second
	attemptTimeout = 5 * time.Minute
)

// finish gives the item its answer.
func (it *item) finish(out Outcome, err error) {
	it.out, it.err = out, err
	it.group.finished()
}

// write carries out what is submitted until the queue is closed.
func (c *Committer) write() {
	for items := c.queue.take(); items != nil; items = c.queue.take() {
		c.commit(c.admit(items))
		// Those who were answered and have more to ask speak first, as long as there
		// are any: their commands go into the next transaction, not the one after.
		for before, now := -1, 0; before < now && now < maxCommands; before, now = now, c.queue.length() {
			runtime.Gosched()
		}
	}
}

// admit drops the items whose callers have left, refuses keys that are too old,
// and puts back the second item of a key, whose answer the first one makes.
func (c *Committer) admit(items []*item) []*item {
	oldest := Day(0)
	if c.opts.KeepKeys > 0 {
		oldest = DayOf(c.opts.Now()).Add(-c.opts.KeepKeys)
	}
	var again []*item
	keys := map[requestKey]bool{}
	fresh := items[:0]
	for _, it := range items {
		if key := it.key(); !it.req.zero() {
			if keys[key] {
				again = append(again, it)
				continue
			}
			keys[key] = true
		}
		if !it.state.CompareAndSwap(waiting, taken) {
			continue
		}
		if day, ok := keyDay(it.req.Key); ok && day < oldest {
			it.finish(Outcome{Err: ErrKeyExpired.Because("key", "%s is of %v, answers are kept since %v: take a new key", it.req.Key, day, oldest)}, nil)
			continue
		}
		fresh = append(fresh, it)
	}
	c.queue.putBack(again)
	return fresh
}

func (it *item) key() requestKey { return requestKey{it.req.Scope, it.req.Key} }

// errNotReached says that the commands are not at fault: the database did not
// hear of them.
var errNotReached = errors.New("the database could not be asked")

// lookUpBeside reads the answers to the items' keys on the second connection,
// outside the transaction that begins meanwhile: inside it the read would make
// concurrent committers abort each other.
func (c *Committer) lookUpBeside(ctx context.Context, items []*item) func() (map[requestKey]answer, error) {
	if !slices.ContainsFunc(items, func(it *item) bool { return !it.req.zero() }) {
		return func() (map[requestKey]answer, error) { return nil, nil }
	}
	var known map[requestKey]answer
	var err error
	read := make(chan struct{})
	go func() {
		defer close(read)
		if lostLink(c.reader) {
			if c.reader, err = c.connect(ctx, `SET default_transaction_isolation = 'read committed'`); err != nil {
				return
			}
		}
		known, err = lookUp(ctx, c.reader, items)
		if err != nil && c.reader.IsClosed() {
			err = fmt.Errorf("%w: %w", errNotReached, err)
		}
	}()
	return func() (map[requestKey]answer, error) {
		<-read
		return known, err
	}
}

// lookUp reads what was answered to the keys of the items.
func lookUp(ctx context.Context, link *pgx.Conn, items []*item) (map[requestKey]answer, error) {
	var scopes, keys []string
	for _, it := range items {
		if !it.req.zero() {
			scopes, keys = append(scopes, it.req.Scope), append(keys, it.req.Key)
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := link.Query(ctx, `
		SELECT r.scope, r.key, r.form, r.hash, r.outcome, r.body, r.lane, r.seq, r.ord
		FROM unnest($1::text[], $2::text[]) AS asked(scope, key)
		JOIN requests AS r ON r.scope = asked.scope AND r.key = asked.key`, scopes, keys)
	if err != nil {
		return nil, fmt.Errorf("look requests up: %w", err)
	}
	known := map[requestKey]answer{}
	var a answer
	var ord *int16
	_, err = pgx.ForEachRow(rows, []any{&a.scope, &a.requestKey.key, &a.form, &a.hash, &a.outcome, &a.body, &a.entry.Lane, &a.entry.Seq, &ord}, func() error {
		found := a
		found.hash = append([]byte(nil), a.hash...)
		if ord == nil {
			found.entry = EntryID{}
		} else {
			found.entry.Ord = *ord
		}
		known[a.requestKey] = found
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look requests up: %w", err)
	}
	return known, nil
}

// replay answers the items whose key is known and returns the others.
func replay(items []*item, known map[requestKey]answer) []*item {
	if len(known) == 0 {
		return items
	}
	fresh := items[:0:0]
	for _, it := range items {
		if a, ok := known[it.key()]; ok && !it.req.zero() {
			it.finish(a.replay(&it.req), nil)
			continue
		}
		fresh = append(fresh, it)
	}
	return fresh
}

// commit carries the items out in one transaction. When the database refuses
// it, the items are halved until the one that it refuses stands alone.
func (c *Committer) commit(items []*item) {
	for attempt := 0; len(items) > 0; attempt++ {
		rest, outcomes, err := c.attempt(items)
		items = rest
		verdict := c.judge(err)
		if verdict == inDoubt {
			verdict = c.settle(err)
		}
		switch {
		case verdict == done:
			c.Commands.Add(int64(len(items)))
			for i, it := range items {
				it.finish(outcomes[i], nil)
			}
			return
		case c.ctx.Err() != nil:
			c.fail(items, fmt.Errorf("%w: %w", ErrUnknown, ErrClosed))
			return
		case verdict == poisoned && len(items) > 1:
			c.Splits.Add(1)
			c.commit(items[:len(items)/2])
			items, attempt = items[len(items)/2:], -1
		case verdict == poisoned && violates(err, "entries_reversed_once"):
			items[0].finish(Outcome{Err: ErrReversed.Because("reverses", "the entry was reversed before")}, nil)
			return
		case verdict == poisoned || attempt >= maxAttempts:
			c.fail(items, err)
			return
		case verdict == fenced:
			if err := c.claimSoon(); err != nil {
				c.fail(items, err)
				return
			}
		case verdict == again:
			c.Retries.Add(1)
			pause(c.ctx, attempt)
		}
	}
}

func (c *Committer) fail(items []*item, err error) {
	for _, it := range items {
		it.finish(Outcome{}, fmt.Errorf("%s: %w", it.verb.name(), err))
	}
}

// attempt answers the items that were answered before, runs the verbs over the
// rest in one transaction, the items of one verb together, and commits it. With
// the error of a COMMIT whose outcome is unknown, a *doubtError, come the outcomes
// that hold if it stands.
func (c *Committer) attempt(items []*item) (rest []*item, outcomes []Outcome, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, attemptTimeout)
	defer cancel()
	lookedUp := c.lookUpBeside(ctx, items)
	b, err := c.begin(ctx)
	known, lookErr := lookedUp()
	rest = replay(items, known)
	if err = cmp.Or(err, lookErr); err == nil && len(rest) > 0 {
		outcomes, err = b.decide(ctx, rest)
		if err == nil {
			err = b.write(ctx, c.link, rest, outcomes)
		}
	}
	if err != nil || len(rest) == 0 {
		c.abandon()
	}
	return rest, outcomes, err
}

// decide runs the verbs. After it nothing is decided any more, only written.
func (b *Batch) decide(ctx context.Context, items []*item) ([]Outcome, error) {
	outcomes := make([]Outcome, len(items))
	var order []verb
	byVerb := map[verb][]int{}
	for i, it := range items {
		if byVerb[it.verb] == nil {
			order = append(order, it.verb)
		}
		byVerb[it.verb] = append(byVerb[it.verb], i)
	}
	for _, v := range order {
		places := byVerb[v]
		slice := make([]*item, len(places))
		for i, at := range places {
			slice[i] = items[at]
		}
		outs := v.run(ctx, b, slice)
		if b.err != nil {
			return nil, b.err
		}
		if len(outs) != len(slice) {
			return nil, fmt.Errorf("%s answered %d of %d commands", v.name(), len(outs), len(slice))
		}
		for i, out := range outs {
			if err := asRefusal(&out); err != nil {
				return nil, err
			}
			outcomes[places[i]] = out
		}
	}
	return outcomes, nil
}

// asRefusal leaves of an Outcome's error the Refusal, which is what a replay can
// give again. An error that is none is returned.
func asRefusal(out *Outcome) error {
	if out.Err == nil {
		return nil
	}
	var refusal Refusal
	if !errors.As(out.Err, &refusal) {
		return out.Err
	}
	out.Err = refusal
	return nil
}

// verdict is what follows from the end of an attempt.
type verdict int

const (
	done     verdict = iota // committed
	again                   // nothing was written, another attempt may succeed
	fenced                  // somebody has taken the lane over
	inDoubt                 // COMMIT was sent and not answered
	poisoned                // one of the commands cannot be carried out
)

// judge tells from SQLSTATEs, never from texts, what an error means.
func (c *Committer) judge(err error) verdict {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return done
	case errors.Is(err, db.ErrAmbiguous):
		return inDoubt
	case errors.Is(err, errNotReached), pgconn.SafeToRetry(err):
		return again
	case !errors.As(err, &pg):
		if lostLink(c.link) {
			return again
		}
		return poisoned
	case pg.Code == "40001", pg.Code == "40P01", pg.Code == "53300", leavesDoubt(pg.Code):
		return again
	case violates(err, "requests_key"):
		return again // another committer has answered the key since it was looked up
	case violates(err, "batches_key"):
		return fenced
	}
	return poisoned
}

func lostLink(link *pgx.Conn) bool { return link == nil || link.IsClosed() }

// violates tells whether err is a second row under a unique key.
func violates(err error, key string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.ConstraintName == key
}

// pause waits longer each time, jittered so that rivals do not meet again.
func pause(ctx context.Context, attempt int) {
	most := min(time.Millisecond<<min(attempt, 10), 500*time.Millisecond)
	timer := time.NewTimer(most/2 + rand.N(most/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
