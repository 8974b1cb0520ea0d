// Package jobs does what is due by the clock: polls, write-backs, notices, bills,
// the run of the day. A job is a row; any number of processes may run the same
// jobs, and each due time is taken by one of them (G08). The clock is handed in,
// so that a test or the demo steps through a day.
package jobs

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/robfig/cron/v3"

	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

//go:embed schema
var schemaFS embed.FS

// Schema is the tables of jobs and their runs.
var Schema = db.Schema{Name: "jobs", FS: schemaFS}

// ErrUnknownJob is wrapped where a job is asked for that does not exist.
var ErrUnknownJob = errors.New("no such job")

// Job is one piece of work.
type Job struct {
	Name string
	// Cron is five fields in Beijing time, "30 11 * * *", or "@every 5s".
	Cron string
	// Run does the work and says how many things it did. due is the time for which
	// it was planned: a process that was down then runs it once, later.
	Run func(ctx context.Context, due time.Time) (done int, err error)
}

// lease is how long a silent process keeps a job that it has taken.
const lease = time.Minute

// keepRuns is how many runs of a job are remembered.
const keepRuns = 1000

// Runner runs jobs in this process.
type Runner struct {
	db    *db.DB
	now   func() time.Time
	log   *slog.Logger
	owner string
	jobs  []Job
	plans map[string]cron.Schedule

	mu      sync.Mutex
	busy    map[string]bool // jobs under way in this process
	stop    context.CancelFunc
	running sync.WaitGroup
}

// Open writes the rows of jobs that are new or planned otherwise and returns
// their runner. What people have paused stays so.
func Open(ctx context.Context, d *db.DB, now func() time.Time, log *slog.Logger, all ...Job) (*Runner, error) {
	r := &Runner{db: d, now: now, log: log, owner: "run_" + rand.Text()[:12], jobs: all, plans: map[string]cron.Schedule{}, busy: map[string]bool{}}
	for _, j := range all {
		plan, err := parse(j.Cron)
		if err != nil {
			return nil, fmt.Errorf("job %s: %w", j.Name, err)
		}
		r.plans[j.Name] = plan
	}
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, j := range all {
			_, err := tx.Exec(ctx, `
				INSERT INTO jobs (name, cron, next_at) VALUES ($1, $2, $3)
				ON CONFLICT (name) DO UPDATE
				SET cron = excluded.cron, next_at = CASE WHEN jobs.cron = excluded.cron THEN jobs.next_at ELSE excluded.next_at END`,
				j.Name, j.Cron, r.plans[j.Name].Next(now()))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write jobs: %w", err)
	}
	return r, nil
}

// parse reads a cron expression; its hours are Beijing's.
func parse(text string) (cron.Schedule, error) {
	if len(text) > 0 && text[0] != '@' {
		text = "CRON_TZ=" + ledger.Beijing.String() + " " + text
	}
	return cron.ParseStandard(text)
}

// glance is how often the clock is read, in time of the machine: a clock that is
// stepped jumps while the machine's stands nearly still.
const glance = 20 * time.Millisecond

// Start runs what is due, again and again, until Stop. every is how often it
// looks, by the clock.
func (r *Runner) Start(every time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	r.running.Go(func() {
		var looked time.Time
		for ticker := time.NewTicker(min(every, glance)); ; {
			select {
			case <-ctx.Done():
				ticker.Stop()
				return
			case <-ticker.C:
			}
			now := r.now()
			if now.Sub(looked) < every {
				continue
			}
			looked = now
			r.running.Go(func() { // a job that takes long, as of an outside that hangs, keeps no other waiting
				if _, err := r.Tick(ctx); err != nil && ctx.Err() == nil {
					r.log.Error("jobs", "error", err)
				}
			})
		}
	})
}

// Stop ends what Start began and waits for the jobs that are under way.
func (r *Runner) Stop() {
	if r.stop != nil {
		r.stop()
	}
	r.running.Wait()
}

// Tick runs every job that is due now and not under way in this process, one after
// the other, and says how many things they did. A job that fails does not keep the
// others from running.
func (r *Runner) Tick(ctx context.Context) (done int, err error) {
	due, err := r.due(ctx)
	if err != nil {
		return 0, err
	}
	for _, j := range r.jobs {
		if !due[j.Name] || !r.begin(j.Name) {
			continue
		}
		n, ran, err := r.run(ctx, &j)
		r.end(j.Name)
		if err != nil {
			return done, err
		}
		if ran {
			done += n
		}
	}
	return done, nil
}

// begin takes a job within this process: its lease alone would not keep it, where
// the clock is stepped past it while the job is at work.
func (r *Runner) begin(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[name] {
		return false
	}
	r.busy[name] = true
	return true
}

