package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/clearward/clearward/ledger/db"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// begin starts the transaction and reads, in the same round trip, the days that
// are shut.
func (c *Committer) begin(ctx context.Context) (*Batch, error) {
	if lostLink(c.link) {
		var err error
		if c.link, err = c.connect(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.db.Use(ctx, c.link); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	b := &Batch{c: c, ctx: ctx, hold: *c.lane.Load(), at: c.opts.Now(), shutFrom: c.daysFrom,
		turnover: map[turnoverKey]*sums{}, income: map[AccountID]Money{}, floors: map[AccountID]*floorRow{}}
	var first pgx.Batch
	first.BeginTx(pgx.TxOptions{IsoLevel: pgx.Serializable})
	first.Queue(selectShutDays, c.daysFrom).Query(b.readShutDays)
	results := c.link.SendBatch(ctx, &first)
	b.tx = results.Tx()
	if err := results.Close(); err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return b, nil
}

// ErrStale says that a statement of a verb changed another number of rows than
// the verb knew it would.
var ErrStale = errors.New("rows changed")

// write sends everything that was decided, and COMMIT, in one round trip. Only
// where rows are to be counted does COMMIT wait for the count.
func (b *Batch) write(ctx context.Context, link *pgx.Conn, items []*item, outcomes []Outcome) error {
	if b.asked != 0 {
		b.c.daysFrom = b.asked
	}
	id := randomID()
	var last pgx.Batch
	kept := keptAnswers(items, outcomes)
	written := b.size > 0 || len(kept) > 0 || len(b.later) > 0
	if written {
		last.Queue(insertBatch, batchRow(b.hold.lane, b.hold.seq+1, b.hold.epoch, id, b.content, b.at)...)
		b.queueRequests(&last, kept, items, outcomes)
		b.queueEntries(&last)
		b.queuePostings(&last)
		b.queueEvents(&last)
		b.queueTurnover(&last)
		b.queueFloors(&last)
	}
	counted := slices.ContainsFunc(b.later, func(s statement) bool { return s.want != anyRows })
	b.queueOwn(&last)
	if counted {
		if err := link.SendBatch(ctx, &last).Close(); err != nil {
			return err
		}
		last = pgx.Batch{}
	}
	last.Queue(`COMMIT`)
	if err := link.SendBatch(ctx, &last).Close(); err != nil {
		return b.commitError(err, written, id)
	}
	if written {
		b.c.Batches.Add(1)
		b.c.advance()
	}
	return nil
}

// commitError tells a refusal of the database, after which nothing stands, from
// silence.
func (b *Batch) commitError(err error, written bool, id [16]byte) error {
	var pg *pgconn.PgError
	switch {
	case !written, errors.Is(err, ErrStale), pgconn.SafeToRetry(err):
		return err
	case errors.As(err, &pg) && !leavesDoubt(pg.Code):
		return err
	case !errors.As(err, &pg) && !b.c.link.IsClosed():
		return err // an argument that cannot be sent
	}
	return &doubtError{db.AmbiguousError{Err: err}, id}
}

// leavesDoubt: lost connections (class 08), interventions of an operator (class
// 57) and CockroachDB's own "result is ambiguous".
func leavesDoubt(code string) bool {
	return code == "40003" || strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57")
}

// keptAnswers are the places of the outcomes to be kept: those of requests,
// except the refusals of an internal one, which may succeed another time.
func keptAnswers(items []*item, outcomes []Outcome) []int {
	var kept []int
	for i, it := range items {
		if !it.req.zero() && (outcomes[i].Err == nil || !it.req.Internal) {
			kept = append(kept, i)
		}
	}
	return kept
}

func (b *Batch) queueRequests(last *pgx.Batch, kept []int, items []*item, outcomes []Outcome) {
	if len(kept) == 0 {
		return
	}
	n := len(kept)
	scopes, keys, codes, bodies := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	forms, hashes, ords := make([]int16, n), make([][]byte, n), make([]*int16, n)
	lanes, seqs := make([]int16, n), make([]int64, n)
	for i, at := range kept {
		req, out := &items[at].req, outcomes[at]
		scopes[i], keys[i], forms[i], hashes[i] = req.Scope, req.Key, req.Form, items[at].hash
		codes[i], bodies[i] = freeze(out)
		lanes[i], seqs[i] = b.hold.lane, b.hold.seq+1
		if out.Entry != (EntryID{}) {
			lanes[i], seqs[i], ords[i] = out.Entry.Lane, out.Entry.Seq, &out.Entry.Ord
		}
	}
	last.Queue(`
		INSERT INTO requests (scope, key, form, hash, outcome, body, lane, seq, ord)
		SELECT scope, key, form, hash, outcome, body, lane, seq, ord
		FROM unnest($1::text[], $2::text[], $3::int2[], $4::bytea[], $5::text[], $6::text[], $7::int2[], $8::int8[], $9::int2[])
		AS given(scope, key, form, hash, outcome, body, lane, seq, ord)`,
		scopes, keys, forms, hashes, codes, bodies, lanes, seqs, ords)
}

func (b *Batch) queueEntries(last *pgx.Batch) {
	n := len(b.entries)
	if n == 0 {
		return
	}
	ords, books, days, valueDays := make([]int16, n), make([]int16, n), make([]int32, n), make([]int32, n)
	kinds, refs, makers, checkers := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	cases, metas := make([]string, n), make([]string, n)
	revLanes, revSeqs, revOrds := make([]*int16, n), make([]*int64, n), make([]*int16, n)
	for i := range b.entries {
		e := &b.entries[i]
		ords[i], books[i], days[i], valueDays[i] = e.id.Ord, int16(e.head.Book), int32(e.day), int32(e.head.ValueDay)
		kinds[i], refs[i], makers[i], checkers[i] = e.head.Kind, e.head.Ref, e.head.Maker, e.head.Checker
		cases[i], metas[i] = e.head.CaseID, e.head.Meta
		if e.reverses != (EntryID{}) {
			revLanes[i], revSeqs[i], revOrds[i] = &e.reverses.Lane, &e.reverses.Seq, &e.reverses.Ord
		}
	}
	last.Queue(`
		INSERT INTO entries (lane, seq, ord, book, kind, ref, day, value_day, maker, checker, case_id, meta, rev_lane, rev_seq, rev_ord)
		SELECT $1, $2, ord, book, kind, ref, day, value_day, maker, checker, case_id, meta, rev_lane, rev_seq, rev_ord
		FROM unnest($3::int2[], $4::int2[], $5::text[], $6::text[], $7::int4[], $8::int4[], $9::text[], $10::text[], $11::text[], $12::text[], $13::int2[], $14::int8[], $15::int2[])
		AS given(ord, book, kind, ref, day, value_day, maker, checker, case_id, meta, rev_lane, rev_seq, rev_ord)`,
		b.hold.lane, b.hold.seq+1, ords, books, kinds, refs, days, valueDays, makers, checkers, cases, metas, revLanes, revSeqs, revOrds)
}

func (b *Batch) queuePostings(last *pgx.Batch) {
	n := 0
	for i := range b.entries {
		n += len(b.entries[i].postings)
	}
	if n == 0 {
		return
	}
	ords, ns, days := make([]int16, 0, n), make([]int16, 0, n), make([]int32, 0, n)
	debits, credits, amounts := make([]int64, 0, n), make([]int64, 0, n), make([]int64, 0, n)
	debitRefs, creditRefs := make([]string, 0, n), make([]string, 0, n)
	for i := range b.entries {
		e := &b.entries[i]
		for k, p := range e.postings {
			ords, ns, days = append(ords, e.id.Ord), append(ns, int16(k)), append(days, int32(e.day))
			debits, debitRefs = append(debits, int64(p.Debit.Account)), append(debitRefs, p.Debit.Ref)
			credits, creditRefs = append(credits, int64(p.Credit.Account)), append(creditRefs, p.Credit.Ref)
			amounts = append(amounts, int64(p.Amount))
		}
	}
	last.Queue(`
		INSERT INTO postings (lane, seq, ord, n, day, debit, credit, amount, debit_ref, credit_ref)
		SELECT $1, $2, ord, n, day, debit, credit, amount, debit_ref, credit_ref
		FROM unnest($3::int2[], $4::int2[], $5::int4[], $6::int8[], $7::int8[], $8::int8[], $9::text[], $10::text[])
		AS given(ord, n, day, debit, credit, amount, debit_ref, credit_ref)`,
		b.hold.lane, b.hold.seq+1, ords, ns, days, debits, credits, amounts, debitRefs, creditRefs)
}

func (b *Batch) queueEvents(last *pgx.Batch) {
	n := len(b.events)
	if n == 0 {
		return
	}
	ords, kinds, canons := make([]int16, n), make([]string, n), make([][]byte, n)
	for i, e := range b.events {
		ords[i], kinds[i], canons[i] = e.ID.Ord, e.Kind, e.Canon
	}
	last.Queue(`
		INSERT INTO events (lane, seq, ord, kind, canon)
		SELECT $1, $2, ord, kind, canon
		FROM unnest($3::int2[], $4::text[], $5::bytea[]) AS given(ord, kind, canon)`,
		b.hold.lane, b.hold.seq+1, ords, kinds, canons)
}

// queueTurnover adds to the lane's own rows, sorted, so that no other lane waits.
func (b *Batch) queueTurnover(last *pgx.Batch) {
	n := len(b.turnover)
	if n == 0 {
		return
	}
	keys := make([]turnoverKey, 0, n)
	for key := range b.turnover {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b turnoverKey) int {
		return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.day, b.day), cmp.Compare(a.valueDay, b.valueDay))
	})
	accounts, days, valueDays := make([]int64, n), make([]int32, n), make([]int32, n)
	debits, credits, redDebits, redCredits := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, key := range keys {
		sum := b.turnover[key]
		accounts[i], days[i], valueDays[i] = int64(key.account), int32(key.day), int32(key.valueDay)
		debits[i], credits[i] = int64(sum.debits), int64(sum.credits)
		redDebits[i], redCredits[i] = int64(sum.redDebits), int64(sum.redCredits)
	}
	last.Queue(`
		INSERT INTO turnover (account, day, value_day, lane, debits, credits, red_debits, red_credits)
		SELECT account, day, value_day, $1, debits, credits, red_debits, red_credits
		FROM unnest($2::int8[], $3::int4[], $4::int4[], $5::int8[], $6::int8[], $7::int8[], $8::int8[])
		AS given(account, day, value_day, debits, credits, red_debits, red_credits)
		ON CONFLICT (account, day, value_day, lane) DO UPDATE SET
			debits = turnover.debits + excluded.debits, credits = turnover.credits + excluded.credits,
			red_debits = turnover.red_debits + excluded.red_debits, red_credits = turnover.red_credits + excluded.red_credits`,
		b.hold.lane, accounts, days, valueDays, debits, credits, redDebits, redCredits)
}

