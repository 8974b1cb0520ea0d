package api

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
	"github.com/clearward/clearward/proto/clearward/payout/v1/payoutv1connect"
)

const privateHospital = `
region: {code: R1, name: 示范区}
hospitals:
  - code: H2
    name: 民营医院
    ownership: PRIVATE
    his_calls: APP
    bank_accounts:
      - {account: "8801", name: 存管专户, bank: 招商银行, role: CUSTODY}
    merchants:
      - {channel: WECHAT, merchant_no: W2, kind: DIRECT, settle_mode: B, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "8801", retained_fen: 0}
`

// payoutHouse is a hospital of settle mode B with 1,000.00 available, and the
// people of the payout desk; the clock is stepped.
type payoutHouse struct {
	*Server
	at                 atomic.Pointer[time.Time]
	door               *httptest.Server
	moved              func(time.Time) // another clock that goes with this one, nil for none
	of                 func(name string, role auth.Role) payoutv1connect.PayoutServiceClient
	maker, op, checker payoutv1connect.PayoutServiceClient
	secret             []byte
}

func openPayouts(t *testing.T) *payoutHouse {
	t.Helper()
	h := openDesk(t, privateHospital)
	h.fund(t)
	return h
}

// openDesk opens a house with its people, and nothing in the books.
func openDesk(t *testing.T, master string) *payoutHouse {
	t.Helper()
	h := &payoutHouse{}
	h.set(noon())
	s, err := Open(t.Context(), Config{Local: local.Config{DataDir: folder(t)}, Now: func() time.Time { return *h.at.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	h.Server = s
	setup := filepath.Join(t.TempDir(), "setup.yaml")
	if err := os.WriteFile(setup, []byte(master), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Setup(t.Context(), setup); err != nil {
		t.Fatal(err)
	}
	h.seat(t)
	return h
}

// seat opens the door and gives the people of the desk their keys.
func (h *payoutHouse) seat(t *testing.T) {
	t.Helper()
	s := h.Server
	h.door = served(t, s)
	h.of = func(name string, role auth.Role) payoutv1connect.PayoutServiceClient {
		return payoutv1connect.NewPayoutServiceClient(h.door.Client(), h.door.URL, bearer(newKey(t, s, name, role)))
	}
	h.maker, h.op, h.checker = h.of("王出纳", auth.Treasurer), h.of("孙运营", auth.Operator), h.of("李主管", auth.FinanceHead)
	h.secret = h.enrol(t, "李主管")
}

// enrol gives a person a second factor and returns its secret.
func (h *payoutHouse) enrol(t *testing.T, person string) (secret []byte) {
	t.Helper()
	address, err := h.EnrolFactor(t.Context(), person)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := url.Parse(address)
	if err == nil {
		secret, err = base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(shown.Query().Get("secret"))
	}
	if err != nil {
		t.Fatal(address, err)
	}
	return secret
}

func (h *payoutHouse) set(now time.Time) {
	h.at.Store(&now)
	if h.moved != nil {
		h.moved(now)
	}
}

func (h *payoutHouse) fund(t *testing.T) {
	t.Helper()
	dir, err := h.directory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	number, _ := dir.Merchant("WECHAT", "W2")
	custody, _ := dir.Bank("H2", "8801")
	h.post(t, clearing.Event{Merchant: number, Bank: custody, Day: ledger.DayOf(noon()), Amount: 100000, Order: "O2", Settlement: "S2"}, "J01", "J02", "J25", "J26a", "J26b")
}

// post posts journals of an event.
func (h *payoutHouse) post(t *testing.T, e clearing.Event, journals ...string) {
	t.Helper()
	entry, err := clearing.NewEntry(e, journals...)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := ledger.Submit(t.Context(), h.committer, benchPost, ledger.Request{}, entry); err != nil || out.Err != nil {
		t.Fatal(out.Err, err)
	}
}

// code is what an authenticator app shows now (RFC 6238).
func (h *payoutHouse) code() string {
	mac := hmac.New(sha1.New, h.secret)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(h.at.Load().Unix()/30)))
	sum := mac.Sum(nil)
	from := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[from:from+4])&0x7fffffff%1_000_000)
}

