package live_test

import (
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/channels/sandbox/livebank"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

func TestAnAbnormalRefundGoesToTheMerchant(t *testing.T) {
	w := start(t, nil)
	v, ctx := w.v3(nil), t.Context()
	v.Pay(ctx, prepay("ORDER001", channels.WayQR, 10_000))
	w.admin("POST", "/pay", `{"merchant":"`+merchantNo+`","order":"ORDER001"}`, nil)
	w.admin("POST", "/faults", `{"do":"REFUND_ABNORMAL","seconds":5}`, nil)
	r := give("ORDER001", "R1", 10_000, 10_000)
	a := v.Refund(ctx, r)
	r.RefundID = a.RefundID
	w.at.Add(5)
	if a := v.QueryRefund(ctx, r); !a.Abnormal {
		t.Errorf("%+v", a)
	}
	for range 2 { // the second comes too late: what became of the first a query tells
		if a := v.ApplyAbnormalRefund(ctx, r); a.Outcome != channels.OutcomePending && a.Reason.Code != "INVALID_REQUEST" {
			t.Errorf("%+v", a)
		}
	}
	w.at.Add(1)
	if a := v.QueryRefund(ctx, r); a.Outcome != channels.OutcomeSucceeded || a.PaidTo != channels.PaidToMerchant {
		t.Errorf("%+v", a)
	}
	if a := v.ApplyAbnormalRefund(ctx, r); a.Outcome != channels.OutcomeUnknown || a.Reason.Code != "INVALID_REQUEST" {
		t.Errorf("of a refund that is paid: %+v", a)
	}
}

// A refund that is not abnormal cannot be applied for, and whatever breaks on the way
// leaves the application unknown; the money of one that was taken is on the bank's
// statement, once, after a kill too.
func TestApplyingForAnAbnormalRefund(t *testing.T) {
	w := start(t, func(c *live.Config) {
		c.Bank.Accounts = []livebank.Account{{No: "755", Name: "海天示范医院"}}
	})
	v, ctx := w.v3(nil), t.Context()
	give := func(no, do string) channels.RefundRequest {
		v.Pay(ctx, prepay("ORDER"+no, channels.WayQR, 10_000))
		w.admin("POST", "/pay", `{"merchant":"`+merchantNo+`","order":"ORDER`+no+`"}`, nil)
		w.admin("POST", "/faults", `{"do":"`+do+`"}`, nil)
		r := give("ORDER"+no, "R"+no, 10_000, 4_000)
		r.RefundID = v.Refund(ctx, r).RefundID
		return r
	}
	late := give("1", "REFUND_LATE")
	if a := v.ApplyAbnormalRefund(ctx, late); a.Outcome != channels.OutcomeUnknown || a.Reason.Code != "INVALID_REQUEST" {
		t.Errorf("of one under way: %+v", a)
	}
	if a := v.ApplyAbnormalRefund(ctx, channels.RefundRequest{RefundNo: "R1"}); a.Outcome != channels.OutcomeFailed {
		t.Errorf("without the channel's number: %+v", a)
	}
	r := give("2", "REFUND_ABNORMAL")
	w.at.Add(1)
	for _, f := range []string{`{"do":"DROP","api":"abnormal"}`, `{"do":"HTTP_500","api":"abnormal"}`, `{"do":"BAD_SIGN","api":"abnormal"}`} {
		w.admin("POST", "/faults", f, nil)
		if a := v.ApplyAbnormalRefund(ctx, r); a.Outcome != channels.OutcomeUnknown {
			t.Errorf("%s: %+v", f, a)
		}
	}
	w.at.Add(1)
	if a := v.QueryRefund(ctx, r); a.Outcome != channels.OutcomeSucceeded || a.PaidTo != channels.PaidToMerchant || a.RefundNo != "R2" {
		t.Errorf("%+v", a)
	}
	card := give("3", "REFUND_ABNORMAL")
	w.at.Add(1)
	w.admin("POST", "/abnormal", `{"merchant":"`+merchantNo+`","refund":"R3","to":"CARD"}`, nil)
	w.at.Add(1)
	if a := v.QueryRefund(ctx, card); a.Outcome != channels.OutcomeSucceeded || a.PaidTo != channels.PaidToPayer {
		t.Errorf("%+v", a)
	}
	w.set("2026-09-16 10:00:00")
	for range 2 {
		var rows []livebank.EntryView
		w.admin("GET", "/bank/entries?account=755&day=2026-09-16", "", &rows)
		if len(rows) != 2 || rows[1].Fen != 4_000 || rows[1].EndToEnd != "R2" || rows[1].Text != "微信支付异常退款 R2" {
			t.Errorf("%+v", rows)
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
	}
}

// What becomes of a refund after its bill was made is in no bill (B.1), and the
// merchant platform pays V2's as well, to whom it is told.
func TestABillKeepsWhatWasAbnormalWhenItWasMade(t *testing.T) {
	w := start(t, nil)
	day := ledger.DayOf(w.cfg.Now())
	w.pay("A1", 10_000)
	w.admin("POST", "/faults", `{"do":"REFUND_ABNORMAL","order":"A1"}`, nil)
	w.refund("A1", "R1", 10_000, 4_000)
	w.set("2026-09-16 10:30:00")
	bill := func() string {
		text, err := w.send("/pay/downloadbill", wechat.SignHMAC, "bill_date", day.Compact(), "bill_type", "ALL")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := bill()
	w.admin("POST", "/abnormal", `{"merchant":"`+merchantNo+`","refund":"R1","to":"MERCHANT"}`, nil)
	w.at.Add(1)
	said := w.call("/pay/refundquery", "out_refund_no", "R1")
	if said["refund_status_0"] != "SUCCESS" || said["refund_recv_accout_0"] != "商户结算银行账户" {
		t.Errorf("%v", said)
	}
	if after := bill(); after != before || !strings.Contains(after, ",`ORIGINAL,`CHANGE,") {
		t.Errorf("the bill was %s and is %s", before, after)
	}
	w.refused("/abnormal", `{"merchant":"`+merchantNo+`","refund":"R1","to":"CARD"}`)
}
