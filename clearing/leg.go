package clearing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Leg is a payment, a refund or a reversal (撤销) as the platform tells it.
type Leg struct {
	Kind             channels.Kind
	Hospital         string
	Channel          string
	MerchantNo       string
	OrderNo          string
	RefundNo         string // "" on a payment; on a reversal the order number
	TradeNo          string // the channel's number of the payment
	BillNo           string // his_bill_no: the first bill that the payment was for
	BizType          string
	Terminal         string
	Patient          string       // opaque keyed reference
	Amount           ledger.Money // order amount before coupons; refunds: what was asked back
	Settle           ledger.Money // what the channel settles or takes back, 0 where it failed
	Fee              ledger.Money // accrued on a payment, given back on a refund
	OccurredAt       time.Time
	ChannelSuccessAt time.Time // zero where the channel gave none
	Status           channels.Status
	Final            bool       // the channel's own success is known
	Day              ledger.Day // fund day: a payment's success, a refund's acceptance

	// Of what is made here and not imported. Status is SUCCESS only where the row
	// is, and the money did not come after it was closed; all else is FAILED.
	Stage    string       // the row's own state
	Live     bool         // made through the API
	Posted   bool         // our own journals stand for its money: J01 or E06, J19a
	Late     bool         // the money came after we had closed the order: E06+J04 stand, a refund is proposed
	Acked    ledger.Money // what HIS acknowledged to us: J02 stands for it
	Taken    bool         // HIS acknowledged it, whether or not J02 was ours to post
	Owed     ledger.Money // a refund that the channel has not accepted: Debit stands for it
	Debit    string       // the journal by which the refund became a debt, "" where the debt stood before
	DebtNo   string       // the number under which 2205 and 1125 keep the refund
	NextNo   string       // of a closed refund: the number that goes on with the debt
	CaseID   string       // the refund pays what this case owes
	Abnormal bool         // of an accepted refund: the channel holds the money, or has given it to the merchant's bank account
	Held     bool         // reconciliation posts for it, we do not
	Digest   int64        // changes with all of these but Held
}

// fundDay dates the leg where the money moved: a payment by the channel's own
// success time where it gave one, a refund by its acceptance, on which the
// channel takes the money.
func (l *Leg) fundDay() ledger.Day {
	if l.Kind == channels.Pay && !l.ChannelSuccessAt.IsZero() {
		return ledger.DayOf(l.ChannelSuccessAt)
	}
	return ledger.DayOf(l.OccurredAt)
}

// number is the leg's own number: of the refund, else of the order.
func (l *Leg) number() string {
	if l.Kind == channels.Pay {
		return l.OrderNo
	}
	return l.RefundNo
}

// told is the leg as the business app told it, in the form whose hash proves
// that a row imported twice is the same row.
type told struct {
	Hospital         string `json:"hospital"`
	MerchantNo       string `json:"merchant_no"`
	Channel          string `json:"channel"`
	Kind             string `json:"kind"`
	OrderNo          string `json:"order_no"`
	RefundNo         string `json:"refund_no"`
	TradeNo          string `json:"channel_trade_no"`
	Amount           int64  `json:"amount_fen"`
	OccurredAt       int64  `json:"occurred_at"` // seconds since 1970
	Status           string `json:"status"`
	BillNo           string `json:"his_bill_no"`
	BizType          string `json:"biz_type"`
	Terminal         string `json:"terminal"`
	Settle           int64  `json:"settle_fen"`
	ChannelSuccessAt int64  `json:"channel_success_at"` // seconds since 1970, 0 for none
	Patient          string `json:"patient_ref"`
}

