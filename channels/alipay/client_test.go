package alipay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

const (
	testOrder  = "HP2026091500000003"
	testRefund = "HR2026091510000009"
	contentKey = "Y2xlYXJ3YXJkLXRlc3QxNg=="
)

func testNow() time.Time { return time.Date(2026, 9, 15, 8, 0, 0, 0, ledger.Beijing) }

// gate is a gateway that checks each request and answers as it is told.
type gate struct {
	*httptest.Server
	t      *testing.T
	answer func(w http.ResponseWriter, form url.Values)
	seen   []url.Values
}

func newGate(t *testing.T, answer func(http.ResponseWriter, url.Values)) *gate {
	g := &gate{t: t, answer: answer}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/gateway.do" {
			if err := Verify(&appKey(t).PublicKey, RequestString(r.Form), r.Form.Get("sign")); err != nil {
				t.Error(err)
			}
		}
		g.seen = append(g.seen, r.Form)
		g.answer(w, r.Form)
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gate) client(change func(*Config)) *Client {
	c := Config{
		AppID: "2021000000000001", SellerID: "2088000000000002", AppKey: key(g.t, "alipay_app_TEST.pem"), AlipayKey: key(g.t, "alipay_platform_TEST_pub.pem"),
		GatewayURL: g.URL + "/gateway.do", NotifyURL: "https://pay.hospital.example/notify/ali", HTTP: g.Client(), Now: testNow,
	}
	if change != nil {
		change(&c)
	}
	return must[*Client](g.t)(New(c))
}

// says answers every call with a signed node.
func says(t *testing.T, node string) func(http.ResponseWriter, url.Values) {
	return func(w http.ResponseWriter, form url.Values) {
		fmt.Fprintf(w, `{"sign":%q,%q:%s}`, must[string](t)(Sign(platformKey(t), node)), NodeName(form.Get("method")), node)
	}
}

func unsigned(node string) func(http.ResponseWriter, url.Values) {
	return func(w http.ResponseWriter, form url.Values) {
		fmt.Fprintf(w, `{%q:%s}`, NodeName(form.Get("method")), node)
	}
}

func body(text string) func(http.ResponseWriter, url.Values) {
	return func(w http.ResponseWriter, _ url.Values) { _, _ = io.WriteString(w, text) }
}

func codePay() channels.PayRequest {
	return channels.PayRequest{OrderNo: testOrder, Way: channels.WayCode, Amount: 12345, Subject: channels.SubjectOutpatient, AuthCode: "281234567890123456"}
}

func refund() channels.RefundRequest {
	return channels.RefundRequest{OrderNo: testOrder, RefundNo: testRefund, Total: 12345, Amount: 2345, Cause: channels.CauseItem}
}

func bizError(sub string) string {
	return `{"code":"40004","msg":"Business Failed","sub_code":"` + sub + `","sub_msg":"x"}`
}

