package recon

import (
	"cmp"
	"slices"
	"strings"

	"github.com/clearward/clearward/ledger"
)

// Counterparty is an entry of the channel list: who pays settlements into, or
// draws money from, a hospital's account on behalf of a channel.
type Counterparty struct{ Channel, Name, Account string }

// Settlement is what a channel owes a bank account for one business day: the
// closing balance of the fund bill above what is retained there.
type Settlement struct {
	Hospital, Channel, MerchantNo string
	Aliases                       []string
	Account                       string
	Mode                          string
	Day                           ledger.Day // the day that is settled
	Due                           ledger.Day // the working day on which the bank should book it
	Opening, Closing, Retained    ledger.Money
	Withdrawn                     ledger.Money
	Fee                           ledger.Money // billed − returned
	Expected                      ledger.Money
	Arrived                       ledger.Money // before this run and in it
	Returned                      ledger.Money // 提现退票: back in the channel's balance
	Carried                       bool
	Code                          Code
	Credits                       []BankLine
	parts                         []creditPart // credits that runs of other days tied to it
	again                         bool         // a run of this day had tied some
	read                          string       // its row as the run read it
}

// open is what has not arrived yet.
func (s *Settlement) open() ledger.Money { return s.Expected - s.Arrived - s.Returned }

// BankItem is the verdict on a bank line that is no plain settlement, or on a
// settlement that is short, over or missing.
type BankItem struct {
	Code       Code
	Hospital   string
	Channel    string
	MerchantNo string
	Ref        string
	Amount     ledger.Money // arrived − expected; lines: the line's own sign
	Effects    Effects
	Note       string
	settlement *Settlement
}

// Scope counts what was left out of scope: shown, never an item.
type Scope struct {
	Lines int
	Sum   ledger.Money
}

// BankRules is what matching a statement needs to know beside its lines.
type BankRules struct {
	Hospital string
	Account  string
	Day      ledger.Day // the business day whose settlements are due on this statement
	Parties  []Counterparty
	Own      map[string]bool                           // the hospital's listed accounts
	Complete func(channel string) bool                 // every fund bill of this channel is in
	Waiting  func(channel, text string) (string, bool) // a merchant number of ours, named in text, whose fund bill is not in
	Whole    bool                                      // this day shows the lines that belong to no settlement
	ModeB    bool                                      // the account is custody: every line on it is ours to explain

	Strange func(ref string) string // the payout that the line names and that cannot explain it, "" for none; may be nil

	returned map[string]bool // EndToEndIDs that went out and came back on this statement
}

// matchBank ties the lines of one statement to the settlements that are due or
// still open, and names every line that remains (stage S7, spec/reconciliation.md
// 2.4 Settlement and 2.5 BANK_*).
func matchBank(r BankRules, due []*Settlement, lines []BankLine) ([]*BankItem, Scope) {
	slices.SortFunc(due, func(a, b *Settlement) int {
		return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.MerchantNo, b.MerchantNo))
	})
	r.pairReturns(lines)
	var items []*BankItem
	var scope Scope
	for i := range lines {
		l := &lines[i]
		channel := r.channelOf(l)
		if channel != "" && l.Amount > 0 && r.tie(due, channel, l) {
			continue
		}
		if !r.Whole {
			continue
		}
		if item := r.name(l, channel); item != nil {
			item.suggest(due)
			items = append(items, item)
		} else {
			scope.Lines++
			scope.Sum += l.Amount
		}
	}
	for _, s := range due {
		if item := s.judge(r); item != nil {
			items = append(items, item)
		}
	}
	return items, scope
}

// pairReturns finds transfers that went out and came back (退票): together they are
// nothing.
func (r *BankRules) pairReturns(lines []BankLine) {
	out := map[string]ledger.Money{}
	for i := range lines {
		if l := &lines[i]; l.Amount < 0 {
			out[l.EndToEndID] = -l.Amount
		}
	}
	r.returned = map[string]bool{}
	for i := range lines {
		if l := &lines[i]; l.ReturnOf != "" && l.Amount > 0 && out[l.ReturnOf] == l.Amount {
			r.returned[l.ReturnOf] = true
		}
	}
}

// channelOf returns the channel whose counterparty the line names, "" for none.
func (r *BankRules) channelOf(l *BankLine) string {
	for _, p := range r.Parties {
		if l.Counterparty == p.Name || p.Account != "" && l.CounterpartyAcc == p.Account {
			return p.Channel
		}
	}
	return ""
}

// tie books a credit on its settlement: by merchant number and date in the
// EndToEndId or remittance text, else by amount, else as one credit for several
// days of one merchant number.
func (r *BankRules) tie(due []*Settlement, channel string, l *BankLine) bool {
	words := l.EndToEndID + " " + l.Text
	var open []*Settlement
	named := false
	for _, s := range due {
		if s.Channel != channel || s.open() <= 0 {
			continue
		}
		if s.namedIn(words) {
			if !named {
				open, named = open[:0], true
			}
			open = append(open, s)
		} else if !named && s.Arrived == 0 {
			// The rest of a settlement that came short is only suggested: the line
			// must name it (scenario 57).
			open = append(open, s)
		}
	}
	if named {
		for _, s := range open {
			if strings.Contains(words, s.Day.Compact()) || strings.Contains(l.Text, s.Day.Compact()[4:]) {
				if s.open() == l.Amount || !tieSeveral(upTo(open, s), l, false) {
					s.book(l, l.Amount)
				}
				return true
			}
		}
	}
	for _, s := range open {
		if s.open() == l.Amount {
			s.book(l, l.Amount)
			return true
		}
	}
	return tieSeveral(open, l, named)
}

