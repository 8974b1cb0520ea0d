package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/api/sdk"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/proto/clearward/audit/v1/auditv1connect"
	errorv1 "github.com/clearward/clearward/proto/clearward/error/v1"
	"github.com/clearward/clearward/proto/clearward/hospital/v1/hospitalv1connect"
	"github.com/clearward/clearward/proto/clearward/jobs/v1/jobsv1connect"
	"github.com/clearward/clearward/proto/clearward/ledger/v1/ledgerv1connect"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
	"github.com/clearward/clearward/proto/clearward/payout/v1/payoutv1connect"
	"github.com/clearward/clearward/proto/clearward/recon/v1/reconv1connect"
	"github.com/clearward/clearward/recon"
)

// maxRequest is the longest request that is read, in bytes.
const maxRequest = 1 << 20

// compressFrom is how long an answer must be before it is compressed: on a short
// one it costs more than all the rest of the call.
const compressFrom = 4 << 10

// procedures says what right each call needs. A call that is not here is refused,
// whoever asks.
var procedures = map[string]auth.Action{
	openAPIPath: auth.APIRead,
	metricsPath: auth.JobRead, // from loopback anybody

	hospitalv1connect.HospitalServiceListHospitalsProcedure: auth.HospitalRead,
	hospitalv1connect.HospitalServiceListAppsProcedure:      auth.HospitalRead,
	hospitalv1connect.HospitalServiceSetUpProcedure:         auth.SetupWrite,
	auditv1connect.AuditServiceListActsProcedure:            auth.AuditRead,

	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      auth.APIRead,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": auth.APIRead,

	ledgerv1connect.LedgerServiceGetBalanceProcedure:          auth.AuditRead,
	ledgerv1connect.LedgerServiceListBalancesProcedure:        auth.AuditRead,
	ledgerv1connect.LedgerServiceListLinesProcedure:           auth.AuditRead,
	ledgerv1connect.LedgerServicePostCashProcedure:            auth.CashWrite,
	ledgerv1connect.LedgerServicePostCashBulkProcedure:        auth.CashWrite,
	ledgerv1connect.LedgerServiceVerifyProcedure:              auth.AuditRead,
	reconv1connect.ReconServiceRunDayProcedure:                auth.ReconRun,
	reconv1connect.ReconServiceGetDayProcedure:                auth.CaseRead,
	reconv1connect.ReconServiceListCasesProcedure:             auth.CaseRead,
	reconv1connect.ReconServiceGetCaseProcedure:               auth.CaseRead,
	reconv1connect.ReconServiceProposeResolutionProcedure:     auth.CasePropose,
	reconv1connect.ReconServiceApproveResolutionProcedure:     auth.CaseApprove,
	reconv1connect.ReconServiceRejectResolutionProcedure:      auth.CaseReject,
	reconv1connect.ReconServiceDownloadDailyProcedure:         auth.DailyRead,
	payoutv1connect.PayoutServiceRequestPayoutProcedure:       auth.PayoutRequest,
	payoutv1connect.PayoutServiceGetPayoutProcedure:           auth.PayoutRead,
	payoutv1connect.PayoutServiceListPayoutsProcedure:         auth.PayoutRead,
	payoutv1connect.PayoutServiceListPayableProcedure:         auth.PayoutRead,
	payoutv1connect.PayoutServiceListSubsidiesProcedure:       auth.PayoutRead,
	payoutv1connect.PayoutServiceQueryPayoutProcedure:         auth.PayoutQuery,
	payoutv1connect.PayoutServiceGetReceiptProcedure:          auth.PayoutRead,
	payoutv1connect.PayoutServiceListMissingReceiptsProcedure: auth.PayoutRead,
	payoutv1connect.PayoutServiceApprovePayoutsProcedure:      auth.PayoutApprove,
	payoutv1connect.PayoutServiceRefusePayoutProcedure:        auth.PayoutRefuse,
	payoutv1connect.PayoutServicePausePayoutsProcedure:        auth.PayoutPause,
	payoutv1connect.PayoutServiceResumePayoutsProcedure:       auth.PayoutResume,
	payoutv1connect.PayoutServiceProposePayeeProcedure:        auth.PayeePropose,
	payoutv1connect.PayoutServiceListPayeesProcedure:          auth.PayoutRead,
	payoutv1connect.PayoutServiceApprovePayeeProcedure:        auth.PayeeApprove,
	payoutv1connect.PayoutServiceRefusePayeeProcedure:         auth.PayeeApprove,
	payv1connect.PaymentServiceCreatePaymentProcedure:         auth.PaymentWrite,
	payv1connect.PaymentServiceQueryPaymentProcedure:          auth.PaymentWrite,
	payv1connect.PaymentServiceClosePaymentProcedure:          auth.PaymentWrite,
	payv1connect.PaymentServiceAcknowledgePaymentProcedure:    auth.PaymentWrite,
	payv1connect.PaymentServiceGetPaymentProcedure:            auth.PaymentWrite,
	payv1connect.PaymentServiceListOperationsProcedure:        auth.APIRead,
	payv1connect.PaymentServiceWriteBackPaymentProcedure:      auth.PaymentWrite,
	payv1connect.RefundServiceWriteBackRefundProcedure:        auth.PaymentWrite,
	payv1connect.RefundServiceGetRefundableProcedure:          auth.PaymentWrite,
	payv1connect.RefundServiceCreateRefundProcedure:           auth.PaymentWrite,
	payv1connect.RefundServiceDischargeRefundProcedure:        auth.PaymentWrite,
	payv1connect.RefundServiceGetRefundProcedure:              auth.RefundRead,
	payv1connect.RefundServiceListRefundsProcedure:            auth.RefundRead,
	payv1connect.RefundServiceQueryRefundProcedure:            auth.PaymentWrite,
	payv1connect.RefundServiceDecideRefundProcedure:           auth.RefundDecide,
	payv1connect.RefundServiceApplyAbnormalRefundProcedure:    auth.RefundApply,
	payv1connect.RefundServiceDecideAbnormalRefundProcedure:   auth.RefundDecide,
	payv1connect.RefundServiceReissueRefundProcedure:          auth.PaymentWrite,
	payv1connect.RefundServiceAcknowledgeRefundProcedure:      auth.PaymentWrite,
	payv1connect.RefundServiceReplayNoticesProcedure:          auth.PaymentWrite,
	jobsv1connect.JobServiceListJobsProcedure:                 auth.JobRead,
	jobsv1connect.JobServiceListRunsProcedure:                 auth.JobRead,
	jobsv1connect.JobServicePauseJobProcedure:                 auth.JobManage,
	jobsv1connect.JobServiceResumeJobProcedure:                auth.JobManage,
	jobsv1connect.JobServiceRunJobProcedure:                   auth.JobManage,
}

