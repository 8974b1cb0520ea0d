package features_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels/sandbox"
)

var killSeed = flag.Uint64("kill.seed", 0, "the seed of the moments of kill -9; 0 takes a new one")

// killPayments are the payments of each of the two days: so many that import and
// run take several transactions, and a kill can fall between them.
const killPayments = 6000

// kills is how often the driver kills in all; quota says where.
const kills = 20

// deed is one command of the two days, and how many of the kills hit it.
type deed struct {
	args  []string
	quota int
}

// deeds are the commands of two days, in their order.
func deeds(dir string, plan *sandbox.Plan) []deed {
	var all []deed
	for n, day := range plan.Days {
		channel := []string{"feed", "channel", "--day", day.Day.String()}
		trades := deed{slices.Clone(channel), 2}
		var funds []deed
		more := 1 - n // the first day is killed a little more often than the second
		for _, f := range day.Files {
			path := filepath.Join(dir, f.Path)
			switch f.Source {
			case sandbox.SourceSetup:
				all = append(all, deed{[]string{"setup", path}, 0})
			case sandbox.SourcePlatform:
				all = append(all, deed{[]string{"import", path}, 3})
			case sandbox.SourceHIS:
				all = append(all, deed{[]string{"feed", "his", path}, 1})
			case sandbox.SourceTrade:
				trades.args = append(trades.args, path)
			case sandbox.SourceFund:
				funds = append(funds, deed{append(slices.Clone(channel), "--merchant", f.MerchantNo, path), 0})
			case sandbox.SourceBank:
				funds = append(funds, deed{[]string{"feed", "bank", path}, more})
			}
		}
		all = append(append(all, trades), funds...)
		all = append(all, deed{[]string{"recon", "run", "--format", "csv", "--day", day.Day.String()}, 4 - n})
	}
	return all
}

// shop is a data directory and the commands on it.
type shop struct {
	t      *testing.T
	binary string
	data   string
}

// output is what a command prints, and when it began to.
type output struct {
	text  bytes.Buffer
	began time.Time
}

// String implements fmt.Stringer.
func (o *output) String() string { return o.text.String() }

// Write implements io.Writer.
func (o *output) Write(text []byte) (int, error) {
	if o.began.IsZero() {
		o.began = time.Now()
	}
	return o.text.Write(text)
}

// process starts a command on the shop's data directory.
func (s *shop) process(args ...string) (*exec.Cmd, *output) {
	s.t.Helper()
	cmd := exec.Command(s.binary, args...)
	cmd.Env = append(os.Environ(), "CLEARWARD_DATA_DIR="+s.data)
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return cmd, out
}

// do runs a command to its end, which must be a good one.
func (s *shop) do(args ...string) string {
	s.t.Helper()
	cmd, out := s.process(args...)
	if err := cmd.Wait(); err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out.String()
}

// ready waits until the process holds the data directory with its database up,
// and returns the database's process. It returns 0 when the process has ended.
func (s *shop) ready(cmd *exec.Cmd, ended <-chan struct{}) (database int) {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ended:
			return 0
		}
		var run struct {
			PID int `json:"pid"`
		}
		text, err := os.ReadFile(filepath.Join(s.data, "run.json"))
		if err == nil && json.Unmarshal(text, &run) == nil && run.PID == cmd.Process.Pid {
			return s.postmaster()
		}
	}
}

