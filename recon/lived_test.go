package recon_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	paying "github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// books are what the clean payment of 10.00 leaves, and what is told beside it.
func books(beside map[string]ledger.Money) map[string]ledger.Money {
	out := map[string]ledger.Money{"1122.WX.1900000109": 1000, "2206.WX.1900000109": -6, "6601.H1": 6, "2202.H1.AVAIL": -1000}
	for code, fen := range beside {
		if out[code] += fen; out[code] == 0 {
			delete(out, code)
		}
	}
	return out
}

// life is what was lived of one payment of 50.00 on a day, what HIS and the bill say
// of it, and what reconciliation makes of it.
type life struct {
	name   string
	live   func(h *livedHouse) (said []string)
	codes  string // "ORDER" and "REFUND" stand for the numbers
	held   string
	beside map[string]ledger.Money
}

const (
	wx1122, wx1125, wx2205, wx2206 = "1122.WX.1900000109", "1125.WX.1900000109", "2205.WX.1900000109", "2206.WX.1900000109"
	awaiting, pend, avail, subsidy = "2204.H1", "2202.H1.PEND", "2202.H1.AVAIL", "6601.H1"
)

func his(order string, fen int) string { return fmt.Sprintf("his PAY %s %d 12:00:10", order, fen) }
func bill(order string) string         { return "channel PAY " + order + " 5000 12:00:05" }
func hisBack(order, refund string) string {
	return "his REFUND " + order + " 5000 12:10:00 refund=" + refund
}
func billBack(order, refund string, more ...string) string {
	return strings.Join(append([]string{"channel REFUND " + order + " 5000 12:10:05 refund=" + refund}, more...), " ")
}

