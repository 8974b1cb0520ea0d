package live

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

func (s *Server) v3Refund(c *v3Call, _ *http.Request) *v3Answer {
	o := s.find(&c.call)
	if o == nil || o.Sub != c.sub {
		return refusal("RESOURCE_NOT_EXISTS", "订单不存在")
	}
	if said := s.refundOrder(&c.call); said["err_code"] != "" {
		return inV3(said)
	}
	return &v3Answer{http.StatusOK, refundRecord(c.m.refunds[c.in["out_refund_no"]])}
}

func (s *Server) v3RefundQuery(c *v3Call, _ *http.Request) *v3Answer {
	r := c.m.refunds[c.in["out_refund_no"]]
	if r == nil || r.No != c.in["out_refund_no"] || r.Reversal || r.order.Sub != c.sub {
		return refusal("RESOURCE_NOT_EXISTS", "退款单不存在")
	}
	return &v3Answer{http.StatusOK, refundRecord(r)}
}

// v3Abnormal takes the application for an abnormal refund. To a card of the payer it
// would need name and number, encrypted to the platform's key.
func (s *Server) v3Abnormal(c *v3Call, in *http.Request) *v3Answer {
	r := c.m.refunds[in.PathValue("id")]
	switch {
	case r == nil || r.No != c.in["out_refund_no"] || r.order.Sub != c.sub:
		return refusal("RESOURCE_NOT_EXISTS", "退款单不存在")
	case c.asked.Type != "MERCHANT_BANK_CARD":
		return refusal("PARAM_ERROR", "用户银行卡需上送bank_type、bank_account、real_name")
	case r.State != refundAbnormal:
		return refusal("INVALID_REQUEST", "退款单状态不是退款异常")
	}
	return &v3Answer{http.StatusOK, refundRecord(s.apply(r, payeeMerchant, c.now))}
}

// refundRecord is what refund, query and notice say of a refund.
func refundRecord(r *refund) node {
	o := r.order
	n := node{"refund_id": r.refundID(), "out_refund_no": r.No, "transaction_id": o.tradeNo(), "out_trade_no": o.No, "channel": r.channel(),
		"user_received_account": r.received(), "create_time": rfc3339(r.At), "status": string(r.State), "funds_account": "AVAILABLE",
		"amount": node{"total": o.Fen, "refund": r.Fen, "payer_total": o.Fen, "payer_refund": r.Fen, "settlement_refund": r.Fen, "settlement_total": o.Fen,
			"discount_refund": 0, "currency": "CNY"}}
	if r.State == refundDone {
		n["success_time"] = rfc3339(r.Done)
	}
	return n
}

// billSeconds is how long the address of a bill is good.
const billSeconds = 300

// heldBill is the text of a bill behind an address that was handed out.
type heldBill struct {
	m      *merchant
	file   *os.File
	packed bool
	until  int64
}

// serveV3Bill makes a bill and answers with its hash and address.
func (s *Server) serveV3Bill(w http.ResponseWriter, r *http.Request, fund bool) {
	c, wrong := s.readV3(r)
	if wrong != nil {
		s.writeV3(w, nil, *wrong, false)
		return
	}
	s.mu.Lock()
	s.advance()
	f := s.take(callFaults, "bill", c.m.No, "")
	s.mu.Unlock()
	if f == nil {
		f = &Fault{}
	}
	said := s.v3Bill(c, r, fund)
	if !control.Strike(w, r, f.Do, f.Millis) {
		s.answerV3(w, c, f, *said)
	}
}

