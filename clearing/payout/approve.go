package payout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
)

// Approval is what a checker approves, read back: each payout with the payload
// hash that was shown, and the control totals (U17).
type Approval struct {
	Items []ApprovedItem
	Count int
	Sum   ledger.Money
	Code  string // of the second factor
}

// ApprovedItem is a payout as the checker saw it.
type ApprovedItem struct {
	Number  string
	Payload []byte
}

// Approve approves all items or none. Where an amount needs two checkers the
// payout stays REQUESTED after the first. Doing it again changes nothing.
func (ps *Payouts) Approve(ctx context.Context, by Person, a Approval) ([]Payout, error) {
	numbers := make([]string, len(a.Items))
	for i := range a.Items {
		numbers[i] = a.Items[i].Number
	}
	if again, err := ps.approvedBy(ctx, by.Name, numbers); err != nil || again != nil {
		return again, err
	}
	factor, err := ps.Factor(ctx, by.Name, a.Code)
	if err != nil {
		return nil, fmt.Errorf("approve payouts: second factor: %w", err)
	}
	out, err := ledger.Submit(ctx, ps.Committer, approveVerb, ledger.Request{}, approveCommand{Approval: a, by: by, factor: factor, key: ps.mark})
	if err := errors.Join(err, out.Err); err != nil {
		return nil, err
	}
	return ps.approvedBy(ctx, by.Name, numbers)
}

// approvedBy returns the payouts where the person has approved every one of them.
func (ps *Payouts) approvedBy(ctx context.Context, person string, numbers []string) (list []Payout, err error) {
	err = ps.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		list, err = payoutsWhere(ctx, tx, `p.number IN (SELECT a.number FROM payout_approvals AS a WHERE a.person = $1 AND a.number = ANY($2::TEXT[]))`, person, numbers)
		return err
	})
	if len(list) == 0 || len(list) < len(numbers) {
		return nil, err
	}
	return list, err
}

type approveCommand struct {
	Approval
	by     Person
	factor string
	key    func(Patient) string
}

var approveVerb = &ledger.Verb[approveCommand]{Name: "payout.approve", Run: func(ctx context.Context, b *ledger.Batch, cmds []approveCommand) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	d, err := openDesk(ctx, b)
	if err != nil {
		return b.Fail(err)
	}
	cases, err := d.load(ctx, cmds)
	if err != nil {
		return b.Fail(err)
	}
	for i := range cmds {
		outcomes[i].Err = d.approve(ctx, &cmds[i], cases)
	}
	for _, p := range cases.payouts {
		save(b, p)
	}
	return outcomes
}}

// approving is what is read for all approvals of a batch.
type approving struct {
	payouts map[string]*Payout
	payees  map[string]Payee
	people  map[string]Patient
	by      map[string][]string // whose right has approved, by number
}

func (d *desk) load(ctx context.Context, cmds []approveCommand) (a *approving, err error) {
	var numbers []string
	for i := range cmds {
		for _, item := range cmds[i].Items {
			numbers = append(numbers, item.Number)
		}
	}
	a = &approving{by: map[string][]string{}}
	if a.payouts, err = ByRefs(ctx, d.b.Tx(), numbers); err != nil {
		return nil, err
	}
	var list []*Payout
	for _, p := range a.payouts {
		list = append(list, p)
	}
	if a.payees, err = payeesByID(ctx, d.b.Tx(), list); err != nil {
		return nil, err
	}
	if a.people, err = people(ctx, d.b.Tx(), numbers); err != nil {
		return nil, err
	}
	rows, err := d.b.Tx().Query(ctx, `SELECT number, CASE WHEN holder = '' THEN person ELSE holder END FROM payout_approvals WHERE number = ANY($1::TEXT[])`, numbers)
	if err != nil {
		return nil, err
	}
	var number, holder string
	_, err = pgx.ForEachRow(rows, []any{&number, &holder}, func() error {
		a.by[number] = append(a.by[number], holder)
		return nil
	})
	return a, err
}

