package alipay

import (
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// The columns of 账务明细 that are read.
const (
	accFlowNo = iota
	accBusinessNo
	accOrderNo
	accTime
	accIn
	accOut
	accBalance
	accType
)

// accountColumns: whom the money came from or went to is not read. The last line
// holds columns of newer files.
var accountColumns = []channels.Column{
	{Name: "账务流水号", Slot: accFlowNo}, {Name: "业务流水号", Slot: accBusinessNo},
	{Name: "商户订单号", Slot: accOrderNo}, {Name: "发生时间", Slot: accTime},
	{Name: "收入金额（+元）", Slot: accIn}, {Name: "支出金额（-元）", Slot: accOut},
	{Name: "账户余额（元）", Slot: accBalance}, {Name: "业务类型", Slot: accType},
	{Name: "商品名称", Slot: channels.Unread}, {Name: "对方账号", Slot: channels.Unread},
	{Name: "交易渠道", Slot: channels.Unread}, {Name: "备注", Slot: channels.Unread},
	{Name: "业务基础订单号", Slot: channels.Unread}, {Name: "业务订单号", Slot: channels.Unread},
	{Name: "业务账单来源", Slot: channels.Unread}, {Name: "业务描述", Slot: channels.Unread},
	{Name: "付款备注", Slot: channels.Unread},
}

// flow is a count and a sum of each direction; the sum of what went out is below
// zero.
type flow struct {
	inCount, outCount int64
	in, out           ledger.Money
}

func (f *flow) add(amount ledger.Money) {
	if amount > 0 {
		f.inCount++
		f.in += amount
	} else {
		f.outCount++
		f.out += amount
	}
}

// maxTypes bounds the business types of one bill, which are summed by name.
const maxTypes = 1000

type accountReader struct {
	*archive
	line             channels.FundLine
	rows             int
	opening, closing ledger.Money
	all              flow
	byType           map[string]*flow
	totals           channels.FundTotals

	part            flow // the part of the detail that is being read
	saidIn, saidOut bool
}

// ReadFundBill reads the archive of 账务明细 of one account and day and hands each
// row to emit under the rules of ReadTradeBill. Every row must carry the balance
// on; the balance before the first is the opening one.
func ReadFundBill(r io.ReaderAt, size int64, want channels.Expect, emit func(*channels.FundLine) error) (channels.FileSummary, error) {
	a, err := openArchive(r, size, "账务", want)
	if err != nil {
		return channels.FileSummary{}, err
	}
	f := &accountReader{archive: a, byType: map[string]*flow{}}
	for _, e := range a.details {
		f.part, f.saidIn, f.saidOut = flow{}, false, false
		row := func(s *sheet) error {
			if err := f.readRow(s); err != nil {
				return err
			}
			return emit(&f.line)
		}
		if err := a.readSheet(e, "账务明细", accountColumns, row, f.footer); err != nil {
			return channels.FileSummary{}, err
		}
		if !f.saidIn || !f.saidOut {
			return channels.FileSummary{}, &channels.FileError{File: e.name, Rule: "the lines 支出合计 and 收入合计 are missing: the file was cut off"}
		}
	}
	if err := f.checkTotal(); err != nil {
		return channels.FileSummary{}, err
	}
	return channels.FileSummary{
		MerchantNo: a.merchant, Day: a.day, Rows: f.rows, Totals: f.totals.Map(),
		Opening: f.opening, Closing: f.closing, Balances: f.rows > 0,
	}, nil
}

func (f *accountReader) readRow(s *sheet) error {
	at, err := s.time(accTime)
	if err != nil {
		return err
	}
	amount, balance, err := f.money(s)
	if err != nil {
		return err
	}
	kind := string(s.field(accType))
	f.line = channels.FundLine{Row: s.lines.Number(), Kind: fundKind(kind, amount > 0), At: at, Amount: amount, Balance: balance}
	if f.line.FlowNo, err = s.number(accFlowNo, false); err != nil {
		return err
	}
	if f.line.BusinessNo, err = s.number(accBusinessNo, true); err != nil {
		return err
	}
	if f.line.OrderNo, err = s.number(accOrderNo, true); err != nil {
		return err
	}
	if f.byType[kind] == nil {
		if len(f.byType) == maxTypes {
			return s.refuse(s.cols.Name(accType), "more than %d business types", maxTypes)
		}
		f.byType[kind] = &flow{}
	}
	f.byType[kind].add(amount)
	f.all.add(amount)
	f.part.add(amount)
	if err := f.totals.Add(&f.line); err != nil {
		return s.refuse(s.cols.Name(accIn), "%v", err)
	}
	f.rows++
	return nil
}

// money reads the amount, which is in one of two columns and zero in the other,
// and proves the balance against the row before. What went out may be printed
// with or without its sign.
func (f *accountReader) money(s *sheet) (amount, balance ledger.Money, err error) {
	in, err := s.amount(accIn)
	if err != nil {
		return 0, 0, err
	}
	out, err := s.amount(accOut)
	if err != nil {
		return 0, 0, err
	}
	if balance, err = s.amount(accBalance); err != nil {
		return 0, 0, err
	}
	out = out.Abs()
	if in < 0 || (in == 0) == (out == 0) || max(in, out) > channels.MaxAmount {
		return 0, 0, s.refuse(s.cols.Name(accIn), "one of 收入金额 and 支出金额 holds the amount, the other zero; not %s and %s", in, out)
	}
	amount = in - out
	if f.rows == 0 {
		f.opening = balance - amount
	} else if f.closing+amount != balance {
		return 0, 0, s.refuse(s.cols.Name(accBalance), "%s does not follow from %s and %s of this row", balance, f.closing, amount)
	}
	f.closing = balance
	return amount, balance, nil
}

// fundKind maps 业务类型. What is not known is Other and is handed on like every
// row, also a known type that moves money the other way. 退费 for a returned fee is
// not documented; the sample has it.
func fundKind(kind string, in bool) channels.FundKind {
	switch {
	case (kind == "在线支付" || kind == "交易付款") && in:
		return channels.FundTrade
	case kind == "收费" && !in:
		return channels.FundFee
	case kind == "退款（交易退款）" && !in:
		return channels.FundRefund
	case kind == "退费" && in:
		return channels.FundFeeReturn
	case kind == "提现" && !in:
		return channels.FundWithdrawal
	case strings.Contains(kind, "提现") && in:
		return channels.FundWithdrawalReturn
	case kind == "充值" && in:
		return channels.FundRecharge
	}
	return channels.FundOther
}

var flowTotal = regexp.MustCompile(`^#(支出|收入)合计[：:](\d+)笔[，,]共(-?[\d.]+)元$`)

// footer checks the totals at the end of a detail against its rows.
func (f *accountReader) footer(s *sheet, text string) error {
	m := flowTotal.FindStringSubmatch(text)
	if m == nil || (m[1] == "收入" && f.saidIn) || (m[1] == "支出" && f.saidOut) {
		return s.refuse("", "%q is not a line of totals", text)
	}
	n, err := strconv.ParseInt(m[2], 10, 64)
	if err != nil {
		return s.refuse(m[1]+"合计", "%q is not a count", m[2])
	}
	sum, err := ledger.ParseYuan(m[3])
	if err != nil {
		return s.refuse(m[1]+"合计", "%v", err)
	}
	if m[1] == "收入" {
		f.saidIn = true
		if err := same(s, "收入合计", n, f.part.inCount); err != nil {
			return err
		}
		return same(s, "收入合计", sum, f.part.in)
	}
	f.saidOut = true
	if err := same(s, "支出合计", n, f.part.outCount); err != nil {
		return err
	}
	return same(s, "支出合计", -sum.Abs(), f.part.out)
}

// The columns of 账务明细(汇总), one row per business type and the last for all.
const (
	sumType = iota
	sumInCount
	sumIn
	sumOutCount
	sumOut
	sumNet
)

var accountTotalColumns = []channels.Column{
	{Name: "类型", Slot: sumType}, {Name: "收入笔数", Slot: sumInCount}, {Name: "收入金额（+元）", Slot: sumIn},
	{Name: "支出笔数", Slot: sumOutCount}, {Name: "支出金额（-元）", Slot: sumOut}, {Name: "总金额（元）", Slot: sumNet},
}

// checkTotal checks the summary: a row per business type, and one for all.
func (f *accountReader) checkTotal() error {
	closed, types := false, map[string]bool{}
	row := func(s *sheet) error {
		kind := string(s.field(sumType))
		rows := f.byType[kind]
		switch {
		case closed:
			return s.refuse("", "a row after 合计")
		case kind == "合计":
			closed, rows = true, &f.all
		case types[kind]:
			return s.refuse(s.cols.Name(sumType), "%s is there twice", kind)
		case rows == nil:
			rows = &flow{}
		}
		if len(types) > maxTypes {
			return s.refuse(s.cols.Name(sumType), "more than %d business types", maxTypes)
		}
		types[kind] = true
		return checkFlow(s, rows)
	}
	if err := f.readSheet(f.total, "账务汇总", accountTotalColumns, row, noFooter); err != nil {
		return err
	}
	if !closed {
		return &channels.FileError{File: f.total.name, Rule: "the row 合计 is missing"}
	}
	for kind := range f.byType {
		if !types[kind] {
			return &channels.FileError{File: f.total.name, Column: "类型", Rule: "the detail has rows of a type that the summary lacks: " + strconv.Quote(kind)}
		}
	}
	return nil
}

func checkFlow(s *sheet, rows *flow) error {
	for _, c := range []struct {
		slot int
		rows int64
	}{{sumInCount, rows.inCount}, {sumOutCount, rows.outCount}} {
		n, err := s.count(c.slot)
		if err != nil {
			return err
		}
		if err := same(s, s.cols.Name(c.slot), n, c.rows); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		slot int
		rows ledger.Money
	}{{sumIn, rows.in}, {sumOut, rows.out}, {sumNet, rows.in + rows.out}} {
		m, err := s.amount(c.slot)
		if err != nil {
			return err
		}
		if c.slot == sumOut {
			m = -m.Abs()
		}
		if err := same(s, s.cols.Name(c.slot), m, c.rows); err != nil {
			return err
		}
	}
	return nil
}
