package payout

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// owed compares with what the books owe under the subject, less what other
// payouts that wait would pay of it.
func (d *desk) owed(ctx context.Context, p *Payout) error {
	for _, other := range d.asked {
		if p.Subject != "" && other.Hospital == p.Hospital && other.Kind == p.Kind && other.Subject == p.Subject {
			return waitsAlready(p, other.Number)
		}
	}
	if p.Subject != "" {
		before, err := payoutsWhere(ctx, d.b.Tx(), `p.hospital = $1 AND p.kind = $2 AND p.subject = $3 AND p.state IN ('REQUESTED', 'APPROVED')`, p.Hospital, string(p.Kind), p.Subject)
		if err != nil {
			return err
		}
		if len(before) > 0 {
			return waitsAlready(p, before[0].Number)
		}
	}
	if p.Kind == Recharge {
		return p.ownMoney(ctx, d.b.Tx(), d.Directory, 0)
	}
	return p.stillOwed(ctx, d.b.Tx(), d.Directory)
}

func waitsAlready(p *Payout, number string) error {
	return ErrOwed.Because("subject", "payout %s for %s waits already", number, p.Subject)
}

// stillOwed says by how much the books owe less than the payout pays.
func (p *Payout) stillOwed(ctx context.Context, tx pgx.Tx, d *clearing.Directory) error {
	var owes []ledger.Account
	sign := ledger.Money(1)
	switch p.Kind {
	case Subsidy:
		owes = []ledger.Account{clearing.SubsidyOwed(p.Hospital)}
	case Compensation:
		owes = []ledger.Account{clearing.Compensation(p.Hospital)}
	case ReroutedRefund:
		m, _ := d.Merchant(p.Channel, p.MerchantNo)
		owes = []ledger.Account{clearing.RefundOwed(m), clearing.RefundTaken(m)}
	}
	var left ledger.Money
	for _, account := range owes {
		items, err := ledger.OpenItems(ctx, tx, account.ID(), p.Subject)
		if err != nil {
			return err
		}
		for _, item := range items {
			left += sign * item.Amount()
		}
		sign = -1 // what the channel has taken of a refund is on its way to the patient
	}
	if len(owes) > 0 && left < p.Amount {
		return ErrOwed.Because("amount", "%s owes %s for %s, %s is asked", owes[0].Code(), left, p.Subject, p.Amount)
	}
	if p.Kind == ReroutedRefund {
		return p.mayReroute(ctx, tx, left)
	}
	return nil
}

// ownMoney: from a custody account a hospital's payouts take at most what custody
// holds of that hospital (spec 3.1, prohibition 4; J50a), less what is on its way
// out and what leaves in the same batch. 2208 has what was sent; a recharge posts
// with its bank line and is counted by its row.
func (p *Payout) ownMoney(ctx context.Context, tx pgx.Tx, d *clearing.Directory, leaving ledger.Money) error {
	bank, ok := d.Bank(p.Hospital, p.From)
	if !ok || bank.Role != clearing.Custody {
		return nil
	}
	left, err := heldOf(ctx, tx, bank, p.Number)
	if err != nil {
		return err
	}
	left -= leaving
	if p.charged && p.Kind != Recharge {
		left += p.Amount // its own, which is sent again
	}
	if left < p.Amount {
		return ErrCustody.Because("amount", "%s holds %s of hospital %s that is not on its way out, %s is asked", p.From, left, p.Hospital, p.Amount)
	}
	return nil
}

// heldOf is what custody has of a hospital and is not on its way out; the payout of
// that number is not counted where it is a recharge.
func heldOf(ctx context.Context, tx pgx.Tx, bank *clearing.BankAccount, number string) (left ledger.Money, err error) {
	for account, sign := range map[ledger.Account]ledger.Money{clearing.BankMoney(bank): 1, clearing.BankPayment(bank): -1} {
		balance, err := ledger.BalanceAt(ctx, tx, account.ID(), ledger.AsOf{})
		if err != nil {
			return 0, err
		}
		left += sign * balance.Balance()
	}
	recharges, err := payoutsWhere(ctx, tx, `p.hospital = $1 AND p.from_account = $2 AND p.kind = 'RECHARGE' AND p.charged AND p.debit_ref = '' AND p.state <> 'REJECTED' AND p.number <> $3`,
		bank.Hospital, bank.Account, number)
	for i := range recharges {
		left -= recharges[i].Amount
	}
	return left, err
}

// Payable is what a hospital of mode B may be paid out of a custody account.
type Payable struct {
	Hospital, Account string
	Released          ledger.Money // 2202.AVAIL
	Held              ledger.Money // what custody has of it and is not on its way out
}

// Payable lists what each hospital of settle mode B may be paid now (K02).
func (ps *Payouts) Payable(ctx context.Context) (list []Payable, err error) {
	err = ps.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		list = nil
		d, err := clearing.LoadMerchants(ctx, tx)
		if err != nil {
			return err
		}
		for i := range d.Banks {
			bank := &d.Banks[i]
			if bank.Role != clearing.Custody {
				continue
			}
			released, err := ledger.BalanceAt(ctx, tx, clearing.Available(bank.Hospital).ID(), ledger.AsOf{})
			if err != nil {
				return err
			}
			held, err := heldOf(ctx, tx, bank, "")
			if err != nil {
				return err
			}
			list = append(list, Payable{bank.Hospital, bank.Account, released.Balance(), held})
		}
		return nil
	})
	return list, err
}

// Debt is what the books owe under one subject.
type Debt struct {
	Subject string
	Amount  ledger.Money
}

// Subsidies lists what 2242 owes a hospital, by settlement: what subsidy payouts
// may be asked for. Below zero more fee was returned than billed.
func (ps *Payouts) Subsidies(ctx context.Context, hospital string) (list []Debt, err error) {
	err = ps.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		list = nil
		items, err := ledger.OpenItems(ctx, tx, clearing.SubsidyOwed(hospital).ID())
		for _, item := range items {
			list = append(list, Debt{item.Ref, item.Amount()})
		}
		return err
	})
	return list, err
}
