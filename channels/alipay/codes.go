package alipay

import (
	"strings"

	"github.com/clearward/clearward/channels"
)

// meaning is what a code says of the call that it answers.
type meaning struct {
	outcome channels.Outcome
	kind    channels.ReasonKind
	retry   bool // a refund: not accepted, the same number again
	absent  bool // the channel knows no such order
}

// Every code that is not in its table is Unknown: a query tells.
var unknown = meaning{outcome: channels.OutcomeUnknown, kind: channels.ReasonSystem}

func failed(kind channels.ReasonKind) meaning {
	return meaning{outcome: channels.OutcomeFailed, kind: kind}
}

func again(kind channels.ReasonKind) meaning {
	return meaning{outcome: channels.OutcomeUnknown, kind: kind, retry: true}
}

func ask(kind channels.ReasonKind) meaning {
	return meaning{outcome: channels.OutcomeUnknown, kind: kind}
}

var absent = meaning{outcome: channels.OutcomeUnknown, kind: channels.ReasonNotFound, absent: true}

// codes are the sub codes of a call, with what a refusal of the request itself and
// of the merchant's settings says.
type codes struct {
	request, setup meaning
	limits         bool // ACQ.*_LIMIT_ERROR are limits of the payer
	sub            map[string]meaning
}

// payCodes are the sub codes of alipay.trade.pay, precreate and create
// (spec/channels.md D.4).
var payCodes = codes{failed(channels.ReasonRequest), failed(channels.ReasonSetup), true, map[string]meaning{
	"ACQ.SYSTEM_ERROR":                      unknown,
	"ACQ.TRADE_HAS_SUCCESS":                 ask(channels.ReasonPaid),
	"ACQ.TRADE_HAS_CLOSE":                   failed(channels.ReasonClosed),
	"ACQ.PAYMENT_AUTH_CODE_INVALID":         failed(channels.ReasonAuthCode),
	"ACQ.SOUNDWAVE_PARSER_FAIL":             failed(channels.ReasonAuthCode),
	"ACQ.CONTEXT_INCONSISTENT":              ask(channels.ReasonDiffers), // the order under this number may be paid
	"ACQ.BUYER_BALANCE_NOT_ENOUGH":          failed(channels.ReasonBalance),
	"ACQ.BUYER_BANKCARD_BALANCE_NOT_ENOUGH": failed(channels.ReasonBalance),
	"ACQ.ERROR_BALANCE_PAYMENT_DISABLE":     failed(channels.ReasonCard),
	"ACQ.BUYER_SELLER_EQUAL":                failed(channels.ReasonCard),
	"ACQ.TRADE_BUYER_NOT_MATCH":             failed(channels.ReasonCard),
	"ACQ.BUYER_ENABLE_STATUS_FORBID":        failed(channels.ReasonCard),
	"ACQ.PULL_MOBILE_CASHIER_FAIL":          failed(channels.ReasonCard),
	"ACQ.MOBILE_PAYMENT_SWITCH_OFF":         failed(channels.ReasonCard),
	"ACQ.PAYMENT_FAIL":                      failed(channels.ReasonCard),
	"ACQ.NO_PAYMENT_INSTRUMENTS_AVAILABLE":  failed(channels.ReasonCard),
	"ACQ.BEYOND_PAY_RESTRICTION":            failed(channels.ReasonLimit),
	"ACQ.ERROR_BUYER_CERTIFY_LEVEL_LIMIT":   failed(channels.ReasonLimit),
	"ACQ.TOTAL_FEE_EXCEED":                  failed(channels.ReasonLimit),
	"ACQ.PAYMENT_REQUEST_HAS_RISK":          failed(channels.ReasonRisk),
	"ACQ.SELLER_BEEN_BLOCKED":               failed(channels.ReasonSetup),
	"ACQ.ACCESS_FORBIDDEN":                  failed(channels.ReasonSetup),
	"ACQ.PARTNER_ERROR":                     failed(channels.ReasonSetup),
	"ACQ.INVALID_STORE_ID":                  failed(channels.ReasonSetup),
	"ACQ.INVALID_PARAMETER":                 failed(channels.ReasonRequest),
	"ACQ.EXIST_FORBIDDEN_WORD":              failed(channels.ReasonRequest),
}}

// askCodes are those of query, cancel and close, which never fail a payment: only
// that it is not there says something.
var askCodes = codes{ask(channels.ReasonRequest), ask(channels.ReasonSetup), false, map[string]meaning{
	"ACQ.TRADE_NOT_EXIST":           absent,
	"ACQ.SYSTEM_ERROR":              unknown,
	"AQC.SYSTEM_ERROR":              unknown, // so in the document of cancel
	"ACQ.SELLER_BALANCE_NOT_ENOUGH": ask(channels.ReasonMerchantFunds),
	"ACQ.REASON_TRADE_BEEN_FREEZEN": ask(channels.ReasonNotRefundable),
}}

// refundCodes are those of alipay.trade.refund. A frozen trade has debited nobody:
// once a person has it released the same number is sent again.
var refundCodes = codes{failed(channels.ReasonRequest), again(channels.ReasonSetup), false, map[string]meaning{
	"ACQ.SYSTEM_ERROR":                unknown,
	"ACQ.TRADE_NOT_EXIST":             failed(channels.ReasonNotFound),
	"ACQ.SELLER_BALANCE_NOT_ENOUGH":   again(channels.ReasonMerchantFunds),
	"ACQ.REASON_TRADE_BEEN_FREEZEN":   again(channels.ReasonNotRefundable),
	"ACQ.REFUND_CHARGE_ERROR":         again(channels.ReasonSystem),
	"ACQ.DISCORDANT_REPEAT_REQUEST":   ask(channels.ReasonDiffers),
	"ACQ.REFUND_AMT_NOT_EQUAL_TOTAL":  failed(channels.ReasonNotRefundable),
	"ACQ.REASON_TRADE_REFUND_FEE_ERR": failed(channels.ReasonNotRefundable),
	"ACQ.TRADE_STATUS_ERROR":          failed(channels.ReasonNotRefundable),
	"ACQ.TRADE_NOT_ALLOW_REFUND":      failed(channels.ReasonNotRefundable),
	"ACQ.TRADE_HAS_FINISHED":          failed(channels.ReasonTooLate),
}}

// mean reads the code and sub code of a call that did not end with 10000. Where
// the answer is not signed it moves nothing: it may be anybody's.
func (c codes) mean(r *reply) meaning {
	m := unknown
	switch r.Code {
	case "10003":
		m = meaning{outcome: channels.OutcomePending, kind: channels.ReasonPassword}
	case "40001", "40002":
		m = c.request
		if strings.Contains(r.SubCode, "app-id") || strings.Contains(r.SubCode, "signature") || strings.Contains(r.SubCode, "timestamp") {
			m = c.setup
		}
	case "20001", "40003", "40006":
		m = c.setup
	case "40005":
		m = ask(channels.ReasonTooOften)
	case "40004":
		m = c.subCode(r.SubCode)
	}
	if !r.signed {
		return ask(m.kind)
	}
	return m
}

func (c codes) subCode(code string) meaning {
	m, known := c.sub[code]
	switch {
	case known:
		return m
	case c.limits && strings.HasPrefix(code, "ACQ.") && strings.HasSuffix(code, "_LIMIT_ERROR"):
		return failed(channels.ReasonLimit)
	}
	return unknown
}
