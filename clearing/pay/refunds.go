package pay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// Refunds gives money back by the original route.
type Refunds struct{ *House }

// Create asks for a refund and takes it as far as it goes at once: HIS is asked
// where the platform calls it, and the channel after HIS. A Refusal names the rule
// that forbids it; APPROVING says that a second person must approve, and why.
func (s *Refunds) Create(ctx context.Context, n NewRefund) (*Refund, error) {
	t, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	ask, err := s.ask(ctx, t, &n)
	if err != nil {
		return nil, err
	}
	request := ledger.Request{Scope: "refund:" + n.App, Key: n.Key, Form: 1, Canon: n.canon()}
	return s.store(ctx, request, ask)
}

func (s *Refunds) store(ctx context.Context, request ledger.Request, ask *refundAsk) (*Refund, error) {
	out, err := ledger.Submit(ctx, s.Committer, refundVerb, request, ask)
	if taken(err, "refunds_one_in_flight") {
		return nil, ErrInFlight.Because("order_no", "another refund of payment %s was asked at the same moment", ask.refund.OrderNo)
	}
	if err = errors.Join(err, out.Err); err != nil {
		return nil, err
	}
	if out.Replayed {
		return s.Get(ctx, ask.refund.Hospital, out.Body)
	}
	return s.start(ctx, ask.result)
}

func (s *Refunds) ask(ctx context.Context, t *terms, n *NewRefund) (*refundAsk, error) {
	app, ok := t.App(n.App)
	switch {
	case !ok || !slices.Contains(app.Hospitals, n.Hospital):
		return nil, ErrNotAllowed.Because("hospital", "app %q may not act for hospital %q", n.App, n.Hospital)
	case n.Key == "" || len(n.Key) > 128:
		return nil, ErrField.Because("idempotency_key", "must be 1 to 128 characters")
	case n.Amount <= 0:
		return nil, ErrField.Because("amount_fen", "%d must be above zero", n.Amount)
	case n.Maker == "":
		return nil, ErrField.Because("maker", "must not be empty: who asks cannot approve")
	}
	p, err := (&Payments{s.House}).Get(ctx, n.Hospital, n.OrderNo)
	if err != nil {
		return nil, err
	}
	m, ok := t.Merchant(p.Channel, p.MerchantNo)
	if !ok {
		return nil, ErrNotFound.Because("merchant_no", "%s %s is not set up", p.Channel, p.MerchantNo)
	}
	now := s.Now()
	r := newRefund(n.Hospital, number("HR", ledger.DayOf(now), n.App, n.Key), n.OrderNo, n.Amount, n.Maker, now)
	r.App, r.Cause, r.SettlementNo = n.App, n.Cause, n.SettlementNo
	if t.platformCalls(n.Hospital) && p.Status == Success && p.HIS == HISWait {
		if err := s.bookFirst(ctx, p); err != nil {
			return nil, err
		}
	}
	return &refundAsk{
		refund: r, merchant: m, policy: t.PolicyOn(n.Hospital, ledger.DayOf(now)), platform: t.platformCalls(n.Hospital),
		allows: n.HISAllows, cancelled: n.HISCancelled, notify: app.NotifyURL != "", at: now,
	}, nil
}

func newRefund(hospital, no, order string, amount ledger.Money, maker string, now time.Time) *Refund {
	at := now.Truncate(time.Microsecond)
	return &Refund{
		Hospital: hospital, Kind: channels.Refund, RefundNo: no, OrderNo: order, Amount: amount, AcceptedAt: at, CreatedAt: at,
		Day: ledger.DayOf(now), Maker: maker, DebtNo: no, InFlight: true, fresh: true,
	}
}

