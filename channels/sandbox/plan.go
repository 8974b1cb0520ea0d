package sandbox

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/clearward/clearward/ledger"
)

// Plan is what was generated and what a right reconciliation finds in it.
type Plan struct {
	Config     Config      `json:"config"`
	Days       []*DayPlan  `json:"days"`
	Restatable *Restatable `json:"restatable"`
}

// DayPlan is one business day: its files, its cases and its sums.
type DayPlan struct {
	Day           ledger.Day     `json:"day"`
	StatementDay  ledger.Day     `json:"statement_day"` // when the bank books the day's settlements
	Files         []File         `json:"files"`
	Cases         []Case         `json:"cases"`
	Planted       map[string]int `json:"planted"` // faults, one each however many cases it makes
	Slices        []*Slice       `json:"slices"`
	Settlements   []Settlement   `json:"settlements"`
	OutOfScope    int            `json:"out_of_scope"` // bank lines of suppliers, salaries and returns
	OutOfScopeFen int64          `json:"out_of_scope_fen"`
	CappedFees    int            `json:"capped_fees"` // refunds that return less than the rule, because no more of the charged fee is left
}

// File is one generated file. Rows and sums are as they stand in it, repeated
// rows included; in a HIS file also those paid in cash.
type File struct {
	Path       string `json:"path"` // relative to the run's folder
	Source     string `json:"source"`
	Hospital   string `json:"hospital,omitempty"`
	Channel    string `json:"channel,omitempty"`
	MerchantNo string `json:"merchant_no,omitempty"`
	Rows       int    `json:"rows"`
	PayFen     int64  `json:"pay_fen"`
	RefundFen  int64  `json:"refund_fen"`
}

// The sources of files.
const (
	SourceSetup    = "setup"
	SourcePlatform = "platform"
	SourceHIS      = "his"
	SourceTrade    = "trade"
	SourceFund     = "fund"
	SourceBank     = "bank"
)

// Case is one expected row, in the meaning of samples/day/expected.csv: what
// each side says (nil = absent or not successful) and d = held − owed.
type Case struct {
	Code        string `json:"code"`
	Polarity    string `json:"polarity"` // long, short or ""
	Channel     string `json:"channel"`
	Hospital    string `json:"hospital"`
	MerchantNo  string `json:"merchant_no"` // "" where no side but HIS tells
	Kind        string `json:"kind"`        // PAY, REFUND, or "" for a bank line
	OrderNo     string `json:"order_no"`
	RefundNo    string `json:"refund_no"`
	BankRef     string `json:"bank_ref"`
	HisFen      *int64 `json:"his_fen"`
	PlatformFen *int64 `json:"platform_fen"`
	ChannelFen  *int64 `json:"channel_fen"`
	AmountFen   int64  `json:"amount_fen"`
	Variant     string `json:"variant"` // how the fault was planted
}

// Side counts and sums what one side says of a slice. Reversals are among the
// refunds.
type Side struct {
	Pays      int   `json:"pays"`
	PayFen    int64 `json:"pay_fen"`
	Refunds   int   `json:"refunds"`
	RefundFen int64 `json:"refund_fen"`
}

// Slice is one hospital × merchant number × day. HIS rows do not name a
// merchant number: they are counted where the patient was meant to pay. A
// repeated row and a group of bills of one payment count once; foreign rows are
// apart.
type Slice struct {
	Hospital     string `json:"hospital"`
	Channel      string `json:"channel"`
	MerchantNo   string `json:"merchant_no"`
	HIS          Side   `json:"his"`
	HISUnlinked  Side   `json:"his_unlinked"` // rows without any number that ties them (I7, F12) or booked as cash (I8)
	Platform     Side   `json:"platform"`     // successful only
	Bill         Side   `json:"channel_bill"`
	FundsMatched Side   `json:"funds_matched"` // platform = channel on the day
	InfoMatched  Side   `json:"info_matched"`  // HIS = platform on the day
	AllEqual     Side   `json:"all_equal"`
	NetZero      int    `json:"net_zero"` // payments taken back the same day that HIS never charged
	Foreign      Side   `json:"foreign"`
	FeesFen      int64  `json:"fees_fen"`     // billed less returned
	CouponFen    int64  `json:"coupon_fen"`   // order amount − settlement amount of the bill, net of refunds
	TradeNet     int64  `json:"trade_net"`    // of the trade bill with a repeated row counted once
	RepeatedNet  int64  `json:"repeated_net"` // what repeated rows add to the trade bill's totals
}

