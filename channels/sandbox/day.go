package sandbox

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"

	"github.com/clearward/clearward/channels"
)

// late is a unit of the first day whose missing leg the second day's files
// bring, or fail to bring.
type late struct {
	u       *unit
	code    string // the case then, "" = none
	variant string
}

// billWriter writes what one merchant number's channel hands over for a day:
// the trade bill and the fund bill.
type billWriter interface {
	row(u *unit)
	finish() (closing int64, files []File, err error)
}

// writeDay writes all files of one day, in one pass over time.
func (g *generator) writeDay(index int) error {
	g.index, g.count = index, counters{}
	day := g.cfg.Day.Add(index)
	g.day = &DayPlan{Day: day, StatementDay: nextWorkingDay(day), Planted: map[string]int{}}
	g.plan.Days = append(g.plan.Days, g.day)
	if index == 0 {
		maps.Copy(g.day.Planted, g.cfg.Faults)
		g.day.Files = append(g.day.Files, File{Path: "setup.yaml", Source: SourceSetup})
	}
	if err := os.MkdirAll(filepath.Join(g.dir, g.folder()), 0o755); err != nil {
		return err
	}
	if err := g.openFiles(); err != nil {
		return err
	}
	g.carryIn()
	g.play()
	if err := g.closeFiles(); err != nil {
		return err
	}
	g.day.sort()
	return nil
}

// play tells the day's events in the order in which they happened: clean
// payments from the seed, and what the queue holds.
func (g *generator) play() {
	payments := g.cfg.Payments
	if g.index == 0 {
		payments -= g.plantedPayments()
	}
	midnight := g.index * daySeconds
	next, at := 0, midnight+moment(0, max(payments, 1))
	for {
		queued := len(g.queue) > 0 && int(g.queue[0].at) < midnight+daySeconds
		switch {
		case queued && (next == payments || int(g.queue[0].at) <= at):
			g.happen(g.queue.pop())
		case next < payments:
			g.pay(next, at)
			if next++; next < payments {
				at = midnight + moment(next, payments)
			}
			if next%4096 == 0 {
				g.progress(g.index*g.cfg.Payments+next, g.cfg.Payments*g.cfg.Days)
			}
		default:
			return
		}
	}
}

// pay tells a clean payment and queues its refunds or its reversal.
func (g *generator) pay(i, at int) {
	dr := g.draft(g.index, i)
	seq := g.nextOrder(dr.m)
	u := g.build(&dr, g.index, i, at, seq)
	g.emit(u)
	g.offerRestatable(&dr, u)
	e := event{at: int32(at + 40 + dr.lag*11), of: uint32(i), seq: uint32(seq), day: uint8(g.index)}
	switch dr.fate {
	case fateReversed:
		e.what = eventReverse
		dr.m.slice.NetZero++
		g.queue.push(e)
	case fateReturned:
		dr.m.slice.NetZero++
		g.queue.push(e)
	}
	if dr.backs > 0 {
		g.queueRefund(&dr, e, at)
	}
	if dr.cash {
		g.payCash(dr.m.hospital, i, at)
	}
}

// queueRefund queues the refund e.part of a payment made at the time given. One
// that would fall into the late evening is asked the next morning, if the run
// has one; else it and those after it do not happen.
func (g *generator) queueRefund(dr *draft, e event, paid int) {
	const evening, morning = 83_700, 30_600
	at := paid + dr.back[e.part].after
	if today := g.index * daySeconds; at-today > evening {
		at = today + daySeconds + morning + at%7200
	}
	e.at, e.what = int32(at), eventRefund
	if at/daySeconds < g.cfg.Days {
		g.queue.push(e)
	}
}

// happen tells one queued event.
func (g *generator) happen(e event) {
	if e.what == eventFault {
		g.playStep(g.faults[e.of], int(e.part))
		return
	}
	dr := g.draft(int(e.day), int(e.of))
	paid := g.build(&dr, int(e.day), int(e.of), 0, int(e.seq))
	switch {
	case e.what == eventReverse:
		u := g.reversal(paid, int(e.at))
		u.his.present = false
		g.emit(u)
	case dr.fate == fateReturned:
		u := g.giveBack(paid, int(e.at), dr.amount)
		u.his.present = false
		g.emit(u)
	default:
		for _, before := range dr.back[:e.part] {
			paid.take(before.amount)
		}
		g.emit(g.giveBack(paid, int(e.at), dr.back[e.part].amount))
		if e.part++; int(e.part) < dr.backs {
			gap := dr.back[e.part].after - dr.back[e.part-1].after
			g.queueRefund(&dr, e, int(e.at)+gap-dr.back[e.part].after)
		}
	}
}

// playStep tells one payment or refund of a fault and notes the case.
func (g *generator) playStep(f *fault, part int) {
	s := f.variant.steps[part]
	var u *unit
	if s.kind == channels.Pay {
		u = g.faultPayment(f, uint64(part), g.index, f.at[part], g.nextOrder(f.m))
	} else {
		paid := g.faultPaymentBefore(f, s.of)
		amount := f.back
		if s.half {
			amount /= 2
		}
		u = g.giveBack(paid, f.at[part], amount)
	}
	for _, spoil := range s.spoil {
		spoil(u, f)
	}
	f.units = append(f.units, u)
	g.emit(u)
	if s.late != "" && g.cfg.Days == 2 {
		g.carried = append(g.carried, late{u, s.late, f.variant.name})
	}
	switch {
	case f.variant.merge && part == len(f.variant.steps)-1:
		g.day.add(f.merged())
	case f.variant.merge || s.code == "":
	case s.code == "F9" && u.channel.m.hospital != u.platform.m.hospital:
		g.addBothHospitals(u.caseOf(s.code, f.variant.name, g.index), u.channel.m)
	default:
		g.day.add(u.caseOf(s.code, f.variant.name, g.index))
	}
}

