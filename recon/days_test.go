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

	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

const nextDay ledger.Day = 20260916

// tell writes what the sides of the sample hospital's WeChat number say of a day,
// in their true formats, and feeds it. A line is side kind order fen clock, then
// words such as refund=R1 final failed processing clock=2026-09-16. A side that no
// line names is not fed; "his" or "channel" alone feeds a file of one clean payment.
func (h *house) tell(day ledger.Day, lines ...string) {
	h.t.Helper()
	files := map[string][]string{}
	for _, text := range lines {
		f := strings.Fields(text)
		if len(f) == 1 {
			text = fmt.Sprintf("%s PAY CLEAN%s 1000 12:00:00", f[0], day.Compact())
		}
		files[f[0]] = append(files[f[0]], text)
	}
	dir := h.t.TempDir()
	for _, side := range []string{"platform", "his", "channel"} {
		if len(files[side]) == 0 {
			continue
		}
		w := fileOf{day: day}
		for _, text := range files[side] {
			w.add(h.t, side, text)
		}
		path := filepath.Join(dir, map[string]string{"platform": "platform.csv", "his": "his.csv", "channel": "bill.csv"}[side])
		h.must(os.WriteFile(path, []byte(w.text(side)), 0o644))
		if side == "platform" {
			h.importFile(path)
		} else {
			h.feed(feed.Options{MerchantNo: "1900000109", Hospital: "H1"}, path)
		}
	}
}

// fileOf builds one side's file of a day.
type fileOf struct {
	day                  ledger.Day
	rows                 []string
	pays, backs, fees, n int64
}

func (w *fileOf) add(t testing.TB, side, text string) {
	t.Helper()
	f := strings.Fields(text)
	fen, err := strconv.ParseInt(f[3], 10, 64)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	kind, order, at := f[1], f[2], w.day.String()+" "+f[4]
	refund, final, status, close, bill, tender := "", "", "SUCCESS", w.day.Compact(), "B"+order, "WECHAT"
	for _, word := range f[5:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "refund":
			refund, bill = value, "B"+value
		case "final":
			if final = at; value != "" {
				final = strings.Replace(value, "T", " ", 1)
			}
		case "failed":
			status = "FAILED"
		case "processing":
			status = "PROCESSING"
		case "abnormal":
			status = "CHANGE"
		case "on":
			at = value + " " + f[4]
		case "bill":
			bill = value
		case "unkeyed":
			order, refund, bill = "", "", "X"+order+refund
		case "cash":
			tender, order, bill = "CASH", "", "BC"+w.day.Compact()
		default:
			t.Fatalf("%q: unknown word %q", text, word)
		}
	}
	w.n++
	fee := (fen*60 + 5000) / 10000
	switch side {
	case "platform":
		settle := fmt.Sprint(fen)
		if status == "FAILED" {
			settle = ""
		}
		w.rows = append(w.rows, fmt.Sprintf("H1,1900000109,WECHAT,%s,%s,%s,T%s,%d,%s,%s,B%s,OUTPATIENT,MP,%s,%s,", kind, order, refund, order, fen, at, status, order, settle, final))
	case "his":
		w.rows = append(w.rows, fmt.Sprintf("H1,%s,%s,%s,%s,%s,%d,%s,C03,OUTPATIENT,%s,26%08d,C03-%s-1,,", bill, kind, tender, order, refund, fen, at, tender, w.n, close))
	default:
		w.bill(kind, order, refund, status, at, fen, fee)
	}
	if kind == "PAY" {
		w.pays, w.fees = w.pays+fen, w.fees+fee
	} else {
		w.backs, w.fees = w.backs+fen, w.fees-fee
	}
}

func yuanText(fen int64) string { return fmt.Sprintf("%d.%02d", fen/100, fen%100) }

