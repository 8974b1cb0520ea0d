package payout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Request asks for a payout.
type Request struct {
	Kind         Kind
	Hospital     string
	From         string       // account that pays; "" where only one is possible
	Payee        string       // id of the white-list; "" where only one is possible
	Patient      *Patient     // ReroutedRefund: instead of a payee
	Amount       ledger.Money // above zero
	Purpose      string       // "" for the first of the kind's
	Subject      string       // settlement (Subsidy), case (Compensation), refund (ReroutedRefund)
	Channel      string       // ReroutedRefund, Recharge: the merchant number
	MerchantNo   string
	Contract     string // Subsidy
	RepeatReason string // why the same payee gets the same amount twice a day
}

// Request stores a payout that waits for its checker. Key is the caller's: the
// same request again returns the first payout, another one ledger.ErrKeyConflict.
// The refusals are those of this package, and ledger.ErrFloor where the hospital
// has less available.
func (ps *Payouts) Request(ctx context.Context, scope, key string, by Person, r Request) (Payout, error) {
	cmd := requestCommand{Request: r, by: by, number: numberOf("HB", ledger.DayOf(ps.Now()), scope, key)}
	if r.Patient != nil {
		cmd.mark = ps.mark(*r.Patient)
	}
	told := r
	told.Patient = nil
	canon, err := json.Marshal(struct {
		Request
		By, Mark string
	}{told, by.Name, cmd.mark})
	if err != nil {
		return Payout{}, fmt.Errorf("request a payout: %w", err)
	}
	out, err := ledger.Submit(ctx, ps.Committer, requestVerb, ledger.Request{Scope: scope, Key: key, Form: 1, Canon: canon}, cmd)
	if err := errors.Join(err, out.Err); err != nil {
		return Payout{}, err
	}
	return ps.Get(ctx, out.Body)
}

type requestCommand struct {
	Request
	by           Person
	number, mark string
}

var requestVerb = &ledger.Verb[requestCommand]{Name: "payout.request", Run: runRequest}

// runRequest decides one by one: what is asked for at the same time counts.
func runRequest(ctx context.Context, b *ledger.Batch, cmds []requestCommand) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	desk, err := openDesk(ctx, b)
	if err != nil {
		return b.Fail(err)
	}
	for i := range cmds {
		entry, err := desk.request(ctx, &cmds[i])
		outcomes[i] = ledger.Outcome{Body: cmds[i].number, Entry: entry, Err: err}
	}
	return outcomes
}

// desk is what the verbs of people need: master data, settings, and what was
// decided before in the same batch.
type desk struct {
	*clearing.Directory
	b        *ledger.Batch
	day      ledger.Day
	settings settings
	asked    []*Payout // in this batch
	spent    map[string]ledger.Money
}

func openDesk(ctx context.Context, b *ledger.Batch) (*desk, error) {
	directory, err := clearing.LoadMerchants(ctx, b.Tx())
	if err != nil {
		return nil, err
	}
	d := &desk{Directory: directory, b: b, day: ledger.DayOf(b.Now()), spent: map[string]ledger.Money{}}
	d.settings, err = loadSettings(ctx, b.Tx(), d.day)
	return d, err
}

// request checks in the order in which a person would be told.
func (d *desk) request(ctx context.Context, c *requestCommand) (ledger.EntryID, error) {
	p := &Payout{Number: c.number, Hospital: c.Hospital, Kind: c.Kind, Amount: c.Amount, Purpose: c.Purpose, Subject: c.Subject, Channel: c.Channel,
		MerchantNo: c.MerchantNo, Contract: c.Contract, RepeatReason: strings.TrimSpace(c.RepeatReason), Day: d.day, Maker: c.by.Name,
		RequestedAt: d.b.Now(), State: Requested, StateAt: d.b.Now(), payeeMark: c.mark}
	if err := d.form(p, c.Patient); err != nil {
		return ledger.EntryID{}, err
	}
	if err := d.place(p, c.From); err != nil {
		return ledger.EntryID{}, err
	}
	payee, err := d.payee(ctx, p, c.Payee)
	if err == nil {
		err = d.limit(ctx, c.by, "REQUEST", p.Amount)
	}
	if err == nil {
		err = d.repeated(ctx, p)
	}
	if err == nil {
		err = d.owed(ctx, p)
	}
	if err != nil {
		return ledger.EntryID{}, err
	}
	p.Needs = d.settings.checkers(p.Amount)
	p.Payload = p.payloadHash(payee)
	var entry ledger.EntryID
	if p.Kind == Hospital {
		if entry, err = p.post(d.b, d.Directory, d.day, "J31"); err != nil {
			return ledger.EntryID{}, err
		}
	}
	d.asked = append(d.asked, p)
	d.spent[c.by.Name] += p.Amount
	d.insert(p, c.Patient)
	return entry, nil
}

