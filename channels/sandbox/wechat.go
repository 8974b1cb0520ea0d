package sandbox

import (
	"compress/gzip"
	"path/filepath"
	"strconv"

	"github.com/clearward/clearward/channels"
)

const (
	wechatApp         = "wxd678efh567hg6787"
	wechatTradeHeader = "\ufeff交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注\r\n"
	wechatTradeSums   = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n"
	wechatFundHeader  = "\ufeff记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,业务凭证号\r\n"
	wechatFundSums    = "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额\r\n"
	withdrawalSecond  = 34_200 // 09:30, when the channel pays out yesterday's balance
)

var payerBanks = []string{"OTHERS", "CMB_DEBIT", "OTHERS", "ICBC_DEBIT", "CCB_DEBIT", "OTHERS", "PSBC_DEBIT", "ICBC_CREDIT", "ABC_DEBIT"}

// wechatBill writes the trade bill (交易账单, ALL) and the fund bill (资金账单,
// BASIC) of one merchant number.
type wechatBill struct {
	g           *generator
	m           *merchant
	trade, fund *tableFile
	sums        struct{ amount, settle, refund, asked, fee int64 }
	flow        fundFlow
}

// fundFlow is the running balance of a fund bill.
type fundFlow struct {
	balance      int64
	number       int
	ins, outs    int
	inFen        int64
	outFen       int64
	withdrawal   int64 // due at half past nine, 0 = none or done
	withdrawable int
}

func newFlow(g *generator, m *merchant) fundFlow {
	f := fundFlow{balance: m.opening, withdrawal: max(m.opening-m.retained, 0)}
	f.withdrawable = g.index*daySeconds + withdrawalSecond
	return f
}

// move books one flow; above zero comes in.
func (f *fundFlow) move(fen int64) {
	f.number++
	f.balance += fen
	if fen >= 0 {
		f.ins++
		f.inFen += fen
		return
	}
	f.outs++
	f.outFen -= fen
}

func (g *generator) tradeBillName(m *merchant) string {
	name := "wechat_tradebill_ALL_" + m.no + "_" + g.compact(g.index) + ".csv"
	if g.cfg.Gzip {
		name += ".gz"
	}
	return filepath.Join(g.folder(), name)
}

func (g *generator) openWeChat(m *merchant) (*wechatBill, error) {
	w := &wechatBill{g: g, m: m, flow: newFlow(g, m)}
	fundName := "wechat_fundflow_BASIC_" + m.no + "_" + g.compact(g.index) + ".csv"
	if g.cfg.Gzip {
		fundName += ".gz"
	}
	var err error
	meta := File{Source: SourceTrade, Hospital: m.hospital.code, Channel: m.channel, MerchantNo: m.no}
	if w.trade, err = g.createMaybeGzip(filepath.Base(g.tradeBillName(m)), meta); err != nil {
		return nil, err
	}
	meta.Source = SourceFund
	if w.fund, err = g.createMaybeGzip(fundName, meta); err != nil {
		return nil, err
	}
	w.trade.put([]byte(wechatTradeHeader))
	w.fund.put([]byte(wechatFundHeader))
	return w, nil
}

