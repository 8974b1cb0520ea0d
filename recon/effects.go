package recon

import (
	"fmt"
	"strings"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Effect is a journal of the accounting manual that stands for a leg, with its
// amounts in fen. What a leg needs is a pure function of its lines; a run posts
// what is missing and reverses what no longer holds, so that running twice
// changes nothing and a restated file touches only what it changed.
//
// A journal of one moment may be several of the manual's: "E01+J04". A leading
// "-" turns them round.
type Effect struct {
	Journal string
	Amount  ledger.Money
	Fee     ledger.Money

	at ledger.EntryID // where it stands in the journal, zero until it is posted
}

func effect(journal string, amount, fee ledger.Money) Effect {
	return Effect{Journal: journal, Amount: amount, Fee: fee}
}

// newEntry writes journals of one moment, turned round after a leading "-".
func newEntry(ev clearing.Event, journals string) (ledger.Entry, error) {
	names, turned := strings.CutPrefix(journals, "-")
	e, err := clearing.NewEntry(ev, strings.Split(names, "+")...)
	if err != nil || !turned {
		return e, err
	}
	return e.Reverse(ledger.EntryID{}, e.Head())
}

// Effects is the list that stands for one leg, in the order in which it posts.
type Effects []Effect

// String is the stored form, with the entries: "J02:1000:0:0.17.3;J49:500:0:0.17.4".
func (e Effects) String() string {
	var b strings.Builder
	for i, x := range e {
		if i > 0 {
			b.WriteByte(';')
		}
		fmt.Fprintf(&b, "%s:%d:%d:%d.%d.%d", x.Journal, x.Amount, x.Fee, x.at.Lane, x.at.Seq, x.at.Ord)
	}
	return b.String()
}

// parseEffects reads the stored form.
func parseEffects(text string) (Effects, error) {
	if text == "" {
		return nil, nil
	}
	var out Effects
	for part := range strings.SplitSeq(text, ";") {
		var x Effect
		name, rest, _ := strings.Cut(part, ":")
		x.Journal = name
		if _, err := fmt.Sscanf(rest, "%d:%d:%d.%d.%d", &x.Amount, &x.Fee, &x.at.Lane, &x.at.Seq, &x.at.Ord); err != nil {
			return nil, fmt.Errorf("recon: stored effect %q: %w", part, err)
		}
		out = append(out, x)
	}
	return out, nil
}

// minus returns what stands in e and not in other, each counted once.
func (e Effects) minus(other Effects) Effects {
	var out Effects
	taken := make([]bool, len(other))
next:
	for _, x := range e {
		for i, y := range other {
			if !taken[i] && x.Journal == y.Journal && x.Amount == y.Amount && x.Fee == y.Fee {
				taken[i] = true
				continue next
			}
		}
		out = append(out, x)
	}
	return out
}

// effects returns the journals that stand for the leg (spec/accounting.md 3.3
// to 3.5) and the amount of the hospital's pending payable that it proves, which
// is what J25 may release: what HIS acknowledged and the channel holds.
func (leg *Leg) effects() (Effects, ledger.Money) {
	var e Effects
	var proved ledger.Money
	switch {
	case leg.far != nil:
		e, proved = leg.halfEffects()
	case leg.Kind == channels.Pay:
		e, proved = leg.payEffects()
	default:
		e, proved = leg.refundEffects()
	}
	return e.compact(), proved
}

// compact drops journals without any amount.
func (e Effects) compact() Effects {
	out := e[:0]
	for _, x := range e {
		if x.Amount != 0 || x.Fee != 0 {
			out = append(out, x)
		}
	}
	return out
}

// acknowledged is the amount for which HIS has booked what the platform holds: J02.
func (leg *Leg) acknowledged() ledger.Money {
	h, p := leg.Said[HIS], leg.Said[Platform]
	if leg.Code == NetZero {
		// J18 took the refund out of the hospital's money, which HIS never had of it:
		// J02 brings it there out of 2204. A cancellation took it out of 2204 itself.
		return leg.refunded
	}
	if !h.Present || h.StandIn || !p.Present || leg.Code == I7 || leg.Code == I8 || leg.Code == F12 {
		return 0
	}
	return min(h.Fen, p.Fen)
}

// atChannel says whether the channel itself holds the money of the leg.
func (leg *Leg) atChannel() bool {
	c := leg.Said[Channel]
	return c.Present && !c.StandIn && !c.Waived
}

func (leg *Leg) payEffects() (Effects, ledger.Money) {
	ack := leg.acknowledged()
	e := append(leg.unpostedPay(), leg.booked(ack))
	var proved, coupon ledger.Money
	if leg.atChannel() && ack > 0 {
		proved = min(ack, leg.Said[Channel].Fen)
	}
	b := leg.bill
	switch leg.own() {
	case F1, F11:
		e = append(e, effect("E01+J04", b.Settle, b.Fee))
		if leg.Code == F11 {
			e[len(e)-1].Journal += "+E04"
		}
	case F2:
		if leg.lateMoney() {
			e, coupon = append(e, leg.beyondLate()...), b.Amount-b.Settle
			break
		}
		e, coupon = append(e, effect("E06+J04", b.Amount, b.Fee)), b.Amount-b.Settle
	case Backfill:
		var x Effects
		x, coupon = leg.backfill()
		e = append(e, x...)
	case F3:
		e = append(e, effect("E11", leg.platform.Amount, leg.platform.Fee))
	case Phantom:
		e = append(e, effect("E34a", leg.platform.Amount, leg.platform.Fee))
	case F9:
		e, coupon = append(e, effect("E23", b.Settle, leg.platform.Fee)), b.Amount-b.Settle
	case F4:
		x, c := leg.fundAmount()
		e, coupon = append(e, x...), c
	default:
		if leg.platform != nil && b != nil && leg.atChannel() {
			coupon = b.Amount - b.Settle
		}
	}
	return append(e, effect("J49", coupon, 0)), proved - coupon
}

// own is the code that says where the money of the leg rests: of a restated one
// the verdict that its lines have now, of an ambiguous one what its own bits say, of
// a second payment that the platform had given up that of its lines alone.
func (leg *Leg) own() Code {
	if leg.Code == Restated {
		return leg.under
	}
	if leg.Code == PaidTwice && !leg.Said[Platform].Present {
		return F2
	}
	if leg.Code != F12 && leg.Code != I7 && leg.Code != I8 {
		return leg.Code
	}
	if leg.platform != nil && leg.bill != nil {
		return Match
	}
	switch {
	case leg.bill == nil && leg.Said[HIS].Present:
		return pick(leg.Kind == channels.Pay, F3, F6)
	case leg.bill == nil:
		return Phantom
	case leg.Said[HIS].Present:
		return Backfill
	}
	return pick(leg.Kind == channels.Pay, F1, F5)
}

// backfill posts what HIS and the channel agree on and the platform missed, or
// the difference where the platform holds another amount.
func (leg *Leg) backfill() (Effects, ledger.Money) {
	b, p := leg.bill, leg.platform
	if leg.lateMoney() {
		return leg.beyondLate(), b.Amount - b.Settle
	}
	if p == nil || p.Status != channels.Success {
		return Effects{effect("E35+J04", b.Amount, b.Fee)}, b.Amount - b.Settle
	}
	diff, fee := b.Amount-p.Amount, b.Fee-p.Fee
	if diff < 0 {
		return Effects{effect("E34a", -diff, max(-fee, 0)), effect("E34b", -diff, 0)}, b.Amount - b.Settle
	}
	return Effects{effect("E35+J04", diff, max(fee, 0))}, b.Amount - b.Settle
}

// fundAmount posts the difference between what the channel settles and what the
// platform expected of it: F4.
func (leg *Leg) fundAmount() (Effects, ledger.Money) {
	b, p := leg.bill, leg.platform
	settle := p.Settle
	if settle == 0 {
		settle = p.Amount
	}
	diff, fee := b.Settle-settle, b.Fee-p.Fee
	coupon := p.Amount - settle
	if diff > 0 {
		return Effects{effect("E16+J04", diff, max(fee, 0))}, coupon
	}
	return Effects{effect("E17", -diff, max(-fee, 0))}, coupon
}

func (leg *Leg) refundEffects() (Effects, ledger.Money) {
	b, p := leg.bill, leg.platform
	known := leg.Said[Platform].Present
	var proved ledger.Money
	if known && p.outOfPending() && leg.Kind != channels.Reverse { // a reversal is taken out of 2204, before HIS: J22
		proved = -p.Amount
	}
	if known && p.Lived != nil && leg.platform.Status != channels.Success {
		return leg.owedEffects(proved)
	}
	e := leg.unpostedRefund()
	switch code := leg.own(); {
	case code == I4 || code == I6:
		return Effects{effect("E10", leg.Said[HIS].Fen, 0)}, -leg.Said[HIS].Fen
	case code == Backfill:
		return leg.backfillRefund()
	case code == F11: // the other business gives back its own money
		return Effects{effect("-E01+J04+E04", b.Settle, b.Fee)}, proved
	case code == F5:
		return Effects{effect("E18", b.Settle, b.Fee)}, proved
	case code == F6 || code == Phantom:
		return append(e, leg.notPaid()...), proved
	case known && leg.atChannel():
		coupon := leg.platform.Amount - leg.settled0()
		e = append(e, effect("J49c", coupon, 0))
		if !p.final() && b.Status != channels.Processing {
			e = append(e, effect("J19b", leg.settled0(), 0))
		}
		if code == F9 {
			e = append(e, effect("E23", b.Settle, p.Fee))
		} else {
			e = append(e, leg.refundDiff()...)
		}
		if leg.Kind == channels.Reverse {
			return e, coupon
		}
		return e, proved + coupon
	}
	return e, proved
}

// settled0 is what the platform expected the channel to take back.
func (leg *Leg) settled0() ledger.Money {
	if p := leg.platform; p.Settle == 0 && (p.Lived == nil || p.Status != channels.Success) {
		return leg.platform.Amount
	}
	return leg.platform.Settle
}

// refundDiff posts the difference where the channel took back another amount
// than the platform asked for: more is short (E18), less is a debt re-opened.
func (leg *Leg) refundDiff() Effects {
	diff, fee := leg.bill.Settle-leg.settled0(), leg.bill.Fee-leg.platform.Fee
	switch {
	case diff > 0:
		return Effects{effect("E18", diff, max(fee, 0))}
	case diff < 0:
		return Effects{effect("E20a", -diff, max(-fee, 0))}
	}
	return nil
}

// backfillRefund posts a refund that HIS and the channel agree on: J21 as its
// parts; where the platform holds another amount, what it holds less or too much.
func (leg *Leg) backfillRefund() (Effects, ledger.Money) {
	b, p := leg.bill, leg.platform
	coupon, proved := b.Amount-b.Settle, b.Amount-b.Settle-leg.Said[HIS].Fen
	asked, settle, fee, final := ledger.Money(0), ledger.Money(0), ledger.Money(0), false
	if leg.Said[Platform].Present {
		asked, settle, fee, final = p.Amount, leg.settled0(), p.Fee, p.final()
	}
	done := b.Status == channels.Success
	if asked > b.Amount {
		e := Effects{effect("-J18", asked-b.Amount, 0)}
		if final {
			e = append(e, effect("E20a", settle-b.Settle, max(fee-b.Fee, 0)))
		} else {
			e = append(e, effect("J19c", settle-b.Settle, max(fee-b.Fee, 0)))
			if done {
				e = append(e, effect("J19b", b.Settle, 0))
			}
		}
		return append(e, effect("J49c", coupon, 0)), proved
	}
	e := Effects{effect("J18", b.Amount-asked, 0), effect("J19a+J20", b.Settle-settle, max(b.Fee-fee, 0))}
	if done && final {
		e = append(e, effect("J19b", b.Settle-settle, 0))
	} else if done {
		e = append(e, effect("J19b", b.Settle, 0))
	}
	return append(e, effect("J49c", coupon, 0)), proved
}

// notPaid undoes what the books say of a refund that the channel did not pay. What
// the platform has been told that the channel took, and is still following, is undone
// by the channel's own word alone (J19c): until then nothing of it is paid again.
func (leg *Leg) notPaid() Effects {
	p := leg.platform
	switch held := leg.bill != nil && leg.abnormal(); {
	case held && p.final():
		return Effects{effect("E20b", leg.settled0(), 0)}
	case held:
		return nil
	case p.final():
		return Effects{effect("E20a", leg.settled0(), p.Fee)}
	case p.Lived != nil:
		return nil
	}
	return Effects{effect("J19c", leg.settled0(), p.Fee)}
}
