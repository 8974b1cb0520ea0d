package api

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// benchBook holds the accounts of the benchmark, apart from the platform's.
const benchBook ledger.Book = 2

// benchDay is the day on which everything is posted.
const benchDay ledger.Day = 20260915

// copyChunk is how many rows one COPY of the reference point takes.
const copyChunk = 8_000

// benchPost posts one entry a command.
var benchPost = &ledger.Verb[ledger.Entry]{Name: "bench", Run: func(_ context.Context, b *ledger.Batch, cmds []ledger.Entry) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	for i, e := range cmds {
		outcomes[i].Entry, outcomes[i].Err = b.Post(e)
	}
	return outcomes
}}

// benchTables measures everything that shares a database with its reference
// points.
func (b *bench) benchTables(ctx context.Context) (err error) {
	if b.server, err = b.open(ctx, "tables"); err != nil {
		return err
	}
	defer func() {
		b.closeReference()
		err = errors.Join(err, b.server.Close(), os.RemoveAll(filepath.Join(b.dir, "tables")))
	}()
	if err := b.openReference(ctx); err != nil {
		return err
	}
	if err := b.benchPosting(ctx); err != nil {
		return err
	}
	return b.benchMatching(ctx)
}

// benchPosting measures the ledger and, in the same rounds, what it is held
// against: others' benchmarks, and the same features without a committer.
func (b *bench) benchPosting(ctx context.Context) error {
	accounts := make([]ledger.Account, b.size.accounts)
	for i := range accounts {
		accounts[i] = ledger.NewAccount(benchBook, ledger.Agency, ledger.Liability, fmt.Sprintf("BENCH.%05d", i))
	}
	if err := ledger.OpenAccounts(ctx, b.server.DB, accounts...); err != nil {
		return err
	}
	post := &posting{b: b, accounts: accounts}
	calls, err := b.newCalling(ctx)
	if err != nil {
		return err
	}
	measures := []measure{
		{name: "ref.tpcb", unit: "transactions/s", note: "pgbench TPC-B, prepared, 8 clients, scale " + strconv.Itoa(b.size.scale) +
			", READ COMMITTED; " + b.machine(ctx), run: b.tpcb},
		{name: "ref.copy", unit: "rows/s", note: fmt.Sprintf("COPY, 2 connections × %d rows into the table of postings (key and 2 indexes)", copyChunk), run: post.copy},
		{name: "ref.naive", unit: "entries/s", note: fmt.Sprintf("one SERIALIZABLE transaction an entry into the same tables, same features, %d callers, %d accounts", b.size.callers, b.size.accounts),
			run: func(ctx context.Context) (reading, error) { return post.naively(ctx, false) }},
		{name: "ref.naive.hot", unit: "entries/s", note: "the same with one account in every entry",
			run: func(ctx context.Context) (reading, error) { return post.naively(ctx, true) }},
		{name: "post.go.c64", unit: "entries/s", note: fmt.Sprintf("%d callers in process, each entry with a key, 1.5 postings on average, %d accounts, balances kept", b.size.callers, b.size.accounts),
			goals: []goal{{"ref.tpcb", 2.2}, {"ref.naive", 3}},
			run:   func(ctx context.Context) (reading, error) { return post.alone(ctx, false) }},
		{name: "post.go.hot", unit: "entries/s", note: "the same with one account in every entry",
			goals: []goal{{"post.go.c64", 0.95}, {"ref.naive.hot", 15}},
			run:   func(ctx context.Context) (reading, error) { return post.alone(ctx, true) }},
		{name: "post.go.full", unit: "entries/s", note: fmt.Sprintf("SubmitAll of %d entries with keys, groups of 2,048", b.size.full),
			goals: []goal{{"ref.tpcb", 4}}, run: post.full},
		{name: "post.go.full.rows", unit: "rows/s", note: "the same, rows of entries, postings, requests and turnover",
			goals: []goal{{"ref.copy", 0.4}}, run: post.fullRows},
		{name: "post.rpc.c64", unit: "entries/s", note: fmt.Sprintf("the API over loopback: %d clients, each call signed, checked and posted under its key", b.size.callers),
			goals: []goal{{"ref.tpcb", 1.6}}, run: calls.alone},
		{name: "post.rpc.bulk100", unit: "entries/s", note: fmt.Sprintf("the same, 8 clients with %d entries a call", benchBulk),
			goals: []goal{{"ref.tpcb", 3.5}}, run: calls.bulk},
		{name: "pay.rpc", unit: "payments/s", note: fmt.Sprintf("the API over loopback: %d clients pay by code through the SDK and say what HIS has booked; WeChat V2 is the sandbox in the same process, its books flushed to the disk", b.size.callers),
			goals: []goal{{"ref.tpcb", 0}, {"", 1000}}, run: func(ctx context.Context) (reading, error) { return calls.pay(ctx, channels.WeChat, "13") }},
		{name: "pay.rpc.rsa", unit: "payments/s", note: "the same over Alipay, where merchant and channel sign every call by RSA-2048",
			goals: []goal{{"ref.tpcb", 0}, {"", 300}}, run: func(ctx context.Context) (reading, error) { return calls.pay(ctx, channels.Alipay, "28") }},
	}
	if b.pgbench == "" {
		measures = measures[1:]
		b.figures = append(b.figures, Figure{Name: "ref.tpcb", Unit: "transactions/s", Note: "not measured: the database has no pgbench beside it"})
	}
	err = b.measureAll(ctx, measures...)
	if err = errors.Join(err, calls.close()); err != nil {
		return err
	}
	found, err := b.server.Verify(ctx)
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("the books that were posted do not verify: %v", found[0])
	}
	return err
}

