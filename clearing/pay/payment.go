package pay

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// Status is how far a payment has come.
type Status string

// The states of a payment (spec/channels.md I.1). What was refunded is a sum of
// a payment that succeeded, not a state.
const (
	Created  Status = "CREATED" // stored, perhaps sent
	Paying   Status = "PAYING"  // the channel waits for the payer
	Unknown  Status = "UNKNOWN"
	Success  Status = "SUCCESS"
	Failed   Status = "FAILED"
	Closed   Status = "CLOSED"
	Reversed Status = "REVERSED"
)

// open says that the payer may still pay, or may have paid.
func (s Status) open() bool { return s == Created || s == Paying || s == Unknown }

// HISState is what HIS knows.
type HISState string

// The states of what HIS is told of.
const (
	HISNone    HISState = ""
	HISWait    HISState = "WAIT"
	HISDone    HISState = "DONE"
	HISRefused HISState = "REFUSED" // HIS will not serve it: a refund is offered
)

// Payment is one attempt to collect for a bill.
type Payment struct {
	Hospital, OrderNo, App       string
	Channel, MerchantNo, TradeNo string
	BillNo, BizType, Terminal    string
	Patient                      string // opaque keyed reference
	Way                          channels.Way
	Amount, Settle, Fee          ledger.Money
	Status                       Status
	OccurredAt                   time.Time
	ExpiresAt, SuccessAt         time.Time // zero for none
	Day                          ledger.Day
	Prepay                       string // JSON of channels.Prepay, "" for none
	Reason                       channels.Reason
	Live, Late, Posted, Held     bool
	HIS                          HISState
	Acked                        ledger.Money // J02 stands for it
	Requested                    ledger.Money // refunds under way
	Refunded                     ledger.Money
	Act                          channels.Act
	NextAt, HISNextAt            time.Time
	Tries, HISTries              int32
	Version                      int32

	refundedSettle, feeReturned ledger.Money
	was                         int32 // version as read; 0 with fresh
	fresh                       bool
}

// Refundable is what may still be asked back.
func (p *Payment) Refundable() ledger.Money {
	if p.Status != Success {
		return 0
	}
	return p.Amount - p.Refunded - p.Requested
}

func (p *Payment) change() {
	if p.Version == p.was && !p.fresh {
		p.Version++
	}
}

func (p *Payment) changed() bool { return p.fresh || p.Version != p.was }

// leg is the payment as reconciliation reads it.
func (p *Payment) leg() *clearing.Leg {
	status := channels.Failed
	if p.Status == Success && !p.Late {
		status = channels.Success
	}
	return &clearing.Leg{
		Kind: channels.Pay, Hospital: p.Hospital, Channel: p.Channel, MerchantNo: p.MerchantNo, OrderNo: p.OrderNo, TradeNo: p.TradeNo,
		BillNo: p.BillNo, BizType: p.BizType, Terminal: p.Terminal, Patient: p.Patient, Amount: p.Amount, Settle: p.Settle, Fee: p.Fee,
		OccurredAt: p.OccurredAt, ChannelSuccessAt: p.SuccessAt, Status: status, Final: !p.SuccessAt.IsZero(), Day: p.Day,
		Stage: string(p.Status), Live: p.Way != "", Posted: p.Posted, Late: p.Late, Acked: p.Acked, Taken: p.HIS == HISDone,
	}
}

const paymentColumns = `p.hospital, p.order_no, p.app, p.channel, p.merchant_no, p.trade_no, p.bill_no, p.biz_type, p.terminal, p.patient_ref,
	p.way, p.amount_fen, p.settle_fen, p.fee_fen, p.status, p.occurred_at, p.expires_at, p.channel_success_at, p.fund_day, p.prepay,
	p.reason_kind, p.reason_code, p.reason_text, p.live, p.late, p.posted, p.held, p.his, p.acked_fen, p.requested_fen, p.refunded_fen,
	p.refunded_settle_fen, p.fee_returned_fen, p.act, p.next_at, p.his_next_at, p.tries, p.his_tries, p.version`

func scanPayment(row pgx.CollectableRow) (*Payment, error) {
	var p Payment
	var expires, success, next, hisNext *time.Time
	err := row.Scan(&p.Hospital, &p.OrderNo, &p.App, &p.Channel, &p.MerchantNo, &p.TradeNo, &p.BillNo, &p.BizType, &p.Terminal, &p.Patient,
		&p.Way, &p.Amount, &p.Settle, &p.Fee, &p.Status, &p.OccurredAt, &expires, &success, &p.Day, &p.Prepay,
		&p.Reason.Kind, &p.Reason.Code, &p.Reason.Text, &p.Live, &p.Late, &p.Posted, &p.Held, &p.HIS, &p.Acked, &p.Requested, &p.Refunded,
		&p.refundedSettle, &p.feeReturned, &p.Act, &next, &hisNext, &p.Tries, &p.HISTries, &p.Version)
	p.ExpiresAt, p.SuccessAt, p.NextAt, p.HISNextAt, p.was = value(expires), value(success), value(next), value(hisNext), p.Version
	return &p, err
}

