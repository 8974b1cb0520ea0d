package wechat

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The headers of v3 answers and notices, and the scheme of requests.
const (
	HeaderTimestamp = "Wechatpay-Timestamp"
	HeaderNonce     = "Wechatpay-Nonce"
	HeaderSignature = "Wechatpay-Signature"
	HeaderSerial    = "Wechatpay-Serial"
	Scheme          = "WECHATPAY2-SHA256-RSA2048"

	// PublicKeyPrefix starts the ID of WeChat Pay's own public key (微信支付公钥),
	// which stands where a certificate's number does.
	PublicKeyPrefix = "PUB_KEY_ID_"

	// ProbePrefix starts signatures that WeChat Pay sends to see whether they are
	// refused (签名探测流量).
	ProbePrefix = "WECHATPAY/SIGNTEST/"

	// ClockTolerance is how far the time of a v3 message may be from ours.
	ClockTolerance = 5 * time.Minute
)

// ErrClock is wrapped where a v3 message is too old or from the future.
var ErrClock = errors.New("more than 5 minutes from our time")

// RequestMessage is what the signature of a v3 request is over. target is path and
// query exactly as sent, body the bytes as sent, nil for GET.
func RequestMessage(method, target, timestamp, nonce string, body []byte) string {
	return method + "\n" + target + "\n" + timestamp + "\n" + nonce + "\n" + string(body) + "\n"
}

// AnswerMessage is what the signature of a v3 answer or notice is over. body is
// empty for 204.
func AnswerMessage(timestamp, nonce string, body []byte) string {
	return timestamp + "\n" + nonce + "\n" + string(body) + "\n"
}

// JSAPIMessage is what the paySign of a page or mini-program is over (v3).
func JSAPIMessage(appID, timestamp, nonce, prepayID string) string {
	return appID + "\n" + timestamp + "\n" + nonce + "\nprepay_id=" + prepayID + "\n"
}

// AppMessage is what the sign of an app's call to the OpenSDK is over (v3).
func AppMessage(appID, timestamp, nonce, prepayID string) string {
	return appID + "\n" + timestamp + "\n" + nonce + "\n" + prepayID + "\n"
}

// SignSHA256 signs a message as v3 does: base64 of RSA PKCS#1 v1.5 over SHA-256.
func SignSHA256(key *rsa.PrivateKey, message string) (string, error) {
	sum := sha256.Sum256([]byte(message))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return base64.StdEncoding.EncodeToString(signature), nil
}

// VerifySHA256 checks what SignSHA256 makes; anything else is ErrSign, the probes
// of WeChat Pay too.
func VerifySHA256(key *rsa.PublicKey, message, signature string) error {
	if strings.HasPrefix(signature, ProbePrefix) {
		return fmt.Errorf("%w: a probe", ErrSign)
	}
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return fmt.Errorf("%w: not base64", ErrSign)
	}
	sum := sha256.Sum256([]byte(message))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], raw) != nil {
		return ErrSign
	}
	return nil
}

// Authorization is the header of that name on a v3 request.
type Authorization struct {
	MerchantNo, Nonce, Timestamp, SerialNo, Signature string
}

func (a Authorization) String() string {
	return fmt.Sprintf(`%s mchid="%s",nonce_str="%s",timestamp="%s",serial_no="%s",signature="%s"`,
		Scheme, a.MerchantNo, a.Nonce, a.Timestamp, a.SerialNo, a.Signature)
}

var authorizationItem = regexp.MustCompile(`^([a-z_]+)="([^"]*)"$`)

// ParseAuthorization reads the header; the order of its five items is free.
func ParseAuthorization(header string) (Authorization, error) {
	var a Authorization
	rest, ok := strings.CutPrefix(header, Scheme+" ")
	if !ok {
		return a, fmt.Errorf("%w: the scheme is not %s", ErrSign, Scheme)
	}
	to := map[string]*string{"mchid": &a.MerchantNo, "nonce_str": &a.Nonce, "timestamp": &a.Timestamp, "serial_no": &a.SerialNo, "signature": &a.Signature}
	for _, item := range strings.Split(rest, ",") {
		match := authorizationItem.FindStringSubmatch(strings.TrimSpace(item))
		if match == nil || to[match[1]] == nil || match[2] == "" {
			return a, fmt.Errorf("%w: the header has an item it should not, or twice, or empty", ErrSign)
		}
		*to[match[1]] = match[2]
		delete(to, match[1])
	}
	if len(to) > 0 {
		return a, fmt.Errorf("%w: the header lacks %d of its five items", ErrSign, len(to))
	}
	return a, nil
}

// CheckClock refuses a timestamp (seconds, UTC) more than ClockTolerance from now.
func CheckClock(timestamp string, now time.Time) error {
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: %q is no time in seconds", ErrClock, timestamp)
	}
	if distance := now.Sub(time.Unix(seconds, 0)).Abs(); distance > ClockTolerance {
		return fmt.Errorf("%w: %s", ErrClock, distance.Round(time.Second))
	}
	return nil
}

// ParsePrivateKey reads an RSA key in PEM (PKCS#8 or PKCS#1).
func ParsePrivateKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the private key is not PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key is neither PKCS#8 nor PKCS#1")
	}
	if rsaKey, ok := key.(*rsa.PrivateKey); ok {
		return rsaKey, nil
	}
	return nil, errors.New("the private key is not RSA")
}

// ParsePublicKey reads an RSA public key in PEM, such as WeChat Pay's own.
func ParsePublicKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the public key is not PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the public key is not PKIX")
	}
	if rsaKey, ok := key.(*rsa.PublicKey); ok {
		return rsaKey, nil
	}
	return nil, errors.New("the public key is not RSA")
}
