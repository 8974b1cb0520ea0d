package alipay

import (
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/url"

	"github.com/clearward/clearward/channels"
)

// ParseNotice verifies and reads a notice (spec/channels.md D.6). refund_fee in it
// is the sum of all refunds of the trade, so a refund's own amount is left 0.
func (g *Client) ParseNotice(_ http.Header, body []byte) (channels.Notice, error) {
	p, err := url.ParseQuery(string(body))
	if err != nil {
		return channels.Notice{}, fmt.Errorf("%w: it is no form", channels.ErrNotice)
	}
	for name, values := range p {
		if len(values) != 1 {
			return channels.Notice{}, fmt.Errorf("%w: %q is there twice", channels.ErrNotice, name)
		}
	}
	if err := g.verifyNotice(p); err != nil {
		return channels.Notice{}, err
	}
	if p.Get("app_id") != g.config.AppID || p.Get("seller_id") != g.config.SellerID {
		return channels.Notice{}, fmt.Errorf("%w: %w: it is for app_id %q and seller_id %q", channels.ErrNotice, channels.ErrForeign, p.Get("app_id"), p.Get("seller_id"))
	}
	n := channels.Notice{ID: p.Get("notify_id"), MerchantNo: p.Get("seller_id"), Kind: channels.NoticePayment, Body: maskForm(p)}
	total, err1 := yuan(p.Get("total_amount"))
	settle, err2 := yuan(p.Get("receipt_amount"))
	refunded, err3 := yuan(p.Get("refund_fee"))
	if p.Get("notify_type") != "trade_status_sync" || p.Get("out_trade_no") == "" || err1 != nil || err2 != nil || err3 != nil ||
		total < minAmount || settle < 0 || settle > total || refunded < 0 || refunded > total {
		return channels.Notice{}, fmt.Errorf("%w: notify_type, out_trade_no, total_amount, receipt_amount or refund_fee breaks its rule", channels.ErrNotice)
	}
	n.Payment = standing(channels.PayAnswer{OrderNo: p.Get("out_trade_no"), TradeNo: p.Get("trade_no"), Amount: total, Settle: settle},
		p.Get("trade_status"), p.Get("refund_fee"), at(p.Get("gmt_payment")))
	if no := p.Get("out_biz_no"); no != "" && refunded > 0 {
		n.Kind = channels.NoticeRefund
		n.Refund = channels.RefundAnswer{Outcome: channels.OutcomeSucceeded, OrderNo: n.Payment.OrderNo, TradeNo: n.Payment.TradeNo,
			RefundNo: no, SuccessAt: at(p.Get("gmt_refund"))}
	}
	return n, nil
}

// verifyNotice checks the signature with the certificate that the notice names,
// or with each one where it names none.
func (g *Client) verifyNotice(p url.Values) error {
	if p.Get("sign_type") != "RSA2" {
		return fmt.Errorf("%w: sign_type is %q, not RSA2", channels.ErrNotice, p.Get("sign_type"))
	}
	keys := g.platform
	if sn := p.Get("alipay_cert_sn"); sn != "" {
		public, err := g.public(sn)
		if err != nil {
			return fmt.Errorf("%w: %w", channels.ErrNotice, err)
		}
		keys = map[string]*rsa.PublicKey{sn: public}
	}
	text, err := NoticeString(p), ErrSignature
	for _, public := range keys {
		if err = Verify(public, text, p.Get("sign")); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %w", channels.ErrNotice, err)
}

// maskForm is a notice for the record: readable, without signature and payer.
func maskForm(p url.Values) string {
	shown := url.Values{}
	for name := range p {
		switch value := p.Get(name); name {
		case "sign", "buyer_name", "buyer_user_name", "body", "passback_params":
		case "buyer_id", "buyer_open_id", "buyer_user_id", "buyer_logon_id":
			runes := []rune(value)
			shown.Set(name, string(runes[:min(4, len(runes))])+"***")
		default:
			shown.Set(name, value)
		}
	}
	return NoticeString(shown)
}

// NoticeReply is exactly "success", or the notice comes again for 25 hours.
func (g *Client) NoticeReply(err error) channels.NoticeReply {
	if err != nil {
		return channels.NoticeReply{Status: http.StatusOK, ContentType: "text/plain; charset=utf-8", Body: "fail"}
	}
	return channels.NoticeReply{Status: http.StatusOK, ContentType: "text/plain; charset=utf-8", Body: "success"}
}
