package clearing

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
)

// Controls are the controls of the chart of accounts that the ledger and our own
// tables answer alone, for ledger.Verify. Those that need what the outside says
// belong to recon.
func Controls() []ledger.Control {
	return []ledger.Control{
		{Name: "1998 + 2998 = 0", Check: eachHospital(checkPair)},
		{Name: "6401 = 0", Check: checkFees},
		{Name: "9009 = 9001 + 9002", Check: eachHospital(checkCash)},
		{Name: "9207 = 9131 + 9132", Check: eachHospital(checkInsurance)},
		{Name: "agency set of a hospital on mode A", Check: eachHospital(checkAgency)},
		{Name: "payments = J01", Whole: true, Check: checkPayments},
		{Name: "refunds = J18 and J22", Whole: true, Check: checkRefunds},
		{Name: "refunded = refunds", Whole: true, Check: checkRefunded},
	}
}

// books is one reading of the balances, by account.
type books struct {
	*Directory
	balances map[ledger.AccountID]ledger.AccountBalance
}

// debit is the balance of the accounts on the debit side.
func (b *books) debit(accounts ...ledger.Account) (sum ledger.Money) {
	for _, account := range accounts {
		balance := b.balances[account.ID()]
		sum += balance.Debits - balance.Credits
	}
	return sum
}

func readBooks(ctx context.Context, tx pgx.Tx) (*books, error) {
	directory, err := LoadMerchants(ctx, tx)
	if err != nil {
		return nil, err
	}
	all, err := ledger.TrialBalance(ctx, tx, PlatformBook, ledger.AsOf{})
	b := &books{directory, make(map[ledger.AccountID]ledger.AccountBalance, len(all))}
	for _, balance := range all {
		b.balances[balance.ID] = balance
	}
	return b, err
}

// eachHospital finds what check says of a hospital, "" for nothing.
func eachHospital(check func(*books, Hospital) string) func(context.Context, pgx.Tx) ([]ledger.Finding, error) {
	return func(ctx context.Context, tx pgx.Tx) (found []ledger.Finding, err error) {
		b, err := readBooks(ctx, tx)
		if err != nil {
			return nil, err
		}
		for _, h := range b.Hospitals {
			if detail := check(b, h); detail != "" {
				found = append(found, ledger.Finding{Subject: "hospital " + h.Code, Detail: detail})
			}
		}
		return found, nil
	}
}

func notZero(sum ledger.Money, what string) string {
	if sum == 0 {
		return ""
	}
	return fmt.Sprintf("%s is %s, it must be 0.00", what, sum)
}

func checkPair(b *books, h Hospital) string {
	return notZero(b.debit(AgencySide(h.Code), OwnSide(h.Code)), "the sum")
}

func checkCash(b *books, h Hospital) string {
	return notZero(b.debit(Cash(h.Code), CashOnTheWay(h.Code), CashContra(h.Code)), "the difference")
}

func checkInsurance(b *books, h Hospital) string {
	sum := b.debit(Insurer(h.Code), InsuranceContra(h.Code))
	for _, fund := range funds {
		sum += b.debit(Insured(h.Code, fund))
	}
	return notZero(sum, "the difference")
}

// checkAgency: what is held of a hospital's money and its patients' is what is
// owed to them. The fee between billing and release stands on 1998. In mode B
// money may be re-routed between hospitals before payout (E22d), so there the
// set balances only as a whole.
func checkAgency(b *books, h Hospital) string {
	var accounts []ledger.Account
	for _, m := range b.Merchants {
		if m.Hospital != h.Code {
			continue
		}
		if m.Mode == ModeB {
			return ""
		}
		accounts = append(accounts, ChannelMoney(m), Withdrawn(m), RefundTaken(m), RefundOwed(m), FeeOwed(m, ByHospital))
	}
	for i := range b.Banks {
		if bank := &b.Banks[i]; bank.Hospital == h.Code {
			accounts = append(accounts, BankMoney(bank), BankPayment(bank), Unidentified(bank))
		}
	}
	accounts = append(accounts, Pending(h.Code), Available(h.Code), Frozen(h.Code), AwaitingHIS(h.Code), Short(h.Code), Long(h.Code),
		Dispute(h.Code), Foreign(h.Code), Returned(h.Code), Recharge(h.Code), AgencySide(h.Code))
	return notZero(b.debit(accounts...), "held less owed")
}

