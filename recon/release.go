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
// recon_merchants.
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

// moveMoney releases what is proved (J25) and makes the hospital's own what is
// proved and has reached its bank account (J28c, J30).
func (p *publication) moveMoney(ctx context.Context, b *ledger.Batch) error {
	h := p.h
	all, err := readRunning(ctx, b.Tx(), h.hospital.Code)
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
		if err := p.release(b, m, r); err != nil {
			return err
		}
		if err := p.own(b, m, r); err != nil {
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

// release posts J25: one sum per merchant number, day and run, whose members are
// the run's legs; their digest stands in the entry's reference.
func (p *publication) release(b *ledger.Batch, m *clearing.Merchant, r *running) error {
	h, amount := p.h, r.proved-r.released
	if amount <= 0 {
		return nil
	}
	members := sha256.Sum256(binary.BigEndian.AppendUint64(h.members[:], uint64(amount)))
	e, err := clearing.NewEntry(clearing.Event{Merchant: m, Day: h.day, Amount: amount, Maker: maker,
		Settlement: fmt.Sprintf("rel_%s_%s_%d_%x", h.day.Compact(), m.No, h.run, members[:8])}, "J25")
	if err != nil {
		return err
	}
	r.released += amount
	_, err = b.Post(e)
	return err
}

// own makes proved money with bank money the hospital's own: never more than has
// reached the account for this merchant number.
func (p *publication) own(b *ledger.Batch, m *clearing.Merchant, r *running) error {
	if m.Mode != clearing.ModeA || r.arrived == 0 {
		return nil
	}
	journal, fee := "J28c", r.settledFee-r.ownedFee
	if m.BearerOn(p.h.day) == clearing.ByHospital {
		journal, fee = "J30", 0
	}
	capacity := r.arrived - (r.owned - r.ownedFee)
	if capacity < 0 {
		return fmt.Errorf("recon: the statement of %s takes back %s of %s that has been made the hospital's own: ask the bank before this day can be published",
			p.h.bankDay(), -capacity, m.No)
	}
	gross := min(r.released-r.owned, capacity+fee)
	net := gross - fee
	if gross <= 0 || net <= 0 {
		return nil
	}
	bank, ok := p.h.dir.Bank(m.Hospital, m.SettlesTo)
	if !ok {
		return fmt.Errorf("recon: %s settles to %s, which is no account of %s", m.No, m.SettlesTo, m.Hospital)
	}
	e, err := clearing.NewEntry(clearing.Event{Merchant: m, Bank: bank, Day: p.h.bankDay(), Amount: net, Fee: fee, Maker: maker,
		Settlement: settlementRef(m, p.h.day)}, journal)
	if err != nil {
		return err
	}
	r.owned += gross
	r.ownedFee += fee
	_, err = b.Post(e)
	return err
}

func settlementRef(m *clearing.Merchant, day ledger.Day) string {
	return "stl_" + day.Compact() + "_" + m.No
}
