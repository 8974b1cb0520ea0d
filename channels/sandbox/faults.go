package sandbox

import (
	"fmt"

	"github.com/clearward/clearward/channels"
)

// fault is one planted fault.
type fault struct {
	variant *variant
	number  int // its place in the list of all
	m       *merchant
	other   *merchant // F9: the number that the bill names
	amount  int64     // of its payments, fen
	back    int64     // of its refunds, fen
	delta   int64     // by how much something differs, fen
	person  uint64
	at      []int // when each step happens
	units   []*unit
}

// variant is one way to plant a code: a few payments and refunds, each clean or
// spoiled in what one side knows of it.
type variant struct {
	code  string
	name  string
	only  string // the one channel that can show it, "" = either
	days  int    // 1 or 2: only in runs of so many days
	merge bool   // the steps' cases are one, listed under the smallest order
	pair  byte   // F9: 's' another number of the same hospital, 'o' another hospital's
	steps []step
}

// step is one payment or refund of a fault.
type step struct {
	kind  channels.Kind
	code  string // the case expected for it, "" = none
	late  string // the case expected a day later, "" = none
	of    int    // refunds: step of the payment, -1 = a payment of the day before
	night bool   // in the last minutes of the day
	half  bool   // refunds: half of the fault's amount
	spoil []func(*unit, *fault)
}

func pay(code string, spoil ...func(*unit, *fault)) step {
	return step{kind: channels.Pay, code: code, spoil: spoil}
}

func back(code string, spoil ...func(*unit, *fault)) step {
	return step{kind: channels.Refund, code: code, spoil: spoil}
}

func (s step) at(night bool) step      { s.night = night; return s }
func (s step) then(late string) step   { s.late = late; return s }
func (s step) onStep(n int) step       { s.of = n; return s }
func (s step) halved() step            { s.half = true; return s }
func steps(s ...step) []step           { return s }
func cleanThen(s ...step) []step       { return append([]step{pay("")}, s...) }
func noHIS(u *unit, _ *fault)          { u.his.present = false }
func failed(u *unit, _ *fault)         { u.platform.failed = true }
func repeatHIS(u *unit, _ *fault)      { u.his.repeated = true }
func repeatBill(u *unit, _ *fault)     { u.channel.repeated = true }
func hisMore(u *unit, f *fault)        { u.his.parts[0] += f.delta }
func hisLess(u *unit, f *fault)        { u.his.parts[0] -= f.delta }
func feeMore(u *unit, f *fault)        { u.channel.fee += f.delta }
func feeLess(u *unit, f *fault)        { u.channel.fee -= f.delta }
func noPatient(u *unit, _ *fault)      { u.his.unknown = true }
func hisNextDay(u *unit, _ *fault)     { u.his.file, u.his.close = 1, 1 }
func processing(u *unit, _ *fault)     { u.platform.withoutAnswer, u.channel.processing = true, true }
func samePatient(u *unit, f *fault)    { u.patient, u.payer = f.units[0].patient, f.units[0].payer }
func sameBill(u *unit, f *fault)       { u.platform.bill = f.units[0].platform.bill }
func billWithoutKey(u *unit, _ *fault) { u.his.unkeyed = true }
func noPlatform(u *unit, _ *fault)     { u.platform.present = false }
func booksCash(u *unit, f *fault)      { u.his.tender = "CASH"; noKey(u, f) }
func channelMore(u *unit, f *fault)    { billedAmount(u, f.delta) }
func channelLess(u *unit, f *fault)    { billedAmount(u, -f.delta) }
func toldTogether(u *unit, _ *fault)   { u.grouped, u.his.present = true, false }
func successLater(u *unit, _ *fault)   { u.platform.channelAt += 300 }
func platformLate(u *unit, f *fault) {
	u.platform.at = daySeconds + 3 + int(f.delta)
	u.his.at = u.platform.at + 4
}
func billedElsewhere(u *unit, f *fault) {
	u.channel.m = f.other
	u.channel.fee = f.other.fee(u.channel.settle)
}

// noChannel is a leg that the channel does not know: it never gave the platform
// an answer, and of a payment no number.
func noChannel(u *unit, _ *fault) {
	u.channel.present = false
	u.platform.withoutAnswer = true
	if u.pays() {
		u.tradeNoOf = false
	}
}

