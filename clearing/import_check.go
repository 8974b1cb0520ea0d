package clearing

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
)

// fileCheck is the first reading of an import file, or rather readings: each
// keeps little, so that memory grows by 16 bytes a row and by the refunds alone.
type fileCheck struct {
	db        *db.DB
	file      io.ReadSeeker
	directory *Directory
	seed      maphash.Seed
	rows      int
	keys      []keyPlace
	repeated  map[int]bool // lines equal to an earlier line: taken once
	owed      map[paymentKey]*refundable
	refunds   []refundLine // in the order of the file
}

// keyPlace is the hash of a row's key, and its line.
type keyPlace struct {
	hash uint64
	line int
}

// refundable is a payment that refunds of the file name.
type refundable struct {
	known, failed        bool
	channel, merchantNo  string
	amount, settle       ledger.Money
	refunded, settleBack ledger.Money
}

type refundLine struct {
	line                int
	hospital            string
	kind                channels.Kind
	number              string
	order               string
	payment             *refundable
	stored              bool // imported before: it is in what is refunded
	channel, merchantNo string
	amount, settle      ledger.Money
}

func newFileCheck(d *db.DB, file io.ReadSeeker, directory *Directory) *fileCheck {
	return &fileCheck{db: d, file: file, directory: directory, seed: maphash.MakeSeed(), repeated: map[int]bool{}, owed: map[paymentKey]*refundable{}}
}

// each reads the file from its start and checks each row by itself.
func (c *fileCheck) each(visit func(*row) error) error {
	if _, err := c.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	reader, err := newRowReader(c.file, c.directory)
	if err != nil {
		return err
	}
	for {
		r, err := reader.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := visit(r); err != nil {
			return err
		}
	}
}

// run checks the file as a whole.
func (c *fileCheck) run(ctx context.Context) error {
	if err := c.each(c.gather); err != nil {
		return err
	}
	if err := c.findRepeated(); err != nil {
		return err
	}
	if err := c.compareStored(ctx); err != nil {
		return err
	}
	return c.checkRefunds(ctx)
}

// own is what names the row once and for ever.
func (r *row) own() string { return r.Hospital + "|" + string(r.Kind) + "|" + r.number() }

func (c *fileCheck) gather(r *row) error {
	c.rows++
	c.keys = append(c.keys, keyPlace{maphash.String(c.seed, r.own()), r.line})
	if r.Kind != channels.Pay && r.Status == channels.Success {
		c.owed[paymentKey{strings.Clone(r.Hospital), strings.Clone(r.OrderNo)}] = &refundable{}
	}
	return nil
}

// findRepeated tells rows that stand twice, which are taken once, from rows
// that contradict each other, which refuse the file. Only rows whose hash is
// met twice are kept to be compared.
func (c *fileCheck) findRepeated() error {
	slices.SortFunc(c.keys, func(a, b keyPlace) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.line, b.line)) })
	suspects := map[uint64]bool{}
	for i := 1; i < len(c.keys); i++ {
		if c.keys[i].hash == c.keys[i-1].hash {
			suspects[c.keys[i].hash] = true
		}
	}
	c.keys = nil
	if len(suspects) == 0 {
		return nil
	}
	type first struct {
		line  int
		canon []byte
	}
	firsts := map[string]first{}
	return c.each(func(r *row) error {
		own := r.own()
		if !suspects[maphash.String(c.seed, own)] {
			return nil
		}
		canon := r.canon()
		before, met := firsts[own]
		switch {
		case !met:
			firsts[own] = first{r.line, canon}
		case bytes.Equal(before.canon, canon):
			c.repeated[r.line] = true
		default:
			return &channels.FileError{Line: r.line, Rule: fmt.Sprintf("%s %s stands on line %d with other content", r.Kind, r.number(), before.line)}
		}
		return nil
	})
}

