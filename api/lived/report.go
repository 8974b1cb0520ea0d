package lived

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/clearward/clearward/api"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

var texts = map[string]map[string]string{
	"zh": {"title": "三家医院的一天：两家公立医院（渠道直接结算到医院账户），一家民营医院（银行存管）", "start": "启动数据库、消息队列、沙箱和服务", "draw": "安排当日就诊", "day": "当日收款与退款",
		"morning": "次日：取账单，11:30 对账", "settled": "第三日：银行流水到，结算入账", "subsidies": "手续费补贴：申请、复核、汇出、到账", "payout": "民营医院出款，银行退票", "check": "核对预设与发现", "paying": "收款",
		"fates": "当日就诊的支付经过：", "missed": "告知 HIS 时出错的调用（按计划重发）：", "heard": "其中 %d 笔支付或退款当日重发后到达，%d 笔在 HIS 交出当日明细之后才到达（见差异单）。", "few": "不足 %d 笔支付，未预设差异。", "payouts": "出款：", "whose": "医院银行账户余额 = 医院自有 + 患者款（挂账净额） + 待查：", "open": "各差异单挂账余额：", "equal": "预设 %d 项，逐项发现，三方金额一致，无多无少。",
		"stay": "服务保持运行，按 Ctrl-C 结束。查询余额：\n  curl -s -H 'Authorization: Bearer %[2]s' -H 'Content-Type: application/json' -d '{\"account\":\"2202.H1.AVAIL\"}' %[1]s/clearward.ledger.v1.LedgerService/GetBalance\n接口说明：%[3]s/openapi.json；沙箱管理口：%[4]s；日志：%[5]s/*.log",
		"kept": "数据目录：%s", "done": "全部通过，用时 %.1f 秒；内存峰值：服务进程 %d MiB，沙箱 %d，本进程（含消息代理）%d。", "wrong": "有 %d 处不符：", "killed": "其间服务进程被 kill -9 %d 次。"},
	"en": {"title": "A day of three hospitals: two public ones, which the channels pay directly, and a private one, whose money the bank holds", "start": "start database, broker, sandbox, server",
		"draw": "draw the day's visits", "day": "payments and refunds of the day", "morning": "next morning: bills fetched, run at 11:30", "settled": "third day: the statement, settlements booked",
		"subsidies": "fee subsidies asked for, approved, paid", "payout": "the private hospital paid; the bank returns it", "check": "planted against found", "paying": "paying", "fates": "How the day's visits paid:", "missed": "Calls by which HIS was told, and which went wrong and were repeated by plan:", "heard": "%d payments and refunds came through that day on a later try; %d only after HIS had handed in its day, and are cases below.", "few": "A day of fewer than %d payments: no differences were planted.", "payouts": "Payouts:", "whose": "Bank balance of each hospital = its own + patients' (net of what is open) + unknown:", "open": "What each case keeps open, and where:", "equal": "%d things planted; all of them found with the same amounts, and nothing else.",
		"stay": "Everything keeps running; Ctrl-C ends it. A balance:\n  curl -s -H 'Authorization: Bearer %[2]s' -H 'Content-Type: application/json' -d '{\"account\":\"2202.H1.AVAIL\"}' %[1]s/clearward.ledger.v1.LedgerService/GetBalance\nThe calls: %[3]s/openapi.json; the sandbox's admin port: %[4]s; logs: %[5]s/*.log",
		"kept": "data directory: %s",
		"done": "Everything agrees, in %.1f seconds; peak memory: server %d MiB, sandbox %d, this process with the broker %d.", "wrong": "%d things are not as they must be:", "killed": "The server was killed -9 %d times meanwhile."},
}

// fateWords are what becomes of visits, in Chinese.
var fateWords = map[fate]string{paid: "一次支付成功", refused: "渠道拒绝，换码后成功", password: "输入密码后成功", neverPaid: "未输入密码：撤销",
	unknownPaid: "无应答，实已付款", unknownNot: "无应答，未付款：撤销", twice: "同一幂等键请求两次", second: "同一账单再次支付被拒", walkedOff: "二维码无人支付：应用关单",
	lostNotice: "渠道通知丢失", twiceNotice: "渠道通知重复", forged: "先到一条伪造通知", foreign: "先到一条他人商户的通知"}

// words is what became of a visit, as people read it.
func (f fate) words(lang string) string {
	if text := fateWords[f]; lang == "zh" && text != "" {
		return text
	}
	return string(f)
}

func words(lang string) map[string]string {
	if t, ok := texts[lang]; ok {
		return t
	}
	return texts["en"]
}

func (l *life) say(name string, args ...any) {
	fmt.Fprintf(l.o.Out, words(l.o.Lang)[name]+"\n", args...)
}

