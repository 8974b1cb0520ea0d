package recon_test

import (
	"testing"

	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// TestMoneyThatComesAfterADecisionIsADifference: an F3 is decided, so that HIS voids
// the bill; then the channel has the money after all. It is long, on the day on which
// it came and in the bill of the first day that comes again, and the decision stands.
func TestMoneyThatComesAfterADecisionIsADifference(t *testing.T) {
	for _, c := range []struct {
		name string
		day  ledger.Day
	}{{"on the next day", nextDay}, {"in the first day's bill, restated", sampleDay}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := story{first: []string{"platform PAY O1 5000 15:00:00", "his PAY O1 5000 15:00:00"}}
			h := s.house(t)
			h.day(s.first, sampleDay)
			h.run(sampleDay)
			f3 := h.caseOf(sampleDay, recon.F3, "O1").ID
			h.settle(f3, "HIS_VOIDS")
			h.tell(c.day, "channel", "channel PAY O1 5000 14:00:00")
			if c.day == nextDay {
				h.tell(nextDay, "his")
			}
			h.run(c.day)
			h.verify()
			late := h.caseOf(c.day, recon.F1, "O1")
			if late.Amount != 5000 || late.ID == f3 {
				t.Errorf("the case is %+v", late)
			}
			h.casesCarry(sampleDay, nextDay)
			h.idle(sampleDay, c.day)
			if got := h.settle(late.ID, "REFUND"); got.State != recon.CaseClosed {
				t.Errorf("refunded: %s", got.State)
			}
			file, err := h.engine.CaseFile(t.Context(), f3)
			h.must(err)
			if file.State != recon.CaseClosed || len(file.Suspense) != 0 {
				t.Errorf("the decided case is %s and carries %v", file.State, file.Suspense)
			}
			h.verify()
			h.day(nil, nextDay.Add(1))
			h.run(nextDay.Add(1))
			h.verify()
			h.casesCarry(sampleDay, nextDay)
		})
	}
}
