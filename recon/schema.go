package recon

import (
	"embed"

	"github.com/clearward/clearward/ledger/db"
)

//go:embed schema/*.sql
var schemaFS embed.FS

// Schema is the tables of reconciliation: feeds, batches and cases.
var Schema = db.Schema{Name: "recon", FS: schemaFS}
