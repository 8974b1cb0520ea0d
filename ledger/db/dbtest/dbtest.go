// Package dbtest gives every test a database of its own, freshly migrated.
//
// One private PostgreSQL serves a test binary; it is started by the first test
// that asks and goes when the binary ends, however it ends. With
// CLEARWARD_TEST_DATABASE_URL the tests use that server instead (its user must
// be allowed to create databases), and with CLEARWARD_TEST_DB=cockroach a
// single CockroachDB node from COCKROACH_BINARY or PATH.
package dbtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger/db"
	"github.com/jackc/pgx/v5"
)

// New returns an open database (role App) that holds the schemas and nothing
// else. It is dropped when the test ends.
func New(t testing.TB, schemas ...db.Schema) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), URL(t, schemas...), db.App)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// URL is New for tests of whole processes: the owner's URL of a fresh database.
func URL(t testing.TB, schemas ...db.Schema) string {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	name, err := s.create(t.Context(), schemas)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.drop(context.Background(), name); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return s.databaseURL(name)
}

// server is where the databases of one test binary stand.
type server struct {
	url       *url.URL
	cockroach bool

	mu        sync.Mutex // one at a time: a template may not be in use while it is copied
	admin     *pgx.Conn
	templates map[string]string // set of schemas → database that holds them
}

var start = sync.OnceValues(func() (*server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	serverURL := os.Getenv("CLEARWARD_TEST_DATABASE_URL")
	if serverURL == "" {
		var err error
		if serverURL, err = startOwn(ctx); err != nil {
			return nil, err
		}
	}
	parsed, err := url.Parse(serverURL)
	if err != nil {
		return nil, fmt.Errorf("CLEARWARD_TEST_DATABASE_URL: %w", err)
	}
	admin, err := pgx.Connect(ctx, serverURL)
	if err != nil {
		return nil, err
	}
	cockroach := admin.PgConn().ParameterStatus("crdb_version") != ""
	return &server{url: parsed, cockroach: cockroach, admin: admin, templates: map[string]string{}}, nil
})

// startOwn starts the binary's private server and returns its owner's URL.
func startOwn(ctx context.Context) (string, error) {
	dir, err := tempDir()
	if err != nil {
		return "", err
	}
	if err := sweepLater(dir); err != nil {
		return "", err
	}
	if os.Getenv("CLEARWARD_TEST_DB") == "cockroach" {
		c, err := local.StartCockroach(ctx, filepath.Join(dir, "cockroach"))
		if err != nil {
			return "", err
		}
		return c.URL("defaultdb"), nil
	}
	p, err := local.StartPostgres(ctx, filepath.Join(dir, "postgres"), false)
	if err != nil {
		return "", err
	}
	return p.URL("postgres"), nil
}

// tempDir makes a folder that the database's user may pass through, in memory
// where there is plenty of it.
func tempDir() (string, error) {
	const plenty = 4 << 30
	for _, parent := range []string{"/dev/shm", "/tmp"} {
		var fs syscall.Statfs_t
		if syscall.Statfs(parent, &fs) != nil || int64(fs.Bavail)*fs.Bsize < plenty && parent != "/tmp" {
			continue
		}
		dir, err := os.MkdirTemp(parent, "clearward-test-")
		if err != nil {
			continue
		}
		return dir, os.Chmod(dir, 0o711)
	}
	return os.MkdirTemp("", "clearward-test-")
}

// sweepLater removes dir after this process has ended and the server with it. A
// small shell waits for that, since a test binary can end without a last word.
func sweepLater(dir string) error {
	const script = `read -r _
tries=0
while [ -e "$1/postgres/data/postmaster.pid" ] && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries+1)); done
rm -rf "$1"`
	cmd := exec.Command("/bin/sh", "-c", script, "sh", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	alive, err := cmd.StdinPipe() // the kernel closes our end when we die
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	keptOpen = append(keptOpen, alive)
	return nil
}

// keptOpen holds what must stay open as long as the process lives.
var keptOpen []any

func (s *server) databaseURL(name string) string {
	u := *s.url
	u.Path = "/" + name
	return u.String()
}

// create makes a database with the schemas. PostgreSQL copies a template that
// was migrated once; CockroachDB has no templates and migrates each.
func (s *server) create(ctx context.Context, schemas []db.Schema) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cockroach || len(schemas) == 0 {
		return s.migrated(ctx, schemas)
	}
	var names []string
	for _, schema := range schemas {
		names = append(names, schema.Name)
	}
	key := strings.Join(names, " ")
	template, ok := s.templates[key]
	if !ok {
		var err error
		if template, err = s.migrated(ctx, schemas); err != nil {
			return "", err
		}
		s.templates[key] = template
	}
	name := freshName()
	_, err := s.admin.Exec(ctx, `CREATE DATABASE `+name+` TEMPLATE `+template)
	return name, err
}

// migrated makes an empty database and migrates it.
func (s *server) migrated(ctx context.Context, schemas []db.Schema) (string, error) {
	name := freshName()
	if _, err := s.admin.Exec(ctx, `CREATE DATABASE `+name); err != nil {
		return "", err
	}
	return name, db.Migrate(ctx, s.databaseURL(name), schemas...)
}

func (s *server) drop(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cockroach {
		_, err := s.admin.Exec(ctx, `DROP DATABASE `+name+` CASCADE`)
		return err
	}
	_, err := s.admin.Exec(ctx, `DROP DATABASE `+name+` WITH (FORCE)`)
	return err
}

func freshName() string {
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		panic(errors.Join(errors.New("no randomness"), err))
	}
	return "clearward_test_" + hex.EncodeToString(random)
}
