package api

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/channels/sandbox/livebank"
	"github.com/clearward/clearward/channels/sandbox/livehis"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
	"github.com/clearward/clearward/recon"
)

// lived is the program between a sandbox of WeChat Pay and two HIS, with one clock
// that the test steps. H1 has its HIS called by the platform, H2 by its app.
type lived struct {
	*Server
	t    *testing.T
	at   *atomic.Int64
	out  *live.Server
	app  payv1connect.PaymentServiceClient
	jobs *jobs.Runner

	payers          int
	refunding, head payv1connect.RefundServiceClient // the app, and the head of finance
}

const livedSetup = `
region: {code: R1, name: 示范区}
apps:
  - {name: HTAPP, hospitals: [H1, H2]}
hospitals:
  - code: H1
    name: 海天示范医院
    ownership: PUBLIC
    his_calls: PLATFORM
    his: {url: HIS/H1, format: XML, secret: "file:KEYS/his-H1.key"}
    refund_policy:
      - {from: "2026-01-01", cashier_limit_fen: 100000, head_limit_fen: 500000}
    bank_accounts:
      - {account: "6801", name: 海天示范医院, bank: 招商银行, role: SETTLEMENT}
    merchants:
      - {channel: WECHAT, merchant_no: "1900000101", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0,
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT_URL", key: "file:KEYS/1900000101/api_v2.key"}}}
  - code: H2
    name: 海天二院
    ownership: PUBLIC
    his_calls: APP
    his: {url: HIS/H2, secret: "file:KEYS/his-H2.key"}
    bank_accounts:
      - {account: "6802", name: 海天二院, bank: 招商银行, role: SETTLEMENT}
    merchants:
      - {channel: WECHAT, merchant_no: "1900000102", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6802", retained_fen: 0,
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wx2, base_url: "WECHAT_URL", key: "file:KEYS/1900000102/api_v2.key"}}}
`

func newLived(t *testing.T) *lived {
	t.Helper()
	return openLived(t, livedSetup, nil)
}

