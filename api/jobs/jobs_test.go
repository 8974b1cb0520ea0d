package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
)

// clock is stepped by the test.
type clock struct{ at atomic.Pointer[time.Time] }

func clockAt(text string) *clock {
	c := &clock{}
	c.set(text)
	return c
}

func (c *clock) set(text string) {
	at, err := time.ParseInLocation("2006-01-02 15:04:05", text, ledger.Beijing)
	if err != nil {
		panic(err)
	}
	c.at.Store(&at)
}

func (c *clock) now() time.Time { return *c.at.Load() }

func open(t *testing.T, d *db.DB, c *clock, all ...jobs.Job) *jobs.Runner {
	t.Helper()
	r, err := jobs.Open(t.Context(), d, c.now, slog.New(slog.DiscardHandler), all...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tick(t *testing.T, r *jobs.Runner) int {
	t.Helper()
	done, err := r.Tick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// counting is a job that notes for which times it ran.
func counting(name, cron string, due *[]time.Time) jobs.Job {
	var mu sync.Mutex
	return jobs.Job{Name: name, Cron: cron, Run: func(_ context.Context, at time.Time) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		*due = append(*due, at)
		return 1, nil
	}}
}

func TestTheRunAtHalfPastElevenIsBeijingTime(t *testing.T) {
	d, c := dbtest.New(t, jobs.Schema), clockAt("2026-09-16 11:29:59")
	var due []time.Time
	r := open(t, d, c, counting("recon", "30 11 * * *", &due))
	if tick(t, r) != 0 {
		t.Fatal("it ran a second early")
	}
	c.set("2026-09-16 11:30:00")
	if tick(t, r) != 1 || tick(t, r) != 0 {
		t.Fatalf("it must run once, ran for %v", due)
	}
	if got := due[0].In(ledger.Beijing).Format("15:04"); got != "11:30" {
		t.Errorf("it was told %s", got)
	}
	all, err := jobs.List(t.Context(), d)
	if want := clockAt("2026-09-17 11:30:00").now(); err != nil || !all[0].NextAt.Equal(want) {
		t.Errorf("next is %+v, want %v (%v)", all, want, err)
	}
}

func TestEveryDueTimeIsTakenByOneOfManyReplicas(t *testing.T) {
	d, c := dbtest.New(t, jobs.Schema), clockAt("2026-09-16 10:00:00")
	var due []time.Time
	job := counting("poll", "@every 5s", &due)
	var replicas []*jobs.Runner
	for range 4 {
		replicas = append(replicas, open(t, d, c, job))
	}
	for _, at := range []string{"2026-09-16 10:00:05", "2026-09-16 10:00:10", "2026-09-16 10:00:15"} {
		c.set(at)
		var wait sync.WaitGroup
		for _, r := range replicas {
			wait.Go(func() { tick(t, r) })
		}
		wait.Wait()
	}
	if len(due) != 3 {
		t.Errorf("3 due times, %d runs", len(due))
	}
}

func TestWhatWasMissedRunsOnce(t *testing.T) {
	d, c := dbtest.New(t, jobs.Schema), clockAt("2026-09-16 11:00:00")
	var due []time.Time
	open(t, d, c, counting("recon", "30 11 * * *", &due))
	c.set("2026-09-18 09:00:00") // down for two days
	r := open(t, d, c, counting("recon", "30 11 * * *", &due))
	tick(t, r)
	tick(t, r)
	if len(due) != 1 || ledger.DayOf(due[0]) != 20260916 {
		t.Errorf("ran for %v, want once, for the 16th", due)
	}
}

func TestAFailedRunIsKeptAndKeepsNoOtherJobBack(t *testing.T) {
	d, c := dbtest.New(t, jobs.Schema), clockAt("2026-09-16 10:00:00")
	var due []time.Time
	bad := jobs.Job{Name: "bad", Cron: "@every 1m", Run: func(context.Context, time.Time) (int, error) { return 0, errors.New("the bank is closed") }}
	r := open(t, d, c, bad, counting("good", "@every 1m", &due))
	c.set("2026-09-16 10:01:00")
	if tick(t, r) != 1 {
		t.Error("the other job did not run")
	}
	runs, err := jobs.History(t.Context(), d, "bad", 5)
	if err != nil || len(runs) != 1 || runs[0].State != "FAILED" || runs[0].Error != "the bank is closed" {
		t.Errorf("history %+v, %v", runs, err)
	}
	all, err := jobs.List(t.Context(), d)
	if err != nil || len(all) != 2 || all[0].Last == nil || all[0].Last.State != "FAILED" || all[1].Last.Done != 1 {
		t.Errorf("list %+v, %v", all, err)
	}
}

func TestAJobIsPausedResumedAndRunAgainByPeople(t *testing.T) {
	d, c := dbtest.New(t, jobs.Schema), clockAt("2026-09-16 11:00:00")
	var due []time.Time
	r := open(t, d, c, counting("recon", "30 11 * * *", &due))
	if err := jobs.Pause(t.Context(), d, "recon", "王丽"); err != nil {
		t.Fatal(err)
	}
	c.set("2026-09-16 12:00:00")
	if tick(t, r) != 0 {
		t.Error("a paused job ran")
	}
	if err := jobs.Resume(t.Context(), d, "recon"); err != nil {
		t.Fatal(err)
	}
	if tick(t, r) != 1 {
		t.Error("what was due in the pause did not run")
	}
	if err := jobs.RunNow(t.Context(), d, "recon", c.now()); err != nil {
		t.Fatal(err)
	}
	if tick(t, r) != 1 || len(due) != 2 {
		t.Error("it was not run again")
	}
	for _, err := range []error{jobs.Pause(t.Context(), d, "gone", "王丽"), jobs.Resume(t.Context(), d, "gone"), jobs.RunNow(t.Context(), d, "gone", c.now())} {
		if !errors.Is(err, jobs.ErrUnknownJob) || !strings.Contains(err.Error(), `"gone"`) {
			t.Errorf("got %v", err)
		}
	}
}

func TestTheJobOfASilentProcessIsTakenOverAndItsRunIsLost(t *testing.T) {
	d, c := dbtest.New(t, jobs.Schema), clockAt("2026-09-16 10:00:00")
	entered, leave := make(chan struct{}), make(chan struct{})
	silent := jobs.Job{Name: "poll", Cron: "@every 5s", Run: func(context.Context, time.Time) (int, error) {
		close(entered)
		<-leave
		return 7, nil
	}}
	var due []time.Time
	first, second := open(t, d, c, silent), open(t, d, c, counting("poll", "@every 5s", &due))
	c.set("2026-09-16 10:00:05")
	over := make(chan struct{})
	go func() { defer close(over); tick(t, first) }()
	<-entered
	if tick(t, second) != 0 {
		t.Fatal("two processes run one job")
	}
	c.set("2026-09-16 10:01:06") // the lease has ended
	if tick(t, second) != 1 {
		t.Fatal("nobody took it over")
	}
	close(leave)
	<-over
	runs, err := jobs.History(t.Context(), d, "poll", 5)
	if err != nil || len(runs) != 2 || runs[0].State != "OK" || runs[0].Done != 1 || runs[1].State != "LOST" {
		t.Errorf("history %+v, %v", runs, err)
	}
}

func TestAPlanThatCannotBeReadIsRefused(t *testing.T) {
	d := dbtest.New(t, jobs.Schema)
	_, err := jobs.Open(t.Context(), d, clockAt("2026-09-16 10:00:00").now, slog.New(slog.DiscardHandler), jobs.Job{Name: "recon", Cron: "half past eleven"})
	if err == nil || !strings.Contains(err.Error(), "job recon") {
		t.Errorf("got %v", err)
	}
}

// An outside that hangs, as a HIS at night, keeps no payment from being asked for.
func TestAJobThatHangsKeepsNoOtherWaitingAndIsNotBegunAgain(t *testing.T) {
	c := clockAt("2026-09-16 00:59:59")
	hung, free, begun := make(chan struct{}), make(chan struct{}), atomic.Int32{}
	asked := make(chan struct{}, 1)
	r := open(t, dbtest.New(t, jobs.Schema), c,
		jobs.Job{Name: "fetch", Cron: "0 1 * * *", Run: func(context.Context, time.Time) (int, error) {
			if begun.Add(1) == 1 {
				close(hung)
			}
			<-free
			return 1, nil
		}},
		jobs.Job{Name: "poll", Cron: "@every 5s", Run: func(context.Context, time.Time) (int, error) {
			select {
			case asked <- struct{}{}:
			default:
			}
			return 1, nil
		}})
	r.Start(time.Second)
	c.set("2026-09-16 01:00:00")
	<-hung
	for polled := 0; polled < 4; { // two hours, far past the lease of the one that hangs
		at := c.now().Add(30 * time.Minute)
		c.at.Store(&at)
		select {
		case <-asked:
			polled++
		case <-time.After(20 * time.Millisecond): // it is looked at again
		}
	}
	close(free)
	r.Stop()
	if n := begun.Load(); n != 1 {
		t.Errorf("begun %d times while it was under way", n)
	}
}
