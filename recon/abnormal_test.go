package recon_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
	paying "github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

var abnormal = channels.RefundAnswer{Outcome: channels.OutcomePending, RefundID: "WX9", Abnormal: true, Reason: channels.Reason{Kind: channels.ReasonAccount, Code: "ABNORMAL"}}

// turned is a refund of 50.00 that the channel took on the sample day, had in its bill
// as under way, and called abnormal two days later: scenario 16. It returns the case.
func (h *livedHouse) turned(status string) (*paying.Refund, *recon.Case) {
	h.t.Helper()
	p := h.paid(5000)
	h.acks(p, 5000)
	r := h.gives(p, working)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo), billBack(p.OrderNo, r.RefundNo, status))
	first := map[string]string{"processing": "SWEEP %s %s 0", "abnormal": "F6 %s %s 5000"}[status]
	if got, want := codes(h.run(sampleDay)), fmt.Sprintf(first, p.OrderNo, r.RefundNo); got != want {
		h.t.Errorf("on the next day: %q, want %q", got, want)
	}
	h.expectBalances(books(map[string]ledger.Money{wx1125: 5000, wx2205: -5000}))
	h.at(nextDay.Add(2), 11, 0)
	r = h.asksRefund(r, abnormal)
	h.at(nextDay.Add(2), 11, 30)
	d := h.run(sampleDay)
	if got, want := codes(d), fmt.Sprintf("F6 %s %s 5000", p.OrderNo, r.RefundNo); got != want || !strings.Contains(recon.NoteWords(d.Items[0].Note, "zh"), "商户平台") {
		h.t.Errorf("on D+3: %q, want %q; %+v", got, want, d.Items)
	}
	h.expectBalances(books(map[string]ledger.Money{wx1125: 5000, wx2205: -5000}))
	h.verify()
	h.idle(sampleDay)
	return r, h.caseOf(sampleDay, recon.F6, p.OrderNo)
}

// TestAnAbnormalRefundIsACaseUntilThePatientHasTheMoney is scenario 16: the channel
// holds the money, it is not back in the balance; the case offers the abnormal-refund
// path and no second refund, and closes when the money has come.
func TestAnAbnormalRefundIsACaseUntilThePatientHasTheMoney(t *testing.T) {
	for _, status := range []string{"processing", "abnormal"} {
		for _, decided := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, decided %t", status, decided), func(t *testing.T) {
				t.Parallel()
				h := newLivedHouse(t)
				r, c := h.turned(status)
				file, err := h.engine.CaseFile(t.Context(), c.ID)
				h.must(err)
				if !slices.Contains(file.May, "ABNORMAL_REFUND") || slices.Contains(file.May, "REFUND") || len(file.Suspense) != 1 || file.Suspense[0].Fen != 5000 {
					t.Errorf("may %v, carries %v", file.May, file.Suspense)
				}
				if _, err := h.engine.Decide(t.Context(), recon.Decision{CaseID: c.ID, Who: "m1", Act: "propose", Resolution: "REFUND"}); err == nil {
					t.Error("a second refund of money that the channel holds is proposed")
				}
				if decided {
					if got := h.settle(c.ID, "ABNORMAL_REFUND"); got.State != recon.CaseApproved {
						t.Errorf("decided, the case is %s", got.State)
					}
				}
				h.run(sampleDay)
				h.idle(sampleDay)
				// The operator has the channel pay another card of the patient.
				h.asksRefund(r, channels.RefundAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000, PaidTo: channels.PaidToPayer})
				h.run(sampleDay)
				h.expectBalances(books(nil))
				h.verify()
				file, err = h.engine.CaseFile(t.Context(), c.ID)
				h.must(err)
				if file.State != recon.CaseClosed && file.State != recon.CaseAutoClosed {
					t.Errorf("the patient is paid, and the case is %s", file.State)
				}
				h.idle(sampleDay)
			})
		}
	}
}

// TestAFinalRefundThatTheBillCallsAbnormal is E20b: the channel holds what the books
// took for paid. That it has paid the patient later takes two people and the money.
func TestAFinalRefundThatTheBillCallsAbnormal(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	p := h.paid(5000)
	h.acks(p, 5000)
	r := h.gives(p)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo), billBack(p.OrderNo, r.RefundNo, "abnormal"))
	h.run(sampleDay)
	h.expectBalances(books(map[string]ledger.Money{wx1125: 5000, wx2205: -5000}))
	h.verify()
	h.idle(sampleDay)
	c := h.caseOf(sampleDay, recon.F6, p.OrderNo)
	if got := h.settle(c.ID, "PAID_LATER"); got.State != recon.CaseClosed {
		t.Errorf("the case is %s", got.State)
	}
	h.expectBalances(books(nil))
	h.verify()
	h.idle(sampleDay)
}