// openReference makes the databases of the reference points: one with the
// ledger's own tables, one of pgbench where there is a pgbench.
func (b *bench) openReference(ctx context.Context) error {
	to, err := b.database(ctx, "reference")
	if err != nil {
		return err
	}
	if err := db.Migrate(ctx, to, ledger.Schema); err != nil {
		return err
	}
	if b.owner, err = db.Open(ctx, to, db.Owner); err != nil {
		return err
	}
	each, err := url.Parse(to)
	if err != nil {
		return err
	}
	settings := each.Query()
	settings.Set("pool_max_conns", strconv.Itoa(b.size.callers))
	each.RawQuery = settings.Encode()
	if b.naive, err = db.Open(ctx, each.String(), db.App); err != nil {
		return err
	}
	if b.pgbench = b.findPgbench(ctx); b.pgbench == "" {
		return nil
	}
	if _, err := b.database(ctx, "pgbench"); err != nil {
		return err
	}
	_, err = b.runPgbench(ctx, "-i", "-q", "-s", strconv.Itoa(b.size.scale))
	return err
}

func (b *bench) closeReference() {
	for _, d := range []*db.DB{b.owner, b.naive} {
		if d != nil {
			d.Close()
		}
	}
}

// findPgbench returns the program that belongs to the database that runs.
func (b *bench) findPgbench(ctx context.Context) string {
	if b.owner.Dialect != db.Postgres {
		return ""
	}
	var bin string
	if err := b.owner.Pool.QueryRow(ctx, `SELECT setting FROM pg_config WHERE name = 'BINDIR'`).Scan(&bin); err != nil {
		return ""
	}
	path := filepath.Join(bin, "pgbench")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// runPgbench runs it on its database with the isolation that TPC-B is usually
// run with: ours would make it abort.
func (b *bench) runPgbench(ctx context.Context, args ...string) (string, error) {
	config := b.owner.Pool.Config().ConnConfig
	cmd := exec.CommandContext(ctx, b.pgbench, append(args, "pgbench")...)
	cmd.Env = append(os.Environ(), "PGHOST="+config.Host, "PGPORT="+strconv.Itoa(int(config.Port)), "PGUSER="+config.User,
		"PGPASSWORD="+config.Password, `PGOPTIONS=-c default_transaction_isolation=read\ committed`)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pgbench: %w: %s", err, out)
	}
	return string(out), nil
}

var (
	tpsLine     = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	latencyLine = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
)

func (b *bench) tpcb(ctx context.Context) (reading, error) {
	seconds := max(1, int(b.size.span.Seconds()+0.5))
	out, err := b.runPgbench(ctx, "-n", "-M", "prepared", "-c", "8", "-j", "2", "-T", strconv.Itoa(seconds))
	if err != nil {
		return reading{}, err
	}
	tps, average := tpsLine.FindStringSubmatch(out), latencyLine.FindStringSubmatch(out)
	if tps == nil || average == nil {
		return reading{}, fmt.Errorf("pgbench said: %s", out)
	}
	value, err := strconv.ParseFloat(tps[1], 64)
	return reading{value: value, detail: "average " + average[1] + " ms"}, err
}

