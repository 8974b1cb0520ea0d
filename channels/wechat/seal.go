package wechat

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrSealed is wrapped where something encrypted cannot be opened: the key is
// another, or it was changed on its way.
var ErrSealed = errors.New("cannot be decrypted")

// refundCipher is AES-256 under the lower-case hex MD5 of the API key.
func refundCipher(key string) cipher.Block {
	sum := md5.Sum([]byte(key))
	block, err := aes.NewCipher([]byte(hex.EncodeToString(sum[:])))
	if err != nil {
		panic(err) // 32 bytes always are a key
	}
	return block
}

// OpenRefund decrypts req_info of a V2 refund notice: base64 of AES-256-ECB with
// PKCS#7 padding under the merchant's API key. ECB says nothing of who sent it.
func OpenRefund(reqInfo, key string) ([]byte, error) {
	text, err := base64.StdEncoding.DecodeString(reqInfo)
	if err != nil || len(text) == 0 || len(text)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("%w: req_info is not base64 of whole blocks", ErrSealed)
	}
	block := refundCipher(key)
	for at := 0; at < len(text); at += aes.BlockSize {
		block.Decrypt(text[at:], text[at:at+aes.BlockSize])
	}
	pad := int(text[len(text)-1])
	if pad < 1 || pad > aes.BlockSize || !bytes.Equal(text[len(text)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, fmt.Errorf("%w: req_info under another API key", ErrSealed)
	}
	return text[:len(text)-pad], nil
}

// SealRefund is the other direction of OpenRefund.
func SealRefund(plain []byte, key string) string {
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	text := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	block := refundCipher(key)
	for at := 0; at < len(text); at += aes.BlockSize {
		block.Encrypt(text[at:], text[at:at+aes.BlockSize])
	}
	return base64.StdEncoding.EncodeToString(text)
}

// Algorithm is how v3 encrypts the resources of notices and the certificates.
const Algorithm = "AEAD_AES_256_GCM"

// Resource is an encrypted part of a v3 message.
type Resource struct {
	OriginalType   string `json:"original_type,omitempty"`
	Algorithm      string `json:"algorithm"`
	Ciphertext     string `json:"ciphertext"`
	AssociatedData string `json:"associated_data"`
	Nonce          string `json:"nonce"`
}

// gcm is AES-256-GCM under the merchant's APIv3 key, whose 32 characters are the
// key's bytes.
func gcm(key string) (cipher.AEAD, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("%w: an APIv3 key has 32 characters", ErrSealed)
	}
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Open decrypts the resource under the merchant's APIv3 key (APIv3密钥).
func (r Resource) Open(key string) ([]byte, error) {
	aead, err := gcm(key)
	if err != nil {
		return nil, err
	}
	text, err := base64.StdEncoding.DecodeString(r.Ciphertext)
	if err != nil || r.Algorithm != Algorithm || len(r.Nonce) != aead.NonceSize() {
		return nil, fmt.Errorf("%w: not a resource in %s", ErrSealed, Algorithm)
	}
	plain, err := aead.Open(nil, []byte(r.Nonce), text, []byte(r.AssociatedData))
	if err != nil {
		return nil, fmt.Errorf("%w: under another APIv3 key, or changed on its way", ErrSealed)
	}
	return plain, nil
}

// Seal is the other direction of Open. nonce has twelve characters and is never
// used twice with one key.
func Seal(originalType, associated, nonce, key string, plain []byte) (Resource, error) {
	aead, err := gcm(key)
	if err != nil {
		return Resource{}, err
	}
	if len(nonce) != aead.NonceSize() {
		return Resource{}, fmt.Errorf("%w: a nonce has %d characters", ErrSealed, aead.NonceSize())
	}
	return Resource{
		OriginalType: originalType, Algorithm: Algorithm, AssociatedData: associated, Nonce: nonce,
		Ciphertext: base64.StdEncoding.EncodeToString(aead.Seal(nil, []byte(nonce), plain, []byte(associated))),
	}, nil
}

// CertificateList is the answer to GET /v3/certificates.
type CertificateList struct {
	Data []SealedCertificate `json:"data"`
}

// SealedCertificate is one platform certificate (平台证书) in that answer.
type SealedCertificate struct {
	SerialNo  string    `json:"serial_no"`
	Effective time.Time `json:"effective_time"`
	Expire    time.Time `json:"expire_time"`
	Sealed    Resource  `json:"encrypt_certificate"`
}

// OpenCertificates decrypts the platform certificates of an answer to GET
// /v3/certificates. Each must carry the serial number that the list gives it.
func OpenCertificates(body []byte, key string) ([]*x509.Certificate, error) {
	var list CertificateList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("the list of certificates: %w", err)
	}
	certificates := make([]*x509.Certificate, 0, len(list.Data))
	for _, one := range list.Data {
		text, err := one.Sealed.Open(key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", one.SerialNo, err)
		}
		block, _ := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("certificate %s: %w: not PEM", one.SerialNo, ErrSealed)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", one.SerialNo, err)
		}
		if SerialNo(certificate) != strings.ToUpper(one.SerialNo) {
			return nil, fmt.Errorf("certificate %s: %w: its own number is %s", one.SerialNo, ErrSealed, SerialNo(certificate))
		}
		certificates = append(certificates, certificate)
	}
	return certificates, nil
}

// SerialNo is a certificate's number as v3 writes it: upper-case hex.
func SerialNo(certificate *x509.Certificate) string {
	return strings.ToUpper(hex.EncodeToString(certificate.SerialNumber.Bytes()))
}
