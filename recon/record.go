package recon

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// Source is the sort of file that a line was read from.
type Source string

// The sources of lines.
const (
	SourceBill      Source = "BILL"      // a channel's trade bill
	SourceFund      Source = "FUND"      // a channel's fund bill
	SourceHIS       Source = "HIS"       // the hospital's charge details
	SourceStatement Source = "STATEMENT" // a bank statement
)

// Part is how much of its day a file covers.
type Part string

// The parts of a day. Only trade bills come in parts; what the parts of a bill
// say is kept apart, so that ALL equals PAY and REFUND together.
const (
	PartAll    Part = "ALL"
	PartPay    Part = "PAY"
	PartRefund Part = "REFUND"
)

// covers lists the parts of the day that a file of this source and part tells.
func (p Part) covers(source Source) []Part {
	switch {
	case source != SourceBill:
		return []Part{PartAll}
	case p == PartAll:
		return []Part{PartPay, PartRefund}
	}
	return []Part{p}
}

// Slice is what a file is about: one source, one owner, one business day.
type Slice struct {
	Source   Source
	Hospital string
	Channel  string // "" for HIS and bank
	Account  string // merchant number or bank account, "" for HIS
	Day      ledger.Day
}

// FileID names a file: equal bytes about the same slice are the same file,
// however often they are fed. The slice is part of it because two empty bills
// have equal bytes.
func FileID(s Slice, part Part, sum [sha256.Size]byte) int64 {
	canon := make([]byte, 0, 160)
	for _, field := range []string{string(s.Source), s.Hospital, s.Channel, s.Account, string(part)} {
		canon = appendText(canon, field)
	}
	canon = binary.BigEndian.AppendUint32(canon, uint32(s.Day))
	id := sha256.Sum256(append(canon, sum[:]...))
	return int64(binary.BigEndian.Uint64(id[:8]) >> 1)
}

// FeedLine is one row of a file. File and Row name it for ever; exactly one of
// the four bodies is set, the one of its slice's source.
type FeedLine struct {
	File      int64
	Row       int
	Slice     Slice
	Bill      *channels.BillLine
	Fund      *channels.FundLine
	HIS       *channels.HISLine
	Statement *channels.StatementLine
}

// Manifest closes a file: it says what the file is and what its lines add up to.
type Manifest struct {
	File         int64
	Slice        Slice
	Part         Part
	SHA256       [sha256.Size]byte // of the bytes as read, uncompressed
	Name         string
	Rows         int // rows of the file
	Lines        int // of them sent as lines
	Totals       Totals
	DigestPay    Digest
	DigestRefund Digest    // zero unless the source is a bill
	FedAt        time.Time // of two contents of one day the one fed later counts
}

// FeedRecord is one message of a feed: a line or a manifest.
type FeedRecord struct {
	Line     *FeedLine
	Manifest *Manifest
}

// ErrRecord is wrapped when a record cannot be stored whatever is tried: it
// goes to the dead letters.
var ErrRecord = errors.New("record cannot be stored")

func (s Slice) check() error {
	switch {
	case s.Hospital == "" && s.Source != SourceStatement: // the platform has accounts of its own
		return fmt.Errorf("%w: slice names no hospital", ErrRecord)
	case s.Day < 20000101 || s.Day > 29991231 || ledger.DayOf(s.Day.Start()) != s.Day:
		return fmt.Errorf("%w: day %d is no date", ErrRecord, s.Day)
	}
	var channel, account bool
	switch s.Source {
	case SourceBill, SourceFund:
		channel, account = true, true
	case SourceStatement:
		account = true
	case SourceHIS:
	default:
		return fmt.Errorf("%w: source %q is not known", ErrRecord, s.Source)
	}
	if (s.Channel != "") != channel {
		return fmt.Errorf("%w: channel %q does not fit source %s", ErrRecord, s.Channel, s.Source)
	}
	if (s.Account != "") != account {
		return fmt.Errorf("%w: account %q does not fit source %s", ErrRecord, s.Account, s.Source)
	}
	return nil
}

// Check says why a record can never be stored, or nil.
func (r FeedRecord) Check() error {
	switch {
	case (r.Line == nil) == (r.Manifest == nil):
		return fmt.Errorf("%w: neither a line nor a manifest", ErrRecord)
	case r.Line != nil:
		return r.Line.check()
	}
	return r.Manifest.check()
}

func (l *FeedLine) check() error {
	if err := l.Slice.check(); err != nil {
		return err
	}
	if l.File <= 0 || l.Row <= 0 {
		return fmt.Errorf("%w: line names file %d, row %d", ErrRecord, l.File, l.Row)
	}
	if l.source() != l.Slice.Source {
		return fmt.Errorf("%w: the body of the line does not fit source %s", ErrRecord, l.Slice.Source)
	}
	return nil
}

// source says of what source the body is, "" unless there is exactly one.
func (l *FeedLine) source() Source {
	var source Source
	bodies := 0
	for _, body := range [...]struct {
		set    bool
		source Source
	}{{l.Bill != nil, SourceBill}, {l.Fund != nil, SourceFund}, {l.HIS != nil, SourceHIS}, {l.Statement != nil, SourceStatement}} {
		if body.set {
			source = body.source
			bodies++
		}
	}
	if bodies != 1 {
		return ""
	}
	return source
}

func (m *Manifest) check() error {
	if err := m.Slice.check(); err != nil {
		return err
	}
	switch {
	case m.File <= 0:
		return fmt.Errorf("%w: manifest names file %d", ErrRecord, m.File)
	case m.File != FileID(m.Slice, m.Part, m.SHA256):
		return fmt.Errorf("%w: file %d is not made of its slice and bytes", ErrRecord, m.File)
	case m.Part != PartAll && m.Part != PartPay && m.Part != PartRefund:
		return fmt.Errorf("%w: part %q is not known", ErrRecord, m.Part)
	case m.Part != PartAll && m.Slice.Source != SourceBill:
		return fmt.Errorf("%w: only trade bills come in parts", ErrRecord)
	case m.Lines < 0 || m.Rows < m.Lines:
		return fmt.Errorf("%w: %d lines of %d rows", ErrRecord, m.Lines, m.Rows)
	case m.FedAt.IsZero():
		return fmt.Errorf("%w: manifest says not when the file was fed", ErrRecord)
	}
	return nil
}
