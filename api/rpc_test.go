package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/api/sdk"
	auditv1 "github.com/clearward/clearward/proto/clearward/audit/v1"
	errorv1 "github.com/clearward/clearward/proto/clearward/error/v1"
	hospitalv1 "github.com/clearward/clearward/proto/clearward/hospital/v1"
	jobsv1 "github.com/clearward/clearward/proto/clearward/jobs/v1"
	"github.com/clearward/clearward/proto/clearward/jobs/v1/jobsv1connect"
	ledgerv1 "github.com/clearward/clearward/proto/clearward/ledger/v1"
	"github.com/clearward/clearward/proto/clearward/ledger/v1/ledgerv1connect"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
	reconv1 "github.com/clearward/clearward/proto/clearward/recon/v1"
	"github.com/clearward/clearward/proto/clearward/recon/v1/reconv1connect"
)

// served is the program behind HTTP, for as long as the test runs.
func served(t *testing.T, s *Server) *httptest.Server {
	t.Helper()
	h := httptest.NewUnstartedServer(s.doors())
	h.Config.Protocols = new(http.Protocols)
	h.Config.Protocols.SetHTTP1(true)
	h.Config.Protocols.SetUnencryptedHTTP2(true)
	h.Start()
	t.Cleanup(h.Close)
	return h
}

// bearer sends a key with every call.
func bearer(key string) connect.ClientOption {
	return connect.WithInterceptors(withKey(key))
}

type withKey string

func (k withKey) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		r.Header().Set("Authorization", "Bearer "+string(k))
		return next(ctx, r)
	}
}

func (k withKey) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(k))
		return conn
	}
}

func (k withKey) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// denied checks the code of an error, its detail and what it tells a person.
func denied(t *testing.T, err error, code connect.Code, name, says string) {
	t.Helper()
	var told *connect.Error
	if !errors.As(err, &told) || told.Code() != code || !strings.Contains(told.Message(), says) {
		t.Errorf("got %v, want %v saying %q", err, code, says)
		return
	}
	detail := refusalOf(t, err)
	if detail.GetCode() != name {
		t.Errorf("%v carries the detail %q, not %s", err, detail.GetCode(), name)
	}
	if code == connect.CodeInvalidArgument && detail.GetField() == "" {
		t.Errorf("%v does not name the field", err)
	}
}

// refusalOf is the detail of an error, nil for none.
func refusalOf(t *testing.T, err error) *errorv1.Refusal {
	t.Helper()
	var told *connect.Error
	if !errors.As(err, &told) {
		t.Fatalf("not refused: %v", err)
	}
	for _, d := range told.Details() {
		if message, err := d.Value(); err == nil {
			if r, ok := message.(*errorv1.Refusal); ok {
				return r
			}
		}
	}
	return nil
}

// everyProcedure lists the calls of all services.
func everyProcedure() (all []string) {
	for _, file := range []protoreflect.FileDescriptor{
		ledgerv1.File_clearward_ledger_v1_ledger_proto, reconv1.File_clearward_recon_v1_recon_proto, jobsv1.File_clearward_jobs_v1_jobs_proto,
		payv1.File_clearward_pay_v1_pay_proto, hospitalv1.File_clearward_hospital_v1_hospital_proto, auditv1.File_clearward_audit_v1_audit_proto, payoutv1.File_clearward_payout_v1_payout_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				all = append(all, "/"+string(service.FullName())+"/"+string(service.Methods().Get(j).Name()))
			}
		}
	}
	return all
}

func TestEveryCallIsClosedToWhoeverMayNot(t *testing.T) {
	s := open(t, folder(t))
	h := served(t, s)
	supplier := newKey(t, s, "软件供应商", auth.Supplier)
	all := everyProcedure()
	if len(all)+4 != len(procedures) || // with the two of reflection, the description and the metrics
		len(all) < 15 {
		t.Errorf("%d calls, %d of them have a row in the table of rights", len(all), len(procedures))
	}
	for _, procedure := range all {
		for key, want := range map[string]int{"": http.StatusUnauthorized, "Bearer ck_nobody": http.StatusUnauthorized, "Bearer " + supplier: http.StatusForbidden} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL+procedure, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			if key != "" {
				request.Header.Set("Authorization", key)
			}
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			streaming := strings.Contains(procedure, "Download") // it answers 415 to a plain body
			if err != nil || answer.StatusCode != want && !(streaming && answer.StatusCode == http.StatusUnsupportedMediaType) {
				t.Errorf("%s with %q: %d %s %v", procedure, key, answer.StatusCode, body, err)
			}
		}
	}
	who := arrival{Principal: auth.Principal{Name: "周审计", Kind: auth.Person, Role: auth.Auditor}}
	if err := (doorkeeper{s}).enter(context.WithValue(t.Context(), principalKey{}, who), "/clearward.ledger.v1.LedgerService/DropEverything"); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("a call without a row in the table: %v", err)
	}
}

