package features_test

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/alipay"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/channels/wechat"
)

// The merchant numbers of the sandbox that tests pay at.
const (
	wechatNo = "1900000109"
	secondNo = "1900000110" // another of WeChat Pay, for V2 beside v3
	alipayNo = "20880000000000020156"
)

// merchants are those numbers with money on their balances, so that refunds of
// yesterday's payments find some.
func merchants() []live.Merchant {
	return []live.Merchant{
		{No: wechatNo, Channel: channels.WeChat, Apps: []string{"wx1"}, FeeRate: "0.0060", BankAccount: "6801", OpeningFen: 10_000_000, RetainedFen: 10_000_000},
		{No: secondNo, Channel: channels.WeChat, Apps: []string{"wx1"}, FeeRate: "0.0060", BankAccount: "6802", OpeningFen: 10_000_000, RetainedFen: 10_000_000},
		{No: alipayNo, Channel: channels.Alipay, Apps: []string{"2021000000000001"}, FeeRate: "0.0060", BankAccount: "6801", OpeningFen: 10_000_000, RetainedFen: 10_000_000},
	}
}

// shore is a sandbox as whoever pays there sees it: its addresses and the keys that
// it made.
type shore struct {
	t        *testing.T
	dir      string
	at       live.Addresses
	now      func() time.Time
	patience time.Duration // how long an answer may take
	notify   string
}

func (s *shore) key(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "keys", name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// client is an HTTP client that gives up early and keeps no connection, which a
// broken one would spoil for the next call. The time stands in the transport, since
// some clients take only that.
func (s *shore) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: s.patience}}
}

func (s *shore) wechat() wechat.Config {
	block, _ := pem.Decode([]byte(s.key(wechatNo + "/merchant_cert.pem")))
	if block == nil {
		s.t.Fatal("the merchant's certificate is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		s.t.Fatal(err)
	}
	return wechat.Config{MerchantNo: wechatNo, AppID: "wx1", BaseURL: s.at.WeChat, NotifyURL: s.notify, RefundNotifyURL: s.notify, HTTP: s.client(), Now: s.now,
		Key: s.key(wechatNo + "/api_v2.key"), V3Key: s.key(wechatNo + "/api_v3.key"), PrivateKey: s.key(wechatNo + "/merchant_key.pem"), SerialNo: wechat.SerialNo(cert)}
}

func (s *shore) alipay() alipay.Config {
	return alipay.Config{AppID: "2021000000000001", SellerID: alipayNo[:16], AppKey: s.key(alipayNo + "/merchant_key.pem"), GatewayURL: s.at.Alipay + "/gateway.do",
		NotifyURL: s.notify, HTTP: s.client(), Now: s.now}
}

func (s *shore) wechatV2() (channels.Gateway, error) { return wechat.NewV2(s.wechat()) }

func (s *shore) wechatV3() (channels.Gateway, error) { return wechat.NewV3(s.wechat()) }

// wechatPublic verifies with WeChat Pay's public key in place of its certificates.
func (s *shore) wechatPublic() (channels.Gateway, error) {
	c := s.wechat()
	c.PublicKeyID, c.PublicKey = wechat.PublicKeyPrefix+"01"+wechatNo+"2020010100", s.key("channel/wechat_public_pub.pem")
	return wechat.NewV3(c)
}

func (s *shore) alipayKeys() (channels.Gateway, error) {
	c := s.alipay()
	c.AlipayKey = s.key("channel/alipay_pub.pem")
	return alipay.New(c)
}

func (s *shore) alipayCertificates() (channels.Gateway, error) {
	c := s.alipay()
	c.AppCert, c.AlipayCert, c.RootCert = s.key(alipayNo+"/merchant_cert.pem"), s.key("channel/alipay_cert.pem"), s.key("channel/root_cert.pem")
	return alipay.New(c)
}
