package recon

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// lineBatch gathers lines by table, column by column, as unnest wants them.
type lineBatch struct {
	bill billColumns
	fund fundColumns
	his  hisColumns
	bank bankColumns
}

// key is the columns that every line has.
type key struct {
	file []int64
	row  []int32
}

func (k *key) add(l *FeedLine) {
	k.file, k.row = append(k.file, l.File), append(k.row, int32(l.Row))
}

type billColumns struct {
	key
	kind, status, order, refund, trade, chRefund []string
	at                                           []time.Time
	amount, settle, fee                          []int64
}

type fundColumns struct {
	key
	kind, flow, business, order []string
	at                          []time.Time
	amount, balance             []int64
}

type hisColumns struct {
	key
	kind, channel, bill, origBill, order, refund         []string
	operator, bizType, tender, receipt, closeNo, patient []string
	at                                                   []time.Time
	amount                                               []int64
}

type bankColumns struct {
	key
	ref, endToEnd, counterparty, account, text, code, returnOf, returnReason []string
	bookDay, valueDay                                                        []int32
	amount                                                                   []int64
}

func (b *lineBatch) add(l *FeedLine) {
	switch {
	case l.Bill != nil:
		c, r := &b.bill, l.Bill
		c.key.add(l)
		c.kind, c.status = append(c.kind, string(r.Kind)), append(c.status, string(r.Status))
		c.order, c.refund = append(c.order, r.OrderNo), append(c.refund, r.RefundNo)
		c.trade, c.chRefund = append(c.trade, r.TradeNo), append(c.chRefund, r.ChannelRefundNo)
		c.at, c.amount = append(c.at, r.At), append(c.amount, int64(r.Amount))
		c.settle, c.fee = append(c.settle, int64(r.Settle)), append(c.fee, int64(r.Fee))
	case l.Fund != nil:
		c, r := &b.fund, l.Fund
		c.key.add(l)
		c.kind, c.flow = append(c.kind, string(r.Kind)), append(c.flow, r.FlowNo)
		c.business, c.order = append(c.business, r.BusinessNo), append(c.order, r.OrderNo)
		c.at, c.amount = append(c.at, r.At), append(c.amount, int64(r.Amount))
		c.balance = append(c.balance, int64(r.Balance))
	case l.HIS != nil:
		c, r := &b.his, l.HIS
		c.key.add(l)
		c.kind, c.channel = append(c.kind, string(r.Kind)), append(c.channel, r.Channel)
		c.bill, c.origBill = append(c.bill, r.BillNo), append(c.origBill, r.OriginalBillNo)
		c.order, c.refund = append(c.order, r.OrderNo), append(c.refund, r.RefundNo)
		c.operator, c.bizType = append(c.operator, r.Operator), append(c.bizType, r.BizType)
		c.tender, c.receipt = append(c.tender, r.Tender), append(c.receipt, r.ReceiptNo)
		c.closeNo, c.patient = append(c.closeNo, r.CloseNo), append(c.patient, r.Patient)
		c.at, c.amount = append(c.at, r.At), append(c.amount, int64(r.Amount))
	case l.Statement != nil:
		c, r := &b.bank, l.Statement
		c.key.add(l)
		c.ref, c.endToEnd = append(c.ref, r.Ref), append(c.endToEnd, r.EndToEndID)
		c.counterparty, c.account = append(c.counterparty, r.Counterparty), append(c.account, r.CounterpartyAcc)
		c.text, c.code = append(c.text, r.Text), append(c.code, r.Code)
		c.returnOf, c.returnReason = append(c.returnOf, r.ReturnOf), append(c.returnReason, r.ReturnReason)
		c.bookDay, c.valueDay = append(c.bookDay, int32(r.BookDay)), append(c.valueDay, int32(r.ValueDay))
		c.amount = append(c.amount, int64(r.Amount))
	}
}

