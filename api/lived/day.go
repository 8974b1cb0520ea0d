package lived

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
	errorv1 "github.com/clearward/clearward/proto/clearward/error/v1"
	ledgerv1 "github.com/clearward/clearward/proto/clearward/ledger/v1"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// back is a refund of a visit that is to come.
type back struct {
	v   *visit
	nth int
}

// draw draws the day.
func (l *life) draw(ctx context.Context) (int, error) {
	l.byStep, l.backs, l.fates = make([][]*visit, steps+1), make([][]back, steps+1), map[fate]int{}
	l.faults = plant(l.o.Seed, l.o.Payments)
	for n := range l.o.Payments {
		v := draft(l.o.Seed, n)
		if n < len(l.faults) {
			l.faults[n].shape(v)
		}
		l.fates[v.fate]++
		l.byStep[v.step] = append(l.byStep[v.step], v)
		for i := range v.backs {
			step := v.step + 1 + i*2
			if step >= steps { // the day is over: this part was never asked back
				v.backs = v.backs[:i]
				break
			}
			l.backs[step] = append(l.backs[step], back{v, i})
		}
	}
	if err := errors.Join(l.connect(), l.connectHIS()); err != nil {
		return 0, err
	}
	return l.o.Payments, l.payees(ctx)
}

// day lives the day, and kills the server meanwhile where that is asked for.
func (l *life) day(ctx context.Context) (lived int, err error) {
	killing := l.startKilling(ctx)
	lived, err = l.hours(ctx)
	if err = errors.Join(err, killing()); err == nil {
		err = l.untilFinal(ctx)
	}
	for _, do := range l.evenings {
		if err == nil {
			err = do(ctx)
		}
	}
	return lived, err
}

// hours are those in which patients pay and others are paid back: the clock jumps.
func (l *life) hours(ctx context.Context) (int, error) {
	lived, show := 0, l.o.Meter.Of(words(l.o.Lang)["paying"])
	for step := range steps + 1 {
		if err := l.jump(ctx, moment(step)); err != nil {
			return lived, err
		}
		if err := l.bills(ctx, l.byStep[step]); err != nil {
			return lived, err
		}
		err := eachOf(ctx, l.byStep[step], func(ctx context.Context, v *visit) error {
			l.mu.Lock()
			lived++
			show(lived, l.o.Payments)
			l.mu.Unlock()
			return l.visit(ctx, v)
		})
		if err == nil {
			err = l.lookAgain(ctx)
		}
		if err == nil {
			err = eachOf(ctx, l.backs[step], l.giveBack)
		}
		if err != nil {
			return lived, err
		}
		l.byStep[step], l.backs[step] = nil, nil
	}
	return lived, nil
}

// visit is a patient who pays, by a channel or in cash.
func (l *life) visit(ctx context.Context, v *visit) error {
	if v.number == nil {
		return l.payCash(ctx, v)
	}
	if v.pays() {
		var err error
		if v.missed, err = l.misses(ctx, his.PathAcknowledge, v, 0); err != nil {
			return err
		}
	}
	return l.attempt(ctx, v)
}

// attempt is one try to pay the visit's bill, each with a key of its own.
func (l *life) attempt(ctx context.Context, v *visit) error {
	p, err := l.create(ctx, v, v.try)
	if err != nil {
		return err
	}
	v.order, v.trade = p.GetOrderNo(), p.GetTradeNo()
	switch {
	case v.fate == twice:
		if again, err := l.create(ctx, v, v.try); err != nil || again.GetOrderNo() != v.order {
			l.wrong("bill %s: one key twice made %s and %s (%v)", v.bill(), v.order, again.GetOrderNo(), err)
		}
	case v.fate == refused && v.try == 0 && p.GetStatus() != "CREATED":
		if p.GetStatus() != "FAILED" || !p.GetMayChargeAgain() {
			l.wrong("bill %s: refused by the channel, and the cashier is told %s, %s", v.bill(), p.GetStatus(), p.GetTell())
		}
		v.try++
		return l.attempt(ctx, v)
	case v.fault != nil && v.fault.made != nil:
		return v.fault.made(ctx, l, v)
	case v.way != channels.WayCode && p.GetPrepay() != "":
		if p, err = l.prepaid(ctx, v, p); err != nil {
			return err
		}
	}
	if p.GetStatus() != "SUCCESS" {
		l.mu.Lock()
		l.open = append(l.open, v)
		l.mu.Unlock()
		return nil
	}
	return l.succeeded(ctx, v, p)
}

// create asks for the visit's payment. A second try has a key and a code of its own.
func (l *life) create(ctx context.Context, v *visit, try int) (*payv1.Payment, error) {
	answer, err := answered(ctx, func() (*payv1.CreatePaymentResponse, error) {
		ask := &payv1.CreatePaymentRequest{IdempotencyKey: fmt.Sprintf("%s_%d", v.bill(), try), Hospital: v.hospital.code, Channel: v.number.channel,
			MerchantNo: v.number.no, BillNo: v.bill(), BizType: string(v.biz), Terminal: "T01", Way: string(v.way), AmountFen: v.fen, ClientIp: "127.0.0.1", PatientRef: v.patient()}
		switch v.way {
		case channels.WayCode:
			ask.AuthCode = v.code(try)
		case channels.WayJSAPI:
			ask.Payer = fmt.Sprintf("oUpF8uMuAJO_M2pxb1Q9%08d", v.n)
		}
		return l.calls.pay.CreatePayment(ctx, ask)
	})
	if err != nil {
		return nil, fmt.Errorf("bill %s: %w", v.bill(), err)
	}
	return answer.GetPayment(), nil
}

