package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger/db"
)

// ErrEnded is wrapped where a deputy's time is over.
var ErrEnded = errors.New("the deputy's right has ended")

// ErrDeputy is wrapped where somebody cannot stand in for somebody.
var ErrDeputy = errors.New("no deputy")

// longest is for how long a deputy may be named: who is away longer hands the post
// over.
const longest = 92 * 24 * time.Hour

// NewDeputy makes a key by which a person stands in for another one, the holder of
// the role, until a time (U21). It is a key as those of New: the roles that must not
// meet are those of the deputy's own keys.
func NewDeputy(ctx context.Context, d *db.DB, name string, role Role, holder, by string, until, now time.Time) (string, error) {
	name, holder = spaced(name), spaced(holder)
	switch {
	case role == Service || holder == "" || strings.EqualFold(name, holder):
		return "", fmt.Errorf("%w: a person stands in for another person", ErrDeputy)
	case !until.After(now) || until.Sub(now) > longest:
		return "", fmt.Errorf("%w: the end %s is not within the next %d days", ErrDeputy, until.UTC().Format(time.RFC3339), int(longest.Hours()/24))
	}
	return create(ctx, d, keyRow{name: name, role: role, holder: holder, until: &until, by: by}, now)
}

// holds refuses a deputy of somebody who has no key of the role.
func holds(ctx context.Context, tx pgx.Tx, holder string, role Role, now time.Time) error {
	rows, err := tx.Query(ctx, `SELECT role FROM api_keys WHERE lower(person) = lower($1) AND revoked_at IS NULL AND deputy_for = '' AND created_at <= $2`, holder, now)
	if err != nil {
		return err
	}
	held, err := pgx.CollectRows(rows, pgx.RowTo[Role])
	if err == nil && !slices.Contains(held, role) {
		err = fmt.Errorf("%w: %s has no key of %s to stand in for", ErrDeputy, holder, role)
	}
	return err
}

// ended refuses what a deputy's key may not do any more.
func (p *Principal) ended(now time.Time) error {
	if p.Until == nil || now.Before(*p.Until) {
		return nil
	}
	return fmt.Errorf("%w: %s stood in for %s until %s", ErrEnded, p.Name, p.For, p.Until.UTC().Format(time.RFC3339))
}
