package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/clearward/clearward/recon"
)

// within is the broker inside this process, nil where the tests use a real one.
var within *kfake.Cluster

// broker is the one that all tests of this binary use: a real one if the
// environment names it, else one inside this process.
var broker = sync.OnceValues(func() ([]string, error) {
	if brokers := os.Getenv("CLEARWARD_TEST_KAFKA_BROKERS"); brokers != "" {
		return strings.Split(brokers, ","), nil
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		return nil, err
	}
	within = cluster
	return cluster.ListenAddrs(), nil // it ends with the test binary
})

// testKafka returns a broker with topics that no other test knows.
func testKafka(t testing.TB) Kafka {
	t.Helper()
	brokers, err := broker()
	if err != nil {
		t.Fatal(err)
	}
	k := Kafka{Brokers: brokers, Prefix: fmt.Sprintf("test-%x.", rand.Uint64())}
	if err := local.EnsureTopics(t.Context(), brokers, k.Topics()); err != nil {
		t.Fatal(err)
	}
	return k
}

// rig is a database, topics and what feeds and reads them.
type rig struct {
	kafka    Kafka
	db       *db.DB
	producer *Producer
	consumer *Consumer
}

var owners = []Owner{
	{Hospital: "H1", Channel: channels.WeChat, MerchantNo: "1900000109", Account: "755947919810515"},
	{Hospital: "H1", Channel: channels.Alipay, MerchantNo: "20880000000000020156", Aliases: []string{"2088000000000002"}, Account: "755947919810515"},
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{kafka: testKafka(t), db: dbtest.New(t, recon.Schema)}
	r.producer = NewProducer(r.kafka, owners, now)
	t.Cleanup(func() {
		if err := r.producer.Close(); err != nil {
			t.Error(err)
		}
		r.stop(t)
	})
	r.start()
	return r
}

func now() time.Time { return fedAt }

func (r *rig) start() {
	r.consumer = StartConsumer(context.Background(), r.kafka, r.db, now, slog.New(slog.DiscardHandler))
}

func (r *rig) stop(t testing.TB) {
	t.Helper()
	if r.consumer == nil {
		return
	}
	if err := r.consumer.Stop(); err != nil {
		t.Error(err)
	}
	r.consumer = nil
}

func (r *rig) caughtUp(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := r.consumer.CaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
}

