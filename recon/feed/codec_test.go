package feed

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

const sampleDay = ledger.Day(20260915)

var (
	fedAt     = time.Date(2026, 9, 16, 2, 30, 0, 0, time.UTC)
	billSlice = recon.Slice{Source: recon.SourceBill, Hospital: "H1", Channel: channels.WeChat, Account: "1900000109", Day: sampleDay}
)

// drawRecord draws any record that may travel.
func drawRecord(t *rapid.T) recon.FeedRecord {
	text := rapid.String()
	fen := rapid.Map(rapid.Int64Range(0, 1e14), func(n int64) ledger.Money { return ledger.Money(n) })
	signed := rapid.Map(rapid.Int64(), func(n int64) ledger.Money { return ledger.Money(n) })
	at := time.Unix(rapid.Int64Range(946684800, 32503679999).Draw(t, "at"), 0).UTC()
	line := &recon.FeedLine{File: rapid.Int64Range(1, 1<<62).Draw(t, "file"), Row: int(rapid.Int32Range(1, 1<<30).Draw(t, "row")), Slice: billSlice}
	switch rapid.IntRange(0, 4).Draw(t, "body") {
	case 0:
		line.Bill = &channels.BillLine{
			Row: line.Row, MerchantNo: line.Slice.Account, At: at,
			Kind:    rapid.SampledFrom([]channels.Kind{channels.Pay, channels.Refund, channels.Reverse}).Draw(t, "kind"),
			Status:  rapid.SampledFrom([]channels.Status{channels.Success, channels.Processing, channels.Abnormal, channels.Failed}).Draw(t, "status"),
			OrderNo: text.Draw(t, "order"), RefundNo: text.Draw(t, "refund"), TradeNo: text.Draw(t, "trade"), ChannelRefundNo: text.Draw(t, "chrefund"),
			Amount: fen.Draw(t, "amount"), Settle: fen.Draw(t, "settle"), Fee: fen.Draw(t, "fee"),
		}
	case 1:
		line.Slice.Source = recon.SourceFund
		line.Fund = &channels.FundLine{
			Row: line.Row, At: at, Kind: rapid.SampledFrom([]channels.FundKind{channels.FundWithdrawal, channels.FundWithdrawalReturn, channels.FundRecharge, channels.FundOther}).Draw(t, "kind"),
			FlowNo: text.Draw(t, "flow"), BusinessNo: text.Draw(t, "business"), OrderNo: text.Draw(t, "order"),
			Amount: signed.Draw(t, "amount"), Balance: signed.Draw(t, "balance"),
		}
	case 2:
		line.Slice = recon.Slice{Source: recon.SourceHIS, Hospital: "H1", Day: sampleDay}
		line.HIS = &channels.HISLine{
			Row: line.Row, Hospital: "H1", At: at, Kind: rapid.SampledFrom([]channels.Kind{channels.Pay, channels.Refund}).Draw(t, "kind"),
			BillNo: text.Draw(t, "bill"), Channel: text.Draw(t, "channel"), OrderNo: text.Draw(t, "order"), RefundNo: text.Draw(t, "refund"),
			Amount: fen.Draw(t, "amount"), Operator: text.Draw(t, "operator"), BizType: text.Draw(t, "biz"), Tender: text.Draw(t, "tender"),
			ReceiptNo: text.Draw(t, "receipt"), CloseNo: text.Draw(t, "close"), OriginalBillNo: text.Draw(t, "original"), Patient: text.Draw(t, "patient"),
		}
	case 3:
		line.Slice = recon.Slice{Source: recon.SourceStatement, Hospital: "H1", Account: "755947919810515", Day: sampleDay}
		line.Statement = &channels.StatementLine{
			Row: line.Row, Account: "755947919810515", Ref: text.Draw(t, "ref"), EndToEndID: text.Draw(t, "e2e"), BookDay: sampleDay, ValueDay: sampleDay,
			Amount: signed.Draw(t, "amount"), Counterparty: text.Draw(t, "party"), CounterpartyAcc: text.Draw(t, "acc"), Text: text.Draw(t, "text"),
			Code: text.Draw(t, "code"), ReturnOf: text.Draw(t, "of"), ReturnReason: text.Draw(t, "reason"),
		}
	default:
		m := &recon.Manifest{
			Slice: billSlice, Part: rapid.SampledFrom([]recon.Part{recon.PartAll, recon.PartPay, recon.PartRefund}).Draw(t, "part"),
			SHA256: sha256.Sum256([]byte(text.Draw(t, "bytes"))), Name: text.Draw(t, "name"), Rows: 9, Lines: rapid.IntRange(0, 9).Draw(t, "lines"),
			Totals:    rapid.Custom(func(t *rapid.T) recon.Totals { return rapid.MapOf(text, rapid.Int64()).Draw(t, "totals") }).Draw(t, "totals"),
			DigestPay: recon.Digest{1, 2, 3}, FedAt: fedAt,
		}
		if rapid.Bool().Draw(t, "refunds") {
			m.DigestRefund = recon.Digest{4, 5}
		}
		m.File = recon.FileID(m.Slice, m.Part, m.SHA256)
		return recon.FeedRecord{Manifest: m}
	}
	return recon.FeedRecord{Line: line}
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		message, err := encode([]byte("before"), want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(message[len("before"):])
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v (%v), want %+v", got, err, want)
		}
	})
}

