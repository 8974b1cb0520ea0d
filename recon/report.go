package recon

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Day is what stands of a business day: the newest published run of every
// hospital, the versions of its pairs, and what is still waited for.
type Day struct {
	Day    ledger.Day
	Slices []SliceReport // by hospital, channel, merchant number
	Items  []*Item       // in the order of reports
	Runs   []RunReport   // by hospital
}

// SliceReport is one pair of one merchant number.
type SliceReport struct {
	Hospital   string     `json:"hospital"`
	Channel    string     `json:"channel"`
	MerchantNo string     `json:"merchant_no"`
	Pair       Pair       `json:"pair"`
	Version    int        `json:"version"` // 0 while it waits
	Run        int        `json:"run"`
	Waiting    []string   `json:"waiting,omitempty"` // feeds that are not complete
	Stats      *Stats     `json:"stats,omitempty"`
	Settlement *BankStats `json:"settlement,omitempty"`
}

// RunReport is what a hospital's newest run counted beside its items.
type RunReport struct {
	Hospital   string       `json:"hospital"`
	Run        int          `json:"run"`
	ScopeLines int          `json:"out_of_scope_lines"`
	ScopeFen   ledger.Money `json:"out_of_scope_fen"`
	NetZero    int          `json:"net_zero"`
	NetZeroFen ledger.Money `json:"net_zero_fen"`
}

