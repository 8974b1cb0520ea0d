package recon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
)

// ErrHISBooked refuses a refund of what HIS has booked.
var ErrHISBooked = ledger.Refusal{Code: "HIS_BOOKED"}

// ErrHISSilent says that HIS did not say whether it has booked what people want to
// refund. It is no refusal: asked again it may go better.
var ErrHISSilent = errors.New("HIS does not say whether it has booked the payment")

// hisAsked is the act of a log's line that holds HIS's word.
const hisAsked = "his"

// askHIS asks the live HIS about each payment whose money a REFUND would take out of
// 2204, before the decision is submitted: such money goes back only after HIS says
// that it has not served the patient (E07, R07). It is asked for whatever code the
// money waits there; an approval asks anew, as HIS may have booked it since the
// proposal. What HIS says goes to the log of the case: ErrHISBooked where it has
// booked the payment, ErrHISSilent where it gives no answer.
//
// Where the app calls HIS (B23), or HIS is not connected and sends files, or where the
// platform never had the payment, there is nobody to ask: people have looked into HIS
// themselves, and the log says that the platform has not.
func (d *decision) askHIS(ctx context.Context) error {
	if d.engine.House == nil || d.Act == "reject" {
		return nil
	}
	var c *Case
	var waits []waiting
	err := d.engine.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if c, err = oneCase(ctx, tx, d.CaseID); err != nil {
			return err
		}
		said, err := d.said(ctx, tx, c)
		if resolution, _ := d.words(c); err != nil || said || resolution != "REFUND" || d.refused(c) != nil {
			return err
		}
		open, err := suspense(ctx, tx, d.dir, c)
		if err != nil {
			return err
		}
		waits = d.awaiting(open)
		d.heard, err = otherTenders(ctx, tx, waits, c.Day)
		return err
	})
	if err != nil {
		return err
	}
	d.seen, d.asked = c, map[waiting]bool{}
	for _, w := range waits {
		d.asked[w] = true
		word, err := d.engine.served(ctx, c, w)
		if word != "" && errors.Is(err, ErrHISBooked) {
			out, failed := ledger.Submit(ctx, d.engine.Committer, noteCase, ledger.Request{}, caseLine{c.ID, d.Who, hisAsked, word})
			return errors.Join(err, failed, out.Err)
		}
		if err != nil {
			return err
		}
		d.heard = append(d.heard, word)
	}
	return nil
}

