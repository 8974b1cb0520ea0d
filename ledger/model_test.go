package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/jackc/pgx/v5"
)

// The model is the ledger without a database: what the books must say after any
// sequence of commands, in about a hundred lines.

var modelAccounts = []Account{
	NewAccount(1, Agency, Asset, "1002.H1"), NewAccount(1, Agency, Asset, "1002.CUST").Floored(),
	NewAccount(1, Agency, Liability, "2202.H1.AVAIL").Floored(), NewAccount(1, Agency, Liability, "2202.H1.FROZEN").Floored(),
	NewAccount(1, Agency, Liability, "2205.H1"),
	NewAccount(1, Own, Expense, "6601.H1"), NewAccount(1, Own, Liability, "2242.H1"), NewAccount(1, Own, Asset, "1002.OWN").Floored(),
}

// command is one operation of the test: entries under a key, "" for none.
type command struct {
	key     string
	body    string
	entries []Entry
	red     int // the entry to be reversed, by its place in model.posted, -1 for none
}

type booked struct {
	id EntryID
	e  Entry
}

type model struct {
	lines    []modelLine
	balances map[AccountID]Money
	answers  map[string][2]string // by key: body, answer
	shut     map[Day]bool
	posted   []booked // what may be reversed
	reversed map[int]bool
	word     string // the ledger's answer, where only it knows the order
}

type modelLine struct {
	account       AccountID
	side          Side
	amount        Money
	ref           string
	day, valueDay Day
}

func newModel() *model {
	return &model{balances: map[AccountID]Money{}, answers: map[string][2]string{}, shut: map[Day]bool{}, reversed: map[int]bool{}}
}

func modelAccount(id AccountID) (Account, bool) {
	i := slices.IndexFunc(modelAccounts, func(a Account) bool { return a.ID() == id })
	if i < 0 {
		return Account{}, false
	}
	return modelAccounts[i], true
}

// answer says what the ledger must answer to the command, and books it.
func (m *model) answer(cmd command) string {
	if given, ok := m.answers[cmd.key]; ok && cmd.key != "" {
		if given[0] == cmd.body {
			return "replayed " + given[1]
		}
		return ErrKeyConflict.Code
	}
	answer := m.decide(cmd)
	if cmd.key != "" {
		m.answers[cmd.key] = [2]string{cmd.body, answer}
	}
	if answer == "ok" {
		m.book(cmd)
	}
	return answer
}

func (m *model) decide(cmd command) string {
	change := map[AccountID]Money{}
	leaves := map[AccountID]bool{}
	for _, e := range cmd.entries {
		for _, p := range e.Postings() {
			for side, leg := range map[Side]Leg{Debit: p.Debit, Credit: p.Credit} {
				account, ok := modelAccount(leg.Account)
				if !ok {
					return ErrAccountUnknown.Code
				}
				if side == account.Type().NormalSide() {
					change[leg.Account] += p.Amount
				} else {
					change[leg.Account] -= p.Amount
					leaves[leg.Account] = true
				}
			}
		}
	}
	for id, amount := range change {
		broken := m.balances[id]+amount < 0
		if m.word != "" {
			broken = m.word == ErrFloor.Code
		}
		if account, _ := modelAccount(id); account.HasFloor() && leaves[id] && broken {
			return ErrFloor.Code
		}
	}
	if cmd.red >= 0 && m.reversed[cmd.red] {
		return ErrReversed.Code
	}
	return "ok"
}

func (m *model) book(cmd command) {
	if cmd.red >= 0 {
		m.reversed[cmd.red] = true
	}
	for _, e := range cmd.entries {
		day := e.Head().ValueDay
		for m.shut[day] {
			day = day.Add(1)
		}
		for _, p := range e.Postings() {
			m.line(p.Debit, Debit, p.Amount, day, e.Head().ValueDay)
			m.line(p.Credit, Credit, p.Amount, day, e.Head().ValueDay)
		}
	}
}

func (m *model) line(leg Leg, side Side, amount Money, day, valueDay Day) {
	m.lines = append(m.lines, modelLine{leg.Account, side, amount, leg.Ref, day, valueDay})
	if account, _ := modelAccount(leg.Account); side != account.Type().NormalSide() {
		amount = -amount
	}
	m.balances[leg.Account] += amount
}

