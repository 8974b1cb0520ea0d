package live

import (
	"container/heap"
	"fmt"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/journal"
	"github.com/clearward/clearward/ledger"
)

// state is how far an order or refund is in the channel's books.
type state string

const (
	stateOffered  state = "OFFERED"  // Alipay: a code is out, and nobody has scanned it: there is no trade
	stateWaiting  state = "WAITING"  // prepay order, not paid
	statePassword state = "PASSWORD" // the payer is entering the password
	statePaid     state = "PAID"
	stateClosed   state = "CLOSED"
	stateReversed state = "REVERSED"
	stateFailed   state = "FAILED"

	refundProcessing state = "PROCESSING"
	refundDone       state = "SUCCESS"
	refundAbnormal   state = "ABNORMAL"
	refundClosed     state = "CLOSED"
)

// order is one order. Its JSON is the record in the journal: the newest image of an
// order is what stands. Times are Unix seconds, amounts fen.
type order struct {
	Merchant string `json:"m"`
	No       string `json:"no"`
	Seq      int64  `json:"seq"`
	Way      string `json:"way"`
	Fen      int64  `json:"fen"`
	State    state  `json:"st"`
	Created  int64  `json:"at"`
	Paid     int64  `json:"paid,omitempty"`
	Expires  int64  `json:"exp,omitempty"`
	PaysAt   int64  `json:"pays,omitempty"` // when the password is in; 0 = never
	App      string `json:"app,omitempty"`
	Subject  string `json:"sub,omitempty"`
	Attach   string `json:"att,omitempty"`
	Notify   string `json:"ntf,omitempty"`
	Device   string `json:"dev,omitempty"`
	Payer    uint32 `json:"by"`
	HMAC     bool   `json:"hmac,omitempty"`  // V2: asked for with HMAC-SHA256, and so are its notices signed
	Buyer    string `json:"buyer,omitempty"` // whom the merchant named, of Alipay
	V3       v3Mode `json:"v3,omitempty"`    // how its notices are signed, of WeChat Pay
	Sub      string `json:"smch,omitempty"`  // sub-merchant of a service provider

	// What a planted fault makes of the payment's row in the bills.
	Missing  bool  `json:"missing,omitempty"`
	Midnight bool  `json:"midnight,omitempty"`
	Restated bool  `json:"restated,omitempty"`
	MoreFen  int64 `json:"more,omitempty"`
	MoreFee  int64 `json:"fee,omitempty"`

	channel string // of its merchant number
	refunds []*refund
}

// refund is one refund, or the reversal of a paid order, with its image in the
// journal.
type refund struct {
	Merchant string `json:"m"`
	Order    string `json:"o"`
	No       string `json:"no"`
	Seq      int64  `json:"seq"`
	Fen      int64  `json:"fen"`
	Fee      int64  `json:"fee"` // given back
	State    state  `json:"st"`
	At       int64  `json:"at"`
	Done     int64  `json:"done,omitempty"`
	DueAt    int64  `json:"due,omitempty"`
	DueState state  `json:"then,omitempty"`
	Notify   string `json:"ntf,omitempty"`
	Cause    string `json:"why,omitempty"`
	Reversal bool   `json:"rev,omitempty"`
	V3       v3Mode `json:"v3,omitempty"`

	// Of an abnormal refund that was applied for: when it became one, when it was
	// applied for, and whom it is paid to.
	Abnormal int64 `json:"abn,omitempty"`
	Applied  int64 `json:"apl,omitempty"`
	To       payee `json:"to,omitempty"`

	// What a planted fault makes of its row in the bills.
	Missing bool  `json:"missing,omitempty"`
	MoreFen int64 `json:"more,omitempty"`
	MoreFee int64 `json:"morefee,omitempty"`

	order *order
}

// row is one movement of a merchant's balance, in the order in which it happened.
type row struct {
	o *order
	r *refund // nil of a payment
}

// merchant is one merchant number with its keys and books.
type merchant struct {
	Merchant
	keys    *merchantKeys
	rate    int64 // fee in hundredths of a percent
	orders  map[string]*order
	refunds map[string]*refund // by key, and by the channel's number
	rows    map[ledger.Day][]row
	closed  map[ledger.Day][]*refund // refunds closed that day
	applied []*refund                // abnormal refunds that were applied for
	net     map[ledger.Day]int64
	balance int64
	paidOut map[ledger.Day]int64 // withdrawn, by the day whose closing balance it was
	settled ledger.Day           // the last such day
	free    map[uint32]uint8     // payments without password of freeDay, by payer
	freeDay ledger.Day
}

