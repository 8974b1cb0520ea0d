package recon

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// lineID names a line for ever.
type lineID struct {
	side            Side
	file            int64
	row             int
	kind            channels.Kind
	order, refundNo string
}

func (l *Line) id() lineID {
	return lineID{l.Side, l.File, l.Row, l.Kind, l.OrderNo, l.RefundNo}
}

// carry follows the rows of other days: which of them a leg of this run took on,
// and which lost their lines to a leg of another key.
type carry struct {
	of   map[lineID]*legRow // carried lines by name
	kept map[legKeyRow]bool
	lost map[*legRow]*Leg
}

func newCarry(rows []*legRow) carry {
	c := carry{of: map[lineID]*legRow{}, kept: map[legKeyRow]bool{}, lost: map[*legRow]*Leg{}}
	for _, r := range rows {
		for i := range r.kept {
			c.of[r.kept[i].id()] = r
		}
	}
	return c
}

// follow notes whose lines the leg has taken.
func (c *carry) follow(leg *Leg) {
	for i := range leg.Lines {
		if l := &leg.Lines[i]; l.carried {
			switch r := c.of[l.id()]; {
			case r == nil:
			case leg.row != nil && leg.row.legKeyRow == r.legKeyRow:
				c.kept[r.legKeyRow] = true
			default:
				c.lost[r] = leg
			}
		}
	}
}

// forsaken are the legs whose rows are open from other days and whose lines stand
// on other legs now: what stands of them is undone. They keep the lines of those
// legs, so that their own day finds them when it runs again.
func (c *carry) forsaken() (legs []*Leg) {
	for r, host := range c.lost {
		if !c.kept[r.legKeyRow] && r.Code != None {
			legs = append(legs, r.gone(host))
		}
	}
	return legs
}

// gone is the leg that undoes the row; host has taken its lines, where one has.
func (r *legRow) gone(host *Leg) *Leg {
	leg := &Leg{Kind: r.Kind, Hospital: r.Hospital, Channel: r.Channel, MerchantNo: r.MerchantNo,
		OrderNo: r.OrderNo, RefundNo: r.RefundNo, Day: r.Day, row: r, keep: r.kept}
	if host != nil {
		leg.keep = append(leg.keep[:len(leg.keep):len(leg.keep)], host.Lines...)
	}
	return leg
}

// claim takes the row of this key out of those that earlier runs of the day stored.
func (leg *Leg) claim(priors []*legRow, k legKeyRow) {
	for i, r := range priors {
		if r != nil && r.legKeyRow == k {
			leg.row, priors[i] = r, nil
		}
	}
}

// stands reads the row of a leg whose lines come from another day and whose own
// row is neither open nor of this day.
func (h *hospitalRun) stands(ctx context.Context, leg *Leg) error {
	return h.engine.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		leg.row, err = readLeg(ctx, tx, leg.rowKey())
		return err
	})
}

// toldDay is a day whose feed a run has read: the bill of a merchant number, the
// details of HIS (no number), or, without a pair, any of them.
type toldDay struct {
	day         ledger.Day
	pair        Pair
	channel, no string
}

// readTold returns what runs have read of the days of the rows and around them.
func readTold(ctx context.Context, tx pgx.Tx, hospital string, rows []*legRow, day ledger.Day) (map[toldDay]bool, error) {
	first, last := day, day
	for _, r := range rows {
		first, last = min(first, r.First), max(last, r.Last)
	}
	found, err := tx.Query(ctx, `
		SELECT DISTINCT day, pair, channel, merchant_no
		FROM recon_versions WHERE hospital = $1 AND day BETWEEN $2 AND $3 AND pair <> 'BANK'`, hospital, first.Add(-1), last.Add(1))
	if err != nil {
		return nil, fmt.Errorf("read published days: %w", err)
	}
	out := map[toldDay]bool{}
	var t toldDay
	_, err = pgx.ForEachRow(found, []any{&t.day, &t.pair, &t.channel, &t.no}, func() error {
		out[t], out[toldDay{day: t.day, pair: t.pair}], out[toldDay{day: t.day}] = true, true, true
		return nil
	})
	return out, err
}
