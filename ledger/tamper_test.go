package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// appendOnly are the tables that nobody changes.
var appendOnly = []string{"batches", "entries", "postings", "events", "requests"}

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func TestTheJournalIsAppendOnly(t *testing.T) {
	d, c := newBooks(t, bank, owed, avail)
	submit(t, c, Request{Scope: "s", Key: "k"}, payment(t, "a"))
	submit(t, c, Request{}, entry(t, "J31", "b", 20260915, avail.For(""), owed.For(""), 1)) // refused, an event
	for _, table := range appendOnly {
		for _, sql := range []string{`UPDATE ` + table + ` SET lane = lane`, `DELETE FROM ` + table, `TRUNCATE ` + table + ` CASCADE`} {
			if _, err := d.Pool.Exec(t.Context(), sql); sqlState(err) != "42501" {
				t.Errorf("%s by the application: %v", sql, err)
			}
		}
		for _, sql := range []string{`UPDATE ` + table + ` SET lane = lane`, `DELETE FROM ` + table} {
			if err := asOwner(t, d, sql); sqlState(err) != "42501" || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("%s by the owner: %v", sql, err)
			}
		}
	}
	for _, sql := range []string{`DELETE FROM turnover`, `DELETE FROM floors`, `UPDATE accounts SET code = ''`, `DELETE FROM lanes`} {
		if _, err := d.Pool.Exec(t.Context(), sql); sqlState(err) != "42501" {
			t.Errorf("%s by the application: %v", sql, err)
		}
	}
	sound(t, d)
}

