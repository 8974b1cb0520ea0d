// Package alipay reads the bills of Alipay: the zip archives of 业务明细 (trade)
// and 账务明细 (account), each a detail of one or several files and a summary
// (汇总), GBK inside and in the names. They are read row by row in bounded memory
// and checked as a whole: an archive is good or it is refused.
//
// Source of the layouts and rules: files and readers in public, as written down
// in spec/channels.md D.7. Not documented by Alipay, and taken as the samples
// have it: the sign of 服务费, and that each part of a split detail has its own
// header and totals.
package alipay

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// archive is a bill: the parts of its detail in order, and its summary.
type archive struct {
	kind    string // 业务 or 账务
	details []entry
	total   entry
	want    channels.Expect

	// What the first file says and the others must repeat.
	merchant string
	account  string
	day      ledger.Day
}

type entry struct {
	file *zip.File
	name string
	part int
}

func openArchive(r io.ReaderAt, size int64, kind string, want channels.Expect) (*archive, error) {
	files, err := zip.NewReader(source{r}, size)
	if err != nil {
		return nil, damaged(err)
	}
	a := &archive{kind: kind, want: want}
	totals := 0
	for _, f := range files.File {
		e := entry{file: f, name: path.Base(entryName(f.Name))}
		stem, isCSV := strings.CutSuffix(e.name, ".csv")
		i := strings.Index(stem, kind+"明细")
		if !isCSV || i < 0 {
			return nil, channels.Refuse(0, "", "the archive holds %q, which is no part of a bill of %s明细", e.name, kind)
		}
		switch rest := stem[i+len(kind+"明细"):]; {
		case rest == "":
			a.details = append(a.details, e)
		case rest == "(汇总)" || rest == "（汇总）":
			a.total = e
			totals++
		case rest[0] == '_':
			if e.part, err = strconv.Atoi(rest[1:]); err != nil || e.part < 1 {
				return nil, channels.Refuse(0, "", "%q is no name of a part of a detail", e.name)
			}
			a.details = append(a.details, e)
		default:
			return nil, channels.Refuse(0, "", "%q is neither a detail nor a summary", e.name)
		}
	}
	if totals != 1 || len(a.details) == 0 {
		return nil, channels.Refuse(0, "", "the archive needs a %s明细.csv and one %s明细(汇总).csv", kind, kind)
	}
	slices.SortFunc(a.details, func(x, y entry) int { return x.part - y.part })
	for i, e := range a.details {
		if single := len(a.details) == 1 && e.part == 0; !single && e.part != i+1 {
			return nil, channels.Refuse(0, "", "part %d of the detail is missing, or there twice", i+1)
		}
	}
	return a, nil
}

// entryName decodes the name of an entry: GBK bytes without the UTF-8 flag.
func entryName(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	if decoded, err := simplifiedchinese.GB18030.NewDecoder().String(name); err == nil {
		return decoded
	}
	return strconv.QuoteToASCII(name)
}

// source answers what a damaged archive asks for outside of itself.
type source struct{ io.ReaderAt }

func (s source) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, zip.ErrFormat
	}
	return s.ReaderAt.ReadAt(p, offset)
}

// damaged turns the ways in which an archive can be bad into a refusal.
func damaged(err error) error {
	var corrupt flate.CorruptInputError
	if err == io.EOF || errors.Is(err, zip.ErrFormat) || errors.Is(err, zip.ErrChecksum) || errors.Is(err, zip.ErrAlgorithm) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &corrupt) {
		return channels.Refuse(0, "", "the archive is cut off or damaged (%v)", err)
	}
	return err
}

// sheet is one file of an archive while it is read: four lines of comment, a
// header, rows, a closing comment, totals, and the time of export as the last.
type sheet struct {
	lines  *channels.Lines
	cols   *channels.Columns
	fields [][]byte
	day    string // of the bill, "2006-01-02"
	start  time.Time
}