// compareStored compares the rows with those imported before, learns the
// payments that refunds name, and refuses a row that was imported with other
// content.
func (c *fileCheck) compareStored(ctx context.Context) error {
	var rows []*row
	compare := func() error {
		if len(rows) == 0 {
			return nil
		}
		err := c.compareSlice(ctx, rows)
		rows = rows[:0]
		return err
	}
	err := c.each(func(r *row) error {
		if c.repeated[r.line] {
			return nil
		}
		c.learn(r)
		if rows = append(rows, r); len(rows) < 2048 {
			return nil
		}
		return compare()
	})
	if err != nil {
		return err
	}
	return compare()
}

// learn keeps what the check of refunds needs.
func (c *fileCheck) learn(r *row) {
	payment, owed := c.owed[paymentKey{r.Hospital, r.OrderNo}]
	switch {
	case !owed:
	case r.Kind == channels.Pay:
		*payment = refundable{known: true, failed: r.Status == channels.Failed, channel: r.Channel, merchantNo: r.merchant.No,
			amount: r.Amount, settle: r.Settle}
	case r.Status == channels.Success:
		c.refunds = append(c.refunds, refundLine{line: r.line, hospital: r.merchant.Hospital, kind: r.Kind, number: strings.Clone(r.number()), payment: payment,
			order: strings.Clone(r.OrderNo), channel: r.merchant.Channel, merchantNo: r.merchant.No, amount: r.Amount, settle: r.Settle})
	}
}

func (c *fileCheck) compareSlice(ctx context.Context, rows []*row) error {
	stored := map[string]told{}
	err := c.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		clear(stored)
		return readStored(ctx, tx, rows, stored)
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		before, ok := stored[r.own()]
		if !ok {
			continue
		}
		if field := differing(before, r.told()); field != "" {
			return &channels.FileError{Line: r.line, Column: field, Rule: fmt.Sprintf("%s %s was imported before with another %s", r.Kind, r.number(), field)}
		}
	}
	return nil
}

// differing names the first column in which the rows differ.
func differing(a, b told) string {
	for _, field := range []struct {
		name  string
		equal bool
	}{
		{"merchant_no", a.MerchantNo == b.MerchantNo && a.Channel == b.Channel},
		{"order_no", a.OrderNo == b.OrderNo}, {"channel_trade_no", a.TradeNo == b.TradeNo}, {"amount_fen", a.Amount == b.Amount},
		{"occurred_at", a.OccurredAt == b.OccurredAt}, {"status", a.Status == b.Status}, {"his_bill_no", a.BillNo == b.BillNo},
		{"biz_type", a.BizType == b.BizType}, {"terminal", a.Terminal == b.Terminal}, {"settle_fen", a.Settle == b.Settle},
		{"channel_success_at", a.ChannelSuccessAt == b.ChannelSuccessAt}, {"patient_ref", a.Patient == b.Patient},
	} {
		if !field.equal {
			return field.name
		}
	}
	return ""
}

