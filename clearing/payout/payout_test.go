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

// fake bank: it speaks for a bank with states, until it is told otherwise.
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

func TestCapitalAmountsAsOnACheque(t *testing.T) {
	for fen, want := range map[ledger.Money]string{
		0: "零元整", 1: "壹分", 10: "壹角整", 11: "壹角壹分", 100: "壹元整", 105: "壹元零伍分", 150: "壹元伍角整", 1001: "壹拾元零壹分",
		10000: "壹佰元整", 140950: "壹仟肆佰零玖元伍角整", 600714: "陆仟零柒元壹角肆分", 168032: "壹仟陆佰捌拾元叁角贰分", 1640953: "壹万陆仟肆佰零玖元伍角叁分",
		10700053: "壹拾万柒仟元伍角叁分", 1000000: "壹万元整", 10000100: "壹拾万零壹元整", 100000000: "壹佰万元整", 10000000000: "壹亿元整",
		1000000100: "壹仟万零壹元整", 10000000100: "壹亿零壹元整", 10100000000: "壹亿零壹佰万元整", 3290345: "叁万贰仟玖佰零叁元肆角伍分", -100: "负壹元整",
		1000000010000: "壹佰亿零壹佰元整",
	} {
		if got := payout.Capital(fen); got != want {
			t.Errorf("Capital(%d) = %s, want %s", fen, got, want)
		}
	}
}

// J31, J33, J34; J29; E08b; J39; J27a, J27b; J50a, J50b.
func TestEachKindIsSentProvedAndPosted(t *testing.T) {
	journals := map[string]string{
		"HOSPITAL": "J31 J33 J34", "SUBSIDY": "J29 J34", "COMPENSATION A": "E08b J34", "COMPENSATION B": "E08b J34",
		"REROUTED_REFUND A": "J39 J34", "REROUTED_REFUND B": "J39 J34", "FEE_TOPUP": "J27a J34 J27b", "RECHARGE A": "J50a J50b", "RECHARGE B": "J50a J50b",
	}
	for name, r := range requests {
		t.Run(name, func(t *testing.T) {
			h := open(t)
			before := count(h.DB, t, `SELECT count(*) FROM entries`)
			p := h.request(r)
			h.verify()
			h.approve(p)
			h.is(p.Number, payout.Approved)
			h.send(1, 0)
			h.is(p.Number, payout.Sent)
			h.verify()
			h.poll(10 * time.Second)
			h.is(p.Number, payout.Succeeded)
			h.verify()
			h.debit(p)
			h.debit(p) // the same line again is nothing
			h.verify()
			switch r.Kind {
			case payout.FeeTopUp:
				h.mustLine(payout.BankLine{Number: p.Number, Account: "8801", BankRef: "A1", Day: day, Amount: p.Amount})
			case payout.Recharge:
				h.mustLine(payout.BankLine{Number: p.Number, Account: r.MerchantNo, BankRef: "F1", Day: day, Amount: p.Amount})
			}
			h.verify()
			h.poll(time.Minute)
			receipt, err := h.Receipt(t.Context(), p.Number)
			if err != nil || string(receipt.Content) != "receipt of "+p.Number || receipt.CheckCode != "C-"+p.Number {
				t.Errorf("receipt %+v, %v", receipt, err)
			}
			var kinds []string
			rows, err := h.DB.Pool.Query(t.Context(), `SELECT kind FROM entries ORDER BY lane, seq, ord OFFSET $1`, before)
			if err != nil {
				t.Fatal(err)
			}
			if kinds, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || strings.Join(kinds, " ") != journals[name] {
				t.Errorf("posted %v, %v; want %s", kinds, err, journals[name])
			}
			if got := h.bank.sent[0]; got.Ref != p.Number || got.Amount != p.Amount || len(got.Ref) > 30 {
				t.Errorf("the bank was told %+v", got)
			}
		})
	}
}