// succeeded is what follows a payment: the app tells HIS where it is the app that
// does, and a second payment of the bill must be refused.
func (l *life) succeeded(ctx context.Context, v *visit, p *payv1.Payment) error {
	v.trade = p.GetTradeNo()
	if p.GetAmountFen() != v.fen {
		l.wrong("payment %s: %d fen were asked, %d paid", v.order, v.fen, p.GetAmountFen())
	}
	if v.fate == second {
		_, err := l.create(ctx, v, v.try+100)
		if refusal(err) != "ALREADY_PAID" {
			l.wrong("bill %s was paid, and paying it again is answered %v", v.bill(), err)
		}
	}
	if err := l.tellHIS(ctx, v); err != nil {
		return err
	}
	if v.fault != nil && v.fault.paid != nil {
		if err := v.fault.paid(ctx, l, v); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.done = append(l.done, v)
	v.paid = true
	l.mu.Unlock()
	return nil
}

// isPaid says whether the visit's payment is known to have succeeded.
func (l *life) isPaid(v *visit) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return v.paid
}

// evening keeps something to be done when the day's last payment is made, and before
// HIS hands in its details.
func (l *life) evening(do func(ctx context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.evenings = append(l.evenings, do)
}

// refusal is the code of a typed refusal, "" for none.
func refusal(err error) string {
	var refused *connect.Error
	if !errors.As(err, &refused) {
		return ""
	}
	for _, d := range refused.Details() {
		if value, err := d.Value(); err == nil {
			if r, ok := value.(*errorv1.Refusal); ok {
				return r.GetCode()
			}
		}
	}
	return ""
}

// payCash is a patient who pays at the window in cash.
func (l *life) payCash(ctx context.Context, v *visit) error {
	_, err := answered(ctx, func() (*ledgerv1.PostCashResponse, error) {
		return l.calls.cash.PostCash(ctx, &ledgerv1.PostCashRequest{Cash: &ledgerv1.Cash{IdempotencyKey: "cash_" + v.bill(), Journal: "J08a",
			Hospital: v.hospital.code, Cashier: "C01", AmountFen: v.fen, Day: lifeDay.String(), Ref: v.bill()}})
	})
	if err != nil {
		return err
	}
	return l.cashAtHIS(ctx, v)
}

// lookAgain asks for the payments that had no final outcome.
func (l *life) lookAgain(ctx context.Context) error {
	l.mu.Lock()
	list := l.open
	l.open = nil
	l.mu.Unlock()
	return eachOf(ctx, list, func(ctx context.Context, v *visit) error {
		answer, err := answered(ctx, func() (*payv1.GetPaymentResponse, error) {
			return l.calls.pay.GetPayment(ctx, &payv1.GetPaymentRequest{Hospital: v.hospital.code, OrderNo: v.order})
		})
		if err != nil {
			return err
		}
		switch status := answer.GetPayment().GetStatus(); status {
		case "SUCCESS":
			if !v.pays() {
				l.wrong("payment %s: nobody paid it, and it is %s", v.order, status)
			}
			return l.succeeded(ctx, v, answer.GetPayment())
		case "FAILED", "CLOSED", "REVERSED":
			if l.o.Kills > 0 && (v.fault == nil || v.fault.made == nil) { // the server may have died before it asked the channel
				v.try, v.fate = v.try+1, paid
				return l.attempt(ctx, v)
			}
			if v.pays() && (v.fault == nil || !v.fault.ends) {
				l.wrong("payment %s (%s) ends as %s", v.order, v.fate, status)
			}
			return nil
		}
		l.mu.Lock()
		l.open = append(l.open, v)
		l.mu.Unlock()
		return nil
	})
}

// secondsOfStep is how far the clock goes between two looks at open payments.
const secondsOfStep = 10 * time.Second

// untilFinal lets the plans of the open payments run to their ends.
func (l *life) untilFinal(ctx context.Context) error {
	const most = 24 // ten seconds each: reversals are over long before
	for n := range most {
		if len(l.open) == 0 && n > 0 { // once at least: HIS is to hear of the last payments today
			return nil
		}
		if err := l.jump(ctx, l.clock.Now().Add(secondsOfStep)); err != nil {
			return err
		}
		if err := l.lookAgain(ctx); err != nil {
			return err
		}
	}
	for _, v := range l.open {
		l.wrong("payment %s (%s) has no final outcome", v.order, v.fate)
	}
	return nil
}

// refundKey is the idempotency key of a visit's refund.
func refundKey(b back) string { return fmt.Sprintf("%s_back_%d", b.v.bill(), b.nth) }
