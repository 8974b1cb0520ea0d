package live

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/ledger"
)

// Fault is something that goes wrong at the next fitting call, notice or row of a
// bill. An empty field fits all.
type Fault struct {
	ID       int64  `json:"id"`
	Do       string `json:"do"`            // one of the kinds below
	API      string `json:"api,omitempty"` // of a call: pay, prepay, query, close, reverse, refund, refundquery, abnormal, bill, certificates, and those of bank and HIS
	Merchant string `json:"merchant,omitempty"`
	Order    string `json:"order,omitempty"`  // order number; of bank and HIS their reference
	Refund   string `json:"refund,omitempty"` // of a row of the bills: the refund's, by its number
	Other    string `json:"other,omitempty"`  // BILL_ELSEWHERE: the merchant number that has the money
	Commit   bool   `json:"commit,omitempty"` // the work is done before it goes wrong
	Millis   int64  `json:"millis,omitempty"` // DELAY, in the machine's time
	Seconds  int64  `json:"seconds,omitempty"`
	Fen      int64  `json:"fen,omitempty"`
	Code     string `json:"code,omitempty"` // ERROR: in the channel's own words
	Text     string `json:"text,omitempty"`
	Times    int    `json:"times,omitempty"` // how often, 0 = once
}

// Faults of calls.
const (
	FaultDelay    = control.Delay
	FaultDrop     = control.Drop
	FaultHTTP500  = control.HTTP500
	FaultGarbage  = control.Garbage
	FaultBadSign  = control.BadSign
	FaultError    = control.Error // an error code of the channel; with commit the work is done all the same
	FaultPassword = "PASSWORD"    // pay: the payer is asked for the password; done after seconds, 0 = never
)

// Faults of refunds: how an accepted one goes on after seconds.
const (
	FaultRefundLate     = "REFUND_LATE" // PROCESSING for so long
	FaultRefundAbnormal = "REFUND_ABNORMAL"
	FaultRefundClosed   = "REFUND_CLOSED"
)

// Faults of notices.
const (
	FaultNoticeLost    = "NOTICE_LOST"
	FaultNoticeTwice   = "NOTICE_TWICE" // the second after seconds, behind what comes in between
	FaultNoticeLate    = "NOTICE_LATE"
	FaultNoticeForged  = "NOTICE_FORGED"  // one with a wrong signature comes first
	FaultNoticeForeign = "NOTICE_FOREIGN" // one for another merchant comes first
)

// Faults of a payment's rows in the bills; fund bill and settlement follow, but for
// a restated row, whose sums stay. They are planted by order number before the
// day's money is withdrawn, half past nine of the next day.
const (
	FaultBillMissing  = "BILL_MISSING"
	FaultBillAmount   = "BILL_AMOUNT"   // by fen more or less
	FaultBillFee      = "BILL_FEE"      // by fen more or less
	FaultBillMidnight = "BILL_MIDNIGHT" // in the next day's bill
	FaultBillRestated = "BILL_RESTATED" // from now on the trade bill names another order in its place
	FaultBillForeign  = "BILL_FOREIGN"  // merchant, order, fen: a payment that another business took on the number

	FaultBillElsewhere = "BILL_ELSEWHERE" // merchant, order, other: the money is with another number of the channel, and so is the row
)

var (
	callFaults   = []string{FaultDelay, FaultDrop, FaultHTTP500, FaultGarbage, FaultBadSign, FaultError, FaultPassword}
	refundFaults = []string{FaultRefundLate, FaultRefundAbnormal, FaultRefundClosed}
	noticeFaults = []string{FaultNoticeLost, FaultNoticeTwice, FaultNoticeLate, FaultNoticeForged, FaultNoticeForeign}
	billFaults   = []string{FaultBillMissing, FaultBillAmount, FaultBillFee, FaultBillMidnight, FaultBillRestated, FaultBillForeign, FaultBillElsewhere}
)

// Plant makes a fault wait for its turn, or changes the bill's row at once.
func (s *Server) Plant(f Fault) (Fault, error) {
	if slices.Contains(billFaults, f.Do) {
		return f, errors.Join(s.spoilBill(f), s.journal.Durable())
	}
	if !slices.Contains(slices.Concat(callFaults, refundFaults, noticeFaults), f.Do) {
		return f, fmt.Errorf("%w: fault %q is not known", ErrRefused, f.Do)
	}
	if m := s.merchants[f.Merchant]; m != nil && m.Channel == channels.Alipay && f.Do == FaultRefundClosed {
		return f, fmt.Errorf("%w: Alipay never closes a refund that it accepted", ErrRefused)
	}
	s.mu.Lock()
	f = s.faults.Add(f)
	s.journal.Keep("fault", &f)
	s.mu.Unlock()
	return f, s.journal.Durable()
}

// spoilBill changes what the bills say of a payment, or of a refund.
func (s *Server) spoilBill(f Fault) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.merchants[f.Merchant]
	if m == nil {
		return fmt.Errorf("%w: merchant %q is not served", ErrRefused, f.Merchant)
	}
	s.advance()
	if f.Refund != "" {
		return s.spoilRefund(m, f)
	}
	return s.spoil(m, f)
}

