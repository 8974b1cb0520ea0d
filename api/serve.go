package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// ServeOptions say how the program is served.
type ServeOptions struct {
	Listen          string // host:port; port 0 for a free one
	TLSCert, TLSKey string // files in PEM; with both, other addresses than loopback may be served
}

// ErrOpenDoor is wrapped where the program would listen to the network unencrypted.
var ErrOpenDoor = errors.New("only loopback is served without encryption")

// How often the jobs are looked at, and how long requests under way may take
// when the program ends.
const (
	lookEvery  = time.Second
	lastAnswer = 10 * time.Second
)

// Serve runs the program until ctx ends: it stores what is fed, publishes events
// and does the jobs of the day by the clock.
func Serve(ctx context.Context, c Config, o ServeOptions, out io.Writer) error {
	door, err := listen(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = door.Close() }() // again, where serving has ended: that says so, and harms nobody
	c.Local.API = door.Addr().String()
	s, err := Open(ctx, c)
	if err != nil {
		return err
	}
	return errors.Join(s.serve(ctx, door, o, out), s.Close())
}

// serve does the jobs and answers at the door until ctx ends.
func (s *Server) serve(ctx context.Context, door net.Listener, o ServeOptions, out io.Writer) error {
	if err := s.checkEnvironments(ctx); err != nil {
		return err
	}
	runner, err := jobs.Open(ctx, s.DB, s.now, s.log, s.schedule()...)
	if err != nil {
		return err
	}
	runner.Start(lookEvery)
	defer runner.Stop()
	server := &http.Server{Handler: s.doors(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleFor, MaxHeaderBytes: 64 << 10, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	served, scheme := make(chan error, 1), "http"
	if o.TLSCert == "" {
		server.Protocols.SetUnencryptedHTTP2(true) // gRPC
		go func() { served <- server.Serve(door) }()
	} else {
		scheme = "https"
		server.Protocols.SetHTTP2(true)
		go func() { served <- server.ServeTLS(door, o.TLSCert, o.TLSKey) }()
	}
	fmt.Fprintf(out, "clearward serves on %s://%s (/livez, /readyz, /metrics, the calls by Connect, gRPC and JSON); its jobs: `clearward jobs list`. Ctrl-C ends it.\n",
		scheme, door.Addr())
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAnswer)
	defer cancel()
	return server.Shutdown(last)
}

// listen opens the door; without encryption it opens on loopback alone.
func listen(ctx context.Context, o ServeOptions) (net.Listener, error) {
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return nil, fmt.Errorf("%w: --tls-cert and --tls-key go together", ErrOpenDoor)
	}
	if ip := net.ParseIP(host); o.TLSCert == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%w: --listen %s", ErrOpenDoor, o.Listen)
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
}

// doors are what answers over HTTP: whether the process lives, whether it can do
// its work, and the calls of the API.
func (s *Server) doors() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.showReady)
	mux.HandleFunc("POST /notify/{channel}/{merchant}", s.webhook)
	mux.HandleFunc("GET /notices/key", s.showNoticeKey)
	s.services(mux)
	return hurried(mux, readWithin)
}

