package bank

import (
	"errors"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/filetest"
	"github.com/clearward/clearward/ledger"
)

func sample(t testing.TB) string {
	t.Helper()
	return string(filetest.Sample(t, "bank_camt053_20260916.xml"))
}

func read(file string) ([]channels.StatementLine, channels.FileSummary, error) {
	return filetest.Rows(func(emit func(*channels.StatementLine) error) (channels.FileSummary, error) {
		return ReadStatement(strings.NewReader(file), emit)
	})
}

func TestTheSampleStatementTiesToTheNetsOfTheBills(t *testing.T) {
	lines, sum, err := read(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	if sum.Account != "755947919810515" || sum.Day != 20260916 || sum.Rows != 7 || sum.Opening != 100000000 || sum.Closing != 99412182 ||
		sum.Totals["credits"] != 4 || sum.Totals["credit_sum"] != 3713382 || sum.Totals["debits"] != 3 || sum.Totals["debit_sum"] != 4301200 {
		t.Errorf("summary %+v", sum)
	}
	for i, want := range []ledger.Money{1071238, 504458, 337686, -2500000, -1800000, 1800000, -1200} {
		if lines[i].Amount != want {
			t.Errorf("entry %d is %s, want %s", i+1, lines[i].Amount, want)
		}
	}
	want := channels.StatementLine{
		Row: 1, Account: "755947919810515", Ref: "C09160000000001", EndToEndID: "WXSETTLE20260915", BookDay: 20260916, ValueDay: 20260916,
		Amount: 1071238, Counterparty: "财付通支付科技有限公司", CounterpartyAcc: "243300133", Text: "微信支付商户结算 1900000109 20260915", Code: "PMNT/RCDT/DMCT",
	}
	if lines[0] != want {
		t.Errorf("got  %+v\nwant %+v", lines[0], want)
	}
	if out := lines[4]; out.Counterparty != "国药器械有限公司" || out.ReturnOf != "" || out.Row != 5 {
		t.Errorf("transfer %+v", out)
	}
	if back := lines[5]; back.ReturnOf != "HB20260916000002" || back.ReturnReason != "AC01" || back.Code != "PMNT/RCDT/RRTN" {
		t.Errorf("returned transfer %+v", back)
	}
}

func TestAStatementCutOffAnywhereIsRefused(t *testing.T) {
	file := sample(t)
	for n := range strings.LastIndex(file, ">") + 1 {
		_, _, err := read(file[:n])
		filetest.Refused(t, "cut", err)
	}
	lines := strings.SplitAfter(file, "\n")
	for i, line := range lines {
		if strings.Contains(line, "<Ntry>") || strings.Contains(line, "<Bal>") || strings.Contains(line, "<Acct>") {
			_, _, err := read(strings.Join(lines[:i], "") + strings.Join(lines[i+1:], ""))
			filetest.Refused(t, "without "+line, err)
		}
	}
}

func TestAChangedDigitIsRefused(t *testing.T) {
	file := sample(t)
	n := 0
	for _, tag := range []string{`<Amt Ccy="CNY">`, "<Sum>", "<NbOfNtries>"} {
		for at := 0; ; {
			i := strings.Index(file[at:], tag)
			if i < 0 {
				break
			}
			at += i + len(tag)
			for d := at; file[d] != '<'; d++ {
				if file[d] == '.' {
					continue
				}
				n++
				_, _, err := read(file[:d] + string('0'+(file[d]-'0'+1)%10) + file[d+1:])
				filetest.Refused(t, "digit at "+file[at:at+12], err)
			}
		}
	}
	if n < 70 {
		t.Errorf("only %d digits were changed", n)
	}
}

func TestRefusalsNameLineElementAndRule(t *testing.T) {
	for _, c := range []struct {
		old, new string
		words    []string
	}{
		{`<Amt Ccy="CNY">12.00`, `<Amt Ccy="USD">12.00`, []string{"line 18", "Ntry/Amt", "USD"}},
		{"<AcctSvcrRef>C09160000000002</AcctSvcrRef><BkTxCd>", "<AcctSvcrRef>C09160000000001</AcctSvcrRef><BkTxCd>", []string{"line 13", "AcctSvcrRef", "entry 1"}},
		{"<Sts>BOOK</Sts>", "<Sts>GONE</Sts>", []string{"line 12", "Sts", "GONE"}},
		{"<CdtDbtInd>DBIT</CdtDbtInd><Sts>", "<CdtDbtInd>OUT</CdtDbtInd><Sts>", []string{"CdtDbtInd", "OUT"}},
		{"<BookgDt><Dt>2026-09-16", "<BookgDt><Dt>2026-09-15", []string{"line 12", "BookgDt", "2026-09-15"}},
		{"994121.82", "994121.81", []string{"OPBD", "994121.81"}},
		{"<NbOfNtries>4<", "<NbOfNtries>5<", []string{"line 11", "TtlCdtNtries", "5", "4"}},
		{"<Cd>OPBD</Cd>", "<Cd>OPAV</Cd>", []string{"OPBD"}},
		{"</Stmt>", "</Stmt><Stmt></Stmt>", []string{"several statements"}},
		{"</Document>", "</Document><Document/>", []string{"nothing may follow"}},
		{"<Document", "<!DOCTYPE x><Document", []string{"document type"}},
		{"BkToCstmrStmt", "BkToCstmrDbtCdtNtfctn", []string{"cut off or damaged"}},
		{`encoding="UTF-8"`, `encoding="EBCDIC"`, []string{"EBCDIC"}},
	} {
		_, _, err := read(strings.Replace(sample(t), c.old, c.new, 1))
		filetest.Refused(t, c.new, err, c.words...)
	}
	_, _, err := read("<html></html>")
	filetest.Refused(t, "html", err, "camt.053")
	_, _, err = read(strings.Replace(sample(t), "药品货款", strings.Repeat("药", 1<<19), 1))
	filetest.Refused(t, "huge text", err, "larger than")
}

func TestNewerVersionsAndUnbookedEntriesAreRead(t *testing.T) {
	file := strings.ReplaceAll(sample(t), "<Sts>BOOK</Sts>", "<Sts><Cd>BOOK</Cd></Sts>")
	file = strings.ReplaceAll(file, "<Dbtr><Nm>财付通支付科技有限公司</Nm></Dbtr>", "<Dbtr><Pty><Nm>财付通支付科技有限公司</Nm></Pty></Dbtr>")
	file = strings.Replace(file, "<ValDt><Dt>2026-09-16</Dt></ValDt>", "<ValDt><DtTm>2026-09-15T23:00:00+08:00</DtTm></ValDt>", 1)
	pending := `<Ntry><Amt Ccy="CNY">5.00</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts>PDNG</Sts></Ntry>`
	file = strings.Replace(file, "</Stmt>", pending+"</Stmt>", 1)
	lines, sum, err := read(file)
	if err != nil || len(lines) != 7 || sum.Totals["unbooked"] != 1 || lines[0].Counterparty != "财付通支付科技有限公司" || lines[0].ValueDay != 20260915 {
		t.Errorf("%+v %v", sum, err)
	}
}

func TestAnEntryOfSeveralTransactionsCarriesOnlyASharedReference(t *testing.T) {
	file := strings.Replace(sample(t), "</TxDtls>", "</TxDtls><TxDtls><Refs><EndToEndId>OTHER</EndToEndId></Refs><RmtInf><Ustrd>二</Ustrd></RmtInf></TxDtls>", 1)
	lines, _, err := read(file)
	if err != nil || lines[0].EndToEndID != "" || !strings.HasSuffix(lines[0].Text, " 二") {
		t.Errorf("%+v %v", lines[0], err)
	}
}

func FuzzStatement(f *testing.F) {
	f.Add(sample(f))
	f.Fuzz(func(t *testing.T, file string) {
		lines, sum, err := read(file)
		if err != nil {
			if !errors.As(err, new(*channels.FileError)) {
				t.Errorf("%v is no refusal", err)
			}
			return
		}
		balance, refs := sum.Opening, map[string]bool{}
		for _, l := range lines {
			balance += l.Amount
			if refs[l.Ref] || l.Account != sum.Account || l.BookDay != sum.Day || l.Amount == 0 {
				t.Errorf("line %+v", l)
			}
			refs[l.Ref] = true
		}
		if balance != sum.Closing || len(lines) != sum.Rows {
			t.Errorf("%d lines, closing %d, %+v", len(lines), balance, sum)
		}
	})
}
