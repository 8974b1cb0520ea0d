package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/channels/sandbox/livebank"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
)

// bankTroubles are what goes wrong at a call, before or after the bank has done it.
var bankTroubles = []string{
	`"do":"DELAY","millis":600,"commit":true`, `"do":"DROP"`, `"do":"DROP","commit":true`, `"do":"HTTP_500"`, `"do":"HTTP_500","commit":true`,
	`"do":"GARBAGE"`, `"do":"GARBAGE","commit":true`, `"do":"BAD_SIGN","commit":true`,
}

// K04, K05: whatever goes wrong at whatever call, each payout ends paid, once, with
// its receipt. The table says after how long.
func TestEveryFaultAtEveryStepOfTheBankEndsPaidOnce(t *testing.T) {
	h := openBank(t)
	steps := []string{"balance", "transfer", "query", "statement", "receipt"}
	table := []string{fmt.Sprintf("%-45s %s", "fault", strings.Join(steps, ", "))}
	left, n := int64(100000), int64(0)
	for _, trouble := range bankTroubles {
		row := fmt.Sprintf("%-45s", trouble)
		for _, step := range steps {
			n++
			left -= 100 + n
			h.untilOpen()
			number := h.approved(100 + n)
			if step == "statement" { // it is read only for what the bank has not got
				h.plant(`{"do":"DROP","api":"transfer"}`)
			}
			h.plant(fmt.Sprintf(`{%s,"api":%q}`, trouble, step))
			row += " " + h.untilPaid(number, step+" "+trouble).String()
			if got := h.bank.Accounts()[0].BookedFen; got != left {
				t.Fatalf("%s %s: the bank has %d left, want %d", step, trouble, got, left)
			}
		}
		table = append(table, row)
	}
	t.Log("\n" + strings.Join(table, "\n"))
}

// untilOpen goes on to a time at which the bank takes transfers: some faults end only
// the next day.
func (h *bankHouse) untilOpen() {
	for h.now().UTC().Hour() != 5 || h.now().Weekday() == time.Saturday || h.now().Weekday() == time.Sunday { // 13:00 in Beijing
		h.set(h.now().Truncate(time.Hour).Add(time.Hour))
	}
}

// untilPaid does the jobs again and again while the clock goes on, and says how long
// it took until the payout had succeeded and its receipt was there.
func (h *bankHouse) untilPaid(number, what string) time.Duration {
	h.t.Helper()
	began := h.now()
	for range 300 {
		h.jobs()
		got, err := h.maker.GetPayout(h.t.Context(), &payoutv1.GetPayoutRequest{Number: number})
		if err != nil {
			h.t.Fatal(err)
		}
		switch state := got.GetPayout().GetState(); state {
		case "APPROVED", "SENDING", "SENT", "UNKNOWN":
		case "SUCCEEDED":
			_, err := h.checker.GetReceipt(h.t.Context(), &payoutv1.GetReceiptRequest{Number: number})
			if err == nil && h.waiting() == 0 {
				return h.now().Sub(began)
			}
			if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
				h.t.Fatal(err)
			}
		default:
			h.t.Fatalf("%s: payout %s is %s", what, number, state)
		}
		// Finer at first, so that nothing is met that had to wait for the next day.
		h.after(min(max(h.now().Sub(began)/4, 11*time.Second), 20*time.Minute).Round(time.Second))
	}
	h.t.Fatalf("%s: payout %s has not ended; %d faults wait", what, number, h.waiting())
	return 0
}

// jobs sends and asks; while a fault waits, nobody waits long for an answer.
func (h *bankHouse) jobs() {
	h.t.Helper()
	ctx := h.t.Context()
	if h.waiting() > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, 300*time.Millisecond)
		defer stop()
	}
	_, sendErr := h.sendPayouts(ctx, h.now())
	_, pollErr := h.pollPayouts(ctx, h.now())
	if err := errors.Join(sendErr, pollErr); err != nil {
		h.t.Log(err) // the job failed, as it is listed; the next round goes on
	}
}

// waiting is how many planted faults have not been met.
func (h *bankHouse) waiting() int {
	h.t.Helper()
	answer, err := h.admin.Client().Get(h.admin.URL + "/bank/faults")
	if err != nil {
		h.t.Fatal(err)
	}
	var list []livebank.Fault
	if err := errors.Join(json.NewDecoder(answer.Body).Decode(&list), answer.Body.Close()); err != nil {
		h.t.Fatal(err)
	}
	return len(list)
}
