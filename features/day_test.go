package features_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cucumber/godog"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

var channelOf = map[string]string{"微信": channels.WeChat, "支付宝": channels.Alipay, "银联": channels.UnionPay}

var pairOf = map[string]recon.Pair{"业务对账": recon.Info, "资金对账": recon.Funds, "到账核对": recon.Bank}

func (h *house) daySteps(sc *godog.ScenarioContext) {
	sc.Step(`^对样例日对账$`, h.reconcileSample)
	sc.Step(`^样例日已经对账$`, func(ctx context.Context) error {
		return errors.Join(h.setUp(ctx), h.importSample(ctx), h.receive(ctx, fed()...), h.reconcileSample(ctx))
	})
	sc.Step(`^清单有 (\d+) 行，差异 (\d+) 笔，长款 (\d+) 笔 `+yuanText+`，短款 (\d+) 笔 `+yuanText+`$`, h.counted)
	sc.Step(`^清单与样例答案逐行一致$`, func() error { return h.listed(filepath.Join(sampleDir, "expected.csv")) })
	sc.Step(`^清单与预先埋下的答案逐行一致$`, h.planned)
	sc.Step(`^差额全部得到解释$`, h.explained)
	sc.Step(`^一正一负 (\d+) 组 `+yuanText+`，单列而不算差异$`, h.netZero)
	sc.Step(`^范围外流水 (\d+) 笔，只计数不列出$`, h.outOfScope)
	sc.Step(`^各项核对都是第 (\d+) 版$`, h.versions)
	sc.Step(`^商户号 (\d+) 的(业务对账|资金对账|到账核对)等待`+quoted+`$`, h.waits)
	sc.Step(`^(微信|支付宝)渠道没有`+quoted+`$`, func(channel, words string) error { return h.has(channel, 0, words) })
	sc.Step(`^(微信|支付宝)渠道有 (\d+) 笔`+quoted+`$`, h.has)
	sc.Step(`^清单里有 (\d+) 笔`+quoted+`$`, func(n int, words string) error { return h.has("", n, words) })
	sc.Step(`^清单里有 (\d+) 笔`+quoted+`，金额 `+yuanText+`$`, h.hasAmount)
	sc.Step(`^清单里有 (\d+) 笔`+quoted+`，是(长款|短款)$`, h.hasPolarity)
	sc.Step(`^没有差异$`, func() error { return equal("exceptions", h.day.Sum().Exceptions, 0) })
	sc.Step(`^结果表上写着`+quoted+`$`, h.printed)
	sc.Step(`^(微信|支付宝)商户号 (\d+) 应到账 `+yuanText+`，已到账 `+yuanText+`(?:，另留存 `+yuanText+`)?$`, h.arrived)
	sc.Step(`^另有一家医院的一天已经入账并对账，没有差异$`, h.cleanDay)
	sc.Step(`^渠道重出一份账单，少了一笔、多了一笔同额的$`, h.restate)
	sc.Step(`^重出的那个商户号资金对账是第 (\d+) 版$`, h.restatedVersion)
	sc.Step(`^清单正好多出少掉的那笔和多出的那笔$`, h.onlyTheRestated)
	sc.Step(`^另有一家医院的一天已经入账，其中一个商户号银行到账短少$`, func(ctx context.Context) error {
		return errors.Join(h.generate(sandbox.Config{Faults: map[string]int{"BANK_SHORT": 1}}), h.load(ctx, 0))
	})
	sc.Step(`^对这一天(?:重新)?对账$`, func(ctx context.Context) error { return h.reconcile(ctx, h.dayPlan.Day) })
	sc.Step(`^某医院连续两天的业务，有 (\d+) 笔跨在午夜$`, func(n int) error {
		return h.generate(sandbox.Config{Days: 2, Faults: map[string]int{"PENDING": n}})
	})
	sc.Step(`^第一天的文件到齐并对账$`, func(ctx context.Context) error { return h.wholeDay(ctx, 0) })
	sc.Step(`^第二天的文件到齐并对账$`, func(ctx context.Context) error { return h.wholeDay(ctx, 1) })
	sc.Step(`^第二天除渠道账单以外的文件到齐并对账$`, func(ctx context.Context) error {
		return h.wholeDay(ctx, 1, sandbox.SourceTrade, sandbox.SourceFund)
	})
	sc.Step(`^科目`+quoted+`(借方|贷方)余额为 `+yuanText+`$`, h.balance)
	sc.Step(`^科目`+quoted+`借方余额大于零$`, h.positive)
	sc.Step(`^科目余额正好是:$`, h.exactly)
	sc.Step(`^所有科目余额为零$`, func(ctx context.Context) error {
		all, err := h.balances(ctx)
		return errors.Join(err, equal("accounts with a balance", fmt.Sprint(all), "map[]"))
	})
	sc.Step(`^借方合计等于贷方合计$`, h.balanced)
	sc.Step(`^账簿核验无发现$`, h.sound)
	sc.Step(`^有人直接改数据库里一条分录的金额$`, h.tamper)
	sc.Step(`^程序关闭后重新打开$`, h.reopen)
}

