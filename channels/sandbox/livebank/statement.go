package livebank

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/clearward/clearward/ledger"
)

// The elements of camt.053.001.02 that a bank fills in, in their order.

type statementFile struct {
	XMLName xml.Name  `xml:"urn:iso:std:iso:20022:tech:xsd:camt.053.001.02 Document"`
	MsgID   string    `xml:"BkToCstmrStmt>GrpHdr>MsgId"`
	Made    string    `xml:"BkToCstmrStmt>GrpHdr>CreDtTm"`
	Stmt    statement `xml:"BkToCstmrStmt>Stmt"`
}

type statement struct {
	ID       string       `xml:"Id"`
	Number   int          `xml:"ElctrncSeqNb"`
	Made     string       `xml:"CreDtTm"`
	From     string       `xml:"FrToDt>FrDtTm"`
	To       string       `xml:"FrToDt>ToDtTm"`
	Account  string       `xml:"Acct>Id>Othr>Id"`
	Currency string       `xml:"Acct>Ccy"`
	Name     string       `xml:"Acct>Nm"`
	BIC      string       `xml:"Acct>Svcr>FinInstnId>BIC"`
	Balances []balanceRow `xml:"Bal"`
	Credits  total        `xml:"TxsSummry>TtlCdtNtries"`
	Debits   total        `xml:"TxsSummry>TtlDbtNtries"`
	Rows     []entryRow   `xml:"Ntry"`
}

type money struct {
	Currency string `xml:"Ccy,attr"`
	Yuan     string `xml:",chardata"`
}

type balanceRow struct {
	Kind string `xml:"Tp>CdOrPrtry>Cd"`
	Amt  money  `xml:"Amt"`
	Side string `xml:"CdtDbtInd"`
	Day  string `xml:"Dt>Dt"`
}

type total struct {
	Count int    `xml:"NbOfNtries"`
	Sum   string `xml:"Sum"`
}

type entryRow struct {
	N         int        `xml:"NtryRef"`
	Amt       money      `xml:"Amt"`
	Side      string     `xml:"CdtDbtInd"`
	Status    string     `xml:"Sts"`
	Booked    string     `xml:"BookgDt>Dt"`
	Value     string     `xml:"ValDt>Dt"`
	Ref       string     `xml:"AcctSvcrRef"`
	Domain    string     `xml:"BkTxCd>Domn>Cd"`
	Family    string     `xml:"BkTxCd>Domn>Fmly>Cd"`
	SubFamily string     `xml:"BkTxCd>Domn>Fmly>SubFmlyCd"`
	TxRef     string     `xml:"NtryDtls>TxDtls>Refs>AcctSvcrRef"`
	EndToEnd  string     `xml:"NtryDtls>TxDtls>Refs>EndToEndId"`
	Parties   *parties   `xml:"NtryDtls>TxDtls>RltdPties"`
	Text      string     `xml:"NtryDtls>TxDtls>RmtInf>Ustrd,omitempty"`
	Return    *returnRow `xml:"NtryDtls>TxDtls>RtrInf"`
}

// parties names the other side: who paid a credit, who got a debit.
type parties struct {
	Debtor   *party `xml:"Dbtr"`
	DebtorAt *held  `xml:"DbtrAcct"`
	Creditor *party `xml:"Cdtr"`
	CreditAt *held  `xml:"CdtrAcct"`
}

type party struct {
	Name string `xml:"Nm"`
}

type held struct {
	No string `xml:"Id>Othr>Id"`
}

type returnRow struct {
	Code string `xml:"Rsn>Cd"`
	Text string `xml:"AddtlInf"`
}

// sided is an amount without its sign, and its side.
func sided(fen int64) (money, string) {
	if fen < 0 {
		return money{"CNY", ledger.Money(-fen).String()}, "DBIT"
	}
	return money{"CNY", ledger.Money(fen).String()}, "CRDT"
}

func balanceOf(kind string, fen int64, day ledger.Day) balanceRow {
	b := balanceRow{Kind: kind, Day: day.String()}
	b.Amt, b.Side = sided(fen)
	return b
}

// statement is the camt.053 of an account's day.
func (s *Server) statement(on *account, day ledger.Day) ([]byte, error) {
	opening, rows := on.rows(day)
	closing := opening
	made := day.Add(1).String() + "T02:00:00+08:00"
	d := statementFile{MsgID: fmt.Sprintf("STMT%s-%s", day.Compact(), on.No), Made: made, Stmt: statement{
		ID: day.Compact() + "-001", Number: day.Start().YearDay(), Made: made, From: day.String() + "T00:00:00+08:00", To: day.String() + "T23:59:59+08:00",
		Account: on.No, Currency: "CNY", Name: on.Name, BIC: s.cfg.BIC,
	}}
	var in, out int64
	for i, e := range rows {
		_, fen, _ := e.row()
		closing += fen
		if fen < 0 {
			d.Stmt.Debits.Count, out = d.Stmt.Debits.Count+1, out-fen
		} else {
			d.Stmt.Credits.Count, in = d.Stmt.Credits.Count+1, in+fen
		}
		d.Stmt.Rows = append(d.Stmt.Rows, e.statementRow(i+1, fen, day))
	}
	d.Stmt.Credits.Sum, d.Stmt.Debits.Sum = ledger.Money(in).String(), ledger.Money(out).String()
	d.Stmt.Balances = []balanceRow{balanceOf("OPBD", opening, day), balanceOf("CLBD", closing, day)}
	body, err := xml.Marshal(&d)
	return append([]byte(xml.Header), body...), err
}

func (e *entry) statementRow(n int, fen int64, day ledger.Day) entryRow {
	family, sub, _ := strings.Cut(e.Code, "/")
	row := entryRow{N: n, Status: "BOOK", Booked: day.String(), Value: dayOf(e.At).String(), Ref: e.bankRef(), TxRef: e.bankRef(), EndToEnd: e.EndToEnd,
		Domain: "PMNT", Family: family, SubFamily: sub, Text: e.Text}
	row.Amt, row.Side = sided(fen)
	switch {
	case e.Party == "":
	case fen > 0:
		row.Parties = &parties{Debtor: &party{e.Party}, DebtorAt: &held{e.PartyAcc}}
	default:
		row.Parties = &parties{Creditor: &party{e.Party}, CreditAt: &held{e.PartyAcc}}
	}
	if e.Returned != "" {
		row.Return = &returnRow{e.Returned, reasonText(e.Returned)}
	}
	return row
}
