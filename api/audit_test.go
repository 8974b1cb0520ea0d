package api

import (
	"crypto/rand"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/jobs"
	auditv1 "github.com/clearward/clearward/proto/clearward/audit/v1"
	"github.com/clearward/clearward/proto/clearward/audit/v1/auditv1connect"
	hospitalv1 "github.com/clearward/clearward/proto/clearward/hospital/v1"
	"github.com/clearward/clearward/proto/clearward/hospital/v1/hospitalv1connect"
	jobsv1 "github.com/clearward/clearward/proto/clearward/jobs/v1"
	"github.com/clearward/clearward/proto/clearward/jobs/v1/jobsv1connect"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// Whatever a person decided or managed is found again, by whom and when.
func TestWhoDidWhatIsFoundAgain(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	part, err := w.refund.CreateRefund(ctx, w.back(w.paid("B1", 9000).GetOrderNo(), 4000))
	if err != nil {
		t.Fatal(err)
	}
	no := part.GetRefund().GetRefundNo()
	if _, err := w.head.DecideRefund(ctx, &payv1.DecideRefundRequest{IdempotencyKey: rand.Text(), Hospital: "H1", RefundNo: no, Reason: "项目已执行"}); err != nil {
		t.Fatal(err)
	}
	if _, err := jobs.Open(ctx, w.DB, noon, w.log, w.schedule()...); err != nil {
		t.Fatal(err)
	}
	operator := newKey(t, w.Server, "孙运营", auth.Operator)
	if _, err := jobsv1connect.NewJobServiceClient(http.DefaultClient, w.url, bearer(operator)).PauseJob(ctx, &jobsv1.PauseJobRequest{IdempotencyKey: rand.Text(), Name: "poll"}); err != nil {
		t.Fatal(err)
	}
	if err := w.RevokeKey(ctx, mustSigner(t, operator).ID()); err != nil {
		t.Fatal(err)
	}
	audit := auditv1connect.NewAuditServiceClient(http.DefaultClient, w.url, bearer(newKey(t, w.Server, "赵审计", auth.Auditor)))
	list, err := audit.ListActs(ctx, &auditv1.ListActsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, a := range list.GetActs() {
		found = append(found, a.GetWho()+" "+a.GetAct()+" "+a.GetSubject())
	}
	text := strings.Join(found, "\n")
	for _, want := range []string{"收费员1 refund.ask " + no, "李主管 refund.decided " + no, "孙运营 job.pause poll", atTerminal() + " key.new key_",
		atTerminal() + " key.revoke " + mustSigner(t, operator).ID()} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not found in:\n%s", want, text)
		}
	}
	if who := atTerminal(); !strings.HasPrefix(who, "cli:") || len(who) < 5 {
		t.Errorf("who works at the command line is %q", who)
	}
	one, err := audit.ListActs(ctx, &auditv1.ListActsRequest{Who: "李主管"})
	if err != nil || len(one.GetActs()) != 1 || !strings.Contains(one.GetActs()[0].GetDetail(), "项目已执行") {
		t.Errorf("%v, %v", one, err)
	}
	_, err = audit.ListActs(ctx, &auditv1.ListActsRequest{FromDay: "2026-01-01", ToDay: "2026-09-01"})
	denied(t, err, connect.CodeInvalidArgument, "FIELD", "not within 31 days")
}

// A setup over the API is the same as by the command: whole or not at all, and kept
// with the name of who brought it. No secret is shown, nor where one is.
func TestHospitalsAreShownAndSetUpOverTheAPI(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	operator := newKey(t, w.Server, "孙运营", auth.Operator)
	desk := hospitalv1connect.NewHospitalServiceClient(http.DefaultClient, w.url, bearer(operator))
	for i, want := range []int32{0, 1} {
		done, err := desk.SetUp(ctx, &hospitalv1.SetUpRequest{IdempotencyKey: rand.Text(), File: privateHospital})
		if err != nil || (done.GetChanged() == 0) != (want == 1) || done.GetHospitals() != 1 {
			t.Errorf("setup %d: %v, %v", i, done, err)
		}
	}
	_, err := desk.SetUp(ctx, &hospitalv1.SetUpRequest{IdempotencyKey: rand.Text(), File: strings.NewReplacer("PRIVATE", "PUBLIC", "H2", "H3").Replace(privateHospital)})
	denied(t, err, connect.CodeInvalidArgument, "SETUP", "hospital H3 is public")
	all, err := desk.ListHospitals(ctx, &hospitalv1.ListHospitalsRequest{})
	if err != nil || len(all.GetHospitals()) != 2 || all.GetHospitals()[0].GetMerchants()[0].GetEnvironment() != "SANDBOX" ||
		all.GetHospitals()[0].GetRefundPolicies()[0].GetCashierLimitFen() != 100000 || all.GetHospitals()[1].GetMerchants()[0].GetSettleMode() != "B" {
		t.Errorf("%v, %v", all, err)
	}
	if strings.Contains(all.String(), "file:") {
		t.Error("a reference to a secret is shown")
	}
	_, err = desk.ListHospitals(ctx, &hospitalv1.ListHospitalsRequest{Hospital: "H9"})
	denied(t, err, connect.CodeNotFound, "HOSPITAL_UNKNOWN", "H9")
	if apps, err := desk.ListApps(ctx, &hospitalv1.ListAppsRequest{}); err != nil || len(apps.GetApps()) != 1 || apps.GetApps()[0].GetName() != "HTAPP" {
		t.Errorf("%v, %v", apps, err)
	}
	accountant := newKey(t, w.Server, "张会计", auth.Accountant)
	_, err = hospitalv1connect.NewHospitalServiceClient(http.DefaultClient, w.url, bearer(accountant)).SetUp(ctx, &hospitalv1.SetUpRequest{IdempotencyKey: rand.Text(), File: privateHospital})
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", "setup.write")
	acts, err := w.Acts(ctx, 20260916, 20260916, "孙运营")
	if err != nil || len(acts) != 3 {
		t.Errorf("%v, %v", acts, err)
	}
}
