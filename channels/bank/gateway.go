package bank

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// The contract with a bank, in ISO 20022 over HTTPS. Banks differ (spec/channels.md
// F.2, F.3); a front end at the bank or beside it speaks this.
//
//	POST /v1/transfers        pain.001.001.03  → pain.002.001.03
//	GET  /v1/transfers/{ref}                   → pain.002 with one TxInfAndSts
//	POST /v1/reports          camt.060.001.03  → camt.052.001.02 or camt.053.001.02
//	GET  /v1/receipts/{ref}                    → <Receipt> with EndToEndId, Name, CheckCode, Content
//
// Every message has X-Key-Id, X-Timestamp (RFC 3339) and X-Signature, a request also
// X-Customer and X-Nonce. X-Signature is base64 of RSA (PKCS #1 v1.5) with SHA-256
// over these lines, each with its line end:
//
//	request: method, path with query, timestamp, nonce, hex SHA-256 of the body
//	answer:  status, timestamp, nonce of the request, hex SHA-256 of the body
//
// The bank refuses a request more than five minutes off. A number that it has is
// never taken twice: it answers with the first state and the reason AM05. A number
// that it has not is RJCT with NOOR. A transfer that had succeeded and came back is
// RTND with the reason of the return. A report or receipt that is not made yet is
// answered with status 202.
const (
	PathTransfers = "/v1/transfers"
	PathReports   = "/v1/reports"
	PathReceipts  = "/v1/receipts"
)

const (
	callTimeout = time.Minute // spec/channels.md I.3
	fileTimeout = 10 * time.Minute
)

// Config is one connection to a bank. Keys are PEM texts, never stored.
type Config struct {
	URL      string            // without a path
	Customer string            // our number at the bank
	BIC      string            // of the bank
	KeyID    string            // by which the bank knows our key
	Key      string            // our private key
	BankKeys map[string]string // public keys or certificates of the bank, by key id
	HTTP     *http.Client      // nil: the ordinary one
	Now      func() time.Time
}

// Gateway is a connection to a bank; it implements channels.BankGateway.
type Gateway struct {
	config Config
	base   *url.URL
	key    *rsa.PrivateKey
	keys   map[string]*rsa.PublicKey
	wire   *channels.Wire
}

// New returns a connection. Nothing is sent yet.
func New(config Config) (*Gateway, error) {
	base, err := url.Parse(config.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("bank %s: the address %q is no URL", config.Customer, config.URL)
	}
	g := &Gateway{config: config, base: base, keys: map[string]*rsa.PublicKey{}, wire: channels.NewWire("bank "+config.Customer, config.HTTP, config.Now)}
	if g.key, err = PrivateKey(config.Key); err != nil {
		return nil, fmt.Errorf("bank %s: %w", config.Customer, err)
	}
	for id, text := range config.BankKeys {
		if g.keys[id], err = PublicKey(text); err != nil {
			return nil, fmt.Errorf("bank %s, key %s: %w", config.Customer, id, err)
		}
	}
	return g, nil
}

// call makes a signed request.
func (g *Gateway) call(name, method, path string, body []byte, timeout time.Duration) (channels.Call, error) {
	request, err := http.NewRequest(method, g.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return channels.Call{}, err
	}
	timestamp, nonce, sum := g.config.Now().UTC().Format(time.RFC3339), rand.Text(), sha256.Sum256(body)
	signature, err := Sign(g.key, RequestText(method, request.URL.RequestURI(), timestamp, nonce, sum[:]))
	if err != nil {
		return channels.Call{}, err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/xml; charset=utf-8", HeaderCustomer: g.config.Customer, HeaderKeyID: g.config.KeyID,
		HeaderTimestamp: timestamp, HeaderNonce: nonce, HeaderSignature: signature,
	} {
		request.Header.Set(name, value)
	}
	return channels.Call{Name: name, Request: request, Timeout: timeout, Mask: mask, Sent: string(body), Personal: true}, nil
}

func (g *Gateway) verify(call *channels.Call, answer *http.Response, sum []byte) error {
	h := answer.Header
	return Verify(g.keys[h.Get(HeaderKeyID)], AnswerText(answer.StatusCode, h.Get(HeaderTimestamp), call.Request.Header.Get(HeaderNonce), sum), h.Get(HeaderSignature))
}

