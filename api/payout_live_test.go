package api

import (
	"context"
	"crypto/rand"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/channels/sandbox/livebank"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
	"github.com/clearward/clearward/proto/clearward/payout/v1/payoutv1connect"
	"github.com/clearward/clearward/recon"
)

// bankHouse is a payout desk whose account stands at the sandbox bank.
type bankHouse struct {
	*payoutHouse
	t     *testing.T
	bank  *livebank.Server
	admin *httptest.Server
	payee string
	keys  int
}

const thursday = ledger.Day(20260917)

func openBank(t *testing.T) *bankHouse {
	t.Helper()
	h := &bankHouse{payoutHouse: openPayouts(t), t: t}
	h.connect(privateHospital, livebank.Account{No: "8801", Name: "存管专户", OpeningFen: 100000})
	h.payee = h.account("H2-OWN", "")
	h.clock(thursday, "13:00:00")
	return h
}

// connect opens the bank and tells the house how its accounts are reached.
func (h *bankHouse) connect(master string, accounts ...livebank.Account) {
	t := h.t
	t.Helper()
	dir := t.TempDir()
	var err error
	h.bank, err = livebank.Open(livebank.Config{Dir: dir, Now: h.now, Accounts: accounts})
	if err != nil {
		t.Fatal(err)
	}
	door := httptest.NewServer(h.bank.Handler())
	h.admin = httptest.NewServer(h.bank.Admin())
	t.Cleanup(func() {
		door.Close()
		h.admin.Close()
		if err := h.bank.Close(); err != nil {
			t.Error(err)
		}
	})
	keys := filepath.Join(dir, "keys", "bank")
	connection := `, connection: {url: "` + door.URL + `", settings: {environment: SANDBOX, customer: C1, bic: CMBCCNBS, key_id: ` + livebank.CustomerKey +
		`, private_key: "file:` + keys + `/customer_key.pem", bank_key.` + livebank.BankKey + `: "file:` + keys + `/bank_pub.pem"}}`
	setup := filepath.Join(dir, "setup.yaml")
	if err := os.WriteFile(setup, []byte(strings.ReplaceAll(master, "bank: 招商银行", "bank: 招商银行"+connection)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Setup(t.Context(), setup); err != nil {
		t.Fatal(err)
	}
}

// clock sets the clock.
func (h *bankHouse) clock(day ledger.Day, text string) {
	h.t.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04:05", day.String()+" "+text, ledger.Beijing)
	if err != nil {
		h.t.Fatal(err)
	}
	h.set(at)
}

// after lets time go by.
func (h *bankHouse) after(d time.Duration) { h.set(h.at.Load().Add(d)) }

func (h *bankHouse) key() string { h.keys++; return "key_" + time.Duration(h.keys).String() }

// account puts an account on the white-list, usable a day later.
func (h *bankHouse) account(no, replaces string) string {
	h.t.Helper()
	return h.whiteListed(&payoutv1.ProposePayeeRequest{Hospital: "H2", Account: no, Name: "民营医院", Replaces: replaces})
}

func (h *bankHouse) whiteListed(asked *payoutv1.ProposePayeeRequest) string {
	h.t.Helper()
	h.after(time.Minute) // a code works once
	asked.IdempotencyKey = h.key()
	if asked.UseFor == "" {
		asked.UseFor, asked.Bank, asked.Cnaps = "HOSPITAL", "工商银行", "102100099996"
	}
	proposed, err := h.op.ProposePayee(h.t.Context(), asked)
	if err != nil {
		h.t.Fatal(err)
	}
	id := proposed.GetPayee().GetId()
	if _, err := h.checker.ApprovePayee(h.t.Context(), &payoutv1.ApprovePayeeRequest{IdempotencyKey: rand.Text(), Id: id, Code: h.code()}); err != nil {
		h.t.Fatal(err)
	}
	return id
}

// approved is a payout that one has asked for and another approved with a code.
func (h *bankHouse) approved(fen int64) string {
	h.t.Helper()
	return h.pays(&payoutv1.RequestPayoutRequest{Kind: "HOSPITAL", Hospital: "H2", PayeeId: h.payee, AmountFen: fen})
}

func (h *bankHouse) pays(r *payoutv1.RequestPayoutRequest) string {
	h.t.Helper()
	h.after(time.Minute)
	ctx := h.t.Context()
	r.IdempotencyKey = h.key()
	asked, err := h.maker.RequestPayout(ctx, r)
	if err != nil {
		h.t.Fatal(err)
	}
	p, fen := asked.GetPayout(), r.GetAmountFen()
	_, err = h.checker.ApprovePayouts(ctx, &payoutv1.ApprovePayoutsRequest{IdempotencyKey: rand.Text(), Items: []*payoutv1.ReadBack{{Number: p.GetNumber(), Payload: p.GetPayload()}},
		Count: 1, SumFen: fen, Code: h.code()})
	if err != nil {
		h.t.Fatal(err)
	}
	return p.GetNumber()
}

func (h *bankHouse) plant(fault string) {
	h.t.Helper()
	answer, err := h.admin.Client().Post(h.admin.URL+"/bank/faults", "application/json", strings.NewReader(fault))
	if err != nil || answer.StatusCode != 200 {
		h.t.Fatal(answer, err)
	}
	if err := answer.Body.Close(); err != nil {
		h.t.Error(err)
	}
}

// job does what the clock would.
func (h *bankHouse) job(run func(context.Context, time.Time) (int, error), want int) {
	h.t.Helper()
	if n, err := run(h.t.Context(), h.now()); err != nil || n != want {
		h.t.Fatalf("the job did %d (%v), want %d", n, err, want)
	}
}

func (h *bankHouse) is(number, want string) *payoutv1.Payout {
	h.t.Helper()
	got, err := h.maker.GetPayout(h.t.Context(), &payoutv1.GetPayoutRequest{Number: number})
	if err != nil || got.GetPayout().GetState() != want {
		h.t.Fatalf("payout %s is %v (%v), want %s", number, got.GetPayout(), err, want)
	}
	return got.GetPayout()
}

// atBank checks the bank's books, what is left and how many transfers of the day it
// ever had, and that ours hold every rule of payouts.
func (h *bankHouse) atBank(left int64, transfers int) {
	h.t.Helper()
	list, err := h.bank.Transfers(thursday.String())
	if got := h.bank.Accounts()[0].BookedFen; err != nil || got != left || len(list) != transfers {
		h.t.Errorf("the bank has %d left after %d transfers (%v), want %d after %d", got, len(list), err, left, transfers)
	}
	found, err := ledger.Verify(h.t.Context(), h.DB, payout.Controls()...)
	if err != nil || len(found) > 0 {
		h.t.Errorf("the books: %v, %v", found, err)
	}
}

// K03, K04, U19, U20: drop after commit is unknown, a query tells, nothing is sent
// twice, the receipt is kept.
func TestAPayoutWhoseAnswerWasLostIsAskedForAndNeverSentAgain(t *testing.T) {
	h := openBank(t)
	h.plant(`{"do":"DROP","api":"transfer","commit":true}`)
	number := h.approved(30000)
	h.job(h.sendPayouts, 1)
	h.is(number, "UNKNOWN")
	h.job(h.sendPayouts, 0)
	h.job(h.pollPayouts, 0) // not due yet
	h.after(11 * time.Second)
	h.job(h.pollPayouts, 1)
	h.is(number, "SUCCEEDED")
	h.available(t.Context(), t, 70000)
	h.atBank(70000, 1)
	_, err := h.checker.GetReceipt(t.Context(), &payoutv1.GetReceiptRequest{Number: number})
	denied(t, err, connect.CodeNotFound, "PAYOUT_UNKNOWN", "has no receipt yet")
	h.after(2 * time.Minute)
	h.job(h.pollPayouts, 1)
	receipt, err := h.checker.GetReceipt(t.Context(), &payoutv1.GetReceiptRequest{Number: number})
	if err != nil || receipt.GetCheckCode() == "" || !strings.Contains(string(receipt.GetContent()), "300.00 元") {
		t.Errorf("%+v, %v", receipt, err)
	}
	h.after(time.Hour)
	h.job(h.pollPayouts, 0)
	// What was said is on record, without names and account numbers.
	var kept, told int
	err = h.DB.Pool.QueryRow(t.Context(), `SELECT count(*), COUNT(CASE WHEN request || response LIKE '%民营医院%' OR request || response LIKE '%H2-OWN%'
		OR request || response LIKE '%存管专户%' THEN 1 END) FROM exchanges WHERE number = $1`, number).Scan(&kept, &told)
	if err != nil || kept < 3 || told > 0 {
		t.Errorf("%d exchanges are kept, %d of them tell names or accounts (%v)", kept, told, err)
	}
}

// K05: what the bank refused is available again, once a query has said so too.
func TestAPayoutThatTheBankRefusesGivesTheMoneyBack(t *testing.T) {
	h := openBank(t)
	h.plant(`{"do":"REJECT","code":"RR04"}`)
	number := h.approved(30000)
	h.available(t.Context(), t, 70000)
	h.job(h.sendPayouts, 1)
	h.is(number, "UNKNOWN")
	if _, err := h.checker.QueryPayout(t.Context(), &payoutv1.QueryPayoutRequest{Number: number}); err != nil { // a person need not wait
		t.Fatal(err)
	}
	if got := h.is(number, "REJECTED"); got.GetBankReason() != "监管拒绝" {
		t.Errorf("the reason is %q", got.GetBankReason())
	}
	h.available(t.Context(), t, 100000)
	h.atBank(100000, 1)
	h.job(h.sendPayouts, 0)
}

// U21: nothing leaves while payouts are paused.
func TestWhilePayoutsArePausedNothingLeaves(t *testing.T) {
	h := openBank(t)
	number := h.approved(30000)
	if _, err := h.op.PausePayouts(t.Context(), &payoutv1.PausePayoutsRequest{IdempotencyKey: rand.Text(), Reason: "银行通知维护"}); err != nil {
		t.Fatal(err)
	}
	h.job(h.sendPayouts, 0)
	h.is(number, "APPROVED")
	h.atBank(100000, 0)
	for _, person := range []interface {
		ResumePayouts(context.Context, *payoutv1.ResumePayoutsRequest) (*payoutv1.ResumePayoutsResponse, error)
	}{h.maker, h.checker} {
		if _, err := person.ResumePayouts(t.Context(), &payoutv1.ResumePayoutsRequest{IdempotencyKey: rand.Text()}); err != nil {
			t.Fatal(err)
		}
	}
	h.job(h.sendPayouts, 1)
	h.atBank(100000, 1)
}

// Scenario 60: what came back is frozen until the account is changed; then it is
// asked for and paid again.
func TestAReturnedPayoutIsFrozenUntilTheAccountIsChanged(t *testing.T) {
	h, ctx := openBank(t), t.Context()
	h.plant(`{"do":"RETURN","code":"AC01"}`)
	number := h.approved(30000)
	h.job(h.sendPayouts, 1)
	h.after(11 * time.Second)
	h.job(h.pollPayouts, 1)
	h.is(number, "SUCCEEDED")
	h.clock(thursday.Add(1), "07:50:00")
	h.job(h.fetchStatements, 0) // not made yet
	h.clock(thursday.Add(1), "08:00:00")
	missing, err := h.maker.ListMissingReceipts(ctx, &payoutv1.ListMissingReceiptsRequest{})
	if err != nil || len(missing.GetPayouts()) != 1 || missing.GetPayouts()[0].GetNumber() != number {
		t.Errorf("%v, %v", missing, err)
	}
	h.job(h.fetchStatements, 1)
	h.job(h.fetchStatements, 0)
	h.clock(thursday.Add(2), "08:00:00")
	h.job(h.fetchStatements, 1) // of Friday, when it came back
	for _, day := range []ledger.Day{thursday.Add(-1), thursday} {
		for _, source := range []recon.Source{recon.SourceBill, recon.SourceFund} {
			if err := h.feedNone(ctx, recon.Slice{Source: source, Hospital: "H2", Channel: "WECHAT", Account: "W2", Day: day}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Reconcile(ctx, day, nil); err != nil {
			t.Fatal(day, err)
		}
	}
	h.is(number, "RETURNED")
	h.atBank(100000, 1)
	h.available(ctx, t, 70000)
	_, err = h.maker.RequestPayout(ctx, &payoutv1.RequestPayoutRequest{IdempotencyKey: h.key(), Kind: "HOSPITAL", Hospital: "H2", PayeeId: h.payee, AmountFen: 30000})
	denied(t, err, connect.CodeFailedPrecondition, "PAYEE_NOT_ALLOWED", "")
	h.payee = h.account("H2-NEW", h.payee)
	h.available(ctx, t, 100000)
	h.clock(thursday.Add(4), "10:00:00") // Monday
	again := h.approved(30000)
	h.job(h.sendPayouts, 1)
	h.after(11 * time.Second)
	h.job(h.pollPayouts, 1)
	h.is(again, "SUCCEEDED")
	h.available(ctx, t, 70000)
	h.atBank(70000, 1) // the other is of Monday
}

// U21: a deputy approves until the last day is over, with a second factor of his own.
func TestADeputyApprovesUntilTheRightEndsByItself(t *testing.T) {
	h := openBank(t)
	key, err := h.NewDeputy(t.Context(), "周副主管", auth.FinanceHead, "李主管", thursday)
	if err != nil {
		t.Fatal(err)
	}
	h.checker, h.secret = payoutv1connect.NewPayoutServiceClient(h.door.Client(), h.door.URL, bearer(key)), h.enrol(t, "周副主管")
	number := h.approved(30000)
	if got := h.is(number, "APPROVED"); got.GetChecker() != "周副主管" {
		t.Errorf("approved by %s", got.GetChecker())
	}
	h.clock(thursday, "23:59:59")
	if _, err := h.checker.GetPayout(t.Context(), &payoutv1.GetPayoutRequest{Number: number}); err != nil {
		t.Error(err)
	}
	h.clock(thursday.Add(1), "00:00:00")
	_, err = h.checker.GetPayout(t.Context(), &payoutv1.GetPayoutRequest{Number: number})
	denied(t, err, connect.CodeUnauthenticated, "DEPUTY_ENDED", "周副主管 stood in for 李主管 until 2026-09-17T16:00:00Z")
}
