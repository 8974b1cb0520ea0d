package pay

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// refundEvent is something that happened to a refund: the approver's, HIS's or
// the channel's word, or that a closed one goes on under another number.
type refundEvent struct {
	key
	merchant *clearing.Merchant
	at       time.Time
	platform bool
	asked    *clearing.Exchange // a question before the call; alone it is only kept
	exchange *clearing.Exchange
	notify   bool

	decision *decision
	his      *channels.HISAnswer // of the cancellation
	written  *channels.HISAnswer // of the write-back
	answer   *channels.RefundAnswer
	queried  bool   // the answer is to a question of ours, no notice
	reissue  string // the new number

	applicant string                 // of an abnormal refund: who asks that the merchant's bank account be paid
	applies   bool                   // the channel takes such an application
	ruling    *decision              // the second person's word on it
	applied   *channels.RefundAnswer // the channel's answer to it

	result *Refund // as it stands after the event
}

type decision struct {
	checker string
	approve bool
	reason  string
}

var refundEventVerb = &ledger.Verb[*refundEvent]{Name: "pay.refund.event", Run: runRefundEvents}

func runRefundEvents(ctx context.Context, b *ledger.Batch, cmds []*refundEvent) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	keys := make([]key, len(cmds))
	for i, e := range cmds {
		keys[i] = e.key
	}
	refunds, err := readRefunds(ctx, b.Tx(), keys)
	if err != nil {
		return b.Fail(err)
	}
	orders := make([]key, 0, len(refunds))
	for _, r := range refunds {
		orders = append(orders, key{r.Hospital, r.PaymentNo})
	}
	payments, err := readPayments(ctx, b.Tx(), orders)
	if err != nil {
		return b.Fail(err)
	}
	applications, err := applicationsOf(ctx, b.Tx(), refunds, cmds)
	if err != nil {
		return b.Fail(err)
	}
	var out outbox
	exchanges := make([]*clearing.Exchange, 0, len(cmds))
	for i, e := range cmds {
		exchanges = append(exchanges, e.asked, e.exchange)
		r := refunds[e.key]
		if r == nil {
			outcomes[i].Err = ErrNotFound.Because("refund_no", "refund %s of hospital %s is not known", e.number, e.hospital)
			continue
		}
		w := refundWork{refundEvent: e, b: b, r: r, p: payments[key{r.Hospital, r.PaymentNo}], all: refunds}
		before := *r
		outcomes[i].Entry, outcomes[i].Err = w.apply()
		if outcomes[i].Err != nil {
			*r = before // a refusal changes nothing
		}
		outcomes[i].Body = string(r.Status)
		after := *r
		e.result = &after
		if r.Application != nil {
			applications[e.key] = r.Application
		}
		if kind := refundNotice(&before, r); kind != "" && e.notify && r.App != "" {
			out.refund(kind, r, e.at)
		}
	}
	writePayments(b, payments)
	writeRefunds(b, refunds)
	writeApplications(b, applications)
	out.write(b)
	clearing.KeepExchanges(b, exchanges)
	return outcomes
}

func refundNotice(before, r *Refund) NoticeKind {
	switch {
	case before.Status == r.Status && before.SuccessAt.IsZero() && !r.SuccessAt.IsZero():
		return NoticeRefundFinal
	case r.Status == RefundSuccess && !before.Abnormal && r.Abnormal && !r.Application.away(): // also of one that was accepted unseen
		return NoticeRefundAbnormal
	case before.Status == r.Status:
		return ""
	}
	return map[RefundStatus]NoticeKind{RefundOwed: NoticeRefundOwed, RefundSuccess: NoticeRefunded, RefundFailed: NoticeRefundFailed,
		RefundClosed: NoticeRefundClosed}[r.Status]
}

// refundWork is one event with what it is about.
type refundWork struct {
	*refundEvent
	b   *ledger.Batch
	r   *Refund
	p   *Payment // nil where the platform never knew the order
	all map[key]*Refund
}

func (w *refundWork) apply() (ledger.EntryID, error) {
	switch {
	case w.decision != nil:
		return w.decide()
	case w.his != nil:
		return w.cancelled()
	case w.written != nil:
		w.writtenBack()
		return ledger.EntryID{}, nil
	case w.answer != nil:
		return w.answered()
	case w.applicant != "":
		return ledger.EntryID{}, w.asks()
	case w.ruling != nil:
		return ledger.EntryID{}, w.rules()
	case w.applied != nil:
		return ledger.EntryID{}, w.sent()
	case w.asked != nil:
		return ledger.EntryID{}, nil
	}
	return ledger.EntryID{}, w.goOn()
}

// rejected is the code of a refund to which the second person said no.
const rejected = "REJECTED"

// decide is the second person's word.
func (w *refundWork) decide() (ledger.EntryID, error) {
	r, d := w.r, w.decision
	switch {
	case r.Status != RefundApproving:
		return ledger.EntryID{}, ErrState.Because("status", "refund %s is %s: it waits for no approval", r.RefundNo, r.Status)
	case d.checker == "" || strings.EqualFold(d.checker, r.Maker):
		return ledger.EntryID{}, ErrTwoPeople.Because("checker", "%s asked for refund %s and cannot decide it", d.checker, r.RefundNo)
	}
	if strings.EqualFold(d.checker, r.First) && d.approve {
		return ledger.EntryID{}, ErrTwoPeople.Because("checker", "%s has approved refund %s: it needs another person too", d.checker, r.RefundNo)
	}
	r.change()
	if d.approve && r.Needs == 2 && r.First == "" {
		r.First = d.checker
		return ledger.EntryID{}, w.keepDecision()
	}
	if r.Checker = d.checker; strings.EqualFold(r.Checker, r.First) {
		r.First = "" // who had approved takes it back
	}
	var entry ledger.EntryID
	switch {
	case !d.approve:
		w.end(channels.Reason{Kind: channels.ReasonNotRefundable, Code: rejected, Text: d.reason})
	case w.platform && w.p.HIS != HISRefused:
		r.Status, r.Act, r.NextAt = RefundCancelling, channels.ActQuery, w.at.Add(recoverAfter)
	default:
		var err error
		if entry, err = w.owed(); err != nil {
			return entry, err
		}
	}
	return entry, w.keepDecision()
}

