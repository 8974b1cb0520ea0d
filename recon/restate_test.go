package recon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// importDay imports the platform's payments of a generated day.
func (h *house) importDay(dir string, day *sandbox.DayPlan) {
	h.t.Helper()
	for _, f := range day.Files {
		if f.Source == sandbox.SourcePlatform {
			h.importFile(filepath.Join(dir, f.Path))
		}
	}
}

// versions lists the versions of the pairs of a day.
func (h *house) versions(day ledger.Day) []string {
	h.t.Helper()
	return h.column(`
		SELECT concat_ws(' ', hospital, channel, merchant_no, pair, 'version', MAX(version))
		FROM recon_versions WHERE day = $1 GROUP BY hospital, channel, merchant_no, pair ORDER BY 1`, day)
}

// TestRestatedBill: a bill comes again with one row gone and one put in. The
// FUNDS pair of that number alone has a version 2, two cases alone change, what
// stood for the row that is gone is undone, both versions can be seen; feeding
// the first edition again makes version 3 with the state of version 1
// (scenario 41).
func TestRestatedBill(t *testing.T) {
	for _, settled := range []bool{true, false} {
		t.Run(map[bool]string{true: "after settlement", false: "before settlement"}[settled], func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			dir, plan := generate(t, sandbox.Config{Seed: 11, Payments: 300, Hospitals: 2, Gzip: settled})
			day := plan.Days[0]
			h.load(dir, plan)
			files := slices.Clone(day.Files)
			if !settled {
				files = slices.DeleteFunc(files, func(f sandbox.File) bool { return f.Source == sandbox.SourceBank })
			}
			h.feedDay(dir, files)
			first := h.run(day.Day)
			items, versions, state, trial := found(first), h.versions(day.Day), h.state(day.Day), h.trial()

			restated, err := sandbox.Restate(dir, plan)
			h.must(err)
			h.feed(feed.Options{}, filepath.Join(dir, restated.File))
			second := h.run(day.Day)
			no := restated.Removed.MerchantNo
			if got := differ(versions, h.versions(day.Day)); len(got) != 2 || !strings.Contains(got[0]+got[1], no+" FUNDS version 2") {
				t.Errorf("the versions that changed: %v", got)
			}
			removed := restated.Removed
			if !settled {
				removed.Code = "F3"
			}
			want := append(slices.Clone(items), planned([]sandbox.Case{removed, restated.Added})...)
			for _, line := range differ(want, found(second)) {
				t.Errorf("%s", line)
			}
			h.verify()
			h.casesCarry(day.Day)
			h.idle(day.Day)
			if one := h.column(`SELECT COUNT(*)::TEXT FROM recon_items WHERE day = $1 AND hospital = 'H1' AND run = 1`, day.Day)[0]; one == "0" {
				t.Error("the first version cannot be seen any more")
			}
			h.undoneOnce(restated.Removed.OrderNo)

			h.feed(feed.Options{}, filepath.Join(dir, plan.Restatable.File))
			h.run(day.Day)
			if got := trialOf(h.trial()); got != trialOf(trial) {
				sameState(t, "balances with the first edition again", trialOf(trial), got)
			}
			sameState(t, "the first edition again", withoutClosed(state), withoutClosed(h.state(day.Day)))
			h.verify()
			h.idle(day.Day)
		})
	}
}

// withoutClosed leaves out the cases that a run has closed.
func withoutClosed(state string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(state, "\n"), func(line string) bool { return strings.Contains(line, "AUTO_CLOSED") }), "\n")
}

// undoneOnce: the money of the row that is gone left 1122 by E11, once.
func (h *house) undoneOnce(order string) {
	h.t.Helper()
	if got := h.column(`SELECT kind FROM entries WHERE ref = $1 AND maker = 'recon' ORDER BY lane, seq, ord`, order); !slices.Equal(got, []string{"J02", "E11"}) {
		h.t.Errorf("posted for %s: %v", order, got)
	}
}

