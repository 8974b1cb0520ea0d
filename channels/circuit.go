package channels

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// The circuit of a wire.
const (
	// lately is what is counted. It is longer than a call may take (a minute at a bank,
	// spec/channels.md I.3): a call that began before it counts no more.
	lately   = 2 * time.Minute
	tripDiff = 10 // different orders or bills
	tripRow  = 32 // calls in a row
	restFor  = 10 * time.Second
)

// circuit keeps callers from waiting for a side that is down. It opens where, within
// lately, the last call about each of tripDiff different orders or bills had no answer
// and, besides, at least as many calls had none as had one, or tripRow had none in a
// row:
//
//   - Different ones: a bill that a HIS cannot take is told again and again, and in a
//     quiet hour little else is told. A handful of those says nothing about the others;
//     a side that is down answers for nobody.
//   - As many as were answered: where most calls are answered, the others are served.
//   - In a row: a side that goes down in a busy hour has two minutes full of answers.
//
// A side that goes down while calls are about fewer is not cut off: those few wait.
//
// It rests for restFor, then lets one call through: answered it closes, unanswered it
// rests again. That call is about none of those that had no answer lately, else a
// bill that is never answered for would keep it open; they wait until it has closed,
// or until they are forgotten. The rest is by the machine's clock.
type circuit struct {
	breaker *gobreaker.CircuitBreaker[[]byte]
	now     func() time.Time

	mu     sync.Mutex
	silent map[string]time.Time // when the last call about it had no answer
}

func newCircuit(name string, now func() time.Time) *circuit {
	c := &circuit{now: now, silent: map[string]time.Time{}}
	c.breaker = gobreaker.NewCircuitBreaker[[]byte](gobreaker.Settings{
		Name: name, MaxRequests: 1, Timeout: restFor, Interval: lately, BucketPeriod: lately / 12,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			return (n.TotalFailures >= n.TotalSuccesses || n.ConsecutiveFailures >= tripRow) && c.manySilent()
		},
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateClosed {
				c.forget()
			}
		},
	})
	return c
}

// through sends a call about something, or says ErrNotSent. An error of send's says
// that it had no answer.
func (c *circuit) through(about string, send func() ([]byte, error)) ([]byte, error) {
	if c.breaker.State() == gobreaker.StateHalfOpen && c.isSilent(about) {
		return nil, fmt.Errorf("%w: the last call about this had no answer, others go first for %s", ErrNotSent, lately)
	}
	body, err := c.breaker.Execute(func() ([]byte, error) {
		body, err := send()
		c.note(about, err == nil)
		return body, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		err = fmt.Errorf("%w: calls about %d orders or more had no answer, tried again within %s", ErrNotSent, tripDiff, restFor)
	}
	return body, err
}

func (c *circuit) note(about string, answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answered {
		delete(c.silent, about)
	} else {
		c.silent[about] = c.now()
	}
}

func (c *circuit) isSilent(about string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, noted := c.silent[about]
	return noted && c.now().Sub(at) < lately
}

// manySilent counts no further than it must, and drops what is old on its way.
func (c *circuit) manySilent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, n := c.now(), 0
	for about, at := range c.silent {
		if now.Sub(at) >= lately {
			delete(c.silent, about)
		} else if n++; n >= tripDiff {
			return true
		}
	}
	return false
}

func (c *circuit) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.silent)
}
