package pay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// journalsOf lists the kinds of the entries of an order or refund, in order.
func (k *desk) journals() string {
	k.t.Helper()
	rows, err := k.DB.Pool.Query(k.t.Context(), `SELECT kind FROM entries ORDER BY lane, seq, ord`)
	if err != nil {
		k.t.Fatal(err)
	}
	kinds, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		k.t.Fatal(err)
	}
	return strings.Join(kinds, " ")
}

// words are what a channel or HIS may say of a payment.
var words = map[string]*paymentEvent{
	"succeeded":     {answer: &channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000}},
	"other amount":  {answer: &channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: 9999}},
	"pending":       {answer: &channels.PayAnswer{Outcome: channels.OutcomePending}},
	"unknown":       {answer: &channels.PayAnswer{Outcome: channels.OutcomeUnknown}},
	"failed":        {answer: &channels.PayAnswer{Outcome: channels.OutcomeFailed}},
	"closed":        {answer: &channels.PayAnswer{Outcome: channels.OutcomeFailed, Closed: true}},
	"reversed":      {answer: &channels.PayAnswer{Outcome: channels.OutcomeFailed, Reversed: true}},
	"paid+reversed": {answer: &channels.PayAnswer{Outcome: channels.OutcomeFailed, Reversed: true, Refunded: true}},
	"HIS booked":    {his: &channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000}},
	"HIS refused":   {his: &channels.HISAnswer{Outcome: channels.OutcomeFailed}},
	"HIS silent":    {his: &channels.HISAnswer{Outcome: channels.OutcomeUnknown}},
}

// TestStatesAndEvents is the table of spec/channels.md I.1 with the journals of
// spec/accounting.md 3.3: which state follows, what is posted.
func TestStatesAndEvents(t *testing.T) {
	const paidOnce = "J01+J03+J04a"
	for _, row := range []struct {
		first, then     string
		status          Status
		refused         error
		posted, journal string
	}{
		{"pending", "succeeded", Success, nil, "posted", paidOnce},
		{"pending", "pending", Paying, nil, "", ""},
		{"pending", "unknown", Unknown, nil, "", ""},
		{"pending", "failed", Failed, nil, "", ""},
		{"pending", "closed", Closed, nil, "", ""},
		{"pending", "reversed", Reversed, nil, "", ""},
		{"pending", "other amount", Unknown, ErrDiffers, "", ""},
		{"pending", "HIS booked", Paying, ErrOrderOfSteps, "", ""},
		{"unknown", "succeeded", Success, nil, "posted", paidOnce},
		{"unknown", "unknown", Unknown, nil, "", ""},
		{"unknown", "failed", Failed, nil, "", ""},
		{"unknown", "paid+reversed", Success, nil, "posted", paidOnce + " J22 J19a+J19b"},
		{"failed", "succeeded", Success, nil, "late posted", "E06+J04a"},
		{"failed", "pending", Failed, nil, "", ""},
		{"failed", "closed", Failed, nil, "", ""},
		{"failed", "other amount", Failed, ErrDiffers, "", ""},
		{"closed", "succeeded", Success, nil, "late posted", "E06+J04a"},
		{"closed", "reversed", Closed, nil, "", ""},
		{"reversed", "succeeded", Success, nil, "late posted", "E06+J04a"},
		{"reversed", "HIS booked", Reversed, ErrOrderOfSteps, "", ""},
		{"succeeded", "succeeded", Success, nil, "posted", paidOnce},
		{"succeeded", "failed", Success, nil, "posted", paidOnce},
		{"succeeded", "unknown", Success, nil, "posted", paidOnce},
		{"succeeded", "reversed", Success, nil, "posted", paidOnce},
		{"succeeded", "HIS booked", Success, nil, "posted", paidOnce + " J02"},
		{"succeeded", "HIS refused", Success, nil, "posted", paidOnce},
		{"succeeded", "HIS silent", Success, nil, "posted", paidOnce},
	} {
		t.Run(row.first+", then "+row.then, func(t *testing.T) {
			k := newDesk(t)
			k.answers = []channels.PayAnswer{*words[row.first].answer}
			p := k.pay(codePayment("k1", "B1", 10000))
			e := *words[row.then]
			e.merchantNo, e.plan = p.MerchantNo, func(channels.Way) channels.Plan { return channels.PlanWeChatCode }
			_, err := k.Payments.event(t.Context(), p, &e)
			if !errors.Is(err, row.refused) || (err == nil) != (row.refused == nil) {
				t.Errorf("refused with %v", err)
			}
			if p, err = k.Payments.Get(t.Context(), "H1", p.OrderNo); err != nil {
				t.Fatal(err)
			}
			posted := strings.TrimSpace(map[bool]string{true: "late "}[p.Late] + map[bool]string{true: "posted"}[p.Posted])
			if p.Status != row.status || posted != row.posted || k.journals() != row.journal {
				t.Errorf("%s %q %q, want %s %q %q", p.Status, posted, k.journals(), row.status, row.posted, row.journal)
			}
			k.verify()
		})
	}
}

