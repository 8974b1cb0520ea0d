package lived

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/clearward/clearward/api"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/wechat"
	reconv1 "github.com/clearward/clearward/proto/clearward/recon/v1"
	"github.com/clearward/clearward/recon/feed"
)

// restated is a payment that the channel's bill does not have any more once the money
// has become the hospital's own: in its place stands an order that nobody knows.
func restated(f *fault) {
	f.paid = func(_ context.Context, l *life, v *visit) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.later = append(l.later, func(ctx context.Context) error {
			other := *v
			other.order = v.order[:10] + "9" + v.order[len(v.order)-7:]
			f.row(v, "", &v.fen, &v.fen, nil)
			f.row(&other, "", nil, nil, &other.fen)
			f.found[1].Code = "F1"
			return spoil(ctx, l, v, map[string]any{"do": "BILL_RESTATED"})
		})
		return nil
	}
}

// restates has the first hospital's channel make the bill of the day anew. Whoever is
// told of it downloads it and feeds it, as the program does not ask again for a bill
// that it has; the day is then run again by the program itself.
func (l *life) restates(ctx context.Context) error {
	if len(l.later) == 0 {
		return nil
	}
	for _, do := range l.later {
		if err := do(ctx); err != nil {
			return err
		}
	}
	n := hospitals[0].numbers[0]
	key, err := os.ReadFile(filepath.Join(l.dir, "sandbox/keys", n.no, "api_v2.key"))
	if err != nil {
		return err
	}
	channel, err := wechat.NewV2(wechat.Config{MerchantNo: n.no, AppID: n.appID(), BaseURL: l.where.WeChat, Key: strings.TrimSpace(string(key)), Now: l.clock.Now})
	if err != nil {
		return err
	}
	bill, err := channel.FetchBill(ctx, channels.BillTrade, lifeDay)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(bill)
	if err = errors.Join(err, bill.Close()); err != nil {
		return err
	}
	path := filepath.Join(l.dir, "restated_"+n.no+".csv")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	return l.within(ctx, "operator", func(s *api.Server) error {
		said, err := s.Feed(ctx, api.FeedChannel, []api.FileToFeed{{Path: path, Options: feed.Options{MerchantNo: n.no}}}, nil)
		if err == nil {
			err = said[0].Refused
		}
		return err
	})
}

// since are the rows of a day that were not among those which were published first.
func since(first, now []*reconv1.Item) []*reconv1.Item {
	seen := map[string]bool{}
	for _, i := range first {
		seen[i.GetOrderNo()+" "+i.GetRefundNo()] = true
	}
	var more []*reconv1.Item
	for _, i := range now {
		if i.GetBankRef() != "" || !seen[i.GetOrderNo()+" "+i.GetRefundNo()] {
			more = append(more, i)
		}
	}
	return more
}
