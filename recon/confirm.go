package recon

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/pay"
)

// doubt names a row of the platform that the channel, or HIS, is asked about before a
// run calls it an orphan (S9).
type doubt struct {
	kind             channels.Kind
	hospital, number string
	his              bool  // HIS is asked
	digest           int64 // of the row as the run has read it
}

// asksAtOnce is how many questions to the outside are under way at a time.
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

// unheard says that the details of HIS lack a payment or refund that succeeded for the
// platform, so that HIS's own word goes with the case: it has booked it since, or has
// lost a row of its details, or does not serve it. A leg that is open as before was
// asked about when it was found. Of what HIS alone has there is no row to ask with.
func (leg *Leg) unheard() bool {
	lacks := leg.Code == I1 || leg.Code == I3 || leg.Code == Phantom
	return lacks && leg.lives() != nil && leg.platform.Status == channels.Success && !leg.unchanged()
}

// noteDoubt keeps the leg's row for confirm.
func (h *hospitalRun) noteDoubt(leg *Leg) {
	if h.engine.House == nil || leg.Kind != channels.Pay && leg.Kind != channels.Refund {
		return
	}
	d := doubt{kind: leg.Kind, hospital: leg.Hospital, number: leg.OrderNo}
	if leg.Kind == channels.Refund {
		d.number = leg.RefundNo
	}
	if leg.doubtful(h.rules) {
		d.digest = leg.lives().Digest
		h.doubts = append(h.doubts, d)
	}
	if d.his, d.digest = true, 0; leg.unheard() {
		h.doubts = append(h.doubts, d)
	}
}

// confirm asks once about each row that a run doubts and applies the answers by the
// ordinary verbs, which keep them; asked is what the run has asked before. It says
// whether an answer may change what the run sees: the day is then matched anew. No
// answer, or one that is refused, leaves a row as it is: the run says so of it.
func (e *Engine) confirm(ctx context.Context, doubts []doubt, asked map[doubt]bool) bool {
	var wait sync.WaitGroup
	var changed atomic.Bool
	slots := make(chan struct{}, asksAtOnce)
	for _, d := range doubts {
		row := d
		row.digest = 0
		if asked[row] {
			continue
		}
		asked[row] = true
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if e.ask(ctx, d) {
				changed.Store(true)
			}
		})
	}
	wait.Wait()
	return changed.Load()
}

// ask asks about one row, and says whether the run has read it otherwise than it is now:
// by the channel's answer or by what came meanwhile, or HIS has booked what it had not
// said so far.
func (e *Engine) ask(ctx context.Context, d doubt) (changed bool) {
	payments, refunds := pay.Payments{House: e.House}, pay.Refunds{House: e.House}
	switch pays := d.kind == channels.Pay; {
	case d.his && pays:
		_, changed, _ = payments.AskHIS(ctx, d.hospital, d.number)
	case d.his:
		_ = refunds.AskHIS(ctx, d.hospital, d.number)
	case pays:
		changed, _ = payments.Confirm(ctx, d.hospital, d.number, d.digest)
	default:
		changed, _ = refunds.Confirm(ctx, d.hospital, d.number, d.digest)
	}
	return changed
}
