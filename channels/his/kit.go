package his

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Finding is what one step of the kit came to: Field is the field that is not as
// the contract has it, "" where all is.
type Finding struct {
	Call, Step       string
	Field, Want, Got string
}

// kit is the contract as a list of steps against a HIS of a test environment.
type kit struct {
	ctx   context.Context
	c     *Client
	base  channels.HISRequest
	found func(Finding)
}

// Check goes through the contract with one open bill of a test environment (U05): it
// books the bill, voids it in two parts and writes their numbers back. found hears
// of every step in its order.
func Check(ctx context.Context, c *Client, bill string, fen ledger.Money, found func(Finding)) error {
	if fen < 2 {
		return fmt.Errorf("%w: the bill must be of 2 fen at least: it is voided in two parts", ErrConfig)
	}
	now := c.cfg.Now()
	mark := rand.Text()[:12] // a second run is of other payments
	k := kit{ctx, c, channels.HISRequest{Hospital: c.cfg.Hospital, BillNo: bill, OrderNo: "HPKIT" + mark, TradeNo: "4200000001", Amount: fen,
		Tender: channels.WeChat, Operator: "KIT", PaidAt: now.Truncate(time.Second), Key: "ack-HPKIT" + mark, BizType: "OUTPATIENT"}, found}
	k.booking()
	k.voiding("HRKIT"+mark+"A", fen/2, fen-fen/2)
	k.voiding("HRKIT"+mark+"B", fen-fen/2, 0)
	k.refused("bills/cancel", "a void of what is voided", c.Cancel(ctx, k.refund("HRKIT"+mark+"C", 1)), CodeNotRefundable)
	k.stranger()
	return nil
}

func (k *kit) booking() {
	c, ctx, r := k.c, k.ctx, k.base
	k.refused("bills/order", "a payment that is not booked", c.Order(ctx, r), CodeNotFound)
	k.refused("bills/refundable", "a payment that is not booked", c.Refundable(ctx, r), CodeNotFound)
	other := r
	other.Amount, other.Key = r.Amount+1, r.Key+"-other"
	k.refused("payments/acknowledge", "another amount than the bill's", c.Acknowledge(ctx, other), CodeAmount)
	first := c.Acknowledge(ctx, r)
	k.said("payments/acknowledge", "the bill is booked", first, map[string][2]any{"amount_fen": {r.Amount, first.Amount}, "bill_no": {r.BillNo, first.BillNo}})
	again := c.Acknowledge(ctx, r)
	k.said("payments/acknowledge", "the same again gets the first answer", again,
		map[string][2]any{"amount_fen": {first.Amount, again.Amount}, "receipt_no": {first.ReceiptNo, again.ReceiptNo}})
	other.Key = r.Key
	k.refused("payments/acknowledge", "the key with other values", c.Acknowledge(ctx, other), CodeKeyUsed)
	other = r
	other.OrderNo, other.Key = r.OrderNo+"X", r.Key+"X"
	k.refused("payments/acknowledge", "the bill by another payment", c.Acknowledge(ctx, other), CodePaid)
	booked := c.Order(ctx, r)
	k.said("bills/order", "what is booked", booked, map[string][2]any{"amount_fen": {r.Amount, booked.Amount}})
	k.refused("bills/cancel", "more than was paid", c.Cancel(ctx, k.refund(r.OrderNo+"M", r.Amount+1)), CodeNotRefundable)
}

func (k *kit) refund(no string, fen ledger.Money) channels.HISRequest {
	r := k.base
	r.RefundNo, r.Amount, r.Key = no, fen, "cancel-"+no
	return r
}

// voiding voids a part of the bill, of which left may be given back after it, and
// writes its number back.
func (k *kit) voiding(no string, fen, left ledger.Money) {
	c, ctx, r := k.c, k.ctx, k.refund(no, fen)
	before := c.Refundable(ctx, k.base)
	k.said("bills/refundable", "before a void", before, map[string][2]any{"refundable_fen": {fen + left, before.Refundable}})
	for _, step := range []string{"a charge is voided", "the same again voids nothing more"} {
		done := c.Cancel(ctx, r)
		k.said("bills/cancel", step, done, map[string][2]any{"refundable_fen": {left, done.Refundable}})
	}
	after := c.Refundable(ctx, k.base)
	k.said("bills/refundable", "after a void", after, map[string][2]any{"refundable_fen": {left, after.Refundable}})
	r.Key, r.RefundID, r.RefundedAt = "refund-"+no, "5030000001", k.base.PaidAt
	for _, step := range []string{"the number of the refund", "the same again"} {
		k.said("refunds/write-back", step, c.WriteBackRefund(ctx, r), nil)
	}
	wrong := r
	wrong.RefundNo, wrong.Key = no+"X", r.Key+"X"
	k.refused("refunds/write-back", "a refund that was never voided", c.WriteBackRefund(ctx, wrong), CodeNotFound)
}

// stranger asks under another secret: it must learn nothing.
func (k *kit) stranger() {
	cfg := k.c.cfg
	cfg.Secret = "not-the-secret-of-this-hospital"
	other, err := New(cfg)
	f := Finding{Call: "bills/order", Step: "a request that is signed with another secret"}
	if err != nil {
		f.Field, f.Want, f.Got = "the address", "one that can be asked", err.Error()
	} else if got := other.Order(k.ctx, k.base); got.Outcome != channels.OutcomeUnknown || got.Exchange.Status == 200 {
		f.Field, f.Want, f.Got = "status", "401", fmt.Sprint(got.Exchange.Status)
	}
	k.found(f)
}

// said notes an answer that must be a yes with these fields, wanted and got.
func (k *kit) said(call, step string, got channels.HISAnswer, fields map[string][2]any) {
	f := Finding{Call: call, Step: step}
	if got.Outcome != channels.OutcomeSucceeded {
		f.Field, f.Want, f.Got = "result", ResultOK, wordOf(got)
	}
	for name, v := range fields {
		if f.Field == "" && v[0] != v[1] {
			f.Field, f.Want, f.Got = name, fmt.Sprint(v[0]), fmt.Sprint(v[1])
		}
	}
	k.found(f)
}

// refused notes an answer that must be a refusal with the code.
func (k *kit) refused(call, step string, got channels.HISAnswer, code string) {
	f := Finding{Call: call, Step: step}
	switch {
	case got.Outcome != channels.OutcomeFailed:
		f.Field, f.Want, f.Got = "result", ResultRefused, wordOf(got)
	case got.Reason.Code != code:
		f.Field, f.Want, f.Got = "code", code, got.Reason.Code
	}
	k.found(f)
}

// wordOf is an answer in a few words.
func wordOf(a channels.HISAnswer) string {
	if a.Outcome == channels.OutcomeSucceeded {
		return ResultOK
	}
	return string(a.Outcome) + " " + a.Reason.Code + " " + a.Reason.Text
}
