package payout

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// SendSummary counts what a round of sending did.
type SendSummary struct{ Sent, Held int }

// Send sends what is approved and due, in messages of one paying account each. It
// looks at the bank's cut-off and balance first: what does not fit is held with
// the figure and the next window (U16). While payouts are paused it sends nothing
// and returns ErrPaused.
func (ps *Payouts) Send(ctx context.Context, now time.Time) (SendSummary, error) {
	var sum SendSummary
	round := sending{Payouts: ps, now: now}
	due, err := round.load(ctx)
	if err != nil || len(due) == 0 {
		return sum, err
	}
	byAccount := map[string][]Payout{}
	var accounts []string
	for _, p := range due {
		if byAccount[p.From] == nil {
			accounts = append(accounts, p.From)
		}
		byAccount[p.From] = append(byAccount[p.From], p)
	}
	var failed []error
	for _, account := range accounts {
		sent, err := round.account(ctx, account, byAccount[account])
		if err != nil {
			failed = append(failed, fmt.Errorf("send payouts of account %s: %w", account, err))
		}
		sum.Sent, sum.Held = sum.Sent+sent, sum.Held+len(byAccount[account])-sent
	}
	return sum, errors.Join(failed...)
}

// sending is one round.
type sending struct {
	*Payouts
	now       time.Time
	directory *clearing.Directory
	settings  settings
}

func (s *sending) load(ctx context.Context) (due []Payout, err error) {
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		on, err := paused(ctx, tx)
		if err == nil && on != nil {
			err = on.refusal()
		}
		if err != nil {
			return err
		}
		if due, err = payoutsWhere(ctx, tx, `p.queue BETWEEN 0 AND 15 AND p.next_at <= $1 AND p.state = 'APPROVED'`, s.now); err != nil || len(due) == 0 {
			return err
		}
		if s.directory, err = clearing.LoadMerchants(ctx, tx); err != nil {
			return err
		}
		s.settings, err = loadSettings(ctx, tx, ledger.DayOf(s.now))
		return err
	})
	return due, err
}

func (p *Pause) refusal() error {
	return ErrPaused.Because("pause", "payouts are paused since %s by %s: %s; two people resume", beijing(p.PausedAt), p.PausedBy, p.Reason)
}

// account sends the payouts of one account that window and balance allow.
func (s *sending) account(ctx context.Context, account string, due []Payout) (sent int, err error) {
	w := s.settings.of(account)
	if opens := w.next(s.now, s.directory.Calendar); opens.After(s.now) {
		return 0, s.hold(ctx, due, opens, fmt.Sprintf("the bank takes no transfer of account %s at %s; the next window opens %s", account, beijing(s.now), beijing(opens)))
	}
	bank, err := s.Outside.Bank(account)
	if err != nil {
		return 0, err
	}
	later := w.next(s.now.Add(balanceAgain), s.directory.Calendar)
	_, left, err := bank.Balance(ctx, account)
	if err != nil {
		return 0, errors.Join(err, s.hold(ctx, due, later, fmt.Sprintf("the balance of account %s could not be asked; tried again %s", account, beijing(later))))
	}
	var fits []Payout
	for _, p := range due {
		if p.Amount > left {
			text := fmt.Sprintf("account %s has %s available, %s is to be paid; tried again in the window of %s", account, left, p.Amount, beijing(later))
			if err := s.hold(ctx, []Payout{p}, later, text); err != nil {
				return sent, err
			}
			continue
		}
		left -= p.Amount
		fits = append(fits, p)
	}
	for from := 0; from < len(fits); from += perMessage {
		n, err := s.message(ctx, bank, fits[from:min(from+perMessage, len(fits))])
		if sent += n; err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// hold notes why payouts are not sent, and when they are looked at again.
func (s *sending) hold(ctx context.Context, list []Payout, until time.Time, text string) error {
	out, err := ledger.Submit(ctx, s.Committer, sendVerb, ledger.Request{}, sendCommand{numbers: numbersOf(list), now: s.now, held: text, until: until})
	return errors.Join(err, out.Err)
}

func numbersOf(list []Payout) []string {
	numbers := make([]string, len(list))
	for i := range list {
		numbers[i] = list[i].Number
	}
	return numbers
}

// message is one message to the bank: first the payouts are SENDING, in one
// transaction with their entries, then the bank is called, once.
func (s *sending) message(ctx context.Context, bank channels.BankGateway, list []Payout) (sent int, err error) {
	cmd := sendCommand{numbers: numbersOf(list), now: s.now, key: s.mark}
	// The batch is this sender's alone: of several that saw the same payouts only
	// the one whose batch they carry calls the bank.
	cmd.batch = numberOf("BT", ledger.DayOf(s.now), rand.Text())
	out, err := ledger.Submit(ctx, s.Committer, sendVerb, ledger.Request{}, cmd)
	if err := errors.Join(err, out.Err); err != nil {
		return 0, err
	}
	var transfers []channels.Transfer
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		transfers, err = s.transfers(ctx, tx, cmd.batch)
		return err
	})
	if err != nil || len(transfers) == 0 {
		return 0, err
	}
	answers := bank.Transfer(ctx, cmd.batch, transfers)
	heard := make([]heard, len(transfers))
	for i, t := range transfers {
		heard[i] = unheard(t.Ref, s.now)
		if i < len(answers) && answers[i].Ref == t.Ref {
			heard[i].answer = answers[i]
		}
	}
	// What the bank said is kept also where the caller has left meanwhile.
	return len(transfers), s.keep(context.WithoutCancel(ctx), heard)
}

