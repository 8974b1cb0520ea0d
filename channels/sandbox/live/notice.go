package live

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/alipay"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

// retries are the plans by which a notice is sent again until it is taken, in
// seconds (spec/channels.md A.2, D.6).
var retries = map[string][]int64{
	channels.WeChat: {15, 15, 30, 180, 1800, 1800, 1800, 1800, 3600},
	channels.Alipay: {240, 600, 600, 3600, 7200, 21_600, 54_000},
}

// notice is one notice on its way, with its image in the journal. What it says is
// written when it is sent.
type notice struct {
	ID       int64  `json:"id"`
	Merchant string `json:"m"`
	Order    string `json:"o"`
	Refund   string `json:"r,omitempty"` // key of the refund
	URL      string `json:"url"`
	Tries    int    `json:"tries"`
	Next     int64  `json:"next"`
	Done     bool   `json:"done,omitempty"`
	Forged   bool   `json:"forged,omitempty"` // what is sent is wrongly signed
	Foreign  bool   `json:"foreign,omitempty"`
	Probe    bool   `json:"probe,omitempty"` // its signature must be refused (C.2): v3
}

// announce queues the notice of a payment or refund, under the lock.
func (s *Server) announce(m *merchant, o *order, r *refund, at int64) {
	n := notice{Merchant: m.No, Order: o.No, URL: o.Notify, Next: at}
	if r != nil {
		n.URL, n.Refund = r.Notify, m.refundKey(r)
	}
	if n.URL == "" {
		return
	}
	if over(o, r) != "" && !s.probed {
		s.probed = true
		probe := n
		probe.Probe = true
		s.queueNotice(probe)
	}
	f := s.take(noticeFaults, "notice", m.No, o.No)
	if f == nil {
		f = byTail(m, "notice", o.Fen, "")
	}
	if f == nil {
		s.queueNotice(n)
		return
	}
	switch f.Do {
	case FaultNoticeLost:
		return
	case FaultNoticeTwice:
		again := n
		again.Next += f.Seconds
		s.queueNotice(again)
	case FaultNoticeLate:
		n.Next += f.Seconds
	case FaultNoticeForged:
		forged := n
		forged.Forged = true
		s.queueNotice(forged)
	case FaultNoticeForeign:
		foreign := n
		foreign.Foreign = true
		s.queueNotice(foreign)
	}
	s.queueNotice(n)
}

func (s *Server) queueNotice(n notice) {
	s.lastNotice++
	n.ID = s.lastNotice
	s.journal.Keep("notice", &n)
	s.applyNotice(&n)
}

func (s *Server) applyNotice(n *notice) {
	s.lastNotice = max(s.lastNotice, n.ID)
	delete(s.notices, n.ID)
	if !n.Done {
		s.notices[n.ID] = n
		heap.Push(&s.due, due{at: n.Next, n: n})
	}
}

