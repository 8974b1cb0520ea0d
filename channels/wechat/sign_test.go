package wechat

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"maps"
	"math/big"
	"math/rand/v2"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

type vector struct {
	Message    string
	Signature  string
	PaySign    string `json:"paySign"`
	WeChat     string `json:"wechatpay_signature"`
	Over       string `json:"sign_message"`
	Header     string `json:"authorization"`
	APIKey     string `json:"apikey"`
	V3Key      string `json:"apiv3_key"`
	Plain      string
	ReqInfo    string `json:"req_info"`
	Body       string
	Ciphertext string
}

func load(t testing.TB, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func vectors(t testing.TB) (lists map[string][]string, ones map[string]vector) {
	t.Helper()
	raw := map[string]json.RawMessage{}
	load(t, "vectors.json", &raw)
	lists, ones = map[string][]string{}, map[string]vector{}
	for name, text := range raw {
		var list []string
		var one vector
		if json.Unmarshal(text, &list) == nil {
			lists[name] = list
		} else if err := json.Unmarshal(text, &one); err == nil {
			ones[name] = one
		} else {
			t.Fatal(name, err)
		}
	}
	return lists, ones
}

func privateKey(t testing.TB, name string) *rsa.PrivateKey {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePrivateKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicKey(t testing.TB, name string) *rsa.PublicKey {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParsePublicKey(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// fields turns the string that a V2 vector is signed over back into its message.
func fields(t *testing.T, text string) (m Message, key string) {
	t.Helper()
	m = Message{"attach": "", "sign": "not part of it"}
	for _, pair := range strings.Split(text, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name == "key" {
			return m, value
		}
		m[name] = value
	}
	t.Fatal("the vector has no key")
	return nil, ""
}

func TestV2SignaturesAreThoseOfTheVectors(t *testing.T) {
	lists, _ := vectors(t)
	for _, c := range []struct {
		name string
		kind SignType
		at   int
	}{{"v2_classic", SignMD5, 1}, {"v2_classic", SignHMAC, 2}, {"v2_micropay_md5", SignMD5, 1}, {"v2_micropay_hmac", SignHMAC, 1}} {
		m, key := fields(t, lists[c.name][0])
		want := lists[c.name][c.at]
		if got := m.Sign(c.kind, key); got != want {
			t.Errorf("%s %s: %s, want %s", c.name, c.kind, got, want)
		}
		m["sign"] = want
		if err := m.Verify(c.kind, key); err != nil {
			t.Errorf("%s %s: %v", c.name, c.kind, err)
		}
		for _, change := range []func(Message){
			func(m Message) { m["sign"] = strings.ToLower(want) }, func(m Message) { delete(m, "sign") },
			func(m Message) { m["body"] += " " }, func(m Message) { m["new"] = "1" }, func(m Message) { m["sign_type"] = "RSA" },
		} {
			changed := maps.Clone(m)
			change(changed)
			if err := changed.Verify(c.kind, key); !errors.Is(err, ErrSign) {
				t.Errorf("%s %s: a changed message gives %v", c.name, c.kind, err)
			}
		}
	}
}

type signedMessages struct {
	APIKey   string   `json:"api_key"`
	SignType SignType `json:"sign_type"`
	Messages map[string]string
}

func TestSignedMessagesAreReadAndWrittenAgain(t *testing.T) {
	var s signedMessages
	load(t, "wechat_v2_messages.json", &s)
	if len(s.Messages) != 13 {
		t.Fatalf("%d messages", len(s.Messages))
	}
	for name, text := range s.Messages {
		m, err := ParseXML([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := ParseXML(m.XML())
		if err != nil || !maps.Equal(again, m) {
			t.Errorf("%s: written and read again it is %v, %v", name, again, err)
		}
		switch err := m.Verify(s.SignType, s.APIKey); {
		case name == "comm_fail_sign":
			if !errors.Is(err, ErrSign) {
				t.Errorf("%s: a message without sign gives %v", name, err)
			}
		case err != nil || m.Sign(s.SignType, s.APIKey) != m["sign"]:
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestXMLThatIsNotAFlatMessageIsRefused(t *testing.T) {
	for _, text := range []string{
		``, `<xml>`, `<xml><a>1</a>`, `<xml><a>1</b></xml>`, `no xml`, `{"a":1}`,
		`<!DOCTYPE xml [<!ENTITY x SYSTEM "file:///etc/passwd">]><xml><a>&x;</a></xml>`,
		`<!DOCTYPE xml [<!ENTITY x "xxxxxxxx"><!ENTITY y "&x;&x;&x;">]><xml><a>&y;</a></xml>`,
		`<xml><a>&x;</a></xml>`, `<xml><a><b>1</b></a></xml>`, `<xml><a>1</a><a>2</a></xml>`, `<xml>text<a>1</a></xml>`,
		`<xml><a>1</a></xml><xml/>`, `<xml><a>1</a></xml>rest`, `text<xml><a>1</a></xml>`, `<xml><n:a xmlns:n="u">1</n:a></xml>`,
		`<xml><a>1<!-- no --></a></xml>`, `<?xml version="1.0" encoding="GBK"?><xml><a>1</a></xml>`, "<xml><a>\x01</a></xml>", "<xml><a>\xff</a></xml>",
		`<xml>` + strings.Repeat(`<a/>`, 2) + `</xml>`,
	} {
		if m, err := ParseXML([]byte(text)); !errors.Is(err, ErrXML) {
			t.Errorf("%q is read as %v, %v", text, m, err)
		}
	}
	good := "\ufeff<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xml>\n <b><![CDATA[2<&]]> 3</b><a>&lt;1&amp;</a>\n<c/></xml>\n"
	m, err := ParseXML([]byte(good))
	if err != nil || !maps.Equal(m, Message{"a": "<1&", "b": "2<& 3", "c": ""}) {
		t.Errorf("%v, %v", m, err)
	}
	awkward := Message{"a": "]]>x]]>]]&<"}
	if m, err = ParseXML(awkward.XML()); err != nil || !maps.Equal(m, awkward) {
		t.Errorf("%s is read as %v, %v", awkward.XML(), m, err)
	}
}

func TestRefundNoticesAreOpenedAndSealed(t *testing.T) {
	_, ones := vectors(t)
	v := ones["v2_refund_notify"]
	plain, err := OpenRefund(v.ReqInfo, v.APIKey)
	if err != nil || string(plain) != v.Plain {
		t.Fatalf("%s, %v", plain, err)
	}
	if sealed := SealRefund([]byte(v.Plain), v.APIKey); sealed != v.ReqInfo {
		t.Errorf("sealed again: %s", sealed)
	}
	if m, err := ParseXML(plain); err != nil || m["out_refund_no"] != "HR2026091500000001" {
		t.Errorf("%v, %v", m, err)
	}
	for _, wrong := range []string{"", "AAAA", "?", v.ReqInfo[:len(v.ReqInfo)-1], v.ReqInfo[:64]} {
		if plain, err := OpenRefund(wrong, v.APIKey); !errors.Is(err, ErrSealed) {
			t.Errorf("%q opens as %q, %v", wrong, plain, err)
		}
	}
	if plain, err := OpenRefund(v.ReqInfo, strings.Repeat("k", 32)); !errors.Is(err, ErrSealed) {
		t.Errorf("another key opens %q, %v", plain, err)
	}
}

func TestV3SignaturesAreThoseOfTheVectors(t *testing.T) {
	_, ones := vectors(t)
	const nonce, at = "593BEC0C930BF1AFEB40B4A08C8FB242", "1789430400"
	merchant, platform := privateKey(t, "wechat_merchant_TEST.pem"), privateKey(t, "wechat_platform_TEST.pem")
	post := ones["v3_post"].Message
	body := post[strings.Index(post, "{") : len(post)-1]
	callback := ones["v3_callback"]
	for _, c := range []struct {
		name, message, over, want string
		key                       *rsa.PrivateKey
		public                    string
	}{
		{"request without body", RequestMessage("GET", "/v3/bill/tradebill?bill_date=2026-09-15&bill_type=ALL&tar_type=GZIP", at, nonce, nil), ones["v3_get"].Message, ones["v3_get"].Signature, merchant, "wechat_merchant_TEST_pub.pem"},
		{"request with body", RequestMessage("POST", "/v3/pay/transactions/jsapi", at, nonce, []byte(body)), post, ones["v3_post"].Signature, merchant, "wechat_merchant_TEST_pub.pem"},
		{"page", JSAPIMessage("wxd678efh567hg6787", at, nonce, "wx201410272009395522657a690389285100"), ones["v3_jsapi_paysign"].Message, ones["v3_jsapi_paysign"].PaySign, merchant, "wechat_merchant_TEST_pub.pem"},
		{"answer", AnswerMessage(at, nonce, []byte(`{"prepay_id":"wx201410272009395522657a690389285100"}`)), ones["v3_response"].Message, ones["v3_response"].WeChat, platform, "wechat_platform_TEST_pub.pem"},
		{"notice", AnswerMessage(at, nonce, []byte(callback.Body)), callback.Over, callback.WeChat, platform, "wechat_platform_TEST_pub.pem"},
	} {
		signature, err := SignSHA256(c.key, c.message)
		if c.message != c.over || signature != c.want || err != nil {
			t.Errorf("%s: %q, %s, %v", c.name, c.message, signature, err)
		}
		public := publicKey(t, c.public)
		if err := VerifySHA256(public, c.message, c.want); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, wrong := range []string{"", "?", ProbePrefix + c.want, "A" + c.want[1:], c.want + "="} {
			if err := VerifySHA256(public, c.message, wrong); !errors.Is(err, ErrSign) {
				t.Errorf("%s: the signature %.30q gives %v", c.name, wrong, err)
			}
		}
		if err := VerifySHA256(public, c.message+" ", c.want); !errors.Is(err, ErrSign) {
			t.Errorf("%s: another message gives %v", c.name, err)
		}
	}
}

func TestTheAuthorizationHeaderIsReadInAnyOrder(t *testing.T) {
	_, ones := vectors(t)
	header := ones["v3_get"].Header
	a, err := ParseAuthorization(header)
	if err != nil || a.String() != header || a.MerchantNo != "1900000109" || a.Signature != ones["v3_get"].Signature {
		t.Fatalf("%+v, %v", a, err)
	}
	items := strings.Split(strings.TrimPrefix(header, Scheme+" "), ",")
	slices.Reverse(items)
	if b, err := ParseAuthorization(Scheme + " " + strings.Join(items, ", ")); err != nil || b != a {
		t.Errorf("%+v, %v", b, err)
	}
	for _, wrong := range []string{"", "Bearer x", Scheme + " " + strings.Join(items[1:], ","), header + `,mchid="2"`, header + `,x="2"`, strings.Replace(header, "1789430400", "", 1)} {
		if a, err := ParseAuthorization(wrong); !errors.Is(err, ErrSign) {
			t.Errorf("%q is read as %+v, %v", wrong, a, err)
		}
	}
}

func TestResourcesAreOpenedAndSealed(t *testing.T) {
	_, ones := vectors(t)
	v := ones["v3_callback"]
	var notice struct{ Resource Resource }
	if err := json.Unmarshal([]byte(v.Body), &notice); err != nil {
		t.Fatal(err)
	}
	r := notice.Resource
	plain, err := r.Open(v.V3Key)
	if err != nil || string(plain) != v.Plain {
		t.Fatalf("%s, %v", plain, err)
	}
	if again, err := Seal(r.OriginalType, r.AssociatedData, r.Nonce, v.V3Key, plain); err != nil || again != r {
		t.Errorf("sealed again: %+v, %v", again, err)
	}
	for _, change := range []func(*Resource){
		func(r *Resource) { r.AssociatedData = "" }, func(r *Resource) { r.Nonce = "fdasflkja485" }, func(r *Resource) { r.Nonce = "" },
		func(r *Resource) { r.Ciphertext = "A" + r.Ciphertext[1:] }, func(r *Resource) { r.Ciphertext = "" }, func(r *Resource) { r.Algorithm = "NONE" },
	} {
		changed := r
		change(&changed)
		if plain, err := changed.Open(v.V3Key); !errors.Is(err, ErrSealed) {
			t.Errorf("%+v opens as %q, %v", changed, plain, err)
		}
	}
	for _, key := range []string{"", "short", strings.Repeat("K", 32)} {
		if plain, err := r.Open(key); !errors.Is(err, ErrSealed) {
			t.Errorf("the key %q opens %q, %v", key, plain, err)
		}
	}
	if _, err := Seal("", "", "short", v.V3Key, plain); !errors.Is(err, ErrSealed) {
		t.Errorf("a short nonce gives %v", err)
	}
}

// platformCertificate makes a certificate for the platform's test key.
func platformCertificate(t testing.TB, serial int64, from, to time.Time) []byte {
	t.Helper()
	key := privateKey(t, "wechat_platform_TEST.pem")
	form := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "Tenpay.com sign TEST"}, NotBefore: from, NotAfter: to}
	raw, err := x509.CreateCertificate(nil, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

// certificateList is the body of GET /v3/certificates with one certificate.
func certificateList(t testing.TB, key, serial string, certificate []byte) []byte {
	t.Helper()
	sealed, err := Seal("", "certificate", "0123456789ab", key, certificate)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(CertificateList{Data: []SealedCertificate{{SerialNo: serial, Sealed: sealed}}})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestCertificatesAreOpenedUnderTheirNumbers(t *testing.T) {
	key := strings.Repeat("k", 32)
	from := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	certificate := platformCertificate(t, 0x5157F09EFDC096DE, from, from.AddDate(5, 0, 0))
	list, err := OpenCertificates(certificateList(t, key, "5157F09EFDC096DE", certificate), key)
	if err != nil || len(list) != 1 || !publicKey(t, "wechat_platform_TEST_pub.pem").Equal(list[0].PublicKey) {
		t.Fatalf("%v, %v", list, err)
	}
	for name, body := range map[string][]byte{
		"another number": certificateList(t, key, "5157F09EFDC096DF", certificate),
		"another key":    certificateList(t, strings.Repeat("j", 32), "5157F09EFDC096DE", certificate),
		"no PEM":         certificateList(t, key, "5157F09EFDC096DE", []byte("x")),
	} {
		if _, err := OpenCertificates(body, key); !errors.Is(err, ErrSealed) {
			t.Errorf("%s gives %v", name, err)
		}
	}
	if _, err := OpenCertificates([]byte("{"), key); err == nil {
		t.Error("half a list is taken")
	}
}

func TestTimesFarFromOursAreRefused(t *testing.T) {
	now := time.Unix(1789430400, 0)
	for stamp, good := range map[string]bool{"1789430400": true, "1789430100": true, "1789430700": true, "1789430099": false, "1789430701": false, "": false, "x": false, "-9223372036854775808": false} {
		if err := CheckClock(stamp, now); (err == nil) != good || (err != nil && !errors.Is(err, ErrClock)) {
			t.Errorf("%q gives %v", stamp, err)
		}
	}
}

func TestPaySignsOfV2VerifyUnderTheSameKey(t *testing.T) {
	const key = "192006250b4c09247ec02edce69f6a2d"
	page := BringJSAPI("wx1", "wx20", "n1", 1789430400, SignHMAC, key)
	if want := (Message{"appId": "wx1", "timeStamp": "1789430400", "nonceStr": "n1", "package": "prepay_id=wx20", "signType": "HMAC-SHA256"}); page["paySign"] != want.Sign(SignHMAC, key) || len(page) != 6 {
		t.Errorf("%v", page)
	}
	app := BringApp("wx1", "1900000109", "wx20", "n1", 1789430400, SignMD5, key)
	if want := (Message{"appid": "wx1", "partnerid": "1900000109", "prepayid": "wx20", "package": "Sign=WXPay", "noncestr": "n1", "timestamp": "1789430400"}); app["sign"] != want.Sign(SignMD5, key) || len(app) != 7 {
		t.Errorf("%v", app)
	}
}

// What Mask hides field by field is what one expression for each form would hide.
func TestAMaskHidesWhatOneExpressionWould(t *testing.T) {
	all := strings.Join(hidden, "|")
	forms := []*regexp.Regexp{regexp.MustCompile(`(<(` + all + `)>\s*(?:<!\[CDATA\[)?)([^<\]]*)`),
		regexp.MustCompile(`("(` + all + `)"\s*:\s*")((?:[^"\\]|\\.)*)`), regexp.MustCompile(`([?&](` + all + `)=)([^&"\s]*)`)}
	model := func(text string) string {
		for _, form := range forms {
			text = form.ReplaceAllStringFunc(text, func(found string) string {
				part := form.FindStringSubmatch(found)
				if strings.HasSuffix(part[2], "openid") && len(part[3]) > 8 {
					return part[1] + part[3][:4] + "***"
				}
				return part[1] + "***"
			})
		}
		return text
	}
	names := append(slices.Clone(hidden), "refund_recv_accout", "refund_recv_accout_12", "mch_id", "signed", "out_trade_no", "sub_mch_id", "key_id")
	values := []string{"oUpF8uMuAJO_M2pxb1Q9", "o1", "", "6225880000001234", "a\"b\\", "\"sign\":\"x", "张三", "sign", "1 2"}
	d := rand.New(rand.NewPCG(1, 2))
	masked := 0
	for range 20_000 {
		var text strings.Builder
		form := d.IntN(4)
		for range d.IntN(8) {
			name, value := strings.TrimSuffix(names[d.IntN(len(names))], `(?:_\d+)?`), values[d.IntN(len(values))]
			switch form {
			case 0:
				fmt.Fprintf(&text, "<%s><![CDATA[%s]]></%s>\n", name, value, name)
			case 1:
				fmt.Fprintf(&text, "<%s>%s</%s>", name, html.EscapeString(value), name)
			case 2:
				fmt.Fprintf(&text, "%q : %q, ", name, value)
			default:
				fmt.Fprintf(&text, "?%s=%s&", name, url.QueryEscape(value))
			}
		}
		got, want := Mask(text.String()), model(text.String())
		if got != want {
			t.Fatalf("%q is masked as %q, want %q", text.String(), got, want)
		}
		if want != text.String() {
			masked++
		}
	}
	if masked < 1000 {
		t.Errorf("only %d texts had something to hide", masked)
	}
	for _, name := range []string{"sign", "key", "auth_code", "user_received_account", "token", "refund_recv_accout_0"} {
		for _, text := range []string{"<" + name + "><![CDATA[6225880000001234]]></" + name + ">", `{"` + name + `":"6225880000001234"}`, "/v3/bill?a=b&" + name + "=6225880000001234"} {
			if got := Mask(text); strings.Contains(got, "6225") || !strings.Contains(got, "***") {
				t.Errorf("%s is masked as %s", text, got)
			}
		}
	}
}
