package features_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
)

const rigSetup = `
region: {code: R1, name: 示范区}
apps: [{name: APP, hospitals: [H1]}]
hospitals:
  - code: H1
    name: 海天示范医院
    ownership: PUBLIC
    his_calls: APP
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 1000000, head_limit_fen: 10000000}]
    bank_accounts: [{account: "6801", name: 海天示范医院, bank: 招商银行, role: SETTLEMENT}]
    merchants:
      - {channel: WECHAT, merchant_no: "1900000109", settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801"}
      - {channel: ALIPAY, merchant_no: "20880000000000020156", settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801"}
`

// adapter is one client of a channel in one mode, with the way to pay that is
// taken through it.
type adapter struct {
	name    string
	channel string
	way     channels.Way
	connect func(*shore) (channels.Gateway, error)
}

// adapters are all of them: each goes through the same cases.
var adapters = []adapter{
	{"WeChat V2, code", channels.WeChat, channels.WayCode, (*shore).wechatV2},
	{"WeChat V2, QR", channels.WeChat, channels.WayQR, (*shore).wechatV2},
	{"WeChat v3, QR, certificates", channels.WeChat, channels.WayQR, (*shore).wechatV3},
	{"WeChat v3, JSAPI, public key", channels.WeChat, channels.WayJSAPI, (*shore).wechatPublic},
	{"Alipay, code, keys", channels.Alipay, channels.WayCode, (*shore).alipayKeys},
	{"Alipay, QR, keys", channels.Alipay, channels.WayQR, (*shore).alipayKeys},
	{"Alipay, JSAPI, certificates", channels.Alipay, channels.WayJSAPI, (*shore).alipayCertificates},
}

func (a *adapter) merchant() string {
	if a.channel == channels.Alipay {
		return alipayNo
	}
	return wechatNo
}

// rig is a house of payments on a database of its own beside a sandbox, with one
// clock that the test steps.
type rig struct {
	shore
	clock   atomic.Int64
	sandbox *live.Server
	open    channels.Gateway // of the adapter that is tried
	db      *db.DB
	pay.Payments
	refunds pay.Refunds
	n       int
	orders  map[string][]string // made by this rig, by merchant number
	hooks   sync.Map            // hook by path
	heard   chan error          // what became of each notice
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{orders: map[string][]string{}, heard: make(chan error, 1000)}
	r.clock.Store(time.Date(2026, 9, 15, 8, 0, 0, 0, ledger.Beijing).Unix())
	now := func() time.Time { return time.Unix(r.clock.Load(), 0) }
	dir := t.TempDir()
	var err error
	if r.sandbox, err = live.Start(live.Config{Dir: dir, Now: now, Merchants: merchants(), FreeFen: 1_000_000, FreePerDay: 255}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.sandbox.Close(); err != nil {
			t.Error(err)
		}
	})
	at := httptest.NewServer(http.HandlerFunc(r.take))
	t.Cleanup(at.Close)
	r.shore = shore{t: t, dir: dir, at: r.sandbox.Addresses, now: now, notify: at.URL}
	r.db = dbtest.New(t, ledger.Schema, clearing.Schema)
	if _, err := clearing.Setup(t.Context(), r.db, strings.NewReader(rigSetup)); err != nil {
		t.Fatal(err)
	}
	committer, err := ledger.NewCommitter(context.Background(), r.db, ledger.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(committer.Close)
	house := &pay.House{DB: r.db, Committer: committer, Outside: r, Now: now}
	r.Payments, r.refunds = pay.Payments{House: house}, pay.Refunds{House: house}
	return r
}

// Gateway implements pay.Outside.
func (r *rig) Gateway(string, string) (channels.Gateway, error) { return r.open, nil }

// HIS implements pay.Outside.
func (r *rig) HIS(string) (channels.HISGateway, error) {
	return nil, fmt.Errorf("HIS is called by the app")
}