// readStored reads the rows that were imported before under the same numbers.
func readStored(ctx context.Context, tx pgx.Tx, rows []*row, stored map[string]told) error {
	var hospitals, kinds, numbers []string
	for _, r := range rows {
		hospitals, kinds, numbers = append(hospitals, r.Hospital), append(kinds, string(r.Kind)), append(numbers, r.number())
	}
	found, err := tx.Query(ctx, `
		SELECT 'PAY', '' AS refund_no`+payColumns+` FROM payments
		JOIN unnest($1::text[], $2::text[], $3::text[]) AS asked(of_hospital, of_kind, number)
			ON hospital = of_hospital AND order_no = number AND of_kind = 'PAY'
		UNION ALL
		SELECT kind, refund_no`+refundColumns+` FROM refunds
		JOIN unnest($1::text[], $2::text[], $3::text[]) AS asked(of_hospital, of_kind, number)
			ON hospital = of_hospital AND refund_no = number AND kind = of_kind`, hospitals, kinds, numbers)
	if err != nil {
		return fmt.Errorf("read what was imported before: %w", err)
	}
	err = scanLegs(found, func(leg *Leg) error {
		one := row{Leg: *leg}
		stored[one.own()] = one.told()
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what was imported before: %w", err)
	}
	return nil
}

// checkRefunds checks that each refund names a payment with that much left.
func (c *fileCheck) checkRefunds(ctx context.Context) error {
	for from := 0; from < len(c.refunds); from += 2048 {
		slice := c.refunds[from:min(from+2048, len(c.refunds))]
		if err := c.readRefunded(ctx, slice); err != nil {
			return fmt.Errorf("read payments to refund: %w", err)
		}
	}
	for i := range c.refunds {
		if broken := c.refunds[i].check(); broken != nil {
			return broken
		}
	}
	return nil
}

// readRefunded reads the payments of the refunds that were imported before, with
// what is refunded of them, and which of the refunds are among that.
func (c *fileCheck) readRefunded(ctx context.Context, slice []refundLine) error {
	var hospitals, orders, kinds, numbers []string
	for i := range slice {
		hospitals, orders = append(hospitals, slice[i].hospital), append(orders, slice[i].order)
		kinds, numbers = append(kinds, string(slice[i].kind)), append(numbers, slice[i].number)
	}
	payments, stored := map[paymentKey]refundable{}, map[[3]string]bool{}
	err := c.db.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT p.hospital, p.order_no, p.status <> 'SUCCESS', p.channel, p.merchant_no, p.amount_fen, p.settle_fen, p.refunded_fen, p.refunded_settle_fen
			FROM unnest($1::text[], $2::text[]) AS asked(hospital, order_no)
			JOIN payments AS p ON p.hospital = asked.hospital AND p.order_no = asked.order_no`, hospitals, orders)
		if err != nil {
			return err
		}
		var key paymentKey
		p := refundable{known: true}
		_, err = pgx.ForEachRow(rows, []any{&key.hospital, &key.order, &p.failed, &p.channel, &p.merchantNo, &p.amount, &p.settle, &p.refunded, &p.settleBack},
			func() error { payments[key] = p; return nil })
		if err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `
			SELECT r.hospital, r.kind, r.refund_no
			FROM unnest($1::text[], $2::text[], $3::text[]) AS asked(hospital, kind, refund_no)
			JOIN refunds AS r ON r.hospital = asked.hospital AND r.kind = asked.kind AND r.refund_no = asked.refund_no
			WHERE r.status = 'SUCCESS'`, hospitals, kinds, numbers)
		if err != nil {
			return err
		}
		var refund [3]string
		_, err = pgx.ForEachRow(rows, []any{&refund[0], &refund[1], &refund[2]}, func() error { stored[refund] = true; return nil })
		return err
	})
	for i := range slice {
		if payment, ok := payments[paymentKey{slice[i].hospital, slice[i].order}]; ok {
			*slice[i].payment = payment
		}
		slice[i].stored = stored[[3]string{slice[i].hospital, string(slice[i].kind), slice[i].number}]
	}
	return err
}

// check takes the refund out of what is left of its payment.
func (l *refundLine) check() *channels.FileError {
	broken := func(column, rule string, args ...any) *channels.FileError {
		return &channels.FileError{Line: l.line, Column: column, Rule: fmt.Sprintf(rule, args...)}
	}
	p := l.payment
	switch {
	case l.stored:
		return nil
	case !p.known:
		return broken("order_no", "payment %s is neither in the file nor imported before", l.order)
	case p.failed:
		return broken("order_no", "payment %s failed: there is nothing to give back", l.order)
	case p.channel != l.channel || p.merchantNo != l.merchantNo:
		return broken("merchant_no", "payment %s was made on %s %s", l.order, p.channel, p.merchantNo)
	case l.kind == channels.Reverse && l.amount != p.amount:
		return broken("amount_fen", "a reversal is of the whole payment: %s has %s, %s is asked", l.order, p.amount, l.amount)
	case p.refunded+l.amount > p.amount:
		return broken("amount_fen", "payment %s of %s has %s refunded already, %s more is asked", l.order, p.amount, p.refunded, l.amount)
	case p.settleBack+l.settle > p.settle:
		return broken("settle_fen", "payment %s settled %s and has %s taken back already, %s more is asked", l.order, p.settle, p.settleBack, l.settle)
	}
	p.refunded, p.settleBack = p.refunded+l.amount, p.settleBack+l.settle
	return nil
}
