package clearing

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/clearward/clearward/ledger"
)

// The conditions under which no journal is written.
var (
	ErrForbidden      = errors.New("forbidden")              // the mode, the ownership or the missing second person forbids it
	ErrJournalUnknown = errors.New("journal unknown")        // the ID is not in the accounting manual
	ErrEvent          = errors.New("event is not complete")  // a field that the journal needs is missing
	errCrossing       = errors.New("crosses out of its set") // a programmer's error: memo legs met money legs
)

// Event is what happened, with what its journals need. Amounts are fen and above
// zero; only the fee of a settlement may be negative (more returned than billed).
type Event struct {
	Merchant      *Merchant // the number that the money moves on
	OtherMerchant *Merchant // E23: the number that it belongs on
	Hospital      *Hospital // where no merchant number says it, or beside it
	OtherHospital *Hospital // E22: the hospital that the money belongs to
	Bank          *BankAccount
	OtherBank     *BankAccount // E22c: the account of the other hospital
	Mode          Mode         // where neither merchant number nor bank account says it

	Day    ledger.Day   // the business day on which it counts; it dates the fee's bearer
	Trade  ledger.Day   // of a settlement: the day of trade, which then dates the fee's bearer; 0 = Day
	Amount ledger.Money // of a settlement: net, what reaches the bank
	Fee    ledger.Money // of a settlement: billed less returned
	Short  ledger.Money // E27b: what did not arrive; E39, J35b: what the custody money of the hospital does not cover
	Tax    ledger.Money // J48a: the tax inside Amount
	Parts  []Part       // insured amounts
	Turned bool         // the reverse case of E31, E37, E38

	// References: the numbers under which an amount is an open item.
	Order, Refund, Case string
	Payout              string // also of a recharge or a transfer that the platform ordered
	Settlement          string // the withdrawal that the money came with
	BankRef             string // the bank's reference of a line
	Owner               string // E04: who owns a foreign row
	Cashier, Insurer    string
	Contract            string // J29; other subsidy lines take the merchant number's

	Maker, Checker string // two people where the journal needs both
}

// Part is one fund's share of an insured amount, or the share of a reason.
type Part struct {
	Fund   Fund
	Amount ledger.Money
}

type journal struct {
	modes string
	title string
	write func(*page)
}

// Journal returns the postings of one journal of the accounting manual. It
// refuses an ID that is not there, what the settle mode or the missing second
// person forbids (ErrForbidden), and an event without what the journal needs
// (ErrEvent). J04 and J49 choose their variant by the merchant number's terms.
func Journal(id string, e Event) ([]ledger.Posting, error) {
	return writeJournal(variant(id, &e), &e)
}

// NewEntry composes the journals of one moment to one entry, whose kind names
// them all, such as "J01+J03+J04a". A journal without amount (no fee) is left
// out of it.
func NewEntry(e Event, ids ...string) (ledger.Entry, error) {
	steps := make([]step, len(ids))
	for i, id := range ids {
		steps[i] = step{id, e.Amount}
	}
	return compose(e, steps)
}

// step is a journal with its own amount: what a patient asked back and what the
// channel takes differ where a coupon was used.
type step struct {
	id     string
	amount ledger.Money
}

func compose(e Event, steps []step) (ledger.Entry, error) {
	head := ledger.Head{Book: PlatformBook, Ref: e.ref(), ValueDay: e.Day, Maker: e.Maker, Checker: e.Checker, CaseID: e.Case, Meta: e.meta()}
	postings := make([]ledger.Posting, 0, 2*len(steps))
	kinds := make([]string, 0, len(steps))
	for _, s := range steps {
		e.Amount = s.amount
		id := variant(s.id, &e)
		of, err := Journal(id, e)
		if err != nil {
			return ledger.Entry{}, err
		}
		if len(of) > 0 {
			postings, kinds = append(postings, of...), append(kinds, variant(id, &e))
		}
	}
	head.Kind = strings.Join(kinds, "+")
	return ledger.NewEntry(head, postings...)
}

func variant(id string, e *Event) string {
	if choose, ok := either[id]; ok {
		return choose(e)
	}
	return id
}

