package sandbox

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