func TestTheSignedMessagesMeanWhatTheDocumentSays(t *testing.T) {
	type verdict struct {
		outcome                                           channels.Outcome
		kind                                              channels.ReasonKind
		closed, reversed, refunded, absent, again, retry2 bool
	}
	pay := func(a channels.PayAnswer) verdict {
		return verdict{a.Outcome, a.Reason.Kind, a.Closed, a.Reversed, a.Refunded, a.Absent, a.Again, false}
	}
	back := func(a channels.RefundAnswer) verdict {
		return verdict{a.Outcome, a.Reason.Kind, a.Closed, a.Abnormal, false, a.Absent, false, a.Retry}
	}
	ctx := context.Background()
	calls := map[string]func(*Client) verdict{
		"pay":          func(c *Client) verdict { return pay(c.Pay(ctx, codePay())) },
		"query":        func(c *Client) verdict { return pay(c.Query(ctx, testOrder)) },
		"cancel":       func(c *Client) verdict { return pay(c.Reverse(ctx, testOrder)) },
		"refund":       func(c *Client) verdict { return back(c.Refund(ctx, refund())) },
		"refund_query": func(c *Client) verdict { return back(c.QueryRefund(ctx, refund())) },
	}
	ok, no, wait, unk := channels.OutcomeSucceeded, channels.OutcomeFailed, channels.OutcomePending, channels.OutcomeUnknown
	for _, c := range []struct {
		call, message string
		want          verdict
	}{
		{"pay", "pay_10003", verdict{outcome: wait, kind: channels.ReasonPassword}},
		{"pay", "pay_40004_code_invalid", verdict{outcome: no, kind: channels.ReasonAuthCode}},
		{"pay", "pay_20000", verdict{outcome: unk, kind: channels.ReasonSystem}},
		{"pay", "query_success", verdict{outcome: unk, kind: channels.ReasonNetwork}}, // an answer to another call
		{"query", "query_wait", verdict{outcome: wait}},
		{"query", "query_success", verdict{outcome: ok}},
		{"query", "query_notexist", verdict{outcome: unk, kind: channels.ReasonNotFound, absent: true}},
		{"cancel", "cancel_close", verdict{outcome: no, kind: channels.ReasonClosed, reversed: true}},
		{"cancel", "cancel_refund", verdict{outcome: no, kind: channels.ReasonClosed, reversed: true, refunded: true}},
		{"refund", "refund_Y", verdict{outcome: ok}},
		{"refund", "refund_repeat_N", verdict{outcome: unk}},
		{"refund_query", "refund_query_success", verdict{outcome: ok}},
		{"refund_query", "refund_query_unknown_request", verdict{outcome: unk, kind: channels.ReasonNotFound, absent: true}},
	} {
		client := newGate(t, body(messages(t)[c.message])).client(nil)
		if got := calls[c.call](client); got != c.want {
			t.Errorf("%s %s: %+v, want %+v", c.call, c.message, got, c.want)
		}
	}
	client := newGate(t, body(vectors(t)["ali_resp"].Body)).client(nil)
	a := client.Pay(ctx, codePay())
	if a.Outcome != ok || a.Amount != 12345 || a.Settle != 12345 || a.TradeNo != "2026091522001400000000000003" || !a.SuccessAt.Equal(testNow().Add(3*time.Second)) {
		t.Errorf("%+v", a)
	}
	if other := codePay(); client.Pay(ctx, func() channels.PayRequest { other.Amount = 12346; return other }()).Outcome != unk {
		t.Error("a payment of another amount was believed")
	}
	if a := client.Pay(ctx, func() channels.PayRequest { p := codePay(); p.OrderNo = "HP2026091500000004"; return p }()); a.Outcome != unk || a.Reason.Kind != channels.ReasonDiffers {
		t.Errorf("an answer about another order: %+v", a)
	}
	if r := newGate(t, body(messages(t)["refund_Y"])).client(nil).Refund(ctx, refund()); r.Settle != 2345 || r.Amount != 2345 || r.SuccessAt.IsZero() {
		t.Errorf("%+v", r)
	}
}

