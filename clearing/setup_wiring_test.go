package clearing

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger/db"
)

// wired is the sample setup with apps and connections.
func wired(t *testing.T) string {
	t.Helper()
	text := sampleSetup(t) + `
apps:
  - {name: KIOSK, notify_url: "http://127.0.0.1:9/n", hospitals: [H1]}
`
	text = strings.Replace(text, "    his_calls: APP\n", `    his_calls: APP
    his: {url: "http://127.0.0.1:9/his", format: XML, secret: "env:HIS"}
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 100, head_limit_fen: 200, order: ROUTE}, {from: "2026-10-01", cashier_limit_fen: 300, head_limit_fen: 400}]
`, 1)
	text = strings.Replace(text, `{channel: WECHAT, merchant_no: "1900000109",`,
		`{channel: WECHAT, merchant_no: "1900000109", gateway: {api: V3, environment: SANDBOX, settings: {app_id: wx1, private_key: "file:/k"}},`, 1)
	return text
}

func readWiring(t *testing.T, d *db.DB) (w *Wiring) {
	t.Helper()
	err := d.ReadTx(t.Context(), func(ctx context.Context, tx pgx.Tx) (err error) {
		w, err = LoadWiring(ctx, tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestSetupSaysWhoMayAskAndWhereTheOutsideIs(t *testing.T) {
	d := openTest(t)
	mustSetup(t, d, wired(t))
	w := readWiring(t, d)
	app, ok := w.App("KIOSK")
	if !ok || app.NotifyURL == "" || len(app.Hospitals) != 1 || len(w.Gateways) != 1 || w.Gateways[0].Settings != `{"app_id":"wx1","private_key":"file:/k"}` ||
		len(w.HIS) != 1 || w.HIS[0].Format != "XML" {
		t.Errorf("%+v", w)
	}
	if p := w.PolicyOn("H1", 20260930); p.CashierLimit != 100 || p.Order != OrderRoute {
		t.Errorf("in September %+v", p)
	}
	if p := w.PolicyOn("H1", 20261001); p.CashierLimit != 300 || p.Order != OrderNewest {
		t.Errorf("in October %+v", p)
	}
	if p := w.PolicyOn("H9", 20261001); p.CashierLimit != 0 {
		t.Errorf("without a policy %+v", p)
	}
	again, err := Setup(t.Context(), d, strings.NewReader(wired(t)))
	if err != nil || again.Changed != 0 {
		t.Errorf("the same file again changed %d, %v", again.Changed, err)
	}
	moved := strings.ReplaceAll(wired(t), "http://127.0.0.1:9/his", "http://127.0.0.1:10/his")
	if again, err = Setup(t.Context(), d, strings.NewReader(moved)); err != nil || again.Changed != 1 || readWiring(t, d).HIS[0].URL != "http://127.0.0.1:10/his" {
		t.Errorf("another address changed %d, %v", again.Changed, err)
	}
}

func TestSetupRefusesSecretsAndPoliciesThatChange(t *testing.T) {
	d := openTest(t)
	mustSetup(t, d, wired(t))
	for says, change := range map[string][2]string{
		"gateway.settings.private_key: must be a reference":   {"file:/k", "-----BEGIN"},
		"his.secret: must be a reference":                     {"env:HIS", "hunter2"},
		"is not an http or https address":                     {"http://127.0.0.1:9/n", "ftp://x"},
		"the limits must rise":                                {"head_limit_fen: 200", "head_limit_fen: 50"},
		"refund_policy from 2026-01-01: is":                   {"cashier_limit_fen: 100", "cashier_limit_fen: 101"},
		`"H7" is not a hospital`:                              {"hospitals: [H1]", "hospitals: [H7]"},
		"gateway.environment: is SANDBOX and does not change": {"environment: SANDBOX", "environment: PRODUCTION"}, // scenario 37
	} {
		_, err := Setup(t.Context(), d, strings.NewReader(strings.Replace(wired(t), change[0], change[1], 1)))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
