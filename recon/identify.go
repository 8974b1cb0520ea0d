package recon

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// identified ties the credit of an unidentified or surplus case to the settlement
// that the person named: E30b, and the settlement waits for so much less.
func (d *decision) identified(ctx context.Context, b *ledger.Batch, c *Case, open []Suspense) (ledger.Entry, error) {
	var none ledger.Entry
	ref, _, _ := strings.Cut(c.Reason, " ")
	m, day, err := d.settlementOf(c, ref)
	if err != nil {
		return none, err
	}
	bank, from := d.restingOn(open)
	if bank == nil {
		return none, ErrResolution.Because("resolution", "no credit rests under %s: there is nothing to identify", c.ID)
	}
	row, err := readLeg(ctx, b.Tx(), (&Settlement{Hospital: m.Hospital, Channel: m.Channel, MerchantNo: m.No, Day: day}).rowKey())
	if err != nil {
		return none, err
	}
	if row == nil || row.text == "" || -row.D < from.Fen {
		return none, ErrResolution.Because("detail", "settlement %s does not wait for %s", ref, from.Fen)
	}
	if err := d.tie(b, row, creditPart{Ref: from.Ref, Fen: from.Fen, Known: true}); err != nil {
		return none, err
	}
	return clearing.NewEntry(clearing.Event{Day: d.today, Merchant: m, Bank: bank, BankRef: from.Ref, Amount: from.Fen, Settlement: ref,
		Case: c.ID, Maker: c.Maker, Checker: d.Who}, "E30b")
}

// settlementOf reads "stl_20260915_1900000109".
func (d *decision) settlementOf(c *Case, ref string) (*clearing.Merchant, ledger.Day, error) {
	for _, m := range d.dir.Merchants {
		text := strings.TrimSuffix(strings.TrimPrefix(ref, "stl_"), "_"+m.No)
		if day, err := ledger.ParseDay(text); err == nil && m.Hospital == c.Hospital && settlementRef(m, day) == ref {
			return m, day, nil
		}
	}
	return nil, 0, ErrResolution.Because("detail", "%q names no settlement of %s: stl_, the day, _ and the merchant number", ref, c.Hospital)
}

// restingOn is the bank account on whose 2243 the credit of the case rests.
func (d *decision) restingOn(open []Suspense) (*clearing.BankAccount, Suspense) {
	for _, s := range open {
		for i := range d.dir.Banks {
			if bank := &d.dir.Banks[i]; s.Fen > 0 && clearing.Unidentified(bank).ID() == s.Account.ID() {
				return bank, s
			}
		}
	}
	return nil, Suspense{}
}

// tie writes the part into the settlement's row, and closes the case of a
// settlement that then waits for nothing.
func (d *decision) tie(b *ledger.Batch, row *legRow, part creditPart) error {
	var state settlementState
	if err := json.Unmarshal([]byte(row.text), &state); err != nil {
		return fmt.Errorf("recon: settlement of %s on %s: %w", row.MerchantNo, row.Day, err)
	}
	state.Parts, state.Arrived = append(slices.Clone(state.Parts), part), state.Arrived+part.Fen
	left := -row.D - part.Fen
	if left == 0 {
		state.Code = None
		b.Exec(`
			UPDATE recon_cases SET state = 'AUTO_CLOSED', reason = 'IDENTIFIED', changed_at = $2
			WHERE id = $1 AND state IN ('OPEN', 'PROPOSED')`, row.CaseID, b.Now())
	}
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("recon: settlement of %s: %w", row.MerchantNo, err)
	}
	b.ExecRows(1, `
		UPDATE recon_legs SET lines = $6, d_fen = $7, open = $8, settled = NOT $8, code = $9,
			case_id = CASE WHEN $8 THEN case_id ELSE '' END
		WHERE hospital = $1 AND day = $2 AND order_no = $3 AND kind = $4 AND refund_no = $5 AND lines = $10`,
		row.Hospital, row.Day, row.OrderNo, row.Kind, row.RefundNo, string(text), int64(-left), left > 0, state.Code, row.text)
	b.ExecRows(1, `
		UPDATE recon_merchants SET arrived_fen = arrived_fen + $3
		WHERE channel = $1 AND merchant_no = $2`, row.Channel, row.MerchantNo, int64(part.Fen))
	return nil
}