// queueFloors writes what this batch took out. The income seen may count what
// this batch brought in, since both stand or fall together.
func (b *Batch) queueFloors(last *pgx.Batch) {
	var accounts, outgo, seen []int64
	for account, row := range b.floors {
		if row.spent > 0 {
			accounts, outgo = append(accounts, int64(account)), append(outgo, int64(row.outgo+row.spent))
			seen = append(seen, int64(row.seen+b.income[account]))
		}
	}
	if len(accounts) == 0 {
		return
	}
	last.Queue(`
		UPDATE floors SET outgo = given.outgo, income_seen = given.seen
		FROM unnest($1::int8[], $2::int8[], $3::int8[]) AS given(account, outgo, seen)
		WHERE floors.account = given.account`, accounts, outgo, seen)
}

func (b *Batch) queueOwn(last *pgx.Batch) {
	for _, s := range b.later {
		queued := last.Queue(s.sql, s.args...)
		if s.want != anyRows {
			queued.Exec(func(tag pgconn.CommandTag) error {
				if tag.RowsAffected() != s.want {
					return fmt.Errorf("%w: %d, not %d, by %s", ErrStale, tag.RowsAffected(), s.want, strings.Join(strings.Fields(s.sql), " "))
				}
				return nil
			})
		}
	}
}

