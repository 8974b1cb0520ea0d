package features_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/clearing/pay"
)

// Abnormal refunds (退款异常). WeChat takes such a refund and holds the money: v3 takes an
// application to the merchant's bank account, V2 is handled on the merchant platform
// alone. Alipay refuses while the trade is frozen, and takes the same number later.

// turned is a refund of 4.00 that the channel then calls abnormal, or refuses because
// the trade is frozen.
func (r *rig) turned(a *adapter, p *pay.Payment) *pay.Refund {
	r.t.Helper()
	r.plant(live.Fault{Do: live.FaultRefundAbnormal, Seconds: 1}, "refund", a)
	back, err := r.giveBack(p, fmt.Sprint("abnormal", r.n), 400)
	if err != nil {
		r.t.Fatal(err)
	}
	if a.channel == channels.Alipay {
		if back.Status != pay.RefundOwed || back.Reason.Kind != channels.ReasonNotRefundable || !strings.Contains(back.ToDo().ZH, "冻结") {
			r.t.Errorf("%s: a frozen trade: %s is %s, %+v", a.name, back.RefundNo, back.Status, back.Reason)
		}
		return back
	}
	r.clock.Add(2)
	if back = r.asked(back); back.Status != pay.RefundSuccess || !back.Abnormal || !back.SuccessAt.IsZero() || back.ToDo().EN == "" {
		r.t.Errorf("%s: %s is %s, abnormal %t", a.name, back.RefundNo, back.Status, back.Abnormal)
	}
	return back
}

// asked asks the channel about a refund now.
func (r *rig) asked(back *pay.Refund) *pay.Refund {
	r.t.Helper()
	back, err := r.refunds.Query(r.t.Context(), "H1", back.RefundNo)
	if err == nil {
		back, err = r.refunds.Get(r.t.Context(), "H1", back.RefundNo)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return back
}

// toCard is the operator who has the channel pay another card of the payer.
func (r *rig) toCard(a *adapter, refundNo string) {
	r.t.Helper()
	answer, err := http.Post(r.at.Admin+"/abnormal", "application/json", bytes.NewReader(fmt.Appendf(nil, `{"merchant":%q,"refund":%q,"to":"CARD"}`, a.merchant(), refundNo)))
	if err != nil || answer.Body.Close() != nil || answer.StatusCode != http.StatusOK {
		r.t.Fatal(answer, err)
	}
}

// handled takes an abnormal refund through a fault to its end: at the application
// where the channel takes one, else at the question about it, or at the same number
// sent again. What an application came to is shown, ENDED for one that was not taken.
func (r *rig) handled(a *adapter, p *pay.Payment, x trouble) string {
	r.t.Helper()
	back := r.turned(a, p)
	if a.channel == channels.Alipay {
		r.plant(x.Fault, "refund", a)
		return string(r.untilGivenBack(back).Status)
	}
	if _, applies := r.open.(channels.AbnormalGateway); !applies {
		r.toCard(a, back.RefundNo)
		r.clock.Add(2)
		r.plant(x.Fault, "refundquery", a)
		for n := 0; back.SuccessAt.IsZero() && n < most; n++ {
			back = r.asked(back)
			r.clock.Add(10)
		}
		return string(back.Status)
	}
	r.plant(x.Fault, "abnormal", a)
	var end []string
	for n := range most {
		if back.Application == nil || back.Application.State == pay.ApplicationEnded {
			_, err := r.refunds.ApplyAbnormal(r.t.Context(), "H1", back.RefundNo, fmt.Sprint("apply", r.n, ".", n), "TREASURER")
			if err == nil {
				_, err = r.refunds.DecideAbnormal(r.t.Context(), "H1", back.RefundNo, "HEAD", true, "")
			}
			if err != nil {
				r.t.Fatal(err)
			}
		}
		r.clock.Add(70)
		switch back = r.asked(back); back.Application.State {
		case pay.ApplicationEnded:
			end = append(end, string(back.Application.State))
		case pay.ApplicationPaid:
			return strings.Join(append(end, string(back.Application.State)), " ")
		}
	}
	return "NEVER"
}

// abnormalRefund: nothing is lost, nothing is refunded twice, and what a person does on
// the merchant platform is seen.
func (r *rig) abnormalRefund(a *adapter) {
	p := r.paid(a)
	back := r.turned(a, p)
	_, err := r.refunds.ApplyAbnormal(r.t.Context(), "H1", back.RefundNo, fmt.Sprint("apply", r.n), "TREASURER")
	_, applies := r.open.(channels.AbnormalGateway)
	switch {
	case a.channel == channels.Alipay:
		if !errors.Is(err, pay.ErrState) {
			r.t.Errorf("%s: applied for a refund that Alipay has not taken: %v", a.name, err)
		}
		if back = r.untilGivenBack(back); back.Status != pay.RefundSuccess {
			r.t.Errorf("%s: %s is %s", a.name, back.RefundNo, back.Status)
		}
		return
	case applies && err != nil, !applies && !errors.Is(err, pay.ErrNoCall):
		r.t.Errorf("%s: the application: %v", a.name, err)
	}
	r.toCard(a, back.RefundNo)
	r.clock.Add(2)
	if back = r.asked(back); back.SuccessAt.IsZero() || back.Abnormal || back.ToDo().ZH != "" {
		r.t.Errorf("%s: paid to another card, and %s is %s, abnormal %t", a.name, back.RefundNo, back.Status, back.Abnormal)
	}
	if _, err := r.refunds.DecideAbnormal(r.t.Context(), "H1", back.RefundNo, "HEAD", true, ""); err == nil {
		r.t.Errorf("%s: what the payer has is applied for", a.name)
	}
}
