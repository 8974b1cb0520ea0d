package recon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
)

// settleOrder is the order number of the rows that hold settlements.
const settleOrder = "settlement"

// settleReach is how many days back an open settlement may still be tied to a
// credit: the longest run of holidays and then some.
const settleReach = 30

// bankRun is the bank pair of a run.
type bankRun struct {
	ran     bool
	scope   Scope
	stats   map[MerchantKey]*BankStats
	touched []*Settlement // of this day, and of others that this run changed
	rows    []*change     // bank lines
	payouts payoutRun
	refunds map[lineKey]bool // lines that brought the money of an abnormal refund (E20c)
}

// BankStats is the proof of one settlement: opening + day − withdrawn = closing;
// closing − retained = expected; arrived beside it.
type BankStats struct {
	Opening   ledger.Money `json:"opening_fen"`
	Net       ledger.Money `json:"day_fen"`
	Withdrawn ledger.Money `json:"withdrawn_fen"`
	Closing   ledger.Money `json:"closing_fen"`
	Retained  ledger.Money `json:"retained_fen"`
	Expected  ledger.Money `json:"expected_fen"`
	Fee       ledger.Money `json:"fee_fen"`
	Arrived   ledger.Money `json:"arrived_fen"`
	Due       ledger.Day   `json:"due"`
	BankRefs  []string     `json:"bank_refs"`
}

// settlementState is what a row keeps of a settlement.
type settlementState struct {
	Account  string
	Due      ledger.Day
	Expected ledger.Money
	Fee      ledger.Money
	Arrived  ledger.Money
	Returned ledger.Money
	Parts    []creditPart
	Code     Code
}

// creditPart is what of a credit met a settlement, and which day's run tied it.
type creditPart struct {
	Ref   string
	Fen   ledger.Money
	By    ledger.Day
	Known bool // tied by people, out of 2243: its journal is theirs
}

