package livehis_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/channels/sandbox/livehis"
	"github.com/clearward/clearward/ledger"
)

// world is a HIS of two hospitals with a clock that only the test moves.
type world struct {
	t   *testing.T
	dir string
	at  atomic.Int64
	s   *livehis.Server
	url string
}

func start(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir()}
	w.set("2026-09-15 08:00:00")
	w.open()
	t.Cleanup(func() {
		if err := w.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) now() time.Time { return time.Unix(w.at.Load(), 0) }

func (w *world) set(at string) {
	t, err := time.ParseInLocation(time.DateTime, at, ledger.Beijing)
	if err != nil {
		w.t.Fatal(err)
	}
	w.at.Store(t.Unix())
}

// open opens the books that stand in the folder, as after a kill.
func (w *world) open() {
	w.t.Helper()
	var err error
	w.s, err = livehis.Open(livehis.Config{Dir: w.dir, Now: w.now, Hospitals: []livehis.Hospital{{Code: "H1", Format: his.JSON}, {Code: "H2"}}})
	if err != nil {
		w.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/his/", w.s.Admin())
	mux.Handle("/", w.s.Handler())
	h := httptest.NewServer(mux)
	w.t.Cleanup(h.Close)
	w.url = h.URL
}

func (w *world) client(hospital string, f his.Format) *his.Client {
	w.t.Helper()
	secret, err := channels.Secret("file:" + filepath.Join(w.dir, "keys", "his-"+hospital+".key"))
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := his.New(his.Config{Hospital: hospital, BaseURL: w.url + "/" + hospital, Format: f, Secret: secret, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// admin posts to the admin API and returns what it says.
func (w *world) admin(path, body string, status int) string {
	w.t.Helper()
	answer, err := http.Post(w.url+"/his/"+path, "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != status {
		w.t.Fatalf("%s %s: %d %s, %v", path, body, answer.StatusCode, text, err)
	}
	return string(text)
}

func (w *world) sums(hospital, day string) livehis.Sums {
	w.t.Helper()
	sums, err := w.s.Sums(hospital, day)
	if err != nil {
		w.t.Fatal(err)
	}
	return sums
}

func ask(hospital, bill, order string, fen int64) channels.HISRequest {
	return channels.HISRequest{Hospital: hospital, BillNo: bill, OrderNo: order, Amount: ledger.Money(fen), Tender: "WECHAT", Operator: "C03", Key: "ack-" + order, BizType: "OUTPATIENT"}
}

func back(r channels.HISRequest, refund string, fen int64) channels.HISRequest {
	r.RefundNo, r.Amount, r.Key = refund, ledger.Money(fen), "cancel-"+refund
	return r
}

func wants(t *testing.T, what string, got channels.HISAnswer, outcome channels.Outcome, code string) {
	t.Helper()
	if got.Outcome != outcome || got.Reason.Code != code {
		t.Errorf("%s: %s %+v, want %s %q", what, got.Outcome, got.Reason, outcome, code)
	}
}

// B02, B03, A03, X04: booked once, voided once, the number written back, in both formats.
func TestABillIsBookedAndVoidedOnceHoweverOftenItIsAsked(t *testing.T) {
	for hospital, f := range map[string]his.Format{"H1": his.JSON, "H2": his.XML} {
		w := start(t)
		c, ctx := w.client(hospital, f), t.Context()
		w.admin("bills", fmt.Sprintf(`{"hospital":%q,"bill_no":"B1","fen":4500,"biz_type":"OUTPATIENT","patient":"P1"}`, hospital), 200)
		r := ask(hospital, "B1", "HP1", 4500)
		wants(t, "before it is booked", c.Order(ctx, r), channels.OutcomeFailed, "NOT_FOUND")
		for range 2 {
			got := c.Acknowledge(ctx, r)
			if got.Outcome != channels.OutcomeSucceeded || got.Amount != 4500 || got.ReceiptNo != "2600000001" || got.BillNo != "B1" {
				t.Errorf("%s: %+v", f, got)
			}
		}
		other := r
		other.Amount = 4400
		wants(t, "the key with other values", c.Acknowledge(ctx, other), channels.OutcomeFailed, "KEY_USED")
		wants(t, "another payment", c.Acknowledge(ctx, ask(hospital, "B1", "HP2", 4500)), channels.OutcomeFailed, "PAID")
		wants(t, "too much", c.Cancel(ctx, back(r, "HR0", 4501)), channels.OutcomeFailed, "NOT_REFUNDABLE")
		for range 2 {
			if got := c.Cancel(ctx, back(r, "HR1", 1500)); got.Outcome != channels.OutcomeSucceeded || got.Refundable != 3000 || got.BillNo != "RB1-1" {
				t.Errorf("%s: %+v", f, got)
			}
		}
		w.admin("serve", fmt.Sprintf(`{"hospital":%q,"bill_no":"B1","fen":2000}`, hospital), 200)
		if got := c.Refundable(ctx, r); got.Refundable != 1000 {
			t.Errorf("%s: after service %+v", f, got)
		}
		if sums := w.sums(hospital, "2026-09-15"); sums.Unwritten != 1 {
			t.Errorf("before the number is written back: %+v", sums)
		}
		written := back(r, "HR1", 1500)
		written.Key, written.RefundID = "refund-HR1", "5000"
		for range 2 {
			wants(t, "written back", c.WriteBackRefund(ctx, written), channels.OutcomeSucceeded, "")
		}
		want := livehis.Sums{Hospital: hospital, Day: w.day(), Payments: 1, PayFen: 4500, Refunds: 1, RefundFen: 1500}
		if sums := w.sums(hospital, "2026-09-15"); sums != want {
			t.Errorf("%+v, want %+v", sums, want)
		}
	}
}

func (w *world) day() ledger.Day { return ledger.DayOf(w.now()) }

func TestABillThatIsClosedUnknownOrOfAnotherAmountIsNotBooked(t *testing.T) {
	w := start(t)
	c, ctx := w.client("H1", his.JSON), t.Context()
	w.admin("bills", `{"bills":[{"hospital":"H1","bill_no":"B1","fen":100,"biz_type":"REGISTRATION"},{"hospital":"H1","bill_no":"B2","fen":200,"biz_type":"REGISTRATION"}]}`, 200)
	w.admin("bills", `{"bills":[{"hospital":"H1","bill_no":"B3","fen":100,"biz_type":"REGISTRATION"},{"hospital":"H1","bill_no":"B2","fen":200,"biz_type":"REGISTRATION"}]}`, 409)
	w.admin("close", `{"hospital":"H1","bill_no":"B1"}`, 200)
	wants(t, "closed", c.Acknowledge(ctx, ask("H1", "B1", "HP1", 100)), channels.OutcomeFailed, "CLOSED")
	wants(t, "another amount", c.Acknowledge(ctx, ask("H1", "B2", "HP2", 199)), channels.OutcomeFailed, "AMOUNT")
	wants(t, "of a list that was refused", c.Acknowledge(ctx, ask("H1", "B3", "HP3", 100)), channels.OutcomeFailed, "NOT_FOUND")
	wants(t, "never booked", c.Cancel(ctx, back(ask("H1", "B2", "HP2", 100), "HR1", 100)), channels.OutcomeFailed, "NOT_FOUND")
	// Only who has the secret of the hospital is heard.
	stranger, err := his.New(his.Config{Hospital: "H1", BaseURL: w.url + "/H1", Format: his.JSON, Secret: "another-secret-another", Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "a stranger", stranger.Acknowledge(ctx, ask("H1", "B2", "HP2", 200)), channels.OutcomeUnknown, "")
	if sums := w.sums("H1", "2026-09-15"); sums.Payments != 0 || sums.OpenBills != 1 {
		t.Errorf("%+v", sums)
	}
}

// Golden rule 2: whatever becomes of the answer, the same question again tells
// what stands, and nothing is booked twice; a kill between changes nothing.
func TestAfterEveryFaultAndAKillTheSameRequestTellsWhatStands(t *testing.T) {
	w := start(t)
	for i, fault := range []struct {
		text   string
		booked bool
	}{
		{`{"do":"DROP"}`, false}, {`{"do":"DROP","commit":true}`, true}, {`{"do":"HTTP_500"}`, false}, {`{"do":"HTTP_500","commit":true}`, true},
		{`{"do":"GARBAGE","commit":true}`, true}, {`{"do":"BAD_SIGN"}`, true}, {`{"do":"ERROR","code":"AGAIN"}`, false},
	} {
		c, ctx := w.client("H1", his.JSON), t.Context()
		r := ask("H1", fmt.Sprint("B", i), fmt.Sprint("HP", i), 4500)
		w.admin("bills", fmt.Sprintf(`{"hospital":"H1","bill_no":"B%d","fen":4500,"biz_type":"OUTPATIENT"}`, i), 200)
		w.admin("faults", fault.text, 200)
		if got := c.Acknowledge(ctx, r); got.Outcome != channels.OutcomeUnknown {
			t.Errorf("%s: %+v", fault.text, got)
		}
		w.open() // without a Close: what was answered is on disk
		c = w.client("H1", his.JSON)
		if got := c.Order(ctx, r); (got.Outcome == channels.OutcomeSucceeded) != fault.booked || got.Outcome == channels.OutcomeUnknown {
			t.Errorf("%s: then %+v", fault.text, got)
		}
		wants(t, fault.text+": again", c.Acknowledge(ctx, r), channels.OutcomeSucceeded, "")
		if sums := w.sums("H1", "2026-09-15"); sums.Payments != i+1 || sums.PayFen != int64(i+1)*4500 {
			t.Errorf("%s: %+v", fault.text, sums)
		}
	}
}

// fetch reads a day's details as the platform does.
func (w *world) fetch(c *his.Client, day string) ([]string, channels.FileSummary, error) {
	w.t.Helper()
	d, err := ledger.ParseDay(day)
	if err != nil {
		w.t.Fatal(err)
	}
	in, err := c.Details(w.t.Context(), "H1", d)
	if err != nil {
		return nil, channels.FileSummary{}, err
	}
	defer in.Close()
	var rows []string
	sum, err := his.ReadDetails(in, channels.Expect{Hospital: "H1", Day: d}, func(l *channels.HISLine) error {
		rows = append(rows, fmt.Sprintf("%s %s %s %s/%s %d", l.Kind, l.BillNo, l.Channel, l.OrderNo, l.RefundNo, l.Amount))
		return nil
	})
	return rows, sum, err
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// R01: the details of a day as reconciliation reads them, with what faults make of them.
func TestTheDetailsOfADayHoldItsBookingsAndEveryPlantedFault(t *testing.T) {
	w := start(t)
	c, ctx := w.client("H1", his.JSON), t.Context()
	for i := range 7 {
		w.admin("bills", fmt.Sprintf(`{"hospital":"H1","bill_no":"B%d","fen":1000,"biz_type":"OUTPATIENT","patient":"P%d"}`, i, i), 200)
		wants(t, "book", c.Acknowledge(ctx, ask("H1", fmt.Sprint("B", i), fmt.Sprint("HP", i), 1000)), channels.OutcomeSucceeded, "")
	}
	r := ask("H1", "B0", "HP0", 1000)
	wants(t, "void", c.Cancel(ctx, back(r, "HR1", 300)), channels.OutcomeSucceeded, "")
	wants(t, "void", c.Cancel(ctx, back(r, "HR2", 200)), channels.OutcomeSucceeded, "")
	w.admin("cash", `{"hospital":"H1","bill_no":"C1","fen":70,"biz_type":"REGISTRATION","tender":"CASH"}`, 200)
	w.admin("cash", `{"hospital":"H1","bill_no":"C2","fen":20,"biz_type":"REGISTRATION","tender":"POS","refund":true,"original":"C1"}`, 200)
	if _, _, err := w.fetch(c, "2026-09-15"); !errors.Is(err, channels.ErrBillNotReady) {
		t.Errorf("before the day has ended: %v", err)
	}
	w.set("2026-09-16 01:00:00")
	rows, sum, err := w.fetch(c, "2026-09-15")
	if err != nil || sum.Totals["pay_amount"] != 7070 || sum.Totals["refund_amount"] != 520 {
		t.Errorf("%v, %v", sum, err)
	}
	same(t, "as it is", rows, "PAY B0 WECHAT HP0/ 1000", "PAY B1 WECHAT HP1/ 1000", "PAY B2 WECHAT HP2/ 1000", "PAY B3 WECHAT HP3/ 1000", "PAY B4 WECHAT HP4/ 1000",
		"PAY B5 WECHAT HP5/ 1000", "PAY B6 WECHAT HP6/ 1000", "REFUND RB0-1 WECHAT HP0/ 300", "REFUND RB0-2 WECHAT HP0/ 200", "PAY C1 CASH / 70", "REFUND C2 POS / 20")
	written := back(r, "HR2", 200)
	written.Key = "refund-HR2"
	wants(t, "write back", c.WriteBackRefund(ctx, written), channels.OutcomeSucceeded, "")
	for _, fault := range []string{`{"do":"ROW_MISSING","hospital":"H1","order_no":"HP1"}`, `{"do":"ROW_AMOUNT","hospital":"H1","order_no":"HP2","fen":-1}`,
		`{"do":"ROW_TWICE","hospital":"H1","order_no":"HP3"}`, `{"do":"ROW_NEXT_DAY","hospital":"H1","order_no":"HP4"}`, `{"do":"ROW_CASH","hospital":"H1","order_no":"HP5"}`,
		`{"do":"ROW_MISSING","hospital":"H1","refund_no":"HR1"}`, `{"do":"ROW_UNKEYED","hospital":"H1","order_no":"HP6"}`, `{"do":"ROW_UNKEYED","hospital":"H1","refund_no":"HR2"}`} {
		w.admin("faults", fault, 200)
	}
	w.admin("faults", `{"do":"ROW_FOREIGN","hospital":"H1","order_no":"HPX","fen":5}`, 200) // on the next day: it is booked now
	w.admin("faults", `{"do":"ROW_MISSING","hospital":"H1","order_no":"HPY"}`, 409)
	w.open()
	c = w.client("H1", his.JSON)
	if rows, _, err = w.fetch(c, "2026-09-15"); err != nil {
		t.Error(err)
	}
	same(t, "with faults", rows, "PAY B0 WECHAT HP0/ 1000", "PAY B2 WECHAT HP2/ 999", "PAY B3 WECHAT HP3/ 1000", "PAY B3 WECHAT HP3/ 1000",
		"PAY B5 CASH / 1000", "PAY XB6 WECHAT / 1000", "REFUND XRB0-2 WECHAT / 200", "PAY C1 CASH / 70", "REFUND C2 POS / 20")
	w.set("2026-09-17 01:00:00")
	if rows, _, err = w.fetch(c, "2026-09-16"); err != nil {
		t.Error(err)
	}
	same(t, "the next day", rows, "PAY B4 WECHAT HP4/ 1000", "PAY FHPX WECHAT HPX/ 5")
	for _, fault := range []string{`{"do":"GARBAGE","api":"details"}`, `{"do":"BAD_SIGN","api":"details"}`, `{"do":"HTTP_500","api":"details"}`, `{"do":"ERROR","api":"details"}`} {
		w.admin("faults", fault, 200)
		if _, _, err := w.fetch(c, "2026-09-16"); err == nil {
			t.Errorf("%s: a file that is not HIS's own was taken", fault)
		}
	}
}

// A HIS that hears nothing until a time: the same request comes through after it.
func TestAFaultThatHasATimeStandsUntilThen(t *testing.T) {
	w := start(t)
	w.admin("bills", `{"hospital":"H1","bill_no":"B1","fen":1000,"biz_type":"OUTPATIENT"}`, 200)
	w.admin("faults", `{"do":"DROP","hospital":"H1","bill_no":"B1","until":"2026-09-15T20:00:00+08:00"}`, 200)
	r := ask("H1", "B1", "HP1", 1000)
	for _, at := range []string{"2026-09-15 08:00:00", "2026-09-15 12:00:00", "2026-09-15 19:59:59"} {
		w.set(at)
		c := w.client("H1", his.JSON)
		wants(t, at, c.Acknowledge(t.Context(), r), channels.OutcomeUnknown, "")
		wants(t, at, c.Order(t.Context(), r), channels.OutcomeUnknown, "")
		w.open() // it survives a kill
	}
	w.set("2026-09-15 20:00:00")
	wants(t, "at its time", w.client("H1", his.JSON).Acknowledge(t.Context(), r), channels.OutcomeSucceeded, "")
	if sums := w.sums("H1", "2026-09-15"); sums.Payments != 1 {
		t.Errorf("%+v", sums)
	}
}

func TestTheBooksAndFaultsAreShown(t *testing.T) {
	w := start(t)
	w.admin("faults", `{"do":"DELAY","millis":1,"times":2}`, 200)
	w.admin("faults", `{"do":"WHATEVER"}`, 409)
	for path, want := range map[string]string{"faults": `"times":2`, "books?hospital=H1&day=2026-09-15": `"payments":0`, "details?hospital=H1&day=2026-09-15": "#0,0,0"} {
		answer, err := http.Get(w.url + "/his/" + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err = errors.Join(err, answer.Body.Close()); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s, %v", path, text, err)
		}
	}
	key, err := os.ReadFile(filepath.Join(w.dir, "keys", "his-H1.key"))
	if err != nil || len(key) != 64 {
		t.Errorf("the secret: %d characters, %v", len(key), err)
	}
	books, err := os.ReadFile(filepath.Join(w.dir, "his.journal"))
	if err != nil || bytes.Contains(books, key) || !json.Valid(books[bytes.IndexByte(books, '{'):bytes.IndexByte(books, '\n')]) {
		t.Errorf("the journal: %s, %v", books, err)
	}
}

// U05: a vendor goes through the contract alone and reads which call and field breaks it.
func TestTheKitGoesThroughTheContractAndNamesWhatBreaksIt(t *testing.T) {
	w := start(t)
	check := func(hospital string, f his.Format, bill string) (broken []string) {
		t.Helper()
		steps := 0
		err := his.Check(t.Context(), w.client(hospital, f), bill, 101, func(found his.Finding) {
			if steps++; found.Field != "" {
				broken = append(broken, fmt.Sprintf("%s: %s: %s is %q, not %q", found.Call, found.Step, found.Field, found.Got, found.Want))
			}
		})
		if err != nil || steps != 25 {
			t.Errorf("%d steps, %v", steps, err)
		}
		return broken
	}
	for hospital, f := range map[string]his.Format{"H1": his.JSON, "H2": his.XML} {
		w.admin("bills", fmt.Sprintf(`{"hospital":%q,"bill_no":"B1","fen":101,"biz_type":"OUTPATIENT"}`, hospital), 200)
		if broken := check(hospital, f, "B1"); len(broken) > 0 {
			t.Errorf("%s: %q", f, broken)
		}
		if sums := w.sums(hospital, "2026-09-15"); sums.PayFen != 101 || sums.RefundFen != 101 || sums.Refunds != 2 || sums.Unwritten != 0 {
			t.Errorf("%s: %+v", f, sums)
		}
	}
	w.set("2026-09-15 09:00:00")
	w.admin("bills", `{"hospital":"H1","bill_no":"B2","fen":101,"biz_type":"OUTPATIENT"}`, 200)
	w.admin("faults", `{"do":"ERROR","code":"E-1","api":"bills/order"}`, 200)
	w.admin("faults", `{"do":"BAD_SIGN","api":"refunds/write-back"}`, 200)
	broken := check("H1", his.JSON, "B2")
	if len(broken) != 2 || !strings.Contains(broken[0], `bills/order: a payment that is not booked: code is "E-1", not "NOT_FOUND"`) ||
		!strings.Contains(broken[1], "refunds/write-back: the number of the refund: result is") {
		t.Errorf("%q", broken)
	}
}
