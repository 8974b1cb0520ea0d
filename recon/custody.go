package recon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// taken is a debit that the bank made of a custody account by itself. Floors guard
// decisions, never facts (design of the ledger): the line is booked whatever the
// hospital has there, and what its money does not cover rests in 2208. Its CUST
// never falls below zero, and no other hospital's is touched: the bank may have
// paid it out of theirs, but their money is owed to them as before.
type taken struct {
	at      int // in change.post
	journal string
	ev      clearing.Event
}

// cover writes the debits anew with what is there under the lock of the floor.
func (c *change) cover(b *ledger.Batch) error {
	for _, t := range c.taken {
		there := max(b.Available(clearing.BankMoney(t.ev.Bank).ID()), 0)
		t.ev.Short = max(t.ev.Amount-there, 0)
		e, err := clearing.NewEntry(t.ev, t.journal)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", t.journal, t.ev.BankRef, err)
		}
		c.post[t.at] = e
	}
	return nil
}

// bringHome books what the bank had taken ahead of the hospital's custody money out
// of that money, as far as it has come in since (J34); what was booked so and then
// taken off a restated statement goes back.
func (h *hospitalRun) bringHome(ctx context.Context, b *ledger.Batch) error {
	for i := range h.dir.Banks {
		bank := &h.dir.Banks[i]
		if bank.Hospital != h.hospital.Code || bank.Role != clearing.Custody {
			continue
		}
		open, err := h.takenAhead(ctx, b, bank)
		if err != nil {
			return err
		}
		for _, ref := range slices.Sorted(maps.Keys(open)) {
			ev := clearing.Event{Bank: bank, Day: h.bankDay(), Payout: ref, Maker: maker}
			journal := "-J34"
			if ev.Amount = -open[ref]; ev.Amount < 0 {
				journal, ev.Amount = "J34", min(open[ref], b.Available(clearing.BankMoney(bank).ID()))
			}
			if ev.Amount <= 0 {
				continue
			}
			if err := post(b, ev, journal); err != nil {
				return err
			}
		}
	}
	return nil
}

// takenAhead is what rests in 2208 of the account by case, with what this run posts
// and undoes there; a payout stands there by its own number, and its line proves it.
func (h *hospitalRun) takenAhead(ctx context.Context, b *ledger.Batch, bank *clearing.BankAccount) (map[string]ledger.Money, error) {
	account := clearing.BankPayment(bank).ID()
	items, err := ledger.OpenItems(ctx, b.Tx(), account)
	if err != nil {
		return nil, fmt.Errorf("read what the bank has taken ahead: %w", err)
	}
	open := map[string]ledger.Money{}
	for _, item := range items {
		if strings.HasPrefix(item.Ref, "case_") {
			open[item.Ref] = item.Amount()
		}
	}
	add := func(e ledger.Entry, sign ledger.Money) {
		for _, p := range e.Postings() {
			if p.Credit.Account == account {
				open[p.Credit.Ref] += sign * p.Amount
			}
		}
	}
	for _, c := range h.bank.rows {
		for _, e := range c.post {
			add(e, 1)
		}
		for _, x := range c.undo {
			e, _, err := ledger.EntryAt(ctx, b.Tx(), x.at)
			if err != nil {
				return nil, err
			}
			add(e, -1)
		}
	}
	return open, nil
}
