package feed

import (
	"fmt"
	"maps"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	feedv1 "github.com/clearward/clearward/proto/clearward/feed/v1"
	"github.com/clearward/clearward/recon"
)

// pairs ties our words to the numbers of the wire.
type pairs[Word comparable, Number comparable] struct {
	number map[Word]Number
	word   map[Number]Word
}

func tie[Word, Number comparable](number map[Word]Number) pairs[Word, Number] {
	word := make(map[Number]Word, len(number))
	for w, n := range number {
		word[n] = w
	}
	return pairs[Word, Number]{number, word}
}

var (
	sources = tie(map[recon.Source]feedv1.Source{
		recon.SourceBill: feedv1.Source_SOURCE_BILL, recon.SourceFund: feedv1.Source_SOURCE_FUND,
		recon.SourceHIS: feedv1.Source_SOURCE_HIS, recon.SourceStatement: feedv1.Source_SOURCE_STATEMENT,
	})
	allParts = tie(map[recon.Part]feedv1.Part{
		recon.PartAll: feedv1.Part_PART_ALL, recon.PartPay: feedv1.Part_PART_PAY, recon.PartRefund: feedv1.Part_PART_REFUND,
	})
	kinds = tie(map[channels.Kind]feedv1.Kind{
		channels.Pay: feedv1.Kind_KIND_PAY, channels.Refund: feedv1.Kind_KIND_REFUND, channels.Reverse: feedv1.Kind_KIND_REVERSE,
	})
	statuses = tie(map[channels.Status]feedv1.Status{
		channels.Success: feedv1.Status_STATUS_SUCCESS, channels.Processing: feedv1.Status_STATUS_PROCESSING,
		channels.Abnormal: feedv1.Status_STATUS_ABNORMAL, channels.Failed: feedv1.Status_STATUS_FAILED,
	})
	fundKinds = tie(map[channels.FundKind]feedv1.FundKind{
		channels.FundWithdrawal:       feedv1.FundKind_FUND_KIND_WITHDRAWAL,
		channels.FundWithdrawalReturn: feedv1.FundKind_FUND_KIND_WITHDRAWAL_RETURN,
		channels.FundRecharge:         feedv1.FundKind_FUND_KIND_RECHARGE,
		channels.FundOther:            feedv1.FundKind_FUND_KIND_OTHER,
	})
)

// encode returns the bytes of a record, appended to buf.
func encode(buf []byte, r recon.FeedRecord) ([]byte, error) {
	record := &feedv1.Record{}
	if r.Line != nil {
		record.Record = &feedv1.Record_Line{Line: wireLine(r.Line)}
	} else {
		record.Record = &feedv1.Record_Manifest{Manifest: wireManifest(r.Manifest)}
	}
	start := len(buf)
	buf, err := proto.MarshalOptions{}.MarshalAppend(buf, record)
	switch {
	case err != nil:
		return buf, fmt.Errorf("encode a record: %w", err)
	case len(buf)-start > maxRecord:
		return buf, fmt.Errorf("encode a record: %d bytes, the most is %d", len(buf)-start, maxRecord)
	}
	return buf, nil
}

func wireSlice(s recon.Slice) *feedv1.Slice {
	return &feedv1.Slice{
		Source: sources.number[s.Source], Hospital: s.Hospital, Channel: s.Channel, Account: s.Account, Day: int32(s.Day),
	}
}

