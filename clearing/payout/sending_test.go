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
