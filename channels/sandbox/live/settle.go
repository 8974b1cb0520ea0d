package live

import (
	"slices"
	"time"

	"github.com/clearward/clearward/channels/sandbox/livebank"
	"github.com/clearward/clearward/ledger"
)

// payOutSecond is half past nine, when the channel pays out what stood on the
// balance at the end of the day before, less what the hospital keeps there.
const payOutSecond = 34_200

// withdrawal is what was paid out of a day's closing balance.
type withdrawal struct {
	Merchant string     `json:"m"`
	Day      ledger.Day `json:"day"`
	Fen      int64      `json:"fen"`
}

// Settlement is one payment of a channel to a hospital's bank account.
type Settlement struct {
	Channel, Merchant, Account string
	Day                        ledger.Day // whose closing balance it is
	Arrives                    ledger.Day // when the bank books it: the next working day
	Fen                        int64
	Refund                     string // "" for the balance; else an abnormal refund
}

// settleUntil makes every payout whose time has come, under the lock.
func (s *Server) settleUntil(now int64) {
	for _, no := range s.numbers {
		m := s.merchants[no]
		if m.settled == 0 { // nothing is owed of days before the first movement
			first := ledger.Day(0)
			for day := range m.net {
				if first == 0 || day < first {
					first = day
				}
			}
			if first == 0 {
				continue
			}
			m.settled = first.Add(-2) // what stood there at the opening is paid out too
		}
		for day := m.settled.Add(1); payOut(day) <= now; day = day.Add(1) {
			w := withdrawal{no, day, m.payable(day)}
			s.journal.Keep("withdrawal", &w)
			s.journal.Fail(s.applyWithdrawal(w))
		}
	}
}

// payOut is when the closing balance of a day is paid out.
func payOut(day ledger.Day) int64 { return day.Add(1).Start().Unix() + payOutSecond }

func (s *Server) applyWithdrawal(w withdrawal) error {
	m, err := s.numbered(w.Merchant)
	if err != nil {
		return err
	}
	m.settled = w.Day
	if w.Fen > 0 {
		m.paidOut[w.Day] = w.Fen
		m.move(w.Day.Add(1), -w.Fen)
	}
	return nil
}

// closing is the balance at the end of a day.
func (m *merchant) closing(day ledger.Day) int64 {
	fen := m.OpeningFen
	for d, net := range m.net {
		if d <= day {
			fen += net
		}
	}
	return fen
}

func (m *merchant) payable(day ledger.Day) int64 { return max(m.closing(day)-m.RetainedFen, 0) }

// available is what a refund may take: the balance less what is to be paid out
// this morning.
func (m *merchant) available(now int64) int64 {
	yesterday := ledger.DayOf(time.Unix(now, 0)).Add(-1)
	if m.settled >= yesterday || now >= payOut(yesterday) {
		return m.balance
	}
	return m.balance - m.payable(yesterday)
}

// arriving lists what arrives on a bank account on a day, under the lock.
func (s *Server) arriving(account string, arrives ledger.Day) []Settlement {
	var list []Settlement
	for _, no := range s.numbers {
		m := s.merchants[no]
		for day := arrives.Add(-10); day < arrives && m.BankAccount == account; day = day.Add(1) {
			if fen := m.paidOut[day]; fen > 0 && workingDayAfter(day) == arrives {
				list = append(list, Settlement{Channel: m.Channel, Merchant: no, Account: account, Day: day, Arrives: arrives, Fen: fen})
			}
		}
	}
	return list
}

// workingDayAfter is the first day after d that is not a weekend day; public
// holidays are not modelled.
func workingDayAfter(d ledger.Day) ledger.Day {
	for d = d.Add(1); ; d = d.Add(1) {
		if w := d.Start().Weekday(); w != time.Saturday && w != time.Sunday {
			return d
		}
	}
}

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
