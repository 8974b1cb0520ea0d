package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// ErrNoKey says that a decision was asked for by nobody.
var ErrNoKey = errors.New("this needs a key")

// enter says whom a key stands for, and refuses whoever may not do this.
func (s *Server) enter(ctx context.Context, key string, action auth.Action) (auth.Principal, error) {
	if key == "" {
		return auth.Principal{}, fmt.Errorf("%w: %s is done in a person's name", ErrNoKey, action)
	}
	p, err := auth.Check(ctx, s.DB, s.now(), key)
	if err != nil {
		return p, err
	}
	return p, auth.Allow(p, action)
}

// deeds gives the action that each act on a case needs.
var deeds = map[string]auth.Action{"propose": auth.CasePropose, "approve": auth.CaseApprove, "reject": auth.CaseReject}

// Decide proposes, approves or rejects in the name of the person whom the key
// stands for; whatever d.Who says is not heard.
func (s *Server) Decide(ctx context.Context, key string, d recon.Decision) (*recon.Case, error) {
	who, err := s.enter(ctx, key, deeds[d.Act])
	if err != nil {
		return nil, err
	}
	d.Who = who.Name
	return s.Engine.Decide(ctx, d)
}

// Cases lists cases for whoever may read them: open ones unless all is set, of
// one day or (0) of every day.
func (s *Server) Cases(ctx context.Context, key string, day ledger.Day, all bool) ([]recon.Case, error) {
	if _, err := s.enter(ctx, key, auth.CaseRead); err != nil {
		return nil, err
	}
	return s.Engine.Cases(ctx, day, all)
}

// CaseFile reads one case for whoever may.
func (s *Server) CaseFile(ctx context.Context, key, id string) (*recon.CaseFile, error) {
	if _, err := s.enter(ctx, key, auth.CaseRead); err != nil {
		return nil, err
	}
	return s.Engine.CaseFile(ctx, id)
}

// Resting reads what rests under each of many cases for whoever may.
func (s *Server) Resting(ctx context.Context, key string, ids []string) (map[string][]recon.Suspense, error) {
	if _, err := s.enter(ctx, key, auth.CaseRead); err != nil {
		return nil, err
	}
	return s.Engine.Resting(ctx, ids)
}

// stateWords are the states of a case as people read them.
var stateWords = map[string]map[recon.CaseState]string{
	"zh": {recon.CaseOpen: "待处理", recon.CaseProposed: "待复核", recon.CaseApproved: "已复核，挂账未清", recon.CaseClosed: "已关闭", recon.CaseAutoClosed: "自动对平"},
	"en": {recon.CaseOpen: "open", recon.CaseProposed: "proposed", recon.CaseApproved: "approved, suspense open", recon.CaseClosed: "closed", recon.CaseAutoClosed: "closed by a run"},
}

// actWords are what is done to a case as people read it.
var actWords = map[string]map[string]string{
	"zh": {"propose": "经办提出", "approve": "复核通过", "reject": "复核退回", "opened": "立单", "reopened": "重新立单", "closed": "自动关闭", "his": "核对 HIS"},
	"en": {"his": "looked into HIS"},
}

var deskWords = map[string]map[string]string{
	"zh": {"case": "差异单", "day": "账务日期", "what": "差异", "no": "订单 / 退款 / 银行流水", "amount": "金额", "state": "状态", "none": "没有差异单。",
		"his": "医院", "platform": "平台", "channel": "渠道", "note": "说明", "maker": "经办", "checker": "复核", "resolution": "处置", "reason": "理由",
		"suspense": "挂账", "nosuspense": "没有挂账", "may": "可选处置", "log": "经过"},
	"en": {"case": "case", "day": "business day", "what": "difference", "no": "order / refund / bank reference", "amount": "amount", "state": "state", "none": "No cases.",
		"his": "HIS", "platform": "platform", "channel": "channel", "note": "note", "maker": "maker", "checker": "checker", "resolution": "resolution", "reason": "reason",
		"suspense": "suspense", "nosuspense": "no suspense", "may": "may be settled by", "log": "what happened"},
}

// words returns the table of a language, Chinese where it is not known.
func words[M any](tables map[string]M, lang string) M {
	if t, ok := tables[lang]; ok {
		return t
	}
	return tables["zh"]
}

func numbers(c *recon.Case) string {
	return strings.Join(strings.Fields(c.OrderNo+" "+c.RefundNo+" "+c.BankRef), " / ")
}

// WriteCases prints a list of cases.
func WriteCases(w io.Writer, cases []recon.Case, lang string) {
	t, states := words(deskWords, lang), words(stateWords, lang)
	if len(cases) == 0 {
		fmt.Fprintln(w, t["none"])
		return
	}
	list := newTable(t["case"], t["day"], t["what"], t["no"], ">"+t["amount"], t["state"])
	for i := range cases {
		c := &cases[i]
		list.add(c.ID, c.Day.String(), c.Code.Words(lang), numbers(c), c.Amount.String(), states[c.State])
	}
	list.write(w)
}

// WriteCase prints a case with its suspense and its log.
func WriteCase(w io.Writer, f *recon.CaseFile, lang string) {
	t := words(deskWords, lang)
	line := func(word, text string) {
		if text != "" {
			fmt.Fprintf(w, "  %s %s\n", pad(t[word], 24), text)
		}
	}
	said := func(fen *ledger.Money) string {
		if fen == nil {
			return ""
		}
		return fen.String()
	}
	fmt.Fprintf(w, "%s %s · %s\n", t["case"], f.ID, f.Code.Words(lang))
	line("state", words(stateWords, lang)[f.State])
	line("day", f.Day.String()+"  "+strings.Join(strings.Fields(f.Hospital+" "+f.Channel+" "+f.MerchantNo), " "))
	line("no", numbers(&f.Case))
	line("his", said(f.HIS))
	line("platform", said(f.Platform))
	line("channel", said(f.ChannelFen))
	line("amount", f.Amount.String())
	line("note", recon.NoteWords(f.Note, lang))
	line("resolution", recon.ResolutionWords(f.Resolution, lang))
	line("reason", f.Reason)
	line("maker", f.Maker)
	line("checker", f.Checker)
	if len(f.Suspense) == 0 {
		line("suspense", t["nosuspense"])
	}
	for _, s := range f.Suspense {
		line("suspense", fmt.Sprintf("%s %s (%s)", s.Account, s.Fen, s.Ref))
	}
	if f.State == recon.CaseOpen || f.State == recon.CaseApproved {
		for _, name := range f.May {
			line("may", recon.ResolutionWords(name, lang))
		}
	}
	for _, l := range f.Log {
		act := words(actWords, lang)[l.Act]
		if act == "" {
			act = l.Act
		}
		line("log", fmt.Sprintf("%s  %s  %s  %s", l.At.In(ledger.Beijing).Format("2006-01-02 15:04:05"), l.Who, act, recon.NoteWords(l.Detail, lang)))
	}
}
