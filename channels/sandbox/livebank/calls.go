package livebank

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/bank"
	"github.com/clearward/clearward/ledger"
)

// takeTransfers takes a pain.001, each transfer by itself. A reference that is there
// is answered with its state and AM05, and not taken again.
func (s *Server) takeTransfers(a *asked) said {
	order, err := bank.ReadOrder(a.body)
	if err != nil {
		return said{status: http.StatusBadRequest}
	}
	report := bank.Report{ID: "PSR" + order.Batch, At: time.Unix(a.now, 0), Batch: order.Batch, Group: "PART", Part: order.Batch + "-1"}
	for i := range order.Transfers {
		asked := &order.Transfers[i]
		if was := s.transfers[asked.Ref]; was != nil {
			status := s.status(was)
			status.Reason, status.Text = "AM05", reasonText("AM05")
			report.List = append(report.List, status)
			continue
		}
		t := s.accept(asked, a.now)
		if s.accounts[t.From] != nil {
			s.do(change{Transfer: t})
		}
		report.List = append(report.List, s.status(t))
	}
	body, err := report.XML()
	return said{http.StatusOK, body, err}
}

// accept decides on a transfer that is new.
func (s *Server) accept(asked *channels.Transfer, now int64) *transfer {
	t := &transfer{Ref: asked.Ref, Batch: asked.Batch, From: asked.FromAccount, To: asked.ToAccount, ToName: asked.ToName, ToBank: asked.ToBankCode,
		Fen: int64(asked.Amount), Text: asked.Text, Day: asked.RequestedDay, State: stateAccepted, At: now, Then: stateDone, DueAt: now + s.cfg.SuccessIn}
	from, to := s.accounts[t.From], s.accounts[t.To]
	switch {
	case from == nil:
		t.reject("AC02", "")
	case to != nil && to.Name != t.ToName:
		t.reject("BE01", "")
	case t.Fen > from.balance-from.reserved:
		t.reject("AM04", "")
	}
	if t.State == stateRejected {
		return t
	}
	f := s.take(transferFaults, about{ref: t.Ref, account: t.From, party: t.To})
	if f == nil {
		return t
	}
	if f.Code == "" {
		f.Code = "AC01"
	}
	switch {
	case f.Do == FaultReturn:
		t.Return = f.Code
	case f.Do == FaultSlow:
		t.DueAt = now + f.Seconds
		if f.Code == string(stateApproval) {
			t.State = stateApproval
		}
	case f.Seconds > 0:
		t.Then, t.DueAt, t.Reason, t.Words = stateRejected, now+f.Seconds, f.Code, cmp.Or(f.Text, reasonText(f.Code))
	default:
		t.reject(f.Code, f.Text)
	}
	return t
}

func (t *transfer) reject(code, words string) {
	t.State, t.Reason, t.Words, t.Then, t.DueAt = stateRejected, code, cmp.Or(words, reasonText(code)), "", 0
}

// status is a transfer as pain.002 has it. The reason of a rejection that is still
// to come is nobody's business.
func (s *Server) status(t *transfer) bank.Status {
	is := bank.Status{Ref: t.Ref, Code: string(t.State), At: time.Unix(t.At, 0), Amount: ledger.Money(t.Fen)}
	if t.State == stateRejected || t.State == stateReturned {
		is.Reason, is.Text = t.Reason, t.Words
	}
	if e := s.debit(t); e != nil {
		is.BankRef = e.bankRef()
	}
	return is
}

// debit is the entry by which a transfer left its account, nil before it did.
func (s *Server) debit(t *transfer) *entry {
	from := s.accounts[t.From]
	if from == nil || t.State != stateDone && t.State != stateReturned {
		return nil
	}
	for _, e := range slices.Backward(from.entries) {
		if e.EndToEnd == t.Ref && e.Fen < 0 {
			return e
		}
	}
	return nil
}

// queryTransfer answers with one status; a reference that is not there is NOOR.
func (s *Server) queryTransfer(a *asked) said {
	report := bank.Report{ID: "PSQ" + a.ref, At: time.Unix(a.now, 0), Batch: "NOTPROVIDED", Part: "NOTPROVIDED"}
	if t := s.transfers[a.ref]; t != nil {
		report.Batch, report.Part, report.List = t.Batch, t.Batch+"-1", []bank.Status{s.status(t)}
	} else {
		report.List = []bank.Status{{Ref: a.ref, Code: string(stateRejected), Reason: "NOOR", Text: reasonText("NOOR")}}
	}
	body, err := report.XML()
	return said{http.StatusOK, body, err}
}

// statementSecond is eight o'clock, when the statement of the day before is made.
const statementSecond = 28_800

// report answers a camt.060: the balance now, or the statement of a day.
func (s *Server) report(a *asked) said {
	on := s.accounts[a.request.Account]
	if on == nil {
		return said{status: http.StatusNotFound}
	}
	if a.api == "balance" {
		b := bank.Balance{Account: on.No, Made: written(time.Unix(a.now, 0)), Booked: ledger.Money(on.balance), Available: ledger.Money(on.balance - on.reserved)}
		body, err := b.XML()
		return said{http.StatusOK, body, err}
	}
	day, err := ledger.ParseDay(a.request.From)
	if err != nil || a.request.To != a.request.From {
		return said{status: http.StatusBadRequest}
	}
	if a.now < day.Add(1).Start().Unix()+statementSecond {
		return said{status: http.StatusAccepted}
	}
	body, err := s.statement(on, day)
	return said{http.StatusOK, body, err}
}

func written(at time.Time) string { return at.In(ledger.Beijing).Format(time.RFC3339) }

// receipt is the electronic receipt of a transfer that succeeded.
func (s *Server) receipt(a *asked) said {
	t := s.transfers[a.ref]
	if t == nil {
		return said{status: http.StatusNotFound}
	}
	e := s.debit(t)
	if e == nil {
		return said{status: http.StatusAccepted}
	}
	lines := []string{"电子回单", "回单号 " + e.bankRef(), "业务参考号 " + t.Ref, "付款账号 " + t.From, "付款户名 " + s.accounts[t.From].Name,
		"收款账号 " + t.To, "收款户名 " + t.ToName, "金额 " + ledger.Money(t.Fen).String() + " 元", "用途 " + t.Text, "记账时间 " + written(time.Unix(e.At, 0))}
	text := strings.Join(lines, "\n") + "\n"
	sum := sha256.Sum256([]byte(text))
	body, err := xml.Marshal(bank.Paper{Ref: t.Ref, Name: fmt.Sprintf("receipt-%s.txt", t.Ref), CheckCode: hex.EncodeToString(sum[:4]),
		Content: base64.StdEncoding.EncodeToString([]byte(text))})
	return said{http.StatusOK, body, err}
}
