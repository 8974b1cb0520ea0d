package api

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/ledger"
	jobsv1 "github.com/clearward/clearward/proto/clearward/jobs/v1"
	"github.com/clearward/clearward/proto/clearward/jobs/v1/jobsv1connect"
	"github.com/clearward/clearward/proto/clearward/ledger/v1/ledgerv1connect"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
	"github.com/clearward/clearward/proto/clearward/pay/v1/payv1connect"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
	reconv1 "github.com/clearward/clearward/proto/clearward/recon/v1"
	"github.com/clearward/clearward/proto/clearward/recon/v1/reconv1connect"
)

// calls are the methods of the API.
func calls(yield func(path string, m protoreflect.MethodDescriptor) bool) {
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for n := range methods.Len() {
				m := methods.Get(n)
				path := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
				if _, ours := procedures[path]; ours && strings.HasPrefix(path, "/clearward.") && !yield(path, m) {
					return false
				}
			}
		}
		return true
	})
}

// carriesKey tells whether a request or what it holds has an idempotency key.
func carriesKey(m protoreflect.MessageDescriptor) bool {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.Name() == keyField || (f.Message() != nil && carriesKey(f.Message())) {
			return true
		}
	}
	return false
}

// Each call that changes something carries a key, and without one it is refused
// whoever asks; a call that may be repeated freely has no need of one.
func TestEveryWriteCarriesAKey(t *testing.T) {
	w := newWorld(t)
	doors := []*http.Client{signing(t, newKey(t, w.Server, "HTAPP", auth.Service), noon)}
	for _, role := range []auth.Role{auth.Accountant, auth.FinanceHead, auth.Treasurer, auth.Operator} {
		doors = append(doors, signing(t, newKey(t, w.Server, "某"+string(role), role), noon))
	}
	writes := 0
	for path, m := range calls {
		if reads(m) {
			if carriesKey(m.Input()) {
				t.Errorf("%s only reads and carries a key", path)
			}
			continue
		}
		writes++
		if !carriesKey(m.Input()) {
			t.Errorf("%s changes something and carries no key", path)
		}
		body := cmp.Or(map[string]string{ledgerv1connect.LedgerServicePostCashProcedure: `{"cash":{"day":"2026-09-16"}}`,
			ledgerv1connect.LedgerServicePostCashBulkProcedure: `{"cash":[{"day":"2026-09-16"}]}`}[path], `{"hospital":"H1","refund":{"hospital":"H1"}}`)
		if told := firstHeard(t, doors, w.url+path, body); !strings.Contains(told, "idempotency_key") {
			t.Errorf("%s without a key is answered by %s", path, told)
		}
	}
	if writes < 30 {
		t.Errorf("%d writes were found", writes)
	}
}

// firstHeard is the answer to a request of the first that has the right.
func firstHeard(t *testing.T, doors []*http.Client, url, body string) string {
	t.Helper()
	told := "nobody"
	for _, door := range doors {
		answer, err := door.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.Body.Close() != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != http.StatusForbidden && answer.StatusCode != http.StatusUnauthorized {
			return string(text)
		}
		told = string(text)
	}
	return told
}

// The first answer is given again, and nothing is done again: a notice is not sent
// twice, a job not run twice. Another request under the key is a conflict that
// changes nothing.
func TestTheSameRequestAgainGetsTheFirstAnswer(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	first, second := w.paid("B1", 4500), w.paid("B2", 4500)
	if _, err := w.notifyApps(ctx, noon()); err != nil {
		t.Fatal(err)
	}
	heard := len(w.told)
	for range 3 {
		done, err := w.refund.ReplayNotices(ctx, &payv1.ReplayNoticesRequest{IdempotencyKey: "again", Hospital: "H1", Number: first.GetOrderNo()})
		if err != nil || done.GetNotices() != 1 {
			t.Fatal(done, err)
		}
		if _, err := w.notifyApps(ctx, noon()); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.told) != heard+1 {
		t.Errorf("the app was told %d times more by one call that was made three times", len(w.told)-heard)
	}
	_, err := w.refund.ReplayNotices(ctx, &payv1.ReplayNoticesRequest{IdempotencyKey: "again", Hospital: "H1", Number: second.GetOrderNo()})
	tells(t, err, connect.CodeAlreadyExists, "KEY_CONFLICT", "again was used before with another number", "该请求编号已用于另一笔退款，请查询原退款。", false)
	_, err = w.pay.ClosePayment(ctx, &payv1.ClosePaymentRequest{IdempotencyKey: "again", Hospital: "H1", OrderNo: first.GetOrderNo()})
	denied(t, err, connect.CodeAlreadyExists, "KEY_CONFLICT", "call")
	// An app's word about HIS is kept with the payment that it changes.
	ack := &payv1.AcknowledgePaymentRequest{IdempotencyKey: "ack", Hospital: "H1", OrderNo: first.GetOrderNo(), BillNo: "B1", ReceiptNo: "R1", AmountFen: 4500}
	for range 2 {
		if acked, err := w.pay.AcknowledgePayment(ctx, ack); err != nil || acked.GetPayment().GetAcknowledgedFen() != 4500 {
			t.Error(acked, err)
		}
	}
	ack.OrderNo = second.GetOrderNo()
	_, err = w.pay.AcknowledgePayment(ctx, ack)
	tells(t, err, connect.CodeAlreadyExists, "KEY_CONFLICT", "order_no", "该请求编号已用于另一笔支付，请查询原订单，不要再次收费。", false)
	if p, err := w.pay.GetPayment(ctx, &payv1.GetPaymentRequest{Hospital: "H1", OrderNo: second.GetOrderNo()}); err != nil || p.GetPayment().GetAcknowledgedFen() != 0 {
		t.Error(p, err)
	}
}

