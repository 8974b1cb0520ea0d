package recon

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// ErrNotFed says that no verified file of a slice's day is there. It is not an
// empty day: an empty file is verified like any other.
var ErrNotFed = errors.New("no verified file")

// fileOf returns the file that counts for a part of a slice's day, 0 where none
// does.
func fileOf(ctx context.Context, tx pgx.Tx, s Slice, part Part) (int64, error) {
	var id int64
	err := tx.QueryRow(ctx, `
		SELECT file
		FROM feed_parts
		WHERE day = $1 AND source = $2 AND hospital = $3 AND channel = $4 AND account = $5 AND part = $6`,
		s.Day, s.Source, s.Hospital, s.Channel, s.Account, part).Scan(&id)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("read which file counts for %v: %w", s, err)
	}
	return id, nil
}

// StreamBill hands on the trade bill lines that count for a hospital's day, of all
// its merchant numbers, sorted by the bytes of the order number, kind, refund
// number, file and row. A part of the day that is not verified has no lines. The
// line is valid until emit returns, and emit cannot use tx.
func StreamBill(ctx context.Context, tx pgx.Tx, hospital string, day ledger.Day, emit func(*Line) error) error {
	rows, err := tx.Query(ctx, `
		SELECT p.channel, p.account, l.file, l.row_no, l.kind, l.status, l.order_no, l.refund_no, l.trade_no,
			l.channel_refund_no, l.at, l.amount, l.settle, l.fee
		FROM feed_parts AS p
		JOIN bill_lines AS l ON l.file = p.file AND (p.part = 'PAY') = (l.kind = 'PAY')
		WHERE p.day = $1 AND p.source = 'BILL' AND p.hospital = $2
		ORDER BY convert_to(l.order_no, 'UTF8'), l.kind, l.refund_no, l.file, l.row_no`, day, hospital)
	if err != nil {
		return fmt.Errorf("read bill lines: %w", err)
	}
	l := Line{Side: Channel, Hospital: hospital, Day: day}
	_, err = pgx.ForEachRow(rows, []any{
		&l.Channel, &l.MerchantNo, &l.File, &l.Row, &l.Kind, &l.Status, &l.OrderNo, &l.RefundNo, &l.TradeNo, &l.ChRefundNo,
		&l.At, &l.Amount, &l.Settle, &l.Fee,
	}, func() error { return emit(&l) })
	if err != nil {
		return fmt.Errorf("read bill lines: %w", err)
	}
	return nil
}