// readSheet opens an entry, checks its head and binds its columns, hands each
// row and each line of totals on, and checks that the file is complete.
func (a *archive) readSheet(e entry, list string, known []channels.Column, row func(*sheet) error, footer func(*sheet, string) error) (err error) {
	defer func() {
		var f *channels.FileError
		if err = damaged(err); errors.As(err, &f) && f.File == "" {
			f.File = e.name
		}
	}()
	content, err := e.file.Open()
	if err != nil {
		return err
	}
	defer func() {
		if closed := content.Close(); err == nil {
			err = closed
		}
	}()
	s := &sheet{lines: channels.NewLines(simplifiedchinese.GB18030.NewDecoder().Reader(content))}
	if err := a.readHead(s, list); err != nil {
		return err
	}
	if err := s.bind(known); err != nil {
		return err
	}
	for s.next() && !bytes.HasPrefix(s.lines.Text(), []byte("#")) {
		if err := s.split(); err != nil {
			return err
		}
		if err := row(s); err != nil {
			return err
		}
	}
	if err := s.lines.Err(); err != nil {
		return err
	}
	if text := s.text(); !strings.HasPrefix(text, "#---") || !strings.Contains(text, list+"列表结束---") {
		return s.refuse("", "the file ends without the line %s列表结束: it was cut off", list)
	}
	return s.readEnd(footer)
}

// readEnd reads the totals up to the line that every whole file ends with.
func (s *sheet) readEnd(footer func(*sheet, string) error) error {
	for s.next() {
		text := s.text()
		if rest, ok := cutColon(text, "#导出时间"); ok {
			if _, err := time.Parse("[2006年01月02日 15:04:05]", rest); err != nil {
				return s.refuse("", "%q is not the time of the export", text)
			}
			return s.lines.Rest()
		}
		if err := footer(s, text); err != nil {
			return err
		}
	}
	if err := s.lines.Err(); err != nil {
		return err
	}
	return s.refuse("", "the file ends without the line 导出时间: it was cut off")
}

