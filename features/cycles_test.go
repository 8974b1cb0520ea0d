package features_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
)

var (
	cyclesN    = flag.Int("cycles.n", 300, "how many payments are made, followed and given back")
	cyclesSeed = flag.Uint64("cycles.seed", 0, "the seed of what is paid and what goes wrong; 0 takes a new one")
)

// cyclers are who pays at once, and lateAnswer is what a delayed answer takes.
const (
	cyclers    = 24
	lateAnswer = 2500 // milliseconds
)

// counter is where cycles pay: one merchant number with its adapter.
type counter struct {
	adapter
	hospital, merchant string
}

var counters = []counter{
	{adapter{"WeChat v3, QR", channels.WeChat, channels.WayQR, (*shore).wechatV3}, "H1", wechatNo},
	{adapter{"WeChat V2, code", channels.WeChat, channels.WayCode, (*shore).wechatSecond}, "H2", secondNo},
	{adapter{"Alipay, code", channels.Alipay, channels.WayCode, (*shore).alipayKeys}, "H1", alipayNo},
}

// seen is what one client was told of its payment and refund, as far as it was final.
type seen struct {
	*counter
	orderNo, refundNo string
	amount, asked     ledger.Money
	status            pay.Status
	back              pay.RefundStatus
}

// cycles is a house under many clients and random faults.
type cycles struct {
	*rig
	mu     sync.Mutex
	draw   *rand.Rand
	faults map[string]int
	made   atomic.Int64
}

// fate is what goes wrong next at a counter, mostly nothing.
func (c *cycles) fate() (live.Fault, string) {
	kinds := []live.Fault{
		{Do: live.FaultDelay, Millis: lateAnswer, Commit: true}, {Do: live.FaultDrop}, {Do: live.FaultDrop, Commit: true}, {Do: live.FaultHTTP500},
		{Do: live.FaultHTTP500, Commit: true}, {Do: live.FaultGarbage, Commit: true}, {Do: live.FaultBadSign}, {Do: live.FaultError, Code: "SYSTEMERROR"},
		{Do: live.FaultError, Code: "SYSTEMERROR", Commit: true}, {Do: live.FaultPassword, Seconds: 20}, {Do: live.FaultPassword},
		{Do: live.FaultRefundLate, Seconds: 90}, {Do: live.FaultRefundClosed, Seconds: 5}, {Do: live.FaultNoticeLost}, {Do: live.FaultNoticeTwice},
		{Do: live.FaultNoticeLate, Seconds: 30}, {Do: live.FaultNoticeForged}, {Do: live.FaultNoticeForeign},
	}
	steps := []string{"pay", "prepay", "query", "close", "reverse", "refund", "refundquery"}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draw.IntN(100) >= 40 {
		return live.Fault{}, ""
	}
	f, api := kinds[c.draw.IntN(len(kinds))], steps[c.draw.IntN(len(steps))]
	switch f.Do {
	case live.FaultPassword:
		api = "pay"
	case live.FaultRefundLate, live.FaultRefundClosed:
		api = "refund"
	case live.FaultNoticeLost, live.FaultNoticeTwice, live.FaultNoticeLate, live.FaultNoticeForged, live.FaultNoticeForeign:
		api = ""
	}
	return f, api
}

// intn draws below n.
func (c *cycles) intn(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draw.IntN(n)
}

// cycle is one client: it pays, asks what became of it, and gives a part back.
func (c *cycles) cycle(ctx context.Context, n int) (*seen, error) {
	k := &counters[n%len(counters)]
	if f, api := c.fate(); f.Do != "" && (f.Do != live.FaultRefundClosed || k.channel == channels.WeChat) {
		f.API, f.Merchant = api, k.merchant
		if _, err := c.sandbox.Plant(f); err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.faults[f.Do]++
		c.mu.Unlock()
	}
	v := &seen{counter: k, amount: ledger.Money(1000 + c.intn(9000))}
	ask := pay.NewPayment{App: "APP", Key: fmt.Sprint("cycle", n), Hospital: k.hospital, Channel: k.channel, BillNo: fmt.Sprint("C", n), BizType: pay.Outpatient,
		Terminal: "T1", Way: k.way, Amount: v.amount, ClientIP: "127.0.0.1"}
	if k.way == channels.WayCode {
		ask.AuthCode = fmt.Sprintf("%s%016d", map[string]string{channels.WeChat: "13", channels.Alipay: "28"}[k.channel], int64(n)*100_000_000+50)
	}
	p, err := c.Create(ctx, ask)
	if err != nil {
		return nil, err
	}
	v.orderNo = p.OrderNo
	if k.way != channels.WayCode && c.intn(10) > 0 { // one of ten goes away
		c.payer(&adapter{channel: k.channel}, p.OrderNo)
	}
	if p, err = c.Query(ctx, k.hospital, p.OrderNo); err != nil {
		return nil, err
	}
	v.status = p.Status
	if p.Status == pay.Success && c.intn(10) < 7 {
		err = c.refund(ctx, v, p, n)
	}
	return v, err
}

