package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// ErrUnknownOwner says that a file is about a merchant number, hospital or bank
// account that the master data do not have.
var ErrUnknownOwner = errors.New("not in the master data")

// ErrChanged says that a file was written to while it was fed. Nothing counts
// of what was sent: its manifest was not.
var ErrChanged = errors.New("the file changed while it was read")

// Owner is what a producer knows of a merchant number, from the master data.
type Owner struct {
	Hospital, Channel, MerchantNo string
	Aliases                       []string
	Account                       string // the bank account that it settles to
}

// Options are what the person who feeds a file says of it.
type Options struct {
	MerchantNo string     // bills: needed where the file names none
	Hospital   string     // HIS files: "" lets any one hospital of the master data through
	Day        ledger.Day // 0: as the file says; a file without rows says nothing
	Counted    bool       // Rows and Sum are given (HIS files)
	Rows       int
	Sum        ledger.Money // payments less refunds
	SHA256     string       // hex, of a HIS file; "" where not known
}

// Fed is a file that was sent whole.
type Fed struct {
	File     int64
	Slice    recon.Slice
	Part     recon.Part
	Name     string
	Rows     int
	Lines    int // of the rows, sent as lines
	Totals   recon.Totals
	Duration time.Duration
}

// Producer sends files. A file is read twice: once to check the whole of it,
// and, if nothing is wrong with it, once to send it. Memory does not grow with
// the file.
type Producer struct {
	kafka  Kafka
	writer *kafka.Writer
	owners []Owner
	now    func() time.Time

	// Progress, if set, hears how many lines of a file have been sent.
	Progress func(name string, lines int)
	// Listed says whether the names on a bank line may be sent: those of payers
	// off the channel list stay here, they may be people. Nil sends all.
	Listed func(*channels.StatementLine) bool
}

// NewProducer returns a Producer for the files of these owners.
func NewProducer(k Kafka, owners []Owner, now func() time.Time) *Producer {
	return &Producer{kafka: k, writer: k.writer(), owners: owners, now: now}
}

// Close waits until what was handed over is sent. No Feed may be under way.
func (p *Producer) Close() error { return p.writer.Close() }

// FeedChannel sends a bill of a channel: WeChat 交易账单 or 资金账单, plain or gzip,
// or an Alipay zip of 业务明细 or 账务明细. What it is, is told by its content.
func (p *Producer) FeedChannel(ctx context.Context, path string, o Options) (Fed, error) {
	return p.feed(ctx, path, channelSort, o)
}

// FeedHIS sends the charge details of a hospital. How many rows there are and
// what they come to is told by the file's last line or by the options.
func (p *Producer) FeedHIS(ctx context.Context, path string, o Options) (Fed, error) {
	return p.feed(ctx, path, func(*os.File) (fileSort, error) { return hisDetails, nil }, o)
}

// FeedBank sends a bank statement.
func (p *Producer) FeedBank(ctx context.Context, path string, o Options) (Fed, error) {
	return p.feed(ctx, path, func(*os.File) (fileSort, error) { return statement, nil }, o)
}

func (p *Producer) feed(ctx context.Context, path string, tell func(*os.File) (fileSort, error), o Options) (Fed, error) {
	began := p.now()
	f, err := os.Open(path)
	if err != nil {
		return Fed{}, err
	}
	defer f.Close()
	name := filepath.Base(path)
	what, err := tell(f)
	if err != nil {
		return Fed{}, fmt.Errorf("%s: %w", name, err)
	}
	want, err := p.expect(what, o)
	if err != nil {
		return Fed{}, fmt.Errorf("%s: %w", name, err)
	}
	m, err := p.check(f, what, want)
	if err != nil {
		return Fed{}, fmt.Errorf("%s: %w", name, err)
	}
	m.Name, m.FedAt = name, feedTime(began)
	if err := p.send(ctx, f, what, want, m); err != nil {
		return Fed{}, fmt.Errorf("%s: %w", name, err)
	}
	return Fed{
		File: m.File, Slice: m.Slice, Part: m.Part, Name: m.Name, Rows: m.Rows, Lines: m.Lines, Totals: m.Totals,
		Duration: p.now().Sub(began),
	}, nil
}

// lastFed is the latest time that feedTime gave out, in Unix microseconds.
var lastFed atomic.Int64

// feedTime makes times of feeding differ and grow within the process, under a
// test's clock that stands still too: of two contents of a day the later counts.
func feedTime(now time.Time) time.Time {
	for {
		last := lastFed.Load()
		next := max(now.UnixMicro(), last+1)
		if lastFed.CompareAndSwap(last, next) {
			return time.UnixMicro(next).UTC()
		}
	}
}

// expect gathers what is known of a file before it is read.
func (p *Producer) expect(what fileSort, o Options) (channels.Expect, error) {
	want := channels.Expect{
		Hospital: o.Hospital, Day: o.Day, Counted: o.Counted, Rows: o.Rows, Sum: o.Sum, SHA256: o.SHA256,
		Aliases: map[string]string{},
	}
	for _, owner := range p.owners {
		if owner.Channel != what.channel || what.channel == "" {
			continue
		}
		if o.MerchantNo != "" && o.MerchantNo != owner.MerchantNo && !slices.Contains(owner.Aliases, o.MerchantNo) {
			continue
		}
		want.MerchantNos = append(append(want.MerchantNos, owner.MerchantNo), owner.Aliases...)
		for _, alias := range owner.Aliases {
			want.Aliases[alias] = owner.MerchantNo
		}
	}
	if what.channel != "" && len(want.MerchantNos) == 0 {
		return want, fmt.Errorf("%w: %s merchant number %s", ErrUnknownOwner, what.channel, o.MerchantNo)
	}
	return want, nil
}

