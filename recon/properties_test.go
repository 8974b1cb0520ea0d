package recon_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// suspenseFamilies are the accounts on which open amounts rest by reference.
var suspenseFamilies = []string{"1125.", "1221.", "1222.", "2204.", "2205.", "2210.", "2241.", "2243."}

// state is everything that must not depend on how a result was reached: the list
// of each day, the balances, what is open under which reference, what stands of
// each leg, and the cases. Journal places, run numbers and times are left out.
func (h *house) state(days ...ledger.Day) string {
	h.t.Helper()
	var out strings.Builder
	for _, day := range days {
		d, err := h.engine.Load(h.t.Context(), day)
		h.must(err)
		fmt.Fprintf(&out, "day %s\n%s\n", day, strings.Join(found(d), "\n"))
		for _, s := range d.Slices {
			fmt.Fprintf(&out, "slice %s %s %s %s waits for %v\n", s.Hospital, s.Channel, s.MerchantNo, s.Pair, s.Waiting)
		}
	}
	out.WriteString(trialOf(h.trial()))
	for _, line := range append(h.open(suspenseFamilies...), h.legs(days...)...) {
		out.WriteString(line + "\n")
	}
	return out.String()
}

// open lists what is open on the families of accounts, by reference.
func (h *house) open(families ...string) (out []string) {
	h.t.Helper()
	h.must(h.db.ReadTx(h.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		out = out[:0]
		for _, family := range families {
			items, err := ledger.OpenItemsByCode(ctx, tx, clearing.PlatformBook, family)
			if err != nil {
				return err
			}
			for _, i := range items {
				out = append(out, fmt.Sprintf("open %s %s %s", i.Code, i.Ref, i.Amount()))
			}
		}
		return nil
	}))
	return out
}

// legs lists what stands of each leg and each case of the days.
func (h *house) legs(days ...ledger.Day) (out []string) {
	h.t.Helper()
	return append(h.column(`
		SELECT concat_ws(' ', 'leg', hospital, day, kind, order_no, refund_no, merchant_no, code, d_fen, case_id, open, settled, proved_fen,
			(SELECT string_agg(e, '+' ORDER BY e) FROM (SELECT regexp_replace(unnest(string_to_array(effects, ';')), ':[^:]*$', '') AS e) AS effects))
		FROM recon_legs WHERE day = ANY($1::INT4[]) AND code <> '' ORDER BY hospital, day, kind, order_no, refund_no`, days),
		h.column(`
		SELECT concat_ws(' ', 'case', id, kind, order_no, refund_no, bank_ref, code, amount_fen, state, resolution, reason, maker, checker)
		FROM recon_cases WHERE day = ANY($1::INT4[]) ORDER BY id`, days)...)
}

// column reads a column of texts.
func (h *house) column(sql string, args ...any) (out []string) {
	h.t.Helper()
	h.must(h.db.ReadTx(h.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}))
	return out
}

// written counts what is append-only: entries, runs, versions and log lines.
func (h *house) written() string {
	h.t.Helper()
	return h.column(`
		SELECT concat_ws(' ', 'entries', (SELECT COUNT(*) FROM entries), 'postings', (SELECT COUNT(*) FROM postings),
			'runs', (SELECT COUNT(*) FROM recon_runs), 'versions', (SELECT COUNT(*) FROM recon_versions),
			'items', (SELECT COUNT(*) FROM recon_items), 'log', (SELECT COUNT(*) FROM recon_case_log),
			'events', (SELECT COUNT(*) FROM events))`)[0]
}

// sameState compares two states and shows the lines that differ.
func sameState(t testing.TB, what, want, got string) {
	t.Helper()
	if want == got {
		return
	}
	lines := differ(strings.Split(want, "\n"), strings.Split(got, "\n"))
	for i := range lines {
		lines[i] = strings.NewReplacer("found, not planted", "is", "planted, not found", "want").Replace(lines[i])
	}
	t.Errorf("%s:\n%s", what, strings.Join(lines, "\n"))
}