func (c *cycles) refund(ctx context.Context, v *seen, p *pay.Payment, n int) error {
	v.asked = p.Amount
	if c.intn(2) == 0 {
		v.asked = ledger.Money(1 + c.intn(int(p.Amount)))
	}
	back, err := c.refunds.Create(ctx, pay.NewRefund{App: "APP", Key: fmt.Sprint("cycle", n), Hospital: v.hospital, OrderNo: p.OrderNo, Amount: v.asked,
		Cause: channels.CauseItem, Maker: "CASHIER", HISCancelled: true, HISAllows: p.Amount})
	if err == nil && back.Status == pay.RefundApproving {
		back, err = c.refunds.Decide(ctx, v.hospital, back.RefundNo, "HEAD", true, "")
	}
	if err == nil {
		v.refundNo, v.back = back.RefundNo, back.Status
	}
	return err
}

// pump lets time go by and does what is due, until nothing is left or ctx ends.
func (c *cycles) pump(ctx context.Context, step int64) error {
	for ctx.Err() == nil {
		c.clock.Add(step)
		paid, err := c.Poll(ctx, c.now(), 200)
		if err == nil {
			_, err = c.refunds.Poll(ctx, c.now(), 200)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		if paid == 0 {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// drain jumps from due to due until every payment and refund is final.
func (c *cycles) drain() {
	c.t.Helper()
	for range 20_000 {
		var next *time.Time
		err := c.db.ReadTx(c.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT min(next_at) FROM (SELECT next_at FROM payments WHERE next_at IS NOT NULL
				UNION ALL SELECT next_at FROM refunds WHERE next_at IS NOT NULL) AS due`).Scan(&next)
		})
		if err != nil {
			c.t.Fatal(err)
		}
		if next == nil {
			return
		}
		c.until(*next)
		_, one := c.Poll(c.t.Context(), c.now(), 200)
		_, two := c.refunds.Poll(c.t.Context(), c.now(), 200)
		if err := errors.Join(one, two); err != nil {
			c.t.Fatal(err)
		}
	}
	c.t.Error("payments or refunds stay open for ever")
}

// TestCyclesUnderFaultsAgreeToTheFen pays, hears notices, asks and gives back many
// times at once while anything goes wrong; once every Unknown is resolved the
// sandbox's books, the ledger and what the clients were told agree.
func TestCyclesUnderFaultsAgreeToTheFen(t *testing.T) {
	seed := *cyclesSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-cycles.seed %d", seed)
	c := &cycles{rig: newRig(t), draw: rand.New(rand.NewPCG(seed, 4)), faults: map[string]int{}}
	c.fixed = map[string]channels.Gateway{}
	for i := range counters {
		k := &counters[i]
		c.n = i + 1
		c.use(&k.adapter, lateAnswer*time.Millisecond*4/5, false)
		c.fixed[k.merchant] = c.open
	}
	began := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	pumped := make(chan error, 1)
	go func() { pumped <- c.pump(ctx, 1) }()
	all := make([]*seen, *cyclesN)
	var running sync.WaitGroup
	for range cyclers {
		running.Go(func() {
			for n := int(c.made.Add(1)) - 1; n < len(all); n = int(c.made.Add(1)) - 1 {
				var err error
				if all[n], err = c.cycle(ctx, n); err != nil {
					t.Errorf("cycle %d: %v", n, err)
				}
			}
		})
	}
	running.Wait()
	stop()
	if err := <-pumped; err != nil {
		t.Error(err)
	}
	t.Logf("%d cycles in %s with %v", len(all), time.Since(began).Round(time.Second), c.faults)
	c.drain()
	c.tieAll(c.compare(all))
}

// compare holds every order's end against the channel's books and against what its
// client was told. It returns what refunds were closed, in fen by channel: that
// money is on its way to nobody, and a debt to the patient.
func (c *cycles) compare(all []*seen) (closed map[string]int64) {
	c.t.Helper()
	closed = map[string]int64{}
	ends := map[string]int{}
	orders := c.theirOrders()
	for _, v := range all {
		if v == nil {
			continue
		}
		p, err := c.Get(c.t.Context(), v.hospital, v.orderNo)
		if err != nil {
			c.t.Fatal(err)
		}
		o := orders[v.orderNo]
		delete(orders, v.orderNo)
		var back, debt int64
		for _, r := range o.Refunds {
			if r.State == "CLOSED" {
				debt += r.Fen
				continue
			}
			back += r.Fen
		}
		closed[v.channel] += debt
		ours, given := int64(p.Amount), int64(p.Refunded)
		if p.Status != pay.Success {
			ours, given = 0, 0
		}
		final := []pay.Status{pay.Success, pay.Failed, pay.Closed, pay.Reversed}
		switch {
		case ours-given != o.Fen-back || int64(p.Requested) != debt:
			c.t.Errorf("%s, %s is %s: we hold %d less %d, %d under way; the channel %d less %d, %d closed", v.name, v.orderNo, p.Status, ours, given, int64(p.Requested), o.Fen, back, debt)
		case slices.Contains(final, v.status) && v.status != p.Status:
			c.t.Errorf("%s: its client was told that %s is %s, and it is %s", v.name, v.orderNo, v.status, p.Status)
		case !slices.Contains(final, p.Status):
			c.t.Errorf("%s, %s is %s", v.name, v.orderNo, p.Status)
		}
		ends[string(p.Status)]++
		if v.refundNo != "" {
			ends["refund "+c.refunded(v)]++
		}
	}
	if len(orders) > 0 {
		c.t.Errorf("the channels have %d orders that nobody made: %v", len(orders), slices.Collect(maps.Keys(orders)))
	}
	c.t.Logf("ends: %v", ends)
	return closed
}

// theirOrders are all orders in the channels' books; none is there twice.
func (c *cycles) theirOrders() map[string]live.OrderView {
	c.t.Helper()
	orders := map[string]live.OrderView{}
	for day := ledger.DayOf(time.Date(2026, 9, 15, 0, 0, 0, 0, ledger.Beijing)); day <= ledger.DayOf(c.now()); day = day.Add(1) {
		for _, k := range counters {
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
		}
	}
	return orders
}

// refunded is how a refund ended; its client must have been told nothing else.
func (c *cycles) refunded(v *seen) string {
	c.t.Helper()
	r, err := c.refunds.Get(c.t.Context(), v.hospital, v.refundNo)
	if err != nil {
		c.t.Fatal(err)
	}
	if r.Status != pay.RefundSuccess && r.Status != pay.RefundClosed || r.Amount != v.asked {
		c.t.Errorf("%s: refund %s of %s fen is %s, %s fen, %+v", v.name, v.refundNo, v.asked, r.Status, r.Amount, r.Reason)
	}
	return string(r.Status)
}

// tieAll compares the sums of all counters with the ledger; theirs begins with the
// refunds that were closed, which the sums of a day still have as given back.
func (c *cycles) tieAll(theirs map[string]int64) {
	c.t.Helper()
	for day := ledger.DayOf(time.Date(2026, 9, 15, 0, 0, 0, 0, ledger.Beijing)); day <= ledger.DayOf(c.now()); day = day.Add(1) {
		for _, k := range counters {
			sums, err := c.sandbox.Sums(k.merchant, day.String())
			if err != nil {
				c.t.Fatal(err)
			}
			theirs[k.channel] += sums.PayFen - sums.RefundFen
		}
	}
	err := c.db.ReadTx(c.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		for channel, code := range map[string]string{channels.WeChat: "1122.WX.", channels.Alipay: "1122.ALI."} {
			accounts, err := ledger.BalancesByCode(ctx, tx, clearing.PlatformBook, code, ledger.AsOf{})
			var ours ledger.Money
			for _, b := range accounts {
				ours += b.Debits - b.Credits
			}
			if err != nil || int64(ours) != theirs[channel] {
				c.t.Errorf("%s: the ledger has %d fen, the books %d (%v)", channel, int64(ours), theirs[channel], err)
			}
			c.t.Logf("%s owes %s yuan by its books and by the ledger", channel, ours)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}
