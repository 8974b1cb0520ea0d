package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// benchParsing measures how fast a WeChat bill is read, beside the finding of
// its lines.
func (b *bench) benchParsing(ctx context.Context) (err error) {
	dir := filepath.Join(b.dir, "bill")
	config := sandbox.Config{Seed: 1, Day: benchDay, Hospitals: 1, Payments: b.size.bill, Faults: map[string]int{}}
	plan, err := sandbox.Generate(config, dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var bill sandbox.File
	for _, f := range plan.Days[0].Files {
		if f.Source == sandbox.SourceTrade && f.Channel == channels.WeChat && f.Rows > bill.Rows {
			bill = f
		}
	}
	path := filepath.Join(dir, bill.Path)
	parsed := func(r io.Reader) (int, error) {
		rows := 0
		_, err := wechat.ReadTradeBill(r, channels.Expect{}, func(*channels.BillLine) error { rows++; return nil })
		return rows, err
	}
	return b.measureAll(ctx,
		measure{name: "ref.scan", unit: "rows/s", note: "bufio.Scanner over the lines of the same file", run: func(context.Context) (reading, error) {
			return b.readOver(path, bill.Rows, scanned)
		}},
		measure{name: "parse.wechat", unit: "rows/s", memory: 16, note: fmt.Sprintf("a generated trade bill of %d rows, every rule checked, one core; one of the two targets is enough", bill.Rows),
			goals: []goal{{"ref.scan", 0.15}, {"", 3_500_000}},
			run: func(context.Context) (reading, error) {
				return b.readOver(path, bill.Rows, parsed)
			}})
}

// scanned counts the rows of a bill, which begin with a backtick, but for the
// one below the summary's header.
func scanned(r io.Reader) (int, error) {
	lines := bufio.NewScanner(r)
	rows := -1
	for lines.Scan() {
		if text := lines.Bytes(); len(text) > 0 && text[0] == '`' {
			rows++
		}
	}
	return rows, lines.Err()
}

// readOver reads the file over and over on one core, for a third of the span,
// and counts rows a second.
func (b *bench) readOver(path string, want int, read func(io.Reader) (int, error)) (reading, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	once := func() error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		if rows, err := read(file); err != nil || rows != want {
			return fmt.Errorf("%d rows, not %d: %w", rows, want, err)
		}
		return nil
	}
	if err := once(); err != nil { // also brings the file into memory
		return reading{}, err
	}
	start, times := time.Now(), 0
	for ; times == 0 || time.Since(start) < b.size.span/3; times++ {
		if err := once(); err != nil {
			return reading{}, err
		}
	}
	return reading{value: float64(want*times) / time.Since(start).Seconds()}, nil
}

// matching is two sides of one merchant number's day, in no order: what one side
// has that the other has not is one row in a thousand.
type matching struct {
	b        *bench
	orders   []string
	hospital string
	channel  string
	no       string
}

// benchMatching measures the way from stored rows to verdicts, without booking
// them, beside what SQL needs for as many rows.
func (b *bench) benchMatching(ctx context.Context) error {
	m := &matching{b: b, hospital: "H1", channel: channels.WeChat, no: "1900000109", orders: make([]string, b.size.match)}
	for i := range m.orders {
		m.orders[i] = fmt.Sprintf("HP%s%020d", benchDay.Compact(), i)
	}
	rand.Shuffle(len(m.orders), func(i, j int) { m.orders[i], m.orders[j] = m.orders[j], m.orders[i] })
	if err := m.store(ctx); err != nil {
		return err
	}
	return b.measureAll(ctx,
		measure{name: "ref.join", unit: "rows/s", note: "COPY of two tables by two connections, then FULL OUTER JOIN of what differs", run: m.join},
		measure{name: "match.unsorted", unit: "rows/s", memory: 128, note: fmt.Sprintf(
			"2 × %d rows stored in no order, read from the product's tables in key order and given their verdicts; storing them is in recon.day", len(m.orders)),
			goals: []goal{{"ref.join", 3}, {"", 5_000_000}}, run: m.compare})
}

// fen is the amount of the order at i.
func (m *matching) fen(i int) ledger.Money { return ledger.Money(1+i%50) * 100_00 }

// missing says that the channel does not know the order at i.
func (m *matching) missing(i int) bool { return i%1000 == 0 }

