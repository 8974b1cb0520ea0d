package alipay

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// How long a call may take (spec/channels.md I.3).
const (
	payTimeout    = 30 * time.Second // bar code
	prepayTimeout = 10 * time.Second
	queryTimeout  = 10 * time.Second
	cancelTimeout = 10 * time.Second
	refundTimeout = 30 * time.Second
	billTimeout   = 30 * time.Second // the address of a bill is valid as long
)

// clockForm is how the gateway writes a time, in Beijing.
const clockForm = "2006-01-02 15:04:05"

// Config is one merchant number at Alipay. Keys and certificates are texts, which
// the caller reads through channels.Secret.
type Config struct {
	AppID      string
	SellerID   string // the merchant's PID, 2088…
	AppKey     string // the application's private key
	AlipayKey  string // key mode: 支付宝公钥
	AppCert    string // certificate mode: 应用公钥证书,
	AlipayCert string // 支付宝公钥证书, one or several,
	RootCert   string // and 支付宝根证书
	ContentKey string // 接口内容加密 in base64; "" sends biz_content in clear
	GatewayURL string // https, or a loopback address
	NotifyURL  string
	ReturnURL  string // where a page leads the payer when it is done, "" nowhere
	HTTP       *http.Client
	Now        func() time.Time
}

// Client is the gateway of one merchant number at Alipay.
type Client struct {
	config        Config
	key           *rsa.PrivateKey
	platform      map[string]*rsa.PublicKey // by SN; "" in key mode
	appSN, rootSN string
	gateway       string
	wire          *channels.Wire
}

var _ channels.Gateway = (*Client)(nil)

