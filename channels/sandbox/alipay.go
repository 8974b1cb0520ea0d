package sandbox

import (
	"archive/zip"
	"compress/flate"
	"fmt"
	"io"
	"strconv"
	"time"
)

// The texts of Alipay's files, which are GBK throughout.
var (
	alipayTrades, alipayAccounts = "业务", "账务"

	alipayTradeHeader = gbk("支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,服务费（元）,分润（元）,备注\r\n")
	alipayFundHeader  = gbk("账务流水号,业务流水号,商户订单号,商品名称,发生时间,对方账号,收入金额（+元）,支出金额（-元）,账户余额（元）,交易渠道,业务类型,备注\r\n")
	alipayTradeSums   = "门店编号,门店名称,交易订单总笔数,退款订单总笔数,订单金额（元）,商家实收（元）,支付宝优惠（元）,商家优惠（元）,卡消费金额（元）,服务费（元）,分润（元）,实收净额（元）\r\n"
	alipayFundSums    = "类型,收入笔数,收入金额（+元）,支出笔数,支出金额（-元）,总金额（元）\r\n"

	alipayTrade  = gbk("交易")
	alipayRefund = gbk("退款")
	alipayVia    = gbk(",支付宝,")
	alipayKinds  = []fundKind{
		{name: "在线支付"}, {name: "收费", remark: "服务费"}, {name: "退款（交易退款）"}, {name: "退费", remark: "服务费退回"}, {name: "提现"},
	}
	alipayPayers = payers("*明(138***@qq.com)", "*芳(159****0011)", "*伟(186****2233)", "*丽(li***@163.com)", "*强(137****8899)",
		"*军(139****7766)", "*静(135****5544)", "*敏(136****3322)", "*洋(150****1100)", "*勇(151****2211)", "*艳(152****4433)")
)

// fundKind is a 业务类型 of the account bill with the remark it carries.
type fundKind struct{ name, remark string }

// The positions in alipayKinds.
const (
	alipayPaid = iota
	alipayFee
	alipayRefunded
	alipayFeeReturned
	alipayWithdrawn
)

func payers(names ...string) [][]byte {
	list := make([][]byte, len(names))
	for i, n := range names {
		list[i] = gbk(n)
	}
	return list
}

// alipayBill writes the trade bill (业务明细) and the account bill (账务明细) of one
// merchant number, each a zip with its summary (汇总).
type alipayBill struct {
	g           *generator
	m           *merchant
	trade, fund *zippedTable
	pays        Side // rows and order amounts
	settled     Side
	discount    int64 // 商家优惠
	fee         int64 // signed as printed: charged below zero
	flow        fundFlow
	byKind      [5]fundFlow
	tails       [5][]byte // GBK ends of rows by kind
}

// zippedTable is a table inside a zip, written as it grows.
type zippedTable struct {
	*tableFile
	zip   *zip.Writer
	about string // 业务 or 账务
	stamp string // 导出时间
}

func (g *generator) openAlipay(m *merchant) (*alipayBill, error) {
	a := &alipayBill{g: g, m: m, flow: newFlow(g, m)}
	for i, k := range alipayKinds {
		a.tails[i] = gbk(k.name + "," + k.remark)
	}
	meta := File{Source: SourceTrade, Hospital: m.hospital.code, Channel: m.channel, MerchantNo: m.no}
	var err error
	if a.trade, err = g.openZip(m, "trade", alipayTrades, " 05:46:49", meta); err != nil {
		return nil, err
	}
	meta.Source = SourceFund
	if a.fund, err = g.openZip(m, "signcustomer", alipayAccounts, " 05:52:10", meta); err != nil {
		return nil, err
	}
	a.trade.put(alipayTradeHeader)
	a.fund.put(alipayFundHeader)
	return a, nil
}

func (g *generator) openZip(m *merchant, kind, about, at string, meta File) (*zippedTable, error) {
	t, err := g.create("alipay_"+m.no+"_"+g.compact(g.index)+"_"+kind+".csv.zip", meta)
	if err != nil {
		return nil, err
	}
	z := &zippedTable{tableFile: t, zip: zip.NewWriter(t.out), about: about, stamp: chineseDate(g.dates[g.index+1]) + at}
	z.over = z.zip
	z.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	return z, z.entry(g, m, "明细")
}

