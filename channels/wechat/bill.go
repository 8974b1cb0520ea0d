package wechat

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/bits"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// bill is what both bills have in common: a header, rows whose every value
// starts with a backtick, a summary header, one summary row, nothing more.
type bill struct {
	lines  *channels.Lines
	want   channels.Expect
	cols   *channels.Columns
	footer *channels.Columns
	row    cells
	rows   int

	day      ledger.Day
	dayText  string
	dayStart time.Time
}

func (b *bill) open(r io.Reader, want channels.Expect) error {
	text, err := channels.Gunzip(r)
	if err != nil {
		return err
	}
	b.lines, b.want = channels.NewLines(text), want
	if want.Day != 0 {
		b.setDay(want.Day)
	}
	return nil
}

func (b *bill) setDay(day ledger.Day) {
	b.day, b.dayText, b.dayStart = day, day.String(), day.Start()
}

func (b *bill) refuse(column, rule string, args ...any) error {
	return channels.Refuse(b.lines.Number(), column, rule, args...)
}

// bind reads the header line.
func (b *bill) bind(known []channels.Column) (*channels.Columns, error) {
	if !b.lines.Next() {
		if err := b.lines.Err(); err != nil {
			return nil, err
		}
		return nil, channels.Refuse(0, "", "the file is empty")
	}
	var err error
	b.cols, err = channels.BindColumns(b.lines.Number(), strings.Split(string(b.lines.Text()), ","), known)
	if err == nil && b.cols.Len() > maxColumns {
		err = b.refuse("", "a bill has at most %d columns", maxColumns)
	}
	return b.cols, err
}

// nextRow moves to the next row and says whether there is one: what does not
// start with a backtick is the header of the summary.
func (b *bill) nextRow() bool {
	return b.lines.Next() && len(b.lines.Text()) > 0 && b.lines.Text()[0] == '`'
}

// bindSummary reads the summary header, on which nextRow has stopped, and the
// summary row. A file without them was cut off.
func (b *bill) bindSummary(known []channels.Column) error {
	if err := b.lines.Err(); err != nil {
		return err
	}
	text := b.lines.Text()
	if b.lines.Number() == 1 || (len(text) > 0 && text[0] == '`') {
		return b.refuse("", "the file ends without its summary: it was cut off")
	}
	if len(text) == 0 {
		return b.refuse("", "an empty line before the summary")
	}
	var err error
	if b.footer, err = channels.BindColumns(b.lines.Number(), strings.Split(string(text), ","), known); err != nil {
		return err
	}
	if !b.lines.Next() {
		if err := b.lines.Err(); err != nil {
			return err
		}
		return b.refuse("", "the file ends without its summary row: it was cut off")
	}
	if b.row.cut(b.lines.Text()); b.row.count != b.footer.Len() {
		return b.refuse("", "the summary row has %d values under %d columns, each value starts with a backtick", b.row.count, b.footer.Len())
	}
	return nil
}

func (b *bill) said(slot int) []byte { return b.row.at(b.footer.At(slot)) }

// checkCount compares a count of the summary, which may be printed as 20.0.
func (b *bill) checkCount(slot int, rows int64) error {
	if !b.footer.Has(slot) {
		return nil
	}
	said, err := ledger.ParseYuan(b.said(slot))
	if err != nil || said%100 != 0 {
		return b.refuse(b.footer.Name(slot), "%q is not a count", b.said(slot))
	}
	if int64(said/100) != rows {
		return b.refuse(b.footer.Name(slot), "the summary counts %d, the rows are %d", int64(said/100), rows)
	}
	return nil
}

func (b *bill) checkSum(slot int, sum ledger.Money) error {
	if !b.footer.Has(slot) {
		return nil
	}
	said, err := ledger.ParseYuan(b.said(slot))
	if err != nil {
		return b.refuse(b.footer.Name(slot), "%v", err)
	}
	if said != sum {
		return b.refuse(b.footer.Name(slot), "the summary says %s, the rows sum to %s", said, sum)
	}
	return nil
}

// checkEnd refuses a last value that lost a digit and anything after it. Where
// the summary row has its line end it is whole; without one, only the full form
// of its last value shows that nothing is missing.
func (b *bill) checkEnd(decimals int) error {
	last := b.row.at(b.footer.Len() - 1)
	if i := bytes.IndexByte(last, '.'); !b.lines.Ended() && (i < 0 || len(last)-i-1 != decimals) {
		return b.refuse("", "the last value is cut off")
	}
	return b.lines.Rest()
}

