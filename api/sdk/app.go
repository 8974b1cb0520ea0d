package sdk

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
	reconv1 "github.com/clearward/clearward/proto/clearward/recon/v1"
	"github.com/clearward/clearward/proto/clearward/recon/v1/reconv1connect"
)

// App is a hospital's business app: it pays, refunds and asks. Where an answer is
// lost it asks again under the same key, which does everything once.
type App struct {
	Payments payv1connect.PaymentServiceClient
	Refunds  payv1connect.RefundServiceClient
	days     reconv1connect.ReconServiceClient
	http     *http.Client
	url      string
}

// NewApp returns the app whose key this is, at the address of a process that serves.
// now is the clock, time.Now where nil.
func NewApp(url, key string, now func() time.Time) (*App, error) {
	client, err := Client(key, now)
	if err != nil {
		return nil, err
	}
	url = strings.TrimSuffix(url, "/")
	return &App{Payments: payv1connect.NewPaymentServiceClient(client, url), Refunds: payv1connect.NewRefundServiceClient(client, url),
		days: reconv1connect.NewReconServiceClient(client, url), http: client, url: url}, nil
}

// How often a call is made whose answer was lost, and how long the first wait is.
const (
	calls     = 5
	firstWait = 200 * time.Millisecond
)

// again makes a call that may be made twice until it is answered.
func again(ctx context.Context, call func() error) error {
	var err error
	for n, wait := 0, firstWait; n < calls; n, wait = n+1, 2*wait {
		if err = call(); err == nil || ctx.Err() != nil || connect.CodeOf(err) != connect.CodeUnavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
	return err
}

// Pay collects for a bill and returns the payment as it stands: SUCCESS, a state in
// which nothing was taken, or PAYING and UNKNOWN, which Await follows. The request
// needs an idempotency key of its own.
func (a *App) Pay(ctx context.Context, r *payv1.CreatePaymentRequest) (*payv1.Payment, error) {
	var out *payv1.CreatePaymentResponse
	err := again(ctx, func() (err error) { out, err = a.Payments.CreatePayment(ctx, r); return err })
	return out.GetPayment(), err
}

// Query asks the channel about a payment now.
func (a *App) Query(ctx context.Context, hospital, orderNo string) (*payv1.Payment, error) {
	var out *payv1.QueryPaymentResponse
	err := again(ctx, func() (err error) {
		out, err = a.Payments.QueryPayment(ctx, &payv1.QueryPaymentRequest{Hospital: hospital, OrderNo: orderNo})
		return err
	})
	return out.GetPayment(), err
}

// Await follows a payment that is under way until it is not, or ctx ends.
func (a *App) Await(ctx context.Context, p *payv1.Payment, every time.Duration) (*payv1.Payment, error) {
	for {
		switch p.GetStatus() {
		case "CREATED", "PAYING", "UNKNOWN":
		default:
			return p, nil
		}
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case <-time.After(every):
		}
		next, err := a.Query(ctx, p.GetHospital(), p.GetOrderNo())
		if err != nil {
			return p, err
		}
		p = next
	}
}

// Close ends a payment that nobody has paid; a code payment is reversed (撤销). What
// comes back says what became of it: it may have been paid after all.
func (a *App) Close(ctx context.Context, hospital, orderNo string) (*payv1.Payment, error) {
	var out *payv1.ClosePaymentResponse
	ask := &payv1.ClosePaymentRequest{IdempotencyKey: rand.Text(), Hospital: hospital, OrderNo: orderNo}
	err := again(ctx, func() (err error) { out, err = a.Payments.ClosePayment(ctx, ask); return err })
	return out.GetPayment(), err
}

// Refund gives money back by the original route. APPROVING says that a second
// person decides.
func (a *App) Refund(ctx context.Context, r *payv1.CreateRefundRequest) (*payv1.Refund, error) {
	var out *payv1.CreateRefundResponse
	err := again(ctx, func() (err error) { out, err = a.Refunds.CreateRefund(ctx, r); return err })
	return out.GetRefund(), err
}

// ErrDaily is wrapped where a standard bill file is not what its checksum says.
var ErrDaily = errors.New("the bill file is not whole")

// Daily writes the standard bill file of a hospital's day (对账文件) to out, whole and
// checked or not at all: what is written before the error counts for nothing.
func (a *App) Daily(ctx context.Context, hospital, day string, out io.Writer) error {
	stream, err := a.days.DownloadDaily(ctx, &reconv1.DownloadDailyRequest{Hospital: hospital, Day: day})
	if err != nil {
		return err
	}
	var held []byte // what may be the last line
	sum := sha256.New()
	for stream.Receive() {
		held = append(held, stream.Msg().GetChunk()...)
		if end := bytes.LastIndexByte(bytes.TrimSuffix(held, []byte("\n")), '\n') + 1; end > 0 {
			sum.Write(held[:end])
			if _, err := out.Write(held[:end]); err != nil {
				return errors.Join(err, stream.Close())
			}
			held = append(held[:0], held[end:]...)
		}
	}
	if err := errors.Join(stream.Err(), stream.Close()); err != nil {
		return err
	}
	if want := "#SHA256," + hex.EncodeToString(sum.Sum(nil)) + "\n"; string(held) != want {
		return fmt.Errorf("%w: its last line is not %q", ErrDaily, strings.TrimSpace(want))
	}
	_, err = out.Write(held)
	return err
}

// NoticeKey is the platform's public key, by which VerifyNotice checks notices.
func (a *App) NoticeKey(ctx context.Context) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/notices/key", nil)
	if err != nil {
		return "", err
	}
	answer, err := a.http.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%w: the platform shows no key: %s", ErrNotice, answer.Status)
	}
	return strings.TrimSpace(string(text)), err
}

// Notices is where the platform tells the app: it hands on what the platform signed
// and acknowledges it once take has returned nil.
func Notices(public string, now func() time.Time, take func(Notice) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		var n Notice
		if err == nil {
			n, err = VerifyNotice(public, r.Header.Get(NoticeHeader), body, now())
		}
		if err == nil {
			err = take(n)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
}
