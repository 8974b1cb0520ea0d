// Package channels is the outside world that moves money: payment channels,
// banks and the hospital's HIS. Here are the neutral forms into which every
// adapter turns what it reads; the adapters are the folders beside this file.
//
// The package knows Money and business days and nothing else of the house: no
// database, no payment, no account.
package channels

import (
	"fmt"
	"slices"
	"time"

	"github.com/clearward/clearward/ledger"
)

// The payment channels, as they are named in setup files and feeds.
const (
	WeChat   = "WECHAT"
	Alipay   = "ALIPAY"
	UnionPay = "UNIONPAY"
)

// Kind is what a line did: a payment, a refund, or the reversal (撤销) of a
// payment whose result was unknown.
type Kind string

// The kinds of lines.
const (
	Pay     Kind = "PAY"
	Refund  Kind = "REFUND"
	Reverse Kind = "REVERSE"
)

// Status is how far the source says the line has come.
type Status string

// The states of a line. A refund that is Processing has left the merchant's
// balance; one that is Abnormal is held by the channel; Failed moved no money.
const (
	Success    Status = "SUCCESS"
	Processing Status = "PROCESSING"
	Abnormal   Status = "ABNORMAL"
	Failed     Status = "FAILED"
)

// BillLine is one row of a channel's trade bill (WeChat 交易账单, Alipay 业务明细).
// All amounts are fen and not negative; Kind says the direction.
type BillLine struct {
	Row             int // line number in the file, from 1
	Kind            Kind
	MerchantNo      string
	OrderNo         string // 商户订单号, ours
	RefundNo        string // 商户退款单号, ours; on a reversal the order number
	TradeNo         string // the channel's number of the payment
	ChannelRefundNo string // the channel's number of the refund
	At              time.Time
	Status          Status
	Amount          ledger.Money // order amount; refunds: the amount asked back
	Settle          ledger.Money // what the channel settles or takes back (应结订单金额, 商家实收, 退款金额)
	Fee             ledger.Money // fee charged on a payment, fee returned on a refund
}

// FundKind says what a row of the fund bill did to the merchant's balance.
type FundKind string

// The kinds of fund rows. Trade, Fee, TradeRefund and FeeReturn are the trade
// bill seen from the balance; the others exist only here.
const (
	FundTrade            FundKind = "TRADE"
	FundFee              FundKind = "FEE"
	FundRefund           FundKind = "REFUND"
	FundFeeReturn        FundKind = "FEE_RETURN"
	FundWithdrawal       FundKind = "WITHDRAWAL"        // 提现: money on its way to the bank
	FundWithdrawalReturn FundKind = "WITHDRAWAL_RETURN" // 提现退票
	FundRecharge         FundKind = "RECHARGE"          // 充值
	FundOther            FundKind = "OTHER"
)

// FundLine is one row of a fund bill (WeChat 资金账单, Alipay 账务明细).
type FundLine struct {
	Row        int
	Kind       FundKind
	At         time.Time
	FlowNo     string       // 资金流水单号, 账务流水号
	BusinessNo string       // the channel's payment or refund number
	OrderNo    string       // 业务凭证号, 商户订单号
	Amount     ledger.Money // signed: above zero came in
	Balance    ledger.Money // after this row
}

// StatementLine is one booked entry of a bank statement (camt.053 Ntry).
type StatementLine struct {
	Row             int // number of the entry in the statement, from 1
	Account         string
	Ref             string // AcctSvcrRef: with the account, the bank's identity of the line
	EndToEndID      string
	BookDay         ledger.Day
	ValueDay        ledger.Day
	Amount          ledger.Money // signed: above zero is a credit
	Counterparty    string       // name
	CounterpartyAcc string
	Text            string // remittance text
	Code            string // BkTxCd as DOMAIN/FAMILY/SUBFAMILY, or the proprietary code
	ReturnOf        string // EndToEndID that a returned transfer (RRTN, RtrInf) goes back to
	ReturnReason    string // such as AC01
}

// HISLine is one row of the hospital's charge details.
type HISLine struct {
	Row            int
	Hospital       string
	BillNo         string // his_bill_no, unique per hospital and kind
	Kind           Kind   // Pay or Refund
	Channel        string // the electronic channel, "" or CASH/POS where the tender is no channel
	OrderNo        string // the number written back, "" where it never reached HIS
	RefundNo       string
	Amount         ledger.Money // not negative
	At             time.Time
	Operator       string
	BizType        string
	Tender         string // the means of payment the cashier booked
	ReceiptNo      string // 票据号
	CloseNo        string // 日结号, the cashier close that dates the row
	OriginalBillNo string
	Patient        string // opaque keyed reference
}