// statement adds a credit of a settlement to a bank statement, with the balance
// and totals that follow.
func statement(t testing.TB, path string, fen int64, ref, text string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	xml := string(raw)
	grow := func(pattern string, by int64, yuan bool) {
		re := regexp.MustCompile(pattern)
		m := re.FindStringSubmatchIndex(xml)
		if m == nil {
			t.Fatalf("%s has no %s", path, pattern)
		}
		n, err := strconv.ParseInt(strings.Replace(xml[m[2]:m[3]], ".", "", 1), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		value := fmt.Sprint(n + by)
		if yuan {
			value = yuanText(n + by)
		}
		xml = xml[:m[2]] + value + xml[m[3]:]
	}
	grow(`<Cd>CLBD</Cd></CdOrPrtry></Tp><Amt Ccy="CNY">([0-9.]+)</Amt>`, fen, true)
	grow(`<TtlCdtNtries><NbOfNtries>(\d+)<`, 1, false)
	grow(`<TtlCdtNtries><NbOfNtries>\d+</NbOfNtries><Sum>([0-9.]+)<`, fen, true)
	entry := regexp.MustCompile(`(?s)\s*<Ntry>.*?</Ntry>`).FindAllString(xml, -1)
	for _, e := range entry {
		if !strings.Contains(e, "CRDT") || !strings.Contains(e, "微信支付商户结算") {
			continue
		}
		e = regexp.MustCompile(`<Amt Ccy="CNY">[0-9.]+<`).ReplaceAllString(e, `<Amt Ccy="CNY">`+yuanText(fen)+`<`)
		e = regexp.MustCompile(`<AcctSvcrRef>[^<]*<`).ReplaceAllString(e, "<AcctSvcrRef>"+ref+"<")
		e = regexp.MustCompile(`<NtryRef>\d+<`).ReplaceAllString(e, "<NtryRef>999<")
		e = regexp.MustCompile(`<EndToEndId>[^<]*<`).ReplaceAllString(e, "<EndToEndId>LATE"+ref+"<")
		e = regexp.MustCompile(`<Ustrd>[^<]*<`).ReplaceAllString(e, "<Ustrd>"+text+"<")
		xml = strings.Replace(xml, "    </Stmt>", strings.TrimLeft(e, "\n")+"\n    </Stmt>", 1)
		break
	}
	out := filepath.Join(t.TempDir(), filepath.Base(path))
	if err := os.WriteFile(out, []byte(xml), 0o644); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLateCredit: a settlement that no line brought is missing one working day
// later; a credit that comes after that closes the case, empties 1124 and stays
// when either day runs again (scenarios 56, 81).
func TestLateCredit(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	dir, plan := generate(t, sandbox.Config{Seed: 21, Payments: 80, Hospitals: 1, Days: 2, Faults: map[string]int{"BANK_MISSING": 2}})
	h.load(dir, plan)
	first, next := plan.Days[0], plan.Days[1]
	h.feedDay(dir, first.Files)
	h.run(first.Day)
	h.importDay(dir, next)
	h.feedDay(dir, next.Files)
	h.run(next.Day)
	h.casesCarry(first.Day, next.Day)
	var missing *sandbox.Case
	for i := range next.Cases {
		if c := &next.Cases[i]; c.Code == "BANK_MISSING" && c.Channel == "WECHAT" {
			missing = c
		}
	}
	if missing == nil {
		t.Fatal("no WeChat settlement is missing")
	}
	id := ""
	cases, err := h.engine.Cases(t.Context(), 0, false)
	h.must(err)
	for _, c := range cases {
		if string(c.Code) == "BANK_MISSING" && c.MerchantNo == missing.MerchantNo {
			id = c.ID
		}
	}
	path := func(d *sandbox.DayPlan) string {
		for _, f := range d.Files {
			if f.Source == sandbox.SourceBank {
				return filepath.Join(dir, f.Path)
			}
		}
		return ""
	}
	before := h.trial()["1124.WX."+missing.MerchantNo]
	h.feed(feed.Options{}, statement(t, path(next), -missing.AmountFen, "LATE1", "微信支付商户结算 "+missing.MerchantNo+" "+first.Day.Compact()))
	h.run(next.Day)
	check := func() {
		t.Helper()
		file, err := h.engine.CaseFile(t.Context(), id)
		h.must(err)
		if file.State != "AUTO_CLOSED" || len(file.Suspense) != 0 {
			t.Errorf("the case is %s and carries %v", file.State, file.Suspense)
		}
		if got := before - h.trial()["1124.WX."+missing.MerchantNo]; int64(got) != -missing.AmountFen {
			t.Errorf("1124 has come down by %s, want %d fen", got, -missing.AmountFen)
		}
		h.verify()
		h.casesCarry(first.Day, next.Day)
		h.idle(first.Day, next.Day)
	}
	check()
	state := h.state(first.Day, next.Day)
	// The first day's statement comes again with a line that is nobody's: its bank
	// pair runs again, and the credit of the day after stays where it is.
	h.feed(feed.Options{}, statement(t, path(first), 7, "LATE2", "利息"))
	h.run(first.Day)
	check()
	if got := differ(strings.Split(state, "\n"), strings.Split(h.state(first.Day, next.Day), "\n")); strings.Contains(strings.Join(got, "\n"), "SETTLE") {
		t.Errorf("settlements differ:\n%s", strings.Join(got, "\n"))
	}
}

// TestIdentified: what a settlement is short comes later without a word; a person
// names the settlement and another approves, and both cases are closed, 2243 and
// 1124 empty, also when the days run again (scenario 57).
func TestIdentified(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	dir, plan := generate(t, sandbox.Config{Seed: 22, Payments: 80, Hospitals: 1, Days: 2, Faults: map[string]int{"BANK_SHORT": 2}})
	h.load(dir, plan)
	first, next := plan.Days[0], plan.Days[1]
	h.feedDay(dir, first.Files)
	h.run(first.Day)
	var short *recon.Case
	cases, err := h.engine.Cases(t.Context(), first.Day, false)
	h.must(err)
	for i := range cases {
		if cases[i].Code == recon.BankShort && cases[i].Channel == "WECHAT" {
			short = &cases[i]
		}
	}
	h.importDay(dir, next)
	h.feedDay(dir, slices.DeleteFunc(slices.Clone(next.Files), func(f sandbox.File) bool { return f.Source == sandbox.SourceBank }))
	bank := ""
	for _, f := range next.Files {
		if f.Source == sandbox.SourceBank {
			bank = filepath.Join(dir, f.Path)
		}
	}
	h.feed(feed.Options{}, statement(t, bank, int64(-short.Amount), "WORDLESS", "往来款"))
	h.run(next.Day)
	h.verify()
	h.casesCarry(first.Day, next.Day)
	c, settlement := h.caseOf(next.Day, recon.BankUnidentified, ""), "stl_"+first.Day.Compact()+"_"+short.MerchantNo
	if recon.NoteWords(c.Note, "en") != "suggested: "+settlement {
		t.Errorf("the case says %q", c.Note)
	}
	loose := c.ID
	_, err = h.decide(loose, "li", "propose", "IDENTIFIED", "stl_20260101_1")
	h.must(err)
	if _, err := h.decide(loose, "wang", "approve", ""); err == nil || !strings.Contains(err.Error(), "names no settlement") {
		t.Errorf("a settlement that does not exist: %v", err)
	}
	_, err = h.decide(loose, "wang", "reject", "")
	h.must(err)
	if c := h.settle(loose, "IDENTIFIED", settlement); c.State != recon.CaseClosed {
		t.Errorf("identified: %s", c.State)
	}
	check := func() {
		t.Helper()
		if file, err := h.engine.CaseFile(t.Context(), short.ID); err != nil || file.State != recon.CaseAutoClosed || len(file.Suspense) != 0 {
			t.Errorf("the case of the short settlement: %+v, %v", file, err)
		}
		for _, line := range h.open("1124.WX.", "2243.") {
			if strings.Contains(line, settlement) || strings.Contains(line, "WORDLESS") {
				t.Errorf("still %s", line)
			}
		}
		h.verify()
		h.casesCarry(first.Day, next.Day)
	}
	check()
	state := h.state(first.Day, next.Day)
	for _, f := range first.Files {
		if f.Source == sandbox.SourceBank {
			h.feed(feed.Options{}, statement(t, filepath.Join(dir, f.Path), 9, "NEW", "利息"))
		}
	}
	h.run(first.Day)
	h.run(next.Day)
	check()
	for _, line := range differ(strings.Split(state, "\n"), strings.Split(h.state(first.Day, next.Day), "\n")) {
		if strings.Contains(line, settlement) || strings.Contains(line, short.ID) || strings.Contains(line, loose) {
			t.Error(line)
		}
	}
	h.idle(first.Day, next.Day)
}

// TestHISNamesAChannelThatTheHospitalHasNot: a refund in HIS by a channel at which
// the hospital has no merchant number is a case like any other and holds no day up.
func TestHISNamesAChannelThatTheHospitalHasNot(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	text, err := os.ReadFile(filepath.Join(sampleDir, "setup.yaml"))
	h.must(err)
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "UNIONPAY") {
			kept = append(kept, line)
		}
	}
	dir := t.TempDir()
	h.must(os.WriteFile(filepath.Join(dir, "setup.yaml"), []byte(strings.Join(kept, "")), 0o600))
	h.setup(filepath.Join(dir, "setup.yaml"))
	his, err := os.ReadFile(filepath.Join(sampleDir, "his.csv"))
	h.must(err)
	row := "H1,RU000001,REFUND,UNIONPAY,UP2026091500000001,UR2026091500000001,700,2026-09-15 10:00:00,C03,OUTPATIENT,UNIONPAY,2600000099,C03-20260915-1,BU000001,P0000000000000001\n"
	h.must(os.WriteFile(filepath.Join(dir, "his.csv"), append(his, row...), 0o600))
	h.importFile(filepath.Join(sampleDir, "platform.csv"))
	h.feedSample(sampleFeeds[1:]...)
	h.feed(feed.Options{Counted: true, Rows: 51, Sum: 1592039 - 700}, filepath.Join(dir, "his.csv"))
	d := h.run(sampleDay)
	at := slices.IndexFunc(d.Items, func(i *recon.Item) bool { return i.OrderNo == "UP2026091500000001" })
	if at < 0 || d.Items[at].Code != recon.I4 || d.Items[at].Amount != 700 {
		t.Errorf("the refund is not listed: %+v", d.Items)
	}
	h.verify()
}

