package recon

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"strings"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Totals are the sums of a file by name, in fen or counts.
//
// BILL and HIS: for each of pay, refund, reverse the names pay.count and
// pay.amount, on bills also pay.settle and pay.fee. FUND: opening, closing and
// the signed sums trade, fee, refund, fee_return, withdrawn,
// withdrawal_returned, recharged, other, with withdrawn.count and so on for the
// last four. STATEMENT: opening, closing, the signed sums credit and debit,
// credit.count, debit.count.
type Totals map[string]int64

// Digest is what the rows of a file say, whatever their order: the sum, modulo
// 2^128, of the first 16 bytes of the SHA-256 of every row in canonical form.
type Digest [16]byte

func (d *Digest) add(canon []byte) {
	sum := sha256.Sum256(canon)
	low, carry := bits.Add64(binary.BigEndian.Uint64(d[8:]), binary.BigEndian.Uint64(sum[8:16]), 0)
	high, _ := bits.Add64(binary.BigEndian.Uint64(d[:8]), binary.BigEndian.Uint64(sum[:8]), carry)
	binary.BigEndian.PutUint64(d[8:], low)
	binary.BigEndian.PutUint64(d[:8], high)
}

func appendText(canon []byte, text string) []byte {
	canon = binary.BigEndian.AppendUint32(canon, uint32(len(text)))
	return append(canon, text...)
}

func appendFen(canon []byte, amounts ...ledger.Money) []byte {
	for _, fen := range amounts {
		canon = binary.BigEndian.AppendUint64(canon, uint64(fen))
	}
	return canon
}

type sum struct{ count, amount, settle, fee int64 }

func (s *sum) add(amount, settle, fee ledger.Money) {
	s.count++
	s.amount += int64(amount)
	s.settle += int64(settle)
	s.fee += int64(fee)
}

// Tally adds up the rows of a file: counts, sums and digests. The zero Tally is
// empty; its memory does not grow with the file.
type Tally struct {
	rows, lines int
	sums        map[string]*sum
	pay, refund Digest
	canon       []byte
}

func (t *Tally) sum(kind string) *sum {
	s := t.sums[kind]
	if s == nil {
		if t.sums == nil {
			t.sums = make(map[string]*sum, 8)
		}
		s = new(sum)
		t.sums[kind] = s
	}
	return s
}

// Bill adds a row of a trade bill. Into the digest goes only what all sorts of
// bill tell, under the merchant number as it is known to us, so that ALL, its
// two halves and the older layouts agree.
func (t *Tally) Bill(l *channels.BillLine, merchantNo string) {
	t.rows++
	t.lines++
	t.sum(string(l.Kind)).add(l.Amount, l.Settle, l.Fee)
	c := t.canon[:0]
	for _, text := range [...]string{string(l.Kind), merchantNo, l.OrderNo, l.RefundNo, l.TradeNo, l.ChannelRefundNo, string(l.Status)} {
		c = appendText(c, text)
	}
	c = appendFen(c, l.Amount, l.Settle, l.Fee, ledger.Money(l.At.Unix()))
	t.canon = c
	if l.Kind == channels.Pay {
		t.pay.add(c)
	} else {
		t.refund.add(c)
	}
}

// Fund adds a row of a fund bill and says whether the row is sent as a line:
// what the trade bill tells as well goes into the sums alone.
func (t *Tally) Fund(l *channels.FundLine) bool {
	t.rows++
	t.sum(string(l.Kind)).add(l.Amount, 0, 0)
	c := t.canon[:0]
	for _, text := range [...]string{string(l.Kind), l.FlowNo, l.BusinessNo, l.OrderNo} {
		c = appendText(c, text)
	}
	t.canon = appendFen(c, l.Amount, l.Balance, ledger.Money(l.At.Unix()))
	t.pay.add(t.canon)
	if _, sent := fundLineNames[l.Kind]; !sent {
		return false
	}
	t.lines++
	return true
}

