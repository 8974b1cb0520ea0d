package ledger

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/clearward/clearward/ledger/db"
	"github.com/jackc/pgx/v5"
)

// Finding is an invariant that does not hold.
type Finding struct {
	Check   string // which invariant
	Subject string // where: a batch, an entry, an account
	Detail  string // what was found and what was expected
}

// String prints the finding as one line.
func (f Finding) String() string { return f.Check + ": " + f.Subject + ": " + f.Detail }

// Control is an invariant of the chart of accounts, which only a package that
// knows what the accounts mean can state.
type Control struct {
	Name  string
	Whole bool // it reads every row there is, so that VerifyNew leaves it out
	Check func(ctx context.Context, tx pgx.Tx) ([]Finding, error)
}

// Verify recomputes every invariant of the books from the postings, then the
// controls. It may run while others post: each step reads one state of the books
// in a transaction of its own, none of them long.
func Verify(ctx context.Context, d *db.DB, controls ...Control) ([]Finding, error) {
	v := &verifier{db: d, accounts: map[AccountID]accountRow{}, days: map[Day]bool{}}
	return v.run(ctx, controls, v.proven, v.journal, v.everyDay, v.turnover, v.sets, v.floors, v.requests)
}

// VerifyNew is Verify of what was written since a proof last found nothing wrong:
// the batches after it, the sums of the days that they post on, and the controls
// that do not read everything. What stood then is left to Verify.
func VerifyNew(ctx context.Context, d *db.DB, controls ...Control) ([]Finding, error) {
	v := &verifier{db: d, accounts: map[AccountID]accountRow{}, days: map[Day]bool{}, onlyNew: true}
	controls = slices.DeleteFunc(slices.Clone(controls), func(c Control) bool { return c.Whole })
	return v.run(ctx, controls, v.proven, v.journal, v.turnover, v.sets, v.floors)
}

type verifier struct {
	db       *db.DB
	onlyNew  bool
	marks    [lanes]int64 // the last batch of each lane that was proven before
	last     [lanes]int64 // the last batch of each lane that this proof has read
	accounts map[AccountID]accountRow
	days     map[Day]bool // whose sums are compared
	findings []Finding
}

func (v *verifier) run(ctx context.Context, controls []Control, steps ...func(ctx context.Context) error) ([]Finding, error) {
	for _, control := range controls {
		steps = append(steps, func(ctx context.Context) error { return v.control(ctx, control) })
	}
	for _, step := range append(steps, v.prove) {
		if err := step(ctx); err != nil {
			return v.findings, fmt.Errorf("verify: %w", err)
		}
	}
	return v.findings, nil
}

// proven reads how far the journal was proven before.
func (v *verifier) proven(ctx context.Context) error {
	rows, err := v.db.Pool.Query(ctx, `SELECT lane, seq FROM proofs`)
	if err != nil {
		return err
	}
	var lane int16
	var seq int64
	_, err = pgx.ForEachRow(rows, []any{&lane, &seq}, func() error { v.marks[lane] = seq; return nil })
	return err
}

