package clearing

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The world of the accounting manual's examples: hospitals H1 and H2, WeChat W1
// and W2, Alipay A1, UnionPay U1, POS T1, in a mode A and a mode B edition.
type world struct {
	h1, h2             *Hospital
	w1, w2, a1, u1, t1 *Merchant
	bank, bank2, own   *BankAccount
	names              map[ledger.AccountID]string
}

func newWorld(mode Mode, bearer Bearer) *world {
	ownership, role, no := Public, Settlement, "6801"
	if mode == ModeB {
		ownership, role, no = Private, Custody, "8801"
	}
	w := &world{
		h1:    &Hospital{Code: "H1", Ownership: ownership},
		h2:    &Hospital{Code: "H2", Ownership: ownership},
		bank:  &BankAccount{Account: no, Hospital: "H1", Role: role},
		bank2: &BankAccount{Account: "6802", Hospital: "H2", Role: role},
		own:   &BankAccount{Account: "0001", Role: OwnAccount},
		names: map[ledger.AccountID]string{},
	}
	number := func(channel, no string) *Merchant {
		return &Merchant{Channel: channel, No: no, Hospital: "H1", Ownership: ownership, Mode: mode, CouponBearer: ByHospital,
			FeeReturned: true, Rates: []Rate{{From: 20260101, Rate: decimal.RequireFromString("0.006"), Bearer: bearer}}}
	}
	w.w1, w.w2, w.a1 = number(channels.WeChat, "W1"), number(channels.WeChat, "W2"), number(channels.Alipay, "A1")
	w.u1, w.t1 = number(channels.UnionPay, "U1"), number("POS", "T1")
	all := Directory{Hospitals: []Hospital{*w.h1, *w.h2}, Merchants: []*Merchant{w.w1, w.w2, w.a1, w.u1, w.t1},
		Banks: []BankAccount{*w.bank, *w.bank2, *w.own}}
	for _, account := range all.accounts() {
		w.names[account.ID()] = account.Code()
	}
	return w
}

// event is a complete event on W1; each row of the manual changes what it needs.
func (w *world) event() Event {
	return Event{
		Merchant: w.w1, OtherMerchant: w.w2, Hospital: w.h1, OtherHospital: w.h2, Bank: w.bank, OtherBank: w.bank2,
		Day: 20260915, Order: "O1", Refund: "R1", Case: "CASE1", Payout: "PO1", Settlement: "S1", BankRef: "B1",
		Owner: "SHOP", Cashier: "C3", Insurer: "INS1", Contract: "C-2026", Maker: "maker", Checker: "checker",
	}
}

func yuan(text string) ledger.Money {
	m, err := ledger.ParseYuan(text)
	if err != nil {
		panic(err)
	}
	return m
}

// docName is the name that the manual's tables give to a side of a posting.
func (w *world) docName(leg ledger.Leg) string {
	code, ok := w.names[leg.Account]
	if !ok {
		return leg.Account.String() + " is not opened by setup"
	}
	part := strings.Split(code, ".")
	switch {
	case slices.Contains([]string{"1221", "1222", "2241", "6711", "2244", "1127", "2210"}, part[0]):
		return part[0] + "." + leg.Ref
	case part[0] == "9001":
		return code + "." + leg.Ref
	case part[0] == "9132":
		return part[0] + "." + leg.Ref + "." + part[1]
	case len(part) == 4 && part[1] == "CUST":
		return strings.Join(part[:3], ".")
	}
	return code
}

// lines sums the postings by side and doc name, without the pair 1998/2998.
func (w *world) lines(postings []ledger.Posting) map[string]ledger.Money {
	sum := map[string]ledger.Money{}
	for _, p := range postings {
		sum["Dr "+w.docName(p.Debit)] += p.Amount
		sum["Cr "+w.docName(p.Credit)] += p.Amount
	}
	pair := ledger.Money(0)
	for key, money := range sum {
		if strings.Contains(key, " 1998.") || strings.Contains(key, " 2998.") {
			if strings.HasPrefix(key, "Dr") {
				pair += money
			} else {
				pair -= money
			}
			delete(sum, key)
		}
	}
	if pair != 0 {
		sum["1998 + 2998"] = pair
	}
	return sum
}

