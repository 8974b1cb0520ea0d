package features_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/ledger"
	ledgerv1 "github.com/clearward/clearward/proto/clearward/ledger/v1"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// The states in which nothing more happens.
var (
	paidEnds = []string{"SUCCESS", "FAILED", "CLOSED", "REVERSED"}
	backEnds = []string{"FAILED", "CLOSED"} // and SUCCESS, once the payer has the money
)

// outside has a payer or a person on the channel's merchant platform do something, if
// the channel lets them.
func (c *cycles) outside(path string, what map[string]string) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	answer, err := http.Post(c.sandbox.Addresses.Admin+path, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// last is the newest notice about a number, nil where there was none.
func (c *cycles) last(number string) *sdk.Notice {
	told, _ := c.noticed(number)
	if len(told) == 0 {
		return nil
	}
	n := slices.MaxFunc(told, func(a, b sdk.Notice) int { return cmp.Compare(a.Version, b.Version) })
	return &n
}

// end is what the API says of a payment and its refund.
type end struct {
	paid *payv1.Payment
	back *payv1.Refund // nil where none was asked for
}

func (c *cycles) end(v *seen) (e end, err error) {
	p, err := again(c.t.Context(), c.app.Payments.GetPayment, &payv1.GetPaymentRequest{Hospital: v.hospital, OrderNo: v.orderNo})
	if e.paid = p.GetPayment(); err != nil || v.refundNo == "" {
		return e, err
	}
	r, err := again(c.t.Context(), c.app.Refunds.GetRefund, &payv1.GetRefundRequest{Hospital: v.hospital, RefundNo: v.refundNo})
	e.back = r.GetRefund()
	return e, err
}

// open says whether a client has not been told yet how its payment or refund ends.
func (c *cycles) open(v *seen, e end) bool {
	n := c.last(v.orderNo)
	if n == nil || n.Status != e.paid.GetStatus() || !slices.Contains(paidEnds, n.Status) {
		return true
	}
	if v.refundNo == "" {
		return false
	}
	n = c.last(v.refundNo)
	switch {
	case n == nil || n.Status != e.back.GetStatus():
		return true
	case n.Kind == "REFUND_ABNORMAL" && e.back.GetApplication().GetState() == "PAID": // the hospital's bank account has it
		return false
	case n.Kind == "REFUNDED" || n.Kind == "REFUND_ABNORMAL": // nothing follows where the payer had the money by then
		return e.back.GetSuccessAt() == nil || e.back.GetSuccessAt().AsTime().After(n.At)
	}
	return n.Status != "SUCCESS" && !slices.Contains(backEnds, n.Status)
}

// each does something about every cycle, many at once.
func (c *cycles) each(all []*seen, do func(v *seen, e end)) {
	c.t.Helper()
	var next atomic.Int64
	var working sync.WaitGroup
	for range cyclers {
		working.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(all); i = next.Add(1) - 1 {
				e, err := c.end(all[i])
				if err != nil {
					c.t.Error(err)
					continue
				}
				do(all[i], e)
			}
		})
	}
	working.Wait()
}

