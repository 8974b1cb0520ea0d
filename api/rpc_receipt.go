package api

import (
	"context"

	payoutv1 "github.com/clearward/clearward/proto/clearward/payout/v1"
)

// QueryPayout implements the call.
func (p payoutService) QueryPayout(ctx context.Context, r *payoutv1.QueryPayoutRequest) (*payoutv1.QueryPayoutResponse, error) {
	all, _, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	one, err := all.Query(ctx, r.GetNumber())
	if err != nil {
		return nil, err
	}
	return &payoutv1.QueryPayoutResponse{Payout: payoutMessage(&one)}, nil
}

// GetReceipt implements the call.
func (p payoutService) GetReceipt(ctx context.Context, r *payoutv1.GetReceiptRequest) (*payoutv1.GetReceiptResponse, error) {
	all, _, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	receipt, err := all.Receipt(ctx, r.GetNumber())
	if err != nil {
		return nil, err
	}
	return &payoutv1.GetReceiptResponse{Name: receipt.Name, CheckCode: receipt.CheckCode, Content: receipt.Content}, nil
}

// ListMissingReceipts implements the call.
func (p payoutService) ListMissingReceipts(ctx context.Context, _ *payoutv1.ListMissingReceiptsRequest) (*payoutv1.ListMissingReceiptsResponse, error) {
	all, _, err := p.desk(ctx)
	if err != nil {
		return nil, err
	}
	list, err := all.MissingReceipts(ctx, p.s.now())
	if err != nil {
		return nil, err
	}
	return &payoutv1.ListMissingReceiptsResponse{Payouts: payoutMessages(list)}, nil
}
