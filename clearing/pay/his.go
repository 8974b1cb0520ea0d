package pay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// WriteBack tells HIS of the payments that it has not acknowledged and that are
// due, where the platform calls HIS, and returns how many.
func (s *Payments) WriteBack(ctx context.Context, now time.Time, limit int) (int, error) {
	due, err := s.due(ctx, `p.his_next_at`, now, limit)
	errs := make([]error, len(due))
	atOnce(len(due), func(i int) { errs[i] = s.tellHIS(ctx, due[i]) })
	return len(due), errors.Join(append(errs, err)...)
}

// TellHIS tells HIS of a payment now, where the platform calls HIS, and asks before
// what it has booked. HIS may change its mind on a payment that it refused, while
// nothing of it is given back (T03, I1).
func (s *Payments) TellHIS(ctx context.Context, hospital, orderNo string) (*Payment, error) {
	if err := s.callsHIS(ctx, hospital); err != nil {
		return nil, err
	}
	p, err := s.Get(ctx, hospital, orderNo)
	if err != nil || p.HIS == HISDone {
		return p, err
	}
	if p.HIS == HISRefused && p.Requested+p.Refunded > 0 {
		return nil, ErrOrderOfSteps.Because("status", "a refund of payment %s is under way or made: HIS is not told to book it", p.OrderNo)
	}
	if err := p.turn(StepAcknowledge, map[Step]bool{StepPay: p.Status == Success}); err != nil {
		return nil, err
	}
	p.HISTries = max(p.HISTries, 1)
	if err := s.tellHIS(ctx, p); err != nil {
		return nil, err
	}
	return s.Get(ctx, hospital, orderNo)
}

// callsHIS refuses where the app calls the hospital's HIS (B23).
func (h *House) callsHIS(ctx context.Context, hospital string) error {
	t, err := h.current(ctx)
	if err == nil && !t.platformCalls(hospital) {
		err = ErrNotAllowed.Because("hospital", "the HIS of hospital %s is called by its app (B23)", hospital)
	}
	return err
}

func (s *Payments) tellHIS(ctx context.Context, p *Payment) error {
	his, err := s.Outside.HIS(p.Hospital)
	if err != nil {
		return err
	}
	e := &paymentEvent{}
	request := p.toHIS()
	word := channels.HISAnswer{Outcome: channels.OutcomeFailed, Reason: channels.Reason{Kind: channels.ReasonNotFound}}
	if p.HISTries > 0 { // an answer was lost: what HIS has booked is asked for before it is told again
		word = his.Order(ctx, request)
		e.asked = clearing.NewExchange(p.OrderNo, word.Exchange)
		word.Exchange = nil
	}
	switch {
	case word.Outcome == channels.OutcomeFailed && word.Reason.Kind == channels.ReasonNotFound:
		word = his.Acknowledge(ctx, request)
	case word.Outcome != channels.OutcomeSucceeded:
		word.Outcome = channels.OutcomeUnknown // no answer to the question refuses the payment
	}
	e.his, e.exchange = &word, clearing.NewExchange(p.OrderNo, word.Exchange)
	_, err = s.event(context.WithoutCancel(ctx), p, e)
	return err
}

// toHIS is what HIS is told of a payment, and asked about.
func (p *Payment) toHIS() channels.HISRequest {
	return channels.HISRequest{
		Hospital: p.Hospital, BillNo: p.BillNo, OrderNo: p.OrderNo, TradeNo: p.TradeNo, Amount: p.Amount, Tender: p.Channel,
		Operator: p.Terminal, PaidAt: p.SuccessAt, Key: "ack-" + p.OrderNo, BizType: p.BizType,
	}
}

