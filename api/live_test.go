package api

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
)

// world is a served process beside a sandbox, and a business app that pays,
// refunds and is told.
type world struct {
	*Server
	t       *testing.T
	url     string
	sandbox *live.Server
	pay     payv1connect.PaymentServiceClient
	refund  payv1connect.RefundServiceClient
	head    payv1connect.RefundServiceClient

	mu   sync.Mutex
	told []sdk.Notice
}

const worldSetup = `
region: {code: R1, name: 示范区}
apps: [{name: HTAPP, notify_url: "APPURL", hospitals: [H1]}]
hospitals:
  - code: H1
    name: 海天示范医院
    ownership: PUBLIC
    his_calls: APP
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 100000, head_limit_fen: 1000000}]
    bank_accounts: [{account: "6801", name: 海天示范医院, bank: 招商银行, role: SETTLEMENT}]
    merchants:
      - {channel: WECHAT, merchant_no: "1900000101", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0,
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT", key: "file:KEYS/1900000101/api_v2.key", notify_url: "URL/notify/WECHAT/1900000101", refund_notify_url: "URL/notify/WECHAT/1900000101"}}}
      - {channel: WECHAT, merchant_no: "1900000102", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0,
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT", key: "file:KEYS/1900000102/api_v2.key", notify_url: "URL/notify/WECHAT/1900000102"}}}
`

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, Server: open(t, folder(t))}
	dir := t.TempDir()
	var err error
	w.sandbox, err = live.Start(live.Config{Dir: dir, Now: noon, Merchants: []live.Merchant{
		{No: "1900000101", Channel: channels.WeChat, Apps: []string{"wx1"}, FeeRate: "0.0060", BankAccount: "6801", OpeningFen: 1_000_000, Tails: "code"},
		{No: "1900000102", Channel: channels.WeChat, Apps: []string{"wx1"}, FeeRate: "0.0060", BankAccount: "6801"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.sandbox.Close(); err != nil {
			t.Error(err)
		}
	})
	h := served(t, w.Server)
	w.url = h.URL
	app := httptest.NewServer(http.HandlerFunc(w.hear))
	t.Cleanup(app.Close)
	text := strings.NewReplacer("APPURL", app.URL, "URL/", h.URL+"/", "KEYS", filepath.Join(dir, "keys"), `"WECHAT"`, `"`+w.sandbox.Addresses.WeChat+`"`).Replace(worldSetup)
	setup := filepath.Join(dir, "setup.yaml")
	if err := os.WriteFile(setup, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Setup(t.Context(), setup); err != nil {
		t.Fatal(err)
	}
	client := signing(t, newKey(t, w.Server, "HTAPP", auth.Service), noon)
	w.pay, w.refund = payv1connect.NewPaymentServiceClient(client, h.URL), payv1connect.NewRefundServiceClient(client, h.URL)
	w.head = payv1connect.NewRefundServiceClient(h.Client(), h.URL, bearer(newKey(t, w.Server, "李主管", auth.FinanceHead)))
	return w
}

// hear is the app's address for notices: it believes what the platform signed.
func (w *world) hear(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Error(err)
	}
	shown, err := http.Get(w.url + "/notices/key")
	if err != nil {
		w.t.Error(err)
		return
	}
	key, err := io.ReadAll(shown.Body)
	if err != nil || shown.Body.Close() != nil {
		w.t.Error(err)
	}
	n, err := sdk.VerifyNotice(strings.TrimSpace(string(key)), r.Header.Get(sdk.NoticeHeader), body, noon())
	if err != nil {
		w.t.Error(err)
	}
	if _, err := sdk.VerifyNotice(strings.TrimSpace(string(key)), r.Header.Get(sdk.NoticeHeader), append(body, ' '), noon()); err == nil {
		w.t.Error("a notice that was changed on its way is believed")
	}
	w.mu.Lock()
	w.told = append(w.told, n)
	w.mu.Unlock()
}

// paid is a payment by a code.
func (w *world) paid(bill string, fen int64) *payv1.Payment {
	w.t.Helper()
	done, err := w.pay.CreatePayment(w.t.Context(), &payv1.CreatePaymentRequest{IdempotencyKey: "pay_" + bill, Hospital: "H1", Channel: "WECHAT", MerchantNo: "1900000101",
		BillNo: bill, BizType: "OUTPATIENT", Terminal: "WIN1", Way: "CODE", AmountFen: fen, AuthCode: "130000000000000050", ClientIp: "127.0.0.1"})
	if err != nil || done.GetPayment().GetStatus() != "SUCCESS" {
		w.t.Fatal(done, err)
	}
	return done.GetPayment()
}

func (w *world) back(order string, fen int64) *payv1.CreateRefundRequest {
	return &payv1.CreateRefundRequest{IdempotencyKey: fmt.Sprint("back_", order, fen), Hospital: "H1", OrderNo: order, AmountFen: fen, Cause: "项目退费", Maker: "收费员1",
		HisCancelled: true, HisAllowsFen: fen}
}

// U03, U04, M02, B24, W04: how much may go back, over it is refused, the whole goes
// at once, a part takes a second person who is not the first.
func TestRefundsGoBackOverTheAPIWithinTheirLimits(t *testing.T) {
	w := newWorld(t)
	ctx, p := t.Context(), w.paid("B1", 9000)
	may, err := w.refund.GetRefundable(ctx, &payv1.GetRefundableRequest{Hospital: "H1", OrderNo: p.GetOrderNo()})
	if err != nil || may.GetAmountFen() != 9000 || may.GetRoute() != "WECHAT" || may.GetDaysLeft() != 365 || len(may.GetLimits()) < 2 {
		t.Errorf("%v, %v", may, err)
	}
	over := w.back(p.GetOrderNo(), 9001)
	_, err = w.refund.CreateRefund(ctx, over)
	denied(t, err, connect.CodeFailedPrecondition, "REFUNDABLE", "90.00")
	odd := w.back(p.GetOrderNo(), 9000)
	odd.Cause = "张三 肺炎"
	_, err = w.refund.CreateRefund(ctx, odd)
	denied(t, err, connect.CodeInvalidArgument, "FIELD", "cause")
	part, err := w.refund.CreateRefund(ctx, w.back(p.GetOrderNo(), 4000))
	if err != nil || part.GetRefund().GetStatus() != "APPROVING" || !strings.Contains(part.GetRefund().GetApproval(), "40.00 of 90.00") {
		t.Fatal(part, err)
	}
	_, err = w.refund.CreateRefund(ctx, w.back(p.GetOrderNo(), 5000))
	denied(t, err, connect.CodeFailedPrecondition, "REFUND_IN_FLIGHT", "")
	no := part.GetRefund().GetRefundNo()
	_, err = w.refund.DecideRefund(ctx, &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: no, Approve: true})
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", "refund.decide")
	waiting, err := w.head.ListRefunds(ctx, &payv1.ListRefundsRequest{Hospital: "H1", Status: "APPROVING"})
	if err != nil || len(waiting.GetRefunds()) != 1 || waiting.GetRefunds()[0].GetRefundNo() != no {
		t.Errorf("%v, %v", waiting, err)
	}
	_, err = w.head.DecideRefund(ctx, &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: no})
	denied(t, err, connect.CodeInvalidArgument, "FIELD", "reason")
	done, err := w.head.DecideRefund(ctx, &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: no, Approve: true})
	if err != nil || done.GetRefund().GetStatus() != "SUCCESS" || done.GetRefund().GetChecker() != "李主管" {
		t.Errorf("%v, %v", done, err)
	}
	again, err := w.refund.CreateRefund(ctx, w.back(p.GetOrderNo(), 4000))
	if err != nil || again.GetRefund().GetRefundNo() != no {
		t.Errorf("the same again: %v, %v", again, err)
	}
	changed := w.back(p.GetOrderNo(), 4000)
	changed.AmountFen = 4001
	_, err = w.refund.CreateRefund(ctx, changed)
	denied(t, err, connect.CodeAlreadyExists, "KEY_CONFLICT", "amount_fen")
	if found, err := w.Verify(ctx); err != nil || len(found) > 0 {
		t.Errorf("the books: %v, %v", found, err)
	}
}

