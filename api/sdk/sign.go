// Package sdk is how a business app's program calls Clearward from Go: an HTTP
// client that signs every request, which the generated clients take as it is.
//
//	client := paymentv1connect.NewPaymentServiceClient(sdk.Client(key), url)
//
// It needs nothing but the key that `clearward key new --service NAME` showed.
package sdk

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Scheme begins the Authorization header of a signed request.
const Scheme = "CLEARWARD-ED25519 "

// Prefix begins every key, so that scanners find one that got into a repository.
const Prefix = "ck_"

// ErrKey is wrapped where a text is no key.
var ErrKey = errors.New("not a key")

// Signer signs requests in the name of a key. The key's 32 bytes are the seed of
// an Ed25519 key pair, of which the server keeps the public half alone.
type Signer struct {
	id   string
	pair ed25519.PrivateKey
}

// NewSigner reads a key. It never shows one in an error.
func NewSigner(key string) (*Signer, error) {
	text, ok := strings.CutPrefix(key, Prefix)
	seed, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%w: it begins with %s and has %d characters", ErrKey, Prefix, len(Prefix)+43)
	}
	sum := sha256.Sum256([]byte(key))
	return &Signer{id: "key_" + hex.EncodeToString(sum[:8]), pair: ed25519.NewKeyFromSeed(seed)}, nil
}

// ID is the key's id, as `clearward key list` shows it.
func (s *Signer) ID() string { return s.id }

// Public is what the server keeps of the key.
func (s *Signer) Public() ed25519.PublicKey { return s.pair.Public().(ed25519.PublicKey) }

// Message is what is signed: method, path with query, seconds since 1970, nonce
// and the SHA-256 of the body, each on a line of its own.
func Message(method, path, at, nonce string, body []byte) []byte {
	sum := sha256.Sum256(body)
	return fmt.Appendf(nil, "%s\n%s\n%s\n%s\n%s\n", method, path, at, nonce, hex.EncodeToString(sum[:]))
}

// Sign returns the Authorization header of a request.
func (s *Signer) Sign(method, path string, body []byte, now time.Time) string {
	at, nonce := strconv.FormatInt(now.Unix(), 10), rand.Text()
	signature := ed25519.Sign(s.pair, Message(method, path, at, nonce, body))
	return Scheme + "key=" + s.id + ",ts=" + at + ",nonce=" + nonce + ",sig=" + base64.RawURLEncoding.EncodeToString(signature)
}

// transport signs what passes through it.
type transport struct {
	signer *Signer
	next   http.RoundTripper
	now    func() time.Time
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(r.Body)
		if err = errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
	}
	signed := r.Clone(r.Context())
	signed.Body, signed.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	signed.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	signed.Header.Set("Authorization", t.signer.Sign(r.Method, r.URL.RequestURI(), body, t.now()))
	return t.next.RoundTrip(signed)
}

// Client returns an HTTP client that signs every request with the key. now is the
// clock, time.Now where nil; the server's may differ by five minutes.
func Client(key string, now func() time.Time) (*http.Client, error) {
	signer, err := NewSigner(key)
	if err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	next := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute}
	return &http.Client{Transport: &transport{signer, next, now}}, nil
}
