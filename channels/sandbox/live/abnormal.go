package live

import (
	"fmt"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// payee is whom an abnormal refund is paid to, "" for the means that paid.
type payee string

const (
	payeeMerchant payee = "MERCHANT" // the bank account to which the channel settles
	payeeCard     payee = "CARD"     // another card of the payer
)

// applySeconds is how long an abnormal refund takes once it is applied for.
const applySeconds = 1

// apply pays an abnormal refund to somebody else than the means that paid, under
// the lock.
func (s *Server) apply(r *refund, to payee, now int64) *refund {
	image := *r
	image.Abnormal, image.Applied, image.To = r.Done, now, to
	image.State, image.Done, image.DueAt, image.DueState = refundProcessing, 0, now+applySeconds, refundDone
	return s.putRefund(image)
}

// onMerchantPlatform is the operator who handles an abnormal refund on the merchant
// platform of WeChat Pay, for V2 as for v3.
func (s *Server) onMerchantPlatform(in struct{ Merchant, Refund, To string }) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	var r *refund
	if m := s.merchants[in.Merchant]; m != nil && m.Channel == channels.WeChat {
		r = m.refunds[in.Refund]
	}
	to := payee(in.To)
	if to != payeeMerchant && to != payeeCard || r == nil || r.State != refundAbnormal {
		return nil, fmt.Errorf("%w: no abnormal refund %q at %q, or to is neither CARD nor MERCHANT", ErrRefused, in.Refund, in.Merchant)
	}
	s.apply(r, to, s.cfg.Now().Unix())
	return in, nil
}

// channel is 退款渠道, received 退款入账账户, as query and notice say them.
func (r *refund) channel() string {
	if r.To == payeeCard {
		return "OTHER_BANKCARD"
	}
	return "ORIGINAL"
}

func (r *refund) received() string {
	switch r.To {
	case payeeMerchant:
		return "商户结算银行账户"
	case payeeCard:
		return "招商银行借记卡0403"
	}
	return "支付用户零钱"
}

// toBank lists the abnormal refunds that arrive on a bank account on a day: the
// first working day after they were paid. Under the lock.
func (s *Server) toBank(account string, arrives ledger.Day) []Settlement {
	var list []Settlement
	for _, no := range s.numbers {
		m := s.merchants[no]
		if m.BankAccount != account || m.Channel != channels.WeChat {
			continue
		}
		for _, r := range m.applied {
			if day := ledger.DayOf(time.Unix(r.Done, 0)); r.State == refundDone && r.To == payeeMerchant && workingDayAfter(day) == arrives {
				list = append(list, Settlement{Channel: m.Channel, Merchant: no, Account: account, Day: day, Arrives: arrives, Fen: r.Fen, Refund: r.No})
			}
		}
	}
	return list
}
