package livebank_test

import (
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/livebank"
)

func TestWhatChannelsPayOutArrivesAtTenWithNumberAndDate(t *testing.T) {
	w := start(t, 0)
	day := monday.Add(1)
	w.comes[day] = []livebank.Arrival{{Channel: channels.WeChat, Merchant: "1900000109", Day: monday, Fen: 10_712_38}, {Channel: channels.Alipay, Merchant: "2088000000000002", Day: monday, Fen: 5_044_58}}
	w.set(day, "09:59:59")
	w.balance(other, 500_00, 500_00)
	w.set(day, "10:00:00")
	w.balance(other, 500_00+10_712_38+5_044_58, 500_00+10_712_38+5_044_58)
	w.set(day.Add(1), "08:00:00")
	sum, lines := w.statement(other, day)
	if len(lines) != 2 || lines[0].EndToEndID != "WXSETTLE20260914" || lines[0].Text != "微信支付商户结算 1900000109 20260914" || lines[0].Counterparty != "财付通支付科技有限公司" ||
		lines[1].Text != "支付宝提现 2088000000000002 20260914" || sum.Closing != 500_00+10_712_38+5_044_58 {
		t.Errorf("%+v %+v", sum, lines)
	}
}

// BANK_FEE, UNKNOWN_DEBIT, BANK_UNIDENTIFIED, BANK_SHORT, BANK_MISSING: the statement
// proves itself whatever stands in it.
func TestTheStatementHasWhatOthersMovedAndWhatFaultsMakeOfIt(t *testing.T) {
	w := start(t, 0)
	w.plant(`{"do":"ROW_AMOUNT","account":"6801","text":"1900000109","fen":-10000}`)
	w.comes[monday.Add(1)] = []livebank.Arrival{{Channel: channels.WeChat, Merchant: "1900000109", Day: monday, Fen: 500_00}}
	w.call("POST", "/bank/credit", `{"account":"6801","fen":777,"party":"财付通支付科技有限公司","party_account":"243300133","text":"往来款"}`, nil)
	w.call("POST", "/bank/debit", `{"account":"6801","fen":1200,"code":"CHRG","text":"转账手续费"}`, nil)
	var late struct{ Ref string }
	w.call("POST", "/bank/debit", `{"account":"6801","fen":5000,"party":"某某","text":"扣款"}`, &late)
	var lost struct{ Ref string }
	w.call("POST", "/bank/credit", `{"account":"6801","fen":100,"text":"往来款"}`, &lost)
	w.plant(`{"do":"ROW_LATE","ref":"` + late.Ref + `"}`)
	w.plant(`{"do":"ROW_MISSING","ref":"` + lost.Ref + `"}`)
	w.set(monday.Add(2), "08:00:00")
	first, lines := w.statement(other, monday)
	if len(lines) != 2 || lines[0].Amount != 777 || lines[0].EndToEndID != "" || lines[1].Code != "PMNT/ICDT/CHRG" || lines[1].Amount != -1200 {
		t.Errorf("%+v", lines)
	}
	second, lines := w.statement(other, monday.Add(1))
	if len(lines) != 2 || lines[0].Ref != late.Ref || lines[0].Amount != -5000 || lines[0].BookDay != monday.Add(1) || lines[0].ValueDay != monday || lines[1].Amount != 400_00 {
		t.Errorf("%+v", lines)
	}
	if first.Opening != 500_00 || first.Closing != second.Opening || second.Closing != 500_00+777-1200-5000+400_00 {
		t.Errorf("%+v, %+v", first, second)
	}
	var rows []livebank.EntryView
	if w.call("GET", "/bank/entries?account=6801&day=2026-09-15", "", &rows); len(rows) != 2 || rows[1].Fen != 400_00 {
		t.Errorf("%+v", rows)
	}
	var all []livebank.AccountView
	if w.call("GET", "/bank/accounts", "", &all); len(all) != 2 || all[1].BookedFen != 500_00+777-1200-5000+100+500_00 {
		t.Errorf("%+v", all)
	}
}

func TestATransferThatLeavesTheBankCostsAFee(t *testing.T) {
	w := start(t, 50)
	w.send(transfer("HB1", 300_00, "ICBC-1", "民营医院"), transfer("HB2", 100_00, other, "海天示范医院"))
	w.at.Add(3)
	w.balance(ours, 100_000_00-400_50, 100_000_00-400_50)
	w.set(monday.Add(1), "08:00:00")
	_, lines := w.statement(ours, monday)
	if len(lines) != 3 || lines[1].Code != "PMNT/ICDT/CHRG" || lines[1].Amount != -50 || lines[1].EndToEndID != "FEEHB1" {
		t.Errorf("%+v", lines)
	}
}
