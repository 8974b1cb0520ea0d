package payout

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/bank"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// heard is what the bank said of one payout.
type heard struct {
	number  string
	now     time.Time
	answer  channels.TransferAnswer
	query   bool // answers a query, not the sending
	absent  bool // the statement does not know it either
	receipt *channels.Receipt
}

// Poll asks the bank for payouts without a final state, and for receipts, that
// are due; at most limit, oldest first. It sends nothing.
func (ps *Payouts) Poll(ctx context.Context, now time.Time, limit int) (asked int, err error) {
	var due []Payout
	err = ps.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		due, err = payoutsWhere(ctx, tx, `p.number IN (SELECT q.number FROM payouts AS q WHERE q.queue BETWEEN 0 AND 15 AND q.next_at <= $1
			AND q.state IN ('SENDING', 'SENT', 'BANK_APPROVAL', 'UNKNOWN', 'SUCCEEDED') ORDER BY q.next_at LIMIT $2)`, now, limit)
		return err
	})
	var failed []error
	for i := range due {
		if err := ps.ask(ctx, &due[i], now); err != nil {
			failed = append(failed, err)
		}
	}
	return len(due), errors.Join(err, errors.Join(failed...))
}

// Query asks the bank for one payout at once: all that a person may do about one
// that is unknown (U19).
func (ps *Payouts) Query(ctx context.Context, number string) (Payout, error) {
	p, err := ps.Get(ctx, number)
	switch {
	case err != nil:
		return Payout{}, err
	case !p.charged || p.State == Approved:
		return Payout{}, ErrState.Because("state", "payout %s is %s: the bank does not have it", number, p.State.text())
	}
	if err := ps.ask(ctx, &p, ps.Now()); err != nil {
		return Payout{}, err
	}
	return ps.Get(ctx, number)
}

func (ps *Payouts) ask(ctx context.Context, p *Payout, now time.Time) error {
	gateway, err := ps.Outside.Bank(p.From)
	if err != nil {
		return fmt.Errorf("ask for payout %s: %w", p.Number, err)
	}
	h := unheard(p.Number, now)
	h.query, h.answer = true, gateway.QueryTransfer(ctx, p.Number)
	if h.answer.State == channels.TransferAbsent && !now.Before(p.SentAt.Add(absentAfter)) {
		if h.absent, err = absentFrom(ctx, gateway, p, now); err != nil {
			return fmt.Errorf("look for payout %s in the statement: %w", p.Number, err)
		}
	}
	if p.State == Succeeded {
		if receipt, err := gateway.FetchReceipt(ctx, p.Number); err == nil && len(receipt.Content) > 0 {
			h.receipt = &receipt
		}
	}
	return ps.keep(context.WithoutCancel(ctx), []heard{h})
}

// absentFrom looks for the reference in every statement since the day it was
// sent; that of the day itself must be there.
func absentFrom(ctx context.Context, gateway channels.BankGateway, p *Payout, now time.Time) (bool, error) {
	for day := ledger.DayOf(p.SentAt); day <= ledger.DayOf(now); day = day.Add(1) {
		file, err := gateway.FetchStatement(ctx, p.From, day)
		if errors.Is(err, channels.ErrBillNotReady) || errors.Is(err, channels.ErrNoBill) {
			if day == ledger.DayOf(p.SentAt) {
				return false, nil
			}
			continue
		}
		if err != nil {
			return false, err
		}
		found := false
		_, err = bank.ReadStatement(file, func(l *channels.StatementLine) error {
			found = found || l.EndToEndID == p.Number || l.ReturnOf == p.Number
			return nil
		})
		if err := errors.Join(err, file.Close()); err != nil || found {
			return false, err
		}
	}
	return true, nil
}

func (ps *Payouts) keep(ctx context.Context, list []heard) error {
	outcomes, err := ledger.SubmitAll(ctx, ps.Committer, answerVerb, nil, list)
	for _, out := range outcomes {
		err = cmp.Or(err, out.Err)
	}
	return err
}

var answerVerb = &ledger.Verb[heard]{Name: "payout.answer", Run: func(ctx context.Context, b *ledger.Batch, cmds []heard) []ledger.Outcome {
	numbers := make([]string, len(cmds))
	for i := range cmds {
		numbers[i] = cmds[i].number
	}
	found, err := ByRefs(ctx, b.Tx(), numbers)
	if err != nil {
		return b.Fail(err)
	}
	directory, err := clearing.LoadMerchants(ctx, b.Tx())
	if err != nil {
		return b.Fail(err)
	}
	done := map[string]bool{}
	for i := range cmds {
		if p := found[cmds[i].number]; p != nil && !done[p.Number] {
			done[p.Number] = true
			if err := p.take(ctx, b, directory, &cmds[i]); err != nil {
				return b.Fail(err)
			}
		}
	}
	for _, p := range found {
		save(b, p)
	}
	return make([]ledger.Outcome, len(cmds))
}}

// effect is what an answer does beside the state.
type effect int

const (
	nothing effect = iota
	failed         // it never was: what it took goes back (J36)
	again          // it never left, or neither bank nor statement knows it: the same reference may be sent again
)

