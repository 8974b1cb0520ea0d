package local

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func startPostgres(t *testing.T, dir string) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), dir, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop() })
	return p
}

// setting asks the server, which also shows that its URL works.
func setting(t *testing.T, p *Postgres, name string) (value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestDurableSettingsAreOnOutsideTests(t *testing.T) {
	t.Parallel()
	p, err := StartPostgres(t.Context(), filepath.Join(dataDir(t), "postgres"), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop() })
	for name, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "max_wal_size": "4GB", "max_connections": "100",
		"default_transaction_isolation": "serializable", "TimeZone": "UTC", "listen_addresses": "",
	} {
		if got := setting(t, p, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

func TestAServerThatWasKilledStartsAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(dataDir(t), "postgres")
	p := startPostgres(t, dir)
	if err := p.child.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.child.done
	p = startPostgres(t, dir)
	if got := setting(t, p, "fsync"); got != "off" {
		t.Errorf("fsync = %s in a test", got)
	}
}

func TestAServerWithoutParentIsEnded(t *testing.T) {
	dir := filepath.Join(dataDir(t), "postgres")
	if err := startPostgres(t, dir).Stop(); err != nil {
		t.Fatal(err)
	}
	bin, err1 := findPostgres()
	who, err2 := childUser(filepath.Dir(dir))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	orphan := exec.Command(filepath.Join(bin, "postgres"), settings(data, filepath.Join(dir, "run"), false)...)
	orphan.Dir, orphan.SysProcAttr = dir, who.attr()
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = orphan.Wait(); close(ended) }()
	for len(postmasterFile(data)) < 8 { // comes within milliseconds
		runtime.Gosched()
	}
	old := hurryAfter
	hurryAfter = 0
	t.Cleanup(func() { hurryAfter = old })
	p := startPostgres(t, dir)
	<-ended
	setting(t, p, "fsync")
}

func TestAFolderThatOnlyRootMayEnter(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(dataDir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := StartPostgres(t.Context(), filepath.Join(closed, "postgres"), false)
	if err != nil {
		// As root it takes a user namespace, which not every machine allows.
		if os.Geteuid() != 0 || !strings.Contains(err.Error(), "choose another CLEARWARD_DATA_DIR") {
			t.Error(err)
		}
		return
	}
	setting(t, p, "fsync")
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

func TestALongPathStillHasASocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(dataDir(t), strings.Repeat("long/", 30), "postgres")
	p := startPostgres(t, dir)
	setting(t, p, "fsync")
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.sockets); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket folder %s is left: %v", p.sockets, err)
	}
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(dataDir(t), "postgres")
	if err := startPostgres(t, dir).Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "postgresql.conf"), []byte("nonsense = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := StartPostgres(t.Context(), dir, false)
	if err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("got %v", err)
	}
}
