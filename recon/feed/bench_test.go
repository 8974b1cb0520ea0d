package feed

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeBill writes a WeChat SUCCESS bill of n payments of 1.00 yuan.
func writeBill(t testing.TB, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bill.csv")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	fmt.Fprint(w, "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,商品名称,商户数据包,手续费,费率,订单金额,费率备注\r\n")
	for i := range n {
		at := sampleDay.Start().Add(time.Duration(i*86399/n) * time.Second)
		fmt.Fprintf(w, "`%s,`wxd678efh567hg6787,`1900000109,`0,`KIOSK01,`42000023452026091500%08d,`HP20260915%08d,`oUpF8uMuAJO,`MICROPAY,`SUCCESS,`CMB_DEBIT,`CNY,`1.00,`0.00,`fee,`OP,`0.01000,`0.60%%,`1.00,`\r\n",
			at.Format(time.DateTime), i, i)
	}
	fmt.Fprint(w, "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n")
	fmt.Fprintf(w, "`%d,`%d.00,`0.00,`0.00,`%d.%02d000,`%d.00,`0.00\r\n", n, n, n/100, n%100, n)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// BenchmarkFeed sends a bill and stores it, apart: lines a second of each.
func BenchmarkFeed(b *testing.B) {
	const lines = 200_000
	path := writeBill(b, lines)
	var produced, stored time.Duration
	for b.Loop() {
		b.StopTimer()
		r := newRig(b)
		r.stop(b)
		b.StartTimer()
		start := time.Now()
		if _, err := r.producer.FeedChannel(context.Background(), path, Options{}); err != nil {
			b.Fatal(err)
		}
		produced += time.Since(start)
		start = time.Now()
		r.start()
		r.caughtUp(b)
		stored += time.Since(start)
		b.StopTimer()
		if got := r.query(b, `SELECT CONCAT(state, ' ', stored) FROM feed_files`); got[0] != fmt.Sprintf("VERIFIED %d", lines) {
			b.Fatal(got)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(lines*b.N)/produced.Seconds(), "produced/s")
	b.ReportMetric(float64(lines*b.N)/stored.Seconds(), "stored/s")
}
