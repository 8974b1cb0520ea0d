package feed

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/alipay"
	"github.com/clearward/clearward/channels/bank"
	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/channels/wechat"
	"github.com/clearward/clearward/recon"
)

// ErrFile says that a file is of no sort that can be fed.
var ErrFile = errors.New("not a file that can be fed")

// each hands every row of a file on, as the body of line, and returns what the
// whole came to after every check of its reader has held.
type each func(f *os.File, want channels.Expect, line *recon.FeedLine, emit func() error) (channels.FileSummary, error)

// fileSort is a sort of file and how it is read.
type fileSort struct {
	source  recon.Source
	channel string
	each    each
}

var (
	wechatTrade = fileSort{recon.SourceBill, channels.WeChat, func(f *os.File, want channels.Expect, line *recon.FeedLine, emit func() error) (channels.FileSummary, error) {
		return wechat.ReadTradeBill(f, want, func(l *channels.BillLine) error {
			line.Bill, line.Row = l, l.Row
			return emit()
		})
	}}
	wechatFund = fileSort{recon.SourceFund, channels.WeChat, func(f *os.File, want channels.Expect, line *recon.FeedLine, emit func() error) (channels.FileSummary, error) {
		return wechat.ReadFundBill(f, want, func(l *channels.FundLine) error {
			line.Fund, line.Row = l, l.Row
			return emit()
		})
	}}
	alipayTrade = fileSort{recon.SourceBill, channels.Alipay, func(f *os.File, want channels.Expect, line *recon.FeedLine, emit func() error) (channels.FileSummary, error) {
		size, err := sizeOf(f)
		if err != nil {
			return channels.FileSummary{}, err
		}
		return alipay.ReadTradeBill(f, size, want, func(l *channels.BillLine) error {
			line.Bill, line.Row = l, l.Row
			return emit()
		})
	}}
	alipayFund = fileSort{recon.SourceFund, channels.Alipay, func(f *os.File, want channels.Expect, line *recon.FeedLine, emit func() error) (channels.FileSummary, error) {
		size, err := sizeOf(f)
		if err != nil {
			return channels.FileSummary{}, err
		}
		return alipay.ReadFundBill(f, size, want, func(l *channels.FundLine) error {
			line.Fund, line.Row = l, l.Row
			return emit()
		})
	}}
	hisDetails = fileSort{recon.SourceHIS, "", func(f *os.File, want channels.Expect, line *recon.FeedLine, emit func() error) (channels.FileSummary, error) {
		return his.ReadDetails(f, want, func(l *channels.HISLine) error {
			line.HIS, line.Row = l, l.Row
			return emit()
		})
	}}
	statement = fileSort{recon.SourceStatement, "", func(f *os.File, want channels.Expect, line *recon.FeedLine, emit func() error) (channels.FileSummary, error) {
		return bank.ReadStatement(f, func(l *channels.StatementLine) error {
			line.Statement, line.Row = l, l.Row
			return emit()
		})
	}}
)

func sizeOf(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", f.Name(), err)
	}
	return info.Size(), nil
}

// channelSort tells by its content what fileSort of channel file f is; names are
// not to be trusted, the portals let people rename them.
func channelSort(f *os.File) (fileSort, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(f, head); err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return fileSort{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if string(head) == "PK\x03\x04" || string(head) == "PK\x05\x06" {
		return alipaySort(f)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fileSort{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	text, err := channels.Gunzip(f)
	if err != nil {
		return fileSort{}, err
	}
	first := make([]byte, 512)
	n, err := io.ReadFull(text, first)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return fileSort{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	header, _, _ := bytes.Cut(bytes.TrimPrefix(first[:n], []byte("\xef\xbb\xbf")), []byte("\n"))
	switch {
	case bytes.HasPrefix(header, []byte("记账时间")):
		return wechatFund, nil
	case bytes.Contains(header, []byte("交易时间")) || bytes.Contains(header, []byte("微信")):
		return wechatTrade, nil
	}
	return fileSort{}, fmt.Errorf("%w: %s starts neither like a WeChat bill nor like an Alipay zip", ErrFile, filepath.Base(f.Name()))
}

// marks are the titles of Alipay's two details in GBK.
var (
	alipayTradeMark = []byte("\xd2\xb5\xce\xf1\xc3\xf7\xcf\xb8") // 业务明细
	alipayFundMark  = []byte("\xd5\xcb\xce\xf1\xc3\xf7\xcf\xb8") // 账务明细
)

// alipaySort looks at the first lines of the zip's files.
func alipaySort(f *os.File) (fileSort, error) {
	size, err := sizeOf(f)
	if err != nil {
		return fileSort{}, err
	}
	archive, err := zip.NewReader(f, size)
	if err != nil {
		return fileSort{}, &channels.FileError{Rule: fmt.Sprintf("the zip is cut off or damaged (%v)", err)}
	}
	for _, entry := range archive.File {
		head := make([]byte, 256)
		packed, err := entry.Open()
		if err != nil {
			continue // the reader of the bill says what is wrong with it
		}
		n, _ := io.ReadFull(packed, head)
		if err := packed.Close(); err != nil {
			return fileSort{}, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		switch {
		case bytes.Contains(head[:n], alipayFundMark):
			return alipayFund, nil
		case bytes.Contains(head[:n], alipayTradeMark):
			return alipayTrade, nil
		}
	}
	return fileSort{}, fmt.Errorf("%w: %s is a zip without an Alipay 业务明细 or 账务明细", ErrFile, filepath.Base(f.Name()))
}

// contentSum is the SHA-256 of a file's bytes, uncompressed: of a zip, of its
// files in the order of their names.
func contentSum(f *os.File) (sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return sum, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	size, err := sizeOf(f)
	if err != nil {
		return sum, err
	}
	archive, err := zip.NewReader(f, size)
	if errors.Is(err, zip.ErrFormat) {
		text, err := channels.Gunzip(f)
		if err != nil {
			return sum, err
		}
		if _, err := io.Copy(hash, text); err != nil {
			return sum, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		return [sha256.Size]byte(hash.Sum(nil)), nil
	}
	if err != nil {
		return sum, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	slices.SortFunc(archive.File, func(a, b *zip.File) int { return cmp.Compare(a.Name, b.Name) })
	for _, entry := range archive.File {
		if err := hashEntry(hash, entry); err != nil {
			return sum, fmt.Errorf("read %s: %w", f.Name(), err)
		}
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

func hashEntry(hash io.Writer, entry *zip.File) error {
	text, err := entry.Open()
	if err != nil {
		return err
	}
	if _, err := io.Copy(hash, text); err != nil {
		return errors.Join(err, text.Close())
	}
	return text.Close()
}
