package payout_test

import (
	"strings"
	"testing"

	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/ledger"
)

// edit changes a row as a hand in the database would.
func (h *house) edit(sql string, args ...any) {
	h.t.Helper()
	if _, err := h.DB.Pool.Exec(h.t.Context(), sql, args...); err != nil {
		h.t.Fatal(err)
	}
}

// K01, U17, U22, prohibitions 1, 5, 6; each refusal with its message, and nothing
// is stored or posted.
func TestWhatMayNotBeAskedForIsRefusedWithTheRule(t *testing.T) {
	h := open(t)
	with := func(name string, change func(*payout.Request)) payout.Request {
		r := requests[name]
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		r    payout.Request
		want error
		says string
	}{
		"mode A": {with("SUBSIDY", func(r *payout.Request) { r.Kind, r.Subject, r.Contract = payout.Hospital, "", "" }), payout.ErrForbidden,
			"hospital H1 is public: settle mode B, and with it a hospital payout, is refused"},
		"subsidy in mode B":     {with("SUBSIDY", func(r *payout.Request) { r.Hospital = "H2" }), payout.ErrForbidden, "a SUBSIDY payout is not of settle mode B"},
		"top-up in mode A":      {with("FEE_TOPUP", func(r *payout.Request) { r.Hospital = "H1" }), payout.ErrForbidden, "a FEE_TOPUP payout is not of settle mode A"},
		"no contract":           {with("SUBSIDY", func(r *payout.Request) { r.Contract = "" }), payout.ErrRequest, "names its contract"},
		"more than 2242 owes":   {with("SUBSIDY", func(r *payout.Request) { r.Amount = 601 }), payout.ErrOwed, "2242.H1 owes 6.00 for S1, 6.01 is asked"},
		"unknown settlement":    {with("SUBSIDY", func(r *payout.Request) { r.Subject = "S9" }), payout.ErrOwed, "owes 0.00 for S9"},
		"other purpose":         {with("REROUTED_REFUND A", func(r *payout.Request) { r.Purpose = "个人提现" }), payout.ErrForbidden, `"个人提现" is no purpose of a REROUTED_REFUND payout`},
		"no proof":              {with("REROUTED_REFUND A", func(r *payout.Request) { r.Patient = &payout.Patient{Name: "钱", Account: "1", Reason: "x"} }), payout.ErrRequest, "the reason and the proof"},
		"patient of a hospital": {with("HOSPITAL", func(r *payout.Request) { r.Patient = patient }), payout.ErrRequest, "goes to the patient, and no other payout does"},
		"another's number":      {with("REROUTED_REFUND A", func(r *payout.Request) { r.MerchantNo = "W2" }), payout.ErrRequest, "WECHAT W2 is no merchant number of hospital H1"},
		"too much":              {with("HOSPITAL", func(r *payout.Request) { r.Amount = 100001 }), ledger.ErrFloor, "2202.H2.AVAIL has 1000.00 available, 1000.01 was asked"},
		"another's account":     {with("HOSPITAL", func(r *payout.Request) { r.From = "6801" }), payout.ErrRequest, `"6801" cannot pay a HOSPITAL payout of hospital H2`},
		"nothing":               {with("HOSPITAL", func(r *payout.Request) { r.Amount = 0 }), payout.ErrRequest, "must be above zero"},
		"unknown payee":         {with("HOSPITAL", func(r *payout.Request) { r.Payee = "PE1" }), payout.ErrPayee, `"PE1" is no approved HOSPITAL payee of hospital H2`},
		"custody too small":     {with("RECHARGE B", func(r *payout.Request) { r.Amount = 100001 }), payout.ErrCustody, "8801 holds 1000.00 of hospital H2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.Request(t.Context(), "api", h.key(), wang, c.r)
			h.refused(err, c.want, c.says)
		})
	}
	if n := count(h.DB, t, `SELECT count(*) FROM payouts`); n != 0 {
		t.Errorf("%d payouts are stored", n)
	}
	_, err := h.Request(t.Context(), "api", h.key(), li, requests["HOSPITAL"])
	h.refused(err, payout.ErrLimit, "李主管 as FINANCE_HEAD may not ask for payouts")
	h.verify()
}

