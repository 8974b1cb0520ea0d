package pay

import "github.com/clearward/clearward/channels"

// BizType is what a bill is for.
type BizType string

// The businesses.
const (
	Registration BizType = "REGISTRATION"      // 挂号
	Outpatient   BizType = "OUTPATIENT"        // 门诊缴费
	Deposit      BizType = "INPATIENT_DEPOSIT" // 住院预交
	Discharge    BizType = "DISCHARGE"         // 出院结算
	Checkup      BizType = "CHECKUP"           // 体检
	CardTopUp    BizType = "CARD_TOPUP"        // 就诊卡充值: private hospitals only (L9)
)

// Actor is who does a step.
type Actor string

// The actors. ByHISCalls is the app or the platform, as the hospital's his_calls says (B23).
const (
	ByApp      Actor = "APP"
	ByPlatform Actor = "PLATFORM"
	ByHISCalls Actor = "HIS_CALLS"
)

// Operation is one step of a business: who does it, and what follows where it fails.
type Operation struct {
	Step    string
	Who     Actor
	OnFault string
}

// The steps after which money has moved are the same for every business: the
// channel first, then HIS takes the number (B02); HIS cancels first, then the
// refund (B03). What comes before differs.
var moneySteps = []Operation{
	{"PAY", ByPlatform, "FAILED or CLOSED: nothing was taken, a new payment may be made; UNKNOWN: query, reverse, never charge again"},
	{"TELL_APP", ByPlatform, "the app is told again by plan; it may ask"},
	{"HIS_ACKNOWLEDGE", ByHISCalls, "WAIT: told again by plan, never lost; REFUSED: a refund is offered and needs two people"},
	{"HIS_CANCEL", ByHISCalls, "refused: no refund leaves; no answer: asked again with the same key"},
	{"REFUND", ByPlatform, "OWED: sent again under the same number; CLOSED: a new number pays the same debt"},
	{"HIS_WRITE_BACK", ByHISCalls, "told again by plan; the next reconciliation shows one case (I7)"},
}

func steps(before ...Operation) []Operation { return append(before, moneySteps...) }

// operations is the order of operations per business (B22).
var operations = map[BizType][]Operation{
	Registration: steps(Operation{"HIS_HOLD_NUMBER", ByApp, "no number: no payment is made"}),
	Outpatient: steps(Operation{"HIS_PRE_SETTLE", ByApp, "预结算 refused: no payment is made"},
		Operation{"HIS_LOCK_BILL", ByApp, "锁单 refused: the bill is being settled elsewhere"}),
	Deposit:   steps(Operation{"HIS_ADMISSION", ByApp, "no admission: no deposit is taken"}),
	Discharge: steps(Operation{"HIS_SETTLE_STAY", ByApp, "the stay cannot be settled: deposits stay"}),
	Checkup:   steps(),
	CardTopUp: steps(),
}

// Operations is the order of operations of a business, for people to read; nil
// where the business is not known.
func Operations(biz BizType) []Operation { return operations[biz] }

// subjects is what a payer reads, by business.
var subjects = map[BizType]channels.Subject{
	Registration: channels.SubjectRegistration, Outpatient: channels.SubjectOutpatient, Deposit: channels.SubjectDeposit,
	Discharge: channels.SubjectDischarge, Checkup: channels.SubjectCheckup, CardTopUp: channels.SubjectOther,
}
