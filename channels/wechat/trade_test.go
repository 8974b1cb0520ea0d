package wechat

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/filetest"
	"github.com/clearward/clearward/ledger"
)

const (
	allFile     = "wechat_tradebill_ALL_20260915.csv"
	gzFile      = "wechat_tradebill_ALL_20260915.csv.gz"
	lfFile      = "wechat_tradebill_ALL_20260915_nobom_lf.csv"
	successFile = "wechat_tradebill_SUCCESS_20260915.csv"
	refundFile  = "wechat_tradebill_REFUND_20260915.csv"
	fundFile    = "wechat_fundflow_BASIC_20260915.csv"
)

var hospital = channels.Expect{MerchantNos: []string{"1900000109"}}

func readTrade(file []byte, want channels.Expect) ([]channels.BillLine, channels.FileSummary, error) {
	return filetest.Rows(func(emit func(*channels.BillLine) error) (channels.FileSummary, error) {
		return ReadTradeBill(bytes.NewReader(file), want, emit)
	})
}

func mustTrade(t *testing.T, file []byte) ([]channels.BillLine, channels.FileSummary) {
	t.Helper()
	rows, sum, err := readTrade(file, hospital)
	if err != nil {
		t.Fatal(err)
	}
	return rows, sum
}

func TestTheSampleDayComesToItsDocumentedCountsAndSums(t *testing.T) {
	rows, sum := mustTrade(t, filetest.Sample(t, allFile))
	want := map[string]int64{
		"payments": 22, "refunds": 7, "reversals": 1, "pay_amount": 1269059, "refund_amount": 190953,
		"pay_settle": 1268559, "refund_settle": 190853, "fee": 7614, "fee_return": 1146,
	}
	for name, n := range want {
		if sum.Totals[name] != n {
			t.Errorf("%s = %d, want %d", name, sum.Totals[name], n)
		}
	}
	if sum.MerchantNo != "1900000109" || sum.Day != 20260915 || sum.Part != channels.PartAll || sum.Rows != 30 {
		t.Errorf("summary %+v", sum)
	}
	if fee := sum.Totals["fee"] - sum.Totals["fee_return"]; fee != 6468 {
		t.Errorf("net fee %d, want 6468", fee)
	}
	if net := sum.Totals["pay_settle"] - sum.Totals["refund_settle"] - 6468; net != 1071238 {
		t.Errorf("net to settle %d, want 1071238", net)
	}
	refund, reversal, sweep := rows[15], rows[18], rows[29]
	if refund.Row != 17 || refund.RefundNo != "HR2026091500000003" || refund.ChannelRefundNo != "50300007032026091500000000003" ||
		refund.OrderNo != "HP2026091500000008" || refund.TradeNo != "4200002345202609150000000008" ||
		refund.Amount != 1000 || refund.Settle != 900 || refund.Fee != 5 || refund.Kind != channels.Refund ||
		refund.At.Format("2006-01-02T15:04:05Z07:00") != "2026-09-15T09:40:00+08:00" {
		t.Errorf("refund with a coupon: %+v", refund)
	}
	if reversal.Kind != channels.Reverse || reversal.RefundNo != reversal.OrderNo || reversal.Amount != 7770 {
		t.Errorf("reversal: %+v", reversal)
	}
	if sweep.Status != channels.Processing || sweep.Amount != 120600 {
		t.Errorf("refund in process: %+v", sweep)
	}
}

// unplaced forgets where a row stood, so that rows of two files compare.
func unplaced(rows []channels.BillLine) []channels.BillLine {
	out := slices.Clone(rows)
	for i := range out {
		out[i].Row = 0
	}
	return out
}

func TestEveryEncodingAndTypeOfBillSaysTheSame(t *testing.T) {
	all, _ := mustTrade(t, filetest.Sample(t, allFile))
	for _, name := range []string{gzFile, lfFile} {
		if rows, _ := mustTrade(t, filetest.Sample(t, name)); !slices.Equal(rows, all) {
			t.Errorf("%s has other rows than the ALL bill", name)
		}
	}
	pays, paid := mustTrade(t, filetest.Sample(t, successFile))
	refunds, refunded := mustTrade(t, filetest.Sample(t, refundFile))
	if paid.Part != channels.PartPay || refunded.Part != channels.PartRefund {
		t.Errorf("parts %s and %s", paid.Part, refunded.Part)
	}
	both := append(unplaced(pays), unplaced(refunds)...)
	slices.SortStableFunc(both, func(a, b channels.BillLine) int { return a.At.Compare(b.At) })
	if !slices.Equal(both, unplaced(all)) {
		t.Error("SUCCESS and REFUND together are not the ALL bill")
	}
}

