package pay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// A channel with books of its own, which answers the truth, or nothing, or dies
// with the caller before or after it has booked. What it holds is the oracle.
type channelBook struct {
	gateway
	draw    *rand.Rand
	orders  map[string]*booked
	refunds map[string]*bookedRefund
	amounts map[string]ledger.Money
	calm    bool // no more faults
}

type booked struct {
	amount, refunded       ledger.Money
	paid, closed, reversed bool
}

type bookedRefund struct {
	order       string
	amount      ledger.Money
	done, ended bool
}

// errCrash is what a process that dies says: nothing; the test catches it.
var errCrash = errors.New("crash")

func (c *channelBook) Gateway(string, string) (channels.Gateway, error) { return c, nil }
func (c *channelBook) HIS(string) (channels.HISGateway, error)          { return his{c.outside}, nil }

func (c *channelBook) chance(percent int) bool { return !c.calm && c.draw.IntN(100) < percent }

// fault may kill the caller, and says whether the answer is lost.
func (c *channelBook) fault() bool {
	if c.chance(8) {
		panic(errCrash)
	}
	return c.chance(20)
}

func (c *channelBook) Pay(_ context.Context, r channels.PayRequest) channels.PayAnswer {
	c.amounts[r.OrderNo] = r.Amount
	if c.fault() {
		return unknown // it never arrived
	}
	c.orders[r.OrderNo] = &booked{amount: r.Amount, paid: c.chance(60)}
	if c.fault() {
		return unknown
	}
	return c.say(r.OrderNo)
}

func (c *channelBook) say(no string) channels.PayAnswer {
	o := c.orders[no]
	switch {
	case o == nil:
		return channels.PayAnswer{Outcome: channels.OutcomeUnknown, OrderNo: no, Absent: true}
	case o.reversed:
		return channels.PayAnswer{Outcome: channels.OutcomeFailed, OrderNo: no, Reversed: true, Refunded: o.paid}
	case o.paid:
		return withOrder(paid(o.amount), no)
	case o.closed:
		return channels.PayAnswer{Outcome: channels.OutcomeFailed, OrderNo: no, Closed: true}
	}
	return withOrder(pending, no)
}

func (c *channelBook) Query(_ context.Context, no string) channels.PayAnswer {
	if c.fault() {
		return unknown
	}
	return c.say(no)
}

func (c *channelBook) Reverse(_ context.Context, no string) channels.PayAnswer {
	if c.fault() {
		return unknown
	}
	if c.orders[no] == nil {
		c.orders[no] = &booked{amount: c.amounts[no]}
	}
	if o := c.orders[no]; !o.reversed {
		o.reversed = true
		if o.paid {
			o.refunded = o.amount
		}
	}
	if c.fault() {
		return unknown
	}
	return c.say(no)
}

func (c *channelBook) Close(_ context.Context, no string) channels.PayAnswer {
	if c.fault() {
		return unknown
	}
	if o := c.orders[no]; o == nil {
		c.orders[no] = &booked{amount: c.amounts[no], closed: true}
	} else if !o.paid {
		o.closed = true
	}
	return c.say(no)
}

func (c *channelBook) Refund(_ context.Context, r channels.RefundRequest) channels.RefundAnswer {
	if c.fault() {
		return channels.RefundAnswer{Outcome: channels.OutcomeUnknown}
	}
	if c.refunds[r.RefundNo] == nil {
		if c.chance(15) {
			return channels.RefundAnswer{Outcome: channels.OutcomeFailed, Retry: true, Reason: channels.Reason{Kind: channels.ReasonMerchantFunds}}
		}
		o := c.orders[r.OrderNo]
		if o == nil || !o.paid || o.refunded+r.Amount > o.amount {
			panic(fmt.Sprintf("refund %s of %s is over what order %s holds: %+v", r.RefundNo, r.Amount, r.OrderNo, o))
		}
		o.refunded += r.Amount
		c.refunds[r.RefundNo] = &bookedRefund{order: r.OrderNo, amount: r.Amount, done: c.chance(50)}
	}
	if b := c.refunds[r.RefundNo]; b.amount != r.Amount {
		panic("one refund number with two amounts")
	}
	if c.fault() {
		return channels.RefundAnswer{Outcome: channels.OutcomeUnknown}
	}
	return c.sayRefund(r.RefundNo)
}

