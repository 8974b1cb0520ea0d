package recon

import (
	"context"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// move is what a resolution adds to the running sums of a merchant number.
type move struct {
	m       *clearing.Merchant
	proved  ledger.Money // of the hospital's pending payable
	arrived ledger.Money // in its bank account
}

// move adds what the resolution moves to the running sums of the merchant number,
// releases by J25 what it proves unless people have paused that, and turns back what
// has been made the hospital's own of money that has left its account again. The leg
// and its day keep what is proved of them, so that the day run again counts it; a bank
// line is no leg of a day's trade.
func (d *decision) move(ctx context.Context, b *ledger.Batch, c *Case, mv move) error {
	m := mv.m
	all, err := readRunning(ctx, b.Tx(), m.Hospital)
	if err != nil {
		return err
	}
	r := all[MerchantKey{m.Channel, m.No}]
	if r == nil {
		return nil
	}
	r.proved, r.arrived = r.proved+mv.proved, r.arrived+mv.arrived
	ev := clearing.Event{Merchant: m, Day: d.today, Maker: c.Maker, Checker: d.Who, Settlement: "rel_" + d.today.Compact() + "_" + c.ID}
	paused, err := d.engine.paused(ctx, b.Tx())
	if err != nil {
		return err
	}
	if !paused.release {
		if err := r.release(b, ev); err != nil {
			return err
		}
	}
	if back := -r.capacity(); back > 0 {
		ev.Amount, r.owned = back, r.owned-back
		ev.Bank, _ = d.dir.Bank(m.Hospital, m.SettlesTo)
		journal := "-J28c"
		if m.BearerOn(d.today) == clearing.ByHospital {
			journal = "-J30"
		}
		if err := post(b, ev, journal); err != nil {
			return err
		}
	}
	r.write(b, m)
	if mv.proved == 0 || c.Kind == kindBank {
		return nil
	}
	b.Exec(`
		UPDATE recon_legs SET proved_fen = proved_fen + $2
		WHERE case_id = $1 AND case_id <> '' AND kind <> 'SETTLE' AND hospital || day::TEXT || kind || order_no || '|' || refund_no = (
			SELECT MIN(hospital || day::TEXT || kind || order_no || '|' || refund_no) FROM recon_legs
			WHERE case_id = $1 AND case_id <> '' AND hospital = $3)`, c.ID, int64(mv.proved), m.Hospital)
	b.Exec(`
		UPDATE recon_legs SET proved_fen = proved_fen + $4
		WHERE hospital = $1 AND day = $2 AND order_no = 'settlement' AND kind = 'SETTLE' AND refund_no = $3`,
		m.Hospital, c.Day, m.Channel+"|"+m.No, int64(mv.proved))
	return nil
}

// post writes one journal of the manual.
func post(b *ledger.Batch, ev clearing.Event, journal string) error {
	e, err := newEntry(ev, journal)
	if err != nil {
		return err
	}
	_, err = b.Post(e)
	return err
}
