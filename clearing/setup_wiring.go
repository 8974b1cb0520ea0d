package clearing

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/clearward/clearward/ledger"
)

type setupApp struct {
	Name      string   `yaml:"name"`
	NotifyURL string   `yaml:"notify_url"`
	Hospitals []string `yaml:"hospitals"`
}

type setupPolicy struct {
	From            string `yaml:"from"`
	CashierLimitFen int64  `yaml:"cashier_limit_fen"`
	HeadLimitFen    int64  `yaml:"head_limit_fen"`
	Order           string `yaml:"order"`
}

type setupGateway struct {
	API         string            `yaml:"api"`
	Environment string            `yaml:"environment"`
	Settings    map[string]string `yaml:"settings"`
}

type setupHIS struct {
	URL    string `yaml:"url"`
	Format string `yaml:"format"`
	Secret string `yaml:"secret"`
}

type setupConnection struct {
	URL      string            `yaml:"url"`
	Settings map[string]string `yaml:"settings"`
}

// secretWords are settings whose values are secrets: only a reference may stand.
var secretWords = []string{"key", "secret", "password", "private", "cert"}

// settings checks that no secret stands in the file, and returns the JSON text.
func (c *checker) settings(field string, settings map[string]string) string {
	for name, value := range settings {
		isSecret := slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(strings.ToLower(name), word) })
		named := strings.HasSuffix(strings.ToLower(name), "_id") || strings.HasSuffix(strings.ToLower(name), "_serial")
		c.must(!isSecret || named || isReference(value), field+"."+name, "must be a reference (file:PATH or env:NAME), a secret never stands in a setup file")
	}
	text, err := json.Marshal(settings)
	c.must(err == nil, field, "cannot be kept")
	return string(text)
}

func isReference(text string) bool {
	return strings.HasPrefix(text, "file:") || strings.HasPrefix(text, "env:")
}

