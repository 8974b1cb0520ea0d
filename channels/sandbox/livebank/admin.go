package livebank

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/ledger"
)

// Admin is the side that no bank has: JSON on the sandbox's admin port. It plays
// everybody else who pays into an account or takes from it, plants faults and shows
// the books.
//
//	POST /bank/faults                  a Fault; returns it with its id
//	GET  /bank/faults                  those that wait
//	POST /bank/credit                  {"account","fen","party","party_account","end_to_end","text","code"}: money arrives
//	POST /bank/debit                   the same: money leaves; code CHRG is a fee of the bank
//	GET  /bank/accounts                balances in fen: booked, and what may leave
//	GET  /bank/transfers?day=          transfers of a day with their states
//	GET  /bank/entries?account=&day=   the rows of a day's statement as they are now
func (s *Server) Admin() http.Handler {
	a := control.Admin{Books: s.journal, Refused: ErrRefused, Strict: true}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /bank/faults", control.Post(a, s.plant))
	mux.HandleFunc("GET /bank/faults", a.Ask(func(*http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.faults.List(), nil
	}))
	mux.HandleFunc("POST /bank/credit", control.Post(a, func(in movement) (movement, error) { return s.move(in, 1) }))
	mux.HandleFunc("POST /bank/debit", control.Post(a, func(in movement) (movement, error) { return s.move(in, -1) }))
	mux.HandleFunc("GET /bank/accounts", a.Ask(func(*http.Request) (any, error) { return s.Accounts(), nil }))
	mux.HandleFunc("GET /bank/transfers", a.Ask(func(r *http.Request) (any, error) { return s.Transfers(r.FormValue("day")) }))
	mux.HandleFunc("GET /bank/entries", a.Ask(func(r *http.Request) (any, error) { return s.Entries(r.FormValue("account"), r.FormValue("day")) }))
	return mux
}

// movement is money that somebody else moves on an account.
type movement struct {
	Account      string `json:"account"`
	Fen          int64  `json:"fen"`
	Party        string `json:"party"`
	PartyAccount string `json:"party_account"`
	EndToEnd     string `json:"end_to_end"`
	Text         string `json:"text"`
	Code         string `json:"code"`          // sub-family of ISO 20022, "" = DMCT
	Ref          string `json:"ref,omitempty"` // the bank's, in the answer
}

// move books a movement; the answer names it as it was asked, with the bank's number.
func (s *Server) move(in movement, sign int64) (movement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	if s.accounts[in.Account] == nil || in.Fen <= 0 {
		return in, fmt.Errorf("%w: account %q is not here, or %d fen is nothing", ErrRefused, in.Account, in.Fen)
	}
	e := entry{Account: in.Account, At: s.cfg.Now().Unix(), Fen: sign * in.Fen, Party: in.Party, PartyAcc: in.PartyAccount, EndToEnd: in.EndToEnd, Text: in.Text}
	if e.Code = "RCDT/" + cmp.Or(in.Code, "DMCT"); sign < 0 {
		e.Code = "ICDT/" + cmp.Or(in.Code, "DMCT")
	}
	e.EndToEnd = cmp.Or(e.EndToEnd, "NOTPROVIDED")
	s.do(change{Entries: []entry{e}})
	in.Ref = s.entries[len(s.entries)-1].bankRef()
	return in, nil
}

// AccountView is an account as the admin API shows it.
type AccountView struct {
	Account
	BookedFen    int64 `json:"booked_fen"`
	AvailableFen int64 `json:"available_fen"`
}

// Accounts lists the accounts with their balances.
func (s *Server) Accounts() []AccountView {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	list := []AccountView{}
	for _, a := range s.cfg.Accounts {
		on := s.accounts[a.No]
		list = append(list, AccountView{a, on.balance, on.balance - on.reserved})
	}
	return list
}

// TransferView is a transfer as the admin API shows it.
type TransferView struct {
	Ref    string    `json:"ref"`
	From   string    `json:"from"`
	To     string    `json:"to"`
	Fen    int64     `json:"fen"`
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Transfers lists the transfers that were asked for a day, by reference.
func (s *Server) Transfers(date string) ([]TransferView, error) {
	day, err := ledger.ParseDay(date)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	list := []TransferView{}
	for _, t := range s.transfers {
		if t.Day == day {
			is := s.status(t)
			list = append(list, TransferView{t.Ref, t.From, t.To, t.Fen, is.Code, is.Reason, is.At})
		}
	}
	slices.SortFunc(list, func(a, b TransferView) int { return strings.Compare(a.Ref, b.Ref) })
	return list, nil
}

// EntryView is a row of a statement.
type EntryView struct {
	Ref      string `json:"ref"`
	Fen      int64  `json:"fen"`
	Party    string `json:"party,omitempty"`
	EndToEnd string `json:"end_to_end"`
	Text     string `json:"text,omitempty"`
	Returned string `json:"returned,omitempty"`
}

// Entries lists the rows of an account's statement of a day as they are now.
func (s *Server) Entries(no, date string) ([]EntryView, error) {
	day, err := ledger.ParseDay(date)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	on := s.accounts[no]
	if on == nil {
		return nil, fmt.Errorf("%w: account %q is not here", ErrRefused, no)
	}
	list := []EntryView{}
	_, rows := on.rows(day)
	for _, e := range rows {
		_, fen, _ := e.row()
		list = append(list, EntryView{e.bankRef(), fen, e.Party, e.EndToEnd, e.Text, e.Returned})
	}
	return list, nil
}
