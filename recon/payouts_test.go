package recon_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// bankThatTakesAll accepts every transfer and says nothing more: the statement does.
type bankThatTakesAll struct{}

func (bankThatTakesAll) Bank(string) (channels.BankGateway, error) { return bankThatTakesAll{}, nil }
func (bankThatTakesAll) Transfer(_ context.Context, _ string, list []channels.Transfer) []channels.TransferAnswer {
	answers := make([]channels.TransferAnswer, len(list))
	for i, t := range list {
		answers[i] = channels.TransferAnswer{Ref: t.Ref, State: channels.TransferAccepted}
	}
	return answers
}
func (bankThatTakesAll) QueryTransfer(_ context.Context, ref string) channels.TransferAnswer {
	return channels.TransferAnswer{State: channels.TransferUnknown, Ref: ref}
}
func (bankThatTakesAll) Balance(context.Context, string) (booked, available ledger.Money, err error) {
	return 10_000_000_00, 10_000_000_00, nil
}
func (bankThatTakesAll) FetchStatement(context.Context, string, ledger.Day) (io.ReadCloser, error) {
	return nil, channels.ErrBillNotReady
}
func (bankThatTakesAll) FetchReceipt(context.Context, string) (channels.Receipt, error) {
	return channels.Receipt{}, channels.ErrBillNotReady
}

// sampleAccount is the account of the sample hospital.
const sampleAccount = "755947919810515"

// payouts is the desk of payouts on the house's books.
func (h *house) payouts() *payout.Payouts {
	return &payout.Payouts{DB: h.db, Committer: h.committer, Outside: bankThatTakesAll{}, Now: func() time.Time { return h.clock },
		Key: []byte("a key of tests, 32 bytes long ..."), Factor: func(context.Context, string, string) (string, error) { return "totp", nil }}
}

var (
	treasurer = payout.Person{Name: "王出纳", Role: "TREASURER"}
	head      = payout.Person{Name: "李主管", Role: "FINANCE_HEAD"}
)

// paysOut asks for a payout, approves and sends it.
func (h *house) paysOut(desk *payout.Payouts, r payout.Request) payout.Payout {
	h.t.Helper()
	p, err := desk.Request(h.t.Context(), "api", "pay "+r.Purpose+r.Subject, treasurer, r)
	h.must(err)
	_, err = desk.Approve(h.t.Context(), head, payout.Approval{Count: 1, Sum: p.Amount, Code: "000000",
		Items: []payout.ApprovedItem{{Number: p.Number, Payload: p.Payload}}})
	h.must(err)
	sent, err := desk.Send(h.t.Context(), h.clock)
	h.must(err)
	if sent.Sent != 1 {
		h.t.Fatalf("sent: %+v", sent)
	}
	return p
}

// entry is a line of a statement: below zero a debit; returned with the reason.
type entry struct {
	ref, number, reason string
	fen                 int64
}

