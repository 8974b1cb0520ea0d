package clearing

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/clearward/clearward/ledger"
)

// WindowCash is what a cashier's window did with cash: the hospital's own money, kept as
// a memo beside the ledger (spec/accounting.md 3.3).
type WindowCash struct {
	Journal  string // J08a taken, J08b refunded, J09a handed in (日结), J09b at the bank
	Hospital string
	Cashier  string // 收费员; of J09b nobody's
	Amount   ledger.Money
	Day      ledger.Day // the business day on which it counts
	Ref      string     // 票据号 or 日结号
	Maker    string     // who says so
}

// cashJournals are all that may be posted so. Every other journal belongs to a
// payment, a refund, a settlement, a payout or a case, and is posted with it.
var cashJournals = []string{"J08a", "J08b", "J09a", "J09b"}

// ErrCash is the refusal of an entry that is not about a window's cash.
var ErrCash = ledger.Refusal{Code: "NOT_CASH"}

// canon is the canonical form of the request, version 1.
func (c *WindowCash) canon() []byte {
	text, err := json.Marshal(struct {
		Journal  string `json:"journal"`
		Hospital string `json:"hospital"`
		Cashier  string `json:"cashier"`
		Amount   int64  `json:"amount_fen"`
		Day      string `json:"day"`
		Ref      string `json:"ref"`
	}{c.Journal, c.Hospital, c.Cashier, int64(c.Amount), c.Day.String(), c.Ref})
	if err != nil {
		panic(err) // texts and a number always encode
	}
	return text
}

// refuse says which field breaks which rule, nil where none does.
func (c *WindowCash) refuse() error {
	switch {
	case !slices.Contains(cashJournals, c.Journal):
		return ErrCash.Because("journal", "%q is none of %v: other journals are posted with the payment, refund, settlement or case that they are about", c.Journal, cashJournals)
	case c.Amount <= 0:
		return ErrCash.Because("amount_fen", "%d fen must be above zero", c.Amount)
	case c.Day <= 0:
		return ErrCash.Because("day", "the business day is missing")
	case c.Ref == "":
		return ErrCash.Because("ref", "the number of the receipt (票据号) or of the cashier's close (日结号) is missing")
	case c.Cashier == "" && c.Journal != "J09b":
		return ErrCash.Because("cashier", "%s names the cashier whose drawer it is", c.Journal)
	}
	return nil
}

// cashVerb posts what windows did.
var cashVerb = &ledger.Verb[WindowCash]{Name: "clearing.cash", Run: func(_ context.Context, b *ledger.Batch, cmds []WindowCash) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	for i := range cmds {
		outcomes[i].Entry, outcomes[i].Err = cmds[i].post(b)
	}
	return outcomes
}}

func (c *WindowCash) post(b *ledger.Batch) (ledger.EntryID, error) {
	if err := c.refuse(); err != nil {
		return ledger.EntryID{}, err
	}
	e := Event{Hospital: &Hospital{Code: c.Hospital}, Day: c.Day, Amount: c.Amount, Cashier: c.Cashier, BankRef: c.Ref, Maker: c.Maker}
	entry, err := NewEntry(e, c.Journal)
	if err != nil {
		return ledger.EntryID{}, ErrCash.Because("journal", "%v", err)
	}
	return b.Post(entry)
}

// PostCash posts what windows did, each under its own key of the scope: the same
// key with the same request is answered again as before, with another request it
// is a conflict that names the field. The outcomes are in the order of the
// requests; a refusal of one keeps no other back. The hospital and the day that
// cash belongs to are the caller's to know.
func PostCash(ctx context.Context, c *ledger.Committer, scope string, keys []string, all []WindowCash) ([]ledger.Outcome, error) {
	requests := make([]ledger.Request, len(all))
	for i := range all {
		requests[i] = ledger.Request{Scope: scope, Key: keys[i], Form: 1, Canon: all[i].canon()}
	}
	if len(all) == 1 {
		out, err := ledger.Submit(ctx, c, cashVerb, requests[0], all[0])
		return []ledger.Outcome{out}, err
	}
	return ledger.SubmitAll(ctx, c, cashVerb, requests, all)
}
