package wechat

import (
	"strings"

	"github.com/clearward/clearward/channels"
)

// verdict is what a code of the channel says of the money.
type verdict struct {
	outcome channels.Outcome
	kind    channels.ReasonKind
	flags   flag
}

type flag uint8

const (
	absent   flag = 1 << iota // the channel knows no such order or refund
	closed                    // the order is closed
	reversed                  // the order is reversed
	again                     // reverse: call again
	retry                     // refund: not accepted, same number again
)

const (
	failed  = channels.OutcomeFailed
	unknown = channels.OutcomeUnknown
)

// The codes of V2 and v3 by call (spec/channels.md A.4, B.3, C). A code that is not
// listed is Unknown. Three of them are Unknown though the channel calls them
// definite: OUT_TRADE_NO_USED, BUYER_MISMATCH and REFUND_FEE_MISMATCH say that the
// number was used with other values, so that money may have moved under it.
var (
	payCodes = map[string]verdict{
		"SYSTEMERROR": {unknown, channels.ReasonSystem, 0}, "SYSTEM_ERROR": {unknown, channels.ReasonSystem, 0},
		"BANKERROR": {unknown, channels.ReasonSystem, 0}, "BANK_ERROR": {unknown, channels.ReasonSystem, 0},
		"USERPAYING": {channels.OutcomePending, channels.ReasonPassword, 0},
		"ORDERPAID":  {unknown, channels.ReasonPaid, 0}, "ORDER_PAID": {unknown, channels.ReasonPaid, 0},
		"OUT_TRADE_NO_USED": {unknown, channels.ReasonDiffers, 0}, "BUYER_MISMATCH": {unknown, channels.ReasonDiffers, 0},
		"AUTHCODEEXPIRE": {failed, channels.ReasonAuthCode, 0}, "AUTH_CODE_ERROR": {failed, channels.ReasonAuthCode, 0},
		"AUTH_CODE_INVALID": {failed, channels.ReasonAuthCode, 0},
		"NOTENOUGH":         {failed, channels.ReasonBalance, 0}, "NOTSUPORTCARD": {failed, channels.ReasonCard, 0},
		"ORDERCLOSED": {failed, channels.ReasonClosed, closed}, "ORDER_CLOSED": {failed, channels.ReasonClosed, closed},
		"ORDERREVERSED": {failed, channels.ReasonClosed, reversed},
		"PARAM_ERROR":   {failed, channels.ReasonRequest, 0}, "XML_FORMAT_ERROR": {failed, channels.ReasonRequest, 0},
		"REQUIRE_POST_METHOD": {failed, channels.ReasonRequest, 0}, "LACK_PARAMS": {failed, channels.ReasonRequest, 0},
		"NOT_UTF8": {failed, channels.ReasonRequest, 0}, "INVALID_REQUEST": {failed, channels.ReasonRequest, 0},
		"NOAUTH": {failed, channels.ReasonSetup, 0}, "NO_AUTH": {failed, channels.ReasonSetup, 0},
		"SIGNERROR": {failed, channels.ReasonSetup, 0}, "APPID_NOT_EXIST": {failed, channels.ReasonSetup, 0},
		"MCHID_NOT_EXIST": {failed, channels.ReasonSetup, 0}, "MCH_NOT_EXISTS": {failed, channels.ReasonSetup, 0},
		"APPID_MCHID_NOT_MATCH": {failed, channels.ReasonSetup, 0},
		"TRADE_ERROR":           {failed, channels.ReasonRisk, 0}, "RULE_LIMIT": {failed, channels.ReasonLimit, 0},
		"ACCOUNT_ERROR": {failed, channels.ReasonCard, 0}, "OPENID_MISMATCH": {failed, channels.ReasonRequest, 0},
		"FREQUENCY_LIMITED": {failed, channels.ReasonTooOften, 0}, "RATELIMIT_EXCEEDED": {failed, channels.ReasonTooOften, 0},
		"SIGN_ERROR": {unknown, channels.ReasonSetup, 0},
	}
	queryCodes = map[string]verdict{
		"ORDERNOTEXIST": {unknown, channels.ReasonNotFound, absent}, "ORDER_NOT_EXIST": {unknown, channels.ReasonNotFound, absent},
		"SIGNERROR": {unknown, channels.ReasonSetup, 0}, "SIGN_ERROR": {unknown, channels.ReasonSetup, 0},
		"FREQUENCY_LIMITED": {unknown, channels.ReasonTooOften, 0}, "RATELIMIT_EXCEEDED": {unknown, channels.ReasonTooOften, 0},
	}
	closeCodes = map[string]verdict{
		"ORDERPAID": {unknown, channels.ReasonPaid, 0}, "ORDER_PAID": {unknown, channels.ReasonPaid, 0},
		"ORDERCLOSED": {failed, channels.ReasonClosed, closed}, "ORDER_CLOSED": {failed, channels.ReasonClosed, closed},
		"ORDERNOTEXIST": {unknown, channels.ReasonNotFound, absent}, "ORDER_NOT_EXIST": {unknown, channels.ReasonNotFound, absent},
	}
	reverseCodes = map[string]verdict{
		"SYSTEMERROR": {unknown, channels.ReasonSystem, again}, "USERPAYING": {unknown, channels.ReasonPassword, again},
		"REVERSE_EXPIRE": {unknown, channels.ReasonTooLate, 0}, "SIGNERROR": {unknown, channels.ReasonSetup, 0},
		"INVALID_TRANSACTIONID": {unknown, channels.ReasonRequest, 0}, "PARAM_ERROR": {unknown, channels.ReasonRequest, 0},
		"REQUIRE_POST_METHOD": {unknown, channels.ReasonRequest, 0}, "INVALID_REQUEST": {unknown, channels.ReasonRequest, 0},
		"TRADE_ERROR": {unknown, channels.ReasonRisk, 0}, "TRADE_STATE_ERROR": {unknown, channels.ReasonClosed, 0},
	}
	refundCodes = map[string]verdict{
		"SYSTEMERROR": {unknown, channels.ReasonSystem, 0}, "SYSTEM_ERROR": {unknown, channels.ReasonSystem, 0},
		"BIZERR_NEED_RETRY": {unknown, channels.ReasonSystem, retry},
		"NOTENOUGH":         {unknown, channels.ReasonMerchantFunds, retry}, "NOT_ENOUGH": {unknown, channels.ReasonMerchantFunds, retry},
		"FREQUENCY_LIMITED": {unknown, channels.ReasonTooOften, retry}, "RATELIMIT_EXCEEDED": {unknown, channels.ReasonTooOften, retry},
		"INVALID_REQ_TOO_MUCH": {unknown, channels.ReasonTooOften, retry},
		"SIGNERROR":            {unknown, channels.ReasonSetup, retry}, "NOAUTH": {unknown, channels.ReasonSetup, retry},
		"NO_AUTH": {unknown, channels.ReasonSetup, retry}, "CERT_ERROR": {unknown, channels.ReasonSetup, retry},
		"SIGN_ERROR":          {unknown, channels.ReasonSetup, 0},
		"REFUND_FEE_MISMATCH": {unknown, channels.ReasonDiffers, 0},
		"TRADE_OVERDUE":       {failed, channels.ReasonTooLate, 0}, "ERROR": {failed, channels.ReasonNotRefundable, 0},
		"USER_ACCOUNT_ABNORMAL": {failed, channels.ReasonAccount, 0},
		"INVALID_TRANSACTIONID": {failed, channels.ReasonNotFound, 0}, "ORDERNOTEXIST": {failed, channels.ReasonNotFound, 0},
		"RESOURCE_NOT_EXISTS": {failed, channels.ReasonNotFound, 0},
		"PARAM_ERROR":         {failed, channels.ReasonRequest, 0},
	}
	// What is left out says nothing: INVALID_REQUEST also says that the refund is no
	// longer abnormal, for instance because an earlier application was taken.
	abnormalCodes = map[string]verdict{
		"PARAM_ERROR": {failed, channels.ReasonRequest, 0}, "RESOURCE_NOT_EXISTS": {failed, channels.ReasonNotFound, 0},
		"NO_AUTH": {failed, channels.ReasonSetup, 0}, "SIGN_ERROR": {unknown, channels.ReasonSetup, 0},
		"FREQUENCY_LIMITED": {failed, channels.ReasonTooOften, 0}, "RATELIMIT_EXCEEDED": {failed, channels.ReasonTooOften, 0},
	}
	refundQueryCodes = map[string]verdict{
		"REFUNDNOTEXIST": {unknown, channels.ReasonNotFound, absent}, "RESOURCE_NOT_EXISTS": {unknown, channels.ReasonNotFound, absent},
		"SYSTEMERROR": {unknown, channels.ReasonSystem, 0},
	}
)