// took prints a stage that is done.
func (l *life) took(name string, n int, took time.Duration) {
	text := words(l.o.Lang)[name]
	fmt.Fprintf(l.o.Out, "  %s%*s %8d  %6.1f s\n", text, max(48-recon.Width(text), 0), "", n, took.Seconds())
}

// report prints what a person wants to see of the day, and fails where anything is
// not as it must be.
func (l *life) report(ctx context.Context) error {
	if n := l.killed.Load(); n > 0 {
		l.say("killed", n)
	}
	l.say("fates")
	for _, f := range slices.Sorted(maps.Keys(l.fates)) {
		fmt.Fprintf(l.o.Out, "  %8d  %s\n", l.fates[f], f.words(l.o.Lang))
	}
	l.reportMissed()
	if l.o.Payments < fewest() {
		l.say("few", fewest())
	}
	fmt.Fprintln(l.o.Out)
	if err := l.within(ctx, "auditor", func(s *api.Server) error { return l.books(ctx, s) }); err != nil {
		return err
	}
	if len(l.trouble) == 0 {
		l.say("equal", l.plantedCases())
		l.say("done", time.Since(l.began).Seconds(), peak(l.server.cmd.Process.Pid), peak(l.sandbox.cmd.Process.Pid), peak(os.Getpid()))
		return nil
	}
	slices.Sort(l.trouble)
	l.say("wrong", len(l.trouble))
	for _, text := range l.trouble[:min(len(l.trouble), 40)] {
		fmt.Fprintln(l.o.Out, "  "+text)
	}
	return fmt.Errorf("%w: %d differences", ErrDemo, len(l.trouble))
}

// books prints the day as reconciled, what each case keeps open, the trial balance,
// and whose the money at the hospitals' bank is.
func (l *life) books(ctx context.Context, s *api.Server) error {
	found, err := s.Engine.Load(ctx, lifeDay)
	if err != nil {
		return err
	}
	if err := found.Write(l.o.Out, recon.FormatTable, l.o.Lang); err != nil {
		return err
	}
	l.say("open")
	var ids []string
	for _, i := range found.Items {
		if i.CaseID != "" {
			ids = append(ids, i.CaseID)
		}
	}
	rests, err := s.Resting(ctx, l.keys[accountant], ids)
	if err != nil {
		return err
	}
	shown := map[string]bool{}
	for _, i := range found.Items {
		if shown[i.CaseID] { // one case may have a row at each of two hospitals
			continue
		}
		shown[i.CaseID] = true
		for _, on := range rests[i.CaseID] {
			if on.Fen < 0 {
				l.wrong("case %s (%s) has %s on %s, which is too much the other way", i.CaseID, i.Code, on.Fen, on.Account)
			}
			fmt.Fprintf(l.o.Out, "  %s  %-12s %12s  %s %s\n", i.CaseID, i.Code, i.Amount, on.Account, on.Fen)
		}
	}
	l.say("payouts")
	for _, p := range l.payouts {
		fmt.Fprintf(l.o.Out, "  %s  %-9s %s %12s  %-10s %s %s\n", p.GetNumber(), p.GetKind(), p.GetHospital(), ledger.Money(p.GetAmountFen()), p.GetState(), p.GetHeld(), p.GetBankReason())
	}
	all, err := s.TrialBalance(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(l.o.Out)
	api.WriteBalances(l.o.Out, all, l.o.Lang)
	return l.whose(ctx, all)
}

// whose prints the bank balance of every hospital, split into what is its own, what
// is patients' and what nobody has claimed.
func (l *life) whose(ctx context.Context, all []ledger.AccountBalance) error {
	var held []struct {
		Account   string `json:"account"`
		BookedFen int64  `json:"booked_fen"`
	}
	if err := l.ask(ctx, "/bank/accounts", nil, &held); err != nil {
		return err
	}
	books := map[string]ledger.Money{}
	for _, a := range all {
		books[a.Code] += a.Balance()
	}
	l.say("whose")
	for _, h := range hospitals {
		var booked ledger.Money
		for _, a := range held {
			if a.Account == h.account {
				booked = ledger.Money(a.BookedFen)
			}
		}
		unknown := books["2243."+h.account]
		patients := books["1002.HOSP."+h.account] - unknown
		if h.mode == "B" {
			patients = books["1002.CUST."+h.account+"."+h.code] - books["2202."+h.code+".AVAIL"] - books["2202."+h.code+".FROZEN"] - unknown
		}
		fmt.Fprintf(l.o.Out, "  %s %s %14s = %14s + %12s + %12s\n", h.code, h.account, booked, booked-patients-unknown, patients, unknown)
	}
	return nil
}

// plantedCases counts the rows that must have been found.
func (l *life) plantedCases() (n int) {
	for _, f := range l.faults {
		n += len(f.found)
	}
	return n
}

// closing ends the house.
func (l *life) closing() error {
	if l.house == nil {
		return errors.New("nothing was started")
	}
	return l.house.close()
}
