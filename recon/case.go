package recon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// CaseState is how far a case has come.
type CaseState string

// The states of a case. A person closes a case by a resolution that another
// person approves; a run closes it when the difference is gone.
const (
	CaseOpen       CaseState = "OPEN"
	CaseProposed   CaseState = "PROPOSED"
	CaseApproved   CaseState = "APPROVED" // the journal is posted, the suspense is not yet zero
	CaseClosed     CaseState = "CLOSED"
	CaseAutoClosed CaseState = "AUTO_CLOSED"
)

// The refusals of case work.
var (
	ErrCaseUnknown    = ledger.Refusal{Code: "CASE_UNKNOWN"}
	ErrCaseState      = ledger.Refusal{Code: "CASE_STATE"}
	ErrSamePerson     = ledger.Refusal{Code: "SAME_PERSON"}
	ErrResolution     = ledger.Refusal{Code: "RESOLUTION_NOT_ALLOWED"}
	ErrSuspenseNotNil = ledger.Refusal{Code: "SUSPENSE_NOT_ZERO"}
)

// Case is a difference that people work to a close.
type Case struct {
	ID         string
	Hospital   string
	Day        ledger.Day
	Kind       channels.Kind
	OrderNo    string
	RefundNo   string
	Channel    string
	MerchantNo string
	BankRef    string
	Code       Code
	Amount     ledger.Money
	HIS        *ledger.Money
	Platform   *ledger.Money
	ChannelFen *ledger.Money
	FeeDiff    ledger.Money // F7: billed less the rule
	Note       string
	State      CaseState
	Resolution string
	Reason     string
	Maker      string
	Checker    string
	OpenedAt   time.Time
	ChangedAt  time.Time

	abnormal bool         // the channel calls its refund abnormal
	taken    ledger.Money // what the channel holds of its refund (1125)
	debt     string       // the number of the debt that its refund was to pay, "" where that is its own
}

// LogLine is one thing that happened to a case.
type LogLine struct {
	At     time.Time
	Who    string
	Act    string
	Detail string
}

// Decision is what a person asks for: a resolution, or an answer to one.
type Decision struct {
	CaseID     string
	Who        string // a person, named by the key
	Act        string // propose, approve, reject
	Resolution string // of a proposal
	Reason     string // why, in words; a rejection and a note need one
	Detail     string // what the resolution needs beside it: owner, settlement, cashier
}

const readCase = `
	SELECT ` + caseColumns + `, state, resolution, reason, maker, checker, opened_at, changed_at
	FROM recon_cases`

func scanCase(row pgx.CollectableRow) (Case, error) {
	var c Case
	var his, platform, channel *int64
	err := row.Scan(&c.ID, &c.Hospital, &c.Day, &c.Kind, &c.OrderNo, &c.RefundNo, &c.Channel, &c.MerchantNo, &c.BankRef, &c.Code,
		&c.Amount, &his, &platform, &channel, &c.FeeDiff, &c.Note, &c.State, &c.Resolution, &c.Reason, &c.Maker, &c.Checker, &c.OpenedAt, &c.ChangedAt)
	c.HIS, c.Platform, c.ChannelFen = (*ledger.Money)(his), (*ledger.Money)(platform), (*ledger.Money)(channel)
	return c, err
}

// Cases lists cases, open ones only unless all is set, of one day or (0) of every
// day: long ones first, because that is a patient's money.
func (e *Engine) Cases(ctx context.Context, day ledger.Day, all bool) (cases []Case, err error) {
	err = e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, readCase+`
			WHERE ($1 = 0 OR day = $1) AND ($2 OR state NOT IN ('CLOSED', 'AUTO_CLOSED'))
			ORDER BY day, CASE WHEN amount_fen > 0 THEN 0 ELSE 1 END, code, order_no, id`, day, all)
		if err != nil {
			return err
		}
		cases, err = pgx.CollectRows(rows, scanCase)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list cases: %w", err)
	}
	return cases, nil
}

// CaseFile is a case with its log and the suspense that it carries.
type CaseFile struct {
	Case
	Log      []LogLine
	Suspense []Suspense
	May      []string // resolutions that its code allows
}

// Suspense is an open amount of a case on one account.
type Suspense struct {
	Account ledger.Account
	Ref     string
	Fen     ledger.Money // on the normal side
}