// New checks the settings of a merchant number and returns its client; ErrKey
// where a key or certificate is not one.
func New(c Config) (*Client, error) {
	at, err := url.Parse(c.GatewayURL)
	if err != nil || at.Host == "" || (at.Scheme != "https" && (at.Scheme != "http" || !loopback(at.Hostname()))) {
		return nil, fmt.Errorf("%w: gateway %q is neither https nor on this machine", ErrKey, c.GatewayURL)
	}
	if c.AppID == "" || c.SellerID == "" {
		return nil, fmt.Errorf("%w: the application's and the merchant's number are needed", ErrKey)
	}
	g := &Client{config: c, gateway: c.GatewayURL, wire: channels.NewWire("alipay "+c.SellerID, c.HTTP, c.Now)}
	if g.key, err = ParsePrivateKey(c.AppKey); err != nil {
		return nil, fmt.Errorf("the application's private key: %w", err)
	}
	if c.ContentKey != "" {
		if _, err := contentCipher(c.ContentKey); err != nil {
			return nil, err
		}
	}
	if c.AppCert == "" {
		public, err := ParsePublicKey(c.AlipayKey)
		if err != nil {
			return nil, fmt.Errorf("alipay's public key: %w", err)
		}
		g.platform = map[string]*rsa.PublicKey{"": public}
		return g, nil
	}
	if g.appSN, err = CertSN(c.AppCert); err != nil {
		return nil, fmt.Errorf("the application's certificate: %w", err)
	}
	if g.rootSN, err = RootSN(c.RootCert); err != nil {
		return nil, fmt.Errorf("alipay's root certificate: %w", err)
	}
	if g.platform, err = ParseCertificates(c.AlipayCert); err != nil {
		return nil, fmt.Errorf("alipay's certificate: %w", err)
	}
	return g, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// params are the signed parameters of a call, and its content in clear.
func (g *Client) params(method string, content any) (url.Values, string, error) {
	var clear bytes.Buffer
	e := json.NewEncoder(&clear)
	e.SetEscapeHTML(false)
	if err := e.Encode(content); err != nil {
		return nil, "", err
	}
	text := strings.TrimSuffix(clear.String(), "\n")
	p := url.Values{
		"app_id": {g.config.AppID}, "method": {method}, "format": {"JSON"}, "charset": {"utf-8"}, "sign_type": {"RSA2"},
		"timestamp": {g.config.Now().In(ledger.Beijing).Format(clockForm)}, "version": {"1.0"}, "biz_content": {text},
	}
	if g.appSN != "" {
		p.Set("app_cert_sn", g.appSN)
		p.Set("alipay_root_cert_sn", g.rootSN)
	}
	if takesNotice(method) && g.config.NotifyURL != "" {
		p.Set("notify_url", g.config.NotifyURL)
	}
	if (method == methodPage || method == methodWap) && g.config.ReturnURL != "" {
		p.Set("return_url", g.config.ReturnURL)
	}
	if g.config.ContentKey != "" {
		secret, err := EncryptContent(g.config.ContentKey, text)
		if err != nil {
			return nil, "", err
		}
		p.Set("encrypt_type", "AES")
		p.Set("biz_content", secret)
	}
	sign, err := Sign(g.key, RequestString(p))
	p.Set("sign", sign)
	return p, method + " " + text, err
}

// reply is what came back: the words of a trusted answer, or why there is none.
type reply struct {
	Code    string `json:"code"`
	Msg     string `json:"msg"`
	SubCode string `json:"sub_code"`
	SubMsg  string `json:"sub_msg"`

	TradeNo      string `json:"trade_no"`
	OrderNo      string `json:"out_trade_no"`
	Status       string `json:"trade_status"`
	Total        string `json:"total_amount"`
	Receipt      string `json:"receipt_amount"`
	PaidAt       string `json:"gmt_payment"`
	SendPayDate  string `json:"send_pay_date"`
	QRCode       string `json:"qr_code"`
	RetryFlag    string `json:"retry_flag"`
	Action       string `json:"action"`
	FundChange   string `json:"fund_change"`
	RefundFee    string `json:"refund_fee"`
	SendBack     string `json:"send_back_fee"`
	RefundNo     string `json:"out_request_no"`
	RefundAmount string `json:"refund_amount"`
	RefundStatus string `json:"refund_status"`
	RefundedAt   string `json:"gmt_refund_pay"`
	BillURL      string `json:"bill_download_url"`
	BillCode     string `json:"bill_file_code"`
	Available    string `json:"available_amount"`

	signed   bool
	fault    channels.Reason // Kind set where there is no answer to go by
	exchange *channels.Exchange
}

// reason is the channel's own words under the kind.
func (r *reply) reason(kind channels.ReasonKind) channels.Reason {
	code, text := r.SubCode, r.SubMsg
	if code == "" {
		code, text = r.Code, r.Msg
	}
	return channels.Reason{Kind: kind, Code: code, Text: text}
}

// call sends a method about an order and reads its answer. Everything that may have arrived and
// gave nothing to go by is a fault, and so Unknown.
func (g *Client) call(ctx context.Context, method, about string, content any, timeout time.Duration) *reply {
	params, sent, err := g.params(method, content)
	if err != nil {
		return &reply{fault: channels.Reason{Kind: channels.ReasonSetup, Text: err.Error()}}
	}
	request, err := http.NewRequest(http.MethodPost, g.gateway+"?charset=utf-8", strings.NewReader(params.Encode()))
	if err != nil {
		return &reply{fault: channels.Reason{Kind: channels.ReasonSetup, Text: err.Error()}}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded;charset=utf-8")
	answer, body, x, err := g.wire.Do(ctx, channels.Call{Name: method, About: about, Request: request, Timeout: timeout, Mask: mask, Sent: sent})
	r := &reply{exchange: x}
	switch {
	case errors.Is(err, channels.ErrNotSent):
		r.fault = channels.Reason{Kind: channels.ReasonBreaker, Text: err.Error()}
	case err != nil:
		r.fault = channels.Reason{Kind: channels.ReasonNetwork, Text: err.Error()}
	case answer.StatusCode < 200 || answer.StatusCode > 299:
		r.fault = channels.Reason{Kind: channels.ReasonNetwork, Text: "the gateway answers " + answer.Status}
	default:
		err := g.read(r, method, body)
		if errors.Is(err, ErrSignature) {
			r.fault = channels.Reason{Kind: channels.ReasonSignature, Text: err.Error()}
		} else if err != nil {
			r.fault = channels.Reason{Kind: channels.ReasonNetwork, Text: err.Error()}
		}
	}
	if x != nil && x.Fault == "" {
		x.Fault = r.fault.Text
	}
	return r
}

// read takes an answer apart and verifies it. Failures may come without a
// signature; anything else may not.
func (g *Client) read(r *reply, method string, body []byte) error {
	a, err := ParseAnswer(body)
	if err != nil {
		return err
	}
	if a.Name != NodeName(method) && a.Name != ErrorResponse {
		return fmt.Errorf("%w: it answers another call, %s", ErrAnswer, a.Name)
	}
	if a.Sign != "" {
		public, err := g.public(a.CertSN)
		if err != nil {
			return err
		}
		if err := a.Verify(public); err != nil {
			return err
		}
		r.signed = true
	}
	plain, err := a.Content(g.config.ContentKey)
	if err != nil {
		return err
	}
	if a.Node[0] != '{' {
		r.exchange.Response = mask(string(plain))
	}
	if err := json.Unmarshal(plain, r); err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if r.Code == "" || a.Name == ErrorResponse && r.Code == "10000" {
		return fmt.Errorf("%w: it has no code", ErrAnswer)
	}
	if !r.signed && (r.Code == "10000" || r.Code == "10003") {
		return fmt.Errorf("%w: the answer is not signed", ErrSignature)
	}
	return nil
}

// public is the key that an answer or notice says it was signed with.
func (g *Client) public(sn string) (*rsa.PublicKey, error) {
	if g.appSN == "" {
		sn = ""
	}
	public, known := g.platform[sn]
	if !known {
		return nil, fmt.Errorf("%w: it is made with certificate %q, which is not set up", ErrSignature, sn)
	}
	return public, nil
}

var (
	secretField = regexp.MustCompile(`("(?:auth_code|sign|buyer_user_name|buyer_name)"\s*:\s*)"(?:[^"\\]|\\.)*"`)
	payerField  = regexp.MustCompile(`("(?:buyer_id|buyer_user_id|buyer_open_id|buyer_logon_id|open_id)"\s*:\s*"(?:[^"\\]|\\.){0,4})((?:[^"\\]|\\.)*)"`)
	token       = regexp.MustCompile(`([?&]|\\u0026)(token|fileId)=[^&"\\]*`)
)

// mask hides what a record may not show: the payer's code, names, signatures,
// most of the payer's number, and the token of a bill.
func mask(text string) string {
	text = secretField.ReplaceAllString(text, `$1"***"`)
	text = payerField.ReplaceAllString(text, `$1***"`)
	return token.ReplaceAllString(text, "$1$2=***")
}

// at reads a time of the gateway; zero where there is none.
func at(text string) time.Time {
	t, err := time.ParseInLocation(clockForm, text, ledger.Beijing)
	if err != nil {
		return time.Time{}
	}
	return t
}

// yuan reads an amount that need not be there.
func yuan(text string) (ledger.Money, error) {
	if text == "" {
		return 0, nil
	}
	return ledger.ParseYuan(text)
}
