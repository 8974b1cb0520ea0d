package recon_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// decide carries out one act on a case.
func (h *house) decide(id, who, act, resolution string, more ...string) (*recon.Case, error) {
	d := recon.Decision{CaseID: id, Who: who, Act: act, Resolution: resolution, Reason: "seen the receipt"}
	if len(more) > 0 {
		d.Detail = more[0]
	}
	return h.engine.Decide(h.t.Context(), d)
}

// settle proposes and approves.
func (h *house) settle(id, resolution string, more ...string) *recon.Case {
	h.t.Helper()
	_, err := h.decide(id, "maker", "propose", resolution, more...)
	h.must(err)
	c, err := h.decide(id, "checker", "approve", "")
	h.must(err)
	return c
}

// caseOf finds the case of a code, or of a code and an order number.
func (h *house) caseOf(day ledger.Day, code recon.Code, order string) *recon.Case {
	h.t.Helper()
	cases, err := h.engine.Cases(h.t.Context(), day, true)
	h.must(err)
	for i := range cases {
		if cases[i].Code == code && (order == "" || cases[i].OrderNo == order) {
			return &cases[i]
		}
	}
	h.t.Fatalf("there is no case %s %s", code, order)
	return nil
}

// outcome is what became of an approval, in a word: the state, or the refusal
// with the families of accounts that it names.
func outcome(c *recon.Case, err error) string {
	var refusal ledger.Refusal
	switch {
	case err == nil:
		return string(c.State)
	case !errors.As(err, &refusal):
		return err.Error()
	}
	families := regexp.MustCompile(`\b(\d{4})\b(\.[A-Z0-9.]+ under|: )`).FindAllStringSubmatch(err.Error(), -1)
	text := refusal.Code
	for _, f := range families {
		if !strings.Contains(text, f[1]) {
			text += " " + f[1]
		}
	}
	return text
}

// TestEveryResolution approves, for every code, kind and sign, every resolution
// that the code allows, on cases of a generated day. What becomes of each is the
// table testdata/resolutions.txt; afterwards the books verify and every case that
// is not closed carries its amount (scenario 62).
func TestEveryResolution(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	faults := map[string]int{}
	for code, n := range sandbox.DefaultFaults(4, 1) {
		faults[code] = n
		switch {
		case code == "BANK_UNIDENTIFIED":
			faults[code] = 2 * n
		case strings.HasPrefix(code, "BANK_"), code == "UNKNOWN_DEBIT", code == "WAITING":
		case len(code) <= 3, code == "PHANTOM", code == "BACKFILL", code == "PAID_TWICE":
			faults[code] = 6 * n
		}
	}
	dir, plan := generate(t, sandbox.Config{Seed: 7, Payments: 900, Hospitals: 4, Faults: faults})
	h.load(dir, plan)
	h.feedDay(dir, plan.Days[0].Files)
	day := plan.Days[0].Day
	h.run(day)
	cases, err := h.engine.Cases(t.Context(), day, false)
	h.must(err)
	got, next := map[string]bool{}, map[string]int{}
	for _, c := range cases {
		sign := map[bool]string{true: "+", false: "0"}[c.Amount > 0]
		if c.Amount < 0 {
			sign = "-"
		}
		name := fmt.Sprintf("%s %s %s", c.Code, strings.TrimSuffix(string(c.Kind), "-DUP"), sign)
		file, err := h.engine.CaseFile(t.Context(), c.ID)
		h.must(err)
		n := next[name]
		next[name]++
		if n >= len(file.May) {
			continue
		}
		_, err = h.decide(c.ID, "maker", "propose", file.May[n], "CT")
		h.must(err)
		got[fmt.Sprintf("%s %s: %s", name, file.May[n], outcome(h.decide(c.ID, "checker", "approve", "")))] = true
	}
	want, err := os.ReadFile("testdata/resolutions.txt")
	h.must(err)
	for _, line := range differ(strings.Split(strings.TrimSpace(string(want)), "\n"), slices.Sorted(maps.Keys(got))) {
		t.Error(line)
	}
	h.verify()
	h.casesCarry(day)
	h.idle(day)
}

// decidedSample is the sample day, reconciled.
func decidedSample(t testing.TB) *house {
	t.Helper()
	h := sampleHouse(t)
	h.feedSample(sampleFeeds...)
	h.run(sampleDay)
	return h
}

