package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNotFound says that what was asked for by its number is not in the books.
var ErrNotFound = errors.New("not in the books")

// AsOf names a state of the books. The zero AsOf is all that is posted.
type AsOf struct {
	ValueDay Day // events up to this business day, every day when zero
	Known    Day // as far as booked up to the end of this day, every day when zero
	// Position limits the day Known, which must then be set, to the batches up to
	// this one of each lane; lanes that it does not name count nothing on that day.
	Position map[int16]int64
}

// bounds are the arguments of a query: the last value day, the last booking day
// that counts whole, and the lanes and batches of the day after it, as arrays.
func (at AsOf) bounds() (valueDay, known Day, lanes []int16, seqs []int64) {
	const forever = Day(99991231)
	valueDay, known = at.ValueDay, at.Known
	if valueDay == 0 {
		valueDay = forever
	}
	if known == 0 {
		known = forever
	}
	if at.Position != nil {
		known--
	}
	for lane, seq := range at.Position {
		lanes, seqs = append(lanes, lane), append(seqs, seq)
	}
	return valueDay, known, lanes, seqs
}

// AccountBalance is an account with its sums. A reversing entry counts as a
// negative amount on the side that it takes back (红字), not as turnover of the
// other side.
type AccountBalance struct {
	ID              AccountID
	Code            string
	Side            Side // the normal side
	Debits, Credits Money
}

// Balance is on the normal side: below zero the account stands on the other.
func (b AccountBalance) Balance() Money {
	if b.Side == Debit {
		return b.Debits - b.Credits
	}
	return b.Credits - b.Debits
}

// BalanceAt returns the balance of an open account.
func BalanceAt(ctx context.Context, tx pgx.Tx, account AccountID, at AsOf) (AccountBalance, error) {
	balances, err := balances(ctx, tx, at, `a.id = $3`, int64(account))
	if err != nil {
		return AccountBalance{}, err
	}
	if len(balances) == 0 {
		return AccountBalance{}, fmt.Errorf("%w: %v", ErrNotFound, account)
	}
	return balances[0], nil
}

// TrialBalance returns every account of the book by code, also those at zero.
func TrialBalance(ctx context.Context, tx pgx.Tx, book Book, at AsOf) ([]AccountBalance, error) {
	return BalancesByCode(ctx, tx, book, "", at)
}

// BalancesByCode returns the accounts of the book whose codes begin with prefix,
// by code: "1122.WX." is what every WeChat merchant number owes.
func BalancesByCode(ctx context.Context, tx pgx.Tx, book Book, prefix string, at AsOf) ([]AccountBalance, error) {
	return balances(ctx, tx, at, `a.book = $3 AND left(a.code, $4) = $5`, int16(book), len([]rune(prefix)), prefix)
}

// balances sums the turnover of the accounts that where selects; its arguments
// start at $3.
func balances(ctx context.Context, tx pgx.Tx, at AsOf, where string, args ...any) ([]AccountBalance, error) {
	if at.Position != nil && at.Known == 0 {
		return nil, errors.New("ledger: a position is inside the day Known, which is not set")
	}
	valueDay, known, lanes, seqs := at.bounds()
	rows, err := tx.Query(ctx, `
		SELECT a.id, a.code, a.side,
		       coalesce(sum(t.debits - t.red_debits - t.red_credits), 0)::int8,
		       coalesce(sum(t.credits - t.red_credits - t.red_debits), 0)::int8
		FROM accounts AS a
		LEFT JOIN turnover AS t ON t.account = a.id AND t.value_day <= $1 AND t.day <= $2
		WHERE `+where+`
		GROUP BY a.id, a.code, a.side
		ORDER BY a.code`, append([]any{valueDay, known}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("read balances: %w", err)
	}
	balances, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (AccountBalance, error) {
		var b AccountBalance
		var side int16
		err := row.Scan(&b.ID, &b.Code, &side, &b.Debits, &b.Credits)
		b.Side = Side(side)
		return b, err
	})
	if err != nil {
		return nil, fmt.Errorf("read balances: %w", err)
	}
	if at.Position == nil {
		return balances, nil
	}
	for i := range balances {
		if err := balances[i].addLines(ctx, tx, at.Known, valueDay, lanes, seqs); err != nil {
			return nil, err
		}
	}
	return balances, nil
}

