package features_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
)

// adapter is one client of a channel with the ways to pay that it serves.
type adapter struct {
	name, channel, merchant string
	way                     channels.Way
	connect                 func(r *rig) (channels.Gateway, error)
}

// adapters are all of them: each goes through the same cases.
var adapters = []adapter{
	{"WeChat V2, code", channels.WeChat, "1900000109", channels.WayCode, wechatV2},
	{"WeChat V2, QR", channels.WeChat, "1900000109", channels.WayQR, wechatV2},
}

const conformanceSetup = `
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
      - {channel: ALIPAY, merchant_no: "2088000000000156", settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801"}
`

// rig is a house of payments on a database of its own beside a sandbox, with one
// clock that the test steps.
type rig struct {
	t       *testing.T
	at      atomic.Int64
	sandbox *live.Server
	dir     string
	open    channels.Gateway
	db      *db.DB
	pay.Payments
	refunds pay.Refunds
	n       int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	r.at.Store(time.Date(2026, 9, 15, 8, 0, 0, 0, ledger.Beijing).Unix())
	var err error
	r.sandbox, err = live.Start(live.Config{Dir: r.dir, Now: r.now, Merchants: []live.Merchant{
		{No: "1900000109", Channel: channels.WeChat, Apps: []string{"wx1"}, FeeRate: "0.0060", BankAccount: "6801", OpeningFen: 10_000_000}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.sandbox.Close(); err != nil {
			t.Error(err)
		}
	})
	r.db = dbtest.New(t, ledger.Schema, clearing.Schema)
	if _, err := clearing.Setup(t.Context(), r.db, strings.NewReader(conformanceSetup)); err != nil {
		t.Fatal(err)
	}
	committer, err := ledger.NewCommitter(context.Background(), r.db, ledger.Options{Now: r.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(committer.Close)
	house := &pay.House{DB: r.db, Committer: committer, Outside: r, Now: r.now}
	r.Payments, r.refunds = pay.Payments{House: house}, pay.Refunds{House: house}
	return r
}

func (r *rig) now() time.Time { return time.Unix(r.at.Load(), 0) }

// Gateway implements pay.Outside.
func (r *rig) Gateway(string, string) (channels.Gateway, error) { return r.open, nil }

// HIS implements pay.Outside.
func (r *rig) HIS(string) (channels.HISGateway, error) {
	return nil, fmt.Errorf("HIS is called by the app")
}

// impatient is an HTTP client that gives up long before a delayed answer.
func impatient() *http.Client { return &http.Client{Timeout: patience} }

const patience, delayed = 250 * time.Millisecond, 400 // milliseconds

func wechatV2(r *rig) (channels.Gateway, error) {
	key, err := os.ReadFile(filepath.Join(r.dir, "keys", "1900000109", "api_v2.key"))
	if err != nil {
		return nil, err
	}
	return wechat.NewV2(wechat.Config{MerchantNo: "1900000109", AppID: "wx1", BaseURL: r.sandbox.Addresses.WeChat, NotifyURL: "http://127.0.0.1:9/notify",
		Key: string(key), HTTP: impatient(), Now: r.now})
}

// trouble is one thing that goes wrong at a step.
type trouble struct {
	name string
	live.Fault
}

// troubles are all of them: what is committed was done by the channel before it
// went wrong.
var troubles = []trouble{
	{"none", live.Fault{}},
	{"time-out", live.Fault{Do: live.FaultDelay, Millis: delayed, Commit: true}},
	{"drop", live.Fault{Do: live.FaultDrop}},
	{"drop after commit", live.Fault{Do: live.FaultDrop, Commit: true}},
	{"HTTP 502", live.Fault{Do: live.FaultHTTP500}},
	{"HTTP 502 after commit", live.Fault{Do: live.FaultHTTP500, Commit: true}},
	{"garbage", live.Fault{Do: live.FaultGarbage}},
	{"garbage after commit", live.Fault{Do: live.FaultGarbage, Commit: true}},
	{"wrong signature", live.Fault{Do: live.FaultBadSign, Commit: true}},
	{"SYSTEMERROR", live.Fault{Do: live.FaultError, Code: "SYSTEMERROR"}},
	{"SYSTEMERROR after commit", live.Fault{Do: live.FaultError, Code: "SYSTEMERROR", Commit: true}},
}

// steps are where it goes wrong.
var stepsOf = map[channels.Way][]string{
	channels.WayCode: {"pay", "query", "reverse", "refund", "refundquery"},
	channels.WayQR:   {"prepay", "query", "close", "refund", "refundquery"},
}

// outcome is where a payment and its refund end.
type outcome struct {
	payment, refund string
}

func (o outcome) String() string { return strings.TrimSuffix(o.payment+" / "+o.refund, " / ") }

// plant makes the next fitting call of the order go wrong.
func (r *rig) plant(f live.Fault, api, merchant string) {
	r.t.Helper()
	if f.Do == "" {
		return
	}
	f.API, f.Merchant = api, merchant
	if _, err := r.sandbox.Plant(f); err != nil {
		r.t.Fatal(err)
	}
}

// live takes one payment and its refund through a fault at one step, to their ends.
func (r *rig) live(a adapter, step string, x trouble) (o outcome, orderNo string) {
	t := r.t
	t.Helper()
	var err error
	if r.open, err = a.connect(r); err != nil {
		t.Fatal(err)
	}
	r.n++
	if step == "query" || step == "reverse" {
		seconds := int64(0) // never
		if step == "query" {
			seconds = 20
		}
		if a.way == channels.WayCode {
			r.plant(live.Fault{Do: live.FaultPassword, Seconds: seconds}, "pay", a.merchant)
		}
	}
	if !strings.HasPrefix(step, "refund") {
		r.plant(x.Fault, step, a.merchant)
	}
	ask := pay.NewPayment{App: "APP", Key: fmt.Sprint("key", r.n), Hospital: "H1", Channel: a.channel, BillNo: fmt.Sprint("B", r.n), BizType: pay.Outpatient,
		Terminal: "T1", Way: a.way, Amount: ledger.Money(1000 + r.n), ClientIP: "127.0.0.1"}
	if a.way == channels.WayCode {
		ask.AuthCode = fmt.Sprintf("13%016d", r.n*100+50)
	}
	p, err := r.Create(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	if a.way != channels.WayCode && step != "close" {
		r.payer(a.merchant, p.OrderNo)
	}
	if step == "close" {
		if p, err = r.Close(t.Context(), "H1", p.OrderNo); err != nil {
			t.Fatal(err)
		}
	}
	p = r.untilFinal(p)
	o.payment = string(p.Status)
	if p.Status == pay.Success && (step == "pay" || step == "prepay" || strings.HasPrefix(step, "refund")) {
		o.refund = r.refund(a, step, x, p)
	}
	return o, p.OrderNo
}

// payer pays a prepay order, where the channel has it.
func (r *rig) payer(merchant, orderNo string) {
	text, err := json.Marshal(map[string]string{"merchant": merchant, "order": orderNo})
	if err != nil {
		r.t.Fatal(err)
	}
	answer, err := http.Post(r.sandbox.Addresses.Admin+"/pay", "application/json", bytes.NewReader(text))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// most is how many steps of a plan may pass until everything must be final: the
// plan of an unpaid order takes two hours.
const most = 60

// until lets the time pass by until a plan's next step is due.
func (r *rig) until(due time.Time) { r.at.Store(max(r.at.Load()+1, due.Unix()+1)) }

func (r *rig) untilFinal(p *pay.Payment) *pay.Payment {
	r.t.Helper()
	for range most {
		switch p.Status {
		case pay.Success, pay.Failed, pay.Closed, pay.Reversed:
			return p
		}
		r.until(p.NextAt)
		if _, err := r.Poll(r.t.Context(), r.now(), 100); err != nil {
			r.t.Fatal(err)
		}
		var err error
		if p, err = r.Get(r.t.Context(), "H1", p.OrderNo); err != nil {
			r.t.Fatal(err)
		}
	}
	r.t.Errorf("payment %s is %s for ever", p.OrderNo, p.Status)
	return p
}

// refund gives back a part of the payment, with the fault at its step.
func (r *rig) refund(a adapter, step string, x trouble, p *pay.Payment) string {
	r.t.Helper()
	switch step {
	case "refundquery":
		r.plant(live.Fault{Do: live.FaultRefundLate, Seconds: 30}, "refund", a.merchant)
		r.plant(x.Fault, step, a.merchant)
	case "refund":
		r.plant(x.Fault, step, a.merchant)
	}
	back, err := r.refunds.Create(r.t.Context(), pay.NewRefund{App: "APP", Key: fmt.Sprint("back", r.n), Hospital: "H1", OrderNo: p.OrderNo, Amount: 400,
		Cause: channels.CauseItem, Maker: "CASHIER", HISCancelled: true, HISAllows: p.Amount})
	if err != nil {
		r.t.Fatal(err)
	}
	if back.Status == pay.RefundApproving { // a part of the payment takes a second person (B24)
		if back, err = r.refunds.Decide(r.t.Context(), "H1", back.RefundNo, "HEAD", true, ""); err != nil {
			r.t.Fatal(err)
		}
	}
	for range most {
		if back.Status == pay.RefundSuccess && !back.SuccessAt.IsZero() || back.Status == pay.RefundFailed || back.Status == pay.RefundClosed {
			return string(back.Status)
		}
		r.until(back.NextAt)
		if _, err := r.refunds.Poll(r.t.Context(), r.now(), 100); err != nil {
			r.t.Fatal(err)
		}
		if back, err = r.refunds.Get(r.t.Context(), "H1", back.RefundNo); err != nil {
			r.t.Fatal(err)
		}
	}
	r.t.Errorf("refund %s is %s for ever", back.RefundNo, back.Status)
	return string(back.Status)
}

// theirs is what the channel's books say of an order: what was paid and given back.
func (r *rig) theirs(merchant, orderNo string) (paid, back int64) {
	r.t.Helper()
	list, err := r.sandbox.Orders(merchant, ledger.DayOf(r.now()).String())
	if err != nil {
		r.t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(o live.OrderView) bool { return o.Order == orderNo })
	if i < 0 {
		return 0, 0
	}
	for _, b := range list[i].Refunds {
		if b.State != "CLOSED" {
			back += b.Fen
		}
	}
	return list[i].Fen, back
}

// Every fault at every step of every adapter ends in one final state, on which our
// books and the channel's agree (spec/channels.md golden rules; I.1, I.2).
func TestEveryFaultAtEveryStepEndsInOneStateOnWhichBothBooksAgree(t *testing.T) {
	r := newRig(t)
	var table strings.Builder
	for _, a := range adapters {
		steps := stepsOf[a.way]
		fmt.Fprintf(&table, "\n%s\n%-26s", a.name, "fault")
		for _, step := range steps {
			fmt.Fprintf(&table, " %-20s", step)
		}
		for _, x := range troubles {
			fmt.Fprintf(&table, "\n%-26s", x.name)
			for _, step := range steps {
				got, orderNo := r.live(a, step, x)
				r.agree(a, step, x, got, orderNo)
				fmt.Fprintf(&table, " %-20s", got)
			}
		}
		table.WriteString("\n")
	}
	t.Log(table.String())
}

// agree checks the end of a case: what the channel has, we have, and nothing more.
func (r *rig) agree(a adapter, step string, x trouble, got outcome, orderNo string) {
	r.t.Helper()
	where := fmt.Sprintf("%s, %s at %s: %s ends as %s", a.name, x.name, step, orderNo, got)
	p, err := r.Get(r.t.Context(), "H1", orderNo)
	if err != nil {
		r.t.Fatal(err)
	}
	paid, back := r.theirs(a.merchant, orderNo)
	if ours := map[bool]int64{true: int64(p.Amount)}[p.Status == pay.Success]; ours-int64(p.Refunded) != paid-back {
		r.t.Errorf("%s: we hold %d less %d given back, the channel %d less %d", where, ours, p.Refunded, paid, back)
	}
	if p.Requested != 0 {
		r.t.Errorf("%s: %s is still under way", where, p.Requested)
	}
	happy := x.Commit || x.Do == "" || step != "pay" && step != "prepay"
	if unpaid := step == "reverse" || step == "close"; happy != (got.payment == "SUCCESS") && !unpaid {
		r.t.Errorf("%s", where)
	} else if unpaid && got.payment == "SUCCESS" {
		r.t.Errorf("%s, and nobody paid", where)
	}
	err = r.db.ReadTx(r.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		all, err := ledger.TrialBalance(ctx, tx, clearing.PlatformBook, ledger.AsOf{})
		var net ledger.Money
		for _, b := range all {
			net += b.Debits - b.Credits
		}
		if net != 0 {
			r.t.Errorf("%s: the books are off by %s", where, net)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
}
