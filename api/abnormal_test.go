package api

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
	"github.com/clearward/clearward/recon"
)

// turned has the app give a payment back by a refund that the channel then calls
// abnormal, so many seconds later.
func (l *lived) turned(order string, fen int64, seconds int) *payv1.Refund {
	l.t.Helper()
	l.admin("/faults", fmt.Sprintf(`{"do":"REFUND_ABNORMAL","order":%q,"seconds":%d}`, order, seconds))
	r, err := l.back(order, fen)
	if err != nil || r.GetStatus() != "APPROVING" {
		l.t.Fatal(r, err)
	}
	done, err := l.head.DecideRefund(l.t.Context(), &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: r.GetRefundNo(), Approve: true, AmountFen: fen})
	if err != nil || done.GetRefund().GetStatus() != "SUCCESS" || done.GetRefund().GetAbnormal() {
		l.t.Fatal(done, err)
	}
	return done.GetRefund()
}

// V2 has no application for an abnormal refund: it is said so, whoever may ask; the
// merchant platform does it, and the next query sees it.
func TestAnAbnormalRefundOfV2IsHandledOnTheMerchantPlatform(t *testing.T) {
	l, h := newSettled(t)
	ctx := t.Context()
	l.bill("B1", 9000, pay.Outpatient)
	p := l.pay("B1", 9000, pay.Outpatient)
	l.after(5 * time.Second)
	no := l.turned(p.GetOrderNo(), 9000, 1).GetRefundNo()
	l.after(90 * time.Second)
	all, err := l.head.ListRefunds(ctx, &payv1.ListRefundsRequest{Hospital: "H1", Status: "ABNORMAL"})
	if err != nil || len(all.GetRefunds()) != 1 || !strings.Contains(all.GetRefunds()[0].GetToDo(), "商户平台") || !strings.Contains(all.GetRefunds()[0].GetToDoEn(), "merchant platform") {
		t.Fatal(all, err)
	}
	apply := &payv1.ApplyAbnormalRefundRequest{IdempotencyKey: "k1", Hospital: "H1", RefundNo: no}
	_, err = l.refunding.ApplyAbnormalRefund(ctx, apply)
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", "refund.apply")
	_, err = l.head.ApplyAbnormalRefund(ctx, apply)
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", "refund.apply")
	maker := payv1connect.NewRefundServiceClient(h.door.Client(), h.door.URL, bearer(newKey(t, l.Server, "王出纳", auth.Treasurer)))
	_, err = maker.ApplyAbnormalRefund(ctx, apply)
	tells(t, err, connect.CodeFailedPrecondition, "MERCHANT_PLATFORM", "takes no application for an abnormal refund", "该商户号不能由系统申请异常退款，请财务在渠道商户平台办理，系统会查询到结果。", false)
	_, err = maker.DecideAbnormalRefund(ctx, &payv1.DecideAbnormalRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: no, Approve: true})
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", "refund.decide")
	l.admin("/abnormal", `{"merchant":"1900000101","refund":"`+no+`","to":"CARD"}`)
	l.after(24 * time.Hour) // D+1
	r, err := maker.GetRefund(ctx, &payv1.GetRefundRequest{Hospital: "H1", RefundNo: no})
	if err != nil || r.GetRefund().GetSuccessAt() == nil || r.GetRefund().GetAbnormal() {
		t.Error(r, err)
	}
	if found, err := l.Verify(ctx); err != nil || len(found) > 0 {
		t.Errorf("the books: %v, %v", found, err)
	}
}