// RefundDebt pays a debt of a reconciliation case by the original route. The case
// and the debt's number are its key: asked again it is the same refund.
func (s *Refunds) RefundDebt(ctx context.Context, d DebtRefund) (*Refund, error) {
	t, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	m, ok := t.Merchant(d.Channel, d.MerchantNo)
	switch {
	case !ok || m.Hospital != d.Hospital:
		return nil, ErrNotFound.Because("merchant_no", "%s %s is no number of hospital %s", d.Channel, d.MerchantNo, d.Hospital)
	case d.CaseID == "" || d.DebtNo == "":
		return nil, ErrField.Because("case", "a debt is named by its case and number")
	case d.Maker == "" || d.Checker == "" || d.Maker == d.Checker:
		return nil, ErrTwoPeople.Because("checker", "a debt of a case is paid on the word of two people")
	case d.Amount <= 0 || d.Total < d.Amount:
		return nil, ErrField.Because("amount_fen", "%d must be above zero and at most the order's %d", d.Amount, d.Total)
	}
	now := s.Now()
	r := newRefund(d.Hospital, number("HR", ledger.DayOf(now), d.CaseID, d.DebtNo), d.OrderNo, d.Amount, d.Maker, now)
	r.Channel, r.MerchantNo, r.TradeNo, r.Total = m.Channel, m.No, d.TradeNo, d.Total
	r.CaseID, r.DebtNo, r.BillNo, r.BizType, r.Cause = d.CaseID, d.DebtNo, d.BillNo, d.BizType, channels.CauseDuplicate
	r.Status, r.Act, r.NextAt = RefundOwed, channels.ActResend, now.Add(recoverAfter)
	canon := fmt.Appendf(nil, `{"order_no":%q,"amount_fen":%d}`, d.OrderNo, int64(d.Amount))
	request := ledger.Request{Scope: "case-refund:" + d.Hospital, Key: d.CaseID + "|" + d.DebtNo, Form: 1, Canon: canon, Internal: true}
	return s.store(ctx, request, &refundAsk{refund: r, merchant: m, ofPayment: d.OfPayment, at: now})
}

// Get reads a refund.
func (s *Refunds) Get(ctx context.Context, hospital, refundNo string) (*Refund, error) {
	var r *Refund
	err := s.DB.ReadOne(ctx, func(ctx context.Context, q db.Queryer) error {
		found, err := readRefunds(ctx, q, []key{{hospital, refundNo}})
		r = found[key{hospital, refundNo}]
		return err
	})
	if err == nil && r != nil && r.Abnormal {
		err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			found, err := readRefunds(ctx, tx, []key{{hospital, refundNo}})
			if r = found[key{hospital, refundNo}]; r == nil {
				return err
			}
			return withApplications(ctx, tx, []*Refund{r})
		})
	}
	if err == nil && r == nil {
		err = ErrNotFound.Because("refund_no", "refund %s of hospital %s is not known", refundNo, hospital)
	}
	return r, err
}

// Decide is the second person's word on a refund that waits for one. The same word
// of the same person again changes nothing.
func (s *Refunds) Decide(ctx context.Context, hospital, refundNo, checker string, approve bool, reason string) (*Refund, error) {
	r, err := s.Get(ctx, hospital, refundNo)
	if err != nil {
		return nil, err
	}
	if r.Status != RefundApproving && r.Checker == checker && approve == (r.Reason.Code != rejected) {
		return r, nil // said before
	}
	if r.Status == RefundApproving && approve && r.First != "" && r.First == checker {
		return r, nil
	}
	if r, err = s.event(ctx, r, &refundEvent{decision: &decision{checker, approve, reason}}); err != nil {
		return r, err
	}
	return s.start(ctx, r)
}

// Reissue goes on with the debt of a closed refund under a new number (L16). Asked
// again it returns that refund.
func (s *Refunds) Reissue(ctx context.Context, hospital, refundNo string) (*Refund, error) {
	r, err := s.Get(ctx, hospital, refundNo)
	if err != nil {
		return nil, err
	}
	if r.NextNo != "" {
		return s.Get(ctx, hospital, r.NextNo)
	}
	next := number("HR", ledger.DayOf(s.Now()), hospital, refundNo)
	_, err = s.event(ctx, r, &refundEvent{reissue: next})
	if taken(err, "refunds_one_in_flight") {
		err = ErrInFlight.Because("refund_no", "another refund of payment %s is under way: refund %s goes on after it", r.OrderNo, r.RefundNo)
	}
	if err != nil {
		return r, err
	}
	if r, err = s.Get(ctx, hospital, next); err != nil {
		return r, err
	}
	return s.advance(ctx, r)
}

