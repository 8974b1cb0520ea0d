package payout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
)

// Pause is the switch that stops every sending (一键暂停出款).
type Pause struct {
	ID       string
	PausedBy string
	PausedAt time.Time
	Reason   string
	AskedBy  string // who asked to resume, "" before
}

// Paused returns the pause that is on, or nil.
func (ps *Payouts) Paused(ctx context.Context) (on *Pause, err error) {
	err = ps.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		on, err = paused(ctx, tx)
		return err
	})
	return on, err
}

func paused(ctx context.Context, tx pgx.Tx) (*Pause, error) {
	var p Pause
	err := tx.QueryRow(ctx, `SELECT id, paused_by, paused_at, reason, asked_by FROM payout_pauses WHERE switch = 'ALL' AND ended_at IS NULL`).
		Scan(&p.ID, &p.PausedBy, &p.PausedAt, &p.Reason, &p.AskedBy)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the pause switch: %w", err)
	}
	return &p, nil
}

// Pause stops all sending from its commit on; one person is enough. It returns
// the pause that is on, also where it was on before.
func (ps *Payouts) Pause(ctx context.Context, by Person, reason string) (*Pause, error) {
	return ps.press(ctx, press{by: by.Name, reason: strings.TrimSpace(reason)})
}

// Resume takes two people: the first asks, another agrees. It returns the pause
// while it is on, nil when it has ended.
func (ps *Payouts) Resume(ctx context.Context, by Person) (*Pause, error) {
	return ps.press(ctx, press{by: by.Name, resume: true})
}

func (ps *Payouts) press(ctx context.Context, c press) (*Pause, error) {
	out, err := ledger.Submit(ctx, ps.Committer, pressVerb, ledger.Request{}, c)
	if err := errors.Join(err, out.Err); err != nil {
		return nil, err
	}
	return ps.Paused(ctx)
}

type press struct {
	by, reason string
	resume     bool
}

// pressVerb answers the first press of a batch that changes the switch; another
// one in the same batch is tried again alone, since it must see the first.
var pressVerb = &ledger.Verb[press]{Name: "payout.pause", Run: func(ctx context.Context, b *ledger.Batch, cmds []press) []ledger.Outcome {
	if len(cmds) > 1 {
		return b.Fail(errors.New("the pause switch is pressed once in a transaction"))
	}
	on, err := paused(ctx, b.Tx())
	if err != nil {
		return b.Fail(err)
	}
	return []ledger.Outcome{{Err: pressed(b, on, cmds[0])}}
}}

func pressed(b *ledger.Batch, on *Pause, c press) error {
	switch {
	case c.by == "":
		return ErrRequest.Because("by", "the switch is pressed by a person")
	case !c.resume && on != nil, c.resume && on == nil, c.resume && on.AskedBy == c.by:
		return nil
	case !c.resume && c.reason == "":
		return ErrRequest.Because("reason", "a pause needs its reason")
	case !c.resume:
		id := numberOf("PP", ledger.DayOf(b.Now()), c.by, b.Now().Format(time.RFC3339Nano))
		note(b, "payout.paused", id, c.by, c.reason)
		b.Exec(`INSERT INTO payout_pauses (id, paused_by, paused_at, reason) VALUES ($1, $2, $3, $4)`, id, c.by, b.Now(), c.reason)
	case on.AskedBy == "":
		note(b, "payout.resume_asked", on.ID, c.by, on.Reason)
		b.ExecRows(1, `UPDATE payout_pauses SET asked_by = $2 WHERE id = $1 AND asked_by = '' AND ended_at IS NULL`, on.ID, c.by)
	default:
		note(b, "payout.resumed", on.ID, c.by, on.Reason)
		b.ExecRows(1, `UPDATE payout_pauses SET agreed_by = $2, ended_at = $3 WHERE id = $1 AND asked_by = $4 AND ended_at IS NULL`, on.ID, c.by, b.Now(), on.AskedBy)
	}
	return nil
}
