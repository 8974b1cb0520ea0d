package pay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
)

const testSetup = `
region: {code: R1, name: 示范区}
apps:
  - {name: KIOSK, notify_url: "http://127.0.0.1:9/notify", hospitals: [H1, H2]}
  - {name: OTHER, hospitals: [H2]}
hospitals:
  - code: H1
    name: 海天示范医院
    ownership: PUBLIC
    his_calls: APP
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 50000, head_limit_fen: 1000000, order: OLDEST}]
    bank_accounts: [{account: "6801", name: 海天示范医院, bank: 招商银行, role: SETTLEMENT}]
    merchants:
      - {channel: WECHAT, merchant_no: "1900000109", settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801"}
      - {channel: ALIPAY, merchant_no: "20880000000000010156", settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801"}
  - code: H2
    name: 民生医院
    ownership: PRIVATE
    his_calls: PLATFORM
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 50000, head_limit_fen: 1000000}]
    bank_accounts: [{account: "8801", name: 存管户, bank: 招商银行, role: CUSTODY}]
    merchants:
      - {channel: WECHAT, merchant_no: "1900000209", settle_mode: B, fee_rate: "0.0060", fee_bearer: HOSPITAL, from: "2026-01-01", settles_to: "8801"}
`

// outside is a channel and a HIS with books of their own: they answer what the
// test tells them to answer next, else yes.
type outside struct {
	mu      sync.Mutex
	answers []channels.PayAnswer
	refunds []channels.RefundAnswer
	words   []channels.HISAnswer
	calls   []string
}

func (o *outside) Gateway(channel, _ string) (channels.Gateway, error) {
	if channel == channels.Alipay {
		return struct{ channels.Gateway }{gateway{o}}, nil // takes no application
	}
	return gateway{o}, nil
}
func (o *outside) HIS(string) (channels.HISGateway, error) { return his{o}, nil }

func (o *outside) called(call, no string) { o.calls = append(o.calls, call+" "+no) }

func next[T any](o *outside, list *[]T, call, no string, usual T) T {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.called(call, no)
	if len(*list) == 0 {
		return usual
	}
	first := (*list)[0]
	*list = (*list)[1:]
	return first
}

type gateway struct{ *outside }

func (g gateway) Pay(_ context.Context, r channels.PayRequest) channels.PayAnswer {
	return next(g.outside, &g.answers, "pay", r.OrderNo, paid(r.Amount))
}
func (g gateway) Query(_ context.Context, no string) channels.PayAnswer {
	return next(g.outside, &g.answers, "query", no, pending)
}
func (g gateway) Reverse(_ context.Context, no string) channels.PayAnswer {
	return next(g.outside, &g.answers, "reverse", no, channels.PayAnswer{Outcome: channels.OutcomeFailed, Reversed: true})
}
func (g gateway) Close(_ context.Context, no string) channels.PayAnswer {
	return next(g.outside, &g.answers, "close", no, channels.PayAnswer{Outcome: channels.OutcomeFailed, Closed: true})
}
func (g gateway) Refund(_ context.Context, r channels.RefundRequest) channels.RefundAnswer {
	return next(g.outside, &g.refunds, "refund", r.RefundNo, channels.RefundAnswer{Outcome: channels.OutcomeSucceeded, Amount: r.Amount})
}
func (g gateway) QueryRefund(_ context.Context, r channels.RefundRequest) channels.RefundAnswer {
	return next(g.outside, &g.refunds, "query refund", r.RefundNo, channels.RefundAnswer{Outcome: channels.OutcomePending})
}
func (g gateway) ApplyAbnormalRefund(_ context.Context, r channels.RefundRequest) channels.RefundAnswer {
	return next(g.outside, &g.refunds, "apply "+r.RefundID, r.RefundNo, channels.RefundAnswer{Outcome: channels.OutcomePending})
}
func (g gateway) ParseNotice(http.Header, []byte) (channels.Notice, error) {
	return channels.Notice{}, channels.ErrNotice
}
func (g gateway) NoticeReply(error) channels.NoticeReply { return channels.NoticeReply{} }
func (g gateway) FetchBill(context.Context, channels.BillKind, ledger.Day) (io.ReadCloser, error) {
	return nil, channels.ErrNoBill
}
func (g gateway) Plan(way channels.Way) channels.Plan {
	if way == channels.WayCode {
		return channels.PlanWeChatCode
	}
	return channels.PlanPrepay
}

