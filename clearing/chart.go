package clearing

import (
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// PlatformBook is the book of the platform's ledger. The book of a hospital's
// voucher proposals is another.
const PlatformBook ledger.Book = 1

// The chart of accounts, spec/accounting.md 3.2: one constructor per family.
// There is one account per hospital, merchant number or bank account; an
// order, refund, case or payout is the reference of a leg, never part of a code.

func asset(set ledger.Set, code string) ledger.Account {
	return ledger.NewAccount(PlatformBook, set, ledger.Asset, code)
}

func liability(set ledger.Set, code string) ledger.Account {
	return ledger.NewAccount(PlatformBook, set, ledger.Liability, code)
}

func expense(code string) ledger.Account {
	return ledger.NewAccount(PlatformBook, ledger.Own, ledger.Expense, code)
}

// shortChannel is the name of a channel inside account codes.
func shortChannel(channel string) string {
	switch channel {
	case channels.WeChat:
		return "WX"
	case channels.Alipay:
		return "ALI"
	case channels.UnionPay:
		return "UP"
	}
	return channel
}

// number returns "1122.WX.1900000109".
func (m *Merchant) number(family string) string {
	return family + "." + shortChannel(m.Channel) + "." + m.No
}

// BankMoney is 1002 银行存款: on a hospital's settlement account only the
// channel's money that is not yet released, never the whole statement.
func BankMoney(b *BankAccount) ledger.Account {
	switch b.Role {
	case OwnAccount:
		return asset(ledger.Own, "1002.OWN."+b.Account)
	case Custody:
		return asset(ledger.Agency, "1002.CUST."+b.Account+"."+b.Hospital).Floored()
	}
	return asset(ledger.Agency, "1002.HOSP."+b.Account)
}

// BankPayment is 2208 银行付款在途: payouts that the bank has, or may have.
func BankPayment(b *BankAccount) ledger.Account {
	switch b.Role {
	case OwnAccount:
		return liability(ledger.Own, "2208.OWN."+b.Account)
	case Custody:
		return liability(ledger.Agency, "2208.CUST."+b.Account+"."+b.Hospital)
	}
	return liability(ledger.Agency, "2208.HOSP."+b.Account)
}

// Unidentified is 2243 待查入账: credits that no settlement explains.
func Unidentified(b *BankAccount) ledger.Account {
	code := "2243." + b.Account
	if b.Role == Custody {
		code += "." + b.Hospital
	}
	return liability(ledger.Agency, code)
}

// bankCharges is 6603 财务费用—银行手续费 of one account.
func bankCharges(b *BankAccount) ledger.Account { return expense("6603." + b.Account) }

// ChannelMoney is 1122 应收渠道款: what the channel holds for the hospital.
func ChannelMoney(m *Merchant) ledger.Account { return asset(ledger.Agency, m.number("1122")) }

// Withdrawn is 1124 渠道提现在途: left the channel, not yet at the bank.
func Withdrawn(m *Merchant) ledger.Account { return asset(ledger.Agency, m.number("1124")) }

// RefundTaken is 1125 退款在途—渠道已扣: taken by the channel, not yet final.
func RefundTaken(m *Merchant) ledger.Account { return asset(ledger.Agency, m.number("1125")) }

// RefundOwed is 2205 退款在途: owed to patients until the refund is final.
func RefundOwed(m *Merchant) ledger.Account { return liability(ledger.Agency, m.number("2205")) }

// FeeOwed is 2206 应付渠道手续费. It is the platform's own debt where the
// platform bears the fee; where the hospital does, it is agency money and has
// an account of its own, so that a change of bearer leaves the old days alone.
func FeeOwed(m *Merchant, bearer Bearer) ledger.Account {
	if bearer == ByHospital {
		return liability(ledger.Agency, m.number("2206")+".HOSP")
	}
	return liability(ledger.Own, m.number("2206"))
}

// ChannelFee is 6401 渠道手续费: passed on to its bearer at once, so it is zero
// after every batch.
func ChannelFee(channel string) ledger.Account { return expense("6401." + shortChannel(channel)) }

// AwaitingHIS is 2204 HIS待确认款: paid, not yet acknowledged by HIS.
func AwaitingHIS(hospital string) ledger.Account {
	return liability(ledger.Agency, "2204."+hospital)
}

// Pending is 2202.PEND 待结算. It may fall below zero in mode A.
func Pending(hospital string) ledger.Account {
	return liability(ledger.Agency, "2202."+hospital+".PEND")
}

// Available is 2202.AVAIL 可结算: proved by reconciliation.
func Available(hospital string) ledger.Account {
	return liability(ledger.Agency, "2202."+hospital+".AVAIL").Floored()
}

// Frozen is 2202.FROZEN 冻结: held for a payout.
func Frozen(hospital string) ledger.Account {
	return liability(ledger.Agency, "2202."+hospital+".FROZEN").Floored()
}

// Short is 1221 其他应收款—短款, by case.
func Short(hospital string) ledger.Account { return asset(ledger.Agency, "1221."+hospital) }

// Long is 2241 其他应付款—长款, by case.
func Long(hospital string) ledger.Account { return liability(ledger.Agency, "2241."+hospital) }

// Dispute is 1222 应收渠道差错款, by case.
func Dispute(hospital string) ledger.Account { return asset(ledger.Agency, "1222."+hospital) }

// Foreign is 2210 应付他方款: rows of another business on the same number.
func Foreign(hospital string) ledger.Account { return liability(ledger.Agency, "2210."+hospital) }

// Returned is 2244 退票待处理, by payout.
func Returned(hospital string) ledger.Account { return liability(ledger.Agency, "2244."+hospital) }

// Recharge is 1127 资金调拨在途 of a hospital's money, by payout number.
func Recharge(hospital string) ledger.Account { return asset(ledger.Agency, "1127."+hospital) }

// Advance is 1225 应收医院垫款, mode B only.
func Advance(hospital string) ledger.Account { return asset(ledger.Own, "1225."+hospital) }

// Compensation is 2245 应付医院差错赔付, by case.
func Compensation(hospital string) ledger.Account { return liability(ledger.Own, "2245."+hospital) }

// SubsidyOwed is 2242 应付医院手续费补贴. It may be a debit: more fee was
// returned than billed.
func SubsidyOwed(hospital string) ledger.Account { return liability(ledger.Own, "2242."+hospital) }

// SubsidyCost is 6601 销售费用—手续费补贴.
func SubsidyCost(hospital string) ledger.Account { return expense("6601." + hospital) }

// Loss is 6711 营业外支出—差错损失, by case.
func Loss(hospital string) ledger.Account { return expense("6711." + hospital) }

// ServiceReceivable is 1122.SVC 应收服务费.
func ServiceReceivable(hospital string) ledger.Account {
	return asset(ledger.Own, "1122.SVC."+hospital)
}

// ServiceIncome is 6001 主营业务收入.
func ServiceIncome(hospital string) ledger.Account {
	return ledger.NewAccount(PlatformBook, ledger.Own, ledger.Income, "6001."+hospital)
}

// AgencySide is 1998 本系统往来, the agency's half of the pair that carries
// what crosses the sets. With OwnSide it sums to zero at every posting.
func AgencySide(hospital string) ledger.Account { return asset(ledger.Agency, "1998."+hospital) }

// OwnSide is 2998 本系统往来, the platform's half of the pair.
func OwnSide(hospital string) ledger.Account { return liability(ledger.Own, "2998."+hospital) }

func ownTransfer() ledger.Account { return asset(ledger.Own, "1127.OWN") }
func vat() ledger.Account         { return liability(ledger.Own, "2221.VAT") }
func rounding() ledger.Account    { return liability(ledger.Own, "2299") }

// Cash is 9001 窗口现金, by cashier.
func Cash(hospital string) ledger.Account { return asset(ledger.Memo, "9001."+hospital) }

// CashOnTheWay is 9002 送存在途.
func CashOnTheWay(hospital string) ledger.Account { return asset(ledger.Memo, "9002."+hospital) }

// CashContra is 9009 医院自收款.
func CashContra(hospital string) ledger.Account { return liability(ledger.Memo, "9009."+hospital) }

// Fund is a part of what an insurance bureau owes, or the reason why a part of
// it is open.
type Fund string

// The funds and reasons of 9131 应收医保.
const (
	FundGov    Fund = "GOV"    // 统筹
	FundAcct   Fund = "ACCT"   // 个账
	FundOther  Fund = "OTH"    // 其他
	FundRetain Fund = "RETAIN" // 质保金
	FundDenied Fund = "DENIED" // 拒付
	FundDiff   Fund = "DIFF"   // 结算差额
)

var funds = []Fund{FundGov, FundAcct, FundOther, FundRetain, FundDenied, FundDiff}

// Insured is 9131 应收医保, one account per fund.
func Insured(hospital string, fund Fund) ledger.Account {
	return asset(ledger.Memo, "9131."+string(fund)+"."+hospital)
}

// Insurer is 9132 应收商保, by insurer.
func Insurer(hospital string) ledger.Account { return asset(ledger.Memo, "9132."+hospital) }

// InsuranceContra is 9207 应付医院—保险.
func InsuranceContra(hospital string) ledger.Account {
	return liability(ledger.Memo, "9207."+hospital)
}

// accounts lists every account that the master data calls for.
func (d *Directory) accounts() []ledger.Account {
	list := []ledger.Account{vat(), rounding(), ownTransfer()}
	for _, channel := range channelNames {
		list = append(list, ChannelFee(channel))
	}
	for _, h := range d.Hospitals {
		list = append(list, hospitalAccounts(h.Code)...)
	}
	for _, m := range d.Merchants {
		list = append(list, ChannelMoney(m), Withdrawn(m), RefundTaken(m), RefundOwed(m),
			FeeOwed(m, ByPlatform), FeeOwed(m, ByHospital))
	}
	for i := range d.Banks {
		list = append(list, bankAccounts(&d.Banks[i])...)
	}
	return list
}

func hospitalAccounts(h string) []ledger.Account {
	list := []ledger.Account{
		AwaitingHIS(h), Pending(h), Available(h), Frozen(h), Short(h), Long(h), Dispute(h), Foreign(h), Returned(h),
		Recharge(h), Advance(h), Compensation(h), SubsidyOwed(h), SubsidyCost(h), Loss(h), ServiceReceivable(h),
		ServiceIncome(h), AgencySide(h), OwnSide(h), Cash(h), CashOnTheWay(h), CashContra(h), Insurer(h), InsuranceContra(h),
	}
	for _, fund := range funds {
		list = append(list, Insured(h, fund))
	}
	return list
}

func bankAccounts(b *BankAccount) []ledger.Account {
	list := []ledger.Account{BankMoney(b), BankPayment(b)}
	if b.Role != OwnAccount {
		list = append(list, Unidentified(b))
	}
	if b.Role != Settlement { // a fee on the hospital's own account is the hospital's (H06)
		list = append(list, bankCharges(b))
	}
	return list
}