// oldLayout rewrites the ALL bill into the 24 columns of before 2018.
func oldLayout(t *testing.T, coupon, couponRefund, couponTotal string) []byte {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(string(filetest.Sample(t, lfFile)), "\n"), "\n")
	header := strings.Split(lines[0], ",")[:24]
	rename := map[string]string{"特约商户号": "子商户号", "应结订单金额": "总金额", "代金券金额": coupon, "充值券退款金额": couponRefund}
	for i, name := range header {
		if now, ok := rename[name]; ok {
			header[i] = now
		}
	}
	out := []string{strings.Join(header, ",")}
	for _, row := range lines[1 : len(lines)-2] {
		values := strings.Split(row, ",`")[:24]
		values[13] = "0.00"
		out = append(out, strings.Join(values, ",`"))
	}
	out = append(out, "总交易单数,总交易额,总退款金额,"+couponTotal+",手续费总金额", "`30,`12685.59,`1908.53,`0.0,`64.68000", "")
	return []byte(strings.Join(out, "\r\n"))
}

func TestTheOlderLayoutsAreReadByName(t *testing.T) {
	for _, names := range [][3]string{
		{"代金券或立减优惠金额", "代金券或立减优惠退款金额", "总代金券或立减优惠退款金额"},
		{"企业红包金额", "企业红包退款金额", "总企业红包退款金额"},
	} {
		file := oldLayout(t, names[0], names[1], names[2])
		rows, sum := mustTrade(t, file)
		if sum.Part != channels.PartAll || sum.Rows != 30 || sum.Totals["pay_amount"] != 1268559 || sum.Totals["refund_amount"] != 190853 {
			t.Errorf("%s: %+v", names[0], sum)
		}
		if rows[8].Amount != 4500 || rows[8].Settle != 4500 || rows[15].Amount != 900 {
			t.Errorf("%s: order %v, refund %v", names[0], rows[8], rows[15])
		}
		refuseEveryPrefix(t, file, func(b []byte) error { _, _, err := readTrade(b, hospital); return err })
	}
}

func TestASummaryOfFourColumnsIsEnoughForPayments(t *testing.T) {
	file := string(filetest.Sample(t, successFile))
	file = strings.Replace(file, "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额", "总交易单数,应结订单总金额,手续费总金额,订单总金额", 1)
	file = strings.Replace(file, "`22,`12685.59,`0.00,`0.00,`76.14000,`12690.59,`0.00", "`22,`12685.59,`76.14000,`12690.59", 1)
	if _, sum := mustTrade(t, []byte(file)); sum.Rows != 22 {
		t.Errorf("%d rows", sum.Rows)
	}
	all := strings.Replace(string(filetest.Sample(t, allFile)), ",申请退款总金额", "", 1)
	all = strings.Replace(all, "`12690.59,`1909.53", "`12690.59", 1)
	_, _, err := readTrade([]byte(all), hospital)
	filetest.Refused(t, "the file", err, "申请退款总金额", "missing")
}

func TestAnEmptyBillIsValidWhereMerchantAndDayAreNamed(t *testing.T) {
	lines := strings.Split(string(filetest.Sample(t, allFile)), "\r\n")
	file := []byte(lines[0] + "\r\n" + lines[31] + "\r\n`0,`0.00,`0.00,`0.00,`0.00000,`0.00,`0.00\r\n")
	rows, sum, err := readTrade(file, channels.Expect{MerchantNos: []string{"1900000109"}, Day: 20260915})
	if err != nil || len(rows) != 0 || sum.MerchantNo != "1900000109" || sum.Day != 20260915 || sum.Part != channels.PartAll {
		t.Fatalf("%+v %v", sum, err)
	}
	_, _, err = readTrade(file, hospital)
	filetest.Refused(t, "the file", err, "--day")
	_, _, err = readTrade(file, channels.Expect{Day: 20260915})
	filetest.Refused(t, "the file", err, "--merchant")
	_, _, err = readTrade(file, channels.Expect{Day: 20260915, MerchantNos: []string{"1", "2"}})
	filetest.Refused(t, "the file", err, "--merchant")
}