// Alipay knows a page, H5, app or QR order only once the payer brings it there: until
// then every query says that there is none, and the payer may still come (D.5).
func TestAnOrderThatThePayerHasNotBroughtStaysOpenUntilItsTime(t *testing.T) {
	absent := channels.PayAnswer{Outcome: channels.OutcomeUnknown, Absent: true}
	made := channels.PayAnswer{Outcome: channels.OutcomePending, Prepay: channels.Prepay{URL: "https://pay.example/page"}}
	order := func(k *desk, first ...channels.PayAnswer) *Payment {
		n := codePayment("k1", "B1", 10000)
		n.Way, n.AuthCode, n.ExpiresAt = channels.WayPage, "", noon.Add(30*time.Minute)
		k.answers = first
		return k.pay(n)
	}
	poll := func(k *desk, p *Payment) *Payment {
		t.Helper()
		k.answers = []channels.PayAnswer{absent, absent}
		if _, err := k.Payments.Poll(t.Context(), k.now, 10); err != nil {
			t.Fatal(err)
		}
		p, err := k.Payments.Get(t.Context(), p.Hospital, p.OrderNo)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	k := newDesk(t)
	p := order(k, made)
	for p.Status.open() && k.now.Before(noon.Add(time.Hour)) {
		k.now = p.NextAt
		p = poll(k, p)
		if closed := !k.now.Before(p.ExpiresAt); closed != (p.Status == Closed) || p.Live == closed {
			t.Fatalf("%s after it was made: %s", k.now.Sub(noon), p.Status)
		}
	}
	k.answers = []channels.PayAnswer{paid(10000)}
	if p, err := k.Payments.Query(t.Context(), "H1", p.OrderNo); err != nil || !p.Late || p.Status != Success {
		t.Errorf("money that came after its time: %+v, %v", p, err)
	}

	k = newDesk(t)
	p = order(k, made)
	k.answers = []channels.PayAnswer{absent, absent}
	if p, err := k.Payments.Close(t.Context(), "H1", p.OrderNo); err != nil || p.Status != Closed {
		t.Errorf("given up by the app: %s, %v", p.Status, err)
	}

	k = newDesk(t)
	p = order(k, unknown) // nobody holds anything to pay with
	for range 3 {
		k.now = k.now.Add(time.Minute)
		p = poll(k, p)
	}
	if p.Status != Closed {
		t.Errorf("an order that never arrived: %s", p.Status)
	}
}

// Scenario 48 and C03's rule: what reconciliation holds, we only take note of.
func TestWhatReconciliationHoldsIsNotPostedHere(t *testing.T) {
	k := newDesk(t)
	k.answers = []channels.PayAnswer{unknown}
	p := k.pay(codePayment("k1", "B1", 10000))
	if _, err := k.DB.Pool.Exec(t.Context(), `UPDATE payments SET held = TRUE, version = version + 1`); err != nil {
		t.Fatal(err)
	}
	k.answers = []channels.PayAnswer{paid(10000)}
	p, err := k.Payments.Query(t.Context(), "H1", p.OrderNo)
	if err != nil || p.Status != Success || p.Posted {
		t.Fatal(p, err)
	}
	if p, err = k.Acknowledge(t.Context(), Caller{}, "H1", p.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000}); err != nil || p.Acked != 0 || p.HIS != HISDone {
		t.Fatal(p, err)
	}
	if got := k.journals(); got != "" {
		t.Errorf("posted %s", got)
	}
	k.verify()
}

