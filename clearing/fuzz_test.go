package clearing

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// FuzzPlatformRows: whatever a file holds, a row that is taken has an amount above
// zero, a day, a known merchant number and, where it succeeded, no more settled
// than was asked; what is not taken is refused with a line.
func FuzzPlatformRows(f *testing.F) {
	text, err := os.ReadFile("testdata/platform.csv")
	if err != nil {
		f.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	f.Add(string(text))
	for _, line := range lines[1:] {
		f.Add(lines[0] + line)
	}
	file, err := readSetup(strings.NewReader(sampleSetup(f)))
	if err != nil {
		f.Fatal(err)
	}
	plan, err := file.plan()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := newRowReader(strings.NewReader(text), &plan.directory)
		for err == nil {
			var r *row
			if r, err = rows.next(); err != nil {
				break
			}
			if r.Amount <= 0 || r.Day < 19000101 || r.merchant == nil || r.Settle > r.Amount || r.Settle < 0 {
				t.Fatalf("line %d was taken: %+v", r.line, r.Leg)
			}
		}
		var broken *channels.FileError
		if !errors.Is(err, io.EOF) && !errors.As(err, &broken) {
			t.Fatalf("refused without a line: %v", err)
		}
	})
}

// FuzzSetup: a setup file that is taken never leaves a public hospital on mode B,
// a rate outside its range, or a merchant number without an account to settle to.
func FuzzSetup(f *testing.F) {
	f.Add(sampleSetup(f))
	f.Add(strings.ReplaceAll(sampleSetup(f), "settle_mode: A", "settle_mode: B"))
	f.Fuzz(func(t *testing.T, text string) {
		file, err := readSetup(strings.NewReader(text))
		if err != nil {
			return
		}
		plan, err := file.plan()
		if err != nil {
			return
		}
		for _, m := range plan.directory.Merchants {
			_, settles := plan.directory.Bank(m.Hospital, m.SettlesTo)
			if m.Ownership == Public && m.Mode != ModeA || !settles || m.Retained < 0 {
				t.Fatalf("taken: %+v", m)
			}
			for _, r := range m.Rates {
				if fee := ledger.Money(1_000_000).Times(r.Rate); fee < 0 || fee >= 100_000 {
					t.Fatalf("taken: rate %s", r.Rate)
				}
			}
		}
	})
}
