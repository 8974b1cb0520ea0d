package api

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// refundService is for the business apps of hospitals, and for those who approve.
type refundService struct{ s *Server }

func (s *Server) refunds() *pay.Refunds { return &pay.Refunds{House: s.house} }

func (s *Server) pollRefunds(ctx context.Context, _ time.Time) (int, error) {
	return whatIsDue(ctx, func() (int, error) { return s.refunds().Poll(ctx, s.now(), pollAtOnce) })
}

// writeBack tells the HIS of hospitals what they are to know, where the platform
// calls them.
func (s *Server) writeBack(ctx context.Context, _ time.Time) (int, error) {
	paid, err := whatIsDue(ctx, func() (int, error) { return s.payments().WriteBack(ctx, s.now(), pollAtOnce) })
	back, failed := whatIsDue(ctx, func() (int, error) { return s.refunds().WriteBack(ctx, s.now(), pollAtOnce) })
	return paid + back, errors.Join(err, failed)
}

// maySee refuses an app that is not of the hospital; a person of finance may see
// every hospital's.
func (s *Server) maySee(ctx context.Context, hospital string) error {
	if caller(ctx).Kind == auth.Person {
		return nil
	}
	return s.mayActFor(ctx, hospital)
}

func refundMessage(r *pay.Refund) *payv1.Refund {
	out := &payv1.Refund{Hospital: r.Hospital, RefundNo: r.RefundNo, OrderNo: r.OrderNo, Channel: r.Channel, MerchantNo: r.MerchantNo, BillNo: r.BillNo,
		AmountFen: int64(r.Amount), Status: string(r.Status), Cause: string(r.Cause), Maker: r.Maker, Checker: r.Checker, Approval: r.Approval,
		NextNo: r.NextNo, ChannelRefundNo: r.ChannelRefundNo, Abnormal: r.Abnormal, Reason: r.Reason.Text, ChannelCode: r.Reason.Code, Tell: r.Advise().ZH,
		NeedsCheckers: int32(r.Needs), FirstChecker: r.First, TellEn: r.Advise().EN, ToDo: r.ToDo().ZH, ToDoEn: r.ToDo().EN}
	if x := r.Application; x != nil {
		out.Application = &payv1.AbnormalApplication{State: string(x.State), Maker: x.Maker, Checker: x.Checker, AskedAt: timestamppb.New(x.AskedAt),
			Reason: x.Reason, BankRef: x.BankRef}
	}
	if !r.SuccessAt.IsZero() {
		out.SuccessAt = timestamppb.New(r.SuccessAt)
	}
	return out
}

func refundMessages(list []*pay.Refund) []*payv1.Refund {
	out := make([]*payv1.Refund, len(list))
	for i, r := range list {
		out[i] = refundMessage(r)
	}
	return out
}

// GetRefundable implements the call.
func (f refundService) GetRefundable(ctx context.Context, r *payv1.GetRefundableRequest) (*payv1.GetRefundableResponse, error) {
	if err := f.s.mayActFor(ctx, r.GetHospital()); err != nil {
		return nil, err
	}
	limits, err := f.s.refunds().Refundable(ctx, r.GetHospital(), r.GetOrderNo())
	if err != nil {
		return nil, err
	}
	out := &payv1.GetRefundableResponse{AmountFen: int64(limits.Smallest.Amount), Route: limits.Route, DaysLeft: int32(limits.DaysLeft)}
	for _, l := range limits.List {
		out.Limits = append(out.Limits, &payv1.Limit{Name: l.Name, AmountFen: int64(l.Amount), Rule: l.Rule})
	}
	return out, nil
}

