package lived

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// The hospitals by who calls their HIS.
var appCalls, platformCalls = []int{0}, []int{1, 2}

// heardLate is a payment of which HIS hears nothing until it has handed in the day, or
// until that has been reconciled too: it books the payment on the next day.
func heardLate(f *fault) {
	hears := at(lifeDay.Add(1), 2, 0, 0)
	if f.n%2 == 0 {
		hears = at(lifeDay.Add(1), 13, 0, 0)
	}
	f.opened = func(ctx context.Context, l *life, v *visit) error {
		// A gateway answers for HIS: calls that nobody answers would open the circuit where
		// they are about many bills, and keep the others from HIS too.
		return l.admin(ctx, "/his/faults", map[string]any{"do": "HTTP_500", "hospital": v.hospital.code, "bill_no": v.bill(), "until": hears.Format(time.RFC3339)}, nil)
	}
	f.paid = func(_ context.Context, _ *life, v *visit) error {
		f.row(v, "", nil, &v.fen, &v.fen)
		everybody(f, v)
		f.found[1].Code = "F10" // on the next day
		return nil
	}
}

// booksAlone has HIS book a payment that no app told it of.
func booksAlone(ctx context.Context, l *life, v *visit, order string) error {
	return l.admin(ctx, "/his/faults", map[string]any{"do": "ROW_FOREIGN", "hospital": v.hospital.code, "order_no": order, "fen": v.fen}, nil)
}

// nobodys is a payment beside the visit's that the platform never made: HIS has booked
// it, and the channel has it, or has not.
func nobodys(order string, atChannel bool) func(f *fault) {
	return func(f *fault) {
		f.paid = func(ctx context.Context, l *life, v *visit) error {
			other := *v
			other.order = fmt.Sprintf(order, lifeDay.Compact(), f.n)
			if err := booksAlone(ctx, l, v, other.order); err != nil {
				return err
			}
			if !atChannel {
				f.row(&other, "", &other.fen, nil, nil)
				return nil
			}
			f.row(&other, "", &other.fen, nil, &other.fen)
			return l.admin(ctx, "/faults", map[string]any{"do": "BILL_FOREIGN", "merchant": v.number.no, "order": other.order, "fen": v.fen}, nil)
		}
	}
}

// closedAndBooked is an order that nobody paid, closed by the app, and booked by HIS.
func closedAndBooked(f *fault) {
	f.ends = true
	f.made = func(ctx context.Context, l *life, v *visit) error {
		if err := l.closes(ctx, v); err != nil {
			return err
		}
		f.row(v, "", &v.fen, nil, nil)
		return booksAlone(ctx, l, v, v.order)
	}
}

// paidLateAndBooked is an order that the platform closed, the payer paid all the same,
// and HIS has booked: it is only here that nobody knows of it.
func paidLateAndBooked(f *fault) {
	paidLate(f)
	late := f.made
	f.made = func(ctx context.Context, l *life, v *visit) error {
		if err := late(ctx, l, v); err != nil {
			return err
		}
		f.found[0].HisFen, f.found[0].AmountFen = &v.fen, 0
		return booksAlone(ctx, l, v, v.order)
	}
}

// alike is two payments of one patient and amount at one time, of which HIS has lost both numbers.
func alike(f *fault) {
	f.paid = func(ctx context.Context, l *life, v *visit) error {
		second := *v
		second.n, second.fault = v.n+nextVisit, &fault{kind: f.kind}
		if err := errors.Join(l.bills(ctx, []*visit{&second}), l.attempt(ctx, &second)); err != nil {
			return err
		}
		l.evening(func(ctx context.Context) error {
			both, sum := *v, 2*v.fen
			both.order = min(v.order, second.order)
			f.row(&both, "", &sum, &sum, &sum)
			for _, order := range []string{v.order, second.order} {
				if err := l.admin(ctx, "/his/faults", map[string]any{"do": "ROW_UNKEYED", "hospital": v.hospital.code, "order_no": order}, nil); err != nil {
					return err
				}
			}
			return nil
		})
		return nil
	}
}

