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

// notices tells the business apps what became of their payments and refunds.
func (s *Server) notices() *pay.Notices {
	client := &http.Client{Timeout: notifyTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &pay.Notices{House: s.house, Send: func(ctx context.Context, n pay.AppNotice) error {
		pair, err := s.noticeKey()
		if err != nil {
			return err
		}
		body := []byte(n.Body)
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, n.NotifyURL, bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(sdk.NoticeHeader, sdk.SignNotice(pair, body, s.now()))
		answer, err := client.Do(r)
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
	}}
}

func (s *Server) notifyApps(ctx context.Context, _ time.Time) (int, error) {
	notices := s.notices()
	return whatIsDue(ctx, func() (int, error) { return notices.Deliver(ctx, pollAtOnce) })
}
