package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/channels/sandbox/livebank"
	"github.com/clearward/clearward/channels/sandbox/livehis"
	"github.com/clearward/clearward/clearing"
)

// upSetup is two public hospitals on settle mode A, the second with a HIS that the
// platform calls, and a private one on mode B.
const upSetup = `
region: {code: R1, name: 示范区}
apps:
  - {name: HTAPP, hospitals: [H1, H2, H3]}
hospitals:
  - code: H1
    name: 示范第一医院
    ownership: PUBLIC
    his_calls: APP
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 100000, head_limit_fen: 1000000}]
    bank_accounts: [{account: "6801", name: 示范第一医院, bank: 招商银行, role: SETTLEMENT, BANK}]
    merchants:
      - {channel: WECHAT, merchant_no: "1900000101", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0,
         gateway: {api: V3, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT", notify_url: "DOOR/notify/WECHAT/1900000101", refund_notify_url: "DOOR/notify/WECHAT/1900000101",
           key: "file:KEYS/1900000101/api_v2.key", v3_key: "file:KEYS/1900000101/api_v3.key", private_key: "file:KEYS/1900000101/merchant_key.pem", certificate: "file:KEYS/1900000101/merchant_cert.pem"}}}
      - {channel: ALIPAY, merchant_no: "20880000000000020156", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6801", retained_fen: 0,
         gateway: {api: ALIPAY, environment: SANDBOX, settings: {app_id: "2021000000000001", seller_id: "2088000000000002", base_url: "ALIPAY/gateway.do", notify_url: "DOOR/notify/ALIPAY/20880000000000020156",
           private_key: "file:KEYS/20880000000000020156/merchant_key.pem", alipay_key: "file:KEYS/channel/alipay_pub.pem"}}}
  - code: H2
    name: 示范第二医院
    ownership: PUBLIC
    his_calls: PLATFORM
    his: {url: "HIS/H2", format: JSON, secret: "file:KEYS/his-H2.key"}
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 100000, head_limit_fen: 1000000}]
    bank_accounts: [{account: "6802", name: 示范第二医院, bank: 招商银行, role: SETTLEMENT, BANK}]
    merchants:
      - {channel: WECHAT, merchant_no: "1900000102", kind: DIRECT, settle_mode: A, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "6802", retained_fen: 0,
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT", key: "file:KEYS/1900000102/api_v2.key", notify_url: "DOOR/notify/WECHAT/1900000102", refund_notify_url: "DOOR/notify/WECHAT/1900000102"}}}
  - code: H3
    name: 示范民营医院
    ownership: PRIVATE
    his_calls: APP
    refund_policy: [{from: "2026-01-01", cashier_limit_fen: 100000, head_limit_fen: 1000000}]
    bank_accounts: [{account: "8801", name: 存管专户, bank: 招商银行, role: CUSTODY, BANK}]
    merchants:
      - {channel: WECHAT, merchant_no: "1900000103", kind: DIRECT, settle_mode: B, fee_rate: "0.0060", fee_bearer: PLATFORM, from: "2026-01-01", settles_to: "8801", retained_fen: 0,
         gateway: {api: V2, environment: SANDBOX, settings: {app_id: wx1, base_url: "WECHAT", key: "file:KEYS/1900000103/api_v2.key", notify_url: "DOOR/notify/WECHAT/1900000103", refund_notify_url: "DOOR/notify/WECHAT/1900000103"}}}
`

// upBank connects an account to the sandbox bank.
const upBank = `connection: {url: "BANKURL", settings: {environment: SANDBOX, customer: C1, bic: CMBCCNBS, key_id: ` + livebank.CustomerKey +
	`, private_key: "file:KEYS/bank/customer_key.pem", bank_key.` + livebank.BankKey + `: "file:KEYS/bank/bank_pub.pem"}}`

// upPeople are who has a key in the demo house.
var upPeople = []struct {
	name string
	role auth.Role
}{{"HTAPP", auth.Service}, {"张会计", auth.Accountant}, {"李主管", auth.FinanceHead}, {"王出纳", auth.Treasurer}, {"孙运营", auth.Operator}, {"陈信息", auth.IT}, {"赵审计", auth.Auditor}}