// posting makes the entries that all ways of posting write.
type posting struct {
	b        *bench
	accounts []ledger.Account
	seq      atomic.Int64
	rows     reading // of the last measurement of full groups
}

// entry moves money between two accounts, every second time by two postings;
// with hot, the first account is in it.
func (p *posting) entry(n int64, hot bool) (ledger.Entry, ledger.Request) {
	from, to := rand.IntN(len(p.accounts)), rand.IntN(len(p.accounts)-1)
	if hot {
		from = 0
	}
	if to >= from {
		to++
	}
	key := fmt.Sprintf("pay_%s%010d", benchDay.Compact(), n)
	postings := []ledger.Posting{
		{Debit: p.accounts[from].For(key), Credit: p.accounts[to].For(""), Amount: 100},
		{Debit: p.accounts[from].For(key), Credit: p.accounts[to].For("FEE"), Amount: 1},
	}
	e, err := ledger.NewEntry(ledger.Head{Book: benchBook, Kind: "BENCH", Ref: key, ValueDay: benchDay, Maker: "bench"}, postings[:1+n%2]...)
	if err != nil {
		panic(err) // the entry is ours
	}
	return e, ledger.Request{Scope: "bench", Key: key, Form: 1, Canon: fmt.Appendf(nil, `{"order_no":%q,"amount":100,"channel":"WECHAT"}`, key)}
}

// alone posts single entries by many callers.
func (p *posting) alone(ctx context.Context, hot bool) (reading, error) {
	batches, retries := p.b.server.committer.Batches.Load(), p.b.server.committer.Retries.Load()
	s, err := p.b.perSecond(ctx, p.b.size.callers, func(ctx context.Context) error {
		e, req := p.entry(p.seq.Add(1), hot)
		out, err := ledger.Submit(ctx, p.b.server.committer, benchPost, req, e)
		return errors.Join(err, out.Err)
	})
	batches = p.b.server.committer.Batches.Load() - batches
	retries = p.b.server.committer.Retries.Load() - retries
	s.detail = fmt.Sprintf("%d commits with %d retries", batches, retries)
	return s, err
}

// full posts entries in the largest groups that a transaction takes.
func (p *posting) full(ctx context.Context) (reading, error) {
	entries, reqs := make([]ledger.Entry, p.b.size.full), make([]ledger.Request, p.b.size.full)
	for i := range entries {
		entries[i], reqs[i] = p.entry(p.seq.Add(1), false)
	}
	batches := p.b.server.committer.Batches.Load()
	start := time.Now()
	outcomes, err := ledger.SubmitAll(ctx, p.b.server.committer, benchPost, reqs, entries)
	elapsed := time.Since(start).Seconds()
	if err != nil {
		return reading{}, err
	}
	for _, out := range outcomes {
		if out.Err != nil {
			return reading{}, out.Err
		}
	}
	batches = p.b.server.committer.Batches.Load() - batches
	p.rows = reading{value: float64(rowsOf(entries, int(batches))) / elapsed}
	return reading{value: float64(len(entries)) / elapsed, detail: fmt.Sprintf("%d commits", batches)}, nil
}

// fullRows is the last measurement of full, told in rows.
func (p *posting) fullRows(context.Context) (reading, error) { return p.rows, nil }

// rowsOf counts what the entries, committed in so many groups, write: the entry,
// its postings, its request, and one turnover row for each account of a group.
func rowsOf(entries []ledger.Entry, groups int) int {
	each := (len(entries) + groups - 1) / groups
	rows := 2 * len(entries)
	touched := map[ledger.AccountID]bool{}
	for i, e := range entries {
		if i%each == 0 {
			clear(touched)
		}
		for _, p := range e.Postings() {
			rows++
			for _, account := range []ledger.AccountID{p.Debit.Account, p.Credit.Account} {
				if !touched[account] {
					touched[account] = true
					rows++
				}
			}
		}
	}
	return rows
}

// naively posts each entry in a transaction of its own, with the features of the
// ledger: key, closed days, balances. A floor is on none of the accounts.
func (p *posting) naively(ctx context.Context, hot bool) (reading, error) {
	var attempts, done, failed atomic.Int64
	s, err := p.b.perSecond(ctx, p.b.size.callers, func(ctx context.Context) error {
		n := p.seq.Add(1)
		e, req := p.entry(n, hot)
		err := p.b.naive.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			attempts.Add(1)
			return writeNaively(ctx, tx, n, e, req)
		})
		done.Add(1)
		if err != nil && isContention(err) {
			failed.Add(1)
			return nil
		}
		return err
	})
	if n := done.Load(); n > 0 {
		s.value *= float64(n-failed.Load()) / float64(n)
		s.detail = fmt.Sprintf("%.2f retries an entry, %d of %d given up", float64(attempts.Load())/float64(n)-1, failed.Load(), n)
	}
	return s, err
}

