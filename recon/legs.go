package recon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// The kinds of rows beside payments, refunds and reversals.
const (
	kindSettle channels.Kind = "SETTLE" // a merchant number's settlement of one day
	kindBank   channels.Kind = "BANK"   // a bank line that is no plain settlement
)

// legKeyRow names a leg for ever, whatever its verdict: the fingerprint of its case.
type legKeyRow struct {
	Hospital string
	Day      ledger.Day
	OrderNo  string
	Kind     channels.Kind
	RefundNo string
}

// legName names a leg whatever its day.
type legName struct {
	order    string
	kind     channels.Kind
	refundNo string
}

func (k legKeyRow) named() legName { return legName{k.OrderNo, k.Kind, k.RefundNo} }

// caseID is the number of the case of this leg: it begins with the day and is
// the same in every run.
func (k legKeyRow) caseID() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q|%q|%q|%q", k.Hospital, k.Kind, k.OrderNo, k.RefundNo))
	return "case_" + k.Day.Compact() + "_" + hex.EncodeToString(sum[:6])
}

// legRow is what stands of a leg: a row of recon_legs.
type legRow struct {
	legKeyRow
	Channel    string
	MerchantNo string
	Code       Code
	CaseID     string
	D          ledger.Money
	First      ledger.Day // of the days of its lines
	Last       ledger.Day
	Open       bool
	Decided    bool // by a person: the row of HIS that follows it is expected and changes nothing
	Settled    bool
	Effects    Effects
	Proved     ledger.Money
	kept       []Line // its lines, where they are kept
	text       string // the same as stored; SETTLE rows keep their settlement here
}

const legColumns = `hospital, day, order_no, kind, refund_no, channel, merchant_no, code, case_id,
			d_fen, first_day, last_day, open, decided, settled, effects, proved_fen, lines`

func scanLegs(rows pgx.Rows, take func(*legRow) error) error {
	var r legRow
	var effects string
	_, err := pgx.ForEachRow(rows, []any{
		&r.Hospital, &r.Day, &r.OrderNo, &r.Kind, &r.RefundNo, &r.Channel, &r.MerchantNo, &r.Code, &r.CaseID,
		&r.D, &r.First, &r.Last, &r.Open, &r.Decided, &r.Settled, &effects, &r.Proved, &r.text,
	}, func() (err error) {
		row := r
		if row.Effects, err = parseEffects(effects); err != nil {
			return err
		}
		row.kept = nil
		if row.text != "" && row.Kind != kindSettle && row.Kind != kindBank {
			if err := json.Unmarshal([]byte(row.text), &row.kept); err != nil {
				return fmt.Errorf("recon: lines of %v: %w", row.legKeyRow, err)
			}
		}
		return take(&row)
	})
	if err != nil {
		return fmt.Errorf("read what stands of the legs: %w", err)
	}
	return nil
}