type his struct{ *outside }

func (h his) Acknowledge(_ context.Context, r channels.HISRequest) channels.HISAnswer {
	return next(h.outside, &h.words, "his ack", r.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: r.Amount})
}
func (h his) Refundable(_ context.Context, r channels.HISRequest) channels.HISAnswer {
	return next(h.outside, &h.words, "his refundable", r.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Refundable: r.Amount})
}
func (h his) Cancel(_ context.Context, r channels.HISRequest) channels.HISAnswer {
	return next(h.outside, &h.words, "his cancel", r.RefundNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded})
}
func (h his) WriteBackRefund(_ context.Context, r channels.HISRequest) channels.HISAnswer {
	return next(h.outside, &h.words, "his refund", r.RefundNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded})
}
func (h his) Order(_ context.Context, r channels.HISRequest) channels.HISAnswer {
	return next(h.outside, &h.words, "his order", r.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeFailed, Reason: channels.Reason{Kind: channels.ReasonNotFound}})
}
func (h his) Details(context.Context, string, ledger.Day) (io.ReadCloser, error) {
	return nil, channels.ErrNoBill
}

var (
	pending = channels.PayAnswer{Outcome: channels.OutcomePending}
	unknown = channels.PayAnswer{Outcome: channels.OutcomeUnknown, Reason: channels.Reason{Kind: channels.ReasonNetwork}}
)

func paid(amount ledger.Money) channels.PayAnswer {
	return channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: amount, TradeNo: "42"}
}

// desk is a house on a database of its own.
type desk struct {
	*House
	*outside
	t   testing.TB
	now time.Time
	url string // with the owner's rights
	Payments
	Refunds
}

var noon = time.Date(2026, 9, 15, 4, 0, 0, 0, time.UTC)

func newDesk(t testing.TB) *desk {
	t.Helper()
	url := dbtest.URL(t, ledger.Schema, clearing.Schema)
	d, err := db.Open(t.Context(), url, db.App)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if _, err := clearing.Setup(t.Context(), d, strings.NewReader(testSetup)); err != nil {
		t.Fatal(err)
	}
	k := deskOn(t, d)
	k.url = url
	return k
}

