package wechat

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// V3 is a merchant number over the JSON interface (spec/channels.md C). Code
// payments and reversals are V2's.
type V3 struct {
	client
	key      *rsa.PrivateKey
	platform *platformKeys
}

// NewV3 returns a gateway over v3; ErrConfig says what is missing.
func NewV3(cfg Config) (*V3, error) {
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	if len(cfg.V3Key) != 32 || cfg.SerialNo == "" {
		return nil, fmt.Errorf("%w: the APIv3 key has 32 characters, and the merchant's certificate a serial number", ErrConfig)
	}
	v := &V3{client: c, platform: &platformKeys{publicID: cfg.PublicKeyID, now: cfg.Now}}
	if v.key, err = ParsePrivateKey(cfg.PrivateKey); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if cfg.PublicKeyID != "" {
		if v.platform.public, err = ParsePublicKey(cfg.PublicKey); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	v.platform.fetch = v.certificates
	return v, nil
}

// request signs a call. target is path and query; body is nil for GET.
func (v *V3) request(ctx context.Context, name, method, target string, body []byte, timeout time.Duration) (channels.Call, error) {
	r, err := http.NewRequestWithContext(ctx, method, v.cfg.BaseURL+target, bytes.NewReader(body))
	if err != nil {
		return channels.Call{}, err
	}
	if r.URL.RequestURI() != target {
		return channels.Call{}, fmt.Errorf("%q would be sent as %q", target, r.URL.RequestURI())
	}
	a := Authorization{MerchantNo: v.cfg.MerchantNo, Nonce: nonce(), Timestamp: strconv.FormatInt(v.cfg.Now().Unix(), 10), SerialNo: v.cfg.SerialNo}
	if a.Signature, err = SignSHA256(v.key, RequestMessage(method, target, a.Timestamp, a.Nonce, body)); err != nil {
		return channels.Call{}, err
	}
	r.Header.Set("Authorization", a.String())
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "clearward")
	if v.cfg.PublicKeyID != "" {
		r.Header.Set(HeaderSerial, v.cfg.PublicKeyID)
	}
	return channels.Call{Name: name, Request: r, Timeout: timeout, Mask: Mask, Sent: method + " " + target + "\n" + string(body)}, nil
}

// refusal is the body of an answer that is not 2xx.
type refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// call sends body, which is about an order, as JSON and reads the verified answer into into. An answer other
// than 2xx gives its code, where it is signed; without a usable answer only the
// reason is set, and the outcome is Unknown.
func (v *V3) call(ctx context.Context, name, about, method, target string, body, into any, timeout time.Duration) (refusal, *channels.Exchange, channels.Reason) {
	var text []byte
	var err error
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return refusal{}, nil, broken("%v", err)
		}
	}
	c, err := v.request(ctx, name, method, target, text, timeout)
	if err != nil {
		return refusal{}, nil, broken("%v", err)
	}
	c.About = about
	answer, text, x, err := v.wire.Do(ctx, c)
	if err != nil {
		return refusal{}, x, unsent(err)
	}
	if err := v.verify(ctx, answer.Header, text); err != nil {
		x.Fault = err.Error()
		reason := channels.Reason{Kind: channels.ReasonSignature, Code: strconv.Itoa(answer.StatusCode), Text: err.Error()}
		if answer.StatusCode/100 != 2 {
			reason.Kind = channels.ReasonNetwork
		}
		return refusal{}, x, reason
	}
	var no refusal
	if answer.StatusCode/100 != 2 {
		into = &no
	}
	if into != nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil || (answer.StatusCode/100 != 2 && no.Code == "") {
		x.Fault = "the answer is not the JSON it should be"
		return refusal{}, x, channels.Reason{Kind: channels.ReasonNetwork, Code: strconv.Itoa(answer.StatusCode), Text: x.Fault}
	}
	return no, x, channels.Reason{}
}

// verify checks time, key and signature of an answer or notice.
func (v *V3) verify(ctx context.Context, h http.Header, body []byte) error {
	if err := CheckClock(h.Get(HeaderTimestamp), v.cfg.Now()); err != nil {
		return err
	}
	key, err := v.platform.find(ctx, h.Get(HeaderSerial))
	if err != nil {
		return err
	}
	return VerifySHA256(key, AnswerMessage(h.Get(HeaderTimestamp), h.Get(HeaderNonce), body), h.Get(HeaderSignature))
}