func unheard(number string, now time.Time) heard {
	return heard{number: number, now: now, answer: channels.TransferAnswer{State: channels.TransferUnknown, Ref: number}}
}

// transfers are the payouts of a batch that may leave.
func (s *sending) transfers(ctx context.Context, tx pgx.Tx, batch string) ([]channels.Transfer, error) {
	list, err := payoutsWhere(ctx, tx, `p.batch = $1 AND p.state = 'SENDING'`, batch)
	if err != nil {
		return nil, err
	}
	byID, err := payeesByID(ctx, tx, pointers(list))
	if err != nil {
		return nil, err
	}
	who, err := people(ctx, tx, numbersOf(list))
	if err != nil {
		return nil, err
	}
	transfers := make([]channels.Transfer, len(list))
	for i := range list {
		p := &list[i]
		name := ""
		for _, owner := range []string{p.Hospital, ""} {
			if bank, ok := s.directory.Bank(owner, p.From); ok && name == "" {
				name = bank.Name
			}
		}
		transfers[i] = p.transfer(byID[p.Payee], who[p.Number], name, ledger.DayOf(s.now))
	}
	return transfers, nil
}

func pointers(list []Payout) []*Payout {
	all := make([]*Payout, len(list))
	for i := range list {
		all[i] = &list[i]
	}
	return all
}

type sendCommand struct {
	numbers []string
	batch   string
	now     time.Time
	held    string // why these are not sent now, "" where they are
	until   time.Time
	key     func(Patient) string
}

// sendVerb takes payouts from APPROVED to SENDING, or holds them. It reads the
// pause switch in its own transaction: after a pause has committed nothing passes.
var sendVerb = &ledger.Verb[sendCommand]{Name: "payout.send", Run: func(ctx context.Context, b *ledger.Batch, cmds []sendCommand) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	on, err := paused(ctx, b.Tx())
	if err != nil {
		return b.Fail(err)
	}
	directory, err := clearing.LoadMerchants(ctx, b.Tx())
	if err != nil {
		return b.Fail(err)
	}
	round := &leaving{taken: map[string]bool{}, fen: map[[2]string]ledger.Money{}}
	for i := range cmds {
		if on != nil {
			outcomes[i].Err = on.refusal()
			continue
		}
		if err := cmds[i].run(ctx, b, directory, round); err != nil {
			return b.Fail(err)
		}
	}
	return outcomes
}}

// leaving is what a batch has decided to send: the books do not show it yet.
type leaving struct {
	taken map[string]bool            // by number
	fen   map[[2]string]ledger.Money // by hospital and account
}

func (c *sendCommand) run(ctx context.Context, b *ledger.Batch, d *clearing.Directory, round *leaving) error {
	list, err := payoutsWhere(ctx, b.Tx(), `p.number = ANY($1::TEXT[]) AND p.state = 'APPROVED'`, c.numbers)
	if err != nil {
		return err
	}
	all := pointers(list)
	byID, err := payeesByID(ctx, b.Tx(), all)
	if err != nil {
		return err
	}
	who, err := people(ctx, b.Tx(), c.numbers)
	if err != nil {
		return err
	}
	for _, p := range all {
		if round.taken[p.Number] || p.NextAt.IsZero() || p.NextAt.After(c.now) {
			continue
		}
		round.taken[p.Number] = true
		if c.held != "" {
			p.Held, p.NextAt, p.changed = c.held, c.until, true
			continue
		}
		if err := p.send(ctx, b, d, c, byID[p.Payee], who[p.Number], round); err != nil {
			return err
		}
	}
	save(b, all...)
	return nil
}

// send checks once more what was approved and posts what leaves. Whatever does
// not hold any more is held for a person.
func (p *Payout) send(ctx context.Context, b *ledger.Batch, d *clearing.Directory, c *sendCommand, payee Payee, who Patient, round *leaving) error {
	err := p.unedited(payee, who, c.key)
	if errors.Is(err, ErrEdited) {
		note(b, "payout.sending_refused", p.Number, "", err.Error())
	}
	if err == nil && p.Kind != ReroutedRefund {
		err = payee.usable(c.now)
	}
	place := [2]string{p.Hospital, p.From}
	if err == nil {
		err = p.ownMoney(ctx, b.Tx(), d, round.fen[place])
	}
	if err == nil && !p.charged {
		if err = p.stillOwed(ctx, b.Tx(), d); err == nil && sentBy[p.Kind] != "" {
			if p.sentEntry, err = p.post(b, d, ledger.DayOf(c.now), sentBy[p.Kind]); err == nil {
				err = p.reroute(ctx, b, false)
			}
		}
	}
	var refusal ledger.Refusal
	switch {
	case errors.As(err, &refusal):
		p.Held, p.NextAt, p.changed = refusal.Error(), time.Time{}, true
		switch {
		case errors.Is(err, ErrPayeeHeld):
			p.NextAt = payee.UsableFrom
		case errors.Is(err, ErrCustody):
			p.NextAt = c.now.Add(custodyAgain)
		}
		return nil
	case err != nil:
		return err
	}
	if !p.charged || p.Kind == Recharge {
		round.fen[place] += p.Amount
	}
	p.charged, p.Held, p.Batch, p.SentAt, p.tries, p.bankRefused = true, "", c.batch, c.now, 0, false
	p.NextAt, p.Reason = c.now.Add(firstQuery), channels.Reason{}
	p.turn(Sending, c.now)
	return nil
}
