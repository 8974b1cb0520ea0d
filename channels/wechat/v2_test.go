package wechat

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

const apiKey = "8934e7d15453e97507ef794cf7b0519d"

var noon = time.Date(2026, 9, 15, 12, 0, 0, 0, ledger.Beijing)

// answering is a server that says what it is told, and keeps what it was sent.
type answering struct {
	sync.Mutex
	*httptest.Server
	reply func(http.ResponseWriter, *http.Request)
	sent  []string
}

func serve(t testing.TB, reply func(http.ResponseWriter, *http.Request)) *answering {
	s := &answering{reply: reply}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.Lock()
		s.sent = append(s.sent, r.URL.Path+" "+r.URL.RawQuery, string(body))
		reply := s.reply
		s.Unlock()
		reply(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *answering) v2(t testing.TB, change func(*Config)) *V2 {
	t.Helper()
	cfg := Config{MerchantNo: "10000100", AppID: "wx2421b1c4370ec43b", BaseURL: s.URL, NotifyURL: "https://pay.hospital.example/notify/wx", RefundNotifyURL: "https://pay.hospital.example/notify/wxr",
		Key: apiKey, SignType: SignMD5, Now: func() time.Time { return noon }}
	if change != nil {
		change(&cfg)
	}
	v, err := NewV2(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// signed is an answer of the channel with these fields over the usual ones.
func signed(more Message) Message {
	m := Message{"return_code": "SUCCESS", "appid": "wx2421b1c4370ec43b", "mch_id": "10000100", "nonce_str": "n", "result_code": "SUCCESS"}
	maps.Copy(m, more)
	m["sign"] = m.Sign(SignMD5, apiKey)
	return m
}

func says(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func codePay() channels.PayRequest {
	return channels.PayRequest{OrderNo: "HP2026091500000001", Way: channels.WayCode, Amount: 12345, Subject: channels.SubjectOutpatient, AuthCode: "134512345678901234", ClientIP: "10.1.2.3"}
}

func refund() channels.RefundRequest {
	return channels.RefundRequest{OrderNo: "HP2026091500000001", RefundNo: "HR2026091500000001", Total: 12345, Amount: 2345, Cause: channels.CauseItem}
}

func TestSignedMessagesOfV2BecomeOutcomes(t *testing.T) {
	var samples signedMessages
	load(t, "wechat_v2_messages.json", &samples)
	s := serve(t, nil)
	v := s.v2(t, nil)
	ctx := context.Background()
	const order = "HP2026091500000001"
	at := time.Date(2026, 9, 15, 8, 0, 3, 0, ledger.Beijing)
	for name, want := range map[string]channels.PayAnswer{
		"micropay_success":          {Outcome: channels.OutcomeSucceeded, OrderNo: order, TradeNo: "4200002345202609150000009001", Amount: 12345, Settle: 12345, SuccessAt: at},
		"micropay_userpaying":       {Outcome: channels.OutcomePending, OrderNo: order, Reason: channels.Reason{Kind: channels.ReasonPassword, Code: "USERPAYING", Text: "需要用户输入支付密码"}},
		"micropay_systemerror":      {Outcome: channels.OutcomeUnknown, OrderNo: order, Reason: channels.Reason{Kind: channels.ReasonSystem, Code: "SYSTEMERROR", Text: "系统错误"}},
		"micropay_authcode_invalid": {Outcome: channels.OutcomeFailed, OrderNo: order, Reason: channels.Reason{Kind: channels.ReasonAuthCode, Code: "AUTH_CODE_INVALID", Text: "101 付款码无效，请重新扫码"}},
		"comm_fail_sign":            {Outcome: channels.OutcomeUnknown, OrderNo: order, Reason: channels.Reason{Kind: channels.ReasonSetup, Code: "return_code FAIL", Text: "签名错误"}},
		"orderquery_userpaying":     {Outcome: channels.OutcomePending, OrderNo: order, Reason: channels.Reason{Kind: channels.ReasonPassword, Code: "USERPAYING", Text: "需要用户输入支付密码"}},
		"orderquery_success":        {Outcome: channels.OutcomeSucceeded, OrderNo: order, TradeNo: "4200002345202609150000009001", Amount: 12345, Settle: 12345, SuccessAt: at},
		"orderquery_notexist":       {Outcome: channels.OutcomeUnknown, OrderNo: order, Absent: true, Reason: channels.Reason{Kind: channels.ReasonNotFound, Code: "ORDERNOTEXIST", Text: "订单不存在"}},
		"reverse_done":              {Outcome: channels.OutcomeFailed, OrderNo: order, Reversed: true, Reason: channels.Reason{Kind: channels.ReasonClosed}},
		"reverse_again":             {Outcome: channels.OutcomeUnknown, OrderNo: order, Again: true, Reason: channels.Reason{Kind: channels.ReasonSystem, Code: "SYSTEMERROR", Text: "系统错误"}},
	} {
		s.reply = says(samples.Messages[name])
		var got channels.PayAnswer
		switch {
		case strings.HasPrefix(name, "orderquery"):
			got = v.Query(ctx, order)
		case strings.HasPrefix(name, "reverse"):
			got = v.Reverse(ctx, order)
		default:
			got = v.Pay(ctx, codePay())
		}
		x := got.Exchange
		if got.Exchange = nil; !samePay(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if x == nil || x.Status != 200 || strings.Contains(x.Request+x.Response, "134512345678901234") || strings.Contains(x.Response, "oUpF8uN95") || strings.Contains(x.Response, samples.Messages[name][len(samples.Messages[name])-50:]) && name != "comm_fail_sign" {
			t.Errorf("%s: the record is not masked: %+v", name, x)
		}
	}
	s.reply = says(samples.Messages["refund_accepted"])
	a := v.Refund(ctx, refund())
	if a.Outcome != channels.OutcomePending || a.RefundID != "50300007002026091500000009001" || a.Amount != 2345 || a.Settle != 2345 {
		t.Errorf("%+v", a)
	}
	s.reply = says(samples.Messages["refundquery_success"])
	for _, by := range []channels.RefundRequest{refund(), {RefundID: "50300007002026091500000009001", OrderNo: "HP2026091500000001"}, {OrderNo: "HP2026091500000001"}, {TradeNo: "4200002345202609150000009001"}} {
		if a := v.QueryRefund(ctx, by); a.Outcome != channels.OutcomeSucceeded || a.Amount != 2345 || a.PaidTo != channels.PaidToPayer || !a.SuccessAt.Equal(at.Add(20*time.Minute)) || strings.Contains(a.Exchange.Response, "招商") {
			t.Errorf("%+v: %+v", by, a)
		}
	}
	if a := v.QueryRefund(ctx, channels.RefundRequest{RefundNo: "HR2"}); a.Outcome != channels.OutcomeUnknown {
		t.Errorf("another refund's answer is taken: %+v", a)
	}
}

func samePay(a, b channels.PayAnswer) bool {
	same := a.SuccessAt.Equal(b.SuccessAt) && len(a.Prepay.Bring) == len(b.Prepay.Bring)
	return same && a.Outcome == b.Outcome && a.OrderNo == b.OrderNo && a.TradeNo == b.TradeNo && a.Amount == b.Amount && a.Settle == b.Settle && a.Closed == b.Closed &&
		a.Reversed == b.Reversed && a.Refunded == b.Refunded && a.Absent == b.Absent && a.Again == b.Again && a.Reason == b.Reason
}

// Golden rule 2: what cannot be believed is Unknown, whatever it says.
func TestAnswersThatCannotBeBelievedAreUnknown(t *testing.T) {
	good := signed(Message{"out_trade_no": "HP2026091500000001", "transaction_id": "42", "total_fee": "12345", "time_end": "20260915080003", "trade_state": "SUCCESS", "refund_id": "50", "out_refund_no": "HR2026091500000001", "refund_fee": "2345"})
	changed := func(name, value string) string {
		m := maps.Clone(good)
		m[name] = value
		return string(m.XML())
	}
	resigned := func(more Message) string {
		m := maps.Clone(good)
		maps.Copy(m, more)
		return string(signed(m).XML())
	}
	s := serve(t, nil)
	for name, reply := range map[string]func(http.ResponseWriter, *http.Request){
		"garbage": says("garbage"), "empty": says(""), "half": says(string(good.XML()[:100])), "too long": says("<xml><a>" + strings.Repeat("a", 1<<20) + "</a></xml>"),
		"wrong sign": says(changed("sign", strings.Repeat("A", 32))), "changed amount": says(changed("total_fee", "1")), "no sign": says(changed("sign", "")),
		"another merchant": says(resigned(Message{"mch_id": "10000101"})), "another app": says(resigned(Message{"appid": "wx"})), "partner's": says(resigned(Message{"sub_mch_id": "1900000109"})),
		"another order": says(resigned(Message{"out_trade_no": "HP9", "out_refund_no": "HR9"})), "no amount": says(resigned(Message{"total_fee": "", "refund_fee": ""})), "signed otherwise": says(resigned(Message{"sign_type": "HMAC-SHA256"})),
		"broken off": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/else", http.StatusTemporaryRedirect)
		},
		"status 500":        func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); _, _ = w.Write(good.XML()) },
		"unlisted code":     says(resigned(Message{"result_code": "FAIL", "err_code": "NEW_CODE"})),
		"no answer in time": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		s.reply = reply
		v := s.v2(t, nil)
		ctx, cancel := context.WithCancel(context.Background())
		if name == "no answer in time" {
			ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
		}
		for call, outcome := range map[string]channels.Outcome{
			"pay": v.Pay(ctx, codePay()).Outcome, "query": v.Query(ctx, "HP2026091500000001").Outcome, "reverse": v.Reverse(ctx, "HP2026091500000001").Outcome,
			"refund": v.Refund(ctx, refund()).Outcome, "refund query": v.QueryRefund(ctx, refund()).Outcome,
		} {
			if outcome != channels.OutcomeUnknown {
				t.Errorf("%s: %s gives %s", name, call, outcome)
			}
		}
		cancel()
	}
	s.reply = says(string(good.XML()))
	if a := s.v2(t, nil).Pay(context.Background(), codePay()); a.Outcome != channels.OutcomeSucceeded {
		t.Errorf("the unchanged answer gives %+v", a)
	}
}

func TestEveryCodeOfV2HasItsVerdict(t *testing.T) {
	s := serve(t, nil)
	v := s.v2(t, nil)
	ctx := context.Background()
	fail := func(code string) {
		s.reply = says(string(signed(Message{"result_code": "FAIL", "err_code": code, "recall": "N"}).XML()))
	}
	for code, want := range payCodes {
		fail(code)
		if a := v.Pay(ctx, codePay()); a.Outcome != want.outcome || a.Reason.Kind != want.kind || a.Reason.Code != code {
			t.Errorf("pay %s: %+v", code, a)
		}
	}
	for code, want := range refundCodes {
		fail(code)
		if a := v.Refund(ctx, refund()); a.Outcome != want.outcome || a.Reason.Kind != want.kind || a.Retry != (want.flags&retry != 0) {
			t.Errorf("refund %s: %+v", code, a)
		}
	}
	for code, want := range reverseCodes {
		fail(code)
		if a := v.Reverse(ctx, "HP1"); a.Outcome != channels.OutcomeUnknown || a.Again != (want.flags&again != 0) {
			t.Errorf("reverse %s: %+v", code, a)
		}
	}
	fail("REFUNDNOTEXIST")
	if a := v.QueryRefund(ctx, refund()); !a.Absent || a.Outcome != channels.OutcomeUnknown {
		t.Errorf("%+v", a)
	}
	fail("ORDERPAID")
	if a := v.Close(ctx, "HP1"); a.Outcome != channels.OutcomeUnknown || a.Reason.Kind != channels.ReasonPaid {
		t.Errorf("%+v", a)
	}
	s.reply = says(string(signed(Message{"result_code": "FAIL", "err_code": "INVALID_REQUEST", "err_code_des": "201 商户订单号重复"}).XML()))
	if a := v.Pay(ctx, codePay()); a.Outcome != channels.OutcomeUnknown || a.Reason.Kind != channels.ReasonDiffers {
		t.Errorf("a repeated number gives %+v", a)
	}
	for state, want := range map[string]channels.PayAnswer{
		"NOTPAY": {Outcome: channels.OutcomePending}, "CLOSED": {Outcome: channels.OutcomeFailed, Closed: true}, "REVOKED": {Outcome: channels.OutcomeFailed, Reversed: true},
		"PAYERROR": {Outcome: channels.OutcomeFailed}, "REFUND": {Outcome: channels.OutcomeSucceeded, Refunded: true}, "NEW": {Outcome: channels.OutcomeUnknown},
	} {
		s.reply = says(string(signed(Message{"trade_state": state, "out_trade_no": "HP1", "transaction_id": "42", "total_fee": "100", "settlement_total_fee": "90", "time_end": "20260915080003"}).XML()))
		a := v.Query(ctx, "HP1")
		if a.Outcome != want.Outcome || a.Closed != want.Closed || a.Reversed != want.Reversed || a.Refunded != want.Refunded || (want.Refunded && a.Settle != 90) {
			t.Errorf("%s: %+v", state, a)
		}
	}
}

func TestWhatBreaksARuleIsRefusedBeforeItIsSent(t *testing.T) {
	s := serve(t, says("no"))
	v := s.v2(t, func(c *Config) { c.NotifyURL = "" })
	for name, c := range map[string]struct {
		change func(*channels.PayRequest)
		kind   channels.ReasonKind
	}{
		"17 digits (B11)": {func(r *channels.PayRequest) { r.AuthCode = r.AuthCode[:17] }, channels.ReasonAuthCode},
		"prefix 16 (B11)": {func(r *channels.PayRequest) { r.AuthCode = "16" + r.AuthCode[2:] }, channels.ReasonAuthCode},
		"Alipay's (B11)":  {func(r *channels.PayRequest) { r.AuthCode = "281234567890123456" }, channels.ReasonAuthCode},
		"nothing (W01)":   {func(r *channels.PayRequest) { r.Amount = 0 }, channels.ReasonRequest},
		"below nothing":   {func(r *channels.PayRequest) { r.Amount = -1 }, channels.ReasonRequest},
		"free subject":    {func(r *channels.PayRequest) { r.Subject = "张三 门诊" }, channels.ReasonRequest},
		"order number":    {func(r *channels.PayRequest) { r.OrderNo = "HP 1" }, channels.ReasonRequest},
		"way":             {func(r *channels.PayRequest) { r.Way = channels.WayPage }, channels.ReasonRequest},
		"no notify_url":   {func(r *channels.PayRequest) { r.Way = channels.WayQR }, channels.ReasonRequest},
		"no openid":       {func(r *channels.PayRequest) { r.Way = channels.WayJSAPI }, channels.ReasonRequest},
		"patient data":    {func(r *channels.PayRequest) { r.Terminal = "OP|10003|INS" }, channels.ReasonRequest},
	} {
		r := codePay()
		c.change(&r)
		if a := v.Pay(context.Background(), r); a.Outcome != channels.OutcomeFailed || a.Reason.Kind != c.kind {
			t.Errorf("%s: %+v", name, a)
		}
	}
	bad := refund()
	bad.Cause = "张三不来了"
	over := refund()
	over.Amount = over.Total + 1
	for _, r := range []channels.RefundRequest{bad, over} {
		if a := v.Refund(context.Background(), r); a.Outcome != channels.OutcomeFailed || a.Reason.Kind != channels.ReasonRequest {
			t.Errorf("%+v", a)
		}
	}
	if len(s.sent) > 0 {
		t.Errorf("sent: %q", s.sent)
	}
}

// Every request body that V2 can make is scanned for patient data (L7).
func TestNoRequestOfV2TellsOfAPatient(t *testing.T) {
	s := serve(t, says(string(signed(Message{"prepay_id": "wx20", "code_url": "weixin://x", "mweb_url": "https://x"}).XML())))
	v := s.v2(t, nil)
	ctx := context.Background()
	for _, way := range []channels.Way{channels.WayCode, channels.WayQR, channels.WayJSAPI, channels.WayApp, channels.WayH5} {
		r := codePay()
		r.Way, r.Payer, r.Terminal, r.ExpireAt = way, "oUpF8uN95-Ptaags6E_roPHg7AG0", "KIOSK01", noon
		if a := v.Pay(ctx, r); way != channels.WayCode && (a.Outcome != channels.OutcomePending || a.Prepay.Code+a.Prepay.URL+a.Prepay.Bring["sign"]+a.Prepay.Bring["paySign"] == "") {
			t.Errorf("%s: %+v", way, a)
		}
	}
	v.Query(ctx, "HP1")
	v.Close(ctx, "HP1")
	v.Reverse(ctx, "HP1")
	v.Refund(ctx, refund())
	v.QueryRefund(ctx, refund())
	_, _ = v.FetchBill(ctx, channels.BillTrade, 20711)
	_, _ = v.FetchBill(ctx, channels.BillFund, 20711)
	_, _, _ = v.Comments(ctx, noon, noon, 0)
	if len(s.sent) != 26 {
		t.Errorf("%d texts sent", len(s.sent))
	}
	for _, text := range s.sent {
		if found := channels.ScanPayload(text); len(found) > 0 {
			t.Errorf("%q in %s", found, text)
		}
		for _, never := range []string{"<attach>", "<detail>", "<goods"} {
			if strings.Contains(text, never) {
				t.Errorf("%s is sent: %s", never, text)
			}
		}
	}
}

func TestNoticesOfV2AreVerifiedAndOurs(t *testing.T) {
	v := serve(t, nil).v2(t, nil)
	pay := Message{"out_trade_no": "HP1", "transaction_id": "42", "total_fee": "100", "time_end": "20260915080003"}
	n, err := v.ParseNotice(nil, signed(pay).XML())
	if err != nil || n.Kind != channels.NoticePayment || n.Payment.Outcome != channels.OutcomeSucceeded || n.Payment.Amount != 100 || n.MerchantNo != "10000100" || n.Unsigned {
		t.Errorf("%+v, %v", n, err)
	}
	info := "<root><out_refund_no>HR1</out_refund_no><out_trade_no>HP1</out_trade_no><refund_id>50</refund_id><refund_fee>40</refund_fee><refund_status>SUCCESS</refund_status><success_time>2026-09-15 08:20:03</success_time></root>"
	back := Message{"return_code": "SUCCESS", "appid": "wx2421b1c4370ec43b", "mch_id": "10000100", "nonce_str": "n", "req_info": SealRefund([]byte(info), apiKey)}
	n, err = v.ParseNotice(nil, back.XML())
	if err != nil || n.Kind != channels.NoticeRefund || n.Refund.Outcome != channels.OutcomeSucceeded || n.Refund.Amount != 40 || !n.Unsigned {
		t.Errorf("%+v, %v", n, err)
	}
	foreign := maps.Clone(back)
	foreign["mch_id"] = "10000101"
	forged := signed(pay)
	forged["total_fee"] = "1"
	sealed := maps.Clone(back)
	sealed["req_info"] = SealRefund([]byte(info), strings.Repeat("k", 32))
	for name, body := range map[string][]byte{
		"garbage": []byte("x"), "forged": forged.XML(), "foreign refund": foreign.XML(), "foreign": signed(Message{"mch_id": "1", "out_trade_no": "HP1"}).XML(),
		"another key": sealed.XML(), "failed": Message{"return_code": "FAIL"}.XML(), "no order": signed(nil).XML(),
	} {
		if n, err := v.ParseNotice(nil, body); !errors.Is(err, channels.ErrNotice) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	if ok, no := v.NoticeReply(nil), v.NoticeReply(channels.ErrNotice); !strings.Contains(ok.Body, "[SUCCESS]") || !strings.Contains(no.Body, "[FAIL]") {
		t.Errorf("%+v, %+v", ok, no)
	}
}

func TestBillsOfV2AreHandedOutOrRefusedWithTheReason(t *testing.T) {
	s := serve(t, nil)
	v := s.v2(t, nil)
	ctx := context.Background()
	for text, want := range map[string]error{
		`<xml><return_code>FAIL</return_code><return_msg>No Bill Exist</return_msg><error_code>20002</error_code></xml>`: channels.ErrNoBill,
		`<xml><return_code>FAIL</return_code><return_msg>Bill Creating</return_msg></xml>`:                               channels.ErrBillNotReady,
		`<xml><return_code>FAIL</return_code><return_msg>SIGN ERROR</return_msg><error_code>20001</error_code></xml>`:    channels.ErrBillRefused,
		`<html>busy`: channels.ErrNoAnswer, ``: channels.ErrNoAnswer,
	} {
		s.reply = says(text)
		if _, err := v.FetchBill(ctx, channels.BillTrade, 20711); !errors.Is(err, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for header, want := range map[string]error{"": nil, "SHA=a9993e364706816aba3e25717850c26c9cd0d89d": nil, "SHA=qZk+NkcGgWq6PiVxeFDCbJzQ2J0=": nil, "SHA=a9993e364706816aba3e25717850c26c9cd0d89e": channels.ErrBillDiffers} {
		s.reply = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Digest", header)
			_, _ = io.WriteString(w, "abc")
		}
		r, err := v.FetchBill(ctx, channels.BillFund, 20711)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(r); !errors.Is(err, want) || string(text) != "abc" {
			t.Errorf("%q: %s, %v", header, text, err)
		}
		_ = r.Close()
	}
	s.reply = says("100\n`2026-09-15 08:30:11,`4200002345202609150000000001,`5,`服务很好, 谢谢\r\n")
	list, next, err := v.Comments(ctx, noon, noon, 0)
	if err != nil || next != 100 || len(list) != 1 || list[0].Stars != 5 || list[0].Text != "服务很好, 谢谢" {
		t.Errorf("%+v, %d, %v", list, next, err)
	}
}

func TestASetupThatCannotWorkIsRefused(t *testing.T) {
	good := Config{MerchantNo: "1", AppID: "wx", BaseURL: "https://pay.example", Key: apiKey, Now: func() time.Time { return noon }}
	for name, change := range map[string]func(*Config){
		"no merchant": func(c *Config) { c.MerchantNo = "" }, "plain http": func(c *Config) { c.BaseURL = "http://pay.example" }, "short key": func(c *Config) { c.Key = "k" },
		"no certificate at the channel itself": func(c *Config) { c.BaseURL = "" }, "sign type": func(c *Config) { c.SignType = "RSA" }, "no clock": func(c *Config) { c.Now = nil },
	} {
		cfg := good
		change(&cfg)
		if _, err := NewV2(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewV2(good); err != nil {
		t.Error(err)
	}
}

func FuzzV2Answer(f *testing.F) {
	var samples signedMessages
	load(f, "wechat_v2_messages.json", &samples)
	for _, text := range samples.Messages {
		f.Add([]byte(text))
	}
	v := &V2{client{cfg: Config{MerchantNo: "10000100", AppID: "wx2421b1c4370ec43b", Key: apiKey, SignType: SignMD5}}}
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, r := v.answer(200, text); (m == nil) != (r.Kind != "") {
			t.Fatal(m, r)
		}
		m, err := ParseXML(text)
		if err != nil {
			return
		}
		again, err := ParseXML(m.XML())
		if err != nil || !maps.Equal(m, again) {
			t.Fatal(m, again, err)
		}
		a := channels.PayAnswer{}
		if v.paid(&a, m); a.Outcome == channels.OutcomeSucceeded && a.Amount < 1 {
			t.Fatal(a)
		}
	})
}