// form checks the fields by themselves.
func (d *desk) form(p *Payout, who *Patient) error {
	allowed, known := purposes[p.Kind]
	h, found := d.Hospital(p.Hospital)
	if known && p.Purpose == "" {
		p.Purpose = allowed[0]
	}
	needs := map[Kind]string{Subsidy: "settlement", Compensation: "case", ReroutedRefund: "refund"}[p.Kind]
	switch {
	case !known:
		return ErrForbidden.Because("kind", "%q is no kind of payout", p.Kind)
	case !found:
		return ErrRequest.Because("hospital", "hospital %q is not known", p.Hospital)
	case p.Amount <= 0:
		return ErrRequest.Because("amount", "the amount is %d fen, it must be above zero", p.Amount)
	case !slices.Contains(allowed, p.Purpose):
		return ErrForbidden.Because("purpose", "%q is no purpose of a %s payout: %s", p.Purpose, p.Kind, strings.Join(allowed, ", "))
	case (needs != "") != (p.Subject != ""):
		return ErrRequest.Because("subject", "a %s payout names the %s whose debt it pays and no other kind names one", p.Kind, needs)
	case p.Kind == Subsidy && p.Contract == "":
		return ErrRequest.Because("contract", "a fee subsidy names its contract (spec L28)")
	case (p.Kind == ReroutedRefund) != (who != nil):
		return ErrRequest.Because("patient", "a refund by another route goes to the patient, and no other payout does")
	case who != nil && (strings.TrimSpace(who.Name) == "" || who.Account == "" || who.Reason == "" || who.Proof == ""):
		return ErrRequest.Because("patient", "a refund by another route needs the patient's name and account, the reason and the proof")
	}
	p.ownership = h.Ownership
	return nil
}

// place finds settle mode and paying account.
func (d *desk) place(p *Payout, from string) error {
	p.Mode = clearing.ModeA
	var accounts []string
	for _, m := range d.Merchants {
		if m.Hospital != p.Hospital || (p.MerchantNo != "" && (m.Channel != p.Channel || m.No != p.MerchantNo)) {
			continue
		}
		if m.Mode == clearing.ModeB && p.Mode == clearing.ModeA {
			p.Mode, accounts = clearing.ModeB, nil
		}
		if m.Mode == p.Mode && !slices.Contains(accounts, m.SettlesTo) {
			accounts = append(accounts, m.SettlesTo)
		}
	}
	named := p.Kind == ReroutedRefund || p.Kind == Recharge
	switch m, ok := d.Merchant(p.Channel, p.MerchantNo); {
	case named && (!ok || m.No != p.MerchantNo || m.Hospital != p.Hospital):
		return ErrRequest.Because("merchant_no", "%s %s is no merchant number of hospital %s", p.Channel, p.MerchantNo, p.Hospital)
	case !named && p.MerchantNo != "":
		return ErrRequest.Because("merchant_no", "a %s payout names no merchant number", p.Kind)
	case p.Kind == Hospital && p.ownership == clearing.Public:
		return ErrForbidden.Because("kind", "hospital %s is public: settle mode B, and with it a hospital payout, is refused for a public hospital; "+
			"the channel pays its own account", p.Hospital)
	case p.Kind == Hospital && p.Mode == clearing.ModeA:
		return ErrForbidden.Because("kind", "hospital %s is on settle mode A: the channel pays its own account, there is no hospital payout; "+
			"what is approved is subsidy, refund by another route, compensation or recharge", p.Hospital)
	case p.Kind == FeeTopUp && p.Mode == clearing.ModeA, p.Kind == Subsidy && p.Mode == clearing.ModeB:
		return ErrForbidden.Because("kind", "a %s payout is not of settle mode %s, on which hospital %s is", p.Kind, p.Mode, p.Hospital)
	}
	if p.Kind == Subsidy || p.Kind == Compensation || p.Kind == FeeTopUp {
		accounts = nil
		for i := range d.Banks {
			if d.Banks[i].Role == clearing.OwnAccount {
				accounts = append(accounts, d.Banks[i].Account)
			}
		}
	}
	if from == "" && len(accounts) == 1 {
		from = accounts[0]
	}
	if !slices.Contains(accounts, from) {
		return ErrRequest.Because("from", "%q cannot pay a %s payout of hospital %s: one of [%s] can", from, p.Kind, p.Hospital, strings.Join(accounts, " "))
	}
	p.From = from
	return nil
}

