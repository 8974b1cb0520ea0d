package api

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
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

// fetchStatements fetches the statement of the day before of every account that is
// connected and to which a merchant number settles, until it is there.
func (s *Server) fetchStatements(ctx context.Context, due time.Time) (int, error) {
	w, err := s.wiring(ctx)
	if err != nil {
		return 0, err
	}
	dir, err := s.directory(ctx)
	if err != nil {
		return 0, err
	}
	var list []toFetch
	for _, link := range w.Banks {
		i := slices.IndexFunc(dir.Merchants, func(m *clearing.Merchant) bool { return m.SettlesTo == link.Account })
		if i < 0 {
			continue // the platform's own account: nothing is reconciled on it
		}
		list = append(list, toFetch{recon.Slice{Source: recon.SourceStatement, Hospital: dir.Merchants[i].Hospital, Account: link.Account}, FeedBank,
			func(ctx context.Context, day ledger.Day) (io.ReadCloser, error) {
				bank, err := s.banks.Bank(link.Account)
				if err != nil {
					return nil, err
				}
				return bank.FetchStatement(ctx, link.Account, day)
			}})
	}
	return s.fetch(ctx, due, list)
}