func (m *merchant) fee(fen int64) int64 { return (fen*m.rate + 5000) / 10_000 }

// billed are amount and fee of a payment as the bills have them.
func (m *merchant) billed(o *order) (fen, fee int64) {
	if o.Missing {
		return 0, 0
	}
	fen = o.Fen + o.MoreFen
	return fen, m.fee(fen) + o.MoreFee
}

// billDay is the day in whose bills a payment stands.
func (o *order) billDay() ledger.Day {
	day := ledger.DayOf(time.Unix(o.Paid, 0))
	if o.Midnight {
		day = day.Add(1)
	}
	return day
}

func (o *order) refunded() (fen, fee int64) {
	for _, r := range o.refunds {
		if r.State != refundClosed {
			fen, fee = fen+r.Fen, fee+r.Fee
		}
	}
	return fen, fee
}

// tradeNo is the channel's number of the payment, refundID that of the refund.
func (o *order) tradeNo() string {
	if o.channel == channels.Alipay {
		return fmt.Sprintf("%s2200140000%010d", ledger.DayOf(time.Unix(o.Created, 0)).Compact(), o.Seq)
	}
	return fmt.Sprintf("4200002345%s%010d", ledger.DayOf(time.Unix(o.Created, 0)).Compact(), o.Seq)
}

func (r *refund) refundID() string {
	return fmt.Sprintf("5030000701%s%011d", ledger.DayOf(time.Unix(r.At, 0)).Compact(), r.Seq)
}

// refundKey tells a refund from the others of a merchant number: Alipay knows its
// number only within the order.
func (m *merchant) refundKey(r *refund) string {
	if m.Channel == channels.Alipay {
		return r.Order + "/" + r.No
	}
	return r.No
}

// kinds are those of the records in books.journal.
func (s *Server) kinds() journal.Kinds {
	return journal.Kinds{
		"order":      journal.Of(s.applyOrder),
		"refund":     journal.Of(s.applyRefund),
		"withdrawal": journal.Of(s.applyWithdrawal),
		"fault":      journal.Of(func(f Fault) error { s.faults.Apply(f); return nil }),
		"notice":     journal.Of(func(n *notice) error { s.applyNotice(n); return nil }),
	}
}

func (s *Server) numbered(no string) (*merchant, error) {
	if m, ok := s.merchants[no]; ok {
		return m, nil
	}
	return nil, fmt.Errorf("%w: the books know merchant number %s, the config does not", ErrRefused, no)
}

// putOrder keeps an order's new image and lets it stand, under the lock.
func (s *Server) putOrder(o order) *order {
	if o.Seq == 0 {
		o.Seq = s.lastOrder + 1
	}
	s.journal.Keep("order", &o)
	s.journal.Fail(s.applyOrder(o))
	return s.merchants[o.Merchant].orders[o.No]
}

func (s *Server) applyOrder(image order) error {
	m, err := s.numbered(image.Merchant)
	if err != nil {
		return err
	}
	s.lastOrder = max(s.lastOrder, image.Seq)
	o := m.orders[image.No]
	if o == nil {
		o = &order{}
		m.orders[image.No] = o
		for int64(len(s.bySeq)) <= image.Seq {
			s.bySeq = append(s.bySeq, nil)
		}
		if s.bySeq[image.Seq] == nil { // else it stands in the bill of another number
			s.bySeq[image.Seq] = o
		}
	}
	s.weigh(m, o, -1)
	first := o.Paid == 0 && image.Paid > 0
	refunds := o.refunds
	*o = image
	o.refunds, o.channel = refunds, m.Channel
	for _, text := range []*string{&o.Merchant, &o.Way, &o.App, &o.Subject, &o.Notify, &o.Device, &o.Attach, &o.Buyer} {
		*text = s.interned(*text)
	}
	s.weigh(m, o, 1)
	if first {
		day := ledger.DayOf(time.Unix(o.Paid, 0))
		m.rows[day] = append(m.rows[day], row{o: o})
	}
	if o.State == statePassword && o.PaysAt > 0 {
		heap.Push(&s.due, due{at: o.PaysAt, o: o})
	}
	if (o.State == stateWaiting || o.State == statePassword) && o.Expires > 0 {
		heap.Push(&s.due, due{at: o.Expires, o: o})
	}
	return nil
}

// weigh adds a paid order to the balance, or takes it off again.
func (s *Server) weigh(m *merchant, o *order, sign int64) {
	if o.Paid == 0 {
		return
	}
	fen, fee := m.billed(o)
	m.balance += sign * (fen - fee)
	m.net[o.billDay()] += sign * (fen - fee)
}

