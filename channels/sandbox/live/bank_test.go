package live_test

import (
	"testing"

	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/channels/sandbox/livebank"
)

// What the channel pays out of a day arrives at the bank of the same sandbox on the
// next working day, once, whatever is killed.
func TestASettlementArrivesAtTheBank(t *testing.T) {
	w := start(t, func(c *live.Config) {
		c.Bank.Accounts = []livebank.Account{{No: "755", Name: "海天示范医院", OpeningFen: 1_000}}
	})
	if w.s.Addresses.Bank == "" {
		t.Fatal("the bank is not served")
	}
	w.pay("A1", 200_000)
	w.set("2026-09-16 09:31:00")
	var sums live.Sums
	w.admin("GET", "/books?merchant="+merchantNo+"&day=2026-09-15", "", &sums)
	w.set("2026-09-16 10:00:00")
	for range 2 {
		var rows []livebank.EntryView
		w.admin("GET", "/bank/entries?account=755&day=2026-09-16", "", &rows)
		if len(rows) != 1 || rows[0].Fen != sums.PaidOut || sums.PaidOut == 0 || rows[0].Text != "微信支付商户结算 "+merchantNo+" 20260915" {
			t.Errorf("%+v, want %d", rows, sums.PaidOut)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
	}
}