type manualRow struct {
	id, event string
	lines     map[string]ledger.Money
}

func readManual(t *testing.T) []manualRow {
	t.Helper()
	text, err := os.ReadFile("testdata/journals.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []manualRow
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || !strings.ContainsAny(cells[0], "0123456789") {
			continue
		}
		row := manualRow{strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), map[string]ledger.Money{}}
		for _, leg := range strings.Split(cells[2]+";"+cells[3], ";") {
			words := strings.Fields(leg)
			if len(words) == 2 { // a leg of the budget side, not of this book
				continue
			}
			row.lines[words[0]+" "+words[1]] += yuan(words[2])
		}
		rows = append(rows, row)
	}
	return rows
}

// manualEvents fills in the amounts and numbers of the manual's examples.
func manualEvents() map[string]func(*world, *Event) {
	money := func(texts ...string) func(*world, *Event) {
		return func(w *world, e *Event) {
			e.Amount = yuan(texts[0])
			if len(texts) > 1 {
				e.Fee = yuan(texts[1])
			}
		}
	}
	feeOf := func(text string) func(*world, *Event) { return func(_ *world, e *Event) { e.Fee = yuan(text) } }
	with := func(first func(*world, *Event), then func(*world, *Event)) func(*world, *Event) {
		return func(w *world, e *Event) { first(w, e); then(w, e) }
	}
	inCase := func(number string, texts ...string) func(*world, *Event) {
		return with(money(texts...), func(_ *world, e *Event) { e.Case = number })
	}
	of := func(amounts ...any) func(*world, *Event) {
		return func(_ *world, e *Event) {
			for i := 0; i < len(amounts); i += 2 {
				e.Parts = append(e.Parts, Part{amounts[i].(Fund), yuan(amounts[i+1].(string))})
			}
		}
	}
	own := func(w *world, e *Event) { e.Bank = w.own }
	alipay := func(w *world, e *Event) { e.Merchant = w.a1 }
	payout := func(number string) func(*world, *Event) {
		return func(_ *world, e *Event) { e.Payout = number }
	}
	return map[string]func(*world, *Event){
		"J01": money("100.00"), "J02": money("100.00"), "J03": feeOf("0.60"), "J04a": feeOf("0.60"), "J04b": feeOf("0.60"),
		"J05": with(money("95.00", "0.57"), alipay), "J06": with(money("200.00", "0.76"), func(w *world, e *Event) { e.Merchant = w.u1 }),
		"J07":  with(money("300.00"), func(w *world, e *Event) { e.Merchant = w.t1 }),
		"J08a": money("50.00"), "J08b": money("20.00"), "J09a": money("50.00"), "J09b": money("50.00"),
		"J10a": money("120.00"), "J10b": of(FundGov, "150.00", FundAcct, "30.00"), "J11": money("120.00"),
		"J12a": of(FundGov, "150.00", FundAcct, "30.00"), "J12b": of(FundGov, "140.00", FundAcct, "30.00"),
		"J12c": of(FundRetain, "6.00", FundDenied, "4.00"), "J13": of(FundGov, "150.00", FundAcct, "30.00"), "J14": money("120.00"),
		"J15": of(FundGov, "40.00"), "J16": money("180.00"), "J17": money("80.00"), "J18": money("100.00"), "J19a": money("100.00"),
		"J19b": money("100.00"), "J19c": money("100.00", "0.60"), "J20": feeOf("0.60"), "J21": money("30.00", "0.18"),
		"J22": money("100.00", "0.60"), "J23a": money("100.00"), "J23b": money("100.00"), "J23c": money("100.00"), "J24": money("100.00"),
		"J25": money("32903.45"), "J26a": money("32706.00", "197.45"), "J26b": money("32706.00"),
		"J27a": with(with(money("197.45"), own), payout("T1")), "J27b": with(money("197.45"), payout("T1")),
		"J28a": money("32706.00", "197.45"), "J28b": money("32706.00"), "J28c": money("32706.00", "197.45"), "J28d": money("32706.00"),
		"J29": with(money("197.45"), own), "J30": money("32706.00"), "J31": money("32903.45"), "J32": money("32903.45"),
		"J33": money("32903.45"), "J34": money("32903.45"), "J35a": with(money("5.00"), own), "J35b": money("5.00"),
		"J36": money("32903.45"), "J37": money("32903.45"), "J38": money("32903.45"), "J39": money("120.00"),
		"J48a": with(money("1000.00"), func(_ *world, e *Event) { e.Tax = yuan("56.60") }), "J48b": with(money("1000.00"), own),
		"J49a": money("5.00"), "J49b": money("5.00"), "J49c": money("1.00"),
		"J50a": with(money("5000.00"), payout("R1")), "J50b": with(money("5000.00"), payout("R1")),

		"E01": money("88.00", "0.53"), "E02": money("88.00"), "E03": money("88.00"), "E04": money("88.00"), "E05": money("88.00"),
		"E06": money("70.00", "0.42"), "E07": money("100.00"), "E08a": inCase("CASE2", "45.00"), "E08b": with(inCase("CASE2", "45.00"), own),
		"E09": inCase("CASE3", "30.00"), "E10": money("30.00"), "E11": inCase("CASE4", "66.00", "0.40"), "E12": inCase("CASE4", "66.00", "0.40"),
		"E13": inCase("CASE4", "66.00"), "E14": inCase("CASE4", "66.00"), "E15a": inCase("CASE4", "66.00"), "E15b": inCase("CASE4", "66.00"),
		"E16": inCase("CASE5", "20.00", "0.12"), "E17": inCase("CASE6", "20.00", "0.12"), "E18": inCase("CASE7", "30.00", "0.18"),
		"E19": inCase("CASE7", "30.00"), "E20a": money("30.00", "0.18"), "E20b": money("30.00"), "E20c": money("30.00"), "E21": money("100.00"),
		"E22a": inCase("CASE8", "100.00"), "E22b": inCase("CASE8", "100.00"), "E22c": inCase("CASE8", "100.00"), "E22d": money("100.00"),
		"E23": money("100.00", "0.60"), "E24": feeOf("0.02"), "E25": inCase("CASE9", "0", "5.40"), "E26": inCase("CASE9", "0", "5.40"),
		"E27a": money("32606.00"), "E27b": with(inCase("CASE10", "32606.00"), func(_ *world, e *Event) { e.Short = yuan("100.00") }),
		"E28a": inCase("CASE10", "100.00"), "E28b": money("7.00"), "E29": money("500.00"),
		"E30a": with(money("500.00", "3.02"), alipay), "E30b": with(money("500.00"), alipay), "E31": money("2.00"), "E32": of(FundGov, "2.00"),
		"E33": feeOf("0.60"), "E34a": inCase("CASE11", "18.00", "0.11"), "E34b": inCase("CASE11", "18.00"),
		"E35": with(money("40.00", "0.24"), alipay), "E36a": money("1290.00"), "E36b": money("9.00"), "E37": money("100.00"),
		"E38": of(FundGov, "150.00"), "E39": inCase("CASE12", "250.00"),
	}
}

