package payout_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
)

const setupText = `
region: {code: R1, name: 示范区}
own_bank_accounts:
  - {account: "0001", name: 平台公司, bank: 招商银行}
hospitals:
  - code: H1
    name: 海天示范医院
    ownership: PUBLIC
    his_calls: APP
    bank_accounts:
      - {account: "6801", name: 海天示范医院, bank: 招商银行, role: SETTLEMENT}
    merchants:
      - {channel: WECHAT, merchant_no: W1, kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0}
  - code: H2
    name: 民营医院
    ownership: PRIVATE
    his_calls: APP
    bank_accounts:
      - {account: "8801", name: 存管专户, bank: 招商银行, role: CUSTODY}
    merchants:
      - {channel: WECHAT, merchant_no: W2, kind: DIRECT, settle_mode: B, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "8801", retained_fen: 0}
`

var (
	tuesday = time.Date(2026, 9, 15, 2, 0, 0, 0, time.UTC) // 10:00 in Beijing
	day     = ledger.DayOf(tuesday)
	wang    = payout.Person{Name: "王出纳", Role: "TREASURER"}
	li      = payout.Person{Name: "李主管", Role: "FINANCE_HEAD"}
	zhao    = payout.Person{Name: "赵主管", Role: "FINANCE_HEAD"}
	op      = payout.Person{Name: "孙运营", Role: "OPERATOR"}
)

// teller speaks for a bank with states; it does what a test tells it.
type teller struct {
	mu      sync.Mutex
	balance ledger.Money
	state   map[string]channels.TransferState // what it has, by reference
	reason  channels.Reason
	answer  func(channels.Transfer) channels.TransferState // of the next sending
	sent    []channels.Transfer
	silent  bool
	during  func() // called while a message is on its way
	file    map[ledger.Day]string
}

func (k *teller) Bank(string) (channels.BankGateway, error) { return k, nil }

