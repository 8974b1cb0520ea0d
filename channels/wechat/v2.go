package wechat

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// V2 is a merchant number over the XML interface (spec/channels.md A).
type V2 struct{ client }

// NewV2 returns a gateway over V2; ErrConfig says what is missing.
func NewV2(cfg Config) (*V2, error) {
	if cfg.SignType == "" {
		cfg.SignType = SignHMAC
	}
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	if len(cfg.Key) != 32 || (cfg.SignType != SignHMAC && cfg.SignType != SignMD5) {
		return nil, fmt.Errorf("%w: the API key has 32 characters, the sign type is MD5 or HMAC-SHA256", ErrConfig)
	}
	if c.cfg.BaseURL == Host && cfg.Certificate == nil {
		return nil, fmt.Errorf("%w: reversals and refunds need the merchant's certificate", ErrConfig)
	}
	return &V2{c}, nil
}

// request signs a message and makes the call of it.
func (v *V2) request(ctx context.Context, path string, m Message, kind SignType, timeout time.Duration) (channels.Call, error) {
	m["appid"], m["mch_id"], m["nonce_str"], m["sign_type"] = v.cfg.AppID, v.cfg.MerchantNo, nonce(), string(kind)
	if v.cfg.SubMerchantNo != "" {
		m["sub_mch_id"] = v.cfg.SubMerchantNo
	}
	m["sign"] = m.Sign(kind, v.cfg.Key)
	body := m.XML()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, v.cfg.BaseURL+path, bytes.NewReader(body))
	if err != nil {
		return channels.Call{}, err
	}
	r.Header.Set("Content-Type", "text/xml; charset=utf-8")
	return channels.Call{Name: strings.TrimPrefix(path, "/"), Request: r, Timeout: timeout, Mask: Mask, Sent: string(body)}, nil
}

// call sends a message about an order and returns the answer, verified and for this merchant
// number. Without a usable answer it is nil and the reason says why: the outcome
// is Unknown then.
func (v *V2) call(ctx context.Context, path, about string, m Message, timeout time.Duration) (Message, *channels.Exchange, channels.Reason) {
	c, err := v.request(ctx, path, m, v.cfg.SignType, timeout)
	if err != nil {
		return nil, nil, broken("%v", err)
	}
	c.About = about
	answer, text, x, err := v.wire.Do(ctx, c)
	if err != nil {
		return nil, x, unsent(err)
	}
	m, r := v.answer(answer.StatusCode, text)
	if m == nil {
		x.Fault = r.Text
	}
	return m, x, r
}

func (v *V2) answer(status int, text []byte) (Message, channels.Reason) {
	if status != http.StatusOK {
		return nil, channels.Reason{Kind: channels.ReasonNetwork, Code: strconv.Itoa(status), Text: fmt.Sprintf("the answer's status is %d", status)}
	}
	m, err := ParseXML(text)
	if err != nil {
		return nil, channels.Reason{Kind: channels.ReasonNetwork, Text: err.Error()}
	}
	if m["return_code"] != "SUCCESS" { // without a signature by its nature
		kind := channels.ReasonSystem
		if said := m["return_msg"]; strings.Contains(said, "签名") || strings.Contains(said, "证书") || strings.Contains(strings.ToUpper(said), "SIGN") {
			kind = channels.ReasonSetup
		}
		return nil, channels.Reason{Kind: kind, Code: "return_code " + m["return_code"], Text: m["return_msg"]}
	}
	if err := m.Verify(v.cfg.SignType, v.cfg.Key); err != nil {
		return nil, channels.Reason{Kind: channels.ReasonSignature, Text: err.Error()}
	}
	if err := v.ours(m); err != nil {
		return nil, channels.Reason{Kind: channels.ReasonSignature, Text: err.Error()}
	}
	return m, channels.Reason{}
}

// ours refuses a message of another merchant number, app or mode (A16).
func (v *V2) ours(m Message) error {
	sub := m["sub_mch_id"]
	if sub == "0" {
		sub = ""
	}
	if m["mch_id"] != v.cfg.MerchantNo || sub != v.cfg.SubMerchantNo || m["appid"] != v.cfg.AppID {
		return fmt.Errorf("%w: it is of merchant number %q, sub-merchant %q and app %q", channels.ErrForeign, m["mch_id"], sub, m["appid"])
	}
	return nil
}

