package channels

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
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
// opens while the other side is down, and not for the few orders that it never
// answers for.
type Wire struct {
	client  *http.Client
	now     func() time.Time
	circuit *circuit
}

// NewWire returns a wire; name is whose it is, in errors. client may be nil.
func NewWire(name string, client *http.Client, now func() time.Time) *Wire {
	if client == nil {
		client = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		}}
	}
	return &Wire{client: client, now: now, circuit: newCircuit(name, now)}
}

// Call is a request on its way.
type Call struct {
	Name string // "pay/micropay"
	// About is the number of the order, bill or batch, the same in every call about it;
	// "" for a call about none, as for a file, which is about what its name says.
	About   string
	Request *http.Request
	Timeout time.Duration
	Mask    func(text string) string // applied to what is recorded
	Sent    string                   // the body, for the record
	// Personal: the other side may be told of persons, as a bank or a HIS; never a
	// payment channel, whose calls are not sent where ScanPayload finds something.
	Personal bool
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
	x, err := w.begin(c)
	if err != nil {
		return nil, nil, x, err
	}
	var answer *http.Response
	body, err := w.circuit.through(cmp.Or(c.About, c.Name), func() (body []byte, err error) {
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
	if err := w.end(c, x, answer, err); err != nil {
		return nil, nil, x, err
	}
	x.Response = c.Mask(string(bytes.ToValidUTF8(body, []byte("?"))))
	return answer, body, x, nil
}

// Open sends a call whose answer is a file, and returns with its header: the body
// is the caller's to read and close, in the same Timeout, and is not recorded.
func (w *Wire) Open(ctx context.Context, c Call) (*http.Response, *Exchange, error) {
	x, err := w.begin(c)
	if err != nil {
		return nil, x, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	var answer *http.Response
	_, err = w.circuit.through(cmp.Or(c.About, c.Name), func() (none []byte, err error) {
		answer, err = w.client.Do(c.Request.WithContext(ctx))
		return nil, err
	})
	if err := w.end(c, x, answer, err); err != nil {
		cancel()
		return nil, x, err
	}
	answer.Body = &openBody{answer.Body, cancel}
	return answer, x, nil
}

// openBody frees the call's context when the file is closed.
type openBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *openBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// begin starts the record of a call and refuses one that tells of a patient: it
// looks at what is sent, not at what the record says is sent.
func (w *Wire) begin(c Call) (*Exchange, error) {
	x := &Exchange{Call: c.Name, At: w.now()}
	if !c.Personal {
		found, err := scanRequest(c.Request)
		if err == nil && len(found) > 0 {
			err = errors.New(strings.Join(found, ", "))
		}
		if err != nil {
			x.Fault = "not sent: " + err.Error()
			return x, fmt.Errorf("%w: %w: %w", ErrNotSent, ErrPayload, err)
		}
	}
	x.Request = c.Mask(c.Sent)
	return x, nil
}

func scanRequest(r *http.Request) ([]string, error) {
	found := append(ScanPayload(r.URL.Path), ScanPayload(r.URL.RawQuery)...)
	if r.Body == nil || r.Body == http.NoBody {
		return found, nil
	}
	if r.GetBody == nil {
		return nil, errors.New("a body that can be read only once cannot be looked at")
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	return append(found, ScanPayload(string(text))...), err
}

// end completes the record and turns what went wrong into ErrNotSent or ErrNoAnswer.
func (w *Wire) end(c Call, x *Exchange, answer *http.Response, err error) error {
	x.Took = w.now().Sub(x.At)
	if answer != nil {
		x.Status = answer.StatusCode
	}
	switch {
	case errors.Is(err, ErrNotSent):
		x.Fault = err.Error()
		return err
	case err != nil:
		x.Fault = c.Mask(err.Error())
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return nil
}
