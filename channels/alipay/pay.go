package alipay

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// The methods of the gateway.
const (
	methodPay         = "alipay.trade.pay"
	methodPrecreate   = "alipay.trade.precreate"
	methodCreate      = "alipay.trade.create"
	methodPage        = "alipay.trade.page.pay"
	methodWap         = "alipay.trade.wap.pay"
	methodApp         = "alipay.trade.app.pay"
	methodQuery       = "alipay.trade.query"
	methodCancel      = "alipay.trade.cancel"
	methodClose       = "alipay.trade.close"
	methodRefund      = "alipay.trade.refund"
	methodRefundQuery = "alipay.trade.fastpay.refund.query"
	methodBill        = "alipay.data.dataservice.bill.downloadurl.query"
	methodBalance     = "alipay.data.bill.balance.query"
)

func takesNotice(method string) bool {
	switch method {
	case methodPay, methodPrecreate, methodCreate, methodPage, methodWap, methodApp:
		return true
	}
	return false
}

var (
	authCode = regexp.MustCompile(`^(?:2[5-9]\d{14,22}|30\d{14,22})$`)
	orderNo  = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)
	buyerID  = regexp.MustCompile(`^2088\d{12}$`)
)

// The limits of one payment in fen, and how long a payer may take over a code.
const (
	minAmount   ledger.Money = 1
	maxAmount   ledger.Money = 100_000_000_00
	codeExpress              = "2m"
)

type payContent struct {
	OrderNo  string `json:"out_trade_no"`
	Scene    string `json:"scene,omitempty"`
	AuthCode string `json:"auth_code,omitempty"`
	Product  string `json:"product_code,omitempty"`
	Subject  string `json:"subject"`
	Amount   string `json:"total_amount"`
	Buyer    string `json:"buyer_id,omitempty"`
	OpenID   string `json:"buyer_open_id,omitempty"`
	OpApp    string `json:"op_app_id,omitempty"`
	Seller   string `json:"seller_id,omitempty"`
	Express  string `json:"timeout_express,omitempty"`
	ExpireAt string `json:"time_expire,omitempty"`
	Terminal string `json:"terminal_id,omitempty"`
}

type orderContent struct {
	OrderNo string `json:"out_trade_no"`
}

// Pay asks for a payment. A code, number or amount that breaks a rule is refused
// here and nothing is sent.
func (g *Client) Pay(ctx context.Context, r channels.PayRequest) channels.PayAnswer {
	a := channels.PayAnswer{OrderNo: r.OrderNo, Outcome: channels.OutcomeFailed}
	c := payContent{OrderNo: r.OrderNo, Subject: string(r.Subject), Amount: r.Amount.String(), Seller: g.config.SellerID, Terminal: r.Terminal}
	if !r.ExpireAt.IsZero() {
		c.ExpireAt = r.ExpireAt.In(ledger.Beijing).Format(clockForm)
	}
	if !orderNo.MatchString(r.OrderNo) || r.Amount < minAmount || r.Amount > maxAmount || r.Subject == "" {
		a.Reason = channels.Reason{Kind: channels.ReasonRequest, Text: "out_trade_no is 1 to 64 letters, digits and _, total_amount 0.01 to 100000000 yuan, subject not empty"}
		return a
	}
	switch r.Way {
	case channels.WayCode:
		if !authCode.MatchString(r.AuthCode) {
			a.Reason = channels.Reason{Kind: channels.ReasonAuthCode, Text: "an Alipay code starts with 25 to 30 and has 16 to 24 digits"}
			return a
		}
		c.Scene, c.AuthCode, c.Product = "bar_code", r.AuthCode, "FACE_TO_FACE_PAYMENT"
		if c.ExpireAt == "" {
			c.Express = codeExpress
		}
		return g.paid(g.call(ctx, methodPay, r.OrderNo, c, payTimeout), r)
	case channels.WayQR:
		return g.prepaid(g.call(ctx, methodPrecreate, r.OrderNo, c, prepayTimeout), r)
	case channels.WayJSAPI:
		if c.OpenID = r.Payer; buyerID.MatchString(r.Payer) {
			c.Buyer, c.OpenID = r.Payer, ""
		}
		if r.Payer == "" {
			a.Reason = channels.Reason{Kind: channels.ReasonRequest, Text: "the payer's number is missing"}
			return a
		}
		c.Product, c.OpApp = "JSAPI_PAY", g.config.AppID
		return g.prepaid(g.call(ctx, methodCreate, r.OrderNo, c, prepayTimeout), r)
	case channels.WayPage, channels.WayH5, channels.WayApp:
		return g.signed(c, r)
	}
	a.Reason = channels.Reason{Kind: channels.ReasonRequest, Text: "no way to pay: " + string(r.Way)}
	return a
}

