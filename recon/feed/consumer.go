package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/segmentio/kafka-go"

	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/recon"
)

// Consumer stores what is fed. A message's offset is committed after the
// transaction that stored it, so a message may be stored again, which changes
// nothing; what can never be stored goes to the dead letters and holds nobody
// up; what the database refuses for now is tried until it is taken.
type Consumer struct {
	kafka  Kafka
	db     *db.DB
	now    func() time.Time
	log    *slog.Logger
	dead   *kafka.Writer
	cancel context.CancelFunc
	done   sync.WaitGroup

	// one is held while a batch is stored: two transactions that read and write
	// the few rows of feed_files at once would only make each other retry.
	one sync.Mutex
}

// StartConsumer starts reading every feed topic. The topics must exist.
func StartConsumer(ctx context.Context, k Kafka, d *db.DB, now func() time.Time, log *slog.Logger) *Consumer {
	ctx, cancel := context.WithCancel(ctx)
	c := &Consumer{kafka: k, db: d, now: now, log: log, dead: k.writer(), cancel: cancel}
	for _, topic := range consumed {
		c.done.Go(func() { c.run(ctx, topic) })
	}
	return c
}

// Stop ends reading after the batches in work, and returns when all is closed.
func (c *Consumer) Stop() error {
	c.cancel()
	c.done.Wait()
	return c.dead.Close()
}

// How the group behaves: a process that dies without leaving is missed after
// sessionTimeout, the least that brokers allow by default.
const (
	sessionTimeout = 6 * time.Second
	commitTimeout  = 10 * time.Second
	closeTimeout   = 5 * time.Second
	mostBackoff    = 5 * time.Second
)

// run reads one topic until ctx ends. Nothing else commits or closes this
// reader: Close and CommitMessages at once can wait for each other for ever.
func (c *Consumer) run(ctx context.Context, topic string) {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: c.kafka.Brokers, GroupID: c.kafka.group(topic), Topic: c.kafka.topic(topic),
		StartOffset: kafka.FirstOffset, MinBytes: 1, MaxBytes: 4 << 20, MaxWait: 250 * time.Millisecond,
		QueueCapacity: 1000, WatchPartitionChanges: true,
		SessionTimeout: sessionTimeout, RebalanceTimeout: sessionTimeout, HeartbeatInterval: time.Second,
		JoinGroupBackoff: 250 * time.Millisecond, ReadBackoffMin: 10 * time.Millisecond, ReadBackoffMax: 250 * time.Millisecond,
	})
	fetched := make(chan kafka.Message, perBatch)
	var fetching sync.WaitGroup
	fetching.Go(func() { c.fetch(ctx, reader, fetched) })
	for {
		batch := gather(ctx, fetched)
		if batch == nil {
			break
		}
		if err := c.take(ctx, topic, batch); err != nil {
			break // only when ctx has ended; the messages are read again
		}
		c.commit(ctx, reader, batch)
	}
	fetching.Wait()
	closeReader(reader)
}

// fetch moves messages from the broker to the one who stores them.
func (c *Consumer) fetch(ctx context.Context, reader *kafka.Reader, fetched chan<- kafka.Message) {
	for {
		message, err := reader.FetchMessage(ctx)
		switch {
		case err == nil:
		case ended(ctx, err):
			return
		default:
			c.log.Warn("read a feed topic", "topic", reader.Config().Topic, "error", err)
			if !pause(ctx, 250*time.Millisecond) {
				return
			}
			continue
		}
		select {
		case fetched <- message:
		case <-ctx.Done():
			return
		}
	}
}

// gather takes what has arrived while the last batch was stored; it waits only
// for a first message. Nil means that ctx has ended.
func gather(ctx context.Context, fetched <-chan kafka.Message) []kafka.Message {
	var batch []kafka.Message
	select {
	case message := <-fetched:
		batch = append(batch, message)
	case <-ctx.Done():
		return nil
	}
	for len(batch) < perBatch {
		select {
		case message := <-fetched:
			batch = append(batch, message)
		default:
			return batch
		}
	}
	return batch
}

// parcel is a message with the record that it holds.
type parcel struct {
	message kafka.Message
	record  recon.FeedRecord
}

// take stores a batch and buries what cannot be. It returns an error only when
// ctx has ended.
func (c *Consumer) take(ctx context.Context, topic string, batch []kafka.Message) error {
	parcels := make([]parcel, 0, len(batch))
	var letters []kafka.Message
	for _, message := range batch {
		record, err := decode(message.Value)
		if err == nil {
			err = rightTopic(topic, record)
		}
		if err != nil {
			letters = append(letters, c.letter(message, err))
			continue
		}
		parcels = append(parcels, parcel{message, record})
	}
	c.one.Lock()
	defer c.one.Unlock()
	poison, err := c.store(ctx, parcels)
	if err != nil {
		return err
	}
	return c.bury(ctx, append(letters, poison...))
}

