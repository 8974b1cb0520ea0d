package pay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// paymentEvent is something that happened to a payment: a channel's word, HIS's
// word, or the wish to close it. Each is keyed by the state that it changes.
type paymentEvent struct {
	key
	terms    *terms // from which come the three below, once the payment is read
	merchant *clearing.Merchant
	platform bool // the platform calls HIS
	notify   bool // the app has an address
	at       time.Time
	plan     func(way channels.Way) channels.Plan
	asked    *clearing.Exchange // a question before the call; alone it is only kept
	exchange *clearing.Exchange

	answer     *channels.PayAnswer
	merchantNo string // whom the answer is for

	his     *channels.HISAnswer
	closing bool

	result *Payment // as it stands after the event
}

// paymentVerb applies events in the order of their arrival.
var paymentVerb = &ledger.Verb[*paymentEvent]{Name: "pay.event", Run: runPaymentEvents}

func runPaymentEvents(ctx context.Context, b *ledger.Batch, cmds []*paymentEvent) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	keys := make([]key, len(cmds))
	for i, e := range cmds {
		keys[i] = e.key
	}
	all, err := readPayments(ctx, b.Tx(), keys)
	if err != nil {
		return b.Fail(err)
	}
	var out outbox
	var reversals refundRows
	exchanges := make([]*clearing.Exchange, 0, len(cmds))
	for i, e := range cmds {
		exchanges = append(exchanges, e.asked, e.exchange)
		p := all[e.key]
		if p == nil {
			outcomes[i].Err = ErrNotFound.Because("order_no", "payment %s of hospital %s is not known", e.number, e.hospital)
			continue
		}
		if outcomes[i].Err = e.resolve(p); outcomes[i].Err != nil {
			continue
		}
		before := *p
		outcomes[i].Entry, outcomes[i].Err = e.apply(b, p, &reversals)
		if err := outcomes[i].Err; err != nil && !errors.Is(err, ErrDiffers) {
			*p = before // a refusal changes nothing
		}
		if told := noticeOf(&before, p); told != "" && e.notify {
			out.payment(told, p, e.at)
		}
		outcomes[i].Body = string(p.Status)
		after := *p
		e.result = &after
	}
	writePayments(b, all)
	reversals.insert(b)
	out.write(b)
	clearing.KeepExchanges(b, exchanges)
	return outcomes
}

// resolve finds what the master data say of the payment.
func (e *paymentEvent) resolve(p *Payment) error {
	m, ok := e.terms.Merchant(p.Channel, p.MerchantNo)
	if !ok {
		return ErrNotFound.Because("merchant_no", "%s %s is not set up", p.Channel, p.MerchantNo)
	}
	app, known := e.terms.App(p.App)
	e.merchant, e.platform, e.notify = m, e.terms.platformCalls(p.Hospital), known && app.NotifyURL != ""
	return nil
}

func (e *paymentEvent) apply(b *ledger.Batch, p *Payment, reversals *refundRows) (ledger.EntryID, error) {
	switch {
	case e.answer != nil:
		return e.answered(b, p, reversals)
	case e.his != nil:
		return e.acknowledged(b, p)
	case e.closing && p.Status.open():
		e.close(p)
		return ledger.EntryID{}, nil
	case e.closing:
		return ledger.EntryID{}, ErrState.Because("status", "payment %s is %s: there is nothing to close", p.OrderNo, p.Status)
	}
	return ledger.EntryID{}, nil
}

// close makes the next act that which ends the order: the intent is stored before
// the channel is called.
func (e *paymentEvent) close(p *Payment) {
	p.change()
	p.Act, p.NextAt = channels.ActClose, e.at.Add(recoverAfter)
	if p.Way == channels.WayCode {
		p.Act = channels.ActReverse
		for n, step := range e.plan(p.Way) {
			if step.Act == channels.ActReverse {
				p.Tries = max(p.Tries, int32(n))
				break
			}
		}
		return
	}
	if p.ExpiresAt.IsZero() || p.ExpiresAt.After(e.at) {
		p.ExpiresAt = e.at
	}
}

