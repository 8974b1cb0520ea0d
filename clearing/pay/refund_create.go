package pay

import (
	"context"
	"encoding/json"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// NewRefund asks for a refund of a payment by the original route.
type NewRefund struct {
	App, Key     string
	Hospital     string
	OrderNo      string
	Amount       ledger.Money
	Cause        channels.Cause
	Maker        string       // who asks
	SettlementNo string       // of the insurance: the payment was insured afterwards (B17), once
	HISCancelled bool         // his_calls APP: HIS has voided the charge
	HISAllows    ledger.Money // his_calls APP: how much HIS says may be given back
}

func (n *NewRefund) canon() []byte {
	text, err := json.Marshal(struct {
		Hospital   string `json:"hospital"`
		OrderNo    string `json:"order_no"`
		Amount     int64  `json:"amount_fen"`
		Cause      string `json:"cause"`
		Settlement string `json:"settlement_no"`
	}{n.Hospital, n.OrderNo, int64(n.Amount), string(n.Cause), n.SettlementNo})
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	return text
}

// DebtRefund asks for a refund that pays a debt of a reconciliation case: it
// stands in 2205 under DebtNo already, so nothing is posted before the channel
// accepts.
type DebtRefund struct {
	Hospital, Channel, MerchantNo string
	OrderNo, TradeNo              string
	CaseID, DebtNo                string
	Amount, Total                 ledger.Money // Total: the order's amount at the channel
	OfPayment                     bool         // it counts as given back of our payment of this number
	BillNo, BizType               string
	Maker, Checker                string // who proposed and approved the case's resolution
}

// The channels' limits of refunds (spec/channels.md A.5; L16).
const (
	maxRefunds    = 50
	refundSpacing = time.Minute
	refundDays    = 365
)

// refundAsk is a refund on its way to be stored.
type refundAsk struct {
	refund    *Refund
	merchant  *clearing.Merchant
	policy    clearing.RefundPolicy
	platform  bool
	allows    ledger.Money // HIS's limit, 0 where HIS is asked by us
	cancelled bool
	ofPayment bool
	notify    bool
	at        time.Time
	result    *Refund
}

// refundVerb stores refunds and, where HIS has voided the charge and nobody else
// has to approve, makes them a debt.
var refundVerb = &ledger.Verb[*refundAsk]{Name: "pay.refund", Run: runRefundAsks}

func runRefundAsks(ctx context.Context, b *ledger.Batch, cmds []*refundAsk) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	orders := make([]key, len(cmds))
	for i, c := range cmds {
		orders[i] = key{c.refund.Hospital, c.refund.OrderNo}
	}
	payments, err := readPayments(ctx, b.Tx(), orders)
	if err != nil {
		return b.Fail(err)
	}
	refunds, err := readRefundsOf(ctx, b.Tx(), orders)
	if err != nil {
		return b.Fail(err)
	}
	var out outbox
	for i, c := range cmds {
		r := *c.refund // Run may be called again for the same command
		p := payments[orders[i]]
		if err := c.refuse(p, &r, refunds); err != nil {
			outcomes[i].Err = err
			continue
		}
		if r.CaseID == "" {
			c.place(p, &r)
		} else if c.ofPayment {
			r.PaymentNo = p.OrderNo
		}
		if r.Status == RefundOwed && r.CaseID == "" {
			if outcomes[i].Entry, err = owe(b, c.merchant, p, &r, c.at); err != nil {
				outcomes[i].Err = err
				continue
			}
		}
		if r.PaymentNo != "" {
			p.change()
			p.Requested += r.Amount
		}
		refunds[key{r.Hospital, r.RefundNo}] = &r
		if r.Status == RefundOwed && c.notify && r.App != "" {
			out.refund(NoticeRefundOwed, &r, c.at)
		}
		outcomes[i].Body = r.RefundNo
		made := r
		c.result = &made
	}
	writePayments(b, payments)
	writeRefunds(b, refunds)
	out.write(b)
	return outcomes
}

// refuse names the first rule that the refund breaks.
func (c *refundAsk) refuse(p *Payment, r *Refund, refunds map[key]*Refund) error {
	if r.CaseID != "" {
		if c.ofPayment && (p == nil || p.Refundable() < r.Amount) {
			return ErrRefundable.Because("amount_fen", "payment %s has not %s left to give back", r.OrderNo, r.Amount)
		}
		return inFlight(r, refunds)
	}
	switch {
	case p == nil:
		return ErrNotFound.Because("order_no", "payment %s of hospital %s is not known", r.OrderNo, r.Hospital)
	case p.Late && p.HIS != HISDone:
		return ErrOrderOfSteps.Because("order_no", "payment %s came after it was closed: its refund is proposed as a case (F2, PAID_TWICE) and approved there", p.OrderNo)
	}
	// Where the app calls HIS it knows what HIS booked, and says that it has voided the charge.
	done := map[Step]bool{StepPay: p.Status == Success, StepAcknowledge: !c.platform || p.HIS != HISWait, StepCancel: c.platform || c.cancelled || p.HIS == HISRefused}
	if err := p.turn(StepRefund, done); err != nil { // B03
		return err
	}
	if l := limitsOf(p, refunds, c.allows, c.at).smallest(); r.Amount > l.Amount {
		return ErrRefundable.Because("amount_fen", "%s is asked, %s may be given back: %s", r.Amount, l.Amount, l.Rule)
	}
	return inFlight(r, refunds)
}

