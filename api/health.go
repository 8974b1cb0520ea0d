package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/clearward/clearward/api/auth"
)

// How long a client may take to send a request, and a connection may be idle; how
// long the database may take where it is asked whether it is well.
const (
	readWithin = 30 * time.Second
	idleFor    = 2 * time.Minute
	askWithin  = 2 * time.Second
)

// maxSkew is how far this machine's clock may be from the database's: signatures
// and leases are held against both.
const maxSkew = 5 * time.Minute

// ErrSkew is wrapped where the two are further apart.
var ErrSkew = errors.New("the clocks of this machine and its database differ too much")

// skew is how far this machine's clock is ahead of the database's.
func (s *Server) skew(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var there time.Time
	before := s.wall()
	if err := s.DB.Pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&there); err != nil {
		return 0, err
	}
	here := before.Add(s.wall().Sub(before) / 2)
	return here.Sub(there), nil
}

// ready says that the program can do its work.
func (s *Server) ready(ctx context.Context) error {
	ahead, err := s.skew(ctx)
	if err != nil {
		return fmt.Errorf("the database does not answer: %w", err)
	}
	if ahead.Abs() > maxSkew {
		return fmt.Errorf("%w: this one is ahead by %s, and %s are allowed", ErrSkew, ahead.Round(time.Second), maxSkew)
	}
	return nil
}

func (s *Server) showReady(w http.ResponseWriter, r *http.Request) {
	err := s.ready(r.Context())
	switch {
	case err == nil:
		fmt.Fprintln(w, "ok")
		return
	case errors.Is(err, ErrSkew):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
	}
	s.log.Warn("not ready", "error", err)
}

// showMetrics tells loopback, and whoever shows a key with the right, what is
// counted. Behind a proxy of the same machine everybody comes from loopback: such a
// proxy does not hand /metrics on.
func (d doorkeeper) showMetrics(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		if err := d.enter(r.Context(), metricsPath); err != nil {
			status := http.StatusForbidden
			if !errors.Is(err, auth.ErrDenied) {
				status = http.StatusUnauthorized
			}
			http.Error(w, err.Error(), status)
			return
		}
	}
	d.s.metrics.handler().ServeHTTP(w, r)
}

// hurried gives a client so long to send its request, so that one that dawdles
// holds nothing; how long the answer takes is not limited by it.
func hurried(next http.Handler, within time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			control := http.NewResponseController(w)
			if control.SetReadDeadline(time.Now().Add(within)) == nil {
				r.Body = &sending{r.Body, control}
			}
		}
		next.ServeHTTP(w, r)
	})
}

// sending is a request on its way in; with its end the deadline ends.
type sending struct {
	io.ReadCloser
	control *http.ResponseController
}

// Read implements io.Reader.
func (b *sending) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if errors.Is(err, io.EOF) {
		if failed := b.control.SetReadDeadline(time.Time{}); failed != nil {
			return n, failed
		}
	}
	return n, err
}