// Scenario 60: J37 and J38, then J32 when the account is changed.
func TestAReturnedPayoutStaysFrozenUntilTheAccountIsChanged(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	h.send(1, 0)
	h.poll(10 * time.Second)
	h.debit(p)
	h.at(tuesday.Add(72 * time.Hour))
	h.back(p)
	h.back(p)
	p = h.is(p.Number, payout.Returned)
	if b := h.balances(); b["2202.H2.FROZEN"] != 30000 || b["2202.H2.AVAIL"] != 70000 || b["2244.H2"] != 0 {
		t.Errorf("%v", b)
	}
	h.verify()
	_, err := h.Request(t.Context(), "api", h.key(), wang, requests["HOSPITAL"])
	h.refused(err, payout.ErrPayee, "account H2-OWN is suspended: payout "+p.Number+" came back: AC01")
	fresh := h.payee(payout.Payee{Hospital: "H2", UseFor: "HOSPITAL", Account: "H2-NEW", Name: "民营医院", Bank: "工商银行", CNAPS: "102100099996", Replaces: p.Payee})
	if b := h.balances(); b["2202.H2.FROZEN"] != 0 || b["2202.H2.AVAIL"] != 100000 {
		t.Errorf("%v", b)
	}
	h.verify()
	_, err = h.Request(t.Context(), "api", h.key(), wang, requests["HOSPITAL"])
	h.refused(err, payout.ErrPayeeHeld, "account H2-NEW is new or was changed: it is held until 2026-09-19 10:00")
	h.at(fresh.UsableFrom)
	again := h.request(requests["HOSPITAL"])
	if again.Payee != fresh.ID {
		t.Errorf("it goes to %s, want %s", again.Payee, fresh.ID)
	}
	h.verify()
}

// What the manual has no J36 or J37 for is reversed, the last entry first.
func TestEveryOtherKindThatFailsOrComesBackIsOwedAgain(t *testing.T) {
	for name, r := range requests {
		for _, comesBack := range []bool{false, true} {
			t.Run(fmt.Sprint(name, comesBack), func(t *testing.T) {
				h := open(t)
				before := h.balances()
				p := h.request(r)
				h.approve(p)
				h.bank.answer = func(channels.Transfer) channels.TransferState { return channels.TransferUnknown }
				h.send(1, 0)
				h.is(p.Number, payout.Unknown)
				h.verify()
				want := payout.Rejected
				if comesBack {
					h.debit(p)
					h.back(p)
					want = payout.Returned
				} else {
					h.bank.state[p.Number] = channels.TransferRejected
					h.poll(10 * time.Second)
				}
				h.is(p.Number, want)
				h.verify()
				after := h.balances()
				if r.Kind == payout.Hospital && comesBack {
					before["2202.H2.AVAIL"], before["2202.H2.FROZEN"] = 70000, 30000
				}
				for code, fen := range after {
					if fen != before[code] {
						t.Errorf("%s is %s, was %s", code, fen, before[code])
					}
				}
				if r.Kind == payout.ReroutedRefund {
					h.request(r) // the debt is there again
				}
			})
		}
	}
}

func TestARejectionForTheAccountStaysFrozen(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	h.bank.reason = channels.Reason{Kind: channels.ReasonAccount, Code: "AC01", Text: "户名不符"}
	h.bank.answer = func(tr channels.Transfer) channels.TransferState {
		h.bank.state[tr.Ref] = channels.TransferRejected
		return channels.TransferRejected
	}
	h.send(1, 0)
	h.is(p.Number, payout.Unknown) // only a query proves it
	if b := h.balances(); b["2208.CUST.8801.H2"] != 30000 {
		t.Errorf("%v", b)
	}
	h.poll(10 * time.Second)
	p = h.is(p.Number, payout.Rejected)
	if b := h.balances(); !p.Frozen || b["2202.H2.FROZEN"] != 30000 || b["2208.CUST.8801.H2"] != 0 {
		t.Errorf("%+v %v", p, b)
	}
	h.verify()
	out, err := h.line(payout.BankLine{Number: p.Number, Account: "8801", BankRef: "X", Day: day, Amount: -30000})
	h.refused(errors.Join(err, out.Err), payout.ErrLine, "is rejected and line X takes its money")
}

