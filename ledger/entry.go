package ledger

import (
	"errors"
	"fmt"
)

// Leg is one side of a posting: an account and the reference under which the
// amount is an open item there.
type Leg struct {
	Account AccountID
	Ref     string
}

// Posting moves an amount above zero from the credit side to the debit side.
// With one account on each side it cannot be unbalanced.
type Posting struct {
	Debit, Credit Leg
	Amount        Money
}

// EntryID is the place of an entry in the journal: lane, batch, order in it.
type EntryID struct {
	Lane int16
	Seq  int64
	Ord  int16
}

// String prints lane, batch and order: "0/17/3".
func (id EntryID) String() string {
	return fmt.Sprintf("%d/%d/%d", id.Lane, id.Seq, id.Ord)
}

// Head is what an entry says beside its postings.
type Head struct {
	Book     Book
	Kind     string // the journal's ID in the accounting manual, such as "J01"
	Ref      string // the number people know the event by: order, refund, payout, case
	ValueDay Day    // the business day on which the event counts
	Maker    string // who asked for it, a person or a service
	Checker  string // who approved it, "" where none is needed
	CaseID   string // the reconciliation case, "" where none
	Meta     string // further facts as JSON, never read by the ledger; no personal data
}

// Entry is one event in the journal: immutable, with at least one posting. Make
// it with NewEntry or Reverse.
type Entry struct {
	head     Head
	postings []Posting
	reverses EntryID // zero where the entry reverses none
}

// The rules of an entry; each is wrapped with the field that broke it.
var (
	ErrEntry = errors.New("not a journal entry")
)

// NewEntry checks and returns an entry. It refuses an entry without kind, day or
// postings, an amount that is not above zero, the same account on both sides,
// and a posting that leaves the book or crosses from one set to another.
func NewEntry(head Head, postings ...Posting) (Entry, error) {
	switch {
	case head.Kind == "":
		return Entry{}, fmt.Errorf("%w: kind is empty", ErrEntry)
	case head.ValueDay <= 0:
		return Entry{}, fmt.Errorf("%w: value_day is empty", ErrEntry)
	case len(postings) == 0:
		return Entry{}, fmt.Errorf("%w: %s has no posting", ErrEntry, head.Kind)
	}
	for i, p := range postings {
		if err := p.check(head.Book); err != nil {
			return Entry{}, fmt.Errorf("%w: %s posting %d: %w", ErrEntry, head.Kind, i+1, err)
		}
	}
	return Entry{head: head, postings: postings}, nil
}

func (p Posting) check(book Book) error {
	switch {
	case p.Amount <= 0:
		return fmt.Errorf("amount is %d fen, it must be above zero", p.Amount)
	case p.Debit.Account == p.Credit.Account:
		return errors.New("debit and credit are the same account")
	case p.Debit.Account.Book() != book || p.Credit.Account.Book() != book:
		return fmt.Errorf("%v or %v is not in book %d", p.Debit.Account, p.Credit.Account, book)
	case p.Debit.Account>>45 != p.Credit.Account>>45:
		return fmt.Errorf("%v and %v are in two sets: carry it over the pair of own and agency accounts", p.Debit.Account, p.Credit.Account)
	}
	return nil
}

// Reverse returns the entry that cancels e (红冲): the same postings with the
// sides exchanged, naming the entry that it reverses.
func (e Entry) Reverse(of EntryID, head Head) (Entry, error) {
	turned := make([]Posting, len(e.postings))
	for i, p := range e.postings {
		turned[i] = Posting{Debit: p.Credit, Credit: p.Debit, Amount: p.Amount}
	}
	r, err := NewEntry(head, turned...)
	r.reverses = of
	return r, err
}

// Head returns what the entry says beside its postings.
func (e Entry) Head() Head { return e.head }

// Postings returns the postings; the slice is not to be changed.
func (e Entry) Postings() []Posting { return e.postings }

// Reverses returns the entry that this one cancels; the zero id means none.
func (e Entry) Reverses() EntryID { return e.reverses }