func TestEveryCodeHasItsOutcomeAndKind(t *testing.T) {
	ok, no, wait, unk := channels.OutcomeSucceeded, channels.OutcomeFailed, channels.OutcomePending, channels.OutcomeUnknown
	for _, c := range []struct {
		call, node string
		outcome    channels.Outcome
		kind       channels.ReasonKind
	}{
		{"pay", bizError("ACQ.SYSTEM_ERROR"), unk, channels.ReasonSystem},
		{"pay", bizError("ACQ.TRADE_HAS_SUCCESS"), unk, channels.ReasonPaid},
		{"pay", bizError("ACQ.TRADE_HAS_CLOSE"), no, channels.ReasonClosed},
		{"pay", bizError("ACQ.CONTEXT_INCONSISTENT"), unk, channels.ReasonDiffers},
		{"pay", bizError("ACQ.BUYER_BALANCE_NOT_ENOUGH"), no, channels.ReasonBalance},
		{"pay", bizError("ACQ.BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR"), no, channels.ReasonLimit},
		{"pay", bizError("ACQ.PAYMENT_REQUEST_HAS_RISK"), no, channels.ReasonRisk},
		{"pay", bizError("ACQ.NEVER_SEEN"), unk, channels.ReasonSystem},
		{"pay", `{"code":"40002","sub_code":"isv.invalid-signature"}`, no, channels.ReasonSetup},
		{"pay", `{"code":"40001","sub_code":"isv.missing-method"}`, no, channels.ReasonRequest},
		{"pay", `{"code":"40005","sub_code":"isv.app-call-limited"}`, unk, channels.ReasonTooOften},
		{"pay", `{"code":"40006"}`, no, channels.ReasonSetup},
		{"pay", `{"code":"99999"}`, unk, channels.ReasonSystem},
		{"pay", `{"code":"10000"}`, unk, channels.ReasonDiffers},
		{"query", bizError("ACQ.SYSTEM_ERROR"), unk, channels.ReasonSystem},
		{"query", `{"code":"40002","sub_code":"isv.invalid-signature"}`, unk, channels.ReasonSetup},
		{"query", `{"code":"10000","out_trade_no":"` + testOrder + `","total_amount":"1.00","trade_status":"TRADE_CLOSED"}`, no, channels.ReasonClosed},
		{"query", `{"code":"10000","out_trade_no":"` + testOrder + `","total_amount":"1.00","trade_status":"TRADE_CLOSED","send_pay_date":"2026-09-15 08:00:03"}`, ok, ""},
		{"query", `{"code":"10000","out_trade_no":"` + testOrder + `","total_amount":"1.00","trade_status":"TRADE_CLOSED","refund_fee":"1.00"}`, ok, ""},
		{"query", `{"code":"10000","out_trade_no":"` + testOrder + `","total_amount":"1.00","trade_status":"TRADE_FINISHED"}`, ok, ""},
		{"query", `{"code":"10000","out_trade_no":"` + testOrder + `","trade_status":"TRADE_SUCCESS"}`, unk, channels.ReasonDiffers},
		{"query", `{"code":"10000","out_trade_no":"` + testOrder + `","total_amount":"1.00","trade_status":"NEW"}`, unk, channels.ReasonSystem},
		{"cancel", bizError("AQC.SYSTEM_ERROR"), unk, channels.ReasonSystem},
		{"cancel", `{"code":"10000","out_trade_no":"` + testOrder + `","retry_flag":"Y"}`, unk, ""},
		{"close", `{"code":"10000","out_trade_no":"` + testOrder + `"}`, no, channels.ReasonClosed},
		{"close", bizError("ACQ.TRADE_NOT_EXIST"), unk, channels.ReasonNotFound},
		{"close", bizError("ACQ.REASON_TRADE_STATUS_INVALID"), unk, channels.ReasonSystem},
		{"refund", bizError("ACQ.SYSTEM_ERROR"), unk, channels.ReasonSystem},
		{"refund", bizError("ACQ.SELLER_BALANCE_NOT_ENOUGH"), unk, channels.ReasonMerchantFunds},
		{"refund", bizError("ACQ.DISCORDANT_REPEAT_REQUEST"), unk, channels.ReasonDiffers},
		{"refund", bizError("ACQ.TRADE_NOT_ALLOW_REFUND"), no, channels.ReasonNotRefundable},
		{"refund", bizError("ACQ.TRADE_HAS_FINISHED"), no, channels.ReasonTooLate},
		{"refund", `{"code":"10000","out_trade_no":"` + testOrder + `","refund_fee":"23.45"}`, unk, ""},
		{"refund", `{"code":"10000","out_trade_no":"` + testOrder + `","fund_change":"Y","refund_fee":"1.00"}`, unk, channels.ReasonDiffers},
		{"refund_query", `{"code":"10000","out_trade_no":"` + testOrder + `","out_request_no":"` + testRefund + `","refund_amount":"23.45"}`, wait, ""},
		{"refund_query", `{"code":"10000","out_trade_no":"` + testOrder + `","out_request_no":"` + testRefund + `","refund_amount":"1.00","refund_status":"REFUND_SUCCESS"}`, unk, channels.ReasonDiffers},
		{"refund_query", `{"code":"10000","out_trade_no":"` + testOrder + `","out_request_no":"HR1","refund_amount":"23.45","refund_status":"REFUND_SUCCESS"}`, unk, channels.ReasonDiffers},
	} {
		if outcome, kind := outcomeOf(newGate(t, says(t, c.node)).client(nil), c.call); outcome != c.outcome || kind != c.kind {
			t.Errorf("%s %s: %s %s", c.call, c.node, outcome, kind)
		}
		if outcome, _ := outcomeOf(newGate(t, unsigned(c.node)).client(nil), c.call); outcome != unk {
			t.Errorf("%s %s without a signature: %s", c.call, c.node, outcome)
		}
	}
}

