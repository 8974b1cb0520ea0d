package api

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"fmt"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/alipay"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/clearing"
)

// settings are those of a merchant number's connection. What they refer to is read
// as it is asked for; the first that cannot be had is the error.
type settings struct {
	plain map[string]string
	err   error
}

// text is a plain setting, "" where it is not there.
func (s *settings) text(name string) string { return s.plain[name] }

// secret is what a setting refers to, "" where it is not there.
func (s *settings) secret(name string) string {
	if s.plain[name] == "" {
		return ""
	}
	text, err := channels.Secret(s.plain[name])
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("%s: %w", name, err)
	}
	return text
}

// alipayGateway is where production answers.
const alipayGateway = "https://openapi.alipay.com/gateway.do"

// connect opens the connection of a merchant number: WeChat by V2, or by V3, to which
// a V2 key adds payments by code; Alipay with keys, or with certificates.
func (s *Server) connect(g clearing.Gateway) (channels.Gateway, error) {
	known := &settings{}
	if err := json.Unmarshal([]byte(g.Settings), &known.plain); err != nil {
		return nil, fmt.Errorf("%w: its settings cannot be read: %w", ErrNotConnected, err)
	}
	open, home := map[string]func(clearing.Gateway, *settings) (channels.Gateway, error){
		channels.WeChat + " V2": s.wechatV2, channels.WeChat + " V3": s.wechatV3, channels.Alipay + " ALIPAY": s.alipay,
	}[g.Channel+" "+g.API], wechat.Host
	if g.Channel == channels.Alipay {
		home = alipayGateway
	}
	if open == nil {
		return nil, fmt.Errorf("%w: %s has no client for api %q", ErrNotConnected, g.Channel, g.API)
	}
	at := known.text("base_url")
	if elsewhere := at != "" && at != home; elsewhere != (g.Environment == "SANDBOX") {
		return nil, fmt.Errorf("%w: the environment is %s and the address %q", ErrEnvironment, g.Environment, at)
	}
	if at == "" {
		known.plain["base_url"] = home
	}
	return open(g, known)
}

// wechat are the settings of WeChat Pay, whichever interface is used.
func (s *Server) wechat(g clearing.Gateway, known *settings) (wechat.Config, error) {
	c := wechat.Config{MerchantNo: g.MerchantNo, SubMerchantNo: known.text("sub_merchant_id"), AppID: known.text("app_id"), BaseURL: known.text("base_url"),
		NotifyURL: known.text("notify_url"), RefundNotifyURL: known.text("refund_notify_url"), SignType: wechat.SignType(known.text("sign_type")),
		Key: known.secret("key"), V3Key: known.secret("v3_key"), PrivateKey: known.secret("private_key"), SerialNo: known.text("serial_no"),
		PublicKeyID: known.text("public_key_id"), PublicKey: known.secret("public_key"), Now: s.now}
	cert := known.secret("certificate")
	if known.err != nil || cert == "" {
		return c, known.err
	}
	pair, err := tls.X509KeyPair([]byte(cert), []byte(c.PrivateKey))
	if err != nil {
		return c, fmt.Errorf("certificate: %w", err)
	}
	c.Certificate, c.SerialNo = &pair, cmp.Or(c.SerialNo, wechat.SerialNo(pair.Leaf))
	return c, nil
}

func (s *Server) wechatV2(g clearing.Gateway, known *settings) (channels.Gateway, error) {
	c, err := s.wechat(g, known)
	if err != nil {
		return nil, err
	}
	return wechat.NewV2(c)
}

// wechatV3 needs serial_no, or the certificate that carries it. With a key of V2
// codes are taken and reversed by V2, which alone can.
func (s *Server) wechatV3(g clearing.Gateway, known *settings) (channels.Gateway, error) {
	c, err := s.wechat(g, known)
	switch {
	case err != nil:
		return nil, err
	case c.Key != "":
		return wechat.NewBoth(c)
	}
	return wechat.NewV3(c)
}

func (s *Server) alipay(g clearing.Gateway, known *settings) (channels.Gateway, error) {
	c := alipay.Config{AppID: known.text("app_id"), SellerID: known.text("seller_id"), AppKey: known.secret("private_key"), AlipayKey: known.secret("alipay_key"),
		AppCert: known.secret("app_cert"), AlipayCert: known.secret("alipay_cert"), RootCert: known.secret("root_cert"), ContentKey: known.secret("content_key"),
		GatewayURL: known.text("base_url"), NotifyURL: known.text("notify_url"), ReturnURL: known.text("return_url"), Now: s.now}
	if known.err != nil {
		return nil, known.err
	}
	return alipay.New(c)
}
