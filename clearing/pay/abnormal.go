package pay

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// ApplicationState is how far the money of an abnormal refund has come on its way to
// the patient by the merchant's own bank account.
type ApplicationState string

// The states of an application.
const (
	ApplicationAsked    ApplicationState = "ASKED"    // waits for a second person
	ApplicationSent     ApplicationState = "SENT"     // approved: the channel is asked once, and from then on only queried
	ApplicationPaid     ApplicationState = "PAID"     // the channel says that it has paid the merchant's bank account
	ApplicationArrived  ApplicationState = "ARRIVED"  // the bank's statement has it: E20c stands, J39 may pay the patient
	ApplicationRerouted ApplicationState = "REROUTED" // J39 has left
	ApplicationRejected ApplicationState = "REJECTED" // by the second person
	ApplicationEnded    ApplicationState = "ENDED"    // refused by the channel, not taken, or the payer was paid
)

// Application is what is done about an abnormal refund. Maker and Checker are ""
// where somebody did it on the channel's merchant platform.
type Application struct {
	State              ApplicationState
	Maker, Checker     string
	AskedAt, DecidedAt time.Time
	Reason             string // why it ended
	BankAccount        string
	BankRef            string // of the bank line that brought the money
	Version            int32

	was   int32
	fresh bool
}

// ErrNoCall refuses an application where the channel takes none from a program.
var ErrNoCall = ledger.Refusal{Code: "MERCHANT_PLATFORM"}

// notTakenAfter is how long after an application was sent a query must have been
// asked for its word, that the refund is abnormal still, to be newer than it.
const notTakenAfter = time.Minute

func (x *Application) change() {
	if x.Version == x.was && !x.fresh {
		x.Version++
	}
}

// live says that the application may still bring the money.
func (x *Application) live() bool {
	return x != nil && (x.State == ApplicationAsked || x.State == ApplicationSent)
}

// away says that the money is no longer with the channel.
func (x *Application) away() bool {
	return x != nil && (x.State == ApplicationPaid || x.State == ApplicationArrived || x.State == ApplicationRerouted)
}

// end closes an application that brings no money.
func (x *Application) end(reason string) {
	if x.live() {
		x.change()
		x.State, x.Reason = ApplicationEnded, reason
	}
}

const applicationColumns = `a.hospital, a.refund_no, a.state, a.maker, a.checker, a.asked_at, a.decided_at, a.reason, a.bank_account, a.bank_ref, a.version`

