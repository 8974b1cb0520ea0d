package recon

import (
	"context"
	"sync"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/pay"
)

// doubt names a row of the platform that the channel is asked about before a run
// calls it an orphan (S9).
type doubt struct {
	kind             channels.Kind
	hospital, number string
}

// asksAtOnce is how many questions to the channels are under way at a time.
const asksAtOnce = 8

// doubtful says whether the platform and the channel's bill tell the leg in two
// ways, or leave open what became of it, so that the channel's own word may settle
// it: a payment without an outcome, or whose outcome the bill does not bear out; a
// refund that the channel has not accepted, or whose end is not known.
func (leg *Leg) doubtful(r *Rules) bool {
	v := leg.lives()
	if v == nil || !r.FundReady(leg.Hospital, leg.Channel, leg.MerchantNo, leg.Day) {
		return false
	}
	switch leg.Kind {
	case channels.Pay:
		open := v.Stage == string(pay.Created) || v.Stage == string(pay.Paying) || v.Stage == string(pay.Unknown)
		return open || leg.atChannel() != (v.Stage == string(pay.Success))
	case channels.Refund:
		accepted := v.Stage == string(pay.RefundSuccess)
		return v.Stage == string(pay.RefundOwed) || accepted && (!leg.platform.Final || !leg.atChannel())
	}
	return false
}

// noteDoubt keeps the leg's row for confirm.
func (h *hospitalRun) noteDoubt(leg *Leg) {
	if h.engine.House == nil || !leg.doubtful(h.rules) {
		return
	}
	d := doubt{leg.Kind, leg.Hospital, leg.OrderNo}
	if leg.Kind == channels.Refund {
		d.number = leg.RefundNo
	}
	h.doubts = append(h.doubts, d)
}

// confirm asks the channel once about each row that a run doubts and applies the
// answers by the ordinary verbs, which keep them; asked is what the run has asked
// before. It says whether anything was asked: the day is then matched anew. No
// answer, or one that is refused, leaves a row as it is: the run says so of it.
func (e *Engine) confirm(ctx context.Context, doubts []doubt, asked map[doubt]bool) bool {
	payments, refunds := pay.Payments{House: e.House}, pay.Refunds{House: e.House}
	var wait sync.WaitGroup
	slots, some := make(chan struct{}, asksAtOnce), false
	for _, d := range doubts {
		if asked[d] {
			continue
		}
		asked[d], some = true, true
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if d.kind == channels.Pay {
				_, _ = payments.Query(ctx, d.hospital, d.number)
			} else {
				_, _ = refunds.Query(ctx, d.hospital, d.number)
			}
		})
	}
	wait.Wait()
	return some
}
