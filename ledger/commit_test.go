package ledger

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestRefusalsSayWhatAPersonNeeds fixes the sentences of the ledger's refusals.
func TestRefusalsSayWhatAPersonNeeds(t *testing.T) {
	d, c := newBooks(t, bank, owed, avail)
	submit(t, c, Request{}, entry(t, "J01", "a", 20260915, bank.For(""), avail.For(""), 12000))
	ask := func(canon string) Request {
		return Request{Scope: "app", Key: "pay_20260915_1", Form: 1, Canon: []byte(canon)}
	}
	first := submit(t, c, ask(`{"order":"a","amount":100,"items":[{"n":1},{"n":"},"}]}`), payment(t, "a"))
	cases := []struct {
		name string
		out  Outcome
		is   error
		says string
	}{
		{"account unknown", submit(t, c, Request{}, entry(t, "J18", "re_1", 20260915, absent.For(""), bank.For(""), 1)), ErrAccountUnknown,
			fmt.Sprintf("account: %v is not open; J18 of re_1 posts to it", absent.ID())},
		{"floor broken", submit(t, c, Request{}, entry(t, "J31", "po_1", 20260915, avail.For(""), owed.For(""), 15000)), ErrFloor,
			"amount: 2202.H1.AVAIL has 120.00 available, 150.00 was asked"},
		{"another body", submit(t, c, ask(`{"order":"b","amount":100,"items":[{"n":1},{"n":"}"}]}`), payment(t, "a")), ErrKeyConflict,
			"order, items: pay_20260915_1 was used before with another order, items: take a new key"},
		{"a field more", submit(t, c, ask(`{"order":"a","amount":100,"items":[{"n":1},{"n":"},"}],"note":""}`), payment(t, "a")), ErrKeyConflict,
			"note: pay_20260915_1 was used before with another note: take a new key"},
		{"a field less", submit(t, c, ask(`{"order":"a"}`), payment(t, "a")), ErrKeyConflict,
			"key: pay_20260915_1 was used before for another request: take a new key"},
		{"no object", submit(t, c, ask(`a`), payment(t, "a")), ErrKeyConflict,
			"key: pay_20260915_1 was used before for another request: take a new key"},
	}
	for _, test := range cases {
		if !errors.Is(test.out.Err, test.is) || test.out.Err.Error() != test.says || test.out.Replayed {
			t.Errorf("%s: %+v\n want %s", test.name, test.out, test.says)
		}
	}
	again := submit(t, c, ask(`{"order":"a","amount":100,"items":[{"n":1},{"n":"},"}]}`), payment(t, "a"))
	if first.Replayed = true; !reflect.DeepEqual(again, first) || again.Body != "posted a" {
		t.Errorf("the same body: %+v, want %+v", again, first)
	}
	sound(t, d)
}

func TestARefusalIsKeptWithItsWords(t *testing.T) {
	_, c := newBooks(t, bank, owed, avail)
	req := Request{Scope: "app", Key: "po_20260915_1", Form: 1}
	e := entry(t, "J31", "po_1", 20260915, avail.For(""), owed.For(""), 15000)
	first := submit(t, c, req, e)
	again := submit(t, c, req, e)
	if first.Replayed = true; !reflect.DeepEqual(again, first) || !errors.Is(again.Err, ErrFloor) || again.Entry == (EntryID{}) {
		t.Errorf("first %+v, again %+v", first, again)
	}
}

func TestARequestInANewFormMeetsItsOldAnswer(t *testing.T) {
	_, c := newBooks(t, bank, owed)
	submit(t, c, Request{Scope: "app", Key: "k", Form: 1, Canon: []byte(`{"a":1}`)}, payment(t, "a"))
	req := Request{Scope: "app", Key: "k", Form: 2, Canon: []byte(`{"a":1,"b":2}`), Older: func(form int16) []byte { return []byte(`{"a":1}`) }}
	if out := submit(t, c, req, payment(t, "a")); out.Err != nil || !out.Replayed {
		t.Errorf("outcome %+v", out)
	}
}

