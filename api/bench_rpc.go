package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger/db"
	ledgerv1 "github.com/clearward/clearward/proto/clearward/ledger/v1"
	"github.com/clearward/clearward/proto/clearward/ledger/v1/ledgerv1connect"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// benchBulk is how many entries a bulk call of the benchmark posts.
const benchBulk = 100

// calling posts over the API: signed requests through loopback to the handlers,
// rights, idempotency and all.
type calling struct {
	b      *bench
	house  *http.Server
	client ledgerv1connect.LedgerServiceClient
	app    *sdk.App
	next   atomic.Int64

	sandbox *live.Server // from the first payment on
}

const benchHospital = `
region: {code: RPC, name: 基准区}
hospitals:
  - code: RPC
    name: 基准医院
    ownership: PRIVATE
`

// benchPaying is the hospital whose numbers stand in a sandbox: WeChat V2 signs by
// MD5 or HMAC, Alipay by RSA.
const benchPaying = `
region: {code: RPC, name: 基准区}
apps: [{name: bench, hospitals: [RPC]}]
hospitals:
  - code: RPC
    name: 基准医院
    ownership: PRIVATE
    his_calls: APP
    bank_accounts: [{account: "6801", name: 基准医院, bank: 招商银行, role: SETTLEMENT}]
    merchants:
      - {channel: WECHAT, merchant_no: "1900000199", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0,
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wxbench, base_url: "WECHAT", key: "file:KEYS/1900000199/api_v2.key"}}}
      - {channel: ALIPAY, merchant_no: "2088000000000199", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0,
         gateway: {api: ALIPAY, environment: SANDBOX, settings: {app_id: "2021000000000199", base_url: "ALI/gateway.do", seller_id: "2088000000000199", private_key: "file:KEYS/2088000000000199/merchant_key.pem",
           alipay_key: "file:KEYS/channel/alipay_pub.pem"}}}
`

// openSandbox starts the channels beside the program and connects the hospital to them.
func (c *calling) openSandbox(ctx context.Context) (err error) {
	dir := filepath.Join(c.b.dir, "sandbox")
	c.sandbox, err = live.Start(live.Config{Dir: dir, Now: c.b.server.now, FreePerDay: 1 << 20, Merchants: []live.Merchant{
		{No: "1900000199", Channel: channels.WeChat, Apps: []string{"wxbench"}, FeeRate: "0.0060", BankAccount: "6801"},
		{No: "2088000000000199", Channel: channels.Alipay, Apps: []string{"2021000000000199"}, FeeRate: "0.0060", BankAccount: "6801"}}})
	if err != nil {
		return err
	}
	text := strings.NewReplacer(`"WECHAT"`, `"`+c.sandbox.Addresses.WeChat+`"`, "ALI/", c.sandbox.Addresses.Alipay+"/", "KEYS", filepath.Join(dir, "keys")).Replace(benchPaying)
	if _, err = clearing.Setup(ctx, c.b.server.DB, strings.NewReader(text)); err == nil {
		c.b.server.setUpAgain()
	}
	return err
}

