package api

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/api/auth"
)

// answered asks a door of the house as if from an address.
func answered(s *Server, path, from, key string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, http.NoBody)
	r.RemoteAddr = from
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w := httptest.NewRecorder()
	s.doors().ServeHTTP(w, r)
	return w
}

// A machine whose clock is 7 minutes off its database's is not ready, and says why.
func TestAClockSevenMinutesOffTheDatabaseIsNotReady(t *testing.T) {
	s := open(t, folder(t))
	if w := answered(s, "/readyz", "127.0.0.1:1", ""); w.Code != http.StatusOK {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	for _, off := range []time.Duration{7 * time.Minute, -7 * time.Minute} {
		s.wall = func() time.Time { return time.Now().Add(off) }
		w := answered(s, "/readyz", "127.0.0.1:1", "")
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "clocks of this machine and its database differ too much: this one is ahead by "+off.String()) {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
		text := answered(s, "/metrics", "127.0.0.1:1", "").Body.String()
		if want := map[bool]string{true: "clearward_clock_skew_seconds 4", false: "clearward_clock_skew_seconds -4"}[off > 0]; !strings.Contains(text, want) {
			t.Errorf("the alarm is not told: %s", text)
		}
	}
}

func TestMetricsAreToldToLoopbackOrWithAKey(t *testing.T) {
	s := open(t, folder(t))
	it, cashier := newKey(t, s, "陈信息", auth.IT), newKey(t, s, "王收费", auth.Cashier)
	for _, c := range []struct {
		from, key string
		want      int
		says      string
	}{
		{"127.0.0.1:9", "", http.StatusOK, "clearward_ledger_batches_total"},
		{"[::1]:9", "", http.StatusOK, "clearward_ledger_batches_total"},
		{"10.1.2.3:9", "", http.StatusUnauthorized, "in somebody's name"},
		{"10.1.2.3:9", "ck_wrong", http.StatusUnauthorized, "unknown"},
		{"10.1.2.3:9", cashier, http.StatusForbidden, "may not job.read as CASHIER"},
		{"10.1.2.3:9", it, http.StatusOK, "clearward_ledger_batches_total"},
	} {
		if w := answered(s, "/metrics", c.from, c.key); w.Code != c.want || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("from %s: %d: %.200s", c.from, w.Code, w.Body)
		}
	}
}

// A client that dawdles with its request is left; one that waits long for its
// answer is not.
func TestARequestIsSentInTimeAndItsAnswerMayTakeLonger(t *testing.T) {
	const within = 100 * time.Millisecond
	came := make(chan error, 1)
	h := httptest.NewServer(hurried(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		came <- err
		if err == nil {
			select {
			case <-time.After(3 * within):
				fmt.Fprint(w, "done")
			case <-r.Context().Done():
			}
		}
	}), within))
	t.Cleanup(h.Close)
	if got, err := http.Post(h.URL, "text/plain", strings.NewReader("whole")); err != nil || <-came != nil {
		t.Error(err)
	} else if text, err := io.ReadAll(got.Body); err != nil || string(text) != "done" || got.Body.Close() != nil {
		t.Errorf("%q, %v", text, err)
	}
	slow, err := net.Dial("tcp", h.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slow.Close() })
	fmt.Fprint(slow, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
	select {
	case err := <-came:
		if err == nil {
			t.Error("half a request was read whole")
		}
	case <-time.After(20 * time.Second):
		t.Error("a client that dawdles is waited for")
	}
}