// StreamHIS hands on the rows of the hospital's charge details that count for a
// day, in the order of StreamBill; rows without an order number come first. The
// day is that of the cashier close. The line is valid until emit returns, and
// emit cannot use tx.
func StreamHIS(ctx context.Context, tx pgx.Tx, hospital string, day ledger.Day, emit func(*Line) error) error {
	id, err := fileOf(ctx, tx, Slice{Source: SourceHIS, Hospital: hospital, Day: day}, PartAll)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
		SELECT file, row_no, kind, channel, bill_no, original_bill_no, order_no, refund_no, amount, at, close_no, patient
		FROM his_lines
		WHERE file = $1
		ORDER BY convert_to(order_no, 'UTF8'), kind, refund_no, file, row_no`, id)
	if err != nil {
		return fmt.Errorf("read HIS lines: %w", err)
	}
	l := Line{Side: HIS, Status: channels.Success, Hospital: hospital, Day: day}
	_, err = pgx.ForEachRow(rows, []any{
		&l.File, &l.Row, &l.Kind, &l.Channel, &l.BillNo, &l.OrigBillNo, &l.OrderNo, &l.RefundNo, &l.Amount, &l.At,
		&l.CloseNo, &l.Patient,
	}, func() error { return emit(&l) })
	if err != nil {
		return fmt.Errorf("read HIS lines: %w", err)
	}
	return nil
}

// BankLine is a booked line of a hospital's bank statement, with the place where
// it stands.
type BankLine struct {
	channels.StatementLine
	Hospital string
	File     int64
}

// BankLines returns the booked lines of an account's day in their order. It is
// ErrNotFed where no statement of the day is verified.
func BankLines(ctx context.Context, tx pgx.Tx, hospital, account string, day ledger.Day) ([]BankLine, error) {
	id, err := fileOf(ctx, tx, Slice{Source: SourceStatement, Hospital: hospital, Account: account, Day: day}, PartAll)
	if err != nil {
		return nil, err
	}
	if id == 0 {
		return nil, fmt.Errorf("%w: statement of account %s on %s", ErrNotFed, account, day)
	}
	rows, err := tx.Query(ctx, `
		SELECT row_no, ref, end_to_end_id, book_day, value_day, amount, counterparty, counterparty_account,
			remittance, code, return_of, return_reason
		FROM bank_lines
		WHERE file = $1
		ORDER BY row_no`, id)
	if err != nil {
		return nil, fmt.Errorf("read bank lines: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (BankLine, error) {
		l := BankLine{Hospital: hospital, File: id}
		l.Account = account
		err := row.Scan(&l.Row, &l.Ref, &l.EndToEndID, &l.BookDay, &l.ValueDay, &l.Amount, &l.Counterparty,
			&l.CounterpartyAcc, &l.Text, &l.Code, &l.ReturnOf, &l.ReturnReason)
		return l, err
	})
}

// FundDay is what a fund bill says of a merchant number's day. The sums are
// signed: above zero came into the balance, and
// Opening + Trade + … + Other = Closing. A fund bill without rows states no
// balances.
type FundDay struct {
	File                                            int64
	Balances                                        bool
	Opening, Closing                                ledger.Money
	Trade, Fee, Refund, FeeReturn                   ledger.Money
	Withdrawn, WithdrawalReturned, Recharged, Other ledger.Money
}

// FundTotals returns the sums of a merchant number's fund bill. It is ErrNotFed
// where none of the day is verified.
func FundTotals(ctx context.Context, tx pgx.Tx, hospital, channel, merchantNo string, day ledger.Day) (FundDay, error) {
	id, err := fileOf(ctx, tx, Slice{Source: SourceFund, Hospital: hospital, Channel: channel, Account: merchantNo, Day: day}, PartAll)
	if err != nil {
		return FundDay{}, err
	}
	if id == 0 {
		return FundDay{}, fmt.Errorf("%w: fund bill of %s %s on %s", ErrNotFed, channel, merchantNo, day)
	}
	files, err := Files(ctx, tx, id)
	if err != nil {
		return FundDay{}, err
	}
	_, balances := files[0].Totals["opening"]
	fen := func(name string) ledger.Money { return ledger.Money(files[0].Totals[name]) }
	return FundDay{
		File: id, Balances: balances, Opening: fen("opening"), Closing: fen("closing"),
		Trade: fen("trade"), Fee: fen("fee"), Refund: fen("refund"), FeeReturn: fen("fee_return"),
		Withdrawn: fen("withdrawn"), WithdrawalReturned: fen("withdrawal_returned"),
		Recharged: fen("recharged"), Other: fen("other"),
	}, nil
}

// FundLines returns the rows of the day's fund bill that the trade bill does not
// tell: withdrawals and their returns, recharges, others. There are none where
// no fund bill is verified.
func FundLines(ctx context.Context, tx pgx.Tx, hospital, channel, merchantNo string, day ledger.Day) ([]channels.FundLine, error) {
	id, err := fileOf(ctx, tx, Slice{Source: SourceFund, Hospital: hospital, Channel: channel, Account: merchantNo, Day: day}, PartAll)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `
		SELECT row_no, kind, at, flow_no, business_no, order_no, amount, balance
		FROM fund_lines
		WHERE file = $1
		ORDER BY row_no`, id)
	if err != nil {
		return nil, fmt.Errorf("read fund lines: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l channels.FundLine, err error) {
		err = row.Scan(&l.Row, &l.Kind, &l.At, &l.FlowNo, &l.BusinessNo, &l.OrderNo, &l.Amount, &l.Balance)
		return l, err
	})
}
