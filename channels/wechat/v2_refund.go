package wechat

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Refund asks for a refund (W04). SUCCESS says that it was accepted.
func (v *V2) Refund(ctx context.Context, r channels.RefundRequest) channels.RefundAnswer {
	a := channels.RefundAnswer{Outcome: failed, OrderNo: r.OrderNo, RefundNo: r.RefundNo, Reason: checkRefund(r)}
	if a.Reason.Kind != "" {
		return a
	}
	a.Outcome = unknown
	m := Message{
		"out_refund_no": r.RefundNo, "total_fee": strconv.FormatInt(int64(r.Total), 10),
		"refund_fee": strconv.FormatInt(int64(r.Amount), 10), "refund_desc": string(r.Cause),
	}
	if r.TradeNo != "" {
		m["transaction_id"] = r.TradeNo
	} else {
		m["out_trade_no"] = r.OrderNo
	}
	if v.cfg.RefundNotifyURL != "" {
		m["notify_url"] = v.cfg.RefundNotifyURL
	}
	m, a.Exchange, a.Reason = v.call(ctx, "/secapi/pay/refund", cmp.Or(r.OrderNo, r.TradeNo), m, RefundTimeout)
	switch {
	case m == nil:
		a.Retry = neverLeft(a.Reason)
	case m["result_code"] != "SUCCESS":
		verdict, why := judge(refundCodes, m["err_code"], m["err_code_des"])
		verdict.onRefund(&a, why)
	case m["out_refund_no"] != r.RefundNo || m["refund_id"] == "" || (r.OrderNo != "" && m["out_trade_no"] != r.OrderNo):
		unreadable(&a.Outcome, &a.Reason)
	default:
		v.refunded(&a, m, "")
		if a.Reason.Kind == "" {
			a.Outcome = channels.OutcomePending
		}
	}
	return a
}

// refunded reads the numbers and amounts of a refund; suffix is "" or "_0".
func (v *V2) refunded(a *channels.RefundAnswer, m Message, suffix string) {
	amount, ok := fenOf(m["refund_fee"+suffix])
	if !ok || amount == 0 {
		unreadable(&a.Outcome, &a.Reason)
		return
	}
	a.OrderNo, a.TradeNo = m["out_trade_no"], m["transaction_id"]
	a.RefundNo, a.RefundID = m["out_refund_no"+suffix], m["refund_id"+suffix]
	a.Amount, a.Settle = amount, amount
	if settle, ok := fenOf(m["settlement_refund_fee"+suffix]); ok {
		a.Settle = settle
	}
	a.PaidTo = paidTo(m["refund_recv_accout"+suffix]) // the channel's own spelling
}

// maxPage is how many refunds of one order an answer shows.
const maxPage = 10

// QueryRefund asks by the best number there is: refund_id, out_refund_no,
// transaction_id, out_trade_no (W05). Asked by a number of the payment, the answer
// is that of its only refund, else Unknown.
func (v *V2) QueryRefund(ctx context.Context, r channels.RefundRequest) channels.RefundAnswer {
	a := channels.RefundAnswer{Outcome: unknown, OrderNo: r.OrderNo, RefundNo: r.RefundNo}
	var by, number string
	for _, n := range [...][2]string{{"refund_id", r.RefundID}, {"out_refund_no", r.RefundNo}, {"transaction_id", r.TradeNo}, {"out_trade_no", r.OrderNo}} {
		if n[1] != "" {
			by, number = n[0], n[1]
			break
		}
	}
	if number == "" {
		a.Reason = broken("no number to ask by")
		return a
	}
	m, x, reason := v.call(ctx, "/pay/refundquery", cmp.Or(r.OrderNo, number), Message{by: number}, QueryTimeout)
	a.Exchange, a.Reason = x, reason
	switch {
	case m == nil:
	case m["result_code"] != "SUCCESS":
		verdict, why := judge(refundQueryCodes, m["err_code"], m["err_code_des"])
		verdict.onRefund(&a, why)
	default:
		v.pick(&a, m, r)
	}
	return a
}