// readCarried returns the legs of other days that are open, or that have lines of
// this day: the carry-in of stage S3.
func readCarried(ctx context.Context, tx pgx.Tx, hospital string, day ledger.Day) ([]*legRow, error) {
	var out []*legRow
	for _, query := range []string{
		`SELECT ` + legColumns + ` FROM recon_legs WHERE hospital = $1 AND open AND day <> $2`,
		`SELECT ` + legColumns + ` FROM recon_legs
			WHERE hospital = $1 AND NOT open AND day <> $2 AND first_day <> last_day AND first_day <= $2 AND last_day >= $2`,
	} {
		rows, err := tx.Query(ctx, query, hospital, day)
		if err != nil {
			return nil, fmt.Errorf("read open legs: %w", err)
		}
		if err := scanLegs(rows, func(r *legRow) error {
			out = append(out, r)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readCrossed returns the legs of this day that were matched with lines of
// another day: their lines are part of this day's input whenever it runs again.
func readCrossed(ctx context.Context, tx pgx.Tx, hospital string, day ledger.Day) ([]*legRow, error) {
	rows, err := tx.Query(ctx, `
		SELECT `+legColumns+`
		FROM recon_legs
		WHERE hospital = $1 AND day = $2 AND first_day <> last_day`, hospital, day)
	if err != nil {
		return nil, fmt.Errorf("read crossed legs: %w", err)
	}
	var out []*legRow
	err = scanLegs(rows, func(r *legRow) error {
		out = append(out, r)
		return nil
	})
	return out, err
}

// priors streams what earlier runs of this day stored, as markers among the
// lines, so that a run of any size compares without holding the day in memory.
// Rows without an order number (noOrder) come first, as their lines do.
func (h *hospitalRun) priors(ctx context.Context) *source {
	return open(ctx, h.engine.DB, func(ctx context.Context, tx pgx.Tx, emit func(*Line) error) error {
		rows, err := tx.Query(ctx, `
			SELECT `+legColumns+`
			FROM recon_legs
			WHERE hospital = $1 AND day = $2 AND kind IN ('PAY', 'REFUND', 'REVERSE')
			ORDER BY convert_to(CASE WHEN left(order_no, 1) = '~' THEN '' ELSE order_no END, 'UTF8'), kind, refund_no`, h.hospital.Code, h.day)
		if err != nil {
			return fmt.Errorf("read what stands of the day: %w", err)
		}
		return scanLegs(rows, func(r *legRow) error { return emit(&Line{OrderNo: r.orderNo(), stored: r}) })
	})
}

// noOrder marks rows whose lines carry no order number of ours: they are keyed by
// the bill of HIS, or the number of the channel.
const noOrder = "~"

func (r *legRow) orderNo() string {
	if len(r.OrderNo) > 0 && r.OrderNo[:1] == noOrder {
		return ""
	}
	return r.OrderNo
}

// rowKey is the key of a leg on its home day.
func (leg *Leg) rowKey() legKeyRow {
	k := legKeyRow{Hospital: leg.Hospital, Day: leg.Day, OrderNo: leg.OrderNo, Kind: leg.Kind, RefundNo: leg.RefundNo}
	if len(leg.Lines) == 0 {
		return k
	}
	l := &leg.Lines[0]
	if k.OrderNo == "" {
		k.OrderNo = noOrder + l.BillNo + l.TradeNo + l.ChRefundNo
	}
	if leg.extra != "" {
		k.RefundNo = noOrder + leg.extra
	}
	return k
}

// legColumnsOf turns rows into the arrays of the set statements.
type legArrays struct {
	hospital, order, kind, refund, channel, merchant, code, caseID, effects, lines []string
	day, first, last                                                               []int32
	d, proved                                                                      []int64
	open, decided, settled                                                         []bool
}

func (a *legArrays) add(r *legRow) {
	if r.First == 0 {
		r.First, r.Last = r.Day, r.Day
	}
	a.hospital, a.day = append(a.hospital, r.Hospital), append(a.day, int32(r.Day))
	a.order, a.kind = append(a.order, r.OrderNo), append(a.kind, string(r.Kind))
	a.refund, a.channel = append(a.refund, r.RefundNo), append(a.channel, r.Channel)
	a.merchant, a.code = append(a.merchant, r.MerchantNo), append(a.code, string(r.Code))
	a.caseID, a.d = append(a.caseID, r.CaseID), append(a.d, int64(r.D))
	a.first, a.last = append(a.first, int32(r.First)), append(a.last, int32(r.Last))
	a.open, a.decided, a.settled = append(a.open, r.Open), append(a.decided, r.Decided), append(a.settled, r.Settled)
	a.effects, a.proved = append(a.effects, r.Effects.String()), append(a.proved, int64(r.Proved))
	a.lines = append(a.lines, r.text)
}

func (a *legArrays) args() []any {
	return []any{a.hospital, a.day, a.order, a.kind, a.refund, a.channel, a.merchant, a.code, a.caseID,
		a.d, a.first, a.last, a.open, a.decided, a.settled, a.effects, a.proved, a.lines}
}

const insertLegs = `
	INSERT INTO recon_legs (` + legColumns + `)
	SELECT hospital, day, order_no, kind, refund_no, channel, merchant_no, code, case_id,
		d_fen, first_day, last_day, open, decided, settled, effects, proved_fen, lines
	FROM unnest($1::TEXT[], $2::INT4[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[],
		$10::INT8[], $11::INT4[], $12::INT4[], $13::BOOL[], $14::BOOL[], $15::BOOL[], $16::TEXT[], $17::INT8[], $18::TEXT[])
		AS new(` + legColumns + `)`

// updateLegs is a compare-and-set on what stood when the run read it: a person may
// have decided the case, or tied a credit, while the run was matching.
const updateLegs = `
	UPDATE recon_legs AS l
	SET channel = new.channel, merchant_no = new.merchant_no, code = new.code, case_id = new.case_id,
		d_fen = new.d_fen, first_day = new.first_day, last_day = new.last_day, open = new.open, decided = new.decided, settled = new.settled,
		effects = new.effects, proved_fen = new.proved_fen, lines = new.lines
	FROM unnest($1::TEXT[], $2::INT4[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[],
		$10::INT8[], $11::INT4[], $12::INT4[], $13::BOOL[], $14::BOOL[], $15::BOOL[], $16::TEXT[], $17::INT8[], $18::TEXT[],
		$19::TEXT[], $20::BOOL[], $21::BOOL[], $22::INT8[], $23::TEXT[])
		AS new(` + legColumns + `, old_effects, old_open, old_decided, old_proved, old_lines)
	WHERE l.hospital = new.hospital AND l.day = new.day AND l.order_no = new.order_no AND l.kind = new.kind
		AND l.refund_no = new.refund_no AND l.effects = new.old_effects
		AND l.open = new.old_open AND l.decided = new.old_decided AND l.proved_fen = new.old_proved AND l.lines = new.old_lines`

// spans says whether lines of the day are among the row's.
func (r *legRow) spans(day ledger.Day) bool { return r.First <= day && day <= r.Last }

// keep stores the lines of a leg that is open, listed or crossed a day, in an
// order of their own, so that the same lines are the same text.
func (r *legRow) keep(lines ...Line) error {
	lines = slices.Clone(lines)
	slices.SortStableFunc(lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.Side, b.Side), cmp.Compare(a.Day, b.Day), cmp.Compare(a.File, b.File), cmp.Compare(a.Row, b.Row))
	})
	lines = slices.CompactFunc(lines, func(a, b Line) bool { return a.id() == b.id() })
	r.First, r.Last = r.Day, r.Day
	for i := range lines {
		r.First, r.Last = min(r.First, lines[i].Day), max(r.Last, lines[i].Day)
	}
	text, err := json.Marshal(lines)
	if err != nil {
		return fmt.Errorf("recon: keep lines: %w", err)
	}
	r.text = string(text)
	return nil
}

// all yields the leg and the other legs of its case.
func (leg *Leg) all() iter.Seq[*Leg] {
	return func(yield func(*Leg) bool) {
		if !yield(leg) {
			return
		}
		for _, m := range leg.Members {
			if !yield(m) {
				return
			}
		}
	}
}

// lineID names a line for ever.
type lineID struct {
	side            Side
	file            int64
	row             int
	kind            channels.Kind
	order, refundNo string
}

func (l *Line) id() lineID {
	return lineID{l.Side, l.File, l.Row, l.Kind, l.OrderNo, l.RefundNo}
}

// carry follows the rows of other days: which of them a leg of this run took on,
// and which lost their lines to a leg of another key.
type carry struct {
	of   map[lineID]*legRow // carried lines by name
	kept map[legKeyRow]bool
	lost map[*legRow]*Leg
}

func newCarry(rows []*legRow) carry {
	c := carry{of: map[lineID]*legRow{}, kept: map[legKeyRow]bool{}, lost: map[*legRow]*Leg{}}
	for _, r := range rows {
		for i := range r.kept {
			c.of[r.kept[i].id()] = r
		}
	}
	return c
}

// follow notes whose lines the leg has taken.
func (c *carry) follow(leg *Leg) {
	for i := range leg.Lines {
		if l := &leg.Lines[i]; l.carried {
			switch r := c.of[l.id()]; {
			case r == nil:
			case leg.row != nil && leg.row.legKeyRow == r.legKeyRow:
				c.kept[r.legKeyRow] = true
			default:
				c.lost[r] = leg
			}
		}
	}
}

// forsaken are the legs whose rows are open from other days and whose lines stand
// on other legs now: what stands of them is undone. They keep the lines of those
// legs, so that their own day finds them when it runs again.
func (c *carry) forsaken() (legs []*Leg) {
	for r, host := range c.lost {
		if !c.kept[r.legKeyRow] && r.Code != None {
			legs = append(legs, r.gone(host))
		}
	}
	return legs
}

// gone is the leg that undoes the row; host has taken its lines, where one has.
func (r *legRow) gone(host *Leg) *Leg {
	leg := &Leg{Kind: r.Kind, Hospital: r.Hospital, Channel: r.Channel, MerchantNo: r.MerchantNo,
		OrderNo: r.OrderNo, RefundNo: r.RefundNo, Day: r.Day, row: r, keep: r.kept}
	if host != nil {
		leg.keep = append(leg.keep[:len(leg.keep):len(leg.keep)], host.Lines...)
	}
	return leg
}

// claim takes the row of this key out of those that earlier runs of the day stored.
func (leg *Leg) claim(priors []*legRow, k legKeyRow) {
	for i, r := range priors {
		if r != nil && r.legKeyRow == k {
			leg.row, priors[i] = r, nil
		}
	}
}

// claimNamed takes a row that this day stored of the leg before the platform's line
// moved to another day: the leg stays where it stands.
func (leg *Leg) claimNamed(priors []*legRow, k legKeyRow) {
	for i, r := range priors {
		if r != nil && r.named() == k.named() && r.Code != None {
			leg.row, leg.Day, priors[i] = r, r.Day, nil
			return
		}
	}
}

// stands reads the row of a leg whose lines come from another day and whose own
// row is neither open nor of this day.
func (h *hospitalRun) stands(ctx context.Context, leg *Leg) error {
	return h.engine.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		leg.row, err = readLeg(ctx, tx, leg.rowKey())
		return err
	})
}

// toldDay is a day whose feed a run has read: the bill of a merchant number, the
// details of HIS (no number), or, without a pair, any of them.
type toldDay struct {
	day         ledger.Day
	pair        Pair
	channel, no string
}

// readTold returns what runs have read of the days of the rows and around them.
func readTold(ctx context.Context, tx pgx.Tx, hospital string, rows []*legRow, day ledger.Day) (map[toldDay]bool, error) {
	first, last := day, day
	for _, r := range rows {
		first, last = min(first, r.First), max(last, r.Last)
	}
	found, err := tx.Query(ctx, `
		SELECT DISTINCT day, pair, channel, merchant_no
		FROM recon_versions WHERE hospital = $1 AND day BETWEEN $2 AND $3 AND pair <> 'BANK'`, hospital, first.Add(-1), last.Add(1))
	if err != nil {
		return nil, fmt.Errorf("read published days: %w", err)
	}
	out := map[toldDay]bool{}
	var t toldDay
	_, err = pgx.ForEachRow(found, []any{&t.day, &t.pair, &t.channel, &t.no}, func() error {
		out[t], out[toldDay{day: t.day, pair: t.pair}], out[toldDay{day: t.day}] = true, true, true
		return nil
	})
	return out, err
}
