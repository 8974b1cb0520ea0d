package local

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNoDatabase says that this machine has nothing that could keep the ledger.
var ErrNoDatabase = errors.New("no database found: install PostgreSQL (apt-get install postgresql), " +
	"or put a cockroach binary into PATH or COCKROACH_BINARY, or set CLEARWARD_DATABASE_URL")

// Postgres is a private PostgreSQL server, a child of this process.
type Postgres struct {
	child   *child
	sockets string
	private bool // the socket folder is ours alone and goes with the server
}

// StartPostgres starts a PostgreSQL server whose files stand in dir, which is
// made when it is missing. It listens on a Unix socket in a folder that only
// its own user may enter, so that the absence of a password opens nothing.
// durable = false gives up crash safety for speed and is for tests.
//
// A server that still holds the directory, because the process that started it
// was killed a moment ago, is waited for.
func StartPostgres(ctx context.Context, dir string, durable bool) (*Postgres, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	who, err := childUser(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := who.own(dir); err != nil {
		return nil, err
	}
	if err := initdb(ctx, bin, dir, data, who, durable); err != nil {
		return nil, err
	}
	if err := awaitVacant(ctx, data); err != nil {
		return nil, err
	}
	p := &Postgres{}
	if err := p.chooseSockets(dir, who); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(bin, "postgres"), settings(data, p.sockets, durable)...)
	cmd.Dir, cmd.SysProcAttr = dir, who.attr()
	if p.child, err = startChild(cmd, filepath.Join(dir, "log"), syscall.SIGINT); err != nil {
		return nil, err
	}
	if err := p.awaitReady(ctx, data); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// URL names a database of this server, for its owner.
func (p *Postgres) URL(database string) string {
	return "postgres:///" + database + "?" + url.Values{"host": {p.sockets}, "user": {"postgres"}}.Encode()
}

// Stop ends the server in order (open connections are cut, all is written).
func (p *Postgres) Stop() error {
	err := p.child.stop(syscall.SIGINT, 30*time.Second)
	if p.private {
		err = errors.Join(err, os.RemoveAll(p.sockets))
	}
	return err
}

// findPostgres returns the folder of initdb and postgres: the one that PATH
// leads to, else Debian's, newest first.
func findPostgres() (string, error) {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	debian, _ := filepath.Glob(debianPostgres)
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	slices.SortFunc(debian, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range append(dirs, debian...) {
		if isFile(filepath.Join(dir, "initdb")) && isFile(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", ErrNoDatabase
}

// debianPostgres is where Debian puts the server, which is not in PATH there.
var debianPostgres = "/usr/lib/postgresql/*/bin"

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// initdb makes the cluster once. It is made beside its place and renamed, so
// that a kill in the middle leaves nothing half made.
func initdb(ctx context.Context, bin, dir, data string, who identity, durable bool) error {
	if isFile(filepath.Join(data, "PG_VERSION")) {
		return nil
	}
	fresh := filepath.Join(dir, "new")
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	args := []string{"-D", fresh, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"}
	if !durable {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	cmd.Dir, cmd.SysProcAttr = dir, who.attr()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb in %s: %w\n%s", dir, err, out)
	}
	return os.Rename(fresh, data)
}

// settings are the command line of the server.
func settings(data, sockets string, durable bool) []string {
	values := []string{
		"listen_addresses=", "max_connections=100", "shared_buffers=256MB", "max_wal_size=4GB",
		"timezone=UTC", "log_timezone=UTC", "default_transaction_isolation=serializable",
		// Predicate locks of a full batch stay rows for longer before they
		// become pages, which abort innocent neighbours.
		"max_pred_locks_per_transaction=256",
		"autovacuum_naptime=10s", // plans made on an empty table are made again soon after it is filled
		"work_mem=32MB",          // a run sorts a day's legs by their numbers
		"jit=off",                // compiling costs more than it saves on statements of a few ms
		// Counting rows anew for every tenth that is added keeps a growing table busy with it.
		"autovacuum_analyze_scale_factor=0.5",
	}
	if durable {
		values = append(values, "fsync=on", "synchronous_commit=on", "full_page_writes=on")
	} else {
		values = append(values, "fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=64MB")
	}
	args := []string{"-D", data, "-k", sockets}
	for _, value := range values {
		args = append(args, "-c", value)
	}
	return args
}

// chooseSockets puts the socket beside the data, or into a folder of its own
// under /tmp where that path is too long for a socket address.
func (p *Postgres) chooseSockets(dir string, who identity) error {
	const longest = 107 - len("/.s.PGSQL.5432")
	p.sockets = filepath.Join(dir, "run")
	if len(p.sockets) > longest {
		short, err := os.MkdirTemp("/tmp", "clearward-")
		if err != nil {
			return err
		}
		p.sockets, p.private = short, true
	}
	return who.own(p.sockets)
}

// awaitReady returns when postmaster.pid names our own child and says ready: a
// ping could be answered by another server on the same directory.
func (p *Postgres) awaitReady(ctx context.Context, data string) error {
	for {
		lines := postmasterFile(data)
		if len(lines) > 7 && strings.HasPrefix(lines[7], "ready") {
			// In a user namespace of its own the server sees the same pids as we do.
			if lines[0] == strconv.Itoa(p.child.cmd.Process.Pid) {
				return nil
			}
		}
		select {
		case <-p.child.done:
			return fmt.Errorf("PostgreSQL ended while it started: %w\n%s", p.child.err, p.child.tail())
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL is not ready: %w\n%s", ctx.Err(), p.child.tail())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// postmasterFile returns the lines of postmaster.pid, nil when there is none.
func postmasterFile(data string) []string {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return nil
	}
	lines := strings.Split(string(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

// createDatabase makes the database on a server that we started, once.
func createDatabase(ctx context.Context, serverURL, name string) error {
	conn, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{name}.Sanitize())
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == duplicateDatabase {
		return nil
	}
	return err
}

// duplicateDatabase is the SQLSTATE of CREATE DATABASE on a name in use.
const duplicateDatabase = "42P04"
