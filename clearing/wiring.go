package clearing

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
)

// App is a business app: a program of a hospital that pays and refunds through us.
type App struct {
	Name      string
	NotifyURL string   // "" for none: such an app asks
	Hospitals []string // for which it may act
}

// RefundPolicy is a hospital's rule of approval from a day on (B24, M02), and the
// order in which the payments of a stay are refunded (B07).
type RefundPolicy struct {
	Hospital     string
	From         ledger.Day
	CashierLimit ledger.Money // up to it a refund may go without a second person
	HeadLimit    ledger.Money // up to it the finance head may approve; above it two more people are asked
	Order        string       // OrderNewest, OrderOldest or OrderRoute
}

// The orders in which several payments are refunded.
const (
	OrderNewest = "NEWEST"
	OrderOldest = "OLDEST"
	OrderRoute  = "ROUTE" // by channel, then oldest first
)

// Gateway is how a merchant number is reached.
type Gateway struct {
	Channel, MerchantNo string
	API                 string // V2, V3, ALIPAY …
	Environment         string // PRODUCTION or SANDBOX
	Settings            string // JSON object of plain ids and references to secrets
}

// HISLink is how a hospital's HIS is reached.
type HISLink struct {
	Hospital string
	URL      string
	Format   string // JSON or XML
	Secret   string // a reference, see channels.Secret
}

// BankLink is how the bank of an account is reached.
type BankLink struct {
	Account  string
	URL      string
	Settings string // JSON object of plain ids and references to secrets
}

// Wiring is who may ask and where the outside is, as one reading of the database.
type Wiring struct {
	Apps     []App          // by name
	Policies []RefundPolicy // by hospital, oldest first
	Gateways []Gateway
	HIS      []HISLink
	Banks    []BankLink
}

// App finds a business app by its name.
func (w *Wiring) App(name string) (*App, bool) {
	i := slices.IndexFunc(w.Apps, func(a App) bool { return a.Name == name })
	if i < 0 {
		return nil, false
	}
	return &w.Apps[i], true
}

// PolicyOn is the hospital's refund policy of the day. A hospital without one has
// no limit at all: every refund asks for a second person.
func (w *Wiring) PolicyOn(hospital string, day ledger.Day) RefundPolicy {
	policy := RefundPolicy{Hospital: hospital, Order: OrderNewest}
	for _, p := range w.Policies {
		if p.Hospital == hospital && p.From <= day {
			policy = p
		}
	}
	return policy
}

// LoadWiring reads who may ask and where the outside is.
func LoadWiring(ctx context.Context, tx pgx.Tx) (*Wiring, error) {
	w := &Wiring{}
	for _, load := range []func(context.Context, pgx.Tx) error{w.loadApps, w.loadPolicies, w.loadLinks} {
		if err := load(ctx, tx); err != nil {
			return nil, fmt.Errorf("read apps and connections: %w", err)
		}
	}
	return w, nil
}

func (w *Wiring) loadApps(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		SELECT a.name, a.notify_url, COALESCE(h.hospital, '') FROM apps AS a
		LEFT JOIN app_hospitals AS h ON h.app = a.name ORDER BY a.name, h.hospital`)
	if err != nil {
		return err
	}
	var name, url, hospital string
	_, err = pgx.ForEachRow(rows, []any{&name, &url, &hospital}, func() error {
		if n := len(w.Apps); n == 0 || w.Apps[n-1].Name != name {
			w.Apps = append(w.Apps, App{Name: name, NotifyURL: url})
		}
		if app := &w.Apps[len(w.Apps)-1]; hospital != "" {
			app.Hospitals = append(app.Hospitals, hospital)
		}
		return nil
	})
	return err
}

func (w *Wiring) loadPolicies(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		SELECT hospital, from_day, cashier_limit_fen, head_limit_fen, refund_order FROM refund_policies ORDER BY hospital, from_day`)
	if err != nil {
		return err
	}
	w.Policies, err = pgx.CollectRows(rows, pgx.RowToStructByPos[RefundPolicy])
	return err
}

func (w *Wiring) loadLinks(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT channel, merchant_no, api, environment, settings FROM gateways ORDER BY channel, merchant_no`)
	if err != nil {
		return err
	}
	if w.Gateways, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Gateway]); err != nil {
		return err
	}
	if rows, err = tx.Query(ctx, `SELECT hospital, url, format, secret FROM his_links ORDER BY hospital`); err != nil {
		return err
	}
	if w.HIS, err = pgx.CollectRows(rows, pgx.RowToStructByPos[HISLink]); err != nil {
		return err
	}
	if rows, err = tx.Query(ctx, `SELECT account, url, settings FROM bank_links ORDER BY account`); err != nil {
		return err
	}
	w.Banks, err = pgx.CollectRows(rows, pgx.RowToStructByPos[BankLink])
	return err
}
