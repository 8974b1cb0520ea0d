package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// settlementCodes are faults of a whole settlement: each needs a merchant
// number of its own. bankCodes are all that stand on a bank statement.
var (
	settlementCodes = []string{"BANK_MISSING", "BANK_SHORT", "BANK_OVER"}
	bankCodes       = append(slices.Clone(settlementCodes), "BANK_UNIDENTIFIED", "BANK_FEE", "UNKNOWN_DEBIT", "WAITING")
)

// party is whom a line names.
type party struct{ name, account string }

var (
	tenpay    = party{"财付通支付科技有限公司", "243300133"}
	alipayCo  = party{"支付宝（中国）网络技术有限公司", "215500690"}
	unionPay  = party{"中国银联股份有限公司", "9999000000000001"}
	drugs     = party{"华润医药有限公司", "110060149018000000001"}
	equipment = party{"国药器械有限公司", "310066661018000000002"}
	payroll   = party{"代发工资专户", "755900000000000003"}
)

// statementEntry is one line of a bank statement.
type statementEntry struct {
	fen      int64 // signed, above zero is a credit
	from     party // the other side, none on a bank fee
	code     string
	endToEnd string
	text     string
	returned string // reason of a returned transfer
	found    string // the case it makes, "" = none
	channel  string
	m        *merchant // the settlement it brings
	short    int64     // by how much it differs from the settlement, signed
	outside  bool
}

// plantSettlements gives settlement faults a merchant number each, the last
// hospitals first, so that the first keep a clean one as long as there is one.
func (g *generator) plantSettlements() error {
	var free []*merchant
	for i := len(g.hospitals) - 1; i >= 0; i-- {
		numbers := g.hospitals[i].numbers()
		slices.Reverse(numbers)
		free = append(free, numbers...)
	}
	for _, code := range settlementCodes {
		for range g.cfg.Faults[code] {
			if len(free) == 0 {
				return fmt.Errorf("%w: %s needs a merchant number of its own, and there are too few hospitals", ErrConfig, code)
			}
			free[0].fault, free = code, free[1:]
		}
	}
	return nil
}

// settle books what the fund bill came to and returns the bank's line for it.
func (g *generator) settle(m *merchant, closing int64) []*statementEntry {
	s := Settlement{Hospital: m.hospital.code, Channel: m.channel, MerchantNo: m.no, Opening: m.opening, Closing: closing, Retained: m.retained}
	s.Withdrawn = max(m.opening-m.retained, 0)
	s.DayNet = closing - m.opening + s.Withdrawn
	s.Expected = max(closing-m.retained, 0)
	m.opening = closing
	g.day.Settlements = append(g.day.Settlements, s)
	if s.Expected == 0 {
		return nil
	}
	e := &statementEntry{fen: s.Expected, from: tenpay, code: "RCDT/DMCT", m: m, channel: m.channel}
	date := g.compact(g.index)
	e.endToEnd, e.text = "WXSETTLE"+date, "微信支付商户结算 "+m.no+" "+date
	if m.channel == channels.Alipay {
		e.from, e.endToEnd, e.text = alipayCo, "ALISETTLE"+date, "支付宝提现 "+m.pid+" "+date
	} else if m != m.hospital.wechat[0] {
		e.endToEnd += "B"
	}
	if g.index > 0 {
		if m.fault == "BANK_MISSING" { // its day of grace is over: spec/reconciliation.md 2.4
			g.day.add(Case{Code: m.fault, Channel: m.channel, Hospital: s.Hospital, MerchantNo: m.no, AmountFen: -m.missing, Variant: "no line"})
		}
		return []*statementEntry{e}
	}
	d := draw(g.cfg.Seed, streamBank, uint64(m.hospital.index)<<8|uint64(s.Expected%251))
	e.found = m.fault
	switch m.fault {
	case "BANK_MISSING":
		m.missing = s.Expected
		return nil
	case "BANK_SHORT":
		e.short = -min(int64(d.between(500, 50_000)), s.Expected/2)
	case "BANK_OVER":
		e.short = int64(d.between(500, 50_000))
	}
	e.fen += e.short
	return []*statementEntry{e}
}