// TestCaseWork is what people may and may not do, each refusal with its sentence
// (scenarios 61, 62).
func TestCaseWork(t *testing.T) {
	t.Parallel()
	h := decidedSample(t)
	f1, f6 := h.caseOf(sampleDay, recon.F1, "").ID, h.caseOf(sampleDay, recon.F6, "").ID
	refused := func(want error, says string) func(*recon.Case, error) {
		return func(_ *recon.Case, err error) {
			t.Helper()
			if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
				t.Errorf("got %v, want %v saying %q", err, want, says)
			}
		}
	}
	refused(recon.ErrCaseUnknown, "there is no case case_x")(h.decide("case_x", "li", "propose", "NOTED"))
	refused(recon.ErrCaseState, "is OPEN, only a proposed case can be approved")(h.decide(f1, "li", "approve", ""))
	refused(recon.ErrCaseState, "is OPEN, only a proposed case can be approved or rejected")(h.decide(f1, "li", "reject", ""))
	refused(recon.ErrResolution, "CANCEL does not settle a case of F1 (渠道单边（平台无单）): BACKFILL, FOREIGN, NOTED, OWNER_UNKNOWN, REFUND")(h.decide(f1, "li", "propose", "CANCEL"))
	refused(recon.ErrResolution, "FOREIGN needs the owner")(h.decide(f1, "li", "propose", "FOREIGN"))

	c, err := h.decide(f1, "li", "propose", "NOTED")
	h.must(err)
	if c.State != recon.CaseProposed || c.Maker != "li" || c.Checker != "" {
		t.Errorf("proposed: %+v", c)
	}
	refused(recon.ErrCaseState, "is PROPOSED, a resolution is proposed for an open case")(h.decide(f1, "wang", "propose", "REFUND"))
	refused(recon.ErrSamePerson, "li proposed this resolution: another person must approve or reject it")(h.decide(f1, "li", "approve", ""))
	refused(recon.ErrSamePerson, "li proposed this resolution")(h.decide(f1, "li", "reject", ""))
	refused(recon.ErrSuspenseNotNil, "still carries 6.00 on 2241.H1 under "+f1+": a case closes only when its suspense is zero")(h.decide(f1, "wang", "approve", ""))
	_, err = h.engine.Decide(t.Context(), recon.Decision{CaseID: f1, Who: "wang", Act: "reject", Reason: "  "})
	refused(recon.ErrResolution, "say why the proposal is rejected")(nil, err)
	for range 2 { // the same word of the same person again changes nothing
		c, err = h.decide(f1, "wang", "reject", "")
		h.must(err)
	}
	if c.State != recon.CaseOpen || c.Resolution != "" || c.Maker != "" {
		t.Errorf("rejected: %+v", c)
	}

	// The debt to the patient rests in 2205: an F1 is closed with it, an F6 is that debt.
	if c := h.settle(f1, "REFUND"); c.State != recon.CaseClosed {
		t.Errorf("F1 refunded is %s", c.State)
	}
	if debts := h.open("2205."); !slices.Contains(debts, "open 2205.WX.1900000109 rf_"+strings.TrimPrefix(f1, "case_")+" 6.00") {
		t.Errorf("the debt of 6.00 is not in 2205: %v", debts)
	}
	if c := h.settle(f6, "REFUND"); c.State != recon.CaseApproved {
		t.Errorf("F6 refunded is %s, its debt is not paid yet", c.State)
	}
	c, err = h.decide(f1, "checker", "approve", "")
	if h.must(err); c.State != recon.CaseClosed {
		t.Errorf("approved again by the same person it is %s", c.State)
	}
	refused(recon.ErrCaseState, "is CLOSED")(h.decide(f1, "wang", "approve", ""))
	refused(recon.ErrCaseState, "is CLOSED")(h.decide(f1, "li", "propose", "REFUND"))
	file, err := h.engine.CaseFile(t.Context(), f1)
	h.must(err)
	var acts []string
	for _, l := range file.Log {
		acts = append(acts, l.Who+" "+l.Act)
	}
	if got := strings.Join(acts, ", "); got != "recon opened, li propose, wang reject, maker propose, checker approve" {
		t.Errorf("the log says %s", got)
	}
	h.verify()
	h.casesCarry(sampleDay)
}

