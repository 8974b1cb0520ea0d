package lived

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/ledger"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// connectHIS makes the client by which the app calls HIS itself (his_calls APP).
func (l *life) connectHIS() error {
	l.his, l.mishaps = map[string]channels.HISGateway{}, map[string]int{}
	l.evening(l.heardByHIS)
	for _, h := range hospitals {
		secret, err := os.ReadFile(filepath.Join(l.dir, "sandbox", "keys", "his-"+h.code+".key"))
		if err == nil {
			l.his[h.code], err = his.New(his.Config{Hospital: h.code, BaseURL: l.where.HIS + "/" + h.code, Format: h.format, Secret: string(secret), Now: l.clock.Now})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bills are the charges that HIS opens for the step's visits.
func (l *life) bills(ctx context.Context, list []*visit) error {
	const aCall = 500
	for len(list) > 0 {
		n := min(len(list), aCall)
		var open []map[string]any
		for _, v := range list[:n] {
			open = append(open, map[string]any{"hospital": v.hospital.code, "bill_no": v.bill(), "fen": v.fen, "biz_type": v.biz, "patient": v.patient(), "operator": "C01"})
		}
		if err := l.admin(ctx, "/his/bills", map[string]any{"bills": open}, nil); err != nil {
			return err
		}
		for _, v := range list[:n] {
			if v.fault != nil && v.fault.opened != nil {
				if err := v.fault.opened(ctx, l, v); err != nil {
					return err
				}
			}
		}
		list = list[n:]
	}
	return nil
}

// cashAtHIS is the window that books cash, where HIS itself took it.
func (l *life) cashAtHIS(ctx context.Context, v *visit) error {
	return l.admin(ctx, "/his/cash", map[string]any{"hospital": v.hospital.code, "bill_no": v.bill(), "fen": v.fen, "biz_type": v.biz, "tender": "CASH",
		"patient": v.patient(), "operator": "C01"}, nil)
}

// tellHIS writes a payment back where the app calls HIS, and tells the platform what
// HIS has booked. An answer that is lost is asked for again with the same key. Where the
// platform calls HIS it does so when the clock jumps next.
func (l *life) tellHIS(ctx context.Context, v *visit) error {
	if v.missed {
		l.miss(v, "")
	}
	if v.hospital.calls != "APP" {
		return nil
	}
	ask := channels.HISRequest{Hospital: v.hospital.code, BillNo: v.bill(), OrderNo: v.order, TradeNo: v.trade, Amount: ledger.Money(v.fen), Tender: v.number.channel,
		Operator: "C01", PaidAt: l.clock.Now(), Key: "ack-" + v.order, BizType: string(v.biz)}
	word := untilHeard(func() channels.HISAnswer { return l.his[v.hospital.code].Acknowledge(ctx, ask) })
	if word.Outcome != channels.OutcomeSucceeded {
		return fmt.Errorf("%w: HIS of %s says of bill %s: %s %s", ErrDemo, v.hospital.code, v.bill(), word.Outcome, word.Reason.Text)
	}
	_, err := answered(ctx, func() (*payv1.AcknowledgePaymentResponse, error) {
		return l.calls.pay.AcknowledgePayment(ctx, &payv1.AcknowledgePaymentRequest{IdempotencyKey: "ack_" + v.order, Hospital: v.hospital.code, OrderNo: v.order, BillNo: v.bill(),
			ReceiptNo: word.ReceiptNo, AmountFen: int64(word.Amount)})
	})
	return err
}

// appRefund is the number with which the app has HIS void a charge, before there is a
// refund.
func appRefund(b back) string { return fmt.Sprintf("APP%d-%d", b.v.n, b.nth) }

// ask is how the platform is asked for the refund.
func (b back) ask() *payv1.CreateRefundRequest {
	return &payv1.CreateRefundRequest{IdempotencyKey: refundKey(b), Hospital: b.v.hospital.code, OrderNo: b.v.order, AmountFen: b.v.backs[b.nth], Cause: "项目退费", Maker: "C01"}
}

// asksBack asks the platform for a refund, and has a second person approve it where it
// takes one.
func (l *life) asksBack(ctx context.Context, ask *payv1.CreateRefundRequest) (*payv1.Refund, error) {
	create := func() (*payv1.CreateRefundResponse, error) { return l.calls.refund.CreateRefund(ctx, ask) }
	made, err := answered(ctx, create)
	if refusal(err) == "ORDER_OF_STEPS" { // HIS is silent about the payment, and nothing was kept of the refund: it is asked for again
		made, err = answered(ctx, create)
	}
	if err != nil {
		return nil, fmt.Errorf("refund of %s: %w", ask.GetOrderNo(), err)
	}
	r := made.GetRefund()
	if r.GetStatus() == "APPROVING" {
		decided, err := answered(ctx, func() (*payv1.DecideRefundResponse, error) {
			return l.calls.decide.DecideRefund(ctx, &payv1.DecideRefundRequest{IdempotencyKey: "yes_" + r.GetRefundNo(), Hospital: ask.GetHospital(), RefundNo: r.GetRefundNo(), Approve: true})
		})
		if err != nil {
			return nil, fmt.Errorf("approve refund %s: %w", r.GetRefundNo(), err)
		}
		r = decided.GetRefund()
	}
	return r, nil
}

// giveBack refunds a part of a visit: HIS first, then the channel; a part of a
// payment takes a second person.
func (l *life) giveBack(ctx context.Context, b back) error {
	v, fen := b.v, b.v.backs[b.nth]
	if v.order == "" || !l.isPaid(v) {
		return nil
	}
	if v.fault != nil && v.fault.instead != nil {
		return v.fault.instead(ctx, l, v)
	}
	ask := b.ask()
	request := channels.HISRequest{Hospital: v.hospital.code, BillNo: v.bill(), OrderNo: v.order, RefundNo: appRefund(b), Amount: ledger.Money(fen),
		Tender: v.number.channel, Operator: "C01", Key: "cancel-" + refundKey(b), BizType: string(v.biz)}
	missed, err := l.misses(ctx, his.PathCancel, v, b.nth)
	if err != nil {
		return err
	}
	if v.hospital.calls == "APP" {
		word := untilHeard(func() channels.HISAnswer { return l.his[v.hospital.code].Cancel(ctx, request) })
		if word.Outcome != channels.OutcomeSucceeded {
			return fmt.Errorf("%w: HIS does not cancel %s: %s %s", ErrDemo, v.bill(), word.Outcome, word.Reason.Text)
		}
		ask.HisCancelled, ask.HisAllowsFen = true, fen
	}
	if v.fault != nil && v.fault.refunding != nil {
		if err := v.fault.refunding(ctx, l, v); err != nil {
			return err
		}
	}
	later, err := l.misses(ctx, his.PathWriteBack, v, b.nth) // before the platform may tell HIS of it
	if err != nil {
		return err
	}
	r, err := l.asksBack(ctx, ask)
	if err != nil {
		return err
	}
	l.mu.Lock()
	v.refunds = append(v.refunds, paidBack{r.GetRefundNo(), fen})
	l.mu.Unlock()
	if missed || later {
		l.miss(v, r.GetRefundNo())
	}
	if v.fault != nil && v.fault.refunded != nil {
		if err := v.fault.refunded(ctx, l, v, r.GetRefundNo()); err != nil {
			return err
		}
	}
	if v.hospital.calls != "APP" {
		return nil
	}
	request.RefundNo, request.RefundID, request.Key, request.RefundedAt = r.GetRefundNo(), r.GetChannelRefundNo(), "refund-"+r.GetRefundNo(), l.clock.Now()
	if word := untilHeard(func() channels.HISAnswer { return l.his[v.hospital.code].WriteBackRefund(ctx, request) }); word.Outcome != channels.OutcomeSucceeded {
		return fmt.Errorf("%w: HIS does not take refund %s: %s %s", ErrDemo, r.GetRefundNo(), word.Outcome, word.Reason.Text)
	}
	_, err = answered(ctx, func() (*payv1.AcknowledgeRefundResponse, error) {
		return l.calls.refund.AcknowledgeRefund(ctx, &payv1.AcknowledgeRefundRequest{IdempotencyKey: "ack_" + r.GetRefundNo(), Hospital: v.hospital.code, RefundNo: r.GetRefundNo()})
	})
	return err
}