func (c *checker) address(text, field string) {
	u, err := url.Parse(text)
	c.must(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", field, "%q is not an http or https address", text)
}

// planWiring checks who may ask and where the outside is.
func (f *setupFile) planWiring(c *checker, p *setupPlan) {
	for _, a := range f.Apps {
		at := "app " + a.Name
		c.must(numberForm.MatchString(a.Name), at+".name", "%q must be 1 to 32 letters and digits", a.Name)
		if a.NotifyURL != "" {
			c.address(a.NotifyURL, at+".notify_url")
		}
		c.must(len(a.Hospitals) > 0, at+".hospitals", "must not be empty: an app acts for hospitals")
		p.wiring.Apps = append(p.wiring.Apps, App(a))
	}
	for i := range f.Hospitals {
		f.Hospitals[i].planWiring(c, &p.wiring)
	}
	for _, b := range f.OwnBankAccounts {
		b.planLink(c, &p.wiring)
	}
}

func (h *setupHospital) planWiring(c *checker, w *Wiring) {
	at := "hospital " + h.Code
	if his := h.HIS; his != nil {
		his.Format = cmp.Or(his.Format, "JSON")
		c.oneOf(his.Format, at+".his.format", "JSON", "XML")
		c.address(his.URL, at+".his.url")
		c.must(his.Secret == "" || isReference(his.Secret), at+".his.secret", "must be a reference (file:PATH or env:NAME)")
		w.HIS = append(w.HIS, HISLink{h.Code, his.URL, his.Format, his.Secret})
	}
	for _, r := range h.RefundPolicy {
		r.Order = cmp.Or(r.Order, OrderNewest)
		c.oneOf(r.Order, at+".refund_policy.order", OrderNewest, OrderOldest, OrderRoute)
		c.must(0 <= r.CashierLimitFen && r.CashierLimitFen <= r.HeadLimitFen, at+".refund_policy", "the limits must rise: 0, cashier_limit_fen, head_limit_fen")
		w.Policies = append(w.Policies, RefundPolicy{h.Code, c.day(r.From, at+".refund_policy.from"), ledger.Money(r.CashierLimitFen), ledger.Money(r.HeadLimitFen), r.Order})
	}
	for _, b := range h.BankAccounts {
		b.planLink(c, w)
	}
	for _, m := range h.Merchants {
		if g := m.Gateway; g != nil {
			field := at + ": merchant number " + m.MerchantNo + ".gateway"
			g.Environment = cmp.Or(g.Environment, "PRODUCTION")
			c.oneOf(g.Environment, field+".environment", "PRODUCTION", "SANDBOX")
			c.must(numberForm.MatchString(g.API), field+".api", "%q must be letters and digits", g.API)
			w.Gateways = append(w.Gateways, Gateway{m.Channel, m.MerchantNo, g.API, g.Environment, c.settings(field+".settings", g.Settings)})
		}
	}
}

func (b *setupBank) planLink(c *checker, w *Wiring) {
	if b.Connection == nil || slices.ContainsFunc(w.Banks, func(l BankLink) bool { return l.Account == b.Account }) {
		return
	}
	c.address(b.Connection.URL, "bank account "+b.Account+".connection.url")
	w.Banks = append(w.Banks, BankLink{b.Account, b.Connection.URL, c.settings("bank account "+b.Account+".connection.settings", b.Connection.Settings)})
}

// wiring stores apps and connections. Addresses and settings may change from file
// to file; a policy whose day has been named and the environment of a merchant
// number do not (scenario 37).
func (s *storing) wiring(ctx context.Context) error {
	now, err := LoadWiring(ctx, s.tx)
	if err != nil {
		return err
	}
	want := &s.want.wiring
	for _, a := range want.Apps {
		s.app(now, a)
	}
	for _, p := range want.Policies {
		i := slices.IndexFunc(now.Policies, func(is RefundPolicy) bool { return is.Hospital == p.Hospital && is.From == p.From })
		if i >= 0 {
			keep(s, "hospital "+p.Hospital+".refund_policy from "+p.From.String(), now.Policies[i], p)
			continue
		}
		s.batch.Queue(`INSERT INTO refund_policies (hospital, from_day, cashier_limit_fen, head_limit_fen, refund_order) VALUES ($1, $2, $3, $4, $5)`,
			p.Hospital, p.From, p.CashierLimit, p.HeadLimit, p.Order)
	}
	for _, g := range want.Gateways {
		was := slices.IndexFunc(now.Gateways, func(is Gateway) bool { return is.Channel == g.Channel && is.MerchantNo == g.MerchantNo })
		if was >= 0 { // books that hold real money take none of a sandbox
			keep(s, "merchant number "+g.MerchantNo+".gateway.environment", now.Gateways[was].Environment, g.Environment)
		}
		if !slices.Contains(now.Gateways, g) {
			s.batch.Queue(`
				INSERT INTO gateways (channel, merchant_no, api, environment, settings) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (channel, merchant_no) DO UPDATE SET api = excluded.api, environment = excluded.environment, settings = excluded.settings`,
				g.Channel, g.MerchantNo, g.API, g.Environment, g.Settings)
		}
	}
	for _, h := range want.HIS {
		if !slices.Contains(now.HIS, h) {
			s.batch.Queue(`
				INSERT INTO his_links (hospital, url, format, secret) VALUES ($1, $2, $3, $4)
				ON CONFLICT (hospital) DO UPDATE SET url = excluded.url, format = excluded.format, secret = excluded.secret`,
				h.Hospital, h.URL, h.Format, h.Secret)
		}
	}
	for _, b := range want.Banks {
		if !slices.Contains(now.Banks, b) {
			s.batch.Queue(`
				INSERT INTO bank_links (account, url, settings) VALUES ($1, $2, $3)
				ON CONFLICT (account) DO UPDATE SET url = excluded.url, settings = excluded.settings`, b.Account, b.URL, b.Settings)
		}
	}
	return nil
}

func (s *storing) app(now *Wiring, a App) {
	is, ok := now.App(a.Name)
	if !ok {
		is = &App{}
	}
	if !ok || is.NotifyURL != a.NotifyURL {
		s.batch.Queue(`
			INSERT INTO apps (name, notify_url) VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE SET notify_url = excluded.notify_url`, a.Name, a.NotifyURL)
	}
	for _, h := range a.Hospitals {
		_, planned := s.want.directory.Hospital(h)
		_, known := s.now.Hospital(h)
		s.must(planned || known, "app "+a.Name+".hospitals", "%q is not a hospital that is set up", h)
		if !slices.Contains(is.Hospitals, h) {
			s.batch.Queue(`INSERT INTO app_hospitals (app, hospital) VALUES ($1, $2)`, a.Name, h)
		}
	}
}
