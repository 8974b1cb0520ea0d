package payout

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// settings are limits, bands and windows as they hold on a day.
type settings struct {
	limits  map[[2]string]limit // by role and act
	bands   []band              // of one from_day, by above
	windows map[string]window   // by account
}

type limit struct{ each, day ledger.Money }

type band struct {
	above    ledger.Money
	checkers int16
}

// window is when a bank takes transfers, in minutes of the Beijing day.
type window struct {
	opens, closes int16
	everyDay      bool
}

func loadSettings(ctx context.Context, tx pgx.Tx, day ledger.Day) (settings, error) {
	s := settings{limits: map[[2]string]limit{}, windows: map[string]window{}}
	var key [2]string
	var l limit
	err := eachRow(ctx, tx, `SELECT role, act, each_fen, day_fen FROM payout_limits WHERE from_day <= $1 ORDER BY from_day`, day,
		[]any{&key[0], &key[1], &l.each, &l.day}, func() { s.limits[key] = l })
	if err != nil {
		return s, err
	}
	var of ledger.Day
	var bd band
	err = eachRow(ctx, tx, `SELECT from_day, above_fen, checkers FROM payout_bands
		WHERE from_day = (SELECT MAX(from_day) FROM payout_bands WHERE from_day <= $1) ORDER BY above_fen`, day,
		[]any{&of, &bd.above, &bd.checkers}, func() { s.bands = append(s.bands, bd) })
	if err != nil {
		return s, err
	}
	var account string
	var w window
	err = eachRow(ctx, tx, `SELECT account, opens, closes, every_day FROM payout_windows WHERE from_day <= $1 ORDER BY from_day`, day,
		[]any{&account, &w.opens, &w.closes, &w.everyDay}, func() { s.windows[account] = w })
	return s, err
}

func eachRow(ctx context.Context, tx pgx.Tx, sql string, day ledger.Day, into []any, take func()) error {
	rows, err := tx.Query(ctx, sql, day)
	if err == nil {
		_, err = pgx.ForEachRow(rows, into, func() error { take(); return nil })
	}
	if err != nil {
		return fmt.Errorf("read payout settings: %w", err)
	}
	return nil
}

// checkers is how many people approve an amount.
func (s *settings) checkers(amount ledger.Money) int16 {
	n := int16(1)
	for _, b := range s.bands {
		if amount > b.above {
			n = b.checkers
		}
	}
	return n
}

// of is the window of an account.
func (s *settings) of(account string) window {
	if w, ok := s.windows[account]; ok {
		return w
	}
	return s.windows[""]
}

// next is when the window is open next: now itself where it is.
func (w window) next(now time.Time, calendar clearing.Calendar) time.Time {
	day := ledger.DayOf(now)
	for works := w.everyDay || calendar.WorkingDay(day); ; works = w.everyDay || calendar.WorkingDay(day) {
		opens := day.Start().Add(time.Duration(w.opens) * time.Minute)
		closes := day.Start().Add(time.Duration(w.closes) * time.Minute)
		switch {
		case works && now.Before(opens):
			return opens
		case works && now.Before(closes):
			return now
		}
		day = day.Add(1)
	}
}

// limit refuses what is over the limit of a role, one payout or the day's sum.
func (d *desk) limit(ctx context.Context, by Person, act string, amounts ...ledger.Money) error {
	l, ok := d.settings.limits[[2]string{by.Role, act}]
	if !ok || by.Name == "" {
		return ErrLimit.Because("role", "%s as %s may not %s payouts", by.Name, by.Role, map[string]string{"REQUEST": "ask for", "APPROVE": "approve"}[act])
	}
	whose := by.Name
	if act == "APPROVE" {
		whose = by.holder()
	}
	sum := d.spent[whose]
	for _, amount := range amounts {
		if amount > l.each {
			return ErrLimit.Because("amount", "the amount is %s, the limit of %s is %s for one payout", amount, by.Role, l.each)
		}
		sum += amount
	}
	query := `SELECT COALESCE(SUM(amount_fen), 0)::INT8 FROM payouts WHERE maker = $1 AND day = $2 AND state <> 'REFUSED'`
	if act == "APPROVE" {
		query = `SELECT COALESCE(SUM(p.amount_fen), 0)::INT8 FROM payout_approvals AS a JOIN payouts AS p ON p.number = a.number WHERE (a.holder = $1 OR a.holder = '' AND a.person = $1) AND a.day = $2`
	}
	var before ledger.Money
	if err := d.b.Tx().QueryRow(ctx, query, whose, d.day).Scan(&before); err != nil {
		return fmt.Errorf("read the day's payouts: %w", err)
	}
	if before+sum > l.day {
		return ErrLimit.Because("amount", "with this the day's sum of %s would be %s, the limit of %s is %s a day", whose, before+sum, by.Role, l.day)
	}
	return nil
}
