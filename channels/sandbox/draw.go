package sandbox

// Streams keep the draws for different purposes apart, so that more of one
// thing does not change another.
const (
	streamWorld uint64 = iota + 1
	streamPayment
	streamFault
	streamPerson
	streamBank
)

// dice is a splitmix64 generator: eight bytes of state, the same numbers on
// every machine.
type dice struct{ state uint64 }

// draw returns the dice of one thing: the i-th of a stream.
func draw(seed, stream, i uint64) *dice {
	d := &dice{state: seed*0x9E3779B97F4A7C15 ^ stream<<56 ^ i}
	d.state = d.next() ^ i*0xD1342543DE82EF95
	return d
}

func (d *dice) next() uint64 {
	d.state += 0x9E3779B97F4A7C15
	z := d.state
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// below returns a number from 0 to n-1. The modulo's bias is far below anything
// that a day of payments could show.
func (d *dice) below(n int) int { return int(d.next() % uint64(n)) }

// between returns a number from lo to hi, both included.
func (d *dice) between(lo, hi int) int { return lo + d.below(hi-lo+1) }

// chance is true n times in a thousand.
func (d *dice) chance(n int) bool { return d.below(1000) < n }

// event is something that is still to come, kept small because there may be
// hundreds of thousands.
type event struct {
	at   int32  // seconds from the first day's midnight
	of   uint32 // number of the payment in its day, or of the fault
	seq  uint32 // number in the payment's order number
	what uint8
	part uint8 // which refund of the payment, which step of the fault
	day  uint8 // day of the payment
}

// What an event is.
const (
	eventRefund uint8 = iota
	eventReverse
	eventFault
)

// before orders events by time; the rest makes the order of equals certain.
func (e event) before(o event) bool {
	switch {
	case e.at != o.at:
		return e.at < o.at
	case e.what != o.what:
		return e.what < o.what
	case e.day != o.day:
		return e.day < o.day
	case e.of != o.of:
		return e.of < o.of
	}
	return e.part < o.part
}

// queue is a binary heap of events, the earliest first.
type queue []event

func (q *queue) push(e event) {
	*q = append(*q, e)
	h := *q
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(h[parent]) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (q *queue) pop() event {
	h := *q
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	*q = h
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child].before(h[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
