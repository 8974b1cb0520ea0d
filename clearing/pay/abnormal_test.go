package pay

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

var (
	working    = channels.RefundAnswer{Outcome: channels.OutcomePending, RefundID: "WX1"}
	abnormal   = channels.RefundAnswer{Outcome: channels.OutcomePending, RefundID: "WX1", Abnormal: true, Reason: channels.Reason{Kind: channels.ReasonAccount, Code: "ABNORMAL"}}
	noWord     = channels.RefundAnswer{Outcome: channels.OutcomeUnknown, Reason: channels.Reason{Kind: channels.ReasonNetwork}}
	toPayer    = channels.RefundAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000, PaidTo: channels.PaidToPayer}
	toMerchant = channels.RefundAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000, PaidTo: channels.PaidToMerchant}
	toNobody   = channels.RefundAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000}
	backClosed = channels.RefundAnswer{Outcome: channels.OutcomeFailed, Closed: true}
	notTaken   = channels.RefundAnswer{Outcome: channels.OutcomeFailed, Reason: channels.Reason{Kind: channels.ReasonSetup, Code: "NO_AUTH", Text: "无权限"}}
)

// held is what stands while the channel holds an abnormal refund.
var held = map[string]ledger.Money{"1125.WX.1900000109": 10000, "2205.WX.1900000109": 10000}

// abnormalRefund is a refund of 100.00 that the channel took and then called abnormal.
func (k *desk) abnormalRefund(n string) *Refund {
	k.t.Helper()
	p := k.acked("k"+n, "B"+n, 10000)
	k.outside.refunds = []channels.RefundAnswer{working, abnormal}
	r, err := k.refund("r"+n, p.OrderNo, 10000)
	if err == nil {
		r, err = k.Refunds.Query(k.t.Context(), "H1", r.RefundNo)
	}
	if err != nil || r.Status != RefundSuccess || !r.Abnormal || r.ChannelRefundNo != "WX1" {
		k.t.Fatal(r, err)
	}
	k.balances(held)
	return r
}

