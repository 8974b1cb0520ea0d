package bank

import (
	"encoding/xml"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// ErrMessage is wrapped where a message of ISO 20022 breaks a rule.
var ErrMessage = errors.New("message refused")

// Order is a pain.001: transfers in one message.
type Order struct {
	Batch     string
	At        time.Time
	BIC       string // of our bank
	Transfers []channels.Transfer
}

type painOrder struct {
	XMLName xml.Name   `xml:"urn:iso:std:iso:20022:tech:xsd:pain.001.001.03 Document"`
	MsgID   string     `xml:"CstmrCdtTrfInitn>GrpHdr>MsgId"`
	Made    string     `xml:"CstmrCdtTrfInitn>GrpHdr>CreDtTm"`
	Count   string     `xml:"CstmrCdtTrfInitn>GrpHdr>NbOfTxs"`
	Sum     string     `xml:"CstmrCdtTrfInitn>GrpHdr>CtrlSum"`
	Name    string     `xml:"CstmrCdtTrfInitn>GrpHdr>InitgPty>Nm"`
	Parts   []painPart `xml:"CstmrCdtTrfInitn>PmtInf"`
}

type painPart struct {
	ID      string     `xml:"PmtInfId"`
	Method  string     `xml:"PmtMtd"`
	Bundled string     `xml:"BtchBookg"`
	Count   string     `xml:"NbOfTxs"`
	Sum     string     `xml:"CtrlSum"`
	Day     string     `xml:"ReqdExctnDt"`
	Name    string     `xml:"Dbtr>Nm"`
	Account string     `xml:"DbtrAcct>Id>Othr>Id"`
	Ccy     string     `xml:"DbtrAcct>Ccy"`
	BIC     string     `xml:"DbtrAgt>FinInstnId>BIC"`
	List    []painItem `xml:"CdtTrfTxInf"`
}

type painItem struct {
	InstrID  string      `xml:"PmtId>InstrId"`
	EndToEnd string      `xml:"PmtId>EndToEndId"`
	Amount   xmlAmount   `xml:"Amt>InstdAmt"`
	BIC      string      `xml:"CdtrAgt>FinInstnId>BIC,omitempty"`
	Member   *painMember `xml:"CdtrAgt>FinInstnId>ClrSysMmbId"`
	Bank     string      `xml:"CdtrAgt>FinInstnId>Nm,omitempty"`
	Name     string      `xml:"Cdtr>Nm"`
	Account  string      `xml:"CdtrAcct>Id>Othr>Id"`
	Text     string      `xml:"RmtInf>Ustrd"`
}

// painMember and painReason are left out whole by a nil pointer: omitempty on a
// path would still write its parents.
type painMember struct {
	System string `xml:"ClrSysId>Cd"`
	No     string `xml:"MmbId"`
}

type painReason struct {
	Code string   `xml:"Rsn>Cd"`
	Text []string `xml:"AddtlInf"`
}

var (
	refForm   = regexp.MustCompile(`^[0-9A-Za-z]{1,30}$`)
	batchForm = regexp.MustCompile(`^[0-9A-Za-z-]{1,32}$`)
	cnapsForm = regexp.MustCompile(`^[0-9]{12}$`)
	accForm   = regexp.MustCompile(`^[0-9A-Za-z-]{1,34}$`)
)

// wrong names the rule that a transfer breaks, "" for none.
func wrong(t *channels.Transfer) string {
	text := func(s string, most int) bool {
		return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= most
	}
	switch {
	case !refForm.MatchString(t.Ref):
		return "the reference has 1 to 30 letters and digits"
	case t.Amount <= 0 || t.Amount > channels.MaxAmount:
		return "the amount is above zero and at most one billion yuan"
	case !accForm.MatchString(t.FromAccount) || !accForm.MatchString(t.ToAccount):
		return "an account number has 1 to 34 letters, digits and hyphens"
	case !text(t.FromName, 70) || !text(t.ToName, 70):
		return "payer and payee have a name of at most 70 characters"
	case t.ToBankCode != "" && !cnapsForm.MatchString(t.ToBankCode):
		return "a CNAPS number (联行号) has 12 digits"
	case !text(t.Text, 140):
		return "the purpose has 1 to 140 characters"
	case t.RequestedDay == 0:
		return "the day of execution is missing"
	}
	return ""
}

// check refuses an order that no bank would take, before it is sent.
func (o *Order) check() error {
	if !batchForm.MatchString(o.Batch) || len(o.Transfers) == 0 {
		return fmt.Errorf("%w: a batch has a number of 1 to 32 letters, digits and hyphens, and a transfer", ErrMessage)
	}
	seen := map[string]bool{}
	for i := range o.Transfers {
		t := &o.Transfers[i]
		if rule := wrong(t); rule != "" {
			return fmt.Errorf("%w: transfer %s: %s", ErrMessage, t.Ref, rule)
		}
		if seen[t.Ref] {
			return fmt.Errorf("%w: transfer %s is there twice", ErrMessage, t.Ref)
		}
		seen[t.Ref] = true
	}
	return nil
}

func sumOf(list []channels.Transfer) (sum ledger.Money, err error) {
	for i := range list {
		if sum, err = sum.Add(list[i].Amount); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// XML writes the order. Transfers of one account and day stand in one PmtInf.
func (o *Order) XML() ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	sum, err := sumOf(o.Transfers)
	if err != nil {
		return nil, err
	}
	d := painOrder{MsgID: o.Batch, Made: stamp(o.At), Count: strconv.Itoa(len(o.Transfers)), Sum: sum.String(), Name: o.Transfers[0].FromName}
	type part struct {
		account, name string
		day           ledger.Day
	}
	groups, order := map[part][]channels.Transfer{}, []part(nil)
	for _, t := range o.Transfers {
		p := part{t.FromAccount, t.FromName, t.RequestedDay}
		if groups[p] == nil {
			order = append(order, p)
		}
		groups[p] = append(groups[p], t)
	}
	for i, p := range order {
		sum, err := sumOf(groups[p])
		if err != nil {
			return nil, err
		}
		x := painPart{
			ID: fmt.Sprintf("%s-%d", o.Batch, i+1), Method: "TRF", Bundled: "false", Count: strconv.Itoa(len(groups[p])), Sum: sum.String(),
			Day: p.day.String(), Name: p.name, Account: p.account, Ccy: "CNY", BIC: o.BIC,
		}
		for _, t := range groups[p] {
			x.List = append(x.List, o.item(&t))
		}
		d.Parts = append(d.Parts, x)
	}
	return document(&d)
}

func (o *Order) item(t *channels.Transfer) painItem {
	x := painItem{
		InstrID: t.Ref, EndToEnd: t.Ref, Amount: xmlAmount{"CNY", t.Amount.String()}, Bank: t.ToBank,
		Name: t.ToName, Account: t.ToAccount, Text: t.Text,
	}
	if t.ToBankCode == "" {
		x.BIC = o.BIC
	} else {
		x.Member = &painMember{"CNAPS", t.ToBankCode}
	}
	return x
}

// ReadOrder reads a pain.001 as the bank does: both control totals must hold, at
// the top and in every part, to the fen.
func ReadOrder(body []byte) (Order, error) {
	var d painOrder
	if err := decodeWhole(body, &d); err != nil {
		return Order{}, err
	}
	at, err := time.Parse(time.RFC3339, d.Made)
	if err != nil {
		return Order{}, fmt.Errorf("%w: CreDtTm %q is no time", ErrMessage, d.Made)
	}
	o := Order{Batch: d.MsgID, At: at}
	for i := range d.Parts {
		p := &d.Parts[i]
		day, err := ledger.ParseDay(p.Day)
		if err != nil {
			return Order{}, fmt.Errorf("%w: ReqdExctnDt: %w", ErrMessage, err)
		}
		o.BIC = p.BIC
		first := len(o.Transfers)
		for _, x := range p.List {
			amount, err := ledger.ParseYuan(strings.TrimSpace(x.Amount.Text))
			if err != nil || x.Amount.Ccy != "CNY" {
				return Order{}, fmt.Errorf("%w: InstdAmt of %s is no amount in CNY", ErrMessage, x.EndToEnd)
			}
			member := ""
			if x.Member != nil {
				member = x.Member.No
			}
			o.Transfers = append(o.Transfers, channels.Transfer{
				Ref: x.EndToEnd, Batch: d.MsgID, FromAccount: p.Account, FromName: p.Name, ToAccount: x.Account, ToName: x.Name,
				ToBank: x.Bank, ToBankCode: member, Amount: amount, Text: x.Text, RequestedDay: day,
			})
		}
		if err := totals("PmtInf "+p.ID, p.Count, p.Sum, o.Transfers[first:]); err != nil {
			return Order{}, err
		}
	}
	if err := totals("GrpHdr", d.Count, d.Sum, o.Transfers); err != nil {
		return Order{}, err
	}
	return o, o.check()
}

func totals(where, count, sum string, list []channels.Transfer) error {
	said, err := ledger.ParseYuan(sum)
	is, over := sumOf(list)
	if err != nil || over != nil || said != is || count != strconv.Itoa(len(list)) {
		return fmt.Errorf("%w: %s says %s transfers of %s, there are %d of %s", ErrMessage, where, count, sum, len(list), is)
	}
	return nil
}

// Report is a pain.002: how far the bank is with transfers.
type Report struct {
	ID          string
	At          time.Time
	Batch       string // OrgnlMsgId
	Group       string // GrpSts, "PART" where the transfers differ
	GroupReason string
	Part        string // OrgnlPmtInfId
	List        []Status
}

// Status is one TxInfAndSts.
type Status struct {
	Ref     string // OrgnlEndToEndId
	Code    string // TxSts
	Reason  string
	Text    string
	BankRef string // AcctSvcrRef
	At      time.Time
	Amount  ledger.Money // of the transfer as the bank has it, 0 where not said
}

type painReport struct {
	XMLName     xml.Name     `xml:"urn:iso:std:iso:20022:tech:xsd:pain.002.001.03 Document"`
	MsgID       string       `xml:"CstmrPmtStsRpt>GrpHdr>MsgId"`
	Made        string       `xml:"CstmrPmtStsRpt>GrpHdr>CreDtTm"`
	Original    string       `xml:"CstmrPmtStsRpt>OrgnlGrpInfAndSts>OrgnlMsgId"`
	Form        string       `xml:"CstmrPmtStsRpt>OrgnlGrpInfAndSts>OrgnlMsgNmId"`
	Group       string       `xml:"CstmrPmtStsRpt>OrgnlGrpInfAndSts>GrpSts,omitempty"`
	GroupReason *painReason  `xml:"CstmrPmtStsRpt>OrgnlGrpInfAndSts>StsRsnInf"`
	Part        string       `xml:"CstmrPmtStsRpt>OrgnlPmtInfAndSts>OrgnlPmtInfId,omitempty"`
	List        []painStatus `xml:"CstmrPmtStsRpt>OrgnlPmtInfAndSts>TxInfAndSts"`
}

type painStatus struct {
	Ref     string      `xml:"OrgnlEndToEndId"`
	Code    string      `xml:"TxSts"`
	Reason  *painReason `xml:"StsRsnInf"`
	At      string      `xml:"AccptncDtTm,omitempty"`
	BankRef string      `xml:"AcctSvcrRef,omitempty"`
	Amount  *xmlAmount  `xml:"OrgnlTxRef>Amt>InstdAmt,omitempty"`
}

func reason(code, text string) *painReason {
	switch {
	case code == "":
		return nil
	case text == "":
		return &painReason{Code: code}
	}
	return &painReason{code, []string{text}}
}

func (r *painReason) read() (code, text string) {
	if r == nil {
		return "", ""
	}
	return r.Code, strings.Join(r.Text, " ")
}

// XML writes the report, as the bank does.
func (r *Report) XML() ([]byte, error) {
	d := painReport{MsgID: r.ID, Made: stamp(r.At), Original: r.Batch, Form: "pain.001.001.03", Group: r.Group, GroupReason: reason(r.GroupReason, ""), Part: r.Part}
	for _, s := range r.List {
		x := painStatus{Ref: s.Ref, Code: s.Code, Reason: reason(s.Reason, s.Text), BankRef: s.BankRef}
		if !s.At.IsZero() {
			x.At = stamp(s.At)
		}
		if s.Amount != 0 {
			x.Amount = &xmlAmount{"CNY", s.Amount.String()}
		}
		d.List = append(d.List, x)
	}
	return document(&d)
}

// ReadReport reads a pain.002.
func ReadReport(body []byte) (Report, error) {
	var d painReport
	if err := decodeWhole(body, &d); err != nil {
		return Report{}, err
	}
	at, err := time.Parse(time.RFC3339, d.Made)
	if err != nil {
		return Report{}, fmt.Errorf("%w: CreDtTm %q is no time", ErrMessage, d.Made)
	}
	r := Report{ID: d.MsgID, At: at, Batch: d.Original, Group: d.Group, Part: d.Part}
	r.GroupReason, _ = d.GroupReason.read()
	for _, x := range d.List {
		s := Status{Ref: x.Ref, Code: x.Code, BankRef: x.BankRef}
		s.Reason, s.Text = x.Reason.read()
		if x.At != "" {
			if s.At, err = time.Parse(time.RFC3339, x.At); err != nil {
				return Report{}, fmt.Errorf("%w: AccptncDtTm %q is no time", ErrMessage, x.At)
			}
		}
		if x.Amount != nil {
			if s.Amount, err = ledger.ParseYuan(strings.TrimSpace(x.Amount.Text)); err != nil || x.Amount.Ccy != "CNY" {
				return Report{}, fmt.Errorf("%w: InstdAmt of %s is no amount in CNY", ErrMessage, x.Ref)
			}
		}
		r.List = append(r.List, s)
	}
	return r, nil
}

func stamp(at time.Time) string { return at.In(ledger.Beijing).Format(time.RFC3339) }

func document(d any) ([]byte, error) {
	body, err := xml.Marshal(d)
	return append([]byte(xml.Header), body...), err
}

// decodeWhole reads one document.
func decodeWhole(body []byte, into any) error {
	if err := xml.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return nil
}
