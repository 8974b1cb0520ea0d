// Package auth decides who comes in and what they may do: keys, the roles they
// carry, the actions of each role, and the roles that must not meet in one
// person. It is asked at the edges; below the API nobody knows of keys, only of
// the names of people.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/ledger/db"
)

//go:embed schema
var schemaFS embed.FS

// Schema is the table of keys.
var Schema = db.Schema{Name: "auth", FS: schemaFS}

// Kind tells a person from a program.
type Kind string

// The kinds of principals. A program may bring data and start runs; decisions
// are a person's.
const (
	Person  Kind = "PERSON"
	Program Kind = "SERVICE"
)

// Principal is who a key stands for.
type Principal struct {
	Key  string // the key's id, "key_…": what the audit trail names
	Name string // of the person or program
	Kind Kind
	Role Role
	For  string // whose deputy this is, "" for nobody's
	// Until is when a deputy's right ends, nil of everybody else.
	Until *time.Time
}

// Key is a key as it is listed: never the key itself.
type Key struct {
	Principal
	CreatedAt time.Time
	MadeBy    string
	RevokedAt *time.Time
	RevokedBy string // "" while it is valid
}

const prefix = sdk.Prefix

// ErrUnknownKey is wrapped where a key, or the id of one, is not ours.
var ErrUnknownKey = errors.New("the key is unknown")

// ErrRevoked is wrapped where a key was ours and is no longer valid.
var ErrRevoked = errors.New("the key has been revoked")

// ErrNoName is wrapped where a key is asked for nobody.
var ErrNoName = errors.New("a key needs the name of a person or program")

// ErrNoMaker is wrapped where nobody says that a key is to be made or revoked.
var ErrNoMaker = errors.New("whoever makes or revokes a key is named")

// New makes a key for a person, or for a program where the role is Service, and
// returns it: it can never be shown again, since only its hash is kept. A role
// that must not meet another of the same person's is refused; names are compared
// without regard to case and extra spaces. by is who makes it, for the audit trail.
func New(ctx context.Context, d *db.DB, name string, role Role, by string, now time.Time) (string, error) {
	return create(ctx, d, keyRow{name: spaced(name), role: role, by: by}, now)
}

func spaced(name string) string { return strings.Join(strings.Fields(name), " ") }

// keyRow is a key that is asked for.
type keyRow struct {
	name   string
	role   Role
	holder string // of a deputy
	until  *time.Time
	by     string // who makes it
}

func create(ctx context.Context, d *db.DB, k keyRow, now time.Time) (string, error) {
	name, role := k.name, k.role
	if name == "" {
		return "", ErrNoName
	}
	if k.by == "" {
		return "", ErrNoMaker
	}
	if !slices.Contains(Roles, role) {
		return "", fmt.Errorf("%w, one of %v; %q is none", ErrNoRole, Roles, role)
	}
	kind := Person
	if role == Service {
		kind = Program
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	key := prefix + base64.RawURLEncoding.EncodeToString(secret)
	signer, err := sdk.NewSigner(key)
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	id, hash := identify(key)
	err = d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		held, err := rolesOf(ctx, tx, name, now)
		if err == nil && k.holder != "" {
			err = holds(ctx, tx, k.holder, role, now)
		}
		if err != nil {
			return err
		}
		for _, other := range held {
			if err := meet(role, other); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		_, err = tx.Exec(ctx, `INSERT INTO api_keys (id, hash, person, kind, role, created_at, public_key, deputy_for, ends_at, made_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			id, hash, name, string(kind), string(role), now, []byte(signer.Public()), k.holder, k.until, k.by)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("new key: %w", err)
	}
	return key, nil
}

// rolesOf are the roles of a person's keys that are valid at that time. Read and insert stand in one
// serializable transaction, so that two keys made at once cannot pass each other.
func rolesOf(ctx context.Context, tx pgx.Tx, name string, now time.Time) ([]Role, error) {
	rows, err := tx.Query(ctx, `SELECT role FROM api_keys WHERE lower(person) = lower($1) AND revoked_at IS NULL AND (ends_at IS NULL OR ends_at > $2) ORDER BY role`, name, now)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[Role])
}

// identify returns a key's id and its hash. The id comes from the hash, so that
// nothing of the key itself is ever shown.
func identify(key string) (id string, hash []byte) {
	sum := sha256.Sum256([]byte(key))
	return "key_" + hex.EncodeToString(sum[:8]), sum[:]
}

// Check says whom a key stands for now.
func Check(ctx context.Context, d *db.DB, now time.Time, key string) (Principal, error) {
	if !strings.HasPrefix(key, prefix) {
		return Principal{}, fmt.Errorf("%w: a key begins with %s", ErrUnknownKey, prefix)
	}
	id, hash := identify(key)
	p, revoked, kept := Principal{Key: id}, false, []byte(nil)
	err := d.Pool.QueryRow(ctx, `SELECT hash, person, kind, role, deputy_for, ends_at, revoked_at IS NOT NULL FROM api_keys WHERE id = $1`, id).
		Scan(&kept, &p.Name, &p.Kind, &p.Role, &p.For, &p.Until, &revoked)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Principal{}, ErrUnknownKey
	case err != nil:
		return Principal{}, fmt.Errorf("check key: %w", err)
	case subtle.ConstantTimeCompare(kept, hash) != 1:
		return Principal{}, ErrUnknownKey
	case revoked:
		return Principal{}, fmt.Errorf("%w: %s of %s", ErrRevoked, id, p.Name)
	}
	return p, p.ended(now)
}

// Revoke ends a key by its id, for ever. Doing it again changes nothing: by is who
// did it first.
func Revoke(ctx context.Context, d *db.DB, id, by string, now time.Time) error {
	if by == "" {
		return ErrNoMaker
	}
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `
			UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $2), revoked_by = CASE WHEN revoked_at IS NULL THEN $3 ELSE revoked_by END
			WHERE id = $1`, id, now, by)
		if err == nil && done.RowsAffected() != 1 {
			return fmt.Errorf("%w: %s", ErrUnknownKey, id)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke key: %w", err)
	}
	return nil
}

// List returns every key ever made, by person.
func List(ctx context.Context, d *db.DB) ([]Key, error) {
	rows, err := d.Pool.Query(ctx, `
		SELECT id, person, kind, role, deputy_for, ends_at, created_at, made_by, revoked_at, revoked_by FROM api_keys
		ORDER BY lower(person), created_at, id`)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k Key, err error) {
		return k, row.Scan(&k.Key, &k.Name, &k.Kind, &k.Role, &k.For, &k.Until, &k.CreatedAt, &k.MadeBy, &k.RevokedAt, &k.RevokedBy)
	})
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	return keys, nil
}
