package livehis

import (
	"fmt"
	"slices"
	"time"

	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/channels/sandbox/control"
)

// Fault is something that goes wrong at the next fitting call, or with a row of
// the details at once. An empty field fits all.
type Fault struct {
	ID       int64     `json:"id"`
	Do       string    `json:"do"`            // one of callFaults or rowFaults; ERROR of the details: they are not made yet
	API      string    `json:"api,omitempty"` // payments/acknowledge, bills/refundable, bills/cancel, refunds/write-back, bills/order, details
	Hospital string    `json:"hospital,omitempty"`
	Bill     string    `json:"bill_no,omitempty"`
	Order    string    `json:"order_no,omitempty"`
	Refund   string    `json:"refund_no,omitempty"` // of a row: the one with which the void was asked
	Commit   bool      `json:"commit,omitempty"`    // the work is done before it goes wrong
	Millis   int64     `json:"millis,omitempty"`    // DELAY, in the machine's time
	Fen      int64     `json:"fen,omitempty"`
	Code     string    `json:"code,omitempty"` // ERROR: the refusal, or AGAIN
	Text     string    `json:"text,omitempty"`
	Times    int       `json:"times,omitempty"` // how often, 0 = once
	Until    time.Time `json:"until,omitzero"`  // every time until then, whatever times says
}

// Faults of rows of the details, by order number, and by refund number where it is
// the row of a void.
const (
	FaultRowMissing = "ROW_MISSING"
	FaultRowAmount  = "ROW_AMOUNT"   // by fen more or less
	FaultRowTwice   = "ROW_TWICE"    // the same row again
	FaultRowNextDay = "ROW_NEXT_DAY" // in the cashier close of the next day
	FaultRowCash    = "ROW_CASH"     // booked as cash, without our numbers
	FaultRowUnkeyed = "ROW_UNKEYED"  // booked anew by hand: without our numbers, under a bill of its own
	FaultRowForeign = "ROW_FOREIGN"  // hospital, order_no, fen: a row that no payment stands behind
)

var (
	callFaults = []string{control.Delay, control.Drop, control.HTTP500, control.Garbage, control.BadSign, control.Error}
	rowFaults  = map[string]func(b *blemish, fen int64){
		FaultRowMissing: func(b *blemish, _ int64) { b.Missing = true },
		FaultRowAmount:  func(b *blemish, fen int64) { b.MoreFen = fen },
		FaultRowTwice:   func(b *blemish, _ int64) { b.Twice = true },
		FaultRowNextDay: func(b *blemish, _ int64) { b.NextDay = true },
		FaultRowCash:    func(b *blemish, _ int64) { b.AsCash = true },
		FaultRowUnkeyed: func(b *blemish, _ int64) { b.Unkeyed = true },
	}
)

// plant makes a fault wait for its call, or changes the row at once.
func (s *Server) plant(f Fault) (Fault, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.Do == FaultRowForeign:
		return f, s.foreign(f)
	case rowFaults[f.Do] != nil:
		return f, s.spoilRow(f)
	case !slices.Contains(callFaults, f.Do):
		return f, fmt.Errorf("%w: fault %q is not known", ErrRefused, f.Do)
	}
	f = s.faults.Add(f)
	s.journal.Keep("fault", &f)
	return f, nil
}

// spoilRow changes the row of a booking, or of a void.
func (s *Server) spoilRow(f Fault) error {
	h, err := s.coded(f.Hospital)
	if err != nil {
		return err
	}
	b := h.orders[f.Order]
	v := h.voids[f.Refund]
	switch {
	case f.Refund != "" && v != nil:
		image := *v
		rowFaults[f.Do](&image.blemish, f.Fen)
		if image.Fen+image.MoreFen <= 0 {
			return fmt.Errorf("%w: nothing would be left of refund %s", ErrRefused, f.Refund)
		}
		s.putVoid(image)
	case f.Refund == "" && b != nil:
		image := *b
		rowFaults[f.Do](&image.blemish, f.Fen)
		if image.Fen+image.MoreFen <= 0 {
			return fmt.Errorf("%w: nothing would be left of bill %s", ErrRefused, b.No)
		}
		s.putBill(image)
	default:
		return fmt.Errorf("%w: order %q, refund %q is not booked", ErrRefused, f.Order, f.Refund)
	}
	return nil
}

// foreign books a bill for a payment that the platform never saw.
func (s *Server) foreign(f Fault) error {
	h, err := s.coded(f.Hospital)
	switch {
	case err != nil:
		return err
	case f.Order == "" || f.Fen <= 0 || h.orders[f.Order] != nil || h.bills["F"+f.Order] != nil:
		return fmt.Errorf("%w: order_no or fen is missing, or the order is booked", ErrRefused)
	}
	s.putBill(bill{Hospital: h.Code, No: "F" + f.Order, Fen: f.Fen, Biz: "OUTPATIENT", Operator: "C01", State: stateBooked, Order: f.Order, Tender: "WECHAT",
		Receipt: h.last + 1, Booked: s.cfg.Now().Unix()})
	return nil
}

func (f *Fault) count() (id *int64, times *int) { return &f.ID, &f.Times }

// over says whether a fault that struck every time until then strikes no more.
func (s *Server) over(f Fault) bool { return !f.Until.IsZero() && !s.cfg.Now().Before(f.Until) }

// take uses up the first fault that fits, under the lock.
func (s *Server) take(api string, r *his.Request) *Fault {
	f := s.faults.First(func(f *Fault) bool {
		return !s.over(*f) && (f.API == "" || f.API == api) && (f.Hospital == "" || f.Hospital == r.Hospital) &&
			(f.Order == "" || f.Order == r.OrderNo) && (f.Bill == "" || f.Bill == r.BillNo)
	})
	if f != nil && f.Until.IsZero() {
		s.journal.Keep("fault", s.faults.Use(f))
	}
	return f
}

// refusal is what ERROR answers.
func (f *Fault) refusal() *his.Answer {
	if f.Code == his.ResultAgain {
		return &his.Answer{Result: his.ResultAgain, Code: "BUSY", Text: f.Text}
	}
	if f.Code == "" {
		return refuse("ERROR", "%s", f.Text)
	}
	return refuse(f.Code, "%s", f.Text)
}
