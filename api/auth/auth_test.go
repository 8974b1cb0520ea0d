package auth_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
)

var noon = time.Date(2026, 9, 15, 4, 0, 0, 0, time.UTC)

func newKey(t *testing.T, d *db.DB, name string, role auth.Role) string {
	t.Helper()
	key, err := auth.New(t.Context(), d, name, role, "cli:root", noon)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// wantErr checks the condition and that its message tells a person what is wrong.
func wantErr(t *testing.T, err, want error, says string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %v saying %q", err, want, says)
	}
}

func TestAKeyStandsForItsPersonUntilItIsRevoked(t *testing.T) {
	d := dbtest.New(t, auth.Schema)
	key := newKey(t, d, " Wang  Li ", auth.Accountant)
	if !strings.HasPrefix(key, "ck_") || len(key) != 46 {
		t.Errorf("the key is %q", key)
	}
	p, err := auth.Check(t.Context(), d, noon, key)
	if err != nil || p.Name != "Wang Li" || p.Kind != auth.Person || p.Role != auth.Accountant || !strings.HasPrefix(p.Key, "key_") {
		t.Errorf("Check = %+v, %v", p, err)
	}
	for _, by := range []string{"赵管理", "cli:root"} { // the second changes nothing
		if err := auth.Revoke(t.Context(), d, p.Key, by, noon.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = auth.Check(t.Context(), d, noon, key)
	wantErr(t, err, auth.ErrRevoked, "of Wang Li")
	keys, err := auth.List(t.Context(), d)
	if err != nil || len(keys) != 1 || keys[0].Principal != p || keys[0].RevokedAt == nil || !keys[0].RevokedAt.Equal(noon.Add(time.Hour)) ||
		keys[0].MadeBy != "cli:root" || keys[0].RevokedBy != "赵管理" {
		t.Errorf("List = %+v, %v", keys, err)
	}
}

// Nobody makes or revokes a key without a name: not here, and not in SQL.
func TestWhoMakesOrRevokesAKeyIsNamed(t *testing.T) {
	d := dbtest.New(t, auth.Schema)
	_, err := auth.New(t.Context(), d, "Wang Li", auth.Accountant, "", noon)
	wantErr(t, err, auth.ErrNoMaker, "is named")
	p, err := auth.Check(t.Context(), d, noon, newKey(t, d, "Wang Li", auth.Accountant))
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, auth.Revoke(t.Context(), d, p.Key, "", noon), auth.ErrNoMaker, "is named")
	for sql, constraint := range map[string]string{
		`UPDATE api_keys SET made_by = ''`:          "api_keys_made_by",
		`UPDATE api_keys SET revoked_at = now()`:    "api_keys_revoked_by",
		`UPDATE api_keys SET revoked_by = 'nobody'`: "api_keys_revoked_by",
	} {
		var refused *pgconn.PgError
		if _, err := d.Pool.Exec(t.Context(), sql); !errors.As(err, &refused) || refused.ConstraintName != constraint {
			t.Errorf("%s: %v, want %s", sql, err, constraint)
		}
	}
}

func TestOnlyTheHashOfAKeyIsKept(t *testing.T) {
	d := dbtest.New(t, auth.Schema)
	key := newKey(t, d, "Wang Li", auth.Accountant)
	var row string
	var hash []byte
	if err := d.Pool.QueryRow(t.Context(), `SELECT hash, id || person || kind || role FROM api_keys`).Scan(&hash, &row); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(hash, []byte(key[3:])) || strings.Contains(row, key[3:11]) || len(hash) != 32 {
		t.Errorf("the key %s is to be seen in %q, %x", key, row, hash)
	}
}

func TestWhatIsNoKeyIsRefused(t *testing.T) {
	d := dbtest.New(t, auth.Schema)
	key := newKey(t, d, "Wang Li", auth.Accountant)
	for _, wrong := range []string{"", "ck_", key[:45], key + "=", key[3:], strings.ToLower(key)} {
		_, err := auth.Check(t.Context(), d, noon, wrong)
		wantErr(t, err, auth.ErrUnknownKey, "the key is unknown")
	}
	wantErr(t, auth.Revoke(t.Context(), d, "key_0000", "cli:root", noon), auth.ErrUnknownKey, "key_0000")
}

func TestAKeyNeedsARoleAndAName(t *testing.T) {
	d := dbtest.New(t, auth.Schema)
	_, err := auth.New(t.Context(), d, "Wang Li", "", "cli:root", noon)
	wantErr(t, err, auth.ErrNoRole, "a key needs a role, one of [ACCOUNTANT FINANCE_HEAD")
	_, err = auth.New(t.Context(), d, "Wang Li", "BOSS", "cli:root", noon)
	wantErr(t, err, auth.ErrNoRole, `"BOSS" is none`)
	_, err = auth.New(t.Context(), d, " \t", auth.Accountant, "cli:root", noon)
	wantErr(t, err, auth.ErrNoName, "a key needs the name")
}

func TestDutiesThatMustNotMeet(t *testing.T) {
	d := dbtest.New(t, auth.Schema)
	for _, c := range []struct {
		has, wants auth.Role
		says       string // "" where the two may meet
	}{
		{auth.Accountant, auth.FinanceHead, "who proposes a resolution may not approve it"},
		{auth.FinanceHead, auth.Accountant, "who proposes a resolution may not approve it"},
		{auth.Accountant, auth.Treasurer, "who reconciles may not pay out"},
		{auth.Treasurer, auth.FinanceHead, "who approves a payout may not execute it"},
		{auth.Cashier, auth.FinanceHead, "who starts a refund may not approve it"},
		{auth.Operator, auth.FinanceHead, "may not approve"},
		{auth.Operator, auth.Treasurer, "who maintains bank accounts may not pay out"},
		{auth.Auditor, auth.Cashier, "who audits may change nothing"},
		{auth.Accountant, auth.Auditor, "who audits may change nothing"},
		{auth.Admin, auth.Accountant, "no action on money"},
		{auth.Supplier, auth.Operator, "no post in production"},
		{auth.FinanceHead, auth.Service, "a program is no person"},
		{auth.Accountant, auth.Accountant, ""},
		{auth.Accountant, auth.Insurance, ""},
		{auth.Cashier, auth.Treasurer, ""},
	} {
		name := string(c.has + " " + c.wants)
		newKey(t, d, name, c.has)
		_, err := auth.New(t.Context(), d, strings.ToLower(name), c.wants, "cli:root", noon)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s, then %s: %v", c.has, c.wants, err)
		case c.says != "":
			wantErr(t, err, auth.ErrForbiddenPair, c.says)
		}
	}
}