func (g *generator) createMaybeGzip(name string, meta File) (*tableFile, error) {
	t, err := g.create(name, meta)
	if err != nil || !g.cfg.Gzip {
		return t, err
	}
	zip, err := gzip.NewWriterLevel(t.out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	t.over = zip
	t.Reset(zip)
	return t, nil
}

// cell appends a value with its back-tick and comma.
func cell(b []byte, text string) []byte {
	return append(append(append(b, '`'), text...), ',')
}

func yuanCell(b []byte, fen int64) []byte {
	return append(appendYuan(append(b, '`'), fen), ',')
}

func (w *wechatBill) row(u *unit) {
	l := &u.channel
	w.withdraw(l.at)
	times := 1
	if l.repeated {
		times = 2
	}
	for range times {
		w.tradeRow(u)
		w.trade.count(u.pays(), l.amount)
		if u.pays() {
			w.sums.amount += l.amount
			w.sums.settle += l.settle
			w.sums.fee += l.fee
			continue
		}
		w.sums.asked += l.amount
		w.sums.refund += l.settle
		w.sums.fee -= l.fee
	}
	if u.pays() {
		w.fundRow(l.at, u.trade, u.order, "交易", "交易", "结算总金额 "+yuan(l.settle)+" 元", l.settle)
		if l.fee > 0 {
			w.fundRow(l.at, u.trade, u.order, "交易", "扣除交易手续费", "费率 "+w.rate(), -l.fee)
		}
		return
	}
	w.fundRow(l.at, u.chRefund, u.refund, "退款", "退款", "退款总金额 "+yuan(l.settle)+" 元", -l.settle)
	if l.fee > 0 {
		w.fundRow(l.at, u.chRefund, u.refund, "退款", "退还交易手续费", "", l.fee)
	}
}

// rate prints as in the bill: "0.60%".
func (w *wechatBill) rate() string { return yuan(w.m.rate) + "%" }

func (w *wechatBill) tradeRow(u *unit) {
	l, pay := &u.channel, u.pays()
	b := append(w.trade.AvailableBuffer(), '`')
	b = append(w.g.appendTime(b, l.at), ',')
	b = cell(cell(cell(cell(b, w.m.app), w.m.no), "0"), u.entry.device)
	b = cell(cell(b, u.trade), u.order)
	b = append(b, "`oUpF8uMuAJO_M2pxb1Q9"...)
	b = append(appendDigits(b, uint64(u.payer), 8), ',')
	b = cell(b, u.entry.way)
	state, kind, status := "SUCCESS", "", ""
	if !pay {
		state, kind, status = "REFUND", "ORIGINAL", "SUCCESS"
	}
	switch {
	case u.kind == channels.Reverse:
		state = "REVOKED"
	case l.processing:
		status = "PROCESSING"
	case l.status != "":
		status = l.status
	}
	b = cell(cell(cell(b, state), payerBanks[int(u.payer)%len(payerBanks)]), "CNY")
	fee, amount, asked := l.fee, l.amount, int64(0)
	if pay {
		b = cell(cell(yuanCell(yuanCell(b, l.settle), u.coupon), "0"), "0")
		b = yuanCell(yuanCell(b, 0), 0)
	} else {
		b = cell(cell(yuanCell(yuanCell(b, 0), 0), u.chRefund), u.refund)
		b = yuanCell(yuanCell(b, l.settle), 0)
		fee, amount, asked = -fee, 0, l.amount
	}
	b = cell(cell(cell(cell(b, kind), status), u.biz.product), "")
	b = append(appendYuan(append(b, '`'), fee), "000,"...)
	b = append(appendYuan(append(b, '`'), w.m.rate), "%,"...)
	b = yuanCell(yuanCell(b, amount), asked)
	w.trade.put(append(b, "`\r\n"...))
}

func (w *wechatBill) fundRow(at int, business, voucher, name, kind, remark string, fen int64) {
	w.flow.move(fen)
	w.fund.count(fen >= 0, max(fen, -fen))
	b := append(w.fund.AvailableBuffer(), '`')
	b = append(w.g.appendTime(b, at), ',')
	b = append(cell(b, business), "`5030009"...)
	b = appendDigits(b, uint64(w.flow.number%100_000), 5)
	b = append(b, w.g.compact(w.g.index)...)
	b = append(appendDigits(b, uint64(w.flow.number), 6), ',')
	direction := "收入"
	if fen < 0 {
		direction, fen = "支出", -fen
	}
	b = yuanCell(yuanCell(cell(cell(cell(b, name), kind), direction), fen), w.flow.balance)
	b = cell(cell(b, "system"), remark)
	w.fund.put(append(append(append(b, '`'), voucher...), "\r\n"...))
}

// withdraw books the withdrawal once its time has come.
func (w *wechatBill) withdraw(now int) {
	due := w.flow.withdrawal
	if due == 0 || now < w.flow.withdrawable {
		return
	}
	w.flow.withdrawal = 0
	date := w.g.compact(w.g.index)
	w.fundRow(w.flow.withdrawable, w.m.no+"W"+date+"093000001", "WD"+w.m.no+date+"001", "提现", "提现", "T+1自动提现", -due)
}

func (w *wechatBill) finish() (int64, []File, error) {
	w.withdraw(w.flow.withdrawable)
	b := append([]byte(wechatTradeSums), '`')
	b = append(strconv.AppendInt(b, int64(w.trade.Rows), 10), ',')
	s := w.sums
	b = yuanCell(yuanCell(yuanCell(b, s.settle), s.refund), 0)
	b = append(appendYuan(append(b, '`'), s.fee), "000,"...)
	b = append(appendYuan(append(yuanCell(b, s.amount), '`'), s.asked), "\r\n"...)
	w.trade.put(b)
	f := &w.flow
	b = append([]byte(wechatFundSums), '`')
	b = append(strconv.AppendInt(b, int64(f.number), 10), ".0,`"...)
	b = append(strconv.AppendInt(b, int64(f.ins), 10), ".0,"...)
	b = append(yuanCell(b, f.inFen), '`')
	b = append(strconv.AppendInt(b, int64(f.outs), 10), ".0,`"...)
	w.fund.put(append(appendYuan(b, f.outFen), "\r\n"...))
	if err := w.trade.close(); err != nil {
		return 0, nil, err
	}
	return f.balance, []File{w.trade.File, w.fund.File}, w.fund.close()
}
