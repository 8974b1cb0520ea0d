package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	errorv1 "github.com/clearward/clearward/proto/clearward/error/v1"
	ledgerv1 "github.com/clearward/clearward/proto/clearward/ledger/v1"
)

// ledgerService answers those who audit the books.
type ledgerService struct{ s *Server }

// maxLines is how many lines of a statement one answer holds.
const maxLines = 10_000

func asOf(asked *ledgerv1.AsOf) (at ledger.AsOf, err error) {
	if at.ValueDay, err = dayField("as_of.value_day", asked.GetValueDay(), false); err != nil {
		return at, err
	}
	at.Known, err = dayField("as_of.known_day", asked.GetKnownDay(), false)
	return at, err
}

func balanceMessage(b ledger.AccountBalance) *ledgerv1.Balance {
	return &ledgerv1.Balance{Account: b.Code, NormalSide: sideName(b.Side), DebitsFen: int64(b.Debits), CreditsFen: int64(b.Credits),
		BalanceFen: int64(b.Balance())}
}

func sideName(side ledger.Side) string {
	if side == ledger.Debit {
		return "DEBIT"
	}
	return "CREDIT"
}

// balanceOf reads the balance of the account with just this code.
func balanceOf(ctx context.Context, tx pgx.Tx, code string, at ledger.AsOf) (ledger.AccountBalance, error) {
	like, err := ledger.BalancesByCode(ctx, tx, clearing.PlatformBook, code, at)
	if err != nil {
		return ledger.AccountBalance{}, err
	}
	if code == "" || len(like) == 0 || like[0].Code != code {
		return ledger.AccountBalance{}, fmt.Errorf("%w: account: %q", ErrNoAccount, code)
	}
	return like[0], nil
}

// GetBalance implements the call.
func (l ledgerService) GetBalance(ctx context.Context, r *ledgerv1.GetBalanceRequest) (*ledgerv1.GetBalanceResponse, error) {
	at, err := asOf(r.GetAsOf())
	if err != nil {
		return nil, err
	}
	var found ledger.AccountBalance
	err = l.s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		found, err = balanceOf(ctx, tx, r.GetAccount(), at)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &ledgerv1.GetBalanceResponse{Balance: balanceMessage(found)}, nil
}

// ListBalances implements the call.
func (l ledgerService) ListBalances(ctx context.Context, r *ledgerv1.ListBalancesRequest) (*ledgerv1.ListBalancesResponse, error) {
	at, err := asOf(r.GetAsOf())
	if err != nil {
		return nil, err
	}
	var all []ledger.AccountBalance
	err = l.s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		all, err = ledger.BalancesByCode(ctx, tx, clearing.PlatformBook, r.GetPrefix(), at)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &ledgerv1.ListBalancesResponse{}
	for _, b := range all {
		if b.Balance() == 0 && !r.GetZero() {
			continue
		}
		out.Balances = append(out.Balances, balanceMessage(b))
		if fen := int64(b.Balance()); (b.Side == ledger.Debit) == (fen > 0) {
			out.DebitsFen += max(fen, -fen)
		} else {
			out.CreditsFen += max(fen, -fen)
		}
	}
	return out, nil
}

