package recon

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// linkWindow is how far apart two halves of a broken link may be (S8).
const linkWindow = 30 * time.Minute

// Orphans are the legs that one or two sides do not know, and the HIS rows that
// carry no number of ours: what the stages after the exact match work on.
type Orphans struct {
	Legs  []*Leg
	Loose []*Leg // HIS rows without the key: electronic ones are I2 or I4 by themselves
	Cash  []Line // HIS rows of another tender, candidates of I8
}

// resolve runs the stages that look across orders: fallback keys (S6), bills
// paid twice, and broken links (S8). It returns the legs that remain; those that
// were merged into another are gone.
func (o *Orphans) resolve(r *Rules, paidElsewhere func(leg *Leg) bool) []*Leg {
	if !r.NoStage["S6"] {
		o.joinByTradeNo(r)
		o.joinByBill(r)
	}
	for _, leg := range o.Legs {
		if (leg.Code == I1 || leg.Code == F2) && paidElsewhere(leg) {
			leg.Code = PaidTwice
		}
	}
	if !r.NoStage["S8"] {
		o.link(r)
	}
	return append(o.Legs, o.Loose...)
}

// joinByTradeNo pairs a channel row that names another order, or none, with the
// platform leg that holds the same channel number (key.trade, key.chrefund).
func (o *Orphans) joinByTradeNo(r *Rules) {
	byTrade := map[string]*Leg{}
	for _, leg := range o.Legs {
		decided := leg.row != nil && leg.row.Decided
		if leg.bill == nil && leg.platform != nil && leg.platform.Status == channels.Success && !decided {
			if no := tradeKey(leg.platform); no != "" {
				byTrade[no] = leg
			}
		}
	}
	o.Legs = slices.DeleteFunc(o.Legs, func(leg *Leg) bool {
		if leg.bill == nil || leg.platform != nil || leg.Said[HIS].Present {
			return false
		}
		home := byTrade[tradeKey(leg.bill)]
		if home == nil || home == leg || home.bill != nil || home.Kind != leg.Kind {
			return false
		}
		home.bill, leg.into = leg.bill, home
		home.add(leg.bill)
		home.Dups = append(home.Dups, leg.Dups...)
		home.rejudge(r)
		return true
	})
}

func tradeKey(l *Line) string {
	if l.Kind == channels.Refund {
		if l.ChRefundNo == "" {
			return ""
		}
		return "R" + l.ChRefundNo
	}
	if l.TradeNo == "" {
		return ""
	}
	return string(l.Kind[:1]) + "P" + l.TradeNo
}

// joinByBill pairs a HIS row that lost our number with the payment that names
// its bill (key.bill): the bill number is HIS's own, so it is no guess.
func (o *Orphans) joinByBill(r *Rules) {
	byBill := map[string]*Leg{}
	for _, leg := range o.Legs {
		if leg.platform != nil && leg.Kind == channels.Pay && !leg.Said[HIS].Present && leg.platform.BillNo != "" {
			byBill[leg.Hospital+"|"+leg.platform.BillNo] = leg
		}
	}
	o.Loose = slices.DeleteFunc(o.Loose, func(loose *Leg) bool {
		row := &loose.Lines[0]
		home := byBill[row.Hospital+"|"+row.BillNo]
		if home == nil || row.Kind != channels.Pay || row.OrderNo != "" || home.Said[HIS].Present {
			return false
		}
		loose.into = home
		home.add(row)
		home.Dups = append(home.Dups, loose.Dups...)
		home.say(HIS, row.Amount)
		home.rejudge(r)
		return true
	})
}

// rejudge gives the verdict anew after a line was added.
func (leg *Leg) rejudge(r *Rules) {
	leg.Said[Platform], leg.Said[Channel] = Said{}, Said{}
	if leg.Said[HIS].StandIn {
		leg.Said[HIS] = Said{}
	}
	leg.finish(r)
}

// link suggests broken links (I7) and wrong tenders (I8): a HIS row that lacks
// the key itself against a leg that HIS does not know, same hospital, kind and
// amount, within 30 minutes, the same patient where both carry one. One to one
// is a suggestion; anything else is ambiguous (F12) and names every row.
func (o *Orphans) link(r *Rules) {
	byAmount := map[string][]*Leg{}
	for _, leg := range o.Legs {
		if leg.Code == I1 || leg.Code == I3 {
			k := linkKey(leg.Hospital, leg.Kind, leg.held(Platform))
			byAmount[k] = append(byAmount[k], leg)
		}
	}
	nodes := o.candidates(byAmount)
	gone := map[*Leg]bool{}
	for _, c := range components(nodes) {
		c.settle(gone)
	}
	drop := func(leg *Leg) bool { return gone[leg] }
	o.Legs, o.Loose = slices.DeleteFunc(o.Legs, drop), slices.DeleteFunc(o.Loose, drop)
}