func inFlight(r *Refund, refunds map[key]*Refund) error {
	for _, other := range refunds {
		if other.Hospital == r.Hospital && other.OrderNo == r.OrderNo && other.InFlight {
			return ErrInFlight.Because("order_no", "refund %s of payment %s is under way (%s)", other.RefundNo, r.OrderNo, other.Status)
		}
		if other.Hospital == r.Hospital && r.SettlementNo != "" && other.SettlementNo == r.SettlementNo && other.Status != RefundFailed {
			return ErrRefundable.Because("settlement_no", "insurance settlement %s was given back by refund %s: once only (B17)", r.SettlementNo, other.RefundNo)
		}
	}
	return nil
}

// place says where a refund begins: with a second person, at HIS, or as a debt.
func (c *refundAsk) place(p *Payment, r *Refund) {
	r.PaymentNo, r.Channel, r.MerchantNo, r.TradeNo, r.BillNo = p.OrderNo, p.Channel, p.MerchantNo, p.TradeNo, p.BillNo
	r.BizType, r.Terminal, r.Patient, r.Total = p.BizType, p.Terminal, p.Patient, p.Amount
	r.Approval = c.approval(p, r)
	if r.Needs = 1; r.Approval != "" && c.policy.From != 0 && r.Amount > c.policy.HeadLimit {
		r.Approval += "; it is over the finance head's limit of " + c.policy.HeadLimit.String() + ": two people approve it"
		r.Needs = 2
	}
	switch {
	case r.Approval != "":
		r.Status, r.Act, r.NextAt = RefundApproving, channels.ActPerson, time.Time{}
	case c.platform:
		r.Status, r.Act, r.NextAt = RefundCancelling, channels.ActQuery, c.at.Add(recoverAfter)
	default:
		r.Status, r.Act, r.NextAt = RefundOwed, channels.ActResend, c.at.Add(recoverAfter)
	}
}

// approval names the condition of B24 that is broken, "" where all five hold and
// no second person is asked.
func (c *refundAsk) approval(p *Payment, r *Refund) string {
	switch {
	case p.HIS == HISRefused:
		return "HIS has not booked the payment: giving it back is decided by two people (E07)"
	case p.Day != ledger.DayOf(c.at):
		return "the payment is of " + p.Day.String() + ", not of today"
	case r.Amount != p.Amount:
		return "it is " + r.Amount.String() + " of " + p.Amount.String() + ", not the whole payment"
	case r.Amount > c.policy.CashierLimit:
		return "it is over the cashier's limit of " + c.policy.CashierLimit.String()
	case !c.platform && !c.cancelled:
		return "HIS has not acknowledged the cancellation"
	}
	return ""
}

// owe makes the refund a debt to the patient: out of what is pending (J18), or
// out of what HIS never took (E07).
func owe(b *ledger.Batch, m *clearing.Merchant, p *Payment, r *Refund, at time.Time) (ledger.EntryID, error) {
	if r.Held {
		return ledger.EntryID{}, nil
	}
	debit := "J18"
	if p.HIS == HISRefused && p.Acked == 0 {
		debit = "E07"
	}
	if debit == "J18" && m.Mode == clearing.ModeB {
		var err error
		if debit, err = coveredBy(b, m, r.Amount-feeBack(m, p, r, at)); err != nil {
			return ledger.EntryID{}, err
		}
	}
	day := ledger.DayOf(at)
	entry, err := clearing.NewEntry(clearing.Event{Merchant: m, Day: day, Order: r.OrderNo, Refund: r.DebtNo, Amount: r.Amount,
		Maker: r.Maker, Checker: r.Checker}, debit)
	if err != nil {
		return ledger.EntryID{}, err
	}
	r.Owed, r.OwedDay, r.Debit = r.Amount, day, debit
	return b.Post(entry)
}

// feeBack is what the refund brings a hospital that bears its fees.
func feeBack(m *clearing.Merchant, p *Payment, r *Refund, at time.Time) ledger.Money {
	day := ledger.DayOf(at)
	if m.BearerOn(day) != clearing.ByHospital {
		return 0
	}
	return m.FeeReturnedAt(day, r.Amount, p.Fee-p.feeReturned)
}

// coveredBy says which of a mode B hospital's own money pays the refund: what is
// pending, else what was released; another hospital's never.
func coveredBy(b *ledger.Batch, m *clearing.Merchant, amount ledger.Money) (string, error) {
	balance, err := ledger.BalanceAt(context.Background(), b.Tx(), clearing.Pending(m.Hospital).ID(), ledger.AsOf{})
	if err != nil {
		b.Fail(err)
		return "", err
	}
	if balance.Balance() >= amount {
		return "J18", nil
	}
	if left := b.Available(clearing.Available(m.Hospital).ID()); left < amount {
		return "", ErrTopUp.Because("amount_fen", "hospital %s has %s pending and %s available, %s is asked: it tops up first (J23)",
			m.Hospital, balance.Balance(), left, amount)
	}
	return "J23c", nil
}
