package livebank_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/bank"
	"github.com/clearward/clearward/channels/sandbox/livebank"
	"github.com/clearward/clearward/ledger"
)

const (
	ours   = "8801"
	other  = "6801"
	monday = ledger.Day(20260914)
)

// world is a bank with two accounts, its admin side, and a customer's connection.
type world struct {
	*bank.Gateway
	t     *testing.T
	dir   string
	at    atomic.Int64
	s     *livebank.Server
	door  *httptest.Server
	admin *httptest.Server
	comes map[ledger.Day][]livebank.Arrival
	fee   int64
}

func (w *world) now() time.Time { return time.Unix(w.at.Load(), 0) }

func (w *world) set(day ledger.Day, clock string) {
	w.t.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04:05", day.String()+" "+clock, ledger.Beijing)
	if err != nil {
		w.t.Fatal(err)
	}
	w.at.Store(at.Unix())
}

func start(t *testing.T, fee int64) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), comes: map[ledger.Day][]livebank.Arrival{}, fee: fee}
	w.set(monday, "10:30:00")
	w.open()
	t.Cleanup(w.close)
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	w.s, err = livebank.Open(livebank.Config{Dir: w.dir, Now: w.now, FeeFen: w.fee,
		Arriving: func(account string, day ledger.Day) []livebank.Arrival {
			if account != other {
				return nil
			}
			return w.comes[day]
		},
		Accounts: []livebank.Account{{No: ours, Name: "存管专户", OpeningFen: 100_000_00}, {No: other, Name: "海天示范医院", OpeningFen: 500_00}}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.door, w.admin = httptest.NewServer(w.s.Handler()), httptest.NewServer(w.s.Admin())
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(w.dir, "keys", "bank", name))
		if err != nil {
			w.t.Fatal(err)
		}
		return string(text)
	}
	w.Gateway, err = bank.New(bank.Config{URL: w.door.URL, Customer: "C1", BIC: "CMBCCNBS", KeyID: livebank.CustomerKey, Key: read("customer_key.pem"),
		BankKeys: map[string]string{livebank.BankKey: read("bank_pub.pem")}, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) close() {
	w.door.Close()
	w.admin.Close()
	if err := w.s.Close(); err != nil {
		w.t.Error(err)
	}
}

// call asks the admin side.
func (w *world) call(method, path, body string, into any) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.admin.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		w.t.Fatalf("%s %s: %d %s %v", method, path, answer.StatusCode, text, err)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			w.t.Fatalf("%s: %v", text, err)
		}
	}
}

func (w *world) plant(fault string) { w.t.Helper(); w.call("POST", "/bank/faults", fault, nil) }

func transfer(ref string, fen ledger.Money, to, name string) channels.Transfer {
	return channels.Transfer{Ref: ref, FromAccount: ours, FromName: "存管专户", ToAccount: to, ToName: name, ToBank: "工商银行", ToBankCode: "102100099996",
		Amount: fen, Text: "医院结算款", RequestedDay: monday}
}

func (w *world) send(list ...channels.Transfer) []channels.TransferAnswer {
	return w.Transfer(w.t.Context(), "BT"+list[0].Ref, list)
}

func (w *world) is(ref string, want channels.TransferState, code string) channels.TransferAnswer {
	w.t.Helper()
	a := w.QueryTransfer(w.t.Context(), ref)
	if a.State != want || a.Reason.Code != code {
		w.t.Errorf("%s is %s %s, want %s %s", ref, a.State, a.Reason.Code, want, code)
	}
	return a
}

func (w *world) balance(account string, booked, available ledger.Money) {
	w.t.Helper()
	b, a, err := w.Balance(w.t.Context(), account)
	if err != nil || b != booked || a != available {
		w.t.Errorf("balance of %s is %s, %s (%v), want %s, %s", account, b, a, err, booked, available)
	}
}

// statement reads a day's camt.053 as the reconciliation does, one line a row.
func (w *world) statement(account string, day ledger.Day) (channels.FileSummary, []channels.StatementLine) {
	w.t.Helper()
	file, err := w.FetchStatement(w.t.Context(), account, day)
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []channels.StatementLine
	sum, err := bank.ReadStatement(file, func(l *channels.StatementLine) error { lines = append(lines, *l); return nil })
	if err := errors.Join(err, file.Close()); err != nil {
		w.t.Fatal(err)
	}
	return sum, lines
}