// onlyHere is a payment of which neither channel nor HIS hands anything in.
func onlyHere(f *fault) {
	atHIS("ROW_MISSING", 0, func(f *fault, v *visit) { f.row(v, "", nil, &v.fen, nil) })(f)
	inHIS := f.paid
	f.paid = func(ctx context.Context, l *life, v *visit) error {
		if err := spoil(ctx, l, v, map[string]any{"do": "BILL_MISSING"}); err != nil {
			return err
		}
		return inHIS(ctx, l, v)
	}
}

// refundAtHIS spoils the refund's row in the details of HIS, which goes by the number
// with which HIS was asked.
func refundAtHIS(what string, said func(f *fault, v *visit, no string)) func(f *fault) {
	return func(f *fault) {
		f.refunded = func(_ context.Context, l *life, v *visit, no string) error {
			said(f, v, no)
			asked := no
			if v.hospital.calls == "APP" {
				asked = appRefund(back{v, 0})
			}
			l.evening(func(ctx context.Context) error {
				return l.admin(ctx, "/his/faults", map[string]any{"do": what, "hospital": v.hospital.code, "order_no": v.order, "refund_no": asked}, nil)
			})
			return nil
		}
	}
}

// voidedAlone is a charge that HIS takes back at its own window, where nobody asks the
// platform to give the money back.
func voidedAlone(f *fault) {
	f.instead = func(ctx context.Context, l *life, v *visit) error {
		if err := l.voids(ctx, v, fmt.Sprintf("WINDOW%d", v.n), false); err != nil {
			return err
		}
		fen := v.backs[0]
		f.row(v, "", &fen, nil, nil)
		f.found[0].Kind, f.found[0].AmountFen = "REFUND", fen // long: HIS has given it back, and the money is here
		return nil
	}
}

// deniedAndVoided is a refund that HIS refuses in words, so that nobody is paid back, and
// carries out in its own books.
func deniedAndVoided(f *fault) {
	f.instead = func(ctx context.Context, l *life, v *visit) error {
		if err := l.admin(ctx, "/his/faults", map[string]any{"do": "ERROR", "api": "bills/cancel", "commit": true, "code": "SERVED", "text": "项目已执行",
			"hospital": v.hospital.code, "order_no": v.order}, nil); err != nil {
			return err
		}
		r, err := l.asksBack(ctx, back{v, 0}.ask())
		if err == nil && r.GetStatus() != "FAILED" {
			err = fmt.Errorf("%w: HIS refused refund %s, and it is %s", ErrDemo, r.GetRefundNo(), r.GetStatus())
		}
		f.row(v, "", &v.backs[0], nil, nil)
		f.found[0].Kind, f.found[0].AmountFen = "REFUND", v.backs[0]
		return err
	}
}

// elsewhere is a payment whose money the channel gave to the number of another
// hospital: short where it is owed, long where it is.
func elsewhere(f *fault) {
	f.paid = func(ctx context.Context, l *life, v *visit) error {
		other := &hospitals[1-slices.Index([]string{hospitals[0].code, hospitals[1].code}, v.hospital.code)]
		there := *v
		there.hospital, there.number = other, &other.numbers[0]
		f.row(v, "", &v.fen, &v.fen, nil)
		f.row(&there, "", nil, nil, &v.fen)
		return spoil(ctx, l, v, map[string]any{"do": "BILL_ELSEWHERE", "other": there.number.no})
	}
}

// inPortal is a refund that the hospital's staff made in the channel's own portal; HIS
// has taken the charge back under that number, or has not heard of it.
func inPortal(inHIS bool) func(f *fault) {
	return func(f *fault) {
		f.instead = func(ctx context.Context, l *life, v *visit) error {
			fen, no := v.backs[0], fmt.Sprintf("MP%s%06d", lifeDay.Compact(), f.n)
			var his *int64
			if inHIS {
				if err := l.voids(ctx, v, no, true); err != nil {
					return err
				}
				his = &fen
			}
			f.row(v, no, his, nil, &fen)
			return l.admin(ctx, "/refund", map[string]any{"merchant": v.number.no, "order": v.order, "refund": no, "fen": fen}, nil)
		}
	}
}