// useFor is the part of the white-list that a kind pays to.
func (k Kind) useFor() string {
	switch k {
	case FeeTopUp:
		return "CUSTODY"
	case Recharge:
		return "CHANNEL"
	}
	return "HOSPITAL"
}

// payee finds the account and says why it may not be paid.
func (d *desk) payee(ctx context.Context, p *Payout, id string) (Payee, error) {
	if p.Kind == ReroutedRefund {
		return Payee{}, nil
	}
	found, err := payeesWhere(ctx, d.b.Tx(), `hospital = $1 AND use_for = $2 AND ((id = $3 AND state <> 'PROPOSED') OR ($3 = '' AND state IN ('ACTIVE', 'SUSPENDED')))`,
		p.Hospital, p.Kind.useFor(), id)
	switch {
	case err != nil:
		return Payee{}, err
	case len(found) != 1:
		return Payee{}, ErrPayee.Because("payee", "%q is no approved %s payee of hospital %s, of which there are %d", id, p.Kind.useFor(), p.Hospital, len(found))
	}
	p.Payee = found[0].ID
	return found[0], found[0].usable(d.b.Now())
}

// usable says why an account may not be paid now.
func (y *Payee) usable(now time.Time) error {
	switch {
	case y.State == "SUSPENDED":
		return ErrPayee.Because("payee", "account %s is suspended: %s; change the account and have it approved", y.Account, y.Reason)
	case y.State != "ACTIVE":
		return ErrPayee.Because("payee", "account %s was changed: it is %s; refuse this payout and ask for it again", y.Account, strings.ToLower(y.State))
	case now.Before(y.UsableFrom):
		return ErrPayeeHeld.Because("payee", "account %s is new or was changed: it is held until %s", y.Account, beijing(y.UsableFrom))
	}
	return nil
}

func beijing(t time.Time) string { return t.In(ledger.Beijing).Format("2006-01-02 15:04") }

// repeated asks for a reason where the same payee gets the same amount on the
// same day (U17).
func (d *desk) repeated(ctx context.Context, p *Payout) error {
	if p.RepeatReason != "" || p.Kind == ReroutedRefund {
		return nil
	}
	before, err := payoutsWhere(ctx, d.b.Tx(), `p.hospital = $1 AND p.day = $2 AND p.payee = $3 AND p.amount_fen = $4 AND p.state <> 'REFUSED'`,
		p.Hospital, p.Day, p.Payee, p.Amount)
	if err != nil {
		return err
	}
	for _, other := range d.asked {
		if other.Payee == p.Payee && other.Amount == p.Amount {
			before = append(before, *other)
		}
	}
	if len(before) == 0 {
		return nil
	}
	return ErrRepeated.Because("repeat_reason", "payout %s pays the same payee the same %s today: give a reason for another", before[0].Number, p.Amount)
}

// insert queues the row, and the patient beside it.
func (d *desk) insert(p *Payout, who *Patient) {
	var payee *string
	if p.Payee != "" {
		payee = &p.Payee
	}
	d.b.Exec(`
		INSERT INTO payouts (number, hospital, ownership, kind, mode, from_account, payee, payee_mark, amount_fen, purpose, subject, channel, merchant_no,
			contract, day, repeat_reason, payload, maker, needs, requested_at, state_at, queue)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $20, $21)`,
		p.Number, p.Hospital, string(p.ownership), string(p.Kind), string(p.Mode), p.From, payee, p.payeeMark, p.Amount, p.Purpose, p.Subject, p.Channel,
		p.MerchantNo, p.Contract, p.Day, p.RepeatReason, p.Payload, p.Maker, p.Needs, p.RequestedAt, int16(p.Payload[0]&15))
	if who != nil {
		d.b.Exec(`INSERT INTO payout_people (number, account, name, bank, cnaps, reason, proof) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			p.Number, who.Account, who.Name, who.Bank, who.CNAPS, who.Reason, who.Proof)
	}
}