func (g *generator) faultPayment(f *fault, part uint64, day, at, seq int) *unit {
	u := g.payment(f.m, day, at, seq, f.amount, f.amount)
	d := draw(g.cfg.Seed, streamFault, f.person|part)
	u.biz, u.entry = outpatient[d.below(len(outpatient))], drawEntry(d, f.m.channel)
	u.patient = g.person(f.person | part)
	u.payer = uint32(d.below(90_000_000))
	return u
}

// faultPaymentBefore is the payment that a refund gives back; step -1 is one of
// the day before the run, which no file tells.
func (g *generator) faultPaymentBefore(f *fault, step int) *unit {
	if step >= 0 {
		return f.units[step]
	}
	return g.faultPayment(f, 15, -1, 0, 9_000_000+f.number)
}

// merged is the one case of a fault whose legs nobody can tell apart.
func (f *fault) merged() Case {
	var whole Case
	for i, u := range f.units {
		if f.variant.steps[i].code == "" {
			continue
		}
		c := u.caseOf(f.variant.code, f.variant.name, 0)
		if whole.Code == "" {
			whole = c
			continue
		}
		for _, side := range []struct{ sum, part **int64 }{{&whole.HisFen, &c.HisFen}, {&whole.PlatformFen, &c.PlatformFen}, {&whole.ChannelFen, &c.ChannelFen}} {
			total := **side.sum + **side.part
			*side.sum = &total
		}
		whole.AmountFen += c.AmountFen
		whole.OrderNo, whole.RefundNo = min(whole.OrderNo, c.OrderNo), min(whole.RefundNo, c.RefundNo)
	}
	return whole
}

// addBothHospitals writes the two rows of money that came in on another
// hospital's number: short where it is owed, long where it is; on a refund the
// other way round. Each row has what stands in its own hospital's slice.
func (g *generator) addBothHospitals(c Case, took *merchant) {
	owed, held := c, c
	owed.ChannelFen = nil
	owed.AmountFen = -value(c.HisFen)
	held.HisFen, held.PlatformFen = nil, nil
	held.AmountFen = value(c.ChannelFen)
	held.Hospital, held.MerchantNo = took.hospital.code, took.no
	if c.Kind != string(channels.Pay) {
		owed.AmountFen, held.AmountFen = -owed.AmountFen, -held.AmountFen
	}
	g.day.add(owed)
	g.day.add(held)
}

// emit writes what each side knows of a unit into the files of the day.
func (g *generator) emit(u *unit) {
	if u.platform.present {
		g.writePlatform(u)
	}
	g.emitDated(u)
}

// emitDated writes the legs that the day's own files bring.
func (g *generator) emitDated(u *unit) {
	if u.his.present && u.his.file == g.index {
		u.his.hospital.his.write(g, u)
	}
	if u.channel.present && u.channel.file == g.index {
		u.channel.m.bill.row(u)
	}
	g.tally(u)
}

// carryIn tells the legs that the day before could not.
func (g *generator) carryIn() {
	for _, l := range g.carried {
		g.emitDated(l.u)
		if l.code != "" {
			g.day.Planted[l.code]++
			g.day.add(l.u.caseOf(l.code, l.variant, g.index))
		}
	}
	g.carried = nil
}

func (g *generator) nextOrder(m *merchant) int {
	n := &g.count.order[0]
	if m.channel == channels.Alipay {
		n = &g.count.order[1]
	}
	*n++
	return *n
}

// payCash tells a patient who pays at the window, whom only HIS knows. Cash
// amounts are whole tenths of a yuan, which those of faults never are.
func (g *generator) payCash(h *hospital, i, at int) {
	d := draw(g.cfg.Seed, streamPayment, 1<<50|uint64(g.index)<<40|uint64(i))
	u := &unit{kind: channels.Pay, biz: registration, at: at, patient: g.person(1<<50 | uint64(g.index)<<40 | uint64(i))}
	g.count.cash++
	u.bill = numbered("BC"+g.compact(g.index)[2:], g.count.cash, 8)
	u.his = hisLeg{present: true, hospital: h, at: at, bills: 1, tender: "CASH", unkeyed: true, file: g.index, close: g.index}
	u.his.parts[0] = int64(d.between(20, 5000)) * 10
	if d.chance(150) {
		u.his.tender = "POS"
	}
	if d.chance(20) {
		u.kind, u.original = channels.Refund, u.bill
		u.bill = "R" + u.bill[1:]
	}
	h.his.write(g, u)
}

// Restatable is a clean row of a WeChat trade bill that Restate may take out.
type Restatable struct {
	File     string `json:"file"` // relative to the run's folder
	OrderNo  string `json:"order_no"`
	TradeNo  string `json:"trade_no"`
	Case     Case   `json:"case"` // as it stands when the row is gone
	Hospital string `json:"hospital"`
}

// offerRestatable notes the first payment that is clean, of one bill, never
// refunded, at the first hospital's first number and far from midnight.
func (g *generator) offerRestatable(dr *draft, u *unit) {
	if g.plan.Restatable != nil || dr.m != g.hospitals[0].wechat[0] || dr.fate != fatePaid ||
		cmp.Or(dr.backs, dr.bills-1, int(dr.coupon)) != 0 || u.at < 8*3600 {
		return
	}
	gone := *u
	gone.channel.present = false
	c := gone.caseOf("RESTATED", "row taken out of the bill", 0)
	c.Polarity = "short"
	g.plan.Restatable = &Restatable{File: g.tradeBillName(dr.m), OrderNo: u.order, TradeNo: u.trade, Case: c, Hospital: c.Hospital}
}
