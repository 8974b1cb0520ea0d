package recon

import (
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// finish fills in what platform and channel say, lets the platform stand in for
// a feed that is not complete, and gives the verdict.
func (leg *Leg) finish(r *Rules) {
	if leg.owed() > 0 {
		leg.say(Platform, leg.platform.Amount)
	}
	if b := leg.bill; b != nil {
		if leg.platform == nil {
			leg.Hospital, leg.Channel, leg.MerchantNo = b.Hospital, b.Channel, b.MerchantNo
		}
		if leg.took() {
			leg.say(Channel, b.Amount)
			leg.Swept = b.Status == channels.Processing
		}
	}
	day := leg.readyOn(r)
	fundReady := r.FundReady(leg.Hospital, leg.Channel, leg.MerchantNo, day)
	leg.waive(fundReady)
	if !r.InfoReady(leg.Hospital, day) {
		leg.standIn(HIS)
	}
	if leg.MerchantNo != "" && !fundReady && leg.bill == nil && !leg.waits(r) {
		leg.standIn(Channel)
	}
	leg.judge(r)
}

func (leg *Leg) standIn(s Side) {
	if !leg.Said[s].Present {
		leg.Said[s] = leg.Said[Platform]
		leg.Said[s].StandIn = true
	}
}

// held is the fen a side says, 0 where it says nothing.
func (leg *Leg) held(s Side) ledger.Money {
	if !leg.Said[s].Present {
		return 0
	}
	return leg.Said[s].Fen
}

// Info and Funds are the differences of the two pairs with the sign of the leg:
// a refund turns held and owed round (spec/reconciliation.md 2.5).
func (leg *Leg) Info() ledger.Money { return leg.sign() * (leg.held(Platform) - leg.held(HIS)) }

// Funds is channel − platform, turned round on refunds.
func (leg *Leg) Funds() ledger.Money { return leg.sign() * (leg.held(Channel) - leg.held(Platform)) }

func (leg *Leg) sign() ledger.Money {
	if leg.Kind == channels.Pay {
		return 1
	}
	return -1
}

// bits packs presence as HIS, platform, channel, as the truth table writes it.
func (leg *Leg) bits() int {
	n := 0
	for _, s := range leg.Said {
		n <<= 1
		if s.Present {
			n |= 1
		}
	}
	return n
}

// judge gives the leg its code: the truth table of spec/reconciliation.md 2.6.
func (leg *Leg) judge(r *Rules) {
	leg.D = leg.Info() + leg.Funds()
	leg.Code = leg.verdict(r)
	if leg.Code != Match && leg.Code != None && !r.NoStage["S10"] && leg.mayStillCome(r) {
		leg.Code = Pending
	}
	if leg.waits(r) && leg.Code != None {
		leg.Code = Pending
	}
}

func (leg *Leg) verdict(r *Rules) Code {
	pay := leg.Kind == channels.Pay
	switch leg.bits() {
	case 0b111:
		return leg.compare(r)
	case 0b011:
		return pick(pay, I1, I3)
	case 0b101:
		return Backfill
	case 0b110:
		return pick(pay, F3, F6)
	case 0b010:
		return Phantom
	case 0b100:
		if leg.platform != nil {
			return I6
		}
		return pick(pay, I2, I4)
	case 0b001:
		return leg.channelOnly(r, pay)
	}
	return None
}

func pick(pay bool, a, b Code) Code {
	if pay {
		return a
	}
	return b
}

func (leg *Leg) channelOnly(r *Rules, pay bool) Code {
	if leg.foreign(r) {
		leg.D = 0 // outside the platform pair, inside the settlement sum
		return F11
	}
	if !pay {
		return F5
	}
	if leg.platform != nil {
		return F2
	}
	return F1
}

// compare judges a leg that all three sides know.
func (leg *Leg) compare(r *Rules) Code {
	switch {
	case leg.Info() != 0 && leg.Funds() != 0 && leg.D == 0:
		return Backfill
	case leg.Funds() != 0:
		return F4
	case leg.Info() != 0:
		return I5
	case leg.bill != nil && leg.platform != nil && leg.bill.MerchantNo != leg.platform.MerchantNo:
		return F9
	case leg.feeDiff(r) != 0:
		return F7
	case leg.Swept:
		return Sweep
	case leg.crossDay():
		return F10
	}
	return Match
}

func (leg *Leg) foreign(r *Rules) bool {
	if leg.platform != nil || leg.bill == nil {
		return false
	}
	for _, prefix := range r.Merchants[MerchantKey{leg.Channel, leg.MerchantNo}].Foreign {
		if strings.HasPrefix(leg.OrderNo, prefix) {
			return true
		}
	}
	return false
}

// feeDiff compares the billed fee of a row with rate × settlement amount, half-up.
// A refund returns at most what is left of the fee charged for its payment: the
// platform has reckoned that, where it knows the refund.
func (leg *Leg) feeDiff(r *Rules) ledger.Money {
	b, p := leg.bill, leg.platform
	if b == nil || r.NoStage["S5"] {
		return 0
	}
	m, ok := r.Merchants[MerchantKey{b.Channel, b.MerchantNo}]
	if !ok {
		return 0
	}
	rule := m.FeeAt(b.Day, b.Settle)
	if leg.Kind != channels.Pay && p != nil && p.Settle == b.Settle {
		rule = p.Fee
	}
	leg.FeeDiff = b.Fee - rule
	return leg.FeeDiff
}

// crossDay says whether the lines count on different business days.
func (leg *Leg) crossDay() bool {
	for i := range leg.Lines {
		if leg.Lines[i].Day != leg.Lines[0].Day {
			return true
		}
	}
	return false
}

// mayStillCome says whether a missing side may stand in the neighbouring day's
// feed: the leg lies within the window of midnight and no run has read that feed
// yet. A platform payment that carries the channel's own time is dated exactly, so
// that the channel has no window there.
func (leg *Leg) mayStillCome(r *Rules) bool {
	if leg.bits() == 0b111 || leg.Code == F11 {
		return false
	}
	if leg.bits() == 0b110 && leg.Kind == channels.Pay && leg.platform.Final {
		return false
	}
	for i := range leg.Lines {
		if day := neighbourDay(&leg.Lines[i]); day != 0 && leg.awaits(r, day) {
			return true
		}
	}
	return false
}

// awaits says whether a side that the leg lacks has not told that day yet.
func (leg *Leg) awaits(r *Rules, day ledger.Day) bool {
	switch {
	case !leg.Said[HIS].Present && !r.InfoReady(leg.Hospital, day):
		return true
	case !leg.Said[Channel].Present && leg.MerchantNo != "" && !r.FundReady(leg.Hospital, leg.Channel, leg.MerchantNo, day):
		return true
	}
	return !leg.Said[Platform].Present && day != r.Day && !r.Published(leg.Hospital, day)
}

// neighbourDay returns the day whose feed may hold the other side of a line that
// lies within the window of midnight, 0 for a line that does not.
func neighbourDay(l *Line) ledger.Day {
	start := l.Day.Start()
	switch {
	case l.At.Sub(start) < window:
		return l.Day.Add(-1)
	case l.At.Sub(start) >= 24*time.Hour-window:
		return l.Day.Add(1)
	}
	return 0
}
