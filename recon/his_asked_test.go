package recon_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	hislink "github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/channels/sandbox/livehis"
	"github.com/clearward/clearward/clearing"
	paying "github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
)

// askedHIS is a house whose HIS is called by the platform, with the HIS of the sandbox.
type askedHIS struct {
	*livedHouse
	url string
}

func newAskedHIS(t *testing.T, calls string) *askedHIS {
	t.Helper()
	h := &askedHIS{livedHouse: newLivedHouse(t)}
	h.at(sampleDay, 9, 0)
	text, err := os.ReadFile(filepath.Join(sampleDir, "setup.yaml"))
	h.must(err)
	_, err = clearing.Setup(t.Context(), h.db, strings.NewReader(strings.Replace(string(text), "his_calls: APP\n", "his_calls: "+calls+"\n", 1)))
	h.must(err)
	h.Reload()
	dir := t.TempDir()
	s, err := livehis.Open(livehis.Config{Dir: dir, Now: func() time.Time { return h.clock }, Hospitals: []livehis.Hospital{{Code: "H1"}}})
	h.must(err)
	t.Cleanup(func() { h.must(s.Close()) })
	mux := http.NewServeMux()
	mux.Handle("/his/", s.Admin())
	mux.Handle("/", s.Handler())
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	secret, err := channels.Secret("file:" + filepath.Join(dir, "keys", "his-H1.key"))
	h.must(err)
	h.url = server.URL
	h.his, err = hislink.New(hislink.Config{Hospital: "H1", BaseURL: server.URL + "/H1", Format: hislink.JSON, Secret: secret, Now: func() time.Time { return h.clock }})
	h.must(err)
	h.engine.House = h.House
	return h
}

func (h *askedHIS) admin(path, body string) {
	h.t.Helper()
	answer, err := http.Post(h.url+"/his/"+path, "application/json", strings.NewReader(body))
	h.must(err)
	h.must(answer.Body.Close())
	if answer.StatusCode != http.StatusOK {
		h.t.Fatalf("%s %s: %s", path, body, answer.Status)
	}
}

// pays is a payment of a bill of 50.00 that HIS has opened, and that it is told of.
func (h *askedHIS) pays(told bool) *paying.Payment {
	h.t.Helper()
	h.admin("bills", fmt.Sprintf(`{"hospital":"H1","bill_no":"LB%d","fen":5000,"biz_type":"OUTPATIENT"}`, h.n+1))
	p := h.paid(5000)
	if told {
		h.writesBack()
	}
	return p
}

func (h *askedHIS) writesBack() {
	h.t.Helper()
	_, err := h.payments.WriteBack(h.t.Context(), h.clock, 100)
	h.must(err)
}

// kept returns what HIS answered to one kind of question about a number.
func (h *askedHIS) kept(call, number string) []string {
	h.t.Helper()
	return h.column(`SELECT status || ' ' || response || fault FROM exchanges WHERE call = $1 AND number = $2`, call, number)
}

// stateOf is what HIS knows of the payment, how often it was told in vain, and the fen
// that it acknowledged.
func (h *askedHIS) stateOf(p *paying.Payment) string {
	h.t.Helper()
	p, err := h.payments.Get(h.t.Context(), "H1", p.OrderNo)
	h.must(err)
	return fmt.Sprint(p.HIS, " ", p.HISTries, " ", int64(p.Acked))
}

const asksOrder, asksRefundable = "his/bills/order", "his/bills/refundable"

