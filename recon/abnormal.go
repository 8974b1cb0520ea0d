package recon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
)

// An abnormal refund (退款异常) is one that the channel took and cannot pay out: it
// holds the money, so that 1125 covers the debt in 2205, and the case F6 is there
// until the patient is paid by the channel, or by the hospital's bank account (E20c,
// J39).

// abnormal says that the channel holds the refund's money: its bill says so, or has as
// under way what the channel has called abnormal since.
func (leg *Leg) abnormal() bool {
	v := leg.lives()
	switch leg.bill.Status {
	case channels.Abnormal:
		return v == nil || !v.PaidLater
	case channels.Processing:
		return v != nil && v.Abnormal
	}
	return false
}

// took says that by the bill, or by the channel's later word, the refund went out.
func (leg *Leg) took() bool {
	return leg.bill.Status != channels.Failed && !leg.abnormal()
}

// billMade is the hour of the next day at which a channel has made the bill of a day:
// what it says later of a refund is newer than the bill.
const billMade = 10

// bankRefunds posts what the statements of the day say of abnormal refunds that the
// channel paid to the hospital's bank account (E20c), before anything else is made of
// their lines.
func (h *hospitalRun) bankRefunds(ctx context.Context) error {
	var lines []pay.Arrival
	err := h.engine.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		lines, err = h.arrivals(ctx, tx)
		return err
	})
	if err != nil || len(lines) == 0 {
		return err
	}
	a := &arrived{dir: h.dir, lines: lines}
	out, err := ledger.Submit(ctx, h.engine.Committer, postArrivals, ledger.Request{}, a)
	if err = errors.Join(err, out.Err); err != nil {
		return fmt.Errorf("abnormal refunds on statements: %w", err)
	}
	for i, l := range lines {
		if a.brings[i] {
			h.bank.refunds[lineKey{l.Account, l.BankRef}] = true
		}
	}
	return nil
}

// arrived is the lines that name abnormal refunds, on their way to E20c.
type arrived struct {
	dir    *clearing.Directory
	lines  []pay.Arrival
	brings []bool
}

var postArrivals = &ledger.Verb[*arrived]{Name: "recon.abnormal", Run: func(ctx context.Context, b *ledger.Batch, cmds []*arrived) []ledger.Outcome {
	for _, a := range cmds {
		var err error
		if a.brings, err = pay.PostArrivals(ctx, b, a.dir, a.lines); err != nil {
			return b.Fail(err)
		}
	}
	return make([]ledger.Outcome, len(cmds))
}}

func (h *hospitalRun) arrivals(ctx context.Context, tx pgx.Tx) ([]pay.Arrival, error) {
	var credits []BankLine
	var words []string
	for i := range h.dir.Banks {
		bank := &h.dir.Banks[i]
		if bank.Hospital != h.hospital.Code || !h.in.statement(bank.Account) {
			continue
		}
		list, err := BankLines(ctx, tx, h.hospital.Code, bank.Account, h.bankDay())
		if err != nil {
			return nil, err
		}
		for _, l := range list {
			if l.Amount > 0 {
				credits, words = append(credits, l), append(words, l.words()...)
			}
		}
	}
	if len(credits) == 0 {
		return nil, nil
	}
	numbers, err := pay.AbnormalNumbers(ctx, tx, h.hospital.Code, words)
	if err != nil {
		return nil, err
	}
	var out []pay.Arrival
	for _, l := range credits {
		named := slices.IndexFunc(l.words(), func(word string) bool { return numbers[word] != "" })
		if named >= 0 {
			out = append(out, pay.Arrival{Hospital: h.hospital.Code, RefundNo: numbers[l.words()[named]], Account: l.Account, BankRef: l.Ref, Day: l.BookDay, Amount: l.Amount})
		}
	}
	return out, nil
}

// readHeld notes whether the channel holds the money of the case's refund.
func (c *Case) readHeld(ctx context.Context, tx pgx.Tx) error {
	if c.Code != F6 || c.Kind != channels.Refund {
		return nil
	}
	err := tx.QueryRow(ctx, `SELECT abnormal FROM refunds WHERE hospital = $1 AND kind = 'REFUND' AND refund_no = $2`, c.Hospital, c.RefundNo).Scan(&c.abnormal)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read the refund of case %s: %w", c.ID, err)
	}
	items, err := ledger.OpenItems(ctx, tx, clearing.RefundTaken(&clearing.Merchant{Channel: c.Channel, No: c.MerchantNo}).ID(), c.refund())
	if err != nil {
		return fmt.Errorf("read what the channel holds of case %s: %w", c.ID, err)
	}
	for _, item := range items {
		c.taken += item.Amount()
	}
	return nil
}