func (k *desk) applies(no string) *Refund {
	k.t.Helper()
	r, err := k.ApplyAbnormal(k.t.Context(), "H1", no, "apply "+no+k.now.String(), "maker")
	if err == nil {
		r, err = k.DecideAbnormal(k.t.Context(), "H1", no, "head", true, "")
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

// arrives is a line on the statement of the hospital's bank account.
func (k *desk) arrives(no, ref string, fen ledger.Money) bool {
	k.t.Helper()
	dir, err := k.current(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	var brings []bool
	verb := &ledger.Verb[Arrival]{Name: "test.arrival", Run: func(ctx context.Context, b *ledger.Batch, cmds []Arrival) []ledger.Outcome {
		if brings, err = PostArrivals(ctx, b, dir.Directory, cmds); err != nil {
			return b.Fail(err)
		}
		return make([]ledger.Outcome, len(cmds))
	}}
	line := Arrival{Hospital: "H1", RefundNo: no, Account: "6801", BankRef: ref, Day: ledger.DayOf(k.now), Amount: fen}
	if _, err := ledger.Submit(k.t.Context(), k.Committer, verb, ledger.Request{}, line); err != nil {
		k.t.Fatal(err)
	}
	return brings[0]
}

func (k *desk) asks(no string, answer channels.RefundAnswer) *Refund {
	k.t.Helper()
	k.outside.refunds = []channels.RefundAnswer{answer}
	r, err := k.Refunds.Query(k.t.Context(), "H1", no)
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

// TestAnAbnormalRefundIsNotLost: it is shown with what to do, asked for after 1, 3 and
// 7 days and every week (spec/reconciliation.md 2.4), and ends by the channel's word.
func TestAnAbnormalRefundIsNotLost(t *testing.T) {
	k := newDesk(t)
	r := k.abnormalRefund("1")
	if r.Act != channels.ActQuery || !strings.Contains(r.ToDo().ZH, "商户平台") || !strings.Contains(r.ToDo().EN, "ApplyAbnormalRefund") || r.Reason.Code != "ABNORMAL" {
		t.Errorf("%+v: %+v", r, r.ToDo())
	}
	if list, err := k.Waiting(t.Context(), "H1", Abnormal); err != nil || len(list) != 1 || list[0].RefundNo != r.RefundNo {
		t.Errorf("%v, %v", list, err)
	}
	accepted := r.AcceptedAt
	for _, days := range []int{1, 3, 7, 14, 21} {
		if after := r.NextAt.Sub(accepted); after != time.Duration(days)*24*time.Hour {
			t.Errorf("asked after %s, want %d days", after, days)
		}
		k.now = r.NextAt
		k.outside.refunds = []channels.RefundAnswer{abnormal}
		if n, err := k.Refunds.Poll(t.Context(), k.now, 10); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		r, _ = k.Refunds.Get(t.Context(), "H1", r.RefundNo)
	}
	if r = k.asks(r.RefundNo, toPayer); r.SuccessAt.IsZero() || r.Abnormal || r.ToDo().ZH != "" {
		t.Errorf("%+v", r)
	}
	k.balances(nil)
	k.verify()
	if got := strings.Join(k.notices(), " "); !strings.HasSuffix(got, "REFUND_ABNORMAL REFUND_FINAL") {
		t.Errorf("the app was told %s", got)
	}
}

// The channel's answer got lost, and when it is asked the refund is abnormal already:
// the app is told that, and not that its patient has the money.
func TestTheAppIsToldOfARefundThatIsAbnormalAtFirstSight(t *testing.T) {
	k := newDesk(t)
	p := k.acked("k1", "B1", 10000)
	k.outside.refunds = []channels.RefundAnswer{noWord, abnormal}
	r, err := k.refund("r1", p.OrderNo, 10000)
	if err == nil {
		r, err = k.Refunds.Query(t.Context(), "H1", r.RefundNo)
	}
	if err != nil || r.Status != RefundSuccess || !r.Abnormal {
		t.Fatal(r, err)
	}
	k.balances(held)
	k.asks(r.RefundNo, toPayer)
	if got := strings.Join(k.notices(), " "); !strings.HasSuffix(got, "REFUND_OWED REFUND_ABNORMAL REFUND_FINAL") {
		t.Errorf("the app was told %s", got)
	}
}

// TestTheChannelsWordEndsAnAbnormalRefund is the table of its ends.
func TestTheChannelsWordEndsAnAbnormalRefund(t *testing.T) {
	back := map[string]ledger.Money{"1122.WX.1900000109": 10000, "2206.WX.1900000109": 60, "6601.H1": 60, "2205.WX.1900000109": 10000}
	for _, c := range []struct {
		name     string
		applied  bool
		words    []channels.RefundAnswer
		balances map[string]ledger.Money
		abnormal bool
		state    ApplicationState
	}{
		{"paid to the payer's card", false, []channels.RefundAnswer{working, toPayer}, nil, false, ""},
		{"paid, the channel does not say to whom", false, []channels.RefundAnswer{toNobody}, nil, false, ""},
		{"closed", false, []channels.RefundAnswer{backClosed}, back, false, ""},
		{"paid to the merchant, on the merchant platform", false, []channels.RefundAnswer{toMerchant, toMerchant, noWord}, held, true, ApplicationPaid},
		{"applied for, under way", true, []channels.RefundAnswer{working, noWord}, held, true, ApplicationSent},
		{"applied for, paid to the merchant", true, []channels.RefundAnswer{working, toMerchant}, held, true, ApplicationPaid},
		{"applied for, paid, the channel does not say to whom", true, []channels.RefundAnswer{toNobody}, held, true, ApplicationSent},
		{"applied for, and paid to the payer all the same", true, []channels.RefundAnswer{toPayer}, nil, false, ApplicationEnded},
		{"applied for, and closed", true, []channels.RefundAnswer{backClosed}, back, false, ApplicationEnded},
		{"applied for, abnormal still: not taken", true, []channels.RefundAnswer{noWord, abnormal}, held, true, ApplicationEnded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := newDesk(t)
			r := k.abnormalRefund("1")
			if c.applied {
				r = k.applies(r.RefundNo)
			}
			k.now = k.now.Add(2 * time.Minute)
			for _, word := range c.words {
				r = k.asks(r.RefundNo, word)
			}
			k.balances(c.balances)
			k.verify()
			found, err := readApplicationOf(k, r.RefundNo)
			state := ApplicationState("")
			if found != nil {
				state = found.State
			}
			if err != nil || r.Abnormal != c.abnormal || state != c.state {
				t.Errorf("abnormal %t, application %q, %v: %+v", r.Abnormal, state, err, r)
			}
			if sent := len(k.sent("apply WX1")); sent != map[bool]int{true: 1}[c.applied] {
				t.Errorf("applied for %d times: %v", sent, k.calls)
			}
		})
	}
}

func readApplicationOf(k *desk, no string) (x *Application, err error) {
	tx, err := k.DB.Pool.Begin(k.t.Context())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback(k.t.Context())) }()
	found, err := readApplications(k.t.Context(), tx, []key{{"H1", no}})
	return found[key{"H1", no}], err
}

// sent are the calls of one kind.
func (k *desk) sent(call string) []string {
	return slices.DeleteFunc(slices.Clone(k.calls), func(s string) bool { return !strings.HasPrefix(s, call) })
}

// TestApplyingTakesTwoPeopleAndOneCall: the key says it once, the second person is
// another one, the channel is asked once whatever it answers, and a refusal may be
// followed by another request.
func TestApplyingTakesTwoPeopleAndOneCall(t *testing.T) {
	k := newDesk(t)
	r := k.abnormalRefund("1")
	ctx, no := t.Context(), r.RefundNo
	for range 2 {
		if r, err := k.ApplyAbnormal(ctx, "H1", no, "key", "maker"); err != nil || r.Application == nil || r.Application.State != ApplicationAsked {
			t.Fatal(r, err)
		}
	}
	other := k.acked("k2", "B2", 10000)
	k.outside.refunds = []channels.RefundAnswer{working}
	r2, err := k.refund("r2", other.OrderNo, 10000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		do   func() (*Refund, error)
		want error
	}{
		{"the key for another refund", func() (*Refund, error) { return k.ApplyAbnormal(ctx, "H1", r2.RefundNo, "key", "maker") }, ledger.ErrKeyConflict},
		{"asked twice", func() (*Refund, error) { return k.ApplyAbnormal(ctx, "H1", no, "key2", "maker") }, ErrState},
		{"of a refund that is not abnormal", func() (*Refund, error) { return k.ApplyAbnormal(ctx, "H1", r2.RefundNo, "key3", "maker") }, ErrState},
		{"without a key", func() (*Refund, error) { return k.ApplyAbnormal(ctx, "H1", no, "", "maker") }, ErrField},
		{"maker = checker", func() (*Refund, error) { return k.DecideAbnormal(ctx, "H1", no, "MAKER", true, "") }, ErrTwoPeople},
		{"a decision about nothing", func() (*Refund, error) { return k.DecideAbnormal(ctx, "H1", r2.RefundNo, "head", true, "") }, ErrState},
	} {
		if _, err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if len(k.sent("apply")) != 0 {
		t.Fatalf("the channel was asked before the second person: %v", k.calls)
	}
	if r, err = k.DecideAbnormal(ctx, "H1", no, "head", false, "the card works again"); err != nil || r.Application.State != ApplicationRejected || len(k.sent("apply")) != 0 {
		t.Fatal(r, err)
	}
	for i, answer := range []channels.RefundAnswer{notTaken, noWord} {
		k.now = k.now.Add(time.Hour)
		k.outside.refunds = []channels.RefundAnswer{answer}
		k.applies(no)
		if r, err = k.DecideAbnormal(ctx, "H1", no, "head", true, ""); err != nil || len(k.sent("apply WX1 "+no)) != i+1 {
			t.Errorf("%v, %v: %v", r, err, k.calls)
		}
		if i == 0 && (r.Application.State != ApplicationEnded || r.Application.Reason != "NO_AUTH 无权限" || r.NextAt.Sub(r.AcceptedAt) != 24*time.Hour) {
			t.Errorf("refused: %+v", r.Application)
		}
	}
	if r.Application.State != ApplicationSent || r.Act != channels.ActQuery {
		t.Errorf("without an answer: %+v", r.Application)
	}
	k.balances(map[string]ledger.Money{"1125.WX.1900000109": 20000, "2205.WX.1900000109": 20000})
	k.verify()
	if got := k.journals(); strings.Contains(got, "E20") {
		t.Error(got)
	}
}

// TestTheMerchantsBankAccountHasTheMoney: E20c is posted by the line on the statement,
// once, and the debt to the patient stays until J39; the channel's word changes nothing
// any more.
func TestTheMerchantsBankAccountHasTheMoney(t *testing.T) {
	k := newDesk(t)
	r := k.abnormalRefund("1")
	r = k.applies(r.RefundNo)
	if k.arrives(r.RefundNo, "BANK0", 9999) {
		t.Error("a line of another amount brings the money")
	}
	k.balances(held)
	arrived := map[string]ledger.Money{"1002.HOSP.6801": 10000, "2205.WX.1900000109": 10000}
	for range 2 {
		if !k.arrives(r.RefundNo, "BANK1", 10000) {
			t.Error("the line brings nothing")
		}
		k.balances(arrived)
	}
	if k.arrives(r.RefundNo, "BANK2", 10000) {
		t.Error("two lines bring the same money")
	}
	for _, word := range []channels.RefundAnswer{toMerchant, working, abnormal, noWord} {
		r = k.asks(r.RefundNo, word)
	}
	if r.Application.State != ApplicationArrived || !strings.Contains(r.ToDo().ZH, "J39") {
		t.Errorf("%+v", r.Application)
	}
	k.outside.refunds = []channels.RefundAnswer{toPayer}
	if _, err := k.Refunds.Query(t.Context(), "H1", r.RefundNo); !errors.Is(err, ErrDiffers) {
		t.Errorf("paid twice by the channel's word: %v", err)
	}
	if n, err := k.Refunds.Poll(t.Context(), k.now.Add(1000*time.Hour), 10); n != 0 || err != nil {
		t.Errorf("%d are asked for, %v", n, err)
	}
	k.balances(arrived)
	k.verify()
}

// TestWhereTheChannelTakesNoApplication: V2 and Alipay have no such call; a trade that
// Alipay has frozen is sent again by itself.
func TestWhereTheChannelTakesNoApplication(t *testing.T) {
	k := newDesk(t)
	n := codePayment("k1", "B1", 10000)
	n.Channel, n.AuthCode = channels.Alipay, "283456789012345678"
	p := k.pay(n)
	if _, err := k.Acknowledge(t.Context(), Caller{}, "H1", p.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: 10000}); err != nil {
		t.Fatal(err)
	}
	frozen := channels.RefundAnswer{Outcome: channels.OutcomeUnknown, Retry: true, Reason: channels.Reason{Kind: channels.ReasonNotRefundable, Code: "ACQ.REASON_TRADE_BEEN_FREEZEN"}}
	k.outside.refunds = []channels.RefundAnswer{frozen}
	r, err := k.refund("r1", p.OrderNo, 10000)
	if err != nil || r.Status != RefundOwed || r.Act != channels.ActResend || !strings.Contains(r.ToDo().ZH, "冻结") {
		t.Fatal(r, err)
	}
	if _, err := k.ApplyAbnormal(t.Context(), "H1", r.RefundNo, "key", "maker"); !errors.Is(err, ErrState) {
		t.Errorf("%v", err)
	}
	k.balances(map[string]ledger.Money{"1122.ALI.20880000000000010156": 10000, "2205.ALI.20880000000000010156": 10000, "2206.ALI.20880000000000010156": 60, "6601.H1": 60})
	k.asks(r.RefundNo, abnormal)
	if _, err := k.ApplyAbnormal(t.Context(), "H1", r.RefundNo, "key2", "maker"); !errors.Is(err, ErrNoCall) || !strings.Contains(AdviseRefusal(err, true).ZH, "商户平台") {
		t.Errorf("%v", err)
	}
	k.verify()
}

// TestEveryApplicationHasItsWords: what is to be done is said in both languages.
func TestEveryApplicationHasItsWords(t *testing.T) {
	for _, state := range []ApplicationState{"", ApplicationAsked, ApplicationSent, ApplicationPaid, ApplicationArrived, ApplicationRerouted, ApplicationRejected, ApplicationEnded} {
		r := Refund{Status: RefundSuccess, Abnormal: true, Application: &Application{State: state}}
		if do, tell := r.ToDo(), r.Advise(); do.ZH == "" || do.EN == "" || tell.ZH == "" || tell.EN == "" || do.ChargeAgain {
			t.Errorf("%q: %+v, %+v", state, do, tell)
		}
	}
}

// TestAnEntryOfEveryAbnormalEndBalancesInModeB: E20c takes the custody account there.
func TestAnAbnormalRefundOfModeBArrivesAtCustody(t *testing.T) {
	k := newDesk(t)
	dir, err := k.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m, _ := dir.Merchant(channels.WeChat, "1900000209")
	bank, _ := dir.Bank("H2", "8801")
	e, err := clearing.NewEntry(clearing.Event{Merchant: m, Bank: bank, BankRef: "L1", Day: ledger.DayOf(k.now), Order: "O1", Refund: "R1", Amount: 3000, Maker: "recon"}, "E20c")
	if err != nil || len(e.Postings()) != 1 {
		t.Fatal(e, err)
	}
	if p := e.Postings()[0]; p.Debit.Account != clearing.BankMoney(bank).ID() || p.Credit.Account != clearing.RefundTaken(m).ID() || p.Amount != 3000 {
		t.Errorf("%+v", p)
	}
}

// Reconciliation matches a day anew where the channel's answer is news to it (S9), and
// only there.
func TestConfirmTellsNewsFromWhatIsKnown(t *testing.T) {
	k := newDesk(t)
	k.outside.answers = []channels.PayAnswer{unknown}
	open := k.pay(codePayment("k1", "B1", 5000))
	digest := func(table, column, no string) (read int64) { // as a run reads it
		t.Helper()
		if err := k.DB.Pool.QueryRow(t.Context(), `SELECT digest FROM `+table+` WHERE `+column+` = $1`, no).Scan(&read); err != nil {
			t.Fatal(err)
		}
		return read
	}
	for _, c := range []struct {
		said channels.PayAnswer
		news bool
	}{{unknown, false}, {paid(5000), true}, {paid(5000), false}, {channels.PayAnswer{Outcome: channels.OutcomeFailed}, false}} {
		k.outside.answers = []channels.PayAnswer{c.said}
		if news, err := k.Payments.Confirm(t.Context(), "H1", open.OrderNo, digest("payments", "order_no", open.OrderNo)); err != nil || news != c.news {
			t.Errorf("payment, %s: news %t, %v", c.said.Outcome, news, err)
		}
	}
	p := k.acked("k2", "B2", 10000)
	k.outside.refunds = []channels.RefundAnswer{working}
	r, err := k.refund("r1", p.OrderNo, 10000)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		said channels.RefundAnswer
		news bool
	}{{working, false}, {abnormal, true}, {abnormal, false}, {toPayer, true}, {toPayer, false}} {
		k.outside.refunds = []channels.RefundAnswer{c.said}
		if news, err := k.Refunds.Confirm(t.Context(), "H1", r.RefundNo, digest("refunds", "refund_no", r.RefundNo)); err != nil || news != c.news {
			t.Errorf("refund, %s, abnormal %t: news %t, %v", c.said.Outcome, c.said.Abnormal, news, err)
		}
	}
	if news, err := k.Payments.Confirm(t.Context(), "H1", open.OrderNo, 1); !news || err != nil {
		t.Errorf("what came before the question is no news: %t, %v", news, err)
	}
	if news, err := k.Payments.Confirm(t.Context(), "H1", "HP1", 1); !news || !errors.Is(err, ErrNotFound) {
		t.Errorf("an answer that nobody has is no news: %t, %v", news, err)
	}
	k.verify()
}