// services are the calls over Connect, gRPC, gRPC-Web and JSON, with reflection.
func (s *Server) services(mux *http.ServeMux) {
	options := []connect.HandlerOption{connect.WithInterceptors(doorkeeper{s}), connect.WithReadMaxBytes(maxRequest),
		connect.WithCompressMinBytes(compressFrom)}
	calls := http.NewServeMux()
	calls.HandleFunc("GET "+openAPIPath, doorkeeper{s}.describe)
	calls.HandleFunc("GET "+metricsPath, doorkeeper{s}.showMetrics)
	mux.Handle("/", s.identified(calls))
	calls.Handle(ledgerv1connect.NewLedgerServiceHandler(ledgerService{s}, options...))
	calls.Handle(reconv1connect.NewReconServiceHandler(reconService{s}, options...))
	calls.Handle(payv1connect.NewPaymentServiceHandler(paymentService{s}, options...))
	calls.Handle(payv1connect.NewRefundServiceHandler(refundService{s}, options...))
	calls.Handle(hospitalv1connect.NewHospitalServiceHandler(hospitalService{s}, options...))
	calls.Handle(auditv1connect.NewAuditServiceHandler(auditService{s}, options...))
	calls.Handle(payoutv1connect.NewPayoutServiceHandler(payoutService{s}, options...))
	calls.Handle(jobsv1connect.NewJobServiceHandler(jobService{s}, options...))
	reflector := grpcreflect.NewStaticReflector(ledgerv1connect.LedgerServiceName, reconv1connect.ReconServiceName, jobsv1connect.JobServiceName, payoutv1connect.PayoutServiceName, payv1connect.PaymentServiceName,
		payv1connect.RefundServiceName,
		hospitalv1connect.HospitalServiceName, auditv1connect.AuditServiceName)
	calls.Handle(grpcreflect.NewHandlerV1(reflector, options...))
	calls.Handle(grpcreflect.NewHandlerV1Alpha(reflector, options...))
}

