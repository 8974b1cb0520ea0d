package live

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

// V2 of WeChat Pay (spec/channels.md A): flat XML over POST, signed by MD5 or HMAC.

// call is one V2 call under way.
type call struct {
	m    *merchant
	in   wechat.Message
	kind wechat.SignType
	cert bool // came with the merchant's certificate
	now  int64
	v3   v3Mode // "" is V2
	sub  string // sub-merchant, of v3

	password *Fault // the payer is asked for the password whatever the rules say
}

// out is the business part of an answer.
type out = wechat.Message

func failed(code, text string) out {
	return out{"result_code": "FAIL", "err_code": code, "err_code_des": text}
}

// method is one path of V2. The work is done under the lock.
type method struct {
	api  string // as faults name it
	cert bool
	work func(s *Server, c *call) out
}

var methods = map[string]method{
	"/pay/micropay":       {"pay", false, (*Server).micropay},
	"/pay/unifiedorder":   {"prepay", false, (*Server).unifiedOrder},
	"/pay/orderquery":     {"query", false, (*Server).orderQuery},
	"/pay/closeorder":     {"close", false, (*Server).closeOrder},
	"/secapi/pay/reverse": {"reverse", true, (*Server).reverse},
	"/secapi/pay/refund":  {"refund", true, (*Server).refundOrder},
	"/pay/refundquery":    {"refundquery", false, (*Server).refundQuery},
}

// wechat serves V2, v3 and the bills of both.
func (s *Server) wechat() http.Handler {
	mux := http.NewServeMux()
	for path, m := range methods {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { s.serveV2(w, r, m) })
	}
	mux.HandleFunc("/pay/downloadbill", func(w http.ResponseWriter, r *http.Request) { s.serveBill(w, r, false) })
	s.routeV3(mux)
	mux.HandleFunc("/pay/downloadfundflow", func(w http.ResponseWriter, r *http.Request) { s.serveBill(w, r, true) })
	return mux
}

// readV2 reads and checks a request; text says what is wrong, "" nothing.
func (s *Server) readV2(r *http.Request) (c *call, text string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil || r.Method != http.MethodPost {
		return nil, "请使用post方法"
	}
	in, err := wechat.ParseXML(body)
	if err != nil {
		return nil, "XML格式错误"
	}
	m := s.merchants[in["mch_id"]]
	if m == nil {
		return nil, "商户号mch_id不存在"
	}
	c = &call{m: m, in: in, kind: wechat.SignMD5, now: s.cfg.Now().Unix()}
	if in["sign_type"] == string(wechat.SignHMAC) {
		c.kind = wechat.SignHMAC
	}
	if in["nonce_str"] == "" || in.Verify(c.kind, m.keys.v2) != nil {
		return nil, "签名错误"
	}
	if !slices.Contains(m.Apps, in["appid"]) {
		return nil, "appid和mch_id不匹配"
	}
	if c.cert = !s.cfg.TLS; r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		c.cert = r.TLS.PeerCertificates[0].Equal(m.keys.cert)
	}
	return c, ""
}

func (s *Server) serveV2(w http.ResponseWriter, r *http.Request, m method) {
	c, text := s.readV2(r)
	if c != nil && m.cert && !c.cert {
		text = "证书验证失败"
	}
	if text != "" {
		write(w, wechat.Message{"return_code": "FAIL", "return_msg": text})
		return
	}
	s.mu.Lock()
	s.advance()
	fen, _ := strconv.ParseInt(c.in["total_fee"], 10, 64)
	f := s.take(callFaults, m.api, c.m.No, s.named(c))
	if f == nil && m.api == "pay" {
		f = byTail(c.m, m.api, fen, c.in["auth_code"])
	}
	if f == nil {
		f = &Fault{}
	}
	var said out
	if f.works() {
		if f.Do == FaultPassword {
			c.password = f
		}
		said = m.work(s, c)
	}
	s.mu.Unlock()
	if err := s.journal.Durable(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.answer(w, r, c, f, said)
}

// answer writes what was said, or what a fault makes of it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, c *call, f *Fault, said out) {
	if control.Strike(w, r, f.Do, f.Millis) {
		return
	}
	switch f.Do {
	case FaultGarbage:
		_, _ = io.WriteString(w, "<xml><return_code><![CDATA[SUCC") // a client that went away is no fault of ours
		return
	case FaultError:
		said = failed(f.Code, f.Text)
	}
	if said == nil {
		said = failed("SYSTEMERROR", "系统错误")
	}
	if said["result_code"] == "" {
		said["result_code"] = "SUCCESS"
	}
	said["return_code"], said["return_msg"] = "SUCCESS", "OK"
	said["appid"], said["mch_id"], said["nonce_str"] = c.in["appid"], c.m.No, nonce()
	key := c.m.keys.v2
	if f.Do == FaultBadSign {
		key = "another-key-another-key-another-"
	}
	said["sign"] = said.Sign(c.kind, key)
	write(w, said)
}

