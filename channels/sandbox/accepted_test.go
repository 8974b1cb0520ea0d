package sandbox

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/alipay"
	"github.com/clearward/clearward/channels/wechat"
)

// The product's own readers take every generated bill as it is and count what
// the plan counts.
func TestTheReadersAcceptEveryBill(t *testing.T) {
	for name, cfg := range runs() {
		t.Run(name, func(t *testing.T) {
			dir, plan := generate(t, cfg)
			for _, day := range plan.Days {
				for _, f := range day.Files {
					if f.Source != SourceTrade && f.Source != SourceFund {
						continue
					}
					rows, err := readBill(filepath.Join(dir, f.Path), f, channels.Expect{MerchantNos: []string{f.MerchantNo}, Day: day.Day})
					if err != nil || rows != f.Rows {
						t.Errorf("%s: %d rows read, %d written: %v", f.Path, rows, f.Rows, err)
					}
				}
			}
		})
	}
}

func readBill(path string, f File, want channels.Expect) (rows int, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	r := bytes.NewReader(text)
	line := func(*channels.BillLine) error { rows++; return nil }
	flow := func(*channels.FundLine) error { rows++; return nil }
	switch f.Source + f.Channel {
	case SourceTrade + channels.WeChat:
		_, err = wechat.ReadTradeBill(r, want, line)
	case SourceFund + channels.WeChat:
		_, err = wechat.ReadFundBill(r, want, flow)
	case SourceTrade + channels.Alipay:
		_, err = alipay.ReadTradeBill(r, r.Size(), want, line)
	case SourceFund + channels.Alipay:
		_, err = alipay.ReadFundBill(r, r.Size(), want, flow)
	}
	return rows, err
}
