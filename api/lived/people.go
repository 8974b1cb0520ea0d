package lived

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/channels/sandbox/livebank"
)

// person is a principal of the demo.
type person struct {
	name   string
	role   auth.Role
	factor bool
}

const (
	appName    = "HTAPP"
	accountant = "张会计"
	head       = "李主管"
	treasurer  = "王出纳"
	operator   = "孙运营"
	auditor    = "陈审计"
)

var people = []person{{appName, auth.Service, false}, {accountant, auth.Accountant, false}, {head, auth.FinanceHead, true},
	{treasurer, auth.Treasurer, false}, {operator, auth.Operator, false}, {auditor, auth.Auditor, false}}

// hospital is one of the three.
type hospital struct {
	code, name, ownership string
	calls                 string // who calls HIS
	format                his.Format
	mode                  string // of settlement
	account               string // at the bank
	numbers               []number
}

// number is a merchant number, with the shares of the hospital's payments.
type number struct {
	channel, no, api string
	ways             []channels.Way
	share            int
}

var (
	codeWays   = []channels.Way{channels.WayCode}
	prepayWays = []channels.Way{channels.WayQR, channels.WayJSAPI}
)

// hospitals are two public ones, whose own accounts the channels pay (mode A), and
// a private one whose money the bank holds in custody (mode B). One payment in ten
// goes through a channel signed by RSA, whose signatures cost more than all else.
var hospitals = []hospital{
	{"H1", "海天示范医院", "PUBLIC", "APP", his.JSON, "A", "755947919810515", []number{
		{channels.WeChat, "1900000101", "V2", append(codeWays, prepayWays...), 64},
		{channels.Alipay, "2088000000000101", "ALIPAY", codeWays, 8},
		{channels.WeChat, "1900000104", "V2", codeWays, 3},
	}},
	{"H2", "海天第二医院", "PUBLIC", "PLATFORM", his.XML, "A", "755947919810516", []number{
		{channels.WeChat, "1900000102", "V3", append(slices.Repeat(codeWays, 8), prepayWays...), 69},
		{channels.Alipay, "2088000000000102", "ALIPAY", append(codeWays, channels.WayQR), 5},
	}},
	{"H3", "前进医院（民营）", "PRIVATE", "PLATFORM", his.JSON, "B", "755947919810517", []number{
		{channels.WeChat, "1900000103", "V2", codeWays, 74},
		{channels.Alipay, "2088000000000103", "ALIPAY", codeWays, 4},
	}},
}

// ownAccount is the platform's own, which pays subsidies.
const (
	ownAccount = "755947919810999"
	ownOpening = 100_000_000 // fen
)

// sandboxConfig is who has accounts in the sandbox.
func sandboxConfig() string {
	var b strings.Builder
	b.WriteString("enter_in: 8\nmerchants:\n")
	for _, h := range hospitals {
		for _, n := range h.numbers {
			fmt.Fprintf(&b, "  - {no: %q, channel: %s, apps: [%s], fee_rate: \"0.0060\", bank_account: %q, tails: code}\n", n.no, n.channel, n.appID(), h.account)
		}
	}
	fmt.Fprintf(&b, "bank:\n  accounts:\n  - {no: %q, name: 清算平台, opening_fen: %d}\n", ownAccount, ownOpening)
	for _, h := range hospitals {
		fmt.Fprintf(&b, "  - {no: %q, name: %s, opening_fen: 1000000}\n", h.account, h.name)
	}
	b.WriteString("his:\n")
	for _, h := range hospitals {
		fmt.Fprintf(&b, "  - {hospital: %s, format: %s}\n", h.code, h.format)
	}
	return b.String()
}

func (n *number) appID() string {
	if n.channel == channels.Alipay {
		return "2021000000000" + n.no[len(n.no)-3:]
	}
	return "wxdemo" + n.no[len(n.no)-3:]
}

