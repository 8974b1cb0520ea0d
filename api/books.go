package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// importMaker stands as maker in the entries of an import.
const importMaker = "clearward import"

// Setup stores the master data of a file and opens their accounts.
func (s *Server) Setup(ctx context.Context, path string) (clearing.SetupSummary, error) {
	file, err := os.Open(path)
	if err != nil {
		return clearing.SetupSummary{}, err
	}
	defer file.Close()
	summary, err := clearing.Setup(ctx, s.DB, file)
	if err != nil {
		return summary, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	s.setUpAgain()
	return summary, nil
}

// Import posts the history of a business app.
func (s *Server) Import(ctx context.Context, path string, progress func(done, total int)) (clearing.ImportSummary, error) {
	file, err := os.Open(path)
	if err != nil {
		return clearing.ImportSummary{}, err
	}
	defer file.Close()
	importer := clearing.Importer{DB: s.DB, Committer: s.committer, Maker: importMaker, Progress: progress}
	summary, err := importer.Import(ctx, file)
	if err != nil {
		return summary, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return summary, nil
}

// Reconcile runs a day on all that was fed before.
func (s *Server) Reconcile(ctx context.Context, day ledger.Day, progress func(stage string, done int)) (*recon.Day, error) {
	if err := s.CaughtUp(ctx); err != nil {
		return nil, err
	}
	s.reconciling.Lock()
	defer s.reconciling.Unlock()
	engine := *s.Engine
	engine.Progress = progress
	return engine.Run(ctx, day)
}

// atTerminal is who works at the command line, in the audit trail: no key is needed
// there, since whoever may read the data directory may do anything.
func atTerminal() string {
	if who, err := user.Current(); err == nil {
		return "cli:" + who.Username
	}
	return "cli:" + strconv.Itoa(os.Getuid()) // a user without a name, as in a container
}

// NewKey makes a key. It is shown this once.
func (s *Server) NewKey(ctx context.Context, name string, role auth.Role) (string, error) {
	return auth.New(ctx, s.DB, name, role, atTerminal(), s.now())
}

// NewDeputy makes a key by which a person stands in for the holder of a role, to the
// end of a day (U21).
func (s *Server) NewDeputy(ctx context.Context, name string, role auth.Role, holder string, last ledger.Day) (string, error) {
	return auth.NewDeputy(ctx, s.DB, name, role, holder, atTerminal(), last.Add(1).Start(), s.now())
}

// RevokeKey ends a key for ever.
func (s *Server) RevokeKey(ctx context.Context, id string) error {
	return auth.Revoke(ctx, s.DB, id, atTerminal(), s.now())
}

// WriteKeys prints every key ever made.
func WriteKeys(w io.Writer, keys []auth.Key) {
	list := newTable("key", "name", "kind", "role", "made", "by", "deputy", "revoked", "by")
	for _, k := range keys {
		revoked, deputy := "", ""
		if k.Until != nil {
			deputy = "for " + k.For + " until " + k.Until.In(ledger.Beijing).Format("2006-01-02 15:04")
		}
		if k.RevokedAt != nil {
			revoked = k.RevokedAt.In(ledger.Beijing).Format("2006-01-02 15:04")
		}
		list.add(k.Key, k.Name, string(k.Kind), string(k.Role), k.CreatedAt.In(ledger.Beijing).Format("2006-01-02 15:04"), k.MadeBy, deputy, revoked, k.RevokedBy)
	}
	list.write(w)
}

// Verify recomputes the books from the postings and returns what does not hold.
func (s *Server) Verify(ctx context.Context) ([]ledger.Finding, error) {
	return ledger.Verify(ctx, s.DB, controls()...)
}

func controls() []ledger.Control {
	return slices.Concat(clearing.Controls(), payout.Controls(), recon.Controls())
}

// TrialBalance returns every account of the platform's book by code.
func (s *Server) TrialBalance(ctx context.Context) (all []ledger.AccountBalance, err error) {
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		all, err = ledger.TrialBalance(ctx, tx, clearing.PlatformBook, ledger.AsOf{})
		return err
	})
	return all, err
}

// ErrNoAccount says that the chart has no account of a code.
var ErrNoAccount = errors.New("there is no such account")