// identified finds out who calls, from the header and, where it is signed, the body
// of the request, before anything of it is believed. Who it is not known stays
// nobody, and is refused where the call asks for a right.
func (s *Server) identified(next http.Handler) http.Handler {
	door := auth.NewDoor(s.DB, s.now)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Get("Authorization")
		if header == "" {
			next.ServeHTTP(w, r)
			return
		}
		var who arrival
		var body []byte
		if strings.HasPrefix(header, sdk.Scheme) {
			body, who.err = io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
			if who.err == nil && len(body) > maxRequest {
				who.err = ErrField.Because("", "the body is longer than %d bytes", maxRequest)
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		if who.err == nil {
			who.Principal, who.err = door.Enter(r.Context(), header, r.Method, r.URL.RequestURI(), body)
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, who)))
	})
}

// arrival is who calls, or why they are not believed.
type arrival struct {
	auth.Principal
	err error
}

// doorkeeper lets nobody pass whom procedures and roles do not let pass, and
// turns what went wrong into an error that a program can read.
type doorkeeper struct{ s *Server }

// principalKey is under which a call's context holds who is calling.
type principalKey struct{}

// caller is who is calling; the doorkeeper has let them in.
func caller(ctx context.Context) auth.Principal {
	who, _ := ctx.Value(principalKey{}).(arrival)
	return who.Principal
}

// enter checks the right to make this call.
func (d doorkeeper) enter(ctx context.Context, procedure string) error {
	action, ok := procedures[procedure]
	if !ok {
		return fmt.Errorf("%w: %s is nobody's to call", auth.ErrDenied, procedure)
	}
	who, known := ctx.Value(principalKey{}).(arrival)
	switch {
	case !known:
		return fmt.Errorf("%w: %s is done in somebody's name", ErrNoKey, action)
	case who.err != nil:
		return who.err
	}
	return auth.Allow(who.Principal, action)
}

// WrapUnary implements connect.Interceptor.
func (d doorkeeper) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (answer connect.AnyResponse, err error) {
		procedure, began := request.Spec().Procedure, time.Now()
		if err = d.enter(ctx, procedure); err == nil {
			answer, err = d.once(ctx, request, next)
		}
		err = d.tell(procedure, err)
		d.s.metrics.called(procedure, began, err)
		if err != nil {
			return nil, err
		}
		return answer, nil
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (d doorkeeper) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		procedure, began := conn.Spec().Procedure, time.Now()
		err := d.enter(ctx, procedure)
		if err == nil {
			err = next(ctx, conn)
		}
		err = d.tell(procedure, err)
		d.s.metrics.called(procedure, began, err)
		return err
	}
}

// WrapStreamingClient implements connect.Interceptor; the program calls nobody by it.
func (d doorkeeper) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// errorCodes is the only table that turns our errors into those of the protocol.
var errorCodes = []struct {
	err   error
	code  connect.Code
	name  string // "" where the error is a Refusal, which says it
	field string
}{
	{ErrNoKey, connect.CodeUnauthenticated, "NO_KEY", ""},
	{auth.ErrUnknownKey, connect.CodeUnauthenticated, "KEY_UNKNOWN", ""},
	{auth.ErrRevoked, connect.CodeUnauthenticated, "KEY_REVOKED", ""},
	{auth.ErrEnded, connect.CodeUnauthenticated, "DEPUTY_ENDED", ""},
	{auth.ErrSignature, connect.CodeUnauthenticated, "SIGNATURE", ""},
	{auth.ErrClock, connect.CodeUnauthenticated, "CLOCK", ""},
	{auth.ErrMustSign, connect.CodeUnauthenticated, "MUST_SIGN", ""},
	{auth.ErrDenied, connect.CodePermissionDenied, "NOT_ALLOWED", ""},
	{auth.ErrNoFactor, connect.CodePermissionDenied, "NO_FACTOR", ""},
	{auth.ErrCode, connect.CodePermissionDenied, "CODE", "code"},
	{auth.ErrCodeUsed, connect.CodePermissionDenied, "CODE_USED", "code"},
	{auth.ErrFactorLocked, connect.CodePermissionDenied, "FACTOR_LOCKED", ""},
	{pay.ErrNotAllowed, connect.CodePermissionDenied, "", ""},
	{pay.ErrNotFound, connect.CodeNotFound, "", ""},
	{pay.ErrTwoPeople, connect.CodePermissionDenied, "", ""},
	{pay.ErrField, connect.CodeInvalidArgument, "", ""},
	{ErrNotConnected, connect.CodeFailedPrecondition, "NOT_CONNECTED", ""},
	{ErrEnvironment, connect.CodeFailedPrecondition, "ENVIRONMENT", ""},
	{payout.ErrSamePerson, connect.CodePermissionDenied, "", ""},
	{payout.ErrLimit, connect.CodePermissionDenied, "", ""},
	{payout.ErrUnknownPayout, connect.CodeNotFound, "", ""},
	{payout.ErrRequest, connect.CodeInvalidArgument, "", ""},
	{ErrNoMasterKey, connect.CodeFailedPrecondition, "NO_MASTER_KEY", ""},
	{recon.ErrSamePerson, connect.CodePermissionDenied, "", ""},
	{recon.ErrCaseUnknown, connect.CodeNotFound, "", ""},
	{ledger.ErrKeyConflict, connect.CodeAlreadyExists, "", ""},
	{ledger.ErrKeyExpired, connect.CodeOutOfRange, "", ""},
	{clearing.ErrCash, connect.CodeInvalidArgument, "", ""},
	{clearing.ErrSetup, connect.CodeInvalidArgument, "SETUP", "file"},
	{ErrNoAccount, connect.CodeNotFound, "ACCOUNT_UNKNOWN", "account"},
	{jobs.ErrUnknownJob, connect.CodeNotFound, "JOB_UNKNOWN", "name"},
	{clearing.ErrUnknownHospital, connect.CodeNotFound, "HOSPITAL_UNKNOWN", "hospital"},
	{ledger.ErrUnknown, connect.CodeUnavailable, "OUTCOME_UNKNOWN", ""},
	{db.ErrAmbiguous, connect.CodeUnavailable, "OUTCOME_UNKNOWN", ""},
	{recon.ErrHISSilent, connect.CodeUnavailable, "HIS_SILENT", ""},
	{recon.ErrProof, connect.CodeFailedPrecondition, "PROOF", ""},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "TOO_LATE", ""},
	{context.Canceled, connect.CodeCanceled, "CANCELED", ""},
}