// use connects an adapter whose answers may take so long; silent ones get no
// notices.
func (r *rig) use(a *adapter, patience time.Duration, silent bool) {
	r.t.Helper()
	s, path := r.shore, "/"+strconv.Itoa(r.n)
	s.patience, s.notify = patience, r.notify+path
	if silent {
		s.notify = "http://127.0.0.1:9/"
	}
	var err error
	if r.open, err = a.connect(&s); err != nil {
		r.t.Fatal(err)
	}
	r.hooks.Store(path, hook{a, r.open})
}

// hook is where an adapter's notices arrive.
type hook struct {
	*adapter
	open channels.Gateway
}

// take takes a notice as the served API does.
func (r *rig) take(w http.ResponseWriter, in *http.Request) {
	found, ok := r.hooks.Load(in.URL.Path)
	if !ok {
		http.NotFound(w, in)
		return
	}
	h := found.(hook)
	body, err := io.ReadAll(in.Body)
	var n channels.Notice
	if err == nil {
		n, err = h.open.ParseNotice(in.Header, body)
	}
	switch {
	case err != nil:
	case n.Kind == channels.NoticePayment:
		_, err = r.Notice(in.Context(), h.channel, h.merchant(), n)
	case n.Unsigned:
		_, err = r.refunds.Query(in.Context(), "H1", n.Refund.RefundNo)
	default:
		_, err = r.refunds.Notice(in.Context(), h.channel, h.merchant(), n)
	}
	reply := h.open.NoticeReply(err)
	w.Header().Set("Content-Type", reply.ContentType)
	w.WriteHeader(reply.Status)
	_, _ = io.WriteString(w, reply.Body)
	select {
	case r.heard <- err:
	default: // nobody listens
	}
}

// plant makes the next fitting call of the merchant number go wrong.
func (r *rig) plant(f live.Fault, api string, a *adapter) {
	r.t.Helper()
	if f.Do == "" {
		return
	}
	f.API, f.Merchant = api, a.merchant()
	if _, err := r.sandbox.Plant(f); err != nil {
		r.t.Fatal(err)
	}
}

// leftover says which planted faults were not reached.
func (r *rig) leftover() (left []live.Fault) {
	r.t.Helper()
	answer, err := http.Get(r.at.Admin + "/faults")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if err := json.NewDecoder(answer.Body).Decode(&left); err != nil {
		r.t.Fatal(err)
	}
	return left
}

// create makes a payment, of 10.00 yuan and a bit so that no two are equal.
func (r *rig) create(a *adapter) *pay.Payment {
	r.t.Helper()
	r.n++
	ask := pay.NewPayment{App: "APP", Key: fmt.Sprint("key", r.n), Hospital: "H1", Channel: a.channel, BillNo: fmt.Sprint("B", r.n), BizType: pay.Outpatient,
		Terminal: "T1", Way: a.way, Amount: ledger.Money(1000 + r.n), ClientIP: "127.0.0.1"}
	switch {
	case a.way == channels.WayCode && a.channel == channels.Alipay:
		ask.AuthCode = fmt.Sprintf("28%016d", r.n*100_000_000+50)
	case a.way == channels.WayCode:
		ask.AuthCode = fmt.Sprintf("13%016d", r.n*100_000_000+50)
	case a.way == channels.WayJSAPI && a.channel == channels.Alipay:
		ask.Payer = "2088123412341234"
	case a.way == channels.WayJSAPI:
		ask.Payer = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
	}
	p, err := r.Create(r.t.Context(), ask)
	if err != nil {
		r.t.Fatal(err)
	}
	r.orders[a.merchant()] = append(r.orders[a.merchant()], p.OrderNo)
	return p
}

