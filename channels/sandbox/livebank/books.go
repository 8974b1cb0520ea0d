package livebank

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// state is how far a transfer is, as pain.002 has it.
type state string

const (
	stateAccepted state = "ACSP"
	stateApproval state = "PATC" // a person of the bank looks (银行落地)
	stateDone     state = "ACSC"
	stateRejected state = "RJCT"
	stateReturned state = "RTND"
)

// transfer is one transfer. Its JSON is the record in the journal: the newest image
// stands. Times are Unix seconds.
type transfer struct {
	Ref    string     `json:"ref"`
	Batch  string     `json:"batch"`
	From   string     `json:"from"`
	To     string     `json:"to"`
	ToName string     `json:"to_name"`
	ToBank string     `json:"to_bank,omitempty"` // its CNAPS number, "" within the bank
	Fen    int64      `json:"fen"`
	Text   string     `json:"text"`
	Day    ledger.Day `json:"day"`
	State  state      `json:"st"`
	At     int64      `json:"at"` // of the state
	Reason string     `json:"why,omitempty"`
	Words  string     `json:"words,omitempty"`
	DueAt  int64      `json:"due,omitempty"` // when it goes on by itself, 0 = never
	Then   state      `json:"then,omitempty"`
	Return string     `json:"return,omitempty"` // the reason for which it comes back after its success
}

// entry is one movement of an account, as the bank has booked it.
type entry struct {
	Seq      int    `json:"seq"`
	Account  string `json:"a"`
	At       int64  `json:"at"`
	Fen      int64  `json:"fen"`             // above zero is a credit
	Party    string `json:"party,omitempty"` // the other side
	PartyAcc string `json:"party_acc,omitempty"`
	Code     string `json:"code"` // family and sub-family of ISO 20022, "RCDT/DMCT"
	EndToEnd string `json:"e2e"`
	Text     string `json:"text,omitempty"`
	Returned string `json:"returned,omitempty"` // the reason of a returned transfer

	// What a planted fault makes of its row in the statement.
	Missing bool  `json:"missing,omitempty"`
	Late    bool  `json:"late,omitempty"` // it stands in the next day's
	MoreFen int64 `json:"more,omitempty"`
}

// account is one account with its books.
type account struct {
	Account
	balance  int64
	reserved int64 // transfers that have not been booked yet
	entries  []*entry
}

// change is what happens at once: one line of the journal.
type change struct {
	Transfer *transfer  `json:"t,omitempty"`
	Entries  []entry    `json:"e,omitempty"`
	Faults   []Fault    `json:"f,omitempty"`
	Pulled   ledger.Day `json:"pulled,omitempty"`
}

// do keeps a change and lets it stand, under the lock.
func (s *Server) do(c change) {
	for i := range c.Entries {
		if e := &c.Entries[i]; e.Seq == 0 {
			e.Seq = len(s.entries) + 1 + i
			c.Faults = append(c.Faults, s.blemish(e)...)
		}
	}
	s.journal.Keep("change", &c)
	s.journal.Fail(s.apply(c))
}

func (s *Server) apply(c change) error {
	if t := c.Transfer; t != nil {
		from := s.accounts[t.From]
		if from == nil {
			return fmt.Errorf("%w: the books know account %s, the config does not", ErrRefused, t.From)
		}
		if was := s.transfers[t.Ref]; was != nil {
			from.reserved -= was.waiting()
		}
		from.reserved += t.waiting()
		s.transfers[t.Ref] = t
	}
	for i := range c.Entries {
		e := &c.Entries[i]
		on := s.accounts[e.Account]
		if on == nil {
			return fmt.Errorf("%w: the books know account %s, the config does not", ErrRefused, e.Account)
		}
		if e.Seq <= len(s.entries) { // a new image, of which only the row in the statement may differ
			*s.entries[e.Seq-1] = *e
			continue
		}
		s.entries = append(s.entries, e)
		on.entries = append(on.entries, e)
		on.balance += e.Fen
	}
	for _, f := range c.Faults {
		s.faults.Apply(f)
	}
	s.pulled = max(s.pulled, c.Pulled)
	return nil
}

// waiting is what a transfer keeps from being spent until it is booked.
func (t *transfer) waiting() int64 {
	if t.State == stateAccepted || t.State == stateApproval {
		return t.Fen
	}
	return 0
}

// bankRef is the bank's own number of an entry.
func (e *entry) bankRef() string {
	return fmt.Sprintf("C%s%09d", dayOf(e.At).Compact(), e.Seq)
}

// advance lets happen what is due by now, in its order, under the lock.
func (s *Server) advance() {
	now := s.cfg.Now().Unix()
	if s.pulled == 0 {
		s.do(change{Pulled: dayOf(now).Add(-1)})
	}
	for {
		next := s.nextDue(now)
		arrives := arrival(s.pulled.Add(1))
		switch {
		case arrives <= now && (next == nil || arrives <= next.DueAt):
			s.pull(s.pulled.Add(1), arrives)
		case next != nil:
			s.goOn(next)
		default:
			return
		}
	}
}

// nextDue is the transfer that goes on first, nil for none by now.
func (s *Server) nextDue(now int64) (next *transfer) {
	for _, t := range s.transfers {
		if t.DueAt > 0 && t.DueAt <= now && (next == nil || t.DueAt < next.DueAt || t.DueAt == next.DueAt && t.Ref < next.Ref) {
			next = t
		}
	}
	return next
}