func (w *fileOf) bill(kind, order, refund, status, at string, fen, fee int64) {
	head := fmt.Sprintf("`%s,`wx1,`1900000109,`0,`,`T%s,`%s,`o1,`JSAPI,", at, order, order)
	if kind == "PAY" {
		w.rows = append(w.rows, head+fmt.Sprintf("`SUCCESS,`OTHERS,`CNY,`%[1]s,`0.00,`0,`0,`0.00,`0.00,`,`,`药费,`,`%[2]s000,`0.60%%,`%[1]s,`0.00,`", yuanText(fen), yuanText(fee)))
		return
	}
	state := "REFUND"
	if kind == "REVERSE" {
		state, refund = "REVOKED", order
	}
	w.rows = append(w.rows, head+fmt.Sprintf("`"+state+",`OTHERS,`CNY,`0.00,`0.00,`50%s,`%s,`%[3]s,`0.00,`ORIGINAL,`%[4]s,`药费,`,`-%[5]s000,`0.60%%,`0.00,`%[3]s,`", refund, refund, yuanText(fen), status, yuanText(fee)))
}

func (w *fileOf) text(side string) string {
	body := strings.Join(w.rows, "\n") + "\n"
	switch side {
	case "platform":
		return "hospital,merchant_no,channel,kind,order_no,refund_no,channel_trade_no,amount_fen,occurred_at,status,his_bill_no,biz_type,terminal,settle_fen,channel_success_at,patient_ref\n" + body
	case "his":
		return "hospital,his_bill_no,kind,channel,order_no,refund_no,amount_fen,occurred_at,operator,biz_type,tender,receipt_no,close_no,original_bill_no,patient_ref\n" + body +
			fmt.Sprintf("#%d,%d,%d\n", w.n, w.pays, w.backs)
	}
	fees := yuanText(max(w.fees, -w.fees)) + "000"
	if w.fees < 0 {
		fees = "-" + fees
	}
	return "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注\n" + body +
		"总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\n" +
		fmt.Sprintf("`%d,`%s,`%s,`0.00,`%s,`%s,`%s\n", w.n, yuanText(w.pays), yuanText(w.backs), fees, yuanText(w.pays), yuanText(w.backs))
}

// codes lists what a day found of orders that are not clean.
func codes(d *recon.Day) string {
	var out []string
	for _, i := range d.Items {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %d", i.Code, i.OrderNo, i.RefundNo, int64(i.Amount))))
	}
	slices.Sort(out)
	return strings.Join(strings.Fields(strings.Join(out, " ; ")), " ")
}

