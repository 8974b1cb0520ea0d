package recon

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// place is where an open amount of a case may rest.
type place struct {
	account ledger.Account
	ref     string
}

// places lists where the open amount of a case rests (spec/accounting.md 3.5): by
// case on 1221, 2241 and 1222, by order on 2204, by refund on 2205, by settlement
// on 1124, by bank reference on 2243. A case of several legs rests with each.
func (c *Case) places(ctx context.Context, tx pgx.Tx, dir *clearing.Directory) ([]place, error) {
	var out []place
	for i := range dir.Hospitals {
		h := dir.Hospitals[i].Code
		if h == c.Hospital || c.Code == F9 {
			out = append(out, place{clearing.Short(h), c.ID}, place{clearing.Long(h), c.ID}, place{clearing.Dispute(h), c.ID})
		}
	}
	m, ok := dir.Merchant(c.Channel, c.MerchantNo)
	switch c.Code {
	case F9, F12:
		return c.placesOfLegs(ctx, tx, dir, out)
	case F2, I1, Backfill, PaidTwice, Phantom, I7, I8, I5, Restated:
		if c.Kind == channels.Pay {
			out = append(out, place{clearing.AwaitingHIS(c.Hospital), c.OrderNo})
		}
	case BankMissing, BankShort:
		if ok {
			out = append(out, place{clearing.Withdrawn(m), settlementRef(m, c.Day)})
		}
	case BankUnidentified, BankOver:
		for i := range dir.Banks {
			if dir.Banks[i].Hospital == c.Hospital {
				out = append(out, place{clearing.Unidentified(&dir.Banks[i]), c.BankRef})
			}
		}
	}
	switch c.Code {
	case F4, F6, I4, I6, Backfill, Phantom, Restated:
		if ok && c.Kind != channels.Pay {
			out = append(out, place{clearing.RefundOwed(m), c.refund()})
		}
	}
	return out, nil
}

// suspense is what rests at the places of a case; zero where nothing does.
func suspense(ctx context.Context, tx pgx.Tx, dir *clearing.Directory, c *Case) ([]Suspense, error) {
	places, err := c.places(ctx, tx, dir)
	if err != nil {
		return nil, err
	}
	out := make([]Suspense, len(places))
	for i, p := range places {
		out[i] = Suspense{Account: p.account, Ref: p.ref}
		items, err := ledger.OpenItems(ctx, tx, p.account.ID(), p.ref)
		if err != nil {
			return nil, fmt.Errorf("read the suspense of %s: %w", c.ID, err)
		}
		for _, item := range items {
			out[i].Fen += item.Amount()
		}
	}
	return out, nil
}

// refund is the number under which the case's refund is owed: a reversal goes by
// the number of its order, what has no number yet by that of the case.
func (c *Case) refund() string {
	switch {
	case c.debt != "":
		return c.debt
	case c.Kind == channels.Reverse:
		return c.OrderNo
	case c.RefundNo == "":
		return debtOf(c.ID)
	}
	return c.RefundNo
}

// debtOf is the number of a debt to a patient until its refund is sent.
func debtOf(caseID string) string { return "rf_" + strings.TrimPrefix(caseID, "case_") }

// suspenses prints amounts and accounts.
type suspenses []Suspense

// String prints "6.00 on 2241.H1 under case_…".
func (s suspenses) String() string {
	parts := make([]string, len(s))
	for i, x := range s {
		parts[i] = fmt.Sprintf("%s on %s under %s", x.Fen, x.Account, x.Ref)
	}
	return strings.Join(parts, ", ")
}

// afterPosting is what rests at the places once the entries are posted.
func afterPosting(open []Suspense, entries []ledger.Entry) suspenses {
	var left suspenses
	for _, s := range open {
		for _, e := range entries {
			for _, p := range e.Postings() {
				grow, shrink := p.Debit, p.Credit
				if s.Account.Type().NormalSide() == ledger.Credit {
					grow, shrink = shrink, grow
				}
				if grow.Account == s.Account.ID() && grow.Ref == s.Ref {
					s.Fen += p.Amount
				}
				if shrink.Account == s.Account.ID() && shrink.Ref == s.Ref {
					s.Fen -= p.Amount
				}
			}
		}
		if s.Fen != 0 {
			left = append(left, s)
		}
	}
	return left
}
