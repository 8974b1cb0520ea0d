package auth_test

import (
	"testing"
	"time"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/ledger/db/dbtest"
)

// U21: a deputy's right ends by itself, at both doors.
func TestADeputysRightEndsByItself(t *testing.T) {
	d := dbtest.New(t, auth.Schema)
	newKey(t, d, "Li Na", auth.FinanceHead)
	until := noon.Add(24 * time.Hour)
	key, err := auth.NewDeputy(t.Context(), d, "Zhao Min", auth.FinanceHead, " li  na", "cli:root", until, noon)
	if err != nil {
		t.Fatal(err)
	}
	at := noon
	door := auth.NewDoor(d, func() time.Time { return at })
	enter := func() (auth.Principal, error) {
		p, err := auth.Check(t.Context(), d, at, key)
		if q, doorErr := door.Enter(t.Context(), "Bearer "+key, "POST", "/", nil); (err == nil) != (doorErr == nil) || q.Name != p.Name && err == nil || q.For != p.For && err == nil {
			t.Errorf("the doors differ: %+v, %v; %+v, %v", p, err, q, doorErr)
		}
		return p, err
	}
	at = until.Add(-time.Second)
	if p, err := enter(); err != nil || p.Name != "Zhao Min" || p.For != "li na" || p.Until == nil || !p.Until.Equal(until) || auth.Allow(p, auth.PayoutApprove) != nil {
		t.Errorf("%+v, %v", p, err)
	}
	at = until
	_, err = enter()
	wantErr(t, err, auth.ErrEnded, "Zhao Min stood in for li na until 2026-09-16T04:00:00Z")
	// The post is free again: it no longer forbids another one.
	if _, err := auth.New(t.Context(), d, "Zhao Min", auth.Treasurer, "cli:root", until); err != nil {
		t.Error(err)
	}
}

func TestWhoMayBeADeputy(t *testing.T) {
	d := dbtest.New(t, auth.Schema)
	newKey(t, d, "Li Na", auth.FinanceHead)
	newKey(t, d, "Wang Li", auth.Treasurer)
	tomorrow := noon.Add(24 * time.Hour)
	if _, err := auth.NewDeputy(t.Context(), d, "Sun Yu", auth.FinanceHead, "Li Na", "cli:root", tomorrow, noon); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		role   auth.Role
		holder string
		until  time.Time
		want   error
		says   string
	}{
		{"Li Na", auth.FinanceHead, "li  na", tomorrow, auth.ErrDeputy, "for another person"},
		{"Zhao Min", auth.FinanceHead, "", tomorrow, auth.ErrDeputy, "for another person"},
		{"Zhao Min", auth.Service, "Li Na", tomorrow, auth.ErrDeputy, "for another person"},
		{"Zhao Min", auth.FinanceHead, "Li Na", noon, auth.ErrDeputy, "is not within the next 92 days"},
		{"Zhao Min", auth.FinanceHead, "Li Na", noon.Add(93 * 24 * time.Hour), auth.ErrDeputy, "is not within the next 92 days"},
		{"Zhao Min", auth.Treasurer, "Li Na", tomorrow, auth.ErrDeputy, "Li Na has no key of TREASURER"},
		{"Zhao Min", auth.FinanceHead, "Sun Yu", tomorrow, auth.ErrDeputy, "Sun Yu has no key of FINANCE_HEAD"}, // a deputy has no deputy
		{"Wang Li", auth.FinanceHead, "Li Na", tomorrow, auth.ErrForbiddenPair, "who approves a payout may not execute it"},
	} {
		_, err := auth.NewDeputy(t.Context(), d, c.name, c.role, c.holder, "cli:root", c.until, noon)
		wantErr(t, err, c.want, c.says)
	}
}
