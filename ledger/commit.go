package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearward/clearward/ledger/db"
	"github.com/jackc/pgx/v5"
)

// What a caller of Submit may meet instead of an Outcome.
var (
	// ErrUnknown says that the deadline passed while the command was being
	// committed: it may have been carried out or not. Ask again with the same key.
	ErrUnknown = errors.New("the outcome is not known yet: ask again with the same key")
	// ErrClosed says that the committer takes no more commands.
	ErrClosed = errors.New("the committer is closed")
)

// A Verb is something that changes the books. Run gets the commands that have
// gathered, in order, and answers each with an Outcome at the same index; it may
// be run more than once for the same commands, so its only effects are those it
// has on the Batch. An Outcome whose Err is not a Refusal is a failure: the
// transaction is given up and the command's caller gets that error.
type Verb[C any] struct {
	Name string
	Run  func(ctx context.Context, b *Batch, cmds []C) []Outcome
}

// verb is a Verb of any kind of command.
type verb interface {
	run(ctx context.Context, b *Batch, items []*item) []Outcome
	name() string
}

func (v *Verb[C]) name() string { return v.Name }

func (v *Verb[C]) run(ctx context.Context, b *Batch, items []*item) []Outcome {
	cmds := make([]C, len(items))
	for i, it := range items {
		cmds[i] = it.cmd.(C)
	}
	return v.Run(ctx, b, cmds)
}

// maxCommands is how many commands one transaction takes.
const maxCommands = 2048

// Options of a committer.
type Options struct {
	Now      func() time.Time // the recorded time, for people; order comes from the position alone
	Lanes    []int16          // the lanes it may claim, every one when empty
	Lease    time.Duration    // how long a silent process keeps its lane, 5 s when zero
	KeepKeys int              // days for which answers to requests are kept, for ever when zero
}

// Committer is the one writer of money in a process. It takes the commands that
// have gathered while its last transaction was on its way and carries all of
// them out in the next, without waiting for more.
type Committer struct {
	Counts
	db       *db.DB
	opts     Options
	ctx      context.Context // ends when Close gives up
	cancel   context.CancelFunc
	accounts map[AccountID]accountRow // only the writing goroutine uses it
	opened   time.Time                // of the newest account in it
	daysFrom Day                      // the earliest day the last batch asked for
	link     *pgx.Conn                // of the transactions; only the writing goroutine uses it
	reader   *pgx.Conn                // of the look-ups beside them
	lane     atomic.Pointer[laneHold]
	queue    queue
	running  sync.WaitGroup
	closing  sync.Once
}

// Counts tells how the committer has fared since it was made.
type Counts struct {
	Batches, Commands, Retries, Splits, Claims, Settled atomic.Int64
}

// NewCommitter claims a lane and starts. Close it.
func NewCommitter(ctx context.Context, d *db.DB, opts Options) (*Committer, error) {
	if opts.Now == nil {
		return nil, errors.New("ledger: Options.Now is missing")
	}
	if opts.Lease == 0 {
		opts.Lease = 5 * time.Second
	}
	if len(opts.Lanes) == 0 {
		opts.Lanes = everyLane()
	}
	c := &Committer{db: d, opts: opts, accounts: map[AccountID]accountRow{}}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.queue.wake = make(chan struct{}, 1)
	if err := c.loadAccounts(ctx, d.Pool, nil); err != nil {
		return nil, err
	}
	if err := c.claim(ctx); err != nil {
		return nil, err
	}
	stopRenewing := make(chan struct{})
	c.running.Go(func() { c.write(); close(stopRenewing) })
	c.running.Go(func() { c.renew(stopRenewing) })
	return c, nil
}

// Close carries out what was submitted, gives the lane back and stops. When the
// database does not answer for ten seconds, what is left is ErrUnknown.
func (c *Committer) Close() {
	c.closing.Do(func() {
		giveUp := time.AfterFunc(10*time.Second, c.cancel)
		defer giveUp.Stop()
		c.queue.close()
		c.running.Wait()
		c.release()
		closeLink(c.link)
		closeLink(c.reader)
		c.cancel()
	})
}

// Submit has the command carried out and waits for its outcome. When ctx ends
// before the command was taken, nothing was done; when it ends later, the error
// is ErrUnknown.
func Submit[C any](ctx context.Context, c *Committer, v *Verb[C], req Request, cmd C) (Outcome, error) {
	it := &item{verb: v, cmd: cmd, req: req, group: &group{done: make(chan struct{}), left: 1}}
	items := []*item{it}
	if err := c.enqueue(items); err != nil {
		return Outcome{}, err
	}
	if err := c.await(ctx, items); err != nil {
		return Outcome{}, err
	}
	return it.out, it.err
}