// schedule is what the program does by itself: the details of HIS from 01:00 and
// the bills from 10:00 until they are there, the run of the day before at 11:30,
// again while files come late, what people had paused of release and settlement, the
// proof of what is new in the books every hour, and that of the whole books every
// night.
func (s *Server) schedule() []jobs.Job {
	all := []jobs.Job{
		{Name: "fetch-his", Cron: "*/10 1-23 * * *", Run: s.fetchHIS},
		{Name: "fetch-statements", Cron: "*/10 8-23 * * *", Run: s.fetchStatements},
		{Name: "fetch-bills", Cron: "*/5 10-23 * * *", Run: s.fetchBills},
		{Name: "recon", Cron: "30 11 * * *", Run: s.reconcileDue},
		{Name: "recon.late", Cron: "*/10 12-23 * * *", Run: s.reconcileDue},
		{Name: jobRelease, Cron: "5-59/10 11-23 * * *", Run: func(ctx context.Context, _ time.Time) (int, error) { return s.Engine.Release(ctx) }},
		{Name: jobSettle, Cron: "5-59/10 11-23 * * *", Run: func(ctx context.Context, _ time.Time) (int, error) { return s.Engine.Settle(ctx) }},
		{Name: "poll", Cron: "@every 5s", Run: s.pollPayments},
		{Name: "send-payouts", Cron: "* * * * *", Run: s.sendPayouts},
		{Name: "poll-payouts", Cron: "@every 5s", Run: s.pollPayouts},
		{Name: "poll.refunds", Cron: "@every 5s", Run: s.pollRefunds},
		{Name: "writeback", Cron: "@every 5s", Run: s.writeBack},
		{Name: "notify", Cron: "@every 5s", Run: s.notifyApps},
		{Name: "verify", Cron: "0 * * * *", Run: s.proof(ledger.VerifyNew)},
		{Name: "verify.whole", Cron: "30 2 * * *", Run: s.proof(ledger.Verify)},
	}
	for i := range all {
		all[i].Run = s.metrics.timed(all[i].Name, all[i].Run)
	}
	return all
}

// The jobs whose pause holds back money that is proved: a run and a decision that are
// published meanwhile leave it to them.
const (
	jobRelease = "release"
	jobSettle  = "settle"
)

func pausedMoney(ctx context.Context, tx pgx.Tx) (release, settle bool, err error) {
	paused, err := jobs.Paused(ctx, tx, jobRelease, jobSettle)
	return paused[jobRelease], paused[jobSettle], err
}

// ServingGC is GOGC of a process that answers calls: it holds little, and what a call
// allocates is gone with the call, so its heap may grow further between collections.
const ServingGC = 400

// proof is the job of one of the two proofs of the books.
func (s *Server) proof(verify func(ctx context.Context, d *db.DB, controls ...ledger.Control) ([]ledger.Finding, error)) func(context.Context, time.Time) (int, error) {
	return func(ctx context.Context, _ time.Time) (int, error) {
		found, err := verify(ctx, s.DB, controls()...)
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("%w: the books break %d rules, the first: %s: %s", ErrRefused, len(found), found[0].Subject, found[0].Detail)
		}
		return 1, err
	}
}

// lateDays is for how many days a file that comes late is still run by itself.
const lateDays = 7

