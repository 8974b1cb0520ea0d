package recon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/clearward/clearward/ledger/db"
)

// FileState is how far a fed file has come.
type FileState string

// The states of a file. Verified counts for its part of the day; Duplicate says
// the same as the one that counts; Superseded said something else before it.
const (
	FileReceived   FileState = "RECEIVED"
	FileVerified   FileState = "VERIFIED"
	FileDuplicate  FileState = "DUPLICATE"
	FileSuperseded FileState = "SUPERSEDED"
	FileRejected   FileState = "REJECTED"
)

// complete says that every line of the file is stored and its sums have held.
func (s FileState) complete() bool {
	return s == FileVerified || s == FileDuplicate || s == FileSuperseded
}

// file is the part of a row of feed_files that Ingest decides by.
type file struct {
	slice  Slice
	state  FileState
	stored int64
	lines  int64
	part   Part  // "" until the manifest came
	fedAt  int64 // of the manifest that the row holds
	totals Totals
}

// Ingest stores records once, in one transaction. The order and the number of
// times in which they arrive never change what stands in the end: lines are
// keyed by file and row, and which file counts follows from what was fed when.
// A file is verified as soon as its manifest and its last line are there.
//
// An error that is ErrRecord, or a violated constraint, is the fault of a
// record; the caller finds it by halving.
func Ingest(ctx context.Context, d *db.DB, records []FeedRecord, now time.Time) error {
	for _, r := range records {
		if err := r.Check(); err != nil {
			return err
		}
	}
	try := func(ask bool) error {
		return d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			in := ingestion{tx: tx, now: now, ask: ask, touched: map[int64]bool{}, slices: map[Slice]bool{}}
			return in.run(ctx, records)
		})
	}
	err := try(false)
	var taken *pgconn.PgError
	if errors.As(err, &taken) && taken.Code == "23505" {
		return try(true) // some line came before
	}
	return err
}

// ingestion is one transaction's work.
type ingestion struct {
	tx      pgx.Tx
	now     time.Time
	ask     bool // whether a line is there already, of each
	files   map[int64]*file
	touched map[int64]bool // files that may be complete now
	slices  map[Slice]bool // slices in which another file may count now
}

func (in *ingestion) run(ctx context.Context, records []FeedRecord) error {
	if err := in.load(ctx, records); err != nil {
		return err
	}
	var lines lineBatch
	for _, r := range records {
		if r.Line != nil && !in.files[r.Line.File].state.complete() {
			lines.add(r.Line)
		}
	}
	if err := in.store(ctx, &lines); err != nil {
		return err
	}
	for _, r := range records {
		if r.Manifest == nil {
			continue
		}
		if err := in.manifest(ctx, r.Manifest); err != nil {
			return err
		}
	}
	for _, id := range sortedKeys(in.touched) {
		if err := in.verify(ctx, id); err != nil {
			return err
		}
	}
	for slice := range in.slices {
		if err := in.decide(ctx, slice); err != nil {
			return err
		}
	}
	return nil
}