// paid reads the answer to a bar-code payment.
func (g *Client) paid(w *reply, r channels.PayRequest) channels.PayAnswer {
	a := start(w, r.OrderNo, payCodes)
	if a.Outcome == channels.OutcomeSucceeded && a.Amount != r.Amount {
		a = differs(a, "the answer says "+a.Amount.String()+" yuan, asked were "+r.Amount.String())
	}
	a.SuccessAt = at(w.PaidAt)
	return a
}

// prepaid reads the answer that makes an order which the payer has yet to pay.
func (g *Client) prepaid(w *reply, r channels.PayRequest) channels.PayAnswer {
	a := start(w, r.OrderNo, payCodes)
	if a.Outcome != channels.OutcomeSucceeded {
		return a
	}
	a.Outcome, a.Prepay.Code = channels.OutcomePending, w.QRCode
	if r.Way == channels.WayJSAPI {
		a.Prepay.Bring = map[string]string{"tradeNO": w.TradeNo}
	}
	if a.Prepay.Code == "" && a.Prepay.Bring["tradeNO"] == "" {
		a.Outcome, a.Reason = channels.OutcomeUnknown, channels.Reason{Kind: channels.ReasonNetwork, Text: "the answer has nothing to pay with"}
	}
	return a
}

// signed makes what the payer's device takes to Alipay by itself. Alipay knows the
// order only then: until its time is over a query may find nothing.
func (g *Client) signed(c payContent, r channels.PayRequest) channels.PayAnswer {
	a := channels.PayAnswer{Outcome: channels.OutcomePending, OrderNo: r.OrderNo}
	method := methodPage
	switch r.Way {
	case channels.WayH5:
		method, c.Product = methodWap, "QUICK_WAP_WAY"
	case channels.WayApp:
		method, c.Product = methodApp, "QUICK_MSECURITY_PAY"
	default:
		c.Product = "FAST_INSTANT_TRADE_PAY"
	}
	params, sent, err := g.params(method, c)
	if err != nil {
		a.Outcome, a.Reason = channels.OutcomeFailed, channels.Reason{Kind: channels.ReasonSetup, Text: err.Error()}
		return a
	}
	if r.Way == channels.WayApp {
		a.Prepay.Form = params.Encode()
	} else {
		a.Prepay.URL = g.gateway + "?" + params.Encode()
	}
	a.Exchange = &channels.Exchange{Call: method, At: g.config.Now(), Request: mask(sent), Status: http.StatusOK}
	return a
}

// start reads what every answer about a payment has. Succeeded says no more than
// that the call ended with 10000.
func start(w *reply, orderNo string, table codes) channels.PayAnswer {
	a := channels.PayAnswer{Outcome: channels.OutcomeUnknown, OrderNo: orderNo, Exchange: w.exchange, Reason: w.fault}
	if w.fault.Kind != channels.ReasonNone {
		return a
	}
	if w.OrderNo != "" && w.OrderNo != orderNo {
		return differs(a, "the answer is about another order")
	}
	if w.Code != "10000" {
		m := table.mean(w)
		a.Outcome, a.Absent, a.Reason = m.outcome, m.absent, w.reason(m.kind)
		if m.kind == channels.ReasonClosed {
			a.Closed = true
		}
		if w.signed {
			a.TradeNo = w.TradeNo
		}
		return a
	}
	var err1, err2 error
	a.TradeNo = w.TradeNo
	a.Amount, err1 = yuan(w.Total)
	a.Settle, err2 = yuan(w.Receipt)
	if err1 != nil || err2 != nil || w.OrderNo == "" || a.Amount < 0 || a.Settle < 0 || a.Settle > a.Amount {
		return differs(channels.PayAnswer{Outcome: channels.OutcomeUnknown, OrderNo: orderNo, Exchange: w.exchange}, "out_trade_no, total_amount or receipt_amount is missing or no amount")
	}
	a.Outcome = channels.OutcomeSucceeded
	return a
}

func differs(a channels.PayAnswer, text string) channels.PayAnswer {
	a.Outcome, a.Reason = channels.OutcomeUnknown, channels.Reason{Kind: channels.ReasonDiffers, Text: text}
	return a
}