// Notice applies a verified refund notice that came for a merchant number. One that is
// sealed but not signed is only a hint: the channel is asked before anything is booked.
func (s *Refunds) Notice(ctx context.Context, channel, merchantNo string, n channels.Notice) (*Refund, error) {
	t, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	m, ok := t.Merchant(channel, merchantNo)
	if !ok {
		return nil, ErrNotFound.Because("merchant_no", "%s %s is not set up", channel, merchantNo)
	}
	named, known := t.Merchant(channel, cmp.Or(n.MerchantNo, merchantNo))
	if !known || named != m {
		return nil, ErrForeign.Because("merchant_no", "the notice is for %s, it came for %s: nothing is changed", n.MerchantNo, merchantNo)
	}
	r, err := s.Get(ctx, m.Hospital, n.Refund.RefundNo)
	if err != nil {
		return nil, err
	}
	if r.MerchantNo != m.No {
		return nil, ErrForeign.Because("merchant_no", "refund %s is of %s, the notice came for %s: nothing is changed", r.RefundNo, r.MerchantNo, m.No)
	}
	if n.Unsigned {
		return s.advance(ctx, r)
	}
	answer := n.Refund
	return s.event(ctx, r, &refundEvent{answer: &answer})
}

func (s *Refunds) event(ctx context.Context, r *Refund, e *refundEvent) (*Refund, error) {
	return s.eventUnder(ctx, ledger.Request{}, r, e)
}

func (s *Refunds) eventUnder(ctx context.Context, request ledger.Request, r *Refund, e *refundEvent) (*Refund, error) {
	t, err := s.current(ctx)
	if err != nil {
		return r, err
	}
	m, ok := t.Merchant(r.Channel, r.MerchantNo)
	if !ok {
		return r, ErrNotFound.Because("merchant_no", "%s %s is not set up", r.Channel, r.MerchantNo)
	}
	app, known := t.App(r.App)
	e.key, e.merchant, e.at = key{r.Hospital, r.RefundNo}, m, s.Now()
	e.platform, e.notify = t.platformCalls(r.Hospital), known && app.NotifyURL != ""
	out, err := ledger.Submit(ctx, s.Committer, refundEventVerb, request, e)
	if err = errors.Join(err, out.Err); err != nil {
		return r, err
	}
	return e.result, nil
}

// start takes a refund as far as it goes at once.
func (s *Refunds) start(ctx context.Context, r *Refund) (*Refund, error) {
	ctx = context.WithoutCancel(ctx)
	if r.Status == RefundCancelling {
		var err error
		if r, err = s.askThenCancel(ctx, r); err != nil || r.Status == RefundCancelling {
			return r, err
		}
	}
	return s.advance(ctx, r)
}

// advance does the next thing about a refund: HIS, then the channel.
func (s *Refunds) advance(ctx context.Context, r *Refund) (*Refund, error) {
	ctx = context.WithoutCancel(ctx)
	if r.Status == RefundCancelling {
		var err error
		if r, err = s.cancelAtHIS(ctx, r, nil); err != nil {
			return r, err
		}
	}
	if r.Status == RefundOwed || (r.Status == RefundSuccess && r.SuccessAt.IsZero()) {
		return s.askChannel(ctx, r)
	}
	return r, nil
}

