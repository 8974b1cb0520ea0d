package payout_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
)

func TestCapitalAmountsAsOnACheque(t *testing.T) {
	for fen, want := range map[ledger.Money]string{
		0: "零元整", 1: "壹分", 10: "壹角整", 11: "壹角壹分", 100: "壹元整", 105: "壹元零伍分", 150: "壹元伍角整", 1001: "壹拾元零壹分",
		10000: "壹佰元整", 140950: "壹仟肆佰零玖元伍角整", 600714: "陆仟零柒元壹角肆分", 168032: "壹仟陆佰捌拾元叁角贰分", 1640953: "壹万陆仟肆佰零玖元伍角叁分",
		10700053: "壹拾万柒仟元伍角叁分", 1000000: "壹万元整", 10000100: "壹拾万零壹元整", 100000000: "壹佰万元整", 10000000000: "壹亿元整",
		1000000100: "壹仟万零壹元整", 10000000100: "壹亿零壹元整", 10100000000: "壹亿零壹佰万元整", 3290345: "叁万贰仟玖佰零叁元肆角伍分", -100: "负壹元整",
		1000000010000: "壹佰亿零壹佰元整",
	} {
		if got := payout.Capital(fen); got != want {
			t.Errorf("Capital(%d) = %s, want %s", fen, got, want)
		}
	}
}

// J31, J33, J34; J29; E08b; J39; J27a, J27b; J50a, J50b.
func TestEachKindIsSentProvedAndPosted(t *testing.T) {
	journals := map[string]string{
		"HOSPITAL": "J31 J33 J34", "SUBSIDY": "J29 J34", "COMPENSATION A": "E08b J34", "COMPENSATION B": "E08b J34",
		"REROUTED_REFUND A": "J39 J34", "REROUTED_REFUND B": "J39 J34", "FEE_TOPUP": "J27a J34 J27b", "RECHARGE A": "J50a J50b", "RECHARGE B": "J50a J50b",
	}
	for name, r := range requests {
		t.Run(name, func(t *testing.T) {
			h := open(t)
			before := count(h.DB, t, `SELECT count(*) FROM entries`)
			p := h.request(r)
			h.verify()
			h.approve(p)
			h.is(p.Number, payout.Approved)
			h.send(1, 0)
			h.is(p.Number, payout.Sent)
			h.verify()
			h.poll(10 * time.Second)
			h.is(p.Number, payout.Succeeded)
			h.verify()
			h.debit(p)
			h.debit(p) // the same line again is nothing
			h.verify()
			switch r.Kind {
			case payout.FeeTopUp:
				h.mustLine(payout.BankLine{Number: p.Number, Account: "8801", BankRef: "A1", Day: day, Amount: p.Amount})
			case payout.Recharge:
				h.mustLine(payout.BankLine{Number: p.Number, Account: r.MerchantNo, BankRef: "F1", Day: day, Amount: p.Amount})
			}
			h.verify()
			h.poll(time.Minute)
			receipt, err := h.Receipt(t.Context(), p.Number)
			if err != nil || string(receipt.Content) != "receipt of "+p.Number || receipt.CheckCode != "C-"+p.Number {
				t.Errorf("receipt %+v, %v", receipt, err)
			}
			var kinds []string
			rows, err := h.DB.Pool.Query(t.Context(), `SELECT kind FROM entries ORDER BY lane, seq, ord OFFSET $1`, before)
			if err != nil {
				t.Fatal(err)
			}
			if kinds, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || strings.Join(kinds, " ") != journals[name] {
				t.Errorf("posted %v, %v; want %s", kinds, err, journals[name])
			}
			if got := h.bank.sent[0]; got.Ref != p.Number || got.Amount != p.Amount || len(got.Ref) > 30 {
				t.Errorf("the bank was told %+v", got)
			}
		})
	}
}