// ends is what two orders of running must agree on: balances, what is open on the
// suspense accounts, and each leg's verdict and journals; not which run told it.
func (h *house) ends() string {
	days := regexp.MustCompile(`case_\d{8}_[0-9a-f]+|leg H\d+ \d{8}`)
	trial := h.trial()
	// How much of what is proved has been released depends on which day's refunds
	// come first; what is owed to the hospital does not.
	trial["2202.H1"] = trial["2202.H1.PEND"] + trial["2202.H1.AVAIL"]
	delete(trial, "2202.H1.PEND")
	delete(trial, "2202.H1.AVAIL")
	lines := append(strings.Split(trialOf(trial), "\n"), h.open(suspenseFamilies...)...)
	for _, leg := range h.legs(sampleDay, nextDay) {
		if strings.HasPrefix(leg, "leg") && !strings.Contains(leg, " BANK ") {
			lines = append(lines, leg)
		}
	}
	for i := range lines {
		lines[i] = days.ReplaceAllString(lines[i], "·")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// story is what the sides tell of two days, and what each day finds.
type story struct {
	name        string
	first, next []string
	is, then    string // what the run of either day lists, in order
}

var clean = []string{"platform", "his", "channel"}

var stories = []story{
	{"paid before midnight by us, after it by the channel (scenario 26)",
		[]string{"platform PAY O1 5000 23:59:58", "his PAY O1 5000 23:59:59"}, []string{"channel PAY O1 5000 00:00:01"},
		"PENDING O1 -5000", "F10 O1 0"},
	{"the channel's time dates the fund leg (scenarios 26, 29, 75)",
		[]string{"channel PAY O1 5000 23:59:58", "platform PAY O1 5000 00:00:05 on=2026-09-16 final=2026-09-15T23:59:58", "his PAY O1 5000 23:59:59"}, nil, "", ""},
	{"never at the channel", []string{"platform PAY O1 5000 23:50:00", "his PAY O1 5000 23:50:00"}, nil, "PENDING O1 -5000", "F3 O1 -5000"},
	{"never in HIS", []string{"platform PAY O1 5000 23:50:00", "channel PAY O1 5000 23:50:00"}, nil, "PENDING O1 5000", "I1 O1 5000"},
	{"HIS after midnight (scenario 7)", []string{"platform PAY O1 5000 23:50:00", "channel PAY O1 5000 23:50:00"}, []string{"his PAY O1 5000 23:50:00 on=2026-09-15"},
		"PENDING O1 5000", "F10 O1 0"},
	{"refund asked before midnight, successful after it (scenario 12)",
		[]string{"platform PAY O1 5000 10:00:00 final", "channel PAY O1 5000 10:00:00", "his PAY O1 5000 10:00:00",
			"platform REFUND O1 2000 23:58:00 refund=R1", "channel REFUND O1 2000 23:58:00 refund=R1", "his REFUND O1 2000 23:58:00 refund=R1"}, nil, "", ""},
	{"refund voided in HIS before midnight, accepted after it (scenario 85)",
		[]string{"platform PAY O1 5000 10:00:00 final", "channel PAY O1 5000 10:00:00", "his PAY O1 5000 10:00:00", "his REFUND O1 2000 23:50:00 refund=R1"},
		[]string{"platform REFUND O1 2000 00:10:00 refund=R1", "channel REFUND O1 2000 00:10:00 refund=R1 processing"},
		"PENDING O1 R1 2000", "SWEEP O1 R1 0"},
	{"refund never at the channel", []string{"platform PAY O1 5000 10:00:00 final", "channel PAY O1 5000 10:00:00", "his PAY O1 5000 10:00:00",
		"platform REFUND O1 2000 23:58:00 refund=R1", "his REFUND O1 2000 23:58:00 refund=R1"}, nil, "PENDING O1 R1 2000", "F6 O1 R1 2000"},
	{"refund never in HIS", []string{"platform PAY O1 5000 10:00:00 final", "channel PAY O1 5000 10:00:00", "his PAY O1 5000 10:00:00",
		"platform REFUND O1 2000 23:58:00 refund=R1", "channel REFUND O1 2000 23:58:00 refund=R1"}, nil, "PENDING O1 R1 -2000", "I3 O1 R1 -2000"},
	{"an F3 whose row comes a day late: LATE_MATCH", []string{"platform PAY O1 5000 15:00:00", "his PAY O1 5000 15:00:00"}, []string{"channel PAY O1 5000 09:00:00"},
		"F3 O1 -5000", "F10 O1 0"},
	{"an I1 that HIS books a day late (scenario 1)", []string{"platform PAY O1 5000 15:00:00", "channel PAY O1 5000 15:00:00"}, []string{"his PAY O1 5000 09:00:00"},
		"I1 O1 5000", "F10 O1 0"},
	{"an F1 that HIS books a day late: back-filled", []string{"channel PAY O1 5000 15:00:00"}, []string{"his PAY O1 5000 09:00:00"},
		"F1 O1 5000", "BACKFILL O1 0"},
	{"an I2 that is voided a day late: nothing is left", []string{"his PAY O1 5000 15:00:00"}, []string{"his REFUND O1 5000 09:00:00 bill=V1"},
		"I2 O1 -5000", ""},
	{"void and charge again, two days after (scenario 70)",
		[]string{"platform PAY O1 10000 10:00:00 final", "channel PAY O1 10000 10:00:00", "his PAY O1 10000 10:00:00"},
		[]string{"platform REFUND O1 3000 09:00:00 refund=R1", "channel REFUND O1 3000 09:00:00 refund=R1",
			"his REFUND O1 10000 09:00:00 bill=V1", "his PAY O1 7000 09:00:00 bill=N1"}, "", ""},
}

// TestTwoDays tells each story in order and with the second day before the first:
// what the days list in order, and the same end either way (scenario 44). An item
// that a later day closes leaves no open case and no suspense.
func TestTwoDays(t *testing.T) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			h := s.house(t)
			h.day(s.first, sampleDay)
			if got := codes(h.run(sampleDay)); got != s.is {
				t.Errorf("the first day lists %q, want %q", got, s.is)
			}
			h.verify()
			h.casesCarry(sampleDay)
			h.day(s.next, nextDay)
			if got := codes(h.run(nextDay)); got != s.then {
				t.Errorf("the next day lists %q, want %q", got, s.then)
			}
			h.verify()
			h.casesCarry(sampleDay, nextDay)
			h.idle(sampleDay, nextDay)
			end := h.ends()
			h.again(t, s, end)

			turned := s.house(t)
			turned.day(s.next, nextDay)
			turned.run(nextDay)
			turned.verify()
			turned.day(s.first, sampleDay)
			turned.run(sampleDay)
			turned.verify()
			turned.casesCarry(sampleDay, nextDay)
			turned.run(nextDay)
			turned.verify()
			sameState(t, "the second day before the first", end, turned.ends())
			turned.again(t, s, end)
		})
	}
}

