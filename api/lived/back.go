package lived

import (
	"context"
	"fmt"
	"maps"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// refundOf plans something about the visit's refund before it is asked for.
func refundOf(what map[string]any, said func(f *fault, v *visit, no string)) func(f *fault) {
	return func(f *fault) {
		f.keeps = what["do"] == "REFUND_CLOSED"
		f.refunding = func(ctx context.Context, l *life, v *visit) error {
			return spoil(ctx, l, v, maps.Clone(what))
		}
		f.refunded = func(_ context.Context, _ *life, v *visit, no string) error {
			said(f, v, no)
			return nil
		}
	}
}

// refundAtChannel spoils the refund's row in the bill.
func refundAtChannel(what map[string]any, said func(f *fault, v *visit, no string)) func(f *fault) {
	return func(f *fault) {
		f.refunded = func(ctx context.Context, l *life, v *visit, no string) error {
			said(f, v, no)
			row := maps.Clone(what)
			row["refund"] = no
			return spoil(ctx, l, v, row)
		}
	}
}

// backThere is a payment whose money is at another number, of another hospital or of the
// same, and whose refund comes from there.
func backThere(paid func(f *fault), there func(v *visit) (*hospital, *number)) func(f *fault) {
	return func(f *fault) {
		paid(f)
		f.refunded = func(ctx context.Context, l *life, v *visit, no string) error {
			h, n := there(v)
			if h == v.hospital {
				everybodys(f, v, no)
			} else {
				other := *v
				other.hospital, other.number = h, n
				f.row(v, no, &v.backs[0], &v.backs[0], nil)
				f.row(&other, no, nil, nil, &v.backs[0])
			}
			return spoil(ctx, l, v, map[string]any{"do": "BILL_ELSEWHERE", "refund": no, "other": n.no})
		}
	}
}

// refundAtHIS spoils the refund's row in the details of HIS, which goes by the number
// with which HIS was asked; more is by how much it differs.
func refundAtHIS(what string, more int64, said func(f *fault, v *visit, no string)) func(f *fault) {
	return func(f *fault) {
		f.refunded = func(_ context.Context, l *life, v *visit, no string) error {
			said(f, v, no)
			asked := no
			if v.hospital.calls == "APP" {
				asked = appRefund(back{v, 0})
			}
			l.evening(func(ctx context.Context) error {
				return l.admin(ctx, "/his/faults", map[string]any{"do": what, "hospital": v.hospital.code, "order_no": v.order, "refund_no": asked, "fen": more}, nil)
			})
			return nil
		}
	}
}

// voidedAlone is a charge that HIS takes back at its own window, where nobody asks the
// platform to give the money back.
func voidedAlone(f *fault) {
	f.instead = func(ctx context.Context, l *life, v *visit) error {
		if err := l.voids(ctx, v, fmt.Sprintf("WINDOW%d", v.n), false); err != nil {
			return err
		}
		fen := v.backs[0]
		f.row(v, "", &fen, nil, nil)
		f.found[0].Kind, f.found[0].AmountFen = "REFUND", fen // long: HIS has given it back, and the money is here
		return nil
	}
}

// deniedAndVoided is a refund that HIS refuses in words, so that nobody is paid back, and
// carries out in its own books; there it may note the refund's number.
func deniedAndVoided(noted bool) func(f *fault) {
	return func(f *fault) {
		f.instead = func(ctx context.Context, l *life, v *visit) error {
			if err := l.admin(ctx, "/his/faults", map[string]any{"do": "ERROR", "api": "bills/cancel", "commit": true, "code": "SERVED", "text": "项目已执行",
				"hospital": v.hospital.code, "order_no": v.order}, nil); err != nil {
				return err
			}
			r, err := l.asksBack(ctx, back{v, 0}.ask())
			if err == nil && r.GetStatus() != "FAILED" {
				err = fmt.Errorf("%w: HIS refused refund %s, and it is %s", ErrDemo, r.GetRefundNo(), r.GetStatus())
			}
			no := ""
			if err == nil && noted {
				no, err = r.GetRefundNo(), l.writesBack(ctx, v, r.GetRefundNo())
			}
			f.row(v, no, &v.backs[0], nil, nil)
			f.found[0].Kind, f.found[0].AmountFen = "REFUND", v.backs[0]
			return err
		}
	}
}

// closedAndForgotten is a refund that the channel closed and HIS never booked: it is the
// platform alone that has it.
func closedAndForgotten(f *fault) {
	refundOf(map[string]any{"do": "REFUND_CLOSED", "seconds": 120}, nil)(f)
	refundAtHIS("ROW_MISSING", 0, func(f *fault, v *visit, no string) { f.row(v, no, nil, &v.backs[0], nil) })(f)
}

// unheardOf is a payment that is given back whole on its day, and of both HIS has no row
// (一正一负).
func unheardOf(f *fault) {
	atHIS("ROW_MISSING", 0, func(f *fault, v *visit) { f.row(v, "", nil, &v.fen, &v.fen) })(f)
	refundAtHIS("ROW_MISSING", 0, func(f *fault, _ *visit, _ string) { f.found[0].AmountFen = 0 })(f)
}

// inPortal is a refund that the hospital's staff made in the channel's own portal; HIS
// has taken the charge back under that number, or has not heard of it.
func inPortal(inHIS bool) func(f *fault) {
	return func(f *fault) {
		f.instead = func(ctx context.Context, l *life, v *visit) error {
			fen, no := v.backs[0], fmt.Sprintf("MP%s%06d", lifeDay.Compact(), f.n)
			var his *int64
			if inHIS {
				if err := l.voids(ctx, v, no, true); err != nil {
					return err
				}
				his = &fen
			}
			f.row(v, no, his, nil, &fen)
			return l.admin(ctx, "/refund", map[string]any{"merchant": v.number.no, "order": v.order, "refund": no, "fen": fen}, nil)
		}
	}
}

// foreignBack is a payment on the number that nobody here asked for, of which half is
// given back in the channel's portal; back is the code of that half.
func foreignBack(order, back string) func(f *fault) {
	return func(f *fault) {
		foreignRow(order)(f)
		came := f.paid
		f.paid = func(ctx context.Context, l *life, v *visit) error {
			if err := came(ctx, l, v); err != nil {
				return err
			}
			other, half, no := *v, v.fen/2, fmt.Sprintf("MP%s%06d", lifeDay.Compact(), f.n)
			other.order = f.found[0].OrderNo
			f.row(&other, no, nil, nil, &half)
			f.found[1].Code = back
			return l.admin(ctx, "/refund", map[string]any{"merchant": v.number.no, "order": other.order, "refund": no, "fen": half}, nil)
		}
	}
}

// voids has HIS take the visit's charge back at its own window, under a number that
// the platform does not know; the row of HIS has the number once it is written back.
func (l *life) voids(ctx context.Context, v *visit, no string, written bool) error {
	ask := v.voiding(l, no)
	ask.Key = "cancel-" + no
	if word := l.his[v.hospital.code].Cancel(ctx, ask); word.Outcome != channels.OutcomeSucceeded {
		return fmt.Errorf("%w: HIS does not void %s: %s %s", ErrDemo, v.bill(), word.Outcome, word.Reason.Text)
	}
	if !written {
		return nil
	}
	return l.writesBack(ctx, v, no)
}

// writesBack has HIS note a refund's number on the charge that it has voided.
func (l *life) writesBack(ctx context.Context, v *visit, no string) error {
	ask := v.voiding(l, no)
	ask.Key = "refund-" + no
	if word := l.his[v.hospital.code].WriteBackRefund(ctx, ask); word.Outcome != channels.OutcomeSucceeded {
		return fmt.Errorf("%w: HIS does not note %s on %s: %s %s", ErrDemo, no, v.bill(), word.Outcome, word.Reason.Text)
	}
	return nil
}

// voiding is what HIS is told of a charge that it takes back.
func (v *visit) voiding(l *life, no string) channels.HISRequest {
	return channels.HISRequest{Hospital: v.hospital.code, BillNo: v.bill(), OrderNo: v.order, RefundNo: no, Amount: ledger.Money(v.backs[0]),
		Tender: v.number.channel, Operator: "C01", BizType: string(v.biz), RefundedAt: l.clock.Now()}
}

// everybodys is a refund of which everybody says the same.
func everybodys(f *fault, v *visit, no string) { f.row(v, no, &v.backs[0], &v.backs[0], &v.backs[0]) }

// notGiven is a refund that everybody has but the channel.
func notGiven(f *fault, v *visit, no string) { f.row(v, no, &v.backs[0], &v.backs[0], nil) }
