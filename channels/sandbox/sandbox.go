// Package sandbox generates hospital days: the files that a business app, a
// HIS, the payment channels and the banks would hand over, in their true
// formats, with faults planted at known places.
//
// It keeps books of its own. For every payment and refund it decides what each
// side knows of it, writes exactly that into each side's file, and derives from
// the same books the plan: the cases that a right reconciliation finds. It
// shares nothing with matching or clearing, neither fee arithmetic nor sums, so
// that the plan is an independent witness. The same Config gives the same bytes.
//
// Memory hardly grows with the number of payments: each one is drawn from the
// seed and its number when it is due, a refund to come is 16 bytes, and only
// planted faults are kept whole.
package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// ErrConfig is wrapped by every error about a day that cannot be generated.
var ErrConfig = errors.New("sandbox config")

// Config says what to generate. The zero Config is a small day of two
// hospitals with the default faults.
type Config struct {
	Seed      uint64         `json:"seed"`
	Day       ledger.Day     `json:"day"`       // first business day; 0 = 2026-09-15
	Days      int            `json:"days"`      // 1, or 2 for the next day with what came late
	Hospitals int            `json:"hospitals"` // 0 = 2
	Payments  int            `json:"payments"`  // payments per day, faults included; 0 = 20,000
	Refunds   int            `json:"refunds"`   // refunds per thousand payments; 0 = 80, below 0 = none
	Faults    map[string]int `json:"faults"`    // how many of each code; nil = DefaultFaults
	Gzip      bool           `json:"gzip"`      // WeChat bills as .csv.gz
}

// Generate writes the days into dir, which is created, and returns the plan,
// which also stands there as plan.json and, per day, plan.csv. The first day's
// files stand in dir, the second day's in a folder named by its date. progress,
// where not nil, is called now and then with payments done and in all.
func Generate(cfg Config, dir string, progress func(done, total int)) (*Plan, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(int, int) {}
	}
	g := newGenerator(cfg, dir, progress)
	if err := g.plantAll(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("sandbox folder: %w", err)
	}
	if err := g.writeSetup(); err != nil {
		return nil, err
	}
	for index := range cfg.Days {
		if err := g.writeDay(index); err != nil {
			return nil, err
		}
	}
	progress(cfg.Payments*cfg.Days, cfg.Payments*cfg.Days)
	return g.plan, g.plan.write(dir)
}

func (c Config) complete() (Config, error) {
	if c.Day == 0 {
		c.Day = 20260915
	}
	c.Days = max(c.Days, 1)
	if c.Hospitals == 0 {
		c.Hospitals = 2
	}
	if c.Payments == 0 {
		c.Payments = 20_000
	}
	if c.Refunds == 0 {
		c.Refunds = 80
	}
	if c.Faults == nil {
		c.Faults = DefaultFaults(c.Hospitals, c.Days)
	}
	c.Faults = maps.Clone(c.Faults)
	switch {
	case c.Days > 2:
		return c, fmt.Errorf("%w: days %d, at most 2", ErrConfig, c.Days)
	case c.Hospitals < 1 || c.Hospitals > 500:
		return c, fmt.Errorf("%w: hospitals %d, must be 1 to 500", ErrConfig, c.Hospitals)
	case c.Payments > 15_000_000:
		return c, fmt.Errorf("%w: payments %d, Alipay order numbers have seven digits a day", ErrConfig, c.Payments)
	case c.Refunds > 200:
		return c, fmt.Errorf("%w: refunds %d per thousand, at most 200", ErrConfig, c.Refunds)
	case c.Days == 2 && nextWorkingDay(c.Day) == nextWorkingDay(c.Day.Add(1)):
		return c, fmt.Errorf("%w: %s and the next day settle on one working day; two days need two statements", ErrConfig, c.Day)
	}
	for _, code := range slices.Sorted(maps.Keys(c.Faults)) {
		if c.Faults[code] < 0 || (len(variantsOf(code, c.Days)) == 0 && !slices.Contains(bankCodes, code)) {
			return c, fmt.Errorf("%w: fault %q × %d cannot be planted", ErrConfig, code, c.Faults[code])
		}
	}
	if c.Days < 2 && (c.Faults["F10"] > 0 || c.Faults["BANK_MISSING"] > 0) {
		return c, fmt.Errorf("%w: F10 and BANK_MISSING are found on the second day: Days must be 2", ErrConfig)
	}
	if c.Hospitals < 2 && c.Faults["F9"] > 1 {
		return c, fmt.Errorf("%w: F9 at another hospital's number needs two hospitals", ErrConfig)
	}
	return c, nil
}

// DefaultFaults plants each variant of each code once and each code at least
// twice. Bank faults that need a merchant number of their own are planted twice
// where there are enough numbers, once where there are few.
func DefaultFaults(hospitals, days int) map[string]int {
	faults := map[string]int{}
	for _, v := range variants {
		faults[v.code] = max(2, len(variantsOf(v.code, days)))
	}
	for _, code := range bankCodes {
		faults[code] = 2
	}
	numbers, each := 2*hospitals+1, 2
	switch {
	case numbers < 4:
		each = 0
	case numbers < 7:
		each = 1
	}
	for _, code := range settlementCodes {
		faults[code] = each
	}
	if hospitals < 2 {
		faults["F9"] = 1
	}
	if days < 2 {
		// What another day's feed completes, and money that is missing only once
		// its day of grace is over, need a second day.
		delete(faults, "F10")
		delete(faults, "BANK_MISSING")
	}
	return faults
}