func (h *house) reconcileSample(ctx context.Context) error { return h.reconcile(ctx, sampleDay) }

func (h *house) reconcile(ctx context.Context, day ledger.Day) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	found, err := s.Reconcile(ctx, day, nil)
	if err != nil {
		return h.acted(err)
	}
	if h.day != nil && h.day.Day == day {
		h.sums = rows(h.day.Items)
	}
	h.day = found
	return h.acted(nil)
}

func (h *house) wholeDay(ctx context.Context, n int, leave ...string) error {
	if err := h.load(ctx, n, leave...); err != nil {
		return err
	}
	return h.reconcile(ctx, h.dayPlan.Day)
}

// rows are the listed items, as text in the columns of the plain list.
func rows(items []*recon.Item) []string {
	var out []string
	for _, i := range items {
		if i.Code.Listed() {
			out = append(out, row(string(i.Code), i.Polarity(), i.Channel, i.OrderNo, i.RefundNo, i.BankRef, i.HIS, i.Platform, i.ChannelFen, i.Amount))
		}
	}
	slices.Sort(out)
	return out
}

// planRows are the planted cases in the same form.
func planRows(cases ...sandbox.Case) []string {
	var out []string
	for _, c := range cases {
		out = append(out, row(c.Code, c.Polarity, c.Channel, c.OrderNo, c.RefundNo, c.BankRef,
			(*ledger.Money)(c.HisFen), (*ledger.Money)(c.PlatformFen), (*ledger.Money)(c.ChannelFen), ledger.Money(c.AmountFen)))
	}
	slices.Sort(out)
	return out
}

func row(code, polarity, channel, order, refund, ref string, his, platform, bill *ledger.Money, amount ledger.Money) string {
	said := func(m *ledger.Money) string {
		if m == nil {
			return ""
		}
		return m.String()
	}
	return strings.Join([]string{code, polarity, channel, order, refund, ref, said(his), said(platform), said(bill), amount.String()}, ",")
}

func (h *house) counted(lines, exceptions, long int, longYuan string, short int, shortYuan string) error {
	longFen, err := ledger.ParseYuan(longYuan)
	if err != nil {
		return err
	}
	shortFen, err := ledger.ParseYuan(shortYuan)
	if err != nil {
		return err
	}
	got := h.day.Sum()
	return errors.Join(equal("rows", len(rows(h.day.Items)), lines), equal("exceptions", got.Exceptions, exceptions),
		equal("long", got.Long, long), equal("long", got.LongFen, longFen),
		equal("short", got.Short, short), equal("short", got.ShortFen, shortFen))
}

// listed compares the plain list with a file, byte by byte.
func (h *house) listed(path string) error {
	want, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var got bytes.Buffer
	if err := h.day.Write(&got, recon.FormatCSV, "zh"); err != nil {
		return err
	}
	if _, err := csv.NewReader(bytes.NewReader(got.Bytes())).ReadAll(); err != nil {
		return err
	}
	return equal("the list", got.String(), string(want))
}

func (h *house) planned() error {
	return differ(rows(h.day.Items), planRows(h.dayPlan.Cases...))
}

