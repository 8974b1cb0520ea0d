package live_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
)

// keysOfAll is a folder with the keys of the merchant numbers of these tests, made
// once: they take longer than most tests.
var keysOfAll string

func TestMain(m *testing.M) {
	code, err := withKeys(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withKeys(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "clearward-keys-*")
	if err != nil {
		return 1, err
	}
	defer func() {
		if removed := os.RemoveAll(dir); err == nil {
			err = removed
		}
	}()
	c := config(dir, time.Now)
	c.Merchants = append(c.Merchants, live.Merchant{No: aliNo, Channel: channels.Alipay, Apps: []string{aliApp}, FeeRate: "0.006"})
	s, err := live.Start(c)
	if err != nil {
		return 1, err
	}
	if err := s.Close(); err != nil {
		return 1, err
	}
	keysOfAll = filepath.Join(dir, "keys")
	return m.Run(), nil
}
