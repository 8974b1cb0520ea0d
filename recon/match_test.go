package recon

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

const testDay ledger.Day = 20260915

// openRules are rules under which every feed of the day is complete and no other
// day has been run.
func openRules() *Rules {
	return &Rules{
		Day:       testDay,
		Merchants: map[MerchantKey]Merchant{{channels.WeChat, "W1"}: {Hospital: "H1", Foreign: []string{"SHOP"}, FeeAt: sixPerMille}, {channels.WeChat, "W2"}: {Hospital: "H1", FeeAt: sixPerMille}},
		InfoReady: func(_ string, day ledger.Day) bool { return day == testDay },
		FundReady: func(_, _, _ string, day ledger.Day) bool { return day == testDay },
		Published: func(string, ledger.Day) bool { return false },
	}
}

func sixPerMille(_ ledger.Day, settle ledger.Money) ledger.Money { return (settle*6 + 500) / 1000 }

// at is a time on the test day.
func at(clock string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04:05", testDay.String()+" "+clock, ledger.Beijing)
	if err != nil {
		panic(err)
	}
	return t
}

// parseLine reads the table language of these tests: side kind order amount, then
// words such as refund=R1 at=23:55:00 status=FAILED fee=6 bill=B1 orig=B0 final
// patient=P1 mch=W2 trade=T1 settle=900 day=20260916 tender=CASH.
func parseLine(t *testing.T, text string) Line {
	t.Helper()
	f := strings.Fields(text)
	if len(f) < 4 {
		t.Fatalf("%q: want side kind order amount", text)
	}
	l := Line{Side: map[string]Side{"his": HIS, "platform": Platform, "channel": Channel}[f[0]],
		Kind: channels.Kind(f[1]), OrderNo: strings.TrimPrefix(f[2], "-"), Hospital: "H1", Channel: channels.WeChat, MerchantNo: "W1",
		Status: channels.Success, At: at("10:00:00"), Day: testDay, Amount: fen(t, f[3])}
	l.Settle = l.Amount
	l.Fee = -1
	for _, word := range f[4:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "refund":
			l.RefundNo = value
		case "at":
			l.At = at(value)
		case "status":
			l.Status = channels.Status(value)
		case "fee":
			l.Fee = fen(t, value)
		case "bill":
			l.BillNo = value
		case "orig":
			l.OrigBillNo = value
		case "final":
			l.Final = true
		case "patient":
			l.Patient = value
		case "mch":
			l.MerchantNo = value
		case "trade":
			l.TradeNo = value
		case "settle":
			l.Settle = fen(t, value)
		case "row":
			l.Row = int(fen(t, value))
		case "day":
			l.Day = ledger.Day(fen(t, value))
			l.At = l.Day.Start().Add(l.At.Sub(testDay.Start()))
		case "tender":
			l.Channel = value
		default:
			t.Fatalf("%q: unknown word %q", text, word)
		}
	}
	if l.Fee < 0 {
		l.Fee = sixPerMille(0, l.Settle)
	}
	if l.Side == HIS {
		l.MerchantNo = ""
	}
	return l
}

func fen(t *testing.T, text string) ledger.Money {
	t.Helper()
	var n int64
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatalf("%q is no number: %v", text, err)
	}
	return ledger.Money(n)
}

// matchAll runs every stage over lines in any order, as a run does.
func matchAll(r *Rules, lines []Line) []*Leg {
	byOrder := map[string][]Line{}
	var orders []string
	for _, side := range []Side{Platform, Channel, HIS} {
		for _, l := range lines {
			if l.Side != side {
				continue
			}
			if byOrder[l.OrderNo] == nil {
				orders = append(orders, l.OrderNo)
			}
			byOrder[l.OrderNo] = append(byOrder[l.OrderNo], l)
		}
	}
	var o Orphans
	for _, order := range orders {
		if order == "" {
			for _, l := range byOrder[""] {
				if !electronic(&l) {
					o.Cash = append(o.Cash, l)
					continue
				}
				o.Loose = append(o.Loose, matchOrder(r, []Line{l})...)
			}
			continue
		}
		for _, leg := range matchOrder(r, byOrder[order]) {
			if leg.Code == I2 || leg.Code == I4 && leg.RefundNo == "" {
				o.Loose = append(o.Loose, leg)
			} else {
				o.Legs = append(o.Legs, leg)
			}
		}
	}
	return o.resolve(r, func(*Leg) bool { return false })
}