// TestWhatTheChannelHasNotPaidOutIsExpectedOnce: the channel keeps the balance over a
// day without a withdrawal, so that the fund bill of the next day closes with both;
// each day expects its own, and one credit for both that names the last day meets
// both (scenarios 56, 76).
func TestWhatTheChannelHasNotPaidOutIsExpectedOnce(t *testing.T) {
	t.Parallel()
	h := sampleHouse(t)
	h.feedSample(sampleFeeds[:5]...)
	h.feed(feed.Options{}, oneCredit(t, sampleDay.Add(1), "100.00", "往来款"))
	h.run(sampleDay)

	h.tell(nextDay, "platform PAY O1 5000 12:00:00 final", "his PAY O1 5000 12:00:00", "channel PAY O1 5000 12:00:00")
	fund := "\ufeff记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号\n" +
		"`2026-09-16 12:00:00,`TO1,`5030009000001,`交易,`交易,`收入,`50.00,`10762.38,`system,`结算总金额 50.00 元,`O1\n" +
		"`2026-09-16 12:00:00,`TO1,`5030009000002,`交易,`扣除交易手续费,`支出,`0.30,`10762.08,`system,`费率 0.60%,`O1\n" +
		"资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额\n`2.0,`1.0,`50.00,`1.0,`0.30\n"
	file := filepath.Join(t.TempDir(), "fund.csv")
	h.must(os.WriteFile(file, []byte(fund), 0o600))
	h.feed(feed.Options{MerchantNo: "1900000109", Hospital: "H1"}, file)
	h.feed(feed.Options{}, oneCredit(t, nextDay.Add(1), "10762.08", "微信支付商户结算 1900000109 20260916"))
	d := h.run(nextDay)
	for _, s := range d.Slices {
		if s.Settlement != nil && s.MerchantNo == "1900000109" && (s.Settlement.Closing != 1076208 || s.Settlement.Expected != 4970 || s.Settlement.Arrived != 4970) {
			t.Errorf("of a closing balance of %s %s is expected, %s arrived", s.Settlement.Closing, s.Settlement.Expected, s.Settlement.Arrived)
		}
	}
	if got := h.trial()["1124.WX.1900000109"]; got != 0 {
		t.Errorf("1124 is %s", got)
	}
	h.verify()
	h.idle(sampleDay, nextDay)
}