// Statement prints every line of an account in the days given, with what it is
// about and the balance after it.
func (s *Server) Statement(ctx context.Context, w io.Writer, code string, from, to ledger.Day, lang string) error {
	t := words(bookWords, lang)
	list := newTable(t["booked"], t["value"], t["entry"], t["journal"], t["about"], t["ref"], ">"+t["debit"], ">"+t["credit"], ">"+t["balance"])
	var opening ledger.AccountBalance
	err := s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		list.rows = nil
		like, err := ledger.BalancesByCode(ctx, tx, clearing.PlatformBook, code, ledger.AsOf{})
		if err != nil {
			return err
		}
		if len(like) == 0 || like[0].Code != code {
			return fmt.Errorf("%w: %s", ErrNoAccount, code)
		}
		opening, err = ledger.Statement(ctx, tx, like[0].ID, from, to, func(l ledger.Line) error {
			debit, credit := l.Amount.String(), ""
			if l.Side == ledger.Credit {
				debit, credit = "", l.Amount.String()
			}
			list.add(l.Day.String(), l.ValueDay.String(), l.Entry.String(), l.Kind, l.EntryRef, l.Ref, debit, credit, l.Balance.String())
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s %s %s · %s %s\n", t["statement"], code, accountName(code, lang), t["opening"], opening.Balance())
	list.write(w)
	return nil
}

// accountWords names the families of the chart (spec/accounting.md 3.2), the
// longest prefix first where one begins another.
var accountWords = []struct{ prefix, zh, en string }{
	{"1002.OWN", "银行存款—自有", "bank, own"}, {"1002.CUST", "银行存款—存管", "bank, custody"},
	{"1002.HOSP", "医院户内未转可结算款", "in the hospital's account, not released"},
	{"1122.SVC", "应收服务费", "service fee receivable"}, {"1122", "应收渠道款", "channel receivable"},
	{"1124", "渠道提现在途", "withdrawal in transit"}, {"1125", "退款在途—渠道已扣", "refund taken by the channel"},
	{"1127", "资金调拨在途", "own transfer in transit"}, {"1221", "其他应收款—短款", "short suspense"},
	{"1222", "应收渠道差错款", "fee dispute"}, {"1225", "应收医院垫款", "advance to a hospital"},
	{"1998", "本系统往来", "between the sets"}, {"2202", "应付医院款", "hospital payable"},
	{"2204", "HIS待确认款", "awaiting HIS confirmation"}, {"2205", "退款在途", "refunds owed to patients"},
	{"2206", "应付渠道手续费", "channel fee accrued"}, {"2208", "银行付款在途", "bank payment in transit"},
	{"2210", "应付他方款", "foreign rows"}, {"2221", "应交增值税", "VAT"}, {"2241", "其他应付款—长款", "long suspense"},
	{"2242", "应付医院手续费补贴", "fee subsidy payable"}, {"2243", "待查入账", "unidentified credit"},
	{"2244", "退票待处理", "returned payout"}, {"2245", "应付医院差错赔付", "compensation owed"},
	{"2998", "本系统往来", "between the sets"}, {"6001", "主营业务收入", "income"},
	{"6401", "主营业务成本—渠道手续费", "channel fee to be borne"}, {"6601", "销售费用—手续费补贴", "subsidy cost"},
	{"6603", "财务费用—银行手续费", "bank charges"}, {"6711", "营业外支出—差错损失", "losses"},
	{"9001", "窗口现金", "cash"}, {"9002", "送存在途", "cash on its way"}, {"9009", "医院自收款", "cash contra"},
	{"9131", "应收医保", "insurance"}, {"9132", "应收商保", "insurer"}, {"9207", "应付医院—保险", "insurance contra"},
}

func accountName(code, lang string) string {
	for _, a := range accountWords {
		if strings.HasPrefix(code, a.prefix) {
			if lang == "en" {
				return a.en
			}
			return a.zh
		}
	}
	return ""
}

var bookWords = map[string]map[string]string{
	"zh": {"statement": "明细账", "opening": "期初余额", "booked": "记账日", "value": "账务日期", "entry": "分录", "journal": "类型", "about": "事项", "ref": "核销号", "balance": "余额",
		"title": "科目余额表", "code": "科目", "name": "名称", "debit": "借方余额", "credit": "贷方余额", "sum": "合计",
		"zero": "其余 %d 个科目余额为零。", "sound": "账簿核验：通过。由分录重新计算，所有规则成立。", "broken": "账簿核验：发现 %d 处不符"},
	"en": {"statement": "Statement of", "opening": "opening balance", "booked": "booked", "value": "business day", "entry": "entry", "journal": "kind", "about": "about", "ref": "open item", "balance": "balance",
		"title": "Trial balance", "code": "account", "name": "name", "debit": "debit", "credit": "credit", "sum": "sum",
		"zero": "The other %d accounts stand at zero.", "sound": "Verify: sound. Recomputed from the postings, every rule holds.", "broken": "Verify: %d findings"},
}

// WriteBalances prints the accounts that do not stand at zero, in yuan.
func WriteBalances(w io.Writer, all []ledger.AccountBalance, lang string) {
	t := words(bookWords, lang)
	list := newTable(t["code"], t["name"], ">"+t["debit"], ">"+t["credit"])
	var debits, credits ledger.Money
	zero := 0
	for _, a := range all {
		switch net := a.Debits - a.Credits; {
		case net > 0:
			debits += net
			list.add(a.Code, accountName(a.Code, lang), net.String(), "")
		case net < 0:
			credits -= net
			list.add(a.Code, accountName(a.Code, lang), "", (-net).String())
		default:
			zero++
		}
	}
	list.add(t["sum"], "", debits.String(), credits.String())
	fmt.Fprintln(w, t["title"])
	list.write(w)
	fmt.Fprintf(w, "  "+t["zero"]+"\n", zero)
}

// WriteFindings prints what Verify found, or that it found nothing.
func WriteFindings(w io.Writer, found []ledger.Finding, lang string) {
	t := words(bookWords, lang)
	if len(found) == 0 {
		fmt.Fprintln(w, t["sound"])
		return
	}
	fmt.Fprintf(w, t["broken"]+"\n", len(found))
	for _, f := range found {
		fmt.Fprintln(w, "  "+f.String())
	}
}