func deskOn(t testing.TB, d *db.DB) *desk {
	k := &desk{outside: &outside{}, t: t, now: noon}
	committer, err := ledger.NewCommitter(context.Background(), d, ledger.Options{Now: func() time.Time { return k.now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(committer.Close)
	k.House = &House{DB: d, Committer: committer, Outside: k.outside, Now: func() time.Time { return k.now }}
	k.Payments, k.Refunds = Payments{k.House}, Refunds{k.House}
	return k
}

func codePayment(keyText, bill string, amount ledger.Money) NewPayment {
	return NewPayment{App: "KIOSK", Key: keyText, Hospital: "H1", Channel: channels.WeChat, BillNo: bill, BizType: Outpatient,
		Terminal: "T1", Way: channels.WayCode, Amount: amount, AuthCode: "134567890123456789"}
}

func (k *desk) pay(n NewPayment) *Payment {
	k.t.Helper()
	p, err := k.Payments.Create(k.t.Context(), n)
	if err != nil {
		k.t.Fatal(err)
	}
	return p
}

// trial is the trial balance without zeros, by code.
func (k *desk) trial() map[string]ledger.Money {
	k.t.Helper()
	got := map[string]ledger.Money{}
	err := k.DB.ReadTx(k.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		clear(got)
		all, err := ledger.TrialBalance(ctx, tx, clearing.PlatformBook, ledger.AsOf{})
		for _, b := range all {
			if b.Balance() != 0 {
				got[b.Code] = b.Balance()
			}
		}
		return err
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return got
}

func (k *desk) balances(want map[string]ledger.Money) {
	k.t.Helper()
	got := k.trial()
	for code, balance := range want {
		if got[code] != balance {
			k.t.Errorf("%s is %s, want %s", code, got[code], balance)
		}
		delete(got, code)
	}
	for code, balance := range got {
		k.t.Errorf("%s is %s, want 0.00", code, balance)
	}
}

func (k *desk) verify() {
	k.t.Helper()
	found, err := ledger.Verify(k.t.Context(), k.DB, clearing.Controls()...)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, f := range found {
		k.t.Error(f)
	}
}

func (k *desk) notices() (got []string) {
	k.t.Helper()
	rows, err := k.DB.Pool.Query(k.t.Context(), `SELECT kind FROM app_notices ORDER BY created_at, number, version`)
	if err == nil {
		got, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return got
}

func TestAPaymentIsPostedOnceAndMovesWhenHISAcknowledges(t *testing.T) {
	k := newDesk(t)
	p := k.pay(codePayment("k1", "B1", 10000))
	if p.Status != Success || !p.Posted || p.HIS != HISWait || p.Advise().ChargeAgain {
		t.Fatalf("%+v", p)
	}
	again := k.pay(codePayment("k1", "B1", 10000))
	if again.OrderNo != p.OrderNo || len(k.calls) != 1 {
		t.Fatalf("the same key made %s and %v", again.OrderNo, k.calls)
	}
	other := codePayment("k1", "B1", 9000)
	if _, err := k.Payments.Create(t.Context(), other); !errors.Is(err, ledger.ErrKeyConflict) {
		t.Fatalf("another body under the key: %v", err)
	}
	k.balances(map[string]ledger.Money{"1122.WX.1900000109": 10000, "2204.H1": 10000, "2206.WX.1900000109": 60, "6601.H1": 60})
	for range 2 {
		if p, err := k.Acknowledge(t.Context(), Caller{}, "H1", p.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: 12000}); err != nil || p.Acked != 10000 {
			t.Fatal(p, err)
		}
	}
	k.balances(map[string]ledger.Money{"1122.WX.1900000109": 10000, "2202.H1.PEND": 10000, "2206.WX.1900000109": 60, "6601.H1": 60})
	if got := fmt.Sprint(k.notices()); got != "[PAID]" {
		t.Errorf("told %s", got)
	}
	k.verify()
}

func TestWhatIsRefusedBeforeAnythingIsSent(t *testing.T) {
	k := newDesk(t)
	for name, test := range map[string]struct {
		change func(*NewPayment)
		want   error
	}{
		"17 digits (B11)":             {func(n *NewPayment) { n.AuthCode = n.AuthCode[:17] }, ErrField},
		"prefix 16 (B11)":             {func(n *NewPayment) { n.AuthCode = "16" + n.AuthCode[2:] }, ErrField},
		"no amount":                   {func(n *NewPayment) { n.Amount = 0 }, ErrField},
		"an app of another hospital":  {func(n *NewPayment) { n.App = "OTHER" }, ErrNotAllowed},
		"an unknown app":              {func(n *NewPayment) { n.App = "NOBODY" }, ErrNotAllowed},
		"a channel it has not":        {func(n *NewPayment) { n.Channel, n.Way = channels.UnionPay, channels.WayQR }, ErrNotAllowed},
		"another's merchant number":   {func(n *NewPayment) { n.MerchantNo = "1900000209" }, ErrNotAllowed},
		"card top-up, PUBLIC (B08)":   {func(n *NewPayment) { n.BizType = CardTopUp }, ErrNotAllowed},
		"a static code (L14)":         {func(n *NewPayment) { n.Way, n.ExpiresAt = channels.WayQR, noon.AddDate(0, 1, 0) }, ErrField},
		"expired before it is made":   {func(n *NewPayment) { n.ExpiresAt = noon.Add(-time.Minute) }, ErrField},
		"a business without an order": {func(n *NewPayment) { n.BizType = "SHOP" }, ErrField},
	} {
		n := codePayment("k-"+name, "B1", 10000)
		test.change(&n)
		if _, err := k.Payments.Create(t.Context(), n); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(k.calls) != 0 {
		t.Errorf("sent %v", k.calls)
	}
}

func TestOneBillHasOneLivePayment(t *testing.T) {
	k := newDesk(t)
	results := make([]error, 100)
	atOnce(len(results), func(i int) {
		_, results[i] = k.Payments.Create(t.Context(), codePayment(fmt.Sprint("k", i), "B1", 10000))
	})
	made := 0
	for _, err := range results {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, ErrLive) && !errors.Is(err, ErrPaid):
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d of 100 were made", made)
	}
	k.verify()
}

func TestReplacingClosesTheOtherFirst(t *testing.T) {
	k := newDesk(t)
	k.answers = []channels.PayAnswer{pending}
	first := k.pay(codePayment("k1", "B1", 10000))
	k.now = k.now.Add(20 * time.Second)
	second := codePayment("k2", "B1", 10000)
	second.Replace = true
	p := k.pay(second)
	if p.Status != Success {
		t.Fatalf("%+v", p)
	}
	if first, _ = k.Payments.Get(t.Context(), "H1", first.OrderNo); first.Status != Reversed {
		t.Errorf("the first is %s", first.Status)
	}
	third := codePayment("k3", "B1", 10000)
	third.Replace = true
	if _, err := k.Payments.Create(t.Context(), third); !errors.Is(err, ErrPaid) {
		t.Errorf("a paid bill: %v", err)
	}
	// The money of the first comes after all: it is posted, and a refund only proposed (F2).
	word := paid(10000)
	if first, err := k.Payments.Notice(t.Context(), channels.WeChat, "1900000109", channels.Notice{Payment: withOrder(word, first.OrderNo)}); err != nil || !first.Late || first.Live {
		t.Fatal(first, err)
	}
	k.balances(map[string]ledger.Money{"1122.WX.1900000109": 20000, "2204.H1": 20000, "2206.WX.1900000109": 120, "6601.H1": 120})
	if got := fmt.Sprint(k.notices()); got != "[NOT_PAID PAID PAID_LATE]" && got != "[PAID NOT_PAID PAID_LATE]" && !strings.Contains(got, "PAID_LATE") {
		t.Errorf("told %s", got)
	}
	k.verify()
}

func withOrder(a channels.PayAnswer, order string) channels.PayAnswer {
	a.OrderNo = order
	return a
}

func TestUnknownIsAskedForThenReversed(t *testing.T) {
	k := newDesk(t)
	k.answers = []channels.PayAnswer{unknown}
	p := k.pay(codePayment("k1", "B1", 10000))
	if p.Status != Unknown || p.Advise().ChargeAgain {
		t.Fatalf("%+v", p)
	}
	for range 60 {
		k.now = k.now.Add(5 * time.Second)
		if len(k.calls) < 10 {
			k.answers = []channels.PayAnswer{unknown}
		}
		if _, err := k.Payments.Poll(t.Context(), k.now, 10); err != nil {
			t.Fatal(err)
		}
	}
	if p, _ = k.Payments.Get(t.Context(), "H1", p.OrderNo); p.Status != Reversed || p.Live {
		t.Errorf("%+v", p)
	}
	if last := k.calls[len(k.calls)-1]; !strings.HasPrefix(last, "reverse ") {
		t.Errorf("the last call was %s", last)
	}
	k.balances(nil)
}

func TestAReversalOfWhatWasPaidHasBothLegs(t *testing.T) {
	k := newDesk(t)
	reversed := channels.PayAnswer{Outcome: channels.OutcomeFailed, Reversed: true, Refunded: true}
	k.answers = []channels.PayAnswer{unknown, unknown, reversed}
	p := k.pay(codePayment("k1", "B1", 10000))
	k.now = k.now.Add(20 * time.Second)
	if _, err := k.Payments.Close(t.Context(), "H1", p.OrderNo); err != nil {
		t.Fatal(err)
	}
	k.balances(nil)
	k.verify()
}

// The reversal gave the money back, its answer was lost, and a query says what Alipay
// says of such a trade: nobody is served for it.
func TestAReversalWhoseAnswerWasLostIsNoPayment(t *testing.T) {
	k := newDesk(t)
	k.answers = []channels.PayAnswer{unknown, unknown, unknown, {Outcome: channels.OutcomeSucceeded, Amount: 10000, Refunded: true, TradeNo: "42", SuccessAt: noon}}
	p := k.pay(codePayment("k1", "B1", 10000))
	k.now = k.now.Add(20 * time.Second)
	if _, err := k.Payments.Close(t.Context(), "H1", p.OrderNo); err != nil {
		t.Fatal(err)
	}
	p, err := k.Payments.Query(t.Context(), "H1", p.OrderNo)
	if err != nil || p.Live || p.Refunded != 10000 || p.HIS != "" || !p.Advise().ChargeAgain {
		t.Errorf("%+v, %v", p, err)
	}
	if got := k.journals(); got != "J01+J03+J04a J22 J19a+J19b" {
		t.Errorf("posted %s", got)
	}
	k.balances(nil)
	k.verify()
}

func TestWordsThatChangeNothing(t *testing.T) {
	k := newDesk(t)
	k.answers = []channels.PayAnswer{pending}
	p := k.pay(codePayment("k1", "B1", 10000))
	foreign := channels.Notice{MerchantNo: "1900000209", Payment: withOrder(paid(10000), p.OrderNo)}
	if _, err := k.Payments.Notice(t.Context(), channels.WeChat, "1900000109", foreign); !errors.Is(err, ErrForeign) {
		t.Errorf("a foreign notice: %v", err)
	}
	n := codePayment("k2", "B2", 10000)
	n.Channel, n.AuthCode = channels.Alipay, "281234567890123456"
	k.answers = []channels.PayAnswer{pending}
	byPID := channels.Notice{MerchantNo: "2088000000000001", Payment: withOrder(pending, k.pay(n).OrderNo)}
	if _, err := k.Payments.Notice(t.Context(), channels.Alipay, "20880000000000010156", byPID); err != nil {
		t.Errorf("Alipay names the account without its 0156: %v", err)
	}
	differs := channels.Notice{Payment: withOrder(paid(9999), p.OrderNo)}
	if _, err := k.Payments.Notice(t.Context(), channels.WeChat, "1900000109", differs); !errors.Is(err, ErrDiffers) {
		t.Errorf("another amount: %v", err)
	}
	p, _ = k.Payments.Get(t.Context(), "H1", p.OrderNo)
	if p.Status != Unknown || p.Act != channels.ActPerson || !p.NextAt.IsZero() {
		t.Errorf("%+v", p)
	}
	if _, err := k.Acknowledge(t.Context(), Caller{}, "H1", p.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000}); !errors.Is(err, ErrOrderOfSteps) {
		t.Errorf("HIS before the money: %v", err)
	}
	k.balances(nil)
}

func (k *desk) refund(keyText, order string, amount ledger.Money) (*Refund, error) {
	return k.Refunds.Create(k.t.Context(), NewRefund{App: "KIOSK", Key: keyText, Hospital: "H1", OrderNo: order, Amount: amount,
		Cause: channels.CauseItem, Maker: "cashier", HISCancelled: true})
}

func (k *desk) acked(keyText, bill string, amount ledger.Money) *Payment {
	k.t.Helper()
	p := k.pay(codePayment(keyText, bill, amount))
	p, err := k.Acknowledge(k.t.Context(), Caller{}, "H1", p.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: amount})
	if err != nil {
		k.t.Fatal(err)
	}
	return p
}

func TestARefundWithinTheFiveConditionsGoesAtOnce(t *testing.T) {
	k := newDesk(t)
	p := k.acked("k1", "B1", 10000)
	r, err := k.refund("r1", p.OrderNo, 10000)
	if err != nil || r.Status != RefundSuccess || r.SuccessAt.IsZero() {
		t.Fatal(r, err)
	}
	if r2, err := k.refund("r1", p.OrderNo, 10000); err != nil || r2.RefundNo != r.RefundNo {
		t.Fatal(r2, err)
	}
	k.balances(nil)
	if _, err := k.refund("r2", p.OrderNo, 1); !errors.Is(err, ErrRefundable) {
		t.Errorf("over the refundable: %v", err)
	}
	k.pay(codePayment("k2", "B1", 10000)) // the bill may be paid again
	k.verify()
}

func TestABrokenConditionAsksForASecondPerson(t *testing.T) {
	k := newDesk(t)
	p := k.acked("k1", "B1", 10000)
	r, err := k.refund("r1", p.OrderNo, 3000)
	if err != nil || r.Status != RefundApproving || !strings.Contains(r.Approval, "30.00 of 100.00") {
		t.Fatal(r, err)
	}
	if _, err := k.refund("r2", p.OrderNo, 100); !errors.Is(err, ErrInFlight) {
		t.Errorf("two in flight: %v", err)
	}
	if _, err := k.Decide(t.Context(), "H1", r.RefundNo, "cashier", true, ""); !errors.Is(err, ErrTwoPeople) {
		t.Errorf("maker = checker: %v", err)
	}
	if r, err = k.Decide(t.Context(), "H1", r.RefundNo, "head", true, ""); err != nil || r.Status != RefundSuccess {
		t.Fatal(r, err)
	}
	if _, err := k.refund("r3", p.OrderNo, 100); !errors.Is(err, ErrRefundable) || !strings.Contains(err.Error(), "a minute between") {
		t.Errorf("within the minute: %v", err)
	}
	k.now = k.now.Add(time.Minute)
	if r, err = k.refund("r4", p.OrderNo, 7000); err != nil {
		t.Fatal(err)
	}
	if r, err = k.Decide(t.Context(), "H1", r.RefundNo, "head", false, "no receipt"); err != nil || r.Status != RefundFailed || r.Reason.Text != "no receipt" {
		t.Fatal(r, err)
	}
	k.balances(map[string]ledger.Money{"1122.WX.1900000109": 7000, "2202.H1.PEND": 7000, "2206.WX.1900000109": 42, "6601.H1": 42})
	k.verify()
}

func TestAnUnfundedRefundWaitsAndAClosedOneGoesOn(t *testing.T) {
	k := newDesk(t)
	p := k.acked("k1", "B1", 10000)
	k.outside.refunds = []channels.RefundAnswer{
		{Outcome: channels.OutcomeFailed, Retry: true, Reason: channels.Reason{Kind: channels.ReasonMerchantFunds, Code: "NOTENOUGH"}},
		{Outcome: channels.OutcomePending}, {Outcome: channels.OutcomeFailed, Closed: true},
	}
	r, err := k.refund("r1", p.OrderNo, 10000)
	if err != nil || r.Status != RefundOwed || r.Reason.Code != "NOTENOUGH" || r.Act != channels.ActResend {
		t.Fatal(r, err)
	}
	k.balances(map[string]ledger.Money{"1122.WX.1900000109": 10000, "2205.WX.1900000109": 10000, "2206.WX.1900000109": 60, "6601.H1": 60})
	for range 2 {
		k.now = k.now.Add(2 * time.Hour)
		if _, err := k.Refunds.Poll(t.Context(), k.now, 10); err != nil {
			t.Fatal(err)
		}
		k.verify()
	}
	if r, _ = k.Refunds.Get(t.Context(), "H1", r.RefundNo); r.Status != RefundClosed {
		t.Fatalf("%+v", r)
	}
	next, err := k.Reissue(t.Context(), "H1", r.RefundNo)
	if err != nil || next.Status != RefundSuccess || next.DebtNo != r.RefundNo || next.RefundNo == r.RefundNo {
		t.Fatal(next, err)
	}
	k.balances(nil)
	k.verify()
}

func TestHISIsAskedFirstWhereThePlatformCallsIt(t *testing.T) {
	k := newDesk(t)
	n := codePayment("k1", "B1", 10000)
	n.Hospital = "H2"
	p := k.pay(n)
	if _, err := k.Payments.WriteBack(t.Context(), k.now, 10); err != nil {
		t.Fatal(err)
	}
	ask := NewRefund{App: "KIOSK", Key: "r1", Hospital: "H2", OrderNo: p.OrderNo, Amount: 10000, Maker: "cashier"}
	k.words = []channels.HISAnswer{{Outcome: channels.OutcomeSucceeded, Refundable: 6000}}
	r, err := k.Refunds.Create(t.Context(), ask)
	if err != nil || r.Status != RefundFailed || !strings.Contains(r.Reason.Text, "HIS allows 60.00") {
		t.Fatal(r, err)
	}
	ask.Key = "r2"
	k.words = []channels.HISAnswer{{Outcome: channels.OutcomeSucceeded, Refundable: 10000}, {Outcome: channels.OutcomeUnknown}}
	if r, err = k.Refunds.Create(t.Context(), ask); err != nil || r.Status != RefundCancelling {
		t.Fatal(r, err)
	}
	for _, call := range k.calls {
		if strings.HasPrefix(call, "refund ") {
			t.Errorf("sent %s before HIS said yes", call)
		}
	}
	k.now = k.now.Add(time.Minute)
	if _, err := k.Refunds.Poll(t.Context(), k.now, 10); err != nil {
		t.Fatal(err)
	}
	if r, _ = k.Refunds.Get(t.Context(), "H2", r.RefundNo); r.Status != RefundSuccess {
		t.Errorf("%+v", r)
	}
	k.verify()
}

func TestWhatHISRefusedIsGivenBackByTwoPeople(t *testing.T) {
	k := newDesk(t)
	p := k.pay(codePayment("k1", "B1", 10000))
	if _, err := k.Acknowledge(t.Context(), Caller{}, "H1", p.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeFailed}); err != nil {
		t.Fatal(err)
	}
	r, err := k.refund("r1", p.OrderNo, 10000)
	if err != nil || r.Status != RefundApproving {
		t.Fatal(r, err)
	}
	if r, err = k.Decide(t.Context(), "H1", r.RefundNo, "head", true, ""); err != nil || r.Debit != "E07" {
		t.Fatal(r, err)
	}
	k.balances(nil)
	if got := fmt.Sprint(k.notices()[:2]); !strings.Contains(got, "HIS_REFUSED") && !strings.Contains(fmt.Sprint(k.notices()), "HIS_REFUSED") {
		t.Errorf("told %v", k.notices())
	}
	k.verify()
}

func TestEveryStateAndReasonHasItsWords(t *testing.T) {
	for _, kind := range []channels.ReasonKind{
		channels.ReasonNone, channels.ReasonAuthCode, channels.ReasonBalance, channels.ReasonCard, channels.ReasonLimit, channels.ReasonPassword,
		channels.ReasonRisk, channels.ReasonPaid, channels.ReasonClosed, channels.ReasonNotFound, channels.ReasonDiffers, channels.ReasonMerchantFunds,
		channels.ReasonTooOften, channels.ReasonTooLate, channels.ReasonNotRefundable, channels.ReasonAccount, channels.ReasonRequest,
		channels.ReasonSetup, channels.ReasonSystem, channels.ReasonNetwork, channels.ReasonSignature, channels.ReasonBreaker,
	} {
		if _, ok := byReason[kind]; !ok {
			t.Errorf("no words for %q", kind)
		}
		for _, status := range []Status{Created, Paying, Unknown, Success, Failed, Closed, Reversed} {
			p := Payment{Status: status, Reason: channels.Reason{Kind: kind}}
			advice := p.Advise()
			if advice.ZH == "" || advice.EN == "" || (status.open() && advice.ChargeAgain) {
				t.Errorf("%s %s: %+v", status, kind, advice)
			}
		}
	}
}
