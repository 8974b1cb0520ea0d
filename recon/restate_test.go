package recon_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon/feed"
)

// importDay imports the platform's payments of a generated day.
func (h *house) importDay(dir string, day *sandbox.DayPlan) {
	h.t.Helper()
	for _, f := range day.Files {
		if f.Source == sandbox.SourcePlatform {
			h.importFile(filepath.Join(dir, f.Path))
		}
	}
}

// versions lists the versions of the pairs of a day.
func (h *house) versions(day ledger.Day) []string {
	h.t.Helper()
	return h.column(`
		SELECT concat_ws(' ', hospital, channel, merchant_no, pair, 'version', MAX(version))
		FROM recon_versions WHERE day = $1 GROUP BY hospital, channel, merchant_no, pair ORDER BY 1`, day)
}

// TestRestatedBill: a bill comes again with one row gone and one put in. The
// FUNDS pair of that number alone has a version 2, two cases alone change, what
// stood for the row that is gone is undone, both versions can be seen; feeding
// the first edition again makes version 3 with the state of version 1
// (scenario 41).
func TestRestatedBill(t *testing.T) {
	for _, settled := range []bool{true, false} {
		t.Run(map[bool]string{true: "after settlement", false: "before settlement"}[settled], func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			dir, plan := generate(t, sandbox.Config{Seed: 11, Payments: 300, Hospitals: 2, Gzip: settled})
			day := plan.Days[0]
			h.load(dir, plan)
			files := slices.Clone(day.Files)
			if !settled {
				files = slices.DeleteFunc(files, func(f sandbox.File) bool { return f.Source == sandbox.SourceBank })
			}
			h.feedDay(dir, files)
			first := h.run(day.Day)
			items, versions, state, trial := found(first), h.versions(day.Day), h.state(day.Day), h.trial()

			restated, err := sandbox.Restate(dir, plan)
			h.must(err)
			h.feed(feed.Options{}, filepath.Join(dir, restated.File))
			second := h.run(day.Day)
			no := restated.Removed.MerchantNo
			if got := differ(versions, h.versions(day.Day)); len(got) != 2 || !strings.Contains(got[0]+got[1], no+" FUNDS version 2") {
				t.Errorf("the versions that changed: %v", got)
			}
			removed := restated.Removed
			if !settled {
				removed.Code = "F3"
			}
			want := append(slices.Clone(items), planned([]sandbox.Case{removed, restated.Added})...)
			for _, line := range differ(want, found(second)) {
				t.Errorf("%s", line)
			}
			h.verify()
			h.casesCarry(day.Day)
			h.idle(day.Day)
			if one := h.column(`SELECT COUNT(*)::TEXT FROM recon_items WHERE day = $1 AND hospital = 'H1' AND run = 1`, day.Day)[0]; one == "0" {
				t.Error("the first version cannot be seen any more")
			}
			h.undoneOnce(restated.Removed.OrderNo)

			h.feed(feed.Options{}, filepath.Join(dir, plan.Restatable.File))
			h.run(day.Day)
			if got := trialOf(h.trial()); got != trialOf(trial) {
				sameState(t, "balances with the first edition again", trialOf(trial), got)
			}
			sameState(t, "the first edition again", withoutClosed(state), withoutClosed(h.state(day.Day)))
			h.verify()
			h.idle(day.Day)
		})
	}
}

// withoutClosed leaves out the cases that a run has closed.
func withoutClosed(state string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(state, "\n"), func(line string) bool { return strings.Contains(line, "AUTO_CLOSED") }), "\n")
}

// undoneOnce: the money of the row that is gone left 1122 by E11, once.
func (h *house) undoneOnce(order string) {
	h.t.Helper()
	if got := h.column(`SELECT kind FROM entries WHERE ref = $1 AND maker = 'recon' ORDER BY lane, seq, ord`, order); !slices.Equal(got, []string{"J02", "E11"}) {
		h.t.Errorf("posted for %s: %v", order, got)
	}
}
