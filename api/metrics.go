package api

import (
	"context"
	"math"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/clearward/clearward/ledger"
)

// metrics is what is counted of a process, for Prometheus. Nothing of it names a
// person, an order or a key.
type metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.HistogramVec
	jobs     *prometheus.HistogramVec
	notices  *prometheus.CounterVec
}

func newMetrics(counts *ledger.Counts) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "clearward_call_seconds", Help: "Calls of the API, by procedure and code.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}, []string{"procedure", "code"}),
		jobs: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "clearward_job_seconds", Help: "Runs of jobs, by job and how they ended.",
			Buckets: prometheus.ExponentialBuckets(0.01, 8, 7)}, []string{"job", "state"}),
	}
	m.notices = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "clearward_channel_notices_total", Help: "Notices of channels, by what they came to."}, []string{"channel", "state"})
	m.registry.MustRegister(m.calls, m.jobs, m.notices, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, c := range []struct {
		name, help string
		of         func() int64
	}{
		{"batches", "Transactions that the committer has committed.", counts.Batches.Load},
		{"commands", "Commands that they carried out.", counts.Commands.Load},
		{"retries", "Transactions that the database asked to be tried again.", counts.Retries.Load},
		{"splits", "Batches that were halved to find the command that breaks them.", counts.Splits.Load},
		{"claims", "Lanes that were taken over.", counts.Claims.Load},
		{"settled", "Commits whose answer got lost and was settled.", counts.Settled.Load},
	} {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "clearward_ledger_" + c.name + "_total", Help: c.help},
			func() float64 { return float64(c.of()) }))
	}
	return m
}

// metricsPath is where Prometheus reads.
const metricsPath = "/metrics"

// alarm watches how far this machine's clock is from the database's.
func (m *metrics) alarm(skew func(context.Context) (time.Duration, error)) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "clearward_clock_skew_seconds",
		Help: "How far this machine's clock is ahead of the database's; above 300 either way the process is not ready. NaN: the database does not answer."},
		func() float64 {
			ahead, err := skew(context.Background())
			if err != nil {
				return math.NaN()
			}
			return ahead.Seconds()
		}))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// called notes a call of the API.
func (m *metrics) called(procedure string, began time.Time, err error) {
	code := "ok"
	if err != nil {
		code = connect.CodeOf(err).String()
	}
	m.calls.WithLabelValues(procedure, code).Observe(time.Since(began).Seconds())
}

// timed counts the runs of a job.
func (m *metrics) timed(name string, run func(context.Context, time.Time) (int, error)) func(context.Context, time.Time) (int, error) {
	return func(ctx context.Context, due time.Time) (int, error) {
		began, state := time.Now(), "ok"
		done, err := run(ctx, due)
		if err != nil {
			state = "failed"
		}
		m.jobs.WithLabelValues(name, state).Observe(time.Since(began).Seconds())
		return done, err
	}
}