// reconcileDue runs the day before the due time, and the days before that one of
// which files have come. A day without new inputs is left as it is.
func (s *Server) reconcileDue(ctx context.Context, due time.Time) (items int, err error) {
	last := ledger.DayOf(due).Add(-1)
	var days []ledger.Day
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT DISTINCT day FROM feed_parts WHERE day BETWEEN $1 AND $2 ORDER BY day`, last.Add(-lateDays), last)
		if err != nil {
			return err
		}
		days, err = pgx.CollectRows(rows, pgx.RowTo[ledger.Day])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("days that were fed: %w", err)
	}
	for _, day := range days {
		found, failed := s.Reconcile(ctx, day, nil)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", day, failed))
			continue
		}
		items += len(found.Items)
	}
	return items, err
}

// Jobs lists the jobs with their last runs.
func (s *Server) Jobs(ctx context.Context) ([]jobs.Status, error) { return jobs.List(ctx, s.DB) }

// JobHistory lists the newest runs of a job.
func (s *Server) JobHistory(ctx context.Context, name string) ([]jobs.Run, error) {
	return jobs.History(ctx, s.DB, name, 50)
}

// ManageJob pauses or resumes a job, or makes it due now, in the name of whoever
// the key stands for.
func (s *Server) ManageJob(ctx context.Context, key, act, name string) error {
	who, err := s.enter(ctx, key, auth.JobManage)
	if err != nil {
		return err
	}
	return s.manage(ctx, who.Name, act, name)
}

func (s *Server) manage(ctx context.Context, who, act, name string) error {
	if err := s.note(ctx, who, "job."+act, name, ""); err != nil {
		return err
	}
	switch act {
	case "pause":
		return jobs.Pause(ctx, s.DB, name, who)
	case "resume":
		return jobs.Resume(ctx, s.DB, name)
	}
	return jobs.RunNow(ctx, s.DB, name, s.now())
}

// API is the address of the process that serves this data directory, "" for none.
func (s *Server) API() string { return s.stack.API }

var jobWords = map[string]map[string]string{
	"zh": {"job": "任务", "plan": "计划", "next": "下次", "last": "上次", "state": "状态", "done": "处理", "error": "错误", "paused": "已暂停：", "running": "运行中", "none": "没有任务；`clearward serve` 启动后登记。",
		"OK": "成功", "FAILED": "失败", "LOST": "中断", "RUNNING": "运行中"},
	"en": {"job": "job", "plan": "plan", "next": "next", "last": "last", "state": "state", "done": "done", "error": "error", "paused": "paused by ", "running": "running", "none": "No jobs; `clearward serve` writes them.",
		"OK": "ok", "FAILED": "failed", "LOST": "lost", "RUNNING": "running"},
}

func jobTime(at time.Time) string { return at.In(ledger.Beijing).Format("2006-01-02 15:04:05") }

var heldBackWords = map[string]map[string]string{
	"zh": {jobRelease: "任务 release 已由 %s 暂停：已核对的款项留在待结算，恢复后由该任务转为可结算。",
		jobSettle: "任务 settle 已由 %s 暂停：到账的可结算款不转为医院自有，恢复后由该任务结转。"},
	"en": {jobRelease: "The job release is paused by %s: what is proved stays pending until the job releases it.",
		jobSettle: "The job settle is paused by %s: what is available and has arrived becomes the hospital's own when the job runs again."},
}

// WriteHeldBack says what people hold back of the hospitals' money by pausing a job,
// and nothing where they hold nothing back.
func WriteHeldBack(w io.Writer, all []jobs.Status, lang string) {
	t := words(heldBackWords, lang)
	for _, j := range all {
		if form, ok := t[j.Name]; ok && j.PausedBy != "" {
			fmt.Fprintf(w, form+"\n", j.PausedBy)
		}
	}
}

// WriteJobs prints the jobs.
func WriteJobs(w io.Writer, all []jobs.Status, lang string) {
	t := words(jobWords, lang)
	if len(all) == 0 {
		fmt.Fprintln(w, t["none"])
		return
	}
	list := newTable(t["job"], t["plan"], t["next"], t["last"], t["state"], ">"+t["done"], t["error"])
	for _, j := range all {
		last, state, done, failed := "", "", "", ""
		if j.Last != nil {
			last, state, done, failed = jobTime(j.Last.StartedAt), t[j.Last.State], fmt.Sprint(j.Last.Done), j.Last.Error
		}
		if j.PausedBy != "" {
			state = t["paused"] + j.PausedBy
		}
		list.add(j.Name, j.Cron, jobTime(j.NextAt), last, state, done, failed)
	}
	list.write(w)
	WriteHeldBack(w, all, lang)
}

// WriteJobRuns prints the runs of a job.
func WriteJobRuns(w io.Writer, runs []jobs.Run, lang string) {
	t := words(jobWords, lang)
	list := newTable(t["job"], t["plan"], t["last"], t["state"], ">"+t["done"], t["error"])
	for _, r := range runs {
		list.add(fmt.Sprintf("%s #%d", r.Name, r.N), jobTime(r.DueAt), jobTime(r.StartedAt), t[r.State], fmt.Sprint(r.Done), r.Error)
	}
	list.write(w)
}