// isContention says whether the runner gave up on a transaction that others kept
// getting in the way of.
func isContention(err error) bool {
	var pg interface{ SQLState() string }
	return errors.As(err, &pg) && (pg.SQLState() == "40001" || pg.SQLState() == "40P01")
}

// writeNaively sends everything between BEGIN and COMMIT in one round trip.
func writeNaively(ctx context.Context, tx pgx.Tx, n int64, e ledger.Entry, req ledger.Request) error {
	h := e.Head()
	var all pgx.Batch
	all.Queue(`SELECT state FROM days WHERE book = $1 AND day = $2`, int16(h.Book), h.ValueDay).Query(func(rows pgx.Rows) error {
		_, err := pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	all.Queue(`
		INSERT INTO requests (scope, key, form, hash, outcome, body, lane, seq, ord)
		VALUES ($1, $2, $3, $4, 'OK', '', 0, $5, 0)`, req.Scope, req.Key, req.Form, req.Canon, n)
	all.Queue(`
		INSERT INTO entries (lane, seq, ord, book, kind, ref, day, value_day, maker, checker, case_id, meta)
		VALUES (0, $1, 0, $2, $3, $4, $5, $5, $6, '', '', '')`, n, int16(h.Book), h.Kind, h.Ref, h.ValueDay, h.Maker)
	sums := map[ledger.AccountID][2]int64{}
	for i, p := range e.Postings() {
		all.Queue(`
			INSERT INTO postings (lane, seq, ord, n, day, debit, credit, amount, debit_ref, credit_ref)
			VALUES (0, $1, 0, $2, $3, $4, $5, $6, $7, $8)`,
			n, int16(i), h.ValueDay, p.Debit.Account, p.Credit.Account, int64(p.Amount), p.Debit.Ref, p.Credit.Ref)
		debit, credit := sums[p.Debit.Account], sums[p.Credit.Account]
		debit[0] += int64(p.Amount)
		credit[1] += int64(p.Amount)
		sums[p.Debit.Account], sums[p.Credit.Account] = debit, credit
	}
	first, second := e.Postings()[0].Debit.Account, e.Postings()[0].Credit.Account
	for _, account := range []ledger.AccountID{min(first, second), max(first, second)} { // in order, against deadlocks
		all.Queue(`
			INSERT INTO turnover (account, day, value_day, lane, debits, credits, red_debits, red_credits)
			VALUES ($1, $2, $2, 0, $3, $4, 0, 0)
			ON CONFLICT (account, day, value_day, lane) DO UPDATE SET
				debits = turnover.debits + excluded.debits, credits = turnover.credits + excluded.credits`,
			account, h.ValueDay, sums[account][0], sums[account][1])
	}
	return tx.SendBatch(ctx, &all).Close()
}

// copy loads rows into the table of postings by COPY, two connections at once.
func (p *posting) copy(ctx context.Context) (reading, error) {
	if _, err := p.b.owner.Pool.Exec(ctx, `TRUNCATE postings`); err != nil {
		return reading{}, err
	}
	columns := strings.Fields("lane seq ord n day debit credit amount debit_ref credit_ref")
	chunks := make([][][]any, max(2, p.b.size.copied/copyChunk))
	for i := range chunks {
		chunks[i] = make([][]any, copyChunk)
		for k := range chunks[i] {
			e, _ := p.entry(int64(i*copyChunk+k), false)
			q := e.Postings()[0]
			chunks[i][k] = []any{int16(1), int64(i), int16(k), int16(0), int32(benchDay), int64(q.Debit.Account), int64(q.Credit.Account), int64(q.Amount), q.Debit.Ref, q.Credit.Ref}
		}
	}
	failed := make(chan error, 2)
	start := time.Now()
	for from := range 2 {
		go func() {
			for i := from; i < len(chunks); i += 2 {
				if _, err := p.b.owner.Pool.CopyFrom(ctx, pgx.Identifier{"postings"}, columns, pgx.CopyFromRows(chunks[i])); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	err := errors.Join(<-failed, <-failed)
	return reading{value: float64(len(chunks)*copyChunk) / time.Since(start).Seconds()}, err
}
