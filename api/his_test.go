package api

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/channels/sandbox/livehis"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// after does what is due d after the last time.
func (l *lived) after(d time.Duration) {
	l.t.Helper()
	l.tick(l.clock().Add(d).In(ledger.Beijing).Format(time.DateTime))
}

// back has the app ask for a refund.
func (l *lived) back(order string, fen int64) (*payv1.Refund, error) {
	l.t.Helper()
	made, err := l.refunding.CreateRefund(l.t.Context(), &payv1.CreateRefundRequest{IdempotencyKey: fmt.Sprint("back-", order, "-", fen), Hospital: "H1", OrderNo: order, AmountFen: fen,
		Cause: "项目退费", Maker: "收费员1"})
	return made.GetRefund(), err
}

func (l *lived) payment(order string) *payv1.Payment {
	l.t.Helper()
	p, err := l.app.GetPayment(l.t.Context(), &payv1.GetPaymentRequest{Hospital: "H1", OrderNo: order})
	if err != nil {
		l.t.Fatal(err)
	}
	return p.GetPayment()
}

func (l *lived) refundOf(no string) *pay.Refund {
	l.t.Helper()
	r, err := l.refunds().Get(l.t.Context(), "H1", no)
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

// his is what the HIS of H1 has booked, channel what its number at the channel has.
func (l *lived) books() (his livehis.Sums, channelPaid, channelBack int64) {
	l.t.Helper()
	day := ledger.DayOf(l.clock()).String()
	text := get(l.t, http.DefaultClient, l.out.Addresses.Admin+"/his/books?hospital=H1&day="+day)
	if err := json.Unmarshal([]byte(text), &his); err != nil {
		l.t.Fatal(err)
	}
	sums, err := l.out.Sums("1900000101", day)
	if err != nil {
		l.t.Fatal(err)
	}
	return his, sums.PayFen, sums.RefundFen
}

// holds compares the books with what each account must hold, in fen; others are not
// looked at.
func (l *lived) holds(when string, want map[string]int64) {
	l.t.Helper()
	all, err := l.TrialBalance(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	got := map[string]int64{}
	for _, b := range all {
		got[b.Code] = int64(b.Balance())
	}
	for code, fen := range want {
		if got[code] != fen {
			l.t.Errorf("%s: %s holds %d fen, want %d", when, code, got[code], fen)
		}
	}
	if broken, err := l.Verify(l.t.Context()); err != nil || len(broken) > 0 {
		l.t.Errorf("%s: the books: %v, %v", when, broken, err)
	}
}

// B02, B03, B22, B23, A03: each business runs its own order end to end: paid, booked
// by HIS, voided by HIS, given back, and the number of the refund in HIS.
func TestEveryBusinessIsPaidBookedVoidedAndGivenBackThroughHIS(t *testing.T) {
	l := newLived(t)
	var sum int64
	for i, biz := range []pay.BizType{pay.Registration, pay.Outpatient, pay.Deposit, pay.Discharge} {
		fen := int64(1000 * (i + 1))
		no := fmt.Sprint("B", i)
		l.bill(no, fen, biz)
		p := l.pay(no, fen, biz)
		l.holds("paid", map[string]int64{"2204.H1": fen})
		l.after(5 * time.Second)
		if p = l.payment(p.GetOrderNo()); p.GetAcknowledgedFen() != fen {
			t.Errorf("%s: HIS has booked %d of %d", biz, p.GetAcknowledgedFen(), fen)
		}
		l.holds("booked", map[string]int64{"2204.H1": 0, "2202.H1.PEND": fen})
		r, err := l.back(p.GetOrderNo(), fen)
		if err != nil || r.GetStatus() != "SUCCESS" {
			t.Fatal(biz, r, err)
		}
		sum += fen
		his, _, back := l.books()
		if his.RefundFen != sum || his.Unwritten != 1 || back != sum {
			t.Errorf("%s: HIS has %+v, the channel gave back %d, want %d", biz, his, back, sum)
		}
		l.after(5 * time.Second)
		if his, _, _ = l.books(); his.Unwritten != 0 || l.refundOf(r.GetRefundNo()).HIS != pay.HISDone {
			t.Errorf("%s: not written back: %+v", biz, his)
		}
		l.holds("given back", map[string]int64{"2204.H1": 0, "2202.H1.PEND": 0})
	}
	all, err := l.app.ListOperations(t.Context(), &payv1.ListOperationsRequest{Hospital: "H1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range all.GetOperations() {
		if op.GetStep() == "HIS_CANCEL" && op.GetWho() != "PLATFORM" {
			t.Errorf("%v", op)
		}
	}
	if n := len(all.GetOperations()); n < 36 {
		t.Errorf("%d operations", n)
	}
}

// Golden rule 2, scenario 5: whatever becomes of HIS's answers, the bill is booked
// once and voided once, and J02 is posted once.
func TestLostAnswersOfHISAreResolvedAndNothingIsDoneTwice(t *testing.T) {
	l := newLived(t)
	faults := []string{`"do":"DROP"`, `"do":"DROP","commit":true`, `"do":"HTTP_500","commit":true`, `"do":"GARBAGE","commit":true`, `"do":"BAD_SIGN"`, `"do":"ERROR","code":"AGAIN"`}
	var orders []string
	for i, fault := range faults {
		no := fmt.Sprint("B", i)
		l.bill(no, 1000, pay.Outpatient)
		orders = append(orders, l.pay(no, 1000, pay.Outpatient).GetOrderNo())
		l.admin("/his/faults", fmt.Sprintf(`{%s,"api":"payments/acknowledge","order_no":%q}`, fault, orders[i]))
	}
	l.after(5 * time.Second)
	for i, order := range orders {
		if p := l.payment(order); p.GetAcknowledgedFen() != 0 {
			t.Errorf("%s: taken for booked: %v", faults[i], p)
		}
	}
	l.after(20 * time.Second)
	n := int64(len(orders))
	if his, paid, _ := l.books(); his.Payments != len(orders) || his.PayFen != 1000*n || paid != 1000*n {
		t.Errorf("HIS has %+v, the channel %d", his, paid)
	}
	l.holds("booked", map[string]int64{"2204.H1": 0, "2202.H1.PEND": 1000 * n})

	for i, fault := range faults {
		l.admin("/his/faults", fmt.Sprintf(`{%s,"api":"bills/cancel","order_no":%q}`, fault, orders[i]))
		l.admin("/his/faults", fmt.Sprintf(`{%s,"api":"refunds/write-back","order_no":%q}`, fault, orders[i]))
		r, err := l.back(orders[i], 1000)
		if err != nil || r.GetStatus() != "CANCELLING" {
			t.Errorf("%s: %v, %v", fault, r, err)
		}
	}
	if _, _, back := l.books(); back != 0 {
		t.Errorf("the channel gave back %d before HIS said yes", back)
	}
	for range 4 { // void, give back, write back, write back again
		l.after(20 * time.Second)
	}
	if his, _, back := l.books(); his.Refunds != len(orders) || his.RefundFen != 1000*n || his.Unwritten != 0 || back != 1000*n {
		t.Errorf("HIS has %+v, the channel gave back %d", his, back)
	}
	l.holds("given back", map[string]int64{"2204.H1": 0, "2202.H1.PEND": 0})
}

// B01 to B04: what HIS refuses is not served, and not given back behind its back.
func TestWhatHISRefusesIsNeitherServedNorGivenBackWithoutTwoPeople(t *testing.T) {
	l := newLived(t)
	l.bill("B1", 1000, pay.Registration)
	l.bill("B2", 2000, pay.Outpatient)
	l.bill("B3", 4000, pay.Outpatient)
	refused, served := l.pay("B1", 1000, pay.Registration), l.pay("B2", 2000, pay.Outpatient)
	l.admin("/his/close", `{"hospital":"H1","bill_no":"B1"}`) // the number was given to somebody else
	l.after(5 * time.Second)
	l.holds("refused", map[string]int64{"2204.H1": 1000, "2202.H1.PEND": 2000})
	if p := l.payment(refused.GetOrderNo()); !strings.Contains(p.GetTell(), "HIS") || p.GetMayChargeAgain() {
		t.Errorf("%v", p)
	}
	told, err := l.app.WriteBackPayment(t.Context(), &payv1.WriteBackPaymentRequest{IdempotencyKey: rand.Text(), Hospital: "H1", OrderNo: refused.GetOrderNo()})
	if err != nil || told.GetPayment().GetAcknowledgedFen() != 0 {
		t.Errorf("told again: %v, %v", told, err)
	}
	r, err := l.back(refused.GetOrderNo(), 1000)
	if err != nil || r.GetStatus() != "APPROVING" {
		t.Fatal(r, err)
	}
	decided, err := l.head.DecideRefund(t.Context(), &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: r.GetRefundNo(), Approve: true})
	if err != nil || decided.GetRefund().GetStatus() != "SUCCESS" {
		t.Fatal(decided, err)
	}
	l.holds("given back", map[string]int64{"2204.H1": 0, "2202.H1.PEND": 2000})

	l.admin("/his/serve", `{"hospital":"H1","bill_no":"B2","fen":1500}`)
	may, err := l.refunding.GetRefundable(t.Context(), &payv1.GetRefundableRequest{Hospital: "H1", OrderNo: served.GetOrderNo()})
	if err != nil || may.GetAmountFen() != 500 {
		t.Errorf("%v, %v", may, err)
	}
	r, err = l.back(served.GetOrderNo(), 2000)
	if err != nil || r.GetStatus() != "FAILED" || !strings.Contains(r.GetReason(), "HIS allows 5.00") {
		t.Errorf("%v, %v", r, err)
	}
	if his, _, back := l.books(); his.Refunds != 0 || back != 1000 {
		t.Errorf("HIS has %+v, the channel gave back %d", his, back)
	}

	// HIS is down: a refund waits for its turn, under no key.
	l.admin("/his/faults", `{"do":"DROP","hospital":"H1","times":2}`)
	down := l.pay("B3", 4000, pay.Outpatient)
	_, err = l.back(down.GetOrderNo(), 4000)
	denied(t, err, connect.CodeFailedPrecondition, "ORDER_OF_STEPS", "REFUND comes after HIS_ACKNOWLEDGE")
	l.after(30 * time.Second)
	l.after(60 * time.Second)
	if p := l.payment(down.GetOrderNo()); p.GetAcknowledgedFen() != 4000 {
		t.Errorf("%v", p)
	}
	if r, err = l.back(down.GetOrderNo(), 4000); err != nil || r.GetStatus() != "SUCCESS" {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := l.refunding.WriteBackRefund(t.Context(), &payv1.WriteBackRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: r.GetRefundNo()}); err != nil {
		t.Error(err)
	}
	if his, _, _ := l.books(); his.Refunds != 1 || his.Unwritten != 0 {
		t.Errorf("HIS has %+v", his)
	}
}