func outcomeOf(c *Client, call string) (channels.Outcome, channels.ReasonKind) {
	ctx := context.Background()
	var a channels.PayAnswer
	switch call {
	case "pay":
		a = c.Pay(ctx, codePay())
	case "query":
		a = c.Query(ctx, testOrder)
	case "cancel":
		a = c.Reverse(ctx, testOrder)
	case "close":
		a = c.Close(ctx, testOrder)
	case "refund":
		r := c.Refund(ctx, refund())
		return r.Outcome, r.Reason.Kind
	case "refund_query":
		r := c.QueryRefund(ctx, refund())
		return r.Outcome, r.Reason.Kind
	}
	return a.Outcome, a.Reason.Kind
}

func TestWhateverGoesWrongOnTheWayIsUnknown(t *testing.T) {
	good := vectors(t)["ali_resp"]
	for name, answer := range map[string]func(http.ResponseWriter, url.Values){
		"garbage":         body("<html>502</html>"),
		"nothing":         body(""),
		"cut off":         body(good.Body[:200]),
		"wrong signature": body(strings.Replace(good.Body, `"sign":"O`, `"sign":"P`, 1)),
		"a changed digit": body(strings.Replace(good.Body, `"total_amount":"123.45"`, `"total_amount":"923.45"`, 1)),
		"no signature":    unsigned(good.Node),
		"not 2xx":         func(w http.ResponseWriter, f url.Values) { w.WriteHeader(500); body(good.Body)(w, f) },
		"broken":          func(http.ResponseWriter, url.Values) { panic(http.ErrAbortHandler) },
	} {
		client := newGate(t, answer).client(nil)
		for _, call := range []string{"pay", "query", "cancel", "close", "refund", "refund_query"} {
			if outcome, kind := outcomeOf(client, call); outcome != channels.OutcomeUnknown || kind == channels.ReasonNone {
				t.Errorf("%s, %s: %s %s", name, call, outcome, kind)
			}
		}
	}
	done := make(chan struct{})
	slow := newGate(t, func(http.ResponseWriter, url.Values) { <-done })
	defer close(done)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if a := slow.client(nil).Pay(ctx, codePay()); a.Outcome != channels.OutcomeUnknown || a.Reason.Kind != channels.ReasonNetwork || a.Exchange.Fault == "" {
		t.Errorf("time-out: %+v", a)
	}
}

func TestOneOrderWithoutAnAnswerIsNoOutageOfAlipayAndManyAre(t *testing.T) {
	client := newGate(t, func(http.ResponseWriter, url.Values) { panic(http.ErrAbortHandler) }).client(nil)
	calls := []string{"pay", "query", "cancel", "close", "refund", "refund_query"}
	for range 10 {
		for _, call := range calls {
			if outcome, kind := outcomeOf(client, call); outcome != channels.OutcomeUnknown || kind != channels.ReasonNetwork {
				t.Errorf("one order, %s: %s %s", call, outcome, kind)
			}
		}
	}
	for i := range 9 {
		if a := client.Query(t.Context(), "Q"+strconv.Itoa(i)); a.Reason.Kind != channels.ReasonNetwork {
			t.Errorf("order %d: %+v", i, a)
		}
	}
	for _, call := range calls {
		if _, kind := outcomeOf(client, call); kind != channels.ReasonBreaker {
			t.Errorf("ten orders, %s: %s", call, kind)
		}
	}
}

