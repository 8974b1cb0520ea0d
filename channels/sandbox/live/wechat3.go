package live

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

// API v3 of WeChat Pay (spec/channels.md C): JSON, signed with RSA in both
// directions. It stands on the same books and address as V2, and on its work: a call
// is told to V2 in V2's words, and what V2 says is told in those of v3.

// v3Call is one v3 call under way.
type v3Call struct {
	call
	asked v3Body
}

// v3Body is what the bodies of v3 calls may hold.
type v3Body struct {
	AppID         string   `json:"appid"`
	MchID         string   `json:"mchid"`
	SpAppID       string   `json:"sp_appid"`
	SpMchID       string   `json:"sp_mchid"`
	SubMchID      string   `json:"sub_mchid"`
	Description   string   `json:"description"`
	OutTradeNo    string   `json:"out_trade_no"`
	TransactionID string   `json:"transaction_id"`
	OutRefundNo   string   `json:"out_refund_no"`
	TimeExpire    string   `json:"time_expire"`
	Attach        string   `json:"attach"`
	NotifyURL     string   `json:"notify_url"`
	Reason        string   `json:"reason"`
	Type          string   `json:"type"`
	Amount        v3Amount `json:"amount"`
	Payer         struct {
		OpenID   string `json:"openid"`
		SpOpenID string `json:"sp_openid"`
	} `json:"payer"`
	Scene struct {
		ClientIP string `json:"payer_client_ip"`
		DeviceID string `json:"device_id"`
	} `json:"scene_info"`
}

type v3Amount struct {
	Total    int64  `json:"total"`
	Refund   int64  `json:"refund"`
	Currency string `json:"currency"`
}

// v3Answer is status and body; nil is an empty body.
type v3Answer struct {
	status int
	body   any
}

// refusal is an answer that is not 2xx, its status by its code.
func refusal(code, text string) *v3Answer {
	status, listed := v3Status[code]
	if !listed {
		status = http.StatusBadRequest
	}
	return &v3Answer{status, node{"code": code, "message": text}}
}

var v3Status = map[string]int{
	"USERPAYING": http.StatusAccepted, "SIGN_ERROR": http.StatusUnauthorized, "NO_AUTH": http.StatusForbidden, "NOT_ENOUGH": http.StatusForbidden,
	"OUT_TRADE_NO_USED": http.StatusForbidden, "RULE_LIMIT": http.StatusForbidden, "TRADE_ERROR": http.StatusForbidden, "USER_ACCOUNT_ABNORMAL": http.StatusForbidden,
	"ORDER_NOT_EXIST": http.StatusNotFound, "RESOURCE_NOT_EXISTS": http.StatusNotFound,
	"FREQUENCY_LIMITED": http.StatusTooManyRequests, "RATELIMIT_EXCEEDED": http.StatusTooManyRequests,
	"SYSTEM_ERROR": http.StatusInternalServerError, "BANK_ERROR": http.StatusInternalServerError,
}

// v3Codes are V2's codes in the words of v3; one that is not listed breaks a rule
// of business, which v3 calls INVALID_REQUEST.
var v3Codes = map[string]string{
	"SYSTEMERROR": "SYSTEM_ERROR", "BANKERROR": "BANK_ERROR", "PARAM_ERROR": "PARAM_ERROR", "ORDERNOTEXIST": "ORDER_NOT_EXIST", "ORDERPAID": "ORDER_PAID",
	"ORDERCLOSED": "ORDER_CLOSED", "ORDERREVERSED": "ORDER_CLOSED", "OUT_TRADE_NO_USED": "OUT_TRADE_NO_USED", "NOTENOUGH": "NOT_ENOUGH",
	"REFUNDNOTEXIST": "RESOURCE_NOT_EXISTS",
}

func inV3(said out) *v3Answer {
	code := v3Codes[said["err_code"]]
	if code == "" {
		code = "INVALID_REQUEST"
	}
	return refusal(code, said["err_code_des"])
}

// v3Method is one path of v3. The work is done under the lock.
type v3Method struct {
	api  string // as faults name it
	work func(s *Server, c *v3Call, r *http.Request) *v3Answer
}