// refuseEveryPrefix cuts a good file after every byte. What lost no more than the
// line end of its last line is whole, everything shorter must be refused.
func refuseEveryPrefix(t *testing.T, file []byte, read func([]byte) error) {
	t.Helper()
	whole := len(bytes.TrimRight(file, "\r\n"))
	for n := range whole {
		if err := read(file[:n]); err == nil {
			t.Fatalf("accepted the first %d of %d bytes: …%q", n, len(file), file[max(0, n-30):n])
		} else if f := new(channels.FileError); !errors.As(err, &f) {
			t.Fatalf("first %d bytes: %v is no refusal", n, err)
		}
	}
	for n := whole; n <= len(file); n++ {
		if err := read(file[:n]); err != nil {
			t.Errorf("refused a file that lacks only %d bytes of its line end: %v", len(file)-n, err)
		}
	}
}

func TestATradeBillCutOffAnywhereIsRefused(t *testing.T) {
	for _, name := range []string{allFile, lfFile, successFile, refundFile} {
		refuseEveryPrefix(t, filetest.Sample(t, name), func(b []byte) error { _, _, err := readTrade(b, hospital); return err })
	}
	packed := filetest.Sample(t, gzFile)
	for n := range packed {
		_, _, err := readTrade(packed[:n], hospital)
		filetest.Refused(t, "the file", err)
	}
}

func TestAMissingLineIsRefused(t *testing.T) {
	for _, name := range []string{allFile, successFile, refundFile} {
		lines := strings.SplitAfter(string(filetest.Sample(t, name)), "\n")
		for i := range len(lines) - 1 {
			_, _, err := readTrade([]byte(strings.Join(slices.Delete(slices.Clone(lines), i, i+1), "")), hospital)
			if err == nil {
				t.Errorf("%s without line %d was accepted", name, i+1)
			}
		}
	}
}

// mutateDigits changes each digit under the named columns, row by row, and hands
// each changed file to check.
func mutateDigits(file string, columns []string, check func(column string, row int, changed []byte)) {
	lines := strings.SplitAfter(file, "\n")
	header := strings.Split(strings.TrimRight(strings.TrimPrefix(lines[0], "\ufeff"), "\r\n"), ",")
	for i, line := range lines {
		if !strings.HasPrefix(line, "`") {
			if i > 0 && line != "" {
				header = strings.Split(strings.TrimRight(line, "\r\n"), ",")
			}
			continue
		}
		values := strings.Split(line, ",`")
		for c, name := range header {
			if !slices.Contains(columns, name) {
				continue
			}
			for d, digit := range []byte(values[c]) {
				if digit < '0' || digit > '9' {
					continue
				}
				changed := slices.Clone(values)
				v := []byte(values[c])
				v[d] = '0' + (digit-'0'+1)%10
				changed[c] = string(v)
				out := slices.Clone(lines)
				out[i] = strings.Join(changed, ",`")
				check(name, i+1, []byte(strings.Join(out, "")))
			}
		}
	}
}

func TestAChangedDigitIsRefused(t *testing.T) {
	columns := []string{
		"商户号", "特约商户号", "应结订单金额", "退款金额", "充值券退款金额", "手续费", "订单金额", "申请退款金额",
		"总交易单数", "应结订单总金额", "退款总金额", "充值券退款总金额", "手续费总金额", "订单总金额", "申请退款总金额",
	}
	for _, name := range []string{allFile, successFile, refundFile} {
		n := 0
		mutateDigits(string(filetest.Sample(t, name)), columns, func(column string, row int, changed []byte) {
			n++
			_, _, err := readTrade(changed, hospital)
			if f := new(channels.FileError); !errors.As(err, &f) {
				t.Errorf("%s line %d: a digit of %s changed, got %v", name, row, column, err)
			}
		})
		if n < 200 {
			t.Errorf("%s: only %d digits were changed", name, n)
		}
	}
}

