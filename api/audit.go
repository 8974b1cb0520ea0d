package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clearward/clearward/ledger"
	auditv1 "github.com/clearward/clearward/proto/clearward/audit/v1"
)

// note keeps what somebody has the program do, before it is done: an act that then
// fails was asked for all the same.
func (s *Server) note(ctx context.Context, who, act, subject, detail string) error {
	now := s.now()
	_, err := s.DB.Pool.Exec(ctx, `INSERT INTO acts (day, id, at, who, act, subject, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		ledger.DayOf(now), rand.Text(), now, who, act, subject, detail)
	if err != nil {
		return fmt.Errorf("note %s: %w", act, err)
	}
	return nil
}

// Act is something that somebody did.
type Act struct {
	At                        time.Time
	Who, Act, Subject, Detail string
}

// The longest list of acts, in days and rows.
const (
	auditDays = 31
	auditRows = 1000
)

// actRows are where acts stand, each as at, who, act, subject, detail within
// [$1, $2). What the journal keeps is read from its events.
var actRows = []string{
	`SELECT at, who, act, subject, detail FROM acts WHERE day BETWEEN $3 AND $4`,
	`SELECT created_at, made_by, 'key.new', id, person || ' ' || role FROM api_keys WHERE created_at >= $1 AND created_at < $2`,
	`SELECT revoked_at, revoked_by, 'key.revoke', id, person || ' ' || role FROM api_keys WHERE revoked_at >= $1 AND revoked_at < $2`,
	`SELECT at, person, 'payout.approve', number, role FROM payout_approvals WHERE at >= $1 AND at < $2`,
	`SELECT requested_at, maker, 'payout.request', number, kind || ' ' || hospital || ' ' || amount_fen::TEXT || ' fen' FROM payouts WHERE requested_at >= $1 AND requested_at < $2`,
	`SELECT paused_at, paused_by, 'payout.pause', id, reason FROM payout_pauses WHERE paused_at >= $1 AND paused_at < $2`,
	`SELECT ended_at, agreed_by, 'payout.resume', id, asked_by || ' asked' FROM payout_pauses WHERE ended_at >= $1 AND ended_at < $2`,
	`SELECT proposed_at, maker, 'payee.propose', id, hospital || ' ' || use_for FROM payees WHERE proposed_at >= $1 AND proposed_at < $2`,
	`SELECT decided_at, checker, 'payee.' || lower(state), id, reason FROM payees WHERE decided_at >= $1 AND decided_at < $2`,
	`SELECT created_at, maker, 'refund.ask', refund_no, hospital || ' ' || order_no || ' ' || amount_fen::TEXT || ' fen' FROM refunds WHERE created_at >= $1 AND created_at < $2 AND kind = 'REFUND'`,
	`SELECT at, who, 'case.' || lower(act), case_id, detail FROM recon_case_log WHERE at >= $1 AND at < $2`,
	`SELECT b.at, '', e.kind, '', convert_from(e.canon, 'UTF8') FROM events AS e JOIN batches AS b ON b.lane = e.lane AND b.seq = e.seq
		WHERE b.at >= $1 AND b.at < $2 AND e.kind NOT IN ('recon.published', 'case.approved')`,
}

// Acts lists what was done on days, the newest first; who is one person or program,
// "" for all.
func (s *Server) Acts(ctx context.Context, from, to ledger.Day, who string) (all []Act, err error) {
	if to < from || to > from.Add(auditDays-1) {
		return nil, ErrField.Because("to_day", "%s is not within %d days of %s", to, auditDays, from)
	}
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		all = nil
		for _, sql := range actRows {
			args := []any{from.Start(), to.Add(1).Start(), from, to}
			if !strings.Contains(sql, "$3") {
				args = args[:2]
			} else {
				sql, args = strings.NewReplacer("$3", "$1", "$4", "$2").Replace(sql), args[2:]
			}
			rows, err := tx.Query(ctx, sql, args...)
			if err != nil {
				return err
			}
			list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Act])
			if err != nil {
				return err
			}
			all = append(all, list...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list acts: %w", err)
	}
	for i := range all {
		all[i].open()
	}
	if who != "" {
		all = slices.DeleteFunc(all, func(a Act) bool { return !strings.EqualFold(a.Who, who) })
	}
	slices.SortStableFunc(all, func(a, b Act) int { return b.At.Compare(a.At) })
	return all[:min(len(all), auditRows)], nil
}

// open finds who and what in the text of an event of the journal.
func (a *Act) open() {
	var text map[string]any
	if a.Subject != "" || json.Unmarshal([]byte(a.Detail), &text) != nil {
		return
	}
	for _, name := range []string{"number", "subject"} {
		if is, ok := text[name].(string); ok && a.Subject == "" {
			a.Subject = is
		}
	}
	for _, name := range []string{"checker", "by"} {
		if is, ok := text[name].(string); ok && a.Who == "" {
			a.Who = is
		}
	}
}

// auditService shows who did what.
type auditService struct{ s *Server }

// ListActs implements the call.
func (a auditService) ListActs(ctx context.Context, r *auditv1.ListActsRequest) (*auditv1.ListActsResponse, error) {
	from, err := dayField("from_day", r.GetFromDay(), false)
	if err != nil {
		return nil, err
	}
	to, err := dayField("to_day", r.GetToDay(), false)
	if err != nil {
		return nil, err
	}
	if from == 0 {
		from = ledger.DayOf(a.s.now())
	}
	if to == 0 {
		to = from
	}
	all, err := a.s.Acts(ctx, from, to, r.GetWho())
	if err != nil {
		return nil, err
	}
	out := &auditv1.ListActsResponse{}
	for _, act := range all {
		out.Acts = append(out.Acts, &auditv1.Act{At: timestamppb.New(act.At), Who: act.Who, Act: act.Act, Subject: act.Subject, Detail: act.Detail})
	}
	return out, nil
}