// sampleHouse is a house with the sample day's master data and payments.
func sampleHouse(t testing.TB) *house {
	h := newHouse(t)
	h.setup(filepath.Join(sampleDir, "setup.yaml"))
	h.importFile(filepath.Join(sampleDir, "platform.csv"))
	return h
}

// TestSampleDayInAnyOrder feeds the sample day in random orders, every file
// twice, the import somewhere in between, and in two of them with a run after
// every file, in one with release and settlement held back now and then: the list
// and every balance are those of the day fed in order.
// Running again changes nothing (scenarios 45, 66).
func TestSampleDayInAnyOrder(t *testing.T) {
	for n := range 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.setup(filepath.Join(sampleDir, "setup.yaml"))
			files := append(slices.Clone(sampleFeeds), sampleFeeds...)
			files = append(files, "platform.csv", "platform.csv")
			rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
			t.Log(files)
			for _, name := range files {
				if name == "platform.csv" {
					h.importFile(filepath.Join(sampleDir, name))
				} else {
					h.feedSample(name)
				}
				if n == 1 {
					h.pauses(rand.IntN(2) == 0, rand.IntN(2) == 0)
				}
				if n < 2 {
					h.run(sampleDay)
					h.verify()
				}
			}
			h.expect(h.run(sampleDay))
			h.resumes()
			h.expectTrial()
			h.verify()
			h.idle(sampleDay)
		})
	}
}

// idle runs the days again, which must change nothing.
func (h *house) idle(days ...ledger.Day) {
	h.t.Helper()
	state, written := h.state(days...), h.written()
	for _, day := range days {
		before, err := h.engine.Load(h.t.Context(), day)
		h.must(err)
		again := h.run(day)
		if !slices.Equal(again.Runs, before.Runs) {
			h.t.Errorf("run again: runs are %v, were %v", again.Runs, before.Runs)
		}
	}
	if got := h.written(); got != written {
		h.t.Errorf("run again: wrote %s, there was %s", got, written)
	}
	sameState(h.t, "run again", state, h.state(days...))
}

// gate is one feed of the sample day left out: who waits, and which codes would
// say that its side lacks something.
type gate struct {
	feeds   []string
	waiting string // as the report says it
	pairs   []recon.Pair
	channel string // the slices that wait, "" = every one
	silent  []recon.Code
}

var gates = []gate{
	{sampleFeeds[0:1], "HIS details of H1", []recon.Pair{recon.Info}, "",
		[]recon.Code{recon.I1, recon.I2, recon.I3, recon.I4, recon.I5, recon.I6, recon.I7, recon.I8, recon.PaidTwice, recon.Backfill, recon.Phantom}},
	{sampleFeeds[1:2], "trade bill of 1900000109", []recon.Pair{recon.Funds}, "WECHAT",
		[]recon.Code{recon.F1, recon.F2, recon.F3, recon.F4, recon.F5, recon.F6, recon.F7, recon.Phantom, recon.Backfill}},
	{sampleFeeds[2:3], "fund bill of 1900000109", []recon.Pair{recon.Bank}, "WECHAT", []recon.Code{recon.BankMissing, recon.BankShort, recon.BankUnidentified}},
	{sampleFeeds[3:4], "trade bill of 20880000000000020156", []recon.Pair{recon.Funds}, "ALIPAY",
		[]recon.Code{recon.F1, recon.F2, recon.F3, recon.F4, recon.F5, recon.F6, recon.F7, recon.Phantom, recon.Backfill}},
	{sampleFeeds[4:5], "fund bill of 20880000000000020156", []recon.Pair{recon.Bank}, "ALIPAY", []recon.Code{recon.BankMissing, recon.BankShort, recon.BankUnidentified}},
	{sampleFeeds[5:6], "bank statement of 755947919810515", []recon.Pair{recon.Bank}, "", []recon.Code{recon.BankMissing, recon.BankShort, recon.BankFee, recon.Waiting}},
	{sampleFeeds[0:2], "HIS details of H1", []recon.Pair{recon.Info}, "", []recon.Code{recon.I1, recon.I2, recon.I3, recon.I4, recon.I5}},
}

