package pay

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// NoticeKind is what a business app is told.
type NoticeKind string

// The kinds of notices.
const (
	NoticePaid        NoticeKind = "PAID"
	NoticePaidLate    NoticeKind = "PAID_LATE" // after it was closed: do not serve before a person has decided
	NoticeNotPaid     NoticeKind = "NOT_PAID"  // failed, closed or reversed: another payment may be made
	NoticeHISRefused  NoticeKind = "HIS_REFUSED"
	NoticeRefundOwed  NoticeKind = "REFUND_OWED" // HIS has cancelled, the channel is asked
	NoticeRefunded    NoticeKind = "REFUNDED"    // accepted by the channel
	NoticeRefundFinal NoticeKind = "REFUND_FINAL"
	// The channel holds the money, the payer's account cannot be used: finance goes on
	// with it, nothing is lost.
	NoticeRefundAbnormal NoticeKind = "REFUND_ABNORMAL"
	NoticeRefundFailed   NoticeKind = "REFUND_FAILED"
	NoticeRefundClosed   NoticeKind = "REFUND_CLOSED" // the debt stays and goes on under another number
)

// noticeOf is what the app is told of a change, "" for nothing.
func noticeOf(before, p *Payment) NoticeKind {
	switch {
	case before.HIS != HISRefused && p.HIS == HISRefused:
		return NoticeHISRefused
	case before.Status == p.Status:
		return ""
	case p.Status == Success && p.Late:
		return NoticePaidLate
	case p.Status == Success && p.Refunded == p.Amount:
		return NoticeNotPaid
	case p.Status == Success:
		return NoticePaid
	case !p.Status.open():
		return NoticeNotPaid
	}
	return ""
}

// NoticeBody is the body of a notice, in JSON. An app keeps the one with the
// highest version of a number.
type NoticeBody struct {
	Kind      NoticeKind   `json:"kind"`
	Version   int32        `json:"version"`
	Hospital  string       `json:"hospital"`
	OrderNo   string       `json:"order_no"`
	RefundNo  string       `json:"refund_no,omitempty"`
	BillNo    string       `json:"bill_no"`
	Status    string       `json:"status"`
	AmountFen ledger.Money `json:"amount_fen"`
	TradeNo   string       `json:"channel_trade_no,omitempty"`
	HIS       HISState     `json:"his,omitempty"`
	At        time.Time    `json:"at"`
}

// outbox gathers the notices of a batch.
type outbox struct {
	numbers, apps, hospitals, kinds, bodies []string
	versions                                []int32
	at                                      []time.Time
	queues                                  []int16
}

func (o *outbox) add(number, app string, body NoticeBody) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // texts, numbers and a time
	}
	o.numbers, o.apps, o.hospitals = append(o.numbers, number), append(o.apps, app), append(o.hospitals, body.Hospital)
	o.kinds, o.bodies, o.versions = append(o.kinds, string(body.Kind)), append(o.bodies, string(text)), append(o.versions, body.Version)
	o.at, o.queues = append(o.at, body.At), append(o.queues, queueOf(number))
}

func (o *outbox) payment(kind NoticeKind, p *Payment, at time.Time) {
	o.add(p.OrderNo, p.App, NoticeBody{Kind: kind, Version: p.Version, Hospital: p.Hospital, OrderNo: p.OrderNo, BillNo: p.BillNo,
		Status: string(p.Status), AmountFen: p.Amount, TradeNo: p.TradeNo, HIS: p.HIS, At: at})
}

func (o *outbox) refund(kind NoticeKind, r *Refund, at time.Time) {
	o.add(r.RefundNo, r.App, NoticeBody{Kind: kind, Version: r.Version, Hospital: r.Hospital, OrderNo: r.OrderNo, RefundNo: r.RefundNo,
		BillNo: r.BillNo, Status: string(r.Status), AmountFen: r.Amount, TradeNo: r.TradeNo, HIS: r.HIS, At: at})
}

func (o *outbox) write(b *ledger.Batch) {
	if len(o.numbers) == 0 {
		return
	}
	b.Exec(`
		INSERT INTO app_notices (number, version, app, hospital, kind, body, created_at, state, next_at, tries, queue, last_error)
		SELECT number, version, app, hospital, kind, body, at, 'WAIT', at, 0, queue, ''
		FROM unnest($1::text[], $2::int4[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::int2[])
		AS given(number, version, app, hospital, kind, body, at, queue)`,
		o.numbers, o.versions, o.apps, o.hospitals, o.kinds, o.bodies, o.at, o.queues)
}

