package bank

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The headers of the contract.
const (
	HeaderCustomer  = "X-Customer"
	HeaderKeyID     = "X-Key-Id"
	HeaderTimestamp = "X-Timestamp" // RFC 3339
	HeaderNonce     = "X-Nonce"
	HeaderSignature = "X-Signature" // base64
)

// ErrSignature is wrapped where a message is not signed by whom it names.
var ErrSignature = errors.New("wrong signature")

// RequestText is what the customer signs of a request.
func RequestText(method, path, timestamp, nonce string, sum []byte) string {
	return method + "\n" + path + "\n" + timestamp + "\n" + nonce + "\n" + hex.EncodeToString(sum) + "\n"
}

// AnswerText is what the bank signs of an answer. The nonce is that of the request,
// so that an old answer cannot be played again.
func AnswerText(status int, timestamp, nonce string, sum []byte) string {
	return fmt.Sprintf("%d\n%s\n%s\n%s\n", status, timestamp, nonce, hex.EncodeToString(sum))
}

// Sign signs a text by RSA (PKCS #1 v1.5) with SHA-256, as base64.
func Sign(key *rsa.PrivateKey, text string) (string, error) {
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	return base64.StdEncoding.EncodeToString(signature), err
}

// Verify checks what Sign made.
func Verify(key *rsa.PublicKey, text, signature string) error {
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || key == nil {
		return fmt.Errorf("%w: no known key, or not base64", ErrSignature)
	}
	sum := sha256.Sum256([]byte(text))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], raw) != nil {
		return fmt.Errorf("%w: by another key, or the message was changed", ErrSignature)
	}
	return nil
}

// SignAnswer signs an answer of the bank into its header.
func SignAnswer(h http.Header, key *rsa.PrivateKey, keyID string, status int, nonce string, at time.Time, body []byte) error {
	timestamp, sum := at.UTC().Format(time.RFC3339), sha256.Sum256(body)
	signature, err := Sign(key, AnswerText(status, timestamp, nonce, sum[:]))
	h.Set(HeaderKeyID, keyID)
	h.Set(HeaderTimestamp, timestamp)
	h.Set(HeaderSignature, signature)
	return err
}

// PrivateKey reads an RSA key in PEM, PKCS #8 or PKCS #1.
func PrivateKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the private key is not PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("the private key is neither PKCS #8 nor PKCS #1 of RSA")
	}
	return key, nil
}

// PublicKey reads an RSA public key or a certificate with one, in PEM.
func PublicKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the public key is not PEM")
	}
	var parsed any
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err == nil {
		parsed = certificate.PublicKey
	} else if parsed, err = x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		return nil, fmt.Errorf("the public key: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("the public key is not of RSA")
	}
	return key, nil
}