// upTo are the settlements of the same merchant number that s ends: what a channel
// had not paid out before comes with it.
func upTo(open []*Settlement, s *Settlement) (out []*Settlement) {
	for _, one := range open {
		if one.MerchantNo == s.MerchantNo && one.Day <= s.Day {
			out = append(out, one)
		}
	}
	return out
}

// tieSeveral books one credit for all open days of one merchant number, or, where
// the line names the number, on the newest day with the difference.
func tieSeveral(open []*Settlement, l *BankLine, named bool) bool {
	byMerchant := map[string][]*Settlement{}
	var order []string
	for _, s := range open {
		if byMerchant[s.MerchantNo] == nil {
			order = append(order, s.MerchantNo)
		}
		byMerchant[s.MerchantNo] = append(byMerchant[s.MerchantNo], s)
	}
	for _, no := range order {
		var sum ledger.Money
		for _, s := range byMerchant[no] {
			sum += s.open()
		}
		if sum == l.Amount {
			for _, s := range byMerchant[no] {
				s.book(l, s.open())
			}
			return true
		}
	}
	if named && len(open) > 0 {
		open[len(open)-1].book(l, l.Amount)
		return true
	}
	return false
}

func (s *Settlement) namedIn(words string) bool {
	if strings.Contains(words, s.MerchantNo) {
		return true
	}
	for _, alias := range s.Aliases {
		if strings.Contains(words, alias) {
			return true
		}
	}
	return false
}

func (s *Settlement) book(l *BankLine, fen ledger.Money) {
	part := *l
	part.Amount = fen
	s.Credits = append(s.Credits, part)
	s.Arrived += fen
}

// judge names what is wrong with a settlement after this statement. Money that
// is merely not there yet is in transit: it is missing one working day later.
func (s *Settlement) judge(r BankRules) *BankItem {
	item := &BankItem{Hospital: s.Hospital, Channel: s.Channel, MerchantNo: s.MerchantNo, Amount: s.Arrived - s.Expected, settlement: s}
	if len(s.Credits) > 0 {
		item.Ref = s.Credits[len(s.Credits)-1].Ref
	}
	switch {
	case s.Expected <= 0 || s.open() == 0:
		s.Code = None
		return nil
	case s.Arrived > s.Expected:
		item.Code = BankOver
	case s.Arrived > 0 && len(s.Credits) > 0:
		item.Code = BankShort
	case s.Arrived == 0 && s.Carried && s.Due < r.Day.Add(1):
		item.Code = BankMissing
	default:
		return nil
	}
	item.Note = note(noteSettlement, s.Day.String())
	s.Code = item.Code
	return item
}

// effects are the journals of the settlement itself: leaving the channel with
// the fee that was kept back, and arriving at the bank.
func (s *Settlement) effects() Effects {
	leave, arrive, short := "J28a", "J28b", "E27a"
	if s.Mode == "B" {
		leave, arrive, short = "J26a", "J26b", "E27b"
	}
	e := Effects{effect(leave, max(s.Expected, 0), s.Fee), effect("J28d", s.Returned, 0)}
	known := ledger.Money(0)
	for _, part := range s.parts {
		if part.Known {
			known += part.Fen
		}
	}
	switch {
	case s.Arrived == 0:
	case s.Arrived < s.Expected:
		e = append(e, effect(short, s.Arrived-known, 0))
	default:
		e = append(e, effect(arrive, s.Expected-known, 0))
		if over := s.Arrived - s.Expected; over > 0 {
			e = append(e, effect("E28b", over, 0))
		}
	}
	return e.compact()
}

// name gives the code of a line that belongs to no settlement, nil for one that
// is out of scope.
func (r *BankRules) name(l *BankLine, channel string) *BankItem {
	item := &BankItem{Hospital: r.Hospital, Channel: channel, Ref: l.Ref, Amount: l.Amount}
	switch {
	case l.Amount < 0 && isCharge(l.Code):
		item.Code, item.Channel = BankFee, ""
		if r.ModeB {
			item.Effects = Effects{effect("J35b", -l.Amount, 0)}
		}
	case r.Strange != nil && r.Strange(l.Ref) != "":
		item.Code, item.Effects = UnknownDebit, Effects{effect("E39", -l.Amount, 0)}
		if l.Amount > 0 {
			item.Code, item.Effects = BankUnidentified, Effects{effect("E29", l.Amount, 0)}
		}
		item.Note = note(notePayout, r.Strange(l.Ref), "")
	case r.Own[l.CounterpartyAcc] || r.returned[l.EndToEndID]:
		return nil
	case channel == "" && !r.ModeB: // the hospital's main account: its own business
		return nil
	case l.Amount < 0:
		item.Code, item.Effects = UnknownDebit, Effects{effect("E39", -l.Amount, 0)}
	default:
		no, waiting := r.Waiting(channel, l.EndToEndID+" "+l.Text)
		if waiting || !r.Complete(channel) {
			item.Code, item.MerchantNo = Waiting, no
			return item
		}
		item.Code, item.Effects = BankUnidentified, Effects{effect("E29", l.Amount, 0)}
	}
	return item
}

// suggest names the settlement that waits for just the amount of a credit that
// nothing names.
func (b *BankItem) suggest(due []*Settlement) {
	if b.Code != BankUnidentified {
		return
	}
	for _, s := range due {
		if s.Channel == b.Channel && s.open() == b.Amount {
			b.Note = join(b.Note, note(noteSuggested, "stl_"+s.Day.Compact()+"_"+s.MerchantNo))
		}
	}
}

// isCharge says whether a bank transaction code means a fee of the bank: the
// sub-family CHRG of ISO 20022.
func isCharge(code string) bool {
	return strings.HasSuffix(code, "/CHRG") || code == "CHRG" || strings.Contains(code, "/CHRG/")
}
