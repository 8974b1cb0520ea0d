package clearing

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// store writes what of the plan is new, in one transaction, and refuses what
// would change the ground of the books.
func store(ctx context.Context, d *db.DB, want *setupPlan) (SetupSummary, error) {
	var summary SetupSummary
	err := d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		now, err := LoadMerchants(ctx, tx)
		if err != nil {
			return err
		}
		s := storing{tx: tx, now: now, want: want, batch: &pgx.Batch{}}
		if err := s.plan(ctx); err != nil {
			return err
		}
		if err := errors.Join(s.broken...); err != nil {
			return err
		}
		summary = want.summary()
		summary.Changed = s.batch.Len()
		return tx.SendBatch(ctx, s.batch).Close()
	})
	return summary, err
}

func (p *setupPlan) summary() SetupSummary {
	s := SetupSummary{Hospitals: len(p.directory.Hospitals), Banks: len(p.directory.Banks), Merchants: len(p.directory.Merchants)}
	for _, m := range p.directory.Merchants {
		s.Rates += len(m.Rates)
	}
	return s
}

// storing compares the plan with what is there and gathers the statements.
type storing struct {
	checker
	tx    pgx.Tx
	now   *Directory
	want  *setupPlan
	batch *pgx.Batch
}

// keep refuses a change of what never changes.
func keep[T comparable](s *storing, field string, is, wanted T) {
	s.must(is == wanted, field, "is %v and does not change, the file says %v", is, wanted)
}

func (s *storing) plan(ctx context.Context) error {
	if err := s.region(ctx); err != nil {
		return err
	}
	for _, h := range s.want.directory.Hospitals {
		s.hospital(h)
	}
	for _, b := range s.want.directory.Banks {
		s.bank(b)
	}
	for _, m := range s.want.directory.Merchants {
		if err := s.merchant(ctx, m); err != nil {
			return err
		}
	}
	if err := s.openings(ctx); err != nil {
		return err
	}
	if err := s.wiring(ctx); err != nil {
		return err
	}
	for _, o := range s.want.directory.Counterparties {
		if !slices.Contains(s.now.Counterparties, o) {
			s.batch.Queue(`INSERT INTO counterparties (channel, name, account) VALUES ($1, $2, $3)`, o.Channel, o.Name, o.Account)
		}
	}
	for day, working := range s.want.days {
		is, known := s.now.Calendar.days[day]
		if !known {
			s.batch.Queue(`INSERT INTO bank_days (day, working) VALUES ($1, $2)`, day, working)
			continue
		}
		keep(s, fmt.Sprintf("holidays, workdays: %s: working", day), is, working)
	}
	return nil
}

func (s *storing) region(ctx context.Context) error {
	code, name := s.want.region[0], s.want.region[1]
	var is string
	err := s.tx.QueryRow(ctx, `SELECT name FROM regions WHERE code = $1`, code).Scan(&is)
	if errors.Is(err, pgx.ErrNoRows) {
		s.batch.Queue(`INSERT INTO regions (code, name) VALUES ($1, $2)`, code, name)
		return nil
	}
	keep(s, "region "+code+".name", is, name)
	return err
}

func (s *storing) hospital(h Hospital) {
	is, ok := s.now.Hospital(h.Code)
	if !ok {
		s.batch.Queue(`INSERT INTO hospitals (code, name, region, ownership, his_calls) VALUES ($1, $2, $3, $4, $5)`,
			h.Code, h.Name, h.Region, h.Ownership, h.HISCalls)
		return
	}
	at := "hospital " + h.Code
	keep(s, at+".name", is.Name, h.Name)
	keep(s, at+".region", is.Region, h.Region)
	keep(s, at+".ownership", is.Ownership, h.Ownership)
	if is.HISCalls != h.HISCalls {
		s.batch.Queue(`UPDATE hospitals SET his_calls = $2 WHERE code = $1`, h.Code, h.HISCalls)
	}
}

func (s *storing) bank(b BankAccount) {
	is, ok := s.now.Bank(b.Hospital, b.Account)
	switch {
	case ok:
		at := "bank account " + b.Account
		keep(s, at+".name", is.Name, b.Name)
		keep(s, at+".bank", is.Bank, b.Bank)
		keep(s, at+".role", is.Role, b.Role)
	case b.Role == OwnAccount:
		s.batch.Queue(`INSERT INTO own_accounts (account, name, bank) VALUES ($1, $2, $3)`, b.Account, b.Name, b.Bank)
	default:
		owner, _ := s.want.directory.Hospital(b.Hospital)
		s.must(b.Role != Settlement || !slices.ContainsFunc(s.now.Banks, func(other BankAccount) bool {
			return other.Account == b.Account && other.Role == Settlement
		}), "bank account "+b.Account, "is the settlement account of another hospital")
		s.batch.Queue(`INSERT INTO bank_accounts (hospital, account, role, name, bank, hospital_name) VALUES ($1, $2, $3, $4, $5, $6)`,
			b.Hospital, b.Account, b.Role, b.Name, b.Bank, owner.Name)
	}
}