// manualWorld is the mode and the bearer that a row of the manual speaks of:
// mode A and the platform, unless the row says otherwise.
func manualWorld(id string) *world {
	mode, bearer := ModeA, ByPlatform
	if journals[id].modes == onlyB || id == "J34" || id == "E39" { // the two rows show a custody account
		mode = ModeB
	}
	if id == "J04b" || id == "J30" {
		bearer = ByHospital
	}
	return newWorld(mode, bearer)
}

// hospitalBook says that a row is of the hospital's book, or (J43) that it only
// repeats J18 once per original payment.
func hospitalBook(id string) bool { return id >= "J40" && id < "J48" }

func manualPostings(t *testing.T, id string) (*world, []ledger.Posting) {
	t.Helper()
	w := manualWorld(id)
	e := w.event()
	manualEvents()[id](w, &e)
	postings, err := Journal(id, e)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return w, postings
}

func TestEveryRowOfTheManualIsWrittenAsItSays(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range readManual(t) {
		if hospitalBook(row.id) {
			continue
		}
		seen[row.id] = true
		if _, ok := journals[row.id]; !ok {
			t.Errorf("%s %q has no journal", row.id, row.event)
			continue
		}
		w, postings := manualPostings(t, row.id)
		if got := w.lines(postings); !maps.Equal(got, row.lines) {
			t.Errorf("%s %q\n got  %v\n want %v", row.id, row.event, got, row.lines)
		}
	}
	for id := range journals {
		if !seen[id] {
			t.Errorf("journal %s has no row in the manual", id)
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d rows were read from the manual", len(seen))
	}
}

// TestPostingsAreTheGoldenOnes is the manual's fifth column: which account moves
// against which.
func TestPostingsAreTheGoldenOnes(t *testing.T) {
	var text strings.Builder
	for _, id := range slices.Sorted(maps.Keys(journals)) {
		w, postings := manualPostings(t, id)
		for _, p := range postings {
			name := func(leg ledger.Leg) string {
				if leg.Ref == "" {
					return w.names[leg.Account]
				}
				return w.names[leg.Account] + " [" + leg.Ref + "]"
			}
			fmt.Fprintf(&text, "%-5s Dr %-28s Cr %-28s %12s\n", id, name(p.Debit), name(p.Credit), p.Amount)
		}
	}
	const file = "testdata/postings.golden"
	if *update {
		if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text.String() {
		t.Errorf("postings differ from %s; look at each difference, then run with -update. Got:\n%s", file, text.String())
	}
}

// everyVariant writes each journal in each mode and with each bearer that it
// allows.
func everyVariant(t *testing.T, visit func(id string, w *world, postings []ledger.Posting)) {
	t.Helper()
	for id := range journals {
		for _, mode := range []Mode{ModeA, ModeB} {
			for _, bearer := range []Bearer{ByPlatform, ByHospital} {
				w := newWorld(mode, bearer)
				e := w.event()
				manualEvents()[id](w, &e)
				postings, err := Journal(id, e)
				if err == nil {
					visit(id, w, postings)
				} else if !errors.Is(err, ErrForbidden) {
					t.Errorf("%s mode %s bearer %s: %v", id, mode, bearer, err)
				}
			}
		}
	}
}

func TestEverySetBalancesAndMemoMeetsNoMoney(t *testing.T) {
	written := map[string]bool{}
	everyVariant(t, func(id string, w *world, postings []ledger.Posting) {
		written[id] = true
		var pair ledger.Money
		memo := 0
		for _, p := range postings {
			if p.Debit.Account.Set() != p.Credit.Account.Set() {
				t.Errorf("%s leaves its set: %v", id, p)
			}
			if p.Debit.Account.Set() == ledger.Memo {
				memo++
			}
			for leg, amount := range map[ledger.Leg]ledger.Money{p.Debit: p.Amount, p.Credit: -p.Amount} {
				if name := w.names[leg.Account]; strings.HasPrefix(name, "1998.") || strings.HasPrefix(name, "2998.") {
					pair += amount
				}
			}
		}
		if pair != 0 {
			t.Errorf("%s: 1998 + 2998 = %s", id, pair)
		}
		if memo != 0 && memo != len(postings) {
			t.Errorf("%s mixes memo legs with money", id)
		}
		if _, err := ledger.NewEntry(ledger.Head{Book: PlatformBook, Kind: id, ValueDay: 20260915}, postings...); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	})
	if len(written) != len(journals) {
		t.Errorf("%d of %d journals were written in no mode", len(journals)-len(written), len(journals))
	}
}

func TestFeeLegsFollowTheBearer(t *testing.T) {
	for _, id := range []string{"J19c", "J20", "J22", "E11", "E12", "E17", "E18", "E20a", "E34a"} {
		for bearer, want := range map[Bearer]string{ByPlatform: "6601.H1 2206.WX.W1", ByHospital: "2202.H1.PEND 2206.WX.W1.HOSP"} {
			w := newWorld(ModeA, bearer)
			e := w.event()
			e.Amount, e.Fee = 10000, 60
			postings, err := Journal(id, e)
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			for _, p := range postings {
				text += " " + w.names[p.Debit.Account] + " " + w.names[p.Credit.Account]
			}
			for _, name := range strings.Fields(want) {
				if !slices.Contains(strings.Fields(text), name) {
					t.Errorf("%s, fee borne by %s: no leg on %s in%s", id, bearer, name, text)
				}
			}
		}
	}
}

func TestNegativeFeeOfASettlementTurnsSides(t *testing.T) {
	w := newWorld(ModeA, ByPlatform)
	e := w.event()
	e.Amount, e.Fee = yuan("100.00"), yuan("-0.12")
	for id, want := range map[string]map[string]ledger.Money{
		"J28a": {"Dr 1124.WX.W1": 10000, "Cr 1122.WX.W1": 9988, "Cr 2206.WX.W1": 12},
		"J28c": {"Dr 2202.H1.AVAIL": 9988, "Dr 2242.H1": 12, "Cr 1002.HOSP.6801": 10000},
		"E30a": {"Dr 2243.6801": 10000, "Cr 1122.WX.W1": 9988, "Cr 2206.WX.W1": 12},
	} {
		postings, err := Journal(id, e)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.lines(postings); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", id, got, want)
		}
	}
	if _, err := Journal("J03", e); !errors.Is(err, ErrEvent) {
		t.Errorf("J03 with a negative fee: %v", err)
	}
}

func TestNoFeeIsNoPosting(t *testing.T) {
	w := newWorld(ModeA, ByPlatform)
	e := w.event()
	e.Amount = 1
	entry, err := NewEntry(e, "J01", "J03", "J04")
	if err != nil {
		t.Fatal(err)
	}
	if entry.Head().Kind != "J01" || len(entry.Postings()) != 1 {
		t.Errorf("got %s with %d postings", entry.Head().Kind, len(entry.Postings()))
	}
}

func TestVariantsAreChosenByTheTerms(t *testing.T) {
	for bearer, want := range map[Bearer]string{ByPlatform: "J01+J03+J04a", ByHospital: "J01+J03+J04b"} {
		w := newWorld(ModeA, bearer)
		e := w.event()
		e.Amount, e.Fee = 10000, 60
		entry, err := NewEntry(e, "J01", "J03", "J04")
		if err != nil {
			t.Fatal(err)
		}
		if got := entry.Head().Kind; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	w := newWorld(ModeA, ByPlatform)
	w.w1.CouponBearer = ByPlatform
	e := w.event()
	e.Amount = 500
	if entry, err := NewEntry(e, "J49"); err != nil || entry.Head().Kind != "J49b" {
		t.Errorf("a coupon that the platform funds: %v %v", entry.Head().Kind, err)
	}
}

// TestASettlementTakesItsFeeWhicheverWayItGoes: what leaves the channel is the net
// and the fee, also where more fee came back than was billed, and on a day of
// refunds alone, when nothing leaves.
func TestASettlementTakesItsFeeWhicheverWayItGoes(t *testing.T) {
	for _, bearer := range []Bearer{ByPlatform, ByHospital} {
		for _, c := range []struct{ net, fee ledger.Money }{{100, 10}, {100, 0}, {100, -10}, {10, -10}, {5, -10}, {0, -10}, {0, 10}} {
			w := newWorld(ModeA, bearer)
			e := w.event()
			e.Amount, e.Fee = c.net, c.fee
			postings, err := Journal("J28a", e)
			if err != nil {
				t.Fatalf("net %d, fee %d: %v", c.net, c.fee, err)
			}
			got := map[string]ledger.Money{}
			for _, p := range postings {
				got[w.names[p.Debit.Account]] += p.Amount
				got[w.names[p.Credit.Account]] -= p.Amount
			}
			left, came, feeOwed := got[Withdrawn(w.w1).Code()], got[ChannelMoney(w.w1).Code()], got[FeeOwed(w.w1, bearer).Code()]
			if left != c.net || came != -(c.net+c.fee) || feeOwed != c.fee {
				t.Errorf("net %d, fee %d borne by %s: %v", c.net, c.fee, bearer, got)
			}
		}
	}
}
