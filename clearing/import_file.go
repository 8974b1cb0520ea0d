package clearing

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// The columns of platform.csv, bound by name in any order (samples/day/README.md).
var importColumns = []string{
	"hospital", "merchant_no", "channel", "kind", "order_no", "refund_no", "channel_trade_no", "amount_fen", "occurred_at", "status",
	"his_bill_no", "biz_type", "terminal", "settle_fen", "channel_success_at", "patient_ref",
}

// The places of the columns in importColumns.
const (
	colHospital = iota
	colMerchantNo
	colChannel
	colKind
	colOrderNo
	colRefundNo
	colTradeNo
	colAmount
	colOccurredAt
	colStatus
	colBillNo
	colBizType
	colTerminal
	colSettle
	colSuccessAt
	colPatient
)

// A row is one line of the file, checked by itself.
type row struct {
	Leg
	line     int
	merchant *Merchant
}

// rowReader reads platform.csv line by line and checks each row by itself.
type rowReader struct {
	directory *Directory
	merchants map[[2]string]*Merchant // those met so far, by channel and number
	csv       *csv.Reader
	end       *endingReader
	place     []int // of each column in the file
	fields    []string
	line      int
}

// endingReader remembers the last byte, to tell a file that was cut.
type endingReader struct {
	io.Reader
	last byte
}

// Read implements io.Reader.
func (e *endingReader) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if n > 0 {
		e.last = p[n-1]
	}
	return n, err
}

func newRowReader(r io.Reader, d *Directory) (*rowReader, error) {
	end := &endingReader{Reader: r}
	buffered := bufio.NewReaderSize(end, 1<<16)
	if mark, err := buffered.Peek(3); err == nil && bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		if _, err := buffered.Discard(3); err != nil {
			return nil, err
		}
	}
	reader := &rowReader{directory: d, merchants: map[[2]string]*Merchant{}, csv: csv.NewReader(buffered), end: end, line: 1}
	reader.csv.ReuseRecord = true
	header, err := reader.csv.Read()
	if errors.Is(err, io.EOF) {
		return nil, &channels.FileError{Rule: "the file is empty"}
	}
	if err != nil {
		return nil, readError(err)
	}
	for _, name := range header {
		if !slices.Contains(importColumns, name) {
			return nil, reader.broken(name, "unknown column")
		}
	}
	for _, name := range importColumns {
		i := slices.Index(header, name)
		if i < 0 {
			return nil, reader.broken(name, "the column is missing")
		}
		reader.place = append(reader.place, i)
	}
	if len(header) != len(importColumns) {
		return nil, reader.broken("", "a column stands twice")
	}
	return reader, nil
}

func (r *rowReader) broken(column, rule string, args ...any) *channels.FileError {
	return &channels.FileError{Line: r.line, Column: column, Rule: fmt.Sprintf(rule, args...)}
}

// readError turns what encoding/csv says into the line and the rule; other
// errors are of the disk and stay as they are.
func readError(err error) error {
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		return &channels.FileError{Line: parse.Line, Rule: parse.Err.Error()}
	}
	return err
}

// next returns the next row, io.EOF after the last. The row is the caller's.
func (r *rowReader) next() (*row, error) {
	fields, err := r.csv.Read()
	if errors.Is(err, io.EOF) {
		if r.end.last != '\n' {
			return nil, r.broken("", "the file ends inside this line: it was cut")
		}
		return nil, io.EOF
	}
	if err != nil {
		return nil, readError(err)
	}
	r.fields = fields
	r.line, _ = r.csv.FieldPos(0)
	parsed := &row{line: r.line}
	for _, parse := range []func(*row) *channels.FileError{r.parseText, r.parseNumbers, r.parseMoney, r.parseTimes, r.checkState} {
		if broken := parse(parsed); broken != nil {
			return nil, broken
		}
	}
	return parsed, nil
}

func (r *rowReader) field(column int) string { return r.fields[r.place[column]] }

func (r *rowReader) bad(column int, rule string, args ...any) *channels.FileError {
	return r.broken(importColumns[column], rule, args...)
}

// personalForm is what a reference to a patient must not look like: the number
// of an identity card (15 or 18 places) or of a mobile telephone.
var personalForm = regexp.MustCompile(`^([0-9]{15}|[0-9]{17}[0-9Xx]|1[3-9][0-9]{9})$`)

// plain says whether text is at most 64 letters, digits and some of marks.
func plain(text, marks string) bool {
	if len(text) > 64 {
		return false
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && strings.IndexByte(marks, c) < 0 {
			return false
		}
	}
	return true
}

func (r *rowReader) parseText(to *row) *channels.FileError {
	to.BizType, to.Terminal, to.Patient = r.field(colBizType), r.field(colTerminal), r.field(colPatient)
	if !plain(to.Patient, "_-") || personalForm.MatchString(to.Patient) { // what it says is not repeated
		return r.bad(colPatient, "must be an opaque reference, never a name, an identity number or a telephone number")
	}
	for column := range importColumns {
		if text := r.field(column); !plain(text, "_.:/- ") {
			return r.bad(column, "%q must be at most 64 letters, digits and _ . : / -", text)
		}
	}
	return r.parseMerchant(to)
}

