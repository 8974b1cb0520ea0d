package api

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/recon"
)

// advice says what to do next, by what went wrong.
var advice = []struct {
	err  error
	next string
}{
	{ErrNoKey, "give --key or set CLEARWARD_KEY; `clearward key new --person NAME --role ROLE` makes one"},
	{auth.ErrUnknownKey, "`clearward key list` names the keys, `clearward key new` makes one"},
	{auth.ErrRevoked, "`clearward key new` makes another"},
	{auth.ErrEnded, "`clearward key deputy` names a deputy again"},
	{auth.ErrDeputy, "look at the names; `clearward key list` shows who holds what, --until is a day"},
	{auth.ErrSignature, "sign method, path, time, nonce and body as api/sdk does"},
	{auth.ErrClock, "set the clock of this machine by NTP"},
	{auth.ErrMustSign, "use api/sdk, or sign as it does"},
	{auth.ErrNoRole, "give --role"},
	{auth.ErrNoName, "give --person or --service"},
	{auth.ErrForbiddenPair, "give the post to somebody else, or revoke the other key"},
	{pay.ErrField, "correct the field and ask again, under a new key where the call takes one"},
	{pay.ErrNotAllowed, "look at the app and the hospital in the setup"},
	{pay.ErrPaid, "GetPayment shows what was paid"},
	{pay.ErrLive, "QueryPayment asks the channel, ClosePayment ends it, replace=true does both"},
	{pay.ErrNotFound, "look at the number"},
	{pay.ErrState, "read it again: its state has changed"},
	{pay.ErrForeign, "nothing is changed; look at who sent it"},
	{pay.ErrDiffers, "a person looks at both amounts"},
	{pay.ErrOrderOfSteps, "ListOperations shows the order of operations"},
	{pay.ErrRefundable, "GetRefundable shows the limits"},
	{pay.ErrInFlight, "ListRefunds shows the refund under way"},
	{pay.ErrTwoPeople, "ask another person"},
	{pay.ErrNoCall, "handle it on the channel's merchant platform; QueryRefund then sees it"},
	{ledger.ErrKeyConflict, "send the first request again, or take another key for another request"},
	{ledger.ErrKeyExpired, "read what it came to by its number"},
	{payout.ErrSamePerson, "ask another person"},
	{payout.ErrLimit, "ask somebody with a higher limit"},
	{payout.ErrEdited, "read the payout again and approve what it says"},
	{payout.ErrTotals, "read the payouts again and add them up"},
	{payout.ErrPayee, "ListPayees shows the white-list"},
	{payout.ErrPayeeHeld, "wait until usable_from of the payee"},
	{payout.ErrPaused, "two people resume payouts by ResumePayouts"},
	{pay.ErrTopUp, "the hospital tops up its account first"},
	{auth.ErrDenied, "ask somebody whose role may"},
	{clearing.ErrSetup, "nothing was stored; correct the file and run the command again"},
	{clearing.ErrImport, "run the command again: what is posted is not posted twice"},
	{recon.ErrHISBooked, "reject a refund that waits; HIS_BOOKS takes over what HIS has booked"},
	{recon.ErrHISSilent, "nothing is decided: ask again when HIS answers"},
	{recon.ErrProof, "nothing of the run counts; keep the feeds and report it"},
	{local.ErrOtherStack, "unset CLEARWARD_DATABASE_URL and CLEARWARD_KAFKA_BROKERS, or set another CLEARWARD_DATA_DIR"},
	{db.ErrAmbiguous, "run the command again: what is done is not done twice"},
	{ledger.ErrUnknown, "run the command again: what is done is not done twice"},
	{ErrHolderGone, "run the command again: what is done is not done twice"},
	{ErrNoAccount, "`clearward verify --balances` lists those that do not stand at zero"},
	{jobs.ErrUnknownJob, "`clearward jobs list` names them"},
	{sdk.ErrKey, "`clearward key new` makes one"},
	{ErrOpenDoor, "give --tls-cert and --tls-key, or a loopback address"},
	{clearing.ErrUnknownHospital, "look at the code; `clearward setup` brings hospitals in"},
	{fs.ErrNotExist, "look at the path"},
	{context.Canceled, "run the command again: what is done is not done twice"},
}

// Explain is one line for a person: what is wrong; what to do next.
func Explain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	for _, a := range advice {
		if errors.Is(err, a.err) {
			return text + "; " + a.next
		}
	}
	var file *channels.FileError
	if errors.As(err, &file) {
		return text + "; nothing of the file counts, correct it and run the command again"
	}
	return text
}
