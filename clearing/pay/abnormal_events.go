package pay

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
)

// aboutAbnormal says that the event needs to know what is done about an abnormal
// refund.
func (e *refundEvent) aboutAbnormal(r *Refund) bool {
	return r.Abnormal || e.applicant != "" || e.ruling != nil || e.applied != nil || e.answer != nil && e.answer.PaidTo == channels.PaidToMerchant
}

// asks takes the maker's request.
func (w *refundWork) asks() error {
	r, x := w.r, w.r.Application
	switch {
	case r.Status != RefundSuccess || !r.SuccessAt.IsZero() || !r.Abnormal:
		return notAbnormal(r)
	case x.live() || x.away():
		return ErrState.Because("status", "refund %s is applied for already: the application is %s", r.RefundNo, x.State)
	case !w.applies:
		return noCall(r)
	case r.ChannelRefundNo == "":
		return ErrState.Because("channel_refund_no", "the channel has not said its own number of refund %s: query it first", r.RefundNo)
	}
	if x == nil {
		x = &Application{fresh: true}
		r.Application = x
	}
	x.change()
	x.State, x.Maker, x.Checker, x.AskedAt, x.DecidedAt, x.Reason = ApplicationAsked, w.applicant, "", w.at.Truncate(time.Microsecond), time.Time{}, ""
	return w.keepApplication(x.Maker, "")
}

// rules takes the second person's word. From the moment it is approved on the
// application counts as sent: what breaks now is found by a query.
func (w *refundWork) rules() error {
	r, x, d := w.r, w.r.Application, w.ruling
	switch {
	case x == nil || x.State != ApplicationAsked:
		return ErrState.Because("status", "refund %s waits for no approval of an application", r.RefundNo)
	case d.checker == "" || strings.EqualFold(d.checker, x.Maker):
		return ErrTwoPeople.Because("checker", "%s applied for refund %s and cannot decide it", d.checker, r.RefundNo)
	case d.approve && (r.Status != RefundSuccess || !r.SuccessAt.IsZero() || !r.Abnormal):
		return notAbnormal(r)
	}
	x.change()
	x.Checker, x.DecidedAt = d.checker, w.at.Truncate(time.Microsecond)
	if !d.approve {
		x.State, x.Reason = ApplicationRejected, d.reason
		return w.keepApplication(x.Checker, d.reason)
	}
	x.State = ApplicationSent
	r.change()
	r.Act, r.NextAt, r.Tries = channels.ActQuery, w.at.Add(recoverAfter), 0
	return w.keepApplication(x.Checker, "")
}

// sent takes the channel's answer to the application. A refusal leaves the refund as
// it was; all else is asked for.
func (w *refundWork) sent() error {
	r, x, a := w.r, w.r.Application, w.applied
	if x == nil || x.State != ApplicationSent {
		return nil // a query was faster
	}
	r.change()
	r.Act, r.NextAt = channels.ActQuery, w.at.Add(channels.PlanRefund.Next(0).After)
	if a.Outcome != channels.OutcomeFailed {
		return nil
	}
	x.end(strings.TrimSpace(a.Reason.Code + " " + a.Reason.Text))
	r.Reason, r.NextAt = a.Reason, channels.SweepAt(r.AcceptedAt, w.at)
	return w.keepApplication("", x.Reason)
}

// keepApplication has the journal keep who did what about an abnormal refund; by is
// "" where it is the channel's word.
func (w *refundWork) keepApplication(by, reason string) error {
	x := w.r.Application
	text, err := json.Marshal(struct {
		Hospital string           `json:"hospital"`
		Number   string           `json:"number"`
		Amount   int64            `json:"amount_fen"`
		State    ApplicationState `json:"state"`
		Maker    string           `json:"maker"`
		By       string           `json:"by"`
		Reason   string           `json:"reason"`
	}{w.r.Hospital, w.r.RefundNo, int64(w.r.Amount), x.State, x.Maker, by, reason})
	if err == nil {
		w.b.Record("refund.abnormal", text)
	}
	return err
}

// applications lets the channel's word about an accepted refund speak of what was
// done about it as an abnormal one; done says that nothing else follows from it.
func (w *refundWork) applications() (done bool, err error) {
	a, r, x := w.answer, w.r, w.r.Application
	final := a.Outcome == channels.OutcomeSucceeded && a.PaidTo != channels.PaidToMerchant || a.Outcome == channels.OutcomeFailed
	switch {
	case x.away() && final:
		rule := "the money of refund " + r.RefundNo + " is with the hospital (" + string(x.State) + "), and the channel now says " + string(a.Outcome)
		record(w.b, "refund.differs", r.Hospital, r.RefundNo, rule)
		return true, ErrDiffers.Because("status", "%s: nothing is posted, a person decides", rule)
	case x.away():
		return true, nil
	case a.Outcome == channels.OutcomeSucceeded && a.PaidTo == channels.PaidToMerchant:
		return true, w.paidToMerchant()
	case a.Outcome == channels.OutcomeSucceeded && a.PaidTo == "" && x != nil && x.State == ApplicationSent:
		unsaid := *a // to whom it was paid decides what is owed
		unsaid.Outcome = channels.OutcomeUnknown
		w.answer = &unsaid
	case final && x.live():
		x.end("the channel has ended the refund itself: " + string(a.Outcome))
		return false, w.keepApplication("", x.Reason)
	case a.Abnormal && w.queried && x != nil && x.State == ApplicationSent && w.at.Sub(x.DecidedAt) > notTakenAfter:
		x.end("the channel calls the refund abnormal still: the application was not taken")
		return false, w.keepApplication("", x.Reason)
	}
	return false, nil
}

// paidToMerchant: the money is on its way to the merchant's bank account. It stays in
// 1125 until the bank's statement has it (E20c), and the patient is owed it (2205).
func (w *refundWork) paidToMerchant() error {
	r, x := w.r, w.r.Application
	if x == nil {
		x = &Application{fresh: true, AskedAt: w.at.Truncate(time.Microsecond)}
		r.Application = x
	}
	x.change()
	if x.State != ApplicationSent { // done by somebody else, on the merchant platform
		x.Maker, x.Checker, x.AskedAt, x.DecidedAt = "", "", w.at.Truncate(time.Microsecond), time.Time{}
	}
	x.State, x.Reason = ApplicationPaid, ""
	r.change()
	r.Abnormal, r.Act, r.NextAt = true, "", time.Time{}
	return w.keepApplication("", "")
}

func exchangeOf(r *Refund, a channels.RefundAnswer) *clearing.Exchange {
	return clearing.NewExchange(r.RefundNo, a.Exchange)
}