// HIS adds a row of the hospital's charge details.
func (t *Tally) HIS(l *channels.HISLine) {
	t.rows++
	t.lines++
	t.sum(string(l.Kind)).add(l.Amount, 0, 0)
	c := t.canon[:0]
	for _, text := range [...]string{
		l.Hospital, l.BillNo, string(l.Kind), l.Channel, l.OrderNo, l.RefundNo, l.Operator, l.BizType,
		l.Tender, l.ReceiptNo, l.CloseNo, l.OriginalBillNo, l.Patient,
	} {
		c = appendText(c, text)
	}
	t.canon = appendFen(c, l.Amount, ledger.Money(l.At.Unix()))
	t.pay.add(t.canon)
}

// Statement adds an entry of a bank statement.
func (t *Tally) Statement(l *channels.StatementLine) {
	t.rows++
	t.lines++
	t.sum(creditOrDebit(l.Amount)).add(l.Amount, 0, 0)
	c := t.canon[:0]
	for _, text := range [...]string{
		l.Account, l.Ref, l.EndToEndID, l.Counterparty, l.CounterpartyAcc, l.Text, l.Code, l.ReturnOf, l.ReturnReason,
	} {
		c = appendText(c, text)
	}
	t.canon = appendFen(c, l.Amount, ledger.Money(l.BookDay), ledger.Money(l.ValueDay))
	t.pay.add(t.canon)
}

// creditOrDebit must agree with sumQueries.
func creditOrDebit(amount ledger.Money) string {
	if amount < 0 {
		return "DEBIT"
	}
	return "CREDIT"
}

// fundSumNames and fundLineNames give the names of a fund bill's sums; the
// kinds of the second are sent as lines.
var (
	fundSumNames = map[channels.FundKind]string{
		channels.FundTrade: "trade", channels.FundFee: "fee",
		channels.FundRefund: "refund", channels.FundFeeReturn: "fee_return",
	}
	fundLineNames = map[channels.FundKind]string{
		channels.FundWithdrawal: "withdrawn", channels.FundWithdrawalReturn: "withdrawal_returned",
		channels.FundRecharge: "recharged", channels.FundOther: "other",
	}
)

// Close writes rows, lines, sums and digests into m, and the balances that the
// file itself states; only statements and fund bills with rows have them.
func (t *Tally) Close(m *Manifest, file channels.FileSummary) {
	m.Rows, m.Lines, m.DigestPay, m.DigestRefund = t.rows, t.lines, t.pay, t.refund
	m.Totals = Totals{}
	if file.Balances {
		m.Totals["opening"], m.Totals["closing"] = int64(file.Opening), int64(file.Closing)
	}
	if m.Slice.Source == SourceFund {
		for kind, name := range fundSumNames {
			m.Totals[name] = t.sum(string(kind)).amount
		}
	}
	for kind, names := range lineSums(m.Slice.Source) {
		s := t.sum(kind)
		for i, value := range []int64{s.count, s.amount, s.settle, s.fee} {
			if names[i] != "" {
				m.Totals[names[i]] = value
			}
		}
	}
}

// lineSums lists the kinds of lines that a source has, and under what names the
// count, amount, settlement amount and fee of each stand in the totals.
func lineSums(source Source) map[string][4]string {
	sums := map[string][4]string{}
	switch source {
	case SourceBill:
		for _, kind := range []channels.Kind{channels.Pay, channels.Refund, channels.Reverse} {
			name := strings.ToLower(string(kind))
			sums[string(kind)] = [4]string{name + ".count", name + ".amount", name + ".settle", name + ".fee"}
		}
	case SourceHIS:
		for _, kind := range []channels.Kind{channels.Pay, channels.Refund} {
			name := strings.ToLower(string(kind))
			sums[string(kind)] = [4]string{name + ".count", name + ".amount"}
		}
	case SourceFund:
		for kind, name := range fundLineNames {
			sums[string(kind)] = [4]string{name + ".count", name}
		}
	case SourceStatement:
		sums["CREDIT"] = [4]string{"credit.count", "credit"}
		sums["DEBIT"] = [4]string{"debit.count", "debit"}
	}
	return sums
}