// voids has HIS take the visit's charge back at its own window, under a number that
// the platform does not know; the row of HIS has the number once it is written back.
func (l *life) voids(ctx context.Context, v *visit, no string, written bool) error {
	ask := channels.HISRequest{Hospital: v.hospital.code, BillNo: v.bill(), OrderNo: v.order, RefundNo: no, Amount: ledger.Money(v.backs[0]),
		Tender: v.number.channel, Operator: "C01", Key: "cancel-" + no, BizType: string(v.biz), RefundedAt: l.clock.Now()}
	word := l.his[v.hospital.code].Cancel(ctx, ask)
	if ask.Key = "refund-" + no; written && word.Outcome == channels.OutcomeSucceeded {
		word = l.his[v.hospital.code].WriteBackRefund(ctx, ask)
	}
	if word.Outcome != channels.OutcomeSucceeded {
		return fmt.Errorf("%w: HIS does not void %s: %s %s", ErrDemo, v.bill(), word.Outcome, word.Reason.Text)
	}
	return nil
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
	{code: "F2", name: "paid after the platform had closed it", way: channels.WayQR, of: appCalls, plan: paidLate},
	{code: "I1", name: "HIS lacks a payment", plan: atHIS("ROW_MISSING", 0, func(f *fault, v *visit) { f.row(v, "", nil, &v.fen, &v.fen) })},
	{code: "I1", name: "HIS hears of a payment when it has handed in its day", late: true, of: platformCalls, plan: heardLate},
	{code: "I5", name: "HIS booked three fen less", plan: atHIS("ROW_AMOUNT", -3, func(f *fault, v *visit) {
		less := v.fen - 3
		f.row(v, "", &less, &v.fen, &v.fen)
	})},
	{code: "DUP_ROW", name: "a row of HIS twice", plan: atHIS("ROW_TWICE", 0, everybody)},
	{code: "SWEEP", name: "a refund that the channel is still making", back: true, plan: refundOf(map[string]any{"do": "REFUND_LATE", "seconds": 400_000},
		everybodys)},
	{code: "F6", name: "a refund that the channel closed", back: true, plan: refundOf(map[string]any{"do": "REFUND_CLOSED", "seconds": 120},
		func(f *fault, v *visit, no string) { f.row(v, no, &v.backs[0], &v.backs[0], nil) })},
	{code: "I2", name: "HIS alone has booked a payment", plan: nobodys("HP%s8%013d", false)},
	{code: "BACKFILL", name: "HIS and channel have a payment that nobody made here", plan: nobodys("HP%s7%013d", true)},
	{code: "BACKFILL", name: "closed here, paid all the same, and booked by HIS", way: channels.WayQR, of: appCalls, plan: paidLateAndBooked},
	{code: "F12", name: "HIS has two payments of one amount without their numbers", plan: alike},
	{code: "PHANTOM", name: "neither HIS nor channel hands a payment in", plan: onlyHere},
	{code: "I6", name: "closed here, and booked by HIS", way: channels.WayQR, of: []int{0, 1}, plan: closedAndBooked},
	{code: "I7", name: "HIS has a payment without its number", plan: atHIS("ROW_UNKEYED", 0, everybody)},
	{code: "I8", name: "HIS has a payment as cash", plan: atHIS("ROW_CASH", 0, everybody)},
	{code: "I3", name: "HIS lacks a refund", back: true, plan: refundAtHIS("ROW_MISSING", func(f *fault, v *visit, no string) { f.row(v, no, nil, &v.backs[0], &v.backs[0]) })},
	{code: "I7", name: "HIS has a refund without its number", back: true, plan: refundAtHIS("ROW_UNKEYED", everybodys)},
	{code: "I4", name: "HIS alone took a charge back", back: true, plan: voidedAlone},
	{code: "I4", name: "HIS refuses to void a charge, and has voided it", back: true, of: platformCalls, plan: deniedAndVoided},
	{code: "F5", name: "a refund in the channel's portal", back: true, plan: inPortal(false)},
	{code: "BACKFILL", name: "a refund in the channel's portal, and in HIS", back: true, plan: inPortal(true)},
	{code: "F9", name: "the money is at another hospital's number", of: []int{0, 1}, plan: elsewhere},
}

// everybodys is a refund of which everybody says the same.
func everybodys(f *fault, v *visit, no string) { f.row(v, no, &v.backs[0], &v.backs[0], &v.backs[0]) }