// certificates downloads the platform certificates. The answer is signed with one
// of them; that they are WeChat Pay's says the APIv3 key they are encrypted under.
func (v *V3) certificates(ctx context.Context) ([]*x509.Certificate, error) {
	c, err := v.request(ctx, "v3/certificates", http.MethodGet, "/v3/certificates", nil, QueryTimeout)
	if err != nil {
		return nil, err
	}
	answer, text, _, err := v.wire.Do(ctx, c)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: the answer's status is %d", channels.ErrNoAnswer, answer.StatusCode)
	}
	list, err := OpenCertificates(text, v.cfg.V3Key)
	if err != nil {
		return nil, err
	}
	once := &platformKeys{publicID: v.platform.publicID, public: v.platform.public, now: v.cfg.Now}
	once.take(list, v.cfg.Now())
	once.asked = v.cfg.Now() // what it holds is all there is
	check := &V3{client: v.client, platform: once}
	return list, check.verify(ctx, answer.Header, text)
}

// base is the path of payments, whose the query that says for whom (A16).
func (v *V3) base() string {
	if v.cfg.SubMerchantNo != "" {
		return "/v3/pay/partner/transactions"
	}
	return "/v3/pay/transactions"
}

func (v *V3) whose() string {
	if v.cfg.SubMerchantNo != "" {
		return url.Values{"sp_mchid": {v.cfg.MerchantNo}, "sub_mchid": {v.cfg.SubMerchantNo}}.Encode()
	}
	return url.Values{"mchid": {v.cfg.MerchantNo}}.Encode()
}

// owner names the merchant in a body: mchid and appid, or sp_… and sub_mchid.
type owner struct {
	AppID    string `json:"appid,omitempty"`
	MchID    string `json:"mchid,omitempty"`
	SpAppID  string `json:"sp_appid,omitempty"`
	SpMchID  string `json:"sp_mchid,omitempty"`
	SubMchID string `json:"sub_mchid,omitempty"`
}

func (v *V3) owner() owner {
	if v.cfg.SubMerchantNo != "" {
		return owner{SpAppID: v.cfg.AppID, SpMchID: v.cfg.MerchantNo, SubMchID: v.cfg.SubMerchantNo}
	}
	return owner{AppID: v.cfg.AppID, MchID: v.cfg.MerchantNo}
}

type amount struct {
	Total    int64  `json:"total"`
	Refund   int64  `json:"refund,omitempty"`
	Settle   *int64 `json:"settlement_refund,omitempty"`
	Currency string `json:"currency"`
}

type order struct {
	owner
	Description string            `json:"description"`
	OutTradeNo  string            `json:"out_trade_no"`
	TimeExpire  string            `json:"time_expire,omitempty"`
	NotifyURL   string            `json:"notify_url"`
	Amount      amount            `json:"amount"`
	Payer       map[string]string `json:"payer,omitempty"`
	Scene       *scene            `json:"scene_info,omitempty"`
}

type scene struct {
	ClientIP string            `json:"payer_client_ip"`
	Device   string            `json:"device_id,omitempty"`
	H5       map[string]string `json:"h5_info,omitempty"`
}

// Pay makes an order that the payer then pays: JSAPI, native, app or H5.
func (v *V3) Pay(ctx context.Context, r channels.PayRequest) channels.PayAnswer {
	a := channels.PayAnswer{Outcome: failed, OrderNo: r.OrderNo}
	path := map[channels.Way]string{channels.WayJSAPI: "jsapi", channels.WayQR: "native", channels.WayApp: "app", channels.WayH5: "h5"}[r.Way]
	switch a.Reason = checkPay(r, 6); {
	case a.Reason.Kind != "":
		return a
	case path == "":
		a.Reason = broken("WeChat Pay v3 has no way %s", r.Way)
		return a
	case v.cfg.NotifyURL == "":
		a.Reason = broken("notify_url is missing")
		return a
	}
	var answer struct {
		PrepayID string `json:"prepay_id"`
		CodeURL  string `json:"code_url"`
		H5URL    string `json:"h5_url"`
	}
	no, x, reason := v.call(ctx, "v3/pay/"+path, r.OrderNo, http.MethodPost, v.base()+"/"+path, v.order(r), &answer, PrepayTimeout)
	a.Exchange, a.Reason = x, reason
	switch {
	case reason.Kind != "" && neverLeft(reason):
	case reason.Kind != "":
		a.Outcome = unknown
	case no.Code != "":
		verdict, why := judge(payCodes, no.Code, no.Message)
		verdict.onPay(&a, why)
	default:
		a.Outcome = channels.OutcomePending
		a.Prepay = channels.Prepay{Code: answer.CodeURL, URL: answer.H5URL}
		if err := v.bring(&a.Prepay, r.Way, answer.PrepayID); err != nil {
			a.Outcome, a.Reason = unknown, channels.Reason{Kind: channels.ReasonNetwork, Text: err.Error()}
		}
	}
	return a
}

