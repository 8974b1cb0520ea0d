package wechat

import (
	"io"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// The columns of a fund bill that are read.
const (
	fundTime = iota
	fundBusinessNo
	fundFlowNo
	fundName
	fundType
	fundDirection
	fundAmount
	fundBalance
	fundOrderNo
	fundCols
)

// fundColumns: the unit stands in half-width or full-width parentheses.
var fundColumns = []channels.Column{
	{Name: "记账时间", Slot: fundTime},
	{Name: "微信支付业务单号", Slot: fundBusinessNo},
	{Name: "资金流水单号", Slot: fundFlowNo},
	{Name: "业务名称", Slot: fundName},
	{Name: "业务类型", Slot: fundType},
	{Name: "收支类型", Slot: fundDirection},
	{Name: "收支金额(元)", Slot: fundAmount}, {Name: "收支金额（元）", Slot: fundAmount},
	{Name: "账户结余(元)", Slot: fundBalance}, {Name: "账户结余（元）", Slot: fundBalance},
	{Name: "业务凭证号", Slot: fundOrderNo},
	{Name: "资金变更提交申请人", Slot: channels.Unread}, {Name: "备注", Slot: channels.Unread},
}

// The columns of the fund bill's summary.
const (
	fundSumCount = iota
	fundSumInCount
	fundSumIn
	fundSumOutCount
	fundSumOut
)

var fundSummaryColumns = []channels.Column{
	{Name: "资金流水总笔数", Slot: fundSumCount},
	{Name: "收入笔数", Slot: fundSumInCount},
	{Name: "收入金额", Slot: fundSumIn}, {Name: "收入金额(元)", Slot: fundSumIn}, {Name: "收入金额（元）", Slot: fundSumIn},
	{Name: "支出笔数", Slot: fundSumOutCount},
	{Name: "支出金额", Slot: fundSumOut}, {Name: "支出金额(元)", Slot: fundSumOut}, {Name: "支出金额（元）", Slot: fundSumOut},
}

type fundReader struct {
	bill
	line             channels.FundLine
	opening, closing ledger.Money
	inCount          int64
	in, out          ledger.Money
	totals           channels.FundTotals
}

// ReadFundBill reads the fund bill of one account and day, plain or gzip, and
// hands each row to emit under the rules of ReadTradeBill. Every row must carry
// the balance on; the balance before the first is the opening one. A fund bill
// names no merchant number, so want must leave exactly one.
func ReadFundBill(r io.Reader, want channels.Expect, emit func(*channels.FundLine) error) (channels.FileSummary, error) {
	f := &fundReader{}
	merchant, err := want.OnlyMerchant()
	if err != nil {
		return channels.FileSummary{}, err
	}
	if err := f.open(r, want); err != nil {
		return channels.FileSummary{}, err
	}
	cols, err := f.bind(fundColumns)
	if err != nil {
		return channels.FileSummary{}, err
	}
	if err := cols.Need(fundTime, fundBusinessNo, fundFlowNo, fundName, fundType, fundDirection, fundAmount, fundBalance, fundOrderNo); err != nil {
		return channels.FileSummary{}, err
	}
	for f.nextRow() {
		if err := f.readRow(); err != nil {
			return channels.FileSummary{}, err
		}
		if err := emit(&f.line); err != nil {
			return channels.FileSummary{}, err
		}
	}
	if err := f.checkSummary(); err != nil {
		return channels.FileSummary{}, err
	}
	if f.day == 0 {
		return channels.FileSummary{}, channels.Refuse(0, "", "a bill without rows names no day: say which (--day)")
	}
	return channels.FileSummary{
		MerchantNo: merchant, Day: f.day, Rows: f.rows, Totals: f.totals.Map(),
		Opening: f.opening, Closing: f.closing, Balances: f.rows > 0,
	}, nil
}

func (f *fundReader) field(slot int) []byte { return f.row.at(f.cols.At(slot)) }

func (f *fundReader) readRow() error {
	if err := f.cut(); err != nil {
		return err
	}
	at, err := f.time(f.field(fundTime), f.cols.Name(fundTime))
	if err != nil {
		return err
	}
	amount, balance, err := f.money()
	if err != nil {
		return err
	}
	f.line = channels.FundLine{
		Row: f.lines.Number(), At: at, Amount: amount, Balance: balance,
		Kind: fundKind(string(f.field(fundName)), string(f.field(fundType)), amount > 0),
	}
	for _, id := range [...]struct {
		slot int
		into *string
		must bool
	}{
		{fundBusinessNo, &f.line.BusinessNo, true},
		{fundFlowNo, &f.line.FlowNo, true},
		{fundOrderNo, &f.line.OrderNo, false},
	} {
		text := f.field(id.slot)
		if !plain(text) && (id.must || len(text) > 0) {
			return f.refuse(f.cols.Name(id.slot), "%q is not a number of 1 to 64 letters, digits and signs", text)
		}
		*id.into = string(text)
	}
	if err := f.totals.Add(&f.line); err != nil {
		return f.refuse(f.cols.Name(fundAmount), "%v", err)
	}
	f.rows++
	return nil
}

// money reads amount and balance and proves the balance against the row before.
func (f *fundReader) money() (amount, balance ledger.Money, err error) {
	if amount, err = ledger.ParseYuan(f.field(fundAmount)); err != nil {
		return 0, 0, f.refuse(f.cols.Name(fundAmount), "%v", err)
	}
	if amount <= 0 || amount > channels.MaxAmount {
		return 0, 0, f.refuse(f.cols.Name(fundAmount), "an amount is above zero, 收支类型 says the direction; not %s", amount)
	}
	if balance, err = ledger.ParseYuan(f.field(fundBalance)); err != nil {
		return 0, 0, f.refuse(f.cols.Name(fundBalance), "%v", err)
	}
	if balance.Abs() > 1000*channels.MaxAmount {
		return 0, 0, f.refuse(f.cols.Name(fundBalance), "%s yuan is more than an account can hold", balance)
	}
	switch string(f.field(fundDirection)) {
	case "收入":
		f.inCount++
		f.in += amount
	case "支出":
		f.out += amount
		amount = -amount
	default:
		return 0, 0, f.refuse(f.cols.Name(fundDirection), "%q is neither 收入 nor 支出", f.field(fundDirection))
	}
	if f.rows == 0 {
		f.opening = balance - amount
	} else if f.closing+amount != balance {
		return 0, 0, f.refuse(f.cols.Name(fundBalance), "%s does not follow from %s and %s of this row", balance, f.closing, amount)
	}
	f.closing = balance
	return amount, balance, nil
}

// fundKind maps 业务名称 and 业务类型. What is not known is Other and is handed on
// like every row; so is 退款关闭, which undoes a refund of an earlier day and
// needs a person, and a known type that moves money the other way.
func fundKind(name, kind string, in bool) channels.FundKind {
	switch {
	case kind == "交易" && name == "交易" && in:
		return channels.FundTrade
	case kind == "扣除交易手续费" && !in:
		return channels.FundFee
	case kind == "退款" && name == "退款" && !in:
		return channels.FundRefund
	case kind == "退还交易手续费" && in:
		return channels.FundFeeReturn
	case kind == "提现" && name == "提现" && !in:
		return channels.FundWithdrawal
	case (kind == "提现退票" || (kind == "退票" && name == "提现")) && in:
		return channels.FundWithdrawalReturn
	case kind == "充值" && in:
		return channels.FundRecharge
	}
	return channels.FundOther
}

func (f *fundReader) checkSummary() error {
	if err := f.bindSummary(fundSummaryColumns); err != nil {
		return err
	}
	if err := f.footer.Need(fundSumCount, fundSumInCount, fundSumIn, fundSumOutCount, fundSumOut); err != nil {
		return err
	}
	for _, count := range [...]struct {
		slot int
		rows int64
	}{{fundSumCount, int64(f.rows)}, {fundSumInCount, f.inCount}, {fundSumOutCount, int64(f.rows) - f.inCount}} {
		if err := f.checkCount(count.slot, count.rows); err != nil {
			return err
		}
	}
	if err := f.checkSum(fundSumIn, f.in); err != nil {
		return err
	}
	if err := f.checkSum(fundSumOut, f.out); err != nil {
		return err
	}
	return f.checkEnd(2)
}