// judge looks a code up. The channel says INVALID_REQUEST also of a number that was
// used with other values; only its text tells.
func judge(codes map[string]verdict, code, text string) (verdict, channels.Reason) {
	v, listed := codes[code]
	if !listed {
		v = verdict{unknown, channels.ReasonSystem, 0}
	}
	if code == "INVALID_REQUEST" && (strings.Contains(text, "重") || strings.Contains(text, "不一致")) {
		v = verdict{unknown, channels.ReasonDiffers, 0}
	}
	return v, channels.Reason{Kind: v.kind, Code: code, Text: text}
}

// onPay and onRefund put a verdict on an answer.
func (v verdict) onPay(a *channels.PayAnswer, r channels.Reason) {
	a.Outcome, a.Reason = v.outcome, r
	a.Absent, a.Closed, a.Reversed, a.Again = v.flags&absent != 0, v.flags&closed != 0, v.flags&reversed != 0, v.flags&again != 0
}

func (v verdict) onRefund(a *channels.RefundAnswer, r channels.Reason) {
	a.Outcome, a.Reason = v.outcome, r
	a.Absent, a.Retry = v.flags&absent != 0, v.flags&retry != 0
}

// tradeState is what trade_state says of a payment (V2 and v3, spec/channels.md I.1).
func tradeState(a *channels.PayAnswer, state, text string) {
	r := channels.Reason{Code: state, Text: text}
	switch state {
	case "SUCCESS":
		a.Outcome = channels.OutcomeSucceeded
	case "REFUND":
		a.Outcome, a.Refunded = channels.OutcomeSucceeded, true
	case "NOTPAY", "ACCEPT":
		a.Outcome, a.Reason = channels.OutcomePending, r
	case "USERPAYING":
		r.Kind = channels.ReasonPassword
		a.Outcome, a.Reason = channels.OutcomePending, r
	case "CLOSED":
		r.Kind = channels.ReasonClosed
		a.Outcome, a.Closed, a.Reason = failed, true, r
	case "REVOKED":
		r.Kind = channels.ReasonClosed
		a.Outcome, a.Reversed, a.Reason = failed, true, r
	case "PAYERROR":
		r.Kind = channels.ReasonCard
		a.Outcome, a.Reason = failed, r
	default:
		r.Kind = channels.ReasonSystem
		a.Outcome, a.Reason = unknown, r
	}
}

// paidTo reads 退款入账账户, which begins with 商户 where the money went to the
// merchant's basic or settlement account, and else names what the payer has.
func paidTo(account string) channels.PaidTo {
	switch {
	case account == "":
		return ""
	case strings.HasPrefix(account, "商户"):
		return channels.PaidToMerchant
	}
	return channels.PaidToPayer
}

// refundState is what a refund's status says (V2 and v3, spec/channels.md I.2).
func refundState(a *channels.RefundAnswer, state string) {
	r := channels.Reason{Code: state}
	switch state {
	case "SUCCESS":
		a.Outcome = channels.OutcomeSucceeded
	case "PROCESSING":
		a.Outcome = channels.OutcomePending
	case "CHANGE", "ABNORMAL":
		r.Kind = channels.ReasonAccount
		a.Outcome, a.Abnormal, a.Reason = channels.OutcomePending, true, r
	case "REFUNDCLOSE", "CLOSED":
		r.Kind = channels.ReasonClosed
		a.Outcome, a.Closed, a.Reason = failed, true, r
	default:
		r.Kind = channels.ReasonSystem
		a.Outcome, a.Reason = unknown, r
	}
}
