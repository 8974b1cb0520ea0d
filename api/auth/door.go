package auth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/ledger/db"
)

// Why a request does not get in.
var (
	ErrSignature = errors.New("the signature is wrong")
	ErrClock     = errors.New("the clocks differ too much")
	ErrMustSign  = errors.New("a program signs its requests")
)

// skew is how far the clock of a caller may be from ours; keepFor is for how long
// a key is believed that was read from the database, so that a revoked one is
// refused everywhere within that time.
const (
	skew    = 5 * time.Minute
	keepFor = 2 * time.Second
)

// Door checks who comes in over the network. It is used by all calls of a process.
type Door struct {
	db   *db.DB
	now  func() time.Time
	mu   sync.Mutex
	kept map[string]keptKey
}

type keptKey struct {
	Principal
	hash, public []byte
	revoked      bool
	read         time.Time // by the machine's clock
}

// NewDoor returns the door of a process; now is the clock that signatures are
// held against.
func NewDoor(d *db.DB, now func() time.Time) *Door {
	return &Door{db: d, now: now, kept: map[string]keptKey{}}
}

// Enter says whom the Authorization header stands for. A person shows the key
// (Bearer); a program signs method, path and body with it.
func (d *Door) Enter(ctx context.Context, header, method, path string, body []byte) (Principal, error) {
	if signed, ok := strings.CutPrefix(header, sdk.Scheme); ok {
		return d.signed(ctx, signed, method, path, body)
	}
	key, ok := strings.CutPrefix(header, "Bearer ")
	if !ok || !strings.HasPrefix(key, prefix) {
		return Principal{}, fmt.Errorf("%w: a key begins with %s", ErrUnknownKey, prefix)
	}
	id, hash := identify(key)
	k, err := d.key(ctx, id)
	switch {
	case err != nil:
		return Principal{}, err
	case subtle.ConstantTimeCompare(k.hash, hash) != 1:
		return Principal{}, ErrUnknownKey
	case k.Kind != Person:
		return Principal{}, fmt.Errorf("%w: %s is one, and showed its key", ErrMustSign, k.Name)
	}
	return k.Principal, nil
}

func (d *Door) signed(ctx context.Context, header, method, path string, body []byte) (Principal, error) {
	parts := map[string]string{}
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	seconds, err := strconv.ParseInt(parts["ts"], 10, 64)
	if err != nil {
		return Principal{}, fmt.Errorf("%w: ts: %q is no number of seconds", ErrSignature, parts["ts"])
	}
	if now, at := d.now(), time.Unix(seconds, 0); now.Sub(at).Abs() > skew {
		return Principal{}, fmt.Errorf("%w: the request was signed at %s, the clock here says %s, and they may differ by %s", ErrClock,
			at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), skew)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts["sig"])
	if err != nil || len(parts["nonce"]) < 16 {
		return Principal{}, fmt.Errorf("%w: key, ts, nonce (16 characters or more) and sig are needed", ErrSignature)
	}
	k, err := d.key(ctx, parts["key"])
	if err != nil {
		return Principal{}, err
	}
	if len(k.public) != ed25519.PublicKeySize || !ed25519.Verify(k.public, sdk.Message(method, path, parts["ts"], parts["nonce"], body), signature) {
		return Principal{}, fmt.Errorf("%w: it is not that of %s over this request", ErrSignature, k.Key)
	}
	return k.Principal, nil
}

// key reads a key by its id, or remembers it.
func (d *Door) key(ctx context.Context, id string) (keptKey, error) {
	d.mu.Lock()
	k, ok := d.kept[id]
	d.mu.Unlock()
	if ok && time.Since(k.read) < keepFor {
		return k, k.refuse(d.now())
	}
	k = keptKey{Principal: Principal{Key: id}, read: time.Now()}
	err := d.db.Pool.QueryRow(ctx, `SELECT hash, public_key, person, kind, role, deputy_for, ends_at, revoked_at IS NOT NULL FROM api_keys WHERE id = $1`, id).
		Scan(&k.hash, &k.public, &k.Name, &k.Kind, &k.Role, &k.For, &k.Until, &k.revoked)
	if errors.Is(err, pgx.ErrNoRows) {
		return k, ErrUnknownKey // not remembered: whoever guesses fills no memory
	}
	if err != nil {
		return k, fmt.Errorf("check key: %w", err)
	}
	k.hash, k.public = bytes.Clone(k.hash), bytes.Clone(k.public)
	d.mu.Lock()
	d.kept[id] = k
	d.mu.Unlock()
	return k, k.refuse(d.now())
}

func (k *keptKey) refuse(now time.Time) error {
	if k.revoked {
		return fmt.Errorf("%w: %s of %s", ErrRevoked, k.Key, k.Name)
	}
	return k.ended(now)
}