// AskHIS asks HIS once what it has booked of a payment, where the platform calls HIS,
// and keeps the answer; reconciliation does so before it says that HIS lacks the
// payment (S9), and before people give its money back (E07). That it is booked is
// applied by the ordinary rules, and changed says that this was news. That it is not
// served, or no answer, changes nothing: WriteBack goes on by its plan, and what
// becomes of the money a person decides. A word without an outcome was not asked for:
// ErrNotAllowed where the app calls HIS or none is connected, ErrNotFound where the
// platform has no such payment. A word beside a refusal is HIS's, and was not applied.
func (s *Payments) AskHIS(ctx context.Context, hospital, orderNo string) (word channels.HISAnswer, changed bool, err error) {
	if err := s.callsHIS(ctx, hospital); err != nil {
		return word, false, err
	}
	p, err := s.Get(ctx, hospital, orderNo)
	if err != nil {
		return word, false, err
	}
	his, err := s.Outside.HIS(hospital)
	if err != nil {
		return word, false, errors.Join(s.unlinked(ctx, hospital), err)
	}
	word = his.Order(ctx, p.toHIS())
	e := &paymentEvent{asked: clearing.NewExchange(p.OrderNo, word.Exchange)}
	if word.Outcome == channels.OutcomeSucceeded {
		e.his = &word
	}
	after, err := s.event(ctx, p, e)
	return word, err == nil && after.HIS != p.HIS, err
}

// unlinked refuses where the hospital has no connection to its HIS: it brings files.
func (h *House) unlinked(ctx context.Context, hospital string) error {
	t, err := h.current(ctx)
	if err == nil && !slices.ContainsFunc(t.Wiring.HIS, func(l clearing.HISLink) bool { return l.Hospital == hospital }) {
		err = ErrNotAllowed.Because("hospital", "the HIS of hospital %s is not connected", hospital)
	}
	return err
}

// bookFirst has HIS say that it booked a payment, or refuses it, before it is asked
// to void it. Where it is silent the refund is refused for now, under no key: the
// same request may come again.
func (s *Refunds) bookFirst(ctx context.Context, p *Payment) error {
	payments := Payments{s.House}
	if err := payments.tellHIS(ctx, p); err != nil {
		return err
	}
	p, err := payments.Get(ctx, p.Hospital, p.OrderNo)
	if err != nil {
		return err
	}
	return p.turn(StepRefund, map[Step]bool{StepAcknowledge: p.HIS != HISWait})
}

// askThenCancel asks how much may be given back, then has the charge voided. It is
// asked only once: later HIS may have voided the charge, and its answer been lost.
func (s *Refunds) askThenCancel(ctx context.Context, r *Refund) (*Refund, error) {
	his, err := s.Outside.HIS(r.Hospital)
	if err != nil {
		return r, err
	}
	word := his.Refundable(ctx, r.toHIS("", ""))
	asked := clearing.NewExchange(r.RefundNo, word.Exchange)
	switch {
	case word.Outcome == channels.OutcomeSucceeded && word.Refundable < r.Amount:
		word = channels.HISAnswer{Outcome: channels.OutcomeFailed, Reason: channels.Reason{Kind: channels.ReasonNotRefundable,
			Text: fmt.Sprintf("HIS allows %s, %s is asked", word.Refundable, r.Amount)}}
	case word.Outcome == channels.OutcomeSucceeded:
		return s.cancelAtHIS(ctx, r, asked)
	}
	return s.event(ctx, r, &refundEvent{his: &word, asked: asked})
}

// cancelAtHIS has the charge voided, always with the same key; asked is the
// question before it.
func (s *Refunds) cancelAtHIS(ctx context.Context, r *Refund, asked *clearing.Exchange) (*Refund, error) {
	his, err := s.Outside.HIS(r.Hospital)
	if err != nil {
		return r, err
	}
	word := his.Cancel(ctx, r.toHIS("cancel-", ""))
	return s.event(ctx, r, &refundEvent{his: &word, asked: asked, exchange: clearing.NewExchange(r.RefundNo, word.Exchange)})
}

// toHIS is what HIS is told of a refund; key stands before its number.
func (r *Refund) toHIS(key, refundID string) channels.HISRequest {
	return channels.HISRequest{Hospital: r.Hospital, BillNo: r.BillNo, OrderNo: r.OrderNo, TradeNo: r.TradeNo, RefundNo: r.RefundNo, RefundID: refundID,
		Amount: r.Amount, Tender: r.Channel, Operator: r.Maker, Key: key + r.RefundNo, BizType: r.BizType}
}

