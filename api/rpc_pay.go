package api

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// paymentService is for the business apps of hospitals.
type paymentService struct{ s *Server }

// payments makes payments over the connections of the process.
func (s *Server) payments() *pay.Payments { return &pay.Payments{House: s.house} }

// pollAtOnce is how many payments, refunds or notices a job reads at once.
const pollAtOnce = 200

// whatIsDue does what is due about payments, refunds or notices, part by part, until
// nothing is left or something fails: what remains is due at the next run.
func whatIsDue(ctx context.Context, part func() (int, error)) (done int, err error) {
	for {
		n, err := part()
		done += n
		if err != nil || n < pollAtOnce || ctx.Err() != nil {
			return done, err
		}
	}
}

func (s *Server) pollPayments(ctx context.Context, _ time.Time) (int, error) {
	return whatIsDue(ctx, func() (int, error) { return s.payments().Poll(ctx, s.now(), pollAtOnce) })
}

// mayActFor refuses an app that is not of the hospital (M07).
func (s *Server) mayActFor(ctx context.Context, hospital string) error {
	w, err := s.wiring(ctx)
	if err != nil {
		return err
	}
	app, ok := w.App(caller(ctx).Name)
	if !ok || !slices.Contains(app.Hospitals, hospital) {
		return fmt.Errorf("%w: %s may not act for hospital %q", auth.ErrDenied, caller(ctx).Name, hospital)
	}
	return nil
}

// calledByApp refuses what an app says of HIS where the platform calls HIS itself (B23).
func (s *Server) calledByApp(ctx context.Context, hospital string) error {
	platform, err := s.house.PlatformCalls(ctx, hospital)
	if err == nil && platform {
		err = fmt.Errorf("%w: hospital %q: its HIS is not called by apps", auth.ErrDenied, hospital)
	}
	return err
}

func paymentMessage(p *pay.Payment) *payv1.Payment {
	advice := p.Advise()
	out := &payv1.Payment{Hospital: p.Hospital, OrderNo: p.OrderNo, Channel: p.Channel, MerchantNo: p.MerchantNo, TradeNo: p.TradeNo, BillNo: p.BillNo,
		BizType: p.BizType, AmountFen: int64(p.Amount), RefundedFen: int64(p.Refunded), RefundableFen: int64(p.Refundable()), AcknowledgedFen: int64(p.Acked),
		Status: string(p.Status), Prepay: p.Prepay, Tell: advice.ZH, MayChargeAgain: advice.ChargeAgain, ChannelCode: p.Reason.Code}
	if !p.SuccessAt.IsZero() {
		out.SuccessAt = timestamppb.New(p.SuccessAt)
	}
	if !p.ExpiresAt.IsZero() {
		out.ExpiresAt = timestamppb.New(p.ExpiresAt)
	}
	return out
}

// CreatePayment implements the call.
func (p paymentService) CreatePayment(ctx context.Context, r *payv1.CreatePaymentRequest) (*payv1.CreatePaymentResponse, error) {
	if err := p.s.mayActFor(ctx, r.GetHospital()); err != nil {
		return nil, err
	}
	one, err := p.s.payments().Create(ctx, pay.NewPayment{App: caller(ctx).Name, Key: r.GetIdempotencyKey(), Hospital: r.GetHospital(), Channel: r.GetChannel(),
		MerchantNo: r.GetMerchantNo(), BillNo: r.GetBillNo(), BizType: pay.BizType(r.GetBizType()), Terminal: r.GetTerminal(), Patient: r.GetPatientRef(),
		Way: channels.Way(r.GetWay()), Amount: ledger.Money(r.GetAmountFen()), AuthCode: r.GetAuthCode(), Payer: r.GetPayer(), ClientIP: r.GetClientIp(),
		Replace: r.GetReplace()})
	if err != nil {
		return nil, err
	}
	return &payv1.CreatePaymentResponse{Payment: paymentMessage(one)}, nil
}

// GetPayment implements the call.
func (p paymentService) GetPayment(ctx context.Context, r *payv1.GetPaymentRequest) (*payv1.GetPaymentResponse, error) {
	one, err := p.of(ctx, r.GetHospital(), r.GetOrderNo(), p.s.payments().Get)
	if err != nil {
		return nil, err
	}
	return &payv1.GetPaymentResponse{Payment: paymentMessage(one)}, nil
}

