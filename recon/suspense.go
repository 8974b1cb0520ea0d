package recon

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	return resting(ctx, tx, places)
}

// Resting is what rests under each of the cases, by its number, where anything does.
// An account is read as a whole, so many cases are asked about at once.
func (e *Engine) Resting(ctx context.Context, ids []string) (rests map[string][]Suspense, err error) {
	err = e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		dir, err := clearing.LoadMerchants(ctx, tx)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, readCase+` WHERE id = ANY($1::TEXT[]) ORDER BY id`, ids)
		if err != nil {
			return err
		}
		cases, err := pgx.CollectRows(rows, scanCase)
		if err != nil {
			return err
		}
		var places []place
		var whose []string
		for i := range cases {
			c := &cases[i]
			if err := c.readDebt(ctx, tx); err != nil {
				return err
			}
			own, err := c.places(ctx, tx, dir)
			if err != nil {
				return err
			}
			places, whose = append(places, own...), append(whose, slices.Repeat([]string{c.ID}, len(own))...)
		}
		all, err := resting(ctx, tx, places)
		rests = map[string][]Suspense{}
		for i, s := range all {
			if s.Fen != 0 {
				rests[whose[i]] = append(rests[whose[i]], s)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what rests under %d cases: %w", len(ids), err)
	}
	return rests, nil
}

// resting reads each account of the places once.
func resting(ctx context.Context, tx pgx.Tx, places []place) ([]Suspense, error) {
	type spot struct {
		account ledger.AccountID
		ref     string
	}
	refs := map[ledger.AccountID][]string{}
	for _, p := range places {
		refs[p.account.ID()] = append(refs[p.account.ID()], p.ref)
	}
	rests := map[spot]ledger.Money{}
	for account, those := range refs {
		items, err := ledger.OpenItems(ctx, tx, account, those...)
		if err != nil {
			return nil, fmt.Errorf("read suspense: %w", err)
		}
		for _, item := range items {
			rests[spot{account, item.Ref}] += item.Amount()
		}
	}
	out := make([]Suspense, len(places))
	for i, p := range places {
		out[i] = Suspense{Account: p.account, Ref: p.ref, Fen: rests[spot{p.account.ID(), p.ref}]}
	}
	return out, nil
}

// readDebt reads the number of the debt that the case's refund was to pay.
func (c *Case) readDebt(ctx context.Context, tx pgx.Tx) error {
	err := tx.QueryRow(ctx, `
		SELECT debt_no FROM refunds WHERE hospital = $1 AND kind = 'REFUND' AND refund_no = $2 AND created_at IS NOT NULL`, c.Hospital, c.RefundNo).Scan(&c.debt)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read the debt of case %s: %w", c.ID, err)
	}
	return nil
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
