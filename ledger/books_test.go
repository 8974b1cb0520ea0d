package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/jackc/pgx/v5"
)

// post is the verb of these tests: it posts the entries of a command, all or none.
var post = &Verb[[]Entry]{Name: "post", Run: func(_ context.Context, b *Batch, cmds [][]Entry) []Outcome {
	outs := make([]Outcome, len(cmds))
	for i, entries := range cmds {
		id, err := b.Post(entries[0], entries[1:]...)
		outs[i] = Outcome{Err: err, Entry: id}
		if err == nil {
			outs[i].Body = "posted " + entries[0].Head().Ref
		} else if refusal := (Refusal{}); errors.As(err, &refusal) {
			outs[i].Entry = b.Record("REFUSED", []byte(refusal.Code))
		}
	}
	return outs
}}

// clock is a recorded time that moves a second at each look.
func clock() func() time.Time {
	var ticks atomic.Int64
	start := Day(20260915).Start().Add(9 * time.Hour)
	return func() time.Time { return start.Add(time.Duration(ticks.Add(1)) * time.Second).UTC() }
}

const lease = 500 * time.Millisecond

func newCommitter(t testing.TB, d *db.DB, lanes ...int16) *Committer {
	t.Helper()
	c, err := NewCommitter(t.Context(), d, Options{Now: clock(), Lanes: lanes, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newBooks(t testing.TB, accounts ...Account) (*db.DB, *Committer) {
	t.Helper()
	d := dbtest.New(t, Schema)
	open(t, d, accounts...)
	return d, newCommitter(t, d)
}

func open(t testing.TB, d *db.DB, accounts ...Account) {
	t.Helper()
	if err := OpenAccounts(t.Context(), d, accounts...); err != nil {
		t.Fatal(err)
	}
}

// entry makes an entry of one posting.
func entry(t testing.TB, kind, ref string, day Day, debit, credit Leg, amount Money) Entry {
	t.Helper()
	e, err := NewEntry(Head{Book: 1, Kind: kind, Ref: ref, ValueDay: day, Maker: "test"}, Posting{debit, credit, amount})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func submit(t testing.TB, c *Committer, req Request, entries ...Entry) Outcome {
	t.Helper()
	out, err := Submit(t.Context(), c, post, req, entries)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t testing.TB, d *db.DB, fn func(ctx context.Context, tx pgx.Tx) error) {
	t.Helper()
	if err := d.ReadTx(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func balance(t testing.TB, d *db.DB, account Account, at AsOf) Money {
	t.Helper()
	var b AccountBalance
	read(t, d, func(ctx context.Context, tx pgx.Tx) (err error) {
		b, err = BalanceAt(ctx, tx, account.ID(), at)
		return err
	})
	return b.Balance()
}

func number(t testing.TB, d *db.DB, query string, args ...any) int {
	t.Helper()
	var n int
	if err := d.Pool.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// asOwner runs a statement with the owner's rights.
func asOwner(t testing.TB, d *db.DB, sql string, args ...any) error {
	t.Helper()
	return pgx.BeginFunc(t.Context(), d.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `RESET ROLE`); err != nil {
			t.Fatal(err)
		}
		_, err := tx.Exec(t.Context(), sql, args...)
		if _, back := tx.Exec(t.Context(), `SET ROLE clearward_app`); back != nil && err == nil {
			err = back
		}
		return err
	})
}

// sound requires that Verify finds nothing.
func sound(t testing.TB, d *db.DB) {
	t.Helper()
	findings, err := Verify(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Errorf("found: %v", f)
	}
}

var (
	bank   = NewAccount(1, Agency, Asset, "1002.H1")
	avail  = NewAccount(1, Agency, Liability, "2202.H1.AVAIL").Floored()
	owed   = NewAccount(1, Agency, Liability, "2205.H1")
	own    = NewAccount(1, Own, Expense, "6601.H1")
	absent = NewAccount(1, Agency, Liability, "2299.H1")
)

func TestAnEntryIsPostedAndRead(t *testing.T) {
	d, c := newBooks(t, bank, avail, owed, own)
	e := entry(t, "J01", "pay_20260915_1", 20260915, bank.For("S1"), avail.For("A1"), 10000)
	out := submit(t, c, Request{}, e)
	if out.Err != nil || out.Body != "posted pay_20260915_1" || out.Entry.Seq == 0 {
		t.Fatalf("outcome %+v", out)
	}
	read(t, d, func(ctx context.Context, tx pgx.Tx) error {
		got, day, err := EntryAt(ctx, tx, out.Entry)
		if fmt.Sprint(got) != fmt.Sprint(e) || day != 20260915 {
			t.Errorf("entry is %v on %v, want %v", got, day, e)
		}
		return err
	})
	if got := balance(t, d, avail, AsOf{}); got != 10000 {
		t.Errorf("balance is %v", got)
	}
	sound(t, d)
}