// send sends a notice once and keeps when it goes out again.
func (s *Server) send(ctx context.Context, n *notice) {
	s.mu.Lock()
	w := s.wording(n)
	s.mu.Unlock()
	compose, isTaken := composeV2, takenV2
	switch {
	case w.m.Channel == channels.Alipay:
		compose, isTaken = s.composeAlipay, takenAlipay
	case over(&w.o, w.r) != "":
		compose, isTaken = s.composeV3, takenV3
	}
	request, err := compose(ctx, w)
	taken := false
	if err == nil {
		taken = s.post(request, isTaken)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	image := *n
	image.Tries++
	if image.Done = taken || n.Forged || n.Foreign || n.Probe || image.Tries > len(retries[w.m.Channel]); !image.Done {
		image.Next = s.cfg.Now().Unix() + retries[w.m.Channel][image.Tries-1]
	}
	s.journal.Keep("notice", &image)
	s.applyNotice(&image)
}

// wording is what a notice tells, as it stands when it is sent: copies, so that
// signing needs no lock.
type wording struct {
	n    *notice
	m    *merchant
	o    order
	r    *refund // nil of a payment
	back int64   // given back up to this refund, in fen
}

// over says how the call that a notice is about came: "" is V2.
func over(o *order, r *refund) v3Mode {
	if r != nil {
		return r.V3
	}
	return o.V3
}

// wording gathers what a notice tells, under the lock.
func (s *Server) wording(n *notice) *wording {
	m := s.merchants[n.Merchant]
	w := &wording{n: n, m: m, o: *m.orders[n.Order]}
	if r := m.refunds[n.Refund]; r != nil {
		image := *r
		image.order, w.r = &w.o, &image
		for _, other := range w.o.refunds {
			if other.State == refundDone && other.Seq <= r.Seq {
				w.back += other.Fen
			}
		}
	}
	return w
}

// post sends and says whether the merchant took the notice.
func (s *Server) post(request *http.Request, taken func(body []byte) bool) bool {
	answer, err := s.client.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil || answer.StatusCode/100 != 2 {
		return false
	}
	return taken(body)
}

func takenV2(body []byte) bool {
	said, err := wechat.ParseXML(body)
	return err == nil && said["return_code"] == "SUCCESS"
}

func composeV2(ctx context.Context, w *wording) (*http.Request, error) {
	m, n, o, r := w.m, w.n, &w.o, w.r
	if n.Foreign {
		other := *m
		other.No, m = "1999999999", &other
	}
	key := m.keys.v2
	if n.Forged {
		key = "forged-key-forged-key-forged-key"
	}
	message := wechat.Message{"return_code": "SUCCESS", "return_msg": "OK", "appid": o.App, "mch_id": m.No, "nonce_str": nonce()}
	if r != nil {
		plain := refundNotice(o, r)
		message["req_info"] = wechat.SealRefund(plain.XML(), key)
	} else {
		paidFields(message, o)
		message["result_code"] = "SUCCESS"
		message["sign"] = message.Sign(o.signType(), key)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL, bytes.NewReader(message.XML()))
	if err == nil {
		request.Header.Set("Content-Type", "text/xml")
	}
	return request, err
}

// composeV3 writes a notice of v3: sealed under the APIv3 key and signed.
func (s *Server) composeV3(ctx context.Context, w *wording) (*http.Request, error) {
	n, o, m := w.n, w.o, w.m
	if n.Foreign {
		o.Merchant = "1999999999"
	}
	plain, event, kind := transaction(&o), "TRANSACTION.SUCCESS", "transaction"
	if w.r != nil {
		r := *w.r
		r.order = &o
		plain, kind = refundRecord(&r), "refund"
		for name, value := range ofWhom(&o) {
			plain[name] = value
		}
		plain["refund_status"], event = plain["status"], "REFUND."+string(r.State)
		delete(plain, "status")
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return nil, err
	}
	resource, err := wechat.Seal(kind, kind, nonce()[:12], m.keys.v3, text)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(node{"id": nonce(), "create_time": rfc3339(s.cfg.Now().Unix()), "resource_type": "encrypt-resource", "event_type": event,
		"summary": event, "resource": resource})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	signed := body
	if n.Forged {
		signed = append(bytes.Clone(body), ' ')
	}
	err = s.signV3(request.Header, m, over(&w.o, w.r), signed)
	if n.Probe {
		request.Header.Set(wechat.HeaderSignature, wechat.ProbePrefix+request.Header.Get(wechat.HeaderSignature))
	}
	return request, err
}

func takenV3([]byte) bool { return true } // any 2xx is

// composeAlipay writes a notice: a form whose signature leaves sign and sign_type
// out. A refund has no notice of its own kind: the payment's tells it (D.6).
func (s *Server) composeAlipay(ctx context.Context, w *wording) (*http.Request, error) {
	o := &w.o
	p := url.Values{}
	for name, value := range map[string]string{
		"notify_time": beijing(s.cfg.Now().Unix()), "notify_type": "trade_status_sync", "notify_id": noticeID(w), "charset": "utf-8", "version": "1.0",
		"sign_type": "RSA2", "app_id": o.App, "auth_app_id": o.App, "seller_id": w.m.pid(), "trade_no": o.tradeNo(), "out_trade_no": o.No, "subject": o.Subject,
		"gmt_create": beijing(o.Created), "gmt_payment": beijing(o.Paid), "trade_status": "TRADE_SUCCESS", "total_amount": yuanText(o.Fen),
		"receipt_amount": yuanText(o.Fen), "invoice_amount": yuanText(o.Fen), "buyer_pay_amount": yuanText(o.Fen), "point_amount": "0.00",
		"buyer_logon_id": logonID(o), "passback_params": o.Attach, "fund_bill_list": `[{"amount":"` + yuanText(o.Fen) + `","fundChannel":"ALIPAYACCOUNT"}]`,
	} {
		if value != "" {
			p.Set(name, value)
		}
	}
	name, id := o.buyer()
	p.Set(strings.Replace(name, "_user_id", "_id", 1), id)
	if w.r != nil {
		p.Set("out_biz_no", w.r.No)
		p.Set("refund_fee", yuanText(w.back))
		p.Set("gmt_refund", beijing(w.r.Done)+".000")
		if w.back >= o.Fen {
			p.Set("trade_status", "TRADE_CLOSED")
			p.Set("gmt_close", beijing(w.r.Done))
		}
	}
	key := s.keys.alipay.key
	if w.n.Forged {
		key = w.m.keys.key
	}
	if w.n.Foreign {
		p.Set("seller_id", "2088999999999999")
		p.Set("app_id", "2021999999999999")
	}
	sign, err := alipay.Sign(key, alipay.NoticeString(p))
	if err != nil {
		return nil, err
	}
	p.Set("sign", sign)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.n.URL, strings.NewReader(p.Encode()))
	if err == nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	}
	return request, err
}

func noticeID(w *wording) string {
	return fmt.Sprintf("%s00222%020d", ledger.DayOf(time.Unix(w.o.Paid, 0)).Compact(), w.n.ID)
}

// takenAlipay: any answer but this very word makes the notice come again.
func takenAlipay(body []byte) bool { return string(body) == "success" }
