package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/clearing"
	ledgerv1 "github.com/clearward/clearward/proto/clearward/ledger/v1"
	"github.com/clearward/clearward/proto/clearward/ledger/v1/ledgerv1connect"
)

// benchBulk is how many entries a bulk call of the benchmark posts.
const benchBulk = 100

// calling posts over the API: signed requests through loopback to the handlers,
// rights, idempotency and all.
type calling struct {
	b      *bench
	house  *http.Server
	client ledgerv1connect.LedgerServiceClient
	next   atomic.Int64
}

const benchHospital = `
region: {code: RPC, name: 基准区}
hospitals:
  - code: RPC
    name: 基准医院
    ownership: PRIVATE
`

// newCalling sets a hospital up and opens the doors.
func (b *bench) newCalling(ctx context.Context) (*calling, error) {
	if _, err := clearing.Setup(ctx, b.server.DB, strings.NewReader(benchHospital)); err != nil {
		return nil, err
	}
	key, err := b.server.NewKey(ctx, "bench", auth.Service)
	if err != nil {
		return nil, err
	}
	client, err := sdk.Client(key, b.server.now)
	if err != nil {
		return nil, err
	}
	door, err := listen(ctx, ServeOptions{Listen: "127.0.0.1:0"})
	if err != nil {
		return nil, err
	}
	c := &calling{b: b, house: &http.Server{Handler: b.server.doors(), ReadHeaderTimeout: time.Minute}}
	c.client = ledgerv1connect.NewLedgerServiceClient(client, "http://"+door.Addr().String())
	go func() { _ = c.house.Serve(door) }() // a call that fails says it
	return c, nil
}

func (c *calling) cash(n int64) *ledgerv1.Cash {
	return &ledgerv1.Cash{IdempotencyKey: fmt.Sprintf("cash_%s_%012d", benchDay.Compact(), n), Journal: "J08a", Hospital: "RPC",
		Cashier: fmt.Sprintf("C%02d", n%64), AmountFen: 100 + n%9973, Day: benchDay.String(), Ref: fmt.Sprintf("26%010d", n)}
}

// alone posts entry by entry from many clients.
func (c *calling) alone(ctx context.Context) (reading, error) {
	return c.b.perSecond(ctx, c.b.size.callers, func(ctx context.Context) error {
		_, err := c.client.PostCash(ctx, &ledgerv1.PostCashRequest{Cash: c.cash(c.next.Add(1))})
		return err
	})
}

// bulk posts a hundred entries a call from eight clients.
func (c *calling) bulk(ctx context.Context) (reading, error) {
	r, err := c.b.perSecond(ctx, 8, func(ctx context.Context) error {
		first := c.next.Add(benchBulk) - benchBulk
		all := make([]*ledgerv1.Cash, benchBulk)
		for i := range all {
			all[i] = c.cash(first + int64(i) + 1)
		}
		done, err := c.client.PostCashBulk(ctx, &ledgerv1.PostCashBulkRequest{Cash: all})
		for _, result := range done.GetResults() {
			if refusal := result.GetRefusal(); refusal != nil {
				err = errors.Join(err, errors.New(refusal.GetRule()))
			}
		}
		return err
	})
	r.value *= benchBulk
	return r, err
}
