package payout_test

import (
	"context"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/payout"
)

// spoiled is a bank whose connection refuses to make a message with that payout.
type spoiled struct {
	*teller
	ref string
}

func (s *spoiled) Bank(string) (channels.BankGateway, error) { return s, nil }

func (s *spoiled) Transfer(ctx context.Context, batch string, list []channels.Transfer) []channels.TransferAnswer {
	answers := make([]channels.TransferAnswer, len(list))
	broken := false
	for i, t := range list {
		answers[i] = channels.TransferAnswer{Ref: t.Ref, State: channels.TransferAbsent, NotSent: true, Reason: channels.Reason{Kind: channels.ReasonRequest}}
		if t.Ref == s.ref {
			answers[i].State, broken = channels.TransferRejected, true
		}
	}
	if broken {
		return answers
	}
	return s.teller.Transfer(ctx, batch, list)
}

// K04: a message that never left holds nobody's money up: what breaks a rule has
// failed and its money is back, the others go in the next message, once.
func TestAMessageThatNeverLeftIsMadeAgainWithoutWhatBrokeItsRule(t *testing.T) {
	h := open(t)
	p, q := h.request(requests["HOSPITAL"]), h.request(requests["REROUTED_REFUND B"])
	h.approve(p, q)
	h.Outside = &spoiled{h.bank, p.Number}
	h.send(2, 0)
	h.is(p.Number, payout.Rejected)
	h.is(q.Number, payout.Approved)
	if got := h.balances()["2202.H2.AVAIL"]; got != 100000 {
		t.Errorf("available is %s", got)
	}
	if len(h.bank.sent) != 0 {
		t.Errorf("the bank was told %v", h.bank.sent)
	}
	h.send(1, 0)
	h.is(q.Number, payout.Sent)
	h.poll(0)
	h.is(p.Number, payout.Rejected)
	if len(h.bank.sent) != 1 || h.bank.sent[0].Ref != q.Number {
		t.Errorf("the bank was told %v", h.bank.sent)
	}
	h.verify()
}