// chineseDate turns "2026-09-15" into "2026年09月15日".
func chineseDate(d string) string { return d[:4] + "年" + d[5:7] + "月" + d[8:] + "日" }

// entry begins a file in the zip. Its name is GBK without the flag that says
// UTF-8, as Alipay names them.
func (z *zippedTable) entry(g *generator, m *merchant, part string) error {
	name := m.no + "_" + g.compact(g.index) + "_" + z.about + "明细"
	if part == "汇总" {
		name += "(汇总)"
	}
	w, err := z.zip.CreateHeader(&zip.FileHeader{
		Name: string(gbk(name + ".csv")), NonUTF8: true, Method: zip.Deflate,
		Modified: g.cfg.Day.Start().Add(time.Duration(g.index+1)*24*time.Hour + 5*time.Hour + 46*time.Minute),
	})
	if err != nil {
		return fmt.Errorf("sandbox zip %s: %w", z.Path, err)
	}
	z.Reset(w)
	query, today, tomorrow := "明细查询", chineseDate(g.dates[g.index]), chineseDate(g.dates[g.index+1])
	if part == "汇总" {
		query = "汇总查询"
	}
	z.put(gbk("#支付宝" + z.about + query + "\r\n#账号：[" + m.no + "]\r\n" +
		"#起始日期：[" + today + " 00:00:00]   终止日期：[" + tomorrow + " 00:00:00]\r\n" +
		"#-----------------------------------------" + z.about + part + "列表----------------------------------------\r\n"))
	return nil
}

func (z *zippedTable) foot(part, sums string) {
	z.put(gbk("#-----------------------------------------" + z.about + part + "列表结束------------------------------------\r\n" +
		sums + "#导出时间：[" + z.stamp + "]\r\n"))
}

func (a *alipayBill) row(u *unit) {
	l := &u.channel
	a.withdraw(l.at)
	times, sign := 1, int64(1)
	if l.repeated {
		times = 2
	}
	if !u.pays() {
		sign = -1
	}
	for range times {
		a.tradeRow(u, sign)
		a.trade.count(u.pays(), l.amount)
		a.pays.count(u.pays(), l.amount)
		a.settled.count(u.pays(), l.settle)
		a.fee -= sign * l.fee
		if u.pays() {
			a.discount += u.coupon
		}
	}
	if u.pays() {
		a.fundRow(u, alipayPaid, l.settle)
		if l.fee > 0 {
			a.fundRow(u, alipayFee, -l.fee)
		}
		return
	}
	a.fundRow(u, alipayRefunded, -l.settle)
	if l.fee > 0 {
		a.fundRow(u, alipayFeeReturned, l.fee)
	}
}

// text appends a value with the tab that Alipay leaves behind it.
func text(b []byte, value string) []byte { return append(append(b, value...), '\t', ',') }

func (a *alipayBill) tradeRow(u *unit, sign int64) {
	l, pay := &u.channel, u.pays()
	b := text(text(a.trade.AvailableBuffer(), u.trade), u.order)
	kind, created := alipayTrade, min(l.at-int(u.payer%15), u.at)
	if !pay {
		kind, created = alipayRefund, l.at
	}
	b = append(append(append(b, kind...), '\t', ','), u.biz.gbk...)
	b = append(a.g.appendTime(append(b, ','), max(created, 0)), ',')
	b = append(a.g.appendTime(b, l.at), ',')
	b = text(text(text(text(b, ""), ""), u.entry.way), u.entry.device)
	b = append(append(b, alipayPayers[int(u.payer)%len(alipayPayers)]...), ',')
	discount := int64(0)
	if pay {
		discount = u.coupon
	}
	for _, fen := range [...]int64{sign * l.amount, sign * l.settle, 0, 0, 0, discount, 0} {
		b = append(appendYuan(b, fen), ',')
	}
	b = append(b, ",0.00\t,0.00,"...)
	if pay {
		b = append(b, "\t,"...)
	} else {
		b = append(append(b, u.refund...), ',')
	}
	a.trade.put(append(appendYuan(b, -sign*l.fee), ",0.00,\r\n"...))
}