// differ names the rows that only one side has.
func differ(found, planted []string) error {
	var errs []error
	for _, r := range found {
		if !slices.Contains(planted, r) {
			errs = append(errs, fmt.Errorf("found, not planted: %s", r))
		}
	}
	for _, r := range planted {
		if !slices.Contains(found, r) {
			errs = append(errs, fmt.Errorf("planted, not found: %s", r))
		}
	}
	return errors.Join(append(errs, equal("rows", len(found), len(planted)))...)
}

func (h *house) explained() error {
	proofs := 0
	for _, s := range h.day.Slices {
		if s.Stats != nil {
			proofs++
			if left := s.Stats.Proof(); left != 0 {
				return fmt.Errorf("%s %s leaves %s unexplained", s.MerchantNo, s.Pair, left)
			}
		}
	}
	if proofs == 0 {
		return errors.New("nothing was proved")
	}
	return nil
}

func (h *house) netZero(n int, yuan string) error {
	fen, err := ledger.ParseYuan(yuan)
	if err != nil {
		return err
	}
	return errors.Join(equal("pairs", h.day.Runs[0].NetZero, n), equal("amount", h.day.Runs[0].NetZeroFen, fen), h.has("", 0, "一正一负"))
}

func (h *house) outOfScope(n int) error {
	return errors.Join(equal("lines", h.day.Runs[0].ScopeLines, n), h.has("", 0, "范围外流水"))
}

// versions checks every pair that does not wait.
func (h *house) versions(n int) error {
	ready := 0
	for _, s := range h.day.Slices {
		if len(s.Waiting) > 0 {
			continue
		}
		ready++
		if s.Version != n {
			return fmt.Errorf("%s %s is version %d", s.MerchantNo, s.Pair, s.Version)
		}
	}
	if ready == 0 {
		return errors.New("everything waits")
	}
	return nil
}

func (h *house) slice(no string, pair recon.Pair) (recon.SliceReport, error) {
	for _, s := range h.day.Slices {
		if s.MerchantNo == no && s.Pair == pair {
			return s, nil
		}
	}
	return recon.SliceReport{}, fmt.Errorf("%s has no %s", no, pair)
}

func (h *house) waits(no, pair, file string) error {
	s, err := h.slice(no, pairOf[pair])
	if err != nil {
		return err
	}
	if !slices.Contains(s.Waiting, file) || s.Version != 0 {
		return fmt.Errorf("it is version %d and waits for %q", s.Version, s.Waiting)
	}
	return nil
}

// called are the listed items with a name, of one channel or ("") of all.
func (h *house) called(channel, words string) ([]*recon.Item, error) {
	if !slices.ContainsFunc(everyCode(), func(c recon.Code) bool { return c.Words("zh") == words }) {
		return nil, fmt.Errorf("no difference is called %s", words)
	}
	return slices.DeleteFunc(slices.Clone(h.day.Items), func(i *recon.Item) bool {
		return i.Code.Words("zh") != words || !i.Code.Listed() || channel != "" && i.Channel != channelOf[channel]
	}), nil
}

// everyCode lists the codes whose names scenarios use.
func everyCode() []recon.Code {
	return []recon.Code{recon.F1, recon.F2, recon.F3, recon.F4, recon.F5, recon.F6, recon.F7, recon.F9, recon.F10, recon.F11, recon.F12,
		recon.I1, recon.I2, recon.I3, recon.I4, recon.I5, recon.I6, recon.I7, recon.I8, recon.Phantom, recon.BankMissing, recon.BankShort, recon.BankOver,
		recon.BankFee, recon.Pending, recon.Sweep, recon.Waiting, recon.NetZero, recon.OutOfScope}
}

func (h *house) has(channel string, n int, words string) error {
	found, err := h.called(channel, words)
	return errors.Join(err, equal(words, len(found), n))
}

func (h *house) hasAmount(n int, words, yuan string) error {
	fen, err := ledger.ParseYuan(yuan)
	if err != nil {
		return err
	}
	found, err := h.called("", words)
	if err != nil || len(found) != n {
		return errors.Join(err, equal(words, len(found), n))
	}
	var sum ledger.Money
	for _, i := range found {
		sum += i.Amount
	}
	return equal(words, sum, fen)
}

