// Package control is the side of a sandbox that no channel has: faults that wait for
// their turn and what they do to a call, and an admin API of JSON over HTTP.
package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/clearward/clearward/channels/sandbox/journal"
)

// Faults that strike a call of any sandbox.
const (
	Delay   = "DELAY"    // the answer comes late
	Drop    = "DROP"     // the connection breaks
	HTTP500 = "HTTP_500" // no answer of the channel
	Garbage = "GARBAGE"  // an answer that cannot be read
	BadSign = "BAD_SIGN" // done, and the answer's signature is wrong
	Error   = "ERROR"    // the channel says no, in its own words
)

// Works says whether what was asked is done in spite of a fault, "" being none.
// commit is whether the fault itself says so.
func Works(fault string, commit bool) bool {
	return fault == "" || commit || fault == Delay || fault == BadSign
}

// Strike does what a fault does to the answer of any interface: it comes millis late
// in the machine's time, or is none, or not the channel's; struck says that no more
// is to be written.
func Strike(w http.ResponseWriter, r *http.Request, fault string, millis int64) (struck bool) {
	switch fault {
	case Delay:
		select {
		case <-time.After(time.Duration(millis) * time.Millisecond):
		case <-r.Context().Done():
		}
	case Drop:
		panic(http.ErrAbortHandler)
	case HTTP500:
		http.Error(w, "<html>502 Bad Gateway</html>", http.StatusBadGateway)
		return true
	}
	return false
}

// Waiting are the faults that wait for their turn. It has no lock of its own.
type Waiting[F any] struct {
	count func(*F) (id *int64, times *int)
	list  []*F
	last  int64
}

// NewWaiting is a list without faults; count says where a fault has its id and how
// often it still strikes.
func NewWaiting[F any](count func(*F) (id *int64, times *int)) Waiting[F] {
	return Waiting[F]{count: count}
}

// Add gives a new fault its id and lets it wait. It strikes at least once.
func (l *Waiting[F]) Add(f F) F {
	id, times := l.count(&f)
	*id, *times = l.last+1, max(*times, 1)
	l.Apply(f)
	return f
}

// Apply lets a fault's newest image stand; one that strikes no more goes.
func (l *Waiting[F]) Apply(f F) {
	id, times := l.count(&f)
	l.last = max(l.last, *id)
	l.list = slices.DeleteFunc(l.list, func(g *F) bool { other, _ := l.count(g); return *other == *id })
	if *times > 0 {
		l.list = append(l.list, &f)
	}
}

// First is the first fault that fits, nil for none.
func (l *Waiting[F]) First(fits func(*F) bool) *F {
	if i := slices.IndexFunc(l.list, fits); i >= 0 {
		return l.list[i]
	}
	return nil
}

// Use takes one turn off a fault that waits and returns its new image.
func (l *Waiting[F]) Use(f *F) *F {
	image := *f
	_, times := l.count(&image)
	*times--
	l.Apply(image)
	return &image
}

// List is what waits, in its order.
func (l *Waiting[F]) List() []F {
	list := make([]F, 0, len(l.list))
	for _, f := range l.list {
		list = append(list, *f)
	}
	return list
}

// Admin answers the calls of one sandbox's admin API once all that its books kept is
// on disk: with what came of it, or with 409 and {"error"}.
type Admin struct {
	Books   *journal.Journal
	Refused error // wrapped where a body cannot be read
	Strict  bool  // a field that is not known is refused
}

// Post reads the body and does the work.
func Post[In, Out any](a Admin, work func(In) (Out, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 16<<20))
		if a.Strict {
			body.DisallowUnknownFields()
		}
		var in In
		if err := body.Decode(&in); err != nil {
			a.Show(w, nil, fmt.Errorf("%w: %w", a.Refused, err))
			return
		}
		out, err := work(in)
		a.Show(w, out, err)
	}
}

// Ask does work that needs no body.
func (a Admin) Ask(work func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		out, err := work(r)
		a.Show(w, out, err)
	}
}

// Show writes an answer.
func (a Admin) Show(w http.ResponseWriter, what any, err error) {
	if err == nil {
		err = a.Books.Durable()
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		what = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(what) // a client that went away is no fault of ours
}
