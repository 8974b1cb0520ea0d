package live

import (
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

// billSecond is ten o'clock, from when the bills of the day before are there.
const billSecond = 36_000

// serveBill answers downloadbill and downloadfundflow: text or gzip, or an error in
// XML that nobody signs.
func (s *Server) serveBill(w http.ResponseWriter, r *http.Request, fund bool) {
	c, text := s.readV2(r)
	if text != "" {
		write(w, wechat.Message{"return_code": "FAIL", "return_msg": "SIGN ERROR", "error_code": "20001"})
		return
	}
	refuse := func(text, code string) {
		write(w, wechat.Message{"return_code": "FAIL", "return_msg": text, "error_code": code})
	}
	date := c.in["bill_date"]
	day, err := time.ParseInLocation("20060102", date, ledger.Beijing)
	switch {
	case err != nil:
		refuse("data format error", "20001")
		return
	case fund && (!c.cert || c.kind != wechat.SignHMAC):
		refuse("SIGN ERROR", "20001")
		return
	case fund && c.in["account_type"] != "Basic", !fund && c.in["bill_type"] != "" && c.in["bill_type"] != "ALL":
		refuse("invalid bill_type", "20001")
		return
	}
	s.mu.Lock()
	s.advance()
	f := s.take(callFaults, "bill", c.m.No, "")
	s.mu.Unlock()
	switch {
	case f == nil:
	case f.Do == FaultDelay:
		control.Strike(w, r, f.Do, f.Millis)
	default:
		s.answer(w, r, c, f, failed("SYSTEMERROR", "system error"))
		return
	}
	file, err := s.bill(c.m, ledger.DayOf(day), fund)
	switch {
	case err == errCreating:
		refuse("Bill Creating", "20003")
	case err == errNoBill:
		refuse("No Bill Exist", "20002")
	case err != nil:
		refuse("system error", "100")
	default:
		defer file.Close()
		sendFile(w, file, c.in["tar_type"] == "GZIP")
	}
}

func sendFile(w http.ResponseWriter, file io.Reader, packed bool) {
	if !packed {
		_, _ = io.Copy(w, file) // a client that went away is no fault of ours
		return
	}
	w.Header().Set("Content-Type", "application/x-gzip")
	zip := gzip.NewWriter(w)
	_, _ = io.Copy(zip, file)
	_ = zip.Close()
}

var (
	errCreating = fmt.Errorf("%w: the bill is made at ten", ErrRefused)
	errNoBill   = fmt.Errorf("%w: nothing happened that day", ErrRefused)
)

// bill writes a day's bills from the books and opens one of them.
func (s *Server) bill(m *merchant, day ledger.Day, fund bool) (*os.File, error) {
	s.mu.Lock()
	bill, err := s.billOf(m, day)
	s.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case len(bill.Rows) == 0 && (!fund || bill.Opening <= bill.Retained):
		return nil, errNoBill
	}
	dir, err := os.MkdirTemp(s.cfg.Dir, "bill-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is open stays readable
	writeBill := sandbox.WriteWeChatBill
	if m.Channel == channels.Alipay {
		writeBill = sandbox.WriteAlipayBill
	}
	trade, funds, closing, err := writeBill(dir, bill)
	if err != nil {
		return nil, err
	}
	if fund {
		s.mu.Lock()
		books := m.closing(day)
		s.mu.Unlock()
		if books != closing {
			return nil, fmt.Errorf("%w: the fund bill of %s closes at %d fen, the books at %d", ErrRefused, day, closing, books)
		}
		trade = funds
	}
	return os.Open(filepath.Clean(trade))
}

// billOf gathers what a day's bills hold, under the lock.
func (s *Server) billOf(m *merchant, day ledger.Day) (sandbox.Bill, error) {
	if s.cfg.Now().Unix() < day.Add(1).Start().Unix()+billSecond {
		return sandbox.Bill{}, errCreating
	}
	bill := sandbox.Bill{App: m.Apps[0], MerchantNo: m.No, Day: day, Rate: m.rate, Opening: m.closing(day.Add(-1)), Retained: m.RetainedFen}
	for _, r := range slices.Concat(m.rows[day.Add(-1)], m.rows[day]) {
		if b, ok := m.billRow(r, day); ok {
			bill.Rows = append(bill.Rows, b)
		}
	}
	for _, r := range m.closed[day] {
		b, _ := m.billRow(row{r.order, r}, day)
		b.At, b.Closed = int(r.Done-day.Start().Unix()), true
		bill.Rows = append(bill.Rows, b)
	}
	slices.SortStableFunc(bill.Rows, func(a, b sandbox.BillRow) int { return a.At - b.At })
	return bill, nil
}

// billRow is a movement as the bill of a day shows it, or false.
func (m *merchant) billRow(r row, day ledger.Day) (sandbox.BillRow, bool) {
	o := r.o
	b := sandbox.BillRow{Kind: channels.Pay, Order: o.No, Trade: o.tradeNo(), Payer: o.Payer, Product: o.Subject, Way: o.Way, Device: o.Device}
	from := day.Start().Unix()
	if r.r == nil {
		b.Amount, b.Fee = m.billed(o)
		b.At = int(o.Paid - from)
		if o.Midnight {
			b.At = 1
		}
		if o.Restated {
			b.Order, b.Trade = b.Order[:min(10, len(b.Order))]+"9"+b.Order[max(len(b.Order)-7, 0):], b.Trade[:18]+"99"+b.Trade[20:]
		}
		return b, o.billDay() == day && !o.Missing
	}
	b.Kind, b.Refund, b.Back = channels.Refund, r.r.No, r.r.refundID()
	if r.r.Reversal {
		b.Kind = channels.Reverse
	}
	b.Amount, b.Fee = r.r.billed()
	b.At, b.Status = int(r.r.At-from), r.r.status(from+24*3600+billSecond)
	return b, ledger.DayOf(time.Unix(r.r.At, 0)) == day && !r.r.Missing
}

// status is 退款状态 of a refund as it stood when the bill was made: what happens
// later is in no bill (spec/channels.md B.1).
func (r *refund) status(made int64) string {
	switch {
	case r.Applied > made && r.Abnormal <= made:
		return "CHANGE"
	case r.State == refundProcessing || r.Done > made:
		return "PROCESSING"
	case r.State == refundAbnormal:
		return "CHANGE"
	case r.State == refundClosed:
		return "FAIL"
	}
	return ""
}

// billSeconds is how long the address of a bill is good.
const billSeconds = 300

// heldBill is the text of a bill behind an address that was handed out.
type heldBill struct {
	m      *merchant
	file   *os.File
	packed bool
	until  int64
}

// serveV3Bill makes a bill and answers with its hash and address.
func (s *Server) serveV3Bill(w http.ResponseWriter, r *http.Request, fund bool) {
	c, wrong := s.readV3(r)
	if wrong != nil {
		s.writeV3(w, nil, *wrong, false)
		return
	}
	s.mu.Lock()
	s.advance()
	f := s.take(callFaults, "bill", c.m.No, "")
	s.mu.Unlock()
	if f == nil {
		f = &Fault{}
	}
	said := s.v3Bill(c, r, fund)
	if !control.Strike(w, r, f.Do, f.Millis) {
		s.answerV3(w, c, f, *said)
	}
}

func (s *Server) v3Bill(c *v3Call, r *http.Request, fund bool) *v3Answer {
	q := r.URL.Query()
	day, err := ledger.ParseDay(q.Get("bill_date"))
	kind, account, packing := q.Get("bill_type"), q.Get("account_type"), q.Get("tar_type")
	if err != nil || !fund && kind != "" && kind != "ALL" || fund && account != "" && account != "BASIC" || packing != "" && packing != "GZIP" {
		return refusal("PARAM_ERROR", "参数错误")
	}
	file, err := s.bill(c.m, day, fund)
	switch {
	case errors.Is(err, errCreating):
		return refusal("STATEMENT_CREATING", "账单生成中，请先检查当前商户号在指定日期内是否有成功的交易")
	case errors.Is(err, errNoBill):
		return refusal("NO_STATEMENT_EXIST", "请求的账单文件不存在")
	case err != nil:
		return refusal("SYSTEM_ERROR", "系统错误")
	}
	sum := sha1.New()
	if _, err := io.Copy(sum, file); err != nil {
		return refusal("SYSTEM_ERROR", "系统错误")
	}
	token := nonce()
	s.hold(token, &heldBill{c.m, file, packing != "", c.now + billSeconds})
	return &v3Answer{http.StatusOK, node{"hash_type": "SHA1", "hash_value": hex.EncodeToString(sum.Sum(nil)),
		"download_url": s.Addresses.WeChat + "/v3/billdownload/file?token=" + token}}
}

// hold keeps a bill's text for whoever has its address, and lets those go whose
// time is over.
func (s *Server) hold(token string, b *heldBill) {
	now := s.cfg.Now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, held := range s.bills {
		if held.until < now {
			delete(s.bills, old)
			_ = held.file.Close() // only read
		}
	}
	s.bills[token] = b
}

// serveV3File hands out a bill. The answer is not signed: its hash was.
func (s *Server) serveV3File(w http.ResponseWriter, r *http.Request) {
	c, wrong := s.readV3(r)
	if wrong != nil {
		s.writeV3(w, nil, *wrong, false)
		return
	}
	s.mu.Lock()
	held := s.bills[r.URL.Query().Get("token")]
	s.mu.Unlock()
	if held == nil || held.m != c.m || held.until < c.now {
		s.writeV3(w, c, *refusal("INVALID_REQUEST", "下载地址已失效"), false)
		return
	}
	size, err := held.file.Stat()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	sendFile(w, io.NewSectionReader(held.file, 0, size.Size()), held.packed)
}

// addressSeconds is how long the address of a bill is good.
const addressSeconds = 30

// billAddress answers where the archive of a day lies. Of a day whose bill is not
// made yet Alipay says the same as of one without trades.
func (s *Server) billAddress(r *request) node {
	kind, date := r.text("bill_type"), r.text("bill_date")
	day, err := ledger.ParseDay(date)
	switch {
	case kind != "trade" && kind != "signcustomer":
		return refuses("isv.invalid_arguments", "bill_type无效")
	case err != nil || day >= ledger.DayOf(time.Unix(r.now, 0)):
		return refuses("isv.invalid_arguments", "入参不合法")
	}
	bill, err := s.billOf(r.m, day)
	if err != nil || len(bill.Rows) == 0 && (kind == "trade" || bill.Opening <= bill.Retained) {
		return refuses("isp.bill_not_exist", "账单不存在")
	}
	user := r.m.pid() + "0156"
	at := strconv.FormatInt(r.now, 10)
	q := url.Values{"bizType": {kind}, "userId": {user}, "fileType": {"csv.zip"}, "bizDates": {day.Compact()}, "timestamp": {at},
		"downloadFileName": {user + "_" + day.Compact() + ".csv.zip"}, "fileId": {"/" + kind + "/" + day.Compact()}, "token": {s.billToken(r.m, kind, day.Compact(), at)}}
	n := said("10000", "", "")
	n["bill_download_url"] = s.Addresses.Alipay + "/downloadBillFile.resource?" + q.Encode()
	return n
}

// billToken makes an address good for one bill only.
func (s *Server) billToken(m *merchant, kind, day, at string) string {
	h := hmac.New(sha256.New, []byte(m.keys.alipay.content))
	h.Write([]byte(kind + " " + day + " " + at))
	return hex.EncodeToString(h.Sum(nil))
}

// serveArchive hands out an archive whose address is still good.
func (s *Server) serveArchive(w http.ResponseWriter, in *http.Request) {
	q := in.URL.Query()
	kind, date, at := q.Get("bizType"), q.Get("bizDates"), q.Get("timestamp")
	made, err := strconv.ParseInt(at, 10, 64)
	m := s.merchants[q.Get("userId")]
	if m == nil && len(q.Get("userId")) == 20 {
		m = s.merchants[q.Get("userId")[:16]]
	}
	day, err2 := time.ParseInLocation("20060102", date, ledger.Beijing)
	if err != nil || err2 != nil || m == nil || !hmac.Equal([]byte(q.Get("token")), []byte(s.billToken(m, kind, date, at))) || s.cfg.Now().Unix() > made+addressSeconds {
		http.Error(w, "<html>the address is no longer good</html>", http.StatusForbidden)
		return
	}
	file, err := s.bill(m, ledger.DayOf(day), kind == "signcustomer")
	if err != nil {
		http.Error(w, "<html>no such bill</html>", http.StatusNotFound)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+m.pid()+"0156_"+date+`.csv.zip"`)
	sendFile(w, file, false)
}