func TestANoticeIsRepeatedUntilTheAppHasIt(t *testing.T) {
	k := newDesk(t)
	k.pay(codePayment("k1", "B1", 10000))
	sent, deaf := 0, 3
	notices := &Notices{House: k.House, Send: func(_ context.Context, n AppNotice) error {
		if sent++; sent <= deaf || !strings.Contains(n.Body, `"kind":"PAID","version":1`) {
			return errors.New("no answer")
		}
		return nil
	}}
	for range 8 {
		if _, err := notices.Deliver(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		k.now = k.now.Add(15 * time.Second)
	}
	if sent != 4 {
		t.Errorf("sent %d times, want 4", sent)
	}
	for _, n := range []string{"another hospital's", k.lastOrder()} {
		replayed, err := notices.Replay(t.Context(), "H1", n)
		if err != nil || (replayed == 1) != (n == k.lastOrder()) {
			t.Errorf("replay of %s: %d, %v", n, replayed, err)
		}
	}
	if n, err := notices.Deliver(t.Context(), 10); err != nil || n != 1 || sent != 5 {
		t.Errorf("after the replay: %d, %v, sent %d", n, err, sent)
	}
	deaf = 1000
	if _, err := notices.Replay(t.Context(), "H1", k.lastOrder()); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		if _, err := notices.Deliver(t.Context(), 10); err != nil {
			t.Fatal(err)
		}
		k.now = k.now.Add(6 * time.Hour)
	}
	if sent != 5+16 { // the first and the fifteen of the plan
		t.Errorf("sent %d times in all, want 21", sent)
	}
}

func (k *desk) lastOrder() (no string) {
	k.t.Helper()
	if err := k.DB.Pool.QueryRow(k.t.Context(), `SELECT order_no FROM payments ORDER BY occurred_at DESC LIMIT 1`).Scan(&no); err != nil {
		k.t.Fatal(err)
	}
	return no
}