// B11–B13: what breaks a rule is refused here, with a reason, and nothing is sent.
func TestABadCodeNumberOrAmountIsNotSent(t *testing.T) {
	g := newGate(t, says(t, `{}`))
	client := g.client(nil)
	for _, change := range []func(*channels.PayRequest){
		func(p *channels.PayRequest) { p.AuthCode = "134512345678901234" },
		func(p *channels.PayRequest) { p.AuthCode = "281234567890123" },
		func(p *channels.PayRequest) { p.AuthCode = "2812345678901234567890123" },
		func(p *channels.PayRequest) { p.AuthCode = "28123456789012345x" },
		func(p *channels.PayRequest) { p.AuthCode = "311234567890123456" },
		func(p *channels.PayRequest) { p.OrderNo = "HP-1" },
		func(p *channels.PayRequest) { p.OrderNo = "" },
		func(p *channels.PayRequest) { p.Amount = 0 },
		func(p *channels.PayRequest) { p.Amount = 100_000_000_01 },
		func(p *channels.PayRequest) { p.Way = channels.WayJSAPI },
		func(p *channels.PayRequest) { p.Way = "CARD" },
	} {
		p := codePay()
		change(&p)
		if a := client.Pay(context.Background(), p); a.Outcome != channels.OutcomeFailed || a.Reason.Kind == channels.ReasonNone {
			t.Errorf("%+v: %+v", p, a)
		}
	}
	r := refund()
	r.Amount = r.Total + 1
	if a := client.Refund(context.Background(), r); a.Outcome != channels.OutcomeFailed || len(g.seen) != 0 {
		t.Errorf("%+v, %d requests", a, len(g.seen))
	}
	for _, code := range []string{"2512345678901234", "300000000000000000000000"} {
		if !authCode.MatchString(code) {
			t.Errorf("%s refused", code)
		}
	}
}

func TestOtherWaysGiveThePayerWhatToGoOnWith(t *testing.T) {
	g := newGate(t, says(t, `{"code":"10000","out_trade_no":"`+testOrder+`","trade_no":"T1","qr_code":"https:\/\/qr.alipay.com\/x"}`))
	client := g.client(func(c *Config) { c.ReturnURL = "https://pay.hospital.example/done" })
	pay := func(way channels.Way, payer string) channels.PayAnswer {
		p := codePay()
		p.Way, p.AuthCode, p.Payer, p.ExpireAt = way, "", payer, testNow().Add(time.Hour)
		return client.Pay(context.Background(), p)
	}
	if a := pay(channels.WayQR, ""); a.Outcome != channels.OutcomePending || a.Prepay.Code != "https://qr.alipay.com/x" {
		t.Errorf("%+v", a)
	}
	if a := pay(channels.WayJSAPI, "2088000000000009"); a.Outcome != channels.OutcomePending || a.Prepay.Bring["tradeNO"] != "T1" {
		t.Errorf("%+v", a)
	}
	if text := g.seen[1].Get("biz_content"); !strings.Contains(text, `"buyer_id":"2088000000000009"`) || !strings.Contains(text, `"time_expire":"2026-09-15 09:00:00"`) {
		t.Error(text)
	}
	for way, product := range map[channels.Way]string{channels.WayPage: "FAST_INSTANT_TRADE_PAY", channels.WayH5: "QUICK_WAP_WAY", channels.WayApp: "QUICK_MSECURITY_PAY"} {
		a := pay(way, "")
		text := a.Prepay.Form
		if way != channels.WayApp {
			text = strings.TrimPrefix(a.Prepay.URL, client.gateway+"?")
		}
		form := must[url.Values](t)(url.ParseQuery(text))
		if err := Verify(&appKey(t).PublicKey, RequestString(form), form.Get("sign")); err != nil || a.Outcome != channels.OutcomePending ||
			!strings.Contains(form.Get("biz_content"), product) || form.Get("notify_url") == "" || (form.Get("return_url") == "") != (way == channels.WayApp) {
			t.Errorf("%s: %v %v", way, err, form)
		}
	}
	if len(g.seen) != 2 {
		t.Errorf("%d requests", len(g.seen))
	}
}