func (k *teller) Transfer(_ context.Context, _ string, list []channels.Transfer) []channels.TransferAnswer {
	if k.during != nil {
		k.during()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	answers := make([]channels.TransferAnswer, len(list))
	for i, t := range list {
		k.sent = append(k.sent, t)
		answers[i] = channels.TransferAnswer{Ref: t.Ref, State: k.answer(t), Reason: k.reason}
	}
	return answers
}

func (k *teller) QueryTransfer(_ context.Context, ref string) channels.TransferAnswer {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.silent {
		return channels.TransferAnswer{State: channels.TransferUnknown, Ref: ref}
	}
	state, ok := k.state[ref]
	if !ok {
		state = channels.TransferAbsent
	}
	return channels.TransferAnswer{State: state, Ref: ref, Reason: k.reason}
}

func (k *teller) Balance(context.Context, string) (booked, available ledger.Money, err error) {
	return k.balance, k.balance, nil
}

func (k *teller) FetchStatement(_ context.Context, _ string, d ledger.Day) (io.ReadCloser, error) {
	text, ok := k.file[d]
	if !ok {
		return nil, channels.ErrBillNotReady
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func (k *teller) FetchReceipt(_ context.Context, ref string) (channels.Receipt, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state[ref] != channels.TransferSucceeded {
		return channels.Receipt{}, channels.ErrBillNotReady
	}
	return channels.Receipt{Ref: ref, Name: ref + ".pdf", CheckCode: "C-" + ref, Content: []byte("receipt of " + ref)}, nil
}

// house is a database with master data, money and payees.
type house struct {
	*payout.Payouts
	t    testing.TB
	bank *teller
	mu   sync.Mutex
	now  time.Time
	keys int
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) at(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = now
}

var errCode = errors.New("the code is wrong")

func open(t testing.TB) *house {
	t.Helper()
	d := dbtest.New(t, ledger.Schema, clearing.Schema, payout.Schema)
	if _, err := clearing.Setup(t.Context(), d, strings.NewReader(setupText)); err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, now: tuesday.Add(-48 * time.Hour), bank: &teller{balance: 1_000_000_00, state: map[string]channels.TransferState{}, file: map[ledger.Day]string{}}}
	h.bank.answer = func(tr channels.Transfer) channels.TransferState {
		h.bank.state[tr.Ref] = channels.TransferSucceeded
		return channels.TransferAccepted
	}
	c, err := ledger.NewCommitter(t.Context(), d, ledger.Options{Now: h.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	h.Payouts = &payout.Payouts{DB: d, Committer: c, Outside: h.bank, Now: h.clock, Key: []byte("a key of tests, 32 bytes long ..."),
		Factor: func(_ context.Context, person, code string) (string, error) {
			if code != "000000" {
				return "", errCode
			}
			return "totp-" + person, nil
		}}
	for _, y := range []payout.Payee{
		{Hospital: "H1", UseFor: "HOSPITAL", Account: "H1-OWN", Name: "海天示范医院", Bank: "工商银行", CNAPS: "102100099996"},
		{Hospital: "H2", UseFor: "HOSPITAL", Account: "H2-OWN", Name: "民营医院", Bank: "工商银行", CNAPS: "102100099996"},
		{Hospital: "H2", UseFor: "CUSTODY", Account: "8801", Name: "存管专户", Bank: "招商银行"},
		{Hospital: "H2", UseFor: "CHANNEL", Account: "TENPAY", Name: "财付通", Bank: "招商银行"},
		{Hospital: "H1", UseFor: "CHANNEL", Account: "TENPAY", Name: "财付通", Bank: "招商银行"},
	} {
		h.payee(y)
	}
	h.at(tuesday)
	h.fund()
	return h
}

func (h *house) key() string { h.keys++; return fmt.Sprint("key_", h.keys) }

func (h *house) payee(y payout.Payee) payout.Payee {
	h.t.Helper()
	y, err := h.ProposePayee(h.t.Context(), "api", h.key(), op, y)
	if err != nil {
		h.t.Fatal(err)
	}
	if y, err = h.ApprovePayee(h.t.Context(), li, y.ID, "000000"); err != nil {
		h.t.Fatal(err)
	}
	return y
}

type money struct {
	e        clearing.Event
	journals []string
}

var fundVerb = &ledger.Verb[[]money]{Name: "test.fund", Run: func(_ context.Context, b *ledger.Batch, cmds [][]money) []ledger.Outcome {
	for _, m := range cmds[0] {
		entry, err := clearing.NewEntry(m.e, m.journals...)
		if err == nil {
			_, err = b.Post(entry)
		}
		if err != nil {
			return b.Fail(err)
		}
	}
	return make([]ledger.Outcome, len(cmds))
}}

// fund gives each hospital 1,000.00 that is proved, and the debts of every kind.
func (h *house) fund() {
	h.t.Helper()
	var d *clearing.Directory
	err := h.DB.ReadTx(h.t.Context(), func(ctx context.Context, tx pgx.Tx) (err error) {
		d, err = clearing.LoadMerchants(ctx, tx)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	w1, _ := d.Merchant("WECHAT", "W1")
	w2, _ := d.Merchant("WECHAT", "W2")
	cust, _ := d.Bank("H2", "8801")
	hosp, _ := d.Bank("H1", "6801")
	h1, _ := d.Hospital("H1")
	h2, _ := d.Hospital("H2")
	list := []money{
		{clearing.Event{Merchant: w2, Bank: cust, Day: day, Amount: 100000, Order: "O2", Settlement: "S2"}, []string{"J01", "J02", "J25", "J26a", "J26b"}},
		{clearing.Event{Merchant: w1, Bank: hosp, Day: day, Amount: 90000, Fee: 600, Order: "O1", Settlement: "S1"}, []string{"J01", "J02", "J25", "J28a", "J28b"}},
		{clearing.Event{Merchant: w1, Day: day, Amount: 600, Order: "O1b"}, []string{"J01", "J02", "J25"}},
		{clearing.Event{Merchant: w1, Bank: hosp, Day: day, Amount: 50000, Fee: 600, Settlement: "S1"}, []string{"J28c"}},
		{clearing.Event{Hospital: h1, Mode: "A", Day: day, Amount: 4500, Case: "C1", Maker: "a", Checker: "b"}, []string{"E08a"}},
		{clearing.Event{Hospital: h2, Mode: "B", Day: day, Amount: 4500, Case: "C2", Maker: "a", Checker: "b"}, []string{"E08a"}},
		{clearing.Event{Merchant: w1, Day: day, Amount: 12000, Refund: "R1"}, []string{"J18"}},
		{clearing.Event{Merchant: w2, Day: day, Amount: 12000, Refund: "R2"}, []string{"J18"}},
	}
	if _, err := ledger.Submit(h.t.Context(), h.Committer, fundVerb, ledger.Request{}, list); err != nil {
		h.t.Fatal(err)
	}
}

// patient is one whose card is closed.
var patient = &payout.Patient{Account: "6222020000000001", Name: "钱病人", Bank: "工商银行", CNAPS: "102100099996", Reason: "卡已注销", Proof: "scan-17"}

// requests is one payout of each kind that the books allow.
var requests = map[string]payout.Request{
	"HOSPITAL":          {Kind: payout.Hospital, Hospital: "H2", Amount: 30000},
	"SUBSIDY":           {Kind: payout.Subsidy, Hospital: "H1", Amount: 600, Subject: "S1", Contract: "HT-1"},
	"COMPENSATION A":    {Kind: payout.Compensation, Hospital: "H1", Amount: 4500, Subject: "C1"},
	"COMPENSATION B":    {Kind: payout.Compensation, Hospital: "H2", Amount: 4500, Subject: "C2"},
	"REROUTED_REFUND A": {Kind: payout.ReroutedRefund, Hospital: "H1", Amount: 12000, Subject: "R1", Channel: "WECHAT", MerchantNo: "W1", Patient: patient},
	"REROUTED_REFUND B": {Kind: payout.ReroutedRefund, Hospital: "H2", Amount: 12000, Subject: "R2", Channel: "WECHAT", MerchantNo: "W2", Patient: patient},
	"FEE_TOPUP":         {Kind: payout.FeeTopUp, Hospital: "H2", Amount: 19745},
	"RECHARGE A":        {Kind: payout.Recharge, Hospital: "H1", Amount: 20000, Channel: "WECHAT", MerchantNo: "W1"},
	"RECHARGE B":        {Kind: payout.Recharge, Hospital: "H2", Amount: 20000, Channel: "WECHAT", MerchantNo: "W2"},
}

func (h *house) request(r payout.Request) payout.Payout {
	h.t.Helper()
	p, err := h.Request(h.t.Context(), "api", h.key(), wang, r)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

func approval(list ...payout.Payout) payout.Approval {
	t := payout.TotalsOf(list)
	a := payout.Approval{Count: t.Count, Sum: t.Sum, Code: "000000"}
	for _, p := range list {
		a.Items = append(a.Items, payout.ApprovedItem{Number: p.Number, Payload: p.Payload})
	}
	return a
}

func (h *house) approve(list ...payout.Payout) {
	h.t.Helper()
	if _, err := h.Approve(h.t.Context(), li, approval(list...)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) send(sent, held int) {
	h.t.Helper()
	got, err := h.Send(h.t.Context(), h.clock())
	if err != nil || got != (payout.SendSummary{Sent: sent, Held: held}) {
		h.t.Fatalf("Send = %+v, %v; want %d sent, %d held", got, err, sent, held)
	}
}

func (h *house) poll(after time.Duration) {
	h.t.Helper()
	h.at(h.clock().Add(after))
	if _, err := h.Poll(h.t.Context(), h.clock(), 100); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) get(number string) payout.Payout {
	h.t.Helper()
	p, err := h.Get(h.t.Context(), number)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (h *house) is(number string, want payout.State) payout.Payout {
	h.t.Helper()
	p := h.get(number)
	if p.State != want {
		h.t.Fatalf("payout %s is %s (held %q), want %s", number, p.State, p.Held, want)
	}
	return p
}

var lineVerb = &ledger.Verb[payout.BankLine]{Name: "test.lines", Run: func(ctx context.Context, b *ledger.Batch, cmds []payout.BankLine) []ledger.Outcome {
	d, err := clearing.LoadMerchants(ctx, b.Tx())
	if err != nil {
		return b.Fail(err)
	}
	got, err := payout.PostLines(ctx, b, d, cmds)
	if err != nil {
		return b.Fail(err)
	}
	outcomes := make([]ledger.Outcome, len(cmds))
	for i := range got {
		outcomes[i] = ledger.Outcome{Entry: got[i].Entry, Err: got[i].Err, Replayed: got[i].Before}
	}
	return outcomes
}}

func (h *house) line(l payout.BankLine) (ledger.Outcome, error) {
	return ledger.Submit(h.t.Context(), h.Committer, lineVerb, ledger.Request{}, l)
}

func (h *house) mustLine(l payout.BankLine) {
	h.t.Helper()
	if out, err := h.line(l); err != nil || out.Err != nil {
		h.t.Fatal(err, out.Err)
	}
}

func (h *house) debit(p payout.Payout) {
	h.t.Helper()
	h.mustLine(payout.BankLine{Number: p.Number, Account: p.From, BankRef: "D" + p.Number, Day: ledger.DayOf(h.clock()), Amount: -p.Amount})
}

func (h *house) back(p payout.Payout) {
	h.t.Helper()
	h.mustLine(payout.BankLine{Number: p.Number, Account: p.From, BankRef: "C" + p.Number, Day: ledger.DayOf(h.clock()), Amount: p.Amount, Return: true,
		Reason: channels.Reason{Kind: channels.ReasonAccount, Code: "AC01", Text: "账号不存在"}})
}

func (h *house) verify() {
	h.t.Helper()
	found, err := ledger.Verify(h.t.Context(), h.DB, append(clearing.Controls(), payout.Controls()...)...)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range found {
		// The test funds the books by hand: no payments or refunds stand behind it.
		if !slices.Contains([]string{"payments = J01", "refunds = J18 and J22"}, f.Check) {
			h.t.Error(f)
		}
	}
}

func (h *house) balances() map[string]ledger.Money {
	h.t.Helper()
	got := map[string]ledger.Money{}
	err := h.DB.ReadTx(h.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		all, err := ledger.TrialBalance(ctx, tx, clearing.PlatformBook, ledger.AsOf{})
		for _, b := range all {
			got[b.Code] = b.Balance()
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return got
}

func (h *house) refused(err, want error, says string) {
	h.t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
		h.t.Errorf("got %v, want %v saying %q", err, want, says)
	}
}

func count(d *db.DB, t testing.TB, sql string, args ...any) (n int) {
	t.Helper()
	if err := d.Pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