// Load reads what stands of a day.
func (e *Engine) Load(ctx context.Context, day ledger.Day) (*Day, error) {
	d := &Day{Day: day}
	err := e.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		*d = Day{Day: day}
		dir, err := clearing.LoadMerchants(ctx, tx)
		if err != nil {
			return err
		}
		for i := range dir.Hospitals {
			if err := d.loadHospital(ctx, tx, dir, dir.Hospitals[i].Code); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.Items = mergeHalves(d.Items)
	sortItems(d.Items)
	return d, nil
}

func (d *Day) loadHospital(ctx context.Context, tx pgx.Tx, dir *clearing.Directory, hospital string) error {
	in, err := readInputs(ctx, tx, hospital, d.Day, dir.Calendar.NextWorkingDay(d.Day))
	if err != nil {
		return err
	}
	versions, err := readVersions(ctx, tx, hospital, d.Day)
	if err != nil {
		return err
	}
	stats, err := readStats(ctx, tx, hospital, d.Day)
	if err != nil {
		return err
	}
	for _, m := range dir.Merchants {
		if m.Hospital != hospital {
			continue
		}
		for _, pair := range []Pair{Info, Funds, Bank} {
			k := versionKey{pair, m.Channel, m.No}
			r := SliceReport{Hospital: hospital, Channel: m.Channel, MerchantNo: m.No, Pair: pair,
				Version: versions[k].number, Run: versions[k].run, Waiting: in.missing(pair, m)}
			if err := r.read(stats[k]); err != nil {
				return err
			}
			d.Slices = append(d.Slices, r)
		}
	}
	return d.loadRun(ctx, tx, hospital)
}

func (r *SliceReport) read(text string) error {
	if text == "" || text == "null" {
		return nil
	}
	if r.Pair == Bank {
		r.Settlement = &BankStats{}
		return json.Unmarshal([]byte(text), r.Settlement)
	}
	r.Stats = &Stats{}
	return json.Unmarshal([]byte(text), r.Stats)
}

// readStats returns the counts and sums of the newest version of each pair. The
// trade pairs of one run are counted together, so that the newest of both tells.
func readStats(ctx context.Context, tx pgx.Tx, hospital string, day ledger.Day) (map[versionKey]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT pair, channel, merchant_no, stats
		FROM recon_versions WHERE hospital = $1 AND day = $2 ORDER BY run, pair`, hospital, day)
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	out := map[versionKey]string{}
	var k versionKey
	var text string
	_, err = pgx.ForEachRow(rows, []any{&k.pair, &k.channel, &k.no, &text}, func() error {
		out[k] = text
		if k.pair == Info {
			if other := (versionKey{Funds, k.channel, k.no}); out[other] != "" {
				out[other] = text
			}
		}
		if k.pair == Funds {
			if other := (versionKey{Info, k.channel, k.no}); out[other] != "" {
				out[other] = text
			}
		}
		return nil
	})
	return out, err
}

func (d *Day) loadRun(ctx context.Context, tx pgx.Tx, hospital string) error {
	r := RunReport{Hospital: hospital}
	rows, err := tx.Query(ctx, `
		SELECT run, scope_lines, scope_fen, netzero, netzero_fen
		FROM recon_runs WHERE hospital = $1 AND day = $2 ORDER BY run DESC LIMIT 1`, hospital, d.Day)
	if err != nil {
		return fmt.Errorf("read the newest run: %w", err)
	}
	tag, err := pgx.ForEachRow(rows, []any{&r.Run, &r.ScopeLines, &r.ScopeFen, &r.NetZero, &r.NetZeroFen}, func() error { return nil })
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	d.Runs = append(d.Runs, r)
	items, err := readItems(ctx, tx, hospital, d.Day, r.Run)
	d.Items = append(d.Items, items...)
	return err
}

func readItems(ctx context.Context, tx pgx.Tx, hospital string, day ledger.Day, run int) ([]*Item, error) {
	rows, err := tx.Query(ctx, `
		SELECT code, channel, merchant_no, order_no, refund_no, bank_ref, his_fen, platform_fen, channel_fen,
			amount_fen, fee_diff_fen, case_id, note
		FROM recon_items WHERE hospital = $1 AND day = $2 AND run = $3 ORDER BY n`, hospital, day, run)
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Item, error) {
		i := &Item{Hospital: hospital}
		var his, platform, channel *int64
		err := row.Scan(&i.Code, &i.Channel, &i.MerchantNo, &i.OrderNo, &i.RefundNo, &i.BankRef, &his, &platform, &channel,
			&i.Amount, &i.FeeDiff, &i.CaseID, &i.Note)
		i.HIS, i.Platform, i.ChannelFen = (*ledger.Money)(his), (*ledger.Money)(platform), (*ledger.Money)(channel)
		return i, err
	})
}

// mergeHalves joins the two slices of one case within one hospital.
func mergeHalves(items []*Item) []*Item {
	first := map[string]*Item{}
	return slices.DeleteFunc(items, func(i *Item) bool {
		if i.CaseID == "" || i.Code != F9 {
			return false
		}
		k := i.CaseID + "|" + i.Hospital
		if first[k] == nil {
			first[k] = i
			return false
		}
		first[k].Amount += i.Amount
		return true
	})
}

// netZeroLimit is how many pairs of one payer at one terminal in a day raise an
// alarm (scenario 80).
const netZeroLimit = 5

// NetZeroPile is the 一正一负 pairs of one payer at one terminal.
type NetZeroPile struct {
	Hospital string       `json:"hospital"`
	Who      string       `json:"who"` // payer and terminal
	Pairs    int          `json:"pairs"`
	Fen      ledger.Money `json:"fen"`
	Alarm    bool         `json:"alarm"`
}

// NetZeroes counts the 一正一负 list by payer and terminal, the largest first; lang
// is that of Who.
func (d *Day) NetZeroes(lang string) []NetZeroPile {
	piles := map[string]*NetZeroPile{}
	var order []*NetZeroPile
	for _, i := range d.Items {
		if i.Code != NetZero || i.Platform == nil {
			continue
		}
		k := i.Hospital + "|" + i.Note
		if piles[k] == nil {
			piles[k] = &NetZeroPile{Hospital: i.Hospital, Who: NoteWords(i.Note, lang)}
			order = append(order, piles[k])
		}
		piles[k].Pairs++
		piles[k].Fen += *i.Platform
		piles[k].Alarm = piles[k].Pairs >= netZeroLimit
	}
	out := make([]NetZeroPile, len(order))
	for n, p := range order {
		out[n] = *p
	}
	slices.SortStableFunc(out, func(a, b NetZeroPile) int { return b.Pairs - a.Pairs })
	return out
}

// Sums are what reports say first: how many, how much, which way.
type Sums struct {
	Exceptions int          `json:"exceptions"`
	Long       int          `json:"long"`
	LongFen    ledger.Money `json:"long_fen"`
	Short      int          `json:"short"`
	ShortFen   ledger.Money `json:"short_fen"`
	Pending    int          `json:"pending"`
	PendingFen ledger.Money `json:"pending_fen"`
}

// Sum counts the items of a day.
func (d *Day) Sum() Sums {
	var s Sums
	for _, i := range d.Items {
		if i.Code.Exception() {
			s.Exceptions++
		}
		switch i.Polarity() {
		case "long":
			s.Long++
			s.LongFen += i.Amount
		case "short":
			s.Short++
			s.ShortFen += i.Amount
		}
		if i.Code == Pending {
			s.Pending++
			s.PendingFen += i.Amount
		}
	}
	return s
}
