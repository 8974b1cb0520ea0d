// Package clearing says what the money means: which hospital a merchant number
// belongs to, what a fee costs and who bears it, which account each business
// event moves. It imports the ledger and the channels and is imported by recon
// and api.
//
// Its invariants: a public hospital never runs on settle mode B; every journal
// of the accounting manual is written in entries.go and nowhere else; a
// payment or refund is posted once, in the transaction that stores its row.
package clearing

import (
	"slices"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Ownership says who runs a hospital. A public one may not use settle mode B.
type Ownership string

// The two kinds of ownership.
const (
	Public  Ownership = "PUBLIC"
	Private Ownership = "PRIVATE"
)

// Mode is the settle mode of a merchant number: who is paid by the channel.
type Mode string

// The settle modes. In A (直清) the channel pays the hospital's own account; in
// B (归集代付) a bank or a licensed institution is paid and pays out.
const (
	ModeA Mode = "A"
	ModeB Mode = "B"
)

// Bearer is who bears the channel's fee, or a merchant's coupon.
type Bearer string

// The bearers.
const (
	ByPlatform Bearer = "PLATFORM"
	ByHospital Bearer = "HOSPITAL"
)

// Role is what a bank account is for.
type Role string

// The roles of bank accounts: where the channel pays a hospital of mode A, where
// a bank keeps the money of mode B, and the platform's own account.
const (
	Settlement Role = "SETTLEMENT"
	Custody    Role = "CUSTODY"
	OwnAccount Role = "OWN"
)

// Hospital is a hospital as finance knows it.
type Hospital struct {
	Code      string
	Name      string
	Region    string
	Ownership Ownership
	HISCalls  string // APP or PLATFORM: who calls the hospital's HIS
}

// BankAccount is an account at a bank: a hospital's, or the platform's own.
type BankAccount struct {
	Account  string
	Hospital string // "" on the platform's own account
	Name     string
	Bank     string
	Role     Role
}

// Merchant is a number under which a channel keeps a hospital's money.
type Merchant struct {
	Channel         string
	No              string
	Hospital        string
	Ownership       Ownership // of the hospital
	Aliases         []string  // other numbers by which files of the channel know it
	Kind            string    // DIRECT (直连) or SUB (特约)
	Mode            Mode
	SettlesTo       string       // bank account
	Retained        ledger.Money // 留存金额: stays at the channel to fund refunds
	CouponBearer    Bearer       // who funds 免充值券 and 商家优惠
	FeeReturned     bool         // the contract returns the fee of a refund
	ContractNo      string       // the contract that fee subsidies name
	ForeignPrefixes []string     // order numbers of another business on the same number
	Rates           []Rate       // by From, oldest first
	Opening         ledger.Money // what the channel held at the cut-over
	OpeningArrives  ledger.Day   // when that reaches the bank, 0 for never (it is retained)
}

// Counterparty is a name under which a channel pays into bank accounts: a bank
// line of any other name is out of scope.
type Counterparty struct {
	Channel string
	Name    string
	Account string // "" where the name alone decides
}

// Calendar knows the days on which banks work.
type Calendar struct {
	days map[ledger.Day]bool // where it differs from the day of the week
}

// WorkingDay says whether banks work on the day: Monday to Friday, but for the
// holidays and the working weekends (调休) that setup named.
func (c Calendar) WorkingDay(d ledger.Day) bool {
	if working, named := c.days[d]; named {
		return working
	}
	weekday := d.Start().Weekday()
	return weekday != time.Sunday && weekday != time.Saturday
}

// NextWorkingDay returns the first working day after d.
func (c Calendar) NextWorkingDay(d ledger.Day) ledger.Day {
	for d = d.Add(1); !c.WorkingDay(d); d = d.Add(1) {
	}
	return d
}

// Directory is all master data, as one reading of the database.
type Directory struct {
	Hospitals      []Hospital    // by code
	Merchants      []*Merchant   // by hospital, channel, number
	Banks          []BankAccount // by account; the platform's own among them
	Counterparties []Counterparty
	Calendar       Calendar
}

// Hospital finds a hospital by its code.
func (d *Directory) Hospital(code string) (*Hospital, bool) {
	i := slices.IndexFunc(d.Hospitals, func(h Hospital) bool { return h.Code == code })
	if i < 0 {
		return nil, false
	}
	return &d.Hospitals[i], true
}

// Merchant finds a merchant number by channel and number or alias.
func (d *Directory) Merchant(channel, no string) (*Merchant, bool) {
	for _, m := range d.Merchants {
		if m.Channel == channel && (m.No == no || slices.Contains(m.Aliases, no) || channel == channels.Alipay && sameAccount(m.No, no)) {
			return m, true
		}
	}
	return nil, false
}

// sameAccount says whether two numbers are one account of Alipay, whose files name
// the PID with 0156 behind it and whose notices the PID alone (spec/channels.md D.7).
func sameAccount(a, b string) bool {
	const suffix = "0156"
	return a+suffix == b || a == b+suffix
}

// Bank finds a bank account that belongs to the hospital, "" for the platform.
func (d *Directory) Bank(hospital, account string) (*BankAccount, bool) {
	i := slices.IndexFunc(d.Banks, func(b BankAccount) bool { return b.Hospital == hospital && b.Account == account })
	if i < 0 {
		return nil, false
	}
	return &d.Banks[i], true
}
