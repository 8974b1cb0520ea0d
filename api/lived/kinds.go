package lived

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clearward/clearward/channels"
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
	paidLate(nil)(f)
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

// differently is a payment of which HIS and the channel say the same, and the platform
// something else.
func differently(more int64) func(f *fault) {
	return func(f *fault) {
		atHIS("ROW_AMOUNT", more, func(f *fault, v *visit) {
			fen := v.fen + more
			f.row(v, "", &fen, &v.fen, &fen)
		})(f)
		inHIS := f.paid
		f.paid = func(ctx context.Context, l *life, v *visit) error {
			return errors.Join(spoil(ctx, l, v, map[string]any{"do": "BILL_AMOUNT", "fen": more}), inHIS(ctx, l, v))
		}
	}
}

// elsewhere is a payment whose money the channel gave to the number of another
// hospital: short where it is owed, long where it is.
func elsewhere(f *fault) {
	f.paid = func(ctx context.Context, l *life, v *visit) error {
		there := *v
		there.hospital, there.number = otherHospital(v)
		f.row(v, "", &v.fen, &v.fen, nil)
		f.row(&there, "", nil, nil, &v.fen)
		return spoil(ctx, l, v, map[string]any{"do": "BILL_ELSEWHERE", "other": there.number.no})
	}
}

// otherHospital is the other of the first two, with its number of the same channel.
func otherHospital(v *visit) (*hospital, *number) {
	other := &hospitals[1-slices.Index([]string{hospitals[0].code, hospitals[1].code}, v.hospital.code)]
	return other, &other.numbers[0]
}

// beside is a payment whose money the channel gave to another number of the same
// hospital.
func beside(f *fault) {
	f.paid = func(ctx context.Context, l *life, v *visit) error {
		_, n := otherNumber(v)
		everybody(f, v)
		return spoil(ctx, l, v, map[string]any{"do": "BILL_ELSEWHERE", "other": n.no})
	}
}

