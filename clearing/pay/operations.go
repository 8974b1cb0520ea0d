package pay

import (
	"cmp"
	"maps"
	"slices"

	"github.com/clearward/clearward/channels"
)

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

// Step is a step of a business.
type Step string

// The steps whose order is held here. Those before the payment are the app's.
const (
	StepPay         Step = "PAY"
	StepAcknowledge Step = "HIS_ACKNOWLEDGE"
	StepCancel      Step = "HIS_CANCEL"
	StepRefund      Step = "REFUND"
)

// Operation is one step of a business: who does it, and what follows where it fails.
type Operation struct {
	Step    Step
	Who     Actor
	OnFault string
}

// The steps after which money has moved are the same for every business: the
// channel first, then HIS takes the number (B02); HIS cancels first, then the
// refund (B03). What comes before differs.
var moneySteps = []Operation{
	{StepPay, ByPlatform, "FAILED or CLOSED: nothing was taken, a new payment may be made; UNKNOWN: query, reverse, never charge again"},
	{"TELL_APP", ByPlatform, "the app is told again by plan; it may ask"},
	{StepAcknowledge, ByHISCalls, "WAIT: told again by plan, never lost; REFUSED: a refund is offered and needs two people"},
	{StepCancel, ByHISCalls, "refused: no refund leaves; no answer: asked again with the same key"},
	{StepRefund, ByPlatform, "OWED: sent again under the same number; CLOSED: a new number pays the same debt"},
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

// Businesses are those with an order of operations.
func Businesses() []BizType { return slices.Sorted(maps.Keys(operations)) }

// Operations is the order of operations of a business, as calls says who calls the
// HIS of the hospital (APP or PLATFORM); nil where the business is not known.
func Operations(biz BizType, calls Actor) []Operation {
	list := slices.Clone(operations[biz])
	for i := range list {
		if list[i].Who == ByHISCalls {
			list[i].Who = calls
		}
	}
	return list
}

// turn refuses a step before its turn (B22): a step that stands before it in the
// business's order and is not done. What done does not name is not ours to wait for.
func (p *Payment) turn(step Step, done map[Step]bool) error {
	order := operations[BizType(p.BizType)]
	if order == nil {
		order = moneySteps
	}
	for _, op := range order {
		if op.Step == step {
			break
		}
		if finished, ours := done[op.Step]; ours && !finished {
			return ErrOrderOfSteps.Because("step", "payment %s is %s, to HIS %s: %s comes after %s, which is not done (B22): %s",
				p.OrderNo, p.Status, cmp.Or(p.HIS, "NONE"), step, op.Step, op.OnFault)
		}
	}
	return nil
}

// subjects is what a payer reads, by business.
var subjects = map[BizType]channels.Subject{
	Registration: channels.SubjectRegistration, Outpatient: channels.SubjectOutpatient, Deposit: channels.SubjectDeposit,
	Discharge: channels.SubjectDischarge, Checkup: channels.SubjectCheckup, CardTopUp: channels.SubjectOther,
}
