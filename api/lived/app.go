package lived

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/clearward/clearward/api/sdk"
)

// businessApp is where the platform tells the hospital's app what became of its
// payments and refunds. It believes what is signed, and now and then does not
// answer, so that it is told again.
type businessApp struct {
	h      *house
	server *http.Server
	url    string

	mu      sync.Mutex
	key     string
	told    map[string][]string // the kinds of notices by number
	refused map[string]bool
	wrong   []string
}

// open listens on loopback.
func (a *businessApp) open(ctx context.Context) error {
	door, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a.told, a.refused = map[string][]string{}, map[string]bool{}
	a.url, a.server = "http://"+door.Addr().String()+"/notices", &http.Server{Handler: http.HandlerFunc(a.hear), ReadHeaderTimeout: startLimit}
	go func() { _ = a.server.Serve(door) }() // ends with close, by an error that says so
	return nil
}

func (a *businessApp) close() error {
	if a.server == nil {
		return nil
	}
	return a.server.Close()
}

// hear takes one notice; of every fifty numbers one is answered late.
func (a *businessApp) hear(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err == nil {
		err = a.take(r.Context(), r.Header.Get(sdk.NoticeHeader), body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (a *businessApp) take(ctx context.Context, signature string, body []byte) error {
	key, err := a.publicKey(ctx)
	if err != nil {
		return err
	}
	n, err := sdk.VerifyNotice(key, signature, body, a.h.clock.Now())
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		// One that was on its way while the clock jumped is too old, and comes again.
		if !strings.Contains(err.Error(), "from now") {
			a.wrong = append(a.wrong, err.Error())
		}
		return err
	}
	no := n.OrderNo
	if n.RefundNo != "" {
		no = n.RefundNo
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(no)) // never fails
	if sum.Sum32()%50 == 0 && !a.refused[no] {
		a.refused[no] = true
		return fmt.Errorf("the app is busy")
	}
	a.told[no] = append(a.told[no], n.Kind)
	return nil
}

// publicKey is the platform's, asked for once.
func (a *businessApp) publicKey(ctx context.Context) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.key != "" {
		return a.key, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.h.url()+"/notices/key", nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	a.key = strings.TrimSpace(string(text))
	return a.key, err
}

// heard notes what the app was not told, or was told wrongly.
func (l *life) heard() {
	l.app.mu.Lock()
	defer l.app.mu.Unlock()
	for _, text := range l.app.wrong {
		l.wrong("a notice to the app: %s", text)
	}
	for _, v := range l.done {
		if !slices.Contains(l.app.told[v.order], "PAID") {
			l.wrong("the app was never told that %s is paid", v.order)
		}
		for _, r := range v.refunds {
			no := r.no
			if told := l.app.told[no]; !slices.Contains(told, "REFUNDED") && !slices.Contains(told, "REFUND_FINAL") {
				l.wrong("the app was never told that %s is given back: %v", no, told)
			}
		}
	}
}
