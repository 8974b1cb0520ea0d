package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger/db"
)

// BenchOptions says how to measure.
type BenchOptions struct {
	Quick  bool      // small sizes and one round, under 50 s
	Out    string    // the file that the figures are written to, "" for none
	Log    io.Writer // progress and the table, for people
	Rounds int       // how often the small ones are measured in turn; 0: three, one where Quick is set

	size *benchSize // of a test, which measures next to nothing
}

// Figure is one measurement, as it stands in bench.json. Absolute figures say as
// much of the machine as of the program; what counts is the ratio to another
// figure of the same run.
type Figure struct {
	Name       string  `json:"name"`
	Value      float64 `json:"value"`
	Unit       string  `json:"unit"`
	RatioTo    string  `json:"ratio_to"`
	Ratio      float64 `json:"ratio"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	PeakRSSMiB float64 `json:"peak_rss_mib"` // of this process, which holds the broker too, not of the database
	Note       string  `json:"note"`
}

// benchSize is how much is measured.
type benchSize struct {
	rounds   int
	span     time.Duration // of each measurement that is limited by time
	scale    int           // of pgbench
	accounts int
	callers  int
	full     int   // entries of one measurement of full groups
	copied   int   // rows of one COPY
	bill     int   // payments of the day whose largest WeChat bill is parsed
	match    int   // rows on each side
	days     []int // payments of the days that are reconciled, smallest first
	volatile bool  // nothing is flushed to the disk
}

var (
	benchFull = benchSize{rounds: 3, span: 3 * time.Second, scale: 10, accounts: 10_000, callers: 64,
		full: 65_536, copied: 400_000, bill: 380_000, match: 300_000, days: []int{33_000, 200_000}}
	benchQuick = benchSize{rounds: 1, span: 1200 * time.Millisecond, scale: 10, accounts: 10_000, callers: 64,
		full: 24_576, copied: 120_000, bill: 60_000, match: 60_000, days: []int{10_000}}
)

// reading is one measurement.
type reading struct {
	value    float64 // in the unit of the measure
	p50, p99 float64 // ms, 0 where single delays mean nothing
	peak     float64 // MiB of this process
	grown    float64 // MiB above what it held before
	detail   string  // what else it told
}

// goal is a target of design/performance.md 3: a multiple of another figure, or
// a value where beside is empty.
type goal struct {
	beside string
	times  float64
}

// measure is something that is measured once in every round.
type measure struct {
	name, unit string
	note       string
	memory     int    // MiB that it may need at most, 0 where nothing is said of it
	goals      []goal // the first one's figure stands beside this one in the table
	run        func(ctx context.Context) (reading, error)
}

// bench is one run of all measurements.
type bench struct {
	opts     BenchOptions
	size     benchSize
	dir      string // goes when the run ends
	server   *Server
	owner    *db.DB // of the database of reference points
	naive    *db.DB // the same as the application, a connection for each caller
	pgbench  string // "" where there is none
	readings map[string][]reading
	figures  []Figure
}

// Bench measures on a database and a broker of its own, with durable settings, in
// a fresh folder that it removes, prints the figures and writes them to a file.
func Bench(ctx context.Context, opts BenchOptions) (err error) {
	b := &bench{opts: opts, size: benchFull, readings: map[string][]reading{}}
	if opts.Quick {
		b.size = benchQuick
	}
	if opts.size != nil {
		b.size = *opts.size
	}
	if opts.Rounds > 0 {
		b.size.rounds = opts.Rounds
	}
	if b.dir, err = benchFolder(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	began := time.Now()
	for _, part := range []func(context.Context) error{b.benchParsing, b.benchTables, b.benchDays} {
		if err := part(ctx); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	writeFigures(opts.Log, b.figures)
	fmt.Fprintf(opts.Log, "measured in %.0f s\n", time.Since(began).Seconds())
	if opts.Out == "" {
		return nil
	}
	text, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(opts.Out, append(text, '\n'), 0o644)
}

// benchFolder is a fresh folder that the database's user may pass through, on a
// disk: /tmp is often memory, where a flush costs nothing.
func benchFolder() (string, error) {
	dir, err := os.MkdirTemp("/var/tmp", "clearward-bench-")
	if errors.Is(err, os.ErrNotExist) {
		dir, err = os.MkdirTemp("", "clearward-bench-")
	}
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// open starts the program on a fresh data directory.
func (b *bench) open(ctx context.Context, name string) (*Server, error) {
	return Open(ctx, Config{Local: local.Config{DataDir: filepath.Join(b.dir, name), Durable: !b.size.volatile}})
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.opts.Log, format+"\n", args...) }

// measureAll measures each one in every round, in turn, so that what the machine
// does meanwhile meets all of them.
func (b *bench) measureAll(ctx context.Context, measures ...measure) error {
	for round := range b.size.rounds {
		for _, m := range measures {
			debug.FreeOSMemory() // what earlier measurements needed is not this one's
			if err := resetPeak(); err != nil {
				return err
			}
			before := peakRSS()
			s, err := m.run(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			s.peak = peakRSS()
			s.grown = s.peak - before
			b.readings[m.name] = append(b.readings[m.name], s)
			b.say("round %d of %d: %-18s %12s %s", round+1, b.size.rounds, m.name, grouped(s.value), m.unit)
		}
	}
	for _, m := range measures {
		b.conclude(m)
	}
	return nil
}

// conclude makes the figure of a measure: the median of its rounds.
func (b *bench) conclude(m measure) {
	all := slices.Clone(b.readings[m.name])
	slices.SortFunc(all, func(x, y reading) int { return cmp.Compare(x.value, y.value) })
	mid := all[len(all)/2]
	f := Figure{Name: m.name, Value: round3(mid.value), Unit: m.unit, P50: round3(mid.p50), P99: round3(mid.p99)}
	var grown float64
	for _, s := range all {
		f.PeakRSSMiB, grown = max(f.PeakRSSMiB, round3(s.peak)), max(grown, s.grown)
	}
	notes := []string{m.note}
	if m.memory > 0 {
		notes = append(notes, fmt.Sprintf("needs %.0f MiB, target ≤ %d", grown, m.memory))
	}
	if mid.detail != "" {
		notes = append(notes, mid.detail)
	}
	for i, g := range m.goals {
		text, ratio := b.reached(g, mid.value)
		notes = append(notes, text)
		if i == 0 && ratio > 0 && g.beside != "" {
			f.RatioTo, f.Ratio = g.beside, round3(ratio)
		}
	}
	f.Note = strings.Join(notes, "; ")
	b.figures = append(b.figures, f)
}

// reached says how far a goal is reached.
func (b *bench) reached(g goal, value float64) (string, float64) {
	if g.beside == "" {
		return fmt.Sprintf("target ≥ %s: %.2f of it", grouped(g.times), value/g.times), 0
	}
	for _, other := range b.figures {
		if other.Name != g.beside || other.Value == 0 {
			continue
		}
		ratio := value / other.Value
		if g.times == 0 {
			return fmt.Sprintf("%.2f × %s", ratio, g.beside), ratio
		}
		return fmt.Sprintf("target ≥ %v × %s: %.2f ×", g.times, g.beside, ratio), ratio
	}
	return g.beside + " was not measured", 0
}

// perSecond lets n callers do something over and over for the span, after a
// short while that does not count.
func (b *bench) perSecond(ctx context.Context, n int, do func(ctx context.Context) error) (reading, error) {
	if _, err := callers(ctx, n, b.size.span/10, do); err != nil {
		return reading{}, err
	}
	return callers(ctx, n, b.size.span, do)
}

func callers(ctx context.Context, n int, span time.Duration, do func(ctx context.Context) error) (reading, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	delays := make([][]time.Duration, n)
	start := time.Now()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for before := time.Now(); before.Sub(start) < span && ctx.Err() == nil; {
				if err := do(ctx); err != nil {
					cancel(err)
					return
				}
				now := time.Now()
				delays[i] = append(delays[i], now.Sub(before))
				before = now
			}
		})
	}
	all.Wait()
	elapsed := time.Since(start)
	if err := context.Cause(ctx); err != nil {
		return reading{}, err
	}
	sorted := slices.Concat(delays...)
	slices.Sort(sorted)
	at := func(percent int) float64 {
		if len(sorted) == 0 {
			return 0
		}
		return 1000 * sorted[len(sorted)*percent/100].Seconds()
	}
	return reading{value: float64(len(sorted)) / elapsed.Seconds(), p50: at(50), p99: at(99)}, nil
}

// database makes an empty database beside the program's own and returns its URL.
func (b *bench) database(ctx context.Context, name string) (string, error) {
	conn, err := pgx.Connect(ctx, b.server.stack.DatabaseURL)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", err
	}
	to, err := url.Parse(b.server.stack.DatabaseURL)
	if err != nil {
		return "", err
	}
	to.Path = "/" + name
	return to.String(), nil
}

// resetPeak makes the kernel count the peak memory of this process anew, from
// what it holds now.
func resetPeak() error {
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// peakRSS is the most memory that this process has held since resetPeak, in MiB;
// 0 where the kernel does not tell.
func peakRSS() float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " kB")
	n, err := strconv.Atoi(kib)
	if err != nil {
		return 0
	}
	return float64(n) / 1024
}

// writeFigures prints the table, and below it what each figure means.
func writeFigures(w io.Writer, figures []Figure) {
	list := newTable("name", ">figure", "unit", ">ratio", "to", ">p50 ms", ">p99 ms", ">peak MiB")
	blank := func(v float64, format string) string {
		if v == 0 {
			return ""
		}
		return fmt.Sprintf(format, v)
	}
	for _, f := range figures {
		list.add(f.Name, grouped(f.Value), f.Unit, blank(f.Ratio, "%.2f"), f.RatioTo, blank(f.P50, "%.1f"), blank(f.P99, "%.1f"), blank(f.PeakRSSMiB, "%.0f"))
	}
	list.write(w)
	for _, f := range figures {
		fmt.Fprintf(w, "%s: %s\n", f.Name, f.Note)
	}
}

// grouped prints 12345.6 as 12,346.
func grouped(v float64) string {
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func round3(v float64) float64 {
	short, err := strconv.ParseFloat(strconv.FormatFloat(v, 'f', 3, 64), 64)
	if err != nil {
		return v
	}
	return short
}

// machine says on what was measured.
func (b *bench) machine(ctx context.Context) string {
	var version string
	if err := b.owner.Pool.QueryRow(ctx, `SELECT version()`).Scan(&version); err != nil {
		version = b.owner.Dialect.String()
	}
	name, _, _ := strings.Cut(version, " (")
	return fmt.Sprintf("%s, durable settings, %d cores shared by database, broker and callers", name, runtime.NumCPU())
}
