package recon_test

import (
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/clearward/clearward/recon"
)

// BenchmarkIngest stores new lines in batches of 5,000.
func BenchmarkIngest(b *testing.B) {
	const lines, batch = 100_000, 5000
	bill := make([]channels.BillLine, lines)
	for i := range bill {
		bill[i] = pay(i%1000, 100)
	}
	d := dbtest.New(b, recon.Schema)
	n := 0
	for b.Loop() {
		b.StopTimer()
		n++
		records := billFile(recon.PartAll, "bill"+string(rune('a'+n)), start.Add(time.Duration(n)), bill...)
		b.StartTimer()
		for len(records) > 0 {
			m := min(batch, len(records))
			ingest(b, d, records[:m]...)
			records = records[m:]
		}
	}
	b.ReportMetric(float64(lines*b.N)/b.Elapsed().Seconds(), "lines/s")
}
