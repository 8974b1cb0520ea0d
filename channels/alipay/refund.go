package alipay

import (
	"context"

	"github.com/clearward/clearward/channels"
)

type refundContent struct {
	OrderNo  string   `json:"out_trade_no"`
	TradeNo  string   `json:"trade_no,omitempty"`
	Amount   string   `json:"refund_amount,omitempty"`
	RefundNo string   `json:"out_request_no"`
	Cause    string   `json:"refund_reason,omitempty"`
	Options  []string `json:"query_options,omitempty"`
}

// Refund asks for a refund. Only fund_change=Y says that this call refunded; code
// 10000 without it is Unknown, and QueryRefund tells (spec/channels.md D.5).
func (g *Client) Refund(ctx context.Context, r channels.RefundRequest) channels.RefundAnswer {
	if !orderNo.MatchString(r.OrderNo) || !orderNo.MatchString(r.RefundNo) || r.Amount < minAmount || r.Amount > r.Total {
		return channels.RefundAnswer{Outcome: channels.OutcomeFailed, OrderNo: r.OrderNo, RefundNo: r.RefundNo, Reason: channels.Reason{
			Kind: channels.ReasonRequest, Text: "out_trade_no and out_request_no are 1 to 64 letters, digits and _, refund_amount 0.01 yuan to the amount paid"}}
	}
	w := g.call(ctx, methodRefund, r.OrderNo, refundContent{r.OrderNo, r.TradeNo, r.Amount.String(), r.RefundNo, string(r.Cause), []string{"refund_detail_item_list"}}, refundTimeout)
	a := startRefund(w, r, refundCodes)
	if a.Outcome != channels.OutcomeSucceeded {
		return a
	}
	all, err := yuan(w.RefundFee) // of the whole trade so far
	switch {
	case w.FundChange != "Y":
		a.Outcome, a.Reason.Text = channels.OutcomeUnknown, "fund_change is not Y: refunded before, or not yet"
	case err != nil || w.OrderNo == "" || w.RefundFee != "" && (all < r.Amount || all > r.Total):
		return differsRefund(a, "refund_fee does not hold this refund, or out_trade_no is missing")
	default:
		a.Amount, a.SuccessAt = r.Amount, at(w.RefundedAt)
		return sentBack(a, w)
	}
	return a
}

// QueryRefund asks how a refund stands. An unknown number is answered with 10000
// and nothing more: Absent.
func (g *Client) QueryRefund(ctx context.Context, r channels.RefundRequest) channels.RefundAnswer {
	w := g.call(ctx, methodRefundQuery, r.OrderNo, refundContent{OrderNo: r.OrderNo, TradeNo: r.TradeNo, RefundNo: r.RefundNo, Options: []string{"gmt_refund_pay", "refund_detail_item_list"}}, queryTimeout)
	a := startRefund(w, r, askCodes)
	if a.Outcome != channels.OutcomeSucceeded {
		return a
	}
	said, err := yuan(w.RefundAmount)
	switch {
	case w.RefundStatus == "" && w.RefundAmount == "" && w.RefundNo == "":
		a.Outcome, a.Absent, a.Reason = channels.OutcomeUnknown, true, channels.Reason{Kind: channels.ReasonNotFound, Text: "the answer names no refund"}
	case err != nil || w.RefundNo != r.RefundNo || w.OrderNo == "" || w.RefundAmount != "" && said != r.Amount:
		return differsRefund(a, "out_trade_no, out_request_no or refund_amount is another")
	case w.RefundStatus == "REFUND_SUCCESS" && w.RefundAmount != "":
		a.Amount, a.SuccessAt = said, at(w.RefundedAt)
		return sentBack(a, w)
	case w.RefundStatus == "":
		a.Outcome, a.Amount = channels.OutcomePending, said
	default:
		a.Outcome, a.Reason = channels.OutcomeUnknown, channels.Reason{Kind: channels.ReasonSystem, Code: w.RefundStatus}
	}
	return a
}

// startRefund reads what every answer about a refund has. Succeeded says no more
// than that the call ended with 10000.
func startRefund(w *reply, r channels.RefundRequest, table codes) channels.RefundAnswer {
	a := channels.RefundAnswer{Outcome: channels.OutcomeUnknown, OrderNo: r.OrderNo, RefundNo: r.RefundNo, Exchange: w.exchange, Reason: w.fault}
	switch {
	case w.fault.Kind != channels.ReasonNone:
	case w.OrderNo != "" && w.OrderNo != r.OrderNo:
		return differsRefund(a, "the answer is about another order")
	case w.Code != "10000":
		m := table.mean(w)
		a.Outcome, a.Retry, a.Absent, a.Reason = m.outcome, m.retry, m.absent, w.reason(m.kind)
		if m.outcome == channels.OutcomePending { // 10003 is no word about a refund
			a.Outcome = channels.OutcomeUnknown
		}
	default:
		a.Outcome, a.TradeNo = channels.OutcomeSucceeded, w.TradeNo
	}
	return a
}

// sentBack takes over send_back_fee, what this refund took from the merchant.
func sentBack(a channels.RefundAnswer, w *reply) channels.RefundAnswer {
	settle, err := yuan(w.SendBack)
	if err != nil || settle < 0 || settle > a.Amount {
		return differsRefund(a, "send_back_fee is more than the refund")
	}
	a.Settle = settle
	return a
}

func differsRefund(a channels.RefundAnswer, text string) channels.RefundAnswer {
	a.Outcome, a.Amount, a.Reason = channels.OutcomeUnknown, 0, channels.Reason{Kind: channels.ReasonDiffers, Text: text}
	return a
}
