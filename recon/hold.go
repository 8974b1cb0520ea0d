package recon

import (
	"slices"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// hold marks a row of the platform for which this run has posted: the row then
// changes and posts nothing (Held), until a run takes its journals back. It is a
// compare-and-set on what the run has read of the row.
type hold struct {
	kind            channels.Kind
	hospital        string
	order, refundNo string
	digest          int64
	held            bool
}

// standIns are the journals that a row made through the API would post by itself.
var standIns = []string{"J02", "-J02", "E06+J04", "E35+J04", "J18", "J22", "E10", "J19a", "J19a+J20", "J19b"}

// holdOf says whether the change speaks for the leg's row, nil where nothing about
// that changes and nothing is posted on what the run has read of it.
func (leg *Leg) holdOf(c *change) *hold {
	v := leg.lives()
	if v == nil || v.Digest == 0 {
		return nil
	}
	p := leg.platform
	held := slices.ContainsFunc(c.row.Effects, func(x Effect) bool { return slices.Contains(standIns, x.Journal) })
	held = held || p.unposted() || p.Kind != channels.Pay && p.Final && v.Held
	if held == v.Held && len(c.undo)+len(c.post) == 0 {
		return nil
	}
	return &hold{p.Kind, p.Hospital, p.OrderNo, p.RefundNo, v.Digest, held}
}

// holds are the marks of a group, as the columns of its statements.
type holds struct {
	hospitals, orders, kinds, refunds []string
	digests                           []int64
	held                              []bool
}

func (a *holds) add(h *hold) {
	a.hospitals, a.orders, a.kinds = append(a.hospitals, h.hospital), append(a.orders, h.order), append(a.kinds, string(h.kind))
	a.refunds, a.digests, a.held = append(a.refunds, h.refundNo), append(a.digests, h.digest), append(a.held, h.held)
}

// writeHolds marks the rows. A row that has changed since the run read it makes the
// group stale: the day is run again with what is known now.
func writeHolds(b *ledger.Batch, changes []*change) {
	var payments, refunds holds
	for _, c := range changes {
		switch {
		case c.hold == nil:
		case c.hold.kind == channels.Pay:
			payments.add(c.hold)
		default:
			refunds.add(c.hold)
		}
	}
	if n := len(payments.orders); n > 0 {
		b.ExecRows(int64(n), `
			UPDATE payments AS p SET held = g.held, version = p.version + 1
			FROM unnest($1::TEXT[], $2::TEXT[], $3::INT8[], $4::BOOL[]) AS g(hospital, order_no, digest, held)
			WHERE p.hospital = g.hospital AND p.order_no = g.order_no AND p.digest = g.digest`,
			payments.hospitals, payments.orders, payments.digests, payments.held)
	}
	if n := len(refunds.orders); n > 0 {
		b.ExecRows(int64(n), `
			UPDATE refunds AS r SET held = g.held, version = r.version + 1
			FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::INT8[], $5::BOOL[]) AS g(hospital, kind, refund_no, digest, held)
			WHERE r.hospital = g.hospital AND r.kind = g.kind AND r.refund_no = g.refund_no AND r.digest = g.digest`,
			refunds.hospitals, refunds.kinds, refunds.refunds, refunds.digests, refunds.held)
	}
}

// holdCase makes the decision that people took speak for the rows of the case: what
// happens to them afterwards changes facts and posts nothing.
func holdCase(b *ledger.Batch, id string) {
	b.Exec(`
		UPDATE payments SET held = TRUE, version = version + 1
		WHERE way <> '' AND NOT held AND (hospital, order_no) IN (
			SELECT hospital, order_no FROM recon_legs WHERE case_id = $1 AND case_id <> '' AND kind = 'PAY')`, id)
	b.Exec(`
		UPDATE refunds SET held = TRUE, version = version + 1
		WHERE created_at IS NOT NULL AND NOT held AND (hospital, kind, refund_no) IN (
			SELECT hospital, kind, refund_no FROM recon_legs WHERE case_id = $1 AND case_id <> '' AND kind = 'REFUND')`, id)
}
