package clearing

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
)

// sampleSetup is the master data of the sample day.
func sampleSetup(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/setup.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func openTest(t testing.TB) *db.DB { return dbtest.New(t, ledger.Schema, Schema) }

func mustSetup(t testing.TB, d *db.DB, text string) SetupSummary {
	t.Helper()
	summary, err := Setup(t.Context(), d, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

func loadDirectory(t testing.TB, d *db.DB) (directory *Directory) {
	t.Helper()
	err := d.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) (err error) {
		directory, err = LoadMerchants(ctx, tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return directory
}

func TestSetupOfTheSampleDay(t *testing.T) {
	d := openTest(t)
	if got := mustSetup(t, d, sampleSetup(t)); got != (SetupSummary{Hospitals: 1, Banks: 1, Merchants: 3, Rates: 3, Changed: 15}) {
		t.Errorf("%+v", got)
	}
	if got := mustSetup(t, d, sampleSetup(t)); got.Changed != 0 {
		t.Errorf("the same file again changed %d rows", got.Changed)
	}
	directory := loadDirectory(t, d)
	m, ok := directory.Merchant(channels.Alipay, "2088000000000002")
	if !ok || m.No != "20880000000000020156" || m.Retained != 800000 || m.Opening != 800000 || m.OpeningArrives != 0 {
		t.Fatalf("by its alias: %+v", m)
	}
	if m.Mode != ModeA || m.CouponBearer != ByHospital || !m.FeeReturned || m.SettlesTo != "755947919810515" || m.Ownership != Public {
		t.Errorf("%+v", m)
	}
	if got := m.FeeAt(20260915, 12345); got != 74 {
		t.Errorf("0.60 %% of 123.45 is %s", got)
	}
	if got := m.FeeAt(20251231, 12345); got != 0 {
		t.Errorf("before the first rate the fee is %s", got)
	}
	wx, _ := directory.Merchant(channels.WeChat, "1900000109")
	if wx.Opening != 1523046 || wx.OpeningArrives != 20260915 {
		t.Errorf("%+v", wx)
	}
	if len(directory.Counterparties) != 3 {
		t.Errorf("%v", directory.Counterparties)
	}
	err := d.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		for _, account := range directory.accounts() {
			if _, err := ledger.BalanceAt(ctx, tx, account.ID(), ledger.AsOf{}); err != nil {
				t.Errorf("%s: %v", account, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// more is a second file: a new hospital, a new rate, further terms.
const more = `
region: {code: R1, name: 示范区}
hospitals:
  - code: P2
    name: 民营医院
    ownership: PRIVATE
    bank_accounts:
      - {account: "8801", name: 某银行存管专户, bank: 某银行, role: CUSTODY}
    merchants:
      - channel: WECHAT
        merchant_no: W9
        settle_mode: B
        settles_to: "8801"
        coupon_bearer: PLATFORM
        fee_returned: false
        contract_no: C-9
        foreign_prefixes: [SHOP]
        rates:
          - {from: "2026-07-01", fee_rate: "0.0038", fee_bearer: HOSPITAL}
          - {from: "2026-01-01", fee_rate: "0.0060", fee_bearer: PLATFORM}
own_bank_accounts:
  - {account: "0001", name: 平台公司, bank: 某银行}
counterparties:
  - {channel: WECHAT, name: 财付通, account: "1"}
holidays: ["2026-10-01", "2026-10-02"]
workdays: ["2026-10-10"]
`

func TestSetupAddsWhatIsNew(t *testing.T) {
	d := openTest(t)
	mustSetup(t, d, sampleSetup(t))
	mustSetup(t, d, more)
	if again := mustSetup(t, d, more); again.Changed != 0 {
		t.Errorf("the same file again changed %d rows", again.Changed)
	}
	directory := loadDirectory(t, d)
	m, _ := directory.Merchant(channels.WeChat, "W9")
	if m.Mode != ModeB || m.FeeReturned || m.CouponBearer != ByPlatform || m.ContractNo != "C-9" || len(m.ForeignPrefixes) != 1 {
		t.Errorf("%+v", m)
	}
	if a, b := m.FeeAt(20260630, 10000), m.FeeAt(20260701, 10000); a != 60 || b != 38 {
		t.Errorf("fees %s and %s", a, b)
	}
	if a, b := m.BearerOn(20260630), m.BearerOn(20260701); a != ByPlatform || b != ByHospital {
		t.Errorf("bearers %s and %s", a, b)
	}
	for day, want := range map[ledger.Day]ledger.Day{20260630: 20260630, 20260701: 20260630, 20261001: 20260630} {
		if got, ok := m.LastBorneBy(ByPlatform, day); got != want || !ok {
			t.Errorf("the platform bore the fee last on %s as of %s", got, day)
		}
	}
	if got, ok := m.LastBorneBy(ByHospital, 20260630); ok {
		t.Errorf("before the change the hospital bore a fee on %s", got)
	}
	if got := m.FeeReturnedAt(20260701, 10000, 38); got != 0 {
		t.Errorf("a contract that returns no fee returned %s", got)
	}
	if b, ok := directory.Bank("", "0001"); !ok || b.Role != OwnAccount {
		t.Errorf("%v", directory.Banks)
	}
	for day, want := range map[ledger.Day]ledger.Day{20260930: 20261005, 20261009: 20261010, 20260914: 20260915, 20260918: 20260921} {
		if got := directory.Calendar.NextWorkingDay(day); got != want {
			t.Errorf("the working day after %s is %s, want %s", day, got, want)
		}
	}
	changed := strings.Replace(sampleSetup(t), "retained_fen: 800000", "retained_fen: 900000", 1)
	if got := mustSetup(t, d, changed); got.Changed != 1 {
		t.Errorf("another retained balance changed %d rows", got.Changed)
	}
	dated := strings.Replace(sampleSetup(t), `fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "755947919810515", retained_fen: 0`,
		`fee_rate: "0.0055", fee_bearer: PLATFORM, from: "2026-10-01", settles_to: "755947919810515", retained_fen: 0`, 1)
	mustSetup(t, d, dated)
	wx, _ := loadDirectory(t, d).Merchant(channels.WeChat, "1900000109")
	if a, b := wx.FeeAt(20260930, 10000), wx.FeeAt(20261001, 10000); a != 60 || b != 55 {
		t.Errorf("fees %s and %s", a, b)
	}
}

func TestSetupRefuses(t *testing.T) {
	sample := sampleSetup(t)
	for _, test := range []struct{ name, old, new, says string }{
		{"an unknown field", "ownership: PUBLIC", "ownership: PUBLIC\n    beds: 900", "line 7: field beds not found"},
		{"text for a number", "retained_fen: 800000", "retained_fen: many", "line 12: cannot unmarshal"},
		{"mode B for a public hospital", `merchant_no: "1900000109", kind: DIRECT, settle_mode: A`, `merchant_no: "1900000109", kind: DIRECT, settle_mode: B`,
			"hospital H1: merchant number WECHAT 1900000109.settle_mode: B is refused: hospital H1 is public"},
		{"an account that is not there", `settles_to: "755947919810515", retained_fen: 800000`, `settles_to: "1", retained_fen: 800000`,
			`merchant number ALIPAY 20880000000000020156.settles_to: "1" is not a bank account of hospital H1`},
		{"an account in another name", `{account: "755947919810515", name: 海天示范医院`, `{account: "755947919810515", name: 某公司`,
			`bank account 755947919810515.name: "某公司" must be the hospital's own name "海天示范医院"`},
		{"a number twice", `merchant_no: "777290058110048"`, `merchant_no: "1900000109"`, ""},
		{"a number twice in one channel", `{channel: UNIONPAY, merchant_no: "777290058110048"`, `{channel: WECHAT, merchant_no: "1900000109"`,
			"merchant number WECHAT 1900000109: 1900000109 stands twice in the file"},
		{"an alias that is a number", `aliases: ["2088000000000002"]`, `aliases: ["20880000000000020156"]`, "stands twice in the file"},
		{"a rate of ten percent", `fee_rate: "0.0060"`, `fee_rate: "0.1"`, `fee_rate: "0.1" must be decimal text from 0 to below 0.1`},
		{"a rate that is no decimal", `fee_rate: "0.0060"`, `fee_rate: "6e-3"`, "must be decimal text"},
		{"a negative rate", `fee_rate: "0.0060"`, `fee_rate: "-0.0060"`, "must be decimal text"},
		{"a negative retained balance", "retained_fen: 800000", "retained_fen: -1", "retained_fen: -1 must not be negative"},
		{"no day", `from: "2026-01-01"`, `from: "2026-02-30"`, `from: "2026-02-30" is not a day`},
		{"no ownership", "ownership: PUBLIC", "ownership: STATE", `hospital H1.ownership: "STATE" must be one of PUBLIC, PRIVATE`},
		{"a foreign bearer", "fee_bearer: PLATFORM", "fee_bearer: BANK", `fee_bearer: "BANK" must be one of PLATFORM, HOSPITAL`},
		{"a foreign channel", "channel: UNIONPAY", "channel: PAYPAL", `channel: "PAYPAL" must be one of`},
		{"a dotted code", "code: H1", "code: H1.X", "must be 1 to 16 capital letters and digits"},
		{"an opening balance of nobody", `merchant_no: "1900000109", fen`, `merchant_no: "1", fen`, "opening_balances WECHAT 1.merchant_no: is not a merchant number that is set up"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(sample, test.old, test.new, 1)
			if text == sample {
				t.Fatal("the sample lacks what is to be changed")
			}
			d := openTest(t)
			_, err := Setup(t.Context(), d, strings.NewReader(text))
			if test.says == "" {
				if err != nil {
					t.Errorf("the same number on another channel is refused: %v", err)
				}
				return
			}
			if !errors.Is(err, ErrSetup) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
			if n := len(loadDirectory(t, d).Hospitals); n != 0 {
				t.Errorf("a refused file left %d hospitals", n)
			}
		})
	}
}

func TestSetupNeverChangesTheGroundOfTheBooks(t *testing.T) {
	d := openTest(t)
	sample := sampleSetup(t)
	mustSetup(t, d, sample)
	for _, test := range []struct{ name, old, new, says string }{
		{"a hospital's name", "name: 海天示范医院", "name: 海天医院", "hospital H1.name: is 海天示范医院 and does not change"},
		{"ownership", "ownership: PUBLIC", "ownership: PRIVATE", "hospital H1.ownership: is PUBLIC and does not change, the file says PRIVATE"},
		{"a rate that has begun", `fee_rate: "0.0060"`, `fee_rate: "0.0050"`, "fee_rate from 2026-01-01: is 0.006000 and does not change"},
		{"a bearer", "fee_bearer: PLATFORM", "fee_bearer: HOSPITAL", "fee_bearer from 2026-01-01: is PLATFORM and does not change"},
		{"an opening balance", "fen: 1523046", "fen: 1523047", "opening_balances WECHAT 1900000109.fen: is 15230.46 and does not change"},
		{"a coupon's bearer", "kind: DIRECT", "coupon_bearer: PLATFORM, kind: DIRECT", "coupon_bearer: is HOSPITAL and does not change"},
		{"a region's name", "name: 示范区", "name: 新区", "region R1.name: is 示范区"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.ReplaceAll(sample, test.old, test.new)
			_, err := Setup(t.Context(), d, strings.NewReader(text))
			if !errors.Is(err, ErrSetup) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}

// The constraints say again what the code says.
func TestTheDatabaseRefusesModeBForAPublicHospital(t *testing.T) {
	d := openTest(t)
	mustSetup(t, d, sampleSetup(t))
	for name, sql := range map[string]string{
		"merchants_public": `INSERT INTO merchants (channel, merchant_no, hospital, ownership, kind, settle_mode, settles_to, settles_role, retained_fen,
			coupon_bearer, fee_returned, contract_no) VALUES ('WECHAT', 'X', 'H1', 'PUBLIC', 'DIRECT', 'B', '755947919810515', 'CUSTODY', 0, 'HOSPITAL', TRUE, '')`,
		"merchants_hospital": `INSERT INTO merchants (channel, merchant_no, hospital, ownership, kind, settle_mode, settles_to, settles_role, retained_fen,
			coupon_bearer, fee_returned, contract_no) VALUES ('WECHAT', 'X', 'H1', 'PRIVATE', 'DIRECT', 'A', '755947919810515', 'SETTLEMENT', 0, 'HOSPITAL', TRUE, '')`,
		"bank_accounts_own_name": `INSERT INTO bank_accounts (hospital, account, role, name, bank, hospital_name)
			VALUES ('H1', '2', 'SETTLEMENT', '某公司', '某银行', '海天示范医院')`,
	} {
		_, err := d.Pool.Exec(t.Context(), sql)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