// of does something about a payment of a hospital that the caller may act for.
func (p paymentService) of(ctx context.Context, hospital, orderNo string, do func(ctx context.Context, hospital, orderNo string) (*pay.Payment, error)) (*pay.Payment, error) {
	if err := p.s.mayActFor(ctx, hospital); err != nil {
		return nil, err
	}
	return do(ctx, hospital, orderNo)
}

// QueryPayment implements the call.
func (p paymentService) QueryPayment(ctx context.Context, r *payv1.QueryPaymentRequest) (*payv1.QueryPaymentResponse, error) {
	one, err := p.of(ctx, r.GetHospital(), r.GetOrderNo(), p.s.payments().Query)
	if err != nil {
		return nil, err
	}
	return &payv1.QueryPaymentResponse{Payment: paymentMessage(one)}, nil
}

// ClosePayment implements the call.
func (p paymentService) ClosePayment(ctx context.Context, r *payv1.ClosePaymentRequest) (*payv1.ClosePaymentResponse, error) {
	one, err := p.of(ctx, r.GetHospital(), r.GetOrderNo(), p.s.payments().Close)
	if err != nil {
		return nil, err
	}
	return &payv1.ClosePaymentResponse{Payment: paymentMessage(one)}, nil
}

// AcknowledgePayment implements the call. Where the platform calls HIS itself, an
// app has nothing to say of it (B23).
func (p paymentService) AcknowledgePayment(ctx context.Context, r *payv1.AcknowledgePaymentRequest) (*payv1.AcknowledgePaymentResponse, error) {
	if err := p.s.calledByApp(ctx, r.GetHospital()); err != nil {
		return nil, err
	}
	word := channels.HISAnswer{Outcome: channels.OutcomeSucceeded, BillNo: r.GetBillNo(), ReceiptNo: r.GetReceiptNo(), Amount: ledger.Money(r.GetAmountFen())}
	if r.GetRefused() != "" {
		word = channels.HISAnswer{Outcome: channels.OutcomeFailed, Reason: channels.Reason{Kind: channels.ReasonRequest, Text: r.GetRefused()}}
	}
	if (r.GetRefused() == "") != (r.GetAmountFen() > 0) {
		return nil, ErrField.Because("amount_fen", "it is what HIS has booked, or nothing where HIS refused")
	}
	one, err := p.of(ctx, r.GetHospital(), r.GetOrderNo(), func(ctx context.Context, hospital, orderNo string) (*pay.Payment, error) {
		return p.s.payments().Acknowledge(ctx, pay.Caller{App: caller(ctx).Name, Key: r.GetIdempotencyKey()}, hospital, orderNo, word)
	})
	if err != nil {
		return nil, err
	}
	return &payv1.AcknowledgePaymentResponse{Payment: paymentMessage(one)}, nil
}

// WriteBackPayment implements the call.
func (p paymentService) WriteBackPayment(ctx context.Context, r *payv1.WriteBackPaymentRequest) (*payv1.WriteBackPaymentResponse, error) {
	one, err := p.of(ctx, r.GetHospital(), r.GetOrderNo(), p.s.payments().TellHIS)
	if err != nil {
		return nil, err
	}
	return &payv1.WriteBackPaymentResponse{Payment: paymentMessage(one)}, nil
}

// ListOperations implements the call.
func (p paymentService) ListOperations(ctx context.Context, r *payv1.ListOperationsRequest) (*payv1.ListOperationsResponse, error) {
	if err := p.s.maySee(ctx, r.GetHospital()); err != nil {
		return nil, err
	}
	dir, err := p.s.directory(ctx)
	if err != nil {
		return nil, err
	}
	h, ok := dir.Hospital(r.GetHospital())
	if !ok {
		return nil, ErrField.Because("hospital", "%q is not set up", r.GetHospital())
	}
	out := &payv1.ListOperationsResponse{}
	for _, biz := range pay.Businesses() {
		for i, op := range pay.Operations(biz, pay.Actor(h.HISCalls)) {
			out.Operations = append(out.Operations, &payv1.Operation{BizType: string(biz), Number: int32(i + 1), Step: string(op.Step), Who: string(op.Who), OnFault: op.OnFault})
		}
	}
	return out, nil
}
