package pay

import (
	"fmt"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Limit is one of the limits of a refund, with the rule behind it.
type Limit struct {
	Name   string // HIS, CHANNEL, PARTS, DAYS, SPACING, BALANCE
	Amount ledger.Money
	Rule   string
}

// Limits are what may be given back of a payment (U03).
type Limits struct {
	List     []Limit
	Route    string // the channel of the original route
	DaysLeft int    // in which the channel still refunds
	Smallest Limit
}

func (l *Limits) add(name string, amount ledger.Money, rule string, args ...any) {
	l.List = append(l.List, Limit{name, max(amount, 0), fmt.Sprintf(rule, args...)})
}

// smallest is the limit that decides.
func (l *Limits) smallest() Limit {
	least := l.List[0]
	for _, other := range l.List[1:] {
		if other.Amount < least.Amount {
			least = other
		}
	}
	return least
}

// limitsOf reckons the limits that the verb itself holds: all but the merchant's
// balance, which the channel knows best.
func limitsOf(p *Payment, refunds map[key]*Refund, his ledger.Money, now time.Time) *Limits {
	l := &Limits{Route: p.Channel}
	left := p.Refundable()
	l.add("CHANNEL", left, "%s of %s is paid, less %s given back and %s under way", p.Amount, p.OrderNo, p.Refunded, p.Requested)
	if his > 0 {
		l.add("HIS", his, "HIS allows %s", his)
	}
	parts, last := 0, time.Time{}
	for _, r := range refunds {
		if r.Hospital != p.Hospital || r.OrderNo != p.OrderNo || r.Kind != channels.Refund || r.Status == RefundFailed {
			continue
		}
		parts++
		if r.Status == RefundSuccess && r.AcceptedAt.After(last) {
			last = r.AcceptedAt
		}
	}
	if parts >= maxRefunds {
		l.add("PARTS", 0, "the channel takes %d partial refunds of a payment: the next goes by the bank (J39)", maxRefunds)
	}
	l.DaysLeft = max(0, refundDays-int(now.Sub(p.Day.Start())/(24*time.Hour)))
	if l.DaysLeft == 0 {
		l.add("DAYS", 0, "the channel refunds within %d days: an older payment goes by the bank (J39)", refundDays)
	}
	if wait := refundSpacing - now.Sub(last); !last.IsZero() && wait > 0 {
		l.add("SPACING", 0, "the channel asks for a minute between refunds of a payment: %s more", wait.Round(time.Second))
	}
	l.Smallest = l.smallest()
	return l
}
