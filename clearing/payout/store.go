package payout

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

const payoutColumns = `p.number, p.hospital, p.ownership, p.kind, p.mode, p.from_account, COALESCE(p.payee, ''), p.payee_mark, p.amount_fen,
	p.purpose, p.subject, p.channel, p.merchant_no, p.contract, p.day, p.repeat_reason, p.payload, p.maker, p.checker, p.needs, p.requested_at,
	p.rev, p.state, p.state_at, p.held, p.batch, p.sent_at, p.bank_ref, p.bank_refused, p.reason_kind, p.reason_code, p.reason_text,
	p.charged, p.frozen, p.sent_lane, p.sent_seq, p.sent_ord, p.line_lane, p.line_seq, p.line_ord, p.debit_ref, p.credit_ref, p.arrived_ref,
	p.queue, p.next_at, p.tries`

func scanPayout(row pgx.CollectableRow) (p Payout, err error) {
	var sent, next *time.Time
	err = row.Scan(&p.Number, &p.Hospital, &p.ownership, &p.Kind, &p.Mode, &p.From, &p.Payee, &p.payeeMark, &p.Amount,
		&p.Purpose, &p.Subject, &p.Channel, &p.MerchantNo, &p.Contract, &p.Day, &p.RepeatReason, &p.Payload, &p.Maker, &p.Checker, &p.Needs, &p.RequestedAt,
		&p.rev, &p.State, &p.StateAt, &p.Held, &p.Batch, &sent, &p.BankRef, &p.bankRefused, &p.Reason.Kind, &p.Reason.Code, &p.Reason.Text,
		&p.charged, &p.Frozen, &p.sentEntry.Lane, &p.sentEntry.Seq, &p.sentEntry.Ord, &p.lineEntry.Lane, &p.lineEntry.Seq, &p.lineEntry.Ord,
		&p.DebitRef, &p.CreditRef, &p.ArrivedRef, &p.queue, &next, &p.tries)
	if sent != nil {
		p.SentAt = *sent
	}
	if next != nil {
		p.NextAt = *next
	}
	return p, err
}