func writeJournal(id string, e *Event) ([]ledger.Posting, error) {
	j, ok := journals[id]
	if !ok {
		return nil, fmt.Errorf("%w: %q is not in the accounting manual", ErrJournalUnknown, id)
	}
	if err := e.allowed(id, j); err != nil {
		return nil, err
	}
	p := page{Event: e, id: id, title: j.title}
	j.write(&p)
	if p.err != nil {
		return nil, p.err
	}
	return p.postings, nil
}

// allowed is the gate of the settle modes (spec 3.6) and of the second person.
func (e *Event) allowed(id string, j journal) error {
	mode := e.mode()
	switch {
	case e.Day <= 0:
		return fmt.Errorf("%w: %s (%s): day is missing", ErrEvent, id, j.title)
	case e.public() && mode == ModeB:
		return fmt.Errorf("%w: hospital %s is public: settle mode B is refused for a public hospital", ErrForbidden, e.hospital())
	case j.modes != anyMode && mode == "":
		return fmt.Errorf("%w: %s (%s): the settle mode is missing: name a merchant number, a bank account or the mode", ErrEvent, id, j.title)
	case j.modes != anyMode && string(mode) != j.modes:
		return fmt.Errorf("%w: %s (%s) is for settle mode %s, this money is on mode %s", ErrForbidden, id, j.title, j.modes, mode)
	case e.Merchant != nil && e.Hospital != nil && e.Merchant.Hospital != e.Hospital.Code:
		return fmt.Errorf("%w: merchant number %s is of hospital %s, not of %s", ErrForbidden, e.Merchant.No, e.Merchant.Hospital, e.Hospital.Code)
	case e.OtherMerchant != nil && e.Merchant != nil && e.OtherMerchant.Hospital != e.Merchant.Hospital:
		return fmt.Errorf("%w: %s (%s): merchant number %s is of another hospital, its money is never used for %s",
			ErrForbidden, id, j.title, e.OtherMerchant.No, e.hospital())
	}
	if signed[id] && (e.Maker == "" || e.Checker == "" || e.Maker == e.Checker) {
		return fmt.Errorf("%w: %s (%s) needs a maker and another person as checker", ErrForbidden, id, j.title)
	}
	if err := e.bankAllowed(e.Bank, e.hospital(), mode); err != nil {
		return err
	}
	if e.OtherHospital == nil {
		return nil
	}
	return e.bankAllowed(e.OtherBank, e.OtherHospital.Code, mode)
}

// bankAllowed refuses an account of the other settle mode, and money of one
// hospital for another.
func (e *Event) bankAllowed(b *BankAccount, hospital string, mode Mode) error {
	switch {
	case b == nil || b.Role == OwnAccount:
		return nil
	case b.Role == Custody && mode == ModeA:
		return fmt.Errorf("%w: custody account %s (1002.CUST) is not used on settle mode A", ErrForbidden, b.Account)
	case b.Role == Settlement && mode == ModeB:
		return fmt.Errorf("%w: hospital account %s (1002.HOSP) is not used on settle mode B", ErrForbidden, b.Account)
	case b.Hospital != hospital:
		return fmt.Errorf("%w: account %s holds money of hospital %s, it is never used for %s", ErrForbidden, b.Account, b.Hospital, hospital)
	}
	return nil
}

func (e *Event) mode() Mode {
	switch {
	case e.Merchant != nil:
		return e.Merchant.Mode
	case e.Bank != nil && e.Bank.Role == Settlement:
		return ModeA
	case e.Bank != nil && e.Bank.Role == Custody:
		return ModeB
	case e.Mode != "":
		return e.Mode
	case e.public():
		return ModeA
	}
	return ""
}

func (e *Event) public() bool {
	return (e.Merchant != nil && e.Merchant.Ownership == Public) || (e.Hospital != nil && e.Hospital.Ownership == Public)
}

func (e *Event) hospital() string {
	switch {
	case e.Merchant != nil:
		return e.Merchant.Hospital
	case e.Hospital != nil:
		return e.Hospital.Code
	case e.Bank != nil:
		return e.Bank.Hospital
	}
	return ""
}