var lives = []life{
	{"acknowledged in full", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo)}
	}, "", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, avail: -5000}},
	{"acknowledged in part, and HIS has booked that", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 4000)
		return []string{his(p.OrderNo, 4000), bill(p.OrderNo)}
	}, "I5 ORDER 1000", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, avail: -4000, awaiting: -1000}},
	{"acknowledged in part, HIS's details have all of it", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 4000)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo)}
	}, "", "1", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, avail: -5000}},
	{"acknowledged, and HIS's details lack it", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		return []string{bill(p.OrderNo)}
	}, "I1 ORDER 5000", "1", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, awaiting: -5000}},
	{"never acknowledged: HIS's details say it", func(h *livedHouse) []string {
		p := h.paid(5000)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo)}
	}, "", "1", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, avail: -5000}},
	{"not in HIS at all", func(h *livedHouse) []string {
		return []string{bill(h.paid(5000).OrderNo)}
	}, "I1 ORDER 5000", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, awaiting: -5000}},
	{"the notice was lost: UNKNOWN here, in the bill", func(h *livedHouse) []string {
		return []string{bill(h.paid(5000, silent).OrderNo)}
	}, "F2 ORDER 5000", "1", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, awaiting: -5000}},
	{"FAILED here, in the bill", func(h *livedHouse) []string {
		return []string{bill(h.paid(5000, refused).OrderNo)}
	}, "F2 ORDER 5000", "1", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, awaiting: -5000}},
	{"UNKNOWN here, and nowhere else", func(h *livedHouse) []string {
		h.paid(5000, silent)
		return nil
	}, "", "0", nil},
	{"the money came late", func(h *livedHouse) []string {
		p := h.paid(5000, refused)
		h.asks(p, channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000})
		return []string{bill(p.OrderNo)}
	}, "F2 ORDER 5000", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, awaiting: -5000}},
	{"the money came late, and another payment had paid the bill", func(h *livedHouse) []string {
		p := h.paid(5000, refused)
		q := h.again(p)
		h.acks(q, 5000)
		h.asks(p, channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000})
		return []string{bill(p.OrderNo), bill(q.OrderNo), his(q.OrderNo, 5000)}
	}, "PAID_TWICE ORDER 5000", "0", map[string]ledger.Money{wx1122: 10000, wx2206: -60, subsidy: 60, avail: -5000, awaiting: -5000}},
	{"FAILED here, in the bill, and another payment had paid the same", func(h *livedHouse) []string {
		p := h.paid(5000, refused)
		q := h.again(p)
		h.acks(q, 5000)
		return []string{bill(p.OrderNo), bill(q.OrderNo), his(q.OrderNo, 5000)}
	}, "PAID_TWICE ORDER 5000", "1", map[string]ledger.Money{wx1122: 10000, wx2206: -60, subsidy: 60, avail: -5000, awaiting: -5000}},
	{"HIS took the late money, and another payment had paid the bill", func(h *livedHouse) []string {
		p := h.paid(5000, refused)
		q := h.again(p)
		h.asks(p, channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000})
		h.acks(p, 5000)
		return []string{bill(p.OrderNo), bill(q.OrderNo), his(p.OrderNo, 5000)}
	}, "PAID_TWICE ORDER 5000", "0", map[string]ledger.Money{wx1122: 10000, wx2206: -60, subsidy: 60, avail: -5000, awaiting: -5000}},
	{"given back whole, then the bill was paid anew, and HIS lacks that", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p)
		q := h.again(p)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo), billBack(p.OrderNo, r.RefundNo), bill(q.OrderNo)}
	}, "I1 ORDER 5000", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, awaiting: -5000}},
	{"the money came late and HIS took it", func(h *livedHouse) []string {
		p := h.paid(5000, refused)
		h.asks(p, channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000})
		h.acks(p, 5000)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo)}
	}, "", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, avail: -5000}},
	{"the money came late, by a word that the bill does not bear out", func(h *livedHouse) []string {
		h.asks(h.paid(5000, refused), channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000})
		return nil
	}, "PHANTOM ORDER 0", "0", map[string]ledger.Money{awaiting: -5000, "1221.H1": 5000}},
	{"given back", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo), billBack(p.OrderNo, r.RefundNo)}
	}, "", "0", nil},
	{"given back: accepted, and final in the bill", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p, working)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo), billBack(p.OrderNo, r.RefundNo)}
	}, "", "1", nil},
	{"given back: owed, and in the bill", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p, noWord)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo), billBack(p.OrderNo, r.RefundNo)}
	}, "", "1", nil},
	{"given back: owed, and not in the bill", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p, noWord)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo)}
	}, "PENDING ORDER REFUND 5000", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, wx2205: -5000}},
	{"given back: owed, not in the bill, and HIS's details lack it", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		h.gives(p, noWord)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo)}
	}, "PENDING ORDER REFUND 0", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, wx2205: -5000}},
	{"given back: refused for good by the channel", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p, closed)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo)}
	}, "F6 ORDER REFUND 5000", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, wx2205: -5000}},
	{"given back: accepted, and not in the bill", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p, working)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo)}
	}, "F6 ORDER REFUND 5000", "0", map[string]ledger.Money{wx1125: 5000, wx2205: -5000}},
	{"given back: final, and not in the bill", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo)}
	}, "F6 ORDER REFUND 5000", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, wx2205: -5000}},
	{"given back: accepted, then closed", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p, working)
		h.asksRefund(r, closed)
		return []string{his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo)}
	}, "F6 ORDER REFUND 5000", "0", map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, wx2205: -5000}},
	{"paid, and then reversed at the channel", func(h *livedHouse) []string {
		p := h.asks(h.paid(5000, silent), reversed)
		return []string{bill(p.OrderNo), "channel REVERSE " + p.OrderNo + " 5000 12:00:40"}
	}, "NET_ZERO ORDER 0", "0", nil},
	{"paid and given back, and HIS's details have neither", func(h *livedHouse) []string {
		p := h.paid(5000)
		h.acks(p, 5000)
		r := h.gives(p)
		return []string{bill(p.OrderNo), billBack(p.OrderNo, r.RefundNo)}
	}, "NET_ZERO ORDER 0", "0", nil},
}

// TestWhatWasLivedIsPostedOnce: what clearing posted of a payment and its refund on
// their day, reconciliation does not post again; what it did not hear of is posted
// by the run, which then holds the row; and the same run again changes nothing.
func TestWhatWasLivedIsPostedOnce(t *testing.T) {
	for _, l := range lives {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			h := newLivedHouse(t)
			said := l.live(h)
			h.at(nextDay, 11, 30)
			h.tell(sampleDay, append([]string{"platform", "his", "channel"}, said...)...)
			d := h.run(sampleDay)
			got := codes(d)
			for _, i := range d.Items {
				got = strings.ReplaceAll(got, i.OrderNo, "ORDER")
				if i.RefundNo != "" {
					got = strings.ReplaceAll(got, i.RefundNo, "REFUND")
				}
			}
			if got != l.codes {
				t.Errorf("the day lists %q, want %q", got, l.codes)
			}
			h.expectBalances(books(l.beside))
			h.verify()
			h.casesCarry(sampleDay)
			if h.held() != l.held {
				t.Errorf("%s rows are held, want %s", h.held(), l.held)
			}
			h.idle(sampleDay)
		})
	}
}