func write(w http.ResponseWriter, m wechat.Message) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(m.XML()) // a client that went away is no fault of ours
}

// nonce is 32 random characters.
func nonce() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

var (
	orderNumber = regexp.MustCompile(`^[0-9A-Za-z_\-|*@]{1,32}$`)
	authCode    = regexp.MustCompile(`^1[0-5]\d{16}$`)
)

// newOrder reads the fields that every order has.
func (c *call) newOrder(way string) (order, out) {
	fen, err := strconv.ParseInt(c.in["total_fee"], 10, 64)
	if err != nil || fen < 1 || !orderNumber.MatchString(c.in["out_trade_no"]) || c.in["body"] == "" || c.in["spbill_create_ip"] == "" {
		return order{}, failed("PARAM_ERROR", "参数错误")
	}
	o := order{Merchant: c.m.No, No: c.in["out_trade_no"], Way: way, Fen: fen, Created: c.now, State: stateWaiting, App: c.in["appid"],
		Subject: c.in["body"], Attach: c.in["attach"], Device: c.in["device_info"], Notify: c.in["notify_url"],
		HMAC: c.kind == wechat.SignHMAC, V3: c.v3, Sub: c.sub}
	if until := c.in["time_expire"]; until != "" {
		at, err := time.ParseInLocation("20060102150405", until, ledger.Beijing)
		if err != nil {
			return order{}, failed("PARAM_ERROR", "time_expire格式错误")
		}
		o.Expires = at.Unix()
	}
	return o, nil
}

// signType is how the channel signs what it says of the order by itself: as the
// order was asked for (spec/channels.md A.2).
func (o *order) signType() wechat.SignType {
	if o.HMAC {
		return wechat.SignHMAC
	}
	return wechat.SignMD5
}

// again answers a number that was used before, or nil where it was not.
func (c *call) again(o order) (*order, out) {
	old := c.m.orders[o.No]
	switch {
	case old == nil:
		return nil, nil
	case old.Fen != o.Fen || old.Way != o.Way || old.Subject != o.Subject:
		return old, failed("OUT_TRADE_NO_USED", "商户订单号重复")
	case old.State == statePaid:
		return old, failed("ORDERPAID", "订单已支付")
	case old.State == stateReversed:
		return old, failed("ORDERREVERSED", "订单已撤销")
	case old.State == stateClosed || old.State == stateFailed:
		return old, failed("ORDERCLOSED", "订单已关闭")
	}
	return old, nil
}

func (s *Server) micropay(c *call) out {
	o, wrong := c.newOrder("MICROPAY")
	if wrong != nil {
		return wrong
	}
	if !authCode.MatchString(c.in["auth_code"]) {
		return failed("AUTH_CODE_INVALID", "101 付款码无效，请重新扫码")
	}
	old, wrong := c.again(o)
	if wrong != nil {
		return wrong
	}
	if old != nil {
		return failed("USERPAYING", "需要用户输入支付密码")
	}
	payer, _ := strconv.ParseUint(c.in["auth_code"][2:10], 10, 32)
	o.Payer, o.Expires = uint32(payer), 0
	if c.password != nil || s.asksPassword(c.m, &o) {
		seconds := s.cfg.EnterIn
		if c.password != nil {
			seconds = c.password.Seconds
		}
		if o.State = statePassword; seconds > 0 {
			o.PaysAt = c.now + seconds
		}
		s.putOrder(o)
		return failed("USERPAYING", "需要用户输入支付密码")
	}
	o.State, o.Paid = statePaid, c.now
	answer := out{}
	paidFields(answer, s.putOrder(o))
	return answer
}

// asksPassword is the channel's rule (B12): over 1000 yuan always, else after so
// many payments of one payer a day.
func (s *Server) asksPassword(m *merchant, o *order) bool {
	if day := ledger.DayOf(time.Unix(o.Created, 0)); day != m.freeDay {
		m.freeDay = day
		clear(m.free)
	}
	if o.Fen > s.cfg.FreeFen || int(m.free[o.Payer]) >= s.cfg.FreePerDay {
		return true
	}
	m.free[o.Payer]++
	return false
}

