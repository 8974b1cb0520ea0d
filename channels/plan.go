package channels

import "time"

// Act is what is done about a payment or refund that has no final outcome.
type Act string

// The acts.
const (
	ActQuery   Act = "QUERY"
	ActReverse Act = "REVERSE" // 撤销 of a code payment, until the channel says done
	ActClose   Act = "CLOSE"   // of an unpaid order past its time
	ActResend  Act = "RESEND"  // the same refund number again
	ActPerson  Act = "PERSON"  // a person decides; nothing is asked by itself any more
)

// Step is one thing to do, so long after the last one.
type Step struct {
	After time.Duration
	Act   Act
}

// Plan says what is done about a payment without a final outcome: the steps in
// their order, the last one repeated until the outcome is known. It is data: the
// job asks for the next step and knows nothing of channels.
type Plan []Step

// Next is the step after n steps have been done. The last step of a plan repeats,
// each time twice as late, at most an hour apart.
func (p Plan) Next(n int) Step {
	if n < len(p) {
		return p[n]
	}
	last := p[len(p)-1]
	for i := len(p); i <= n && last.After < time.Hour; i++ {
		last.After *= 2
	}
	last.After = min(last.After, time.Hour)
	return last
}

func repeat(times int, s Step) Plan {
	p := make(Plan, times)
	for i := range p {
		p[i] = s
	}
	return p
}

func inOrder(parts ...Plan) (whole Plan) {
	for _, part := range parts {
		whole = append(whole, part...)
	}
	return whole
}

// The plans of payments (spec/channels.md A.5, D.5, I.3).
var (
	// PlanWeChatCode: wait 5 s, ask every 5 s until 45 s after the payment, then
	// reverse until the channel says done, and ask once more.
	PlanWeChatCode = inOrder(repeat(9, Step{5 * time.Second, ActQuery}), repeat(20, Step{5 * time.Second, ActReverse}), Plan{{time.Minute, ActReverse}})
	// PlanAlipayCode: ask every 5 s for 60 s, then cancel without a gap.
	PlanAlipayCode = inOrder(repeat(12, Step{5 * time.Second, ActQuery}), Plan{{0, ActReverse}}, repeat(20, Step{5 * time.Second, ActReverse}), Plan{{time.Minute, ActReverse}})
	// PlanPrepay: an order that the payer may still pay is asked for until its time
	// is over; then it is closed and asked for once more.
	PlanPrepay = Plan{{10 * time.Second, ActQuery}, {30 * time.Second, ActQuery}, {time.Minute, ActQuery}, {5 * time.Minute, ActQuery}}
	// PlanRefund never gives a refund up: after three days a person is told.
	PlanRefund = Plan{{time.Minute, ActQuery}, {5 * time.Minute, ActQuery}, {30 * time.Minute, ActQuery}, {2 * time.Hour, ActQuery}, {24 * time.Hour, ActQuery}}
	// PlanTransfer: ten seconds, then slower; never sent again while unknown.
	PlanTransfer = Plan{{10 * time.Second, ActQuery}, {time.Minute, ActQuery}, {5 * time.Minute, ActQuery}, {15 * time.Minute, ActQuery}, {time.Hour, ActQuery}}
)

// SweepAt is when a refund that the channel calls abnormal is asked for next: one,
// three and seven days after it was accepted, then every week (spec/reconciliation.md
// 2.4). A person may end it on the channel's merchant platform at any time.
func SweepAt(accepted, now time.Time) time.Time {
	const day = 24 * time.Hour
	at := accepted.Add(day)
	for _, wait := range []time.Duration{2 * day, 4 * day} {
		if !at.After(now) {
			at = at.Add(wait)
		}
	}
	for !at.After(now) {
		at = at.Add(7 * day)
	}
	return at
}
