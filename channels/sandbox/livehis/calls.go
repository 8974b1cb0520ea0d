package livehis

import (
	"fmt"
	"regexp"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
)

// calls are the five calls of the contract; the work is done under the lock.
var calls = map[string]func(*Server, *hospital, *his.Request) *his.Answer{
	his.PathAcknowledge: (*Server).acknowledge,
	his.PathRefundable:  (*Server).askRefundable,
	his.PathCancel:      (*Server).cancel,
	his.PathWriteBack:   (*Server).writeBack,
	his.PathOrder:       (*Server).order,
}

// sumOf is the same for the same request in either format.
func sumOf(r *his.Request) (string, error) {
	text, err := his.JSON.Encode(r)
	return his.BodySum(text), err
}

// once refuses a write without a key, or with the key of another one; nil where
// it may go on. What was done before is told by the books.
func (h *hospital) once(r *his.Request) (sum string, no *his.Answer) {
	sum, err := sumOf(r)
	switch known, used := h.keys[r.Key]; {
	case err != nil || r.Key == "" || r.OrderNo == "":
		return "", refuse(his.CodeField, "key or order_no is missing")
	case used && known != sum:
		return "", refuse(his.CodeKeyUsed, "the key %s was used with other values", r.Key)
	}
	return sum, nil
}

// tenders are the channels that a bill is paid by over the contract.
var tenders = map[string]bool{channels.WeChat: true, channels.Alipay: true, channels.UnionPay: true}

func (s *Server) acknowledge(h *hospital, r *his.Request) *his.Answer {
	sum, no := h.once(r)
	if no != nil {
		return no
	}
	b := h.bills[r.BillNo]
	switch {
	case !tenders[r.Tender]:
		return refuse(his.CodeField, "tender %q is no channel", r.Tender)
	case b == nil:
		return refuse(his.CodeNotFound, "there is no bill %s", r.BillNo)
	case b.State == stateBooked && b.Order == r.OrderNo && b.Fen == r.AmountFen:
		return booked(b)
	case b.State == stateBooked:
		return refuse(his.CodePaid, "bill %s is paid by another payment", r.BillNo)
	case b.State == stateClosed:
		return refuse(his.CodeClosed, "bill %s is closed: its number was given to somebody else", r.BillNo)
	case b.Fen != r.AmountFen:
		return refuse(his.CodeAmount, "bill %s is of %d fen", r.BillNo, b.Fen)
	case h.orders[r.OrderNo] != nil:
		return refuse(his.CodePaid, "payment %s has paid bill %s", r.OrderNo, h.orders[r.OrderNo].No)
	}
	image := *b
	image.State, image.Order, image.Tender, image.Booked, image.Receipt = stateBooked, r.OrderNo, r.Tender, s.cfg.Now().Unix(), h.last+1
	image.Key, image.Sum = r.Key, sum
	if r.Operator != "" {
		image.Operator = r.Operator
	}
	s.putBill(image)
	return booked(b)
}

func booked(b *bill) *his.Answer {
	return &his.Answer{Result: his.ResultOK, BillNo: b.No, ReceiptNo: receiptNo(b.Receipt), AmountFen: b.Fen}
}

func receiptNo(n int64) string { return fmt.Sprintf("26%08d", n) }

// paid finds the bill that the payment has paid, or refuses.
func (h *hospital) paid(r *his.Request) (*bill, *his.Answer) {
	b := h.orders[r.OrderNo]
	if b == nil {
		return nil, refuse(his.CodeNotFound, "payment %s is not booked", r.OrderNo)
	}
	return b, nil
}

func (s *Server) order(h *hospital, r *his.Request) *his.Answer {
	b, no := h.paid(r)
	if no != nil {
		return no
	}
	a := booked(b)
	a.RefundableFen = b.refundable()
	return a
}

func (s *Server) askRefundable(h *hospital, r *his.Request) *his.Answer {
	b, no := h.paid(r)
	if no != nil {
		return no
	}
	return &his.Answer{Result: his.ResultOK, BillNo: b.No, RefundableFen: b.refundable()}
}

var refundNumber = regexp.MustCompile(`^[0-9A-Za-z_\-]{1,64}$`)

func (s *Server) cancel(h *hospital, r *his.Request) *his.Answer {
	sum, no := h.once(r)
	if no != nil {
		return no
	}
	b, no := h.paid(r)
	v := h.voids[r.RefundNo]
	switch {
	case no != nil:
		return no
	case v != nil && v.Order == r.OrderNo && v.Fen == r.AmountFen:
		return voided(v)
	case v != nil:
		return refuse(his.CodeKeyUsed, "refund %s was asked with other values", r.RefundNo)
	case r.AmountFen <= 0 || !refundNumber.MatchString(r.RefundNo):
		return refuse(his.CodeField, "amount_fen or refund_no is missing")
	case r.AmountFen > b.refundable():
		no := refuse(his.CodeNotRefundable, "of bill %s %d fen may be given back", b.No, b.refundable())
		no.RefundableFen = b.refundable()
		return no
	}
	s.putVoid(void{Hospital: h.Code, Order: r.OrderNo, Asked: r.RefundNo, N: len(b.voids) + 1, Fen: r.AmountFen, Left: b.refundable() - r.AmountFen,
		At: s.cfg.Now().Unix(), Receipt: h.last + 1, Operator: r.Operator, Key: r.Key, Sum: sum})
	return voided(h.voids[r.RefundNo])
}

func voided(v *void) *his.Answer {
	return &his.Answer{Result: his.ResultOK, BillNo: v.no(), ReceiptNo: receiptNo(v.Receipt), AmountFen: v.Fen, RefundableFen: v.Left}
}

// no is the number of the void as a row of its own.
func (v *void) no() string { return fmt.Sprintf("R%s-%d", v.bill.No, v.N) }

// voided finds the void that a refund gives back: the one that was asked with its
// number, else, where an app had the charge voided before the refund had one, the
// first of that amount that has no number yet.
func (h *hospital) voided(r *his.Request) *void {
	if v := h.voids[r.RefundNo]; v != nil || h.orders[r.OrderNo] == nil {
		return v
	}
	for _, v := range h.orders[r.OrderNo].voids {
		if v.Fen == r.AmountFen && (v.RefundNo == "" || v.RefundNo == r.RefundNo) {
			return v
		}
	}
	return nil
}

// writeBack notes the refund's number on the void: the row of the details had none
// until then, as with a HIS whose refund serial is lost (I7).
func (s *Server) writeBack(h *hospital, r *his.Request) *his.Answer {
	sum, no := h.once(r)
	if no != nil {
		return no
	}
	v := h.voided(r)
	switch {
	case v == nil || v.Order != r.OrderNo:
		return refuse(his.CodeNotFound, "no charge was voided for refund %s", r.RefundNo)
	case v.Fen != r.AmountFen:
		return refuse(his.CodeAmount, "%d fen were voided for refund %s", v.Fen, r.RefundNo)
	case v.RefundNo == "":
		image := *v
		image.RefundNo, image.RefundID, image.WriteKey, image.WriteSum = r.RefundNo, r.RefundID, r.Key, sum
		s.putVoid(image)
	}
	return voided(v)
}