func TestWhatCannotBeStoredIsToldAtOnce(t *testing.T) {
	good := recon.FeedLine{File: 7, Row: 1, Slice: billSlice, Bill: &channels.BillLine{
		Kind: channels.Pay, Status: channels.Success, OrderNo: "HP1", At: fedAt, Amount: 1, Settle: 1}}
	for _, tt := range []struct {
		change func(l *recon.FeedLine)
		want   string
	}{
		{func(l *recon.FeedLine) { l.Bill.Kind = "GIFT" }, "file 7, row 1: kind is not one that we know"},
		{func(l *recon.FeedLine) { l.Bill.Status = "" }, "file 7, row 1: status is not one that we know"},
		{func(l *recon.FeedLine) { l.Bill.Fee = -1 }, "file 7, row 1: fee -0.01 is negative"},
		{func(l *recon.FeedLine) { l.Bill.At = time.Time{} }, "lies outside the years 2000 to 2999"},
		{func(l *recon.FeedLine) { l.Slice.Source = "MEMO" }, `source "" is not known`},
		{func(l *recon.FeedLine) { l.Bill = nil }, "the body of the line does not fit source BILL"},
	} {
		line, bill := good, *good.Bill
		line.Bill = &bill
		tt.change(&line)
		message, err := encode(nil, recon.FeedRecord{Line: &line})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(message); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %q", err, tt.want)
		}
	}
	if _, err := decode([]byte("张三, 13800138000")); err == nil || strings.Contains(err.Error(), "张三") {
		t.Errorf("not a record: %v", err)
	}
	if _, err := encode(nil, recon.FeedRecord{Line: &recon.FeedLine{Slice: billSlice, Bill: &channels.BillLine{OrderNo: strings.Repeat("9", maxRecord)}}}); err == nil {
		t.Error("a record larger than the most was encoded")
	}
}

// FuzzDecode feeds any bytes: decode never panics, and what it takes comes back
// the same from a second round.
func FuzzDecode(f *testing.F) {
	for _, r := range []recon.FeedRecord{
		{Line: &recon.FeedLine{File: 7, Row: 1, Slice: billSlice, Bill: &channels.BillLine{Kind: channels.Pay, Status: channels.Success, OrderNo: "HP1", At: fedAt, Amount: 100}}},
		{Manifest: &recon.Manifest{File: 7, Slice: billSlice, Part: recon.PartAll, Name: "a.csv", Totals: recon.Totals{"pay.count": 1}, FedAt: fedAt}},
	} {
		message, err := encode(nil, r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		first, err := decode(message)
		if err != nil {
			return
		}
		again, err := encode(nil, first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := decode(again)
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v became %+v (%v)", first, second, err)
		}
		if first.Line != nil && !bytes.Contains(keyOf(first.Line.Slice), []byte("|")) {
			t.Fatal("a key without its day")
		}
	})
}
