package recon

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// errStop ends a stream whose reader has heard enough.
var errStop = errors.New("recon: stream stopped")

// source is one sorted stream of lines, read one ahead.
type source struct {
	next func() (*Line, bool)
	stop func()
	head *Line
	err  error
}

// open starts reading lines in a read-only transaction of its own, so that a day
// of any size passes through in constant memory.
func open(ctx context.Context, d *db.DB, read func(ctx context.Context, tx pgx.Tx, emit func(*Line) error) error) *source {
	s := &source{}
	seq := func(yield func(*Line) bool) {
		err := d.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			return read(ctx, tx, func(l *Line) error {
				if !yield(l) {
					return errStop
				}
				return nil
			})
		})
		if err != nil && !errors.Is(err, errStop) {
			s.err = err
		}
	}
	s.next, s.stop = iter.Pull(iter.Seq[*Line](seq))
	return s
}

// start reads the first line of every source, all at once: the database sorts
// each of them before it gives the first.
func start(sources []*source) {
	var wait sync.WaitGroup
	for _, s := range sources {
		wait.Go(s.advance)
	}
	wait.Wait()
}

func (s *source) advance() {
	l, ok := s.next()
	if !ok {
		s.head = nil
		return
	}
	s.head = l
}

// groups merges sorted sources by order number and hands each order's lines to
// take: platform first, then channel, then HIS, as matchOrder expects. The slice
// is reused for the next order.
func groups(sources []*source, take func(orderNo string, lines []Line) error) error {
	defer func() {
		for _, s := range sources {
			s.stop()
		}
	}()
	start(sources)
	var lines []Line
	for {
		least, found := "", false
		for _, s := range sources {
			if s.err != nil {
				return s.err
			}
			if s.head != nil && (!found || s.head.OrderNo < least) {
				least, found = s.head.OrderNo, true
			}
		}
		if !found {
			return nil
		}
		lines = lines[:0]
		for _, s := range sources {
			for s.head != nil && s.head.OrderNo == least {
				lines = append(lines, *s.head)
				s.advance()
			}
			if s.err != nil {
				return s.err
			}
		}
		if err := take(least, lines); err != nil {
			return err
		}
	}
}

// fixed is a source of lines that are in memory already.
func fixed(lines []Line) *source {
	slices.SortStableFunc(lines, func(a, b Line) int { return strings.Compare(a.OrderNo, b.OrderNo) })
	at := 0
	s := &source{stop: func() {}}
	s.next = func() (*Line, bool) {
		if at == len(lines) {
			return nil, false
		}
		at++
		return &lines[at-1], true
	}
	return s
}

// sources opens every stream of the hospital's day.
func (h *hospitalRun) sources(ctx context.Context) []*source {
	platform := open(ctx, h.engine.DB, func(ctx context.Context, tx pgx.Tx, emit func(*Line) error) error {
		q := clearing.LegQuery{Hospital: h.hospital.Code, Day: h.day}
		return clearing.StreamLegs(ctx, tx, q, func(leg *clearing.Leg) error {
			l := platformLine(leg)
			l.carried = l.Day != h.day // a debt of this day that the channel took later
			return emit(l)
		})
	})
	bills := open(ctx, h.engine.DB, func(ctx context.Context, tx pgx.Tx, emit func(*Line) error) error {
		return StreamBill(ctx, tx, h.hospital.Code, h.day, emit)
	})
	his := open(ctx, h.engine.DB, func(ctx context.Context, tx pgx.Tx, emit func(*Line) error) error {
		return StreamHIS(ctx, tx, h.hospital.Code, h.day, func(l *Line) error {
			if electronic(l) {
				return emit(l)
			}
			if l.OrderNo == "" && l.RefundNo == "" {
				h.cash = append(h.cash, *l)
			}
			return nil
		})
	})
	return []*source{h.priors(ctx), fixed(h.carriedLines(Platform)), platform,
		fixed(h.carriedLines(Channel)), bills, fixed(h.carriedLines(HIS)), his}
}

// carriedLines are the lines of one side that are open from, or were matched
// with, another day.
func (h *hospitalRun) carriedLines(side Side) []Line {
	var lines []Line
	for _, row := range h.carried {
		for _, l := range row.kept {
			if l.Side == side && l.Day != h.day {
				l.carried = true
				lines = append(lines, l)
			}
		}
	}
	for _, row := range h.crossed {
		for _, l := range row.kept {
			if l.Side == side && l.Day != h.day {
				l.carried = true
				lines = append(lines, l)
			}
		}
	}
	return lines
}

