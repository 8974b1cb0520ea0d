package clearing

// The accounting manual on one page: every journal of the platform's book, as
// spec/accounting.md 3.3 and 3.4 name them. A line reads: which settle modes may
// use it, what happened, which amount moves from which account to which. What
// crosses from the platform's own money to agency money goes over the pair
// 1998/2998, so each set balances at every posting. A golden test compares the
// page with the tables, both ways.
//
// amount(debit, credit) moves Event.Amount; fee(debit, credit) moves Event.Fee
// and posts nothing where it is zero.

const (
	anyMode = "AB"
	onlyA   = "A"
	onlyB   = "B"
)

var journals = map[string]journal{
	// Payment, acknowledgement, fee.
	"J01":  {anyMode, "payment succeeded", amount(channelMoney, awaitingHIS)},
	"J02":  {anyMode, "HIS acknowledges what it booked", amount(awaitingHIS, pending)},
	"J03":  {anyMode, "fee accrued on the settlement amount", fee(channelFee, feeOwed)},
	"J04a": {anyMode, "fee borne by the platform: subsidy", bornBy(ByPlatform, fee(subsidyCost, channelFee))},
	"J04b": {anyMode, "fee borne by the hospital", bornBy(ByHospital, fee(pending, channelFee))},
	"J05":  {anyMode, "payment succeeded, with its fee", all(amount(channelMoney, awaitingHIS), fee(channelFee, feeOwed))},
	"J06":  {anyMode, "UnionPay payment, with its fee", all(amount(channelMoney, awaitingHIS), fee(channelFee, feeOwed))},
	"J07":  {anyMode, "card payment at a POS, no fee", amount(channelMoney, awaitingHIS)},
	"J08a": {anyMode, "cash taken at a window", amount(cash, cashContra)},
	"J08b": {anyMode, "cash refunded at a window", amount(cashContra, cash)},
	"J09a": {anyMode, "cash handed in", amount(cashOnTheWay, cash)},
	"J09b": {anyMode, "cash arrived at the bank", amount(cashContra, cashOnTheWay)},

	// Insurance (memo) and mixed orders.
	"J10a": {anyMode, "mixed order, cash part confirmed", amount(channelMoney, awaitingHIS)},
	"J10b": {anyMode, "mixed order, insured part confirmed", parts(insured, insuranceContra)},
	"J11":  {anyMode, "HIS acknowledges the cash part", amount(awaitingHIS, pending)},
	"J12a": {anyMode, "bureau pays in full", parts(insuranceContra, insured)},
	"J12b": {anyMode, "bureau pays less than billed", parts(insuranceContra, insured)},
	"J12c": {anyMode, "what the bureau kept back, by reason", parts(insured, insuredGov)},
	"J13":  {anyMode, "mixed order refunded, insured part", parts(insuranceContra, insured)},
	"J14":  {anyMode, "mixed order refunded, cash part", amount(pending, refundOwed)},
	"J15":  {anyMode, "part of the insured part refunded", parts(insuranceContra, insured)},
	"J16":  {anyMode, "insured afterwards: cash back", amount(pending, refundOwed)},
	"J17":  {anyMode, "commercial insurer pays the hospital", amount(insurer, insuranceContra)},

	// Refund and cancel.
	"J18":  {anyMode, "refund asked, HIS cancelled", amount(pending, refundOwed)},
	"J19a": {anyMode, "channel accepts the refund", amount(refundTaken, channelMoney)},
	"J19b": {anyMode, "refund succeeded", amount(refundOwed, refundTaken)},
	"J19c": {anyMode, "refund closed: money back in the balance", all(amount(channelMoney, refundTaken), fee(feeCost, feeOwed))},
	"J20":  {anyMode, "fee of a refund returned", fee(feeOwed, feeCost)},
	"J21": {anyMode, "partial refund, all at one moment", all(amount(pending, refundOwed), amount(refundTaken, channelMoney),
		amount(refundOwed, refundTaken), fee(feeOwed, feeCost))},
	"J22":  {anyMode, "payment cancelled at the channel before HIS", all(amount(awaitingHIS, refundOwed), fee(feeOwed, feeCost))},
	"J23a": {onlyB, "hospital remits for a refund after payout", amount(bankMoney, available)},
	"J23b": {onlyB, "provider advances for a refund after payout", amount(advance, available)},
	"J23c": {onlyB, "refund out of the money topped up", amount(available, refundOwed)},
	"J24":  {onlyB, "advance repaid by the hospital", amount(available, advance)},

	// Release, settlement, money in the hospital's account.
	"J25":  {anyMode, "proved items become available", amount(pending, available)},
	"J26a": {onlyB, "withdrawal to custody, net", settled(withdrawn)},
	"J26b": {onlyB, "withdrawal arrived at custody", amount(bankMoney, withdrawn)},
	"J27a": {onlyB, "provider tops up the fee, sent", amount(transferOwn, bankPayment)},
	"J27b": {onlyB, "top-up arrived at custody", amount(bankMoney, transferOwn)},
	"J28a": {onlyA, "withdrawal to the hospital, net", settled(withdrawn)},
	"J28b": {onlyA, "withdrawal arrived at the hospital's bank", amount(bankMoney, withdrawn)},
	"J28c": {onlyA, "proved money becomes the hospital's own", bornBy(ByPlatform, releaseGross)},
	"J28d": {anyMode, "withdrawal returned to the channel", amount(channelMoney, withdrawn)},
	"J29":  {onlyA, "fee subsidy sent, contract named", contracted(amount(subsidyOwed, bankPayment))},
	"J30":  {onlyA, "proved money becomes the hospital's own, fee borne by it", bornBy(ByHospital, amount(available, bankMoney))},

	// Payout and bank.
	"J31":  {onlyB, "payout requested", amount(available, frozen)},
	"J32":  {onlyB, "payout rejected", amount(frozen, available)},
	"J33":  {onlyB, "payout sent to the bank", amount(frozen, bankPayment)},
	"J34":  {anyMode, "bank line proves a payment", amount(bankPayment, bankMoney)},
	"J35a": {anyMode, "bank fee on the own account", amount(bankFee, bankMoney)},
	"J35b": {onlyB, "bank fee on custody", debited(bankFee)},
	"J36":  {onlyB, "payout failed for good", amount(bankPayment, available)},
	"J37":  {onlyB, "payout returned by the bank", amount(bankMoney, returned)},
	"J38":  {onlyB, "returned payout stays frozen", amount(returned, frozen)},
	"J39":  {anyMode, "refund by another route, from the bank", amount(refundOwed, bankPayment)},

	// Service fee, coupons, recharge.
	"J48a": {anyMode, "service fee invoiced", invoiced},
	"J48b": {anyMode, "service fee paid by the hospital", amount(bankMoney, serviceReceivable)},
	"J49a": {anyMode, "coupon funded by the hospital", amount(pending, channelMoney)},
	"J49b": {anyMode, "coupon funded by the platform", all(amount(pending, channelMoney), amount(subsidyCost, subsidyOwed))},
	"J49c": {anyMode, "coupon share of a refund", amount(refundOwed, pending)},
	"J50a": {anyMode, "channel balance recharged, bank line", amount(recharge, bankMoney)},
	"J50b": {anyMode, "channel balance recharged, fund bill row", amount(channelMoney, recharge)},

	// Exceptions of payments and refunds.
	"E01":  {anyMode, "F1 found", all(amount(channelMoney, long), fee(channelFee, feeOwed))},
	"E02":  {anyMode, "F1 refund approved", amount(long, refundOwed)},
	"E03":  {anyMode, "F1 order backfilled", amount(long, awaitingHIS)},
	"E04":  {anyMode, "F1 is another business of the hospital", amount(long, foreign)},
	"E05":  {anyMode, "F1 owner never found: to the hospital", amount(long, pending)},
	"E06":  {anyMode, "F2 found", all(amount(channelMoney, awaitingHIS), fee(channelFee, feeOwed))},
	"E07":  {anyMode, "I1 refund decided", amount(awaitingHIS, refundOwed)},
	"E08a": {anyMode, "I2 platform liability signed", amount(loss, compensation)},
	"E08b": {anyMode, "liability paid to the hospital", amount(compensation, bankPayment)},
	"E09":  {anyMode, "I3 platform liability signed", amount(loss, compensation)},
	"E10":  {anyMode, "I4 taken out of pending", amount(pending, refundOwed)},
	"E11":  {anyMode, "F3 short after pending", all(amount(short, channelMoney), fee(feeOwed, feeCost))},
	"E12":  {anyMode, "F3 matched late", all(amount(channelMoney, short), fee(feeCost, feeOwed))},
	"E13":  {anyMode, "F3 patient pays cash", amount(pending, short)},
	"E14":  {anyMode, "F3 HIS voids, or the hospital bears it", amount(pending, short)},
	"E15a": {onlyA, "F3 platform bears it", amount(loss, compensation)},
	"E15b": {onlyB, "F3 platform bears it, mode B", amount(loss, short)},
	"E16":  {anyMode, "F4 channel higher", all(amount(channelMoney, long), fee(channelFee, feeOwed))},
	"E17":  {anyMode, "F4 channel lower", all(amount(short, channelMoney), fee(feeOwed, feeCost))},
	"E18":  {anyMode, "F5 refund at the channel only", all(amount(short, channelMoney), fee(feeOwed, feeCost))},
	"E19":  {anyMode, "F5 valid, HIS voids", amount(pending, short)},
	"E20a": {anyMode, "F6 final refund absent at the channel", all(amount(channelMoney, refundOwed), fee(feeCost, feeOwed))},
	"E20b": {anyMode, "F6 final refund held by the channel", amount(refundTaken, refundOwed)},
	"E20c": {anyMode, "F6 abnormal refund paid to the bank account", amount(bankMoney, refundTaken)},
	"E21":  {anyMode, "PAID_TWICE refund approved", amount(awaitingHIS, refundOwed)},
	"E22a": {onlyA, "F9 another hospital's money: long here", amount(pending, long)},
	"E22b": {onlyA, "F9 short at the hospital it belongs to", amount(otherShort, otherPending)},
	"E22c": {onlyA, "F9 paid over between the hospitals", paidOver},
	"E22d": {onlyB, "F9 re-routed before payout", amount(pending, otherPending)},
	"E23": {anyMode, "F9 wrong merchant number of one hospital",
		all(amount(otherChannelMoney, channelMoney), fee(feeOwed, otherFeeOwed))},
	"E24":  {anyMode, "F7 fee difference accepted", fee(channelFee, feeOwed)},
	"E25":  {anyMode, "F7 fee disputed", fee(dispute, feeOwed)},
	"E26":  {anyMode, "F7 channel credits the fee", fee(channelMoney, dispute)},
	"E33":  {anyMode, "reversal of a fee accrued twice", fee(feeOwed, channelFee)},
	"E34a": {anyMode, "PHANTOM found", all(amount(short, channelMoney), fee(feeOwed, feeCost))},
	"E34b": {anyMode, "PHANTOM order cancelled", amount(awaitingHIS, short)},
	"E35":  {anyMode, "BACKFILL found", all(amount(channelMoney, awaitingHIS), fee(channelFee, feeOwed))},
	"E36a": {anyMode, "I5 the amount that HIS acknowledged", amount(awaitingHIS, pending)},
	"E36b": {anyMode, "I5 the difference refunded", amount(awaitingHIS, refundOwed)},

	// Exceptions of the bank, the drawer and the bureau.
	"E27a": {onlyA, "BANK_SHORT, what arrived", amount(bankMoney, withdrawn)},
	"E27b": {onlyB, "BANK_SHORT, mode B", all(amount(bankMoney, withdrawn), missing(short, withdrawn))},
	"E28a": {onlyB, "BANK_SHORT the rest arrives", amount(bankMoney, short)},
	"E28b": {anyMode, "BANK_OVER", amount(bankMoney, unidentified)},
	"E29":  {anyMode, "BANK_UNIDENTIFIED", amount(bankMoney, unidentified)},
	"E30a": {anyMode, "identified: a settlement whose row was not posted", settled(unidentified)},
	"E30b": {anyMode, "identified: a settlement in transit", amount(unidentified, withdrawn)},
	"E31":  {anyMode, "cash drawer short (turned: over)", turnable(cashContra, cash)},
	"E32":  {anyMode, "INS_* bureau says less", parts(insuranceContra, insured)},
	"E37":  {anyMode, "I8 HIS says cash, the patient paid the channel (turned: the reverse)", turnable(cashContra, cash)},
	"E38":  {anyMode, "INS_* part unknown to the bureau (turned: known to it alone)", turnableParts(insuranceContra, insured)},
	"E39":  {anyMode, "UNKNOWN_DEBIT", debited(short)},
}

// signed names the journals that only two people together may post: subsidy,
// refund by another route, and every case in which money of a patient, a
// hospital or the platform is given away on evidence (spec 3.1, prohibition 7).
var signed = map[string]bool{
	"J29": true, "J39": true, "E02": true, "E05": true, "E07": true, "E08a": true, "E08b": true, "E09": true,
	"E15a": true, "E15b": true, "E21": true, "E24": true, "E36b": true, "E38": true,
}

// either names the pairs of which the terms of the merchant number choose one.
var either = map[string]func(*Event) string{
	"J04": func(e *Event) string { return "J04" + suffix(e.bearer()) },
	"J49": func(e *Event) string {
		if e.Merchant == nil {
			return "J49a"
		}
		return "J49" + map[Bearer]string{ByHospital: "a", ByPlatform: "b"}[e.Merchant.CouponBearer]
	},
}

func suffix(bearer Bearer) string {
	if bearer == ByHospital {
		return "b"
	}
	return "a"
}