// openLived opens the house on a setup, in which the addresses and keys of the
// sandbox are filled in; bank accounts are served where there are some.
func openLived(t *testing.T, master string, accounts []livebank.Account) *lived {
	t.Helper()
	l := &lived{t: t, at: &atomic.Int64{}}
	l.set("2026-09-15 10:00:00")
	dir := t.TempDir()
	var err error
	l.out, err = live.Start(live.Config{Dir: dir, Now: l.clock, HIS: []livehis.Hospital{{Code: "H1", Format: "XML"}, {Code: "H2", Format: "JSON"}}, Merchants: []live.Merchant{
		{No: "1900000101", Channel: channels.WeChat, Apps: []string{"wx1"}, FeeRate: "0.0060", BankAccount: "6801"},
		{No: "1900000102", Channel: channels.WeChat, Apps: []string{"wx2"}, FeeRate: "0.0060", BankAccount: "6802"}}, Bank: livebank.Config{Accounts: accounts}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.out.Close(); err != nil {
			t.Error(err)
		}
	})
	if l.Server, err = Open(t.Context(), Config{Local: local.Config{DataDir: folder(t)}, Now: l.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Server.Close(); err != nil {
			t.Error(err)
		}
	})
	setup := filepath.Join(t.TempDir(), "setup.yaml")
	text := strings.NewReplacer("HIS/", l.out.Addresses.HIS+"/", "WECHAT_URL", l.out.Addresses.WeChat, "BANK_URL", l.out.Addresses.Bank, "KEYS", filepath.Join(dir, "keys")).Replace(master)
	if err := os.WriteFile(setup, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Setup(t.Context(), setup); err != nil {
		t.Fatal(err)
	}
	h := served(t, l.Server)
	app := signing(t, newKey(t, l.Server, "HTAPP", auth.Service), l.clock)
	l.app, l.refunding = payv1connect.NewPaymentServiceClient(app, h.URL), payv1connect.NewRefundServiceClient(app, h.URL)
	l.head = payv1connect.NewRefundServiceClient(h.Client(), h.URL, bearer(newKey(t, l.Server, "李主管", auth.FinanceHead)))
	if l.jobs, err = jobs.Open(t.Context(), l.DB, l.clock, l.log, l.schedule()...); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *lived) clock() time.Time { return time.Unix(l.at.Load(), 0) }

func (l *lived) set(at string) {
	t, err := time.ParseInLocation(time.DateTime, at, ledger.Beijing)
	if err != nil {
		l.t.Fatal(err)
	}
	l.at.Store(t.Unix())
}

// tick does what is due at the time, and fails where a job fails.
func (l *lived) tick(at string) {
	l.t.Helper()
	l.set(at)
	if _, err := l.jobs.Tick(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	for name, error := range l.failures() {
		l.t.Errorf("at %s job %s: %s", at, name, error)
	}
}

func (l *lived) failures() map[string]string {
	l.t.Helper()
	all, err := l.Jobs(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	failed := map[string]string{}
	for _, j := range all {
		if j.Last != nil && j.Last.State == "FAILED" {
			failed[j.Name] = j.Last.Error
		}
	}
	return failed
}

// admin posts to the sandbox's admin API.
func (l *lived) admin(path, body string) {
	l.t.Helper()
	answer, err := http.Post(l.out.Addresses.Admin+path, "application/json", strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode != http.StatusOK {
		l.t.Fatalf("%s %s: %s %s, %v", path, body, answer.Status, text, err)
	}
}

// bill opens a bill in the HIS of H1.
func (l *lived) bill(no string, fen int64, biz pay.BizType) {
	l.t.Helper()
	l.admin("/his/bills", fmt.Sprintf(`{"hospital":"H1","bill_no":%q,"fen":%d,"biz_type":%q}`, no, fen, biz))
}

// pay has the app pay a bill of H1 by payment code.
func (l *lived) pay(no string, fen int64, biz pay.BizType) *payv1.Payment {
	l.t.Helper()
	return l.payAt("H1", no, fen, biz)
}

func (l *lived) payAt(hospital, no string, fen int64, biz pay.BizType) *payv1.Payment {
	l.t.Helper()
	l.payers++ // each pays once: the channel asks one who pays often for the password
	paid, err := l.app.CreatePayment(l.t.Context(), &payv1.CreatePaymentRequest{IdempotencyKey: "pay-" + no, Hospital: hospital, Channel: "WECHAT", BillNo: no, BizType: string(biz),
		Terminal: "WINDOW1", Way: "CODE", AmountFen: fen, AuthCode: fmt.Sprintf("13%08d00000050", l.payers), ClientIp: "127.0.0.1"})
	if err != nil || paid.GetPayment().GetStatus() != "SUCCESS" {
		l.t.Fatal(paid, err)
	}
	return paid.GetPayment()
}

// fed lists the files of the day that count.
func (l *lived) fed(day ledger.Day) []string {
	l.t.Helper()
	found, err := l.fedSlices(l.t.Context(), day, day)
	if err != nil {
		l.t.Fatal(err)
	}
	var list []string
	for s := range found {
		list = append(list, strings.Join(strings.Fields(string(s.Source)+" "+s.Hospital+" "+s.Account), " "))
	}
	slices.Sort(list)
	return list
}

// R01, R03: nobody feeds anything: details from 01:00, bills from 10:00, the run at 11:30.
func TestDetailsAndBillsAreFetchedUntilTheyAreThereAndTheDayIsRun(t *testing.T) {
	l := newLived(t)
	var orders []string
	for i := range 4 {
		no := fmt.Sprint("B", i)
		l.bill(no, 4500, pay.Outpatient)
		orders = append(orders, l.pay(no, 4500, pay.Outpatient).GetOrderNo())
	}
	l.admin("/his/close", `{"hospital":"H1","bill_no":"B3"}`) // HIS will not book it: two people give it back
	l.after(5 * time.Second)
	for _, i := range []int{1, 3} {
		r, err := l.back(orders[i], 4500)
		if err == nil && r.GetStatus() == "APPROVING" {
			_, err = l.head.DecideRefund(t.Context(), &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: r.GetRefundNo(), Approve: true})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	l.after(5 * time.Second)
	day := ledger.DayOf(l.clock())
	l.tick("2026-09-15 23:50:00") // of the day before this one nothing happened anywhere
	wants := func(when string, want ...string) {
		t.Helper()
		if got := l.fed(day); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	l.admin("/his/faults", `{"do":"ERROR","api":"details","hospital":"H1"}`) // not made yet
	l.tick("2026-09-16 01:00:00")
	wants("one HIS is late", "HIS H2")
	l.admin("/his/faults", `{"do":"GARBAGE","api":"details","hospital":"H1"}`)
	l.set("2026-09-16 01:10:00")
	if _, err := l.jobs.Tick(t.Context()); err != nil || !strings.Contains(l.failures()["fetch-his"], "his_H1_20260915") {
		t.Errorf("a file that is cut off: %v, %v", l.failures(), err)
	}
	wants("its file is cut off", "HIS H2")
	l.tick("2026-09-16 01:20:00")
	wants("it is there", "HIS H1", "HIS H2")
	l.admin("/faults", `{"do":"HTTP_500","api":"bill","merchant":"1900000101"}`)
	l.set("2026-09-16 10:00:00")
	if _, err := l.jobs.Tick(t.Context()); err != nil || !strings.Contains(l.failures()["fetch-bills"], "_H1_WECHAT_1900000101_20260915") {
		t.Errorf("a bill that does not come: %v, %v", l.failures(), err)
	}
	l.tick("2026-09-16 10:05:00")
	// H2 had no trades: that the channel has no bill is a bill without rows.
	wants("bills", "BILL H1 1900000101", "BILL H2 1900000102", "FUND H1 1900000101", "FUND H2 1900000102", "HIS H1", "HIS H2")
	l.tick("2026-09-16 10:10:00")
	l.tick("2026-09-16 11:30:00")
	found, err := l.Engine.Load(t.Context(), day)
	if err != nil {
		t.Fatal(err)
	}
	// What HIS never booked and the channel gave back the same day is no difference.
	if len(found.Items) != 1 || found.Items[0].Code != recon.NetZero || found.Items[0].OrderNo != orders[3] {
		t.Errorf("%d items of a day on which all agree: %+v", len(found.Items), found.Items)
	}
	for _, s := range found.Slices {
		if (s.Version == 0) != (s.Pair == recon.Bank) { // no statement came
			t.Errorf("%s %s is at version %d, it waits for %q", s.MerchantNo, s.Pair, s.Version, s.Waiting)
		}
	}
	if broken, err := l.Verify(t.Context()); err != nil || len(broken) > 0 {
		t.Errorf("the books: %v, %v", broken, err)
	}
}
