package recon_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	paying "github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// unserved are payments of a bill of 50.00 whose money waits for HIS in 2204, by how
// that came about.
var unserved = []struct {
	name string
	code recon.Code
	ack  string // its state once HIS has said that it booked it
	live func(h *askedHIS) *paying.Payment
}{
	{"I1", recon.I1, "DONE 0 5000", func(h *askedHIS) *paying.Payment { return h.pays(false) }},
	{"F2, the money came late", recon.F2, "DONE 0 5000", func(h *askedHIS) *paying.Payment {
		return h.asks(h.paysWord(refused), channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000})
	}},
	{"F2, the platform never heard of it", recon.F2, " 0 0", func(h *askedHIS) *paying.Payment { return h.paysWord(silent) }},
}

// paysWord is a payment whose channel gives the answer.
func (h *askedHIS) paysWord(answer channels.PayAnswer) *paying.Payment {
	h.t.Helper()
	h.admin("bills", fmt.Sprintf(`{"hospital":"H1","bill_no":"LB%d","fen":5000,"biz_type":"OUTPATIENT"}`, h.n+1))
	return h.paid(5000, answer)
}

// books has HIS book the payment, and the platform not hear of it.
func (h *askedHIS) books(p *paying.Payment) {
	h.t.Helper()
	word := h.his.Acknowledge(h.t.Context(), channels.HISRequest{Hospital: "H1", BillNo: p.BillNo, OrderNo: p.OrderNo, Amount: p.Amount, Tender: p.Channel, Key: "by-hand-" + p.OrderNo})
	if word.Outcome != channels.OutcomeSucceeded {
		h.t.Fatalf("HIS does not book %s: %+v", p.OrderNo, word)
	}
}

// caseToRefund is the case of a payment that HIS has not booked, on the next day.
func (h *askedHIS) caseToRefund(code recon.Code, live func(h *askedHIS) *paying.Payment) (*recon.Case, *paying.Payment) {
	h.t.Helper()
	p := live(h)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", bill(p.OrderNo))
	h.run(sampleDay)
	return h.caseOf(sampleDay, code, p.OrderNo), p
}

// file is the state of the case and its log, act by act with what HIS said.
func (h *askedHIS) file(id string) string {
	h.t.Helper()
	f, err := h.engine.CaseFile(h.t.Context(), id)
	h.must(err)
	words := []string{string(f.State)}
	for _, l := range f.Log {
		if word := l.Act; word == "his" {
			words = append(words, l.Detail)
		} else {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

func (h *askedHIS) refundsMade() []string {
	return h.column(`SELECT concat_ws(' ', amount_fen, status) FROM refunds WHERE kind = 'REFUND'`)
}

// E07, R07: what HIS has booked is not refunded, be it booked before the proposal or
// between proposal and approval; HIS's word is applied, and HIS_BOOKS settles it.
func TestWhatHISHasBookedIsNotRefunded(t *testing.T) {
	for _, u := range unserved {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			h := newAskedHIS(t, "PLATFORM")
			c, p := h.caseToRefund(u.code, u.live)
			asked := len(h.kept(asksOrder, p.OrderNo))
			_, err := h.decide(c.ID, "maker", "propose", "REFUND")
			h.must(err)
			h.books(p)
			_, err = h.decide(c.ID, "checker", "approve", "")
			if !errors.Is(err, recon.ErrHISBooked) || !strings.Contains(err.Error(), "has booked payment "+p.OrderNo+" with 50.00") || !strings.Contains(err.Error(), "HIS_BOOKS settles it") {
				t.Errorf("approved: %v", err)
			}
			if got, want := h.file(c.ID), "PROPOSED opened his_not_booked= propose his_booked=50.00"; got != want {
				t.Errorf("the file is %q, want %q", got, want)
			}
			if got := len(h.kept(asksOrder, p.OrderNo)) - asked; got != 2 || len(h.refundsMade()) != 0 {
				t.Errorf("HIS was asked %d times; refunds %v", got, h.refundsMade())
			}
			if got := h.stateOf(p); got != u.ack {
				t.Errorf("the payment is %q, want %q", got, u.ack)
			}
			h.verify()
			_, err = h.decide(c.ID, "checker", "reject", "")
			h.must(err)
			h.run(sampleDay) // the details of the day still lack it
			if _, err = h.decide(c.ID, "maker", "propose", "REFUND"); !errors.Is(err, recon.ErrHISBooked) {
				t.Errorf("proposed again: %v", err)
			}
			if got := h.settle(c.ID, "HIS_BOOKS"); got.State != recon.CaseClosed {
				t.Errorf("the case is %s", got.State)
			}
			h.expectBalances(books(map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, avail: -5000}))
			h.verify()
			h.casesCarry(sampleDay)
			h.idle(sampleDay)
		})
	}
}

