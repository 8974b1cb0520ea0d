package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// hurryAfter is how long a server that has lost its parent may take to end.
var hurryAfter = 10 * time.Second

// awaitVacant waits until no PostgreSQL process of an earlier run stands in the
// data directory, and hurries one that lingers. The caller holds the directory,
// so whoever stands there has lost its parent.
//
// A process that has died but is not yet reaped keeps its number in
// postmaster.pid, which would stop the next server. Nobody stands in the
// directory then, so the file is removed.
func awaitVacant(ctx context.Context, data string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	hurry := time.After(hurryAfter)
	for {
		lingering := inhabitants(data)
		if len(lingering) == 0 {
			return removePostmasterFile(data)
		}
		select {
		case <-hurry:
			for _, pid := range lingering {
				_ = syscall.Kill(pid, syscall.SIGQUIT) // immediate shutdown; recovery replays the log
			}
		case <-ctx.Done():
			return fmt.Errorf("%s is still used by process %d: %w", data, lingering[0], ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// inhabitants are the living processes whose working folder is data, which is
// true of every process of a PostgreSQL server.
func inhabitants(data string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	real, err := filepath.EvalSymlinks(data)
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if cwd, err := os.Readlink(filepath.Join("/proc", entry.Name(), "cwd")); err == nil && cwd == real {
			pids = append(pids, pid)
		}
	}
	return pids
}

// removePostmasterFile removes postmaster.pid unless its process lives and hides
// its folder from us; PostgreSQL then decides itself.
func removePostmasterFile(data string) error {
	lines := postmasterFile(data)
	if lines == nil {
		return nil
	}
	if pid, err := strconv.Atoi(lines[0]); err == nil && startOf(pid) != "" {
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); errors.Is(err, fs.ErrPermission) {
			return nil
		}
	}
	return os.Remove(filepath.Join(data, "postmaster.pid"))
}

// startOf identifies a living process beyond its number, which the system uses
// again: the boot and the clock tick at which it started. It is "" when no such
// process lives; one that only waits to be reaped does not live.
func startOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name in parentheses may hold spaces; after it come state (field 3)
	// and, 19 fields on, the start time (field 22).
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[19]
}