// interned keeps one copy of texts that many orders share.
func (s *Server) interned(text string) string {
	if one, ok := s.texts[text]; ok {
		return one
	}
	if len(s.texts) < 10_000 {
		s.texts[text] = text
	}
	return text
}

// putRefund keeps a refund's new image and lets it stand, under the lock.
func (s *Server) putRefund(r refund) *refund {
	if r.Seq == 0 {
		r.Seq = s.lastRefund + 1
	}
	s.journal.Keep("refund", &r)
	s.journal.Fail(s.applyRefund(r))
	m := s.merchants[r.Merchant]
	return m.refunds[m.refundKey(&r)]
}

func (s *Server) applyRefund(image refund) error {
	m, err := s.numbered(image.Merchant)
	if err != nil {
		return err
	}
	o := m.orders[image.Order]
	if o == nil {
		return fmt.Errorf("%w: refund %s of order %s, which the books do not have", ErrRefused, image.No, image.Order)
	}
	s.lastRefund = max(s.lastRefund, image.Seq)
	key := m.refundKey(&image)
	r := m.refunds[key]
	wasClosed, wasApplied := r != nil && r.State == refundClosed, r != nil && r.Applied > 0
	if r == nil {
		r = &refund{}
		m.refunds[key] = r
		o.refunds = append(o.refunds, r)
		day := ledger.DayOf(time.Unix(image.At, 0))
		m.rows[day] = append(m.rows[day], row{o: o, r: r})
	}
	m.weighBack(r, -1)
	*r = image
	m.weighBack(r, 1)
	m.refunds[r.refundID()] = r
	r.order, r.Merchant, r.Order, r.Notify = o, o.Merchant, o.No, s.interned(image.Notify)
	if r.State == refundClosed && !wasClosed {
		day := ledger.DayOf(time.Unix(image.Done, 0))
		m.closed[day] = append(m.closed[day], r)
	}
	if r.Applied > 0 && !wasApplied {
		m.applied = append(m.applied, r)
	}
	if r.State == refundProcessing && r.DueAt > 0 {
		heap.Push(&s.due, due{at: r.DueAt, r: r})
	}
	return nil
}

// billed are amount and fee of a refund as the bills have them.
func (r *refund) billed() (fen, fee int64) {
	if r.Missing {
		return 0, 0
	}
	return r.Fen + r.MoreFen, r.Fee + r.MoreFee
}

// weighBack takes a refund off the balance, or adds it again; one that was closed came
// back to it.
func (m *merchant) weighBack(r *refund, sign int64) {
	if r.At == 0 {
		return
	}
	fen, fee := r.billed()
	m.move(ledger.DayOf(time.Unix(r.At, 0)), sign*(fee-fen))
	if r.State == refundClosed {
		m.move(ledger.DayOf(time.Unix(r.Done, 0)), sign*(fen-fee))
	}
}

func (m *merchant) move(day ledger.Day, fen int64) {
	m.balance += fen
	m.net[day] += fen
}

// due is something that happens by itself at a time.
type due struct {
	at int64
	o  *order
	r  *refund
	n  *notice
}

// queue is a heap of what is due, the earliest first.
type queue []due

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(due)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// advance lets happen what is due by now, under the lock.
func (s *Server) advance() {
	now := s.cfg.Now().Unix()
	for len(s.due) > 0 && s.due[0].at <= now {
		d := heap.Pop(&s.due).(due)
		s.settleUntil(d.at)
		switch {
		case d.o != nil && d.o.State == statePassword && d.o.PaysAt == d.at:
			s.pay(d.o, d.at)
		case d.o != nil && (d.o.State == stateWaiting || d.o.State == statePassword) && d.o.Expires == d.at:
			image := *d.o
			image.State = stateClosed
			s.putOrder(image)
		case d.r != nil && d.r.State == refundProcessing && d.r.DueAt == d.at:
			s.finishRefund(d.r, d.at)
		case d.n != nil && !d.n.Done && d.n.Next == d.at:
			s.sending = append(s.sending, d.n)
		}
	}
	s.settleUntil(now)
}

// pay books the payer's money and queues the notice.
func (s *Server) pay(o *order, at int64) *order {
	image := *o
	image.State, image.Paid = statePaid, at
	o = s.putOrder(image)
	s.announce(s.merchants[o.Merchant], o, nil, at)
	return o
}

func (s *Server) finishRefund(r *refund, at int64) {
	image := *r
	image.State, image.Done = r.DueState, at
	r = s.putRefund(image)
	s.announce(s.merchants[r.Merchant], r.order, r, at)
}
