// Package pay makes payments and refunds: it asks the channels, tells HIS and the
// business apps, and posts what happened.
//
// Its invariants: a bill has one live payment; money is posted once, in the
// transaction that changes the row's state, and only by a channel's own word; an
// unknown outcome stays unknown until a query, a notice or a bill turns it; HIS
// cancels before any refund leaves; a refund number is sent with the same values
// however often; what is asked back and what was given back never pass the payment.
package pay

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// Outside finds the connections to the outside world; the API fills it from the
// master data and the secrets.
type Outside interface {
	Gateway(channel, merchantNo string) (channels.Gateway, error)
	HIS(hospital string) (channels.HISGateway, error)
}

// House is what payments and refunds share: the books, the outside, the clock
// and one reading of the master data, which is read again after Reload.
type House struct {
	DB        *db.DB
	Committer *ledger.Committer
	Outside   Outside
	Now       func() time.Time

	mu    sync.Mutex
	terms *terms
}

// terms are the master data as they were last read.
type terms struct {
	*clearing.Directory
	*clearing.Wiring
	read time.Time
}

// termsFor is how long master data is taken for true before it is read again.
const termsFor = 30 * time.Second

// Reload makes the next command read the master data again.
func (h *House) Reload() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.terms = nil
}

func (h *House) current(ctx context.Context) (*terms, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.Now()
	if h.terms != nil && now.Sub(h.terms.read) < termsFor {
		return h.terms, nil
	}
	t := &terms{read: now}
	err := h.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if t.Directory, err = clearing.LoadMerchants(ctx, tx); err != nil {
			return err
		}
		t.Wiring, err = clearing.LoadWiring(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	h.terms = t
	return t, nil
}

// PlatformCalls says that the platform calls the hospital's HIS, not the app (B23);
// ErrNotFound where there is no such hospital.
func (h *House) PlatformCalls(ctx context.Context, hospital string) (bool, error) {
	t, err := h.current(ctx)
	if err != nil {
		return false, err
	}
	if _, ok := t.Hospital(hospital); !ok {
		return false, ErrNotFound.Because("hospital", "%q is not set up", hospital)
	}
	return t.platformCalls(hospital), nil
}

// platformCalls says that the platform calls the hospital's HIS, not the app (B23).
func (t *terms) platformCalls(hospital string) bool {
	h, ok := t.Hospital(hospital)
	return ok && h.HISCalls == "PLATFORM"
}

// The refusals of payments and refunds.
var (
	ErrField        = ledger.Refusal{Code: "FIELD"}          // a field is missing or breaks a rule
	ErrNotAllowed   = ledger.Refusal{Code: "NOT_ALLOWED"}    // the app or the hospital may not do this
	ErrPaid         = ledger.Refusal{Code: "ALREADY_PAID"}   // the bill is paid
	ErrLive         = ledger.Refusal{Code: "PAYMENT_LIVE"}   // another payment of the bill is under way
	ErrNotFound     = ledger.Refusal{Code: "NOT_FOUND"}      // no such payment or refund
	ErrState        = ledger.Refusal{Code: "STATE"}          // the state does not allow it
	ErrForeign      = ledger.Refusal{Code: "FOREIGN_NOTICE"} // the word is about another merchant number
	ErrDiffers      = ledger.Refusal{Code: "AMOUNT_DIFFERS"} // the channel's amount is not ours
	ErrOrderOfSteps = ledger.Refusal{Code: "ORDER_OF_STEPS"} // a step before its turn (B22)
	ErrRefundable   = ledger.Refusal{Code: "REFUNDABLE"}     // more than may be given back
	ErrInFlight     = ledger.Refusal{Code: "REFUND_IN_FLIGHT"}
	ErrTwoPeople    = ledger.Refusal{Code: "MAKER_IS_CHECKER"}
	ErrTopUp        = ledger.Refusal{Code: "TOP_UP_FIRST"} // mode B: the hospital's own money does not cover it
)

// number makes the number of a payment or refund from the request that asks for
// it, so that a repeated request has the same number: prefix, day, 14 digits.
func number(prefix string, day ledger.Day, parts ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", parts))
	return fmt.Sprintf("%s%s%014d", prefix, day.Compact(), binary.BigEndian.Uint64(sum[:8])%100_000_000_000_000)
}

// queues is in how many parts the rows that are due are kept.
const queues = 16

func queueOf(number string) int16 {
	sum := sha256.Sum256([]byte(number))
	return int16(sum[8] % queues)
}

// pointer is NULL for the zero time.
func pointer(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func value(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
