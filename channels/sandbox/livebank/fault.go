package livebank

import (
	"fmt"
	"slices"
	"strings"

	"github.com/clearward/clearward/channels/sandbox/control"
)

// Fault is something that goes wrong at the next fitting call, transfer or row of a
// statement. An empty field fits all.
type Fault struct {
	ID      int64  `json:"id"`
	Do      string `json:"do"`                // one of callFaults, transferFaults or rowFaults
	API     string `json:"api,omitempty"`     // of a call: transfer, query, balance, statement, receipt
	Ref     string `json:"ref,omitempty"`     // of a transfer; of a row also its EndToEndId or the bank's number
	Account string `json:"account,omitempty"` // ours
	Party   string `json:"party,omitempty"`   // account of the other side
	Text    string `json:"text,omitempty"`    // of a row: it stands in its text, such as a merchant number
	Commit  bool   `json:"commit,omitempty"`  // the work is done before it goes wrong
	Millis  int64  `json:"millis,omitempty"`  // DELAY, in the machine's time
	Seconds int64  `json:"seconds,omitempty"` // SLOW, REJECT
	Fen     int64  `json:"fen,omitempty"`     // ROW_AMOUNT: more or less
	Code    string `json:"code,omitempty"`    // REJECT, RETURN: of ISO 20022, AC01 where it is not said; SLOW: PATC, a person of the bank looks
	Times   int    `json:"times,omitempty"`   // how often, 0 = once
}

// Faults of transfers.
const (
	FaultReject = "REJECT" // at once, or after so many seconds of being accepted
	FaultReturn = "RETURN" // it succeeds, and comes back the next day
	FaultSlow   = "SLOW"   // it is accepted for so long
)

// Faults of rows of a statement. The bank's balance does not follow, the balances
// of the statement do.
const (
	FaultRowMissing = "ROW_MISSING"
	FaultRowAmount  = "ROW_AMOUNT"
	FaultRowLate    = "ROW_LATE" // it stands in the next day's
)

var (
	callFaults     = []string{control.Delay, control.Drop, control.HTTP500, control.Garbage, control.BadSign}
	transferFaults = []string{FaultReject, FaultReturn, FaultSlow}
	rowFaults      = map[string]func(e *entry, fen int64){
		FaultRowMissing: func(e *entry, _ int64) { e.Missing = true },
		FaultRowAmount:  func(e *entry, fen int64) { e.MoreFen = fen },
		FaultRowLate:    func(e *entry, _ int64) { e.Late = true },
	}
)

// plant makes a fault wait for its turn, or changes at once what is there already:
// a row that was booked, a transfer that succeeded and is to come back.
func (s *Server) plant(f Fault) (Fault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	if rowFaults[f.Do] == nil && !slices.Contains(slices.Concat(callFaults, transferFaults), f.Do) {
		return f, fmt.Errorf("%w: fault %q is not known", ErrRefused, f.Do)
	}
	if rowFaults[f.Do] != nil && s.spoilRow(f) {
		return f, nil
	}
	if t := s.transfers[f.Ref]; f.Do == FaultReturn && t != nil {
		return f, s.comesBack(t, f.Code)
	}
	f = s.faults.Add(f)
	s.do(change{Faults: []Fault{f}})
	return f, nil
}

// comesBack makes a transfer come back that has not been rejected.
func (s *Server) comesBack(was *transfer, code string) error {
	t := *was
	if t.Return = code; code == "" {
		t.Return = "AC01"
	}
	switch t.State {
	case stateDone:
		t.Then, t.DueAt = stateReturned, max(comingBack(t.At), s.cfg.Now().Unix())
	case stateAccepted, stateApproval:
	default:
		return fmt.Errorf("%w: transfer %s is %s and cannot come back", ErrRefused, t.Ref, t.State)
	}
	s.do(change{Transfer: &t})
	return nil
}

// spoilRow changes the newest row that fits; false where none is booked yet.
func (s *Server) spoilRow(f Fault) bool {
	for _, e := range slices.Backward(s.entries) {
		if f.Ref != "" && f.fits(e.about()) {
			image := *e
			rowFaults[f.Do](&image, f.Fen)
			s.do(change{Entries: []entry{image}})
			return true
		}
	}
	return false
}

// blemish lets a waiting fault change the row of an entry that is being booked, and
// returns the fault's new image.
func (s *Server) blemish(e *entry) []Fault {
	f := s.faults.First(func(f *Fault) bool { return rowFaults[f.Do] != nil && f.fits(e.about()) })
	if f == nil {
		return nil
	}
	rowFaults[f.Do](e, f.Fen)
	return []Fault{*s.faults.Use(f)} // another entry of the same change must not meet it
}

func (f *Fault) count() (id *int64, times *int) { return &f.ID, &f.Times }

// about is what a fault is matched with.
type about struct {
	api, account, party, text, ref, bankRef string
}

func (e *entry) about() about {
	return about{account: e.Account, party: e.PartyAcc, text: e.Text, ref: e.EndToEnd, bankRef: e.bankRef()}
}

func (f *Fault) fits(a about) bool {
	return (f.API == "" || f.API == a.api) && (f.Ref == "" || f.Ref == a.ref || f.Ref == a.bankRef) && (f.Account == "" || f.Account == a.account) &&
		(f.Party == "" || f.Party == a.party) && (f.Text == "" || strings.Contains(a.text, f.Text))
}

// take uses up the first fault of these kinds that fits, under the lock.
func (s *Server) take(kinds []string, a about) *Fault {
	f := s.faults.First(func(f *Fault) bool { return slices.Contains(kinds, f.Do) && f.fits(a) })
	if f != nil {
		s.do(change{Faults: []Fault{*s.faults.Use(f)}})
	}
	return f
}