// leafSize is the bytes by which a batch knows each of its entries and events.
const leafSize = 16

func leaf(canonical []byte) []byte {
	sum := sha256.Sum256(canonical)
	return sum[:leafSize]
}

// canonical appends every field of the entry to buf; texts carry their length, so
// that no two entries read alike.
func (p *posted) canonical(buf []byte) []byte {
	h := &p.head
	buf = append(buf, 'E', 1) // an entry, form 1
	buf = appendID(buf, p.id)
	buf = appendNumbers(buf, int64(h.Book), int64(p.day), int64(h.ValueDay))
	buf = appendTexts(buf, h.Kind, h.Ref, h.Maker, h.Checker, h.CaseID, h.Meta)
	buf = appendID(buf, p.reverses)
	for _, q := range p.postings {
		buf = appendNumbers(buf, int64(q.Debit.Account), int64(q.Credit.Account), int64(q.Amount))
		buf = appendTexts(buf, q.Debit.Ref, q.Credit.Ref)
	}
	return buf
}

func (e *Event) canonical(buf []byte) []byte {
	buf = append(buf, 'F', 1) // a fact, form 1
	buf = appendID(buf, e.ID)
	return append(appendTexts(buf, e.Kind), e.Canon...)
}

func appendID(buf []byte, id EntryID) []byte {
	return appendNumbers(buf, int64(id.Lane), id.Seq, int64(id.Ord))
}

func appendNumbers(buf []byte, numbers ...int64) []byte {
	for _, n := range numbers {
		buf = binary.BigEndian.AppendUint64(buf, uint64(n))
	}
	return buf
}

func appendTexts(buf []byte, texts ...string) []byte {
	for _, text := range texts {
		buf = append(binary.BigEndian.AppendUint32(buf, uint32(len(text))), text...)
	}
	return buf
}