// check reads the whole file and returns the manifest that will close it.
func (p *Producer) check(f *os.File, what fileSort, want channels.Expect) (*recon.Manifest, error) {
	var tally recon.Tally
	summary, err := p.read(f, what, want, &tally, func(*recon.FeedLine) error { return nil })
	if err != nil {
		return nil, err
	}
	m := &recon.Manifest{Part: recon.Part(cmp.Or(summary.Part, string(recon.PartAll)))}
	if m.Slice, err = p.slice(what, summary); err != nil {
		return nil, err
	}
	if want.Day != 0 && m.Slice.Day != want.Day {
		return nil, &channels.FileError{Rule: fmt.Sprintf("the file is of %s, not of %s", m.Slice.Day, want.Day)}
	}
	if m.SHA256, err = contentSum(f); err != nil {
		return nil, err
	}
	m.File = recon.FileID(m.Slice, m.Part, m.SHA256)
	tally.Close(m, summary)
	return m, nil
}

// slice finds whose day the file is.
func (p *Producer) slice(what fileSort, summary channels.FileSummary) (recon.Slice, error) {
	s := recon.Slice{Source: what.source, Channel: what.channel, Day: summary.Day}
	for _, owner := range p.owners {
		switch {
		case what.source == recon.SourceHIS && owner.Hospital == summary.Hospital:
			s.Hospital = owner.Hospital
			return s, nil
		case what.source == recon.SourceStatement && owner.Account == summary.Account:
			s.Hospital, s.Account = owner.Hospital, owner.Account
			return s, nil
		case what.channel != "" && owner.Channel == what.channel && owner.MerchantNo == summary.MerchantNo:
			s.Hospital, s.Account = owner.Hospital, owner.MerchantNo
			return s, nil
		}
	}
	return s, fmt.Errorf("%w: %s", ErrUnknownOwner, summary.MerchantNo+summary.Hospital+summary.Account)
}

// read goes through the file once, adds up its rows, and hands those on that
// are sent as lines.
func (p *Producer) read(f *os.File, what fileSort, want channels.Expect, tally *recon.Tally, emit func(*recon.FeedLine) error) (channels.FileSummary, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return channels.FileSummary{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	var line recon.FeedLine
	return what.each(f, want, &line, func() error {
		switch {
		case line.Bill != nil:
			tally.Bill(line.Bill, line.Bill.MerchantNo)
		case line.HIS != nil:
			tally.HIS(line.HIS)
		case line.Statement != nil:
			p.hide(line.Statement)
			tally.Statement(line.Statement)
		case line.Fund != nil && !tally.Fund(line.Fund):
			return nil
		}
		return emit(&line)
	})
}

// hide keeps names off the wire that are no business of reconciliation.
func (p *Producer) hide(l *channels.StatementLine) {
	if p.Listed != nil && !p.Listed(l) {
		l.Counterparty, l.CounterpartyAcc, l.Text = "", "", ""
	}
}

// send goes through the file again and sends it, the manifest last.
func (p *Producer) send(ctx context.Context, f *os.File, what fileSort, want channels.Expect, m *recon.Manifest) error {
	var tally recon.Tally
	out := outbox{producer: p, topic: p.kafka.topic(topicOf(m.Slice.Source)), key: keyOf(m.Slice), name: m.Name}
	_, err := p.read(f, what, want, &tally, func(l *recon.FeedLine) error {
		l.File, l.Slice = m.File, m.Slice
		return out.add(ctx, recon.FeedRecord{Line: l})
	})
	if err != nil {
		return err
	}
	again := recon.Manifest{Slice: m.Slice}
	tally.Close(&again, channels.FileSummary{})
	if again.Rows != m.Rows || again.DigestPay != m.DigestPay || again.DigestRefund != m.DigestRefund {
		return ErrChanged
	}
	if err := out.add(ctx, recon.FeedRecord{Manifest: m}); err != nil {
		return err
	}
	return out.flush(ctx)
}

// outbox gathers messages: one write of thousands costs what a write of one does.
type outbox struct {
	producer *Producer
	topic    string
	key      []byte
	name     string
	messages []kafka.Message
	buf      []byte
	sent     int
}

func (o *outbox) add(ctx context.Context, r recon.FeedRecord) error {
	if o.messages == nil {
		o.messages = make([]kafka.Message, 0, perWrite)
	}
	start := len(o.buf)
	buf, err := encode(o.buf, r)
	if err != nil {
		return err
	}
	o.buf = buf // earlier messages keep pointing to what they were made of
	o.messages = append(o.messages, kafka.Message{Topic: o.topic, Key: o.key, Value: buf[start:len(buf):len(buf)]})
	if len(o.messages) < perWrite {
		return nil
	}
	return o.flush(ctx)
}

func (o *outbox) flush(ctx context.Context) error {
	if len(o.messages) == 0 {
		return nil
	}
	if err := o.producer.writer.WriteMessages(ctx, o.messages...); err != nil {
		return fmt.Errorf("send lines %d to %d to %s: %w", o.sent+1, o.sent+len(o.messages), o.topic, err)
	}
	o.sent += len(o.messages)
	o.messages, o.buf = o.messages[:0], o.buf[:0]
	if o.producer.Progress != nil {
		o.producer.Progress(o.name, o.sent)
	}
	return nil
}
