package channels

import (
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPatientDataInAPayloadIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		`<xml><attach><![CDATA[OP|10003|INS]]></attach></xml>`:                  "a visit number in attach, an insured mark in attach",
		`{"attach":"OP|10001"}`:                                                 "a visit number in attach",
		`{"detail":"11010119900307461X"}`:                                       "an ID card number in detail",
		`{"detail":"{\"goods\":[{\"id\":\"13800138000\"}]}"}`:                   "a phone number in id",
		`<xml><patient_name>Zhang</patient_name></xml>`:                         "a field for personal data in patient_name",
		`{"idCardNo":1}`:                                                        "a field for personal data in idCardNo",
		`biz_content=%7B%22subject%22%3A%22%E5%BC%A0%E4%B8%89%22%7D&method=pay`: "Chinese text that is on no list in subject",
		`{"description":"E11.9"}`:                                               "a diagnosis in description",
		`{"body":"诊断:糖尿病"}`:                                                     "Chinese text that is on no list in body, a diagnosis in body",
		`{"notify_url":"https://pay.example/n?phone=13800138000"}`:              "a phone number in notify_url",
		`{"auth_code":"OP|10003"}`:                                              "a visit number in auth_code",
		`/v3/pay/transactions/out-trade-no/OP10003`:                             "a visit number",
		`<xml><a>OP|10003`:                                                      "a visit number",
		`<xml><sign>A</sign><!--13800138000--></xml>`:                           "a phone number in a comment",
		`bill=HP1&attach=MZ-20260915`:                                           "a visit number in attach",
	} {
		if got := strings.Join(ScanPayload(text), ", "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// The merchant data of the sample bill are what an older platform sent: a visit
// number, and INS for the insured.
func TestTheScannerFindsTheMerchantDataOfTheSampleBill(t *testing.T) {
	bill, err := os.ReadFile("wechat/testdata/wechat_tradebill_ALL_20260915_nobom_lf.csv")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(bill), "`OP|10003|INS") {
		t.Fatal("the sample holds no OP|10003|INS")
	}
	if got := strings.Join(ScanPayload("OP|10003|INS"), ", "); got != "a visit number, an insured mark" {
		t.Error(got)
	}
}

func TestWhatAPayloadMustHoldIsNoFinding(t *testing.T) {
	for _, text := range []string{
		"", `{}`, `<xml><body>门诊缴费</body><refund_desc>医保结算退差</refund_desc></xml>`,
		`<xml><auth_code>134512199003074617</auth_code><openid>oUp-OP123-INS-13800138000</openid><sign>+OP1234/INS/13800138000=</sign></xml>`,
		`{"out_trade_no":"HP2026091512345678901234","amount":{"total":13800138000,"currency":"CNY"},"time_expire":"2026-09-15T08:00:05+08:00"}`,
		`{"transaction_id":"4200002345202609150000000002","notify_url":"https://pay.hospital.example/13800138000/notify","mchid":"1900000109"}`,
		`app_id=2021000000000001&timestamp=2026-09-15+08%3A00%3A00&version=1.0&sign=XqqPfDbC91%2Bg%2FOP1234%3D%3D&biz_content=%7B%22subject%22%3A%22%E9%97%A8%E8%AF%8A%E7%BC%B4%E8%B4%B9%22%2C%22total_amount%22%3A%22123.45%22%7D`,
		`bill_date=2026-09-15&bill_type=ALL&tar_type=GZIP`, `/v3/pay/transactions/out-trade-no/HP2026091512345678901234`, `10.1.2.3`,
	} {
		if found := ScanPayload(text); len(found) > 0 {
			t.Errorf("%s: %q", text, found)
		}
	}
	for _, s := range subjects {
		if found := ScanPayload(string(s)); len(found) > 0 || !s.Known() {
			t.Errorf("%s: %q", s, found)
		}
	}
	if Subject("张三").Known() || Cause("别的").Known() || !CauseInsurance.Known() {
		t.Error("the lists are not the lists")
	}
}

// TestNoMarkIsMissedForSpeed compares what is looked at with what would be found in
// every random text of what the marks are made of.
func TestNoMarkIsMissedForSpeed(t *testing.T) {
	pieces := []string{"OP", "ip", "Mrn", "JZ", "|", "1", "99", "10003", "E11", ".9", "INS", "YB", "SELFPAY", ",", " ", "-", "13800138000", "+86", "110101", "19900307", "461X", "11010119900307461X", "patient", "RealName", ":", "=", "门诊", "医保", "ſ", "K", "a"}
	d := rand.New(rand.NewPCG(1, 2))
	found := map[string]int{}
	for range 20_000 {
		var b strings.Builder
		for range 1 + d.IntN(5) {
			b.WriteString(pieces[d.IntN(len(pieces))])
		}
		text := b.String()
		s := scanner{}
		s.value("", text)
		for _, m := range marks {
			has := m.form.MatchString(strings.TrimSpace(text)) && !Subject(text).Known() && !Cause(text).Known()
			if has {
				found[m.kind]++
			}
			if has != slices.Contains(s.found, m.kind) {
				t.Fatalf("%s in %q: %v, and found are %q", m.kind, text, has, s.found)
			}
		}
	}
	if len(found) != len(marks) {
		t.Errorf("only %v were ever there", found)
	}
}

type refusing struct{ t *testing.T }

func (r refusing) RoundTrip(*http.Request) (*http.Response, error) {
	r.t.Error("the call left")
	return nil, http.ErrServerClosed
}

func TestAPayloadWithPatientDataIsNotSent(t *testing.T) {
	w := NewWire("m", &http.Client{Transport: refusing{t}}, func() time.Time { return time.Unix(0, 0) })
	post := func(url, body string) *http.Request {
		r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, r := range map[string]*http.Request{
		"body": post("http://h.example/p", `{"attach":"OP|10003|INS"}`), "query": post("http://h.example/p?attach=OP%7C10003", ""),
		"path": post("http://h.example/p/OP10003", ""),
	} {
		call := Call{Name: "p", Request: r, Timeout: time.Second, Mask: func(s string) string { return s }, Sent: "something else"}
		_, _, x, err := w.Do(t.Context(), call)
		if err == nil || x.Request != "" || !strings.Contains(x.Fault, "a visit number") || strings.Contains(x.Fault, "10003") {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
		if _, _, err := w.Open(t.Context(), call); err == nil {
			t.Errorf("%s is sent where a file is asked for", name)
		}
	}
}
