package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
)

// startBroker starts a Kafka broker inside this process, on loopback, whose
// files stand in dir. Durable makes it write through to the disk before it
// acknowledges.
func startBroker(dir string, durable bool, log io.Writer) (*kfake.Cluster, error) {
	opts := []kfake.Opt{
		kfake.NumBrokers(1), kfake.DataDir(dir),
		// A topic that a client makes by accident would not survive a kill.
		kfake.DefaultNumPartitions(1),
		// Consumers may ask to be missed soon after a kill.
		kfake.GroupMinSessionTimeout(time.Second),
		kfake.WithLogger(kfake.BasicLogger(log, kfake.LogLevelError)),
	}
	if durable {
		opts = append(opts, kfake.SyncWrites())
	}
	broker, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("broker in %s: %w", dir, err)
	}
	return broker, nil
}

// forgetBrokers ends the questions that go to every broker ever spoken to, for as
// long as the process runs: once one has ended, another server may listen at its
// address, and what that says would be read as Kafka's, gigabytes of it. Who still
// needs a broker asks again.
func forgetBrokers() {
	if t, ok := kafka.DefaultTransport.(*kafka.Transport); ok {
		t.CloseIdleConnections()
	}
}

// mostReplicas is how many brokers keep a topic where there are as many.
const mostReplicas = 3

// Topic is how a topic is made.
type Topic struct {
	Partitions int
	// Lasting keeps its messages for ever; else the broker deletes what is older than
	// it is told to keep, by the time in the message: a week by default.
	Lasting bool
}

// lasting are the settings of a topic of which nothing is deleted.
var lasting = []kafka.ConfigEntry{{ConfigName: "retention.ms", ConfigValue: "-1"}, {ConfigName: "retention.bytes", ConfigValue: "-1"}}

// EnsureTopics makes the missing ones of the topics, by their names, and returns when
// every one of them has its leaders. A topic that exists stays as it is. A topic made
// by the way, by a first message, would not survive a kill of the embedded broker.
func EnsureTopics(ctx context.Context, brokers []string, topics map[string]Topic) error {
	client := &kafka.Client{Addr: kafka.TCP(brokers...), Timeout: 10 * time.Second}
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return fmt.Errorf("reach the broker: %w", err)
	}
	request := &kafka.CreateTopicsRequest{}
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		config := kafka.TopicConfig{Topic: name, NumPartitions: topics[name].Partitions, ReplicationFactor: min(mostReplicas, len(meta.Brokers))}
		if topics[name].Lasting {
			config.ConfigEntries = lasting
		}
		request.Topics = append(request.Topics, config)
	}
	response, err := client.CreateTopics(ctx, request)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for name, err := range response.Errors {
		if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", name, err)
		}
	}
	return awaitLeaders(ctx, client, slices.Sorted(maps.Keys(topics)))
}

// awaitLeaders waits until each partition of the topics can be written to: a
// cluster answers "created" before it has chosen the leaders.
func awaitLeaders(ctx context.Context, client *kafka.Client, topics []string) error {
	for {
		meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: topics})
		if err == nil && !slices.ContainsFunc(meta.Topics, leaderless) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("topics %v have no leader: %w", topics, errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func leaderless(topic kafka.Topic) bool {
	return topic.Error != nil || len(topic.Partitions) == 0 ||
		slices.ContainsFunc(topic.Partitions, func(p kafka.Partition) bool { return p.Error != nil || p.Leader.Host == "" })
}
