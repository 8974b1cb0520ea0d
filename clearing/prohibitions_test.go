package clearing

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/ledger"
)

// forbidden is the last row of spec/accounting.md 3.6, written out.
var forbidden = map[Mode]string{
	ModeA: "J23a J23b J23c J24 J26a J26b J27a J27b J31 J32 J33 J35b J36 J37 J38 E15b E22d E27b E28a",
	ModeB: "J28a J28b J28c J29 J30 E15a E22a E22b E22c E27a",
}

func TestWhatAModeForbidsIsRefused(t *testing.T) {
	for _, mode := range []Mode{ModeA, ModeB} {
		for _, id := range slices.Sorted(maps.Keys(journals)) {
			bearer := ByPlatform
			if id == "J04b" || id == "J30" {
				bearer = ByHospital
			}
			w := newWorld(mode, bearer)
			e := w.event()
			manualEvents()[id](w, &e)
			_, err := Journal(id, e)
			want := slices.Contains(strings.Fields(forbidden[mode]), id)
			if got := errors.Is(err, ErrForbidden); got != want || (err != nil && !got) {
				t.Errorf("%s on mode %s: forbidden %v, want %v (%v)", id, mode, got, want, err)
			}
		}
	}
}

func TestRefusalsSayWhy(t *testing.T) {
	a, b := newWorld(ModeA, ByPlatform), newWorld(ModeB, ByPlatform)
	hospitalBears := newWorld(ModeA, ByHospital)
	for _, test := range []struct {
		name   string
		id     string
		w      *world
		change func(*Event)
		want   error
		says   string
	}{
		{"an ID that is not in the manual", "J99", a, func(*Event) {}, ErrJournalUnknown, `"J99" is not in the accounting manual`},
		{"a payout on mode A", "J31", a, func(*Event) {}, ErrForbidden, "J31 (payout requested) is for settle mode B, this money is on mode A"},
		{"a release to the hospital's bank on mode B", "J28c", b, func(*Event) {}, ErrForbidden, "is for settle mode A, this money is on mode B"},
		{"mode B for a public hospital, by the number", "J01", b, func(e *Event) { e.Merchant.Ownership = Public }, ErrForbidden,
			"hospital H1 is public: settle mode B is refused for a public hospital"},
		{"mode B for a public hospital, by the account", "J34", newWorld(ModeB, ByPlatform),
			func(e *Event) { e.Merchant, e.Hospital.Ownership = nil, Public }, ErrForbidden, "settle mode B is refused for a public hospital"},
		{"a custody account on mode A", "E28b", a, func(e *Event) { e.Bank = b.bank }, ErrForbidden, "custody account 8801 (1002.CUST) is not used on settle mode A"},
		{"a hospital's own account on mode B", "E28b", newWorld(ModeB, ByPlatform), func(e *Event) { e.Bank = a.bank }, ErrForbidden,
			"hospital account 6801 (1002.HOSP) is not used on settle mode B"},
		{"the account of another hospital", "J50a", a, func(e *Event) { e.Bank = a.bank2 }, ErrForbidden, "holds money of hospital H2, it is never used for H1"},
		{"the number of another hospital", "E23", a, func(e *Event) { m := *a.w2; m.Hospital = "H2"; e.OtherMerchant = &m }, ErrForbidden,
			"is of another hospital, its money is never used for H1"},
		{"a number that is not the hospital's", "J01", a, func(e *Event) { e.Hospital = a.h2 }, ErrForbidden, "merchant number W1 is of hospital H1, not of H2"},
		{"a fee of the other bearer", "J04a", hospitalBears, func(e *Event) { e.Fee = 1 }, ErrForbidden,
			"is for a fee borne by the platform, this one is borne by the hospital"},
		{"a gross release where the hospital bears the fee", "J28c", hospitalBears, func(*Event) {}, ErrForbidden, "borne by the hospital"},
		{"one person", "E02", a, func(e *Event) { e.Checker = e.Maker }, ErrForbidden, "E02 (F1 refund approved) needs a maker and another person as checker"},
		{"nobody", "J39", a, func(e *Event) { e.Maker, e.Checker = "", "" }, ErrForbidden, "needs a maker and another person as checker"},
		{"no day", "J01", a, func(e *Event) { e.Day = 0 }, ErrEvent, "day is missing"},
		{"no amount", "J01", a, func(e *Event) { e.Amount = 0 }, ErrEvent, "the amount is 0 fen, it must be above zero"},
		{"a negative amount", "J01", a, func(e *Event) { e.Amount = -1 }, ErrEvent, "the amount is -1 fen, it must be above zero"},
		{"no order", "J01", a, func(e *Event) { e.Order = "" }, ErrEvent, "order is missing: account 2204.H1 is kept by it"},
		{"no refund", "J18", a, func(e *Event) { e.Refund = "" }, ErrEvent, "refund is missing"},
		{"no case", "E11", a, func(e *Event) { e.Case = "" }, ErrEvent, "case is missing: account 1221.H1 is kept by it"},
		{"no merchant number", "J01", a, func(e *Event) { e.Merchant = nil }, ErrEvent, "merchant number is missing"},
		{"no bank account", "J28b", a, func(e *Event) { e.Bank = nil }, ErrEvent, "bank account is missing"},
		{"no hospital", "J08a", a, func(e *Event) { e.Merchant, e.Hospital, e.Bank = nil, nil, nil }, ErrEvent, "hospital is missing"},
		{"no settle mode", "J31", b, func(e *Event) { e.Merchant, e.Bank = nil, nil }, ErrEvent, "the settle mode is missing"},
		{"no parts", "J10b", a, func(*Event) {}, ErrEvent, "parts are missing"},
		{"no contract", "J29", a, func(e *Event) { e.Contract, e.Bank = "", a.own }, ErrEvent, "every subsidy line names its contract"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := test.w.event()
			e.Amount = 10000
			kept := *e.Merchant
			defer func(m *Merchant) { *m = kept }(e.Merchant)
			hospital := *e.Hospital
			e.Hospital = &hospital
			test.change(&e)
			_, err := Journal(test.id, e)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %v saying %q", err, test.want, test.says)
			}
		})
	}
}

