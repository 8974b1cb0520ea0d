package clearing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
)

func (it *importTest) daily(hospital string, day ledger.Day) (text string, sum DailySum, err error) {
	it.t.Helper()
	err = it.db.ReadTx(it.t.Context(), func(ctx context.Context, tx pgx.Tx) (err error) {
		var out bytes.Buffer
		sum, err = WriteDaily(ctx, tx, hospital, day, &out)
		text = out.String()
		return err
	})
	return text, sum, err
}

func TestTheDailyFileProvesItselfAndTiesToTheBooks(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	it.must(sampleDay(t))
	text, sum, err := it.daily("H1", 20260915)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if lines[0] != "#CLEARWARD-DAILY,1,H1,2026-09-15" || !strings.HasPrefix(lines[1], "#SUMS,") || lines[3] != dailyColumns {
		t.Errorf("header:\n%s", strings.Join(lines[:4], "\n"))
	}
	body, hash, _ := strings.Cut(text, "#SHA256,")
	if want := sha256.Sum256([]byte(body)); strings.TrimSpace(hash) != hex.EncodeToString(want[:]) {
		t.Error("the hash is not that of the file before it")
	}
	if end := lines[len(lines)-2]; end != "#END,50,"+strings.TrimPrefix(lines[1], "#SUMS,") || len(lines) != 50+6 {
		t.Errorf("trailer %q after %d lines", end, len(lines))
	}
	// C01: the day's payments less what the channels took back is what the ledger
	// holds at them before the bill names the coupons (J49) and the settlement.
	held := ledger.Money(0)
	for code, balance := range it.balances() {
		if strings.HasPrefix(code, "1122.") {
			held += balance
		}
	}
	if sum.Paid-sum.SettledBack != held || held == 0 {
		t.Errorf("the file says %s less %s, the channels hold %s", sum.Paid, sum.SettledBack, held)
	}
	if coupons := ledger.Money(1180); sum.Paid-sum.SettledIn != coupons {
		t.Errorf("coupons %s, want %s", sum.Paid-sum.SettledIn, coupons)
	}
	if sum.Payments != 36 || sum.Refunds+sum.Reversals != 13 || sum.FailedAttempt != 1 {
		t.Errorf("counts %+v", sum)
	}
}

func TestADayWithoutPaymentsHasAFileWithoutRows(t *testing.T) {
	it := newImportTest(t, sampleSetup(t))
	text, sum, err := it.daily("H1", 20260914)
	if err != nil || sum != (DailySum{}) || !strings.Contains(text, "\n#END,0,0,0,") {
		t.Errorf("%v\n%s", err, text)
	}
	if _, _, err := it.daily("H9", 20260914); !errors.Is(err, ErrUnknownHospital) {
		t.Errorf("a hospital that is not there: %v", err)
	}
}