// offers says whether the resolution is one for the case as it stands: what the channel
// holds is not refunded a second time, and what it does not hold it cannot pay later.
func (c *Case) offers(name string) bool {
	switch name {
	case "REFUND":
		return !c.abnormal
	case "ABNORMAL_REFUND", "PAID_LATER":
		return c.abnormal || c.taken > 0
	}
	return true
}

// paidBack closes the cases of abnormal refunds that have come to the patient: by the
// channel, where people had decided to have it so, or by the hospital's bank account.
func (e *Engine) paidBack(ctx context.Context) error {
	var ids []string
	err := e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT c.id FROM recon_cases AS c
			JOIN refunds AS r ON r.hospital = c.hospital AND r.kind = 'REFUND' AND r.refund_no = c.refund_no AND r.created_at IS NOT NULL
			LEFT JOIN abnormal_refunds AS a ON a.hospital = r.hospital AND a.refund_no = r.refund_no
			WHERE c.code = 'F6' AND c.kind = 'REFUND' AND c.state IN ('OPEN', 'PROPOSED', 'APPROVED')
				AND (a.state = 'REROUTED' OR c.state = 'APPROVED' AND c.resolution = 'ABNORMAL_REFUND' AND r.channel_success_at IS NOT NULL)
			ORDER BY c.id`)
		if err == nil {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read cases of abnormal refunds: %w", err)
	}
	if len(ids) == 0 {
		return nil
	}
	dir, err := e.directory(ctx)
	if err != nil {
		return err
	}
	out, err := ledger.Submit(ctx, e.Committer, closePaidBack, ledger.Request{}, &paidCases{dir, ledger.DayOf(e.Now()), ids})
	return errors.Join(err, out.Err)
}

type paidCases struct {
	dir   *clearing.Directory
	today ledger.Day
	ids   []string
}

var closePaidBack = &ledger.Verb[*paidCases]{Name: "recon.paidback", Run: func(ctx context.Context, b *ledger.Batch, cmds []*paidCases) []ledger.Outcome {
	for _, p := range cmds {
		for _, id := range p.ids {
			if err := closePaid(ctx, b, p.dir, id, note(notePaidBack, p.today.String())); err != nil {
				return b.Fail(err)
			}
		}
	}
	return make([]ledger.Outcome, len(cmds))
}}

// abnormalCredit ties the credit of an unidentified case to the abnormal refund that the
// person named, whose money it is: what E29 posted is taken back for E20c.
func (d *decision) abnormalCredit(ctx context.Context, b *ledger.Batch, c *Case, open []Suspense) ([]ledger.Entry, error) {
	bank, from := d.restingOn(open)
	if bank == nil {
		return nil, ErrResolution.Because("resolution", "no credit rests under %s: there is nothing to identify", c.ID)
	}
	no, _, _ := strings.Cut(c.Reason, " ")
	line := pay.Arrival{Hospital: c.Hospital, RefundNo: no, Account: bank.Account, BankRef: from.Ref, Day: d.today, Amount: from.Fen}
	r, err := pay.Awaiting(ctx, b.Tx(), line)
	if err != nil {
		return nil, err
	}
	e := clearing.Event{Day: d.today, Bank: bank, BankRef: from.Ref, Amount: from.Fen, Order: r.OrderNo, Refund: r.DebtNo, Case: c.ID, Maker: c.Maker, Checker: d.Who}
	e.Merchant, _ = d.dir.Merchant(r.Channel, r.MerchantNo)
	var entries []ledger.Entry
	for _, name := range resolutions[c.Resolution].by[c.Code] {
		entry, err := newEntry(e, name)
		if err != nil {
			return nil, ErrResolution.Because("resolution", "%s: %v", c.Resolution, err)
		}
		entries = append(entries, entry)
	}
	pay.Arrive(b, r, line)
	return entries, nil
}