// TestMakerIsNeverChecker holds against the program too: the table refuses it.
func TestMakerIsNeverChecker(t *testing.T) {
	t.Parallel()
	h := decidedSample(t)
	id := h.caseOf(sampleDay, recon.F1, "").ID
	_, err := h.decide(id, "li", "propose", "REFUND")
	h.must(err)
	_, err = h.db.Pool.Exec(t.Context(), `UPDATE recon_cases SET state = 'CLOSED', checker = maker WHERE id = $1`, id)
	if err == nil || !strings.Contains(err.Error(), "check constraint") {
		t.Errorf("a case with one person as maker and checker: %v", err)
	}
}

// TestTwoApprovalsAtOnce: one wins, the other is told so, and the journal stands once.
func TestTwoApprovalsAtOnce(t *testing.T) {
	t.Parallel()
	h := decidedSample(t)
	id := h.caseOf(sampleDay, recon.F3, "").ID
	_, err := h.decide(id, "li", "propose", "HIS_VOIDS")
	h.must(err)
	var group sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		group.Go(func() { _, errs[i] = h.decide(id, fmt.Sprint("checker ", i), "approve", "") })
	}
	group.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, recon.ErrCaseState):
			t.Errorf("the loser is told %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d approvals went through", won)
	}
	if n := h.column(`SELECT COUNT(*)::TEXT FROM entries WHERE kind = 'E14' AND case_id = $1`, id)[0]; n != "1" {
		t.Errorf("E14 stands %s times", n)
	}
	h.verify()
}

// fedHIS feeds the HIS details of the sample day with rows added: a restated file.
func (h *house) fedHIS(fen int, rows ...string) {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(sampleDir, "his.csv"))
	h.must(err)
	path := filepath.Join(h.t.TempDir(), "his.csv")
	h.must(os.WriteFile(path, []byte(strings.TrimRight(string(text), "\n")+"\n"+strings.Join(rows, "\n")+"\n"), 0o644))
	h.feed(feed.Options{Counted: true, Rows: hisFlags.Rows + len(rows), Sum: hisFlags.Sum + ledger.Money(fen)}, path)
}

// TestDecisionsStayWhenTheDayRunsAgain: what people decided and posted survives a
// new version of the day, and the row that HIS sends after its decision ends the
// matter without another posting (scenario 47). What a decision proves becomes
// the hospital's own: J25 with the close, J28c with the next run.
func TestDecisionsStayWhenTheDayRunsAgain(t *testing.T) {
	t.Parallel()
	h := decidedSample(t)
	i1 := h.caseOf(sampleDay, recon.I1, "")
	f3, f5, phantom := h.caseOf(sampleDay, recon.F3, "").ID, h.caseOf(sampleDay, recon.F5, "").ID, h.caseOf(sampleDay, recon.Phantom, "").ID
	for id, resolution := range map[string]string{i1.ID: "HIS_BOOKS", phantom: "CANCEL", f3: "HIS_VOIDS"} {
		if c := h.settle(id, resolution); c.State != recon.CaseClosed {
			t.Errorf("%s %s is %s", c.Code, resolution, c.State)
		}
	}
	if got := h.trial()["2202.H1.AVAIL"]; got != -6450 {
		t.Errorf("AVAIL is %s after HIS booked 64.50, want 64.50 released by J25", -got)
	}
	h.settle(f5, "HIS_VOIDS")
	h.verify()
	cases, before := h.decisions(), h.trial()

	h.fedHIS(6450, "H1,BW009001,PAY,WECHAT,"+i1.OrderNo+",,6450,2026-09-15 16:40:00,C03,OUTPATIENT,WECHAT,2600009001,C03-20260915-3,,")
	d := h.run(sampleDay)
	if d.Runs[0].Run != 2 {
		t.Errorf("run %d, want 2", d.Runs[0].Run)
	}
	sameState(t, "decisions after a new version", cases, h.decisions())
	h.verify()
	h.casesCarry(sampleDay)
	after := h.trial()
	for _, code := range []string{"1221.H1", "2204.H1", "2205.WX.1900000109", "2202.H1.PEND", "1122.WX.1900000109"} {
		if before[code] != after[code] {
			t.Errorf("%s was %s before the new version, is %s", code, before[code], after[code])
		}
	}
	// Of the 64.50 that were released 60.00 are proved no longer: the refund that the
	// channel took by itself (F5). The next release is less by that; what rests in the
	// account beside the 4.50 is no money of the hospital's.
	if got := -after["2202.H1.AVAIL"]; got != 6000 {
		t.Errorf("AVAIL is %s, want 60.00", got)
	}
	if got := after["1002.HOSP.755947919810515"]; got != 6951-450 {
		t.Errorf("in the account and not the hospital's own is %s, want 65.01", got)
	}
	h.idle(sampleDay)
}

