package recon

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// maker is who posts what a run finds: a service, never a person.
const maker = "recon"

// change is one leg on its way from what stands to what should stand.
type change struct {
	row   *legRow
	old   *legRow        // nil for a leg that is seen for the first time
	undo  Effects        // stands and should not
	post  []ledger.Entry // should stand and does not
	slots []int          // where in row.Effects each of post belongs
	day   ledger.Day     // on which the journals count
	hold  *hold          // of a row that was made through the API
	taken []taken        // of post: debits that the bank made of custody
}

// changeOf compares what should stand for the leg with what stands, nil where
// they are equal. A leg whose case a person has closed is left as it was decided.
func (h *hospitalRun) changeOf(leg *Leg) (*change, error) {
	effects, proved := Effects(nil), ledger.Money(0)
	// At a channel where the hospital has no merchant number there is no account to
	// post to: what HIS says of it is a case, and nothing stands for it.
	if leg.Code != None && leg.MerchantNo != "" {
		effects, proved = leg.effects()
	}
	row := &legRow{legKeyRow: leg.rowKey(), Channel: leg.Channel, MerchantNo: leg.MerchantNo, Code: leg.Code,
		D: leg.D, Effects: effects, Proved: proved}
	old := leg.row
	if old != nil {
		row.legKeyRow = old.legKeyRow
		if old.Code.Exception() && !old.Open || old.Decided && old.Code == leg.Code {
			h.prove(old, old)
			return nil, nil
		}
		if old.Decided && leg.D == 0 {
			return h.followed(leg, row, old)
		}
	}
	row.Open = leg.Code.Exception() || leg.Code == Pending
	if leg.Code.Exception() {
		row.CaseID = leg.theCase()
	}
	if row.Open || leg.Code == F10 || leg.Code == Sweep || leg.Carried || len(leg.keep) > 0 {
		if err := row.keep(append(slices.Clone(leg.Lines), leg.keep...)...); err != nil {
			return nil, err
		}
	}
	h.prove(row, old)
	c := &change{row: row, old: old, day: h.day}
	if err := h.complete(c, leg); err != nil {
		return nil, err
	}
	c.hold = leg.holdOf(c)
	return c, nil
}

// followed ends a leg that a person had decided when the row of HIS that was
// expected after it has come: what was posted by the decision stands.
func (h *hospitalRun) followed(leg *Leg, row, old *legRow) (c *change, err error) {
	row.Code, row.Channel, row.MerchantNo, row.CaseID = old.Code, old.Channel, old.MerchantNo, old.CaseID
	row.Effects, row.Proved = old.Effects, old.Proved
	if err = row.keep(leg.Lines...); err != nil {
		return nil, err
	}
	h.prove(row, old)
	return &change{row: row, old: old, day: h.day}, nil
}

// theCase is the case of the leg: its own, or that of the leg it is part of.
func (leg *Leg) theCase() string {
	switch {
	case leg.caseOf != "":
		return leg.caseOf
	case leg.row != nil:
		return leg.row.caseID()
	}
	return leg.rowKey().caseID()
}

