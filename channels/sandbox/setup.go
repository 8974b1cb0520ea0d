package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeSetup writes the master data of all hospitals, with what the channels
// held for them on the evening before the first day.
func (g *generator) writeSetup() error {
	var b, balances strings.Builder
	b.WriteString("# Master data of a generated day, for `clearward setup setup.yaml` (idempotent).\nregion: {code: R1, name: 示范区}\nhospitals:\n")
	for i, h := range g.hospitals {
		ownership := "PUBLIC"
		if i%3 == 1 {
			ownership = "PRIVATE"
		}
		fmt.Fprintf(&b, "  - code: %s\n    name: %s\n    ownership: %s\n    his_calls: APP\n    bank_accounts:\n", h.code, h.name, ownership)
		fmt.Fprintf(&b, "      - {account: %q, name: %s, bank: 招商银行, role: SETTLEMENT}\n    merchants:\n", h.account, h.name)
		for _, m := range h.numbers() {
			aliases, foreign := "", ""
			if m.pid != "" {
				aliases = fmt.Sprintf(" aliases: [%q],", m.pid)
			}
			if m.foreign != "" {
				foreign = fmt.Sprintf(", foreign_prefixes: [%q]", m.foreign)
			}
			fmt.Fprintf(&b, "      - {channel: %s, merchant_no: %q,%s kind: DIRECT, settle_mode: A, fee_rate: \"0.%04d\", fee_bearer: PLATFORM, from: \"2026-01-01\", settles_to: %q, retained_fen: %d%s}\n",
				m.channel, m.no, aliases, m.rate, h.account, m.retained, foreign)
			g.writeOpening(&balances, m)
		}
		fmt.Fprintf(&b, "      - {channel: UNIONPAY, merchant_no: %q, kind: DIRECT, settle_mode: A, fee_rate: \"0.0060\", fee_bearer: PLATFORM, from: \"2026-01-01\", settles_to: %q, retained_fen: 0}\n", h.unionPay, h.account)
	}
	fmt.Fprintf(&b, "opening_balances:            # cut-over: what the channels held on the evening of %s\n%s", g.cfg.Day.Add(-1), balances.String())
	return os.WriteFile(filepath.Join(g.dir, "setup.yaml"), []byte(b.String()), 0o644)
}

// writeOpening writes the balance before the first day: what is retained stays,
// the rest is withdrawn that morning.
func (g *generator) writeOpening(b *strings.Builder, m *merchant) {
	if m.opening == 0 {
		return
	}
	arrives := fmt.Sprintf("%q", nextWorkingDay(g.cfg.Day.Add(-1)).String())
	if m.opening == m.retained {
		arrives = "null"
	}
	fmt.Fprintf(b, "  - {channel: %s, merchant_no: %q, fen: %d, arrives: %s}\n", m.channel, m.no, m.opening, arrives)
}
