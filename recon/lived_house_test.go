package recon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	paying "github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
)

// livedHouse is the house of the sample hospital whose patients pay through the
// platform. What the channel answers next is scripted; else it says yes.
type livedHouse struct {
	*house
	*paying.House
	mu       sync.Mutex
	payments paying.Payments
	refunds  paying.Refunds
	answers  []channels.PayAnswer
	backs    []channels.RefundAnswer
	n        int
	words    map[string]channels.PayAnswer    // of queries, by order
	ends     map[string]channels.RefundAnswer // of refunds asked about again, by number
	asked    int
	his      channels.HISGateway // nil where the app calls it
}

func newLivedHouse(t testing.TB) *livedHouse {
	t.Helper()
	return newLivedHouseOf(t, filepath.Join(sampleDir, "setup.yaml"))
}

func newLivedHouseOf(t testing.TB, setup string) *livedHouse {
	t.Helper()
	h := &livedHouse{house: newHouse(t)}
	text, err := os.ReadFile(setup)
	h.must(err)
	lived := strings.Replace(string(text), "hospitals:\n", "apps: [{name: KIOSK, hospitals: [H1]}]\nhospitals:\n", 1)
	lived = strings.Replace(lived, "his_calls: APP\n", "his_calls: APP\n    refund_policy: [{from: \"2026-01-01\", cashier_limit_fen: 50000, head_limit_fen: 1000000}]\n", 1)
	_, err = clearing.Setup(t.Context(), h.db, strings.NewReader(lived))
	h.must(err)
	h.clock = time.Date(2026, 9, 15, 4, 0, 0, 0, time.UTC)
	h.House = &paying.House{DB: h.db, Committer: h.committer, Outside: h, Now: func() time.Time { return h.clock }}
	h.payments, h.refunds = paying.Payments{House: h.House}, paying.Refunds{House: h.House}
	return h
}

func (h *livedHouse) Gateway(string, string) (channels.Gateway, error) { return scripted{h}, nil }
func (h *livedHouse) HIS(string) (channels.HISGateway, error) {
	if h.his != nil {
		return h.his, nil
	}
	return nil, errors.New("the app calls HIS")
}

// scripted is the channel.
type scripted struct{ h *livedHouse }

func (g scripted) answer(usual channels.PayAnswer) channels.PayAnswer {
	if len(g.h.answers) > 0 {
		usual, g.h.answers = g.h.answers[0], g.h.answers[1:]
	}
	return usual
}

func (g scripted) back(no string, amount ledger.Money) channels.RefundAnswer {
	g.h.mu.Lock()
	defer g.h.mu.Unlock()
	if end, ok := g.h.ends[no]; ok {
		return end
	}
	said := channels.RefundAnswer{Outcome: channels.OutcomeSucceeded, Amount: amount}
	if len(g.h.backs) > 0 {
		said, g.h.backs = g.h.backs[0], g.h.backs[1:]
	}
	return said
}

func (g scripted) Pay(_ context.Context, r channels.PayRequest) channels.PayAnswer {
	return g.answer(channels.PayAnswer{Outcome: channels.OutcomeSucceeded, Amount: r.Amount, TradeNo: "T" + r.OrderNo})
}
func (g scripted) Query(_ context.Context, order string) channels.PayAnswer {
	g.h.mu.Lock()
	defer g.h.mu.Unlock()
	g.h.asked++
	if word, ok := g.h.words[order]; ok {
		return word
	}
	return g.answer(silent)
}
func (g scripted) Reverse(context.Context, string) channels.PayAnswer {
	return g.answer(channels.PayAnswer{Outcome: channels.OutcomeFailed, Reversed: true})
}
func (g scripted) Close(context.Context, string) channels.PayAnswer {
	return g.answer(channels.PayAnswer{Outcome: channels.OutcomeFailed, Closed: true})
}
func (g scripted) Refund(_ context.Context, r channels.RefundRequest) channels.RefundAnswer {
	return g.back(r.RefundNo, r.Amount)
}
func (g scripted) QueryRefund(_ context.Context, r channels.RefundRequest) channels.RefundAnswer {
	return g.back(r.RefundNo, r.Amount)
}
func (g scripted) ParseNotice(http.Header, []byte) (channels.Notice, error) {
	return channels.Notice{}, channels.ErrNotice
}
func (g scripted) NoticeReply(error) channels.NoticeReply { return channels.NoticeReply{} }
func (g scripted) FetchBill(context.Context, channels.BillKind, ledger.Day) (io.ReadCloser, error) {
	return nil, channels.ErrNoBill
}
func (g scripted) Plan(channels.Way) channels.Plan { return channels.PlanWeChatCode }

