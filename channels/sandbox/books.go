package sandbox

import (
	"github.com/clearward/clearward/channels"
)

// unit is one payment, refund or reversal in the books of the sandbox: what it
// is, and what each side knows of it. A fault changes what one side knows.
type unit struct {
	kind      channels.Kind
	order     string
	refund    string // our refund number; on a reversal the order number
	trade     string // the channel's number of the payment
	chRefund  string // the channel's number of the refund
	patient   string
	payer     uint32 // who paid, as the channel shows it
	biz       *business
	entry     *entry // how the payment came in
	bill      string // his_bill_no, of a refund its own
	original  string // of a refund: the bill of the payment
	coupon    int64  // what the channel's bill shows as coupon or discount
	at        int    // when, in seconds from the first day's midnight
	meant     *merchant
	left      *remainder // of a payment: what can still be refunded
	his       hisLeg
	platform  platformLeg
	channel   channelLeg
	grouped   bool // HIS tells it together with another refund of the payment
	tradeNoOf bool // the platform knows the channel's number
}

type hisLeg struct {
	present  bool
	hospital *hospital
	at       int
	parts    [3]int64 // a payment's bills; the first alone for most
	bills    int
	bill     string // "" = the unit's
	unkeyed  bool   // neither order nor refund number was written back
	parent   bool   // the refund number alone is missing
	unknown  bool   // no patient reference
	tender   string // "" = the channel
	file     int    // index of the day whose file brings it
	close    int    // index of the day whose cashier close dates it
	repeated bool
	recharge int64 // a refund told as a void of all and a new charge of this much
}

type platformLeg struct {
	present       bool
	failed        bool
	m             *merchant
	at            int
	amount        int64
	settle        int64
	channelAt     int  // the channel's success time
	withoutAnswer bool // the channel never gave one
	bill          string
}

type channelLeg struct {
	present    bool
	m          *merchant
	at         int
	file       int
	amount     int64
	settle     int64
	fee        int64
	processing bool
	status     string // 退款状态 of a refund that is not finished well, "" otherwise
	repeated   bool
}

// remainder is what is left of a payment after refunds, fen.
type remainder struct{ amount, settle, fee int64 }

// total is what HIS books for the unit: the sum of its bills, or of a void and
// the new charge the net.
func (l *hisLeg) total() int64 {
	sum := -l.recharge
	for _, part := range l.parts[:l.bills] {
		sum += part
	}
	return sum
}

// linked says whether any number ties the HIS row to its payment.
func (u *unit) linked() bool {
	return !(u.his.unkeyed && u.his.bill != "") && u.his.tender == ""
}

func (u *unit) pays() bool { return u.kind == channels.Pay }

// payment builds the unit of a payment that all sides know alike.
func (g *generator) payment(m *merchant, day, at, seq int, amount, settle int64) *unit {
	date := g.compact(day)
	u := &unit{kind: channels.Pay, at: at, meant: m, tradeNoOf: true}
	if m.channel == channels.WeChat {
		u.order = numbered("HP"+date, seq, 8)
		u.trade = numbered("4200002345"+date, seq, 10)
		u.bill = numbered("BW"+date[2:], seq, 8)
	} else {
		u.order = numbered("HPA"+date, seq, 7)
		u.trade = numbered(date+"2200148860", seq, 10)
		u.bill = numbered("BA"+date[2:], seq, 8)
	}
	u.left = &remainder{amount: amount, settle: settle, fee: m.fee(settle)}
	u.his = hisLeg{present: true, hospital: m.hospital, at: at, parts: [3]int64{amount}, bills: 1, file: g.index, close: g.index}
	u.platform = platformLeg{present: true, m: m, at: at, amount: amount, settle: settle, channelAt: at, bill: u.bill}
	u.channel = channelLeg{present: true, m: m, at: at, file: g.index, amount: amount, settle: settle, fee: u.left.fee}
	return u
}

// take takes a refund off what is left of a payment and says what the channel
// takes back for it. Of a coupon order that is the money's share; the fee comes
// back by its own rule, at most what is left of it.
func (u *unit) take(amount int64) (settle, fee int64) {
	settle = amount
	if full := u.platform.amount; u.meant.channel == channels.WeChat && u.platform.settle != full {
		settle = (2*amount*u.platform.settle + full) / (2 * full)
	}
	settle = min(settle, u.left.settle)
	if amount == u.left.amount {
		settle = u.left.settle
	}
	fee = min(u.meant.fee(settle), u.left.fee)
	u.left.amount -= amount
	u.left.settle -= settle
	u.left.fee -= fee
	return settle, fee
}

// giveBack builds the unit of a refund that all sides know alike.
func (g *generator) giveBack(pay *unit, at int, amount int64) *unit {
	settle, fee := pay.take(amount)
	if fee < pay.meant.fee(settle) {
		g.day.CappedFees++
	}
	u := g.backLegs(pay, at, amount, settle, fee)
	u.kind = channels.Refund
	date := g.compact(g.index)
	if pay.meant.channel == channels.WeChat {
		g.count.refund[0]++
		n := g.count.refund[0]
		u.refund = numbered("HR"+date, n, 8)
		u.chRefund = numbered("5030000701"+date, n, 11)
		u.bill = numbered("RW"+date[2:], n, 8)
		return u
	}
	g.count.refund[1]++
	n := g.count.refund[1]
	u.refund = numbered("HR"+date, 10_000_000+n, 8)
	u.bill = numbered("RA"+date[2:], n, 8)
	return u
}

