package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
)

// Status is how the program is, for whoever runs it.
type Status struct {
	API    string        // where calls are answered, "" nowhere
	Ready  string        // what /readyz says, "" where nobody serves
	Skew   time.Duration // by which this machine's clock is ahead of the database's
	Jobs   []jobs.Status
	Queues []Queue
	Pause  *payout.Pause // payouts are stopped, nil where they are not
	Days   []OpenDay     // that were fed and are not done, the oldest first
}

// Queue is work that waits for its time.
type Queue struct {
	Name    string
	Waiting int // all of it
	Due     int // whose time has come
	Oldest  time.Duration
}

// OpenDay is a business day with something left.
type OpenDay struct {
	Day      ledger.Day
	Hospital string
	Run      bool // it was reconciled
	Cases    int  // that are open
}

// queues count what waits: how much, how much of it is due at $1, and since when.
var queues = []struct{ name, sql string }{
	{"payments", `SELECT count(*), count(*) FILTER (WHERE next_at <= $1), min(next_at) FROM payments WHERE next_at IS NOT NULL`},
	{"refunds", `SELECT count(*), count(*) FILTER (WHERE next_at <= $1), min(next_at) FROM refunds WHERE next_at IS NOT NULL`},
	{"his", `SELECT count(*), count(*) FILTER (WHERE his_next_at <= $1), min(his_next_at) FROM
		(SELECT his_next_at FROM payments WHERE his_next_at IS NOT NULL UNION ALL SELECT his_next_at FROM refunds WHERE his_next_at IS NOT NULL) AS told`},
	{"notices", `SELECT count(*), count(*) FILTER (WHERE next_at <= $1), min(next_at) FROM app_notices WHERE next_at IS NOT NULL`},
	{"events", `SELECT count(*), count(*) FILTER (WHERE b.at <= $1), min(b.at) FROM lanes AS l
		LEFT JOIN cursors AS c ON c.name = '` + relayName + `' AND c.lane = l.lane JOIN batches AS b ON b.lane = l.lane AND b.seq > COALESCE(c.seq, 0)`},
}

// ErrUnwell says that somebody should look.
var ErrUnwell = errors.New("somebody should look: not served, not ready, a job failed or is paused, or payouts are")

// askFor is how long the process that serves may take to say how it is.
const askFor = 5 * time.Second

// Status finds out how the program is.
func (s *Server) Status(ctx context.Context) (st Status, err error) {
	st.API = s.API()
	if st.API != "" {
		st.Ready = readiness(ctx, st.API)
	}
	if st.Skew, err = s.skew(ctx); err != nil {
		return st, err
	}
	if st.Jobs, err = s.Jobs(ctx); err != nil {
		return st, err
	}
	all := &payout.Payouts{DB: s.DB}
	if st.Pause, err = all.Paused(ctx); err != nil {
		return st, err
	}
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		st.Queues = nil
		for _, q := range queues {
			one, oldest := Queue{Name: q.name}, (*time.Time)(nil)
			if err := tx.QueryRow(ctx, q.sql, s.now()).Scan(&one.Waiting, &one.Due, &oldest); err != nil {
				return fmt.Errorf("%s: %w", q.name, err)
			}
			if one.Due > 0 && oldest != nil {
				one.Oldest = s.now().Sub(*oldest)
			}
			st.Queues = append(st.Queues, one)
		}
		rows, err := tx.Query(ctx, `
			SELECT f.day, f.hospital, EXISTS (SELECT 1 FROM recon_runs AS r WHERE r.hospital = f.hospital AND r.day = f.day),
				(SELECT count(*) FROM recon_cases AS c WHERE c.hospital = f.hospital AND c.day = f.day AND c.state NOT IN ('CLOSED', 'AUTO_CLOSED'))
			FROM (SELECT DISTINCT day, hospital FROM feed_parts) AS f ORDER BY f.day, f.hospital`)
		if err != nil {
			return err
		}
		st.Days, err = pgx.CollectRows(rows, pgx.RowToStructByPos[OpenDay])
		return err
	})
	if err != nil {
		return st, fmt.Errorf("status: %w", err)
	}
	open := st.Days[:0]
	for _, d := range st.Days {
		if !d.Run || d.Cases > 0 {
			open = append(open, d)
		}
	}
	st.Days = open
	return st, nil
}

