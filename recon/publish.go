package recon

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/clearward/clearward/ledger"
)

// maker is who posts what a run finds: a service, never a person.
const maker = "recon"

// publication is a run as it is published: all of it in one transaction (S12).
type publication struct {
	h       *hospitalRun
	changes []*change
	items   []*Item
	cases   []*Item  // items that are, or were, cases
	closed  []string // cases whose difference is gone
}

// publish proves the run and publishes it.
func (h *hospitalRun) publish(ctx context.Context) error {
	p := &publication{h: h}
	for _, leg := range h.held {
		h.count(leg)
		if err := p.addLeg(leg); err != nil {
			return err
		}
	}
	for _, leg := range h.dups {
		p.addDups(leg)
	}
	p.items = append(p.items, h.zeroes...)
	if err := h.proof(); err != nil {
		return err
	}
	if err := h.runBank(ctx, p); err != nil {
		return err
	}
	sortItems(p.items)
	out, err := ledger.Submit(ctx, h.engine.Committer, publishRun, ledger.Request{}, p)
	if err != nil {
		return err
	}
	h.engine.progress("publish", len(p.items))
	return out.Err
}

// proof is stage S11: every line that came in is spoken of, and what the sides
// differ by is what the items say, per merchant number.
func (h *hospitalRun) proof() error {
	if h.intake != h.told {
		return fmt.Errorf("%w: %s %s: %d lines came in, the legs speak of %d", ErrProof, h.hospital.Code, h.day, h.intake, h.told)
	}
	for k, s := range h.stats {
		if left := s.Proof(); left != 0 && !s.StandIn {
			return fmt.Errorf("%w: %s %s on %s: channel %s less HIS %s is not explained by %s", ErrProof,
				k.Channel, k.No, h.day, s.Channel.Net(), s.HIS.Net(), left)
		}
	}
	return nil
}

// addLeg puts a leg that is more than a plain match into the publication.
func (p *publication) addLeg(leg *Leg) error {
	if leg.row != nil && leg.restated(p.h) {
		leg.Code, leg.under, leg.Note = Restated, leg.Code, note(noteRestated, string(leg.Code))
	}
	if leg.row != nil && leg.row.Decided && leg.Code != leg.row.Code && leg.D == 0 {
		leg.Code = Match // what the decision expected has come
	}
	for one := range leg.all() {
		if one != leg {
			one.caseOf = leg.theCase()
		}
		c, err := p.h.changeOf(one)
		if err != nil {
			return err
		}
		if c != nil && !c.same() {
			p.changes = append(p.changes, c)
		}
		// Half of another leg's case leaves that case to the other leg.
		if c != nil && c.old != nil && c.old.CaseID == c.old.caseID() && c.row.CaseID != c.old.CaseID {
			p.closed = append(p.closed, c.old.CaseID)
		}
	}
	if leg.Code.Listed() {
		item := leg.item()
		p.items = append(p.items, item)
		if leg.Code.Exception() && !leg.row.ended() {
			p.cases = append(p.cases, item)
		}
	}
	return nil
}

// ended says that people, or the refund that they decided, have ended the leg's case.
func (r *legRow) ended() bool { return r != nil && r.Code.Exception() && !r.Open }

// restated says whether the leg was matched and its money made the hospital's own
// before the bill that now differs was restated. Where the bill had not been fed
// when the leg was seen first, nothing was restated: it is what it is. A leg that
// is restated stays so until it is right again.
func (leg *Leg) restated(h *hospitalRun) bool {
	was, bill := leg.row.Code, versionKey{Funds, leg.row.Channel, leg.row.MerchantNo}
	switch {
	case was == Restated:
		return leg.Code.Exception()
	case leg.row.Open || was.Exception() || was == Pending || was == None || !leg.Code.Exception() || h.versions[bill].number == 0:
		return false
	}
	return h.settled[settleDay{leg.row.Channel, leg.row.MerchantNo, leg.row.Day}] && leg.Code[0] != 'I'
}

// addDups lists repeated rows: they carry no money and were taken once.
func (p *publication) addDups(leg *Leg) {
	for i := 1; i < len(leg.Dups); i += 2 {
		first, again := leg.Dups[i-1], leg.Dups[i]
		item := leg.item()
		item.Code, item.Amount, item.FeeDiff = DupRow, 0, 0
		item.Note = note(noteEqualRows, fmt.Sprint(first.Row), fmt.Sprint(again.Row))
		k := leg.rowKey()
		k.Kind, k.RefundNo = k.Kind+"-DUP", k.RefundNo+fmt.Sprint(again.Side, i)
		item.CaseID = k.caseID()
		p.items, p.cases = append(p.items, item), append(p.cases, item)
	}
}

// publishRun writes a publication.
var publishRun = &ledger.Verb[*publication]{Name: "recon.publish", Run: func(ctx context.Context, b *ledger.Batch, cmds []*publication) []ledger.Outcome {
	for _, p := range cmds {
		if err := p.write(ctx, b); err != nil {
			return b.Fail(err)
		}
	}
	return make([]ledger.Outcome, len(cmds))
}}

func (p *publication) write(ctx context.Context, b *ledger.Batch) error {
	h := p.h
	if err := apply(ctx, b, p.changes); err != nil {
		return err
	}
	if err := p.moveMoney(ctx, b); err != nil {
		return err
	}
	p.writeRun(b)
	if err := p.writeVersions(b); err != nil {
		return err
	}
	if err := p.writeCases(ctx, b); err != nil {
		return err
	}
	if err := p.land(ctx, b); err != nil {
		return err
	}
	canon, err := json.Marshal(map[string]any{"hospital": h.hospital.Code, "day": h.day, "run": h.run, "items": len(p.items)})
	if err != nil {
		return err
	}
	b.Record("recon.published", canon)
	return nil
}

func (p *publication) writeVersions(b *ledger.Batch) error {
	h := p.h
	for _, k := range h.changed {
		m := h.merchant(k.channel, k.no)
		var stats any = h.stats[MerchantKey{k.channel, k.no}]
		if k.pair == Bank {
			stats = h.bank.stats[MerchantKey{k.channel, k.no}]
		}
		text, err := json.Marshal(stats)
		if err != nil {
			return err
		}
		b.Exec(`
			INSERT INTO recon_versions (hospital, day, pair, channel, merchant_no, version, run, inputs, stats)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			h.hospital.Code, h.day, k.pair, k.channel, k.no, h.versions[k].number+1, h.run, h.hash(k, m), string(text))
	}
	return nil
}

func (h *hospitalRun) bankDay() ledger.Day { return h.dir.Calendar.NextWorkingDay(h.day) }
