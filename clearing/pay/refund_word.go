package pay

import (
	"cmp"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// answered applies the channel's word.
func (w *refundWork) answered() (ledger.EntryID, error) {
	a, r := w.answer, w.r
	if a.Amount != 0 && a.Amount != r.Amount {
		rule := "the channel says " + a.Amount.String() + ", refund " + r.RefundNo + " is " + r.Amount.String()
		record(w.b, "refund.differs", r.Hospital, r.RefundNo, rule)
		return ledger.EntryID{}, ErrDiffers.Because("amount_fen", "%s: nothing is posted, a person decides", rule)
	}
	taken := a.Outcome == channels.OutcomeSucceeded || a.Outcome == channels.OutcomePending
	switch {
	case r.Status == RefundOwed && taken:
		return w.accepted()
	case r.Status == RefundOwed && a.Outcome == channels.OutcomeFailed && a.Retry:
		w.again()
	case r.Status == RefundOwed && a.Outcome == channels.OutcomeFailed:
		r.change() // refused for good, or closed before we knew that it was accepted: the debt stays in 2205
		r.Status, r.Reason, r.InFlight, r.Act, r.NextAt = RefundClosed, a.Reason, false, channels.ActPerson, time.Time{}
	case r.Status == RefundOwed:
		w.again()
	case r.Status == RefundSuccess && r.SuccessAt.IsZero():
		return w.followed()
	case r.Status == RefundClosed && taken:
		record(w.b, "refund.late", r.Hospital, r.RefundNo, "the channel paid a refund that it had closed")
	}
	return ledger.EntryID{}, nil
}

// again notes that the channel has not accepted, and when to ask or send again:
// always the same number. What the channel does not know is sent again at once.
func (w *refundWork) again() {
	a, r := w.answer, w.r
	r.change()
	r.Reason = a.Reason
	step := channels.PlanRefund.Next(int(r.Tries))
	r.Tries++
	r.Act, r.NextAt = step.Act, w.at.Add(step.After)
	switch {
	case a.Retry:
		r.Act = channels.ActResend
	case a.Absent:
		r.Act, r.NextAt = channels.ActResend, w.at
	}
}

// accepted: the channel has debited the merchant (J19a), returns its fee (J20),
// and may have paid at once (J19b).
func (w *refundWork) accepted() (ledger.EntryID, error) {
	a, r := w.answer, w.r
	r.change()
	r.AcceptedAt, r.Day = w.at.Truncate(time.Microsecond), ledger.DayOf(w.at)
	r.Settle, r.ChannelRefundNo = w.settle(), cmp.Or(a.RefundID, r.ChannelRefundNo)
	r.Fee = w.merchant.FeeReturnedAt(r.Day, r.Settle, w.feeLeft())
	r.Status, r.Posted, r.InFlight, r.Reason = RefundSuccess, !r.Held, false, a.Reason
	if w.p != nil {
		w.p.change()
		w.p.Requested, w.p.Refunded = w.p.Requested-r.Amount, w.p.Refunded+r.Amount
		w.p.refundedSettle, w.p.feeReturned = w.p.refundedSettle+r.Settle, w.p.feeReturned+r.Fee
		w.p.Live = w.p.Live && w.p.Refunded < w.p.Amount
	}
	if r.CaseID == "" && w.p != nil && w.p.HIS != HISRefused { // else HIS has voided nothing that could take the number
		r.HIS = HISWait
		if w.platform {
			r.HISNextAt = w.at
		}
	}
	final := a.Outcome == channels.OutcomeSucceeded && a.PaidTo != channels.PaidToMerchant
	if a.PaidTo == channels.PaidToMerchant && a.Outcome == channels.OutcomeSucceeded {
		if err := w.paidToMerchant(); err != nil {
			return ledger.EntryID{}, err
		}
	} else {
		w.follow(final)
	}
	if r.Held || r.Settle == 0 {
		return ledger.EntryID{}, nil
	}
	first, err := w.entry(r.Day, r.Settle, r.Fee, "J19a", "J20")
	if err != nil || !final {
		return w.post(first, err)
	}
	last, err := w.entry(ledger.DayOf(r.SuccessAt), r.Settle, 0, "J19b")
	if err != nil {
		return ledger.EntryID{}, err
	}
	return w.b.Post(first, last)
}

// settle is what the channel takes from the merchant: what it says, else the
// payment's own share, the last part the rest.
func (w *refundWork) settle() ledger.Money {
	if w.p == nil {
		return min(cmp.Or(w.answer.Settle, w.r.Amount), w.r.Amount)
	}
	left := w.p.Settle - w.p.refundedSettle
	switch {
	case w.answer.Settle > 0:
		return min(w.answer.Settle, left, w.r.Amount)
	case w.p.Settle == w.p.Amount, w.p.Refunded+w.r.Amount == w.p.Amount:
		return min(left, w.r.Amount)
	}
	return min(left, w.r.Amount.Split(int64(w.p.Settle), int64(w.p.Amount-w.p.Settle))[0])
}

func (w *refundWork) feeLeft() ledger.Money {
	if w.p == nil {
		return w.merchant.FeeAt(w.r.Day, w.r.Total)
	}
	return w.p.Fee - w.p.feeReturned
}

// follow sets what is asked next of an accepted refund.
func (w *refundWork) follow(final bool) {
	a, r := w.answer, w.r
	switch {
	case final:
		r.SuccessAt = a.SuccessAt
		if r.SuccessAt.IsZero() {
			r.SuccessAt = w.at
		}
		r.SuccessAt, r.Act, r.NextAt, r.Abnormal = r.SuccessAt.Truncate(time.Microsecond), "", time.Time{}, false
	case a.Abnormal && !r.Application.live():
		r.Abnormal, r.Reason, r.Act, r.NextAt = true, a.Reason, channels.ActQuery, channels.SweepAt(r.AcceptedAt, w.at)
	default:
		r.Abnormal = a.Abnormal || r.Application.live()
		step := channels.PlanRefund.Next(int(r.Tries))
		r.Tries++
		r.Act, r.NextAt = channels.ActQuery, w.at.Add(step.After)
	}
}

// followed applies what becomes of an accepted refund: final (J19b), closed with
// the money back in the merchant's balance (J19c), abnormal, or still on its way.
func (w *refundWork) followed() (ledger.EntryID, error) {
	if done, err := w.applications(); done || err != nil {
		return ledger.EntryID{}, err
	}
	a, r := w.answer, w.r
	r.change()
	switch a.Outcome {
	case channels.OutcomeSucceeded:
		w.follow(true)
		if r.Held || !r.Posted || r.Settle == 0 {
			return ledger.EntryID{}, nil
		}
		return w.post(w.entry(ledger.DayOf(r.SuccessAt), r.Settle, 0, "J19b"))
	case channels.OutcomeFailed:
		settle, fee, posted := r.Settle, r.Fee, r.Posted
		if w.p != nil {
			w.p.change()
			w.p.Requested, w.p.Refunded = w.p.Requested+r.Amount, w.p.Refunded-r.Amount
			w.p.refundedSettle, w.p.feeReturned = w.p.refundedSettle-settle, w.p.feeReturned-fee
		}
		r.Status, r.Settle, r.Fee, r.Posted, r.Reason = RefundClosed, 0, 0, false, a.Reason
		r.Act, r.NextAt, r.HIS, r.HISNextAt, r.Abnormal = channels.ActPerson, time.Time{}, HISNone, time.Time{}, false
		if !posted || settle == 0 {
			return ledger.EntryID{}, nil
		}
		return w.post(w.entry(ledger.DayOf(w.at), settle, fee, "J19c"))
	case channels.OutcomePending:
		w.follow(false)
		return ledger.EntryID{}, nil
	}
	step := channels.PlanRefund.Next(int(r.Tries))
	r.Tries++
	r.Act, r.NextAt = channels.ActQuery, w.at.Add(step.After)
	return ledger.EntryID{}, nil
}
