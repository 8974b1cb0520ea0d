package alipay

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/filetest"
	"github.com/clearward/clearward/ledger"
)

const (
	tradeFile   = "alipay_20880000000000020156_20260915_trade.csv.zip"
	accountFile = "alipay_20880000000000020156_20260915_signcustomer.csv.zip"
)

var hospital = channels.Expect{MerchantNos: []string{"20880000000000020156", "2088000000000002"}}

var sample = filetest.Sample

// part is a file of an archive, its text decoded.
type part struct{ name, text string }

func unpack(t testing.TB, file []byte) []part {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	var parts []part
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(simplifiedchinese.GB18030.NewDecoder().Reader(r))
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part{entryName(f.Name), string(text)})
	}
	return parts
}

func pack(t testing.TB, parts []part) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, p := range parts {
		name, err := simplifiedchinese.GBK.NewEncoder().String(p.name)
		if err != nil {
			t.Fatal(err)
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, NonUTF8: true, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(simplifiedchinese.GBK.NewEncoder().Writer(w), p.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readTrade(file []byte, want channels.Expect) ([]channels.BillLine, channels.FileSummary, error) {
	return filetest.Rows(func(emit func(*channels.BillLine) error) (channels.FileSummary, error) {
		return ReadTradeBill(bytes.NewReader(file), int64(len(file)), want, emit)
	})
}

func readFund(file []byte, want channels.Expect) ([]channels.FundLine, channels.FileSummary, error) {
	return filetest.Rows(func(emit func(*channels.FundLine) error) (channels.FileSummary, error) {
		return ReadFundBill(bytes.NewReader(file), int64(len(file)), want, emit)
	})
}

func TestTheSampleDayComesToItsDocumentedCountsAndSums(t *testing.T) {
	rows, sum, err := readTrade(sample(t, tradeFile), hospital)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{
		"payments": 14, "refunds": 5, "reversals": 0, "pay_amount": 602433, "refund_amount": 94250,
		"pay_settle": 601753, "refund_settle": 94250, "fee": 3611, "fee_return": 566, "share": 0,
	}
	for name, n := range want {
		if sum.Totals[name] != n {
			t.Errorf("%s = %d, want %d", name, sum.Totals[name], n)
		}
	}
	if sum.MerchantNo != "20880000000000020156" || sum.Day != 20260915 || sum.Part != channels.PartAll || sum.Rows != 19 {
		t.Errorf("summary %+v", sum)
	}
	pay, refund := rows[6], rows[17]
	if pay.Amount != 5680 || pay.Settle != 5000 || pay.Fee != 30 || pay.Row != 12 || pay.RefundNo != "" ||
		pay.At.Format("2006-01-02T15:04:05Z07:00") != "2026-09-15T09:18:40+08:00" {
		t.Errorf("payment with a coupon: %+v", pay)
	}
	if refund.Kind != channels.Refund || refund.Amount != 5000 || refund.Settle != 5000 || refund.Fee != 30 ||
		refund.RefundNo != "HR2026091510000005" || refund.OrderNo != pay.OrderNo || refund.TradeNo != pay.TradeNo {
		t.Errorf("refund: %+v", refund)
	}
}

func TestTheAccountRollsFromOpeningToClosing(t *testing.T) {
	rows, sum, err := readFund(sample(t, accountFile), hospital)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{"trade": 601753, "fee": 3611, "refund": 94250, "fee_return": 566, "withdrawn": 0, "other": 0}
	for name, n := range want {
		if sum.Totals[name] != n {
			t.Errorf("%s = %d, want %d", name, sum.Totals[name], n)
		}
	}
	if sum.Opening != 800000 || sum.Closing != 1304458 || !sum.Balances || sum.Rows != 37 || sum.MerchantNo != "20880000000000020156" {
		t.Errorf("summary %+v", sum)
	}
	if r := rows[14]; r.Kind != channels.FundRefund || r.Amount != -48000 || r.FlowNo != "26091500000000015" || r.OrderNo != "HPA202609150000003" {
		t.Errorf("refund %+v", r)
	}
}

func TestTheMerchantNumberComesOutAsMasterDataHasIt(t *testing.T) {
	for _, c := range []struct {
		nos  []string
		want string
	}{
		{nil, "20880000000000020156"},
		{[]string{"20880000000000020156"}, "20880000000000020156"},
		{[]string{"2088000000000002"}, "2088000000000002"},
		{[]string{"2088000000000002", "20880000000000020156"}, "2088000000000002"},
	} {
		rows, sum, err := readTrade(sample(t, tradeFile), channels.Expect{MerchantNos: c.nos})
		if err != nil || sum.MerchantNo != c.want || rows[0].MerchantNo != c.want {
			t.Errorf("%v: %s %v", c.nos, sum.MerchantNo, err)
		}
	}
	_, sum, err := readFund(sample(t, accountFile), channels.Expect{
		MerchantNos: []string{"M1", "2088000000000002"}, Aliases: map[string]string{"2088000000000002": "M1"}})
	if err != nil || sum.MerchantNo != "M1" {
		t.Errorf("%+v %v", sum, err)
	}
	_, _, err = readTrade(sample(t, tradeFile), channels.Expect{MerchantNos: []string{"20880000000000030156"}})
	filetest.Refused(t, "foreign account", err, "line 2", "账号", "20880000000000020156", "业务明细.csv")
	_, _, err = readTrade(sample(t, tradeFile), channels.Expect{Day: 20260914})
	filetest.Refused(t, "another day", err, "line 3", "2026-09-15")
}

// readers reads both kinds of archive by the same name, without the rows.
var readers = map[string]func([]byte) error{
	tradeFile:   func(b []byte) error { _, _, err := readTrade(b, hospital); return err },
	accountFile: func(b []byte) error { _, _, err := readFund(b, hospital); return err },
}

func TestAnArchiveCutOffAnywhereIsRefused(t *testing.T) {
	for name, read := range readers {
		file := sample(t, name)
		for n := range file {
			if err := read(file[:n]); err == nil {
				t.Errorf("%s: accepted the first %d of %d bytes", name, n, len(file))
			} else if f := new(channels.FileError); !errors.As(err, &f) {
				t.Errorf("%s: first %d bytes: %v is no refusal", name, n, err)
			}
		}
	}
}

func TestAFileCutOffInsideTheArchiveIsRefused(t *testing.T) {
	for name, read := range readers {
		parts := unpack(t, sample(t, name))
		if err := read(pack(t, parts)); err != nil {
			t.Fatal(err)
		}
		for i, p := range parts {
			whole := len(strings.TrimRight(p.text, "\r\n"))
			for n := range whole {
				if n%7 != 0 && p.text[n] != '\n' && n < whole-60 { // every byte of the end, every line before
					continue
				}
				cut := slices.Clone(parts)
				cut[i].text = strings.ToValidUTF8(p.text[:n], "")
				filetest.Refused(t, p.name+" cut", read(pack(t, cut)))
			}
			lines := strings.SplitAfter(strings.TrimSuffix(p.text, "\r\n"), "\n")
			for l := range lines {
				cut := slices.Clone(parts)
				cut[i].text = strings.Join(slices.Delete(slices.Clone(lines), l, l+1), "")
				filetest.Refused(t, p.name+" without line "+lines[l], read(pack(t, cut)))
			}
		}
		for i := range parts {
			filetest.Refused(t, "without an entry", read(pack(t, slices.Delete(slices.Clone(parts), i, i+1))))
		}
	}
}

func TestAChangedDigitIsRefused(t *testing.T) {
	columns := []string{
		"订单金额（元）", "商家实收（元）", "支付宝优惠（元）", "商家优惠（元）", "卡消费金额（元）", "服务费（元）", "分润（元）",
		"收入金额（+元）", "支出金额（-元）", "账户余额（元）", "交易订单总笔数", "退款订单总笔数", "实收净额（元）",
		"收入笔数", "支出笔数", "总金额（元）", "账号",
	}
	for name, read := range readers {
		parts := unpack(t, sample(t, name))
		n := 0
		for i, p := range parts {
			lines := strings.SplitAfter(p.text, "\n")
			var header []string
			for l, line := range lines {
				values := strings.Split(line, ",")
				switch {
				case strings.Contains(line, "合计：") || strings.HasPrefix(line, "#账号"):
					header = nil
				case strings.HasPrefix(line, "#"):
					continue
				case header == nil || strings.HasPrefix(line, "门店编号") || strings.HasPrefix(line, "类型"):
					header = strings.Split(strings.TrimRight(line, "\r\n"), ",")
					continue
				}
				for v := range values {
					if header != nil && !slices.Contains(columns, header[v]) {
						continue
					}
					for d, digit := range []byte(values[v]) {
						if digit < '0' || digit > '9' {
							continue
						}
						b := []byte(values[v])
						b[d] = '0' + (digit-'0'+1)%10
						changed := slices.Clone(values)
						changed[v] = string(b)
						out := slices.Clone(lines)
						out[l] = strings.Join(changed, ",")
						again := slices.Clone(parts)
						again[i].text = strings.Join(out, "")
						n++
						filetest.Refused(t, p.name+": "+out[l], read(pack(t, again)))
					}
				}
			}
		}
		if n < 300 {
			t.Errorf("%s: only %d digits were changed", name, n)
		}
	}
}

func TestRefusalsNameFileLineColumnAndRule(t *testing.T) {
	for _, c := range []struct {
		file, old, new string
		words          []string
	}{
		{tradeFile, "分润（元）,备注", "分润（元）,备注,实付（元）", []string{"业务明细.csv", "line 5", "实付（元）", "unknown column"}},
		{tradeFile, "完成时间,", "", []string{"line 5", "完成时间", "missing"}},
		{tradeFile, "\t,交易\t,", "\t,撤销\t,", []string{"line 6", "业务类型", "撤销"}},
		{tradeFile, "2026-09-15 08:00:03", "2026-09-16 08:00:03", []string{"line 6", "完成时间", "2026-09-15"}},
		{tradeFile, ",-0.74,", ",0.74,", []string{"line 6", "服务费"}},
		{tradeFile, "-480.00,-480.00", "480.00,480.00", []string{"line 13", "订单金额"}},
		{tradeFile, "HR2026091510000001", "", []string{"line 13", "退款批次号/请求号"}},
		{tradeFile, "2026091522001488600000000001\t,", "", []string{"line 6", "24 values under 25 columns"}},
		{tradeFile, "#交易合计：14笔", "#交易合计：15笔", []string{"line 26", "交易合计", "15", "14"}},
		{tradeFile, "终止日期：[2026年09月16日", "终止日期：[2026年10月01日", []string{"line 3", "one day"}},
		{accountFile, ",8122.71,", ",8122.72,", []string{"账务明细.csv", "line 7", "账户余额", "8122.72"}},
		{accountFile, "#支出合计：18笔", "#支出合计：17笔", []string{"line 44", "支出合计"}},
		{accountFile, "收费,0,0.00,13,", "收费,0,0.00,12,", []string{"账务明细(汇总).csv", "支出笔数", "12", "13"}},
	} {
		parts := unpack(t, sample(t, c.file))
		for i := range parts {
			if strings.Contains(parts[i].text, c.old) {
				parts[i].text = strings.Replace(parts[i].text, c.old, c.new, 1)
				break
			}
		}
		filetest.Refused(t, c.new, readers[c.file](pack(t, parts)), c.words...)
	}
	filetest.Refused(t, "the other archive", readers[tradeFile](sample(t, accountFile)), "业务明细")
	parts := unpack(t, sample(t, tradeFile))
	filetest.Refused(t, "a foreign entry", readers[tradeFile](pack(t, append(parts, part{"readme.txt", ""}))), "readme.txt")
}

// splitDetail cuts the trade detail after the given row into two parts.
func splitDetail(t *testing.T) []part {
	t.Helper()
	parts := unpack(t, sample(t, tradeFile))
	lines := strings.SplitAfter(parts[0].text, "\n")
	foot := func(pays, settled, off, refunds, back string) string {
		return "#-----------------------------------------业务明细列表结束------------------------------------\r\n" +
			"#交易合计：" + pays + "笔，商家实收共" + settled + "元，商家优惠共" + off + "元\r\n" +
			"#退款合计：" + refunds + "笔，商家实收退款共" + back + "元，商家优惠退款共0.00元\r\n#导出时间：[2026年09月16日 05:46:49]\r\n"
	}
	stem := strings.TrimSuffix(parts[0].name, ".csv")
	head := strings.Join(lines[:5], "")
	return []part{
		{stem + "_2.csv", head + strings.Join(lines[8:24], "") + foot("11", "5088.08", "6.80", "5", "-942.50")},
		{stem + "_1.csv", head + strings.Join(lines[5:8], "") + foot("3", "929.45", "0.00", "0", "0.00")},
		parts[1],
	}
}

func TestASplitDetailIsReadInOrder(t *testing.T) {
	parts := splitDetail(t)
	rows, sum, err := readTrade(pack(t, parts), hospital)
	all, _, _ := readTrade(sample(t, tradeFile), hospital)
	for i := range rows {
		rows[i].Row = all[i].Row
	}
	if err != nil || sum.Rows != 19 || !slices.Equal(rows, all) {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	filetest.Refused(t, "the summary is missing", readers[tradeFile](pack(t, parts[:2])), "汇总")
	filetest.Refused(t, "the first part is missing", readers[tradeFile](pack(t, []part{parts[0], parts[2]})), "part 1")
	filetest.Refused(t, "the second part is missing", readers[tradeFile](pack(t, parts[1:])), "合计")
}

func TestKnownExtraColumnsAndTypesAreRead(t *testing.T) {
	parts := unpack(t, sample(t, tradeFile))
	lines := strings.Split(parts[0].text, "\r\n")
	for i := range lines {
		if !strings.HasPrefix(lines[i], "#") && lines[i] != "" {
			extra := ",S1,,"
			if i == 4 {
				extra = ",二级商户编号,二级商户名称,净额（元）"
			}
			lines[i] += extra
		}
	}
	parts[0].text = strings.Join(lines, "\r\n")
	if err := readers[tradeFile](pack(t, parts)); err != nil {
		t.Error(err)
	}
	if k := fundKind("转账", true); k != channels.FundOther {
		t.Errorf("转账 is %s", k)
	}
	if k := fundKind("提现", false); k != channels.FundWithdrawal {
		t.Errorf("提现 is %s", k)
	}
	if k := fundKind("提现退回", true); k != channels.FundWithdrawalReturn {
		t.Errorf("提现退回 is %s", k)
	}
}

func TestABillWithoutRowsNamesItsMerchantAndDay(t *testing.T) {
	parts := unpack(t, sample(t, accountFile))
	lines := strings.SplitAfter(parts[0].text, "\n")
	parts[0].text = strings.Join(slices.Concat(lines[:5], lines[42:43]), "") +
		"#支出合计：0笔，共0.00元\r\n#收入合计：0笔，共0.00元\r\n#导出时间：[2026年09月16日 05:52:10]\r\n"
	lines = strings.SplitAfter(parts[1].text, "\n")
	parts[1].text = strings.Join(lines[:5], "") + "合计,0,0.00,0,0.00,0.00\r\n" + strings.Join(lines[10:], "")
	_, sum, err := readFund(pack(t, parts), hospital)
	if err != nil || sum.Rows != 0 || sum.Balances || sum.Day != 20260915 || sum.MerchantNo != "20880000000000020156" {
		t.Fatalf("%+v %v", sum, err)
	}
}

func FuzzTradeBill(f *testing.F) {
	parts := unpack(f, sample(f, tradeFile))
	f.Add([]byte(parts[0].text), []byte(parts[1].text))
	f.Fuzz(func(t *testing.T, detail, total []byte) {
		rows, sum, err := readTrade(rawArchive(t, "业务", detail, total), channels.Expect{})
		if err != nil {
			return
		}
		var net int64
		for _, r := range rows {
			sign := int64(1)
			if r.Kind == channels.Refund {
				sign = -1
			}
			net += sign * int64(r.Settle-r.Fee)
			if r.Amount <= 0 || r.Settle < 0 || r.Settle > r.Amount || r.Fee < 0 || r.OrderNo == "" || ledger.DayOf(r.At) != sum.Day {
				t.Errorf("row %+v", r)
			}
		}
		x := sum.Totals
		if len(rows) != sum.Rows || net != x["pay_settle"]-x["refund_settle"]-x["fee"]+x["fee_return"] {
			t.Errorf("%d rows, net %d, %+v", len(rows), net, sum)
		}
	})
}

func FuzzFundBill(f *testing.F) {
	parts := unpack(f, sample(f, accountFile))
	f.Add([]byte(parts[0].text), []byte(parts[1].text))
	f.Fuzz(func(t *testing.T, detail, total []byte) {
		rows, sum, err := readFund(rawArchive(t, "账务", detail, total), channels.Expect{})
		if err != nil {
			return
		}
		balance := sum.Opening
		for _, r := range rows {
			if balance += r.Amount; balance != r.Balance || r.Amount == 0 || ledger.DayOf(r.At) != sum.Day {
				t.Errorf("row %+v", r)
			}
		}
		if len(rows) != sum.Rows || balance != sum.Closing {
			t.Errorf("%d rows, closing %d, %+v", len(rows), balance, sum)
		}
	})
}

// FuzzArchive feeds any bytes as an archive.
func FuzzArchive(f *testing.F) {
	f.Add(sample(f, tradeFile))
	f.Add(sample(f, accountFile))
	f.Fuzz(func(t *testing.T, file []byte) {
		for _, read := range readers {
			if err := read(file); err != nil && !errors.As(err, new(*channels.FileError)) {
				t.Errorf("%v is no refusal", err)
			}
		}
	})
}

// rawArchive packs two texts, encoded as GB18030 where they are UTF-8.
func rawArchive(t *testing.T, kind string, detail, total []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range map[string][]byte{kind + "明细.csv": detail, kind + "明细(汇总).csv": total} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if encoded, err := simplifiedchinese.GB18030.NewEncoder().Bytes(text); err == nil {
			text = encoded
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