// Pay is micropay for WayCode, else unified order.
func (v *V2) Pay(ctx context.Context, r channels.PayRequest) channels.PayAnswer {
	a := channels.PayAnswer{Outcome: failed, OrderNo: r.OrderNo}
	tradeType := map[channels.Way]string{channels.WayJSAPI: "JSAPI", channels.WayQR: "NATIVE", channels.WayApp: "APP", channels.WayH5: "MWEB"}[r.Way]
	a.Reason = checkPay(r, 1)
	if a.Reason.Kind == "" && tradeType == "" && r.Way != channels.WayCode {
		a.Reason = broken("WeChat Pay V2 has no way %s", r.Way)
	}
	if a.Reason.Kind == "" && tradeType != "" && v.cfg.NotifyURL == "" {
		a.Reason = broken("notify_url is missing")
	}
	if a.Reason.Kind != "" {
		return a
	}
	m := v.order(r)
	path, timeout := "/pay/micropay", PayTimeout
	if tradeType != "" {
		path, timeout = "/pay/unifiedorder", PrepayTimeout
		m["trade_type"], m["notify_url"] = tradeType, v.cfg.NotifyURL
	}
	answer, x, reason := v.call(ctx, path, r.OrderNo, m, timeout)
	a.Exchange, a.Reason = x, reason
	switch {
	case answer == nil && neverLeft(reason):
	case answer == nil:
		a.Outcome = unknown
	case answer["result_code"] != "SUCCESS":
		verdict, why := judge(payCodes, answer["err_code"], answer["err_code_des"])
		verdict.onPay(&a, why)
	case tradeType == "":
		v.paid(&a, answer)
	default:
		v.prepaid(&a, r.Way, answer)
	}
	return a
}

// order is what both kinds of orders have in common. attach, detail and goods are
// never sent: nothing about the patient leaves (spec/regulation-and-volumes.md L7).
func (v *V2) order(r channels.PayRequest) Message {
	m := Message{
		"body": string(r.Subject), "out_trade_no": r.OrderNo, "total_fee": strconv.FormatInt(int64(r.Amount), 10),
		"spbill_create_ip": r.ClientIP, "device_info": r.Terminal,
	}
	if !r.ExpireAt.IsZero() {
		m["time_expire"] = r.ExpireAt.In(ledger.Beijing).Format(timeV2)
	}
	switch r.Way {
	case channels.WayCode:
		m["auth_code"] = r.AuthCode
	case channels.WayJSAPI:
		m["openid"] = r.Payer
	case channels.WayQR:
		m["product_id"] = r.OrderNo
	case channels.WayH5:
		m["scene_info"] = `{"h5_info":{"type":"Wap"}}`
	}
	if m["spbill_create_ip"] == "" {
		m["spbill_create_ip"] = "127.0.0.1" // an order made by the server; the payer's is asked for only by H5
	}
	for name, value := range m {
		if value == "" {
			delete(m, name)
		}
	}
	return m
}

const timeV2 = "20060102150405"

// paid reads the payment of a message that says it succeeded; one that does not say
// which order or how much is Unknown.
func (v *V2) paid(a *channels.PayAnswer, m Message) {
	amount, ok := fenOf(m["total_fee"])
	at, err := time.ParseInLocation(timeV2, m["time_end"], ledger.Beijing)
	if !ok || amount == 0 || err != nil || m["transaction_id"] == "" || (a.OrderNo != "" && m["out_trade_no"] != a.OrderNo) || (m["fee_type"] != "" && m["fee_type"] != "CNY") {
		unreadable(&a.Outcome, &a.Reason)
		return
	}
	a.Outcome, a.Reason = channels.OutcomeSucceeded, channels.Reason{}
	a.OrderNo, a.TradeNo, a.Amount, a.Settle, a.SuccessAt = m["out_trade_no"], m["transaction_id"], amount, amount, at
	if settle, ok := fenOf(m["settlement_total_fee"]); ok {
		a.Settle = settle
	}
}