// told returns what the business app said, without what we computed.
func (l *Leg) told() told {
	t := told{
		Hospital: l.Hospital, MerchantNo: l.MerchantNo, Channel: l.Channel, Kind: string(l.Kind), OrderNo: l.OrderNo, RefundNo: l.RefundNo,
		TradeNo: l.TradeNo, Amount: int64(l.Amount), OccurredAt: l.OccurredAt.Unix(), Status: string(l.Status), BillNo: l.BillNo,
		BizType: l.BizType, Terminal: l.Terminal, Settle: int64(l.Settle), Patient: l.Patient,
	}
	if !l.ChannelSuccessAt.IsZero() {
		t.ChannelSuccessAt = l.ChannelSuccessAt.Unix()
	}
	return t
}

// canon is the canonical form of the leg, version 1.
func (l *Leg) canon() []byte {
	text, err := json.Marshal(l.told())
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	return text
}

// digest is a number that changes with everything reconciliation reads. Held is
// left out: it is set by a run of reconciliation itself, whose inputs it is not.
func (l *Leg) digest(canon []byte) int64 {
	text := fmt.Appendf(canon, " fee %d", int64(l.Fee))
	if l.Live {
		text = fmt.Appendf(text, " %s %t %t %d %d %s %s %s", l.Stage, l.Posted, l.Late, int64(l.Acked), int64(l.Owed), l.Debit, l.DebtNo, l.CaseID)
		if l.Taken && l.Acked == 0 {
			text = append(text, " taken"...)
		}
		if l.NextNo != "" {
			text = fmt.Appendf(text, " next %s", l.NextNo)
		}
		if l.Abnormal {
			text = append(text, " abnormal"...)
		}
	}
	sum := sha256.Sum256(text)
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// Redigest is the digest of the leg as it is now.
func (l *Leg) Redigest() int64 { return l.digest(l.canon()) }

// LegQuery names the legs of a hospital to read: those of a fund day, with the
// refunds that were made or became a debt on that day and were accepted on a later
// one; or those with these order numbers or these bill numbers.
type LegQuery struct {
	Hospital          string
	Day               ledger.Day
	OrderNos, BillNos []string
}

const legColumns = `, hospital, channel, merchant_no, order_no, trade_no, bill_no, biz_type, terminal, patient_ref,
	amount_fen, settle_fen, fee_fen, occurred_at, channel_success_at, status, fund_day, live_row, posted, late, acked_fen, taken, owed_fen,
	debit, debt_no, next_no, case_id, held, digest, abnormal`

// The columns of each table that stand for those of legColumns.
const (
	payColumns = `, hospital, channel, merchant_no, order_no, trade_no, bill_no, biz_type, terminal, patient_ref,
	amount_fen, settle_fen, fee_fen, occurred_at, channel_success_at, status, fund_day, way <> '' AS live_row, posted, late, acked_fen,
	his = 'DONE' AS taken, 0::INT8 AS owed_fen, '' AS debit, '' AS debt_no, '' AS next_no, '' AS case_id, held, digest, FALSE AS abnormal`
	refundColumns = `, hospital, channel, merchant_no, order_no, trade_no, bill_no, biz_type, terminal, patient_ref,
	amount_fen, settle_fen, fee_fen, occurred_at, channel_success_at, status, fund_day, created_at IS NOT NULL AS live_row, posted, FALSE AS late,
	0::INT8 AS acked_fen, FALSE AS taken, CASE WHEN status = 'OWED' THEN owed_fen ELSE 0 END AS owed_fen, debit, debt_no, next_no, case_id, held, digest, abnormal`
)

// The order is that of the bytes of the order number, as all sides of a match
// are sorted.
const legOrder = ` ORDER BY order_key, kind, refund_no`

const legsOf = `
	SELECT kind, refund_no` + legColumns + ` FROM (
		SELECT convert_to(order_no, 'UTF8') AS order_key, 'PAY' AS kind, '' AS refund_no` + payColumns + ` FROM payments
		WHERE hospital = $1 AND %[1]s
		UNION ALL
		SELECT convert_to(order_no, 'UTF8') AS order_key, kind, refund_no` + refundColumns + ` FROM refunds
		WHERE hospital = $1 AND %[1]s%[2]s
	) AS legs` + legOrder

// Refunds that were made, or became a debt, on the day and were accepted on a later
// one.
const legsOwed = `
		UNION ALL
		SELECT convert_to(order_no, 'UTF8') AS order_key, kind, refund_no` + refundColumns + ` FROM refunds
		WHERE hospital = $1 AND owed_day = $2 AND owed_day < fund_day
		UNION ALL
		SELECT convert_to(order_no, 'UTF8') AS order_key, kind, refund_no` + refundColumns + ` FROM refunds
		WHERE hospital = $1 AND made_day = $2 AND made_day > 0 AND made_day < fund_day AND owed_day <> $2`

var (
	legsOfDay    = fmt.Sprintf(legsOf, `fund_day = $2`, legsOwed)
	legsOfOrders = fmt.Sprintf(legsOf, `order_no = ANY($2::text[])`, ``)
	legsOfBills  = fmt.Sprintf(legsOf, `bill_no = ANY($2::text[])`, ``)
)

// StreamLegs reads the platform's legs one by one, sorted by the bytes of the
// order number, then kind and refund number. The leg handed to emit is reused.
func StreamLegs(ctx context.Context, tx pgx.Tx, q LegQuery, emit func(*Leg) error) error {
	sql, args := legsOfDay, []any{q.Hospital, q.Day}
	switch {
	case q.OrderNos != nil:
		sql, args = legsOfOrders, []any{q.Hospital, q.OrderNos}
	case q.BillNos != nil:
		sql, args = legsOfBills, []any{q.Hospital, q.BillNos}
	}
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("read platform legs: %w", err)
	}
	if err := scanLegs(rows, emit); err != nil {
		return fmt.Errorf("read platform legs: %w", err)
	}
	return nil
}

