package recon_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/clearward/clearward/recon"
)

const day = ledger.Day(20260915)

var start = time.Date(2026, 9, 16, 2, 0, 0, 0, time.UTC)

// billFile makes the records of a trade bill; its manifest comes last.
func billFile(part recon.Part, name string, fedAt time.Time, lines ...channels.BillLine) []recon.FeedRecord {
	s := recon.Slice{Source: recon.SourceBill, Hospital: "H1", Channel: channels.WeChat, Account: "1900000109", Day: day}
	m := &recon.Manifest{Slice: s, Part: part, SHA256: sha256.Sum256([]byte(name)), Name: name, FedAt: fedAt}
	m.File = recon.FileID(s, part, m.SHA256)
	var tally recon.Tally
	var records []recon.FeedRecord
	for i := range lines {
		l := lines[i]
		l.Row = i + 1
		tally.Bill(&l, s.Account)
		records = append(records, recon.FeedRecord{Line: &recon.FeedLine{File: m.File, Row: l.Row, Slice: s, Bill: &l}})
	}
	tally.Close(m, channels.FileSummary{})
	return append(records, recon.FeedRecord{Manifest: m})
}

func pay(n int, fen ledger.Money) channels.BillLine {
	return channels.BillLine{Kind: channels.Pay, MerchantNo: "1900000109", OrderNo: fmt.Sprintf("HP%04d", n), RefundNo: "",
		TradeNo: fmt.Sprintf("42%04d", n), At: day.Start().Add(time.Duration(n) * time.Minute), Status: channels.Success,
		Amount: fen, Settle: fen, Fee: fen / 100}
}

func refund(n int, fen ledger.Money) channels.BillLine {
	l := pay(n, fen)
	l.Kind, l.RefundNo, l.ChannelRefundNo = channels.Refund, fmt.Sprintf("HR%04d", n), fmt.Sprintf("50%04d", n)
	return l
}

func ingest(t testing.TB, d *db.DB, records ...recon.FeedRecord) {
	t.Helper()
	if err := recon.Ingest(t.Context(), d, records, start); err != nil {
		t.Fatal(err)
	}
}

// dump tells everything that is stored of the feeds, but for receive times.
func dump(t interface {
	Helper()
	Fatal(...any)
}, d *db.DB) string {
	t.Helper()
	var out strings.Builder
	for _, sql := range []string{
		`SELECT CONCAT_WS(' ', file, state, reason, stored, line_count, part) FROM feed_files ORDER BY file`,
		`SELECT CONCAT_WS(' ', file, fed_at, name) FROM feed_deliveries ORDER BY file, fed_at`,
		`SELECT CONCAT_WS(' ', p.part, MIN(d.name), p.version) FROM feed_parts AS p JOIN feed_deliveries AS d ON d.file = p.file GROUP BY p.part, p.version ORDER BY p.part`,
		`SELECT CONCAT_WS(' ', file, row_no, kind, order_no, refund_no, amount, fee) FROM bill_lines ORDER BY file, row_no`,
		`SELECT CONCAT_WS(' ', file, row_no, kind, flow_no, amount) FROM fund_lines ORDER BY file, row_no`,
		`SELECT CONCAT_WS(' ', file, row_no, kind, bill_no, order_no, refund_no, amount) FROM his_lines ORDER BY file, row_no`,
		`SELECT CONCAT_WS(' ', file, row_no, ref, amount, counterparty) FROM bank_lines ORDER BY file, row_no`,
	} {
		rows, err := d.Pool.Query(context.Background(), sql)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(strings.Join(lines, "\n") + "\n--\n")
	}
	return out.String()
}

// parts gives what counts, as "PAY v1 name" per part.
func parts(t testing.TB, d *db.DB) string {
	t.Helper()
	rows, err := d.Pool.Query(t.Context(), `
		SELECT CONCAT(p.part, ' v', p.version, ' ', MIN(d.name))
		FROM feed_parts AS p
		JOIN feed_deliveries AS d ON d.file = p.file
		GROUP BY p.source, p.part, p.version
		ORDER BY p.source, p.part`)
	if err != nil {
		t.Fatal(err)
	}
	text, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(text, ", ")
}

func state(t testing.TB, d *db.DB, records []recon.FeedRecord) recon.FedFile {
	t.Helper()
	var files []recon.FedFile
	err := d.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) (err error) {
		files, err = recon.Files(ctx, tx, records[len(records)-1].Manifest.File)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1 {
		t.Fatalf("%d files, want 1", len(files))
	}
	return files[0]
}

