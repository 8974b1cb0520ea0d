package recon

import (
	"context"
	"encoding/json"
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
	if err := h.bankPayouts(ctx); err != nil {
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

// addBankItems lists the bank's items and prepares the rows of lines that are no
// settlements; lines that an earlier version listed and this one does not are
// undone.
func (h *hospitalRun) addBankItems(ctx context.Context, tx pgx.Tx, p *publication, bank *clearing.BankAccount, items []*BankItem) error {
	old := map[string]*legRow{}
	rows, err := tx.Query(ctx, `
		SELECT `+legColumns+`
		FROM recon_legs
		WHERE hospital = $1 AND day = $2 AND order_no = $3 AND kind = 'BANK'`, h.hospital.Code, h.day, bank.Account)
	if err != nil {
		return fmt.Errorf("read bank rows: %w", err)
	}
	if err := scanLegs(rows, func(r *legRow) error { old[r.RefundNo] = r; return nil }); err != nil {
		return err
	}
	for _, item := range items {
		key := legKeyRow{Hospital: h.hospital.Code, Day: h.day, OrderNo: bank.Account, Kind: kindBank, RefundNo: item.Ref}
		if item.settlement != nil {
			key = item.settlement.rowKey()
		}
		it := item.item(key)
		p.items = append(p.items, it)
		if it.Code.Exception() {
			p.cases = append(p.cases, it)
		}
		if item.settlement != nil {
			continue
		}
		row := &legRow{legKeyRow: key, Channel: item.Channel, MerchantNo: item.MerchantNo, Code: item.Code, D: item.Amount,
			Open: item.Code.Exception() && len(item.Effects) > 0, Effects: item.Effects, text: "bank"}
		if item.Code.Exception() {
			row.CaseID = key.caseID()
		}
		if err := h.bankChange(bank, row, old[item.Ref], item.Ref); err != nil {
			return err
		}
		delete(old, item.Ref)
	}
	for ref, r := range old {
		gone := &legRow{legKeyRow: r.legKeyRow, Channel: r.Channel, MerchantNo: r.MerchantNo}
		if r.CaseID != "" {
			p.closed = append(p.closed, r.CaseID)
		}
		if err := h.bankChange(bank, gone, r, ref); err != nil {
			return err
		}
	}
	return nil
}

func (h *hospitalRun) bankChange(bank *clearing.BankAccount, row, old *legRow, ref string) error {
	c, err := h.bankEffects(bank, nil, row, old, ref)
	if err != nil {
		return err
	}
	if !c.same() {
		h.bank.rows = append(h.bank.rows, c)
	}
	return nil
}

// bankEffects builds the change of a bank row or a settlement.
func (h *hospitalRun) bankEffects(bank *clearing.BankAccount, m *clearing.Merchant, row, old *legRow, ref string) (*change, error) {
	c := &change{row: row, old: old, day: h.bankDay()}
	if old != nil && old.Code.Exception() && !old.Open && row.Kind == kindBank {
		kept := *old
		c.row = &kept
		return c, nil
	}
	var stands Effects
	if old != nil {
		stands = old.Effects
	}
	c.undo = stands.minus(row.Effects)
	kept := stands.minus(c.undo)
	missing := row.Effects.minus(stands)
	row.Effects = append(append(Effects{}, kept...), missing...)
	for i, x := range missing {
		ev := clearing.Event{Merchant: m, Hospital: h.hospital, Bank: bank, Day: c.day, Amount: x.Amount, Fee: x.Fee,
			BankRef: ref, Maker: maker, Case: row.CaseID}
		if m != nil {
			ev.Settlement = settlementRef(m, row.Day)
		}
		if x.Journal == "E27b" {
			ev.Short = -row.D
		}
		e, err := clearing.NewEntry(ev, x.Journal)
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", x.Journal, ref, err)
		}
		if bank.Role == clearing.Custody && (x.Journal == "E39" || x.Journal == "J35b") {
			c.taken = append(c.taken, taken{at: len(c.post), journal: x.Journal, ev: ev})
		}
		c.post, c.slots = append(c.post, e), append(c.slots, len(kept)+i)
	}
	return c, nil
}

func (s *Settlement) rowKey() legKeyRow {
	return legKeyRow{Hospital: s.Hospital, Day: s.Day, OrderNo: settleOrder, Kind: kindSettle, RefundNo: s.Channel + "|" + s.MerchantNo}
}

// settlements writes the settlement rows: what this run found of the bank, and
// what is proved of each merchant number's days.
func (p *publication) settlements(ctx context.Context, b *ledger.Batch, all map[MerchantKey]*running) error {
	h := p.h
	touched := map[settleDay]*Settlement{}
	for _, s := range h.bank.touched {
		touched[settleDay{s.Channel, s.MerchantNo, s.Day}] = s
	}
	days := map[settleDay]bool{}
	for k := range touched {
		days[k] = true
	}
	for k := range h.proved {
		days[k] = true
	}
	var changes []*change
	for k := range days {
		m := h.merchant(k.channel, k.no)
		if m == nil {
			continue
		}
		mk := MerchantKey{k.channel, k.no}
		if all[mk] == nil {
			all[mk] = &running{}
		}
		c, err := p.settlement(ctx, b, m, k.day, touched[k], all[mk])
		if err != nil {
			return err
		}
		if c != nil && !c.same() {
			changes = append(changes, c)
		}
	}
	if err := apply(ctx, b, changes); err != nil {
		return err
	}
	// What arrived comes first: a debit of custody may take from it.
	var rows []*change
	for _, c := range h.bank.rows {
		if len(c.taken) == 0 {
			rows = append(rows, c)
		}
	}
	if err := apply(ctx, b, rows); err != nil {
		return err
	}
	for _, c := range h.bank.rows {
		if len(c.taken) == 0 {
			continue
		}
		if err := c.cover(b); err != nil {
			return err
		}
		if err := apply(ctx, b, []*change{c}); err != nil {
			return err
		}
	}
	return nil
}

func (p *publication) settlement(ctx context.Context, b *ledger.Batch, m *clearing.Merchant, day ledger.Day, s *Settlement, r *running) (*change, error) {
	h := p.h
	key := (&Settlement{Hospital: m.Hospital, Channel: m.Channel, MerchantNo: m.No, Day: day}).rowKey()
	old, err := readLeg(ctx, b.Tx(), key)
	if err != nil {
		return nil, err
	}
	row := &legRow{legKeyRow: key, Channel: m.Channel, MerchantNo: m.No}
	was := settlementState{}
	if old != nil {
		copied := *old
		row, row.legKeyRow = &copied, key
		if old.text != "" {
			if err := json.Unmarshal([]byte(old.text), &was); err != nil {
				return nil, fmt.Errorf("recon: settlement of %s: %w", m.No, err)
			}
		}
	}
	if h.trade {
		k := settleDay{m.Channel, m.No, day}
		delta := h.proved[k]
		if day == h.day {
			delta -= row.Proved
		}
		row.Proved += delta
		r.provedNow += delta
	}
	if s == nil {
		return &change{row: row, old: old, day: h.day}, nil
	}
	if row.text != s.read {
		return nil, fmt.Errorf("%w: the settlement of %s on %s was changed while the run was matching", ledger.ErrStale, m.No, day)
	}
	r.arrived += s.Arrived - was.Arrived
	r.settledFee += s.Fee - was.Fee
	return p.settled(m, s, row, old)
}

// settled fills in the row of a settlement that the bank pair has seen.
func (p *publication) settled(m *clearing.Merchant, s *Settlement, row, old *legRow) (*change, error) {
	h := p.h
	refs, parts := s.allRefs(), slices.Clone(s.parts)
	for _, c := range s.Credits {
		parts = append(parts, creditPart{Ref: c.Ref, Fen: c.Amount, By: h.day})
	}
	text, err := json.Marshal(settlementState{Account: s.Account, Due: s.Due, Expected: s.Expected, Fee: s.Fee,
		Arrived: s.Arrived, Returned: s.Returned, Parts: parts, Code: s.Code})
	if err != nil {
		return nil, err
	}
	row.text = string(text)
	row.Code, row.D = s.Code, -s.open()
	row.Open = s.open() > 0
	row.Settled = s.Arrived > 0 && s.Arrived >= s.Expected
	row.Effects = s.effects()
	row.CaseID = ""
	if s.Code.Exception() {
		row.CaseID = row.caseID()
	}
	if old != nil && old.CaseID != "" && row.CaseID == "" {
		p.closed = append(p.closed, old.CaseID)
	}
	bank, ok := h.dir.Bank(m.Hospital, s.Account)
	if !ok {
		return nil, fmt.Errorf("recon: %s settles to %s, which is no account of %s", m.No, s.Account, m.Hospital)
	}
	ref := ""
	if len(refs) > 0 {
		ref = refs[len(refs)-1]
	}
	return h.bankEffects(bank, m, row, old, ref)
}

// readLeg returns what stands of one leg, nil where no run has seen it.
func readLeg(ctx context.Context, tx pgx.Tx, k legKeyRow) (*legRow, error) {
	rows, err := tx.Query(ctx, `
		SELECT `+legColumns+`
		FROM recon_legs
		WHERE hospital = $1 AND day = $2 AND order_no = $3 AND kind = $4 AND refund_no = $5`,
		k.Hospital, k.Day, k.OrderNo, k.Kind, k.RefundNo)
	if err != nil {
		return nil, fmt.Errorf("read a leg: %w", err)
	}
	var out *legRow
	err = scanLegs(rows, func(r *legRow) error { out = r; return nil })
	return out, err
}

// settledDays are the merchant days whose money has become the hospital's own.
func settledDays(ctx context.Context, tx pgx.Tx, hospital string) (map[settleDay]bool, error) {
	rows, err := tx.Query(ctx, `
		SELECT channel, merchant_no, day FROM recon_legs
		WHERE hospital = $1 AND order_no = 'settlement' AND kind = 'SETTLE' AND settled`, hospital)
	if err != nil {
		return nil, fmt.Errorf("read settled days: %w", err)
	}
	out := map[settleDay]bool{}
	var k settleDay
	_, err = pgx.ForEachRow(rows, []any{&k.channel, &k.no, &k.day}, func() error { out[k] = true; return nil })
	return out, err
}
