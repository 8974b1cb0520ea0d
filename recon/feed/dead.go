package feed

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"

	"github.com/clearward/clearward/ledger/db"
)

// The headers of a dead letter.
const (
	headerTopic     = "clearward-topic"
	headerPartition = "clearward-partition"
	headerOffset    = "clearward-offset"
	headerReason    = "clearward-reason"
	headerCut       = "clearward-cut" // the message was too large to be kept whole
)

// Letter is a message that could not be stored.
type Letter struct {
	ID        string // made of the place and the bytes of the message
	Topic     string
	Partition int
	Offset    int64
	At        time.Time // when it was put aside
	Reason    string
	Preview   string // what it is, without what it says of people
	Whole     bool   // false: too large to be kept, so it cannot be replayed
	Replayed  int    // times that it was sent back
	key       []byte
	value     []byte
}

// letter makes the message that puts another aside.
func (c *Consumer) letter(m kafka.Message, why error) kafka.Message {
	headers := []kafka.Header{
		{Key: headerTopic, Value: []byte(m.Topic)},
		{Key: headerPartition, Value: strconv.AppendInt(nil, int64(m.Partition), 10)},
		{Key: headerOffset, Value: strconv.AppendInt(nil, m.Offset, 10)},
		{Key: headerReason, Value: []byte(clip(why.Error(), 1000))},
	}
	key, value := m.Key, m.Value
	if len(key)+len(value) > maxLetter {
		key, value = nil, value[:min(len(value), 1024)]
		headers = append(headers, kafka.Header{Key: headerCut, Value: []byte("true")})
	}
	return kafka.Message{Topic: c.kafka.topic(TopicDead), Key: key, Value: value, Headers: headers, Time: c.now()}
}

// clip keeps a text short; it may cut a character, which only a person reads.
func clip(text string, most int) string { return text[:min(len(text), most)] }

