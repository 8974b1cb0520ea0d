package alipay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

type billContent struct {
	Kind string `json:"bill_type"`
	Day  string `json:"bill_date"`
}

// billsAt is when the bills of the day before are there at the latest
// (spec/channels.md D.5). Until then "no such bill" says nothing of the day.
const billsAt = 10 * time.Hour

// FetchBill asks for the address of a day's archive and opens it within the 30
// seconds for which it is valid. Only a signed answer says that a day has no bill.
func (g *Client) FetchBill(ctx context.Context, kind channels.BillKind, day ledger.Day) (io.ReadCloser, error) {
	name := map[channels.BillKind]string{channels.BillTrade: "trade", channels.BillFund: "signcustomer"}[kind]
	if name == "" {
		return nil, fmt.Errorf("%w: Alipay has no bill %s", channels.ErrBillRefused, kind)
	}
	asked := g.config.Now()
	w := g.call(ctx, methodBill, "", billContent{name, day.String()}, billTimeout)
	none := w.signed && (strings.EqualFold(w.SubCode, "isp.bill_not_exist") || w.SubCode == "BILL_NOT_EXIST" || w.BillCode == "EMPTY_DATA_WITH_BILL_FILE" && w.BillURL == "")
	switch {
	case w.fault.Kind != channels.ReasonNone:
		return nil, fmt.Errorf("the address of the bill %s of %s: %s", name, day, w.fault.Text)
	case none && asked.Before(day.Add(1).Start().Add(billsAt)):
		return nil, fmt.Errorf("%w: %s, Alipay says %s before the bills are made", channels.ErrBillNotReady, day, w.SubCode)
	case none:
		return nil, fmt.Errorf("%w: %s, Alipay says %s %s", channels.ErrNoBill, day, w.SubCode, w.SubMsg)
	case w.signed && strings.TrimPrefix(w.SubCode, "isv.") == "invalid_arguments" && day >= ledger.DayOf(g.config.Now()):
		return nil, fmt.Errorf("%w: %s is not over", channels.ErrBillNotReady, day)
	case w.Code != "10000":
		return nil, fmt.Errorf("%w: %s, Alipay says %s %s %s", channels.ErrBillRefused, day, w.Code, w.SubCode, w.SubMsg)
	}
	return g.download(ctx, w.BillURL)
}

// download opens the archive as a stream. The address holds a token: no error may
// show it.
func (g *Client) download(ctx context.Context, address string) (io.ReadCloser, error) {
	at, err := url.Parse(address)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, fmt.Errorf("%w: the answer has no address of a bill", channels.ErrBillRefused)
	}
	ctx, cancel := context.WithTimeout(ctx, billTimeout)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%w: the answer has no address of a bill", channels.ErrBillRefused)
	}
	client := g.config.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(request)
	var shown *url.Error
	if errors.As(err, &shown) {
		err = shown.Err
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("the bill from %s: %w", at.Host, err)
	}
	if answer.StatusCode != http.StatusOK {
		cancel()
		return nil, errors.Join(fmt.Errorf("%w: %s answers %s", channels.ErrBillRefused, at.Host, answer.Status), answer.Body.Close())
	}
	return &download{answer.Body, cancel}, nil
}

// download is the stream of a bill; closing it ends the call.
type download struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (d *download) Close() error {
	defer d.cancel()
	return d.ReadCloser.Close()
}

// Balance is the merchant's balance at Alipay: in all, and what may leave it.
func (g *Client) Balance(ctx context.Context) (total, available ledger.Money, err error) {
	w := g.call(ctx, methodBalance, "", struct{}{}, queryTimeout)
	if w.fault.Kind != channels.ReasonNone {
		return 0, 0, fmt.Errorf("the balance: %s", w.fault.Text)
	}
	if w.Code != "10000" {
		return 0, 0, fmt.Errorf("the balance: Alipay says %s %s %s", w.Code, w.SubCode, w.SubMsg)
	}
	total, err1 := ledger.ParseYuan(w.Total)
	available, err2 := ledger.ParseYuan(w.Available)
	return total, available, errors.Join(err1, err2)
}