// answered applies a channel's word, whether it came as an answer, a notice or a
// query: they all end here.
func (e *paymentEvent) answered(b *ledger.Batch, p *Payment, reversals *refundRows) (ledger.EntryID, error) {
	a := e.answer
	if e.merchantNo != p.MerchantNo {
		rule := "the word for merchant number " + e.merchantNo + " names payment " + p.OrderNo + " of " + p.MerchantNo
		record(b, "payment.foreign", p.Hospital, p.OrderNo, rule)
		return ledger.EntryID{}, ErrForeign.Because("merchant_no", "%s: nothing is changed", rule)
	}
	switch {
	case a.Outcome == channels.OutcomeSucceeded && p.givenBackUnheard(a):
		return e.paidThenReversed(b, p, reversals)
	case a.Outcome == channels.OutcomeSucceeded:
		return e.succeeded(b, p)
	case !p.Status.open():
		return ledger.EntryID{}, nil
	case a.Outcome == channels.OutcomeFailed && a.Reversed && (a.Refunded || !a.SuccessAt.IsZero()):
		return e.paidThenReversed(b, p, reversals)
	case a.Outcome == channels.OutcomeFailed:
		p.change()
		p.Status = Failed
		if a.Closed {
			p.Status = Closed
		}
		if a.Reversed {
			p.Status = Reversed
		}
		p.Reason, p.Live = a.Reason, false
		e.settled(p)
	case a.Absent && p.Reason.Kind == channels.ReasonNotFound && p.mayBeGone(e.at):
		p.change() // asked twice: it never arrived, or its payer never came
		p.Status, p.Reason, p.Live = Closed, a.Reason, false
		e.settled(p)
	default:
		e.waiting(p)
	}
	return ledger.EntryID{}, nil
}

// givenBackUnheard says whether a reversal gave the money back and its answer was
// lost: Alipay then says that the trade was paid and is wholly refunded
// (spec/channels.md D.5). Nothing else gives back a payment that is still open.
func (p *Payment) givenBackUnheard(a *channels.PayAnswer) bool {
	return a.Refunded && p.Status.open() && p.Act == channels.ActReverse && (a.Amount == 0 || a.Amount == p.Amount)
}

// mayBeGone says whether a channel that knows no such order is the end of it. What
// was handed out to the payer may still be brought to the channel until its time is
// over, or the app gives it up: Alipay has no trade before a code is scanned or a
// page opened (spec/channels.md D.5). Anything else must be long enough after the
// call.
func (p *Payment) mayBeGone(now time.Time) bool {
	if p.Prepay != "" {
		return !now.Before(p.ExpiresAt)
	}
	return now.Sub(p.OccurredAt) >= time.Minute
}

// settled: nothing more is asked.
func (e *paymentEvent) settled(p *Payment) { p.Act, p.NextAt = "", time.Time{} }

// waiting notes that there is no final outcome, and when to ask again.
func (e *paymentEvent) waiting(p *Payment) {
	a := e.answer
	p.change()
	p.TradeNo = cmp.Or(a.TradeNo, p.TradeNo)
	switch {
	case a.Outcome == channels.OutcomePending:
		p.Status = Paying
		if a.Prepay.Code+a.Prepay.URL+a.Prepay.Form != "" || len(a.Prepay.Bring) > 0 {
			text, err := json.Marshal(a.Prepay)
			if err == nil {
				p.Prepay = string(text)
			}
		}
	case p.Status == Created || p.Way == channels.WayCode:
		p.Status = Unknown
	}
	p.Reason = a.Reason
	if a.Absent {
		p.Reason.Kind = channels.ReasonNotFound
	}
	if p.Act == channels.ActPerson {
		return // a query does not end what a person has to decide
	}
	step := e.plan(p.Way).Next(int(p.Tries))
	p.Tries++
	p.Act, p.NextAt = step.Act, e.at.Add(step.After)
	if p.Way != channels.WayCode && !p.ExpiresAt.IsZero() && !p.NextAt.Before(p.ExpiresAt) {
		p.Act, p.NextAt = channels.ActClose, p.ExpiresAt
		if !p.NextAt.After(e.at) {
			p.NextAt = e.at.Add(10 * time.Second)
		}
	}
}

