package channels

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/clearward/clearward/ledger"
)

// Outcome is what is known of a call that may have moved money.
type Outcome string

// The outcomes. Unknown is one of its own: a time-out, a broken connection, a
// status other than 2xx, an answer that cannot be read or is wrongly signed say
// nothing about the money (spec/channels.md, golden rules 2 and 3); only a query
// or a bill turns it into another.
const (
	OutcomeSucceeded Outcome = "SUCCEEDED"
	OutcomeFailed    Outcome = "FAILED"  // for good: it will never succeed under this number
	OutcomePending   Outcome = "PENDING" // the channel has it and waits, such as for the payer's password
	OutcomeUnknown   Outcome = "UNKNOWN"
)

// Way is how the payer comes to the channel.
type Way string

// The ways to pay.
const (
	WayCode  Way = "CODE"  // 付款码支付: the cashier scans the payer (micropay, alipay.trade.pay)
	WayQR    Way = "QR"    // 扫码支付: the payer scans a code made for one bill (NATIVE, precreate)
	WayJSAPI Way = "JSAPI" // inside the channel's own app: official account, mini-program, life account
	WayApp   Way = "APP"
	WayH5    Way = "H5"
	WayPage  Way = "PAGE" // a page on a computer (alipay.trade.page.pay)
)

// ReasonKind is why an outcome is not a success, the same for every channel, so
// that a cashier is told one sentence for one thing.
type ReasonKind string

// The kinds of reasons.
const (
	ReasonNone          ReasonKind = ""
	ReasonAuthCode      ReasonKind = "AUTH_CODE"      // code wrong, expired or used: scan again
	ReasonBalance       ReasonKind = "BALANCE"        // the payer has not enough
	ReasonCard          ReasonKind = "CARD"           // the payer's card or means cannot be used here
	ReasonLimit         ReasonKind = "LIMIT"          // over a limit of the payer or the channel
	ReasonPassword      ReasonKind = "PASSWORD"       // the payer is entering a password
	ReasonRisk          ReasonKind = "RISK"           // refused by the channel's risk control
	ReasonPaid          ReasonKind = "ALREADY_PAID"   // the order is paid: query it
	ReasonClosed        ReasonKind = "CLOSED"         // the order is closed or reversed
	ReasonNotFound      ReasonKind = "NOT_FOUND"      // the channel knows no such order or refund
	ReasonDiffers       ReasonKind = "DIFFERS"        // the number was used with other values
	ReasonMerchantFunds ReasonKind = "MERCHANT_FUNDS" // the merchant's balance cannot fund the refund: recharge, same number again
	ReasonTooOften      ReasonKind = "TOO_OFTEN"      // slow down, same number again
	ReasonTooLate       ReasonKind = "TOO_LATE"       // past the channel's time limit
	ReasonNotRefundable ReasonKind = "NOT_REFUNDABLE" // over what is left, frozen, or not allowed
	ReasonAccount       ReasonKind = "ACCOUNT"        // the payee's account or name is wrong (bank), or unusable (abnormal refund)
	ReasonRequest       ReasonKind = "REQUEST"        // a field of the request breaks a rule: our own mistake
	ReasonSetup         ReasonKind = "SETUP"          // key, certificate, permission: the merchant number's settings
	ReasonSystem        ReasonKind = "SYSTEM"         // the channel's system
	ReasonNetwork       ReasonKind = "NETWORK"        // no answer, or none that can be read
	ReasonSignature     ReasonKind = "SIGNATURE"      // the answer's signature is wrong
	ReasonBreaker       ReasonKind = "BREAKER"        // not sent: the merchant number's circuit is open
)

// Reason says why an outcome is not a success.
type Reason struct {
	Kind ReasonKind
	Code string // the channel's own code, such as NOTENOUGH
	Text string // the channel's own words
}

