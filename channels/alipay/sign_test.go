package alipay

import (
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

func key(t testing.TB, name string) string {
	t.Helper()
	return string(sample(t, filepath.Join("keys", name)))
}

// must returns what a call returned, which may not fail.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func appKey(t testing.TB) *rsa.PrivateKey {
	return must[*rsa.PrivateKey](t)(ParsePrivateKey(key(t, "alipay_app_TEST.pem")))
}

func platformKey(t testing.TB) *rsa.PrivateKey {
	return must[*rsa.PrivateKey](t)(ParsePrivateKey(key(t, "alipay_platform_TEST.pem")))
}

// vectors are the documented signatures: text, signature and whole message.
func vectors(t testing.TB) (v map[string]struct{ String, Node, Sign, Form, Body string }) {
	t.Helper()
	if err := json.Unmarshal(sample(t, "vectors.json"), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// messages are signed answers of the gateway by their names.
func messages(t testing.TB) map[string]string {
	t.Helper()
	var v struct{ Messages map[string]string }
	if err := json.Unmarshal(sample(t, "messages.json"), &v); err != nil {
		t.Fatal(err)
	}
	return v.Messages
}

func TestARequestIsSignedAsTheVectorIs(t *testing.T) {
	v := vectors(t)["ali_req"]
	params := must[url.Values](t)(url.ParseQuery(v.Form))
	params.Set("app_auth_token", "")
	if got := RequestString(params); got != v.String {
		t.Errorf("string\n%s\nwant\n%s", got, v.String)
	}
	if got := must[string](t)(Sign(appKey(t), v.String)); got != v.Sign {
		t.Errorf("signature %s", got)
	}
	public := must[*rsa.PublicKey](t)(ParsePublicKey(key(t, "alipay_app_TEST_pub.pem")))
	if err := Verify(public, v.String, v.Sign); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"a changed text":    Verify(public, v.String+" ", v.Sign),
		"another key":       Verify(&platformKey(t).PublicKey, v.String, v.Sign),
		"no signature":      Verify(public, v.String, ""),
		"no base64":         Verify(public, v.String, "?"),
		"a cut signature":   Verify(public, v.String, v.Sign[4:]),
		"another signature": Verify(public, v.String, vectors(t)["ali_notify"].Sign),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnAnswerIsVerifiedOverItsBytes(t *testing.T) {
	v := vectors(t)["ali_resp"]
	private, public := platformKey(t), must[*rsa.PublicKey](t)(ParsePublicKey(key(t, "alipay_platform_TEST_pub.pem")))
	a := must[Answer](t)(ParseAnswer([]byte(v.Body)))
	if a.Name != NodeName("alipay.trade.pay") || string(a.Node) != v.Node || a.Sign != v.Sign || a.Verify(public) != nil {
		t.Errorf("%+v", a)
	}
	if got := must[string](t)(Sign(private, v.Node)); got != v.Sign {
		t.Errorf("signature %s", got)
	}
	for name, body := range messages(t) {
		a, err := ParseAnswer([]byte(body))
		if err != nil || a.Verify(public) != nil {
			t.Errorf("%s: %v %v", name, err, a.Verify(public))
		}
		if got := must[string](t)(Sign(private, string(a.Node))); got != a.Sign {
			t.Errorf("%s: signed %s", name, got)
		}
	}
	for _, node := range []string{
		`{"z":"1","a":"http:\/\/x\/y","code":"10000"}`,
		`{ "msg" : "a } b { \" ] \\",  "list":[{"x":"}"}],"n":1.50 }`,
		`{"msg":"alipay_trade_pay_response","sub_msg":"\u95e8诊","sign":"inner"}`,
		`{}`, `"YWJj"`,
	} {
		sign := must[string](t)(Sign(private, node))
		for _, body := range []string{
			`{"alipay_trade_pay_response":` + node + `,"sign":"` + sign + `"}`,
			` {"sign" : "` + strings.ReplaceAll(sign, "/", `\/`) + "\",\n\"alipay_cert_sn\":\"77\", \"alipay_trade_pay_response\": \t" + node + " }\n",
		} {
			a, err := ParseAnswer([]byte(body))
			if err != nil || string(a.Node) != node || a.Verify(public) != nil {
				t.Errorf("%s: node %s, %v", body, a.Node, err)
			}
		}
	}
}

func TestAnAnswerThatTwoReadersMightReadInTwoWaysIsRefused(t *testing.T) {
	for _, body := range []string{
		``, `null`, `[]`, `"x"`, `<html>502</html>`, `{}`, `{"sign":"x"}`, `{"a_response":{}`, `{"a_response":{},}`, `{"a_response":{}} {}`,
		`{"a_response":{},"b_response":{}}`, `{"a_response":{},"a_response":{}}`, `{"a_response":{},"sign":"x","sign":"y"}`,
		`{"a_response":{},"sign":1}`, `{"a_response":[]}`, `{"a_response":null}`, `{"a_response":{"x":}}`, `{"a_response":{"x":"}`,
	} {
		if a, err := ParseAnswer([]byte(body)); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %+v %v", body, a, err)
		}
	}
	a := must[Answer](t)(ParseAnswer([]byte(`{"error_response":{"code":"40004"}}`)))
	if err := a.Verify(&platformKey(t).PublicKey); a.Name != ErrorResponse || !errors.Is(err, ErrSignature) {
		t.Errorf("%+v %v", a, err)
	}
}

func TestANoticeIsVerifiedWithoutItsSignType(t *testing.T) {
	v := vectors(t)["ali_notify"]
	params := url.Values{"sign": {v.Sign}, "sign_type": {"RSA2"}, "alipay_cert_sn": {"77"}}
	for _, pair := range strings.Split(v.String, "&") {
		name, value, _ := strings.Cut(pair, "=")
		params.Set(name, value)
	}
	if got := NoticeString(params); got != v.String {
		t.Errorf("string %s", got)
	}
	if err := Verify(&platformKey(t).PublicKey, NoticeString(params), v.Sign); err != nil {
		t.Error(err)
	}
	if got := must[string](t)(Sign(platformKey(t), v.String)); got != v.Sign {
		t.Errorf("signature %s", got)
	}
}

// The numbers were made by another program, from the issuer's name in RFC 2253 and
// the serial number; the root file also holds one made with SM2, which has none.
func TestCertificateNumbersAreThoseOfAnotherProgram(t *testing.T) {
	if sn := must[string](t)(CertSN(key(t, "app_cert_TEST.crt"))); sn != "7bf02f28f5f063d43865aaffe32d38ab" {
		t.Errorf("app_cert_sn %s", sn)
	}
	root := key(t, "root_cert_TEST.crt")
	if sn := must[string](t)(RootSN(root)); sn != "fd42c6df96fc449150cc81421fafbfa0" {
		t.Errorf("alipay_root_cert_sn %s", sn)
	}
	if sn := must[string](t)(RootSN(root + "\n" + root)); sn != "fd42c6df96fc449150cc81421fafbfa0_fd42c6df96fc449150cc81421fafbfa0" {
		t.Errorf("two roots %s", sn)
	}
	keys, err := ParseCertificates(key(t, "alipay_cert_TEST.crt"))
	if err != nil || !keys["9abe85402bc87291db90e4224badb84d"].Equal(&platformKey(t).PublicKey) || len(keys) != 2 {
		t.Errorf("%v %v", keys, err)
	}
	for name, text := range map[string]string{"none": "", "a key": key(t, "alipay_app_TEST.pem"), "broken": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"} {
		_, err1 := CertSN(text)
		_, err2 := RootSN(text)
		_, err3 := ParseCertificates(text)
		for _, err := range []error{err1, err2, err3} {
			if !errors.Is(err, ErrKey) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestKeysAreReadInEveryFormAndNeverShown(t *testing.T) {
	pem := key(t, "alipay_app_TEST.pem")
	bare := strings.Join(strings.Split(strings.TrimSpace(pem), "\n")[1:len(strings.Split(strings.TrimSpace(pem), "\n"))-1], "\r\n")
	if k := must[*rsa.PrivateKey](t)(ParsePrivateKey(bare)); !k.Equal(appKey(t)) {
		t.Error("bare base64 is another key")
	}
	for _, text := range []string{"", "?", "YWJj", key(t, "alipay_app_TEST_pub.pem")} {
		if _, err := ParsePrivateKey(text); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := ParsePublicKey(pem); !errors.Is(err, ErrKey) || strings.Contains(err.Error(), bare[:20]) {
		t.Error(err)
	}
}

// The cipher text was made with another program.
func TestContentIsEncryptedAsByAnotherProgram(t *testing.T) {
	const secret, plain = "Y2xlYXJ3YXJkLXRlc3QxNg==", `{"out_trade_no":"HP2026091500000003","subject":"门诊缴费"}`
	const want = "Au852v6PUMByu56KKH0s6shFZj3zRZBgGPnlDtkWl/J2QxZ4pOmROch4d38HSvlD7p6w9mKIeFMbiv7reoa6gw=="
	if got := must[string](t)(EncryptContent(secret, plain)); got != want {
		t.Errorf("cipher text %s", got)
	}
	if got := must[string](t)(DecryptContent(secret, want)); got != plain {
		t.Errorf("plain text %s", got)
	}
	for n := range 40 {
		text := strings.Repeat("x", n)
		if got := must[string](t)(DecryptContent(secret, must[string](t)(EncryptContent(secret, text)))); got != text {
			t.Errorf("%d bytes come back as %q", n, got)
		}
	}
	for _, c := range [][2]string{{secret, ""}, {secret, "YWJj"}, {secret, "?"}, {"YWJj", want}, {"", want}, {"MDEyMzQ1Njc4OWFiY2RlZg==", want}} {
		if got, err := DecryptContent(c[0], c[1]); err == nil {
			t.Errorf("%v decrypts to %q", c, got)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, body := range messages(f) {
		f.Add([]byte(body))
	}
	f.Add([]byte(`{"a_response": {"x":"}\"{\\"} ,"sign":""}`))
	private := platformKey(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := ParseAnswer(body)
		if err != nil {
			if !errors.Is(err, ErrAnswer) {
				t.Errorf("%v is no refusal", err)
			}
			return
		}
		if !json.Valid(a.Node) || !strings.Contains(string(body), string(a.Node)) {
			t.Errorf("node %q is not a part of the answer", a.Node)
		}
		sign, _ := Sign(private, string(a.Node))
		again, err := ParseAnswer([]byte(`{"sign":"` + sign + `","` + "x_response" + `":` + string(a.Node) + `}`))
		if err != nil || again.Verify(&private.PublicKey) != nil {
			t.Errorf("node %q does not come back: %v", a.Node, err)
		}
		_, _ = a.Content("Y2xlYXJ3YXJkLXRlc3QxNg==")
	})
}