// succeeded posts the money once. After a local end it is a late success: it is
// posted as money that waits for HIS, and a refund is only proposed (F2).
func (e *paymentEvent) succeeded(b *ledger.Batch, p *Payment) (ledger.EntryID, error) {
	a := e.answer
	if a.Amount != 0 && a.Amount != p.Amount {
		rule := "the channel says " + a.Amount.String() + ", the order is " + p.Amount.String()
		record(b, "payment.differs", p.Hospital, p.OrderNo, rule)
		if p.Status.open() {
			p.change()
			p.Status, p.Reason = Unknown, channels.Reason{Kind: channels.ReasonDiffers, Text: rule}
			p.Act, p.NextAt = channels.ActPerson, time.Time{}
		}
		return ledger.EntryID{}, ErrDiffers.Because("amount_fen", "%s: nothing is posted, a person decides", rule)
	}
	if p.Status == Success {
		return ledger.EntryID{}, nil // said before
	}
	late := !p.Status.open()
	p.change()
	e.take(p)
	p.Late, p.Live = late, p.Live && !late
	if !late {
		p.HIS = HISWait
		if e.platform {
			p.HISNextAt = e.at
		}
	}
	if p.Held {
		return ledger.EntryID{}, nil
	}
	p.Posted = true
	ids := []string{"J01", "J03", "J04"}
	if late {
		ids = []string{"E06", "J04"}
		record(b, "payment.late", p.Hospital, p.OrderNo, "the money came after the order was closed: ask HIS, then a person proposes a refund")
	}
	return e.post(b, p, p.Amount, ids...)
}

// take notes what the channel took.
func (e *paymentEvent) take(p *Payment) {
	a := e.answer
	p.Status, p.Reason = Success, channels.Reason{}
	p.TradeNo = cmp.Or(a.TradeNo, p.TradeNo)
	p.SuccessAt = a.SuccessAt
	if p.SuccessAt.IsZero() {
		p.SuccessAt = e.at
	}
	p.SuccessAt = p.SuccessAt.Truncate(time.Microsecond)
	p.Day = ledger.DayOf(p.SuccessAt)
	p.Settle = p.Amount
	if a.Settle > 0 {
		p.Settle = min(a.Settle, p.Amount)
	}
	p.Fee = e.merchant.FeeAt(p.Day, p.Settle)
	e.settled(p)
}

func (e *paymentEvent) post(b *ledger.Batch, p *Payment, amount ledger.Money, ids ...string) (ledger.EntryID, error) {
	entry, err := clearing.NewEntry(clearing.Event{Merchant: e.merchant, Day: p.Day, Order: p.OrderNo, Amount: amount, Fee: p.Fee, Maker: p.App}, ids...)
	if err != nil {
		return ledger.EntryID{}, err
	}
	return b.Post(entry)
}

