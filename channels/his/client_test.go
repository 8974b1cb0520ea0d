package his

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

const secret = "0123456789abcdef0123456789abcdef"

var noon = time.Date(2026, 9, 16, 12, 0, 0, 0, ledger.Beijing)

// said is what a HIS answers to one call.
type said struct {
	status int
	text   string
	key    string // signed with it; "" = the shared secret
	cut    bool   // the connection breaks
}

// hears starts a HIS that checks every request's signature and answers say.
func hears(t *testing.T, f Format, say *said, asked *Request) *Client {
	t.Helper()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		signature := r.Header.Get(HeaderSignature)
		if err != nil || signature != SignRequest(secret, r.Method, r.URL.RequestURI(), r.Header.Get(HeaderTimestamp), BodySum(body)) ||
			r.Header.Get(HeaderTimestamp) != strconv.FormatInt(noon.Unix(), 10) || r.Header.Get("Content-Type") != f.ContentType() {
			t.Errorf("%s is not signed as it must be: %v", r.URL, r.Header)
		}
		if r.Method == http.MethodPost {
			*asked = Request{}
			if err := f.Decode(body, asked); err != nil {
				t.Error(err)
			}
		}
		if say.cut {
			panic(http.ErrAbortHandler)
		}
		key := secret
		if say.key != "" {
			key = say.key
		}
		w.Header().Set(HeaderSignature, SignAnswer(key, signature, strconv.Itoa(say.status), BodySum([]byte(say.text))))
		w.WriteHeader(say.status)
		_, _ = io.WriteString(w, say.text)
	}))
	t.Cleanup(h.Close)
	c, err := New(Config{Hospital: "H1", BaseURL: h.URL + "/front/his", Format: f, Secret: secret, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func aRequest() channels.HISRequest {
	return channels.HISRequest{Hospital: "H1", BillNo: "B1", OrderNo: "HP1", TradeNo: "4200", Amount: 4500, Tender: "WECHAT", Operator: "WANG", PaidAt: noon, Key: "ack-HP1", BizType: "OUTPATIENT"}
}

// Golden rules 2 and 3: only HIS's own well-formed, signed word is an outcome.
func TestOnlyTheSignedWordOfHISIsAnOutcome(t *testing.T) {
	for name, c := range map[string]struct {
		say     said
		outcome channels.Outcome
		kind    channels.ReasonKind
		code    string
	}{
		"booked":                     {said{status: 200, text: `{"result":"OK","bill_no":"B1","receipt_no":"R1","amount_fen":4500}`}, channels.OutcomeSucceeded, "", ""},
		"refused":                    {said{status: 200, text: `{"result":"REFUSED","code":"CLOSED","text":"号源已释放"}`}, channels.OutcomeFailed, channels.ReasonClosed, "CLOSED"},
		"refused in a vendor's code": {said{status: 200, text: `{"result":"REFUSED","code":"E-77"}`}, channels.OutcomeFailed, channels.ReasonSystem, "E-77"},
		"cannot say now":             {said{status: 200, text: `{"result":"AGAIN","code":"BUSY"}`}, channels.OutcomeUnknown, channels.ReasonSystem, "BUSY"},
		"booked nothing":             {said{status: 200, text: `{"result":"OK"}`}, channels.OutcomeUnknown, channels.ReasonNetwork, ""},
		"a refusal without a code":   {said{status: 200, text: `{"result":"REFUSED"}`}, channels.OutcomeUnknown, channels.ReasonNetwork, ""},
		"no result":                  {said{status: 200, text: `{}`}, channels.OutcomeUnknown, channels.ReasonNetwork, ""},
		"below zero":                 {said{status: 200, text: `{"result":"OK","amount_fen":-1}`}, channels.OutcomeUnknown, channels.ReasonNetwork, ""},
		"cut off":                    {said{status: 200, text: `{"result":"OK","amount_f`}, channels.OutcomeUnknown, channels.ReasonNetwork, ""},
		"something behind":           {said{status: 200, text: `{"result":"OK","amount_fen":1}{}`}, channels.OutcomeUnknown, channels.ReasonNetwork, ""},
		"wrongly signed":             {said{status: 200, text: `{"result":"REFUSED","code":"CLOSED"}`, key: "another-secret-another"}, channels.OutcomeUnknown, channels.ReasonSignature, ""},
		"an error of the server":     {said{status: 500, text: `{"result":"REFUSED","code":"CLOSED"}`}, channels.OutcomeUnknown, channels.ReasonNetwork, ""},
		"a broken connection":        {said{cut: true}, channels.OutcomeUnknown, channels.ReasonNetwork, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var asked Request
			h := hears(t, JSON, &c.say, &asked)
			got := h.Acknowledge(t.Context(), aRequest())
			if got.Outcome != c.outcome || got.Reason.Kind != c.kind || got.Reason.Code != c.code || got.Exchange == nil {
				t.Errorf("%+v", got)
			}
			if got.Outcome == channels.OutcomeUnknown && got.Exchange.Fault == "" {
				t.Error("the record does not say why nothing is known")
			}
			if strings.Contains(got.Exchange.Request, "WANG") || !strings.Contains(got.Exchange.Request, `"key":"ack-HP1"`) {
				t.Errorf("recorded: %s", got.Exchange.Request)
			}
		})
	}
}

// X04: the same words in JSON and in XML.
func TestBothFormatsSayTheSame(t *testing.T) {
	for _, f := range []Format{JSON, XML} {
		text, err := f.Encode(&Answer{Result: ResultOK, BillNo: "B<1>", ReceiptNo: "R1", AmountFen: 4500, RefundableFen: 4000})
		if err != nil {
			t.Fatal(err)
		}
		var asked Request
		h := hears(t, f, &said{status: 200, text: string(text) + "\n"}, &asked)
		r := aRequest()
		r.RefundNo, r.RefundID, r.RefundedAt = "HR1", "5000", noon.Add(time.Second)
		for name, call := range map[string]func() channels.HISAnswer{
			"acknowledge": func() channels.HISAnswer { return h.Acknowledge(t.Context(), r) },
			"refundable":  func() channels.HISAnswer { return h.Refundable(t.Context(), r) },
			"cancel":      func() channels.HISAnswer { return h.Cancel(t.Context(), r) },
			"write back":  func() channels.HISAnswer { return h.WriteBackRefund(t.Context(), r) },
			"order":       func() channels.HISAnswer { return h.Order(t.Context(), r) },
		} {
			got := call()
			if got.Outcome != channels.OutcomeSucceeded || got.BillNo != "B<1>" || got.ReceiptNo != "R1" || got.Amount != 4500 || got.Refundable != 4000 {
				t.Errorf("%s %s: %+v", f, name, got)
			}
			want := Request{Hospital: "H1", Key: "ack-HP1", BillNo: "B1", BizType: "OUTPATIENT", OrderNo: "HP1", TradeNo: "4200", RefundNo: "HR1", RefundID: "5000",
				AmountFen: 4500, Tender: "WECHAT", Operator: "WANG", PaidAt: "2026-09-16T12:00:00+08:00", RefundedAt: "2026-09-16T12:00:01+08:00"}
			if name == "order" || name == "refundable" {
				want.Key = "" // a question may be asked twice
			}
			asked.XMLName = want.XMLName
			if asked != want {
				t.Errorf("%s %s was asked as\n%+v, not\n%+v", f, name, asked, want)
			}
			if strings.Contains(got.Exchange.Request, "WANG") {
				t.Errorf("recorded: %s", got.Exchange.Request)
			}
		}
	}
}

func TestACallThatBreaksTheContractIsNotMade(t *testing.T) {
	var asked Request
	h := hears(t, JSON, &said{status: 200, text: `{"result":"OK","amount_fen":1}`}, &asked)
	r := aRequest()
	r.Key = ""
	other := aRequest()
	other.Hospital = "H2"
	for _, r := range []channels.HISRequest{r, other} {
		if got := h.Acknowledge(t.Context(), r); got.Outcome != channels.OutcomeUnknown || got.Reason.Kind != channels.ReasonRequest || asked.OrderNo != "" {
			t.Errorf("%+v, asked %+v", got, asked)
		}
	}
}

// A bill that HIS cannot take does not open its circuit, bills of many do.
func TestOneBillWithoutAnAnswerIsNoOutageOfHISAndManyAre(t *testing.T) {
	var asked Request
	c := hears(t, JSON, &said{cut: true}, &asked)
	is := func(r channels.HISRequest, want channels.ReasonKind) {
		t.Helper()
		for _, call := range []func(channels.HISRequest) channels.HISAnswer{
			func(r channels.HISRequest) channels.HISAnswer { return c.Acknowledge(t.Context(), r) },
			func(r channels.HISRequest) channels.HISAnswer { return c.Refundable(t.Context(), r) },
			func(r channels.HISRequest) channels.HISAnswer { return c.Cancel(t.Context(), r) },
			func(r channels.HISRequest) channels.HISAnswer { return c.WriteBackRefund(t.Context(), r) },
			func(r channels.HISRequest) channels.HISAnswer { return c.Order(t.Context(), r) },
		} {
			if a := call(r); a.Outcome != channels.OutcomeUnknown || a.Reason.Kind != want {
				t.Errorf("%s, %s: %+v, not %s", r.BillNo, r.OrderNo, a, want)
			}
		}
	}
	r := aRequest()
	for i := range 12 { // each time by another order
		r.OrderNo = "HP" + strconv.Itoa(i)
		is(r, channels.ReasonNetwork)
	}
	for i := range 8 {
		r.BillNo = "B2" + strconv.Itoa(i)
		is(r, channels.ReasonNetwork)
	}
	r.BillNo = ""
	if a := c.Order(t.Context(), r); a.Reason.Kind != channels.ReasonNetwork {
		t.Errorf("the tenth, by its order: %+v", a)
	}
	is(aRequest(), channels.ReasonBreaker)
}

func TestTheDetailsOfADayAreReadAndBelievedAtTheirEnd(t *testing.T) {
	const file = `{"hospital":"H1","his_bill_no":"B1","kind":"PAY","channel":"WECHAT","order_no":"HP1","refund_no":"","amount_fen":4500,"occurred_at":"2026-09-15 12:00:00","close_no":""}
#1,4500,0
`
	var asked Request
	say := said{status: 200, text: file}
	h := hears(t, XML, &say, &asked)
	day := ledger.DayOf(noon).Add(-1)
	in, err := h.Details(t.Context(), "H1", day)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := ReadDetails(in, channels.Expect{}, func(*channels.HISLine) error { return nil })
	if err = errors.Join(err, in.Close()); err != nil || sum.Day != day || sum.Totals["pay_amount"] != 4500 {
		t.Errorf("%+v, %v", sum, err)
	}
	say.key = "another-secret-another"
	if in, err = h.Details(t.Context(), "H1", day); err != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadAll(in); !errors.Is(err, channels.ErrBillDiffers) {
		t.Errorf("wrongly signed: %v", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	for status, want := range map[int]error{404: channels.ErrBillNotReady, 500: channels.ErrNoAnswer} {
		say = said{status: status}
		if _, err := h.Details(t.Context(), "H1", day); !errors.Is(err, want) {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestAConnectionMustBeWholeAndOnlyLoopbackIsInTheClear(t *testing.T) {
	now := func() time.Time { return noon }
	for name, c := range map[string]Config{
		"no hospital":  {BaseURL: "https://his", Format: JSON, Secret: secret, Now: now},
		"in the clear": {Hospital: "H1", BaseURL: "http://10.0.0.1/his", Format: JSON, Secret: secret, Now: now},
		"no format":    {Hospital: "H1", BaseURL: "https://his", Secret: secret, Now: now},
		"short secret": {Hospital: "H1", BaseURL: "https://his", Format: XML, Secret: "short", Now: now},
		"no address":   {Hospital: "H1", BaseURL: "his", Format: XML, Secret: secret, Now: now},
	} {
		if _, err := New(c); !errors.Is(err, ErrConfig) || strings.Contains(err.Error(), "short") && name == "short secret" && strings.Contains(err.Error(), `"short"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(true, []byte(`<answer><result>OK</result><amount_fen>1</amount_fen></answer>`))
	f.Add(false, []byte(`{"result":"REFUSED","code":"CLOSED","text":"号源已释放"}`))
	f.Add(false, []byte(`{"result":"OK","amount_fen":1e2}`))
	f.Fuzz(func(t *testing.T, isXML bool, text []byte) {
		format := JSON
		if isXML {
			format = XML
		}
		a, err := ParseAnswer(format, text)
		if err != nil {
			if !errors.Is(err, ErrAnswer) {
				t.Error(err)
			}
			return
		}
		again, err := format.Encode(&a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseAnswer(format, again)
		if a.XMLName = b.XMLName; err != nil || a != b {
			t.Errorf("%+v came back as %+v, %v", a, b, err)
		}
	})
}

// What mask hides word by word is what one expression would hide.
func TestAMaskHidesWhatOneExpressionWould(t *testing.T) {
	model := regexp.MustCompile(`("operator":")[^"]*|(<operator>)[^<]*|\b(?:1[3-9]\d{9}|\d{17}[\dXx]|62\d{14,17})\b`)
	pieces := []string{"13812345678", "110105194912310021", "11010519491231002X", "6225880000001234", "6225880000001234567", "622588000000123456789", "20260914", "HP2026091400000000001",
		"1381234567", "_", " ", "张三", "，", "a", "4200001234202609141234567890", ".", "-"}
	said := func(d *rand.Rand) (text string) {
		for range d.IntN(5) {
			text += pieces[d.IntN(len(pieces))]
		}
		return text
	}
	d := rand.New(rand.NewPCG(3, 4))
	masked := 0
	for range 20_000 {
		var text strings.Builder
		xml := d.IntN(2) == 0
		for range d.IntN(5) {
			name := []string{"operator", "message", "bill_no"}[d.IntN(3)]
			if xml {
				fmt.Fprintf(&text, "<%s>%s</%s>", name, said(d), name)
			} else {
				fmt.Fprintf(&text, `"%s":"%s",`, name, said(d))
			}
		}
		got, want := mask(text.String()), model.ReplaceAllString(text.String(), "$1$2***")
		if got != want {
			t.Fatalf("%q is masked as %q, want %q", text.String(), got, want)
		}
		if want != text.String() {
			masked++
		}
	}
	if masked < 1000 {
		t.Errorf("only %d texts had something to hide", masked)
	}
}
