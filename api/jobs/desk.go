package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger/db"
)

// Status is a job as people see it.
type Status struct {
	Name, Cron string
	PausedBy   string // "" while it runs
	NextAt     time.Time
	Owner      string // the process that is at it now
	Last       *Run
}

// Run is one run of a job.
type Run struct {
	Name      string
	N         int64
	DueAt     time.Time
	StartedAt time.Time
	EndedAt   *time.Time
	State     string // RUNNING, OK, FAILED, LOST
	Done      int64
	Error     string
}

// List returns every job with its last run, by name.
func List(ctx context.Context, d *db.DB) ([]Status, error) {
	rows, err := d.Pool.Query(ctx, `
		SELECT j.name, j.cron, j.paused_by, j.next_at, j.owner,
		       COALESCE(r.n, 0), COALESCE(r.due_at, j.next_at), COALESCE(r.started_at, j.next_at), r.ended_at, COALESCE(r.state, ''), COALESCE(r.done, 0), COALESCE(r.error, '')
		FROM jobs AS j
		LEFT JOIN LATERAL (SELECT n, due_at, started_at, ended_at, state, done, error FROM job_runs WHERE name = j.name ORDER BY n DESC LIMIT 1) AS r ON TRUE
		ORDER BY j.name`)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Status, err error) {
		var r Run
		err = row.Scan(&s.Name, &s.Cron, &s.PausedBy, &s.NextAt, &s.Owner, &r.N, &r.DueAt, &r.StartedAt, &r.EndedAt, &r.State, &r.Done, &r.Error)
		if r.N > 0 {
			r.Name, s.Last = s.Name, &r
		}
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return all, nil
}

// History returns the newest runs of a job, the newest first.
func History(ctx context.Context, d *db.DB, name string, limit int) ([]Run, error) {
	rows, err := d.Pool.Query(ctx, `
		SELECT name, n, due_at, started_at, ended_at, state, done, error
		FROM job_runs WHERE name = $1 ORDER BY n DESC LIMIT $2`, name, limit)
	if err != nil {
		return nil, fmt.Errorf("runs of %s: %w", name, err)
	}
	runs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Run])
	if err != nil {
		return nil, fmt.Errorf("runs of %s: %w", name, err)
	}
	return runs, nil
}

// Pause keeps a job from being run, in the name of who; a run that is under way
// ends as it would have.
func Pause(ctx context.Context, d *db.DB, name, who string) error {
	return change(ctx, d, name, `UPDATE jobs SET paused = TRUE, paused_by = $2 WHERE name = $1`, who)
}

// Resume ends a pause. What was due meanwhile is run once.
func Resume(ctx context.Context, d *db.DB, name string) error {
	return change(ctx, d, name, `UPDATE jobs SET paused = FALSE, paused_by = '' WHERE name = $1`)
}

// RunNow makes a job due at now, whenever it would be due otherwise.
func RunNow(ctx context.Context, d *db.DB, name string, now time.Time) error {
	return change(ctx, d, name, `UPDATE jobs SET next_at = LEAST(next_at, $2) WHERE name = $1`, now)
}

// Paused says in a transaction which of the jobs are paused. They stay so until it
// ends: whoever pauses or resumes one of them waits for that.
func Paused(ctx context.Context, tx pgx.Tx, names ...string) (map[string]bool, error) {
	rows, err := tx.Query(ctx, `SELECT name, paused FROM jobs WHERE name = ANY($1::TEXT[]) ORDER BY name FOR SHARE`, names)
	if err != nil {
		return nil, fmt.Errorf("read paused jobs: %w", err)
	}
	all, name, paused := map[string]bool{}, "", false
	_, err = pgx.ForEachRow(rows, []any{&name, &paused}, func() error { all[name] = paused; return nil })
	if err != nil {
		return nil, fmt.Errorf("read paused jobs: %w", err)
	}
	return all, nil
}

func change(ctx context.Context, d *db.DB, name, sql string, args ...any) error {
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		changed, err := tx.Exec(ctx, sql, append([]any{name}, args...)...)
		if err == nil && changed.RowsAffected() == 0 {
			return fmt.Errorf("%w: %q", ErrUnknownJob, name)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("change job: %w", err)
	}
	return nil
}