func TestTheBooksAreAuditedOverTheAPI(t *testing.T) {
	s := open(t, folder(t))
	takenSample(t, s)
	h := served(t, s)
	key := newKey(t, s, "周审计", auth.Auditor)
	for name, option := range map[string]connect.ClientOption{"Connect": connect.WithProtoJSON(), "gRPC-Web": connect.WithGRPCWeb()} {
		client := ledgerv1connect.NewLedgerServiceClient(h.Client(), h.URL, option, bearer(key))
		all, err := client.ListBalances(t.Context(), &ledgerv1.ListBalancesRequest{})
		if err != nil {
			t.Fatal(name, err)
		}
		if all.GetDebitsFen() != 154376 || all.GetCreditsFen() != 154376 { // accounting.md 3.7
			t.Errorf("%s: the trial balance is %d and %d", name, all.GetDebitsFen(), all.GetCreditsFen())
		}
		one, err := client.GetBalance(t.Context(), &ledgerv1.GetBalanceRequest{Account: "2204.H1"})
		if err != nil || one.GetBalance().GetBalanceFen() != 11141 || one.GetBalance().GetNormalSide() != "CREDIT" {
			t.Errorf("%s: 2204.H1 is %v, %v", name, one, err)
		}
	}
	client := ledgerv1connect.NewLedgerServiceClient(h.Client(), h.URL, bearer(key))
	lines, err := client.ListLines(t.Context(), &ledgerv1.ListLinesRequest{Account: "2241.H1", FromDay: "2026-09-01", ToDay: "2026-09-30"})
	if err != nil || len(lines.GetLines()) == 0 || lines.GetLines()[len(lines.GetLines())-1].GetBalanceFen() != 610 {
		t.Errorf("lines of 2241.H1: %v, %v", lines, err)
	}
	sound, err := client.Verify(t.Context(), &ledgerv1.VerifyRequest{})
	if err != nil || len(sound.GetFindings()) > 0 {
		t.Error(sound, err)
	}
	_, err = client.GetBalance(t.Context(), &ledgerv1.GetBalanceRequest{Account: "2204.H9"})
	denied(t, err, connect.CodeNotFound, "ACCOUNT_UNKNOWN", "2204.H9")
	_, err = client.ListLines(t.Context(), &ledgerv1.ListLinesRequest{Account: "2204.H1", FromDay: "15.9.2026", ToDay: "2026-09-30"})
	denied(t, err, connect.CodeInvalidArgument, "FIELD", "from_day")
}

func TestACaseIsWorkedOnOverTheAPIByTwoPeople(t *testing.T) {
	s := open(t, folder(t))
	takenSample(t, s)
	h := served(t, s)
	of := func(name string, role auth.Role) reconv1connect.ReconServiceClient {
		return reconv1connect.NewReconServiceClient(h.Client(), h.URL, bearer(newKey(t, s, name, role)))
	}
	maker, checker := of("王会计", auth.Accountant), of("李主管", auth.FinanceHead)
	cases, err := maker.ListCases(t.Context(), &reconv1.ListCasesRequest{Day: "2026-09-15"})
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(cases.GetCases(), func(c *reconv1.Case) bool { return c.GetItem().GetCode() == "F1" })
	if at < 0 {
		t.Fatal("the sample day has an F1")
	}
	id := cases.GetCases()[at].GetId()
	proposal := &reconv1.ProposeResolutionRequest{IdempotencyKey: rand.Text(), CaseId: id, Resolution: "REFUND", Reason: "HIS 无单，患者申请"}
	_, err = checker.ProposeResolution(t.Context(), proposal)
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", "case.propose")
	for range 2 { // the same word again is the same word
		proposal.IdempotencyKey = rand.Text()
		if file, err := maker.ProposeResolution(t.Context(), proposal); err != nil || len(file.GetFile().GetLog()) != 2 {
			t.Fatal(file, err)
		}
	}
	proposal.IdempotencyKey, proposal.Reason = rand.Text(), "患者来电"
	_, err = maker.ProposeResolution(t.Context(), proposal)
	denied(t, err, connect.CodeFailedPrecondition, "CASE_STATE", "")
	approved, err := checker.ApproveResolution(t.Context(), &reconv1.ApproveResolutionRequest{IdempotencyKey: rand.Text(), CaseId: id})
	if err != nil || approved.GetFile().GetCase().GetMaker() != "王会计" || approved.GetFile().GetCase().GetChecker() != "李主管" {
		t.Errorf("%v, %v", approved, err)
	}
	_, err = checker.ApproveResolution(t.Context(), &reconv1.ApproveResolutionRequest{IdempotencyKey: rand.Text(), CaseId: "case_none"})
	denied(t, err, connect.CodeNotFound, "CASE_UNKNOWN", "case_none")
	// 18 rows and the pair that nets to zero, on a list of its own.
	day, err := maker.RunDay(t.Context(), &reconv1.RunDayRequest{IdempotencyKey: rand.Text(), Day: "2026-09-15"})
	if err != nil || len(day.GetDay().GetItems()) != 19 || len(day.GetDay().GetSlices()) != 9 {
		t.Errorf("%v, %v", day, err)
	}
}

