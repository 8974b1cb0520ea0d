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
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
)

// payoutRun is what a statement says of our own payouts.
type payoutRun struct {
	taken   map[lineKey]payout.BankLine // proved by a payout, now or in an earlier run
	strange map[lineKey]string          // names this payout, which cannot explain it: the line needs a case
}

// lineKey names a line of a bank statement.
type lineKey struct{ account, ref string }

// proof is the lines that name payouts, on their way to the entries they prove.
type proof struct {
	dir      *clearing.Directory
	lines    []payout.BankLine
	outcomes []payout.LineOutcome
}

// provePayouts books what the bank's lines prove of our payouts. A payout whose end
// was not known and is proved closes its case.
var provePayouts = &ledger.Verb[*proof]{Name: "recon.payouts", Run: func(ctx context.Context, b *ledger.Batch, cmds []*proof) []ledger.Outcome {
	for _, p := range cmds {
		var err error
		if p.outcomes, err = payout.PostLines(ctx, b, p.dir, p.lines); err != nil {
			return b.Fail(err)
		}
		var proved []string
		for i := range p.lines {
			if o := &p.outcomes[i]; o.Err == nil && !o.Before {
				proved = append(proved, p.lines[i].Number)
			}
		}
		if len(proved) > 0 {
			b.Exec(`
				UPDATE recon_cases SET state = 'AUTO_CLOSED', reason = 'LATE_MATCH', changed_at = $2
				WHERE code = 'PAYOUT_UNKNOWN' AND bank_ref = ANY($1::TEXT[]) AND state IN ('OPEN', 'PROPOSED')`, proved, b.Now())
		}
	}
	return make([]ledger.Outcome, len(cmds))
}}

// bankPayouts books what the statements and fund bills of the day say of payouts,
// before anything else is made of their lines: each line counts once.
func (h *hospitalRun) bankPayouts(ctx context.Context) error {
	p, err := h.engine.prove(ctx, h.dir, h.payoutLines)
	if err != nil {
		return err
	}
	for i, l := range p.lines {
		if key := (lineKey{l.Account, l.BankRef}); p.outcomes[i].Err != nil {
			h.bank.payouts.strange[key] = l.Number
		} else {
			h.bank.payouts.taken[key] = l
		}
	}
	return nil
}

// prove books what lines that name payouts prove of them.
func (e *Engine) prove(ctx context.Context, dir *clearing.Directory, lines func(context.Context, pgx.Tx) ([]payout.BankLine, error)) (*proof, error) {
	p := &proof{dir: dir}
	err := e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		p.lines, err = lines(ctx, tx)
		return err
	})
	if err != nil || len(p.lines) == 0 {
		return p, err
	}
	out, err := ledger.Submit(ctx, e.Committer, provePayouts, ledger.Request{}, p)
	return p, errors.Join(err, out.Err)
}

// statements books what the statements of all accounts prove of payouts, up to the
// next working day, whatever else of the day is there: a bank pays on weekends too.
// What else happens on the platform's own accounts is its own business.
func (e *Engine) statements(ctx context.Context, dir *clearing.Directory, day ledger.Day) error {
	_, err := e.prove(ctx, dir, func(ctx context.Context, tx pgx.Tx) ([]payout.BankLine, error) {
		var lines []payout.BankLine
		var words [][]string
		for on, last := day.Add(1), dir.Calendar.NextWorkingDay(day); on <= last; on = on.Add(1) {
			for i := range dir.Banks {
				list, err := BankLines(ctx, tx, dir.Banks[i].Hospital, dir.Banks[i].Account, on)
				if err != nil && !errors.Is(err, ErrNotFed) {
					return nil, err
				}
				for i := range list {
					lines, words = append(lines, list[i].ofPayout()), append(words, list[i].words())
				}
			}
		}
		return namesPayout(ctx, tx, lines, words, func(p *payout.Payout, l *payout.BankLine) bool { return p.From == l.Account })
	})
	if err != nil {
		return fmt.Errorf("payouts on statements: %w", err)
	}
	return nil
}

