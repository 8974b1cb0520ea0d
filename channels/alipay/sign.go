package alipay

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"strings"
)

// ErrKey is wrapped where a key or certificate cannot be used. It never shows one.
var ErrKey = errors.New("key or certificate not usable")

// ErrSignature is wrapped where a signature is missing, wrong, or made with
// another certificate.
var ErrSignature = errors.New("wrong signature")

// RequestString is what a request's signature covers: all parameters but sign and
// the empty ones, by name, with values that are not encoded (spec/channels.md D.2).
func RequestString(params url.Values) string {
	return joined(params, func(name, value string) bool { return name != "sign" && value != "" })
}

// NoticeString is what a notice's signature covers: all parameters but sign,
// sign_type and alipay_cert_sn (spec/channels.md D.6).
func NoticeString(params url.Values) string {
	return joined(params, func(name, _ string) bool {
		return name != "sign" && name != "sign_type" && name != "alipay_cert_sn"
	})
}

func joined(params url.Values, signed func(name, value string) bool) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if value := params.Get(name); signed(name, value) {
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			b.WriteString(name + "=" + value)
		}
	}
	return b.String()
}

// Sign makes the RSA2 signature of a text: SHA256withRSA (PKCS #1 v1.5) in base64.
func Sign(key *rsa.PrivateKey, text string) (string, error) {
	digest := sha256.Sum256([]byte(text))
	sign, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKey, err)
	}
	return base64.StdEncoding.EncodeToString(sign), nil
}

// Verify checks an RSA2 signature; ErrSignature says that it is not one of this
// text by this key.
func Verify(key *rsa.PublicKey, text, sign string) error {
	raw, err := base64.StdEncoding.DecodeString(sign)
	if err != nil || len(raw) == 0 {
		return fmt.Errorf("%w: it is no base64 text", ErrSignature)
	}
	digest := sha256.Sum256([]byte(text))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], raw); err != nil {
		return fmt.Errorf("%w: the text is signed with another key, or changed", ErrSignature)
	}
	return nil
}

// der is what a PEM text holds, or the bare base64 that Alipay's key tool writes.
func der(text string) ([]byte, error) {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		return block.Bytes, nil
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil || len(raw) == 0 {
		return nil, fmt.Errorf("%w: it is neither PEM nor base64", ErrKey)
	}
	return raw, nil
}

// ParsePrivateKey reads an RSA key, PKCS #1 or PKCS #8, in PEM or bare base64.
func ParsePrivateKey(text string) (*rsa.PrivateKey, error) {
	raw, err := der(text)
	if err != nil {
		return nil, err
	}
	if key, err := x509.ParsePKCS1PrivateKey(raw); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(raw)
	if key, isRSA := key.(*rsa.PrivateKey); err == nil && isRSA {
		return key, nil
	}
	return nil, fmt.Errorf("%w: it is no RSA private key", ErrKey)
}

// ParsePublicKey reads an RSA key (支付宝公钥) in PEM or bare base64.
func ParsePublicKey(text string) (*rsa.PublicKey, error) {
	raw, err := der(text)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(raw)
	if key, isRSA := key.(*rsa.PublicKey); err == nil && isRSA {
		return key, nil
	}
	return nil, fmt.Errorf("%w: it is no RSA public key", ErrKey)
}

// ParseCertificates reads the certificates (支付宝公钥证书) of a PEM text, by their
// SN. There may be several, so that a new one can be put beside the old before
// Alipay changes over.
func ParseCertificates(text string) (map[string]*rsa.PublicKey, error) {
	keys := map[string]*rsa.PublicKey{}
	for _, raw := range blocks(text) {
		sn, isRSA, err := certSN(raw)
		if err != nil {
			return nil, err
		}
		if !isRSA {
			continue // the issuer's, made with another algorithm
		}
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrKey, err)
		}
		if key, isRSA := c.PublicKey.(*rsa.PublicKey); isRSA {
			keys[sn] = key
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: there is no RSA certificate", ErrKey)
	}
	return keys, nil
}

// CertSN is app_cert_sn, or alipay_cert_sn, of the first certificate of a PEM text:
// the MD5 of the issuer's name, its last part first, and the serial number in
// decimals (spec/channels.md D.1).
func CertSN(text string) (string, error) {
	for _, raw := range blocks(text) {
		sn, _, err := certSN(raw)
		return sn, err
	}
	return "", fmt.Errorf("%w: there is no certificate", ErrKey)
}

// RootSN is alipay_root_cert_sn of a PEM text of root certificates: the numbers of
// those signed with RSA, joined by "_".
func RootSN(text string) (string, error) {
	var numbers []string
	for _, raw := range blocks(text) {
		sn, isRSA, err := certSN(raw)
		if err != nil {
			return "", err
		}
		if isRSA {
			numbers = append(numbers, sn)
		}
	}
	if len(numbers) == 0 {
		return "", fmt.Errorf("%w: there is no root certificate signed with RSA", ErrKey)
	}
	return strings.Join(numbers, "_"), nil
}

func blocks(text string) (certificates [][]byte) {
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			certificates = append(certificates, block.Bytes)
		}
	}
	return certificates
}

// rsaSignatures are the signature algorithms of PKCS #1.
var rsaSignatures = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1}

// certSN reads only the head of a certificate: Alipay's root file also holds some
// made with SM2, which the standard library does not know.
func certSN(raw []byte) (sn string, isRSA bool, err error) {
	var c struct {
		Head struct {
			Version   int `asn1:"optional,explicit,default:0,tag:0"`
			Serial    *big.Int
			Algorithm pkix.AlgorithmIdentifier
			Issuer    pkix.RDNSequence
		}
	}
	if _, err := asn1.Unmarshal(raw, &c); err != nil {
		return "", false, fmt.Errorf("%w: %w", ErrKey, err)
	}
	sum := md5.Sum([]byte(c.Head.Issuer.String() + c.Head.Serial.String()))
	id := c.Head.Algorithm.Algorithm
	isRSA = len(id) == len(rsaSignatures)+1 && id[:len(rsaSignatures)].Equal(rsaSignatures)
	return hex.EncodeToString(sum[:]), isRSA, nil
}

// EncryptContent turns biz_content, or an answer, into base64 of AES-128-CBC with
// a zero vector and PKCS #7 padding; key is the base64 text of the merchant's
// settings (接口内容加密方式).
func EncryptContent(key, plain string) (string, error) {
	block, err := contentCipher(key)
	if err != nil {
		return "", err
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	text := append([]byte(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(text, text)
	return base64.StdEncoding.EncodeToString(text), nil
}

// DecryptContent undoes EncryptContent.
func DecryptContent(key, secret string) (string, error) {
	block, err := contentCipher(key)
	if err != nil {
		return "", err
	}
	text, err := base64.StdEncoding.DecodeString(secret)
	if err != nil || len(text) == 0 || len(text)%aes.BlockSize != 0 {
		return "", fmt.Errorf("%w: the encrypted content is no base64 of whole blocks", ErrAnswer)
	}
	cipher.NewCBCDecrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(text, text)
	pad := int(text[len(text)-1])
	if pad == 0 || pad > aes.BlockSize || !bytes.Equal(text[len(text)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return "", fmt.Errorf("%w: the content is encrypted with another key", ErrAnswer)
	}
	return string(text[:len(text)-pad]), nil
}

func contentCipher(key string) (cipher.Block, error) {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != 16 {
		return nil, fmt.Errorf("%w: the content key is not 16 bytes in base64", ErrKey)
	}
	return aes.NewCipher(raw)
}