func TestATransferIsAcceptedAndSucceedsAndStandsInTheStatement(t *testing.T) {
	w := start(t, 0)
	sent := w.send(transfer("HB1", 300_00, "ICBC-1", "民营医院"), transfer("HB2", 100_00, other, "海天示范医院"))
	if sent[0].State != channels.TransferAccepted || sent[1].State != channels.TransferAccepted || sent[0].Amount != 300_00 {
		t.Fatalf("%+v", sent)
	}
	w.balance(ours, 100_000_00, 100_000_00-400_00)
	if _, err := w.FetchReceipt(t.Context(), "HB1"); !errors.Is(err, channels.ErrBillNotReady) {
		t.Errorf("a receipt before the success: %v", err)
	}
	if again := w.send(transfer("HB1", 300_00, "ICBC-1", "民营医院")); again[0].State != channels.TransferAccepted || again[0].Reason.Code != "AM05" {
		t.Errorf("the same reference again: %+v", again[0])
	}
	w.at.Add(3)
	done := w.is("HB1", channels.TransferSucceeded, "")
	w.balance(ours, 100_000_00-400_00, 100_000_00-400_00)
	w.balance(other, 600_00, 600_00)
	paper, err := w.FetchReceipt(t.Context(), "HB1")
	if err != nil || paper.CheckCode == "" || !bytes.Contains(paper.Content, []byte("300.00 元")) || !bytes.Contains(paper.Content, []byte(done.BankRef)) {
		t.Errorf("%s, %v", paper.Content, err)
	}
	w.is("HB9", channels.TransferAbsent, "NOOR")
	if _, err := w.FetchStatement(t.Context(), ours, monday); !errors.Is(err, channels.ErrBillNotReady) {
		t.Errorf("a statement of today: %v", err)
	}
	w.set(monday.Add(1), "07:59:59")
	if _, err := w.FetchStatement(t.Context(), ours, monday); !errors.Is(err, channels.ErrBillNotReady) {
		t.Errorf("a statement before eight: %v", err)
	}
	w.set(monday.Add(1), "08:00:00")
	sum, lines := w.statement(ours, monday)
	if sum.Opening != 100_000_00 || sum.Closing != 100_000_00-400_00 || len(lines) != 2 || lines[0].EndToEndID != "HB1" || lines[0].Ref != done.BankRef ||
		lines[0].Amount != -300_00 || lines[0].Counterparty != "民营医院" || lines[0].CounterpartyAcc != "ICBC-1" || lines[0].Text != "医院结算款" {
		t.Errorf("%+v %+v", sum, lines)
	}
	if _, lines := w.statement(other, monday); len(lines) != 1 || lines[0].Amount != 100_00 || lines[0].CounterpartyAcc != ours {
		t.Errorf("%+v", lines)
	}
	if sum, lines := w.statement(ours, monday.Add(-1)); sum.Opening != 100_000_00 || len(lines) != 0 {
		t.Errorf("of a day without movements: %+v %+v", sum, lines)
	}
}

func TestWhatTheBankCannotPayIsRejectedWithItsReason(t *testing.T) {
	w := start(t, 0)
	sent := w.send(transfer("HB1", 99_000_00, "ICBC-1", "民营医院"), transfer("HB2", 2_000_00, "ICBC-1", "民营医院"), transfer("HB3", 1_00, other, "某某医院"),
		func() channels.Transfer { x := transfer("HB4", 1_00, "X", "Y"); x.FromAccount = "9999"; return x }())
	for i, want := range []string{"", "AM04", "BE01", "AC02"} {
		state := channels.TransferRejected
		if want == "" {
			state = channels.TransferAccepted
		}
		if sent[i].State != state || sent[i].Reason.Code != want {
			t.Errorf("%s: %s %s, want %s %s", sent[i].Ref, sent[i].State, sent[i].Reason.Code, state, want)
		}
	}
	w.is("HB3", channels.TransferRejected, "BE01")
	w.is("HB4", channels.TransferAbsent, "NOOR") // the account is none of this bank's
}

