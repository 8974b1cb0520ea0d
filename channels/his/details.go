// Package his reads the charge details (收费明细) that a hospital's HIS exports,
// as CSV or as JSON lines. A file is read row by row and checked against totals:
// its own last line, a manifest beside it, or what the person who hands it in
// says. A file without any is refused, for nobody could tell that it was cut off.
package his

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"hash/maphash"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// The columns, in the order of the neutral file.
const (
	colHospital = iota
	colBillNo
	colKind
	colChannel
	colOrderNo
	colRefundNo
	colAmount
	colAt
	colOperator
	colBizType
	colTender
	colReceiptNo
	colCloseNo
	colOriginal
	colPatient
	hisCols
)

var hisColumns = []channels.Column{
	{Name: "hospital", Slot: colHospital}, {Name: "his_bill_no", Slot: colBillNo}, {Name: "kind", Slot: colKind},
	{Name: "channel", Slot: colChannel}, {Name: "order_no", Slot: colOrderNo}, {Name: "refund_no", Slot: colRefundNo},
	{Name: "amount_fen", Slot: colAmount}, {Name: "occurred_at", Slot: colAt}, {Name: "operator", Slot: colOperator},
	{Name: "biz_type", Slot: colBizType}, {Name: "tender", Slot: colTender}, {Name: "receipt_no", Slot: colReceiptNo},
	{Name: "close_no", Slot: colCloseNo}, {Name: "original_bill_no", Slot: colOriginal}, {Name: "patient_ref", Slot: colPatient},
}

// needed are the columns without which a row says nothing; in JSON lines, the
// fields that every row must have.
var needed = []int{colHospital, colBillNo, colKind, colChannel, colOrderNo, colRefundNo, colAmount, colAt, colCloseNo}

type reader struct {
	want   channels.Expect
	lines  *channels.Lines
	sha    hash.Hash
	cols   *channels.Columns
	isJSON bool
	values []string // of the row, by position in the file
	row    [hisCols]string

	hospital string
	day      ledger.Day
	closeNo  string // of the row before, and its day
	closeDay ledger.Day
	trailer  bool
	rows     int
	payments int64
	refunds  int64
	paid     ledger.Money
	refunded ledger.Money

	seed maphash.Seed
	seen map[uint64]seenRow // by hash of hospital, kind and bill number

	again ledger.Money // payments less refunds of the rows that repeat another
}

// seenRow is what is kept of a row: enough to tell a repeat from a conflict.
type seenRow struct {
	content uint64
	line    int
}

// ReadDetails reads a HIS file of one hospital and day, plain or gzip, and hands
// each row to emit. What emit was given counts only once ReadDetails has returned
// without an error; each line is its own. A row that repeats another in every
// column is handed on, the same bill number and kind with other content refused.
// The day is that of the cashier closes; a file without rows is of want.Day.
func ReadDetails(r io.Reader, want channels.Expect, emit func(*channels.HISLine) error) (channels.FileSummary, error) {
	d := &reader{want: want, sha: sha256.New(), seed: maphash.MakeSeed(), seen: map[uint64]seenRow{}, hospital: want.Hospital, day: want.Day}
	text, err := channels.Gunzip(io.TeeReader(r, d.sha))
	if err != nil {
		return channels.FileSummary{}, err
	}
	d.lines = channels.NewLines(text)
	if err := d.readRows(emit); err != nil {
		return channels.FileSummary{}, err
	}
	if err := d.checkTotals(); err != nil {
		return channels.FileSummary{}, err
	}
	switch {
	case d.hospital == "":
		return channels.FileSummary{}, channels.Refuse(0, "", "a file without rows names no hospital: say which (--hospital)")
	case d.day == 0:
		return channels.FileSummary{}, channels.Refuse(0, "", "a file without rows names no day: say which (--day)")
	}
	return channels.FileSummary{
		Hospital: d.hospital, Day: d.day, Rows: d.rows,
		Totals: map[string]int64{
			"payments": d.payments, "refunds": d.refunds, "pay_amount": int64(d.paid), "refund_amount": int64(d.refunded),
		},
	}, nil
}

func (d *reader) refuse(column, rule string, args ...any) error {
	return channels.Refuse(d.lines.Number(), column, rule, args...)
}

