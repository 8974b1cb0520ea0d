package live

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/ledger"
)

// The admin API: JSON over HTTP on a port of loopback of its own. It plays the
// payer, plants faults and shows the books; no channel has one.
//
//	POST /faults                  a Fault; returns it with its id
//	GET  /faults                  those that wait
//	POST /pay                     {"merchant","order"} or {"code"}: the payer pays a prepay order; code is what was
//	                              scanned, or the address or order string that was signed for a page or app
//	POST /refund                  {"merchant","order","refund","fen"}: the merchant gives back in the channel's own portal
//	GET  /orders?merchant=&day=   orders paid that day, with their refunds
//	GET  /books?merchant=&day=    sums of the day in fen, and what arrives at the bank
//	POST /abnormal                {"merchant","refund","to"}: an abnormal refund is handled on the merchant platform of
//	                              WeChat Pay: to the payer's other CARD, or to the MERCHANT's bank account
//	POST /notices                 every waiting notice goes out now
//	GET  /keys                    serial numbers and public key IDs of the merchant numbers of WeChat Pay
//	POST /certificates            WeChat Pay's platform certificate is followed by a new one
//	POST /clock                   {"at":"2026-09-16T10:00:00+08:00"}: the shared clock jumps
//	/his/…                        that of HIS: livehis.Server.Admin
//	/bank/…                       that of the bank: livebank.Server.Admin
func (s *Server) admin() http.Handler {
	a := control.Admin{Books: s.journal, Refused: ErrRefused}
	mux := http.NewServeMux()
	mux.Handle("/his/", s.his.Admin())
	if s.bank != nil {
		mux.Handle("/bank/", s.bank.Admin())
	}
	mux.HandleFunc("POST /faults", control.Post(a, s.Plant))
	mux.HandleFunc("GET /faults", a.Ask(func(*http.Request) (any, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.faults.List(), nil
	}))
	mux.HandleFunc("POST /pay", control.Post(a, s.payAsPayer))
	mux.HandleFunc("POST /refund", control.Post(a, s.refundByHand))
	mux.HandleFunc("GET /orders", a.Ask(func(r *http.Request) (any, error) { return s.Orders(r.FormValue("merchant"), r.FormValue("day")) }))
	mux.HandleFunc("GET /books", a.Ask(func(r *http.Request) (any, error) { return s.Sums(r.FormValue("merchant"), r.FormValue("day")) }))
	mux.HandleFunc("POST /abnormal", control.Post(a, s.onMerchantPlatform))
	mux.HandleFunc("POST /notices", a.Ask(func(*http.Request) (any, error) { return s.flush(), nil }))
	mux.HandleFunc("GET /keys", a.Ask(func(*http.Request) (any, error) { return s.keysOf(), nil }))
	mux.HandleFunc("POST /certificates", a.Ask(func(*http.Request) (any, error) {
		err := s.keys.rotate()
		return s.keysOf(), err
	}))
	mux.HandleFunc("POST /clock", control.Post(a, s.jump))
	return mux
}

// jump sets the shared clock.
func (s *Server) jump(to struct{ At time.Time }) (any, error) {
	if s.cfg.SetClock == nil {
		return nil, fmt.Errorf("%w: this sandbox has no clock of its own", ErrRefused)
	}
	return to, s.cfg.SetClock(to.At)
}

// payAsPayer is the payer who scans the code or goes on with the prepay order, or
// enters the password.
func (s *Server) payAsPayer(who struct{ Merchant, Order, Code string }) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	var o *order
	if m := s.merchants[who.Merchant]; m != nil {
		o = m.orders[who.Order]
	}
	var seq int
	if _, err := fmt.Sscanf(who.Code, "weixin://wxpay/bizpayurl?pr=%d", &seq); err == nil && seq > 0 && seq < len(s.bySeq) {
		o = s.bySeq[seq]
	}
	if o == nil && who.Code != "" {
		o = s.scans(who.Code)
	}
	if o == nil || o.State != stateWaiting && o.State != statePassword && (o.State != stateOffered || s.cfg.Now().Unix() >= o.Expires) {
		return nil, fmt.Errorf("%w: no order waits for a payer there", ErrRefused)
	}
	s.pay(o, s.cfg.Now().Unix())
	return who, nil
}

