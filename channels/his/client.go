package his

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// How long a call may take.
const (
	callTimeout    = 10 * time.Second
	detailsTimeout = 10 * time.Minute // to the last byte
)

// Config is how one hospital's HIS is reached.
type Config struct {
	Hospital string
	BaseURL  string // https, or http on loopback
	Format   Format
	Secret   string // the text itself, 16 characters at least
	HTTP     *http.Client
	Now      func() time.Time
}

// ErrConfig is wrapped where the connection to a HIS is not set up as it must be.
var ErrConfig = errors.New("HIS is not set up")

// Client asks one hospital's HIS, by the contract in this package.
type Client struct {
	cfg  Config
	path string // of BaseURL
	wire *channels.Wire
}

var _ channels.HISGateway = (*Client)(nil)

// New returns a client; it makes no call.
func New(cfg Config) (*Client, error) {
	cfg.BaseURL = strings.TrimSuffix(cfg.BaseURL, "/")
	base, err := url.Parse(cfg.BaseURL)
	switch {
	case cfg.Hospital == "" || cfg.Now == nil:
		return nil, fmt.Errorf("%w: hospital or clock is missing", ErrConfig)
	case cfg.Format != JSON && cfg.Format != XML:
		return nil, fmt.Errorf("%w: format %q is neither JSON nor XML", ErrConfig, cfg.Format)
	case len(cfg.Secret) < 16:
		return nil, fmt.Errorf("%w: the shared secret has less than 16 characters", ErrConfig)
	case err != nil || base.Host == "" || base.RawQuery != "" || (base.Scheme != "https" && (base.Scheme != "http" || !loopback(base.Hostname()))):
		return nil, fmt.Errorf("%w: address %q is neither https nor on loopback", ErrConfig, cfg.BaseURL)
	}
	return &Client{cfg: cfg, path: base.EscapedPath(), wire: channels.NewWire("HIS of "+cfg.Hospital, cfg.HTTP, cfg.Now)}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Acknowledge implements channels.HISGateway.
func (c *Client) Acknowledge(ctx context.Context, r channels.HISRequest) channels.HISAnswer {
	word := c.ask(ctx, PathAcknowledge, r, true)
	if word.Outcome == channels.OutcomeSucceeded && word.Amount <= 0 {
		word.unknown(channels.ReasonNetwork, "HIS booked no amount")
	}
	return word.HISAnswer
}

// Refundable implements channels.HISGateway.
func (c *Client) Refundable(ctx context.Context, r channels.HISRequest) channels.HISAnswer {
	return c.ask(ctx, PathRefundable, r, false).HISAnswer
}

// Cancel implements channels.HISGateway.
func (c *Client) Cancel(ctx context.Context, r channels.HISRequest) channels.HISAnswer {
	return c.ask(ctx, PathCancel, r, true).HISAnswer
}

// WriteBackRefund implements channels.HISGateway.
func (c *Client) WriteBackRefund(ctx context.Context, r channels.HISRequest) channels.HISAnswer {
	return c.ask(ctx, PathWriteBack, r, true).HISAnswer
}

// Order implements channels.HISGateway. OutcomeFailed with ReasonNotFound says that
// HIS has not booked the payment: not served.
func (c *Client) Order(ctx context.Context, r channels.HISRequest) channels.HISAnswer {
	word := c.ask(ctx, PathOrder, r, false)
	if word.Outcome == channels.OutcomeSucceeded && word.Amount <= 0 {
		word.unknown(channels.ReasonNetwork, "HIS booked no amount")
	}
	return word.HISAnswer
}

// word is an answer on its way to the caller.
type word struct{ channels.HISAnswer }

// unknown notes why nothing is known, in the record of the call too.
func (w *word) unknown(kind channels.ReasonKind, text string) {
	text = mask(text)
	w.HISAnswer = channels.HISAnswer{Outcome: channels.OutcomeUnknown, Exchange: w.Exchange, Reason: channels.Reason{Kind: kind, Text: text}}
	if w.Exchange != nil && w.Exchange.Fault == "" {
		w.Exchange.Fault = text
	}
}

// ask makes one call. What is not HIS's own well-formed and signed word leaves the
// outcome unknown.
func (c *Client) ask(ctx context.Context, path string, r channels.HISRequest, write bool) (w word) {
	switch {
	case r.Hospital != c.cfg.Hospital:
		w.unknown(channels.ReasonRequest, "the HIS of "+c.cfg.Hospital+" is not that of "+r.Hospital)
		return w
	case write && r.Key == "":
		w.unknown(channels.ReasonRequest, "a write needs a key")
		return w
	}
	body, err := c.cfg.Format.Encode(request(r, write))
	var sent *http.Request
	if err == nil {
		sent, err = c.request(http.MethodPost, path, body)
	}
	if err != nil {
		w.unknown(channels.ReasonRequest, err.Error())
		return w
	}
	answer, text, exchange, err := c.wire.Do(ctx, channels.Call{Name: "his" + path, About: cmp.Or(r.BillNo, r.OrderNo), Request: sent, Timeout: callTimeout, Mask: mask, Sent: string(body), Personal: true})
	w.Exchange = exchange
	switch {
	case errors.Is(err, channels.ErrNotSent):
		w.unknown(channels.ReasonBreaker, err.Error())
	case err != nil:
		w.unknown(channels.ReasonNetwork, err.Error())
	case answer.StatusCode != http.StatusOK:
		w.unknown(channels.ReasonNetwork, "HIS answers "+answer.Status)
	case !c.signed(answer, BodySum(text)):
		w.unknown(channels.ReasonSignature, "the answer is not signed by HIS")
	default:
		w.read(c.cfg.Format, text)
	}
	return w
}

func (w *word) read(f Format, text []byte) {
	a, err := ParseAnswer(f, text)
	switch {
	case err != nil:
		w.unknown(channels.ReasonNetwork, err.Error())
	case a.Result == ResultAgain:
		w.unknown(channels.ReasonSystem, "HIS cannot say now: "+a.Code+" "+a.Text)
		w.Reason.Code = a.Code
	case a.Result == ResultRefused:
		w.Outcome = channels.OutcomeFailed
		w.Reason = channels.Reason{Kind: reasonOf(a.Code), Code: a.Code, Text: mask(a.Text)}
	default:
		w.Outcome, w.BillNo, w.ReceiptNo = channels.OutcomeSucceeded, a.BillNo, a.ReceiptNo
		w.Amount, w.Refundable = ledger.Money(a.AmountFen), ledger.Money(a.RefundableFen)
	}
}

var reasons = map[string]channels.ReasonKind{
	CodeNotFound: channels.ReasonNotFound, CodePaid: channels.ReasonPaid, CodeClosed: channels.ReasonClosed, CodeAmount: channels.ReasonDiffers,
	CodeNotRefundable: channels.ReasonNotRefundable, CodeKeyUsed: channels.ReasonDiffers, CodeField: channels.ReasonRequest,
}

// reasonOf is the kind of a refusal; a vendor's own codes are the system's.
func reasonOf(code string) channels.ReasonKind {
	if kind, ok := reasons[code]; ok {
		return kind
	}
	return channels.ReasonSystem
}

// request is what HIS reads; a question carries no key.
func request(r channels.HISRequest, write bool) *Request {
	m := &Request{Hospital: r.Hospital, Key: r.Key, BillNo: r.BillNo, BizType: r.BizType, OrderNo: r.OrderNo, TradeNo: r.TradeNo, RefundNo: r.RefundNo,
		RefundID: r.RefundID, AmountFen: int64(r.Amount), Tender: r.Tender, Operator: r.Operator, PaidAt: instant(r.PaidAt), RefundedAt: instant(r.RefundedAt)}
	if !write {
		m.Key = ""
	}
	return m
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(ledger.Beijing).Format(time.RFC3339)
}

// request makes and signs a call; path may carry a query.
func (c *Client) request(method, path string, body []byte) (*http.Request, error) {
	r, err := http.NewRequest(method, c.cfg.BaseURL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", c.cfg.Format.ContentType())
	r.Header.Set(HeaderTimestamp, strconv.FormatInt(c.cfg.Now().Unix(), 10))
	r.Header.Set(HeaderSignature, SignRequest(c.cfg.Secret, method, c.path+path, r.Header.Get(HeaderTimestamp), BodySum(body)))
	return r, nil
}

// signed tells whether the answer is HIS's own, and to this request.
func (c *Client) signed(answer *http.Response, bodySum string) bool {
	want := SignAnswer(c.cfg.Secret, answer.Request.Header.Get(HeaderSignature), strconv.Itoa(answer.StatusCode), bodySum)
	return SameSignature(want, answer.Header.Get(HeaderSignature))
}

// Details implements channels.HISGateway. The file is read as it comes: that it is
// HIS's own is known at its end, and is told there (channels.ErrBillDiffers).
func (c *Client) Details(ctx context.Context, hospital string, day ledger.Day) (io.ReadCloser, error) {
	if hospital != c.cfg.Hospital {
		return nil, fmt.Errorf("%w: the HIS of %s is not that of %s", ErrConfig, c.cfg.Hospital, hospital)
	}
	sent, err := c.request(http.MethodGet, PathDetails+"?"+url.Values{"hospital": {hospital}, "day": {day.String()}}.Encode(), nil)
	if err != nil {
		return nil, err
	}
	answer, _, err := c.wire.Open(ctx, channels.Call{Name: "his" + PathDetails, Request: sent, Timeout: detailsTimeout, Mask: mask, Personal: true})
	if err != nil {
		return nil, err
	}
	switch answer.StatusCode {
	case http.StatusOK:
		return &details{ReadCloser: answer.Body, sum: sha256.New(), holds: func(sum string) bool { return c.signed(answer, sum) }}, nil
	case http.StatusNotFound:
		err = fmt.Errorf("%w: details of %s %s", channels.ErrBillNotReady, hospital, day)
	default:
		err = fmt.Errorf("%w: HIS answers %s", channels.ErrNoAnswer, answer.Status)
	}
	return nil, errors.Join(err, answer.Body.Close())
}

// details sums up the file while it is read.
type details struct {
	io.ReadCloser
	sum   hash.Hash
	holds func(sum string) bool
}

// Read implements io.Reader.
func (d *details) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	_, _ = d.sum.Write(p[:n]) // a hash takes everything
	if err == io.EOF && !d.holds(hex.EncodeToString(d.sum.Sum(nil))) {
		err = fmt.Errorf("%w: the details are cut off, or not signed by HIS", channels.ErrBillDiffers)
	}
	return n, err
}

// What no record shows: who asked, and numbers of phones, ID cards and bank cards that
// a HIS may put into its words.
var (
	operatorJSON = regexp.MustCompile(`("operator":")[^"]*`)
	operatorXML  = regexp.MustCompile(`(<operator>)[^<]*`)
	personal     = regexp.MustCompile(`^(?:1[3-9]\d{9}|\d{17}[\dXx]|62\d{14,17})$`)
)

const shortestPersonal, longestPersonal = 11, 19

// mask hides it. Numbers are whole words, so that each word is looked at once.
func mask(text string) string {
	text = operatorXML.ReplaceAllString(operatorJSON.ReplaceAllString(text, "$1***"), "$1***")
	var shown strings.Builder
	from := 0
	for i := 0; i < len(text); {
		end := i
		for end < len(text) && inWord(text[end]) {
			end++
		}
		if n := end - i; n >= shortestPersonal && n <= longestPersonal && personal.MatchString(text[i:end]) {
			shown.WriteString(text[from:i] + "***")
			from = end
		}
		i = end + 1
	}
	return shown.String() + text[from:]
}

func inWord(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}
