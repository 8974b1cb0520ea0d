// Package livebank is a bank with direct connection (银企直联) as a server on
// loopback: transfers, balances, statements and receipts by the contract of
// channels/bank, from books of its own that survive a kill, with faults for whoever
// asks for them.
//
// It shares no sums with clearing and reconciliation, so that its books are an
// independent witness. Amounts are fen.
package livebank

import (
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/clearward/clearward/channels/bank"
	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/channels/sandbox/journal"
	"github.com/clearward/clearward/ledger"
)

// ErrRefused is wrapped by every reason why the sandbox does not do as it is told.
var ErrRefused = errors.New("sandbox bank refuses")

// Config says who has accounts at the bank.
type Config struct {
	Dir      string           `yaml:"-"` // of bank.journal and keys/bank; made where missing
	Now      func() time.Time `yaml:"-"`
	Arriving Arriving         `yaml:"-"` // what channels pay out; nil: nothing

	Customer  string    `yaml:"customer"`   // who may give orders; "" = C1
	BIC       string    `yaml:"bic"`        // "" = CMBCCNBS
	SuccessIn int64     `yaml:"success_in"` // seconds from acceptance to success; 0 = 3
	FeeFen    int64     `yaml:"fee_fen"`    // of each transfer that leaves the bank
	Accounts  []Account `yaml:"accounts"`
}

// Account is one account of the customer.
type Account struct {
	No         string `yaml:"no" json:"account"`
	Name       string `yaml:"name" json:"name"`
	OpeningFen int64  `yaml:"opening_fen" json:"opening_fen"`
}

// Arrival is what a channel pays to an account: out of the balance of a day, or the
// money of an abnormal refund.
type Arrival struct {
	Channel, Merchant string
	Day               ledger.Day
	Fen               int64
	Refund            string // the merchant's number of the refund, "" for the balance
}

// Arriving lists what arrives on an account on a day.
type Arriving func(account string, day ledger.Day) []Arrival

// The ids of the keys in keys/bank.
const (
	CustomerKey = "customer-1"
	BankKey     = "bank-1"
)

// Server is the bank.
type Server struct {
	cfg      Config
	key      *rsa.PrivateKey // the bank's
	customer *rsa.PublicKey
	journal  *journal.Journal

	mu        sync.Mutex
	accounts  map[string]*account
	transfers map[string]*transfer // by the customer's reference
	entries   []*entry             // by sequence number, from 1
	pulled    ledger.Day           // the last day whose arrivals are booked
	faults    control.Waiting[Fault]
	nonces    map[string]time.Time
}

// Open opens the books; it does not listen.
func Open(cfg Config) (*Server, error) {
	cfg.Customer, cfg.BIC, cfg.SuccessIn = cmp.Or(cfg.Customer, "C1"), cmp.Or(cfg.BIC, "CMBCCNBS"), cmp.Or(cfg.SuccessIn, 3)
	s := &Server{cfg: cfg, accounts: map[string]*account{}, transfers: map[string]*transfer{}, nonces: map[string]time.Time{},
		faults: control.NewWaiting((*Fault).count)}
	for _, a := range cfg.Accounts {
		if a.No == "" || a.Name == "" || strings.ContainsAny(a.No, "/. ") || s.accounts[a.No] != nil {
			return nil, fmt.Errorf("%w: account %q has no number or name, or is there twice", ErrRefused, a.No)
		}
		s.accounts[a.No] = &account{Account: a, balance: a.OpeningFen}
	}
	if cfg.SuccessIn < 0 || cfg.FeeFen < 0 {
		return nil, fmt.Errorf("%w: success_in and fee_fen are not below zero", ErrRefused)
	}
	if err := s.openKeys(); err != nil {
		return nil, err
	}
	var err error
	if s.journal, err = journal.Open(filepath.Join(cfg.Dir, "bank.journal"), journal.Kinds{"change": journal.Of(s.apply)}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.advance() // from this day on arrivals are booked
	s.mu.Unlock()
	return s, s.journal.Durable()
}

// Close closes the books. Killing the process does no harm either.
func (s *Server) Close() error { return s.journal.Close() }

// Handler serves the contract.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+bank.PathTransfers, s.call("transfer", (*Server).takeTransfers))
	mux.HandleFunc("GET "+bank.PathTransfers+"/{ref}", s.call("query", (*Server).queryTransfer))
	mux.HandleFunc("POST "+bank.PathReports, s.call("", (*Server).report))
	mux.HandleFunc("GET "+bank.PathReceipts+"/{ref}", s.call("receipt", (*Server).receipt))
	return mux
}

