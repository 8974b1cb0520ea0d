package api

import (
	"bytes"
	"context"
	"embed"
	"encoding/csv"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// The sample day: the files of a hospital's 2026-09-15 and what a right
// reconciliation finds in them.
//
//go:embed testdata/day
var sampleFS embed.FS

// sampleDay is the business day of the sample.
const sampleDay ledger.Day = 20260915

// sampleFeeds are its files in the order in which a person would feed them.
var sampleFeeds = []struct {
	kind  FeedKind
	stage string
	files []string
}{
	{FeedHIS, StageHIS, []string{"his.csv"}},
	{FeedChannel, StageChannel, []string{
		"wechat_tradebill_ALL_20260915.csv", "wechat_fundflow_BASIC_20260915.csv",
		"alipay_20880000000000020156_20260915_trade.csv.zip", "alipay_20880000000000020156_20260915_signcustomer.csv.zip",
	}},
	{FeedBank, StageBank, []string{"bank_camt053_20260916.xml"}},
}

// sampleHIS is what the hospital says of its file, which has no last line.
var sampleHIS = feed.Options{Counted: true, Rows: 50, Sum: 1604899}

// sampleBalances are the balances of spec/accounting.md 3.7 in fen, debits above
// zero; every other account stands at zero.
var sampleBalances = map[string]ledger.Money{
	"1002.HOSP.755947919810515": 69_51, "1122.WX.1900000109": 20_00, "1125.WX.1900000109": 1206_00, "1221.H1": 153_00,
	"2202.H1.PEND": -95_00, "2204.H1": -111_41, "2205.ALI.20880000000000020156": -5_00, "2205.WX.1900000109": -1231_00,
	"2206.WX.1900000109": -12, "2241.H1": -6_10, "2242.H1": -95_13, "6601.H1": 95_25,
}

// takeSample writes the sample's files into dir and takes them to the published
// batch.
func (s *Server) takeSample(ctx context.Context, dir string, m *Meter, done func(Stage)) (day *recon.Day, err error) {
	files, err := fs.Sub(sampleFS, "testdata/day")
	if err == nil {
		err = os.CopyFS(dir, files)
	}
	if err != nil {
		return nil, fmt.Errorf("sample day: %w", err)
	}
	var t DayTimings
	step := func(name string, run func() (int, error)) {
		if err == nil {
			if err = t.timed(name, run); err == nil {
				m.Clear()
				done(t.Stages[len(t.Stages)-1])
			}
		}
	}
	step(StageSetup, func() (int, error) {
		summary, err := s.Setup(ctx, filepath.Join(dir, "setup.yaml"))
		return summary.Changed, err
	})
	step(StageImport, func() (int, error) {
		summary, err := s.Import(ctx, filepath.Join(dir, "platform.csv"), m.Of(StageImport))
		return summary.Rows, err
	})
	for _, feeding := range sampleFeeds {
		step(feeding.stage, func() (int, error) {
			var files []FileToFeed
			for _, name := range feeding.files {
				file := FileToFeed{Path: filepath.Join(dir, name)}
				if feeding.kind == FeedHIS {
					file.Options = sampleHIS
				}
				files = append(files, file)
			}
			return s.feedAll(ctx, feeding.kind, files, m)
		})
	}
	step(StageRecon, func() (int, error) {
		if day, err = s.Reconcile(ctx, sampleDay, m.Count); err != nil {
			return 0, err
		}
		return len(day.Items), nil
	})
	return day, err
}

// sampleFound compares the list of the day with expected.csv.
func sampleFound(out io.Writer, day *recon.Day, lang string) error {
	text, err := sampleFS.ReadFile("testdata/day/expected.csv")
	if err != nil {
		return err
	}
	var list bytes.Buffer
	if err := day.Write(&list, recon.FormatCSV, lang); err != nil {
		return err
	}
	wrong, rows, err := differences(bytes.NewReader(text), &list)
	if err != nil {
		return err
	}
	t := words(demoWords, lang)
	if len(wrong) == 0 {
		fmt.Fprintf(out, "\n"+t["expected"]+"\n", rows)
		return nil
	}
	fmt.Fprintln(out, "\n"+t["unexpected"])
	for _, line := range wrong {
		fmt.Fprintln(out, "  "+line)
	}
	return fmt.Errorf("%w: %d rows of the sample day differ", ErrDemo, len(wrong))
}

// differences names the rows that stand in one of two lists alone, and counts
// those of the first.
func differences(expected, found io.Reader) (wrong []string, rows int, err error) {
	left := map[string]int{}
	for sign, list := range map[int]io.Reader{1: expected, -1: found} {
		records, err := csv.NewReader(list).ReadAll()
		if err != nil {
			return nil, 0, fmt.Errorf("compare lists: %w", err)
		}
		for _, record := range records {
			left[strings.Join(record, ",")] += sign
		}
		if sign > 0 {
			rows = len(records) - 1
		}
	}
	for line, n := range left {
		switch {
		case n > 0:
			wrong = append(wrong, "expected, not found: "+line)
		case n < 0:
			wrong = append(wrong, "found, not expected: "+line)
		}
	}
	slices.Sort(wrong)
	return wrong, rows, nil
}

// sampleBooks compares the balances with the manual's.
func sampleBooks(out io.Writer, all []ledger.AccountBalance, lang string) error {
	left := maps.Clone(sampleBalances)
	for _, a := range all {
		left[a.Code] -= a.Debits - a.Credits
	}
	t, wrong := words(demoWords, lang), 0
	for _, code := range slices.Sorted(maps.Keys(left)) {
		if left[code] == 0 {
			continue
		}
		if wrong++; wrong == 1 {
			fmt.Fprintln(out, t["off"])
		}
		is := sampleBalances[code] - left[code]
		fmt.Fprintf(out, "  %s: %s, 3.7: %s\n", code, is, sampleBalances[code])
	}
	if wrong > 0 {
		return fmt.Errorf("%w: %d balances of the sample day differ", ErrDemo, wrong)
	}
	fmt.Fprintln(out, t["balances"])
	return nil
}
