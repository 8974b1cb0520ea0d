package recon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
)

// reachable says whether the refund that the case's resolution asks for can be sent:
// the channel of its merchant number is connected. The case then stays open until
// the channel's bill has the refund; else it ends with the journal, and the refund is
// made elsewhere.
func (e *Engine) reachable(c *Case) bool {
	if e.House == nil || c.Resolution != "REFUND" || c.OrderNo == "" || c.Kind != channels.Pay && c.Kind != channels.Refund {
		return false
	}
	_, err := e.House.Outside.Gateway(c.Channel, c.MerchantNo)
	return err == nil
}

// payDebts sends the refunds that approved cases wait for and that nobody has sent
// yet: a process may have ended between the approval and the call.
func (e *Engine) payDebts(ctx context.Context) error {
	if e.House == nil {
		return nil
	}
	var ids []string
	err := e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT c.id FROM recon_cases AS c
			WHERE c.state = 'APPROVED' AND c.resolution = 'REFUND'
				AND NOT EXISTS (SELECT 1 FROM refunds AS r WHERE r.hospital = c.hospital AND r.case_id = c.id AND r.case_id <> '')
			ORDER BY c.id`)
		if err == nil {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read cases that owe a refund: %w", err)
	}
	for _, id := range ids {
		// What forbids a refund now, another one under way for instance, may be over
		// at the next run.
		if err := e.payDebt(ctx, id); err != nil && !isRefusal(err) {
			return err
		}
	}
	return nil
}

func isRefusal(err error) bool {
	var refusal ledger.Refusal
	return errors.As(err, &refusal)
}

// debt is what an approved case owes to a patient, and what the channel needs to
// know to pay it.
type debt struct {
	pay.DebtRefund
	refund string // the closed refund whose debt it is, "" for none
}

// payDebt gives the patient back what the case owes: by a refund of the case, or by
// another number of the refund that the channel had closed, and notes it in the case's
// log. It does nothing where nothing is left to pay or the refund is under way.
func (e *Engine) payDebt(ctx context.Context, id string) error {
	var d *debt
	err := e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		c, err := oneCase(ctx, tx, id)
		if err == nil && e.reachable(c) {
			d, err = readDebt(ctx, tx, c)
		}
		return err
	})
	if err != nil || d == nil {
		return err
	}
	refunds := pay.Refunds{House: e.House}
	var r *pay.Refund
	if d.refund != "" {
		r, err = refunds.Reissue(ctx, d.Hospital, d.refund)
	} else {
		r, err = refunds.RefundDebt(ctx, d.DebtRefund)
	}
	if err != nil || r == nil {
		return err
	}
	line := caseLine{id, d.Maker, "refund", r.RefundNo + " " + string(r.Status)}
	out, err := ledger.Submit(ctx, e.Committer, noteCase, ledger.Request{}, line)
	return errors.Join(err, out.Err)
}

// caseLine is a line for the log of a case.
type caseLine struct{ id, who, act, detail string }

var noteCase = &ledger.Verb[caseLine]{Name: "recon.note", Run: func(_ context.Context, b *ledger.Batch, cmds []caseLine) []ledger.Outcome {
	for _, c := range cmds {
		c.write(b)
	}
	return make([]ledger.Outcome, len(cmds))
}}

func (c caseLine) write(b *ledger.Batch) {
	b.Exec(`
		INSERT INTO recon_case_log (case_id, n, at, who, act, detail)
		SELECT $1, COUNT(*) + 1, $2, $3, $4, $5 FROM recon_case_log WHERE case_id = $1`, c.id, b.Now(), c.who, c.act, c.detail)
}

// readDebt reads what the case owes, nil where it owes nothing or a refund of it is
// under way.
func readDebt(ctx context.Context, tx pgx.Tx, c *Case) (*debt, error) {
	dir, err := clearing.LoadMerchants(ctx, tx)
	if err != nil {
		return nil, err
	}
	m, ok := dir.Merchant(c.Channel, c.MerchantNo)
	if !ok {
		return nil, nil
	}
	d := &debt{DebtRefund: pay.DebtRefund{Hospital: c.Hospital, Channel: m.Channel, MerchantNo: m.No, OrderNo: c.OrderNo, CaseID: c.ID,
		DebtNo: c.refund(), Maker: c.Maker, Checker: c.Checker}}
	for account, sign := range map[ledger.Account]ledger.Money{clearing.RefundOwed(m): 1, clearing.RefundTaken(m): -1} {
		items, err := ledger.OpenItems(ctx, tx, account.ID(), d.DebtNo)
		if err != nil {
			return nil, fmt.Errorf("read what %s owes: %w", c.ID, err)
		}
		for _, item := range items {
			d.Amount += sign * item.Amount()
		}
	}
	if d.Amount <= 0 {
		return nil, nil
	}
	if under, err := d.closed(ctx, tx, c); err != nil || under {
		return nil, err
	}
	return d, d.ofOrder(ctx, tx, c)
}

// closed notes the refund of ours that the case is about, if the channel has closed
// it; under way says that it goes on by itself.
func (d *debt) closed(ctx context.Context, tx pgx.Tx, c *Case) (underWay bool, err error) {
	if c.Kind != channels.Refund || c.RefundNo == "" {
		return false, nil
	}
	var status, next string
	var abnormal bool
	err = tx.QueryRow(ctx, `
		SELECT status, next_no, abnormal FROM refunds
		WHERE hospital = $1 AND kind = 'REFUND' AND refund_no = $2 AND created_at IS NOT NULL`, c.Hospital, c.RefundNo).Scan(&status, &next, &abnormal)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read the refund of %s: %w", c.ID, err)
	case status == string(pay.RefundClosed) && next == "":
		d.refund = c.RefundNo
	case abnormal: // its money comes by the channel or by the hospital's bank account
		return true, nil
	case status != string(pay.RefundFailed) && status != string(pay.RefundSuccess):
		return true, nil
	}
	return false, nil
}

// ofOrder says what the order was at the channel: as our payment, or, where we never
// knew it, as the bill's row.
func (d *debt) ofOrder(ctx context.Context, tx pgx.Tx, c *Case) error {
	var left ledger.Money
	err := tx.QueryRow(ctx, `
		SELECT trade_no, bill_no, biz_type, amount_fen, CASE WHEN status = 'SUCCESS' THEN amount_fen - refunded_fen - requested_fen ELSE 0 END
		FROM payments WHERE hospital = $1 AND order_no = $2 AND channel = $3 AND merchant_no = $4`,
		c.Hospital, c.OrderNo, d.Channel, d.MerchantNo).Scan(&d.TradeNo, &d.BillNo, &d.BizType, &d.Total, &left)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read the payment of %s: %w", c.ID, err)
	}
	// A refund that our books took for paid counts as given back already.
	d.OfPayment = err == nil && left >= d.Amount && c.Code != F6
	rows, err := tx.Query(ctx, `SELECT `+legColumns+` FROM recon_legs WHERE case_id = $1 AND case_id <> ''`, c.ID)
	if err != nil {
		return fmt.Errorf("read the legs of %s: %w", c.ID, err)
	}
	err = scanLegs(rows, func(r *legRow) error {
		for i := range r.kept {
			if l := &r.kept[i]; l.Side == Channel && l.Kind == channels.Pay && d.Total == 0 {
				d.TradeNo, d.Total = l.TradeNo, l.Amount
			}
		}
		return nil
	})
	d.Total = max(d.Total, d.Amount)
	return err
}

// landing is a refund that the channel's bill has, and that ends what was owed
// before it.
type landing struct {
	hospital, order string
	caseID, debtNo  string // "" for none
	unbooked        bool   // HIS had never taken the payment (E07)
}

// noteLanding keeps refunds that pay what was owed before them.
func (h *hospitalRun) noteLanding(leg *Leg) {
	v := leg.lives()
	if v == nil || leg.Kind != channels.Refund || !leg.atChannel() || leg.Code.Exception() && leg.Code != F7 {
		return
	}
	l := landing{hospital: leg.Hospital, order: leg.OrderNo, caseID: v.CaseID, unbooked: v.Debit == "E07"}
	if v.DebtNo != leg.RefundNo {
		l.debtNo = v.DebtNo
	}
	if l.caseID != "" || l.debtNo != "" || l.unbooked {
		h.landings = append(h.landings, l)
	}
}

// land closes the cases whose refunds this run has found in the bill, where nothing
// rests under them any more, and the legs that waited for them.
func (p *publication) land(ctx context.Context, b *ledger.Batch) error {
	seen := map[string]bool{}
	for _, l := range p.h.landings {
		rows, err := b.Tx().Query(ctx, `
			SELECT DISTINCT id FROM (
				SELECT id FROM recon_cases WHERE id = $3
				UNION ALL
				SELECT case_id FROM recon_legs
				WHERE hospital = $1 AND order_no = $2 AND case_id <> ''
					AND (kind = 'PAY' AND $5 OR kind = 'REFUND' AND $4 <> '' AND (refund_no = $4 OR refund_no IN (
						SELECT refund_no FROM refunds WHERE hospital = $1 AND order_no = $2 AND debt_no = $4)))
			) AS found ORDER BY id`, l.hospital, l.order, l.caseID, l.debtNo, l.unbooked)
		if err != nil {
			return fmt.Errorf("read cases that are paid: %w", err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("read cases that are paid: %w", err)
		}
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			if err := closePaid(ctx, b, p.h.dir, id, note(noteRefunded, p.h.day.String())); err != nil {
				return err
			}
		}
		b.Exec(`
			UPDATE recon_legs SET open = FALSE, decided = TRUE
			WHERE hospital = $1 AND order_no = $2 AND kind = 'REFUND' AND refund_no = $3 AND $3 <> '' AND code = 'PENDING' AND open`,
			l.hospital, l.order, l.debtNo)
	}
	return nil
}

// closePaid closes a case of which nothing is left: an approved one as it was decided,
// an open one by the run. Why stands in its log.
func closePaid(ctx context.Context, b *ledger.Batch, dir *clearing.Directory, id, why string) error {
	c, err := oneCase(ctx, b.Tx(), id)
	if err != nil {
		return err
	}
	rests, err := suspense(ctx, b.Tx(), dir, c)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(rests, func(s Suspense) bool { return s.Fen != 0 }) {
		return nil
	}
	to := CaseAutoClosed
	switch c.State {
	case CaseClosed, CaseAutoClosed:
		return nil
	case CaseApproved:
		to = CaseClosed
	}
	b.Exec(`UPDATE recon_cases SET state = $3, reason = CASE WHEN reason = '' THEN 'REFUNDED' ELSE reason END, changed_at = $4 WHERE id = $1 AND state = $2`,
		id, c.State, to, b.Now())
	b.Exec(`UPDATE recon_legs SET open = FALSE, decided = (kind = 'REFUND') WHERE case_id = $1 AND case_id <> '' AND kind <> 'SETTLE'`, id)
	logCases(b, []string{id}, "closed", why)
	return nil
}
