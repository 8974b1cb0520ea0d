package wechat

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

const (
	v3Key        = "TESTAPIV3KEY0123456789ABCDEFGHIJ"
	platformNo   = 0x5157F09EFDC096DE
	platformText = "5157F09EFDC096DE"
)

var vectorTime = time.Unix(1789430400, 0)

func pemText(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// platform is WeChat Pay's v3 side as far as signatures go: it serves one
// certificate, and signs what reply gives for every other call.
type platform struct {
	*answering
	t       testing.TB
	now     atomic.Pointer[time.Time]
	fetches atomic.Int32
	serial  string // of the certificate that is served and signed with
	reply   func(method, target string) (status int, body string)
	spoil   func(http.Header)
}

func newPlatform(t testing.TB) *platform {
	p := &platform{t: t, serial: platformText}
	p.now.Store(&vectorTime)
	key := privateKey(t, "wechat_platform_TEST.pem")
	p.answering = serve(t, func(w http.ResponseWriter, r *http.Request) {
		status, body := 200, ""
		if r.URL.Path == "/v3/certificates" {
			p.fetches.Add(1)
			no, _ := strconv.ParseInt(p.serial, 16, 64)
			body = string(certificateList(t, v3Key, p.serial, platformCertificate(t, no, vectorTime.AddDate(0, -1, 0), vectorTime.AddDate(5, 0, 0))))
		} else {
			status, body = p.reply(r.Method, r.URL.RequestURI())
		}
		at := strconv.FormatInt(p.now.Load().Unix(), 10)
		signature, err := SignSHA256(key, AnswerMessage(at, "N", []byte(body)))
		if err != nil {
			t.Error(err)
		}
		for name, value := range map[string]string{HeaderTimestamp: at, HeaderNonce: "N", HeaderSerial: p.serial, HeaderSignature: signature} {
			w.Header().Set(name, value)
		}
		if p.spoil != nil && r.URL.Path != "/v3/certificates" {
			p.spoil(w.Header())
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	return p
}

func (p *platform) says(status int, body string) {
	p.reply = func(string, string) (int, string) { return status, body }
}

func (p *platform) v3(change func(*Config)) *V3 {
	p.t.Helper()
	cfg := Config{MerchantNo: "1900000109", AppID: "wxd678efh567hg6787", BaseURL: p.URL, NotifyURL: "https://pay.hospital.example/notify/wx", RefundNotifyURL: "https://pay.hospital.example/notify/wxr",
		V3Key: v3Key, SerialNo: "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB", PrivateKey: pemText(p.t, "wechat_merchant_TEST.pem"), Now: func() time.Time { return *p.now.Load() }}
	if change != nil {
		change(&cfg)
	}
	v, err := NewV3(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

const paid3 = `{"appid":"wxd678efh567hg6787","mchid":"1900000109","out_trade_no":"HP2026091500000002","transaction_id":"4200002345202609150000000002","trade_state":"SUCCESS","success_time":"2026-09-15T08:00:05+08:00","amount":{"total":100,"payer_total":90,"currency":"CNY"},"promotion_detail":[{"type":"NOCASH","amount":10}]}`

const refund3 = `{"refund_id":"50300007002026091500000009001","out_refund_no":"HR2026091500000001","transaction_id":"42","out_trade_no":"HP2026091500000001","status":"PROCESSING","amount":{"total":12345,"refund":2345,"settlement_refund":2300,"currency":"CNY"}}`

func TestV3CallsAreSignedAndTheirAnswersRead(t *testing.T) {
	p := newPlatform(t)
	ctx := context.Background()
	for _, partner := range []string{"", "1900000200"} {
		v := p.v3(func(c *Config) { c.SubMerchantNo = partner })
		p.says(200, `{"prepay_id":"wx20","code_url":"weixin://x","h5_url":"https://x"}`)
		for _, way := range []channels.Way{channels.WayQR, channels.WayJSAPI, channels.WayApp, channels.WayH5} {
			r := codePay()
			r.Way, r.Payer, r.ExpireAt, r.Terminal = way, "oUpF8uN95-Ptaags6E_roPHg7AG0", noon, "KIOSK01"
			a := v.Pay(ctx, r)
			if a.Outcome != channels.OutcomePending || a.Prepay.Code+a.Prepay.URL+a.Prepay.Bring["sign"]+a.Prepay.Bring["paySign"] == "" {
				t.Errorf("%s: %+v", way, a)
			}
		}
		p.says(204, "")
		if a := v.Close(ctx, "HP2026091500000002"); a.Outcome != channels.OutcomeFailed || !a.Closed {
			t.Errorf("%+v", a)
		}
		p.says(200, refund3)
		if a := v.Refund(ctx, refund()); a.Outcome != channels.OutcomePending || a.Amount != 2345 || a.Settle != 2300 || a.RefundID == "" {
			t.Errorf("%+v", a)
		}
		p.says(200, strings.Replace(refund3, "PROCESSING", "ABNORMAL", 1))
		if a := v.QueryRefund(ctx, refund()); a.Outcome != channels.OutcomePending || !a.Abnormal {
			t.Errorf("%+v", a)
		}
		abnormal := refund()
		abnormal.RefundID = "50300007002026091500000009001"
		p.says(200, refund3)
		if a := v.ApplyAbnormalRefund(ctx, abnormal); a.Outcome != channels.OutcomePending || a.Abnormal {
			t.Errorf("%+v", a)
		}
		p.says(200, strings.Replace(refund3, "PROCESSING", "ABNORMAL", 1))
		if a := v.ApplyAbnormalRefund(ctx, abnormal); a.Outcome != channels.OutcomeUnknown {
			t.Errorf("a refund that is abnormal still: %+v", a)
		}
		for code, outcome := range map[string]channels.Outcome{"PARAM_ERROR": channels.OutcomeFailed, "NO_AUTH": channels.OutcomeFailed,
			"INVALID_REQUEST": channels.OutcomeUnknown, "SYSTEM_ERROR": channels.OutcomeUnknown, "WHAT": channels.OutcomeUnknown} {
			p.says(403, `{"code":"`+code+`","message":"不可以"}`)
			if a := v.ApplyAbnormalRefund(ctx, abnormal); a.Outcome != outcome {
				t.Errorf("%s: %+v", code, a)
			}
		}
		for account, to := range map[string]channels.PaidTo{"商户基本账户": channels.PaidToMerchant, "支付用户零钱": channels.PaidToPayer, "": ""} {
			p.says(200, strings.Replace(refund3, `"status":"PROCESSING"`, `"status":"SUCCESS","user_received_account":"`+account+`"`, 1))
			if a := v.QueryRefund(ctx, refund()); a.Outcome != channels.OutcomeSucceeded || a.PaidTo != to {
				t.Errorf("%q: %+v", account, a)
			}
		}
		_, _ = v.FetchBill(ctx, channels.BillFund, 20711)
	}
	v := p.v3(nil)
	p.says(200, paid3)
	if a := v.Query(ctx, "HP2026091500000002"); a.Outcome != channels.OutcomeSucceeded || a.Amount != 100 || a.Settle != 90 || !a.SuccessAt.Equal(vectorTime.Add(5*time.Second)) {
		t.Errorf("%+v", a)
	}
	if a := p.v3(func(c *Config) { c.SubMerchantNo = "1900000200" }).Query(ctx, "HP2026091500000002"); a.Outcome != channels.OutcomeUnknown {
		t.Errorf("a direct merchant's payment is taken for a partner's (A16): %+v", a)
	}
	if len(p.sent) < 40 {
		t.Errorf("%d texts sent", len(p.sent))
	}
	for _, text := range p.sent {
		if found := channels.ScanPayload(text); len(found) > 0 || strings.Contains(text, "attach") || strings.Contains(text, `"detail"`) || strings.Contains(text, "goods") {
			t.Errorf("%q in %s", found, text)
		}
	}
}

func TestRequestsOfV3VerifyUnderTheMerchantsKey(t *testing.T) {
	v := newPlatform(t).v3(func(c *Config) {
		c.PublicKeyID, c.PublicKey = "PUB_KEY_ID_01", pemText(t, "wechat_platform_TEST_pub.pem")
	})
	c, err := v.request(context.Background(), "x", http.MethodPost, "/v3/pay/transactions/jsapi?a=%7C", []byte(`{"a":1}`), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseAuthorization(c.Request.Header.Get("Authorization"))
	if err != nil || a.Timestamp != "1789430400" || c.Request.Header.Get(HeaderSerial) != "PUB_KEY_ID_01" {
		t.Fatalf("%+v, %v", a, err)
	}
	body, _ := io.ReadAll(c.Request.Body)
	if err := VerifySHA256(publicKey(t, "wechat_merchant_TEST_pub.pem"), RequestMessage("POST", c.Request.URL.RequestURI(), a.Timestamp, a.Nonce, body), a.Signature); err != nil {
		t.Error(err)
	}
}

func TestV3AnswersThatCannotBeBelievedAreUnknown(t *testing.T) {
	p := newPlatform(t)
	ctx := context.Background()
	set := func(name, value string) func(http.Header) { return func(h http.Header) { h.Set(name, value) } }
	for name, c := range map[string]struct {
		status int
		body   string
		spoil  func(http.Header)
	}{
		"garbage": {200, "garbage", nil}, "empty": {200, "", nil}, "another form": {200, "[]", nil}, "nothing in it": {200, "{}", nil},
		"probe":            {200, paid3, func(h http.Header) { h.Set(HeaderSignature, ProbePrefix+h.Get(HeaderSignature)) }},
		"no signature":     {200, paid3, set(HeaderSignature, "")},
		"unknown serial":   {200, paid3, set(HeaderSerial, "01")},
		"unknown key ID":   {200, paid3, set(HeaderSerial, "PUB_KEY_ID_02")},
		"too old":          {200, paid3, set(HeaderTimestamp, "1789430099")},
		"another nonce":    {200, paid3, set(HeaderNonce, "M")},
		"500":              {500, paid3, nil},
		"unlisted code":    {400, `{"code":"NEW_CODE","message":"x"}`, nil},
		"unsigned refusal": {400, `{"code":"PARAM_ERROR","message":"x"}`, set(HeaderSignature, "")},
		"another merchant": {200, strings.Replace(paid3, "1900000109", "1900000110", 1), nil},
		"another app":      {200, strings.Replace(paid3, "wxd678efh567hg6787", "wx", 1), nil},
		"another order":    {200, strings.Replace(paid3, "HP2026091500000002", "HP9", 1), nil},
		"no amount":        {200, strings.Replace(paid3, `"total":100`, `"total":0`, 1), nil},
	} {
		p.says(c.status, c.body)
		p.spoil = c.spoil
		v := p.v3(nil)
		jsapi := codePay()
		jsapi.Way = channels.WayQR
		for call, outcome := range map[string]channels.Outcome{"pay": v.Pay(ctx, jsapi).Outcome, "query": v.Query(ctx, "HP2026091500000002").Outcome,
			"refund": v.Refund(ctx, refund()).Outcome, "refund query": v.QueryRefund(ctx, refund()).Outcome} {
			if outcome != channels.OutcomeUnknown {
				t.Errorf("%s: %s gives %s", name, call, outcome)
			}
		}
	}
}

func TestCodesOfV3HaveTheirVerdicts(t *testing.T) {
	p := newPlatform(t)
	v := p.v3(nil)
	ctx := context.Background()
	qr := codePay()
	qr.Way = channels.WayQR
	p.says(403, `{"code":"NOT_ENOUGH","message":"余额不足"}`)
	if a := v.Refund(ctx, refund()); a.Outcome != channels.OutcomeUnknown || !a.Retry || a.Reason.Kind != channels.ReasonMerchantFunds || a.Reason.Text != "余额不足" {
		t.Errorf("%+v", a)
	}
	p.says(400, `{"code":"PARAM_ERROR"}`)
	if a := v.Pay(ctx, qr); a.Outcome != channels.OutcomeFailed || a.Reason.Kind != channels.ReasonRequest {
		t.Errorf("%+v", a)
	}
	p.says(404, `{"code":"ORDER_NOT_EXIST"}`)
	if a := v.Query(ctx, "HP2026091500000002"); a.Outcome != channels.OutcomeUnknown || !a.Absent {
		t.Errorf("%+v", a)
	}
	p.says(404, `{"code":"RESOURCE_NOT_EXISTS"}`)
	if a := v.QueryRefund(ctx, refund()); a.Outcome != channels.OutcomeUnknown || !a.Absent || a.Retry {
		t.Errorf("%+v", a)
	}
	if a := v.Pay(ctx, codePay()); a.Outcome != channels.OutcomeFailed || a.Exchange != nil {
		t.Errorf("v3 takes a code payment: %+v", a)
	}
}

// C.2: the certificates are fetched again after twelve hours, and once for a serial
// number that is new.
func TestCertificatesRotate(t *testing.T) {
	p := newPlatform(t)
	p.says(200, paid3)
	v := p.v3(nil)
	query := func(want channels.Outcome, fetches int32) {
		t.Helper()
		if a := v.Query(context.Background(), "HP2026091500000002"); a.Outcome != want || p.fetches.Load() != fetches {
			t.Errorf("%s after %d fetches: %+v", a.Outcome, p.fetches.Load(), a.Reason)
		}
	}
	later := func(d time.Duration) {
		at := p.now.Load().Add(d)
		p.now.Store(&at)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { query(channels.OutcomeSucceeded, 1) })
	}
	all.Wait()
	p.serial = "5157F09EFDC096DF"
	query(channels.OutcomeUnknown, 1) // asked less than a minute ago
	later(time.Minute)
	query(channels.OutcomeSucceeded, 2)
	later(12*time.Hour - time.Second)
	query(channels.OutcomeSucceeded, 2)
	later(time.Second)
	query(channels.OutcomeSucceeded, 3)
	later(6 * 365 * 24 * time.Hour)
	query(channels.OutcomeUnknown, 4) // no longer in force
}

func TestPublicKeyModeNeedsNoCertificates(t *testing.T) {
	p := newPlatform(t)
	p.says(200, paid3)
	p.spoil = func(h http.Header) { h.Set(HeaderSerial, "PUB_KEY_ID_01") }
	v := p.v3(func(c *Config) {
		c.PublicKeyID, c.PublicKey = "PUB_KEY_ID_01", pemText(t, "wechat_platform_TEST_pub.pem")
	})
	if a := v.Query(context.Background(), "HP2026091500000002"); a.Outcome != channels.OutcomeSucceeded || p.fetches.Load() != 0 {
		t.Errorf("%+v after %d fetches", a, p.fetches.Load())
	}
}

func TestNoticesOfV3AreVerifiedAndOurs(t *testing.T) {
	_, ones := vectors(t)
	vector := ones["v3_callback"]
	v := newPlatform(t).v3(nil)
	header := http.Header{}
	header.Set(HeaderTimestamp, "1789430400")
	header.Set(HeaderNonce, "593BEC0C930BF1AFEB40B4A08C8FB242")
	header.Set(HeaderSerial, platformText)
	header.Set(HeaderSignature, vector.WeChat)
	n, err := v.ParseNotice(header, []byte(vector.Body))
	if err != nil || n.Kind != channels.NoticePayment || n.Payment.Outcome != channels.OutcomeSucceeded || n.Payment.Amount != 100 || n.ID != "EV-2026091508000500001" || strings.Contains(n.Body, "oUpF8u") {
		t.Fatalf("%+v, %v", n, err)
	}
	for name, change := range map[string]func(http.Header) string{
		"probe":      func(h http.Header) string { h.Set(HeaderSignature, ProbePrefix+vector.WeChat); return vector.Body },
		"old":        func(h http.Header) string { h.Set(HeaderTimestamp, "1789430000"); return vector.Body },
		"changed":    func(http.Header) string { return vector.Body + " " },
		"no headers": func(h http.Header) string { clear(h); return vector.Body },
	} {
		h := header.Clone()
		body := change(h)
		if n, err := v.ParseNotice(h, []byte(body)); !errors.Is(err, channels.ErrNotice) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	sealed := func(event, plain string) []byte {
		r, err := Seal("x", "x", "0123456789ab", v3Key, []byte(plain))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := json.Marshal(map[string]any{"id": "EV", "event_type": event, "resource": r})
		return body
	}
	back := strings.Replace(strings.Replace(refund3, `"status":"PROCESSING"`, `"refund_status":"SUCCESS"`, 1), "{", `{"mchid":"1900000109",`, 1)
	if n, err := v.notice(sealed("REFUND.SUCCESS", back)); err != nil || n.Refund.Outcome != channels.OutcomeSucceeded || n.Refund.Amount != 2345 || n.Unsigned {
		t.Errorf("%+v, %v", n, err)
	}
	for name, body := range map[string][]byte{
		"foreign payment": sealed("TRANSACTION.SUCCESS", strings.Replace(paid3, "1900000109", "1900000110", 1)),
		"foreign app":     sealed("TRANSACTION.SUCCESS", strings.Replace(paid3, "wxd678efh567hg6787", "wx", 1)),
		"partner's":       sealed("TRANSACTION.SUCCESS", strings.Replace(paid3, "{", `{"sub_mchid":"1900000200",`, 1)),
		"foreign refund":  sealed("REFUND.SUCCESS", strings.Replace(back, "1900000109", "1900000110", 1)),
		"other event":     sealed("MCHTRANSFER.BILL.FINISHED", "{}"),
		"no refund":       sealed("REFUND.CLOSED", `{"mchid":"1900000109"}`),
	} {
		if n, err := v.notice(body); err == nil {
			t.Errorf("%s is taken: %+v", name, n)
		}
	}
	if ok, no := v.NoticeReply(nil), v.NoticeReply(channels.ErrNotice); ok.Status != 204 || no.Status != 500 || !strings.Contains(no.Body, "FAIL") {
		t.Errorf("%+v, %+v", ok, no)
	}
}

// B.3: the hash is that of the uncompressed text and comes with the signed answer.
func TestBillsOfV3AreComparedWithTheirHash(t *testing.T) {
	p := newPlatform(t)
	v := p.v3(nil)
	text := pemText(t, "wechat_tradebill_ALL_20260915.csv")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	sum := sha1.Sum([]byte(text))
	serve := func(url, hash string, file []byte) {
		p.reply = func(_, target string) (int, string) {
			if strings.HasPrefix(target, "/v3/billdownload/file?") {
				return 200, string(file)
			}
			return 200, `{"hash_type":"SHA1","hash_value":"` + hash + `","download_url":"` + url + `"}`
		}
	}
	day, err := ledger.ParseDay("2026-09-15")
	if err != nil {
		t.Fatal(err)
	}
	at := p.URL + "/v3/billdownload/file?token=TEST-TOKEN&tartype=gzip"
	serve(at, hex.EncodeToString(sum[:]), packed.Bytes())
	r, err := v.FetchBill(context.Background(), channels.BillTrade, day)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadTradeBill(r, channels.Expect{Day: day}, func(*channels.BillLine) error { return nil })
	if err != nil || s.Rows != 30 {
		t.Errorf("%+v, %v", s, err)
	}
	_ = r.Close()
	for name, change := range map[string]func(){
		"other hash": func() { serve(at, strings.Repeat("0", 40), packed.Bytes()) },
		"cut off":    func() { serve(at, hex.EncodeToString(sum[:]), packed.Bytes()[:packed.Len()/2]) },
	} {
		change()
		r, err := v.FetchBill(context.Background(), channels.BillTrade, day)
		if err == nil {
			_, err = io.ReadAll(r)
			_ = r.Close()
		}
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	serve("http://127.0.0.2:1/v3/billdownload/file?token=x", hex.EncodeToString(sum[:]), nil)
	if _, err := v.FetchBill(context.Background(), channels.BillTrade, day); !errors.Is(err, channels.ErrBillRefused) {
		t.Errorf("another host: %v", err)
	}
	for code, want := range map[string]error{"NO_STATEMENT_EXIST": channels.ErrNoBill, "STATEMENT_CREATING": channels.ErrBillNotReady, "NO_AUTH": channels.ErrBillRefused} {
		p.says(400, `{"code":"`+code+`"}`)
		if _, err := v.FetchBill(context.Background(), channels.BillTrade, day); !errors.Is(err, want) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

func FuzzV3Notice(f *testing.F) {
	_, ones := vectors(f)
	f.Add([]byte(ones["v3_callback"].Body), []byte(ones["v3_callback"].Plain))
	f.Add([]byte(`{}`), []byte(refund3))
	v := &V3{client: client{cfg: Config{MerchantNo: "1900000109", AppID: "wxd678efh567hg6787", V3Key: v3Key}}}
	f.Fuzz(func(t *testing.T, body, plain []byte) {
		_, _ = v.notice(body)
		r, err := Seal("x", "x", "0123456789ab", v3Key, plain)
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range []string{"TRANSACTION.SUCCESS", "REFUND.SUCCESS"} {
			whole, _ := json.Marshal(map[string]any{"id": "EV", "event_type": event, "resource": r})
			n, err := v.notice(whole)
			if err == nil && ((n.Payment.Outcome == channels.OutcomeSucceeded && n.Payment.Amount < 1) || (n.Refund.Outcome == channels.OutcomeSucceeded && n.Refund.Amount < 1)) {
				t.Fatal(n)
			}
		}
	})
}
