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

// Journal is one open file. Its methods may be called by many at once; the order
// of the records is the order of the calls of Append.
type Journal struct {
	file *os.File

	mu       sync.Mutex
	ready    *sync.Cond
	pending  []byte // appended, not yet handed to the disk
	appended int64  // bytes ever appended
	durable  int64  // bytes that are on disk
	err      error  // of the disk: nothing is acknowledged after it
	closing  bool
	done     chan struct{}
}

// Open reads the file, which is made where it is missing, hands every record to
// replay in order and opens it for more. A last line that was torn by a kill is
// cut off: nobody was answered for it.
func Open(path string, replay func(kind string, body []byte) error) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	whole, err := read(file, replay)
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

// read replays the whole lines and returns where they end.
func read(file *os.File, replay func(kind string, body []byte) error) (int64, error) {
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
		if err := replay(kind, body); err != nil {
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

// Append writes a record behind all earlier ones, without waiting for the disk,
// and returns the position to give to Wait. The kind is one word.
func (j *Journal) Append(kind string, record any) (int64, error) {
	body, err := json.Marshal(record)
	if err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	rest := append(append([]byte(kind), ' '), body...)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return 0, j.err
	}
	before := len(j.pending)
	j.pending = fmt.Appendf(j.pending, "%s %s\n", check(rest), rest)
	j.appended += int64(len(j.pending) - before)
	j.ready.Broadcast()
	return j.appended, nil
}

// Position is that of the last record appended.
func (j *Journal) Position() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.appended
}

// Wait returns once everything up to the position is on disk. Those who wait at
// the same time share one fsync.
func (j *Journal) Wait(position int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.durable < position && j.err == nil {
		j.ready.Wait()
	}
	return j.err
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