func TestCertificateModeAndEncryptionGoBothWays(t *testing.T) {
	node := ""
	g := newGate(t, nil)
	sn := "9abe85402bc87291db90e4224badb84d"
	g.answer = func(w http.ResponseWriter, form url.Values) {
		if form.Get("app_cert_sn") != "7bf02f28f5f063d43865aaffe32d38ab" || form.Get("alipay_root_cert_sn") != "fd42c6df96fc449150cc81421fafbfa0" || form.Get("encrypt_type") != "AES" {
			t.Errorf("%v", form)
		}
		if plain := must[string](t)(DecryptContent(contentKey, form.Get("biz_content"))); !strings.Contains(plain, testOrder) {
			t.Error(plain)
		}
		node = `"` + must[string](t)(EncryptContent(contentKey, vectors(t)["ali_resp"].Node)) + `"`
		fmt.Fprintf(w, `{%q:%s,"alipay_cert_sn":%q,"sign":%q}`, NodeName(form.Get("method")), node, sn, must[string](t)(Sign(platformKey(t), node)))
	}
	client := g.client(func(c *Config) {
		c.AppCert, c.RootCert, c.AlipayCert, c.ContentKey = key(t, "app_cert_TEST.crt"), key(t, "root_cert_TEST.crt"), key(t, "alipay_cert_TEST.crt"), contentKey
	})
	if a := client.Pay(context.Background(), codePay()); a.Outcome != channels.OutcomeSucceeded || !strings.Contains(a.Exchange.Response, `"total_amount":"123.45"`) {
		t.Errorf("%+v", a)
	}
	sn = "77"
	if a := client.Pay(context.Background(), codePay()); a.Outcome != channels.OutcomeUnknown || a.Reason.Kind != channels.ReasonSignature {
		t.Errorf("signed with a certificate that is not set up: %+v", a)
	}
}

func TestTheRecordShowsNoCodePayerOrKey(t *testing.T) {
	g := newGate(t, body(vectors(t)["ali_resp"].Body))
	x := g.client(nil).Pay(context.Background(), codePay()).Exchange
	for _, secret := range []string{"281234567890123456", "2088000000000001", "159****5620", vectors(t)["ali_resp"].Sign[:20], g.seen[0].Get("sign")[:20]} {
		if strings.Contains(x.Request+x.Response, secret) {
			t.Errorf("%q in %s\n%s", secret, x.Request, x.Response)
		}
	}
	if !strings.Contains(x.Request, testOrder) || !strings.Contains(x.Response, "10000") || x.Status != 200 {
		t.Errorf("%+v", x)
	}
	if text := mask(messages(t)["bill_url"]); strings.Contains(text, "TEST") {
		t.Error(text)
	}
}

func noticeForm(t testing.TB, change func(url.Values)) []byte {
	v := vectors(t)["ali_notify"]
	p := url.Values{}
	for _, pair := range strings.Split(v.String, "&") {
		name, value, _ := strings.Cut(pair, "=")
		p.Set(name, value)
	}
	change(p)
	p.Set("sign", must[string](t)(Sign(platformKey(t), NoticeString(p))))
	p.Set("sign_type", "RSA2")
	return []byte(p.Encode())
}

