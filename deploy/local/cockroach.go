package local

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Cockroach is a private CockroachDB node, a child of this process.
type Cockroach struct {
	child *child
	url   *url.URL
}

// findCockroach returns the binary named by COCKROACH_BINARY, else the one in
// PATH, else "".
func findCockroach() (string, error) {
	if path := os.Getenv("COCKROACH_BINARY"); path != "" {
		if !isFile(path) {
			return "", fmt.Errorf("COCKROACH_BINARY: %s is no file", path)
		}
		return path, nil
	}
	path, err := exec.LookPath("cockroach")
	if err != nil {
		return "", nil // none is no error: PostgreSQL is next
	}
	return path, nil
}

// StartCockroach starts a single node on loopback whose files stand in dir.
func StartCockroach(ctx context.Context, dir string) (*Cockroach, error) {
	binary, err := findCockroach()
	if err != nil {
		return nil, err
	}
	if binary == "" {
		return nil, errors.New("no cockroach binary: set COCKROACH_BINARY or put one into PATH")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	urlFile := filepath.Join(dir, "listening-url")
	if err := removeIfThere(urlFile); err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "start-single-node", "--insecure", "--store="+filepath.Join(dir, "store"),
		"--listen-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--listening-url-file="+urlFile)
	cmd.Dir = dir
	c := &Cockroach{}
	if c.child, err = startChild(cmd, filepath.Join(dir, "log"), syscall.SIGTERM); err != nil {
		return nil, err
	}
	if err := c.awaitReady(ctx, urlFile); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// awaitReady waits for the file that the node writes when it listens.
func (c *Cockroach) awaitReady(ctx context.Context, urlFile string) error {
	for {
		text, err := os.ReadFile(urlFile)
		if line := strings.TrimSpace(string(text)); err == nil && line != "" {
			c.url, err = url.Parse(line)
			return err
		}
		select {
		case <-c.child.done:
			return fmt.Errorf("CockroachDB ended while it started: %w\n%s", c.child.err, c.child.tail())
		case <-ctx.Done():
			return fmt.Errorf("CockroachDB is not ready: %w\n%s", ctx.Err(), c.child.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// URL names a database of this node, for its owner.
func (c *Cockroach) URL(database string) string {
	u := *c.url
	u.Path = "/" + database
	return u.String()
}

// Stop drains the node and ends it.
func (c *Cockroach) Stop() error { return c.child.stop(syscall.SIGTERM, 30*time.Second) }
