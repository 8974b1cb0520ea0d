package channels

import (
	"context"
	"io"
	"time"

	"github.com/clearward/clearward/ledger"
)

// TransferState is how far a bank is with a transfer (spec/channels.md F.4).
type TransferState string

// The states of a transfer. Accepted is neither success nor failure: the bank, or
// a person there, has it; a transfer that is Accepted or Unknown is never sent
// again under another number.
const (
	TransferApproval  TransferState = "BANK_APPROVAL" // 待银行授权, 银行落地 (PATC, AUT, APW)
	TransferAccepted  TransferState = "ACCEPTED"      // RCVD ACTC ACCP ACSP PDNG
	TransferSucceeded TransferState = "SUCCEEDED"     // ACSC ACCC
	TransferRejected  TransferState = "REJECTED"      // RJCT CANC: no money moved
	TransferReturned  TransferState = "RETURNED"      // 退票: it had succeeded
	TransferAbsent    TransferState = "ABSENT"        // the bank knows no such number
	TransferUnknown   TransferState = "UNKNOWN"
)

// Transfer is one payment by the bank.
type Transfer struct {
	Ref          string // 业务参考号: ours, at most 30 letters and digits, made once
	Batch        string // of the message it goes in
	FromAccount  string
	FromName     string
	ToAccount    string
	ToName       string
	ToBank       string // name
	ToBankCode   string // 12-digit CNAPS, "" within the same bank
	Amount       ledger.Money
	Text         string // 用途, from a fixed list
	RequestedDay ledger.Day
}

// TransferAnswer is what the bank says of one transfer.
type TransferAnswer struct {
	State    TransferState
	Ref      string
	BankRef  string       // the bank's own number, "" before it has one
	Amount   ledger.Money // as the bank has it, 0 where it did not say
	At       time.Time
	Reason   Reason
	Exchange *Exchange
	// NotSent says that the message never left: the transfer may go in another one,
	// under the same number, at once.
	NotSent bool
}

// Receipt is an electronic receipt (电子回单).
type Receipt struct {
	Ref, Name, CheckCode string
	Content              []byte
}

// BankGateway is one bank connection (银企直联).
type BankGateway interface {
	// Transfer sends transfers in one message; the answers are in their order. Where
	// the message never left, each says so (NotSent): the ones that break a rule are
	// Rejected, the others Absent.
	Transfer(ctx context.Context, batch string, list []Transfer) []TransferAnswer
	QueryTransfer(ctx context.Context, ref string) TransferAnswer
	// Balance is what the bank has booked on the account, and what may leave it.
	Balance(ctx context.Context, account string) (booked, available ledger.Money, err error)
	// FetchStatement opens the camt.053 of an account's day; ErrBillNotReady before it is made.
	FetchStatement(ctx context.Context, account string, day ledger.Day) (io.ReadCloser, error)
	FetchReceipt(ctx context.Context, ref string) (Receipt, error)
}

// HISRequest tells a hospital's HIS of a payment or refund, or asks it.
type HISRequest struct {
	Hospital   string
	BillNo     string
	OrderNo    string
	TradeNo    string
	RefundNo   string
	RefundID   string // the channel's number
	Amount     ledger.Money
	Tender     string // WECHAT, ALIPAY, CASH …
	Operator   string
	PaidAt     time.Time
	Key        string // the same on every try: HIS does it once
	BizType    string
	RefundedAt time.Time
}

// HISAnswer is HIS's word. OutcomeFailed is a refusal with its reason.
type HISAnswer struct {
	Outcome    Outcome
	BillNo     string       // of the row that HIS has booked
	ReceiptNo  string       // 票据号
	Amount     ledger.Money // Acknowledge: what HIS has booked
	Refundable ledger.Money // Cancel, Refundable: how much may be given back
	Reason     Reason
	Exchange   *Exchange
}

// HISGateway is one hospital's HIS, in JSON or XML (X04): the order of the steps
// is the caller's.
type HISGateway interface {
	// Acknowledge writes a payment back; HIS takes the number and books the bill.
	Acknowledge(ctx context.Context, r HISRequest) HISAnswer
	// Refundable asks how much of a bill may be refunded.
	Refundable(ctx context.Context, r HISRequest) HISAnswer
	// Cancel asks HIS to void the charge (退费); it comes before any refund.
	Cancel(ctx context.Context, r HISRequest) HISAnswer
	// WriteBackRefund tells HIS the number of a refund that succeeded.
	WriteBackRefund(ctx context.Context, r HISRequest) HISAnswer
	// Order asks what HIS knows of a bill: booked, with which number, or not served.
	Order(ctx context.Context, r HISRequest) HISAnswer
	// Details opens the charge details of a day as JSON lines with their totals.
	Details(ctx context.Context, hospital string, day ledger.Day) (io.ReadCloser, error)
}