func (v *V3) order(r channels.PayRequest) order {
	o := order{owner: v.owner(), Description: string(r.Subject), OutTradeNo: r.OrderNo, NotifyURL: v.cfg.NotifyURL,
		Amount: amount{Total: int64(r.Amount), Currency: "CNY"}}
	if !r.ExpireAt.IsZero() {
		o.TimeExpire = r.ExpireAt.In(ledger.Beijing).Format(time.RFC3339)
	}
	if r.ClientIP != "" {
		o.Scene = &scene{ClientIP: r.ClientIP, Device: r.Terminal}
	}
	switch {
	case r.Way == channels.WayH5:
		o.Scene.H5 = map[string]string{"type": "Wap"}
	case r.Way == channels.WayJSAPI && v.cfg.SubMerchantNo != "":
		o.Payer = map[string]string{"sp_openid": r.Payer}
	case r.Way == channels.WayJSAPI:
		o.Payer = map[string]string{"openid": r.Payer}
	}
	return o
}

// bring signs what the payer's device hands on, and refuses an answer without it.
func (v *V3) bring(p *channels.Prepay, way channels.Way, prepayID string) error {
	at, once := strconv.FormatInt(v.cfg.Now().Unix(), 10), nonce()
	var err error
	var signature string
	switch {
	case way == channels.WayJSAPI && prepayID != "":
		signature, err = SignSHA256(v.key, JSAPIMessage(v.cfg.AppID, at, once, prepayID))
		p.Bring = map[string]string{"appId": v.cfg.AppID, "timeStamp": at, "nonceStr": once, "package": "prepay_id=" + prepayID, "signType": "RSA", "paySign": signature}
	case way == channels.WayApp && prepayID != "":
		signature, err = SignSHA256(v.key, AppMessage(v.cfg.AppID, at, once, prepayID))
		p.Bring = map[string]string{"appid": v.cfg.AppID, "partnerid": v.cfg.MerchantNo, "prepayid": prepayID, "package": "Sign=WXPay", "noncestr": once, "timestamp": at, "sign": signature}
	case way == channels.WayQR && p.Code != "", way == channels.WayH5 && p.URL != "":
	default:
		err = fmt.Errorf("the answer has nothing for the way %s", way)
	}
	return err
}

// Query asks for a payment by our number.
func (v *V3) Query(ctx context.Context, orderNo string) channels.PayAnswer {
	a := channels.PayAnswer{Outcome: unknown, OrderNo: orderNo}
	var t transaction
	no, x, reason := v.call(ctx, "v3/pay/query", orderNo, http.MethodGet, v.base()+"/out-trade-no/"+url.PathEscape(orderNo)+"?"+v.whose(), nil, &t, QueryTimeout)
	a.Exchange, a.Reason = x, reason
	switch {
	case reason.Kind != "":
	case no.Code != "":
		verdict, why := judge(queryCodes, no.Code, no.Message)
		verdict.onPay(&a, why)
	default:
		v.read(&a, &t)
	}
	return a
}

// Close ends an order that is not paid; 204 says that it is done.
func (v *V3) Close(ctx context.Context, orderNo string) channels.PayAnswer {
	a := channels.PayAnswer{Outcome: unknown, OrderNo: orderNo}
	o := v.owner()
	o.AppID, o.SpAppID = "", ""
	no, x, reason := v.call(ctx, "v3/pay/close", orderNo, http.MethodPost, v.base()+"/out-trade-no/"+url.PathEscape(orderNo)+"/close", o, nil, QueryTimeout)
	a.Exchange, a.Reason = x, reason
	switch {
	case reason.Kind != "":
	case no.Code != "":
		verdict, why := judge(closeCodes, no.Code, no.Message)
		verdict.onPay(&a, why)
	default:
		a.Outcome, a.Closed, a.Reason = failed, true, channels.Reason{Kind: channels.ReasonClosed}
	}
	return a
}

// Reverse is not a call of v3: its orders are closed.
func (v *V3) Reverse(_ context.Context, orderNo string) channels.PayAnswer {
	return channels.PayAnswer{Outcome: unknown, OrderNo: orderNo, Reason: broken("WeChat Pay v3 has no reversal: code payments are V2's, other orders are closed")}
}
