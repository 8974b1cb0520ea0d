package payout_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/clearward/clearward/clearing/payout"
)

const rulesText = `
limits:
  - {role: FINANCE_HEAD, act: APPROVE, from: "2026-09-15", each_fen: 30000, day_fen: 50000}
bands:
  - {from: "2026-09-15", above_fen: 0, checkers: 1}
  - {from: "2026-09-15", above_fen: 20000, checkers: 2}
windows:
  - {account: "8801", from: "2026-09-15", opens: "08:30", closes: "09:00", every_day: true}
`

func (h *house) rules(text string) (int, error) {
	h.t.Helper()
	r, err := payout.ReadRules(strings.NewReader(text))
	if err != nil {
		return 0, err
	}
	return r.Store(h.t.Context(), h.DB)
}

// K03: limits by role, bands and windows are set in a file, and hold.
func TestRulesAreSetOnceAndHold(t *testing.T) {
	h := open(t)
	for _, want := range []int{4, 0} {
		if n, err := h.rules(rulesText); err != nil || n != want {
			t.Fatalf("%d new, %v, want %d", n, err, want)
		}
	}
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	if got := h.is(p.Number, payout.Requested); got.Needs != 2 {
		t.Errorf("it needs %d checkers", got.Needs)
	}
	if _, err := h.Approve(t.Context(), zhao, approval(p)); err != nil {
		t.Fatal(err)
	}
	h.send(0, 1)
	if got := h.get(p.Number); !strings.Contains(got.Held, "the next window opens 2026-09-16 08:30") {
		t.Errorf("held %q", got.Held)
	}
	if _, err := h.rules(strings.Replace(rulesText, "50000", "50001", 1)); !errors.Is(err, payout.ErrRules) ||
		!strings.Contains(err.Error(), "the limit of FINANCE_HEAD to APPROVE from 2026-09-15 is set already and stays as it is: name a later day") {
		t.Errorf("%v", err)
	}
	if n, err := h.rules(strings.ReplaceAll(rulesText, "2026-09-15", "2026-10-01")); err != nil || n != 4 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestRulesThatCannotHoldAreRefusedWithTheRule(t *testing.T) {
	for says, change := range map[string][2]string{
		"each_fen is above zero, and at most day_fen": {"day_fen: 50000", "day_fen: 29999"},
		"to REQUEST or to APPROVE":                    {"act: APPROVE", "act: approve"},
		`from: "2026-09-31" is no day`:                {"2026-09-15", "2026-09-31"},
		"one person or more approves":                 {"checkers: 2", "checkers: 0"},
		`not "08:30" and "08:29"`:                     {"09:00", "08:29"},
		`not "08:30" and "9 o'clock"`:                 {"09:00", "9 o'clock"},
		"field amount not found":                      {"above_fen: 20000", "amount: 20000"},
	} {
		if _, err := payout.ReadRules(strings.NewReader(strings.Replace(rulesText, change[0], change[1], 1))); !errors.Is(err, payout.ErrRules) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	if _, err := payout.ReadRules(strings.NewReader("limits: []")); !errors.Is(err, payout.ErrRules) || !strings.Contains(err.Error(), "it says nothing") {
		t.Error(err)
	}
}

func FuzzRules(f *testing.F) {
	f.Add(rulesText)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := payout.ReadRules(strings.NewReader(text))
		if err == nil && len(r.Limits)+len(r.Bands)+len(r.Windows) == 0 {
			t.Error("rules that say nothing")
		}
	})
}
