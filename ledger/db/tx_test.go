package db_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// accounts is a schema of one table, as small as the runner's tests need.
var accounts = db.Schema{Name: "bank", FS: fstest.MapFS{"schema/0001_accounts.sql": {Data: []byte(`
-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS bank_accounts (id INT8 NOT NULL PRIMARY KEY, balance INT8 NOT NULL, changed_at TIMESTAMPTZ NULL);
GRANT SELECT, INSERT, UPDATE ON bank_accounts TO clearward_app;
`)}}}

func openBank(t *testing.T) *db.DB {
	t.Helper()
	d := dbtest.New(t, accounts)
	exec(t, d, `INSERT INTO bank_accounts (id, balance) VALUES (1, 100), (2, 100)`)
	return d
}

func exec(t *testing.T, d *db.DB, sql string, args ...any) {
	t.Helper()
	if _, err := d.Pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func balance(ctx context.Context, tx pgx.Tx, id int) (fen int64, err error) {
	err = tx.QueryRow(ctx, `SELECT balance FROM bank_accounts WHERE id = $1`, id).Scan(&fen)
	return fen, err
}

func wantBalances(t *testing.T, d *db.DB, want1, want2 int64) {
	t.Helper()
	err := d.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		one, err1 := balance(ctx, tx, 1)
		two, err2 := balance(ctx, tx, 2)
		if one != want1 || two != want2 {
			t.Errorf("balances are %d and %d, want %d and %d", one, two, want1, want2)
		}
		return errors.Join(err1, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// meet lets two first attempts reach the same point before either goes on.
type meet struct{ a, b chan struct{} }

func newMeet() meet { return meet{make(chan struct{}), make(chan struct{})} }

func (m meet) arrive(me int, attempt int) {
	if attempt > 1 {
		return
	}
	mine, other := m.a, m.b
	if me == 2 {
		mine, other = m.b, m.a
	}
	close(mine)
	<-other
}

// rivals runs two transactions against each other and returns how many attempts
// they took together.
func rivals(t *testing.T, d *db.DB, fn func(ctx context.Context, tx pgx.Tx, me, attempt int) error) int {
	t.Helper()
	type result struct {
		attempts int
		err      error
	}
	results := make(chan result)
	for me := 1; me <= 2; me++ {
		go func() {
			attempt := 0
			err := d.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
				attempt++
				return fn(ctx, tx, me, attempt)
			})
			results <- result{attempt, err}
		}()
	}
	total := 0
	for range 2 {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
		}
		total += r.attempts
	}
	return total
}

func TestWriteSkewIsRetriedToTheRightResult(t *testing.T) {
	d := openBank(t)
	m := newMeet()
	// Together the accounts may go down to 0: each withdraws 150 when the sum allows.
	attempts := rivals(t, d, func(ctx context.Context, tx pgx.Tx, me, attempt int) error {
		one, err1 := balance(ctx, tx, 1)
		two, err2 := balance(ctx, tx, 2)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("read: %w", err) // %w keeps the retry alive
		}
		m.arrive(me, attempt)
		if one+two < 150 {
			return nil
		}
		_, err := tx.Exec(ctx, `UPDATE bank_accounts SET balance = balance - 150 WHERE id = $1`, me)
		if err != nil {
			return fmt.Errorf("withdraw: %w", err)
		}
		return nil
	})
	if attempts < 3 {
		t.Errorf("%d attempts: the conflict was not seen", attempts)
	}
	var sum int64
	if err := d.Pool.QueryRow(t.Context(), `SELECT sum(balance)::INT8 FROM bank_accounts`).Scan(&sum); err != nil {
		t.Fatal(err)
	}
	if sum != 50 {
		t.Errorf("the accounts hold %d, want 50: both withdrawals stand", sum)
	}
}

func TestDeadlockIsRetried(t *testing.T) {
	d := openBank(t)
	m := newMeet()
	attempts := rivals(t, d, func(ctx context.Context, tx pgx.Tx, me, attempt int) error {
		if err := add(ctx, tx, me, 1); err != nil {
			return err
		}
		m.arrive(me, attempt)
		return add(ctx, tx, 3-me, 10)
	})
	if attempts < 3 {
		t.Errorf("%d attempts: there was no deadlock", attempts)
	}
	wantBalances(t, d, 111, 111)
}

