package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/clearward/clearward/ledger/db"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	maxAttempts    = 30 // of one transaction, with pauses from a millisecond to half a second
	attemptTimeout = time.Minute
)

// flight is the keys of the requests that are on their way.
type flight struct {
	mu   sync.Mutex
	keys map[requestKey]*item
}

// enter says whether the item is the only one with its key; else it waits as a
// twin until the other is answered.
func (f *flight) enter(it *item) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := it.key()
	if first, ok := f.keys[key]; ok {
		first.twins = append(first.twins, it)
		return false
	}
	f.keys[key] = it
	return true
}

// leave returns the twins, whose answer can be looked up now.
func (f *flight) leave(it *item) []*item {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, it.key())
	twins := it.twins
	it.twins = nil
	return twins
}

func (it *item) key() requestKey { return requestKey{it.req.Scope, it.req.Key} }

// finish gives the item its answer.
func (c *Committer) finish(it *item, out Outcome, err error) {
	it.out, it.err = out, err
	if !it.req.zero() {
		c.askAgain(c.flight.leave(it))
	}
	it.group.finished()
}

func (c *Committer) askAgain(twins []*item) {
	if len(twins) == 0 || c.arrived.push(twins...) {
		return
	}
	for _, it := range twins {
		it.err = ErrClosed
		it.group.finished()
	}
}

// answerReplays looks the keys up of what has arrived, while the last
// transaction is on its way, and passes on what was not answered before.
func (c *Committer) answerReplays() {
	var link *pgx.Conn
	defer func() { closeLink(link) }()
	for items := c.arrived.take(); items != nil; items = c.arrived.take() {
		fresh := c.admit(items)
		var known map[requestKey]answer
		err := c.patiently(func() (err error) {
			if link == nil || link.IsClosed() {
				if link, err = c.connect(c.ctx, `SET default_transaction_isolation = 'read committed'`); err != nil {
					return err
				}
			}
			known, err = lookUp(c.ctx, link, fresh)
			return err
		})
		if err != nil {
			c.fail(fresh, err)
			continue
		}
		c.ready.push(c.replay(fresh, known)...)
	}
}

// admit refuses keys that are too old and holds back those that are on their way.
func (c *Committer) admit(items []*item) []*item {
	fresh := items[:0]
	oldest := Day(0)
	if c.opts.KeepKeys > 0 {
		oldest = DayOf(c.opts.Now()).Add(-c.opts.KeepKeys)
	}
	for _, it := range items {
		if it.req.zero() {
			fresh = append(fresh, it)
			continue
		}
		if !c.flight.enter(it) {
			continue
		}
		if day, ok := keyDay(it.req.Key); ok && day < oldest {
			c.finish(it, Outcome{Err: ErrKeyExpired.Because("key", "%s is of %v, answers are kept since %v: take a new key", it.req.Key, day, oldest)}, nil)
			continue
		}
		fresh = append(fresh, it)
	}
	return fresh
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
func (c *Committer) replay(items []*item, known map[requestKey]answer) []*item {
	if len(known) == 0 {
		return items
	}
	fresh := items[:0:0]
	for _, it := range items {
		if a, ok := known[it.key()]; ok && !it.req.zero() {
			c.finish(it, a.replay(&it.req), nil)
			continue
		}
		fresh = append(fresh, it)
	}
	return fresh
}

// write carries out what is ready until the queue is closed.
func (c *Committer) write() {
	for items := c.ready.take(); items != nil; items = c.ready.take() {
		wanted := items[:0]
		for _, it := range items {
			if it.state.CompareAndSwap(waiting, taken) {
				wanted = append(wanted, it)
			} else if !it.req.zero() {
				c.askAgain(c.flight.leave(it))
			}
		}
		c.commit(wanted)
	}
}

// commit carries the items out in one transaction. When the database refuses
// it, the items are halved until the one that it refuses stands alone.
func (c *Committer) commit(items []*item) {
	for attempt := 0; len(items) > 0; attempt++ {
		outcomes, err := c.attempt(items)
		verdict := c.judge(err)
		if verdict == inDoubt {
			verdict = c.settle(err)
		}
		switch {
		case verdict == done:
			c.Commands.Add(int64(len(items)))
			for i, it := range items {
				c.finish(it, outcomes[i], nil)
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
			c.finish(items[0], Outcome{Err: ErrReversed.Because("reverses", "the entry was reversed before")}, nil)
			return
		case verdict == poisoned || attempt >= maxAttempts:
			c.fail(items, err)
			return
		case verdict == keyTaken:
			if items, err = c.dropAnswered(items); err != nil {
				c.fail(items, err)
				return
			}
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
		c.finish(it, Outcome{}, fmt.Errorf("%s: %w", it.verb.name(), err))
	}
}

// dropAnswered is needed when another committer has answered one of the keys
// since it was looked up.
func (c *Committer) dropAnswered(items []*item) ([]*item, error) {
	var known map[requestKey]answer
	err := c.patiently(func() error {
		link, err := c.connected(c.ctx)
		if err == nil {
			known, err = lookUp(c.ctx, link, items)
		}
		return err
	})
	if err != nil {
		return items, err
	}
	return c.replay(items, known), nil
}

// attempt runs the verbs over the items in one transaction, the items of one verb
// together, and commits it. With the error of a COMMIT whose outcome is unknown,
// a *doubtError, come the outcomes that hold if it stands.
func (c *Committer) attempt(items []*item) ([]Outcome, error) {
	ctx, cancel := context.WithTimeout(c.ctx, attemptTimeout)
	defer cancel()
	link, err := c.connected(ctx)
	if err != nil {
		return nil, err
	}
	var outcomes []Outcome
	b, err := c.begin(ctx, link)
	if err == nil {
		outcomes, err = b.decide(ctx, items)
	}
	if err == nil {
		err = b.write(ctx, link, items, outcomes)
	}
	if err != nil {
		c.abandon(link)
	}
	return outcomes, err
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
	keyTaken                // somebody has answered one of the keys
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
	case !errors.As(err, &pg):
		if c.link == nil || c.link.IsClosed() || pgconn.SafeToRetry(err) {
			return again
		}
		return poisoned
	case pg.Code == "40001", pg.Code == "40P01", pg.Code == "53300", leavesDoubt(pg.Code):
		return again
	case violates(err, "requests_key"):
		return keyTaken
	case violates(err, "batches_key"):
		return fenced
	}
	return poisoned
}

// violates tells whether err is a second row under a unique key.
func violates(err error, key string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.ConstraintName == key
}

// patiently calls f until it succeeds, a bounded number of times.
func (c *Committer) patiently(f func() error) error {
	for attempt := 0; ; attempt++ {
		err := f()
		if err == nil || attempt >= maxAttempts || c.ctx.Err() != nil {
			return err
		}
		pause(c.ctx, attempt)
	}
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
