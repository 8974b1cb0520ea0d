package recon

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestEffects is the table testdata/effects.txt: for every code and kind the
// journals that stand for the leg, with amounts and fees, and what it proves
// (spec/accounting.md 3.3 to 3.5). A block is a name, the lines in the language
// of match_test.go, and what must stand: code, journal:amount:fee, "proved fen".
func TestEffects(t *testing.T) {
	text, err := os.ReadFile("testdata/effects.txt")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[Code]bool{}
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		rows := strings.Split(block, "\n")
		name := strings.TrimPrefix(rows[0], "# ")
		t.Run(name, func(t *testing.T) {
			var lines []Line
			var want []string
			for _, row := range rows[1:] {
				if expected, ok := strings.CutPrefix(row, "= "); ok {
					want = append(want, expected)
				} else {
					lines = append(lines, parseLine(t, row))
				}
			}
			var got []string
			for _, leg := range matchAll(openRules(), lines) {
				if strings.HasPrefix(name, "RESTATED") && leg.Code.Exception() {
					leg.Code, leg.under = Restated, leg.Code
				}
				for one := range leg.all() {
					codes[leg.Code] = true
					got = append(got, stands(one))
				}
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s\ngot\n= %s\nwant\n= %s", block, strings.Join(got, "\n= "), strings.Join(want, "\n= "))
			}
		})
	}
	for _, code := range []Code{Match, F1, F2, F3, F4, F5, F6, F7, F9, F10, F11, F12, I1, I2, I3, I4, I5, I6, I7, I8,
		Backfill, Phantom, Pending, Sweep, NetZero, Restated} {
		if !codes[code] {
			t.Errorf("the table has no %s", code)
		}
	}
}

func stands(leg *Leg) string {
	effects, proved := leg.effects()
	out := string(leg.Code)
	for _, e := range effects {
		out += fmt.Sprintf(" %s:%d:%d", e.Journal, e.Amount, e.Fee)
	}
	return fmt.Sprintf("%s proved %d", out, proved)
}
