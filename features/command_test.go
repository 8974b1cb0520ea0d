package features_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cucumber/godog"
)

// built is the program as a person runs it, built once for all tests.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func binary(t *testing.T) string {
	built.once.Do(func() {
		if built.dir, built.err = newFolder(); built.err == nil {
			built.err = run("go", "build", "-o", built.dir, "..")
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "clearward")
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// command is the last command line of a scenario.
type command struct {
	binary string
	output string
	code   int
}

func (h *house) commandSteps(t *testing.T, sc *godog.ScenarioContext) {
	sc.Step(`^用命令行在一个新的数据目录里建档$`, func() error {
		h.binary = binary(t)
		if err := h.execute("setup", h.file("setup.yaml")); err != nil {
			return err
		}
		return h.ended(0)
	})
	sc.Step(`^执行命令`+quoted+`$`, func(line string) error { return h.execute(strings.Fields(line)...) })
	sc.Step(`^执行命令`+quoted+`送`+docName+`$`, func(line, name string) error {
		return h.execute(append(strings.Fields(line), h.file(documents[name].name))...)
	})
	sc.Step(`^退出码为 (\d+)$`, h.ended)
	sc.Step(`^输出包含`+quoted+`$`, func(words string) error {
		if !strings.Contains(h.output, words) {
			return fmt.Errorf("it printed:\n%s", h.output)
		}
		return nil
	})
}

// execute runs one command to its end on the scenario's data directory.
func (h *house) execute(args ...string) error {
	cmd := exec.Command(h.binary, args...)
	cmd.Env = append(os.Environ(), "CLEARWARD_DATA_DIR="+filepath.Join(h.dir, "data"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	h.output, h.code = out.String(), cmd.ProcessState.ExitCode()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return nil
	}
	return err
}

func (h *house) ended(code int) error {
	if h.code != code {
		return fmt.Errorf("exit code %d, it printed:\n%s", h.code, h.output)
	}
	return nil
}
