package lived

import (
	"context"

	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// noticeFaults are what happens to the channel's notices.
var noticeFaults = map[fate]string{lostNotice: "NOTICE_LOST", twiceNotice: "NOTICE_TWICE", forged: "NOTICE_FORGED", foreign: "NOTICE_FOREIGN"}

// prepaid is a patient who was shown a code, or was led to the channel's own app,
// and pays there. The platform hears of it by the channel's notice or by asking.
func (l *life) prepaid(ctx context.Context, v *visit, p *payv1.Payment) (*payv1.Payment, error) {
	if v.fate == walkedOff {
		closed, err := answered(ctx, func() (*payv1.ClosePaymentResponse, error) {
			return l.calls.pay.ClosePayment(ctx, &payv1.ClosePaymentRequest{IdempotencyKey: "close_" + v.order, Hospital: v.hospital.code, OrderNo: v.order})
		})
		return closed.GetPayment(), err
	}
	if what := noticeFaults[v.fate]; what != "" {
		if err := spoil(ctx, l, v, map[string]any{"do": what}); err != nil {
			return nil, err
		}
	}
	return p, l.admin(ctx, "/pay", map[string]string{"merchant": v.number.no, "order": v.order}, nil)
}
