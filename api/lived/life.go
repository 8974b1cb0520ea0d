package lived

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/channels"
	jobsv1 "github.com/clearward/clearward/proto/clearward/jobs/v1"
	"github.com/clearward/clearward/proto/clearward/jobs/v1/jobsv1connect"
	"github.com/clearward/clearward/proto/clearward/ledger/v1/ledgerv1connect"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
	"github.com/clearward/clearward/proto/clearward/payout/v1/payoutv1connect"
	reconv1 "github.com/clearward/clearward/proto/clearward/recon/v1"
	"github.com/clearward/clearward/proto/clearward/recon/v1/reconv1connect"
)

// life is the day as the driver lives it.
type life struct {
	*house
	o     Options
	began time.Time

	calls  calls
	his    map[string]channels.HISGateway
	byStep [][]*visit
	backs  [][]back // refunds by the step in which they are asked for
	faults []*fault

	mu       sync.Mutex
	open     []*visit // asked for, with no final outcome yet
	done     []*visit // paid
	trouble  []string // what is not as it must be
	fates    map[fate]int
	mishaps  map[string]int // calls to HIS that went wrong
	missed   []missed
	evenings []func(ctx context.Context) error
	later    []func(ctx context.Context) error // when the day's money has been settled
	first    []*reconv1.Item                   // of the day, as it was published the next morning
	payouts  []*payoutv1.Payout
	silent   string // the payout of which the bank says nothing

	killed atomic.Int32
}

// calls are the API as the people and programs of the demo have it.
type calls struct {
	pay            payv1connect.PaymentServiceClient
	refund, decide payv1connect.RefundServiceClient
	cash           ledgerv1connect.LedgerServiceClient
	audit          ledgerv1connect.LedgerServiceClient
	jobs           jobsv1connect.JobServiceClient
	recon          reconv1connect.ReconServiceClient

	maker, checker, clerk payoutv1connect.PayoutServiceClient
}

// connect makes the clients of everybody.
func (l *life) connect() error {
	as := func(name string) connect.HTTPClient {
		client, err := sdk.Client(l.keys[name], l.clock.Now)
		if err != nil {
			panic(err) // the keys are of the program itself
		}
		return client
	}
	l.calls = calls{
		pay: payv1connect.NewPaymentServiceClient(as(appName), l.url()), refund: payv1connect.NewRefundServiceClient(as(appName), l.url()),
		decide: payv1connect.NewRefundServiceClient(as(head), l.url()),
		cash:   ledgerv1connect.NewLedgerServiceClient(as(appName), l.url()), audit: ledgerv1connect.NewLedgerServiceClient(as(auditor), l.url()),
		jobs: jobsv1connect.NewJobServiceClient(as(operator), l.url()), recon: reconv1connect.NewReconServiceClient(as(accountant), l.url()),
		maker: payoutv1connect.NewPayoutServiceClient(as(treasurer), l.url()), checker: payoutv1connect.NewPayoutServiceClient(as(head), l.url()),
		clerk: payoutv1connect.NewPayoutServiceClient(as(operator), l.url()),
	}
	return nil
}

// answered repeats a call, which is the same however often, until the server has
// answered: it may be killed meanwhile.
func answered[A any](ctx context.Context, do func() (A, error)) (A, error) {
	for {
		answer, err := do()
		if err == nil || connect.IsWireError(err) && connect.CodeOf(err) != connect.CodeUnavailable || ctx.Err() != nil {
			return answer, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// wrong notes something that is not as it must be.
func (l *life) wrong(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble = append(l.trouble, fmt.Sprintf(format, args...))
}

// atOnce is how many visits are under way at the same time.
const atOnce = 256

// eachOf does something about each of a list, many at once, and returns the first
// error.
func eachOf[T any](ctx context.Context, list []T, do func(ctx context.Context, one T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var working sync.WaitGroup
	for range min(atOnce, len(list)) {
		working.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(list) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := do(ctx, list[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	working.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return ctx.Err()
}

// jump sets the clock and waits until what is due then is done.
func (l *life) jump(ctx context.Context, to time.Time) error {
	if to.After(l.clock.Now()) {
		if err := l.clock.Set(to); err != nil {
			return err
		}
	}
	return l.quiet(ctx)
}

// quiet waits until no job is due or at work. A job of a server that was killed is
// taken by another once its lease is over: that minute is let pass by the clock.
func (l *life) quiet(ctx context.Context) error {
	const patience, leased = 300, 61 * time.Second
	for waited := 1; ; waited++ {
		if waited%patience == 0 && l.o.Kills > 0 {
			if err := l.clock.Set(l.clock.Now().Add(leased)); err != nil {
				return err
			}
		}
		answer, err := answered(ctx, func() (*jobsv1.ListJobsResponse, error) { return l.calls.jobs.ListJobs(ctx, &jobsv1.ListJobsRequest{}) })
		if err != nil {
			return err
		}
		now := l.clock.Now()
		busy := slices.ContainsFunc(answer.GetJobs(), func(j *jobsv1.Job) bool {
			return j.GetPausedBy() == "" && (!j.GetNextAt().AsTime().After(now) || j.GetLast().GetState() == "RUNNING")
		})
		if !busy {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// failedJobs notes every job that failed since the last time it was looked at.
func (l *life) failedJobs(ctx context.Context) error {
	answer, err := l.calls.jobs.ListJobs(ctx, &jobsv1.ListJobsRequest{})
	for _, j := range answer.GetJobs() {
		if j.GetLast().GetState() == "FAILED" {
			l.wrong("job %s: %s", j.GetName(), j.GetLast().GetError())
		}
	}
	return err
}

// adminClient keeps as many connections as there are visits at once.
var adminClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}

// admin asks the sandbox for something that only a sandbox does.
func (l *life) admin(ctx context.Context, path string, ask, answer any) error {
	text, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.where.Admin+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	said, err := adminClient.Do(r)
	if err != nil {
		return err
	}
	defer said.Body.Close()
	text, err = io.ReadAll(said.Body)
	if err == nil && said.StatusCode != http.StatusOK {
		err = fmt.Errorf("%w: the sandbox refuses %s: %s", ErrDemo, path, text)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	return err
}
