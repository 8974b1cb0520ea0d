package recon

import "github.com/clearward/clearward/ledger"

// Code is the verdict on a leg or a bank line: the taxonomy of
// spec/reconciliation.md 2.5. Codes are for reports and tests; people see Words.
type Code string

// The codes. None means that there is nothing to say (a failed attempt).
const (
	None  Code = ""
	Match Code = "MATCH"

	F1  Code = "F1"
	F2  Code = "F2"
	F3  Code = "F3"
	F4  Code = "F4"
	F5  Code = "F5"
	F6  Code = "F6"
	F7  Code = "F7"
	F9  Code = "F9"
	F10 Code = "F10"
	F11 Code = "F11"
	F12 Code = "F12"
	I1  Code = "I1"
	I2  Code = "I2"
	I3  Code = "I3"
	I4  Code = "I4"
	I5  Code = "I5"
	I6  Code = "I6"
	I7  Code = "I7"
	I8  Code = "I8"

	PaidTwice        Code = "PAID_TWICE"
	Backfill         Code = "BACKFILL"
	Phantom          Code = "PHANTOM"
	DupRow           Code = "DUP_ROW"
	Restated         Code = "RESTATED"
	BankMissing      Code = "BANK_MISSING"
	BankShort        Code = "BANK_SHORT"
	BankOver         Code = "BANK_OVER"
	BankUnidentified Code = "BANK_UNIDENTIFIED"
	BankFee          Code = "BANK_FEE"
	UnknownDebit     Code = "UNKNOWN_DEBIT"
	PayoutReturned   Code = "PAYOUT_RETURNED"
	PayoutUnknown    Code = "PAYOUT_UNKNOWN"

	Pending    Code = "PENDING"
	Sweep      Code = "SWEEP"
	Waiting    Code = "WAITING"
	NetZero    Code = "NET_ZERO"
	OutOfScope Code = "OUT_OF_SCOPE"
)

// codeFacts is one row of the taxonomy.
type codeFacts struct {
	code      Code
	zh, en    string
	exception bool // counts as a case; else it is only listed
	listed    bool // stands in the list of the day; else it is only counted
}

// taxonomy is in the order in which reports list the codes.
var taxonomy = []codeFacts{
	{F1, "渠道单边（平台无单）", "channel only, unknown to the platform", true, true},
	{F2, "渠道成功、平台未成功", "channel success, platform not successful", true, true},
	{F3, "银行漏单（渠道无款）", "missing at the channel", true, true},
	{F4, "资金金额不符", "amounts differ between channel and platform", true, true},
	{F5, "渠道单边退款", "refund at the channel only", true, true},
	{F6, "退款未到账", "refund not paid by the channel", true, true},
	{F7, "手续费不符", "channel fee differs", true, true},
	{F9, "商户号或医院不符", "wrong merchant number or hospital", true, true},
	{F10, "跨日对平", "matched across days", false, true},
	{F11, "非本平台交易", "foreign row", false, true},
	{F12, "多笔疑似，无法认定", "ambiguous candidates", true, true},
	{I1, "医院漏收（HIS无单）", "missing in HIS", true, true},
	{I2, "医院单边账", "HIS only", true, true},
	{I3, "医院未退费", "refunded, HIS still charged", true, true},
	{I4, "医院单边退费", "HIS refund only", true, true},
	{I5, "业务金额不符", "amounts differ between platform and HIS", true, true},
	{I6, "业务状态不符", "states differ between platform and HIS", true, true},
	{I7, "断链单边账（疑似同笔）", "broken link (suspected same item)", true, true},
	{I8, "支付方式选错", "wrong tender", true, true},
	{PaidTwice, "重复支付", "bill paid twice", true, true},
	{Backfill, "平台漏记，待补登", "missing at the platform, to be back-filled", true, true},
	{Phantom, "平台虚记", "success recorded by the platform alone", true, true},
	{DupRow, "数据重复行", "repeated feed row (no money)", true, true},
	{Restated, "账单重出", "restated after settlement", true, true},
	{BankMissing, "未到账", "settlement not arrived", true, true},
	{BankShort, "到账短少", "settlement short", true, true},
	{BankOver, "到账多出", "settlement over", true, true},
	{BankUnidentified, "待查入账", "unidentified credit", true, true},
	{BankFee, "银行手续费", "bank charge", true, true},
	{UnknownDebit, "不明扣款", "unknown debit", true, true},
	{PayoutReturned, "退票", "payout returned by the bank", true, true},
	{PayoutUnknown, "付款结果未明", "payout without a final result", true, true},
	{Pending, "待核（在途）", "pending", false, true},
	{Sweep, "退款跟踪", "refund being followed up", false, true},
	{Waiting, "等待文件", "waiting for a feed", false, true},
	{NetZero, "一正一负", "pay and refund netting to zero", false, false},
	{OutOfScope, "范围外流水", "bank line out of scope", false, false},
}

var factsOf = func() map[Code]codeFacts {
	m := make(map[Code]codeFacts, len(taxonomy))
	for _, f := range taxonomy {
		m[f.code] = f
	}
	return m
}()

// rank is the place of a code in reports.
var rank = func() map[Code]int {
	m := make(map[Code]int, len(taxonomy))
	for i, f := range taxonomy {
		m[f.code] = i
	}
	return m
}()

// Exception says whether the code makes a case that a person must close.
func (c Code) Exception() bool { return factsOf[c].exception }

// Listed says whether the code stands in the list of a day.
func (c Code) Listed() bool { return factsOf[c].listed }

// Words returns the name of the code that people see, lang "zh" or "en".
func (c Code) Words(lang string) string {
	if lang == "en" {
		return factsOf[c].en
	}
	return factsOf[c].zh
}

// Polarity is "long" (长款) above zero, "short" (短款) below, "" at zero and on
// items that are no exceptions.
func (c Code) Polarity(d ledger.Money) string {
	switch {
	case !c.Exception() || c == BankFee || d == 0:
		return ""
	case d > 0:
		return "long"
	}
	return "short"
}
