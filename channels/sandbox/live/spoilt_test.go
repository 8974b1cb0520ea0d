package live_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/ledger"
)

// F9 at the channel: the payment's money is on another number and stands in its bill,
// and a query at its own number knows it as before, also after a kill.
func TestAPaymentMayStandInTheBillOfAnotherNumber(t *testing.T) {
	const other = "1900000110"
	w := start(t, func(c *live.Config) {
		more := c.Merchants[0]
		more.No, more.Apps, more.BankAccount = other, []string{"wx2"}, "756"
		c.Merchants = append(c.Merchants, more)
	})
	w.pay("HP2026091500000001", 10_000)
	w.pay("HP2026091500000002", 500)
	for _, wrong := range []string{`"other":"1900000111"`, `"other":"` + merchantNo + `"`} {
		w.refused("/faults", `{"do":"BILL_ELSEWHERE","merchant":"`+merchantNo+`","order":"HP2026091500000001",`+wrong+`}`)
	}
	w.admin("POST", "/faults", `{"do":"BILL_ELSEWHERE","merchant":"`+merchantNo+`","order":"HP2026091500000001","other":"`+other+`"}`, nil)
	for range 2 {
		var here, there live.Sums
		w.admin("GET", "/books?merchant="+merchantNo+"&day=2026-09-15", "", &here)
		w.admin("GET", "/books?merchant="+other+"&day=2026-09-15", "", &there)
		if here.PayFen != 500 || there.PayFen != 10_000 || there.FeeFen != 60 || there.Closing != 500_000+9_940 {
			t.Errorf("%+v, %+v", here, there)
		}
		if got := w.state("HP2026091500000001"); got != "SUCCESS" {
			t.Errorf("asked for at its own number: %s", got)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
	}
	w.set("2026-09-16 10:00:00")
	if net := w.day("20260915"); net != ledger.Money(500-3) {
		t.Errorf("its own number nets %s", net)
	}
}

// F5: a refund that was made in the channel's own portal stands in the bill, and no
// program was told of it; what is more than is left is refused.
func TestARefundMayBeMadeByHandInTheChannelsPortal(t *testing.T) {
	w := start(t, nil)
	w.pay("HP2026091500000001", 10_000)
	byHand := func(no string, fen string) string {
		return `{"merchant":"` + merchantNo + `","order":"HP2026091500000001","refund":"` + no + `","fen":` + fen + `}`
	}
	w.admin("POST", "/refund", byHand("MP1", "4000"), nil)
	for _, wrong := range []string{byHand("MP1", "4000"), byHand("MP2", "6001"), byHand("MP2", "0"), byHand("", "1"), strings.Replace(byHand("MP2", "1"), "HP", "HX", 1)} {
		w.refused("/refund", wrong)
	}
	var orders []live.OrderView
	w.admin("GET", "/orders?merchant="+merchantNo+"&day=2026-09-15", "", &orders)
	if len(orders) != 1 || !slices.Equal(orders[0].Refunds, []live.RefundRow{{Refund: "MP1", State: "SUCCESS", Fen: 4000, Cause: "商户平台退款"}}) {
		t.Errorf("%+v", orders)
	}
	w.set("2026-09-16 10:00:00")
	if net := w.day("20260915"); net != ledger.Money(10_000-60-4000+24) {
		t.Errorf("the day nets %s", net)
	}
}

// refused says that the admin API refuses a request.
func (w *world) refused(path, body string) {
	w.t.Helper()
	answer, err := http.Post(w.s.Addresses.Admin+path, "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusConflict {
		w.t.Errorf("%s %s: %d %s, %v", path, body, answer.StatusCode, text, err)
	}
}

// A refund's row in the bills can be missing, or have another amount or fee, and the
// balance follows; what is settled, closed or unknown is refused.
func TestARefundsRowMayBeSpoilt(t *testing.T) {
	const day = ledger.Day(20260915)
	w := start(t, nil)
	w.pay("HP2026091500000001", 10_000)
	fault := func(do, refund, more string) string {
		return `{"do":"` + do + `","merchant":"` + merchantNo + `","order":"HP2026091500000001","refund":"` + refund + `"` + more + `}`
	}
	for _, no := range []string{"MP1", "MP2", "MP3"} {
		w.admin("POST", "/refund", `{"merchant":"`+merchantNo+`","order":"HP2026091500000001","refund":"`+no+`","fen":1000}`, nil)
	}
	w.admin("POST", "/faults", fault("BILL_MISSING", "MP1", ""), nil)
	w.admin("POST", "/faults", fault("BILL_AMOUNT", "MP2", `,"fen":-10`), nil)
	w.admin("POST", "/faults", fault("BILL_FEE", "MP3", `,"fen":1`), nil)
	for _, wrong := range []string{fault("BILL_MISSING", "MP4", ""), fault("BILL_MIDNIGHT", "MP1", ""), fault("BILL_AMOUNT", "MP2", `,"fen":-1000`), fault("BILL_ELSEWHERE", "MP1", `,"other":"1900000111"`)} {
		w.refused("/faults", wrong)
	}
	for range 2 {
		var sums live.Sums
		w.admin("GET", "/books?merchant="+merchantNo+"&day="+day.String(), "", &sums)
		if sums.Refunds != 2 || sums.RefundFen != 1990 || sums.FeeBackFen != 13 || sums.Closing-sums.Opening != 10_000-60-1990+13 {
			t.Errorf("%+v", sums)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
	}
	w.set("2026-09-16 10:00:00")
	if net := w.day(day.Compact()); net != ledger.Money(10_000-60-1990+13) {
		t.Errorf("the bill nets %s", net)
	}
	w.refused("/faults", fault("BILL_MISSING", "MP2", ""))
}