func TestADischargeIsRefundedInTheHospitalsOrder(t *testing.T) {
	k := newDesk(t)
	var orders []string
	for i, fen := range []ledger.Money{30000, 20000, 10000} {
		k.now = k.now.Add(time.Hour)
		orders = append(orders, k.acked(fmt.Sprint("k", i), fmt.Sprint("D", i), fen).OrderNo)
	}
	ask := NewRefund{App: "KIOSK", Key: "out", Hospital: "H1", Amount: 40000, Maker: "cashier", HISCancelled: true}
	for range 2 {
		made, err := k.Discharge(t.Context(), ask, orders)
		if err != nil || len(made) != 2 || made[0].OrderNo != orders[0] || made[0].Amount != 30000 || made[1].Amount != 10000 {
			t.Fatalf("%+v, %v", made, err)
		}
	}
	ask.Key, ask.Amount = "out2", 30000
	if _, err := k.Discharge(t.Context(), ask, orders); !errors.Is(err, ErrRefundable) {
		t.Errorf("more than is left: %v", err)
	}
	for field, change := range map[string]func(*NewRefund) []string{
		"refund.idempotency_key": func(n *NewRefund) []string { n.Key = ""; return orders },
		"order_nos":              func(*NewRefund) []string { return nil },
		"order_nos: name":        func(*NewRefund) []string { return append(orders, orders[0]) },
		"refund.amount_fen":      func(n *NewRefund) []string { n.Amount = 0; return orders },
	} {
		wrong := ask
		named := change(&wrong)
		if _, err := k.Discharge(t.Context(), wrong, named); !errors.Is(err, ErrField) || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for order, want := range map[string]string{clearing.OrderNewest: "2 1", clearing.OrderOldest: "0", clearing.OrderRoute: "1"} {
		payments := []*Payment{
			{OrderNo: "0", Channel: "WECHAT", Status: Success, Amount: 20000, SuccessAt: noon},
			{OrderNo: "1", Channel: "ALIPAY", Status: Success, Amount: 20000, SuccessAt: noon.Add(1)},
			{OrderNo: "2", Channel: "WECHAT", Status: Success, Amount: 10000, SuccessAt: noon.Add(2)},
		}
		shares, err := PlanDischarge(payments, 20000, order)
		var got []string
		for _, share := range shares {
			got = append(got, share.OrderNo)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s (%v)", order, got, want, err)
		}
	}
	k.verify()
}

func TestAnInsuranceSettlementIsGivenBackOnce(t *testing.T) { // B17, scenario 52
	k := newDesk(t)
	p := k.acked("k1", "B1", 30000)
	ask := NewRefund{App: "KIOSK", Key: "r1", Hospital: "H1", OrderNo: p.OrderNo, Amount: 18000, Maker: "kiosk", HISCancelled: true, SettlementNo: "S1"}
	r, err := k.Refunds.Create(t.Context(), ask)
	if err == nil {
		r, err = k.Decide(t.Context(), "H1", r.RefundNo, "insurance", true, "")
	}
	if err != nil || r.Status != RefundSuccess {
		t.Fatal(r, err)
	}
	k.now = k.now.Add(time.Hour)
	ask.Key, ask.Amount = "r2", 100
	if _, err := k.Refunds.Create(t.Context(), ask); !errors.Is(err, ErrRefundable) || !strings.Contains(err.Error(), "once only") {
		t.Errorf("told twice: %v", err)
	}
	k.verify()
}

func TestRefundableSaysWhichLimitDecides(t *testing.T) { // U03
	k := newDesk(t)
	p := k.acked("k1", "B1", 10000)
	for _, test := range []struct {
		later time.Duration
		name  string
		left  ledger.Money
	}{{0, "CHANNEL", 10000}, {364 * 24 * time.Hour, "CHANNEL", 10000}, {365 * 24 * time.Hour, "DAYS", 0}} {
		k.now = noon.Add(test.later)
		limits, err := k.Refundable(t.Context(), "H1", p.OrderNo)
		if err != nil || limits.Smallest.Name != test.name || limits.Smallest.Amount != test.left || limits.Smallest.Rule == "" || limits.Route != channels.WeChat {
			t.Errorf("after %s: %+v, %v", test.later, limits, err)
		}
		_, err = k.refund(fmt.Sprint("r", test.later), p.OrderNo, test.left+1)
		if !errors.Is(err, ErrRefundable) {
			t.Errorf("after %s a fen more: %v", test.later, err)
		}
	}
}

func TestOnlyOneOfManyRefundsAtOnceIsInFlight(t *testing.T) { // scenario 14
	k := newDesk(t)
	p := k.acked("k1", "B1", 10000)
	results := make([]error, 100)
	atOnce(len(results), func(i int) { _, results[i] = k.refund(fmt.Sprint("r", i), p.OrderNo, 6000) })
	made := 0
	for _, err := range results {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, ErrInFlight) && !errors.Is(err, ErrRefundable):
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d of 100 were made", made)
	}
	k.verify()
}

func TestADebtOfACaseIsPaidByItsOwnNumber(t *testing.T) {
	k := newDesk(t)
	debt := DebtRefund{Hospital: "H1", Channel: channels.WeChat, MerchantNo: "1900000109", OrderNo: "NEVERKNOWN1", TradeNo: "42", CaseID: "C1",
		DebtNo: "C1", Amount: 8800, Total: 8800, Maker: "maker", Checker: "maker"}
	if _, err := k.RefundDebt(t.Context(), debt); !errors.Is(err, ErrTwoPeople) {
		t.Errorf("maker = checker: %v", err)
	}
	debt.Checker = "head"
	for range 2 {
		r, err := k.RefundDebt(t.Context(), debt)
		if err != nil || r.Status != RefundSuccess || r.DebtNo != "C1" || r.Debit != "" || r.PaymentNo != "" {
			t.Fatal(r, err)
		}
	}
	if got := k.journals(); got != "J19a+J20 J19b" { // E02 is the case's own
		t.Errorf("posted %s", got)
	}
}
