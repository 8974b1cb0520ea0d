package recon

import (
	"fmt"
	"strings"
)

// Notes are kept in a form of no language, "kind=value|value", one after another,
// and become words when somebody reads them.

const (
	noteSettlement   = "settlement"
	noteSuggested    = "suggested"
	notePaidBy       = "payer"
	noteMoneyAt      = "money_at"
	noteBelongsTo    = "belongs_to"
	noteStandIn      = "stand_in"
	noteReversal     = "reversal"
	noteGroup        = "group"
	noteRestated     = "restated"
	noteEqualRows    = "equal_rows"
	noteCandidates   = "candidates"
	noteFound        = "found"
	noteFoundAgain   = "found_again"
	noteLateMatch    = "late_match"
	notePayout       = "payout"
	noteRefunded     = "refunded"
	noteAbnormal     = "abnormal"
	notePaidBack     = "paid_back"
	noteHISNone      = "his_not_booked"
	noteHISBooked    = "his_booked"
	noteHISApp       = "his_by_app"
	noteHISAppBooked = "his_booked_by_app"
	noteHISTender    = "his_other_tender"
	noteHISFiles     = "his_by_files"
	noteHISUnknown   = "his_unknown"
)

// noteWords says each kind in Chinese and English; %s stands for a value.
var noteWords = map[string][2]string{
	noteSettlement: {"%s 的结算款", "settlement of %s"},
	noteSuggested:  {"疑似：%s", "suggested: %s"},
	notePaidBy:     {"付款人 %s，终端 %s", "payer %s, terminal %s"},
	noteMoneyAt:    {"款项在 %s", "the money is at %s"},
	noteBelongsTo:  {"款项属于 %s", "the money belongs to %s"},
	noteStandIn:    {"有文件未齐，以平台数代替", "the platform stands in for a feed that is not complete"},
	noteReversal:   {"撤销", "reversal"},
	noteGroup:      {"多笔合并核对", "compared as a group"},
	noteRestated:   {"账单重出前已结算，现为：%s", "settled before the bill was restated, now %s"},
	noteEqualRows:  {"同一文件第 %s 行与第 %s 行相同", "rows %s and %s of one file are equal"},
	noteCandidates: {"候选：%s", "candidates: %s"},
	noteFound:      {"%s 对账发现", "found by the run of %s"},
	noteFoundAgain: {"%s 对账再次发现", "found again by the run of %s"},
	noteRefunded:   {"%s 对账在渠道账单中找到退款", "the run of %s found the refund in the bill"},
	noteAbnormal: {"退款异常，款项在渠道：申请退至医院结算账户，或在商户平台退至患者其他银行卡",
		"abnormal refund, the channel holds the money: apply for it to the hospital's settlement account, or to another card of the patient on the merchant platform"},
	notePaidBack:     {"%s 对账：款项已付到患者", "by the run of %s the patient has been paid"},
	noteHISNone:      {"HIS 答复：未记账", "HIS says: not booked"},
	noteHISBooked:    {"HIS 答复：已记账 %s", "HIS says: booked with %s"},
	noteHISApp:       {"未询问：HIS 由应用调用", "not asked: the app calls HIS"},
	noteHISAppBooked: {"未询问：HIS 由应用调用，应用曾报 HIS 已记账", "not asked: the app calls HIS, and has told that HIS booked it"},
	noteHISTender:    {"HIS 明细中该账单另有 %s 收款 %s，先核对支付方式", "the details of HIS have the bill by %s with %s: look for a wrong tender first"},
	noteHISFiles:     {"未询问：HIS 未接入，只收文件", "not asked: HIS is not connected, its files come alone"},
	noteHISUnknown:   {"未询问：平台无此订单", "not asked: the platform has no such payment"},
	notePayout:       {"付款单 %s %s", "payout %s %s"},
	noteLateMatch:    {"%s 对账找到对方记录，差异消除", "the run of %s found the other side"},
}

func note(kind string, values ...string) string {
	return kind + "=" + strings.Join(values, "|")
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// NoteWords is a note as people read it, lang "zh" or "en". What is no note of this
// form is returned as it is.
func NoteWords(text, lang string) string {
	parts := strings.Split(text, "; ")
	for i, part := range parts {
		kind, rest, _ := strings.Cut(part, "=")
		words, ok := noteWords[kind]
		if !ok {
			continue
		}
		form := words[0]
		if lang == "en" {
			form = words[1]
		}
		n := strings.Count(form, "%s")
		values := make([]any, n)
		for j := range values {
			values[j] = ""
		}
		for j, value := range strings.SplitN(rest, "|", n) {
			if n > 0 {
				values[j] = value
			}
		}
		if kind == noteRestated {
			values[0] = Code(rest).Words(lang)
		}
		parts[i] = fmt.Sprintf(form, values...)
	}
	if lang == "en" {
		return strings.Join(parts, "; ")
	}
	return strings.Join(parts, "；")
}