// Up runs the program beside a sandbox with three demo hospitals until ctx ends. It
// keeps everything in the data directory and finds it there the next time. Ready is
// called once calls are answered, with the address and the keys by name; nil for nobody.
func Up(ctx context.Context, c Config, listenAt string, out io.Writer, ready func(url string, keys map[string]string)) error {
	o := ServeOptions{Listen: listenAt}
	door, err := listen(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = door.Close() }() // again, where serving has ended
	c.Local.API = door.Addr().String()
	s, err := Open(ctx, c)
	if err != nil {
		return err
	}
	if s.stack.DataDir == "" {
		return errors.Join(fmt.Errorf("%w: up keeps its sandbox in a data directory: set CLEARWARD_DATA_DIR", ErrRefused), s.Close())
	}
	box, err := s.sandbox(filepath.Join(s.stack.DataDir, "sandbox"))
	if err != nil {
		return errors.Join(err, s.Close())
	}
	url := "http://" + door.Addr().String()
	keys, err := s.furnish(ctx, box, url)
	if err == nil {
		s.welcome(out, box, url, keys)
		if ready != nil {
			ready(url, keys)
		}
		err = s.serve(ctx, door, o, out)
	}
	return errors.Join(err, box.Close(), s.Close())
}

// sandbox starts the outside world of the demo house.
func (s *Server) sandbox(dir string) (*live.Server, error) {
	merchant := func(no, channel, app, account string) live.Merchant {
		return live.Merchant{No: no, Channel: channel, Apps: []string{app}, FeeRate: "0.0060", BankAccount: account, OpeningFen: 10_000_000, RetainedFen: 10_000_000}
	}
	return live.Start(live.Config{Dir: dir, Now: s.now, FreePerDay: 1000,
		Merchants: []live.Merchant{merchant("1900000101", channels.WeChat, "wx1", "6801"), merchant("1900000102", channels.WeChat, "wx1", "6802"),
			merchant("1900000103", channels.WeChat, "wx1", "8801"), merchant("20880000000000020156", channels.Alipay, "2021000000000001", "6801")},
		HIS:  []livehis.Hospital{{Code: "H2", Format: his.JSON}},
		Bank: livebank.Config{Accounts: []livebank.Account{{No: "6801", Name: "示范第一医院"}, {No: "6802", Name: "示范第二医院"}, {No: "8801", Name: "存管专户"}}}})
}

// furnish stores the demo hospitals with the addresses of now, and makes the keys
// of people and programs at the first start.
func (s *Server) furnish(ctx context.Context, box *live.Server, url string) (map[string]string, error) {
	dir := filepath.Join(s.stack.DataDir, "sandbox")
	text := strings.NewReplacer("BANKURL", box.Addresses.Bank, `"WECHAT"`, `"`+box.Addresses.WeChat+`"`, "ALIPAY/", box.Addresses.Alipay+"/", "HIS/", box.Addresses.HIS+"/",
		"DOOR", url, "KEYS", filepath.Join(dir, "keys")).Replace(strings.ReplaceAll(upSetup, "BANK}", upBank+"}"))
	if _, err := clearing.Setup(ctx, s.DB, strings.NewReader(text)); err != nil {
		return nil, err
	}
	s.setUpAgain()
	path, keys := filepath.Join(dir, "people.json"), map[string]string{}
	kept, err := os.ReadFile(path)
	if err == nil {
		return keys, json.Unmarshal(kept, &keys)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, who := range upPeople {
		if keys[who.name], err = s.NewKey(ctx, who.name, who.role); err != nil {
			return nil, err
		}
	}
	if kept, err = json.MarshalIndent(keys, "", "  "); err != nil {
		return nil, err
	}
	return keys, os.WriteFile(path, kept, 0o600)
}

// welcome says where everything is, and what to try first.
func (s *Server) welcome(out io.Writer, box *live.Server, url string, keys map[string]string) {
	at := box.Addresses
	fmt.Fprintf(out, `everything is kept in %s
API        %s
WeChat Pay %s
Alipay     %s
HIS        %s/H2
bank       %s
sandbox    %s (faults, the payer, the clock: clearward sandbox --help)
keys of people and programs: %s

A payment by a scanned code, signed as the app HTAPP:
  export CLEARWARD_KEY=%s
  clearward app --url %s pay '{"idempotencyKey":"first","hospital":"H1","channel":"WECHAT","billNo":"B1","bizType":"OUTPATIENT","terminal":"WINDOW1","way":"CODE","amountFen":"4500","authCode":"130000000000000001","clientIp":"127.0.0.1"}'
What the books say, as the auditor:
  curl -s %s/clearward.ledger.v1.LedgerService/ListBalances -H 'Content-Type: application/json' -H 'Authorization: Bearer %s' -d '{}'

`, s.stack.DataDir, url, at.WeChat, at.Alipay, at.HIS, at.Bank, at.Admin, filepath.Join(s.stack.DataDir, "sandbox", "people.json"), keys["HTAPP"], url, url, keys["赵审计"])
}
