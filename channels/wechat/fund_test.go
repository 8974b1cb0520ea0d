package wechat

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/filetest"
	"github.com/clearward/clearward/ledger"
)

func readFund(file []byte, want channels.Expect) ([]channels.FundLine, channels.FileSummary, error) {
	return filetest.Rows(func(emit func(*channels.FundLine) error) (channels.FileSummary, error) {
		return ReadFundBill(bytes.NewReader(file), want, emit)
	})
}

func TestTheFundBillRollsFromOpeningToClosing(t *testing.T) {
	rows, sum, err := readFund(filetest.Sample(t, fundFile), hospital)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{
		"trade": 1268559, "fee": 7614, "refund": 190853, "fee_return": 1146, "withdrawn": 1523046,
		"withdrawal_returned": 0, "recharged": 0, "other": 0,
	}
	for name, n := range want {
		if sum.Totals[name] != n {
			t.Errorf("%s = %d, want %d", name, sum.Totals[name], n)
		}
	}
	if sum.Opening != 1523046 || sum.Closing != 1071238 || !sum.Balances || sum.Rows != 59 || sum.Day != 20260915 || sum.MerchantNo != "1900000109" {
		t.Errorf("summary %+v", sum)
	}
	out := rows[27]
	if out.Kind != channels.FundWithdrawal || out.Amount != -1523046 || out.BusinessNo != "1900000109W20260915093000001" ||
		out.OrderNo != "WD190000010920260915001" || out.FlowNo != "503000900002820260915000028" || out.Row != 29 || out.Balance != 844765 {
		t.Errorf("withdrawal %+v", out)
	}
}

func TestTheParenthesesAndLineEndsOfAFundBillDoNotMatter(t *testing.T) {
	rows, _, err := readFund(filetest.Sample(t, fundFile), hospital)
	if err != nil {
		t.Fatal(err)
	}
	file := strings.NewReplacer("(元)", "（元）", "\r\n", "\n", "\ufeff", "").Replace(string(filetest.Sample(t, fundFile)))
	same, _, err := readFund([]byte(file), hospital)
	if err != nil || !slices.Equal(rows, same) {
		t.Errorf("other rows, %v", err)
	}
}

func TestRowsOfUnknownKindAreHandedOn(t *testing.T) {
	for _, c := range []struct {
		name, kind, direction string
		want                  channels.FundKind
	}{
		{"分账", "分账", "支出", channels.FundOther},
		{"退款", "退款关闭", "收入", channels.FundOther},
		{"退款", "退款", "收入", channels.FundOther},
		{"提现", "提现退票", "收入", channels.FundWithdrawalReturn},
		{"充值", "充值", "收入", channels.FundRecharge},
	} {
		header := strings.SplitN(string(filetest.Sample(t, fundFile)), "\n", 2)[0]
		balance, in, out := "101.00", "`1.0,`1.00,`0.0,`0.00", "0"
		if c.direction == "支出" {
			balance, in, out = "99.00", "`0.0,`0.00,`1.0,`1.00", "1"
		}
		file := header + "\n`2026-09-15 09:30:00,`B1,`F1,`" + c.name + ",`" + c.kind + ",`" + c.direction + ",`1.00,`" + balance + ",`x,`,`\n" +
			"资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额\n`1.0," + in + "\n"
		rows, sum, err := readFund([]byte(file), hospital)
		if err != nil || rows[0].Kind != c.want || sum.Opening != 10000 {
			t.Errorf("%s %s %s: %v %+v %v", c.name, c.kind, out, rows, sum, err)
		}
	}
}

func TestAFundBillCutOffAnywhereIsRefused(t *testing.T) {
	refuseEveryPrefix(t, filetest.Sample(t, fundFile), func(b []byte) error { _, _, err := readFund(b, hospital); return err })
	lines := strings.SplitAfter(string(filetest.Sample(t, fundFile)), "\n")
	for i := range len(lines) - 1 {
		if _, _, err := readFund([]byte(strings.Join(slices.Delete(slices.Clone(lines), i, i+1), "")), hospital); err == nil {
			t.Errorf("accepted without line %d", i+1)
		}
	}
}

func TestAChangedDigitOfAFundBillIsRefused(t *testing.T) {
	n := 0
	columns := []string{"收支金额(元)", "账户结余(元)", "资金流水总笔数", "收入笔数", "收入金额", "支出笔数", "支出金额"}
	mutateDigits(string(filetest.Sample(t, fundFile)), columns, func(column string, row int, changed []byte) {
		n++
		_, _, err := readFund(changed, hospital)
		if f := new(channels.FileError); !errors.As(err, &f) {
			t.Errorf("line %d: a digit of %s changed, got %v", row, column, err)
		}
	})
	if n < 500 {
		t.Errorf("only %d digits were changed", n)
	}
}

func TestFundBillRefusalsNameLineColumnAndRule(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		words          []string
	}{
		{"unknown header", ",业务凭证号", ",业务凭证号,渠道", []string{"line 1", "渠道", "unknown column"}},
		{"missing header", ",业务凭证号", "", []string{"line 1", "业务凭证号", "missing"}},
		{"balance does not roll", "`15242.88", "`15242.87", []string{"line 3", "账户结余", "15242.87", "15242.96"}},
		{"direction", "`收入,`2.50", "`转入,`2.50", []string{"line 4", "收支类型", "转入"}},
		{"day", "`2026-09-15 08:02:45", "`2026-09-16 08:02:45", []string{"line 4", "记账时间", "2026-09-15"}},
		{"count", "`59.0", "`60.0", []string{"line 62", "资金流水总笔数"}},
	} {
		_, _, err := readFund([]byte(strings.Replace(string(filetest.Sample(t, fundFile)), c.old, c.new, 1)), hospital)
		if err == nil {
			t.Errorf("%s was accepted", c.name)
			continue
		}
		filetest.Refused(t, "the file", err, c.words...)
	}
	_, _, err := readFund(filetest.Sample(t, fundFile), channels.Expect{})
	filetest.Refused(t, "the file", err, "--merchant")
}

func FuzzFundBill(f *testing.F) {
	f.Add(filetest.Sample(f, fundFile))
	f.Add([]byte(strings.ReplaceAll(string(filetest.Sample(f, fundFile)), "(元)", "（元）")))
	f.Fuzz(func(t *testing.T, file []byte) {
		rows, sum, err := readFund(file, channels.Expect{MerchantNos: []string{"M"}, Day: 20260915})
		if err != nil {
			return
		}
		balance := sum.Opening
		for _, r := range rows {
			balance += r.Amount
			if balance != r.Balance || r.Amount == 0 || ledger.DayOf(r.At) != sum.Day || r.FlowNo == "" {
				t.Errorf("row %+v", r)
			}
		}
		x := sum.Totals
		day := x["trade"] - x["fee"] - x["refund"] + x["fee_return"] - x["withdrawn"] + x["withdrawal_returned"] + x["recharged"] + x["other"]
		if balance != sum.Closing || sum.Rows != len(rows) || int64(sum.Opening)+day != int64(sum.Closing) {
			t.Errorf("%d rows, closing %d, %+v", len(rows), balance, sum)
		}
	})
}