func add(ctx context.Context, tx pgx.Tx, id, fen int) error {
	_, err := tx.Exec(ctx, `UPDATE bank_accounts SET balance = balance + $2 WHERE id = $1`, id, fen)
	return err
}

func TestAnErrorOfTheCallerIsNotRetriedAndWritesNothing(t *testing.T) {
	d := openBank(t)
	refused := errors.New("refused")
	attempts := 0
	err := d.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		attempts++
		return errors.Join(add(ctx, tx, 1, 5), refused)
	})
	if !errors.Is(err, refused) || attempts != 1 {
		t.Errorf("got %v after %d attempts, want the caller's error after 1", err, attempts)
	}
	wantBalances(t, d, 100, 100)
}

func TestASwallowedErrorFailsTheCommit(t *testing.T) {
	d := openBank(t)
	err := d.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO bank_accounts (id, balance) VALUES (1, 0)`); err == nil {
			t.Error("a second account 1 was taken")
		}
		return nil
	})
	if !errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, db.ErrAmbiguous) {
		t.Errorf("got %v, want the failed COMMIT", err)
	}
}

func TestAPanicGivesTheConnectionBack(t *testing.T) {
	d := openBank(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was lost")
			}
		}()
		_ = d.InTx(t.Context(), func(context.Context, pgx.Tx) error { panic("bug") })
	}()
	if n := d.Pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still taken", n)
	}
}

func TestAReadTxRefusesToWrite(t *testing.T) {
	d := openBank(t)
	err := d.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error { return add(ctx, tx, 1, 1) })
	if err == nil {
		t.Error("a reading transaction wrote")
	}
	wantBalances(t, d, 100, 100)
}

func TestReadOneTakesOneStatementAndIsRetried(t *testing.T) {
	d := openBank(t)
	read := func(ctx context.Context, q db.Queryer) (sum int64, isolation string, err error) {
		rows, err := q.Query(ctx, `SELECT sum(balance)::int8, current_setting('transaction_isolation') FROM bank_accounts`)
		if err != nil {
			return 0, "", err
		}
		_, err = pgx.ForEachRow(rows, []any{&sum, &isolation}, func() error { return nil })
		return sum, isolation, err
	}
	attempts := 0
	err := d.ReadOne(t.Context(), func(ctx context.Context, q db.Queryer) error {
		attempts++
		sum, isolation, err := read(ctx, q)
		if sum != 200 || isolation != "serializable" {
			t.Errorf("read %d at %s", sum, isolation)
		}
		if attempts == 1 {
			return fmt.Errorf("read: %w", &pgconn.PgError{Code: "40001", Message: "in the way"})
		}
		return err
	})
	if err != nil || attempts != 2 {
		t.Errorf("got %v after %d attempts", err, attempts)
	}
	err = d.ReadOne(t.Context(), func(ctx context.Context, q db.Queryer) error {
		_, _, first := read(ctx, q)
		_, _, second := read(ctx, q)
		return errors.Join(first, second)
	})
	if err == nil || !strings.Contains(err.Error(), "use ReadTx") {
		t.Errorf("two statements of two states of the books: %v", err)
	}
	if n := d.Pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still taken", n)
	}
}

func TestTimesAreReadAsUTCAndTheAppRoleIsSet(t *testing.T) {
	d := openBank(t)
	noon := time.Date(2026, 9, 15, 12, 0, 0, 0, time.FixedZone("Asia/Shanghai", 8*3600))
	exec(t, d, `UPDATE bank_accounts SET changed_at = $1 WHERE id = 1`, noon)
	var at time.Time
	var zone, role, isolation string
	err := d.Pool.QueryRow(t.Context(), `SELECT changed_at, current_setting('timezone'), current_user, current_setting('transaction_isolation')
		FROM bank_accounts WHERE id = 1`).Scan(&at, &zone, &role, &isolation)
	if err != nil {
		t.Fatal(err)
	}
	if !at.Equal(noon) || at.Location() != time.UTC || zone != "UTC" || role != "clearward_app" || isolation != "serializable" {
		t.Errorf("got %s in zone %s as %s at %s", at, zone, role, isolation)
	}
}

func TestACommitWithoutAnswerIsAmbiguousAndNotRetried(t *testing.T) {
	for _, c := range []struct {
		name      string
		committed bool
		want      int64
	}{{"the answer is lost", true, 105}, {"the COMMIT is lost", false, 100}} {
		t.Run(c.name, func(t *testing.T) {
			url := dbtest.URL(t, accounts)
			line := dbtest.NewLine(t, url)
			d, err := db.Open(t.Context(), line.URL, db.App)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(d.Close)
			exec(t, d, `INSERT INTO bank_accounts (id, balance) VALUES (1, 100), (2, 100)`)
			attempts := 0
			line.CutNextCommit(c.committed)
			err = d.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
				attempts++
				return add(ctx, tx, 1, 5)
			})
			var ambiguous *db.AmbiguousError
			if !errors.Is(err, db.ErrAmbiguous) || !errors.As(err, &ambiguous) || attempts != 1 {
				t.Errorf("got %v after %d attempts, want an ambiguous COMMIT after 1", err, attempts)
			}
			wantBalances(t, d, c.want, 100)
		})
	}
}

func TestAConnectionLostBeforeCommitIsNotAmbiguous(t *testing.T) {
	d := openBank(t)
	err := d.InTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		if err := add(ctx, tx, 1, 5); err != nil {
			return err
		}
		return tx.Conn().Close(ctx)
	})
	if err == nil || errors.Is(err, db.ErrAmbiguous) {
		t.Errorf("got %v, want an error that is not ambiguous", err)
	}
	wantBalances(t, d, 100, 100)
}

func TestRetriesAreBounded(t *testing.T) {
	d := openBank(t)
	attempts := 0
	always := &pgconn.PgError{Code: "40001", Message: "always in the way"}
	err := d.InTx(t.Context(), func(context.Context, pgx.Tx) error {
		attempts++
		return fmt.Errorf("post: %w", always)
	})
	if !errors.Is(err, always) || attempts < 10 || attempts > 100 {
		t.Errorf("got %v after %d attempts", err, attempts)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = d.InTx(ctx, func(context.Context, pgx.Tx) error { cancel(); return always })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
}

func TestAContextThatEndsBeforeCommitWritesNothing(t *testing.T) {
	d := openBank(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		defer cancel()
		return add(ctx, tx, 1, 5)
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, db.ErrAmbiguous) {
		t.Errorf("got %v, want the end of the context and no doubt", err)
	}
	wantBalances(t, d, 100, 100)
}

// A statement that was planned on an empty table goes by whatever index there is; when
// the table has been filled its connection plans it anew.
func TestAConnectionPlansAnewWhatItPlannedOnAnEmptyTable(t *testing.T) {
	d := dbtest.New(t, db.Schema{Name: "found", FS: fstest.MapFS{"schema/0001_found.sql": {Data: []byte(`
-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS found (hospital TEXT NOT NULL, no TEXT NOT NULL, bill TEXT NOT NULL, PRIMARY KEY (hospital, no));
CREATE INDEX IF NOT EXISTS found_bill ON found (hospital, bill);
GRANT SELECT, INSERT ON found TO clearward_app;
`)}}})
	if d.Dialect != db.Postgres {
		return // CockroachDB keeps no plan that its statistics have overtaken
	}
	pooled, err := d.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn := pooled.Hijack()
	defer conn.Close(context.WithoutCancel(t.Context()))
	run := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	plan := func() string {
		t.Helper()
		rows, err := conn.Query(t.Context(), `EXPLAIN EXECUTE find ('H1')`)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	run(`SET plan_cache_mode = force_generic_plan`)
	run(`PREPARE find (text) AS SELECT bill FROM found WHERE hospital = $1`)
	empty := plan()
	run(`INSERT INTO found SELECT 'H1', n::TEXT, n::TEXT FROM generate_series(1, 5000) AS n`)
	if stale := plan(); stale != empty {
		t.Fatalf("the statement is planned anew by itself, from\n%s\nto\n%s", empty, stale)
	}
	for n := range 40 {
		if err := d.Use(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		if n < 20 && plan() != empty {
			t.Fatalf("planned anew after %d uses", n)
		}
	}
	if plan() == empty {
		t.Errorf("a hospital's rows are still thought to be as few as in an empty table:\n%s", empty)
	}
}
