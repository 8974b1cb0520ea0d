package live_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

// file is a key as it stands below keys/.
func (w *world) file(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.cfg.Dir, "keys", name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// v3 is the product's client, set up from the files and numbers that the sandbox
// hands out.
func (w *world) v3(change func(*wechat.Config)) *wechat.V3 {
	w.t.Helper()
	var keys []live.KeysOf
	w.admin("GET", "/keys", "", &keys)
	cfg := wechat.Config{MerchantNo: merchantNo, AppID: "wx1", BaseURL: w.s.Addresses.WeChat, NotifyURL: "http://127.0.0.1:9/pay", RefundNotifyURL: "http://127.0.0.1:9/refund",
		V3Key: w.file(merchantNo + "/api_v3.key"), PrivateKey: w.file(merchantNo + "/merchant_key.pem"), SerialNo: keys[0].SerialNo, Now: w.cfg.Now}
	if change != nil {
		change(&cfg)
	}
	if cfg.PublicKeyID != "" {
		cfg.PublicKeyID, cfg.PublicKey = keys[0].PublicKeyID, w.file("channel/wechat_public_pub.pem")
	}
	v, err := wechat.NewV3(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func publicKeyMode(c *wechat.Config) { c.PublicKeyID = "its own" }
func partnerMode(c *wechat.Config)   { c.SubMerchantNo = "1900000200" }

func prepay(no string, way channels.Way, amount ledger.Money) channels.PayRequest {
	return channels.PayRequest{OrderNo: no, Way: way, Amount: amount, Subject: channels.SubjectOutpatient, Payer: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", Terminal: "KIOSK01", ClientIP: "10.1.2.3"}
}

func give(order, no string, total, amount ledger.Money) channels.RefundRequest {
	return channels.RefundRequest{OrderNo: order, RefundNo: no, Total: total, Amount: amount, Cause: channels.CauseItem}
}

func TestV3ServesTheClientInEveryCallAndEveryMode(t *testing.T) { // W01-W07, A16, C.1-C.4
	w := start(t, nil)
	ctx := t.Context()
	for mode, change := range map[string]func(*wechat.Config){"CERT": nil, "PUBKEY": publicKeyMode, "PARTNER": partnerMode} {
		v := w.v3(change)
		for _, way := range []channels.Way{channels.WayQR, channels.WayJSAPI, channels.WayApp, channels.WayH5} {
			no := mode + string(way)
			a := v.Pay(ctx, prepay(no, way, 10_000))
			if a.Outcome != channels.OutcomePending || a.Prepay.Code+a.Prepay.URL+a.Prepay.Bring["sign"]+a.Prepay.Bring["paySign"] == "" {
				t.Fatalf("%s: %+v", no, a)
			}
			if a := v.Query(ctx, no); a.Outcome != channels.OutcomePending {
				t.Errorf("%s unpaid: %+v", no, a)
			}
			w.admin("POST", "/pay", `{"merchant":"`+merchantNo+`","order":"`+no+`"}`, nil)
			paid := v.Query(ctx, no)
			if paid.Outcome != channels.OutcomeSucceeded || paid.Amount != 10_000 || paid.SuccessAt.Unix() != w.at.Load() || paid.TradeNo == "" {
				t.Errorf("%s paid: %+v", no, paid)
			}
			if a := v.Close(ctx, no); a.Outcome != channels.OutcomeUnknown || a.Reason.Kind != channels.ReasonPaid {
				t.Errorf("%s closed after it was paid: %+v", no, a)
			}
			r := give(no, "R"+no, 10_000, 4_000)
			r.TradeNo = paid.TradeNo
			if a := v.Refund(ctx, r); a.Outcome != channels.OutcomeSucceeded || a.Amount != 4_000 || a.OrderNo != no {
				t.Errorf("%s refunded: %+v", no, a)
			}
			if a := v.QueryRefund(ctx, r); a.Outcome != channels.OutcomeSucceeded || a.RefundID == "" {
				t.Errorf("%s refund asked for: %+v", no, a)
			}
			if a := v.Query(ctx, no); !a.Refunded {
				t.Errorf("%s after it: %+v", no, a)
			}
		}
		if a := v.Pay(ctx, prepay(mode+"CLOSED", channels.WayQR, 1)); a.Outcome != channels.OutcomePending {
			t.Errorf("%+v", a)
		}
		if a := v.Close(ctx, mode+"CLOSED"); !a.Closed {
			t.Errorf("%s closed: %+v", mode, a)
		}
		if a := v.Query(ctx, mode+"CLOSED"); !a.Closed {
			t.Errorf("%s closed, asked for: %+v", mode, a)
		}
		if a := v.Pay(ctx, prepay(mode+"CLOSED", channels.WayQR, 1)); a.Outcome != channels.OutcomeFailed || a.Reason.Kind != channels.ReasonClosed {
			t.Errorf("%s closed, ordered again: %+v", mode, a)
		}
		if a := v.Query(ctx, "NOSUCHORDER"); !a.Absent {
			t.Errorf("an unknown order: %+v", a)
		}
	}
}

func TestV3RefusesInItsOwnWords(t *testing.T) {
	w := start(t, nil)
	v, ctx := w.v3(nil), t.Context()
	v.Pay(ctx, prepay("ORDER001", channels.WayQR, 10_000))
	if a := v.Pay(ctx, prepay("ORDER001", channels.WayQR, 10_001)); a.Reason.Code != "OUT_TRADE_NO_USED" || a.Outcome != channels.OutcomeUnknown {
		t.Errorf("another amount: %+v", a)
	}
	if a := v.Refund(ctx, give("ORDER001", "R1", 10_000, 1)); a.Reason.Code != "INVALID_REQUEST" || a.Exchange.Status != http.StatusBadRequest {
		t.Errorf("a refund of what is not paid: %+v", a)
	}
	w.admin("POST", "/pay", `{"merchant":"`+merchantNo+`","order":"ORDER001"}`, nil)
	for _, c := range []struct {
		r      channels.RefundRequest
		code   string
		status int
	}{
		{give("ORDER009", "R9", 1, 1), "RESOURCE_NOT_EXISTS", 404}, {give("ORDER001", "R1", 10_000, 6_000), "", 200}, {give("ORDER001", "R1", 10_000, 6_000), "", 200},
		{give("ORDER001", "R1", 10_000, 5_000), "INVALID_REQUEST", 400}, {give("ORDER001", "R2", 10_000, 4_001), "INVALID_REQUEST", 400}, {give("ORDER001", "R3", 10_000, 4_000), "", 200},
	} {
		if a := v.Refund(ctx, c.r); a.Reason.Code != c.code || a.Exchange.Status != c.status {
			t.Errorf("%+v: %d %+v", c.r, a.Exchange.Status, a.Reason)
		}
	}
	if a := v.QueryRefund(ctx, give("ORDER001", "R2", 1, 1)); !a.Absent || a.Exchange.Status != 404 {
		t.Errorf("%+v", a)
	}
	var sums live.Sums
	if w.admin("GET", "/books?merchant="+merchantNo+"&day=2026-09-15", "", &sums); sums.RefundFen != 10_000 || sums.Refunds != 2 {
		t.Errorf("%+v", sums)
	}
}

func TestV3IsCalledWithTheMerchantsOwnSignatureAndInTime(t *testing.T) { // C.1
	w := start(t, nil)
	other := w.file("channel/server_key.pem")
	for name, change := range map[string]func(*wechat.Config){
		"another key": func(c *wechat.Config) { c.PrivateKey = other }, "another certificate": func(c *wechat.Config) { c.SerialNo = "0" + c.SerialNo[1:] },
		"a slow clock":      func(c *wechat.Config) { c.Now = func() time.Time { return w.cfg.Now().Add(-301 * time.Second) } },
		"a fast clock":      func(c *wechat.Config) { c.Now = func() time.Time { return w.cfg.Now().Add(301 * time.Second) } },
		"a stranger":        func(c *wechat.Config) { c.MerchantNo = "1900000999" },
		"another APIv3 key": func(c *wechat.Config) { c.V3Key = strings.Repeat("k", 32) },
	} {
		v := w.v3(change)
		if a := v.Pay(t.Context(), prepay("ORDER001", channels.WayQR, 1)); a.Outcome != channels.OutcomeUnknown {
			t.Errorf("%s: %+v", name, a)
		}
	}
	at := func(seconds time.Duration) *wechat.V3 {
		return w.v3(func(c *wechat.Config) { c.Now = func() time.Time { return w.cfg.Now().Add(seconds * time.Second) } })
	}
	if a := at(299).Query(t.Context(), "ORDER002"); !a.Absent {
		t.Errorf("299 seconds off: %+v", a)
	}
}

func TestEveryFaultOfAV3Call(t *testing.T) {
	w := start(t, nil)
	v := w.v3(func(c *wechat.Config) { c.HTTP = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} })
	for i, c := range []struct {
		fault string
		kind  channels.ReasonKind
		there bool
	}{
		{`{"do":"DROP"}`, channels.ReasonNetwork, false}, {`{"do":"DROP","commit":true}`, channels.ReasonNetwork, true},
		{`{"do":"HTTP_500"}`, channels.ReasonNetwork, false}, {`{"do":"HTTP_500","commit":true}`, channels.ReasonNetwork, true},
		{`{"do":"GARBAGE"}`, channels.ReasonNetwork, false}, {`{"do":"GARBAGE","commit":true}`, channels.ReasonNetwork, true},
		{`{"do":"BAD_SIGN"}`, channels.ReasonSignature, true}, {`{"do":"DELAY","millis":1}`, "", true},
		{`{"do":"ERROR","code":"SYSTEM_ERROR"}`, channels.ReasonSystem, false}, {`{"do":"ERROR","code":"SYSTEMERROR","commit":true}`, channels.ReasonSystem, true},
	} {
		no := "FAULT0" + string(rune('A'+i))
		w.admin("POST", "/faults", strings.Replace(c.fault, "{", `{"api":"prepay","order":"`+no+`",`, 1), nil)
		if a := v.Pay(t.Context(), prepay(no, channels.WayQR, 100)); a.Reason.Kind != c.kind || (a.Outcome == channels.OutcomePending) != (c.kind == "") {
			t.Errorf("%s: %+v", c.fault, a)
		}
		if a := v.Query(t.Context(), no); a.Absent == c.there {
			t.Errorf("%s: then %+v", c.fault, a)
		}
	}
	var left []live.Fault
	if w.admin("GET", "/faults", "", &left); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestThePlatformCertificateRotatesUnderTheClient(t *testing.T) { // C.2
	w := start(t, nil)
	v, ctx := w.v3(nil), t.Context()
	var keys []live.KeysOf
	for n := 1; n < 4; n++ {
		if a := v.Query(ctx, "ORDER001"); !a.Absent {
			t.Errorf("certificate %d: %+v", n, a)
		}
		w.admin("POST", "/certificates", "", &keys)
		w.at.Add(61) // an unknown serial number makes the client ask once a minute
	}
	if len(keys) != 1 || len(keys[0].Platform) != 2 {
		t.Errorf("%+v", keys)
	}
	first := w.s
	w.open()
	var again []live.KeysOf
	if w.admin("GET", "/keys", "", &again); again[0].Platform[1] != keys[0].Platform[1] {
		t.Errorf("after a start %v, before it %v", again, keys)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
}

func TestV3BillsAreThoseOfV2AndCarryTheirHash(t *testing.T) { // B.3
	w := start(t, nil)
	v, ctx := w.v3(nil), t.Context()
	day := ledger.DayOf(w.cfg.Now())
	w.pay("HP2026091500000001", 300)
	v.Pay(ctx, prepay("HP2026091500000002", channels.WayH5, 10_000))
	w.admin("POST", "/pay", `{"merchant":"`+merchantNo+`","order":"HP2026091500000002"}`, nil)
	for i, do := range []string{"REFUND_ABNORMAL", "REFUND_CLOSED", "REFUND_LATE", "REFUND_LATE"} {
		seconds := []string{"1", "1", "1", "200000"}[i]
		w.admin("POST", "/faults", `{"do":"`+do+`","order":"HP2026091500000002","seconds":`+seconds+`}`, nil)
		if a := v.Refund(ctx, give("HP2026091500000002", "R"+string(rune('0'+i)), 10_000, 100)); a.Outcome != channels.OutcomePending {
			t.Errorf("%s: %+v", do, a)
		}
	}
	if _, err := v.FetchBill(ctx, channels.BillTrade, day); !errors.Is(err, channels.ErrBillNotReady) {
		t.Errorf("on the day: %v", err)
	}
	w.set("2026-09-16 10:00:00")
	var texts []string
	for kind, path := range map[channels.BillKind]string{channels.BillTrade: "/pay/downloadbill", channels.BillFund: "/pay/downloadfundflow"} {
		bill, err := v.FetchBill(ctx, kind, day)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(bill)
		if err = errors.Join(err, bill.Close()); err != nil {
			t.Fatal(err)
		}
		old, err := w.send(path, wechat.SignHMAC, "bill_date", day.Compact(), "bill_type", "ALL", "account_type", "Basic")
		if err != nil || string(old) != string(text) {
			t.Errorf("%s: V2 says %s, %v, v3 %s", kind, old, err, text)
		}
		if kind == channels.BillTrade {
			texts = strings.Split(string(text), "\r\n")
		}
	}
	for i, status := range []string{"CHANGE", "FAIL", "SUCCESS", "PROCESSING"} { // 退款状态
		if row := texts[3+i]; !strings.Contains(row, ",`R"+string(rune('0'+i))+",") || !strings.Contains(row, ",`ORIGINAL,`"+status+",") {
			t.Errorf("want %s in %s", status, row)
		}
	}
	if _, err := v.FetchBill(ctx, channels.BillTrade, day.Add(-30)); !errors.Is(err, channels.ErrNoBill) {
		t.Errorf("a day without trades: %v", err)
	}
}

// heard is a notice as it came, and what the client makes of it.
type heard struct {
	notice channels.Notice
	err    error
	probe  bool
}

func TestV3NoticesAreSealedSignedAndSometimesForged(t *testing.T) { // C.2, C.3, K.4
	w := start(t, nil)
	var v *wechat.V3
	got := make(chan heard, 100)
	hospital := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n, err := v.ParseNotice(r.Header, body)
		reply := v.NoticeReply(err)
		out.WriteHeader(reply.Status)
		_, _ = io.WriteString(out, reply.Body)
		got <- heard{n, err, strings.HasPrefix(r.Header.Get(wechat.HeaderSignature), wechat.ProbePrefix)}
	}))
	defer hospital.Close()
	ctx := context.Background()
	for i, change := range []func(*wechat.Config){nil, publicKeyMode, partnerMode} {
		v = w.v3(func(c *wechat.Config) {
			c.NotifyURL, c.RefundNotifyURL = hospital.URL, hospital.URL
			if change != nil {
				change(c)
			}
		})
		no := "NOTICE" + string(rune('0'+i))
		want := map[string]int{"right": 4, "refund": 1, "wrong": 2}
		if i == 0 {
			want["probe"] = 1
		}
		for _, do := range []string{"NOTICE_FORGED", "NOTICE_FOREIGN", "NOTICE_TWICE"} {
			w.admin("POST", "/faults", `{"do":"`+do+`","order":"`+no+do+`"}`, nil)
			if a := v.Pay(ctx, prepay(no+do, channels.WayH5, 100)); a.Outcome != channels.OutcomePending {
				t.Fatalf("%+v", a)
			}
		}
		for _, do := range []string{"NOTICE_FORGED", "NOTICE_FOREIGN", "NOTICE_TWICE"} {
			w.admin("POST", "/pay", `{"merchant":"`+merchantNo+`","order":"`+no+do+`"}`, nil)
		}
		if a := v.Refund(ctx, give(no+"NOTICE_TWICE", "R"+no, 100, 60)); a.Outcome != channels.OutcomeSucceeded {
			t.Errorf("%+v", a)
		}
		had, all := map[string]int{}, 0
		for _, n := range want {
			all += n
		}
		for range all {
			switch h := await(w, got, 0); {
			case h.probe && h.err != nil:
				had["probe"]++
			case h.err != nil:
				had["wrong"]++
			case h.notice.Kind == channels.NoticeRefund && h.notice.Refund.Amount == 60:
				had["refund"]++
			case h.notice.Payment.Outcome == channels.OutcomeSucceeded && h.notice.Payment.Amount == 100:
				had["right"]++
			}
		}
		if !maps.Equal(had, want) {
			t.Errorf("%s: heard %v, want %v", no, had, want)
		}
	}
}