// ListLines implements the call.
func (l ledgerService) ListLines(ctx context.Context, r *ledgerv1.ListLinesRequest) (*ledgerv1.ListLinesResponse, error) {
	from, err := dayField("from_day", r.GetFromDay(), true)
	if err != nil {
		return nil, err
	}
	to, err := dayField("to_day", r.GetToDay(), true)
	if err != nil {
		return nil, err
	}
	out := &ledgerv1.ListLinesResponse{}
	err = l.s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		out.Lines = nil
		account, err := balanceOf(ctx, tx, r.GetAccount(), ledger.AsOf{})
		if err != nil {
			return err
		}
		opening, err := ledger.Statement(ctx, tx, account.ID, from, to, func(line ledger.Line) error {
			if len(out.Lines) == maxLines {
				return ErrField.Because("to_day", "these days have more than %d lines, ask for fewer", maxLines)
			}
			out.Lines = append(out.Lines, lineMessage(line))
			return nil
		})
		out.Opening = balanceMessage(opening)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func lineMessage(l ledger.Line) *ledgerv1.Line {
	return &ledgerv1.Line{Entry: l.Entry.String(), Day: l.Day.String(), ValueDay: l.ValueDay.String(), RecordedAt: timestamppb.New(l.At),
		Kind: l.Kind, About: l.EntryRef, Ref: l.Ref, CaseId: l.CaseID, Side: sideName(l.Side), AmountFen: int64(l.Amount), BalanceFen: int64(l.Balance)}
}

// maxBulk is how many entries one bulk call takes.
const maxBulk = 1000

// cash reads what the request says; who says it is the caller.
func cash(ctx context.Context, name string, c *ledgerv1.Cash) (clearing.WindowCash, error) {
	day, err := dayField(name+".day", c.GetDay(), true)
	if err == nil && c.GetIdempotencyKey() == "" {
		err = ErrField.Because(name+".idempotency_key", "it is missing: take one of your own and send it again whenever you ask again")
	}
	return clearing.WindowCash{Journal: c.GetJournal(), Hospital: c.GetHospital(), Cashier: c.GetCashier(), Amount: ledger.Money(c.GetAmountFen()),
		Day: day, Ref: c.GetRef(), Maker: caller(ctx).Name}, err
}

// scopeOf is whose idempotency keys these are.
func scopeOf(ctx context.Context) string { return "api:" + caller(ctx).Name }

// PostCash implements the call.
func (l ledgerService) PostCash(ctx context.Context, r *ledgerv1.PostCashRequest) (*ledgerv1.PostCashResponse, error) {
	one, err := cash(ctx, "cash", r.GetCash())
	if err != nil {
		return nil, err
	}
	done, err := clearing.PostCash(ctx, l.s.committer, scopeOf(ctx), []string{r.GetCash().GetIdempotencyKey()}, []clearing.WindowCash{one})
	if err == nil {
		err = done[0].Err
	}
	if err != nil {
		return nil, err
	}
	return &ledgerv1.PostCashResponse{Entry: done[0].Entry.String(), Replayed: done[0].Replayed}, nil
}

// PostCashBulk implements the call.
func (l ledgerService) PostCashBulk(ctx context.Context, r *ledgerv1.PostCashBulkRequest) (*ledgerv1.PostCashBulkResponse, error) {
	if n := len(r.GetCash()); n == 0 || n > maxBulk {
		return nil, ErrField.Because("cash", "%d entries, a call takes 1 to %d", n, maxBulk)
	}
	keys, all, seen := make([]string, len(r.GetCash())), make([]clearing.WindowCash, len(r.GetCash())), map[string]int{}
	for i, c := range r.GetCash() {
		name := fmt.Sprintf("cash[%d]", i)
		first, twice := seen[c.GetIdempotencyKey()]
		if twice {
			return nil, ErrField.Because(name+".idempotency_key", "it is that of cash[%d]", first)
		}
		var err error
		if all[i], err = cash(ctx, name, c); err != nil {
			return nil, err
		}
		keys[i], seen[c.GetIdempotencyKey()] = c.GetIdempotencyKey(), i
	}
	done, err := clearing.PostCash(ctx, l.s.committer, scopeOf(ctx), keys, all)
	if err != nil {
		return nil, err
	}
	out := &ledgerv1.PostCashBulkResponse{Results: make([]*ledgerv1.CashResult, len(done))}
	for i, d := range done {
		result := &ledgerv1.CashResult{Entry: d.Entry.String(), Replayed: d.Replayed}
		var refusal ledger.Refusal
		if errors.As(d.Err, &refusal) {
			result.Entry, result.Refusal = "", &errorv1.Refusal{Code: refusal.Code, Field: refusal.Field, Rule: refusal.Rule}
		}
		out.Results[i] = result
	}
	return out, nil
}

// Verify implements the call.
func (l ledgerService) Verify(ctx context.Context, _ *ledgerv1.VerifyRequest) (*ledgerv1.VerifyResponse, error) {
	found, err := l.s.Verify(ctx)
	if err != nil {
		return nil, err
	}
	out := &ledgerv1.VerifyResponse{}
	for _, f := range found {
		out.Findings = append(out.Findings, &ledgerv1.Finding{Check: f.Check, Subject: f.Subject, Detail: f.Detail})
	}
	return out, nil
}
