package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Batch is what one transaction of the committer writes. Verbs decide on it: they
// read by Tx, and say what is to be written by Post, Record and Exec. Nothing is
// written before every verb has decided, so a verb does not see by Tx what it or
// another verb of the same batch has queued. It is only valid inside Run.
type Batch struct {
	c    *Committer
	ctx  context.Context
	tx   pgx.Tx
	hold laneHold
	at   time.Time
	err  error

	size     int16 // entries and events so far, which is also the next ord
	entries  []posted
	events   []Event
	content  []byte
	scratch  []byte
	turnover map[turnoverKey]*sums
	income   map[AccountID]Money // of this batch, for checked accounts
	floors   map[AccountID]*floorRow
	later    []statement

	shut     map[bookDay]bool // the days that take no posting, from shutFrom on
	shutFrom Day
	asked    Day // the earliest value day that was asked for
}

type posted struct {
	id  EntryID
	day Day
	Entry
}

type turnoverKey struct {
	account       AccountID
	day, valueDay Day
}

type sums struct{ debits, credits, redDebits, redCredits Money }

type bookDay struct {
	book Book
	day  Day
}

// statement is a verb's own row, written with the batch.
type statement struct {
	sql  string
	args []any
	want int64 // rows to be changed, anyRows for no matter how many
}

const anyRows = -1

// Tx is for reading inside the batch's transaction. What is read is still so
// when the batch is committed.
func (b *Batch) Tx() pgx.Tx { return b.tx }

// Now is the recorded time of the batch.
func (b *Batch) Now() time.Time { return b.at }

// Fail gives the transaction up, for instance because a read failed: a verb says
// `return b.Fail(err)`. The commands are tried again, each alone if need be.
func (b *Batch) Fail(err error) []Outcome {
	if b.err == nil {
		b.err = err
	}
	return nil
}

// Exec queues a statement of the verb's own, which is written with the batch.
func (b *Batch) Exec(sql string, args ...any) {
	b.later = append(b.later, statement{sql, args, anyRows})
}

// ExecRows is Exec of a statement that must change want rows: otherwise the
// batch is not written and its commands are tried again in smaller batches.
func (b *Batch) ExecRows(want int64, sql string, args ...any) {
	b.later = append(b.later, statement{sql, args, want})
}

// Record notes a fact without money, such as a refusal or an approval, in the
// same order as the entries; canon is its canonical form and is never changed.
func (b *Batch) Record(kind string, canon []byte) EntryID {
	id := b.next()
	event := Event{ID: id, Kind: kind, Canon: canon, At: b.at}
	b.events = append(b.events, event)
	b.scratch = event.canonical(b.scratch[:0])
	b.content = append(b.content, leaf(b.scratch)...)
	return id
}

func (b *Batch) next() EntryID {
	id := EntryID{Lane: b.hold.lane, Seq: b.hold.seq + 1, Ord: b.size}
	if b.size == math.MaxInt16 {
		b.Fail(errors.New("ledger: a batch holds no more entries"))
		return id
	}
	b.size++
	return id
}

// Post writes an entry, and entries that belong to it, all or none, with the
// batch. The id is that of the first; the others follow it. The error is a
// Refusal: an account is not open, or would fall below its floor.
func (b *Batch) Post(e Entry, linked ...Entry) (EntryID, error) {
	if err := b.know(e, linked); err != nil {
		return EntryID{}, err
	}
	if err := b.allow(e, linked); err != nil {
		return EntryID{}, err
	}
	// From here on the entries are posted.
	id := b.add(e)
	for _, e := range linked {
		b.add(e)
	}
	return id, b.err
}

