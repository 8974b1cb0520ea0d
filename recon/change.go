package recon

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

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
