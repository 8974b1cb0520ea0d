package live

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

// maxRefunds of one order, and how long after the payment one may be asked for.
const (
	maxRefunds    = 50
	refundSeconds = 365 * 24 * 3600
	reverseSecond = 7 * 24 * 3600
)

// reverse closes an unpaid code payment and gives a paid one back.
func (s *Server) reverse(c *call) out {
	o := s.find(c)
	recall := func(a out, again string) out { a["recall"] = again; return a }
	switch {
	case o == nil: // a payment that never came must not come later
		if no := c.in["out_trade_no"]; orderNumber.MatchString(no) {
			s.putOrder(order{Merchant: c.m.No, No: no, Way: "MICROPAY", State: stateReversed, Created: c.now, App: c.in["appid"]})
			return recall(out{}, "N")
		}
		return recall(failed("PARAM_ERROR", "参数错误"), "N")
	case o.State == stateReversed:
		return recall(out{}, "N")
	case o.Way != "MICROPAY" || o.State == stateClosed || o.State == stateFailed:
		return recall(failed("TRADE_STATE_ERROR", "订单状态错误"), "N")
	case c.now > o.Created+reverseSecond:
		return recall(failed("REVERSE_EXPIRE", "订单无法撤销"), "N")
	case len(o.refunds) > 0:
		return recall(failed("TRADE_ERROR", "订单已退款"), "N")
	}
	paid := o.Paid > 0
	image := *o
	image.State, image.PaysAt = stateReversed, 0
	o = s.putOrder(image)
	if paid {
		fen, fee := c.m.billed(o)
		s.putRefund(refund{Merchant: c.m.No, Order: o.No, No: o.No, Fen: fen, Fee: fee, State: refundDone, At: c.now, Done: c.now, Reversal: true})
	}
	return recall(out{}, "N")
}

func (s *Server) refundOrder(c *call) out {
	fen, err := strconv.ParseInt(c.in["refund_fee"], 10, 64)
	no := c.in["out_refund_no"]
	if err != nil || fen < 1 || no == "" || len(no) > 64 {
		return failed("PARAM_ERROR", "参数错误")
	}
	o := s.find(c)
	if o == nil {
		return failed("ORDERNOTEXIST", "订单不存在")
	}
	if old := c.m.refunds[no]; old != nil {
		if old.Fen != fen || old.order != o {
			return failed("REFUND_FEE_MISMATCH", "订单金额或退款金额与之前请求不一致，请核实后再试")
		}
		if old.State != refundClosed {
			return refundFields(old)
		}
		return failed("ERROR", "退款已关闭，请换单号重新发起")
	}
	back, fee := o.refunded()
	_, charged := c.m.billed(o)
	switch {
	case o.Paid == 0 || o.State != statePaid:
		return failed("TRADE_STATE_ERROR", "订单状态错误")
	case c.in["total_fee"] != strconv.FormatInt(o.Fen, 10):
		return failed("PARAM_ERROR", "订单金额不一致")
	case c.now > o.Paid+refundSeconds:
		return failed("TRADE_OVERDUE", "订单已经超过退款期限")
	case len(o.refunds) >= maxRefunds:
		return failed("ERROR", "退款次数超过50次")
	case back+fen > o.Fen:
		return failed("ERROR", "累计退款金额大于支付金额")
	}
	fee = min(c.m.fee(fen), charged-fee)
	if c.m.available(c.now) < fen-fee {
		return failed("NOTENOUGH", "基本账户余额不足，请充值后重新发起")
	}
	r := refund{Merchant: c.m.No, Order: o.No, No: no, Fen: fen, Fee: fee, At: c.now, Notify: c.in["notify_url"], Cause: c.in["refund_desc"],
		State: refundDone, Done: c.now, V3: c.v3}
	f := s.take(refundFaults, "refund", c.m.No, o.No)
	if f == nil {
		f = byTail(c.m, "refund", fen, "")
	}
	if f != nil {
		r.State, r.Done, r.DueAt, r.DueState = refundProcessing, 0, c.now+max(f.Seconds, 1), refundDone
		switch f.Do {
		case FaultRefundAbnormal:
			r.DueState = refundAbnormal
		case FaultRefundClosed:
			r.DueState = refundClosed
		}
	}
	kept := s.putRefund(r)
	if kept.State == refundDone {
		s.announce(c.m, o, kept, c.now)
	}
	return refundFields(kept)
}

