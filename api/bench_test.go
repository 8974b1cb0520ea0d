package api

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tinyBench measures next to nothing: what is tested is that every measurement
// runs and says what it is.
var tinyBench = benchSize{rounds: 1, span: 50 * time.Millisecond, scale: 1, accounts: 200, callers: 4,
	full: 3000, copied: 16_000, bill: 500, match: 2000, days: []int{700, 900}, volatile: true}

func TestBenchWritesEveryFigureWithWhatItIsHeldAgainst(t *testing.T) {
	out := filepath.Join(t.TempDir(), "bench.json")
	var log bytes.Buffer
	if err := Bench(t.Context(), BenchOptions{Quick: true, Out: out, Log: &log, size: &tinyBench}); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var figures []Figure
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&figures); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range figures {
		names = append(names, f.Name)
		measured := f.Name != "ref.tpcb" || !strings.Contains(f.Note, "not measured")
		if measured && (f.Value <= 0 || f.Unit == "" || f.Note == "" || f.PeakRSSMiB <= 0) {
			t.Errorf("not well formed: %+v", f)
		}
		if (f.RatioTo == "") != (f.Ratio == 0) || f.RatioTo != "" && !slices.Contains(names, f.RatioTo) {
			t.Errorf("a ratio to nothing: %+v", f)
		}
		if !strings.Contains(log.String(), f.Name) {
			t.Errorf("%s is not printed", f.Name)
		}
	}
	want := []string{"ref.scan", "parse.wechat", "ref.tpcb", "ref.copy", "ref.naive", "ref.naive.hot", "post.go.c64", "post.go.hot",
		"post.go.full", "post.go.full.rows", "post.rpc.c64", "post.rpc.bulk100", "pay.rpc", "pay.rpc.rsa", "ref.join", "match.unsorted", "recon.day.small", "recon.day"}
	if !slices.Equal(names, want) {
		t.Errorf("figures %v, want %v", names, want)
	}
	if testing.Verbose() {
		t.Log(log.String())
	}
}
