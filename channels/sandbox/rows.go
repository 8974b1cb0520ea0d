package sandbox

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// BillRow is one payment, refund or reversal in the books of a merchant number. Amounts are fen; a coupon has no place in it.
type BillRow struct {
	Kind          channels.Kind
	Order, Refund string // ours; of a reversal the order number twice
	Trade, Back   string // the channel's
	Payer         uint32
	Product       string
	Way, Device   string
	At            int // second of the day
	Amount, Fee   int64
	Status        string // of a refund: 退款状态 as the bill prints it, "" is SUCCESS
	Closed        bool   // a refund that was closed: what the merchant gets back, in the fund bill only
}

// Bill says whose bills are written, and with what.
type Bill struct {
	App, MerchantNo   string // App: WeChat
	Day               ledger.Day
	Rate              int64 // fee in hundredths of a percent
	Opening, Retained int64 // balance at the beginning of the day, and what is never paid out
	Rows              []BillRow
}

// WriteWeChatBill writes the trade bill and the fund bill of a day into a folder
// and returns their paths, trade bill first, and the balance at the day's end.
func WriteWeChatBill(dir string, bill Bill) (trade, fund string, closing int64, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", 0, fmt.Errorf("sandbox bill: %w", err)
	}
	g, m := bill.generator(dir, channels.WeChat)
	w, err := g.openWeChat(m)
	if err != nil {
		return "", "", 0, err
	}
	for _, r := range bill.Rows {
		if r.Closed {
			w.withdraw(r.At)
			w.fundRow(r.At, r.Back, r.Refund, "退款", "退款关闭", "", r.Amount-r.Fee)
			continue
		}
		w.row(r.unit(m, &business{product: r.Product}))
	}
	return paths(dir, w)
}

// WriteAlipayBill writes the archives of 业务明细 and 账务明细 of a day as
// WriteWeChatBill does. A merchant number is the PID, with 0156 behind it or not.
func WriteAlipayBill(dir string, bill Bill) (trade, fund string, closing int64, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", 0, fmt.Errorf("sandbox bill: %w", err)
	}
	g, m := bill.generator(dir, channels.Alipay)
	m.pid = m.no[:min(16, len(m.no))]
	m.no = m.pid + "0156"
	a, err := g.openAlipay(m)
	if err != nil {
		return "", "", 0, err
	}
	products := map[string]*business{}
	for _, r := range bill.Rows {
		if products[r.Product] == nil {
			products[r.Product] = &business{gbk: gbk(plainCell(r.Product))}
		}
		r.Device = string(gbk(plainCell(r.Device)))
		a.row(r.unit(m, products[r.Product]))
	}
	return paths(dir, a)
}

func (b *Bill) generator(dir, channel string) (*generator, *merchant) {
	return newGenerator(Config{Day: b.Day}, dir, nil), &merchant{hospital: &hospital{}, channel: channel, app: b.App, no: b.MerchantNo,
		rate: b.Rate, retained: b.Retained, opening: b.Opening}
}

func (r *BillRow) unit(m *merchant, b *business) *unit {
	return &unit{kind: r.Kind, order: r.Order, refund: r.Refund, trade: r.Trade, chRefund: r.Back, payer: r.Payer,
		biz: b, entry: &entry{way: r.Way, device: r.Device}, at: r.At, meant: m,
		channel: channelLeg{present: true, m: m, at: r.At, amount: r.Amount, settle: r.Amount, fee: r.Fee, status: r.Status}}
}

func paths(dir string, bill billWriter) (trade, fund string, closing int64, err error) {
	closing, files, err := bill.finish()
	if err != nil {
		return "", "", 0, err
	}
	return dir + "/" + files[0].Path, dir + "/" + files[1].Path, closing, nil
}

// plainCell is a text as a table without quotes can hold it, in GBK.
func plainCell(text string) string {
	return strings.Map(func(r rune) rune {
		if _, err := simplifiedchinese.GBK.NewEncoder().String(string(r)); err != nil || r == ',' || r < ' ' {
			return ' '
		}
		return r
	}, text)
}