// K02–K05, U17: one asks, another approves with a code what is read back.
func TestAPayoutIsAskedForByOneAndApprovedByAnotherOverTheAPI(t *testing.T) {
	h, ctx := openPayouts(t), t.Context()
	account := &payoutv1.ProposePayeeRequest{IdempotencyKey: "payee_1", Hospital: "H2", UseFor: "HOSPITAL", Account: "H2-OWN", Name: "民营医院", Bank: "工商银行", Cnaps: "102100099996"}
	proposed, err := h.op.ProposePayee(ctx, account)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.op.ApprovePayee(ctx, &payoutv1.ApprovePayeeRequest{IdempotencyKey: rand.Text(), Id: proposed.GetPayee().GetId()})
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", "payee.approve")
	_, err = h.checker.ApprovePayee(ctx, &payoutv1.ApprovePayeeRequest{IdempotencyKey: rand.Text(), Id: proposed.GetPayee().GetId(), Code: "12345"})
	denied(t, err, connect.CodePermissionDenied, "CODE", "code is wrong")
	if _, err := h.checker.ApprovePayee(ctx, &payoutv1.ApprovePayeeRequest{IdempotencyKey: rand.Text(), Id: proposed.GetPayee().GetId(), Code: h.code()}); err != nil {
		t.Fatal(err)
	}
	ask := func(key string, fen int64) (*payoutv1.Payout, error) {
		out, err := h.maker.RequestPayout(ctx, &payoutv1.RequestPayoutRequest{IdempotencyKey: key, Kind: "HOSPITAL", Hospital: "H2", PayeeId: proposed.GetPayee().GetId(), AmountFen: fen})
		return out.GetPayout(), err
	}
	_, err = ask("pay_1", 30000)
	denied(t, err, connect.CodeFailedPrecondition, "PAYEE_HELD", "")
	h.set(noon().Add(25 * time.Hour))
	_, err = ask("", 30000)
	denied(t, err, connect.CodeInvalidArgument, "FIELD", "idempotency_key")
	_, err = ask("pay_2", 100001)
	denied(t, err, connect.CodeFailedPrecondition, "FLOOR", "")
	asked, err := ask("pay_3", 30000)
	if err != nil || asked.GetState() != "REQUESTED" || asked.GetMaker() != "王出纳" {
		t.Fatal(asked, err)
	}
	if again, err := ask("pay_3", 30000); err != nil || again.GetNumber() != asked.GetNumber() {
		t.Errorf("the same again: %v, %v", again, err)
	}
	_, err = ask("pay_3", 30001)
	denied(t, err, connect.CodeAlreadyExists, "KEY_CONFLICT", "")
	h.available(ctx, t, 70000) // J31
	read := &payoutv1.ApprovePayoutsRequest{IdempotencyKey: rand.Text(), Items: []*payoutv1.ReadBack{{Number: asked.GetNumber(), Payload: asked.GetPayload()}}, Count: 1, SumFen: 29999, Code: h.code()}
	_, err = h.maker.ApprovePayouts(ctx, read)
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", "payout.approve")
	_, err = h.checker.ApprovePayouts(ctx, read)
	denied(t, err, connect.CodeFailedPrecondition, "TOTALS_DIFFER", "")
	h.set(noon().Add(25*time.Hour + time.Minute))
	read.IdempotencyKey, read.SumFen, read.Code = rand.Text(), 30000, h.code()
	approved, err := h.checker.ApprovePayouts(ctx, read)
	if err != nil || len(approved.GetPayouts()) != 1 || approved.GetPayouts()[0].GetState() != "APPROVED" || approved.GetPayouts()[0].GetChecker() != "李主管" {
		t.Fatal(approved, err)
	}
	list, err := h.maker.ListPayouts(ctx, &payoutv1.ListPayoutsRequest{Hospital: "H2", State: "APPROVED"})
	if err != nil || len(list.GetPayouts()) != 1 || list.GetCount() != 1 || list.GetSumFen() != 30000 || list.GetSumCapital() != "叁佰元整" {
		t.Errorf("%v, %v", list, err)
	}
	refused, err := h.checker.RefusePayout(ctx, &payoutv1.RefusePayoutRequest{IdempotencyKey: rand.Text(), Number: asked.GetNumber(), Reason: "医院来电更改账号"})
	if err != nil || refused.GetPayout().GetState() != "REFUSED" {
		t.Errorf("%v, %v", refused, err)
	}
	h.available(ctx, t, 100000) // J32
}

// U21: one press stops all, two people resume.
func TestPayoutsArePausedByOneAndResumedByTwoOverTheAPI(t *testing.T) {
	h, ctx := openPayouts(t), t.Context()
	on, err := h.op.PausePayouts(ctx, &payoutv1.PausePayoutsRequest{IdempotencyKey: rand.Text(), Reason: "银行通知维护"})
	if err != nil || on.GetPause().GetPausedBy() != "孙运营" {
		t.Fatal(on, err)
	}
	for range 2 { // one person twice is one person
		still, err := h.maker.ResumePayouts(ctx, &payoutv1.ResumePayoutsRequest{IdempotencyKey: rand.Text()})
		if err != nil || still.GetPause().GetAskedBy() != "王出纳" {
			t.Errorf("%v, %v", still, err)
		}
	}
	over, err := h.checker.ResumePayouts(ctx, &payoutv1.ResumePayoutsRequest{IdempotencyKey: rand.Text()})
	if err != nil || over.GetPause() != nil {
		t.Errorf("%v, %v", over, err)
	}
	_, err = h.maker.GetPayout(ctx, &payoutv1.GetPayoutRequest{Number: "HB1"})
	denied(t, err, connect.CodeNotFound, "PAYOUT_UNKNOWN", "HB1")
}

// available checks what the hospital could be paid.
func (h *payoutHouse) available(ctx context.Context, t *testing.T, want ledger.Money) {
	t.Helper()
	var got ledger.AccountBalance
	err := h.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		got, err = balanceOf(ctx, tx, "2202.H2.AVAIL", ledger.AsOf{})
		return err
	})
	if err != nil || got.Balance() != want {
		t.Errorf("available is %s, want %s (%v)", got.Balance(), want, err)
	}
}
