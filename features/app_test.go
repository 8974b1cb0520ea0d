package features_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearward/clearward/api"
	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
	jobsv1 "github.com/clearward/clearward/proto/clearward/jobs/v1"
	"github.com/clearward/clearward/proto/clearward/jobs/v1/jobsv1connect"
	"github.com/clearward/clearward/proto/clearward/ledger/v1/ledgerv1connect"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
)

const servedSetup = `
region: {code: R1, name: 示范区}
apps: [{name: APP, notify_url: "APPURL", hospitals: [H1, H2]}]
hospitals:
  - code: H1
    name: 海天示范医院
    ownership: PUBLIC
    his_calls: APP
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 1000000, head_limit_fen: 10000000}]
    bank_accounts: [{account: "6801", name: 海天示范医院, bank: 招商银行, role: SETTLEMENT}]
    merchants:
      - {channel: WECHAT, merchant_no: "1900000109", settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801",
         gateway: {api: V3, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT", notify_url: "DOOR/notify/WECHAT/1900000109", refund_notify_url: "DOOR/notify/WECHAT/1900000109",
           v3_key: "file:KEYS/1900000109/api_v3.key", private_key: "file:KEYS/1900000109/merchant_key.pem", certificate: "file:KEYS/1900000109/merchant_cert.pem"}}}
      - {channel: ALIPAY, merchant_no: "20880000000000020156", settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801",
         gateway: {api: ALIPAY, environment: SANDBOX, settings: {app_id: "2021000000000001", seller_id: "2088000000000002", base_url: "ALIPAY/gateway.do", notify_url: "DOOR/notify/ALIPAY/20880000000000020156",
           private_key: "file:KEYS/20880000000000020156/merchant_key.pem", alipay_key: "file:KEYS/channel/alipay_pub.pem"}}}
  - code: H2
    name: 海天第二医院
    ownership: PUBLIC
    his_calls: APP
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 1000000, head_limit_fen: 10000000}]
    bank_accounts: [{account: "6802", name: 海天第二医院, bank: 招商银行, role: SETTLEMENT}]
    merchants:
      - {channel: WECHAT, merchant_no: "1900000110", settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6802",
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT", key: "file:KEYS/1900000110/api_v2.key", notify_url: "DOOR/notify/WECHAT/1900000110", refund_notify_url: "DOOR/notify/WECHAT/1900000110"}}}
`

// served is a process that serves beside a sandbox, by a clock that the test steps,
// with a business app and the people whom it needs. Every line between them may
// break.
type served struct {
	t       *testing.T
	clock   atomic.Int64
	sandbox *live.Server
	url     string // of the API, over the app's line

	app       *sdk.App
	head      payv1connect.RefundServiceClient // of who approves
	treasurer payv1connect.RefundServiceClient // of who applies for abnormal refunds
	jobs      jobsv1connect.JobServiceClient
	books     ledgerv1connect.LedgerServiceClient

	mu    sync.Mutex
	key   string                  // of the platform
	told  map[string][]sdk.Notice // what the app was told, by number of payment or refund
	waits map[string]chan struct{}
}

func (s *served) now() time.Time { return time.Unix(s.clock.Load(), 0) }

// noticed are the notices about a number so far, and a channel that is closed with
// the next one.
func (s *served) noticed(number string) ([]sdk.Notice, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits[number] == nil {
		s.waits[number] = make(chan struct{})
	}
	return s.told[number], s.waits[number]
}

// take is the app that is told.
func (s *served) take(n sdk.Notice) error {
	number := n.OrderNo
	if n.RefundNo != "" {
		number = n.RefundNo
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told[number] = append(s.told[number], n)
	if s.waits[number] != nil {
		close(s.waits[number])
		delete(s.waits, number)
	}
	return nil
}

// line is a way to another server on which an answer may get lost, always after the
// other side has done its work, and which gives up where one takes too long.
func (s *served) line(to string, patience time.Duration, lost func() bool) string {
	s.t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		s.t.Fatal(err)
	}
	line := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: &http.Transport{ResponseHeaderTimeout: patience, MaxIdleConnsPerHost: 64},
		ModifyResponse: func(*http.Response) error {
			if lost() {
				return io.ErrUnexpectedEOF
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     log.New(io.Discard, "", 0),
	})
	s.t.Cleanup(line.Close)
	return line.URL
}

// never breaks nothing.
func never() bool { return false }

