package clearing

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// ErrUnknownHospital is wrapped where a hospital is asked for that is not set up.
var ErrUnknownHospital = errors.New("hospital is not known")

// DailySum is what the legs of a hospital's fund day come to: the header of its
// standard bill file, and the clearing of the day by hospital (C01, C02). Only
// legs that moved money count; all sums are fen.
type DailySum struct {
	Payments, Refunds, Reversals    int
	Paid, Returned, Cancelled       ledger.Money // order amounts, amounts asked back, amounts reversed
	SettledIn, SettledBack          ledger.Money // what the channels settle and take back
	FeesCharged, FeesReturned       ledger.Money
	RefundsInTransit, FailedAttempt int // accepted and not final; attempts that moved nothing
}

// Net is what the day brings the hospital before fees, as the channels settle it.
func (s *DailySum) Net() ledger.Money { return s.SettledIn - s.SettledBack }

func (s *DailySum) add(l *Leg) {
	if l.Stage != string(channels.Success) { // a late payment is money all the same
		s.FailedAttempt++
		return
	}
	switch l.Kind {
	case channels.Pay:
		s.Payments++
		s.Paid, s.SettledIn, s.FeesCharged = s.Paid+l.Amount, s.SettledIn+l.Settle, s.FeesCharged+l.Fee
		return
	case channels.Refund:
		s.Refunds++
		s.Returned += l.Amount
	default:
		s.Reversals++
		s.Cancelled += l.Amount
	}
	s.SettledBack, s.FeesReturned = s.SettledBack+l.Settle, s.FeesReturned+l.Fee
	if !l.Final {
		s.RefundsInTransit++
	}
}

// fields are the sums as header and trailer write them.
func (s *DailySum) fields() []string {
	fen := func(m ledger.Money) string { return strconv.FormatInt(int64(m), 10) }
	return []string{
		strconv.Itoa(s.Payments), fen(s.Paid), strconv.Itoa(s.Refunds), fen(s.Returned), strconv.Itoa(s.Reversals), fen(s.Cancelled),
		fen(s.SettledIn), fen(s.SettledBack), fen(s.FeesCharged), fen(s.FeesReturned), fen(s.Net()),
	}
}

const (
	dailyHead    = "#CLEARWARD-DAILY"
	dailySums    = "payments,paid_fen,refunds,returned_fen,reversals,reversed_fen,settled_fen,taken_back_fen,fees_fen,fees_returned_fen,net_fen"
	dailyColumns = "kind,status,channel,merchant_no,order_no,refund_no,channel_trade_no,his_bill_no,biz_type,terminal,amount_fen,settle_fen,fee_fen,occurred_at,channel_success_at"
	dailyTime    = "2006-01-02 15:04:05" // Beijing
)

