package recon

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/clearward/clearward/ledger"
)

// The formats in which a day can be written.
const (
	FormatTable = "table"
	FormatJSON  = "json"
	FormatCSV   = "csv"
)

// Write writes the day for people (table, lang "zh" or "en"), for programs (json)
// or as the plain list (csv).
func (d *Day) Write(w io.Writer, format, lang string) error {
	switch format {
	case FormatCSV:
		return d.writeCSV(w)
	case FormatJSON:
		return d.writeJSON(w)
	}
	return d.writeTable(w, lang)
}

var csvHeader = []string{"code", "polarity", "channel", "order_no", "refund_no", "bank_ref", "his_fen", "platform_fen", "channel_fen", "amount_fen"}

func (d *Day) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write(csvHeader); err != nil {
		return err
	}
	for _, i := range d.Items {
		if !i.Code.Listed() {
			continue
		}
		if err := out.Write([]string{string(i.Code), i.Polarity(), i.Channel, safeCell(i.OrderNo), safeCell(i.RefundNo), safeCell(i.BankRef),
			fenText(i.HIS), fenText(i.Platform), fenText(i.ChannelFen), strconv.FormatInt(int64(i.Amount), 10)}); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// safeCell keeps a spreadsheet from taking a number of somebody else's for a formula.
func safeCell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

func fenText(m *ledger.Money) string {
	if m == nil {
		return ""
	}
	return strconv.FormatInt(int64(*m), 10)
}

type itemJSON struct {
	Code       Code          `json:"code"`
	Words      string        `json:"words"`
	WordsEN    string        `json:"words_en"`
	Polarity   string        `json:"polarity"`
	Hospital   string        `json:"hospital"`
	Channel    string        `json:"channel"`
	MerchantNo string        `json:"merchant_no"`
	OrderNo    string        `json:"order_no"`
	RefundNo   string        `json:"refund_no"`
	BankRef    string        `json:"bank_ref"`
	HIS        *ledger.Money `json:"his_fen"`
	Platform   *ledger.Money `json:"platform_fen"`
	Channelfen *ledger.Money `json:"channel_fen"`
	Amount     ledger.Money  `json:"amount_fen"`
	FeeDiff    ledger.Money  `json:"fee_diff_fen"`
	CaseID     string        `json:"case_id"`
	Note       string        `json:"note"`
}

func (d *Day) writeJSON(w io.Writer) error {
	items := make([]itemJSON, len(d.Items))
	for n, i := range d.Items {
		items[n] = itemJSON{i.Code, i.Code.Words("zh"), i.Code.Words("en"), i.Polarity(), i.Hospital, i.Channel, i.MerchantNo,
			i.OrderNo, i.RefundNo, i.BankRef, i.HIS, i.Platform, i.ChannelFen, i.Amount, i.FeeDiff, i.CaseID, NoteWords(i.Note, "en")}
	}
	type proof struct {
		Hospital   string       `json:"hospital"`
		Channel    string       `json:"channel"`
		MerchantNo string       `json:"merchant_no"`
		Difference ledger.Money `json:"channel_less_his_fen"`
		Cases      ledger.Money `json:"cases_fen"`
		Pending    ledger.Money `json:"pending_fen"`
		Left       ledger.Money `json:"unexplained_fen"`
	}
	var proofs []proof
	for _, s := range d.Slices {
		if s.Stats != nil && s.Pair == Funds {
			proofs = append(proofs, proof{s.Hospital, s.Channel, s.MerchantNo, s.Stats.Difference(),
				s.Stats.Cases - s.Stats.CarriedIn, s.Stats.Pending, s.Stats.Proof()})
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"day": d.Day.String(), "sums": d.Sum(), "pairs": d.Slices, "proof": proofs, "runs": d.Runs, "items": items, "net_zero": d.NetZeroes("en")})
}

// Difference is channel less HIS, rows that a suggestion ties taken in.
func (s *Stats) Difference() ledger.Money {
	return s.Channel.Net() - s.HIS.Net() - s.Suggested - s.Debts - s.Foreign
}

// phrases are the words of one language.
type phrases map[string]string

// feeds names the feeds that are waited for.
func (t phrases) feeds(waiting []string) string {
	named := make([]string, len(waiting))
	for i, feed := range waiting {
		named[i] = feed
		for _, kind := range []string{feedHIS, feedBill, feedFund, feedStatement} {
			if of, ok := strings.CutPrefix(feed, kind+" of "); ok && t[kind] != "" {
				named[i] = t[kind] + " " + of
			}
		}
	}
	return strings.Join(named, ", ")
}

// words of the table, Chinese and English.
var tableWords = map[string]phrases{
	"zh": {"title": "对账结果", "pair": "核对", "INFO": "业务对账 平台↔医院", "FUNDS": "资金对账 渠道↔平台", "BANK": "到账核对 渠道↔银行",
		"version": "版本", "waiting": "等待文件", "pays": "收款", "refunds": "退款撤销", "matched": "对平", "items": "差异与待办", "case": "差异单",
		"long": "长款", "short": "短款", "none": "没有差异，全部对平。", "sum": "合计", "exceptions": "差异", "pending": "待核", "proof": "差额验证 渠道−医院",
		"explained": "差异+待核 全部解释", "left": "未解释", "netzero": "一正一负", "scope": "范围外流水", "expected": "应到账", "arrived": "已到账",
		"his": "医院", "platform": "平台", "channel": "渠道", "amount": "金额", "count": "笔", "alarm": "超过限额，请核查是否套现",
		feedHIS: "医院明细", feedBill: "渠道交易账单", feedFund: "渠道资金账单", feedStatement: "银行流水", "run": "还没有对账：所需文件未齐。"},
	"en": {"title": "Reconciliation of", "pair": "pair", "INFO": "business platform↔HIS", "FUNDS": "funds channel↔platform", "BANK": "bank channel↔bank",
		"version": "version", "waiting": "waiting for", "pays": "payments", "refunds": "refunds", "matched": "matched", "items": "Differences and what to watch", "case": "case",
		"long": "long", "short": "short", "none": "No differences: everything is matched.", "sum": "Sum", "exceptions": "differences", "pending": "pending", "proof": "Proof channel − HIS",
		"explained": "all explained by differences and pending", "left": "unexplained", "netzero": "pay and refund netting to zero", "scope": "bank lines out of scope", "expected": "expected", "arrived": "arrived",
		"his": "HIS", "platform": "platform", "channel": "channel", "amount": "amount", "count": "", "alarm": "over the limit: check for cash-out", "run": "Not reconciled yet: the feeds are not complete."},
}

func (d *Day) writeTable(w io.Writer, lang string) error {
	t := tableWords[lang]
	if t == nil {
		t = tableWords["zh"]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n\n", t["title"], d.Day)
	d.tablePairs(&b, t)
	d.tableProof(&b, t)
	d.tableItems(&b, t, lang)
	s := d.Sum()
	fmt.Fprintf(&b, "\n%s: %s %d · %s %d  %s · %s %d  %s · %s %d  %s\n", t["sum"], t["exceptions"], s.Exceptions,
		t["long"], s.Long, s.LongFen, t["short"], s.Short, s.ShortFen, t["pending"], s.Pending, s.PendingFen)
	for _, r := range d.Runs {
		fmt.Fprintf(&b, "%s: %s %d %s · %s %d (%s)\n", r.Hospital, t["netzero"], r.NetZero, r.NetZeroFen, t["scope"], r.ScopeLines, r.ScopeFen)
	}
	for _, pile := range d.NetZeroes(lang) {
		if pile.Alarm {
			fmt.Fprintf(&b, "%s: %s %d × %s, %s: %s\n", pile.Hospital, t["netzero"], pile.Pairs, pile.Fen, pile.Who, t["alarm"])
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (d *Day) tablePairs(b *strings.Builder, t phrases) {
	for _, s := range d.Slices {
		head := pad(s.Hospital+" "+s.Channel+" "+s.MerchantNo, 36) + pad(t[string(s.Pair)], 26)
		switch {
		case s.Version == 0:
			fmt.Fprintf(b, "%s %s: %s\n", head, t["waiting"], t.feeds(s.Waiting))
		case s.Settlement != nil:
			fmt.Fprintf(b, "%s v%d  %s %s · %s %s\n", head, s.Version, t["expected"], s.Settlement.Expected, t["arrived"], s.Settlement.Arrived)
		case s.Stats != nil:
			a, m := s.Stats.Channel, s.Stats.Funds
			if s.Pair == Info {
				a, m = s.Stats.HIS, s.Stats.Info
			}
			fmt.Fprintf(b, "%s v%d  %s %d/%s · %s %d/%s · %s %d/%s, %d/%s\n", head, s.Version,
				t["pays"], a.Pays, a.PayFen, t["refunds"], a.Backs, a.BackFen, t["matched"], m.Pays, m.PayFen, m.Backs, m.BackFen)
		}
	}
}

func (d *Day) tableProof(b *strings.Builder, t phrases) {
	b.WriteByte('\n')
	for _, s := range d.Slices {
		if s.Stats == nil || s.Pair != Funds {
			continue
		}
		verdict := t["explained"]
		if left := s.Stats.Proof(); left != 0 {
			verdict = t["left"] + " " + left.String()
		}
		fmt.Fprintf(b, "%s  %s = %s  (%s)\n", pad(s.Hospital+" "+s.MerchantNo, 28), t["proof"], s.Stats.Difference(), verdict)
	}
}

func (d *Day) tableItems(b *strings.Builder, t phrases, lang string) {
	b.WriteByte('\n')
	switch {
	case len(d.Runs) == 0:
		b.WriteString(t["run"] + "\n")
		return
	case len(d.Items) == 0:
		b.WriteString(t["none"] + "\n")
		return
	}
	fmt.Fprintf(b, "%s\n", t["items"])
	fmt.Fprintf(b, "  %s%s%s%s%s%s%s\n", pad("", 38), pad("", 6), pad("", 44), padLeft(t["his"], 12), padLeft(t["platform"], 12), padLeft(t["channel"], 12), padLeft(t["amount"], 12))
	for _, i := range d.Items {
		if !i.Code.Listed() {
			continue
		}
		no := strings.TrimSpace(i.OrderNo + " " + i.RefundNo + " " + i.BankRef)
		fmt.Fprintf(b, "  %s%s%s%s%s%s%s  %s\n", pad(i.Code.Words(lang), 38), pad(t[i.Polarity()], 6), pad(no, 44),
			padLeft(yuan(i.HIS), 12), padLeft(yuan(i.Platform), 12), padLeft(yuan(i.ChannelFen), 12), padLeft(i.Amount.String(), 12), i.CaseID)
	}
}

func yuan(m *ledger.Money) string {
	if m == nil {
		return "·"
	}
	return m.String()
}

// Width is how many columns a terminal gives the text: two for a Chinese sign.
func Width(text string) int {
	n := 0
	for _, r := range text {
		n++
		if r >= 0x1100 && (r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 || r >= 0xf900 && r <= 0xfaff || r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60) {
			n++
		}
	}
	return n
}

func pad(text string, n int) string { return text + strings.Repeat(" ", max(n-Width(text), 1)) }

func padLeft(text string, n int) string { return strings.Repeat(" ", max(n-Width(text), 1)) + text }
