package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger/db"
)

// Why a second factor is not taken.
var (
	ErrNoFactor     = errors.New("no second factor is enrolled")
	ErrCode         = errors.New("the code is wrong")
	ErrCodeUsed     = errors.New("the code was used before: wait for the next one")
	ErrFactorLocked = errors.New("too many wrong codes")
	ErrEnrolled     = errors.New("a second factor is enrolled already")
)

// A code of six digits is valid for its own step of 30 seconds, and one before and
// after it for clocks that differ (RFC 6238 5.2). Five wrong ones in a row lock
// the factor for a quarter of an hour.
const (
	codeStep   = 30
	codeDrift  = 1
	mostWrong  = 5
	lockedFor  = 15 * time.Minute
	secretSize = 20
)

// Factors are the second factors of all people.
type Factors struct {
	DB  *db.DB
	Key []byte // 32 bytes: seals the secrets, see MasterKey
	Now func() time.Time
}

// MasterKey reads the key of an installation from a file in the data folder, made
// with the first use and readable by its owner alone.
func MasterKey(folder string) ([]byte, error) {
	name := filepath.Join(folder, "master.key")
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKey(name)
	}
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	return ParseMasterKey(string(text))
}

// ParseMasterKey reads the hexadecimal form of a master key, which also a secret
// reference may hold.
func ParseMasterKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != 32 {
		return nil, errors.New("master key: it must be 64 hexadecimal digits")
	}
	return key, nil
}

// makeKey writes a new key beside its name and links it there, so that of two
// processes one wins and both read the same.
func makeKey(name string) ([]byte, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(name), "master.*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(file.Name()) }() // its content stays under the name it was linked to
	_, err = file.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(file.Name(), name); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(name)
}

// Enrol gives a person a second factor and returns the otpauth URL for an
// authenticator app. It is shown this once: only the sealed secret is kept.
func (f *Factors) Enrol(ctx context.Context, person string) (otpauth string, err error) {
	person = strings.Join(strings.Fields(person), " ")
	if person == "" {
		return "", ErrNoName
	}
	random := make([]byte, secretSize+8)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("enrol a second factor: %w", err)
	}
	secret, id := random[:secretSize], "totp_"+hex.EncodeToString(random[secretSize:])
	sealed, err := f.seal(id, secret)
	if err != nil {
		return "", fmt.Errorf("enrol a second factor: %w", err)
	}
	err = f.DB.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `
			INSERT INTO factors (id, person, sealed, created_at)
			SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM factors WHERE lower(person) = lower($2) AND revoked_at IS NULL)`, id, person, sealed, f.Now())
		if err == nil && done.RowsAffected() != 1 {
			err = fmt.Errorf("%w for %s: revoke it first", ErrEnrolled, person)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("enrol a second factor: %w", err)
	}
	query := url.Values{"secret": {base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)}, "issuer": {"Clearward"},
		"algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}
	return (&url.URL{Scheme: "otpauth", Host: "totp", Path: "/Clearward:" + person, RawQuery: query.Encode()}).String(), nil
}

// RevokeFactor ends a person's second factor, such as with a lost telephone.
func (f *Factors) RevokeFactor(ctx context.Context, person string) error {
	err := f.DB.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `UPDATE factors SET revoked_at = $2 WHERE lower(person) = lower($1) AND revoked_at IS NULL`, person, f.Now())
		if err == nil && done.RowsAffected() != 1 {
			err = fmt.Errorf("%w for %s", ErrNoFactor, person)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke a second factor: %w", err)
	}
	return nil
}

// factor is a row of factors.
type factor struct {
	id     string
	sealed []byte
	used   int64
	wrong  int32
	locked *time.Time
}

// Check takes a code of the person's factor and returns the factor's id. A code
// works once, also for two calls at the same moment; a wrong one is counted.
func (f *Factors) Check(ctx context.Context, person, code string) (id string, err error) {
	var refused error
	err = f.DB.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var row factor
		err := tx.QueryRow(ctx, `SELECT id, sealed, used_counter, wrong, locked_until FROM factors WHERE lower(person) = lower($1) AND revoked_at IS NULL`, person).
			Scan(&row.id, &row.sealed, &row.used, &row.wrong, &row.locked)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%w for %s", ErrNoFactor, person)
		}
		if err != nil {
			return err
		}
		id = row.id
		secret, err := f.unseal(row.id, row.sealed)
		if err != nil {
			return err
		}
		before := row
		refused = row.take(secret, code, f.Now())
		done, err := tx.Exec(ctx, `UPDATE factors SET used_counter = $2, wrong = $3, locked_until = $4 WHERE id = $1 AND used_counter = $5 AND wrong = $6`,
			row.id, row.used, row.wrong, row.locked, before.used, before.wrong)
		if err == nil && done.RowsAffected() != 1 {
			err = ErrCodeUsed
		}
		return err
	})
	if err = errors.Join(err, refused); err != nil {
		return "", err
	}
	return id, nil
}

// take decides about a code and changes the row. A refusal is kept with the row:
// the count of wrong codes survives it.
func (r *factor) take(secret []byte, code string, now time.Time) error {
	if r.locked != nil && now.Before(*r.locked) {
		return fmt.Errorf("%w: the factor is locked until %s", ErrFactorLocked, r.locked.UTC().Format(time.RFC3339))
	}
	counter := now.Unix() / codeStep
	for at := counter - codeDrift; at <= counter+codeDrift; at++ {
		if subtle.ConstantTimeCompare([]byte(totp(secret, at)), []byte(code)) != 1 {
			continue
		}
		if at <= r.used {
			return ErrCodeUsed
		}
		r.used, r.wrong, r.locked = at, 0, nil
		return nil
	}
	r.wrong++
	if r.wrong >= mostWrong {
		until := now.Add(lockedFor)
		r.wrong, r.locked = 0, &until
	}
	return ErrCode
}

// totp is the code of a counter: HOTP with SHA-1, which every authenticator app
// has, and six digits (RFC 4226 5.3).
func totp(secret []byte, counter int64) string {
	m := hmac.New(sha1.New, secret)
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(counter)))
	sum := m.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:at+4])&0x7fffffff%1_000_000)
}

func (f *Factors) cipher() (cipher.AEAD, error) {
	block, err := aes.NewCipher(f.Key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (f *Factors) seal(id string, secret []byte) ([]byte, error) {
	c, err := f.cipher()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, c.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return c.Seal(nonce, nonce, secret, []byte(id)), nil
}

func (f *Factors) unseal(id string, sealed []byte) ([]byte, error) {
	c, err := f.cipher()
	if err != nil {
		return nil, err
	}
	secret, err := c.Open(nil, sealed[:c.NonceSize()], sealed[c.NonceSize():], []byte(id))
	if err != nil {
		return nil, fmt.Errorf("second factor %s does not open: the master key is another one", id)
	}
	return secret, nil
}