// What HIS says it has not booked goes back, and the case closes when the bill has the
// refund. From the approval on HIS is not told to book it, by plan or by hand.
func TestWhatHISHasNotBookedIsRefunded(t *testing.T) {
	for _, u := range unserved {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			h := newAskedHIS(t, "PLATFORM")
			c, p := h.caseToRefund(u.code, u.live)
			if got := h.settle(c.ID, "REFUND"); got.State != recon.CaseApproved {
				t.Fatalf("the case is %s", got.State)
			}
			if got, want := h.file(c.ID), "APPROVED opened his_not_booked= propose his_not_booked= approve refund"; got != want {
				t.Errorf("the file is %q, want %q", got, want)
			}
			if got := h.refundsMade(); !slices.Equal(got, []string{"5000 SUCCESS"}) {
				t.Fatalf("the refunds are %v", got)
			}
			h.writesBack()
			if p, err := h.payments.TellHIS(t.Context(), "H1", p.OrderNo); !errors.Is(err, paying.ErrOrderOfSteps) {
				t.Errorf("told by hand: %+v, %v", p, err)
			}
			if said := h.kept("his/payments/acknowledge", p.OrderNo); len(said) > 0 {
				t.Errorf("HIS was told of what is given back: %v", said)
			}
			number := h.column(`SELECT refund_no FROM refunds WHERE kind = 'REFUND'`)[0]
			h.at(nextDay.Add(1), 11, 30)
			h.tell(nextDay, "platform", "his", "channel", fmt.Sprintf("channel REFUND %s 5000 11:31:00 refund=%s", p.OrderNo, number))
			if got := codes(h.run(nextDay)); got != "" {
				t.Errorf("the next day lists %q", got)
			}
			if got := h.file(c.ID); !strings.HasPrefix(got, "CLOSED ") {
				t.Errorf("the file is %q", got)
			}
			h.expectBalances(map[string]ledger.Money{wx1122: 2000, wx2206: -12, subsidy: 12, avail: -2000})
			h.verify()
			h.casesCarry(sampleDay, nextDay)
			h.idle(sampleDay, nextDay)
		})
	}
}

// Without HIS's word nothing is decided, and that is no refusal: the same request goes
// on once HIS answers. What is not its own clear word is none.
func TestWhileHISIsSilentNoRefundIsDecided(t *testing.T) {
	t.Parallel()
	h := newAskedHIS(t, "PLATFORM")
	c, p := h.caseToRefund(recon.I1, unserved[0].live)
	silence := func(fault string) {
		h.admin("faults", fmt.Sprintf(`{%s,"api":"bills/order","hospital":"H1","order_no":%q}`, fault, p.OrderNo))
	}
	mute := func(act, who, want string) {
		t.Helper()
		for _, fault := range []string{`"do":"DROP"`, `"do":"HTTP_500"`, `"do":"BAD_SIGN"`, `"do":"ERROR","code":"AGAIN"`} {
			silence(fault)
			_, err := h.decide(c.ID, who, act, "REFUND")
			var refusal ledger.Refusal
			if !errors.Is(err, recon.ErrHISSilent) || errors.As(err, &refusal) || !strings.Contains(err.Error(), p.OrderNo) {
				t.Errorf("%s with %s: %v", act, fault, err)
			}
		}
		if got := h.file(c.ID); got != want {
			t.Errorf("the file is %q, want %q", got, want)
		}
	}
	mute("propose", "maker", "OPEN opened")
	_, err := h.decide(c.ID, "maker", "propose", "REFUND")
	h.must(err)
	mute("approve", "checker", "PROPOSED opened his_not_booked= propose")
	asked := len(h.kept(asksOrder, p.OrderNo))
	_, err = h.decide(c.ID, "maker", "propose", "REFUND") // said before
	h.must(err)
	if _, err = h.decide(c.ID, "maker", "approve", ""); !errors.Is(err, recon.ErrSamePerson) {
		t.Errorf("approved by who proposed: %v", err)
	}
	silence(`"do":"DROP"`) // nobody needs HIS for another way, or to say no
	_, err = h.decide(c.ID, "checker", "reject", "")
	h.must(err)
	_, err = h.decide(c.ID, "maker", "propose", "HIS_BOOKS")
	h.must(err)
	if n := len(h.kept(asksOrder, p.OrderNo)); n != asked {
		t.Errorf("HIS was asked %d times for nothing", n-asked)
	}
	_, err = h.decide(c.ID, "checker", "reject", "")
	h.must(err)
	if _, err = h.decide(c.ID, "maker", "propose", "REFUND"); !errors.Is(err, recon.ErrHISSilent) {
		t.Errorf("proposed while HIS is silent: %v", err)
	}
	if got := h.settle(c.ID, "REFUND"); got.State != recon.CaseApproved || !slices.Equal(h.refundsMade(), []string{"5000 SUCCESS"}) {
		t.Errorf("the case is %s, the refunds %v", got.State, h.refundsMade())
	}
	h.verify()
}