// ask sends a call about a batch or transfer and returns the body of an answer that the bank has signed.
func (g *Gateway) ask(ctx context.Context, name, about, method, path string, body []byte) (int, []byte, *channels.Exchange, error) {
	call, err := g.call(name, method, path, body, callTimeout)
	if err != nil {
		return 0, nil, nil, err
	}
	call.About = about
	answer, text, x, err := g.wire.Do(ctx, call)
	if err != nil {
		return 0, nil, x, err
	}
	sum := sha256.Sum256(text)
	if err := g.verify(&call, answer, sum[:]); err != nil {
		x.Fault = err.Error()
		return 0, nil, x, err
	}
	if answer.StatusCode/100 != 2 {
		x.Fault = fmt.Sprintf("status %d", answer.StatusCode)
		return 0, nil, x, fmt.Errorf("%w: status %d", channels.ErrNoAnswer, answer.StatusCode)
	}
	return answer.StatusCode, text, x, nil
}

// unknown says that nothing is known of a transfer, and why.
func unknown(ref string, x *channels.Exchange, err error) channels.TransferAnswer {
	a := channels.TransferAnswer{State: channels.TransferUnknown, Ref: ref, Exchange: x, Reason: channels.Reason{Kind: channels.ReasonNetwork, Text: err.Error()}}
	switch {
	case errors.Is(err, channels.ErrNotSent):
		a.Reason.Kind = channels.ReasonBreaker
	case errors.Is(err, ErrSignature):
		a.Reason.Kind = channels.ReasonSignature
	}
	return a
}

// Transfer sends transfers in one message, whole or not at all: where one breaks a
// rule, that one is rejected and the others, which were not sent either, are absent.
func (g *Gateway) Transfer(ctx context.Context, batch string, list []channels.Transfer) []channels.TransferAnswer {
	answers := make([]channels.TransferAnswer, len(list))
	order := Order{Batch: batch, At: g.config.Now(), BIC: g.config.BIC, Transfers: list}
	body, err := order.XML()
	if err != nil {
		for i := range list {
			answers[i] = channels.TransferAnswer{State: channels.TransferAbsent, Ref: list[i].Ref, NotSent: true, Reason: channels.Reason{Kind: channels.ReasonRequest, Text: err.Error()}}
			if rule := wrong(&list[i]); rule != "" {
				answers[i].State, answers[i].Reason.Text = channels.TransferRejected, rule
			}
		}
		return answers
	}
	_, text, x, err := g.ask(ctx, "transfers", batch, http.MethodPost, PathTransfers, body)
	var report Report
	if err == nil {
		report, err = ReadReport(text)
	}
	if err == nil && report.Batch != batch {
		err = fmt.Errorf("%w: it is about batch %q, not %q", ErrMessage, report.Batch, batch)
	}
	for i := range list {
		if err != nil {
			answers[i] = unknown(list[i].Ref, x, err)
			if errors.Is(err, channels.ErrNotSent) {
				answers[i].State, answers[i].NotSent = channels.TransferAbsent, true
			}
			continue
		}
		answers[i] = report.of(list[i].Ref)
		answers[i].Exchange = x
		if a := &answers[i]; a.State == channels.TransferAbsent {
			a.State = channels.TransferUnknown // only a query says so
		} else if a.Amount != 0 && a.Amount != list[i].Amount {
			a.State, a.Reason.Kind = channels.TransferUnknown, channels.ReasonDiffers
		}
	}
	return answers
}

// of is what the report says of one transfer: its own status, else that of the
// whole group, where it has one.
func (r *Report) of(ref string) channels.TransferAnswer {
	s := Status{Ref: ref, Code: r.Group, Reason: r.GroupReason}
	found := 0
	for _, x := range r.List {
		if x.Ref == ref {
			s = x
			found++
		}
	}
	if found == 0 && len(r.List) > 0 || found > 1 {
		return unknown(ref, nil, fmt.Errorf("%w: the report names the transfer %d times", ErrMessage, found))
	}
	a := s.answer()
	if a.At.IsZero() {
		a.At = r.At
	}
	return a
}

// QueryTransfer asks for one transfer by its number.
func (g *Gateway) QueryTransfer(ctx context.Context, ref string) channels.TransferAnswer {
	if !refForm.MatchString(ref) {
		return unknown(ref, nil, fmt.Errorf("%w: the reference has 1 to 30 letters and digits", ErrMessage))
	}
	_, text, x, err := g.ask(ctx, "transfers/query", ref, http.MethodGet, PathTransfers+"/"+ref, nil)
	var report Report
	if err == nil {
		report, err = ReadReport(text)
	}
	if err == nil && len(report.List) != 1 {
		err = fmt.Errorf("%w: a query is answered with one status", ErrMessage)
	}
	if err != nil {
		return unknown(ref, x, err)
	}
	a := report.of(ref)
	a.Exchange = x
	return a
}