func sortedKeys(set map[int64]bool) []int64 {
	keys := make([]int64, 0, len(set))
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// load reads the files that records name, makes those that are new, and refuses
// records that say something else of a file's slice than was said before.
func (in *ingestion) load(ctx context.Context, records []FeedRecord) error {
	named := map[int64]Slice{}
	for _, r := range records {
		id, slice := r.name()
		if known, ok := named[id]; ok && known != slice {
			return fmt.Errorf("%w: file %d is said to be about %v and about %v", ErrRecord, id, known, slice)
		}
		named[id] = slice
	}
	ids := make([]int64, 0, len(named))
	for id := range named {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if err := in.read(ctx, ids); err != nil {
		return err
	}
	for _, id := range ids {
		slice := named[id]
		known, ok := in.files[id]
		if !ok {
			if err := in.begin(ctx, id, slice); err != nil {
				return err
			}
		} else if known.slice != slice {
			return fmt.Errorf("%w: file %d is about %v, not %v", ErrRecord, id, known.slice, slice)
		}
	}
	return nil
}

func (r FeedRecord) name() (int64, Slice) {
	if r.Line != nil {
		return r.Line.File, r.Line.Slice
	}
	return r.Manifest.File, r.Manifest.Slice
}

func (in *ingestion) read(ctx context.Context, ids []int64) error {
	rows, err := in.tx.Query(ctx, `
		SELECT file, source, hospital, channel, account, day, state, stored, line_count, part, fed_at, totals::TEXT
		FROM feed_files
		WHERE file = ANY($1::INT8[])`, ids)
	if err != nil {
		return fmt.Errorf("read feed files: %w", err)
	}
	in.files = make(map[int64]*file, len(ids))
	var id int64
	var totals []byte
	var f file
	_, err = pgx.ForEachRow(rows, []any{
		&id, &f.slice.Source, &f.slice.Hospital, &f.slice.Channel, &f.slice.Account, &f.slice.Day,
		&f.state, &f.stored, &f.lines, &f.part, &f.fedAt, &totals,
	}, func() error {
		known := f
		in.files[id] = &known
		return json.Unmarshal(totals, &known.totals)
	})
	if err != nil {
		return fmt.Errorf("read feed files: %w", err)
	}
	return nil
}

// begin makes the row of a file of which nothing was known.
func (in *ingestion) begin(ctx context.Context, id int64, s Slice) error {
	_, err := in.tx.Exec(ctx, `
		INSERT INTO feed_files (
			file, source, hospital, channel, account, day, state, reason, stored, part, sha256,
			row_count, line_count, totals, digest_pay, digest_refund, fed_at, received_at, verified_at)
		VALUES ($1, $2, $3, $4, $5, $6, 'RECEIVED', '', 0, '', ''::BYTEA, 0, 0, '{}'::JSONB, ''::BYTEA, ''::BYTEA, 0, $7, NULL)
		ON CONFLICT (file) DO NOTHING`,
		id, s.Source, s.Hospital, s.Channel, s.Account, s.Day, in.now)
	if err != nil {
		return fmt.Errorf("begin feed file %d: %w", id, err)
	}
	in.files[id] = &file{slice: s, state: FileReceived}
	return nil
}

// store writes the lines that are not there yet and counts them to their files.
func (in *ingestion) store(ctx context.Context, lines *lineBatch) error {
	added, err := lines.insert(ctx, in.tx, in.ask)
	if err != nil {
		return err
	}
	var ids, counts []int64
	for id, n := range added {
		f := in.files[id]
		f.stored += n
		ids, counts = append(ids, id), append(counts, n)
		in.touched[id] = true
	}
	if len(ids) == 0 {
		return nil
	}
	_, err = in.tx.Exec(ctx, `
		UPDATE feed_files
		SET stored = stored + added.n
		FROM unnest($1::INT8[], $2::INT8[]) AS added (id, n)
		WHERE file = added.id`, ids, counts)
	if err != nil {
		return fmt.Errorf("count feed lines: %w", err)
	}
	return nil
}

// manifest notes that the file was fed and takes over what the manifest says,
// unless the file is complete. Of two manifests that differ, which only a broken
// sender makes, the later one is taken.
func (in *ingestion) manifest(ctx context.Context, m *Manifest) error {
	fedAt := m.FedAt.UnixMicro()
	tag, err := in.tx.Exec(ctx, `
		INSERT INTO feed_deliveries (file, fed_at, name)
		VALUES ($1, $2, $3)
		ON CONFLICT (file, fed_at) DO NOTHING`, m.File, fedAt, m.Name)
	if err != nil {
		return fmt.Errorf("note the delivery of %s: %w", m.Name, err)
	}
	f := in.files[m.File]
	if f.state.complete() {
		if tag.RowsAffected() > 0 {
			in.slices[f.slice] = true
		}
		return nil
	}
	if fedAt <= f.fedAt {
		return nil
	}
	totals, err := json.Marshal(m.Totals)
	if err != nil {
		return fmt.Errorf("totals of %s: %w", m.Name, err)
	}
	_, err = in.tx.Exec(ctx, `
		UPDATE feed_files
		SET state = 'RECEIVED', reason = '', part = $2, sha256 = $3, row_count = $4, line_count = $5,
			totals = $6::TEXT::JSONB, digest_pay = $7, digest_refund = $8, fed_at = $9
		WHERE file = $1`,
		m.File, m.Part, m.SHA256[:], m.Rows, m.Lines, string(totals), m.DigestPay[:], m.DigestRefund[:], fedAt)
	if err != nil {
		return fmt.Errorf("take the manifest of %s: %w", m.Name, err)
	}
	f.state, f.part, f.lines, f.totals, f.fedAt = FileReceived, m.Part, int64(m.Lines), m.Totals, fedAt
	in.touched[m.File] = true
	return nil
}
