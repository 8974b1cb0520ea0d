package recon

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Controls are what Verify checks of reconciliation against the ledger: suspense
// is carried by open cases and by nothing else, and what was released and made
// the hospitals' own is what the running sums say.
func Controls() []ledger.Control {
	return []ledger.Control{
		{Name: "suspense = open cases", Check: checkSuspense},
		{Name: "2202.AVAIL = released − own", Check: checkReleased},
		{Name: "1124 = settlements on their way", Check: checkOnTheWay},
	}
}

// checkSuspense finds open amounts of short, long and dispute suspense whose case
// is closed or does not exist.
func checkSuspense(ctx context.Context, tx pgx.Tx) ([]ledger.Finding, error) {
	var items []ledger.OpenItem
	var refs []string
	for _, prefix := range []string{"1221.", "1222.", "2241."} {
		open, err := ledger.OpenItemsByCode(ctx, tx, clearing.PlatformBook, prefix)
		if err != nil {
			return nil, err
		}
		for _, item := range open {
			items, refs = append(items, item), append(refs, item.Ref)
		}
	}
	rows, err := tx.Query(ctx, `SELECT id, state FROM recon_cases WHERE id = ANY($1::TEXT[])`, refs)
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	states := map[string]CaseState{}
	var id string
	var state CaseState
	if _, err := pgx.ForEachRow(rows, []any{&id, &state}, func() error { states[id] = state; return nil }); err != nil {
		return nil, err
	}
	var found []ledger.Finding
	for _, item := range items {
		switch states[item.Ref] {
		case CaseOpen, CaseProposed, CaseApproved:
		default:
			found = append(found, ledger.Finding{Subject: item.Code + " under " + item.Ref,
				Detail: fmt.Sprintf("%s is open, and no open case carries it", item.Amount())})
		}
	}
	return found, nil
}

// checkReleased compares AVAIL of the hospitals with the running sums. In mode B
// payouts take from AVAIL as well, and nothing is made the hospital's own here.
func checkReleased(ctx context.Context, tx pgx.Tx) ([]ledger.Finding, error) {
	rows, err := tx.Query(ctx, `
		SELECT r.hospital, SUM(r.released_fen - r.owned_fen)::INT8
		FROM recon_merchants AS r
		JOIN merchants AS m ON m.channel = r.channel AND m.merchant_no = r.merchant_no
		GROUP BY r.hospital
		HAVING COUNT(*) FILTER (WHERE m.settle_mode = 'B') = 0
		ORDER BY r.hospital`)
	if err != nil {
		return nil, fmt.Errorf("read running sums: %w", err)
	}
	sums := map[string]ledger.Money{}
	var hospital string
	var fen ledger.Money
	if _, err := pgx.ForEachRow(rows, []any{&hospital, &fen}, func() error { sums[hospital] = fen; return nil }); err != nil {
		return nil, err
	}
	var found []ledger.Finding
	for hospital, fen := range sums {
		account := clearing.Available(hospital)
		balance, err := ledger.BalanceAt(ctx, tx, account.ID(), ledger.AsOf{})
		if err != nil {
			return nil, err
		}
		if balance.Balance() != fen {
			found = append(found, ledger.Finding{Subject: account.Code(),
				Detail: fmt.Sprintf("the balance is %s, released less own is %s", balance.Balance(), fen)})
		}
	}
	return found, nil
}

// checkOnTheWay finds withdrawals in transit that no open settlement waits for.
func checkOnTheWay(ctx context.Context, tx pgx.Tx) ([]ledger.Finding, error) {
	open, err := ledger.OpenItemsByCode(ctx, tx, clearing.PlatformBook, "1124.")
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `
		SELECT day, merchant_no, -d_fen FROM recon_legs WHERE kind = 'SETTLE' AND open AND order_no = $1`, settleOrder)
	if err != nil {
		return nil, fmt.Errorf("read settlements: %w", err)
	}
	waiting := map[string]ledger.Money{}
	var day ledger.Day
	var no string
	var fen ledger.Money
	_, err = pgx.ForEachRow(rows, []any{&day, &no, &fen}, func() error {
		waiting[settlementRef(&clearing.Merchant{No: no}, day)] = fen
		return nil
	})
	if err != nil {
		return nil, err
	}
	var found []ledger.Finding
	for _, item := range open {
		if waiting[item.Ref] != item.Amount() {
			found = append(found, ledger.Finding{Subject: item.Code + " under " + item.Ref,
				Detail: fmt.Sprintf("%s is on its way, the settlement waits for %s", item.Amount(), waiting[item.Ref])})
		}
	}
	return found, nil
}
