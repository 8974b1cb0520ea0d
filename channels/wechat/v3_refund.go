package wechat

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// transaction is a payment in an answer or notice.
type transaction struct {
	owner
	OutTradeNo     string  `json:"out_trade_no"`
	TransactionID  string  `json:"transaction_id"`
	TradeState     string  `json:"trade_state"`
	TradeStateDesc string  `json:"trade_state_desc"`
	SuccessTime    string  `json:"success_time"`
	Amount         amount  `json:"amount"`
	Promotions     []promo `json:"promotion_detail"`
}

// promo is a coupon; one of type NOCASH (免充值) is not settled to the merchant.
type promo struct {
	Type   string `json:"type"`
	Amount int64  `json:"amount"`
}

// read puts a transaction on the answer for a.OrderNo ("" takes any). One of another
// merchant number, app or order is Unknown.
func (v *V3) read(a *channels.PayAnswer, t *transaction) {
	if t.owner != v.owner() || t.OutTradeNo == "" || (a.OrderNo != "" && a.OrderNo != t.OutTradeNo) {
		unreadable(&a.Outcome, &a.Reason)
		return
	}
	a.OrderNo, a.TradeNo = t.OutTradeNo, t.TransactionID
	tradeState(a, t.TradeState, t.TradeStateDesc)
	if a.Outcome != channels.OutcomeSucceeded {
		return
	}
	at, err := time.Parse(time.RFC3339, t.SuccessTime)
	total, settle := ledger.Money(t.Amount.Total), ledger.Money(t.Amount.Total)
	for _, p := range t.Promotions {
		if p.Type == "NOCASH" && p.Amount > 0 && ledger.Money(p.Amount) <= settle {
			settle -= ledger.Money(p.Amount)
		}
	}
	if err != nil || total < 1 || total > channels.MaxAmount || t.TransactionID == "" || (t.Amount.Currency != "" && t.Amount.Currency != "CNY") {
		unreadable(&a.Outcome, &a.Reason)
		return
	}
	a.Amount, a.Settle, a.SuccessAt = total, settle, at
}

// refundRecord is a refund in an answer or notice; a notice calls its state
// refund_status and names its owner.
type refundRecord struct {
	owner
	RefundID      string `json:"refund_id"`
	OutRefundNo   string `json:"out_refund_no"`
	TransactionID string `json:"transaction_id"`
	OutTradeNo    string `json:"out_trade_no"`
	SuccessTime   string `json:"success_time"`
	Received      string `json:"user_received_account"`
	Status        string `json:"status"`
	NoticeStatus  string `json:"refund_status"`
	Amount        amount `json:"amount"`
}

func (v *V3) readRefund(a *channels.RefundAnswer, r *refundRecord) {
	refunded := ledger.Money(r.Amount.Refund)
	if r.RefundID == "" || r.OutRefundNo == "" || (a.RefundNo != "" && a.RefundNo != r.OutRefundNo) || (a.OrderNo != "" && a.OrderNo != r.OutTradeNo) || refunded < 1 || refunded > channels.MaxAmount {
		unreadable(&a.Outcome, &a.Reason)
		return
	}
	a.OrderNo, a.TradeNo, a.RefundNo, a.RefundID = r.OutTradeNo, r.TransactionID, r.OutRefundNo, r.RefundID
	a.Amount, a.Settle = refunded, refunded
	if r.Amount.Settle != nil && *r.Amount.Settle >= 0 && *r.Amount.Settle <= int64(refunded) {
		a.Settle = ledger.Money(*r.Amount.Settle)
	}
	if at, err := time.Parse(time.RFC3339, r.SuccessTime); err == nil {
		a.SuccessAt = at
	}
	refundState(a, r.Status+r.NoticeStatus)
	a.PaidTo = paidTo(r.Received)
}

// Refund asks for a refund; PROCESSING says that it was accepted.
func (v *V3) Refund(ctx context.Context, r channels.RefundRequest) channels.RefundAnswer {
	a := channels.RefundAnswer{Outcome: failed, OrderNo: r.OrderNo, RefundNo: r.RefundNo, Reason: checkRefund(r)}
	if a.Reason.Kind != "" {
		return a
	}
	a.Outcome = unknown
	body := struct {
		SubMchID      string `json:"sub_mchid,omitempty"`
		TransactionID string `json:"transaction_id,omitempty"`
		OutTradeNo    string `json:"out_trade_no,omitempty"`
		OutRefundNo   string `json:"out_refund_no"`
		Reason        string `json:"reason"`
		NotifyURL     string `json:"notify_url,omitempty"`
		Amount        amount `json:"amount"`
	}{v.cfg.SubMerchantNo, r.TradeNo, "", r.RefundNo, string(r.Cause), v.cfg.RefundNotifyURL, amount{Total: int64(r.Total), Refund: int64(r.Amount), Currency: "CNY"}}
	if r.TradeNo == "" {
		body.OutTradeNo = r.OrderNo
	}
	a = v.refundCall(ctx, a, "v3/refund", http.MethodPost, "/v3/refund/domestic/refunds", body, refundCodes, RefundTimeout)
	a.Retry = a.Retry || (a.Outcome == unknown && neverLeft(a.Reason))
	return a
}

