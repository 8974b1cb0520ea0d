package livehis

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/ledger"
)

// Admin is the side that no HIS has: JSON on the sandbox's admin port. It plays the
// business systems that open bills and the cashier's drawer, plants faults and
// shows the books.
//
//	POST /his/bills    {"hospital","bill_no","fen","biz_type","patient","operator"}, or {"bills":[…]}: bills that wait to be paid
//	POST /his/close    {"hospital","bill_no"}: an open bill is closed, its number given to somebody else
//	POST /his/serve    {"hospital","bill_no","fen"}: so much of a paid bill was served and cannot be given back
//	POST /his/cash     {"hospital","bill_no","fen","tender":"CASH"|"POS",…}: paid at the window; {"refund":true,"original"}: given back there
//	POST /his/faults   a Fault; returns it with its id
//	GET  /his/faults   those that wait
//	GET  /his/books?hospital=&day=    sums of the day's bookings in fen
//	GET  /his/details?hospital=&day=  the day's details as they are now
func (s *Server) Admin() http.Handler {
	a := control.Admin{Books: s.journal, Refused: ErrRefused}
	change := func(work func(bill) error) http.HandlerFunc {
		return control.Post(a, func(in bill) (bill, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return in, work(in)
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /his/bills", control.Post(a, s.openBills))
	mux.HandleFunc("POST /his/close", change(s.closeBill))
	mux.HandleFunc("POST /his/serve", change(s.serveBill))
	mux.HandleFunc("POST /his/cash", change(s.takeCash))
	mux.HandleFunc("POST /his/faults", control.Post(a, s.plant))
	mux.HandleFunc("GET /his/faults", a.Ask(func(*http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.DeleteFunc(s.faults.List(), s.over), nil
	}))
	mux.HandleFunc("GET /his/books", a.Ask(func(r *http.Request) (any, error) { return s.Sums(r.FormValue("hospital"), r.FormValue("day")) }))
	mux.HandleFunc("GET /his/details", func(w http.ResponseWriter, r *http.Request) {
		file, err := s.detailsNow(r.FormValue("hospital"), r.FormValue("day"))
		if err != nil {
			a.Show(w, nil, err)
			return
		}
		_, _ = w.Write(file) // a client that went away is no fault of ours
	})
	return mux
}

var (
	billNumber = regexp.MustCompile(`^[0-9A-Za-z_.:-]{1,64}$`)
	businesses = regexp.MustCompile(`^(REGISTRATION|OUTPATIENT|INPATIENT_DEPOSIT|DISCHARGE|CHECKUP|CARD_TOPUP)$`)
)

// bills are one bill or several.
type bills struct {
	bill
	Bills []bill `json:"bills"`
}

// openBills opens all of the bills, or none.
func (s *Server) openBills(in bills) (map[string]int, error) {
	list, seen := in.Bills, map[string]bool{}
	if len(list) == 0 {
		list = []bill{in.bill}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range list {
		h, err := s.coded(b.Hospital)
		switch {
		case err != nil:
			return nil, err
		case !billNumber.MatchString(b.No) || b.Fen <= 0 || !businesses.MatchString(b.Biz):
			return nil, fmt.Errorf("%w: bill %q: bill_no, fen or biz_type is missing or wrong", ErrRefused, b.No)
		case h.bills[b.No] != nil || seen[b.Hospital+"/"+b.No]:
			return nil, fmt.Errorf("%w: bill %s of hospital %s is there", ErrRefused, b.No, b.Hospital)
		}
		seen[b.Hospital+"/"+b.No] = true
	}
	for _, b := range list {
		s.putBill(bill{Hospital: b.Hospital, No: b.No, Fen: b.Fen, Biz: b.Biz, Patient: b.Patient, Operator: b.Operator, State: stateOpen})
	}
	return map[string]int{"opened": len(list)}, nil
}

// found finds a bill in the state.
func (s *Server) found(in bill, want state) (bill, error) {
	h, err := s.coded(in.Hospital)
	if err != nil {
		return bill{}, err
	}
	b := h.bills[in.No]
	if b == nil || b.State != want {
		return bill{}, fmt.Errorf("%w: bill %s of hospital %s is not %s", ErrRefused, in.No, in.Hospital, want)
	}
	return *b, nil
}

func (s *Server) closeBill(in bill) error {
	b, err := s.found(in, stateOpen)
	if err == nil {
		b.State = stateClosed
		s.putBill(b)
	}
	return err
}

func (s *Server) serveBill(in bill) error {
	b, err := s.found(in, stateBooked)
	switch {
	case err != nil:
		return err
	case in.Fen <= 0 || in.Fen > b.refundable():
		return fmt.Errorf("%w: of bill %s %d fen are not served yet", ErrRefused, b.No, b.refundable())
	}
	b.Served += in.Fen
	s.putBill(b)
	return nil
}

// takeCash books what was paid, or given back, at the window.
func (s *Server) takeCash(in bill) error {
	h, err := s.coded(in.Hospital)
	if err != nil {
		return err
	}
	b := bill{Hospital: in.Hospital, No: in.No, Fen: in.Fen, Biz: in.Biz, Patient: in.Patient, Operator: in.Operator, Original: in.Original, Refund: in.Refund}
	if old := h.bills[in.No]; old != nil && old.State == stateOpen && old.Fen == in.Fen && !in.Refund {
		b = *old
	} else if old != nil {
		return fmt.Errorf("%w: bill %s of hospital %s is there, and not open at that amount", ErrRefused, in.No, in.Hospital)
	}
	if !billNumber.MatchString(b.No) || b.Fen <= 0 || !businesses.MatchString(b.Biz) || in.Tender != "CASH" && in.Tender != "POS" {
		return fmt.Errorf("%w: bill_no, fen, biz_type or tender is missing or wrong", ErrRefused)
	}
	b.State, b.Tender, b.Booked, b.Receipt = stateBooked, in.Tender, s.cfg.Now().Unix(), h.last+1
	s.putBill(b)
	return nil
}

// Sums are a hospital's day by its own books, in fen, whatever faults make of the
// details. Electronic is what was paid by channels, Cash what the window took.
type Sums struct {
	Hospital  string     `json:"hospital"`
	Day       ledger.Day `json:"day"`
	Payments  int        `json:"payments"`
	PayFen    int64      `json:"pay_fen"`
	Refunds   int        `json:"refunds"`
	RefundFen int64      `json:"refund_fen"`
	Unwritten int        `json:"unwritten"` // of the refunds: the number was not written back
	CashFen   int64      `json:"cash_fen"`  // less what was given back at the window
	OpenBills int        `json:"open_bills"`
	OpenFen   int64      `json:"open_fen"`
}

// Sums returns the books of a hospital's day.
func (s *Server) Sums(hospital, date string) (Sums, error) {
	day, err := ledger.ParseDay(date)
	if err != nil {
		return Sums{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.coded(hospital)
	if err != nil {
		return Sums{}, err
	}
	sums := Sums{Hospital: hospital, Day: day}
	for _, r := range h.rows[day] {
		switch {
		case r.v != nil:
			sums.Refunds, sums.RefundFen = sums.Refunds+1, sums.RefundFen+r.v.Fen
			if r.v.RefundNo == "" {
				sums.Unwritten++
			}
		case r.b.Order != "":
			sums.Payments, sums.PayFen = sums.Payments+1, sums.PayFen+r.b.Fen
		case r.b.Refund:
			sums.CashFen -= r.b.Fen
		default:
			sums.CashFen += r.b.Fen
		}
	}
	for _, b := range h.bills {
		if b.State == stateOpen {
			sums.OpenBills, sums.OpenFen = sums.OpenBills+1, sums.OpenFen+b.Fen
		}
	}
	return sums, nil
}

func (s *Server) detailsNow(hospital, date string) ([]byte, error) {
	day, err := ledger.ParseDay(date)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.coded(hospital)
	if err != nil {
		return nil, err
	}
	return h.details(day)
}