var (
	silent  = channels.PayAnswer{Outcome: channels.OutcomeUnknown, Reason: channels.Reason{Kind: channels.ReasonNetwork}}
	refused = channels.PayAnswer{Outcome: channels.OutcomeFailed, Reason: channels.Reason{Code: "NOTENOUGH"}}
	// Paid at 12:00, given back by a reversal.
	reversed = channels.PayAnswer{Outcome: channels.OutcomeFailed, Reversed: true, Refunded: true, SuccessAt: sampleDay.Start().Add(12 * time.Hour)}
	noWord   = channels.RefundAnswer{Outcome: channels.OutcomeUnknown, Reason: channels.Reason{Kind: channels.ReasonNetwork}}
	working  = channels.RefundAnswer{Outcome: channels.OutcomePending}
	closed   = channels.RefundAnswer{Outcome: channels.OutcomeFailed, Reason: channels.Reason{Code: "CLOSED"}}
)

// paid is a code payment, with what the channel answers first.
func (h *livedHouse) paid(fen ledger.Money, answers ...channels.PayAnswer) *paying.Payment {
	h.t.Helper()
	h.n++
	return h.pays(fmt.Sprint("LB", h.n), fen, answers...)
}

// again is another payment of the same bill.
func (h *livedHouse) again(p *paying.Payment) *paying.Payment {
	h.t.Helper()
	h.n++
	return h.pays(p.BillNo, p.Amount)
}

func (h *livedHouse) pays(bill string, fen ledger.Money, answers ...channels.PayAnswer) *paying.Payment {
	h.t.Helper()
	h.answers = answers
	p, err := h.payments.Create(h.t.Context(), paying.NewPayment{App: "KIOSK", Key: fmt.Sprint("k", h.n), Hospital: "H1", Channel: channels.WeChat,
		BillNo: bill, BizType: paying.Outpatient, Terminal: "T1", Way: channels.WayCode, Amount: fen, AuthCode: "134567890123456789"})
	h.must(err)
	return p
}

// acks is HIS's word on a payment.
func (h *livedHouse) acks(p *paying.Payment, fen ledger.Money) {
	h.t.Helper()
	_, err := h.payments.Acknowledge(h.t.Context(), paying.Caller{}, "H1", p.OrderNo, channels.HISAnswer{Outcome: channels.OutcomeSucceeded, Amount: fen})
	h.must(err)
}

// asks asks the channel about a payment again.
func (h *livedHouse) asks(p *paying.Payment, answer channels.PayAnswer) *paying.Payment {
	h.t.Helper()
	h.answers = []channels.PayAnswer{answer}
	p, err := h.payments.Query(h.t.Context(), "H1", p.OrderNo)
	h.must(err)
	return p
}

// gives gives all of a payment back, which HIS has voided.
func (h *livedHouse) gives(p *paying.Payment, answers ...channels.RefundAnswer) *paying.Refund {
	h.t.Helper()
	h.n++
	h.backs = answers
	r, err := h.refunds.Create(h.t.Context(), paying.NewRefund{App: "KIOSK", Key: fmt.Sprint("k", h.n), Hospital: "H1", OrderNo: p.OrderNo, Amount: p.Amount,
		Cause: channels.CauseDuplicate, Maker: "c1", HISCancelled: true, HISAllows: p.Amount})
	h.must(err)
	return r
}

// asksRefund asks the channel about a refund again.
func (h *livedHouse) asksRefund(r *paying.Refund, answer channels.RefundAnswer) *paying.Refund {
	h.t.Helper()
	h.backs = []channels.RefundAnswer{answer}
	r, err := h.refunds.Query(h.t.Context(), "H1", r.RefundNo)
	h.must(err)
	return r
}

// at sets the clock, in Beijing.
func (h *livedHouse) at(day ledger.Day, hour, minute int) {
	h.clock = day.Start().Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute).UTC()
}

// held counts the rows for which reconciliation posts.
func (h *livedHouse) held() string {
	return h.column(`SELECT ((SELECT COUNT(*) FROM payments WHERE held) + (SELECT COUNT(*) FROM refunds WHERE held))::TEXT`)[0]
}