func (g *Gateway) report(form, account string, day ledger.Day) ([]byte, error) {
	now := g.config.Now()
	return document(&AccountRequest{MsgID: "RQ" + rand.Text(), Made: stamp(now), Form: form, Account: account, From: day.String(), To: day.String(), Kind: "ALLL"})
}

// Balance is what the bank has booked on the account, and what may leave it, in fen.
func (g *Gateway) Balance(ctx context.Context, account string) (booked, available ledger.Money, err error) {
	body, err := g.report(FormBalance, account, ledger.DayOf(g.config.Now()))
	if err != nil {
		return 0, 0, err
	}
	_, text, _, err := g.ask(ctx, "reports/balance", "", http.MethodPost, PathReports, body)
	if err != nil {
		return 0, 0, err
	}
	b, err := ReadBalance(text)
	if err == nil && b.Account != account {
		err = fmt.Errorf("%w: the balance is of another account", ErrMessage)
	}
	return b.Booked, b.Available, err
}

// FetchStatement opens the camt.053 of an account's day. Where it is not what the
// bank signed, the reader ends with channels.ErrBillDiffers instead of io.EOF.
func (g *Gateway) FetchStatement(ctx context.Context, account string, day ledger.Day) (io.ReadCloser, error) {
	body, err := g.report(FormStatement, account, day)
	if err != nil {
		return nil, err
	}
	call, err := g.call("reports/statement", http.MethodPost, PathReports, body, fileTimeout)
	if err != nil {
		return nil, err
	}
	answer, _, err := g.wire.Open(ctx, call)
	if err != nil {
		return nil, err
	}
	switch answer.StatusCode {
	case http.StatusOK:
		return channels.Checked(answer.Body, func(sum []byte) error {
			if err := g.verify(&call, answer, sum); err != nil {
				return fmt.Errorf("%w: %w", channels.ErrBillDiffers, err)
			}
			return nil
		}), nil
	case http.StatusAccepted:
		return nil, errors.Join(channels.ErrBillNotReady, answer.Body.Close())
	}
	return nil, errors.Join(fmt.Errorf("%w: status %d", channels.ErrBillRefused, answer.StatusCode), answer.Body.Close())
}

// FetchReceipt fetches the electronic receipt of a transfer; channels.ErrBillNotReady
// before the bank has made it.
func (g *Gateway) FetchReceipt(ctx context.Context, ref string) (channels.Receipt, error) {
	if !refForm.MatchString(ref) {
		return channels.Receipt{}, fmt.Errorf("%w: the reference has 1 to 30 letters and digits", ErrMessage)
	}
	status, text, _, err := g.ask(ctx, "receipts", ref, http.MethodGet, PathReceipts+"/"+ref, nil)
	switch {
	case err != nil:
		return channels.Receipt{}, err
	case status == http.StatusAccepted:
		return channels.Receipt{}, channels.ErrBillNotReady
	}
	return readReceipt(text, ref)
}

func readReceipt(text []byte, ref string) (channels.Receipt, error) {
	var p Paper
	if err := decodeWhole(text, &p); err != nil {
		return channels.Receipt{}, err
	}
	content, err := base64.StdEncoding.DecodeString(strings.TrimSpace(p.Content))
	if err != nil || len(content) == 0 || p.Ref != ref || p.CheckCode == "" {
		return channels.Receipt{}, fmt.Errorf("%w: a receipt has the transfer's number, a check code (验证码) and a content", ErrMessage)
	}
	return channels.Receipt{Ref: p.Ref, Name: p.Name, CheckCode: p.CheckCode, Content: content}, nil
}

// masked finds what the record must not show: names, account numbers, and the
// content of receipts.
var masked = regexp.MustCompile(`<(Nm|Id|Content|Ustrd)>([^<]*)</`)

func mask(text string) string {
	return masked.ReplaceAllStringFunc(text, func(m string) string {
		part := masked.FindStringSubmatch(m)
		value := []rune(part[2])
		shown := ""
		if part[1] == "Id" && len(value) > 8 {
			shown = string(value[len(value)-4:])
		}
		return "<" + part[1] + ">***" + shown + "</"
	})
}