// Settlement is what the fund bill says and what the bank booked for it.
type Settlement struct {
	Hospital   string `json:"hospital"`
	Channel    string `json:"channel"`
	MerchantNo string `json:"merchant_no"`
	Opening    int64  `json:"opening"`
	DayNet     int64  `json:"day_net"` // trades, refunds and fees of the day
	Withdrawn  int64  `json:"withdrawn"`
	Closing    int64  `json:"closing"`
	Retained   int64  `json:"retained"`
	Expected   int64  `json:"expected"` // closing − retained, at least 0
	BankRef    string `json:"bank_ref"` // "" where no line came
	Arrived    int64  `json:"arrived"`
}

// codeOrder is the order of plan.csv.
var codeOrder = []string{
	"F1", "F2", "F3", "F4", "F5", "F6", "F7", "F9", "F10", "F11", "F12",
	"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8",
	"PAID_TWICE", "BACKFILL", "PHANTOM", "DUP_ROW", "RESTATED",
	"BANK_MISSING", "BANK_SHORT", "BANK_OVER", "BANK_UNIDENTIFIED", "BANK_FEE", "UNKNOWN_DEBIT",
	"PENDING", "SWEEP", "WAITING",
}

// listed are codes that are shown and are not exceptions, or move no money of
// anyone: they carry no polarity.
var listed = []string{"PENDING", "WAITING", "SWEEP", "BANK_FEE"}

// add notes a case and gives it its polarity.
func (d *DayPlan) add(c Case) {
	switch {
	case slices.Contains(listed, c.Code):
	case c.AmountFen > 0:
		c.Polarity = "long"
	case c.AmountFen < 0:
		c.Polarity = "short"
	}
	d.Cases = append(d.Cases, c)
}

func (d *DayPlan) sort() {
	slices.SortStableFunc(d.Cases, func(a, b Case) int {
		return cmp.Or(
			cmp.Compare(slices.Index(codeOrder, a.Code), slices.Index(codeOrder, b.Code)),
			cmp.Compare(a.OrderNo, b.OrderNo), cmp.Compare(a.RefundNo, b.RefundNo),
			cmp.Compare(a.BankRef, b.BankRef), cmp.Compare(a.Hospital, b.Hospital),
			cmp.Compare(a.MerchantNo, b.MerchantNo))
	})
}

func (p *Plan) write(dir string) error {
	for i, d := range p.Days {
		folder := ""
		if i > 0 {
			folder = d.Day.String()
		}
		if err := d.writeCSV(filepath.Join(dir, folder, "plan.csv")); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return fmt.Errorf("plan.json: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "plan.json"), append(text, '\n'), 0o644)
}

// writeCSV writes the cases with the columns of samples/day/expected.csv.
func (d *DayPlan) writeCSV(path string) error {
	rows := [][]string{{"code", "polarity", "channel", "order_no", "refund_no", "bank_ref", "his_fen", "platform_fen", "channel_fen", "amount_fen"}}
	for _, c := range d.Cases {
		rows = append(rows, []string{c.Code, c.Polarity, c.Channel, c.OrderNo, c.RefundNo, c.BankRef,
			fenText(c.HisFen), fenText(c.PlatformFen), fenText(c.ChannelFen), strconv.FormatInt(c.AmountFen, 10)})
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	w := csv.NewWriter(f)
	if err := w.WriteAll(rows); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	return f.Close()
}

func fenText(fen *int64) string {
	if fen == nil {
		return ""
	}
	return strconv.FormatInt(*fen, 10)
}

// count adds one payment, refund or reversal.
func (s *Side) count(pay bool, fen int64) {
	if pay {
		s.Pays++
		s.PayFen += fen
		return
	}
	s.Refunds++
	s.RefundFen += fen
}

// Net is payments less refunds in fen.
func (s Side) Net() int64 { return s.PayFen - s.RefundFen }
