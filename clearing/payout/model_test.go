package payout_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
)

// golden is what each answer of the bank makes of each state: to a query, to the
// sending where it differs after "|". "+" says that the money goes back.
const golden = `
               BANK_APPROVAL ACCEPTED  SUCCEEDED REJECTED            RETURNED ABSENT        UNKNOWN
SENDING        BANK_APPROVAL SENT      SUCCEEDED REJECTED+|UNKNOWN   RETURNED UNKNOWN       UNKNOWN
SENT           BANK_APPROVAL SENT      SUCCEEDED REJECTED+|UNKNOWN   RETURNED UNKNOWN       SENT
BANK_APPROVAL  BANK_APPROVAL SENT      SUCCEEDED REJECTED+|UNKNOWN   RETURNED UNKNOWN       BANK_APPROVAL
UNKNOWN        BANK_APPROVAL SENT      SUCCEEDED REJECTED+|UNKNOWN   RETURNED UNKNOWN       UNKNOWN
SUCCEEDED      SUCCEEDED     SUCCEEDED SUCCEEDED SUCCEEDED           RETURNED SUCCEEDED     SUCCEEDED
REQUESTED      REQUESTED     REQUESTED REQUESTED REQUESTED           REQUESTED REQUESTED    REQUESTED
APPROVED       APPROVED      APPROVED  APPROVED  APPROVED            APPROVED APPROVED      APPROVED
REFUSED        REFUSED       REFUSED   REFUSED   REFUSED             REFUSED  REFUSED       REFUSED
REJECTED       REJECTED      REJECTED  REJECTED  REJECTED            REJECTED REJECTED      REJECTED
RETURNED       RETURNED      RETURNED  RETURNED  RETURNED            RETURNED RETURNED      RETURNED
`

func TestEveryAnswerInEveryState(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(golden), "\n")
	says := strings.Fields(lines[0])
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, cell := range cells[1:] {
			toQuery, toSending, differs := strings.Cut(cell, "|")
			if !differs {
				toSending = toQuery
			}
			for query, want := range map[bool]string{true: toQuery, false: toSending} {
				if got := payout.After(payout.State(cells[0]), channels.TransferState(says[i]), query, false, false); got != want {
					t.Errorf("%s, %s, query %v: %s, want %s", cells[0], says[i], query, got, want)
				}
			}
		}
		// Absent from bank and statement: the same reference again, or what the bank said when it was sent.
		if flying := strings.Contains("SENDING SENT BANK_APPROVAL UNKNOWN", cells[0]); flying {
			if got := payout.After(payout.State(cells[0]), channels.TransferAbsent, true, true, false); got != "APPROVED" {
				t.Errorf("%s, absent: %s", cells[0], got)
			}
			if got := payout.After(payout.State(cells[0]), channels.TransferAbsent, true, true, true); got != "REJECTED+" {
				t.Errorf("%s, absent after a refusal: %s", cells[0], got)
			}
		}
	}
}

// tracked is a payout as the model knows it.
type tracked struct {
	payout.Payout
	state             payout.State
	debited, cameBack bool
	frozen            bool
}

// model is hospital H2 without a database: what is available, frozen and in
// flight, and what the bank paid.
type model struct {
	available, custody ledger.Money
	list               []*tracked
	replaced           map[string]bool // payees
}

func (m *model) frozen() (sum ledger.Money) {
	for _, p := range m.list {
		if p.frozen || p.state == payout.Requested || p.state == payout.Approved {
			sum += p.Amount
		}
	}
	return sum
}

func (m *model) flying() (sum ledger.Money) {
	for _, p := range m.list {
		switch p.state {
		case payout.Sent, payout.BankApproval, payout.Unknown, payout.Succeeded, payout.Returned:
			if !p.debited {
				sum += p.Amount
			}
		}
	}
	return sum
}

// Random operations against the model: after each, the books say what the model
// says, and Verify finds nothing.
func TestRandomOperationsKeepEveryInvariant(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := open(t)
			h.edit(`INSERT INTO payout_windows (account, from_day, opens, closes, every_day) VALUES ('', 20260914, 0, 1440, TRUE)`)
			r := rand.New(rand.NewPCG(seed, 17))
			m := &model{available: 100000, custody: 100000, replaced: map[string]bool{}}
			for i := range 120 {
				h.at(h.clock().Add(time.Hour))
				m.step(h, r)
				b := h.balances()
				got := [4]ledger.Money{b["2202.H2.AVAIL"], b["2202.H2.FROZEN"], b["2208.CUST.8801.H2"], b["1002.CUST.8801.H2"]}
				if want := [4]ledger.Money{m.available, m.frozen(), m.flying(), m.custody}; got != want {
					t.Fatalf("step %d: available, frozen, in flight, custody are %v, want %v", i, got, want)
				}
				for _, p := range m.list {
					if is := h.get(p.Number); is.State != p.state || is.Frozen != p.frozen {
						t.Fatalf("step %d: payout %s is %s (%s), frozen %v; want %s, %v", i, p.Number, is.State, is.Held, is.Frozen, p.state, p.frozen)
					}
				}
				if i%10 == 9 {
					h.verify()
				}
			}
			told := map[string]int{}
			for _, tr := range h.bank.sent {
				if told[tr.Ref]++; told[tr.Ref] > 1 {
					t.Errorf("%s was told to the bank %d times", tr.Ref, told[tr.Ref])
				}
			}
		})
	}
}