// statement is the sample statement of custody, or of the hospital's account, with
// entries added.
func (h *house) statement(path string, entries ...entry) {
	h.t.Helper()
	text, err := os.ReadFile(path)
	h.must(err)
	s := string(text)
	var xml strings.Builder
	var credits, debits, count [2]int64
	for i, e := range entries {
		side, code, returned := 0, "DMCT", ""
		if e.fen < 0 {
			side = 1
		}
		if e.reason != "" {
			code, returned = "RRTN", "<RtrInf><Rsn><Cd>"+e.reason+"</Cd></Rsn><AddtlInf>账号户名不符</AddtlInf></RtrInf>"
		}
		fen := max(e.fen, -e.fen)
		count[side], credits[side] = count[side]+1, credits[side]+fen
		fmt.Fprintf(&xml, `<Ntry><NtryRef>%d</NtryRef><Amt Ccy="CNY">%s</Amt><CdtDbtInd>%s</CdtDbtInd><Sts>BOOK</Sts><BookgDt><Dt>2026-09-16</Dt></BookgDt><ValDt><Dt>2026-09-16</Dt></ValDt><AcctSvcrRef>%s</AcctSvcrRef><BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>%s</Cd><SubFmlyCd>%s</SubFmlyCd></Fmly></Domn></BkTxCd><NtryDtls><TxDtls><Refs><AcctSvcrRef>%s</AcctSvcrRef><EndToEndId>%s</EndToEndId></Refs><RmtInf><Ustrd>结算款</Ustrd></RmtInf>%s</TxDtls></NtryDtls></Ntry>`,
			20+i, yuanText(fen), []string{"CRDT", "DBIT"}[side], e.ref, []string{"RCDT", "ICDT"}[side], code, e.ref, e.number, returned)
	}
	debits[0], debits[1] = credits[1], count[1]
	s = strings.Replace(s, "</Stmt>", xml.String()+"</Stmt>", 1)
	s = strings.NewReplacer(
		"<NbOfNtries>3</NbOfNtries><Sum>19133.82", fmt.Sprintf("<NbOfNtries>%d</NbOfNtries><Sum>%s", 3+count[0], yuanText(1913382+credits[0])),
		"<NbOfNtries>1</NbOfNtries><Sum>12.00", fmt.Sprintf("<NbOfNtries>%d</NbOfNtries><Sum>%s", 1+count[1], yuanText(1200+credits[1])),
		"1019121.82", yuanText(101912182+credits[0]-debits[0])).Replace(s)
	out := filepath.Join(h.t.TempDir(), "bank_custody.xml")
	h.must(os.WriteFile(out, []byte(s), 0o600))
	h.feed(feed.Options{}, out)
}

// TestABankLineProvesAPayout: the debit of a payout out of custody is J34 and no
// unknown debit; its return is PAYOUT_RETURNED, J37 and J38, with the bank's reason;
// a line that names a payout and does not fit it is a case (scenarios 60, 73).
func TestABankLineProvesAPayout(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.setupSampleB()
	h.feedSample(sampleFeeds[:5]...)
	base := custodyStatement(t)
	h.feed(feed.Options{}, base)
	h.run(sampleDay)
	desk := h.payouts()
	h.clock = time.Date(2026, 9, 15, 3, 0, 0, 0, time.UTC)
	h.payeeOf(desk)
	p := h.paysOut(desk, payout.Request{Kind: payout.Hospital, Hospital: "H1", Amount: 1000000})
	h.clock = time.Date(2026, 9, 17, 3, 30, 0, 0, time.UTC)

	h.statement(base, entry{ref: "X1", number: "SOMETHING", fen: -1})
	d := h.run(sampleDay)
	if got := bankCodes(d); got != "BANK_FEE C09160000000007 -1200 ; UNKNOWN_DEBIT X1 -1 ; PAYOUT_UNKNOWN "+p.Number+" 0" {
		t.Errorf("a payout without its line: %q", got)
	}
	h.statement(base, entry{ref: "D1", number: p.Number, fen: -1000000})
	d = h.run(sampleDay)
	if got := bankCodes(d); got != "BANK_FEE C09160000000007 -1200" {
		t.Errorf("a payout with its line: %q", got)
	}
	want := map[string]ledger.Money{}
	for code, fen := range sampleTrialB {
		want[code] = fen
	}
	want["2202.H1.AVAIL"] += 1000000
	want["1002.CUST."+sampleAccount+".H1"] -= 1000000
	h.expectBalances(want)
	h.verify()
	if got := h.column(`SELECT state FROM recon_cases WHERE code = 'PAYOUT_UNKNOWN'`); len(got) != 1 || got[0] != "AUTO_CLOSED" {
		t.Errorf("the case of the payout is %v", got)
	}

	h.statement(base, entry{ref: "D1", number: p.Number, fen: -1000000}, entry{ref: "C1", number: p.Number, fen: 1000000, reason: "AC01"},
		entry{ref: "D2", number: p.Number, fen: -1000000})
	d = h.run(sampleDay)
	if got := bankCodes(d); got != "BANK_FEE C09160000000007 -1200 ; UNKNOWN_DEBIT D2 -1000000 ; PAYOUT_RETURNED C1 1000000" {
		t.Errorf("a payout that came back, and a line that does not fit: %q", got)
	}
	back, err := desk.Get(t.Context(), p.Number)
	h.must(err)
	if back.State != payout.Returned || back.Reason.Code != "AC01" || !back.Frozen {
		t.Errorf("the payout is %s, reason %+v, frozen %t", back.State, back.Reason, back.Frozen)
	}
	want["2202.H1.FROZEN"] = -1000000
	want["1221.H1"] += 1000000
	h.expectBalances(want)
	h.verify()
	h.idle(sampleDay)
	if c := h.caseOf(sampleDay, recon.PayoutReturned, ""); h.settle(c.ID, "NOTED").State != recon.CaseClosed {
		t.Error("the case of a returned payout does not close")
	}
	h.verify()
	h.idle(sampleDay)
}