func (e *Event) bearer() Bearer {
	if e.Merchant == nil {
		return ByPlatform
	}
	return e.Merchant.BearerOn(cmp.Or(e.Trade, e.Day))
}

// ref is the number by which people know the event.
func (e *Event) ref() string {
	for _, number := range []string{e.Refund, e.Order, e.Payout, e.Settlement, e.BankRef, e.Case} {
		if number != "" {
			return number
		}
	}
	return ""
}

// meta names contract and period, which every subsidy line carries.
func (e *Event) meta() string {
	contract := e.Contract
	if contract == "" && e.Merchant != nil && e.bearer() == ByPlatform {
		contract = e.Merchant.ContractNo
	}
	if contract == "" {
		return ""
	}
	text, err := json.Marshal(struct {
		Contract string `json:"contract"`
		Period   string `json:"period"`
	}{contract, e.Day.String()[:len("2026-09")]})
	if err != nil {
		panic(err) // two strings always encode
	}
	return string(text)
}

// page gathers the postings of one journal.
type page struct {
	*Event
	id, title string
	postings  []ledger.Posting
	err       error
}

// refuse keeps the first reason.
func (p *page) refuse(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("%w: %s (%s): "+format, append([]any{ErrEvent, p.id, p.title}, args...)...)
	}
}

// move writes one posting, or two over the pair 1998/2998 where it crosses from
// the platform's own money to agency money or back.
func (p *page) move(debit, credit ledger.Leg, amount ledger.Money) {
	if p.err != nil {
		return
	}
	if amount <= 0 {
		p.refuse("the amount is %d fen, it must be above zero", amount)
		return
	}
	from, to := debit.Account.Set(), credit.Account.Set()
	switch {
	case from == to:
		p.postings = append(p.postings, ledger.Posting{Debit: debit, Credit: credit, Amount: amount})
	case from == ledger.Agency && to == ledger.Own:
		p.postings = append(p.postings,
			ledger.Posting{Debit: debit, Credit: AgencySide(p.ofHospital()).For(""), Amount: amount},
			ledger.Posting{Debit: OwnSide(p.ofHospital()).For(""), Credit: credit, Amount: amount})
	case from == ledger.Own && to == ledger.Agency:
		p.postings = append(p.postings,
			ledger.Posting{Debit: debit, Credit: OwnSide(p.ofHospital()).For(""), Amount: amount},
			ledger.Posting{Debit: AgencySide(p.ofHospital()).For(""), Credit: credit, Amount: amount})
	default:
		p.err = fmt.Errorf("%s (%s): %w", p.id, p.title, errCrossing)
	}
}

// A side says on which account, under which reference, an amount moves.
type side func(*page) ledger.Leg

func amount(debit, credit side) func(*page) {
	return func(p *page) { p.move(debit(p), credit(p), p.Amount) }
}

func fee(debit, credit side) func(*page) {
	return func(p *page) {
		switch {
		case p.Fee < 0:
			p.refuse("the fee is %d fen, it must not be negative", p.Fee)
		case p.Fee > 0:
			p.move(debit(p), credit(p), p.Fee)
		}
	}
}

func missing(debit, credit side) func(*page) {
	return func(p *page) { p.move(debit(p), credit(p), p.Short) }
}

// debited is what the bank took by itself: a fact, whatever the books say is there.
// Of custody it comes out of this hospital's money as far as that goes. The rest the
// bank took out of what stands on the account for others, which no book of theirs
// may show: it rests in 2208, a payment that the bank has made ahead of this
// hospital's money, until that comes in (J34).
func debited(to side) func(*page) {
	return func(p *page) {
		if p.Short < 0 || p.Short > p.Amount {
			p.refuse("%d fen of %d are not covered", p.Short, p.Amount)
		}
		if p.Short == 0 || p.Short < p.Amount {
			p.move(to(p), bankMoney(p), p.Amount-p.Short)
		}
		if p.Short > 0 {
			p.move(to(p), bankAhead(p), p.Short)
		}
	}
}

func all(writes ...func(*page)) func(*page) {
	return func(p *page) {
		for _, write := range writes {
			write(p)
		}
	}
}