// TestNothingIsMissingOfASideThatIsNotFed leaves out each feed of the sample day
// in turn: no code speaks of the side that is missing, the pair names the feed it
// waits for, the books verify; and once the feed comes, list and balances are
// those of the whole day (scenarios 8, 38, 77).
func TestNothingIsMissingOfASideThatIsNotFed(t *testing.T) {
	for _, g := range gates {
		t.Run(strings.Join(g.feeds, " and "), func(t *testing.T) {
			t.Parallel()
			h := sampleHouse(t)
			h.feedSample(slices.DeleteFunc(slices.Clone(sampleFeeds), func(name string) bool { return slices.Contains(g.feeds, name) })...)
			d := h.run(sampleDay)
			g.check(t, d)
			h.verify()
			h.casesCarry(sampleDay)
			h.idle(sampleDay)
			h.feedSample(g.feeds...)
			h.expect(h.run(sampleDay))
			h.expectTrial()
			h.verify()
			h.casesCarry(sampleDay)
			h.idle(sampleDay)
		})
	}
}

func (g *gate) check(t *testing.T, d *recon.Day) {
	t.Helper()
	for _, i := range d.Items {
		if slices.Contains(g.silent, i.Code) && (g.channel == "" || i.Channel == g.channel) {
			t.Errorf("%s is not fed and %s %s %s is called %s", g.waiting, i.Channel, i.OrderNo, i.RefundNo, i.Code)
		}
	}
	waits := 0
	for _, s := range d.Slices {
		if slices.Contains(s.Waiting, g.waiting) {
			waits++
			if !slices.Contains(g.pairs, s.Pair) || g.channel != "" && s.Channel != g.channel {
				t.Errorf("%s %s %s waits for %v", s.Channel, s.MerchantNo, s.Pair, s.Waiting)
			}
		}
	}
	if waits == 0 {
		t.Errorf("no pair says that it waits for the %s", g.waiting)
	}
	var table bytes.Buffer
	if err := d.Write(&table, recon.FormatTable, "zh"); err != nil {
		t.Fatal(err)
	}
	if no := g.waiting[strings.LastIndexByte(g.waiting, ' ')+1:]; !strings.Contains(table.String(), no) {
		t.Errorf("the table does not name %s", no)
	}
}

// restsOn says on which account the open amount of a case stands while a person
// has decided nothing (spec/accounting.md 3.5), and how much of it in fen on the
// account's normal side; "" for none.
func restsOn(c *recon.Case) (account string, fen ledger.Money) {
	pay, mode := c.Kind == "PAY", c.Hospital
	switch c.Code {
	case recon.F1:
		return "2241." + mode, c.Amount
	case recon.F4:
		if c.Amount > 0 && !pay {
			return "2205.", c.Amount
		}
		if c.Amount > 0 {
			return "2241." + mode, c.Amount
		}
		return "1221." + mode, -c.Amount
	case recon.F2, recon.PaidTwice:
		return "2204." + mode, c.Amount
	case recon.I1:
		return "2204." + mode, c.Amount
	case recon.I5:
		if pay && c.Amount > 0 {
			return "2204." + mode, c.Amount
		}
	case recon.Backfill:
		if pay {
			return "2204." + mode, *c.ChannelFen
		}
	case recon.F3, recon.F5, recon.Restated:
		return "1221." + mode, -c.Amount
	case recon.UnknownDebit:
		return "1221." + mode, -c.Amount
	case recon.F6, recon.I4:
		return "2205.", c.Amount
	case recon.I6:
		if !pay {
			return "2205.", c.Amount
		}
	case recon.BankShort, recon.BankMissing:
		return "1124.", -c.Amount
	case recon.I7, recon.I8:
		if pay {
			return "2204." + mode, *c.Platform
		}
	case recon.BankUnidentified, recon.BankOver:
		return "2243.", c.Amount
	}
	return "", 0
}

