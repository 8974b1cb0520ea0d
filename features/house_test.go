// Package features_test tells the whole process in scenarios that a finance
// person of a hospital can read: each on a database and a broker of its own.
package features_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cucumber/godog"
	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/api"
	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

func TestMain(m *testing.M) {
	for _, name := range []string{"CLEARWARD_DATA_DIR", "CLEARWARD_DATABASE_URL", "CLEARWARD_KAFKA_BROKERS", "CLEARWARD_KEY", "CLEARWARD_LOG"} {
		_ = os.Unsetenv(name)
	}
	code := m.Run()
	for _, dir := range []string{built.dir, empty.dir} {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// least is how many scenarios there must be: a filter or a folder that is not
// found would else pass without having looked.
const least = 12

func TestFeatures(t *testing.T) {
	var ran atomic.Int64
	suite := godog.TestSuite{
		ScenarioInitializer: func(sc *godog.ScenarioContext) { newHouse(t, sc, &ran) },
		Options: &godog.Options{
			Format: "progress", Paths: []string{"."}, Strict: true, Concurrency: 2, TestingT: t,
		},
	}
	if suite.Run() != 0 {
		t.Error("scenarios fail")
	}
	if ran.Load() == 0 {
		t.Fatal("no scenario ran")
	}
	if all := scenarios(t); all < least || int(ran.Load()) > all {
		t.Fatalf("%d scenarios ran of %d, at least %d there must be", ran.Load(), all, least)
	}
}

// scenarios counts them in the files, by their headings.
func scenarios(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("*.feature")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		n += strings.Count(string(text), "\n  场景: ")
	}
	return n
}

// house is what one scenario works on.
type house struct {
	dir    string // holds the data directory and the files
	server *api.Server

	// refused is what the last act was refused with; it must be looked at before
	// the next act.
	refused error
	heard   bool

	setup    clearing.SetupSummary
	imported clearing.ImportSummary
	verdict  api.Verdict
	letters  []feed.Letter
	day      *recon.Day
	sums     []string // the rows of day before the last run

	plan     *sandbox.Plan
	dayPlan  *sandbox.DayPlan
	restated *sandbox.Restatement

	keys map[string]string // person → key
	deal string            // the case that is spoken of
	command
}

// newHouse gives a scenario its steps and, when it begins, its house.
func newHouse(t *testing.T, sc *godog.ScenarioContext, ran *atomic.Int64) {
	h := &house{keys: map[string]string{}}
	sc.Before(func(ctx context.Context, _ *godog.Scenario) (_ context.Context, err error) {
		ran.Add(1)
		if h.dir, err = newFolder(); err != nil {
			return ctx, err
		}
		return ctx, errors.Join(begin(context.WithoutCancel(ctx), h.dir), os.CopyFS(h.file(""), os.DirFS(sampleDir)))
	})
	sc.After(func(ctx context.Context, _ *godog.Scenario, err error) (context.Context, error) {
		var unheard error
		if err == nil {
			unheard = h.listen()
		}
		return ctx, errors.Join(unheard, h.close(), os.RemoveAll(h.dir))
	})
	h.fileSteps(sc)
	h.daySteps(sc)
	h.deskSteps(sc)
	h.commandSteps(t, sc)
}

// now is the clock of every scenario: the morning after the day's statement.
func now() time.Time { return time.Date(2026, 9, 17, 3, 30, 0, 0, time.UTC) }

// open starts the program once in a scenario.
func (h *house) open(ctx context.Context) (*api.Server, error) {
	if h.server != nil {
		return h.server, nil
	}
	s, err := openAt(context.WithoutCancel(ctx), filepath.Join(h.dir, "data"), now)
	if err != nil {
		return nil, fmt.Errorf("open the program: %w", err)
	}
	h.server = s
	return s, nil
}

// openAt opens the program on a data directory, with a database and a broker of
// its own.
func openAt(ctx context.Context, dir string, clock func() time.Time) (*api.Server, error) {
	return api.Open(ctx, api.Config{Local: local.Config{DataDir: dir}, Now: clock})
}

// empty is a data directory in which the program was opened and closed again.
// Each scenario begins with a copy of it: making one takes seconds, a copy none.
var empty struct {
	once sync.Once
	dir  string
	err  error
}

// begin puts a copy of the empty data directory into the scenario's folder. The
// copy keeps owners: the database runs as another user.
func begin(ctx context.Context, to string) error {
	empty.once.Do(func() {
		if empty.dir, empty.err = newFolder(); empty.err != nil {
			return
		}
		var s *api.Server
		if s, empty.err = openAt(ctx, filepath.Join(empty.dir, "data"), now); empty.err == nil {
			empty.err = s.Close()
		}
	})
	if empty.err != nil {
		return empty.err
	}
	return run("cp", "-a", filepath.Join(empty.dir, "data"), to)
}

// newFolder makes a folder that the database's user may enter too.
func newFolder() (string, error) {
	dir, err := os.MkdirTemp("", "clearward-feature-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

func (h *house) close() error {
	if h.server == nil {
		return nil
	}
	s := h.server
	h.server = nil
	return s.Close()
}

// file is a file of the scenario; its own copy, which it may spoil.
func (h *house) file(name string) string { return filepath.Join(h.dir, "files", name) }

// listen fails when an act was refused and no step said so.
func (h *house) listen() error {
	if h.refused != nil && !h.heard {
		return fmt.Errorf("refused, and the scenario does not say so: %s", api.Explain(h.refused))
	}
	return nil
}

// acted notes how an act ended. A refusal is for the next step to look at.
func (h *house) acted(err error) error {
	before := h.listen()
	h.refused, h.heard = err, false
	return before
}

// says checks that the last act was refused, with these words.
func (h *house) says(_ context.Context, words string) error {
	if h.refused == nil {
		return errors.New("nothing was refused")
	}
	h.heard = true
	if text := api.Explain(h.refused); !strings.Contains(text, words) {
		return fmt.Errorf("the message is %q", text)
	}
	return nil
}

// balances are all accounts that do not stand at zero, debits above it.
func (h *house) balances(ctx context.Context) (map[string]ledger.Money, error) {
	s, err := h.open(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.TrialBalance(ctx)
	out := map[string]ledger.Money{}
	for _, b := range all {
		if b.Debits != b.Credits {
			out[b.Code] = b.Debits - b.Credits
		}
	}
	return out, err
}

// query reads the database as the application may.
func (h *house) query(ctx context.Context, sql string, args ...any) ([]string, error) {
	s, err := h.open(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.DB.Pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// equal is the plainest of checks.
func equal[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}