// asked is one call under way, checked. Work may set api and account, by which a
// fault is found.
type asked struct {
	api     string
	ref     string
	body    []byte
	request bank.AccountRequest
	now     int64
}

// clockAway is how far the customer's clock may be off.
const clockAway = 5 * time.Minute

// enter reads a request and checks who gave it; what is wrong is answered unsigned.
func (s *Server) enter(w http.ResponseWriter, r *http.Request, api string) *asked {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	h, now := r.Header, s.cfg.Now()
	at, atErr := time.Parse(time.RFC3339, h.Get(bank.HeaderTimestamp))
	sum := sha256.Sum256(body)
	text := bank.RequestText(r.Method, r.URL.RequestURI(), h.Get(bank.HeaderTimestamp), h.Get(bank.HeaderNonce), sum[:])
	switch {
	case err != nil || atErr != nil || h.Get(bank.HeaderCustomer) != s.cfg.Customer || h.Get(bank.HeaderKeyID) != CustomerKey ||
		bank.Verify(s.customer, text, h.Get(bank.HeaderSignature)) != nil:
		http.Error(w, "not signed by the customer", http.StatusUnauthorized)
		return nil
	case now.Sub(at).Abs() > clockAway:
		http.Error(w, "the clock is more than five minutes away", http.StatusUnauthorized)
		return nil
	case !s.firstTime(h.Get(bank.HeaderNonce), now):
		http.Error(w, "the nonce is empty or was there", http.StatusUnauthorized)
		return nil
	}
	a := &asked{api: api, ref: r.PathValue("ref"), body: body, now: now.Unix()}
	if api == "" {
		a.api = "balance"
		if a.request, err = bank.ReadAccountRequest(body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return nil
		}
		if a.request.Form == bank.FormStatement {
			a.api = "statement"
		}
	}
	return a
}

// firstTime keeps the nonces of the time in which a request could be played again.
func (s *Server) firstTime(nonce string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, at := range s.nonces {
		if now.Sub(at) > 2*clockAway {
			delete(s.nonces, old)
		}
	}
	_, used := s.nonces[nonce]
	s.nonces[nonce] = now
	return nonce != "" && !used
}

// said is an answer: no text with another status than 200.
type said struct {
	status int
	body   []byte
	err    error
}

// call checks a request, does the work under the lock, waits for the disk and
// answers, or does what a fault makes of it.
func (s *Server) call(api string, work func(*Server, *asked) said) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a := s.enter(w, r, api)
		if a == nil {
			return
		}
		s.mu.Lock()
		s.advance()
		f := s.take(callFaults, about{api: a.api, ref: a.ref, account: a.request.Account})
		if f == nil {
			f = &Fault{}
		}
		answer := said{status: http.StatusInternalServerError}
		if control.Works(f.Do, f.Commit) {
			answer = work(s, a)
		}
		s.mu.Unlock()
		if err := errors.Join(answer.err, s.journal.Durable()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if control.Strike(w, r, f.Do, f.Millis) {
			return
		}
		s.sign(w, r, f, answer)
	}
}

func (s *Server) sign(w http.ResponseWriter, r *http.Request, f *Fault, answer said) {
	body := answer.body
	if f.Do == control.Garbage {
		answer.status, body = http.StatusOK, append([]byte(xml.Header), "<Document><CstmrPmtSts"...)
	}
	err := bank.SignAnswer(w.Header(), s.key, BankKey, answer.status, r.Header.Get(bank.HeaderNonce), s.cfg.Now(), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if f.Do == control.BadSign {
		w.Header().Set(bank.HeaderTimestamp, s.cfg.Now().Add(time.Second).UTC().Format(time.RFC3339))
	}
	w.Header().Set("Content-Type", "application/xml; charset=utf-8")
	w.WriteHeader(answer.status)
	_, _ = w.Write(body) // a client that went away is no fault of ours
}
