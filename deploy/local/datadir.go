package local

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// dataDir returns the absolute data directory, made when it is missing, and
// says on log which it is.
func (c Config) dataDir() (string, error) {
	dir, why := c.DataDir, ""
	if dir == "" {
		dir, why = defaultDir()
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := makeSearchable(dir); err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	// Whoever owns the folder could put other books into it.
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && c.DataDir == "" && int(stat.Uid) != os.Geteuid() {
		return "", fmt.Errorf("data directory %s belongs to another user: set CLEARWARD_DATA_DIR", dir)
	}
	fmt.Fprintf(c.Log, "data directory: %s%s\n", dir, why)
	return dir, nil
}

// defaultDir is the folder for state in the person's home. As root the home is
// usually closed to the database's user, so the system's folder takes its place.
func defaultDir() (dir, why string) {
	if state := os.Getenv("XDG_STATE_HOME"); state != "" {
		dir = filepath.Join(state, "clearward")
	} else if home, err := os.UserHomeDir(); err == nil {
		dir = filepath.Join(home, ".clearward")
	}
	server, found := serverUser()
	if dir != "" && (os.Geteuid() != 0 || found && searchable(dir, server.uid, server.gid)) {
		return dir, ""
	}
	if dir != "" {
		why = fmt.Sprintf(" (the database's user cannot enter %s)", dir)
	}
	for _, dir := range systemDirs {
		if makeSearchable(dir) == nil {
			return dir, why
		}
	}
	return filepath.Join(os.TempDir(), "clearward"), why
}

// systemDirs stand in for a home, in this order.
var systemDirs = []string{"/var/lib/clearward", fmt.Sprintf("/var/tmp/clearward-%d", os.Geteuid())}
