package lived

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/clearward/clearward/channels/sandbox"
	ledgerv1 "github.com/clearward/clearward/proto/clearward/ledger/v1"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
)

// contract is the one by which the platform bears the hospitals' fees (L28).
const contract = "HT-2026-001"

// codeEvery is how long a code of the second factor lasts.
const codeEvery = 30 * time.Second

// payee is an account on the white-list.
type payee struct {
	hospital     *hospital
	use, account string
	bank, cnaps  string
}

// payees puts the hospitals' own accounts on the white-list, and the custody account
// that is topped up: one person proposes, another approves with a second factor, and
// a day later they may be paid.
func (l *life) payees(ctx context.Context) error {
	var list []payee
	for i := range hospitals {
		h := &hospitals[i]
		list = append(list, payee{h, "HOSPITAL", fmt.Sprintf("62258800000010%02d", i), "工商银行", "102100099996"})
		if h.mode == "B" {
			list = append(list, payee{h, "CUSTODY", h.account, "招商银行", ""})
		}
	}
	for _, p := range list {
		proposed, err := l.calls.clerk.ProposePayee(ctx, &payoutv1.ProposePayeeRequest{IdempotencyKey: "payee_" + p.hospital.code + "_" + p.use, Hospital: p.hospital.code,
			UseFor: p.use, Account: p.account, Name: p.hospital.name, Bank: p.bank, Cnaps: p.cnaps})
		if err != nil {
			return fmt.Errorf("payee of %s: %w", p.hospital.code, err)
		}
		if err := l.nextCode(ctx); err != nil {
			return err
		}
		if _, err := l.calls.checker.ApprovePayee(ctx, &payoutv1.ApprovePayeeRequest{IdempotencyKey: "yes_" + proposed.GetPayee().GetId(), Id: proposed.GetPayee().GetId(), Code: l.factor(head)}); err != nil {
			return fmt.Errorf("payee of %s: %w", p.hospital.code, err)
		}
	}
	return nil
}

// nextCode waits, by the clock, for a code of the second factor that was not used.
func (l *life) nextCode(ctx context.Context) error {
	return l.jump(ctx, l.clock.Now().Add(codeEvery))
}

// subsidies are what people ask for once the settlements have arrived: the fees that
// the platform bears go to the public hospitals, and to the custody account of the
// private one, which then holds what it is owed.
func (l *life) subsidies(ctx context.Context) (int, error) {
	var list []*payoutv1.RequestPayoutRequest
	for _, h := range hospitals {
		if h.mode == "B" {
			fees, err := l.balance(ctx, "1998."+h.code) // what the platform's own set owes the hospital's
			if err != nil {
				return 0, err
			}
			list = append(list, &payoutv1.RequestPayoutRequest{Hospital: h.code, Kind: "FEE_TOPUP", AmountFen: fees})
			continue
		}
		debts, err := l.calls.maker.ListSubsidies(ctx, &payoutv1.ListSubsidiesRequest{Hospital: h.code})
		if err != nil {
			return 0, err
		}
		for _, d := range debts.GetSubsidies() {
			list = append(list, &payoutv1.RequestPayoutRequest{Hospital: h.code, Kind: "SUBSIDY", AmountFen: d.GetAmountFen(), Subject: d.GetSettlement(), Contract: contract})
		}
	}
	if _, err := l.payOut(ctx, "subsidy", list); err != nil {
		return 0, err
	}
	return l.through(ctx, mornings(lifeDay.Add(2)))
}

// silentFen is the part of the private hospital's money of which the bank never says
// what became.
const silentFen = 10_007

// payout pays the private hospital what is its own, in two parts: the bank sends the
// first back a day later (退票), and says nothing of the second. Meanwhile a channel
// restates the bill of a day whose money has long been paid out.
func (l *life) payout(ctx context.Context) (int, error) {
	if err := l.restates(ctx); err != nil {
		return 0, err
	}
	h := hospitals[2]
	owed, err := l.balance(ctx, "2202."+h.code+".AVAIL")
	if err != nil {
		return 0, err
	}
	asks := []*payoutv1.RequestPayoutRequest{{Hospital: h.code, Kind: "HOSPITAL", AmountFen: owed - silentFen}, {Hospital: h.code, Kind: "HOSPITAL", AmountFen: silentFen}}
	made, err := l.payOut(ctx, "hospital", asks, map[string]any{"do": "RETURN", "code": "AC04"}, map[string]any{"do": "SLOW", "seconds": 30 * 24 * 3600})
	if err != nil {
		return 0, err
	}
	l.silent = made[1].GetNumber()
	l.faults = append(l.faults, &fault{kind: &kind{code: "PAYOUT_UNKNOWN", name: "the bank does not say what became of a payout"},
		found: []sandbox.Case{{Code: "PAYOUT_UNKNOWN", Hospital: h.code, BankRef: l.silent}}})
	return l.through(ctx, slices.Concat(mornings(lifeDay.Add(3)), mornings(lifeDay.Add(4))))
}

// payOut asks for payouts in the name of one person and has another approve them; the
// faults are what the bank makes of the first ones.
func (l *life) payOut(ctx context.Context, key string, list []*payoutv1.RequestPayoutRequest, faults ...map[string]any) ([]*payoutv1.Payout, error) {
	var asked []*payoutv1.Payout
	for i, ask := range list {
		ask.IdempotencyKey = fmt.Sprintf("%s_%d", key, i)
		made, err := l.calls.maker.RequestPayout(ctx, ask)
		if err != nil {
			return nil, fmt.Errorf("payout to %s: %w", ask.GetHospital(), err)
		}
		if i < len(faults) {
			faults[i]["ref"] = made.GetPayout().GetNumber()
			if err := l.admin(ctx, "/bank/faults", faults[i], nil); err != nil {
				return nil, err
			}
		}
		asked = append(asked, made.GetPayout())
	}
	if err := l.approve(ctx, key, asked); err != nil {
		return nil, err
	}
	// The sending is a job of every minute; the bank says a little later that it is done.
	for range 3 {
		if err := l.jump(ctx, l.clock.Now().Add(time.Minute)); err != nil {
			return nil, err
		}
	}
	return asked, nil
}

// approve is the second person, who reads back every payload, the count and the sum.
func (l *life) approve(ctx context.Context, key string, asked []*payoutv1.Payout) error {
	if err := l.nextCode(ctx); err != nil {
		return err
	}
	read := &payoutv1.ApprovePayoutsRequest{IdempotencyKey: "yes_" + key, Count: int32(len(asked)), Code: l.factor(head)}
	for _, p := range asked {
		read.Items = append(read.Items, &payoutv1.ReadBack{Number: p.GetNumber(), Payload: p.GetPayload()})
		read.SumFen += p.GetAmountFen()
	}
	if _, err := l.calls.checker.ApprovePayouts(ctx, read); err != nil {
		return fmt.Errorf("approve %d payouts: %w", len(asked), err)
	}
	return nil
}

// balance of an account on its normal side.
func (l *life) balance(ctx context.Context, account string) (int64, error) {
	answer, err := l.calls.audit.GetBalance(ctx, &ledgerv1.GetBalanceRequest{Account: account})
	if err != nil {
		return 0, fmt.Errorf("balance of %s: %w", account, err)
	}
	return answer.GetBalance().GetBalanceFen(), nil
}