// pick finds the refund that was asked for among those of an answer.
func (v *V2) pick(a *channels.RefundAnswer, m Message, r channels.RefundRequest) {
	suffix, matches := "", 0
	for i := range maxPage {
		s := "_" + strconv.Itoa(i)
		no, id := m["out_refund_no"+s], m["refund_id"+s]
		if id != "" && (r.RefundNo == "" || no == r.RefundNo) && (r.RefundID == "" || id == r.RefundID) {
			suffix, matches = s, matches+1
		}
	}
	if matches != 1 {
		unreadable(&a.Outcome, &a.Reason)
		a.Reason.Text = fmt.Sprintf("the answer holds %d refunds that may be the one asked for", matches)
		return
	}
	refundState(a, m["refund_status"+suffix])
	v.refunded(a, m, suffix)
	a.SuccessAt = refundTime(m["refund_success_time"+suffix])
}

// refundTime reads a time of refunds; the channel may leave it out.
func refundTime(text string) time.Time {
	at, err := time.ParseInLocation(time.DateTime, text, ledger.Beijing)
	if err != nil {
		return time.Time{}
	}
	return at
}

// ParseNotice reads a V2 notice: of a payment (signed), or of a refund (encrypted
// only, so it is marked Unsigned).
func (v *V2) ParseNotice(_ http.Header, body []byte) (channels.Notice, error) {
	m, err := ParseXML(body)
	if err != nil {
		return channels.Notice{}, fmt.Errorf("%w: %w", channels.ErrNotice, err)
	}
	if m["return_code"] != "SUCCESS" {
		return channels.Notice{}, fmt.Errorf("%w: return_code is %q", channels.ErrNotice, m["return_code"])
	}
	if m["req_info"] != "" {
		return v.refundNotice(m)
	}
	if err = m.Verify(v.cfg.SignType, v.cfg.Key); err == nil {
		err = v.ours(m)
	}
	if err != nil {
		return channels.Notice{}, fmt.Errorf("%w: %w", channels.ErrNotice, err)
	}
	n := channels.Notice{ID: m["transaction_id"], MerchantNo: m["mch_id"], Kind: channels.NoticePayment, Body: Mask(string(body))}
	n.Payment.Outcome, n.Payment.OrderNo = unknown, m["out_trade_no"]
	if m["result_code"] == "SUCCESS" {
		v.paid(&n.Payment, m)
	} else {
		n.Payment.Reason = channels.Reason{Kind: channels.ReasonSystem, Code: m["err_code"], Text: m["err_code_des"]}
	}
	if n.Payment.OrderNo == "" {
		return channels.Notice{}, fmt.Errorf("%w: it names no order", channels.ErrNotice)
	}
	return n, nil
}

func (v *V2) refundNotice(m Message) (channels.Notice, error) {
	if err := v.ours(m); err != nil {
		return channels.Notice{}, fmt.Errorf("%w: %w", channels.ErrNotice, err)
	}
	plain, err := OpenRefund(m["req_info"], v.cfg.Key)
	if err != nil {
		return channels.Notice{}, fmt.Errorf("%w: %w", channels.ErrNotice, err)
	}
	info, err := ParseXML(plain)
	if err != nil {
		return channels.Notice{}, fmt.Errorf("%w: %w", channels.ErrNotice, err)
	}
	n := channels.Notice{ID: info["refund_id"], MerchantNo: m["mch_id"], Kind: channels.NoticeRefund, Unsigned: true, Body: Mask(string(plain))}
	if info["out_refund_no"] == "" || info["out_trade_no"] == "" {
		return channels.Notice{}, fmt.Errorf("%w: it names no refund", channels.ErrNotice)
	}
	n.Refund.OrderNo, n.Refund.RefundNo = info["out_trade_no"], info["out_refund_no"]
	refundState(&n.Refund, info["refund_status"])
	v.refunded(&n.Refund, info, "")
	n.Refund.SuccessAt = refundTime(info["success_time"])
	return n, nil
}

// NoticeReply is the channel's own form: anything but SUCCESS makes it send again.
func (v *V2) NoticeReply(err error) channels.NoticeReply {
	m := Message{"return_code": "SUCCESS", "return_msg": "OK"}
	if err != nil {
		m = Message{"return_code": "FAIL", "return_msg": "not taken"}
	}
	return channels.NoticeReply{Status: http.StatusOK, ContentType: "text/xml; charset=utf-8", Body: string(m.XML())}
}
