package recon

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// sumQueries add up the stored lines of a file by kind: count, amount,
// settlement amount, fee. The kinds are those of lineSums.
var sumQueries = map[Source]string{
	SourceBill: `
		SELECT kind, COUNT(*)::INT8, SUM(amount)::INT8, SUM(settle)::INT8, SUM(fee)::INT8
		FROM bill_lines
		WHERE file = $1
		GROUP BY kind`,
	SourceFund: `
		SELECT kind, COUNT(*)::INT8, SUM(amount)::INT8, 0::INT8, 0::INT8
		FROM fund_lines
		WHERE file = $1
		GROUP BY kind`,
	SourceHIS: `
		SELECT kind, COUNT(*)::INT8, SUM(amount)::INT8, 0::INT8, 0::INT8
		FROM his_lines
		WHERE file = $1
		GROUP BY kind`,
	SourceStatement: `
		SELECT CASE WHEN amount < 0 THEN 'DEBIT' ELSE 'CREDIT' END AS kind, COUNT(*)::INT8, SUM(amount)::INT8, 0::INT8, 0::INT8
		FROM bank_lines
		WHERE file = $1
		GROUP BY 1`,
}

// verify settles a file of which manifest and all lines are there: it is
// complete, or rejected with what does not agree. A file that lacks something
// stays as it is; nothing of it counts.
func (in *ingestion) verify(ctx context.Context, id int64) error {
	f := in.files[id]
	if f.state.complete() || f.part == "" || f.stored < f.lines {
		return nil
	}
	found, lines, err := in.sums(ctx, id, f.slice.Source)
	if err != nil {
		return err
	}
	var wrong []string
	if lines != f.lines {
		wrong = append(wrong, fmt.Sprintf("lines: manifest %d, stored %d", f.lines, lines))
	}
	for name, value := range found {
		if f.totals[name] != value {
			wrong = append(wrong, fmt.Sprintf("%s: manifest %d, stored %d", name, f.totals[name], value))
		}
	}
	slices.Sort(wrong)
	f.state = FileVerified
	if len(wrong) > 0 {
		f.state = FileRejected
	}
	_, err = in.tx.Exec(ctx, `
		UPDATE feed_files
		SET state = $2::TEXT, reason = $3, verified_at = CASE WHEN $2::TEXT = 'VERIFIED' THEN $4::TIMESTAMPTZ END
		WHERE file = $1`, id, f.state, strings.Join(wrong, "; "), in.now)
	if err != nil {
		return fmt.Errorf("settle feed file %d: %w", id, err)
	}
	if f.state == FileVerified {
		in.slices[f.slice] = true
	}
	return nil
}

