package api

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
)

// fedSample brings the sample day in, up to but not into reconciliation.
func fedSample(t *testing.T, s *Server) {
	t.Helper()
	dir := filepath.Join("testdata", "day")
	_, err := s.Setup(t.Context(), filepath.Join(dir, "setup.yaml"))
	if err == nil {
		_, err = s.Import(t.Context(), filepath.Join(dir, "platform.csv"), nil)
	}
	for _, feeding := range sampleFeeds {
		var files []FileToFeed
		for _, name := range feeding.files {
			file := FileToFeed{Path: filepath.Join(dir, name)}
			if feeding.kind == FeedHIS {
				file.Options = sampleHIS
			}
			files = append(files, file)
		}
		if err == nil {
			_, err = s.feedAll(t.Context(), feeding.kind, files, &Meter{})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// R03: nobody asks for the run at 11:30.
func TestTheDayBeforeIsReconciledAtHalfPastElevenByItself(t *testing.T) {
	var at atomic.Pointer[time.Time]
	set := func(hour, minute int) {
		now := time.Date(2026, 9, 16, hour, minute, 0, 0, ledger.Beijing)
		at.Store(&now)
	}
	set(11, 29)
	ctx, stop := context.WithCancel(t.Context())
	said, over := &strings.Builder{}, make(chan error, 1)
	reader, writer := io.Pipe()
	config := Config{Local: local.Config{DataDir: folder(t)}, Now: func() time.Time { return *at.Load() }}
	go func() {
		err := Serve(ctx, config, ServeOptions{Listen: "127.0.0.1:0"}, writer)
		over <- errors.Join(err, writer.Close())
	}()
	line := make([]byte, 200)
	n, err := reader.Read(line)
	if err != nil {
		t.Fatal(err, <-over)
	}
	go func() { _, _ = io.Copy(said, reader) }()
	defer func() {
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
	}()
	s, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if !strings.Contains(string(line[:n]), s.API()) {
		t.Errorf("it says %q, the data directory %q", line[:n], s.API())
	}
	for path, says := range map[string]string{"/livez": "ok", "/readyz": "ok", "/metrics": "clearward_ledger_batches_total"} {
		if got := get(t, http.DefaultClient, "http://"+s.API()+path); !strings.Contains(got, says) {
			t.Errorf("%s says %q", path, got)
		}
	}
	fedSample(t, s)
	if day, err := s.Engine.Load(t.Context(), sampleDay); err != nil || len(day.Items) != 0 {
		t.Fatalf("%d items before the run, %v", len(day.Items), err)
	}
	set(11, 30)
	awaitRun(t, s, "recon", "OK")
	day, err := s.Engine.Load(t.Context(), sampleDay)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := sampleFound(&out, day, "en"); err != nil {
		t.Error(err, out.String())
	}
	set(12, 0)
	awaitRun(t, s, "verify", "OK")
	if got := get(t, http.DefaultClient, "http://"+s.API()+"/metrics"); !strings.Contains(got, `clearward_job_seconds_count{job="recon",state="ok"} 1`) {
		t.Error(got)
	}
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(url, answer.Status, err)
	}
	return string(text)
}

// testPair makes a throw-away pair for 127.0.0.1.
func testPair(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	err = errors.Join(os.WriteFile(cert, text, 0o600), os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pool
}

func TestTheNetworkIsServedEncrypted(t *testing.T) {
	cert, key, pool := testPair(t)
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	reader, writer := io.Pipe()
	go func() {
		err := Serve(ctx, Config{Local: local.Config{DataDir: folder(t)}, Now: noon}, ServeOptions{Listen: "0.0.0.0:0", TLSCert: cert, TLSKey: key}, writer)
		over <- errors.Join(err, writer.Close())
	}()
	line := make([]byte, 200)
	n, err := reader.Read(line)
	if err != nil {
		t.Fatal(err, <-over)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	_, rest, _ := strings.Cut(string(line[:n]), "https://")
	address, _, _ := strings.Cut(rest, " ")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	if got := get(t, client, "https://127.0.0.1:"+port+"/livez"); !strings.Contains(got, "ok") {
		t.Error(got)
	}
	stop()
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// awaitRun waits until the last run of a job has come to its end.
func awaitRun(t *testing.T, s *Server, name, state string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ticker := time.NewTicker(20 * time.Millisecond); ; {
		runs, err := s.JobHistory(ctx, name)
		if err != nil {
			t.Fatal(name, err)
		}
		if len(runs) > 0 && runs[0].State == state {
			ticker.Stop()
			return
		}
		<-ticker.C
	}
}

func TestTheNetworkIsNotServedInTheClear(t *testing.T) {
	for _, address := range []string{"0.0.0.0:8350", ":8350", "192.0.2.1:8350", "clearward.example:8350"} {
		err := Serve(t.Context(), Config{}, ServeOptions{Listen: address}, io.Discard)
		if !errors.Is(err, ErrOpenDoor) || !strings.Contains(Explain(err), "loopback") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := Serve(t.Context(), Config{}, ServeOptions{Listen: "127.0.0.1:0", TLSCert: "cert.pem"}, io.Discard); err == nil || !strings.Contains(err.Error(), "go together") {
		t.Errorf("half a pair: %v", err)
	}
	if err := Serve(t.Context(), Config{}, ServeOptions{Listen: "8350"}, io.Discard); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("no host: %v", err)
	}
}

// A pause of the job release or settle holds money back from a run too, whoever starts
// it; once it is resumed the job posts what was held back, and no other run does.
func TestWhatAPausedJobHoldsBackARunLeavesToIt(t *testing.T) {
	s, ctx := open(t, folder(t)), t.Context()
	fedSample(t, s)
	at := time.Date(2026, 9, 16, 11, 0, 0, 0, ledger.Beijing)
	runner, err := jobs.Open(ctx, s.DB, func() time.Time { return at }, s.log, s.schedule()...)
	if err != nil {
		t.Fatal(err)
	}
	operator := newKey(t, s, "赵运营", auth.Operator)
	for _, job := range []string{jobRelease, jobSettle} {
		if err := s.ManageJob(ctx, operator, "pause", job); err != nil {
			t.Fatal(err)
		}
	}
	moved := func() string {
		rows, err := s.DB.Pool.Query(ctx, `SELECT kind || ' ' || COUNT(*)::TEXT FROM entries WHERE kind IN ('J25', 'J28c') GROUP BY kind ORDER BY kind`)
		if err != nil {
			t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(list, ", ")
	}
	tick := func(hour, minute int) {
		at = time.Date(2026, 9, 16, hour, minute, 0, 0, ledger.Beijing)
		if _, err := runner.Tick(ctx); err != nil {
			t.Fatal(err)
		}
		if found, err := ledger.Verify(ctx, s.DB, controls()...); err != nil || len(found) > 0 {
			t.Errorf("at %s: %v, %v", at, found, err)
		}
	}
	tick(11, 30)
	tick(11, 35)
	if got := moved(); got != "" {
		t.Errorf("while it was held back: %s", got)
	}
	all, err := s.Jobs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for lang, says := range map[string][]string{"zh": {"release 已由 赵运营 暂停：已核对的款项留在待结算", "settle 已由 赵运营 暂停"}, "en": {"release is paused by 赵运营: what is proved stays pending", "settle is paused by 赵运营"}} {
		var list, status bytes.Buffer
		WriteJobs(&list, all, lang)
		WriteStatus(&status, &Status{Jobs: all}, lang)
		for _, one := range says {
			if !strings.Contains(list.String(), one) || !strings.Contains(status.String(), one) {
				t.Errorf("%q is missing:\n%s\n%s", one, list.String(), status.String())
			}
		}
	}
	for _, job := range []string{jobRelease, jobSettle} {
		if err := s.ManageJob(ctx, operator, "resume", job); err != nil {
			t.Fatal(err)
		}
	}
	tick(11, 36)
	if got := moved(); got != "J25 2, J28c 2" {
		t.Errorf("once it was resumed: %s", got)
	}
	day, err := s.Engine.Load(ctx, sampleDay)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := sampleFound(&out, day, "en"); err != nil {
		t.Error(err, out.String())
	}
	tick(11, 45)
	if got := moved(); got != "J25 2, J28c 2" {
		t.Errorf("the jobs again: %s", got)
	}
}

// Whoever pauses waits for a run that is being published, and none is after that.
func TestAPauseWaitsForWhatIsUnderWay(t *testing.T) {
	s, ctx := open(t, folder(t)), t.Context()
	if _, err := jobs.Open(ctx, s.DB, noon, s.log, s.schedule()...); err != nil {
		t.Fatal(err)
	}
	tx, err := s.DB.Pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if release, settle, err := pausedMoney(ctx, tx); release || settle || err != nil {
		t.Fatal(release, settle, err)
	}
	change := `SELECT paused FROM jobs WHERE name = $1 FOR UPDATE NOWAIT`
	var refused *pgconn.PgError
	if _, err := s.DB.Pool.Exec(ctx, change, jobRelease); !errors.As(err, &refused) || refused.Code != "55P03" {
		t.Errorf("it is changed while a run that has read it goes on: %v", err)
	}
	if _, err := s.DB.Pool.Exec(ctx, change, "recon"); err != nil {
		t.Errorf("another job waits with it: %v", err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := jobs.Pause(ctx, s.DB, jobRelease, "赵运营"); err != nil {
		t.Fatal(err)
	}
}

// G08: a person pauses, resumes and runs a job again; who may not is told so.
func TestJobsAreManagedByWhoeverMay(t *testing.T) {
	s := open(t, folder(t))
	if _, err := jobs.Open(t.Context(), s.DB, noon, s.log, s.schedule()...); err != nil {
		t.Fatal(err)
	}
	operator, head := newKey(t, s, "赵运营", auth.Operator), newKey(t, s, "李主管", auth.FinanceHead)
	for _, act := range []string{"pause", "resume", "run"} {
		if err := s.ManageJob(t.Context(), head, act, "recon"); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%s by the finance head: %v", act, err)
		}
	}
	if err := s.ManageJob(t.Context(), "", "pause", "recon"); !errors.Is(err, ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	if err := s.ManageJob(t.Context(), operator, "pause", "recon"); err != nil {
		t.Fatal(err)
	}
	all, err := s.Jobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	WriteJobs(&out, all, "zh")
	if !strings.Contains(out.String(), "已暂停：赵运营") {
		t.Error(out.String())
	}
	if err := s.ManageJob(t.Context(), operator, "run", "gone"); !errors.Is(err, jobs.ErrUnknownJob) || !strings.Contains(Explain(err), "jobs list") {
		t.Errorf("a job that is not there: %v", err)
	}
}
