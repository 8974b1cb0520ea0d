package recon

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// running is what of a merchant number's money has come how far: a row of
// recon_merchants. Its fees are those that the platform bears; what the hospital bears
// is taken off what is proved.
type running struct {
	proved, released    ledger.Money
	arrived, settledFee ledger.Money
	owned, ownedFee     ledger.Money
	provedNow           ledger.Money // by this run
	stood               stood        // as it was read
}

// stood is what of the running sums people's decisions move too: a run writes them
// only if no decision has, since it read them.
type stood struct{ proved, released, arrived, owned ledger.Money }

// pauses say what people hold back: what they have paused a run and a decision do not
// do either, and the job of that name does it once it is resumed.
type pauses struct{ release, settle bool }

// paused reads them in the transaction that would move the money.
func (e *Engine) paused(ctx context.Context, tx pgx.Tx) (p pauses, err error) {
	if e.Paused == nil {
		return p, nil
	}
	if p.release, p.settle, err = e.Paused(ctx, tx); err != nil {
		return p, fmt.Errorf("read whether release and settle are paused: %w", err)
	}
	return p, nil
}

// moveMoney releases what is proved (J25) and makes the hospital's own what is
// proved and has reached its bank account (J28c, J30), unless people have paused it.
func (p *publication) moveMoney(ctx context.Context, b *ledger.Batch) error {
	h := p.h
	all, err := readRunning(ctx, b.Tx(), h.hospital.Code)
	if err != nil {
		return err
	}
	paused, err := h.engine.paused(ctx, b.Tx())
	if err != nil {
		return err
	}
	if err := p.settlements(ctx, b, all); err != nil {
		return err
	}
	if err := h.bringHome(ctx, b); err != nil {
		return err
	}
	if err := b.LockFloors(ctx, clearing.Available(h.hospital.Code).ID()); err != nil {
		return err
	}
	for _, m := range h.merchants {
		k := MerchantKey{m.Channel, m.No}
		r := all[k]
		if r == nil {
			r = &running{}
		}
		was := r.stood
		r.proved += r.provedNow
		if r.capacity() < 0 {
			return fmt.Errorf("recon: the statement of %s takes back %s of %s that has been made the hospital's own: ask the bank before this day can be published",
				h.bankDay(), -r.capacity(), m.No)
		}
		if err := p.advance(b, m, r, paused); err != nil {
			return err
		}
		b.ExecRows(1, `
			INSERT INTO recon_merchants (channel, merchant_no, hospital, proved_fen, released_fen, arrived_fen,
				settled_fee_fen, owned_fen, owned_fee_fen)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (channel, merchant_no) DO UPDATE
			SET proved_fen = excluded.proved_fen, released_fen = excluded.released_fen,
				arrived_fen = excluded.arrived_fen, settled_fee_fen = excluded.settled_fee_fen,
				owned_fen = excluded.owned_fen, owned_fee_fen = excluded.owned_fee_fen
			WHERE recon_merchants.proved_fen = $10 AND recon_merchants.released_fen = $11 AND recon_merchants.arrived_fen = $12
				AND recon_merchants.owned_fen = $13`,
			m.Channel, m.No, h.hospital.Code, r.proved, r.released, r.arrived, r.settledFee, r.owned, r.ownedFee,
			was.proved, was.released, was.arrived, was.owned)
	}
	return nil
}

func readRunning(ctx context.Context, tx pgx.Tx, hospital string) (map[MerchantKey]*running, error) {
	rows, err := tx.Query(ctx, `
		SELECT channel, merchant_no, proved_fen, released_fen, arrived_fen, settled_fee_fen, owned_fen, owned_fee_fen
		FROM recon_merchants WHERE hospital = $1`, hospital)
	if err != nil {
		return nil, fmt.Errorf("read running sums: %w", err)
	}
	out := map[MerchantKey]*running{}
	var k MerchantKey
	var r running
	_, err = pgx.ForEachRow(rows, []any{&k.Channel, &k.No, &r.proved, &r.released, &r.arrived, &r.settledFee, &r.owned, &r.ownedFee}, func() error {
		kept := r
		kept.stood = stood{r.proved, r.released, r.arrived, r.owned}
		out[k] = &kept
		return nil
	})
	return out, err
}

