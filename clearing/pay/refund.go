package pay

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// RefundStatus is how far a refund has come.
type RefundStatus string

// The states of a refund.
const (
	RefundApproving  RefundStatus = "APPROVING"  // waits for a second person
	RefundCancelling RefundStatus = "CANCELLING" // HIS is asked to void the charge
	RefundOwed       RefundStatus = "OWED"       // HIS has voided it: a debt in 2205, the channel is asked
	RefundSuccess    RefundStatus = "SUCCESS"    // accepted by the channel; final with SuccessAt
	RefundClosed     RefundStatus = "CLOSED"     // not paid under this number: the debt stays in 2205
	RefundFailed     RefundStatus = "FAILED"     // HIS or the approver said no: nothing was owed
	RefundRerouted   RefundStatus = "REROUTED"   // paid by the bank (J39)
)

// Refund is money on its way back by the original route.
type Refund struct {
	Hospital, RefundNo, OrderNo  string
	Kind                         channels.Kind
	PaymentNo                    string // "" where the platform never knew the order
	App                          string
	Channel, MerchantNo, TradeNo string
	ChannelRefundNo              string
	BillNo, BizType, Terminal    string
	Patient                      string
	Amount, Settle, Fee, Total   ledger.Money
	Status                       RefundStatus
	AcceptedAt, SuccessAt        time.Time // AcceptedAt is the creation until it is accepted
	CreatedAt                    time.Time
	Day                          ledger.Day
	Cause                        channels.Cause
	Maker, Checker               string
	Approval                     string // the condition that asks for a second person
	Needs                        int16  // checkers: 2 above the finance head's limit
	First                        string // who has approved where another is asked
	CaseID, DebtNo, NextNo       string
	SettlementNo                 string
	Owed                         ledger.Money
	OwedDay                      ledger.Day
	Debit                        string
	Posted, Held, Abnormal       bool
	InFlight                     bool
	Reason                       channels.Reason
	Act                          channels.Act
	NextAt, HISNextAt            time.Time
	Tries, HISTries              int32
	HIS                          HISState
	Version                      int32
	Application                  *Application // of an abnormal one; read by Get, nil for none

	was   int32
	fresh bool
}

func (r *Refund) change() {
	if r.Version == r.was && !r.fresh {
		r.Version++
	}
}

func (r *Refund) leg() *clearing.Leg {
	status, owed := channels.Failed, ledger.Money(0)
	switch r.Status {
	case RefundSuccess:
		status = channels.Success
	case RefundOwed:
		owed = r.Owed
	}
	return &clearing.Leg{
		Kind: r.Kind, Hospital: r.Hospital, Channel: r.Channel, MerchantNo: r.MerchantNo, OrderNo: r.OrderNo, RefundNo: r.RefundNo,
		TradeNo: r.TradeNo, BillNo: r.BillNo, BizType: r.BizType, Terminal: r.Terminal, Patient: r.Patient, Amount: r.Amount, Settle: r.Settle,
		Fee: r.Fee, OccurredAt: r.AcceptedAt, ChannelSuccessAt: r.SuccessAt, Status: status, Final: !r.SuccessAt.IsZero(), Day: r.Day,
		Stage: string(r.Status), Live: !r.CreatedAt.IsZero(), Posted: r.Posted, Owed: owed, Debit: r.Debit, DebtNo: r.DebtNo, NextNo: r.NextNo, CaseID: r.CaseID,
		Abnormal: r.Abnormal,
	}
}

const refundColumns = `r.hospital, r.kind, r.refund_no, r.order_no, COALESCE(r.payment_no, ''), r.app, r.channel, r.merchant_no, r.trade_no,
	r.channel_refund_no, r.bill_no, r.biz_type, r.terminal, r.patient_ref, r.amount_fen, r.settle_fen, r.fee_fen, r.total_fen, r.status,
	r.occurred_at, r.channel_success_at, r.created_at, r.fund_day, r.cause, r.maker, r.checker, r.approval, r.case_id, r.debt_no, r.next_no,
	r.settlement_no, r.owed_fen, r.owed_day, r.debit, r.posted, r.held, r.abnormal, r.in_flight, r.reason_kind, r.reason_code, r.reason_text,
	r.act, r.next_at, r.his_next_at, r.tries, r.his_tries, r.his, r.version, r.needs, r.first_checker`

