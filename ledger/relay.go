package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/clearward/clearward/ledger/db"
	"github.com/jackc/pgx/v5"
)

// Event is a fact without money in the journal: see Batch.Record.
type Event struct {
	ID    EntryID
	Kind  string
	Canon []byte
	At    time.Time // when it was recorded
}

// relayBatches is how many batches of a lane are relayed at a time.
const relayBatches = 1000

// Relay gives write the events that the reader called name has not had yet, in
// order within each lane, and notes how far it has come when write has returned
// nil: a reader gets every event at least once. It returns how many it wrote.
func Relay(ctx context.Context, d *db.DB, name string, write func(ctx context.Context, events []Event) error) (int, error) {
	written := 0
	for lane := range int16(lanes) {
		for {
			events, more, err := relayLane(ctx, d, name, lane, write)
			written += events
			if err != nil {
				return written, fmt.Errorf("relay %s, lane %d: %w", name, lane, err)
			}
			if !more {
				break
			}
		}
	}
	return written, nil
}

// relayLane relays the next batches of a lane; more says that there are others.
// Batches of a lane are committed one after the other, so none appears behind.
func relayLane(ctx context.Context, d *db.DB, name string, lane int16, write func(ctx context.Context, events []Event) error) (n int, more bool, err error) {
	var from, to, tip int64
	var events []Event
	err = d.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `
			SELECT coalesce((SELECT seq FROM cursors WHERE name = $1 AND lane = $2), 0),
			       coalesce((SELECT max(seq) FROM batches WHERE lane = $2), 0)`, name, lane).Scan(&from, &tip)
		if err != nil {
			return err
		}
		to = min(from+relayBatches, tip)
		events, err = readEvents(ctx, tx, lane, from+1, to)
		return err
	})
	if err != nil || to == from {
		return 0, false, err
	}
	if len(events) > 0 {
		if err := write(ctx, events); err != nil {
			return 0, false, err
		}
	}
	err = d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO cursors (name, lane, seq) VALUES ($1, $2, $3)
			ON CONFLICT (name, lane) DO UPDATE SET seq = excluded.seq WHERE cursors.seq < excluded.seq`, name, lane, to)
		return err
	})
	return len(events), to < tip, err
}

// readEvents returns the events of a lane's batches from first to last.
func readEvents(ctx context.Context, tx pgx.Tx, lane int16, first, last int64) ([]Event, error) {
	rows, err := tx.Query(ctx, `
		SELECT e.lane, e.seq, e.ord, e.kind, e.canon, b.at
		FROM events AS e JOIN batches AS b ON b.lane = e.lane AND b.seq = e.seq
		WHERE e.lane = $1 AND e.seq BETWEEN $2 AND $3
		ORDER BY e.lane, e.seq, e.ord`, lane, first, last)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Event, error) {
		var e Event
		err := row.Scan(&e.ID.Lane, &e.ID.Seq, &e.ID.Ord, &e.Kind, &e.Canon, &e.At)
		return e, err
	})
}
