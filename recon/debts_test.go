package recon_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
	paying "github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// given is a difference that people settle by giving the money back, and what the
// next day's bill then says.
type given struct {
	name string
	live func(h *livedHouse) (said []string)
	code recon.Code
	fen  ledger.Money
	rest map[string]ledger.Money // beside the clean payments of the two days
}

var refundsOfCases = []given{
	{"F1: an order that the platform never knew", func(h *livedHouse) []string {
		return []string{"channel PAY STRANGE1 5000 12:00:00"}
	}, recon.F1, 5000, nil},
	{"F2: the money came late", func(h *livedHouse) []string {
		p := h.paid(5000, refused)
		h.asks(p, channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000})
		return []string{bill(p.OrderNo)}
	}, recon.F2, 5000, nil},
	{"F2: the platform never heard of it", func(h *livedHouse) []string {
		return []string{bill(h.paid(5000, silent).OrderNo)}
	}, recon.F2, 5000, nil},
	{"PAID_TWICE: the money came late, and another payment had paid the bill", func(h *livedHouse) []string {
		p := h.paid(5000, refused)
		q := h.again(p)
		h.acks(q, 5000)
		h.asks(p, channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000})
		return []string{bill(p.OrderNo), bill(q.OrderNo), his(q.OrderNo, 5000)}
	}, recon.PaidTwice, 5000, map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, avail: -5000}},
	{"I1: HIS did not serve it", func(h *livedHouse) []string {
		return []string{bill(h.paid(5000).OrderNo)}
	}, recon.I1, 5000, nil},
	{"I5: HIS has booked less", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 4000)
		return []string{his(p.OrderNo, 4000), bill(p.OrderNo)}
	}, recon.I5, 1000, map[string]ledger.Money{wx1122: 4000, wx2206: -24, subsidy: 24, avail: -4000}},
	{"I4: HIS gave it back, the platform did not", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), "his REFUND " + p.OrderNo + " 2000 15:00:00 refund=HISR1"}
	}, recon.I4, 2000, map[string]ledger.Money{wx1122: 3000, wx2206: -18, subsidy: 18, avail: -3000}},
	{"F6: the channel closed the refund", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p, closed)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo)}
	}, recon.F6, 5000, nil},
}

// TestACaseIsGivenBack: two people decide that the patient gets the money back. The
// refund is sent by the approval, once; the case stays open until the bill of the
// next day has it, and then nothing rests anywhere.
func TestACaseIsGivenBack(t *testing.T) {
	for _, g := range refundsOfCases {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			h := newLivedHouse(t)
			said := g.live(h)
			h.at(nextDay, 11, 30)
			h.tell(sampleDay, append([]string{"platform", "his", "channel"}, said...)...)
			h.run(sampleDay)
			h.engine.House = h.House
			c := h.caseOf(sampleDay, g.code, "")
			if got := h.settle(c.ID, "REFUND"); got.State != recon.CaseApproved {
				t.Fatalf("the case is %s before the refund is in the bill", got.State)
			}
			sent := h.column(`SELECT concat_ws(' ', order_no, refund_no, amount_fen, status) FROM refunds WHERE kind = 'REFUND' AND status <> 'CLOSED'`)
			if len(sent) != 1 || !strings.HasSuffix(sent[0], fmt.Sprintf(" %d SUCCESS", int64(g.fen))) {
				t.Fatalf("the refunds are %v, want one of %s", sent, g.fen)
			}
			h.verify()
			f := strings.Fields(sent[0])
			h.at(nextDay.Add(1), 11, 30)
			h.tell(nextDay, "platform", "his", "channel", fmt.Sprintf("channel REFUND %s %d 11:31:00 refund=%s", f[0], int64(g.fen), f[1]))
			if got := codes(h.run(nextDay)); got != "" {
				t.Errorf("the next day lists %q", got)
			}
			file, err := h.engine.CaseFile(t.Context(), c.ID)
			h.must(err)
			if file.State != recon.CaseClosed || len(file.Suspense) != 0 {
				t.Errorf("the case is %s and carries %v", file.State, file.Suspense)
			}
			want := map[string]ledger.Money{wx1122: 2000, wx2206: -12, subsidy: 12, avail: -2000}
			for code, fen := range g.rest {
				want[code] += fen
			}
			h.expectBalances(want)
			h.verify()
			h.casesCarry(sampleDay, nextDay)
			h.run(sampleDay)
			h.expectBalances(want)
			h.verify()
			h.idle(sampleDay, nextDay)
			if n := len(h.column(`SELECT refund_no FROM refunds WHERE kind = 'REFUND' AND status <> 'CLOSED'`)); n != 1 {
				t.Errorf("%d refunds after all", n)
			}
		})
	}
}

