package api

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/deploy/local"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
)

// The refusals that issue 3 names, each with its code and its sentence. Those that
// have a test of their own beside what they are about: a key without a role
// (server_test.go), mode B for a public hospital (clearing/setup_test.go).

// ask is a payment by code.
func (w *world) ask(key, bill string, fen int64) *payv1.CreatePaymentRequest {
	return &payv1.CreatePaymentRequest{IdempotencyKey: key, Hospital: "H1", Channel: "WECHAT", MerchantNo: "1900000101", BillNo: bill, BizType: "OUTPATIENT",
		Terminal: "WIN1", Way: "CODE", AmountFen: fen, AuthCode: "130000000000000050", ClientIp: "127.0.0.1"}
}

// tells checks the code, the sentence, what the cashier reads, and whether to charge again.
func tells(t *testing.T, err error, code connect.Code, name, says, tell string, again bool) {
	t.Helper()
	denied(t, err, code, name, says)
	if r := refusalOf(t, err); r.GetTell() != tell || r.GetMayChargeAgain() != again || r.GetNext() == "" {
		t.Errorf("%s: tells %q, charge again %v, next %q", name, r.GetTell(), r.GetMayChargeAgain(), r.GetNext())
	}
}

// U02, U04, A08: replay, other body, second payment of a bill.
func TestWhatIsRefusedOfAPaymentTellsTheCashierWhatToSay(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	_, err := payv1connect.NewPaymentServiceClient(http.DefaultClient, w.url).CreatePayment(ctx, w.ask("k0", "B0", 4500))
	denied(t, err, connect.CodeUnauthenticated, "NO_KEY", "payment.write is done in somebody's name")
	first, err := w.pay.CreatePayment(ctx, w.ask("k1", "B1", 4500))
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.pay.CreatePayment(ctx, w.ask("k1", "B1", 4500))
	if err != nil || again.GetPayment().GetOrderNo() != first.GetPayment().GetOrderNo() {
		t.Errorf("the same again: %v, %v", again, err)
	}
	_, err = w.pay.CreatePayment(ctx, w.ask("k1", "B1", 4501))
	tells(t, err, connect.CodeAlreadyExists, "KEY_CONFLICT", "amount_fen", "该请求编号已用于另一笔支付，请查询原订单，不要再次收费。", false)
	_, err = w.pay.CreatePayment(ctx, w.ask("k2", "B1", 4500))
	tells(t, err, connect.CodeFailedPrecondition, "ALREADY_PAID", "bill B1 is paid by "+first.GetPayment().GetOrderNo(), "该账单已支付，不要再次收费。", false)
	waits := w.ask("k3", "B2", 4500)
	waits.Way, waits.AuthCode = "QR", ""
	if _, err := w.pay.CreatePayment(ctx, waits); err != nil {
		t.Fatal(err)
	}
	_, err = w.pay.CreatePayment(ctx, w.ask("k4", "B2", 4500))
	tells(t, err, connect.CodeFailedPrecondition, "PAYMENT_LIVE", "of bill B2 is under way (PAYING): close it first", "该账单有一笔支付正在进行，请查询结果或先关闭，不要再次收费。", false)
	wrong := w.ask("k5", "B3", 4500)
	wrong.AuthCode = "123"
	_, err = w.pay.CreatePayment(ctx, wrong)
	tells(t, err, connect.CodeInvalidArgument, "FIELD", "is not a payment code of WECHAT", "付款码无效，请患者刷新付款码后重新扫码。", true)
	_, err = w.refund.CreateRefund(ctx, w.back(first.GetPayment().GetOrderNo(), 4501))
	tells(t, err, connect.CodeFailedPrecondition, "REFUNDABLE", "45.01 is asked, 45.00 may be given back", "超出可退金额，未退款。请核对可退金额。", false)
}

// M02: another person decides, on what was read back; the same word again changes
// nothing, and a no reaches whoever asked.
func TestARefundIsDecidedByAnotherPersonWhoReadsItBack(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	p := w.paid("B1", 9000)
	ask := w.back(p.GetOrderNo(), 4000)
	ask.Maker = " 李 主管" // spaces and case make nobody else
	if _, err := w.refund.CreateRefund(ctx, ask); err != nil {
		t.Fatal(err)
	}
	of, err := w.refund.ListRefunds(ctx, &payv1.ListRefundsRequest{Hospital: "H1", OrderNo: p.GetOrderNo()})
	if err != nil || len(of.GetRefunds()) != 1 || of.GetRefunds()[0].GetTell() == "" {
		t.Fatal(of, err)
	}
	decide := &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: of.GetRefunds()[0].GetRefundNo(), Approve: true, AmountFen: 400}
	_, err = w.head.DecideRefund(ctx, decide)
	tells(t, err, connect.CodeFailedPrecondition, "AMOUNT_DIFFERS", "4.00 is read back", "金额与原退款不一致，请交财务核对。", false)
	other := payv1connect.NewRefundServiceClient(http.DefaultClient, w.url, bearer(newKey(t, w.Server, "李 主管", auth.FinanceHead)))
	decide.AmountFen = 4000
	_, err = other.DecideRefund(ctx, decide)
	tells(t, err, connect.CodePermissionDenied, "MAKER_IS_CHECKER", "李 主管 asked for refund", "退款须由另一人复核，经办人不能复核。", false)
	for range 2 {
		no, err := w.head.DecideRefund(ctx, &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: decide.GetRefundNo(), Reason: "项目已执行"})
		if err != nil || no.GetRefund().GetStatus() != "FAILED" || no.GetRefund().GetReason() != "项目已执行" {
			t.Errorf("%v, %v", no, err)
		}
	}
	decide.IdempotencyKey = rand.Text()
	_, err = w.head.DecideRefund(ctx, decide)
	denied(t, err, connect.CodeFailedPrecondition, "STATE", "it waits for no approval")
}