// prove notes how far the journal is proven now; a finding keeps it where it was.
func (v *verifier) prove(ctx context.Context) error {
	if len(v.findings) > 0 {
		return nil
	}
	lane, seq := make([]int16, 0, lanes), make([]int64, 0, lanes)
	for n, last := range v.last {
		if last > v.marks[n] {
			lane, seq = append(lane, int16(n)), append(seq, last)
		}
	}
	if len(lane) == 0 {
		return nil
	}
	return v.db.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO proofs (lane, seq) SELECT lane, seq FROM unnest($1::int2[], $2::int8[]) AS given(lane, seq)
			ON CONFLICT (lane) DO UPDATE SET seq = GREATEST(proofs.seq, excluded.seq)`, lane, seq)
		return err
	})
}

func (v *verifier) find(check string, subject any, detail string, args ...any) {
	v.findings = append(v.findings, Finding{check, fmt.Sprint(subject), fmt.Sprintf(detail, args...)})
}

func (v *verifier) control(ctx context.Context, control Control) error {
	return v.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		found, err := control.Check(ctx, tx)
		if err != nil {
			return fmt.Errorf("%s: %w", control.Name, err)
		}
		for _, f := range found {
			if f.Check == "" {
				f.Check = control.Name
			}
			v.findings = append(v.findings, f)
		}
		return nil
	})
}

// verifyBatches is how many batches are read in one transaction.
const verifyBatches = 500

// journal walks every lane: no batch missing, every entry and event as it was
// written, nothing there that was not, every account open.
func (v *verifier) journal(ctx context.Context) error {
	for lane := range int16(lanes) {
		first := int64(1)
		if v.onlyNew {
			first = max(first, v.marks[lane]) // again the last one that was proven: the chain goes on from it
		}
		for next := first; next > 0; {
			findings, days := len(v.findings), next
			err := v.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
				v.findings = v.findings[:findings]
				next, err = v.batches(ctx, tx, lane, days)
				return err
			})
			if err != nil {
				return err
			}
		}
		if v.last[lane] < v.marks[lane] {
			v.find("lane without gaps", fmt.Sprintf("batch %d/%d", lane, v.marks[lane]), "it was proven once and is not there")
		}
	}
	return nil
}

// storedBatch is a row of batches with what it says it holds.
type storedBatch struct {
	lane    int16
	seq     int64
	epoch   int64
	items   int32
	content []byte
}

// batches checks a lane's batches from first on and returns where to go on, zero
// at the end.
func (v *verifier) batches(ctx context.Context, tx pgx.Tx, lane int16, first int64) (int64, error) {
	rows, err := tx.Query(ctx, `
		SELECT lane, seq, epoch, items, content FROM batches
		WHERE lane = $1 AND seq >= $2 ORDER BY lane, seq LIMIT $3`, lane, first, verifyBatches)
	if err != nil {
		return 0, err
	}
	stored, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b storedBatch, err error) {
		err = row.Scan(&b.lane, &b.seq, &b.epoch, &b.items, &b.content)
		return b, err
	})
	if err != nil {
		return 0, err
	}
	last, epoch := int64(1)<<62, int64(0) // of the last chunk nothing may stand behind
	if len(stored) == verifyBatches {
		last = stored[len(stored)-1].seq
	}
	leaves, err := v.leaves(ctx, tx, lane, first, last)
	if err != nil {
		return 0, err
	}
	for i, b := range stored {
		place := fmt.Sprintf("batch %d/%d", lane, b.seq)
		if want := first + int64(i); b.seq != want {
			v.find("lane without gaps", place, "batch %d should stand here", want)
			first = b.seq - int64(i)
		}
		if b.epoch < epoch {
			v.find("one writer at a time", place, "epoch %d follows epoch %d", b.epoch, epoch)
		}
		epoch = b.epoch
		v.content(place, b, leaves[b.seq])
		delete(leaves, b.seq)
		v.last[lane] = b.seq
	}
	for seq := range leaves {
		v.find("content of a batch", fmt.Sprintf("batch %d/%d", lane, seq), "there are entries or events of a batch that is not there")
	}
	if len(stored) < verifyBatches {
		return 0, nil
	}
	return last + 1, nil
}

// placed is the hash of what stands at a place of the journal now.
type placed struct {
	id   EntryID
	what string
	leaf []byte
}

// leaves hashes the entries and events of a lane's batches as they stand, and
// checks what can be seen of an entry alone.
func (v *verifier) leaves(ctx context.Context, tx pgx.Tx, lane int16, first, last int64) (map[int64][]placed, error) {
	entries, orphans, err := readEntries(ctx, tx, lane, first, last)
	if err != nil {
		return nil, err
	}
	if orphans > 0 {
		v.find("postings belong to entries", fmt.Sprintf("lane %d, batches %d to %d", lane, first, last), "%d postings have no entry, or another day than theirs", orphans)
	}
	if err := v.knowAccounts(ctx, tx, entries); err != nil {
		return nil, err
	}
	leaves := map[int64][]placed{}
	for _, p := range entries {
		v.entry(&p)
		leaves[p.id.Seq] = append(leaves[p.id.Seq], placed{p.id, "entry", leaf(p.canonical(nil))})
	}
	events, err := readEvents(ctx, tx, lane, first, last)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		leaves[e.ID.Seq] = append(leaves[e.ID.Seq], placed{e.ID, "event", leaf(e.canonical(nil))})
	}
	return leaves, nil
}

// content compares what a batch says it holds with what stands there.
func (v *verifier) content(place string, b storedBatch, found []placed) {
	if int(b.items)*leafSize != len(b.content) {
		v.find("content of a batch", place, "%d items, but %d bytes of hashes", b.items, len(b.content))
		return
	}
	slices.SortFunc(found, func(a, b placed) int { return int(a.id.Ord) - int(b.id.Ord) })
	if len(found) != int(b.items) {
		v.find("content of a batch", place, "%d entries and events were written, %d are there", b.items, len(found))
	}
	for _, p := range found {
		at := int(p.id.Ord) * leafSize
		if at < 0 || at+leafSize > len(b.content) || !bytes.Equal(p.leaf, b.content[at:at+leafSize]) {
			v.find("content of a batch", fmt.Sprintf("%s %v", p.what, p.id), "it is not what was written")
		}
	}
}

// entry checks what can be seen of an entry alone.
func (v *verifier) entry(p *posted) {
	v.days[p.day] = true
	if len(p.postings) == 0 {
		v.find("entries have postings", p.id, "there is none")
	}
	for _, q := range p.postings {
		if err := q.check(p.head.Book); err != nil {
			v.find("each set balances", p.id, "%v", err)
		}
		for _, leg := range []Leg{q.Debit, q.Credit} {
			if _, open := v.accounts[leg.Account]; !open {
				v.find("accounts are open", p.id, "%v is not", leg.Account)
			}
		}
	}
}

func (v *verifier) knowAccounts(ctx context.Context, tx pgx.Tx, entries []posted) error {
	var missing []AccountID
	for _, p := range entries {
		for _, leg := range legsOf(p.Entry, nil) {
			if _, known := v.accounts[leg.Account]; !known {
				missing = append(missing, leg.Account)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	_, err := readAccounts(ctx, tx, v.accounts, `WHERE id = ANY($1::int8[])`, slices.Compact(missing))
	return err
}

// everyDay has the sums of every day compared.
func (v *verifier) everyDay(ctx context.Context) error {
	return v.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT DISTINCT day FROM turnover`)
		if err != nil {
			return err
		}
		var day Day
		_, err = pgx.ForEachRow(rows, []any{&day}, func() error { v.days[day] = true; return nil })
		return err
	})
}