// readApplications reads those of refunds, by their numbers.
func readApplications(ctx context.Context, tx pgx.Tx, keys []key) (map[key]*Application, error) {
	found := map[key]*Application{}
	if len(keys) == 0 {
		return found, nil
	}
	hospitals, numbers := split(keys)
	rows, err := tx.Query(ctx, `
		SELECT `+applicationColumns+` FROM unnest($1::text[], $2::text[]) AS asked(hospital, refund_no)
		JOIN abnormal_refunds AS a ON a.hospital = asked.hospital AND a.refund_no = asked.refund_no`, hospitals, numbers)
	if err != nil {
		return nil, fmt.Errorf("read abnormal refunds: %w", err)
	}
	var k key
	var x Application
	var decided *time.Time
	_, err = pgx.ForEachRow(rows, []any{&k.hospital, &k.number, &x.State, &x.Maker, &x.Checker, &x.AskedAt, &decided, &x.Reason, &x.BankAccount, &x.BankRef,
		&x.Version}, func() error {
		one := x
		one.DecidedAt, one.was = value(decided), x.Version
		found[k] = &one
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read abnormal refunds: %w", err)
	}
	return found, nil
}

// applicationsOf reads what is done about the refunds that are abnormal, or that the
// events speak of as such, and gives it to them. Ordinary refunds have none.
func applicationsOf(ctx context.Context, tx pgx.Tx, refunds map[key]*Refund, events []*refundEvent) (map[key]*Application, error) {
	var keys []key
	for _, e := range events {
		if r := refunds[e.key]; r != nil && e.aboutAbnormal(r) {
			keys = append(keys, e.key)
		}
	}
	keys = distinct(keys)
	found, err := readApplications(ctx, tx, keys)
	for k, x := range found {
		refunds[k].Application = x
	}
	return found, err
}

// withApplications gives abnormal refunds what is done about them.
func withApplications(ctx context.Context, tx pgx.Tx, list []*Refund) error {
	var keys []key
	for _, r := range list {
		if r.Abnormal {
			keys = append(keys, key{r.Hospital, r.RefundNo})
		}
	}
	found, err := readApplications(ctx, tx, keys)
	for _, r := range list {
		r.Application = found[key{r.Hospital, r.RefundNo}]
	}
	return err
}

func writeApplications(b *ledger.Batch, all map[key]*Application) {
	for k, x := range all {
		switch {
		case x == nil:
		case x.fresh:
			b.ExecRows(1, `
				INSERT INTO abnormal_refunds (hospital, kind, refund_no, state, maker, checker, asked_at, decided_at, reason, bank_account, bank_ref, version)
				VALUES ($1, 'REFUND', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, k.hospital, k.number, x.State, x.Maker, x.Checker, x.AskedAt,
				pointer(x.DecidedAt), x.Reason, x.BankAccount, x.BankRef, x.Version)
		case x.Version != x.was:
			b.ExecRows(1, `
				UPDATE abnormal_refunds SET state = $3, maker = $4, checker = $5, asked_at = $6, decided_at = $7, reason = $8, bank_account = $9, bank_ref = $10, version = $11
				WHERE hospital = $1 AND refund_no = $2 AND version = $12`, k.hospital, k.number, x.State, x.Maker, x.Checker, x.AskedAt,
				pointer(x.DecidedAt), x.Reason, x.BankAccount, x.BankRef, x.Version, x.was)
		}
	}
}

// ApplyAbnormal asks that the channel pay an abnormal refund to the merchant's own
// bank account, from where J39 takes it to the patient: maker asks, another person
// approves by DecideAbnormal. The same key again returns the refund as it stands.
func (s *Refunds) ApplyAbnormal(ctx context.Context, hospital, refundNo, key, maker string) (*Refund, error) {
	switch {
	case key == "" || len(key) > 128:
		return nil, ErrField.Because("idempotency_key", "must be 1 to 128 characters")
	case strings.TrimSpace(maker) == "":
		return nil, ErrField.Because("maker", "must not be empty: who asks cannot approve")
	}
	r, err := s.Get(ctx, hospital, refundNo)
	if err != nil {
		return nil, err
	}
	request := ledger.Request{Scope: "refund-abnormal:" + hospital, Key: key, Form: 1, Canon: fmt.Appendf(nil, `{"refund_no":%q}`, refundNo)}
	e := &refundEvent{applicant: maker}
	if g, err := s.Outside.Gateway(r.Channel, r.MerchantNo); err != nil {
		return nil, err
	} else if _, e.applies = g.(channels.AbnormalGateway); !e.applies && !r.Abnormal {
		return nil, notAbnormal(r)
	}
	if _, err := s.eventUnder(ctx, request, r, e); err != nil {
		return r, err
	}
	return s.Get(ctx, hospital, refundNo)
}

// DecideAbnormal is the second person's word on such a request. Approved, the channel
// is asked once; whatever it answers, only a query, a notice or the bank's statement
// says what became of the money.
func (s *Refunds) DecideAbnormal(ctx context.Context, hospital, refundNo, checker string, approve bool, reason string) (*Refund, error) {
	r, err := s.Get(ctx, hospital, refundNo)
	if err != nil {
		return nil, err
	}
	if x := r.Application; x != nil && x.State != ApplicationAsked && x.Checker == checker && approve == (x.State != ApplicationRejected) {
		return r, nil // said before
	}
	if r, err = s.event(ctx, r, &refundEvent{ruling: &decision{checker, approve, reason}}); err != nil || !approve {
		return r, err
	}
	return s.sendApplication(context.WithoutCancel(ctx), r)
}

// sendApplication asks the channel, once: the row says already that it was asked.
func (s *Refunds) sendApplication(ctx context.Context, r *Refund) (*Refund, error) {
	g, err := s.Outside.Gateway(r.Channel, r.MerchantNo)
	if err != nil {
		return r, err
	}
	applies, ok := g.(channels.AbnormalGateway)
	if !ok {
		return r, noCall(r)
	}
	answer := applies.ApplyAbnormalRefund(ctx, channels.RefundRequest{OrderNo: r.OrderNo, TradeNo: r.TradeNo, RefundNo: r.RefundNo, RefundID: r.ChannelRefundNo,
		Total: r.Total, Amount: r.Amount, Cause: r.Cause})
	return s.event(ctx, r, &refundEvent{applied: &answer, exchange: exchangeOf(r, answer)})
}

func notAbnormal(r *Refund) error {
	return ErrState.Because("status", "refund %s is %s and not abnormal by the channel's word: query it first", r.RefundNo, r.Status)
}

func noCall(r *Refund) error {
	return ErrNoCall.Because("refund_no", "the connection of merchant number %s takes no application for an abnormal refund: it is handled on the channel's merchant platform, "+
		"to another card of the payer or to the merchant's bank account, and the next query of refund %s sees it", r.MerchantNo, r.RefundNo)
}