var v3Methods = map[string]v3Method{
	"POST /v3/pay/transactions/{way}":                             {"prepay", (*Server).v3Prepay},
	"POST /v3/pay/partner/transactions/{way}":                     {"prepay", (*Server).v3Prepay},
	"GET /v3/pay/transactions/out-trade-no/{no}":                  {"query", (*Server).v3Query},
	"GET /v3/pay/partner/transactions/out-trade-no/{no}":          {"query", (*Server).v3Query},
	"GET /v3/pay/transactions/id/{id}":                            {"query", (*Server).v3Query},
	"GET /v3/pay/partner/transactions/id/{id}":                    {"query", (*Server).v3Query},
	"POST /v3/pay/transactions/out-trade-no/{no}/close":           {"close", (*Server).v3Close},
	"POST /v3/pay/partner/transactions/out-trade-no/{no}/close":   {"close", (*Server).v3Close},
	"POST /v3/refund/domestic/refunds":                            {"refund", (*Server).v3Refund},
	"GET /v3/refund/domestic/refunds/{refund}":                    {"refundquery", (*Server).v3RefundQuery},
	"POST /v3/refund/domestic/refunds/{id}/apply-abnormal-refund": {"abnormal", (*Server).v3Abnormal},
	"GET /v3/certificates":                                        {"certificates", (*Server).v3Certificates},
}

func (s *Server) routeV3(mux *http.ServeMux) {
	for pattern, m := range v3Methods {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serveV3(w, r, m) })
	}
	mux.HandleFunc("GET /v3/bill/tradebill", func(w http.ResponseWriter, r *http.Request) { s.serveV3Bill(w, r, false) })
	mux.HandleFunc("GET /v3/bill/fundflowbill", func(w http.ResponseWriter, r *http.Request) { s.serveV3Bill(w, r, true) })
	mux.HandleFunc("GET /v3/billdownload/file", s.serveV3File)
}

// readV3 reads and checks a request; wrong says what is not right with it.
func (s *Server) readV3(r *http.Request) (c *v3Call, wrong *v3Answer) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return nil, refusal("PARAM_ERROR", "请求体无法读取")
	}
	a, err := wechat.ParseAuthorization(r.Header.Get("Authorization"))
	m := s.merchants[a.MerchantNo]
	if err != nil || m == nil || m.keys.v3 == "" || a.SerialNo != wechat.SerialNo(m.keys.cert) || len(a.Nonce) > 32 {
		return nil, refusal("SIGN_ERROR", "Http头Authorization值错误或商户证书序列号有误")
	}
	if wechat.CheckClock(a.Timestamp, s.cfg.Now()) != nil {
		return nil, refusal("SIGN_ERROR", "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟")
	}
	if wechat.VerifySHA256(&m.keys.key.PublicKey, wechat.RequestMessage(r.Method, r.RequestURI, a.Timestamp, a.Nonce, body), a.Signature) != nil {
		return nil, refusal("SIGN_ERROR", "签名错误，验签失败")
	}
	c = &v3Call{call: call{m: m, now: s.cfg.Now().Unix(), v3: v3Certificate}}
	switch serial := r.Header.Get(wechat.HeaderSerial); serial {
	case m.publicKeyID():
		c.v3 = v3PublicKey
	case "":
	default:
		if !s.keys.knows(serial) {
			return nil, refusal("PARAM_ERROR", "Wechatpay-Serial不正确")
		}
	}
	if len(body) > 0 && json.Unmarshal(body, &c.asked) != nil {
		return nil, refusal("PARAM_ERROR", "无法将输入源“/body”映射为值")
	}
	q := r.URL.Query()
	for _, no := range []string{c.asked.MchID, c.asked.SpMchID, q.Get("mchid"), q.Get("sp_mchid")} {
		if no != "" && no != m.No {
			return nil, refusal("PARAM_ERROR", "商户号与签名的商户号不一致")
		}
	}
	c.sub = c.asked.SubMchID + q.Get("sub_mchid")
	c.in = c.inV2(r)
	return c, nil
}