// serve starts it all. patience is how long an answer of a channel may take; lost
// says when one of the API to the app gets lost.
func serve(t *testing.T, patience time.Duration, lost func() bool) *served {
	t.Helper()
	s := &served{t: t, told: map[string][]sdk.Notice{}, waits: map[string]chan struct{}{}}
	s.clock.Store(time.Date(2026, 9, 15, 0, 30, 0, 0, ledger.Beijing).Unix())
	dir, err := newFolder()
	if err == nil {
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
		err = begin(t.Context(), dir)
	}
	if err == nil {
		s.sandbox, err = live.Start(live.Config{Dir: filepath.Join(dir, "sandbox"), Now: s.now, Merchants: merchants(), FreeFen: 1_000_000, FreePerDay: 255})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.sandbox.Close(); err != nil {
			t.Error(err)
		}
	})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil || free.Close() != nil {
		t.Fatal(err)
	}
	at := free.Addr().String()
	s.url = s.line("http://"+at, time.Minute, lost)
	hears := httptest.NewServer(http.HandlerFunc(s.hear))
	t.Cleanup(hears.Close)
	config := api.Config{Local: local.Config{DataDir: filepath.Join(dir, "data")}, Now: s.now}
	setup := filepath.Join(dir, "setup.yaml")
	text := strings.NewReplacer("APPURL", hears.URL, "DOOR", "http://"+at, "KEYS", filepath.Join(dir, "sandbox", "keys"),
		`"WECHAT"`, `"`+s.line(s.sandbox.Addresses.WeChat, patience, never)+`"`, `"ALIPAY/`, `"`+s.line(s.sandbox.Addresses.Alipay, patience, never)+`/`).Replace(servedSetup)
	if err := os.WriteFile(setup, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.people(config, setup)
	s.run(config, at)
	return s
}

// people sets the hospitals up and gives everybody a key.
func (s *served) people(config api.Config, setup string) {
	s.t.Helper()
	server, err := api.Open(s.t.Context(), config)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = server.Setup(s.t.Context(), setup)
	key := func(name string, role auth.Role) string {
		text, failed := server.NewKey(s.t.Context(), name, role)
		err = errors.Join(err, failed)
		return text
	}
	as := func(name string, role auth.Role) *http.Client {
		client, failed := sdk.Client(key(name, role), s.now)
		err = errors.Join(err, failed)
		return client
	}
	app, failed := sdk.NewApp(s.url, key("APP", auth.Service), s.now)
	s.app = app
	s.head = payv1connect.NewRefundServiceClient(as("李主管", auth.FinanceHead), s.url)
	s.treasurer = payv1connect.NewRefundServiceClient(as("王出纳", auth.Treasurer), s.url)
	s.jobs = jobsv1connect.NewJobServiceClient(as("孙运营", auth.Operator), s.url)
	s.books = ledgerv1connect.NewLedgerServiceClient(as("赵审计", auth.Auditor), s.url)
	if err = errors.Join(err, failed, server.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// run serves until the test ends, and returns once calls are answered.
func (s *served) run(config api.Config, at string) {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- api.Serve(ctx, config, api.ServeOptions{Listen: at}, io.Discard) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
	for ticker, limit := time.NewTicker(20*time.Millisecond), time.After(2*time.Minute); ; {
		answer, err := http.Get("http://" + at + "/readyz")
		if err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK {
			ticker.Stop()
			return
		}
		select {
		case <-ticker.C:
		case err := <-ended:
			ended <- nil
			s.t.Fatal(err)
		case <-limit:
			s.t.Fatalf("not ready within two minutes: %v", err)
		}
	}
}

// hear is where the app is told: it believes what the platform's key has signed.
func (s *served) hear(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	var err error
	if s.key == "" {
		s.key, err = s.app.NoticeKey(r.Context())
	}
	key := s.key
	s.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	sdk.Notices(key, s.now, s.take).ServeHTTP(w, r)
}

// let sets the clock on and waits until every job that is due then is done.
func (s *served) let(by time.Duration) error {
	s.clock.Add(int64(by / time.Second))
	for limit, ticker := time.After(5*time.Minute), time.NewTicker(5*time.Millisecond); ; {
		answer, err := s.jobs.ListJobs(s.t.Context(), &jobsv1.ListJobsRequest{})
		busy := func(j *jobsv1.Job) bool {
			return j.GetPausedBy() == "" && (!j.GetNextAt().AsTime().After(s.now()) || j.GetLast().GetState() == "RUNNING")
		}
		if err == nil && !slices.ContainsFunc(answer.GetJobs(), busy) {
			ticker.Stop()
			return nil
		}
		select {
		case <-ticker.C:
		case <-limit:
			return fmt.Errorf("jobs are at work for five minutes: %v, %w", answer, err)
		}
	}
}
