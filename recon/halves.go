package recon

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// A payment or refund whose money moved at another hospital's merchant number has
// two halves: the home, whose books and HIS know it, and the holder, whose number
// the bill names. One case, two slices (F9).

// acrossHospitals joins the two halves of a payment whose money went to another
// hospital's number: one case in two slices (F9).
func acrossHospitals(runs []*hospitalRun) {
	owed := map[string]*Leg{}
	for _, h := range runs {
		for _, leg := range h.held {
			if leg.bill == nil && leg.owed() > 0 && !h.engine.noStage["F9"] && !leg.row.settledByPeople() {
				owed[leg.OrderNo+"|"+leg.RefundNo] = leg
			}
		}
	}
	for _, h := range runs {
		for _, leg := range h.held {
			home := owed[leg.OrderNo+"|"+leg.RefundNo]
			if leg.Code != F1 && leg.Code != F5 || home == nil || home.Kind != leg.Kind || home.Hospital == leg.Hospital || home.held(Platform) != leg.held(Channel) {
				continue
			}
			leg.Code, home.Code = F9, F9
			leg.far, home.far = home, leg
			there, here := h.merchant(leg.Channel, leg.MerchantNo), h.merchant(home.Channel, home.MerchantNo)
			leg.inCustody = there.Mode == clearing.ModeB && here.Mode == clearing.ModeB
			home.inCustody = leg.inCustody
			home.caseOf = home.rowKey().caseID()
			leg.caseOf = home.caseOf
			home.Note = note(noteMoneyAt, leg.Hospital+" "+leg.MerchantNo)
			leg.Note = note(noteBelongsTo, home.Hospital+" "+home.MerchantNo)
		}
	}
}

// settledByPeople says whether people have decided the leg as another difference than
// money at another hospital: then that money is a difference of its own.
func (r *legRow) settledByPeople() bool {
	return r != nil && r.Code != F9 && (r.Decided || r.Code.Exception() && !r.Open)
}

// halfEffects is where one half rests until the hospitals have settled it between
// them (spec/accounting.md 3.5). On mode A the holder of a payment is long and its
// home short, by the same; of a refund the holder is short, and the debt stands at
// its home in 2205. In custody both rest in the pending payable, where nothing
// proves them, so that no payout takes them. The coupon of the bill is the home's.
func (leg *Leg) halfEffects() (Effects, ledger.Money) {
	pay := leg.Kind == channels.Pay
	if leg.platform == nil {
		journal, proved := "E18", ledger.Money(0)
		switch {
		case pay && leg.inCustody:
			journal = "E06+J04+J02"
		case pay:
			journal = "E01+J04"
		case leg.inCustody:
			journal, proved = "E18+E19", -leg.bill.Settle
		}
		return Effects{effect(journal, leg.bill.Settle, leg.bill.Fee)}, proved
	}
	p, settle := leg.platform, leg.far.bill.Settle
	coupon := p.Amount - settle
	if !pay {
		e := append(leg.notPaid(), effect("J49c", coupon, 0))
		if leg.inCustody {
			e = append(e, effect("-J18", settle, 0))
		}
		if leg.Kind == channels.Reverse {
			return e, coupon
		}
		return e, coupon - p.Amount
	}
	journal := "E34a"
	if leg.Said[HIS].Present && !leg.Said[HIS].StandIn {
		journal = "E11"
	}
	if leg.inCustody {
		journal += "+E14"
	}
	return append(leg.unpostedPay(), leg.booked(leg.acknowledged()), effect(journal, settle, p.Fee), effect("J49", coupon, 0)), 0
}

// halves is an F9 of two hospitals as its rows tell it.
type halves struct {
	home, holder     *legRow
	homeNo, holderNo *clearing.Merchant
}

// halvesOf reads the halves of the case, nil where all of it is of one hospital.
func (d *decision) halvesOf(ctx context.Context, tx pgx.Tx, c *Case) (*halves, error) {
	rows, err := tx.Query(ctx, `
		SELECT `+legColumns+`
		FROM recon_legs WHERE case_id = $1 AND case_id <> '' ORDER BY hospital`, c.ID)
	if err != nil {
		return nil, fmt.Errorf("read the halves of %s: %w", c.ID, err)
	}
	f := &halves{}
	err = scanLegs(rows, func(r *legRow) error {
		for i := range r.kept {
			switch m, _ := d.dir.Merchant(r.Channel, r.MerchantNo); r.kept[i].Side {
			case Platform:
				f.home, f.homeNo = r, m
			case Channel:
				f.holder, f.holderNo = r, m
			}
		}
		return nil
	})
	if err != nil || f.homeNo == nil || f.holderNo == nil || f.home.Hospital == f.holder.Hospital {
		return nil, err
	}
	return f, nil
}