// sums returns what the stored lines of a file add up to, under the names of
// the manifest's totals, and how many they are.
func (in *ingestion) sums(ctx context.Context, id int64, source Source) (Totals, int64, error) {
	names := lineSums(source)
	found := Totals{}
	for _, kind := range names {
		for _, name := range kind {
			if name != "" {
				found[name] = 0
			}
		}
	}
	rows, err := in.tx.Query(ctx, sumQueries[source], id)
	if err != nil {
		return nil, 0, fmt.Errorf("add up feed file %d: %w", id, err)
	}
	var kind string
	var value [4]int64
	var lines int64
	_, err = pgx.ForEachRow(rows, []any{&kind, &value[0], &value[1], &value[2], &value[3]}, func() error {
		lines += value[0]
		for i, name := range names[kind] {
			if name != "" {
				found[name] = value[i]
			}
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("add up feed file %d: %w", id, err)
	}
	return found, lines, nil
}

// delivery is one time that a complete file was fed.
type delivery struct {
	file        int64
	state       FileState
	part        Part
	pay, refund string // digests
}

func (d *delivery) digest(p Part) string {
	if p == PartRefund {
		return d.refund
	}
	return d.pay
}

// chosen is the file that counts for a part, and its content's version.
type chosen struct {
	file    int64
	digest  string
	version int64
}

// decide works out, from all that was fed for a slice, which file counts for
// each part of the day. It reads the deliveries in the order in which they were
// fed and forgets what was decided before, so the order of arrival cannot
// matter: a content that differs from the one before it is a new version, the
// first file of a run of equal contents counts.
func (in *ingestion) decide(ctx context.Context, s Slice) error {
	deliveries, err := in.deliveries(ctx, s)
	if err != nil {
		return err
	}
	parts := map[Part]*chosen{}
	for _, d := range deliveries {
		for _, p := range d.part.covers(s.Source) {
			c := parts[p]
			if c == nil {
				c = &chosen{}
				parts[p] = c
			}
			if c.version == 0 || c.digest != d.digest(p) {
				*c = chosen{file: d.file, digest: d.digest(p), version: c.version + 1}
			}
		}
	}
	if err := in.writeParts(ctx, s, parts); err != nil {
		return err
	}
	return in.writeStates(ctx, s, deliveries, parts)
}

func (in *ingestion) deliveries(ctx context.Context, s Slice) ([]delivery, error) {
	rows, err := in.tx.Query(ctx, `
		SELECT f.file, f.state, f.part, f.digest_pay, f.digest_refund
		FROM feed_files AS f
		JOIN feed_deliveries AS d ON d.file = f.file
		WHERE f.day = $1 AND f.source = $2 AND f.hospital = $3 AND f.channel = $4 AND f.account = $5
			AND f.state IN ('VERIFIED', 'DUPLICATE', 'SUPERSEDED')
		ORDER BY d.fed_at, f.file`, s.Day, s.Source, s.Hospital, s.Channel, s.Account)
	if err != nil {
		return nil, fmt.Errorf("read what was fed for %v: %w", s, err)
	}
	deliveries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d delivery, err error) {
		var pay, refund []byte
		err = row.Scan(&d.file, &d.state, &d.part, &pay, &refund)
		d.pay, d.refund = string(pay), string(refund)
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what was fed for %v: %w", s, err)
	}
	return deliveries, nil
}

func (in *ingestion) writeParts(ctx context.Context, s Slice, parts map[Part]*chosen) error {
	for _, p := range []Part{PartAll, PartPay, PartRefund} {
		c := parts[p]
		if c == nil {
			continue
		}
		_, err := in.tx.Exec(ctx, `
			INSERT INTO feed_parts (day, source, hospital, channel, account, part, file, digest, version, verified_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT (day, source, hospital, channel, account, part) DO UPDATE
			SET file = excluded.file, digest = excluded.digest, version = excluded.version, verified_at = excluded.verified_at
			WHERE feed_parts.file <> excluded.file OR feed_parts.version <> excluded.version`,
			s.Day, s.Source, s.Hospital, s.Channel, s.Account, p, c.file, []byte(c.digest), c.version, in.now)
		if err != nil {
			return fmt.Errorf("choose the file of %v: %w", s, err)
		}
	}
	return nil
}

// writeStates says of each complete file of a slice whether it counts, says the
// same as what counts, or was superseded.
func (in *ingestion) writeStates(ctx context.Context, s Slice, deliveries []delivery, parts map[Part]*chosen) error {
	written := map[int64]bool{}
	for _, d := range deliveries {
		state := FileDuplicate
		for _, p := range d.part.covers(s.Source) {
			if parts[p].file == d.file {
				state = FileVerified
				break
			}
			if parts[p].digest != d.digest(p) {
				state = FileSuperseded
			}
		}
		if state == d.state || written[d.file] {
			continue
		}
		written[d.file] = true
		_, err := in.tx.Exec(ctx, `UPDATE feed_files SET state = $2 WHERE file = $1`, d.file, state)
		if err != nil {
			return fmt.Errorf("settle feed file %d: %w", d.file, err)
		}
	}
	return nil
}

// FedFile is what is known of a file that was fed.
type FedFile struct {
	File   int64
	Slice  Slice
	Part   Part   // "" until its manifest came
	Name   string // as it was first called, "" until its manifest came
	State  FileState
	Reason string // why it was rejected
	Rows   int64
	Stored int64 // lines of it that have arrived
	Lines  int64 // lines that it has
	Totals Totals
}

// Files returns what is known of files, in the order of their numbers.
func Files(ctx context.Context, tx pgx.Tx, ids ...int64) ([]FedFile, error) {
	rows, err := tx.Query(ctx, `
		SELECT f.file, f.source, f.hospital, f.channel, f.account, f.day, f.part,
			COALESCE((SELECT d.name FROM feed_deliveries AS d WHERE d.file = f.file ORDER BY d.fed_at LIMIT 1), ''),
			f.state, f.reason, f.row_count, f.stored, f.line_count, f.totals::TEXT
		FROM feed_files AS f
		WHERE f.file = ANY($1::INT8[])
		ORDER BY f.file`, ids)
	if err != nil {
		return nil, fmt.Errorf("read feed files: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (FedFile, error) {
		var f FedFile
		var totals []byte
		err := row.Scan(&f.File, &f.Slice.Source, &f.Slice.Hospital, &f.Slice.Channel, &f.Slice.Account, &f.Slice.Day,
			&f.Part, &f.Name, &f.State, &f.Reason, &f.Rows, &f.Stored, &f.Lines, &totals)
		if err != nil {
			return f, err
		}
		return f, json.Unmarshal(totals, &f.Totals)
	})
}
