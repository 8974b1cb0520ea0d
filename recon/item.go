package recon

import (
	"cmp"
	"slices"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Item is a row of the list of a day: one payment, refund or bank line, one code,
// one signed amount. Absent means that the side says nothing.
type Item struct {
	Code       Code
	Hospital   string
	Channel    string
	MerchantNo string
	OrderNo    string
	RefundNo   string
	BankRef    string
	HIS        *ledger.Money
	Platform   *ledger.Money
	ChannelFen *ledger.Money
	Amount     ledger.Money
	FeeDiff    ledger.Money
	CaseID     string
	Note       string

	key legKeyRow
}

// Polarity is long, short or "".
func (i *Item) Polarity() string { return i.Code.Polarity(i.Amount) }

// item is the row that a day lists for the leg.
func (leg *Leg) item() *Item {
	it := &Item{Code: leg.Code, Hospital: leg.Hospital, Channel: leg.Channel, MerchantNo: leg.MerchantNo,
		OrderNo: leg.OrderNo, RefundNo: leg.RefundNo, Amount: leg.D, FeeDiff: leg.FeeDiff, Note: leg.Note, key: leg.rowKey()}
	if leg.row != nil {
		it.key = leg.row.legKeyRow
	}
	for s, out := range map[Side]**ledger.Money{HIS: &it.HIS, Platform: &it.Platform, Channel: &it.ChannelFen} {
		if said := leg.Said[s]; said.Present && !said.StandIn && !said.Waived {
			fen := said.Fen
			*out = &fen
		}
	}
	if leg.Said[HIS].StandIn || leg.Said[Channel].StandIn {
		it.Note = join(it.Note, note(noteStandIn))
	}
	if leg.Kind == channels.Reverse {
		it.Note = join(it.Note, note(noteReversal))
	}
	if leg.Code == F6 && leg.bill != nil && leg.abnormal() {
		it.Note = join(it.Note, note(noteAbnormal))
	}
	if leg.Code.Exception() {
		it.CaseID = leg.theCase()
	}
	return it
}

// item is the row that a day lists for a bank line or a settlement.
func (b *BankItem) item(key legKeyRow) *Item {
	it := &Item{Code: b.Code, Hospital: b.Hospital, Channel: b.Channel, MerchantNo: b.MerchantNo, BankRef: b.Ref,
		Amount: b.Amount, Note: b.Note, key: key}
	if b.Code.Exception() {
		it.CaseID = key.caseID()
	}
	return it
}

// sortItems puts items in the order in which reports list them.
func sortItems(items []*Item) {
	slices.SortStableFunc(items, func(a, b *Item) int {
		return cmp.Or(cmp.Compare(rank[a.Code], rank[b.Code]), cmp.Compare(a.OrderNo, b.OrderNo),
			cmp.Compare(a.RefundNo, b.RefundNo), cmp.Compare(a.BankRef, b.BankRef), cmp.Compare(a.Hospital, b.Hospital))
	})
}
