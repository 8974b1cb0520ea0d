package live

import (
	"slices"

	"github.com/clearward/clearward/channels/sandbox/livebank"
	"github.com/clearward/clearward/ledger"
)

// openBank opens the bank's books, where somebody has an account. What the channels
// pay out arrives there on the next working day.
func (s *Server) openBank() (err error) {
	if len(s.cfg.Bank.Accounts) == 0 {
		return nil
	}
	cfg := s.cfg.Bank
	cfg.Dir, cfg.Now, cfg.Arriving = s.cfg.Dir, s.cfg.Now, s.Arriving
	s.bank, err = livebank.Open(cfg)
	return err
}

func (s *Server) listenBank() error {
	if s.bank == nil {
		return nil
	}
	return s.listen(s.cfg.Listen.Bank, &s.Addresses.Bank, s.bank.Handler(), false)
}

func (s *Server) closeBank() error {
	if s.bank == nil {
		return nil
	}
	return s.bank.Close()
}

// Arriving lists what the channels pay out to an account on a day; it is known from
// half past nine of that day.
func (s *Server) Arriving(account string, day ledger.Day) []livebank.Arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	var list []livebank.Arrival
	for _, in := range slices.Concat(s.arriving(account, day), s.toBank(account, day)) {
		list = append(list, livebank.Arrival{Channel: in.Channel, Merchant: in.Merchant, Day: in.Day, Fen: in.Fen, Refund: in.Refund})
	}
	return list
}
