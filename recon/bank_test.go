package recon

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

const tenpay = "财付通支付科技有限公司"

// owed is a settlement of 1900000109 for a day that waits for this much.
func owed(day ledger.Day, fen ledger.Money) *Settlement {
	return &Settlement{Hospital: "H1", Channel: channels.WeChat, MerchantNo: "1900000109", Account: "6801", Mode: "A",
		Day: day, Due: day.Add(1), Expected: fen, Fee: 10}
}

func credit(ref, from string, fen ledger.Money, words string) BankLine {
	return BankLine{StatementLine: channels.StatementLine{Account: "6801", Ref: ref, Counterparty: from, Amount: fen, Text: words}}
}

func bankRules() BankRules {
	return BankRules{Hospital: "H1", Account: "6801", Day: 20260915, Whole: true, Own: map[string]bool{"6801": true},
		Parties:  []Counterparty{{channels.WeChat, tenpay, ""}, {channels.UnionPay, "中国银联股份有限公司", ""}},
		Complete: func(string) bool { return true },
		Waiting: func(_, words string) (string, bool) {
			return "777290058110048", strings.Contains(words, "777290058110048")
		}}
}

// TestBank is the bank pair in small: settlements that are due, lines of the
// statement, and what is said of them.
func TestBank(t *testing.T) {
	carried := func(s *Settlement) *Settlement { s.Carried = true; return s }
	charge := credit("B1", "", -1200, "转账手续费")
	charge.Code = "PMNT/ICDT/CHRG"
	for _, c := range []struct {
		name  string
		due   []*Settlement
		lines []BankLine
		want  string // items, then the effects of each settlement
	}{
		{"arrived", []*Settlement{owed(20260915, 5000)}, []BankLine{credit("B1", tenpay, 5000, "1900000109 20260915")}, "/ J28a 5000, J28b 5000"},
		{"not there yet: in transit, not an item (scenario 81)", []*Settlement{owed(20260915, 5000)}, nil, "/ J28a 5000"},
		{"missing after its day of grace", []*Settlement{carried(owed(20260914, 5000))}, nil, "BANK_MISSING -5000 / J28a 5000"},
		{"short (scenario 57)", []*Settlement{owed(20260915, 5000)}, []BankLine{credit("B1", tenpay, 4900, "1900000109 20260915")},
			"BANK_SHORT -100 / J28a 5000, E27a 4900"},
		{"over: the retained balance came too (scenario 76)", []*Settlement{owed(20260915, 5000)}, []BankLine{credit("B1", tenpay, 13000, "1900000109 20260915")},
			"BANK_OVER 8000 / J28a 5000, J28b 5000, E28b 8000"},
		{"a holiday's days in one sum (scenario 56)", []*Settlement{carried(owed(20260912, 100)), carried(owed(20260913, 200)), owed(20260915, 300)},
			[]BankLine{credit("B1", tenpay, 600, "微信支付商户结算")}, "/ J28a 100, J28b 100 / J28a 200, J28b 200 / J28a 300, J28b 300"},
		{"several days in one sum that names the last", []*Settlement{carried(owed(20260912, 100)), carried(owed(20260913, 200)), owed(20260915, 300)},
			[]BankLine{credit("B1", tenpay, 600, "1900000109 20260915")}, "/ J28a 100, J28b 100 / J28a 200, J28b 200 / J28a 300, J28b 300"},
		{"a credit without words and of no open amount (scenario 57)", []*Settlement{owed(20260915, 5000)}, []BankLine{credit("B1", tenpay, 77, "往来款")},
			"BANK_UNIDENTIFIED 77 / J28a 5000"},
		{"its file is not fed (scenario 77)", nil, []BankLine{credit("B1", "中国银联股份有限公司", 77, "银联清算 777290058110048 0915")}, "WAITING 77 "},
		{"a charge of the bank and a debit that nobody knows (scenario 83)", nil, []BankLine{charge, credit("B2", tenpay, -50000, "扣款")}, "BANK_FEE -1200, UNKNOWN_DEBIT -50000 "},
		{"a supplier is out of scope (scenario 74)", nil, []BankLine{credit("B1", "华润医药有限公司", -2500000, "药品货款")}, ""},
		{"returned to the channel: nothing is waited for (scenario 81)", []*Settlement{func() *Settlement {
			s := carried(owed(20260914, 5000))
			s.Returned = 5000
			return s
		}()}, nil, "/ J28a 5000, J28d 5000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			items, scope := matchBank(bankRules(), c.due, c.lines)
			var said []string
			for _, i := range items {
				said = append(said, fmt.Sprintf("%s %d", i.Code, i.Amount))
			}
			got := strings.Join(said, ", ")
			if got != "" {
				got += " "
			}
			var settled []string
			for _, s := range c.due {
				var e []string
				for _, x := range s.effects() {
					e = append(e, fmt.Sprintf("%s %d", x.Journal, x.Amount))
				}
				settled = append(settled, "/ "+strings.Join(e, ", "))
			}
			if got += strings.Join(settled, " "); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if want := strings.Contains(c.name, "out of scope"); (scope.Lines == 1) != want {
				t.Errorf("%d lines out of scope", scope.Lines)
			}
		})
	}
}