// setup is the setup file of the three hospitals.
func (h *house) setup() string {
	var b strings.Builder
	b.WriteString("region: {code: R1, name: 示范区}\napps:\n  - {name: " + appName + ", notify_url: \"" + h.app.url + "\", hospitals: [H1, H2, H3]}\n")
	fmt.Fprintf(&b, "own_bank_accounts:\n  - {account: %q, name: 清算平台, bank: 招商银行, role: OWN, connection: %s}\nhospitals:\n", ownAccount, h.bankLink())
	for _, one := range hospitals {
		role := map[string]string{"A": "SETTLEMENT", "B": "CUSTODY"}[one.mode]
		fmt.Fprintf(&b, "  - code: %s\n    name: %s\n    ownership: %s\n    his_calls: %s\n", one.code, one.name, one.ownership, one.calls)
		fmt.Fprintf(&b, "    his: {url: \"%s/%s\", format: %s, secret: \"file:%s/sandbox/keys/his-%s.key\"}\n", h.where.HIS, one.code, one.format, h.dir, one.code)
		b.WriteString("    refund_policy: [{from: \"2026-01-01\", cashier_limit_fen: 100000, head_limit_fen: 5000000}]\n")
		fmt.Fprintf(&b, "    bank_accounts:\n      - {account: %q, name: %s, bank: 招商银行, role: %s, connection: %s}\n    merchants:\n", one.account, one.name, role, h.bankLink())
		for _, n := range one.numbers {
			fmt.Fprintf(&b, "      - {channel: %s, merchant_no: %q, kind: DIRECT, settle_mode: %s, fee_rate: \"0.0060\", fee_bearer: PLATFORM, from: \"2026-01-01\", settles_to: %q, retained_fen: 0, foreign_prefixes: [CT],\n", n.channel, n.no, one.mode, one.account)
			fmt.Fprintf(&b, "         gateway: {api: %s, environment: SANDBOX, settings: %s}}\n", n.api, h.settings(n))
		}
	}
	return b.String()
}

// settings are a number's connection: addresses, plain ids, and where its secrets
// are. The second hospital's WeChat number speaks v3, and V2 for codes; its Alipay
// number has certificates, the others keys.
func (h *house) settings(n number) string {
	own, theirs := "file:"+filepath.Join(h.dir, "sandbox/keys", n.no), "file:"+filepath.Join(h.dir, "sandbox/keys/channel")
	notify := h.url() + "/notify/" + n.channel + "/" + n.no
	s := map[string]string{"app_id": n.appID(), "notify_url": notify}
	switch {
	case n.channel == channels.WeChat:
		s["base_url"], s["key"], s["refund_notify_url"] = h.where.WeChat, own+"/api_v2.key", notify
		if n.api == "V3" {
			s["v3_key"], s["private_key"], s["certificate"] = own+"/api_v3.key", own+"/merchant_key.pem", own+"/merchant_cert.pem"
		}
	default:
		s["base_url"], s["seller_id"], s["private_key"] = h.where.Alipay+"/gateway.do", n.no, own+"/merchant_key.pem"
		if n.no == "2088000000000102" {
			s["app_cert"], s["alipay_cert"], s["root_cert"] = own+"/merchant_cert.pem", theirs+"/alipay_cert.pem", theirs+"/root_cert.pem"
		} else {
			s["alipay_key"] = theirs + "/alipay_pub.pem"
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // texts always encode
	}
	return string(text) // JSON is YAML
}

// bankLink is how the bank of every account is reached.
func (h *house) bankLink() string {
	keys := "file:" + filepath.Join(h.dir, "sandbox/keys/bank")
	return fmt.Sprintf(`{url: %q, settings: {environment: SANDBOX, customer: C1, bic: CMBCCNBS, key_id: %s, private_key: "%s/customer_key.pem", "bank_key.%s": "%s/bank_pub.pem"}}`,
		h.where.Bank, livebank.CustomerKey, keys, livebank.BankKey, keys)
}

// factorSecret reads the secret out of an otpauth address.
func factorSecret(address string) ([]byte, error) {
	shown, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(shown.Query().Get("secret"))
}

// factor is what the authenticator of a person shows now (RFC 6238).
func (h *house) factor(name string) string {
	mac := hmac.New(sha1.New, h.factors[name])
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(h.clock.Now().Unix()/int64(30*time.Second/time.Second))))
	sum := mac.Sum(nil)
	from := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[from:from+4])&0x7fffffff%1_000_000)
}