// paidThenReversed: the payment had been paid and the reversal gave it back. Both
// legs stand, as they do on the channel's bill (J22).
func (e *paymentEvent) paidThenReversed(b *ledger.Batch, p *Payment, reversals *refundRows) (ledger.EntryID, error) {
	p.change()
	e.take(p)
	p.Live, p.Posted = false, !p.Held
	p.Refunded, p.refundedSettle = p.Amount, p.Settle
	back := e.merchant.FeeReturnedAt(p.Day, p.Settle, p.Fee)
	p.feeReturned = back
	r := &Refund{
		Hospital: p.Hospital, Kind: channels.Reverse, RefundNo: p.OrderNo, OrderNo: p.OrderNo, PaymentNo: p.OrderNo, App: p.App, Channel: p.Channel,
		MerchantNo: p.MerchantNo, TradeNo: p.TradeNo, BillNo: p.BillNo, BizType: p.BizType, Terminal: p.Terminal, Patient: p.Patient,
		Amount: p.Amount, Settle: p.Settle, Fee: back, Total: p.Amount, Status: RefundSuccess, AcceptedAt: e.at.Truncate(time.Microsecond), SuccessAt: e.at.Truncate(time.Microsecond),
		CreatedAt: e.at.Truncate(time.Microsecond), Day: ledger.DayOf(e.at), DebtNo: p.OrderNo, Posted: !p.Held,
	}
	if p.Held {
		reversals.add(r)
		return ledger.EntryID{}, nil
	}
	r.Owed, r.OwedDay, r.Debit = p.Amount, r.Day, "J22"
	first, err := clearing.NewEntry(clearing.Event{Merchant: e.merchant, Day: p.Day, Order: p.OrderNo, Amount: p.Amount, Fee: p.Fee, Maker: p.App}, "J01", "J03", "J04")
	if err != nil {
		return ledger.EntryID{}, err
	}
	second, err := clearing.NewEntry(clearing.Event{Merchant: e.merchant, Day: r.Day, Order: p.OrderNo, Refund: p.OrderNo, Amount: p.Amount, Fee: back, Maker: p.App}, "J22")
	if err != nil {
		return ledger.EntryID{}, err
	}
	third, err := clearing.NewEntry(clearing.Event{Merchant: e.merchant, Day: r.Day, Order: p.OrderNo, Refund: p.OrderNo, Amount: p.Settle, Maker: p.App}, "J19a", "J19b")
	if err != nil {
		return ledger.EntryID{}, err
	}
	id, err := b.Post(first, second, third)
	if err == nil {
		reversals.add(r)
	}
	return id, err
}

// acknowledged applies HIS's word: J02 for what it booked, at most the payment;
// what HIS booked more is for reconciliation (I5). HIS's refusal offers a refund.
func (e *paymentEvent) acknowledged(b *ledger.Batch, p *Payment) (ledger.EntryID, error) {
	his := e.his
	if err := p.turn(StepAcknowledge, map[Step]bool{StepPay: p.Status == Success}); err != nil { // B02
		return ledger.EntryID{}, err
	}
	switch {
	case p.HIS == HISDone:
		return ledger.EntryID{}, nil
	case p.HIS == HISRefused && p.Requested+p.Refunded > 0:
		record(b, "payment.served_late", p.Hospital, p.OrderNo, "HIS booked a payment whose refund is under way")
		return ledger.EntryID{}, ErrOrderOfSteps.Because("status", "a refund of payment %s is under way: HIS had refused it", p.OrderNo)
	case his.Outcome != channels.OutcomeSucceeded && p.HIS == HISRefused:
		return ledger.EntryID{}, nil
	}
	p.change()
	switch his.Outcome {
	case channels.OutcomeFailed:
		p.HIS, p.HISNextAt, p.Reason = HISRefused, time.Time{}, his.Reason
		return ledger.EntryID{}, nil
	case channels.OutcomeSucceeded:
		p.HIS, p.HISNextAt, p.Reason = HISDone, time.Time{}, channels.Reason{}
		booked := min(his.Amount, p.Amount)
		if p.Held || !p.Posted || booked <= 0 {
			return ledger.EntryID{}, nil
		}
		p.Acked = booked
		entry, err := clearing.NewEntry(clearing.Event{Merchant: e.merchant, Day: ledger.DayOf(e.at), Order: p.OrderNo, Amount: booked, Maker: p.App}, "J02")
		if err != nil {
			return ledger.EntryID{}, err
		}
		return b.Post(entry)
	}
	p.HISNextAt = e.at.Add(writeBackAfter(p.HISTries))
	p.HISTries++
	return ledger.EntryID{}, nil
}

// writeBacks is when HIS is told again; the last repeats, so nothing is lost.
var writeBacks = []time.Duration{15 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}

func writeBackAfter(tries int32) time.Duration { return writeBacks[min(int(tries), len(writeBacks)-1)] }
