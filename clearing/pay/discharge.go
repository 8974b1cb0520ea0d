package pay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Share is what of a discharge refund goes to one payment.
type Share struct {
	OrderNo string
	Amount  ledger.Money
}

// PlanDischarge divides what is left of a stay over its payments in the hospital's
// order: newest first, oldest first, or by route and then oldest first (B07, J43).
func PlanDischarge(payments []*Payment, amount ledger.Money, order string) ([]Share, error) {
	sorted := slices.Clone(payments)
	slices.SortStableFunc(sorted, func(a, b *Payment) int {
		byAge := a.SuccessAt.Compare(b.SuccessAt)
		switch order {
		case clearing.OrderNewest:
			byAge = -byAge
		case clearing.OrderRoute:
			byAge = cmp.Or(cmp.Compare(a.Channel, b.Channel), byAge)
		}
		return cmp.Or(byAge, cmp.Compare(a.OrderNo, b.OrderNo))
	})
	var shares []Share
	left := amount
	for _, p := range sorted {
		if part := min(left, p.Refundable()); part > 0 {
			shares, left = append(shares, Share{p.OrderNo, part}), left-part
		}
	}
	if left > 0 {
		return nil, ErrRefundable.Because("amount_fen", "%s is asked, the payments of the stay have %s left", amount, amount-left)
	}
	return shares, nil
}

// dischargeVerb keeps how a discharge refund was divided, under the key that asked
// for it, so that asking again divides nothing anew.
var dischargeVerb = &ledger.Verb[string]{Name: "pay.discharge", Run: func(_ context.Context, b *ledger.Batch, cmds []string) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	for i, shares := range cmds {
		outcomes[i] = ledger.Outcome{Body: shares, Entry: b.Record("refund.discharge", []byte(shares))}
	}
	return outcomes
}}

// longestStayKey is the characters of a key that becomes those of several refunds,
// each with the payment's number behind it.
const longestStayKey = 90

// Discharge gives back what is left of a stay over its payments, one refund each,
// in the hospital's order. Asked again with the key it goes on where it stopped.
func (s *Refunds) Discharge(ctx context.Context, n NewRefund, orders []string) ([]*Refund, error) {
	switch {
	case n.Key == "" || len(n.Key) > longestStayKey:
		return nil, ErrField.Because("refund.idempotency_key", "must be 1 to %d characters", longestStayKey)
	case len(orders) == 0:
		return nil, ErrField.Because("order_nos", "must name the payments of the stay")
	case len(slices.Compact(slices.Sorted(slices.Values(orders)))) < len(orders):
		return nil, ErrField.Because("order_nos", "name a payment twice: %s", strings.Join(orders, ", "))
	case n.Amount <= 0:
		return nil, ErrField.Because("refund.amount_fen", "%d must be above zero", int64(n.Amount))
	}
	shares, err := s.divide(ctx, &n, orders)
	if err != nil {
		return nil, err
	}
	var made []*Refund
	for _, share := range shares {
		one := n
		one.Key, one.OrderNo, one.Amount, one.Cause = n.Key+"/"+share.OrderNo, share.OrderNo, share.Amount, channels.CauseDischarge
		r, err := s.Create(ctx, one)
		if err != nil {
			return made, err
		}
		made = append(made, r)
	}
	return made, nil
}

func (s *Refunds) divide(ctx context.Context, n *NewRefund, orders []string) ([]Share, error) {
	t, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	var payments []*Payment
	for _, order := range orders {
		p, err := (&Payments{s.House}).Get(ctx, n.Hospital, order)
		if err != nil {
			return nil, err
		}
		payments = append(payments, p)
	}
	canon := fmt.Appendf(nil, `{"hospital":%q,"orders":%q,"amount_fen":%d}`, n.Hospital, strings.Join(orders, " "), int64(n.Amount))
	shares, planErr := PlanDischarge(payments, n.Amount, t.PolicyOn(n.Hospital, ledger.DayOf(s.Now())).Order)
	text, err := json.Marshal(shares)
	if err = errors.Join(err, planErr); err != nil && !errors.Is(err, ErrRefundable) {
		return nil, err
	}
	request := ledger.Request{Scope: "discharge:" + n.App, Key: n.Key, Form: 1, Canon: canon}
	if planErr != nil { // what is left is too small, unless it was divided before
		before, err := s.divided(ctx, request)
		if err != nil || before == "" {
			return nil, errors.Join(err, planErr)
		}
		text = []byte(before)
	} else {
		out, err := ledger.Submit(ctx, s.Committer, dischargeVerb, request, string(text))
		if err = errors.Join(err, out.Err); err != nil {
			return nil, err
		}
		text = []byte(out.Body)
	}
	shares = nil
	err = json.Unmarshal(text, &shares)
	return shares, err
}

// divided is how a request was divided before, "" where it was not.
func (s *Refunds) divided(ctx context.Context, request ledger.Request) (body string, err error) {
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `SELECT body FROM requests WHERE scope = $1 AND key = $2 AND outcome = 'OK'`, request.Scope, request.Key).Scan(&body)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return body, err
}
