package clearing

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// importVerb stores rows of a business app and posts them.
var importVerb = &ledger.Verb[importCommand]{Name: "clearing.import", Run: runImport}

type importCommand struct {
	Leg
	merchant *Merchant
	canon    []byte
	maker    string
}

// errRefundable is a refusal that the file's check foresees, unless two imports
// run at once.
var errRefundable = ledger.Refusal{Code: "REFUNDABLE"}

// paymentState is what a refund needs of its payment.
type paymentState struct {
	amount, settle, fee                 ledger.Money
	refunded, settleBack, feeBack       ledger.Money
	requested                           ledger.Money // refunds under way
	failed                              bool
	wasRefunded, wasSettled, wasFeeBack ledger.Money
}

type paymentKey struct{ hospital, order string }

// runImport decides row by row, then writes all rows in three statements.
func runImport(ctx context.Context, b *ledger.Batch, cmds []importCommand) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	states, err := paymentStates(ctx, b.Tx(), cmds)
	if err != nil {
		return b.Fail(err)
	}
	var payments, refunds legRows
	for i := range cmds {
		cmd := &cmds[i]
		entry, err := cmd.post(b, states)
		if err != nil {
			outcomes[i].Err = err
			continue
		}
		outcomes[i].Entry = entry
		if cmd.Kind == channels.Pay {
			payments.add(cmd)
		} else {
			refunds.add(cmd)
		}
	}
	payments.insertPayments(b)
	updatePayments(b, states)
	refunds.insertRefunds(b)
	return outcomes
}

// post writes the entries of one row: one where all happens at one moment, two
// where a refund succeeds on a later day than it was accepted.
func (c *importCommand) post(b *ledger.Batch, states map[paymentKey]*paymentState) (ledger.EntryID, error) {
	e := Event{Merchant: c.merchant, Day: c.Day, Order: c.OrderNo, Refund: c.RefundNo, Amount: c.Amount, Maker: c.maker}
	key := paymentKey{c.Hospital, c.OrderNo}
	if c.Status == channels.Failed {
		return ledger.EntryID{}, nil
	}
	if c.Kind == channels.Pay {
		c.Fee = c.merchant.FeeAt(c.Day, c.Settle)
		e.Fee = c.Fee
		states[key] = &paymentState{amount: c.Amount, settle: c.Settle, fee: c.Fee}
		entry, err := NewEntry(e, "J01", "J03", "J04")
		if err != nil {
			return ledger.EntryID{}, err
		}
		return b.Post(entry)
	}
	payment := states[key]
	if err := payment.refuse(c); err != nil {
		return ledger.EntryID{}, err
	}
	c.Fee = c.merchant.FeeReturnedAt(c.Day, c.Settle, payment.fee-payment.feeBack)
	e.Fee = c.Fee
	payment.refunded, payment.settleBack, payment.feeBack = payment.refunded+c.Amount, payment.settleBack+c.Settle, payment.feeBack+c.Fee
	return c.postRefund(b, e)
}

// accepted is what happens when the channel accepts, and at once succeeds. A
// reversal takes the payment out of what HIS is awaited for and gives the fee
// back in J22 itself; a refund takes it out of what is pending. Where a coupon
// paid all, the channel takes nothing.
func (c *importCommand) accepted() []step {
	steps := []step{{"J18", c.Amount}, {"J20", 0}}
	if c.Kind == channels.Reverse {
		steps = []step{{"J22", c.Amount}}
	}
	if c.Settle > 0 {
		steps = append(steps, step{"J19a", c.Settle})
		if c.Final && !c.succeedsLater() {
			steps = append(steps, step{"J19b", c.Settle})
		}
	}
	return steps
}

// succeedsLater says that the success is dated on another day than the acceptance.
func (c *importCommand) succeedsLater() bool {
	return c.Final && ledger.DayOf(c.ChannelSuccessAt) != c.Day
}

func (c *importCommand) postRefund(b *ledger.Batch, e Event) (ledger.EntryID, error) {
	entry, err := compose(e, c.accepted())
	if err != nil {
		return ledger.EntryID{}, err
	}
	if !c.succeedsLater() || c.Settle == 0 {
		return b.Post(entry)
	}
	e.Day, e.Amount = ledger.DayOf(c.ChannelSuccessAt), c.Settle
	later, err := NewEntry(e, "J19b")
	if err != nil {
		return ledger.EntryID{}, err
	}
	return b.Post(entry, later)
}

