package clearing

import (
	"math/rand/v2"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Exchange is one call to the outside that is kept with the number it was about.
type Exchange struct {
	channels.Exchange
	Number string // of the payment, refund or transfer
	n      int64
}

// NewExchange returns the record of a call, nil where there was none.
func NewExchange(number string, x *channels.Exchange) *Exchange {
	if x == nil {
		return nil
	}
	return &Exchange{*x, number, rand.Int64()}
}

// KeepExchanges stores calls with the batch that stores what they came to.
func KeepExchanges(b *ledger.Batch, list []*Exchange) {
	var days, statuses []int32
	var ns, took []int64
	var numbers, calls, requests, responses, faults []string
	var at []time.Time
	for _, x := range list {
		if x == nil {
			continue
		}
		days, statuses = append(days, int32(ledger.DayOf(x.At))), append(statuses, int32(x.Status))
		ns, took, at = append(ns, x.n), append(took, x.Took.Milliseconds()), append(at, x.At)
		numbers, calls, faults = append(numbers, x.Number), append(calls, x.Call), append(faults, x.Fault)
		requests, responses = append(requests, x.Request), append(responses, x.Response)
	}
	if len(days) == 0 {
		return
	}
	b.Exec(`
		INSERT INTO exchanges (day, number, n, call, at, took_ms, status, request, response, fault)
		SELECT day, number, n, call, at, took_ms, status, request, response, fault
		FROM unnest($1::int4[], $2::text[], $3::int8[], $4::text[], $5::timestamptz[], $6::int8[], $7::int4[], $8::text[], $9::text[], $10::text[])
		AS given(day, number, n, call, at, took_ms, status, request, response, fault)`,
		days, numbers, ns, calls, at, took, statuses, requests, responses, faults)
}
