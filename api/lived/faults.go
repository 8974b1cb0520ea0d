package lived

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// fault is one difference that is planted, and the case that a right
// reconciliation makes of it.
type fault struct {
	kind *kind
	n    int

	// The row of the plan, filled as the numbers are told; nil where the visit never
	// came so far.
	found []sandbox.Case
	ends  bool // the payment is not to succeed for the platform

	made, paid, refunding func(ctx context.Context, l *life, v *visit) error
	refunded              func(ctx context.Context, l *life, v *visit, refundNo string) error
}

// kind is one way in which a day goes wrong, by whom, and the code of the case.
type kind struct {
	code string
	name string
	step int // 0: any; else at that step
	back bool
	way  channels.Way // "": a code
	app  bool         // only where the app calls HIS
	plan func(f *fault)
}

// plant draws the faults of a day: each kind once, and again for every 5,000
// payments beyond the first.
func plant(seed uint64, payments int) []*fault {
	if payments < 40*len(kinds) {
		return nil
	}
	d := rand.New(rand.NewPCG(seed, 1<<62))
	var all []*fault
	for range 1 + payments/5001 {
		for _, i := range d.Perm(len(kinds)) {
			f := &fault{kind: &kinds[i], n: len(all)}
			f.kind.plan(f)
			all = append(all, f)
		}
	}
	return all
}

// shape makes a visit that of the fault: one hospital in turn, a clean payment, an
// amount that no other fault has.
func (f *fault) shape(v *visit) {
	v.fault, v.fate, v.backs = f, paid, nil
	v.hospital = &hospitals[f.n%len(hospitals)]
	if f.kind.app {
		v.hospital = &hospitals[0]
	}
	v.number = &v.hospital.numbers[0]
	if v.way = f.kind.way; v.way == "" {
		v.way = channels.WayCode
	}
	v.fen = 20_011 + int64(f.n)*10
	if f.kind.back {
		v.backs = []int64{7_003 + int64(f.n)*10}
	}
	if f.kind.step != 0 {
		v.step = f.kind.step
	} else {
		v.step = min(v.step, steps-8)
	}
}

// row is a case about the visit's payment, or about its refund where there is one.
func (f *fault) row(v *visit, refundNo string, his, platform, channel *int64) {
	c := sandbox.Case{Code: f.kind.code, Channel: v.number.channel, Hospital: v.hospital.code, MerchantNo: v.number.no, Kind: "PAY",
		OrderNo: v.order, RefundNo: refundNo, HisFen: his, PlatformFen: platform, ChannelFen: channel, Variant: f.kind.name}
	c.AmountFen = fenOf(channel) - fenOf(his)
	if refundNo != "" {
		c.Kind, c.AmountFen = "REFUND", -c.AmountFen
	}
	if f.kind.code == "F11" {
		c.AmountFen = 0 // outside the platform's pairs
	}
	f.found = append(f.found, c)
}

func fenOf(p *int64) int64 {
	if p == nil {
		return 0
	}
	return *p
}

// spoil plants a fault in the sandbox about the visit's order.
func spoil(ctx context.Context, l *life, v *visit, f map[string]any) error {
	f["merchant"], f["order"] = v.number.no, v.order
	return l.admin(ctx, "/faults", f, nil)
}

// atChannel spoils the payment's row in the bill; more is by how much it differs.
func atChannel(what string, more int64, said func(f *fault, v *visit)) func(f *fault) {
	return func(f *fault) {
		f.paid = func(ctx context.Context, l *life, v *visit) error {
			said(f, v)
			return spoil(ctx, l, v, map[string]any{"do": what, "fen": more})
		}
	}
}

// foreignRow is a payment on the number that nobody here asked for.
func foreignRow(order string) func(f *fault) {
	return func(f *fault) {
		f.paid = func(ctx context.Context, l *life, v *visit) error {
			other := *v
			other.order = fmt.Sprintf(order, lifeDay.Compact(), f.n)
			f.row(&other, "", nil, nil, &other.fen)
			return l.admin(ctx, "/faults", map[string]any{"do": "BILL_FOREIGN", "merchant": v.number.no, "order": other.order, "fen": v.fen}, nil)
		}
	}
}

// atHIS spoils the payment's row in the details of HIS.
func atHIS(what string, more int64, said func(f *fault, v *visit)) func(f *fault) {
	return func(f *fault) {
		f.paid = func(ctx context.Context, l *life, v *visit) error {
			said(f, v)
			l.evening(func(ctx context.Context) error {
				return l.admin(ctx, "/his/faults", map[string]any{"do": what, "hospital": v.hospital.code, "order_no": v.order, "fen": more}, nil)
			})
			return nil
		}
	}
}