// Prohibition 2: unclaimed long money is the patient's, at best the hospital's.
func TestUnclaimedLongMoneyIsNeverIncome(t *testing.T) {
	everyVariant(t, func(id string, w *world, postings []ledger.Posting) {
		for _, p := range postings {
			from, to := w.names[p.Debit.Account], w.names[p.Credit.Account]
			if strings.HasPrefix(from, "2241.") && p.Credit.Account.Set() != ledger.Agency || strings.HasPrefix(from, "2241.") && strings.HasPrefix(to, "1998.") {
				t.Errorf("%s moves long money to %s", id, to)
			}
		}
	})
}

// Prohibition 3: the service fee is invoiced and paid from the hospital's own
// account, never taken out of hospital or patient money.
func TestServiceFeeIsNeverNetted(t *testing.T) {
	everyVariant(t, func(id string, w *world, postings []ledger.Posting) {
		for _, p := range postings {
			if strings.HasPrefix(w.names[p.Credit.Account], "1122.SVC.") && w.names[p.Debit.Account] != "1002.OWN.0001" {
				t.Errorf("%s pays the service fee out of %s", id, w.names[p.Debit.Account])
			}
		}
	})
}

// Prohibition 4: every account that pays out in mode B is a hospital's own
// share, with a floor.
func TestPayingAccountsHaveAFloorPerHospital(t *testing.T) {
	w := newWorld(ModeB, ByPlatform)
	for _, account := range []ledger.Account{Available("H1"), Frozen("H1"), BankMoney(w.bank)} {
		if !account.HasFloor() || !strings.Contains(account.Code(), "H1") {
			t.Errorf("%s: floor %v", account.Code(), account.HasFloor())
		}
	}
	for _, account := range []ledger.Account{Pending("H1"), BankMoney(newWorld(ModeA, ByPlatform).bank)} {
		if account.HasFloor() {
			t.Errorf("%s has a floor, but records facts", account.Code())
		}
	}
}

// Prohibition 5: every subsidy line carries contract number and period, and fee
// and subsidy are shown gross.
func TestSubsidyLinesCarryContractAndPeriod(t *testing.T) {
	w := newWorld(ModeA, ByPlatform)
	w.w1.ContractNo = "C-77"
	e := w.event()
	e.Contract, e.Amount, e.Fee = "", 10000, 60
	entry, err := NewEntry(e, "J01", "J03", "J04")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := entry.Head().Meta, `{"contract":"C-77","period":"2026-09"}`; got != want {
		t.Errorf("meta %s, want %s", got, want)
	}
	if got := len(entry.Postings()); got != 3 {
		t.Errorf("%d postings, want money, fee and subsidy apart", got)
	}
}

// Prohibition 7: money leaves on evidence only, an unknown debit is a short
// amount of a case and no expense.
func TestUnknownDebitIsNoExpense(t *testing.T) {
	w := newWorld(ModeA, ByPlatform)
	e := w.event()
	e.Amount = 25000
	postings, err := Journal("E39", e)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.docName(postings[0].Debit); got != "1221.CASE1" {
		t.Errorf("an unknown debit is booked on %s", got)
	}
}
