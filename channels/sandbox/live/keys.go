package live

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/alipay"
	"github.com/clearward/clearward/channels/wechat"
)

// The keys of the sandbox are made at its first start, are good for nothing else,
// and stand as files below keys/ in its data directory: those of the channels
// themselves in keys/channel, those of each merchant number in keys/NUMBER.

// pair is an RSA key with its certificate.
type pair struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
	pem  []byte // of the certificate
}

// platformKeys are those of the servers and of whoever vouches for them.
type platformKeys struct {
	dir     string
	root    *pair
	serving tls.Certificate
	alipay  *pair // 支付宝公钥证书, made for the first merchant number of Alipay
	public  *pair // 微信支付公钥, made for the first merchant number of WeChat Pay

	mu       sync.Mutex
	platform []*pair // WeChat Pay's certificates, the newest last
}

// merchantKeys are what a merchant number and its channel share.
type merchantKeys struct {
	*pair
	v2, v3 string // keys of WeChat Pay's interfaces
	alipay alipayKeys
}

func openKeys(dir string) (*platformKeys, error) {
	k := &platformKeys{dir: filepath.Join(dir, "keys")}
	var err error
	if k.root, err = k.pair("channel/root", "Clearward Sandbox TEST Root CA", nil); err != nil {
		return nil, err
	}
	server, err := k.pair("channel/server", "localhost", k.root)
	if err == nil {
		k.serving = tls.Certificate{Certificate: [][]byte{server.cert.Raw}, PrivateKey: server.key}
	}
	return k, err
}

// merchant opens or makes the keys of a merchant number.
func (k *platformKeys) merchant(no, channel string) (*merchantKeys, error) {
	own := &merchantKeys{}
	var err error
	if own.pair, err = k.pair(no+"/merchant", no, k.root); err != nil {
		return nil, err
	}
	if channel == channels.Alipay {
		own.alipay, err = k.ofAlipay(no, own.pair)
		return own, err
	}
	if k.public == nil {
		if err = k.openV3(); err != nil {
			return nil, err
		}
	}
	if own.v2, err = k.text(no + "/api_v2.key"); err == nil {
		own.v3, err = k.text(no + "/api_v3.key")
	}
	return own, err
}

// alipayKeys are what the certificate mode and the encryption of contents need.
type alipayKeys struct {
	appSN, rootSN, ownSN string
	content              string
}

// ofAlipay opens or makes what a merchant number of Alipay has beside its own key
// and certificate: the content key in keys/NUMBER/content.key, and for all of them
// Alipay's key and certificate in keys/channel.
func (k *platformKeys) ofAlipay(no string, own *pair) (a alipayKeys, err error) {
	if k.alipay == nil {
		if k.alipay, err = k.pair("channel/alipay", "alipay", k.root); err != nil {
			return a, err
		}
	}
	if a.content, err = k.secret(no+"/content.key", base64.StdEncoding.EncodeToString); err != nil {
		return a, err
	}
	if a.appSN, err = alipay.CertSN(string(own.pem)); err != nil {
		return a, err
	}
	if a.ownSN, err = alipay.CertSN(string(k.alipay.pem)); err != nil {
		return a, err
	}
	a.rootSN, err = alipay.RootSN(string(k.root.pem))
	return a, err
}

// text is a secret of 32 characters.
func (k *platformKeys) text(name string) (string, error) {
	return k.secret(name, hex.EncodeToString)
}

// secret is one of 16 bytes, written down by encode.
func (k *platformKeys) secret(name string, encode func([]byte) string) (string, error) {
	path := filepath.Join(k.dir, name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var raw [16]byte
		if _, err := rand.Read(raw[:]); err != nil {
			return "", err
		}
		text = []byte(encode(raw[:]))
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("sandbox key: %w", err)
	}
	return string(text), nil
}

// pair opens name_key.pem and name_cert.pem or makes them, with the public key
// beside them in name_pub.pem. by signs the certificate; nil signs itself.
func (k *platformKeys) pair(name, subject string, by *pair) (*pair, error) {
	path := filepath.Join(k.dir, name)
	keyText, keyErr := os.ReadFile(path + "_key.pem")
	certText, certErr := os.ReadFile(path + "_cert.pem")
	if err := errors.Join(keyErr, certErr); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("sandbox key: %w", err)
	} else if err != nil {
		return makePair(path, subject, by)
	}
	keyBlock, _ := pem.Decode(keyText)
	certBlock, _ := pem.Decode(certText)
	if keyBlock == nil || certBlock == nil {
		return nil, fmt.Errorf("sandbox key %s: not PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("sandbox key %s: %w", path, err)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("sandbox certificate %s: %w", path, err)
	}
	own, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("sandbox key %s: not RSA", path)
	}
	return &pair{own, cert, certText}, nil
}