// know checks that every account is open.
func (b *Batch) know(e Entry, linked []Entry) error {
	var missing []AccountID
	for _, leg := range legsOf(e, linked) {
		if _, ok := b.c.accounts[leg.Account]; !ok {
			missing = append(missing, leg.Account)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := b.c.loadAccounts(b.ctx, b.tx, missing); err != nil {
		b.Fail(err)
		return err
	}
	for _, account := range missing {
		if _, ok := b.c.accounts[account]; !ok {
			return ErrAccountUnknown.Because("account", "%v is not open; %s of %s posts to it", account, e.head.Kind, e.head.Ref)
		}
	}
	return nil
}

// legsOf yields both legs of every posting.
func legsOf(e Entry, linked []Entry) func(yield func(i int, leg Leg) bool) {
	return func(yield func(int, Leg) bool) {
		i := 0
		for n := -1; n < len(linked); n++ {
			if n >= 0 {
				e = linked[n]
			}
			for _, p := range e.postings {
				if !yield(i, p.Debit) || !yield(i+1, p.Credit) {
					return
				}
				i += 2
			}
		}
	}
}

func (b *Batch) add(e Entry) EntryID {
	id := b.next()
	p := posted{id: id, day: b.bookingDay(e.head.Book, e.head.ValueDay), Entry: e}
	b.entries = append(b.entries, p)
	b.scratch = p.canonical(b.scratch[:0])
	b.content = append(b.content, leaf(b.scratch)...)
	red := e.reverses != EntryID{}
	for _, posting := range e.postings {
		b.sum(posting.Debit.Account, p.day, e.head.ValueDay).debit(posting.Amount, red, b)
		b.sum(posting.Credit.Account, p.day, e.head.ValueDay).credit(posting.Amount, red, b)
	}
	return id
}

func (b *Batch) sum(account AccountID, day, valueDay Day) *sums {
	key := turnoverKey{account, day, valueDay}
	s := b.turnover[key]
	if s == nil {
		s = &sums{}
		b.turnover[key] = s
	}
	return s
}

func (s *sums) debit(amount Money, red bool, b *Batch) {
	b.addTo(&s.debits, amount)
	if red {
		b.addTo(&s.redDebits, amount)
	}
}

func (s *sums) credit(amount Money, red bool, b *Batch) {
	b.addTo(&s.credits, amount)
	if red {
		b.addTo(&s.redCredits, amount)
	}
}

func (b *Batch) addTo(sum *Money, amount Money) {
	total, err := sum.Add(amount)
	if err != nil {
		b.Fail(err)
		return
	}
	*sum = total
}

// BookingDay is the day on which the platform's book takes an event of valueDay:
// that day while it is open, else the first open day after it.
func (b *Batch) BookingDay(valueDay Day) Day { return b.bookingDay(1, valueDay) }

func (b *Batch) bookingDay(book Book, valueDay Day) Day {
	if b.asked == 0 || valueDay < b.asked {
		b.asked = valueDay
	}
	if valueDay < b.shutFrom {
		rows, err := b.tx.Query(b.ctx, selectShutDays, valueDay)
		if err == nil {
			err = b.readShutDays(rows)
		}
		if err != nil {
			b.Fail(err)
			return valueDay
		}
		b.shutFrom = valueDay
	}
	day := valueDay
	for len(b.shut) > 0 && b.shut[bookDay{book, day}] {
		day = day.Add(1)
	}
	return day
}

const selectShutDays = `SELECT book, day FROM days WHERE day >= $1 AND state <> 'OPEN'`

func (b *Batch) readShutDays(rows pgx.Rows) error {
	var shut bookDay
	_, err := pgx.ForEachRow(rows, []any{&shut.book, &shut.day}, func() error {
		if b.shut == nil {
			b.shut = map[bookDay]bool{}
		}
		b.shut[shut] = true
		return nil
	})
	if err != nil {
		return fmt.Errorf("read days: %w", err)
	}
	return nil
}

// floorRow is a row of floors, locked by this batch.
type floorRow struct {
	floor, outgo, seen Money
	spent              Money // by this batch
	fresh              bool  // seen is all the income there is
}

// LockFloors locks the floors of those accounts that have one, in one round trip
// and in the order that all writers keep. Post locks what it needs by itself;
// a verb calls this first where it knows the accounts of many commands, or wants
// to ask Available.
func (b *Batch) LockFloors(ctx context.Context, accounts ...AccountID) error {
	var missing []AccountID
	for _, account := range accounts {
		if _, locked := b.floors[account]; !locked && b.c.accounts[account].checked {
			missing = append(missing, account)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	rows, err := b.tx.Query(ctx, `
		SELECT account, floor, outgo, income_seen FROM floors
		WHERE account = ANY($1::int8[]) ORDER BY account FOR UPDATE`, missing)
	if err != nil {
		return fmt.Errorf("lock floors: %w", err)
	}
	var account AccountID
	var row floorRow
	_, err = pgx.ForEachRow(rows, []any{&account, &row.floor, &row.outgo, &row.seen}, func() error {
		locked := row
		b.floors[account] = &locked
		return nil
	})
	if err != nil {
		return fmt.Errorf("lock floors: %w", err)
	}
	return nil
}

// Available is the amount by which the account may still fall, under the lock of
// its floor, with what this batch has posted. The account must have a floor.
func (b *Batch) Available(account AccountID) Money {
	err := b.LockFloors(b.ctx, account)
	if err == nil && b.floors[account] == nil {
		err = fmt.Errorf("ledger: Available of %v, which has no floor or is not open", account)
	}
	if err == nil {
		err = b.readIncome(account)
	}
	if err != nil {
		b.Fail(err)
		return 0
	}
	return b.left(account)
}

// left is what may leave by the income that was seen.
func (b *Batch) left(account AccountID) Money {
	row := b.floors[account]
	return row.seen + b.income[account] - row.outgo - row.spent - row.floor
}

// readIncome brings the income seen up to date, of all floors that are locked:
// what comes in waits for no lock, so it may be more than the row says.
func (b *Batch) readIncome(account AccountID) error {
	if b.floors[account].fresh {
		return nil
	}
	var stale []AccountID
	for id, row := range b.floors {
		if !row.fresh {
			stale = append(stale, id)
		}
	}
	rows, err := b.tx.Query(b.ctx, `
		SELECT account, sum(debits)::int8, sum(credits)::int8 FROM turnover
		WHERE account = ANY($1::int8[]) GROUP BY account`, stale)
	if err != nil {
		return fmt.Errorf("read income: %w", err)
	}
	var id AccountID
	var debits, credits Money
	_, err = pgx.ForEachRow(rows, []any{&id, &debits, &credits}, func() error {
		b.floors[id].seen = credits
		if b.c.accounts[id].side == Debit {
			b.floors[id].seen = debits
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read income: %w", err)
	}
	for _, id := range stale {
		b.floors[id].fresh = true
	}
	return nil
}

// flow is what entries move on one checked account.
type flow struct {
	account   AccountID
	in, outgo Money
}

// allow checks the floors of what the entries take out, all entries together, and
// notes it. Most entries touch no checked account.
func (b *Batch) allow(e Entry, linked []Entry) error {
	flows, err := b.flows(e, linked)
	if err != nil || len(flows) == 0 {
		return err
	}
	var leaving []AccountID
	for _, f := range flows {
		if f.outgo > 0 {
			leaving = append(leaving, f.account)
		}
	}
	if err := b.LockFloors(b.ctx, leaving...); err != nil {
		b.Fail(err)
		return err
	}
	for _, f := range flows {
		if f.outgo == 0 {
			continue
		}
		row := b.floors[f.account]
		if row == nil {
			b.Fail(fmt.Errorf("ledger: %v is checked and has no row in floors", f.account))
			return b.err
		}
		if b.left(f.account)+f.in >= f.outgo {
			continue
		}
		if err := b.readIncome(f.account); err != nil {
			b.Fail(err)
			return err
		}
		if left := b.left(f.account) + f.in; left < f.outgo {
			return ErrFloor.Because("amount", "%s has %v available, %v was asked", b.c.accounts[f.account].code, left, f.outgo)
		}
	}
	for _, f := range flows {
		b.income[f.account] += f.in
		if f.outgo > 0 {
			b.floors[f.account].spent += f.outgo
		}
	}
	return nil
}

// flows sums what the entries move by checked account.
func (b *Batch) flows(e Entry, linked []Entry) ([]flow, error) {
	var flows []flow
	add := func(account AccountID, side Side, amount Money) error {
		row := b.c.accounts[account]
		if !row.checked {
			return nil
		}
		at := slices.IndexFunc(flows, func(f flow) bool { return f.account == account })
		if at < 0 {
			at, flows = len(flows), append(flows, flow{account: account})
		}
		sum := &flows[at].outgo
		if side == row.side {
			sum = &flows[at].in
		}
		total, err := sum.Add(amount)
		*sum = total
		return err
	}
	for n := -1; n < len(linked); n++ {
		if n >= 0 {
			e = linked[n]
		}
		for _, p := range e.postings {
			if err := errors.Join(add(p.Debit.Account, Debit, p.Amount), add(p.Credit.Account, Credit, p.Amount)); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(flows, func(a, b flow) int { return cmp.Compare(a.account, b.account) })
	return flows, nil
}