// addLines adds what was booked on one day up to a position.
func (b *AccountBalance) addLines(ctx context.Context, tx pgx.Tx, day, valueDay Day, lanes []int16, seqs []int64) error {
	var debits, credits Money
	err := tx.QueryRow(ctx, `
		SELECT coalesce(sum(CASE WHEN l.side = 1 THEN CASE WHEN e.rev_seq IS NULL THEN l.amount ELSE 0 END
		                         ELSE CASE WHEN e.rev_seq IS NULL THEN 0 ELSE -l.amount END END), 0)::int8,
		       coalesce(sum(CASE WHEN l.side = 2 THEN CASE WHEN e.rev_seq IS NULL THEN l.amount ELSE 0 END
		                         ELSE CASE WHEN e.rev_seq IS NULL THEN 0 ELSE -l.amount END END), 0)::int8
		FROM ledger_lines AS l
		JOIN entries AS e ON e.lane = l.lane AND e.seq = l.seq AND e.ord = l.ord
		JOIN unnest($4::int2[], $5::int8[]) AS upto(lane, seq) ON l.lane = upto.lane AND l.seq <= upto.seq
		WHERE l.day = $1 AND l.account = $2 AND e.value_day <= $3`, day, b.ID, valueDay, lanes, seqs).Scan(&debits, &credits)
	if err != nil {
		return fmt.Errorf("read lines of %s: %w", b.Code, err)
	}
	b.Debits += debits
	b.Credits += credits
	return nil
}

// Line is one line of an account's statement: an entry's amount on one side of
// the account under one reference.
type Line struct {
	Entry    EntryID
	Day      Day // on which it was booked
	ValueDay Day // on which it counts
	At       time.Time
	Kind     string // of the entry
	EntryRef string // what the entry is about
	Ref      string // the open item of this account that the amount belongs to
	CaseID   string
	Side     Side
	Amount   Money // below zero for a reversing entry, on the side it takes back
	Balance  Money // of the account after this line, on its normal side
}

// Statement gives emit the lines that were booked on the account from one day to
// another, both included, in the order of the journal within each day. It returns
// the balance before them.
func Statement(ctx context.Context, tx pgx.Tx, account AccountID, from, to Day, emit func(Line) error) (opening AccountBalance, err error) {
	if opening, err = BalanceAt(ctx, tx, account, AsOf{Known: from.Add(-1)}); err != nil {
		return opening, err
	}
	rows, err := tx.Query(ctx, `
		SELECT l.lane, l.seq, l.ord, l.day, e.value_day, b.at, e.kind, e.ref, l.ref, e.case_id, l.side,
		       CASE WHEN e.rev_seq IS NULL THEN l.amount ELSE -l.amount END
		FROM ledger_lines AS l
		JOIN entries AS e ON e.lane = l.lane AND e.seq = l.seq AND e.ord = l.ord
		JOIN batches AS b ON b.lane = l.lane AND b.seq = l.seq
		WHERE l.account = $1 AND l.day IN (SELECT day FROM turnover WHERE account = $1 AND day BETWEEN $2 AND $3)
		ORDER BY l.day, l.lane, l.seq, l.ord, l.side, l.ref`, account, from, to)
	if err != nil {
		return opening, fmt.Errorf("read statement: %w", err)
	}
	var l Line
	var side int16
	balance := opening.Balance()
	columns := []any{&l.Entry.Lane, &l.Entry.Seq, &l.Entry.Ord, &l.Day, &l.ValueDay, &l.At, &l.Kind, &l.EntryRef, &l.Ref, &l.CaseID, &side, &l.Amount}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		l.Side = Side(side)
		if l.Amount < 0 {
			l.Side = Debit + Credit - l.Side
		}
		if l.Side == opening.Side {
			balance += l.Amount
		} else {
			balance -= l.Amount
		}
		l.Balance = balance
		return emit(l)
	})
	if err != nil {
		return opening, fmt.Errorf("read statement: %w", err)
	}
	return opening, nil
}

// OpenItem is what stands open on an account under one reference.
type OpenItem struct {
	Account         AccountID
	Code            string
	Side            Side // the account's normal side
	Ref             string
	Debits, Credits Money
}

// Amount is what is open, on the normal side of the account.
func (o OpenItem) Amount() Money {
	return AccountBalance{Side: o.Side, Debits: o.Debits, Credits: o.Credits}.Balance()
}

// OpenItems returns what is not zero on the account, by reference; with refs only
// those references, also where they have come to zero.
func OpenItems(ctx context.Context, tx pgx.Tx, account AccountID, refs ...string) ([]OpenItem, error) {
	return openItems(ctx, tx, `a.id = $2`, refs, int64(account))
}

// OpenItemsByCode is OpenItems of all accounts of the book whose codes begin
// with prefix.
func OpenItemsByCode(ctx context.Context, tx pgx.Tx, book Book, prefix string, refs ...string) ([]OpenItem, error) {
	return openItems(ctx, tx, `a.book = $2 AND left(a.code, $3) = $4`, refs, int16(book), len([]rune(prefix)), prefix)
}

