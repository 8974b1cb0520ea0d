// Package feed carries files into reconciliation over Kafka: producers that
// read a whole file and send its lines and a manifest, consumers that store
// them, and the dead letters of what could not be read.
//
// Nothing here decides anything about money. A message may arrive late, twice
// or out of order: recon.Ingest stores it once. Offsets are committed after the
// transaction, so what is lost with a process is done again.
package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/recon"
)

// The topics. A record of a merchant number's, hospital's or bank account's day
// is keyed by it, so that a day keeps its order in one partition.
const (
	TopicChannel = "clearward.feed.channel" // trade bills and fund bills
	TopicHIS     = "clearward.feed.his"     // charge details
	TopicBank    = "clearward.feed.bank"    // statements
	TopicDead    = "clearward.feed.dead"    // what could not be read, with the reason
	TopicEvents  = "clearward.events"       // what we publish
)

// partitions of each topic: they bound how many processes can share the work.
var partitions = map[string]int{TopicChannel: 6, TopicHIS: 6, TopicBank: 2, TopicDead: 1, TopicEvents: 6}

// consumed are the topics that a Consumer reads.
var consumed = [...]string{TopicChannel, TopicHIS, TopicBank}

// Sizes. A record of ours has a few hundred bytes; a letter must fit a message
// of the broker's usual 1 MiB together with its headers.
const (
	maxRecord = 64 << 10
	maxLetter = 512 << 10
	perWrite  = 2000 // messages handed to the writer at a time
	perBatch  = 5000 // messages stored in one transaction, at most
)

// Kafka says where the broker is.
type Kafka struct {
	Brokers []string
	Prefix  string // stands before every topic and group; "" but in tests
}

// Topics gives every topic as it is made. They are created explicitly, before
// anything else starts: a group that is older than its topic never reads it. A dead
// letter waits until a person has looked at it, however long that takes.
func (k Kafka) Topics() map[string]local.Topic {
	topics := make(map[string]local.Topic, len(partitions))
	for name, n := range partitions {
		topics[k.topic(name)] = local.Topic{Partitions: n, Lasting: name == TopicDead}
	}
	return topics
}

func (k Kafka) topic(name string) string { return k.Prefix + name }

// group is one per topic: members that read different topics would make each
// other wait whenever one joins.
func (k Kafka) group(topic string) string { return k.Prefix + "clearward-recon." + topic }

func (k Kafka) writer() *kafka.Writer {
	return &kafka.Writer{
		Addr:         kafka.TCP(k.Brokers...),
		Balancer:     &kafka.Hash{},    // the zero value spreads one key over partitions
		RequiredAcks: kafka.RequireAll, // the zero value waits for nobody
		BatchSize:    perWrite,
		BatchBytes:   900 << 10,
		BatchTimeout: 5 * time.Millisecond,
	}
}

func (k Kafka) client() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(k.Brokers...), Timeout: 10 * time.Second}
}

// topicOf says on which topic the records of a source travel.
func topicOf(source recon.Source) string {
	switch source {
	case recon.SourceHIS:
		return TopicHIS
	case recon.SourceStatement:
		return TopicBank
	}
	return TopicChannel
}

// keyOf is the key of a slice's messages.
func keyOf(s recon.Slice) []byte {
	owner := s.Account
	if owner == "" {
		owner = s.Hospital
	}
	return []byte(owner + "|" + s.Day.Compact())
}

// bounds returns the first and the next offset of every partition of a topic.
// What a broker answers only for now, as when leaders move, is asked again.
func (k Kafka) bounds(ctx context.Context, topic string) (first, next map[int]int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		first, err = k.offsets(ctx, topic, kafka.FirstOffsetOf, func(p kafka.PartitionOffsets) int64 { return p.FirstOffset })
		if err == nil {
			next, err = k.offsets(ctx, topic, kafka.LastOffsetOf, func(p kafka.PartitionOffsets) int64 { return p.LastOffset })
		}
		var answer kafka.Error
		if !errors.As(err, &answer) || !answer.Temporary() || !pause(ctx, 100*time.Millisecond) {
			return first, next, err
		}
	}
}

func (k Kafka) offsets(ctx context.Context, topic string, which func(int) kafka.OffsetRequest, value func(kafka.PartitionOffsets) int64) (map[int]int64, error) {
	name := k.topic(topic)
	var ask []kafka.OffsetRequest
	for p := range partitions[topic] {
		ask = append(ask, which(p))
	}
	answer, err := k.client().ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{name: ask}})
	if err != nil {
		return nil, fmt.Errorf("offsets of %s: %w", name, err)
	}
	offsets := map[int]int64{}
	for _, p := range answer.Topics[name] {
		if p.Error != nil {
			return nil, fmt.Errorf("offsets of %s, partition %d: %w", name, p.Partition, p.Error)
		}
		offsets[p.Partition] = value(p)
	}
	return offsets, nil
}

// pause waits, or returns false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ended says that an error is only the end of ctx.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled)
}
