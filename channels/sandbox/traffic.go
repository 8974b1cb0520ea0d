package sandbox

import "github.com/clearward/clearward/channels"

// business is what a payment was for.
type business struct {
	code    string
	product string // 商品名称, a neutral text
	gbk     []byte
}

// entry is how a payment came in.
type entry struct {
	terminal string // as the platform calls it
	device   string // 设备号 or 终端号 in the bill
	way      string // WeChat: 交易类型; Alipay: 操作员
}

var (
	registration = newBusiness("REGISTRATION", "门诊挂号费")
	outpatient   = []*business{
		newBusiness("OUTPATIENT", "门诊缴费"), newBusiness("OUTPATIENT", "药费"),
		newBusiness("OUTPATIENT", "检验费"), newBusiness("OUTPATIENT", "检查费"),
	}
	checkup   = newBusiness("CHECKUP", "体检费")
	deposit   = newBusiness("INPATIENT_DEPOSIT", "住院预交金")
	discharge = newBusiness("DISCHARGE", "住院结算补缴")
	trial     = newBusiness("TEST", "联调测试")
	canteen   = newBusiness("", "食堂餐费")

	registrationFen = []int64{250, 600, 1000, 1500, 2500, 3000, 5000}

	wechatEntries = []entry{
		{"MP", "", "JSAPI"}, {"MP", "", "JSAPI"}, {"APP", "", "APP"}, {"H5", "", "MWEB"}, {"QR", "", "NATIVE"},
		{"KIOSK01", "KIOSK01", "MICROPAY"}, {"KIOSK02", "KIOSK02", "MICROPAY"}, {"WIN01", "WIN01", "MICROPAY"},
		{"WIN03", "WIN03", "MICROPAY"}, {"FACE01", "FACE01", "FACE"},
	}
	alipayEntries = []entry{
		{"LIFE", "", ""}, {"LIFE", "", ""}, {"T001", "T001", "HIS01"}, {"T002", "T002", "HIS02"}, {"K003", "K003", "KIOSK"},
	}
)

func newBusiness(code, product string) *business {
	return &business{code: code, product: product, gbk: gbk(product)}
}

// fate is what becomes of a clean payment.
type fate uint8

const (
	fatePaid     fate = iota
	fateFailed        // an attempt that nobody charged
	fateReversed      // a micropay taken back (撤销) before HIS heard of it
	fateReturned      // paid and refunded within minutes, never in HIS
)

// draft is a clean payment as drawn from the seed.
type draft struct {
	m      *merchant
	biz    *business
	entry  *entry
	amount int64
	settle int64
	coupon int64
	parts  [3]int64 // HIS bills; the first alone for most
	bills  int
	fate   fate
	lag    int // seconds until the platform and HIS book it
	back   [3]drawnRefund
	backs  int
	cash   bool // somebody pays cash at the same time
}

type drawnRefund struct {
	after  int // seconds after the payment
	amount int64
}

// draft draws the i-th clean payment of a day. Drawing it again gives the same,
// so that nothing of a payment needs to be kept until its refund is due.
func (g *generator) draft(day, i int) draft {
	d := draw(g.cfg.Seed, streamPayment, uint64(day)<<40|uint64(i))
	h := g.hospitals[d.below(len(g.hospitals))]
	dr := draft{bills: 1, m: h.alipay}
	dr.biz, dr.amount = drawBusiness(d)
	if d.below(100) < 55 {
		dr.m = h.wechat[0]
		if dr.biz == deposit || dr.biz == discharge {
			dr.m = h.wechat[len(h.wechat)-1]
		}
	}
	dr.entry = drawEntry(d, dr.m.channel)
	dr.lag, dr.cash = d.below(3), d.chance(120)
	dr.fate = drawFate(d, dr.entry)
	if dr.fate == fateReversed || dr.fate == fateReturned {
		dr.amount = max(dr.amount-dr.amount%10, 10)
	}
	dr.settle = dr.amount
	if dr.fate == fatePaid {
		dr.drawCoupon(d)
		dr.drawBills(d)
		dr.drawRefunds(d, g.cfg.Refunds)
	}
	dr.parts[0] = dr.amount - dr.parts[1] - dr.parts[2]
	return dr
}

// drawBusiness draws what is paid for and the price: many small registrations,
// a long tail of outpatient bills, deposits in whole hundreds of yuan.
func drawBusiness(d *dice) (*business, int64) {
	switch p := d.below(1000); {
	case p < 2:
		return trial, 1
	case p < 300:
		return registration, registrationFen[d.below(len(registrationFen))]
	case p < 800:
		biz := outpatient[d.below(len(outpatient))]
		switch size := d.below(4); size {
		case 0:
			return biz, int64(d.between(83, 5_000))
		case 3:
			return biz, int64(d.between(30_000, 150_000))
		}
		return biz, int64(d.between(5_000, 30_000))
	case p < 880:
		return checkup, int64(d.between(200, 3_000)) * 100
	case p < 960:
		return deposit, int64(d.between(5, 50)) * 10_000
	case p < 962:
		return deposit, 5_000_000
	}
	return discharge, int64(d.between(10_000, 1_200_000))
}

