package live

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/clearward/clearward/channels/alipay"
	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/ledger"
)

// Alipay (spec/channels.md D): one address, a form signed with RSA2, and answers
// whose node is signed as it stands.

var alipayNo = regexp.MustCompile(`^2088\d{12}(0156)?$`)

// pid is the number of the merchant at Alipay, the seller_id of its calls.
func (m *merchant) pid() string { return m.No[:16] }

// node is an answer's content: texts, and the list of funds.
type node map[string]any

// request is one call of Alipay under way.
type request struct {
	m        *merchant
	method   string
	form     url.Values
	content  map[string]any // biz_content
	now      int64
	password *Fault // the payer is asked for the password whatever the rules say
	refused  node   // by the gateway itself
}

// text is a value of biz_content; numbers come as texts or as numbers.
func (r *request) text(name string) string {
	switch v := r.content[name].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// fen reads an amount in yuan, at most two decimals; 0 where it is none.
func (r *request) fen(name string) int64 {
	m, err := ledger.ParseYuan(r.text(name))
	if err != nil || m < 0 {
		return 0
	}
	return int64(m)
}

var alipayMsg = map[string]string{
	"10000": "Success", "10003": " order success pay inprocess", "20000": "Service Currently Unavailable", "40001": "Missing Required Arguments",
	"40002": "Invalid Arguments", "40004": "Business Failed", "40006": "Insufficient Permissions",
}

func said(code, sub, text string) node {
	n := node{"code": code, "msg": alipayMsg[code]}
	if sub != "" {
		n["sub_code"], n["sub_msg"] = sub, text
	}
	return n
}

// refuses is a failure of business, such as ACQ.TRADE_NOT_EXIST.
func refuses(sub, text string) node { return said("40004", sub, text) }

// alipayMethod is one method of the gateway. The work is done under the lock.
type alipayMethod struct {
	api  string // as faults name it
	work func(s *Server, r *request) node
}

var alipayMethods = map[string]alipayMethod{
	"alipay.trade.pay":                               {"pay", (*Server).tradePay},
	"alipay.trade.precreate":                         {"prepay", (*Server).tradePrecreate},
	"alipay.trade.create":                            {"prepay", (*Server).tradeCreate},
	"alipay.trade.page.pay":                          {"page", (*Server).tradeArrives},
	"alipay.trade.wap.pay":                           {"page", (*Server).tradeArrives},
	"alipay.trade.app.pay":                           {"page", (*Server).tradeArrives},
	"alipay.trade.query":                             {"query", (*Server).tradeQuery},
	"alipay.trade.cancel":                            {"reverse", (*Server).tradeCancel},
	"alipay.trade.close":                             {"close", (*Server).tradeClose},
	"alipay.trade.refund":                            {"refund", (*Server).tradeRefund},
	"alipay.trade.fastpay.refund.query":              {"refundquery", (*Server).tradeRefundQuery},
	"alipay.data.dataservice.bill.downloadurl.query": {"bill", (*Server).billAddress},
	"alipay.data.bill.balance.query":                 {"balance", (*Server).alipayBalance},
}

// alipay serves the gateway and the archives of bills.
func (s *Server) alipay() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/gateway.do", s.serveAlipay)
	mux.HandleFunc("GET /downloadBillFile.resource", s.serveArchive)
	return mux
}

