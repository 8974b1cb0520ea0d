package recon

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Release posts J25 for every merchant number of which more is proved than released,
// and says for how many: what a run or a decision has left behind while people had
// paused it. A run that is not paused leaves nothing behind.
func (e *Engine) Release(ctx context.Context) (int, error) {
	return e.onward(ctx, releaseProved, `proved_fen > released_fen`)
}

// Settle makes the hospital's own (J28c, J30) what is released and has reached its
// bank account, for every merchant number in mode A, and says for how many: what was
// paused, and what a decision has released or tied to a credit since the last run.
func (e *Engine) Settle(ctx context.Context) (int, error) {
	return e.onward(ctx, settleReleased, `released_fen > owned_fen AND proved_fen > owned_fen AND arrived_fen > owned_fen - owned_fee_fen`)
}

// onward is a merchant number whose money a job moves on.
type onward struct {
	engine *Engine
	dir    *clearing.Directory
	m      *clearing.Merchant
	today  ledger.Day
}

// onward gives each merchant number of which something may be left to the verb, one
// after the other: a number whose money is refused keeps no other's back.
func (e *Engine) onward(ctx context.Context, verb *ledger.Verb[*onward], left string) (done int, err error) {
	dir, err := e.directory(ctx)
	if err != nil {
		return 0, err
	}
	var keys []MerchantKey
	err = e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT channel, merchant_no FROM recon_merchants WHERE `+left+` ORDER BY channel, merchant_no`)
		if err == nil {
			keys, err = pgx.CollectRows(rows, pgx.RowToStructByPos[MerchantKey])
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read merchant numbers to move on: %w", err)
	}
	var failed []error
	for _, k := range keys {
		m, ok := dir.Merchant(k.Channel, k.No)
		if !ok {
			continue
		}
		out, err := ledger.Submit(ctx, e.Committer, verb, ledger.Request{}, &onward{e, dir, m, ledger.DayOf(e.Now())})
		if err = errors.Join(err, out.Err); err != nil {
			failed = append(failed, fmt.Errorf("merchant number %s of %s: %w", m.No, m.Hospital, err))
		} else if out.Body != "" {
			done++
		}
	}
	return done, errors.Join(failed...)
}

var (
	releaseProved = &ledger.Verb[*onward]{Name: "recon.release", Run: func(ctx context.Context, b *ledger.Batch, cmds []*onward) []ledger.Outcome {
		return moveOn(ctx, b, cmds, (*onward).release)
	}}
	settleReleased = &ledger.Verb[*onward]{Name: "recon.settle", Run: func(ctx context.Context, b *ledger.Batch, cmds []*onward) []ledger.Outcome {
		return moveOn(ctx, b, cmds, (*onward).settle)
	}}
)

// moveOn moves the money of each merchant number together with its running sums, as
// they stand in this transaction; the answer's body is the number, "" where nothing
// was left to move.
func moveOn(ctx context.Context, b *ledger.Batch, cmds []*onward, move func(*onward, context.Context, *ledger.Batch, *running, pauses) error) []ledger.Outcome {
	out := make([]ledger.Outcome, len(cmds))
	var floors []ledger.AccountID
	for _, o := range cmds {
		floors = append(floors, clearing.Available(o.m.Hospital).ID())
	}
	if err := b.LockFloors(ctx, floors...); err != nil {
		return b.Fail(err)
	}
	for i, o := range cmds {
		paused, err := o.engine.paused(ctx, b.Tx())
		if err != nil {
			return b.Fail(err)
		}
		all, err := readRunning(ctx, b.Tx(), o.m.Hospital)
		if err != nil {
			return b.Fail(err)
		}
		r := all[MerchantKey{o.m.Channel, o.m.No}]
		if r == nil {
			continue
		}
		if err := move(o, ctx, b, r, paused); err != nil {
			return b.Fail(err)
		}
		if r.moved() {
			r.write(b, o.m)
			out[i].Body = o.m.No
		}
	}
	return out
}

// release has no run whose members it could name: its reference says from which sum
// in fen to which the merchant number is released.
func (o *onward) release(_ context.Context, b *ledger.Batch, r *running, paused pauses) error {
	if paused.release {
		return nil
	}
	return r.release(b, clearing.Event{Merchant: o.m, Day: o.today, Maker: maker,
		Settlement: fmt.Sprintf("rel_%s_%s_%d_%d", o.today.Compact(), o.m.No, r.released, r.proved)})
}

// settle names the newest settlement that the bank's side has seen of the merchant
// number: a run would have named it too, and the subsidy is asked for under it.
func (o *onward) settle(ctx context.Context, b *ledger.Batch, r *running, paused pauses) error {
	if paused.settle {
		return nil
	}
	var trade *ledger.Day
	err := b.Tx().QueryRow(ctx, `
		SELECT MAX(day) FROM recon_legs
		WHERE hospital = $1 AND order_no = $2 AND kind = 'SETTLE' AND refund_no = $3 AND lines <> ''`,
		o.m.Hospital, settleOrder, o.m.Channel+"|"+o.m.No).Scan(&trade)
	if err != nil {
		return fmt.Errorf("read the newest settlement: %w", err)
	}
	if trade == nil {
		return nil
	}
	return r.own(b, o.dir, o.m, *trade, o.today)
}