// paidFields are what a payment's answer, query and notice say of it.
func paidFields(a out, o *order) {
	fen := strconv.FormatInt(o.Fen, 10)
	a["openid"], a["is_subscribe"], a["trade_type"], a["bank_type"] = openID(o.Payer), "N", o.Way, "OTHERS"
	a["fee_type"], a["total_fee"], a["cash_fee"], a["attach"] = "CNY", fen, fen, o.Attach
	a["transaction_id"], a["out_trade_no"] = o.tradeNo(), o.No
	a["time_end"] = time.Unix(o.Paid, 0).In(ledger.Beijing).Format("20060102150405")
}

func openID(payer uint32) string { return fmt.Sprintf("oUpF8uMuAJO_M2pxb1Q9%08d", payer) }

func (s *Server) unifiedOrder(c *call) out {
	way := c.in["trade_type"]
	if !slices.Contains([]string{"JSAPI", "NATIVE", "APP", "MWEB"}, way) || c.in["notify_url"] == "" || way == "JSAPI" && c.in["openid"] == "" {
		return failed("PARAM_ERROR", "参数错误")
	}
	o, wrong := c.newOrder(way)
	if wrong != nil {
		return wrong
	}
	old, wrong := c.again(o)
	if wrong != nil {
		return wrong
	}
	if old == nil {
		old = s.putOrder(o)
	}
	answer := out{"trade_type": way, "prepay_id": prepayID(old)}
	switch way {
	case "NATIVE":
		answer["code_url"] = codeURL(old)
	case "MWEB":
		answer["mweb_url"] = "https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id=" + prepayID(old)
	}
	return answer
}

func prepayID(o *order) string { return fmt.Sprintf("wx%d%d", o.Created, o.Seq) }

func codeURL(o *order) string { return fmt.Sprintf("weixin://wxpay/bizpayurl?pr=%d", o.Seq) }

// find is the order that a request names; the channel's number goes first.
func (s *Server) find(c *call) *order {
	if trade := c.in["transaction_id"]; trade != "" {
		return s.byTrade(c.m, trade)
	}
	return c.m.orders[c.in["out_trade_no"]]
}

// named is the order that a request is about, for faults that wait for one.
func (s *Server) named(c *call) string {
	if r := c.m.refunds[c.in["out_refund_no"]]; r != nil {
		return r.Order
	}
	if o := s.find(c); o != nil {
		return o.No
	}
	return c.in["out_trade_no"]
}

// byTrade is the order that the channel knows by a number of its own.
func (s *Server) byTrade(m *merchant, trade string) *order {
	if len(trade) < 10 {
		return nil
	}
	seq, err := strconv.ParseInt(trade[len(trade)-10:], 10, 64)
	if err != nil || seq < 0 || seq >= int64(len(s.bySeq)) || s.bySeq[seq] == nil {
		return nil
	}
	if o := s.bySeq[seq]; o.Merchant == m.No && o.tradeNo() == trade {
		return o
	}
	return nil
}

func (s *Server) orderQuery(c *call) out {
	o := s.find(c)
	if o == nil {
		return failed("ORDERNOTEXIST", "订单不存在")
	}
	a := out{"out_trade_no": o.No, "total_fee": strconv.FormatInt(o.Fen, 10)}
	if o.Paid > 0 {
		paidFields(a, o)
	}
	a["trade_state"], a["trade_state_desc"] = tradeState(o)
	return a
}

func tradeState(o *order) (state, text string) {
	switch o.State {
	case statePassword:
		return "USERPAYING", "需要用户输入支付密码"
	case stateWaiting:
		return "NOTPAY", "订单未支付"
	case stateClosed:
		return "CLOSED", "订单已关闭"
	case stateReversed:
		return "REVOKED", "订单已撤销"
	case stateFailed:
		return "PAYERROR", "支付失败"
	}
	if len(o.refunds) > 0 {
		return "REFUND", "订单发生过退款"
	}
	return "SUCCESS", "支付成功"
}

func (s *Server) closeOrder(c *call) out {
	o := s.find(c)
	switch {
	case o == nil:
		return failed("ORDERNOTEXIST", "订单不存在")
	case o.State == statePaid:
		return failed("ORDERPAID", "订单已支付")
	case o.State == stateWaiting:
		image := *o
		image.State = stateClosed
		s.putOrder(image)
	case o.State != stateClosed:
		return failed("ORDERCLOSED", "订单已关闭")
	}
	return out{"result_msg": "OK"}
}