func TestAFileCountsOnceItIsComplete(t *testing.T) {
	d := dbtest.New(t, recon.Schema)
	file := billFile(recon.PartAll, "all.csv", start, pay(1, 1000), pay(2, 2000), refund(1, 500))
	ingest(t, d, file[3]) // the manifest first
	ingest(t, d, file[1], file[0], file[1])
	if got := state(t, d, file); got.State != recon.FileReceived || got.Stored != 2 || parts(t, d) != "" {
		t.Fatalf("a file that lacks a line is %+v, counts %q", got, parts(t, d))
	}
	ingest(t, d, file[2])
	if got := state(t, d, file); got.State != recon.FileVerified {
		t.Fatalf("complete file: %+v", got)
	}
	if got, want := parts(t, d), "PAY v1 all.csv, REFUND v1 all.csv"; got != want {
		t.Fatalf("parts %q, want %q", got, want)
	}
	before := dump(t, d)
	ingest(t, d, file...)
	if after := dump(t, d); after != before {
		t.Fatalf("fed again:\n%s\nbefore:\n%s", after, before)
	}
}

func TestAnEmptyFileIsVerified(t *testing.T) {
	d := dbtest.New(t, recon.Schema)
	file := billFile(recon.PartAll, "empty.csv", start)
	ingest(t, d, file...)
	if got := state(t, d, file); got.State != recon.FileVerified || parts(t, d) != "PAY v1 empty.csv, REFUND v1 empty.csv" {
		t.Fatalf("empty file: %+v, counts %q", got, parts(t, d))
	}
}

func TestAFileWhoseSumsDisagreeIsRejectedWithTheReason(t *testing.T) {
	d := dbtest.New(t, recon.Schema)
	file := billFile(recon.PartAll, "bad.csv", start, pay(1, 1000), refund(1, 500))
	file[2].Manifest.Totals["pay.fee"] = 11
	ingest(t, d, file...)
	got := state(t, d, file)
	if got.State != recon.FileRejected || got.Reason != "pay.fee: manifest 11, stored 10" || parts(t, d) != "" {
		t.Fatalf("%+v, counts %q", got, parts(t, d))
	}
	corrected := billFile(recon.PartAll, "bad.csv", start.Add(time.Hour), pay(1, 1000), refund(1, 500))
	ingest(t, d, corrected...)
	if got := state(t, d, file); got.State != recon.FileVerified || got.Reason != "" {
		t.Fatalf("with a right manifest: %+v", got)
	}
}

func TestOnlyOtherContentIsANewVersion(t *testing.T) {
	p1, p2, r1 := pay(1, 1000), pay(2, 2000), refund(1, 500)
	all := billFile(recon.PartAll, "all.csv", start, p1, r1, p2)
	for _, tt := range []struct {
		name  string
		files [][]recon.FeedRecord
		want  string
	}{
		{"the halves say the same as the whole", [][]recon.FeedRecord{all,
			billFile(recon.PartPay, "success.csv", start.Add(1e9), p1, p2),
			billFile(recon.PartRefund, "refund.csv", start.Add(2e9), r1),
		}, "PAY v1 all.csv, REFUND v1 all.csv"},
		{"other order of rows", [][]recon.FeedRecord{all,
			billFile(recon.PartAll, "sorted.csv", start.Add(1e9), p1, p2, r1),
		}, "PAY v1 all.csv, REFUND v1 all.csv"},
		{"a refund more", [][]recon.FeedRecord{all,
			billFile(recon.PartAll, "restated.csv", start.Add(1e9), p1, p2, r1, refund(2, 100)),
		}, "PAY v1 all.csv, REFUND v2 restated.csv"},
		{"a repeated row is another content", [][]recon.FeedRecord{all,
			billFile(recon.PartPay, "twice.csv", start.Add(1e9), p1, p2, p2),
		}, "PAY v2 twice.csv, REFUND v1 all.csv"},
		{"back to the first", [][]recon.FeedRecord{all,
			billFile(recon.PartAll, "restated.csv", start.Add(1e9), p1),
			billFile(recon.PartAll, "all.csv", start.Add(2e9), p1, r1, p2),
		}, "PAY v3 all.csv, REFUND v3 all.csv"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := dbtest.New(t, recon.Schema)
			for _, file := range tt.files {
				ingest(t, d, file...)
			}
			if got := parts(t, d); got != tt.want {
				t.Errorf("counts %q, want %q", got, tt.want)
			}
		})
	}
}

