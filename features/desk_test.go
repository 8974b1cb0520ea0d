package features_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cucumber/godog"
	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

var roleOf = map[string]auth.Role{"对账会计": auth.Accountant, "财务主管": auth.FinanceHead, "收费员": auth.Cashier,
	"审计": auth.Auditor, "程序": auth.Service}

var resolutionOf = map[string]string{"退款给患者": "REFUND", "补单": "BACKFILL", "HIS 已补记": "HIS_BOOKS", "患者窗口补交现金": "CASH_PAID", "已知悉": "NOTED"}

var stateOf = map[string]recon.CaseState{"待处理": recon.CaseOpen, "待复核": recon.CaseProposed, "已关闭": recon.CaseClosed}

func (h *house) deskSteps(sc *godog.ScenarioContext) {
	sc.Step(`^`+quoted+`持有(对账会计|财务主管|收费员|审计|程序)的密钥$`, func(ctx context.Context, who, role string) error {
		return errors.Join(h.newKey(ctx, who, roleOf[role]), h.listen())
	})
	sc.Step(`^为`+quoted+`申请一把没有角色的密钥$`, func(ctx context.Context, who string) error { return h.newKey(ctx, who, "") })
	sc.Step(`^为`+quoted+`再申请(财务主管)的密钥$`, func(ctx context.Context, who, role string) error { return h.newKey(ctx, who, roleOf[role]) })
	sc.Step(`^`+quoted+`的密钥已被作废$`, h.revoke)
	sc.Step(`^`+quoted+`的对账会计密钥被作废，改任财务主管$`, func(ctx context.Context, who string) error {
		return errors.Join(h.revoke(ctx, who), h.newKey(ctx, who, auth.FinanceHead))
	})
	sc.Step(`^不带密钥查看差异单$`, func(ctx context.Context) error { return h.look(ctx, "") })
	sc.Step(`^`+quoted+`查看差异单$`, h.look)
	sc.Step(`^`+quoted+`对订单 (\S+) 的差异单建议`+quoted+`$`, h.propose)
	sc.Step(`^`+quoted+`复核通过该差异单$`, func(ctx context.Context, who string) error {
		return h.decide(ctx, who, recon.Decision{Act: "approve"})
	})
	sc.Step(`^`+quoted+`驳回该差异单(?:，理由`+quoted+`)?$`, func(ctx context.Context, who, reason string) error {
		return h.decide(ctx, who, recon.Decision{Act: "reject", Reason: reason})
	})
	sc.Step(`^该差异单(待处理|待复核|已关闭)$`, h.caseState)
	sc.Step(`^这笔债务 `+yuanText+`挂在 2205 上，记在该差异单的退款名下$`, h.debt)
}

func (h *house) newKey(ctx context.Context, who string, role auth.Role) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	key, err := s.NewKey(ctx, who, role)
	if err == nil {
		h.keys[who] = key
	}
	return h.acted(err)
}

func (h *house) revoke(ctx context.Context, who string) error {
	p, err := auth.Check(ctx, h.server.DB, now(), h.keys[who])
	if err != nil {
		return err
	}
	return h.server.RevokeKey(ctx, p.Key)
}

func (h *house) look(ctx context.Context, who string) error {
	s, err := h.open(ctx)
	if err != nil {
		return err
	}
	_, err = s.Cases(ctx, h.keys[who], 0, true)
	return h.acted(err)
}

// propose finds the order's case, as a person does who has it on a list.
func (h *house) propose(ctx context.Context, who, order, resolution string) error {
	cases, err := h.server.Cases(ctx, h.keys[who], sampleDay, false)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(cases, func(c recon.Case) bool { return c.OrderNo == order })
	if n < 0 {
		return fmt.Errorf("order %s has no open case", order)
	}
	h.deal = cases[n].ID
	code := resolutionOf[resolution]
	if code == "" {
		return fmt.Errorf("no resolution is called %s", resolution)
	}
	return h.decide(ctx, who, recon.Decision{Act: "propose", Resolution: code, Reason: "凭渠道账单核实"})
}

func (h *house) decide(ctx context.Context, who string, d recon.Decision) error {
	d.CaseID = h.deal
	_, err := h.server.Decide(ctx, h.keys[who], d)
	return h.acted(err)
}

func (h *house) caseState(ctx context.Context, state string) error {
	if err := h.listen(); err != nil {
		return err
	}
	f, err := h.server.Engine.CaseFile(ctx, h.deal)
	if err != nil {
		return err
	}
	if f.State == recon.CaseClosed && len(f.Suspense) > 0 {
		return fmt.Errorf("it is closed with %v in suspense", f.Suspense)
	}
	return equal("state", f.State, stateOf[state])
}

// debt looks for what the hospital now owes the patient.
func (h *house) debt(ctx context.Context, yuan string) error {
	ref := "rf_" + strings.TrimPrefix(h.deal, "case_")
	var items []ledger.OpenItem
	err := h.server.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		items, err = ledger.OpenItemsByCode(ctx, tx, clearing.PlatformBook, "2205.WX.1900000109", ref)
		return err
	})
	if err != nil {
		return err
	}
	if len(items) != 1 {
		return fmt.Errorf("%d open items under %s", len(items), ref)
	}
	return equal("debt", items[0].Amount().String(), yuan)
}
