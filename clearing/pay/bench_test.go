package pay

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger/db"
)

// BenchmarkPayments creates, confirms and acknowledges payments with 64 callers:
// three transactions of the committer each, with notice and journals.
func BenchmarkPayments(b *testing.B) {
	k := newDesk(b)
	for i := range 200 { // a server that has been up for a minute knows its tables
		k.pay(codePayment(fmt.Sprint("warm", i), fmt.Sprint("W", i), 10000))
	}
	owner, err := db.Open(b.Context(), k.url, db.Owner)
	if err == nil {
		_, err = owner.Pool.Exec(b.Context(), `ANALYZE`)
		owner.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	var callers sync.WaitGroup
	b.ResetTimer()
	for range 64 {
		callers.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				p, err := k.Payments.Create(b.Context(), codePayment(fmt.Sprint("k", i), fmt.Sprint("B", i), 10000))
				if err == nil {
					_, err = k.Payments.event(b.Context(), p, &paymentEvent{his: &channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000}})
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	b.StopTimer()
	c := &k.Committer.Counts
	b.Logf("%d commands in %d batches, %d retries, %d splits", c.Commands.Load(), c.Batches.Load(), c.Retries.Load(), c.Splits.Load())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "payments/s")
}