// turnover compares the sums with the postings, day by day.
func (v *verifier) turnover(ctx context.Context) error {
	err := v.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := readAccounts(ctx, tx, v.accounts, ``) // for their names
		return err
	})
	for _, day := range sortedDays(v.days) {
		if err == nil {
			findings := len(v.findings)
			err = v.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
				v.findings = v.findings[:findings]
				return v.turnoverOf(ctx, tx, day)
			})
		}
	}
	return err
}

func sortedDays(set map[Day]bool) []Day {
	days := make([]Day, 0, len(set))
	for day := range set {
		days = append(days, day)
	}
	slices.Sort(days)
	return days
}

func (v *verifier) turnoverOf(ctx context.Context, tx pgx.Tx, day Day) error {
	rows, err := tx.Query(ctx, `
		WITH pairs AS (
			SELECT p.debit, p.credit, e.value_day, p.lane, sum(p.amount)::int8 AS amount,
			       sum(CASE WHEN e.rev_seq IS NULL THEN 0 ELSE p.amount END)::int8 AS red
			FROM postings AS p JOIN entries AS e ON e.lane = p.lane AND e.seq = p.seq AND e.ord = p.ord
			WHERE p.day = $1 GROUP BY p.debit, p.credit, e.value_day, p.lane
		)
		SELECT account, value_day, lane, sum(debits)::int8, sum(credits)::int8, sum(red_debits)::int8, sum(red_credits)::int8
		FROM (
			SELECT debit AS account, value_day, lane, amount AS debits, 0::int8 AS credits, red AS red_debits, 0::int8 AS red_credits FROM pairs
			UNION ALL
			SELECT credit, value_day, lane, 0::int8, amount, 0::int8, red FROM pairs
			UNION ALL
			SELECT account, value_day, lane, -debits, -credits, -red_debits, -red_credits FROM turnover WHERE day = $1
		) AS both_sides
		GROUP BY account, value_day, lane
		HAVING sum(debits) <> 0 OR sum(credits) <> 0 OR sum(red_debits) <> 0 OR sum(red_credits) <> 0
		ORDER BY account, value_day, lane`, day)
	if err != nil {
		return err
	}
	var account AccountID
	var valueDay Day
	var lane int16
	var debits, credits, redDebits, redCredits Money
	_, err = pgx.ForEachRow(rows, []any{&account, &valueDay, &lane, &debits, &credits, &redDebits, &redCredits}, func() error {
		v.find("turnover is the sum of the postings", v.name(account), "day %v, value day %v, lane %d: the postings are %v debit and %v credit more, of that %v and %v red",
			day, valueDay, lane, debits, credits, redDebits, redCredits)
		return nil
	})
	return err
}