// generator holds the state of one run.
type generator struct {
	cfg       Config
	dir       string
	progress  func(done, total int)
	plan      *Plan
	hospitals []*hospital
	faults    []*fault
	drawn     map[int64]bool // amounts of faults, each used once
	queue     queue          // what is still to come: refunds, reversals, steps of faults
	carried   []late         // legs that the other side's files bring a day later

	// the day being written
	index    int
	day      *DayPlan
	platform *tableFile
	count    counters
	dates    [5]string // texts of the days from the first on
}

// counters give the numbers of one day.
type counters struct {
	order, refund [2]int // WeChat, Alipay
	receipt, cash int
	waiting       int
}

func newGenerator(cfg Config, dir string, progress func(done, total int)) *generator {
	g := &generator{cfg: cfg, dir: dir, progress: progress, drawn: map[int64]bool{}}
	g.plan = &Plan{Config: cfg}
	for i := range g.dates {
		g.dates[i] = cfg.Day.Add(i).String()
	}
	for i := range cfg.Hospitals {
		g.hospitals = append(g.hospitals, newHospital(i, cfg))
	}
	return g
}

// hospital is one hospital with its numbers at the channels and its files.
type hospital struct {
	index       int
	code, name  string
	account     string
	unionPay    string
	wechat      []*merchant // outpatient, and for the first hospital inpatient
	alipay      *merchant
	his         *hisFile
	bankOpening int64
}

// merchant is one merchant number and what the channel holds for it.
type merchant struct {
	hospital *hospital
	channel  string
	app      string // WeChat
	no       string
	pid      string // Alipay: the number without its 0156
	rate     int64  // fee in hundredths of a percent: 60 is 0.60 %
	retained int64  // 留存金额, fen
	opening  int64  // balance at the beginning of the day, fen
	foreign  string // prefix of orders that another business books here
	bill     billWriter
	slice    *Slice
	fault    string // settlement fault planted on this number, "" = none
	missing  int64  // of BANK_MISSING: what the bank never booked, fen
}

func newHospital(i int, cfg Config) *hospital {
	names := []string{"海天示范医院", "滨江人民医院", "望山中医医院", "南桥妇幼保健院", "东湖儿童医院", "青岭康复医院"}
	rates := [][2]int64{{60, 60}, {38, 60}, {60, 55}, {20, 38}}
	h := &hospital{
		index: i, code: fmt.Sprintf("H%d", i+1), name: names[i%len(names)],
		account: fmt.Sprintf("755947919%06d", 810515+i), unionPay: fmt.Sprintf("777290058%06d", 110048+i),
	}
	if i >= len(names) {
		h.name += fmt.Sprintf("第%d分院", i/len(names))
	}
	d := draw(cfg.Seed, streamWorld, uint64(i))
	h.bankOpening = int64(d.between(50_000_000, 300_000_000))
	rate := rates[i%len(rates)]
	h.wechat = []*merchant{{hospital: h, channel: channels.WeChat, app: wechatApp, no: fmt.Sprintf("1900%06d", 109+1000*i), rate: rate[0]}}
	if i == 0 {
		h.wechat = append(h.wechat, &merchant{hospital: h, channel: channels.WeChat, app: wechatApp, no: "1900000209", rate: rate[0]})
	}
	pid := fmt.Sprintf("2088%012d", 2+i)
	h.alipay = &merchant{hospital: h, channel: channels.Alipay, no: pid + "0156", pid: pid, rate: rate[1]}
	h.alipay.retained = []int64{800_000, 0, 300_000}[i%3]
	h.alipay.opening = h.alipay.retained
	for _, m := range h.wechat {
		m.opening = int64(d.between(1_000_000, 9_000_000))
	}
	h.wechat[0].foreign, h.alipay.foreign = "CT", "CT"
	return h
}

// numbers lists the hospital's merchant numbers whose bills are fed.
func (h *hospital) numbers() []*merchant {
	return append(slices.Clone(h.wechat), h.alipay)
}

// fee is the channel's fee in fen on an amount: rate × amount, half-up to the
// fen per row (spec/channels.md H).
func (m *merchant) fee(amount int64) int64 {
	return (amount*m.rate + 5000) / 10_000
}

// nextWorkingDay is the first day after d that is not a weekend day, when the
// bank books what the channel settles. Public holidays are not modelled.
func nextWorkingDay(d ledger.Day) ledger.Day {
	for d = d.Add(1); ; d = d.Add(1) {
		if w := d.Start().Weekday(); w != time.Saturday && w != time.Sunday {
			return d
		}
	}
}

// folder is the day's folder inside the run's.
func (g *generator) folder() string {
	if g.index == 0 {
		return ""
	}
	return g.dates[g.index]
}
