package lived

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/ledger"
	ledgerv1 "github.com/clearward/clearward/proto/clearward/ledger/v1"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
	reconv1 "github.com/clearward/clearward/proto/clearward/recon/v1"
)

// startKilling kills the server at random moments while patients pay, as often as
// asked; what it returns waits until it is through.
func (l *life) startKilling(ctx context.Context) func() error {
	ended, stop := make(chan error, 1), make(chan struct{})
	go func() {
		d := rand.New(rand.NewPCG(l.o.Seed, 1<<61))
		for range l.o.Kills {
			select {
			case <-stop:
				ended <- nil
				return
			case <-time.After(time.Duration(100+d.IntN(400)) * time.Millisecond):
			}
			if err := l.kill(ctx); err != nil {
				ended <- err
				return
			}
			l.killed.Add(1)
		}
		ended <- nil
	}()
	return func() error {
		close(stop)
		return <-ended
	}
}

// moments of the morning after a day: HIS hands in its details at one, the bank
// its statement from eight on, channels pay out at half past nine and have their
// bills at ten; at half past eleven the day is reconciled.
func mornings(day ledger.Day) []time.Time {
	next := day.Add(1)
	return []time.Time{at(next, 0, 40, 0), at(next, 1, 0, 1), at(next, 1, 10, 1), at(next, 8, 0, 1), at(next, 8, 10, 1), at(next, 9, 31, 0),
		at(next, 10, 0, 1), at(next, 10, 5, 1), at(next, 10, 10, 1), at(next, 11, 30, 1), at(next, 12, 0, 1)}
}

// morning is the one after the day. In its afternoon the bank takes a fee, a channel
// draws money that nobody knows of, and pays some that nobody expects.
func (l *life) morning(ctx context.Context) (int, error) {
	n, err := l.through(ctx, mornings(lifeDay))
	if err == nil {
		l.first, err = l.found(ctx, lifeDay)
	}
	if err != nil {
		return n, err
	}
	if err := l.jump(ctx, at(lifeDay.Add(1), 14, 0, 0)); err != nil {
		return n, err
	}
	return n, l.bankFaults(ctx)
}

// settled is the morning on which the bank's statement brings the settlements.
func (l *life) settled(ctx context.Context) (int, error) {
	return l.through(ctx, mornings(lifeDay.Add(1)))
}

func (l *life) through(ctx context.Context, list []time.Time) (int, error) {
	for _, to := range list {
		if err := l.jump(ctx, to); err != nil {
			return 0, err
		}
	}
	return len(list), l.failedJobs(ctx)
}

// found are the rows of a day that the program lists.
func (l *life) found(ctx context.Context, day ledger.Day) ([]*reconv1.Item, error) {
	answer, err := l.calls.recon.GetDay(ctx, &reconv1.GetDayRequest{Day: day.String()})
	if err != nil {
		return nil, fmt.Errorf("day %s: %w", day, err)
	}
	return answer.GetDay().GetItems(), nil
}

// line is what is compared of a row: code, polarity, numbers, the three amounts and
// the difference.
func line(code, polarity, order, refund, bank string, his, platform, channel *int64, d int64) string {
	show := func(p *int64) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprint(*p)
	}
	return strings.Join([]string{code, polarity, order, refund, bank, show(his), show(platform), show(channel), fmt.Sprint(d)}, ",")
}

func plannedLine(c sandbox.Case) string {
	polarity := ""
	if !slices.Contains([]string{"PENDING", "WAITING", "SWEEP", "BANK_FEE"}, c.Code) {
		switch {
		case c.AmountFen > 0:
			polarity = "long"
		case c.AmountFen < 0:
			polarity = "short"
		}
	}
	return line(c.Code, polarity, c.OrderNo, c.RefundNo, c.BankRef, c.HisFen, c.PlatformFen, c.ChannelFen, c.AmountFen)
}

// comparedDays are the day and those after it, of which every row is compared.
const comparedDays = 4

// check compares what was planted with what was found, and what everybody says of
// the same money.
func (l *life) check(ctx context.Context) (int, error) {
	if err := l.planReturn(ctx); err != nil {
		return 0, err
	}
	left, items := map[string]int{}, 0
	for _, f := range l.faults {
		if len(f.found) == 0 {
			l.wrong("fault %s (%s) was never planted", f.kind.code, f.kind.name)
		}
		for _, c := range f.found {
			left[plannedLine(c)]++
		}
	}
	for n := range comparedDays {
		found, err := l.found(ctx, lifeDay.Add(n))
		if err != nil {
			return 0, err
		}
		if n == 0 { // as published the next morning, and what the bank's statement and a restated bill added
			found = append(l.first, since(l.first, found)...)
		}
		items += len(found)
		for _, i := range found {
			left[line(i.GetCode(), i.GetPolarity(), i.GetOrderNo(), i.GetRefundNo(), i.GetBankRef(), i.HisFen, i.PlatformFen, i.ChannelFen, i.GetAmountFen())]--
		}
	}
	for text, n := range left {
		switch {
		case n > 0:
			l.wrong("planted, not found: %s", text)
		case n < 0:
			l.wrong("found, not planted: %s", text)
		}
	}
	if err := l.agree(ctx); err != nil {
		return 0, err
	}
	l.heard()
	paid, err := l.calls.maker.ListPayouts(ctx, &payoutv1.ListPayoutsRequest{})
	if err != nil {
		return 0, err
	}
	l.payouts = paid.GetPayouts()
	for _, p := range l.payouts {
		want := "SUCCEEDED"
		switch {
		case p.GetNumber() == l.silent:
			want = "SENT"
		case p.GetKind() == "HOSPITAL":
			want = "RETURNED"
		}
		if p.GetState() != want {
			l.wrong("payout %s (%s of %s) is %s, not %s", p.GetNumber(), p.GetKind(), p.GetHospital(), p.GetState(), want)
		}
	}
	verdict, err := l.calls.audit.Verify(ctx, &ledgerv1.VerifyRequest{})
	for _, f := range verdict.GetFindings() {
		l.wrong("the books: %s: %s", f.GetSubject(), f.GetDetail())
	}
	return items, err
}