func TestTheSameKeyAtTheSameMomentIsPostedOnce(t *testing.T) {
	d, one := newBooks(t, bank, owed)
	two := newCommitter(t, d)
	outs := make([]Outcome, 40)
	var running sync.WaitGroup
	for i := range outs {
		running.Go(func() {
			c := []*Committer{one, two}[i%2]
			outs[i], _ = Submit(t.Context(), c, post, Request{Scope: "app", Key: "k", Form: 1}, []Entry{payment(t, "a")})
		})
	}
	running.Wait()
	fresh := slices.IndexFunc(outs, func(o Outcome) bool { return !o.Replayed })
	for i, out := range outs {
		if out.Err != nil || out.Entry != outs[fresh].Entry || out.Replayed != (i != fresh) {
			t.Errorf("%d: %+v", i, out)
		}
	}
	if n := number(t, d, `SELECT count(*) FROM entries`); n != 1 {
		t.Errorf("%d entries", n)
	}
	sound(t, d)
}

// TestAPoisonousCommandStandsAlone: what the database refuses costs its own
// command and no other.
func TestAPoisonousCommandStandsAlone(t *testing.T) {
	d, c := newBooks(t, bank, owed)
	open(t, d, absent) // after the committer has read the accounts
	picky := &Verb[int]{Name: "picky", Run: func(_ context.Context, b *Batch, cmds []int) []Outcome {
		outs := make([]Outcome, len(cmds))
		for i, n := range cmds {
			id, err := b.Post(payment(t, fmt.Sprint(n)))
			outs[i] = Outcome{Entry: id, Err: err}
			switch n {
			case 7:
				b.Exec(`INSERT INTO cursors (name, lane, seq) VALUES (NULL, 0, 0)`)
			case 11:
				b.ExecRows(2, `INSERT INTO cursors (name, lane, seq) VALUES ('x', 0, 0)`)
			case 13:
				outs[i].Err = errors.New("a bug")
			case 17:
				if _, err := b.Tx().Exec(t.Context(), `SELECT 1/0`); err != nil {
					return b.Fail(err)
				}
			case 19:
				b.ExecRows(1, `INSERT INTO cursors (name, lane, seq) VALUES ('y', 0, 0)`)
			}
		}
		return outs
	}}
	cmds := make([]int, 50)
	for i := range cmds {
		cmds[i] = i
	}
	outs, err := SubmitAll(t.Context(), c, picky, nil, cmds)
	wants := map[int]string{7: "23502", 11: "rows changed: 1, not 2", 13: "a bug", 17: "22012"}
	for i, out := range outs {
		want := wants[i]
		if (out.Err == nil) != (want == "") || out.Err != nil && !strings.Contains(out.Err.Error(), want) {
			t.Errorf("%d: %+v, want %q", i, out, want)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "picky: ") || len(outs) != len(cmds) {
		t.Errorf("%d outcomes, %v", len(outs), err)
	}
	if n := number(t, d, `SELECT count(*) FROM entries`); n != len(cmds)-len(wants) {
		t.Errorf("%d entries", n)
	}
	if n := number(t, d, `SELECT count(*) FROM cursors`); n != 1 {
		t.Errorf("%d cursors", n)
	}
	sound(t, d)
}

func TestATextThatTheDatabaseCannotHoldStandsAlone(t *testing.T) {
	d, c := newBooks(t, bank, owed)
	bad := "a\x00b"
	reqs := []Request{{Scope: "s", Key: "1"}, {Scope: "s", Key: bad}, {Scope: "s", Key: "3"}, {Scope: "s", Key: "4"}}
	cmds := [][]Entry{{payment(t, "1")}, {payment(t, "2")}, {payment(t, bad)}, {payment(t, "\xff")}}
	outs, err := SubmitAll(t.Context(), c, post, reqs, cmds)
	if err == nil || outs[0].Err != nil {
		t.Errorf("%+v, %v", outs, err)
	}
	for _, out := range outs[1:] {
		if sqlState(out.Err) != "22021" {
			t.Errorf("%+v", out)
		}
	}
	if c.Retries.Load() != 0 {
		t.Errorf("%d retries", c.Retries.Load())
	}
	sound(t, d)
}

func TestADeadlineInsideABatchIsUnknown(t *testing.T) {
	d, c := newBooks(t, bank, owed)
	begun, end := make(chan struct{}), make(chan struct{})
	slow := &Verb[[]Entry]{Name: "slow", Run: func(ctx context.Context, b *Batch, cmds [][]Entry) []Outcome {
		close(begun)
		<-end
		return post.Run(ctx, b, cmds)
	}}
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	submitSlow := func(v *Verb[[]Entry], ref string) {
		_, err := Submit(ctx, c, v, Request{}, []Entry{payment(t, ref)})
		errs <- err
	}
	go submitSlow(slow, "inside")
	<-begun
	go submitSlow(post, "waiting")
	for c.queue.length() == 0 {
		runtime.Gosched()
	}
	cancel()
	unknown, never := <-errs, <-errs
	if errors.Is(never, ErrUnknown) {
		unknown, never = never, unknown
	}
	if !errors.Is(unknown, ErrUnknown) || !errors.Is(unknown, context.Canceled) || errors.Is(never, ErrUnknown) || !errors.Is(never, context.Canceled) {
		t.Errorf("inside %v, waiting %v", unknown, never)
	}
	close(end)
	c.Close()
	if n := number(t, d, `SELECT count(*) FROM entries WHERE ref = 'inside'`); n != 1 {
		t.Errorf("the command that was taken is posted %d times", n)
	}
	if n := number(t, d, `SELECT count(*) FROM entries WHERE ref = 'waiting'`); n != 0 {
		t.Errorf("the command that was not taken is posted")
	}
	if _, err := Submit(t.Context(), c, post, Request{}, []Entry{payment(t, "late")}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestAvailableIsWhatMayLeave lets a verb split what would overdraw an account.
func TestAvailableIsWhatMayLeave(t *testing.T) {
	d, c := newBooks(t, bank, owed, avail)
	other := newCommitter(t, d)
	var seen []Money
	split := &Verb[Money]{Name: "split", Run: func(ctx context.Context, b *Batch, cmds []Money) []Outcome {
		seen = nil
		if err := b.LockFloors(ctx, avail.ID(), bank.ID()); err != nil {
			return b.Fail(err)
		}
		outs := make([]Outcome, len(cmds))
		for i, amount := range cmds {
			left := b.Available(avail.ID())
			seen = append(seen, left)
			if amount = min(amount, left); amount > 0 {
				outs[i].Entry, outs[i].Err = b.Post(entry(t, "J31", "p", b.BookingDay(20260915), avail.For(""), owed.For(""), amount))
			}
		}
		return outs
	}}
	submit(t, other, Request{}, entry(t, "J25", "a", 20260915, bank.For(""), avail.For(""), 100)) // in another lane
	submit(t, c, Request{}, entry(t, "J25", "b", 20260915, bank.For(""), avail.For(""), 50))
	if _, err := SubmitAll(t.Context(), c, split, nil, []Money{30, 100, 100, 100}); err != nil {
		t.Fatal(err)
	}
	if want := []Money{150, 120, 20, 0}; !slices.Equal(seen, want) {
		t.Errorf("available was %v, want %v", seen, want)
	}
	wrong := &Verb[Money]{Name: "wrong", Run: func(_ context.Context, b *Batch, cmds []Money) []Outcome {
		b.Available(bank.ID())
		return make([]Outcome, len(cmds))
	}}
	if _, err := Submit(t.Context(), c, wrong, Request{}, 0); err == nil || !strings.Contains(err.Error(), "has no floor") {
		t.Errorf("Available of an account without a floor: %v", err)
	}
	sound(t, d)
}

// TestTwoCommittersShareAFloor: whatever leaves by two lanes at once, the account
// never falls below zero and nothing that fits is lost.
func TestTwoCommittersShareAFloor(t *testing.T) {
	d, one := newBooks(t, bank, owed, avail)
	two := newCommitter(t, d)
	submit(t, one, Request{}, entry(t, "J25", "a", 20260915, bank.For(""), avail.For(""), 1000))
	var running sync.WaitGroup
	for i := range 40 {
		running.Go(func() {
			for range 5 {
				out, err := Submit(t.Context(), []*Committer{one, two}[i%2], post, Request{}, []Entry{entry(t, "J31", "p", 20260915, avail.For(""), owed.For(""), 9)})
				if err != nil || out.Err != nil && !errors.Is(out.Err, ErrFloor) {
					t.Errorf("%+v, %v", out, err)
				}
			}
		})
	}
	running.Wait()
	if got := balance(t, d, avail, AsOf{}); got != 1000%9 {
		t.Errorf("%v is left, of 10.00 in slices of 0.09", got)
	}
	sound(t, d)
}

func TestEventsAreRelayedInOrderAtLeastOnce(t *testing.T) {
	d, c := newBooks(t, bank, owed, avail)
	for i := range 5 {
		submit(t, c, Request{}, entry(t, "J31", fmt.Sprint(i), 20260915, avail.For(""), owed.For(""), 1))
	}
	var got []Event
	n, err := Relay(t.Context(), d, "kafka", func(_ context.Context, events []Event) error { got = events; return errors.New("broker down") })
	if n != 0 || err == nil || !strings.Contains(err.Error(), "broker down") {
		t.Errorf("%d events, %v", n, err)
	}
	take := func(_ context.Context, events []Event) error { got = events; return nil }
	if n, err := Relay(t.Context(), d, "kafka", take); n != 5 || err != nil {
		t.Errorf("%d events, %v", n, err)
	}
	if !slices.IsSortedFunc(got, func(a, b Event) int { return int(a.ID.Seq - b.ID.Seq) }) || got[0].Kind != "REFUSED" || string(got[0].Canon) != "FLOOR" || got[0].At.IsZero() {
		t.Errorf("events %+v", got)
	}
	submit(t, c, Request{}, entry(t, "J31", "6", 20260915, avail.For(""), owed.For(""), 1))
	if n, err := Relay(t.Context(), d, "kafka", take); n != 1 || err != nil {
		t.Errorf("%d events, %v", n, err)
	}
	if n, err := Relay(t.Context(), d, "another", take); n != 6 || err != nil {
		t.Errorf("%d events, %v", n, err)
	}
}

func TestStatementRunsTheBalance(t *testing.T) {
	d, c := newBooks(t, bank, owed)
	first := submit(t, c, Request{}, payment(t, "a"))
	submit(t, c, Request{}, entry(t, "J02", "b", 20260916, owed.For("R"), bank.For(""), 30))
	red, err := payment(t, "a").Reverse(first.Entry, Head{Book: 1, Kind: "RED", Ref: "a", ValueDay: 20260916})
	if err != nil {
		t.Fatal(err)
	}
	last := submit(t, c, Request{}, red)
	var lines []string
	read(t, d, func(ctx context.Context, tx pgx.Tx) error {
		lines = nil
		opening, err := Statement(ctx, tx, owed.ID(), 20260916, 20260917, func(l Line) error {
			lines = append(lines, fmt.Sprintf("%v %s %s/%s %d %v %v", l.Day, l.Kind, l.EntryRef, l.Ref, l.Side, l.Amount, l.Balance))
			return nil
		})
		if opening.Balance() != 100 {
			t.Errorf("opening %+v", opening)
		}
		at := AsOf{Known: 20260916, Position: map[int16]int64{last.Entry.Lane: last.Entry.Seq - 1}}
		before, err2 := BalanceAt(ctx, tx, owed.ID(), at)
		if before.Balance() != 70 || before.Debits != 30 || before.Credits != 100 {
			t.Errorf("before the last batch: %+v", before)
		}
		after, err3 := BalancesByCode(ctx, tx, 1, "2205", AsOf{})
		if len(after) != 1 || after[0].Balance() != -30 || after[0].Debits != 30 || after[0].Credits != 0 {
			t.Errorf("now: %+v", after)
		}
		at.Position[last.Entry.Lane]++
		same, err4 := BalanceAt(ctx, tx, owed.ID(), at)
		if same != after[0] {
			t.Errorf("up to the last batch: %+v", same)
		}
		_, err5 := BalanceAt(ctx, tx, absent.ID(), AsOf{})
		if !errors.Is(err5, ErrNotFound) {
			t.Errorf("balance of an account that is not open: %v", err5)
		}
		if _, _, err6 := EntryAt(ctx, tx, EntryID{0, 99, 0}); !errors.Is(err6, ErrNotFound) {
			t.Errorf("entry that is not there: %v", err6)
		}
		return errors.Join(err, err2, err3, err4)
	})
	want := []string{"2026-09-16 J02 b/R 1 0.30 0.70", "2026-09-16 RED a/a 2 -1.00 -0.30"}
	if !slices.Equal(lines, want) {
		t.Errorf("lines %q", lines)
	}
}
