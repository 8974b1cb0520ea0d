package payout

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Controls are what Verify checks of payouts against the ledger: each amount in
// flight, frozen, returned or on its way stands on its account under the payout's
// number, and nothing else does.
func Controls() []ledger.Control {
	return []ledger.Control{
		{Name: "2208 = payouts sent or unknown", Check: compareItems([]string{"2208."}, inFlight)},
		{Name: "2202.FROZEN = payouts requested or returned", Check: checkFrozen},
		{Name: "2244 = 0", Check: compareItems([]string{"2244."}, nil)},
		{Name: "1127 = transfers without credit line", Check: compareItems([]string{"1127."}, onTheWay)},
		{Name: "payload hashes", Check: checkPayloads},
	}
}

// place is an account and the reference under which an amount is open there.
type place struct{ code, ref string }

func inFlight(p *Payout, d *clearing.Directory) (string, bool) {
	if !p.charged || p.Kind == Recharge || p.DebitRef != "" || p.State == Rejected {
		return "", false
	}
	for _, owner := range []string{p.Hospital, ""} {
		if bank, ok := d.Bank(owner, p.From); ok {
			return clearing.BankPayment(bank).Code(), true
		}
	}
	return "", false
}

func isFrozen(p *Payout, _ *clearing.Directory) (string, bool) {
	waits := p.State == Requested || (p.State == Approved && !p.charged)
	return clearing.Frozen(p.Hospital).Code(), p.Kind == Hospital && (waits || p.Frozen)
}

func onTheWay(p *Payout, _ *clearing.Directory) (string, bool) {
	if p.ArrivedRef != "" || p.CreditRef != "" || p.State == Rejected || !p.charged {
		return "", false
	}
	if p.Kind == Recharge {
		return clearing.Recharge(p.Hospital).Code(), p.DebitRef != ""
	}
	return "1127.OWN", p.Kind == FeeTopUp
}

// checkFrozen compares 2202.FROZEN, which shares its family with PEND and AVAIL.
func checkFrozen(ctx context.Context, tx pgx.Tx) ([]ledger.Finding, error) {
	d, err := clearing.LoadMerchants(ctx, tx)
	if err != nil {
		return nil, err
	}
	var codes []string
	for i := range d.Hospitals {
		codes = append(codes, clearing.Frozen(d.Hospitals[i].Code).Code())
	}
	return compareItems(codes, isFrozen)(ctx, tx)
}

// compareItems compares the open items of accounts whose codes begin so with the
// payouts that say they stand there.
func compareItems(prefixes []string, stands func(*Payout, *clearing.Directory) (string, bool)) func(context.Context, pgx.Tx) ([]ledger.Finding, error) {
	return func(ctx context.Context, tx pgx.Tx) ([]ledger.Finding, error) {
		d, err := clearing.LoadMerchants(ctx, tx)
		if err != nil {
			return nil, err
		}
		differ := map[place]ledger.Money{}
		for _, prefix := range prefixes {
			items, err := ledger.OpenItemsByCode(ctx, tx, clearing.PlatformBook, prefix)
			if err != nil {
				return nil, err
			}
			for _, item := range items {
				differ[place{item.Code, item.Ref}] += item.Amount()
			}
		}
		if stands != nil {
			list, err := payoutsWhere(ctx, tx, `p.state NOT IN ('REFUSED')`)
			if err != nil {
				return nil, err
			}
			for i := range list {
				if code, ok := stands(&list[i], d); ok {
					differ[place{code, list[i].Number}] -= list[i].Amount
				}
			}
		}
		var found []ledger.Finding
		keys := slices.SortedFunc(maps.Keys(differ), func(a, b place) int { return bytes.Compare([]byte(a.code+a.ref), []byte(b.code+b.ref)) })
		for _, key := range keys {
			if differ[key] != 0 {
				found = append(found, ledger.Finding{Subject: key.code + " under " + key.ref, Detail: fmt.Sprintf("the books have %s more than the payouts say", differ[key])})
			}
		}
		return found, nil
	}
}

// checkPayloads: what stands in a row is what was frozen.
func checkPayloads(ctx context.Context, tx pgx.Tx) ([]ledger.Finding, error) {
	list, err := payoutsWhere(ctx, tx, `TRUE`)
	if err != nil {
		return nil, err
	}
	byID, err := payeesByID(ctx, tx, pointers(list))
	if err != nil {
		return nil, err
	}
	var found []ledger.Finding
	for i := range list {
		p := &list[i]
		if !bytes.Equal(p.payloadHash(byID[p.Payee]), p.Payload) {
			found = append(found, ledger.Finding{Subject: "payout " + p.Number, Detail: "payee, amount, purpose or references were edited: they do not give the frozen hash"})
		}
	}
	return found, nil
}
