package features_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
)

// cases are what every adapter must do the same way (issue: one suite over all).
var cases = []struct {
	name  string
	serve func(r *rig, a *adapter)
}{
	{"a payment that the channel refuses has failed", (*rig).refused},
	{"an unknown payment that was made is found paid", (*rig).unknownPaid},
	{"an unknown payment that was not made ends unpaid", (*rig).unknownNotPaid},
	{"a paid code payment that nobody can ask for is reversed and its money goes back", (*rig).reversedPaid},
	{"late money of a payment that had failed is posted and waits for a person", (*rig).lateMoney},
	{"a late notice changes nothing more", func(r *rig, a *adapter) { r.notices(a, live.Fault{Do: live.FaultNoticeLate, Seconds: 3600}) }},
	{"a notice that comes twice counts once", func(r *rig, a *adapter) { r.notices(a, live.Fault{Do: live.FaultNoticeTwice}) }},
	{"a forged notice is refused", func(r *rig, a *adapter) { r.notices(a, live.Fault{Do: live.FaultNoticeForged}) }},
	{"a notice for another merchant changes nothing", func(r *rig, a *adapter) { r.notices(a, live.Fault{Do: live.FaultNoticeForeign}) }},
	{"a notice before the answer to the call is the answer", (*rig).earlyNotice},
	{"partial refunds add up to the payment and not beyond", (*rig).partialRefunds},
	{"one refund number gives back once", (*rig).oneNumber},
	{"an abnormal refund is not lost and comes once", (*rig).abnormalRefund},
	{"the bill has what the books have", (*rig).billHasBooks},
}

// TestEveryAdapterPassesTheSameCases drives each case through the verbs of payments.
func TestEveryAdapterPassesTheSameCases(t *testing.T) {
	r := newRig(t)
	for i := range adapters {
		a := &adapters[i]
		for _, c := range cases {
			r.use(a, patient, false)
			c.serve(r, a)
			if left := r.leftover(); len(left) > 0 {
				t.Fatalf("%s, %s: never reached %+v", a.name, c.name, left)
			}
			if t.Failed() {
				t.Fatalf("%s: %s", a.name, c.name)
			}
		}
	}
	for merchant, orders := range r.orders {
		for _, orderNo := range orders {
			r.agree("at the end", merchant, orderNo)
		}
	}
	r.tie("WeChat Pay", wechatNo, "1122.WX.")
	r.tie("Alipay", alipayNo, "1122.ALI.")
}

// first is the api that makes a payment.
func (a *adapter) first() string { return a.steps()[0] }

// paid is a payment that was made and followed to its success.
func (r *rig) paid(a *adapter) *pay.Payment {
	r.t.Helper()
	p := r.create(a)
	if a.way != channels.WayCode && !r.payer(a, p.OrderNo) {
		r.t.Errorf("%s: nobody waits for the payer of %s", a.name, p.OrderNo)
	}
	if p = r.untilFinal(p); p.Status != pay.Success {
		r.t.Errorf("%s: %s is %s", a.name, p.OrderNo, p.Status)
	}
	return p
}

// refuse makes a payment that the channel refuses for good; with made it has made
// it all the same.
func (r *rig) refuse(a *adapter, made bool) *pay.Payment {
	code := map[bool]map[string]string{
		true:  {channels.WeChat: "NOTENOUGH", channels.Alipay: "ACQ.BUYER_BALANCE_NOT_ENOUGH"},
		false: {channels.WeChat: "PARAM_ERROR", channels.Alipay: "ACQ.INVALID_PARAMETER"},
	}[a.way == channels.WayCode][a.channel]
	r.plant(live.Fault{Do: live.FaultError, Code: code, Commit: made}, a.first(), a)
	p := r.create(a)
	if p.Status != pay.Failed || p.Reason.Code != code {
		r.t.Errorf("%s: %s is %s, %+v", a.name, p.OrderNo, p.Status, p.Reason)
	}
	return p
}

func (r *rig) refused(a *adapter) { r.refuse(a, false) }