// keepDecision has the journal keep who decided what, and why.
func (w *refundWork) keepDecision() error {
	text, err := json.Marshal(struct {
		Hospital string `json:"hospital"`
		Number   string `json:"number"`
		Amount   int64  `json:"amount_fen"`
		Maker    string `json:"maker"`
		Checker  string `json:"checker"`
		Approved bool   `json:"approved"`
		Reason   string `json:"reason"`
	}{w.r.Hospital, w.r.RefundNo, int64(w.r.Amount), w.r.Maker, w.decision.checker, w.decision.approve, w.decision.reason})
	if err == nil {
		w.b.Record("refund.decided", text)
	}
	return err
}

// end: nothing was owed and nothing will be.
func (w *refundWork) end(reason channels.Reason) {
	w.r.Status, w.r.Reason, w.r.InFlight, w.r.Act, w.r.NextAt = RefundFailed, reason, false, "", time.Time{}
	if w.p != nil {
		w.p.change()
		w.p.Requested -= w.r.Amount
	}
}

func (w *refundWork) owed() (ledger.EntryID, error) {
	entry, err := owe(w.b, w.merchant, w.p, w.r, w.at)
	if err != nil {
		return entry, err
	}
	w.r.Status, w.r.Act, w.r.NextAt, w.r.Tries = RefundOwed, channels.ActResend, w.at.Add(recoverAfter), 0
	return entry, nil
}

// cancelled is HIS's answer to the cancellation. No answer is asked again with
// the same key; the channel hears nothing before HIS has said yes.
func (w *refundWork) cancelled() (ledger.EntryID, error) {
	if w.r.Status != RefundCancelling {
		return ledger.EntryID{}, nil
	}
	w.r.change()
	switch w.his.Outcome {
	case channels.OutcomeSucceeded:
		entry, err := w.owed()
		if errors.Is(err, ErrTopUp) { // HIS has voided it: it waits for the hospital's money
			w.r.Reason = channels.Reason{Kind: channels.ReasonMerchantFunds, Text: err.Error()}
			w.r.NextAt, w.r.Tries = w.at.Add(30*time.Minute), w.r.Tries+1
			return ledger.EntryID{}, nil
		}
		return entry, err
	case channels.OutcomeFailed:
		w.end(w.his.Reason)
		return ledger.EntryID{}, nil
	}
	w.r.Reason, w.r.NextAt = w.his.Reason, w.at.Add(writeBackAfter(w.r.Tries))
	w.r.Tries++
	return ledger.EntryID{}, nil
}

// writtenBack is HIS's answer to the number of the refund.
func (w *refundWork) writtenBack() {
	silent := w.written.Outcome != channels.OutcomeSucceeded && w.written.Outcome != channels.OutcomeFailed
	if w.r.HIS != HISWait && w.r.HIS != HISRefused || silent && w.r.HIS == HISRefused {
		return
	}
	w.r.change()
	switch w.written.Outcome {
	case channels.OutcomeSucceeded:
		w.r.HIS, w.r.HISNextAt = HISDone, time.Time{}
	case channels.OutcomeFailed:
		w.r.HIS, w.r.HISNextAt = HISRefused, time.Time{}
	default:
		w.r.HISNextAt = w.at.Add(writeBackAfter(w.r.HISTries))
		w.r.HISTries++
	}
}

func (w *refundWork) entry(day ledger.Day, amount, fee ledger.Money, ids ...string) (ledger.Entry, error) {
	return clearing.NewEntry(clearing.Event{Merchant: w.merchant, Day: day, Order: w.r.OrderNo, Refund: w.r.DebtNo, Amount: amount, Fee: fee,
		Maker: w.r.Maker}, ids...)
}

func (w *refundWork) post(e ledger.Entry, err error) (ledger.EntryID, error) {
	if err != nil {
		return ledger.EntryID{}, err
	}
	return w.b.Post(e)
}

// goOn pays the debt of a closed refund under a new number; the old one is dead.
func (w *refundWork) goOn() error {
	r := w.r
	if r.Status != RefundClosed || r.NextNo != "" {
		return ErrState.Because("status", "refund %s is %s: only a closed one goes on under another number", r.RefundNo, r.Status)
	}
	r.change()
	r.NextNo = w.reissue
	next := *r
	next.RefundNo, next.NextNo, next.Owed, next.OwedDay, next.Debit = w.reissue, "", 0, 0, ""
	next.Status, next.InFlight, next.Act, next.NextAt = RefundOwed, true, channels.ActResend, w.at.Add(recoverAfter)
	next.AcceptedAt, next.CreatedAt, next.Day = w.at.Truncate(time.Microsecond), w.at.Truncate(time.Microsecond), ledger.DayOf(w.at)
	next.Tries, next.HISTries, next.Version, next.was, next.fresh = 0, 0, 0, 0, true
	next.Reason, next.SettlementNo, next.Abnormal, next.Application = channels.Reason{}, "", false, nil
	w.all[key{next.Hospital, next.RefundNo}] = &next
	return nil
}