// Scenario 59, U18, U19.
func TestAnUnknownPayoutIsAskedForAndNeverSentBlindly(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	h.bank.answer = func(channels.Transfer) channels.TransferState { return channels.TransferUnknown }
	h.send(1, 0)
	h.poll(10 * time.Second) // absent, too early
	h.poll(time.Minute)
	h.is(p.Number, payout.Unknown)
	h.send(0, 0)
	h.poll(time.Hour) // absent for longer than 15 minutes, but its statement is not there
	h.is(p.Number, payout.Unknown)
	h.send(0, 0)
	_, err := h.Refuse(t.Context(), li, p.Number, "nein")
	h.refused(err, payout.ErrState, "is unknown: what the bank may have is asked for, not refused")
	h.bank.file[day] = statement(t, day, "")
	h.at(tuesday.Add(24 * time.Hour))
	h.poll(0)
	h.is(p.Number, payout.Approved)
	h.verify()
	h.bank.answer = func(tr channels.Transfer) channels.TransferState {
		h.bank.state[tr.Ref] = channels.TransferApproval
		return channels.TransferApproval
	}
	h.send(1, 0)
	if len(h.bank.sent) != 2 || h.bank.sent[0].Ref != h.bank.sent[1].Ref {
		t.Errorf("sent %v, want the same reference twice", h.bank.sent)
	}
	at := h.is(p.Number, payout.BankApproval).StateAt
	h.poll(time.Hour)
	if got := h.is(p.Number, payout.BankApproval); !got.StateAt.Equal(at) {
		t.Errorf("its age counts from %v, want %v", got.StateAt, at)
	}
	h.bank.silent = true
	h.poll(time.Hour)
	h.is(p.Number, payout.BankApproval)
	h.send(0, 0)
	h.debit(p)
	h.is(p.Number, payout.Succeeded)
	h.verify()
}

func TestATransferInTheStatementIsNotSentAgain(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	h.bank.answer = func(channels.Transfer) channels.TransferState { return channels.TransferUnknown }
	h.send(1, 0)
	h.bank.file[day] = statement(t, day, p.Number)
	h.poll(24 * time.Hour)
	h.is(p.Number, payout.Unknown)
	h.send(0, 0)
}

// statement is a camt.053 with one debit of 300.00, or none.
func statement(t testing.TB, d ledger.Day, ref string) string {
	t.Helper()
	entry, closing := "", "1000.00"
	if ref != "" {
		closing = "700.00"
		entry = fmt.Sprintf(`<Ntry><NtryRef>1</NtryRef><Amt Ccy="CNY">300.00</Amt><CdtDbtInd>DBIT</CdtDbtInd><Sts>BOOK</Sts><BookgDt><Dt>%[1]s</Dt></BookgDt>
			<ValDt><Dt>%[1]s</Dt></ValDt><AcctSvcrRef>B1</AcctSvcrRef><NtryDtls><TxDtls><Refs><EndToEndId>%[2]s</EndToEndId></Refs></TxDtls></NtryDtls></Ntry>`, d, ref)
	}
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt><Stmt><Id>S</Id><Acct><Id><Othr><Id>8801</Id></Othr></Id><Ccy>CNY</Ccy></Acct>
<Bal><Tp><CdOrPrtry><Cd>OPBD</Cd></CdOrPrtry></Tp><Amt Ccy="CNY">1000.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>%[1]s</Dt></Dt></Bal>
<Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp><Amt Ccy="CNY">%[2]s</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>%[1]s</Dt></Dt></Bal>
%[3]s</Stmt></BkToCstmrStmt></Document>`, d, closing, entry)
}