func (c *channelBook) sayRefund(no string) channels.RefundAnswer {
	r := c.refunds[no]
	switch {
	case r == nil:
		return channels.RefundAnswer{Outcome: channels.OutcomeUnknown, Absent: true}
	case r.ended:
		return channels.RefundAnswer{Outcome: channels.OutcomeFailed, Closed: true}
	case r.done:
		return channels.RefundAnswer{Outcome: channels.OutcomeSucceeded, Amount: r.amount}
	}
	return channels.RefundAnswer{Outcome: channels.OutcomePending, Amount: r.amount}
}

func (c *channelBook) QueryRefund(_ context.Context, r channels.RefundRequest) channels.RefundAnswer {
	if c.fault() {
		return channels.RefundAnswer{Outcome: channels.OutcomeUnknown}
	}
	if b := c.refunds[r.RefundNo]; b != nil && !b.done && !b.ended {
		if b.done = c.calm || c.chance(60); !b.done && c.chance(40) {
			b.ended = true
			c.orders[b.order].refunded -= b.amount
		}
	}
	return c.sayRefund(r.RefundNo)
}

// model is a desk whose channel is a book, and what was asked of it.
type model struct {
	*desk
	book   *channelBook
	orders []string
	asked  []string // refunds
	n      int
}

// alive does one thing; the process may die in the middle of it.
func (m *model) alive(do func() error) {
	m.t.Helper()
	defer func() {
		if died := recover(); died != nil && died != errCrash {
			panic(died)
		}
	}()
	var refusal ledger.Refusal
	if err := do(); err != nil && !errors.As(err, &refusal) {
		m.t.Fatal(err)
	}
}

// one is Poll for one row at a time in the test's own goroutine, where it may die.
func (m *model) poll() {
	due, err := m.Payments.due(m.t.Context(), "p.next_at", m.now, 100)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, p := range due {
		m.alive(func() error { return m.Payments.act(m.t.Context(), p) })
	}
	refunds, err := m.Refunds.due(m.t.Context(), "r.next_at", m.now, 100)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, r := range refunds {
		m.alive(func() error { _, err := m.advance(m.t.Context(), r); return err })
	}
}

func (m *model) step() {
	draw, ctx := m.book.draw, m.t.Context()
	m.n++
	m.now = m.now.Add(time.Duration(1+draw.IntN(20)) * time.Second)
	some := func(list []string) string {
		if len(list) == 0 {
			return "none"
		}
		return list[draw.IntN(len(list))]
	}
	switch draw.IntN(10) {
	case 0, 1, 2:
		n := codePayment(fmt.Sprint("k", m.n), fmt.Sprint("B", draw.IntN(12)), ledger.Money(100+draw.IntN(20000)))
		if n.Replace = draw.IntN(2) == 0; draw.IntN(2) == 0 {
			n.Way, n.AuthCode = channels.WayQR, ""
		}
		m.orders = append(m.orders, number("HP", ledger.DayOf(m.now), n.App, n.Key))
		for range 1 + draw.IntN(2) { // asked twice is made once
			m.alive(func() error { _, err := m.Payments.Create(ctx, n); return err })
		}
	case 3: // the payer pays, sees the notice or does not
		order := some(m.orders)
		if o := m.book.orders[order]; o != nil && !o.reversed && o.amount > 0 {
			times := draw.IntN(3)
			if o.closed { // it was on its way when the order was closed: only the notice tells
				times++
			}
			for o.paid, o.closed = true, false; times > 0; times-- {
				m.alive(func() error {
					_, err := m.Payments.Notice(ctx, channels.WeChat, "1900000109", channels.Notice{Payment: m.book.say(order)})
					return err
				})
			}
		}
	case 4:
		m.alive(func() error { _, err := m.Payments.Close(ctx, "H1", some(m.orders)); return err })
	case 5:
		word := channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: 1_000_000}
		if draw.IntN(5) == 0 {
			word = channels.HISAnswer{Outcome: channels.OutcomeFailed}
		}
		m.alive(func() error { _, err := m.Acknowledge(ctx, Caller{}, "H1", some(m.orders), word); return err })
	case 6, 7:
		order := some(m.orders)
		p, err := m.Payments.Get(ctx, "H1", order)
		if err != nil {
			return
		}
		amount := max(1, p.Refundable()/ledger.Money(1+draw.IntN(3)))
		m.asked = append(m.asked, number("HR", ledger.DayOf(m.now), "KIOSK", fmt.Sprint("r", m.n)))
		m.alive(func() error { _, err := m.refund(fmt.Sprint("r", m.n), order, amount); return err })
	case 8:
		no, yes := some(m.asked), draw.IntN(4) > 0
		m.alive(func() error { _, err := m.Decide(ctx, "H1", no, "head", yes, ""); return err })
		m.alive(func() error { _, err := m.Reissue(ctx, "H1", no); return err })
	default:
		m.poll()
	}
}

