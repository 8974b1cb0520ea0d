package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
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
