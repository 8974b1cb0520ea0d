package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// Stage is one step of a day's way from files to the published batch.
type Stage struct {
	Name  string
	Count int // rows, or lines
	Took  time.Duration
}

// DayTimings say how a generated day went.
type DayTimings struct {
	Payments int // of the business app
	Lines    int // rows of the business app, HIS and the trade bills: what is matched
	Stages   []Stage
	Total    time.Duration // from the files to the published batch
	PeakMiB  float64       // the most memory that our process held meanwhile
	Found    []CodeCount   // of the cases that the plan names, and of those that nobody planned
	Wrong    []string      // rows that were planned and not found, or found and not planned
}

// CodeCount is how often a code was planned and found.
type CodeCount struct {
	Code           recon.Code
	Planned, Found int
}

// timed runs a stage and notes how long it took.
func (t *DayTimings) timed(name string, run func() (count int, err error)) error {
	began := time.Now()
	count, err := run()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	t.Stages = append(t.Stages, Stage{name, count, time.Since(began)})
	return nil
}

// The stages of a day, in their order.
const (
	StageGenerate = "generate"
	StageSetup    = "setup"
	StageImport   = "import"
	StageHIS      = "feed HIS"
	StageChannel  = "feed channels"
	StageBank     = "feed bank"
	StageRecon    = "reconcile"
	StageRestate  = "restate"
)

// DayConfig says which day is generated, and where its files go.
type DayConfig struct {
	sandbox.Config
	Dir     string
	Restate bool        // then a channel hands in another edition of a bill, and the day is run again
	Meter   *Meter      // nil: silent
	Done    func(Stage) // after each stage; may be nil
}

// RunGeneratedDay generates a day, takes it from the files to the published
// batch and compares what was found with what was planted.
func RunGeneratedDay(ctx context.Context, s *Server, c DayConfig) (DayTimings, error) {
	if c.Meter == nil {
		c.Meter = &Meter{}
	}
	if c.Done == nil {
		c.Done = func(Stage) {}
	}
	defer c.Meter.Clear()
	var t DayTimings
	var plan *sandbox.Plan
	stage := func(name string, run func() (int, error)) error {
		if err := t.timed(name, run); err != nil {
			return err
		}
		c.Meter.Clear()
		c.Done(t.Stages[len(t.Stages)-1])
		return nil
	}
	err := stage(StageGenerate, func() (n int, err error) {
		if plan, err = sandbox.Generate(c.Config, c.Dir, c.Meter.Of(StageGenerate)); err != nil {
			return 0, err
		}
		for _, f := range plan.Days[0].Files {
			n += f.Rows
		}
		return n, nil
	})
	if err != nil {
		return t, err
	}
	if err := resetPeak(); err != nil {
		s.log.Info("the peak memory is that of the whole process", "error", err)
	}
	began := time.Now()
	day, err := s.takeDay(ctx, c, plan.Days[0], stage)
	t.Total, t.PeakMiB = time.Since(began), peakRSS()
	if err != nil {
		return t, err
	}
	for _, f := range plan.Days[0].Files {
		switch f.Source {
		case sandbox.SourcePlatform, sandbox.SourceHIS, sandbox.SourceTrade:
			t.Lines += f.Rows
		}
	}
	t.Payments = plan.Config.Payments
	planned := plan.Days[0].Cases
	if c.Restate {
		err := stage(StageRestate, func() (int, error) {
			again, err := sandbox.Restate(c.Dir, plan)
			if err != nil {
				return 0, err
			}
			planned = append(slices.Clone(planned), again.Removed, again.Added)
			day, err = s.restate(ctx, c, plan.Days[0].Day, again)
			return 2, err
		})
		if err != nil {
			return t, err
		}
	}
	t.compare(planned, day.Items)
	return t, nil
}

