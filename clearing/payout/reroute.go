package payout

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
)

// A refund by another route ends the refund that the channel could not carry out:
// while the payout stands that row is REROUTED and counts as refunded, and when
// the bank gives the money back it is CLOSED and owed again. An abnormal refund whose
// money the channel paid to the hospital's bank account counts as refunded at the
// channel: what is REROUTED, and back, is the way of that money.

// deadRefund finds the refund that carries the debt. It may be paid by the bank
// only where nothing at the channel pays it any more.
const deadRefund = `
	SELECT r.refund_no, COALESCE(a.state, r.status), COALESCE(r.payment_no, ''), r.amount_fen, a.state IS NOT NULL
	FROM refunds AS r
	LEFT JOIN abnormal_refunds AS a ON a.hospital = r.hospital AND a.refund_no = r.refund_no AND r.status = 'SUCCESS' AND r.abnormal
	WHERE r.hospital = $1 AND r.kind = 'REFUND' AND r.debt_no = $2 AND (r.status NOT IN ('FAILED', 'SUCCESS') OR r.abnormal) AND r.next_no = ''
	ORDER BY (r.status = 'CLOSED' OR a.state IS NOT NULL AND a.state = 'ARRIVED'), r.refund_no LIMIT 1`

// arrived is the state of an abnormal refund whose money is in the hospital's bank
// account.
const arrived = "ARRIVED"

type refundRow struct {
	no, status, payment string
	amount              ledger.Money
	abnormal            bool // its money came to the hospital's bank account, or is applied for
}

// refund reads that row; ok is false where the debt is a case's own.
func (p *Payout) refund(ctx context.Context, tx pgx.Tx) (r refundRow, ok bool, err error) {
	err = tx.QueryRow(ctx, deadRefund, p.Hospital, p.Subject).Scan(&r.no, &r.status, &r.payment, &r.amount, &r.abnormal)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("read the refund of payout %s: %w", p.Number, err)
	}
	return r, true, nil
}

// mayReroute refuses a refund that the channel may still pay: the patient would
// be paid twice.
func (p *Payout) mayReroute(ctx context.Context, tx pgx.Tx, left ledger.Money) error {
	r, ok, err := p.refund(ctx, tx)
	switch {
	case err != nil || !ok:
		return err
	case r.status != "CLOSED" && r.status != arrived:
		return ErrOwed.Because("subject", "refund %s is %s: the channel may still pay it; only one that the channel closed, or whose money it paid to the hospital's bank account, is paid by another route", r.no, r.status)
	case left != p.Amount:
		return ErrOwed.Because("amount", "refund %s owes %s: a refund by another route pays all of it, %s is asked", r.no, left, p.Amount)
	}
	return nil
}

// reroute notes in the refund and its payment that the bank pays, or with back
// that it did not.
func (p *Payout) reroute(ctx context.Context, b *ledger.Batch, back bool) error {
	if p.Kind != ReroutedRefund {
		return nil
	}
	r, ok, err := p.refund(ctx, b.Tx())
	if err != nil || !ok {
		return err
	}
	if r.abnormal {
		from, to := arrived, "REROUTED"
		if back {
			from, to = to, from
		}
		b.ExecRows(1, `UPDATE abnormal_refunds SET state = $4, version = version + 1 WHERE hospital = $1 AND refund_no = $2 AND state = $3`, p.Hospital, r.no, from, to)
		return nil
	}
	// The digest must change with the state, and come back with it.
	from, to, change, turn := "CLOSED", "REROUTED", r.amount, 1
	if back {
		from, to, change, turn = "REROUTED", "CLOSED", -r.amount, -1
	}
	b.ExecRows(1, `UPDATE refunds SET status = $4, digest = digest + $5, version = version + 1 WHERE hospital = $1 AND kind = 'REFUND' AND refund_no = $2 AND status = $3 AND next_no = ''`,
		p.Hospital, r.no, from, to, turn)
	if r.payment != "" {
		b.ExecRows(1, `UPDATE payments SET refunded_fen = refunded_fen + $3, requested_fen = requested_fen - $3, version = version + 1,
			live = live AND refunded_fen + $3 < amount_fen WHERE hospital = $1 AND order_no = $2`, p.Hospital, r.payment, change)
	}
	return nil
}
