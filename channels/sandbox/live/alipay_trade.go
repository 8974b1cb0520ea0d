package live

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/clearward/clearward/ledger"
)

// The rules of Alipay's orders (spec/channels.md D.5).
const (
	maxYuanFen    = 100_000_000_00
	codeSeconds   = 180 // a bar code payment without a time of its own
	qrSeconds     = 7200
	pageSeconds   = 15 * 24 * 3600
	cancelSeconds = 24 * 3600
	finishSeconds = 365 * 24 * 3600 // TRADE_FINISHED: no refund any more
)

var (
	alipayOrderNo  = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)
	alipayAuthCode = regexp.MustCompile(`^(?:2[5-9]|30)\d{14,22}$`)
	alipayBuyer    = regexp.MustCompile(`^2088\d{12}$`)
	alipayExpress  = regexp.MustCompile(`^(\d{1,5})([mhdc])$`)
)

// newTrade reads the fields that every order has.
func (r *request) newTrade(way string, seconds int64) (order, node) {
	o := order{Merchant: r.m.No, No: r.text("out_trade_no"), Way: way, Fen: r.fen("total_amount"), Created: r.now, State: stateWaiting,
		Expires: r.now + seconds, App: r.form.Get("app_id"), Subject: r.text("subject"), Attach: r.text("passback_params"),
		Device: r.text("terminal_id"), Notify: r.form.Get("notify_url")}
	seller := r.text("seller_id")
	if !alipayOrderNo.MatchString(o.No) || o.Fen < 1 || o.Fen > maxYuanFen || o.Subject == "" || len([]rune(o.Subject)) > 256 {
		return order{}, refuses("ACQ.INVALID_PARAMETER", "参数无效")
	}
	if seller != "" && seller != r.m.pid() {
		return order{}, refuses("ACQ.PARTNER_ERROR", "商家和应用不匹配")
	}
	if express := r.text("timeout_express"); express != "" {
		m := alipayExpress.FindStringSubmatch(express)
		if m == nil {
			return order{}, refuses("ACQ.INVALID_PARAMETER", "timeout_express格式错误")
		}
		n, _ := strconv.ParseInt(m[1], 10, 64)
		o.Expires = r.now + n*map[string]int64{"m": 60, "h": 3600, "d": 86_400}[m[2]]
		if m[2] == "c" {
			o.Expires = ledger.DayOf(time.Unix(r.now, 0)).Add(1).Start().Unix()
		}
	}
	if until := r.text("time_expire"); until != "" {
		at, err := time.ParseInLocation(time.DateTime, until, ledger.Beijing)
		if err != nil {
			return order{}, refuses("ACQ.INVALID_PARAMETER", "time_expire格式错误")
		}
		o.Expires = at.Unix()
	}
	if o.Expires <= r.now {
		return order{}, refuses("ACQ.INVALID_PARAMETER", "订单已超时")
	}
	return o, nil
}

// again answers a number that was used before, or nil where it was not.
func (r *request) again(o order) (*order, node) {
	old := r.m.orders[o.No]
	switch {
	case old == nil:
		return nil, nil
	case old.Fen != o.Fen || old.Way != o.Way || old.Subject != o.Subject:
		return old, refuses("ACQ.CONTEXT_INCONSISTENT", "交易信息被篡改")
	case old.State == statePaid:
		return old, refuses("ACQ.TRADE_HAS_SUCCESS", "交易已被支付")
	case old.State == stateClosed || old.State == stateReversed:
		return old, refuses("ACQ.TRADE_HAS_CLOSE", "交易已经关闭")
	}
	return old, nil
}

func (s *Server) tradePay(r *request) node {
	o, wrong := r.newTrade("FACE_TO_FACE_PAYMENT", codeSeconds)
	code := r.text("auth_code")
	switch {
	case wrong != nil:
		return wrong
	case r.text("scene") != "bar_code":
		return refuses("ACQ.INVALID_PARAMETER", "scene无效")
	case !alipayAuthCode.MatchString(code):
		return refuses("ACQ.PAYMENT_AUTH_CODE_INVALID", "支付失败，获取顾客账户信息失败，请顾客刷新付款码后重新收款")
	}
	old, wrong := r.again(o)
	if wrong != nil {
		wrong["out_trade_no"] = o.No
		return wrong
	}
	if old == nil {
		payer, _ := strconv.ParseUint(code[2:10], 10, 32)
		o.Payer = uint32(payer)
		if r.password == nil && !s.asksPassword(r.m, &o) {
			o.State, o.Paid = statePaid, r.now
			old = s.putOrder(o)
			s.announce(r.m, old, nil, r.now)
			return paidNode(old, "gmt_payment")
		}
		seconds := s.cfg.EnterIn
		if r.password != nil {
			seconds = r.password.Seconds
		}
		if o.State = statePassword; seconds > 0 {
			o.PaysAt = r.now + seconds
		}
		old = s.putOrder(o)
	}
	n := said("10003", "", "")
	n["trade_no"], n["out_trade_no"] = old.tradeNo(), old.No
	return n
}