func TestNoticesOfPaymentsAndRefundsAreRead(t *testing.T) {
	client := newGate(t, nil).client(nil)
	n, err := client.ParseNotice(nil, noticeForm(t, func(p url.Values) { p.Set("buyer_id", "2088000000000009") }))
	if err != nil || n.Kind != channels.NoticePayment || n.Payment.Outcome != channels.OutcomeSucceeded || n.Payment.Amount != 12345 || n.Payment.OrderNo != testOrder ||
		n.MerchantNo != "2088000000000002" || n.Payment.Refunded || strings.Contains(n.Body, "2088000000000009") || strings.Contains(n.Body, "sign") {
		t.Errorf("%+v %v", n, err)
	}
	for _, c := range []struct {
		status, fee, closed string
	}{{"TRADE_SUCCESS", "23.45", ""}, {"TRADE_CLOSED", "123.45", "2026-09-15 09:00:01"}} {
		n, err := client.ParseNotice(nil, noticeForm(t, func(p url.Values) {
			p.Set("trade_status", c.status)
			p.Set("refund_fee", c.fee)
			p.Set("out_biz_no", testRefund)
			p.Set("gmt_refund", "2026-09-15 09:00:01.123")
			p.Set("gmt_close", c.closed)
		}))
		if err != nil || n.Kind != channels.NoticeRefund || n.Refund.Outcome != channels.OutcomeSucceeded || n.Refund.RefundNo != testRefund ||
			!n.Payment.Refunded || n.Payment.Outcome != channels.OutcomeSucceeded || n.Refund.SuccessAt.IsZero() {
			t.Errorf("%+v %v", n, err)
		}
	}
	n, err = client.ParseNotice(nil, noticeForm(t, func(p url.Values) { p.Set("trade_status", "TRADE_CLOSED"); p.Del("gmt_payment") }))
	if err != nil || n.Payment.Outcome != channels.OutcomeFailed || !n.Payment.Closed {
		t.Errorf("%+v %v", n, err)
	}
	if client.NoticeReply(nil).Body != "success" || client.NoticeReply(err).Status != 200 || client.NoticeReply(channels.ErrNotice).Body == "success" {
		t.Error("the reply is not the one that Alipay expects")
	}
}

func TestForgedAndForeignNoticesAreRefused(t *testing.T) {
	client := newGate(t, nil).client(nil)
	good := string(noticeForm(t, func(url.Values) {}))
	for name, text := range map[string]string{
		"changed":          strings.Replace(good, "123.45", "923.45", 1),
		"twice a field":    good + "&total_amount=1.00",
		"no form":          "%zz",
		"empty":            "",
		"without RSA2":     strings.Replace(good, "sign_type=RSA2", "sign_type=RSA", 1),
		"another app":      string(noticeForm(t, func(p url.Values) { p.Set("app_id", "1") })),
		"another merchant": string(noticeForm(t, func(p url.Values) { p.Set("seller_id", "2088000000000003") })),
		"no merchant":      string(noticeForm(t, func(p url.Values) { p.Del("seller_id") })),
		"no amount":        string(noticeForm(t, func(p url.Values) { p.Del("total_amount") })),
		"another type":     string(noticeForm(t, func(p url.Values) { p.Set("notify_type", "x") })),
	} {
		if n, err := client.ParseNotice(nil, []byte(text)); !errors.Is(err, channels.ErrNotice) {
			t.Errorf("%s: %+v %v", name, n, err)
		}
	}
}