// store fills the tables that the product matches from: payments, whose import
// is measured in recon.day, by COPY, and the bill as a consumer stores it.
func (m *matching) store(ctx context.Context) error {
	setup := fmt.Sprintf(benchSetup, m.hospital, m.no)
	path := filepath.Join(m.b.dir, "setup.yaml")
	if err := os.WriteFile(path, []byte(setup), 0o644); err != nil {
		return err
	}
	if _, err := m.b.server.Setup(ctx, path); err != nil {
		return err
	}
	at := benchDay.Start().Add(9 * time.Hour)
	columns := strings.Fields(`hospital order_no channel merchant_no trade_no amount_fen settle_fen fee_fen occurred_at channel_success_at
		status bill_no biz_type terminal patient_ref fund_day digest posted`)
	next := -1
	_, err := m.b.server.DB.Pool.CopyFrom(ctx, pgx.Identifier{"payments"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if next++; next == len(m.orders) {
			return nil, nil
		}
		fen := int64(m.fen(next))
		return []any{m.hospital, m.orders[next], m.channel, m.no, "42" + m.orders[next], fen, fen, fen * 6 / 1000, at, at,
			"SUCCESS", "B" + m.orders[next], "OUTPATIENT", "", "", int32(benchDay), int64(next), true}, nil
	}))
	if err != nil {
		return err
	}
	return m.ingest(ctx, at)
}

// ingest stores the bill in another order than the payments.
func (m *matching) ingest(ctx context.Context, at time.Time) error {
	slice := recon.Slice{Source: recon.SourceBill, Hospital: m.hospital, Channel: m.channel, Account: m.no, Day: benchDay}
	file := &recon.Manifest{Slice: slice, Part: recon.PartAll, SHA256: sha256.Sum256([]byte("bench")), Name: "bench", FedAt: at}
	file.File = recon.FileID(slice, file.Part, file.SHA256)
	var tally recon.Tally
	var records []recon.FeedRecord
	row := 0
	for i, order := range slices.Backward(m.orders) {
		if m.missing(i) {
			continue
		}
		row++
		line := &channels.BillLine{Row: row, Kind: channels.Pay, MerchantNo: m.no, OrderNo: order, TradeNo: "42" + order, At: at,
			Status: channels.Success, Amount: m.fen(i), Settle: m.fen(i), Fee: m.fen(i) * 6 / 1000}
		tally.Bill(line, m.no)
		records = append(records, recon.FeedRecord{Line: &recon.FeedLine{File: file.File, Row: row, Slice: slice, Bill: line}})
		if len(records) == copyChunk {
			if err := recon.Ingest(ctx, m.b.server.DB, records, at); err != nil {
				return err
			}
			records = records[:0]
		}
	}
	tally.Close(file, channels.FileSummary{})
	return recon.Ingest(ctx, m.b.server.DB, append(records, recon.FeedRecord{Manifest: file}), at)
}

// compare is the product's way.
func (m *matching) compare(ctx context.Context) (reading, error) {
	start := time.Now()
	lines, codes, err := m.b.server.Engine.Compare(ctx, m.hospital, benchDay)
	if err != nil {
		return reading{}, err
	}
	elapsed := time.Since(start).Seconds()
	missing := (len(m.orders) + 999) / 1000
	if lines != 2*len(m.orders)-missing || codes[recon.Match] != len(m.orders)-missing {
		return reading{}, fmt.Errorf("%d lines, %v, not %d missing rows", lines, codes, missing)
	}
	return reading{value: float64(lines) / elapsed}, nil
}

