package api

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/clearing/pay"
)

// noticeKey is the key pair that signs notices to apps. It comes out of the master
// key, so that every replica has the same without keeping another secret.
func (s *Server) noticeKey() (ed25519.PrivateKey, error) {
	master, err := s.masterKey()
	if err != nil {
		return nil, err
	}
	seed := hmac.New(sha256.New, master)
	seed.Write([]byte("clearward notices to apps, version 1"))
	return ed25519.NewKeyFromSeed(seed.Sum(nil)), nil
}

// showNoticeKey answers with the public half, by which apps check their notices.
func (s *Server) showNoticeKey(w http.ResponseWriter, _ *http.Request) {
	pair, err := s.noticeKey()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, base64.RawURLEncoding.EncodeToString(pair.Public().(ed25519.PublicKey)))
}

// notifyTimeout is how long an app may take to acknowledge a notice.
const notifyTimeout = 5 * time.Second

// appClient carries notices to business apps.
var appClient = &http.Client{Timeout: notifyTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute}}

// sendNotice tells a business app what became of a payment or refund.
func sendNotice(ctx context.Context, n pay.AppNotice, pair ed25519.PrivateKey, now time.Time) error {
	body := []byte(n.Body)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.NotifyURL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(sdk.NoticeHeader, sdk.SignNotice(pair, body, now))
	answer, err := appClient.Do(r)
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10) // so that the connection is used again
	if err := answer.Body.Close(); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the app answers %d", answer.StatusCode)
	}
	return nil
}

func (s *Server) notifyApps(ctx context.Context, _ time.Time) (int, error) {
	pair, err := s.noticeKey()
	if err != nil {
		return 0, err
	}
	notices := &pay.Notices{House: s.house, Send: func(ctx context.Context, n pay.AppNotice) error { return sendNotice(ctx, n, pair, s.now()) }}
	return whatIsDue(ctx, func() (int, error) { return notices.Deliver(ctx, pollAtOnce) })
}