// ErrField is the refusal of a request of which a field cannot be read.
var ErrField = ledger.Refusal{Code: "FIELD"}

// tell turns an error into one of the protocol. What is not ours to tell goes to
// the log under a number, and the caller gets the number.
func (d doorkeeper) tell(procedure string, err error) error {
	var told *connect.Error
	if err == nil || errors.As(err, &told) {
		return err
	}
	told, _ = d.refuse(procedure, err)
	return told
}

// refuse is the error of the protocol, with what it says in detail.
func (d doorkeeper) refuse(procedure string, err error) (*connect.Error, *errorv1.Refusal) {
	code, detail := connect.CodeInternal, &errorv1.Refusal{}
	var refusal ledger.Refusal
	if errors.As(err, &refusal) {
		code = connect.CodeFailedPrecondition
		detail.Code, detail.Field, detail.Rule = refusal.Code, refusal.Field, refusal.Rule
	}
	for _, known := range errorCodes {
		if errors.Is(err, known.err) {
			code = known.code
			if known.name != "" {
				detail.Code, detail.Field, detail.Rule = known.name, known.field, err.Error()
			}
			break
		}
	}
	if detail.Code == "" {
		number := "err_" + rand.Text()[:12]
		d.s.log.Error("a call failed", "call", procedure, "number", number, "error", err)
		detail.Code, detail.Rule = "INTERNAL", "the call failed; the log says why under "+number
	}
	forCashier(procedure, err, detail)
	for _, a := range advice {
		if errors.Is(err, a.err) {
			detail.Next = a.next
		}
	}
	text := err.Error()
	if detail.Code == "INTERNAL" {
		text = detail.Rule
	}
	return withDetail(code, text, detail), detail
}

func withDetail(code connect.Code, text string, detail *errorv1.Refusal) *connect.Error {
	out := connect.NewError(code, errors.New(text))
	if packed, err := connect.NewErrorDetail(detail); err == nil {
		out.AddDetail(packed)
	}
	return out
}

// forCashier adds to a refusal of a payment or refund what a cashier needs.
func forCashier(procedure string, err error, detail *errorv1.Refusal) {
	ofRefund := strings.HasPrefix(procedure, "/"+payv1connect.RefundServiceName+"/")
	if !ofRefund && !strings.HasPrefix(procedure, "/"+payv1connect.PaymentServiceName+"/") {
		return
	}
	words := pay.AdviseRefusal(err, ofRefund)
	detail.Tell, detail.MayChargeAgain = words.ZH, words.ChargeAgain
}

// dayField reads a day of a request; empty is 0 where it may be left out.
func dayField(name, text string, needed bool) (ledger.Day, error) {
	if text == "" && !needed {
		return 0, nil
	}
	day, err := ledger.ParseDay(text)
	if err != nil {
		return 0, ErrField.Because(name, "%q is not a day like 2026-09-15", text)
	}
	return day, nil
}