// otherNumber is the first hospital's second number of WeChat.
func otherNumber(v *visit) (*hospital, *number) { return v.hospital, &v.hospital.numbers[2] }

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
	{code: "F2", name: "paid after the platform had closed it", way: channels.WayQR, of: appCalls, plan: paidLate(nil)},
	{code: "I1", name: "HIS lacks a payment", plan: atHIS("ROW_MISSING", 0, func(f *fault, v *visit) { f.row(v, "", nil, &v.fen, &v.fen) })},
	{code: "I1", name: "HIS hears of a payment when it has handed in its day", late: true, of: platformCalls, plan: heardLate},
	{code: "I5", name: "HIS booked three fen less", plan: atHIS("ROW_AMOUNT", -3, func(f *fault, v *visit) {
		less := v.fen - 3
		f.row(v, "", &less, &v.fen, &v.fen)
	})},
	{code: "DUP_ROW", name: "a row of HIS twice", plan: atHIS("ROW_TWICE", 0, everybody)},
	{code: "SWEEP", name: "a refund that the channel is still making", back: true, plan: refundOf(map[string]any{"do": "REFUND_LATE", "seconds": 500_000},
		everybodys)},
	{code: "F6", name: "a refund that the channel closed", back: true, plan: refundOf(map[string]any{"do": "REFUND_CLOSED", "seconds": 120}, notGiven)},
	{code: "I2", name: "HIS alone has booked a payment", plan: nobodys("HP%s8%013d", false)},
	{code: "BACKFILL", name: "HIS and channel have a payment that nobody made here", plan: nobodys("HP%s7%013d", true)},
	{code: "BACKFILL", name: "closed here, paid all the same, and booked by HIS", way: channels.WayQR, of: appCalls, plan: paidLateAndBooked},
	{code: "F12", name: "HIS has two payments of one amount without their numbers", plan: alike},
	{code: "PHANTOM", name: "neither HIS nor channel hands a payment in", plan: onlyHere},
	{code: "I6", name: "closed here, and booked by HIS", way: channels.WayQR, of: []int{0, 1}, plan: closedAndBooked},
	{code: "I7", name: "HIS has a payment without its number", plan: atHIS("ROW_UNKEYED", 0, everybody)},
	{code: "I8", name: "HIS has a payment as cash", plan: atHIS("ROW_CASH", 0, everybody)},
	{code: "I3", name: "HIS lacks a refund", back: true, plan: refundAtHIS("ROW_MISSING", 0, func(f *fault, v *visit, no string) { f.row(v, no, nil, &v.backs[0], &v.backs[0]) })},
	{code: "I7", name: "HIS has a refund without its number", back: true, plan: refundAtHIS("ROW_UNKEYED", 0, everybodys)},
	{code: "I4", name: "HIS alone took a charge back", back: true, plan: voidedAlone},
	{code: "I4", name: "HIS refuses to void a charge, and has voided it", back: true, of: platformCalls, plan: deniedAndVoided(false)},
	{code: "F5", name: "a refund in the channel's portal", back: true, plan: inPortal(false)},
	{code: "BACKFILL", name: "a refund in the channel's portal, and in HIS", back: true, plan: inPortal(true)},
	{code: "F9", name: "the money is at another hospital's number", of: []int{0, 1}, plan: elsewhere},
	{code: "F4", name: "the bill says ten fen less", plan: atChannel("BILL_AMOUNT", -10, func(f *fault, v *visit) {
		less := v.fen - 10
		f.row(v, "", &v.fen, &v.fen, &less)
	})},
	{code: "F7", name: "a fee is one fen too low", plan: atChannel("BILL_FEE", -1, everybody)},
	{code: "F3", name: "before midnight here, in the channel's bill of the next day", step: steps, plan: atChannel("BILL_MIDNIGHT", 0, func(f *fault, v *visit) {
		f.row(v, "", &v.fen, &v.fen, nil)
		everybody(f, v)
		f.found[1].Code = "F10" // on the next day
	})},
	{code: "I5", name: "HIS booked three fen more", plan: atHIS("ROW_AMOUNT", 3, func(f *fault, v *visit) {
		more := v.fen + 3
		f.row(v, "", &more, &v.fen, &v.fen)
	})},
	{code: "BACKFILL", name: "HIS and channel have ten fen more", plan: differently(10)},
	{code: "BACKFILL", name: "HIS and channel have ten fen less", plan: differently(-10)},
	{code: "I5", name: "HIS gave two fen less back", back: true, plan: refundAtHIS("ROW_AMOUNT", -2, func(f *fault, v *visit, no string) {
		less := v.backs[0] - 2
		f.row(v, no, &less, &v.backs[0], &v.backs[0])
	})},
	{code: "I8", name: "HIS has a refund as cash", back: true, plan: refundAtHIS("ROW_CASH", 0, everybodys)},
	{code: "DUP_ROW", name: "a refund of HIS twice", back: true, plan: refundAtHIS("ROW_TWICE", 0, everybodys)},
	{code: "I6", name: "HIS refuses to void a charge, and voids it under the refund's number", back: true, of: platformCalls, plan: deniedAndVoided(true)},
	{code: "PHANTOM", name: "a refund that the channel closed and HIS never booked", back: true, plan: closedAndForgotten},
	{code: "PAID_TWICE", name: "closed here, paid by another order, and paid all the same", way: channels.WayQR, of: appCalls, plan: paidLate(byAnother)},
	{code: "RESTATED", name: "the bill is made anew after the settlement, without a payment", of: []int{0}, plan: restated},
	{code: "F6", name: "a refund that the channel holds (abnormal)", back: true, plan: refundOf(map[string]any{"do": "REFUND_ABNORMAL", "seconds": 120}, notGiven)},
	{code: "F9", name: "the money is at another number of the hospital", of: []int{0}, plan: beside},
	{code: "F11", name: "the canteen's payment, of which it gives half back", plan: foreignBack("CT%s7%05d", "F11")},
	{code: "F1", name: "a payment that nobody made here, and half of it given back", plan: foreignBack("HP%s6%013d", "F5")},
	{code: "NET_ZERO", name: "HIS has neither a payment nor its refund", back: true, all: true, plan: unheardOf},
	{code: "F6", name: "the bill lacks a refund", back: true, plan: refundAtChannel(map[string]any{"do": "BILL_MISSING"}, notGiven)},
	{code: "F4", name: "the bill gives ten fen more back", back: true, plan: refundAtChannel(map[string]any{"do": "BILL_AMOUNT", "fen": 10}, func(f *fault, v *visit, no string) {
		more := v.backs[0] + 10
		f.row(v, no, &v.backs[0], &v.backs[0], &more)
	})},
	{code: "F4", name: "the bill gives ten fen less back", back: true, plan: refundAtChannel(map[string]any{"do": "BILL_AMOUNT", "fen": -10}, func(f *fault, v *visit, no string) {
		less := v.backs[0] - 10
		f.row(v, no, &v.backs[0], &v.backs[0], &less)
	})},
	{code: "F7", name: "one fen too much of the fee is returned", back: true, plan: refundAtChannel(map[string]any{"do": "BILL_FEE", "fen": 1}, everybodys)},
	{code: "F9", name: "the money is at another hospital's number, and is given back there", back: true, of: []int{0, 1}, plan: backThere(elsewhere, otherHospital)},
	{code: "F9", name: "the money is at another number of the hospital, and is given back there", back: true, of: []int{0}, plan: backThere(beside, otherNumber)},
}
