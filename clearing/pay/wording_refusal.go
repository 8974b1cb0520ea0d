package pay

import (
	"errors"

	"github.com/clearward/clearward/ledger"
)

// notKnown is the advice where nothing is known for certain (U04).
var notKnown = Advice{"结果未知，请用原编号查询，不要再次收费。", "The outcome is not known: ask again under the same number; do not charge again.", false}

// refusedPayment is the advice of a call about a payment that was refused, by code.
// ChargeAgain holds where nothing was stored or sent.
var refusedPayment = map[string]Advice{
	ErrField.Code:              {"信息有误，未发起支付。请更正后重新收费。", "A field is wrong and nothing was sent. Correct it and charge again.", true},
	ErrNotAllowed.Code:         {"不允许该操作，未发起支付。请联系信息科。", "This is not allowed and nothing was sent: tell IT.", false},
	ErrPaid.Code:               {"该账单已支付，不要再次收费。", "The bill is paid. Do not charge again.", false},
	ErrLive.Code:               {"该账单有一笔支付正在进行，请查询结果或先关闭，不要再次收费。", "A payment of the bill is under way: query or close it first; do not charge again.", false},
	ErrNotFound.Code:           {"没有该订单，请核对订单号，不要再次收费。", "There is no such order: check the number; do not charge again.", false},
	ErrState.Code:              {"订单状态不允许该操作，请查询订单，不要再次收费。", "The order's state does not allow it: query the order; do not charge again.", false},
	ErrOrderOfSteps.Code:       {"操作顺序有误，请查询订单，不要再次收费。", "A step came before its turn: query the order; do not charge again.", false},
	ErrForeign.Code:            {"商户号不一致，请交财务核对，不要再次收费。", "It is of another merchant number: hand it to finance; do not charge again.", false},
	ErrDiffers.Code:            {"金额与渠道不一致，请交财务核对，不要再次收费。", "The channel's amount differs: hand it to finance; do not charge again.", false},
	ledger.ErrKeyConflict.Code: {"该请求编号已用于另一笔支付，请查询原订单，不要再次收费。", "The key stands for another payment: query that one; do not charge again.", false},
	ledger.ErrKeyExpired.Code:  {"该请求编号已过期，请查询原订单，不要再次收费。", "The key is too old: query the order; do not charge again.", false},
}

// refusedRefund is the advice of a call about a refund that was refused, by code.
var refusedRefund = map[string]Advice{
	ErrField.Code:              {"信息有误，未发起退款。请更正后重试。", "A field is wrong and nothing was sent. Correct it and try again.", false},
	ErrNotAllowed.Code:         {"不允许该操作，未发起退款。请联系信息科。", "This is not allowed and nothing was sent: tell IT.", false},
	ErrNotFound.Code:           {"没有该订单或退款，请核对编号。", "There is no such payment or refund: check the number.", false},
	ErrState.Code:              {"退款状态不允许该操作，请查询退款。", "The refund's state does not allow it: query the refund.", false},
	ErrOrderOfSteps.Code:       {"请先在HIS办理退费，再发起退款。", "HIS cancels first, then the refund is asked for.", false},
	ErrRefundable.Code:         {"超出可退金额，未退款。请核对可退金额。", "It is more than may be given back and nothing was sent: look at what is refundable.", false},
	ErrNoCall.Code:             {"该商户号不能由系统申请异常退款，请财务在渠道商户平台办理，系统会查询到结果。", "This merchant number takes no such application from a program: finance handles it on the channel's merchant platform.", false},
	ErrInFlight.Code:           {"该订单有一笔退款正在处理，请等待结果，不要重复退款。", "A refund of the payment is under way: wait for it.", false},
	ErrTwoPeople.Code:          {"退款须由另一人复核，经办人不能复核。", "Another person decides a refund, not who asked for it.", false},
	ErrTopUp.Code:              {"医院资金不足，退款须待补足后办理，请告知患者稍后到账。", "The hospital's money does not cover it: it tops up first.", false},
	ErrDiffers.Code:            {"金额与原退款不一致，请交财务核对。", "The amount differs: hand it to finance.", false},
	ledger.ErrKeyConflict.Code: {"该请求编号已用于另一笔退款，请查询原退款。", "The key stands for another refund: query that one.", false},
	ledger.ErrKeyExpired.Code:  {"该请求编号已过期，请查询原退款。", "The key is too old: query the refund.", false},
}

// AdviseRefusal is what to tell the patient where a call about a payment, or about
// a refund, was refused or failed.
func AdviseRefusal(err error, ofRefund bool) Advice {
	known := refusedPayment
	if ofRefund {
		known = refusedRefund
	}
	var refusal ledger.Refusal
	if !errors.As(err, &refusal) {
		return notKnown
	}
	if refusal.Code == ErrField.Code && refusal.Field == "auth_code" {
		return Advice{"付款码无效，请患者刷新付款码后重新扫码。", "The payment code is wrong: ask for a fresh one and scan again.", true}
	}
	advice, ok := known[refusal.Code]
	if !ok {
		return notKnown
	}
	return advice
}

// refundByStatus is the advice of the states of a refund.
var refundByStatus = map[RefundStatus]Advice{
	RefundApproving:  {"退款已提交，等待复核，复核后原路退回。", "The refund waits for a second person.", false},
	RefundCancelling: {"正在HIS办理退费，请稍候。", "HIS is asked to cancel the charge.", false},
	RefundOwed:       {"退款已受理，正在提交渠道，将原路退回。", "The refund is owed and the channel is asked.", false},
	RefundSuccess:    {"退款已提交渠道，将原路退回，到账时间以渠道为准。", "The channel has accepted the refund.", false},
	RefundClosed:     {"渠道未能退回，已交财务处理，款项不会丢失。", "The channel did not pay it: finance goes on with it.", false},
	RefundFailed:     {"退款未办理，请核对原因。", "The refund was not made.", false},
	RefundRerouted:   {"退款改由银行转账退回，请核对收款账户。", "The refund goes by the bank.", false},
}

// Advise is what to tell the patient of a refund.
func (r *Refund) Advise() Advice {
	switch {
	case r.Abnormal && r.Application != nil && r.Application.State == ApplicationRerouted:
		return refundByStatus[RefundRerouted]
	case r.Abnormal:
		return Advice{"退款账户异常，已交财务处理，款项不会丢失。", "The payer's account cannot be used: finance goes on with it.", false}
	case r.Status == RefundSuccess && !r.SuccessAt.IsZero():
		return Advice{"退款已到账，原路退回。", "The refund has arrived.", false}
	}
	return refundByStatus[r.Status]
}