// balance is the sum of the lines as of a value day and a booking day.
func (m *model) balance(account Account, at AsOf) (sum Money) {
	for _, l := range m.lines {
		if l.account != account.ID() || l.valueDay > at.ValueDay || l.day > at.Known {
			continue
		}
		if l.side == account.Type().NormalSide() {
			sum += l.amount
		} else {
			sum -= l.amount
		}
	}
	return sum
}

// TestRandomOperations carries out 20,000 random commands over two committers
// and requires of the books what the model says, after every round.
func TestRandomOperations(t *testing.T) {
	for _, seed := range []uint64{1, rand.Uint64()} {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			d := dbtest.New(t, Schema)
			open(t, d, modelAccounts...)
			w := &walk{T: t, d: d, m: newModel(), rng: rand.New(rand.NewPCG(seed, 2)), seen: map[string]int{},
				committers: [2]*Committer{newCommitter(t, d, 3), newCommitter(t, d, 7)}}
			for w.done < 10_000 && !t.Failed() {
				w.round()
			}
			sound(t, d)
			for _, answer := range []string{"ok", "replayed ok", "replayed FLOOR", "FLOOR", "ACCOUNT_UNKNOWN", "KEY_CONFLICT", "ALREADY_REVERSED"} {
				if w.seen[answer] < 10 {
					t.Errorf("the walk met the answer %q only %d times", answer, w.seen[answer])
				}
			}
		})
	}
}

type walk struct {
	*testing.T
	d          *db.DB
	m          *model
	rng        *rand.Rand
	committers [2]*Committer
	keys       []command
	done       int
	rounds     int
	seen       map[string]int // answers by kind
}

// round submits some hundred commands, by one committer in an order that the
// model can follow, or by both at once.
func (w *walk) round() {
	w.rounds++
	if w.rounds%20 == 10 {
		day := Day(20260913).Add(len(w.m.shut))
		if _, err := w.d.Pool.Exec(w.Context(), `INSERT INTO days (book, day, state) VALUES (1, $1, 'CLOSED')`, day); err != nil {
			w.Fatal(err)
		}
		w.m.shut[day] = true
	}
	if w.rounds%3 == 0 {
		w.both()
	} else {
		cmds := w.commands(1 + w.rng.IntN(400))
		for i, out := range w.submit(w.committers[w.rng.IntN(2)], cmds) {
			if got, want := outcomeCode(out), w.m.answer(cmds[i]); got != want {
				w.Errorf("%+v:\n got %s, want %s", cmds[i], got, want)
			}
			w.note(cmds[i], out)
		}
	}
	w.compare()
	if w.rounds%10 == 0 {
		sound(w, w.d)
	}
}

// both lets two committers work on the same accounts at once. In which order is
// theirs to choose, so the model takes their word for whether a floor was broken,
// and for nothing else.
func (w *walk) both() {
	var cmds [2][]command
	var outs [2][]Outcome
	var running sync.WaitGroup
	for i, c := range w.committers {
		cmds[i] = slices.DeleteFunc(w.commands(1+w.rng.IntN(300)), func(c command) bool { return c.red >= 0 || c.key != "" && i == 1 })
		running.Go(func() { outs[i] = w.submit(c, cmds[i]) })
	}
	running.Wait()
	for i := range cmds {
		for k, out := range outs[i] {
			got := outcomeCode(out)
			w.m.word = got
			if want := w.m.answer(cmds[i][k]); got != want {
				w.Errorf("%+v:\n got %s, want %s", cmds[i][k], got, want)
			}
			w.note(cmds[i][k], out)
		}
	}
	w.m.word = ""
}

func outcomeCode(out Outcome) string {
	answer := "ok"
	var refusal Refusal
	if errors.As(out.Err, &refusal) {
		answer = refusal.Code
	}
	if out.Replayed {
		answer = "replayed " + answer
	}
	return answer
}

func (w *walk) submit(c *Committer, cmds []command) []Outcome {
	reqs, entries := make([]Request, len(cmds)), make([][]Entry, len(cmds))
	for i, cmd := range cmds {
		entries[i] = cmd.entries
		if cmd.key != "" {
			reqs[i] = Request{Scope: "model", Key: cmd.key, Form: 1, Canon: []byte(cmd.body)}
		}
	}
	outs, err := SubmitAll(w.Context(), c, post, reqs, entries)
	if err != nil {
		w.Error(err)
	}
	return outs
}