func (h *house) hasPolarity(n int, words, polarity string) error {
	found, err := h.called("", words)
	if err != nil || len(found) != n {
		return errors.Join(err, equal(words, len(found), n))
	}
	for _, i := range found {
		if i.Polarity() != map[string]string{"长款": "long", "短款": "short"}[polarity] {
			return fmt.Errorf("%s is %q, %s", words, i.Polarity(), i.Amount)
		}
	}
	return nil
}

func (h *house) printed(words string) error {
	var table bytes.Buffer
	if err := h.day.Write(&table, recon.FormatTable, "zh"); err != nil {
		return err
	}
	if !strings.Contains(table.String(), words) {
		return fmt.Errorf("the table is\n%s", table.String())
	}
	return nil
}

func (h *house) arrived(_, no, expected, arrived, retained string) error {
	s, err := h.slice(no, recon.Bank)
	if err != nil {
		return err
	}
	if s.Settlement == nil {
		return fmt.Errorf("%s waits for %v", no, s.Waiting)
	}
	return errors.Join(equal("expected", s.Settlement.Expected.String(), expected), equal("arrived", s.Settlement.Arrived.String(), arrived),
		equal("retained", s.Settlement.Retained.String(), cmp.Or(retained, "0.00")))
}

func (h *house) cleanDay(ctx context.Context) error {
	if err := errors.Join(h.generate(sandbox.Config{}), h.wholeDay(ctx, 0)); err != nil {
		return err
	}
	return errors.Join(equal("exceptions", h.day.Sum().Exceptions, 0), h.planned())
}

func (h *house) restate(ctx context.Context) (err error) {
	if h.restated, err = sandbox.Restate(h.file("other"), h.plan); err != nil {
		return err
	}
	d := documents["微信交易账单"]
	return h.send(ctx, d.kind, d.told, h.file(filepath.Join("other", h.restated.File)))
}

func (h *house) restatedVersion(n int) error {
	for _, s := range h.day.Slices {
		want := 1
		if s.MerchantNo == h.restated.Removed.MerchantNo && s.Pair == recon.Funds {
			want = n
		}
		if len(s.Waiting) == 0 && s.Version != want {
			return fmt.Errorf("%s %s is version %d, want %d", s.MerchantNo, s.Pair, s.Version, want)
		}
	}
	return nil
}

func (h *house) onlyTheRestated() error {
	want := append(slices.Clone(h.sums), planRows(h.restated.Removed, h.restated.Added)...)
	return differ(rows(h.day.Items), want)
}

func (h *house) balance(ctx context.Context, code, side, yuan string) error {
	fen, err := ledger.ParseYuan(yuan)
	if err != nil {
		return err
	}
	if side == "贷方" {
		fen = -fen
	}
	all, err := h.balances(ctx)
	return errors.Join(err, equal(code, all[code], fen))
}

func (h *house) positive(ctx context.Context, code string) error {
	all, err := h.balances(ctx)
	if err == nil && all[code] <= 0 {
		err = fmt.Errorf("%s is %s", code, all[code])
	}
	return err
}

func (h *house) exactly(ctx context.Context, table *godog.Table) error {
	want := map[string]ledger.Money{}
	for _, r := range table.Rows[1:] {
		for i, sign := range []ledger.Money{1, -1} {
			if text := r.Cells[1+i].Value; text != "" {
				fen, err := ledger.ParseYuan(text)
				if err != nil {
					return err
				}
				want[r.Cells[0].Value] = sign * fen
			}
		}
	}
	got, err := h.balances(ctx)
	if err == nil && !maps.Equal(got, want) {
		err = fmt.Errorf("the balances are %v, want %v", got, want)
	}
	return err
}

func (h *house) balanced(ctx context.Context) error {
	all, err := h.server.TrialBalance(ctx)
	var debits, credits ledger.Money
	for _, b := range all {
		debits += b.Debits
		credits += b.Credits
	}
	if err == nil && debits == 0 {
		err = errors.New("nothing is posted")
	}
	return errors.Join(err, equal("debits", debits, credits))
}

func (h *house) sound(ctx context.Context) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	found, err := s.Verify(ctx)
	for _, f := range found {
		err = errors.Join(err, errors.New(f.String()))
	}
	return err
}

func (h *house) reopen(ctx context.Context) error {
	if err := h.close(); err != nil {
		return err
	}
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	h.day, err = s.Engine.Load(ctx, sampleDay)
	return err
}
