package live_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

func config(dir string, now func() time.Time) live.Config {
	return live.Config{Dir: dir, Now: now, Merchants: []live.Merchant{{No: merchantNo, Channel: channels.WeChat, Apps: []string{"wx1"},
		FeeRate: "0.006", BankAccount: "755", OpeningFen: 500_000, RetainedFen: 100_000}}}
}

const merchantNo = "1900000109"

// world is a sandbox with a clock that only the test moves.
type world struct {
	t    testing.TB
	cfg  live.Config
	at   *atomic.Int64
	s    *live.Server
	key  string
	code atomic.Int64
}

func start(t testing.TB, change func(*live.Config)) *world {
	t.Helper()
	w := &world{t: t, at: &atomic.Int64{}}
	w.set("2026-09-15 08:00:00")
	w.cfg = config(t.TempDir(), func() time.Time { return time.Unix(w.at.Load(), 0) })
	if err := os.CopyFS(filepath.Join(w.cfg.Dir, "keys"), os.DirFS(keysOfAll)); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&w.cfg)
	}
	w.open()
	t.Cleanup(func() {
		if err := w.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.s, err = live.Start(w.cfg); err != nil {
		w.t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(w.cfg.Dir, "keys", merchantNo, "api_v2.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.key = string(key)
}

func (w *world) set(at string) {
	t, err := time.ParseInLocation(time.DateTime, at, ledger.Beijing)
	if err != nil {
		w.t.Fatal(err)
	}
	w.at.Store(t.Unix())
}

// send sends a signed message and returns what came back, as it came.
func (w *world) send(path string, kind wechat.SignType, fields ...string) ([]byte, error) {
	m := wechat.Message{"appid": "wx1", "mch_id": merchantNo, "nonce_str": "n", "sign_type": string(kind)}
	for i := 0; i < len(fields); i += 2 {
		m[fields[i]] = fields[i+1]
	}
	m["sign"] = m.Sign(kind, w.key)
	answer, err := http.Post(w.s.Addresses.WeChat+path, "text/xml", bytes.NewReader(m.XML()))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

// call returns the verified answer.
func (w *world) call(path string, fields ...string) wechat.Message {
	w.t.Helper()
	body, err := w.send(path, wechat.SignHMAC, fields...)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := wechat.ParseXML(body)
	if err == nil && m["return_code"] == "SUCCESS" {
		err = m.Verify(wechat.SignHMAC, w.key)
	}
	if err != nil {
		w.t.Fatalf("%s: %v in %s", path, err, body)
	}
	return m
}

func (w *world) payment(no string, fen int) []string {
	return []string{"out_trade_no", no, "total_fee", fmt.Sprint(fen), "body", "门诊缴费", "spbill_create_ip", "10.1.2.3",
		"auth_code", fmt.Sprintf("13%08d00000000", w.code.Add(1))}
}

func (w *world) pay(no string, fen int) wechat.Message {
	w.t.Helper()
	return w.call("/pay/micropay", w.payment(no, fen)...)
}

func (w *world) refund(order, no string, total, fen int) wechat.Message {
	w.t.Helper()
	return w.call("/secapi/pay/refund", "out_trade_no", order, "out_refund_no", no, "total_fee", fmt.Sprint(total), "refund_fee", fmt.Sprint(fen))
}

func (w *world) state(no string) string {
	w.t.Helper()
	m := w.call("/pay/orderquery", "out_trade_no", no)
	return m["trade_state"] + m["err_code"]
}

// admin calls the admin API and reads its answer into to.
func (w *world) admin(method, path, body string, to any) {
	w.t.Helper()
	r, err := http.NewRequest(method, w.s.Addresses.Admin+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		w.t.Fatalf("%s %s: %d %s %v", method, path, answer.StatusCode, text, err)
	}
	if to != nil {
		if err := json.Unmarshal(text, to); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestOneNumberPaysOnce(t *testing.T) {
	w := start(t, nil)
	if m := w.pay("A1", 12345); m["result_code"] != "SUCCESS" || m["total_fee"] != "12345" || m["time_end"] != "20260915080000" {
		t.Errorf("paid: %v", m)
	}
	for _, c := range []struct{ no, want string }{{"A1", "ORDERPAID"}, {"A1", "ORDERPAID"}} {
		if got := w.pay(c.no, 12345)["err_code"]; got != c.want {
			t.Errorf("again: %s", got)
		}
	}
	if got := w.pay("A1", 12346)["err_code"]; got != "OUT_TRADE_NO_USED" {
		t.Errorf("with another amount: %s", got)
	}
	if got := w.state("A1") + w.state("A2"); got != "SUCCESSORDERNOTEXIST" {
		t.Errorf("states: %s", got)
	}
}

func TestThePasswordIsAskedForByTheRules(t *testing.T) { // B12
	w := start(t, nil)
	if got := w.pay("P0", 100_000)["err_code"]; got != "" {
		t.Errorf("1000.00 yuan: %s", got)
	}
	if got := w.pay("P1", 100_001)["err_code"]; got != "USERPAYING" {
		t.Errorf("1000.01 yuan: %s", got)
	}
	w.at.Add(9)
	if got := w.state("P1"); got != "USERPAYING" {
		t.Errorf("after 9 s: %s", got)
	}
	w.at.Add(1)
	if got := w.state("P1"); got != "SUCCESS" {
		t.Errorf("after 10 s: %s", got)
	}
	for i := range 6 {
		fields := w.payment(fmt.Sprint("S", i), 100)
		fields[len(fields)-1] = fmt.Sprintf("1377777777%08d", i) // one payer, a new code each time
		got, want := w.call("/pay/micropay", fields...)["err_code"], ""
		if i == 5 {
			want = "USERPAYING"
		}
		if got != want {
			t.Errorf("payment %d of the day: %q", i+1, got)
		}
	}
}

func TestARefundNumberRefundsOnceAndNeverTooMuch(t *testing.T) { // W04
	w := start(t, nil)
	w.pay("A1", 10_000)
	first := w.refund("A1", "R1", 10_000, 4_000)
	if again := w.refund("A1", "R1", 10_000, 4_000); again["refund_id"] != first["refund_id"] || first["refund_id"] == "" {
		t.Errorf("again: %v", again)
	}
	for _, c := range []struct {
		order, no string
		fen       int
		want      string
	}{{"A1", "R1", 4_001, "REFUND_FEE_MISMATCH"}, {"A1", "R2", 6_001, "ERROR"}, {"A9", "R3", 1, "ORDERNOTEXIST"}, {"A1", "R4", 6_000, ""}, {"A1", "R5", 1, "ERROR"}} {
		if got := w.refund(c.order, c.no, 10_000, c.fen)["err_code"]; got != c.want {
			t.Errorf("%s of %d fen: %q, want %q", c.no, c.fen, got, c.want)
		}
	}
	if m := w.call("/pay/refundquery", "out_trade_no", "A1"); m["refund_count"] != "2" || m["refund_status_1"] != "SUCCESS" {
		t.Errorf("query: %v", m)
	}
	var sums live.Sums
	w.admin("GET", "/books?merchant="+merchantNo+"&day=2026-09-15", "", &sums)
	if sums.PayFen != 10_000 || sums.RefundFen != 10_000 || sums.FeeFen != 60 || sums.FeeBackFen != 60 {
		t.Errorf("books: %+v", sums)
	}
}

func TestARefundNeedsTheMerchantsBalance(t *testing.T) {
	w := start(t, func(c *live.Config) { c.Merchants[0].OpeningFen, c.Merchants[0].RetainedFen = 0, 0 })
	w.pay("A1", 10_000)
	w.set("2026-09-16 09:00:00") // half an hour before it is paid out: promised already
	if got := w.refund("A1", "R1", 10_000, 10_000)["err_code"]; got != "NOTENOUGH" {
		t.Errorf("err_code %q", got)
	}
	w.pay("A2", 20_000)
	if got := w.refund("A1", "R1", 10_000, 10_000)["err_code"]; got != "" {
		t.Errorf("the same number after more came in: %q", got)
	}
}

func TestReversing(t *testing.T) {
	w := start(t, nil)
	w.pay("A1", 10_000)
	w.pay("A2", 200_000) // waits for the password
	for _, no := range []string{"A1", "A2", "A3"} {
		if m := w.call("/secapi/pay/reverse", "out_trade_no", no); m["result_code"] != "SUCCESS" || m["recall"] != "N" {
			t.Errorf("%s: %v", no, m)
		}
		w.at.Add(60)
		if got := w.state(no); got != "REVOKED" {
			t.Errorf("%s: %s", no, got)
		}
		if got := w.pay(no, 10_000)["err_code"]; got == "" {
			t.Errorf("%s is paid after it was reversed", no)
		}
	}
}

func TestEveryFaultOfACall(t *testing.T) {
	w := start(t, nil)
	for i, c := range []struct{ fault, state string }{
		{`{"do":"DROP"}`, "ORDERNOTEXIST"}, {`{"do":"DROP","commit":true}`, "SUCCESS"},
		{`{"do":"HTTP_500"}`, "ORDERNOTEXIST"}, {`{"do":"HTTP_500","commit":true}`, "SUCCESS"},
		{`{"do":"GARBAGE"}`, "ORDERNOTEXIST"}, {`{"do":"GARBAGE","commit":true}`, "SUCCESS"},
		{`{"do":"BAD_SIGN"}`, "SUCCESS"}, {`{"do":"DELAY","millis":1}`, "SUCCESS"},
		{`{"do":"ERROR","code":"SYSTEMERROR"}`, "ORDERNOTEXIST"}, {`{"do":"ERROR","code":"SYSTEMERROR","commit":true}`, "SUCCESS"},
		{`{"do":"PASSWORD"}`, "USERPAYING"}, {`{"do":"PASSWORD","seconds":1}`, "USERPAYING"},
	} {
		no := fmt.Sprint("F", i)
		w.admin("POST", "/faults", strings.Replace(c.fault, "{", `{"api":"pay","order":"`+no+`",`, 1), nil)
		body, err := w.send("/pay/micropay", wechat.SignMD5, w.payment(no, 100)...)
		m, bad := wechat.ParseXML(body)
		good := err == nil && bad == nil && m.Verify(wechat.SignMD5, w.key) == nil && m["err_code"] == ""
		if late := strings.Contains(c.fault, "DELAY"); good != late {
			t.Errorf("%s: %s, %v", c.fault, body, err)
		}
		if got := w.state(no); got != c.state {
			t.Errorf("%s: then %s, want %s", c.fault, got, c.state)
		}
	}
	var left []live.Fault
	if w.admin("GET", "/faults", "", &left); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestTheLastDigitsAskForAFaultWhereThatIsSwitchedOn(t *testing.T) { // K.1
	w := start(t, func(c *live.Config) { c.Merchants[0].Tails = "amount" })
	for fen, want := range map[int]string{101: "", 102: "USERPAYING", 104: "SYSTEMERROR", 105: "SYSTEMERROR", 107: "NOTENOUGH"} {
		if got := w.pay(fmt.Sprint("T", fen), fen)["err_code"]; got != want {
			t.Errorf("%d fen: %q, want %q", fen, got, want)
		}
	}
	heard := make(chan struct{}, 100)
	hospital := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		_, _ = out.Write(wechat.Message{"return_code": "SUCCESS"}.XML())
		heard <- struct{}{}
	}))
	defer hospital.Close()
	w.call("/pay/unifiedorder", "out_trade_no", "T109", "total_fee", "109", "body", "门诊缴费", "spbill_create_ip", "1.1.1.1", "trade_type", "NATIVE", "notify_url", hospital.URL)
	w.admin("POST", "/pay", `{"merchant":"`+merchantNo+`","order":"T109"}`, nil)
	await(w, heard, 0)
	w.at.Add(59)
	if len(heard) > 0 {
		t.Error("the second notice came before its time")
	}
	await(w, heard, 1)
	if got := w.state("T104") + w.state("T105"); got != "SUCCESSORDERNOTEXIST" {
		t.Errorf("then %s", got)
	}
}

func TestBillsTieToTheBooksAndToTheBank(t *testing.T) {
	w := start(t, nil)
	for i := range 30 {
		w.pay(fmt.Sprintf("HP20260915%08d", i), 100+i*37)
	}
	w.refund("HP2026091500000003", "R1", 211, 100)
	w.call("/secapi/pay/reverse", "out_trade_no", "HP2026091500000004")
	for _, f := range []string{`"do":"BILL_MISSING","order":"HP2026091500000005"`, `"do":"BILL_AMOUNT","fen":50,"order":"HP2026091500000006"`,
		`"do":"BILL_FEE","fen":1,"order":"HP2026091500000007"`, `"do":"BILL_MIDNIGHT","order":"HP2026091500000008"`,
		`"do":"BILL_FOREIGN","fen":777,"order":"CT2026091500000001"`, `"do":"REFUND_CLOSED","api":"refund","seconds":5`} {
		w.admin("POST", "/faults", `{"merchant":"`+merchantNo+`",`+f+`}`, nil)
	}
	w.refund("HP2026091500000009", "R2", 433, 433)
	w.at.Add(5)
	w.set("2026-09-16 09:59:59")
	if m := w.call("/pay/downloadbill", "bill_date", "20260915", "bill_type", "ALL"); m["return_msg"] != "Bill Creating" {
		t.Errorf("before ten: %v", m)
	}
	w.set("2026-09-16 10:00:00")
	first, second := w.day("20260915"), ledger.Money(0)
	w.set("2026-09-17 10:00:00")
	second = w.day("20260916")
	if first == 0 || second == 0 {
		t.Errorf("nets %d and %d", first, second)
	}
	if m := w.call("/pay/downloadbill", "bill_date", "20260910"); m["return_msg"] != "No Bill Exist" {
		t.Errorf("a day without trades: %v", m)
	}
}

// day fetches both bills of a day, reads them with the product's readers and holds
// them against the books. It returns the day's net.
func (w *world) day(date string) ledger.Money {
	w.t.Helper()
	day, err := ledger.ParseDay(date[:4] + "-" + date[4:6] + "-" + date[6:])
	if err != nil {
		w.t.Fatal(err)
	}
	expect := channels.Expect{MerchantNos: []string{merchantNo}, Day: day}
	body, err := w.send("/pay/downloadbill", wechat.SignMD5, "bill_date", date, "bill_type", "ALL")
	if err != nil {
		w.t.Fatal(err)
	}
	trade, err := wechat.ReadTradeBill(bytes.NewReader(body), expect, func(*channels.BillLine) error { return nil })
	if err != nil {
		w.t.Fatalf("%v in %s", err, body)
	}
	if body, err = w.send("/pay/downloadfundflow", wechat.SignHMAC, "bill_date", date, "account_type", "Basic"); err != nil {
		w.t.Fatal(err)
	}
	fund, err := wechat.ReadFundBill(bytes.NewReader(body), expect, func(*channels.FundLine) error { return nil })
	if err != nil {
		w.t.Fatalf("%v in %s", err, body)
	}
	var sums live.Sums
	w.admin("GET", "/books?merchant="+merchantNo+"&day="+day.String(), "", &sums)
	tt, ft := trade.Totals, fund.Totals
	got := []int64{tt["pay_amount"], tt["refund_amount"], tt["fee"], tt["fee_return"], int64(fund.Closing), sums.PaidOut, tt["pay_settle"] - tt["refund_settle"] - tt["fee"] + tt["fee_return"]}
	want := []int64{sums.PayFen, sums.RefundFen, sums.FeeFen, sums.FeeBackFen, sums.Closing, sums.Closing - 100_000, ft["trade"] - ft["fee"] - ft["refund"] + ft["fee_return"]}
	if !slices.Equal(got, want) {
		w.t.Errorf("%s: bills %v, books %v (%v)", date, got, want, ft)
	}
	if len(sums.Arriving) != 1 || sums.Arriving[0].Fen != sums.PaidOut || sums.Arriving[0].Account != "755" {
		w.t.Errorf("%s: at the bank %+v", date, sums.Arriving)
	}
	return ledger.Money(got[6])
}

// await waits for a notice. The clock goes on until it comes, since the sandbox may
// not yet have heard that the last one was refused.
func await[T any](w *world, heard <-chan T, seconds int64) T {
	for {
		select {
		case what := <-heard:
			return what
		case <-time.After(100 * time.Millisecond):
			w.at.Add(seconds)
		}
	}
}

func TestANoticeIsSentUntilItIsTakenAndMayBeForged(t *testing.T) { // C.3, A.2
	var mu sync.Mutex
	var got []wechat.Message
	heard := make(chan struct{}, 100)
	hospital := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, _ := wechat.ParseXML(body)
		mu.Lock()
		got = append(got, m)
		n := len(got)
		mu.Unlock()
		if n > 2 {
			_, _ = out.Write(wechat.Message{"return_code": "SUCCESS"}.XML())
		}
		heard <- struct{}{}
	}))
	defer hospital.Close()
	w := start(t, nil)
	order := []string{"out_trade_no", "N1", "total_fee", "100", "body", "门诊缴费", "spbill_create_ip", "1.1.1.1", "trade_type", "NATIVE", "notify_url", hospital.URL}
	m := w.call("/pay/unifiedorder", order...)
	w.admin("POST", "/faults", `{"do":"NOTICE_FORGED","order":"N1"}`, nil)
	w.admin("POST", "/pay", `{"code":"`+m["code_url"]+`"}`, nil)
	for range 3 {
		await(w, heard, 15)
	}
	mu.Lock()
	defer mu.Unlock()
	right := 0
	for _, m := range got {
		if m.Verify(wechat.SignHMAC, w.key) == nil && m["total_fee"] == "100" && m["out_trade_no"] == "N1" {
			right++
		}
	}
	if len(got) != 3 || right != 2 {
		t.Errorf("%d notices, %d of them right: %v", len(got), right, got)
	}
}

func TestBooksThatWereNeverClosedAreWholeAfterAnAnswerWasLost(t *testing.T) {
	w := start(t, nil)
	w.admin("POST", "/faults", `{"do":"DROP","commit":true,"api":"pay"}`, nil)
	if _, err := w.send("/pay/micropay", wechat.SignMD5, w.payment("K1", 100)...); err == nil {
		t.Fatal("the answer was not lost")
	}
	w.pay("K2", 200)
	w.refund("K2", "R2", 200, 50)
	first := w.s // left as a kill leaves it: what is on disk must do
	w.open()
	if got := w.state("K1") + w.state("K2"); got != "SUCCESSREFUND" {
		t.Errorf("states %s", got)
	}
	var sums live.Sums
	if w.admin("GET", "/books?merchant="+merchantNo+"&day=2026-09-15", "", &sums); sums.PayFen != 300 || sums.RefundFen != 50 {
		t.Errorf("books %+v", sums)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
}

func BenchmarkMicropay(b *testing.B) {
	w := start(b, nil)
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	b.SetParallelism(32)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := w.send("/pay/micropay", wechat.SignMD5, w.payment(fmt.Sprintf("HP%016d", n.Add(1)), 1000)...); err != nil {
				b.Error(err)
			}
		}
	})
}