// inV2 is the call in the words of V2.
func (c *v3Call) inV2(r *http.Request) wechat.Message {
	b := &c.asked
	in := wechat.Message{"out_trade_no": b.OutTradeNo + r.PathValue("no"), "transaction_id": b.TransactionID, "out_refund_no": b.OutRefundNo + r.PathValue("refund"),
		"appid": b.AppID + b.SpAppID, "body": b.Description, "attach": b.Attach, "notify_url": b.NotifyURL, "openid": b.Payer.OpenID + b.Payer.SpOpenID,
		"spbill_create_ip": b.Scene.ClientIP, "device_info": b.Scene.DeviceID, "refund_desc": b.Reason,
		"total_fee": strconv.FormatInt(b.Amount.Total, 10), "refund_fee": strconv.FormatInt(b.Amount.Refund, 10)}
	if id := r.PathValue("id"); id != "" && r.Method == http.MethodGet {
		in["transaction_id"] = id
	}
	return in
}

func (s *Server) serveV3(w http.ResponseWriter, r *http.Request, m v3Method) {
	c, wrong := s.readV3(r)
	if wrong != nil {
		s.writeV3(w, nil, *wrong, false)
		return
	}
	s.mu.Lock()
	s.advance()
	f := s.take(callFaults, m.api, c.m.No, s.named(&c.call))
	if f == nil {
		f = &Fault{}
	}
	said := refusal("SYSTEM_ERROR", "系统错误")
	if f.works() {
		said = m.work(s, c, r)
	}
	s.mu.Unlock()
	if err := s.journal.Durable(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if !control.Strike(w, r, f.Do, f.Millis) {
		s.answerV3(w, c, f, *said)
	}
}

// answerV3 writes what was said, or what a fault makes of it.
func (s *Server) answerV3(w http.ResponseWriter, c *v3Call, f *Fault, said v3Answer) {
	switch f.Do {
	case FaultGarbage:
		said = v3Answer{http.StatusOK, json.RawMessage(`{"prepay_id":"wx2`)}
	case FaultError:
		code := f.Code
		if v3Codes[code] != "" {
			code = v3Codes[code]
		}
		said = *refusal(code, f.Text)
	}
	s.writeV3(w, c, said, f.Do == FaultBadSign)
}

// writeV3 signs and writes an answer; c is nil where nobody knows who asks.
func (s *Server) writeV3(w http.ResponseWriter, c *v3Call, said v3Answer, spoiled bool) {
	var body []byte
	switch what := said.body.(type) {
	case nil:
	case json.RawMessage:
		body = what
	default:
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(what); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		body = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	}
	mode, m := v3Certificate, (*merchant)(nil)
	if c != nil {
		mode, m = c.v3, c.m
	}
	signed := body
	if spoiled {
		signed = append(bytes.Clone(body), ' ')
	}
	if err := s.signV3(w.Header(), m, mode, signed); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Request-ID", nonce())
	w.WriteHeader(said.status)
	_, _ = w.Write(body) // a client that went away is no fault of ours
}

// signV3 puts the headers of an answer or notice on it.
func (s *Server) signV3(h http.Header, m *merchant, mode v3Mode, body []byte) error {
	by, serial := s.keys.signs()
	if mode == v3PublicKey {
		by, serial = s.keys.public, m.publicKeyID()
	}
	at, once := strconv.FormatInt(s.cfg.Now().Unix(), 10), nonce()
	signature, err := wechat.SignSHA256(by.key, wechat.AnswerMessage(at, once, body))
	if err != nil {
		return err
	}
	h.Set(wechat.HeaderTimestamp, at)
	h.Set(wechat.HeaderNonce, once)
	h.Set(wechat.HeaderSerial, serial)
	h.Set(wechat.HeaderSignature, signature)
	h.Set("Wechatpay-Signature-Type", wechat.Scheme)
	return nil
}

func rfc3339(at int64) string { return time.Unix(at, 0).In(ledger.Beijing).Format(time.RFC3339) }

// ways of v3 by the last part of the path, as V2 calls them.
var v3Ways = map[string]string{"jsapi": "JSAPI", "native": "NATIVE", "app": "APP", "h5": "MWEB"}

// orderSeconds is how long an order without a time of its own may be paid.
const orderSeconds = 7 * 24 * 3600

func (s *Server) v3Prepay(c *v3Call, r *http.Request) *v3Answer {
	way := v3Ways[r.PathValue("way")]
	until := time.Unix(c.now+orderSeconds, 0)
	if at := c.asked.TimeExpire; at != "" {
		var err error
		if until, err = time.Parse(time.RFC3339, at); err != nil || until.Unix() <= c.now {
			return refusal("PARAM_ERROR", "time_expire格式错误或已过")
		}
	}
	switch {
	case way == "":
		return refusal("RESOURCE_NOT_EXISTS", "无此接口")
	case !slices.Contains(c.m.Apps, c.in["appid"]):
		return refusal("APPID_MCHID_NOT_MATCH", "appid和mch_id不匹配")
	case len(c.asked.OutTradeNo) < 6 || c.asked.Amount.Currency != "" && c.asked.Amount.Currency != "CNY":
		return refusal("PARAM_ERROR", "参数错误")
	case way == "MWEB" && c.asked.Scene.ClientIP == "":
		return refusal("PARAM_ERROR", "payer_client_ip不能为空")
	}
	if c.in["spbill_create_ip"] == "" { // only H5 must say it
		c.in["spbill_create_ip"] = "127.0.0.1"
	}
	c.in["trade_type"], c.in["time_expire"] = way, until.In(ledger.Beijing).Format("20060102150405")
	said := s.unifiedOrder(&c.call)
	switch {
	case said["err_code"] != "":
		return inV3(said)
	case way == "NATIVE":
		return &v3Answer{http.StatusOK, node{"code_url": said["code_url"]}}
	case way == "MWEB":
		return &v3Answer{http.StatusOK, node{"h5_url": said["mweb_url"]}}
	}
	return &v3Answer{http.StatusOK, node{"prepay_id": said["prepay_id"]}}
}

func (s *Server) v3Query(c *v3Call, _ *http.Request) *v3Answer {
	o := s.find(&c.call)
	if o == nil || o.Sub != c.sub {
		return refusal("ORDER_NOT_EXIST", "订单不存在")
	}
	return &v3Answer{http.StatusOK, transaction(o)}
}

func (s *Server) v3Close(c *v3Call, _ *http.Request) *v3Answer {
	if said := s.closeOrder(&c.call); said["err_code"] != "" {
		return inV3(said)
	}
	return &v3Answer{http.StatusNoContent, nil}
}

// ofWhom names the merchant number and what else tells whose an order is.
func ofWhom(o *order) node {
	if o.Sub != "" {
		return node{"sp_mchid": o.Merchant, "sub_mchid": o.Sub}
	}
	return node{"mchid": o.Merchant}
}

// transaction is what query and notice say of an order.
func transaction(o *order) node {
	n := ofWhom(o)
	app, payer := "appid", "openid"
	if o.Sub != "" {
		app, payer = "sp_appid", "sp_openid"
	}
	amount := node{"total": o.Fen, "currency": "CNY"}
	n[app], n["out_trade_no"], n["amount"], n["trade_type"], n["attach"] = o.App, o.No, amount, o.Way, o.Attach
	n["trade_state"], n["trade_state_desc"] = tradeState(o)
	if o.Paid > 0 {
		amount["payer_total"], amount["payer_currency"] = o.Fen, "CNY"
		n["transaction_id"], n["bank_type"], n["success_time"] = o.tradeNo(), "OTHERS", rfc3339(o.Paid)
		n["payer"], n["promotion_detail"] = node{payer: openID(o.Payer)}, []node{}
	}
	return n
}

// v3Certificates lists the platform certificates, sealed under the APIv3 key.
func (s *Server) v3Certificates(c *v3Call, _ *http.Request) *v3Answer {
	var list wechat.CertificateList
	for _, p := range s.keys.listed() {
		sealed, err := wechat.Seal("", "certificate", nonce()[:12], c.m.keys.v3, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}))
		if err != nil {
			return refusal("SYSTEM_ERROR", "系统错误")
		}
		list.Data = append(list.Data, wechat.SealedCertificate{SerialNo: wechat.SerialNo(p.cert), Effective: p.cert.NotBefore, Expire: p.cert.NotAfter, Sealed: sealed})
	}
	return &v3Answer{http.StatusOK, list}
}
