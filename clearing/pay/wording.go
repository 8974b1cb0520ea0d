package pay

import "github.com/clearward/clearward/channels"

// Advice is what a cashier reads of a payment: what to tell the patient, and
// whether to charge again. Where nothing is known for certain the answer is no (U04).
type Advice struct {
	ZH, EN      string
	ChargeAgain bool
}

// byStatus is the advice of the states that need no reason.
var byStatus = map[Status]Advice{
	Created:  {"正在发起支付，请稍候，不要重复收费。", "The payment is being sent. Please wait; do not charge again.", false},
	Paying:   {"请患者在手机上完成支付；如正在输入密码，请等待。", "Please ask the patient to finish on the phone; wait while a password is entered.", false},
	Unknown:  {"支付结果未知，系统正在查询。请患者稍候，不要再次扣款。", "The result is not known yet and is being queried. Do not charge again.", false},
	Success:  {"支付成功。", "Paid.", false},
	Closed:   {"订单已关闭，未扣款。可以重新收费。", "The order is closed and nothing was taken. You may charge again.", true},
	Reversed: {"订单已撤销；若已扣款将原路退回。可以重新收费。", "The order was reversed; what was taken goes back. You may charge again.", true},
}

// byReason is the advice of a payment that failed, or is not known, for a reason.
// ChargeAgain holds where the payment failed for good.
var byReason = map[channels.ReasonKind]Advice{
	channels.ReasonNone:          {"支付失败，未扣款。可以重新收费。", "The payment failed and nothing was taken. You may charge again.", true},
	channels.ReasonAuthCode:      {"付款码无效或已过期，请患者刷新付款码后重新扫码。", "The payment code is wrong or has expired: ask for a fresh one and scan again.", true},
	channels.ReasonBalance:       {"余额不足，请患者更换付款方式。", "Not enough money: ask the patient to choose another means.", true},
	channels.ReasonCard:          {"银行卡或付款方式不可用，请患者更换。", "The card or means cannot be used here: ask for another.", true},
	channels.ReasonLimit:         {"超出支付限额，请患者更换付款方式或改用其他渠道。", "Over a limit: ask for another means or channel.", true},
	channels.ReasonPassword:      {"请患者在手机上输入密码，请等待。", "The patient has to enter the password: please wait.", false},
	channels.ReasonRisk:          {"渠道风控拒绝了本次支付，请患者更换付款方式。", "The channel's risk control refused: ask for another means.", true},
	channels.ReasonPaid:          {"该订单已支付，请查询订单，不要再次收费。", "The order is paid: query it, do not charge again.", false},
	channels.ReasonClosed:        {"订单已关闭，未扣款。可以重新收费。", "The order is closed and nothing was taken. You may charge again.", true},
	channels.ReasonNotFound:      {"渠道没有该订单。可以重新收费。", "The channel knows no such order. You may charge again.", true},
	channels.ReasonDiffers:       {"金额或信息与渠道不一致，请交财务核对，不要再次收费。", "What the channel says differs: hand it to finance, do not charge again.", false},
	channels.ReasonMerchantFunds: {"商户余额不足，退款将在充值后继续，无需患者再来。", "The merchant's balance is too small: the refund goes on after a recharge.", false},
	channels.ReasonTooOften:      {"请求过于频繁，请稍候，系统会自动重试。", "Too many requests: it is tried again by itself, please wait.", false},
	channels.ReasonTooLate:       {"已超过渠道时限，请交财务处理。", "Past the channel's time limit: hand it to finance.", false},
	channels.ReasonNotRefundable: {"渠道或HIS不允许该笔退款，请交财务处理。", "The channel or HIS does not allow this refund: hand it to finance.", false},
	channels.ReasonAccount:       {"收款账户异常，请交财务核对。", "The payee's account cannot be used: hand it to finance.", false},
	channels.ReasonRequest:       {"请求信息有误，未扣款。请联系信息科；可换其他方式收费。", "The request was wrong and nothing was taken: tell IT; another means may be used.", true},
	channels.ReasonSetup:         {"商户号配置有误，未扣款。请联系信息科；可换其他方式收费。", "The merchant number's settings are wrong and nothing was taken: tell IT; another means may be used.", true},
	channels.ReasonSystem:        {"渠道系统繁忙，本笔未成功。可以重新收费。", "The channel's system failed and the payment did not succeed. You may charge again.", true},
	channels.ReasonNetwork:       {"与渠道的网络中断，本笔未成功。可以重新收费。", "The channel could not be reached and the payment did not succeed. You may charge again.", true},
	channels.ReasonSignature:     {"渠道应答验签失败，请联系信息科，不要再次收费。", "The channel's answer is wrongly signed: tell IT, do not charge again.", false},
	channels.ReasonBreaker:       {"渠道暂时不可用，未发送。可以换其他方式收费。", "The channel is out for the moment, nothing was sent. Another means may be used.", true},
}

// Advise is what to tell the patient of a payment, and whether to charge again.
func (p *Payment) Advise() Advice {
	switch {
	case p.Status == Success && p.Late:
		return Advice{"订单关闭后收到款项，已交财务处理，请勿再次收费。", "The money came after the order was closed; finance has it. Do not charge again.", false}
	case p.Status == Success && p.Refunded == p.Amount:
		return Advice{"已全额退回。可以重新收费。", "All of it was given back. You may charge again.", true}
	case p.Status == Success && p.HIS == HISRefused:
		return Advice{"已支付，但HIS未受理，请为患者办理退款。", "Paid, but HIS has refused it: offer a refund.", false}
	case p.Status == Failed:
		advice, ok := byReason[p.Reason.Kind]
		if !ok {
			return byReason[channels.ReasonNone]
		}
		return advice
	case p.Status == Unknown && p.Reason.Kind == channels.ReasonDiffers, p.Status.open() && p.Reason.Kind == channels.ReasonPassword:
		return byReason[p.Reason.Kind] // both say no
	}
	return byStatus[p.Status]
}
