package live

import (
	"fmt"
	"strconv"
	"time"

	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
)

// maxRefunds of one order, and how long after the payment one may be asked for.
const (
	maxRefunds    = 50
	refundSeconds = 365 * 24 * 3600
	reverseSecond = 7 * 24 * 3600
)

// find is the order that a request names; the channel's number goes first.
func (s *Server) find(c *call) *order {
	if trade := c.in["transaction_id"]; trade != "" {
		return s.byTrade(c.m, trade)
	}
	return c.m.orders[c.in["out_trade_no"]]
}

// named is the order that a request is about, for faults that wait for one.
func (s *Server) named(c *call) string {
	if r := c.m.refunds[c.in["out_refund_no"]]; r != nil {
		return r.Order
	}
	if o := s.find(c); o != nil {
		return o.No
	}
	return c.in["out_trade_no"]
}

// byTrade is the order that the channel knows by a number of its own.
func (s *Server) byTrade(m *merchant, trade string) *order {
	if len(trade) < 10 {
		return nil
	}
	seq, err := strconv.ParseInt(trade[len(trade)-10:], 10, 64)
	if err != nil || seq < 0 || seq >= int64(len(s.bySeq)) || s.bySeq[seq] == nil {
		return nil
	}
	if o := s.bySeq[seq]; o.Merchant == m.No && o.tradeNo() == trade {
		return o
	}
	return nil
}

func (s *Server) orderQuery(c *call) out {
	o := s.find(c)
	if o == nil {
		return failed("ORDERNOTEXIST", "订单不存在")
	}
	a := out{"out_trade_no": o.No, "total_fee": strconv.FormatInt(o.Fen, 10)}
	if o.Paid > 0 {
		paidFields(a, o)
	}
	a["trade_state"], a["trade_state_desc"] = tradeState(o)
	return a
}

func tradeState(o *order) (state, text string) {
	switch o.State {
	case statePassword:
		return "USERPAYING", "需要用户输入支付密码"
	case stateWaiting:
		return "NOTPAY", "订单未支付"
	case stateClosed:
		return "CLOSED", "订单已关闭"
	case stateReversed:
		return "REVOKED", "订单已撤销"
	case stateFailed:
		return "PAYERROR", "支付失败"
	}
	if len(o.refunds) > 0 {
		return "REFUND", "订单发生过退款"
	}
	return "SUCCESS", "支付成功"
}

func (s *Server) closeOrder(c *call) out {
	o := s.find(c)
	switch {
	case o == nil:
		return failed("ORDERNOTEXIST", "订单不存在")
	case o.State == statePaid:
		return failed("ORDERPAID", "订单已支付")
	case o.State == stateWaiting:
		image := *o
		image.State = stateClosed
		s.putOrder(image)
	case o.State != stateClosed:
		return failed("ORDERCLOSED", "订单已关闭")
	}
	return out{"result_msg": "OK"}
}

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
