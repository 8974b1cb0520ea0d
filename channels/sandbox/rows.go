package sandbox

import (
	"fmt"
	"os"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// BillRow is one payment, refund or reversal in the books of a WeChat merchant
// number. Amounts are fen; a coupon has no place in it.
type BillRow struct {
	Kind          channels.Kind
	Order, Refund string // ours; of a reversal the order number twice
	Trade, Back   string // the channel's
	Payer         uint32
	Product       string
	Way, Device   string
	At            int // second of the day
	Amount, Fee   int64
	Processing    bool // a refund that the channel has not finished
	Closed        bool // a refund that was closed: what the merchant gets back, in the fund bill only
}

// WeChatBill says whose bills WriteWeChatBill writes, and with what.
type WeChatBill struct {
	App, MerchantNo   string
	Day               ledger.Day
	Rate              int64 // fee in hundredths of a percent
	Opening, Retained int64 // balance at the beginning of the day, and what is never paid out
	Rows              []BillRow
}

// WriteWeChatBill writes the trade bill and the fund bill of a day into a folder
// and returns their paths, trade bill first, and the balance at the day's end.
func WriteWeChatBill(dir string, bill WeChatBill) (trade, fund string, closing int64, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", 0, fmt.Errorf("sandbox bill: %w", err)
	}
	g := newGenerator(Config{Day: bill.Day}, dir, nil)
	m := &merchant{hospital: &hospital{}, channel: channels.WeChat, app: bill.App, no: bill.MerchantNo, rate: bill.Rate, retained: bill.Retained, opening: bill.Opening}
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
		w.row(&unit{kind: r.Kind, order: r.Order, refund: r.Refund, trade: r.Trade, chRefund: r.Back, payer: r.Payer,
			biz: &business{product: r.Product}, entry: &entry{way: r.Way, device: r.Device}, at: r.At, meant: m,
			channel: channelLeg{present: true, m: m, at: r.At, amount: r.Amount, settle: r.Amount, fee: r.Fee, processing: r.Processing}})
	}
	closing, files, err := w.finish()
	if err != nil {
		return "", "", 0, err
	}
	return dir + "/" + files[0].Path, dir + "/" + files[1].Path, closing, nil
}
