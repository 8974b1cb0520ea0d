package payout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// cnapsForm is a 12-digit bank code (联行号), or none within the payer's bank.
var cnapsForm = regexp.MustCompile(`^(\d{12})?$`)

// ProposePayee asks for a place on the white-list. Of y count hospital, use,
// account, name, bank, CNAPS and which payee it replaces. Another person approves
// it; then it is held for 24 hours.
func (ps *Payouts) ProposePayee(ctx context.Context, scope, key string, by Person, y Payee) (Payee, error) {
	y.ID, y.Maker = numberOf("PE", ledger.DayOf(ps.Now()), scope, key), by.Name
	canon, err := json.Marshal([]string{y.Hospital, y.UseFor, y.Account, y.Name, y.Bank, y.CNAPS, y.Replaces, by.Name})
	if err != nil {
		return Payee{}, fmt.Errorf("propose a payee: %w", err)
	}
	out, err := ledger.Submit(ctx, ps.Committer, proposeVerb, ledger.Request{Scope: scope, Key: key, Form: 1, Canon: canon}, y)
	if err := errors.Join(err, out.Err); err != nil {
		return Payee{}, err
	}
	return ps.payee(ctx, out.Body)
}

func (ps *Payouts) payee(ctx context.Context, id string) (Payee, error) {
	list, err := ps.Payees(ctx, "")
	if err != nil {
		return Payee{}, err
	}
	i := slices.IndexFunc(list, func(y Payee) bool { return y.ID == id })
	if i < 0 {
		return Payee{}, unknownPayee(id)
	}
	return list[i], nil
}

func unknownPayee(id string) error { return ErrPayee.Because("payee", "payee %s is not known", id) }

// Payees lists the white-list of a hospital, "" for all, with its history.
func (ps *Payouts) Payees(ctx context.Context, hospital string) (list []Payee, err error) {
	err = ps.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		list, err = payeesWhere(ctx, tx, `$1 = '' OR hospital = $1`, hospital)
		return err
	})
	return list, err
}

