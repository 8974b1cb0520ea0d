package recon

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// resolution is a way to settle a case: the journals that it posts and the codes
// that it may settle (spec/accounting.md 3.4, spec/reconciliation.md 2.5).
type resolution struct {
	zh, en string
	detail string // what the person must name beside it
	waits  bool   // the case may stay open after approval until money moves
	// follows: HIS sends a row of its own after it, which then changes nothing.
	follows bool
	by      map[Code][]string
}

// resolutions is the table of what settles what. A journal with a leading "-" is
// the manual's turned round. NOTED settles only what carries no money.
var resolutions = map[string]resolution{
	"REFUND": {"退款给患者", "refund to the patient", "", true, false, map[Code][]string{
		F1: {"E02"}, F2: {"E07"}, F4: {"E02"}, I1: {"E07"}, I5: {"E36b"}, PaidTwice: {"E21"}, Backfill: {"E07"}, I4: nil, I6: nil, F6: nil, F9: {"E07"}, Restated: {"E02"}}},
	// What the channel holds is not refunded again: it is paid to another card of the
	// patient, or to the hospital's bank account and from there by another route.
	"ABNORMAL_REFUND": {"异常退款处理：退至患者其他银行卡，或退至医院结算账户后转付", "abnormal refund: to another card of the patient, or by the hospital's bank account", "", true, false,
		map[Code][]string{F6: nil}},
	"PAID_LATER": {"渠道后来已付到患者（有凭证）", "the channel paid the patient later, on evidence", "", false, false, map[Code][]string{F6: {"J19b"}}},
	"BACKFILL":   {"补单", "back-fill the order", "", false, false, map[Code][]string{F1: {"E03", "J02"}, Backfill: {"J02"}}},
	"HIS_BOOKS": {"HIS 已补记", "HIS has booked it", "", false, true, map[Code][]string{
		F2: {"J02"}, I1: {"J02"}, I5: {"J02"}, PaidTwice: {"J02"}, F12: {"J02"}, F9: {"J02"}}},
	"LINK":           {"确认同笔，补写单号", "confirm the link", "", false, false, map[Code][]string{I7: {"J02"}, I8: {"E37", "J02"}, F12: {"J02"}}},
	"HIS_VOIDS":      {"HIS 作废", "HIS voids the bill", "", false, true, map[Code][]string{F3: {"E14"}, F4: {"E14"}, F5: {"E19"}, I2: nil, I3: nil, I4: {"-E10"}, I5: nil, I6: nil, Restated: {"E14"}}},
	"CASH_PAID":      {"患者窗口补交现金", "the patient paid cash", "", false, false, map[Code][]string{F3: {"E13"}}},
	"HOSPITAL_BEARS": {"医院承担", "the hospital bears it", "", false, false, map[Code][]string{F3: {"E14"}, F4: {"E14"}, F5: {"E19"}, UnknownDebit: {"E14"}}},
	"PAID_OVER":      {"医院间已划转", "one hospital paid the other", "", true, false, map[Code][]string{F9: {"E22c"}}},
	"RE_ROUTED":      {"医院间改划（出款前）", "re-routed to the other hospital before payout", "", true, false, map[Code][]string{F9: {"E22d"}}},
	"PLATFORM_BEARS": {"平台承担（核销）", "the platform bears it (write-off)", "", false, false, map[Code][]string{
		F3: {"E14", "E15a"}, F4: {"E14", "E15a"}, I2: {"E08a"}, I3: {"E09"}, UnknownDebit: {"E14", "E15a"}}},
	"FOREIGN":         {"非本平台交易", "another business of the hospital", "owner", false, false, map[Code][]string{F1: {"E04"}}},
	"OWNER_UNKNOWN":   {"无主长款转医院", "owner never found: to the hospital", "", false, false, map[Code][]string{F1: {"E05"}, F4: {"E05"}}},
	"ACCEPT_FEE":      {"接受手续费差额", "accept the fee difference", "", false, false, map[Code][]string{F7: {"E24+J04"}}},
	"DISPUTE_FEE":     {"手续费争议", "dispute the fee", "", true, false, map[Code][]string{F7: {"E25"}}},
	"FEE_CREDITED":    {"渠道已返还", "the channel credited the fee", "", false, false, map[Code][]string{F7: {"E26"}}},
	"CANCEL":          {"取消平台记录", "cancel the platform's record", "", false, false, map[Code][]string{Phantom: {"E34b"}}},
	"IDENTIFIED":      {"认领为结算款", "identified as a settlement in transit", "settlement", false, false, map[Code][]string{BankUnidentified: {"E30b"}, BankOver: {"E30b"}}},
	"ABNORMAL_CREDIT": {"认领为异常退款退回款", "identified as the money of an abnormal refund", "refund", false, false, map[Code][]string{BankUnidentified: {"-E29", "E20c"}}},
	"NOTED":           {"已知悉（不涉及资金）", "noted, no money", "", false, false, nil},
}

