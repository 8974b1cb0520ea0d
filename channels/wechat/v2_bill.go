package wechat

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// maxRefusal bounds the XML or JSON that stands where a bill should.
const maxRefusal = 64 << 10

// FetchBill opens the bill of a day. The trade bill has no signature: its reader
// checks it against its own summary. The fund bill is compared with the header
// Digest where the channel sends one; ErrBillDiffers comes at its end.
func (v *V2) FetchBill(ctx context.Context, kind channels.BillKind, day ledger.Day) (io.ReadCloser, error) {
	date := strings.ReplaceAll(day.String(), "-", "")
	if kind == channels.BillFund {
		return v.file(ctx, "/pay/downloadfundflow", Message{"bill_date": date, "account_type": "Basic"}, SignHMAC)
	}
	return v.file(ctx, "/pay/downloadbill", Message{"bill_date": date, "bill_type": "ALL", "tar_type": "GZIP"}, v.cfg.SignType)
}

// file opens an answer that is a text or gzip, or XML where it is refused.
func (v *V2) file(ctx context.Context, path string, m Message, kind SignType) (io.ReadCloser, error) {
	c, err := v.request(ctx, path, m, kind, BillTimeout)
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
	b := bufio.NewReader(answer.Body)
	start, err := b.Peek(1)
	if err != nil {
		_ = answer.Body.Close()
		return nil, fmt.Errorf("%w: an empty file: %w", channels.ErrNoAnswer, err)
	}
	if start[0] == '<' {
		defer answer.Body.Close()
		text, err := io.ReadAll(io.LimitReader(b, maxRefusal))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", channels.ErrNoAnswer, err)
		}
		return nil, billRefused(text)
	}
	if want, ok := digest(answer.Header.Get("Digest")); ok {
		return &hashed{Reader: b, body: answer.Body, sum: sha1.New(), want: want}, nil
	}
	return &hashed{Reader: b, body: answer.Body}, nil
}

// billRefused turns the XML that stands for a bill into an error: by its text and
// by its number, since both have changed over the years (spec/channels.md A.3).
func billRefused(text []byte) error {
	m, err := ParseXML(text)
	if err != nil {
		return fmt.Errorf("%w: neither a bill nor its refusal: %w", channels.ErrNoAnswer, err)
	}
	code, said := m["error_code"], m["return_msg"]
	if code == "" {
		code, said = m["err_code"], said+m["err_code_des"]
	}
	switch lower := strings.ToLower(said); {
	case strings.Contains(lower, "no bill exist"), code == "20002", code == "NO_BILL_EXIST":
		return channels.ErrNoBill
	case strings.Contains(lower, "bill creating"), code == "20003", code == "BILL_CREATING":
		return channels.ErrBillNotReady
	}
	return fmt.Errorf("%w: %s %s", channels.ErrBillRefused, code, said)
}

// digest reads "SHA=…", in hex or base64.
func digest(header string) ([]byte, bool) {
	_, text, ok := strings.Cut(header, "=")
	if !ok || !strings.HasPrefix(strings.ToUpper(header), "SHA") {
		return nil, false
	}
	if sum, err := hex.DecodeString(text); err == nil {
		return sum, true
	}
	sum, err := base64.StdEncoding.DecodeString(text)
	return sum, err == nil
}

// hashed is a file whose hash is compared at its end; sum is nil where the channel
// said none.
type hashed struct {
	io.Reader
	body io.Closer
	sum  hash.Hash
	want []byte
}

func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	if h.sum == nil {
		return n, err
	}
	h.sum.Write(p[:n])
	if err == io.EOF && !bytes.Equal(h.sum.Sum(nil), h.want) {
		return n, channels.ErrBillDiffers
	}
	return n, err
}

func (h *hashed) Close() error { return h.body.Close() }

// Comment is what a payer wrote about an order (订单评价, W07).
type Comment struct {
	At      time.Time
	TradeNo string
	Stars   int
	Text    string
}

// Comments returns up to 200 comments of a span of time, and the offset to go on
// from. Offsets have gaps.
func (v *V2) Comments(ctx context.Context, from, to time.Time, offset uint64) ([]Comment, uint64, error) {
	r, err := v.file(ctx, "/billcommentsp/batchquerycomment", Message{
		"begin_time": from.In(ledger.Beijing).Format(timeV2), "end_time": to.In(ledger.Beijing).Format(timeV2),
		"offset": strconv.FormatUint(offset, 10), "limit": "200",
	}, SignHMAC)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	return readComments(r)
}

// readComments reads the answer: the next offset, then a line for each comment.
func readComments(r io.Reader) ([]Comment, uint64, error) {
	lines := channels.NewLines(r)
	if !lines.Next() {
		return nil, 0, channels.Refuse(0, "", "the answer is empty")
	}
	next, err := strconv.ParseUint(strings.TrimPrefix(string(lines.Text()), "`"), 10, 64)
	if err != nil {
		return nil, 0, channels.Refuse(1, "", "the first line is not an offset")
	}
	var list []Comment
	for lines.Next() {
		cells := strings.SplitN(strings.TrimPrefix(string(lines.Text()), "`"), ",`", 4)
		if len(cells) != 4 {
			return nil, 0, channels.Refuse(lines.Number(), "", "a comment has four values")
		}
		at, err := time.ParseInLocation(time.DateTime, cells[0], ledger.Beijing)
		stars, starsErr := strconv.Atoi(cells[2])
		if err != nil || starsErr != nil || stars < 1 || stars > 5 {
			return nil, 0, channels.Refuse(lines.Number(), "", "a comment has a time and one to five stars")
		}
		list = append(list, Comment{at, cells[1], stars, cells[3]})
	}
	return list, next, lines.Err()
}
