package db

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Schema is the tables of one package.
type Schema struct {
	Name string // of the package; its versions are kept in the table goose_<name>
	FS   fs.FS  // holds schema/NNNN_what.sql, and schema/cockroach/ for CockroachDB alone
}

// Migrate brings the database to the newest version of every schema, in the
// order given, which is the order of imports. Any number of processes may do so
// at once: one works, the others wait. It creates the role of App.
//
// Files are marked "+goose NO TRANSACTION", since CockroachDB does not take back
// DDL; PostgreSQL does, so there each file is one transaction all the same and a
// process killed in the middle leaves nothing half done.
func Migrate(ctx context.Context, ownerURL string, schemas ...Schema) error {
	config, err := pgx.ParseConfig(ownerURL)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	dialect := dialectOf(conn.PgConn())
	if err := errors.Join(createAppRole(ctx, conn), conn.Close(ctx)); err != nil {
		return fmt.Errorf("create role %s: %w", appRole, err)
	}
	pool := stdlib.OpenDB(*config)
	defer pool.Close()
	for _, schema := range schemas {
		if err := schema.migrate(ctx, pool, dialect); err != nil {
			return fmt.Errorf("migrate %s: %w", schema.Name, err)
		}
	}
	return nil
}

// createAppRole makes the role that App works as, once for the whole server,
// and lets the owner step into it.
func createAppRole(ctx context.Context, conn *pgx.Conn) error {
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)`, appRole).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		_, err := conn.Exec(ctx, `CREATE ROLE `+appRole+` NOLOGIN`)
		if code := sqlState(err); err != nil && code != duplicateObject && code != uniqueViolation {
			return err
		}
	}
	var member bool
	if err := conn.QueryRow(ctx, `SELECT pg_has_role(current_user, $1, 'MEMBER')`, appRole).Scan(&member); err != nil || member {
		return err
	}
	_, err := conn.Exec(ctx, `GRANT `+appRole+` TO current_user`)
	return err
}

// migrate applies the schema's files, then those for CockroachDB alone.
func (s Schema) migrate(ctx context.Context, pool *sql.DB, dialect Dialect) error {
	files, err := fs.Sub(s.FS, "schema")
	if err != nil {
		return err
	}
	if dialect == Postgres {
		return apply(ctx, pool, "goose_"+s.Name, wholeFiles{files})
	}
	if err := apply(ctx, pool, "goose_"+s.Name, files); err != nil {
		return err
	}
	overlay, err := fs.Sub(files, "cockroach")
	if err != nil {
		return err
	}
	if names, err := fs.Glob(overlay, "*.sql"); err != nil || len(names) == 0 {
		return err
	}
	return apply(ctx, pool, "goose_"+s.Name+"_cockroach", overlay)
}

func apply(ctx context.Context, pool *sql.DB, versions string, files fs.FS) error {
	// A process killed while it migrates holds the lock for one lease at most.
	locker, err := lock.NewPostgresTableLocker(
		lock.WithTableLeaseDuration(6*time.Second), lock.WithTableHeartbeatInterval(2*time.Second),
		lock.WithTableLockTimeout(100*time.Millisecond, 3000), lock.WithTableUnlockTimeout(100*time.Millisecond, 100))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, pool, files,
		goose.WithTableName(versions), goose.WithLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		return fmt.Errorf("%s: %w", partial.Failed.Source.Path, partial.Err)
	}
	return err
}

// wholeFiles drops the mark NO TRANSACTION from the migrations it opens.
type wholeFiles struct{ fs.FS }

var noTransaction = []byte("-- +goose NO TRANSACTION")

// Open implements fs.FS.
func (w wholeFiles) Open(name string) (fs.File, error) {
	file, err := w.FS.Open(name)
	if err != nil || path.Ext(name) != ".sql" {
		return file, err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return readFile{file, bytes.NewReader(bytes.ReplaceAll(text, noTransaction, nil))}, nil
}

// readFile is a file with other content.
type readFile struct {
	fs.File
	content *bytes.Reader
}

// Read implements fs.File.
func (f readFile) Read(p []byte) (int, error) { return f.content.Read(p) }
