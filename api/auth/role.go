package auth

import (
	"errors"
	"fmt"
	"slices"
)

// Role is a post in the hospital or at the platform. A key has exactly one; a
// person who holds several posts has several keys, if the posts may meet.
type Role string

// The roles (spec/reconciliation.md 2.8).
const (
	Accountant  Role = "ACCOUNTANT"   // 对账会计, the maker: proposes
	FinanceHead Role = "FINANCE_HEAD" // 财务主管, the checker: approves
	Cashier     Role = "CASHIER"      // 收费员
	Treasurer   Role = "TREASURER"    // 出纳: pays out
	Insurance   Role = "INSURANCE"    // 医保办
	IT          Role = "IT"           // 信息科
	Operator    Role = "OPERATOR"     // 平台运营
	Supplier    Role = "SUPPLIER"     // 软件供应商: no action on money
	Auditor     Role = "AUDITOR"      // 审计: reads everything, changes nothing
	Admin       Role = "ADMIN"        // 系统管理员: keys, no action on money
	Service     Role = "SERVICE"      // a program: business app, HIS agent, job
)

// Roles are all of them, in the order in which people are told of them.
var Roles = []Role{Accountant, FinanceHead, Cashier, Treasurer, Insurance, IT, Operator, Supplier, Auditor, Admin, Service}

// Action is one thing that a caller may be allowed to do.
type Action string

// The actions.
const (
	CaseRead     Action = "case.read"
	CaseNote     Action = "case.note"
	CaseAssign   Action = "case.assign"
	CasePropose  Action = "case.propose"
	CaseApprove  Action = "case.approve"
	CaseReject   Action = "case.reject"
	FeedWrite    Action = "feed.write"   // files of HIS, channels and banks; replay of dead letters
	ImportWrite  Action = "import.write" // a business app's historical payments
	ReconRun     Action = "recon.run"
	AuditRead    Action = "audit.read" // balances, statements, evidence, verify
	SetupWrite   Action = "setup.write"
	HospitalRead Action = "hospital.read" // what is set up, without secrets
	KeyNew       Action = "key.new"       // making and revoking keys
	JobRead      Action = "job.read"
	JobManage    Action = "job.manage" // pausing, resuming and running jobs again
	DailyRead    Action = "daily.read" // the standard bill files of hospitals
	CashWrite    Action = "cash.write" // what a window did with cash

	PaymentWrite  Action = "payment.write" // by the apps of a hospital
	RefundRead    Action = "refund.read"
	RefundDecide  Action = "refund.decide" // the second person, who was not the maker
	RefundApply   Action = "refund.apply"  // for an abnormal refund, whose money then leaves as a payout (J39)
	PayoutRead    Action = "payout.read"
	PayoutQuery   Action = "payout.query" // asks the bank; it moves nothing
	PayoutRequest Action = "payout.request"
	PayoutApprove Action = "payout.approve"
	PayoutRefuse  Action = "payout.refuse" // a checker says no, or the maker takes it back
	PayoutPause   Action = "payout.pause"  // one press stops all
	PayoutResume  Action = "payout.resume" // takes two
	PayeePropose  Action = "payee.propose"
	PayeeApprove  Action = "payee.approve" // and refuse

	APIRead Action = "api.read" // which calls there are
)

// decisions take a person, whatever role a program's row would carry.
var decisions = []Action{CaseApprove, CaseReject, PayoutApprove, PayoutRefuse, PayoutResume, PayeeApprove, RefundDecide}

// allowed is the whole of what anybody may do: what is not here is denied.
var allowed = map[Role][]Action{
	Accountant:  {HospitalRead, RefundRead, PayoutRead, CaseRead, CaseNote, CaseAssign, CasePropose, ReconRun, AuditRead, JobRead, DailyRead, APIRead},
	FinanceHead: {HospitalRead, RefundRead, RefundDecide, PayoutRead, PayoutQuery, PayoutApprove, PayoutRefuse, PayoutPause, PayoutResume, PayeeApprove, CaseRead, CaseNote, CaseApprove, CaseReject, AuditRead, JobRead, DailyRead, APIRead},
	Cashier:     {CaseRead, CaseNote, CashWrite, APIRead},
	Treasurer:   {HospitalRead, RefundRead, RefundApply, PayoutRead, PayoutQuery, PayoutRequest, PayoutRefuse, PayoutPause, PayoutResume, CaseRead, APIRead},
	Insurance:   {CaseRead, CaseNote, APIRead},
	IT:          {HospitalRead, CaseRead, CaseNote, FeedWrite, JobRead, JobManage, APIRead},
	Operator:    {HospitalRead, PayoutRead, PayoutQuery, PayoutPause, PayeePropose, CaseRead, CaseNote, FeedWrite, ImportWrite, ReconRun, SetupWrite, JobRead, JobManage, DailyRead, APIRead},
	Supplier:    {},
	Auditor:     {HospitalRead, RefundRead, PayoutRead, CaseRead, AuditRead, JobRead, DailyRead, APIRead},
	Admin:       {HospitalRead, KeyNew, APIRead},
	Service:     {PaymentWrite, RefundRead, FeedWrite, ImportWrite, ReconRun, DailyRead, CashWrite, APIRead},
}

// apart are the duties that must never meet in one person
// (spec/regulation-and-volumes.md 4.2, L4).
var apart = []struct {
	one, other Role
	reason     string
}{
	{Accountant, FinanceHead, "who proposes a resolution may not approve it"},
	{Accountant, Treasurer, "who reconciles may not pay out"},
	{FinanceHead, Treasurer, "who approves a payout may not execute it"},
	{FinanceHead, Cashier, "who starts a refund may not approve it"},
	{FinanceHead, Operator, "who sets up merchant numbers, fees and accounts may not approve"},
	{Treasurer, Operator, "who maintains bank accounts may not pay out"},
}

// alone are the roles that go with no other at all.
var alone = map[Role]string{
	Supplier: "who develops the software may hold no post in production",
	Auditor:  "who audits may change nothing",
	Admin:    "who administers the system may take no action on money",
	Service:  "a program is no person",
}

// ErrNoRole is wrapped where a key is asked for without a role, or with one that
// does not exist.
var ErrNoRole = errors.New("a key needs a role")

// ErrForbiddenPair is wrapped where a person would hold two posts that must not
// meet.
var ErrForbiddenPair = errors.New("these two roles must not meet in one person")

// ErrDenied is wrapped by every refusal of Allow.
var ErrDenied = errors.New("not allowed")

// Allow says whether the caller may do this. Everything that the table does not
// name is denied, an action nobody has heard of too.
func Allow(p Principal, action Action) error {
	if p.Kind != Person && slices.Contains(decisions, action) {
		return fmt.Errorf("%w: %s: a program cannot approve or reject, that takes a person", ErrDenied, action)
	}
	if !slices.Contains(allowed[p.Role], action) {
		return fmt.Errorf("%w: %s may not %s as %s", ErrDenied, p.Name, action, p.Role)
	}
	return nil
}

// meet says why one person may not hold both roles, or nil.
func meet(a, b Role) error {
	if a == b {
		return nil
	}
	for _, role := range []Role{a, b} {
		if reason, ok := alone[role]; ok {
			return fmt.Errorf("%w: %s and %s: %s", ErrForbiddenPair, a, b, reason)
		}
	}
	for _, pair := range apart {
		if pair.one == a && pair.other == b || pair.one == b && pair.other == a {
			return fmt.Errorf("%w: %s and %s: %s", ErrForbiddenPair, a, b, pair.reason)
		}
	}
	return nil
}