// S9: HIS is asked once about each payment that its details lack, and about nothing
// else. What it says is kept; that it has booked one is news that is applied; the case
// is what the details of HIS say.
func TestHISIsAskedBeforeAnOrphanIsNamed(t *testing.T) {
	t.Parallel()
	h := newAskedHIS(t, "PLATFORM")
	lost := h.pays(true) // HIS has booked it, and its details lose the row
	h.admin("faults", fmt.Sprintf(`{"do":"ROW_MISSING","hospital":"H1","order_no":%q}`, lost.OrderNo))
	served := h.pays(true)
	unheard := h.pays(false) // HIS books it and its answer is lost, after it handed in the day
	h.admin("faults", fmt.Sprintf(`{"do":"DROP","commit":true,"api":"payments/acknowledge","hospital":"H1","order_no":%q}`, unheard.OrderNo))
	h.writesBack()
	never := h.pays(false) // HIS cannot take it, and does not serve it
	h.admin("faults", fmt.Sprintf(`{"do":"HTTP_500","api":"payments/acknowledge","hospital":"H1","order_no":%q,"times":99}`, never.OrderNo))
	h.writesBack()
	silent := h.pays(true)
	h.admin("faults", fmt.Sprintf(`{"do":"DROP","api":"bills/order","hospital":"H1","order_no":%q,"times":99}`, silent.OrderNo))
	before := map[*paying.Payment]string{}
	for p, want := range map[*paying.Payment]string{lost: "DONE 0 5000", unheard: "WAIT 1 0", never: "WAIT 1 0", silent: "DONE 0 5000"} {
		if before[p] = h.stateOf(p); before[p] != want {
			t.Errorf("before the run %s is %s, not %s", p.OrderNo, before[p], want)
		}
	}
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", bill(lost.OrderNo), bill(served.OrderNo), bill(unheard.OrderNo), bill(never.OrderNo), bill(silent.OrderNo), his(served.OrderNo, 5000))
	got := codes(h.run(sampleDay))
	for _, p := range []*paying.Payment{lost, unheard, never, silent} {
		if !strings.Contains(got, "I1 "+p.OrderNo+" 5000") {
			t.Errorf("the day lists %q, and not I1 %s", got, p.OrderNo)
		}
	}
	for _, c := range []struct {
		name  string
		p     *paying.Payment
		said  string
		state string
	}{
		{"a row is lost", lost, `200 {"result":"OK","bill_no":"LB1"`, before[lost]},
		{"an answer was lost", unheard, `200 {"result":"OK","bill_no":"LB3"`, "DONE 1 5000"},
		{"not served", never, `200 {"result":"REFUSED","code":"NOT_FOUND"`, before[never]},
		{"silent", silent, "0 ", before[silent]},
	} {
		if said := h.kept(asksOrder, c.p.OrderNo); len(said) != 1 || !strings.HasPrefix(said[0], c.said) || len(said[0]) < 10 {
			t.Errorf("%s: HIS said %q, not once %s", c.name, said, c.said)
		}
		if state := h.stateOf(c.p); state != c.state {
			t.Errorf("%s: the payment is %s, not %s", c.name, state, c.state)
		}
	}
	if said := h.kept(asksOrder, served.OrderNo); len(said) > 0 {
		t.Errorf("HIS was asked about what its details have: %v", said)
	}
	h.expectBalances(books(map[string]ledger.Money{wx1122: 25000, wx2206: -150, subsidy: 150, avail: -5000, "2204.H1": -20000}))
	h.verify()
	h.casesCarry(sampleDay)
	h.idle(sampleDay)
	if n := h.column(`SELECT COUNT(*)::TEXT FROM exchanges WHERE call = $1`, asksOrder); n[0] != "4" {
		t.Errorf("HIS was asked %s times, with the run that changes nothing", n[0])
	}

	h.at(nextDay.Add(1), 11, 30) // booked late, each closes by the ordinary rules, and nobody is asked about what is open as before
	h.tell(nextDay, "platform", "his", "channel", his(lost.OrderNo, 5000), his(unheard.OrderNo, 5000))
	if got, want := codes(h.run(nextDay)), "F10"; strings.Count(got, want) != 2 {
		t.Errorf("the next day lists %q", got)
	}
	h.expectBalances(books(map[string]ledger.Money{"1122.WX.1900000109": 26000, wx2206: -156, subsidy: 156, avail: -16000, "2204.H1": -10000}))
	h.verify()
	if n := h.column(`SELECT COUNT(*)::TEXT FROM exchanges WHERE call = $1`, asksOrder); n[0] != "4" {
		t.Errorf("HIS was asked %s times, with the next day", n[0])
	}
}

// B23: where the app calls HIS the platform asks it nothing.
func TestAHISThatTheAppCallsIsAskedNothing(t *testing.T) {
	t.Parallel()
	h := newAskedHIS(t, "APP")
	p := h.pays(false)
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", bill(p.OrderNo))
	if got, want := codes(h.run(sampleDay)), fmt.Sprintf("I1 %s 5000", p.OrderNo); got != want {
		t.Errorf("the day lists %q, want %q", got, want)
	}
	if said := h.kept(asksOrder, p.OrderNo); len(said) > 0 {
		t.Errorf("HIS said %v", said)
	}
	h.verify()
}

// S9 of a refund: how much HIS lets be given back still says whether it has voided the
// charge. It is kept with the refund and changes nothing.
func TestHISIsAskedBeforeItIsSaidToLackARefund(t *testing.T) {
	t.Parallel()
	h := newAskedHIS(t, "PLATFORM")
	p := h.pays(true)
	r, err := h.refunds.Create(t.Context(), paying.NewRefund{App: "KIOSK", Key: "back", Hospital: "H1", OrderNo: p.OrderNo, Amount: 5000, Cause: channels.CauseDuplicate, Maker: "c1"})
	h.must(err)
	if r.Status != paying.RefundSuccess {
		t.Fatalf("the refund is %s", r.Status)
	}
	before := len(h.kept(asksRefundable, r.RefundNo))
	h.at(nextDay, 11, 30)
	h.tell(sampleDay, "platform", "his", "channel", his(p.OrderNo, 5000), bill(p.OrderNo), billBack(p.OrderNo, r.RefundNo))
	if got, want := codes(h.run(sampleDay)), fmt.Sprintf("I3 %s %s -5000", p.OrderNo, r.RefundNo); got != want {
		t.Errorf("the day lists %q, want %q", got, want)
	}
	said := h.kept(asksRefundable, r.RefundNo)
	if len(said) != before+1 || !strings.Contains(strings.Join(said, "\n"), `200 {"result":"OK","bill_no":"LB1"}`) {
		t.Errorf("HIS said %q, and %d answers before the run", said, before)
	}
	h.must(h.refunds.AskHIS(t.Context(), "H1", r.RefundNo)) // in whatever state it is
	if again, err := h.refunds.Get(t.Context(), "H1", r.RefundNo); err != nil || again.Version != r.Version {
		t.Errorf("the refund has changed from %+v to %+v (%v)", r, again, err)
	}
	h.verify()
	h.idle(sampleDay)
}