// inCustody says whether both halves are settle mode B.
func (f *halves) inCustody() bool {
	return f.homeNo.Mode == clearing.ModeB && f.holderNo.Mode == clearing.ModeB
}

// proved is what of the home's pending payable the payment proves once its money
// is there: what HIS booked, less the coupon.
func (f *halves) proved() (fen ledger.Money) {
	if f.home.Kind != channels.Pay {
		return 0 // a refund counted at once
	}
	for _, x := range f.home.Effects {
		switch x.Journal {
		case "J02":
			fen += x.Amount
		case "J49":
			fen -= x.Amount
		}
	}
	return fen
}

// moved is what the holder of the money has of it.
func (f *halves) moved() (fen ledger.Money) {
	for _, x := range f.holder.Effects {
		fen += x.Amount
	}
	return fen
}

// paidOver settles an F9 between two hospitals on mode A: who has the money has paid
// it to the one that it belongs to, on paper, from bank account to bank account
// (E22c). Of a payment that is the holder. Of a refund it is the home: the patient
// has been paid out of the holder's money, so that the home's debt in 2205 is a debt
// to the holder, which -E02 makes of it.
func (d *decision) paidOver(ctx context.Context, b *ledger.Batch, c *Case, open []Suspense) (out []ledger.Entry, moves []move, err error) {
	f, err := d.halvesOf(ctx, b.Tx(), c)
	switch {
	case err != nil:
		return nil, nil, err
	case f == nil:
		return nil, nil, ErrResolution.Because("resolution", "PAID_OVER settles money of one hospital at the number of another; the money of %s never left its hospital", c.ID)
	case f.inCustody():
		return nil, nil, ErrResolution.Because("resolution", "%s and %s are on settle mode B: RE_ROUTED", f.homeNo.Hospital, f.holderNo.Hospital)
	}
	payer, payee := f.holderNo, f.homeNo
	if f.home.Kind != channels.Pay {
		payer, payee = payee, payer
	}
	account, ref := clearing.Long(payer.Hospital), c.ID
	if f.home.Kind != channels.Pay {
		account, ref = clearing.RefundOwed(payer), c.refund()
	}
	has, lacks := restsAt(open, account, ref), restsAt(open, clearing.Short(payee.Hospital), c.ID)
	if has <= 0 || has != lacks {
		return nil, nil, ErrResolution.Because("resolution", "PAID_OVER settles money that is with one hospital and short by the same at another; %s has %s of this case, %s is short of %s",
			payer.Hospital, has, payee.Hospital, lacks)
	}
	if err := d.hasArrived(ctx, b.Tx(), payer, has); err != nil {
		return nil, nil, err
	}
	moves = []move{{m: payer, arrived: -has}, {m: payee, arrived: has, proved: f.proved()}}
	if f.home.Kind != channels.Pay {
		part := *c
		part.Hospital, part.Channel, part.MerchantNo = f.homeNo.Hospital, f.homeNo.Channel, f.homeNo.No
		debt, err := d.entry(&part, "-E02", Suspense{Ref: c.OrderNo, Fen: has})
		if err != nil {
			return nil, nil, err
		}
		out = append(out, debt)
	}
	e := clearing.Event{Day: d.today, Case: c.ID, Maker: c.Maker, Checker: d.Who, Amount: has}
	e.Hospital, _ = d.dir.Hospital(payer.Hospital)
	e.OtherHospital, _ = d.dir.Hospital(payee.Hospital)
	e.Bank, _ = d.dir.Bank(payer.Hospital, payer.SettlesTo)
	e.OtherBank, _ = d.dir.Bank(payee.Hospital, payee.SettlesTo)
	paid, err := clearing.NewEntry(e, "E22c")
	if err != nil {
		return nil, nil, ErrResolution.Because("resolution", "PAID_OVER: %v", err)
	}
	f.done(b)
	return append(out, paid), moves, nil
}

// hasArrived refuses what takes more out of the hospital's account than the channel
// has paid into it: what has not come cannot have been passed on.
func (d *decision) hasArrived(ctx context.Context, tx pgx.Tx, m *clearing.Merchant, fen ledger.Money) error {
	all, err := readRunning(ctx, tx, m.Hospital)
	if err != nil {
		return err
	}
	arrived := ledger.Money(0)
	if r := all[MerchantKey{m.Channel, m.No}]; r != nil {
		arrived = r.arrived
	}
	if arrived < fen {
		return ErrResolution.Because("resolution", "only %s of merchant number %s has reached the account of %s: %s can be settled once the channel has paid it",
			arrived, m.No, m.Hospital, fen)
	}
	return nil
}