// bankCodes lists what a day found of bank lines.
func bankCodes(d *recon.Day) string {
	var out []string
	for _, i := range d.Items {
		if i.BankRef != "" && i.Code != recon.Waiting {
			out = append(out, fmt.Sprintf("%s %s %d", i.Code, i.BankRef, int64(i.Amount)))
		}
	}
	return strings.Join(out, " ; ")
}

// debits feeds a statement of the account that has these debits and nothing else.
func (h *house) debits(account string, entries ...entry) {
	h.t.Helper()
	text, err := os.ReadFile(filepath.Join(sampleDir, "bank_camt053_20260916.xml"))
	h.must(err)
	s := string(text)
	first, last := strings.Index(s, "<Ntry>"), strings.LastIndex(s, "</Ntry>")+len("</Ntry>")
	s = strings.NewReplacer(sampleAccount, account, "<NbOfNtries>4</NbOfNtries><Sum>37133.82", "<NbOfNtries>0</NbOfNtries><Sum>0.00",
		"<NbOfNtries>3</NbOfNtries><Sum>43012.00", "<NbOfNtries>%d</NbOfNtries><Sum>%s", "994121.82", "%s").Replace(s[:first] + s[last:])
	var xml strings.Builder
	var debits int64
	for i, e := range entries {
		debits -= e.fen
		fmt.Fprintf(&xml, `<Ntry><NtryRef>%d</NtryRef><Amt Ccy="CNY">%s</Amt><CdtDbtInd>DBIT</CdtDbtInd><Sts>BOOK</Sts><BookgDt><Dt>2026-09-16</Dt></BookgDt><ValDt><Dt>2026-09-16</Dt></ValDt><AcctSvcrRef>%s</AcctSvcrRef><BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>ICDT</Cd><SubFmlyCd>DMCT</SubFmlyCd></Fmly></Domn></BkTxCd><NtryDtls><TxDtls><Refs><AcctSvcrRef>%s</AcctSvcrRef><EndToEndId>%s</EndToEndId></Refs></TxDtls></NtryDtls></Ntry>`,
			1+i, yuanText(-e.fen), e.ref, e.ref, e.number)
	}
	s = fmt.Sprintf(s, yuanText(100000000-debits), len(entries), yuanText(debits))
	s = strings.Replace(s, "</Stmt>", xml.String()+"</Stmt>", 1)
	out := filepath.Join(h.t.TempDir(), "bank_debits.xml")
	h.must(os.WriteFile(out, []byte(s), 0o600))
	h.feed(feed.Options{}, out)
}

// payeeOf is the account of the hospital's own name, usable since two days.
func (h *house) payeeOf(desk *payout.Payouts) {
	h.t.Helper()
	now := h.clock
	h.clock = now.Add(-48 * time.Hour)
	payee, err := desk.ProposePayee(h.t.Context(), "api", "payee", treasurer, payout.Payee{Hospital: "H1", UseFor: "HOSPITAL", Account: "H1-OWN",
		Name: "海天示范医院", Bank: "工商银行", CNAPS: "102100099996"})
	h.must(err)
	_, err = desk.ApprovePayee(h.t.Context(), head, payee.ID, "000000")
	h.must(err)
	h.clock = now
}

