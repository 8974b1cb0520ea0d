package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/clearward/clearward/channels/sandbox/journal"
)

// open opens the file and returns what it replayed.
func open(t *testing.T, path string) (*journal.Journal, []string) {
	t.Helper()
	var seen []string
	j, err := journal.Open(path, journal.Kinds{"n": journal.Of(func(n int) error {
		seen = append(seen, fmt.Sprint("n", n))
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	return j, seen
}

func put(t *testing.T, j *journal.Journal, n int) {
	t.Helper()
	j.Keep("n", n)
	if err := j.Durable(); err != nil {
		t.Error(err)
	}
}

func TestWhatWasWaitedForIsThereAgainInItsOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := open(t, path)
	for n := range 3 {
		put(t, j, n)
	}
	// Not closed: a second process reads what the first one left.
	again, seen := open(t, path)
	if !slices.Equal(seen, []string{"n0", "n1", "n2"}) {
		t.Errorf("replayed %v", seen)
	}
	if err := errors.Join(again.Close(), j.Close()); err != nil {
		t.Error(err)
	}
}

func TestATornEndIsCutOffAndTheRestStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := open(t, path)
	put(t, j, 1)
	put(t, j, 22)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(whole, '\n') + 1
	for cut := first; cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, seen := open(t, path)
		put(t, j, 3)
		if err := j.Close(); err != nil || !slices.Equal(seen, []string{"n1"}) {
			t.Fatalf("cut at %d: replayed %v, %v", cut, seen, err)
		}
		j, seen = open(t, path)
		if err := j.Close(); err != nil || !slices.Equal(seen, []string{"n1", "n3"}) {
			t.Fatalf("cut at %d, then one more: replayed %v, %v", cut, seen, err)
		}
	}
}

func TestADamagedRecordBeforeTheLastIsNotPassedOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := open(t, path)
	put(t, j, 1)
	put(t, j, 2)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole[bytes.IndexByte(whole, '\n')-1] = '7'
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Open(path, journal.Kinds{"n": journal.Of(func(int) error { return nil })}); !errors.Is(err, journal.ErrDamaged) {
		t.Errorf("err = %v", err)
	}
}

func TestARecordOfAnotherKindIsNotPassedOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := open(t, path)
	put(t, j, 1)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := journal.Open(path, journal.Kinds{"m": journal.Of(func(int) error { return nil })}); !errors.Is(err, journal.ErrKind) {
		t.Errorf("err = %v", err)
	}
}

func TestBooksThatCannotFollowAnswerNobodyAnyMore(t *testing.T) {
	j, _ := open(t, filepath.Join(t.TempDir(), "journal"))
	behind := errors.New("behind")
	j.Fail(nil)
	put(t, j, 1)
	j.Fail(behind)
	j.Keep("n", 2)
	if err := j.Durable(); !errors.Is(err, behind) {
		t.Errorf("after the books failed: %v", err)
	}
	other, _ := open(t, filepath.Join(t.TempDir(), "journal"))
	other.Keep("n", func() {}) // no JSON
	if err := other.Durable(); err == nil {
		t.Error("a record was lost, and nobody was told")
	}
	if err := errors.Join(j.Close(), other.Close()); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnceLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := open(t, path)
	var all sync.WaitGroup
	for worker := range 16 {
		all.Go(func() {
			for n := range 50 {
				put(t, j, worker*50+n)
			}
		})
	}
	all.Wait()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	_, seen := open(t, path)
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 800 || seen[0] != fmt.Sprint("n", 0) {
		t.Errorf("%d records", len(seen))
	}
}
