package wechat

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// FetchBill asks for the bill of a day and opens it as text. The download is not
// signed: the hash in the signed answer is that of the uncompressed text, and
// ErrBillDiffers comes at its end (spec/channels.md B.3).
func (v *V3) FetchBill(ctx context.Context, kind channels.BillKind, day ledger.Day) (io.ReadCloser, error) {
	q, path := url.Values{"bill_date": {day.String()}, "tar_type": {"GZIP"}}, "/v3/bill/tradebill"
	if kind == channels.BillFund {
		path = "/v3/bill/fundflowbill"
		q.Set("account_type", "BASIC")
	} else {
		q.Set("bill_type", "ALL")
		if v.cfg.SubMerchantNo != "" {
			q.Set("sub_mchid", v.cfg.SubMerchantNo)
		}
	}
	var answer struct {
		HashType    string `json:"hash_type"`
		HashValue   string `json:"hash_value"`
		DownloadURL string `json:"download_url"`
	}
	no, _, reason := v.call(ctx, path[1:], "", http.MethodGet, path+"?"+q.Encode(), nil, &answer, QueryTimeout)
	switch {
	case reason.Kind != "":
		return nil, fmt.Errorf("%w: %s", channels.ErrNoAnswer, reason.Text)
	case no.Code == "NO_STATEMENT_EXIST":
		return nil, channels.ErrNoBill
	case no.Code == "STATEMENT_CREATING":
		return nil, channels.ErrBillNotReady
	case no.Code != "":
		return nil, fmt.Errorf("%w: %s %s", channels.ErrBillRefused, no.Code, no.Message)
	}
	want, err := hex.DecodeString(answer.HashValue)
	if err != nil || answer.HashType != "SHA1" || len(want) != sha1.Size {
		return nil, fmt.Errorf("%w: its hash is %q in %q", channels.ErrBillRefused, answer.HashValue, answer.HashType)
	}
	return v.download(ctx, answer.DownloadURL, want)
}

// download fetches from the channel's own host only: the request is signed.
func (v *V3) download(ctx context.Context, from string, want []byte) (io.ReadCloser, error) {
	to, err := url.Parse(from)
	base, baseErr := url.Parse(v.cfg.BaseURL)
	if err != nil || baseErr != nil || to.Scheme != base.Scheme || to.Host != base.Host {
		return nil, fmt.Errorf("%w: the download is on another host", channels.ErrBillRefused)
	}
	c, err := v.request(ctx, "v3/billdownload/file", http.MethodGet, to.RequestURI(), nil, BillTimeout)
	if err != nil {
		return nil, err
	}
	answer, _, err := v.wire.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		_ = answer.Body.Close()
		return nil, fmt.Errorf("%w: the answer's status is %d", channels.ErrNoAnswer, answer.StatusCode)
	}
	text, err := channels.Gunzip(answer.Body)
	if err != nil {
		_ = answer.Body.Close()
		return nil, fmt.Errorf("%w: %w", channels.ErrBillDiffers, err)
	}
	return &hashed{Reader: text, body: answer.Body, sum: sha1.New(), want: want}, nil
}