// flush sends every waiting notice now.
func (s *Server) flush() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := make([]*notice, 0, len(s.notices))
	for _, n := range s.notices {
		waiting = append(waiting, n)
	}
	for _, n := range waiting {
		image := *n
		image.Next = s.cfg.Now().Unix()
		s.journal.Keep("notice", &image)
		s.applyNotice(&image)
	}
	return len(waiting)
}

// Sums are the books of a merchant number's day, in fen.
type Sums struct {
	Merchant   string       `json:"merchant"`
	Day        ledger.Day   `json:"day"`
	Payments   int          `json:"payments"`
	PayFen     int64        `json:"pay_fen"`
	FeeFen     int64        `json:"fee_fen"`
	Refunds    int          `json:"refunds"` // reversals among them
	RefundFen  int64        `json:"refund_fen"`
	FeeBackFen int64        `json:"fee_back_fen"`
	Opening    int64        `json:"opening_fen"`
	Closing    int64        `json:"closing_fen"`
	PaidOut    int64        `json:"paid_out_fen"` // of the closing balance, once it is
	Arriving   []Settlement `json:"arriving"`     // at the bank on the day after the next morning's payout
}

// Sums returns the books of a merchant number's day as its bill will have them.
func (s *Server) Sums(no, date string) (Sums, error) {
	day, err := ledger.ParseDay(date)
	if err != nil {
		return Sums{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	m := s.merchants[no]
	if m == nil {
		return Sums{}, fmt.Errorf("%w: merchant %q is not served", ErrRefused, no)
	}
	sums := Sums{Merchant: no, Day: day, Opening: m.closing(day.Add(-1)), Closing: m.closing(day), PaidOut: m.paidOut[day],
		Arriving: s.arriving(m.BankAccount, workingDayAfter(day))}
	for _, r := range slices.Concat(m.rows[day.Add(-1)], m.rows[day]) {
		b, ok := m.billRow(r, day)
		switch {
		case !ok:
		case r.r == nil:
			sums.Payments, sums.PayFen, sums.FeeFen = sums.Payments+1, sums.PayFen+b.Amount, sums.FeeFen+b.Fee
		default:
			sums.Refunds, sums.RefundFen, sums.FeeBackFen = sums.Refunds+1, sums.RefundFen+b.Amount, sums.FeeBackFen+b.Fee
		}
	}
	return sums, nil
}

// OrderView is an order as the admin API shows it.
type OrderView struct {
	Order   string      `json:"order"`
	Trade   string      `json:"trade"`
	State   string      `json:"state"`
	Fen     int64       `json:"fen"`
	Paid    time.Time   `json:"paid"`
	Refunds []RefundRow `json:"refunds,omitempty"`
}

// RefundRow is one of its refunds.
type RefundRow struct {
	Refund string `json:"refund"`
	State  string `json:"state"`
	Fen    int64  `json:"fen"`
	Cause  string `json:"cause"` // as the payer reads it
}

// Orders lists the orders paid on a day, in their order.
func (s *Server) Orders(no, date string) ([]OrderView, error) {
	day, err := ledger.ParseDay(date)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	m := s.merchants[no]
	if m == nil {
		return nil, fmt.Errorf("%w: merchant %q is not served", ErrRefused, no)
	}
	list := []OrderView{}
	for _, r := range m.rows[day] {
		if r.r != nil {
			continue
		}
		trade, _ := tradeState(r.o)
		v := OrderView{Order: r.o.No, Trade: r.o.tradeNo(), State: trade, Fen: r.o.Fen, Paid: time.Unix(r.o.Paid, 0).In(ledger.Beijing)}
		for _, back := range r.o.refunds {
			v.Refunds = append(v.Refunds, RefundRow{back.No, string(back.State), back.Fen, back.Cause})
		}
		list = append(list, v)
	}
	return list, nil
}

// Help is what `clearward sandbox --help` says beside its options.
const Help = `The config names merchant numbers and addresses:

    merchants:
      - {no: "1900000109", channel: WECHAT, apps: [wx1], fee_rate: "0.0060", bank_account: "755", retained_fen: 100000}
      - {no: "20880000000000020156", channel: ALIPAY, apps: ["2021000000000001"], fee_rate: "0.0060", bank_account: "755", tails: amount}
    his:
      - {hospital: H1, format: XML}   # at http://HIS/H1, with the secret keys/his-H1.key
    listen: {wechat: "127.0.0.1:8361", alipay: "127.0.0.1:8362", admin: "127.0.0.1:8360"}

The admin address takes JSON and plays everybody else:

    POST /pay      {"merchant","order"} or {"code"}: the payer pays
    POST /refund   {"merchant","order","refund","fen"}: given back in the channel's own portal
    POST /faults   {"do","api","merchant","order","refund","other","commit","seconds","fen","code","times"}: what goes wrong next
    GET  /faults   those that wait
    POST /abnormal {"merchant","refund","to"}: on WeChat Pay's merchant platform an
                   abnormal refund is paid to CARD (the payer's other) or MERCHANT
    POST /notices  every waiting notice goes out now
    GET  /keys     of WeChat Pay v3: serial_no and public_key_id of each merchant number
    POST /certificates  WeChat Pay's platform certificate is followed by a new one
    POST /clock    {"at"}: the clock jumps (CLEARWARD_CLOCK)
    GET  /orders?merchant=&day=   orders paid that day
    GET  /books?merchant=&day=    sums of the day, and what arrives at the bank

    POST /his/bills   {"hospital","bill_no","fen","biz_type"} or {"bills":[…]}: bills that wait to be paid
    POST /his/close   {"hospital","bill_no"}: its number was given to somebody else
    POST /his/serve   {"hospital","bill_no","fen"}: so much cannot be given back any more
    POST /his/cash    {"hospital","bill_no","fen","biz_type","tender"}: paid at the window, CASH or POS
    POST /his/faults  {"do","api","hospital","bill_no","order_no","refund_no","commit","fen","code","times","until"}
    GET  /his/books?hospital=&day=, /his/details?hospital=&day=   what HIS has booked

do, of a call: DELAY DROP HTTP_500 GARBAGE BAD_SIGN ERROR PASSWORD; of a refund:
REFUND_LATE REFUND_ABNORMAL REFUND_CLOSED; of a notice: NOTICE_LOST NOTICE_TWICE
NOTICE_LATE NOTICE_FORGED NOTICE_FOREIGN; of a payment's row in the bills:
BILL_MISSING BILL_AMOUNT BILL_FEE BILL_MIDNIGHT BILL_RESTATED BILL_FOREIGN
BILL_ELSEWHERE (with the number "other"), and of a refund's, with its number "refund",
BILL_MISSING BILL_AMOUNT BILL_FEE BILL_ELSEWHERE; of HIS those of a call but PASSWORD
(ERROR with code AGAIN: ask later), and of its rows
ROW_MISSING ROW_AMOUNT ROW_TWICE ROW_NEXT_DAY ROW_CASH ROW_UNKEYED ROW_FOREIGN.

With tails: amount (or code) the last two digits in fen (or of the payment code) ask
for one: 02 the password after 10 s, 03 never, 04 a system error though paid, 05 and
not paid, 06 the connection breaks after it was paid, 07 not enough money, 08 the
answer is wrongly signed, 09 the notice comes twice, of a refund 10 it takes 60 s,
11 it cannot be paid out.`
