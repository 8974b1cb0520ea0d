package pay

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// NewPayment asks for a payment.
type NewPayment struct {
	App        string // who asks: the principal's business app
	Key        string // the same on every try of one request
	Hospital   string
	Channel    string
	MerchantNo string // "" where the hospital has one number of the channel
	BillNo     string // of HIS: it has one live payment
	BizType    BizType
	Terminal   string
	Patient    string // opaque keyed reference, "" for none
	Way        channels.Way
	Amount     ledger.Money
	AuthCode   string // WayCode; it is never stored
	Payer      string // WayJSAPI
	ClientIP   string
	ExpiresAt  time.Time // zero: two hours, and none for WayCode
	Replace    bool      // close another open payment of the bill first
}

// canon is the canonical request, version 1. An auth code lives for a minute and
// belongs to the try, not to the request; nor does a replacement change it.
func (n *NewPayment) canon() []byte {
	text, err := json.Marshal(struct {
		Hospital   string `json:"hospital"`
		Channel    string `json:"channel"`
		MerchantNo string `json:"merchant_no"`
		BillNo     string `json:"bill_no"`
		BizType    string `json:"biz_type"`
		Terminal   string `json:"terminal"`
		Patient    string `json:"patient_ref"`
		Way        string `json:"way"`
		Amount     int64  `json:"amount_fen"`
	}{n.Hospital, n.Channel, n.MerchantNo, n.BillNo, string(n.BizType), n.Terminal, n.Patient, string(n.Way), int64(n.Amount)})
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	return text
}

// The forms of payment codes: WeChat 18 digits with prefix 10 to 15 (B11,
// spec/channels.md A.6), Alipay 16 to 24 digits with prefix 25 to 30, UnionPay 19
// digits with prefix 62.
var authCodes = map[string]*regexp.Regexp{
	channels.WeChat:   regexp.MustCompile(`^1[0-5][0-9]{16}$`),
	channels.Alipay:   regexp.MustCompile(`^(2[5-9]|30)[0-9]{14,22}$`),
	channels.UnionPay: regexp.MustCompile(`^62[0-9]{17}$`),
}

var (
	billForm = regexp.MustCompile(`^[0-9A-Za-z_.:-]{1,64}$`)
	ways     = []channels.Way{channels.WayCode, channels.WayQR, channels.WayJSAPI, channels.WayApp, channels.WayH5, channels.WayPage}
)

// expiry is how long a payer has where the app names no time, and the most that
// it may name: a code that stays is a static code, which is refused for bills (L14).
const (
	expiry    = 2 * time.Hour
	maxExpiry = 24 * time.Hour
)

// check refuses what needs no database, and returns the merchant number.
func (n *NewPayment) check(t *terms, now time.Time) (*clearing.Merchant, error) {
	app, ok := t.App(n.App)
	if !ok || !slices.Contains(app.Hospitals, n.Hospital) {
		return nil, ErrNotAllowed.Because("hospital", "app %q may not act for hospital %q", n.App, n.Hospital)
	}
	hospital, ok := t.Hospital(n.Hospital)
	switch {
	case !ok:
		return nil, ErrNotFound.Because("hospital", "%q is not set up", n.Hospital)
	case n.Key == "" || len(n.Key) > 128:
		return nil, ErrField.Because("idempotency_key", "must be 1 to 128 characters")
	case !billForm.MatchString(n.BillNo):
		return nil, ErrField.Because("bill_no", "%q must be 1 to 64 letters, digits and _.:-", n.BillNo)
	case n.Amount <= 0 || n.Amount > channels.MaxAmount:
		return nil, ErrField.Because("amount_fen", "%d must be above zero and at most %d", n.Amount, channels.MaxAmount)
	case !slices.Contains(ways, n.Way):
		return nil, ErrField.Because("way", "%q is not a way to pay", n.Way)
	case operations[n.BizType] == nil:
		return nil, ErrField.Because("biz_type", "%q is not a business with an order of steps", n.BizType)
	case n.BizType == CardTopUp && hospital.Ownership == clearing.Public:
		return nil, ErrNotAllowed.Because("biz_type", "a public hospital takes no prepayment of outpatients since 2025-03-31 (国卫办财务发〔2025〕5号): 就诊卡充值 is refused, its balance may be refunded")
	case n.Way == channels.WayCode && (authCodes[n.Channel] == nil || !authCodes[n.Channel].MatchString(n.AuthCode)):
		return nil, ErrField.Because("auth_code", "is not a payment code of %s: its digits or prefix are wrong, scan again", n.Channel)
	case n.Way == channels.WayJSAPI && n.Payer == "":
		return nil, ErrField.Because("payer", "is missing: inside the channel's app the payer is known")
	case !n.ExpiresAt.IsZero() && (!n.ExpiresAt.After(now) || n.ExpiresAt.After(now.Add(maxExpiry))):
		return nil, ErrField.Because("expires_at", "must be after now and at most 24 hours away: a code that stays is refused for bills")
	}
	return n.merchant(t)
}