func (d *reader) readRows(emit func(*channels.HISLine) error) error {
	for d.lines.Next() {
		text := d.lines.Text()
		if d.lines.Number() == 1 {
			if d.isJSON = bytes.HasPrefix(text, []byte("{")) || bytes.HasPrefix(text, []byte("#")); !d.isJSON {
				if err := d.bind(text); err != nil {
					return err
				}
				continue
			}
		}
		switch {
		case len(text) == 0:
			return d.lines.Rest()
		case text[0] == '#':
			if err := d.readTrailer(string(text)); err != nil {
				return err
			}
			return d.lines.Rest()
		}
		line, err := d.readRow(text)
		if err != nil {
			return err
		}
		if err := emit(line); err != nil {
			return err
		}
	}
	if d.lines.Number() == 0 && d.lines.Err() == nil {
		return channels.Refuse(0, "", "the file is empty")
	}
	return d.lines.Err()
}

func (d *reader) bind(text []byte) error {
	names, err := d.splitCSV(text)
	if err != nil {
		return err
	}
	if d.cols, err = channels.BindColumns(d.lines.Number(), names, hisColumns); err != nil {
		return err
	}
	return d.cols.Need(needed...)
}

func (d *reader) readRow(text []byte) (*channels.HISLine, error) {
	if !utf8.Valid(text) {
		return nil, d.refuse("", "the file is not UTF-8")
	}
	read := d.readCSV
	if d.isJSON {
		read = d.readJSON
	}
	if err := read(text); err != nil {
		return nil, err
	}
	for slot, value := range d.row {
		if len(value) > 256 || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, d.refuse(hisColumns[slot].Name, "a value has at most 256 bytes and no control characters")
		}
	}
	line := &channels.HISLine{
		Row: d.lines.Number(), Hospital: d.row[colHospital], BillNo: d.row[colBillNo], Channel: d.row[colChannel],
		OrderNo: d.row[colOrderNo], RefundNo: d.row[colRefundNo], Operator: d.row[colOperator], BizType: d.row[colBizType],
		Tender: d.row[colTender], ReceiptNo: d.row[colReceiptNo], CloseNo: d.row[colCloseNo],
		OriginalBillNo: d.row[colOriginal], Patient: d.row[colPatient],
	}
	for _, check := range []func(*channels.HISLine) error{d.checkHospital, d.checkKind, d.checkTime, d.checkRepeat, d.count} {
		if err := check(line); err != nil {
			return nil, err
		}
	}
	return line, nil
}

func (d *reader) checkHospital(line *channels.HISLine) error {
	if d.hospital == "" {
		d.hospital = line.Hospital
	}
	switch {
	case line.Hospital == "":
		return d.refuse("hospital", "is empty")
	case line.Hospital != d.hospital:
		return d.refuse("hospital", "%q: the file is of hospital %s", line.Hospital, d.hospital)
	case line.BillNo == "":
		return d.refuse("his_bill_no", "is empty")
	}
	return nil
}

// checkKind reads what the row is and how much. Tenders that are no channel come
// as CASH, POS or nothing: the desk needs to see them, matching does not.
func (d *reader) checkKind(line *channels.HISLine) error {
	switch line.Channel {
	case channels.WeChat, channels.Alipay, channels.UnionPay, "CASH", "POS", "":
	default:
		return d.refuse("channel", "%q is none of WECHAT, ALIPAY, UNIONPAY, CASH, POS", line.Channel)
	}
	switch line.Kind = channels.Kind(d.row[colKind]); {
	case line.Kind != channels.Pay && line.Kind != channels.Refund:
		return d.refuse("kind", "%q is neither PAY nor REFUND", d.row[colKind])
	case line.Kind == channels.Pay && line.RefundNo != "":
		return d.refuse("refund_no", "is empty on a payment, not %q", line.RefundNo)
	}
	fen, err := strconv.ParseUint(d.row[colAmount], 10, 63)
	if err != nil || fen == 0 || ledger.Money(fen) > channels.MaxAmount {
		return d.refuse("amount_fen", "%q is not a whole number of fen above zero", d.row[colAmount])
	}
	line.Amount = ledger.Money(fen)
	return nil
}