// WriteDaily writes the standard bill file of a hospital's fund day (C05, G06):
// a header with hospital, day and sums, one row per payment, refund and reversal
// in the order of their order numbers, and a trailer with the number of rows, the
// same sums reckoned from the rows, and the SHA-256 of everything before it. It
// is read in one snapshot and streamed. It names no patient.
func WriteDaily(ctx context.Context, tx pgx.Tx, hospital string, day ledger.Day, out io.Writer) (DailySum, error) {
	var known bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM hospitals WHERE code = $1)`, hospital).Scan(&known); err != nil {
		return DailySum{}, fmt.Errorf("daily file: %w", err)
	}
	if !known {
		return DailySum{}, fmt.Errorf("%w: %q", ErrUnknownHospital, hospital)
	}
	said, err := SumDaily(ctx, tx, hospital, day)
	if err != nil {
		return said, err
	}
	digest := sha256.New()
	text := bufio.NewWriter(io.MultiWriter(out, digest))
	rows := csv.NewWriter(text)
	head := [][]string{{dailyHead, "1", hospital, day.String()}, append([]string{"#SUMS"}, said.fields()...)}
	if err := errors.Join(rows.WriteAll(head), writeLine(text, "#"+dailySums), writeLine(text, dailyColumns)); err != nil {
		return said, fmt.Errorf("daily file: %w", err)
	}
	var reckoned DailySum
	count := 0
	err = StreamLegs(ctx, tx, LegQuery{Hospital: hospital, Day: day}, func(l *Leg) error {
		reckoned.add(l)
		count++
		return rows.Write(l.daily())
	})
	rows.Flush()
	if err = errors.Join(err, rows.Error()); err != nil {
		return said, fmt.Errorf("daily file: %w", err)
	}
	if reckoned != said {
		return said, fmt.Errorf("daily file: the rows come to %+v, the table to %+v", reckoned, said)
	}
	if err := errors.Join(rows.Write(append([]string{"#END", strconv.Itoa(count)}, reckoned.fields()...)), flushed(rows), text.Flush()); err != nil {
		return said, fmt.Errorf("daily file: %w", err)
	}
	_, err = fmt.Fprintf(out, "#SHA256,%s\n", hex.EncodeToString(digest.Sum(nil)))
	return said, err
}

func writeLine(w *bufio.Writer, line string) error {
	_, err := w.WriteString(line + "\n")
	return err
}

func flushed(w *csv.Writer) error {
	w.Flush()
	return w.Error()
}

// daily is the leg as a row of the file.
func (l *Leg) daily() []string {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.In(ledger.Beijing).Format(dailyTime)
	}
	fen := func(m ledger.Money) string { return strconv.FormatInt(int64(m), 10) }
	return []string{
		string(l.Kind), string(l.Status), l.Channel, l.MerchantNo, l.OrderNo, l.RefundNo, l.TradeNo, l.BillNo, l.BizType, l.Terminal,
		fen(l.Amount), fen(l.Settle), fen(l.Fee), at(l.OccurredAt), at(l.ChannelSuccessAt),
	}
}

// SumDaily reckons the sums of a hospital's fund day in the database.
func SumDaily(ctx context.Context, tx pgx.Tx, hospital string, day ledger.Day) (DailySum, error) {
	var s DailySum
	err := tx.QueryRow(ctx, `
		SELECT COUNT(*) FILTER (WHERE status = 'SUCCESS'), COALESCE(SUM(amount_fen) FILTER (WHERE status = 'SUCCESS'), 0)::INT8,
			COALESCE(SUM(settle_fen), 0)::INT8, COALESCE(SUM(fee_fen), 0)::INT8, COUNT(*) FILTER (WHERE status <> 'SUCCESS')
		FROM payments WHERE hospital = $1 AND fund_day = $2`, hospital, day).
		Scan(&s.Payments, &s.Paid, &s.SettledIn, &s.FeesCharged, &s.FailedAttempt)
	if err != nil {
		return s, fmt.Errorf("sums of the day: %w", err)
	}
	var failed int
	err = tx.QueryRow(ctx, `
		SELECT COUNT(*) FILTER (WHERE kind = 'REFUND' AND status = 'SUCCESS'),
			COALESCE(SUM(amount_fen) FILTER (WHERE kind = 'REFUND' AND status = 'SUCCESS'), 0)::INT8,
			COUNT(*) FILTER (WHERE kind = 'REVERSE' AND status = 'SUCCESS'),
			COALESCE(SUM(amount_fen) FILTER (WHERE kind = 'REVERSE' AND status = 'SUCCESS'), 0)::INT8,
			COALESCE(SUM(settle_fen), 0)::INT8, COALESCE(SUM(fee_fen), 0)::INT8,
			COUNT(*) FILTER (WHERE status = 'SUCCESS' AND channel_success_at IS NULL), COUNT(*) FILTER (WHERE status <> 'SUCCESS')
		FROM refunds WHERE hospital = $1 AND fund_day = $2`, hospital, day).
		Scan(&s.Refunds, &s.Returned, &s.Reversals, &s.Cancelled, &s.SettledBack, &s.FeesReturned, &s.RefundsInTransit, &failed)
	if err != nil {
		return s, fmt.Errorf("sums of the day: %w", err)
	}
	s.FailedAttempt += failed
	return s, nil
}