// Scenario 16 lived: a refund accepted on Tuesday turns abnormal, the run makes it a
// case, the treasurer applies and the head of finance approves, the channel pays the
// hospital's bank account, whose statement posts E20c, and J39 pays the patient; then
// the case is closed and nothing is left anywhere.
func TestAnAbnormalRefundComesBackByTheHospitalsBank(t *testing.T) {
	l, h := openSettled(t, strings.Replace(settledSetup, `{api: V2, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT_URL", key: "file:KEYS/1900000101/api_v2.key"}}`,
		`{api: V3, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT_URL", key: "file:KEYS/1900000101/api_v2.key", v3_key: "file:KEYS/1900000101/api_v3.key", private_key: "file:KEYS/1900000101/merchant_key.pem", certificate: "file:KEYS/1900000101/merchant_cert.pem"}}`, 1))
	ctx := t.Context()
	for no, fen := range map[string]int64{"B1": 45000, "B2": 10000} {
		l.bill(no, fen, pay.Outpatient)
		l.pay(no, fen, pay.Outpatient)
	}
	l.bill("B3", 5000, pay.Outpatient)
	p := l.pay("B3", 5000, pay.Outpatient)
	l.after(5 * time.Second)
	r := l.turned(p.GetOrderNo(), 5000, 90_000)
	for _, day := range []ledger.Day{20260916, 20260917} {
		l.morning(day)
	}
	d, err := l.Engine.Load(ctx, 20260915)
	if err != nil || len(d.Items) != 1 || d.Items[0].Code != recon.F6 || d.Items[0].Amount != 5000 {
		t.Fatalf("%+v, %v", d.Items, err)
	}
	l.stands(map[string]ledger.Money{"1125.WX.1900000101": 5000, "2205.WX.1900000101": 5000})
	h.set(l.clock())
	maker := payv1connect.NewRefundServiceClient(h.door.Client(), h.door.URL, bearer(newKey(t, l.Server, "王出纳", auth.Treasurer)))
	for range 2 {
		asked, err := maker.ApplyAbnormalRefund(ctx, &payv1.ApplyAbnormalRefundRequest{IdempotencyKey: "k1", Hospital: "H1", RefundNo: r.GetRefundNo()})
		if err != nil || asked.GetRefund().GetApplication().GetState() != "ASKED" || asked.GetRefund().GetApplication().GetMaker() != "王出纳" {
			t.Fatal(asked, err)
		}
	}
	decide := &payv1.DecideAbnormalRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: r.GetRefundNo(), Approve: true, AmountFen: 500}
	_, err = l.head.DecideAbnormalRefund(ctx, decide)
	denied(t, err, connect.CodeFailedPrecondition, "AMOUNT_DIFFERS", "5.00 is read back")
	decide.IdempotencyKey, decide.AmountFen = rand.Text(), 5000
	l.admin("/faults", `{"do":"DROP","api":"abnormal","commit":true}`)
	sent, err := l.head.DecideAbnormalRefund(ctx, decide)
	if err != nil || sent.GetRefund().GetApplication().GetState() != "SENT" {
		t.Fatal(sent, err)
	}
	j39 := &payoutv1.RequestPayoutRequest{Kind: "REROUTED_REFUND", Hospital: "H1", AmountFen: 5000, Subject: r.GetRefundNo(), Channel: "WECHAT", MerchantNo: "1900000101",
		Patient: &payoutv1.Patient{Name: "张三", Account: "6222000011112222", Bank: "招商银行", Reason: "原卡已注销", Proof: "身份证已核"}}
	j39.IdempotencyKey = "early"
	_, err = h.maker.RequestPayout(ctx, j39)
	denied(t, err, connect.CodeFailedPrecondition, "NOT_OWED", "owes 0.00")
	l.tick("2026-09-17 13:00:00")
	got, err := maker.GetRefund(ctx, &payv1.GetRefundRequest{Hospital: "H1", RefundNo: r.GetRefundNo()})
	if err != nil || got.GetRefund().GetApplication().GetState() != "PAID" || got.GetRefund().GetSuccessAt() != nil {
		t.Fatal(got, err)
	}
	l.stands(map[string]ledger.Money{"1125.WX.1900000101": 5000, "2205.WX.1900000101": 5000})
	for _, day := range []ledger.Day{20260918, 20260919, 20260921} {
		l.morning(day)
	}
	l.stands(map[string]ledger.Money{"1002.HOSP.6801": 5000, "2205.WX.1900000101": 5000})
	h.set(l.clock())
	number := h.pays(j39)
	l.tick("2026-09-21 13:00:00")
	l.tick("2026-09-21 13:00:20")
	h.is(number, "SUCCEEDED")
	for _, day := range []ledger.Day{20260922, 20260923} {
		l.morning(day)
	}
	l.stands(nil)
	got, err = maker.GetRefund(ctx, &payv1.GetRefundRequest{Hospital: "H1", RefundNo: r.GetRefundNo()})
	if err != nil || got.GetRefund().GetApplication().GetState() != "REROUTED" || got.GetRefund().GetTell() == "" {
		t.Error(got, err)
	}
	cases, err := l.Engine.Cases(ctx, 0, true)
	if err != nil || len(cases) != 1 || cases[0].State != recon.CaseAutoClosed {
		t.Errorf("%+v, %v", cases, err)
	}
	acts, err := l.Acts(ctx, 20260917, 20260917, "王出纳")
	if err != nil || len(acts) != 1 || acts[0].Act != "refund.abnormal" || acts[0].Subject != r.GetRefundNo() {
		t.Errorf("%v, %v", acts, err)
	}
	if broken, err := l.Verify(ctx); err != nil || len(broken) > 0 {
		t.Errorf("the books: %v, %v", broken, err)
	}
}