func TestARevokedKeyNoLongerForbidsAnotherPost(t *testing.T) {
	d := dbtest.New(t, auth.Schema)
	p, err := auth.Check(t.Context(), d, noon, newKey(t, d, "Wang Li", auth.Accountant))
	if err != nil {
		t.Fatal(err)
	}
	if err := auth.Revoke(t.Context(), d, p.Key, "cli:root", noon); err != nil {
		t.Fatal(err)
	}
	newKey(t, d, "Wang Li", auth.FinanceHead)
}

// Two keys made at the same moment must not slip past each other's check.
func TestAForbiddenPairIsRefusedAlsoWhenMadeAtOnce(t *testing.T) {
	d := dbtest.New(t, auth.Schema)
	for range 10 {
		var all sync.WaitGroup
		for _, role := range []auth.Role{auth.Accountant, auth.FinanceHead} {
			all.Go(func() {
				if _, err := auth.New(t.Context(), d, "Wang Li", role, "cli:root", noon); err != nil && !errors.Is(err, auth.ErrForbiddenPair) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		keys, err := auth.List(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		valid := 0
		for _, k := range keys {
			if k.RevokedAt != nil {
				continue
			}
			valid++
			if err := auth.Revoke(t.Context(), d, k.Key, "cli:root", noon); err != nil {
				t.Fatal(err)
			}
		}
		if valid != 1 {
			t.Fatalf("%d keys stand, want 1", valid)
		}
	}
}

func TestEachRoleMayDoItsOwnWorkAndNothingElse(t *testing.T) {
	actions := []auth.Action{auth.CaseRead, auth.CaseNote, auth.CaseAssign, auth.CasePropose, auth.CaseApprove, auth.CaseReject,
		auth.FeedWrite, auth.ImportWrite, auth.ReconRun, auth.AuditRead, auth.SetupWrite, auth.KeyNew}
	// One column per action in the order above; x is allowed.
	table := map[auth.Role]string{
		auth.Accountant:  "xxxx....xx..",
		auth.FinanceHead: "xx..xx...x..",
		auth.Cashier:     "xx..........",
		auth.Treasurer:   "x...........",
		auth.Insurance:   "xx..........",
		auth.IT:          "xx....x.....",
		auth.Operator:    "xx....xxx.x.",
		auth.Supplier:    "............",
		auth.Auditor:     "x........x..",
		auth.Admin:       "...........x",
		auth.Service:     "......xxx...",
	}
	for _, role := range auth.Roles {
		p := auth.Principal{Name: "Wang Li", Kind: auth.Person, Role: role}
		if role == auth.Service {
			p.Kind = auth.Program
		}
		got := ""
		for _, action := range actions {
			mark := "x"
			if err := auth.Allow(p, action); err != nil {
				mark = "."
				wantErr(t, err, auth.ErrDenied, string(action))
			}
			got += mark
		}
		if got != table[role] {
			t.Errorf("%s may %s, want %s", role, got, table[role])
		}
	}
}

func TestWhatNobodyHasHeardOfIsDenied(t *testing.T) {
	head := auth.Principal{Name: "Li Na", Kind: auth.Person, Role: auth.FinanceHead}
	wantErr(t, auth.Allow(head, "vault.open"), auth.ErrDenied, "Li Na may not vault.open as FINANCE_HEAD")
	wantErr(t, auth.Allow(auth.Principal{}, auth.CaseRead), auth.ErrDenied, "not allowed")
	wantErr(t, auth.Allow(auth.Principal{Name: "Li Na", Kind: auth.Person}, auth.CaseRead), auth.ErrDenied, "not allowed")
}

// Even a row that a hand had given a checker's role: a program decides nothing.
func TestAProgramCannotApprove(t *testing.T) {
	p := auth.Principal{Name: "app", Kind: auth.Program, Role: auth.FinanceHead}
	for _, action := range []auth.Action{auth.CaseApprove, auth.CaseReject} {
		wantErr(t, auth.Allow(p, action), auth.ErrDenied, "that takes a person")
	}
	d := dbtest.New(t, auth.Schema)
	_, err := d.Pool.Exec(t.Context(), `INSERT INTO api_keys (id, hash, person, kind, role, created_at, made_by)
		VALUES ('key_1', repeat('x', 32)::bytea, 'app', 'SERVICE', 'FINANCE_HEAD', now(), 'cli:root')`)
	if err == nil || !strings.Contains(err.Error(), "api_keys_kind") {
		t.Errorf("a program with a checker's role was stored: %v", err)
	}
}
