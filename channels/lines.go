package channels

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// MaxLine is the longest line of a text file, in bytes. It bounds the memory of
// every reader, whatever the file's size.
const MaxLine = 256 << 10

// Lines reads a text file line by line through one buffer. A byte order mark at
// the start is dropped, lines end in LF or CRLF.
type Lines struct {
	src        io.Reader
	buf        []byte
	start, end int
	text       []byte
	number     int
	ended      bool
	err        error
}

// NewLines returns a reader of the lines of r.
func NewLines(r io.Reader) *Lines {
	return &Lines{src: r, buf: make([]byte, MaxLine/4)}
}

// Next moves to the next line and says whether there is one.
func (l *Lines) Next() bool {
	searched := 0
	for {
		if i := bytes.IndexByte(l.buf[l.start+searched:l.end], '\n'); i >= 0 {
			i += searched
			l.take(l.buf[l.start:l.start+i], true)
			l.start += i + 1
			return true
		}
		searched = l.end - l.start
		switch {
		case l.err != nil && (l.err != io.EOF || searched == 0):
			return false
		case l.err == io.EOF:
			l.take(l.buf[l.start:l.end], false)
			l.start = l.end
			return true
		case searched == MaxLine:
			l.err = Refuse(l.number+1, "", "a line has at most %d bytes", MaxLine)
			return false
		}
		l.fill()
	}
}

func (l *Lines) take(text []byte, ended bool) {
	if l.number == 0 {
		text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	}
	if n := len(text); n > 0 && text[n-1] == '\r' {
		text = text[:n-1]
	}
	l.text, l.ended = text, ended
	l.number++
}

func (l *Lines) fill() {
	if l.start > 0 {
		copy(l.buf, l.buf[l.start:l.end])
		l.end -= l.start
		l.start = 0
	}
	if l.end == len(l.buf) {
		l.buf = append(l.buf, make([]byte, MaxLine-len(l.buf))...)
	}
	for range 100 {
		n, err := l.src.Read(l.buf[l.end:])
		l.end += n
		if err != nil {
			l.err = err
		}
		if n > 0 || err != nil {
			return
		}
	}
	l.err = io.ErrNoProgress
}

// Text returns the line without its line end. It is valid until Next.
func (l *Lines) Text() []byte { return l.text }

// Number returns the line's number, from 1.
func (l *Lines) Number() int { return l.number }

// Ended says whether the line had its line end: the last line of a file that was
// cut off has none.
func (l *Lines) Ended() bool { return l.ended }

// Err returns why Next found no more lines, nil at the end of the file.
func (l *Lines) Err() error {
	var refused *FileError
	switch {
	case l.err == nil || l.err == io.EOF:
		return nil
	case errors.As(l.err, &refused):
		return l.err
	}
	return fmt.Errorf("reading after line %d: %w", l.number, l.err)
}

// Rest checks that only empty lines are left.
func (l *Lines) Rest() error {
	for l.Next() {
		if len(l.text) > 0 {
			return Refuse(l.number, "", "nothing may follow the last line of the file's own totals")
		}
	}
	return l.Err()
}

// Gunzip returns r, unpacked where it starts with the two magic bytes of gzip.
func Gunzip(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r) // small: larger reads go past its buffer
	magic, err := b.Peek(2)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading: %w", err)
	}
	if len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return b, nil
	}
	packed, err := gzip.NewReader(b)
	if err != nil {
		return nil, gzipError(err)
	}
	return &unpacked{packed}, nil
}

type unpacked struct{ gzip *gzip.Reader }

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.gzip.Read(p)
	return n, gzipError(err)
}

// gzipError turns the ways in which gzip data can be bad into a refusal; io.EOF
// and the errors of the source stay what they are.
func gzipError(err error) error {
	var corrupt flate.CorruptInputError
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) ||
		errors.Is(err, gzip.ErrHeader) || errors.As(err, &corrupt) {
		return Refuse(0, "", "the gzip data are cut off or damaged (%v)", err)
	}
	return err
}
