package api

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/recon/feed"
)

// How often the relay looks for events, and how long the last look may take.
const (
	relayEvery = time.Second
	lastRelay  = 10 * time.Second
)

// relayName is the reader whose place in the journal the ledger keeps.
const relayName = "kafka"

// relay publishes the ledger's events: each at least once, in order within its
// lane. The journal is the outbox; what is not sent now is sent by the next
// process.
type relay struct {
	db     *db.DB
	writer *kafka.Writer
	log    *slog.Logger
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func startRelay(ctx context.Context, d *db.DB, k feed.Kafka, log *slog.Logger) *relay {
	ctx, cancel := context.WithCancel(ctx)
	r := &relay{db: d, log: log, cancel: cancel, writer: &kafka.Writer{
		Addr: kafka.TCP(k.Brokers...), Topic: k.Prefix + feed.TopicEvents,
		Balancer: &kafka.Hash{}, RequiredAcks: kafka.RequireAll, BatchTimeout: 5 * time.Millisecond,
	}}
	r.done.Go(func() { r.run(ctx) })
	return r
}

func (r *relay) run(ctx context.Context) {
	ticker := time.NewTicker(relayEvery)
	defer ticker.Stop()
	for {
		if _, err := ledger.Relay(ctx, r.db, relayName, r.publish); err != nil && ctx.Err() == nil {
			r.log.Warn("publish events: trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// stop publishes what the last commands have left and ends the relay.
func (r *relay) stop() error {
	r.cancel()
	r.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), lastRelay)
	defer cancel()
	if _, err := ledger.Relay(ctx, r.db, relayName, r.publish); err != nil {
		r.log.Warn("publish events: the next process does it", "error", err)
	}
	return r.writer.Close()
}

// publish writes events with the lane as key, so that one lane keeps its order.
func (r *relay) publish(ctx context.Context, events []ledger.Event) error {
	messages := make([]kafka.Message, len(events))
	for i, e := range events {
		messages[i] = kafka.Message{
			Key: strconv.AppendInt(nil, int64(e.ID.Lane), 10), Value: e.Canon, Time: e.At,
			Headers: []kafka.Header{
				{Key: "clearward-event", Value: []byte(e.ID.String())},
				{Key: "clearward-kind", Value: []byte(e.Kind)},
			},
		}
	}
	err := r.writer.WriteMessages(ctx, messages...)
	var some kafka.WriteErrors
	if errors.As(err, &some) {
		for _, one := range some {
			if one != nil {
				return one
			}
		}
	}
	return err
}
