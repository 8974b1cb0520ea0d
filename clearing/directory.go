package clearing

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

//go:embed schema
var schemaFS embed.FS

// Schema is the tables of clearing.
var Schema = db.Schema{Name: "clearing", FS: schemaFS}

// LoadMerchants reads all master data: it is small, and whoever needs a merchant
// number needs its hospital and accounts too.
func LoadMerchants(ctx context.Context, tx pgx.Tx) (*Directory, error) {
	d := &Directory{}
	for _, load := range []func(context.Context, pgx.Tx) error{
		d.loadHospitals, d.loadBanks, d.loadMerchants, d.loadNumbers, d.loadRates, d.loadOpenings, d.loadOutside,
	} {
		if err := load(ctx, tx); err != nil {
			return nil, fmt.Errorf("read master data: %w", err)
		}
	}
	return d, nil
}

func (d *Directory) loadHospitals(ctx context.Context, tx pgx.Tx) (err error) {
	rows, err := tx.Query(ctx, `SELECT code, name, region, ownership, his_calls FROM hospitals ORDER BY code`)
	if err != nil {
		return err
	}
	d.Hospitals, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Hospital])
	return err
}

func (d *Directory) loadBanks(ctx context.Context, tx pgx.Tx) (err error) {
	rows, err := tx.Query(ctx, `
		SELECT account, hospital, name, bank, role FROM bank_accounts
		UNION ALL
		SELECT account, '', name, bank, 'OWN' FROM own_accounts
		ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	d.Banks, err = pgx.CollectRows(rows, pgx.RowToStructByPos[BankAccount])
	return err
}

func (d *Directory) loadMerchants(ctx context.Context, tx pgx.Tx) (err error) {
	rows, err := tx.Query(ctx, `
		SELECT channel, merchant_no, hospital, ownership, kind, settle_mode, settles_to, retained_fen, coupon_bearer, fee_returned, contract_no
		FROM merchants ORDER BY hospital, channel, merchant_no`)
	if err != nil {
		return err
	}
	d.Merchants, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Merchant, error) {
		var m Merchant
		err := row.Scan(&m.Channel, &m.No, &m.Hospital, &m.Ownership, &m.Kind, &m.Mode, &m.SettlesTo, &m.Retained,
			&m.CouponBearer, &m.FeeReturned, &m.ContractNo)
		return &m, err
	})
	return err
}

func (d *Directory) loadNumbers(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		SELECT channel, merchant_no, alias, TRUE FROM merchant_aliases
		UNION ALL
		SELECT channel, merchant_no, prefix, FALSE FROM foreign_prefixes
		ORDER BY 1, 2, 3`)
	if err != nil {
		return err
	}
	var channel, no, text string
	var alias bool
	_, err = pgx.ForEachRow(rows, []any{&channel, &no, &text, &alias}, func() error {
		m, ok := d.Merchant(channel, no)
		switch {
		case !ok:
		case alias:
			m.Aliases = append(m.Aliases, text)
		default:
			m.ForeignPrefixes = append(m.ForeignPrefixes, text)
		}
		return nil
	})
	return err
}

func (d *Directory) loadRates(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT channel, merchant_no, from_day, rate, bearer FROM merchant_rates ORDER BY channel, merchant_no, from_day`)
	if err != nil {
		return err
	}
	var channel, no string
	var rate Rate
	_, err = pgx.ForEachRow(rows, []any{&channel, &no, &rate.From, &rate.Rate, &rate.Bearer}, func() error {
		if m, ok := d.Merchant(channel, no); ok {
			m.Rates = append(m.Rates, rate)
		}
		return nil
	})
	return err
}

func (d *Directory) loadOpenings(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT channel, merchant_no, fen, COALESCE(arrives, 0) FROM opening_balances`)
	if err != nil {
		return err
	}
	var channel, no string
	var fen ledger.Money
	var arrives ledger.Day
	_, err = pgx.ForEachRow(rows, []any{&channel, &no, &fen, &arrives}, func() error {
		if m, ok := d.Merchant(channel, no); ok {
			m.Opening, m.OpeningArrives = fen, arrives
		}
		return nil
	})
	return err
}

func (d *Directory) loadOutside(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT channel, name, account FROM counterparties ORDER BY channel, name, account`)
	if err != nil {
		return err
	}
	if d.Counterparties, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Counterparty]); err != nil {
		return err
	}
	if rows, err = tx.Query(ctx, `SELECT day, working FROM bank_days`); err != nil {
		return err
	}
	d.Calendar.days = map[ledger.Day]bool{}
	var day ledger.Day
	var working bool
	_, err = pgx.ForEachRow(rows, []any{&day, &working}, func() error {
		d.Calendar.days[day] = working
		return nil
	})
	return err
}
