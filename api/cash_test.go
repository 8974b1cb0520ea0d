package api

import (
	"fmt"
	"testing"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/api/auth"
	ledgerv1 "github.com/clearward/clearward/proto/clearward/ledger/v1"
	"github.com/clearward/clearward/proto/clearward/ledger/v1/ledgerv1connect"
)

// J08a, J08b, J09a, J09b: what a window does with cash is posted once for each key.
func TestTheCashOfAWindowIsPostedOnceForEachKey(t *testing.T) {
	s := open(t, folder(t))
	takenSample(t, s)
	h := served(t, s)
	app := ledgerv1connect.NewLedgerServiceClient(signing(t, newKey(t, s, "海天 APP", auth.Service), noon), h.URL)
	other := ledgerv1connect.NewLedgerServiceClient(signing(t, newKey(t, s, "另一 APP", auth.Service), noon), h.URL)
	said := func(key, journal string, fen int64) *ledgerv1.Cash {
		return &ledgerv1.Cash{IdempotencyKey: key, Journal: journal, Hospital: "H1", Cashier: "C3", AmountFen: fen, Day: "2026-09-15", Ref: "2600000777"}
	}
	post := func(c *ledgerv1.Cash) (*ledgerv1.PostCashResponse, error) {
		return app.PostCash(t.Context(), &ledgerv1.PostCashRequest{Cash: c})
	}
	first, err := post(said("cash_20260915_1", "J08a", 5000))
	if err != nil || first.GetReplayed() {
		t.Fatal(first, err)
	}
	again, err := post(said("cash_20260915_1", "J08a", 5000))
	if err != nil || !again.GetReplayed() || again.GetEntry() != first.GetEntry() {
		t.Errorf("the same again: %v, %v", again, err)
	}
	_, err = post(said("cash_20260915_1", "J08a", 5001))
	denied(t, err, connect.CodeAlreadyExists, "KEY_CONFLICT", "amount_fen")
	if one, err := other.PostCash(t.Context(), &ledgerv1.PostCashRequest{Cash: said("cash_20260915_1", "J08a", 1)}); err != nil || one.GetReplayed() {
		t.Errorf("the keys of another program are its own: %v, %v", one, err)
	}
	wrong := said("cash_20260915_2", "J01", 100)
	_, err = post(wrong)
	denied(t, err, connect.CodeInvalidArgument, "NOT_CASH", "journal")
	wrong = said("cash_20260915_3", "J08a", 100)
	wrong.Hospital = "H9"
	_, err = post(wrong)
	denied(t, err, connect.CodeFailedPrecondition, "ACCOUNT_UNKNOWN", "account")
	wrong = said("", "J08a", 100)
	_, err = post(wrong)
	denied(t, err, connect.CodeInvalidArgument, "FIELD", "cash.idempotency_key")

	bulk, err := app.PostCashBulk(t.Context(), &ledgerv1.PostCashBulkRequest{Cash: []*ledgerv1.Cash{
		said("cash_20260915_4", "J08b", 2000), said("cash_20260915_5", "J08a", 0), said("cash_20260915_1", "J08a", 5000), said("cash_20260915_6", "J09a", 3001)}})
	if err != nil {
		t.Fatal(err)
	}
	got := bulk.GetResults()
	if got[0].GetEntry() == "" || got[1].GetRefusal().GetField() != "amount_fen" || !got[2].GetReplayed() || got[2].GetEntry() != first.GetEntry() || got[3].GetRefusal() != nil {
		t.Errorf("bulk: %v", got)
	}
	_, err = app.PostCashBulk(t.Context(), &ledgerv1.PostCashBulkRequest{Cash: []*ledgerv1.Cash{said("k", "J08a", 1), said("k", "J08a", 2)}})
	denied(t, err, connect.CodeInvalidArgument, "FIELD", "cash[1].idempotency_key")
	_, err = app.PostCashBulk(t.Context(), &ledgerv1.PostCashBulkRequest{Cash: make([]*ledgerv1.Cash, maxBulk+1)})
	denied(t, err, connect.CodeInvalidArgument, "FIELD", "a call takes 1 to 1000")

	auditor := ledgerv1connect.NewLedgerServiceClient(h.Client(), h.URL, bearer(newKey(t, s, "周审计", auth.Auditor)))
	for account, want := range map[string]int64{"9001.H1": 5000 + 1 - 2000 - 3001, "9002.H1": 3001, "9009.H1": 3001} {
		if b, err := auditor.GetBalance(t.Context(), &ledgerv1.GetBalanceRequest{Account: account}); err != nil || b.GetBalance().GetBalanceFen() != want {
			t.Errorf("%s is %v, want %d (%v)", account, b, want, err)
		}
	}
	if found, err := s.Verify(t.Context()); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
	_, err = auditor.PostCash(t.Context(), &ledgerv1.PostCashRequest{Cash: said("cash_20260915_9", "J08a", 1)})
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", fmt.Sprint(auth.CashWrite))
}
