package channels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sony/gobreaker/v2"
)

// maxAnswer bounds the answer to a call; bills are read as a stream instead.
const maxAnswer = 1 << 20

// Exchange is one call to the outside with its answer, for the record: secrets,
// card numbers and names are masked before they get here.
type Exchange struct {
	Call     string // such as "pay/micropay"
	At       time.Time
	Took     time.Duration
	Request  string
	Response string
	Status   int    // HTTP, 0 where nothing came back
	Fault    string // why there is no usable answer, "" where there is one
}

// Wire carries the calls of one merchant number, or one bank or HIS. Its circuit
// opens after Trip calls in a row that nobody answered, and lets one call through
// again after Rest.
type Wire struct {
	client  *http.Client
	now     func() time.Time
	breaker *gobreaker.CircuitBreaker[[]byte]
}

// The circuit of a wire.
const (
	tripAfter = 10
	restFor   = 10 * time.Second
)

// NewWire returns a wire; name is whose it is, in errors. client may be nil.
func NewWire(name string, client *http.Client, now func() time.Time) *Wire {
	if client == nil {
		client = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		}}
	}
	return &Wire{client: client, now: now, breaker: gobreaker.NewCircuitBreaker[[]byte](gobreaker.Settings{
		Name: name, MaxRequests: 1, Timeout: restFor,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
	})}
}

// Call is a request on its way.
type Call struct {
	Name    string // "pay/micropay"
	Request *http.Request
	Timeout time.Duration
	Mask    func(text string) string // applied to what is recorded
	Sent    string                   // the body, for the record
}

// ErrNotSent is wrapped where a call never left: the circuit is open.
var ErrNotSent = errors.New("not sent")

// ErrNoAnswer is wrapped where a call may have arrived and nothing usable came back.
var ErrNoAnswer = errors.New("no answer")

// Do sends the call and returns status, header and body. ErrNotSent says that it
// never left; any other error wraps ErrNoAnswer. A status other than 2xx is no
// error here: some channels sign and explain it.
func (w *Wire) Do(ctx context.Context, c Call) (*http.Response, []byte, *Exchange, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	x := &Exchange{Call: c.Name, At: w.now(), Request: c.Mask(c.Sent)}
	var answer *http.Response
	body, err := w.breaker.Execute(func() (body []byte, err error) {
		if answer, err = w.client.Do(c.Request.WithContext(ctx)); err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		body, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
		if err == nil && len(body) > maxAnswer {
			err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
		}
		return body, err
	})
	x.Took = w.now().Sub(x.At)
	if answer != nil {
		x.Status = answer.StatusCode
	}
	switch {
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		x.Fault = "not sent: the last calls had no answer"
		return nil, nil, x, fmt.Errorf("%w: %d calls in a row had no answer, tried again within %s", ErrNotSent, tripAfter, restFor)
	case err != nil:
		x.Fault = err.Error()
		return nil, nil, x, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	x.Response = c.Mask(string(bytes.ToValidUTF8(body, []byte("?"))))
	return answer, body, x, nil
}
