package payout_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
)

// edit changes a row as a hand in the database would.
func (h *house) edit(sql string, args ...any) {
	h.t.Helper()
	if _, err := h.DB.Pool.Exec(h.t.Context(), sql, args...); err != nil {
		h.t.Fatal(err)
	}
}

// K01, U17, U22, prohibitions 1, 5, 6; each refusal with its message, and nothing
// is stored or posted.
func TestWhatMayNotBeAskedForIsRefusedWithTheRule(t *testing.T) {
	h := open(t)
	with := func(name string, change func(*payout.Request)) payout.Request {
		r := requests[name]
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		r    payout.Request
		want error
		says string
	}{
		"mode A": {with("SUBSIDY", func(r *payout.Request) { r.Kind, r.Subject, r.Contract = payout.Hospital, "", "" }), payout.ErrForbidden,
			"hospital H1 is public: settle mode B, and with it a hospital payout, is refused"},
		"subsidy in mode B":     {with("SUBSIDY", func(r *payout.Request) { r.Hospital = "H2" }), payout.ErrForbidden, "a SUBSIDY payout is not of settle mode B"},
		"top-up in mode A":      {with("FEE_TOPUP", func(r *payout.Request) { r.Hospital = "H1" }), payout.ErrForbidden, "a FEE_TOPUP payout is not of settle mode A"},
		"no contract":           {with("SUBSIDY", func(r *payout.Request) { r.Contract = "" }), payout.ErrRequest, "names its contract"},
		"more than 2242 owes":   {with("SUBSIDY", func(r *payout.Request) { r.Amount = 601 }), payout.ErrOwed, "2242.H1 owes 6.00 for S1, 6.01 is asked"},
		"unknown settlement":    {with("SUBSIDY", func(r *payout.Request) { r.Subject = "S9" }), payout.ErrOwed, "owes 0.00 for S9"},
		"other purpose":         {with("REROUTED_REFUND A", func(r *payout.Request) { r.Purpose = "个人提现" }), payout.ErrForbidden, `"个人提现" is no purpose of a REROUTED_REFUND payout`},
		"no proof":              {with("REROUTED_REFUND A", func(r *payout.Request) { r.Patient = &payout.Patient{Name: "钱", Account: "1", Reason: "x"} }), payout.ErrRequest, "the reason and the proof"},
		"patient of a hospital": {with("HOSPITAL", func(r *payout.Request) { r.Patient = patient }), payout.ErrRequest, "goes to the patient, and no other payout does"},
		"another's number":      {with("REROUTED_REFUND A", func(r *payout.Request) { r.MerchantNo = "W2" }), payout.ErrRequest, "WECHAT W2 is no merchant number of hospital H1"},
		"too much":              {with("HOSPITAL", func(r *payout.Request) { r.Amount = 100001 }), ledger.ErrFloor, "2202.H2.AVAIL has 1000.00 available, 1000.01 was asked"},
		"another's account":     {with("HOSPITAL", func(r *payout.Request) { r.From = "6801" }), payout.ErrRequest, `"6801" cannot pay a HOSPITAL payout of hospital H2`},
		"nothing":               {with("HOSPITAL", func(r *payout.Request) { r.Amount = 0 }), payout.ErrRequest, "must be above zero"},
		"unknown payee":         {with("HOSPITAL", func(r *payout.Request) { r.Payee = "PE1" }), payout.ErrPayee, `"PE1" is no approved HOSPITAL payee of hospital H2`},
		"custody too small":     {with("RECHARGE B", func(r *payout.Request) { r.Amount = 100001 }), payout.ErrCustody, "8801 holds 1000.00 of hospital H2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.Request(t.Context(), "api", h.key(), wang, c.r)
			h.refused(err, c.want, c.says)
		})
	}
	if n := count(h.DB, t, `SELECT count(*) FROM payouts`); n != 0 {
		t.Errorf("%d payouts are stored", n)
	}
	_, err := h.Request(t.Context(), "api", h.key(), li, requests["HOSPITAL"])
	h.refused(err, payout.ErrLimit, "李主管 as FINANCE_HEAD may not ask for payouts")
	h.verify()
}

