// Package payout is money that leaves by a bank: what a hospital is paid in settle
// mode B, and in mode A the subsidy, the compensation, the refund by another route
// and the recharge that people approve. It decides who may ask and who approves,
// sends once, asks the bank until it knows, and turns a line of the bank into the
// entry that it proves. It imports clearing and is imported by recon and api.
//
// Its invariants: maker and checker are two people; what is sent is what was
// approved, to an account that was approved a day before; after an unclear answer
// nothing is sent again before the bank and its statement both say that they do
// not know it; while the switch is on nothing is sent.
package payout

import (
	"cmp"
	"context"
	"embed"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

//go:embed schema
var schemaFS embed.FS

// Schema is the tables of payouts; they stand on those of clearing.
var Schema = db.Schema{Name: "payout", FS: schemaFS}

// Kind is what a payout is for.
type Kind string

// The kinds, with the settle modes that have them (spec/accounting.md 3.6).
const (
	Hospital       Kind = "HOSPITAL"        // 医院结算款, mode B
	Subsidy        Kind = "SUBSIDY"         // 手续费补贴, mode A, per settlement and contract
	Compensation   Kind = "COMPENSATION"    // 差错赔付, per case
	ReroutedRefund Kind = "REROUTED_REFUND" // 非原路退款, from the hospital's own money, per refund
	FeeTopUp       Kind = "FEE_TOPUP"       // 手续费垫付 to custody, mode B
	Recharge       Kind = "RECHARGE"        // 渠道充值 of a merchant number
)

// State is how far a payout is.
type State string

// The states. SENDING is set before the bank is called, so that a crash in
// between is asked for, not sent again.
const (
	Requested    State = "REQUESTED"
	Approved     State = "APPROVED"
	Refused      State = "REFUSED" // by a checker
	Sending      State = "SENDING"
	Sent         State = "SENT"          // the bank has it
	BankApproval State = "BANK_APPROVAL" // 待银行授权, 银行落地
	Unknown      State = "UNKNOWN"
	Succeeded    State = "SUCCEEDED"
	Rejected     State = "REJECTED" // by the bank, for good
	Returned     State = "RETURNED" // 退票
)

// text says a state in a sentence.
func (s State) text() string { return strings.ToLower(strings.ReplaceAll(string(s), "_", " ")) }

// Person is who does something, with the role of the key by which they came in.
type Person struct {
	Name, Role string
	For        string // whom a deputy stands in for, "" for nobody
}

// holder is whose right it is that the person uses.
func (p Person) holder() string { return cmp.Or(p.For, p.Name) }

// Payee is one account of the white-list.
type Payee struct {
	ID         string
	Hospital   string
	UseFor     string // HOSPITAL (its own name), CUSTODY or CHANNEL
	Account    string
	Name       string
	Bank       string
	CNAPS      string // 12-digit bank code, "" within the payer's bank
	Replaces   string // the payee whose account this one changes
	State      string // PROPOSED, ACTIVE, SUSPENDED, REPLACED, REFUSED
	Maker      string
	Checker    string
	Reason     string // why it was refused or suspended
	UsableFrom time.Time
}

// Patient is who gets a refund by another route. It stands in an erasable table
// and nowhere else.
type Patient struct {
	Account, Name, Bank, CNAPS string
	Reason                     string // why the original route cannot be used
	Proof                      string // where the proof is filed
}

// Payout is one transfer with its story.
type Payout struct {
	Number       string // also the bank's reference
	Hospital     string
	Kind         Kind
	Mode         clearing.Mode
	From         string // account that pays
	Payee        string // "" for a patient
	Amount       ledger.Money
	Purpose      string
	Subject      string // settlement, case or refund
	Channel      string
	MerchantNo   string
	Contract     string
	Day          ledger.Day
	RepeatReason string
	Payload      []byte // SHA-256 of what was asked for
	Maker        string
	Checker      string // of the last approval
	Needs        int16  // checkers
	RequestedAt  time.Time
	State        State
	StateAt      time.Time // the age of a state counts from here
	Held         string    // why it is not sent, for a person
	Batch        string
	SentAt       time.Time
	BankRef      string
	Reason       channels.Reason
	Frozen       bool // the money waits for another account of the payee
	DebitRef     string
	CreditRef    string
	ArrivedRef   string
	NextAt       time.Time

	ownership            clearing.Ownership
	payeeMark            string
	rev                  int64
	bankRefused, charged bool
	sentEntry, lineEntry ledger.EntryID
	queue                int16
	tries                int32
	exchange             *channels.Exchange // to be stored with the next change
	changed              bool
}

// The refusals; each comes with field and rule.
var (
	ErrUnknownPayout = ledger.Refusal{Code: "PAYOUT_UNKNOWN"}
	ErrForbidden     = ledger.Refusal{Code: "PAYOUT_FORBIDDEN"}  // settle mode, ownership, kind or purpose forbid it
	ErrRequest       = ledger.Refusal{Code: "PAYOUT_REQUEST"}    // a field is missing or wrong
	ErrSamePerson    = ledger.Refusal{Code: "MAKER_IS_CHECKER"}  //
	ErrLimit         = ledger.Refusal{Code: "OVER_LIMIT"}        //
	ErrEdited        = ledger.Refusal{Code: "PAYLOAD_EDITED"}    // what is to be paid is not what was asked for
	ErrTotals        = ledger.Refusal{Code: "TOTALS_DIFFER"}     //
	ErrRepeated      = ledger.Refusal{Code: "REPEATED_PAYOUT"}   // same payee, amount and day, no reason given
	ErrPayee         = ledger.Refusal{Code: "PAYEE_NOT_ALLOWED"} // not on the white-list, suspended or replaced
	ErrPayeeHeld     = ledger.Refusal{Code: "PAYEE_HELD"}        // new or changed within the hold
	ErrOwed          = ledger.Refusal{Code: "NOT_OWED"}          // the books owe less
	ErrCustody       = ledger.Refusal{Code: "CUSTODY_SHORT"}     // custody holds less of this hospital
	ErrState         = ledger.Refusal{Code: "PAYOUT_STATE"}      // its state does not allow it
	ErrPaused        = ledger.Refusal{Code: "PAYOUTS_PAUSED"}    //
	ErrLine          = ledger.Refusal{Code: "LINE_DOES_NOT_FIT"} // a line of the bank that the payout cannot explain
	ErrReadBack      = ledger.Refusal{Code: "READ_BACK_MISSING"} // approval without the read-back of what is approved
)

// Outside is how banks are reached.
type Outside interface {
	// Bank is the connection by which the account is paid from.
	Bank(account string) (channels.BankGateway, error)
}

// Payouts does all that is done to payouts.
type Payouts struct {
	DB        *db.DB
	Committer *ledger.Committer
	Outside   Outside
	Now       func() time.Time
	// Factor checks the code of a person's second factor and returns the factor's
	// id; an error refuses the approval. A code works once.
	Factor func(ctx context.Context, person, code string) (id string, err error)
	// Key keeps commitments to names and accounts of patients from being guessed.
	Key []byte
}

const (
	payeeHold   = 24 * time.Hour   // a new or changed account is not paid before
	absentAfter = 15 * time.Minute // spec/channels.md F.4
	firstQuery  = 10 * time.Second
	// When the balance is looked at again, the bank's and custody's of a hospital.
	balanceAgain = 30 * time.Minute
	custodyAgain = 30 * time.Minute
	perMessage   = 30 // transfers in one message, which the bank answers one by one (spec/channels.md F.2)
)

// purposes are the texts that a payee reads on the statement, by kind: from a
// fixed list (K01: any other purpose of a refund by another route is refused).
var purposes = map[Kind][]string{
	Hospital: {"医院结算款"}, Subsidy: {"手续费补贴"}, Compensation: {"差错赔付"}, ReroutedRefund: {"非原路退款", "预交金清退"},
	FeeTopUp: {"手续费垫付"}, Recharge: {"渠道充值"},
}