// everybody says the visit's whole amount.
func everybody(f *fault, v *visit) { f.row(v, "", &v.fen, &v.fen, &v.fen) }

// paidLate is an order that the platform closed and the payer paid all the same.
func paidLate(f *fault) {
	f.ends = true
	f.made = func(ctx context.Context, l *life, v *visit) error {
		if err := spoil(ctx, l, v, map[string]any{"do": "ERROR", "api": "close", "code": "ORDERCLOSED", "text": "订单已关闭"}); err != nil {
			return err
		}
		if f.n%2 == 0 {
			if err := spoil(ctx, l, v, map[string]any{"do": "NOTICE_LOST"}); err != nil {
				return err
			}
		}
		closed, err := answered(ctx, func() (*payv1.ClosePaymentResponse, error) {
			return l.calls.pay.ClosePayment(ctx, &payv1.ClosePaymentRequest{Hospital: v.hospital.code, OrderNo: v.order})
		})
		if err != nil || closed.GetPayment().GetStatus() != "CLOSED" {
			return fmt.Errorf("%w: %s was to be closed and is %s (%w)", ErrDemo, v.order, closed.GetPayment().GetStatus(), err)
		}
		f.row(v, "", nil, nil, &v.fen)
		return l.admin(ctx, "/pay", map[string]string{"merchant": v.number.no, "order": v.order}, nil)
	}
}

// refundOf plans something about the visit's refund before it is asked for.
func refundOf(what map[string]any, said func(f *fault, v *visit, no string)) func(f *fault) {
	return func(f *fault) {
		f.refunding = func(ctx context.Context, l *life, v *visit) error {
			if what == nil {
				return nil
			}
			return spoil(ctx, l, v, maps.Clone(what))
		}
		f.refunded = func(_ context.Context, _ *life, v *visit, no string) error {
			said(f, v, no)
			return nil
		}
	}
}

// kinds are the ways in which the day goes wrong.
var kinds = []kind{
	{code: "F3", name: "the bill lacks a payment", plan: atChannel("BILL_MISSING", 0, func(f *fault, v *visit) { f.row(v, "", &v.fen, &v.fen, nil) })},
	{code: "F4", name: "the bill says ten fen more", plan: atChannel("BILL_AMOUNT", 10, func(f *fault, v *visit) {
		more := v.fen + 10
		f.row(v, "", &v.fen, &v.fen, &more)
	})},
	{code: "F7", name: "a fee is one fen too high", plan: atChannel("BILL_FEE", 1, everybody)},
	{code: "F1", name: "a payment with our form of number that nobody made", plan: foreignRow("HP%s9%013d")},
	{code: "F11", name: "the canteen's payment", plan: foreignRow("CT%s%06d")},
	{code: "PENDING", name: "before midnight here, after it in HIS", step: steps, plan: atHIS("ROW_NEXT_DAY", 0, func(f *fault, v *visit) {
		f.row(v, "", nil, &v.fen, &v.fen)
		everybody(f, v)
		f.found[1].Code = "F10" // on the next day
	})},
	{code: "F2", name: "paid after the platform had closed it", way: channels.WayQR, app: true, plan: paidLate},
	{code: "I1", name: "HIS lacks a payment", plan: atHIS("ROW_MISSING", 0, func(f *fault, v *visit) { f.row(v, "", nil, &v.fen, &v.fen) })},
	{code: "I5", name: "HIS booked three fen less", plan: atHIS("ROW_AMOUNT", -3, func(f *fault, v *visit) {
		less := v.fen - 3
		f.row(v, "", &less, &v.fen, &v.fen)
	})},
	{code: "DUP_ROW", name: "a row of HIS twice", plan: atHIS("ROW_TWICE", 0, everybody)},
	{code: "SWEEP", name: "a refund that the channel is still making", back: true, plan: refundOf(map[string]any{"do": "REFUND_LATE", "seconds": 400_000},
		func(f *fault, v *visit, no string) { f.row(v, no, &v.backs[0], &v.backs[0], &v.backs[0]) })},
	{code: "F6", name: "a refund that the channel closed", back: true, plan: refundOf(map[string]any{"do": "REFUND_CLOSED", "seconds": 120},
		func(f *fault, v *visit, no string) { f.row(v, no, &v.backs[0], &v.backs[0], nil) })},
}