// handle is what people do about abnormal refunds of WeChat Pay: half of those of v3
// are applied for by two of them, for the others another card is paid on the merchant
// platform; then they are asked for. Alipay's frozen trade thaws by itself.
func (c *cycles) handle() {
	c.t.Helper()
	for _, hospital := range []string{"H1", "H2"} {
		list, err := again(c.t.Context(), c.head.ListRefunds, &payv1.ListRefundsRequest{Hospital: hospital, Status: "ABNORMAL"})
		if err != nil {
			c.t.Fatal(err)
		}
		for _, r := range list.GetRefunds() {
			if state := r.GetApplication().GetState(); state == "" || state == "ENDED" {
				c.handled[r.GetMerchantNo()]++
				err = c.handleOne(r)
			}
			if err == nil && r.GetApplication().GetState() != "PAID" {
				_, err = again(c.t.Context(), c.app.Refunds.QueryRefund, &payv1.QueryRefundRequest{Hospital: hospital, RefundNo: r.GetRefundNo()})
			}
			if err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

func (c *cycles) handleOne(r *payv1.Refund) error {
	no := r.GetRefundNo()
	if r.GetMerchantNo() != wechatNo || no[len(no)-1]%2 == 0 {
		return c.outside("/abnormal", map[string]string{"merchant": r.GetMerchantNo(), "refund": no, "to": "CARD"})
	}
	_, err := again(c.t.Context(), c.treasurer.ApplyAbnormalRefund, &payv1.ApplyAbnormalRefundRequest{IdempotencyKey: fmt.Sprint(no, c.clock.Load()), Hospital: r.GetHospital(), RefundNo: no})
	if err == nil {
		_, err = again(c.t.Context(), c.head.DecideAbnormalRefund, &payv1.DecideAbnormalRefundRequest{IdempotencyKey: "abnormal_" + no, Hospital: r.GetHospital(), RefundNo: no, Approve: true, AmountFen: r.GetAmountFen()})
	}
	return err
}

// drain lets time pass until the app has been told the end of everything: minutes
// first, then hours, since a plan waits longer the older a payment is.
func (c *cycles) drain(all []*seen) {
	c.t.Helper()
	left := all
	for n := range 80 {
		step := time.Minute
		switch {
		case n > 30:
			step = time.Hour
		case n > 10:
			step = 10 * time.Minute
		}
		if err := c.let(step); err != nil {
			c.t.Fatal(err)
		}
		c.handle()
		var mu sync.Mutex
		var still []*seen
		c.each(left, func(v *seen, e end) {
			if c.open(v, e) {
				mu.Lock()
				still = append(still, v)
				mu.Unlock()
			}
		})
		if left = still; len(left) == 0 || c.t.Failed() {
			return
		}
	}
	e, err := c.end(left[0])
	paid, _ := c.noticed(left[0].orderNo)
	back, _ := c.noticed(left[0].refundNo)
	c.t.Errorf("%d payments or refunds stay open for ever, one is %v, %v (%v), of which the app was told %+v, %+v", len(left), e.paid, e.back, err, paid, back)
}

// compare holds every end by the API against the channels' books, and against what
// the app was told by calls and notices; then the sums of all three.
func (c *cycles) compare(all []*seen) {
	c.t.Helper()
	orders := c.theirOrders()
	var mu sync.Mutex
	ends, view, closed := map[string]int{}, map[string]int64{}, map[string]int64{}
	c.each(all, func(v *seen, e end) {
		mu.Lock()
		defer mu.Unlock()
		o := orders[v.orderNo]
		delete(orders, v.orderNo)
		var back, debt int64
		for _, r := range o.Refunds {
			if r.State == "CLOSED" { // on its way to nobody, and a debt to the patient
				debt += r.Fen
				continue
			}
			back += r.Fen
		}
		p := e.paid
		ours, given, asked := p.GetAmountFen(), p.GetRefundedFen(), p.GetAmountFen()-p.GetRefundedFen()-p.GetRefundableFen()
		if p.GetStatus() != "SUCCESS" {
			ours, given, asked = 0, 0, 0
		}
		if ours-given != o.Fen-back || asked != debt {
			c.t.Errorf("%s, %s is %s: we hold %d less %d, %d under way; the channel %d less %d, %d closed", v.name, v.orderNo, p.GetStatus(), ours, given, asked, o.Fen, back, debt)
		}
		ends[p.GetStatus()]++
		if e.back != nil {
			ends["refund "+e.back.GetStatus()]++
			if told, _ := c.noticed(v.refundNo); slices.ContainsFunc(told, func(n sdk.Notice) bool { return n.Kind == "REFUND_ABNORMAL" }) {
				ends["refund abnormal for a while"]++
			}
		}
		closed[v.channel] += debt
		view[v.channel] += c.told(v, e)
	})
	if len(orders) > 0 {
		c.t.Errorf("the channels have %d orders that nobody made: %v", len(orders), slices.Collect(maps.Keys(orders)))
	}
	c.t.Logf("ends: %v; abnormal refunds handled: %v", ends, c.handled)
	c.tie(view, closed)
}

// told is what the channel owes for a payment as its client was told, in fen; no
// call and no notice has ever said another end than the true one.
func (c *cycles) told(v *seen, e end) (fen int64) {
	c.t.Helper()
	wrong := func(number, said, is string) {
		c.t.Errorf("%s: its client was told that %s is %s, and it is %s", v.name, number, said, is)
	}
	notices, _ := c.noticed(v.orderNo)
	for _, n := range notices {
		v.paid = append(v.paid, n.Status)
		if n.AmountFen != e.paid.GetAmountFen() || n.Hospital != v.hospital || n.BillNo != e.paid.GetBillNo() {
			c.t.Errorf("%s: the app was told %+v of %v", v.name, n, e.paid)
		}
	}
	for _, said := range v.paid {
		if slices.Contains(paidEnds, said) && said != e.paid.GetStatus() {
			wrong(v.orderNo, said, e.paid.GetStatus())
		}
	}
	if n := c.last(v.orderNo); n != nil && n.Status == "SUCCESS" {
		fen = n.AmountFen
	}
	if e.back == nil {
		return fen
	}
	notices, _ = c.noticed(v.refundNo)
	for _, n := range notices {
		v.back = append(v.back, n.Status)
		if n.AmountFen != v.asked || n.OrderNo != v.orderNo {
			c.t.Errorf("%s: the app was told %+v of %v", v.name, n, e.back)
		}
	}
	for _, said := range v.back {
		if slices.Contains(backEnds, said) && said != e.back.GetStatus() {
			wrong(v.refundNo, said, e.back.GetStatus())
		}
	}
	if e.back.GetAmountFen() != v.asked || e.back.GetStatus() == "FAILED" {
		c.t.Errorf("%s: refund %s of %d fen is %v", v.name, v.refundNo, v.asked, e.back)
	}
	if n := c.last(v.refundNo); n != nil && n.Status == "SUCCESS" {
		fen -= n.AmountFen
	}
	return fen
}

// days are those of the clock since the cycles began.
func (c *cycles) days(do func(day ledger.Day, k *counter)) {
	for day := ledger.DayOf(time.Date(2026, 9, 15, 0, 0, 0, 0, ledger.Beijing)); day <= ledger.DayOf(c.now()); day = day.Add(1) {
		for i := range counters {
			do(day, &counters[i])
		}
	}
}

// theirOrders are all orders in the channels' books; none is there twice.
func (c *cycles) theirOrders() map[string]live.OrderView {
	c.t.Helper()
	orders := map[string]live.OrderView{}
	c.days(func(day ledger.Day, k *counter) {
		list, err := c.sandbox.Orders(k.merchant, day.String())
		if err != nil {
			c.t.Fatal(err)
		}
		for _, o := range list {
			if _, twice := orders[o.Order]; twice {
				c.t.Errorf("%s was paid twice", o.Order)
			}
			orders[o.Order] = o
		}
	})
	return orders
}

// tie compares three sums by channel, in fen: its books, the ledger, and what the
// app was told. closed are refunds that the sums of a day still have as given back.
func (c *cycles) tie(view, closed map[string]int64) {
	c.t.Helper()
	theirs := maps.Clone(closed)
	c.days(func(day ledger.Day, k *counter) {
		sums, err := c.sandbox.Sums(k.merchant, day.String())
		if err != nil {
			c.t.Fatal(err)
		}
		theirs[k.channel] += sums.PayFen - sums.RefundFen
	})
	for channel, code := range map[string]string{channels.WeChat: "1122.WX.", channels.Alipay: "1122.ALI."} {
		all, err := again(c.t.Context(), c.books.ListBalances, &ledgerv1.ListBalancesRequest{Prefix: code})
		if err != nil {
			c.t.Fatal(err)
		}
		var ours int64
		for _, b := range all.GetBalances() {
			ours += b.GetDebitsFen() - b.GetCreditsFen()
		}
		if ours != theirs[channel] || ours != view[channel] {
			c.t.Errorf("%s: the ledger has %d fen, the channel's books %d, the app was told of %d", channel, ours, theirs[channel], view[channel])
		}
		c.t.Logf("%s owes %s yuan by its books, by the ledger and by what the app was told", channel, ledger.Money(ours))
	}
	sound, err := again(c.t.Context(), c.books.Verify, &ledgerv1.VerifyRequest{})
	if err != nil || len(sound.GetFindings()) > 0 {
		c.t.Errorf("the books break rules: %v, %v", sound.GetFindings(), err)
	}
}