// reRouted settles an F9 between two hospitals in custody, before payout: the one
// is owed so much less and the other so much more (E22d).
func (d *decision) reRouted(ctx context.Context, b *ledger.Batch, c *Case) ([]ledger.Entry, []move, error) {
	f, err := d.halvesOf(ctx, b.Tx(), c)
	switch {
	case err != nil:
		return nil, nil, err
	case f == nil || !f.inCustody():
		return nil, nil, ErrResolution.Because("resolution", "RE_ROUTED settles money of one hospital at the number of another, both on settle mode B")
	case f.home.Settled:
		return nil, nil, ErrResolution.Because("resolution", "%s has been re-routed", c.ID)
	}
	from, to, fen := f.holderNo, f.homeNo, f.moved()
	moves := []move{{m: f.homeNo, proved: f.proved()}}
	if f.home.Kind != channels.Pay {
		from, to = to, from
		moves = []move{{m: f.holderNo, proved: fen}}
	}
	e := clearing.Event{Day: d.today, Mode: clearing.ModeB, Case: c.ID, Maker: c.Maker, Checker: d.Who, Amount: fen}
	e.Hospital, _ = d.dir.Hospital(from.Hospital)
	e.OtherHospital, _ = d.dir.Hospital(to.Hospital)
	out, err := clearing.NewEntry(e, "E22d")
	if err != nil {
		return nil, nil, ErrResolution.Because("resolution", "RE_ROUTED: %v", err)
	}
	f.done(b)
	return []ledger.Entry{out}, moves, nil
}

// done notes on both rows that the money is where it belongs.
func (f *halves) done(b *ledger.Batch) {
	b.ExecRows(2, `UPDATE recon_legs SET settled = TRUE WHERE case_id = $1 AND case_id <> '' AND NOT settled`, f.home.CaseID)
}

// homeOf is the case as its home sees it, for what HIS or a refund still has to
// settle of it: what rests in 2204 once the hospitals are even.
func (d *decision) homeOf(ctx context.Context, tx pgx.Tx, c *Case, open []Suspense) (*Case, []Suspense, error) {
	f, err := d.halvesOf(ctx, tx, c)
	switch {
	case err != nil:
		return nil, nil, err
	case f == nil && c.Resolution == "NOTED":
		return c, open, nil
	case f == nil:
		return nil, nil, ErrResolution.Because("resolution", "the money of %s is with its hospital: %s has nothing to settle", c.ID, c.Resolution)
	case f.inCustody() && !f.home.Settled:
		return nil, nil, ErrSuspenseNotNil.Because("case", "%s owes %s %s in 2202: RE_ROUTED settles it", f.holderNo.Hospital, f.homeNo.Hospital, f.moved())
	case c.Resolution == "NOTED":
		return c, open, nil
	}
	waits := restsAt(open, clearing.AwaitingHIS(f.homeNo.Hospital), c.OrderNo)
	if waits <= 0 {
		return nil, nil, ErrResolution.Because("resolution", "HIS has booked %s: %s has nothing to settle", c.OrderNo, c.Resolution)
	}
	home := *c
	home.Hospital, home.Channel, home.MerchantNo = f.homeNo.Hospital, f.homeNo.Channel, f.homeNo.No
	return &home, []Suspense{{Account: clearing.AwaitingHIS(f.homeNo.Hospital), Ref: c.OrderNo, Fen: waits}}, nil
}

// restsAt is what of the suspense stands on the account under the reference.
func restsAt(open []Suspense, account ledger.Account, ref string) (fen ledger.Money) {
	for _, s := range open {
		if s.Account.ID() == account.ID() && s.Ref == ref {
			fen += s.Fen
		}
	}
	return fen
}

// placesOfLegs adds where each leg of the case would rest by its own code.
func (c *Case) placesOfLegs(ctx context.Context, tx pgx.Tx, dir *clearing.Directory, out []place) ([]place, error) {
	rows, err := tx.Query(ctx, `
		SELECT `+legColumns+`
		FROM recon_legs WHERE case_id = $1 AND case_id <> '' ORDER BY hospital, order_no, refund_no`, c.ID)
	if err != nil {
		return nil, fmt.Errorf("read the legs of %s: %w", c.ID, err)
	}
	err = scanLegs(rows, func(r *legRow) error {
		m, ok := dir.Merchant(r.Channel, r.MerchantNo)
		switch {
		case r.Kind == channels.Pay:
			out = append(out, place{clearing.AwaitingHIS(r.Hospital), r.OrderNo})
		case c.Code == F9 && ok:
			out = append(out, place{clearing.RefundOwed(m), c.refund()})
		}
		return nil
	})
	return out, err
}
