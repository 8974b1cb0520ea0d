// Package db opens the ledger's database, runs transactions on it and migrates
// it. The same SQL runs on CockroachDB and on PostgreSQL, always SERIALIZABLE;
// this package is the only one that knows which of the two it is.
package db

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Dialect is the database that we talk to.
type Dialect int

// The two databases.
const (
	Postgres Dialect = iota
	Cockroach
)

// String names the database for people.
func (d Dialect) String() string {
	if d == Cockroach {
		return "CockroachDB"
	}
	return "PostgreSQL"
}

// Role says with whose rights a connection works.
type Role int

// The two roles. The owner migrates; the program works as App, which may not
// change what is append-only.
const (
	Owner Role = iota
	App
)

// appRole is the database role of App. Migrations grant to it by this name.
const appRole = "clearward_app"

// ErrMixedDialects says that the connections of one URL end at different
// databases, so that no statement could be chosen for them.
var ErrMixedDialects = errors.New("one URL leads to both CockroachDB and PostgreSQL")

// DB is an open database.
type DB struct {
	Pool    *pgxpool.Pool
	Dialect Dialect
}

// maxConns is the size of a pool whose URL does not name another
// (pool_max_conns): the embedded server takes 100 connections in all.
const maxConns = 16

// Open connects to url, for example postgres://user@host/clearward, with the
// rights of role. pgxpool's settings may stand in the URL (pool_max_conns=8).
func Open(ctx context.Context, url string, role Role) (*DB, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	probe, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	d := &DB{Dialect: dialectOf(probe.PgConn())}
	if err := probe.Close(ctx); err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	configure(config, url, d.Dialect, role)
	config.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		return d.Use(ctx, conn) == nil, nil // one that cannot is given up for another
	}
	if d.Pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := d.Pool.Ping(ctx); err != nil {
		d.Pool.Close()
		return nil, fmt.Errorf("open the database: %w", err)
	}
	return d, nil
}

// Close ends all connections; it waits for those in use.
func (d *DB) Close() { d.Pool.Close() }

// configure sets what every connection needs: times in UTC both ways, nothing
// weaker than SERIALIZABLE, the role, and an age at which it is replaced, so
// that the load follows when nodes come and go.
func configure(config *pgxpool.Config, url string, want Dialect, role Role) {
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	config.MaxConnLifetime = 15 * time.Minute
	config.MaxConnLifetimeJitter = 5 * time.Minute
	params := config.ConnConfig.RuntimeParams
	params["timezone"] = "UTC"
	params["default_transaction_isolation"] = "serializable"
	params["application_name"] = "clearward"
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if got := dialectOf(conn.PgConn()); got != want {
			return fmt.Errorf("%w: expected %s, met %s", ErrMixedDialects, want, got)
		}
		readTimesAsUTC(conn.TypeMap())
		if role == Owner {
			return nil
		}
		_, err := conn.Exec(ctx, `SET ROLE `+appRole)
		return err
	}
}

// PostgreSQL keeps the plan of a statement until it counts the table's rows again, and
// one made on an empty table reads all of a hospital to find one payment. The plans of a
// connection are dropped at these uses of it, each twice as many as the last: its tables
// grow no faster.
const (
	firstReplan = 1 << 5
	lastReplan  = 1 << 13
)

const usesOfConn = "clearward.uses"

// Use counts a use of a connection, of the pool or taken out of it, and drops its plans
// where they are due.
func (d *DB) Use(ctx context.Context, conn *pgx.Conn) error {
	if d.Dialect != Postgres {
		return nil
	}
	data := conn.PgConn().CustomData()
	uses, _ := data[usesOfConn].(int)
	uses++
	data[usesOfConn] = uses
	if uses < firstReplan || uses > lastReplan || uses&(uses-1) != 0 {
		return nil
	}
	if _, err := conn.Exec(ctx, `DISCARD PLANS`); err != nil {
		return fmt.Errorf("plan statements anew: %w", err)
	}
	return nil
}

// dialectOf costs nothing: CockroachDB reports its version when a session starts.
func dialectOf(conn *pgconn.PgConn) Dialect {
	if conn.ParameterStatus("crdb_version") != "" {
		return Cockroach
	}
	return Postgres
}

// readTimesAsUTC makes every scanned time UTC instead of the zone of the machine.
func readTimesAsUTC(types *pgtype.Map) {
	stamp := &pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID,
		Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}}
	types.RegisterType(stamp)
	types.RegisterType(&pgtype.Type{Name: "_timestamptz", OID: pgtype.TimestamptzArrayOID,
		Codec: &pgtype.ArrayCodec{ElementType: stamp}})
}