// restate feeds the other edition of a bill and runs the day again.
func (s *Server) restate(ctx context.Context, c DayConfig, day ledger.Day, again *sandbox.Restatement) (*recon.Day, error) {
	file := FileToFeed{filepath.Join(c.Dir, again.File), feed.Options{MerchantNo: again.Added.MerchantNo, Day: day}}
	if _, err := s.feedAll(ctx, FeedChannel, []FileToFeed{file}, c.Meter); err != nil {
		return nil, err
	}
	return s.Reconcile(ctx, day, c.Meter.Count)
}

// takeDay takes the files of a day to the published batch.
func (s *Server) takeDay(ctx context.Context, c DayConfig, plan *sandbox.DayPlan, stage func(string, func() (int, error)) error) (day *recon.Day, err error) {
	path := func(f sandbox.File) string { return filepath.Join(c.Dir, f.Path) }
	for _, source := range []string{sandbox.SourceSetup, sandbox.SourcePlatform} {
		for _, f := range plan.Files {
			switch {
			case f.Source != source:
			case source == sandbox.SourceSetup:
				err = stage(StageSetup, func() (int, error) {
					done, err := s.Setup(ctx, path(f))
					return done.Changed, err
				})
			default:
				err = stage(StageImport, func() (int, error) {
					done, err := s.Import(ctx, path(f), c.Meter.Of(StageImport))
					return done.Rows, err
				})
			}
			if err != nil {
				return nil, err
			}
		}
	}
	for _, feeding := range []struct {
		stage   string
		kind    FeedKind
		sources []string
	}{
		{StageHIS, FeedHIS, []string{sandbox.SourceHIS}},
		{StageChannel, FeedChannel, []string{sandbox.SourceTrade, sandbox.SourceFund}},
		{StageBank, FeedBank, []string{sandbox.SourceBank}},
	} {
		err := stage(feeding.stage, func() (int, error) {
			var files []FileToFeed
			for _, f := range plan.Files {
				if slices.Contains(feeding.sources, f.Source) {
					files = append(files, FileToFeed{path(f), said(plan, f)})
				}
			}
			return s.feedAll(ctx, feeding.kind, files, c.Meter)
		})
		if err != nil {
			return nil, err
		}
	}
	return day, stage(StageRecon, func() (int, error) {
		day, err = s.Reconcile(ctx, plan.Day, c.Meter.Count)
		if err != nil {
			return 0, err
		}
		return len(day.Items), nil
	})
}

// said is what a person would say of a generated file.
func said(plan *sandbox.DayPlan, f sandbox.File) feed.Options {
	switch f.Source {
	case sandbox.SourceHIS:
		return feed.Options{Counted: true, Rows: f.Rows, Sum: ledger.Money(f.PayFen - f.RefundFen)}
	case sandbox.SourceTrade, sandbox.SourceFund:
		return feed.Options{MerchantNo: f.MerchantNo, Day: plan.Day}
	}
	return feed.Options{}
}

// feedAll feeds files of which none may be refused, and counts their rows.
func (s *Server) feedAll(ctx context.Context, kind FeedKind, files []FileToFeed, m *Meter) (rows int, err error) {
	verdicts, err := s.Feed(ctx, kind, files, m.Count)
	for _, v := range verdicts {
		rows += int(v.File.Rows)
		err = errors.Join(err, v.Refused)
	}
	return rows, err
}

// row is what is compared of a case: what it is, whose, what each side says, and
// the difference.
type row struct {
	code                                        recon.Code
	polarity, channel, order, refund, reference string
	his, platform, bill                         string // fen, "" where the side has none
	fen                                         int64
}

// String implements fmt.Stringer.
func (r row) String() string {
	return strings.Join([]string{string(r.code), r.polarity, r.channel, r.order, r.refund, r.reference, r.his, r.platform, r.bill, strconv.FormatInt(r.fen, 10)}, ",")
}

// amount is fen as a text, "" for none.
func amount[M ~int64](fen *M) string {
	if fen == nil {
		return ""
	}
	return strconv.FormatInt(int64(*fen), 10)
}