// house imports what the platform says of both days: it comes before the files.
func (s *story) house(t testing.TB) *house {
	h := newHouse(t)
	h.setup(filepath.Join(sampleDir, "setup.yaml"))
	h.tell(sampleDay, only("platform", append(slices.Clone(clean), s.first...))...)
	h.tell(nextDay, only("platform", append(slices.Clone(clean), s.next...))...)
	return h
}

// again makes a new version of either day, by a cash row that is nobody's business
// here: what a day found of the other's lines is found again.
func (h *house) again(t *testing.T, s story, end string) {
	t.Helper()
	for day, lines := range map[ledger.Day][]string{sampleDay: s.first, nextDay: s.next} {
		before, err := h.engine.Load(t.Context(), day)
		h.must(err)
		h.tell(day, append(only("his", append(slices.Clone(clean), lines...)), "his PAY CASH 700 12:00:00 cash")...)
		d := h.run(day)
		if d.Runs[0].Run != before.Runs[0].Run+1 {
			t.Errorf("%s: run %d after run %d", day, d.Runs[0].Run, before.Runs[0].Run)
		}
		sameState(t, "a new version of "+day.String(), end, h.ends())
		h.verify()
		h.casesCarry(sampleDay, nextDay)
	}
}

func (h *house) day(lines []string, day ledger.Day) {
	h.t.Helper()
	all := append(slices.Clone(clean), lines...)
	h.tell(day, append(only("his", all), only("channel", all)...)...)
}

func only(side string, lines []string) (out []string) {
	for _, line := range lines {
		if strings.HasPrefix(line, side) {
			out = append(out, line)
		}
	}
	return out
}