// others are the lines that are no settlement of the day: what faults put
// there, and a hospital's own business.
func (g *generator) others(h *hospital) []*statementEntry {
	d := draw(g.cfg.Seed, streamBank, 1<<40|uint64(g.index)<<32|uint64(h.index))
	day := g.day.StatementDay.Compact()
	var list []*statementEntry
	amount := func(lo, hi int) int64 { return int64(d.between(lo, hi)) }
	for range g.share("WAITING", h) {
		g.count.waiting++
		list = append(list, &statementEntry{fen: amount(100_000, 900_000), from: unionPay, code: "RCDT/DMCT", found: "WAITING", channel: channels.UnionPay,
			endToEnd: "UPSETTLE" + g.compact(g.index), text: "银联清算 " + h.unionPay + " " + g.compact(g.index)[4:]})
	}
	for i := range g.share("BANK_UNIDENTIFIED", h) {
		e := &statementEntry{fen: amount(5_001, 99_999), from: tenpay, code: "RCDT/DMCT", found: "BANK_UNIDENTIFIED", channel: channels.WeChat, endToEnd: "NOTPROVIDED", text: "往来款"}
		if i%2 == 1 {
			e.from, e.channel = alipayCo, channels.Alipay
		}
		list = append(list, e)
	}
	for i := range g.share("BANK_FEE", h) {
		list = append(list, &statementEntry{fen: -amount(5, 60) * 100, code: "ICDT/CHRG", found: "BANK_FEE", endToEnd: fmt.Sprintf("FEE%s%03d", day, i), text: "转账手续费"})
	}
	for i := range g.share("UNKNOWN_DEBIT", h) {
		list = append(list, &statementEntry{fen: -amount(10_000, 80_000), from: tenpay, code: "ICDT/DMCT", found: "UNKNOWN_DEBIT", channel: channels.WeChat,
			endToEnd: fmt.Sprintf("UD%s%03d", day, i), text: "扣款"})
	}
	supply := amount(1_000_000, 9_000_000)
	first, second, third := fmt.Sprintf("HB%s%03d001", day, h.index), fmt.Sprintf("HB%s%03d002", day, h.index), fmt.Sprintf("HB%s%03d003", day, h.index)
	return append(list,
		&statementEntry{fen: -amount(1_000_000, 5_000_000), from: drugs, code: "ICDT/DMCT", endToEnd: first, text: "药品货款", outside: true},
		&statementEntry{fen: -supply, from: equipment, code: "ICDT/DMCT", endToEnd: second, text: "耗材货款", outside: true},
		&statementEntry{fen: -amount(5_000_000, 20_000_000), from: payroll, code: "ICDT/SALA", endToEnd: third, text: "代发工资", outside: true},
		&statementEntry{fen: supply, from: equipment, code: "RCDT/RRTN", endToEnd: second, text: "退票 账号户名不符", returned: "AC01", outside: true})
}

// share is how many lines of a fault stand on this hospital's statement; all
// stand on the first day's.
func (g *generator) share(code string, h *hospital) int {
	all, n := g.cfg.Faults[code], len(g.hospitals)
	if g.index > 0 {
		return 0
	}
	share := all / n
	if h.index < all%n {
		share++
	}
	return share
}

// writeStatement writes the camt.053 of the hospital's account for the day on
// which the bank books the settlements.
func (g *generator) writeStatement(h *hospital, entries []*statementEntry) error {
	entries = append(entries, g.others(h)...)
	booked := g.day.StatementDay
	t, err := g.create("bank_camt053_"+h.account+"_"+booked.Compact()+".xml", File{Source: SourceBank, Hospital: h.code})
	if err != nil {
		return err
	}
	for _, e := range entries {
		t.count(e.fen > 0, max(e.fen, -e.fen))
	}
	closing := h.bankOpening + t.PayFen - t.RefundFen
	t.put([]byte(statementHead(h, booked, closing, entries)))
	for i, e := range entries {
		ref := fmt.Sprintf("C%s%03d%07d", booked.Compact()[4:], h.index, i+1)
		g.noteEntry(h, e, ref)
		t.put([]byte(e.xml(i+1, ref, booked)))
	}
	t.put([]byte("    </Stmt>\n  </BkToCstmrStmt>\n</Document>\n"))
	h.bankOpening = closing
	if err := t.close(); err != nil {
		return err
	}
	g.day.Files = append(g.day.Files, t.File)
	return nil
}