// PayRequest asks a channel for a payment. It carries nothing of the patient: the
// subject is one of a fixed list (spec/regulation-and-volumes.md L7).
type PayRequest struct {
	OrderNo  string
	Way      Way
	Amount   ledger.Money // order amount in fen
	Subject  Subject
	AuthCode string // WayCode
	Payer    string // WayJSAPI: openid or buyer id
	Terminal string // our device number
	ClientIP string
	ExpireAt time.Time // zero: the channel's own limit
}

// Subject is the text that a payer reads on the phone: from a fixed list, never
// free text.
type Subject string

// The subjects, by business.
const (
	SubjectRegistration Subject = "门诊挂号"
	SubjectOutpatient   Subject = "门诊缴费"
	SubjectDeposit      Subject = "住院预交"
	SubjectDischarge    Subject = "出院结算"
	SubjectCheckup      Subject = "体检费用"
	SubjectOther        Subject = "医疗服务"
)

// PayAnswer is what a channel says of a payment: to Pay, Query, Reverse or Close,
// or in a notice.
type PayAnswer struct {
	Outcome   Outcome
	OrderNo   string
	TradeNo   string       // the channel's number
	Amount    ledger.Money // order amount, 0 where it was not said
	Settle    ledger.Money // what the channel settles, before its fee
	SuccessAt time.Time
	Closed    bool // OutcomeFailed because it was closed unpaid
	Reversed  bool // OutcomeFailed because it was reversed (撤销); the money, if any, goes back
	Refunded  bool // OutcomeSucceeded, and something of it was refunded since
	Absent    bool // OutcomeUnknown: the channel knows no such order; not paid only after a repeated query
	Again     bool // Reverse: call again (recall=Y, retry_flag=Y)
	Prepay    Prepay
	Reason    Reason
	Exchange  *Exchange // nil for notices
}

// Prepay is what the payer's device needs to go on; which fields are set depends
// on the way.
type Prepay struct {
	Code  string            `json:"code,omitempty"`  // WayQR: the text of the QR code
	URL   string            `json:"url,omitempty"`   // WayH5, WayPage
	Form  string            `json:"form,omitempty"`  // WayApp of Alipay: the signed order string
	Bring map[string]string `json:"bring,omitempty"` // WayJSAPI, WayApp: the signed fields to hand to the channel's SDK
}

// RefundRequest asks for a refund by the original route. The same number may be
// sent any number of times and refunds once.
type RefundRequest struct {
	OrderNo, TradeNo string
	RefundNo         string
	RefundID         string       // QueryRefund: the channel's number, where it is known
	Total            ledger.Money // order amount of the payment
	Amount           ledger.Money // to give back
	Cause            Cause
}

// Cause is the text that the patient reads beside a refund: from a fixed list (W04).
type Cause string

// The causes of refunds.
const (
	CauseCancelled Cause = "取消预约"
	CauseItem      Cause = "项目退费"
	CauseInsurance Cause = "医保结算退差"
	CauseDischarge Cause = "出院结算退款"
	CauseDuplicate Cause = "重复支付退款"
	CauseOther     Cause = "退费"
)

// RefundAnswer is what a channel says of a refund. OutcomePending says that it was
// accepted: the merchant's balance is debited.
type RefundAnswer struct {
	Outcome   Outcome
	OrderNo   string
	RefundNo  string
	RefundID  string // the channel's number
	TradeNo   string
	Amount    ledger.Money // asked back
	Settle    ledger.Money // taken from the merchant; 0 where it was not said
	SuccessAt time.Time
	Abnormal  bool // OutcomePending: the channel holds the money, the payer's account is unusable
	PaidTo    PaidTo
	Closed    bool // OutcomeFailed after it was accepted: the money is back in the merchant's balance
	Retry     bool // OutcomeUnknown, not accepted: send the same number again, after Reason is mended
	Absent    bool // OutcomeUnknown, QueryRefund: the channel knows no such refund: send the same number again
	Reason    Reason
	Exchange  *Exchange
}

// PaidTo is whom a refund that succeeded was paid to, "" where the channel did not
// say. An abnormal refund may end with the merchant: then the patient is still owed.
type PaidTo string