func (s *Server) serveAlipay(w http.ResponseWriter, in *http.Request) {
	in.Body = http.MaxBytesReader(w, in.Body, 256<<10)
	if err := in.ParseForm(); err != nil {
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	r := s.readAlipay(in.Form)
	if r.refused != nil {
		s.writeAlipay(w, r, r.refused, false)
		return
	}
	f, n := s.workAlipay(r)
	if err := s.journal.Durable(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if control.Strike(w, in, f.Do, f.Millis) {
		return
	}
	switch f.Do {
	case FaultGarbage:
		_, _ = io.WriteString(w, `{"`+alipay.NodeName(r.method)+`":{"code":"100`) // a client that went away is no fault of ours
		return
	case FaultError:
		n = inWords(f)
	}
	if n == nil {
		n = inWords(&Fault{})
	}
	if alipayMethods[r.method].api == "page" {
		showCashier(w, n)
		return
	}
	s.writeAlipay(w, r, n, f.Do == FaultBadSign)
}

// workAlipay does what is asked, or what a fault leaves of it.
func (s *Server) workAlipay(r *request) (*Fault, node) {
	m := alipayMethods[r.method]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	f := s.take(callFaults, m.api, r.m.No, r.text("out_trade_no"))
	if f == nil && m.api == "pay" {
		f = byTail(r.m, m.api, r.fen("total_amount"), r.text("auth_code"))
	}
	if f == nil {
		f = &Fault{}
	}
	if f.Do == FaultPassword {
		r.password = f
	}
	if f.works() {
		return f, m.work(s, r)
	}
	return f, nil
}

// inWords is the answer that a planted ERROR asks for: ACQ.… is a failure of
// business, isv.… one of the request, anything else that the service is not there.
func inWords(f *Fault) node {
	switch {
	case strings.HasPrefix(f.Code, "ACQ.") || strings.HasPrefix(f.Code, "AQC."):
		return refuses(f.Code, f.Text)
	case strings.HasPrefix(f.Code, "isv."):
		return said("40002", f.Code, f.Text)
	case f.Code == "":
		return said("20000", "isp.unknow-error", "系统繁忙")
	}
	return said("20000", f.Code, f.Text)
}

// readAlipay reads and checks the signed parameters of a call.
func (s *Server) readAlipay(form url.Values) *request {
	r := &request{form: form, method: form.Get("method"), m: s.apps[form.Get("app_id")], now: s.cfg.Now().Unix()}
	switch refuse := func(code, sub string) { r.refused = said(code, sub, sub) }; {
	case alipayMethods[r.method].work == nil:
		refuse("40002", "isv.invalid-method")
	case r.m == nil:
		refuse("40002", "isv.invalid-app-id")
	case form.Get("sign_type") != "RSA2":
		refuse("40002", "isv.invalid-signature-type")
	case form.Get("sign") == "":
		refuse("40001", "isv.missing-signature")
	case form.Get("version") != "1.0":
		refuse("40002", "isv.invalid-version")
	case !s.certified(r) || alipay.Verify(&r.m.keys.key.PublicKey, alipay.RequestString(single(form)), form.Get("sign")) != nil:
		refuse("40002", "isv.invalid-signature")
	default:
		if _, err := time.ParseInLocation(time.DateTime, form.Get("timestamp"), ledger.Beijing); err != nil {
			refuse("40002", "isv.invalid-timestamp")
			break
		}
		text := form.Get("biz_content")
		if form.Get("encrypt_type") == "AES" {
			var err error
			if text, err = alipay.DecryptContent(r.m.keys.alipay.content, text); err != nil {
				refuse("40002", "isv.decryption-error-unknown")
				break
			}
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if text != "" && d.Decode(&r.content) != nil {
			refuse("40002", "isv.invalid-parameter")
		}
	}
	return r
}

// certified says whether a call in certificate mode names the certificates that
// are in use; in key mode it names none.
func (s *Server) certified(r *request) bool {
	app, root := r.form.Get("app_cert_sn"), r.form.Get("alipay_root_cert_sn")
	return app == "" && root == "" || app == r.m.keys.alipay.appSN && root == r.m.keys.alipay.rootSN
}

// single is the form with each parameter once, since charset comes in the address
// and in the body.
func single(form url.Values) url.Values {
	once := maps.Clone(form)
	for name, values := range once {
		once[name] = values[:1]
	}
	return once
}

// writeAlipay signs and writes an answer. What the gateway itself refuses about an
// app or method that it does not know comes unsigned in error_response.
func (s *Server) writeAlipay(w http.ResponseWriter, r *request, n node, spoiled bool) {
	w.Header().Set("Content-Type", "text/html;charset=utf-8")
	text := n.json()
	if r.m == nil || alipayMethods[r.method].work == nil {
		_, _ = io.WriteString(w, `{"`+alipay.ErrorResponse+`":`+text+`}`)
		return
	}
	if r.form.Get("encrypt_type") == "AES" && r.refused == nil {
		secret, err := alipay.EncryptContent(r.m.keys.alipay.content, text)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		text = `"` + secret + `"`
	}
	key := s.keys.alipay.key
	if spoiled {
		key = r.m.keys.key
	}
	sign, err := alipay.Sign(key, text)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body := `{"` + alipay.NodeName(r.method) + `":` + text
	if r.form.Get("app_cert_sn") != "" {
		body += `,"alipay_cert_sn":"` + r.m.keys.alipay.ownSN + `"`
	}
	_, _ = io.WriteString(w, body+`,"sign":"`+sign+`"}`) // a client that went away is no fault of ours
}

// json writes a node with its keys in no order that a reader would write again, and
// with escaped slashes: whoever verifies what it made of the node, and not the node
// itself, fails (spec/channels.md K.5).
func (n node) json() string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(n)), func(name string) bool { return name == "code" || name == "msg" })
	slices.Reverse(names)
	for i, name := range append([]string{"code", "msg"}, names...) {
		b.WriteByte("{,"[min(i, 1)])
		_ = e.Encode(name) // texts
		b.Truncate(b.Len() - 1)
		b.WriteByte(':')
		_ = e.Encode(n[name])
		b.Truncate(b.Len() - 1)
	}
	b.WriteByte('}')
	return strings.ReplaceAll(b.String(), "/", `\/`)
}