// TestADecisionIsPaidByTheBank: the platform bears what HIS booked without a payment
// (E08a), pays it out of its own account (E08b), and its statement proves it (J34).
func TestADecisionIsPaidByTheBank(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	text, err := os.ReadFile(filepath.Join(sampleDir, "setup.yaml"))
	h.must(err)
	path := filepath.Join(t.TempDir(), "setup.yaml")
	h.must(os.WriteFile(path, []byte(strings.Replace(string(text), "hospitals:\n", "own_bank_accounts: [{account: \"0001\", name: 平台公司, bank: 招商银行}]\nhospitals:\n", 1)), 0o600))
	h.setup(path)
	h.tell(sampleDay, "platform", "his", "channel", "his PAY GHOST1 3000 12:00:00")
	h.run(sampleDay)
	c := h.caseOf(sampleDay, recon.I2, "GHOST1")
	if got := h.settle(c.ID, "PLATFORM_BEARS"); got.State != recon.CaseClosed {
		t.Fatalf("the case is %s", got.State)
	}
	desk := h.payouts()
	h.clock = time.Date(2026, 9, 16, 3, 0, 0, 0, time.UTC)
	h.payeeOf(desk)
	p := h.paysOut(desk, payout.Request{Kind: payout.Compensation, Hospital: "H1", Amount: 3000, Subject: c.ID})
	want := books(map[string]ledger.Money{"6711.H1": 3000, "2208.OWN.0001": -3000})
	h.expectBalances(want)
	h.clock = time.Date(2026, 9, 17, 3, 30, 0, 0, time.UTC)
	h.debits("0001", entry{ref: "OWN1", number: "RENT", fen: -500000}, entry{ref: "OWN2", number: p.Number, fen: -3000})
	h.run(sampleDay)
	delete(want, "2208.OWN.0001")
	want["1002.OWN.0001"] = -3000
	h.expectBalances(want)
	h.verify()
	paid, err := desk.Get(t.Context(), p.Number)
	h.must(err)
	if paid.State != payout.Succeeded || paid.DebitRef != "OWN2" {
		t.Errorf("the payout is %s, proved by %q", paid.State, paid.DebitRef)
	}
	h.idle(sampleDay)
}

// TestTheBankPaysWhatTheChannelClosed: the channel closes a refund, so that F6 is a
// case and the debt rests in 2205; the hospital pays the patient by its bank (J39),
// the statement proves it (J34), and the day run again has nothing open.
func TestTheBankPaysWhatTheChannelClosed(t *testing.T) {
	t.Parallel()
	h := newLivedHouse(t)
	p := h.paid(5000)
	h.acks(p, 5000)
	r := h.gives(p, closed)
	h.at(nextDay, 10, 0)
	h.tell(sampleDay, "platform", "his", "channel", his(p.OrderNo, 5000), bill(p.OrderNo), hisBack(p.OrderNo, r.RefundNo))
	h.run(sampleDay)
	c := h.caseOf(sampleDay, recon.F6, p.OrderNo)
	desk := h.payouts()
	out := h.paysOut(desk, payout.Request{Kind: payout.ReroutedRefund, Hospital: "H1", Amount: 5000, Subject: r.RefundNo, Channel: "WECHAT", MerchantNo: "1900000109",
		Purpose: "非原路退款", Patient: &payout.Patient{Account: "6222020000000001", Name: "钱病人", Bank: "工商银行", CNAPS: "102100099996", Reason: "卡已注销", Proof: "scan-17"}})
	want := books(map[string]ledger.Money{wx1122: 5000, wx2206: -30, subsidy: 30, "2208.HOSP." + sampleAccount: -5000})
	h.expectBalances(want)
	if got := codes(h.run(sampleDay)); got != "" {
		t.Errorf("the day lists %q once the bank pays", got)
	}
	h.verify()
	h.at(nextDay.Add(1), 11, 30)
	h.debits(sampleAccount, entry{ref: "HOSP1", number: out.Number, fen: -5000})
	h.run(sampleDay)
	delete(want, "2208.HOSP."+sampleAccount)
	want["1002.HOSP."+sampleAccount] = -5000
	h.expectBalances(want)
	h.verify()
	file, err := h.engine.CaseFile(t.Context(), c.ID)
	h.must(err)
	if file.State != recon.CaseAutoClosed || len(file.Suspense) != 0 {
		t.Errorf("the case is %s and carries %v", file.State, file.Suspense)
	}
	h.idle(sampleDay)
}
