package lived

import (
	"context"
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
		return l.admin(ctx, "/his/faults", map[string]any{"do": "DROP", "hospital": v.hospital.code, "bill_no": v.bill(), "until": hears.Format(time.RFC3339)}, nil)
	}
	f.paid = func(_ context.Context, _ *life, v *visit) error {
		f.row(v, "", nil, &v.fen, &v.fen)
		everybody(f, v)
		f.found[1].Code = "F10" // on the next day
		return nil
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
	{code: "F2", name: "paid after the platform had closed it", way: channels.WayQR, of: appCalls, plan: paidLate},
	{code: "I1", name: "HIS lacks a payment", plan: atHIS("ROW_MISSING", 0, func(f *fault, v *visit) { f.row(v, "", nil, &v.fen, &v.fen) })},
	{code: "I1", name: "HIS hears of a payment when it has handed in its day", late: true, of: platformCalls, plan: heardLate},
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