// casesCarry is the standing proof of the cases: each open case carries exactly
// its open amount on the account that spec/accounting.md 3.5 names for its code,
// and nothing else stands open there.
func (h *house) casesCarry(days ...ledger.Day) {
	h.t.Helper()
	explained := map[string]ledger.Money{}
	for _, day := range days {
		cases, err := h.engine.Cases(h.t.Context(), day, false)
		h.must(err)
		var ids []string
		for i := range cases {
			h.caseCarries(&cases[i], explained)
			ids = append(ids, cases[i].ID)
		}
		h.restsAlike(ids)
	}
	for _, line := range h.open("1221.", "2241.", "1222.") {
		f := strings.Fields(line)
		if _, ok := explained[f[1]+" "+f[2]]; !ok {
			h.t.Errorf("no open case explains: %s", line)
		}
	}
	trial := h.trial()
	for code, fen := range trial {
		if strings.HasPrefix(code, "6401.") && fen != 0 {
			h.t.Errorf("%s is %s, it must be zero", code, fen)
		}
		if hospital, ok := strings.CutPrefix(code, "1998."); ok && fen+trial["2998."+hospital] != 0 {
			h.t.Errorf("1998 + 2998 of %s is %s", hospital, fen+trial["2998."+hospital])
		}
	}
}

// restsAlike: what rests under many cases, read at once, is what each file says.
func (h *house) restsAlike(ids []string) {
	h.t.Helper()
	all, err := h.engine.Resting(h.t.Context(), ids)
	h.must(err)
	for _, id := range ids {
		file, err := h.engine.CaseFile(h.t.Context(), id)
		h.must(err)
		if got, want := fmt.Sprint(all[id]), fmt.Sprint(file.Suspense); got != want && len(all[id])+len(file.Suspense) > 0 {
			h.t.Errorf("%s: all at once %s, alone %s", id, got, want)
		}
	}
}

func (h *house) caseCarries(c *recon.Case, explained map[string]ledger.Money) {
	h.t.Helper()
	file, err := h.engine.CaseFile(h.t.Context(), c.ID)
	h.must(err)
	sums := map[string]ledger.Money{}
	for _, s := range file.Suspense {
		sums[s.Account.Code()] += s.Fen
		explained[s.Account.Code()+" "+s.Ref] += s.Fen
	}
	switch c.Code {
	case recon.Phantom:
		h.phantomCarries(c, sums)
		return
	case recon.F9:
		h.wrongNumberCarries(c, sums)
		return
	case recon.F12:
		h.ambiguousCarries(c)
		return
	}
	account, fen := restsOn(c)
	if c.Code == recon.F7 && c.State == recon.CaseApproved {
		account, fen = "1222."+c.Hospital, c.FeeDiff.Abs() // disputed
	}
	for code, sum := range sums {
		if account == "" || !strings.HasPrefix(code, account) {
			h.t.Errorf("%s %s %s %s carries %s on %s, want nothing there", c.ID, c.Code, c.OrderNo, c.RefundNo, sum, code)
		} else if sum != fen {
			h.t.Errorf("%s %s %s %s carries %s on %s, want %s", c.ID, c.Code, c.OrderNo, c.RefundNo, sum, code, fen)
		}
	}
	if fen != 0 && len(sums) == 0 {
		h.t.Errorf("%s %s %s %s carries nothing, want %s on %s", c.ID, c.Code, c.OrderNo, c.RefundNo, fen, account)
	}
}

// wrongNumberCarries: nothing at another number of the same hospital; at another
// hospital's number short where the money is owed and long where it is.
func (h *house) wrongNumberCarries(c *recon.Case, sums map[string]ledger.Money) {
	h.t.Helper()
	halves := h.column(`SELECT hospital || ' ' || kind || ' ' || d_fen FROM recon_legs WHERE case_id = $1 ORDER BY hospital`, c.ID)
	want := map[string]ledger.Money{}
	if len(halves) == 2 {
		for _, half := range halves {
			var hospital, kind string
			var d ledger.Money
			if _, err := fmt.Sscan(half, &hospital, &kind, (*int64)(&d)); err != nil {
				h.t.Fatal(err)
			}
			switch {
			case kind == "PAY" && d > 0:
				want["2241."+hospital] = d
			case kind == "PAY" || d < 0:
				want["1221."+hospital] = -d
			}
		}
		if c.Kind == "REFUND" {
			return // the debt to the patient rests in 2205 of the one, the loss in 1221 of the other
		}
	}
	if !maps.Equal(want, sums) {
		h.t.Errorf("%s F9 %s %s carries %v, want %v of %v", c.ID, c.OrderNo, c.RefundNo, sums, want, halves)
	}
}

