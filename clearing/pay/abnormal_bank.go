package pay

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Arrival is a credit on a bank statement that names an abnormal refund: the channel
// has paid its money to the merchant's bank account.
type Arrival struct {
	Hospital, RefundNo string
	Account, BankRef   string // the line
	Day                ledger.Day
	Amount             ledger.Money
}

// AbnormalNumbers finds the abnormal refunds of a hospital that words name, by our
// number or the channel's, and says the number of ours for each word.
func AbnormalNumbers(ctx context.Context, tx pgx.Tx, hospital string, words []string) (map[string]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT refund_no, channel_refund_no FROM refunds
		WHERE hospital = $1 AND abnormal AND kind = 'REFUND' AND (refund_no = ANY($2::text[]) OR channel_refund_no = ANY($2::text[]) AND channel_refund_no <> '')`, hospital, words)
	if err != nil {
		return nil, fmt.Errorf("read abnormal refunds: %w", err)
	}
	found := map[string]string{}
	var ours, theirs string
	_, err = pgx.ForEachRow(rows, []any{&ours, &theirs}, func() error {
		found[ours], found[theirs] = ours, ours
		return nil
	})
	delete(found, "")
	if err != nil {
		return nil, fmt.Errorf("read abnormal refunds: %w", err)
	}
	return found, nil
}

// PostArrivals posts E20c for each line that brings the money of an abnormal refund,
// once however often it is asked, and says which lines do. One of another amount, or
// for a refund whose money came by another line, is nobody's: it needs a person.
func PostArrivals(ctx context.Context, b *ledger.Batch, dir *clearing.Directory, lines []Arrival) ([]bool, error) {
	keys := make([]key, len(lines))
	for i, l := range lines {
		keys[i] = key{l.Hospital, l.RefundNo}
	}
	keys = distinct(keys)
	refunds, err := readRefunds(ctx, b.Tx(), keys)
	if err != nil {
		return nil, err
	}
	applications, err := readApplications(ctx, b.Tx(), keys)
	if err != nil {
		return nil, err
	}
	brings := make([]bool, len(lines))
	for i, l := range lines {
		k := key{l.Hospital, l.RefundNo}
		r, x := refunds[k], applications[k]
		if x != nil && x.BankRef != "" {
			brings[i] = x.BankRef == l.BankRef && x.BankAccount == l.Account
			continue
		}
		if r == nil || !r.awaits(l.Amount) {
			continue
		}
		r.Application = x
		if brings[i], err = r.arrives(b, dir, l); err != nil {
			return nil, err
		}
		applications[k] = r.Application
	}
	writeRefunds(b, refunds)
	writeApplications(b, applications)
	return brings, nil
}

func distinct(keys []key) []key {
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.hospital, b.hospital), cmp.Compare(a.number, b.number))
	})
	return slices.Compact(keys)
}

// arrives posts the money of the line; false where the accounting manual refuses it.
func (r *Refund) arrives(b *ledger.Batch, dir *clearing.Directory, l Arrival) (bool, error) {
	m, known := dir.Merchant(r.Channel, r.MerchantNo)
	bank, found := dir.Bank(r.Hospital, l.Account)
	if !known || !found {
		return false, nil
	}
	entry, err := clearing.NewEntry(clearing.Event{Merchant: m, Bank: bank, BankRef: l.BankRef, Day: l.Day, Order: r.OrderNo, Refund: r.DebtNo, Amount: r.Settle,
		Maker: "recon"}, "E20c")
	if err != nil {
		return false, err
	}
	if _, err := b.Post(entry); err != nil {
		return false, err
	}
	r.arrived(b, l)
	return true, nil
}

// awaits says that a credit of this amount may bring the money of the refund.
func (r *Refund) awaits(amount ledger.Money) bool {
	return r.Status == RefundSuccess && r.SuccessAt.IsZero() && r.Abnormal && amount == r.Settle
}

// arrived notes the line, which counts once.
func (r *Refund) arrived(b *ledger.Batch, l Arrival) {
	x := r.Application
	if x == nil {
		x = &Application{fresh: true, AskedAt: b.Now()}
		r.Application = x
	}
	r.change()
	r.Act, r.NextAt = "", time.Time{}
	x.change()
	x.State, x.BankAccount, x.BankRef, x.Reason = ApplicationArrived, l.Account, l.BankRef, ""
	record(b, "refund.arrived", r.Hospital, r.RefundNo, "line "+l.BankRef+" on "+l.Account+" of "+l.Day.String())
}

// Awaiting reads the abnormal refund whose money people say that a credit brought; a
// Refusal says why it cannot be.
func Awaiting(ctx context.Context, tx pgx.Tx, l Arrival) (*Refund, error) {
	k := key{l.Hospital, l.RefundNo}
	refunds, err := readRefunds(ctx, tx, []key{k})
	if err != nil {
		return nil, err
	}
	r := refunds[k]
	if r == nil {
		return nil, ErrNotFound.Because("refund_no", "refund %s of hospital %s is not known", l.RefundNo, l.Hospital)
	}
	if err := withApplications(ctx, tx, []*Refund{r}); err != nil {
		return nil, err
	}
	switch {
	case !r.awaits(l.Amount):
		return nil, ErrState.Because("refund_no", "refund %s is %s of %s: a credit of %s is not its money", r.RefundNo, r.Status, r.Settle, l.Amount)
	case r.Application != nil && r.Application.BankRef != "":
		return nil, ErrState.Because("refund_no", "the money of refund %s came by line %s", r.RefundNo, r.Application.BankRef)
	}
	return r, nil
}

// Arrive notes in the batch that posts E20c that the line brought the money of r,
// which Awaiting has read.
func Arrive(b *ledger.Batch, r *Refund, l Arrival) {
	r.arrived(b, l)
	k := key{r.Hospital, r.RefundNo}
	writeRefunds(b, map[key]*Refund{k: r})
	writeApplications(b, map[key]*Application{k: r.Application})
}

// ToDo is what finance has to do about a refund that does not go on by itself; ""
// where there is nothing.
func (r *Refund) ToDo() Advice {
	if x := r.Application; r.Abnormal && x != nil {
		if words, ok := toDoByApplication[x.State]; ok {
			return words
		}
	}
	switch {
	case r.Abnormal:
		return Advice{ZH: "退款异常：款项暂存渠道，未回到商户余额，请勿另行退款。微信支付v3：申请退至医院结算账户（ApplyAbnormalRefund，须另一人复核）；" +
			"V2或改退患者其他银行卡：在微信支付商户平台办理。系统会继续查询（第1、3、7天，之后每周）。",
			EN: "Abnormal refund: the channel holds the money, it is not back in the balance; do not refund it again. WeChat Pay v3: apply for it to the hospital's " +
				"settlement account (ApplyAbnormalRefund, another person approves). V2, or to another card of the patient: on the channel's merchant platform. " +
				"It goes on being queried after 1, 3 and 7 days, then weekly."}
	case r.Status == RefundOwed && r.Channel == channels.Alipay && r.Reason.Kind == channels.ReasonNotRefundable:
		return Advice{ZH: "交易被支付宝冻结，退款未受理：请联系支付宝解冻。系统会以同一退款单号继续申请，请勿另行退款。",
			EN: "Alipay has frozen the trade and not taken the refund: have it unfrozen there. The same number is sent again by itself; do not refund it again."}
	}
	return Advice{}
}

// toDoByApplication is the same once something is done about an abnormal refund.
var toDoByApplication = map[ApplicationState]Advice{
	ApplicationAsked: {ZH: "已申请退至医院结算账户，等待另一人复核（DecideAbnormalRefund）。", EN: "It is applied for to the hospital's settlement account: another person decides (DecideAbnormalRefund)."},
	ApplicationSent:  {ZH: "异常退款申请已提交渠道，正在查询结果，请勿重复申请。", EN: "The application is with the channel and its result is being queried: do not apply again."},
	ApplicationPaid:  {ZH: "渠道已付至医院结算账户，待银行流水到账后，按非原路退款（J39）付给患者。", EN: "The channel has paid the hospital's settlement account: once the bank's statement has it, pay the patient by another route (J39)."},
	ApplicationArrived: {ZH: "款项已到医院结算账户：请按非原路退款（J39，须复核）付给患者。",
		EN: "The money is in the hospital's settlement account: pay the patient by another route (J39, two people)."},
	ApplicationRerouted: {ZH: "已按非原路退款由银行付给患者，请核对银行结果。", EN: "The bank pays the patient by another route: look at the payout."},
}