func TestTheDailyFileIsDownloadedWithItsChecksum(t *testing.T) {
	s := open(t, folder(t))
	takenSample(t, s)
	h := served(t, s)
	clerk := reconv1connect.NewReconServiceClient(h.Client(), h.URL, bearer(newKey(t, s, "张会计", auth.Accountant)))
	stranger := reconv1connect.NewReconServiceClient(signing(t, newKey(t, s, "海天 APP", auth.Service), noon), h.URL)
	read := func(client reconv1connect.ReconServiceClient, hospital string) (string, error) {
		stream, err := client.DownloadDaily(t.Context(), &reconv1.DownloadDailyRequest{Hospital: hospital, Day: "2026-09-15"})
		if err != nil {
			return "", err
		}
		var file bytes.Buffer
		for stream.Receive() {
			file.Write(stream.Msg().GetChunk())
		}
		return file.String(), errors.Join(stream.Err(), stream.Close())
	}
	text, err := read(clerk, "H1")
	if err != nil {
		t.Fatal(err)
	}
	body, hash, _ := strings.Cut(text, "#SHA256,")
	if want := sha256.Sum256([]byte(body)); strings.TrimSpace(hash) != hex.EncodeToString(want[:]) || strings.Count(body, "\n") != 50+5 {
		t.Errorf("the file:\n%s", text)
	}
	_, err = read(clerk, "H9")
	denied(t, err, connect.CodeNotFound, "HOSPITAL_UNKNOWN", "H9")
	_, err = read(stranger, "H1")
	denied(t, err, connect.CodePermissionDenied, "NOT_ALLOWED", `may not act for hospital "H1"`)
}

func TestJobsAreManagedOverTheAPI(t *testing.T) {
	s := open(t, folder(t))
	if _, err := jobs.Open(t.Context(), s.DB, noon, s.log, s.schedule()...); err != nil {
		t.Fatal(err)
	}
	h := served(t, s)
	client := jobsv1connect.NewJobServiceClient(h.Client(), h.URL, bearer(newKey(t, s, "赵运营", auth.Operator)))
	if _, err := client.PauseJob(t.Context(), &jobsv1.PauseJobRequest{IdempotencyKey: rand.Text(), Name: "recon"}); err != nil {
		t.Fatal(err)
	}
	all, err := client.ListJobs(t.Context(), &jobsv1.ListJobsRequest{})
	if err != nil || len(all.GetJobs()) != len(s.schedule()) || !slices.ContainsFunc(all.GetJobs(), func(j *jobsv1.Job) bool { return j.GetName() == "recon" && j.GetPausedBy() == "赵运营" }) {
		t.Errorf("%v, %v", all, err)
	}
	_, err = client.RunJob(t.Context(), &jobsv1.RunJobRequest{IdempotencyKey: rand.Text(), Name: "gone"})
	denied(t, err, connect.CodeNotFound, "JOB_UNKNOWN", "gone")
}

