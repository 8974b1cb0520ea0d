package bank

import (
	"strings"

	"github.com/clearward/clearward/channels"
)

// StatusReturned is the one status of our contract that ISO 20022 has not: the
// transfer had succeeded and came back (退票). A reader that does not know it
// takes it for unknown, which is safe.
const StatusReturned = "RTND"

// reasonUnheard says that the bank never received the transfer (ISO 20022 NOOR).
const reasonUnheard = "NOOR"

// states is the status of pain.002 in our words (spec/channels.md F.4). What is
// not here is unknown, ACWC (accepted with change) among it: a person looks.
var states = map[string]channels.TransferState{
	"RCVD": channels.TransferAccepted, "ACTC": channels.TransferAccepted, "ACCP": channels.TransferAccepted,
	"ACSP": channels.TransferAccepted, "PDNG": channels.TransferAccepted,
	"PATC": channels.TransferApproval,
	"ACSC": channels.TransferSucceeded, "ACCC": channels.TransferSucceeded,
	"RJCT": channels.TransferRejected, "CANC": channels.TransferRejected,
	StatusReturned: channels.TransferReturned,
}

// reasons is the kind of an external reason code of ISO 20022, reasonFamilies that
// of all codes which begin so.
var (
	reasons = map[string]channels.ReasonKind{
		"AM02": channels.ReasonLimit, "AM04": channels.ReasonMerchantFunds, "AM05": channels.ReasonDiffers, "AM14": channels.ReasonLimit,
		"AG01": channels.ReasonSetup, "AG03": channels.ReasonSetup, "TM01": channels.ReasonTooLate,
		reasonUnheard: channels.ReasonNotFound,
	}
	reasonFamilies = map[string]channels.ReasonKind{
		"AC": channels.ReasonAccount, "BE": channels.ReasonAccount, "RC": channels.ReasonAccount,
		"AM": channels.ReasonRequest, "CH": channels.ReasonRequest, "DT": channels.ReasonRequest, "FF": channels.ReasonRequest,
		"RR": channels.ReasonRisk,
	}
)

func reasonOf(code, text string) channels.Reason {
	r := channels.Reason{Code: code, Text: text}
	switch kind, known := reasons[code]; {
	case known:
		r.Kind = kind
	case code == "":
	case len(code) == 4 && reasonFamilies[code[:2]] != "":
		r.Kind = reasonFamilies[code[:2]]
	default:
		r.Kind = channels.ReasonSystem
	}
	return r
}

// answer turns one status into what is known of the transfer.
func (s *Status) answer() channels.TransferAnswer {
	a := channels.TransferAnswer{Ref: s.Ref, BankRef: s.BankRef, At: s.At, Amount: s.Amount, Reason: reasonOf(s.Reason, s.Text)}
	state, known := states[s.Code]
	switch {
	case !known:
		a.State = channels.TransferUnknown
		a.Reason = channels.Reason{Kind: channels.ReasonSystem, Code: s.Code, Text: s.Text}
	case state == channels.TransferRejected && s.Reason == reasonUnheard:
		a.State = channels.TransferAbsent
	case state == channels.TransferRejected && (s.Reason == "AM05" || strings.HasPrefix(s.Reason, "DU")):
		// The bank refuses a number it has: that says nothing of what it has.
		a.State = channels.TransferUnknown
	default:
		a.State = state
	}
	return a
}