// write is the compare-and-set of the sums, where no run has counted anything to them.
func (r *running) write(b *ledger.Batch, m *clearing.Merchant) {
	was := r.stood
	b.ExecRows(1, `
		UPDATE recon_merchants SET proved_fen = $3, released_fen = $4, arrived_fen = $5, owned_fen = $6, owned_fee_fen = $7
		WHERE channel = $1 AND merchant_no = $2 AND proved_fen = $8 AND released_fen = $9 AND arrived_fen = $10 AND owned_fen = $11`,
		m.Channel, m.No, r.proved, r.released, r.arrived, r.owned, r.ownedFee, was.proved, was.released, was.arrived, was.owned)
}

// moved says whether anything was released or made the hospital's own since the sums
// were read.
func (r *running) moved() bool { return r.released != r.stood.released || r.owned != r.stood.owned }

// advance releases and makes the hospital's own what has come so far. The members of
// what a run releases are its legs; their digest stands in the entry's reference.
func (p *publication) advance(b *ledger.Batch, m *clearing.Merchant, r *running, paused pauses) error {
	h := p.h
	if !paused.release {
		members := sha256.Sum256(binary.BigEndian.AppendUint64(h.members[:], uint64(r.proved-r.released)))
		err := r.release(b, clearing.Event{Merchant: m, Day: h.day, Maker: maker,
			Settlement: fmt.Sprintf("rel_%s_%s_%d_%x", h.day.Compact(), m.No, h.run, members[:8])})
		if err != nil {
			return err
		}
	}
	if paused.settle {
		return nil
	}
	return r.own(b, h.dir, m, h.day, h.bankDay())
}

// release posts J25 of what is proved and has not been released.
func (r *running) release(b *ledger.Batch, ev clearing.Event) error {
	if ev.Amount = r.proved - r.released; ev.Amount <= 0 {
		return nil
	}
	r.released += ev.Amount
	return post(b, ev, "J25")
}

// capacity is what has reached the bank account and is not the hospital's own.
func (r *running) capacity() ledger.Money { return r.arrived - (r.owned - r.ownedFee) }

// own makes proved money with bank money the hospital's own (J28c, J30), on a value
// day: never more than has reached the account for this merchant number, and never
// what is proved no longer. A fee that the platform bears becomes a debt under the
// settlement of the day of trade, by which it is paid.
func (r *running) own(b *ledger.Batch, dir *clearing.Directory, m *clearing.Merchant, trade, on ledger.Day) error {
	if m.Mode != clearing.ModeA || r.arrived == 0 {
		return nil
	}
	journal, fee := "J28c", r.settledFee-r.ownedFee
	// What is left of the fees of days before the hospital bore them is owed as theirs.
	if day, ok := m.LastBorneBy(clearing.ByPlatform, trade); ok && (fee != 0 || day == trade) {
		trade = day
	} else {
		journal, fee = "J30", 0
	}
	gross := min(min(r.released, r.proved)-r.owned, r.capacity()+fee)
	net := gross - fee
	if gross <= 0 || net <= 0 {
		return nil
	}
	bank, ok := dir.Bank(m.Hospital, m.SettlesTo)
	if !ok {
		return fmt.Errorf("recon: %s settles to %s, which is no account of %s", m.No, m.SettlesTo, m.Hospital)
	}
	r.owned += gross
	r.ownedFee += fee
	return post(b, clearing.Event{Merchant: m, Bank: bank, Day: on, Trade: trade, Amount: net, Fee: fee, Maker: maker, Settlement: settlementRef(m, trade)}, journal)
}

func settlementRef(m *clearing.Merchant, day ledger.Day) string {
	return "stl_" + day.Compact() + "_" + m.No
}