// payer pays a prepay order and says whether the channel had it.
func (r *rig) payer(a *adapter, orderNo string) bool {
	r.t.Helper()
	text, err := json.Marshal(map[string]string{"merchant": a.merchant(), "order": orderNo})
	if err != nil {
		r.t.Fatal(err)
	}
	answer, err := http.Post(r.at.Admin+"/pay", "application/json", bytes.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// most is how many steps of a plan may pass until everything must be final: the
// plan of an unpaid order takes two hours.
const most = 60

// until lets the time pass by until a plan's next step is due.
func (r *rig) until(due time.Time) { r.clock.Store(max(r.clock.Load()+1, due.Unix()+1)) }

func (r *rig) untilFinal(p *pay.Payment) *pay.Payment {
	r.t.Helper()
	for range most {
		switch p.Status {
		case pay.Success, pay.Failed, pay.Closed, pay.Reversed:
			return p
		}
		r.until(p.NextAt)
		_, err := r.Poll(r.t.Context(), r.now(), 100)
		if err == nil {
			p, err = r.Get(r.t.Context(), "H1", p.OrderNo)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	r.t.Errorf("payment %s is %s for ever", p.OrderNo, p.Status)
	return p
}

// giveBack asks for a refund, with a second person where the rules want one (B24).
func (r *rig) giveBack(p *pay.Payment, key string, amount ledger.Money) (*pay.Refund, error) {
	r.t.Helper()
	back, err := r.refunds.Create(r.t.Context(), pay.NewRefund{App: "APP", Key: key, Hospital: "H1", OrderNo: p.OrderNo, Amount: amount,
		Cause: channels.CauseItem, Maker: "CASHIER", HISCancelled: true, HISAllows: p.Amount})
	if err == nil && back.Status == pay.RefundApproving {
		back, err = r.refunds.Decide(r.t.Context(), "H1", back.RefundNo, "HEAD", true, "")
	}
	return back, err
}

func (r *rig) untilGivenBack(back *pay.Refund) *pay.Refund {
	r.t.Helper()
	for range most {
		if back.Status == pay.RefundSuccess && !back.SuccessAt.IsZero() || back.Status == pay.RefundFailed || back.Status == pay.RefundClosed {
			return back
		}
		r.until(back.NextAt)
		_, err := r.refunds.Poll(r.t.Context(), r.now(), 100)
		if err == nil {
			back, err = r.refunds.Get(r.t.Context(), "H1", back.RefundNo)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	r.t.Errorf("refund %s is %s for ever", back.RefundNo, back.Status)
	return back
}

// theirs is what the channel's books say of an order: how often and what was paid,
// and what was given back.
func (r *rig) theirs(merchant, orderNo string, day ledger.Day) (times int, paid, back int64) {
	r.t.Helper()
	for ; day <= ledger.DayOf(r.now()); day = day.Add(1) {
		list, err := r.sandbox.Orders(merchant, day.String())
		if err != nil {
			r.t.Fatal(err)
		}
		for _, o := range list {
			if o.Order != orderNo {
				continue
			}
			times, paid = times+1, paid+o.Fen
			for _, b := range o.Refunds {
				if b.State != "CLOSED" {
					back += b.Fen
				}
			}
		}
	}
	return times, paid, back
}

// tie compares a merchant number's books at the channel with the ledger: what the
// channel owes (1122) is what was paid less what was given back, to the fen.
func (r *rig) tie(channel, merchant, code string) {
	r.t.Helper()
	var theirs int64
	for day := ledger.DayOf(time.Date(2026, 9, 15, 0, 0, 0, 0, ledger.Beijing)); day <= ledger.DayOf(r.now()); day = day.Add(1) {
		sums, err := r.sandbox.Sums(merchant, day.String())
		if err != nil {
			r.t.Fatal(err)
		}
		theirs += sums.PayFen - sums.RefundFen
	}
	err := r.db.ReadTx(r.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		all, err := ledger.TrialBalance(ctx, tx, clearing.PlatformBook, ledger.AsOf{})
		var ours, net ledger.Money
		for _, b := range all {
			if net += b.Debits - b.Credits; strings.HasPrefix(b.Code, code) {
				ours += b.Debits - b.Credits
			}
		}
		if int64(ours) != theirs || net != 0 {
			r.t.Errorf("%s: the ledger has %d fen on %s, the channel's books %d; the trial balance is off by %d", channel, int64(ours), code, theirs, int64(net))
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
}
