package recon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// ErrProof says that the items of a run do not explain what its sides differ by:
// the run is refused, nothing of it is published.
var ErrProof = errors.New("the proof of the day fails")

// Engine runs days.
type Engine struct {
	DB        *db.DB
	Committer *ledger.Committer
	Now       func() time.Time
	Progress  func(stage string, done int) // may be nil; stage names what is being counted
	House     *pay.House                   // may be nil: nobody is asked before a run calls something an orphan (S9)
	// Paused reads whether people hold back what is released and what becomes the
	// hospital's own; nil where nobody can.
	Paused func(ctx context.Context, tx pgx.Tx) (release, settle bool, err error)

	noStage map[string]bool // tests prove that each stage counts by switching it off
}

// hospitalRun is the run of one hospital's day.
type hospitalRun struct {
	engine    *Engine
	hospital  *clearing.Hospital
	dir       *clearing.Directory
	merchants []*clearing.Merchant
	day       ledger.Day
	in        inputs
	legs      map[MerchantKey]string // digests of the platform's legs
	versions  map[versionKey]version
	rules     *Rules
	run       int
	trade     bool // HIS, platform and channel are compared
	matched   bool
	finished  error // why matching failed
	changed   []versionKey

	carried  []*legRow
	crossed  []*legRow
	rows     map[legName][]*legRow // carried rows by the leg's name, whatever their day
	carry    carry
	doubts   []doubt
	landings []landing
	moved    []*legRow // of other days: the platform's row has come to this day
	settled  map[settleDay]bool
	cash     []Line
	stats    map[MerchantKey]*Stats
	proved   map[settleDay]ledger.Money // of this day in all, of other days what changed
	members  [32]byte                   // digest of the legs that make it up
	plain    []*change
	sending  chan error // the group of settled legs that is being committed
	held     []*Leg
	loose    []*Leg
	dups     []*Leg
	netzero  Total
	zeroes   []*Item // payments of the 一正一负 list
	done     int
	intake   int // lines of this day that came in
	told     int // of them, those that a leg speaks of

	bank bankRun
}

type settleDay struct {
	channel, no string
	day         ledger.Day
}

// maxRuns is how often a day is run while what it read changes under it.
const maxRuns = 4

// Run reconciles a business day of every hospital whose inputs allow it (S0 to
// S12) and returns what now stands of the day. Run again on the same inputs it
// changes nothing and returns the same. A hospital whose run fails, by its proof
// for instance, is not published and keeps no other from it: the error names it.
func (e *Engine) Run(ctx context.Context, day ledger.Day) (*Day, error) {
	if err := errors.Join(e.payDebts(ctx), e.paidBack(ctx)); err != nil {
		return nil, err
	}
	asked := map[doubt]bool{}
	for n := 1; ; n++ {
		d, err := e.runOnce(ctx, day, asked)
		if n == maxRuns || !errors.Is(err, ledger.ErrStale) {
			return d, err
		}
		// A person decided something meanwhile, or a payment went on: with that.
	}
}