// feed sends a channel file. The clock stands still: files fed in one instant
// keep their order all the same.
func (r *rig) feed(t testing.TB, path string) Fed {
	t.Helper()
	fed, err := r.producer.FeedChannel(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return fed
}

// send writes records as they are, several batches after one another.
func (r *rig) send(t testing.TB, topic string, values ...[]byte) {
	t.Helper()
	var messages []kafka.Message
	for _, value := range values {
		messages = append(messages, kafka.Message{Topic: r.kafka.topic(topic), Key: []byte("k"), Value: value})
	}
	writer := r.kafka.writer()
	if err := writer.WriteMessages(t.Context(), messages...); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) query(t testing.TB, sql string) []string {
	t.Helper()
	rows, err := r.db.Pool.Query(context.Background(), sql)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// tables tells all that is stored, but for receive times and names.
func (r *rig) tables(t testing.TB) string {
	t.Helper()
	var all []string
	for _, sql := range []string{
		`SELECT CONCAT_WS(' ', file, source, account, day, state, reason, stored, part, row_count, line_count, totals) FROM feed_files ORDER BY file`,
		`SELECT CONCAT_WS(' ', source, account, day, part, file, version) FROM feed_parts ORDER BY source, account, day, part`,
		`SELECT CONCAT_WS(' ', file, row_no, kind, status, order_no, refund_no, trade_no, channel_refund_no, at, amount, settle, fee) FROM bill_lines ORDER BY file, row_no`,
		`SELECT CONCAT_WS(' ', file, row_no, kind, at, flow_no, amount, balance) FROM fund_lines ORDER BY file, row_no`,
		`SELECT CONCAT_WS(' ', file, row_no, kind, channel, bill_no, order_no, refund_no, amount, at, close_no, patient) FROM his_lines ORDER BY file, row_no`,
		`SELECT CONCAT_WS(' ', file, row_no, ref, end_to_end_id, book_day, amount, counterparty, remittance, code) FROM bank_lines ORDER BY file, row_no`,
	} {
		all = append(all, r.query(t, sql)...)
	}
	return strings.Join(all, "\n")
}

func (r *rig) parts(t testing.TB) string {
	t.Helper()
	return strings.Join(r.query(t, `
		SELECT CONCAT(p.source, ' ', p.part, ' v', p.version, ' ', MIN(d.name))
		FROM feed_parts AS p
		JOIN feed_deliveries AS d ON d.file = p.file
		GROUP BY p.source, p.account, p.part, p.version
		ORDER BY p.source, p.account, p.part`), ", ")
}

func sample(channel, name string) string {
	return filepath.Join("..", "..", "channels", channel, "testdata", name)
}

func TestAnEncodingOrSortOfBillIsNoNewVersion(t *testing.T) {
	r := newRig(t)
	fed := r.feed(t, sample("wechat", "wechat_tradebill_ALL_20260915.csv"))
	if fed.Rows != 30 || fed.Slice.Day != sampleDay || fed.Totals["pay.count"] != 22 || fed.Totals["refund.count"] != 7 || fed.Totals["reverse.count"] != 1 {
		t.Fatalf("fed %+v", fed)
	}
	again := r.feed(t, sample("wechat", "wechat_tradebill_ALL_20260915.csv.gz"))
	if again.File != fed.File {
		t.Errorf("the same bytes in gzip are file %d, plain %d", again.File, fed.File)
	}
	for _, name := range []string{"wechat_tradebill_ALL_20260915_nobom_lf.csv", "wechat_tradebill_SUCCESS_20260915.csv", "wechat_tradebill_REFUND_20260915.csv"} {
		r.feed(t, sample("wechat", name))
	}
	r.caughtUp(t)
	const whole = "wechat_tradebill_ALL_20260915.csv"
	if got, want := r.parts(t), "BILL PAY v1 "+whole+", BILL REFUND v1 "+whole; got != want {
		t.Errorf("counts %q, want %q", got, want)
	}
	states := r.query(t, `SELECT CONCAT(MIN(d.name), ' ', f.state) FROM feed_files AS f JOIN feed_deliveries AS d ON d.file = f.file GROUP BY f.file, f.state ORDER BY MIN(d.fed_at)`)
	want := []string{whole + " VERIFIED", "wechat_tradebill_ALL_20260915_nobom_lf.csv DUPLICATE",
		"wechat_tradebill_SUCCESS_20260915.csv DUPLICATE", "wechat_tradebill_REFUND_20260915.csv DUPLICATE"}
	if !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
}

func TestTheHalvesOfABillMakeTheDay(t *testing.T) {
	r := newRig(t)
	r.feed(t, sample("wechat", "wechat_tradebill_REFUND_20260915.csv"))
	r.feed(t, sample("wechat", "wechat_tradebill_SUCCESS_20260915.csv"))
	r.caughtUp(t)
	if got, want := r.parts(t), "BILL PAY v1 wechat_tradebill_SUCCESS_20260915.csv, BILL REFUND v1 wechat_tradebill_REFUND_20260915.csv"; got != want {
		t.Errorf("counts %q, want %q", got, want)
	}
}

func TestTheFundBillKeepsOnlyWhatItAloneTells(t *testing.T) {
	r := newRig(t)
	fed := r.feed(t, sample("wechat", "wechat_fundflow_BASIC_20260915.csv"))
	if fed.Rows != 59 || fed.Lines != 1 {
		t.Fatalf("fed %+v", fed)
	}
	r.caughtUp(t)
	err := r.db.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		sums, err := recon.FundTotals(ctx, tx, "H1", channels.WeChat, "1900000109", sampleDay)
		if err != nil {
			return err
		}
		if sum := sums.Opening + sums.Trade + sums.Fee + sums.Refund + sums.FeeReturn + sums.Withdrawn + sums.WithdrawalReturned + sums.Recharged + sums.Other; sum != sums.Closing || sums.Closing != 1071238 || sums.Opening != 1523046 || sums.Withdrawn != -1523046 {
			t.Errorf("sums %+v come to %s", sums, sum)
		}
		lines, err := recon.FundLines(ctx, tx, "H1", channels.WeChat, "1900000109", sampleDay)
		if err == nil && (len(lines) != 1 || lines[0].Kind != channels.FundWithdrawal || lines[0].Amount != -1523046) {
			t.Errorf("lines %+v", lines)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// restated writes the sample bill with one payment dropped, its totals made to fit.
func restated(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(sample("wechat", "wechat_tradebill_SUCCESS_20260915.csv"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	lines = slices.Delete(lines, 1, 2) // 12.50, fee 0.08
	for i := range lines {
		lines[i] = strings.Replace(lines[i], "`22,`12685.59,", "`21,`12673.09,", 1)
		lines[i] = strings.Replace(lines[i], "`76.14000,`12690.59,", "`76.06000,`12678.09,", 1)
	}
	path := filepath.Join(t.TempDir(), "restated.csv")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestARestatedFileIsVersionTwoOfItsPart(t *testing.T) {
	r := newRig(t)
	r.feed(t, sample("wechat", "wechat_tradebill_ALL_20260915.csv"))
	r.feed(t, restated(t))
	r.caughtUp(t)
	if got, want := r.parts(t), "BILL PAY v2 restated.csv, BILL REFUND v1 wechat_tradebill_ALL_20260915.csv"; got != want {
		t.Errorf("counts %q, want %q", got, want)
	}
	count := 0
	err := r.db.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		count = 0
		return recon.StreamBill(ctx, tx, "H1", sampleDay, func(*recon.Line) error { count++; return nil })
	})
	if err != nil || count != 29 {
		t.Errorf("%d lines count (%v), want 29", count, err)
	}
}

// samples are the sample day's files, every sort of them.
var samples = []string{
	"channels/wechat/testdata/wechat_tradebill_ALL_20260915.csv",
	"channels/wechat/testdata/wechat_fundflow_BASIC_20260915.csv",
	"channels/alipay/testdata/alipay_20880000000000020156_20260915_trade.csv.zip",
	"channels/alipay/testdata/alipay_20880000000000020156_20260915_signcustomer.csv.zip",
	"channels/his/testdata/his.csv",
	"channels/bank/testdata/bank_camt053_20260916.xml",
}

// feedAny sends a sample file of whatever sort.
func (r *rig) feedAny(t testing.TB, path string) {
	t.Helper()
	feed, o := r.producer.FeedChannel, Options{}
	switch filepath.Base(path) {
	case "his.csv":
		feed, o = r.producer.FeedHIS, Options{Counted: true, Rows: hisRows, Sum: hisSum}
	case "bank_camt053_20260916.xml":
		feed = r.producer.FeedBank
	}
	if _, err := feed(t.Context(), filepath.Join("..", "..", path), o); err != nil {
		t.Fatal(err)
	}
}

func TestTheOrderOfFilesAndFeedingAgainChangeNothing(t *testing.T) {
	r := newRig(t)
	for _, path := range samples {
		r.feedAny(t, path)
	}
	r.caughtUp(t)
	want := r.tables(t)
	if states := r.query(t, `SELECT DISTINCT state FROM feed_files`); !slices.Equal(states, []string{"VERIFIED"}) {
		t.Fatalf("states %v", states)
	}
	other := newRig(t)
	twice := append(slices.Clone(samples), samples...)
	rand.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
	for _, path := range twice {
		other.feedAny(t, path)
	}
	other.caughtUp(t)
	if got := other.tables(t); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// all reads every message of a topic.
func (r *rig) all(t testing.TB, topic string) [][]byte {
	t.Helper()
	first, next, err := r.kafka.bounds(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	var values [][]byte
	for p := range next {
		if err := r.kafka.scan(t.Context(), topic, p, first[p], next[p], func(m kafka.Message) { values = append(values, m.Value) }); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

func TestMessagesInAnyOrderAndTwiceMakeTheSameTables(t *testing.T) {
	r, other := newRig(t), newRig(t)
	for _, path := range append(samples, "channels/wechat/testdata/wechat_tradebill_REFUND_20260915.csv") {
		r.feedAny(t, path)
	}
	r.caughtUp(t)
	for _, topic := range consumed {
		messages := r.all(t, topic)
		messages = append(messages, messages...)
		rand.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
		other.send(t, topic, messages...)
	}
	other.caughtUp(t)
	if got, want := other.tables(t), r.tables(t); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestOffsetsThatAreSetBackChangeNothing(t *testing.T) {
	r := newRig(t)
	for _, path := range samples {
		r.feedAny(t, path)
	}
	r.caughtUp(t)
	want := r.tables(t)
	r.stop(t)
	for _, topic := range consumed {
		var back []kafka.OffsetCommit
		for partition := range partitions[topic] {
			back = append(back, kafka.OffsetCommit{Partition: partition})
		}
		answer, err := r.kafka.client().OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{
			GroupID: r.kafka.group(topic), GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{r.kafka.topic(topic): back},
		})
		if err != nil || answer.Topics[r.kafka.topic(topic)][0].Error != nil {
			t.Fatal(err, answer)
		}
	}
	r.start()
	r.caughtUp(t)
	if got := r.tables(t); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// hear is a log that tells each message to a channel, if somebody listens.
type hear chan string

func (h hear) Enabled(context.Context, slog.Level) bool { return true }
func (h hear) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h hear) WithGroup(string) slog.Handler            { return h }
func (h hear) Handle(_ context.Context, r slog.Record) error {
	select {
	case h <- r.Message:
	default:
	}
	return nil
}

func TestADatabaseThatRefusesIsWaitedFor(t *testing.T) {
	url := dbtest.URL(t, recon.Schema)
	open := func(role db.Role) *db.DB {
		d, err := db.Open(t.Context(), url, role)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		return d
	}
	owner := open(db.Owner)
	rename := func(from, to string) {
		if _, err := owner.Pool.Exec(t.Context(), `ALTER TABLE `+from+` RENAME TO `+to); err != nil {
			t.Fatal(err)
		}
	}
	r := &rig{kafka: testKafka(t), db: open(db.App)}
	rename("bill_lines", "gone")
	heard := make(hear, 1)
	r.consumer = StartConsumer(context.Background(), r.kafka, r.db, now, slog.New(heard))
	defer r.stop(t)
	r.send(t, TopicChannel, line(t, "1"))
	for !strings.Contains(<-heard, "trying again") { // a new broker is also complained of
	}
	rename("gone", "bill_lines")
	r.caughtUp(t)
	if got := r.query(t, `SELECT order_no FROM bill_lines`); !slices.Equal(got, []string{"1"}) {
		t.Errorf("stored %v", got)
	}
	if letters, err := DeadLetters(t.Context(), r.kafka, r.db); err != nil || len(letters) > 0 {
		t.Errorf("dead letters %v (%v)", letters, err)
	}
}

// TestKilledBeforeTheOffsetsAreCommitted stores a feed without committing, as a
// process does that is killed in between, and then starts another.
func TestKilledBeforeTheOffsetsAreCommitted(t *testing.T) {
	r := newRig(t)
	r.stop(t)
	r.feed(t, sample("wechat", "wechat_tradebill_ALL_20260915.csv"))
	killed := &Consumer{kafka: r.kafka, db: r.db, now: now, log: slog.New(slog.DiscardHandler)}
	var batch []kafka.Message
	for _, value := range r.all(t, TopicChannel)[:20] {
		batch = append(batch, kafka.Message{Value: value})
	}
	if err := killed.take(t.Context(), TopicChannel, batch); err != nil {
		t.Fatal(err)
	}
	if got := r.query(t, `SELECT CONCAT(state, ' ', stored) FROM feed_files`); !slices.Equal(got, []string{"RECEIVED 20"}) {
		t.Fatalf("stored before the kill: %v", got)
	}
	r.start()
	r.caughtUp(t)
	if got := r.query(t, `SELECT CONCAT(state, ' ', stored) FROM feed_files`); !slices.Equal(got, []string{"VERIFIED 30"}) {
		t.Errorf("after the restart: %v", got)
	}
}

func TestAConsumerThatIsStoppedGoesOnWhereItWas(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"wechat_tradebill_ALL_20260915.csv", "wechat_fundflow_BASIC_20260915.csv"} {
		r.feed(t, sample("wechat", name))
		r.caughtUp(t)
		r.stop(t)
		r.start()
	}
	r.caughtUp(t)
	if got := r.query(t, `SELECT state FROM feed_files`); !slices.Equal(got, []string{"VERIFIED", "VERIFIED"}) {
		t.Errorf("states %v", got)
	}
}

func line(t testing.TB, order string) []byte {
	t.Helper()
	message, err := encode(nil, recon.FeedRecord{Line: &recon.FeedLine{File: 77, Row: len(order), Slice: billSlice,
		Bill: &channels.BillLine{Kind: channels.Pay, Status: channels.Success, OrderNo: order, At: fedAt, Amount: 100, Settle: 100}}})
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func TestWhatCannotBeReadGoesToTheDeadLetters(t *testing.T) {
	r := newRig(t)
	garbage := []byte("张三, 13800138000")
	huge := bytes.Repeat([]byte("x"), 800<<10)
	// PostgreSQL keeps no NUL in a text: this one is found by halving.
	r.send(t, TopicChannel, line(t, "1"), line(t, "22"), garbage, line(t, "nul\x00"), line(t, "333"), huge)
	r.send(t, TopicHIS, line(t, "55555")) // a bill's line on the topic of HIS
	r.caughtUp(t)
	if got := r.query(t, `SELECT order_no FROM bill_lines ORDER BY row_no`); !slices.Equal(got, []string{"1", "22", "333"}) {
		t.Errorf("stored %v", got)
	}
	letters, err := DeadLetters(t.Context(), r.kafka, r.db)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range letters {
		got = append(got, fmt.Sprintf("%s | %s | %v", l.Reason, l.Preview, l.Whole))
		if l.Topic == "" || l.Offset < 0 || strings.Contains(l.Reason+l.Preview, "张三") {
			t.Errorf("letter %+v", l)
		}
	}
	slices.Sort(got)
	want := []string{
		"record cannot be stored: 819200 bytes, the most is 65536", "record cannot be stored: a record of source BILL does not belong here",
		"record cannot be stored: not a feed record | 19 bytes, sha256", "0x00",
	}
	if len(got) != len(want) {
		t.Fatalf("letters:\n%s", strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("letter %d: %q, want %q", i, got[i], want[i])
		}
	}
}

// A broker deletes what is older than a week, by the time in the message: another
// topic's message goes, a dead letter of the same time is there until a person has
// looked at it.
func TestNoBrokerDeletesADeadLetter(t *testing.T) {
	r := newRig(t)
	r.stop(t)
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	r.consumer = StartConsumer(context.Background(), r.kafka, r.db, func() time.Time { return old }, slog.New(slog.DiscardHandler))
	r.send(t, TopicHIS, []byte("?"))
	r.caughtUp(t)
	writer := r.kafka.writer()
	err := writer.WriteMessages(t.Context(), kafka.Message{Topic: r.kafka.topic(TopicEvents), Value: []byte("old"), Time: old})
	if err := errors.Join(err, writer.Close()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	_, end, err := r.kafka.bounds(ctx, TopicEvents)
	if err != nil {
		t.Fatal(err)
	}
	for left := int64(1); left > 0; {
		if within != nil {
			within.ApplyRetention()
		}
		first, next, err := r.kafka.bounds(ctx, TopicEvents)
		if err != nil || !pause(ctx, 20*time.Millisecond) {
			t.Fatal("the broker deletes nothing, so that this test sees nothing", err)
		}
		left = 0
		for p := range next {
			left += next[p] - first[p]
		}
	}
	for p, next := range end { // nobody waits for what is gone
		if err := r.kafka.scan(ctx, TopicEvents, p, 0, next, func(m kafka.Message) { t.Errorf("%s was deleted", m.Value) }); err != nil {
			t.Error(err)
		}
	}
	letters, err := DeadLetters(ctx, r.kafka, r.db)
	if err != nil || len(letters) != 1 || !letters[0].At.Equal(old) {
		t.Errorf("letters %+v, %v, want the one of %s", letters, err, old)
	}
}

func TestADeadLetterIsReplayedOnce(t *testing.T) {
	r := newRig(t)
	r.send(t, TopicHIS, line(t, "1"), []byte("?"))
	r.caughtUp(t)
	letters, err := DeadLetters(t.Context(), r.kafka, r.db)
	if err != nil || len(letters) != 2 {
		t.Fatalf("%d letters (%v), want 2", len(letters), err)
	}
	for _, step := range []struct {
		again bool
		ids   []string
		sent  int
		after int // letters in all: what is sent back is as bad as before
	}{
		{false, []string{letters[0].ID}, 1, 3},
		{false, []string{letters[0].ID}, 0, 3},
		{true, []string{letters[0].ID}, 1, 4},
		{false, []string{letters[1].ID}, 1, 5},
	} {
		sent, err := Replay(t.Context(), r.kafka, r.db, fedAt, step.again, step.ids...)
		if err != nil || len(sent) != step.sent {
			t.Fatalf("%+v: sent %d (%v)", step, len(sent), err)
		}
		r.caughtUp(t)
		if all, err := DeadLetters(t.Context(), r.kafka, r.db); err != nil || len(all) != step.after {
			t.Fatalf("%+v: %d letters (%v)", step, len(all), err)
		}
	}
}

func TestABadFileIsRefusedBeforeAnythingIsSent(t *testing.T) {
	r := newRig(t)
	text, err := os.ReadFile(sample("wechat", "wechat_tradebill_ALL_20260915.csv"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var refused *channels.FileError
	for _, tt := range []struct {
		name    string
		content []byte
		o       Options
		is      error
	}{
		{"cut off", text[:len(text)/2], Options{}, nil},
		{"an amount changed", bytes.Replace(text, []byte("`12.50,"), []byte("`12.60,"), 1), Options{}, nil},
		{"foreign merchant", bytes.ReplaceAll(text, []byte("1900000109"), []byte("1900000108")), Options{}, nil},
		{"other day", text, Options{Day: 20260914}, nil},
		{"unknown merchant", text, Options{MerchantNo: "42"}, ErrUnknownOwner},
		{"no bill at all", []byte("hello"), Options{}, ErrFile},
		{"empty", nil, Options{}, ErrFile},
	} {
		_, err := r.producer.FeedChannel(t.Context(), write("bill.csv", tt.content), tt.o)
		if tt.is != nil && !errors.Is(err, tt.is) || tt.is == nil && !errors.As(err, &refused) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if sent := r.all(t, TopicChannel); len(sent) > 0 {
		t.Errorf("%d messages were sent", len(sent))
	}
}

func TestAnEmptyBillNamesMerchantAndDay(t *testing.T) {
	r := newRig(t)
	text, err := os.ReadFile(sample("wechat", "wechat_tradebill_SUCCESS_20260915.csv"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	path := filepath.Join(t.TempDir(), "empty.csv")
	empty := lines[0] + lines[len(lines)-3] + "`0,`0.00,`0.00,`0.00,`0.00000,`0.00,`0.00\r\n"
	if strings.TrimSpace(lines[len(lines)-1]) != "" {
		empty = lines[0] + lines[len(lines)-2] + "`0,`0.00,`0.00,`0.00,`0.00000,`0.00,`0.00\r\n"
	}
	if err := os.WriteFile(path, []byte(empty), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.producer.FeedChannel(t.Context(), path, Options{MerchantNo: "1900000109"}); err == nil {
		t.Error("an empty bill without a day was fed")
	}
	for _, day := range []Options{{MerchantNo: "1900000109", Day: sampleDay}, {MerchantNo: "1900000109", Day: sampleDay.Add(1)}} {
		if _, err := r.producer.FeedChannel(t.Context(), path, day); err != nil {
			t.Fatal(err)
		}
	}
	r.caughtUp(t)
	if got := r.query(t, `SELECT CONCAT(day, ' ', part, ' ', version) FROM feed_parts ORDER BY day, part`); !slices.Equal(got, []string{"20260915 PAY 1", "20260916 PAY 1"}) {
		t.Errorf("counts %v", got)
	}
}

func TestAlipayZipsAreToldApartByContent(t *testing.T) {
	r := newRig(t)
	trade := r.feed(t, sample("alipay", "alipay_20880000000000020156_20260915_trade.csv.zip"))
	fund := r.feed(t, sample("alipay", "alipay_20880000000000020156_20260915_signcustomer.csv.zip"))
	if trade.Slice.Source != recon.SourceBill || trade.Totals["pay.count"] != 14 || trade.Totals["refund.count"] != 5 || trade.Slice.Account != "20880000000000020156" {
		t.Errorf("业务明细: %+v", trade)
	}
	if fund.Slice.Source != recon.SourceFund || fund.Totals["opening"] != 800000 || fund.Totals["closing"] != 1304458 || fund.Lines != 0 {
		t.Errorf("账务明细: %+v", fund)
	}
	r.caughtUp(t)
	if got := r.query(t, `SELECT CONCAT(source, ' ', state, ' ', stored) FROM feed_files ORDER BY source`); !slices.Equal(got, []string{"BILL VERIFIED 19", "FUND VERIFIED 0"}) {
		t.Errorf("stored %v", got)
	}
}

func TestNamesOffTheChannelListStayWithTheSender(t *testing.T) {
	r := newRig(t)
	r.producer.Listed = func(l *channels.StatementLine) bool { return strings.Contains(l.Counterparty, "财付通") }
	fed, err := r.producer.FeedBank(t.Context(), sample("bank", "bank_camt053_20260916.xml"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if fed.Slice.Account != "755947919810515" || fed.Slice.Day != 20260916 || fed.Totals["credit.count"] != 4 || fed.Totals["closing"]-fed.Totals["opening"] != fed.Totals["credit"]+fed.Totals["debit"] {
		t.Errorf("fed %+v", fed)
	}
	r.caughtUp(t)
	var lines []recon.BankLine
	err = r.db.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) (err error) {
		lines, err = recon.BankLines(ctx, tx, "H1", "755947919810515", 20260916)
		return err
	})
	if err != nil || len(lines) != 7 {
		t.Fatalf("%d lines (%v), want 7", len(lines), err)
	}
	if lines[0].Counterparty != "财付通支付科技有限公司" || lines[0].Text == "" || lines[0].Amount != 1071238 {
		t.Errorf("listed: %+v", lines[0])
	}
	if l := lines[3]; l.Counterparty+l.CounterpartyAcc+l.Text != "" || l.Amount != -2500000 || l.EndToEndID != "HB20260916000001" {
		t.Errorf("not listed: %+v", l)
	}
}

// What the sample's his.csv comes to, with its repeated row twice.
const (
	hisRows = 50
	hisSum  = 1604899
)

func TestHISDetailsAreCountedByTheirSender(t *testing.T) {
	text, err := os.ReadFile(sample("his", "his.csv"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "his.csv")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	var refused *channels.FileError
	for _, o := range []Options{{}, {Counted: true, Rows: hisRows, Sum: hisSum + 1}, {Counted: true, Rows: hisRows, Sum: hisSum, Hospital: "H2"}} {
		if _, err := r.producer.FeedHIS(t.Context(), path, o); !errors.As(err, &refused) {
			t.Errorf("options %+v: %v", o, err)
		}
	}
	fed, err := r.producer.FeedHIS(t.Context(), path, Options{Counted: true, Rows: hisRows, Sum: hisSum})
	if err != nil {
		t.Fatal(err)
	}
	if fed.Slice != (recon.Slice{Source: recon.SourceHIS, Hospital: "H1", Day: sampleDay}) || fed.Rows != hisRows {
		t.Errorf("fed %+v", fed)
	}
	r.caughtUp(t)
	if got := r.parts(t); got != "HIS ALL v1 his.csv" {
		t.Errorf("counts %q", got)
	}
	bills := map[string]int{}
	var orders []string
	err = r.db.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		clear(bills)
		return recon.StreamHIS(ctx, tx, "H1", sampleDay, func(l *recon.Line) error {
			bills[string(l.Kind)+l.BillNo]++
			orders = append(orders, l.OrderNo)
			return nil
		})
	})
	if err != nil || len(bills) != hisRows-1 || !slices.IsSorted(orders) {
		t.Errorf("%d bills of %d rows (%v), sorted %v: the repeated row stays two", len(bills), hisRows, err, slices.IsSorted(orders))
	}
}