func (v *V3) refundCall(ctx context.Context, a channels.RefundAnswer, name, method, target string, body any, codes map[string]verdict, timeout time.Duration) channels.RefundAnswer {
	var record refundRecord
	no, x, reason := v.call(ctx, name, cmp.Or(a.OrderNo, a.RefundNo), method, target, body, &record, timeout)
	a.Exchange, a.Reason = x, reason
	switch {
	case reason.Kind != "":
	case no.Code != "":
		verdict, why := judge(codes, no.Code, no.Message)
		verdict.onRefund(&a, why)
	default:
		v.readRefund(&a, &record)
	}
	return a
}

// QueryRefund asks by our refund number, the only one that v3 takes.
func (v *V3) QueryRefund(ctx context.Context, r channels.RefundRequest) channels.RefundAnswer {
	a := channels.RefundAnswer{Outcome: unknown, OrderNo: r.OrderNo, RefundNo: r.RefundNo}
	if r.RefundNo == "" {
		a.Reason = broken("WeChat Pay v3 is asked by out_refund_no")
		return a
	}
	target := "/v3/refund/domestic/refunds/" + url.PathEscape(r.RefundNo)
	if v.cfg.SubMerchantNo != "" {
		target += "?sub_mchid=" + url.QueryEscape(v.cfg.SubMerchantNo)
	}
	return v.refundCall(ctx, a, "v3/refund/query", http.MethodGet, target, nil, refundQueryCodes, QueryTimeout)
}

// ApplyAbnormalRefund implements channels.AbnormalGateway. From the merchant's bank
// account the money goes to the patient by another route (J39). The channel's other
// form, to a card of the payer (USER_BANK_CARD), would need a name and a card number:
// we tell no channel either of them.
func (v *V3) ApplyAbnormalRefund(ctx context.Context, r channels.RefundRequest) channels.RefundAnswer {
	a := channels.RefundAnswer{Outcome: failed, OrderNo: r.OrderNo, RefundNo: r.RefundNo}
	if r.RefundID == "" || r.RefundNo == "" {
		a.Reason = broken("an abnormal refund is named by refund_id and out_refund_no")
		return a
	}
	a.Outcome = unknown
	body := struct {
		SubMchID    string `json:"sub_mchid,omitempty"`
		OutRefundNo string `json:"out_refund_no"`
		Type        string `json:"type"`
	}{v.cfg.SubMerchantNo, r.RefundNo, "MERCHANT_BANK_CARD"}
	a = v.refundCall(ctx, a, "v3/refund/apply-abnormal", http.MethodPost, "/v3/refund/domestic/refunds/"+url.PathEscape(r.RefundID)+"/apply-abnormal-refund", body, abnormalCodes, RefundTimeout)
	switch {
	case a.Outcome == unknown && neverLeft(a.Reason):
		a.Outcome = failed
	case a.Outcome == channels.OutcomePending && a.Abnormal, a.Closed:
		a.Outcome = unknown // the refund as it was: whether the application was taken a query tells
	}
	return a
}

// ParseNotice verifies and decrypts a notice of a payment or refund.
func (v *V3) ParseNotice(header http.Header, body []byte) (channels.Notice, error) {
	ctx, cancel := context.WithTimeout(context.Background(), QueryTimeout)
	defer cancel()
	err := v.verify(ctx, header, body)
	var n channels.Notice
	if err == nil {
		n, err = v.notice(body)
	}
	if err != nil {
		return channels.Notice{}, fmt.Errorf("%w: %w", channels.ErrNotice, err)
	}
	return n, nil
}

// notice reads the body of a notice whose signature is right.
func (v *V3) notice(body []byte) (channels.Notice, error) {
	var envelope struct {
		ID        string   `json:"id"`
		EventType string   `json:"event_type"`
		Resource  Resource `json:"resource"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return channels.Notice{}, err
	}
	plain, err := envelope.Resource.Open(v.cfg.V3Key)
	if err != nil {
		return channels.Notice{}, err
	}
	n := channels.Notice{ID: envelope.ID, MerchantNo: v.cfg.MerchantNo, Body: Mask(string(plain))}
	switch envelope.EventType {
	case "TRANSACTION.SUCCESS":
		var t transaction
		if err := json.Unmarshal(plain, &t); err != nil {
			return n, err
		}
		if t.owner != v.owner() {
			return n, fmt.Errorf("%w: it is for %+v", channels.ErrForeign, t.owner)
		}
		n.Kind = channels.NoticePayment
		v.read(&n.Payment, &t)
		if n.Payment.OrderNo == "" {
			return n, fmt.Errorf("it names no order")
		}
	case "REFUND.SUCCESS", "REFUND.ABNORMAL", "REFUND.CLOSED":
		var r refundRecord
		if err := json.Unmarshal(plain, &r); err != nil {
			return n, err
		}
		mine := v.owner()
		mine.AppID, mine.SpAppID, r.AppID, r.SpAppID = "", "", "", ""
		if r.owner != mine {
			return n, fmt.Errorf("%w: it is for %+v", channels.ErrForeign, r.owner)
		}
		n.Kind = channels.NoticeRefund
		v.readRefund(&n.Refund, &r)
		if n.Refund.RefundNo == "" {
			return n, fmt.Errorf("it names no refund or no amount")
		}
	default:
		return n, fmt.Errorf("the event %q is not one of ours", envelope.EventType)
	}
	return n, nil
}

// NoticeReply is 204 where the notice was taken; else the channel sends again.
func (v *V3) NoticeReply(err error) channels.NoticeReply {
	if err == nil {
		return channels.NoticeReply{Status: http.StatusNoContent}
	}
	return channels.NoticeReply{Status: http.StatusInternalServerError, ContentType: "application/json", Body: `{"code":"FAIL","message":"not taken"}`}
}