func TestRefusalsNameLineColumnAndRule(t *testing.T) {
	pay := "`2026-09-15 07:58:11,`wxd678efh567hg6787,`1900000109,`0,`KIOSK01,`4200002345202609150000000001,`HP2026091500000001,`oUpF8uMuAJO_M2pxb1Q9zNj00001,`MICROPAY,`SUCCESS,`CMB_DEBIT,`CNY,`12.50,"
	for _, c := range []struct {
		name, old, new string
		words          []string
	}{
		{"unknown header", "费率备注\r", "费率备注,实付金额\r", []string{"line 1", "实付金额", "unknown column"}},
		{"missing header", "交易状态,", "", []string{"line 1", "交易状态", "missing"}},
		{"header twice", "设备号,", "商户号,", []string{"line 1", "商户号", "twice"}},
		{"foreign merchant", "`wxd678efh567hg6787,`1900000109,`0,`WIN02", "`wxd678efh567hg6787,`1900000110,`0,`WIN02", []string{"line 18", "1900000110"}},
		{"another day", "`2026-09-15 07:58:11", "`2026-09-14 23:59:59", []string{"交易时间", "2026-09-1"}},
		{"no time", "`2026-09-15 07:58:11", "`2026-09-15 07:60:11", []string{"line 2", "交易时间"}},
		{"currency", "`CMB_DEBIT,`CNY", "`CMB_DEBIT,`USD", []string{"line 2", "货币种类", "USD"}},
		{"state", "`MICROPAY,`SUCCESS,`CMB_DEBIT", "`MICROPAY,`CLOSED,`CMB_DEBIT", []string{"line 2", "交易状态", "CLOSED"}},
		{"refund state", "`ORIGINAL,`PROCESSING", "`ORIGINAL,`LOST", []string{"line 31", "退款状态", "LOST"}},
		{"part of a fen", "`0.08000", "`0.08400", []string{"line 2", "手续费", "fen"}},
		{"fee sign", "`-7.24000", "`7.24000", []string{"line 31", "手续费"}},
		{"settle above order", "`CNY,`12.50,", "`CNY,`13.50,", []string{"line 2", "应结订单金额"}},
		{"order number", "`HP2026091500000001,", "`,", []string{"line 2", "商户订单号"}},
		{"one value less", "`oUpF8uMuAJO_M2pxb1Q9zNj00001,", "", []string{"line 2", "26 values under 27 columns"}},
		{"count", "`30,`12685.59", "`31,`12685.59", []string{"line 33", "总交易单数", "31", "30"}},
		{"something after the end", "`1909.53\r\n", "`1909.53\r\n" + pay + "\r\n", []string{"line 34", "nothing may follow"}},
	} {
		file := strings.Replace(string(filetest.Sample(t, allFile)), c.old, c.new, 1)
		_, _, err := readTrade([]byte(file), hospital)
		if err == nil {
			t.Errorf("%s was accepted", c.name)
			continue
		}
		filetest.Refused(t, "the file", err, c.words...)
	}
	_, _, err := readTrade(filetest.Sample(t, allFile), channels.Expect{MerchantNos: []string{"1900000999"}})
	filetest.Refused(t, "the file", err, "line 2", "1900000109", "1900000999")
	_, _, err = readTrade(filetest.Sample(t, allFile), channels.Expect{Day: 20260916})
	filetest.Refused(t, "the file", err, "line 2", "2026-09-16")
}

func TestAnAliasComesOutAsTheMainMerchantNumber(t *testing.T) {
	rows, sum, err := readTrade(filetest.Sample(t, allFile), channels.Expect{
		MerchantNos: []string{"M1", "1900000109"}, Aliases: map[string]string{"1900000109": "M1"},
	})
	if err != nil || sum.MerchantNo != "M1" || rows[7].MerchantNo != "M1" {
		t.Fatalf("%+v %v", sum, err)
	}
}

func TestACommaInsideAValueDoesNoHarm(t *testing.T) {
	file := strings.Replace(string(filetest.Sample(t, allFile)), "`门诊挂号费,`OP|10001", "`门诊,挂`号,费,`OP,10001", 1)
	rows, _ := mustTrade(t, []byte(file))
	all, _ := mustTrade(t, filetest.Sample(t, allFile))
	if !slices.Equal(rows, all) {
		t.Error("the rows differ")
	}
}

