package recon

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
)

// bankItems is the first number of an item of the bank pair.
const bankItems = 1_000_000

// writeRun writes the run and its list. What the run did not look at again, the
// trade pairs or the bank's, is taken over from the run before: every run is the
// whole of its day.
func (p *publication) writeRun(b *ledger.Batch) {
	h := p.h
	b.Exec(`
		INSERT INTO recon_runs (hospital, day, run, published_at, scope_lines, scope_fen, netzero, netzero_fen)
		SELECT $1, $2, $3, $4,
			CASE WHEN $5 THEN $6 ELSE COALESCE(MAX(scope_lines), 0) END, CASE WHEN $5 THEN $7 ELSE COALESCE(MAX(scope_fen), 0) END,
			CASE WHEN $8 THEN $9 ELSE COALESCE(MAX(netzero), 0) END, CASE WHEN $8 THEN $10 ELSE COALESCE(MAX(netzero_fen), 0) END
		FROM recon_runs WHERE hospital = $1 AND day = $2 AND run = $3 - 1`,
		h.hospital.Code, h.day, h.run, b.Now(), h.bank.ran, int64(h.bank.scope.Lines), int64(h.bank.scope.Sum),
		h.trade, int64(h.netzero.Pays), int64(h.netzero.PayFen))
	if !h.trade || !h.bank.ran {
		b.Exec(`
			INSERT INTO recon_items (`+itemColumns+`)
			SELECT hospital, day, $3, n, code, channel, merchant_no, order_no, refund_no, bank_ref,
				his_fen, platform_fen, channel_fen, amount_fen, fee_diff_fen, case_id, note
			FROM recon_items
			WHERE hospital = $1 AND day = $2 AND run = $3 - 1 AND ((NOT $4 AND n < $6) OR (NOT $5 AND n >= $6))`,
			h.hospital.Code, h.day, h.run, h.trade, h.bank.ran, bankItems)
	}
	var a itemArrays
	for i, item := range p.items {
		n := i
		if item.bank() {
			n += bankItems
		}
		a.add(item, int32(n))
	}
	if len(a.n) > 0 {
		b.Exec(insertItems, append([]any{h.hospital.Code, h.day, h.run}, a.args()...)...)
	}
}

// bank says whether the item is of the bank pair.
func (i *Item) bank() bool { return i.key.Kind == kindBank || i.key.Kind == kindSettle }

const itemColumns = `hospital, day, run, n, code, channel, merchant_no, order_no, refund_no, bank_ref,
			his_fen, platform_fen, channel_fen, amount_fen, fee_diff_fen, case_id, note`

const insertItems = `
	INSERT INTO recon_items (` + itemColumns + `)
	SELECT $1, $2, $3, n, code, channel, merchant_no, order_no, refund_no, bank_ref,
		his_fen, platform_fen, channel_fen, amount_fen, fee_diff_fen, case_id, note
	FROM unnest($4::INT4[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[], $10::TEXT[],
		$11::INT8[], $12::INT8[], $13::INT8[], $14::INT8[], $15::INT8[], $16::TEXT[], $17::TEXT[])
		AS new(n, code, channel, merchant_no, order_no, refund_no, bank_ref,
			his_fen, platform_fen, channel_fen, amount_fen, fee_diff_fen, case_id, note)`

type itemArrays struct {
	n                                                         []int32
	code, channel, merchant, order, refund, bankRef, id, note []string
	his, platform, channelFen                                 []*int64
	amount, feeDiff                                           []int64
}

func (a *itemArrays) add(i *Item, n int32) {
	a.n, a.code, a.channel = append(a.n, n), append(a.code, string(i.Code)), append(a.channel, i.Channel)
	a.merchant, a.order = append(a.merchant, i.MerchantNo), append(a.order, i.OrderNo)
	a.refund, a.bankRef = append(a.refund, i.RefundNo), append(a.bankRef, i.BankRef)
	a.his, a.platform = append(a.his, (*int64)(i.HIS)), append(a.platform, (*int64)(i.Platform))
	a.channelFen, a.amount = append(a.channelFen, (*int64)(i.ChannelFen)), append(a.amount, int64(i.Amount))
	a.feeDiff, a.id, a.note = append(a.feeDiff, int64(i.FeeDiff)), append(a.id, i.CaseID), append(a.note, i.Note)
}

func (a *itemArrays) args() []any {
	return []any{a.n, a.code, a.channel, a.merchant, a.order, a.refund, a.bankRef,
		a.his, a.platform, a.channelFen, a.amount, a.feeDiff, a.id, a.note}
}

