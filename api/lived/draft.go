package lived

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/pay"
)

// fate is what becomes of a visit at the channel, with no difference left behind.
type fate string

const (
	paid        fate = "paid"
	refused     fate = "refused, then paid with another code"
	password    fate = "password entered late"
	neverPaid   fate = "password never entered: reversed"
	unknownPaid fate = "no answer, and paid"
	unknownNot  fate = "no answer, and not paid: reversed"
	twice       fate = "asked twice with one key"
	second      fate = "a second payment of the same bill"
	walkedOff   fate = "a code that nobody scanned: closed by the app"
	lostNotice  fate = "the channel's notice is lost"
	twiceNotice fate = "the channel's notice comes twice"
	forged      fate = "a forged notice comes first"
	foreign     fate = "a notice for another merchant comes first"
)

// tails are the last two digits of payment codes, which tell the sandbox what
// becomes of them (spec/channels.md K.1).
var tails = map[fate][]int{refused: {7}, password: {2}, neverPaid: {3}, unknownPaid: {4, 6, 8}, unknownNot: {5}}

// fates are drawn per thousand; the rest is paid at once.
var codeFates = []chance{{refused, 10}, {password, 15}, {neverPaid, 4}, {unknownPaid, 15}, {unknownNot, 4}, {twice, 10}, {second, 5}}
var prepayFates = []chance{{walkedOff, 20}, {lostNotice, 20}, {twiceNotice, 20}, {forged, 10}, {foreign, 10}, {second, 5}}

type chance struct {
	fate fate
	of   int // a thousand
}

// visit is one patient's bill and what is done about it.
type visit struct {
	n        int
	hospital *hospital
	number   *number // nil: cash
	way      channels.Way
	biz      pay.BizType
	fen      int64
	fate     fate
	backs    []int64 // refunded later
	fault    *fault  // nil for none
	step     int
	try      int // how often the bill was tried before

	paid    bool
	missed  bool       // what HIS is told of it gets lost at first
	order   string     // our number, once the server has said it
	trade   string     // the channel's
	refunds []paidBack // in the order of their asking
}

// paidBack is a refund as the client was told of it.
type paidBack struct {
	no  string
	fen int64
}

// patient is an opaque reference, the same for everybody who hears of the visit.
func (v *visit) patient() string {
	return fmt.Sprintf("P%016x", uint64(v.n%nextVisit+1)*0x9e3779b97f4a7c15)
}

// nextVisit is what lies between the number of a visit and that of the same patient's next;
// a day has no more visits.
const nextVisit = 1_000_000

// pays says whether the visit's bill is paid in the end.
func (v *visit) pays() bool {
	return v.fate != neverPaid && v.fate != unknownNot && v.fate != walkedOff
}

func (v *visit) bill() string { return fmt.Sprintf("B%s%07d", lifeDay.Compact(), v.n) }

// rush is how the day's visits fall into its hours: until that second of the day,
// so many of a thousand.
var rush = []struct{ until, share int }{
	{8 * 3600, 90}, {9 * 3600, 200}, {10 * 3600, 230}, {12 * 3600, 180}, {14 * 3600, 80}, {16 * 3600, 140}, {18 * 3600, 50}, {23 * 3600, 30},
}

// opens is the second of the day at which the windows open.
const opens = 6*3600 + 1800

// steps are how many times the clock jumps while patients pay.
const steps = 66

// moment is the time of a step: a quarter of an hour apart through the day, but the last,
// which is five minutes before midnight.
func moment(step int) time.Time {
	if step == steps {
		return at(lifeDay, 23, 55, 0)
	}
	return at(lifeDay, 0, 0, opens).Add(time.Duration(step) * 15 * time.Minute)
}

// stepOf draws the step of a visit from the day's rush.
func stepOf(d *rand.Rand) int {
	pick, from := d.IntN(1000), opens
	for _, r := range rush {
		if pick < r.share {
			second := from + (r.until-from)*pick/r.share
			return (second - opens) / 900
		}
		pick -= r.share
		from = r.until
	}
	return steps - 1
}

// draft draws the n-th visit of a seed.
func draft(seed uint64, n int) *visit {
	d := rand.New(rand.NewPCG(seed, uint64(n)))
	h := &hospitals[d.IntN(len(hospitals))]
	v := &visit{n: n, hospital: h, step: stepOf(d), fate: paid}
	v.biz, v.fen = drawBill(d)
	pick := d.IntN(100)
	for i := range h.numbers {
		if pick < h.numbers[i].share {
			v.number = &h.numbers[i]
			break
		}
		pick -= h.numbers[i].share
	}
	if v.number == nil {
		return v
	}
	v.way = v.number.ways[d.IntN(len(v.number.ways))]
	v.fate = drawFate(d, v.way)
	if d.IntN(1000) < 80 && v.pays() {
		v.backs = drawBacks(d, v.fen)
	}
	return v
}

func drawFate(d *rand.Rand, way channels.Way) fate {
	list := prepayFates
	if way == channels.WayCode {
		list = codeFates
	}
	pick := d.IntN(1000)
	for _, c := range list {
		if pick < c.of {
			return c.fate
		}
		pick -= c.of
	}
	return paid
}

// drawBill draws what is paid for: many small registrations, outpatient bills with
// a long tail, deposits of whole hundreds of yuan.
func drawBill(d *rand.Rand) (pay.BizType, int64) {
	switch p := d.IntN(100); {
	case p < 30:
		return pay.Registration, []int64{250, 600, 1000, 1500, 2500, 5000}[d.IntN(6)]
	case p < 82:
		return pay.Outpatient, 500 + d.Int64N(29_500)
	case p < 88:
		return pay.Checkup, (2 + d.Int64N(28)) * 1000
	}
	return pay.Deposit, (5 + d.Int64N(45)) * 1000
}

// drawBacks draws one full or partial refund, or two partial ones.
func drawBacks(d *rand.Rand, fen int64) []int64 {
	switch p := d.IntN(10); {
	case p < 5 || fen < 100:
		return []int64{fen}
	case p < 8:
		return []int64{1 + d.Int64N(fen*2/3)}
	}
	first := 1 + d.Int64N(fen/2)
	return []int64{first, fen - first}
}

// code is a payment code of the visit's channel whose last digits ask for its fate.
func (v *visit) code(try int) string {
	tail := 20 + (v.n+try)%80
	if list := tails[v.fate]; len(list) > 0 && try == 0 {
		tail = list[v.n%len(list)]
	}
	if v.number.channel == channels.Alipay {
		return fmt.Sprintf("28%08d%04d%02d", v.n%100_000_000, try, tail)
	}
	return fmt.Sprintf("13%08d%06d%02d", v.n%100_000_000, try, tail)
}