// MaxAmount is the largest amount of one bill row, one billion yuan. It keeps
// the sum of any file that fits a disk inside 64 bits.
const MaxAmount ledger.Money = 100_000_000_000

// Expect is what the one who hands in a file knows of it beforehand. A file that
// says otherwise is refused.
type Expect struct {
	// MerchantNos are the merchant numbers that may appear, with their aliases.
	// Empty lets any through; rows of two merchant numbers are refused anyway.
	MerchantNos []string
	// Aliases gives the merchant number of the master data for another number
	// of the same merchant. What a reader hands on is never the alias.
	Aliases  map[string]string
	Hospital string     // HIS files; "" lets any one hospital through
	Day      ledger.Day // 0: the file says it

	// HIS files: the number of rows and payments less refunds, where they are
	// known from the command or a manifest (Counted).
	Counted bool
	Rows    int
	Sum     ledger.Money
	SHA256  string // hex, of the file's bytes; "" where not known
}

// Merchant returns the merchant number of the master data that no stands for,
// and whether it may appear in the file at all.
func (e *Expect) Merchant(no string) (string, bool) {
	if len(e.MerchantNos) > 0 && !slices.Contains(e.MerchantNos, no) {
		return "", false
	}
	if main, ok := e.Aliases[no]; ok {
		return main, true
	}
	return no, true
}

// OnlyMerchant returns the merchant number where just one is expected. Fund
// bills and bills without rows do not name theirs.
func (e *Expect) OnlyMerchant() (string, error) {
	only := ""
	for _, no := range e.MerchantNos {
		if main, ok := e.Aliases[no]; ok {
			no = main
		}
		if only != "" && no != only {
			return "", Refuse(0, "", "the file names no merchant number, and both %s and %s are possible: say which (--merchant)", only, no)
		}
		only = no
	}
	if only == "" {
		return "", Refuse(0, "", "the file names no merchant number: say which (--merchant)")
	}
	return only, nil
}

// FileSummary is what a whole file came to, after every check has held.
type FileSummary struct {
	MerchantNo string // bills
	Account    string // bank statements
	Hospital   string // HIS files
	Day        ledger.Day
	Part       string // trade bills: PartAll, PartPay or PartRefund
	Rows       int
	// Totals holds counts and sums in fen by name. Trade bills: payments,
	// refunds, reversals (counts), pay_amount, refund_amount (with reversals),
	// pay_settle, refund_settle, fee, fee_return, share. Fund bills: trade, fee,
	// refund, fee_return, withdrawn, withdrawal_returned, recharged (all above
	// zero in their own direction) and other (signed). Bank statements: credits,
	// debits, unbooked (counts), credit_sum, debit_sum. HIS files: payments,
	// refunds (counts), pay_amount, refund_amount.
	Totals map[string]int64
	// Opening and Closing are balances, known where Balances is true: always on
	// bank statements, on fund bills that have a row.
	Opening, Closing ledger.Money
	Balances         bool
}

// The parts of a day that a trade bill can hold.
const (
	PartAll    = "ALL"
	PartPay    = "PAY"
	PartRefund = "REFUND"
)

// FileError says why a file was refused: a bad file is refused whole.
type FileError struct {
	File   string // the entry of an archive; "" where there is only the one file
	Line   int    // from 1; 0 where the rule is about the whole file
	Column string // the column or element, "" where none
	Rule   string // what must hold, in words
}

// Error prints "line 7, column 手续费: …".
func (e *FileError) Error() string {
	where := e.File
	if e.Line > 0 {
		where = join(where, fmt.Sprintf("line %d", e.Line))
	}
	if e.Column != "" {
		where = join(where, "column "+e.Column)
	}
	if where == "" {
		return e.Rule
	}
	return where + ": " + e.Rule
}

func join(before, part string) string {
	if before == "" {
		return part
	}
	return before + ", " + part
}

// Refuse returns the *FileError of a rule that does not hold.
func Refuse(line int, column, rule string, args ...any) error {
	return &FileError{Line: line, Column: column, Rule: fmt.Sprintf(rule, args...)}
}
