package sdk

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// NoticeHeader is the header that signs a notice.
const NoticeHeader = "Clearward-Signature"

// ErrNotice is wrapped by every reason why a notice is not believed.
var ErrNotice = errors.New("notice refused")

// noticeAge is how old a notice may be: what is older was caught by somebody.
const noticeAge = 5 * time.Minute

// Notice tells an app what became of a payment or refund. It may come twice and out
// of order: keep the one with the highest version of a number.
type Notice struct {
	// Kind is PAID, PAID_LATE, NOT_PAID, HIS_REFUSED, REFUND_OWED, REFUNDED,
	// REFUND_ABNORMAL, REFUND_FINAL, REFUND_FAILED or REFUND_CLOSED.
	Kind      string    `json:"kind"`
	Version   int32     `json:"version"`
	Hospital  string    `json:"hospital"`
	OrderNo   string    `json:"order_no"`
	RefundNo  string    `json:"refund_no"` // "" of a payment
	BillNo    string    `json:"bill_no"`
	Status    string    `json:"status"`
	AmountFen int64     `json:"amount_fen"`
	TradeNo   string    `json:"channel_trade_no"`
	HIS       string    `json:"his"` // DONE once HIS has booked it
	At        time.Time `json:"at"`
}

func noticeMessage(at string, body []byte) []byte {
	sum := sha256.Sum256(body)
	return fmt.Appendf(nil, "notice\n%s\n%s\n", at, hex.EncodeToString(sum[:]))
}

// SignNotice is the value of NoticeHeader.
func SignNotice(pair ed25519.PrivateKey, body []byte, now time.Time) string {
	at := strconv.FormatInt(now.Unix(), 10)
	return "ts=" + at + ",sig=" + base64.RawURLEncoding.EncodeToString(ed25519.Sign(pair, noticeMessage(at, body)))
}

// VerifyNotice checks and reads a notice. public is what GET /notices/key of the
// platform shows, in base64; header the value of NoticeHeader. Answer 200 once it is
// kept: anything else makes it come again.
func VerifyNotice(public, header string, body []byte, now time.Time) (n Notice, err error) {
	key, err := base64.RawURLEncoding.DecodeString(public)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return n, fmt.Errorf("%w: the platform's public key is not 32 bytes in base64", ErrNotice)
	}
	head, sig, _ := strings.Cut(header, ",sig=")
	at, signed := strings.CutPrefix(head, "ts=")
	seconds, err := strconv.ParseInt(at, 10, 64)
	signature, badBase64 := base64.RawURLEncoding.DecodeString(sig)
	switch {
	case !signed || err != nil || badBase64 != nil:
		return n, fmt.Errorf("%w: %s is missing or not of the form ts=…,sig=…", ErrNotice, NoticeHeader)
	case !ed25519.Verify(key, noticeMessage(at, body), signature):
		return n, fmt.Errorf("%w: the signature is not the platform's", ErrNotice)
	case now.Sub(time.Unix(seconds, 0)).Abs() > noticeAge:
		return n, fmt.Errorf("%w: it was signed at %s, more than %s from now", ErrNotice, time.Unix(seconds, 0).UTC().Format(time.RFC3339), noticeAge)
	}
	if err := json.Unmarshal(body, &n); err != nil {
		return n, fmt.Errorf("%w: %w", ErrNotice, err)
	}
	return n, nil
}
