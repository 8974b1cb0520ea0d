package recon

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

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
			ev.Settlement, ev.Trade = settlementRef(m, row.Day), row.Day
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
	// A fee that the hospital bears was taken out of what is pending (J04b): so much
	// less of it is to be released.
	if fee := s.Fee - was.Fee; m.BearerOn(day) == clearing.ByHospital {
		r.provedNow -= fee
	} else {
		r.settledFee += fee
	}
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