// Stats are the counts and sums of one merchant number's day.
type Stats struct {
	HIS       Total        `json:"his"`
	Platform  Total        `json:"platform"`
	Channel   Total        `json:"channel"`
	Info      Total        `json:"matched_info"`
	Funds     Total        `json:"matched_funds"`
	All       Total        `json:"matched_all"`
	Suggested ledger.Money `json:"suggested_fen"` // HIS rows that a suggestion ties, signed as HIS − nothing
	Cases     ledger.Money `json:"cases_fen"`
	Pending   ledger.Money `json:"pending_fen"`
	CarriedIn ledger.Money `json:"carried_in_fen"`
	Foreign   ledger.Money `json:"foreign_fen"`
	Debts     ledger.Money `json:"debts_fen,omitempty"` // refunds of which one side never speaks: HIS booked the debt before, or the bank paid
	Coupons   ledger.Money `json:"coupons_fen"`
	Fees      ledger.Money `json:"fees_fen"` // billed less returned
	StandIn   bool         `json:"stand_in"` // a side was not complete, the platform's figure stood in
}

// Total is how often and how much, payments apart from refunds and reversals.
type Total struct {
	Pays    int          `json:"pays"`
	PayFen  ledger.Money `json:"pay_fen"`
	Backs   int          `json:"refunds"`
	BackFen ledger.Money `json:"refund_fen"`
}

func (t *Total) add(kind channels.Kind, fen ledger.Money) {
	if kind == channels.Pay {
		t.Pays++
		t.PayFen += fen
	} else {
		t.Backs++
		t.BackFen += fen
	}
}

// Net is payments less refunds and reversals.
func (t Total) Net() ledger.Money { return t.PayFen - t.BackFen }

// Proof is what the sides differ by less what the items explain: zero, or the
// run is not published (S11).
func (s *Stats) Proof() ledger.Money {
	return s.Channel.Net() - s.HIS.Net() - s.Suggested - s.Debts - s.Foreign - (s.Cases + s.Pending - s.CarriedIn)
}

// count adds a leg to the counts and sums of its merchant number: lines of this
// day only. A leg whose channel row stands under another number of the hospital
// (F9) counts there on the channel's side, and both proofs show it.
func (h *hospitalRun) count(leg *Leg) {
	if leg.Code == NetZero {
		h.netzero.add(leg.Kind, leg.held(Platform))
		h.listNetZero(leg)
	}
	h.noteLanding(leg)
	home := h.statsOf(leg.Channel, leg.MerchantNo)
	far := home
	if leg.bill != nil {
		far = h.statsOf(leg.bill.Channel, leg.bill.MerchantNo)
	}
	for one := range leg.all() {
		h.told += one.lineCount()
	}
	fresh, seen := leg.fresh()
	linked := leg.Code == I7 || leg.Code == I8 || leg.Code == F12
	if seen[HIS] && linked {
		home.Suggested += leg.sign() * fresh[HIS]
	} else if seen[HIS] {
		home.HIS.add(leg.Kind, fresh[HIS])
	}
	if seen[Platform] {
		home.Platform.add(leg.Kind, fresh[Platform])
	}
	if seen[Channel] {
		far.Channel.add(leg.Kind, fresh[Channel])
		far.Fees += leg.sign() * leg.bill.Fee
		far.Coupons += leg.sign() * (leg.bill.Amount - leg.bill.Settle)
	}
	home.matched(leg, linked)
	home.StandIn = home.StandIn || leg.Said[HIS].StandIn || leg.Said[Channel].StandIn
	for _, side := range []Side{HIS, Channel} {
		if fen := leg.sign() * leg.Said[side].Fen; leg.Said[side].Waived && seen[Platform] {
			fresh[side] += leg.Said[side].Fen
			home.Debts += map[Side]ledger.Money{HIS: fen, Channel: -fen}[side]
		}
	}
	h.explain(leg, home, far, leg.sign()*fresh[HIS], leg.sign()*fresh[Channel])
}