// refundByHand is the merchant who gives back in the channel's own portal, under a
// number that no program made; nobody is told.
func (s *Server) refundByHand(in struct {
	Merchant, Order, Refund string
	Fen                     int64
}) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	no := fmt.Errorf("%w: of order %q at %q %d fen cannot be given back under %q", ErrRefused, in.Order, in.Merchant, in.Fen, in.Refund)
	m := s.merchants[in.Merchant]
	if m == nil {
		return nil, no
	}
	now := s.cfg.Now().Unix()
	r := refund{Merchant: m.No, Order: in.Order, No: in.Refund, Fen: in.Fen, Fee: m.fee(in.Fen), At: now, Done: now, Cause: "商户平台退款", State: refundDone}
	o := m.orders[in.Order]
	if o == nil || o.State != statePaid || o.Missing || in.Refund == "" || m.refunds[m.refundKey(&r)] != nil {
		return nil, no
	}
	back, returned := o.refunded()
	billed, charged := m.billed(o)
	if r.Fee = min(r.Fee, charged-returned); in.Fen <= 0 || back+in.Fen > billed || m.available(now) < in.Fen-r.Fee {
		return nil, no
	}
	s.putRefund(r)
	return in, nil
}

func refundFields(r *refund) out {
	fen, total := strconv.FormatInt(r.Fen, 10), strconv.FormatInt(r.order.Fen, 10)
	return out{"transaction_id": r.order.tradeNo(), "out_trade_no": r.Order, "out_refund_no": r.No, "refund_id": r.refundID(),
		"refund_fee": fen, "total_fee": total, "cash_fee": total, "cash_refund_fee": fen}
}

func refundStatus(st state) string {
	switch st {
	case refundAbnormal:
		return "CHANGE"
	case refundClosed:
		return "REFUNDCLOSE"
	}
	return string(st)
}

func (s *Server) refundQuery(c *call) out {
	var list []*refund
	var o *order
	r := c.m.refunds[c.in["refund_id"]]
	if r == nil {
		r = c.m.refunds[c.in["out_refund_no"]]
	}
	switch {
	case r != nil:
		list, o = []*refund{r}, r.order
	case c.in["refund_id"] == "" && c.in["out_refund_no"] == "":
		if o = s.find(c); o != nil {
			list = o.refunds
		}
	}
	if len(list) == 0 {
		return failed("REFUNDNOTEXIST", "退款不存在")
	}
	total := strconv.FormatInt(o.Fen, 10)
	a := out{"transaction_id": o.tradeNo(), "out_trade_no": o.No, "total_fee": total, "cash_fee": total, "total_refund_count": strconv.Itoa(len(list))}
	offset, _ := strconv.Atoi(c.in["offset"])
	list = list[min(max(offset, 0), len(list)):]
	list = list[:min(len(list), 10)]
	a["refund_count"] = strconv.Itoa(len(list))
	for i, r := range list {
		at := func(name string) string { return fmt.Sprintf("%s_%d", name, i) }
		a[at("out_refund_no")], a[at("refund_id")], a[at("refund_channel")] = r.No, r.refundID(), r.channel()
		a[at("refund_fee")], a[at("refund_status")], a[at("refund_recv_accout")] = strconv.FormatInt(r.Fen, 10), refundStatus(r.State), r.received()
		if r.State == refundDone {
			a[at("refund_success_time")] = beijing(r.Done)
		}
	}
	return a
}

func beijing(at int64) string { return time.Unix(at, 0).In(ledger.Beijing).Format(time.DateTime) }

// refundNotice is what the sealed part of a refund's notice says.
func refundNotice(o *order, r *refund) wechat.Message {
	m := refundFields(r)
	m["settlement_refund_fee"], m["settlement_total_fee"] = m["refund_fee"], strconv.FormatInt(o.Fen, 10)
	m["refund_status"], m["refund_recv_accout"], m["refund_account"] = refundStatus(r.State), r.received(), "REFUND_SOURCE_RECHARGE_FUNDS"
	m["refund_request_source"] = "API"
	if r.State == refundDone {
		m["success_time"] = beijing(r.Done)
	}
	return m
}

func (s *Server) v3Refund(c *v3Call, _ *http.Request) *v3Answer {
	o := s.find(&c.call)
	if o == nil || o.Sub != c.sub {
		return refusal("RESOURCE_NOT_EXISTS", "订单不存在")
	}
	if said := s.refundOrder(&c.call); said["err_code"] != "" {
		return inV3(said)
	}
	return &v3Answer{http.StatusOK, refundRecord(c.m.refunds[c.in["out_refund_no"]])}
}

