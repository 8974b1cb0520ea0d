package clearing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// importTest is a database with the sample day's master data, and an importer.
type importTest struct {
	*Importer
	db *db.DB
	t  testing.TB
}

func newImportTest(t testing.TB, setup string) *importTest {
	d := openTest(t)
	mustSetup(t, d, setup)
	clock := func() time.Time { return time.Date(2026, 9, 16, 3, 30, 0, 0, time.UTC) }
	committer, err := ledger.NewCommitter(t.Context(), d, ledger.Options{Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(committer.Close)
	return &importTest{&Importer{DB: d, Committer: committer, Maker: "importer"}, d, t}
}

func (it *importTest) must(text string) ImportSummary {
	it.t.Helper()
	summary, err := it.Import(it.t.Context(), strings.NewReader(text))
	if err != nil {
		it.t.Fatal(err)
	}
	return summary
}

func (it *importTest) read(f func(ctx context.Context, tx pgx.Tx) error) {
	it.t.Helper()
	if err := it.db.ReadTx(it.t.Context(), f); err != nil {
		it.t.Fatal(err)
	}
}

// balances are those that are not zero, by code.
func (it *importTest) balances() map[string]ledger.Money {
	it.t.Helper()
	got := map[string]ledger.Money{}
	it.read(func(ctx context.Context, tx pgx.Tx) error {
		clear(got)
		all, err := ledger.TrialBalance(ctx, tx, PlatformBook, ledger.AsOf{})
		for _, b := range all {
			if b.Balance() != 0 {
				got[b.Code] = b.Balance()
			}
		}
		return err
	})
	return got
}

func (it *importTest) same(want map[string]ledger.Money) {
	it.t.Helper()
	got := it.balances()
	for code, balance := range want {
		if got[code] != balance {
			it.t.Errorf("%s is %s, want %s", code, got[code], balance)
		}
		delete(got, code)
	}
	for code, balance := range got {
		it.t.Errorf("%s is %s, want 0", code, balance)
	}
}

func (it *importTest) verify() {
	it.t.Helper()
	found, err := ledger.Verify(it.t.Context(), it.db, Controls()...)
	if err != nil {
		it.t.Fatal(err)
	}
	for _, f := range found {
		it.t.Error(f)
	}
}

func sampleDay(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/platform.csv")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sampleBalances is the sample day after import, in fen, summed by hand from
// platform.csv. Payments: WeChat 23 of 12,777.59, settled 12,772.59, fees 76.66;
// Alipay 13 of 6,024.32, fees 36.11. Refunds asked: WeChat 6 of 1,771.83, taken
// 1,770.83 (a coupon of 1.00), fees 10.63, of which 1,206.00 is not final;
// Alipay 6 of 947.50, fees 5.69, of which 5.00 is not final. One reversal of
// 77.70, fee 0.47.
func sampleBalances() map[string]ledger.Money {
	return map[string]ledger.Money{
		"1122.WX.1900000109":            1277759 - 177083 - 7770, // J01 less J19a
		"1122.ALI.20880000000000020156": 602432 - 94750,
		"2204.H1":                       1277759 + 602432 - 7770,  // J01 less J22
		"2202.H1.PEND":                  -177183 - 94750,          // J18; J02 comes with HIS
		"2205.WX.1900000109":            120600 + 100,             // J18 and J22 less J19b; the coupon waits for J49c
		"2205.ALI.20880000000000020156": 500,                      //
		"1125.WX.1900000109":            120600,                   // J19a less J19b
		"1125.ALI.20880000000000020156": 500,                      //
		"2206.WX.1900000109":            7666 - 1063 - 47,         // J03 less J20, J22
		"2206.ALI.20880000000000020156": 3611 - 569,               //
		"6601.H1":                       7666 - 1110 + 3611 - 569, // J04a less J20, J22; 6401 passed all on
	}
}

func TestSampleDayIsImported(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	got := it.must(sampleDay(t))
	if got != (ImportSummary{Rows: 50, Payments: 36, Refunds: 12, Reversals: 1, Failed: 1}) {
		t.Errorf("%+v", got)
	}
	it.same(sampleBalances())
	it.verify()
}

func TestImportTwiceIsOnce(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	it.must(sampleDay(t))
	if got := it.must(sampleDay(t)); got != (ImportSummary{Rows: 50, Replayed: 50}) {
		t.Errorf("%+v", got)
	}
	it.same(sampleBalances())
	it.verify()
}

func TestOrderOfRowsDoesNotMatter(t *testing.T) {
	lines := strings.SplitAfter(strings.TrimSuffix(sampleDay(t), "\n"), "\n")
	lines[len(lines)-1] += "\n"
	var turned strings.Builder
	turned.WriteString(lines[0])
	for i := len(lines) - 1; i > 0; i-- {
		turned.WriteString(lines[i])
	}
	it := newImportTest(t, sampleSetup(t))
	it.must(turned.String())
	it.same(sampleBalances())
	it.verify()
}

func TestImportOverlapsWithWhatIsThere(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	lines := strings.SplitAfter(sampleDay(t), "\n")
	first := it.must(strings.Join(lines[:31], ""))
	second := it.must(strings.Join(append(lines[:1:1], lines[11:]...), ""))
	if first.Rows != 30 || first.Replayed != 0 || second.Rows != 40 || second.Replayed != 20 {
		t.Errorf("%+v %+v", first, second)
	}
	it.same(sampleBalances())
	it.verify()
}

func TestTwoImportsAtOnceAreOne(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	var sums [4]ImportSummary
	var errs [4]error
	var running sync.WaitGroup
	for i := range sums {
		running.Go(func() { sums[i], errs[i] = it.Import(t.Context(), strings.NewReader(sampleDay(t))) })
	}
	running.Wait()
	replayed := 0
	for i := range sums {
		if errs[i] != nil {
			t.Error(errs[i])
		}
		replayed += sums[i].Replayed
	}
	if replayed != 150 {
		t.Errorf("%d of 200 rows were replayed, want 150", replayed)
	}
	it.same(sampleBalances())
	it.verify()
}

func TestRowTwiceInAFileIsTakenOnce(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	lines := strings.SplitAfter(strings.TrimSuffix(sampleDay(t), "\n"), "\n")
	lines[len(lines)-1] += "\n"
	var progress []int
	it.Progress = func(done, total int) { progress = append(progress, done, total) }
	got := it.must(strings.Join(append(lines, lines[1:]...), ""))
	if got.Rows != 100 || got.Replayed != 50 || got.Payments != 36 {
		t.Errorf("%+v", got)
	}
	if n := len(progress); n < 2 || progress[n-2] != 100 || progress[n-1] != 100 {
		t.Errorf("progress %v", progress)
	}
	it.same(sampleBalances())
}

const importHeader = "hospital,merchant_no,channel,kind,order_no,refund_no,channel_trade_no,amount_fen,occurred_at,status," +
	"his_bill_no,biz_type,terminal,settle_fen,channel_success_at,patient_ref\n"

// A line is a row of a file in short: fields that a test does not speak of.
type line struct {
	merchant, channel, kind, order, refund string
	amount                                 int
	at, status, settle, success, patient   string
}

func (l line) String() string {
	with := func(value *string, initial string) {
		if *value == "" {
			*value = initial
		}
	}
	with(&l.merchant, "1900000109")
	with(&l.channel, "WECHAT")
	with(&l.kind, "PAY")
	with(&l.at, "2026-09-15 10:00:00")
	with(&l.status, "SUCCESS")
	if l.status == "SUCCESS" {
		with(&l.settle, fmt.Sprint(l.amount))
		with(&l.success, l.at)
	}
	l.success = strings.TrimPrefix(l.success, "none")
	return fmt.Sprintf("H1,%s,%s,%s,%s,%s,T1,%d,%s,%s,B1,OUTPATIENT,MP,%s,%s,%s\n",
		l.merchant, l.channel, l.kind, l.order, l.refund, l.amount, l.at, l.status, l.settle, l.success, l.patient)
}

func fileOf(lines ...line) string {
	text := importHeader
	for _, l := range lines {
		text += l.String()
	}
	return text
}

func TestImportRefusesTheWholeFile(t *testing.T) {
	it := newImportTest(t, sampleSetup(t)) // one for all: a file that is refused leaves nothing
	mustSetup(t, it.db, more)
	good := line{order: "O1", amount: 5000}
	swap := func(old, new string) string {
		return strings.Replace(fileOf(good, line{order: "O2", amount: 70}), old, new, 1)
	}
	for _, test := range []struct {
		name, text, column, rule string
		line                     int
	}{
		{"an empty file", "", "", "the file is empty", 0},
		{"an unknown column", strings.Replace(fileOf(good), "patient_ref", "name", 1), "name", "unknown column", 1},
		{"a missing column", strings.Replace(fileOf(good), ",patient_ref", "", 1), "patient_ref", "the column is missing", 1},
		{"a column twice", strings.Replace(fileOf(good), "patient_ref", "patient_ref,terminal", 1), "", "a column stands twice", 1},
		{"a field too few", swap(",MP,5000", ",5000"), "", "wrong number of fields", 2},
		{"a cut file", strings.TrimSuffix(fileOf(good), "\n"), "", "the file ends inside this line", 2},
		{"a hospital that is not set up", swap("H1,1900000109,", "H9,1900000108,"), "hospital", `"H9" is not set up`, 2},
		{"a foreign merchant number", swap("1900000109", "1900000108"), "merchant_no", "is no WECHAT merchant number that is set up", 2},
		{"another hospital's number", swap("H1,1900000109", "P2,1900000109"), "merchant_no", "belongs to hospital H1", 2},
		{"an unknown channel", swap("WECHAT", "PAYPAL"), "channel", `"PAYPAL" must be one of`, 2},
		{"an unknown kind", swap("PAY,O1", "GIFT,O1"), "kind", `"GIFT" must be PAY, REFUND or REVERSE`, 2},
		{"no order number", swap("PAY,O1", "PAY,"), "order_no", "must not be empty", 2},
		{"a strange order number", swap("PAY,O1", "PAY,O\u00a01"), "order_no", "letters, digits", 2},
		{"a payment with refund number", swap("PAY,O1,", "PAY,O1,R1"), "refund_no", "must be empty on a payment", 2},
		{"an amount in yuan", swap("T1,5000", "T1,50.00"), "amount_fen", "must be whole fen above zero", 2},
		{"a negative amount", swap("T1,5000", "T1,-5000"), "amount_fen", "must be whole fen above zero", 2},
		{"an amount of nothing", swap("T1,5000", "T1,0"), "amount_fen", "must be whole fen above zero", 2},
		{"more settled than paid", swap("MP,5000", "MP,5001"), "settle_fen", "5001 is above amount_fen 5000", 2},
		{"no settlement", swap("MP,5000", "MP,"), "settle_fen", `"" must be whole fen`, 2},
		{"an unknown status", swap("SUCCESS", "PAID"), "status", `"PAID" must be SUCCESS or FAILED`, 2},
		{"a failure that settled", swap("SUCCESS", "FAILED"), "settle_fen", "must be empty where the status is FAILED", 2},
		{"a time without seconds", swap("10:00:00,SUCCESS", "10:00,SUCCESS"), "occurred_at", "must be a Beijing time", 2},
		{"a day before the first rate", strings.ReplaceAll(swap("x", "x"), "2026-", "2025-"), "merchant_no", "has no fee rate on 2025-09-15", 2},
		{"a business type of nothing", swap("OUTPATIENT", ""), "biz_type", "must not be empty", 2},
		{"a patient's name", fileOf(line{order: "O1", amount: 1, patient: "张三"}), "patient_ref", "must be an opaque reference", 2},
		{"an identity number", fileOf(line{order: "O1", amount: 1, patient: "11010519491231002X"}), "patient_ref", "must be an opaque reference", 2},
		{"a telephone number", fileOf(line{order: "O1", amount: 1, patient: "13800138000"}), "patient_ref", "must be an opaque reference", 2},
		{"the last line broken", fileOf(good, line{order: "O2", amount: 70}, line{order: "O3", amount: 70, kind: "GIFT"}), "kind", "GIFT", 4},
		{"the same order twice with other content", fileOf(good, line{order: "O2", amount: 70}, line{order: "O1", amount: 5001}), "",
			"PAY O1 stands on line 2 with other content", 4},
		{"a refund of nothing known", fileOf(good, line{kind: "REFUND", order: "O9", refund: "R1", amount: 1}), "order_no",
			"payment O9 is neither in the file nor imported before", 3},
		{"a refund without number", fileOf(good, line{kind: "REFUND", order: "O1", amount: 1}), "refund_no", "must not be empty on a refund", 3},
		{"a refund above the payment", fileOf(good, line{kind: "REFUND", order: "O1", refund: "R1", amount: 5001}), "amount_fen",
			"payment O1 of 50.00 has 0.00 refunded already, 50.01 more is asked", 3},
		{"refunds above the payment together", fileOf(good, line{kind: "REFUND", order: "O1", refund: "R1", amount: 3000},
			line{kind: "REFUND", order: "O1", refund: "R2", amount: 2001}), "amount_fen", "has 30.00 refunded already, 20.01 more is asked", 4},
		{"more taken back than settled", fileOf(line{order: "O1", amount: 5000, settle: "4000"}, line{kind: "REFUND", order: "O1", refund: "R1", amount: 4500}),
			"settle_fen", "payment O1 settled 40.00", 3},
		{"a refund of a failed payment", fileOf(line{order: "O1", amount: 5000, status: "FAILED"}, line{kind: "REFUND", order: "O1", refund: "R1", amount: 1}),
			"order_no", "payment O1 failed: there is nothing to give back", 3},
		{"a refund on another number", fileOf(good, line{kind: "REFUND", channel: "ALIPAY", merchant: "20880000000000020156", order: "O1", refund: "R1", amount: 1}),
			"merchant_no", "payment O1 was made on WECHAT 1900000109", 3},
		{"a reversal in part", fileOf(good, line{kind: "REVERSE", order: "O1", amount: 4999}), "amount_fen", "a reversal is of the whole payment", 3},
		{"a refund number for two orders", fileOf(good, line{order: "O2", amount: 70}, line{kind: "REFUND", order: "O1", refund: "R1", amount: 1},
			line{kind: "REFUND", order: "O2", refund: "R1", amount: 1}), "", "REFUND R1 stands on line 4 with other content", 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := it.Import(t.Context(), strings.NewReader(test.text))
			var broken *channels.FileError
			if !errors.As(err, &broken) {
				t.Fatalf("got %v", err)
			}
			if broken.Line != test.line || broken.Column != test.column || !strings.Contains(broken.Rule, test.rule) {
				t.Errorf("got line %d column %q: %s", broken.Line, broken.Column, broken.Rule)
			}
			if strings.Contains(err.Error(), "张三") || strings.Contains(err.Error(), "13800138000") {
				t.Errorf("the message repeats what must not be known: %v", err)
			}
		})
	}
	it.same(map[string]ledger.Money{})
	it.verify()
}

func TestRowWithOtherContentIsAConflict(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	pay, refund := line{order: "O1", amount: 5000}, line{kind: "REFUND", order: "O1", refund: "R1", amount: 1000, success: "none"}
	it.must(fileOf(pay, refund))
	before := it.balances()
	for name, test := range map[string]struct {
		change func(pay, refund *line)
		column string
		line   int
	}{
		"an amount": {func(p, _ *line) { p.amount = 5001 }, "amount_fen", 2},
		"a state":   {func(p, _ *line) { p.status, p.settle = "FAILED", "" }, "status", 2},
		"a success": {func(_, r *line) { r.success = "2026-09-15 10:00:09" }, "channel_success_at", 3},
		"a patient": {func(p, _ *line) { p.patient = "Pabc" }, "patient_ref", 2},
	} {
		p, r := pay, refund
		test.change(&p, &r)
		_, err := it.Import(t.Context(), strings.NewReader(fileOf(p, r)))
		var broken *channels.FileError
		if !errors.As(err, &broken) || broken.Line != test.line || broken.Column != test.column || !strings.Contains(broken.Rule, "was imported before with another") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := it.Import(t.Context(), strings.NewReader(fileOf(line{kind: "REFUND", order: "O1", refund: "R2", amount: 4001}))); err == nil ||
		!strings.Contains(err.Error(), "has 10.00 refunded already, 40.01 more is asked") {
		t.Errorf("a refund above what is left: %v", err)
	}
	it.same(before)
	it.must(fileOf(line{kind: "REFUND", order: "O1", refund: "R2", amount: 4000}))
	it.verify()
}