// reversal builds the unit of a reversed payment (撤销): WeChat tells it under
// the order's own number.
func (g *generator) reversal(pay *unit, at int) *unit {
	u := g.backLegs(pay, at, pay.platform.amount, pay.platform.settle, pay.left.fee)
	u.kind, u.refund = channels.Reverse, pay.order
	g.count.refund[0]++
	u.chRefund = numbered("5030000701"+g.compact(g.index), g.count.refund[0], 11)
	return u
}

func (g *generator) backLegs(pay *unit, at int, amount, settle, fee int64) *unit {
	m := pay.meant
	u := &unit{order: pay.order, trade: pay.trade, patient: pay.patient, payer: pay.payer, biz: pay.biz, entry: pay.entry,
		original: pay.bill, at: at, meant: m, tradeNoOf: true}
	if pay.his.bills > 1 {
		u.original += "A"
	}
	u.his = hisLeg{present: true, hospital: m.hospital, at: at, parts: [3]int64{amount}, bills: 1, file: g.index, close: g.index}
	u.platform = platformLeg{present: true, m: m, at: at, amount: amount, settle: settle, channelAt: at, bill: u.original}
	u.channel = channelLeg{present: true, m: m, at: at, file: g.index, amount: amount, settle: settle, fee: fee}
	return u
}

// compact is the date as in numbers, "20260915"; -1 is the day before the first.
func (g *generator) compact(day int) string {
	if day < 0 {
		return g.cfg.Day.Add(day).Compact()
	}
	d := g.dates[day]
	return d[:4] + d[5:7] + d[8:]
}

// numbered appends a number with leading zeros.
func numbered(front string, n, digits int) string {
	b := make([]byte, 0, 32)
	b = append(b, front...)
	return string(appendDigits(b, uint64(n), digits))
}

// person is the opaque reference of a patient.
func (g *generator) person(n uint64) string {
	const hex = "0123456789abcdef"
	var b [17]byte
	b[0] = 'P'
	for i, x := 1, draw(g.cfg.Seed, streamPerson, n).next(); i < len(b); i, x = i+1, x>>4 {
		b[i] = hex[x&15]
	}
	return string(b[:])
}

// seen is what the three sides say of a unit once the files of the days up to
// index are there.
func (u *unit) seen(index int) (his, platform, channel *int64) {
	if u.his.present && u.his.file <= index {
		total := u.his.total()
		his = &total
	}
	if u.platform.present && !u.platform.failed {
		platform = &u.platform.amount
	}
	if u.channel.present && u.channel.file <= index {
		channel = &u.channel.amount
	}
	return his, platform, channel
}

// caseOf writes the expected row of a unit: d = held − owed, PAY channel − HIS,
// REFUND HIS − channel.
func (u *unit) caseOf(code, variant string, index int) Case {
	c := Case{Code: code, Channel: u.meant.channel, Hospital: u.meant.hospital.code, Kind: string(u.kind),
		OrderNo: u.order, RefundNo: u.refund, Variant: variant}
	c.HisFen, c.PlatformFen, c.ChannelFen = u.seen(index)
	switch {
	case u.platform.present:
		c.MerchantNo = u.platform.m.no
	case u.channel.present:
		c.MerchantNo = u.channel.m.no
	}
	c.AmountFen = value(c.ChannelFen) - value(c.HisFen)
	if u.foreign() {
		c.AmountFen = 0 // outside the platform pair
	}
	if !u.pays() {
		c.AmountFen = -c.AmountFen
	}
	return c
}

func value(fen *int64) int64 {
	if fen == nil {
		return 0
	}
	return *fen
}

// tally counts a unit in the slices of the day on which its rows stand. A leg
// that comes a day later counts in that day's slice, and is not matched there.
func (g *generator) tally(u *unit) {
	pay, today := u.pays(), g.index
	his := u.his.present && u.his.file == today
	platform := u.platform.present && !u.platform.failed && u.at/daySeconds == today
	channel := u.channel.present && u.channel.file == today
	if channel {
		g.tallyBill(u)
	}
	if platform {
		u.platform.m.slice.Platform.count(pay, u.platform.amount)
	}
	total := u.his.total()
	if his {
		side := &u.meant.slice.HIS
		if !u.linked() {
			side = &u.meant.slice.HISUnlinked
		}
		side.count(pay, total)
	}
	if !platform {
		return
	}
	amount, slice := u.platform.amount, u.platform.m.slice
	funds := channel && u.channel.amount == amount && u.channel.m == u.platform.m
	info := u.grouped || (his && u.linked() && total == amount)
	if funds {
		slice.FundsMatched.count(pay, amount)
	}
	if info {
		slice.InfoMatched.count(pay, amount)
	}
	if funds && info {
		slice.AllEqual.count(pay, amount)
	}
}

func (g *generator) tallyBill(u *unit) {
	pay, l, slice := u.pays(), &u.channel, u.channel.m.slice
	sign := int64(1)
	if !pay {
		sign = -1
	}
	net := sign * (l.settle - l.fee)
	slice.FeesFen += sign * l.fee
	slice.TradeNet += net
	if l.repeated {
		slice.RepeatedNet += net
	}
	if u.foreign() {
		slice.Foreign.count(pay, l.amount)
		return
	}
	slice.Bill.count(pay, l.amount)
	slice.CouponFen += sign * (l.amount - l.settle)
}

// foreign says whether another business of the hospital made the order.
func (u *unit) foreign() bool {
	p := u.meant.foreign
	return p != "" && len(u.order) > len(p) && u.order[:len(p)] == p
}
