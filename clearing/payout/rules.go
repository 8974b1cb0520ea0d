package payout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"gopkg.in/yaml.v3"

	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// ErrRules is wrapped where rules of payouts cannot hold.
var ErrRules = errors.New("rules of payouts refused")

// Rules are what a role may ask for or approve, how many approve an amount, and when
// a bank takes transfers. Each holds from a day on, until a later one of its kind.
type Rules struct {
	Limits  []LimitRule  `yaml:"limits"`
	Bands   []BandRule   `yaml:"bands"`
	Windows []WindowRule `yaml:"windows"`

	rows []ruleRow
}

// LimitRule is the limit of a role: one payout, and a person's day.
type LimitRule struct {
	Role    string       `yaml:"role"`
	Act     string       `yaml:"act"` // REQUEST or APPROVE
	From    string       `yaml:"from"`
	EachFen ledger.Money `yaml:"each_fen"`
	DayFen  ledger.Money `yaml:"day_fen"`
}

// BandRule says how many people approve an amount above so much. All bands of one
// day hold together.
type BandRule struct {
	From     string       `yaml:"from"`
	AboveFen ledger.Money `yaml:"above_fen"`
	Checkers int16        `yaml:"checkers"`
}

// WindowRule is when the bank takes transfers of an account; account "" is every
// account without one of its own.
type WindowRule struct {
	Account  string `yaml:"account"`
	From     string `yaml:"from"`
	Opens    string `yaml:"opens"` // "08:30" in Beijing
	Closes   string `yaml:"closes"`
	EveryDay bool   `yaml:"every_day"` // also when banks do not work
}

// ReadRules reads rules in YAML and checks them; a field that is not known is refused.
func ReadRules(in io.Reader) (*Rules, error) {
	r := &Rules{}
	text := yaml.NewDecoder(in)
	text.KnownFields(true)
	if err := text.Decode(r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRules, err)
	}
	return r, r.check()
}

var roleForm = regexp.MustCompile(`^[A-Z_]{1,32}$`)

// ruleRow is a rule as it is stored: by key, once, with values that never change.
type ruleRow struct {
	what         string // in a sentence
	table        string
	keys, values []string // columns
	args         []any    // of keys, then of values
}

func (r *Rules) check() error {
	var errs []error
	must := func(ok bool, at, rule string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: %s: %s", ErrRules, at, fmt.Sprintf(rule, args...)))
		}
	}
	row := func(from, what, table string, keys, values []string, args ...any) {
		day, err := ledger.ParseDay(from)
		must(err == nil, what, "from: %q is no day", from)
		r.rows = append(r.rows, ruleRow{what + " from " + from, table, append(keys, "from_day"), values, slices.Insert(args, len(keys), any(day))})
	}
	for _, l := range r.Limits {
		at := fmt.Sprintf("the limit of %s to %s", l.Role, l.Act)
		must(roleForm.MatchString(l.Role) && (l.Act == "REQUEST" || l.Act == "APPROVE"), at, "it is of a role, to REQUEST or to APPROVE")
		must(0 < l.EachFen && l.EachFen <= l.DayFen, at, "each_fen is above zero, and at most day_fen")
		row(l.From, at, "payout_limits", []string{"role", "act"}, []string{"each_fen", "day_fen"}, l.Role, l.Act, l.EachFen, l.DayFen)
	}
	for _, b := range r.Bands {
		at := fmt.Sprintf("the band above %s", b.AboveFen)
		must(b.AboveFen >= 0 && b.Checkers >= 1, at, "above_fen is not below zero, and one person or more approves")
		row(b.From, at, "payout_bands", []string{"above_fen"}, []string{"checkers"}, b.AboveFen, b.Checkers)
	}
	for _, w := range r.Windows {
		at := fmt.Sprintf("the window of account %q", w.Account)
		opens, opensErr := minutes(w.Opens)
		closes, closesErr := minutes(w.Closes)
		must(opensErr == nil && closesErr == nil && opens < closes, at, "it opens and closes at times like 08:30, not %q and %q", w.Opens, w.Closes)
		row(w.From, at, "payout_windows", []string{"account"}, []string{"opens", "closes", "every_day"}, w.Account, opens, closes, w.EveryDay)
	}
	must(len(r.rows) > 0, "file", "it says nothing")
	return errors.Join(errs...)
}

// minutes is a time of day in minutes; 24:00 is the end of the day.
func minutes(text string) (int16, error) {
	if text == "24:00" {
		return 24 * 60, nil
	}
	at, err := time.Parse("15:04", text)
	return int16(at.Hour()*60 + at.Minute()), err
}

// Store stores rules, all or none, and counts those that are new. A rule stays as it
// was once a day was named for it: a change names a later day.
func (r *Rules) Store(ctx context.Context, d *db.DB) (added int, err error) {
	err = d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		added = 0
		for i := range r.rows {
			n, err := r.rows[i].store(ctx, tx)
			if err != nil {
				return err
			}
			added += n
		}
		return nil
	})
	return added, err
}

func (r *ruleRow) store(ctx context.Context, tx pgx.Tx) (int, error) {
	columns, holes, same := slices.Concat(r.keys, r.values), []string{}, []string{}
	for i, column := range columns {
		hole := fmt.Sprintf("$%d", i+1)
		holes, same = append(holes, hole), append(same, column+" = "+hole)
	}
	done, err := tx.Exec(ctx, fmt.Sprintf(`INSERT INTO %s (%s) VALUES (%s) ON CONFLICT (%s) DO NOTHING`,
		r.table, strings.Join(columns, ", "), strings.Join(holes, ", "), strings.Join(r.keys, ", ")), r.args...)
	if err != nil {
		return 0, fmt.Errorf("store %s: %w", r.what, err)
	}
	if done.RowsAffected() == 1 {
		return 1, nil
	}
	var there int
	if err := tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM %s WHERE %s`, r.table, strings.Join(same, " AND ")), r.args...).Scan(&there); err != nil {
		return 0, fmt.Errorf("read %s: %w", r.what, err)
	}
	if there == 0 {
		return 0, fmt.Errorf("%w: %s is set already and stays as it is: name a later day", ErrRules, r.what)
	}
	return 0, nil
}
