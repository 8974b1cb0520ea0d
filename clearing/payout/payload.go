package payout

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/clearward/clearward/ledger"
)

// payloadHash is the SHA-256 of what a payout pays, from where, to whom, what for
// and under which references. payee is that of the white-list; of a patient the
// keyed commitment stands for name and account.
func (p *Payout) payloadHash(payee Payee) []byte {
	text, err := json.Marshal([]any{p.Number, p.Hospital, p.Kind, p.Mode, p.From, p.Payee, p.payeeMark,
		payee.Account, payee.Name, payee.Bank, payee.CNAPS, p.Amount, p.Purpose, p.Subject, p.Channel, p.MerchantNo, p.Contract, p.Day})
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	sum := sha256.Sum256(text)
	return sum[:]
}

// mark is the commitment to a patient's name and account: without the key nobody
// can try names on it (spec/regulation-and-volumes.md L21).
func (ps *Payouts) mark(who Patient) string {
	m := hmac.New(sha256.New, ps.Key)
	text, err := json.Marshal([]string{who.Account, who.Name, who.Bank, who.CNAPS, who.Reason, who.Proof})
	if err != nil {
		panic(err) // texts always encode
	}
	m.Write(text)
	return hex.EncodeToString(m.Sum(nil))
}

// numberOf makes the number of a request: the same request, the same number.
func numberOf(prefix string, day ledger.Day, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return fmt.Sprintf("%s%s%014d", prefix, day.Compact(), binary.BigEndian.Uint64(sum[:])%100_000_000_000_000)
}

// Totals are the control totals that an approver reads back (U17).
type Totals struct {
	Count   int
	Sum     ledger.Money
	Capital string // 大写金额
}

// TotalsOf counts and sums payouts.
func TotalsOf(list []Payout) Totals {
	t := Totals{Count: len(list)}
	for i := range list {
		t.Sum += list[i].Amount
	}
	t.Capital = Capital(t.Sum)
	return t
}

var (
	capitalDigits = []string{"零", "壹", "贰", "叁", "肆", "伍", "陆", "柒", "捌", "玖"}
	capitalPlaces = []string{"", "拾", "佰", "仟"}
	capitalGroups = []string{"", "万", "亿", "万亿", "亿亿"}
)

// Capital writes an amount in the capital form of cheques and vouchers
// (支付结算办法 附件一, 正确填写票据和结算凭证的基本规定): 整 after yuan and jiao,
// 零 for the zeros inside.
func Capital(m ledger.Money) string {
	if m < 0 {
		return "负" + Capital(-m)
	}
	yuan, jiao, fen := int64(m/100), int(m/10%10), int(m%10)
	var text strings.Builder
	if yuan > 0 {
		text.WriteString(capitalYuan(yuan) + "元")
	}
	switch {
	case jiao == 0 && fen == 0 && yuan == 0:
		return "零元整"
	case jiao == 0 && fen == 0:
		return text.String() + "整"
	case jiao > 0:
		text.WriteString(capitalDigits[jiao] + "角")
	case yuan > 0:
		text.WriteString("零")
	}
	if fen == 0 {
		return text.String() + "整"
	}
	return text.String() + capitalDigits[fen] + "分"
}

// capitalYuan writes whole yuan, in groups of four digits.
func capitalYuan(yuan int64) string {
	var groups []int
	for ; yuan > 0; yuan /= 10000 {
		groups = append(groups, int(yuan%10000))
	}
	text, gap := "", false
	for i := len(groups) - 1; i >= 0; i-- {
		if groups[i] == 0 {
			gap = true
			continue
		}
		if text != "" && (gap || groups[i] < 1000) {
			text += "零"
		}
		text, gap = text+capitalGroup(groups[i])+capitalGroups[i], false
	}
	return text
}

func capitalGroup(n int) string {
	text, gap := "", false
	for place, unit := 3, 1000; place >= 0; place, unit = place-1, unit/10 {
		digit := n / unit % 10
		switch {
		case digit == 0:
			gap = text != ""
		case gap:
			text += "零" + capitalDigits[digit] + capitalPlaces[place]
			gap = false
		default:
			text += capitalDigits[digit] + capitalPlaces[place]
		}
	}
	return text
}
