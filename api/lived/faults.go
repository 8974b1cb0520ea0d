package lived

import (
	"context"
	"fmt"
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
	keeps bool // the channel closes the refund: nobody is given anything back

	// What is planted when the bill is opened, when the payment is asked for, when it has
	// succeeded, before its refund is asked for, and in the place of that.
	opened, made, paid, refunding, instead func(ctx context.Context, l *life, v *visit) error
	refunded                               func(ctx context.Context, l *life, v *visit, refundNo string) error
}

// kind is one way in which a day goes wrong, by whom, and the code of the case.
type kind struct {
	code string
	name string
	step int // 0: any; else at that step
	back bool
	all  bool         // that is given back
	way  channels.Way // "": a code
	late bool         // HIS hears of it when it has handed in its day
	of   []int        // only at these of the hospitals; nil: at any
	plan func(f *fault)
}

// fewest is how many payments a day must have for its faults to be among them.
func fewest() int { return 13 * len(kinds) }

// plant draws the faults of a day: each kind once, and again for every 5,000
// payments beyond the first.
func plant(seed uint64, payments int) []*fault {
	if payments < fewest() {
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
	if of := f.kind.of; of != nil {
		v.hospital = &hospitals[of[f.n%len(of)]]
	}
	v.number = &v.hospital.numbers[0]
	if v.way = f.kind.way; v.way == "" {
		v.way = channels.WayCode
	}
	v.fen = 60_011 + int64(f.n)*10 // more than any other bill but whole tens of yuan
	switch {
	case f.kind.all:
		v.backs = []int64{v.fen}
	case f.kind.back:
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

// closes is the app that closes an order which nobody has paid.
func (l *life) closes(ctx context.Context, v *visit) error {
	closed, err := answered(ctx, func() (*payv1.ClosePaymentResponse, error) {
		return l.calls.pay.ClosePayment(ctx, &payv1.ClosePaymentRequest{IdempotencyKey: "close_" + v.order, Hospital: v.hospital.code, OrderNo: v.order})
	})
	if err == nil && closed.GetPayment().GetStatus() != "CLOSED" {
		err = fmt.Errorf("%w: %s was to be closed and is %s", ErrDemo, v.order, closed.GetPayment().GetStatus())
	}
	return err
}

// paidLate is an order that the platform closed and the payer paid all the same, with
// what comes between.
func paidLate(between func(ctx context.Context, l *life, v *visit) error) func(f *fault) {
	return func(f *fault) {
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
			if err := l.closes(ctx, v); err != nil {
				return err
			}
			f.row(v, "", nil, nil, &v.fen)
			if between != nil {
				if err := between(ctx, l, v); err != nil {
					return err
				}
			}
			return l.admin(ctx, "/pay", map[string]string{"merchant": v.number.no, "order": v.order}, nil)
		}
	}
}

// byAnother pays the visit's bill by another order.
func byAnother(ctx context.Context, l *life, v *visit) error {
	other := *v
	other.try, other.fault = v.try+1, &fault{kind: v.fault.kind}
	return l.attempt(ctx, &other)
}
