package live

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/clearward/clearward/ledger"
)

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