// WriteBack tells HIS the numbers of refunds that the channel has accepted and
// that are due, where the platform calls HIS, and returns how many.
func (s *Refunds) WriteBack(ctx context.Context, now time.Time, limit int) (int, error) {
	due, err := s.due(ctx, `r.his_next_at`, now, limit)
	errs := make([]error, len(due))
	atOnce(len(due), func(i int) { errs[i] = s.tellHIS(ctx, due[i]) })
	return len(due), errors.Join(append(errs, err)...)
}

// TellHIS tells HIS the number of a refund now, where the platform calls HIS.
func (s *Refunds) TellHIS(ctx context.Context, hospital, refundNo string) (*Refund, error) {
	if err := s.callsHIS(ctx, hospital); err != nil {
		return nil, err
	}
	r, err := s.Get(ctx, hospital, refundNo)
	switch {
	case err != nil || r.HIS == HISDone:
		return r, err
	case r.HIS == HISNone:
		return nil, ErrState.Because("refund_no", "refund %s is %s: HIS has no number to take", refundNo, r.Status)
	}
	if err := s.tellHIS(ctx, r); err != nil {
		return nil, err
	}
	return s.Get(ctx, hospital, refundNo)
}

// AskHIS asks HIS once how much of the refund's payment it lets be given back still,
// where the platform calls HIS, and keeps the answer; reconciliation does so before it
// says that HIS lacks the refund (S9). It changes nothing: HIS voids the charge, or a
// person decides.
func (s *Refunds) AskHIS(ctx context.Context, hospital, refundNo string) error {
	if err := s.callsHIS(ctx, hospital); err != nil {
		return err
	}
	r, err := s.Get(ctx, hospital, refundNo)
	if err != nil {
		return err
	}
	his, err := s.Outside.HIS(hospital)
	if err != nil {
		return err
	}
	word := his.Refundable(ctx, r.toHIS("", ""))
	_, err = s.event(ctx, r, &refundEvent{asked: clearing.NewExchange(r.RefundNo, word.Exchange)})
	return err
}

func (s *Refunds) tellHIS(ctx context.Context, r *Refund) error {
	his, err := s.Outside.HIS(r.Hospital)
	if err != nil {
		return err
	}
	request := r.toHIS("refund-", r.ChannelRefundNo)
	request.RefundedAt = r.AcceptedAt
	word := his.WriteBackRefund(ctx, request)
	_, err = s.event(context.WithoutCancel(ctx), r, &refundEvent{written: &word, exchange: clearing.NewExchange(r.RefundNo, word.Exchange)})
	return err
}

// WrittenBack is the app's word that HIS has the refund's number (his_calls APP).
func (s *Refunds) WrittenBack(ctx context.Context, hospital, refundNo string) (*Refund, error) {
	t, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	if t.platformCalls(hospital) {
		return nil, ErrNotAllowed.Because("hospital", "the HIS of hospital %s is not called by apps (B23)", hospital)
	}
	r, err := s.Get(ctx, hospital, refundNo)
	if err != nil {
		return nil, err
	}
	return s.event(ctx, r, &refundEvent{written: &channels.HISAnswer{Outcome: channels.OutcomeSucceeded}})
}

// askHIS is how much HIS lets be given back, 0 where it did not say.
func (s *Refunds) askHIS(ctx context.Context, p *Payment) ledger.Money {
	his, err := s.Outside.HIS(p.Hospital)
	if err != nil {
		return 0
	}
	word := his.Refundable(ctx, channels.HISRequest{Hospital: p.Hospital, BillNo: p.BillNo, OrderNo: p.OrderNo, Amount: p.Amount, Tender: p.Channel, BizType: p.BizType})
	if word.Outcome != channels.OutcomeSucceeded {
		return 0
	}
	return word.Refundable
}