func TestAKillLosesNothing(t *testing.T) {
	w := start(t, 0)
	w.plant(`{"do":"RETURN","ref":"HB2","code":"AC04"}`)
	w.send(transfer("HB1", 300_00, "ICBC-1", "民营医院"), transfer("HB2", 100_00, "ICBC-2", "国药器械有限公司"))
	w.call("POST", "/bank/credit", `{"account":"6801","fen":777,"text":"往来款"}`, nil)
	w.door.Close()
	w.admin.Close() // and no Close of the books
	w.open()
	w.balance(ours, 100_000_00, 100_000_00-400_00)
	w.balance(other, 507_77, 507_77)
	w.at.Add(3)
	w.is("HB1", channels.TransferSucceeded, "")
	w.is("HB2", channels.TransferSucceeded, "")
	w.set(monday.Add(1), "09:00:00")
	w.is("HB2", channels.TransferReturned, "AC04")
	w.balance(ours, 100_000_00-300_00, 100_000_00-300_00)
	w.set(monday.Add(2), "08:00:00")
	_, lines := w.statement(ours, monday.Add(1))
	if len(lines) != 1 || lines[0].Amount != 100_00 || lines[0].ReturnOf != "HB2" || lines[0].ReturnReason != "AC04" || lines[0].Code != "PMNT/RCDT/RRTN" {
		t.Errorf("%+v", lines)
	}
}

// Each fault of a call, before and after the work: nobody knows, and a query tells.
func TestAfterAFaultOnlyAQueryTells(t *testing.T) {
	w := start(t, 0)
	for i, fault := range []string{"DELAY", "DROP", "HTTP_500", "GARBAGE", "BAD_SIGN"} {
		for j, commit := range []bool{true, false} {
			ref := fmt.Sprintf("HB%d%d", i, j)
			w.plant(fmt.Sprintf(`{"do":%q,"api":"transfer","commit":%t,"millis":5}`, fault, commit))
			want, then := channels.TransferUnknown, channels.TransferAbsent
			if fault == "DELAY" {
				want = channels.TransferAccepted
			}
			if commit || fault == "DELAY" || fault == "BAD_SIGN" {
				then = channels.TransferAccepted
			}
			if got := w.send(transfer(ref, 1_00, "ICBC-1", "民营医院"))[0].State; got != want {
				t.Errorf("%s %t: %s, want %s", fault, commit, got, want)
			}
			if got := w.QueryTransfer(t.Context(), ref).State; got != then {
				t.Errorf("%s %t: a query says %s, want %s", fault, commit, got, then)
			}
		}
	}
	var waiting []livebank.Fault
	if w.call("GET", "/bank/faults", "", &waiting); len(waiting) != 0 {
		t.Errorf("%+v", waiting)
	}
}

func TestTransfersAreRejectedReturnedAndSlowAsPlanted(t *testing.T) {
	w := start(t, 0)
	w.plant(`{"do":"REJECT","party":"A","code":"AC01"}`)
	w.plant(`{"do":"REJECT","party":"B","code":"RR04","seconds":60}`)
	w.plant(`{"do":"SLOW","party":"C","seconds":3600,"code":"PATC"}`)
	sent := w.send(transfer("HBA", 1_00, "A", "甲"), transfer("HBB", 1_00, "B", "乙"), transfer("HBC", 1_00, "C", "丙"), transfer("HBD", 1_00, "D", "丁"))
	for i, want := range []channels.TransferState{channels.TransferRejected, channels.TransferAccepted, channels.TransferApproval, channels.TransferAccepted} {
		if sent[i].State != want {
			t.Errorf("%s is %s, want %s", sent[i].Ref, sent[i].State, want)
		}
	}
	w.at.Add(61)
	w.is("HBA", channels.TransferRejected, "AC01")
	w.is("HBB", channels.TransferRejected, "RR04")
	w.is("HBC", channels.TransferApproval, "")
	w.is("HBD", channels.TransferSucceeded, "")
	w.plant(`{"do":"RETURN","ref":"HBD"}`) // after its success
	w.at.Add(3600)
	w.is("HBC", channels.TransferSucceeded, "")
	w.is("HBD", channels.TransferSucceeded, "")
	w.set(monday.Add(1), "09:00:00")
	w.is("HBD", channels.TransferReturned, "AC01")
	var all []livebank.TransferView
	if w.call("GET", "/bank/transfers?day=2026-09-14", "", &all); len(all) != 4 || all[3].State != "RTND" {
		t.Errorf("%+v", all)
	}
}