// CaseFile reads one case with everything that is known of it.
func (e *Engine) CaseFile(ctx context.Context, id string) (file *CaseFile, err error) {
	err = e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		c, err := oneCase(ctx, tx, id)
		if err != nil {
			return err
		}
		file = &CaseFile{Case: *c, May: resolutionsOf(c)}
		dir, err := clearing.LoadMerchants(ctx, tx)
		if err != nil {
			return err
		}
		if file.Suspense, err = suspense(ctx, tx, dir, c); err != nil {
			return err
		}
		file.Suspense = slices.DeleteFunc(file.Suspense, func(s Suspense) bool { return s.Fen == 0 })
		rows, err := tx.Query(ctx, `SELECT at, who, act, detail FROM recon_case_log WHERE case_id = $1 ORDER BY n`, id)
		if err != nil {
			return err
		}
		file.Log, err = pgx.CollectRows(rows, pgx.RowToStructByPos[LogLine])
		return err
	})
	return file, err
}

func oneCase(ctx context.Context, tx pgx.Tx, id string) (*Case, error) {
	rows, err := tx.Query(ctx, readCase+` WHERE id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("read case %s: %w", id, err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanCase)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrCaseUnknown.Because("case", "there is no case %s: `clearward case list` names them", id)
	}
	if err != nil {
		return nil, fmt.Errorf("read case %s: %w", id, err)
	}
	if err := errors.Join(c.readDebt(ctx, tx), c.readHeld(ctx, tx)); err != nil {
		return nil, err
	}
	return &c, nil
}

// Decide carries out a proposal, an approval or a rejection. The state change and
// the journal are one transaction. The same word of the same person again changes
// nothing. Before a refund of money that waits for HIS is proposed, and before it is
// approved, HIS is asked: ErrHISBooked refuses what it has booked, ErrHISSilent, no
// refusal, says that it gave no answer.
func (e *Engine) Decide(ctx context.Context, d Decision) (*Case, error) {
	dir, err := e.directory(ctx)
	if err != nil {
		return nil, err
	}
	d.Reason = strings.TrimSpace(d.Detail + " " + d.Reason)
	asked := &decision{Decision: d, engine: e, dir: dir, today: ledger.DayOf(e.Now())}
	if err := asked.askHIS(ctx); err != nil {
		return nil, err
	}
	out, err := ledger.Submit(ctx, e.Committer, decide, ledger.Request{}, asked)
	if err != nil {
		return nil, err
	}
	if out.Err != nil {
		return nil, out.Err
	}
	if d.Act == "approve" {
		// Whatever forbids the refund at this moment, the decision stands: a run tries
		// again, and the case says that its money still waits.
		if err := e.payDebt(ctx, d.CaseID); err != nil && !isRefusal(err) {
			return nil, err
		}
	}
	file, err := e.CaseFile(ctx, d.CaseID)
	if err != nil {
		return nil, err
	}
	return &file.Case, nil
}

type decision struct {
	Decision
	engine *Engine
	dir    *clearing.Directory
	today  ledger.Day
	seen   *Case            // as it was when HIS was asked
	asked  map[waiting]bool // about what HIS was asked, or nobody can be
	heard  []string         // the notes of what it said
}

var decide = &ledger.Verb[*decision]{Name: "recon.decide", Run: func(ctx context.Context, b *ledger.Batch, cmds []*decision) []ledger.Outcome {
	out := make([]ledger.Outcome, len(cmds))
	seen := map[string]int{}
	for i, d := range cmds {
		if first, ok := seen[d.CaseID]; ok {
			if out[i] = out[first]; d.Decision != cmds[first].Decision {
				out[i].Err = ErrCaseState.Because("case", "%s is being decided by somebody else at this moment: look again", d.CaseID)
			}
			continue
		}
		seen[d.CaseID] = i
		err := d.run(ctx, b)
		var refusal ledger.Refusal
		switch {
		case err == nil:
		case errors.As(err, &refusal):
			out[i].Err = refusal
		default:
			return b.Fail(err)
		}
	}
	return out
}}

func (d *decision) run(ctx context.Context, b *ledger.Batch) error {
	c, err := oneCase(ctx, b.Tx(), d.CaseID)
	if err != nil {
		return err
	}
	said, err := d.said(ctx, b.Tx(), c)
	if err != nil || said {
		return err
	}
	switch d.Act {
	case "propose":
		return d.propose(b, c)
	case "reject":
		if err := d.answers(c); err != nil {
			return err
		}
		if strings.TrimSpace(d.Reason) == "" {
			return ErrResolution.Because("reason", "say why the proposal is rejected")
		}
		d.write(b, c, CaseOpen, "", "")
		return nil
	}
	if err := d.answers(c); err != nil {
		return err
	}
	return d.approve(ctx, b, c)
}

// answers checks that the case waits for an answer and that the person is not the
// one who proposed.
func (d *decision) answers(c *Case) error {
	if c.State != CaseProposed {
		return ErrCaseState.Because("case", "%s is %s, only a proposed case can be approved or rejected", c.ID, c.State)
	}
	if c.Maker == d.Who {
		return ErrSamePerson.Because("checker", "%s proposed this resolution: another person must approve or reject it", d.Who)
	}
	return nil
}

func (d *decision) propose(b *ledger.Batch, c *Case) error {
	if err := d.proposes(c); err != nil {
		return err
	}
	d.write(b, c, CaseProposed, d.Who, "")
	return nil
}

// refused says what forbids a proposal or an approval before anything is read of
// the books.
func (d *decision) refused(c *Case) error {
	if d.Act == "propose" {
		return d.proposes(c)
	}
	return d.answers(c)
}

// proposes checks that the resolution may be proposed for the case.
func (d *decision) proposes(c *Case) error {
	if c.State != CaseOpen && c.State != CaseApproved {
		return ErrCaseState.Because("case", "%s is %s, a resolution is proposed for an open case", c.ID, c.State)
	}
	if !slices.Contains(resolutionsOf(c), d.Resolution) {
		return ErrResolution.Because("resolution", "%s does not settle a case of %s (%s): %s", d.Resolution, c.Code, c.Code.Words("zh"),
			strings.Join(resolutionsOf(c), ", "))
	}
	if r := resolutions[d.Resolution]; r.detail != "" && d.Detail == "" {
		return ErrResolution.Because("detail", "%s needs %s", d.Resolution, detailWords(r.detail, "en"))
	}
	return nil
}

// words are the resolution and the reason that the decision leaves in the case.
func (d *decision) words(c *Case) (resolution, reason string) {
	if d.Act == "approve" {
		return c.Resolution, cmp.Or(d.Reason, c.Reason)
	}
	return d.Resolution, d.Reason
}

// said tells whether this is what the same person did to the case last.
func (d *decision) said(ctx context.Context, tx pgx.Tx, c *Case) (bool, error) {
	var who, act, detail string
	err := tx.QueryRow(ctx, `SELECT who, act, detail FROM recon_case_log WHERE case_id = $1 AND act <> $2 ORDER BY n DESC LIMIT 1`, c.ID, hisAsked).Scan(&who, &act, &detail)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	resolution, reason := d.words(c)
	return who == d.Who && act == d.Act && detail == strings.TrimSpace(resolution+" "+reason), err
}

// write is the compare-and-set of the case with its lines in the log.
func (d *decision) write(b *ledger.Batch, c *Case, to CaseState, maker, checker string) {
	resolution, reason := d.words(c)
	b.ExecRows(1, `
		UPDATE recon_cases SET state = $3, resolution = $4, reason = $5, maker = $6, checker = $7, changed_at = $8
		WHERE id = $1 AND state = $2`, c.ID, c.State, to, resolution, reason, maker, checker, b.Now())
	for _, word := range d.heard {
		caseLine{c.ID, d.Who, hisAsked, word}.write(b)
	}
	caseLine{c.ID, d.Who, d.Act, strings.TrimSpace(resolution + " " + reason)}.write(b)
}

// approve posts the journals of the resolution, releases what they prove, and
// closes the case where its suspense is zero.
func (d *decision) approve(ctx context.Context, b *ledger.Batch, c *Case) error {
	open, err := suspense(ctx, b.Tx(), d.dir, c)
	if err != nil {
		return err
	}
	if err := d.unasked(c, open); err != nil {
		return err
	}
	entries, moves, err := d.entries(ctx, b, c, open)
	if err != nil {
		return err
	}
	left := afterPosting(open, entries)
	r := resolutions[c.Resolution]
	if len(left) > 0 && !r.waits {
		return ErrSuspenseNotNil.Because("case", "%s still carries %s: a case closes only when its suspense is zero; choose a resolution that clears it", c.ID, left)
	}
	if len(entries) > 0 { // all of them or none
		holdCase(b, c.ID)
		if _, err := b.Post(entries[0], entries[1:]...); err != nil {
			return err
		}
	}
	for _, m := range moves {
		if err := d.move(ctx, b, c, m); err != nil {
			b.Fail(err) // what is posted cannot be kept
			return err
		}
	}
	d.untold(b, c, open)
	to := CaseClosed
	if len(left) > 0 || d.engine.reachable(c) {
		to = CaseApproved
	}
	d.write(b, c, to, c.Maker, d.Who)
	b.Exec(`
		UPDATE recon_legs SET open = $2, decided = $2 WHERE case_id = $1 AND case_id <> '' AND kind <> 'SETTLE'`, c.ID, r.follows)
	b.Record("case.approved", fmt.Appendf(nil, `{"case":%q,"resolution":%q,"maker":%q,"checker":%q}`, c.ID, c.Resolution, c.Maker, d.Who))
	return nil
}