// U22: mode A has no hospital payout, also for a private hospital.
func TestAPrivateHospitalOnModeAHasNoHospitalPayout(t *testing.T) {
	h := open(t)
	r := requests["HOSPITAL"]
	h.edit(`INSERT INTO hospitals (code, name, region, ownership, his_calls) VALUES ('H3', '私立三院', 'R1', 'PRIVATE', 'APP')`)
	r.Hospital = "H3"
	_, err := h.Request(t.Context(), "api", h.key(), wang, r)
	h.refused(err, payout.ErrForbidden, "hospital H3 is on settle mode A: the channel pays its own account, there is no hospital payout; what is approved is subsidy")
	for _, sql := range []string{
		`UPDATE payouts SET mode = 'A'`, `UPDATE payouts SET maker = checker`, `UPDATE payouts SET checker = maker`, `UPDATE payouts SET amount_fen = 0`,
		`UPDATE payouts SET state = 'SENT'`, `INSERT INTO payout_approvals (number, person, maker, role, factor, payload, day, at) SELECT number, maker, maker, 'R', 'f', payload, day, now() FROM payouts`,
	} {
		if h.keys < 100 {
			h.request(requests["HOSPITAL"])
			h.keys = 100
		}
		if _, err := h.DB.Pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "violates") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestAReplayReturnsTheFirstPayoutAndAnotherBodyIsAConflict(t *testing.T) {
	h := open(t)
	for _, name := range []string{"HOSPITAL", "REROUTED_REFUND A"} {
		r := requests[name]
		one, err := h.Request(t.Context(), "api", "k "+name, wang, r)
		if err != nil {
			t.Fatal(err)
		}
		two, err := h.Request(t.Context(), "api", "k "+name, wang, r)
		if err != nil || two.Number != one.Number {
			t.Errorf("%s, %v, want %s", two.Number, err, one.Number)
		}
		r.Amount--
		_, err = h.Request(t.Context(), "api", "k "+name, wang, r)
		h.refused(err, ledger.ErrKeyConflict, "with another")
	}
	r := requests["REROUTED_REFUND A"]
	other := *patient
	other.Account = "6222020000000002"
	r.Patient = &other
	_, err := h.Request(t.Context(), "api", "k REROUTED_REFUND A", wang, r)
	h.refused(err, ledger.ErrKeyConflict, "Mark")
	h.verify()
}

// U17: the same payee, amount and day ask for a reason; one subject is paid once.
func TestARepeatedPayoutAsksForItsReason(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	_, err := h.Request(t.Context(), "api", h.key(), wang, requests["HOSPITAL"])
	h.refused(err, payout.ErrRepeated, "payout "+p.Number+" pays the same payee the same 300.00 today")
	r := requests["HOSPITAL"]
	r.RepeatReason = "分两笔结算"
	h.request(r)
	s := h.request(requests["SUBSIDY"])
	again := requests["SUBSIDY"]
	again.RepeatReason = "x"
	_, err = h.Request(t.Context(), "api", h.key(), wang, again)
	h.refused(err, payout.ErrOwed, "payout "+s.Number+" for S1 waits already")
	h.verify()
}

// Scenario 61, K03, B21.
func TestWhatMayNotBeApprovedIsRefusedAndOnRecord(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	try := func(by payout.Person, change func(*payout.Approval)) error {
		a := approval(p)
		change(&a)
		_, err := h.Approve(t.Context(), by, a)
		return err
	}
	same := func(*payout.Approval) {}
	h.refused(try(payout.Person{Name: wang.Name, Role: "FINANCE_HEAD"}, same), payout.ErrSamePerson, "王出纳 asked for payout")
	h.refused(try(payout.Person{Name: op.Name, Role: "FINANCE_HEAD"}, same), payout.ErrSamePerson, "孙运营 proposed the account that payout")
	h.refused(try(op, same), payout.ErrSamePerson, "孙运营")
	h.refused(try(payout.Person{Name: "外人", Role: "CASHIER"}, same), payout.ErrLimit, "外人 as CASHIER may not approve payouts")
	h.refused(try(li, func(a *payout.Approval) { a.Code = "111111" }), errCode, "second factor: the code is wrong")
	h.refused(try(li, func(a *payout.Approval) { a.Sum++ }), payout.ErrTotals, "1 payouts of 300.00 (叁佰元整) are to be approved, 1 of 300.01 were read back")
	h.refused(try(li, func(a *payout.Approval) { a.Count = 2 }), payout.ErrTotals, "2 of 300.00 were read back")
	h.refused(try(li, func(a *payout.Approval) { a.Items[0].Payload = make([]byte, 32) }), payout.ErrEdited, "is not what was shown")
	h.refused(try(li, func(a *payout.Approval) { a.Items[0].Payload = nil }), payout.ErrReadBack, "says what was shown")
	h.refused(try(li, func(a *payout.Approval) { a.Items[0].Number = "HB1" }), payout.ErrUnknownPayout, "payout HB1 is not known")
	h.edit(`UPDATE payouts SET amount_fen = 20000`)
	h.refused(try(li, func(a *payout.Approval) { a.Sum = 20000 }), payout.ErrEdited, "was edited after it was asked for")
	h.edit(`UPDATE payouts SET amount_fen = 30000`)
	h.is(p.Number, payout.Requested)
	if n := count(h.DB, t, `SELECT count(*) FROM events WHERE kind = 'payout.approval_refused'`); n != 5 {
		t.Errorf("%d refusals are on record, want 5", n)
	}
	h.approve(p)
	h.approve(p) // again changes nothing
	h.refused(func() error { _, err := h.Approve(t.Context(), zhao, approval(p)); return err }(), payout.ErrState, "is approved: only a requested one is approved")
	if n := count(h.DB, t, `SELECT count(*) FROM payout_approvals WHERE factor = 'totp-李主管' AND person = '李主管'`); n != 1 {
		t.Errorf("%d approvals with their factor", n)
	}
	h.verify()
}

func TestLimitsOfARoleAndBandsOfAmounts(t *testing.T) {
	h := open(t)
	h.edit(`INSERT INTO payout_limits (role, act, from_day, each_fen, day_fen) VALUES ('FINANCE_HEAD', 'APPROVE', 20260915, 30000, 50000), ('FINANCE_HEAD', 'APPROVE', 20260916, 1, 1)`)
	h.edit(`INSERT INTO payout_bands (from_day, above_fen, checkers) VALUES (20260915, 0, 1), (20260915, 29999, 2)`)
	r := requests["HOSPITAL"]
	big := h.request(r)
	r.Amount = 20001
	small := h.request(r)
	r.Amount = 30001
	_, err := h.Approve(t.Context(), li, approval(h.request(r)))
	h.refused(err, payout.ErrLimit, "the amount is 300.01, the limit of FINANCE_HEAD is 300.00 for one payout")
	h.approve(big)
	h.is(big.Number, payout.Requested) // the second checker is missing
	_, err = h.Approve(t.Context(), li, approval(small))
	h.refused(err, payout.ErrLimit, "the day's sum of 李主管 would be 500.01, the limit of FINANCE_HEAD is 500.00 a day")
	if _, err := h.Approve(t.Context(), zhao, approval(big)); err != nil {
		t.Fatal(err)
	}
	h.is(big.Number, payout.Approved)
	h.verify()
}

// Scenario 61: a payout to an account changed less than 24 hours ago.
func TestANewAccountIsHeldForADay(t *testing.T) {
	h := open(t)
	p, q := h.request(requests["HOSPITAL"]), h.request(requests["COMPENSATION B"])
	h.approve(q)
	y, err := h.ProposePayee(t.Context(), "api", h.key(), op, payout.Payee{Hospital: "H2", UseFor: "HOSPITAL", Account: "H2-NEW", Name: "民营医院", Bank: "农业银行", CNAPS: "103100000026", Replaces: p.Payee})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.ApprovePayee(t.Context(), payout.Person{Name: op.Name, Role: "FINANCE_HEAD"}, y.ID, "000000")
	h.refused(err, payout.ErrSamePerson, "孙运营 proposed payee")
	_, err = h.ApprovePayee(t.Context(), wang, y.ID, "000000")
	h.refused(err, payout.ErrLimit, "王出纳 as TREASURER may not approve payees")
	if _, err = h.ApprovePayee(t.Context(), li, y.ID, "000000"); err != nil {
		t.Fatal(err)
	}
	_, err = h.ApprovePayee(t.Context(), zhao, y.ID, "000000")
	h.refused(err, payout.ErrState, "is decided already")
	_, err = h.Approve(t.Context(), li, approval(p))
	h.refused(err, payout.ErrPayee, "account H2-OWN was changed: it is replaced; refuse this payout and ask for it again")
	_, err = h.Request(t.Context(), "api", h.key(), wang, payout.Request{Kind: payout.Hospital, Hospital: "H2", Amount: 1})
	h.refused(err, payout.ErrPayeeHeld, "account H2-NEW is new or was changed: it is held until 2026-09-16 10:00")
	h.send(0, 1)
	if got := h.is(q.Number, payout.Approved); !strings.Contains(got.Held, "account H2-OWN was changed") || !got.NextAt.IsZero() {
		t.Errorf("%+v", got)
	}
	for _, p := range []payout.Payout{p, q} {
		if _, err := h.Refuse(t.Context(), li, p.Number, "账户已变更"); err != nil {
			t.Fatal(err)
		}
		h.is(p.Number, payout.Refused)
	}
	if b := h.balances(); b["2202.H2.AVAIL"] != 100000 || b["2202.H2.FROZEN"] != 0 {
		t.Errorf("%v", b)
	}
	h.verify()
}

func TestOnlyThePayeesOfTheRulesAreProposed(t *testing.T) {
	h := open(t)
	for says, y := range map[string]payout.Payee{
		"a hospital is paid on an account in its own name": {Hospital: "H1", UseFor: "HOSPITAL", Account: "1", Name: "张三", Bank: "工商银行"},
		"is no bank code of 12 digits":                     {Hospital: "H1", UseFor: "HOSPITAL", Account: "1", Name: "海天示范医院", Bank: "工商银行", CNAPS: "1021"},
		"account H1-OWN is active already":                 {Hospital: "H1", UseFor: "HOSPITAL", Account: "H1-OWN", Name: "海天示范医院", Bank: "工商银行"},
		"is no custody account of hospital H1":             {Hospital: "H1", UseFor: "CUSTODY", Account: "8801", Name: "存管专户", Bank: "招商银行"},
		"could be replaced":                                {Hospital: "H1", UseFor: "HOSPITAL", Account: "1", Name: "海天示范医院", Bank: "工商银行", Replaces: "PE1"},
		"needs account, name and bank":                     {Hospital: "H1", UseFor: "HOSPITAL", Account: "1", Name: "海天示范医院"},
		`"OTHER" is none of`:                               {Hospital: "H1", UseFor: "OTHER", Account: "1", Name: "海天示范医院", Bank: "x"},
		`hospital "H9" is not known`:                       {Hospital: "H9"},
	} {
		_, err := h.ProposePayee(t.Context(), "api", h.key(), op, y)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	y, err := h.ProposePayee(t.Context(), "api", h.key(), op, payout.Payee{Hospital: "H1", UseFor: "HOSPITAL", Account: "2", Name: "海天示范医院", Bank: "工商银行"})
	if err != nil {
		t.Fatal(err)
	}
	if y, err = h.RefusePayee(t.Context(), li, y.ID, "开户证明不符"); err != nil || y.State != "REFUSED" || y.Reason != "开户证明不符" {
		t.Errorf("%+v, %v", y, err)
	}
}

func TestAnAmountEditedAfterApprovalIsNotSent(t *testing.T) {
	h := open(t)
	p, q := h.request(requests["HOSPITAL"]), h.request(requests["REROUTED_REFUND B"])
	h.approve(p, q)
	h.edit(`UPDATE payouts SET amount_fen = 30001 WHERE number = $1`, p.Number)
	h.edit(`DELETE FROM payout_people`)
	h.edit(`INSERT INTO payout_people (number, account, name, bank, cnaps, reason, proof) VALUES ($1, 'X', '钱病人', 'x', '', 'x', 'x')`, q.Number)
	h.send(0, 2)
	if len(h.bank.sent) != 0 {
		t.Errorf("sent %v", h.bank.sent)
	}
	for number, says := range map[string]string{p.Number: "was edited after it was asked for", q.Number: "name or account of payout"} {
		if got := h.is(number, payout.Approved); !strings.Contains(got.Held, says) {
			t.Errorf("held %q, want %q", got.Held, says)
		}
	}
	if n := count(h.DB, t, `SELECT count(*) FROM events WHERE kind = 'payout.sending_refused'`); n != 2 {
		t.Errorf("%d are on record", n)
	}
	found, err := ledger.Verify(t.Context(), h.DB, payout.Controls()...)
	if err != nil || len(found) != 2 { // FROZEN, and the hash
		t.Errorf("%v, %v", found, err)
	}
}

// L21: name and account of a patient stand in one erasable table.
func TestAPatientsNameStandsNowhereElse(t *testing.T) {
	h := open(t)
	p := h.request(requests["REROUTED_REFUND A"])
	h.approve(p)
	h.send(1, 0)
	h.debit(p)
	if got := h.bank.sent[0]; got.ToName != patient.Name || got.ToAccount != patient.Account || got.FromAccount != "6801" || got.FromName != "海天示范医院" {
		t.Errorf("the bank was told %+v", got)
	}
	for _, table := range []string{"payouts", "requests", "entries", "postings", "events", "payout_approvals", "payout_lines"} {
		sql := fmt.Sprintf(`SELECT count(*) FROM %s AS t WHERE t::TEXT LIKE $1 OR t::TEXT LIKE $2`, table)
		if n := count(h.DB, t, sql, "%"+patient.Name+"%", "%"+patient.Account+"%"); n != 0 {
			t.Errorf("%d rows of %s name the patient", n, table)
		}
	}
	h.edit(`DELETE FROM payout_people`)
	h.verify()
}

// U16.
func TestBalanceAndCutOffAreLookedAtBeforeSending(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	h.bank.balance = 29999
	h.send(0, 1)
	if got := h.get(p.Number); got.Held != "account 8801 has 299.99 available, 300.00 is to be paid; tried again in the window of 2026-09-15 10:30" {
		t.Errorf("held %q", got.Held)
	}
	h.bank.balance = 30000
	h.at(time.Date(2026, 9, 18, 9, 0, 0, 0, time.UTC)) // Friday 17:00
	h.send(0, 1)
	if got := h.get(p.Number); got.Held != "the bank takes no transfer of account 8801 at 2026-09-18 17:00; the next window opens 2026-09-21 08:30" {
		t.Errorf("held %q", got.Held)
	}
	h.at(time.Date(2026, 9, 20, 4, 0, 0, 0, time.UTC))
	h.send(0, 0)
	h.at(time.Date(2026, 9, 21, 0, 30, 0, 0, time.UTC))
	h.send(1, 0)
	if got := h.is(p.Number, payout.Sent); got.Held != "" {
		t.Errorf("held %q", got.Held)
	}
	h.verify()
}

// U21.
func TestOnePausesAndTwoResume(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	on, err := h.Pause(t.Context(), wang, "银行来电核实")
	if err != nil || on == nil || on.PausedBy != wang.Name {
		t.Fatal(on, err)
	}
	_, err = h.Send(t.Context(), h.clock())
	h.refused(err, payout.ErrPaused, "payouts are paused since 2026-09-15 10:00 by 王出纳: 银行来电核实; two people resume")
	for range 2 {
		if on, err = h.Resume(t.Context(), li); err != nil || on == nil || on.AskedBy != li.Name {
			t.Fatal(on, err)
		}
	}
	if on, err = h.Resume(t.Context(), zhao); err != nil || on != nil {
		t.Fatal(on, err)
	}
	h.send(1, 0)
}

// The switch is pressed while a message is on its way: that message is gone, and
// nothing after it.
func TestAPauseDuringSendingStopsTheNextMessage(t *testing.T) {
	h := open(t)
	var list []payout.Payout
	for i := range 31 { // two messages
		r := requests["HOSPITAL"]
		r.Amount = ledger.Money(100 + i)
		list = append(list, h.request(r))
	}
	h.approve(list...)
	h.bank.during = func() {
		h.bank.during = nil
		if _, err := h.Pause(t.Context(), wang, "停"); err != nil {
			t.Error(err)
		}
	}
	got, err := h.Send(t.Context(), h.clock())
	h.refused(err, payout.ErrPaused, "paused")
	if got.Sent != 30 || len(h.bank.sent) != 30 {
		t.Errorf("%+v, %d told to the bank", got, len(h.bank.sent))
	}
	h.verify()
}

func TestOfTwoApproversAndTwoSendersOneCounts(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	var all sync.WaitGroup
	errs := make(chan error, 2)
	for _, by := range []payout.Person{li, zhao} {
		all.Go(func() { _, err := h.Approve(t.Context(), by, approval(p)); errs <- err })
	}
	all.Wait()
	one, two := <-errs, <-errs
	if (one == nil) == (two == nil) || !errors.Is(errors.Join(one, two), payout.ErrState) {
		t.Errorf("%v, %v", one, two)
	}
	for range 4 {
		all.Go(func() {
			if _, err := h.Send(t.Context(), h.clock()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(h.bank.sent) != 1 {
		t.Errorf("sent %d times", len(h.bank.sent))
	}
	h.verify()
}

// A kill between SENDING and the bank's answer: the bank is asked, not told again.
func TestAKillWhileTheBankIsCalledIsRecoveredByAQuery(t *testing.T) {
	for _, arrived := range []bool{true, false} {
		h := open(t)
		p := h.request(requests["HOSPITAL"])
		h.approve(p)
		h.bank.answer = func(tr channels.Transfer) channels.TransferState {
			if arrived {
				h.bank.state[tr.Ref] = channels.TransferSucceeded
			}
			return channels.TransferUnknown
		}
		// The row as a kill leaves it: SENDING was committed, no answer was kept.
		h.bank.during = func() { h.bank.during = nil; h.edit(`UPDATE payouts SET rev = rev + 0`) }
		h.send(1, 0)
		h.edit(`UPDATE payouts SET state = 'SENDING', reason_kind = '', next_at = sent_at + INTERVAL '10 seconds', tries = 0`)
		h.send(0, 0)
		h.poll(10 * time.Second)
		if want := map[bool]payout.State{true: payout.Succeeded, false: payout.Unknown}[arrived]; h.get(p.Number).State != want {
			t.Errorf("it is %s, want %s", h.get(p.Number).State, want)
		}
		if len(h.bank.sent) != 1 {
			t.Errorf("sent %d times", len(h.bank.sent))
		}
		h.verify()
	}
}

func TestALineThatDoesNotFitIsRefused(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	good := payout.BankLine{Number: p.Number, Account: "8801", BankRef: "D1", Day: day, Amount: -30000}
	try := func(says string, want error, change func(*payout.BankLine)) {
		t.Helper()
		l := good
		change(&l)
		out, err := h.line(l)
		h.refused(errors.Join(err, out.Err), want, says)
	}
	try("is approved and line D1 takes its money", payout.ErrLine, func(*payout.BankLine) {})
	h.send(1, 0)
	try("line D1 is of -300.01", payout.ErrLine, func(l *payout.BankLine) { l.Amount-- })
	try("line D1 is of account 0001", payout.ErrLine, func(l *payout.BankLine) { l.Account = "0001" })
	try("payout HB1 is not known", payout.ErrUnknownPayout, func(l *payout.BankLine) { l.Number = "HB1" })
	try("no line has taken it yet", payout.ErrLine, func(l *payout.BankLine) { l.Amount, l.Return = 30000, true })
	try("a credit without return is none of its lines", payout.ErrLine, func(l *payout.BankLine) { l.Amount = 30000 })
	h.mustLine(good)
	try("takes the money a second time", payout.ErrLine, func(l *payout.BankLine) { l.BankRef = "D2" })
	h.verify()
}

// U20.
func TestAMissingReceiptIsListedTheDayAfter(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	h.bank.answer = func(channels.Transfer) channels.TransferState { return channels.TransferSucceeded }
	h.send(1, 0)
	for after, want := range map[time.Duration]int{0: 0, 24 * time.Hour: 1} {
		list, err := h.MissingReceipts(t.Context(), tuesday.Add(after))
		if err != nil || len(list) != want {
			t.Errorf("after %s: %d, %v", after, len(list), err)
		}
	}
	_, err := h.Receipt(t.Context(), p.Number)
	h.refused(err, payout.ErrUnknownPayout, "has no receipt yet")
	h.bank.state[p.Number] = channels.TransferSucceeded
	h.poll(24 * time.Hour)
	if list, err := h.MissingReceipts(t.Context(), h.clock().Add(24*time.Hour)); err != nil || len(list) != 0 {
		t.Errorf("%d, %v", len(list), err)
	}
	if got := h.get(p.Number); !got.NextAt.IsZero() {
		t.Errorf("it is looked at again %s", got.NextAt)
	}
}

// Prohibition 4: one hospital is not paid out of another's money, although custody
// keeps both on one account.
func TestCustodyPaysAHospitalNoMoreThanItHoldsOfIt(t *testing.T) {
	h := open(t)
	one, two := requests["RECHARGE B"], requests["HOSPITAL"]
	one.Amount, two.Amount = 60000, 50000
	p, q := h.request(one), h.request(two)
	again := one
	again.Amount = 30000
	s := h.request(again)
	h.approve(p, q, s)
	if sum, err := h.Send(t.Context(), h.clock()); err != nil || len(h.bank.sent) >= 3 {
		t.Errorf("%+v, %v; sent %v", sum, err, h.bank.sent)
	}
	var out ledger.Money
	for _, tr := range h.bank.sent {
		out += tr.Amount
	}
	held := 0
	for _, number := range []string{p.Number, q.Number, s.Number} {
		if got := h.get(number); strings.Contains(got.Held, "of hospital H2 that is not on its way out") && got.NextAt.Equal(h.clock().Add(30*time.Minute)) {
			held++
		}
	}
	if out > 100000 || held+len(h.bank.sent) != 3 || held == 0 {
		t.Errorf("%s left of 1000.00, %d held, %d sent", out, held, len(h.bank.sent))
	}
	h.verify()
}

// closedRefund is refund R1 as clearing/pay leaves it when the channel closed it:
// the debt stands in 2205 and nothing at the channel pays it.
func (h *house) closedRefund(status string) {
	h.t.Helper()
	h.edit(`INSERT INTO payments (hospital, order_no, channel, merchant_no, trade_no, amount_fen, settle_fen, fee_fen, occurred_at, status, bill_no, biz_type,
			terminal, patient_ref, fund_day, digest, live, requested_fen, posted)
		VALUES ('H1', 'P1', 'WECHAT', 'W1', 'T1', 12000, 12000, 0, $1, 'SUCCESS', 'B1', '', '', '', 20260915, 0, TRUE, 12000, TRUE)`, tuesday)
	h.edit(`INSERT INTO refunds (hospital, kind, refund_no, order_no, payment_no, channel, merchant_no, trade_no, amount_fen, settle_fen, fee_fen, occurred_at, status,
			bill_no, biz_type, terminal, patient_ref, fund_day, digest, debt_no, owed_fen, owed_day, debit)
		VALUES ('H1', 'REFUND', 'R1', 'P1', 'P1', 'WECHAT', 'W1', 'T1', 12000, 0, 0, $1, $2, 'B1', '', '', '', 20260915, 0, 'R1', 12000, 20260915, 'J18')`, tuesday, status)
}

func (h *house) refundIs(status string, refunded, requested int) {
	h.t.Helper()
	if n := count(h.DB, h.t, `SELECT count(*) FROM refunds AS r JOIN payments AS p ON p.hospital = r.hospital AND p.order_no = r.payment_no
		WHERE r.status = $1 AND p.refunded_fen = $2 AND p.requested_fen = $3`, status, refunded, requested); n != 1 {
		h.t.Errorf("the refund is not %s with %d refunded and %d asked for", status, refunded, requested)
	}
}

// J39, L15, L16: the channel's refund ends when the bank pays, and is owed again
// when the bank gives the money back.
func TestARefundByAnotherRouteEndsTheRefundOfTheChannel(t *testing.T) {
	h := open(t)
	h.closedRefund("CLOSED")
	less := requests["REROUTED_REFUND A"]
	less.Amount--
	_, err := h.Request(t.Context(), "api", h.key(), wang, less)
	h.refused(err, payout.ErrOwed, "refund R1 owes 120.00: a refund by another route pays all of it, 119.99 is asked")
	p := h.request(requests["REROUTED_REFUND A"])
	h.approve(p)
	h.refundIs("CLOSED", 0, 12000)
	h.send(1, 0)
	h.refundIs("REROUTED", 12000, 0)
	h.verify()
	h.debit(p)
	h.back(p)
	h.refundIs("CLOSED", 0, 12000)
	h.verify()
	h.request(requests["REROUTED_REFUND A"])
}

func TestARefundThatTheChannelMayStillPayIsNotPaidByTheBank(t *testing.T) {
	h := open(t)
	h.closedRefund("OWED")
	_, err := h.Request(t.Context(), "api", h.key(), wang, requests["REROUTED_REFUND A"])
	h.refused(err, payout.ErrOwed, "refund R1 is OWED: the channel may still pay it")
	h.edit(`UPDATE refunds SET status = 'CLOSED'`)
	p := h.request(requests["REROUTED_REFUND A"])
	h.approve(p)
	h.edit(`UPDATE refunds SET status = 'OWED'`) // another number goes on with the debt meanwhile
	h.send(0, 1)
	if got := h.is(p.Number, payout.Approved); !strings.Contains(got.Held, "the channel may still pay it") {
		t.Errorf("held %q", got.Held)
	}
}
