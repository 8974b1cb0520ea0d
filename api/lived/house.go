package lived

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/clearward/clearward/api"
	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
)

// house is all that runs during the demo: database and broker in this process,
// sandbox and server as children that can be killed, and one clock for all.
type house struct {
	o       Options
	dir     string
	clock   *local.Clock
	stack   *local.Stack
	sandbox *child
	where   addresses

	app    businessApp
	mu     sync.Mutex
	server *child
	listen string // of the server, the same after every start

	keys    map[string]string // by principal
	factors map[string][]byte // secrets of second factors, by person
}

// addresses are where the sandbox answers.
type addresses struct {
	WeChat string `json:"wechat"`
	Alipay string `json:"alipay"`
	Bank   string `json:"bank"`
	HIS    string `json:"his"`
	Admin  string `json:"admin"`
}

// child is a process of this binary.
type child struct {
	cmd   *exec.Cmd
	lines chan string // of its standard output
	ended chan struct{}
	log   *os.File
}

// openHouse starts database, broker and sandbox, with the clock at that time.
func openHouse(ctx context.Context, o Options, dir string, at time.Time) (h *house, err error) {
	h = &house{o: o, dir: dir, keys: map[string]string{}, factors: map[string][]byte{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if h.listen, err = freePort(ctx); err != nil {
		return h, err
	}
	h.app.h = h
	if err = h.app.open(ctx); err != nil {
		return h, err
	}
	if h.clock, err = local.OpenClock(filepath.Join(dir, "clock")); err != nil {
		return h, err
	}
	if err = h.clock.Set(at); err != nil {
		return h, err
	}
	config := local.Config{DataDir: filepath.Join(dir, "stack"), Log: o.Config.Local.Log} // nothing of it is worth surviving a loss of power
	if h.stack, err = local.Start(ctx, config); err != nil {
		return h, err
	}
	path := filepath.Join(dir, "sandbox.yaml")
	if err = os.WriteFile(path, []byte(sandboxConfig()), 0o600); err != nil {
		return h, err
	}
	if h.sandbox, err = h.start("sandbox", "sandbox", "--dir", filepath.Join(dir, "sandbox"), "--config", path); err != nil {
		return h, err
	}
	err = h.sandbox.until(func(line string) bool { return json.Unmarshal([]byte(line), &h.where) == nil })
	return h, err
}

// freePort is an address of loopback that nobody uses: the channels are told of it
// before the server starts.
func freePort(ctx context.Context) (string, error) {
	door, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return door.Addr().String(), door.Close()
}

// config is how a process of this demo opens the program on the stack.
func (h *house) config(name string) api.Config {
	c := h.o.Config
	c.Local = local.Config{DataDir: filepath.Join(h.dir, name), DatabaseURL: h.stack.DatabaseURL, Brokers: strings.Join(h.stack.Brokers, ",")}
	c.Now, c.Master = h.clock.Now, "file:"+filepath.Join(h.dir, "master.key")
	return c
}

// start runs this binary with the house's environment.
func (h *house) start(name string, args ...string) (*child, error) {
	c := h.config(name)
	log, err := os.OpenFile(filepath.Join(h.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(h.o.Binary, args...)
	cmd.Env = append(os.Environ(), "CLEARWARD_DATA_DIR="+c.Local.DataDir, "CLEARWARD_DATABASE_URL="+c.Local.DatabaseURL,
		"CLEARWARD_KAFKA_BROKERS="+c.Local.Brokers, "CLEARWARD_MASTER_KEY="+c.Master, "CLEARWARD_CLOCK="+filepath.Join(h.dir, "clock"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	one := &child{cmd: cmd, lines: make(chan string, 64), ended: make(chan struct{}), log: log}
	go one.follow(out)
	return one, nil
}

// follow reads what the process prints, and notes its end.
func (c *child) follow(out io.Reader) {
	in := bufio.NewScanner(out)
	for in.Scan() {
		select {
		case c.lines <- in.Text():
		default: // nobody listens any more
		}
	}
	_ = c.cmd.Wait()  // how it ended is in its log, and it may have been killed
	_ = c.log.Close() // nothing of ours was written to it
	close(c.ended)
}

// startLimit is how long a child may take until it says that it is ready.
const startLimit = time.Minute

// until waits for a line of the process.
func (c *child) until(is func(line string) bool) error {
	for limit := time.After(startLimit); ; {
		select {
		case line := <-c.lines:
			if is(line) {
				return nil
			}
		case <-c.ended:
			return fmt.Errorf("%w: %v ended: see %s", ErrDemo, c.cmd.Args[1:], c.log.Name())
		case <-limit:
			return fmt.Errorf("%w: %v says nothing: see %s", ErrDemo, c.cmd.Args[1:], c.log.Name())
		}
	}
}

// stop ends the process with a signal and waits for its end.
func (c *child) stop(signal syscall.Signal) error {
	if c == nil {
		return nil
	}
	_ = c.cmd.Process.Signal(signal) // it may have ended by itself
	<-c.ended
	return nil
}

// serve starts the server, at the same address as before.
func (h *house) serve(ctx context.Context) error {
	one, err := h.start("server", "serve", "--listen", h.listen)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.server = one
	h.mu.Unlock()
	err = one.until(func(line string) bool {
		return strings.Contains(line, h.url())
	})
	if err != nil {
		return err
	}
	return h.ready(ctx)
}

// ready waits until the server answers.
func (h *house) ready(ctx context.Context) error {
	for ticker := time.NewTicker(20 * time.Millisecond); ; {
		answer, err := http.Get(h.url() + "/readyz")
		if err == nil {
			err = answer.Body.Close()
		}
		if err == nil && answer.StatusCode == http.StatusOK {
			ticker.Stop()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func (h *house) url() string { return "http://" + h.listen }

// kill ends the server as a loss of power of its process would, and starts it again.
func (h *house) kill(ctx context.Context) error {
	h.mu.Lock()
	one := h.server
	h.mu.Unlock()
	if err := one.stop(syscall.SIGKILL); err != nil {
		return err
	}
	return h.serve(ctx)
}

// peak is the most memory that a process has held, in MiB.
func peak(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // no such file on this system
	}
	var kib int
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			break
		}
	}
	return kib >> 10
}

// within opens the program in this process, beside the server, for what its
// operator does: setup, keys, and reading the books.
func (h *house) within(ctx context.Context, name string, do func(s *api.Server) error) error {
	s, err := api.Open(ctx, h.config(name))
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
}

// settle sets the hospitals up and gives everybody a key.
func (h *house) settle(ctx context.Context) error {
	if _, err := auth.MasterKey(h.dir); err != nil {
		return err
	}
	path := filepath.Join(h.dir, "setup.yaml")
	if err := os.WriteFile(path, []byte(h.setup()), 0o600); err != nil {
		return err
	}
	return h.within(ctx, "operator", func(s *api.Server) (err error) {
		if _, err := s.Setup(ctx, path); err != nil {
			return err
		}
		for _, p := range people {
			if h.keys[p.name], err = s.NewKey(ctx, p.name, p.role); err != nil {
				return err
			}
			if !p.factor {
				continue
			}
			address, err := s.EnrolFactor(ctx, p.name)
			if err == nil {
				h.factors[p.name], err = factorSecret(address)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// close ends everything.
func (h *house) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := errors.Join(h.server.stop(syscall.SIGTERM), h.sandbox.stop(syscall.SIGTERM), h.app.close())
	if h.stack != nil {
		err = errors.Join(err, h.stack.Close())
	}
	return errors.Join(err, h.clock.Close())
}

// at is a time of a day in Beijing.
func at(day ledger.Day, hour, minute, second int) time.Time {
	return day.Start().Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second)
}