func linkKey(hospital string, kind channels.Kind, fen ledger.Money) string {
	return fmt.Sprintf("%s|%s|%d", hospital, kind, fen)
}

// half is a HIS row without the key and the legs it may belong to.
type half struct {
	loose *Leg // electronic row; nil for a cash row
	row   *Line
	fits  []*Leg
}

func (o *Orphans) candidates(byAmount map[string][]*Leg) []half {
	var halves []half
	add := func(loose *Leg, row *Line) {
		var fits []*Leg
		for _, leg := range byAmount[linkKey(row.Hospital, row.Kind, row.Amount)] {
			if fit(leg, row, loose != nil) {
				fits = append(fits, leg)
			}
		}
		if len(fits) > 0 {
			halves = append(halves, half{loose: loose, row: row, fits: fits})
		}
	}
	for _, leg := range o.Loose {
		if leg.Code == I2 || leg.Code == I4 {
			add(leg, &leg.Lines[0])
		}
	}
	for i := range o.Cash {
		if o.Cash[i].OrderNo == "" {
			add(nil, &o.Cash[i])
		}
	}
	return halves
}

func fit(leg *Leg, row *Line, electronic bool) bool {
	if electronic && row.Channel != leg.Channel {
		return false
	}
	if row.Kind == channels.Refund && row.RefundNo != "" || row.Kind == channels.Pay && row.OrderNo != "" {
		return false
	}
	p := leg.platform
	if p == nil || p.Patient != "" && row.Patient != "" && p.Patient != row.Patient {
		return false
	}
	return p.At.Sub(row.At).Abs() <= linkWindow
}

// component is a set of halves and legs that hang together by candidacy.
type component struct {
	halves []half
	legs   []*Leg
}

func components(halves []half) []component {
	owner := map[*Leg]int{} // leg → component
	var all []*component
	for _, h := range halves {
		c := &component{halves: []half{h}}
		all = append(all, c)
		at := len(all) - 1
		for _, leg := range h.fits {
			old, known := owner[leg]
			if known && old != at {
				merge(c, all[old], owner, at)
				all[old] = nil
			}
			if !slices.Contains(c.legs, leg) {
				c.legs = append(c.legs, leg)
			}
			owner[leg] = at
		}
	}
	var out []component
	for _, c := range all {
		if c != nil {
			out = append(out, *c)
		}
	}
	return out
}

func merge(into, from *component, owner map[*Leg]int, at int) {
	into.halves = append(into.halves, from.halves...)
	for _, leg := range from.legs {
		owner[leg] = at
		if !slices.Contains(into.legs, leg) {
			into.legs = append(into.legs, leg)
		}
	}
}

// settle turns one component into a suggestion or an ambiguous case.
func (c component) settle(gone map[*Leg]bool) {
	slices.SortFunc(c.legs, func(a, b *Leg) int {
		return cmp.Or(cmp.Compare(a.OrderNo, b.OrderNo), cmp.Compare(a.RefundNo, b.RefundNo))
	})
	host := c.legs[0]
	var rows []string
	for _, h := range c.halves {
		rows = append(rows, "HIS "+h.row.BillNo)
		host.add(h.row)
		if h.loose != nil {
			gone[h.loose], h.loose.into = true, host
			host.Dups = append(host.Dups, h.loose.Dups...)
			host.D += h.loose.D
		} else {
			host.D -= host.sign() * h.row.Amount // the drawer is short what the channel is long
		}
		host.say(HIS, h.row.Amount)
	}
	if len(c.legs) == 1 && len(c.halves) == 1 {
		host.Code, host.Note = I7, note(noteSuggested, rows[0])
		if c.halves[0].loose == nil {
			host.Code = I8
		}
		return
	}
	for _, leg := range c.legs[1:] {
		gone[leg] = true
		host.D += leg.D
		host.Members = append(host.Members, leg)
		for s := Platform; s < sides; s++ {
			if leg.Said[s].Present {
				host.say(s, leg.Said[s].Fen)
			}
		}
		rows = append(rows, strings.TrimSpace(leg.OrderNo+" "+leg.RefundNo))
	}
	slices.Sort(rows)
	host.Code, host.Note = F12, note(noteCandidates, strings.TrimSpace(host.OrderNo+" "+host.RefundNo)+", "+strings.Join(rows, ", "))
}