// channelNextDay is a leg whose answer the platform never got and that the
// channel dates just after midnight.
func channelNextDay(u *unit, f *fault) {
	noChannel(u, f)
	u.channel.present = true
	u.channel.file = 1
	u.channel.at = daySeconds + 5 + u.at%200
}

// noKey is a HIS row that nothing ties to its payment: no number was written
// back, and its bill is one that the platform never heard of.
func noKey(u *unit, _ *fault) {
	u.his.unkeyed = true
	u.his.bill = "X" + u.bill
	u.his.at = u.at + 60 + u.at%500
}

func billedAmount(u *unit, delta int64) {
	u.channel.amount += delta
	u.channel.settle += delta
	u.channel.fee = u.channel.m.fee(u.channel.settle)
}

// groupOff is a payment of two bills whose sum is one fen off.
func groupOff(u *unit, _ *fault) {
	u.his.bills = 2
	u.his.parts[1] = u.his.parts[0] / 3
	u.his.parts[0] -= u.his.parts[1] - 1
	u.platform.bill = u.bill + "A"
}

// foreign is a leg of another business that uses the same merchant number.
func foreign(u *unit, _ *fault) {
	u.order = u.meant.foreign + u.order[2:]
	if u.refund != "" {
		u.refund = u.meant.foreign + u.refund[2:]
	}
	u.biz = canteen
	u.his.present, u.platform.present = false, false
}

// voidAndCharge is a refund that HIS tells as a void of the whole receipt and a
// new charge of the rest (全退重收).
func voidAndCharge(u *unit, f *fault) {
	u.his.parts[0] = f.amount
	u.his.recharge = f.amount - f.back
}

// toldAsSum is the HIS row that tells two refunds of one payment as one.
func toldAsSum(u *unit, f *fault) {
	u.grouped, u.his.parent = true, true
	u.his.parts[0] += f.units[1].platform.amount
}