// noteEntry tells the plan of a line: its settlement, its case, or that it is
// out of scope.
func (g *generator) noteEntry(h *hospital, e *statementEntry, ref string) {
	if e.m != nil {
		for i := range g.day.Settlements {
			if s := &g.day.Settlements[i]; s.MerchantNo == e.m.no {
				s.BankRef, s.Arrived = ref, e.fen
			}
		}
	}
	if e.outside {
		g.day.OutOfScope++
		g.day.OutOfScopeFen += e.fen
	}
	if e.found == "" {
		return
	}
	c := Case{Code: e.found, Channel: e.channel, Hospital: h.code, BankRef: ref, AmountFen: e.fen}
	if e.m != nil {
		c.MerchantNo, c.AmountFen = e.m.no, e.short
	}
	g.day.add(c)
}

func statementHead(h *hospital, booked ledger.Day, closing int64, entries []*statementEntry) string {
	var credits, debits int
	var in, out int64
	for _, e := range entries {
		if e.fen > 0 {
			credits, in = credits+1, in+e.fen
		} else {
			debits, out = debits+1, out-e.fen
		}
	}
	made := booked.Add(1).String() + "T02:00:00+08:00"
	balance := func(code string, fen int64) string {
		side := "CRDT"
		if fen < 0 {
			side, fen = "DBIT", -fen
		}
		return fmt.Sprintf(`      <Bal><Tp><CdOrPrtry><Cd>%s</Cd></CdOrPrtry></Tp><Amt Ccy="CNY">%s</Amt><CdtDbtInd>%s</CdtDbtInd><Dt><Dt>%s</Dt></Dt></Bal>`+"\n", code, yuan(fen), side, booked)
	}
	return `<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02">
  <BkToCstmrStmt>
` + fmt.Sprintf("    <GrpHdr><MsgId>STMT%s-%s</MsgId><CreDtTm>%s</CreDtTm></GrpHdr>\n    <Stmt>\n", booked.Compact(), h.account, made) +
		fmt.Sprintf("      <Id>%s-001</Id><ElctrncSeqNb>%d</ElctrncSeqNb><CreDtTm>%s</CreDtTm>\n", booked.Compact(), booked.Start().YearDay(), made) +
		fmt.Sprintf("      <FrToDt><FrDtTm>%sT00:00:00+08:00</FrDtTm><ToDtTm>%sT23:59:59+08:00</ToDtTm></FrToDt>\n", booked, booked) +
		fmt.Sprintf("      <Acct><Id><Othr><Id>%s</Id></Othr></Id><Ccy>CNY</Ccy><Nm>%s</Nm><Svcr><FinInstnId><BIC>CMBCCNBS</BIC></FinInstnId></Svcr></Acct>\n", h.account, h.name) +
		balance("OPBD", h.bankOpening) + balance("CLBD", closing) +
		fmt.Sprintf("      <TxsSummry><TtlCdtNtries><NbOfNtries>%d</NbOfNtries><Sum>%s</Sum></TtlCdtNtries><TtlDbtNtries><NbOfNtries>%d</NbOfNtries><Sum>%s</Sum></TtlDbtNtries></TxsSummry>\n", credits, yuan(in), debits, yuan(out))
}