// explain adds what the verdict says of the difference to the proof.
func (h *hospitalRun) explain(leg *Leg, home, far *Stats, his, channel ledger.Money) {
	switch {
	case leg.Code == F11:
		far.Foreign += channel
	case leg.Code == F9 && home != far:
		home.Cases -= his
		far.Cases += channel
	case leg.Code == Pending:
		home.Pending += leg.D
		home.CarriedIn += leg.before(h.day, channel-his)
	default:
		home.Cases += leg.D
		home.CarriedIn += leg.before(h.day, channel-his)
	}
}

// before is what other days had left open of the leg when this day's lines came:
// as it was stored, or, where the run of this day is not the first to look at it,
// what is left of the leg without them.
func (leg *Leg) before(day ledger.Day, fresh ledger.Money) ledger.Money {
	switch {
	case leg.row == nil:
		return 0
	case leg.Kind == channels.Refund && leg.bill != nil && leg.lives() != nil && !leg.Fresh:
		return leg.D // no line of this day: what changed is the channel's word on the refund
	case !leg.row.spans(day):
		return leg.row.D
	case leg.Carried:
		return leg.D - fresh
	}
	return 0
}

// lineCount is how many lines of this day the leg speaks of, repeated ones too.
func (leg *Leg) lineCount() int {
	n := leg.outdated
	for i := range leg.Lines {
		if l := &leg.Lines[i]; !l.carried && (l.Side != HIS || electronic(l)) {
			n++
		}
	}
	for i := 1; i < len(leg.Dups); i += 2 {
		if !leg.Dups[i].carried {
			n++
		}
	}
	return n
}

// fresh is what the lines of this day say, by side.
func (leg *Leg) fresh() (fen [sides]ledger.Money, seen [sides]bool) {
	for one := range leg.all() {
		for i := range one.Lines {
			l := &one.Lines[i]
			if l.carried || !one.counts(l) {
				continue
			}
			sign := ledger.Money(1)
			if (l.Kind == channels.Pay) != (leg.Kind == channels.Pay) {
				sign = -1 // a void inside a group
			}
			fen[l.Side] += sign * l.Amount
			seen[l.Side] = true
		}
	}
	return fen, seen
}

// counts says whether the line moved money, the bill's by the channel's last word.
func (leg *Leg) counts(l *Line) bool {
	if leg.bill != nil && l.Side == Channel && l.id() == leg.bill.id() && l.Kind == channels.Refund {
		return leg.took()
	}
	return l.moved()
}

// moved says whether the line moved money: a failed attempt and a refund that
// the channel could not deliver did not.
func (l *Line) moved() bool {
	return l.stands() || l.Side == Channel && l.Status == channels.Processing
}

func (s *Stats) matched(leg *Leg, linked bool) {
	h, p, c := leg.Said[HIS], leg.Said[Platform], leg.Said[Channel]
	if !leg.Fresh || !p.Present {
		return
	}
	info := h.Present && !h.StandIn && !h.Waived && h.Fen == p.Fen && !linked
	funds := c.Present && !c.StandIn && !c.Waived && c.Fen == p.Fen
	if info {
		s.Info.add(leg.Kind, p.Fen)
	}
	if funds {
		s.Funds.add(leg.Kind, p.Fen)
	}
	if info && funds {
		s.All.add(leg.Kind, p.Fen)
	}
}

// Compare matches a hospital's day from what is stored, order by order as Run
// does, and books nothing. It tells how many lines it read and how many legs got
// which code before orders are compared with one another.
func (e *Engine) Compare(ctx context.Context, hospital string, day ledger.Day) (lines int, legs map[Code]int, err error) {
	dir, err := e.directory(ctx)
	if err != nil {
		return 0, nil, err
	}
	known, ok := dir.Hospital(hospital)
	if !ok {
		return 0, nil, fmt.Errorf("hospital %q is not known", hospital)
	}
	h, err := e.prepare(ctx, dir, known, day)
	if err != nil {
		return 0, nil, err
	}
	legs = map[Code]int{}
	err = groups(h.sources(ctx), func(orderNo string, all []Line) error {
		all = slices.DeleteFunc(all, func(l Line) bool { return l.stored != nil })
		lines += len(all)
		if orderNo == "" {
			return nil // no side names the order: nothing is compared by its number
		}
		for _, leg := range matchOrder(h.rules, all) {
			legs[leg.Code]++
		}
		return nil
	})
	return lines, legs, err
}
