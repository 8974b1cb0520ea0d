package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
)

// ErrNoMasterKey is wrapped where no data directory holds the master key and no
// reference names it.
var ErrNoMasterKey = errors.New("there is no master key")

// masterKey reads the key of the installation: by its reference, else from the
// data directory.
func (s *Server) masterKey() ([]byte, error) {
	switch {
	case s.masterRef != "":
		text, err := channels.Secret(s.masterRef)
		if err != nil {
			return nil, fmt.Errorf("master key: %w", err)
		}
		return auth.ParseMasterKey(text)
	case s.stack.DataDir != "":
		return auth.MasterKey(s.stack.DataDir)
	}
	return nil, fmt.Errorf("%w: database and broker are given, so nothing is kept in a data directory", ErrNoMasterKey)
}

func (s *Server) factors() (*auth.Factors, error) {
	key, err := s.masterKey()
	return &auth.Factors{DB: s.DB, Key: key, Now: s.now}, err
}

// EnrolFactor gives a person a second factor and returns the otpauth URL, which is
// shown this once.
func (s *Server) EnrolFactor(ctx context.Context, person string) (string, error) {
	f, err := s.factors()
	if err != nil {
		return "", err
	}
	return f.Enrol(ctx, person)
}

// RevokeFactor ends the second factor of a person.
func (s *Server) RevokeFactor(ctx context.Context, person string) error {
	f, err := s.factors()
	if err != nil {
		return err
	}
	return f.RevokeFactor(ctx, person)
}

// payouts are those that people ask for and approve.
func (s *Server) payouts() (*payout.Payouts, error) {
	f, err := s.factors()
	if err != nil {
		return nil, err
	}
	return &payout.Payouts{DB: s.DB, Committer: s.committer, Outside: s.banks, Now: s.now, Factor: f.Check, Key: f.Key}, nil
}

// payoutService is the desk of those who pay out.
type payoutService struct{ s *Server }

// desk returns the payouts and who is calling.
func (p payoutService) desk(ctx context.Context) (*payout.Payouts, payout.Person, error) {
	who := caller(ctx)
	all, err := p.s.payouts()
	return all, payout.Person{Name: who.Name, Role: string(who.Role), For: who.For}, err
}

// RequestPayout implements the call.
func (p payoutService) RequestPayout(ctx context.Context, r *payoutv1.RequestPayoutRequest) (*payoutv1.RequestPayoutResponse, error) {
	all, by, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	asked := payout.Request{Kind: payout.Kind(r.GetKind()), Hospital: r.GetHospital(), From: r.GetFromAccount(), Payee: r.GetPayeeId(),
		Amount: ledger.Money(r.GetAmountFen()), Purpose: r.GetPurpose(), Subject: r.GetSubject(), Channel: r.GetChannel(),
		MerchantNo: r.GetMerchantNo(), Contract: r.GetContract(), RepeatReason: r.GetRepeatReason()}
	if who := r.GetPatient(); who != nil {
		asked.Patient = &payout.Patient{Account: who.GetAccount(), Name: who.GetName(), Bank: who.GetBank(), CNAPS: who.GetCnaps(),
			Reason: who.GetReason(), Proof: who.GetProof()}
	}
	done, err := all.Request(ctx, scopeOf(ctx), r.GetIdempotencyKey(), by, asked)
	if err != nil {
		return nil, err
	}
	return &payoutv1.RequestPayoutResponse{Payout: payoutMessage(&done)}, nil
}

func payoutMessage(p *payout.Payout) *payoutv1.Payout {
	return &payoutv1.Payout{Number: p.Number, Kind: string(p.Kind), Hospital: p.Hospital, Mode: string(p.Mode), FromAccount: p.From, PayeeId: p.Payee,
		AmountFen: int64(p.Amount), Purpose: p.Purpose, Subject: p.Subject, Contract: p.Contract, State: string(p.State), StateAt: timestamppb.New(p.StateAt),
		Held: p.Held, Maker: p.Maker, Checker: p.Checker, NeedsCheckers: int32(p.Needs), Payload: hex.EncodeToString(p.Payload), BankRef: p.BankRef,
		BankReason: p.Reason.Text}
}