func (s *storing) merchant(ctx context.Context, m *Merchant) error {
	at := "merchant number " + m.Channel + " " + m.No
	is, ok := s.now.Merchant(m.Channel, m.No)
	if !ok {
		is = &Merchant{Channel: m.Channel, No: m.No}
		bank, _ := s.want.directory.Bank(m.Hospital, m.SettlesTo)
		s.batch.Queue(`
			INSERT INTO merchants (channel, merchant_no, hospital, ownership, kind, settle_mode, settles_to, settles_role,
				retained_fen, coupon_bearer, fee_returned, contract_no)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			m.Channel, m.No, m.Hospital, m.Ownership, m.Kind, m.Mode, m.SettlesTo, bank.Role,
			m.Retained, m.CouponBearer, m.FeeReturned, m.ContractNo)
	} else {
		s.sameMerchant(at, is, m)
	}
	s.numbers(at, is, m)
	return s.rates(ctx, at, is, m)
}

func (s *storing) sameMerchant(at string, is, m *Merchant) {
	keep(s, at+".merchant_no", is.No, m.No) // it may not be an alias of another
	keep(s, at+".hospital", is.Hospital, m.Hospital)
	keep(s, at+".kind", is.Kind, m.Kind)
	keep(s, at+".settle_mode", is.Mode, m.Mode)
	keep(s, at+".settles_to", is.SettlesTo, m.SettlesTo)
	keep(s, at+".coupon_bearer", is.CouponBearer, m.CouponBearer)
	keep(s, at+".fee_returned", is.FeeReturned, m.FeeReturned)
	if is.Retained != m.Retained || is.ContractNo != m.ContractNo {
		s.batch.Queue(`UPDATE merchants SET retained_fen = $3, contract_no = $4 WHERE channel = $1 AND merchant_no = $2`,
			m.Channel, m.No, m.Retained, m.ContractNo)
	}
}

// numbers adds aliases and prefixes; none is ever taken away.
func (s *storing) numbers(at string, is, m *Merchant) {
	for _, alias := range m.Aliases {
		other, taken := s.now.Merchant(m.Channel, alias)
		s.must(!taken || other == is, at+".aliases", "%s belongs to another merchant number", alias)
		if !taken {
			s.batch.Queue(`INSERT INTO merchant_aliases (channel, alias, merchant_no) VALUES ($1, $2, $3)`, m.Channel, alias, m.No)
		}
	}
	for _, prefix := range m.ForeignPrefixes {
		s.must(prefix != "", at+".foreign_prefixes", "must not be empty: every order would be foreign")
		if !slices.Contains(is.ForeignPrefixes, prefix) {
			s.batch.Queue(`INSERT INTO foreign_prefixes (channel, merchant_no, prefix) VALUES ($1, $2, $3)`, m.Channel, m.No, prefix)
		}
	}
}

// rates adds rates by date. A new one begins after every day that is posted, so
// that no fee in the books changes its rule.
func (s *storing) rates(ctx context.Context, at string, is, m *Merchant) error {
	var last ledger.Day
	for _, rate := range m.Rates {
		i := slices.IndexFunc(is.Rates, func(r Rate) bool { return r.From == rate.From })
		if i >= 0 {
			keep(s, fmt.Sprintf("%s: fee_rate from %s", at, rate.From), is.Rates[i].Rate.StringFixed(6), rate.Rate.StringFixed(6))
			keep(s, fmt.Sprintf("%s: fee_bearer from %s", at, rate.From), is.Rates[i].Bearer, rate.Bearer)
			continue
		}
		if len(is.Rates) > 0 && last == 0 {
			err := s.tx.QueryRow(ctx, `
				SELECT GREATEST(
					(SELECT COALESCE(MAX(fund_day), 1) FROM payments WHERE hospital = $1 AND channel = $2 AND merchant_no = $3),
					(SELECT COALESCE(MAX(fund_day), 1) FROM refunds WHERE hospital = $1 AND channel = $2 AND merchant_no = $3))`,
				m.Hospital, m.Channel, m.No).Scan(&last)
			if err != nil {
				return err
			}
		}
		s.must(rate.From > last, at+".from", "a rate from %s comes too late: %s is posted already", rate.From, last)
		s.batch.Queue(`INSERT INTO merchant_rates (channel, merchant_no, from_day, rate, bearer) VALUES ($1, $2, $3, $4, $5)`,
			m.Channel, m.No, rate.From, rate.Rate, rate.Bearer)
	}
	return nil
}

func (s *storing) openings(ctx context.Context) error {
	wanted := slices.Clone(s.want.orphans)
	for _, m := range s.want.directory.Merchants {
		if s.want.openings[m] {
			wanted = append(wanted, opening{m.Channel, m.No, m.Opening, m.OpeningArrives})
		}
	}
	for _, o := range wanted {
		at := "opening_balances " + o.channel + " " + o.no
		_, planned := s.want.directory.Merchant(o.channel, o.no)
		_, known := s.now.Merchant(o.channel, o.no)
		s.must(planned || known, at+".merchant_no", "is not a merchant number that is set up")
		var fen ledger.Money
		var arrives ledger.Day
		err := s.tx.QueryRow(ctx, `SELECT fen, COALESCE(arrives, 0) FROM opening_balances WHERE channel = $1 AND merchant_no = $2`,
			o.channel, o.no).Scan(&fen, &arrives)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			s.batch.Queue(`INSERT INTO opening_balances (channel, merchant_no, fen, arrives) VALUES ($1, $2, $3, NULLIF($4, 0))`,
				o.channel, o.no, o.fen, o.arrives)
		case err != nil:
			return err
		default:
			keep(s, at+".fen", fen, o.fen)
			keep(s, at+".arrives", arrives, o.arrives)
		}
	}
	return nil
}
