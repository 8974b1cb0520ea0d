package live

// alipayRefundFaults are those that Alipay has: an accepted refund is never closed
// there, and a frozen trade refuses.
var alipayRefundFaults = []string{FaultRefundLate, FaultRefundAbnormal}

func (s *Server) tradeRefund(r *request) node {
	fen, no := r.fen("refund_amount"), r.text("out_request_no")
	o := s.trade(r)
	switch {
	case fen < 1 || no != "" && !alipayOrderNo.MatchString(no):
		return refuses("ACQ.INVALID_PARAMETER", "参数无效")
	case o == nil:
		return noTrade()
	case no == "" && fen != o.Fen:
		return refuses("ACQ.INVALID_PARAMETER", "部分退款必须传入out_request_no")
	case no == "":
		no = o.No
	}
	key := refund{Merchant: r.m.No, Order: o.No, No: no}
	if old := r.m.refunds[r.m.refundKey(&key)]; old != nil {
		if old.Fen != fen {
			return refuses("ACQ.DISCORDANT_REPEAT_REQUEST", "不一致的请求")
		}
		return r.refundedNode(o, old, false)
	}
	back, fee := o.refunded()
	_, charged := r.m.billed(o)
	switch {
	case o.State != statePaid:
		return refuses("ACQ.TRADE_STATUS_ERROR", "交易状态不合法")
	case r.now > o.Paid+finishSeconds:
		return refuses("ACQ.TRADE_HAS_FINISHED", "交易已完结")
	case back+fen > o.Fen:
		return refuses("ACQ.REFUND_AMT_NOT_EQUAL_TOTAL", "退款金额超限")
	}
	fee = min(r.m.fee(fen), charged-fee)
	if r.m.available(r.now) < fen-fee {
		return refuses("ACQ.SELLER_BALANCE_NOT_ENOUGH", "卖家余额不足")
	}
	image := refund{Merchant: r.m.No, Order: o.No, No: no, Fen: fen, Fee: fee, At: r.now, Done: r.now, State: refundDone,
		Notify: o.Notify, Cause: r.text("refund_reason")}
	f := s.take(alipayRefundFaults, "refund", r.m.No, o.No)
	if f == nil {
		f = byTail(r.m, "refund", fen, "")
	}
	if f != nil {
		if f.Do == FaultRefundAbnormal {
			return refuses("ACQ.REASON_TRADE_BEEN_FREEZEN", "请求退款的交易被冻结")
		}
		image.State, image.Done, image.DueAt, image.DueState = refundProcessing, 0, r.now+max(f.Seconds, 1), refundDone
	}
	kept := s.putRefund(image)
	if kept.State == refundDone {
		s.announce(r.m, o, kept, r.now)
	}
	return r.refundedNode(o, kept, true)
}

// refundedNode answers a refund. fund_change=Y says that this very call moved the
// money; refund_fee is the sum of the trade so far.
func (r *request) refundedNode(o *order, back *refund, first bool) node {
	all, _ := o.refunded()
	n := said("10000", "", "")
	name, id := o.buyer()
	n["trade_no"], n["out_trade_no"], n[name], n["buyer_logon_id"] = o.tradeNo(), o.No, id, logonID(o)
	if n["fund_change"], n["refund_fee"] = "N", yuanText(all); first && back.State == refundDone {
		n["fund_change"], n["send_back_fee"], n["gmt_refund_pay"] = "Y", yuanText(back.Fen), beijing(back.Done)
	}
	return n
}

func (s *Server) tradeRefundQuery(r *request) node {
	o := s.trade(r)
	if o == nil {
		return noTrade()
	}
	key := refund{Merchant: r.m.No, Order: o.No, No: r.text("out_request_no")}
	n := said("10000", "", "")
	back := r.m.refunds[r.m.refundKey(&key)]
	if back == nil {
		return n
	}
	n["trade_no"], n["out_trade_no"], n["out_request_no"] = o.tradeNo(), o.No, back.No
	if n["total_amount"], n["refund_amount"] = yuanText(o.Fen), yuanText(back.Fen); back.State == refundDone {
		n["refund_status"], n["send_back_fee"], n["gmt_refund_pay"] = "REFUND_SUCCESS", yuanText(back.Fen), beijing(back.Done)
	}
	return n
}