// Query asks how a payment stands.
func (g *Client) Query(ctx context.Context, orderNo string) channels.PayAnswer {
	w := g.call(ctx, methodQuery, orderNo, orderContent{orderNo}, queryTimeout)
	a := start(w, orderNo, askCodes)
	if a.Outcome != channels.OutcomeSucceeded {
		return a
	}
	paidAt := at(w.SendPayDate)
	if paidAt.IsZero() {
		paidAt = at(w.PaidAt)
	}
	return standing(a, w.Status, w.RefundFee, paidAt)
}

// standing reads trade_status. A trade that was paid and wholly refunded is
// TRADE_CLOSED like one that nobody paid (spec/channels.md D.5, I.1).
func standing(a channels.PayAnswer, status, refundFee string, paidAt time.Time) channels.PayAnswer {
	refunded, err := yuan(refundFee)
	if err != nil || refunded < 0 {
		return differs(a, "refund_fee is no amount")
	}
	switch status {
	case "TRADE_SUCCESS", "TRADE_FINISHED":
		a.Outcome, a.SuccessAt, a.Refunded = channels.OutcomeSucceeded, paidAt, refunded > 0
	case "TRADE_CLOSED":
		if a.Outcome, a.SuccessAt, a.Refunded = channels.OutcomeSucceeded, paidAt, true; refunded == 0 && paidAt.IsZero() {
			a.Outcome, a.Refunded, a.Closed = channels.OutcomeFailed, false, true
			a.Reason = channels.Reason{Kind: channels.ReasonClosed, Code: status}
		}
	case "WAIT_BUYER_PAY":
		a.Outcome, a.Reason = channels.OutcomePending, channels.Reason{Kind: channels.ReasonNone, Code: status}
	default:
		a.Outcome, a.Reason = channels.OutcomeUnknown, channels.Reason{Kind: channels.ReasonSystem, Code: status}
	}
	if a.Outcome == channels.OutcomeSucceeded && a.Amount == 0 {
		return differs(a, "total_amount is missing")
	}
	return a
}

// uncancelled are the refusals of a cancel that will not change by asking again: more
// than a day has passed, or the trade was refunded or is finished.
var uncancelled = []string{"ACQ.TRADE_CANCEL_TIME_OUT", "ACQ.CANCEL_NOT_ALLOWED", "ACQ.TRADE_HAS_FINISHED", "ACQ.REASON_TRADE_REFUND_FEE_ERR"}

// Reverse cancels a bar-code payment, within 24 hours of it. Paid it is refunded:
// Reversed and Refunded; unpaid it is closed: Reversed alone. One that can no longer
// be cancelled is asked for, and its state is the answer.
func (g *Client) Reverse(ctx context.Context, orderNo string) channels.PayAnswer {
	w := g.call(ctx, methodCancel, orderNo, orderContent{orderNo}, cancelTimeout)
	if w.signed && slices.Contains(uncancelled, w.SubCode) {
		return g.Query(ctx, orderNo)
	}
	a := start(w, orderNo, askCodes)
	if a.Outcome != channels.OutcomeSucceeded {
		a.Again = !a.Absent
		return a
	}
	a.Outcome = channels.OutcomeUnknown
	switch {
	case w.RetryFlag != "N":
		a.Again = true
	case w.Action == "close" || w.Action == "refund":
		a.Outcome, a.Reversed, a.Refunded = channels.OutcomeFailed, true, w.Action == "refund"
		a.Reason = channels.Reason{Kind: channels.ReasonClosed, Code: w.Action}
	default:
		a.Absent = true
		a.Reason = channels.Reason{Kind: channels.ReasonNotFound, Text: "the answer names no action"}
	}
	return a
}

// Close ends an order that nobody has paid. Where the channel does not know it
// yet, a payer may still bring it there until its time is over.
func (g *Client) Close(ctx context.Context, orderNo string) channels.PayAnswer {
	a := start(g.call(ctx, methodClose, orderNo, orderContent{orderNo}, queryTimeout), orderNo, askCodes)
	if a.Outcome == channels.OutcomeSucceeded {
		a.Outcome, a.Closed, a.Reason = channels.OutcomeFailed, true, channels.Reason{Kind: channels.ReasonClosed}
	}
	return a
}

// Plan says when a payment without a final outcome is asked for again.
func (g *Client) Plan(way channels.Way) channels.Plan {
	if way == channels.WayCode {
		return channels.PlanAlipayCode
	}
	return channels.PlanPrepay
}