// TestALifeGoesOnAfterTheRun: what happens to a payment after a run has posted for
// it changes facts and no balance, whether or not the day is run again.
func TestALifeGoesOnAfterTheRun(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	lost, unheard := h.paid(5000, silent), h.paid(5000)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", bill(lost.OrderNo), his(lost.OrderNo, 5000), bill(unheard.OrderNo), his(unheard.OrderNo, 5000))
	h.run(sampleDay)
	before := h.trial()
	took := channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000, SuccessAt: sampleDay.Start().Add(12 * time.Hour)}
	if p := h.asks(lost, took); p.Status != paying.Success || p.Posted {
		t.Errorf("the payment that the run posted for is %s, posted %t", p.Status, p.Posted)
	}
	h.acks(lost, 5000)
	h.acks(unheard, 5000)
	sameState(t, "balances after the channel's and HIS's word", trialOf(before), trialOf(h.trial()))
	h.verify()
	if got := codes(h.run(sampleDay)); got != "" {
		t.Errorf("the day run again lists %q", got)
	}
	h.verify()
	want := books(map[string]ledger.Money{wx1122: 10000, wx2206: -60, subsidy: 60, avail: -10000})
	h.expectBalances(want)
	h.idle(sampleDay)
}

// TestARefundThatTheChannelTookADayLater: HIS gave it back and it became a debt on
// the first day, the channel accepted it on the next. It is pending on the first
// day, whether that day is run before or after the channel accepts, and matched on
// the next.
func TestARefundThatTheChannelTookADayLater(t *testing.T) {
	for _, c := range []struct {
		name string
		runs bool // while it is owed
	}{{"the first day is run before", true}, {"the first day is run after", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newLivedHouse(t)
			p := h.paid(5000)
			h.acks(p, 5000)
			r := h.gives(p, noWord)
			said := []string{"platform", "his", "channel", his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo)}
			h.at(nextDay, 10, 0)
			h.tell(sampleDay, said...)
			if c.runs {
				h.run(sampleDay)
				h.verify()
			}
			h.asksRefund(r, channels.RefundAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000})
			pending := fmt.Sprintf("PENDING %s %s 5000", p.OrderNo, r.RefundNo)
			if got := codes(h.run(sampleDay)); got != pending {
				t.Errorf("the first day lists %q, want %q", got, pending)
			}
			h.verify()
			h.idle(sampleDay)
			h.at(nextDay.Add(1), 11, 30)
			h.tell(nextDay, "platform", "his", "channel", billBack(p.OrderNo, r.RefundNo))
			matched := fmt.Sprintf("F10 %s %s 0", p.OrderNo, r.RefundNo)
			if got := codes(h.run(nextDay)); got != matched {
				t.Errorf("the next day lists %q, want %q", got, matched)
			}
			h.verify()
			h.expectBalances(map[string]ledger.Money{wx1122: 2000, wx2206: -12, subsidy: 12, avail: -2000})
			h.idle(sampleDay, nextDay)
		})
	}
}

// TestRowsThatChangeUnderTheRun: HIS acknowledges payments, one by one, while the day
// is run again and again. Each is posted once, by its own verb or by a run.
func TestRowsThatChangeUnderTheRun(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	said := []string{"platform", "his", "channel"}
	var list []*paying.Payment
	for range 24 {
		p := h.paid(5000)
		list = append(list, p)
		said = append(said, his(p.OrderNo, 5000), bill(p.OrderNo))
	}
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, said...)
	done := make(chan error)
	go func() {
		var errs []error
		for _, p := range list {
			_, err := h.payments.Acknowledge(t.Context(), paying.Caller{}, "H1", p.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: 5000})
			errs = append(errs, err)
		}
		done <- errors.Join(errs...)
	}()
	for running := true; running; {
		select {
		case err := <-done:
			h.must(err)
			running = false
		default:
			// What changes faster than the day can be run is run again later.
			if _, err := h.engine.Run(t.Context(), sampleDay); err != nil && !errors.Is(err, ledger.ErrStale) {
				t.Fatal(err)
			}
		}
	}
	h.run(sampleDay)
	h.expectBalances(books(map[string]ledger.Money{wx1122: 120000, wx2206: -720, subsidy: 720, avail: -120000}))
	h.verify()
	h.idle(sampleDay)
}

// TestADecisionSpeaksForTheRow: people decide that HIS has booked what it had not;
// its own word, when it comes, posts nothing more.
func TestADecisionSpeaksForTheRow(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	p := h.paid(5000)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", bill(p.OrderNo))
	h.run(sampleDay)
	h.settle(h.caseOf(sampleDay, recon.I1, p.OrderNo).ID, "HIS_BOOKS")
	before := h.trial()
	h.acks(p, 5000)
	sameState(t, "balances after HIS's word", trialOf(before), trialOf(h.trial()))
	h.run(sampleDay)
	h.expectBalances(books(map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, avail: -5000}))
	h.verify()
	h.idle(sampleDay)
}