func TestARefundThatFailedIsHeldByTheChannel(t *testing.T) {
	for text, status := range map[string]channels.Status{"FAIL": channels.Abnormal, "CHANGE": channels.Abnormal, "PROCESSING": channels.Processing} {
		file := strings.Replace(string(filetest.Sample(t, allFile)), "`ORIGINAL,`PROCESSING", "`ORIGINAL,`"+text, 1)
		if rows, _ := mustTrade(t, []byte(file)); rows[29].Status != status {
			t.Errorf("%s reads as %s, want %s", text, rows[29].Status, status)
		}
	}
}

func TestWhatEmitReturnsStopsTheReading(t *testing.T) {
	stop := errors.New("stop")
	n := 0
	_, err := ReadTradeBill(bytes.NewReader(filetest.Sample(t, allFile)), hospital, func(*channels.BillLine) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("%v after %d rows", err, n)
	}
}

func FuzzTradeBill(f *testing.F) {
	for _, name := range []string{allFile, gzFile, lfFile, successFile, refundFile} {
		f.Add(filetest.Sample(f, name))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		rows, sum, err := readTrade(file, channels.Expect{Day: 20260915})
		if err != nil {
			return
		}
		var pay, refund ledger.Money
		for _, r := range rows {
			if r.MerchantNo != sum.MerchantNo || ledger.DayOf(r.At) != sum.Day || r.Amount <= 0 || r.Settle < 0 ||
				r.Settle > r.Amount || r.Fee < 0 || r.OrderNo == "" || r.TradeNo == "" || (r.Kind == channels.Pay) != (r.RefundNo == "") {
				t.Errorf("row %+v", r)
			}
			if r.Kind == channels.Pay {
				pay += r.Settle - r.Fee
			} else {
				refund += r.Settle - r.Fee
			}
		}
		if sum.Rows != len(rows) || int64(pay) != sum.Totals["pay_settle"]-sum.Totals["fee"] ||
			int64(refund) != sum.Totals["refund_settle"]-sum.Totals["fee_return"] {
			t.Errorf("%d rows, %d and %d against %+v", len(rows), pay, refund, sum)
		}
	})
}

// generatedBill writes an ALL bill of n payments.
func generatedBill(n int) []byte {
	var b bytes.Buffer
	b.WriteString("交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注\r\n")
	var sum, fees ledger.Money
	for i := range n {
		amount := ledger.Money(1 + i*7919%500000)
		fee := (amount*6 + 500) / 1000
		sum, fees = sum+amount, fees+fee
		fmt.Fprintf(&b, "`2026-09-15 %02d:%02d:%02d,`wxd678efh567hg6787,`1900000109,`0,`WIN02,`4200002345202609150%09d,`HP20260915%08d,`oUpF8uMuAJO_M2pxb1Q9zNj%05d,`JSAPI,`SUCCESS,`OTHERS,`CNY,`%s,`0.00,`0,`0,`0.00,`0.00,`,`,`门诊缴费,`OP|%d,`%s000,`0.60%%,`%s,`0.00,`\r\n",
			i/3600%24, i/60%60, i%60, i, i, i%100000, amount, i, fee, amount)
	}
	fmt.Fprintf(&b, "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n`%d,`%s,`0.00,`0.00,`%s000,`%s,`0.00\r\n", n, sum, fees, sum)
	return b.Bytes()
}

func BenchmarkTradeBill(b *testing.B) {
	const rows = 200_000
	file := generatedBill(rows)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if _, err := ReadTradeBill(bytes.NewReader(file), hospital, func(*channels.BillLine) error { n++; return nil }); err != nil || n != rows {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkLineScan only finds the lines: what parsing is measured against.
func BenchmarkLineScan(b *testing.B) {
	const rows = 200_000
	file := generatedBill(rows)
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		lines := channels.NewLines(bytes.NewReader(file))
		for lines.Next() {
		}
		if lines.Number() != rows+3 || lines.Err() != nil {
			b.Fatal(lines.Number(), lines.Err())
		}
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
