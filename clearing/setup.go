package clearing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/shopspring/decimal"
	"gopkg.in/yaml.v3"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// ErrSetup is wrapped by every refusal of a setup file.
var ErrSetup = errors.New("setup refused")

// channelNames are the channels that a merchant number may be of: POS is card
// acquiring, AGG a bank's aggregated acquiring.
var channelNames = []string{channels.WeChat, channels.Alipay, channels.UnionPay, "POS", "AGG"}

// knownCounterparties pay for the channels where the setup file names none.
var knownCounterparties = []Counterparty{
	{Channel: channels.WeChat, Name: "财付通支付科技有限公司"},
	{Channel: channels.Alipay, Name: "支付宝（中国）网络技术有限公司"},
	{Channel: channels.UnionPay, Name: "中国银联股份有限公司"},
}

// setupFile is a setup file as it is written; every field is text or a number
// that is checked by plan.
type setupFile struct {
	Region struct {
		Code string `yaml:"code"`
		Name string `yaml:"name"`
	} `yaml:"region"`
	Hospitals       []setupHospital `yaml:"hospitals"`
	OwnBankAccounts []setupBank     `yaml:"own_bank_accounts"`
	OpeningBalances []struct {
		Channel    string  `yaml:"channel"`
		MerchantNo string  `yaml:"merchant_no"`
		Fen        int64   `yaml:"fen"`
		Arrives    *string `yaml:"arrives"`
	} `yaml:"opening_balances"`
	Counterparties []struct {
		Channel string `yaml:"channel"`
		Name    string `yaml:"name"`
		Account string `yaml:"account"`
	} `yaml:"counterparties"`
	Apps     []setupApp `yaml:"apps"`
	Holidays []string   `yaml:"holidays"` // banks are closed
	Workdays []string   `yaml:"workdays"` // 调休: banks work on a weekend
}

type setupHospital struct {
	Code         string          `yaml:"code"`
	Name         string          `yaml:"name"`
	Ownership    string          `yaml:"ownership"`
	HISCalls     string          `yaml:"his_calls"`
	HIS          *setupHIS       `yaml:"his"`
	RefundPolicy []setupPolicy   `yaml:"refund_policy"`
	BankAccounts []setupBank     `yaml:"bank_accounts"`
	Merchants    []setupMerchant `yaml:"merchants"`
}

type setupBank struct {
	Account string `yaml:"account"`
	Name    string `yaml:"name"`
	Bank    string `yaml:"bank"`
	Role    string `yaml:"role"`

	Connection *setupConnection `yaml:"connection"`
}

type setupMerchant struct {
	Channel         string   `yaml:"channel"`
	MerchantNo      string   `yaml:"merchant_no"`
	Aliases         []string `yaml:"aliases"`
	Kind            string   `yaml:"kind"`
	SettleMode      string   `yaml:"settle_mode"`
	SettlesTo       string   `yaml:"settles_to"`
	RetainedFen     int64    `yaml:"retained_fen"`
	CouponBearer    string   `yaml:"coupon_bearer"`
	FeeReturned     *bool    `yaml:"fee_returned"`
	ContractNo      string   `yaml:"contract_no"`
	ForeignPrefixes []string `yaml:"foreign_prefixes"`
	setupRate       `yaml:",inline"`
	Rates           []setupRate   `yaml:"rates"` // further rates, by their first day
	Gateway         *setupGateway `yaml:"gateway"`
}

type setupRate struct {
	From      string `yaml:"from"`
	FeeRate   string `yaml:"fee_rate"`
	FeeBearer string `yaml:"fee_bearer"`
}

// SetupSummary counts what a setup file changed. A file that was there before
// changes nothing.
type SetupSummary struct {
	Hospitals, Banks, Merchants, Rates int // in the file
	Changed                            int // rows written
}

