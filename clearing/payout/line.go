package payout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// BankLine is a line of a bank about a payout: a debit of the paying account, a
// returned transfer, or the credit of a top-up; for a recharge also the row of the
// channel's fund bill.
type BankLine struct {
	Number  string // payout
	Account string // bank account, or merchant number of a fund bill
	BankRef string // identity of the line on that account
	Day     ledger.Day
	Amount  ledger.Money // signed: above zero is a credit
	Return  bool         // a credit that gives the transfer back
	Reason  channels.Reason
}

// LineOutcome is what became of a line. A line that was taken before changes
// nothing.
type LineOutcome struct {
	Entry  ledger.EntryID
	Before bool
	Err    error // a Refusal (ErrLine, ErrUnknownPayout): the line needs a case
}

// PostLines turns lines of the bank into the entries that they prove, inside the
// caller's verb: a debit is J34 (J50a of a recharge), a return J37 and J38, or the
// reversal of what was paid where the manual knows no J37; the credit of a top-up
// is J27b and the fund bill's row of a recharge J50b. Each line counts once.
func PostLines(ctx context.Context, b *ledger.Batch, d *clearing.Directory, lines []BankLine) ([]LineOutcome, error) {
	outcomes := make([]LineOutcome, len(lines))
	numbers := make([]string, len(lines))
	for i := range lines {
		numbers[i] = lines[i].Number
	}
	found, err := ByRefs(ctx, b.Tx(), numbers)
	if err != nil {
		return nil, err
	}
	before, err := linesBefore(ctx, b.Tx(), lines)
	if err != nil {
		return nil, err
	}
	order := make([]int, len(lines))
	for i := range order {
		order[i] = i
	}
	// A debit proves what a return gives back: it comes first.
	slices.SortStableFunc(order, func(x, y int) int { return rank(lines[x]) - rank(lines[y]) })
	for _, i := range order {
		l := &lines[i]
		key := [2]string{l.Account, l.BankRef}
		p := found[l.Number]
		switch {
		case p == nil:
			outcomes[i].Err = unknownPayout(l.Number)
		case before[key] == l.Number:
			outcomes[i].Before = true
		case before[key] != "":
			outcomes[i].Err = ErrLine.Because("bank_ref", "line %s of account %s belongs to payout %s", l.BankRef, l.Account, before[key])
		default:
			outcomes[i].Entry, outcomes[i].Err = p.line(ctx, b, d, l)
			if err := outcomes[i].Err; err != nil && !isRefusal(err) {
				return nil, err
			}
			if outcomes[i].Err == nil {
				before[key] = l.Number
			}
		}
	}
	for _, p := range found {
		save(b, p)
	}
	return outcomes, nil
}

func rank(l BankLine) int {
	if l.Amount < 0 {
		return 0
	}
	return 1
}

func isRefusal(err error) bool {
	_, ok := err.(ledger.Refusal)
	return ok
}

// linesBefore finds which payout took a line, by account and reference.
func linesBefore(ctx context.Context, tx pgx.Tx, lines []BankLine) (map[[2]string]string, error) {
	var accounts, refs []string
	for i := range lines {
		accounts, refs = append(accounts, lines[i].Account), append(refs, lines[i].BankRef)
	}
	rows, err := tx.Query(ctx, `
		SELECT l.account, l.bank_ref, l.number FROM unnest($1::TEXT[], $2::TEXT[]) AS asked(account, bank_ref)
		JOIN payout_lines AS l ON l.account = asked.account AND l.bank_ref = asked.bank_ref`, accounts, refs)
	if err != nil {
		return nil, fmt.Errorf("read payout lines: %w", err)
	}
	before := map[[2]string]string{}
	var key [2]string
	var number string
	if _, err = pgx.ForEachRow(rows, []any{&key[0], &key[1], &number}, func() error { before[key] = number; return nil }); err != nil {
		return nil, fmt.Errorf("read payout lines: %w", err)
	}
	return before, nil
}

// line takes one line that was not taken before.
func (p *Payout) line(ctx context.Context, b *ledger.Batch, d *clearing.Directory, l *BankLine) (id ledger.EntryID, err error) {
	side := "PAID"
	switch {
	case l.Amount.Abs() != p.Amount:
		return id, ErrLine.Because("amount", "line %s is of %s, payout %s of %s", l.BankRef, l.Amount, p.Number, p.Amount)
	case l.Amount < 0:
		id, err = p.paid(b, d, l)
	case l.Return:
		side = "RETURNED"
		err = p.givenBack(ctx, b, d, l)
	default:
		side = "ARRIVED"
		id, err = p.arrived(b, d, l)
	}
	if err != nil {
		return id, err
	}
	b.Exec(`INSERT INTO payout_lines (account, bank_ref, number, side, day) VALUES ($1, $2, $3, $4, $5)`, l.Account, l.BankRef, p.Number, side, l.Day)
	return id, nil
}