// oneCredit is a statement of the sample hospital's account with one credit of the
// WeChat counterparty.
func oneCredit(t testing.TB, booked ledger.Day, yuan, text string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(sampleDir, "bank_camt053_20260916.xml"))
	if err != nil {
		t.Fatal(err)
	}
	xml := string(raw)
	entries := regexp.MustCompile(`(?s)\s*<Ntry>.*?</Ntry>`).FindAllString(xml, -1)
	for _, e := range entries[1:] {
		xml = strings.Replace(xml, e, "", 1)
	}
	fen, err := ledger.ParseYuan(yuan)
	if err != nil {
		t.Fatal(err)
	}
	xml = strings.NewReplacer("994121.82", (fen + 100000000).String(), "<NbOfNtries>4</NbOfNtries><Sum>37133.82", "<NbOfNtries>1</NbOfNtries><Sum>"+yuan,
		"<NbOfNtries>3</NbOfNtries><Sum>43012.00", "<NbOfNtries>0</NbOfNtries><Sum>0.00", "10712.38", yuan, "微信支付商户结算 1900000109 20260915", text,
		"WXSETTLE20260915", "E2E"+booked.Compact(), "C0916", "C"+booked.Compact(), "2026-09-16", booked.String()).Replace(xml)
	path := filepath.Join(t.TempDir(), "bank_"+booked.Compact()+".xml")
	if err := os.WriteFile(path, []byte(xml), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
