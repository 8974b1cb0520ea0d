package clearing

import (
	"github.com/shopspring/decimal"

	"github.com/clearward/clearward/ledger"
)

// Rate is a channel's fee rate from a day on, and who bears the fee.
type Rate struct {
	From   ledger.Day
	Rate   decimal.Decimal // a share of the settlement amount: 0.0060 is 0.60 %
	Bearer Bearer
}

// rateOn returns the rate that holds on the day. It is false before the first.
func (m *Merchant) rateOn(day ledger.Day) (Rate, bool) {
	for i := len(m.Rates) - 1; i >= 0; i-- {
		if m.Rates[i].From <= day {
			return m.Rates[i], true
		}
	}
	return Rate{}, false
}

// FeeAt returns the fee of one row in fen: the rate of its fund day × the
// settlement amount (WeChat 应结订单金额, Alipay 商家实收), half-up per row as
// both channels do (spec/channels.md H). Before the first rate it is 0: a fee
// billed then shows as a fee difference, it is not guessed.
func (m *Merchant) FeeAt(day ledger.Day, settle ledger.Money) ledger.Money {
	rate, ok := m.rateOn(day)
	if !ok {
		return 0
	}
	return settle.Times(rate.Rate)
}

// FeeReturnedAt returns the fee that the channel gives back for a refund that
// takes settle from the merchant: the rule of the payment with the sign turned,
// at most what is left of the fee that the payment was charged, and nothing
// where the contract returns none.
func (m *Merchant) FeeReturnedAt(day ledger.Day, settle, chargedLeft ledger.Money) ledger.Money {
	if !m.FeeReturned {
		return 0
	}
	return min(m.FeeAt(day, settle), max(chargedLeft, 0))
}

// BearerOn returns who bears the fee of a row of the day.
func (m *Merchant) BearerOn(day ledger.Day) Bearer {
	if rate, ok := m.rateOn(day); ok {
		return rate.Bearer
	}
	if len(m.Rates) > 0 {
		return m.Rates[0].Bearer
	}
	return ByPlatform
}

// LastBorneBy returns the newest day, up to and including day, of which by bears the
// fee; false where there was none.
func (m *Merchant) LastBorneBy(by Bearer, day ledger.Day) (ledger.Day, bool) {
	if m.BearerOn(day) == by {
		return day, true
	}
	for i := len(m.Rates) - 1; i > 0; i-- {
		if m.Rates[i].From <= day && m.Rates[i-1].Bearer == by {
			return m.Rates[i].From.Add(-1), true
		}
	}
	return 0, false
}