// stands checks what the accounts have on which an abnormal refund may stand.
func (l *lived) stands(want map[string]ledger.Money) {
	l.t.Helper()
	for _, code := range []string{"1125.WX.1900000101", "2205.WX.1900000101", "1002.HOSP.6801", "2208.HOSP.6801", "2243.6801"} {
		if got := l.balance(code); got != want[code] {
			l.t.Errorf("%s has %s, want %s", code, got, want[code])
		}
	}
}

// A credit that names nothing is found by people to be the money of an abnormal refund:
// E29 gives way to E20c, once, and the same line brings no other refund's money.
func TestACreditWithoutANumberIsIdentifiedAsAnAbnormalRefund(t *testing.T) {
	l, _ := newSettled(t)
	ctx := t.Context()
	for no, fen := range map[string]int64{"B1": 45000, "B2": 9000, "B3": 9000} {
		l.bill(no, fen, pay.Outpatient)
	}
	l.pay("B1", 45000, pay.Outpatient)
	p, other := l.pay("B2", 9000, pay.Outpatient), l.pay("B3", 9000, pay.Outpatient)
	l.after(5 * time.Second)
	r, r2 := l.turned(p.GetOrderNo(), 9000, 1), l.turned(other.GetOrderNo(), 9000, 1)
	l.after(90 * time.Second)
	l.morning(20260916)
	l.set("2026-09-17 07:00:00")
	l.admin("/bank/credit", `{"account":"6801","fen":9000,"party":"财付通支付科技有限公司","party_account":"243300133","text":"退款"}`)
	l.morning(20260917)
	l.morning(20260918)
	l.stands(map[string]ledger.Money{"1125.WX.1900000101": 18000, "2205.WX.1900000101": 18000, "1002.HOSP.6801": 9000, "2243.6801": 9000})
	cases, err := l.Engine.Cases(ctx, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(cases, func(c recon.Case) bool { return c.Code == recon.BankUnidentified })
	if i < 0 {
		t.Fatalf("%+v", cases)
	}
	decide := func(who, act, refund string) error {
		_, err := l.Engine.Decide(ctx, recon.Decision{CaseID: cases[i].ID, Who: who, Act: act, Resolution: "ABNORMAL_CREDIT", Detail: refund})
		return err
	}
	if err := decide("m", "propose", "HR1"); err != nil {
		t.Fatal(err)
	}
	if err := decide("c", "approve", ""); !errors.Is(err, pay.ErrNotFound) {
		t.Errorf("of a refund that nobody knows: %v", err)
	}
	if _, err := l.Engine.Decide(ctx, recon.Decision{CaseID: cases[i].ID, Who: "c", Act: "reject", Reason: "no such refund"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(decide("m", "propose", r.GetRefundNo()), decide("c", "approve", "")); err != nil {
		t.Fatal(err)
	}
	l.stands(map[string]ledger.Money{"1125.WX.1900000101": 9000, "2205.WX.1900000101": 18000, "1002.HOSP.6801": 9000})
	l.morning(20260919)
	l.stands(map[string]ledger.Money{"1125.WX.1900000101": 9000, "2205.WX.1900000101": 18000, "1002.HOSP.6801": 9000})
	for no, want := range map[string]string{r.GetRefundNo(): "ARRIVED", r2.GetRefundNo(): ""} {
		got, err := l.head.GetRefund(ctx, &payv1.GetRefundRequest{Hospital: "H1", RefundNo: no})
		if err != nil || got.GetRefund().GetApplication().GetState() != want {
			t.Errorf("%v, %v, want %q", got, err, want)
		}
	}
	if broken, err := l.Verify(ctx); err != nil || len(broken) > 0 {
		t.Errorf("the books: %v, %v", broken, err)
	}
}