func (v *verifier) name(account AccountID) string {
	if row, ok := v.accounts[account]; ok {
		return row.code
	}
	return account.String()
}

// sets adds up each set of each book.
func (v *verifier) sets(ctx context.Context) error {
	return v.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT account >> 45, sum(debits - credits)::int8 FROM turnover
			GROUP BY 1 HAVING sum(debits) <> sum(credits) ORDER BY 1`)
		if err != nil {
			return err
		}
		var set int64
		var off Money
		_, err = pgx.ForEachRow(rows, []any{&set, &off}, func() error {
			v.find("each set balances", fmt.Sprintf("book %d, set %d", set>>3, set&7), "debits are %v more than credits", off)
			return nil
		})
		return err
	})
}

// floors recomputes what left each checked account and what came in.
func (v *verifier) floors(ctx context.Context) error {
	return v.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT a.code, coalesce(f.floor, 0), coalesce(f.outgo, -1), coalesce(f.income_seen, 0),
			       coalesce(sum(CASE WHEN a.side = 1 THEN t.debits ELSE t.credits END), 0)::int8,
			       coalesce(sum(CASE WHEN a.side = 1 THEN t.credits ELSE t.debits END), 0)::int8
			FROM accounts AS a
			LEFT JOIN floors AS f ON f.account = a.id
			LEFT JOIN turnover AS t ON t.account = a.id
			WHERE a.checked
			GROUP BY a.code, f.floor, f.outgo, f.income_seen
			ORDER BY a.code`)
		if err != nil {
			return err
		}
		var code string
		var floor, outgo, seen, in, out Money
		_, err = pgx.ForEachRow(rows, []any{&code, &floor, &outgo, &seen, &in, &out}, func() error {
			if outgo != out {
				v.find("floors are the sum of the postings", code, "the row says that %v left, the postings %v", outgo, out)
			}
			if seen > in {
				v.find("floors are the sum of the postings", code, "the row has seen %v come in, the postings only %v", seen, in)
			}
			if in-out < floor {
				v.find("no balance below its floor", code, "the balance is %v, the floor %v", in-out, floor)
			}
			return nil
		})
		return err
	})
}

// requests checks that every answer kept points at what it answered with.
func (v *verifier) requests(ctx context.Context) error {
	return v.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT r.scope, r.key FROM requests AS r
			LEFT JOIN batches AS b ON b.lane = r.lane AND b.seq = r.seq
			LEFT JOIN entries AS e ON e.lane = r.lane AND e.seq = r.seq AND e.ord = r.ord
			LEFT JOIN events AS f ON f.lane = r.lane AND f.seq = r.seq AND f.ord = r.ord
			WHERE b.seq IS NULL OR (r.ord IS NOT NULL AND e.ord IS NULL AND f.ord IS NULL)
			ORDER BY r.scope, r.key`)
		if err != nil {
			return err
		}
		var scope, key string
		_, err = pgx.ForEachRow(rows, []any{&scope, &key}, func() error {
			v.find("answers point at entries", scope+" "+key, "what it answered with is not there")
			return nil
		})
		return err
	})
}
