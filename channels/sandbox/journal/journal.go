// Package journal keeps what a sandbox process must not forget in an append-only
// file: one line a record, with its check sum, on disk before anybody is answered.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

// ErrDamaged is wrapped where a record before the last one cannot be read: that is
// no torn end of a killed process, and the file is not to be trusted.
var ErrDamaged = errors.New("journal damaged")

// ErrKind is wrapped where a record is of a kind that the books do not have.
var ErrKind = errors.New("journal has a record of another kind")

// Kinds says for each kind of record how it is let stand at start: see Of.
type Kinds map[string]func(body []byte) error

// Of reads a record into its type before it is let stand.
func Of[T any](apply func(T) error) func(body []byte) error {
	return func(body []byte) error {
		var record T
		if err := json.Unmarshal(body, &record); err != nil {
			return err
		}
		return apply(record)
	}
}

// Journal is one open file. Its methods may be called by many at once; the order
// of the records is the order of the calls of Keep.
type Journal struct {
	file *os.File

	mu       sync.Mutex
	ready    *sync.Cond
	pending  []byte // kept, not yet handed to the disk
	appended int64  // bytes ever kept
	durable  int64  // bytes that are on disk
	err      error  // of the disk: nothing is acknowledged after it
	failed   error  // of the books: nor after this
	closing  bool
	done     chan struct{}
}

// Open reads the file, which is made where it is missing, lets every record stand
// in order and opens it for more. A last line that was torn by a kill is cut off:
// nobody was answered for it.
func Open(path string, kinds Kinds) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	whole, err := read(file, kinds)
	if err == nil {
		err = file.Truncate(whole)
	}
	if err == nil {
		_, err = file.Seek(whole, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), file.Close())
	}
	j := &Journal{file: file, appended: whole, durable: whole, done: make(chan struct{})}
	j.ready = sync.NewCond(&j.mu)
	go j.run()
	return j, nil
}

// read lets the whole lines stand and returns where they end.
func read(file *os.File, kinds Kinds) (int64, error) {
	in := bufio.NewReaderSize(file, 1<<20)
	var whole int64
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return whole, nil // line is empty, or torn
		}
		if err != nil {
			return 0, err
		}
		kind, body, ok := parse(line)
		if !ok {
			if _, err := in.Peek(1); err == io.EOF {
				return whole, nil
			}
			return 0, fmt.Errorf("%w: line %d", ErrDamaged, number)
		}
		apply := kinds[kind]
		if apply == nil {
			return 0, fmt.Errorf("%w: line %d: %q", ErrKind, number, kind)
		}
		if err := apply(body); err != nil {
			return 0, fmt.Errorf("line %d: %w", number, err)
		}
		whole += int64(len(line))
	}
}

// parse reads "crc kind json\n".
func parse(line []byte) (kind string, body []byte, ok bool) {
	sum, rest, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if !ok || string(sum) != check(rest) {
		return "", nil, false
	}
	name, body, ok := bytes.Cut(rest, []byte(" "))
	return string(name), body, ok
}

func check(rest []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(rest)) }

// Keep writes a record behind all earlier ones, without waiting for the disk. One
// that cannot be kept makes every later Durable fail. The kind is one word.
func (j *Journal) Keep(kind string, record any) {
	body, err := json.Marshal(record)
	if err != nil {
		j.Fail(fmt.Errorf("journal: %w", err))
		return
	}
	rest := append(append([]byte(kind), ' '), body...)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return
	}
	before := len(j.pending)
	j.pending = fmt.Appendf(j.pending, "%s %s\n", check(rest), rest)
	j.appended += int64(len(j.pending) - before)
	j.ready.Broadcast()
}

// Fail makes every later Durable fail, unless err is nil: books that cannot follow
// their journal answer nobody.
func (j *Journal) Fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed == nil {
		j.failed = err
	}
}

// Durable returns once everything that was kept is on disk. Those who wait at the
// same time share one fsync.
func (j *Journal) Durable() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for position := j.appended; j.durable < position && j.err == nil; {
		j.ready.Wait()
	}
	return errors.Join(j.failed, j.err)
}

// run hands what has gathered to the disk, again and again.
func (j *Journal) run() {
	defer close(j.done)
	var batch []byte
	for {
		j.mu.Lock()
		for len(j.pending) == 0 && !j.closing && j.err == nil {
			j.ready.Wait()
		}
		if len(j.pending) == 0 || j.err != nil {
			j.mu.Unlock()
			return
		}
		batch, j.pending = j.pending, batch[:0]
		j.mu.Unlock()
		_, err := j.file.Write(batch)
		if err == nil {
			err = j.file.Sync()
		}
		j.mu.Lock()
		if j.durable += int64(len(batch)); err != nil {
			j.err = fmt.Errorf("journal: %w", err)
		}
		j.ready.Broadcast()
		j.mu.Unlock()
	}
}

// Close writes what is left and closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	j.closing = true
	j.ready.Broadcast()
	j.mu.Unlock()
	<-j.done
	return errors.Join(j.err, j.file.Close())
}