// Setup reads a setup file, checks it as a whole, stores what is new and opens
// the accounts of all master data. The same file again changes nothing. What the
// books rest on (names, ownership, mode, accounts, a rate that has begun) never
// changes: such a file is refused with the field.
func Setup(ctx context.Context, d *db.DB, r io.Reader) (SetupSummary, error) {
	file, err := readSetup(r)
	if err != nil {
		return SetupSummary{}, err
	}
	want, err := file.plan()
	if err != nil {
		return SetupSummary{}, err
	}
	summary, err := store(ctx, d, want)
	if err != nil {
		return SetupSummary{}, err
	}
	accounts := want.directory.accounts()
	if err := ledger.OpenAccounts(ctx, d, accounts...); err != nil {
		return SetupSummary{}, fmt.Errorf("open accounts: %w", err)
	}
	return summary, nil
}

func readSetup(r io.Reader) (*setupFile, error) {
	decoder := yaml.NewDecoder(r)
	decoder.KnownFields(true)
	var file setupFile
	if err := decoder.Decode(&file); err != nil {
		text := strings.NewReplacer(" in type clearing.setupFile", "", " in type clearing.setupHospital", "", " in type clearing.setupMerchant", "",
			" in type clearing.setupBank", "", " in type clearing.setupRate", "", " in type clearing.setupApp", "", "yaml: unmarshal errors:\n  ", "", "yaml: ", "").Replace(err.Error())
		return nil, fmt.Errorf("%w: %s", ErrSetup, text)
	}
	return &file, nil
}

// setupPlan is a checked setup file.
type setupPlan struct {
	region   [2]string
	openings map[*Merchant]bool // the merchant numbers whose opening balance the file names
	// orphans are opening balances of merchant numbers that are set up already.
	orphans   []opening
	directory Directory
	days      map[ledger.Day]bool // working or not
	wiring    Wiring
}

type opening struct {
	channel, no string
	fen         ledger.Money
	arrives     ledger.Day
}

// checker gathers every broken rule of a file, so that one reading shows all.
type checker struct{ broken []error }

func (c *checker) must(ok bool, field, rule string, args ...any) {
	if !ok {
		c.broken = append(c.broken, fmt.Errorf("%w: %s: %s", ErrSetup, field, fmt.Sprintf(rule, args...)))
	}
}

func (c *checker) oneOf(value, field string, allowed ...string) {
	c.must(slices.Contains(allowed, value), field, "%q must be one of %s", value, strings.Join(allowed, ", "))
}

func (c *checker) day(text, field string) ledger.Day {
	day, err := ledger.ParseDay(text)
	c.must(err == nil, field, "%q is not a day like 2026-09-15", text)
	return day
}

var (
	codeForm   = regexp.MustCompile(`^[A-Z0-9]{1,16}$`)
	numberForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
	// rateForm keeps rates exact: decimal text below 0.1 with at most six decimals.
	rateForm = regexp.MustCompile(`^0(\.0[0-9]{0,5})?$`)
)

// plan checks the file against itself and turns it into master data.
func (f *setupFile) plan() (*setupPlan, error) {
	var c checker
	p := &setupPlan{region: [2]string{f.Region.Code, f.Region.Name}, openings: map[*Merchant]bool{}, days: map[ledger.Day]bool{}}
	c.must(codeForm.MatchString(f.Region.Code), "region.code", "%q must be 1 to 16 capital letters and digits", f.Region.Code)
	c.must(f.Region.Name != "", "region.name", "must not be empty")
	seen := map[string]string{}
	once := func(kind, number, field string) {
		first, twice := seen[kind+" "+number]
		c.must(!twice, field, "%s stands twice in the file, first at %s", number, first)
		seen[kind+" "+number] = field
	}
	for i := range f.Hospitals {
		f.Hospitals[i].plan(&c, once, f.Region.Code, &p.directory)
	}
	for _, b := range f.OwnBankAccounts {
		field := "own_bank_accounts " + b.Account
		once("account", b.Account, field+".account")
		c.must(numberForm.MatchString(b.Account), field+".account", "%q must be letters and digits", b.Account)
		c.must(b.Role == "" || b.Role == string(OwnAccount), field+".role", "%q must be OWN or left out", b.Role)
		p.directory.Banks = append(p.directory.Banks, BankAccount{Account: b.Account, Name: b.Name, Bank: b.Bank, Role: OwnAccount})
	}
	f.planOpenings(&c, p)
	f.planCounterparties(&c, p)
	f.planWiring(&c, p)
	for working, days := range map[bool][]string{false: f.Holidays, true: f.Workdays} {
		for _, text := range days {
			day := c.day(text, "holidays, workdays")
			other, twice := p.days[day]
			c.must(!twice || other == working, "workdays", "%s is a holiday in the same file", day)
			p.days[day] = working
		}
	}
	return p, errors.Join(c.broken...)
}

