package recon_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// house is the whole of the house below the API, on a real database and a real
// protocol broker.
type house struct {
	t         testing.TB
	db        *db.DB
	committer *ledger.Committer
	engine    *recon.Engine
	kafka     feed.Kafka
	consumer  *feed.Consumer
	clock     time.Time
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, clock: time.Date(2026, 9, 17, 3, 30, 0, 0, time.UTC)}
	h.db = dbtest.New(t, ledger.Schema, clearing.Schema, payout.Schema, recon.Schema)
	now := func() time.Time { return h.clock }
	committer, err := ledger.NewCommitter(t.Context(), h.db, ledger.Options{Now: now})
	h.must(err)
	h.committer = committer
	t.Cleanup(committer.Close)
	h.engine = &recon.Engine{DB: h.db, Committer: committer, Now: now}
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	h.must(err)
	t.Cleanup(broker.Close)
	h.kafka = feed.Kafka{Brokers: broker.ListenAddrs()}
	h.must(local.EnsureTopics(t.Context(), h.kafka.Brokers, h.kafka.Topics()))
	h.consumer = feed.StartConsumer(context.Background(), h.kafka, h.db, now, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { h.must(h.consumer.Stop()) })
	return h
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) setup(path string) {
	h.t.Helper()
	text, err := os.ReadFile(path)
	h.must(err)
	_, err = clearing.Setup(h.t.Context(), h.db, bytes.NewReader(text))
	h.must(err)
}

func (h *house) importFile(path string) {
	h.t.Helper()
	f, err := os.Open(path)
	h.must(err)
	defer f.Close()
	im := clearing.Importer{DB: h.db, Committer: h.committer, Maker: "test"}
	_, err = im.Import(h.t.Context(), f)
	h.must(err)
}

// feed sends files and waits until they are stored.
func (h *house) feed(o feed.Options, paths ...string) {
	h.t.Helper()
	var owners []feed.Owner
	h.must(h.db.ReadTx(h.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		dir, err := clearing.LoadMerchants(ctx, tx)
		if err != nil {
			return err
		}
		owners = owners[:0]
		for _, m := range dir.Merchants {
			owners = append(owners, feed.Owner{Hospital: m.Hospital, Channel: m.Channel, MerchantNo: m.No, Aliases: m.Aliases, Account: m.SettlesTo})
		}
		for _, b := range dir.Banks {
			owners = append(owners, feed.Owner{Hospital: b.Hospital, Account: b.Account})
		}
		return nil
	}))
	p := feed.NewProducer(h.kafka, owners, func() time.Time { h.clock = h.clock.Add(time.Second); return h.clock })
	for _, path := range paths {
		name := filepath.Base(path)
		send := p.FeedChannel
		switch {
		case strings.HasPrefix(name, "his"):
			send = p.FeedHIS
		case strings.HasPrefix(name, "bank"):
			send = p.FeedBank
		}
		_, err := send(h.t.Context(), path, o)
		h.must(err)
	}
	h.must(p.Close())
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	h.must(h.consumer.CaughtUp(ctx))
}

func (h *house) run(day ledger.Day) *recon.Day {
	h.t.Helper()
	d, err := h.engine.Run(h.t.Context(), day)
	h.must(err)
	return d
}

// trial is every account with a balance: debits above zero.
func (h *house) trial() map[string]ledger.Money {
	h.t.Helper()
	out := map[string]ledger.Money{}
	h.must(h.db.ReadTx(h.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		all, err := ledger.TrialBalance(ctx, tx, clearing.PlatformBook, ledger.AsOf{})
		for _, b := range all {
			if b.Debits != b.Credits {
				out[b.Code] = b.Debits - b.Credits
			}
		}
		return err
	}))
	return out
}

func (h *house) verify() {
	h.t.Helper()
	found, err := ledger.Verify(h.t.Context(), h.db, append(clearing.Controls(), recon.Controls()...)...)
	h.must(err)
	for _, f := range found {
		h.t.Error(f)
	}
}

const sampleDir = "../api/testdata/day"

const sampleDay ledger.Day = 20260915

var hisFlags = feed.Options{Counted: true, Rows: 50, Sum: 1592039 + 12860}

var sampleFeeds = []string{
	"his.csv", "wechat_tradebill_ALL_20260915.csv", "wechat_fundflow_BASIC_20260915.csv",
	"alipay_20880000000000020156_20260915_trade.csv.zip", "alipay_20880000000000020156_20260915_signcustomer.csv.zip",
	"bank_camt053_20260916.xml",
}

func (h *house) feedSample(names ...string) {
	h.t.Helper()
	for _, name := range names {
		o := feed.Options{}
		if name == "his.csv" {
			o = hisFlags
		}
		h.feed(o, filepath.Join(sampleDir, name))
	}
}