func (s *Server) v3Bill(c *v3Call, r *http.Request, fund bool) *v3Answer {
	q := r.URL.Query()
	day, err := ledger.ParseDay(q.Get("bill_date"))
	kind, account, packing := q.Get("bill_type"), q.Get("account_type"), q.Get("tar_type")
	if err != nil || !fund && kind != "" && kind != "ALL" || fund && account != "" && account != "BASIC" || packing != "" && packing != "GZIP" {
		return refusal("PARAM_ERROR", "参数错误")
	}
	file, err := s.bill(c.m, day, fund)
	switch {
	case errors.Is(err, errCreating):
		return refusal("STATEMENT_CREATING", "账单生成中，请先检查当前商户号在指定日期内是否有成功的交易")
	case errors.Is(err, errNoBill):
		return refusal("NO_STATEMENT_EXIST", "请求的账单文件不存在")
	case err != nil:
		return refusal("SYSTEM_ERROR", "系统错误")
	}
	sum := sha1.New()
	if _, err := io.Copy(sum, file); err != nil {
		return refusal("SYSTEM_ERROR", "系统错误")
	}
	token := nonce()
	s.hold(token, &heldBill{c.m, file, packing != "", c.now + billSeconds})
	return &v3Answer{http.StatusOK, node{"hash_type": "SHA1", "hash_value": hex.EncodeToString(sum.Sum(nil)),
		"download_url": s.Addresses.WeChat + "/v3/billdownload/file?token=" + token}}
}

// hold keeps a bill's text for whoever has its address, and lets those go whose
// time is over.
func (s *Server) hold(token string, b *heldBill) {
	now := s.cfg.Now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, held := range s.bills {
		if held.until < now {
			delete(s.bills, old)
			_ = held.file.Close() // only read
		}
	}
	s.bills[token] = b
}

// serveV3File hands out a bill. The answer is not signed: its hash was.
func (s *Server) serveV3File(w http.ResponseWriter, r *http.Request) {
	c, wrong := s.readV3(r)
	if wrong != nil {
		s.writeV3(w, nil, *wrong, false)
		return
	}
	s.mu.Lock()
	held := s.bills[r.URL.Query().Get("token")]
	s.mu.Unlock()
	if held == nil || held.m != c.m || held.until < c.now {
		s.writeV3(w, c, *refusal("INVALID_REQUEST", "下载地址已失效"), false)
		return
	}
	size, err := held.file.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sendFile(w, io.NewSectionReader(held.file, 0, size.Size()), held.packed)
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

// composeV3 writes a notice of v3: sealed under the APIv3 key and signed.
func (s *Server) composeV3(ctx context.Context, w *wording) (*http.Request, error) {
	n, o, m := w.n, w.o, w.m
	if n.Foreign {
		o.Merchant = "1999999999"
	}
	plain, event, kind := transaction(&o), "TRANSACTION.SUCCESS", "transaction"
	if w.r != nil {
		r := *w.r
		r.order = &o
		plain, kind = refundRecord(&r), "refund"
		for name, value := range ofWhom(&o) {
			plain[name] = value
		}
		plain["refund_status"], event = plain["status"], "REFUND."+string(r.State)
		delete(plain, "status")
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return nil, err
	}
	resource, err := wechat.Seal(kind, kind, nonce()[:12], m.keys.v3, text)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(node{"id": nonce(), "create_time": rfc3339(s.cfg.Now().Unix()), "resource_type": "encrypt-resource", "event_type": event,
		"summary": event, "resource": resource})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	signed := body
	if n.Forged {
		signed = append(bytes.Clone(body), ' ')
	}
	err = s.signV3(request.Header, m, over(&w.o, w.r), signed)
	if n.Probe {
		request.Header.Set(wechat.HeaderSignature, wechat.ProbePrefix+request.Header.Get(wechat.HeaderSignature))
	}
	return request, err
}

func takenV3([]byte) bool { return true } // any 2xx is

// KeysOf are the public numbers of the keys of a merchant number: what its master
// data refer to.
type KeysOf struct {
	Merchant    string   `json:"merchant"`
	SerialNo    string   `json:"serial_no"`     // of the merchant's certificate
	PublicKeyID string   `json:"public_key_id"` // of keys/channel/wechat_public_pub.pem
	Platform    []string `json:"platform"`      // serial numbers of the platform certificates, the newest last
}

// keysOf lists them for every merchant number of WeChat Pay.
func (s *Server) keysOf() []KeysOf {
	var platform []string
	for _, p := range s.keys.listed() {
		platform = append(platform, wechat.SerialNo(p.cert))
	}
	list := []KeysOf{}
	for _, no := range s.numbers {
		if m := s.merchants[no]; m.keys.v3 != "" {
			list = append(list, KeysOf{no, wechat.SerialNo(m.keys.cert), m.publicKeyID(), platform})
		}
	}
	return list
}
