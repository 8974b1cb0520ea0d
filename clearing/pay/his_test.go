package pay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
)

var (
	notBooked = channels.HISAnswer{Outcome: channels.OutcomeFailed, Reason: channels.Reason{Kind: channels.ReasonNotFound}}
	silent    = channels.HISAnswer{Outcome: channels.OutcomeUnknown}
)

// platformPayment is one of the hospital whose HIS the platform calls.
func platformPayment(keyText, bill string, biz BizType) NewPayment {
	n := codePayment(keyText, bill, 10000)
	n.Hospital, n.BizType = "H2", biz
	return n
}

// told lists the calls to HIS and the refunds at the channel, in their order.
func (k *desk) told() string {
	k.outside.mu.Lock()
	defer k.outside.mu.Unlock()
	var list []string
	for _, call := range k.calls {
		if name := call[:strings.LastIndex(call, " ")]; strings.HasPrefix(name, "his") || name == "refund" {
			list = append(list, name)
		}
	}
	return strings.Join(list, ", ")
}

// B22: the order of operations is data: the money's steps are those of every
// business, in one order, and what comes before them is the app's.
func TestEveryBusinessHasItsOrderOfOperations(t *testing.T) {
	if got := Businesses(); len(got) != 6 || !slices.Contains(got, Discharge) {
		t.Errorf("%v", got)
	}
	for _, biz := range Businesses() {
		list := Operations(biz, ByPlatform)
		before := len(list) - len(moneySteps)
		for i, op := range list {
			if op.OnFault == "" || (i < before) != (op.Who == ByApp) {
				t.Errorf("%s %d: %+v", biz, i, op)
			}
		}
		if list[before].Step != StepPay || list[before+2].Step != StepAcknowledge || list[before+3].Step != StepCancel || list[before+4].Step != StepRefund {
			t.Errorf("%s: %v", biz, list)
		}
		if app := Operations(biz, ByApp); app[before+2].Who != ByApp {
			t.Errorf("%s, called by the app: %+v", biz, app[before+2])
		}
	}
	if Operations("BREAKFAST", ByApp) != nil {
		t.Error("a business that nobody knows has an order")
	}
}

// B01, B02, B03, B22: a step before its turn is refused, and the refusal names the
// step that is not done.
func TestAStepBeforeItsTurnIsRefusedWithTheStepThatIsMissing(t *testing.T) {
	for _, biz := range []BizType{Registration, Outpatient, Deposit, Discharge} {
		k := newDesk(t)
		k.answers = []channels.PayAnswer{pending}
		p := k.pay(platformPayment("k1", "B1", biz))
		ask := NewRefund{App: "KIOSK", Key: "r1", Hospital: "H2", OrderNo: p.OrderNo, Amount: 10000, Maker: "cashier"}
		refused := func(what string, err error, words ...string) {
			t.Helper()
			for _, word := range words {
				if !errors.Is(err, ErrOrderOfSteps) || !strings.Contains(err.Error(), word) {
					t.Errorf("%s, %s: %v, want %q", biz, what, err, word)
				}
			}
		}
		_, err := k.Acknowledge(t.Context(), Caller{}, "H2", p.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000})
		refused("booked before it is paid", err, "HIS_ACKNOWLEDGE comes after PAY", "PAYING")
		_, err = k.Refunds.Create(t.Context(), ask)
		refused("refunded before it is paid", err, "REFUND comes after PAY")
		k.answers = []channels.PayAnswer{paid(10000)}
		if p, err = k.Payments.Query(t.Context(), "H2", p.OrderNo); err != nil || p.Status != Success {
			t.Fatal(p, err)
		}
		k.words, ask.Key = []channels.HISAnswer{silent}, "r2"
		_, err = k.Refunds.Create(t.Context(), ask)
		refused("refunded while HIS has not said that it booked", err, "REFUND comes after HIS_ACKNOWLEDGE", "WAIT")
		if got := k.told(); got != "his ack" {
			t.Errorf("%s: told %s", biz, got)
		}
		r, err := k.Refunds.Create(t.Context(), ask)
		if err != nil || r.Status != RefundSuccess {
			t.Errorf("%s: %+v, %v", biz, r, err)
		}
		if got := k.told(); got != "his ack, his order, his ack, his refundable, his cancel, refund" {
			t.Errorf("%s: told %s", biz, got)
		}
		k.verify()
		app := codePayment("k2", "B2", 10000)
		app.BizType = biz
		p = k.pay(app)
		ask.Hospital, ask.OrderNo, ask.Key = "H1", p.OrderNo, "r3"
		_, err = k.Refunds.Create(t.Context(), ask)
		refused("the app has not said that HIS cancelled", err, "REFUND comes after HIS_CANCEL")
	}
}

