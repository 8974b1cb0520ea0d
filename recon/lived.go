package recon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Lived is what the platform knows beside it of a payment or refund that was made
// through the API: which journals stand for it already. An imported row has none.
type Lived struct {
	Stage     string       // the row's own state
	Posted    bool         `json:",omitempty"` // J01 or E06 stand; of a refund J19a
	Late      bool         `json:",omitempty"` // the money came after the order was closed
	Acked     ledger.Money `json:",omitempty"` // J02 stands for it
	Debit     string       `json:",omitempty"` // how the refund became a debt, "" where it was one before, or is none
	DebtNo    string       `json:",omitempty"` // the number of the debt in 2205
	NextNo    string       `json:",omitempty"` // the refund that goes on with the debt
	CaseID    string       `json:",omitempty"` // whose debt it pays
	Abnormal  bool         `json:",omitempty"` // the channel holds the refund's money, or has paid it to the hospital's bank account
	PaidLater bool         `json:",omitempty"` // the refund succeeded after the bill of its day was made
	Held      bool         `json:"-"`          // set by runs: no fact that a run reads
	Digest    int64        `json:"-"`
}

func livedOf(leg *clearing.Leg) *Lived {
	if !leg.Live {
		return nil
	}
	made := leg.Day.Add(1).Start().Add(billMade * time.Hour)
	return &Lived{Stage: leg.Stage, Posted: leg.Posted, Late: leg.Late, Acked: leg.Acked, Debit: leg.Debit, DebtNo: leg.DebtNo,
		NextNo: leg.NextNo, CaseID: leg.CaseID, Held: leg.Held, Digest: leg.Digest, Abnormal: leg.Abnormal, PaidLater: leg.Kind == channels.Refund && leg.ChannelSuccessAt.After(made)}
}

// lives returns what the platform knows of a leg that was made through the API.
func (leg *Leg) lives() *Lived {
	if leg.platform == nil {
		return nil
	}
	return leg.platform.Lived
}

// owes says that the refund is a debt to the patient that the channel has not
// accepted, or that the bank has paid in its place (J39).
func (l *Line) owes() bool {
	if l.Lived == nil || l.Kind != channels.Refund {
		return false
	}
	return l.Lived.Stage == "OWED" || l.Lived.Stage == "CLOSED" || l.Lived.Stage == "REROUTED"
}

// stands says that for the platform the line moved money, or owes it.
func (l *Line) stands() bool { return l.Status == channels.Success || l.owes() }

// paysDebt says that the refund pays what was owed before it: HIS has heard of it
// under another number, or never.
func (l *Line) paysDebt() bool {
	return l.Lived != nil && l.Kind == channels.Refund && (l.Lived.CaseID != "" || l.Lived.DebtNo != "" && l.Lived.DebtNo != l.RefundNo)
}

// unposted says that the row says success and its own journals do not stand: a run
// had posted for it, so that it posted nothing (Held).
func (l *Line) unposted() bool {
	return l.Lived != nil && !l.Lived.Posted && l.Status == channels.Success
}

// final says that J19b of the refund stands, or stands with the rest of what a run
// posts for it. Where a run posted it before the row heard of the success, it is
// the run's to keep.
func (l *Line) final() bool {
	return l.Final && (l.Lived == nil || !l.Lived.Posted || !l.Lived.Held)
}

// lateMoney says that E06+J04 stand for money that came after the order was closed.
func (leg *Leg) lateMoney() bool {
	v := leg.lives()
	return v != nil && v.Late && v.Posted && leg.platform.Status != channels.Success
}

// ahead says that the platform's line counts on a later day than the run's: HIS
// gave the refund back on this day, the channel accepted it afterwards.
func (leg *Leg) ahead(r *Rules) bool {
	return leg.lives() != nil && leg.Kind == channels.Refund && leg.Fresh && leg.platform.Day > r.Day
}

// readyOn is the day whose feeds must be complete for a verdict on the leg.
func (leg *Leg) readyOn(r *Rules) ledger.Day {
	if leg.ahead(r) {
		return r.Day
	}
	return leg.Day
}

// waits says that the channel is still to do something about a refund that is owed.
func (leg *Leg) waits(r *Rules) bool {
	v := leg.lives()
	if v == nil || leg.Kind != channels.Refund || leg.bill != nil || leg.Said[Channel].Waived {
		return false
	}
	return v.Stage == "OWED" || v.Stage == "CLOSED" && v.NextNo != "" || leg.ahead(r)
}

// waive fills in sides that will never speak: HIS of a refund that pays a debt of
// a case or of a closed refund, or gives back what HIS never took; the channel of a
// refund that the bank paid. Late money that the bill of its day does not have is
// money that the platform alone speaks of.
func (leg *Leg) waive(fundReady bool) {
	p, v := leg.platform, leg.lives()
	if v == nil {
		return
	}
	if leg.lateMoney() && leg.bill == nil && fundReady {
		leg.say(Platform, p.Amount)
	}
	said := leg.Said[Platform]
	if !said.Present || leg.Kind != channels.Refund {
		return
	}
	said.Waived = true
	if (p.paysDebt() || v.Debit == "E07") && !leg.Said[HIS].Present {
		leg.Said[HIS] = said
	}
	if v.Stage == "REROUTED" && leg.bill == nil {
		leg.Said[Channel] = said
	}
}