// approve checks everything before it changes anything. That a maker approves, or
// that something was edited, is on record whatever the answer.
func (d *desk) approve(ctx context.Context, c *approveCommand, a *approving) error {
	var sum ledger.Money
	var amounts []ledger.Money
	for _, item := range c.Items {
		p := a.payouts[item.Number]
		if p == nil {
			return unknownPayout(item.Number)
		}
		if err := d.mayApprove(c, p, item, a); err != nil {
			if errors.Is(err, ErrSamePerson) || errors.Is(err, ErrEdited) {
				note(d.b, "payout.approval_refused", p.Number, c.by.Name, err.Error())
			}
			return err
		}
		sum, amounts = sum+p.Amount, append(amounts, p.Amount)
	}
	if len(c.Items) == 0 || c.Count != len(c.Items) || c.Sum != sum {
		return ErrTotals.Because("totals", "%d payouts of %s (%s) are to be approved, %d of %s were read back", len(c.Items), sum, Capital(sum), c.Count, c.Sum)
	}
	if err := d.limit(ctx, c.by, "APPROVE", amounts...); err != nil {
		return err
	}
	d.spent[c.by.holder()] += sum
	for _, item := range c.Items {
		p := a.payouts[item.Number]
		a.by[p.Number] = append(a.by[p.Number], c.by.holder())
		d.b.Exec(`INSERT INTO payout_approvals (number, person, maker, role, factor, payload, day, at, holder) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			p.Number, c.by.Name, p.Maker, c.by.Role, c.factor, p.Payload, d.day, d.b.Now(), c.by.holder())
		p.Checker, p.changed = c.by.Name, true
		if len(a.by[p.Number]) >= int(p.Needs) {
			p.turn(Approved, d.b.Now())
			p.NextAt, p.Held = d.b.Now(), ""
		}
	}
	return nil
}

func (d *desk) mayApprove(c *approveCommand, p *Payout, item ApprovedItem, a *approving) error {
	payee := a.payees[p.Payee]
	switch {
	case c.by.Name == p.Maker || c.by.For == p.Maker:
		return ErrSamePerson.Because("checker", "%s asked for payout %s: another person approves it, and no deputy", p.Maker, p.Number)
	case p.Payee != "" && (c.by.Name == payee.Maker || c.by.For == payee.Maker):
		return ErrSamePerson.Because("checker", "%s proposed the account that payout %s goes to: another person approves it", payee.Maker, p.Number)
	case slices.Contains(a.by[p.Number], c.by.holder()), slices.Contains(a.by[p.Number], c.by.Name):
		return ErrSamePerson.Because("checker", "%s has approved payout %s: it needs another person, and no deputy", c.by.holder(), p.Number)
	case p.State != Requested:
		return ErrState.Because("state", "payout %s is %s: only a requested one is approved", p.Number, p.State.text())
	case len(item.Payload) == 0:
		return ErrReadBack.Because("payload", "the payload of payout %s is missing: it says what was shown", p.Number)
	}
	if err := p.unedited(payee, a.people[p.Number], c.key); err != nil {
		return err
	}
	if !bytes.Equal(item.Payload, p.Payload) {
		return ErrEdited.Because("payload", "payout %s is not what was shown: look at it again", p.Number)
	}
	if p.Kind == ReroutedRefund {
		return nil
	}
	return payee.usable(d.b.Now())
}

// unedited compares what is to be paid with what was frozen.
func (p *Payout) unedited(payee Payee, who Patient, mark func(Patient) string) error {
	if p.Kind == ReroutedRefund && mark(who) != p.payeeMark {
		return ErrEdited.Because("patient", "name or account of payout %s is not what was asked for", p.Number)
	}
	if !bytes.Equal(p.payloadHash(payee), p.Payload) {
		return ErrEdited.Because("payload", "payout %s was edited after it was asked for: payee, amount, purpose or references differ from the frozen hash", p.Number)
	}
	return nil
}

// note records a fact without money.
func note(b *ledger.Batch, kind, subject, by, text string) {
	canon, err := json.Marshal(map[string]string{"subject": subject, "by": by, "text": text})
	if err != nil {
		panic(err) // texts always encode
	}
	b.Record(kind, canon)
}

// Refuse ends a payout that was not sent yet: a checker says no, or a person
// takes back what is held. The money goes back to AVAIL (J32). Doing it again, for
// the same reason, changes nothing.
func (ps *Payouts) Refuse(ctx context.Context, by Person, number, reason string) (Payout, error) {
	out, err := ledger.Submit(ctx, ps.Committer, refuseVerb, ledger.Request{}, refuseCommand{by, number, strings.TrimSpace(reason)})
	if err := errors.Join(err, out.Err); err != nil {
		return Payout{}, err
	}
	return ps.Get(ctx, number)
}

type refuseCommand struct {
	by             Person
	number, reason string
}

var refuseVerb = &ledger.Verb[refuseCommand]{Name: "payout.refuse", Run: func(ctx context.Context, b *ledger.Batch, cmds []refuseCommand) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	d, err := openDesk(ctx, b)
	if err != nil {
		return b.Fail(err)
	}
	var numbers []string
	for i := range cmds {
		numbers = append(numbers, cmds[i].number)
	}
	found, err := ByRefs(ctx, b.Tx(), numbers)
	if err != nil {
		return b.Fail(err)
	}
	for i := range cmds {
		outcomes[i].Entry, outcomes[i].Err = d.refuse(&cmds[i], found[cmds[i].number])
	}
	for _, p := range found {
		save(b, p)
	}
	return outcomes
}}

func (d *desk) refuse(c *refuseCommand, p *Payout) (id ledger.EntryID, err error) {
	switch {
	case p == nil:
		return id, unknownPayout(c.number)
	case c.reason == "":
		return id, ErrRequest.Because("reason", "a refusal needs its reason")
	case p.State == Refused && p.Reason.Text == c.reason:
		return id, nil // said before
	case p.charged || (p.State != Requested && p.State != Approved):
		return id, ErrState.Because("state", "payout %s is %s: what the bank may have is asked for, not refused", p.Number, p.State.text())
	}
	if p.Kind == Hospital {
		if id, err = p.post(d.b, d.Directory, d.day, "J32"); err != nil {
			return id, err
		}
	}
	p.Reason.Text = c.reason
	p.Held, p.NextAt = "", time.Time{}
	p.turn(Refused, d.b.Now())
	note(d.b, "payout.refused", p.Number, c.by.Name, c.reason)
	return id, nil
}