// Scenario 5, B02: where HIS's answer was lost, what it has booked is asked for before
// anything is told again, and J02 is posted once.
func TestALostAnswerOfHISIsResolvedByItsOrder(t *testing.T) {
	for name, c := range map[string]struct {
		words []channels.HISAnswer // after the lost answer
		his   HISState
		told  string
	}{
		"it had booked":           {[]channels.HISAnswer{{Outcome: channels.OutcomeSucceeded, Amount: 10000}}, HISDone, "his ack, his order"},
		"it had not":              {[]channels.HISAnswer{notBooked}, HISDone, "his ack, his order, his ack"},
		"it refuses the second":   {[]channels.HISAnswer{notBooked, {Outcome: channels.OutcomeFailed}}, HISRefused, "his ack, his order, his ack"},
		"it is silent again":      {[]channels.HISAnswer{silent}, HISWait, "his ack, his order"},
		"it refuses the question": {[]channels.HISAnswer{{Outcome: channels.OutcomeFailed, Reason: channels.Reason{Kind: channels.ReasonSystem}}}, HISWait, "his ack, his order"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newDesk(t)
			p := k.pay(platformPayment("k1", "B1", Outpatient))
			k.words = append([]channels.HISAnswer{silent}, c.words...)
			for range 2 {
				if _, err := k.Payments.WriteBack(t.Context(), k.now, 10); err != nil {
					t.Fatal(err)
				}
				k.now = k.now.Add(15 * time.Second)
			}
			p, err := k.Payments.Get(t.Context(), "H2", p.OrderNo)
			if err != nil || p.HIS != c.his || k.told() != c.told {
				t.Errorf("%s after %s, %v", p.HIS, k.told(), err)
			}
			if want := map[HISState]int{HISDone: 1}[c.his]; strings.Count(k.journals(), "J02") != want {
				t.Errorf("posted %s", k.journals())
			}
			k.verify()
		})
	}
}

// B23: where the platform calls HIS, an app has no say in what HIS knows.
func TestAnAppDoesNotSpeakForAHISThatThePlatformCalls(t *testing.T) {
	k := newDesk(t)
	p := k.pay(platformPayment("k1", "B1", Outpatient))
	r, err := k.Refunds.Create(t.Context(), NewRefund{App: "KIOSK", Key: "r1", Hospital: "H2", OrderNo: p.OrderNo, Amount: 10000, Maker: "cashier"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.WrittenBack(t.Context(), "H2", r.RefundNo); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("%v", err)
	}
	if r, err = k.Refunds.Get(t.Context(), "H2", r.RefundNo); err != nil || r.HIS != HISWait {
		t.Errorf("%+v, %v", r, err)
	}
}

// A03: every call to HIS is on record, the question before a call too.
func TestEveryCallToHISIsKept(t *testing.T) {
	k := newDesk(t)
	p := k.pay(platformPayment("k1", "B1", Outpatient))
	call := func(name string, a channels.HISAnswer) channels.HISAnswer {
		a.Exchange = &channels.Exchange{Call: name, At: k.now}
		return a
	}
	yes := channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000, Refundable: 10000}
	k.words = []channels.HISAnswer{call("ack 1", silent), call("order", notBooked), call("ack 2", yes), call("refundable", yes), call("cancel", yes), call("write back", yes)}
	for range 2 {
		if _, err := k.Payments.WriteBack(t.Context(), k.now, 10); err != nil {
			t.Fatal(err)
		}
		k.now = k.now.Add(15 * time.Second)
	}
	r, err := k.Refunds.Create(t.Context(), NewRefund{App: "KIOSK", Key: "r1", Hospital: "H2", OrderNo: p.OrderNo, Amount: 10000, Maker: "cashier"})
	if err == nil {
		_, err = k.Refunds.WriteBack(t.Context(), k.now, 10)
	}
	if err != nil {
		t.Fatal(err)
	}
	rows, err := k.DB.Pool.Query(t.Context(), `SELECT call FROM exchanges WHERE number = $1 OR number = $2 ORDER BY call`, p.OrderNo, r.RefundNo)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if want := []string{"ack 1", "ack 2", "cancel", "order", "refundable", "write back"}; err != nil || fmt.Sprint(kept) != fmt.Sprint(want) {
		t.Errorf("kept %q, %v", kept, err)
	}
}