// insert writes the lines and returns how many lines of which file were new. A
// first delivery is by far the usual case and costs half of what it costs to ask
// of every line whether it is there: so that is asked only when told to, after a
// plain insert has met a line that is (a unique violation).
func (b *lineBatch) insert(ctx context.Context, tx pgx.Tx, ask bool) (map[int64]int64, error) {
	added := map[int64]int64{}
	for _, table := range []struct {
		files []int64
		sql   string
		args  []any
	}{
		{b.bill.file, insertBill, []any{
			b.bill.file, b.bill.row, b.bill.kind, b.bill.status, b.bill.order, b.bill.refund, b.bill.trade,
			b.bill.chRefund, b.bill.at, b.bill.amount, b.bill.settle, b.bill.fee}},
		{b.fund.file, insertFund, []any{
			b.fund.file, b.fund.row, b.fund.kind, b.fund.at, b.fund.flow, b.fund.business, b.fund.order,
			b.fund.amount, b.fund.balance}},
		{b.his.file, insertHIS, []any{
			b.his.file, b.his.row, b.his.kind, b.his.channel, b.his.bill, b.his.origBill, b.his.order, b.his.refund,
			b.his.amount, b.his.at, b.his.operator, b.his.bizType, b.his.tender, b.his.receipt, b.his.closeNo, b.his.patient}},
		{b.bank.file, insertBank, []any{
			b.bank.file, b.bank.row, b.bank.ref, b.bank.endToEnd, b.bank.bookDay, b.bank.valueDay, b.bank.amount,
			b.bank.counterparty, b.bank.account, b.bank.text, b.bank.code, b.bank.returnOf, b.bank.returnReason}},
	} {
		var err error
		switch {
		case len(table.files) == 0:
			continue
		case ask:
			err = insertMissing(ctx, tx, table.sql, table.args, added)
		default:
			_, err = tx.Exec(ctx, table.sql, table.args...)
			for _, file := range table.files {
				added[file]++
			}
		}
		if err != nil {
			return nil, fmt.Errorf("store feed lines: %w", err)
		}
	}
	return added, nil
}

// insertMissing inserts the lines that are not stored yet and adds their numbers.
func insertMissing(ctx context.Context, tx pgx.Tx, insert string, args []any, added map[int64]int64) error {
	rows, err := tx.Query(ctx, `
		WITH added AS (`+insert+`
			ON CONFLICT (file, row_no) DO NOTHING
			RETURNING file)
		SELECT file, COUNT(*)::INT8
		FROM added
		GROUP BY file`, args...)
	if err != nil {
		return err
	}
	var file, n int64
	_, err = pgx.ForEachRow(rows, []any{&file, &n}, func() error {
		added[file] += n
		return nil
	})
	return err
}

const insertBill = `
	INSERT INTO bill_lines (
		file, row_no, kind, status, order_no, refund_no, trade_no, channel_refund_no, at, amount, settle, fee)
	SELECT l.file, l.row_no, l.kind, l.status, l.order_no, l.refund_no, l.trade_no, l.channel_refund_no, l.at, l.amount, l.settle, l.fee
	FROM unnest(
		$1::INT8[], $2::INT4[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[],
		$9::TIMESTAMPTZ[], $10::INT8[], $11::INT8[], $12::INT8[])
		AS l (file, row_no, kind, status, order_no, refund_no, trade_no, channel_refund_no, at, amount, settle, fee)`

const insertFund = `
	INSERT INTO fund_lines (file, row_no, kind, at, flow_no, business_no, order_no, amount, balance)
	SELECT l.file, l.row_no, l.kind, l.at, l.flow_no, l.business_no, l.order_no, l.amount, l.balance
	FROM unnest(
		$1::INT8[], $2::INT4[], $3::TEXT[], $4::TIMESTAMPTZ[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::INT8[], $9::INT8[])
		AS l (file, row_no, kind, at, flow_no, business_no, order_no, amount, balance)`

const insertHIS = `
	INSERT INTO his_lines (
		file, row_no, kind, channel, bill_no, original_bill_no, order_no, refund_no, amount, at,
		operator, biz_type, tender, receipt_no, close_no, patient)
	SELECT l.file, l.row_no, l.kind, l.channel, l.bill_no, l.original_bill_no, l.order_no, l.refund_no, l.amount, l.at,
		l.operator, l.biz_type, l.tender, l.receipt_no, l.close_no, l.patient
	FROM unnest(
		$1::INT8[], $2::INT4[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::INT8[],
		$10::TIMESTAMPTZ[], $11::TEXT[], $12::TEXT[], $13::TEXT[], $14::TEXT[], $15::TEXT[], $16::TEXT[])
		AS l (file, row_no, kind, channel, bill_no, original_bill_no, order_no, refund_no, amount, at,
			operator, biz_type, tender, receipt_no, close_no, patient)`

const insertBank = `
	INSERT INTO bank_lines (
		file, row_no, ref, end_to_end_id, book_day, value_day, amount, counterparty, counterparty_account,
		remittance, code, return_of, return_reason)
	SELECT l.file, l.row_no, l.ref, l.end_to_end_id, l.book_day, l.value_day, l.amount, l.counterparty, l.counterparty_account,
		l.remittance, l.code, l.return_of, l.return_reason
	FROM unnest(
		$1::INT8[], $2::INT4[], $3::TEXT[], $4::TEXT[], $5::INT4[], $6::INT4[], $7::INT8[], $8::TEXT[], $9::TEXT[],
		$10::TEXT[], $11::TEXT[], $12::TEXT[], $13::TEXT[])
		AS l (file, row_no, ref, end_to_end_id, book_day, value_day, amount, counterparty, counterparty_account,
			remittance, code, return_of, return_reason)`