// turnable is an amount that Event.Turned moves the other way.
func turnable(debit, credit side) func(*page) {
	return func(p *page) {
		if p.Turned {
			debit, credit := credit, debit
			p.move(debit(p), credit(p), p.Amount)
			return
		}
		p.move(debit(p), credit(p), p.Amount)
	}
}

// parts moves each insured part; fund is the side that is split by fund.
func parts(debit, credit side) func(*page) {
	return func(p *page) {
		if len(p.Parts) == 0 {
			p.refuse("parts are missing: name the amount of each fund")
		}
		of := *p.Event
		for _, part := range p.Parts {
			of.Parts = []Part{part}
			one := page{Event: &of, id: p.id, title: p.title, postings: p.postings, err: p.err}
			one.move(debit(&one), credit(&one), part.Amount)
			p.postings, p.err = one.postings, one.err
		}
	}
}

func turnableParts(debit, credit side) func(*page) {
	straight, turned := parts(debit, credit), parts(credit, debit)
	return func(p *page) {
		if p.Turned {
			turned(p)
			return
		}
		straight(p)
	}
}

// bornBy refuses a journal that is written only where the bearer is this one.
func bornBy(bearer Bearer, write func(*page)) func(*page) {
	return func(p *page) {
		if p.bearer() != bearer {
			p.err = fmt.Errorf("%w: %s (%s) is for a fee borne by the %s, this one is borne by the %s",
				ErrForbidden, p.id, p.title, strings.ToLower(string(bearer)), strings.ToLower(string(p.bearer())))
			return
		}
		write(p)
	}
}

// contracted refuses a subsidy that names no contract.
func contracted(write func(*page)) func(*page) {
	return func(p *page) {
		if p.Contract == "" && (p.Merchant == nil || p.Merchant.ContractNo == "") {
			p.refuse("contract is missing: every subsidy line names its contract")
		}
		write(p)
	}
}

// settled takes what left the channel, net on target, and the fee that it billed
// less what it returned. A negative fee turns sides; on a day on which more was
// refunded than taken nothing leaves at all, and only the fee is settled.
func settled(target side) func(*page) {
	return func(p *page) {
		if gross := p.Amount + p.Fee; p.Fee < 0 {
			p.moveSome(target(p), channelMoney(p), gross)
			p.moveSome(target(p), feeOwed(p), min(p.Amount, -p.Fee))
			p.moveSome(channelMoney(p), feeOwed(p), -gross)
			return
		}
		if p.Amount != 0 || p.Fee == 0 {
			p.move(target(p), channelMoney(p), p.Amount)
		}
		fee(feeOwed, channelMoney)(p)
	}
}

// moveSome writes a posting where there is something to move.
func (p *page) moveSome(debit, credit ledger.Leg, amount ledger.Money) {
	if amount > 0 {
		p.move(debit, credit, amount)
	}
}

// releaseGross makes proved money the hospital's own. The fee that the channel
// kept becomes the platform's debt, or lessens it where more was returned.
func releaseGross(p *page) {
	if p.Fee >= 0 {
		p.move(available(p), bankMoney(p), p.Amount)
		fee(available, subsidyOwed)(p)
		return
	}
	p.move(available(p), bankMoney(p), p.Amount+p.Fee)
	p.move(subsidyOwed(p), bankMoney(p), -p.Fee)
}

func invoiced(p *page) {
	p.move(serviceReceivable(p), serviceIncome(p), p.Amount-p.Tax)
	if p.Tax != 0 {
		p.move(serviceReceivable(p), vat().For(""), p.Tax)
	}
}

// paidOver is what one hospital pays to another: one entry per bank line, so
// each hospital's account is named when its line is there.
func paidOver(p *page) {
	if p.Bank == nil && p.OtherBank == nil {
		p.refuse("bank account is missing")
	}
	if p.Bank != nil {
		p.move(long(p), bankMoney(p), p.Amount)
	}
	if p.OtherBank != nil {
		p.move(BankMoney(p.OtherBank).For(""), otherShort(p), p.Amount)
	}
}
