package sandbox

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/clearward/clearward/channels"
	"golang.org/x/text/encoding/simplifiedchinese"
)

// tableFile is a text file being written, with what the plan says of it.
type tableFile struct {
	File
	out  *os.File
	over io.Closer // what stands between the buffer and the file, such as gzip
	*bufio.Writer
}

// create opens a file of the day.
func (g *generator) create(name string, meta File) (*tableFile, error) {
	meta.Path = filepath.Join(g.folder(), name)
	f, err := os.Create(filepath.Join(g.dir, meta.Path))
	if err != nil {
		return nil, fmt.Errorf("sandbox file: %w", err)
	}
	return &tableFile{File: meta, out: f, Writer: bufio.NewWriterSize(f, 64<<10)}, nil
}

// close writes what is left; an error of any earlier write comes out here.
func (t *tableFile) close() error {
	err := t.Flush()
	if err == nil && t.over != nil {
		err = t.over.Close()
	}
	if err == nil {
		err = t.out.Close()
	}
	if err != nil {
		return fmt.Errorf("sandbox file %s: %w", t.Path, err)
	}
	return nil
}

// put hands a line, built in the writer's own buffer, to the writer. Its error
// stays with the writer until close.
func (t *tableFile) put(line []byte) { _, _ = t.Write(line) }

func (t *tableFile) count(pay bool, fen int64) {
	t.Rows++
	if pay {
		t.PayFen += fen
	} else {
		t.RefundFen += fen
	}
}

const platformHeader = "hospital,merchant_no,channel,kind,order_no,refund_no,channel_trade_no,amount_fen,occurred_at,status,his_bill_no,biz_type,terminal,settle_fen,channel_success_at,patient_ref\n"

func (g *generator) writePlatform(u *unit) {
	l := &u.platform
	b := g.platform.AvailableBuffer()
	b = fields(b, l.m.hospital.code, l.m.no, l.m.channel, string(u.kind), u.order)
	if u.kind == channels.Refund {
		b = append(b, u.refund...)
	}
	b = append(b, ',')
	if u.tradeNoOf && (!l.failed || u.channel.present) {
		b = append(b, u.trade...)
	}
	b = append(b, ',')
	b = append(strconv.AppendInt(b, l.amount, 10), ',')
	b = append(g.appendTime(b, l.at), ',')
	status := "SUCCESS"
	if l.failed {
		status = "FAILED"
	}
	b = fields(b, status, l.bill, u.biz.code, u.entry.terminal)
	if !l.failed {
		b = strconv.AppendInt(b, l.settle, 10)
	}
	b = append(b, ',')
	if !l.failed && !l.withoutAnswer {
		b = g.appendTime(b, l.channelAt)
	}
	b = append(b, ',')
	b = append(b, u.patient...)
	g.platform.put(append(b, '\n'))
	g.platform.count(u.pays(), l.amount)
}

// fields appends texts, each followed by a comma.
func fields(b []byte, texts ...string) []byte {
	for _, t := range texts {
		b = append(append(b, t...), ',')
	}
	return b
}

const hisHeader = "hospital,his_bill_no,kind,channel,order_no,refund_no,amount_fen,occurred_at,operator,biz_type,tender,receipt_no,close_no,original_bill_no,patient_ref\n"

// hisFile is one hospital's charge details of a day.
type hisFile struct{ *tableFile }

// hisRow is one row as it is written.
type hisRow struct {
	pay            bool
	bill, original string
	fen            int64
}

// write writes a unit as HIS tells it: one row, one per bill, or a void and a
// new charge; a repeated one twice, equal in every column.
func (h *hisFile) write(g *generator, u *unit) {
	l := &u.his
	bill := u.bill
	if l.bill != "" {
		bill = l.bill
	}
	original := u.original
	if l.unkeyed && l.bill != "" {
		original = ""
	}
	for i := range l.bills {
		row := hisRow{u.pays(), bill, original, l.parts[i]}
		if l.bills > 1 {
			row.bill += string(rune('A' + i))
		}
		g.count.receipt++
		h.row(g, u, row)
		if l.repeated {
			h.row(g, u, row)
		}
	}
	if l.recharge > 0 {
		g.count.receipt++
		h.row(g, u, hisRow{true, bill + "N", original, l.recharge})
	}
}