// otherTenders notes what the details of HIS have of the payments' bills by another
// tender, cash for instance, on the day of the case and the next: the drawer may be
// short by as much (I8), so that is looked into before anything is refunded (R07). The
// run has linked what stands within half an hour of the payment. It refuses nothing:
// the patient may have paid twice.
func otherTenders(ctx context.Context, tx pgx.Tx, waits []waiting, day ledger.Day) (notes []string, err error) {
	for _, w := range waits {
		rows, err := tx.Query(ctx, `
			SELECT l.tender, SUM(CASE WHEN l.kind = 'PAY' THEN l.amount ELSE -l.amount END)::INT8 AS fen
			FROM payments AS p
			JOIN feed_parts AS f ON f.day IN ($3, $4) AND f.source = 'HIS' AND f.hospital = p.hospital AND f.part = 'ALL'
			JOIN his_lines AS l ON l.file = f.file AND (l.bill_no = p.bill_no OR l.original_bill_no = p.bill_no)
			WHERE p.hospital = $1 AND p.order_no = $2 AND p.bill_no <> '' AND l.channel NOT IN ($5, $6, $7)
			GROUP BY l.tender HAVING SUM(CASE WHEN l.kind = 'PAY' THEN l.amount ELSE -l.amount END) > 0
			ORDER BY l.tender`, w.hospital, w.order, day, day.Add(1), channels.WeChat, channels.Alipay, channels.UnionPay)
		if err != nil {
			return nil, fmt.Errorf("read other tenders of %s: %w", w.order, err)
		}
		var tender string
		var fen ledger.Money
		_, err = pgx.ForEachRow(rows, []any{&tender, &fen}, func() error {
			notes = append(notes, note(noteHISTender, tender, fen.String()))
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read other tenders of %s: %w", w.order, err)
		}
	}
	return notes, nil
}

// waiting is an order whose money waits for a hospital's HIS in 2204.
type waiting struct{ hospital, order string }

// awaiting are the orders of which money waits for HIS.
func (d *decision) awaiting(open []Suspense) (out []waiting) {
	for i := range d.dir.Hospitals {
		h := d.dir.Hospitals[i].Code
		for _, s := range open {
			if s.Fen > 0 && s.Account.ID() == clearing.AwaitingHIS(h).ID() {
				out = append(out, waiting{h, s.Ref})
			}
		}
	}
	return out
}

// unasked refuses what has changed while HIS was asked: another proposal than the one
// that is approved, or a refund of money that came to wait for HIS since.
func (d *decision) unasked(c *Case, open []Suspense) error {
	switch {
	case d.engine.House == nil:
		return nil
	case !c.ChangedAt.Equal(d.seen.ChangedAt):
		return ErrCaseState.Because("case", "%s was decided by somebody else while HIS was asked: look again", c.ID)
	case c.Resolution != "REFUND":
		return nil
	}
	for _, w := range d.awaiting(open) {
		if !d.asked[w] {
			return ErrCaseState.Because("case", "%s has changed at this moment, and HIS was not asked about %s: look again", c.ID, w.order)
		}
	}
	return nil
}

// untold ends the write-back of payments that two people have decided to give back as
// not served: HIS is not told any more to book them, and that it booked one is refused
// while the refund is under way.
func (d *decision) untold(b *ledger.Batch, c *Case, open []Suspense) {
	if c.Resolution != "REFUND" || c.Code == I5 {
		return
	}
	for _, w := range d.awaiting(open) {
		b.Exec(`
			UPDATE payments SET his = 'REFUSED', his_next_at = NULL, version = version + 1
			WHERE hospital = $1 AND order_no = $2 AND his IN ('', 'WAIT') AND way <> '' AND status = 'SUCCESS'`, w.hospital, w.order)
	}
}

// served asks HIS about one payment; word is the note of what it says.
func (e *Engine) served(ctx context.Context, c *Case, w waiting) (word string, err error) {
	calls, err := e.House.PlatformCalls(ctx, w.hospital)
	switch {
	case err != nil:
		return "", err
	case !calls:
		return e.appSaid(ctx, w)
	}
	said, _, err := (&pay.Payments{House: e.House}).AskHIS(ctx, w.hospital, w.order)
	switch booked := c.bookedBefore(); {
	case said.Outcome == "" && errors.Is(err, pay.ErrNotFound):
		return note(noteHISUnknown), nil
	case said.Outcome == "" && errors.Is(err, pay.ErrNotAllowed):
		return note(noteHISFiles), nil
	case said.Outcome == "":
		return "", fmt.Errorf("%w %s: %v: nothing is decided", ErrHISSilent, w.order, err)
	case err != nil && !isRefusal(err):
		return "", err
	case said.Outcome == channels.OutcomeFailed && said.Reason.Kind == channels.ReasonNotFound:
		return note(noteHISNone), nil
	case said.Outcome != channels.OutcomeSucceeded:
		return "", fmt.Errorf("%w %s: %s: nothing is decided", ErrHISSilent, w.order, strings.TrimSpace(said.Reason.Code+" "+said.Reason.Text))
	case said.Amount > booked:
		return note(noteHISBooked, said.Amount.String()), ErrHISBooked.Because("resolution", "HIS has booked payment %s with %s: it is not refunded as not served; %s settles it",
			w.order, said.Amount, strings.Join(c.besideRefund(), " or "))
	}
	return note(noteHISBooked, said.Amount.String()), nil
}

// appSaid is the note where the app calls HIS: with whether it has told the platform
// that HIS has booked the payment. It refuses nothing: the app may have told so before
// HIS changed its mind, and the platform cannot ask.
func (e *Engine) appSaid(ctx context.Context, w waiting) (string, error) {
	p, err := (&pay.Payments{House: e.House}).Get(ctx, w.hospital, w.order)
	switch {
	case err != nil && !errors.Is(err, pay.ErrNotFound):
		return "", err
	case err == nil && p.HIS == pay.HISDone:
		return note(noteHISAppBooked), nil
	}
	return note(noteHISApp), nil
}

// bookedBefore is what HIS may have booked of the payment without serving what the
// case would give back: of I5 the part that it booked from the start.
func (c *Case) bookedBefore() ledger.Money {
	if c.Code == I5 && c.HIS != nil {
		return *c.HIS
	}
	return 0
}

// besideRefund is what else settles the case.
func (c *Case) besideRefund() []string {
	return slices.DeleteFunc(resolutionsOf(c), func(name string) bool { return name == "REFUND" || name == "NOTED" })
}