// variants are all ways to plant a fault. A code without cases (KEY_BILL,
// VOID_RECHARGE, REFUND_GROUP, MIDNIGHT) is a shape that must match silently.
var variants = []variant{
	{code: "F1", name: "channel alone", steps: steps(pay("F1", noPlatform, noHIS))},
	{code: "F2", name: "platform failed, channel paid", steps: steps(pay("F2", failed, noHIS))},
	{code: "F3", name: "channel lacks it", steps: steps(pay("F3", noChannel))},
	{code: "F4", name: "channel billed more", steps: steps(pay("F4", channelMore))},
	{code: "F4", name: "channel took back less", steps: cleanThen(back("F4", channelLess))},
	{code: "F4", name: "channel billed less", steps: steps(pay("F4", channelLess))},
	{code: "F4", name: "channel took back more", steps: cleanThen(back("F4", channelMore))},
	{code: "F5", name: "refund in the merchant portal", steps: cleanThen(back("F5", noPlatform, noHIS))},
	{code: "F5", name: "the same, of a payment of the day before", steps: steps(back("F5", noPlatform, noHIS).onStep(-1))},
	{code: "F6", name: "refund never reached the channel", steps: cleanThen(back("F6", noChannel))},
	{code: "F7", name: "fee too high", steps: steps(pay("F7", feeMore))},
	{code: "F7", name: "too little fee returned", steps: cleanThen(back("F7", feeLess))},
	{code: "F7", name: "fee too low", steps: steps(pay("F7", feeLess))},
	{code: "F9", name: "another number of the hospital", pair: 's', only: channels.WeChat, steps: steps(pay("F9", billedElsewhere))},
	{code: "F9", name: "another hospital's number", pair: 'o', only: channels.WeChat, steps: steps(pay("F9", billedElsewhere))},
	{code: "F9", name: "another number of the hospital, and refunded", pair: 's', only: channels.WeChat, steps: steps(pay("F9", billedElsewhere), back("F9", billedElsewhere))},
	{code: "F9", name: "another hospital's number, and refunded", pair: 'o', only: channels.WeChat, steps: steps(pay("F9", billedElsewhere), back("F9", billedElsewhere))},
	{code: "F10", name: "closed the next day", days: 2, steps: steps(pay("PENDING", hisNextDay).at(true).then("F10"))},
	{code: "F10", name: "refund closed the next day", days: 2, steps: cleanThen(back("PENDING", hisNextDay).at(true).then("F10"))},
	{code: "F11", name: "order of the canteen", steps: steps(pay("F11", foreign))},
	{code: "F11", name: "refund of the canteen", steps: steps(back("F11", foreign).onStep(-1))},
	{code: "F12", name: "two and two payments", merge: true, steps: steps(pay("F12", noKey, noPatient), pay("F12", noKey, noPatient))},
	{code: "F12", name: "two and two refunds", merge: true, steps: steps(pay(""), pay(""), back("F12", noKey, noPatient), back("F12", noKey, noPatient).onStep(1))},
	{code: "I1", name: "HIS lacks it", steps: steps(pay("I1", noHIS))},
	{code: "I2", name: "HIS alone", steps: steps(pay("I2", noPlatform, noChannel))},
	{code: "I3", name: "HIS lacks the refund", steps: cleanThen(back("I3", noHIS))},
	{code: "I4", name: "HIS alone refunded", steps: cleanThen(back("I4", noPlatform, noChannel))},
	{code: "I5", name: "HIS booked less", steps: steps(pay("I5", hisLess))},
	{code: "I5", name: "HIS refunded less", steps: cleanThen(back("I5", hisLess))},
	{code: "I5", name: "HIS booked more", steps: steps(pay("I5", hisMore))},
	{code: "I5", name: "HIS refunded more", steps: cleanThen(back("I5", hisMore))},
	{code: "I5", name: "two bills, one fen too many", steps: steps(pay("I5", groupOff))},
	{code: "I6", name: "platform failed, HIS charged", steps: steps(pay("I6", failed, noChannel))},
	{code: "I6", name: "platform's refund failed, HIS refunded", steps: cleanThen(back("I6", failed, noChannel))},
	{code: "I7", name: "number not written back", steps: steps(pay("I7", noKey))},
	{code: "I7", name: "refund number not written back", steps: cleanThen(back("I7", noKey))},
	{code: "I8", name: "booked as cash", steps: steps(pay("I8", booksCash))},
	{code: "I8", name: "refund booked as cash", steps: cleanThen(back("I8", booksCash))},
	{code: "PAID_TWICE", name: "one bill, two payments", steps: cleanThen(pay("PAID_TWICE", noHIS, samePatient, sameBill))},
	{code: "BACKFILL", name: "platform missed it", steps: steps(pay("BACKFILL", noPlatform))},
	{code: "BACKFILL", name: "platform missed the refund", steps: cleanThen(back("BACKFILL", noPlatform))},
	{code: "PHANTOM", name: "platform alone", steps: steps(pay("PHANTOM", noHIS, noChannel))},
	{code: "PHANTOM", name: "platform alone refunded", steps: cleanThen(back("PHANTOM", noHIS, noChannel))},
	{code: "DUP_ROW", name: "HIS row twice", steps: steps(pay("DUP_ROW", repeatHIS))},
	{code: "DUP_ROW", name: "refund twice in the bill", steps: cleanThen(back("DUP_ROW", repeatBill))},
	{code: "DUP_ROW", name: "row twice in the bill", steps: steps(pay("DUP_ROW", repeatBill))},
	{code: "DUP_ROW", name: "HIS refund row twice", steps: cleanThen(back("DUP_ROW", repeatHIS))},
	{code: "PENDING", name: "channel after midnight", steps: steps(pay("PENDING", channelNextDay).at(true).then("F10"))},
	{code: "PENDING", name: "HIS after midnight", steps: steps(pay("PENDING", hisNextDay).at(true).then("F10"))},
	{code: "PENDING", name: "refund at the channel after midnight", steps: cleanThen(back("PENDING", channelNextDay).at(true).then("F10"))},
	{code: "PENDING", name: "refund in HIS after midnight", steps: cleanThen(back("PENDING", hisNextDay).at(true).then("F10"))},
	{code: "PENDING", name: "never at the channel", days: 2, steps: steps(pay("PENDING", noChannel).at(true).then("F3"))},
	{code: "PENDING", name: "never in HIS", days: 2, steps: steps(pay("PENDING", noHIS).at(true).then("I1"))},
	{code: "PENDING", name: "refund never at the channel", days: 2, steps: cleanThen(back("PENDING", noChannel).at(true).then("F6"))},
	{code: "PENDING", name: "refund never in HIS", days: 2, steps: cleanThen(back("PENDING", noHIS).at(true).then("I3"))},
	{code: "SWEEP", name: "refund processing", only: channels.WeChat, steps: cleanThen(back("SWEEP", processing))},
	{code: "MIDNIGHT", name: "paid before midnight by the channel's clock", steps: steps(pay("", platformLate).at(true))},
	{code: "MIDNIGHT", name: "refund successful after midnight", steps: cleanThen(back("", successLater).at(true))},
	{code: "KEY_BILL", name: "order number missing, bill number known", steps: steps(pay("", billWithoutKey))},
	{code: "VOID_RECHARGE", name: "void and new charge", steps: cleanThen(back("", voidAndCharge))},
	{code: "REFUND_GROUP", name: "one HIS row for two refunds", steps: cleanThen(back("", toldTogether), back("", toldAsSum).halved())},
}