// readHead reads title, account, period and the opening comment of the list.
func (a *archive) readHead(s *sheet, list string) error {
	head := [4]string{}
	for i := range head {
		if !s.next() {
			if err := s.lines.Err(); err != nil {
				return err
			}
			return s.refuse("", "the file ends in its head: it was cut off")
		}
		head[i] = s.text()
		var err error
		switch i {
		case 0:
			if head[i] != "#支付宝"+list+"查询" {
				err = s.refuse("", "the first line is #支付宝%s查询, not %q", list, head[i])
			}
		case 1:
			err = a.readAccount(s, head[i])
		case 2:
			err = a.readPeriod(s, head[i])
		case 3:
			if !strings.HasPrefix(head[i], "#---") || !strings.Contains(head[i], list+"列表---") {
				err = s.refuse("", "the fourth line opens the %s列表, not %q", list, head[i])
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *archive) readAccount(s *sheet, text string) error {
	rest, ok := cutColon(text, "#账号")
	no := strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")
	if !ok || rest != "["+no+"]" || !plain([]byte(no)) {
		return s.refuse("账号", "%q names no account", text)
	}
	if a.account == no {
		return nil
	}
	if a.account != "" {
		return s.refuse("账号", "account %s, but the bill is of %s", no, a.account)
	}
	merchant, ok := a.merchantOf(no)
	if !ok {
		return s.refuse("账号", "merchant number %s is not one of %s", no, strings.Join(a.want.MerchantNos, ", "))
	}
	a.account, a.merchant = no, merchant
	return nil
}

// merchantOf finds the merchant number of an account: the PID, in files with the
// suffix 0156. Master data may hold either form; theirs, the first named, is
// what comes out.
func (a *archive) merchantOf(account string) (string, bool) {
	const suffix = "0156"
	pid := account
	if len(account) == 20 {
		pid = strings.TrimSuffix(account, suffix)
	}
	for _, no := range a.want.MerchantNos {
		if no == pid || no == pid+suffix {
			return a.want.Merchant(no)
		}
	}
	return a.want.Merchant(account)
}

// readPeriod reads the day of the bill: from midnight to the next midnight.
func (a *archive) readPeriod(s *sheet, text string) error {
	from, ok := cutColon(text, "#起始日期")
	from, to, both := strings.Cut(from, "]")
	to, named := cutColon(strings.TrimSpace(to), "终止日期")
	start, err := time.ParseInLocation("[2006年01月02日 15:04:05", from, ledger.Beijing)
	end, err2 := time.ParseInLocation("[2006年01月02日 15:04:05]", to, ledger.Beijing)
	if !ok || !both || !named || err != nil || err2 != nil {
		return s.refuse("起始日期", "%q names no period", text)
	}
	day := ledger.DayOf(start)
	if !start.Equal(day.Start()) || !end.Equal(day.Add(1).Start()) {
		return s.refuse("起始日期", "the bill is not of one day: %q", text)
	}
	if a.day == 0 {
		a.day = day
	}
	if a.day != day || (a.want.Day != 0 && a.want.Day != day) {
		return s.refuse("起始日期", "the bill is of %s, not of %s", day, max(a.want.Day, a.day))
	}
	s.day, s.start = day.String(), day.Start()
	return nil
}

func (s *sheet) next() bool { return s.lines.Next() }

func (s *sheet) text() string { return string(bytes.TrimRight(s.lines.Text(), "\t ")) }

func (s *sheet) refuse(column, rule string, args ...any) error {
	return channels.Refuse(s.lines.Number(), column, rule, args...)
}

// bind binds the header. Every column that is read must be there.
func (s *sheet) bind(known []channels.Column) error {
	if !s.next() {
		if err := s.lines.Err(); err != nil {
			return err
		}
		return s.refuse("", "the file ends without its header: it was cut off")
	}
	names := strings.Split(s.text(), ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	var err error
	if s.cols, err = channels.BindColumns(s.lines.Number(), names, known); err != nil {
		return err
	}
	for _, column := range known {
		if column.Slot != channels.Unread {
			if err := s.cols.Need(column.Slot); err != nil {
				return err
			}
		}
	}
	s.fields = make([][]byte, s.cols.Len())
	return nil
}

// split cuts a row at its commas, for there is no quoting, and takes off the tab
// that many values end with.
func (s *sheet) split() error {
	line, n := s.lines.Text(), 0
	for more := true; more; n++ {
		var value []byte
		if value, line, more = bytes.Cut(line, []byte(",")); n < len(s.fields) {
			s.fields[n] = bytes.TrimRight(value, "\t ")
		}
	}
	if n != len(s.fields) {
		return s.refuse("", "the row has %d values under %d columns", n, len(s.fields))
	}
	return nil
}

func (s *sheet) field(slot int) []byte { return s.fields[s.cols.At(slot)] }

func (s *sheet) amount(slot int) (ledger.Money, error) {
	m, err := ledger.ParseYuan(s.field(slot))
	if err != nil {
		return 0, s.refuse(s.cols.Name(slot), "%v", err)
	}
	if m > 1000*channels.MaxAmount || m < -1000*channels.MaxAmount {
		return 0, s.refuse(s.cols.Name(slot), "%s yuan is more than an account can hold", m)
	}
	return m, nil
}

func (s *sheet) count(slot int) (int64, error) {
	n, err := strconv.ParseInt(string(s.field(slot)), 10, 64)
	if err != nil || n < 0 {
		return 0, s.refuse(s.cols.Name(slot), "%q is not a count", s.field(slot))
	}
	return n, nil
}

// number reads a number of 1 to 64 printable characters; empty only if it may be.
func (s *sheet) number(slot int, empty bool) (string, error) {
	text := s.field(slot)
	if !plain(text) && (len(text) > 0 || !empty) {
		return "", s.refuse(s.cols.Name(slot), "%q is not a number of 1 to 64 letters, digits and signs", text)
	}
	return string(text), nil
}

// time reads "2006-01-02 15:04:05" of the bill's day, Beijing time.
func (s *sheet) time(slot int) (time.Time, error) {
	text := string(s.field(slot))
	if !strings.HasPrefix(text, s.day) {
		return time.Time{}, s.refuse(s.cols.Name(slot), "%q is not on %s, the day of the bill", text, s.day)
	}
	at, err := time.ParseInLocation(time.DateTime, text, ledger.Beijing)
	if err != nil || len(text) != len(time.DateTime) {
		return time.Time{}, s.refuse(s.cols.Name(slot), "%q is not a time like 2026-09-15 08:00:00", text)
	}
	return at, nil
}

func plain(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(b) >= 1 && len(b) <= 64
}

// cutColon returns what follows the label and a full-width or half-width colon.
func cutColon(text, label string) (string, bool) {
	rest, ok := strings.CutPrefix(text, label)
	if !ok {
		return "", false
	}
	for _, colon := range []string{"：", ":"} {
		if after, ok := strings.CutPrefix(rest, colon); ok {
			return after, true
		}
	}
	return "", false
}

// same refuses a total that is not what the rows come to.
func same[T ledger.Money | int64](s *sheet, column string, said, rows T) error {
	if said != rows {
		return s.refuse(column, "the file says %s, the rows come to %s", fmt.Sprint(said), fmt.Sprint(rows))
	}
	return nil
}
