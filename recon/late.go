package recon

import (
	"slices"

	"github.com/clearward/clearward/channels"
)

// apart takes the channel's row away from legs that a person decided without it.
// After such a decision only HIS is expected to say something; money that the
// channel moves after all has been given up in the books, so that it is a
// difference of its own, long or short, with a case of its own.
func (h *hospitalRun) apart(legs []*Leg, priors []*legRow) []*Leg {
	var out []*Leg
	for _, leg := range legs {
		if leg.bill == nil || !h.decidedWithout(leg, priors) {
			out = append(out, leg)
			continue
		}
		bill := *leg.bill
		rest := slices.DeleteFunc(slices.Clone(leg.Lines), func(l Line) bool { return l.Side == Channel })
		decided, late := matchOrder(h.rules, rest), matchOrder(h.rules, []Line{bill})
		late[0].extra = "late " + bill.TradeNo + bill.ChRefundNo
		if len(decided) > 0 {
			decided[0].Dups = leg.Dups
		}
		out = append(append(out, decided...), late...)
	}
	return out
}

// decidedWithout says whether a person has decided the leg on what HIS and the
// platform say, without a row of the channel.
func (h *hospitalRun) decidedWithout(leg *Leg, priors []*legRow) bool {
	k := leg.rowKey()
	is := func(r *legRow) bool {
		return r != nil && r.Decided && r.named() == k.named() && !slices.ContainsFunc(r.kept, func(l Line) bool { return l.Side == Channel && l.Status != channels.Failed })
	}
	return slices.ContainsFunc(priors, is) || slices.ContainsFunc(h.rows[k.named()], is)
}