// note remembers what later commands may repeat or reverse.
func (w *walk) note(cmd command, out Outcome) {
	w.done++
	w.seen[outcomeCode(out)]++
	if cmd.key != "" && !out.Replayed && !errors.Is(out.Err, ErrKeyConflict) {
		w.keys = append(w.keys, cmd)
	}
	if out.Err == nil && !out.Replayed && len(cmd.entries) == 1 && cmd.red < 0 {
		w.m.posted = append(w.m.posted, booked{id: out.Entry, e: cmd.entries[0]})
	}
}

func (w *walk) commands(n int) []command {
	cmds := make([]command, n)
	for i := range cmds {
		cmds[i] = w.command(i)
	}
	return cmds
}

func (w *walk) command(i int) command {
	switch dice := w.rng.IntN(100); {
	case dice < 8 && len(w.keys) > 0: // again
		return w.keys[w.rng.IntN(len(w.keys))]
	case dice < 10 && len(w.keys) > 0: // the key again, with another body
		cmd := w.keys[w.rng.IntN(len(w.keys))]
		cmd.body = fmt.Sprintf(`{"n":%d}`, w.done+i+1_000_000)
		return cmd
	case dice < 11 && len(w.m.posted) > 0:
		red := w.rng.IntN(min(len(w.m.posted), 30))
		head := Head{Book: 1, Kind: "RED", Ref: "red", ValueDay: w.day()}
		e, err := w.m.posted[red].e.Reverse(w.m.posted[red].id, head)
		if err != nil {
			w.Fatal(err)
		}
		return command{entries: []Entry{e}, red: red}
	}
	cmd := command{red: -1, entries: []Entry{w.entry()}}
	for w.rng.IntN(6) == 0 {
		cmd.entries = append(cmd.entries, w.entry())
	}
	if w.rng.IntN(3) == 0 {
		cmd.key = fmt.Sprintf("op_20260915_%d_%d", w.done, i)
		cmd.body = fmt.Sprintf(`{"n":%d}`, w.done+i)
	}
	return cmd
}

func (w *walk) day() Day { return Day(20260912).Add(w.rng.IntN(6)) }

func (w *walk) entry() Entry {
	var postings []Posting
	for len(postings) == 0 || w.rng.IntN(3) == 0 {
		a, b := modelAccounts[w.rng.IntN(len(modelAccounts))], modelAccounts[w.rng.IntN(len(modelAccounts))]
		if w.rng.IntN(200) == 0 {
			b = absent
		}
		if a.ID() == b.ID() || a.ID().Set() != b.ID().Set() {
			continue
		}
		refs := []string{"", "R1", "R2"}
		postings = append(postings, Posting{a.For(refs[w.rng.IntN(3)]), b.For(refs[w.rng.IntN(3)]), Money(1 + w.rng.IntN(1000))})
	}
	e, err := NewEntry(Head{Book: 1, Kind: "J01", Ref: fmt.Sprint("op", w.done), ValueDay: w.day(), Maker: "model"}, postings...)
	if err != nil {
		w.Fatal(err)
	}
	return e
}

// compare requires the balances of the model, now and as of a random day.
func (w *walk) compare() {
	ats := []AsOf{{ValueDay: 99991231, Known: 99991231}, {ValueDay: w.day(), Known: w.day()}}
	read(w, w.d, func(ctx context.Context, tx pgx.Tx) error {
		for _, at := range ats {
			all, err := TrialBalance(ctx, tx, 1, at)
			if err != nil {
				return err
			}
			var debits, credits Money
			for _, b := range all {
				account, _ := modelAccount(b.ID)
				if got, want := b.Balance(), w.m.balance(account, at); got != want {
					w.Errorf("%s as of %+v is %v, want %v", b.Code, at, got, want)
				}
				debits, credits = debits+b.Debits, credits+b.Credits
			}
			if debits != credits || len(all) != len(modelAccounts) {
				w.Errorf("%d accounts, debits %v, credits %v", len(all), debits, credits)
			}
		}
		return nil
	})
	for _, a := range modelAccounts {
		if a.HasFloor() && w.m.balances[a.ID()] < 0 {
			w.Errorf("%v fell to %v", a, w.m.balances[a.ID()])
		}
	}
}
