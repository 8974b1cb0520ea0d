package api

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
)

const alipaySetup = `
region: {code: R1, name: 示范区}
apps: [{name: HTAPP, hospitals: [H1]}]
hospitals:
  - code: H1
    name: 海天示范医院
    ownership: PUBLIC
    his_calls: APP
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 100000, head_limit_fen: 1000000}]
    bank_accounts: [{account: "6801", name: 海天示范医院, bank: 招商银行, role: SETTLEMENT}]
    merchants:
      - {channel: ALIPAY, merchant_no: "20880000000000020156", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0,
         gateway: {api: ALIPAY, environment: SANDBOX, settings: {app_id: "2021000000000001", seller_id: "2088000000000002", base_url: "ALIPAY/gateway.do", private_key: "file:KEYS/20880000000000020156/merchant_key.pem",
           app_cert: "file:KEYS/20880000000000020156/merchant_cert.pem", alipay_cert: "file:KEYS/channel/alipay_cert.pem", root_cert: "file:KEYS/channel/root_cert.pem",
           content_key: "file:KEYS/20880000000000020156/content.key", notify_url: "URL/notify/ALIPAY/20880000000000020156"}}}
`

// newAlipayWorld is a world whose hospital is paid by Alipay, which knows the account
// without the 0156 of its files.
func newAlipayWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, Server: open(t, folder(t))}
	dir := t.TempDir()
	var err error
	w.sandbox, err = live.Start(live.Config{Dir: dir, Now: noon, Merchants: []live.Merchant{
		{No: "20880000000000020156", Channel: channels.Alipay, Apps: []string{"2021000000000001"}, FeeRate: "0.0060", BankAccount: "6801", OpeningFen: 1_000_000}}})
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
	setup := filepath.Join(dir, "setup.yaml")
	text := strings.NewReplacer("URL/", h.URL+"/", "KEYS", filepath.Join(dir, "keys"), "ALIPAY/gateway", w.sandbox.Addresses.Alipay+"/gateway").Replace(alipaySetup)
	if err := os.WriteFile(setup, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Setup(t.Context(), setup); err != nil {
		t.Fatal(err)
	}
	client := signing(t, newKey(t, w.Server, "HTAPP", auth.Service), noon)
	w.pay, w.refund = payv1connect.NewPaymentServiceClient(client, h.URL), payv1connect.NewRefundServiceClient(client, h.URL)
	return w
}

// A payment by code, one by a page that the payer opens later, and a refund: by
// Alipay, with certificates and encrypted contents.
func TestAlipayPaysAndRefundsOverTheAPI(t *testing.T) { // spec/channels.md D
	w := newAlipayWorld(t)
	ctx := t.Context()
	status := func(order string) string {
		p, err := w.pay.GetPayment(ctx, &payv1.GetPaymentRequest{Hospital: "H1", OrderNo: order})
		if err != nil {
			t.Fatal(err)
		}
		return p.GetPayment().GetStatus()
	}
	ask := &payv1.CreatePaymentRequest{IdempotencyKey: "code", Hospital: "H1", Channel: "ALIPAY", BillNo: "B1", BizType: "OUTPATIENT",
		Terminal: "WIN1", Way: "CODE", AmountFen: 8800, AuthCode: "280000000100000001", ClientIp: "127.0.0.1"}
	code, err := w.pay.CreatePayment(ctx, ask)
	if err != nil || code.GetPayment().GetStatus() != "SUCCESS" || len(code.GetPayment().GetTradeNo()) != 28 {
		t.Fatal(code, err)
	}
	done, err := w.refund.CreateRefund(ctx, w.back(code.GetPayment().GetOrderNo(), 8800))
	if err != nil || done.GetRefund().GetStatus() != "SUCCESS" {
		t.Errorf("refund %v, %v", done, err)
	}

	ask = &payv1.CreatePaymentRequest{IdempotencyKey: "page", Hospital: "H1", Channel: "ALIPAY", BillNo: "B2", BizType: "OUTPATIENT",
		Terminal: "WEB", Way: "PAGE", AmountFen: 4500, ClientIp: "127.0.0.1"}
	page, err := w.pay.CreatePayment(ctx, ask)
	if err != nil || page.GetPayment().GetStatus() != "PAYING" {
		t.Fatal(page, err)
	}
	order := page.GetPayment().GetOrderNo()
	for range 3 { // nobody has opened it: Alipay knows no such trade
		if _, err := w.payments().Query(ctx, "H1", order); err != nil || status(order) != "PAYING" {
			t.Fatal(status(order), err)
		}
	}
	var prepay channels.Prepay
	if err := json.Unmarshal([]byte(page.GetPayment().GetPrepay()), &prepay); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{"code": prepay.URL})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post(w.sandbox.Addresses.Admin+"/pay", "application/json", strings.NewReader(string(body)))
	if err != nil || answer.Body.Close() != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer, err)
	}
	w.await("the notice pays", func() bool { return status(order) == "SUCCESS" })
	if found, err := w.Verify(ctx); err != nil || len(found) > 0 {
		t.Errorf("the books: %v, %v", found, err)
	}
}