// settle lets everything come to its end without faults; what the channel closed
// goes on under another number.
func (m *model) settle() {
	m.book.calm = true
	for _, no := range m.asked {
		m.alive(func() error { _, err := m.Reissue(m.t.Context(), "H1", no); return err })
	}
	for range 60 {
		m.now = m.now.Add(2 * time.Hour)
		m.poll()
	}
}

// agree compares the channel's books with ours, order by order and in sum.
func (m *model) agree() {
	m.t.Helper()
	var net ledger.Money
	for no, o := range m.book.orders {
		p, err := m.Payments.Get(m.t.Context(), "H1", no)
		if err != nil {
			m.t.Fatal(err)
		}
		if p.Status.open() || (p.Status == Success) != o.paid {
			m.t.Errorf("payment %s is %s, the channel has %+v", no, p.Status, *o)
		}
		if o.paid {
			net += o.amount - o.refunded
		}
		if p.Refunded != o.refunded {
			m.t.Errorf("payment %s has %s given back here, %s at the channel", no, p.Refunded, o.refunded)
		}
	}
	got := m.trial()["1122.WX.1900000109"]
	if got != net {
		m.t.Errorf("1122 is %s, the channel holds %s", got, net)
	}
}

// wide notes the states that the run has met.
func (m *model) wide(met map[string]bool) {
	m.t.Helper()
	rows, err := m.DB.Pool.Query(m.t.Context(), `
		SELECT 'payment ' || status || CASE WHEN late THEN ' late' ELSE '' END FROM payments
		UNION SELECT kind || ' ' || status || ' ' || debit FROM refunds`)
	if err != nil {
		m.t.Fatal(err)
	}
	states, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		m.t.Fatal(err)
	}
	for _, state := range states {
		met[state] = true
	}
}

func TestAfterAnyFaultsTheChannelsBooksAndOursAgree(t *testing.T) {
	seeds, met := []uint64{1, 2, 3, rand.Uint64()}, map[string]bool{}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			k := newDesk(t)
			book := &channelBook{gateway: gateway{k.outside}, draw: rand.New(rand.NewPCG(seed, 0)), orders: map[string]*booked{},
				refunds: map[string]*bookedRefund{}, amounts: map[string]ledger.Money{}}
			k.House.Outside = book
			m := &model{desk: k, book: book}
			for i := range 400 {
				if m.step(); i%100 == 99 {
					m.verify()
				}
			}
			m.settle()
			m.verify()
			m.agree()
			m.wide(met)
		})
	}
	for _, must := range []string{"payment SUCCESS", "payment SUCCESS late", "payment CLOSED", "payment REVERSED", "REFUND SUCCESS J18",
		"REFUND SUCCESS E07", "REFUND SUCCESS ", "REFUND FAILED ", "REFUND CLOSED J18", "REVERSE SUCCESS J22"} {
		if !met[must] { // or the runs prove nothing
			t.Errorf("no run met %q, only %v", must, met)
		}
	}
}