// rightTopic refuses a record on a topic where its order would not be kept.
func rightTopic(topic string, r recon.FeedRecord) error {
	var source recon.Source
	if r.Line != nil {
		source = r.Line.Slice.Source
	} else {
		source = r.Manifest.Slice.Source
	}
	if topicOf(source) != topic {
		return fmt.Errorf("%w: a record of source %s does not belong here", recon.ErrRecord, source)
	}
	return nil
}

// store ingests parcels in one transaction. Where a record is at fault it
// halves them until the poisonous ones stand alone, and returns those as dead
// letters; any other fault is waited out.
func (c *Consumer) store(ctx context.Context, parcels []parcel) ([]kafka.Message, error) {
	if len(parcels) == 0 {
		return nil, nil
	}
	records := make([]recon.FeedRecord, len(parcels))
	for i, p := range parcels {
		records[i] = p.record
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, mostBackoff) {
		err := recon.Ingest(ctx, c.db, records, c.now())
		switch {
		case err == nil:
			return nil, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case poisonous(err) && len(parcels) == 1:
			return []kafka.Message{c.letter(parcels[0].message, err)}, nil
		case poisonous(err):
			half := len(parcels) / 2
			first, err := c.store(ctx, parcels[:half])
			if err != nil {
				return nil, err
			}
			second, err := c.store(ctx, parcels[half:])
			return append(first, second...), err
		}
		c.log.Warn("store feed records: trying again", "records", len(records), "wait", wait, "error", err)
		if !pause(ctx, wait) {
			return nil, ctx.Err()
		}
	}
}

// poisonous says that the record is at fault and no waiting will help: it says
// so itself, or the database refuses its data (class 22) or breaks a constraint
// (class 23). A unique key that is taken is the trace of a rival, not of a
// record: lines and files are inserted "once".
func poisonous(err error) bool {
	if errors.Is(err, recon.ErrRecord) {
		return true
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code == "23505" {
		return false
	}
	return strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "23")
}

// bury writes dead letters before their offsets are committed: none is lost.
func (c *Consumer) bury(ctx context.Context, letters []kafka.Message) error {
	if len(letters) == 0 {
		return nil
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, mostBackoff) {
		err := c.dead.WriteMessages(ctx, letters...)
		if err == nil {
			c.log.Warn("messages went to the dead letters", "messages", len(letters))
			return nil
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
		c.log.Warn("write dead letters: trying again", "error", err)
	}
}

// commit notes how far each partition has been stored. When it fails, as in a
// rebalance, the messages come again and change nothing.
func (c *Consumer) commit(ctx context.Context, reader *kafka.Reader, batch []kafka.Message) {
	last := map[int]kafka.Message{}
	for _, message := range batch {
		if known, ok := last[message.Partition]; !ok || message.Offset > known.Offset {
			last[message.Partition] = message
		}
	}
	messages := make([]kafka.Message, 0, len(last))
	for _, message := range last {
		messages = append(messages, message)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	if err := reader.CommitMessages(ctx, messages...); err != nil {
		c.log.Warn("commit offsets: the messages will come again", "topic", reader.Config().Topic, "error", err)
	}
}

// closeReader leaves the group; a broker that does not answer cannot keep the
// process from ending.
func closeReader(reader *kafka.Reader) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = reader.Close() // it never returns an error
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
	}
}

// CaughtUp waits until everything that stood in the feed topics when it was
// called is stored and committed.
func (c *Consumer) CaughtUp(ctx context.Context) error { return c.kafka.CaughtUp(ctx) }

// CaughtUp waits for the consumers of another process too.
func (k Kafka) CaughtUp(ctx context.Context) error {
	goals := map[string]map[int]int64{}
	for _, topic := range consumed {
		first, next, err := k.bounds(ctx, topic)
		if err != nil {
			return err
		}
		for partition, offset := range next {
			if offset == first[partition] {
				delete(next, partition) // nothing in it, so nothing is ever committed
			}
		}
		goals[topic] = next
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left, err := k.behind(ctx, goals)
		if left == 0 && err == nil {
			return nil
		}
		if !pause(ctx, wait) {
			return fmt.Errorf("%d feed messages are not stored yet: %w", left, errors.Join(ctx.Err(), err))
		}
	}
}

// behind counts the messages before the goals that are not committed.
func (k Kafka) behind(ctx context.Context, goals map[string]map[int]int64) (int64, error) {
	var left int64
	for topic, next := range goals {
		if len(next) == 0 {
			continue
		}
		var ask []int
		for partition := range next {
			ask = append(ask, partition)
		}
		name := k.topic(topic)
		answer, err := k.client().OffsetFetch(ctx, &kafka.OffsetFetchRequest{
			GroupID: k.group(topic), Topics: map[string][]int{name: ask},
		})
		if err == nil {
			err = answer.Error
		}
		if err != nil {
			return left, fmt.Errorf("committed offsets of %s: %w", name, err)
		}
		committed := map[int]int64{}
		for _, p := range answer.Topics[name] {
			committed[p.Partition] = max(p.CommittedOffset, 0) // -1: none yet
		}
		for partition, offset := range next {
			left += max(offset-committed[partition], 0)
		}
	}
	return left, nil
}