// refuse says why the payment cannot be refunded, nil where it can.
func (p *paymentState) refuse(c *importCommand) error {
	switch {
	case p == nil:
		return errRefundable.Because("order_no", "payment %s is not known", c.OrderNo)
	case p.failed:
		return errRefundable.Because("order_no", "payment %s failed: there is nothing to give back", c.OrderNo)
	case p.refunded+p.requested+c.Amount > p.amount || p.settleBack+c.Settle > p.settle:
		return errRefundable.Because("amount_fen", "payment %s of %s has %s refunded already, %s more is asked", c.OrderNo, p.amount, p.refunded, c.Amount)
	}
	return nil
}

// paymentStates reads the payments that the refunds among the rows name.
func paymentStates(ctx context.Context, tx pgx.Tx, cmds []importCommand) (map[paymentKey]*paymentState, error) {
	states := map[paymentKey]*paymentState{}
	var hospitals, orders []string
	for i := range cmds {
		if cmds[i].Kind != channels.Pay {
			hospitals, orders = append(hospitals, cmds[i].Hospital), append(orders, cmds[i].OrderNo)
		}
	}
	if len(orders) == 0 {
		return states, nil
	}
	rows, err := tx.Query(ctx, `
		SELECT p.hospital, p.order_no, p.amount_fen, p.settle_fen, p.fee_fen, p.refunded_fen, p.refunded_settle_fen, p.fee_returned_fen,
			p.requested_fen, p.status <> 'SUCCESS'
		FROM unnest($1::text[], $2::text[]) AS asked(hospital, order_no)
		JOIN payments AS p ON p.hospital = asked.hospital AND p.order_no = asked.order_no`, hospitals, orders)
	if err != nil {
		return nil, fmt.Errorf("read payments to refund: %w", err)
	}
	var key paymentKey
	var p paymentState
	_, err = pgx.ForEachRow(rows, []any{&key.hospital, &key.order, &p.amount, &p.settle, &p.fee, &p.refunded, &p.settleBack, &p.feeBack, &p.requested, &p.failed},
		func() error {
			state := p
			state.wasRefunded, state.wasSettled, state.wasFeeBack = p.refunded, p.settleBack, p.feeBack
			states[key] = &state
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read payments to refund: %w", err)
	}
	return states, nil
}

// updatePayments adds what was refunded, by comparing and setting.
func updatePayments(b *ledger.Batch, states map[paymentKey]*paymentState) {
	var hospitals, orders []string
	var was, refunded, settled, fees []int64
	for key, p := range states {
		if p.refunded == p.wasRefunded {
			continue
		}
		hospitals, orders = append(hospitals, key.hospital), append(orders, key.order)
		was, refunded = append(was, int64(p.wasRefunded)), append(refunded, int64(p.refunded))
		settled, fees = append(settled, int64(p.settleBack)), append(fees, int64(p.feeBack))
	}
	if len(orders) == 0 {
		return
	}
	b.ExecRows(int64(len(orders)), `
		UPDATE payments AS p
		SET refunded_fen = given.refunded, refunded_settle_fen = given.settled, fee_returned_fen = given.fee, version = version + 1
		FROM unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::int8[], $6::int8[])
			AS given(hospital, order_no, was, refunded, settled, fee)
		WHERE p.hospital = given.hospital AND p.order_no = given.order_no AND p.refunded_fen = given.was`,
		hospitals, orders, was, refunded, settled, fees)
}

// legRows are rows on their way into a table, by column.
type legRows struct {
	hospitals, kinds, refundNos, orders, channels, merchants, trades []string
	amounts, settles, fees, digests                                  []int64
	occurred                                                         []time.Time
	succeeded                                                        []*time.Time
	statuses, bills, bizTypes, terminals, patients                   []string
	days                                                             []int32
	posted                                                           []bool
	debits                                                           []string // refunds: how they became a debt
}

func (r *legRows) add(c *importCommand) {
	r.hospitals, r.kinds, r.refundNos = append(r.hospitals, c.Hospital), append(r.kinds, string(c.Kind)), append(r.refundNos, c.RefundNo)
	r.orders, r.channels, r.merchants = append(r.orders, c.OrderNo), append(r.channels, c.Channel), append(r.merchants, c.MerchantNo)
	r.trades, r.bills, r.bizTypes = append(r.trades, c.TradeNo), append(r.bills, c.BillNo), append(r.bizTypes, c.BizType)
	r.terminals, r.patients = append(r.terminals, c.Terminal), append(r.patients, c.Patient)
	r.amounts, r.settles, r.fees = append(r.amounts, int64(c.Amount)), append(r.settles, int64(c.Settle)), append(r.fees, int64(c.Fee))
	r.digests, r.statuses = append(r.digests, c.digest(c.canon)), append(r.statuses, string(c.Status))
	r.occurred, r.days = append(r.occurred, c.OccurredAt), append(r.days, int32(c.Day))
	r.posted, r.debits = append(r.posted, c.Status == channels.Success), append(r.debits, c.debit())
	var succeeded *time.Time
	if c.Final {
		succeeded = &c.ChannelSuccessAt
	}
	r.succeeded = append(r.succeeded, succeeded)
}

// debit names the journal by which an imported refund became a debt.
func (c *importCommand) debit() string {
	switch {
	case c.Kind == channels.Pay || c.Status == channels.Failed:
		return ""
	case c.Kind == channels.Reverse:
		return "J22"
	}
	return "J18"
}

func (r *legRows) insertPayments(b *ledger.Batch) {
	if len(r.orders) == 0 {
		return
	}
	b.Exec(`
		INSERT INTO payments (hospital, order_no, channel, merchant_no, trade_no, amount_fen, settle_fen, fee_fen, occurred_at, channel_success_at,
			status, bill_no, biz_type, terminal, patient_ref, fund_day, digest, posted)
		SELECT hospital, order_no, channel, merchant_no, trade_no, amount_fen, settle_fen, fee_fen, occurred_at, channel_success_at,
			status, bill_no, biz_type, terminal, patient_ref, fund_day, digest, posted
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int8[], $7::int8[], $8::int8[], $9::timestamptz[],
			$10::timestamptz[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::int4[], $17::int8[], $18::bool[])
		AS given(hospital, order_no, channel, merchant_no, trade_no, amount_fen, settle_fen, fee_fen, occurred_at, channel_success_at,
			status, bill_no, biz_type, terminal, patient_ref, fund_day, digest, posted)`,
		r.hospitals, r.orders, r.channels, r.merchants, r.trades, r.amounts, r.settles, r.fees, r.occurred, r.succeeded,
		r.statuses, r.bills, r.bizTypes, r.terminals, r.patients, r.days, r.digests, r.posted)
}

func (r *legRows) insertRefunds(b *ledger.Batch) {
	if len(r.orders) == 0 {
		return
	}
	b.Exec(`
		INSERT INTO refunds (hospital, kind, refund_no, order_no, channel, merchant_no, trade_no, amount_fen, settle_fen, fee_fen, occurred_at,
			channel_success_at, status, bill_no, biz_type, terminal, patient_ref, fund_day, digest, posted, payment_no, debt_no, debit,
			owed_fen, owed_day)
		SELECT hospital, kind, refund_no, order_no, channel, merchant_no, trade_no, amount_fen, settle_fen, fee_fen, occurred_at,
			channel_success_at, status, bill_no, biz_type, terminal, patient_ref, fund_day, digest, posted, order_no, refund_no, debit,
			CASE WHEN debit = '' THEN 0 ELSE amount_fen END, CASE WHEN debit = '' THEN 0 ELSE fund_day END
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int8[], $9::int8[], $10::int8[],
			$11::timestamptz[], $12::timestamptz[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::int4[], $19::int8[],
			$20::bool[], $21::text[])
		AS given(hospital, kind, refund_no, order_no, channel, merchant_no, trade_no, amount_fen, settle_fen, fee_fen, occurred_at,
			channel_success_at, status, bill_no, biz_type, terminal, patient_ref, fund_day, digest, posted, debit)`,
		r.hospitals, r.kinds, r.refundNos, r.orders, r.channels, r.merchants, r.trades, r.amounts, r.settles, r.fees, r.occurred,
		r.succeeded, r.statuses, r.bills, r.bizTypes, r.terminals, r.patients, r.days, r.digests, r.posted, r.debits)
}