// A refusal is an answer: it is given again with all that it says, though the second
// time nothing would forbid it; and the same in JSON and over gRPC.
func TestARefusalIsGivenAgain(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	p := w.paid("B1", 9000)
	one, err := w.refund.CreateRefund(ctx, w.back(p.GetOrderNo(), 4000))
	if err != nil {
		t.Fatal(err)
	}
	no := one.GetRefund().GetRefundNo()
	head := newKey(t, w.Server, "李主管", auth.FinanceHead)
	grpc := payv1connect.NewRefundServiceClient(signing(t, head, noon), w.url, connect.WithGRPC(), connect.WithProtoJSON())
	yes := &payv1.DecideRefundRequest{IdempotencyKey: "yes", Hospital: "H1", RefundNo: no, Approve: true, AmountFen: 4001}
	_, first := w.head.DecideRefund(ctx, yes)
	tells(t, first, connect.CodeFailedPrecondition, "AMOUNT_DIFFERS", "40.01 is read back", "金额与原退款不一致，请交财务核对。", false)
	for _, door := range []payv1connect.RefundServiceClient{w.head, grpc} {
		_, again := door.DecideRefund(ctx, yes)
		tells(t, again, connect.CodeFailedPrecondition, "AMOUNT_DIFFERS", "40.01 is read back", "金额与原退款不一致，请交财务核对。", false)
		if proto.Equal(refusalOf(t, first), refusalOf(t, again)) && again.Error() == first.Error() {
			continue
		}
		t.Errorf("first %v, again %v", first, again)
	}
	yes.IdempotencyKey, yes.AmountFen = "yes2", 4000
	done, err := w.head.DecideRefund(ctx, yes)
	if err != nil || done.GetRefund().GetChecker() != "李主管" {
		t.Fatal(done, err)
	}
	for _, door := range []payv1connect.RefundServiceClient{w.head, grpc} {
		if again, err := door.DecideRefund(ctx, yes); err != nil || !proto.Equal(again, done) {
			t.Errorf("first %v, again %v, %v", done, again, err)
		}
	}
}