// postmaster is the process of the shop's database, 0 where there is none.
func (s *shop) postmaster() int {
	text, err := os.ReadFile(filepath.Join(s.data, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(first)
	return pid
}

// alive says whether a process still works on a data directory. One that is dead
// and not yet reaped has no command line.
func alive(pid int, data string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(line, []byte(data))
}

// books are what the finished days come to, in every form that can be compared.
func (s *shop) books(plan *sandbox.Plan) map[string]string {
	s.t.Helper()
	out := map[string]string{"balances": s.do("verify", "--balances")}
	for _, day := range plan.Days {
		for _, format := range []string{"csv", "json"} {
			out[day.Day.String()+" "+format] = s.do("recon", "show", "--format", format, "--day", day.Day.String())
		}
	}
	for name, lines := range s.read(standing) {
		out[name] = strings.Join(lines, "\n")
	}
	delete(out, "entries") // their numbers tell how the commits fell
	for name, lines := range s.read(counted) {
		out[name] = strings.Join(lines, "\n")
	}
	return out
}

// standing is what must be there for ever once a command has acknowledged it.
var standing = map[string]string{
	"payments": `SELECT CONCAT_WS(' ', hospital, order_no, status, amount_fen, settle_fen, fee_fen) FROM payments ORDER BY hospital, order_no`,
	"refunds":  `SELECT CONCAT_WS(' ', hospital, kind, refund_no, status, amount_fen, settle_fen, fee_fen) FROM refunds ORDER BY hospital, kind, refund_no`,
	"files":    `SELECT CONCAT_WS(' ', source, account, day, state, stored, row_count) FROM feed_files ORDER BY source, account, day, state`,
	"versions": `SELECT CONCAT_WS(' ', hospital, day, pair, merchant_no, version) FROM recon_versions ORDER BY hospital, day, pair, merchant_no, version`,
	"cases":    `SELECT CONCAT_WS(' ', id, day) FROM recon_cases ORDER BY id`,
	"entries":  `SELECT CONCAT_WS(' ', lane, seq, ord, kind, ref, day) FROM entries ORDER BY lane, seq, ord`,
}

// counted is what would show that something was done twice.
var counted = map[string]string{
	"lines": `SELECT CONCAT_WS(' ', 'bill', COUNT(*), SUM(amount)) FROM bill_lines
		UNION ALL SELECT CONCAT_WS(' ', 'his', COUNT(*), SUM(amount)) FROM his_lines
		UNION ALL SELECT CONCAT_WS(' ', 'fund', COUNT(*), SUM(amount)) FROM fund_lines
		UNION ALL SELECT CONCAT_WS(' ', 'bank', COUNT(*), SUM(amount)) FROM bank_lines`,
	"items":    `SELECT CONCAT_WS(' ', day, run, COUNT(*), SUM(amount_fen)) FROM recon_items GROUP BY day, run ORDER BY day, run`,
	"states":   `SELECT CONCAT_WS(' ', id, code, state, amount_fen) FROM recon_cases ORDER BY id`,
	"kinds":    `SELECT CONCAT_WS(' ', day, kind, COUNT(*)) FROM entries GROUP BY day, kind ORDER BY day, kind`,
	"postings": `SELECT CONCAT_WS(' ', day, COUNT(*), SUM(amount)) FROM postings GROUP BY day ORDER BY day`,
}

// read asks the database that the shop's commands work on, while none of them runs.
func (s *shop) read(asked map[string]string) map[string][]string {
	s.t.Helper()
	server, err := openAt(s.t.Context(), s.data, time.Now)
	if err != nil {
		s.t.Fatal(err)
	}
	found := map[string][]string{}
	for name, sql := range asked {
		rows, asking := server.DB.Pool.Query(s.t.Context(), sql)
		if asking == nil {
			found[name], asking = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		err = errors.Join(err, asking)
	}
	if err := errors.Join(err, server.Close()); err != nil {
		s.t.Fatal(err)
	}
	return found
}

// TestKilledAtAnyMoment kills import, feed and run twenty times with kill -9, from
// outside and at moments drawn by chance, and starts each again until it ends.
// After every kill the books hold, nothing that was acknowledged is lost, and in
// the end the days equal those that nobody disturbed.
func TestKilledAtAnyMoment(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-kill.seed %d", seed)
	dir, err := newFolder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	files := filepath.Join(dir, "files")
	plan, err := sandbox.Generate(sandbox.Config{Seed: seed, Hospitals: 1, Payments: killPayments, Days: 2}, files, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := deeds(files, plan)
	calm := &shop{t, binary(t), filepath.Join(dir, "calm")}
	took := make([]time.Duration, len(all))
	for i, d := range all {
		took[i] = calm.timed(d.args)
	}
	killed := &driver{shop: shop{t, binary(t), filepath.Join(dir, "killed")}, draw: rand.New(rand.NewPCG(seed, 1))}

	for i, d := range all {
		killed.through(d, took[i])
	}
	if killed.landed != kills {
		t.Errorf("%d kills hit a living process, want %d", killed.landed, kills)
	}
	want, got := calm.books(plan), killed.books(plan)
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s differs: undisturbed\n%s\nkilled\n%s", name, clip(want[name]), clip(got[name]))
		}
	}
	if !strings.Contains(want["balances"], "账簿核验：通过") || len(want["payments"]) == 0 {
		t.Errorf("the undisturbed days are not sound: %s", want["balances"])
	}
	for i, day := range plan.Days {
		planned, err := os.ReadFile(filepath.Join(files, []string{"", day.Day.String()}[i], "plan.csv"))
		if err != nil || string(planned) != got[day.Day.String()+" csv"] {
			t.Errorf("%s is not as planted (%v): planted\n%s\nfound\n%s", day.Day, err, clip(string(planned)), clip(got[day.Day.String()+" csv"]))
		}
	}
}

func clip(text string) string { return text[:min(len(text), 3000)] }

// timed runs a command and returns how long it worked: from its database being up
// until it said what it had done. What comes after that is only closing.
func (s *shop) timed(args []string) time.Duration {
	s.t.Helper()
	cmd, out := s.process(args...)
	ended := make(chan struct{})
	var err error
	go func() {
		err = cmd.Wait()
		close(ended)
	}()
	s.ready(cmd, ended)
	began := time.Now()
	if <-ended; err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out.began.Sub(began)
}

// driver kills commands.
type driver struct {
	shop
	draw   *rand.Rand
	landed int
	orphan []int               // databases of killed processes
	acked  map[string][]string // what stood when the last command ended well
}

// through kills a command as often as its quota says and lets it end at last.
// One that ended before its kill is run again: done twice is done once.
func (d *driver) through(what deed, took time.Duration) {
	d.t.Helper()
	for n := 0; n < what.quota; {
		early := d.landed%4 == 3 // every fourth kill may also hit the start of the database
		after := d.moment(n, what.quota, took, early)
		if d.strike(what.args, after, early) {
			n++
			d.landed++
			d.check(what.args, after, took)
			continue
		}
		if took = took * 2 / 3; took < time.Millisecond { // done already, it takes less
			d.t.Fatalf("%v always ends before it is killed", what.args)
		}
	}
	d.do(what.args...)
	if what.quota > 0 || d.acked == nil {
		d.acked = d.read(standing)
	}
}

// moment draws when the n-th kill of so many falls: the first in the first part
// of the work, the last in its last, so that each finds the work further on. One
// that may hit the start of the database too is drawn from the beginning.
func (d *driver) moment(n, quota int, took time.Duration, early bool) time.Duration {
	if early {
		return time.Duration(d.draw.Int64N(int64(took + 500*time.Millisecond)))
	}
	part := took / time.Duration(quota)
	return time.Duration(n)*part + time.Duration(d.draw.Int64N(int64(part)))
}

// strike starts the command, kills it some time after it is ready, or after its
// start, and says whether it was still at work then.
func (d *driver) strike(args []string, after time.Duration, early bool) bool {
	d.t.Helper()
	cmd, out := d.process(args...)
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // a killed process does not end well; how it ended is read below
		close(ended)
	}()
	if !early {
		d.orphan = append(d.orphan, d.ready(cmd, ended))
	}
	select {
	case <-time.After(after):
	case <-ended:
	}
	_ = cmd.Process.Kill() // it may have ended in this moment
	<-ended
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return true
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		d.t.Fatalf("%v ended with %d\n%s", args, code, out)
	}
	return false
}

// check starts the program again after a kill: the books hold, what was
// acknowledged is there, and the database of the killed process has ended.
func (d *driver) check(killed []string, after, took time.Duration) {
	d.t.Helper()
	if said := d.do("verify"); !strings.Contains(said, "账簿核验：通过") {
		d.t.Fatalf("after kill %d: %s", d.landed, said)
	}
	for _, pid := range d.orphan {
		if alive(pid, d.data) {
			d.t.Fatalf("after kill %d the database of a killed process lives: %d", d.landed, pid)
		}
	}
	now := d.read(standing)
	d.t.Logf("kill %2d, of %s, after %s of %s: %d payments, %d entries, %d files, %d versions, %d cases stand", d.landed, killed[0]+" "+filepath.Base(killed[1]), after.Round(time.Millisecond), took.Round(time.Millisecond),
		len(now["payments"]), len(now["entries"]), len(now["files"]), len(now["versions"]), len(now["cases"]))
	for name, lines := range d.acked {
		there := map[string]bool{}
		for _, line := range now[name] {
			there[line] = true
		}
		for _, line := range lines {
			if !there[line] {
				d.t.Fatalf("after kill %d, acknowledged and lost: %s %s", d.landed, name, line)
			}
		}
	}
}
