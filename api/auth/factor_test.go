package auth

import (
	"encoding/base32"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clearward/clearward/ledger/db/dbtest"
)

// The vectors of RFC 6238 appendix B, SHA-1, cut to six digits.
func TestCodesAreThoseOfRFC6238(t *testing.T) {
	for seconds, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got := totp([]byte("12345678901234567890"), seconds/codeStep); got != want {
			t.Errorf("at %d: %s, want %s", seconds, got, want)
		}
	}
}

type phone struct {
	*Factors
	t      *testing.T
	now    time.Time
	secret []byte
}

func enrol(t *testing.T) *phone {
	t.Helper()
	p := &phone{t: t, now: time.Date(2026, 9, 15, 2, 0, 0, 0, time.UTC)}
	key, err := MasterKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p.Factors = &Factors{DB: dbtest.New(t, Schema), Key: key, Now: func() time.Time { return p.now }}
	shown, err := p.Enrol(t.Context(), "Li Na")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(shown)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Clearward:Li Na" {
		t.Fatalf("%q, %v", shown, err)
	}
	if p.secret, err = base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret")); err != nil || len(p.secret) != secretSize {
		t.Fatalf("%q, %v", shown, err)
	}
	return p
}

func (p *phone) code(steps int64) string { return totp(p.secret, p.now.Unix()/codeStep+steps) }

func (p *phone) refused(code string, want error) {
	p.t.Helper()
	if id, err := p.Check(p.t.Context(), "Li Na", code); !errors.Is(err, want) || id != "" {
		p.t.Errorf("got %q, %v, want %v", id, err, want)
	}
}

func (p *phone) taken(code string) {
	p.t.Helper()
	if id, err := p.Check(p.t.Context(), "li na", code); err != nil || !strings.HasPrefix(id, "totp_") {
		p.t.Errorf("got %q, %v", id, err)
	}
}

// B21: a wrong code, and a code that was used, are refused.
func TestACodeWorksOnce(t *testing.T) {
	p := enrol(t)
	p.refused("", ErrCode)
	p.refused(p.code(3), ErrCode)
	code := p.code(0)
	p.taken(code)
	p.refused(code, ErrCodeUsed)
	p.refused(p.code(-1), ErrCodeUsed)
	p.taken(p.code(1))
	p.now = p.now.Add(30 * time.Second)
	p.refused(p.code(0), ErrCodeUsed)
	p.now = p.now.Add(30 * time.Second)
	p.taken(p.code(0))
	if _, err := p.Check(t.Context(), "Wang Li", p.code(0)); !errors.Is(err, ErrNoFactor) {
		t.Error(err)
	}
}

func TestOfTwoCallsWithOneCodeOnePasses(t *testing.T) {
	p := enrol(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	passed := 0
	for range 8 {
		all.Go(func() {
			_, err := p.Check(t.Context(), "Li Na", p.code(0))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				passed++
			} else if !errors.Is(err, ErrCodeUsed) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if passed != 1 {
		t.Errorf("%d passed", passed)
	}
}

func TestFiveWrongCodesLockTheFactor(t *testing.T) {
	p := enrol(t)
	for range mostWrong {
		p.refused("000000", ErrCode)
	}
	p.refused(p.code(0), ErrFactorLocked)
	p.now = p.now.Add(lockedFor)
	p.taken(p.code(0))
}

func TestASecretIsSealedAndShownOnce(t *testing.T) {
	p := enrol(t)
	if _, err := p.Enrol(t.Context(), " LI  na"); !errors.Is(err, ErrEnrolled) {
		t.Error(err)
	}
	var sealed []byte
	if err := p.DB.Pool.QueryRow(t.Context(), `SELECT sealed FROM factors`).Scan(&sealed); err != nil || strings.Contains(string(sealed), string(p.secret)) {
		t.Errorf("%x, %v", sealed, err)
	}
	other, err := MasterKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ours := p.Key
	p.Key = other
	if _, err := p.Check(t.Context(), "Li Na", p.code(0)); err == nil || !strings.Contains(err.Error(), "the master key is another one") {
		t.Error(err)
	}
	p.Key = ours
	if err := p.RevokeFactor(t.Context(), "Li Na"); err != nil {
		t.Fatal(err)
	}
	p.refused(p.code(0), ErrNoFactor)
	if err := p.RevokeFactor(t.Context(), "Li Na"); !errors.Is(err, ErrNoFactor) {
		t.Error(err)
	}
	if _, err := p.Enrol(t.Context(), "Li Na"); err != nil {
		t.Error(err)
	}
}

func TestTheMasterKeyIsMadeOnceForItsOwnerAlone(t *testing.T) {
	folder := t.TempDir()
	one, err := MasterKey(folder)
	if err != nil {
		t.Fatal(err)
	}
	two, err := MasterKey(folder)
	if err != nil || string(one) != string(two) || len(one) != 32 {
		t.Errorf("%x, %x, %v", one, two, err)
	}
	info, err := os.Stat(filepath.Join(folder, "master.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := ParseMasterKey("abc"); err == nil {
		t.Error("a short key was taken")
	}
}