// TestVerifyNamesWhatWasTamperedWith lets an owner who has dropped the triggers
// change the books behind the ledger's back.
func TestVerifyNamesWhatWasTamperedWith(t *testing.T) {
	cases := []struct {
		sql  string
		want []string // findings that must be among those
	}{
		{`UPDATE postings SET amount = amount + 1 WHERE lane = 0 AND seq = 2`, []string{
			"content of a batch: entry 0/2/0: it is not what was written",
			"turnover is the sum of the postings: 1002.H1: day 2026-09-15, value day 2026-09-15, lane 0: the postings are 0.01 debit"}},
		{`UPDATE postings SET debit_ref = 'else' WHERE lane = 0 AND seq = 2`, []string{"content of a batch: entry 0/2/0"}},
		{`UPDATE entries SET ref = 'else' WHERE seq = 2`, []string{"content of a batch: entry 0/2/0"}},
		{`UPDATE events SET canon = 'else'`, []string{"content of a batch: event 0/3/0"}},
		{`UPDATE postings SET credit = credit + 1 WHERE seq = 2`, []string{"accounts are open: 0/2/0: account"}},
		{`DELETE FROM postings WHERE seq = 2`, []string{"entries have postings: 0/2/0", "turnover is the sum of the postings: 2205.H1"}},
		{`DELETE FROM entries WHERE seq = 2`, []string{"postings belong to entries", "content of a batch: batch 0/2: 1 entries and events were written, 0 are there", "answers point at entries: s k"}},
		{`INSERT INTO entries (lane, seq, ord, book, kind, ref, day, value_day, maker, checker, case_id, meta) VALUES (0, 99, 0, 1, 'J', '', 20260915, 20260915, '', '', '', '')`,
			[]string{"content of a batch: batch 0/99"}},
		{`UPDATE turnover SET debits = debits + 5 WHERE debits > 0`, []string{"each set balances: book 1, set 2: debits are 0.05 more", "turnover is the sum of the postings: 1002.H1"}},
		{`UPDATE floors SET outgo = outgo - 1`, []string{"floors are the sum of the postings: 2202.H1.AVAIL: the row says that -0.01 left"}},
		{`UPDATE floors SET income_seen = 7`, []string{"floors are the sum of the postings: 2202.H1.AVAIL: the row has seen 0.07 come in"}},
		{`UPDATE requests SET seq = 98`, []string{"answers point at entries: s k"}},
		{`UPDATE batches SET epoch = 9 WHERE seq = 2`, []string{"one writer at a time: batch 0/3"}},
	}
	for _, test := range cases {
		t.Run(test.sql[:min(50, len(test.sql))], func(t *testing.T) {
			d, c := newBooks(t, bank, owed, avail)
			submit(t, c, Request{Scope: "s", Key: "k"}, payment(t, "a"))
			submit(t, c, Request{}, entry(t, "J31", "b", 20260915, avail.For(""), owed.For(""), 1))
			sound(t, d)
			for _, table := range appendOnly {
				if err := asOwner(t, d, `DROP TRIGGER `+table+`_append_only ON `+table); err != nil {
					t.Fatal(err)
				}
			}
			if err := asOwner(t, d, test.sql); err != nil {
				t.Fatal(err)
			}
			findings, err := Verify(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			all := fmt.Sprint(findings)
			for _, want := range test.want {
				if !strings.Contains(all, want) {
					t.Errorf("not found: %s\namong %s", want, all)
				}
			}
		})
	}
}

func TestAGapInALaneIsFound(t *testing.T) {
	d, c := newBooks(t, bank, owed)
	for _, ref := range []string{"a", "b", "c"} {
		submit(t, c, Request{}, payment(t, ref))
	}
	for _, sql := range []string{
		`DROP TRIGGER batches_append_only ON batches`, `ALTER TABLE batches DROP CONSTRAINT batches_prev`,
		`DELETE FROM batches WHERE seq = 3`,
	} {
		if err := asOwner(t, d, sql); err != nil {
			t.Fatal(err)
		}
	}
	findings, err := Verify(t.Context(), d)
	if all := fmt.Sprint(findings); err != nil || !strings.Contains(all, "lane without gaps: batch 0/4: batch 3 should stand here") ||
		!strings.Contains(all, "batch 0/3: there are entries or events of a batch that is not there") {
		t.Errorf("findings %s, %v", all, err)
	}
}

// TestTheProofOfWhatIsNewBeginsWhereTheLastOneEnded: it finds what is wrong after
// it, again and again, leaves what was proven to the whole proof, and misses what
// was proven and is gone.
func TestTheProofOfWhatIsNewBeginsWhereTheLastOneEnded(t *testing.T) {
	d, c := newBooks(t, bank, owed)
	proof := func(verify func(context.Context, *db.DB, ...Control) ([]Finding, error)) string {
		t.Helper()
		findings, err := verify(t.Context(), d, Control{Name: "of everything", Whole: true, Check: func(context.Context, pgx.Tx) ([]Finding, error) {
			return []Finding{{Subject: "all", Detail: "read"}}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(findings)
	}
	change := func(list ...string) {
		t.Helper()
		for _, sql := range list {
			if err := asOwner(t, d, sql); err != nil {
				t.Fatal(err)
			}
		}
	}
	change(`DROP TRIGGER batches_append_only ON batches`, `DROP TRIGGER entries_append_only ON entries`, `DROP TRIGGER postings_append_only ON postings`)
	submit(t, c, Request{}, payment(t, "a"))
	submit(t, c, Request{}, payment(t, "b"))
	if got := proof(VerifyNew); got != "[]" {
		t.Fatal(got)
	}
	change(`UPDATE entries SET ref = 'else' WHERE seq = 2`)
	submit(t, c, Request{}, payment(t, "c"))
	if got := proof(VerifyNew); got != "[]" {
		t.Errorf("of what is new: %s", got)
	}
	if got := proof(Verify); got != "[content of a batch: entry 0/2/0: it is not what was written of everything: all: read]" {
		t.Errorf("of the whole: %s", got)
	}
	submit(t, c, Request{}, payment(t, "d"))
	change(`UPDATE postings SET amount = amount + 1 WHERE seq = 5`)
	for range 2 {
		if got := proof(VerifyNew); !strings.Contains(got, "entry 0/5/0: it is not what was written") || !strings.Contains(got, "turnover is the sum of the postings: 1002.H1") {
			t.Errorf("of what is new: %s", got)
		}
	}
	change(`UPDATE postings SET amount = amount - 1 WHERE seq = 5`)
	if got := proof(VerifyNew); got != "[]" {
		t.Errorf("put right: %s", got)
	}
	change(`ALTER TABLE proofs DROP CONSTRAINT proofs_batch`, `DELETE FROM postings WHERE seq = 5`, `DELETE FROM entries WHERE seq = 5`, `DELETE FROM batches WHERE seq = 5`)
	if got := proof(VerifyNew); !strings.Contains(got, "lane without gaps: batch 0/5: it was proven once and is not there") {
		t.Errorf("the end of the journal is gone: %s", got)
	}
}

// TestTheDatabaseRefusesWhatGoRefuses pairs the rules of an entry with the
// constraints that hold them when Go is bypassed.
func TestTheDatabaseRefusesWhatGoRefuses(t *testing.T) {
	d, c := newBooks(t, bank, owed, own, avail)
	submit(t, c, Request{}, payment(t, "a"))
	const columns = `INSERT INTO postings (lane, seq, ord, n, day, debit, credit, amount, debit_ref, credit_ref) VALUES (0, 2, 0, 9, 20260915, $1, $2, $3, '', '')`
	cases := []struct {
		constraint, sql string
		args            []any
	}{
		{"postings_sets", columns, []any{bank.ID(), own.ID(), 1}},
		{"postings_sets", columns, []any{bank.ID(), bank.ID(), 1}},
		{"postings_amount", columns, []any{bank.ID(), owed.ID(), 0}},
		{"postings_key", strings.Replace(columns, "9,", "0,", 1), []any{bank.ID(), owed.ID(), 1}},
		{"entries_days", `INSERT INTO entries (lane, seq, ord, book, kind, ref, day, value_day, maker, checker, case_id, meta) VALUES (0, 2, 9, 1, 'J', '', 20260915, 20260916, '', '', '', '')`, nil},
		{"floors_hold", `UPDATE floors SET outgo = outgo + 1`, nil},
		{"batches_chain", `INSERT INTO batches (lane, seq, prev, epoch, id, items, content, at) VALUES (0, 9, NULL, 1, gen_random_uuid(), 0, '', now())`, nil},
		{"batches_prev", `INSERT INTO batches (lane, seq, prev, epoch, id, items, content, at) VALUES (0, 9, 8, 1, gen_random_uuid(), 0, '', now())`, nil},
		{"batches_key", `INSERT INTO batches (lane, seq, prev, epoch, id, items, content, at) VALUES (0, 2, 1, 1, gen_random_uuid(), 0, '', now())`, nil},
		{"accounts_book", `INSERT INTO accounts (id, book, code, type, side, checked) VALUES (7, 1, 'x', 'ASSET', 1, false)`, nil},
		{"days_state", `INSERT INTO days (book, day, state) VALUES (1, 20260915, 'SHUT')`, nil},
	}
	for _, test := range cases {
		_, err := d.Pool.Exec(t.Context(), test.sql, test.args...)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.ConstraintName != test.constraint {
			t.Errorf("%s is held by %v", test.constraint, err)
		}
	}
	_, err := NewEntry(Head{Book: 1, Kind: "J", ValueDay: 20260915}, Posting{bank.For(""), own.For(""), 1})
	if !errors.Is(err, ErrEntry) || !strings.Contains(err.Error(), "two sets") {
		t.Errorf("crossing sets in Go: %v", err)
	}
}

func TestLedgerLinesAreOnePerEntryAccountSideAndReference(t *testing.T) {
	d, c := newBooks(t, bank, owed)
	e, err := NewEntry(Head{Book: 1, Kind: "J28b", Ref: "S1", ValueDay: 20260915},
		Posting{bank.For("S1"), owed.For("R1"), 100}, Posting{bank.For("S1"), owed.For("R2"), 50}, Posting{bank.For("S1"), owed.For("R1"), 25})
	if err != nil {
		t.Fatal(err)
	}
	submit(t, c, Request{}, e)
	rows, err := d.Pool.Query(t.Context(), `SELECT a.code, l.side, l.ref, l.amount FROM ledger_lines AS l JOIN accounts AS a ON a.id = l.account ORDER BY l.side, l.ref`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		return fmt.Sprint(values...), err
	})
	if got, want := strings.Join(lines, "|"), "1002.H11S1 175|2205.H12R1 125|2205.H12R2 50"; err != nil || strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("lines are %s, %v", got, err)
	}
}

func TestAControlOfTheChartIsVerified(t *testing.T) {
	d := dbtest.New(t, Schema)
	control := Control{Name: "1998 is zero", Check: func(ctx context.Context, tx pgx.Tx) ([]Finding, error) {
		return []Finding{{Subject: "1998", Detail: "it is 1.00"}}, nil
	}}
	findings, err := Verify(t.Context(), d, control)
	if err != nil || len(findings) != 1 || findings[0].String() != "1998 is zero: 1998: it is 1.00" {
		t.Errorf("findings %v, %v", findings, err)
	}
}