// variantsOf lists the ways to plant a code in a run of so many days.
func variantsOf(code string, days int) []*variant {
	var found []*variant
	for i := range variants {
		if v := &variants[i]; v.code == code && (v.days == 0 || v.days == days) {
			found = append(found, v)
		}
	}
	return found
}

// plantAll draws every fault of the first day and queues its steps.
func (g *generator) plantAll() error {
	last, codes := "", 0
	for i := range variants {
		code := variants[i].code
		if code == last {
			continue
		}
		last = code
		codes++
		ways := variantsOf(code, g.cfg.Days)
		for n := range g.cfg.Faults[code] {
			g.plantOne(ways[n%len(ways)], codes, n)
		}
	}
	if planted := g.plantedPayments(); planted > g.cfg.Payments {
		return fmt.Errorf("%w: %d payments hold no faults of %d payments", ErrConfig, g.cfg.Payments, planted)
	}
	return g.plantSettlements()
}

// plantedPayments counts the payments that faults bring along.
func (g *generator) plantedPayments() int {
	n := 0
	for _, f := range g.faults {
		for _, s := range f.variant.steps {
			if s.kind == channels.Pay {
				n++
			}
		}
	}
	return n
}

// plantOne draws the n-th fault of a code. What is drawn for it does not depend
// on how many faults other codes have.
func (g *generator) plantOne(v *variant, code, n int) {
	identity := uint64(code)<<20 | uint64(n)
	d := draw(g.cfg.Seed, streamFault, identity)
	h := g.hospitals[(code+n)%len(g.hospitals)]
	f := &fault{variant: v, number: len(g.faults), m: h.wechat[0], person: 1<<60 | identity<<4, delta: int64(d.between(1, 3))}
	if d.chance(450) && v.only != channels.WeChat {
		f.m = h.alipay
	}
	switch v.pair {
	case 's':
		f.m, f.other = g.hospitals[0].wechat[0], g.hospitals[0].wechat[1]
	case 'o':
		f.other = g.hospitals[(h.index+1)%len(g.hospitals)].wechat[0]
	}
	f.back = g.drawAmount(d)
	f.amount = f.back
	if f.refunds() {
		f.amount = 2*f.back + int64(d.between(1000, 20_000))
	}
	at := d.between(27_600, 37_000)
	if d.chance(500) {
		at = d.between(47_400, 58_000)
	}
	for i, s := range v.steps {
		if s.night {
			at = d.between(85_300, 86_280)
		}
		if v.code == "MIDNIGHT" && s.night {
			at = daySeconds - d.between(1, 10)
		}
		f.at = append(f.at, at)
		g.queue.push(event{at: int32(at), what: eventFault, of: uint32(f.number), part: uint8(i)})
		at += d.between(120, 300)
	}
	g.faults = append(g.faults, f)
}

func (f *fault) refunds() bool {
	for _, s := range f.variant.steps {
		if s.kind == channels.Refund {
			return true
		}
	}
	return false
}

// drawAmount draws an amount that no other fault has and that cash rows and
// payments taken back, all in whole tenths of a yuan, cannot have: an orphan of
// one fault must never fit another's.
func (g *generator) drawAmount(d *dice) int64 {
	top := max(90_000, 20*sum(g.cfg.Faults))
	for {
		fen := int64(d.between(201, top/10))*10 + int64(d.between(1, 9))
		if !g.drawn[fen] {
			g.drawn[fen] = true
			return fen
		}
	}
}

func sum(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}