// Whom a refund is paid to.
const (
	PaidToPayer    PaidTo = "PAYER"    // the means that paid, or another card or wallet of the payer
	PaidToMerchant PaidTo = "MERCHANT" // the merchant's own bank account
)

// NoticeKind tells what a notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticePayment NoticeKind = "PAYMENT"
	NoticeRefund  NoticeKind = "REFUND"
)

// Notice is a channel's own message about a payment or refund, verified. It is a
// hint: it is compared and then treated like the answer to a query; it may repeat
// and may come before the answer to the call.
type Notice struct {
	ID         string // the channel's, for the record
	MerchantNo string // whom it is for, as the notice says
	Kind       NoticeKind
	Payment    PayAnswer
	Refund     RefundAnswer
	Unsigned   bool   // encrypted but not signed (V2 refund notice): ask the channel before anything is booked
	Body       string // as received, masked
}

// ErrNotice is wrapped by every reason why a notice is not believed: unreadable,
// wrongly signed, too old, for another merchant.
var ErrNotice = errors.New("notice refused")

// ErrForeign is wrapped beside ErrNotice where a notice is rightly signed and is for
// another merchant number: nothing is changed, and a person should know.
var ErrForeign = errors.New("for another merchant number")

// NoticeReply is what the channel expects as the answer to its notice.
type NoticeReply struct {
	Status      int
	ContentType string
	Body        string
}

// BillKind is a kind of bill.
type BillKind string

// The kinds of bills.
const (
	BillTrade BillKind = "TRADE" // 交易账单, 业务明细
	BillFund  BillKind = "FUND"  // 资金账单, 账务明细
)

// Why a bill cannot be had.
var (
	ErrNoBill       = errors.New("the channel has no bill of that day")            // no trades: a valid empty bill
	ErrBillNotReady = errors.New("the channel is still making the day's bill")     // ask again later
	ErrBillDiffers  = errors.New("the bill is not what the channel says it is")    // its hash is another
	ErrBillRefused  = errors.New("the channel refuses to hand out the day's bill") // with the channel's words
)

// Gateway is one merchant number at a payment channel. A method that may move
// money never returns an error: what went wrong is in the answer.
type Gateway interface {
	// Pay is called once for an order number. A call that never left the house
	// (ReasonBreaker, or ReasonRequest where a rule is broken) is OutcomeFailed: the
	// channel has no such order. Every other method leaves it OutcomeUnknown.
	Pay(ctx context.Context, r PayRequest) PayAnswer
	Query(ctx context.Context, orderNo string) PayAnswer
	// Reverse undoes a code payment whose result is unknown: unpaid it is closed,
	// paid it is refunded.
	Reverse(ctx context.Context, orderNo string) PayAnswer
	// Close ends an unpaid order of every other way.
	Close(ctx context.Context, orderNo string) PayAnswer
	Refund(ctx context.Context, r RefundRequest) RefundAnswer
	QueryRefund(ctx context.Context, r RefundRequest) RefundAnswer
	// ParseNotice verifies and reads a notice; ErrNotice says that it is not one.
	ParseNotice(header http.Header, body []byte) (Notice, error)
	// NoticeReply is what to answer: err is nil where the notice was taken.
	NoticeReply(err error) NoticeReply
	// FetchBill opens the file of a day as the channel hands it out (text or zip).
	FetchBill(ctx context.Context, kind BillKind, day ledger.Day) (io.ReadCloser, error)
	// Plan says when a payment without a final outcome is asked for again.
	Plan(way Way) Plan
}

// AbnormalGateway is a Gateway whose channel takes an application for an abnormal
// refund (WeChat Pay v3). V2 and Alipay have no such call: there it is done on the
// channel's merchant platform.
type AbnormalGateway interface {
	Gateway
	// ApplyAbnormalRefund has the money of an abnormal refund paid to the merchant's own
	// bank account, under the refund's own numbers. OutcomePending says that the channel
	// does so, OutcomeFailed that it refused and nothing has changed. It says nothing of
	// the refund itself: that is what a query is for.
	ApplyAbnormalRefund(ctx context.Context, r RefundRequest) RefundAnswer
}