// askChannel sends the refund, or asks about it. What the channel does not know
// is sent again at once, always under the same number.
func (s *Refunds) askChannel(ctx context.Context, r *Refund) (*Refund, error) {
	g, err := s.Outside.Gateway(r.Channel, r.MerchantNo)
	if err != nil {
		return r, err
	}
	request := channels.RefundRequest{OrderNo: r.OrderNo, TradeNo: r.TradeNo, RefundNo: r.RefundNo, Total: r.Total, Amount: r.Amount, Cause: r.Cause}
	var answer channels.RefundAnswer
	asked := true
	if r.Status == RefundOwed && r.Act == channels.ActResend {
		answer, asked = g.Refund(ctx, request), false
	} else {
		answer = g.QueryRefund(ctx, request)
	}
	return s.event(ctx, r, &refundEvent{answer: &answer, queried: asked, exchange: exchangeOf(r, answer)})
}

// Query asks the channel about a refund once and applies the answer.
func (s *Refunds) Query(ctx context.Context, hospital, refundNo string) (*Refund, error) {
	r, err := s.Get(ctx, hospital, refundNo)
	if err != nil {
		return nil, err
	}
	return s.advance(ctx, r)
}

// Confirm is Query for reconciliation, and says whether the refund is now another than
// the one with the digest that it has read. An error may leave that open: it counts as a
// change.
func (s *Refunds) Confirm(ctx context.Context, hospital, refundNo string, read int64) (changed bool, err error) {
	r, err := s.Query(ctx, hospital, refundNo)
	return err != nil || r.leg().Redigest() != read, err
}

// Poll does what is due at now about refunds, at most limit of them, and returns
// how many. One that fails does not stop the others.
func (s *Refunds) Poll(ctx context.Context, now time.Time, limit int) (int, error) {
	due, err := s.due(ctx, `r.next_at`, now, limit)
	errs := make([]error, len(due))
	atOnce(len(due), func(i int) { _, errs[i] = s.advance(ctx, due[i]) })
	return len(due), errors.Join(append(errs, err)...)
}

func (s *Refunds) due(ctx context.Context, column string, now time.Time, limit int) (due []*Refund, err error) {
	err = s.DB.ReadOne(ctx, func(ctx context.Context, q db.Queryer) error {
		rows, err := q.Query(ctx, `
			SELECT `+refundColumns+` FROM refunds AS r WHERE r.queue BETWEEN 0 AND 15 AND `+column+` <= $1 AND r.kind = 'REFUND'
			ORDER BY r.queue, `+column+` LIMIT $2`, now, limit)
		if err != nil {
			return err
		}
		due, err = pgx.CollectRows(rows, scanRefund)
		return err
	})
	return due, err
}

// Refundable is how much of a payment may be given back: the channel's, HIS's and
// the other limits, the route, the days left and what the books say the merchant
// number holds. Smallest is what a refund would be refused above; a balance that
// is too small refuses nothing: the refund waits for a recharge.
func (s *Refunds) Refundable(ctx context.Context, hospital, orderNo string) (*Limits, error) {
	t, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	var p *Payment
	var refunds map[key]*Refund
	var held ledger.Money
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		found, err := readPayments(ctx, tx, []key{{hospital, orderNo}})
		if p = found[key{hospital, orderNo}]; err != nil || p == nil {
			return err
		}
		if refunds, err = readRefundsOf(ctx, tx, []key{{hospital, orderNo}}); err != nil {
			return err
		}
		m, ok := t.Merchant(p.Channel, p.MerchantNo)
		if !ok {
			return nil
		}
		balance, err := ledger.BalanceAt(ctx, tx, clearing.ChannelMoney(m).ID(), ledger.AsOf{})
		held = balance.Balance()
		return err
	})
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, ErrNotFound.Because("order_no", "payment %s of hospital %s is not known", orderNo, hospital)
	}
	allows := ledger.Money(0)
	if t.platformCalls(hospital) {
		allows = s.askHIS(ctx, p)
	}
	limits := limitsOf(p, refunds, allows, s.Now())
	limits.add("BALANCE", held, "merchant number %s holds %s by the books: a refund above it waits for a recharge", p.MerchantNo, held)
	return limits, nil
}
