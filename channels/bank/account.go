package bank

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/clearward/clearward/ledger"
)

// The messages about an account: camt.060 asks for a report, camt.052 is today's
// balance; the day's statement is the camt.053 of ReadStatement.

// The reports that a camt.060 asks for.
const (
	FormBalance   = "camt.052.001.02"
	FormStatement = "camt.053.001.02"
)

// AccountRequest is a camt.060.
type AccountRequest struct {
	XMLName xml.Name `xml:"urn:iso:std:iso:20022:tech:xsd:camt.060.001.03 Document"`
	MsgID   string   `xml:"AcctRptgReq>GrpHdr>MsgId"`
	Made    string   `xml:"AcctRptgReq>GrpHdr>CreDtTm"`
	Form    string   `xml:"AcctRptgReq>RptgReq>ReqdMsgNmId"`
	Account string   `xml:"AcctRptgReq>RptgReq>Acct>Id>Othr>Id"`
	From    string   `xml:"AcctRptgReq>RptgReq>RptgPrd>FrToDt>FrDt"` // 2026-09-16
	To      string   `xml:"AcctRptgReq>RptgReq>RptgPrd>FrToDt>ToDt"`
	Kind    string   `xml:"AcctRptgReq>RptgReq>RptgPrd>Tp"`
}

// ReadAccountRequest reads a camt.060, as the bank does.
func ReadAccountRequest(body []byte) (r AccountRequest, err error) { return r, decodeWhole(body, &r) }

type camtBalance struct {
	XMLName xml.Name     `xml:"urn:iso:std:iso:20022:tech:xsd:camt.052.001.02 Document"`
	MsgID   string       `xml:"BkToCstmrAcctRpt>GrpHdr>MsgId"`
	Made    string       `xml:"BkToCstmrAcctRpt>GrpHdr>CreDtTm"`
	ID      string       `xml:"BkToCstmrAcctRpt>Rpt>Id"`
	RptMade string       `xml:"BkToCstmrAcctRpt>Rpt>CreDtTm"`
	Account string       `xml:"BkToCstmrAcctRpt>Rpt>Acct>Id>Othr>Id"`
	Bal     []xmlBalance `xml:"BkToCstmrAcctRpt>Rpt>Bal"`
}

// Balance is a camt.052: ITBD what is booked, ITAV what may leave.
type Balance struct {
	Account           string
	Made              string // RFC 3339
	Booked, Available ledger.Money
}

// XML writes the report, as the bank does.
func (b *Balance) XML() ([]byte, error) {
	d := camtBalance{MsgID: "BAL" + b.Account, Made: b.Made, ID: "BAL" + b.Account, RptMade: b.Made, Account: b.Account}
	for _, x := range []struct {
		kind string
		fen  ledger.Money
	}{{"ITBD", b.Booked}, {"ITAV", b.Available}} {
		side := "CRDT"
		if x.fen < 0 {
			side = "DBIT"
		}
		d.Bal = append(d.Bal, xmlBalance{Kind: x.kind, Amt: xmlAmount{"CNY", x.fen.Abs().String()}, CdtDbtInd: side, Dt: xmlDate{DtTm: b.Made}})
	}
	return document(&d)
}

// ReadBalance reads a camt.052; both balances must be there, once.
func ReadBalance(body []byte) (Balance, error) {
	var d camtBalance
	if err := decodeWhole(body, &d); err != nil {
		return Balance{}, err
	}
	b := Balance{Account: d.Account, Made: d.Made}
	seen := map[string]bool{}
	for _, x := range d.Bal {
		fen, err := ledger.ParseYuan(strings.TrimSpace(x.Amt.Text))
		if err != nil || fen < 0 || x.Amt.Ccy != "CNY" || seen[x.Kind] || x.CdtDbtInd != "CRDT" && x.CdtDbtInd != "DBIT" {
			return Balance{}, fmt.Errorf("%w: balance %s is not once an amount in CNY with its side", ErrMessage, x.Kind)
		}
		if x.CdtDbtInd == "DBIT" {
			fen = -fen
		}
		seen[x.Kind] = true
		switch x.Kind {
		case "ITBD":
			b.Booked = fen
		case "ITAV":
			b.Available = fen
		}
	}
	if !seen["ITBD"] || !seen["ITAV"] {
		return Balance{}, fmt.Errorf("%w: the balances ITBD and ITAV must be there", ErrMessage)
	}
	return b, nil
}

// Paper is an electronic receipt (电子回单) on the wire, of our own contract.
type Paper struct {
	XMLName   xml.Name `xml:"Receipt"`
	Ref       string   `xml:"EndToEndId"`
	Name      string   `xml:"Name"`
	CheckCode string   `xml:"CheckCode"`
	Content   string   `xml:"Content"` // base64
}
