package db_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/jackc/pgx/v5/pgconn"
)

func schema(name string, files map[string]string) db.Schema {
	fs := fstest.MapFS{}
	for path, text := range files {
		fs["schema/"+path] = &fstest.MapFile{Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\n" + text)}
	}
	return db.Schema{Name: name, FS: fs}
}

func open(t *testing.T, url string, role db.Role) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), url, role)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func exists(t *testing.T, d *db.DB, table string) (yes bool) {
	t.Helper()
	err := d.Pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_tables WHERE tablename = $1)`, table).Scan(&yes)
	if err != nil {
		t.Fatal(err)
	}
	return yes
}

func TestMigrationsRunOnceInOrderHoweverManyProcessesTry(t *testing.T) {
	url := dbtest.URL(t)
	first := schema("first", map[string]string{"0001_a.sql": `CREATE TABLE a (id INT8 NOT NULL PRIMARY KEY);`})
	second := schema("second", map[string]string{
		"0001_b.sql": `CREATE TABLE b (id INT8 NOT NULL PRIMARY KEY REFERENCES a (id));`,
		"0002_c.sql": `INSERT INTO a (id) VALUES (7);`,
	})
	results := make(chan error)
	for range 3 {
		go func() { results <- db.Migrate(t.Context(), url, first, second) }()
	}
	if err := errors.Join(<-results, <-results, <-results); err != nil {
		t.Fatal(err)
	}
	d := open(t, url, db.Owner)
	if !exists(t, d, "b") || !exists(t, d, "goose_first") || !exists(t, d, "goose_second") {
		t.Error("a table is missing")
	}
	// A later release adds a file.
	first.FS.(fstest.MapFS)["schema/0002_d.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE d (id INT8 NOT NULL PRIMARY KEY);")}
	for range 2 {
		if err := db.Migrate(t.Context(), url, first, second); err != nil {
			t.Fatal(err)
		}
	}
	if !exists(t, d, "d") {
		t.Error("the new file was not applied")
	}
}

func TestAMigrationThatFailsSaysWhichAndCanBeRunAgain(t *testing.T) {
	url := dbtest.URL(t)
	d := open(t, url, db.Owner)
	const first = "CREATE TABLE IF NOT EXISTS half (id INT8 NOT NULL PRIMARY KEY);\n"
	err := db.Migrate(t.Context(), url, schema("late", map[string]string{"0001_half.sql": first + `CREATE TABLE whole (id NOTYPE);`}))
	if err == nil || !strings.Contains(err.Error(), "late") || !strings.Contains(err.Error(), "0001_half.sql") {
		t.Errorf("got %v", err)
	}
	if d.Dialect == db.Postgres && exists(t, d, "half") {
		t.Error("half of a file was applied")
	}
	err = db.Migrate(t.Context(), url, schema("late", map[string]string{"0001_half.sql": first + `CREATE TABLE whole (id INT8 NOT NULL PRIMARY KEY);`}))
	if err != nil || !exists(t, d, "half") || !exists(t, d, "whole") {
		t.Errorf("the mended file: %v", err)
	}
}

func TestTheOverlayIsForCockroachAlone(t *testing.T) {
	url := dbtest.URL(t, schema("both", map[string]string{
		"0001_both.sql":           `CREATE TABLE both_have (id INT8 NOT NULL PRIMARY KEY);`,
		"cockroach/0001_only.sql": `CREATE TABLE one_has (id INT8 NOT NULL PRIMARY KEY);`,
	}))
	d := open(t, url, db.Owner)
	if !exists(t, d, "both_have") || exists(t, d, "one_has") != (d.Dialect == db.Cockroach) {
		t.Errorf("on %s the overlay's table exists: %t", d.Dialect, exists(t, d, "one_has"))
	}
}

func TestTheAppRoleMayDoWhatIsGrantedAndNoMore(t *testing.T) {
	d := dbtest.New(t, schema("log", map[string]string{
		"0001_log.sql": `CREATE TABLE log (id INT8 NOT NULL PRIMARY KEY); GRANT SELECT, INSERT ON log TO clearward_app;`}))
	exec(t, d, `INSERT INTO log (id) VALUES (1)`)
	for _, sql := range []string{`UPDATE log SET id = 2`, `DELETE FROM log`, `TRUNCATE log`, `DROP TABLE log`} {
		_, err := d.Pool.Exec(t.Context(), sql)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "42501" {
			t.Errorf("%s: got %v, want insufficient privilege", sql, err)
		}
	}
}

func TestAWrongURLIsExplainedWithoutItsPassword(t *testing.T) {
	for _, url := range []string{"postgres://me:secret@127.0.0.1:1/x?connect_timeout=1", "postgres://me:secret@:x/"} {
		_, err := db.Open(t.Context(), url, db.App)
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "database") {
			t.Errorf("got %v", err)
		}
	}
}