// TestLateMatch: the F3 of a day whose row comes a day late is closed by the run,
// its suspense is undone by E12 (scenario 44, spec/accounting.md E12).
func TestLateMatch(t *testing.T) {
	t.Parallel()
	s := story{first: []string{"platform PAY O1 5000 15:00:00", "his PAY O1 5000 15:00:00"}, next: []string{"channel PAY O1 5000 09:00:00"}}
	h := s.house(t)
	h.day(s.first, sampleDay)
	h.run(sampleDay)
	c := h.caseOf(sampleDay, recon.F3, "O1")
	_, err := h.decide(c.ID, "li", "propose", "HIS_VOIDS")
	h.must(err)
	h.day(s.next, nextDay)
	h.run(nextDay)
	file, err := h.engine.CaseFile(t.Context(), c.ID)
	h.must(err)
	if file.State != recon.CaseAutoClosed || file.Reason != "LATE_MATCH" || len(file.Suspense) != 0 {
		t.Errorf("the case is %s, %q, and carries %v", file.State, file.Reason, file.Suspense)
	}
	got := h.column(`SELECT kind FROM entries WHERE ref = 'O1' AND maker = 'recon' ORDER BY lane, seq, ord`)
	if !slices.Equal(got, []string{"J02", "E11", "E12"}) {
		t.Errorf("posted: %v", got)
	}
	if _, err := h.decide(c.ID, "wang", "approve", ""); err == nil {
		t.Error("a proposal was approved after the case had closed")
	}
	h.verify()
}

// TestPendingIsFrozen: while the next day's file of the side that is waited for
// has not been fed, runs of that day leave the item pending; with the file it is
// closed, or becomes the difference that it is (scenarios 27, 38).
func TestPendingIsFrozen(t *testing.T) {
	for _, c := range []struct {
		name        string
		first, next []string
		fed, late   string
		is, then    string
	}{
		{"the bill comes, with its row", []string{"platform PAY O1 5000 23:50:00", "his PAY O1 5000 23:50:00"}, []string{"channel PAY O1 5000 00:00:01"},
			"his", "channel", "PENDING O1 -5000", "F10 O1 0"},
		{"the bill comes, without it", []string{"platform PAY O1 5000 23:50:00", "his PAY O1 5000 23:50:00"}, nil, "his", "channel", "PENDING O1 -5000", "F3 O1 -5000"},
		{"HIS comes, with its row", []string{"platform PAY O1 5000 23:50:00", "channel PAY O1 5000 23:50:00"}, []string{"his PAY O1 5000 00:00:01"},
			"channel", "his", "PENDING O1 5000", "F10 O1 0"},
		{"HIS comes, without it", []string{"platform PAY O1 5000 23:50:00", "channel PAY O1 5000 23:50:00"}, nil, "channel", "his", "PENDING O1 5000", "I1 O1 5000"},
		{"the refund's row comes", []string{"platform PAY O1 5000 10:00:00 final", "channel PAY O1 5000 10:00:00", "his PAY O1 5000 10:00:00",
			"platform REFUND O1 2000 23:58:00 refund=R1", "his REFUND O1 2000 23:58:00 refund=R1"}, []string{"channel REFUND O1 2000 00:00:30 refund=R1"},
			"his", "channel", "PENDING O1 R1 2000", "F10 O1 R1 0"},
		{"an F3 of the day stays one", []string{"platform PAY O1 5000 15:00:00", "his PAY O1 5000 15:00:00"}, nil, "his", "channel", "F3 O1 -5000", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := story{first: c.first, next: c.next}
			h := s.house(t)
			h.day(c.first, sampleDay)
			if got := codes(h.run(sampleDay)); got != c.is {
				t.Fatalf("the first day lists %q, want %q", got, c.is)
			}
			end := h.ends()
			h.tell(nextDay, only(c.fed, append(slices.Clone(clean), c.next...))...)
			h.run(nextDay)
			h.verify()
			for _, line := range differ(strings.Split(end, "\n"), strings.Split(h.ends(), "\n")) {
				if strings.Contains(line, "O1") {
					t.Errorf("while the %s of the next day is not fed: %s", c.late, line)
				}
			}
			h.idle(sampleDay, nextDay)
			h.tell(nextDay, only(c.late, append(slices.Clone(clean), c.next...))...)
			if got := codes(h.run(nextDay)); got != c.then {
				t.Errorf("with the file the next day lists %q, want %q", got, c.then)
			}
			h.verify()
			h.casesCarry(sampleDay, nextDay)
			h.idle(sampleDay, nextDay)
		})
	}
}
