package payout_test

import (
	"errors"
	"testing"

	"github.com/clearward/clearward/clearing/payout"
)

// U21, K03: a deputy uses the right of whom he stands in for: it approves once, not
// what that person asked for, and within that person's limit of the day.
func TestADeputyAddsNoRight(t *testing.T) {
	h := open(t)
	deputy := payout.Person{Name: "周副", Role: "FINANCE_HEAD", For: li.Name}
	h.edit(`INSERT INTO payout_bands (from_day, above_fen, checkers) VALUES (20260915, 0, 2)`)
	p := h.request(requests["HOSPITAL"])
	if _, err := h.Approve(t.Context(), deputy, approval(p)); err != nil {
		t.Fatal(err)
	}
	_, err := h.Approve(t.Context(), li, approval(p))
	h.refused(err, payout.ErrSamePerson, li.Name+" has approved payout "+p.Number+": it needs another person, and no deputy")
	h.is(p.Number, payout.Requested)
	if _, err := h.Approve(t.Context(), zhao, approval(p)); err != nil {
		t.Fatal(err)
	}
	h.is(p.Number, payout.Approved)

	h.edit(`INSERT INTO payout_bands (from_day, above_fen, checkers) VALUES (20260915, 1, 1)`)
	h.edit(`INSERT INTO payout_limits (role, act, from_day, each_fen, day_fen) VALUES ('FINANCE_HEAD', 'APPROVE', 20260915, 30000, 30000)`)
	q := h.request(requests["COMPENSATION B"])
	_, err = h.Approve(t.Context(), payout.Person{Name: "吴副", Role: "FINANCE_HEAD", For: wang.Name}, approval(q))
	h.refused(err, payout.ErrSamePerson, wang.Name+" asked for payout")
	for _, by := range []payout.Person{li, deputy} {
		_, err = h.Approve(t.Context(), by, approval(q))
		h.refused(err, payout.ErrLimit, "the day's sum of "+li.Name+" would be 345.00")
	}
	for _, sql := range []string{ // the same in SQL
		`UPDATE payout_approvals SET holder = maker`,
		`INSERT INTO payout_approvals (number, person, maker, role, factor, payload, day, at, holder)
			SELECT number, 'another', maker, role, factor, payload, day, at, holder FROM payout_approvals WHERE person = '周副'`,
	} {
		if _, err := h.DB.Pool.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s was taken", sql)
		}
	}
	if _, err := h.Approve(t.Context(), zhao, approval(q)); errors.Is(err, payout.ErrSamePerson) {
		t.Error(err)
	}
	h.verify()
}
