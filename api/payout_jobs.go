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
// connected, the platform's own among them, until it is there.
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
		hospital, ok := statementOf(dir, link.Account)
		if !ok {
			continue // nobody's statement: a feed of it would be refused
		}
		list = append(list, toFetch{recon.Slice{Source: recon.SourceStatement, Hospital: hospital, Account: link.Account}, FeedBank,
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

// statementOf says whose statement an account's is, as a feed of it would: of the
// hospital whose merchant number settles to it, or the platform's ("").
func statementOf(dir *clearing.Directory, account string) (hospital string, ok bool) {
	for _, m := range dir.Merchants {
		if m.SettlesTo == account {
			return m.Hospital, true
		}
	}
	return "", slices.ContainsFunc(dir.Banks, func(b clearing.BankAccount) bool { return b.Account == account && b.Role == clearing.OwnAccount })
}
