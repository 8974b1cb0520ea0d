package recon

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// Pair is which two sides are compared: each has a gate and a version of its own.
type Pair string

// The pairs.
const (
	Info  Pair = "INFO"  // 业务对账, HIS ↔ platform
	Funds Pair = "FUNDS" // 资金对账, platform ↔ channel
	Bank  Pair = "BANK"  // 到账核对, channel ↔ bank
)

// ruleSet names the rules that gave a verdict; a change of them is a new version
// of every day that is run again.
const ruleSet = "2026-11"

// feedKey names what one file, or one part of a bill, is about.
type feedKey struct {
	source  Source
	channel string
	account string
	part    Part
}

// inputs is what has been fed of a hospital's day: the digests of the files that
// count. A pair whose inputs are not all there is WAITING, and nothing that its
// missing side would know is called missing.
type inputs map[feedKey][]byte

func readInputs(ctx context.Context, tx pgx.Tx, hospital string, day, statements ledger.Day) (inputs, error) {
	rows, err := tx.Query(ctx, `
		SELECT source, channel, account, part, digest
		FROM feed_parts
		WHERE hospital = $1 AND ((day = $2 AND source <> 'STATEMENT') OR (day = $3 AND source = 'STATEMENT'))`,
		hospital, day, statements)
	if err != nil {
		return nil, fmt.Errorf("read what has been fed: %w", err)
	}
	in := inputs{}
	var k feedKey
	var digest []byte
	_, err = pgx.ForEachRow(rows, []any{&k.source, &k.channel, &k.account, &k.part, &digest}, func() error {
		in[k] = append([]byte(nil), digest...)
		return nil
	})
	return in, err
}

func (in inputs) his() bool { return in[feedKey{source: SourceHIS, part: PartAll}] != nil }

func (in inputs) bill(channel, no string) bool {
	return in[feedKey{SourceBill, channel, no, PartPay}] != nil && in[feedKey{SourceBill, channel, no, PartRefund}] != nil
}

func (in inputs) fund(channel, no string) bool {
	return in[feedKey{SourceFund, channel, no, PartAll}] != nil
}

func (in inputs) statement(account string) bool {
	return in[feedKey{SourceStatement, "", account, PartAll}] != nil
}

// hash is the version hash of one pair of one merchant number: the content of
// its inputs and the rules, nothing else, so that the same inputs are the same
// version whatever was run in between.
func (in inputs) hash(pair Pair, m *clearing.Merchant, legs string) []byte {
	h := sha256.New()
	add := func(parts ...[]byte) {
		for _, p := range parts {
			fmt.Fprintf(h, "%d:", len(p))
			h.Write(p)
		}
	}
	add([]byte(ruleSet), []byte(pair), []byte(m.Channel), []byte(m.No))
	switch pair {
	case Info:
		add([]byte(legs), in[feedKey{source: SourceHIS, part: PartAll}])
	case Funds:
		add([]byte(legs), in[feedKey{SourceBill, m.Channel, m.No, PartPay}], in[feedKey{SourceBill, m.Channel, m.No, PartRefund}])
	case Bank:
		add(in[feedKey{SourceFund, m.Channel, m.No, PartAll}], in[feedKey{SourceStatement, "", m.SettlesTo, PartAll}])
	}
	return h.Sum(nil)
}

// ready says whether every input of the pair is complete.
func (in inputs) ready(pair Pair, m *clearing.Merchant) bool {
	switch pair {
	case Info:
		return in.his()
	case Funds:
		return in.bill(m.Channel, m.No)
	}
	return in.fund(m.Channel, m.No) && in.statement(m.SettlesTo)
}

// The feeds, as they are named to people.
const (
	feedHIS       = "HIS details"
	feedBill      = "trade bill"
	feedFund      = "fund bill"
	feedStatement = "bank statement"
)

// missing names the feeds that a pair waits for, in words.
func (in inputs) missing(pair Pair, m *clearing.Merchant) []string {
	var out []string
	need := func(there bool, what string) {
		if !there {
			out = append(out, what)
		}
	}
	switch pair {
	case Info:
		need(in.his(), feedHIS+" of "+m.Hospital)
	case Funds:
		need(in.bill(m.Channel, m.No), feedBill+" of "+m.No)
	case Bank:
		need(in.fund(m.Channel, m.No), feedFund+" of "+m.No)
		need(in.statement(m.SettlesTo), feedStatement+" of "+m.SettlesTo)
	}
	return out
}

// version is the newest published version of a pair.
type version struct {
	number int
	run    int
	inputs []byte
}

type versionKey struct {
	pair    Pair
	channel string
	no      string
}

func readVersions(ctx context.Context, tx pgx.Tx, hospital string, day ledger.Day) (map[versionKey]version, error) {
	rows, err := tx.Query(ctx, `
		SELECT pair, channel, merchant_no, version, run, inputs
		FROM recon_versions
		WHERE hospital = $1 AND day = $2
		ORDER BY version`, hospital, day)
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	out := map[versionKey]version{}
	var k versionKey
	var v version
	_, err = pgx.ForEachRow(rows, []any{&k.pair, &k.channel, &k.no, &v.number, &v.run, &v.inputs}, func() error {
		kept := v
		kept.inputs = append([]byte(nil), v.inputs...)
		out[k] = kept
		return nil
	})
	return out, err
}