func scanRefund(row pgx.CollectableRow) (*Refund, error) {
	var r Refund
	var success, created, next, hisNext *time.Time
	err := row.Scan(&r.Hospital, &r.Kind, &r.RefundNo, &r.OrderNo, &r.PaymentNo, &r.App, &r.Channel, &r.MerchantNo, &r.TradeNo,
		&r.ChannelRefundNo, &r.BillNo, &r.BizType, &r.Terminal, &r.Patient, &r.Amount, &r.Settle, &r.Fee, &r.Total, &r.Status,
		&r.AcceptedAt, &success, &created, &r.Day, &r.Cause, &r.Maker, &r.Checker, &r.Approval, &r.CaseID, &r.DebtNo, &r.NextNo,
		&r.SettlementNo, &r.Owed, &r.OwedDay, &r.Debit, &r.Posted, &r.Held, &r.Abnormal, &r.InFlight, &r.Reason.Kind, &r.Reason.Code, &r.Reason.Text,
		&r.Act, &next, &hisNext, &r.Tries, &r.HISTries, &r.HIS, &r.Version, &r.Needs, &r.First)
	r.SuccessAt, r.CreatedAt, r.NextAt, r.HISNextAt, r.was = value(success), value(created), value(next), value(hisNext), r.Version
	return &r, err
}

// readRefunds reads refunds (not reversals) by their numbers.
func readRefunds(ctx context.Context, q db.Queryer, keys []key) (map[key]*Refund, error) {
	rows, err := queryKeys(ctx, q, keys, `SELECT `+refundColumns+` FROM refunds AS r WHERE r.hospital = $1 AND r.kind = 'REFUND' AND r.refund_no = $2`, `
		SELECT `+refundColumns+` FROM unnest($1::text[], $2::text[]) AS asked(hospital, refund_no)
		JOIN refunds AS r ON r.hospital = asked.hospital AND r.kind = 'REFUND' AND r.refund_no = asked.refund_no`)
	return collectRefunds(rows, err)
}

// readRefundsOf reads the refunds of orders, by their own numbers.
func readRefundsOf(ctx context.Context, q db.Queryer, orders []key) (map[key]*Refund, error) {
	rows, err := queryKeys(ctx, q, orders, `SELECT `+refundColumns+` FROM refunds AS r WHERE r.hospital = $1 AND r.order_no = $2 AND r.kind = 'REFUND'`, `
		SELECT `+refundColumns+` FROM unnest($1::text[], $2::text[]) AS asked(hospital, order_no)
		JOIN refunds AS r ON r.hospital = asked.hospital AND r.order_no = asked.order_no AND r.kind = 'REFUND'`)
	return collectRefunds(rows, err)
}