// What a process left when it died between a call and its answer is taken up by the
// repeat; what others ask under the same key is theirs; and calls that are made at
// once are one call.
func TestACallThatWasCutOffIsMadeByItsRepeat(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if _, err := jobs.Open(ctx, w.DB, noon, w.log, w.schedule()...); err != nil {
		t.Fatal(err)
	}
	ask := &jobsv1.PauseJobRequest{IdempotencyKey: "k", Name: "poll"}
	canon, err := canonOf(jobsv1.File_clearward_jobs_v1_jobs_proto.Services().Get(0).Methods().ByName("PauseJob"), ask)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Submit(ctx, w.committer, beginCall, ledger.Request{Scope: "call:孙运营", Key: "k", Form: 1, Canon: canon}, struct{}{}); err != nil {
		t.Fatal(err)
	}
	one := jobsv1connect.NewJobServiceClient(http.DefaultClient, w.url, bearer(newKey(t, w.Server, "孙运营", auth.Operator)))
	other := jobsv1connect.NewJobServiceClient(http.DefaultClient, w.url, bearer(newKey(t, w.Server, "周运营", auth.Operator)))
	_, err = one.PauseJob(ctx, &jobsv1.PauseJobRequest{IdempotencyKey: "k", Name: "notify"})
	denied(t, err, connect.CodeAlreadyExists, "KEY_CONFLICT", "name")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := one.PauseJob(ctx, ask); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := other.ResumeJob(ctx, &jobsv1.ResumeJobRequest{IdempotencyKey: "k", Name: "poll"}); err != nil {
		t.Error(err)
	}
	if _, err := one.PauseJob(ctx, ask); err != nil {
		t.Error(err)
	}
	list, err := one.ListJobs(ctx, &jobsv1.ListJobsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range list.GetJobs() {
		if j.GetPausedBy() != "" {
			t.Errorf("%s is paused by %s: an answer that was kept does nothing again", j.GetName(), j.GetPausedBy())
		}
	}
}

// A second factor's code is another at every try: the approval is the same, and the
// first answer needs no fresh one.
func TestAnApprovalThatWasMadeIsAnsweredWithoutAFreshCode(t *testing.T) {
	h, ctx := openPayouts(t), t.Context()
	proposed, err := h.op.ProposePayee(ctx, &payoutv1.ProposePayeeRequest{IdempotencyKey: "payee_1", Hospital: "H2", UseFor: "HOSPITAL", Account: "H2-OWN", Name: "民营医院", Bank: "工商银行", Cnaps: "102100099996"})
	if err != nil {
		t.Fatal(err)
	}
	ask := &payoutv1.ApprovePayeeRequest{IdempotencyKey: "yes", Id: proposed.GetPayee().GetId(), Code: "000000"}
	_, err = h.checker.ApprovePayee(ctx, ask)
	denied(t, err, connect.CodePermissionDenied, "CODE", "code is wrong") // nobody was let in, so nothing is answered yet
	ask.Code = h.code()
	first, err := h.checker.ApprovePayee(ctx, ask)
	if err != nil || first.GetPayee().GetState() != "ACTIVE" {
		t.Fatal(first, err)
	}
	for _, code := range []string{ask.GetCode(), "000000", ""} {
		ask.Code = code
		if again, err := h.checker.ApprovePayee(ctx, ask); err != nil || !proto.Equal(again, first) {
			t.Errorf("with code %q: %v, %v", code, again, err)
		}
	}
	ask.IdempotencyKey = rand.Text() // the same word of the same person under another key
	if again, err := h.checker.ApprovePayee(ctx, ask); err != nil || again.GetPayee().GetState() != "ACTIVE" {
		t.Error(again, err)
	}
}

// E07: while HIS is silent no refund of a long payment is decided. That is no answer to
// keep: the same request under the same key goes on once HIS speaks.
func TestTheSilenceOfHISIsNotKeptUnderTheKey(t *testing.T) {
	l, h := newSettled(t)
	ctx := t.Context()
	l.bill("B1", 4500, pay.Outpatient)
	p := l.pay("B1", 4500, pay.Outpatient)
	l.admin("/his/faults", fmt.Sprintf(`{"do":"HTTP_500","api":"payments/acknowledge","hospital":"H1","order_no":%q,"times":99}`, p.GetOrderNo()))
	l.after(5 * time.Second)
	l.morning(20260916)
	of := func(name string, role auth.Role) reconv1connect.ReconServiceClient {
		return reconv1connect.NewReconServiceClient(h.door.Client(), h.door.URL, bearer(newKey(t, l.Server, name, role)))
	}
	maker, checker := of("吴会计", auth.Accountant), of("郑主管", auth.FinanceHead)
	cases, err := maker.ListCases(ctx, &reconv1.ListCasesRequest{Day: "2026-09-15"})
	if err != nil || len(cases.GetCases()) != 1 || cases.GetCases()[0].GetItem().GetCode() != "I1" {
		t.Fatal(cases, err)
	}
	silence := func() {
		l.admin("/his/faults", fmt.Sprintf(`{"do":"DROP","api":"bills/order","hospital":"H1","order_no":%q}`, p.GetOrderNo()))
	}
	propose := &reconv1.ProposeResolutionRequest{IdempotencyKey: "p", CaseId: cases.GetCases()[0].GetId(), Resolution: "REFUND", Reason: "患者未就诊"}
	silence()
	_, err = maker.ProposeResolution(ctx, propose)
	denied(t, err, connect.CodeUnavailable, "HIS_SILENT", "HIS does not say whether it has booked the payment "+p.GetOrderNo())
	if next := refusalOf(t, err).GetNext(); next != "nothing is decided: ask again when HIS answers" {
		t.Errorf("what to do next: %q", next)
	}
	first, err := maker.ProposeResolution(ctx, propose)
	if err != nil || first.GetFile().GetCase().GetState() != "PROPOSED" {
		t.Fatal(first, err)
	}
	approve := &reconv1.ApproveResolutionRequest{IdempotencyKey: "a", CaseId: propose.GetCaseId()}
	silence()
	_, err = checker.ApproveResolution(ctx, approve)
	denied(t, err, connect.CodeUnavailable, "HIS_SILENT", "nothing is decided")
	done, err := checker.ApproveResolution(ctx, approve)
	if err != nil || done.GetFile().GetCase().GetState() != "APPROVED" {
		t.Fatal(done, err)
	}
	var log []string
	for _, line := range done.GetFile().GetLog() {
		log = append(log, line.GetAct())
	}
	if got, want := strings.Join(log, " "), "opened his propose his approve refund"; got != want {
		t.Errorf("the log is %q, want %q", got, want)
	}
	silence() // what was answered needs HIS no more
	if again, err := checker.ApproveResolution(ctx, approve); err != nil || !proto.Equal(again, done) {
		t.Errorf("again: %v, %v", again, err)
	}
	l.holds("owed once", map[string]int64{"2204.H1": 0, "2205.WX.1900000101": 4500})
}
