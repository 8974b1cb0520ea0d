package payout

import (
	"context"
	"errors"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// sentBy is the journal that a kind posts when it is sent; a recharge posts with
// its bank line (J50a).
var sentBy = map[Kind]string{Hospital: "J33", Subsidy: "J29", Compensation: "E08b", ReroutedRefund: "J39", FeeTopUp: "J27a"}

// post writes journals of the payout as one entry. What the manual forbids is a
// refusal.
func (p *Payout) post(b *ledger.Batch, d *clearing.Directory, day ledger.Day, journals ...string) (ledger.EntryID, error) {
	h, _ := d.Hospital(p.Hospital)
	e := clearing.Event{Hospital: h, Mode: p.Mode, Day: day, Amount: p.Amount, Payout: p.Number, Contract: p.Contract, Maker: p.Maker, Checker: p.Checker}
	for _, owner := range []string{p.Hospital, ""} {
		if bank, ok := d.Bank(owner, p.From); ok && e.Bank == nil {
			e.Bank = bank
		}
	}
	switch p.Kind {
	case Subsidy:
		e.Settlement = p.Subject
	case Compensation:
		e.Case = p.Subject
	case ReroutedRefund:
		e.Refund = p.Subject
	}
	if p.MerchantNo != "" {
		e.Merchant, _ = d.Merchant(p.Channel, p.MerchantNo)
	}
	entry, err := clearing.NewEntry(e, journals...)
	if errors.Is(err, clearing.ErrForbidden) {
		return ledger.EntryID{}, ErrForbidden.Because("kind", "%s", err.Error())
	}
	if err != nil {
		return ledger.EntryID{}, err
	}
	return b.Post(entry)
}

// arrive writes the journal of money that came to its end at another account.
func (p *Payout) arrive(b *ledger.Batch, d *clearing.Directory, to *clearing.BankAccount, day ledger.Day) (ledger.EntryID, error) {
	h, _ := d.Hospital(p.Hospital)
	e := clearing.Event{Hospital: h, Bank: to, Mode: p.Mode, Day: day, Amount: p.Amount, Payout: p.Number, Maker: p.Maker, Checker: p.Checker}
	journal := "J27b"
	if p.Kind == Recharge {
		journal = "J50b"
		e.Merchant, _ = d.Merchant(p.Channel, p.MerchantNo)
	}
	entry, err := clearing.NewEntry(e, journal)
	if err != nil {
		return ledger.EntryID{}, err
	}
	return b.Post(entry)
}

// takeBack reverses entries of the payout, the last first: what the manual has no
// journal for is a reversing entry (红冲) of what was posted.
func (p *Payout) takeBack(ctx context.Context, b *ledger.Batch, day ledger.Day, entries ...ledger.EntryID) error {
	for _, id := range entries {
		if id == (ledger.EntryID{}) {
			continue
		}
		entry, _, err := ledger.EntryAt(ctx, b.Tx(), id)
		if err != nil {
			return err
		}
		head := entry.Head()
		head.ValueDay = day
		reversal, err := entry.Reverse(id, head)
		if err != nil {
			return err
		}
		if _, err := b.Post(reversal); err != nil {
			return err
		}
	}
	return nil
}

// fail puts back what a transfer that never was had taken (J36). Where the
// account was wrong the money stays frozen, in the form of J38.
func (p *Payout) fail(ctx context.Context, b *ledger.Batch, d *clearing.Directory, day ledger.Day, frozen bool) (err error) {
	switch {
	case p.Kind != Hospital:
		err = errors.Join(p.takeBack(ctx, b, day, p.sentEntry), p.reroute(ctx, b, true))
	case frozen:
		err = p.freeze(ctx, b, d, day, "J36", "J31")
	default:
		_, err = p.post(b, d, day, "J36")
	}
	return err
}

// freeze posts what came back into FROZEN, where it stays until the account of the
// payee is changed (then J32); where it was changed already nothing is left to
// wait for.
func (p *Payout) freeze(ctx context.Context, b *ledger.Batch, d *clearing.Directory, day ledger.Day, journals ...string) error {
	payee, err := payeesWhere(ctx, b.Tx(), `id = $1 AND state = 'REPLACED'`, p.Payee)
	if err != nil {
		return err
	}
	p.Frozen = len(payee) == 0
	if !p.Frozen {
		journals = append(journals, "J32")
	}
	_, err = p.post(b, d, day, journals...)
	return err
}