// TestARefundThatCannotGoYetIsSentByTheNextRun: another refund of the payment is
// under way when the case is approved. The decision stands, and the next run sends
// the refund, once.
func TestARefundThatCannotGoYetIsSentByTheNextRun(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	p := h.paid(5000)
	h.acks(p, 4000)
	h.backs = []channels.RefundAnswer{noWord}
	part, err := h.refunds.Create(t.Context(), paying.NewRefund{App: "KIOSK", Key: "part", Hospital: "H1", OrderNo: p.OrderNo, Amount: 500,
		Cause: channels.CauseDuplicate, Maker: "c1", HISCancelled: true, HISAllows: 500})
	h.must(err)
	if part, err = h.refunds.Decide(t.Context(), "H1", part.RefundNo, "c2", true, ""); err != nil || part.Status != paying.RefundOwed {
		t.Fatalf("the first refund is %s: %v", part.Status, err)
	}
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", bill(p.OrderNo), his(p.OrderNo, 4000), fmt.Sprintf("his REFUND %s 500 12:10:00 refund=%s", p.OrderNo, part.RefundNo))
	h.run(sampleDay)
	c := h.caseOf(sampleDay, recon.I5, p.OrderNo)
	h.engine.House = h.House
	sent := func() []string {
		return h.column(`SELECT concat_ws(' ', status, amount_fen) FROM refunds WHERE case_id = $1`, c.ID)
	}
	if got := h.settle(c.ID, "REFUND"); got.State != recon.CaseApproved || len(sent()) != 0 {
		t.Fatalf("the case is %s, its refunds %v", got.State, sent())
	}
	h.asksRefund(part, channels.RefundAnswer{Outcome: channels.OutcomeSucceeded, Amount: 500})
	h.run(sampleDay)
	h.run(sampleDay)
	if got := sent(); len(got) != 1 || got[0] != "SUCCESS 1000" {
		t.Errorf("the refunds of the case are %v", got)
	}
	h.verify()
	log := h.column(`SELECT act FROM recon_case_log WHERE case_id = $1 ORDER BY n`, c.ID)
	if strings.Join(log, " ") != "opened his propose his approve refund" {
		t.Errorf("the log of the case is %v", log)
	}
}

// TestARefundOfACaseThatNobodyHeardOf: the channel paid it and said nothing. The bill
// ends the case; the channel's word, two days later, posts nothing more.
func TestARefundOfACaseThatNobodyHeardOf(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", "channel PAY STRANGE1 5000 12:00:00")
	h.run(sampleDay)
	h.engine.House = h.House
	h.backs = []channels.RefundAnswer{noWord}
	c := h.caseOf(sampleDay, recon.F1, "")
	h.settle(c.ID, "REFUND")
	number := h.column(`SELECT refund_no FROM refunds WHERE case_id = $1 AND status = 'OWED'`, c.ID)
	if len(number) != 1 {
		t.Fatalf("the refunds that are owed: %v", number)
	}
	h.engine.House = nil // nobody asks for now
	h.at(nextDay.Add(1), 11, 30)
	h.tell(nextDay, "platform", "his", "channel", "channel REFUND STRANGE1 5000 11:31:00 refund="+number[0])
	h.run(nextDay)
	want := map[string]ledger.Money{wx1122: 2000, wx2206: -12, subsidy: 12, avail: -2000}
	h.expectBalances(want)
	h.verify()
	file, err := h.engine.CaseFile(t.Context(), c.ID)
	h.must(err)
	if file.State != recon.CaseClosed {
		t.Errorf("the case is %s once the bill has its refund", file.State)
	}
	h.at(nextDay.Add(2), 9, 0)
	h.backs = []channels.RefundAnswer{{Outcome: channels.OutcomeSucceeded, Amount: 5000}}
	_, err = h.refunds.Query(t.Context(), "H1", number[0])
	h.must(err)
	h.tell(nextDay.Add(1), "platform", "his", "channel")
	for _, days := range [][]ledger.Day{{nextDay.Add(1), nextDay}, {sampleDay, nextDay, nextDay.Add(1)}} {
		for _, day := range days {
			h.run(day)
			h.verify()
		}
	}
	want[wx1122], want[wx2206], want[subsidy], want[avail] = 3000, -18, 18, -3000
	h.expectBalances(want)
	h.idle(sampleDay, nextDay, nextDay.Add(1))
}