// DeadLetters lists what could not be stored, oldest first.
func DeadLetters(ctx context.Context, k Kafka, d *db.DB) ([]Letter, error) {
	first, next, err := k.bounds(ctx, TopicDead)
	if err != nil {
		return nil, err
	}
	var letters []Letter
	seen := map[string]bool{}
	for partition := range partitions[TopicDead] {
		err := k.scan(ctx, TopicDead, partition, first[partition], next[partition], func(m kafka.Message) {
			letter := letterOf(m)
			if !seen[letter.ID] { // put aside twice when a process died in between
				seen[letter.ID] = true
				letters = append(letters, letter)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(letters, func(a, b Letter) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return letters, replays(ctx, d, letters)
}

// scanPatience is how long a message may take until it is looked whether it is there.
const scanPatience = 2 * time.Second

// scan hands on the messages of a partition from first up to next. What the broker
// deletes meanwhile is not waited for.
func (k Kafka) scan(ctx context.Context, name string, partition int, first, next int64, emit func(kafka.Message)) error {
	if first >= next {
		return nil
	}
	topic := k.topic(name)
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: k.Brokers, Topic: topic, Partition: partition, MinBytes: 1, MaxBytes: 4 << 20,
		MaxWait: 100 * time.Millisecond,
	})
	defer closeReader(reader)
	if err := reader.SetOffset(first); err != nil {
		return fmt.Errorf("read %s: %w", topic, err)
	}
	for {
		waiting, cancel := context.WithTimeout(ctx, scanPatience)
		message, err := reader.FetchMessage(waiting)
		cancel()
		switch {
		case err == nil:
			first = message.Offset + 1
			emit(message)
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			oldest, _, err := k.bounds(ctx, name)
			if err != nil {
				return err
			}
			first = max(first, oldest[partition])
		default:
			return fmt.Errorf("read %s: %w", topic, err)
		}
		if first >= next {
			return nil
		}
	}
}

func letterOf(m kafka.Message) Letter {
	letter := Letter{At: m.Time.UTC(), Whole: true, key: m.Key, value: m.Value}
	for _, h := range m.Headers {
		switch h.Key {
		case headerTopic:
			letter.Topic = string(h.Value)
		case headerPartition:
			letter.Partition, _ = strconv.Atoi(string(h.Value)) // our own writing
		case headerOffset:
			letter.Offset, _ = strconv.ParseInt(string(h.Value), 10, 64)
		case headerReason:
			letter.Reason = string(h.Value)
		case headerCut:
			letter.Whole = false
		}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s|%d|%d|%s", letter.Topic, letter.Partition, letter.Offset, m.Value))
	letter.ID = "dead_" + hex.EncodeToString(sum[:8])
	letter.Preview = preview(m.Value)
	return letter
}

// preview says what a message is. What is no record of ours may be anything,
// so nothing of it is shown but its size and hash.
func preview(value []byte) string {
	r, err := decode(value)
	switch {
	case r.Line != nil:
		return fmt.Sprintf("%s line %d of file %d, %s %s, %s", r.Line.Slice.Source, r.Line.Row, r.Line.File,
			r.Line.Slice.Hospital, r.Line.Slice.Account, r.Line.Slice.Day)
	case r.Manifest != nil && err == nil:
		return fmt.Sprintf("%s manifest of file %d (%s), %s %s, %s", r.Manifest.Slice.Source, r.Manifest.File, r.Manifest.Name,
			r.Manifest.Slice.Hospital, r.Manifest.Slice.Account, r.Manifest.Slice.Day)
	}
	sum := sha256.Sum256(value)
	return fmt.Sprintf("%d bytes, sha256 %x…", len(value), sum[:6])
}

// replays fills in how often each letter was sent back.
func replays(ctx context.Context, d *db.DB, letters []Letter) error {
	ids := make([]string, len(letters))
	for i := range letters {
		ids[i] = letters[i].ID
	}
	times := map[string]int{}
	err := d.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		clear(times)
		rows, err := tx.Query(ctx, `
			SELECT letter, times
			FROM feed_replays
			WHERE letter = ANY($1::TEXT[])`, ids)
		if err != nil {
			return err
		}
		var id string
		var n int
		_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error {
			times[id] = n
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("read which dead letters were replayed: %w", err)
	}
	for i := range letters {
		letters[i].Replayed = times[letters[i].ID]
	}
	return nil
}

// ErrCut says that a dead letter was too large to be kept whole.
var ErrCut = errors.New("the message was too large to be kept, feed its file again")

// Replay sends dead letters back to the topics they came from: those with the
// given ids, or all where none is given. One that was sent back before is left
// alone unless again is set. It returns the letters that were sent.
//
// The note that a letter was sent is written after it: a process that dies in
// between sends it once more, which changes nothing.
func Replay(ctx context.Context, k Kafka, d *db.DB, now time.Time, again bool, ids ...string) ([]Letter, error) {
	letters, err := DeadLetters(ctx, k, d)
	if err != nil {
		return nil, err
	}
	letters = slices.DeleteFunc(letters, func(l Letter) bool {
		return len(ids) > 0 && !slices.Contains(ids, l.ID) || len(ids) == 0 && !l.Whole || l.Replayed > 0 && !again
	})
	writer := k.writer()
	var sent []Letter
	for _, l := range letters {
		if err := replay(ctx, writer, d, now, l); err != nil {
			return sent, errors.Join(fmt.Errorf("replay %s: %w", l.ID, err), writer.Close())
		}
		l.Replayed++
		sent = append(sent, l)
	}
	return sent, writer.Close()
}

func replay(ctx context.Context, writer *kafka.Writer, d *db.DB, now time.Time, l Letter) error {
	if !l.Whole {
		return ErrCut
	}
	if err := writer.WriteMessages(ctx, kafka.Message{Topic: l.Topic, Key: l.key, Value: l.value}); err != nil {
		return err
	}
	return d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO feed_replays (letter, replayed_at, times)
			VALUES ($1, $2, 1)
			ON CONFLICT (letter) DO UPDATE
			SET replayed_at = excluded.replayed_at, times = feed_replays.times + 1`, l.ID, now)
		return err
	})
}