// TestTheChannelIsAskedBeforeAnOrphanIsNamed is S9: what the bill and the platform
// tell in two ways is asked once, the answer goes by the ordinary verbs, and the day
// is matched with it.
func TestTheChannelIsAskedBeforeAnOrphanIsNamed(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	lost, gone := h.paid(5000, silent), h.paid(700, silent)
	unsure := h.paid(3000)
	h.acks(unsure, 3000)
	back := h.gives(unsure, noWord)
	h.engine.House = h.House
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", bill(lost.OrderNo), his(unsure.OrderNo, 3000),
		strings.Replace(bill(unsure.OrderNo), "5000", "3000", 1), strings.Replace(hisBack(unsure.OrderNo, back.RefundNo), "5000", "3000", 1))
	h.words = map[string]channels.PayAnswer{
		lost.OrderNo: {Outcome: channels.OutcomeSucceeded, Amount: 5000, SuccessAt: sampleDay.Start().Add(12 * time.Hour)},
		gone.OrderNo: {Outcome: channels.OutcomeFailed, Closed: true},
	}
	h.backs = []channels.RefundAnswer{working}
	if got, want := codes(h.run(sampleDay)), fmt.Sprintf("I1 %s 5000 ; PENDING %s %s 3000", lost.OrderNo, unsure.OrderNo, back.RefundNo); got != want {
		t.Errorf("the day lists %q, want %q", got, want)
	}
	if got := h.column(`SELECT status FROM payments WHERE order_no = ANY($1::TEXT[]) ORDER BY amount_fen`, []string{lost.OrderNo, gone.OrderNo}); got[0] != "CLOSED" || got[1] != "SUCCESS" {
		t.Errorf("the payments are %v", got)
	}
	if h.held() != "0" {
		t.Errorf("%s rows are held: their own verbs have posted", h.held())
	}
	h.verify()
	h.casesCarry(sampleDay)
	asked := h.asked
	h.idle(sampleDay)
	if h.asked != asked {
		t.Errorf("a run that changes nothing asked %d times", h.asked-asked)
	}
}

// TestARefundOutOfReleasedMoney: on settle mode B the money of the payment has been
// released when it is given back (J23c). The refund takes nothing out of what is
// pending, so that nothing is held back of the next day's.
func TestARefundOutOfReleasedMoney(t *testing.T) {
	t.Parallel()
	h := newLivedHouseOf(t, modeB(t, filepath.Join(sampleDir, "setup.yaml")))
	p := h.paid(5000)
	h.acks(p, 5000)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", his(p.OrderNo, 5000), bill(p.OrderNo))
	h.run(sampleDay)
	h.n++
	r, err := h.refunds.Create(t.Context(), paying.NewRefund{App: "KIOSK", Key: "back", Hospital: "H1", OrderNo: p.OrderNo, Amount: 5000,
		Cause: channels.CauseDuplicate, Maker: "c1", HISCancelled: true, HISAllows: 5000})
	h.must(err)
	if r.Status == paying.RefundApproving {
		r, err = h.refunds.Decide(t.Context(), "H1", r.RefundNo, "c2", true, "")
		h.must(err)
	}
	if r.Debit != "J23c" {
		t.Fatalf("the refund is %s by %q, want J23c", r.Status, r.Debit)
	}
	h.at(nextDay.Add(1), 11, 30)
	h.tell(nextDay, "platform", "his", "channel", hisBack(p.OrderNo, r.RefundNo), billBack(p.OrderNo, r.RefundNo))
	if got := codes(h.run(nextDay)); got != "" {
		t.Errorf("the next day lists %q", got)
	}
	h.expectBalances(map[string]ledger.Money{wx1122: 2000, wx2206: -12, subsidy: 12, avail: -2000})
	h.verify()
	h.idle(sampleDay, nextDay)
}

// TestAReversalThatIsHeardAfterTheRun: the bill has the payment and its reversal, the
// platform knows of neither. The run posts both; the channel's word, when it comes,
// posts nothing more, and the day run again has nothing open.
func TestAReversalThatIsHeardAfterTheRun(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	p := h.paid(5000, silent)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", bill(p.OrderNo), "channel REVERSE "+p.OrderNo+" 5000 12:00:40")
	h.run(sampleDay)
	h.verify()
	h.at(sampleDay, 13, 0)
	before := h.trial()
	h.asks(p, reversed)
	sameState(t, "balances after the channel's word", trialOf(before), trialOf(h.trial()))
	h.at(nextDay, 12, 30)
	if got := codes(h.run(sampleDay)); got != "NET_ZERO "+p.OrderNo+" 0" {
		t.Errorf("the day run again lists %q", got)
	}
	h.expectBalances(books(nil))
	h.verify()
	h.idle(sampleDay)
}