// asked is the request of a call, by the app that calls. What HIS says comes from
// the app only where the app calls HIS (B23).
func (f refundService) asked(ctx context.Context, r *payv1.CreateRefundRequest) (pay.NewRefund, error) {
	n := pay.NewRefund{App: caller(ctx).Name, Key: r.GetIdempotencyKey(), Hospital: r.GetHospital(), OrderNo: r.GetOrderNo(), Amount: ledger.Money(r.GetAmountFen()),
		Cause: channels.Cause(cmp.Or(r.GetCause(), string(channels.CauseOther))), Maker: strings.Join(strings.Fields(r.GetMaker()), " "),
		SettlementNo: r.GetSettlementNo(), HISCancelled: r.GetHisCancelled(), HISAllows: ledger.Money(r.GetHisAllowsFen())}
	if err := f.s.mayActFor(ctx, n.Hospital); err != nil {
		return n, err
	}
	platform, err := f.s.house.PlatformCalls(ctx, n.Hospital)
	switch {
	case err != nil:
		return n, err
	case platform && (n.HISCancelled || n.HISAllows != 0):
		return n, pay.ErrField.Because("his_cancelled", "the HIS of hospital %s is called by the platform: an app has nothing to say of it (B23)", n.Hospital)
	case n.HISAllows < 0:
		return n, pay.ErrField.Because("his_allows_fen", "%d must not be below zero", int64(n.HISAllows))
	case !n.Cause.Known():
		return n, pay.ErrField.Because("cause", "%q is not on the list that patients may read (W04)", n.Cause)
	}
	return n, nil
}

// CreateRefund implements the call.
func (f refundService) CreateRefund(ctx context.Context, r *payv1.CreateRefundRequest) (*payv1.CreateRefundResponse, error) {
	n, err := f.asked(ctx, r)
	if err != nil {
		return nil, err
	}
	one, err := f.s.refunds().Create(ctx, n)
	if err != nil {
		return nil, err
	}
	return &payv1.CreateRefundResponse{Refund: refundMessage(one)}, nil
}

// DischargeRefund implements the call.
func (f refundService) DischargeRefund(ctx context.Context, r *payv1.DischargeRefundRequest) (*payv1.DischargeRefundResponse, error) {
	n, err := f.asked(ctx, r.GetRefund())
	if err != nil {
		return nil, err
	}
	list, err := f.s.refunds().Discharge(ctx, n, r.GetOrderNos())
	if err != nil {
		return nil, err
	}
	return &payv1.DischargeRefundResponse{Refunds: refundMessages(list)}, nil
}

// GetRefund implements the call.
func (f refundService) GetRefund(ctx context.Context, r *payv1.GetRefundRequest) (*payv1.GetRefundResponse, error) {
	if err := f.s.maySee(ctx, r.GetHospital()); err != nil {
		return nil, err
	}
	one, err := f.s.refunds().Get(ctx, r.GetHospital(), r.GetRefundNo())
	if err != nil {
		return nil, err
	}
	return &payv1.GetRefundResponse{Refund: refundMessage(one)}, nil
}

// ListRefunds implements the call.
func (f refundService) ListRefunds(ctx context.Context, r *payv1.ListRefundsRequest) (*payv1.ListRefundsResponse, error) {
	if err := f.s.maySee(ctx, r.GetHospital()); err != nil {
		return nil, err
	}
	var list []*pay.Refund
	var err error
	switch {
	case r.GetOrderNo() == "":
		list, err = f.s.refunds().Waiting(ctx, r.GetHospital(), pay.RefundStatus(r.GetStatus()))
	case r.GetStatus() == "":
		list, err = f.s.refunds().Of(ctx, r.GetHospital(), r.GetOrderNo())
	default:
		err = pay.ErrField.Because("status", "is not asked for together with order_no")
	}
	if err != nil {
		return nil, err
	}
	return &payv1.ListRefundsResponse{Refunds: refundMessages(list)}, nil
}

// of does something about a refund of a hospital that the caller may act for.
func (f refundService) of(ctx context.Context, hospital, no string, do func(ctx context.Context, hospital, no string) (*pay.Refund, error)) (*payv1.Refund, error) {
	if err := f.s.mayActFor(ctx, hospital); err != nil {
		return nil, err
	}
	one, err := do(ctx, hospital, no)
	if err != nil {
		return nil, err
	}
	return refundMessage(one), nil
}

// QueryRefund implements the call.
func (f refundService) QueryRefund(ctx context.Context, r *payv1.QueryRefundRequest) (*payv1.QueryRefundResponse, error) {
	one, err := f.of(ctx, r.GetHospital(), r.GetRefundNo(), f.s.refunds().Query)
	if err != nil {
		return nil, err
	}
	return &payv1.QueryRefundResponse{Refund: one}, nil
}