// TestARefundOfACaseThatTheChannelClosed: the debt of the case stands, which is a case
// again; another number pays it, and ends both.
func TestARefundOfACaseThatTheChannelClosed(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", "channel PAY STRANGE1 5000 12:00:00")
	h.run(sampleDay)
	h.engine.House = h.House
	h.backs = []channels.RefundAnswer{closed}
	f1 := h.caseOf(sampleDay, recon.F1, "")
	h.settle(f1.ID, "REFUND")
	h.at(nextDay.Add(1), 11, 30)
	h.tell(nextDay, "platform", "his", "channel")
	h.run(nextDay)
	h.verify()
	f6 := h.caseOf(nextDay, recon.F6, "STRANGE1")
	if f6.Amount != 5000 {
		t.Errorf("the case of the closed refund is of %s", f6.Amount)
	}
	if got := h.settle(f6.ID, "REFUND"); got.State != recon.CaseApproved {
		t.Fatalf("the second case is %s", got.State)
	}
	number := h.column(`SELECT refund_no FROM refunds WHERE case_id = $1 AND status = 'SUCCESS'`, f1.ID)
	if len(number) != 1 {
		t.Fatalf("the refunds that were paid: %v", number)
	}
	third := nextDay.Add(1)
	h.at(third.Add(1), 11, 30)
	h.tell(third, "platform", "his", "channel", "channel REFUND STRANGE1 5000 11:31:00 refund="+number[0])
	for _, day := range []ledger.Day{nextDay, third} {
		h.run(day)
		h.verify()
	}
	h.expectBalances(map[string]ledger.Money{wx1122: 3000, wx2206: -18, subsidy: 18, avail: -3000})
	for _, id := range []string{f1.ID, f6.ID} {
		file, err := h.engine.CaseFile(t.Context(), id)
		h.must(err)
		if file.State != recon.CaseClosed || len(file.Suspense) != 0 {
			t.Errorf("%s is %s and carries %v", file.Code, file.State, file.Suspense)
		}
	}
	h.idle(sampleDay, nextDay, third)
}

// TestWhatHISRefusedIsGivenBack: HIS does not serve a payment, two people give it back
// on the next day (E07). HIS never hears of either; the refund in the bill ends the I1.
func TestWhatHISRefusedIsGivenBack(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	p := h.paid(5000)
	_, err := h.payments.Acknowledge(t.Context(), paying.Caller{}, "H1", p.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeFailed, Reason: channels.Reason{Code: "NO_BILL"}})
	h.must(err)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", bill(p.OrderNo))
	h.run(sampleDay)
	i1 := h.caseOf(sampleDay, recon.I1, p.OrderNo)
	r := h.gives(p)
	if r.Status != paying.RefundApproving {
		t.Fatalf("the refund is %s", r.Status)
	}
	r, err = h.refunds.Decide(t.Context(), "H1", r.RefundNo, "c2", true, "")
	h.must(err)
	if r.Debit != "E07" || r.Status != paying.RefundSuccess {
		t.Fatalf("the refund is %s by %q", r.Status, r.Debit)
	}
	h.at(nextDay.Add(1), 11, 30)
	h.tell(nextDay, "platform", "his", "channel", billBack(p.OrderNo, r.RefundNo))
	if got := codes(h.run(nextDay)); got != "" {
		t.Errorf("the next day lists %q", got)
	}
	file, err := h.engine.CaseFile(t.Context(), i1.ID)
	h.must(err)
	if file.State != recon.CaseAutoClosed || len(file.Suspense) != 0 {
		t.Errorf("the case is %s and carries %v", file.State, file.Suspense)
	}
	h.expectBalances(map[string]ledger.Money{wx1122: 2000, wx2206: -12, subsidy: 12, avail: -2000})
	h.verify()
	h.run(sampleDay)
	h.verify()
	h.idle(sampleDay, nextDay)
}