// Golden rule 7: a notice that the channel itself signed for another merchant
// number changes nothing and is reported.
func TestANoticeForAnotherMerchantChangesNothingAndIsReported(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	waits := w.ask("qr", "B1", 4500)
	waits.Way, waits.AuthCode = "QR", ""
	made, err := w.pay.CreatePayment(ctx, waits)
	if err != nil {
		t.Fatal(err)
	}
	order := made.GetPayment().GetOrderNo()
	if _, err := w.sandbox.Plant(live.Fault{Do: live.FaultNoticeForeign, Merchant: "1900000101", Order: order}); err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post(w.sandbox.Addresses.Admin+"/pay", "application/json", strings.NewReader(`{"merchant":"1900000101","order":"`+order+`"}`))
	if err != nil || answer.Body.Close() != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer, err)
	}
	w.await("the foreign notice is counted, and the right one pays", func() bool {
		text := w.scrape()
		return strings.Contains(text, `{channel="WECHAT",state="foreign"} 1`) && strings.Contains(text, `{channel="WECHAT",state="taken"} 1`)
	})
	var kept string
	err = w.DB.Pool.QueryRow(ctx, `SELECT convert_from(canon, 'UTF8') FROM events WHERE kind = 'notice.foreign'`).Scan(&kept)
	if err != nil || !strings.Contains(kept, "1999999999") || !strings.Contains(kept, `"hospital":"H1"`) {
		t.Errorf("kept %s, %v", kept, err)
	}
}

// Scenario 37, both ways: a production number never calls a sandbox, nor a sandbox
// flag production.
func TestASandboxFlagAndAProductionAddressDoNotGoTogether(t *testing.T) {
	for base, environment := range map[string]string{"http://127.0.0.1:1": "PRODUCTION", "https://api.mch.weixin.qq.com": "SANDBOX"} {
		s := liveServer(t, base, environment)
		err := Serve(t.Context(), Config{Local: local.Config{DataDir: s.stack.DataDir}, Now: noon}, ServeOptions{Listen: "127.0.0.1:0"}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "merchant number W1: production and sandbox do not mix: the environment is "+environment) {
			t.Errorf("%s at %s is served: %v", environment, base, err)
		}
	}
}

// A clock that is 7 minutes off signs nothing that is believed.
func TestARequestSignedByAClockSevenMinutesOffIsRefused(t *testing.T) {
	s := open(t, folder(t))
	h := served(t, s)
	key := newKey(t, s, "HTAPP", auth.Service)
	for _, off := range []time.Duration{7 * time.Minute, -7 * time.Minute} {
		client := payv1connect.NewPaymentServiceClient(signing(t, key, func() time.Time { return noon().Add(off) }), h.URL)
		_, err := client.GetPayment(t.Context(), &payv1.GetPaymentRequest{Hospital: "H1", OrderNo: "HP1"})
		denied(t, err, connect.CodeUnauthenticated, "CLOCK", "they may differ by 5m0s")
	}
}

