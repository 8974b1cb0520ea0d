package features_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/alipay"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
)

var recordTable = flag.Bool("conformance.record", false, "write testdata/conformance.txt anew")

// How long an answer may take, and how late a delayed one is.
const (
	patient   = 20 * time.Second
	impatient = 300 * time.Millisecond
	delayed   = 600 // milliseconds
)

// trouble is one thing that goes wrong at a step.
type trouble struct {
	name string
	live.Fault
}

// troubles are all of them: what is committed was done by the channel before it
// went wrong.
var troubles = []trouble{
	{"none", live.Fault{}},
	{"time-out", live.Fault{Do: live.FaultDelay, Millis: delayed, Commit: true}},
	{"drop before commit", live.Fault{Do: live.FaultDrop}},
	{"drop after commit", live.Fault{Do: live.FaultDrop, Commit: true}},
	{"HTTP 502 before commit", live.Fault{Do: live.FaultHTTP500}},
	{"HTTP 502 after commit", live.Fault{Do: live.FaultHTTP500, Commit: true}},
	{"garbage before commit", live.Fault{Do: live.FaultGarbage}},
	{"garbage after commit", live.Fault{Do: live.FaultGarbage, Commit: true}},
	{"wrong signature", live.Fault{Do: live.FaultBadSign, Commit: true}},
	{"system error, not done", live.Fault{Do: live.FaultError, Code: "SYSTEMERROR"}},
	{"system error, done", live.Fault{Do: live.FaultError, Code: "SYSTEMERROR", Commit: true}},
}

// steps are where it goes wrong.
func (a *adapter) steps() []string {
	if a.way == channels.WayCode {
		return []string{"pay", "query", "reverse", "refund", "refundquery", "abnormal", "bill"}
	}
	return []string{"prepay", "query", "close", "refund", "refundquery", "abnormal", "bill"}
}