func (s *Server) tradePrecreate(r *request) node {
	o, wrong := r.newTrade("PRECREATE", qrSeconds)
	if wrong != nil {
		return wrong
	}
	old, wrong := r.again(o)
	if wrong != nil {
		return wrong
	}
	if old == nil {
		o.State = stateOffered
		old = s.putOrder(o)
	}
	n := said("10000", "", "")
	n["out_trade_no"], n["qr_code"] = old.No, qrCode(old)
	return n
}

func qrCode(o *order) string { return fmt.Sprintf("https://qr.alipay.com/bax%d", o.Seq) }

func (s *Server) tradeCreate(r *request) node {
	o, wrong := r.newTrade("CREATE", pageSeconds)
	buyer, open := r.text("buyer_id"), r.text("buyer_open_id")
	switch {
	case wrong != nil:
		return wrong
	case buyer == "" && open == "", buyer != "" && !alipayBuyer.MatchString(buyer), open != "" && buyer == "" && r.text("op_app_id") == "":
		return refuses("ACQ.INVALID_PARAMETER", "买家信息无效")
	case buyer == r.m.pid():
		return refuses("ACQ.BUYER_SELLER_EQUAL", "买卖家不能相同")
	}
	o.Buyer = buyer
	if buyer == "" {
		o.Buyer = open
	}
	old, wrong := r.again(o)
	if wrong == nil && old != nil && old.Buyer != o.Buyer {
		wrong = refuses("ACQ.TRADE_BUYER_NOT_MATCH", "交易买家不匹配")
	}
	if wrong != nil {
		return wrong
	}
	if old == nil {
		old = s.putOrder(o)
	}
	n := said("10000", "", "")
	n["out_trade_no"], n["trade_no"] = old.No, old.tradeNo()
	return n
}

// tradeArrives is a payer who comes with what page.pay, wap.pay or app.pay signed:
// only now there is a trade.
func (s *Server) tradeArrives(r *request) node {
	o, wrong := r.newTrade(r.method, pageSeconds)
	if wrong != nil {
		return wrong
	}
	old, wrong := r.again(o)
	if wrong != nil {
		return wrong
	}
	if old == nil {
		old = s.putOrder(o)
	}
	n := said("10000", "", "")
	n["out_trade_no"], n["trade_no"], n["total_amount"], n["subject"] = old.No, old.tradeNo(), yuanText(old.Fen), old.Subject
	return n
}

// showCashier is the page on which the payer would pay.
func showCashier(w http.ResponseWriter, n node) {
	w.Header().Set("Content-Type", "text/html;charset=utf-8")
	text := func(name string) string { v, _ := n[name].(string); return html.EscapeString(v) }
	if n["code"] != "10000" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "<!doctype html><title>支付宝 TEST</title><p>%s %s %s", text("code"), text("sub_code"), text("sub_msg"))
		return
	}
	fmt.Fprintf(w, "<!doctype html><title>支付宝 TEST</title><p>%s<p>%s 元<p>%s", text("subject"), text("total_amount"), text("out_trade_no"))
}

// scans finds the order that a payer's phone or browser comes with: a code, or what
// was signed for a page or app. Under the lock.
func (s *Server) scans(code string) *order {
	var seq int
	if _, err := fmt.Sscanf(code, "https://qr.alipay.com/bax%d", &seq); err == nil && seq > 0 && seq < len(s.bySeq) {
		return s.bySeq[seq]
	}
	_, query, found := strings.Cut(code, "?")
	if !found {
		query = code
	}
	form, err := url.ParseQuery(query)
	if err != nil || alipayMethods[form.Get("method")].api != "page" {
		return nil
	}
	r := s.readAlipay(form)
	if r.refused != nil || s.tradeArrives(r)["code"] != "10000" {
		return nil
	}
	return r.m.orders[r.text("out_trade_no")]
}

func yuanText(fen int64) string { return ledger.Money(fen).String() }

// paidNode is what a payment's answer and query say of a paid order.
func paidNode(o *order, at string) node {
	n := said("10000", "", "")
	yuan := yuanText(o.Fen)
	for _, name := range []string{"total_amount", "receipt_amount", "buyer_pay_amount", "invoice_amount"} {
		n[name] = yuan
	}
	n["trade_no"], n["out_trade_no"], n["point_amount"] = o.tradeNo(), o.No, "0.00"
	n["fund_bill_list"] = []map[string]string{{"fund_channel": "ALIPAYACCOUNT", "amount": yuan}}
	n[at] = beijing(o.Paid)
	name, id := o.buyer()
	n[name], n["buyer_logon_id"] = id, logonID(o)
	return n
}

