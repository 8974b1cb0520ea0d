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
	{auth.ErrDenied, "ask somebody whose role may"},
	{clearing.ErrSetup, "nothing was stored; correct the file and run the command again"},
	{clearing.ErrImport, "run the command again: what is posted is not posted twice"},
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