// key names a payment or refund.
type key struct{ hospital, number string }

// readPayments reads payments by their numbers.
func readPayments(ctx context.Context, q db.Queryer, keys []key) (map[key]*Payment, error) {
	found := make(map[key]*Payment, len(keys))
	if len(keys) == 0 {
		return found, nil
	}
	rows, err := queryKeys(ctx, q, keys, `SELECT `+paymentColumns+` FROM payments AS p WHERE p.hospital = $1 AND p.order_no = $2`, `
		SELECT `+paymentColumns+` FROM unnest($1::text[], $2::text[]) AS asked(hospital, order_no)
		JOIN payments AS p ON p.hospital = asked.hospital AND p.order_no = asked.order_no`)
	if err != nil {
		return nil, fmt.Errorf("read payments: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanPayment)
	if err != nil {
		return nil, fmt.Errorf("read payments: %w", err)
	}
	for _, p := range list {
		found[key{p.Hospital, p.OrderNo}] = p
	}
	return found, nil
}

// queryKeys reads by one key with a statement whose plan is kept, and by many with
// one that is planned for their number.
func queryKeys(ctx context.Context, q db.Queryer, keys []key, one, many string) (pgx.Rows, error) {
	if len(keys) == 1 {
		return q.Query(ctx, one, keys[0].hospital, keys[0].number)
	}
	hospitals, numbers := split(keys)
	return q.Query(ctx, many, hospitals, numbers)
}

func split(keys []key) (hospitals, numbers []string) {
	for _, k := range keys {
		hospitals, numbers = append(hospitals, k.hospital), append(numbers, k.number)
	}
	return hospitals, numbers
}

// paymentRows are payments on their way into the table, by column.
type paymentRows struct {
	hospitals, orders, apps, channels, merchants, trades, bills, bizTypes, terminals, patients, ways []string
	statuses, prepays, kinds, codes, texts, his, acts                                                []string
	amounts, settles, fees, digests, acked, requested, refunded, settledBack, feesBack               []int64
	occurred                                                                                         []time.Time
	expires, success, next, hisNext                                                                  []*time.Time
	days, tries, hisTries, versions, was                                                             []int32
	queues                                                                                           []int16
	live, late, posted                                                                               []bool
}

func (r *paymentRows) add(p *Payment) {
	r.hospitals, r.orders, r.apps = append(r.hospitals, p.Hospital), append(r.orders, p.OrderNo), append(r.apps, p.App)
	r.channels, r.merchants, r.trades = append(r.channels, p.Channel), append(r.merchants, p.MerchantNo), append(r.trades, p.TradeNo)
	r.bills, r.bizTypes, r.terminals = append(r.bills, p.BillNo), append(r.bizTypes, p.BizType), append(r.terminals, p.Terminal)
	r.patients, r.ways, r.statuses = append(r.patients, p.Patient), append(r.ways, string(p.Way)), append(r.statuses, string(p.Status))
	r.prepays, r.kinds, r.codes = append(r.prepays, p.Prepay), append(r.kinds, string(p.Reason.Kind)), append(r.codes, p.Reason.Code)
	r.texts, r.his, r.acts = append(r.texts, p.Reason.Text), append(r.his, string(p.HIS)), append(r.acts, string(p.Act))
	r.amounts, r.settles, r.fees = append(r.amounts, int64(p.Amount)), append(r.settles, int64(p.Settle)), append(r.fees, int64(p.Fee))
	r.digests, r.acked = append(r.digests, p.leg().Redigest()), append(r.acked, int64(p.Acked))
	r.requested, r.refunded = append(r.requested, int64(p.Requested)), append(r.refunded, int64(p.Refunded))
	r.settledBack, r.feesBack = append(r.settledBack, int64(p.refundedSettle)), append(r.feesBack, int64(p.feeReturned))
	r.occurred, r.expires, r.success = append(r.occurred, p.OccurredAt), append(r.expires, pointer(p.ExpiresAt)), append(r.success, pointer(p.SuccessAt))
	r.next, r.hisNext, r.days = append(r.next, pointer(p.NextAt)), append(r.hisNext, pointer(p.HISNextAt)), append(r.days, int32(p.Day))
	r.tries, r.hisTries = append(r.tries, p.Tries), append(r.hisTries, p.HISTries)
	r.versions, r.was, r.queues = append(r.versions, p.Version), append(r.was, p.was), append(r.queues, queueOf(p.OrderNo))
	r.live, r.late, r.posted = append(r.live, p.Live), append(r.late, p.Late), append(r.posted, p.Posted)
}

func (r *paymentRows) insert(b *ledger.Batch) {
	if len(r.orders) == 0 {
		return
	}
	b.ExecRows(int64(len(r.orders)), `
		INSERT INTO payments (hospital, order_no, app, channel, merchant_no, trade_no, bill_no, biz_type, terminal, patient_ref, way, amount_fen,
			settle_fen, fee_fen, occurred_at, expires_at, status, fund_day, digest, act, next_at, queue, live)
		SELECT hospital, order_no, app, channel, merchant_no, '', bill_no, biz_type, terminal, patient_ref, way, amount_fen,
			0, 0, occurred_at, expires_at, status, fund_day, digest, act, next_at, queue, live
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
			$11::int8[], $12::timestamptz[], $13::timestamptz[], $14::text[], $15::int4[], $16::int8[], $17::text[], $18::timestamptz[],
			$19::int2[], $20::bool[])
		AS given(hospital, order_no, app, channel, merchant_no, bill_no, biz_type, terminal, patient_ref, way, amount_fen, occurred_at,
			expires_at, status, fund_day, digest, act, next_at, queue, live)`,
		r.hospitals, r.orders, r.apps, r.channels, r.merchants, r.bills, r.bizTypes, r.terminals, r.patients, r.ways, r.amounts, r.occurred,
		r.expires, r.statuses, r.days, r.digests, r.acts, r.next, r.queues, r.live)
}

// update writes what changed, by comparing the version and setting the next.
func (r *paymentRows) update(b *ledger.Batch) {
	if len(r.orders) == 0 {
		return
	}
	b.ExecRows(int64(len(r.orders)), `
		UPDATE payments AS p
		SET trade_no = g.trade_no, settle_fen = g.settle_fen, fee_fen = g.fee_fen, expires_at = g.expires_at,
			channel_success_at = g.success_at, status = g.status, fund_day = g.fund_day, digest = g.digest, prepay = g.prepay,
			reason_kind = g.kind, reason_code = g.code, reason_text = g.text, act = g.act, next_at = g.next_at, tries = g.tries,
			live = g.live, late = g.late, posted = g.posted, his = g.his, his_next_at = g.his_next_at, his_tries = g.his_tries,
			acked_fen = g.acked, requested_fen = g.requested, refunded_fen = g.refunded, refunded_settle_fen = g.settled_back,
			fee_returned_fen = g.fees_back, version = g.version
		FROM unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::int4[],
			$10::int8[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::timestamptz[], $17::int4[], $18::bool[],
			$19::bool[], $20::bool[], $21::text[], $22::timestamptz[], $23::int4[], $24::int8[], $25::int8[], $26::int8[], $27::int8[],
			$28::int8[], $29::int4[], $30::int4[])
			AS g(hospital, order_no, trade_no, settle_fen, fee_fen, expires_at, success_at, status, fund_day, digest, prepay, kind, code, text,
				act, next_at, tries, live, late, posted, his, his_next_at, his_tries, acked, requested, refunded, settled_back, fees_back,
				version, was)
		WHERE p.hospital = g.hospital AND p.order_no = g.order_no AND p.version = g.was`,
		r.hospitals, r.orders, r.trades, r.settles, r.fees, r.expires, r.success, r.statuses, r.days, r.digests, r.prepays, r.kinds, r.codes,
		r.texts, r.acts, r.next, r.tries, r.live, r.late, r.posted, r.his, r.hisNext, r.hisTries, r.acked, r.requested, r.refunded,
		r.settledBack, r.feesBack, r.versions, r.was)
}

// writePayments writes the payments that a batch has changed or made.
func writePayments(b *ledger.Batch, all map[key]*Payment) {
	var made, changed paymentRows
	for _, p := range all {
		switch {
		case p.fresh:
			made.add(p)
		case p.changed():
			changed.add(p)
		}
	}
	made.insert(b)
	changed.update(b)
}

// finding is a fact that a person must see: it is kept in the journal.
type finding struct {
	Hospital string `json:"hospital"`
	Number   string `json:"number"`
	Rule     string `json:"rule"`
}

func record(b *ledger.Batch, kind, hospital, number, rule string) {
	text, err := json.Marshal(finding{hospital, number, rule})
	if err != nil {
		panic(err) // three strings
	}
	b.Record(kind, text)
}
