package sandbox

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"
)

// The tests read the files back with readers of their own, as short as can be:
// neither the generator's writers nor the product's parsers are asked.

func generate(t *testing.T, cfg Config) (string, *Plan) {
	t.Helper()
	dir := t.TempDir()
	plan, err := Generate(cfg, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dir, plan
}

func runs() map[string]Config {
	return map[string]Config{
		"one day, two hospitals":     {Seed: 1, Payments: 3000},
		"two days, five hospitals":   {Seed: 2, Payments: 2000, Hospitals: 5, Days: 2},
		"gzip, one hospital":         {Seed: 3, Payments: 900, Hospitals: 1, Gzip: true},
		"nothing planted":            {Seed: 4, Payments: 500, Faults: map[string]int{}},
		"many of everything planted": {Seed: 5, Payments: 6000, Hospitals: 9, Days: 2, Faults: many(12)},
	}
}

func many(n int) map[string]int {
	faults := DefaultFaults(9, 2)
	for code := range faults {
		if !slices.Contains(settlementCodes, code) {
			faults[code] = n
		}
	}
	return faults
}

// fen reads yuan text exactly.
func fen(t *testing.T, text string) int64 {
	t.Helper()
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("%q is no amount", text)
	}
	r.Mul(r, big.NewRat(100, 1))
	if !r.IsInt() {
		t.Fatalf("%q has a part below one fen", text)
	}
	return r.Num().Int64()
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := readMaybeGzip(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// bill is what a channel's file says, read by column names.
type bill struct {
	rows []map[string]string
	foot []map[string]string
}

func ticked(t *testing.T, path string) bill {
	t.Helper()
	text := string(read(t, path))
	if !strings.HasPrefix(text, "\ufeff") || strings.Count(text, "\r\n") != strings.Count(text, "\n") {
		t.Fatalf("%s: no byte order mark, or a line end that is not CRLF", path)
	}
	var b bill
	var header []string
	into := &b.rows
	for i, line := range strings.Split(strings.TrimSuffix(strings.TrimPrefix(text, "\ufeff"), "\r\n"), "\r\n") {
		if !strings.HasPrefix(line, "`") {
			if i > 0 {
				into = &b.foot
			}
			header = strings.Split(line, ",")
			continue
		}
		*into = append(*into, record(t, header, strings.Split(line[1:], ",`")))
	}
	return b
}

func record(t *testing.T, header, values []string) map[string]string {
	t.Helper()
	if len(header) != len(values) {
		t.Fatalf("%d columns, %d values: %q", len(header), len(values), values)
	}
	r := map[string]string{}
	for i, name := range header {
		r[name] = strings.TrimSuffix(values[i], "\t")
	}
	return r
}

func zipped(t *testing.T, path, part string) bill {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var b bill
	for _, f := range z.File {
		name, err := simplifiedchinese.GBK.NewDecoder().String(f.Name)
		if err != nil || !f.NonUTF8 || !strings.HasSuffix(name, part+".csv") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(simplifiedchinese.GBK.NewDecoder().Reader(r))
		if err != nil {
			t.Fatal(err)
		}
		var header []string
		for _, line := range strings.Split(strings.TrimSuffix(string(text), "\r\n"), "\r\n") {
			switch {
			case strings.HasPrefix(line, "#"):
				b.foot = append(b.foot, map[string]string{"line": line})
			case header == nil:
				header = strings.Split(line, ",")
			default:
				b.rows = append(b.rows, record(t, header, strings.Split(line, ",")))
			}
		}
	}
	return b
}

func (b bill) hasFoot(line string) bool {
	return slices.ContainsFunc(b.foot, func(r map[string]string) bool { return r["line"] == line })
}

func table(t *testing.T, path string) []map[string]string {
	t.Helper()
	r := csv.NewReader(bytes.NewReader(read(t, path)))
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]string
	for _, values := range rows[1:] {
		list = append(list, record(t, rows[0], values))
	}
	return list
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTheSameConfigGivesTheSameBytes(t *testing.T) {
	cfg := Config{Seed: 7, Payments: 1500, Hospitals: 3, Days: 2, Gzip: true}
	one, plan := generate(t, cfg)
	two, _ := generate(t, cfg)
	cfg.Seed = 8
	other, _ := generate(t, cfg)
	for _, f := range append(plan.Days[0].Files, plan.Days[1].Files...) {
		a, _ := os.ReadFile(filepath.Join(one, f.Path))
		b, _ := os.ReadFile(filepath.Join(two, f.Path))
		c, _ := os.ReadFile(filepath.Join(other, f.Path))
		if len(a) == 0 || !bytes.Equal(a, b) {
			t.Errorf("%s differs between two runs of one seed", f.Path)
		}
		if f.Source != SourceSetup && bytes.Equal(a, c) {
			t.Errorf("%s is the same for two seeds", f.Path)
		}
	}
}

func TestEveryFileSaysWhatThePlanSays(t *testing.T) {
	for name, cfg := range runs() {
		t.Run(name, func(t *testing.T) {
			dir, plan := generate(t, cfg)
			for _, day := range plan.Days {
				for _, f := range day.Files {
					path := filepath.Join(dir, f.Path)
					switch f.Source + f.Channel {
					case SourceTrade + "WECHAT":
						checkWeChatTrade(t, path, f, slice(t, day, f))
					case SourceFund + "WECHAT":
						checkWeChatFund(t, path, settlement(t, day, f), slice(t, day, f))
					case SourceTrade + "ALIPAY":
						checkAlipayTrade(t, path, f, slice(t, day, f))
					case SourceFund + "ALIPAY":
						checkAlipayFund(t, path, settlement(t, day, f), slice(t, day, f))
					case SourceHIS:
						checkHIS(t, path, f)
					case SourceBank:
						checkStatement(t, path, f, day)
					case SourcePlatform:
						if rows := table(t, path); len(rows) != f.Rows {
							t.Errorf("%s has %d rows, the plan says %d", f.Path, len(rows), f.Rows)
						}
					}
				}
			}
		})
	}
}

func slice(t *testing.T, d *DayPlan, f File) *Slice {
	t.Helper()
	for _, s := range d.Slices {
		if s.MerchantNo == f.MerchantNo {
			return s
		}
	}
	t.Fatalf("no slice for %s", f.Path)
	return nil
}

func settlement(t *testing.T, d *DayPlan, f File) Settlement {
	t.Helper()
	for _, s := range d.Settlements {
		if s.MerchantNo == f.MerchantNo {
			return s
		}
	}
	t.Fatalf("no settlement for %s", f.Path)
	return Settlement{}
}

func checkWeChatTrade(t *testing.T, path string, f File, s *Slice) {
	b := ticked(t, path)
	var amount, settle, refund, asked, fee int64
	for _, r := range b.rows {
		amount += fen(t, r["订单金额"])
		settle += fen(t, r["应结订单金额"])
		refund += fen(t, r["退款金额"])
		asked += fen(t, r["申请退款金额"])
		fee += fen(t, r["手续费"])
		if r["商户号"] != f.MerchantNo || (r["交易状态"] == "SUCCESS") != (r["商户退款单号"] == "0") {
			t.Errorf("row %v", r)
		}
	}
	foot := b.foot[0]
	for column, want := range map[string]int64{"应结订单总金额": settle, "退款总金额": refund, "手续费总金额": fee, "订单总金额": amount, "申请退款总金额": asked} {
		if fen(t, foot[column]) != want {
			t.Errorf("%s: %s says %s, its rows %d fen", path, column, foot[column], want)
		}
	}
	if number(t, foot["总交易单数"]) != int64(len(b.rows)) || len(b.rows) != f.Rows || amount != f.PayFen || asked != f.RefundFen {
		t.Errorf("%s: %d rows, foot %s, plan %+v", path, len(b.rows), foot["总交易单数"], f)
	}
	if settle-refund-fee != s.TradeNet+s.RepeatedNet {
		t.Errorf("%s nets %d, the plan %d + %d repeated", path, settle-refund-fee, s.TradeNet, s.RepeatedNet)
	}
}

func checkWeChatFund(t *testing.T, path string, s Settlement, trade *Slice) {
	b := ticked(t, path)
	balance, in, out, withdrawn := s.Opening, int64(0), int64(0), int64(0)
	for _, r := range b.rows {
		step := fen(t, r["收支金额(元)"])
		if r["收支类型"] == "收入" {
			in += step
		} else {
			out += step
			step = -step
		}
		if r["业务类型"] == "提现" {
			withdrawn -= step
		}
		if balance += step; balance != fen(t, r["账户结余(元)"]) {
			t.Fatalf("%s: the balance does not roll at %v", path, r)
		}
	}
	foot := b.foot[0]
	if fen(t, foot["收入金额"]) != in || fen(t, foot["支出金额"]) != out || foot["资金流水总笔数"] != fmt.Sprintf("%d.0", len(b.rows)) {
		t.Errorf("%s: foot %v", path, foot)
	}
	if balance != s.Closing || withdrawn != s.Withdrawn || in-out+withdrawn != trade.TradeNet || s.DayNet != trade.TradeNet {
		t.Errorf("%s: closing %d withdrawn %d net %d, plan %+v, trade net %d", path, balance, withdrawn, in-out+withdrawn, s, trade.TradeNet)
	}
}

func checkAlipayTrade(t *testing.T, path string, f File, s *Slice) {
	b := zipped(t, path, "业务明细")
	var pays, backs int
	var net, pay, back, discount, fee, asked int64
	for _, r := range b.rows {
		settle := fen(t, r["商家实收（元）"])
		net += settle + fen(t, r["服务费（元）"])
		fee += fen(t, r["服务费（元）"])
		discount += fen(t, r["商家优惠（元）"])
		asked += fen(t, r["订单金额（元）"])
		if r["业务类型"] == "交易" {
			pays, pay = pays+1, pay+settle
		} else {
			backs, back = backs+1, back+settle
		}
	}
	if pays+backs != f.Rows || asked != f.PayFen-f.RefundFen || net != s.TradeNet+s.RepeatedNet {
		t.Errorf("%s: %d + %d rows, net %d; plan %+v %+v", path, pays, backs, net, f, s)
	}
	if !b.hasFoot(fmt.Sprintf("#交易合计：%d笔，商家实收共%s元，商家优惠共%s元", pays, yuan(pay), yuan(discount))) ||
		!b.hasFoot(fmt.Sprintf("#退款合计：%d笔，商家实收退款共%s元，商家优惠退款共0.00元", backs, yuan(back))) {
		t.Errorf("%s: the foot %v does not sum the rows", path, b.foot)
	}
	sums := zipped(t, path, "业务明细(汇总)").rows
	if all := sums[len(sums)-1]; fen(t, all["实收净额（元）"]) != net || fen(t, all["服务费（元）"]) != fee || number(t, all["交易订单总笔数"]) != int64(pays) {
		t.Errorf("%s: summary %v", path, all)
	}
}

func checkAlipayFund(t *testing.T, path string, s Settlement, trade *Slice) {
	b := zipped(t, path, "账务明细")
	balance, withdrawn, ins, outs := s.Opening, int64(0), 0, 0
	var in, out int64
	for _, r := range b.rows {
		plus, minus := fen(t, r["收入金额（+元）"]), fen(t, r["支出金额（-元）"])
		in, out, balance = in+plus, out+minus, balance+plus+minus
		if minus < 0 {
			outs++
		} else {
			ins++
		}
		if r["业务类型"] == "提现" {
			withdrawn -= minus
		}
		if balance != fen(t, r["账户余额（元）"]) {
			t.Fatalf("%s: the balance does not roll at %v", path, r)
		}
	}
	if !b.hasFoot(fmt.Sprintf("#支出合计：%d笔，共%s元", outs, yuan(out))) || !b.hasFoot(fmt.Sprintf("#收入合计：%d笔，共%s元", ins, yuan(in))) {
		t.Errorf("%s: the foot %v does not sum the rows", path, b.foot)
	}
	if balance != s.Closing || withdrawn != s.Withdrawn || in+out+withdrawn != trade.TradeNet {
		t.Errorf("%s: closing %d withdrawn %d, plan %+v, trade net %d", path, balance, withdrawn, s, trade.TradeNet)
	}
	sums := zipped(t, path, "账务明细(汇总)").rows
	if fen(t, sums[len(sums)-1]["总金额（元）"]) != in+out {
		t.Errorf("%s: summary %v", path, sums)
	}
}

func checkHIS(t *testing.T, path string, f File) {
	var pay, back int64
	rows := table(t, path)
	seen := map[string]string{}
	for _, r := range rows {
		if r["kind"] == "PAY" {
			pay += number(t, r["amount_fen"])
		} else {
			back += number(t, r["amount_fen"])
		}
		key, all := r["kind"]+r["his_bill_no"], fmt.Sprint(r)
		if before, twice := seen[key]; twice && before != all {
			t.Errorf("%s: bill %s twice with different content", path, key)
		}
		seen[key] = all
	}
	text := string(read(t, path))
	trailer := fmt.Sprintf("\n#%d,%d,%d\n", len(rows), pay, back)
	if !strings.HasSuffix(text, trailer) || f.Rows != len(rows) || f.PayFen != pay || f.RefundFen != back {
		t.Errorf("%s ends %q, want %q; plan %+v", path, text[len(text)-30:], trailer, f)
	}
}

// statement is as much of camt.053 as the check needs.
type statement struct {
	Stmt struct {
		Bal []struct {
			Cd  string `xml:"Tp>CdOrPrtry>Cd"`
			Amt string
		}
		Ntry []struct {
			Amt         string
			CdtDbtInd   string
			AcctSvcrRef string
		}
	} `xml:"BkToCstmrStmt>Stmt"`
}

func checkStatement(t *testing.T, path string, f File, day *DayPlan) {
	var s statement
	if err := xml.Unmarshal(read(t, path), &s); err != nil {
		t.Fatal(err)
	}
	lines := map[string]int64{}
	balance := fen(t, s.Stmt.Bal[0].Amt)
	for _, e := range s.Stmt.Ntry {
		amount := fen(t, e.Amt)
		if e.CdtDbtInd == "DBIT" {
			amount = -amount
		}
		lines[e.AcctSvcrRef] = amount
		balance += amount
	}
	if balance != fen(t, s.Stmt.Bal[1].Amt) || len(lines) != f.Rows || len(s.Stmt.Ntry) != f.Rows {
		t.Errorf("%s closes with %d, its lines come to %d; %d lines, plan %+v", path, fen(t, s.Stmt.Bal[1].Amt), balance, len(lines), f)
	}
	for _, set := range day.Settlements {
		if set.Hospital != f.Hospital {
			continue
		}
		differs := int64(0)
		for _, c := range day.Cases {
			if c.MerchantNo == set.MerchantNo && slices.Contains(settlementCodes, c.Code) && c.BankRef != "" {
				differs = c.AmountFen
			}
		}
		if set.BankRef == "" { // BANK_MISSING, found the day after
			differs = -set.Expected
		}
		if set.Closing-set.Retained != set.Expected && set.Expected != 0 || lines[set.BankRef] != set.Arrived || set.Arrived != set.Expected+differs {
			t.Errorf("%s: settlement %+v, line %d, fault %d", path, set, lines[set.BankRef], differs)
		}
	}
	for _, c := range day.Cases {
		if c.Hospital == f.Hospital && c.BankRef != "" && c.MerchantNo == "" && lines[c.BankRef] != c.AmountFen {
			t.Errorf("case %+v, line %d", c, lines[c.BankRef])
		}
	}
}

func TestThePlanCountsWhatWasPlanted(t *testing.T) {
	silent := []string{"MIDNIGHT", "KEY_BILL", "VOID_RECHARGE", "REFUND_GROUP"}
	for name, cfg := range runs() {
		t.Run(name, func(t *testing.T) {
			_, plan := generate(t, cfg)
			want, cfg := map[string]int{}, plan.Config
			for code, n := range cfg.Faults {
				if !slices.Contains(silent, code) {
					want[code] = n
				}
			}
			for i := range cfg.Faults["F9"] { // another hospital: two rows; refunded too: twice as many
				want["F9"] += []int{0, 1, 1, 3}[i%4]
			}
			if cfg.Days == 2 {
				want["PENDING"] += want["F10"]
				want["F10"] = 0
			}
			missing := want["BANK_MISSING"]
			want["BANK_MISSING"] = 0
			got := map[string]int{}
			for _, c := range plan.Days[0].Cases {
				got[c.Code]++
			}
			for _, code := range codeOrder {
				if got[code] != want[code] {
					t.Errorf("%s: %d cases, %d wanted", code, got[code], want[code])
				}
			}
			if cfg.Days == 2 && len(plan.Days[1].Cases) != want["PENDING"]+missing {
				t.Errorf("%d cases on the second day, %d were pending, %d settlements missing", len(plan.Days[1].Cases), want["PENDING"], missing)
			}
		})
	}
}

func TestEveryCodeIsPlantedTwiceOnBothKinds(t *testing.T) {
	_, plan := generate(t, Config{Seed: 11, Payments: 2000, Hospitals: 4, Days: 2})
	got := map[string]map[string]int{}
	for _, c := range slices.Concat(plan.Days[0].Cases, plan.Days[1].Cases) {
		if got[c.Code] == nil {
			got[c.Code] = map[string]int{}
		}
		got[c.Code][c.Kind]++
	}
	for _, code := range codeOrder {
		if n := got[code]["PAY"] + got[code]["REFUND"] + got[code][""]; n < 2 && code != "RESTATED" {
			t.Errorf("%s is planted %d times", code, n)
		}
	}
	for _, code := range []string{"F4", "F7", "F9", "F10", "F11", "F12", "I5", "I6", "I7", "I8", "BACKFILL", "PHANTOM", "DUP_ROW", "PENDING"} {
		if got[code]["PAY"] == 0 || got[code]["REFUND"] == 0 {
			t.Errorf("%s is planted on %v only", code, got[code])
		}
	}
}

// The proof of a day: what the channels hold less what HIS booked is the sum of
// the signed cases. HIS booked as cash what I8 finds, and a foreign row is
// outside.
func TestTheSignedCasesAreTheDifferenceOfTheSides(t *testing.T) {
	for name, cfg := range runs() {
		t.Run(name, func(t *testing.T) {
			_, plan := generate(t, cfg)
			day := plan.Days[0]
			var held, owed, platform, cases int64
			for _, s := range day.Slices {
				held += s.Bill.Net()
				owed += s.HIS.Net() + s.HISUnlinked.Net()
				platform += s.Platform.Net()
				if s.AllEqual.Pays > s.InfoMatched.Pays || s.AllEqual.Pays > s.FundsMatched.Pays {
					t.Errorf("slice %+v", s)
				}
			}
			for _, c := range day.Cases {
				if c.Kind != "" {
					cases += c.AmountFen
				}
			}
			if held-owed != cases {
				t.Errorf("channels %d − HIS %d = %d, the cases sum to %d", held, owed, held-owed, cases)
			}
			if len(cfg.Faults) == 0 && cfg.Faults != nil && (held != owed || held != platform) {
				t.Errorf("a clean day: channels %d, HIS %d, platform %d", held, owed, platform)
			}
		})
	}
}

func TestNumbersAreUniqueAndFaultsStandAlone(t *testing.T) {
	dir, plan := generate(t, Config{Seed: 21, Payments: 4000, Hospitals: 3, Days: 2})
	orders, orphans := map[string]bool{}, map[string]bool{}
	pays := 0
	for _, day := range plan.Days {
		for _, f := range day.Files {
			if f.Source != SourcePlatform {
				continue
			}
			for _, r := range table(t, filepath.Join(dir, f.Path)) {
				key := r["kind"] + r["order_no"] + "|" + r["refund_no"]
				if orders[key] {
					t.Errorf("%s twice", key)
				}
				orders[key] = true
				if r["kind"] == "PAY" {
					pays++
				}
			}
		}
		for _, c := range day.Cases {
			if c.Code != "I1" && c.Code != "I2" && c.Code != "I7" && c.Code != "I8" && c.Code != "F12" {
				continue
			}
			key := fmt.Sprint(c.Hospital, c.Kind, value(c.HisFen)+value(c.PlatformFen))
			if orphans[key] {
				t.Errorf("two orphans alike: %s", key)
			}
			orphans[key] = true
			if value(c.HisFen)%10 == 0 && value(c.PlatformFen)%10 == 0 {
				t.Errorf("%+v could fit a cash row", c)
			}
		}
	}
	if want := 2 * 4000; pays < want-60 || pays > want {
		t.Errorf("the platform has %d payments, %d were asked for", pays, want)
	}
}

// Clean traffic keeps away from midnight: what stands there was put there.
func TestNothingCleanHappensNearMidnight(t *testing.T) {
	dir, _ := generate(t, Config{Seed: 5, Payments: 5000, Faults: map[string]int{}})
	for _, r := range table(t, filepath.Join(dir, "platform.csv")) {
		if at := r["occurred_at"][11:]; at < "00:40:00" || at > "23:20:00" {
			t.Errorf("%s %s at %s", r["kind"], r["order_no"], at)
		}
	}
}

func TestARestatedBillSwapsOneRow(t *testing.T) {
	for _, packed := range []bool{false, true} {
		dir, plan := generate(t, Config{Seed: 6, Payments: 800, Gzip: packed})
		r, err := Restate(dir, plan)
		if err != nil {
			t.Fatal(err)
		}
		before, after := ticked(t, filepath.Join(dir, plan.Restatable.File)), ticked(t, filepath.Join(dir, r.File))
		if fmt.Sprint(before.foot) != fmt.Sprint(after.foot) || len(before.rows) != len(after.rows) {
			t.Errorf("totals changed: %v, %v", before.foot, after.foot)
		}
		var gone, come []string
		for i := range before.rows {
			if a, b := before.rows[i]["商户订单号"], after.rows[i]["商户订单号"]; a != b {
				gone, come = append(gone, a), append(come, b)
			}
		}
		if !slices.Equal(gone, []string{r.Removed.OrderNo}) || !slices.Equal(come, []string{r.Added.OrderNo}) {
			t.Errorf("gone %v, come %v, said %+v", gone, come, r)
		}
		if r.Removed.Code != "RESTATED" || r.Removed.AmountFen >= 0 || r.Added.AmountFen != -r.Removed.AmountFen {
			t.Errorf("cases %+v", r)
		}
	}
}

func TestADayThatCannotBeIsRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"three days":                       {Days: 3},
		"two days on one statement":        {Day: 20260918, Days: 2},
		"an unknown code":                  {Faults: map[string]int{"F8": 1}},
		"a negative count":                 {Faults: map[string]int{"F1": -1}},
		"another hospital where one is":    {Hospitals: 1, Faults: map[string]int{"F9": 2}},
		"more faults than payments":        {Payments: 10, Faults: map[string]int{"F1": 11}},
		"more settlements than numbers":    {Faults: map[string]int{"BANK_MISSING": 6}},
		"more refunds than a day can have": {Refunds: 900},
		"too many payments":                {Payments: 99_000_000},
	} {
		if _, err := Generate(cfg, t.TempDir(), nil); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProgressIsTold(t *testing.T) {
	var last, total int
	if _, err := Generate(Config{Payments: 9000}, t.TempDir(), func(done, all int) { last, total = done, all }); err != nil || last != 9000 || total != 9000 {
		t.Errorf("%d of %d, %v", last, total, err)
	}
}

func TestPlanCSVHasTheColumnsOfTheSampleDay(t *testing.T) {
	dir, plan := generate(t, Config{Payments: 500})
	rows := table(t, filepath.Join(dir, "plan.csv"))
	if len(rows) != len(plan.Days[0].Cases) {
		t.Errorf("%d rows, %d cases", len(rows), len(plan.Days[0].Cases))
	}
	for i, c := range plan.Days[0].Cases {
		if r := rows[i]; r["code"] != c.Code || number(t, r["amount_fen"]) != c.AmountFen || r["polarity"] != c.Polarity {
			t.Errorf("row %v, case %+v", r, c)
		}
	}
}

func BenchmarkGenerate(b *testing.B) {
	for b.Loop() {
		if _, err := Generate(Config{Payments: 200_000}, b.TempDir(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

// Every row of a WeChat bill charges rate × settlement amount, half-up to the
// fen, but for the planted fees and for refunds that find too little left.
func TestFeesFollowTheRuleButWherePlanted(t *testing.T) {
	dir, plan := generate(t, Config{Seed: 31, Payments: 8000, Hospitals: 4})
	planted := map[string]bool{}
	for _, c := range plan.Days[0].Cases {
		if c.Code == "F7" {
			planted[c.OrderNo+c.RefundNo] = true
		}
	}
	capped := 0
	for _, f := range plan.Days[0].Files {
		if f.Source+f.Channel != SourceTrade+"WECHAT" {
			continue
		}
		for _, r := range ticked(t, filepath.Join(dir, f.Path)).rows {
			base, refund, key := fen(t, r["应结订单金额"]), r["商户退款单号"], r["商户订单号"]
			if refund != "0" {
				base, key = fen(t, r["退款金额"]), key+refund
			}
			rate := fen(t, strings.TrimSuffix(r["费率"], "%"))
			rule, fee := (base*rate*2+10_000)/20_000, fen(t, r["手续费"])
			switch {
			case rule == max(fee, -fee):
				if planted[key] {
					t.Errorf("F7 on %s is not there", key)
				}
			case refund != "0" && -fee < rule && !planted[key]:
				capped++
			case !planted[key]:
				t.Errorf("row %s: fee %d, the rule says %d", key, fee, rule)
			}
		}
	}
	if capped == 0 || capped > plan.Days[0].CappedFees {
		t.Errorf("%d refunds return less than the rule, the plan says %d in all", capped, plan.Days[0].CappedFees)
	}
}
