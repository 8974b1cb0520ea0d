package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/clearward/clearward/ledger/db"
	"github.com/jackc/pgx/v5"
)

// Book is one set of accounts kept by one body. The platform's book is 1; the
// book of a hospital is a later number. Legs of two books never meet.
type Book int16

// Set divides a book into parts that must each balance at every posting.
type Set uint8

// The sets of the platform's book (spec/accounting.md 3.1).
const (
	Own    Set = 1 // the platform's own money
	Agency Set = 2 // money of hospitals and patients
	Memo   Set = 3 // memo pairs, class 9
)

// Side is the side of a posting.
type Side uint8

// The two sides.
const (
	Debit  Side = 1
	Credit Side = 2
)

// Type is one of the five account types; it fixes the normal side.
type Type uint8

// The five account types.
const (
	Asset Type = iota + 1
	Liability
	Equity
	Income
	Expense
)

// NormalSide is the side on which an account of this type grows.
func (t Type) NormalSide() Side {
	if t == Asset || t == Expense {
		return Debit
	}
	return Credit
}

// String is the name of the type as it is stored.
func (t Type) String() string {
	return [...]string{"", "ASSET", "LIABILITY", "EQUITY", "INCOME", "EXPENSE"}[t]
}

// AccountID names an account: book<<48 | set<<45 | number. The number is the
// first 45 bits of the SHA-256 of the code, so that a constructor of the chart
// can name its account without asking the database; opening refuses a code
// whose number is taken by another code.
type AccountID int64

// Book returns the book that the account belongs to.
func (id AccountID) Book() Book { return Book(id >> 48) }

// Set returns the set that the account belongs to.
func (id AccountID) Set() Set { return Set(id >> 45 & 7) }

// Account describes an account of the chart. It is made by NewAccount and
// opened by OpenAccounts before its first posting.
type Account struct {
	id      AccountID
	code    string
	typ     Type
	floored bool
}

// NewAccount returns the account with this code. Codes are stable for ever: the
// id is computed from book, set and code.
func NewAccount(book Book, set Set, typ Type, code string) Account {
	sum := sha256.Sum256([]byte(code))
	number := binary.BigEndian.Uint64(sum[:8]) >> 19
	return Account{id: AccountID(uint64(book)<<48 | uint64(set)<<45 | number), code: code, typ: typ}
}

// Floored returns the account with the rule that its balance on the normal side
// may not fall below zero.
func (a Account) Floored() Account {
	a.floored = true
	return a
}

// ID returns the number that postings carry.
func (a Account) ID() AccountID { return a.id }

// Code returns the readable name, such as "2202.H1.PEND".
func (a Account) Code() string { return a.code }

// Type returns the account type.
func (a Account) Type() Type { return a.typ }

// HasFloor says whether the balance may not fall below zero.
func (a Account) HasFloor() bool { return a.floored }

// For returns one side of a posting: this account, under the reference of the
// order, refund, case or payout that the amount belongs to ("" for none).
func (a Account) For(ref string) Leg { return Leg{Account: a.id, Ref: ref} }

// String prints the code.
func (a Account) String() string { return a.code }

// String prints the parts of the id for messages about unknown accounts.
func (id AccountID) String() string {
	return fmt.Sprintf("account %d (book %d, set %d)", int64(id), id.Book(), id.Set())
}

// ErrAccount is wrapped by every error about an account that cannot be opened.
var ErrAccount = errors.New("the account cannot be opened")

// OpenAccounts opens the accounts that are not open yet. An account that is open
// with another type or floor is refused, and so is a code whose number another
// code has.
func OpenAccounts(ctx context.Context, d *db.DB, accounts ...Account) error {
	ids, books, codes := make([]int64, len(accounts)), make([]int16, len(accounts)), make([]string, len(accounts))
	types, sides, checked := make([]string, len(accounts)), make([]int16, len(accounts)), make([]bool, len(accounts))
	for i, a := range accounts {
		if a.id.Book() <= 0 || a.id.Set() == 0 || a.typ == 0 || a.code == "" {
			return fmt.Errorf("%w: %q has no book, set, type or code", ErrAccount, a.code)
		}
		ids[i], books[i], codes[i] = int64(a.id), int16(a.id.Book()), a.code
		types[i], sides[i], checked[i] = a.typ.String(), int16(a.typ.NormalSide()), a.floored
	}
	return d.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO accounts (id, book, code, type, side, checked)
			SELECT id, book, code, type, side, checked
			FROM unnest($1::int8[], $2::int2[], $3::text[], $4::text[], $5::int2[], $6::bool[])
			AS given(id, book, code, type, side, checked)
			ON CONFLICT (id) DO NOTHING`, ids, books, codes, types, sides, checked)
		if err != nil {
			return fmt.Errorf("open accounts: %w", err)
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO floors (account, floor, outgo, income_seen)
			SELECT account, 0, 0, 0 FROM unnest($1::int8[], $2::bool[]) AS given(account, checked) WHERE checked
			ON CONFLICT (account) DO NOTHING`, ids, checked)
		if err != nil {
			return fmt.Errorf("open accounts: %w", err)
		}
		return checkOpened(ctx, tx, accounts, ids)
	})
}

// checkOpened compares what is open under the numbers with what was asked for.
func checkOpened(ctx context.Context, tx pgx.Tx, accounts []Account, ids []int64) error {
	open := map[AccountID]accountRow{}
	if _, err := readAccounts(ctx, tx, open, `WHERE id = ANY($1::int8[])`, ids); err != nil {
		return err
	}
	for _, a := range accounts {
		if got := open[a.id]; got != (accountRow{a.code, a.typ.String(), a.typ.NormalSide(), a.floored}) {
			return fmt.Errorf("%w: %q (%v, floored %t) is open as %q (%s, floored %t)", ErrAccount,
				a.code, a.typ, a.floored, got.code, got.typ, got.checked)
		}
	}
	return nil
}

// accountRow is what the committer knows of an open account.
type accountRow struct {
	code    string
	typ     string
	side    Side
	checked bool
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// readAccounts adds accounts to known and returns when the newest was opened.
func readAccounts(ctx context.Context, from querier, known map[AccountID]accountRow, where string, args ...any) (newest time.Time, err error) {
	rows, err := from.Query(ctx, `SELECT id, code, type, side, checked, opened FROM accounts `+where, args...)
	if err != nil {
		return newest, fmt.Errorf("read accounts: %w", err)
	}
	var id AccountID
	var row accountRow
	var side int16
	var opened time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &row.code, &row.typ, &side, &row.checked, &opened}, func() error {
		row.side = Side(side)
		known[id] = row
		if opened.After(newest) {
			newest = opened
		}
		return nil
	})
	if err != nil {
		return newest, fmt.Errorf("read accounts: %w", err)
	}
	return newest, nil
}

// loadAccounts reads what was opened since the last call, and in any case the
// accounts that are missing. What an account is never changes, so that which is
// known stays true.
func (c *Committer) loadAccounts(ctx context.Context, from querier, missing []AccountID) error {
	newest, err := readAccounts(ctx, from, c.accounts, `WHERE opened > $1 OR id = ANY($2::int8[])`, c.opened, missing)
	if newest.After(c.opened) {
		c.opened = newest
	}
	return err
}
