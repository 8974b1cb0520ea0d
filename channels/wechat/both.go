package wechat

import (
	"bytes"
	"context"
	"net/http"

	"github.com/clearward/clearward/channels"
)

// Both is a merchant number over v3 whose code payments and reversals go by V2,
// which v3 does not have. Orders and refunds made by one interface are known to the
// other, so that everything else is asked over v3.
type Both struct {
	*V3
	code *V2
}

var _ channels.AbnormalGateway = (*Both)(nil)

// NewBoth returns a gateway over both interfaces; ErrConfig says what is missing.
func NewBoth(cfg Config) (*Both, error) {
	v3, err := NewV3(cfg)
	if err != nil {
		return nil, err
	}
	v2, err := NewV2(cfg)
	if err != nil {
		return nil, err
	}
	return &Both{v3, v2}, nil
}

// Pay goes by V2 where the payer's code is scanned.
func (b *Both) Pay(ctx context.Context, r channels.PayRequest) channels.PayAnswer {
	if r.Way == channels.WayCode {
		return b.code.Pay(ctx, r)
	}
	return b.V3.Pay(ctx, r)
}

// Reverse is of code payments alone (W03).
func (b *Both) Reverse(ctx context.Context, orderNo string) channels.PayAnswer {
	return b.code.Reverse(ctx, orderNo)
}

// ParseNotice reads XML as V2's and JSON as v3's: a merchant number that moves from
// one to the other has notices of both for a while.
func (b *Both) ParseNotice(header http.Header, body []byte) (channels.Notice, error) {
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		return b.code.ParseNotice(header, body)
	}
	return b.V3.ParseNotice(header, body)
}

// NoticeReply is one that both interfaces take: 200 with V2's body where the notice
// was taken, another status where it was not.
func (b *Both) NoticeReply(err error) channels.NoticeReply {
	if err == nil {
		return b.code.NoticeReply(nil)
	}
	return b.V3.NoticeReply(err)
}