// xml is the Ntry of a line. The texts of this package need no escaping.
func (e *statementEntry) xml(row int, ref string, booked ledger.Day) string {
	side, role := "CRDT", "Dbtr"
	if e.fen < 0 {
		side, role = "DBIT", "Cdtr"
	}
	family, sub, _ := strings.Cut(e.code, "/")
	parties, returned := "", ""
	if e.from.name != "" {
		parties = fmt.Sprintf("<RltdPties><%s><Nm>%s</Nm></%s><%sAcct><Id><Othr><Id>%s</Id></Othr></Id></%sAcct></RltdPties>", role, e.from.name, role, role, e.from.account, role)
	}
	if e.returned != "" {
		returned = "<RtrInf><Rsn><Cd>" + e.returned + "</Cd></Rsn><AddtlInf>账号户名不符</AddtlInf></RtrInf>"
	}
	return fmt.Sprintf(`      <Ntry><NtryRef>%d</NtryRef><Amt Ccy="CNY">%s</Amt><CdtDbtInd>%s</CdtDbtInd><Sts>BOOK</Sts><BookgDt><Dt>%s</Dt></BookgDt><ValDt><Dt>%s</Dt></ValDt><AcctSvcrRef>%s</AcctSvcrRef>`,
		row, yuan(max(e.fen, -e.fen)), side, booked, booked, ref) +
		fmt.Sprintf(`<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>%s</Cd><SubFmlyCd>%s</SubFmlyCd></Fmly></Domn></BkTxCd><NtryDtls><TxDtls><Refs><AcctSvcrRef>%s</AcctSvcrRef><EndToEndId>%s</EndToEndId></Refs>%s<RmtInf><Ustrd>%s</Ustrd></RmtInf>%s</TxDtls></NtryDtls></Ntry>`,
			family, sub, ref, e.endToEnd, parties, e.text, returned) + "\n"
}

// writeSetup writes the master data of all hospitals, with what the channels
// held for them on the evening before the first day.
func (g *generator) writeSetup() error {
	var b, balances strings.Builder
	b.WriteString("# Master data of a generated day, for `clearward setup setup.yaml` (idempotent).\nregion: {code: R1, name: 示范区}\nhospitals:\n")
	for i, h := range g.hospitals {
		ownership := "PUBLIC"
		if i%3 == 1 {
			ownership = "PRIVATE"
		}
		fmt.Fprintf(&b, "  - code: %s\n    name: %s\n    ownership: %s\n    his_calls: APP\n    bank_accounts:\n", h.code, h.name, ownership)
		fmt.Fprintf(&b, "      - {account: %q, name: %s, bank: 招商银行, role: SETTLEMENT}\n    merchants:\n", h.account, h.name)
		for _, m := range h.numbers() {
			aliases, foreign := "", ""
			if m.pid != "" {
				aliases = fmt.Sprintf(" aliases: [%q],", m.pid)
			}
			if m.foreign != "" {
				foreign = fmt.Sprintf(", foreign_prefixes: [%q]", m.foreign)
			}
			fmt.Fprintf(&b, "      - {channel: %s, merchant_no: %q,%s kind: DIRECT, settle_mode: A, fee_rate: \"0.%04d\", fee_bearer: PLATFORM, from: \"2026-01-01\", settles_to: %q, retained_fen: %d%s}\n",
				m.channel, m.no, aliases, m.rate, h.account, m.retained, foreign)
			g.writeOpening(&balances, m)
		}
		fmt.Fprintf(&b, "      - {channel: UNIONPAY, merchant_no: %q, kind: DIRECT, settle_mode: A, fee_rate: \"0.0060\", fee_bearer: PLATFORM, from: \"2026-01-01\", settles_to: %q, retained_fen: 0}\n", h.unionPay, h.account)
	}
	fmt.Fprintf(&b, "opening_balances:            # cut-over: what the channels held on the evening of %s\n%s", g.cfg.Day.Add(-1), balances.String())
	return os.WriteFile(filepath.Join(g.dir, "setup.yaml"), []byte(b.String()), 0o644)
}

// writeOpening writes the balance before the first day: what is retained stays,
// the rest is withdrawn that morning.
func (g *generator) writeOpening(b *strings.Builder, m *merchant) {
	if m.opening == 0 {
		return
	}
	arrives := fmt.Sprintf("%q", nextWorkingDay(g.cfg.Day.Add(-1)).String())
	if m.opening == m.retained {
		arrives = "null"
	}
	fmt.Fprintf(b, "  - {channel: %s, merchant_no: %q, fen: %d, arrives: %s}\n", m.channel, m.no, m.opening, arrives)
}
