package livehis

import (
	"fmt"
	"time"

	"github.com/clearward/clearward/ledger"
)

// state is how far a bill is.
type state string

const (
	stateOpen   state = "OPEN"
	stateBooked state = "BOOKED" // paid, in the day's details
	stateClosed state = "CLOSED" // the number was given to somebody else
)

// blemish is what a planted fault makes of a row of the day's details.
type blemish struct {
	Missing bool  `json:"missing,omitempty"`
	Twice   bool  `json:"twice,omitempty"`
	NextDay bool  `json:"next,omitempty"`
	AsCash  bool  `json:"cash,omitempty"`
	Unkeyed bool  `json:"unkeyed,omitempty"`
	MoreFen int64 `json:"more,omitempty"`
}

// bill is one bill. Its JSON is the record in the journal: the newest image of a
// bill is what stands. Times are Unix seconds, amounts fen.
type bill struct {
	Hospital string `json:"hospital"`
	No       string `json:"bill_no"`
	Fen      int64  `json:"fen"`
	Biz      string `json:"biz_type"`
	Patient  string `json:"patient,omitempty"` // opaque reference
	Operator string `json:"operator,omitempty"`
	State    state  `json:"state,omitempty"`
	Order    string `json:"order_no,omitempty"`
	Tender   string `json:"tender,omitempty"`
	Receipt  int64  `json:"receipt,omitempty"`
	Booked   int64  `json:"booked,omitempty"`
	Served   int64  `json:"served,omitempty"` // of the amount: it cannot be given back
	Original string `json:"original,omitempty"`
	Refund   bool   `json:"refund,omitempty"` // a refund at the window, of another tender
	Key      string `json:"key,omitempty"`
	Sum      string `json:"sum,omitempty"`
	blemish

	voids []*void
}

// void is a charge that HIS took back, all or part, with its image in the journal.
type void struct {
	Hospital string `json:"hospital"`
	Order    string `json:"order_no"`
	Asked    string `json:"asked"` // the refund number with which it was asked
	N        int    `json:"n"`     // of the bill, from 1
	Fen      int64  `json:"fen"`
	Left     int64  `json:"left"` // that could be given back after it
	At       int64  `json:"at"`
	Receipt  int64  `json:"receipt"`
	Operator string `json:"operator,omitempty"`
	Key      string `json:"key"`
	Sum      string `json:"sum"`
	RefundNo string `json:"refund_no,omitempty"` // written back
	RefundID string `json:"refund_id,omitempty"`
	WriteKey string `json:"write_key,omitempty"`
	WriteSum string `json:"write_sum,omitempty"`
	blemish

	bill *bill
}

// row is one line of a day's details.
type row struct {
	b *bill
	v *void // nil of a booking
}

func (b *bill) refundable() int64 {
	left := b.Fen - b.Served
	for _, v := range b.voids {
		left -= v.Fen
	}
	return max(left, 0)
}

func (s *Server) coded(code string) (*hospital, error) {
	if h := s.hospitals[code]; h != nil {
		return h, nil
	}
	return nil, fmt.Errorf("%w: hospital %q has no HIS here", ErrRefused, code)
}

// putBill keeps a bill's new image and lets it stand, under the lock.
func (s *Server) putBill(b bill) {
	s.journal.Keep("bill", &b)
	s.journal.Fail(s.applyBill(b))
}

func (s *Server) applyBill(image bill) error {
	h, err := s.coded(image.Hospital)
	if err != nil {
		return err
	}
	b := h.bills[image.No]
	if b == nil {
		b = &bill{}
		h.bills[image.No] = b
	}
	first := b.Booked == 0 && image.Booked > 0
	voids := b.voids
	*b = image
	b.voids = voids
	h.last = max(h.last, b.Receipt)
	if b.Key != "" {
		h.keys[b.Key] = b.Sum
	}
	if first {
		day := dayOf(b.Booked)
		h.rows[day] = append(h.rows[day], row{b: b})
		if b.Order != "" {
			h.orders[b.Order] = b
		}
	}
	return nil
}

// putVoid keeps a void's new image and lets it stand, under the lock.
func (s *Server) putVoid(v void) {
	s.journal.Keep("void", &v)
	s.journal.Fail(s.applyVoid(v))
}

func (s *Server) applyVoid(image void) error {
	h, err := s.coded(image.Hospital)
	if err != nil {
		return err
	}
	v := h.voids[image.Asked]
	if v == nil {
		b := h.orders[image.Order]
		if b == nil {
			return fmt.Errorf("%w: void %s of order %s, which is not booked", ErrRefused, image.Asked, image.Order)
		}
		v = &void{bill: b}
		h.voids[image.Asked] = v
		b.voids = append(b.voids, v)
		day := dayOf(image.At)
		h.rows[day] = append(h.rows[day], row{b, v})
	}
	b := v.bill
	*v = image
	v.bill = b
	h.last = max(h.last, v.Receipt)
	for key, sum := range map[string]string{v.Key: v.Sum, v.WriteKey: v.WriteSum} {
		if key != "" {
			h.keys[key] = sum
		}
	}
	return nil
}

func dayOf(at int64) ledger.Day { return ledger.DayOf(time.Unix(at, 0)) }
