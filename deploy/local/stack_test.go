package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"
)

// holderDir makes the test binary a process that holds a data directory, so
// that it can be killed.
const holderDir = "CLEARWARD_TEST_HOLDER_DIR"

func TestMain(m *testing.M) {
	for _, name := range []string{"CLEARWARD_DATA_DIR", "CLEARWARD_DATABASE_URL", "CLEARWARD_KAFKA_BROKERS", "COCKROACH_BINARY"} {
		_ = os.Unsetenv(name)
	}
	if dir := os.Getenv(holderDir); dir != "" {
		beHolder(dir)
		return
	}
	os.Exit(m.Run())
}

// beHolder starts a stack, writes to both parts, tells that it is ready, and
// waits to be killed.
func beHolder(dir string) {
	ctx := context.Background()
	s, err := Start(ctx, Config{DataDir: dir, Durable: true})
	if err == nil {
		err = errors.Join(writeRow(ctx, s), writeMessage(ctx, s))
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

func writeRow(ctx context.Context, s *Stack) error {
	conn, err := pgx.Connect(ctx, s.DatabaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `CREATE TABLE IF NOT EXISTS kept (id INT8 NOT NULL PRIMARY KEY)`)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `INSERT INTO kept (id) SELECT count(*) FROM kept`)
	return err
}

const topic = "kept"

func writeMessage(ctx context.Context, s *Stack) error {
	if err := EnsureTopics(ctx, s.Brokers, map[string]Topic{topic: {Partitions: 1}}); err != nil {
		return err
	}
	w := &kafka.Writer{Addr: kafka.TCP(s.Brokers...), Topic: topic, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond}
	return errors.Join(w.WriteMessages(ctx, kafka.Message{Value: []byte("kept")}), w.Close())
}

// kept counts what both parts still hold.
func kept(t *testing.T, s *Stack) (rows, messages int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM kept`).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	client := &kafka.Client{Addr: kafka.TCP(s.Brokers...)}
	offsets, err := client.ListOffsets(t.Context(), &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(0)}}})
	if err != nil {
		t.Fatal(err)
	}
	return rows, offsets.Topics[topic][0].LastOffset
}

// dataDir is a folder that the database's user may pass through.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cw-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, c Config) *Stack {
	t.Helper()
	s, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStack(t, s) })
	return s
}

func closeStack(t *testing.T, s *Stack) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// startHolder starts a process that holds dir and has written to both parts.
func startHolder(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderDir+"="+dir)
	out, err1 := cmd.StdoutPipe()
	_, err2 := cmd.StdinPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the holder says %q, %v", line, err)
	}
	return cmd
}

func TestASecondCommandJoinsTheFirst(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	first := start(t, Config{DataDir: dir, API: "127.0.0.1:8080"})
	second := start(t, Config{DataDir: dir})
	if !first.Holder || second.Holder {
		t.Errorf("holder: first %t, second %t; want the first alone", first.Holder, second.Holder)
	}
	if second.DatabaseURL != first.DatabaseURL || !slices.Equal(second.Brokers, first.Brokers) || second.API != "127.0.0.1:8080" {
		t.Errorf("the second works on %+v, the first on %+v", second, first)
	}
	if err := writeRow(t.Context(), second); err != nil {
		t.Error(err)
	}
	closeStack(t, second)
	if err := writeRow(t.Context(), first); err != nil {
		t.Errorf("the second took the first's database down: %v", err)
	}
	closeStack(t, first)
	if _, err := os.Stat(runPath(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("run.json is still there: %v", err)
	}
	if left := inhabitants(filepath.Join(dir, "postgres", "data")); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

func TestOfTwoStartsAtOnceOneHolds(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	stacks := make(chan *Stack)
	for range 2 {
		go func() {
			s, err := Start(t.Context(), Config{DataDir: dir})
			if err != nil {
				t.Error(err)
			}
			stacks <- s
		}()
	}
	a, b := <-stacks, <-stacks
	if a == nil || b == nil {
		return
	}
	defer closeStack(t, a)
	defer closeStack(t, b)
	if a.Holder == b.Holder || a.DatabaseURL != b.DatabaseURL {
		t.Errorf("holders %t and %t on %s and %s", a.Holder, b.Holder, a.DatabaseURL, b.DatabaseURL)
	}
}

func TestADirectoryHeldByASilentProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	lock, err := lockDir(dir)
	if err != nil || lock == nil {
		t.Fatal(lock, err)
	}
	defer lock.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = Start(ctx, Config{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), dir+" is held by another process") {
		t.Errorf("got %v", err)
	}
}

func TestAKillLosesNothing(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	for round := int64(1); round <= 3; round++ {
		holder := startHolder(t, dir)
		if err := holder.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = holder.Wait()
		s := start(t, Config{DataDir: dir, Durable: true})
		if !s.Holder {
			t.Fatal("joined a dead process")
		}
		if rows, messages := kept(t, s); rows != round || messages != round {
			t.Errorf("after kill %d: %d rows and %d messages, want %d of each", round, rows, messages, round)
		}
		closeStack(t, s)
	}
}

func TestAStartWaitsForTheDyingServer(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	data := filepath.Join(dir, "postgres", "data")
	holder := startHolder(t, dir)
	var postmaster int
	if _, err := fmt.Sscan(postmasterFile(data)[0], &postmaster); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil { // it cannot die yet
		t.Fatal(err)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	started := make(chan *Stack)
	go func() {
		s, err := Start(t.Context(), Config{DataDir: dir})
		if err != nil {
			t.Error(err)
		}
		started <- s
	}()
	for lock, _ := lockDir(dir); lock != nil; lock, _ = lockDir(dir) { // until the start has taken the directory
		_ = lock.Close()
		runtime.Gosched()
	}
	select {
	case <-started:
		t.Error("the start did not wait for the server that still lives")
	case <-time.After(50 * time.Millisecond):
	}
	if err := syscall.Kill(postmaster, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if s := <-started; s != nil {
		if rows, messages := kept(t, s); rows != 1 || messages != 1 {
			t.Errorf("%d rows and %d messages, want 1 of each", rows, messages)
		}
		closeStack(t, s)
	}
}

func TestAPidThatIsUsedAgainIsNotTakenForTheHolder(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	run := runFile{Database: "postgres:///gone", Brokers: []string{"127.0.0.1:1"}, PID: os.Getpid(), Started: startOf(os.Getpid())}
	if err := run.write(dir); err != nil {
		t.Fatal(err)
	}
	if _, ok := readRun(dir); !ok {
		t.Error("a living process is not recognised")
	}
	run.Started = strings.TrimSuffix(run.Started, run.Started[len(run.Started)-1:]) + "x"
	if err := run.write(dir); err != nil {
		t.Fatal(err)
	}
	if _, ok := readRun(dir); ok {
		t.Error("another process with the same number is taken for the holder")
	}
	if s := start(t, Config{DataDir: dir}); !s.Holder {
		t.Error("joined what does not run")
	}
}

func TestAJoinToAnotherDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	s := start(t, Config{DataDir: dir})
	if _, err := Start(t.Context(), Config{DataDir: dir, DatabaseURL: "postgres:///other"}); !errors.Is(err, ErrOtherStack) {
		t.Errorf("got %v", err)
	}
	if _, err := Start(t.Context(), Config{DataDir: dir, Brokers: "kafka:9092"}); !errors.Is(err, ErrOtherStack) {
		t.Errorf("got %v", err)
	}
	joined := start(t, Config{DataDir: dir, DatabaseURL: s.DatabaseURL})
	if joined.Holder {
		t.Error("the same database was not joined")
	}
}

func TestServersOfOthersAreUsedAsTheyAre(t *testing.T) {
	t.Setenv("CLEARWARD_DATABASE_URL", "postgres://db/clearward")
	t.Setenv("CLEARWARD_KAFKA_BROKERS", "one:9092, two:9092")
	dir := filepath.Join(dataDir(t), "untouched")
	t.Setenv("CLEARWARD_DATA_DIR", dir)
	s := start(t, FromEnv())
	if s.DatabaseURL != "postgres://db/clearward" || !slices.Equal(s.Brokers, []string{"one:9092", "two:9092"}) || !s.Holder {
		t.Errorf("got %+v", s)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("a data directory was made for nothing")
	}
}

func TestWithoutADatabaseTheErrorSaysWhatToInstall(t *testing.T) {
	old := debianPostgres
	debianPostgres = "/nonexistent/*/bin"
	t.Cleanup(func() { debianPostgres = old })
	t.Setenv("PATH", "")
	dir := dataDir(t)
	_, err := Start(t.Context(), Config{DataDir: dir})
	if !errors.Is(err, ErrNoDatabase) || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("got %v", err)
	}
	if lock, err := lockDir(dir); lock == nil || err != nil {
		t.Errorf("the failed start keeps the directory: %v", err)
	}
}

func TestTheDefaultDirectoryIsOneThatTheDatabaseCanEnter(t *testing.T) {
	home := filepath.Join(dataDir(t), "home")
	if err := os.Mkdir(home, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("HOME", home)
	if dir, _ := defaultDir(); dir != filepath.Join(home, ".clearward") {
		t.Errorf("in an open home: %s", dir)
	}
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	old := systemDirs
	systemDirs = []string{"/proc/nowhere", filepath.Join(dataDir(t), "system")}
	t.Cleanup(func() { systemDirs = old })
	want, reason := systemDirs[1], "cannot enter "+home
	if os.Geteuid() != 0 {
		want, reason = filepath.Join(home, ".clearward"), ""
	}
	if dir, why := defaultDir(); dir != want || !strings.Contains(why, reason) {
		t.Errorf("in a closed home: %s%s", dir, why)
	}
	t.Setenv("XDG_STATE_HOME", dataDir(t))
	if dir, _ := defaultDir(); dir != filepath.Join(os.Getenv("XDG_STATE_HOME"), "clearward") {
		t.Errorf("with XDG_STATE_HOME: %s", dir)
	}
}

func TestACockroachBinaryComesBeforePostgreSQL(t *testing.T) {
	server := startPostgres(t, filepath.Join(dataDir(t), "postgres"))
	dir := dataDir(t)
	// Stands in for CockroachDB as far as starting and stopping goes: it writes
	// the URL file it is told to, and runs until it is asked to stop.
	script := `#!/bin/sh
for arg; do case "$arg" in --listening-url-file=*) file=${arg#*=} ;; --store=*) mkdir -p "${arg#*=}" ;; esac; done
echo "$@" > "$file.args"
echo '` + server.URL("defaultdb") + `' > "$file"
exec sleep 1000
`
	binary := filepath.Join(dataDir(t), "cockroach")
	if err := os.WriteFile(binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := createDatabase(t.Context(), server.URL("postgres"), "defaultdb"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COCKROACH_BINARY", binary)
	s := start(t, Config{DataDir: dir})
	args, err := os.ReadFile(filepath.Join(dir, "cockroach", "listening-url.args"))
	if err != nil || !strings.HasPrefix(string(args), "start-single-node --insecure --store=") {
		t.Errorf("called with %q, %v", args, err)
	}
	if err := writeRow(t.Context(), s); err != nil {
		t.Error(err)
	}
	closeStack(t, s)

	t.Setenv("COCKROACH_BINARY", "")
	if _, err := Start(t.Context(), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "COCKROACH_BINARY") {
		t.Errorf("the directory of a CockroachDB was started as something else: %v", err)
	}
}

// Whoever listens at the address of a broker that has ended is left alone: clients
// asked there every few seconds, and read what they were told as Kafka's.
func TestNobodyAsksABrokerThatHasEnded(t *testing.T) {
	t.Parallel()
	s, err := Start(t.Context(), Config{DataDir: dataDir(t), DatabaseURL: "postgres:///unused"})
	if err != nil {
		t.Fatal(err)
	}
	at := s.Brokers[0]
	if err := errors.Join(EnsureTopics(t.Context(), s.Brokers, map[string]Topic{"one": {Partitions: 1}}), s.Close()); err != nil {
		t.Fatal(err)
	}
	door, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	const long = 7 * time.Second // a client asks again within 6 seconds
	if err := door.(*net.TCPListener).SetDeadline(time.Now().Add(long)); err != nil {
		t.Fatal(err)
	}
	if asks, err := door.Accept(); err == nil {
		t.Errorf("%s asks %s", asks.RemoteAddr(), at)
	} else if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err := door.Close(); err != nil {
		t.Error(err)
	}
}

func TestEnsureTopicsIsIdempotent(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: dataDir(t), DatabaseURL: "postgres:///unused"})
	want := map[string]Topic{"channel": {Partitions: 4}, "dead": {Partitions: 1, Lasting: true}}
	for range 2 {
		if err := EnsureTopics(t.Context(), s.Brokers, want); err != nil {
			t.Fatal(err)
		}
	}
	meta, err := (&kafka.Client{Addr: kafka.TCP(s.Brokers...)}).Metadata(t.Context(), &kafka.MetadataRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Topic{}
	for _, topic := range meta.Topics {
		got[topic.Name] = Topic{len(topic.Partitions), want[topic.Name].Lasting} // how long it keeps is tried by those who feed
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("topics %v, want %v", got, want)
	}
	var run runFile
	text, err := os.ReadFile(runPath(s.DataDir))
	if err := errors.Join(err, json.Unmarshal(text, &run)); err != nil || !slices.Equal(run.Brokers, s.Brokers) {
		t.Errorf("run.json says %s, %v", text, err)
	}
}
