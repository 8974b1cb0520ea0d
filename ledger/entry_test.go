package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/ledger/db/dbtest"
	"pgregory.net/rapid"
)

func TestDaysAreThoseOfBeijing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(700_000_000, 4_000_000_000).Draw(t, "unix"), 0)
		day := DayOf(at)
		if start := day.Start(); at.Before(start) || !at.Before(day.Add(1).Start()) {
			t.Fatalf("%v is on %v", at, day)
		}
		n := rapid.IntRange(-1000, 1000).Draw(t, "n")
		if got := day.Add(n); got.Add(-n) != day || (n > 0) != (got > day) && n != 0 || int(got.Start().Sub(day.Start())/(24*time.Hour)) != n {
			t.Fatalf("%v + %d is %v", day, n, got)
		}
		for _, text := range []string{day.String(), day.Compact()} {
			if got, err := ParseDay(text); err != nil || got != day {
				t.Fatalf("%s is read as %v, %v", text, got, err)
			}
		}
	})
	if got := DayOf(time.Date(2026, 9, 15, 16, 0, 0, 0, time.UTC)); got != 20260916 {
		t.Errorf("midnight in Beijing is on %v", got)
	}
	for _, text := range []string{"", "2026-02-29", "20261301", "2026-9-5", "15.09.2026", "20260915 "} {
		if day, err := ParseDay(text); !errors.Is(err, ErrDay) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q is read as %v, %v", text, day, err)
		}
	}
}

func TestAnAccountNumberHoldsBookAndSet(t *testing.T) {
	numbers := map[AccountID]string{}
	rapid.Check(t, func(t *rapid.T) {
		book, set := Book(rapid.Int16Range(1, 32767).Draw(t, "book")), Set(rapid.IntRange(1, 7).Draw(t, "set"))
		a := NewAccount(book, set, Asset, rapid.StringN(1, 20, -1).Draw(t, "code"))
		if a.ID() <= 0 || a.ID().Book() != book || a.ID().Set() != set {
			t.Fatalf("%v of book %d and set %d", a.ID(), book, set)
		}
		if code, ok := numbers[a.ID()]; ok && code != a.Code() {
			t.Fatalf("%q and %q have one number", code, a.Code())
		}
		numbers[a.ID()] = a.Code()
	})
	if got := int64(NewAccount(1, Agency, Asset, "1122.WX.W1").ID()); got != 354882927227587 {
		t.Errorf("the number of 1122.WX.W1 is %d: accounts that are open would be lost", got)
	}
}

func TestAnEntryIsBalancedInEverySetOrRefused(t *testing.T) {
	accounts := []Account{bank, avail, owed, own, NewAccount(1, Own, Asset, "1002.OWN"), NewAccount(2, Agency, Asset, "1002.H1")}
	rapid.Check(t, func(t *rapid.T) {
		leg := rapid.Custom(func(t *rapid.T) Leg { return rapid.SampledFrom(accounts).Draw(t, "account").For("") })
		posting := rapid.Custom(func(t *rapid.T) Posting {
			return Posting{leg.Draw(t, "debit"), leg.Draw(t, "credit"), Money(rapid.IntRange(-1, 5).Draw(t, "amount"))}
		})
		postings := rapid.SliceOfN(posting, 0, 4).Draw(t, "postings")
		e, err := NewEntry(Head{Book: 1, Kind: "J01", ValueDay: 20260915}, postings...)
		bad := len(postings) == 0 || slices.ContainsFunc(postings, func(p Posting) bool {
			return p.Amount <= 0 || p.Debit.Account == p.Credit.Account || p.Debit.Account>>45 != p.Credit.Account>>45 || p.Debit.Account.Book() != 1
		})
		if bad != errors.Is(err, ErrEntry) || bad != (err != nil) {
			t.Fatalf("%+v: %v", postings, err)
		}
		if bad {
			return
		}
		r, err := e.Reverse(EntryID{1, 2, 3}, e.Head())
		if err != nil || r.Reverses() != (EntryID{1, 2, 3}) {
			t.Fatalf("reverse: %+v, %v", r, err)
		}
		sums := map[AccountID]Money{}
		for _, p := range append(r.Postings(), e.Postings()...) {
			sums[p.Debit.Account] += p.Amount
			sums[p.Credit.Account] -= p.Amount
		}
		for account, sum := range sums {
			if sum != 0 {
				t.Fatalf("%v keeps %v", account, sum)
			}
		}
	})
	for _, head := range []Head{{Book: 1, ValueDay: 20260915}, {Book: 1, Kind: "J01"}} {
		if _, err := NewEntry(head, Posting{bank.For(""), owed.For(""), 1}); !errors.Is(err, ErrEntry) {
			t.Errorf("%+v: %v", head, err)
		}
	}
}

func TestOpeningIsIdempotentAndRefusesAnotherAccount(t *testing.T) {
	d := dbtest.New(t, Schema)
	open(t, d, bank, avail)
	open(t, d, bank, avail, owed)
	open(t, d)
	cases := map[string]Account{
		`"2202.H1.AVAIL" (ASSET, floored true) is open as "2202.H1.AVAIL" (LIABILITY, floored true)`: NewAccount(1, Agency, Asset, avail.Code()).Floored(),
		`"2202.H1.AVAIL" (LIABILITY, floored false) is open as`:                                      NewAccount(1, Agency, Liability, avail.Code()),
		`"" has no book, set, type or code`:                                                          NewAccount(1, Agency, Asset, ""),
		`"a" has no book, set, type or code`:                                                         NewAccount(0, Agency, Asset, "a"),
		`"b" has no book, set, type or code`:                                                         NewAccount(1, 0, Asset, "b"),
		`"c" (LIABILITY, floored false) is open as "1002.H1" (ASSET, floored false)`:                 {id: bank.id, code: "c", typ: Liability},
	}
	for want, a := range cases {
		if err := OpenAccounts(t.Context(), d, a); !errors.Is(err, ErrAccount) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", a, err)
		}
	}
	if got := fmt.Sprint(number(t, d, `SELECT count(*) FROM accounts`), number(t, d, `SELECT count(*) FROM floors`)); got != "3 1" {
		t.Errorf("accounts and floors: %s", got)
	}
}