// payoutLines are the lines of the day's statements and fund bills that name a
// payout of the hospital, or one from the account itself, which may keep the money
// of several hospitals.
func (h *hospitalRun) payoutLines(ctx context.Context, tx pgx.Tx) ([]payout.BankLine, error) {
	var lines []payout.BankLine
	var words [][]string // of each line: what may be a number of ours
	for i := range h.dir.Banks {
		bank := &h.dir.Banks[i]
		if bank.Hospital != h.hospital.Code || !h.in.statement(bank.Account) {
			continue
		}
		list, err := BankLines(ctx, tx, h.hospital.Code, bank.Account, h.bankDay())
		if err != nil {
			return nil, err
		}
		for i := range list {
			lines, words = append(lines, list[i].ofPayout()), append(words, list[i].words())
		}
	}
	for _, m := range h.merchants {
		list, err := FundLines(ctx, tx, h.hospital.Code, m.Channel, m.No, h.day)
		if err != nil {
			return nil, err
		}
		for _, l := range list {
			if l.Kind == channels.FundRecharge {
				lines = append(lines, payout.BankLine{Account: m.No, BankRef: l.FlowNo, Day: h.day, Amount: l.Amount})
				words = append(words, []string{l.BusinessNo, l.OrderNo})
			}
		}
	}
	return namesPayout(ctx, tx, lines, words, func(p *payout.Payout, l *payout.BankLine) bool {
		return p.Hospital == h.hospital.Code || p.From == l.Account
	})
}

// namesPayout keeps the lines that name a payout, by one of their words.
func namesPayout(ctx context.Context, tx pgx.Tx, lines []payout.BankLine, words [][]string, ours func(*payout.Payout, *payout.BankLine) bool) ([]payout.BankLine, error) {
	found, err := payout.ByRefs(ctx, tx, slices.Concat(words...))
	if err != nil {
		return nil, err
	}
	var named []payout.BankLine
	for i, l := range lines {
		for _, word := range words[i] {
			if p := found[word]; p != nil && ours(p, &l) {
				l.Number = word
				named = append(named, l)
				break
			}
		}
	}
	return named, nil
}

// words are the numbers that a line carries: of the transfer that it gives back,
// its own, and what stands in its text.
func (l *BankLine) words() []string {
	return append([]string{l.ReturnOf, l.EndToEndID}, strings.Fields(l.Text)...)
}

func (l *BankLine) ofPayout() payout.BankLine {
	out := payout.BankLine{Account: l.Account, BankRef: l.Ref, Day: l.BookDay, Amount: l.Amount, Return: l.ReturnOf != "" && l.Amount > 0}
	if out.Return {
		out.Reason = channels.Reason{Kind: channels.ReasonAccount, Code: l.ReturnReason, Text: l.Text}
	}
	return out
}

// withoutPayouts leaves out the lines that payouts and abnormal refunds explain, and
// lists those that gave a payout back: it stays frozen until a person has changed the payee's account.
func (h *hospitalRun) withoutPayouts(lines []BankLine) (free []BankLine, returned []*BankItem) {
	for i := range lines {
		l, taken := h.bank.payouts.taken[lineKey{lines[i].Account, lines[i].Ref}]
		switch {
		case h.bank.refunds[lineKey{lines[i].Account, lines[i].Ref}]:
		case !taken:
			free = append(free, lines[i])
		case l.Return:
			returned = append(returned, &BankItem{Code: PayoutReturned, Hospital: h.hospital.Code, Ref: l.BankRef, Amount: l.Amount,
				Note: note(notePayout, l.Number, l.Reason.Code)})
		}
	}
	return free, returned
}

// unproved lists the payouts that were with the bank before this statement and that
// no statement has proved: their end is asked for, they are never sent again.
func (h *hospitalRun) unproved(ctx context.Context, tx pgx.Tx, account string) ([]*BankItem, error) {
	list, err := payout.Unproved(ctx, tx, h.hospital.Code, account, h.bankDay().Start())
	if err != nil {
		return nil, fmt.Errorf("read payouts without a line: %w", err)
	}
	var items []*BankItem
	for i := range list {
		items = append(items, &BankItem{Code: PayoutUnknown, Hospital: h.hospital.Code, Ref: list[i].Number,
			Note: note(notePayout, list[i].Number, string(list[i].State))})
	}
	return items, nil
}
