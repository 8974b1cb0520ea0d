package recon

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// takeLoose makes a leg of every line that carries no order number.
func (h *hospitalRun) takeLoose(ctx context.Context, lines []Line, priors []*legRow) error {
	for i := range lines {
		l := &lines[i]
		if l.Side == HIS && !electronic(l) {
			h.cash = append(h.cash, *l)
			continue
		}
		if h.repeats(l) {
			continue
		}
		legs := matchOrder(h.rules, lines[i:i+1])
		if err := h.adopt(ctx, legs, priors); err != nil {
			return err
		}
		for _, leg := range legs {
			if l.Side == HIS {
				h.loose = append(h.loose, leg)
			} else {
				h.held = append(h.held, leg)
			}
		}
	}
	return h.vanished(ctx, priors)
}

// repeats says whether a line without an order number is a row that was taken
// before, and hangs it on the leg that took it (S1).
func (h *hospitalRun) repeats(l *Line) bool {
	if h.rules.NoStage["S1"] {
		return false
	}
	for _, legs := range [][]*Leg{h.loose, h.held} {
		for _, leg := range legs {
			if leg.OrderNo == "" && sameRow(&leg.Lines[0], l) {
				leg.Dups = append(leg.Dups, leg.Lines[0], *l)
				return true
			}
		}
	}
	return false
}

func (h *hospitalRun) takeOrder(ctx context.Context, legs []*Leg, priors []*legRow) error {
	legs = slices.DeleteFunc(h.apart(legs, priors), func(leg *Leg) bool { return leg.onlyAhead(h.rules) })
	if err := h.adopt(ctx, legs, priors); err != nil {
		return err
	}
	for _, leg := range legs {
		elsewhere, err := h.standsElsewhere(ctx, leg)
		if err != nil {
			return err
		}
		if elsewhere {
			h.told += leg.lineCount()
			continue
		}
		h.noteDoubt(leg)
		if len(leg.Dups) > 0 {
			h.dups = append(h.dups, leg)
		}
		switch {
		case leg.unchanged():
			// Open as before.
		case leg.Code == I2 || leg.Code == I4 && leg.RefundNo == "":
			h.loose = append(h.loose, leg)
		case leg.row != nil && leg.row.CaseID != "":
			h.held = append(h.held, leg) // its case goes with it
		case leg.Code == Match || leg.Code == NetZero || leg.Code == None:
			if err := h.settle(ctx, leg); err != nil {
				return err
			}
		default:
			h.held = append(h.held, leg)
		}
	}
	return h.vanished(ctx, priors)
}

// unchanged says that the leg is open from another day and nothing new was said.
// Half of a case of two hospitals stays what it is, whether or not the other
// hospital runs today, and so does a restated leg.
func (leg *Leg) unchanged() bool {
	return leg.Carried && !leg.Fresh && leg.row != nil && (leg.row.Code == leg.Code || leg.row.Code == F9 || leg.row.Code == Restated || leg.row.Decided)
}

// adopt gives each leg its merchant number, where only HIS knows it, and the row
// that an earlier run stored of it.
func (h *hospitalRun) adopt(ctx context.Context, legs []*Leg, priors []*legRow) error {
	for _, leg := range legs {
		if leg.MerchantNo == "" {
			leg.Channel, leg.MerchantNo = h.defaultNumber(leg.Channel)
		}
		k := leg.rowKey()
		leg.claim(priors, k)
		if leg.row == nil && leg.lives() != nil {
			leg.claimNamed(priors, k)
		}
		if r := h.movedHere(leg, k); r != nil {
			h.moved = append(h.moved, r)
		}
		if !leg.Carried {
			continue
		}
		for _, r := range h.rows[k.named()] {
			if leg.row == nil {
				leg.row, leg.Day = r, r.Day
				leg.claim(priors, r.legKeyRow) // told by this day first, by another's lines since
			}
		}
		if leg.row == nil && k.Day != h.day {
			if err := h.stands(ctx, leg); err != nil {
				return err
			}
		}
		h.carry.follow(leg)
	}
	return nil
}

// defaultNumber is the first merchant number that the hospital has at a channel.
func (h *hospitalRun) defaultNumber(channel string) (string, string) {
	for _, m := range h.merchants {
		if m.Channel == channel {
			return m.Channel, m.No
		}
	}
	return channel, ""
}

func (h *hospitalRun) statsOf(channel, no string) *Stats {
	k := MerchantKey{channel, no}
	if h.stats[k] == nil {
		h.stats[k] = &Stats{}
	}
	return h.stats[k]
}

// vanished undoes legs that an earlier run stored and no line speaks of any more.
func (h *hospitalRun) vanished(ctx context.Context, priors []*legRow) error {
	for _, r := range priors {
		if r == nil || r.Code == None {
			continue
		}
		leg := r.gone(nil)
		if r.CaseID != "" {
			h.held = append(h.held, leg)
			continue
		}
		if err := h.settle(ctx, leg); err != nil {
			return err
		}
	}
	return nil
}