// Who asks for a refund cannot approve it, whatever name is written where.
func TestTheMakerOfARefundCannotApproveIt(t *testing.T) {
	w := newWorld(t)
	ask := w.back(w.paid("B1", 9000).GetOrderNo(), 4000)
	ask.Maker = "李主管"
	part, err := w.refund.CreateRefund(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.head.DecideRefund(t.Context(), &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: part.GetRefund().GetRefundNo(), Approve: true})
	denied(t, err, connect.CodePermissionDenied, "MAKER_IS_CHECKER", "李主管")
}

// A.2, golden rule 7: the channel's notice pays; one that is forged, or for another
// merchant number, changes nothing. The app is told, signed (G02, G04).
func TestNoticesOfTheChannelActAndForgedOnesDoNot(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	made, err := w.pay.CreatePayment(ctx, &payv1.CreatePaymentRequest{IdempotencyKey: "qr", Hospital: "H1", Channel: "WECHAT", MerchantNo: "1900000101", BillNo: "B1",
		BizType: "OUTPATIENT", Terminal: "MP", Way: "QR", AmountFen: 4500, ClientIp: "127.0.0.1"})
	if err != nil || made.GetPayment().GetStatus() != "PAYING" {
		t.Fatal(made, err)
	}
	order := made.GetPayment().GetOrderNo()
	for _, what := range []string{live.FaultNoticeForged, live.FaultNoticeTwice} {
		if _, err := w.sandbox.Plant(live.Fault{Do: what, Merchant: "1900000101", Order: order}); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := http.Post(w.sandbox.Addresses.Admin+"/pay", "application/json", strings.NewReader(`{"merchant":"1900000101","order":"`+order+`"}`))
	if err != nil || answer.Body.Close() != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer, err)
	}
	w.await("the notice pays", func() bool {
		p, err := w.pay.GetPayment(ctx, &payv1.GetPaymentRequest{Hospital: "H1", OrderNo: order})
		return err == nil && p.GetPayment().GetStatus() == "SUCCESS"
	})
	w.await("one notice was forged", func() bool {
		return strings.Contains(w.scrape(), `clearward_channel_notices_total{channel="WECHAT",state="forged"} 1`)
	})
	if n, err := w.notifyApps(ctx, noon()); err != nil || n != 1 || len(w.told) != 1 || w.told[0].Kind != "PAID" || w.told[0].OrderNo != order || w.told[0].AmountFen != 4500 {
		t.Errorf("%d, %v: %+v", n, err, w.told)
	}
	replayed, err := w.refund.ReplayNotices(ctx, &payv1.ReplayNoticesRequest{IdempotencyKey: rand.Text(), Hospital: "H1", Number: order})
	if err != nil || replayed.GetNotices() != 1 {
		t.Errorf("%v, %v", replayed, err)
	}
	if n, err := w.notifyApps(ctx, noon()); err != nil || n != 1 || len(w.told) != 2 {
		t.Errorf("%d, %v: %+v", n, err, w.told)
	}
	// The same notice at the address of another number.
	raw := `<xml><return_code>SUCCESS</return_code><mch_id>1900000101</mch_id></xml>`
	other, err := http.Post(w.url+"/notify/WECHAT/1900000102", "text/xml", strings.NewReader(raw))
	if err != nil || other.Body.Close() != nil {
		t.Fatal(err)
	}
	unknown, err := http.Post(w.url+"/notify/WECHAT/1", "text/xml", strings.NewReader(raw))
	if err != nil || unknown.StatusCode != http.StatusNotFound || unknown.Body.Close() != nil {
		t.Errorf("%v, %v", unknown, err)
	}
	if !strings.Contains(w.scrape(), `clearward_channel_notices_total{channel="WECHAT",state="forged"} 2`) {
		t.Errorf("the notice for another number was taken:\n%s", w.scrape())
	}
}

// await waits until it is so, which the sandbox brings about by itself.
func (w *world) await(what string, is func() bool) {
	w.t.Helper()
	limit := time.After(20 * time.Second)
	for ticker := time.NewTicker(10 * time.Millisecond); !is(); {
		select {
		case <-ticker.C:
		case <-limit:
			w.t.Fatalf("%s: not within 20 seconds; %s", what, w.scrape())
		}
	}
}

func (w *world) scrape() string {
	answer, err := http.Get(w.url + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.Body.Close() != nil {
		w.t.Fatal(err)
	}
	return string(text)
}