func (s *Server) v3RefundQuery(c *v3Call, _ *http.Request) *v3Answer {
	r := c.m.refunds[c.in["out_refund_no"]]
	if r == nil || r.No != c.in["out_refund_no"] || r.Reversal || r.order.Sub != c.sub {
		return refusal("RESOURCE_NOT_EXISTS", "退款单不存在")
	}
	return &v3Answer{http.StatusOK, refundRecord(r)}
}

// v3Abnormal takes the application for an abnormal refund. To a card of the payer it
// would need name and number, encrypted to the platform's key.
func (s *Server) v3Abnormal(c *v3Call, in *http.Request) *v3Answer {
	r := c.m.refunds[in.PathValue("id")]
	switch {
	case r == nil || r.No != c.in["out_refund_no"] || r.order.Sub != c.sub:
		return refusal("RESOURCE_NOT_EXISTS", "退款单不存在")
	case c.asked.Type != "MERCHANT_BANK_CARD":
		return refusal("PARAM_ERROR", "用户银行卡需上送bank_type、bank_account、real_name")
	case r.State != refundAbnormal:
		return refusal("INVALID_REQUEST", "退款单状态不是退款异常")
	}
	return &v3Answer{http.StatusOK, refundRecord(s.apply(r, payeeMerchant, c.now))}
}

// refundRecord is what refund, query and notice say of a refund.
func refundRecord(r *refund) node {
	o := r.order
	n := node{"refund_id": r.refundID(), "out_refund_no": r.No, "transaction_id": o.tradeNo(), "out_trade_no": o.No, "channel": r.channel(),
		"user_received_account": r.received(), "create_time": rfc3339(r.At), "status": string(r.State), "funds_account": "AVAILABLE",
		"amount": node{"total": o.Fen, "refund": r.Fen, "payer_total": o.Fen, "payer_refund": r.Fen, "settlement_refund": r.Fen, "settlement_total": o.Fen,
			"discount_refund": 0, "currency": "CNY"}}
	if r.State == refundDone {
		n["success_time"] = rfc3339(r.Done)
	}
	return n
}

// payee is whom an abnormal refund is paid to, "" for the means that paid.
type payee string

const (
	payeeMerchant payee = "MERCHANT" // the bank account to which the channel settles
	payeeCard     payee = "CARD"     // another card of the payer
)

// applySeconds is how long an abnormal refund takes once it is applied for.
const applySeconds = 1

// apply pays an abnormal refund to somebody else than the means that paid, under
// the lock.
func (s *Server) apply(r *refund, to payee, now int64) *refund {
	image := *r
	image.Abnormal, image.Applied, image.To = r.Done, now, to
	image.State, image.Done, image.DueAt, image.DueState = refundProcessing, 0, now+applySeconds, refundDone
	return s.putRefund(image)
}

// onMerchantPlatform is the operator who handles an abnormal refund on the merchant
// platform of WeChat Pay, for V2 as for v3.
func (s *Server) onMerchantPlatform(in struct{ Merchant, Refund, To string }) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	var r *refund
	if m := s.merchants[in.Merchant]; m != nil && m.Channel == channels.WeChat {
		r = m.refunds[in.Refund]
	}
	to := payee(in.To)
	if to != payeeMerchant && to != payeeCard || r == nil || r.State != refundAbnormal {
		return nil, fmt.Errorf("%w: no abnormal refund %q at %q, or to is neither CARD nor MERCHANT", ErrRefused, in.Refund, in.Merchant)
	}
	s.apply(r, to, s.cfg.Now().Unix())
	return in, nil
}

// channel is 退款渠道, received 退款入账账户, as query and notice say them.
func (r *refund) channel() string {
	if r.To == payeeCard {
		return "OTHER_BANKCARD"
	}
	return "ORIGINAL"
}

func (r *refund) received() string {
	switch r.To {
	case payeeMerchant:
		return "商户结算银行账户"
	case payeeCard:
		return "招商银行借记卡0403"
	}
	return "支付用户零钱"
}

// toBank lists the abnormal refunds that arrive on a bank account on a day: the
// first working day after they were paid. Under the lock.
func (s *Server) toBank(account string, arrives ledger.Day) []Settlement {
	var list []Settlement
	for _, no := range s.numbers {
		m := s.merchants[no]
		if m.BankAccount != account || m.Channel != channels.WeChat {
			continue
		}
		for _, r := range m.applied {
			if day := ledger.DayOf(time.Unix(r.Done, 0)); r.State == refundDone && r.To == payeeMerchant && workingDayAfter(day) == arrives {
				list = append(list, Settlement{Channel: m.Channel, Merchant: no, Account: account, Day: day, Arrives: arrives, Fen: r.Fen, Refund: r.No})
			}
		}
	}
	return list
}
