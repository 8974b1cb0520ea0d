package clearing

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// entries lists the journal as "kind ref value-day", in order.
func (it *importTest) entries() (got []string) {
	it.t.Helper()
	it.read(func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT kind, ref, value_day FROM entries ORDER BY lane, seq, ord`)
		if err != nil {
			return err
		}
		got, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
			var kind, ref string
			var day ledger.Day
			err := row.Scan(&kind, &ref, &day)
			return fmt.Sprint(kind, " ", ref, " ", day), err
		})
		return err
	})
	return got
}

func (it *importTest) posted(want ...string) {
	it.t.Helper()
	if got := it.entries(); !slices.Equal(got, want) {
		it.t.Errorf("posted\n %s\nwant\n %s", strings.Join(got, "\n "), strings.Join(want, "\n "))
	}
}

func TestEachRowIsPostedAtItsMoments(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	it.must(fileOf(
		line{order: "O1", amount: 10000, at: "2026-09-14 23:59:59", success: "2026-09-15 00:00:01"},
		line{order: "O2", amount: 10000, at: "2026-09-15 00:00:01", success: "2026-09-14 23:59:59"},
		line{order: "O3", amount: 10000, success: "none"},
		line{order: "O4", amount: 10000, status: "FAILED"},
		line{order: "O5", amount: 10, at: "2026-09-15 11:00:00"}, // a fee of 0.06 fen is none
		line{order: "O6", amount: 500, settle: "0"},              // paid by coupon alone
		line{kind: "REFUND", order: "O1", refund: "R1", amount: 3000, success: "2026-09-17 09:00:00"},
		line{kind: "REFUND", order: "O1", refund: "R2", amount: 3000},
		line{kind: "REFUND", order: "O1", refund: "R3", amount: 3000, success: "none"},
		line{kind: "REFUND", order: "O1", refund: "R4", amount: 3000, status: "FAILED"},
		line{kind: "REFUND", order: "O6", refund: "R6", amount: 500, settle: "0"},
		line{kind: "REVERSE", order: "O2", amount: 10000, at: "2026-09-15 00:00:07"},
	))
	it.posted(
		"J01+J03+J04a O1 2026-09-15", "J01+J03+J04a O2 2026-09-14", "J01+J03+J04a O3 2026-09-15", "J01 O5 2026-09-15", "J01 O6 2026-09-15",
		"J18+J20+J19a R1 2026-09-15", "J19b R1 2026-09-17", "J18+J20+J19a+J19b R2 2026-09-15", "J18+J20+J19a R3 2026-09-15",
		"J18 R6 2026-09-15", "J22+J19a+J19b O2 2026-09-15",
	)
	it.same(map[string]ledger.Money{
		"1122.WX.1900000109": 10000*3 + 10 + 500 - 3*3000 - 10000,
		"2204.H1":            10000*3 + 10 + 500 - 10000,
		"2202.H1.PEND":       -3*3000 - 500,
		"2205.WX.1900000109": 3000 + 500, "1125.WX.1900000109": 3000,
		"2206.WX.1900000109": 60*3 - 3*18 - 60, "6601.H1": 60*3 - 3*18 - 60,
	})
	it.verify()
}

func TestFeesOfRefundsNeverPassTheFeeCharged(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	// 4.17 was charged 0.03; each part would give 0.01 back, four of them 0.04.
	it.must(fileOf(
		line{order: "O1", amount: 417},
		line{kind: "REFUND", order: "O1", refund: "R1", amount: 84}, line{kind: "REFUND", order: "O1", refund: "R2", amount: 84},
		line{kind: "REFUND", order: "O1", refund: "R3", amount: 84}, line{kind: "REFUND", order: "O1", refund: "R4", amount: 84},
	))
	it.same(map[string]ledger.Money{"1122.WX.1900000109": 417 - 4*84, "2204.H1": 417, "2202.H1.PEND": -4 * 84})
	it.must(fileOf(line{kind: "REFUND", order: "O1", refund: "R5", amount: 81}))
	it.same(map[string]ledger.Money{"2204.H1": 417, "2202.H1.PEND": -417})
	it.verify()
}

func TestHospitalBearsItsFees(t *testing.T) {
	it := newImportTest(t, strings.ReplaceAll(sampleSetup(t), "fee_bearer: PLATFORM", "fee_bearer: HOSPITAL"))
	it.must(fileOf(line{order: "O1", amount: 10000}, line{kind: "REFUND", order: "O1", refund: "R1", amount: 5000}))
	it.posted("J01+J03+J04b O1 2026-09-15", "J18+J20+J19a+J19b R1 2026-09-15")
	it.same(map[string]ledger.Money{
		"1122.WX.1900000109": 5000, "2204.H1": 10000, "2202.H1.PEND": -5000 - 60 + 30, "2206.WX.1900000109.HOSP": 30,
	})
	it.verify()
}

func TestContractWithoutFeeReturn(t *testing.T) {
	it := newImportTest(t, strings.ReplaceAll(sampleSetup(t), "kind: DIRECT", "fee_returned: false, kind: DIRECT"))
	it.must(fileOf(line{order: "O1", amount: 10000}, line{kind: "REFUND", order: "O1", refund: "R1", amount: 5000}))
	it.posted("J01+J03+J04a O1 2026-09-15", "J18+J19a+J19b R1 2026-09-15")
	it.same(map[string]ledger.Money{
		"1122.WX.1900000109": 5000, "2204.H1": 10000, "2202.H1.PEND": -5000, "2206.WX.1900000109": 60, "6601.H1": 60,
	})
}

func TestFormsOfTheSameFile(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	text := fileOf(line{order: "O1", amount: 10000, channel: "ALIPAY", merchant: "20880000000000020156"})
	it.must("\ufeff" + strings.ReplaceAll(text, "\n", "\r\n"))
	if got := it.must(strings.ReplaceAll(text, "20880000000000020156", "2088000000000002")); got.Replayed != 1 {
		t.Errorf("the same row under the number's alias: %+v", got)
	}
	it.verify()
}

func TestRatesChangeOnlyForDaysThatAreNotPosted(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	it.must(fileOf(line{order: "O1", amount: 10000}))
	for from, refused := range map[string]bool{"2026-09-15": true, "2026-09-16": false} {
		text := strings.Replace(sampleSetup(t), `from: "2026-01-01"`, `from: "`+from+`"`, 1)
		_, err := Setup(t.Context(), it.db, strings.NewReader(text))
		if (err != nil) != refused || err != nil && !strings.Contains(err.Error(), "a rate from 2026-09-15 comes too late: 2026-09-15 is posted already") {
			t.Errorf("a rate from %s: %v", from, err)
		}
	}
}

func (it *importTest) legs(q LegQuery) (legs []Leg) {
	it.t.Helper()
	it.read(func(ctx context.Context, tx pgx.Tx) error {
		legs = nil
		return StreamLegs(ctx, tx, q, func(l *Leg) error { legs = append(legs, *l); return nil })
	})
	return legs
}

func (it *importTest) digest() (digest string) {
	it.t.Helper()
	it.read(func(ctx context.Context, tx pgx.Tx) (err error) {
		digest, err = LegsDigest(ctx, tx, "H1", channels.WeChat, "1900000109", 20260915)
		return err
	})
	return digest
}

func TestLegsAreReadByDayOrderAndBill(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	empty := it.digest()
	it.must(sampleDay(t))
	full := it.digest()
	if again := it.digest(); empty == full || again != full {
		t.Errorf("digests %s, %s, %s", empty, full, again)
	}
	day := it.legs(LegQuery{Hospital: "H1", Day: 20260915})
	if len(day) != 50 {
		t.Errorf("%d legs of the day", len(day))
	}
	key := func(l Leg) string { return l.OrderNo + " " + string(l.Kind) + " " + l.RefundNo }
	if !slices.IsSortedFunc(day, func(a, b Leg) int { return strings.Compare(key(a), key(b)) }) {
		t.Error("the legs are not sorted by order, kind and refund")
	}
	orders := it.legs(LegQuery{Hospital: "H1", OrderNos: []string{"HP2026091500000015", "HP2026091500000014", "none"}})
	var got []string
	for _, l := range orders {
		got = append(got, fmt.Sprint(key(l), " ", l.Amount, " ", l.Settle, " ", l.Fee, " ", l.Final, " ", l.Day))
	}
	want := []string{
		"HP2026091500000014 PAY  233.33 233.33 1.40 true 2026-09-15",
		"HP2026091500000014 REFUND HR2026091500000004 100.00 100.00 0.60 true 2026-09-15",
		"HP2026091500000014 REFUND HR2026091500000005 133.33 133.33 0.80 true 2026-09-15",
		"HP2026091500000015 PAY  77.70 77.70 0.47 true 2026-09-15",
		"HP2026091500000015 REVERSE HP2026091500000015 77.70 77.70 0.47 true 2026-09-15",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n %s", strings.Join(got, "\n "))
	}
	bills := it.legs(LegQuery{Hospital: "H1", BillNos: []string{"BW000008A"}})
	if len(bills) != 2 || bills[0].Amount != 5000 || bills[0].Settle != 4500 || bills[1].Settle != 900 {
		t.Errorf("%+v", bills)
	}
	if none := it.legs(LegQuery{Hospital: "H1", OrderNos: []string{}}); len(none) != 0 {
		t.Errorf("no order number found %d legs", len(none))
	}
}

// The controls see what a hand in the tables does.
func TestControlsFindWhatDoesNotTie(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	it.must(sampleDay(t))
	for _, sql := range []string{
		`UPDATE payments SET amount_fen = amount_fen + 1 WHERE order_no = 'HP2026091500000001'`,
		`UPDATE refunds SET status = 'FAILED', settle_fen = 0, fee_fen = 0, channel_success_at = NULL, posted = FALSE, debit = '', owed_fen = 0, owed_day = 0 WHERE refund_no = 'HR2026091510000001'`,
	} {
		if _, err := it.db.Pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	found, err := ledger.Verify(t.Context(), it.db, Controls()...)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, f.String())
	}
	want := []string{
		"payments = J01: 2204.H1 on 2026-09-15: 36 rows of 18801.92 are stored, 36 of 18801.91 are posted",
		"refunds = J18 and J22: 2205.ALI.20880000000000020156 on 2026-09-15: 5 rows of 467.50 are stored, 6 of 947.50 are posted",
		"refunded = refunds: payment H1 HPA202609150000003: 480.00 is noted as refunded, its refunds sum to 0.00",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found\n %s", strings.Join(got, "\n "))
	}
}

// postVerb posts entries as they are.
var postVerb = &ledger.Verb[ledger.Entry]{Name: "test.post", Run: func(_ context.Context, b *ledger.Batch, cmds []ledger.Entry) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	for i, e := range cmds {
		outcomes[i].Entry, outcomes[i].Err = b.Post(e)
	}
	return outcomes
}}

// The controls of the chart see money posted where no set or hospital holds it.
func TestControlsOfTheChartFindWhatIsOut(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	move := func(debit, credit ledger.Account) {
		t.Helper()
		entry, err := ledger.NewEntry(ledger.Head{Book: PlatformBook, Kind: "X", ValueDay: 20260915},
			ledger.Posting{Debit: debit.For("x"), Credit: credit.For("x"), Amount: 100})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := ledger.Submit(t.Context(), it.Committer, postVerb, ledger.Request{}, entry); err != nil || out.Err != nil {
			t.Fatal(err, out.Err)
		}
	}
	mustSetup(t, it.db, strings.NewReplacer("H1", "H3", "R1", "R3", "755947919810515", "9", "1900000109", "19", "20880000000000020156", "20",
		"2088000000000002", "2", "777290058110048", "77").Replace(sampleSetup(t)))
	move(SubsidyCost("H1"), ChannelFee(channels.WeChat)) // a fee passed on that was never accrued
	move(AgencySide("H1"), Pending("H1"))                // half a crossing
	move(Cash("H1"), CashContra("H3"))                   // another hospital's drawer
	move(Insured("H1", FundGov), InsuranceContra("H3"))
	move(Short("H1"), Pending("H3")) // one hospital's money for another
	found, err := ledger.Verify(t.Context(), it.db, Controls()...)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, f.Check+": "+f.Subject)
	}
	want := []string{
		"1998 + 2998 = 0: hospital H1", "6401 = 0: 6401.WX", "9009 = 9001 + 9002: hospital H1", "9009 = 9001 + 9002: hospital H3",
		"9207 = 9131 + 9132: hospital H1", "9207 = 9131 + 9132: hospital H3",
		"agency set of a hospital on mode A: hospital H1", "agency set of a hospital on mode A: hospital H3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found\n %s", strings.Join(got, "\n "))
	}
}

// Prohibition 4 and the floors: money is paid out of what is there.
func TestAvailableMoneyHasAFloor(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	mustSetup(t, it.db, more)
	directory := loadDirectory(t, it.db)
	h, _ := directory.Hospital("P2")
	entry, err := NewEntry(Event{Hospital: h, Mode: ModeB, Day: 20260915, Amount: 100, Payout: "PO1"}, "J31")
	if err != nil {
		t.Fatal(err)
	}
	out, err := ledger.Submit(t.Context(), it.Committer, postVerb, ledger.Request{}, entry)
	if err != nil || !strings.Contains(fmt.Sprint(out.Err), "2202.P2.AVAIL") {
		t.Errorf("a payout of money that is not there: %v %v", out.Err, err)
	}
	it.same(map[string]ledger.Money{})
}

func BenchmarkImport(b *testing.B) {
	var text strings.Builder
	text.WriteString(importHeader)
	rows := 0
	for i := range 40000 {
		order := fmt.Sprintf("HP20260915%08d", i)
		text.WriteString(line{order: order, amount: 100 + i}.String())
		rows++
		if i%10 == 0 {
			text.WriteString(line{kind: "REFUND", order: order, refund: fmt.Sprintf("HR20260915%08d", i), amount: 50}.String())
			rows++
		}
	}
	runs := 0
	for b.Loop() {
		b.StopTimer()
		it := newImportTest(b, sampleSetup(b))
		b.StartTimer()
		it.must(text.String())
		runs++
	}
	b.ReportMetric(float64(rows*runs)/b.Elapsed().Seconds(), "rows/s")
}
