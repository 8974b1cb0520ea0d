package pay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// Payments makes payments. What it stores comes before the call to the outside,
// what the call came to after it, so that a crash between the two is recovered by
// Poll.
type Payments struct{ *House }

// Create stores a payment and sends it to the channel. The same key with the same
// request returns the same payment and sends nothing. A Refusal says what rule
// forbids it; any other error leaves the outcome open: ask again with the key.
func (s *Payments) Create(ctx context.Context, n NewPayment) (*Payment, error) {
	t, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	m, err := n.check(t, now)
	if err != nil {
		return nil, err
	}
	if n.Replace {
		if err := s.clear(ctx, &n); err != nil {
			return nil, err
		}
	}
	p := n.payment(m, now)
	request := ledger.Request{Scope: "payment:" + n.App, Key: n.Key, Form: 1, Canon: n.canon()}
	out, err := ledger.Submit(ctx, s.Committer, createVerb, request, p)
	if taken(err, "payments_live") { // another process was first by the width of a commit
		return nil, ErrLive.Because("bill_no", "another payment of bill %s was made at the same moment", n.BillNo)
	}
	if err = errors.Join(err, out.Err); err != nil {
		return nil, err
	}
	if out.Replayed {
		return s.Get(ctx, n.Hospital, out.Body)
	}
	return s.send(ctx, p, &n)
}

// taken tells whether err is a second row under the unique index.
func taken(err error, index string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.ConstraintName == index
}

// send makes the first call.
func (s *Payments) send(ctx context.Context, p *Payment, n *NewPayment) (*Payment, error) {
	g, err := s.Outside.Gateway(p.Channel, p.MerchantNo)
	if err != nil {
		return p, fmt.Errorf("payment %s is stored and not sent: %w", p.OrderNo, err)
	}
	answer := g.Pay(ctx, channels.PayRequest{
		OrderNo: p.OrderNo, Way: p.Way, Amount: p.Amount, Subject: subjects[n.BizType], AuthCode: n.AuthCode, Payer: n.Payer,
		Terminal: p.Terminal, ClientIP: n.ClientIP, ExpireAt: p.ExpiresAt,
	})
	return s.apply(ctx, p, g, answer)
}

// apply stores what the channel said of a payment. The money may have moved, so
// that a caller who has left does not stop it.
func (s *Payments) apply(ctx context.Context, p *Payment, g channels.Gateway, answer channels.PayAnswer) (*Payment, error) {
	return s.event(context.WithoutCancel(ctx), p, &paymentEvent{
		answer: &answer, merchantNo: p.MerchantNo, plan: g.Plan, exchange: clearing.NewExchange(p.OrderNo, answer.Exchange),
	})
}

func (s *Payments) event(ctx context.Context, p *Payment, e *paymentEvent) (*Payment, error) {
	after, err := s.eventOf(ctx, ledger.Request{}, key{p.Hospital, p.OrderNo}, e)
	if err != nil {
		return p, err
	}
	return after, nil
}

// eventOf applies an event to a payment that the committer reads.
func (s *Payments) eventOf(ctx context.Context, request ledger.Request, of key, e *paymentEvent) (*Payment, error) {
	t, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	e.key, e.terms, e.at = of, t, s.Now()
	out, err := ledger.Submit(ctx, s.Committer, paymentVerb, request, e)
	if err = errors.Join(err, out.Err); err != nil {
		return nil, err
	}
	if out.Replayed {
		return s.Get(ctx, of.hospital, of.number)
	}
	return e.result, nil
}

// Get reads a payment.
func (s *Payments) Get(ctx context.Context, hospital, orderNo string) (*Payment, error) {
	var p *Payment
	err := s.DB.ReadOne(ctx, func(ctx context.Context, q db.Queryer) error {
		found, err := readPayments(ctx, q, []key{{hospital, orderNo}})
		p = found[key{hospital, orderNo}]
		return err
	})
	if err == nil && p == nil {
		err = ErrNotFound.Because("order_no", "payment %s of hospital %s is not known", orderNo, hospital)
	}
	return p, err
}

