package recon_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clearward/clearward/recon"
)

// TestWhatWasLivedIsSettled: people settle differences of payments that were made through
// the API and that HIS had acknowledged. Nothing rests anywhere then, whatever HIS says
// afterwards, and the same day run again changes nothing.
func TestWhatWasLivedIsSettled(t *testing.T) {
	const lacks = "" // ORDER and REFUND stand for the numbers
	for _, c := range []struct {
		code       recon.Code
		resolution string
		gives      bool // the payment is given back
		his, back  string
		bill       string
		billBack   string
	}{
		{recon.I1, "HIS_BOOKS", false, lacks, lacks, "channel PAY ORDER 5000 12:00:05", lacks},
		{recon.I7, "LINK", false, "his PAY ORDER 5000 12:00:10 unkeyed", lacks, "channel PAY ORDER 5000 12:00:05", lacks},
		{recon.I8, "LINK", false, "his PAY ORDER 5000 12:00:10 cash", lacks, "channel PAY ORDER 5000 12:00:05", lacks},
		{recon.Phantom, "CANCEL", false, lacks, lacks, lacks, lacks},
		{recon.F3, "PLATFORM_BEARS", false, "his PAY ORDER 5000 12:00:10", lacks, lacks, lacks},
		{recon.F3, "HIS_VOIDS", false, "his PAY ORDER 5000 12:00:10", lacks, lacks, lacks},
		{recon.I3, "HIS_VOIDS", true, "his PAY ORDER 5000 12:00:10", lacks, "channel PAY ORDER 5000 12:00:05", "channel REFUND ORDER 5000 12:10:05 refund=REFUND"},
		{recon.I7, "LINK", true, "his PAY ORDER 5000 12:00:10", "his REFUND ORDER 5000 12:10:00 refund=REFUND unkeyed", "channel PAY ORDER 5000 12:00:05", "channel REFUND ORDER 5000 12:10:05 refund=REFUND"},
		{recon.I8, "LINK", true, "his PAY ORDER 5000 12:00:10", "his REFUND ORDER 5000 12:10:00 cash", "channel PAY ORDER 5000 12:00:05", "channel REFUND ORDER 5000 12:10:05 refund=REFUND"},
		{recon.I4, "HIS_VOIDS", false, "his PAY ORDER 5000 12:00:10", "his REFUND ORDER 2000 12:10:00", "channel PAY ORDER 5000 12:00:05", lacks},
		{recon.Backfill, "NOTED", false, "his PAY ORDER 5000 12:00:10", "his REFUND ORDER 2000 12:10:00 refund=MP1", "channel PAY ORDER 5000 12:00:05", "channel REFUND ORDER 2000 12:10:05 refund=MP1"},
	} {
		t.Run(fmt.Sprint(c.code, " ", c.resolution, " ", c.gives), func(t *testing.T) {
			t.Parallel()
			h := newLivedHouse(t)
			p := h.paid(5000)
			h.acks(p, 5000)
			refund := "-"
			if c.gives {
				refund = h.gives(p).RefundNo
			}
			said := []string{"platform", "his", "channel"}
			for _, text := range []string{c.his, c.back, c.bill, c.billBack} {
				if text != lacks {
					said = append(said, strings.NewReplacer("=REFUND", "="+refund, "ORDER", p.OrderNo).Replace(text))
				}
			}
			h.at(nextDay, 11, 30)
			h.tell(sampleDay, said...)
			h.run(sampleDay)
			h.casesCarry(sampleDay)
			if got := h.settle(h.caseOf(sampleDay, c.code, p.OrderNo).ID, c.resolution); got.State != recon.CaseClosed {
				t.Errorf("the case is %s", got.State)
			}
			h.verify()
			before := h.trial()
			h.acks(p, 5000)
			h.run(sampleDay)
			sameState(t, "balances after another run", trialOf(before), trialOf(h.trial()))
			h.nothingRests()
			h.verify()
			h.idle(sampleDay)
		})
	}
}