func collectRefunds(rows pgx.Rows, err error) (map[key]*Refund, error) {
	if err != nil {
		return nil, fmt.Errorf("read refunds: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanRefund)
	if err != nil {
		return nil, fmt.Errorf("read refunds: %w", err)
	}
	found := make(map[key]*Refund, len(list))
	for _, r := range list {
		found[key{r.Hospital, r.RefundNo}] = r
	}
	return found, nil
}

// refundRows are refunds on their way into the table, by column.
type refundRows struct {
	hospitals, kinds, numbers, orders, apps, channels, merchants, trades, channelNos, bills, bizTypes, terminals, patients []string
	statuses, causes, makers, checkers, approvals, cases, debts, nexts, settlements, debits                                []string
	reasonKinds, codes, texts, acts, his                                                                                   []string
	payments                                                                                                               []*string
	amounts, settles, fees, totals, owed, digests                                                                          []int64
	accepted, created                                                                                                      []time.Time
	success, next, hisNext                                                                                                 []*time.Time
	days, made, owedDays, tries, hisTries, versions, was                                                                   []int32
	queues, needs                                                                                                          []int16
	firsts                                                                                                                 []string
	posted, abnormal, inFlight                                                                                             []bool
}

func (t *refundRows) add(r *Refund) {
	t.hospitals, t.kinds, t.numbers = append(t.hospitals, r.Hospital), append(t.kinds, string(r.Kind)), append(t.numbers, r.RefundNo)
	t.orders, t.apps, t.channels = append(t.orders, r.OrderNo), append(t.apps, r.App), append(t.channels, r.Channel)
	t.merchants, t.trades, t.channelNos = append(t.merchants, r.MerchantNo), append(t.trades, r.TradeNo), append(t.channelNos, r.ChannelRefundNo)
	t.bills, t.bizTypes, t.terminals = append(t.bills, r.BillNo), append(t.bizTypes, r.BizType), append(t.terminals, r.Terminal)
	t.patients, t.statuses, t.causes = append(t.patients, r.Patient), append(t.statuses, string(r.Status)), append(t.causes, string(r.Cause))
	t.makers, t.checkers, t.approvals = append(t.makers, r.Maker), append(t.checkers, r.Checker), append(t.approvals, r.Approval)
	t.cases, t.debts, t.nexts = append(t.cases, r.CaseID), append(t.debts, r.DebtNo), append(t.nexts, r.NextNo)
	t.settlements, t.debits = append(t.settlements, r.SettlementNo), append(t.debits, r.Debit)
	t.reasonKinds, t.codes, t.texts = append(t.reasonKinds, string(r.Reason.Kind)), append(t.codes, r.Reason.Code), append(t.texts, r.Reason.Text)
	t.acts, t.his = append(t.acts, string(r.Act)), append(t.his, string(r.HIS))
	var payment *string
	if r.PaymentNo != "" {
		payment = &r.PaymentNo
	}
	t.payments = append(t.payments, payment)
	t.amounts, t.settles, t.fees = append(t.amounts, int64(r.Amount)), append(t.settles, int64(r.Settle)), append(t.fees, int64(r.Fee))
	t.totals, t.owed, t.digests = append(t.totals, int64(r.Total)), append(t.owed, int64(r.Owed)), append(t.digests, r.leg().Redigest())
	t.accepted, t.created, t.success = append(t.accepted, r.AcceptedAt), append(t.created, r.CreatedAt), append(t.success, pointer(r.SuccessAt))
	t.next, t.hisNext = append(t.next, pointer(r.NextAt)), append(t.hisNext, pointer(r.HISNextAt))
	t.made = append(t.made, int32(ledger.DayOf(r.CreatedAt)))
	t.days, t.owedDays, t.tries = append(t.days, int32(r.Day)), append(t.owedDays, int32(r.OwedDay)), append(t.tries, r.Tries)
	t.hisTries, t.versions, t.was = append(t.hisTries, r.HISTries), append(t.versions, r.Version), append(t.was, r.was)
	t.queues, t.posted = append(t.queues, queueOf(r.RefundNo)), append(t.posted, r.Posted)
	t.needs, t.firsts = append(t.needs, max(r.Needs, 1)), append(t.firsts, r.First)
	t.abnormal, t.inFlight = append(t.abnormal, r.Abnormal), append(t.inFlight, r.InFlight)
}

func (t *refundRows) insert(b *ledger.Batch) {
	if len(t.numbers) == 0 {
		return
	}
	b.ExecRows(int64(len(t.numbers)), `
		INSERT INTO refunds (hospital, kind, refund_no, order_no, payment_no, app, channel, merchant_no, trade_no, bill_no, biz_type, terminal,
			patient_ref, amount_fen, settle_fen, fee_fen, total_fen, occurred_at, channel_success_at, created_at, status, fund_day, digest, cause,
			maker, approval, case_id, debt_no, settlement_no, owed_fen, owed_day, debit, posted, in_flight, act, next_at, queue, made_day, needs)
		SELECT hospital, kind, refund_no, order_no, payment_no, app, channel, merchant_no, trade_no, bill_no, biz_type, terminal,
			patient_ref, amount_fen, settle_fen, fee_fen, total_fen, occurred_at, channel_success_at, created_at, status, fund_day, digest, cause,
			maker, approval, case_id, debt_no, settlement_no, owed_fen, owed_day, debit, posted, in_flight, act, next_at, queue, made_day, needs
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
			$11::text[], $12::text[], $13::text[], $14::int8[], $15::int8[], $16::int8[], $17::int8[], $18::timestamptz[], $19::timestamptz[],
			$20::timestamptz[], $21::text[], $22::int4[], $23::int8[], $24::text[], $25::text[], $26::text[], $27::text[], $28::text[],
			$29::text[], $30::int8[], $31::int4[], $32::text[], $33::bool[], $34::bool[], $35::text[], $36::timestamptz[], $37::int2[], $38::int4[], $39::int2[])
		AS given(hospital, kind, refund_no, order_no, payment_no, app, channel, merchant_no, trade_no, bill_no, biz_type, terminal,
			patient_ref, amount_fen, settle_fen, fee_fen, total_fen, occurred_at, channel_success_at, created_at, status, fund_day, digest, cause,
			maker, approval, case_id, debt_no, settlement_no, owed_fen, owed_day, debit, posted, in_flight, act, next_at, queue, made_day, needs)`,
		t.hospitals, t.kinds, t.numbers, t.orders, t.payments, t.apps, t.channels, t.merchants, t.trades, t.bills, t.bizTypes, t.terminals,
		t.patients, t.amounts, t.settles, t.fees, t.totals, t.accepted, t.success, t.created, t.statuses, t.days, t.digests, t.causes,
		t.makers, t.approvals, t.cases, t.debts, t.settlements, t.owed, t.owedDays, t.debits, t.posted, t.inFlight, t.acts, t.next, t.queues, t.made, t.needs)
}

func (t *refundRows) update(b *ledger.Batch) {
	if len(t.numbers) == 0 {
		return
	}
	b.ExecRows(int64(len(t.numbers)), `
		UPDATE refunds AS r
		SET channel_refund_no = g.channel_no, settle_fen = g.settle, fee_fen = g.fee, occurred_at = g.accepted, channel_success_at = g.success,
			status = g.status, fund_day = g.day, digest = g.digest, checker = g.checker, first_checker = g.first_checker, next_no = g.next_no, owed_fen = g.owed,
			owed_day = g.owed_day, debit = g.debit, posted = g.posted, abnormal = g.abnormal, in_flight = g.in_flight, reason_kind = g.kind,
			reason_code = g.code, reason_text = g.text, act = g.act, next_at = g.next_at, his_next_at = g.his_next, tries = g.tries,
			his_tries = g.his_tries, his = g.his, version = g.version
		FROM unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::int4[],
			$10::int8[], $11::text[], $12::text[], $13::int8[], $14::int4[], $15::text[], $16::bool[], $17::bool[], $18::bool[], $19::text[],
			$20::text[], $21::text[], $22::text[], $23::timestamptz[], $24::timestamptz[], $25::int4[], $26::int4[], $27::text[], $28::int4[],
			$29::int4[], $30::text[])
			AS g(hospital, refund_no, channel_no, settle, fee, accepted, success, status, day, digest, checker, next_no, owed, owed_day, debit,
				posted, abnormal, in_flight, kind, code, text, act, next_at, his_next, tries, his_tries, his, version, was, first_checker)
		WHERE r.hospital = g.hospital AND r.kind = 'REFUND' AND r.refund_no = g.refund_no AND r.version = g.was`,
		t.hospitals, t.numbers, t.channelNos, t.settles, t.fees, t.accepted, t.success, t.statuses, t.days, t.digests, t.checkers, t.nexts,
		t.owed, t.owedDays, t.debits, t.posted, t.abnormal, t.inFlight, t.reasonKinds, t.codes, t.texts, t.acts, t.next, t.hisNext, t.tries,
		t.hisTries, t.his, t.versions, t.was, t.firsts)
}

func writeRefunds(b *ledger.Batch, all map[key]*Refund) {
	var made, changed refundRows
	for _, r := range all {
		switch {
		case r.fresh:
			made.add(r)
		case r.Version != r.was:
			changed.add(r)
		}
	}
	made.insert(b)
	changed.update(b)
}
