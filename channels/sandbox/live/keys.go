package live

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/clearward/clearward/channels"
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
