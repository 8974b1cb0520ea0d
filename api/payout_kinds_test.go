package api

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels/sandbox/livebank"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
)

// ownAndPublic is the platform with an account of its own, and a public hospital.
const ownAndPublic = `
region: {code: R1, name: 示范区}
own_bank_accounts:
  - {account: "0001", name: 平台公司, bank: 招商银行}
hospitals:
  - code: H1
    name: 海天示范医院
    ownership: PUBLIC
    his_calls: APP
    bank_accounts:
      - {account: "6801", name: 海天示范医院, bank: 招商银行, role: SETTLEMENT}
    merchants:
      - {channel: WECHAT, merchant_no: W1, kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0}
`

// owing puts into the books what is paid out in mode A: a fee that the hospital bore,
// a loss that the platform bears, and a refund that its route cannot take.
func (h *bankHouse) owing() {
	h.t.Helper()
	dir, err := h.directory(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	m, _ := dir.Merchant("WECHAT", "W1")
	bank, _ := dir.Bank("H1", "6801")
	hospital, _ := dir.Hospital("H1")
	day := ledger.DayOf(noon())
	h.post(h.t, clearing.Event{Merchant: m, Bank: bank, Day: day, Amount: 90000, Fee: 600, Order: "O1", Settlement: "S1"}, "J01", "J02", "J25", "J28a", "J28b")
	h.post(h.t, clearing.Event{Merchant: m, Day: day, Amount: 600, Order: "O1b"}, "J01", "J02", "J25")
	h.post(h.t, clearing.Event{Merchant: m, Bank: bank, Day: day, Amount: 50000, Fee: 600, Settlement: "S1"}, "J28c")
	h.post(h.t, clearing.Event{Hospital: hospital, Mode: "A", Day: day, Amount: 4500, Case: "C1", Maker: "a", Checker: "b"}, "E08a")
	h.post(h.t, clearing.Event{Merchant: m, Day: day, Amount: 12000, Refund: "R1"}, "J18")
}

// C07, U22, K01: what is paid out of a public hospital's house is subsidy with its
// contract, compensation, and a refund by another route, each by two people; the
// statements prove them and nothing is left of the debts.
func TestInModeAASubsidyACompensationAndAPatientArePaid(t *testing.T) {
	h, ctx := &bankHouse{payoutHouse: openDesk(t, ownAndPublic), t: t}, t.Context()
	h.owing()
	h.connect(ownAndPublic, livebank.Account{No: "0001", Name: "平台公司", OpeningFen: 10000}, livebank.Account{No: "6801", Name: "海天示范医院", OpeningFen: 89400})
	h.payee = h.whiteListed(&payoutv1.ProposePayeeRequest{Hospital: "H1", Account: "H1-OWN", Name: "海天示范医院"})
	h.clock(thursday, "13:00:00")
	subsidy := &payoutv1.RequestPayoutRequest{Kind: "SUBSIDY", Hospital: "H1", AmountFen: 600, Subject: "S1", IdempotencyKey: h.key()}
	_, err := h.maker.RequestPayout(ctx, subsidy)
	denied(t, err, connect.CodeInvalidArgument, "PAYOUT_REQUEST", "a fee subsidy names its contract")
	_, err = h.maker.RequestPayout(ctx, &payoutv1.RequestPayoutRequest{Kind: "HOSPITAL", Hospital: "H1", AmountFen: 600, IdempotencyKey: h.key()})
	denied(t, err, connect.CodeFailedPrecondition, "PAYOUT_FORBIDDEN", "is refused for a public hospital")
	due, err := h.maker.ListSubsidies(ctx, &payoutv1.ListSubsidiesRequest{Hospital: "H1"})
	if err != nil || len(due.GetSubsidies()) != 1 || due.GetSubsidies()[0].GetSettlement() != "S1" || due.GetSubsidies()[0].GetAmountFen() != 600 {
		t.Fatal(due, err)
	}
	subsidy.Contract = "HT-2026-01"
	numbers := []string{
		h.pays(subsidy),
		h.pays(&payoutv1.RequestPayoutRequest{Kind: "COMPENSATION", Hospital: "H1", AmountFen: 4500, Subject: "C1"}),
		h.pays(&payoutv1.RequestPayoutRequest{Kind: "REROUTED_REFUND", Hospital: "H1", AmountFen: 12000, Subject: "R1", Channel: "WECHAT", MerchantNo: "W1",
			Patient: &payoutv1.Patient{Account: "6222020000000001", Name: "钱病人", Bank: "工商银行", Cnaps: "102100099996", Reason: "卡已注销", Proof: "scan-17"}}),
	}
	h.job(h.sendPayouts, 3)
	h.after(11 * time.Second)
	h.job(h.pollPayouts, 3)
	for _, number := range numbers {
		h.is(number, "SUCCEEDED")
	}
	if got := h.bank.Accounts(); got[0].BookedFen != 10000-600-4500 || got[1].BookedFen != 89400-12000 {
		t.Errorf("at the bank: %+v", got)
	}
	h.clock(thursday.Add(1), "08:00:00")
	h.job(h.fetchStatements, 2)
	if _, err := h.Reconcile(ctx, thursday.Add(-1), nil); err != nil {
		t.Fatal(err)
	}
	h.nothingLeft(ctx)
}

// nothingLeft checks that no debt and no transfer under way stands in the books.
func (h *bankHouse) nothingLeft(ctx context.Context) {
	h.t.Helper()
	err := h.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		all, err := ledger.TrialBalance(ctx, tx, clearing.PlatformBook, ledger.AsOf{})
		for _, b := range all {
			for _, debt := range []string{"2205", "2208", "2242", "2245"} {
				if strings.HasPrefix(b.Code, debt) && b.Balance() != 0 {
					h.t.Errorf("%s still has %s", b.Code, b.Balance())
				}
			}
		}
		return err
	})
	if err != nil {
		h.t.Error(err)
	}
}

// K03: a limit gives no right that a role has not.
func TestARoleGetsNoLimitForWhatItMayNotDo(t *testing.T) {
	h := openDesk(t, ownAndPublic)
	path := filepath.Join(t.TempDir(), "rules.yaml")
	for text, says := range map[string]string{
		`limits: [{role: TREASURER, act: APPROVE, from: "2026-09-16", each_fen: 1, day_fen: 1}]`:    "rules.yaml: rules of payouts refused: the limit of TREASURER to APPROVE",
		`limits: [{role: AUDITOR, act: REQUEST, from: "2026-09-16", each_fen: 1, day_fen: 1}]`:      "may not payout.request as AUDITOR",
		`limits: [{role: FINANCE_HEAD, act: APPROVE, from: "2026-09-16", each_fen: 1, day_fen: 2}]`: "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, added, err := h.SetPayoutRules(t.Context(), path)
		if says == "" && (err != nil || added != 1) || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %d, %v, want %q", text, added, err, says)
		}
	}
}

// A bank that pays on Saturday proves it on Saturday's statement, which the run of
// Friday reads.
func TestAPayoutOfTheWeekendIsProvedByItsStatement(t *testing.T) {
	h, ctx := openBank(t), t.Context()
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(rules, []byte(`windows: [{account: "8801", from: "2026-09-17", opens: "00:00", closes: "24:00", every_day: true}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.SetPayoutRules(ctx, rules); err != nil {
		t.Fatal(err)
	}
	h.clock(thursday.Add(2), "10:00:00")
	number := h.approved(30000)
	h.job(h.sendPayouts, 1)
	h.after(11 * time.Second)
	h.job(h.pollPayouts, 1)
	h.is(number, "SUCCEEDED")
	h.clock(thursday.Add(3), "08:00:00")
	h.job(h.fetchStatements, 1)
	for range 2 {
		if _, err := h.Reconcile(ctx, thursday.Add(1), nil); err != nil {
			t.Fatal(err)
		}
		h.nothingLeft(ctx)
	}
}