func drawEntry(d *dice, channel string) *entry {
	if channel == channels.WeChat {
		return &wechatEntries[d.below(len(wechatEntries))]
	}
	return &alipayEntries[d.below(len(alipayEntries))]
}

func drawFate(d *dice, e *entry) fate {
	switch p := d.below(1000); {
	case p < 3:
		return fateFailed
	case p < 5:
		return fateReturned
	case p < 25 && e.way == "MICROPAY":
		return fateReversed
	}
	return fatePaid
}

// drawCoupon gives a few orders a coupon: one the hospital funds lowers what
// the channel settles, one bought beforehand is only shown.
func (dr *draft) drawCoupon(d *dice) {
	p := d.below(1000)
	if dr.amount < 2000 || p >= 9 {
		return
	}
	switch {
	case p < 6 && dr.m.channel == channels.WeChat:
		dr.coupon, dr.settle = 500, dr.amount-500
	case p < 6:
		dr.coupon, dr.settle = 680, dr.amount-680
	case dr.m.channel == channels.WeChat:
		dr.coupon = 529
	}
}

// drawBills lets a few payments cover two or three bills of HIS (合并缴费).
func (dr *draft) drawBills(d *dice) {
	if dr.biz.code != "OUTPATIENT" || dr.amount < 300 || !d.chance(20) {
		return
	}
	dr.bills = d.between(2, 3)
	for i := 1; i < dr.bills; i++ {
		dr.parts[i] = int64(d.between(1, int(dr.amount/3)))
	}
}

// drawRefunds draws full and partial refunds, some payments with two or three.
func (dr *draft) drawRefunds(d *dice, perThousand int) {
	if d.below(10_000) >= perThousand*8 {
		return
	}
	dr.backs = []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3}[d.below(20)]
	discounted := dr.m.channel == channels.Alipay && dr.settle != dr.amount
	if dr.amount < 100 || discounted {
		dr.backs = 1
	}
	left, after := min(dr.amount, dr.settle+dr.couponShare()), 0
	for i := range dr.backs {
		after += d.between(300, 3*3600)
		part := left
		if last := i == dr.backs-1; left > 99 && (!last || d.chance(500)) {
			part = int64(d.between(1, int(left)*2/3))
		}
		dr.back[i] = drawnRefund{after, part}
		if left -= part; left == 0 {
			dr.backs = i + 1 // too little was left to give back in further parts
			return
		}
	}
}

// couponShare is what a refund of a WeChat coupon order gives back beside the
// money: nothing of it leaves the merchant's balance. Alipay refunds money only.
func (dr *draft) couponShare() int64 {
	if dr.m.channel == channels.WeChat {
		return dr.amount - dr.settle
	}
	return 0
}

// build makes the unit of a drawn payment.
func (g *generator) build(dr *draft, day, i, at, seq int) *unit {
	u := g.payment(dr.m, day, at, seq, dr.amount, dr.settle)
	u.biz, u.entry, u.coupon = dr.biz, dr.entry, dr.coupon
	u.payer = uint32(i)
	u.patient = g.person(uint64(day)<<40 | uint64(i))
	u.his.parts, u.his.bills, u.his.at = dr.parts, dr.bills, at+dr.lag
	u.platform.at = at + dr.lag
	if dr.bills > 1 {
		u.platform.bill = u.bill + "A"
	}
	if dr.fate == fateFailed {
		u.platform.failed = true
		u.channel.present = false
	}
	if dr.fate != fatePaid {
		u.his.present = false
	}
	return u
}

// rush says how much of a day's traffic falls into which hours: from second on,
// until the next begins, so many of a hundred payments. The first and the last
// 40 minutes of the day are left to pairs planted there.
var rush = []struct{ from, share int }{
	{2460, 2}, {23400, 5}, {27000, 14}, {30600, 34}, {37800, 16}, {43200, 5}, {48600, 16}, {57600, 5}, {64800, 2}, {75600, 1}, {83940, 0},
}

// moment is when the i-th of n payments is made, in seconds of the day.
func moment(i, n int) int {
	before := 0
	for k, r := range rush {
		if (before+r.share)*n > i*100 {
			return r.from + (i*100-before*n)*(rush[k+1].from-r.from)/(r.share*n)
		}
		before += r.share
	}
	return rush[len(rush)-1].from
}