// paid is the debit that proves the payment (J34): also of one that is unknown.
func (p *Payout) paid(b *ledger.Batch, d *clearing.Directory, l *BankLine) (id ledger.EntryID, err error) {
	switch {
	case l.Account != p.From:
		return id, ErrLine.Because("account", "line %s is of account %s, payout %s pays from %s", l.BankRef, l.Account, p.Number, p.From)
	case !p.charged || p.State == Rejected:
		return id, ErrLine.Because("state", "payout %s is %s and line %s takes its money: find out why", p.Number, p.State.text(), l.BankRef)
	case p.DebitRef != "":
		return id, ErrLine.Because("bank_ref", "payout %s was proved by line %s: line %s takes the money a second time", p.Number, p.DebitRef, l.BankRef)
	}
	journal := "J34"
	if p.Kind == Recharge {
		journal = "J50a"
	}
	if id, err = p.post(b, d, l.Day, journal); err != nil {
		return id, err
	}
	p.DebitRef, p.lineEntry, p.changed, p.Held = l.BankRef, id, true, ""
	if p.State != Returned && p.State != Succeeded {
		p.turn(Succeeded, b.Now())
		p.tries = 0
		p.schedule(b.Now())
	}
	return id, nil
}

// givenBack is a returned transfer (退票): frozen until the account is changed.
func (p *Payout) givenBack(ctx context.Context, b *ledger.Batch, d *clearing.Directory, l *BankLine) (err error) {
	switch {
	case l.Account != p.From:
		return ErrLine.Because("account", "line %s is of account %s, payout %s pays from %s", l.BankRef, l.Account, p.Number, p.From)
	case p.DebitRef == "":
		return ErrLine.Because("state", "line %s gives payout %s back, and no line has taken it yet", l.BankRef, p.Number)
	case p.CreditRef != "":
		return ErrLine.Because("bank_ref", "payout %s came back with line %s: line %s gives it back a second time", p.Number, p.CreditRef, l.BankRef)
	case p.ArrivedRef != "":
		return ErrLine.Because("state", "payout %s arrived with %s and line %s gives it back: find out why", p.Number, p.ArrivedRef, l.BankRef)
	}
	if p.Kind == Hospital {
		err = p.freeze(ctx, b, d, l.Day, "J37", "J38")
	} else {
		err = errors.Join(p.takeBack(ctx, b, l.Day, p.lineEntry, p.sentEntry), p.reroute(ctx, b, true))
	}
	if err != nil {
		return err
	}
	if l.Reason != (channels.Reason{}) {
		p.Reason = l.Reason
	}
	p.CreditRef = l.BankRef
	p.turn(Returned, b.Now())
	p.schedule(b.Now())
	p.suspend(b)
	return nil
}

// arrived is the end of a top-up at custody, or of a recharge at the channel.
func (p *Payout) arrived(b *ledger.Batch, d *clearing.Directory, l *BankLine) (id ledger.EntryID, err error) {
	to, isBank := d.Bank(p.Hospital, l.Account)
	switch {
	case p.Kind != FeeTopUp && p.Kind != Recharge:
		return id, ErrLine.Because("kind", "payout %s is %s: a credit without return is none of its lines", p.Number, strings.ToLower(string(p.Kind)))
	case p.Kind == FeeTopUp && (!isBank || to.Role != clearing.Custody), p.Kind == Recharge && l.Account != p.MerchantNo:
		return id, ErrLine.Because("account", "payout %s does not go to %s", p.Number, l.Account)
	case p.Kind == Recharge && p.DebitRef == "":
		return id, ErrLine.Because("state", "recharge %s arrived with %s, and no bank line has taken it yet", p.Number, l.BankRef)
	case !p.charged || p.State == Rejected || p.CreditRef != "" || p.ArrivedRef != "":
		return id, ErrLine.Because("state", "payout %s is %s and %s says that it arrived: find out why", p.Number, p.State.text(), l.BankRef)
	}
	if id, err = p.arrive(b, d, to, l.Day); err != nil {
		return id, err
	}
	p.ArrivedRef, p.changed = l.BankRef, true
	return id, nil
}
