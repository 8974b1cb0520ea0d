package live

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

// billSecond is ten o'clock, from when the bills of the day before are there.
const billSecond = 36_000

// serveBill answers downloadbill and downloadfundflow: text or gzip, or an error in
// XML that nobody signs.
func (s *Server) serveBill(w http.ResponseWriter, r *http.Request, fund bool) {
	c, text := s.readV2(r)
	if text != "" {
		write(w, wechat.Message{"return_code": "FAIL", "return_msg": "SIGN ERROR", "error_code": "20001"})
		return
	}
	refuse := func(text, code string) {
		write(w, wechat.Message{"return_code": "FAIL", "return_msg": text, "error_code": code})
	}
	date := c.in["bill_date"]
	day, err := time.ParseInLocation("20060102", date, ledger.Beijing)
	switch {
	case err != nil:
		refuse("data format error", "20001")
		return
	case fund && (!c.cert || c.kind != wechat.SignHMAC):
		refuse("SIGN ERROR", "20001")
		return
	case fund && c.in["account_type"] != "Basic", !fund && c.in["bill_type"] != "" && c.in["bill_type"] != "ALL":
		refuse("invalid bill_type", "20001")
		return
	}
	s.mu.Lock()
	s.advance()
	f := s.take(callFaults, "bill", c.m.No, "")
	s.mu.Unlock()
	switch {
	case f == nil:
	case f.Do == FaultDelay:
		control.Strike(w, r, f.Do, f.Millis)
	default:
		s.answer(w, r, c, f, failed("SYSTEMERROR", "system error"))
		return
	}
	file, err := s.bill(c.m, ledger.DayOf(day), fund)
	switch {
	case err == errCreating:
		refuse("Bill Creating", "20003")
	case err == errNoBill:
		refuse("No Bill Exist", "20002")
	case err != nil:
		refuse("system error", "100")
	default:
		defer file.Close()
		sendFile(w, file, c.in["tar_type"] == "GZIP")
	}
}

func sendFile(w http.ResponseWriter, file io.Reader, packed bool) {
	if !packed {
		_, _ = io.Copy(w, file) // a client that went away is no fault of ours
		return
	}
	w.Header().Set("Content-Type", "application/x-gzip")
	zip := gzip.NewWriter(w)
	_, _ = io.Copy(zip, file)
	_ = zip.Close()
}

var (
	errCreating = fmt.Errorf("%w: the bill is made at ten", ErrRefused)
	errNoBill   = fmt.Errorf("%w: nothing happened that day", ErrRefused)
)

// bill writes a day's bills from the books and opens one of them.
func (s *Server) bill(m *merchant, day ledger.Day, fund bool) (*os.File, error) {
	s.mu.Lock()
	bill, err := s.billOf(m, day)
	s.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case len(bill.Rows) == 0 && (!fund || bill.Opening <= bill.Retained):
		return nil, errNoBill
	}
	dir, err := os.MkdirTemp(s.cfg.Dir, "bill-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is open stays readable
	writeBill := sandbox.WriteWeChatBill
	if m.Channel == channels.Alipay {
		writeBill = sandbox.WriteAlipayBill
	}
	trade, funds, closing, err := writeBill(dir, bill)
	if err != nil {
		return nil, err
	}
	if fund {
		s.mu.Lock()
		books := m.closing(day)
		s.mu.Unlock()
		if books != closing {
			return nil, fmt.Errorf("%w: the fund bill of %s closes at %d fen, the books at %d", ErrRefused, day, closing, books)
		}
		trade = funds
	}
	return os.Open(filepath.Clean(trade))
}

// billOf gathers what a day's bills hold, under the lock.
func (s *Server) billOf(m *merchant, day ledger.Day) (sandbox.Bill, error) {
	if s.cfg.Now().Unix() < day.Add(1).Start().Unix()+billSecond {
		return sandbox.Bill{}, errCreating
	}
	bill := sandbox.Bill{App: m.Apps[0], MerchantNo: m.No, Day: day, Rate: m.rate, Opening: m.closing(day.Add(-1)), Retained: m.RetainedFen}
	for _, r := range slices.Concat(m.rows[day.Add(-1)], m.rows[day]) {
		if b, ok := m.billRow(r, day); ok {
			bill.Rows = append(bill.Rows, b)
		}
	}
	for _, r := range m.closed[day] {
		b, _ := m.billRow(row{r.order, r}, day)
		b.At, b.Closed = int(r.Done-day.Start().Unix()), true
		bill.Rows = append(bill.Rows, b)
	}
	slices.SortStableFunc(bill.Rows, func(a, b sandbox.BillRow) int { return a.At - b.At })
	return bill, nil
}

// billRow is a movement as the bill of a day shows it, or false.
func (m *merchant) billRow(r row, day ledger.Day) (sandbox.BillRow, bool) {
	o := r.o
	b := sandbox.BillRow{Kind: channels.Pay, Order: o.No, Trade: o.tradeNo(), Payer: o.Payer, Product: o.Subject, Way: o.Way, Device: o.Device}
	from := day.Start().Unix()
	if r.r == nil {
		b.Amount, b.Fee = m.billed(o)
		b.At = int(o.Paid - from)
		if o.Midnight {
			b.At = 1
		}
		if o.Restated {
			b.Order, b.Trade = b.Order[:min(10, len(b.Order))]+"99999999", b.Trade[:18]+"9999999999"
		}
		return b, o.billDay() == day && !o.Missing
	}
	b.Kind, b.Refund, b.Back = channels.Refund, r.r.No, r.r.refundID()
	if r.r.Reversal {
		b.Kind = channels.Reverse
	}
	b.Amount, b.Fee, b.At, b.Status = r.r.Fen, r.r.Fee, int(r.r.At-from), r.r.billed(from+24*3600+billSecond)
	return b, ledger.DayOf(time.Unix(r.r.At, 0)) == day
}

// billed is 退款状态 of a refund as it stood when the bill was made: what happens
// later is in no bill (spec/channels.md B.1).
func (r *refund) billed(made int64) string {
	switch {
	case r.Applied > made && r.Abnormal <= made:
		return "CHANGE"
	case r.State == refundProcessing || r.Done > made:
		return "PROCESSING"
	case r.State == refundAbnormal:
		return "CHANGE"
	case r.State == refundClosed:
		return "FAIL"
	}
	return ""
}

// spoilBill changes what the bills say of a payment.
func (s *Server) spoilBill(f Fault) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.merchants[f.Merchant]
	if m == nil {
		return fmt.Errorf("%w: merchant %q is not served", ErrRefused, f.Merchant)
	}
	s.advance()
	return s.spoil(m, f)
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
