package wechat

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Host is WeChat Pay's own host.
const Host = "https://api.mch.weixin.qq.com"

// How long a call may take (spec/channels.md I.3).
const (
	PayTimeout     = 30 * time.Second // micropay
	PrepayTimeout  = 10 * time.Second
	QueryTimeout   = 10 * time.Second
	ReverseTimeout = 30 * time.Second
	RefundTimeout  = 30 * time.Second
	BillTimeout    = 10 * time.Minute // to the last byte
)

// Config is one merchant number (商户号). Keys are the texts themselves: references
// are resolved by whoever fills this in.
type Config struct {
	MerchantNo    string // mch_id; in partner mode the partner's
	SubMerchantNo string // sub_mch_id: partner mode (服务商); "" is a direct merchant (A16)
	AppID         string
	BaseURL       string // "" is Host; http only on loopback

	NotifyURL       string // for payments; needed by every way but WayCode
	RefundNotifyURL string // "" asks for no notices of refunds

	Key      string   // V2: API密钥
	SignType SignType // V2: "" is SignHMAC

	V3Key       string // v3: APIv3密钥
	PrivateKey  string // v3: the merchant's, PEM
	SerialNo    string // v3: of the merchant's certificate
	PublicKeyID string // v3, public-key mode: PUB_KEY_ID_…
	PublicKey   string // v3, public-key mode: WeChat Pay's, PEM

	// Certificate is the merchant's (apiclient_cert), for mutual TLS: V2 reversals,
	// refunds, fund bills and comments.
	Certificate *tls.Certificate
	HTTP        *http.Client // nil: one of our own
	Now         func() time.Time
}

// ErrConfig is wrapped where a merchant number is not set up as it must be.
var ErrConfig = errors.New("WeChat Pay is not set up")

// client is what V2 and v3 have in common.
type client struct {
	cfg  Config
	wire *channels.Wire
}