func (n *NewPayment) merchant(t *terms) (*clearing.Merchant, error) {
	var found *clearing.Merchant
	for _, m := range t.Merchants {
		if m.Hospital != n.Hospital || m.Channel != n.Channel || (n.MerchantNo != "" && m.No != n.MerchantNo) {
			continue
		}
		if found != nil {
			return nil, ErrField.Because("merchant_no", "hospital %s has several numbers of %s: say which", n.Hospital, n.Channel)
		}
		found = m
	}
	if found == nil {
		return nil, ErrNotAllowed.Because("merchant_no", "hospital %s has no such number of %s: %q", n.Hospital, n.Channel, n.MerchantNo)
	}
	return found, nil
}

// payment is the row as it is first stored. It is due once the answer to the
// first call would have come, so that a crash between the two is noticed.
func (n *NewPayment) payment(m *clearing.Merchant, now time.Time) *Payment {
	p := &Payment{
		Hospital: n.Hospital, OrderNo: number("HP", ledger.DayOf(now), n.App, n.Key), App: n.App, Channel: m.Channel, MerchantNo: m.No,
		BillNo: n.BillNo, BizType: string(n.BizType), Terminal: n.Terminal, Patient: n.Patient, Way: n.Way, Amount: n.Amount,
		Status: Created, OccurredAt: now.Truncate(time.Microsecond), ExpiresAt: n.ExpiresAt, Day: ledger.DayOf(now), Live: true,
		Act: channels.ActQuery, NextAt: now.Add(recoverAfter), fresh: true,
	}
	if p.ExpiresAt.IsZero() && p.Way != channels.WayCode {
		p.ExpiresAt = now.Add(expiry)
	}
	return p
}

// recoverAfter is past every channel's time-out of a payment call.
const recoverAfter = 40 * time.Second

// createVerb stores payments, one live one per bill.
var createVerb = &ledger.Verb[*Payment]{Name: "pay.create", Run: runCreate}

func runCreate(ctx context.Context, b *ledger.Batch, cmds []*Payment) []ledger.Outcome {
	outcomes := make([]ledger.Outcome, len(cmds))
	live, err := readLive(ctx, b.Tx(), cmds)
	if err != nil {
		return b.Fail(err)
	}
	made := map[key]*Payment{}
	for i, p := range cmds {
		bill := key{p.Hospital, p.BillNo}
		switch other := live[bill]; {
		case other == nil:
			live[bill], made[key{p.Hospital, p.OrderNo}], outcomes[i].Body = p, p, p.OrderNo
		case other.Status == Success:
			outcomes[i].Err = ErrPaid.Because("bill_no", "bill %s is paid by %s", p.BillNo, other.OrderNo)
		default:
			outcomes[i].Err = ErrLive.Because("bill_no", "payment %s of bill %s is under way (%s): close it first", other.OrderNo, p.BillNo, other.Status)
		}
	}
	writePayments(b, made)
	return outcomes
}

func readLive(ctx context.Context, q db.Queryer, cmds []*Payment) (map[key]*Payment, error) {
	hospitals, bills := make([]string, len(cmds)), make([]string, len(cmds))
	for i, p := range cmds {
		hospitals[i], bills[i] = p.Hospital, p.BillNo
	}
	rows, err := q.Query(ctx, `
		SELECT p.hospital, p.bill_no, p.order_no, p.status FROM unnest($1::text[], $2::text[]) AS asked(hospital, bill_no)
		JOIN payments AS p ON p.hospital = asked.hospital AND p.bill_no = asked.bill_no AND p.live`, hospitals, bills)
	if err != nil {
		return nil, fmt.Errorf("read live payments: %w", err)
	}
	live := map[key]*Payment{}
	var p Payment
	_, err = pgx.ForEachRow(rows, []any{&p.Hospital, &p.BillNo, &p.OrderNo, &p.Status}, func() error {
		other := p
		live[key{p.Hospital, p.BillNo}] = &other
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read live payments: %w", err)
	}
	return live, nil
}
