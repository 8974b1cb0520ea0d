package his

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// # The contract with a hospital's HIS
//
// HIS serves six paths below its address. Five take a Request by POST and give an
// Answer, both as application/json or both as application/xml with the same names;
// the sixth, GET /details?hospital=H1&day=2026-09-15, gives the charge details of a
// day in JSON lines with the last line #rows,pay_fen,refund_fen (ReadDetails), 404
// while they are not made yet.
//
// A request carries HIS-Timestamp (Unix seconds, at most five minutes away from
// HIS's clock) and HIS-Signature: HMAC-SHA256 in hex, under the shared secret, over
// method, path with query, timestamp and the SHA-256 of the body in hex, joined by
// line feeds. The answer carries HIS-Signature over the request's signature, the
// status and the SHA-256 of its body, so that it belongs to one request.
//
// Acknowledge, cancel and write-back carry a key. HIS does the work of a key once:
// the same request again gets the first answer, another one the refusal KEY_USED.
// An answer that is missing, not 200, unreadable or wrongly signed says nothing:
// the platform asks again with the same key.

// The paths.
const (
	PathAcknowledge = "/payments/acknowledge" // HIS takes the number and books the bill
	PathRefundable  = "/bills/refundable"     // how much of the payment may be given back
	PathCancel      = "/bills/cancel"         // HIS voids the charge, all or part; before any refund
	PathWriteBack   = "/refunds/write-back"   // the channel has accepted the refund
	PathOrder       = "/bills/order"          // what HIS has booked of the payment
	PathDetails     = "/details"
)

// The headers.
const (
	HeaderTimestamp = "HIS-Timestamp"
	HeaderSignature = "HIS-Signature"
)

// Format is how requests and answers are written.
type Format string

// The formats.
const (
	JSON Format = "JSON"
	XML  Format = "XML"
)

// ContentType is what stands in the header of a message.
func (f Format) ContentType() string {
	if f == XML {
		return "application/xml"
	}
	return "application/json"
}

// Request is what HIS is told or asked. Amounts are fen, times RFC 3339; a field
// that does not apply is left out.
type Request struct {
	XMLName    xml.Name `json:"-" xml:"request"`
	Hospital   string   `json:"hospital" xml:"hospital"`
	Key        string   `json:"key,omitempty" xml:"key,omitempty"`
	BillNo     string   `json:"bill_no" xml:"bill_no"`
	BizType    string   `json:"biz_type,omitempty" xml:"biz_type,omitempty"`
	OrderNo    string   `json:"order_no" xml:"order_no"` // ours
	TradeNo    string   `json:"trade_no,omitempty" xml:"trade_no,omitempty"`
	RefundNo   string   `json:"refund_no,omitempty" xml:"refund_no,omitempty"` // ours
	RefundID   string   `json:"refund_id,omitempty" xml:"refund_id,omitempty"` // the channel's
	AmountFen  int64    `json:"amount_fen" xml:"amount_fen"`
	Tender     string   `json:"tender,omitempty" xml:"tender,omitempty"` // WECHAT, ALIPAY …
	Operator   string   `json:"operator,omitempty" xml:"operator,omitempty"`
	PaidAt     string   `json:"paid_at,omitempty" xml:"paid_at,omitempty"`
	RefundedAt string   `json:"refunded_at,omitempty" xml:"refunded_at,omitempty"`
}

// The results of a call.
const (
	ResultOK      = "OK"
	ResultRefused = "REFUSED" // for good, with Code and Text; nothing was changed
	ResultAgain   = "AGAIN"   // HIS cannot say now: the same request again later
)

// Answer is what HIS says.
type Answer struct {
	XMLName       xml.Name `json:"-" xml:"answer"`
	Result        string   `json:"result" xml:"result"`
	Code          string   `json:"code,omitempty" xml:"code,omitempty"` // why not; below
	Text          string   `json:"text,omitempty" xml:"text,omitempty"` // the same in words, without names
	BillNo        string   `json:"bill_no,omitempty" xml:"bill_no,omitempty"`
	ReceiptNo     string   `json:"receipt_no,omitempty" xml:"receipt_no,omitempty"` // 票据号
	AmountFen     int64    `json:"amount_fen,omitempty" xml:"amount_fen,omitempty"` // acknowledge, order: booked
	RefundableFen int64    `json:"refundable_fen,omitempty" xml:"refundable_fen,omitempty"`
}

// The codes of refusals.
const (
	CodeNotFound      = "NOT_FOUND"      // no such bill; of order: the payment is not booked
	CodePaid          = "PAID"           // the bill is paid by another payment
	CodeClosed        = "CLOSED"         // the bill was voided: the number was given to somebody else
	CodeAmount        = "AMOUNT"         // the amount is not that of the bill
	CodeNotRefundable = "NOT_REFUNDABLE" // served, or over what is left
	CodeKeyUsed       = "KEY_USED"       // the key was used with other values
	CodeField         = "FIELD"          // a field is missing or cannot be read
)

// ErrAnswer is wrapped where an answer of HIS cannot be read.
var ErrAnswer = errors.New("the answer of HIS cannot be read")

// Encode writes a Request or Answer.
func (f Format) Encode(message any) ([]byte, error) {
	if f == XML {
		return xml.Marshal(message)
	}
	return json.Marshal(message)
}

// Decode reads a Request or Answer, the whole of the text and nothing behind it.
func (f Format) Decode(text []byte, message any) error {
	decode, rest := f.decoder(bytes.NewReader(text))
	if err := decode(message); err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if err := rest(); err != io.EOF {
		return fmt.Errorf("%w: something follows its end", ErrAnswer)
	}
	return nil
}

func (f Format) decoder(r io.Reader) (decode func(any) error, rest func() error) {
	if f == XML {
		d := xml.NewDecoder(r)
		return d.Decode, func() error {
			for {
				token, err := d.Token()
				if space, ok := token.(xml.CharData); err != nil || !ok || len(bytes.TrimSpace(space)) > 0 {
					return err
				}
			}
		}
	}
	d := json.NewDecoder(r)
	return d.Decode, func() error {
		_, err := d.Token()
		return err
	}
}

// ParseAnswer reads an answer and holds it to the contract.
func ParseAnswer(f Format, text []byte) (Answer, error) {
	var a Answer
	if err := f.Decode(text, &a); err != nil {
		return Answer{}, err
	}
	switch {
	case a.Result != ResultOK && a.Result != ResultRefused && a.Result != ResultAgain:
		return Answer{}, fmt.Errorf("%w: result is %q", ErrAnswer, a.Result)
	case a.Result == ResultRefused && a.Code == "":
		return Answer{}, fmt.Errorf("%w: a refusal has no code", ErrAnswer)
	case a.AmountFen < 0 || a.RefundableFen < 0:
		return Answer{}, fmt.Errorf("%w: an amount is below zero", ErrAnswer)
	}
	return a, nil
}

// BodySum is the SHA-256 of a body in hex, as it is signed.
func BodySum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// SignRequest signs a request; target is the path with its query.
func SignRequest(secret, method, target, timestamp, bodySum string) string {
	return sign(secret, method, target, timestamp, bodySum)
}

// SignAnswer signs the answer to the request that had the signature.
func SignAnswer(secret, signature, status, bodySum string) string {
	return sign(secret, "ANSWER", signature, status, bodySum)
}

func sign(secret string, parts ...string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, strings.Join(parts, "\n")) // a hash takes everything
	return hex.EncodeToString(mac.Sum(nil))
}

// SameSignature compares in constant time.
func SameSignature(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }
