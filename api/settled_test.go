package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels/sandbox/livebank"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
)

// settledSetup is a public hospital on mode A and a private one on mode B, with their
// banks, and the platform with an account of its own.
const settledSetup = `
region: {code: R1, name: 示范区}
apps:
  - {name: HTAPP, hospitals: [H1, H2]}
own_bank_accounts:
  - {account: "0001", name: 平台公司, bank: 招商银行, connection: {url: BANK_URL, settings: LINK}}
hospitals:
  - code: H1
    name: 海天示范医院
    ownership: PUBLIC
    his_calls: PLATFORM
    his: {url: HIS/H1, format: XML, secret: "file:KEYS/his-H1.key"}
    bank_accounts:
      - {account: "6801", name: 海天示范医院, bank: 招商银行, role: SETTLEMENT, connection: {url: BANK_URL, settings: LINK}}
    merchants:
      - {channel: WECHAT, merchant_no: "1900000101", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0,
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT_URL", key: "file:KEYS/1900000101/api_v2.key"}}}
  - code: H2
    name: 民营医院
    ownership: PRIVATE
    his_calls: PLATFORM
    his: {url: HIS/H2, secret: "file:KEYS/his-H2.key"}
    bank_accounts:
      - {account: "6802", name: 存管专户, bank: 招商银行, role: CUSTODY, connection: {url: BANK_URL, settings: LINK}}
    merchants:
      - {channel: WECHAT, merchant_no: "1900000102", kind: DIRECT, settle_mode: B, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6802", retained_fen: 0,
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wx2, base_url: "WECHAT_URL", key: "file:KEYS/1900000102/api_v2.key"}}}
`

// newSettled is the lived house with a bank, and the desk of those who pay out.
func newSettled(t *testing.T) (*lived, *bankHouse) {
	t.Helper()
	return openSettled(t, settledSetup)
}

func openSettled(t *testing.T, setup string) (*lived, *bankHouse) {
	t.Helper()
	link := `{environment: SANDBOX, customer: C1, bic: CMBCCNBS, key_id: ` + livebank.CustomerKey + `, private_key: "file:KEYS/bank/customer_key.pem", bank_key.` +
		livebank.BankKey + `: "file:KEYS/bank/bank_pub.pem"}`
	master := strings.ReplaceAll(setup, "LINK", link)
	l := openLived(t, master, []livebank.Account{{No: "0001", Name: "平台公司", OpeningFen: 100000}, {No: "6801", Name: "海天示范医院", OpeningFen: 500}, {No: "6802", Name: "存管专户"}})
	h := &bankHouse{payoutHouse: &payoutHouse{Server: l.Server}, t: t}
	h.set(l.clock())
	h.moved = func(now time.Time) { l.at.Store(now.Unix()) }
	h.seat(t)
	return l, h
}

// morning plays one by the clock: details, payout of the channel, bills, run.
func (l *lived) morning(day ledger.Day) {
	l.t.Helper()
	for _, at := range []string{"01:00:00", "08:00:00", "10:00:00", "10:10:00", "11:30:00"} {
		l.tick(day.String() + " " + at)
	}
}

func (l *lived) balance(code string) ledger.Money {
	l.t.Helper()
	var got ledger.AccountBalance
	err := l.DB.ReadTx(l.t.Context(), func(ctx context.Context, tx pgx.Tx) (err error) {
		got, err = balanceOf(ctx, tx, code, ledger.AsOf{})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return got.Balance()
}

// atBank checks what the bank's own books have on each account.
func (l *lived) atBank(want ...int64) {
	l.t.Helper()
	answer, err := http.Get(l.out.Addresses.Admin + "/bank/accounts")
	if err != nil {
		l.t.Fatal(err)
	}
	var all []livebank.AccountView
	if err := errors.Join(json.NewDecoder(answer.Body).Decode(&all), answer.Body.Close()); err != nil {
		l.t.Fatal(err)
	}
	for i := range want {
		if i >= len(all) || all[i].BookedFen != want[i] {
			l.t.Errorf("at the bank: %+v, want %d", all, want)
			break
		}
	}
}

// C01, K02, C07: what patients pay on Tuesday reaches the banks on Wednesday, is proved
// on Thursday by statements that nobody fed, is paid out by two people, and proved.
func TestADayIsLivedFromPaymentToPayout(t *testing.T) {
	l, h := newSettled(t)
	ctx := t.Context()
	h.payee = h.account("H2-OWN", "")
	own := h.whiteListed(&payoutv1.ProposePayeeRequest{Hospital: "H1", Account: "H1-OWN", Name: "海天示范医院"})
	custody := h.whiteListed(&payoutv1.ProposePayeeRequest{Hospital: "H2", UseFor: "CUSTODY", Account: "6802", Name: "存管专户", Bank: "招商银行"})
	for i, fen := range []int64{45000, 10000, 5000} {
		for _, hospital := range []string{"H1", "H2"} {
			no := fmt.Sprint("B", hospital, i)
			l.admin("/his/bills", fmt.Sprintf(`{"hospital":%q,"bill_no":%q,"fen":%d,"biz_type":"OUTPATIENT"}`, hospital, no, fen))
			l.payAt(hospital, no, fen, pay.Outpatient)
		}
	}
	l.after(5 * time.Second)
	for _, day := range []ledger.Day{20260916, 20260917} {
		l.morning(day)
	}
	const paid, fee = 60000, 360
	l.atBank(100000, 500+paid-fee, paid-fee)
	payable, err := h.maker.ListPayable(ctx, &payoutv1.ListPayableRequest{})
	if got := payable.GetHospitals(); err != nil || len(got) != 1 || got[0].GetHospital() != "H2" || got[0].GetReleasedFen() != paid || got[0].GetHeldFen() != paid-fee || got[0].GetPayableFen() != paid-fee {
		t.Fatal(payable, err)
	}
	due, err := h.maker.ListSubsidies(ctx, &payoutv1.ListSubsidiesRequest{Hospital: "H1"})
	if err != nil || len(due.GetSubsidies()) != 1 || due.GetSubsidies()[0].GetAmountFen() != fee {
		t.Fatal(due, err)
	}
	h.set(l.clock())
	numbers := []string{
		h.approved(paid - fee),
		h.pays(&payoutv1.RequestPayoutRequest{Kind: "SUBSIDY", Hospital: "H1", PayeeId: own, AmountFen: fee, Subject: due.GetSubsidies()[0].GetSettlement(), Contract: "HT-2026-01"}),
		h.pays(&payoutv1.RequestPayoutRequest{Kind: "FEE_TOPUP", Hospital: "H2", PayeeId: custody, AmountFen: fee}), // the channel kept it of what H2 is owed whole
	}
	l.tick("2026-09-17 13:00:00")
	l.tick("2026-09-17 13:00:20")
	for _, number := range numbers {
		h.is(number, "SUCCEEDED")
	}
	l.morning(20260918)
	l.atBank(100000-2*fee, 500+paid-fee, fee)
	for code, want := range map[string]ledger.Money{"2208.CUST.6802.H2": 0, "2208.OWN.0001": 0, "2242.H1": 0, "2202.H2.AVAIL": fee, "1002.CUST.6802.H2": fee} {
		if left := l.balance(code); left != want {
			t.Errorf("%s still has %s, want %s", code, left, want)
		}
	}
	if broken, err := l.Verify(ctx); err != nil || len(broken) > 0 {
		t.Errorf("the books: %v, %v", broken, err)
	}
}
