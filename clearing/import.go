package clearing

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// ErrImport is wrapped by what the committer refused of a file that was checked;
// a *channels.FileError says what is wrong with the file itself.
var ErrImport = errors.New("import stopped")

// Importer posts the history of a business app.
type Importer struct {
	DB        *db.DB
	Committer *ledger.Committer
	Maker     string                // who imports
	Progress  func(done, total int) // after each slice that is posted; nil for none
}

// ImportSummary counts the rows of a file.
type ImportSummary struct {
	Rows      int
	Payments  int // posted now, by kind; what was there before is Replayed
	Refunds   int
	Reversals int
	Failed    int // stored, nothing to post
	Replayed  int
}

// sliceRows is how many rows are read ahead of the committer.
const sliceRows = 8192

// Import reads platform.csv (samples/day/README.md) twice over: first it checks
// the whole file, and refuses it whole with a *channels.FileError; then it posts
// payments before refunds, each row once and for ever: a row that was imported
// before is counted as replayed, so a broken import is simply run again.
func (im *Importer) Import(ctx context.Context, file io.ReadSeeker) (ImportSummary, error) {
	var directory *Directory
	err := im.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		directory, err = LoadMerchants(ctx, tx)
		return err
	})
	if err != nil {
		return ImportSummary{}, err
	}
	check := newFileCheck(im.DB, file, directory)
	if err := check.run(ctx); err != nil {
		return ImportSummary{}, err
	}
	run := importRun{Importer: im, check: check}
	run.Rows, run.Replayed = check.rows, len(check.repeated)
	for _, payments := range []bool{true, false} {
		if err := run.post(ctx, payments); err != nil {
			return run.ImportSummary, err
		}
	}
	return run.ImportSummary, nil
}

// importRun is the second reading, which posts.
type importRun struct {
	*Importer
	ImportSummary
	check *fileCheck
	done  int
	slice []*row
}

// post reads the file and posts its payments, or what is not a payment.
func (run *importRun) post(ctx context.Context, payments bool) error {
	err := run.check.each(func(r *row) error {
		if run.check.repeated[r.line] || (r.Kind == channels.Pay) != payments {
			return nil
		}
		if run.slice = append(run.slice, r); len(run.slice) < sliceRows {
			return nil
		}
		return run.submit(ctx)
	})
	if err != nil {
		return err
	}
	return run.submit(ctx)
}

func (run *importRun) submit(ctx context.Context) error {
	if len(run.slice) == 0 {
		return nil
	}
	requests, commands := make([]ledger.Request, len(run.slice)), make([]importCommand, len(run.slice))
	for i, r := range run.slice {
		canon := r.canon()
		requests[i] = ledger.Request{Scope: "import:" + r.Hospital, Key: string(r.Kind) + "|" + r.number(), Form: 1, Canon: canon, Internal: true}
		commands[i] = importCommand{Leg: r.Leg, merchant: r.merchant, canon: canon, maker: run.Maker}
	}
	outcomes, err := ledger.SubmitAll(ctx, run.Committer, importVerb, requests, commands)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrImport, err)
	}
	for i, out := range outcomes {
		r := run.slice[i]
		if errors.Is(out.Err, ledger.ErrKeyConflict) { // another import came between the check and this
			return &channels.FileError{Line: r.line, Rule: out.Err.Error()}
		}
		if out.Err != nil {
			return fmt.Errorf("%w at line %d: %w", ErrImport, r.line, out.Err)
		}
		run.count(r, out.Replayed)
	}
	run.done += len(run.slice)
	run.slice = run.slice[:0]
	if run.Progress != nil {
		run.Progress(run.done+len(run.check.repeated), run.check.rows)
	}
	return nil
}

func (run *importRun) count(r *row, replayed bool) {
	switch {
	case replayed:
		run.Replayed++
	case r.Status == channels.Failed:
		run.Failed++
	case r.Kind == channels.Pay:
		run.Payments++
	case r.Kind == channels.Refund:
		run.Refunds++
	default:
		run.Reversals++
	}
}