func wireLine(l *recon.FeedLine) *feedv1.Line {
	line := &feedv1.Line{File: l.File, Row: int32(l.Row), Slice: wireSlice(l.Slice)}
	switch {
	case l.Bill != nil:
		b := l.Bill
		line.Body = &feedv1.Line_Channel{Channel: &feedv1.ChannelLine{
			Kind: kinds.number[b.Kind], Status: statuses.number[b.Status],
			OrderNo: b.OrderNo, RefundNo: b.RefundNo, TradeNo: b.TradeNo, ChannelRefundNo: b.ChannelRefundNo,
			At: b.At.Unix(), AmountFen: int64(b.Amount), SettleFen: int64(b.Settle), FeeFen: int64(b.Fee),
		}}
	case l.Fund != nil:
		f := l.Fund
		line.Body = &feedv1.Line_Fund{Fund: &feedv1.FundLine{
			Kind: fundKinds.number[f.Kind], At: f.At.Unix(), FlowNo: f.FlowNo, BusinessNo: f.BusinessNo, OrderNo: f.OrderNo,
			AmountFen: int64(f.Amount), BalanceFen: int64(f.Balance),
		}}
	case l.HIS != nil:
		h := l.HIS
		line.Body = &feedv1.Line_His{His: &feedv1.HisLine{
			Kind: kinds.number[h.Kind], Channel: h.Channel, BillNo: h.BillNo, OriginalBillNo: h.OriginalBillNo,
			OrderNo: h.OrderNo, RefundNo: h.RefundNo, AmountFen: int64(h.Amount), At: h.At.Unix(),
			Operator: h.Operator, BizType: h.BizType, Tender: h.Tender, ReceiptNo: h.ReceiptNo, CloseNo: h.CloseNo,
			PatientRef: h.Patient,
		}}
	case l.Statement != nil:
		s := l.Statement
		line.Body = &feedv1.Line_Bank{Bank: &feedv1.BankLine{
			Ref: s.Ref, EndToEndId: s.EndToEndID, BookDay: int32(s.BookDay), ValueDay: int32(s.ValueDay),
			AmountFen: int64(s.Amount), Counterparty: s.Counterparty, CounterpartyAccount: s.CounterpartyAcc,
			Text: s.Text, Code: s.Code, ReturnOf: s.ReturnOf, ReturnReason: s.ReturnReason,
		}}
	}
	return line
}

func wireManifest(m *recon.Manifest) *feedv1.Manifest {
	wire := &feedv1.Manifest{
		File: m.File, Slice: wireSlice(m.Slice), Part: allParts.number[m.Part], Sha256: m.SHA256[:], Name: m.Name,
		Rows: int32(m.Rows), Lines: int32(m.Lines), Totals: m.Totals,
		DigestPay: m.DigestPay[:], FedAt: m.FedAt.UnixMicro(),
	}
	if m.DigestRefund != (recon.Digest{}) {
		wire.DigestRefund = m.DigestRefund[:]
	}
	return wire
}

// decode reads a message. What it returns can be stored, as far as a record can
// say so by itself; every error is recon.ErrRecord.
func decode(message []byte) (recon.FeedRecord, error) {
	var wire feedv1.Record
	if len(message) > maxRecord {
		return recon.FeedRecord{}, fmt.Errorf("%w: %d bytes, the most is %d", recon.ErrRecord, len(message), maxRecord)
	}
	if err := proto.Unmarshal(message, &wire); err != nil {
		return recon.FeedRecord{}, fmt.Errorf("%w: not a feed record", recon.ErrRecord)
	}
	var r recon.FeedRecord
	var err error
	switch {
	case wire.GetLine() != nil:
		r.Line, err = lineOf(wire.GetLine())
	case wire.GetManifest() != nil:
		r.Manifest, err = manifestOf(wire.GetManifest())
	}
	if err == nil {
		err = r.Check()
	}
	return r, err
}

func sliceOf(w *feedv1.Slice) recon.Slice {
	return recon.Slice{
		Source: sources.word[w.GetSource()], Hospital: w.GetHospital(), Channel: w.GetChannel(),
		Account: w.GetAccount(), Day: ledger.Day(w.GetDay()),
	}
}

func lineOf(w *feedv1.Line) (*recon.FeedLine, error) {
	line := &recon.FeedLine{File: w.GetFile(), Row: int(w.GetRow()), Slice: sliceOf(w.GetSlice())}
	switch body := w.GetBody().(type) {
	case *feedv1.Line_Channel:
		return line, billOf(line, body.Channel)
	case *feedv1.Line_Fund:
		return line, fundOf(line, body.Fund)
	case *feedv1.Line_His:
		return line, hisOf(line, body.His)
	case *feedv1.Line_Bank:
		b := body.Bank
		line.Statement = &channels.StatementLine{
			Row: line.Row, Account: line.Slice.Account, Ref: b.GetRef(), EndToEndID: b.GetEndToEndId(),
			BookDay: ledger.Day(b.GetBookDay()), ValueDay: ledger.Day(b.GetValueDay()), Amount: ledger.Money(b.GetAmountFen()),
			Counterparty: b.GetCounterparty(), CounterpartyAcc: b.GetCounterpartyAccount(), Text: b.GetText(),
			Code: b.GetCode(), ReturnOf: b.GetReturnOf(), ReturnReason: b.GetReturnReason(),
		}
	}
	return line, nil
}