// compare counts what was planned and found, by code, and names every row that
// stands on one side alone.
func (t *DayTimings) compare(planned []sandbox.Case, found []*recon.Item) {
	open, counts := map[row]int{}, map[recon.Code]*CodeCount{}
	count := func(code recon.Code) *CodeCount {
		if counts[code] == nil {
			counts[code] = &CodeCount{Code: code}
		}
		return counts[code]
	}
	for _, c := range planned {
		count(recon.Code(c.Code)).Planned++
		open[row{recon.Code(c.Code), c.Polarity, c.Channel, c.OrderNo, c.RefundNo, c.BankRef, amount(c.HisFen), amount(c.PlatformFen), amount(c.ChannelFen), c.AmountFen}]++
	}
	for _, i := range found {
		if i.Code.Listed() {
			count(i.Code).Found++
			open[row{i.Code, i.Polarity(), i.Channel, i.OrderNo, i.RefundNo, i.BankRef, amount(i.HIS), amount(i.Platform), amount(i.ChannelFen), int64(i.Amount)}]--
		}
	}
	for r, left := range open {
		for ; left > 0; left-- {
			t.Wrong = append(t.Wrong, "planned, not found: "+r.String())
		}
		for ; left < 0; left++ {
			t.Wrong = append(t.Wrong, "found, not planned: "+r.String())
		}
	}
	slices.Sort(t.Wrong)
	for _, code := range slices.SortedFunc(maps.Keys(counts), func(a, b recon.Code) int { return cmp.Compare(a, b) }) {
		t.Found = append(t.Found, *counts[code])
	}
}

var dayWords = map[string]map[string]string{
	"zh": {StageGenerate: "生成文件", StageSetup: "建档", StageImport: "导入平台流水", StageHIS: "接收医院明细", StageChannel: "接收渠道账单", StageBank: "接收银行流水", StageRecon: "对账", StageRestate: "账单重出，再对账（版本 2）",
		"stage": "步骤", "rows": "行数", "seconds": "秒", "whole": "从文件到发布", "speed": "%d 行三方流水，%.0f 行/秒；本程序内存峰值 %.0f MiB",
		"code": "差异", "planned": "预设", "found": "发现", "equal": "预设与发现逐行一致。", "differs": "预设与发现有 %d 行不一致："},
	"en": {StageGenerate: "generate files", StageSetup: "set up", StageImport: "import the platform's payments", StageHIS: "feed HIS", StageChannel: "feed channels", StageBank: "feed bank", StageRecon: "reconcile", StageRestate: "bill restated, run again (v2)",
		"stage": "stage", "rows": "rows", "seconds": "s", "whole": "files to published batch", "speed": "%d lines of three sides, %.0f lines/s; peak memory of our process %.0f MiB",
		"code": "difference", "planned": "planned", "found": "found", "equal": "Planned and found agree, row by row.", "differs": "%d rows differ between planned and found:"},
}

// WriteStage prints one stage that is done.
func WriteStage(w io.Writer, stage Stage, lang string) {
	fmt.Fprintf(w, "  %s %8d  %6.1f s\n", pad(words(dayWords, lang)[stage.Name], 32), stage.Count, stage.Took.Seconds())
}

// Write prints what was planned and found, and what the day took.
func (t *DayTimings) Write(w io.Writer, lang string) {
	d := words(dayWords, lang)
	fmt.Fprintf(w, "  %s %8s  %6.1f s\n", pad(d["whole"], 32), "", t.Total.Seconds())
	fmt.Fprintf(w, "  "+d["speed"]+"\n\n", t.Lines, float64(t.Lines)/t.Total.Seconds(), t.PeakMiB)
	list := newTable(d["code"], "", ">"+d["planned"], ">"+d["found"])
	for _, c := range t.Found {
		list.add(string(c.Code), c.Code.Words(lang), strconv.Itoa(c.Planned), strconv.Itoa(c.Found))
	}
	list.write(w)
	if len(t.Wrong) == 0 {
		fmt.Fprintln(w, "\n"+d["equal"])
		return
	}
	fmt.Fprintf(w, "\n"+d["differs"]+"\n", len(t.Wrong))
	for _, line := range t.Wrong {
		fmt.Fprintln(w, "  "+line)
	}
}