func (h *hisFile) row(g *generator, u *unit, row hisRow) {
	l := &u.his
	kind, tender := "REFUND", l.tender
	if row.pay {
		kind = "PAY"
	}
	if tender == "" {
		tender = u.meant.channel
	}
	b := fields(h.AvailableBuffer(), l.hospital.code, row.bill, kind, tender)
	if !l.unkeyed {
		b = append(b, u.order...)
	}
	b = append(b, ',')
	if !l.unkeyed && !l.parent && !row.pay {
		b = append(b, u.refund...)
	}
	b = append(b, ',')
	b = append(strconv.AppendInt(b, row.fen, 10), ',')
	b = append(g.appendTime(b, l.at), ',')
	window := u.at%12 + 1
	b = append(b, 'C')
	b = append(appendDigits(b, uint64(window), 2), ',')
	b = fields(b, u.biz.code, tender)
	b = append(appendDigits(append(b, "26"...), uint64(g.count.receipt), 8), ',', 'C')
	b = append(appendDigits(b, uint64(window), 2), '-')
	b = append(b, g.compact(l.close)...)
	b = append(b, '-', closeOf(l, g.index), ',')
	b = append(append(b, row.original...), ',')
	if !l.unknown {
		b = append(b, u.patient...)
	}
	h.put(append(b, '\n'))
	h.count(row.pay, row.fen)
}

// closeOf says which cashier close of the day takes a row: at noon, at six, at
// midnight. What a later day closes comes with its first.
func closeOf(l *hisLeg, today int) byte {
	s := l.at - l.close*daySeconds
	switch {
	case l.close > today || s < 43_200:
		return '1'
	case s < 64_800:
		return '2'
	}
	return '3'
}

// trailer closes the file with its count and sums.
func (h *hisFile) trailer() {
	b := append(h.AvailableBuffer(), '#')
	b = append(strconv.AppendInt(b, int64(h.Rows), 10), ',')
	b = append(strconv.AppendInt(b, h.PayFen, 10), ',')
	h.put(append(strconv.AppendInt(b, h.RefundFen, 10), '\n'))
}

// openFiles opens all files of the day but the bank's, which are small and
// written at the end.
func (g *generator) openFiles() (err error) {
	if g.platform, err = g.create("platform.csv", File{Source: SourcePlatform}); err != nil {
		return err
	}
	g.platform.put([]byte(platformHeader))
	for _, h := range g.hospitals {
		t, err := g.create("his-"+h.code+".csv", File{Source: SourceHIS, Hospital: h.code})
		if err != nil {
			return err
		}
		h.his = &hisFile{t}
		t.put([]byte(hisHeader))
		for _, m := range h.numbers() {
			m.slice = &Slice{Hospital: h.code, Channel: m.channel, MerchantNo: m.no}
			g.day.Slices = append(g.day.Slices, m.slice)
			if m.channel == channels.WeChat {
				m.bill, err = g.openWeChat(m)
			} else {
				m.bill, err = g.openAlipay(m)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// closeFiles ends every file and writes the bank statements, which follow from
// what the fund bills came to.
func (g *generator) closeFiles() error {
	if err := g.platform.close(); err != nil {
		return err
	}
	g.day.Files = append(g.day.Files, g.platform.File)
	for _, h := range g.hospitals {
		h.his.trailer()
		if err := h.his.close(); err != nil {
			return err
		}
		g.day.Files = append(g.day.Files, h.his.File)
		var entries []*statementEntry
		for _, m := range h.numbers() {
			closing, files, err := m.bill.finish()
			if err != nil {
				return err
			}
			g.day.Files = append(g.day.Files, files...)
			entries = append(entries, g.settle(m, closing)...)
		}
		if err := g.writeStatement(h, entries); err != nil {
			return err
		}
	}
	return nil
}

const daySeconds = 24 * 60 * 60

// appendDigits appends n with leading zeros up to the width; a larger n is
// written whole.
func appendDigits(b []byte, n uint64, width int) []byte {
	var digits [20]byte
	text := strconv.AppendUint(digits[:0], n, 10)
	for i := len(text); i < width; i++ {
		b = append(b, '0')
	}
	return append(b, text...)
}

// appendYuan appends fen as yuan with two decimals.
func appendYuan(b []byte, fen int64) []byte {
	if fen < 0 {
		b, fen = append(b, '-'), -fen
	}
	b = strconv.AppendInt(b, fen/100, 10)
	return append(b, '.', byte('0'+fen%100/10), byte('0'+fen%10))
}

func yuan(fen int64) string { return string(appendYuan(nil, fen)) }

// appendTime appends "2026-09-15 08:30:00" for seconds from the first day's
// midnight.
func (g *generator) appendTime(b []byte, at int) []byte {
	b = append(b, g.dates[at/daySeconds]...)
	s := at % daySeconds
	h, m, s := s/3600, s/60%60, s%60
	return append(b, ' ', byte('0'+h/10), byte('0'+h%10), ':', byte('0'+m/10), byte('0'+m%10), ':', byte('0'+s/10), byte('0'+s%10))
}

// gbk is a text in the encoding of Alipay's files. Only the constant texts of
// this package are turned, all of which GBK has.
func gbk(text string) []byte {
	b, err := simplifiedchinese.GBK.NewEncoder().Bytes([]byte(text))
	if err != nil {
		panic("sandbox: " + text + " is not in GBK: " + err.Error())
	}
	return b
}