// join is the way of somebody who loads two files into tables and asks SQL.
func (m *matching) join(ctx context.Context) (reading, error) {
	pool := m.b.owner.Pool
	for _, sql := range []string{
		`DROP TABLE IF EXISTS left_side, right_side`,
		`CREATE TABLE left_side (order_no TEXT, kind TEXT, refund_no TEXT, amount INT8, settle INT8, fee INT8, at TIMESTAMPTZ)`,
		`CREATE TABLE right_side (order_no TEXT, kind TEXT, refund_no TEXT, amount INT8, settle INT8, fee INT8, at TIMESTAMPTZ)`,
	} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			return reading{}, err
		}
	}
	start := time.Now()
	failed := make(chan error, 2)
	for _, table := range []string{"left_side", "right_side"} {
		go func() { failed <- m.load(ctx, table) }()
	}
	if err := errors.Join(<-failed, <-failed); err != nil {
		return reading{}, err
	}
	loaded := time.Since(start)
	var differ int
	err := pool.QueryRow(ctx, `
		SELECT count(*)
		FROM left_side AS l FULL OUTER JOIN right_side AS r ON l.order_no = r.order_no AND l.kind = r.kind AND l.refund_no = r.refund_no
		WHERE l.amount IS DISTINCT FROM r.amount OR l.settle IS DISTINCT FROM r.settle OR l.fee IS DISTINCT FROM r.fee`).Scan(&differ)
	if err != nil {
		return reading{}, err
	}
	if want := (len(m.orders) + 999) / 1000; differ != want {
		return reading{}, fmt.Errorf("%d rows differ, not %d", differ, want)
	}
	rows, total := float64(2*len(m.orders)-differ), time.Since(start)
	return reading{value: rows / total.Seconds(), detail: fmt.Sprintf("the join without the load %s rows/s", grouped(rows/(total-loaded).Seconds()))}, nil
}

// load copies one side in.
func (m *matching) load(ctx context.Context, table string) error {
	at, left := benchDay.Start().Add(9*time.Hour), table == "left_side"
	next := -1
	_, err := m.b.owner.Pool.CopyFrom(ctx, pgx.Identifier{table}, strings.Fields("order_no kind refund_no amount settle fee at"), pgx.CopyFromFunc(func() ([]any, error) {
		if next++; !left && next < len(m.orders) && m.missing(next) {
			next++
		}
		if next >= len(m.orders) {
			return nil, nil
		}
		fen := int64(m.fen(next))
		return []any{m.orders[next], "PAY", "", fen, fen, fen * 6 / 1000, at}, nil
	}))
	return err
}

// linear holds the largest day against the smallest: what one line costs may
// hardly grow with the day.
var linear = struct{ name, beside string }{"recon.day", "recon.day.small"}

// benchDays measures whole days, each on a fresh data directory.
func (b *bench) benchDays(ctx context.Context) error {
	for i, payments := range b.size.days {
		name := linear.name
		if i < len(b.size.days)-1 {
			name = linear.beside
		}
		if err := b.benchDayOf(ctx, name, payments); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) benchDayOf(ctx context.Context, name string, payments int) (err error) {
	s, err := b.open(ctx, name)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, name+".files")
	defer func() { err = errors.Join(err, s.Close(), os.RemoveAll(dir), os.RemoveAll(filepath.Join(b.dir, name))) }()
	t, err := RunGeneratedDay(ctx, s, DayConfig{Config: sandbox.Config{Seed: 1, Day: benchDay, Hospitals: 3, Payments: payments}, Dir: dir})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(t.Wrong) > 0 {
		return fmt.Errorf("%s: what was found is not what was planted: %s", name, t.Wrong[0])
	}
	stages := make([]string, len(t.Stages))
	for i, stage := range t.Stages {
		stages[i] = fmt.Sprintf("%s %.1f s", stage.Name, stage.Took.Seconds())
	}
	note := fmt.Sprintf("%s payments, %s lines of the business app, HIS and the bills, files to published batch in %.1f s, planted equals found; %s",
		grouped(float64(t.Payments)), grouped(float64(t.Lines)), t.Total.Seconds(), strings.Join(stages, ", "))
	m := measure{name: name, unit: "lines/s", note: note, memory: 512, goals: []goal{{"", 50_000}}}
	if name == linear.name && len(b.size.days) > 1 {
		m.goals = []goal{{linear.beside, 0.7}, {"", 50_000}}
	}
	value := float64(t.Lines) / t.Total.Seconds()
	b.say("%s: %s lines/s, %s", name, grouped(value), note)
	b.readings[name] = []reading{{value: value, peak: t.PeakMiB, grown: t.PeakMiB}}
	b.conclude(m)
	return nil
}

// benchSetup is one hospital with one merchant number.
const benchSetup = `region: {code: R1, name: bench}
hospitals:
  - code: %[1]s
    name: bench
    ownership: PUBLIC
    his_calls: APP
    bank_accounts:
      - {account: "755947919810515", name: bench, bank: bench, role: SETTLEMENT}
    merchants:
      - {channel: WECHAT, merchant_no: %[2]q, kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "755947919810515", retained_fen: 0}
`