func (f *setupFile) planOpenings(c *checker, p *setupPlan) {
	for _, o := range f.OpeningBalances {
		field := "opening_balances " + o.Channel + " " + o.MerchantNo
		c.must(o.Fen >= 0, field+".fen", "%d must not be negative", o.Fen)
		var arrives ledger.Day
		if o.Arrives != nil {
			arrives = c.day(*o.Arrives, field+".arrives")
		}
		m, ok := p.directory.Merchant(o.Channel, o.MerchantNo)
		if !ok {
			p.orphans = append(p.orphans, opening{o.Channel, o.MerchantNo, ledger.Money(o.Fen), arrives})
			continue
		}
		c.must(!p.openings[m], field, "stands twice in the file")
		m.Opening, m.OpeningArrives, p.openings[m] = ledger.Money(o.Fen), arrives, true
	}
}

func (f *setupFile) planCounterparties(c *checker, p *setupPlan) {
	named := map[string]bool{}
	for _, o := range f.Counterparties {
		c.oneOf(o.Channel, "counterparties.channel", channelNames...)
		c.must(o.Name != "", "counterparties.name", "must not be empty")
		named[o.Channel] = true
		p.directory.Counterparties = append(p.directory.Counterparties, Counterparty{o.Channel, o.Name, o.Account})
	}
	for _, known := range knownCounterparties {
		if !named[known.Channel] {
			p.directory.Counterparties = append(p.directory.Counterparties, known)
		}
	}
}

func (h *setupHospital) plan(c *checker, once func(kind, number, field string), region string, d *Directory) {
	at := "hospital " + h.Code
	once("hospital", h.Code, at+".code")
	c.must(codeForm.MatchString(h.Code), at+".code", "%q must be 1 to 16 capital letters and digits", h.Code)
	c.must(h.Name != "", at+".name", "must not be empty")
	c.oneOf(h.Ownership, at+".ownership", string(Public), string(Private))
	if h.HISCalls == "" {
		h.HISCalls = "APP"
	}
	c.oneOf(h.HISCalls, at+".his_calls", "APP", "PLATFORM")
	d.Hospitals = append(d.Hospitals, Hospital{Code: h.Code, Name: h.Name, Region: region, Ownership: Ownership(h.Ownership), HISCalls: h.HISCalls})
	roles := map[string]Role{}
	for _, b := range h.BankAccounts {
		field := at + ": bank account " + b.Account
		c.must(numberForm.MatchString(b.Account), field+".account", "%q must be letters and digits", b.Account)
		c.oneOf(b.Role, field+".role", string(Settlement), string(Custody))
		if b.Role == string(Settlement) { // a custody account may keep the money of several hospitals
			once("account", b.Account, field+".account")
			c.must(b.Name == h.Name, field+".name", "%q must be the hospital's own name %q", b.Name, h.Name)
		}
		c.must(roles[b.Account] == "", field, "stands twice for the hospital")
		roles[b.Account] = Role(b.Role)
		d.Banks = append(d.Banks, BankAccount{Account: b.Account, Hospital: h.Code, Name: b.Name, Bank: b.Bank, Role: Role(b.Role)})
	}
	for i := range h.Merchants {
		m := &h.Merchants[i]
		field := at + ": merchant number " + m.Channel + " " + m.MerchantNo
		for _, no := range append([]string{m.MerchantNo}, m.Aliases...) {
			once("merchant "+m.Channel, no, field)
		}
		d.Merchants = append(d.Merchants, m.plan(c, field, h, roles))
	}
}