// after is the state machine of what a bank says (spec/channels.md F.4). A
// rejection counts only in the answer to a query, or where the message never left;
// Unknown and Absent never end a transfer by themselves.
func after(from State, h *heard, refusedBefore bool) (State, effect) {
	if from == Sending && h.answer.NotSent {
		if h.answer.State == channels.TransferRejected {
			return Rejected, failed
		}
		return Approved, again
	}
	switch from {
	case Sending, Sent, BankApproval, Unknown:
	case Succeeded:
		if h.answer.State == channels.TransferReturned {
			return Returned, nothing
		}
		return from, nothing
	default:
		return from, nothing
	}
	switch h.answer.State {
	case channels.TransferApproval:
		return BankApproval, nothing
	case channels.TransferAccepted:
		return Sent, nothing
	case channels.TransferSucceeded:
		return Succeeded, nothing
	case channels.TransferReturned:
		return Returned, nothing
	case channels.TransferRejected:
		if h.query {
			return Rejected, failed
		}
	case channels.TransferAbsent:
		switch {
		case h.absent && refusedBefore:
			return Rejected, failed
		case h.absent:
			return Approved, again
		}
	default:
		if from != Sending {
			return from, nothing // a query without answer says nothing new
		}
	}
	return Unknown, nothing
}

// take applies an answer.
func (p *Payout) take(ctx context.Context, b *ledger.Batch, d *clearing.Directory, h *heard) error {
	to, does := after(p.State, h, p.bankRefused)
	if h.answer.Reason != (channels.Reason{}) && to != p.State {
		p.Reason = h.answer.Reason
	}
	if !h.query && h.answer.State == channels.TransferRejected {
		p.bankRefused = true
	}
	p.BankRef = cmp.Or(h.answer.BankRef, p.BankRef)
	p.exchange = h.answer.Exchange
	frozen := p.Reason.Kind == channels.ReasonAccount
	if does == failed {
		if err := p.fail(ctx, b, d, ledger.DayOf(h.now), frozen); err != nil {
			return err
		}
		if frozen {
			p.suspend(b)
		}
	}
	if to == Returned && p.State != Returned {
		p.suspend(b)
	}
	if to != p.State && (to == Succeeded || to == Approved) {
		p.tries, p.Reason = 0, channels.Reason{}
	}
	was := p.State
	p.turn(to, h.now)
	if h.receipt != nil && was == Succeeded {
		p.file(b, h.receipt, h.now)
		p.NextAt = time.Time{}
		return nil
	}
	p.schedule(h.now)
	return nil
}

// receiptPlan is when a receipt is asked for again after a success, the last one
// repeated for a week.
var receiptPlan = []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}

// schedule says when the payout is looked at next.
func (p *Payout) schedule(now time.Time) {
	switch p.State {
	case Sending, Sent, BankApproval, Unknown:
		p.NextAt = now.Add(channels.PlanTransfer.Next(int(p.tries)).After)
	case Approved:
		p.NextAt = now
	case Succeeded:
		p.NextAt = time.Time{}
		if n := int(p.tries); n < len(receiptPlan)+7 {
			p.NextAt = now.Add(receiptPlan[min(n, len(receiptPlan)-1)])
		}
	default:
		p.NextAt = time.Time{}
	}
	p.tries++
}

// suspend keeps the payee from being paid until its account is changed and
// approved (scenario 60).
func (p *Payout) suspend(b *ledger.Batch) {
	if p.Payee == "" {
		return
	}
	reason := fmt.Sprintf("payout %s came back: %s %s", p.Number, p.Reason.Code, p.Reason.Text)
	b.Exec(`UPDATE payees SET state = 'SUSPENDED', reason = $2 WHERE id = $1 AND state = 'ACTIVE'`, p.Payee, reason)
}

// file keeps the receipt (电子回单) by its hash.
func (p *Payout) file(b *ledger.Batch, r *channels.Receipt, now time.Time) {
	hash := sha256.Sum256(r.Content)
	b.Exec(`INSERT INTO payout_receipts (number, name, check_code, hash, content, fetched_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (number) DO NOTHING`,
		p.Number, r.Name, r.CheckCode, hash[:], r.Content, now)
}

// Receipt opens the receipt of a payout.
func (ps *Payouts) Receipt(ctx context.Context, number string) (r channels.Receipt, err error) {
	err = ps.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		r.Ref = number
		return tx.QueryRow(ctx, `SELECT name, check_code, content FROM payout_receipts WHERE number = $1`, number).Scan(&r.Name, &r.CheckCode, &r.Content)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrUnknownPayout.Because("number", "payout %s has no receipt yet", number)
	}
	return r, err
}

// MissingReceipts lists payouts that succeeded on an earlier day and have no
// receipt (U20: listed after T+1).
func (ps *Payouts) MissingReceipts(ctx context.Context, now time.Time) (list []Payout, err error) {
	err = ps.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		list, err = payoutsWhere(ctx, tx, `p.state = 'SUCCEEDED' AND p.state_at < $1 AND NOT EXISTS (SELECT 1 FROM payout_receipts AS r WHERE r.number = p.number)`,
			ledger.DayOf(now).Start())
		return err
	})
	return list, err
}
