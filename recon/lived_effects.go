package recon

import (
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
)

// booked is J02 for what HIS has booked beyond what it acknowledged to the platform:
// the other way where its details say less. A leg that HIS may still speak of keeps
// what it acknowledged.
func (leg *Leg) booked(ack ledger.Money) Effect {
	v := leg.lives()
	switch {
	case v == nil:
		return effect("J02", ack, 0)
	case leg.Said[HIS].StandIn || leg.Code == Pending && !leg.Said[HIS].Present:
		return effect("J02", 0, 0)
	case v.Acked > ack:
		return effect("-J02", v.Acked-ack, 0)
	}
	return effect("J02", ack-v.Acked, 0)
}

// unpostedPay is the money of a payment that succeeded after a run had posted for
// it: the run goes on doing so, with what the row now knows.
func (leg *Leg) unpostedPay() Effects {
	if p := leg.platform; p != nil && p.unposted() {
		return Effects{effect("E06+J04", p.Amount, p.Fee)}
	}
	return nil
}

// beyondLate is what the bill says beyond the late money that stands already.
func (leg *Leg) beyondLate() Effects {
	diff, fee := leg.bill.Amount-leg.platform.Amount, leg.bill.Fee-leg.platform.Fee
	switch {
	case diff > 0:
		return Effects{effect("E06+J04", diff, max(fee, 0))}
	case diff < 0:
		return Effects{effect("-E06+J04", -diff, max(-fee, 0))}
	}
	return nil // a fee that differs alone stays in 2206 until somebody accepts it
}

// unpostedRefund is what the row of a refund or reversal would have posted, had no
// run posted for it.
func (leg *Leg) unpostedRefund() Effects {
	p := leg.platform
	if p == nil || !p.unposted() {
		return nil
	}
	settle, e := leg.settled0(), leg.becameDebt()
	if p.Kind == channels.Reverse {
		e = append(e, effect("J19a", settle, 0))
	} else {
		e = append(e, effect("J19a+J20", settle, p.Fee))
	}
	if p.Final {
		e = append(e, effect("J19b", settle, 0))
	}
	return e
}

// becameDebt is the journal that makes the refund a debt, where neither the row nor
// what it pays has posted one.
func (leg *Leg) becameDebt() Effects {
	p := leg.platform
	switch {
	case p.Lived.Debit != "" || p.paysDebt():
		return nil
	case p.Kind == channels.Reverse:
		return Effects{effect("J22", p.Amount, p.Fee)}
	}
	return Effects{effect("J18", p.Amount, 0)}
}

// owedEffects are those of a refund whose debt stands and which the channel has not
// accepted to our knowledge. Where its bill has it, it has: J19a, J20, J19b.
func (leg *Leg) owedEffects(proved ledger.Money) (Effects, ledger.Money) {
	e, b, p := leg.becameDebt(), leg.bill, leg.platform
	// A refund that the channel closed stands in its bill like one that it holds; that
	// the money is back it has said itself.
	abnormal := b != nil && b.Status == channels.Abnormal && p.Lived.Stage != string(pay.RefundClosed)
	if !leg.atChannel() && !abnormal {
		return e, proved
	}
	paid := min(b.Settle, p.Amount)
	e = append(e, effect("J19a+J20", paid, b.Fee), effect("E18", b.Settle-paid, 0))
	if leg.own() == F9 {
		e = append(e, effect("E23", b.Settle, b.Fee))
	}
	if abnormal {
		return e, proved
	}
	if b.Status == channels.Success {
		e = append(e, effect("J19b", paid, 0))
	}
	coupon := min(b.Amount, p.Amount) - paid
	return append(e, effect("J49c", coupon, 0)), proved + coupon
}