// Query asks the channel about a payment once and applies the answer by the
// ordinary rules; reconciliation does so before it calls a payment lost (S9).
func (s *Payments) Query(ctx context.Context, hospital, orderNo string) (*Payment, error) {
	p, err := s.Get(ctx, hospital, orderNo)
	if err != nil {
		return nil, err
	}
	g, err := s.Outside.Gateway(p.Channel, p.MerchantNo)
	if err != nil {
		return p, err
	}
	return s.apply(ctx, p, g, g.Query(ctx, p.OrderNo))
}

// Confirm is Query for reconciliation, and says whether the payment is now another than
// the one with the digest that it has read. An error may leave that open: it counts as a
// change.
func (s *Payments) Confirm(ctx context.Context, hospital, orderNo string, read int64) (changed bool, err error) {
	p, err := s.Query(ctx, hospital, orderNo)
	return err != nil || p.leg().Redigest() != read, err
}

// Notice applies a verified notice that came for a merchant number. One that is
// for another merchant changes nothing and is recorded (ErrForeign).
func (s *Payments) Notice(ctx context.Context, channel, merchantNo string, n channels.Notice) (*Payment, error) {
	t, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	m, ok := t.Merchant(channel, merchantNo)
	if !ok {
		return nil, ErrNotFound.Because("merchant_no", "%s %s is not set up", channel, merchantNo)
	}
	g, err := s.Outside.Gateway(m.Channel, m.No)
	if err != nil {
		return nil, err
	}
	from := m.No
	if n.MerchantNo != "" {
		from = n.MerchantNo
		if named, ok := t.Merchant(channel, n.MerchantNo); ok {
			from = named.No
		}
	}
	answer := n.Payment
	return s.eventOf(ctx, ledger.Request{}, key{m.Hospital, answer.OrderNo}, &paymentEvent{answer: &answer, merchantNo: from, plan: g.Plan})
}

// foreignVerb keeps that a channel's own notice for another merchant number came.
var foreignVerb = &ledger.Verb[finding]{Name: "pay.foreign", Run: func(_ context.Context, b *ledger.Batch, cmds []finding) []ledger.Outcome {
	for _, f := range cmds {
		record(b, "notice.foreign", f.Hospital, f.Number, f.Rule)
	}
	return make([]ledger.Outcome, len(cmds))
}}

// NoteForeign keeps that a notice of the channel itself came for a merchant number
// and is another's: nothing is changed, and a person should look.
func (h *House) NoteForeign(ctx context.Context, channel, merchantNo, rule string) error {
	t, err := h.current(ctx)
	if err != nil {
		return err
	}
	f := finding{Number: merchantNo, Rule: rule}
	if m, ok := t.Merchant(channel, merchantNo); ok {
		f.Hospital = m.Hospital
	}
	out, err := ledger.Submit(ctx, h.Committer, foreignVerb, ledger.Request{}, f)
	return errors.Join(err, out.Err)
}

// Caller is the app whose call this is, with its key for it; the zero Caller is the
// platform itself, which acts by the state it finds.
type Caller struct{ App, Key string }

// Acknowledge applies HIS's word on a payment: what it booked, or its refusal with
// the reason. Where the app calls HIS (his_calls APP) the app hands it in; the same
// word under the same key changes nothing, another one is ledger.ErrKeyConflict.
func (s *Payments) Acknowledge(ctx context.Context, by Caller, hospital, orderNo string, word channels.HISAnswer) (*Payment, error) {
	e := &paymentEvent{his: &word, exchange: clearing.NewExchange(orderNo, word.Exchange)}
	if by == (Caller{}) {
		return s.eventOf(ctx, ledger.Request{}, key{hospital, orderNo}, e)
	}
	if by.Key == "" || len(by.Key) > 128 {
		return nil, ErrField.Because("idempotency_key", "must be 1 to 128 characters")
	}
	canon, err := json.Marshal(map[string]any{"hospital": hospital, "order_no": orderNo, "bill_no": word.BillNo, "receipt_no": word.ReceiptNo,
		"amount_fen": int64(word.Amount), "refused": word.Reason.Text})
	if err != nil {
		return nil, err
	}
	return s.eventOf(ctx, ledger.Request{Scope: "acknowledge:" + by.App, Key: by.Key, Form: 1, Canon: canon}, key{hospital, orderNo}, e)
}