// runBank matches the statements that this run may use.
func (h *hospitalRun) runBank(ctx context.Context, p *publication) error {
	h.bank.stats = map[MerchantKey]*BankStats{}
	changed := slices.ContainsFunc(h.changed, func(k versionKey) bool { return k.pair == Bank })
	if !changed {
		return nil
	}
	h.bank.ran = true
	h.bank.payouts = payoutRun{map[lineKey]payout.BankLine{}, map[lineKey]string{}}
	h.bank.refunds = map[lineKey]bool{}
	if err := errors.Join(h.bankPayouts(ctx), h.bankRefunds(ctx)); err != nil {
		return err
	}
	accounts := map[string]bool{}
	for _, m := range h.merchants {
		accounts[m.SettlesTo] = accounts[m.SettlesTo] || h.in.ready(Bank, m)
	}
	return h.engine.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		others, err := h.otherSettlements(ctx, tx)
		if err != nil {
			return err
		}
		for i := range h.dir.Banks {
			if b := &h.dir.Banks[i]; b.Hospital == h.hospital.Code && accounts[b.Account] {
				if err := h.runAccount(ctx, tx, p, b, others); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// otherSettlements reads the settlements of the days around this one: open ones
// may be met by this statement, and lines that met one of them are taken.
func (h *hospitalRun) otherSettlements(ctx context.Context, tx pgx.Tx) ([]*Settlement, error) {
	rows, err := tx.Query(ctx, `
		SELECT `+legColumns+`
		FROM recon_legs
		WHERE hospital = $1 AND kind = 'SETTLE' AND day BETWEEN $2 AND $3 AND day <> $4 AND lines <> ''`,
		h.hospital.Code, h.day.Add(-settleReach), h.day.Add(settleReach), h.day)
	if err != nil {
		return nil, fmt.Errorf("read settlements: %w", err)
	}
	var out []*Settlement
	err = scanLegs(rows, func(r *legRow) error {
		s, err := h.settlementOf(r)
		if s != nil {
			out = append(out, s)
		}
		return err
	})
	return out, err
}

func (h *hospitalRun) settlementOf(r *legRow) (*Settlement, error) {
	m := h.merchant(r.Channel, r.MerchantNo)
	if m == nil {
		return nil, nil
	}
	s := h.newSettlement(m, r.Day)
	s.Carried = true
	return s, h.recall(s, r)
}

// recall gives a settlement what earlier runs stored of it. What a run of this
// day had tied is left out: the statement of this day is read anew.
func (h *hospitalRun) recall(s *Settlement, r *legRow) error {
	var state settlementState
	if err := json.Unmarshal([]byte(r.text), &state); err != nil {
		return fmt.Errorf("recon: settlement of %s on %s: %w", r.MerchantNo, r.Day, err)
	}
	s.read = r.text
	if s.Carried {
		s.Account, s.Due, s.Expected, s.Fee = state.Account, state.Due, state.Expected, state.Fee
	}
	s.Returned, s.Code = state.Returned, state.Code
	for _, part := range state.Parts {
		if s.again = s.again || part.By == h.day; part.By != h.day {
			s.parts = append(s.parts, part)
			s.Arrived += part.Fen
		}
	}
	return nil
}

func (h *hospitalRun) newSettlement(m *clearing.Merchant, day ledger.Day) *Settlement {
	return &Settlement{Hospital: m.Hospital, Channel: m.Channel, MerchantNo: m.No, Aliases: m.Aliases,
		Account: m.SettlesTo, Mode: string(m.Mode), Day: day, Due: h.dir.Calendar.NextWorkingDay(day), Retained: m.Retained}
}

// due builds what the channels owe the account for this day out of their fund
// bills: the closing balance above what is retained there.
func (h *hospitalRun) due(ctx context.Context, tx pgx.Tx, account string) ([]*Settlement, error) {
	var out []*Settlement
	for _, m := range h.merchants {
		if m.SettlesTo != account || !h.in.fund(m.Channel, m.No) {
			continue
		}
		f, err := FundTotals(ctx, tx, h.hospital.Code, m.Channel, m.No, h.day)
		if err != nil {
			return nil, err
		}
		s := h.newSettlement(m, h.day)
		s.Opening, s.Closing, s.Withdrawn = f.Opening, f.Closing, -(f.Withdrawn + f.WithdrawalReturned)
		s.Fee = -(f.Fee + f.FeeReturn)
		// What the channel did not pay out of yesterday's balance is expected already,
		// as the settlement of that day.
		before := max(f.Opening-m.Retained+min(f.Withdrawn, 0), 0)
		s.Expected = max(f.Closing-m.Retained-before, 0)
		if r, err := readLeg(ctx, tx, s.rowKey()); err != nil {
			return nil, err
		} else if r != nil && r.text != "" {
			if err := h.recall(s, r); err != nil {
				return nil, err
			}
		}
		h.bank.stats[MerchantKey{m.Channel, m.No}] = &BankStats{Opening: s.Opening, Withdrawn: s.Withdrawn, Closing: s.Closing,
			Net: f.Trade + f.Fee + f.Refund + f.FeeReturn + f.Recharged + f.Other, Retained: m.Retained, Expected: s.Expected, Fee: s.Fee, Due: s.Due}
		out = append(out, s)
	}
	return out, nil
}

func (h *hospitalRun) runAccount(ctx context.Context, tx pgx.Tx, p *publication, bank *clearing.BankAccount, others []*Settlement) error {
	due, err := h.due(ctx, tx, bank.Account)
	if err != nil {
		return err
	}
	lines, err := BankLines(ctx, tx, h.hospital.Code, bank.Account, h.bankDay())
	if err != nil {
		return err
	}
	lines, ours := h.withoutPayouts(lines)
	taken := map[string]bool{}
	for _, s := range others {
		for _, part := range s.parts {
			taken[part.Ref] = true
		}
		if s.Account == bank.Account && s.open() > 0 && s.Day < h.day {
			due = append(due, s)
		}
	}
	returned, err := h.returns(ctx, tx, due)
	if err != nil {
		return err
	}
	free := lines[:0]
	for _, s := range due {
		for _, part := range s.parts {
			taken[part.Ref] = true
		}
	}
	for _, l := range lines {
		if !taken[l.Ref] {
			free = append(free, l)
		}
	}
	rules := h.bankRules(bank)
	items, scope := matchBank(rules, due, free)
	if rules.Whole {
		unproved, err := h.unproved(ctx, tx, bank.Account)
		if err != nil {
			return err
		}
		items = slices.Concat(items, ours, unproved)
	}
	h.bank.scope.Lines += scope.Lines
	h.bank.scope.Sum += scope.Sum
	for _, s := range due {
		if st := h.bank.stats[MerchantKey{s.Channel, s.MerchantNo}]; st != nil && !s.Carried {
			st.Arrived, st.BankRefs = s.Arrived, s.allRefs()
		}
		if !s.Carried || len(s.Credits) > 0 || s.Code != "" || s.again || returned[s] {
			h.bank.touched = append(h.bank.touched, s)
		}
	}
	return h.addBankItems(ctx, tx, p, bank, items)
}

// returns finds withdrawals that came back to the channel (提现退票): the balance
// is whole again, and the settlement waits for nothing more.
func (h *hospitalRun) returns(ctx context.Context, tx pgx.Tx, due []*Settlement) (map[*Settlement]bool, error) {
	found := map[*Settlement]bool{}
	for _, m := range h.merchants {
		lines, err := FundLines(ctx, tx, h.hospital.Code, m.Channel, m.No, h.day)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			at := slices.IndexFunc(due, func(s *Settlement) bool {
				return s.Carried && s.Channel == m.Channel && s.MerchantNo == m.No && s.open() == l.Amount
			})
			if l.Kind == channels.FundWithdrawalReturn && at >= 0 {
				due[at].Returned += l.Amount
				found[due[at]] = true
			}
		}
	}
	return found, nil
}

// allRefs are the references of every credit that met the settlement.
func (s *Settlement) allRefs() []string {
	out := []string{}
	for _, part := range s.parts {
		out = append(out, part.Ref)
	}
	for _, c := range s.Credits {
		out = append(out, c.Ref)
	}
	return out
}

func (h *hospitalRun) bankRules(bank *clearing.BankAccount) BankRules {
	r := BankRules{Hospital: h.hospital.Code, Account: bank.Account, Day: h.day, Own: map[string]bool{},
		Whole: h.dir.Calendar.NextWorkingDay(h.day.Add(1)) != h.bankDay(), ModeB: bank.Role == clearing.Custody}
	for _, c := range h.dir.Counterparties {
		r.Parties = append(r.Parties, Counterparty{c.Channel, c.Name, c.Account})
	}
	for i := range h.dir.Banks {
		if h.dir.Banks[i].Hospital == h.hospital.Code {
			r.Own[h.dir.Banks[i].Account] = true
		}
	}
	r.Strange = func(ref string) string { return h.bank.payouts.strange[lineKey{bank.Account, ref}] }
	mine := func(yield func(m *clearing.Merchant) bool) {
		for _, m := range h.merchants {
			if m.SettlesTo == bank.Account && !yield(m) {
				return
			}
		}
	}
	r.Complete = func(channel string) bool {
		for m := range mine {
			if m.Channel == channel && !h.in.fund(m.Channel, m.No) {
				return false
			}
		}
		return true
	}
	r.Waiting = func(channel, words string) (string, bool) {
		for m := range mine {
			named := m.Channel == channel && (strings.Contains(words, m.No) || containsAny(words, m.Aliases))
			if named && !h.in.fund(m.Channel, m.No) {
				return m.No, true
			}
		}
		return "", false
	}
	return r
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}