func (h *house) expect(d *recon.Day) {
	h.t.Helper()
	want, err := os.ReadFile(filepath.Join(sampleDir, "expected.csv"))
	h.must(err)
	var got bytes.Buffer
	h.must(d.Write(&got, recon.FormatCSV, "zh"))
	if got.String() != string(want) {
		h.t.Errorf("the list is\n%s\nwant\n%s", got.String(), want)
	}
}

// sampleTrial is spec/accounting.md 3.7, debits above zero, in fen.
var sampleTrial = map[string]ledger.Money{
	"1002.HOSP.755947919810515": 6951, "1122.WX.1900000109": 2000, "1125.WX.1900000109": 120600, "1221.H1": 15300,
	"2202.H1.PEND": -9500, "2204.H1": -11141, "2205.ALI.20880000000000020156": -500, "2205.WX.1900000109": -123100,
	"2206.WX.1900000109": -12, "2241.H1": -610, "2242.H1": -9513, "6601.H1": 9525,
}

func (h *house) expectTrial() {
	h.t.Helper()
	h.expectBalances(sampleTrial)
}

// expectBalances: these accounts have these balances and every other is zero.
func (h *house) expectBalances(want map[string]ledger.Money) {
	h.t.Helper()
	got := h.trial()
	var lines []string
	for code := range want {
		if got[code] != want[code] {
			lines = append(lines, fmt.Sprintf("%s is %s, want %s", code, got[code], want[code]))
		}
	}
	for code, fen := range got {
		if _, ok := want[code]; !ok {
			lines = append(lines, fmt.Sprintf("%s is %s, want 0", code, fen))
		}
	}
	slices.Sort(lines)
	if len(lines) > 0 {
		h.t.Error(strings.Join(lines, "\n"))
	}
}

// TestSampleDay is the sample day as its README and spec/accounting.md 3.7 tell it:
// the rows and none besides, and every balance to the fen.
func TestSampleDay(t *testing.T) {
	h := newHouse(t)
	h.setup(filepath.Join(sampleDir, "setup.yaml"))
	h.importFile(filepath.Join(sampleDir, "platform.csv"))
	h.feedSample(sampleFeeds...)
	d := h.run(sampleDay)
	h.expect(d)
	h.expectTrial()
	h.verify()
	var table bytes.Buffer
	h.must(d.Write(&table, recon.FormatTable, "zh"))
	t.Log("\n" + table.String())
}

// sampleTrialB is the sample day on settle mode B, debits above zero: what mode A
// has made the hospital's own rests in custody and is available for a payout; the
// fee is not made a debt yet (J27 tops it up), and the bank's charge is the platform's.
var sampleTrialB = map[string]ledger.Money{
	"1002.CUST.755947919810515.H1": 1575696 - 1200, "6603.755947919810515": 1200,
	"2202.H1.AVAIL": -1578258, "1998.H1": 9513 + 1200, "2998.H1": -9513 - 1200,
	"1122.WX.1900000109": 2000, "1125.WX.1900000109": 120600, "1221.H1": 15300, "2202.H1.PEND": -9500, "2204.H1": -11141,
	"2205.ALI.20880000000000020156": -500, "2205.WX.1900000109": -123100, "2206.WX.1900000109": -12, "2241.H1": -610, "6601.H1": 9525,
}

// custodyStatement is the sample statement without the hospital's own suppliers,
// which have no business on a custody account.
func custodyStatement(t *testing.T) string {
	text, err := os.ReadFile(filepath.Join(sampleDir, "bank_camt053_20260916.xml"))
	if err != nil {
		t.Fatal(err)
	}
	kept := regexp.MustCompile(`(?s)\s*<Ntry><NtryRef>[456]</NtryRef>.*?</Ntry>`).ReplaceAllString(string(text), "")
	kept = strings.NewReplacer("994121.82", "1019121.82", "<NbOfNtries>4</NbOfNtries><Sum>37133.82", "<NbOfNtries>3</NbOfNtries><Sum>19133.82",
		"<NbOfNtries>3</NbOfNtries><Sum>43012.00", "<NbOfNtries>1</NbOfNtries><Sum>12.00").Replace(kept)
	path := filepath.Join(t.TempDir(), "bank_custody.xml")
	if err := os.WriteFile(path, []byte(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSampleDayOnModeB runs the sample day for a private hospital whose money a bank
// keeps: J26a and J26b in place of J28a to J28c (spec/accounting.md 3.6).
func TestSampleDayOnModeB(t *testing.T) {
	h := newHouse(t)
	h.setupSampleB()
	h.feedSample(sampleFeeds[:5]...)
	h.feed(feed.Options{}, custodyStatement(t))
	h.expect(h.run(sampleDay))
	h.expectBalances(sampleTrialB)
	h.verify()
}
