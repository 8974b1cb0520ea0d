// Package bank reads bank statements in the neutral form of ISO 20022, camt.053.
// A statement is read entry by entry in bounded memory and proved by its own
// balances: it is good or it is refused.
//
// Source of the layout and the invariant: spec/channels.md F.4.
package bank

import (
	"encoding/xml"
	"fmt"
	"hash/maphash"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// maxElement bounds what one balance or entry may take in the file.
const maxElement = 1 << 20

// flow is the entries of one direction.
type flow struct {
	count int64
	sum   ledger.Money
}

type reader struct {
	src *source
	dec *xml.Decoder

	account          string
	day              ledger.Day
	opening, closing *ledger.Money
	summary          *xmlSummary
	summaryLine      int

	rows, unbooked  int
	credits, debits flow
	seed            maphash.Seed
	refs            map[uint64]int // entry by hash of its AcctSvcrRef
}

// ReadStatement reads a camt.053 document with one statement, of one account and
// day, and hands each booked entry to emit. What emit was given counts only once
// ReadStatement has returned without an error; each line is its own. A document
// with several statements is refused: its balances would prove none of them.
func ReadStatement(r io.Reader, emit func(*channels.StatementLine) error) (channels.FileSummary, error) {
	s := &reader{src: &source{r: r}, seed: maphash.MakeSeed(), refs: map[uint64]int{}}
	s.dec = xml.NewDecoder(s.src)
	s.dec.CharsetReader = charset
	if err := s.readDocument(emit); err != nil {
		return channels.FileSummary{}, err
	}
	if err := s.prove(); err != nil {
		return channels.FileSummary{}, err
	}
	return channels.FileSummary{
		Account: s.account, Day: s.day, Rows: s.rows,
		Totals: map[string]int64{
			"credits": s.credits.count, "debits": s.debits.count, "unbooked": int64(s.unbooked),
			"credit_sum": int64(s.credits.sum), "debit_sum": int64(s.debits.sum),
		},
		Opening: *s.opening, Closing: *s.closing, Balances: true,
	}, nil
}

// source counts what the decoder takes, so that one element cannot fill the
// memory, and keeps an error of the reader apart from one of the text.
type source struct {
	r    io.Reader
	used int
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	if s.used > maxElement {
		s.err = channels.Refuse(0, "", "an element is larger than %d bytes", maxElement)
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.used += n
	if err != nil && err != io.EOF {
		s.err = fmt.Errorf("reading: %w", err)
	}
	return n, err
}

// charset decodes the encodings that banks declare besides UTF-8.
func charset(label string, input io.Reader) (io.Reader, error) {
	switch strings.ToLower(label) {
	case "gbk", "gb2312", "gb18030":
		return simplifiedchinese.GB18030.NewDecoder().Reader(input), nil
	}
	return nil, fmt.Errorf("the encoding %s is not read", label)
}

// failed tells a text that is no XML, or cut off, from a reader that failed.
func (s *reader) failed(err error) error {
	if s.src.err != nil {
		return s.src.err
	}
	return channels.Refuse(s.line(), "", "the XML is cut off or damaged (%v)", err)
}

func (s *reader) line() int {
	line, _ := s.dec.InputPos()
	return line
}

func (s *reader) refuse(element, rule string, args ...any) error {
	return channels.Refuse(s.line(), element, rule, args...)
}

// readDocument walks down to the children of the statement and reads those.
func (s *reader) readDocument(emit func(*channels.StatementLine) error) error {
	path := []string{"Document", "BkToCstmrStmt", "Stmt"}
	depth, statements, closed := 0, 0, false
	for {
		s.src.used = 0
		token, err := s.dec.Token()
		switch {
		case err == io.EOF && closed:
			return nil
		case err != nil:
			return s.failed(err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			switch name := t.Name.Local; {
			case closed:
				return s.refuse(name, "nothing may follow the document")
			case depth == len(path):
				err = s.readChild(t, emit)
			case name == path[depth]:
				if depth++; depth == len(path) {
					statements++
				}
				if statements > 1 {
					return s.refuse("Stmt", "the document holds several statements: hand in one document per account and day")
				}
			case depth == 0:
				return s.refuse(name, "the document is not a camt.053")
			default:
				err = s.skip()
			}
			if err != nil {
				return err
			}
		case xml.EndElement:
			depth--
			closed = depth == 0
		case xml.CharData:
			if text := strings.TrimSpace(string(t)); text != "" {
				return s.refuse("", "text outside of an element")
			}
		case xml.Directive:
			return s.refuse("", "a document type is not read")
		}
	}
}

func (s *reader) skip() error {
	if err := s.dec.Skip(); err != nil {
		return s.failed(err)
	}
	return nil
}

func (s *reader) readChild(start xml.StartElement, emit func(*channels.StatementLine) error) error {
	switch start.Name.Local {
	case "Acct":
		return s.readAccount(start)
	case "Bal":
		return s.readBalance(start)
	case "TxsSummry":
		if s.summary != nil {
			return s.refuse("TxsSummry", "there is a second one")
		}
		s.summary, s.summaryLine = &xmlSummary{}, s.line()
		return s.decode(s.summary, start)
	case "Ntry":
		return s.readEntry(start, emit)
	}
	return s.skip()
}

func (s *reader) decode(into any, start xml.StartElement) error {
	if err := s.dec.DecodeElement(into, &start); err != nil {
		return s.failed(err)
	}
	return nil
}

func (s *reader) readAccount(start xml.StartElement) error {
	var a xmlAccount
	if err := s.decode(&a, start); err != nil {
		return err
	}
	no := a.number()
	switch {
	case s.account != "":
		return s.refuse("Acct", "there is a second account")
	case !plain(no):
		return s.refuse("Acct/Id", "%q is no account number", no)
	case a.Ccy != "" && strings.TrimSpace(a.Ccy) != "CNY":
		return s.refuse("Acct/Ccy", "only CNY is read, not %s", a.Ccy)
	}
	s.account = no
	return nil
}

// readBalance keeps the opening (OPBD) and the closing balance (CLBD), whose date
// is the day of the statement.
func (s *reader) readBalance(start xml.StartElement) error {
	var b xmlBalance
	if err := s.decode(&b, start); err != nil {
		return err
	}
	var into **ledger.Money
	kind := strings.TrimSpace(b.Kind)
	switch kind {
	case "OPBD":
		into = &s.opening
	case "CLBD":
		into = &s.closing
	default:
		return nil
	}
	if *into != nil {
		return s.refuse("Bal", "there is a second balance %s", kind)
	}
	amount, err := s.amount("Bal/Amt", &b.Amt, b.CdtDbtInd)
	if err != nil {
		return err
	}
	day, err := s.date("Bal/Dt", &b.Dt)
	if err != nil {
		return err
	}
	if kind == "CLBD" {
		s.day = day
	}
	*into = &amount
	return nil
}

// amount reads an amount of CNY and gives it the sign of its direction.
func (s *reader) amount(element string, a *xmlAmount, direction string) (ledger.Money, error) {
	if a.Ccy != "CNY" {
		return 0, s.refuse(element, "only CNY is read, not %q", a.Ccy)
	}
	m, err := ledger.ParseYuan(strings.TrimSpace(a.Text))
	if err != nil {
		return 0, s.refuse(element, "%v", err)
	}
	if m < 0 {
		return 0, s.refuse(element, "an amount is not below zero, CdtDbtInd says the direction; not %s", m)
	}
	switch strings.TrimSpace(direction) {
	case "CRDT":
		return m, nil
	case "DBIT":
		return -m, nil
	}
	return 0, s.refuse("CdtDbtInd", "%q is neither CRDT nor DBIT", direction)
}

func (s *reader) date(element string, d *xmlDate) (ledger.Day, error) {
	if text := strings.TrimSpace(d.DtTm); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			if t, err = time.ParseInLocation("2006-01-02T15:04:05", text, ledger.Beijing); err != nil {
				return 0, s.refuse(element, "%q is not a time", text)
			}
		}
		return ledger.DayOf(t), nil
	}
	day, err := ledger.ParseDay(strings.TrimSpace(d.Dt))
	if err != nil {
		return 0, s.refuse(element, "%v", err)
	}
	return day, nil
}

func (s *reader) readEntry(start xml.StartElement, emit func(*channels.StatementLine) error) error {
	var e xmlEntry
	if err := s.decode(&e, start); err != nil {
		return err
	}
	if s.account == "" || s.closing == nil {
		return s.refuse("Ntry", "Acct and Bal stand before the entries")
	}
	switch status := e.status(); status {
	case "BOOK":
	case "PDNG", "INFO", "FUTR":
		s.unbooked++
		return nil
	default:
		return s.refuse("Ntry/Sts", "%q is not a state of an entry", status)
	}
	amount, err := s.amount("Ntry/Amt", &e.Amt, e.CdtDbtInd)
	if err != nil {
		return err
	}
	line := &channels.StatementLine{Row: s.rows + 1, Account: s.account, Amount: amount, Ref: e.ref(), Code: e.code()}
	if amount == 0 {
		return s.refuse("Ntry/Amt", "the amount of an entry is above zero")
	}
	if line.BookDay, err = s.date("Ntry/BookgDt", &e.BookgDt); err != nil {
		return err
	}
	if line.BookDay != s.day {
		return s.refuse("Ntry/BookgDt", "booked on %s in a statement of %s: hand in one document per account and day", line.BookDay, s.day)
	}
	line.ValueDay = line.BookDay
	if e.ValDt != (xmlDate{}) {
		if line.ValueDay, err = s.date("Ntry/ValDt", &e.ValDt); err != nil {
			return err
		}
	}
	if err := s.count(line); err != nil {
		return err
	}
	e.describe(line)
	return emit(line)
}

// count takes an entry into the sums and refuses a reference that was there.
func (s *reader) count(line *channels.StatementLine) error {
	if !plain(line.Ref) {
		return s.refuse("Ntry/AcctSvcrRef", "%q is no reference of 1 to 64 letters, digits and signs: it is the bank's identity of the entry", line.Ref)
	}
	hash := maphash.String(s.seed, line.Ref)
	if first, ok := s.refs[hash]; ok {
		return s.refuse("Ntry/AcctSvcrRef", "%s is the reference of entry %d too", line.Ref, first)
	}
	s.refs[hash] = line.Row
	side := &s.credits
	if line.Amount < 0 {
		side = &s.debits
	}
	sum, err := side.sum.Add(line.Amount.Abs())
	if err != nil {
		return s.refuse("Ntry/Amt", "%v", err)
	}
	side.sum = sum
	side.count++
	s.rows++
	return nil
}

// prove checks OPBD + credits − debits = CLBD, and the bank's own summary.
func (s *reader) prove() error {
	switch {
	case s.account == "":
		return channels.Refuse(0, "Acct", "the statement names no account")
	case s.opening == nil || s.closing == nil:
		return channels.Refuse(0, "Bal", "the statement needs the balances OPBD and CLBD")
	}
	net, err := s.opening.Add(s.credits.sum)
	if err == nil {
		net, err = net.Add(-s.debits.sum)
	}
	if err != nil {
		return channels.Refuse(0, "Bal", "%v", err)
	}
	if net != *s.closing {
		return channels.Refuse(0, "Bal", "OPBD %s + credits %s − debits %s = %s, but CLBD is %s",
			*s.opening, s.credits.sum, s.debits.sum, net, *s.closing)
	}
	if s.summary == nil {
		return nil
	}
	both, err := s.credits.sum.Add(s.debits.sum)
	if err != nil {
		return channels.Refuse(0, "TxsSummry", "%v", err)
	}
	for _, c := range []struct {
		element string
		said    *xmlTotal
		rows    flow
	}{
		{"TxsSummry/TtlNtries", s.summary.All, flow{s.credits.count + s.debits.count, both}},
		{"TxsSummry/TtlCdtNtries", s.summary.Credits, s.credits},
		{"TxsSummry/TtlDbtNtries", s.summary.Debits, s.debits},
	} {
		if err := s.checkTotal(c.element, c.said, c.rows); err != nil {
			return err
		}
	}
	return nil
}

func (s *reader) checkTotal(element string, said *xmlTotal, rows flow) error {
	if said == nil {
		return nil
	}
	if text := strings.TrimSpace(said.Count); text != "" {
		if n, err := strconv.ParseInt(text, 10, 64); err != nil || n != rows.count {
			return channels.Refuse(s.summaryLine, element, "the summary counts %s, the booked entries are %d", text, rows.count)
		}
	}
	if text := strings.TrimSpace(said.Sum); text != "" {
		if m, err := ledger.ParseYuan(text); err != nil || m != rows.sum {
			return channels.Refuse(s.summaryLine, element, "the summary says %s, the booked entries sum to %s", text, rows.sum)
		}
	}
	return nil
}

func plain(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return len(text) >= 1 && len(text) <= 64
}
