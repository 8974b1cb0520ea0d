package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/jackc/pgx/v5"
)

// TestPosting runs the cases of testdata/posting.txt, whose head explains them.
func TestPosting(t *testing.T) {
	d := dbtest.New(t, Schema)
	c, err := NewCommitter(t.Context(), d, Options{Now: clock(), Lease: lease, KeepKeys: 180})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	text, err := os.ReadFile("testdata/posting.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, d: d, c: c, accounts: map[string]Account{}, named: map[string]EntryID{}}
	cases := 0
	for i, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		action, want, ok := strings.Cut(line, "->")
		if !ok {
			t.Fatalf("line %d has no arrow", i+1)
		}
		if got, want := s.do(strings.Fields(action)), strings.TrimSpace(want); got != want && !strings.Contains(got, "error: ") || !strings.Contains(got, want) {
			t.Errorf("line %d: %s\n got %s", i+1, line, got)
		}
		cases++
	}
	if cases < 50 {
		t.Errorf("%d cases were run", cases)
	}
	sound(t, d)
}

type script struct {
	t        *testing.T
	d        *db.DB
	c        *Committer
	accounts map[string]Account
	named    map[string]EntryID
}

// do carries an action out and returns its answer; what is no outcome begins
// with "error: ".
func (s *script) do(words []string) string {
	switch words[0] {
	case "open":
		return s.open(words[1:])
	case "post":
		return s.post(words[1:])
	case "shut":
		_, err := s.d.Pool.Exec(s.t.Context(), `INSERT INTO days (book, day, state) VALUES (1, $1, 'CLOSED')`, s.day(words[1]))
		return answerOf(err)
	case "is":
		at := AsOf{}
		for i := 2; i < len(words); i += 2 {
			if words[i] == "by" {
				at.ValueDay = s.day(words[i+1])
			} else {
				at.Known = s.day(words[i+1])
			}
		}
		return balance(s.t, s.d, s.account(words[1]), at).String()
	case "items":
		return s.items(words[1:])
	}
	s.t.Fatalf("unknown action %s", words[0])
	return ""
}

func answerOf(err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return "ok"
}

var typesByName = map[string]Type{"asset": Asset, "liability": Liability, "equity": Equity, "income": Income, "expense": Expense}

func (s *script) open(words []string) string {
	set := Agency
	if words[2] == "own" {
		set = Own
	}
	a := NewAccount(1, set, typesByName[words[1]], words[0])
	if slices.Contains(words, "floored") {
		a = a.Floored()
	}
	err := OpenAccounts(s.t.Context(), s.d, a)
	if err == nil {
		s.accounts[words[0]] = a
	}
	return answerOf(err)
}

func (s *script) account(code string) Account {
	if a, ok := s.accounts[code]; ok {
		return a
	}
	return NewAccount(1, Agency, Liability, code)
}

func (s *script) leg(word string) Leg {
	code, ref, _ := strings.Cut(word, "/")
	return s.account(code).For(ref)
}

func (s *script) day(word string) Day {
	var day Day
	if _, err := fmt.Sscan(word, &day); err != nil {
		s.t.Fatal(err)
	}
	return day
}

// post reads one or more entries, joined by "with", and options.
func (s *script) post(words []string) string {
	var req Request
	var red EntryID
	var name string
	var plain []string
	for _, word := range words {
		key, value, option := strings.Cut(word, "=")
		switch {
		case key == "key":
			req.Scope, req.Key, req.Form = "test", value, 1
		case key == "internal":
			req.Internal = true
		case key == "red":
			red = s.named[value]
		case key == "as":
			name = value
		default:
			if option {
				s.t.Fatalf("unknown option %s", word)
			}
			plain = append(plain, word)
		}
	}
	var entries []Entry
	for _, part := range strings.Split(strings.Join(plain, " "), " with ") {
		e, err := s.entry(part, red)
		if err != nil {
			return answerOf(err)
		}
		entries = append(entries, e)
	}
	var err error
	if req.Canon, err = json.Marshal(map[string]any{"day": entries[0].Head().ValueDay, "postings": plain[1:]}); err != nil {
		s.t.Fatal(err)
	}
	out, err := Submit(s.t.Context(), s.c, post, req, entries)
	if err != nil {
		return answerOf(err)
	}
	s.named[name] = out.Entry
	return outcomeText(out)
}

func outcomeText(out Outcome) string {
	answer := "ok"
	var refusal Refusal
	if errors.As(out.Err, &refusal) {
		if answer = refusal.Code; refusal.Code == ErrKeyConflict.Code {
			answer += " " + refusal.Field
		}
	}
	if out.Replayed {
		return "replayed " + answer
	}
	return answer
}

func (s *script) entry(text string, red EntryID) (Entry, error) {
	dayText, rest, _ := strings.Cut(text, " ")
	var postings []Posting
	for _, part := range strings.Split(rest, ";") {
		words := strings.Fields(part)
		amount, err := ParseYuan(words[2])
		if err != nil {
			return Entry{}, err
		}
		postings = append(postings, Posting{s.leg(words[0]), s.leg(words[1]), amount})
	}
	head := Head{Book: 1, Kind: "J01", Ref: "pay", ValueDay: s.day(dayText)}
	if red == (EntryID{}) {
		return NewEntry(head, postings...)
	}
	var e Entry
	var day Day
	read(s.t, s.d, func(ctx context.Context, tx pgx.Tx) (err error) {
		e, day, err = EntryAt(ctx, tx, red)
		return err
	})
	if day != head.ValueDay {
		s.t.Errorf("the entry to be reversed was booked on %v", day)
	}
	return e.Reverse(red, head)
}

func (s *script) items(words []string) string {
	var items []OpenItem
	read(s.t, s.d, func(ctx context.Context, tx pgx.Tx) (err error) {
		items, err = OpenItems(ctx, tx, s.account(words[0]).ID(), words[1:]...)
		return err
	})
	var texts []string
	for _, item := range items {
		ref := item.Ref
		if ref == "" {
			ref = `""`
		}
		texts = append(texts, ref+" "+item.Amount().String())
	}
	return strings.Join(texts, ", ")
}
