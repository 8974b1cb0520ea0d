package api

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// noon is the clock of these tests: the day after the sample day.
func noon() time.Time { return time.Date(2026, 9, 16, 12, 0, 0, 0, ledger.Beijing) }

// folder is a new data directory that the database's user can enter.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "clearward-api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "data")
}

// open opens the program on a data directory for as long as the test runs.
func open(t *testing.T, dir string) *Server {
	t.Helper()
	s, err := Open(t.Context(), Config{Local: local.Config{DataDir: dir}, Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// takenSample takes the sample day to its published batch.
func takenSample(t *testing.T, s *Server) *recon.Day {
	t.Helper()
	day, err := s.takeSample(t.Context(), filepath.Join(t.TempDir(), "files"), &Meter{}, func(Stage) {})
	if err != nil {
		t.Fatal(err)
	}
	return day
}

func TestACommandThatJoinsReliesOnTheHolder(t *testing.T) {
	dir := folder(t)
	holder := open(t, dir)
	joiner := open(t, dir)
	if !holder.stack.Holder || joiner.stack.Holder {
		t.Fatalf("holder %v, joiner %v", holder.stack.Holder, joiner.stack.Holder)
	}
	var said bytes.Buffer
	if err := sampleFound(&said, takenSample(t, joiner), "en"); err != nil {
		t.Error(err, said.String())
	}
	all, err := holder.TrialBalance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := sampleBooks(&said, all, "en"); err != nil {
		t.Error(err, said.String())
	}
	for _, s := range []*Server{holder, joiner} {
		if found, err := s.Verify(t.Context()); err != nil || len(found) > 0 {
			t.Error(found, err)
		}
	}
}

func TestWhatWasDecidedIsPublished(t *testing.T) {
	s := open(t, folder(t))
	takenSample(t, s)
	maker, checker := newKey(t, s, "王会计", auth.Accountant), newKey(t, s, "李主管", auth.FinanceHead)
	id := settle(t, s, maker, checker, recon.F1, "REFUND")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dialer := kafka.DefaultDialer
	for partition := range s.Kafka.Topics()[feed.TopicEvents].Partitions {
		go func() {
			reader := kafka.NewReader(kafka.ReaderConfig{Brokers: s.Kafka.Brokers, Topic: feed.TopicEvents, Partition: partition, Dialer: dialer})
			defer func() { _ = reader.Close() }()
			for {
				message, err := reader.FetchMessage(ctx)
				if err != nil {
					return
				}
				if bytes.Contains(message.Value, []byte(id)) {
					cancel()
				}
			}
		}()
	}
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error("no event names the case")
	}
}

func newKey(t *testing.T, s *Server, name string, role auth.Role) string {
	t.Helper()
	key, err := s.NewKey(t.Context(), name, role)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// caseOf is the first open case of a code.
func caseOf(t *testing.T, s *Server, key string, code recon.Code) string {
	t.Helper()
	cases, err := s.Cases(t.Context(), key, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(cases, func(c recon.Case) bool { return c.Code == code })
	if i < 0 {
		t.Fatalf("no open case of %s", code)
	}
	return cases[i].ID
}

// settle has a case proposed and approved.
func settle(t *testing.T, s *Server, maker, checker string, code recon.Code, resolution string) string {
	t.Helper()
	id := caseOf(t, s, maker, code)
	if _, err := s.Decide(t.Context(), maker, recon.Decision{CaseID: id, Act: "propose", Resolution: resolution}); err != nil {
		t.Fatal(err)
	}
	decided, err := s.Decide(t.Context(), checker, recon.Decision{CaseID: id, Act: "approve"})
	if err != nil || decided.State != recon.CaseClosed || decided.Checker != "李主管" {
		t.Fatal(decided, err)
	}
	return id
}

// refused checks that an error is of a sort and says what a person needs.
func refused(t *testing.T, what string, err, sort error, says ...string) {
	t.Helper()
	if !errors.Is(err, sort) {
		t.Errorf("%s: %v", what, err)
		return
	}
	for _, text := range says {
		if !strings.Contains(Explain(err), text) {
			t.Errorf("%s: %q does not say %q", what, Explain(err), text)
		}
	}
}

func TestACaseIsDecidedByTwoPeopleWhoMay(t *testing.T) {
	s := open(t, folder(t))
	takenSample(t, s)
	maker, checker := newKey(t, s, "王会计", auth.Accountant), newKey(t, s, "李主管", auth.FinanceHead)
	program := newKey(t, s, "his-agent", auth.Service)
	decide := func(key, act, id, resolution, reason string) error {
		_, err := s.Decide(t.Context(), key, recon.Decision{CaseID: id, Act: act, Resolution: resolution, Reason: reason, Who: "somebody else"})
		return err
	}
	_, err := s.NewKey(t.Context(), "张三", "")
	refused(t, "key without role", err, auth.ErrNoRole, "a key needs a role", "give --role")
	_, err = s.NewKey(t.Context(), "王会计", auth.FinanceHead)
	refused(t, "forbidden pair", err, auth.ErrForbiddenPair, "王会计", "who proposes a resolution may not approve it")
	_, err = s.Cases(t.Context(), "", 0, false)
	refused(t, "list without key", err, ErrNoKey, "case.read", "CLEARWARD_KEY")
	_, err = s.CaseFile(t.Context(), "ck_nobody", "case_x")
	refused(t, "show with a key that is none", err, auth.ErrUnknownKey, "clearward key new")
	_, err = s.Cases(t.Context(), program, 0, false)
	refused(t, "list by a program", err, auth.ErrDenied, "his-agent may not case.read")

	long := caseOf(t, s, maker, recon.F1)
	refused(t, "propose without key", decide("", "propose", long, "REFUND", ""), ErrNoKey, "case.propose")
	refused(t, "an act that nobody knows", decide(maker, "delete", long, "", ""), auth.ErrDenied)
	refused(t, "propose by the checker", decide(checker, "propose", long, "REFUND", ""), auth.ErrDenied, "李主管 may not case.propose")
	refused(t, "approve by a program", decide(program, "approve", long, "", ""), auth.ErrDenied, "takes a person")
	refused(t, "approve what nobody proposed", decide(checker, "approve", long, "", ""), recon.ErrCaseState, "only a proposed case")
	refused(t, "a resolution of another code", decide(maker, "propose", long, "CASH_PAID", ""), recon.ErrResolution, "REFUND")
	refused(t, "no such case", decide(maker, "propose", "case_x", "REFUND", ""), recon.ErrCaseUnknown, "clearward case list")

	short := caseOf(t, s, maker, recon.F3)
	if err := decide(maker, "propose", short, "NOTED", ""); err != nil {
		t.Fatal(err)
	}
	refused(t, "suspense not zero", decide(checker, "approve", short, "", ""), recon.ErrSuspenseNotNil, "75.00 on 1221.H1")
	refused(t, "reject without reason", decide(checker, "reject", short, "", ""), recon.ErrResolution, "why")
	if err := decide(checker, "reject", short, "", "应由医院作废"); err != nil {
		t.Fatal(err)
	}
	samePerson(t, s, maker, long)
	if found, err := s.Verify(t.Context()); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
}

// samePerson has a maker who changes posts meet the proposal made before.
func samePerson(t *testing.T, s *Server, maker, id string) {
	t.Helper()
	who, err := auth.Check(t.Context(), s.DB, s.now(), maker)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Decide(t.Context(), maker, recon.Decision{CaseID: id, Act: "propose", Resolution: "REFUND"}); err != nil {
		t.Fatal(err)
	}
	if err := s.RevokeKey(t.Context(), who.Key); err != nil {
		t.Fatal(err)
	}
	_, err = s.Cases(t.Context(), maker, 0, false)
	refused(t, "a revoked key", err, auth.ErrRevoked, "王会计", "clearward key new")
	promoted := newKey(t, s, "王会计", auth.FinanceHead)
	_, err = s.Decide(t.Context(), promoted, recon.Decision{CaseID: id, Act: "approve"})
	refused(t, "maker = checker", err, recon.ErrSamePerson, "王会计 proposed this resolution")
}

func TestTheDemoOnADatabaseAndBrokerOfOthers(t *testing.T) {
	stack, err := local.Start(t.Context(), local.Config{DataDir: folder(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Close(); err != nil {
			t.Error(err)
		}
	})
	c := Config{Local: local.Config{DatabaseURL: stack.DatabaseURL, Brokers: strings.Join(stack.Brokers, ",")}}
	var out bytes.Buffer
	o := DemoOptions{Payments: 2000, Seed: 7, Lang: "en"}
	if err := errors.Join(SampleDemo(t.Context(), c, o, &out, NewMeter(&out)), GeneratedDemo(t.Context(), c, o, &out, NewMeter(&out))); err != nil {
		t.Fatal(err, out.String())
	}
	for _, text := range []string{"row by row (18 rows)", "to the fen", "Planned and found agree", "every rule holds"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("the demo does not say %q:\n%s", text, out.String())
		}
	}
	client := &kafka.Client{Addr: kafka.TCP(stack.Brokers...)}
	meta, err := client.Metadata(t.Context(), &kafka.MetadataRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range meta.Topics {
		if !topic.Internal {
			t.Errorf("the demo leaves topic %s", topic.Name)
		}
	}
}

// TestTheCommandLine runs the program itself: what it prints where, and the code
// with which it ends.
func TestTheCommandLine(t *testing.T) {
	program := filepath.Join(t.TempDir(), "clearward")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "..").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	dir := folder(t)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"nonsense", 2, "`clearward --help` shows the commands"},
		{"recon run", 2, "--day"},
		{"recon run --day 2026-13-01", 2, "2026-13-01"},
		{"feed his testdata/day/his.csv --rows 50", 2, "--rows and --sum go together"},
		{"feed his a b --rows 50 --sum 1", 2, "feed it alone"},
		{"key new --service agent --role ADMIN", 2, "leave --role out"},
		{"key new --person 张三", 1, "a key needs a role"},
		{"feed his testdata/day/his.csv --rows 50 --sum 1604899", 1, "not in the master data"},
		{"setup testdata/day/setup.yaml", 0, "15 rows written"},
		{"setup testdata/day/setup.yaml", 0, "nothing new"},
		{"setup testdata/day/his.csv", 1, "nothing was stored"},
		{"import testdata/day/his.csv", 1, "nothing of the file counts"},
		{"import testdata/day/platform.csv", 0, "36 payments, 12 refunds, 1 reversals posted"},
		{"feed his testdata/day/his.csv", 1, "REJECTED   his.csv: the file has no last line"},
		{"feed his testdata/day/his.csv --rows 50 --sum 1604899", 0, "VERIFIED   his.csv: H1 2026-09-15, 50 rows"},
		{"feed channel testdata/day/setup.yaml", 1, "REJECTED"},
		{"recon run --day 2026-09-15 --lang en", 0, "waiting for: trade bill of 1900000109"},
		{"case list", 1, "this needs a key"},
		{"verify --balances --lang en", 0, "every rule holds"},
		{"statement 1122.WX.1900000109 --lang en", 0, "J01"},
		{"statement 1122", 1, "there is no such account: 1122"},
		{"feed dead", 0, "0 dead letters"},
	} {
		cmd := exec.CommandContext(t.Context(), program, strings.Fields(c.args)...)
		cmd.Env = append(os.Environ(), "CLEARWARD_DATA_DIR="+dir, "CLEARWARD_DATABASE_URL=", "CLEARWARD_KAFKA_BROKERS=", "CLEARWARD_KEY=", "CLEARWARD_LOG=")
		out, err := cmd.CombinedOutput()
		var ended *exec.ExitError
		if err != nil && !errors.As(err, &ended) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.says) {
			t.Errorf("clearward %s: exit code %d, want %d; want %q in\n%s", c.args, code, c.code, c.says, out)
		}
	}
}
