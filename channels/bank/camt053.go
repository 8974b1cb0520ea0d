package bank

import (
	"strings"

	"github.com/clearward/clearward/channels"
)

// The elements of camt.053 that are read, in the forms of its versions 02 to 08:
// a state is a text or a Cd, a party has a name or a Pty with one.

type xmlAmount struct {
	Ccy  string `xml:"Ccy,attr"`
	Text string `xml:",chardata"`
}

type xmlDate struct {
	Dt   string `xml:"Dt"`
	DtTm string `xml:"DtTm"`
}

type xmlAccount struct {
	Other string `xml:"Id>Othr>Id"`
	IBAN  string `xml:"Id>IBAN"`
	Ccy   string `xml:"Ccy"`
}

func (a *xmlAccount) number() string {
	if no := strings.TrimSpace(a.Other); no != "" {
		return no
	}
	return strings.TrimSpace(a.IBAN)
}

type xmlBalance struct {
	Kind      string    `xml:"Tp>CdOrPrtry>Cd"`
	Amt       xmlAmount `xml:"Amt"`
	CdtDbtInd string    `xml:"CdtDbtInd"`
	Dt        xmlDate   `xml:"Dt"`
}

type xmlTotal struct {
	Count string `xml:"NbOfNtries"`
	Sum   string `xml:"Sum"`
}

type xmlSummary struct {
	All     *xmlTotal `xml:"TtlNtries"`
	Credits *xmlTotal `xml:"TtlCdtNtries"`
	Debits  *xmlTotal `xml:"TtlDbtNtries"`
}

type xmlParty struct {
	Nm  string `xml:"Nm"`
	Pty string `xml:"Pty>Nm"`
}

func (p *xmlParty) name() string {
	if name := strings.TrimSpace(p.Nm); name != "" {
		return name
	}
	return strings.TrimSpace(p.Pty)
}

type xmlTx struct {
	AcctSvcrRef string     `xml:"Refs>AcctSvcrRef"`
	EndToEndID  string     `xml:"Refs>EndToEndId"`
	Dbtr        xmlParty   `xml:"RltdPties>Dbtr"`
	Cdtr        xmlParty   `xml:"RltdPties>Cdtr"`
	DbtrAcct    xmlAccount `xml:"RltdPties>DbtrAcct"`
	CdtrAcct    xmlAccount `xml:"RltdPties>CdtrAcct"`
	Text        []string   `xml:"RmtInf>Ustrd"`
	Return      *struct {
		Code string `xml:"Rsn>Cd"`
		Own  string `xml:"Rsn>Prtry"`
	} `xml:"RtrInf"`
}

type xmlEntry struct {
	Amt       xmlAmount `xml:"Amt"`
	CdtDbtInd string    `xml:"CdtDbtInd"`
	Sts       struct {
		Text string `xml:",chardata"`
		Cd   string `xml:"Cd"`
	} `xml:"Sts"`
	BookgDt     xmlDate `xml:"BookgDt"`
	ValDt       xmlDate `xml:"ValDt"`
	AcctSvcrRef string  `xml:"AcctSvcrRef"`
	Domain      string  `xml:"BkTxCd>Domn>Cd"`
	Family      string  `xml:"BkTxCd>Domn>Fmly>Cd"`
	SubFamily   string  `xml:"BkTxCd>Domn>Fmly>SubFmlyCd"`
	Own         string  `xml:"BkTxCd>Prtry>Cd"`
	Txs         []xmlTx `xml:"NtryDtls>TxDtls"`
	Info        string  `xml:"AddtlNtryInf"`
}

func (e *xmlEntry) status() string {
	if cd := strings.TrimSpace(e.Sts.Cd); cd != "" {
		return cd
	}
	return strings.TrimSpace(e.Sts.Text)
}

// ref is the bank's reference of the entry, or of its only transaction.
func (e *xmlEntry) ref() string {
	if ref := strings.TrimSpace(e.AcctSvcrRef); ref != "" || len(e.Txs) != 1 {
		return ref
	}
	return strings.TrimSpace(e.Txs[0].AcctSvcrRef)
}

func (e *xmlEntry) code() string {
	if e.Domain == "" {
		return strings.TrimSpace(e.Own)
	}
	return strings.TrimSpace(e.Domain) + "/" + strings.TrimSpace(e.Family) + "/" + strings.TrimSpace(e.SubFamily)
}

// describe fills in who, what for and what it returns. An entry that bundles
// several transactions carries a reference only where they share it.
func (e *xmlEntry) describe(line *channels.StatementLine) {
	var texts []string
	returned := strings.TrimSpace(e.SubFamily) == "RRTN"
	for i := range e.Txs {
		tx := &e.Txs[i]
		party, account := &tx.Dbtr, &tx.DbtrAcct
		if line.Amount < 0 {
			party, account = &tx.Cdtr, &tx.CdtrAcct
		}
		id := strings.TrimSpace(tx.EndToEndID)
		if id == "NOTPROVIDED" {
			id = ""
		}
		if i == 0 {
			line.EndToEndID, line.Counterparty, line.CounterpartyAcc = id, party.name(), account.number()
		} else if id != line.EndToEndID {
			line.EndToEndID = ""
		}
		for _, text := range tx.Text {
			texts = append(texts, strings.TrimSpace(text))
		}
		if tx.Return != nil {
			returned = true
			if line.ReturnReason = strings.TrimSpace(tx.Return.Code); line.ReturnReason == "" {
				line.ReturnReason = strings.TrimSpace(tx.Return.Own)
			}
		}
	}
	if len(texts) == 0 && e.Info != "" {
		texts = []string{strings.TrimSpace(e.Info)}
	}
	line.Text = strings.Join(texts, " ")
	if returned {
		line.ReturnOf = line.EndToEndID
	}
}