// Scenario 60: J37 and J38, then J32 when the account is changed.
func TestAReturnedPayoutStaysFrozenUntilTheAccountIsChanged(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	h.send(1, 0)
	h.poll(10 * time.Second)
	h.debit(p)
	h.at(tuesday.Add(72 * time.Hour))
	h.back(p)
	h.back(p)
	p = h.is(p.Number, payout.Returned)
	if b := h.balances(); b["2202.H2.FROZEN"] != 30000 || b["2202.H2.AVAIL"] != 70000 || b["2244.H2"] != 0 {
		t.Errorf("%v", b)
	}
	h.verify()
	_, err := h.Request(t.Context(), "api", h.key(), wang, requests["HOSPITAL"])
	h.refused(err, payout.ErrPayee, "account H2-OWN is suspended: payout "+p.Number+" came back: AC01")
	fresh := h.payee(payout.Payee{Hospital: "H2", UseFor: "HOSPITAL", Account: "H2-NEW", Name: "民营医院", Bank: "工商银行", CNAPS: "102100099996", Replaces: p.Payee})
	if b := h.balances(); b["2202.H2.FROZEN"] != 0 || b["2202.H2.AVAIL"] != 100000 {
		t.Errorf("%v", b)
	}
	h.verify()
	_, err = h.Request(t.Context(), "api", h.key(), wang, requests["HOSPITAL"])
	h.refused(err, payout.ErrPayeeHeld, "account H2-NEW is new or was changed: it is held until 2026-09-19 10:00")
	h.at(fresh.UsableFrom)
	again := h.request(requests["HOSPITAL"])
	if again.Payee != fresh.ID {
		t.Errorf("it goes to %s, want %s", again.Payee, fresh.ID)
	}
	h.verify()
}

// What the manual has no J36 or J37 for is reversed, the last entry first.
func TestEveryOtherKindThatFailsOrComesBackIsOwedAgain(t *testing.T) {
	for name, r := range requests {
		for _, comesBack := range []bool{false, true} {
			t.Run(fmt.Sprint(name, comesBack), func(t *testing.T) {
				h := open(t)
				before := h.balances()
				p := h.request(r)
				h.approve(p)
				h.bank.answer = func(channels.Transfer) channels.TransferState { return channels.TransferUnknown }
				h.send(1, 0)
				h.is(p.Number, payout.Unknown)
				h.verify()
				want := payout.Rejected
				if comesBack {
					h.debit(p)
					h.back(p)
					want = payout.Returned
				} else {
					h.bank.state[p.Number] = channels.TransferRejected
					h.poll(10 * time.Second)
				}
				h.is(p.Number, want)
				h.verify()
				after := h.balances()
				if r.Kind == payout.Hospital && comesBack {
					before["2202.H2.AVAIL"], before["2202.H2.FROZEN"] = 70000, 30000
				}
				for code, fen := range after {
					if fen != before[code] {
						t.Errorf("%s is %s, was %s", code, fen, before[code])
					}
				}
				if r.Kind == payout.ReroutedRefund {
					h.request(r) // the debt is there again
				}
			})
		}
	}
}

func TestARejectionForTheAccountStaysFrozen(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	h.bank.reason = channels.Reason{Kind: channels.ReasonAccount, Code: "AC01", Text: "户名不符"}
	h.bank.answer = func(tr channels.Transfer) channels.TransferState {
		h.bank.state[tr.Ref] = channels.TransferRejected
		return channels.TransferRejected
	}
	h.send(1, 0)
	h.is(p.Number, payout.Unknown) // only a query proves it
	if b := h.balances(); b["2208.CUST.8801.H2"] != 30000 {
		t.Errorf("%v", b)
	}
	h.poll(10 * time.Second)
	p = h.is(p.Number, payout.Rejected)
	if b := h.balances(); !p.Frozen || b["2202.H2.FROZEN"] != 30000 || b["2208.CUST.8801.H2"] != 0 {
		t.Errorf("%+v %v", p, b)
	}
	h.verify()
	out, err := h.line(payout.BankLine{Number: p.Number, Account: "8801", BankRef: "X", Day: day, Amount: -30000})
	h.refused(errors.Join(err, out.Err), payout.ErrLine, "is rejected and line X takes its money")
}