// prove adds to what is proved of the row's merchant number and day: the whole
// of this day, and of other days what this run changes.
func (h *hospitalRun) prove(row, old *legRow) {
	k := settleDay{row.Channel, row.MerchantNo, row.Day}
	if row.Day == h.day {
		h.proved[k] += row.Proved
	} else {
		before := ledger.Money(0)
		if old != nil {
			before = old.Proved
		}
		h.proved[k] += row.Proved - before
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q|%q|%q|%d", row.Kind, row.OrderNo, row.RefundNo, row.Proved))
	for i := range sum {
		h.members[i] ^= sum[i]
	}
}

// complete fills in which journals are to be undone and posted.
func (h *hospitalRun) complete(c *change, leg *Leg) error {
	var stands Effects
	if c.old != nil {
		stands = c.old.Effects
	}
	may := stands
	if c.old != nil && c.old.restsUnder() != leg.theCase() {
		// The suspense has come under another case: it is posted there anew.
		may = slices.DeleteFunc(slices.Clone(stands), func(x Effect) bool { return strings.HasPrefix(x.Journal, "E") })
	}
	missing := c.row.Effects.minus(may)
	kept := c.row.Effects.minus(missing)
	kept = may.minus(may.minus(kept)) // as they stand in the journal
	c.undo = stands.minus(kept)
	c.row.Effects = append(slices.Clone(kept), missing...)
	for i, x := range missing {
		e, err := newEntry(h.event(leg, x), x.Journal)
		if err != nil {
			return fmt.Errorf("%s of %s %s: %w", x.Journal, leg.OrderNo, leg.RefundNo, err)
		}
		c.post = append(c.post, e)
		c.slots = append(c.slots, len(kept)+i)
	}
	return nil
}

// restsUnder is the case under which the row's suspense was posted.
func (r *legRow) restsUnder() string {
	if r.CaseID != "" {
		return r.CaseID
	}
	return r.caseID()
}

// same says that nothing about the row has changed.
func (c *change) same() bool {
	o, n := c.old, c.row
	return o != nil && c.hold == nil && len(c.undo)+len(c.post) == 0 && o.Code == n.Code && o.D == n.D && o.Open == n.Open && o.Decided == n.Decided &&
		o.Proved == n.Proved && o.text == n.text && o.CaseID == n.CaseID && o.Channel == n.Channel && o.MerchantNo == n.MerchantNo
}

// event is what the accounting manual needs to know of the leg.
func (h *hospitalRun) event(leg *Leg, x Effect) clearing.Event {
	e := clearing.Event{Merchant: h.merchant(leg.Channel, leg.MerchantNo), Hospital: h.hospital, Day: h.day,
		Amount: x.Amount, Fee: x.Fee, Order: leg.OrderNo, Maker: maker}
	switch leg.Kind {
	case channels.Refund:
		e.Refund = leg.RefundNo
		if v := leg.lives(); v != nil && v.DebtNo != "" {
			e.Refund = v.DebtNo
		}
		if e.Refund == "" {
			e.Refund = debtOf(leg.theCase())
		}
	case channels.Reverse:
		e.Refund = leg.OrderNo
	}
	if strings.HasPrefix(x.Journal, "E") || strings.HasPrefix(x.Journal, "-") || leg.own() == Backfill ||
		x.Journal == "J18" || x.Journal == "J22" {
		e.Case = leg.theCase()
	}
	if leg.Code == F11 {
		for _, prefix := range e.Merchant.ForeignPrefixes {
			if strings.HasPrefix(leg.OrderNo, prefix) {
				e.Owner = prefix
			}
		}
	}
	if leg.bill != nil && leg.bill.MerchantNo != leg.MerchantNo {
		e.OtherMerchant = h.merchant(leg.bill.Channel, leg.bill.MerchantNo)
		if x.Journal == "E23" && leg.Kind != channels.Pay {
			e.Merchant, e.OtherMerchant = e.OtherMerchant, e.Merchant // the money goes back the other way
		}
	}
	return e
}

func (h *hospitalRun) merchant(channel, no string) *clearing.Merchant {
	m, ok := h.dir.Merchant(channel, no)
	if !ok {
		return nil
	}
	return m
}

// settleLegs books legs on which the sides agree, each with its journals.
var settleLegs = &ledger.Verb[*change]{Name: "recon.settle", Run: func(ctx context.Context, b *ledger.Batch, cmds []*change) []ledger.Outcome {
	if err := apply(ctx, b, cmds); err != nil {
		return b.Fail(err)
	}
	return make([]ledger.Outcome, len(cmds))
}}

// lateNames are journals whose undoing has a name of its own in the manual.
var lateNames = map[string]string{"E11": "E12"}

// apply posts what the changes need and writes their rows.
func apply(ctx context.Context, b *ledger.Batch, changes []*change) error {
	var added, updated, stood legArrays
	for _, c := range changes {
		if err := c.reverse(ctx, b); err != nil {
			return err
		}
		row := *c.row
		row.Effects = slices.Clone(c.row.Effects)
		for i, e := range c.post {
			id, err := b.Post(e)
			if err != nil {
				return err
			}
			row.Effects[c.slots[i]].at = id
		}
		if c.old == nil {
			added.add(&row)
			continue
		}
		updated.add(&row)
		old := *c.old
		stood.add(&old)
	}
	writeHolds(b, changes)
	if n := len(added.hospital); n > 0 {
		b.ExecRows(int64(n), insertLegs, added.args()...)
	}
	if n := len(updated.hospital); n > 0 {
		b.ExecRows(int64(n), updateLegs, append(updated.args(), stood.effects, stood.open, stood.decided, stood.proved, stood.lines)...)
	}
	return nil
}

func (c *change) reverse(ctx context.Context, b *ledger.Batch) error {
	for _, x := range c.undo {
		e, _, err := ledger.EntryAt(ctx, b.Tx(), x.at)
		if err != nil {
			return err
		}
		head := e.Head()
		head.ValueDay, head.Maker, head.Checker = c.day, maker, ""
		if late := lateNames[x.Journal]; late != "" {
			head.Kind = late
		}
		reversal, err := e.Reverse(x.at, head)
		if err != nil {
			return err
		}
		if _, err := b.Post(reversal); err != nil {
			return err
		}
	}
	return nil
}

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
	p := &publication{h: h, items: h.zeroes}
	for _, leg := range h.held {
		h.count(leg)
		if err := p.addLeg(leg); err != nil {
			return err
		}
	}
	for _, leg := range h.dups {
		p.addDups(leg)
	}
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

func (h *hospitalRun) bankDay() ledger.Day { return h.dir.Calendar.NextWorkingDay(h.day) }