func TestArrivalNeverMatters(t *testing.T) {
	d := dbtest.New(t, recon.Schema)
	p1, p2, r1 := pay(1, 1000), pay(2, 2000), refund(1, 500)
	records := slices.Concat(
		billFile(recon.PartAll, "all.csv", start, p1, r1, p2),
		billFile(recon.PartPay, "success.csv", start.Add(1e9), p1, p2),
		billFile(recon.PartAll, "restated.csv", start.Add(2e9), p1, pay(3, 300), p2),
		billFile(recon.PartRefund, "refund.csv", start.Add(3e9), r1),
		billFile(recon.PartAll, "all.csv", start.Add(4e9), p1, r1, p2),
		billFile(recon.PartAll, "half.csv", start.Add(5e9), p1)[1:], // its only line never comes
	)
	ingest(t, d, records...)
	want := dump(t, d)
	if !strings.Contains(want, "PAY all.csv 3") || !strings.Contains(want, "REFUND refund.csv 3") {
		t.Fatalf("the undisturbed feed:\n%s", want)
	}
	rapid.Check(t, func(rt *rapid.T) {
		fresh := dbtest.New(t, recon.Schema)
		defer fresh.Close()
		twice := append(slices.Clone(records), rapid.SliceOfN(rapid.SampledFrom(records), 0, 20).Draw(rt, "again")...)
		order := rapid.Permutation(twice).Draw(rt, "order")
		for len(order) > 0 {
			n := rapid.IntRange(1, len(order)).Draw(rt, "batch")
			if err := recon.Ingest(context.Background(), fresh, order[:n], start); err != nil {
				rt.Fatal(err)
			}
			order = order[n:]
		}
		if got := dump(rt, fresh); got != want {
			rt.Fatalf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}

func TestRecordsThatCanNeverBeStoredAreTold(t *testing.T) {
	d := dbtest.New(t, recon.Schema)
	good := billFile(recon.PartAll, "all.csv", start, pay(1, 1000))
	line := *good[0].Line
	for _, tt := range []struct {
		name   string
		change func(*recon.FeedLine, *recon.Manifest)
		want   string
	}{
		{"no hospital", func(l *recon.FeedLine, _ *recon.Manifest) { l.Slice.Hospital = "" }, "slice names no hospital"},
		{"no such day", func(l *recon.FeedLine, _ *recon.Manifest) { l.Slice.Day = 20260931 }, "day 20260931 is no date"},
		{"other body", func(l *recon.FeedLine, _ *recon.Manifest) { l.Bill, l.HIS = nil, &channels.HISLine{} }, "the body of the line does not fit source BILL"},
		{"no row", func(l *recon.FeedLine, _ *recon.Manifest) { l.Row = 0 }, "row 0"},
		{"other file", func(_ *recon.FeedLine, m *recon.Manifest) { m.File++ }, "is not made of its slice and bytes"},
		{"fewer rows than lines", func(_ *recon.FeedLine, m *recon.Manifest) { m.Lines = 7 }, "7 lines of 1 rows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, m := line, *good[1].Manifest
			tt.change(&l, &m)
			err := recon.Ingest(t.Context(), d, []recon.FeedRecord{{Line: &l}, {Manifest: &m}}, start)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestBillsAreReadInTheOrderOfBytes(t *testing.T) {
	d := dbtest.New(t, recon.Schema)
	a, b, c := pay(1, 1), pay(2, 2), pay(3, 3)
	a.OrderNo, b.OrderNo, c.OrderNo = "b1", "A2", "a3" // a locale would put a3 first
	ingest(t, d, billFile(recon.PartAll, "all.csv", start, a, b, c, refund(1, 1))...)
	var got []string
	err := d.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		got = nil
		return recon.StreamBill(ctx, tx, "H1", day, func(l *recon.Line) error {
			got = append(got, fmt.Sprintf("%s %s %d %d %s", l.Kind, l.OrderNo, l.Row, l.Amount, l.At.Format("15:04")))
			return nil
		})
	})
	want := []string{"PAY A2 2 2 16:02", "REFUND HP0001 4 1 16:01", "PAY a3 3 3 16:03", "PAY b1 1 1 16:01"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}
