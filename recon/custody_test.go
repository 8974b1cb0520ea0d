package recon_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// ahead is what the bank has taken of custody that the hospital's money there does
// not cover: 2208 under the cases, on the credit side.
func (h *house) ahead() (fen ledger.Money) {
	h.t.Helper()
	for code, balance := range h.trial() {
		if strings.HasPrefix(code, "2208.CUST.") {
			fen -= balance
		}
		if strings.HasPrefix(code, "1002.CUST.") && balance < 0 {
			h.t.Errorf("%s is %s", code, balance)
		}
	}
	return fen
}

// bears settles every open unknown debit of the day, in turn by the resolutions.
func (h *house) bears(day ledger.Day, resolutions ...string) (settled int) {
	h.t.Helper()
	cases, err := h.engine.Cases(h.t.Context(), day, false)
	h.must(err)
	for _, c := range cases {
		if c.Code != recon.UnknownDebit {
			continue
		}
		if got := h.settle(c.ID, resolutions[settled%len(resolutions)]); got.State != recon.CaseClosed {
			h.t.Errorf("%s of %s is %s", got.Resolution, c.BankRef, got.State)
		}
		settled++
	}
	return settled
}

// TestTheBankTakesMoreThanCustodyHas: a bank line is a fact. A debit that is larger
// than the hospital's custody money is booked, an alarm, and keeps nothing from the
// day; what the money does not cover is taken out of what comes in next (E39, J34).
func TestTheBankTakesMoreThanCustodyHas(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	dir, plan := generate(t, sandbox.Config{Seed: 11, Payments: 300, Hospitals: 2, Days: 2, Faults: map[string]int{"F1": 2}})
	h.setup(modeB(t, filepath.Join(dir, "setup.yaml")))
	h.importDay(dir, plan.Days[0])
	h.feedDay(dir, plan.Days[0].Files)
	day := plan.Days[0].Day
	h.run(day)
	h.verify()
	h.casesCarry(day)
	h.idle(day)
	first, trial := h.ahead(), h.trial()
	if cust := trial["1002.CUST.755947919810515.H1"]; first <= 0 || cust != 0 {
		t.Fatalf("the bank took %s ahead, and %s is there", first, cust)
	}
	if n := h.bears(day, "PLATFORM_BEARS", "HOSPITAL_BEARS"); n < 2 {
		t.Fatalf("%d unknown debits", n)
	}
	h.verify()
	h.casesCarry(day)
	if left := h.trial()["1221.H1"]; left != 0 {
		t.Errorf("1221 is %s once the debits are settled", left)
	}
	h.nextDay(dir, plan)
	h.verify()
	if n := h.column(`SELECT COUNT(*)::TEXT FROM entries WHERE kind = 'J34'`)[0]; n != "0" {
		t.Errorf("J34 stands %s times before any money has come in", n)
	}
	if second := h.ahead(); second <= first {
		t.Errorf("ahead %s after %s", second, first)
	}
	h.idle(day, plan.Days[1].Day)
}

// TestADebitOfCustodyIsRestated: the statement that comes again without the debits
// undoes them, to the fen, on the account and on 2208.
func TestADebitOfCustodyIsRestated(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.setupSampleB()
	h.feedSample(sampleFeeds...)
	h.run(sampleDay)
	h.verify()
	// 15,756.96 came in, 25,000.00 and the bank's 12.00 went out.
	if got := h.ahead(); got != 2500000+1200-1575696 {
		t.Errorf("the bank took %s ahead", got)
	}
	h.idle(sampleDay)
	h.feed(feed.Options{}, custodyStatement(t))
	h.run(sampleDay)
	h.expectBalances(sampleTrialB)
	h.verify()
	if got := h.column(`SELECT state FROM recon_cases WHERE code = 'UNKNOWN_DEBIT'`); !slices.Equal(got, []string{"AUTO_CLOSED"}) {
		t.Errorf("the case of the debit is %v", got)
	}
	h.idle(sampleDay)
}

// setupSampleB sets the sample hospital up on settle mode B and imports its day.
func (h *house) setupSampleB() {
	h.t.Helper()
	h.setup(modeB(h.t, filepath.Join(sampleDir, "setup.yaml")))
	h.importFile(filepath.Join(sampleDir, "platform.csv"))
}