func payoutMessages(list []payout.Payout) []*payoutv1.Payout {
	out := make([]*payoutv1.Payout, len(list))
	for i := range list {
		out[i] = payoutMessage(&list[i])
	}
	return out
}

// GetPayout implements the call.
func (p payoutService) GetPayout(ctx context.Context, r *payoutv1.GetPayoutRequest) (*payoutv1.GetPayoutResponse, error) {
	all, _, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	one, err := all.Get(ctx, r.GetNumber())
	if err != nil {
		return nil, err
	}
	return &payoutv1.GetPayoutResponse{Payout: payoutMessage(&one)}, nil
}

// ListPayouts implements the call.
func (p payoutService) ListPayouts(ctx context.Context, r *payoutv1.ListPayoutsRequest) (*payoutv1.ListPayoutsResponse, error) {
	all, _, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	list, err := all.List(ctx, r.GetHospital(), payout.State(r.GetState()))
	if err != nil {
		return nil, err
	}
	t := payout.TotalsOf(list)
	return &payoutv1.ListPayoutsResponse{Payouts: payoutMessages(list), Count: int32(t.Count), SumFen: int64(t.Sum), SumCapital: t.Capital}, nil
}

// ListPayable implements the call.
func (p payoutService) ListPayable(ctx context.Context, _ *payoutv1.ListPayableRequest) (*payoutv1.ListPayableResponse, error) {
	all, _, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	list, err := all.Payable(ctx)
	if err != nil {
		return nil, err
	}
	out := &payoutv1.ListPayableResponse{}
	for _, y := range list {
		out.Hospitals = append(out.Hospitals, &payoutv1.Payable{Hospital: y.Hospital, Account: y.Account, ReleasedFen: int64(y.Released), HeldFen: int64(y.Held),
			PayableFen: int64(max(min(y.Released, y.Held), 0))})
	}
	return out, nil
}

// ListSubsidies implements the call.
func (p payoutService) ListSubsidies(ctx context.Context, r *payoutv1.ListSubsidiesRequest) (*payoutv1.ListSubsidiesResponse, error) {
	all, _, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	list, err := all.Subsidies(ctx, r.GetHospital())
	if err != nil {
		return nil, err
	}
	out := &payoutv1.ListSubsidiesResponse{}
	for _, d := range list {
		out.Subsidies = append(out.Subsidies, &payoutv1.Subsidy{Settlement: d.Subject, AmountFen: int64(d.Amount)})
	}
	return out, nil
}

// ApprovePayouts implements the call.
func (p payoutService) ApprovePayouts(ctx context.Context, r *payoutv1.ApprovePayoutsRequest) (*payoutv1.ApprovePayoutsResponse, error) {
	all, by, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	a := payout.Approval{Count: int(r.GetCount()), Sum: ledger.Money(r.GetSumFen()), Code: r.GetCode()}
	for i, item := range r.GetItems() {
		payload, err := hex.DecodeString(item.GetPayload())
		if err != nil {
			return nil, ErrField.Because(fmt.Sprintf("items[%d].payload", i), "it is hexadecimal, as it was shown")
		}
		a.Items = append(a.Items, payout.ApprovedItem{Number: item.GetNumber(), Payload: payload})
	}
	list, err := all.Approve(ctx, by, a)
	if err != nil {
		return nil, err
	}
	return &payoutv1.ApprovePayoutsResponse{Payouts: payoutMessages(list)}, nil
}

// RefusePayout implements the call.
func (p payoutService) RefusePayout(ctx context.Context, r *payoutv1.RefusePayoutRequest) (*payoutv1.RefusePayoutResponse, error) {
	all, by, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	one, err := all.Refuse(ctx, by, r.GetNumber(), r.GetReason())
	if err != nil {
		return nil, err
	}
	return &payoutv1.RefusePayoutResponse{Payout: payoutMessage(&one)}, nil
}