// payoutsWhere reads payouts, by number.
func payoutsWhere(ctx context.Context, tx pgx.Tx, where string, args ...any) ([]Payout, error) {
	rows, err := tx.Query(ctx, `SELECT `+payoutColumns+` FROM payouts AS p WHERE `+where+` ORDER BY p.number`, args...)
	if err != nil {
		return nil, fmt.Errorf("read payouts: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanPayout)
	if err != nil {
		return nil, fmt.Errorf("read payouts: %w", err)
	}
	return list, nil
}

// ByRefs finds the payouts that references of a bank name: lines whose reference
// is not among them are none of ours.
func ByRefs(ctx context.Context, tx pgx.Tx, refs []string) (map[string]*Payout, error) {
	list, err := payoutsWhere(ctx, tx, `p.number = ANY($1::TEXT[])`, refs)
	if err != nil {
		return nil, err
	}
	byRef := make(map[string]*Payout, len(list))
	for i := range list {
		byRef[list[i].Number] = &list[i]
	}
	return byRef, nil
}

// Unproved lists payouts that were given to the bank before that moment and whose
// end is not known: no line of the account has proved them, and the bank has not
// said that it refused them.
func Unproved(ctx context.Context, tx pgx.Tx, hospital, account string, before time.Time) ([]Payout, error) {
	return payoutsWhere(ctx, tx, `p.hospital = $1 AND p.from_account = $2 AND p.sent_at < $3 AND p.debit_ref = ''
		AND p.state IN ('SENDING', 'SENT', 'BANK_APPROVAL', 'UNKNOWN')`, hospital, account, before)
}

// turn changes the state; the age of a state counts from the first time.
func (p *Payout) turn(to State, now time.Time) {
	if p.State != to {
		p.State, p.StateAt = to, now
	}
	p.changed = true
}

// save queues the rows that were changed in one statement, compared and set by
// rev, with what was said to the bank.
func save(b *ledger.Batch, list ...*Payout) {
	var c columns
	for _, p := range list {
		if p.changed {
			c.add(p)
			p.changed = false
		}
	}
	if len(c.numbers) == 0 {
		return
	}
	b.ExecRows(int64(len(c.numbers)), `
		UPDATE payouts AS p
		SET rev = p.rev + 1, state = g.state, state_at = g.state_at, checker = g.checker, held = g.held, batch = g.batch, sent_at = g.sent_at,
			bank_ref = g.bank_ref, bank_refused = g.bank_refused, reason_kind = g.reason_kind, reason_code = g.reason_code, reason_text = g.reason_text,
			charged = g.charged, frozen = g.frozen, sent_lane = g.sent_lane, sent_seq = g.sent_seq, sent_ord = g.sent_ord,
			line_lane = g.line_lane, line_seq = g.line_seq, line_ord = g.line_ord, debit_ref = g.debit_ref, credit_ref = g.credit_ref,
			arrived_ref = g.arrived_ref, next_at = g.next_at, tries = g.tries
		FROM unnest($1::TEXT[], $2::INT8[], $3::TEXT[], $4::TIMESTAMPTZ[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TIMESTAMPTZ[], $9::TEXT[], $10::BOOL[],
			$11::TEXT[], $12::TEXT[], $13::TEXT[], $14::BOOL[], $15::BOOL[], $16::INT2[], $17::INT8[], $18::INT2[], $19::INT2[], $20::INT8[], $21::INT2[],
			$22::TEXT[], $23::TEXT[], $24::TEXT[], $25::TIMESTAMPTZ[], $26::INT4[])
			AS g(number, rev, state, state_at, checker, held, batch, sent_at, bank_ref, bank_refused, reason_kind, reason_code, reason_text, charged, frozen,
				sent_lane, sent_seq, sent_ord, line_lane, line_seq, line_ord, debit_ref, credit_ref, arrived_ref, next_at, tries)
		WHERE p.number = g.number AND p.rev = g.rev`,
		c.numbers, c.revs, c.states, c.stateAts, c.checkers, c.helds, c.batches, c.sentAts, c.bankRefs, c.bankRefuseds, c.reasonKinds, c.reasonCodes,
		c.reasonTexts, c.chargeds, c.frozens, c.sentLanes, c.sentSeqs, c.sentOrds, c.lineLanes, c.lineSeqs, c.lineOrds, c.debits, c.credits, c.arriveds,
		c.nexts, c.triess)
	for _, p := range list {
		if x := p.exchange; x != nil {
			b.Exec(`INSERT INTO exchanges (day, number, n, call, at, took_ms, status, request, response, fault) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
				ledger.DayOf(x.At), p.Number, p.rev, x.Call, x.At, x.Took.Milliseconds(), x.Status, x.Request, x.Response, x.Fault)
			p.exchange = nil
		}
	}
}

// columns are changed payouts on their way into the table.
type columns struct {
	numbers, states, checkers, helds, batches, bankRefs, reasonKinds, reasonCodes, reasonTexts, debits, credits, arriveds []string
	revs, sentSeqs, lineSeqs                                                                                              []int64
	sentLanes, sentOrds, lineLanes, lineOrds                                                                              []int16
	triess                                                                                                                []int32
	bankRefuseds, chargeds, frozens                                                                                       []bool
	stateAts                                                                                                              []time.Time
	sentAts, nexts                                                                                                        []*time.Time
}

func (c *columns) add(p *Payout) {
	c.numbers, c.revs, c.states, c.stateAts = append(c.numbers, p.Number), append(c.revs, p.rev), append(c.states, string(p.State)), append(c.stateAts, p.StateAt)
	c.checkers, c.helds, c.batches = append(c.checkers, p.Checker), append(c.helds, p.Held), append(c.batches, p.Batch)
	c.sentAts, c.nexts, c.triess = append(c.sentAts, orNull(p.SentAt)), append(c.nexts, orNull(p.NextAt)), append(c.triess, p.tries)
	c.bankRefs, c.bankRefuseds = append(c.bankRefs, p.BankRef), append(c.bankRefuseds, p.bankRefused)
	c.reasonKinds, c.reasonCodes, c.reasonTexts = append(c.reasonKinds, string(p.Reason.Kind)), append(c.reasonCodes, p.Reason.Code), append(c.reasonTexts, p.Reason.Text)
	c.chargeds, c.frozens = append(c.chargeds, p.charged), append(c.frozens, p.Frozen)
	c.sentLanes, c.sentSeqs, c.sentOrds = append(c.sentLanes, p.sentEntry.Lane), append(c.sentSeqs, p.sentEntry.Seq), append(c.sentOrds, p.sentEntry.Ord)
	c.lineLanes, c.lineSeqs, c.lineOrds = append(c.lineLanes, p.lineEntry.Lane), append(c.lineSeqs, p.lineEntry.Seq), append(c.lineOrds, p.lineEntry.Ord)
	c.debits, c.credits, c.arriveds = append(c.debits, p.DebitRef), append(c.credits, p.CreditRef), append(c.arriveds, p.ArrivedRef)
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Get finds a payout by its number.
func (ps *Payouts) Get(ctx context.Context, number string) (Payout, error) {
	var found []Payout
	err := ps.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		found, err = payoutsWhere(ctx, tx, `p.number = $1`, number)
		return err
	})
	if err == nil && len(found) == 0 {
		err = unknownPayout(number)
	}
	if err != nil {
		return Payout{}, err
	}
	return found[0], nil
}

func unknownPayout(number string) error {
	return ErrUnknownPayout.Because("number", "payout %s is not known", number)
}

// List returns payouts of a hospital ("" for all) in a state ("" for any), by number.
func (ps *Payouts) List(ctx context.Context, hospital string, state State) (list []Payout, err error) {
	err = ps.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		list, err = payoutsWhere(ctx, tx, `($1 = '' OR p.hospital = $1) AND ($2 = '' OR p.state = $2)`, hospital, string(state))
		return err
	})
	return list, err
}

const payeeColumns = `id, hospital, use_for, account, name, bank, cnaps, replaces, state, maker, checker, reason, COALESCE(usable_from, proposed_at)`

func payeesWhere(ctx context.Context, tx pgx.Tx, where string, args ...any) ([]Payee, error) {
	rows, err := tx.Query(ctx, `SELECT `+payeeColumns+` FROM payees WHERE `+where+` ORDER BY hospital, use_for, id`, args...)
	if err != nil {
		return nil, fmt.Errorf("read payees: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Payee])
	if err != nil {
		return nil, fmt.Errorf("read payees: %w", err)
	}
	return list, nil
}

// payeesByID reads the payees that payouts name.
func payeesByID(ctx context.Context, tx pgx.Tx, list []*Payout) (map[string]Payee, error) {
	var ids []string
	for _, p := range list {
		ids = append(ids, p.Payee)
	}
	found, err := payeesWhere(ctx, tx, `id = ANY($1::TEXT[])`, ids)
	byID := make(map[string]Payee, len(found))
	for _, payee := range found {
		byID[payee.ID] = payee
	}
	return byID, err
}

// people reads whom refunds by another route go to.
func people(ctx context.Context, tx pgx.Tx, numbers []string) (map[string]Patient, error) {
	rows, err := tx.Query(ctx, `SELECT number, account, name, bank, cnaps, reason, proof FROM payout_people WHERE number = ANY($1::TEXT[])`, numbers)
	if err != nil {
		return nil, fmt.Errorf("read payout people: %w", err)
	}
	found := map[string]Patient{}
	var number string
	var who Patient
	_, err = pgx.ForEachRow(rows, []any{&number, &who.Account, &who.Name, &who.Bank, &who.CNAPS, &who.Reason, &who.Proof}, func() error {
		found[number] = who
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read payout people: %w", err)
	}
	return found, nil
}

// transfer is the payout as the bank is told of it.
func (p *Payout) transfer(payee Payee, who Patient, from string, day ledger.Day) channels.Transfer {
	t := channels.Transfer{Ref: p.Number, Batch: p.Batch, FromAccount: p.From, FromName: from, Amount: p.Amount, Text: p.Purpose, RequestedDay: day,
		ToAccount: payee.Account, ToName: payee.Name, ToBank: payee.Bank, ToBankCode: payee.CNAPS}
	if p.Kind == ReroutedRefund {
		t.ToAccount, t.ToName, t.ToBank, t.ToBankCode = who.Account, who.Name, who.Bank, who.CNAPS
	}
	return t
}