// forgetMerged undoes what stood for legs that another leg has taken in.
func (h *hospitalRun) forgetMerged(before []*Leg) {
	kept := map[*Leg]bool{}
	for _, leg := range h.held {
		for one := range leg.all() {
			kept[one] = true
		}
	}
	for _, leg := range before {
		if !kept[leg] && leg.row != nil {
			h.held = append(h.held, leg.row.gone(leg.into))
			h.carry.kept[leg.row.legKeyRow] = true
		}
	}
}

// settle books a leg on which the sides agree; groups of them are committed on
// the way, each with its journals.
func (h *hospitalRun) settle(ctx context.Context, leg *Leg) error {
	h.count(leg)
	c, err := h.changeOf(leg)
	if err != nil {
		return err
	}
	if c != nil {
		h.plain = append(h.plain, c)
	}
	return h.flush(ctx, 4096)
}

// listNetZero puts the payment of a pair on a list of its own, with who paid and
// where: pairs that pile up there can hide a cash-out (套现).
func (h *hospitalRun) listNetZero(leg *Leg) {
	if leg.Kind != channels.Pay {
		return
	}
	item := leg.item()
	item.Note = join(item.Note, note(notePaidBy, leg.platform.Patient, leg.platform.Terminal))
	h.zeroes = append(h.zeroes, item)
}

// flush hands the settled legs over once there are enough of them. They are
// committed while the next are matched; one group is on its way at a time.
func (h *hospitalRun) flush(ctx context.Context, enough int) error {
	if len(h.plain) < enough {
		return nil
	}
	if err := h.landed(); err != nil {
		return err
	}
	group, result := h.plain, make(chan error, 1)
	h.plain, h.sending = nil, result
	go func() { result <- h.engine.settle(ctx, group) }()
	h.done += len(group)
	h.engine.progress("match", h.done)
	return nil
}

// landed waits for the group that is on its way.
func (h *hospitalRun) landed() error {
	if h.sending == nil {
		return nil
	}
	err := <-h.sending
	h.sending = nil
	return err
}

func (e *Engine) settle(ctx context.Context, group []*change) error {
	outcomes, err := ledger.SubmitAll(ctx, e.Committer, settleLegs, nil, group)
	if err != nil {
		return err
	}
	for _, out := range outcomes {
		if out.Err != nil {
			return out.Err
		}
	}
	return nil
}

// paidBills tells which of the payments that HIS does not know pay a bill that
// another payment had paid before: PAID_TWICE, the second of them. Money that came
// after the platform had closed its order is the second, whichever came first: the
// bill was paid by the order that the platform knows.
func (h *hospitalRun) paidBills(ctx context.Context) (func(*Leg) bool, error) {
	unknown := map[string]*Leg{} // order → leg without a receipt
	var bills []string
	for _, leg := range h.held {
		if (leg.Code == I1 || leg.Code == F2) && leg.platform != nil && leg.platform.BillNo != "" {
			unknown[leg.OrderNo] = leg
			bills = append(bills, leg.platform.BillNo)
		}
	}
	twice := map[*Leg]bool{}
	if len(bills) == 0 || h.engine.noStage["TWICE"] {
		return func(leg *Leg) bool { return twice[leg] }, nil
	}
	payments, err := h.payers(ctx, bills)
	if err != nil {
		return nil, err
	}
	for _, leg := range unknown {
		for _, other := range payments[leg.platform.BillNo] {
			booked := unknown[other.OrderNo] == nil
			if other.OrderNo != leg.OrderNo && (booked || leg.Code == F2 || other.OccurredAt.Before(leg.platform.At)) {
				twice[leg] = true
			}
		}
	}
	return func(leg *Leg) bool { return twice[leg] }, nil
}

// payers lists by bill the payments that have paid it. One that was given back whole,
// or reversed, has paid nothing: the bill was open again.
func (h *hospitalRun) payers(ctx context.Context, bills []string) (map[string][]clearing.Leg, error) {
	payments, back := map[string][]clearing.Leg{}, map[string]ledger.Money{}
	err := h.engine.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		clear(payments)
		clear(back)
		q := clearing.LegQuery{Hospital: h.hospital.Code, BillNos: bills}
		return clearing.StreamLegs(ctx, tx, q, func(leg *clearing.Leg) error {
			switch success := leg.Status == channels.Success; {
			case leg.Kind == channels.Pay && (success || leg.Late && leg.Taken):
				payments[leg.BillNo] = append(payments[leg.BillNo], *leg)
			case leg.Kind != channels.Pay && success:
				back[leg.OrderNo] += leg.Amount
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for bill, list := range payments {
		payments[bill] = slices.DeleteFunc(list, func(leg clearing.Leg) bool { return back[leg.OrderNo] >= leg.Amount })
	}
	return payments, nil
}