// SubmitAll is Submit for many commands, which are carried out in order, in
// transactions of at most 2,048. reqs is nil or as long as cmds. The error is the
// first failure; the outcomes of the other commands stand all the same, and the
// Outcome of one that failed holds its error.
func SubmitAll[C any](ctx context.Context, c *Committer, v *Verb[C], reqs []Request, cmds []C) ([]Outcome, error) {
	if reqs != nil && len(reqs) != len(cmds) {
		return nil, fmt.Errorf("ledger: %d requests for %d commands", len(reqs), len(cmds))
	}
	outcomes := make([]Outcome, 0, len(cmds))
	var failed error
	var before []*item // the slice that is being committed while the next one gathers
	collect := func() error {
		err := c.await(ctx, before)
		for _, it := range before {
			if err == nil && it.err != nil {
				it.out.Err = it.err
				failed = cmp.Or(failed, it.err)
			}
			outcomes = append(outcomes, it.out)
		}
		return err
	}
	for from := 0; from < len(cmds); from += maxCommands {
		to := min(from+maxCommands, len(cmds))
		items := newItems(v, reqs, cmds, from, to)
		if err := c.enqueue(items); err != nil {
			return outcomes, errors.Join(collect(), err)
		}
		if err := collect(); err != nil {
			return nil, err
		}
		before = items
	}
	if err := collect(); err != nil {
		return nil, err
	}
	return outcomes, failed
}

func newItems[C any](v *Verb[C], reqs []Request, cmds []C, from, to int) []*item {
	all := make([]item, to-from)
	g := &group{done: make(chan struct{}), left: int32(len(all))}
	items := make([]*item, len(all))
	for i := range all {
		all[i].verb, all[i].cmd, all[i].group = v, cmds[from+i], g
		if reqs != nil {
			all[i].req = reqs[from+i]
		}
		items[i] = &all[i]
	}
	return items
}

// enqueue hashes the requests, in the caller's goroutine, and puts the items into
// the queue.
func (c *Committer) enqueue(items []*item) error {
	for _, it := range items {
		if !it.req.zero() {
			it.hash = requestHash(it.req.Canon)
		}
	}
	if !c.queue.push(items...) {
		return ErrClosed
	}
	return nil
}

// await waits until every item of the group is answered or ctx ends.
func (c *Committer) await(ctx context.Context, items []*item) error {
	if len(items) == 0 {
		return nil
	}
	select {
	case <-items[0].group.done:
		return nil
	case <-ctx.Done():
	}
	taken := false
	for _, it := range items {
		taken = !it.state.CompareAndSwap(waiting, givenUp) || taken
	}
	if taken {
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
	return context.Cause(ctx)
}

// The states of an item. The one who takes it from waiting decides.
const (
	waiting int32 = iota
	taken
	givenUp
)

// item is one command on its way.
type item struct {
	verb  verb
	cmd   any
	req   Request
	hash  []byte
	state atomic.Int32
	group *group
	out   Outcome
	err   error
}

// group is the items that one caller waits for.
type group struct {
	left int32 // atomic
	done chan struct{}
}

func (g *group) finished() {
	if atomic.AddInt32(&g.left, -1) == 0 {
		close(g.done)
	}
}

// queue is items in the order of their arrival.
type queue struct {
	mu     sync.Mutex
	items  []*item
	closed bool
	wake   chan struct{}
}

func (q *queue) push(items ...*item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.items = append(q.items, items...)
	q.signal()
	return true
}

// putBack puts items before all others, also after the queue was closed.
func (q *queue) putBack(items []*item) {
	if len(items) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = slices.Insert(q.items, 0, items...)
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.signal()
}

// take waits for items and returns those that are there, at most maxCommands;
// none when the queue is closed and empty.
func (q *queue) take() []*item {
	for {
		q.mu.Lock()
		if n := min(len(q.items), maxCommands); n > 0 {
			items := slices.Clone(q.items[:n])
			q.items = slices.Delete(q.items, 0, n)
			if len(q.items) > 0 {
				q.signal()
			}
			q.mu.Unlock()
			return items
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		<-q.wake
	}
}
