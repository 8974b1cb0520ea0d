package bank

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

var noon = time.Date(2026, 9, 16, 10, 0, 0, 0, ledger.Beijing)

// between is the space between elements, which means nothing.
var between = regexp.MustCompile(`>\s+<`)

func message(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(between.ReplaceAllString(string(text), "><"))
}

func tight(body []byte) string { return between.ReplaceAllString(string(body), "><") }

func TestAnOrderIsThePain001OfTheSample(t *testing.T) {
	text := message(t, "bank_pain001_HB20260916.xml")
	order, err := ReadOrder([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(order.Transfers) != 2 || order.Transfers[0].Amount != 2500000 || order.Transfers[1].Ref != "HB20260916000002" || order.Transfers[1].ToBankCode != "301290000007" {
		t.Fatalf("read %+v", order)
	}
	body, err := order.XML()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(text, "<PmtInfId>HB20260916-1<", "<PmtInfId>HB20260916-BATCH1-1<", 1)
	if tight(body) != want {
		t.Errorf("wrote\n%s\nwant\n%s", tight(body), want)
	}
}

func TestATransferWithinTheBankNamesTheBankAndNoMember(t *testing.T) {
	order := Order{Batch: "B1", At: noon, BIC: "CMBCCNBS", Transfers: twoTransfers(t)[:1]}
	order.Transfers[0].ToBankCode = ""
	body, err := order.XML()
	if err != nil || strings.Contains(string(body), "ClrSysMmbId") || !strings.Contains(string(body), "<CdtrAgt><FinInstnId><BIC>CMBCCNBS</BIC></FinInstnId></CdtrAgt>") {
		t.Errorf("wrote %s (%v)", body, err)
	}
	if read, err := ReadOrder(body); err != nil || read.Transfers[0].ToBankCode != "" {
		t.Errorf("read %+v (%v)", read, err)
	}
}

func TestAnOrderIsRefusedWhereItsTotalsOrRulesAreBroken(t *testing.T) {
	text := message(t, "bank_pain001_HB20260916.xml")
	for _, c := range [][2]string{
		{"<CtrlSum>43000.00<", "<CtrlSum>43000.01<"}, {"<NbOfTxs>2<", "<NbOfTxs>3<"}, {">25000.00<", ">25000.001<"}, {`Ccy="CNY">18000`, `Ccy="USD">18000`},
		{"<EndToEndId>HB20260916000002", "<EndToEndId>HB20260916000001"}, {"<EndToEndId>HB20260916000002", "<EndToEndId>HB-20260916"}, {"<MmbId>301290000007", "<MmbId>30129000000"},
		{"2026-09-16<", "2026-09-36<"}, {"</Document>", ""},
	} {
		if _, err := ReadOrder([]byte(strings.Replace(text, c[0], c[1], 1))); !errors.Is(err, ErrMessage) {
			t.Errorf("%s → %s was taken (%v)", c[0], c[1], err)
		}
	}
}

func TestAReportIsThePain002OfTheSample(t *testing.T) {
	text := message(t, "bank_pain002_HB20260916.xml")
	report, err := ReadReport([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	body, err := report.XML()
	if err != nil || tight(body) != text {
		t.Errorf("wrote\n%s\nwant\n%s (%v)", tight(body), text, err)
	}
	first, second := report.of("HB20260916000001"), report.of("HB20260916000002")
	if first.State != channels.TransferSucceeded || second.State != channels.TransferAccepted || report.of("HB3").State != channels.TransferUnknown {
		t.Errorf("states %s, %s", first.State, second.State)
	}
}

func TestTheStatusTableOfF4(t *testing.T) {
	for _, c := range []struct {
		code, reason string
		state        channels.TransferState
		kind         channels.ReasonKind
	}{
		{"RCVD", "", channels.TransferAccepted, ""}, {"ACTC", "", channels.TransferAccepted, ""}, {"ACCP", "", channels.TransferAccepted, ""},
		{"ACSP", "", channels.TransferAccepted, ""}, {"PDNG", "", channels.TransferAccepted, ""}, {"PATC", "", channels.TransferApproval, ""},
		{"ACSC", "", channels.TransferSucceeded, ""}, {"ACCC", "", channels.TransferSucceeded, ""},
		{"RJCT", "AC01", channels.TransferRejected, channels.ReasonAccount}, {"RJCT", "AC04", channels.TransferRejected, channels.ReasonAccount},
		{"RJCT", "BE01", channels.TransferRejected, channels.ReasonAccount}, {"CANC", "", channels.TransferRejected, ""},
		{"RJCT", "AM04", channels.TransferRejected, channels.ReasonMerchantFunds}, {"RJCT", "NOOR", channels.TransferAbsent, channels.ReasonNotFound},
		{"RJCT", "AM05", channels.TransferUnknown, channels.ReasonDiffers}, {"RJCT", "DU01", channels.TransferUnknown, channels.ReasonSystem},
		{"RTND", "AC01", channels.TransferReturned, channels.ReasonAccount},
		{"ACWC", "", channels.TransferUnknown, channels.ReasonSystem}, {"", "", channels.TransferUnknown, channels.ReasonSystem}, {"PART", "", channels.TransferUnknown, channels.ReasonSystem},
	} {
		s := Status{Ref: "HB1", Code: c.code, Reason: c.reason}
		if a := s.answer(); a.State != c.state || a.Reason.Kind != c.kind {
			t.Errorf("%s %s: %s %q, want %s %q", c.code, c.reason, a.State, a.Reason.Kind, c.state, c.kind)
		}
	}
}

// keys makes a key pair in PEM.
func keys(t *testing.T) (private, public string, key *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: raw})), key
}

// bankOf answers every request by answer, which says status and body and may spoil
// the signature through the header.
func bankOf(t *testing.T, answer func(r *http.Request, body []byte) (int, string), spoil func(http.Header)) *Gateway {
	t.Helper()
	private, _, ours := keys(t)
	_, public, theirs := keys(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		sum := sha256.Sum256(body)
		h := r.Header
		if err == nil {
			err = Verify(&ours.PublicKey, RequestText(r.Method, r.URL.RequestURI(), h.Get(HeaderTimestamp), h.Get(HeaderNonce), sum[:]), h.Get(HeaderSignature))
		}
		if err != nil || h.Get(HeaderCustomer) != "C1" || h.Get(HeaderKeyID) != "k1" {
			t.Errorf("%s %s is wrongly signed: %v", r.Method, r.URL, err)
		}
		status, text := answer(r, body)
		if err := SignAnswer(w.Header(), theirs, "b1", status, h.Get(HeaderNonce), noon, []byte(text)); err != nil {
			t.Error(err)
		}
		if spoil != nil {
			spoil(w.Header())
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	t.Cleanup(server.Close)
	g, err := New(Config{URL: server.URL, Customer: "C1", BIC: "CMBCCNBS", KeyID: "k1", Key: private, BankKeys: map[string]string{"b1": public}, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func twoTransfers(t *testing.T) []channels.Transfer {
	t.Helper()
	order, err := ReadOrder([]byte(message(t, "bank_pain001_HB20260916.xml")))
	if err != nil {
		t.Fatal(err)
	}
	return order.Transfers
}

func TestTransfersAreSentSignedAndAnsweredInTheirOrder(t *testing.T) {
	report := message(t, "bank_pain002_HB20260916.xml")
	g := bankOf(t, func(r *http.Request, body []byte) (int, string) {
		if _, err := ReadOrder(body); err != nil || r.Method+r.URL.Path != "POST/v1/transfers" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		return 200, report
	}, nil)
	answers := g.Transfer(context.Background(), "HB20260916-BATCH1", twoTransfers(t))
	if answers[0].State != channels.TransferSucceeded || answers[1].State != channels.TransferAccepted || answers[0].Ref != "HB20260916000001" {
		t.Fatalf("answers %+v", answers)
	}
	for _, hidden := range []string{"华润医药有限公司", "755947919810515", "110060149018000000001"} {
		if strings.Contains(answers[0].Exchange.Request, hidden) {
			t.Errorf("the record shows %s", hidden)
		}
	}
	if !strings.Contains(answers[0].Exchange.Request, "***0515") {
		t.Errorf("the record does not show the account's end: %s", answers[0].Exchange.Request)
	}
}

func TestAnAnswerThatCannotBeTrustedSaysNothingOfTheMoney(t *testing.T) {
	good := func(*http.Request, []byte) (int, string) { return 200, message(t, "bank_pain002_HB20260916.xml") }
	for name, c := range map[string]struct {
		answer func(*http.Request, []byte) (int, string)
		spoil  func(http.Header)
		kind   channels.ReasonKind
	}{
		"signature of another": {good, func(h http.Header) { h.Set(HeaderSignature, base64.StdEncoding.EncodeToString(make([]byte, 256))) }, channels.ReasonSignature},
		"no signature":         {good, func(h http.Header) { h.Del(HeaderSignature) }, channels.ReasonSignature},
		"unknown key":          {good, func(h http.Header) { h.Set(HeaderKeyID, "b9") }, channels.ReasonSignature},
		"another time":         {good, func(h http.Header) { h.Set(HeaderTimestamp, "2026-09-16T00:00:00Z") }, channels.ReasonSignature},
		"status 500":           {func(*http.Request, []byte) (int, string) { return 500, "" }, nil, channels.ReasonNetwork},
		"signed 404":           {func(*http.Request, []byte) (int, string) { return 404, "" }, nil, channels.ReasonNetwork},
		"garbage":              {func(*http.Request, []byte) (int, string) { return 200, "<html>busy" }, nil, channels.ReasonNetwork},
		"another batch": {func(*http.Request, []byte) (int, string) {
			return 200, strings.Replace(message(t, "bank_pain002_HB20260916.xml"), "BATCH1", "BATCH2", 1)
		}, nil, channels.ReasonNetwork},
	} {
		g := bankOf(t, c.answer, c.spoil)
		for _, a := range g.Transfer(context.Background(), "HB20260916-BATCH1", twoTransfers(t)) {
			if a.State != channels.TransferUnknown || a.Reason.Kind != c.kind || a.Exchange == nil {
				t.Errorf("%s: %s %s", name, a.State, a.Reason.Kind)
			}
		}
		if a := g.QueryTransfer(context.Background(), "HB20260916000001"); a.State != channels.TransferUnknown {
			t.Errorf("%s: query %s", name, a.State)
		}
	}
}

func TestATimeOutIsUnknown(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	g := bankOf(t, func(r *http.Request, _ []byte) (int, string) {
		cancel()
		<-r.Context().Done()
		return 200, ""
	}, nil)
	if a := g.Transfer(ctx, "B1", twoTransfers(t))[1]; a.State != channels.TransferUnknown || a.Reason.Kind != channels.ReasonNetwork {
		t.Errorf("%s %s", a.State, a.Reason.Kind)
	}
}

func TestOneBatchWithoutAnAnswerIsNoOutageOfABankAndManyAre(t *testing.T) {
	g := bankOf(t, func(*http.Request, []byte) (int, string) { panic(http.ErrAbortHandler) }, nil)
	for range 12 {
		if a := g.Transfer(t.Context(), "B1", twoTransfers(t)); a[0].State != channels.TransferUnknown || a[0].NotSent {
			t.Fatalf("%+v", a[0])
		}
		if a := g.QueryTransfer(t.Context(), "R1"); a.Reason.Kind != channels.ReasonNetwork {
			t.Fatalf("%+v", a)
		}
	}
	for i := range 8 {
		g.QueryTransfer(t.Context(), "Q"+strconv.Itoa(i))
	}
	for _, a := range g.Transfer(t.Context(), "B2", twoTransfers(t)) {
		if a.State != channels.TransferAbsent || !a.NotSent || a.Reason.Kind != channels.ReasonBreaker {
			t.Errorf("%+v", a)
		}
	}
}

func TestAnUnknownNumberIsAbsentOnlyWhenAskedFor(t *testing.T) {
	report := Report{ID: "R", At: noon, Batch: "B1", Group: "RJCT", Part: "B1-1", List: []Status{{Ref: "HB20260916000001", Code: "RJCT", Reason: "NOOR"}, {Ref: "HB20260916000002", Code: "ACSP", Amount: 1}}}
	g := bankOf(t, func(r *http.Request, _ []byte) (int, string) {
		said := report
		if r.Method == http.MethodGet {
			said.List = said.List[:1]
		}
		body, err := said.XML()
		if err != nil {
			t.Error(err)
		}
		return 200, string(body)
	}, nil)
	if a := g.QueryTransfer(context.Background(), "HB20260916000001"); a.State != channels.TransferAbsent {
		t.Errorf("query: %s", a.State)
	}
	sent := g.Transfer(context.Background(), "B1", twoTransfers(t))
	if sent[0].State != channels.TransferUnknown {
		t.Errorf("sent: %s", sent[0].State)
	}
	if sent[1].State != channels.TransferUnknown || sent[1].Reason.Kind != channels.ReasonDiffers {
		t.Errorf("another amount at the bank: %s %s", sent[1].State, sent[1].Reason.Kind)
	}
}

func TestWhatBreaksARuleIsNotSent(t *testing.T) {
	g := bankOf(t, func(*http.Request, []byte) (int, string) { t.Error("it was sent"); return 500, "" }, nil)
	list := twoTransfers(t)
	list[0].Ref = "HB-1"
	answers := g.Transfer(context.Background(), "B1", list)
	if answers[0].State != channels.TransferRejected || answers[0].Reason.Kind != channels.ReasonRequest || answers[1].State != channels.TransferAbsent || !answers[0].NotSent || !answers[1].NotSent {
		t.Errorf("%+v", answers)
	}
}

func TestBalanceStatementAndReceiptAreFetched(t *testing.T) {
	statement, err := os.ReadFile("testdata/bank_camt053_20260916.xml")
	if err != nil {
		t.Fatal(err)
	}
	ready := true
	answer := func(r *http.Request, body []byte) (int, string) {
		if !ready {
			return 202, ""
		}
		if strings.HasPrefix(r.URL.Path, PathReceipts) {
			return 200, `<Receipt><EndToEndId>HB1</EndToEndId><Name>HB1.pdf</Name><CheckCode>A7K2</CheckCode><Content>JVBERg==</Content></Receipt>`
		}
		request, err := ReadAccountRequest(body)
		if err != nil || request.Account != "755947919810515" {
			t.Errorf("%+v, %v", request, err)
		}
		if request.Form == FormStatement {
			return 200, string(statement)
		}
		text, err := (&Balance{Account: request.Account, Made: stamp(noon), Booked: 100, Available: -5}).XML()
		if err != nil {
			t.Error(err)
		}
		return 200, string(text)
	}
	g, ctx := bankOf(t, answer, nil), context.Background()
	booked, available, err := g.Balance(ctx, "755947919810515")
	if err != nil || booked != 100 || available != -5 {
		t.Errorf("balance %d %d %v", booked, available, err)
	}
	receipt, err := g.FetchReceipt(ctx, "HB1")
	if err != nil || receipt.CheckCode != "A7K2" || string(receipt.Content) != "%PDF" {
		t.Errorf("receipt %+v %v", receipt, err)
	}
	read := func(g *Gateway) error {
		file, err := g.FetchStatement(ctx, "755947919810515", 20260916)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = ReadStatement(file, func(*channels.StatementLine) error { return nil })
		if _, rest := io.Copy(io.Discard, file); err == nil {
			err = rest
		}
		return err
	}
	if err := read(g); err != nil {
		t.Errorf("statement: %v", err)
	}
	if err := read(bankOf(t, answer, func(h http.Header) { h.Del(HeaderSignature) })); !errors.Is(err, channels.ErrBillDiffers) {
		t.Errorf("unsigned statement: %v", err)
	}
	ready = false
	if err := read(g); !errors.Is(err, channels.ErrBillNotReady) {
		t.Errorf("statement before it is made: %v", err)
	}
	if _, err := g.FetchReceipt(ctx, "HB1"); !errors.Is(err, channels.ErrBillNotReady) {
		t.Errorf("receipt before it is made: %v", err)
	}
}

func FuzzAnswers(f *testing.F) {
	for _, name := range []string{"bank_pain002_HB20260916.xml", "bank_pain001_HB20260916.xml"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`<Receipt><EndToEndId>HB1</EndToEndId><Name>n</Name><CheckCode>c</CheckCode><Content>JVBERg==</Content></Receipt>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if report, err := ReadReport(body); err == nil {
			for _, s := range report.List {
				if a := report.of(s.Ref); a.State == "" || a.Ref != s.Ref {
					t.Errorf("%+v: %+v", s, a)
				}
			}
		}
		if order, err := ReadOrder(body); err == nil {
			if _, err := order.XML(); err != nil {
				t.Errorf("a taken order cannot be written: %v", err)
			}
		}
		if _, err := ReadBalance(body); err == nil && len(body) == 0 {
			t.Error("an empty balance")
		}
		_, _ = readReceipt(body, "HB1")
	})
}