// buyer is who paid: by the number that the merchant gave, or the one of the code.
func (o *order) buyer() (field, id string) {
	switch {
	case o.Buyer == "":
		return "buyer_user_id", fmt.Sprintf("2088%012d", o.Payer)
	case alipayBuyer.MatchString(o.Buyer):
		return "buyer_user_id", o.Buyer
	}
	return "buyer_open_id", o.Buyer
}

func logonID(o *order) string { return fmt.Sprintf("138****%04d", o.Payer%10_000) }

// trade is the order that a request names, Alipay's number first. A code that
// nobody has scanned is no trade.
func (s *Server) trade(r *request) *order {
	o := r.m.orders[r.text("out_trade_no")]
	if no := r.text("trade_no"); no != "" {
		o = s.byTrade(r.m, no)
	}
	if o == nil || o.State == stateOffered {
		return nil
	}
	return o
}

func noTrade() node { return refuses("ACQ.TRADE_NOT_EXIST", "交易不存在") }

func tradeStatus(o *order, now int64) string {
	back, _ := o.refunded()
	switch {
	case o.State == stateWaiting || o.State == statePassword:
		return "WAIT_BUYER_PAY"
	case o.Paid == 0 || o.State != statePaid || back >= o.Fen:
		return "TRADE_CLOSED"
	case now > o.Paid+finishSeconds:
		return "TRADE_FINISHED"
	}
	return "TRADE_SUCCESS"
}

func (s *Server) tradeQuery(r *request) node {
	o := s.trade(r)
	if o == nil {
		return noTrade()
	}
	n := said("10000", "", "")
	if n["trade_no"], n["out_trade_no"], n["total_amount"] = o.tradeNo(), o.No, yuanText(o.Fen); o.Paid > 0 {
		n = paidNode(o, "send_pay_date")
	}
	n["trade_status"] = tradeStatus(o, r.now)
	return n
}

func (s *Server) tradeClose(r *request) node {
	o := s.trade(r)
	switch {
	case o == nil:
		return noTrade()
	case o.State != stateWaiting && o.State != statePassword:
		return refuses("ACQ.REASON_TRADE_STATUS_INVALID", "交易状态异常")
	}
	s.shut(o, stateClosed)
	n := said("10000", "", "")
	n["trade_no"], n["out_trade_no"] = o.tradeNo(), o.No
	return n
}

// shut ends an order that nobody has paid.
func (s *Server) shut(o *order, to state) {
	image := *o
	image.State, image.PaysAt = to, 0
	s.putOrder(image)
}

// tradeCancel closes an unpaid trade and gives a paid one back.
func (s *Server) tradeCancel(r *request) node {
	n := said("10000", "", "")
	n["out_trade_no"], n["retry_flag"] = r.text("out_trade_no"), "N"
	o := s.trade(r)
	if o == nil {
		return n
	}
	n["out_trade_no"], n["trade_no"], n["action"] = o.No, o.tradeNo(), "close"
	if o.Paid > 0 {
		n["action"] = "refund"
	}
	switch {
	case o.State == stateReversed || o.State == stateClosed:
		return n
	case r.now > o.Created+cancelSeconds:
		return refuses("ACQ.TRADE_CANCEL_TIME_OUT", "超过撤销时间范围")
	case o.Paid == 0:
		s.shut(o, stateReversed)
		return n
	case len(o.refunds) > 0:
		return refuses("ACQ.REASON_TRADE_REFUND_FEE_ERR", "退款金额无效")
	}
	fen, fee := r.m.billed(o)
	if r.m.available(r.now) < fen-fee {
		return refuses("ACQ.SELLER_BALANCE_NOT_ENOUGH", "商户的支付宝账户中无足够的资金进行撤销")
	}
	s.shut(o, stateReversed)
	s.putRefund(refund{Merchant: r.m.No, Order: o.No, No: o.No, Fen: fen, Fee: fee, State: refundDone, At: r.now, Done: r.now, Reversal: true})
	n["gmt_refund_pay"] = beijing(r.now)
	return n
}

// alipayBalance answers alipay.data.bill.balance.query.
func (s *Server) alipayBalance(r *request) node {
	total, available := r.m.balance, r.m.available(r.now)
	n := said("10000", "", "")
	n["total_amount"], n["available_amount"], n["freeze_amount"] = yuanText(total), yuanText(available), yuanText(total-available)
	return n
}
