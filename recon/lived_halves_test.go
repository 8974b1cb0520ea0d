package recon_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon/feed"
)

const secondHospital = `
hospitals:
  - code: H2
    name: 海天第二医院
    ownership: PUBLIC
    his_calls: APP
    bank_accounts:
      - {account: "755947919810516", name: 海天第二医院, bank: 招商银行, role: SETTLEMENT}
    merchants:
      - {channel: WECHAT, merchant_no: "1900000110", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "755947919810516", retained_fen: 0}
`

// F9, scenario 78: the money of a payment that was made here stands in the bill of
// another hospital's number. What HIS acknowledged is posted once, by its own word or by
// the run, whenever it is heard.
func TestALivedPaymentWhoseMoneyIsAtAnotherHospital(t *testing.T) {
	for _, c := range []struct {
		name string
		says ledger.Money // HIS, before the run; 0 for nothing
	}{
		{"HIS acknowledged it", 5000},
		{"HIS acknowledged a part, its details have all of it", 4000},
		{"HIS says it after the run", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newLivedHouse(t)
			_, err := clearing.Setup(t.Context(), h.db, strings.NewReader("region: {code: R1, name: 示范区}"+secondHospital))
			h.must(err)
			p := h.paid(5000)
			if c.says > 0 {
				h.acks(p, c.says)
			}
			h.at(nextDay, 11, 30)
			h.tell(sampleDay, "platform", "his", "channel", his(p.OrderNo, 5000))
			h.tellSecond("his PAY CLEAN2 1000 12:00:00", "channel PAY CLEAN2 1000 12:00:00", bill(p.OrderNo))
			if got, want := codes(h.run(sampleDay)), fmt.Sprintf("BACKFILL CLEAN2 0 ; F9 %[1]s -5000 ; F9 %[1]s 5000", p.OrderNo); got != want {
				t.Errorf("the day lists %q, want %q", got, want)
			}
			h.acks(p, 5000)
			h.verify()
			h.run(sampleDay)
			h.expectBalances(books(map[string]ledger.Money{"1221.H1": 5000, pend: -5000,
				"2241.H2": -5000, "2204.H2": -1000, "1122.WX.1900000110": 6000, "2206.WX.1900000110": -36, "6601.H2": 36}))
			h.verify()
			h.casesCarry(sampleDay)
			h.idle(sampleDay)
		})
	}
}

// tellSecond feeds what HIS and the bill of the second hospital say of the day.
func (h *livedHouse) tellSecond(lines ...string) {
	h.t.Helper()
	dir := h.t.TempDir()
	for side, name := range map[string]string{"his": "his.csv", "channel": "bill.csv"} {
		w := fileOf{day: sampleDay}
		for _, text := range lines {
			if strings.HasPrefix(text, side) {
				w.add(h.t, side, text)
			}
		}
		text := strings.NewReplacer("1900000109", "1900000110", "\nH1,", "\nH2,").Replace(w.text(side))
		path := filepath.Join(dir, name)
		h.must(os.WriteFile(path, []byte(text), 0o600))
		h.feed(feed.Options{MerchantNo: "1900000110", Hospital: "H2"}, path)
	}
}
