package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger/db"
)

// Benchmarks post against a PostgreSQL that flushes at every commit, as in
// production. Their figures count only beside pgbench's of the same hour.

const benchAccounts = 10_000

// newDurableBooks is a committer on a database of its own with durable settings.
func newDurableBooks(b *testing.B, accounts ...Account) (*db.DB, *Committer) {
	dir, err := os.MkdirTemp("/tmp", "clearward-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		b.Fatal(err)
	}
	server, err := local.StartPostgres(b.Context(), dir+"/postgres", true)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	})
	if err := db.Migrate(b.Context(), server.URL("postgres"), Schema); err != nil {
		b.Fatal(err)
	}
	d, err := db.Open(b.Context(), server.URL("postgres"), db.App)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.Close)
	open(b, d, accounts...)
	return d, newCommitter(b, d)
}

func benchBooks(b *testing.B) ([]Account, *Committer) {
	accounts := make([]Account, benchAccounts)
	for i := range accounts {
		accounts[i] = NewAccount(1, Agency, Liability, fmt.Sprintf("2204.H%05d", i))
	}
	_, c := newDurableBooks(b, accounts...)
	return accounts, c
}

// randomEntry moves money between two accounts, every second time by two postings;
// with hot, the first account is in it.
func randomEntry(accounts []Account, n int64, hot bool) []Entry {
	from, to := rand.IntN(benchAccounts), rand.IntN(benchAccounts-1)
	if hot {
		from = 0
	}
	if to >= from {
		to++
	}
	ref := fmt.Sprintf("pay_20260915%08d", n)
	postings := []Posting{{accounts[from].For(ref), accounts[to].For(""), 100}, {accounts[from].For(ref), accounts[to].For("FEE"), 1}}
	e, err := NewEntry(Head{Book: 1, Kind: "J01", Ref: ref, ValueDay: 20260915, Maker: "bench"}, postings[:1+n%2]...)
	if err != nil {
		panic(err)
	}
	return []Entry{e}
}

func benchRequest(n int64) Request {
	key := fmt.Sprintf("pay_20260915%08d", n)
	return Request{Scope: "bench", Key: key, Form: 1, Canon: fmt.Appendf(nil, `{"order_no":"%s","amount":100,"channel":"WECHAT"}`, key)}
}

func postAlone(b *testing.B, hot bool) {
	accounts, c := benchBooks(b)
	var n atomic.Int64
	b.SetParallelism(32) // 64 callers on two cores
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			k := n.Add(1)
			if out, err := Submit(context.Background(), c, post, benchRequest(k), randomEntry(accounts, k, hot)); err != nil || out.Err != nil {
				b.Error(out, err)
				return
			}
		}
	})
	report(b, c, b.N)
}

func report(b *testing.B, c *Committer, entries int) {
	b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(entries)/float64(c.Batches.Load()), "entries/commit")
}

func BenchmarkPost64Callers(b *testing.B) { postAlone(b, false) }

func BenchmarkPost64CallersOneHotAccount(b *testing.B) { postAlone(b, true) }

func BenchmarkPostFullBatches(b *testing.B) {
	accounts, c := benchBooks(b)
	cmds, reqs := make([][]Entry, b.N), make([]Request, b.N)
	for i := range cmds {
		cmds[i], reqs[i] = randomEntry(accounts, int64(i), false), benchRequest(int64(i))
	}
	b.ResetTimer()
	if _, err := SubmitAll(context.Background(), c, post, reqs, cmds); err != nil {
		b.Fatal(err)
	}
	report(b, c, b.N)
}