// decisions lists the cases that people closed, with what they decided.
func (h *house) decisions() string {
	return strings.Join(h.column(`
		SELECT concat_ws(' ', id, code, state, resolution, reason, maker, checker)
		FROM recon_cases WHERE state IN ('CLOSED', 'APPROVED') ORDER BY id`), "\n")
}

// TestDisputedFee: a fee difference is disputed, credited and closed; one billed
// too low can only be accepted (scenario 54).
func TestDisputedFee(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	dir, plan := generate(t, sandbox.Config{Seed: 3, Payments: 60, Hospitals: 1, Faults: map[string]int{"F7": 3}})
	h.load(dir, plan)
	h.feedDay(dir, plan.Days[0].Files)
	h.run(plan.Days[0].Day)
	cases, err := h.engine.Cases(t.Context(), plan.Days[0].Day, false)
	h.must(err)
	if len(cases) != 3 {
		t.Fatalf("%d cases", len(cases))
	}
	for i := range cases {
		c := &cases[i]
		if c.Kind == "PAY" && c.FeeDiff < 0 {
			_, err := h.decide(c.ID, "maker", "propose", "DISPUTE_FEE")
			h.must(err)
			if _, err := h.decide(c.ID, "checker", "approve", ""); err == nil || !strings.Contains(err.Error(), "nothing to dispute") {
				t.Errorf("a fee billed too low was disputed: %v", err)
			}
			_, err = h.decide(c.ID, "checker", "reject", "")
			h.must(err)
			h.settle(c.ID, "ACCEPT_FEE")
			continue
		}
		if got := h.settle(c.ID, "DISPUTE_FEE"); got.State != recon.CaseApproved {
			t.Errorf("disputed: %s", got.State)
		}
		h.casesCarry(plan.Days[0].Day)
		if got := h.settle(c.ID, "FEE_CREDITED"); got.State != recon.CaseClosed {
			t.Errorf("credited: %s", got.State)
		}
	}
	h.verify()
	for code, fen := range h.trial() {
		if strings.HasPrefix(code, "2206.") {
			t.Errorf("%s is %s once every fee difference is settled", code, -fen)
		}
	}
}

// TestADecisionMadeWhileTheDayRunsStands: what a person approves between the moment
// at which a run reads the day and the one at which it publishes it is neither
// overwritten nor counted twice: the run begins again and takes it in.
func TestADecisionMadeWhileTheDayRunsStands(t *testing.T) {
	t.Parallel()
	h := decidedSample(t)
	i1, f3 := h.caseOf(sampleDay, recon.I1, ""), h.caseOf(sampleDay, recon.F3, "")
	for _, c := range []*recon.Case{i1, f3} {
		_, err := h.decide(c.ID, "maker", "propose", map[bool]string{true: "HIS_BOOKS", false: "HIS_VOIDS"}[c == i1])
		h.must(err)
	}
	h.fedHIS(6450, "H1,BW009001,PAY,WECHAT,"+i1.OrderNo+",,6450,2026-09-15 16:40:00,C03,OUTPATIENT,WECHAT,2600009001,C03-20260915-3,,")
	var once sync.Once
	h.engine.Progress = func(string, int) {
		once.Do(func() {
			for _, c := range []*recon.Case{i1, f3} {
				_, err := h.decide(c.ID, "checker", "approve", "")
				h.must(err)
			}
		})
	}
	h.run(sampleDay)
	h.engine.Progress = nil
	if got := h.column(`SELECT open::TEXT || decided::TEXT FROM recon_legs WHERE case_id = $1`, f3.ID); !slices.Equal(got, []string{"truetrue"}) {
		t.Errorf("the leg of the decided F3 is open, decided: %v", got)
	}
	if got := h.trial()["1221.H1"]; got != 15300-f3.Amount.Abs() {
		t.Errorf("1221 is %s", got)
	}
	h.verify()
	h.casesCarry(sampleDay)
	h.idle(sampleDay)
}
