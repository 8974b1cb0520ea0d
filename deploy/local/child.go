package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// child is a server process that never outlives us: the kernel signals it when
// we die, also by kill -9.
type child struct {
	cmd  *exec.Cmd
	log  string        // file with what it printed
	done chan struct{} // closed when it has ended
	err  error         // why it ended; read after done
}

// startChild runs cmd with its output in the file log (the one before is kept
// as log.1) and death as the signal it gets when we die.
func startChild(cmd *exec.Cmd, log string, death syscall.Signal) (*child, error) {
	_ = os.Rename(log, log+".1")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // a Ctrl-C on the terminal is for us, we stop it in order
	cmd.SysProcAttr.Pdeathsig = death
	c := &child{cmd: cmd, log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal follows the thread that forked, so this thread is
		// kept until the child has ended.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// stop asks with sig, waits, and kills a child that does not listen.
func (c *child) stop(sig syscall.Signal, patience time.Duration) error {
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(patience):
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	return fmt.Errorf("%s did not stop within %s and was killed", c.cmd.Path, patience)
}

// tail returns the end of what the child printed, for error messages.
func (c *child) tail() string {
	f, err := os.Open(c.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	const keep = 2000
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-keep), io.SeekStart)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}