var proposeVerb = &ledger.Verb[Payee]{Name: "payee.propose", Run: func(ctx context.Context, b *ledger.Batch, cmds []Payee) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	directory, err := clearing.LoadMerchants(ctx, b.Tx())
	if err != nil {
		return b.Fail(err)
	}
	taken, err := payeesWhere(ctx, b.Tx(), `TRUE`)
	if err != nil {
		return b.Fail(err)
	}
	for i := range cmds {
		y := &cmds[i]
		h, err := y.check(directory, taken)
		if err != nil {
			outcomes[i].Err = err
			continue
		}
		y.State = "PROPOSED"
		taken = append(taken, *y)
		outcomes[i].Body = y.ID
		b.Exec(`INSERT INTO payees (id, hospital, hospital_name, use_for, account, name, bank, cnaps, replaces, state, maker, proposed_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			y.ID, y.Hospital, h.Name, y.UseFor, y.Account, y.Name, y.Bank, y.CNAPS, y.Replaces, y.State, y.Maker, b.Now())
	}
	return outcomes
}}

// check says why a payee cannot be proposed.
func (y *Payee) check(d *clearing.Directory, taken []Payee) (*clearing.Hospital, error) {
	h, ok := d.Hospital(y.Hospital)
	custody, isBank := d.Bank(y.Hospital, y.Account)
	switch {
	case !ok:
		return nil, ErrRequest.Because("hospital", "hospital %q is not known", y.Hospital)
	case !slices.Contains([]string{"HOSPITAL", "CUSTODY", "CHANNEL"}, y.UseFor):
		return nil, ErrRequest.Because("use_for", "%q is none of HOSPITAL, CUSTODY, CHANNEL", y.UseFor)
	case y.Maker == "" || y.Account == "" || y.Name == "" || y.Bank == "":
		return nil, ErrRequest.Because("account", "a payee needs account, name and bank")
	case !cnapsForm.MatchString(y.CNAPS):
		return nil, ErrRequest.Because("cnaps", "%q is no bank code of 12 digits", y.CNAPS)
	case y.UseFor == "HOSPITAL" && y.Name != h.Name:
		return nil, ErrPayee.Because("name", "the account is in the name of %s, the hospital is %s: a hospital is paid on an account in its own name (spec L1)", y.Name, h.Name)
	case y.UseFor == "CUSTODY" && (!isBank || custody.Role != clearing.Custody):
		return nil, ErrPayee.Because("account", "%s is no custody account of hospital %s", y.Account, y.Hospital)
	}
	replaced := y.Replaces == ""
	for i := range taken {
		other := &taken[i]
		if other.Hospital == y.Hospital && other.UseFor == y.UseFor && other.Account == y.Account && (other.State == "PROPOSED" || other.State == "ACTIVE") {
			return nil, ErrPayee.Because("account", "account %s is %s already, as %s", y.Account, strings.ToLower(other.State), other.ID)
		}
		if other.ID == y.Replaces && other.Hospital == y.Hospital && other.UseFor == y.UseFor && (other.State == "ACTIVE" || other.State == "SUSPENDED") {
			replaced = true
		}
	}
	if !replaced {
		return nil, ErrPayee.Because("replaces", "%s is no payee of hospital %s in use that could be replaced", y.Replaces, y.Hospital)
	}
	return h, nil
}

// ApprovePayee puts a proposed payee on the white-list, usable 24 hours later; the
// one that it replaces ends, and what was frozen for it becomes available (J32).
// Doing it again changes nothing and needs no fresh code.
func (ps *Payouts) ApprovePayee(ctx context.Context, by Person, id, code string) (Payee, error) {
	if y, err := ps.payee(ctx, id); err != nil || y.approvedBy(by) {
		return y, err
	}
	factor, err := ps.Factor(ctx, by.Name, code)
	if err != nil {
		return Payee{}, fmt.Errorf("approve a payee: second factor: %w", err)
	}
	return ps.decidePayee(ctx, payeeDecision{id: id, by: by, factor: factor})
}

// RefusePayee ends a proposal. Doing it again changes nothing.
func (ps *Payouts) RefusePayee(ctx context.Context, by Person, id, reason string) (Payee, error) {
	return ps.decidePayee(ctx, payeeDecision{id: id, by: by, reason: strings.TrimSpace(reason), refuse: true})
}

func (ps *Payouts) decidePayee(ctx context.Context, c payeeDecision) (Payee, error) {
	out, err := ledger.Submit(ctx, ps.Committer, decideVerb, ledger.Request{}, c)
	if err := errors.Join(err, out.Err); err != nil {
		return Payee{}, err
	}
	return ps.payee(ctx, c.id)
}

// approvedBy tells whether the payee stands on the white-list by this person's word.
func (y *Payee) approvedBy(by Person) bool { return y.State != "PROPOSED" && y.Checker == by.Name }

type payeeDecision struct {
	id             string
	by             Person
	factor, reason string
	refuse         bool
}

var decideVerb = &ledger.Verb[payeeDecision]{Name: "payee.decide", Run: func(ctx context.Context, b *ledger.Batch, cmds []payeeDecision) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	d, err := openDesk(ctx, b)
	if err != nil {
		return b.Fail(err)
	}
	for i := range cmds {
		err := d.decidePayee(ctx, &cmds[i], cmds[:i])
		if err != nil && !errors.As(err, new(ledger.Refusal)) {
			return b.Fail(err)
		}
		outcomes[i].Err = err
	}
	return outcomes
}}

func (d *desk) decidePayee(ctx context.Context, c *payeeDecision, before []payeeDecision) error {
	found, err := payeesWhere(ctx, d.b.Tx(), `id = $1`, c.id)
	if err != nil {
		return err
	}
	twice := slices.ContainsFunc(before, func(o payeeDecision) bool { return o.id == c.id })
	switch {
	case len(found) == 0:
		return unknownPayee(c.id)
	case c.refuse && found[0].State == "REFUSED" && found[0].Reason == c.reason, !c.refuse && found[0].approvedBy(c.by):
		return nil // said before
	case found[0].State != "PROPOSED" || twice:
		return ErrState.Because("state", "payee %s is decided already", c.id)
	case (found[0].Maker == c.by.Name || found[0].Maker == c.by.For) && !c.refuse:
		note(d.b, "payee.approval_refused", c.id, c.by.Name, "the maker approves")
		return ErrSamePerson.Because("checker", "%s proposed payee %s: another person approves it", c.by.Name, c.id)
	case c.refuse && c.reason == "":
		return ErrRequest.Because("reason", "a refusal needs its reason")
	}
	if c.refuse {
		note(d.b, "payee.refused", c.id, c.by.Name, c.reason)
		d.b.ExecRows(1, `UPDATE payees SET state = 'REFUSED', reason = $2, decided_at = $3 WHERE id = $1 AND state = 'PROPOSED'`, c.id, c.reason, d.b.Now())
		return nil
	}
	if _, ok := d.settings.limits[[2]string{c.by.Role, "APPROVE"}]; !ok {
		return ErrLimit.Because("role", "%s as %s may not approve payees", c.by.Name, c.by.Role)
	}
	d.b.ExecRows(1, `UPDATE payees SET state = 'ACTIVE', checker = $2, factor = $3, decided_at = $4, usable_from = $5 WHERE id = $1 AND state = 'PROPOSED'`,
		c.id, c.by.Name, c.factor, d.b.Now(), d.b.Now().Add(payeeHold))
	if found[0].Replaces == "" {
		return nil
	}
	d.b.ExecRows(1, `UPDATE payees SET state = 'REPLACED' WHERE id = $1 AND state IN ('ACTIVE', 'SUSPENDED')`, found[0].Replaces)
	return d.thaw(ctx, found[0].Replaces)
}

// thaw makes available what was frozen because of an account that is now changed
// (J32): one new payout may be asked for.
func (d *desk) thaw(ctx context.Context, payee string) error {
	list, err := payoutsWhere(ctx, d.b.Tx(), `p.payee = $1 AND p.frozen`, payee)
	if err != nil {
		return err
	}
	for i := range list {
		p := &list[i]
		if _, err := p.post(d.b, d.Directory, d.day, "J32"); err != nil {
			return err
		}
		p.Frozen, p.changed = false, true
		save(d.b, p)
	}
	return nil
}
