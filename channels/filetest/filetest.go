// Package filetest is for the tests of the adapters that read files.
package filetest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
)

// Sample reads a file of the adapter's testdata.
func Sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Rows runs a reader and gathers what it emits.
func Rows[L any](read func(emit func(*L) error) (channels.FileSummary, error)) (rows []L, sum channels.FileSummary, err error) {
	sum, err = read(func(l *L) error {
		rows = append(rows, *l)
		return nil
	})
	return rows, sum, err
}

// Refused checks that err is the refusal of a file, and that it says the words.
// What names the case.
func Refused(t testing.TB, what string, err error, words ...string) {
	t.Helper()
	var f *channels.FileError
	if !errors.As(err, &f) {
		t.Errorf("%s: got %v, want the file refused", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: refusal %q does not say %q", what, err, w)
		}
	}
}