// T03, I1: a person has HIS told again what it refused, while nothing is given back.
func TestWhatHISRefusedIsToldAgainByAPerson(t *testing.T) {
	k := newDesk(t)
	p := k.pay(platformPayment("k1", "B1", Outpatient))
	k.words = []channels.HISAnswer{{Outcome: channels.OutcomeFailed}}
	p, err := k.Payments.TellHIS(t.Context(), "H2", p.OrderNo) // asked first: it says no to the question as well
	if err != nil || p.HIS != HISWait {
		t.Fatal(p, err)
	}
	k.words = []channels.HISAnswer{notBooked, {Outcome: channels.OutcomeFailed}, silent}
	for range 2 {
		if p, err = k.Payments.TellHIS(t.Context(), "H2", p.OrderNo); err != nil || p.HIS != HISRefused || !p.HISNextAt.IsZero() {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if p, err = k.Payments.TellHIS(t.Context(), "H2", p.OrderNo); err != nil || p.HIS != HISDone || p.Acked != 10000 {
		t.Errorf("HIS has changed its mind: %+v, %v", p, err)
	}
	r, err := k.Refunds.Create(t.Context(), NewRefund{App: "KIOSK", Key: "r1", Hospital: "H2", OrderNo: p.OrderNo, Amount: 10000, Maker: "cashier"})
	if err != nil || r.HIS != HISWait {
		t.Fatal(r, err)
	}
	k.words = []channels.HISAnswer{{Outcome: channels.OutcomeFailed}, silent}
	for _, want := range []HISState{HISRefused, HISRefused, HISDone, HISDone} {
		if r, err = k.Refunds.TellHIS(t.Context(), "H2", r.RefundNo); err != nil || r.HIS != want {
			t.Errorf("%s, want %s, %v", r.HIS, want, err)
		}
	}
	of := k.pay(codePayment("k2", "B2", 10000))
	if _, err = k.Payments.TellHIS(t.Context(), "H1", of.OrderNo); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("a hospital whose app calls HIS: %v", err)
	}
	k.answers = []channels.PayAnswer{pending}
	open := k.pay(platformPayment("k3", "B3", Outpatient))
	if _, err = k.Payments.TellHIS(t.Context(), "H2", open.OrderNo); !errors.Is(err, ErrOrderOfSteps) {
		t.Errorf("before it is paid: %v", err)
	}
	k.verify()
}

// What HIS never booked it never voids: it is told no number of its refund.
func TestARefundOfWhatHISRefusedIsNotWrittenBack(t *testing.T) {
	k := newDesk(t)
	p := k.pay(platformPayment("k1", "B1", Outpatient))
	k.words = []channels.HISAnswer{{Outcome: channels.OutcomeFailed}}
	if _, err := k.Payments.WriteBack(t.Context(), k.now, 10); err != nil {
		t.Fatal(err)
	}
	r, err := k.Refunds.Create(t.Context(), NewRefund{App: "KIOSK", Key: "r1", Hospital: "H2", OrderNo: p.OrderNo, Amount: 10000, Maker: "cashier"})
	if err == nil {
		r, err = k.Decide(t.Context(), "H2", r.RefundNo, "head", true, "")
	}
	if err != nil || r.Status != RefundSuccess || r.HIS != HISNone {
		t.Fatalf("%+v, %v", r, err)
	}
	if n, err := k.Refunds.WriteBack(t.Context(), k.now.Add(time.Hour), 10); n != 0 || err != nil || k.told() != "his ack, refund" {
		t.Errorf("%d written back, %v; %s", n, err, k.told())
	}
	if _, err := k.Refunds.TellHIS(t.Context(), "H2", r.RefundNo); !errors.Is(err, ErrState) {
		t.Errorf("told by a person: %v", err)
	}
	k.verify()
}