// scanLegs reads kind, refund_no and legColumns. The leg is reused.
func scanLegs(rows pgx.Rows, emit func(*Leg) error) error {
	var leg Leg
	var successAt *time.Time
	_, err := pgx.ForEachRow(rows, []any{&leg.Kind, &leg.RefundNo, &leg.Hospital, &leg.Channel, &leg.MerchantNo, &leg.OrderNo, &leg.TradeNo,
		&leg.BillNo, &leg.BizType, &leg.Terminal, &leg.Patient, &leg.Amount, &leg.Settle, &leg.Fee, &leg.OccurredAt, &successAt,
		&leg.Stage, &leg.Day, &leg.Live, &leg.Posted, &leg.Late, &leg.Acked, &leg.Taken, &leg.Owed, &leg.Debit, &leg.DebtNo, &leg.NextNo, &leg.CaseID, &leg.Held,
		&leg.Digest, &leg.Abnormal}, func() error {
		leg.Status = leg.matched()
		leg.Final, leg.ChannelSuccessAt = successAt != nil, time.Time{}
		if successAt != nil {
			leg.ChannelSuccessAt = *successAt
		}
		return emit(&leg)
	})
	return err
}

// matched is what a match reads of the stage: money that is held by its own order.
func (l *Leg) matched() channels.Status {
	if l.Stage == string(channels.Success) && !l.Late {
		return channels.Success
	}
	return channels.Failed
}

// LegsDigest is a text that changes whenever the legs of a merchant number's
// fund day do: their number, and the sum of a hash of each.
func LegsDigest(ctx context.Context, tx pgx.Tx, hospital, channel, merchantNo string, day ledger.Day) (string, error) {
	var digest string
	err := tx.QueryRow(ctx, `
		SELECT COUNT(*)::TEXT || ':' || COALESCE(SUM(digest), 0)::TEXT FROM (
			SELECT digest FROM payments WHERE hospital = $1 AND channel = $2 AND merchant_no = $3 AND fund_day = $4
			UNION ALL
			SELECT digest FROM refunds WHERE hospital = $1 AND channel = $2 AND merchant_no = $3 AND fund_day = $4
		) AS legs`, hospital, channel, merchantNo, day).Scan(&digest)
	if err != nil {
		return "", fmt.Errorf("digest of platform legs: %w", err)
	}
	return digest, nil
}