// ambiguousCarries: each payment of the case rests in 2204, as its own code would
// put it; HIS rows and refunds carry nothing.
func (h *house) ambiguousCarries(c *recon.Case) {
	h.t.Helper()
	orders := h.column(`SELECT order_no FROM recon_legs WHERE case_id = $1 AND kind = 'PAY'`, c.ID)
	sum := ledger.Money(0)
	for _, line := range h.open("2204.") {
		f := strings.Fields(line)
		if slices.Contains(orders, f[2]) {
			fen, err := ledger.ParseYuan(f[3])
			h.must(err)
			sum += fen
		}
	}
	if want := *c.Platform; c.Kind == "PAY" && sum != want {
		h.t.Errorf("%s F12 %s carries %s in 2204, want %s", c.ID, c.OrderNo, sum, want)
	}
}

// channelsTie is the line "Channel:" of spec/accounting.md 3.7: once a merchant
// number's settlement has left the channel, 1122 − 2206 is what is pending there
// and what the channel billed against the rule.
func (h *house) channelsTie(days ...*recon.Day) {
	h.t.Helper()
	want := map[string]ledger.Money{}
	for n, d := range days {
		for _, i := range d.Items {
			sign := ledger.Money(1)
			if i.RefundNo != "" {
				sign = -1
			}
			switch {
			case i.Code == recon.F7:
				want[i.MerchantNo] += sign * i.FeeDiff
			case i.Code == recon.Pending && n == len(days)-1 && i.Platform != nil && i.ChannelFen == nil:
				fee := h.column(`
					SELECT fee_fen::TEXT FROM payments WHERE order_no = $1 AND $2 = ''
					UNION ALL SELECT fee_fen::TEXT FROM refunds WHERE order_no = $1 AND refund_no = $2`, i.OrderNo, i.RefundNo)
				var fen int64
				if _, err := fmt.Sscan(fee[0], &fen); err != nil {
					h.t.Fatal(err)
				}
				want[i.MerchantNo] += sign * (*i.Platform - ledger.Money(fen))
			}
		}
	}
	got := map[string]ledger.Money{}
	for code, fen := range h.trial() {
		if family, no, _ := strings.Cut(code, "."); family == "1122" || family == "2206" {
			got[no[strings.IndexByte(no, '.')+1:]] += fen
		}
	}
	for _, no := range slices.Sorted(maps.Keys(got)) {
		if got[no] != want[no] {
			h.t.Errorf("1122 − 2206 of %s is %s, pending and fee differences are %s", no, got[no], want[no])
		}
	}
	for no, fen := range want {
		if _, ok := got[no]; !ok && fen != 0 {
			h.t.Errorf("1122 − 2206 of %s is 0.00, pending and fee differences are %s", no, fen)
		}
	}
}

// phantomCarries: 1221 and 2204 equal and opposite on a payment; on a refund the
// debt that the platform alone says.
func (h *house) phantomCarries(c *recon.Case, sums map[string]ledger.Money) {
	h.t.Helper()
	want := map[string]ledger.Money{}
	if c.Kind == "PAY" {
		want = map[string]ledger.Money{"1221." + c.Hospital: *c.Platform, "2204." + c.Hospital: *c.Platform}
	}
	for code, fen := range sums {
		if c.Kind == "REFUND" && strings.HasPrefix(code, "2205.") {
			want[code] = fen
		}
	}
	if len(want) == 0 || !maps.Equal(want, sums) {
		h.t.Errorf("%s PHANTOM %s carries %v, want %v", c.ID, c.OrderNo, sums, want)
	}
}
