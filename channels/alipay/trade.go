package alipay

import (
	"io"
	"regexp"
	"strconv"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// The columns of 业务明细 that are read.
const (
	colTradeNo = iota
	colOrderNo
	colType
	colDone
	colRefundNo
	colOrder // the first of the amounts
	colSettle
	colAlipayOff
	colMerchantOff
	colCard
	colFee
	colShare
	tradeCols
)

const amountCols = tradeCols - colOrder

// tradeColumns: who paid and for what is not read. The last line holds columns of
// bills by a bank or provider (间连), whose exact names are not documented.
var tradeColumns = []channels.Column{
	{Name: "支付宝交易号", Slot: colTradeNo},
	{Name: "商户订单号", Slot: colOrderNo},
	{Name: "业务类型", Slot: colType},
	{Name: "完成时间", Slot: colDone},
	{Name: "退款批次号/请求号", Slot: colRefundNo},
	{Name: "订单金额（元）", Slot: colOrder},
	{Name: "商家实收（元）", Slot: colSettle},
	{Name: "支付宝优惠（元）", Slot: colAlipayOff},
	{Name: "商家优惠（元）", Slot: colMerchantOff},
	{Name: "卡消费金额（元）", Slot: colCard},
	{Name: "服务费（元）", Slot: colFee},
	{Name: "分润（元）", Slot: colShare},
	{Name: "商品名称", Slot: channels.Unread}, {Name: "创建时间", Slot: channels.Unread},
	{Name: "门店编号", Slot: channels.Unread}, {Name: "门店名称", Slot: channels.Unread},
	{Name: "操作员", Slot: channels.Unread}, {Name: "终端号", Slot: channels.Unread},
	{Name: "对方账户", Slot: channels.Unread}, {Name: "支付宝红包（元）", Slot: channels.Unread},
	{Name: "集分宝（元）", Slot: channels.Unread}, {Name: "券核销金额（元）", Slot: channels.Unread},
	{Name: "券名称", Slot: channels.Unread}, {Name: "商家红包消费金额（元）", Slot: channels.Unread},
	{Name: "备注", Slot: channels.Unread},
	{Name: "二级商户编号", Slot: channels.Unread}, {Name: "二级商户名称", Slot: channels.Unread},
	{Name: "商户识别号", Slot: channels.Unread}, {Name: "净额（元）", Slot: channels.Unread},
}

// side is the sum of the payments or of the refunds, with the signs of the file.
type side struct {
	count   int64
	amounts [amountCols]ledger.Money
}

func (s *side) sum(slot int) ledger.Money { return s.amounts[slot-colOrder] }

func (s *side) add(o *side) {
	s.count += o.count
	for i, m := range o.amounts {
		s.amounts[i] += m
	}
}

type tradeReader struct {
	*archive
	line          channels.BillLine
	pays, refunds side
	rows          int

	// The part of the detail that is being read.
	partPays, partRefunds side
	saidPays, saidRefunds bool
}

// ReadTradeBill reads the archive of 业务明细 of one merchant number and day and
// hands each row to emit. What emit was given counts only once ReadTradeBill has
// returned without an error; the line is reused, so emit copies what it keeps
// (the strings in it stay valid).
func ReadTradeBill(r io.ReaderAt, size int64, want channels.Expect, emit func(*channels.BillLine) error) (channels.FileSummary, error) {
	a, err := openArchive(r, size, "业务", want)
	if err != nil {
		return channels.FileSummary{}, err
	}
	t := &tradeReader{archive: a}
	for _, e := range a.details {
		t.partPays, t.partRefunds, t.saidPays, t.saidRefunds = side{}, side{}, false, false
		row := func(s *sheet) error {
			if err := t.readRow(s); err != nil {
				return err
			}
			return emit(&t.line)
		}
		if err := a.readSheet(e, "业务明细", tradeColumns, row, t.footer); err != nil {
			return channels.FileSummary{}, err
		}
		if !t.saidPays || !t.saidRefunds {
			return channels.FileSummary{}, &channels.FileError{File: e.name, Rule: "the lines 交易合计 and 退款合计 are missing: the file was cut off"}
		}
		t.pays.add(&t.partPays)
		t.refunds.add(&t.partRefunds)
	}
	if err := t.checkTotal(); err != nil {
		return channels.FileSummary{}, err
	}
	return channels.FileSummary{
		MerchantNo: a.merchant, Day: a.day, Part: channels.PartAll, Rows: t.rows,
		Totals: map[string]int64{
			"payments": t.pays.count, "refunds": t.refunds.count, "reversals": 0,
			"pay_amount": int64(t.pays.sum(colOrder)), "refund_amount": -int64(t.refunds.sum(colOrder)),
			"pay_settle": int64(t.pays.sum(colSettle)), "refund_settle": -int64(t.refunds.sum(colSettle)),
			"fee": -int64(t.pays.sum(colFee)), "fee_return": int64(t.refunds.sum(colFee)),
			"share": int64(t.pays.sum(colShare) + t.refunds.sum(colShare)),
		},
	}, nil
}

func (t *tradeReader) readRow(s *sheet) error {
	at, err := s.time(colDone)
	if err != nil {
		return err
	}
	var row side
	row.count = 1
	for i := range row.amounts {
		if row.amounts[i], err = s.amount(colOrder + i); err != nil {
			return err
		}
		if row.amounts[i].Abs() > channels.MaxAmount {
			return s.refuse(s.cols.Name(colOrder+i), "%s yuan is more than one row can be", row.amounts[i])
		}
	}
	t.line = channels.BillLine{Row: s.lines.Number(), MerchantNo: t.merchant, At: at, Status: channels.Success}
	switch kind := string(s.field(colType)); kind {
	case "交易":
		t.line.Kind = channels.Pay
		err = t.readAmounts(s, &row, 1)
		t.partPays.add(&row)
	case "退款":
		t.line.Kind = channels.Refund
		err = t.readAmounts(s, &row, -1)
		t.partRefunds.add(&row)
	default:
		err = s.refuse(s.cols.Name(colType), "%q is neither 交易 nor 退款", kind)
	}
	if err != nil {
		return err
	}
	t.rows++
	return t.readNumbers(s)
}

// readAmounts checks a row whose amounts have the given sign: above zero on a
// payment, below on a refund; the fee has the other sign.
func (t *tradeReader) readAmounts(s *sheet, row *side, sign ledger.Money) error {
	order, settle, fee := sign*row.sum(colOrder), sign*row.sum(colSettle), -sign*row.sum(colFee)
	switch {
	case order <= 0:
		return s.refuse(s.cols.Name(colOrder), "is above zero on a payment and below on a refund, not %s", row.sum(colOrder))
	case settle < 0 || settle > order:
		return s.refuse(s.cols.Name(colSettle), "%s is not between zero and the order amount %s", row.sum(colSettle), row.sum(colOrder))
	case fee < 0 || fee > settle:
		return s.refuse(s.cols.Name(colFee), "is below zero on a payment and above on a refund, and at most what is settled, not %s", row.sum(colFee))
	}
	t.line.Amount, t.line.Settle, t.line.Fee = order, settle, fee
	return nil
}

func (t *tradeReader) readNumbers(s *sheet) (err error) {
	if t.line.TradeNo, err = s.number(colTradeNo, false); err != nil {
		return err
	}
	if t.line.OrderNo, err = s.number(colOrderNo, false); err != nil {
		return err
	}
	if t.line.RefundNo, err = s.number(colRefundNo, t.line.Kind == channels.Pay); err != nil {
		return err
	}
	if t.line.Kind == channels.Pay && t.line.RefundNo != "" {
		return s.refuse(s.cols.Name(colRefundNo), "is empty on a payment, not %q", t.line.RefundNo)
	}
	return nil
}

var (
	paysTotal    = regexp.MustCompile(`^#交易合计[：:](\d+)笔[，,]商家实收共(-?[\d.]+)元[，,]商家优惠共(-?[\d.]+)元$`)
	refundsTotal = regexp.MustCompile(`^#退款合计[：:](\d+)笔[，,]商家实收退款共(-?[\d.]+)元[，,]商家优惠退款共(-?[\d.]+)元$`)
)

// footer checks the totals at the end of a detail against its rows.
func (t *tradeReader) footer(s *sheet, text string) error {
	if m := paysTotal.FindStringSubmatch(text); m != nil && !t.saidPays {
		t.saidPays = true
		return checkFooter(s, "交易合计", m, &t.partPays)
	}
	if m := refundsTotal.FindStringSubmatch(text); m != nil && !t.saidRefunds {
		t.saidRefunds = true
		return checkFooter(s, "退款合计", m, &t.partRefunds)
	}
	return s.refuse("", "%q is not a line of totals", text)
}

func checkFooter(s *sheet, column string, match []string, rows *side) error {
	n, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil {
		return s.refuse(column, "%q is not a count", match[1])
	}
	if err := same(s, column, n, rows.count); err != nil {
		return err
	}
	for i, slot := range []int{colSettle, colMerchantOff} {
		said, err := ledger.ParseYuan(match[2+i])
		if err != nil {
			return s.refuse(column, "%v", err)
		}
		if err := same(s, column, said, rows.sum(slot)); err != nil {
			return err
		}
	}
	return nil
}

// The columns of 业务明细(汇总), one row per store and the last for all.
const (
	totStore = iota
	totPays
	totRefunds
	totOrder // the first of the amounts, in the order of the detail's
	totSettle
	totAlipayOff
	totMerchantOff
	totCard
	totFee
	totShare
	totNet
	totCols
)

var tradeTotalColumns = []channels.Column{
	{Name: "门店编号", Slot: totStore}, {Name: "门店名称", Slot: channels.Unread},
	{Name: "交易订单总笔数", Slot: totPays}, {Name: "退款订单总笔数", Slot: totRefunds},
	{Name: "订单金额（元）", Slot: totOrder}, {Name: "商家实收（元）", Slot: totSettle},
	{Name: "支付宝优惠（元）", Slot: totAlipayOff}, {Name: "商家优惠（元）", Slot: totMerchantOff},
	{Name: "卡消费金额（元）", Slot: totCard}, {Name: "服务费（元）", Slot: totFee},
	{Name: "分润（元）", Slot: totShare}, {Name: "实收净额（元）", Slot: totNet},
}

// checkTotal checks the summary: its stores sum to its last row, and that row is
// what the detail comes to.
func (t *tradeReader) checkTotal() error {
	var all [totCols]int64
	for i := range amountCols {
		all[totOrder+i] = int64(t.pays.amounts[i] + t.refunds.amounts[i])
	}
	all[totPays], all[totRefunds] = t.pays.count, t.refunds.count
	all[totNet] = all[totSettle] + all[totFee] + all[totShare]
	sums, closed := [totCols]int64{}, false
	row := func(s *sheet) error {
		if closed {
			return s.refuse("", "a row after 合计")
		}
		closed = string(s.field(totStore)) == "合计"
		for slot := totPays; slot < totCols; slot++ {
			n, err := totalValue(s, slot, slot < totOrder)
			if err != nil {
				return err
			}
			switch {
			case closed && n != all[slot]:
				err = s.refuse(s.cols.Name(slot), "合计 says %s, the rows of the detail come to %s", printed(n, slot < totOrder), printed(all[slot], slot < totOrder))
			case closed && n != sums[slot]:
				err = s.refuse(s.cols.Name(slot), "合计 says %s, the stores come to %s", printed(n, slot < totOrder), printed(sums[slot], slot < totOrder))
			}
			if err != nil {
				return err
			}
			sums[slot] += n
		}
		return nil
	}
	if err := t.readSheet(t.total, "业务汇总", tradeTotalColumns, row, noFooter); err != nil {
		return err
	}
	if !closed {
		return &channels.FileError{File: t.total.name, Rule: "the row 合计 is missing"}
	}
	return nil
}

func totalValue(s *sheet, slot int, count bool) (int64, error) {
	if count {
		return s.count(slot)
	}
	m, err := s.amount(slot)
	return int64(m), err
}

func printed(n int64, count bool) string {
	if count {
		return strconv.FormatInt(n, 10)
	}
	return ledger.Money(n).String()
}

// noFooter refuses totals where a file has none.
func noFooter(s *sheet, text string) error {
	return s.refuse("", "%q is not expected after the list", text)
}