// resolutionsOf lists what may settle the case, by name.
func resolutionsOf(c *Case) []string {
	var out []string
	for name, r := range resolutions {
		if _, ok := r.by[c.Code]; (ok || name == "NOTED") && c.offers(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// ResolutionWords is the name of a resolution with what people call it, lang "zh"
// or "en", and what has to be named beside it.
func ResolutionWords(name, lang string) string {
	r, ok := resolutions[name]
	if !ok {
		return name
	}
	words := name + " " + r.zh
	if lang == "en" {
		words = name + " (" + r.en + ")"
	}
	if r.detail != "" {
		words += " [" + detailWords(r.detail, lang) + "]"
	}
	return words
}

// detailWords says what has to be named beside a resolution, and how.
func detailWords(detail, lang string) string {
	switch {
	case detail == "refund" && lang == "en":
		return "the refund, --detail HR…"
	case detail == "refund":
		return "注明退款单号，--detail HR…"
	case detail == "owner" && lang == "en":
		return "the owner, --detail NAME"
	case detail == "owner":
		return "注明归属方，--detail 名称"
	case lang == "en":
		return "the settlement, --detail stl_…"
	}
	return "注明结算单，--detail stl_…"
}

// entries builds the journals of the proposed resolution, and what they move.
func (d *decision) entries(ctx context.Context, b *ledger.Batch, c *Case, open []Suspense) ([]ledger.Entry, []move, error) {
	switch c.Resolution {
	case "IDENTIFIED":
		e, err := d.identified(ctx, b, c, open)
		return []ledger.Entry{e}, nil, err
	case "ABNORMAL_CREDIT":
		entries, err := d.abnormalCredit(ctx, b, c, open)
		return entries, nil, err
	case "PAID_OVER":
		return d.paidOver(ctx, b, c, open)
	case "RE_ROUTED":
		return d.reRouted(ctx, b, c)
	}
	if c.Code == F9 {
		home, waits, err := d.homeOf(ctx, b.Tx(), c, open)
		if err != nil {
			return nil, nil, err
		}
		c, open = home, waits
	}
	m, ok := d.merchantOf(c)
	journals, err := c.journals(open, ok && m.Mode == clearing.ModeB)
	if err != nil {
		return nil, nil, err
	}
	var out []ledger.Entry
	var proved ledger.Money
	for _, one := range c.parts(open) {
		for _, name := range journals {
			e, err := d.entry(c, name, one)
			if err != nil {
				return nil, nil, err
			}
			out = append(out, e)
			switch name {
			case "J02", "E05", "-J18", "-E10":
				proved += one.Fen
			case "E19":
				proved -= one.Fen
			}
		}
	}
	switch {
	case !ok:
		return out, nil, nil
	case c.Code == UnknownDebit && slices.Contains(journals, "E14"):
		// The hospital has so much less to be released, and less money for it.
		mv := move{m: m, proved: -total(open)}
		if m.Mode == clearing.ModeB {
			return out, []move{mv}, nil
		}
		mv.arrived = mv.proved
		return out, []move{mv}, d.hasArrived(ctx, b.Tx(), m, total(open))
	case proved != 0:
		return out, []move{{m: m, proved: proved}}, nil
	}
	return out, nil, nil
}

// merchantOf is the merchant number of the case; of a bank line that names none,
// one whose channel settles to that account of the hospital.
func (d *decision) merchantOf(c *Case) (*clearing.Merchant, bool) {
	if m, ok := d.dir.Merchant(c.Channel, c.MerchantNo); ok || c.Kind != kindBank {
		return m, ok
	}
	for _, m := range d.dir.Merchants {
		if m.Hospital == c.Hospital && (c.Channel == "" || m.Channel == c.Channel) {
			return m, true
		}
	}
	return nil, false
}

// parts is what the resolution moves, payment by payment where several rest under
// one case.
func (c *Case) parts(open []Suspense) []Suspense {
	if c.Code != F12 {
		return []Suspense{{Ref: c.OrderNo, Fen: c.moved(open)}}
	}
	return slices.DeleteFunc(slices.Clone(open), func(s Suspense) bool { return s.Fen == 0 })
}

// journals names what the case's resolution posts: what the table says, turned
// to the account on which the amount rests.
func (c *Case) journals(open []Suspense, modeB bool) ([]string, error) {
	journals := resolutions[c.Resolution].by[c.Code]
	back := c.Kind != channels.Pay
	switch {
	case c.Resolution == "REFUND":
		return c.refundJournals(journals, open)
	case c.Resolution == "PAID_LATER" && c.taken < c.moved(open):
		return nil, ErrResolution.Because("resolution", "the channel holds %s of this refund and %s is owed: it has paid the patient nothing later", c.taken, c.moved(open))
	case c.Code == I5 && c.Resolution == "HIS_BOOKS" && (c.Amount < 0 || back):
		return nil, ErrResolution.Because("resolution", "HIS has booked more than was paid: HIS corrects it, there is nothing more to book")
	case c.Resolution == "FEE_CREDITED" && total(open) == 0:
		return nil, ErrResolution.Because("resolution", "the fee difference is not disputed: DISPUTE_FEE comes first")
	case c.Resolution == "PLATFORM_BEARS" && modeB && c.Kind != kindSettle && journals[0] == "E14":
		return []string{"E15b"}, nil
	case c.Code == F7 && c.Resolution == "NOTED":
		return nil, ErrSuspenseNotNil.Because("case", "the fee difference of %s stands on 2206: ACCEPT_FEE or DISPUTE_FEE settles it", c.feeBilled())
	case c.Code == F12 && c.Resolution == "LINK" && c.Amount != 0:
		return nil, ErrResolution.Because("resolution", "HIS has booked %s of these payments less: HIS_BOOKS once it has booked them all", c.Amount)
	case c.Code == F7 && c.feeBilled() < 0 && c.Resolution == "DISPUTE_FEE":
		return nil, ErrResolution.Because("resolution", "the channel billed %s less than the rule: there is nothing to dispute, ACCEPT_FEE", -c.feeBilled())
	case c.Code == F7 && c.feeBilled() < 0 && c.Resolution == "ACCEPT_FEE":
		return []string{"-E24+J04"}, nil
	case !back:
		return journals, nil
	case c.Resolution == "CANCEL" && c.Kind == channels.Reverse:
		return []string{"-J22"}, nil
	case c.Resolution == "CANCEL", c.Resolution == "OWNER_UNKNOWN":
		return []string{"-J18"}, nil
	case c.Resolution == "LINK" && c.Code == I8:
		return []string{"-E37"}, nil // the drawer never paid it out
	case c.Resolution == "LINK", c.Resolution == "BACKFILL" && c.Code == Backfill:
		return nil, nil // the money is final on both sides
	case c.Resolution == "HIS_VOIDS" && c.Code == I6:
		return []string{"-E10"}, nil
	}
	return journals, nil
}

// refundJournals turns a refund to where the patient's money rests: 2204, 2241,
// or 2205 already, where it waits until the refund is sent.
func (c *Case) refundJournals(journals []string, open []Suspense) ([]string, error) {
	for _, s := range open {
		if s.Fen <= 0 {
			continue
		}
		switch family, _, _ := strings.Cut(s.Account.Code(), "."); {
		case family == "2205":
			return nil, nil
		case family == "2241", family == "2204" && c.Code != Restated:
			return journals, nil
		case family == "2204":
			return []string{"E07"}, nil
		}
	}
	return nil, ErrResolution.Because("resolution", "no money of a patient rests under %s: there is nothing to refund", c.ID)
}

// feeBilled is what the channel billed more than the rule: a refund that returns
// too little is billed more.
func (c *Case) feeBilled() ledger.Money {
	if c.Kind == channels.Pay {
		return c.FeeDiff
	}
	return -c.FeeDiff
}

// moved is what the resolution moves: the open amount of the case where it has
// suspense, else the difference itself.
func (c *Case) moved(open []Suspense) ledger.Money {
	for _, s := range open {
		if s.Fen > 0 {
			return s.Fen
		}
	}
	switch {
	case c.Code == F7:
		return c.FeeDiff.Abs()
	case c.Code == I8 && c.Platform != nil:
		return *c.Platform
	}
	return c.Amount.Abs()
}

func total(open []Suspense) (sum ledger.Money) {
	for _, s := range open {
		sum += s.Fen
	}
	return sum
}

func (d *decision) entry(c *Case, name string, part Suspense) (ledger.Entry, error) {
	e := clearing.Event{Day: d.today, Amount: part.Fen, Order: part.Ref, Refund: c.refund(), Case: c.ID, BankRef: c.BankRef,
		Maker: c.Maker, Checker: d.Who}
	if m, ok := d.dir.Merchant(c.Channel, c.MerchantNo); ok {
		e.Merchant = m
	}
	if h, ok := d.dir.Hospital(c.Hospital); ok {
		e.Hospital = h
	}
	if c.Kind == kindBank {
		if m, ok := d.merchantOf(c); ok {
			e.Mode = m.Mode
		}
		e.Merchant = nil
	}
	detail, _, _ := strings.Cut(c.Reason, " ")
	e.Owner = detail
	if c.Code == F7 {
		e.Amount, e.Fee = 0, part.Fen
	}
	if strings.HasSuffix(name, "E37") {
		e.Cashier = "HIS"
	}
	out, err := newEntry(e, name)
	if err != nil {
		return ledger.Entry{}, ErrResolution.Because("resolution", "%s: %v", c.Resolution, err)
	}
	return out, nil
}

// identified ties the credit of an unidentified or surplus case to the settlement
// that the person named: E30b, and the settlement waits for so much less.
func (d *decision) identified(ctx context.Context, b *ledger.Batch, c *Case, open []Suspense) (ledger.Entry, error) {
	var none ledger.Entry
	ref, _, _ := strings.Cut(c.Reason, " ")
	m, day, err := d.settlementOf(c, ref)
	if err != nil {
		return none, err
	}
	bank, from := d.restingOn(open)
	if bank == nil {
		return none, ErrResolution.Because("resolution", "no credit rests under %s: there is nothing to identify", c.ID)
	}
	row, err := readLeg(ctx, b.Tx(), (&Settlement{Hospital: m.Hospital, Channel: m.Channel, MerchantNo: m.No, Day: day}).rowKey())
	if err != nil {
		return none, err
	}
	if row == nil || row.text == "" || -row.D < from.Fen {
		return none, ErrResolution.Because("detail", "settlement %s does not wait for %s", ref, from.Fen)
	}
	if err := d.tie(b, row, creditPart{Ref: from.Ref, Fen: from.Fen, Known: true}); err != nil {
		return none, err
	}
	return clearing.NewEntry(clearing.Event{Day: d.today, Merchant: m, Bank: bank, BankRef: from.Ref, Amount: from.Fen, Settlement: ref,
		Case: c.ID, Maker: c.Maker, Checker: d.Who}, "E30b")
}

// settlementOf reads "stl_20260915_1900000109".
func (d *decision) settlementOf(c *Case, ref string) (*clearing.Merchant, ledger.Day, error) {
	for _, m := range d.dir.Merchants {
		text := strings.TrimSuffix(strings.TrimPrefix(ref, "stl_"), "_"+m.No)
		if day, err := ledger.ParseDay(text); err == nil && m.Hospital == c.Hospital && settlementRef(m, day) == ref {
			return m, day, nil
		}
	}
	return nil, 0, ErrResolution.Because("detail", "%q names no settlement of %s: stl_, the day, _ and the merchant number", ref, c.Hospital)
}

// restingOn is the bank account on whose 2243 the credit of the case rests.
func (d *decision) restingOn(open []Suspense) (*clearing.BankAccount, Suspense) {
	for _, s := range open {
		for i := range d.dir.Banks {
			if bank := &d.dir.Banks[i]; s.Fen > 0 && clearing.Unidentified(bank).ID() == s.Account.ID() {
				return bank, s
			}
		}
	}
	return nil, Suspense{}
}

// tie writes the part into the settlement's row, and closes the case of a
// settlement that then waits for nothing.
func (d *decision) tie(b *ledger.Batch, row *legRow, part creditPart) error {
	var state settlementState
	if err := json.Unmarshal([]byte(row.text), &state); err != nil {
		return fmt.Errorf("recon: settlement of %s on %s: %w", row.MerchantNo, row.Day, err)
	}
	state.Parts, state.Arrived = append(slices.Clone(state.Parts), part), state.Arrived+part.Fen
	left := -row.D - part.Fen
	if left == 0 {
		state.Code = None
		b.Exec(`
			UPDATE recon_cases SET state = 'AUTO_CLOSED', reason = 'IDENTIFIED', changed_at = $2
			WHERE id = $1 AND state IN ('OPEN', 'PROPOSED')`, row.CaseID, b.Now())
	}
	text, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("recon: settlement of %s: %w", row.MerchantNo, err)
	}
	b.ExecRows(1, `
		UPDATE recon_legs SET lines = $6, d_fen = $7, open = $8, settled = NOT $8, code = $9,
			case_id = CASE WHEN $8 THEN case_id ELSE '' END
		WHERE hospital = $1 AND day = $2 AND order_no = $3 AND kind = $4 AND refund_no = $5 AND lines = $10`,
		row.Hospital, row.Day, row.OrderNo, row.Kind, row.RefundNo, string(text), int64(-left), left > 0, state.Code, row.text)
	b.ExecRows(1, `
		UPDATE recon_merchants SET arrived_fen = arrived_fen + $3
		WHERE channel = $1 AND merchant_no = $2`, row.Channel, row.MerchantNo, int64(part.Fen))
	return nil
}
