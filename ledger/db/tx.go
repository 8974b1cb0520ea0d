package db

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cockroachdb/cockroach-go/v2/crdb"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The SQLSTATEs that decide about a transaction.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	completionUnknown    = "40003"
	duplicateObject      = "42710"
	uniqueViolation      = "23505"
)

const (
	maxRetries = 30
	firstPause = time.Millisecond
	maxPause   = 100 * time.Millisecond
)

// ErrAmbiguous is what every AmbiguousError is, for errors.Is.
var ErrAmbiguous = errors.New("the outcome of COMMIT is unknown")

// AmbiguousError says that COMMIT was sent and no answer came: the transaction
// may stand or not. It is never retried; the caller asks the database for its
// idempotency key, or its place in a lane.
type AmbiguousError struct{ Err error }

// Error tells why no answer came.
func (e *AmbiguousError) Error() string { return ErrAmbiguous.Error() + ": " + e.Err.Error() }

// Unwrap gives the sentinel and the cause.
func (e *AmbiguousError) Unwrap() []error { return []error{ErrAmbiguous, e.Err} }

// retryable makes a deadlock look like the serialization failure it is to
// cockroach-go's loop.
type retryable struct{ error }

// Unwrap gives the database's own error.
func (r retryable) Unwrap() error { return r.error }

// SQLState is what the loop looks for.
func (r retryable) SQLState() string { return serializationFailure }

// InTx runs fn in a SERIALIZABLE transaction and commits it. When the database
// asks for it, the whole is done again in a fresh transaction, a bounded number
// of times with growing pauses: fn must have no effect outside tx, must set
// every captured variable anew, and must wrap the errors of tx with %w.
//
// nil means that COMMIT was answered. An error that is ErrAmbiguous means that
// the outcome is unknown, any other that nothing was written.
func (d *DB) InTx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return d.run(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadWrite}, fn)
}

// ReadTx is InTx for reading only: everything fn sees is one state of the books.
func (d *DB) ReadTx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return d.run(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly}, fn)
}

// Queryer sends statements that read: a transaction, or the one statement of ReadOne.
type Queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// errSecond keeps ReadOne to what it promises.
var errSecond = errors.New("a second statement would see another state of the books: use ReadTx")

// single sends one statement outside any other transaction.
type single struct {
	pool *pgxpool.Pool
	sent bool
}

// Query sends the statement.
func (s *single) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if s.sent {
		return nil, errSecond
	}
	s.sent = true
	return s.pool.Query(ctx, sql, args...)
}

// ReadOne is ReadTx for one statement, which is a SERIALIZABLE transaction by itself:
// one round trip where ReadTx takes three. fn reads its rows to their end; a second
// statement is refused.
func (d *DB) ReadOne(ctx context.Context, fn func(ctx context.Context, q Queryer) error) error {
	return d.again(ctx, func(ctx context.Context) error { return mapDeadlock(fn(ctx, &single{pool: d.Pool})) })
}

func (d *DB) run(ctx context.Context, opts pgx.TxOptions, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return d.again(ctx, func(ctx context.Context) error { return d.once(ctx, opts, fn) })
}

// again is the one retry loop, right on both databases. crdbpgx.ExecuteTx is not:
// on PostgreSQL it retries inside the failed snapshot and drops COMMIT's error.
func (d *DB) again(ctx context.Context, do func(ctx context.Context) error) error {
	attempt := 0
	return crdb.ExecuteCtx(crdb.WithMaxRetries(ctx, maxRetries), func(ctx context.Context, _ ...any) error {
		if attempt > 0 {
			if err := pause(ctx, attempt); err != nil {
				return err
			}
		}
		attempt++
		return do(ctx)
	})
}

// once runs fn in a transaction of its own and reports COMMIT's own error.
func (d *DB) once(ctx context.Context, opts pgx.TxOptions, fn func(ctx context.Context, tx pgx.Tx) error) error {
	tx, err := d.Pool.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer rollback(ctx, tx) // also when fn panics; after COMMIT it does nothing
	if err := fn(ctx, tx); err != nil {
		return mapDeadlock(err)
	}
	// What is not sent cannot have happened. pgconn.SafeToRetry does not tell: it
	// also says yes when the connection broke while COMMIT's answer was awaited.
	if tx.Conn().IsClosed() {
		return fmt.Errorf("commit: %w before it was sent", pgconn.ErrConnClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("commit: %w before it was sent", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return commitError(err, opts.AccessMode)
	}
	return nil
}

// rollback gives the connection back, also when ctx has ended, without waiting
// for a database that does not answer.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// commitError tells a refused COMMIT, which wrote nothing, from one whose
// outcome is unknown.
func commitError(err error, mode pgx.TxAccessMode) error {
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return fmt.Errorf("the transaction had failed before COMMIT, and its error was swallowed: %w", err)
	case mode == pgx.ReadOnly: // there was nothing to write
		return fmt.Errorf("commit: %w", err)
	case errors.As(err, &pg) && !leavesDoubt(pg.Code):
		return mapDeadlock(fmt.Errorf("commit: %w", err))
	}
	return &AmbiguousError{err}
}

// leavesDoubt: lost connections (class 08), interventions of an operator (class
// 57) and CockroachDB's own "result is ambiguous".
func leavesDoubt(code string) bool {
	return code == completionUnknown || strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57")
}

func mapDeadlock(err error) error {
	if sqlState(err) == deadlockDetected {
		return retryable{err}
	}
	return err
}

// sqlState is the code of the database error inside err, "" when there is none.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// pause waits before the next attempt, longer each time, jittered so that
// rivals do not meet again.
func pause(ctx context.Context, attempt int) error {
	most := min(firstPause<<min(attempt-1, 10), maxPause)
	timer := time.NewTimer(most/2 + rand.N(most/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