func unreadable(outcome *channels.Outcome, reason *channels.Reason) {
	*outcome = unknown
	*reason = channels.Reason{Kind: channels.ReasonNetwork, Text: "the answer lacks order number, amount or time, or they are another's"}
}

func (v *V2) prepaid(a *channels.PayAnswer, way channels.Way, m Message) {
	a.Outcome = channels.OutcomePending
	at := v.cfg.Now().Unix()
	switch way {
	case channels.WayQR:
		a.Prepay.Code = m["code_url"]
	case channels.WayH5:
		a.Prepay.URL = m["mweb_url"]
	case channels.WayJSAPI:
		a.Prepay.Bring = BringJSAPI(v.cfg.AppID, m["prepay_id"], nonce(), at, v.cfg.SignType, v.cfg.Key)
	case channels.WayApp:
		a.Prepay.Bring = BringApp(v.cfg.AppID, v.cfg.MerchantNo, m["prepay_id"], nonce(), at, v.cfg.SignType, v.cfg.Key)
	}
	if m["prepay_id"] == "" || (a.Prepay.Code == "" && a.Prepay.URL == "" && a.Prepay.Bring == nil) {
		a.Prepay = channels.Prepay{}
		unreadable(&a.Outcome, &a.Reason)
	}
}

// Query asks for a payment by our number (W02).
func (v *V2) Query(ctx context.Context, orderNo string) channels.PayAnswer {
	a := channels.PayAnswer{Outcome: unknown, OrderNo: orderNo}
	m, x, reason := v.call(ctx, "/pay/orderquery", orderNo, Message{"out_trade_no": orderNo}, QueryTimeout)
	a.Exchange, a.Reason = x, reason
	switch {
	case m == nil:
	case m["result_code"] != "SUCCESS":
		verdict, why := judge(queryCodes, m["err_code"], m["err_code_des"])
		verdict.onPay(&a, why)
	case m["out_trade_no"] != orderNo:
		unreadable(&a.Outcome, &a.Reason)
	default:
		tradeState(&a, m["trade_state"], m["trade_state_desc"])
		a.TradeNo = m["transaction_id"]
		if a.Outcome == channels.OutcomeSucceeded {
			v.paid(&a, m)
		}
	}
	return a
}

// Reverse is 撤销 (W03): it is called again while the channel says recall=Y or
// nothing that can be believed.
func (v *V2) Reverse(ctx context.Context, orderNo string) channels.PayAnswer {
	a := channels.PayAnswer{Outcome: unknown, OrderNo: orderNo, Again: true}
	m, x, reason := v.call(ctx, "/secapi/pay/reverse", orderNo, Message{"out_trade_no": orderNo}, ReverseTimeout)
	a.Exchange, a.Reason = x, reason
	switch {
	case m == nil:
	case m["result_code"] == "SUCCESS" && m["recall"] == "N":
		a.Outcome, a.Reversed, a.Again = failed, true, false
		a.Reason = channels.Reason{Kind: channels.ReasonClosed}
	case m["result_code"] == "SUCCESS":
		a.Reason = channels.Reason{Kind: channels.ReasonSystem, Text: "recall=" + m["recall"]}
	default:
		verdict, why := judge(reverseCodes, m["err_code"], m["err_code_des"])
		verdict.onPay(&a, why)
		a.Again = a.Again || m["recall"] == "Y"
	}
	return a
}

// Close ends an order that is not paid. A code payment is reversed instead.
func (v *V2) Close(ctx context.Context, orderNo string) channels.PayAnswer {
	a := channels.PayAnswer{Outcome: unknown, OrderNo: orderNo}
	m, x, reason := v.call(ctx, "/pay/closeorder", orderNo, Message{"out_trade_no": orderNo}, QueryTimeout)
	a.Exchange, a.Reason = x, reason
	switch {
	case m == nil:
	case m["result_code"] == "SUCCESS":
		a.Outcome, a.Closed, a.Reason = failed, true, channels.Reason{Kind: channels.ReasonClosed}
	default:
		verdict, why := judge(closeCodes, m["err_code"], m["err_code_des"])
		verdict.onPay(&a, why)
	}
	return a
}