// spoilRefund changes what the bills say of a refund. The money of one can come from
// another number where the money of its payment has gone.
func (s *Server) spoilRefund(m *merchant, f Fault) error {
	r := m.refunds[m.refundKey(&refund{Order: f.Order, No: f.Refund})]
	if r == nil || r.Order != f.Order || r.State == refundClosed || m.settled >= ledger.DayOf(time.Unix(r.At, 0)) || r.Fen+f.Fen <= 0 {
		return fmt.Errorf("%w: refund %q of order %q is not known at %s, is closed or settled, or nothing would be left", ErrRefused, f.Refund, f.Order, m.No)
	}
	image := *r
	switch f.Do {
	case FaultBillMissing:
		image.Missing = true
	case FaultBillAmount:
		image.MoreFen = f.Fen
	case FaultBillFee:
		image.MoreFee = f.Fen
	case FaultBillElsewhere:
		there := s.merchants[f.Other]
		if there == nil || there == m || there.orders[r.Order] == nil || there.refunds[there.refundKey(r)] != nil {
			return fmt.Errorf("%w: refund %s cannot stand in the bill of %q", ErrRefused, f.Refund, f.Other)
		}
		moved := *r
		moved.Merchant, moved.Fee = there.No, there.fee(r.Fen)
		s.putRefund(moved)
		image.Missing = true
	default:
		return fmt.Errorf("%w: %s is no fault of a refund's row", ErrRefused, f.Do)
	}
	s.putRefund(image)
	return nil
}

func (s *Server) spoil(m *merchant, f Fault) error {
	o, now := m.orders[f.Order], s.cfg.Now().Unix()
	if f.Do == FaultBillForeign {
		if o != nil || f.Fen < 1 || !orderNumber.MatchString(f.Order) {
			return fmt.Errorf("%w: a foreign payment needs a new order number and fen above zero", ErrRefused)
		}
		s.putOrder(order{Merchant: m.No, No: f.Order, Way: "NATIVE", Fen: f.Fen, State: statePaid, Created: now, Paid: now, App: m.Apps[0], Subject: "其他业务"})
		return nil
	}
	switch {
	case o == nil || o.Paid == 0:
		return fmt.Errorf("%w: order %q is not paid at %s", ErrRefused, f.Order, m.No)
	case f.Do != FaultBillRestated && (m.settled >= o.billDay() || len(o.refunds) > 0):
		return fmt.Errorf("%w: the money of order %s is settled or refunded", ErrRefused, f.Order)
	}
	image := *o
	switch f.Do {
	case FaultBillElsewhere:
		there := s.merchants[f.Other]
		if there == nil || there == m || there.Channel != m.Channel || there.orders[o.No] != nil || there.settled >= o.billDay() {
			return fmt.Errorf("%w: order %s cannot stand in the bill of %q", ErrRefused, f.Order, f.Other)
		}
		moved := *o
		moved.Merchant, moved.App = there.No, there.Apps[0]
		s.putOrder(moved)
		image.Missing = true
	case FaultBillMissing:
		image.Missing = true
	case FaultBillAmount:
		image.MoreFen = f.Fen
	case FaultBillFee:
		image.MoreFee = f.Fen
	case FaultBillMidnight:
		image.Midnight = true
	case FaultBillRestated:
		image.Restated = true
	}
	s.putOrder(image)
	return nil
}

func (f *Fault) count() (id *int64, times *int) { return &f.ID, &f.Times }

// works says whether what was asked is done in spite of the fault.
func (f *Fault) works() bool { return control.Works(f.Do, f.Commit) || f.Do == FaultPassword }

// take uses up the first fault of these kinds that fits, under the lock.
func (s *Server) take(kinds []string, api, merchant, order string) *Fault {
	f := s.faults.First(func(f *Fault) bool {
		return slices.Contains(kinds, f.Do) && (f.API == "" || f.API == api) && (f.Merchant == "" || f.Merchant == merchant) && (f.Order == "" || f.Order == order)
	})
	if f != nil {
		s.journal.Keep("fault", s.faults.Use(f))
	}
	return f
}

// byTail is the fault that the last two digits of amount or auth code ask for
// (spec/channels.md K.1), where the merchant number has that switched on.
func byTail(m *merchant, api string, fen int64, code string) *Fault {
	tail, system, poor := fen%100, "SYSTEMERROR", "NOTENOUGH"
	if m.Channel == channels.Alipay {
		system, poor = "ACQ.SYSTEM_ERROR", "ACQ.BUYER_BALANCE_NOT_ENOUGH"
	}
	switch m.Tails {
	case "":
		return nil
	case "code":
		if len(code) < 2 {
			return nil
		}
		tail = int64(code[len(code)-2]-'0')*10 + int64(code[len(code)-1]-'0')
	}
	if api == "notice" {
		if tail == 9 {
			return &Fault{Do: FaultNoticeTwice, Seconds: 60}
		}
		return nil
	}
	if api == "refund" {
		switch tail {
		case 10:
			return &Fault{Do: FaultRefundLate, Seconds: 60}
		case 11:
			return &Fault{Do: FaultRefundAbnormal}
		}
		return nil
	}
	switch tail {
	case 2:
		return &Fault{Do: FaultPassword, Seconds: 10}
	case 3:
		return &Fault{Do: FaultPassword}
	case 4:
		return &Fault{Do: FaultError, Code: system, Commit: true}
	case 5:
		return &Fault{Do: FaultError, Code: system}
	case 6:
		return &Fault{Do: FaultDrop, Commit: true}
	case 7:
		return &Fault{Do: FaultError, Code: poor}
	case 8:
		return &Fault{Do: FaultBadSign}
	}
	return nil
}
