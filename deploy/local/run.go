package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// runFile is run.json: what the process that holds a data directory tells the
// commands that come later.
type runFile struct {
	Database string   `json:"database"`
	Brokers  []string `json:"brokers"`
	API      string   `json:"api,omitempty"`
	PID      int      `json:"pid"`
	Started  string   `json:"started"` // of the process, so that a later one with the same pid is not taken for it
}

func runPath(dir string) string { return filepath.Join(dir, "run.json") }

// write replaces run.json in one step. It may hold a password, so only its
// owner may read it.
func (r runFile) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	fresh := runPath(dir) + ".new"
	if err := os.WriteFile(fresh, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, runPath(dir))
}

// readRun returns the run.json of a process that lives, or false.
func readRun(dir string) (runFile, bool) {
	var r runFile
	text, err := os.ReadFile(runPath(dir))
	if err != nil || json.Unmarshal(text, &r) != nil {
		return runFile{}, false
	}
	return r, r.Started != "" && startOf(r.PID) == r.Started
}

// lockDir takes the directory for this process, which the kernel gives back when
// the process ends, however it ends. It returns nil when another one has it.
func lockDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	if closing := lock.Close(); !errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", dir, errors.Join(err, closing))
	}
	return nil, nil
}