// readiness is what the process that serves says of itself.
func readiness(ctx context.Context, address string) string {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	for _, scheme := range []string{"http://", "https://"} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+address+"/readyz", nil)
		if err != nil {
			return err.Error()
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil || answer.StatusCode == http.StatusBadRequest { // TLS is spoken, or nobody answers
			if err == nil {
				_ = answer.Body.Close()
			}
			continue
		}
		text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		_ = answer.Body.Close()
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(text))
	}
	return "no answer that this command can check"
}

// Well says that nothing of it asks for somebody.
func (st *Status) Well() bool {
	if st.Ready != "ok" || st.Skew.Abs() > maxSkew || st.Pause != nil {
		return false
	}
	for _, j := range st.Jobs {
		if j.PausedBy != "" || j.Last != nil && (j.Last.State == "FAILED" || j.Last.State == "LOST") {
			return false
		}
	}
	return true
}

var statusWords = map[string]map[string]string{
	"zh": {"served": "服务地址：%s（%s）", "nobody": "没有进程在服务该数据目录；`clearward serve` 启动", "skew": "本机时钟比数据库快 %s", "jobs": "任务：%d 个，%d 个暂停，%d 个上次失败",
		"paused": "出款已暂停：%s，%s（%s）", "queue": "队列", "waiting": "等待", "due": "到期", "oldest": "最久", "day": "业务日", "hospital": "医院", "run": "已对账", "cases": "未结差异单",
		"payments": "支付查询", "refunds": "退款处理", "his": "HIS 回写", "notices": "应用通知", "events": "事件发布", "true": "是", "false": "否", "none": "没有未结的业务日"},
	"en": {"served": "calls are answered at %s (%s)", "nobody": "nobody serves this data directory; `clearward serve` does", "skew": "this machine's clock is ahead of the database's by %s", "jobs": "jobs: %d, %d paused, %d failed the last time",
		"paused": "payouts are paused by %s since %s (%s)", "queue": "queue", "waiting": "waiting", "due": "due", "oldest": "oldest", "day": "day", "hospital": "hospital", "run": "reconciled", "cases": "open cases",
		"payments": "payments", "refunds": "refunds", "his": "HIS", "notices": "notices to apps", "events": "events", "true": "yes", "false": "no", "none": "no day is open"},
}

// WriteStatus prints how the program is.
func WriteStatus(w io.Writer, st *Status, lang string) {
	t := words(statusWords, lang)
	if st.API == "" {
		fmt.Fprintln(w, t["nobody"])
	} else {
		fmt.Fprintf(w, t["served"]+"\n", st.API, st.Ready)
	}
	fmt.Fprintf(w, t["skew"]+"\n", st.Skew.Round(time.Millisecond))
	paused, failed := 0, 0
	for _, j := range st.Jobs {
		if j.PausedBy != "" {
			paused++
		}
		if j.Last != nil && (j.Last.State == "FAILED" || j.Last.State == "LOST") {
			failed++
		}
	}
	fmt.Fprintf(w, t["jobs"]+"\n", len(st.Jobs), paused, failed)
	WriteHeldBack(w, st.Jobs, lang)
	if st.Pause != nil {
		fmt.Fprintf(w, t["paused"]+"\n", st.Pause.PausedBy, jobTime(st.Pause.PausedAt), st.Pause.Reason)
	}
	list := newTable(t["queue"], ">"+t["waiting"], ">"+t["due"], ">"+t["oldest"])
	for _, q := range st.Queues {
		list.add(t[q.Name], fmt.Sprint(q.Waiting), fmt.Sprint(q.Due), q.Oldest.Round(time.Second).String())
	}
	list.write(w)
	if len(st.Days) == 0 {
		fmt.Fprintln(w, t["none"])
		return
	}
	days := newTable(t["day"], t["hospital"], t["run"], ">"+t["cases"])
	for _, d := range st.Days {
		days.add(d.Day.String(), d.Hospital, t[fmt.Sprint(d.Run)], fmt.Sprint(d.Cases))
	}
	days.write(w)
}
