package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestTheTableStandsBetweenTheMarks(t *testing.T) {
	dir := t.TempDir()
	bench, readme := filepath.Join(dir, "bench.json"), filepath.Join(dir, "README.md")
	write(t, bench, `[{"name": "post.go.c64", "value": 19123.4, "unit": "entries/s", "ratio_to": "tpcb", "ratio": 3.456, "p50_ms": 3.3, "p99_ms": 5.4},
		{"name": "recon.day", "value": 12.5, "unit": "s", "peak_rss_mib": 300.4, "note": "0.6 M lines"}]`)
	write(t, readme, "above\n"+begin+"old\n"+end+"\nbelow\n")
	want := "above\n" + begin + `| name | figure | beside it | p50 / p99 ms | peak MiB | note |
|---|---:|---:|---:|---:|---|
| ` + "`post.go.c64`" + ` | 19,123 entries/s | 3.46 × tpcb | 3.3 / 5.4 |  |  |
| ` + "`recon.day`" + ` | 12.50 s |  |  | 300 | 0.6 M lines |
` + end + "\nbelow\n"
	for range 2 { // again changes nothing
		if err := run(bench, readme); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(readme); err != nil || string(got) != want {
			t.Errorf("the README is\n%s\nwant\n%s (%v)", got, want, err)
		}
	}
	write(t, readme, "no marks")
	if err := run(bench, readme); !errors.Is(err, errMarks) {
		t.Errorf("without marks: %v", err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