// writeCases opens a case for every new difference, refreshes what is known of
// open ones, and closes those whose difference is gone. Owner, notes, proposals
// and decisions are never touched by a run.
func (p *publication) writeCases(ctx context.Context, b *ledger.Batch) error {
	states, err := p.caseStates(ctx, b.Tx())
	if err != nil {
		return err
	}
	var opened, refreshed, reopened caseArrays
	seen := map[string]bool{}
	for _, item := range p.cases {
		if seen[item.CaseID] {
			continue // the other half of a case in two slices
		}
		seen[item.CaseID] = true
		switch states[item.CaseID] {
		case "":
			opened.add(item)
		case CaseAutoClosed:
			reopened.add(item)
		case CaseClosed:
		default:
			refreshed.add(item)
		}
	}
	if len(opened.id) > 0 {
		b.Exec(insertCases, append(opened.args(), b.Now())...)
	}
	for _, a := range []*caseArrays{&refreshed, &reopened} {
		if len(a.id) > 0 {
			b.Exec(refreshCases, append(a.args(), b.Now())...)
		}
	}
	var closed []string
	for _, id := range p.closed {
		if state := states[id]; !seen[id] && (state == CaseOpen || state == CaseProposed) {
			closed = append(closed, id)
		}
	}
	if len(closed) > 0 {
		b.Exec(`
			UPDATE recon_cases SET state = 'AUTO_CLOSED', reason = 'LATE_MATCH', changed_at = $2
			WHERE id = ANY($1::TEXT[]) AND state IN ('OPEN', 'PROPOSED')`, closed, b.Now())
	}
	logCases(b, opened.id, "opened", note(noteFound, p.h.day.String()))
	logCases(b, reopened.id, "reopened", note(noteFoundAgain, p.h.day.String()))
	logCases(b, closed, "closed", note(noteLateMatch, p.h.day.String()))
	return nil
}

// logCases writes one line to the log of each case.
func logCases(b *ledger.Batch, ids []string, act, detail string) {
	if len(ids) == 0 {
		return
	}
	b.Exec(`
		INSERT INTO recon_case_log (case_id, n, at, who, act, detail)
		SELECT id, (SELECT COUNT(*) FROM recon_case_log AS l WHERE l.case_id = id) + 1, $2, $3, $4, $5
		FROM unnest($1::TEXT[]) AS ids(id)`, ids, b.Now(), maker, act, detail)
}

func (p *publication) caseStates(ctx context.Context, tx pgx.Tx) (map[string]CaseState, error) {
	ids := append([]string{}, p.closed...)
	for _, item := range p.cases {
		ids = append(ids, item.CaseID)
	}
	rows, err := tx.Query(ctx, `SELECT id, state FROM recon_cases WHERE id = ANY($1::TEXT[])`, ids)
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	out := map[string]CaseState{}
	var id string
	var state CaseState
	_, err = pgx.ForEachRow(rows, []any{&id, &state}, func() error { out[id] = state; return nil })
	return out, err
}

const caseColumns = `id, hospital, day, kind, order_no, refund_no, channel, merchant_no, bank_ref, code, amount_fen,
			his_fen, platform_fen, channel_fen, fee_diff_fen, note`

const caseUnnest = `unnest($1::TEXT[], $2::TEXT[], $3::INT4[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[],
		$10::TEXT[], $11::INT8[], $12::INT8[], $13::INT8[], $14::INT8[], $15::INT8[], $16::TEXT[])
		AS new(` + caseColumns + `)`

const insertCases = `
	INSERT INTO recon_cases (` + caseColumns + `, state, resolution, reason, maker, checker, opened_at, changed_at)
	SELECT ` + caseColumns + `, 'OPEN', '', '', '', '', $17, $17
	FROM ` + caseUnnest

const refreshCases = `
	UPDATE recon_cases AS c
	SET code = new.code, amount_fen = new.amount_fen, his_fen = new.his_fen, platform_fen = new.platform_fen,
		channel_fen = new.channel_fen, note = new.note, bank_ref = new.bank_ref, merchant_no = new.merchant_no,
		channel = new.channel, fee_diff_fen = new.fee_diff_fen, changed_at = $17, state = CASE WHEN c.state = 'AUTO_CLOSED' THEN 'OPEN' ELSE c.state END
	FROM ` + caseUnnest + `
	WHERE c.id = new.id AND c.state IN ('OPEN', 'PROPOSED', 'AUTO_CLOSED')`

type caseArrays struct {
	itemArrays
	id, hospital, kind []string
	day                []int32
}

func (a *caseArrays) add(i *Item) {
	a.itemArrays.add(i, 0)
	a.id, a.hospital = append(a.id, i.CaseID), append(a.hospital, i.key.Hospital)
	a.kind, a.day = append(a.kind, string(i.key.Kind)), append(a.day, int32(i.key.Day))
}

func (a *caseArrays) args() []any {
	return []any{a.id, a.hospital, a.day, a.kind, a.order, a.refund, a.channel, a.merchant, a.bankRef,
		a.code, a.amount, a.his, a.platform, a.channelFen, a.feeDiff, a.note}
}
