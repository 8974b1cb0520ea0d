package lived

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/clearward/clearward/channels/sandbox"
)

// bankFaults are what the bank does the day after, with the case that a right
// reconciliation makes of it; of what is none of the platform's business it makes none.
var bankFaults = []struct {
	code, path, party, text, purpose string
	hospital                         int
	fen                              int64
}{
	{"BANK_FEE", "/bank/debit", "", "转账手续费", "CHRG", 0, 1_200},
	{"UNKNOWN_DEBIT", "/bank/debit", "财付通支付科技有限公司", "扣款", "", 1, 8_801},
	{"BANK_UNIDENTIFIED", "/bank/credit", "财付通支付科技有限公司", "来账", "", 0, 7_703},
	{"", "/bank/debit", "国药控股示范公司", "药品款", "", 0, 64_005},
}

// bankFaults happen in the afternoon after the day, and stand on the statement that
// brings its settlements.
func (l *life) bankFaults(ctx context.Context) error {
	if len(l.faults) == 0 {
		return nil
	}
	for _, b := range bankFaults {
		ask := map[string]any{"account": hospitals[b.hospital].account, "fen": b.fen, "party": b.party, "text": b.text, "code": b.purpose}
		var done struct {
			Ref string `json:"ref"`
		}
		if err := l.admin(ctx, b.path, ask, &done); err != nil {
			return err
		}
		if b.code == "" {
			continue
		}
		c := sandbox.Case{Code: b.code, Hospital: hospitals[b.hospital].code, BankRef: done.Ref, AmountFen: b.fen}
		if b.path == "/bank/debit" {
			c.AmountFen = -b.fen
		}
		l.faults = append(l.faults, &fault{kind: &kind{code: b.code, name: b.text}, found: []sandbox.Case{c}})
	}
	return l.settlements(ctx)
}

// settlementFaults are settlements that reach the hospital's account with another amount,
// or do not reach it.
var settlementFaults = []struct {
	code, do         string
	hospital, number int
	fen              int64
}{{"BANK_SHORT", "ROW_AMOUNT", 1, 1, -101}, {"BANK_OVER", "ROW_AMOUNT", 1, 0, 303}, {"BANK_MISSING", "ROW_MISSING", 0, 1, 0}}

// settlements are spoilt on the statement of the day after, where they stand.
func (l *life) settlements(ctx context.Context) error {
	for _, f := range settlementFaults {
		h := &hospitals[f.hospital]
		var lines []struct {
			Ref  string `json:"ref"`
			Text string `json:"text"`
			Fen  int64  `json:"fen"`
		}
		if err := l.ask(ctx, "/bank/entries", url.Values{"account": {h.account}, "day": {lifeDay.Add(1).String()}}, &lines); err != nil {
			return err
		}
		for _, line := range lines {
			if !strings.Contains(line.Text, h.numbers[f.number].no) {
				continue
			}
			if err := l.admin(ctx, "/bank/faults", map[string]any{"do": f.do, "ref": line.Ref, "fen": f.fen}, nil); err != nil {
				return err
			}
			c := sandbox.Case{Code: f.code, Hospital: h.code, BankRef: line.Ref, AmountFen: f.fen}
			found := []sandbox.Case{c}
			if f.do == "ROW_MISSING" { // no line of the bank can be named; the days after, whose statements lack it too, list it
				c.BankRef, c.AmountFen = "", -line.Fen
				found = slices.Repeat([]sandbox.Case{c}, comparedDays-1)
			}
			l.faults = append(l.faults, &fault{kind: &kind{code: f.code, name: line.Text}, found: found})
		}
	}
	return nil
}

// planReturn notes the payout that the bank sent back, by the number that the bank
// gave the line on which it came.
func (l *life) planReturn(ctx context.Context) error {
	var lines []struct {
		Ref string `json:"ref"`
		Fen int64  `json:"fen"`
		Why string `json:"returned"`
	}
	h := hospitals[2]
	if err := l.ask(ctx, "/bank/entries", url.Values{"account": {h.account}, "day": {lifeDay.Add(4).String()}}, &lines); err != nil {
		return err
	}
	came := false
	for _, line := range lines {
		if line.Why != "" {
			came = true
			l.faults = append(l.faults, &fault{kind: &kind{code: "PAYOUT_RETURNED", name: "the bank sends a payout back"},
				found: []sandbox.Case{{Code: "PAYOUT_RETURNED", Hospital: h.code, BankRef: line.Ref, AmountFen: line.Fen}}})
		}
	}
	if !came {
		l.wrong("the bank never sent the payout to %s back", h.code)
	}
	return nil
}