func (m *setupMerchant) plan(c *checker, at string, h *setupHospital, roles map[string]Role) *Merchant {
	m.Kind, m.SettleMode = cmp.Or(m.Kind, "DIRECT"), cmp.Or(m.SettleMode, string(ModeA))
	m.CouponBearer = cmp.Or(m.CouponBearer, string(ByHospital))
	c.oneOf(m.Channel, at+".channel", channelNames...)
	c.must(numberForm.MatchString(m.MerchantNo), at+".merchant_no", "%q must be 1 to 32 letters and digits", m.MerchantNo)
	c.oneOf(m.Kind, at+".kind", "DIRECT", "SUB")
	c.oneOf(m.SettleMode, at+".settle_mode", string(ModeA), string(ModeB))
	c.must(h.Ownership != string(Public) || m.SettleMode != string(ModeB), at+".settle_mode",
		"B is refused: hospital %s is public, and the channel must pay a public hospital's own account", h.Code)
	c.oneOf(m.CouponBearer, at+".coupon_bearer", string(ByHospital), string(ByPlatform))
	c.must(m.RetainedFen >= 0, at+".retained_fen", "%d must not be negative", m.RetainedFen)
	need := map[string]Role{"A": Settlement, "B": Custody}[m.SettleMode]
	role, ok := roles[m.SettlesTo]
	c.must(ok, at+".settles_to", "%q is not a bank account of hospital %s", m.SettlesTo, h.Code)
	c.must(!ok || need == "" || role == need, at+".settles_to", "account %s is %s, settle mode %s needs an account of role %s", m.SettlesTo, role, m.SettleMode, need)
	rates := m.Rates
	if m.setupRate != (setupRate{}) {
		rates = append([]setupRate{m.setupRate}, rates...)
	}
	c.must(len(rates) > 0, at+".fee_rate", "must not be empty")
	planned := &Merchant{
		Channel: m.Channel, No: m.MerchantNo, Hospital: h.Code, Ownership: Ownership(h.Ownership), Aliases: m.Aliases, Kind: m.Kind,
		Mode: Mode(m.SettleMode), SettlesTo: m.SettlesTo, Retained: ledger.Money(m.RetainedFen), CouponBearer: Bearer(m.CouponBearer),
		FeeReturned: m.FeeReturned == nil || *m.FeeReturned, ContractNo: m.ContractNo, ForeignPrefixes: m.ForeignPrefixes,
	}
	for _, r := range rates {
		planned.Rates = append(planned.Rates, r.plan(c, at))
	}
	slices.SortFunc(planned.Rates, func(a, b Rate) int { return int(a.From - b.From) })
	for i := 1; i < len(planned.Rates); i++ {
		c.must(planned.Rates[i].From != planned.Rates[i-1].From, at+".rates", "two rates begin on %s", planned.Rates[i].From)
	}
	return planned
}

func (r *setupRate) plan(c *checker, at string) Rate {
	c.oneOf(r.FeeBearer, at+".fee_bearer", string(ByPlatform), string(ByHospital))
	ok := rateForm.MatchString(r.FeeRate)
	c.must(ok, at+".fee_rate", "%q must be decimal text from 0 to below 0.1 with at most six decimals, such as \"0.0060\"", r.FeeRate)
	rate := Rate{From: c.day(r.From, at+".from"), Bearer: Bearer(r.FeeBearer)}
	if ok {
		rate.Rate = decimal.RequireFromString(r.FeeRate)
	}
	return rate
}