func TestABillIsFetchedFromItsAddress(t *testing.T) {
	g := newGate(t, nil)
	g.answer = func(w http.ResponseWriter, form url.Values) {
		if form.Get("method") == "" {
			_, _ = w.Write(sample(t, tradeFile))
			return
		}
		if got := form.Get("biz_content"); got != `{"bill_type":"trade","bill_date":"2026-09-14"}` {
			t.Error(got)
		}
		says(t, `{"code":"10000","bill_download_url":"`+strings.ReplaceAll(g.URL, "/", `\/`)+`\/downloadBillFile.resource?token=T"}`)(w, form)
	}
	file, err := g.client(nil).FetchBill(context.Background(), channels.BillTrade, 20260914)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(file)
	if err != nil || string(text) != string(sample(t, tradeFile)) || file.Close() != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	for _, c := range []struct {
		node string
		day  ledger.Day
		want error
	}{
		{bizError("isp.bill_not_exist"), 20260913, channels.ErrNoBill},
		{`{"code":"10000","bill_file_code":"EMPTY_DATA_WITH_BILL_FILE"}`, 20260913, channels.ErrNoBill},
		{bizError("isp.bill_not_exist"), 20260914, channels.ErrBillNotReady}, // it is eight o'clock
		{bizError("isv.invalid_arguments"), 20260915, channels.ErrBillNotReady},
		{bizError("isv.invalid_arguments"), 20260914, channels.ErrBillRefused},
		{bizError("isp.no_permission"), 20260914, channels.ErrBillRefused},
		{`{"code":"10000","bill_download_url":"file:///etc/passwd"}`, 20260914, channels.ErrBillRefused},
	} {
		if _, err := newGate(t, says(t, c.node)).client(nil).FetchBill(context.Background(), channels.BillFund, c.day); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.node, err)
		}
	}
	if _, err := newGate(t, unsigned(bizError("isp.bill_not_exist"))).client(nil).FetchBill(context.Background(), channels.BillTrade, 20260914); errors.Is(err, channels.ErrNoBill) || err == nil {
		t.Errorf("nobody signed that there is no bill: %v", err)
	}
	total, free, err := newGate(t, says(t, `{"code":"10000","total_amount":"13044.58","available_amount":"13000.00","freeze_amount":"44.58"}`)).client(nil).Balance(context.Background())
	if err != nil || total != 1304458 || free != 1300000 {
		t.Errorf("%s %s %v", total, free, err)
	}
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no app":       func(c *Config) { c.AppID = "" },
		"plain http":   func(c *Config) { c.GatewayURL = "http://openapi.alipay.com/gateway.do" },
		"no key":       func(c *Config) { c.AppKey = "" },
		"no public":    func(c *Config) { c.AlipayKey = "" },
		"content key":  func(c *Config) { c.ContentKey = "YWJj" },
		"certificates": func(c *Config) { c.AppCert = key(t, "app_cert_TEST.crt") },
	} {
		c := Config{AppID: "1", SellerID: "2", AppKey: key(t, "alipay_app_TEST.pem"), AlipayKey: key(t, "alipay_platform_TEST_pub.pem"), GatewayURL: "https://openapi.alipay.com/gateway.do", Now: testNow}
		if _, err := New(c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := New(c); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzNotice(f *testing.F) {
	f.Add(noticeForm(f, func(url.Values) {}))
	f.Add(noticeForm(f, func(p url.Values) { p.Set("out_biz_no", testRefund); p.Set("refund_fee", "1.00") }))
	client := must[*Client](f)(New(Config{AppID: "2021000000000001", SellerID: "2088000000000002", AppKey: key(f, "alipay_app_TEST.pem"),
		AlipayKey: key(f, "alipay_platform_TEST_pub.pem"), GatewayURL: "https://openapi.alipay.com/gateway.do", Now: testNow}))
	private := platformKey(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, err := url.ParseQuery(string(text)); err == nil { // signed anew, so that what is behind the signature is reached
			sign, _ := Sign(private, NoticeString(p))
			p.Set("sign", sign)
			p.Set("sign_type", "RSA2")
			text = []byte(p.Encode())
		}
		n, err := client.ParseNotice(nil, text)
		if err != nil {
			if !errors.Is(err, channels.ErrNotice) {
				t.Errorf("%v is no refusal", err)
			}
			return
		}
		if n.Payment.Amount <= 0 || n.Payment.OrderNo == "" || n.MerchantNo != "2088000000000002" || n.Kind == channels.NoticeRefund && n.Refund.RefundNo == "" {
			t.Errorf("%+v", n)
		}
	})
}