// signing is an HTTP client that signs with the key.
func signing(t *testing.T, key string, now func() time.Time) *http.Client {
	t.Helper()
	client, err := sdk.Client(key, now)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestAProgramSignsAndNobodyElseCanSignForIt(t *testing.T) {
	s := open(t, folder(t))
	h := served(t, s)
	key := newKey(t, s, "海天 APP", auth.Service)
	run := func(client connect.HTTPClient, options ...connect.ClientOption) error {
		_, err := reconv1connect.NewReconServiceClient(client, h.URL, options...).RunDay(t.Context(), &reconv1.RunDayRequest{IdempotencyKey: rand.Text(), Day: "2026-09-15"})
		return err
	}
	for _, option := range []connect.ClientOption{connect.WithProtoJSON(), connect.WithGRPCWeb()} {
		if err := run(signing(t, key, noon), option); err != nil {
			t.Errorf("signed: %v", err)
		}
	}
	denied(t, run(h.Client(), bearer(key)), connect.CodeUnauthenticated, "MUST_SIGN", "海天 APP")
	late := func() time.Time { return noon().Add(7 * time.Minute) }
	denied(t, run(signing(t, key, late)), connect.CodeUnauthenticated, "CLOCK", "2026-09-16T04:07:00Z")
	if err := run(signing(t, key, func() time.Time { return noon().Add(-4 * time.Minute) })); err != nil {
		t.Errorf("four minutes off: %v", err)
	}
	changed := &http.Client{Transport: altering{mustSigner(t, key)}}
	denied(t, run(changed, connect.WithProtoJSON()), connect.CodeUnauthenticated, "SIGNATURE", "not that of key_")
	_, err := sdk.NewSigner("ck_short")
	if !errors.Is(err, sdk.ErrKey) {
		t.Errorf("a text that is no key: %v", err)
	}
	if err := s.RevokeKey(t.Context(), mustSigner(t, key).ID()); err != nil {
		t.Fatal(err)
	}
	for ticker := time.NewTicker(20 * time.Millisecond); ; <-ticker.C { // at the latest when what is remembered has aged
		if err := run(signing(t, key, noon)); err != nil {
			ticker.Stop()
			denied(t, err, connect.CodeUnauthenticated, "KEY_REVOKED", "海天 APP")
			return
		}
	}
}

func mustSigner(t *testing.T, key string) *sdk.Signer {
	t.Helper()
	signer, err := sdk.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// altering sends another body than the one that was signed.
type altering struct{ signer *sdk.Signer }

// RoundTrip implements http.RoundTripper.
func (a altering) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", a.signer.Sign(r.Method, r.URL.RequestURI(), body, noon()))
	r.Body = io.NopCloser(strings.NewReader(strings.Replace(string(body), "2026-09-15", "2026-09-16", 1)))
	return http.DefaultTransport.RoundTrip(r)
}

func TestACallIsMadeByHand(t *testing.T) {
	s := open(t, folder(t))
	takenSample(t, s)
	h := served(t, s)
	key := newKey(t, s, "周审计", auth.Auditor)
	var out bytes.Buffer
	if err := Call(t.Context(), h.URL, key, "clearward.ledger.v1.LedgerService/GetBalance", `{"account":"2204.H1"}`, noon, &out); err != nil || !strings.Contains(out.String(), `"balanceFen": "11141"`) {
		t.Errorf("%v\n%s", err, out.String())
	}
	for request, says := range map[string]string{`{"account":"2204.H9"}`: `not_found: there is no such account: account: "2204.H9"`, `{"account":}`: "no JSON"} {
		if err := Call(t.Context(), h.URL, key, "clearward.ledger.v1.LedgerService/GetBalance", request, noon, &out); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", request, err, says)
		}
	}
	if err := Call(t.Context(), h.URL, key, "clearward.ledger.v1.LedgerService/Nothing", "{}", noon, &out); !errors.Is(err, ErrCall) {
		t.Errorf("a call that there is not: %v", err)
	}
}

// A program without a generated client calls with plain JSON.
func TestPlainJSONIsEnough(t *testing.T) {
	s := open(t, folder(t))
	takenSample(t, s)
	h := served(t, s)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL+"/clearward.ledger.v1.LedgerService/GetBalance", strings.NewReader(`{"account":"2204.H1"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+newKey(t, s, "周审计", auth.Auditor))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var got struct {
		Balance struct{ Account, BalanceFen string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil || got.Balance.BalanceFen != "11141" {
		t.Errorf("%d %+v %v", answer.StatusCode, got, err)
	}
}