func (r *rig) lateMoney(a *adapter) {
	if a.way == channels.WayCode { // its notice may be faster than the refusal
		r.use(a, patient, true)
	}
	r.silence()
	p := r.refuse(a, true)
	var err error
	if a.way == channels.WayCode {
		p, err = r.Query(r.t.Context(), "H1", p.OrderNo)
	} else {
		r.payer(a, p.OrderNo)
		for err == nil && p.Status != pay.Success { // a notice of the case before may come first
			r.hear(1)
			p, err = r.Get(r.t.Context(), "H1", p.OrderNo)
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if p.Status != pay.Success || !p.Late || !p.Posted {
		r.t.Errorf("%s: late money of %s: %s, late %t, posted %t", a.name, p.OrderNo, p.Status, p.Late, p.Posted)
	}
}

func (r *rig) unknownPaid(a *adapter) {
	r.use(a, patient, true)
	r.plant(live.Fault{Do: live.FaultDrop, Commit: true}, a.first(), a)
	p := r.create(a)
	if p.Status != pay.Unknown {
		r.t.Errorf("%s: without an answer %s is %s", a.name, p.OrderNo, p.Status)
	}
	if a.way != channels.WayCode {
		r.payer(a, p.OrderNo)
	}
	if p = r.untilFinal(p); p.Status != pay.Success || p.SuccessAt.IsZero() || p.TradeNo == "" {
		r.t.Errorf("%s: %s is %s", a.name, p.OrderNo, p.Status)
	}
}

// reversedPaid has every query fail until the plan reverses what was paid.
func (r *rig) reversedPaid(a *adapter) {
	if a.way != channels.WayCode {
		return
	}
	r.use(a, patient, true)
	r.plant(live.Fault{Do: live.FaultDrop, Commit: true}, "pay", a)
	queries := 0
	for _, step := range r.open.Plan(a.way) {
		if step.Act == channels.ActQuery {
			queries++
		}
	}
	r.plant(live.Fault{Do: live.FaultError, Code: "SYSTEMERROR", Times: queries}, "query", a)
	p := r.untilFinal(r.create(a))
	// Where the channel says that the reversal gave money back, both legs are booked.
	if p.Status != pay.Reversed && (p.Status != pay.Success || p.Refunded != p.Amount) {
		r.t.Errorf("%s: %s is %s, %s given back", a.name, p.OrderNo, p.Status, p.Refunded)
	}
	if times, paid, back := r.theirs(a.merchant(), p.OrderNo, ledger.DayOf(p.OccurredAt)); times != 1 || paid != int64(p.Amount) || back != paid {
		r.t.Errorf("%s: the channel was paid %d times, %d fen, and gave %d back", a.name, times, paid, back)
	}
}

func (r *rig) unknownNotPaid(a *adapter) {
	r.plant(live.Fault{Do: live.FaultDrop}, a.first(), a)
	p := r.create(a)
	if p.Status != pay.Unknown {
		r.t.Errorf("%s: without an answer %s is %s", a.name, p.OrderNo, p.Status)
	}
	if p = r.untilFinal(p); p.Status == pay.Success {
		r.t.Errorf("%s: %s is %s", a.name, p.OrderNo, p.Status)
	}
}

// hear waits for so many notices that were taken, and returns why others were not.
func (r *rig) hear(taken int) (refused []error) {
	r.t.Helper()
	give := time.After(patient)
	for taken > 0 {
		select {
		case err := <-r.heard:
			if err == nil {
				taken--
				continue
			}
			refused = append(refused, err)
		case <-give:
			r.t.Fatalf("%d notices never came; refused were %v", taken, refused)
		}
	}
	return refused
}

// silence forgets what was heard of other cases.
func (r *rig) silence() {
	for len(r.heard) > 0 {
		if err := <-r.heard; err != nil {
			r.t.Logf("a notice of another case: %v", err)
		}
	}
}

// notices has the notice of a payment go wrong. A code payment of WeChat has none.
func (r *rig) notices(a *adapter, f live.Fault) {
	if a.way == channels.WayCode {
		return
	}
	r.silence()
	r.plant(f, "", a)
	p := r.create(a)
	r.payer(a, p.OrderNo)
	taken := 1
	switch f.Do {
	case live.FaultNoticeTwice:
		taken = 2
	case live.FaultNoticeLate: // the query is first
		p = r.untilFinal(p)
		r.clock.Add(f.Seconds)
	}
	refused := r.hear(taken)
	for wrong := f.Do == live.FaultNoticeForged || f.Do == live.FaultNoticeForeign; wrong && len(refused) == 0; { // it may come behind the right one
		select {
		case err := <-r.heard:
			refused = append(refused, err)
		case <-time.After(patient):
			r.t.Fatalf("%s: nothing was refused", a.name)
		}
	}
	for _, err := range refused {
		if !errors.Is(err, channels.ErrNotice) && !errors.Is(err, pay.ErrForeign) {
			r.t.Errorf("%s: refused for another reason: %v", a.name, err)
		}
	}
	p, err := r.Get(r.t.Context(), "H1", p.OrderNo)
	if err != nil {
		r.t.Fatal(err)
	}
	if p.Status != pay.Success {
		r.t.Errorf("%s: after its notice %s is %s", a.name, p.OrderNo, p.Status)
	}
}

func (r *rig) earlyNotice(a *adapter) {
	if a.way == channels.WayCode {
		return
	}
	r.silence()
	r.plant(live.Fault{Do: live.FaultDrop, Commit: true}, a.first(), a)
	p := r.create(a)
	r.payer(a, p.OrderNo)
	r.hear(1)
	got, err := r.Get(r.t.Context(), "H1", p.OrderNo)
	if err != nil {
		r.t.Fatal(err)
	}
	if p.Status != pay.Unknown || got.Status != pay.Success {
		r.t.Errorf("%s: %s was %s and is %s", a.name, p.OrderNo, p.Status, got.Status)
	}
}

func (r *rig) partialRefunds(a *adapter) {
	p := r.paid(a)
	for i, amount := range []ledger.Money{300, 300, p.Amount - 600} {
		r.clock.Add(61) // a channel wants a minute between two of them
		back, err := r.giveBack(p, fmt.Sprint("part", r.n, ".", i), amount)
		if err != nil {
			r.t.Fatalf("%s: %v", a.name, err)
		}
		if back = r.untilGivenBack(back); back.Status != pay.RefundSuccess {
			r.t.Errorf("%s: refund %d of %s is %s", a.name, i, p.OrderNo, back.Status)
		}
	}
	if _, err := r.giveBack(p, fmt.Sprint("part", r.n, ".more"), 1); err == nil {
		r.t.Errorf("%s: more was given back of %s than was paid", a.name, p.OrderNo)
	}
	// The channel is asked past our own rules: it refuses, too.
	r.clock.Add(61)
	more := r.open.Refund(r.t.Context(), channels.RefundRequest{OrderNo: p.OrderNo, TradeNo: p.TradeNo, RefundNo: fmt.Sprint("HR2026091500000", r.n), Total: p.Amount, Amount: 1, Cause: channels.CauseItem})
	if more.Outcome == channels.OutcomeSucceeded || more.Outcome == channels.OutcomePending {
		r.t.Errorf("%s: the channel gave back more than was paid: %+v", a.name, more)
	}
}

func (r *rig) oneNumber(a *adapter) {
	p := r.paid(a)
	key := fmt.Sprint("once", r.n)
	first, err := r.giveBack(p, key, 400)
	if err != nil {
		r.t.Fatal(err)
	}
	r.untilGivenBack(first)
	again, err := r.giveBack(p, key, 400)
	if err != nil || again.RefundNo != first.RefundNo {
		r.t.Errorf("%s: the key again gives %+v, %v", a.name, again, err)
	}
	ask := channels.RefundRequest{OrderNo: p.OrderNo, TradeNo: p.TradeNo, RefundNo: first.RefundNo, Total: p.Amount, Amount: 400, Cause: channels.CauseItem}
	for range 2 {
		if x := r.open.Refund(r.t.Context(), ask); x.Outcome == channels.OutcomeFailed {
			r.t.Errorf("%s: the number again: %+v", a.name, x)
		}
	}
	if ask.Amount = 401; r.open.Refund(r.t.Context(), ask).Outcome == channels.OutcomeSucceeded {
		r.t.Errorf("%s: the number refunds another amount", a.name)
	}
	r.agree("one refund number", a.merchant(), p.OrderNo)
}

func (r *rig) billHasBooks(a *adapter) {
	p := r.paid(a)
	back, err := r.giveBack(p, fmt.Sprint("bill", r.n), 250)
	if err != nil {
		r.t.Fatal(err)
	}
	r.untilGivenBack(back)
	if got := r.billed(a, p); got != "BILLED" {
		r.t.Errorf("%s: the bill says %s of %s", a.name, got, p.OrderNo)
	}
}