func (e *Engine) runOnce(ctx context.Context, day ledger.Day, asked map[doubt]bool) (*Day, error) {
	dir, err := e.directory(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.statements(ctx, dir, day); err != nil {
		return nil, err
	}
	var runs []*hospitalRun
	for i := range dir.Hospitals {
		h, err := e.prepare(ctx, dir, &dir.Hospitals[i], day)
		if err != nil {
			return nil, err
		}
		if len(h.changed) > 0 {
			runs = append(runs, h)
		}
	}
	if runs, err = e.matchAll(ctx, dir, runs, asked); err != nil {
		return nil, err
	}
	acrossHospitals(runs)
	var failed []error
	for _, h := range runs {
		if err := h.finished; err != nil {
			failed = append(failed, fmt.Errorf("match %s on %s: %w", h.hospital.Code, day, err))
		} else if err := h.publish(ctx); err != nil {
			failed = append(failed, fmt.Errorf("publish %s on %s: %w", h.hospital.Code, day, err))
		}
	}
	d, err := e.Load(ctx, day)
	return d, errors.Join(append(failed, err)...)
}

// matchAll matches the hospitals whose inputs changed, again where the channel or HIS was
// asked about what does not agree, and then those that hold
// the other half of a payment found there: a case of two hospitals is judged with
// both halves on the table.
func (e *Engine) matchAll(ctx context.Context, dir *clearing.Directory, runs []*hospitalRun, asked map[doubt]bool) ([]*hospitalRun, error) {
	for {
		n := slices.IndexFunc(runs, func(h *hospitalRun) bool { return h.trade && !h.matched })
		if n < 0 {
			return runs, nil
		}
		h := runs[n]
		h.matched = true
		if h.finished = h.finish(ctx); h.finished != nil {
			h.held = nil
			continue
		}
		if e.confirm(ctx, h.doubts, asked) {
			again, err := e.prepare(ctx, dir, h.hospital, h.day)
			if err != nil {
				return nil, err
			}
			again.trade, runs[n] = true, again
			continue
		}
		others, err := h.otherHalves(ctx)
		if err != nil {
			return nil, err
		}
		for _, code := range others {
			at := slices.IndexFunc(runs, func(r *hospitalRun) bool { return r.hospital.Code == code })
			if at < 0 {
				hospital, ok := dir.Hospital(code)
				if !ok {
					continue
				}
				other, err := e.prepare(ctx, dir, hospital, h.day)
				if err != nil {
					return nil, err
				}
				at, runs = len(runs), append(runs, other)
			}
			runs[at].trade = true // whatever changed of its own inputs
		}
	}
}

// otherHalves names the hospitals in whose open legs of the day stands an order
// that this hospital knows on one side only.
func (h *hospitalRun) otherHalves(ctx context.Context) (codes []string, err error) {
	var orders []string
	for _, leg := range h.held {
		lone := leg.bill == nil && leg.owed() > 0 || leg.Code == F1 || leg.Code == F5 || leg.Code == None
		if lone && leg.OrderNo != "" {
			orders = append(orders, leg.OrderNo)
		}
	}
	if len(orders) == 0 {
		return nil, nil
	}
	err = h.engine.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT DISTINCT hospital FROM recon_legs
			WHERE open AND hospital <> $1 AND day = $2 AND order_no = ANY($3::TEXT[])`, h.hospital.Code, h.day, orders)
		if err != nil {
			return err
		}
		codes, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for other halves: %w", err)
	}
	return codes, nil
}

func (e *Engine) directory(ctx context.Context) (dir *clearing.Directory, err error) {
	err = e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		dir, err = clearing.LoadMerchants(ctx, tx)
		return err
	})
	return dir, err
}

// prepare reads the gate and decides which pairs have new inputs.
func (e *Engine) prepare(ctx context.Context, dir *clearing.Directory, hospital *clearing.Hospital, day ledger.Day) (*hospitalRun, error) {
	h := &hospitalRun{engine: e, hospital: hospital, dir: dir, day: day,
		legs: map[MerchantKey]string{}, stats: map[MerchantKey]*Stats{}, proved: map[settleDay]ledger.Money{},
		rows: map[legName][]*legRow{}, settled: map[settleDay]bool{}}
	for _, m := range dir.Merchants {
		if m.Hospital == hospital.Code {
			h.merchants = append(h.merchants, m)
			h.stats[MerchantKey{m.Channel, m.No}] = &Stats{}
		}
	}
	err := e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error { return h.read(ctx, tx) })
	if err != nil {
		return nil, err
	}
	for _, m := range h.merchants {
		for _, pair := range []Pair{Info, Funds, Bank} {
			k := versionKey{pair, m.Channel, m.No}
			old, known := h.versions[k]
			if !h.in.ready(pair, m) || known && slices.Equal(old.inputs, h.hash(k, m)) {
				continue
			}
			h.changed = append(h.changed, k)
			h.trade = h.trade || pair != Bank
		}
	}
	return h, nil
}

func (h *hospitalRun) hash(k versionKey, m *clearing.Merchant) []byte {
	return h.in.hash(k.pair, m, h.legs[MerchantKey{k.channel, k.no}])
}

func (h *hospitalRun) read(ctx context.Context, tx pgx.Tx) (err error) {
	if h.in, err = readInputs(ctx, tx, h.hospital.Code, h.day, h.dir.Calendar.NextWorkingDay(h.day)); err != nil {
		return err
	}
	if h.versions, err = readVersions(ctx, tx, h.hospital.Code, h.day); err != nil {
		return err
	}
	err = tx.QueryRow(ctx, `
		SELECT COALESCE(MAX(run), 0) + 1 FROM recon_runs WHERE hospital = $1 AND day = $2`, h.hospital.Code, h.day).Scan(&h.run)
	if err != nil {
		return fmt.Errorf("read the newest run: %w", err)
	}
	for _, m := range h.merchants {
		digest, err := clearing.LegsDigest(ctx, tx, h.hospital.Code, m.Channel, m.No, h.day)
		if err != nil {
			return err
		}
		h.legs[MerchantKey{m.Channel, m.No}] = digest
	}
	if h.carried, err = readCarried(ctx, tx, h.hospital.Code, h.day); err != nil {
		return err
	}
	if h.crossed, err = readCrossed(ctx, tx, h.hospital.Code, h.day); err != nil {
		return err
	}
	if err := readAnew(ctx, tx, h.hospital.Code, slices.Concat(h.carried, h.crossed)); err != nil {
		return err
	}
	told, err := readTold(ctx, tx, h.hospital.Code, slices.Concat(h.carried, h.crossed), h.day)
	if err != nil {
		return err
	}
	if h.settled, err = settledDays(ctx, tx, h.hospital.Code); err != nil {
		return err
	}
	h.setRules(told)
	return nil
}

func (h *hospitalRun) setRules(told map[toldDay]bool) {
	h.rules = &Rules{
		Day: h.day, Merchants: map[MerchantKey]Merchant{}, NoStage: h.engine.noStage,
		InfoReady: func(_ string, day ledger.Day) bool {
			return day == h.day && h.in.his() || day != h.day && told[toldDay{day: day, pair: Info}]
		},
		FundReady: func(_, channel, no string, day ledger.Day) bool {
			return day == h.day && h.in.bill(channel, no) || day != h.day && told[toldDay{day, Funds, channel, no}]
		},
		Published: func(_ string, day ledger.Day) bool { return told[toldDay{day: day}] },
	}
	for _, m := range h.merchants {
		h.rules.Merchants[MerchantKey{m.Channel, m.No}] = Merchant{Hospital: m.Hospital, Foreign: m.ForeignPrefixes, FeeAt: m.FeeAt}
	}
	for _, r := range append(slices.Clone(h.carried), h.crossed...) {
		h.rows[r.named()] = append(h.rows[r.named()], r)
	}
	h.carry = newCarry(slices.Concat(h.carried, h.crossed))
}

// match streams the day: every order's lines are matched by themselves; legs that
// agree are settled on the way, the rest waits for the stages across orders.
func (h *hospitalRun) match(ctx context.Context) error {
	err := groups(h.sources(ctx), func(orderNo string, lines []Line) error {
		var priors []*legRow
		own := make([]Line, 0, len(lines))
		for _, l := range lines {
			switch {
			case l.stored != nil:
				priors = append(priors, l.stored)
				continue
			case !l.carried && (l.Side != HIS || electronic(&l)):
				h.intake++
			}
			own = append(own, l)
		}
		if orderNo == "" {
			return h.takeLoose(ctx, own, priors)
		}
		return h.takeOrder(ctx, matchOrder(h.rules, own), priors)
	})
	if err != nil {
		return err
	}
	orphans := Orphans{Legs: h.held, Loose: h.loose, Cash: h.cash}
	paid, err := h.paidBills(ctx)
	if err != nil {
		return err
	}
	before := slices.Concat(h.held, h.loose)
	h.held, h.loose = orphans.resolve(h.rules, paid), nil
	h.forgetMerged(before)
	h.held = append(h.held, h.carry.forsaken()...)
	for _, r := range h.moved {
		gone := r.gone(nil)
		gone.keep = nil
		h.held = append(h.held, gone)
	}
	for _, leg := range h.held {
		if len(leg.Dups) > 0 && !slices.Contains(h.dups, leg) {
			h.dups = append(h.dups, leg)
		}
	}
	h.held = slices.DeleteFunc(h.held, (*Leg).unchanged)
	return h.flush(ctx, 1)
}

// finish matches and waits for what is on its way, also where matching failed: no
// group may be left to a run that is over.
func (h *hospitalRun) finish(ctx context.Context) error {
	return errors.Join(h.match(ctx), h.landed())
}

func (e *Engine) progress(stage string, done int) {
	if e.Progress != nil {
		e.Progress(stage, done)
	}
}