// openItems sums the postings of the accounts that where selects, whose arguments
// start at $2. The turnover tells on which days there are any.
func openItems(ctx context.Context, tx pgx.Tx, where string, refs []string, args ...any) ([]OpenItem, error) {
	if len(refs) == 0 {
		refs = nil // an empty array is not NULL
	}
	rows, err := tx.Query(ctx, `
		WITH touched AS (
			SELECT DISTINCT a.id, a.code, a.side, t.day
			FROM accounts AS a JOIN turnover AS t ON t.account = a.id
			WHERE `+where+`
		), lines AS (
			SELECT t.id, t.code, t.side, p.debit_ref AS ref, p.amount AS debit, 0::int8 AS credit
			FROM touched AS t JOIN postings AS p ON p.day = t.day AND p.debit = t.id
			UNION ALL
			SELECT t.id, t.code, t.side, p.credit_ref, 0::int8, p.amount
			FROM touched AS t JOIN postings AS p ON p.day = t.day AND p.credit = t.id
		)
		SELECT id, code, side, ref, sum(debit)::int8, sum(credit)::int8
		FROM lines
		WHERE $1::text[] IS NULL OR ref = ANY($1::text[])
		GROUP BY id, code, side, ref
		HAVING $1::text[] IS NOT NULL OR sum(debit) <> sum(credit)
		ORDER BY code, ref`, append([]any{refs}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("read open items: %w", err)
	}
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (OpenItem, error) {
		var o OpenItem
		var side int16
		err := row.Scan(&o.Account, &o.Code, &side, &o.Ref, &o.Debits, &o.Credits)
		o.Side = Side(side)
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("read open items: %w", err)
	}
	return items, nil
}

// EntryAt returns the entry at this place in the journal and the day on which it
// was booked.
func EntryAt(ctx context.Context, tx pgx.Tx, id EntryID) (Entry, Day, error) {
	entries, _, err := readEntries(ctx, tx, id.Lane, id.Seq, id.Seq)
	if err != nil {
		return Entry{}, 0, err
	}
	for _, p := range entries {
		if p.id == id {
			return p.Entry, p.day, nil
		}
	}
	return Entry{}, 0, fmt.Errorf("%w: entry %v", ErrNotFound, id)
}

// readEntries returns the entries of a lane's batches from first to last, with
// their postings, in the order of the journal, and how many postings there belong to
// none of them.
func readEntries(ctx context.Context, tx pgx.Tx, lane int16, first, last int64) (entries []posted, orphans int, err error) {
	rows, err := tx.Query(ctx, `
		SELECT lane, seq, ord, book, kind, ref, day, value_day, maker, checker, case_id, meta,
		       coalesce(rev_lane, 0), coalesce(rev_seq, 0), coalesce(rev_ord, 0)
		FROM entries WHERE lane = $1 AND seq BETWEEN $2 AND $3 ORDER BY lane, seq, ord`, lane, first, last)
	if err != nil {
		return nil, 0, fmt.Errorf("read entries: %w", err)
	}
	entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (posted, error) {
		var p posted
		h := &p.head
		err := row.Scan(&p.id.Lane, &p.id.Seq, &p.id.Ord, &h.Book, &h.Kind, &h.Ref, &p.day, &h.ValueDay, &h.Maker, &h.Checker, &h.CaseID, &h.Meta,
			&p.reverses.Lane, &p.reverses.Seq, &p.reverses.Ord)
		return p, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read entries: %w", err)
	}
	orphans, err = readPostings(ctx, tx, lane, first, last, entries)
	return entries, orphans, err
}

// readPostings gives the entries, which are in the order of the journal, their
// postings, and counts those that have no entry, or another day than theirs.
func readPostings(ctx context.Context, tx pgx.Tx, lane int16, first, last int64, entries []posted) (orphans int, err error) {
	rows, err := tx.Query(ctx, `
		SELECT seq, ord, day, debit, debit_ref, credit, credit_ref, amount
		FROM postings WHERE lane = $1 AND seq BETWEEN $2 AND $3 ORDER BY lane, seq, ord, n`, lane, first, last)
	if err != nil {
		return 0, fmt.Errorf("read postings: %w", err)
	}
	var seq int64
	var ord int16
	var day Day
	var p Posting
	at := 0
	columns := []any{&seq, &ord, &day, &p.Debit.Account, &p.Debit.Ref, &p.Credit.Account, &p.Credit.Ref, &p.Amount}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		for at < len(entries) && (entries[at].id.Seq < seq || entries[at].id.Seq == seq && entries[at].id.Ord < ord) {
			at++
		}
		found := at < len(entries) && entries[at].id.Seq == seq && entries[at].id.Ord == ord
		if found {
			entries[at].postings = append(entries[at].postings, p)
		}
		if !found || entries[at].day != day {
			orphans++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read postings: %w", err)
	}
	return orphans, nil
}