// silentInHIS says that platform and channel have the leg and HIS has never heard
// of it.
func (leg *Leg) silentInHIS() bool {
	return leg.bits() == 0b011 || leg.bits() == 0b111 && leg.Said[HIS].Waived
}

// outOfPending says that the refund took its money out of what is pending: not out
// of 2204 (E07), what was released (J23c), or a debt that stood before.
func (l *Line) outOfPending() bool {
	return l.Lived == nil || l.Lived.Debit == "J18" || l.Lived.Debit == "" && !l.paysDebt()
}

// supersedes says that the line is the newer word of the platform on the leg: rows
// that are made here move to the day on which the channel takes the money.
func (l *Line) supersedes(was *Line) bool {
	return was.Status != channels.Success || l.Status == channels.Success && !l.carried
}

// replace takes the line that l supersedes off the leg.
func (leg *Leg) replace() {
	at := slices.IndexFunc(leg.Lines, func(l Line) bool { return l.Side == Platform })
	if at < 0 {
		return
	}
	leg.forget(&leg.Lines[at])
	leg.Lines = slices.Delete(leg.Lines, at, at+1)
	leg.Carried, leg.Fresh = false, false
	for i := range leg.Lines {
		leg.Carried, leg.Fresh = leg.Carried || leg.Lines[i].carried, leg.Fresh || !leg.Lines[i].carried
	}
}

// forget counts a line of this day that a newer word has replaced.
func (leg *Leg) forget(l *Line) {
	if !l.carried {
		leg.outdated++
	}
}

// onlyAhead says that the leg is nothing but the platform's row of a later day: it is
// the business of that day.
func (leg *Leg) onlyAhead(r *Rules) bool {
	return leg.lives() != nil && leg.platform.Day > r.Day && !leg.Fresh && len(leg.Lines) == 1
}

// readAnew gives the platform's lines of open legs what the platform knows now:
// they are rows that change, and what is kept of them is as old as the last run.
func readAnew(ctx context.Context, tx pgx.Tx, hospital string, rows []*legRow) error {
	kept := map[lineID]*Line{}
	var orders []string
	for _, r := range rows {
		for i := range r.kept {
			if l := &r.kept[i]; l.Side == Platform && l.Lived != nil {
				kept[l.id()] = l
				orders = append(orders, l.OrderNo)
			}
		}
	}
	if len(orders) == 0 {
		return nil
	}
	return clearing.StreamLegs(ctx, tx, clearing.LegQuery{Hospital: hospital, OrderNos: orders}, func(leg *clearing.Leg) error {
		line := platformLine(leg)
		if old := kept[line.id()]; old != nil {
			*old = *line
		}
		return nil
	})
}

// movedHere returns the row of another day that speaks of nothing but this leg's row of
// the platform, which has come to this day: nothing stands on that day any more.
func (h *hospitalRun) movedHere(leg *Leg, k legKeyRow) *legRow {
	if leg.lives() == nil || leg.Carried || !leg.Fresh {
		return nil
	}
	for _, r := range h.rows[k.named()] {
		only := !slices.ContainsFunc(r.kept, func(l Line) bool { return l.Side != Platform })
		if r.Day != k.Day && r.Open && !r.Decided && only {
			return r
		}
	}
	return nil
}

// lookAround is how many days before and after the platform's day of a refund the
// leg may stand that has its other sides.
const lookAround = 31

// standsElsewhere says that the leg is a refund of which this day knows only that the
// channel accepted it, and whose other sides have met on another day: that day, run
// again, takes the row in.
func (h *hospitalRun) standsElsewhere(ctx context.Context, leg *Leg) (is bool, err error) {
	if leg.lives() == nil || leg.Kind != channels.Refund || leg.row != nil || leg.Carried || len(leg.Lines) != 1 {
		return false, nil
	}
	var days []ledger.Day
	for n := -lookAround; n <= lookAround; n++ {
		if n != 0 {
			days = append(days, h.day.Add(n))
		}
	}
	err = h.engine.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			SELECT EXISTS (
				SELECT 1 FROM recon_legs
				WHERE hospital = $1 AND day = ANY($2::INT4[]) AND order_no = $3 AND kind = 'REFUND' AND refund_no = $4 AND code <> '' AND NOT open)`,
			leg.Hospital, days, leg.OrderNo, leg.RefundNo).Scan(&is)
	})
	if err != nil {
		return false, fmt.Errorf("look for the other sides of refund %s: %w", leg.RefundNo, err)
	}
	return is, nil
}