// time reads "2006-01-02 15:04:05" of the bill's day, Beijing time. The first row
// names the day where nobody else has.
func (b *bill) time(text []byte, column string) (time.Time, error) {
	if len(text) != 19 || text[10] != ' ' {
		return time.Time{}, b.refuse(column, "%q is not a time like 2026-09-15 08:00:00", text)
	}
	if b.day == 0 {
		day, err := ledger.ParseDay(string(text[:10]))
		if err != nil {
			return time.Time{}, b.refuse(column, "%v", err)
		}
		b.setDay(day)
	}
	if string(text[:10]) != b.dayText {
		return time.Time{}, b.refuse(column, "%s is not on %s, the day of the bill", text, b.dayText)
	}
	since, ok := clock(text[11:])
	if !ok {
		return time.Time{}, b.refuse(column, "%q is not a time like 2026-09-15 08:00:00", text)
	}
	return b.dayStart.Add(since), nil
}

// cut cuts the row into its values.
func (b *bill) cut() error {
	if b.row.cut(b.lines.Text()); b.row.count != b.cols.Len() {
		return b.refuse("", "the row has %d values under %d columns, each value starts with a backtick", b.row.count, b.cols.Len())
	}
	return nil
}

// cells is one line cut into its values: each starts with a backtick, and a
// comma with a backtick separates two, so that a comma inside a value does no
// harm. count is 0 where the line does not start with a backtick.
type cells struct {
	line  []byte
	count int
	start [maxColumns + 2]int32 // of value i; the value ends two bytes before the next
}

// maxColumns bounds the values of a line; the widest layout has 29.
const maxColumns = 32

func (c *cells) at(i int) []byte { return c.line[c.start[i] : c.start[i+1]-2] }

// cut looks for a comma with a backtick eight bytes at a time and gathers what it
// finds in 64: with 27 short values a row, a call or a branch per value costs
// more than the search.
func (c *cells) cut(line []byte) {
	c.line, c.count = line, 0
	if len(line) == 0 || line[0] != '`' {
		return
	}
	start := &c.start
	start[0] = 1
	n, i := 1, 1
	for ; i+64 <= len(line); i += 64 {
		block, before, found := line[i:i+64], line[i-1:i+63], uint64(0)
		for at := 0; at < 64; at += 8 {
			found |= separators(block[at:at+8], before[at:at+8]) << at
		}
		for ; found != 0; found &= found - 1 {
			start[min(n, maxColumns+1)] = int32(i + bits.TrailingZeros64(found) + 1)
			n++
		}
	}
	for ; i+8 <= len(line); i += 8 {
		for found := separators(line[i:i+8], line[i-1:i+7]); found != 0; found &= found - 1 {
			start[min(n, maxColumns+1)] = int32(i + bits.TrailingZeros64(found) + 1)
			n++
		}
	}
	for ; i < len(line); i++ {
		if line[i] == '`' && line[i-1] == ',' {
			start[min(n, maxColumns+1)] = int32(i + 1)
			n++
		}
	}
	start[min(n, maxColumns+1)] = int32(len(line) + 2)
	c.count = n
}

// separators returns a bit for each of the eight bytes that is a backtick after a
// comma; before holds the bytes before them.
func separators(bytes, before []byte) uint64 {
	const ticks, commas, low, gather = 0x6060606060606060, 0x2c2c2c2c2c2c2c2c, 0x7f7f7f7f7f7f7f7f, 0x0102040810204080
	x := binary.LittleEndian.Uint64(bytes) ^ ticks | binary.LittleEndian.Uint64(before) ^ commas
	zero := ^((x&low + low) | x | low) // the high bit of each byte of x that is zero
	return zero >> 7 * gather >> 56
}

// plain says whether b can be a number of a merchant, an order or a refund: 1 to
// 64 printable ASCII characters without a space.
func plain(b []byte) bool { return len(b) >= 1 && len(b) <= 64 && printable(b) }

// printable says whether every byte is in 0x21 … 0x7e.
func printable(b []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		// A byte below 0x21 borrows, one above 0x7e carries into its high bit.
		if ((w-ones*0x21)&^w|(w+ones)|w)&high != 0 {
			return false
		}
	}
	for ; i < len(b); i++ {
		if b[i] <= ' ' || b[i] > '~' {
			return false
		}
	}
	return true
}