func (m *model) pick(r *rand.Rand, states ...payout.State) *tracked {
	var fit []*tracked
	for _, p := range m.list {
		for _, state := range states {
			if p.state == state {
				fit = append(fit, p)
			}
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[r.IntN(len(fit))]
}

func (m *model) step(h *house, r *rand.Rand) {
	h.t.Helper()
	switch r.IntN(16) {
	case 0, 1, 2, 3:
		amount := ledger.Money(1 + r.IntN(15000))
		p, err := h.Request(h.t.Context(), "api", h.key(), wang, payout.Request{Kind: payout.Hospital, Hospital: "H2", Amount: amount, RepeatReason: "again"})
		switch {
		case amount > m.available:
			h.refused(err, ledger.ErrFloor, "available")
		case err != nil:
			h.t.Fatal(err)
		default:
			m.available -= amount
			m.list = append(m.list, &tracked{Payout: p, state: payout.Requested})
		}
	case 4, 5, 6:
		if p := m.pick(r, payout.Requested); p != nil {
			h.approve(p.Payout)
			p.state = payout.Approved
		}
	case 7:
		if p := m.pick(r, payout.Requested, payout.Approved); p != nil {
			if _, err := h.Refuse(h.t.Context(), li, p.Number, "no"); err != nil {
				h.t.Fatal(err)
			}
			p.state = payout.Refused
			m.available += p.Amount
		}
	case 8, 9, 10:
		m.send(h, r)
	case 11, 12:
		m.poll(h, r)
	case 13, 14:
		m.debit(h, r)
	default:
		m.giveBack(h, r)
	}
}

func (m *model) send(h *house, r *rand.Rand) {
	h.t.Helper()
	states := map[string]payout.State{}
	h.bank.answer = func(tr channels.Transfer) channels.TransferState {
		says := []channels.TransferState{channels.TransferAccepted, channels.TransferApproval, channels.TransferUnknown, channels.TransferSucceeded, channels.TransferRejected}[r.IntN(5)]
		states[tr.Ref] = map[channels.TransferState]payout.State{channels.TransferAccepted: payout.Sent, channels.TransferApproval: payout.BankApproval,
			channels.TransferUnknown: payout.Unknown, channels.TransferSucceeded: payout.Succeeded, channels.TransferRejected: payout.Unknown}[says]
		h.bank.state[tr.Ref] = channels.TransferAccepted
		if says == channels.TransferSucceeded || says == channels.TransferRejected {
			h.bank.state[tr.Ref] = says
		}
		return says
	}
	if _, err := h.Send(h.t.Context(), h.clock()); err != nil {
		h.t.Fatal(err)
	}
	for _, p := range m.list {
		if p.state == payout.Approved {
			p.state = states[p.Number]
		}
	}
}

// poll lets the bank get further with some, and asks for all that are due.
func (m *model) poll(h *house, r *rand.Rand) {
	h.t.Helper()
	for ref, state := range h.bank.state {
		if state == channels.TransferAccepted {
			h.bank.state[ref] = []channels.TransferState{state, channels.TransferSucceeded, channels.TransferRejected, channels.TransferApproval}[r.IntN(4)]
		}
	}
	h.poll(25 * time.Hour)
	for _, p := range m.list {
		switch p.state {
		case payout.Sent, payout.BankApproval, payout.Unknown:
			p.state = map[channels.TransferState]payout.State{channels.TransferAccepted: payout.Sent, channels.TransferApproval: payout.BankApproval,
				channels.TransferSucceeded: payout.Succeeded, channels.TransferRejected: payout.Rejected}[h.bank.state[p.Number]]
			if p.state == payout.Rejected {
				m.available += p.Amount
			}
		}
	}
}

func (m *model) debit(h *house, r *rand.Rand) {
	h.t.Helper()
	p := m.pick(r, payout.Sent, payout.Unknown, payout.BankApproval, payout.Succeeded, payout.Rejected, payout.Requested)
	if p == nil {
		return
	}
	out, err := h.line(payout.BankLine{Number: p.Number, Account: "8801", BankRef: "D" + p.Number, Day: day, Amount: -p.Amount})
	switch {
	case p.state == payout.Rejected || p.state == payout.Requested:
		h.refused(errors.Join(err, out.Err), payout.ErrLine, "find out why")
	case err != nil || out.Err != nil || out.Replayed != p.debited:
		h.t.Fatal(err, out)
	case !p.debited:
		p.debited, p.state = true, payout.Succeeded
		h.bank.state[p.Number] = channels.TransferSucceeded
		m.custody -= p.Amount
	}
}

func (m *model) giveBack(h *house, r *rand.Rand) {
	h.t.Helper()
	p := m.pick(r, payout.Succeeded, payout.Returned)
	if p == nil || !p.debited {
		return
	}
	h.back(p.Payout)
	if p.cameBack {
		return
	}
	p.cameBack, p.state = true, payout.Returned
	m.custody += p.Amount
	if m.replaced[p.Payee] {
		m.available += p.Amount // the account was changed already
		return
	}
	p.frozen, m.replaced[p.Payee] = true, true
	// The account is changed and approved: what was frozen for it is available, and
	// what waits for the old one is refused.
	h.payee(payout.Payee{Hospital: "H2", UseFor: "HOSPITAL", Account: h.key(), Name: "民营医院", Bank: "工商银行", Replaces: p.Payee})
	for _, other := range m.list {
		if other.frozen && other.Payee == p.Payee {
			other.frozen = false
			m.available += other.Amount
		}
		if other.state == payout.Requested || other.state == payout.Approved {
			if _, err := h.Refuse(h.t.Context(), li, other.Number, "account changed"); err != nil {
				h.t.Fatal(err)
			}
			other.state = payout.Refused
			m.available += other.Amount
		}
	}
	h.at(h.clock().Add(25 * time.Hour))
}
