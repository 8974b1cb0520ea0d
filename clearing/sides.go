package clearing

import "github.com/clearward/clearward/ledger"

// The sides of the journals: which account of the chart, under which reference.
// Amounts that are settled one by one carry the number of their order, refund,
// case or payout; amounts that are settled in sums carry none.

func (p *page) ofHospital() string {
	h := p.hospital()
	if h == "" {
		p.refuse("hospital is missing")
	}
	return h
}

func (p *page) ofMerchant() *Merchant {
	if p.Merchant == nil {
		p.refuse("merchant number is missing")
		return &Merchant{}
	}
	return p.Merchant
}

func (p *page) ofOtherMerchant() *Merchant {
	if p.OtherMerchant == nil {
		p.refuse("the other merchant number is missing")
		return &Merchant{}
	}
	return p.OtherMerchant
}

func (p *page) ofOtherHospital() string {
	if p.OtherHospital == nil {
		p.refuse("the other hospital is missing")
		return ""
	}
	return p.OtherHospital.Code
}

func (p *page) ofBank() *BankAccount {
	if p.Bank == nil {
		p.refuse("bank account is missing")
		return &BankAccount{}
	}
	return p.Bank
}

// item is an open item: an amount that must be found again by its number.
func (p *page) item(account ledger.Account, name, number string) ledger.Leg {
	if number == "" {
		p.refuse("%s is missing: account %s is kept by it", name, account)
	}
	return account.For(number)
}

func channelMoney(p *page) ledger.Leg      { return ChannelMoney(p.ofMerchant()).For("") }
func otherChannelMoney(p *page) ledger.Leg { return ChannelMoney(p.ofOtherMerchant()).For("") }
func withdrawn(p *page) ledger.Leg {
	return p.item(Withdrawn(p.ofMerchant()), "settlement", p.Settlement)
}
func refundTaken(p *page) ledger.Leg { return p.item(RefundTaken(p.ofMerchant()), "refund", p.Refund) }
func refundOwed(p *page) ledger.Leg  { return p.item(RefundOwed(p.ofMerchant()), "refund", p.Refund) }

func feeOwed(p *page) ledger.Leg { return FeeOwed(p.ofMerchant(), p.bearer()).For("") }
func otherFeeOwed(p *page) ledger.Leg {
	m := p.ofOtherMerchant()
	return FeeOwed(m, m.BearerOn(p.Day)).For("")
}
func channelFee(p *page) ledger.Leg { return ChannelFee(p.ofMerchant().Channel).For("") }

// feeCost is where a fee ends: the platform's subsidy, or the hospital's money.
func feeCost(p *page) ledger.Leg {
	if p.bearer() == ByHospital {
		return pending(p)
	}
	return subsidyCost(p)
}

func awaitingHIS(p *page) ledger.Leg { return p.item(AwaitingHIS(p.ofHospital()), "order", p.Order) }
func pending(p *page) ledger.Leg     { return Pending(p.ofHospital()).For("") }
func otherPending(p *page) ledger.Leg {
	return Pending(p.ofOtherHospital()).For("")
}
func available(p *page) ledger.Leg { return Available(p.ofHospital()).For("") }
func frozen(p *page) ledger.Leg    { return p.item(Frozen(p.ofHospital()), "payout", p.Payout) }

func short(p *page) ledger.Leg      { return p.item(Short(p.ofHospital()), "case", p.Case) }
func otherShort(p *page) ledger.Leg { return p.item(Short(p.ofOtherHospital()), "case", p.Case) }
func long(p *page) ledger.Leg       { return p.item(Long(p.ofHospital()), "case", p.Case) }
func dispute(p *page) ledger.Leg    { return p.item(Dispute(p.ofHospital()), "case", p.Case) }
func foreign(p *page) ledger.Leg    { return p.item(Foreign(p.ofHospital()), "owner", p.Owner) }
func returned(p *page) ledger.Leg   { return p.item(Returned(p.ofHospital()), "payout", p.Payout) }
func recharge(p *page) ledger.Leg   { return p.item(Recharge(p.ofHospital()), "payout", p.Payout) }
func transferOwn(p *page) ledger.Leg {
	return p.item(ownTransfer(), "payout", p.Payout)
}

func advance(p *page) ledger.Leg { return Advance(p.ofHospital()).For("") }
func compensation(p *page) ledger.Leg {
	return p.item(Compensation(p.ofHospital()), "case", p.Case)
}
func loss(p *page) ledger.Leg        { return p.item(Loss(p.ofHospital()), "case", p.Case) }
func subsidyCost(p *page) ledger.Leg { return SubsidyCost(p.ofHospital()).For("") }
func subsidyOwed(p *page) ledger.Leg {
	number := p.Settlement
	if number == "" {
		number = p.Order // a coupon that the platform funds
	}
	return p.item(SubsidyOwed(p.ofHospital()), "settlement", number)
}

func bankMoney(p *page) ledger.Leg   { return BankMoney(p.ofBank()).For("") }
func bankFee(p *page) ledger.Leg     { return bankCharges(p.ofBank()).For("") }
func bankPayment(p *page) ledger.Leg { return p.item(BankPayment(p.ofBank()), "payout", p.Payout) }
func bankAhead(p *page) ledger.Leg   { return p.item(BankPayment(p.ofBank()), "case", p.Case) }
func unidentified(p *page) ledger.Leg {
	return p.item(Unidentified(p.ofBank()), "bank reference", p.BankRef)
}

func serviceReceivable(p *page) ledger.Leg { return ServiceReceivable(p.ofHospital()).For("") }
func serviceIncome(p *page) ledger.Leg     { return ServiceIncome(p.ofHospital()).For("") }

func cash(p *page) ledger.Leg            { return p.item(Cash(p.ofHospital()), "cashier", p.Cashier) }
func cashOnTheWay(p *page) ledger.Leg    { return CashOnTheWay(p.ofHospital()).For("") }
func cashContra(p *page) ledger.Leg      { return CashContra(p.ofHospital()).For("") }
func insuranceContra(p *page) ledger.Leg { return InsuranceContra(p.ofHospital()).For("") }
func insurer(p *page) ledger.Leg         { return p.item(Insurer(p.ofHospital()), "insurer", p.Insurer) }
func insured(p *page) ledger.Leg         { return Insured(p.ofHospital(), p.Parts[0].Fund).For("") }
func insuredGov(p *page) ledger.Leg      { return Insured(p.ofHospital(), FundGov).For("") }
