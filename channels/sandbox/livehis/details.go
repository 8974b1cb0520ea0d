package livehis

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/ledger"
)

// readyAfter is how long after midnight the details of the day before are there.
const readyAfter = 30 * time.Minute

// line is a row of the details, by the names of the neutral file.
type line struct {
	Hospital  string `json:"hospital"`
	BillNo    string `json:"his_bill_no"`
	Kind      string `json:"kind"`
	Channel   string `json:"channel"`
	OrderNo   string `json:"order_no"`
	RefundNo  string `json:"refund_no"`
	AmountFen int64  `json:"amount_fen"`
	At        string `json:"occurred_at"`
	Operator  string `json:"operator"`
	BizType   string `json:"biz_type"`
	Tender    string `json:"tender"`
	ReceiptNo string `json:"receipt_no"`
	CloseNo   string `json:"close_no"`
	Original  string `json:"original_bill_no"`
	Patient   string `json:"patient_ref"`
}

// lineOf is how a booking or void stands in the details; false where it does not.
func (r row) line(day ledger.Day) (l line, there bool) {
	b, at, spoilt := r.b, r.b.Booked, r.b.blemish
	l = line{Hospital: b.Hospital, BillNo: b.No, Kind: string(channels.Pay), Channel: b.Tender, OrderNo: b.Order, AmountFen: b.Fen, Operator: b.Operator,
		BizType: b.Biz, ReceiptNo: receiptNo(b.Receipt), Original: b.Original, Patient: b.Patient}
	if b.Refund {
		l.Kind = string(channels.Refund)
	}
	if v := r.v; v != nil {
		at, spoilt = v.At, v.blemish
		l.Kind, l.BillNo, l.RefundNo, l.AmountFen = string(channels.Refund), v.no(), v.RefundNo, v.Fen
		l.Operator, l.ReceiptNo, l.Original = cmp.Or(v.Operator, b.Operator), receiptNo(v.Receipt), b.No
	}
	l.AmountFen += spoilt.MoreFen
	when := time.Unix(at, 0).In(ledger.Beijing)
	l.CloseNo = "C01-" + ledger.DayOf(when).Compact() + "-1"
	if spoilt.NextDay {
		l.CloseNo = "C01-" + ledger.DayOf(when).Add(1).Compact() + "-1"
	}
	if spoilt.AsCash {
		l.Channel, l.OrderNo, l.RefundNo = "CASH", "", ""
	}
	if spoilt.Unkeyed {
		l.OrderNo, l.RefundNo, l.Original, l.BillNo = "", "", "", "X"+l.BillNo
	}
	l.At, l.Tender = when.Format(time.DateTime), l.Channel
	return l, !spoilt.Missing && spoilt.NextDay == (dayOf(at) != day)
}

// details writes a day's file: JSON lines and their totals, under the lock.
func (h *hospital) details(day ledger.Day) ([]byte, error) {
	var file bytes.Buffer
	out := json.NewEncoder(&file)
	out.SetEscapeHTML(false)
	var rows, paid, refunded int64
	for _, d := range []ledger.Day{day.Add(-1), day} {
		for _, r := range h.rows[d] {
			l, there := r.line(day)
			if !there {
				continue
			}
			times := 1
			if r.v == nil && r.b.Twice || r.v != nil && r.v.Twice {
				times = 2
			}
			for range times {
				if err := out.Encode(l); err != nil {
					return nil, err
				}
				rows++
				if l.Kind == string(channels.Pay) {
					paid += l.AmountFen
				} else {
					refunded += l.AmountFen
				}
			}
		}
	}
	fmt.Fprintf(&file, "#%d,%d,%d\n", rows, paid, refunded)
	return file.Bytes(), nil
}

// serveDetails answers with a day's file, 404 before it is made.
func (s *Server) serveDetails(w http.ResponseWriter, r *http.Request) {
	c := s.enter(w, r)
	if c == nil {
		return
	}
	day, err := ledger.ParseDay(r.FormValue("day"))
	if err != nil || r.FormValue("hospital") != c.h.Code {
		http.Error(w, "day or hospital cannot be read", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	f := s.take("details", &his.Request{Hospital: c.h.Code})
	file, err := c.h.details(day)
	s.mu.Unlock()
	if f == nil {
		f = &Fault{}
	}
	switch {
	case control.Strike(w, r, f.Do, f.Millis):
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case f.Do == control.Error || s.cfg.Now().Before(day.Add(1).Start().Add(readyAfter)):
		http.Error(w, "not made yet", http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "application/x-ndjson")
		s.sign(w, c, f, his.BodySum(file))
		if f.Do == control.Garbage {
			file = file[:len(file)/2]
		}
		_, _ = w.Write(file) // a client that went away is no fault of ours
	}
}
