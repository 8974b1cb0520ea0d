package channels

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// side is the other end of a wire in a bubble of time: it answers at once, but not
// while it is down and never about what it cannot take.
type side struct {
	t       *testing.T
	wire    *Wire
	down    atomic.Bool
	refuses bool            // while it is down; else it is silent until the caller gives up
	poison  map[string]bool // by number
	arrived atomic.Int64
}

func newSide(t *testing.T) *side {
	s := &side{t: t, poison: map[string]bool{}}
	s.wire = NewWire("HIS", &http.Client{Transport: s}, time.Now)
	return s
}

var errRefused = errors.New("connection refused")

func (s *side) RoundTrip(r *http.Request) (*http.Response, error) {
	s.arrived.Add(1)
	switch {
	case s.down.Load() && s.refuses:
		return nil, errRefused
	case s.down.Load(), s.poison[r.Header.Get("About")]:
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("{}")), Request: r}, nil
}

// ask makes a call about each number, all at once, and returns what became of each.
func (s *side) ask(numbers ...string) []error {
	errs := make([]error, len(numbers))
	var all sync.WaitGroup
	for i, no := range numbers {
		all.Go(func() {
			r, err := http.NewRequest(http.MethodPost, "http://his.example/acknowledge", strings.NewReader(no))
			if err == nil {
				r.Header.Set("About", no)
				_, _, _, err = s.wire.Do(s.t.Context(), Call{Name: "his/acknowledge", About: no, Request: r, Timeout: 10 * time.Second, Mask: func(s string) string { return s }, Personal: true})
			}
			errs[i] = err
		})
	}
	all.Wait()
	return errs
}

func (s *side) served(when string, numbers ...string) {
	s.t.Helper()
	for i, err := range s.ask(numbers...) {
		if err != nil {
			s.t.Fatalf("%s: %s: %v", when, numbers[i], err)
		}
	}
}

// is asks about numbers and wants the same of each.
func (s *side) is(when string, want error, numbers ...string) {
	s.t.Helper()
	for i, err := range s.ask(numbers...) {
		if !errors.Is(err, want) {
			s.t.Fatalf("%s: %s: %v, not %v", when, numbers[i], err, want)
		}
	}
}

func numbered(prefix string, n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(prefix, i))
	}
	return list
}

func wait(d time.Duration) { <-time.After(d) }

func TestBillsThatAHISCannotTakeKeepNobodyElseFromIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSide(t)
		bad := numbered("poison", 5)
		for _, no := range bad {
			s.poison[no] = true
		}
		for n := range 300 { // a quiet hour: they alone are told, all at once or one after the other
			if n%2 == 0 {
				s.is("a quiet hour", ErrNoAnswer, bad...)
			} else {
				s.is("a quiet hour", ErrNoAnswer, bad[n%5])
			}
			wait(5 * time.Second)
		}
		s.served("another's refund in the quiet hour", "refund")
		for n := range 300 { // they have the last word every time
			s.served("between", numbered(fmt.Sprint("good", n, "-"), 3)...)
			s.is("between", ErrNoAnswer, bad...)
		}
		s.served("another's refund between", "refund")
	})
}

func TestManyBadBillsInABusyHourKeepNobodyElseFromAHIS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSide(t)
		bad := numbered("poison", 30) // they time out in one row
		for _, no := range bad {
			s.poison[no] = true
		}
		for n := range 100 {
			s.served("a busy hour", numbered(fmt.Sprint("good", n, "-"), 40)...)
			s.is("a busy hour", ErrNoAnswer, bad...)
		}
		s.served("another's refund", "refund")
	})
}

func TestFewFailuresAMinuteAreNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSide(t)
		for _, no := range numbered("poison", 100) { // always another one, and nothing else
			s.poison[no] = true
			s.is("one by one", ErrNoAnswer, no)
			wait(10 * time.Second)
		}
		s.served("another's refund", "refund")
	})
}

func TestASideThatIsDownUnderLoadIsCutOffAndComesBack(t *testing.T) {
	for _, refuses := range []bool{true, false} {
		for _, callers := range []int{12, 64, 256} {
			t.Run(fmt.Sprintf("%d callers, refuses %v", callers, refuses), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { outage(t, refuses, callers) })
			})
		}
	}
}

func outage(t *testing.T, refuses bool, callers int) {
	s := newSide(t)
	s.refuses = refuses
	for n := range 60 { // two busy minutes
		s.served("before", numbered(fmt.Sprint("good", n, "-"), 100)...)
		wait(2 * time.Second)
	}
	s.down.Store(true)
	was, began, rounds := s.arrived.Load(), time.Now(), 0
	for open := false; !open; rounds++ {
		for _, err := range s.ask(numbered(fmt.Sprint("down", rounds, "-"), callers)...) {
			open = open || errors.Is(err, ErrNotSent)
		}
	}
	if n := s.arrived.Load() - was; n > int64(tripRow+callers) {
		t.Errorf("it opened after %d calls", n)
	}
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("it opened after %s", took)
	}
	was, began = s.arrived.Load(), time.Now()
	s.is("while it is open", ErrNotSent, numbered("more", callers)...)
	if time.Since(began) > 0 || s.arrived.Load() != was {
		t.Errorf("they waited %s, and %d left", time.Since(began), s.arrived.Load()-was)
	}
	wait(restFor + time.Second) // still down: one is let through, and it rests again
	if s.is("rested", ErrNoAnswer, "probe"); s.arrived.Load() != was+1 {
		t.Errorf("%d calls left", s.arrived.Load()-was)
	}
	s.is("rests again", ErrNotSent, "next")
	s.down.Store(false)
	s.is("back, in the rest", ErrNotSent, "next")
	wait(restFor + time.Second)
	s.is("back, asked for one that had no answer", ErrNotSent, "probe")
	s.served("back", "next")
	s.served("back", numbered("after", callers)...)
	s.served("back", "probe", "down0-0")
}

func TestOneOfThoseWithoutAnAnswerIsNotWhatACircuitIsTriedWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSide(t)
		bad := numbered("poison", tripDiff)
		for _, no := range bad {
			s.poison[no] = true
		}
		s.is("a quiet hour", ErrNoAnswer, bad...)
		s.is("as many as an outage has", ErrNotSent, "refund")
		wait(restFor + time.Second)
		s.is("rested", ErrNotSent, bad...)
		s.served("another's refund goes first", "refund")
		s.is("they are told again", ErrNoAnswer, bad[:tripDiff-1]...)
		s.served("another's refund", "refund")

		s.is("all of them", ErrNoAnswer, bad...)
		s.is("all of them", ErrNotSent, "refund")
		wait(lately)
		s.is("nobody else asked, and they are forgotten", ErrNoAnswer, bad[0])
	})
}

func TestASideThatAnswersHalfOfAllIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for bad, want := range map[int]error{12: ErrNotSent, 11: nil} {
			s := newSide(t)
			list := numbered("n", 24)
			for _, no := range list[:bad] {
				s.poison[no] = true
			}
			s.ask(list[bad:]...)
			s.ask(list[:bad]...)
			s.is(fmt.Sprint(bad, " of 24"), want, "another")
		}
	})
}