// checkTime reads the time and the day that the row counts on: the date in the
// number of the cashier close, else that of the time.
func (d *reader) checkTime(line *channels.HISLine) error {
	at, err := time.ParseInLocation(time.DateTime, d.row[colAt], ledger.Beijing)
	if err != nil || len(d.row[colAt]) != len(time.DateTime) {
		return d.refuse("occurred_at", "%q is not a time like 2026-09-15 08:00:00", d.row[colAt])
	}
	line.At = at
	day := ledger.DayOf(at)
	if line.CloseNo != "" {
		if line.CloseNo != d.closeNo {
			d.closeNo, d.closeDay = line.CloseNo, closeDay(line.CloseNo)
		}
		if day = d.closeDay; day == 0 {
			return d.refuse("close_no", "%q holds no date as C03-20260915-1 does", line.CloseNo)
		}
	}
	if d.day == 0 {
		d.day = day
	}
	if day != d.day {
		return d.refuse("close_no", "the row counts on %s, the file is of %s", day, d.day)
	}
	return nil
}

// closeDay returns the date inside a close number, 0 where there is none.
func closeDay(no string) ledger.Day {
	for part := range strings.SplitSeq(no, "-") {
		if len(part) != 8 {
			continue
		}
		if day, err := ledger.ParseDay(part); err == nil {
			return day
		}
	}
	return 0
}

func (d *reader) checkRepeat(line *channels.HISLine) error {
	var h maphash.Hash
	h.SetSeed(d.seed)
	for _, text := range [...]string{line.Hospital, string(line.Kind), line.BillNo} {
		writeText(&h, text)
	}
	key := h.Sum64()
	h.Reset()
	for _, value := range d.row {
		writeText(&h, value)
	}
	row := seenRow{content: h.Sum64(), line: d.lines.Number()}
	first, repeated := d.seen[key]
	if !repeated {
		d.seen[key] = row
	} else if first.content != row.content {
		return d.refuse("his_bill_no", "%s of bill %s is in line %d already, with other content", line.Kind, line.BillNo, first.line)
	} else if line.Kind == channels.Pay {
		d.again += line.Amount
	} else {
		d.again -= line.Amount
	}
	return nil
}

func writeText(h *maphash.Hash, text string) {
	// Neither write of a maphash can fail; a value holds no control character.
	_, _ = h.WriteString(text)
	_ = h.WriteByte(0)
}

func (d *reader) count(line *channels.HISLine) error {
	d.rows++
	if line.Kind == channels.Pay {
		d.payments++
		d.paid += line.Amount
	} else {
		d.refunds++
		d.refunded += line.Amount
	}
	return nil
}

// readTrailer checks the last line, #rows,pay_fen,refund_fen.
func (d *reader) readTrailer(text string) error {
	parts := strings.Split(text[1:], ",")
	if len(parts) != 3 {
		return d.refuse("", "the last line is #rows,pay_fen,refund_fen, not %q", text)
	}
	for i, c := range []struct {
		name string
		rows int64
	}{{"rows", int64(d.rows)}, {"pay_fen", int64(d.paid)}, {"refund_fen", int64(d.refunded)}} {
		said, err := strconv.ParseInt(parts[i], 10, 64)
		if err != nil {
			return d.refuse(c.name, "%q is not a whole number", parts[i])
		}
		if said != c.rows {
			return d.refuse(c.name, "the last line says %d, the rows come to %d", said, c.rows)
		}
	}
	d.trailer = true
	return nil
}

// checkTotals compares the rows with what was known of the file beforehand.
func (d *reader) checkTotals() error {
	want := &d.want
	switch {
	case !d.trailer && !want.Counted:
		return channels.Refuse(0, "", "the file has no last line #rows,pay_fen,refund_fen: without it, a manifest or --rows and --sum, a file that was cut off could not be told")
	case !d.trailer && !d.isJSON && !d.lines.Ended():
		return d.refuse("", "the last row has no line end: the file was cut off")
	case want.Counted && want.Rows != d.rows:
		return channels.Refuse(0, "rows", "%d rows were expected, the file has %d", want.Rows, d.rows)
	// HIS knows what it booked: a row that the extract repeats is in its own total once.
	case want.Counted && want.Sum != d.paid-d.refunded && want.Sum != d.paid-d.refunded-d.again:
		return channels.Refuse(0, "sum", "payments less refunds of %d fen were expected, the file has %d", int64(want.Sum), int64(d.paid-d.refunded))
	case want.SHA256 != "" && !strings.EqualFold(want.SHA256, hex.EncodeToString(d.sha.Sum(nil))):
		return channels.Refuse(0, "sha256", "the file is not the one of the manifest")
	}
	return nil
}
