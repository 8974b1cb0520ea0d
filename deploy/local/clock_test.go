package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/clearward/clearward/deploy/local"
)

func TestAClockJumpsForAllWhoShareItAndRunsOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	one, err := local.OpenClock(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := local.ClockFromEnv(func(string) string { return path })
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(other.Now()).Abs(); d > time.Minute {
		t.Errorf("a new clock is %s from the machine's", d)
	}
	day := time.Date(2026, 9, 15, 0, 0, 0, 0, time.UTC)
	if err := one.Set(day); err != nil {
		t.Fatal(err)
	}
	first := other.Now()
	if d := first.Sub(day); d < 0 || d > time.Minute {
		t.Errorf("the other clock says %s", first)
	}
	if second := other.Now(); !second.After(first) {
		t.Errorf("it stands still at %s", second)
	}
	if err := errors.Join(one.Close(), other.Close()); err != nil {
		t.Error(err)
	}
}

func TestAFileThatIsNoClockIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes")
	if err := os.WriteFile(path, []byte("something of ours, long enough"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.OpenClock(path); !errors.Is(err, local.ErrClock) {
		t.Errorf("err = %v", err)
	}
}
