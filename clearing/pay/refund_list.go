package pay

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Abnormal is the state by which Waiting lists the refunds that the channel calls
// abnormal, and those whose money came back to the hospital, until J39 has left.
const Abnormal RefundStatus = "ABNORMAL"

// Waiting lists at most a thousand of a hospital's refunds of one state that are
// not over, the oldest first.
func (s *Refunds) Waiting(ctx context.Context, hospital string, status RefundStatus) (list []*Refund, err error) {
	if !slices.Contains([]RefundStatus{RefundApproving, RefundCancelling, RefundOwed, RefundClosed, Abnormal}, status) {
		return nil, ErrField.Because("status", "%q is none of the states that wait for somebody: APPROVING, CANCELLING, OWED, CLOSED, ABNORMAL", status)
	}
	of := `r.status = $2`
	if status == Abnormal {
		of = `$2 = 'ABNORMAL' AND r.abnormal AND NOT EXISTS (
			SELECT 1 FROM abnormal_refunds AS a WHERE a.hospital = r.hospital AND a.refund_no = r.refund_no AND a.state = 'REROUTED')`
	}
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT `+refundColumns+` FROM refunds AS r WHERE r.hospital = $1 AND `+of+` AND r.created_at IS NOT NULL
			ORDER BY r.created_at, r.refund_no LIMIT 1000`, hospital, status)
		if err != nil {
			return err
		}
		if list, err = pgx.CollectRows(rows, scanRefund); err != nil {
			return err
		}
		return withApplications(ctx, tx, list)
	})
	return list, err
}

// Of lists the refunds of a payment, the oldest first; reversals are none.
func (s *Refunds) Of(ctx context.Context, hospital, orderNo string) (list []*Refund, err error) {
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		found, err := readRefundsOf(ctx, tx, []key{{hospital, orderNo}})
		if err != nil {
			return err
		}
		list = slices.SortedFunc(maps.Values(found), func(a, b *Refund) int {
			return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.RefundNo, b.RefundNo))
		})
		return withApplications(ctx, tx, list)
	})
	return list, err
}
