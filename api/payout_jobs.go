package api

import (
	"context"
	"errors"
	"time"

	"github.com/clearward/clearward/clearing/payout"
)

// sendPayouts sends what is approved and due, once; while payouts are paused there
// is nothing to do.
func (s *Server) sendPayouts(ctx context.Context, _ time.Time) (int, error) {
	all, err := s.payouts()
	if err != nil {
		return 0, err
	}
	done, err := all.Send(ctx, s.now())
	if errors.Is(err, payout.ErrPaused) {
		err = nil
	}
	return done.Sent, err
}

// payoutsAtOnce is how many payouts a round asks the bank for.
const payoutsAtOnce = 100

// pollPayouts asks the bank for payouts without a final state and for receipts. It
// sends nothing.
func (s *Server) pollPayouts(ctx context.Context, _ time.Time) (int, error) {
	all, err := s.payouts()
	if err != nil {
		return 0, err
	}
	return all.Poll(ctx, s.now(), payoutsAtOnce)
}