func pauseMessage(p *payout.Pause) *payoutv1.Pause {
	if p == nil {
		return nil
	}
	return &payoutv1.Pause{PausedBy: p.PausedBy, PausedAt: timestamppb.New(p.PausedAt), Reason: p.Reason, AskedBy: p.AskedBy}
}

// PausePayouts implements the call.
func (p payoutService) PausePayouts(ctx context.Context, r *payoutv1.PausePayoutsRequest) (*payoutv1.PausePayoutsResponse, error) {
	all, by, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	on, err := all.Pause(ctx, by, r.GetReason())
	if err != nil {
		return nil, err
	}
	return &payoutv1.PausePayoutsResponse{Pause: pauseMessage(on)}, nil
}

// ResumePayouts implements the call.
func (p payoutService) ResumePayouts(ctx context.Context, _ *payoutv1.ResumePayoutsRequest) (*payoutv1.ResumePayoutsResponse, error) {
	all, by, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	on, err := all.Resume(ctx, by)
	if err != nil {
		return nil, err
	}
	return &payoutv1.ResumePayoutsResponse{Pause: pauseMessage(on)}, nil
}

func payeeMessage(y *payout.Payee) *payoutv1.Payee {
	return &payoutv1.Payee{Id: y.ID, Hospital: y.Hospital, UseFor: y.UseFor, Account: y.Account, Name: y.Name, Bank: y.Bank, Cnaps: y.CNAPS,
		Replaces: y.Replaces, State: y.State, Maker: y.Maker, Checker: y.Checker, Reason: y.Reason, UsableFrom: timestamppb.New(y.UsableFrom)}
}

// ProposePayee implements the call.
func (p payoutService) ProposePayee(ctx context.Context, r *payoutv1.ProposePayeeRequest) (*payoutv1.ProposePayeeResponse, error) {
	all, by, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	one, err := all.ProposePayee(ctx, scopeOf(ctx), r.GetIdempotencyKey(), by, payout.Payee{Hospital: r.GetHospital(), UseFor: r.GetUseFor(),
		Account: r.GetAccount(), Name: r.GetName(), Bank: r.GetBank(), CNAPS: r.GetCnaps(), Replaces: r.GetReplaces()})
	if err != nil {
		return nil, err
	}
	return &payoutv1.ProposePayeeResponse{Payee: payeeMessage(&one)}, nil
}

// ListPayees implements the call.
func (p payoutService) ListPayees(ctx context.Context, r *payoutv1.ListPayeesRequest) (*payoutv1.ListPayeesResponse, error) {
	all, _, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	list, err := all.Payees(ctx, r.GetHospital())
	if err != nil {
		return nil, err
	}
	out := &payoutv1.ListPayeesResponse{}
	for i := range list {
		out.Payees = append(out.Payees, payeeMessage(&list[i]))
	}
	return out, nil
}

// ApprovePayee implements the call.
func (p payoutService) ApprovePayee(ctx context.Context, r *payoutv1.ApprovePayeeRequest) (*payoutv1.ApprovePayeeResponse, error) {
	all, by, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	one, err := all.ApprovePayee(ctx, by, r.GetId(), r.GetCode())
	if err != nil {
		return nil, err
	}
	return &payoutv1.ApprovePayeeResponse{Payee: payeeMessage(&one)}, nil
}

// RefusePayee implements the call.
func (p payoutService) RefusePayee(ctx context.Context, r *payoutv1.RefusePayeeRequest) (*payoutv1.RefusePayeeResponse, error) {
	all, by, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	one, err := all.RefusePayee(ctx, by, r.GetId(), r.GetReason())
	if err != nil {
		return nil, err
	}
	return &payoutv1.RefusePayeeResponse{Payee: payeeMessage(&one)}, nil
}