func (a *alipayBill) fundRow(u *unit, kind int, fen int64) {
	b := a.fundStart(fen, kind)
	b = append(append(text(text(b, u.trade), u.order), u.biz.gbk...), '\t', ',')
	b = append(a.g.appendTime(b, u.channel.at), ',')
	b = append(append(b, alipayPayers[int(u.payer)%len(alipayPayers)]...), '\t', ',')
	b = a.fundEnd(b, fen, kind)
	if kind == alipayRefunded {
		b = append(b, u.refund...)
	}
	a.fund.put(append(b, "\r\n"...))
}

func (a *alipayBill) fundStart(fen int64, kind int) []byte {
	a.flow.move(fen)
	a.byKind[kind].move(fen)
	a.fund.count(fen >= 0, max(fen, -fen))
	b := append(a.fund.AvailableBuffer(), a.g.compact(a.g.index)[2:]...)
	return append(appendDigits(b, uint64(a.flow.number), 11), '\t', ',')
}

func (a *alipayBill) fundEnd(b []byte, fen int64, kind int) []byte {
	b = append(appendYuan(b, max(fen, 0)), ',')
	b = append(appendYuan(b, min(fen, 0)), ',')
	b = append(appendYuan(b, a.flow.balance), alipayVia...)
	return append(b, a.tails[kind]...)
}

// withdraw books the withdrawal once its time has come.
func (a *alipayBill) withdraw(now int) {
	due := a.flow.withdrawal
	if due == 0 || now < a.flow.withdrawable {
		return
	}
	a.flow.withdrawal = 0
	b := a.fundStart(-due, alipayWithdrawn)
	b = text(text(text(b, a.g.compact(a.g.index)+"0004"+a.m.pid), ""), "")
	b = append(a.g.appendTime(b, a.flow.withdrawable), ",\t,"...)
	b = a.fundEnd(b, -due, alipayWithdrawn)
	a.fund.put(append(b, "\r\n"...))
}

func (a *alipayBill) finish() (int64, []File, error) {
	a.withdraw(a.flow.withdrawable)
	p, s, net := a.pays, a.settled, a.settled.Net()+a.fee
	a.trade.foot("明细", fmt.Sprintf("#交易合计：%d笔，商家实收共%s元，商家优惠共%s元\r\n#退款合计：%d笔，商家实收退款共%s元，商家优惠退款共0.00元\r\n",
		p.Pays, yuan(s.PayFen), yuan(a.discount), p.Refunds, yuan(-s.RefundFen)))
	f := &a.flow
	a.fund.foot("明细", fmt.Sprintf("#支出合计：%d笔，共%s元\r\n#收入合计：%d笔，共%s元\r\n", f.outs, yuan(-f.outFen), f.ins, yuan(f.inFen)))
	row := fmt.Sprintf("\t,\t,%d,%d,%s,%s,0.00,%s,0.00,%s,0.00,%s\r\n", p.Pays, p.Refunds, yuan(p.Net()), yuan(s.Net()), yuan(a.discount), yuan(a.fee), yuan(net))
	if err := a.trade.summary(a, alipayTradeSums+"其它"+row+"合计"+row); err != nil {
		return 0, nil, err
	}
	if err := a.fund.summary(a, alipayFundSums+a.kindRows()); err != nil {
		return 0, nil, err
	}
	return f.balance, []File{a.trade.File, a.fund.File}, nil
}

// kindRows are the rows of the account summary, by kind and in all.
func (a *alipayBill) kindRows() string {
	rows := ""
	line := func(name string, f fundFlow) {
		rows += name + "," + strconv.Itoa(f.ins) + "," + yuan(f.inFen) + "," + strconv.Itoa(f.outs) + "," + yuan(-f.outFen) + "," + yuan(f.inFen-f.outFen) + "\r\n"
	}
	for i, k := range alipayKinds {
		if a.byKind[i].number > 0 {
			line(k.name, a.byKind[i])
		}
	}
	line("合计", a.flow)
	return rows
}

// summary writes the second file of the zip and closes it.
func (z *zippedTable) summary(a *alipayBill, rows string) error {
	if err := z.Flush(); err != nil {
		return fmt.Errorf("sandbox zip %s: %w", z.Path, err)
	}
	if err := z.entry(a.g, a.m, "汇总"); err != nil {
		return err
	}
	z.put(gbk(rows))
	z.foot("汇总", "")
	return z.close()
}
