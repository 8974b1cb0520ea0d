package recon_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// row is a row of a list as the comparison reads it: code, sign, numbers and the
// four amounts.
func row(code, polarity, channel, hospital, order, refund, bankRef string, his, platform, bill *int64, amount int64) string {
	show := func(m *int64) string {
		if m == nil {
			return "·"
		}
		return fmt.Sprint(*m)
	}
	return strings.Join([]string{code, polarity, hospital, channel, order, refund, bankRef, show(his), show(platform), show(bill), fmt.Sprint(amount)}, " | ")
}

func planned(cases []sandbox.Case) []string {
	var out []string
	for _, c := range cases {
		out = append(out, row(c.Code, c.Polarity, c.Channel, c.Hospital, c.OrderNo, c.RefundNo, c.BankRef, c.HisFen, c.PlatformFen, c.ChannelFen, c.AmountFen))
	}
	slices.Sort(out)
	return out
}

func found(d *recon.Day) []string {
	var out []string
	for _, i := range d.Items {
		if i.Code.Listed() {
			out = append(out, row(string(i.Code), i.Polarity(), i.Channel, i.Hospital, i.OrderNo, i.RefundNo, i.BankRef,
				(*int64)(i.HIS), (*int64)(i.Platform), (*int64)(i.ChannelFen), int64(i.Amount)))
		}
	}
	slices.Sort(out)
	return out
}

// differ lists the rows that stand on one side only.
func differ(want, got []string) []string {
	count := map[string]int{}
	for _, r := range want {
		count[r]--
	}
	for _, r := range got {
		count[r]++
	}
	var out []string
	for _, r := range slices.Sorted(maps.Keys(count)) {
		for range max(count[r], -count[r]) {
			out = append(out, map[bool]string{true: "found, not planted: ", false: "planted, not found: "}[count[r] > 0]+r)
		}
	}
	return out
}

// load sets the house up with a generated run.
func (h *house) load(dir string, plan *sandbox.Plan) {
	h.t.Helper()
	for _, f := range plan.Days[0].Files {
		switch f.Source {
		case sandbox.SourceSetup:
			h.setup(filepath.Join(dir, f.Path))
		case sandbox.SourcePlatform:
			h.importFile(filepath.Join(dir, f.Path))
		}
	}
}

// feedDay feeds one generated day's files in the order given.
func (h *house) feedDay(dir string, files []sandbox.File) {
	h.t.Helper()
	for _, f := range files {
		switch f.Source {
		case sandbox.SourceSetup, sandbox.SourcePlatform:
		default:
			h.feed(feed.Options{MerchantNo: f.MerchantNo, Hospital: f.Hospital}, filepath.Join(dir, f.Path))
		}
	}
}

func generate(t testing.TB, cfg sandbox.Config) (string, *sandbox.Plan) {
	t.Helper()
	dir := t.TempDir()
	plan, err := sandbox.Generate(cfg, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dir, plan
}

// TestGeneratedDays reconciles generated days whose faults were planted by code
// that shares nothing with the matcher: what is found is what was planted, row by
// row, and the books prove it. One seed is new in every run.
func TestGeneratedDays(t *testing.T) {
	for _, seed := range []uint64{1, 2, 3, rand.Uint64()} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			dir, plan := generate(t, sandbox.Config{Seed: seed, Payments: 1500, Hospitals: 4, Days: 2})
			h.load(dir, plan)
			var days []*recon.Day
			var dates []ledger.Day
			for n, day := range plan.Days {
				if n > 0 {
					for _, f := range day.Files {
						if f.Source == sandbox.SourcePlatform {
							h.importFile(filepath.Join(dir, f.Path))
						}
					}
				}
				h.feedDay(dir, day.Files)
				d := h.run(day.Day)
				for _, line := range differ(planned(day.Cases), found(d)) {
					t.Errorf("%s: %s", day.Day, line)
				}
				h.verify()
				days, dates = append(days, d), append(dates, day.Day)
				h.casesCarry(dates...)
				h.channelsTie(days...)
			}
			h.idle(dates...)
		})
	}
}

// trialOf prints a trial balance for comparison.
func trialOf(balances map[string]ledger.Money) string {
	codes := slices.SortedFunc(maps.Keys(balances), cmp.Compare[string])
	var b strings.Builder
	for _, code := range codes {
		fmt.Fprintf(&b, "%s %s\n", code, balances[code])
	}
	return b.String()
}

// TestOneHospitalKeepsNoOtherFromItsDay: what is wrong with one hospital's records
// is said of that hospital; the other is published, and the first follows when it
// is mended.
func TestOneHospitalKeepsNoOtherFromItsDay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	dir, plan := generate(t, sandbox.Config{Seed: 7, Payments: 600, Hospitals: 2})
	h.load(dir, plan)
	day := plan.Days[0]
	h.feedDay(dir, day.Files)
	spoil := func(effects string) {
		_, err := h.db.Pool.Exec(t.Context(), `
			INSERT INTO recon_legs (hospital, day, order_no, kind, refund_no, channel, merchant_no, code, case_id, d_fen, first_day, last_day,
				open, decided, settled, effects, proved_fen, lines)
			VALUES ('H2', $1, '0', 'PAY', '', 'WECHAT', '1900001109', '', '', 0, $1, $1, FALSE, FALSE, FALSE, $2, 0, '')
			ON CONFLICT (hospital, day, order_no, kind, refund_no) DO UPDATE SET effects = excluded.effects`, day.Day, effects)
		h.must(err)
	}
	spoil("nonsense")
	d, err := h.engine.Run(t.Context(), day.Day)
	if err == nil || !strings.Contains(err.Error(), "H2") || d == nil || len(d.Runs) != 1 || d.Runs[0].Hospital != "H1" {
		t.Fatalf("runs %+v, error %v", d, err)
	}
	h.verify()
	spoil("")
	for _, line := range differ(planned(day.Cases), found(h.run(day.Day))) {
		t.Error(line)
	}
	h.verify()
}
