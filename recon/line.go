package recon

import (
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Side is who says that a leg happened.
type Side uint8

// The three sides of a payment or refund. The bank is a pair of its own.
const (
	HIS Side = iota
	Platform
	Channel
	sides
)

// Line is a leg of a payment or a refund as one side tells it, in the one form
// that matching reads. Amounts are fen, not negative.
type Line struct {
	Side       Side
	Kind       channels.Kind
	Status     channels.Status
	Final      bool // platform: the channel's own time of success is known
	Hospital   string
	Channel    string // WECHAT, ALIPAY, …; on a HIS row of another tender CASH or POS
	MerchantNo string // "" on HIS rows
	OrderNo    string
	RefundNo   string
	TradeNo    string // the channel's number of the payment
	ChRefundNo string // the channel's number of the refund
	BillNo     string // his_bill_no; platform: the bill that the payment was for
	OrigBillNo string
	CloseNo    string
	Patient    string
	Terminal   string       // platform: the device or entry at which it was paid
	Amount     ledger.Money // order amount; refunds: the amount asked back
	Settle     ledger.Money // what the channel settles or takes back
	Fee        ledger.Money // channel: billed or returned; platform: accrued or given back
	At         time.Time
	Day        ledger.Day // the business day that the line counts on
	File       int64      // feed file, 0 for the platform
	Row        int        // line in it

	Lived *Lived `json:",omitempty"` // platform: of a row that was made through the API

	carried bool    // open since another day
	stored  *legRow // set on the marker of a leg that an earlier run stored, and on nothing else
}

// platformLine turns a leg of the platform into the form of matching.
func platformLine(leg *clearing.Leg) *Line {
	status := leg.Status
	if leg.Late && leg.Taken {
		status = channels.Success // HIS has taken the late money
	}
	l := &Line{
		Side: Platform, Kind: leg.Kind, Status: status, Final: !leg.ChannelSuccessAt.IsZero(),
		Hospital: leg.Hospital, Channel: leg.Channel, MerchantNo: leg.MerchantNo,
		OrderNo: leg.OrderNo, RefundNo: leg.RefundNo, TradeNo: leg.TradeNo, BillNo: leg.BillNo, Patient: leg.Patient, Terminal: leg.Terminal,
		Amount: leg.Amount, Settle: leg.Settle, Fee: leg.Fee, At: leg.OccurredAt, Day: leg.Day,
		Lived: livedOf(leg),
	}
	if l.Final && leg.Kind == channels.Pay {
		l.At = leg.ChannelSuccessAt
	}
	return l
}

// electronic says whether a HIS row names a payment channel as its tender.
func electronic(l *Line) bool {
	return l.Channel == channels.WeChat || l.Channel == channels.Alipay || l.Channel == channels.UnionPay
}
