package recon

import (
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Said is what one side says of a leg: an amount, or nothing.
type Said struct {
	Present bool
	Fen     ledger.Money
	Waived  bool // the side never speaks of such a leg: what it would say stands in
	StandIn bool // the side's feed is not complete: the platform's figure stands in
}

// Leg is one payment, refund or reversal with what the three sides say of it,
// and the verdict. Legs are facts: the order in which lines arrive never
// changes them.
type Leg struct {
	Kind       channels.Kind
	Hospital   string
	Channel    string
	MerchantNo string
	OrderNo    string
	RefundNo   string
	Day        ledger.Day // the business day that the leg counts on
	Code       Code
	Said       [sides]Said
	D          ledger.Money // held − owed, above zero long
	Carried    bool         // some of its lines were open from another day
	Fresh      bool         // some of its lines are of this day
	Lines      []Line       // every line it was made of
	Dups       []Line       // repeated rows, taken once
	FeeDiff    ledger.Money // billed − rule, for F7
	Swept      bool         // the refund is still being processed by the channel
	Note       string       // what a person needs beside the code: candidates, the other number, ...
	Members    []*Leg       // F12: the other legs of the case
	keep       []Line       // of a leg that is gone: lines that its day needs when it runs again
	into       *Leg         // the leg that has taken this one in
	under      Code         // RESTATED: the verdict that the lines have now
	platform   *Line
	bill       *Line
	extra      string       // a second success under one order number: its own numbers
	row        *legRow      // what an earlier run stored of it
	caseOf     string       // the case of another leg that this one belongs to
	far        *Leg         // F9: the half of the payment that stands at another hospital
	outdated   int          // lines of this day that a newer word of the platform replaced
	inCustody  bool         // F9: both halves are settle mode B
	refunded   ledger.Money // NET_ZERO: of the payment, what was refunded rather than cancelled
}

// Rules is what matching needs to know beside the lines.
type Rules struct {
	Day       ledger.Day
	Merchants map[MerchantKey]Merchant
	// InfoReady and FundReady say whether a day's HIS details and trade bill are
	// complete: fed, for the day of the run; read by a run, for another day.
	InfoReady func(hospital string, day ledger.Day) bool
	FundReady func(hospital, channel, merchantNo string, day ledger.Day) bool
	Published func(hospital string, day ledger.Day) bool // a run of that day has been published
	NoStage   map[string]bool                            // stages switched off, by tests that prove each one counts
}

// MerchantKey names a merchant number.
type MerchantKey struct{ Channel, No string }

// Merchant is what matching knows of a merchant number.
type Merchant struct {
	Hospital string
	Foreign  []string // order-number prefixes of another business on a shared number
	FeeAt    func(day ledger.Day, settle ledger.Money) ledger.Money
}

// window is how far from midnight a leg may still be in the neighbouring day's
// file (spec/reconciliation.md 2.4).
const window = 30 * time.Minute

// matchOrder takes every line that names one order number, of all sides, and
// returns its legs with their verdicts (stages S1, S4–S7b, S10, S10b).
func matchOrder(r *Rules, lines []Line) []*Leg {
	o := order{rules: r, index: make(map[legKey]*Leg, 4)}
	for i := range lines {
		o.take(&lines[i])
	}
	o.joinHIS()
	for _, leg := range o.legs {
		leg.finish(r)
	}
	o.netZero()
	return o.legs
}

type legKey struct {
	kind   channels.Kind
	refund string
	extra  string // a second success under one order number, by its trade number
}

type order struct {
	rules *Rules
	legs  []*Leg
	index map[legKey]*Leg
	his   []*Line
	dups  []Line
}

func (o *order) leg(k legKey, l *Line) *Leg {
	if leg := o.index[k]; leg != nil {
		return leg
	}
	leg := &Leg{Kind: k.kind, Hospital: l.Hospital, Channel: l.Channel, MerchantNo: l.MerchantNo,
		OrderNo: l.OrderNo, RefundNo: l.RefundNo, Day: l.Day}
	if k.kind != channels.Refund {
		leg.RefundNo = ""
	}
	leg.extra = k.extra
	o.index[k] = leg
	o.legs = append(o.legs, leg)
	return leg
}

// take puts a platform or channel line on its leg and keeps HIS lines for joinHIS.
// Lines come with the platform first, then the channel, then HIS.
func (o *order) take(l *Line) {
	if l.Side == HIS {
		if i := indexEqual(o.his, l); i >= 0 && !o.rules.NoStage["S1"] {
			o.dups = append(o.dups, *o.his[i], *l)
			return
		}
		o.his = append(o.his, l)
		return
	}
	k := legKey{kind: l.Kind}
	if l.Kind == channels.Refund {
		k.refund = l.RefundNo
	}
	leg := o.index[k]
	if l.Side == Channel && leg != nil && leg.bill != nil {
		if sameRow(leg.bill, l) && !o.rules.NoStage["S1"] {
			leg.Dups = append(leg.Dups, *leg.bill, *l)
			return
		}
		k.extra = l.TradeNo + l.ChRefundNo
	}
	leg = o.leg(k, l)
	if was := leg.platform; l.Side == Platform && was != nil {
		if !l.supersedes(was) {
			leg.forget(l)
			return
		}
		leg.replace()
	}
	if l.Side == Platform {
		leg.platform, leg.Hospital, leg.MerchantNo, leg.Day = l, l.Hospital, l.MerchantNo, l.Day
	} else {
		leg.bill = l
	}
	leg.add(l)
}

func (leg *Leg) add(l *Line) {
	leg.Lines = append(leg.Lines, *l)
	if l.carried {
		leg.Carried = true
	} else {
		leg.Fresh = true
	}
}

func indexEqual(lines []*Line, l *Line) int {
	for i := range lines {
		if sameRow(lines[i], l) {
			return i
		}
	}
	return -1
}

// sameRow says whether two lines of one feed are the same row repeated.
func sameRow(a, b *Line) bool {
	x, y := *a, *b
	x.File, x.Row, x.carried = y.File, y.Row, y.carried
	return x == y
}

// joinHIS puts the rows of HIS on the legs: by refund number, then the payment's
// bills as a group, then void-and-recharge by the net of the whole order.
func (o *order) joinHIS() {
	pays := map[channels.Kind]ledger.Money{}
	refunds := map[string]ledger.Money{}
	loose, numbers := false, o.refundNumbers()
	for i, l := range o.his {
		pays[l.Kind] += l.Amount
		if l.Kind == channels.Refund {
			refunds[numbers[i]] += l.Amount
			loose = loose || numbers[i] == ""
		}
	}
	if len(o.his) == 0 {
		o.noteDups(nil)
		return
	}
	pay := o.index[legKey{kind: channels.Pay}]
	paid := pay.owed()
	recharged := pays[channels.Refund] > 0 && pays[channels.Pay] > paid && (pay == nil || pays[channels.Pay] != paid)
	if (loose || recharged) && o.joinNet(pays, pay, recharged) {
		return
	}
	voided := o.voids(pay, refunds[""])
	for i, l := range o.his {
		k := legKey{kind: l.Kind}
		if l.Kind == channels.Refund {
			k.refund = numbers[i]
			if numbers[i] == "" {
				k.extra = "his " + l.BillNo
			}
		}
		if voided && l.Kind == channels.Refund && numbers[i] == "" {
			o.leg(legKey{kind: channels.Pay}, l).add(l)
			continue
		}
		leg := o.leg(k, l)
		leg.add(l)
		leg.say(HIS, l.Amount)
		o.noteDups(leg)
	}
	if voided {
		o.index[legKey{kind: channels.Pay}].unsay(refunds[""])
	}
}

// refundNumbers are the refunds that the rows of HIS are about: the number that a row
// carries, else that of a lived refund which the channel closed, or called abnormal,
// before HIS could be told of it, where it alone has the amount and no row. Such a
// refund stays open, and must keep its own row on the days after.
func (o *order) refundNumbers() []string {
	numbers, told := make([]string, len(o.his)), map[string]bool{}
	for i, l := range o.his {
		numbers[i] = l.RefundNo
		told[l.RefundNo] = true
	}
	for i, l := range o.his {
		if l.Kind != channels.Refund || l.RefundNo != "" {
			continue
		}
		var fits []*Leg
		for _, leg := range o.legs {
			if p := leg.platform; p != nil && (p.owes() || p.Lived != nil && p.Lived.Abnormal) && p.Amount == l.Amount && !told[leg.RefundNo] {
				fits = append(fits, leg)
			}
		}
		if len(fits) == 1 {
			numbers[i], told[fits[0].RefundNo] = fits[0].RefundNo, true
		}
	}
	return numbers
}

// voids says whether HIS took its own charge back: a refund row that names the
// order and no refund, for a payment on which the money is not settled between
// platform and channel, and for which no refund is on record anywhere.
func (o *order) voids(pay *Leg, back ledger.Money) bool {
	if back == 0 || o.rules.NoStage["S7"] || pay != nil && pay.owed() > 0 && pay.bill != nil {
		return false
	}
	var charged ledger.Money
	for _, l := range o.his {
		if l.Kind == channels.Pay {
			charged += l.Amount
		}
	}
	for _, leg := range o.legs {
		if leg.Kind != channels.Pay {
			return false
		}
	}
	return back <= charged
}

// unsay takes back part of what HIS said, all of it where nothing is left.
func (leg *Leg) unsay(fen ledger.Money) {
	leg.Said[HIS].Fen -= fen
	leg.Said[HIS].Present = leg.Said[HIS].Fen != 0
}

// noteDups hangs the repeated HIS rows on the leg that took them, once.
func (o *order) noteDups(leg *Leg) {
	if leg == nil || len(o.dups) == 0 {
		return
	}
	kept := o.dups[:0]
	for i := 0; i < len(o.dups); i += 2 {
		if o.dups[i].Kind == leg.Kind && o.dups[i].RefundNo == leg.RefundNo {
			leg.Dups = append(leg.Dups, o.dups[i], o.dups[i+1])
		} else {
			kept = append(kept, o.dups[i], o.dups[i+1])
		}
	}
	o.dups = kept
}

// owed is what the platform says was paid on the leg, 0 where it says nothing.
func (leg *Leg) owed() ledger.Money {
	if leg == nil || leg.platform == nil || !leg.platform.stands() {
		return 0
	}
	return leg.platform.Amount
}

// joinNet compares HIS with the platform over the whole order (S7 several
// refunds in one row, S7b 全退重收). Where the net is exact every leg counts as
// said by HIS; where HIS voided and charged again and the net is not, the
// difference is one I5 on the payment.
func (o *order) joinNet(his map[channels.Kind]ledger.Money, pay *Leg, recharged bool) bool {
	if o.rules.NoStage["S7"] {
		return false
	}
	var net, back ledger.Money
	legs := 0
	for _, leg := range o.legs {
		fen := leg.owed()
		if fen == 0 {
			continue
		}
		legs++
		if leg.Kind == channels.Pay {
			net += fen
		} else {
			net -= fen
			back += fen
		}
	}
	diff := net - (his[channels.Pay] - his[channels.Refund])
	switch {
	case legs == 0:
		return false
	case diff != 0 && !(recharged && back > 0):
		return false
	}
	host := pay
	for _, leg := range o.legs {
		if leg.owed() == 0 {
			continue
		}
		if host == nil {
			host = leg
		}
		leg.say(HIS, leg.owed())
	}
	if diff != 0 {
		// One signed amount on the group: a payment is owed the difference less,
		// a refund by HIS the difference more.
		if host.Kind == channels.Pay {
			host.Said[HIS].Fen -= diff
		} else {
			host.Said[HIS].Fen += diff
		}
		host.Note = note(noteGroup)
	}
	for _, l := range o.his {
		host.add(l)
	}
	o.noteDups(host)
	return true
}

func (leg *Leg) say(s Side, fen ledger.Money) {
	leg.Said[s].Present = true
	leg.Said[s].Fen += fen
}

// netZero finds a payment that was taken and given back on one day without HIS
// ever hearing of it (一正一负): no case, but listed and counted.
func (o *order) netZero() {
	if o.rules.NoStage["S7"] || len(o.legs) < 2 {
		return
	}
	var net ledger.Money
	for _, leg := range o.legs {
		if !leg.silentInHIS() || leg.Funds() != 0 || leg.Day != o.legs[0].Day {
			return
		}
		net += leg.sign() * leg.held(Platform)
	}
	if net != 0 {
		return
	}
	var refunded ledger.Money
	for _, leg := range o.legs {
		leg.Code, leg.D, leg.Said[HIS] = NetZero, 0, Said{}
		if leg.Kind == channels.Refund && leg.platform.outOfPending() {
			refunded += leg.held(Platform)
		}
	}
	if pay := o.index[legKey{kind: channels.Pay}]; pay != nil {
		pay.refunded = refunded
	}
}
