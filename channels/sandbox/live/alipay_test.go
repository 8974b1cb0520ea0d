package live_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/alipay"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/ledger"
)

const (
	aliNo  = "20880000000000020156"
	aliApp = "2021000000000001"
)

// aliWorld is a sandbox with one merchant number of Alipay, reached by the client
// that pays real money elsewhere.
type aliWorld struct {
	*world
	c *alipay.Client
}

func startAlipay(t testing.TB, change func(*live.Config), client func(*alipay.Config)) *aliWorld {
	t.Helper()
	w := &aliWorld{world: start(t, func(c *live.Config) {
		c.Merchants = append(c.Merchants, live.Merchant{No: aliNo, Channel: channels.Alipay, Apps: []string{aliApp}, FeeRate: "0.0060",
			BankAccount: "756", OpeningFen: 900_000, RetainedFen: 800_000})
		if change != nil {
			change(c)
		}
	})}
	w.c = w.client(client)
	return w
}

func (w *aliWorld) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.cfg.Dir, "keys", name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func (w *aliWorld) client(change func(*alipay.Config)) *alipay.Client {
	w.t.Helper()
	c := alipay.Config{AppID: aliApp, SellerID: aliNo[:16], AppKey: w.read(aliNo + "/merchant_key.pem"), AlipayKey: w.read("channel/alipay_pub.pem"),
		GatewayURL: w.s.Addresses.Alipay + "/gateway.do", Now: func() time.Time { return time.Unix(w.at.Load(), 0) }}
	if change != nil {
		change(&c)
	}
	g, err := alipay.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func (w *aliWorld) ask(way channels.Way, no string, fen ledger.Money) channels.PayAnswer {
	r := channels.PayRequest{OrderNo: no, Way: way, Amount: fen, Subject: channels.SubjectOutpatient, Terminal: "T1", ExpireAt: time.Unix(w.at.Load()+600, 0)}
	switch way {
	case channels.WayCode:
		r.AuthCode, r.ExpireAt = "28"+pad(w.code.Add(1), 8)+"00000000", time.Time{}
	case channels.WayJSAPI:
		r.Payer = "2088123412341234"
	}
	return w.c.Pay(context.Background(), r)
}

func pad(n int64, digits int) string { return fmt.Sprintf("%0*d", digits, n) }

// word is an outcome with what it says beside.
func word(a channels.PayAnswer) string {
	text := string(a.Outcome)
	for _, f := range []struct {
		is   bool
		name string
	}{{a.Closed, "closed"}, {a.Reversed, "reversed"}, {a.Refunded, "refunded"}, {a.Absent, "absent"}, {a.Again, "again"}} {
		if f.is {
			text += " " + f.name
		}
	}
	return strings.TrimSpace(text + " " + string(a.Reason.Kind) + " " + a.Reason.Code)
}

func (w *aliWorld) state(no string) string { return word(w.c.Query(context.Background(), no)) }

func (w *aliWorld) is(what, got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (w *aliWorld) payer(body any) {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	w.admin("POST", "/pay", string(text), nil)
}

func TestAlipayTakesACodePaymentOnce(t *testing.T) { // D.4, D.5
	w := startAlipay(t, nil, nil)
	a := w.ask(channels.WayCode, "A1", 12345)
	w.is("paid", word(a), "SUCCEEDED")
	if a.Amount != 12345 || a.Settle != 12345 || a.SuccessAt.Unix() != w.at.Load() || len(a.TradeNo) != 28 {
		t.Errorf("paid: %+v", a)
	}
	w.is("again", word(w.ask(channels.WayCode, "A1", 12345)), "UNKNOWN ALREADY_PAID ACQ.TRADE_HAS_SUCCESS")
	w.is("with another amount", word(w.ask(channels.WayCode, "A1", 12346)), "UNKNOWN DIFFERS ACQ.CONTEXT_INCONSISTENT")
	w.is("query", w.state("A1"), "SUCCEEDED")
	w.is("a number that was never sent", w.state("A2"), "UNKNOWN absent NOT_FOUND ACQ.TRADE_NOT_EXIST")

	w.is("over 1000 yuan the password", word(w.ask(channels.WayCode, "A3", 100_001)), "PENDING PASSWORD 10003")
	w.is("meanwhile", w.state("A3"), "PENDING  WAIT_BUYER_PAY")
	w.at.Add(10)
	w.is("entered", w.state("A3"), "SUCCEEDED")

	w.admin("POST", "/faults", `{"do":"PASSWORD","order":"A4"}`, nil)
	w.is("never enters it", word(w.ask(channels.WayCode, "A4", 100)), "PENDING PASSWORD 10003")
	w.at.Add(120) // timeout_express 2m
	w.is("then closed", w.state("A4"), "FAILED closed CLOSED TRADE_CLOSED")
	w.is("a closed number", word(w.ask(channels.WayCode, "A4", 100)), "FAILED closed CLOSED ACQ.TRADE_HAS_CLOSE")
}

func TestAlipayKnowsAPrepayOrderOnceThePayerComes(t *testing.T) { // D.5
	w := startAlipay(t, nil, nil)
	const absent = "UNKNOWN absent NOT_FOUND ACQ.TRADE_NOT_EXIST"
	code := func(a channels.PayAnswer) string { return a.Prepay.Code + a.Prepay.URL + a.Prepay.Form }
	for i, way := range []channels.Way{channels.WayQR, channels.WayPage, channels.WayH5, channels.WayApp} {
		no := fmt.Sprint("P", i)
		a := w.ask(way, no, 500)
		w.is(no, word(a), "PENDING")
		w.is(no+" before", w.state(no), absent)
		w.is(no+" closed before", word(w.c.Close(context.Background(), no)), absent)
		w.payer(map[string]string{"code": code(a)})
		w.is(no+" after", w.state(no), "SUCCEEDED")
		w.is(no+" closed after", word(w.c.Close(context.Background(), no)), "UNKNOWN SYSTEM ACQ.REASON_TRADE_STATUS_INVALID")
	}
	a := w.ask(channels.WayJSAPI, "J1", 500)
	w.is("create", word(a), "PENDING")
	w.is("create", w.state("J1"), "PENDING  WAIT_BUYER_PAY")
	w.is("close", word(w.c.Close(context.Background(), "J1")), "FAILED closed CLOSED")
	w.is("closed", w.state("J1"), "FAILED closed CLOSED TRADE_CLOSED")

	page := w.ask(channels.WayPage, "J2", 500)
	answer, err := http.Get(page.Prepay.URL)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(err, answer.Status)
	}
	_ = answer.Body.Close()
	w.is("the payer looks at the page", w.state("J2"), "PENDING  WAIT_BUYER_PAY")
	w.payer(map[string]string{"merchant": aliNo, "order": "J2"})
	w.is("and pays", w.state("J2"), "SUCCEEDED")

	late := w.ask(channels.WayPage, "J3", 500)
	w.at.Add(601)
	if answer, err = http.Get(late.Prepay.URL); err != nil || answer.StatusCode != http.StatusBadRequest {
		t.Errorf("the page past its time: %v %v", answer.Status, err)
	}
	_ = answer.Body.Close()
	w.is("past its time", w.state("J3"), absent)
}

func TestAlipayCancelsWhatIsUnknown(t *testing.T) { // D.5
	w := startAlipay(t, nil, nil)
	cancel := func(no string) string { return word(w.c.Reverse(context.Background(), no)) }
	w.ask(channels.WayCode, "C1", 500)
	w.is("paid", cancel("C1"), "FAILED reversed refunded CLOSED refund")
	w.is("again", cancel("C1"), "FAILED reversed refunded CLOSED refund")
	w.is("then", w.state("C1"), "SUCCEEDED refunded")
	w.ask(channels.WayCode, "C2", 200_000)
	w.is("waiting", cancel("C2"), "FAILED reversed CLOSED close")
	w.at.Add(20)
	w.is("then", w.state("C2"), "FAILED closed CLOSED TRADE_CLOSED")
	w.is("never came", cancel("C3"), "UNKNOWN absent NOT_FOUND")
	w.ask(channels.WayCode, "C4", 500)
	w.at.Add(24*3600 + 1)
	w.is("a day later: what stands", cancel("C4"), "SUCCEEDED")
}

func refundWord(a channels.RefundAnswer) string {
	text := string(a.Outcome)
	if a.Retry {
		text += " retry"
	}
	if a.Absent {
		text += " absent"
	}
	return strings.TrimSpace(text + " " + string(a.Reason.Kind) + " " + a.Reason.Code)
}

func TestAlipayRefundsANumberOnce(t *testing.T) { // W04, D.5
	w := startAlipay(t, nil, nil)
	ctx := context.Background()
	w.ask(channels.WayCode, "A1", 10_000)
	w.ask(channels.WayCode, "A2", 10_000)
	refund := func(order, no string, fen ledger.Money) string {
		return refundWord(w.c.Refund(ctx, channels.RefundRequest{OrderNo: order, RefundNo: no, Total: 10_000, Amount: fen, Cause: channels.CauseItem}))
	}
	query := func(order, no string, fen ledger.Money) string {
		return refundWord(w.c.QueryRefund(ctx, channels.RefundRequest{OrderNo: order, RefundNo: no, Total: 10_000, Amount: fen}))
	}
	w.is("first", refund("A1", "R1", 4_000), "SUCCEEDED")
	w.is("again: this call moved nothing", refund("A1", "R1", 4_000), "UNKNOWN")
	w.is("the query says it", query("A1", "R1", 4_000), "SUCCEEDED")
	w.is("another amount", refund("A1", "R1", 4_001), "UNKNOWN DIFFERS ACQ.DISCORDANT_REPEAT_REQUEST")
	w.is("the same number of another trade", refund("A2", "R1", 1), "SUCCEEDED")
	w.is("too much", refund("A1", "R2", 6_001), "FAILED NOT_REFUNDABLE ACQ.REFUND_AMT_NOT_EQUAL_TOTAL")
	w.is("no such trade", refund("A9", "R1", 1), "FAILED NOT_FOUND ACQ.TRADE_NOT_EXIST")
	w.is("no such refund", query("A1", "R9", 1), "UNKNOWN absent NOT_FOUND")
	w.admin("POST", "/faults", `{"do":"REFUND_ABNORMAL","order":"A1","merchant":"`+aliNo+`"}`, nil)
	w.is("frozen", refund("A1", "R3", 6_000), "UNKNOWN retry NOT_REFUNDABLE ACQ.REASON_TRADE_BEEN_FREEZEN")
	w.admin("POST", "/faults", `{"do":"REFUND_LATE","seconds":60,"order":"A1"}`, nil)
	w.is("late", refund("A1", "R3", 6_000), "UNKNOWN")
	w.is("under way", query("A1", "R3", 6_000), "PENDING")
	w.at.Add(60)
	w.is("done", query("A1", "R3", 6_000), "SUCCEEDED")
	w.is("wholly refunded", w.state("A1"), "SUCCEEDED refunded")
	total, available, err := w.c.Balance(ctx)
	if err != nil || total != 900_000+9_939 || available != total-100_000 { // less what is paid out this morning
		t.Errorf("balance %d, available %d, %v", total, available, err)
	}
}

func TestAlipayRefundNeedsTheMerchantsBalance(t *testing.T) {
	w := startAlipay(t, func(c *live.Config) { c.Merchants[1].OpeningFen, c.Merchants[1].RetainedFen = 0, 0 }, nil)
	w.ask(channels.WayCode, "A1", 10_000)
	w.set("2026-09-16 09:00:00") // promised to the bank in half an hour
	r := channels.RefundRequest{OrderNo: "A1", RefundNo: "R1", Total: 10_000, Amount: 10_000}
	w.is("poor", refundWord(w.c.Refund(context.Background(), r)), "UNKNOWN retry MERCHANT_FUNDS ACQ.SELLER_BALANCE_NOT_ENOUGH")
	w.ask(channels.WayCode, "A2", 20_000)
	w.is("the same number later", refundWord(w.c.Refund(context.Background(), r)), "SUCCEEDED")
}

func TestEveryFaultOfACallToAlipay(t *testing.T) { // K.1
	w := startAlipay(t, nil, nil)
	const absent = "UNKNOWN absent NOT_FOUND ACQ.TRADE_NOT_EXIST"
	for i, c := range []struct{ fault, say, then string }{
		{`{"do":"DROP"}`, "UNKNOWN NETWORK", absent}, {`{"do":"DROP","commit":true}`, "UNKNOWN NETWORK", "SUCCEEDED"},
		{`{"do":"HTTP_500"}`, "UNKNOWN NETWORK", absent}, {`{"do":"HTTP_500","commit":true}`, "UNKNOWN NETWORK", "SUCCEEDED"},
		{`{"do":"GARBAGE","commit":true}`, "UNKNOWN NETWORK", "SUCCEEDED"}, {`{"do":"BAD_SIGN"}`, "UNKNOWN SIGNATURE", "SUCCEEDED"},
		{`{"do":"DELAY","millis":1}`, "SUCCEEDED", "SUCCEEDED"}, {`{"do":"ERROR"}`, "UNKNOWN SYSTEM isp.unknow-error", absent},
		{`{"do":"ERROR","code":"ACQ.SYSTEM_ERROR","commit":true}`, "UNKNOWN SYSTEM ACQ.SYSTEM_ERROR", "SUCCEEDED"},
		{`{"do":"ERROR","code":"ACQ.BUYER_BALANCE_NOT_ENOUGH"}`, "FAILED BALANCE ACQ.BUYER_BALANCE_NOT_ENOUGH", absent},
		{`{"do":"ERROR","code":"isv.invalid-parameter"}`, "FAILED REQUEST isv.invalid-parameter", absent},
		{`{"do":"PASSWORD","seconds":1}`, "PENDING PASSWORD 10003", "PENDING  WAIT_BUYER_PAY"},
	} {
		no := fmt.Sprint("F", i)
		w.admin("POST", "/faults", strings.Replace(c.fault, "{", `{"api":"pay","merchant":"`+aliNo+`","order":"`+no+`",`, 1), nil)
		w.c = w.client(nil) // faults open the circuit of a client
		w.is(c.fault, word(w.ask(channels.WayCode, no, 100)), c.say)
		w.is(c.fault+" then", w.state(no), c.then)
	}
	for fen, say := range map[ledger.Money]string{104: "UNKNOWN SYSTEM ACQ.SYSTEM_ERROR", 107: "FAILED BALANCE ACQ.BUYER_BALANCE_NOT_ENOUGH"} {
		tails := startAlipay(t, func(c *live.Config) { c.Merchants[1].Tails = "amount" }, nil)
		tails.is("tail", word(tails.ask(channels.WayCode, "T1", fen)), say)
	}
}

func TestAlipayByCertificatesAndWithEncryptedContents(t *testing.T) { // D.1, D.3
	w := startAlipay(t, nil, nil)
	for name, change := range map[string]func(*alipay.Config){
		"certificates": func(c *alipay.Config) {
			c.AlipayKey, c.AppCert, c.AlipayCert, c.RootCert = "", w.read(aliNo+"/merchant_cert.pem"), w.read("channel/alipay_cert.pem"), w.read("channel/root_cert.pem")
		},
		"contents": func(c *alipay.Config) { c.ContentKey = w.read(aliNo + "/content.key") },
	} {
		w.c = w.client(change)
		w.is(name, word(w.ask(channels.WayCode, name, 100)), "SUCCEEDED")
		w.is(name, w.state(name), "SUCCEEDED")
		w.is(name, word(w.ask(channels.WayQR, name+"q", 100)), "PENDING")
	}
	w.c = w.client(func(c *alipay.Config) { c.AppKey = w.read(merchantNo + "/merchant_key.pem") })
	w.is("a key of somebody else", word(w.ask(channels.WayCode, "K1", 100)), "FAILED SETUP isv.invalid-signature")
	w.c = w.client(func(c *alipay.Config) { c.AppID = "2021000000000009" })
	w.is("an app that nobody knows", word(w.ask(channels.WayCode, "K2", 100)), "UNKNOWN SETUP isv.invalid-app-id")
	w.c = w.client(func(c *alipay.Config) { c.SellerID = "2088000000000009" })
	w.is("another merchant's number", word(w.ask(channels.WayCode, "K3", 100)), "FAILED SETUP ACQ.PARTNER_ERROR")
}

func TestAlipayBillsTieToTheBooksAndToTheBank(t *testing.T) { // D.7
	w := startAlipay(t, nil, nil)
	for i := range 20 {
		w.ask(channels.WayCode, "HP20260915"+pad(int64(i), 8), ledger.Money(100+i*37))
	}
	refund := func(order, no string, total, fen ledger.Money) {
		w.is(no, refundWord(w.c.Refund(context.Background(), channels.RefundRequest{OrderNo: order, RefundNo: no, Total: total, Amount: fen})), "SUCCEEDED")
	}
	refund("HP2026091500000003", "R1", 211, 100)
	refund("HP2026091500000002", "R1", 174, 174)
	w.c.Reverse(context.Background(), "HP2026091500000004")
	for _, f := range []string{`"do":"BILL_MISSING","order":"HP2026091500000005"`, `"do":"BILL_AMOUNT","fen":50,"order":"HP2026091500000006"`,
		`"do":"BILL_FEE","fen":1,"order":"HP2026091500000007"`, `"do":"BILL_MIDNIGHT","order":"HP2026091500000008"`,
		`"do":"BILL_RESTATED","order":"HP2026091500000009"`, `"do":"BILL_FOREIGN","fen":777,"order":"CT2026091500000001"`} {
		w.admin("POST", "/faults", `{"merchant":"`+aliNo+`",`+f+`}`, nil)
	}
	day := ledger.Day(20260915)
	if _, err := w.c.FetchBill(context.Background(), channels.BillTrade, day); err == nil {
		t.Error("the bill of a day that is not over")
	}
	w.set("2026-09-16 09:59:59")
	if _, err := w.c.FetchBill(context.Background(), channels.BillTrade, day); !errors.Is(err, channels.ErrBillNotReady) {
		t.Errorf("before ten: %v", err)
	}
	w.set("2026-09-16 10:00:00")
	first := w.aliDay(day)
	if first["HP2026091500000005"]+first["HP2026091500000008"]+first["HP2026091500000009"] != 0 || first["HP2026091590000009"] == 0 ||
		first["HP2026091500000006"] != 100+6*37+50 || first["CT2026091500000001"] != 777 {
		t.Errorf("planted rows: %v", first)
	}
	w.set("2026-09-17 10:00:00")
	if second := w.aliDay(day.Add(1)); second["HP2026091500000008"] != 100+8*37 {
		t.Errorf("the next day: %v", second)
	}
	if _, err := w.c.FetchBill(context.Background(), channels.BillTrade, day.Add(-5)); !errors.Is(err, channels.ErrNoBill) {
		t.Errorf("a day without trades: %v", err)
	}
}

// aliDay fetches both archives of a day, reads them with the product's readers,
// holds them against the books, and returns the payments by order number.
func (w *aliWorld) aliDay(day ledger.Day) map[string]ledger.Money {
	w.t.Helper()
	fetch := func(kind channels.BillKind) (io.ReaderAt, int64) {
		in, err := w.c.FetchBill(context.Background(), kind, day)
		if err != nil {
			w.t.Fatal(err)
		}
		defer in.Close()
		body, err := io.ReadAll(in)
		if err != nil {
			w.t.Fatal(err)
		}
		return bytes.NewReader(body), int64(len(body))
	}
	paid := map[string]ledger.Money{}
	expect := channels.Expect{MerchantNos: []string{aliNo}, Day: day}
	body, size := fetch(channels.BillTrade)
	trade, err := alipay.ReadTradeBill(body, size, expect, func(l *channels.BillLine) error {
		if l.Kind == channels.Pay {
			paid[strings.Clone(l.OrderNo)] += l.Amount
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	body, size = fetch(channels.BillFund)
	fund, err := alipay.ReadFundBill(body, size, expect, func(*channels.FundLine) error { return nil })
	if err != nil {
		w.t.Fatal(err)
	}
	var sums live.Sums
	w.admin("GET", "/books?merchant="+aliNo+"&day="+day.String(), "", &sums)
	tt := trade.Totals
	got := [...]int64{tt["pay_amount"], tt["refund_amount"], tt["fee"], tt["fee_return"], int64(fund.Closing), sums.PaidOut}
	want := [...]int64{sums.PayFen, sums.RefundFen, sums.FeeFen, sums.FeeBackFen, sums.Closing, sums.Closing - 800_000}
	if got != want {
		w.t.Errorf("%s: bills %v, books %v", day, got, want)
	}
	if len(sums.Arriving) != 1 || sums.Arriving[0].Fen != sums.PaidOut || sums.Arriving[0].Account != "756" || sums.Arriving[0].Channel != channels.Alipay {
		w.t.Errorf("%s: at the bank %+v", day, sums.Arriving)
	}
	return paid
}

func TestTheBooksOfAlipayAreWholeAfterAKill(t *testing.T) {
	w := startAlipay(t, nil, nil)
	ctx := context.Background()
	back := func(order string) channels.RefundRequest {
		return channels.RefundRequest{OrderNo: order, RefundNo: "R1", Total: 500, Amount: 200}
	}
	w.ask(channels.WayCode, "K1", 500)
	w.ask(channels.WayCode, "K2", 500)
	code := w.ask(channels.WayQR, "K3", 500).Prepay.Code
	w.is("refund", refundWord(w.c.Refund(ctx, back("K1"))), "SUCCEEDED")
	w.admin("POST", "/faults", `{"do":"DROP","commit":true,"api":"refund"}`, nil)
	w.is("its answer is lost", refundWord(w.c.Refund(ctx, back("K2"))), "UNKNOWN NETWORK")
	first := w.s // left as a kill leaves it
	w.open()
	w.c = w.client(nil)
	for _, no := range []string{"K1", "K2"} {
		w.is(no, refundWord(w.c.QueryRefund(ctx, back(no))), "SUCCEEDED")
	}
	w.payer(map[string]string{"code": code})
	w.is("a code from before", w.state("K3"), "SUCCEEDED")
	var sums live.Sums
	if w.admin("GET", "/books?merchant="+aliNo+"&day=2026-09-15", "", &sums); sums.PayFen != 1500 || sums.RefundFen != 400 {
		t.Errorf("books %+v", sums)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
}

func TestANoticeOfAlipayIsSentUntilItSaysSuccess(t *testing.T) { // D.6
	heard := make(chan []byte, 100)
	var calls atomic.Int32
	hospital := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if calls.Add(1) > 2 {
			_, _ = io.WriteString(out, "success")
		}
		heard <- body
	}))
	defer hospital.Close()
	w := startAlipay(t, nil, func(c *alipay.Config) { c.NotifyURL = hospital.URL })
	w.admin("POST", "/faults", `{"do":"NOTICE_FORGED","order":"N1"}`, nil)
	w.ask(channels.WayCode, "N1", 1000)
	bodies := [][]byte{await(w.world, heard, 0), await(w.world, heard, 0)}
	w.c.Refund(context.Background(), channels.RefundRequest{OrderNo: "N1", RefundNo: "R1", Total: 1000, Amount: 400})
	for len(bodies) < 4 {
		bodies = append(bodies, await(w.world, heard, 240))
	}
	said := map[channels.NoticeKind]int{}
	for _, body := range bodies {
		n, err := w.c.ParseNotice(nil, body)
		switch {
		case err != nil:
			said["forged"]++
		case n.MerchantNo != aliNo[:16] || n.Payment.OrderNo != "N1" || n.Payment.Amount != 1000 || n.Payment.Outcome != channels.OutcomeSucceeded:
			t.Errorf("notice %+v", n)
		case n.Kind == channels.NoticeRefund && n.Refund.RefundNo != "R1":
			t.Errorf("refund %+v", n)
		default:
			said[n.Kind]++
		}
	}
	if said["forged"] != 1 || said[channels.NoticePayment] != 2 || said[channels.NoticeRefund] != 1 {
		t.Errorf("notices: %v", said)
	}
}

// BenchmarkTradePay is a payment with both signatures made on this machine;
// BenchmarkTradePayAnswer has the requests signed before the clock runs. Nearly all
// of it is RSA: the sandbox signs as many answers as the processor does.
func BenchmarkTradePay(b *testing.B)       { benchmarkTradePay(b, false) }
func BenchmarkTradePayAnswer(b *testing.B) { benchmarkTradePay(b, true) }

func benchmarkTradePay(b *testing.B, before bool) {
	w := startAlipay(b, nil, nil)
	key, err := alipay.ParsePrivateKey(w.read(aliNo + "/merchant_key.pem"))
	if err != nil {
		b.Fatal(err)
	}
	signed := func(n int) string {
		p := url.Values{"app_id": {aliApp}, "method": {"alipay.trade.pay"}, "format": {"JSON"}, "charset": {"utf-8"}, "sign_type": {"RSA2"}, "version": {"1.0"},
			"timestamp": {"2026-09-15 08:00:00"}, "biz_content": {fmt.Sprintf(`{"out_trade_no":"HP%016d","scene":"bar_code","auth_code":"28%08d00000000","subject":"门诊缴费","total_amount":"10.00"}`, n, n)}}
		sign, err := alipay.Sign(key, alipay.RequestString(p))
		if err != nil {
			b.Error(err)
		}
		p.Set("sign", sign)
		return p.Encode()
	}
	forms := make([]string, b.N)
	for i := range forms {
		if before {
			forms[i] = signed(i)
		}
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var next atomic.Int64
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := int(next.Add(1) - 1)
			form := forms[i]
			if !before {
				form = signed(i)
			}
			answer, err := client.Post(w.s.Addresses.Alipay+"/gateway.do", "application/x-www-form-urlencoded", strings.NewReader(form))
			if err != nil {
				b.Error(err)
				continue
			}
			body, err := io.ReadAll(answer.Body)
			if _ = answer.Body.Close(); err != nil || !bytes.Contains(body, []byte(`"code":"10000"`)) {
				b.Errorf("%s %v", body, err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "payments/s")
}