// reverseAfter is how long after a code payment it may be reversed at the
// earliest (spec/channels.md A.5).
const reverseAfter = 15 * time.Second

// Close ends a payment that is under way: it asks the channel first, then closes
// or reverses. The payment that comes back says what became of it: it may have
// been paid after all, or be under way still, and is then followed by Poll.
func (s *Payments) Close(ctx context.Context, hospital, orderNo string) (*Payment, error) {
	p, err := s.Query(ctx, hospital, orderNo)
	if err != nil || !p.Status.open() {
		return p, err
	}
	g, err := s.Outside.Gateway(p.Channel, p.MerchantNo)
	if err != nil {
		return p, err
	}
	if p, err = s.event(ctx, p, &paymentEvent{closing: true, plan: g.Plan}); err != nil {
		return p, err
	}
	if p.Way == channels.WayCode && s.Now().Sub(p.OccurredAt) < reverseAfter {
		return p, nil
	}
	return s.end(ctx, p, g)
}

func (s *Payments) end(ctx context.Context, p *Payment, g channels.Gateway) (*Payment, error) {
	if p.Way == channels.WayCode {
		return s.apply(ctx, p, g, g.Reverse(ctx, p.OrderNo))
	}
	return s.apply(ctx, p, g, g.Close(ctx, p.OrderNo))
}

// clear closes the other open payment of the bill, if there is one.
func (s *Payments) clear(ctx context.Context, n *NewPayment) error {
	var other *Payment
	err := s.DB.ReadOne(ctx, func(ctx context.Context, q db.Queryer) error {
		live, err := readLive(ctx, q, []*Payment{{Hospital: n.Hospital, BillNo: n.BillNo}})
		other = live[key{n.Hospital, n.BillNo}]
		return err
	})
	if err != nil || other == nil || !other.Status.open() || other.OrderNo == number("HP", ledger.DayOf(s.Now()), n.App, n.Key) {
		return err
	}
	_, err = s.Close(ctx, n.Hospital, other.OrderNo)
	return err
}

// Poll does what is due at now about payments without a final outcome, at most
// limit of them, and returns how many. One that fails does not stop the others.
func (s *Payments) Poll(ctx context.Context, now time.Time, limit int) (int, error) {
	due, err := s.due(ctx, `p.next_at`, now, limit)
	errs := make([]error, len(due))
	atOnce(len(due), func(i int) { errs[i] = s.act(ctx, due[i]) })
	return len(due), errors.Join(append(errs, err)...)
}

func (s *Payments) due(ctx context.Context, column string, now time.Time, limit int) (due []*Payment, err error) {
	err = s.DB.ReadOne(ctx, func(ctx context.Context, q db.Queryer) error {
		rows, err := q.Query(ctx, `
			SELECT `+paymentColumns+` FROM payments AS p WHERE p.queue BETWEEN 0 AND 15 AND `+column+` <= $1
			ORDER BY p.queue, `+column+` LIMIT $2`, now, limit)
		if err != nil {
			return err
		}
		due, err = pgx.CollectRows(rows, scanPayment)
		return err
	})
	return due, err
}

func (s *Payments) act(ctx context.Context, p *Payment) error {
	g, err := s.Outside.Gateway(p.Channel, p.MerchantNo)
	if err != nil {
		return err
	}
	switch p.Act {
	case channels.ActReverse:
		_, err = s.end(ctx, p, g)
	case channels.ActClose:
		if p, err = s.apply(ctx, p, g, g.Query(ctx, p.OrderNo)); err == nil && p.Status.open() {
			_, err = s.end(ctx, p, g)
		}
	default:
		_, err = s.apply(ctx, p, g, g.Query(ctx, p.OrderNo))
	}
	return err
}
