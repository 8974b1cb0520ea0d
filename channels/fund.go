package channels

import (
	"fmt"

	"github.com/clearward/clearward/ledger"
)

// FundTotals sums the rows of a fund bill by kind, in fen.
type FundTotals map[FundKind]ledger.Money

// Add counts one row.
func (t *FundTotals) Add(line *FundLine) error {
	if *t == nil {
		*t = FundTotals{}
	}
	sum, err := (*t)[line.Kind].Add(line.Amount)
	if err != nil {
		return fmt.Errorf("the sum of kind %s: %w", line.Kind, err)
	}
	(*t)[line.Kind] = sum
	return nil
}

// Map returns the totals under the names of FileSummary.Totals: each above zero
// in its own direction, other signed.
func (t FundTotals) Map() map[string]int64 {
	return map[string]int64{
		"trade":               int64(t[FundTrade]),
		"fee":                 -int64(t[FundFee]),
		"refund":              -int64(t[FundRefund]),
		"fee_return":          int64(t[FundFeeReturn]),
		"withdrawn":           -int64(t[FundWithdrawal]),
		"withdrawal_returned": int64(t[FundWithdrawalReturn]),
		"recharged":           int64(t[FundRecharge]),
		"other":               int64(t[FundOther]),
	}
}