// Scenario 59, U18, U19.
func TestAnUnknownPayoutIsAskedForAndNeverSentBlindly(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	h.bank.answer = func(channels.Transfer) channels.TransferState { return channels.TransferUnknown }
	h.send(1, 0)
	h.poll(10 * time.Second) // absent, too early
	h.poll(time.Minute)
	h.is(p.Number, payout.Unknown)
	h.send(0, 0)
	h.poll(time.Hour) // absent for longer than 15 minutes, but its statement is not there
	h.is(p.Number, payout.Unknown)
	h.send(0, 0)
	_, err := h.Refuse(t.Context(), li, p.Number, "nein")
	h.refused(err, payout.ErrState, "is unknown: what the bank may have is asked for, not refused")
	h.bank.file[day] = statement(t, day, "")
	h.at(tuesday.Add(24 * time.Hour))
	h.poll(0)
	h.is(p.Number, payout.Approved)
	h.verify()
	h.bank.answer = func(tr channels.Transfer) channels.TransferState {
		h.bank.state[tr.Ref] = channels.TransferApproval
		return channels.TransferApproval
	}
	h.send(1, 0)
	if len(h.bank.sent) != 2 || h.bank.sent[0].Ref != h.bank.sent[1].Ref {
		t.Errorf("sent %v, want the same reference twice", h.bank.sent)
	}
	at := h.is(p.Number, payout.BankApproval).StateAt
	h.poll(time.Hour)
	if got := h.is(p.Number, payout.BankApproval); !got.StateAt.Equal(at) {
		t.Errorf("its age counts from %v, want %v", got.StateAt, at)
	}
	h.bank.silent = true
	h.poll(time.Hour)
	h.is(p.Number, payout.BankApproval)
	h.send(0, 0)
	h.debit(p)
	h.is(p.Number, payout.Succeeded)
	h.verify()
}

func TestATransferInTheStatementIsNotSentAgain(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	h.approve(p)
	h.bank.answer = func(channels.Transfer) channels.TransferState { return channels.TransferUnknown }
	h.send(1, 0)
	h.bank.file[day] = statement(t, day, p.Number)
	h.poll(24 * time.Hour)
	h.is(p.Number, payout.Unknown)
	h.send(0, 0)
}

// statement is a camt.053 with one debit of 300.00, or none.
func statement(t testing.TB, d ledger.Day, ref string) string {
	t.Helper()
	entry, closing := "", "1000.00"
	if ref != "" {
		closing = "700.00"
		entry = fmt.Sprintf(`<Ntry><NtryRef>1</NtryRef><Amt Ccy="CNY">300.00</Amt><CdtDbtInd>DBIT</CdtDbtInd><Sts>BOOK</Sts><BookgDt><Dt>%[1]s</Dt></BookgDt>
			<ValDt><Dt>%[1]s</Dt></ValDt><AcctSvcrRef>B1</AcctSvcrRef><NtryDtls><TxDtls><Refs><EndToEndId>%[2]s</EndToEndId></Refs></TxDtls></NtryDtls></Ntry>`, d, ref)
	}
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"><BkToCstmrStmt><Stmt><Id>S</Id><Acct><Id><Othr><Id>8801</Id></Othr></Id><Ccy>CNY</Ccy></Acct>
<Bal><Tp><CdOrPrtry><Cd>OPBD</Cd></CdOrPrtry></Tp><Amt Ccy="CNY">1000.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>%[1]s</Dt></Dt></Bal>
<Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp><Amt Ccy="CNY">%[2]s</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>%[1]s</Dt></Dt></Bal>
%[3]s</Stmt></BkToCstmrStmt></Document>`, d, closing, entry)
}
