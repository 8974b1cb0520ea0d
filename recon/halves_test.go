package recon_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// modeB writes the setup file anew with private hospitals whose money a bank keeps.
func modeB(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer("PUBLIC", "PRIVATE", "settle_mode: A", "settle_mode: B", "SETTLEMENT", "CUSTODY").Replace(string(text))
	path = filepath.Join(t.TempDir(), "setup.yaml")
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMoneyAtAnotherHospitalIsSettled: payments and refunds whose money moved at
// another hospital's merchant number come to a close, from the files on: on mode A
// the one hospital pays the other (E22c), in custody the debt is re-routed (E22d).
// Nothing of them rests anywhere then, and both hospitals' money is released
// (spec/accounting.md 3.5 F9, scenarios 34, 78).
func TestMoneyAtAnotherHospitalIsSettled(t *testing.T) {
	for _, c := range []struct {
		mode, resolution, other string
		journals                map[string][]string
	}{
		{"A", "PAID_OVER", "RE_ROUTED", map[string][]string{"PAY": {"E22c"}, "REFUND": {"E02", "E22c"}}},
		{"B", "RE_ROUTED", "PAID_OVER", map[string][]string{"PAY": {"E22d"}, "REFUND": {"E22d"}}},
	} {
		t.Run("mode "+c.mode, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			dir, plan := generate(t, sandbox.Config{Seed: 11, Payments: 300, Hospitals: 2, Days: 2, Faults: map[string]int{"F9": 8}})
			if c.mode == "B" {
				h.setup(modeB(t, filepath.Join(dir, "setup.yaml")))
				h.importDay(dir, plan.Days[0])
			} else {
				h.load(dir, plan)
			}
			h.feedDay(dir, plan.Days[0].Files)
			day := plan.Days[0].Day
			h.run(day)
			h.verify()
			settled := map[string]int{}
			cases, err := h.engine.Cases(t.Context(), day, false)
			h.must(err)
			for _, one := range cases {
				if halves := h.column(`SELECT DISTINCT hospital FROM recon_legs WHERE case_id = $1`, one.ID); one.Code != recon.F9 || len(halves) != 2 {
					continue
				}
				h.refuses(one.ID, "NOTED", recon.ErrSuspenseNotNil)
				h.refuses(one.ID, c.other, recon.ErrResolution)
				if got := h.settle(one.ID, c.resolution); got.State != recon.CaseClosed {
					t.Errorf("F9 %s %s is %s", one.Kind, one.OrderNo, got.State)
				}
				if file, err := h.engine.CaseFile(t.Context(), one.ID); err != nil || len(file.Suspense) != 0 {
					t.Errorf("F9 %s %s carries %v, %v", one.Kind, one.OrderNo, file.Suspense, err)
				}
				got := h.column(`SELECT kind FROM entries WHERE case_id = $1 AND checker = 'checker' AND kind NOT IN ('J25', 'J28c') ORDER BY lane, seq, ord`, one.ID)
				if !slices.Equal(got, c.journals[string(one.Kind)]) {
					t.Errorf("F9 %s %s posted %v", one.Kind, one.OrderNo, got)
				}
				settled[string(one.Kind)]++
			}
			if settled["PAY"] == 0 || settled["REFUND"] == 0 {
				t.Fatalf("settled %v", settled)
			}
			h.verify()
			h.casesCarry(day)
			h.idle(day)
			h.nextDay(dir, plan)
			h.verify()
			h.bears(day, "PLATFORM_BEARS")
			h.bears(plan.Days[1].Day, "PLATFORM_BEARS")
			h.verify()
			h.casesCarry(day, plan.Days[1].Day)
			h.nothingRests()
		})
	}
}

// refuses proposes a resolution, sees the approval refused and the case open again.
func (h *house) refuses(id, resolution string, want ledger.Refusal) {
	h.t.Helper()
	_, err := h.decide(id, "maker", "propose", resolution)
	h.must(err)
	if _, err := h.decide(id, "checker", "approve", ""); outcome(nil, err)[:len(want.Code)] != want.Code {
		h.t.Errorf("%s of %s: %v, want %s", resolution, id, err, want.Code)
	}
	_, err = h.decide(id, "checker", "reject", "")
	h.must(err)
}

// nextDay loads, feeds and runs the second generated day.
func (h *house) nextDay(dir string, plan *sandbox.Plan) {
	h.t.Helper()
	h.importDay(dir, plan.Days[1])
	h.feedDay(dir, plan.Days[1].Files)
	h.run(plan.Days[1].Day)
}

// nothingRests: what is neither suspense nor pending nor on its way is the
// hospitals' own, and in custody it is there for a payout.
func (h *house) nothingRests() {
	h.t.Helper()
	for code, fen := range h.trial() {
		family, _, _ := strings.Cut(code, ".")
		if fen != 0 && slices.Contains([]string{"1221", "2241", "2204", "2205", "1125", "1124"}, family) || strings.HasSuffix(code, ".PEND") && fen != 0 {
			h.t.Errorf("%s is %s", code, fen)
		}
	}
}

// TestNothingIsPaidOverThatHasNotCome: before the channel's money is in the account
// of the hospital that holds it, there is nothing that it could have passed on.
func TestNothingIsPaidOverThatHasNotCome(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	dir, plan := generate(t, sandbox.Config{Seed: 11, Payments: 300, Hospitals: 2, Faults: map[string]int{"F9": 8}})
	h.load(dir, plan)
	h.feedDay(dir, slices.DeleteFunc(slices.Clone(plan.Days[0].Files), func(f sandbox.File) bool { return f.Source == sandbox.SourceBank }))
	h.run(plan.Days[0].Day)
	c := h.caseOf(plan.Days[0].Day, recon.F9, h.column(`
		SELECT order_no FROM recon_legs WHERE code = 'F9' AND kind = 'PAY' GROUP BY order_no HAVING COUNT(DISTINCT hospital) = 2 ORDER BY 1`)[0])
	_, err := h.decide(c.ID, "maker", "propose", "PAID_OVER")
	h.must(err)
	if _, err := h.decide(c.ID, "checker", "approve", ""); err == nil || !strings.Contains(err.Error(), "has reached the account of") {
		t.Errorf("approved: %v", err)
	}
	h.verify()
}
