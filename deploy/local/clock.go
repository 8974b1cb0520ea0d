package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// ErrClock is wrapped where a shared clock cannot be had.
var ErrClock = errors.New("shared clock")

// clockMark is how a clock's file begins; after it stand eight bytes, the distance
// from the machine's time in nanoseconds.
const clockMark = "CWCLOCK1"

// Clock is a time that several processes share: the machine's, shifted by as much
// as a file says. It runs at the machine's pace and jumps for all of them at once.
type Clock struct {
	mapped []byte
	shift  *int64
}

// OpenClock opens the clock of that file, which is made where it is missing and
// then tells the machine's time.
func OpenClock(path string) (*Clock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClock, err)
	}
	defer file.Close()
	var head [16]byte
	if n, _ := file.ReadAt(head[:], 0); n == 0 {
		copy(head[:], clockMark)
		binary.NativeEndian.PutUint64(head[8:], 0)
		if _, err := file.WriteAt(head[:], 0); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrClock, err)
		}
	} else if n < len(head) || string(head[:8]) != clockMark {
		return nil, fmt.Errorf("%w: %s is no clock", ErrClock, path)
	}
	mapped, err := syscall.Mmap(int(file.Fd()), 0, len(head), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClock, err)
	}
	return &Clock{mapped: mapped, shift: (*int64)(unsafe.Pointer(&mapped[8]))}, nil
}

// ClockFromEnv returns the clock that CLEARWARD_CLOCK names, or nil where it names
// none: then the time is the machine's.
func ClockFromEnv(getenv func(string) string) (*Clock, error) {
	path := getenv("CLEARWARD_CLOCK")
	if path == "" {
		return nil, nil
	}
	return OpenClock(path)
}

// Now is the shared time. A nil clock tells the machine's.
func (c *Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	return time.Now().Add(time.Duration(atomic.LoadInt64(c.shift)))
}

// Set makes it t for every process.
func (c *Clock) Set(t time.Time) error {
	if c == nil {
		return fmt.Errorf("%w: this process has none (CLEARWARD_CLOCK)", ErrClock)
	}
	atomic.StoreInt64(c.shift, int64(time.Until(t)))
	return nil
}

// Close lets go of the file, whose clock stands for the other processes.
func (c *Clock) Close() error {
	if c == nil {
		return nil
	}
	return syscall.Munmap(c.mapped)
}