// R07: that HIS has the bill in cash, too far from the payment to be linked, is in the
// file before anybody approves; of another bill, or given back, it is nothing.
func TestTheFileNamesAnotherTenderOfTheBill(t *testing.T) {
	t.Parallel()
	h := newAskedHIS(t, "PLATFORM")
	drawer, free := h.pays(false), h.pays(false)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", bill(drawer.OrderNo), bill(free.OrderNo), "his PAY C1 5000 15:00:00 cash bill="+drawer.BillNo,
		"his PAY C2 5000 15:00:00 cash bill="+free.BillNo, "his REFUND C2 5000 15:10:00 cash bill="+free.BillNo, "his PAY C3 5000 15:00:00 cash bill=OTHER")
	h.run(sampleDay)
	for p, want := range map[*paying.Payment]string{
		drawer: "PROPOSED opened his_other_tender=CASH|50.00 his_not_booked= propose",
		free:   "PROPOSED opened his_not_booked= propose",
	} {
		c := h.caseOf(sampleDay, recon.I1, p.OrderNo)
		_, err := h.decide(c.ID, "maker", "propose", "REFUND")
		h.must(err)
		if got := h.file(c.ID); got != want {
			t.Errorf("the file is %q, want %q", got, want)
		}
	}
}

// whileAsked is a HIS whose question takes so long that something happens meanwhile.
type whileAsked struct {
	channels.HISGateway
	happens func()
}

func (g whileAsked) Order(ctx context.Context, r channels.HISRequest) channels.HISAnswer {
	g.happens()
	return g.HISGateway.Order(ctx, r)
}

// A checker approves what was proposed when HIS was asked, and no other proposal that
// came in its place while HIS took its time.
func TestAProposalThatChangesWhileHISIsAskedIsNotApproved(t *testing.T) {
	t.Parallel()
	h := newAskedHIS(t, "PLATFORM")
	c, _ := h.caseToRefund(recon.I1, unserved[0].live)
	_, err := h.decide(c.ID, "maker", "propose", "REFUND")
	h.must(err)
	h.his = whileAsked{h.his, func() {
		h.clock = h.clock.Add(time.Second)
		_, err := h.decide(c.ID, "second", "reject", "")
		h.must(err)
		_, err = h.decide(c.ID, "maker", "propose", "HIS_BOOKS")
		h.must(err)
	}}
	if _, err = h.decide(c.ID, "checker", "approve", ""); !errors.Is(err, recon.ErrCaseState) || !strings.Contains(err.Error(), "while HIS was asked") {
		t.Errorf("approved: %v", err)
	}
	if got, want := h.file(c.ID), "PROPOSED opened his_not_booked= propose reject propose"; got != want || len(h.refundsMade()) > 0 {
		t.Errorf("the file is %q, want %q; refunds %v", got, want, h.refundsMade())
	}
	h.verify()
}

// B23: nobody is asked where the app calls HIS, or HIS sends files alone, or the order
// is none of the platform's; people decide, and the file says that HIS was not asked.
func TestWhereHISCannotBeAskedTheFileSaysSo(t *testing.T) {
	for _, c := range []struct{ name, calls, why string }{
		{"the app calls HIS", "APP", "his_by_app="},
		{"the app has told that HIS booked it", "APP", "his_booked_by_app="},
		{"HIS sends files", "PLATFORM", "his_by_files="},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newAskedHIS(t, c.calls)
			wait, p := h.caseToRefund(recon.I1, unserved[0].live)
			switch c.why {
			case "his_by_files=":
				h.his = nil
			case "his_booked_by_app=": // and the money waits again, as the details lack it
				h.acks(p, 5000)
				h.run(sampleDay)
			}
			asked := len(h.kept(asksOrder, p.OrderNo))
			if got := h.settle(wait.ID, "REFUND"); got.State != recon.CaseApproved {
				t.Errorf("the case is %s", got.State)
			}
			if got, want := h.file(wait.ID), fmt.Sprintf("APPROVED opened %s propose %s approve refund", c.why, c.why); got != want {
				t.Errorf("the file is %q, want %q", got, want)
			}
			if n := len(h.kept(asksOrder, p.OrderNo)); n != asked {
				t.Errorf("HIS was asked %d times", n-asked)
			}
			h.verify()
		})
	}
	t.Run("an order that the platform never had", func(t *testing.T) {
		t.Parallel()
		h := newAskedHIS(t, "PLATFORM")
		h.at(nextDay, 11, 30)
		h.tell(sampleDay, "platform", "his", "channel", bill("STRANGE1"), his("STRANGE1", 5000))
		h.run(sampleDay)
		c := h.caseOf(sampleDay, recon.Backfill, "STRANGE1")
		h.settle(c.ID, "REFUND")
		if got, want := h.file(c.ID), "APPROVED opened his_unknown= propose his_unknown= approve refund"; got != want {
			t.Errorf("the file is %q, want %q", got, want)
		}
		h.verify()
	})
}