func makePair(path, subject string, by *pair) (*pair, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	if err != nil {
		return nil, err
	}
	serial.SetBit(serial, 158, 1) // 40 hex digits, as the channel's are
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: subject, Organization: []string{"Clearward TEST"}, Country: []string{"CN"}},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, BasicConstraintsValid: true,
	}
	issuer, signer := template, key
	if by != nil {
		issuer, signer = by.cert, by.key
	} else {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	p := &pair{key, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})}
	return p, p.write(path)
}

func (p *pair) write(path string) error {
	private, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&p.key.PublicKey)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(path+"_key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(path+"_pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600),
		os.WriteFile(path+"_cert.pem", p.pem, 0o600))
}

// tls is what the servers speak when TLS is on. A client's certificate is asked
// for, and calls that need one refuse without it.
func (k *platformKeys) tls() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(k.root.cert)
	return &tls.Config{Certificates: []tls.Certificate{k.serving}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool, MinVersion: tls.VersionTLS12}
}

// v3Mode is by what WeChat Pay signs towards a merchant number; "" is V2.
type v3Mode string

const (
	v3Certificate v3Mode = "CERTIFICATE" // the newest platform certificate (平台证书)
	v3PublicKey   v3Mode = "PUBLIC_KEY"  // its public key (微信支付公钥)
)

// publicKeyID names WeChat Pay's public key towards one merchant number.
func (m *merchant) publicKeyID() string { return wechat.PublicKeyPrefix + "01" + m.No + "2020010100" }

// openV3 opens WeChat Pay's public key and its platform certificates, of which there
// is at least one.
func (k *platformKeys) openV3() error {
	var err error
	if k.public, err = k.pair("channel/wechat_public", "Tenpay.com Public Key", k.root); err != nil {
		return err
	}
	for n := 1; ; n++ {
		name := fmt.Sprintf("channel/wechat_platform_%d", n)
		if _, err := os.Stat(filepath.Join(k.dir, name+"_cert.pem")); err != nil && n > 1 {
			return nil
		}
		if err := k.addPlatform(name); err != nil {
			return err
		}
	}
}

func (k *platformKeys) addPlatform(name string) error {
	p, err := k.pair(name, "Tenpay.com Sandbox", k.root)
	if err == nil {
		k.platform = append(k.platform, p)
	}
	return err
}

// rotate makes a new platform certificate, which signs from now on; the one before it
// stays on the list, and what it signed stays good.
func (k *platformKeys) rotate() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.addPlatform(fmt.Sprintf("channel/wechat_platform_%d", len(k.platform)+1))
}

// listed are the platform certificates that are good: the newest and the one before.
func (k *platformKeys) listed() []*pair {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.platform[max(len(k.platform)-2, 0):])
}

// signs is the newest platform certificate with its serial number.
func (k *platformKeys) signs() (*pair, string) {
	list := k.listed()
	newest := list[len(list)-1]
	return newest, wechat.SerialNo(newest.cert)
}

// knows says whether a serial number is that of a platform certificate on the list.
func (k *platformKeys) knows(serial string) bool {
	return slices.ContainsFunc(k.listed(), func(p *pair) bool { return wechat.SerialNo(p.cert) == serial })
}

// KeysOf are the public numbers of the keys of a merchant number: what its master
// data refer to.
type KeysOf struct {
	Merchant    string   `json:"merchant"`
	SerialNo    string   `json:"serial_no"`     // of the merchant's certificate
	PublicKeyID string   `json:"public_key_id"` // of keys/channel/wechat_public_pub.pem
	Platform    []string `json:"platform"`      // serial numbers of the platform certificates, the newest last
}

// keysOf lists them for every merchant number of WeChat Pay.
func (s *Server) keysOf() []KeysOf {
	var platform []string
	for _, p := range s.keys.listed() {
		platform = append(platform, wechat.SerialNo(p.cert))
	}
	list := []KeysOf{}
	for _, no := range s.numbers {
		if m := s.merchants[no]; m.keys.v3 != "" {
			list = append(list, KeysOf{no, wechat.SerialNo(m.keys.cert), m.publicKeyID(), platform})
		}
	}
	return list
}
