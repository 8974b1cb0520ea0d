// Package ledger is the double-entry core: accounts, entries, balances and the
// one committer through which everything is written. It knows nothing of
// payments, hospitals or channels.
//
// Its invariants, each stated in Go, held by a constraint and recomputed by
// Verify: an entry balances because a posting has both sides; each set of a book
// balances at every posting; what is written is never changed; the sums that
// balances are read from equal the postings; an account with a floor never falls
// below it by a decision; the same request is answered once.
//
// Any package to the right writes by verbs (Verb, Submit) and reads in a
// transaction of its own (BalanceAt, Statement, TrialBalance, OpenItems).
package ledger

import (
	"embed"

	"github.com/clearward/clearward/ledger/db"
)

//go:embed schema
var schemaFS embed.FS

// Schema is the ledger's tables.
var Schema = db.Schema{Name: "ledger", FS: schemaFS}