// noticePlan is when a notice that nobody acknowledged is sent again, as WeChat
// does it; after the last it waits for a replay.
var noticePlan = []time.Duration{
	15 * time.Second, 15 * time.Second, 30 * time.Second, 3 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
	30 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 3 * time.Hour, 3 * time.Hour, 6 * time.Hour, 6 * time.Hour,
}

// AppNotice is a notice on its way to a business app.
type AppNotice struct {
	Number    string
	Version   int32
	App       string
	Hospital  string
	Kind      NoticeKind
	Body      string // JSON of NoticeBody, to be signed as it is
	Tries     int32
	NotifyURL string
}

// Notices sends what apps are to be told.
type Notices struct {
	*House
	// Send signs and posts one notice and returns nil where the app acknowledged it.
	Send func(ctx context.Context, n AppNotice) error
}

// Deliver sends the notices that are due, at most limit, and returns how many.
func (s *Notices) Deliver(ctx context.Context, limit int) (int, error) {
	var due []AppNotice
	now := s.Now()
	err := s.DB.ReadOne(ctx, func(ctx context.Context, q db.Queryer) error {
		rows, err := q.Query(ctx, `
			SELECT n.number, n.version, n.app, n.hospital, n.kind, n.body, n.tries, a.notify_url
			FROM app_notices AS n JOIN apps AS a ON a.name = n.app
			WHERE n.queue BETWEEN 0 AND 15 AND n.next_at <= $1 ORDER BY n.queue, n.next_at LIMIT $2`, now, limit)
		if err != nil {
			return err
		}
		due, err = pgx.CollectRows(rows, pgx.RowToStructByPos[AppNotice])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read notices: %w", err)
	}
	results := make([]error, len(due))
	atOnce(len(due), func(i int) { results[i] = s.Send(ctx, due[i]) })
	return len(due), s.note(ctx, due, results)
}

// note keeps what came of the tries: acknowledged, again later, or given up.
func (s *Notices) note(ctx context.Context, tried []AppNotice, results []error) error {
	n := len(tried)
	numbers, states, texts := make([]string, n), make([]string, n), make([]string, n)
	versions, tries, next := make([]int32, n), make([]int32, n), make([]*time.Time, n)
	now := s.Now()
	for i, one := range tried {
		numbers[i], versions[i], tries[i], states[i] = one.Number, one.Version, one.Tries, "DONE"
		if results[i] == nil {
			continue
		}
		states[i], texts[i] = "GIVEN_UP", results[i].Error()
		if int(one.Tries) < len(noticePlan) {
			at := now.Add(noticePlan[one.Tries])
			states[i], next[i] = "WAIT", &at
		}
	}
	return s.DB.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE app_notices AS n SET state = t.state, next_at = t.next_at, tries = n.tries + 1, last_error = t.error
			FROM unnest($1::text[], $2::int4[], $3::int4[], $4::text[], $5::timestamptz[], $6::text[]) AS t(number, version, tries, state, next_at, error)
			WHERE n.number = t.number AND n.version = t.version AND n.tries = t.tries AND n.state = 'WAIT'`, numbers, versions, tries, states, next, texts)
		return err
	})
}

// Replay sends every notice of a payment or refund once more, and returns how many.
func (s *Notices) Replay(ctx context.Context, hospital, number string) (int, error) {
	var n int64
	err := s.DB.InTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE app_notices SET state = 'WAIT', next_at = $3, tries = 0 WHERE hospital = $1 AND number = $2`, hospital, number, s.Now())
		n = tag.RowsAffected()
		return err
	})
	return int(n), err
}

// workers is how many calls to the outside a job makes at once.
const workers = 64

// atOnce does n things, some of them at once, and waits for all.
func atOnce(n int, do func(i int)) {
	work := make(chan int)
	done := make(chan struct{})
	hands := min(n, workers)
	for range hands {
		go func() {
			for i := range work {
				do(i)
			}
			done <- struct{}{}
		}()
	}
	for i := range n {
		work <- i
	}
	close(work)
	for range hands {
		<-done
	}
}