// readBack checks a decision: why it is no, and that the amount that was shown is
// that of the refund.
func (f refundService) readBack(ctx context.Context, r interface {
	GetHospital() string
	GetRefundNo() string
	GetApprove() bool
	GetReason() string
	GetAmountFen() int64
}) error {
	if !r.GetApprove() && strings.TrimSpace(r.GetReason()) == "" {
		return pay.ErrField.Because("reason", "must not be empty: who asked is told why")
	}
	if r.GetAmountFen() == 0 { // none was shown
		return nil
	}
	one, err := f.s.refunds().Get(ctx, r.GetHospital(), r.GetRefundNo())
	if err == nil && r.GetAmountFen() != int64(one.Amount) {
		err = pay.ErrDiffers.Because("amount_fen", "%s is read back, refund %s is %s: look at it again", ledger.Money(r.GetAmountFen()), one.RefundNo, one.Amount)
	}
	return err
}

// ApplyAbnormalRefund implements the call.
func (f refundService) ApplyAbnormalRefund(ctx context.Context, r *payv1.ApplyAbnormalRefundRequest) (*payv1.ApplyAbnormalRefundResponse, error) {
	one, err := f.s.refunds().ApplyAbnormal(ctx, r.GetHospital(), r.GetRefundNo(), r.GetIdempotencyKey(), caller(ctx).Name)
	if err != nil {
		return nil, err
	}
	return &payv1.ApplyAbnormalRefundResponse{Refund: refundMessage(one)}, nil
}

// DecideAbnormalRefund implements the call.
func (f refundService) DecideAbnormalRefund(ctx context.Context, r *payv1.DecideAbnormalRefundRequest) (*payv1.DecideAbnormalRefundResponse, error) {
	if err := f.readBack(ctx, r); err != nil {
		return nil, err
	}
	one, err := f.s.refunds().DecideAbnormal(ctx, r.GetHospital(), r.GetRefundNo(), caller(ctx).Name, r.GetApprove(), r.GetReason())
	if err != nil {
		return nil, err
	}
	return &payv1.DecideAbnormalRefundResponse{Refund: refundMessage(one)}, nil
}

// DecideRefund implements the call.
func (f refundService) DecideRefund(ctx context.Context, r *payv1.DecideRefundRequest) (*payv1.DecideRefundResponse, error) {
	if err := f.readBack(ctx, r); err != nil {
		return nil, err
	}
	one, err := f.s.refunds().Decide(ctx, r.GetHospital(), r.GetRefundNo(), caller(ctx).Name, r.GetApprove(), r.GetReason())
	if err != nil {
		return nil, err
	}
	return &payv1.DecideRefundResponse{Refund: refundMessage(one)}, nil
}

// ReissueRefund implements the call.
func (f refundService) ReissueRefund(ctx context.Context, r *payv1.ReissueRefundRequest) (*payv1.ReissueRefundResponse, error) {
	one, err := f.of(ctx, r.GetHospital(), r.GetRefundNo(), f.s.refunds().Reissue)
	if err != nil {
		return nil, err
	}
	return &payv1.ReissueRefundResponse{Refund: one}, nil
}

// AcknowledgeRefund implements the call.
func (f refundService) AcknowledgeRefund(ctx context.Context, r *payv1.AcknowledgeRefundRequest) (*payv1.AcknowledgeRefundResponse, error) {
	if err := f.s.calledByApp(ctx, r.GetHospital()); err != nil {
		return nil, err
	}
	one, err := f.of(ctx, r.GetHospital(), r.GetRefundNo(), f.s.refunds().WrittenBack)
	if err != nil {
		return nil, err
	}
	return &payv1.AcknowledgeRefundResponse{Refund: one}, nil
}

// WriteBackRefund implements the call.
func (f refundService) WriteBackRefund(ctx context.Context, r *payv1.WriteBackRefundRequest) (*payv1.WriteBackRefundResponse, error) {
	one, err := f.of(ctx, r.GetHospital(), r.GetRefundNo(), f.s.refunds().TellHIS)
	if err != nil {
		return nil, err
	}
	return &payv1.WriteBackRefundResponse{Refund: one}, nil
}

// ReplayNotices implements the call.
func (f refundService) ReplayNotices(ctx context.Context, r *payv1.ReplayNoticesRequest) (*payv1.ReplayNoticesResponse, error) {
	if err := f.s.mayActFor(ctx, r.GetHospital()); err != nil {
		return nil, err
	}
	n, err := (&pay.Notices{House: f.s.house}).Replay(ctx, r.GetHospital(), r.GetNumber())
	if err != nil {
		return nil, err
	}
	return &payv1.ReplayNoticesResponse{Notices: int32(n)}, nil
}