// through takes one payment, its refund and the day's bill through a fault at one
// step, to their ends, and says what those are.
func (r *rig) through(a *adapter, step string, x trouble) (end, orderNo string) {
	r.t.Helper()
	r.use(a, patient, true)
	if x.Do == live.FaultDelay {
		r.use(a, impatient, true)
	}
	code := a.way == channels.WayCode
	switch {
	case step == "query" && code:
		r.plant(live.Fault{Do: live.FaultPassword, Seconds: 20}, "pay", a)
	case step == "reverse":
		r.plant(live.Fault{Do: live.FaultPassword}, "pay", a) // and the payer never enters it
	}
	if step != "refund" && step != "refundquery" && step != "abnormal" && step != "bill" {
		r.plant(x.Fault, step, a)
	}
	p := r.create(a)
	var err error
	switch {
	case step == "close":
		p, err = r.Close(r.t.Context(), "H1", p.OrderNo)
	case !code:
		r.payer(a, p.OrderNo)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	p = r.untilFinal(p)
	end = string(p.Status)
	if p.Status != pay.Success {
		return end, p.OrderNo
	}
	switch step {
	case "abnormal":
		return end + " " + r.handled(a, p, x), p.OrderNo
	case "refund":
		r.plant(x.Fault, step, a)
	case "refundquery":
		r.plant(live.Fault{Do: live.FaultRefundLate, Seconds: 30}, "refund", a)
		r.plant(x.Fault, step, a)
	}
	back, err := r.giveBack(p, fmt.Sprint("back", r.n), 400)
	if err != nil {
		r.t.Fatal(err)
	}
	end += " " + string(r.untilGivenBack(back).Status)
	if step == "bill" {
		r.plant(x.Fault, step, a)
		end += " " + r.billed(a, p)
	}
	return end, p.OrderNo
}

// billed fetches the bill of the payment's day, as often as it takes, and says
// whether it has the payment and its refunds as we have them.
func (r *rig) billed(a *adapter, p *pay.Payment) string {
	r.t.Helper()
	day := ledger.DayOf(p.SuccessAt)
	r.clock.Store(max(r.clock.Load(), day.Add(1).Start().Add(10*time.Hour).Unix()))
	for range 5 {
		bill, err := r.open.FetchBill(r.t.Context(), channels.BillTrade, day)
		if err == nil {
			return r.read(a, bill, day, p)
		}
		if errors.Is(err, channels.ErrNoBill) {
			return "NO BILL"
		}
		r.clock.Add(300)
	}
	return "NEVER"
}

func (r *rig) read(a *adapter, bill io.ReadCloser, day ledger.Day, p *pay.Payment) string {
	r.t.Helper()
	text, err := io.ReadAll(bill)
	if err = errors.Join(err, bill.Close()); err != nil {
		r.t.Fatal(err)
	}
	var paid, back ledger.Money
	take := func(l *channels.BillLine) error {
		switch {
		case l.OrderNo != p.OrderNo:
		case l.Kind == channels.Pay:
			paid += l.Amount
		default:
			back += l.Amount
		}
		return nil
	}
	want := channels.Expect{MerchantNos: []string{a.merchant(), a.merchant()[:min(16, len(a.merchant()))]}, Day: day}
	if a.channel == channels.Alipay {
		_, err = alipay.ReadTradeBill(strings.NewReader(string(text)), int64(len(text)), want, take)
	} else {
		_, err = wechat.ReadTradeBill(strings.NewReader(string(text)), want, take)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if p, err = r.Get(r.t.Context(), "H1", p.OrderNo); err != nil {
		r.t.Fatal(err)
	}
	if paid != p.Amount || back != p.Refunded {
		return fmt.Sprintf("%s-%s", paid, back)
	}
	return "BILLED"
}

// agree checks the end of a case: what the channel has, we have, and nothing more.
func (r *rig) agree(where, merchant, orderNo string) {
	r.t.Helper()
	p, err := r.Get(r.t.Context(), "H1", orderNo)
	if err != nil {
		r.t.Fatal(err)
	}
	times, paid, back := r.theirs(merchant, orderNo, ledger.DayOf(p.OccurredAt))
	ours, given := int64(p.Amount), int64(p.Refunded)
	if p.Status != pay.Success {
		ours, given = 0, 0
	}
	if ours-given != paid-back || times > 1 || p.Requested != 0 {
		r.t.Errorf("%s: %s is %s: we hold %d less %d given back and %d under way; the channel was paid %d times, %d less %d", where, orderNo, p.Status, ours, given, int64(p.Requested), times, paid, back)
	}
}

// Every fault at every step of every adapter ends in one final state, on which our
// books and the channel's agree (spec/channels.md golden rules; I.1, I.2). The table
// of those states stands in testdata/conformance.txt.
func TestEveryFaultAtEveryStepEndsInOneStateOnWhichBothBooksAgree(t *testing.T) {
	r := newRig(t)
	var table strings.Builder
	for i := range adapters {
		a := &adapters[i]
		fmt.Fprintf(&table, "%s\n%-24s", a.name, "fault")
		for _, step := range a.steps() {
			fmt.Fprintf(&table, "  %-22s", step)
		}
		for _, x := range troubles {
			fmt.Fprintf(&table, "\n%-24s", x.name)
			for _, step := range a.steps() {
				where := a.name + ", " + x.name + " at " + step
				end, orderNo := r.through(a, step, x)
				fmt.Fprintf(&table, "  %-22s", end)
				r.agree(where, a.merchant(), orderNo)
				if left := r.leftover(); len(left) > 0 {
					t.Fatalf("%s: never reached %+v", where, left)
				}
			}
		}
		table.WriteString("\n\n")
	}
	r.tie("WeChat Pay", wechatNo, "1122.WX.")
	r.tie("Alipay", alipayNo, "1122.ALI.")
	got := strings.ReplaceAll(table.String(), " \n", "\n")
	for strings.Contains(got, " \n") {
		got = strings.ReplaceAll(got, " \n", "\n")
	}
	t.Log("\n" + got)
	const golden = "testdata/conformance.txt"
	if *recordTable {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != got {
		t.Errorf("the table differs from %s (%v)", golden, err)
	}
}