func (r *Runner) end(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, name)
}

func (r *Runner) due(ctx context.Context) (map[string]bool, error) {
	rows, err := r.db.Pool.Query(ctx, `
		SELECT name FROM jobs WHERE NOT paused AND next_at <= $1 AND (lease_until IS NULL OR lease_until <= $1)`, r.now())
	if err != nil {
		return nil, fmt.Errorf("read jobs that are due: %w", err)
	}
	due, name := map[string]bool{}, ""
	_, err = pgx.ForEachRow(rows, []any{&name}, func() error { due[name] = true; return nil })
	if err != nil {
		return nil, fmt.Errorf("read jobs that are due: %w", err)
	}
	return due, nil
}

// claim is a job that this process has taken.
type claim struct {
	due     time.Time
	started time.Time
	n       int64
}

// run takes the job, does it and gives it back.
func (r *Runner) run(ctx context.Context, j *Job) (done int, ran bool, err error) {
	c, ok, err := r.take(ctx, j)
	if err != nil || !ok {
		return 0, false, err
	}
	renewing, stop := context.WithCancel(ctx)
	var renewal sync.WaitGroup
	renewal.Go(func() { r.renew(renewing, j.Name, c.n) })
	done, failed := j.Run(ctx, c.due)
	stop()
	renewal.Wait()
	if failed != nil {
		r.log.Error("job failed", "job", j.Name, "error", failed)
	}
	return done, true, r.giveBack(context.WithoutCancel(ctx), j, c, done, failed)
}

// take claims the job for its due time. A run of a process that fell silent is
// noted as lost.
func (r *Runner) take(ctx context.Context, j *Job) (c claim, ok bool, err error) {
	err = r.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		c.started, ok = r.now(), false
		err := tx.QueryRow(ctx, `
			UPDATE jobs SET owner = $2, lease_until = $3, runs = runs + 1
			WHERE name = $1 AND NOT paused AND next_at <= $4 AND (lease_until IS NULL OR lease_until <= $4)
			RETURNING next_at, runs`, j.Name, r.owner, c.started.Add(lease), c.started).Scan(&c.due, &c.n)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE job_runs SET state = 'LOST', ended_at = $2, error = 'the process that ran it fell silent'
			WHERE name = $1 AND state = 'RUNNING'`, j.Name, c.started)
		if err != nil {
			return err
		}
		ok = true
		_, err = tx.Exec(ctx, `
			INSERT INTO job_runs (name, n, due_at, started_at, state, owner) VALUES ($1, $2, $3, $4, 'RUNNING', $5)`,
			j.Name, c.n, c.due, c.started, r.owner)
		return err
	})
	if err != nil {
		return c, false, fmt.Errorf("take job %s: %w", j.Name, err)
	}
	return c, ok, nil
}

// renew keeps the lease while the job is at work.
func (r *Runner) renew(ctx context.Context, name string, n int64) {
	for ticker := time.NewTicker(lease / 3); ; {
		select {
		case <-ctx.Done():
			ticker.Stop()
			return
		case <-ticker.C:
		}
		_, err := r.db.Pool.Exec(ctx, `UPDATE jobs SET lease_until = $3 WHERE name = $1 AND owner = $2 AND runs = $4`,
			name, r.owner, r.now().Add(lease), n)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("a job's lease was not renewed", "job", name, "error", err)
		}
	}
}

// giveBack notes what the run came to and when the job is due next. A frequent
// job that found nothing to do leaves no history.
func (r *Runner) giveBack(ctx context.Context, j *Job, c claim, done int, failed error) error {
	err := r.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		now := r.now()
		given, err := tx.Exec(ctx, `
			UPDATE jobs SET owner = '', lease_until = NULL, next_at = $3 WHERE name = $1 AND owner = $2 AND runs = $4`,
			j.Name, r.owner, r.plans[j.Name].Next(now), c.n)
		if err != nil || given.RowsAffected() == 0 {
			return err // another process has it: this run was noted as lost
		}
		if done == 0 && failed == nil && j.Cron[0] == '@' {
			_, err = tx.Exec(ctx, `DELETE FROM job_runs WHERE name = $1 AND n = $2`, j.Name, c.n)
			return err
		}
		state, text := "OK", ""
		if failed != nil {
			state, text = "FAILED", failed.Error()
		}
		_, err = tx.Exec(ctx, `UPDATE job_runs SET state = $3, ended_at = $4, done = $5, error = $6 WHERE name = $1 AND n = $2`,
			j.Name, c.n, state, now, done, text)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM job_runs WHERE name = $1 AND n <= $2`, j.Name, c.n-keepRuns)
		return err
	})
	if err != nil {
		return fmt.Errorf("give job %s back: %w", j.Name, err)
	}
	return nil
}
