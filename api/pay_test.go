package api

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/deploy/local"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
)

const wechatKey = "0123456789abcdef0123456789abcdef"

// liveHospital is a public hospital whose WeChat number stands behind URL.
const liveHospital = `
region: {code: R1, name: 示范区}
apps:
  - {name: HTAPP, hospitals: [H1]}
hospitals:
  - code: H1
    name: 海天示范医院
    ownership: PUBLIC
    his_calls: APP
    bank_accounts:
      - {account: "6801", name: 海天示范医院, bank: 招商银行, role: SETTLEMENT}
    merchants:
      - {channel: WECHAT, merchant_no: W1, kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0,
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wx1, base_url: "URL", key: "env:CW_TEST_WX_KEY"}}}
`

// paying is a WeChat that takes every code; calls counts what it was asked to take.
func paying(t *testing.T, calls *atomic.Int32) *httptest.Server {
	t.Helper()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		asked, parseErr := wechat.ParseXML(body)
		if err != nil || parseErr != nil || asked.Verify(wechat.SignHMAC, wechatKey) != nil {
			t.Errorf("%s: not signed: %s", r.URL.Path, body)
		}
		if r.URL.Path == "/pay/micropay" {
			calls.Add(1)
		}
		m := wechat.Message{"return_code": "SUCCESS", "result_code": "SUCCESS", "appid": "wx1", "mch_id": "W1", "nonce_str": "n", "trade_type": "MICROPAY", "trade_state": "SUCCESS",
			"out_trade_no": asked["out_trade_no"], "transaction_id": "4200000001", "total_fee": "4500", "time_end": "20260916120000"}
		m["sign"] = m.Sign(wechat.SignHMAC, wechatKey)
		_, _ = w.Write(m.XML())
	}))
	t.Cleanup(h.Close)
	return h
}

func liveServer(t *testing.T, base, environment string) *Server {
	t.Helper()
	t.Setenv("CW_TEST_WX_KEY", wechatKey)
	s := open(t, folder(t))
	setup := filepath.Join(t.TempDir(), "setup.yaml")
	text := strings.NewReplacer("URL", base, "SANDBOX", environment).Replace(liveHospital)
	if err := os.WriteFile(setup, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Setup(t.Context(), setup); err != nil {
		t.Fatal(err)
	}
	return s
}

// W01, U04, M07: an app pays for its own hospital, once.
func TestAnAppPaysOverTheAPIAndOnlyForItsHospital(t *testing.T) {
	var calls atomic.Int32
	s, ctx := liveServer(t, paying(t, &calls).URL, "SANDBOX"), t.Context()
	h := served(t, s)
	of := func(name string) payv1connect.PaymentServiceClient {
		return payv1connect.NewPaymentServiceClient(signing(t, newKey(t, s, name, auth.Service), noon), h.URL)
	}
	app := of("HTAPP")
	ask := &payv1.CreatePaymentRequest{IdempotencyKey: "k1", Hospital: "H1", Channel: "WECHAT", BillNo: "B1", BizType: "OUTPATIENT", Terminal: "WINDOW1",
		Way: "CODE", AmountFen: 4500, AuthCode: "130000000000000001", ClientIp: "127.0.0.1"}
	_, err := of("OTHER").CreatePayment(ctx, ask)
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", `OTHER may not act for hospital "H1"`)
	paid, err := app.CreatePayment(ctx, ask)
	if err != nil || paid.GetPayment().GetStatus() != "SUCCESS" || paid.GetPayment().GetTell() != "支付成功。" || paid.GetPayment().GetMayChargeAgain() {
		t.Fatal(paid, err)
	}
	again, err := app.CreatePayment(ctx, ask)
	if err != nil || again.GetPayment().GetOrderNo() != paid.GetPayment().GetOrderNo() || calls.Load() != 1 {
		t.Errorf("the same again: %v, %v; the channel was asked %d times", again, err, calls.Load())
	}
	ask.AmountFen = 4600
	_, err = app.CreatePayment(ctx, ask)
	denied(t, err, connect.CodeAlreadyExists, "KEY_CONFLICT", "amount_fen")
	ask.AmountFen, ask.IdempotencyKey = 4500, "k2"
	_, err = app.CreatePayment(ctx, ask)
	denied(t, err, connect.CodeFailedPrecondition, "ALREADY_PAID", "")
	acked, err := app.AcknowledgePayment(ctx, &payv1.AcknowledgePaymentRequest{IdempotencyKey: rand.Text(), Hospital: "H1", OrderNo: paid.GetPayment().GetOrderNo(), BillNo: "B1", ReceiptNo: "R1", AmountFen: 4500})
	if err != nil || acked.GetPayment().GetAcknowledgedFen() != 4500 {
		t.Errorf("%v, %v", acked, err)
	}
	if found, err := s.Verify(ctx); err != nil || len(found) > 0 {
		t.Errorf("the books: %v, %v", found, err)
	}
	_, err = app.GetPayment(ctx, &payv1.GetPaymentRequest{Hospital: "H1", OrderNo: "HP1"})
	denied(t, err, connect.CodeNotFound, "NOT_FOUND", "HP1")
}

// Scenario 37.
func TestServingIsRefusedWhereProductionAndSandboxMix(t *testing.T) {
	s := liveServer(t, "http://127.0.0.1:1", "PRODUCTION")
	err := Serve(t.Context(), Config{Local: local.Config{DataDir: s.stack.DataDir}, Now: noon}, ServeOptions{Listen: "127.0.0.1:0"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "production and sandbox do not mix") || !strings.Contains(err.Error(), "W1") {
		t.Errorf("served: %v", err)
	}
}