func billOf(line *recon.FeedLine, w *feedv1.ChannelLine) error {
	line.Bill = &channels.BillLine{
		Row: line.Row, Kind: kinds.word[w.GetKind()], Status: statuses.word[w.GetStatus()], MerchantNo: line.Slice.Account,
		OrderNo: w.GetOrderNo(), RefundNo: w.GetRefundNo(), TradeNo: w.GetTradeNo(), ChannelRefundNo: w.GetChannelRefundNo(),
		At: time.Unix(w.GetAt(), 0).UTC(), Amount: ledger.Money(w.GetAmountFen()), Settle: ledger.Money(w.GetSettleFen()),
		Fee: ledger.Money(w.GetFeeFen()),
	}
	return firstError(line,
		known("kind", line.Bill.Kind != ""), known("status", line.Bill.Status != ""), instant(w.GetAt()),
		amount("amount", line.Bill.Amount), amount("settle", line.Bill.Settle), amount("fee", line.Bill.Fee))
}

func fundOf(line *recon.FeedLine, w *feedv1.FundLine) error {
	line.Fund = &channels.FundLine{
		Row: line.Row, Kind: fundKinds.word[w.GetKind()], At: time.Unix(w.GetAt(), 0).UTC(), FlowNo: w.GetFlowNo(),
		BusinessNo: w.GetBusinessNo(), OrderNo: w.GetOrderNo(),
		Amount: ledger.Money(w.GetAmountFen()), Balance: ledger.Money(w.GetBalanceFen()),
	}
	return firstError(line, known("kind", line.Fund.Kind != ""), instant(w.GetAt()))
}

func hisOf(line *recon.FeedLine, w *feedv1.HisLine) error {
	line.HIS = &channels.HISLine{
		Row: line.Row, Hospital: line.Slice.Hospital, BillNo: w.GetBillNo(), Kind: kinds.word[w.GetKind()],
		Channel: w.GetChannel(), OrderNo: w.GetOrderNo(), RefundNo: w.GetRefundNo(), Amount: ledger.Money(w.GetAmountFen()),
		At: time.Unix(w.GetAt(), 0).UTC(), Operator: w.GetOperator(), BizType: w.GetBizType(), Tender: w.GetTender(),
		ReceiptNo: w.GetReceiptNo(), CloseNo: w.GetCloseNo(), OriginalBillNo: w.GetOriginalBillNo(), Patient: w.GetPatientRef(),
	}
	return firstError(line,
		known("kind", line.HIS.Kind == channels.Pay || line.HIS.Kind == channels.Refund),
		instant(w.GetAt()), amount("amount", line.HIS.Amount))
}

func firstError(line *recon.FeedLine, rules ...string) error {
	for _, broken := range rules {
		if broken != "" {
			return fmt.Errorf("%w: file %d, row %d: %s", recon.ErrRecord, line.File, line.Row, broken)
		}
	}
	return nil
}

func known(field string, ok bool) string {
	if ok {
		return ""
	}
	return field + " is not one that we know"
}

func amount(field string, fen ledger.Money) string {
	if fen >= 0 {
		return ""
	}
	return fmt.Sprintf("%s %s is negative", field, fen)
}

// instant keeps times inside the years that a business day can have.
func instant(unix int64) string {
	if unix >= 946684800 && unix < 32503680000 { // 2000 to 2999
		return ""
	}
	return fmt.Sprintf("time %d lies outside the years 2000 to 2999", unix)
}

func manifestOf(w *feedv1.Manifest) (*recon.Manifest, error) {
	m := &recon.Manifest{
		File: w.GetFile(), Slice: sliceOf(w.GetSlice()), Part: allParts.word[w.GetPart()], Name: w.GetName(),
		Rows: int(w.GetRows()), Lines: int(w.GetLines()), Totals: maps.Clone(w.GetTotals()),
		FedAt: time.UnixMicro(w.GetFedAt()).UTC(),
	}
	if m.Totals == nil {
		m.Totals = recon.Totals{}
	}
	for _, field := range []struct {
		name     string
		from, to []byte
		optional bool
	}{
		{"sha256", w.GetSha256(), m.SHA256[:], false},
		{"digest_pay", w.GetDigestPay(), m.DigestPay[:], false},
		{"digest_refund", w.GetDigestRefund(), m.DigestRefund[:], true},
	} {
		if len(field.from) != len(field.to) && !(field.optional && len(field.from) == 0) {
			return nil, fmt.Errorf("%w: manifest of file %d: %s has %d bytes, not %d", recon.ErrRecord, m.File, field.name, len(field.from), len(field.to))
		}
		copy(field.to, field.from)
	}
	if broken := instant(w.GetFedAt() / 1_000_000); broken != "" {
		return nil, fmt.Errorf("%w: manifest of file %d: fed_at: %s", recon.ErrRecord, m.File, broken)
	}
	return m, nil
}