func (r *rowReader) parseMerchant(to *row) *channels.FileError {
	to.Hospital, to.Channel, to.MerchantNo = r.field(colHospital), r.field(colChannel), r.field(colMerchantNo)
	key := [2]string{to.Channel, to.MerchantNo}
	merchant, ok := r.merchants[key]
	if !ok {
		if _, known := r.directory.Hospital(to.Hospital); !known {
			return r.bad(colHospital, "%q is not set up", to.Hospital)
		}
		if !slices.Contains(channelNames, to.Channel) {
			return r.bad(colChannel, "%q must be one of %s", to.Channel, strings.Join(channelNames, ", "))
		}
		if merchant, ok = r.directory.Merchant(to.Channel, to.MerchantNo); !ok {
			return r.bad(colMerchantNo, "%q is no %s merchant number that is set up", to.MerchantNo, to.Channel)
		}
		r.merchants[key] = merchant
	}
	if merchant.Hospital != to.Hospital {
		return r.bad(colMerchantNo, "%q belongs to hospital %s, not to %s", to.MerchantNo, merchant.Hospital, to.Hospital)
	}
	to.merchant, to.MerchantNo = merchant, merchant.No // an alias means the number itself
	if to.BizType == "" {
		return r.bad(colBizType, "must not be empty, such as OUTPATIENT")
	}
	return nil
}

func (r *rowReader) parseNumbers(to *row) *channels.FileError {
	to.Kind = channels.Kind(r.field(colKind))
	to.OrderNo, to.RefundNo, to.TradeNo, to.BillNo = r.field(colOrderNo), r.field(colRefundNo), r.field(colTradeNo), r.field(colBillNo)
	if to.OrderNo == "" {
		return r.bad(colOrderNo, "must not be empty")
	}
	switch {
	case to.Kind == channels.Refund && to.RefundNo == "":
		return r.bad(colRefundNo, "must not be empty on a refund")
	case to.Kind == channels.Pay && to.RefundNo != "":
		return r.bad(colRefundNo, "%q must be empty on a payment", to.RefundNo)
	case to.Kind == channels.Reverse && to.RefundNo != "" && to.RefundNo != to.OrderNo:
		return r.bad(colRefundNo, "%q must be empty on a reversal, which is known by its order", to.RefundNo)
	case to.Kind == channels.Reverse:
		to.RefundNo = to.OrderNo
	case to.Kind != channels.Pay && to.Kind != channels.Refund:
		return r.bad(colKind, "%q must be PAY, REFUND or REVERSE", to.Kind)
	}
	return nil
}

// parseFen reads whole fen without sign; 15 digits are ten trillion yuan.
func parseFen(text string) (ledger.Money, bool) {
	if len(text) == 0 || len(text) > 15 || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	fen, err := strconv.ParseInt(text, 10, 64)
	return ledger.Money(fen), err == nil
}

func (r *rowReader) parseMoney(to *row) *channels.FileError {
	var ok bool
	if to.Amount, ok = parseFen(r.field(colAmount)); !ok || to.Amount == 0 {
		return r.bad(colAmount, "%q must be whole fen above zero", r.field(colAmount))
	}
	to.Status = channels.Status(r.field(colStatus))
	settle := r.field(colSettle)
	switch to.Status {
	case channels.Failed:
		if settle != "" {
			return r.bad(colSettle, "%q must be empty where the status is FAILED", settle)
		}
	case channels.Success:
		if to.Settle, ok = parseFen(settle); !ok {
			return r.bad(colSettle, "%q must be whole fen", settle)
		}
		if to.Settle > to.Amount {
			return r.bad(colSettle, "%d is above amount_fen %d: the channel never settles more than was paid", to.Settle, to.Amount)
		}
	default:
		return r.bad(colStatus, "%q must be SUCCESS or FAILED", to.Status)
	}
	return nil
}

func (r *rowReader) parseTimes(to *row) (broken *channels.FileError) {
	if to.OccurredAt, broken = r.parseTime(colOccurredAt); broken != nil || r.field(colSuccessAt) == "" {
		return broken
	}
	to.ChannelSuccessAt, broken = r.parseTime(colSuccessAt)
	return broken
}

func (r *rowReader) parseTime(column int) (time.Time, *channels.FileError) {
	at, err := time.ParseInLocation(time.DateTime, r.field(column), ledger.Beijing)
	if err != nil || at.Year() < 2000 {
		return time.Time{}, r.bad(column, "%q must be a Beijing time like 2026-09-15 08:00:03", r.field(column))
	}
	return at.UTC(), nil
}

// checkState checks what the fields say together.
func (r *rowReader) checkState(to *row) *channels.FileError {
	if to.Status == channels.Failed && !to.ChannelSuccessAt.IsZero() {
		return r.bad(colSuccessAt, "must be empty where the status is FAILED")
	}
	to.Final = !to.ChannelSuccessAt.IsZero()
	to.Day = to.fundDay()
	if _, ok := to.merchant.rateOn(to.Day); !ok && to.Status == channels.Success {
		return r.bad(colMerchantNo, "%s has no fee rate on %s: the first begins on %s", to.MerchantNo, to.Day, to.merchant.Rates[0].From)
	}
	return nil
}