func checkFees(ctx context.Context, tx pgx.Tx) (found []ledger.Finding, err error) {
	b, err := readBooks(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, channel := range channelNames {
		if sum := b.debit(ChannelFee(channel)); sum != 0 {
			found = append(found, ledger.Finding{Subject: ChannelFee(channel).Code(), Detail: notZero(sum, "the balance")})
		}
	}
	return found, nil
}

// checkPayments: every payment that succeeded is posted, by hospital and day,
// and nothing else is posted as one.
func checkPayments(ctx context.Context, tx pgx.Tx) ([]ledger.Finding, error) {
	return compareDays(ctx, tx, "2204.", `'J01%' OR e.kind LIKE 'E06%'`,
		`SELECT '2204.' || hospital AS code, fund_day AS day, amount_fen AS fen FROM payments WHERE posted`)
}

// checkRefunds is the same for the debts that refunds and reversals became, by
// merchant number and day.
func checkRefunds(ctx context.Context, tx pgx.Tx) ([]ledger.Finding, error) {
	return compareDays(ctx, tx, "2205.", `'J18%' OR e.kind LIKE 'J22%' OR e.kind LIKE 'J23c%' OR e.kind LIKE 'E07%'`, `
		SELECT '2205.' || CASE channel WHEN 'WECHAT' THEN 'WX' WHEN 'ALIPAY' THEN 'ALI' WHEN 'UNIONPAY' THEN 'UP' ELSE channel END
			|| '.' || merchant_no AS code, owed_day AS day, owed_fen AS fen
		FROM refunds WHERE owed_fen > 0`)
}

// compareDays compares rows of ours with the entries of their journals, which
// credit accounts whose codes begin with family. What a case posted is no row of
// ours: that it was missing is the case.
func compareDays(ctx context.Context, tx pgx.Tx, family, kinds, ours string) ([]ledger.Finding, error) {
	rows, err := tx.Query(ctx, `
		SELECT code, day, SUM(n)::INT8, SUM(fen)::INT8, SUM(posted)::INT8, SUM(posted_fen)::INT8 FROM (
			SELECT code, day, 1 AS n, fen, 0 AS posted, 0 AS posted_fen FROM (`+ours+`) AS ours
			UNION ALL
			SELECT a.code, e.value_day, 0, 0, 1, p.amount
			FROM entries AS e
			JOIN postings AS p ON p.lane = e.lane AND p.seq = e.seq AND p.ord = e.ord
			JOIN accounts AS a ON a.id = p.credit
			WHERE (e.kind LIKE `+kinds+`) AND e.rev_seq IS NULL AND e.case_id = '' AND left(a.code, 5) = $1
		) AS both_sides
		GROUP BY code, day
		HAVING SUM(n) <> SUM(posted) OR SUM(fen) <> SUM(posted_fen)
		ORDER BY code, day`, family)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (ledger.Finding, error) {
		var code string
		var day ledger.Day
		var n, posted int64
		var fen, postedFen ledger.Money
		err := row.Scan(&code, &day, &n, &fen, &posted, &postedFen)
		return ledger.Finding{Subject: fmt.Sprintf("%s on %s", code, day),
			Detail: fmt.Sprintf("%d rows of %s are stored, %d of %s are posted", n, fen, posted, postedFen)}, err
	})
}

// checkRefunded: what a payment says is refunded, and asked for, is the sum of
// its refunds. One that the channel closed is asked for until another number goes
// on with it; one that the bank paid is refunded, and the channel settles nothing.
func checkRefunded(ctx context.Context, tx pgx.Tx) ([]ledger.Finding, error) {
	rows, err := tx.Query(ctx, `
		SELECT p.hospital || ' ' || p.order_no, p.refunded_fen, p.requested_fen, COALESCE(r.done, 0)::INT8, COALESCE(r.asked, 0)::INT8
		FROM payments AS p
		LEFT JOIN (
			SELECT hospital, payment_no, SUM(settle_fen) AS settle, SUM(fee_fen) AS fee,
				SUM(CASE WHEN status IN ('SUCCESS', 'REROUTED') THEN amount_fen ELSE 0 END) AS done,
				SUM(CASE WHEN status IN ('APPROVING', 'CANCELLING', 'OWED') OR (status = 'CLOSED' AND next_no = '') THEN amount_fen ELSE 0 END) AS asked
			FROM refunds WHERE payment_no IS NOT NULL GROUP BY hospital, payment_no
		) AS r ON r.hospital = p.hospital AND r.payment_no = p.order_no
		WHERE p.refunded_fen <> COALESCE(r.done, 0) OR p.requested_fen <> COALESCE(r.asked, 0)
			OR p.refunded_settle_fen <> COALESCE(r.settle, 0) OR p.fee_returned_fen <> COALESCE(r.fee, 0)
		ORDER BY p.hospital, p.order_no`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (ledger.Finding, error) {
		var order string
		var says, asked, sum, sumAsked ledger.Money
		err := row.Scan(&order, &says, &asked, &sum, &sumAsked)
		detail := fmt.Sprintf("%s is noted as refunded, its refunds sum to %s", says, sum)
		if asked != sumAsked {
			detail += fmt.Sprintf("; %s is noted as asked for, its refunds under way sum to %s", asked, sumAsked)
		}
		return ledger.Finding{Subject: "payment " + order, Detail: detail}, err
	})
}