// pay makes whole payments from many clients by codes that begin with prefix: request,
// call to the channel, journals and answer, then what HIS has booked.
func (c *calling) pay(ctx context.Context, channel, prefix string) (reading, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(ServingGC))
	if c.sandbox == nil {
		if err := c.openSandbox(ctx); err != nil {
			return reading{}, err
		}
	}
	took := lasted{from: time.Now().Add(c.b.size.span / 10), whole: map[string]time.Duration{}}
	r, err := c.b.perSecond(ctx, c.b.size.callers, func(ctx context.Context) error {
		n, began := c.next.Add(1), time.Now()
		p, err := c.app.Pay(ctx, &payv1.CreatePaymentRequest{IdempotencyKey: fmt.Sprintf("pay_%012d", n), Hospital: "RPC", Channel: channel,
			BillNo: fmt.Sprintf("B%012d", n), BizType: "OUTPATIENT", Terminal: fmt.Sprintf("W%02d", n%64), Way: "CODE", AmountFen: 100 + n%9973,
			AuthCode: fmt.Sprintf("%s%016d", prefix, n), ClientIp: "127.0.0.1"})
		if err == nil && p.GetStatus() != "SUCCESS" {
			err = fmt.Errorf("payment %s is %s: %s", p.GetOrderNo(), p.GetStatus(), p.GetChannelCode())
		}
		if err != nil {
			return err
		}
		_, err = c.app.Payments.AcknowledgePayment(ctx, &payv1.AcknowledgePaymentRequest{IdempotencyKey: "ack_" + p.GetOrderNo(), Hospital: "RPC", OrderNo: p.GetOrderNo(), BillNo: p.GetBillNo(), ReceiptNo: p.GetBillNo(), AmountFen: p.GetAmountFen()})
		took.note(p.GetOrderNo(), began)
		return err
	})
	if err == nil {
		r.detail, err = took.less(ctx, c.b.server.DB)
	}
	return r, err
}

// lasted is how long each payment took, by its number.
type lasted struct {
	from  time.Time // what began before it does not count
	mu    sync.Mutex
	whole map[string]time.Duration
}

func (l *lasted) note(order string, began time.Time) {
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	if began.After(l.from) {
		l.whole[order] = took
	}
}

// less says what is left of the payments' times without the calls to the channel,
// which are kept with each payment in whole milliseconds.
func (l *lasted) less(ctx context.Context, d *db.DB) (string, error) {
	var own []time.Duration
	err := d.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT number, SUM(took_ms)::INT8 FROM exchanges GROUP BY number`)
		if err != nil {
			return err
		}
		var order string
		var outside int64
		_, err = pgx.ForEachRow(rows, []any{&order, &outside}, func() error {
			if whole, ok := l.whole[order]; ok {
				own = append(own, whole-time.Duration(outside)*time.Millisecond)
			}
			return nil
		})
		return err
	})
	if err != nil || len(own) == 0 {
		return "", err
	}
	slices.Sort(own)
	at := func(percent int) float64 { return 1000 * own[len(own)*percent/100].Seconds() }
	return fmt.Sprintf("without the channel's own time p50 %.1f, p99 %.1f ms, target ≤ 60", at(50), at(99)), nil
}

// close ends what was opened.
func (c *calling) close() error {
	err := c.house.Close()
	if c.sandbox != nil {
		err = errors.Join(err, c.sandbox.Close())
	}
	return err
}

// newCalling sets a hospital up and opens the doors.
func (b *bench) newCalling(ctx context.Context) (*calling, error) {
	if _, err := clearing.Setup(ctx, b.server.DB, strings.NewReader(benchHospital)); err != nil {
		return nil, err
	}
	key, err := b.server.NewKey(ctx, "bench", auth.Service)
	if err != nil {
		return nil, err
	}
	door, err := listen(ctx, ServeOptions{Listen: "127.0.0.1:0"})
	if err != nil {
		return nil, err
	}
	c := &calling{b: b, house: &http.Server{Handler: b.server.doors(), ReadHeaderTimeout: time.Minute}}
	client, err := sdk.Client(key, b.server.now)
	if err == nil {
		c.app, err = sdk.NewApp("http://"+door.Addr().String(), key, b.server.now)
	}
	if err != nil {
		return nil, errors.Join(err, door.Close())
	}
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
	defer debug.SetGCPercent(debug.SetGCPercent(ServingGC))
	return c.b.perSecond(ctx, c.b.size.callers, func(ctx context.Context) error {
		_, err := c.client.PostCash(ctx, &ledgerv1.PostCashRequest{Cash: c.cash(c.next.Add(1))})
		return err
	})
}

// bulk posts a hundred entries a call from eight clients.
func (c *calling) bulk(ctx context.Context) (reading, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(ServingGC))
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