// verdicts prints what was found, one leg a line, matches left out.
func verdicts(legs []*Leg) []string {
	var out []string
	for _, leg := range legs {
		if len(leg.Dups) > 0 {
			out = append(out, strings.TrimSpace(fmt.Sprintf("DUP_ROW %s %s", leg.OrderNo, leg.RefundNo)))
		}
		if leg.Code == Match || leg.Code == None {
			continue
		}
		out = append(out, strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %d", leg.Code, leg.OrderNo, leg.RefundNo, leg.D)), " "))
	}
	return out
}

// TestTruthTable is the table of spec/reconciliation.md 2.6 (scenario 65): all 14
// rows, code, both differences and the sign.
func TestTruthTable(t *testing.T) {
	text, err := os.ReadFile("testdata/truth_table.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for row := range strings.Lines(string(text)) {
		cell := strings.Split(row, "|")
		if len(cell) < 9 || !strings.Contains("PAY REFUND", strings.TrimSpace(cell[1])) || strings.TrimSpace(cell[1]) == "" {
			continue
		}
		rows++
		for i := range cell {
			cell[i] = strings.Trim(strings.TrimSpace(cell[i]), "*")
		}
		t.Run(cell[1]+cell[2], func(t *testing.T) { checkTruth(t, cell) })
	}
	if rows != 14 {
		t.Fatalf("the table has %d rows, want 14", rows)
	}
}

func checkTruth(t *testing.T, cell []string) {
	const a = 1000
	var lines []Line
	for i, side := range []string{"his", "platform", "channel"} {
		if cell[2][i] == '1' {
			refund := ""
			if cell[1] == "REFUND" {
				refund = " refund=R1"
			}
			lines = append(lines, parseLine(t, fmt.Sprintf("%s %s O1 %d%s", side, cell[1], a, refund)))
		}
	}
	legs := matchAll(openRules(), lines)
	if len(legs) != 1 {
		t.Fatalf("%d legs, want one", len(legs))
	}
	leg := legs[0]
	want := map[string]ledger.Money{"+a": a, "−a": -a, "0": 0}
	if got := leg.Info(); got != want[cell[3]] {
		t.Errorf("d information is %d, want %s", got, cell[3])
	}
	if got := leg.Funds(); got != want[cell[4]] {
		t.Errorf("d funds is %d, want %s", got, cell[4])
	}
	if leg.D != want[cell[5]] {
		t.Errorf("d is %d, want %s", leg.D, cell[5])
	}
	if !codeFits(cell[6], leg.Code) {
		t.Errorf("code is %s, want %s", leg.Code, cell[6])
	}
	if got := leg.Code.Polarity(leg.D); map[string]string{"long": "长", "short": "短", "": "—"}[got] != cell[7] {
		t.Errorf("polarity is %q, want %s", got, cell[7])
	}
}

// codeFits reads "PENDING in the window, then F3" and "F1 (F2)" for a leg that is
// outside the window and unknown to the platform.
func codeFits(cell string, code Code) bool {
	cell, _, _ = strings.Cut(cell, " (")
	if _, then, ok := strings.Cut(cell, "then "); ok {
		cell = then
	}
	return cell == string(code)
}

// TestMatching is the taxonomy of 2.5 and the scenarios of 7 in the table
// language: lines in, verdicts out.
func TestMatching(t *testing.T) {
	for _, c := range []struct{ name, lines, want string }{
		{"F2: the platform holds an unsuccessful order", "platform PAY O1 500 status=FAILED\nchannel PAY O1 500", "F2 O1 500"},
		{"I6: HIS charged, the platform's order failed", "platform PAY O1 500 status=FAILED\nhis PAY O1 500", "I6 O1 -500"},
		{"nothing happened: a failed attempt", "platform PAY O1 500 status=FAILED", ""},
		{"F4: the channel took more", "his PAY O1 500\nplatform PAY O1 500\nchannel PAY O1 510", "F4 O1 10"},
		{"F4: the channel took less", "his PAY O1 500\nplatform PAY O1 500\nchannel PAY O1 480", "F4 O1 -20"},
		{"I5: HIS booked less", "his PAY O1 490\nplatform PAY O1 500\nchannel PAY O1 500", "I5 O1 10"},
		{"I5: HIS booked more", "his PAY O1 512\nplatform PAY O1 500\nchannel PAY O1 500", "I5 O1 -12"},
		{"I5 on a refund turns the sign", "his REFUND O1 90 refund=R1\nplatform REFUND O1 100 refund=R1\nchannel REFUND O1 100 refund=R1", "I5 O1 R1 -10"},
		{"BACKFILL: HIS and channel agree on another amount", "his PAY O1 480\nplatform PAY O1 500\nchannel PAY O1 480", "BACKFILL O1 0"},
		{"F7: billed one fen more than rate × settlement amount (scenario 54)", "his PAY O1 1000\nplatform PAY O1 1000\nchannel PAY O1 1000 fee=7", "F7 O1 0"},
		{"SWEEP: the refund is processing", "his REFUND O1 90 refund=R1\nplatform REFUND O1 90 refund=R1\nchannel REFUND O1 90 refund=R1 status=PROCESSING", "SWEEP O1 R1 0"},
		{"F6: the channel holds an abnormal refund (scenario 16)", "his REFUND O1 90 refund=R1\nplatform REFUND O1 90 refund=R1\nchannel REFUND O1 90 refund=R1 status=ABNORMAL", "F6 O1 R1 90"},
		{"F9: another number of the same hospital (scenario 33)", "his PAY O1 500\nplatform PAY O1 500\nchannel PAY O1 500 mch=W2", "F9 O1 0"},
		{"F11: another business on the number (scenario 35)", "channel PAY SHOP77 500", "F11 SHOP77 0"},
		{"DUP_ROW: the same HIS row twice (scenario 3)", "his PAY O1 500 bill=B1 row=1\nhis PAY O1 500 bill=B1 row=2\nplatform PAY O1 500\nchannel PAY O1 500", "DUP_ROW O1"},
		{"two different receipts: 1:2 group (scenario 4)", "his PAY O1 300 bill=B1\nhis PAY O1 200 bill=B2\nplatform PAY O1 500\nchannel PAY O1 500", ""},
		{"1:3 group, one fen off (scenario 10)", "his PAY O1 300 bill=B1\nhis PAY O1 100 bill=B2\nhis PAY O1 101 bill=B3\nplatform PAY O1 500\nchannel PAY O1 500", "I5 O1 -1"},
		{"three partial refunds, one HIS row (scenario 13)", "his PAY O1 100\nhis REFUND O1 60 bill=RB\nplatform PAY O1 100\nchannel PAY O1 100\nplatform REFUND O1 10 refund=R1\nplatform REFUND O1 20 refund=R2\nplatform REFUND O1 30 refund=R3\nchannel REFUND O1 10 refund=R1\nchannel REFUND O1 20 refund=R2\nchannel REFUND O1 30 refund=R3", ""},
		{"void and re-charge, exact (scenario 70)", "his PAY O1 100 bill=B1\nhis REFUND O1 100 bill=RB orig=B1\nhis PAY O1 70 bill=B2 orig=B1\nplatform PAY O1 100\nchannel PAY O1 100\nplatform REFUND O1 30 refund=R1\nchannel REFUND O1 30 refund=R1", ""},
		{"void and re-charge, one fen off (scenario 70)", "his PAY O1 100 bill=B1\nhis REFUND O1 100 bill=RB orig=B1\nhis PAY O1 71 bill=B2 orig=B1\nplatform PAY O1 100\nchannel PAY O1 100\nplatform REFUND O1 30 refund=R1\nchannel REFUND O1 30 refund=R1", "I5 O1 -1"},
		{"void and re-charge two days later", "his REFUND O1 100 bill=RB orig=B1\nhis PAY O1 70 bill=B2 orig=B1\nplatform REFUND O1 30 refund=R1\nchannel REFUND O1 30 refund=R1", ""},
		{"pay and reversal without HIS: net zero (scenarios 21, 22)", "platform PAY O1 777\nchannel PAY O1 777\nplatform REVERSE O1 777 refund=O1\nchannel REVERSE O1 777 refund=O1", "NET_ZERO O1 0\nNET_ZERO O1 0"},
		{"the reversal never reached the channel", "platform PAY O1 777\nchannel PAY O1 777\nplatform REVERSE O1 777 refund=O1", "I1 O1 777\nPHANTOM O1 0"},
		{"in the window without channel time: PENDING (scenario 26)", "his PAY O1 500 at=23:55:00\nplatform PAY O1 500 at=23:55:00", "PENDING O1 -500"},
		{"in the window with the channel's time: dated exactly", "his PAY O1 500 at=23:55:00\nplatform PAY O1 500 at=23:55:00 final", "F3 O1 -500"},
		{"HIS missing near midnight", "platform PAY O1 500 at=23:50:00\nchannel PAY O1 500 at=23:50:00", "PENDING O1 500"},
		{"channel alone just after midnight", "channel PAY O1 500 at=00:10:00", "PENDING O1 500"},
		{"31 minutes before midnight is outside", "his PAY O1 500 at=23:29:00\nplatform PAY O1 500 at=23:29:00", "F3 O1 -500"},
		{"refund in the window", "his REFUND O1 90 refund=R1 at=23:58:00\nplatform REFUND O1 90 refund=R1 at=23:58:00 final", "PENDING O1 R1 90"},
		{"matched across days: F10", "his PAY O1 500 day=20260916\nplatform PAY O1 500\nchannel PAY O1 500", "F10 O1 0"},
		{"I7: the refund number never reached HIS (scenario 2)", "his REFUND - 90 bill=RB patient=P1 at=10:20:00\nplatform REFUND O1 90 refund=R1 patient=P1\nchannel REFUND O1 90 refund=R1", "I7 O1 R1 0"},
		{"I7 on a payment", "his PAY - 90 bill=B9 at=10:05:00\nplatform PAY O1 90 patient=P1\nchannel PAY O1 90", "I7 O1 0"},
		{"no link over 30 minutes", "his PAY - 90 bill=B9 at=10:31:00\nplatform PAY O1 90\nchannel PAY O1 90", "I1 O1 90\nI2 -90"},
		{"no link between two patients", "his PAY - 90 bill=B9 patient=P2\nplatform PAY O1 90 patient=P1\nchannel PAY O1 90", "I1 O1 90\nI2 -90"},
		{"no link where HIS has a number (scenario 9)", "his PAY O2 90\nplatform PAY O1 90\nchannel PAY O1 90", "I1 O1 90\nI2 O2 -90"},
		{"I8: HIS says cash (scenario 69)", "his PAY - 6450 bill=B9 tender=CASH\nplatform PAY O1 6450\nchannel PAY O1 6450", "I8 O1 0"},
		{"F12: two and two (scenario 86)", "his PAY - 25 bill=B8\nhis PAY - 25 bill=B9\nplatform PAY O1 25\nchannel PAY O1 25\nplatform PAY O2 25\nchannel PAY O2 25", "F12 O1 0"},
		{"F12: two payments, one row", "his PAY - 25 bill=B8\nplatform PAY O1 25\nchannel PAY O1 25\nplatform PAY O2 25\nchannel PAY O2 25", "F12 O1 25"},
		{"the bill number is a key (S6)", "his PAY - 90 bill=B1\nplatform PAY O1 90 bill=B1\nchannel PAY O1 90", ""},
		{"the channel's number is a key (S6)", "his PAY O1 90\nplatform PAY O1 90 trade=T1\nchannel PAY X1 90 trade=T1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lines []Line
			for text := range strings.Lines(c.lines) {
				lines = append(lines, parseLine(t, text))
			}
			got := strings.Join(verdicts(matchAll(openRules(), lines)), "\n")
			if got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestNothingIsMissingWhileAFeedIsNotComplete is the gate (S0): the platform
// stands in, and no code speaks of the side that has not been fed.
func TestNothingIsMissingWhileAFeedIsNotComplete(t *testing.T) {
	r := openRules()
	r.InfoReady = func(string, ledger.Day) bool { return false }
	legs := matchAll(r, []Line{parseLine(t, "platform PAY O1 500"), parseLine(t, "channel PAY O1 500")})
	if got := verdicts(legs); len(got) != 0 || !legs[0].Said[HIS].StandIn {
		t.Errorf("HIS is not fed: got %v", got)
	}
	r = openRules()
	r.FundReady = func(string, string, string, ledger.Day) bool { return false }
	legs = matchAll(r, []Line{parseLine(t, "platform PAY O1 500"), parseLine(t, "his PAY O1 500")})
	if got := verdicts(legs); len(got) != 0 || !legs[0].Said[Channel].StandIn {
		t.Errorf("the bill is not fed: got %v", got)
	}
}

// TestNetZeroPilesUp is scenario 80: five pairs of one payer at one cashier are
// five lines on their list, no case, and one alarm.
func TestNetZeroPilesUp(t *testing.T) {
	fen := ledger.Money(2500)
	day := &Day{}
	for n := range 6 {
		note := "payer=P1|WIN02"
		if n == 5 {
			note = "payer=P2|WIN02"
		}
		day.Items = append(day.Items, &Item{Code: NetZero, Hospital: "H1", OrderNo: fmt.Sprint("O", n), Platform: &fen, Note: note})
	}
	piles := day.NetZeroes("zh")
	if len(piles) != 2 || piles[0].Pairs != 5 || !piles[0].Alarm || piles[0].Fen != 5*fen || piles[1].Alarm || piles[0].Who != "付款人 P1，终端 WIN02" {
		t.Errorf("piles are %+v", piles)
	}
	if s := day.Sum(); s.Exceptions != 0 {
		t.Errorf("%d exceptions", s.Exceptions)
	}
}