func newClient(cfg Config) (client, error) {
	if cfg.MerchantNo == "" || cfg.AppID == "" || cfg.Now == nil {
		return client{}, fmt.Errorf("%w: merchant number, app ID or clock is missing", ErrConfig)
	}
	if cfg.BaseURL == "" {
		cfg.BaseURL = Host
	}
	cfg.BaseURL = strings.TrimSuffix(cfg.BaseURL, "/")
	base, err := url.Parse(cfg.BaseURL)
	if err != nil || base.Host == "" || (base.Scheme != "https" && (base.Scheme != "http" || !loopback(base.Hostname()))) {
		return client{}, fmt.Errorf("%w: base URL %q is neither https nor on loopback", ErrConfig, cfg.BaseURL)
	}
	transport, err := cfg.transport()
	if err != nil {
		return client{}, err
	}
	// A redirect would carry a signed request to another host.
	hc := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return client{cfg, channels.NewWire("WECHAT "+cfg.MerchantNo, hc, cfg.Now)}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// transport is the one handed in, or one of our own, with the merchant's certificate.
func (cfg *Config) transport() (http.RoundTripper, error) {
	var given http.RoundTripper
	if cfg.HTTP != nil {
		given = cfg.HTTP.Transport
	}
	if given != nil && cfg.Certificate == nil {
		return given, nil
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
	if given != nil {
		own, ok := given.(*http.Transport)
		if !ok {
			return nil, fmt.Errorf("%w: a certificate cannot be added to a %T", ErrConfig, given)
		}
		t = own.Clone()
	}
	if cfg.Certificate != nil {
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		t.TLSClientConfig.Certificates = append(t.TLSClientConfig.Certificates, *cfg.Certificate)
	}
	return t, nil
}

// Plan says when a payment without a final outcome is asked for again.
func (c *client) Plan(way channels.Way) channels.Plan {
	if way == channels.WayCode {
		return channels.PlanWeChatCode
	}
	return channels.PlanPrepay
}

func nonce() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

var (
	authCode = regexp.MustCompile(`^1[0-5]\d{16}$`)            // B11
	numberV2 = regexp.MustCompile(`^[0-9A-Za-z_\-|*@]{1,64}$`) // out_trade_no, out_refund_no
)

// checkPay refuses what breaks a rule of the channel before it is sent. shortest is
// the least length of an order number.
func checkPay(r channels.PayRequest, shortest int) (none channels.Reason) {
	switch {
	case r.Way == channels.WayCode && !authCode.MatchString(r.AuthCode):
		return channels.Reason{Kind: channels.ReasonAuthCode, Text: "auth_code has 18 digits and starts with 10 to 15"}
	case r.Amount < 1 || r.Amount > channels.MaxAmount:
		return broken("total_fee is %d fen: it is at least 1 and at most %d", int64(r.Amount), int64(channels.MaxAmount))
	case !numberV2.MatchString(r.OrderNo) || len(r.OrderNo) < shortest || len(r.OrderNo) > 32:
		return broken("out_trade_no %q is not %d to 32 letters, digits or _-|*@", r.OrderNo, shortest)
	case !r.Subject.Known():
		return broken("the subject is not on the list")
	case r.Way == channels.WayJSAPI && r.Payer == "":
		return broken("openid is missing")
	case r.ClientIP == "" && (r.Way == channels.WayH5 || r.Way == channels.WayCode):
		return broken("the client's IP address is missing")
	case r.ClientIP != "" && net.ParseIP(r.ClientIP) == nil:
		return broken("the client's IP address is none")
	}
	return none
}

func checkRefund(r channels.RefundRequest) (none channels.Reason) {
	switch {
	case r.Amount < 1 || r.Amount > r.Total:
		return broken("refund_fee is %d fen: it is at least 1 and at most the order's %d", int64(r.Amount), int64(r.Total))
	case !numberV2.MatchString(r.RefundNo):
		return broken("out_refund_no %q is not 1 to 64 letters, digits or _-|*@", r.RefundNo)
	case r.OrderNo == "" && r.TradeNo == "":
		return broken("neither transaction_id nor out_trade_no is known")
	case !r.Cause.Known():
		return broken("refund_desc is not on the list (W04)")
	}
	return none
}

func broken(rule string, args ...any) channels.Reason {
	return channels.Reason{Kind: channels.ReasonRequest, Text: fmt.Sprintf(rule, args...)}
}

// unsent is why a call has no usable answer.
func unsent(err error) channels.Reason {
	kind := channels.ReasonNetwork
	switch {
	case errors.Is(err, channels.ErrPayload):
		kind = channels.ReasonRequest
	case errors.Is(err, channels.ErrNotSent):
		kind = channels.ReasonBreaker
	}
	return channels.Reason{Kind: kind, Text: Mask(err.Error())}
}

// neverLeft tells a call that was not sent from one that was not answered.
func neverLeft(r channels.Reason) bool {
	return r.Kind == channels.ReasonBreaker || r.Kind == channels.ReasonRequest
}

// fenOf reads an amount in fen; "" is no amount.
func fenOf(text string) (ledger.Money, bool) {
	n, err := strconv.ParseUint(text, 10, 63)
	return ledger.Money(n), err == nil && ledger.Money(n) <= channels.MaxAmount
}

// hidden are the fields that no record shows: signatures and what makes them, codes
// that pay, names and card numbers. Of an openid the first characters stay.
var hidden = []string{"sign", "paySign", "nonce_str", "noncestr", "nonce", "key", "auth_code", "openid", "sub_openid", "sp_openid", `refund_recv_accout(?:_\d+)?`,
	"user_received_account", "ciphertext", "req_info", "signature", "token"}

// hiddenForm is a field in one of the forms in which messages are written: before its
// value, and the value.
type hiddenForm struct {
	mark string // a text without it has none of the form
	form *regexp.Regexp
}

var hiddenForms, hiddenInAddress = func() (all []hiddenForm, address *regexp.Regexp) {
	for _, form := range []struct{ mark, before, value string }{{"<", `>\s*(?:<!\[CDATA\[)?`, `[^<\]]*`}, {`"`, `"\s*:\s*"`, `(?:[^"\\]|\\.)*`}} {
		for _, name := range hidden {
			plain, _, _ := strings.Cut(name, "(")
			all = append(all, hiddenForm{form.mark + plain, regexp.MustCompile("(" + form.mark + name + form.before + ")(" + form.value + ")")})
		}
	}
	return all, regexp.MustCompile(`([?&](?:` + strings.Join(hidden, "|") + `)=)([^&"\s]*)`)
}()

// Mask hides in a request or answer what no record may show.
func Mask(text string) string {
	for _, at := range hiddenForms {
		if strings.Contains(text, at.mark) {
			text = maskForm(at.form, text)
		}
	}
	if strings.ContainsAny(text, "?&") {
		text = maskForm(hiddenInAddress, text)
	}
	return text
}

func maskForm(form *regexp.Regexp, text string) string {
	return form.ReplaceAllStringFunc(text, func(found string) string {
		part := form.FindStringSubmatch(found)
		if strings.Contains(part[1], "openid") && len(part[2]) > 8 {
			return part[1] + part[2][:4] + "***"
		}
		return part[1] + "***"
	})
}