// U22: mode A has no hospital payout, also for a private hospital.
func TestAPrivateHospitalOnModeAHasNoHospitalPayout(t *testing.T) {
	h := open(t)
	r := requests["HOSPITAL"]
	h.edit(`INSERT INTO hospitals (code, name, region, ownership, his_calls) VALUES ('H3', '私立三院', 'R1', 'PRIVATE', 'APP')`)
	r.Hospital = "H3"
	_, err := h.Request(t.Context(), "api", h.key(), wang, r)
	h.refused(err, payout.ErrForbidden, "hospital H3 is on settle mode A: the channel pays its own account, there is no hospital payout; what is approved is subsidy")
	for _, sql := range []string{
		`UPDATE payouts SET mode = 'A'`, `UPDATE payouts SET maker = checker`, `UPDATE payouts SET checker = maker`, `UPDATE payouts SET amount_fen = 0`,
		`UPDATE payouts SET state = 'SENT'`, `INSERT INTO payout_approvals (number, person, maker, role, factor, payload, day, at) SELECT number, maker, maker, 'R', 'f', payload, day, now() FROM payouts`,
	} {
		if h.keys < 100 {
			h.request(requests["HOSPITAL"])
			h.keys = 100
		}
		if _, err := h.DB.Pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "violates") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestAReplayReturnsTheFirstPayoutAndAnotherBodyIsAConflict(t *testing.T) {
	h := open(t)
	for _, name := range []string{"HOSPITAL", "REROUTED_REFUND A"} {
		r := requests[name]
		one, err := h.Request(t.Context(), "api", "k "+name, wang, r)
		if err != nil {
			t.Fatal(err)
		}
		two, err := h.Request(t.Context(), "api", "k "+name, wang, r)
		if err != nil || two.Number != one.Number {
			t.Errorf("%s, %v, want %s", two.Number, err, one.Number)
		}
		r.Amount--
		_, err = h.Request(t.Context(), "api", "k "+name, wang, r)
		h.refused(err, ledger.ErrKeyConflict, "with another")
	}
	r := requests["REROUTED_REFUND A"]
	other := *patient
	other.Account = "6222020000000002"
	r.Patient = &other
	_, err := h.Request(t.Context(), "api", "k REROUTED_REFUND A", wang, r)
	h.refused(err, ledger.ErrKeyConflict, "Mark")
	h.verify()
}

// U17: the same payee, amount and day ask for a reason; one subject is paid once.
func TestARepeatedPayoutAsksForItsReason(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	_, err := h.Request(t.Context(), "api", h.key(), wang, requests["HOSPITAL"])
	h.refused(err, payout.ErrRepeated, "payout "+p.Number+" pays the same payee the same 300.00 today")
	r := requests["HOSPITAL"]
	r.RepeatReason = "分两笔结算"
	h.request(r)
	s := h.request(requests["SUBSIDY"])
	again := requests["SUBSIDY"]
	again.RepeatReason = "x"
	_, err = h.Request(t.Context(), "api", h.key(), wang, again)
	h.refused(err, payout.ErrOwed, "payout "+s.Number+" for S1 waits already")
	h.verify()
}

// Scenario 61, K03, B21.
func TestWhatMayNotBeApprovedIsRefusedAndOnRecord(t *testing.T) {
	h := open(t)
	p := h.request(requests["HOSPITAL"])
	try := func(by payout.Person, change func(*payout.Approval)) error {
		a := approval(p)
		change(&a)
		_, err := h.Approve(t.Context(), by, a)
		return err
	}
	same := func(*payout.Approval) {}
	h.refused(try(payout.Person{Name: wang.Name, Role: "FINANCE_HEAD"}, same), payout.ErrSamePerson, "王出纳 asked for payout")
	h.refused(try(payout.Person{Name: op.Name, Role: "FINANCE_HEAD"}, same), payout.ErrSamePerson, "孙运营 proposed the account that payout")
	h.refused(try(op, same), payout.ErrSamePerson, "孙运营")
	h.refused(try(payout.Person{Name: "外人", Role: "CASHIER"}, same), payout.ErrLimit, "外人 as CASHIER may not approve payouts")
	h.refused(try(li, func(a *payout.Approval) { a.Code = "111111" }), errCode, "second factor: the code is wrong")
	h.refused(try(li, func(a *payout.Approval) { a.Sum++ }), payout.ErrTotals, "1 payouts of 300.00 (叁佰元整) are to be approved, 1 of 300.01 were read back")
	h.refused(try(li, func(a *payout.Approval) { a.Count = 2 }), payout.ErrTotals, "2 of 300.00 were read back")
	h.refused(try(li, func(a *payout.Approval) { a.Items[0].Payload = make([]byte, 32) }), payout.ErrEdited, "is not what was shown")
	h.refused(try(li, func(a *payout.Approval) { a.Items[0].Payload = nil }), payout.ErrReadBack, "says what was shown")
	h.refused(try(li, func(a *payout.Approval) { a.Items[0].Number = "HB1" }), payout.ErrUnknownPayout, "payout HB1 is not known")
	h.edit(`UPDATE payouts SET amount_fen = 20000`)
	h.refused(try(li, func(a *payout.Approval) { a.Sum = 20000 }), payout.ErrEdited, "was edited after it was asked for")
	h.edit(`UPDATE payouts SET amount_fen = 30000`)
	h.is(p.Number, payout.Requested)
	if n := count(h.DB, t, `SELECT count(*) FROM events WHERE kind = 'payout.approval_refused'`); n != 5 {
		t.Errorf("%d refusals are on record, want 5", n)
	}
	h.approve(p)
	h.approve(p) // again changes nothing
	h.refused(func() error { _, err := h.Approve(t.Context(), zhao, approval(p)); return err }(), payout.ErrState, "is approved: only a requested one is approved")
	if n := count(h.DB, t, `SELECT count(*) FROM payout_approvals WHERE factor = 'totp-李主管' AND person = '李主管'`); n != 1 {
		t.Errorf("%d approvals with their factor", n)
	}
	h.verify()
}

func TestLimitsOfARoleAndBandsOfAmounts(t *testing.T) {
	h := open(t)
	h.edit(`INSERT INTO payout_limits (role, act, from_day, each_fen, day_fen) VALUES ('FINANCE_HEAD', 'APPROVE', 20260915, 30000, 50000), ('FINANCE_HEAD', 'APPROVE', 20260916, 1, 1)`)
	h.edit(`INSERT INTO payout_bands (from_day, above_fen, checkers) VALUES (20260915, 0, 1), (20260915, 29999, 2)`)
	r := requests["HOSPITAL"]
	big := h.request(r)
	r.Amount = 20001
	small := h.request(r)
	r.Amount = 30001
	_, err := h.Approve(t.Context(), li, approval(h.request(r)))
	h.refused(err, payout.ErrLimit, "the amount is 300.01, the limit of FINANCE_HEAD is 300.00 for one payout")
	h.approve(big)
	h.is(big.Number, payout.Requested) // the second checker is missing
	_, err = h.Approve(t.Context(), li, approval(small))
	h.refused(err, payout.ErrLimit, "the day's sum of 李主管 would be 500.01, the limit of FINANCE_HEAD is 500.00 a day")
	if _, err := h.Approve(t.Context(), zhao, approval(big)); err != nil {
		t.Fatal(err)
	}
	h.is(big.Number, payout.Approved)
	h.verify()
}

// Scenario 61: a payout to an account changed less than 24 hours ago.
func TestANewAccountIsHeldForADay(t *testing.T) {
	h := open(t)
	p, q := h.request(requests["HOSPITAL"]), h.request(requests["COMPENSATION B"])
	h.approve(q)
	y, err := h.ProposePayee(t.Context(), "api", h.key(), op, payout.Payee{Hospital: "H2", UseFor: "HOSPITAL", Account: "H2-NEW", Name: "民营医院", Bank: "农业银行", CNAPS: "103100000026", Replaces: p.Payee})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.ApprovePayee(t.Context(), payout.Person{Name: op.Name, Role: "FINANCE_HEAD"}, y.ID, "000000")
	h.refused(err, payout.ErrSamePerson, "孙运营 proposed payee")
	_, err = h.ApprovePayee(t.Context(), wang, y.ID, "000000")
	h.refused(err, payout.ErrLimit, "王出纳 as TREASURER may not approve payees")
	for range 2 {
		if _, err = h.ApprovePayee(t.Context(), li, y.ID, "000000"); err != nil {
			t.Fatal(err)
		}
	}
	_, err = h.ApprovePayee(t.Context(), zhao, y.ID, "000000")
	h.refused(err, payout.ErrState, "is decided already")
	_, err = h.Approve(t.Context(), li, approval(p))
	h.refused(err, payout.ErrPayee, "account H2-OWN was changed: it is replaced; refuse this payout and ask for it again")
	_, err = h.Request(t.Context(), "api", h.key(), wang, payout.Request{Kind: payout.Hospital, Hospital: "H2", Amount: 1})
	h.refused(err, payout.ErrPayeeHeld, "account H2-NEW is new or was changed: it is held until 2026-09-16 10:00")
	h.send(0, 1)
	if got := h.is(q.Number, payout.Approved); !strings.Contains(got.Held, "account H2-OWN was changed") || !got.NextAt.IsZero() {
		t.Errorf("%+v", got)
	}
	for _, p := range []payout.Payout{p, q} {
		for range 2 { // the money goes back once
			if _, err := h.Refuse(t.Context(), li, p.Number, "账户已变更"); err != nil {
				t.Fatal(err)
			}
		}
		h.is(p.Number, payout.Refused)
	}
	if b := h.balances(); b["2202.H2.AVAIL"] != 100000 || b["2202.H2.FROZEN"] != 0 {
		t.Errorf("%v", b)
	}
	h.verify()
}

func TestOnlyThePayeesOfTheRulesAreProposed(t *testing.T) {
	h := open(t)
	for says, y := range map[string]payout.Payee{
		"a hospital is paid on an account in its own name": {Hospital: "H1", UseFor: "HOSPITAL", Account: "1", Name: "张三", Bank: "工商银行"},
		"is no bank code of 12 digits":                     {Hospital: "H1", UseFor: "HOSPITAL", Account: "1", Name: "海天示范医院", Bank: "工商银行", CNAPS: "1021"},
		"account H1-OWN is active already":                 {Hospital: "H1", UseFor: "HOSPITAL", Account: "H1-OWN", Name: "海天示范医院", Bank: "工商银行"},
		"is no custody account of hospital H1":             {Hospital: "H1", UseFor: "CUSTODY", Account: "8801", Name: "存管专户", Bank: "招商银行"},
		"could be replaced":                                {Hospital: "H1", UseFor: "HOSPITAL", Account: "1", Name: "海天示范医院", Bank: "工商银行", Replaces: "PE1"},
		"needs account, name and bank":                     {Hospital: "H1", UseFor: "HOSPITAL", Account: "1", Name: "海天示范医院"},
		`"OTHER" is none of`:                               {Hospital: "H1", UseFor: "OTHER", Account: "1", Name: "海天示范医院", Bank: "x"},
		`hospital "H9" is not known`:                       {Hospital: "H9"},
	} {
		_, err := h.ProposePayee(t.Context(), "api", h.key(), op, y)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	y, err := h.ProposePayee(t.Context(), "api", h.key(), op, payout.Payee{Hospital: "H1", UseFor: "HOSPITAL", Account: "2", Name: "海天示范医院", Bank: "工商银行"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the same word again is the same word
		if y, err = h.RefusePayee(t.Context(), li, y.ID, "开户证明不符"); err != nil || y.State != "REFUSED" || y.Reason != "开户证明不符" {
			t.Errorf("%+v, %v", y, err)
		}
	}
	_, err = h.RefusePayee(t.Context(), li, y.ID, "另有原因")
	h.refused(err, payout.ErrState, "is decided already")
}
