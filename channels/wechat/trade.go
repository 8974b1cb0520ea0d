// Package wechat is WeChat Pay: the client over V2 (XML, NewV2) and v3 (JSON,
// NewV3), the signatures of both, and the readers of its bills.
//
// It reads the bills of WeChat Pay: the trade bill (交易账单) in
// every layout that merchants still get, and the fund bill (资金账单). Both are
// read row by row in bounded memory and checked as a whole: a bill is good or it
// is refused.
//
// Source of the layouts and rules: WeChat Pay's bill pages (V2 downloadbill and
// v3 tradebill give the same text), as written down in spec/channels.md B.
package wechat

import (
	"bytes"
	"io"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// The columns of a trade bill that are read.
const (
	colTime = iota
	colMerchant
	colSubMerchant
	colTradeNo
	colOrderNo
	colState
	colCurrency
	colChRefundNo
	colRefundNo
	colRefundState
	colAccepted
	colDone
	colSettle // the first of the amounts
	colCoupon
	colRefund
	colCouponRefund
	colFee
	colOrder
	colAsked
	tradeCols
)

const (
	firstAmount = colSettle
	amountCols  = tradeCols - firstAmount
)

// tradeColumns holds the names of all layouts: that of the official page of
// 2024-11-25, the one with 子商户号 and 代金券或立减优惠, and that of 2016 with 企业红包.
// Who paid, with what and for what is not read: nothing of a person leaves here.
var tradeColumns = []channels.Column{
	{Name: "交易时间", Slot: colTime},
	{Name: "商户号", Slot: colMerchant},
	{Name: "特约商户号", Slot: colSubMerchant}, {Name: "子商户号", Slot: colSubMerchant},
	{Name: "微信订单号", Slot: colTradeNo},
	{Name: "商户订单号", Slot: colOrderNo},
	{Name: "交易状态", Slot: colState},
	{Name: "货币种类", Slot: colCurrency},
	{Name: "微信退款单号", Slot: colChRefundNo},
	{Name: "商户退款单号", Slot: colRefundNo},
	{Name: "退款状态", Slot: colRefundState},
	{Name: "退款申请时间", Slot: colAccepted},
	{Name: "退款成功时间", Slot: colDone},
	{Name: "应结订单金额", Slot: colSettle}, {Name: "总金额", Slot: colSettle},
	{Name: "代金券金额", Slot: colCoupon}, {Name: "代金券或立减优惠金额", Slot: colCoupon}, {Name: "企业红包金额", Slot: colCoupon},
	{Name: "退款金额", Slot: colRefund},
	{Name: "充值券退款金额", Slot: colCouponRefund}, {Name: "代金券或立减优惠退款金额", Slot: colCouponRefund},
	{Name: "企业红包退款金额", Slot: colCouponRefund},
	{Name: "手续费", Slot: colFee},
	{Name: "订单金额", Slot: colOrder},
	{Name: "申请退款金额", Slot: colAsked},
	{Name: "公众账号ID", Slot: channels.Unread}, {Name: "设备号", Slot: channels.Unread},
	{Name: "用户标识", Slot: channels.Unread}, {Name: "交易类型", Slot: channels.Unread},
	{Name: "付款银行", Slot: channels.Unread}, {Name: "退款类型", Slot: channels.Unread},
	{Name: "商品名称", Slot: channels.Unread}, {Name: "商户数据包", Slot: channels.Unread},
	{Name: "费率", Slot: channels.Unread}, {Name: "费率备注", Slot: channels.Unread},
}

type tradeReader struct {
	bill
	part    string
	current bool           // the layout of today, with 订单金额 and 申请退款金额
	at      [tradeCols]int // -1 where the layout has no such column
	present []int          // the amounts that the layout has
	amounts [amountCols]ledger.Money
	sums    [amountCols]ledger.Money

	rawMerchant, rawSub []byte
	merchant            string
	ids                 []byte
	line                channels.BillLine
	total               tradeTotals
}

type tradeTotals struct {
	payments, refunds, reversals                                   int64
	payAmount, refundAmount, paySettle, refundSettle, fee, feeBack ledger.Money
}

// ReadTradeBill reads a trade bill of one merchant number and day, plain or
// gzip, and hands each row to emit. What emit was given counts only once
// ReadTradeBill has returned without an error; the line is reused, so emit
// copies what it keeps (the strings in it stay valid). A bill without rows
// names no merchant and no day: want must.
func ReadTradeBill(r io.Reader, want channels.Expect, emit func(*channels.BillLine) error) (channels.FileSummary, error) {
	t := &tradeReader{}
	if err := t.open(r, want); err != nil {
		return channels.FileSummary{}, err
	}
	if err := t.bindHeader(); err != nil {
		return channels.FileSummary{}, err
	}
	for t.nextRow() {
		if err := t.readRow(); err != nil {
			return channels.FileSummary{}, err
		}
		if err := emit(&t.line); err != nil {
			return channels.FileSummary{}, err
		}
	}
	if err := t.checkSummary(); err != nil {
		return channels.FileSummary{}, err
	}
	return t.summary()
}

func (t *tradeReader) bindHeader() error {
	cols, err := t.bind(tradeColumns)
	if err != nil {
		return err
	}
	if err := cols.Need(colTime, colMerchant, colTradeNo, colOrderNo, colState, colCurrency, colSettle, colCoupon, colFee); err != nil {
		return err
	}
	t.current = cols.Name(colSettle) == "应结订单金额"
	if t.current {
		if err := cols.Need(colOrder); err != nil {
			return err
		}
	}
	t.part = channels.PartPay
	for _, slot := range []int{colChRefundNo, colRefundNo, colRefundState, colRefund, colCouponRefund, colAsked, colAccepted, colDone} {
		if cols.Has(slot) && t.part == channels.PartPay {
			t.part = channels.PartAll
		}
	}
	if cols.Has(colAccepted) || cols.Has(colDone) {
		t.part = channels.PartRefund
	}
	if t.part != channels.PartPay {
		if err := cols.Need(colChRefundNo, colRefundNo, colRefundState, colRefund, colCouponRefund); err != nil {
			return err
		}
		if t.current {
			if err := cols.Need(colAsked); err != nil {
				return err
			}
		}
	}
	for slot := range t.at {
		if t.at[slot] = cols.At(slot); t.at[slot] >= 0 && slot >= firstAmount {
			t.present = append(t.present, slot-firstAmount)
		}
	}
	return nil
}

// field returns the row's value, empty where the layout has no such column.
func (t *tradeReader) field(slot int) []byte {
	if t.at[slot] < 0 {
		return nil
	}
	return t.row.at(t.at[slot])
}

func (t *tradeReader) readRow() error {
	if err := t.cut(); err != nil {
		return err
	}
	if !bytes.Equal(t.field(colMerchant), t.rawMerchant) || !bytes.Equal(t.field(colSubMerchant), t.rawSub) || t.rows == 0 {
		if err := t.bindMerchant(); err != nil {
			return err
		}
	}
	at, err := t.time(t.field(colTime), t.cols.Name(colTime))
	if err != nil {
		return err
	}
	if string(t.field(colCurrency)) != "CNY" {
		return t.refuse(t.cols.Name(colCurrency), "only CNY is read, not %q", t.field(colCurrency))
	}
	if err := t.readAmounts(); err != nil {
		return err
	}
	t.line.Row, t.line.MerchantNo, t.line.At = t.lines.Number(), t.merchant, at
	switch state := t.field(colState); {
	case string(state) == "SUCCESS" && t.part != channels.PartRefund:
		err = t.readPayment()
	case string(state) == "REFUND" && t.part != channels.PartPay:
		err = t.readRefund(channels.Refund)
	case string(state) == "REVOKED" && t.part != channels.PartPay:
		err = t.readRefund(channels.Reverse)
	default:
		err = t.refuse(t.cols.Name(colState), "%q is not a state of this type of bill (SUCCESS, REFUND, REVOKED)", state)
	}
	if err != nil {
		return err
	}
	t.rows++
	return nil
}

// readAmounts reads the amounts that the layout has; the others stay zero.
func (t *tradeReader) readAmounts() error {
	for _, i := range t.present {
		text := t.row.at(t.at[firstAmount+i])
		if string(text) == "0.00" {
			t.amounts[i] = 0
			continue
		}
		m, ok := fen(text)
		if !ok {
			var err error
			if m, err = ledger.ParseYuan(text); err != nil {
				return t.refuse(t.cols.Name(firstAmount+i), "%v", err)
			}
		}
		if m > channels.MaxAmount || m < -channels.MaxAmount {
			return t.refuse(t.cols.Name(firstAmount+i), "%s yuan is more than one row can be", m)
		}
		t.amounts[i] = m
		t.sums[i] += m
	}
	return nil
}

// fen reads yuan as the bills print them, "12.50" and "-0.08000", and nothing
// else: what it does not know, ledger.ParseYuan reads or refuses.
func fen(text []byte) (ledger.Money, bool) {
	digits := text
	if len(text) > 0 && text[0] == '-' {
		digits = text[1:]
	}
	var m ledger.Money
	for i, c := range digits {
		if c == '.' {
			tail := digits[i+1:]
			if i == 0 || i > 12 || len(tail) < 2 || (len(tail) > 2 && string(tail[2:]) != "000") {
				return 0, false
			}
			cents, ok := twoDigits(tail[0], tail[1])
			m = m*100 + ledger.Money(cents)
			if len(digits) < len(text) {
				m = -m
			}
			return m, ok
		}
		if c < '0' || c > '9' {
			return 0, false
		}
		m = m*10 + ledger.Money(c-'0')
	}
	return 0, false
}

// bindMerchant takes the merchant number of a row: the sub-merchant's in
// provider mode, else the merchant's own (the other column then holds 0).
func (t *tradeReader) bindMerchant() error {
	if t.rows > 0 {
		return t.refuse(t.cols.Name(colMerchant), "merchant %s/%s: all rows of a bill are of one merchant number, the first has %s/%s",
			t.field(colMerchant), t.field(colSubMerchant), t.rawMerchant, t.rawSub)
	}
	slot := colMerchant
	if sub := t.field(colSubMerchant); len(sub) > 0 && string(sub) != "0" {
		slot = colSubMerchant
	}
	no := string(t.field(slot))
	if !plain(t.field(slot)) {
		return t.refuse(t.cols.Name(slot), "%q is not a merchant number", no)
	}
	merchant, ok := t.want.Merchant(no)
	if !ok {
		return t.refuse(t.cols.Name(slot), "merchant number %s is not one of %s", no, strings.Join(t.want.MerchantNos, ", "))
	}
	t.merchant = merchant
	t.rawMerchant = bytes.Clone(t.field(colMerchant))
	t.rawSub = bytes.Clone(t.field(colSubMerchant))
	return nil
}

func (t *tradeReader) amount(slot int) ledger.Money { return t.amounts[slot-firstAmount] }

func (t *tradeReader) readPayment() error {
	for _, slot := range [...]int{colChRefundNo, colRefundNo} {
		if no := t.field(slot); len(no) > 0 && string(no) != "0" {
			return t.refuse(t.cols.Name(slot), "is 0 on a payment, not %q", no)
		}
	}
	if state := t.field(colRefundState); len(state) > 0 {
		return t.refuse(t.cols.Name(colRefundState), "is empty on a payment, not %q", state)
	}
	for _, slot := range [...]int{colRefund, colCouponRefund, colAsked} {
		if t.amount(slot) != 0 {
			return t.refuse(t.cols.Name(slot), "is zero on a payment, not %s", t.amount(slot))
		}
	}
	settle, coupon, fee := t.amount(colSettle), t.amount(colCoupon), t.amount(colFee)
	order := settle
	if t.current {
		order = t.amount(colOrder)
	}
	switch {
	case order <= 0:
		return t.refuse(t.cols.Name(colSettle), "the amount of a payment is above zero, not %s", order)
	case settle < 0 || settle > order:
		return t.refuse(t.cols.Name(colSettle), "%s is not between zero and the order amount %s", settle, order)
	case coupon < order-settle || coupon > order:
		// 免充值券 lower what is settled, 预充值券 do not: what is missing from the
		// settlement amount is at most the coupon, and that at most the order.
		return t.refuse(t.cols.Name(colCoupon), "coupons of %s do not explain an order of %s settled with %s", coupon, order, settle)
	case fee < 0 || fee > settle:
		return t.refuse(t.cols.Name(colFee), "the fee of a payment is between zero and the settlement amount, not %s", fee)
	}
	t.total.payments++
	t.total.payAmount += order
	t.total.paySettle += settle
	t.total.fee += fee
	t.line.Kind, t.line.Status = channels.Pay, channels.Success
	t.line.Amount, t.line.Settle, t.line.Fee = order, settle, fee
	return t.numbers(false)
}

func (t *tradeReader) readRefund(kind channels.Kind) error {
	for _, slot := range [...]int{colSettle, colCoupon, colOrder} {
		if t.amount(slot) != 0 {
			return t.refuse(t.cols.Name(slot), "is zero on a refund, not %s", t.amount(slot))
		}
	}
	settle, fee := t.amount(colRefund), -t.amount(colFee)
	asked := settle
	if t.current {
		asked = t.amount(colAsked)
	}
	switch {
	case asked <= 0:
		return t.refuse(t.cols.Name(colRefund), "the amount of a refund is above zero, not %s", asked)
	case settle < 0 || settle > asked:
		return t.refuse(t.cols.Name(colRefund), "%s is not between zero and the amount asked back %s", settle, asked)
	case t.amount(colCouponRefund) < 0 || t.amount(colCouponRefund) > asked:
		return t.refuse(t.cols.Name(colCouponRefund), "%s is not between zero and the amount asked back %s", t.amount(colCouponRefund), asked)
	case fee < 0 || fee > settle:
		return t.refuse(t.cols.Name(colFee), "the fee returned is printed below zero and is at most the refund, not %s", -fee)
	}
	status, ok := refundStatus(t.field(colRefundState))
	if !ok {
		return t.refuse(t.cols.Name(colRefundState), "%q is not a state of a refund (SUCCESS, PROCESSING, FAIL, CHANGE)", t.field(colRefundState))
	}
	if kind == channels.Reverse {
		t.total.reversals++
	} else {
		t.total.refunds++
	}
	t.total.refundAmount += asked
	t.total.refundSettle += settle
	t.total.feeBack += fee
	t.line.Kind, t.line.Status = kind, status
	t.line.Amount, t.line.Settle, t.line.Fee = asked, settle, fee
	return t.numbers(true)
}

// refundStatus maps 退款状态 as it stood when the bill was made. FAIL and CHANGE
// (退款异常) are both Abnormal: the row counts in 退款总金额, so the money has left
// the balance, and only a 退款关闭 row of the fund bill or a query says that it
// came back. Failed, which moved no money, would free what the channel holds.
func refundStatus(text []byte) (channels.Status, bool) {
	switch string(text) {
	case "SUCCESS":
		return channels.Success, true
	case "PROCESSING":
		return channels.Processing, true
	case "FAIL", "CHANGE":
		return channels.Abnormal, true
	}
	return "", false
}

// numbers cuts the row's numbers out of one string, so that a row costs one
// allocation. On a reversal the refund number is the order number: what the
// refund columns of a REVOKED row hold is not documented.
func (t *tradeReader) numbers(refund bool) error {
	slots := [...]int{colTradeNo, colOrderNo, colChRefundNo, colRefundNo}
	n := 2
	if refund {
		n = 4
	}
	var cut [len(slots) + 1]int
	t.ids = t.ids[:0]
	for i, slot := range slots[:n] {
		v := t.field(slot)
		if reversed := t.line.Kind == channels.Reverse && slot == colRefundNo; reversed {
			v = t.field(colOrderNo)
		}
		if len(v) == 0 || len(v) > 64 || (i >= 2 && len(v) == 1 && v[0] == '0') {
			return t.notNumber(slot)
		}
		t.ids = append(t.ids, v...)
		cut[i+1] = len(t.ids)
	}
	if !printable(t.ids) {
		for _, slot := range slots[:n] {
			if !plain(t.field(slot)) {
				return t.notNumber(slot)
			}
		}
	}
	ids := string(t.ids)
	t.line.TradeNo, t.line.OrderNo = ids[:cut[1]], ids[cut[1]:cut[2]]
	t.line.ChannelRefundNo, t.line.RefundNo = "", ""
	if refund {
		t.line.ChannelRefundNo, t.line.RefundNo = ids[cut[2]:cut[3]], ids[cut[3]:cut[4]]
	}
	return nil
}

func (t *tradeReader) notNumber(slot int) error {
	return t.refuse(t.cols.Name(slot), "%q is not a number of 1 to 64 letters, digits and signs", t.field(slot))
}

// The columns of the trade bill's summary.
const (
	sumCount = iota
	sumSettle
	sumRefund
	sumCouponRefund
	sumFee
	sumOrder
	sumAsked
)

var tradeSummaryColumns = []channels.Column{
	{Name: "总交易单数", Slot: sumCount},
	{Name: "应结订单总金额", Slot: sumSettle}, {Name: "总交易额", Slot: sumSettle},
	{Name: "退款总金额", Slot: sumRefund}, {Name: "总退款金额", Slot: sumRefund},
	{Name: "充值券退款总金额", Slot: sumCouponRefund}, {Name: "总代金券或立减优惠退款金额", Slot: sumCouponRefund},
	{Name: "总企业红包退款金额", Slot: sumCouponRefund}, {Name: "企业红包退款总金额", Slot: sumCouponRefund},
	{Name: "手续费总金额", Slot: sumFee},
	{Name: "订单总金额", Slot: sumOrder},
	{Name: "申请退款总金额", Slot: sumAsked},
}

func (t *tradeReader) checkSummary() error {
	if err := t.bindSummary(tradeSummaryColumns); err != nil {
		return err
	}
	need := []int{sumCount, sumSettle, sumFee}
	if t.part != channels.PartPay {
		need = append(need, sumRefund, sumCouponRefund)
	}
	if t.current {
		need = append(need, sumOrder)
	}
	if t.current && t.part != channels.PartPay {
		need = append(need, sumAsked)
	}
	if err := t.footer.Need(need...); err != nil {
		return err
	}
	if err := t.checkCount(sumCount, int64(t.rows)); err != nil {
		return err
	}
	for _, sum := range [...]struct{ slot, col int }{
		{sumSettle, colSettle}, {sumRefund, colRefund}, {sumCouponRefund, colCouponRefund},
		{sumFee, colFee}, {sumOrder, colOrder}, {sumAsked, colAsked},
	} {
		if err := t.checkSum(sum.slot, t.sums[sum.col-firstAmount]); err != nil {
			return err
		}
	}
	decimals := 2
	if t.footer.At(sumFee) == t.footer.Len()-1 {
		decimals = 5
	}
	return t.checkEnd(decimals)
}

func (t *tradeReader) summary() (channels.FileSummary, error) {
	if t.rows == 0 {
		merchant, err := t.want.OnlyMerchant()
		if err != nil {
			return channels.FileSummary{}, err
		}
		t.merchant = merchant
	}
	if t.day == 0 {
		return channels.FileSummary{}, channels.Refuse(0, "", "a bill without rows names no day: say which (--day)")
	}
	return channels.FileSummary{
		MerchantNo: t.merchant, Day: t.day, Part: t.part, Rows: t.rows,
		Totals: map[string]int64{
			"payments": t.total.payments, "refunds": t.total.refunds, "reversals": t.total.reversals,
			"pay_amount": int64(t.total.payAmount), "refund_amount": int64(t.total.refundAmount),
			"pay_settle": int64(t.total.paySettle), "refund_settle": int64(t.total.refundSettle),
			"fee": int64(t.total.fee), "fee_return": int64(t.total.feeBack),
		},
	}, nil
}

// clock reads "15:04:05" and returns the seconds since midnight.
func clock(b []byte) (time.Duration, bool) {
	if len(b) != 8 || b[2] != ':' || b[5] != ':' {
		return 0, false
	}
	h, okH := twoDigits(b[0], b[1])
	m, okM := twoDigits(b[3], b[4])
	s, okS := twoDigits(b[6], b[7])
	if !okH || !okM || !okS || h > 23 || m > 59 || s > 59 {
		return 0, false
	}
	return time.Duration(h*3600+m*60+s) * time.Second, true
}

func twoDigits(a, b byte) (int, bool) {
	return int(a-'0')*10 + int(b-'0'), a >= '0' && a <= '9' && b >= '0' && b <= '9'
}