// K03, U17: what was approved is what was shown, and an account that was changed
// waits a day.
func TestAPayoutIsRefusedWhereItIsNotWhatWasShownOrItsAccountIsNew(t *testing.T) {
	h, ctx := openPayouts(t), t.Context()
	payee := func(key, account string, replaces string) string {
		p, err := h.op.ProposePayee(ctx, &payoutv1.ProposePayeeRequest{IdempotencyKey: key, Hospital: "H2", UseFor: "HOSPITAL", Account: account, Name: "民营医院", Bank: "工商银行", Cnaps: "102100099996", Replaces: replaces})
		if err == nil {
			_, err = h.checker.ApprovePayee(ctx, &payoutv1.ApprovePayeeRequest{IdempotencyKey: rand.Text(), Id: p.GetPayee().GetId(), Code: h.code()})
		}
		if err != nil {
			t.Fatal(err)
		}
		return p.GetPayee().GetId()
	}
	first := payee("y1", "H2-OWN", "")
	h.set(noon().Add(25 * time.Hour))
	asked, err := h.maker.RequestPayout(ctx, &payoutv1.RequestPayoutRequest{IdempotencyKey: "p1", Kind: "HOSPITAL", Hospital: "H2", PayeeId: first, AmountFen: 30000})
	if err != nil {
		t.Fatal(err)
	}
	shown, err := hex.DecodeString(asked.GetPayout().GetPayload())
	if err != nil || hmac.Equal(shown, make([]byte, len(shown))) {
		t.Fatal(asked, err)
	}
	edited := bytes.Clone(shown)
	edited[0] ^= 1
	approve := func(payload []byte) error {
		_, err := h.checker.ApprovePayouts(ctx, &payoutv1.ApprovePayoutsRequest{IdempotencyKey: rand.Text(), Items: []*payoutv1.ReadBack{{Number: asked.GetPayout().GetNumber(), Payload: hex.EncodeToString(payload)}},
			Count: 1, SumFen: 30000, Code: h.code()})
		return err
	}
	denied(t, approve(edited), connect.CodeFailedPrecondition, "PAYLOAD_EDITED", "")
	h.set(noon().Add(26 * time.Hour))
	second := payee("y2", "H2-NEW", first)
	_, err = h.maker.RequestPayout(ctx, &payoutv1.RequestPayoutRequest{IdempotencyKey: "p2", Kind: "HOSPITAL", Hospital: "H2", PayeeId: second, AmountFen: 30000})
	denied(t, err, connect.CodeFailedPrecondition, "PAYEE_HELD", "")
	h.set(noon().Add(26*time.Hour + time.Minute))
	denied(t, approve(shown), connect.CodeFailedPrecondition, "PAYEE_NOT_ALLOWED", "")
	h.available(ctx, t, 70000)
}

// Settle mode B is refused for a public hospital where the setup is stored, whoever
// brings it.
func TestModeBForAPublicHospitalIsRefusedBySetup(t *testing.T) {
	s := open(t, folder(t))
	setup := filepath.Join(t.TempDir(), "setup.yaml")
	if err := os.WriteFile(setup, []byte(strings.Replace(privateHospital, "PRIVATE", "PUBLIC", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Setup(t.Context(), setup)
	refused(t, "mode B for a public hospital", err, clearing.ErrSetup, "settle_mode: B is refused: hospital H2 is public", "nothing was stored")
	dir, err := s.directory(t.Context())
	if _, stored := dir.Merchant("WECHAT", "W2"); err != nil || stored {
		t.Errorf("stored: %v, %v", stored, err)
	}
}

// M02: above the finance head's limit two people approve beside the one who asked.
func TestARefundOverTheHeadsLimitTakesTwoCheckers(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	large := w.ask("qr", "B1", 1_000_100)
	large.Way, large.AuthCode = "QR", ""
	made, err := w.pay.CreatePayment(ctx, large)
	if err != nil {
		t.Fatal(err)
	}
	order := made.GetPayment().GetOrderNo()
	answer, err := http.Post(w.sandbox.Addresses.Admin+"/pay", "application/json", strings.NewReader(`{"merchant":"1900000101","order":"`+order+`"}`))
	if err != nil || answer.Body.Close() != nil {
		t.Fatal(err)
	}
	w.await("it is paid", func() bool {
		p, err := w.pay.GetPayment(ctx, &payv1.GetPaymentRequest{Hospital: "H1", OrderNo: order})
		return err == nil && p.GetPayment().GetStatus() == "SUCCESS"
	})
	ask := w.back(order, 1_000_100)
	waits, err := w.refund.CreateRefund(ctx, ask)
	if err != nil || waits.GetRefund().GetNeedsCheckers() != 2 || !strings.Contains(waits.GetRefund().GetApproval(), "over the finance head's limit of 10000.00: two people approve it") {
		t.Fatal(waits, err)
	}
	yes := &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: waits.GetRefund().GetRefundNo(), Approve: true}
	for range 2 { // one person twice is one person
		yes.IdempotencyKey = rand.Text()
		first, err := w.head.DecideRefund(ctx, yes)
		if err != nil || first.GetRefund().GetStatus() != "APPROVING" || first.GetRefund().GetFirstChecker() != "李主管" {
			t.Fatal(first, err)
		}
	}
	other := payv1connect.NewRefundServiceClient(http.DefaultClient, w.url, bearer(newKey(t, w.Server, "周院长", auth.FinanceHead)))
	second, err := other.DecideRefund(ctx, yes)
	if err != nil || second.GetRefund().GetStatus() != "SUCCESS" || second.GetRefund().GetChecker() != "周院长" || second.GetRefund().GetFirstChecker() != "李主管" {
		t.Error(second, err)
	}
	acts, err := w.Acts(ctx, 20260916, 20260916, "李主管")
	if err != nil || len(acts) != 1 || acts[0].Act != "refund.decided" {
		t.Errorf("%v, %v", acts, err)
	}
}