// arrivalSecond is ten o'clock, when what channels paid out this morning is booked;
// returnSecond is nine, when what was returned comes back.
const (
	arrivalSecond = 36_000
	returnSecond  = 32_400
)

func dayOf(at int64) ledger.Day { return ledger.DayOf(time.Unix(at, 0)) }

// comingBack is when a transfer that succeeded at a time is returned: on the next
// day on which banks clear; public holidays are not modelled.
func comingBack(at int64) int64 {
	day := dayOf(at).Add(1)
	for day.Start().Weekday() == time.Saturday || day.Start().Weekday() == time.Sunday {
		day = day.Add(1)
	}
	return day.Start().Unix() + returnSecond
}

func arrival(day ledger.Day) int64 { return day.Start().Unix() + arrivalSecond }

// payers are the names under which channels pay out.
var payers = map[string]struct{ name, account, endToEnd, text string }{
	channels.WeChat: {"财付通支付科技有限公司", "243300133", "WXSETTLE", "微信支付商户结算"},
	channels.Alipay: {"支付宝（中国）网络技术有限公司", "215500690", "ALISETTLE", "支付宝提现"},
}

// pull books what arrives on a day. The remittance text names merchant number and
// date, as the channels write it.
func (s *Server) pull(day ledger.Day, at int64) {
	c := change{Pulled: day}
	for _, a := range s.cfg.Accounts {
		if s.cfg.Arriving == nil {
			break
		}
		for _, in := range s.cfg.Arriving(a.No, day) {
			by, date := payers[in.Channel], in.Day.Compact()
			e := entry{Account: a.No, At: at, Fen: in.Fen, Party: by.name, PartyAcc: by.account, Code: "RCDT/DMCT",
				EndToEnd: by.endToEnd + date, Text: strings.Join([]string{by.text, in.Merchant, date}, " ")}
			if in.Refund != "" {
				e.EndToEnd, e.Text = in.Refund, "微信支付异常退款 "+in.Refund
			}
			c.Entries = append(c.Entries, e)
		}
	}
	s.do(c)
}

// goOn lets a transfer go on: it succeeds, is rejected, or comes back.
func (s *Server) goOn(was *transfer) {
	t := *was
	at := t.DueAt
	t.State, t.At, t.DueAt, t.Then = t.Then, at, 0, ""
	c := change{Transfer: &t}
	switch t.State {
	case stateDone:
		c.Entries = s.booked(&t, at)
		if t.Return != "" {
			t.Then, t.DueAt = stateReturned, comingBack(at)
		}
	case stateReturned:
		t.Reason, t.Words = t.Return, reasonText(t.Return)
		c.Entries = []entry{{Account: t.From, At: at, Fen: t.Fen, Party: t.ToName, PartyAcc: t.To, Code: "RCDT/RRTN", EndToEnd: t.Ref,
			Text: "退票 " + t.Words, Returned: t.Reason}}
	}
	s.do(c)
}

// booked are the entries of a transfer that succeeds: the debit, the credit where
// the payee has its account here, and the bank's fee where it leaves the bank.
func (s *Server) booked(t *transfer, at int64) []entry {
	list := []entry{{Account: t.From, At: at, Fen: -t.Fen, Party: t.ToName, PartyAcc: t.To, Code: "ICDT/DMCT", EndToEnd: t.Ref, Text: t.Text}}
	if to := s.accounts[t.To]; to != nil {
		return append(list, entry{Account: t.To, At: at, Fen: t.Fen, Party: s.accounts[t.From].Name, PartyAcc: t.From, Code: "RCDT/DMCT", EndToEnd: t.Ref, Text: t.Text})
	}
	if s.cfg.FeeFen > 0 {
		list = append(list, entry{Account: t.From, At: at, Fen: -s.cfg.FeeFen, Code: "ICDT/CHRG", EndToEnd: "FEE" + t.Ref, Text: "转账手续费"})
	}
	return list
}

// reasonTexts are what the bank writes beside a code of ISO 20022.
var reasonTexts = map[string]string{
	"AC01": "账号户名不符", "AC04": "账户已销户", "AC06": "账户已冻结", "AM04": "余额不足", "AM05": "参考号已使用", "AC02": "付款账号不符",
	"BE01": "户名不符", "RC01": "行号错误", "NOOR": "无此参考号", "RR04": "监管拒绝",
}

func reasonText(code string) string {
	if text, ok := reasonTexts[code]; ok {
		return text
	}
	return "银行拒绝"
}

// row is where an entry stands in the statements and with what amount; ok is false
// where a fault has taken it out.
func (e *entry) row() (day ledger.Day, fen int64, ok bool) {
	day = dayOf(e.At)
	if e.Late {
		day = day.Add(1)
	}
	return day, e.Fen + e.MoreFen, !e.Missing
}

// rows are the entries of an account's statement, and the balance before them.
func (a *account) rows(day ledger.Day) (opening int64, rows []*entry) {
	opening = a.OpeningFen
	for _, e := range a.entries {
		switch on, fen, ok := e.row(); {
		case ok && on < day:
			opening += fen
		case ok && on == day:
			rows = append(rows, e)
		}
	}
	slices.SortStableFunc(rows, func(x, y *entry) int { return int(x.At - y.At) })
	return opening, rows
}
