// Benchtable prints the figures of bench.json as a table into the README, between
// two marks, so that no figure there is ever typed.
//
//	go run ./deploy/benchtable bench.json README.md
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// The marks between which the table stands.
const (
	begin = "<!-- bench: make readme-bench prints what follows -->\n"
	end   = "<!-- /bench -->"
)

// figure is one measurement, as `clearward bench` writes it.
type figure struct {
	Name       string  `json:"name"`
	Value      float64 `json:"value"`
	Unit       string  `json:"unit"`
	RatioTo    string  `json:"ratio_to"`
	Ratio      float64 `json:"ratio"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	PeakRSSMiB float64 `json:"peak_rss_mib"`
	Note       string  `json:"note"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: benchtable bench.json README.md")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

func run(benchFile, readmeFile string) error {
	data, err := os.ReadFile(benchFile)
	if err != nil {
		return err
	}
	var figures []figure
	if err := json.Unmarshal(data, &figures); err != nil {
		return fmt.Errorf("%s: %w", benchFile, err)
	}
	readme, err := os.ReadFile(readmeFile)
	if err != nil {
		return err
	}
	text, err := insert(string(readme), table(figures))
	if err != nil {
		return fmt.Errorf("%s: %w", readmeFile, err)
	}
	return os.WriteFile(readmeFile, []byte(text), 0o644)
}

var errMarks = errors.New("the two marks of the benchmark table are not there")

// insert replaces what stands between the marks.
func insert(readme, table string) (string, error) {
	before, rest, ok := strings.Cut(readme, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", errMarks
	}
	return before + begin + table + end + after, nil
}

func table(figures []figure) string {
	var b strings.Builder
	b.WriteString("| name | figure | beside it | p50 / p99 ms | peak MiB | note |\n|---|---:|---:|---:|---:|---|\n")
	for _, f := range figures {
		ratio, delay, peak := "", "", ""
		if f.RatioTo != "" {
			ratio = fmt.Sprintf("%.2f × %s", f.Ratio, f.RatioTo)
		}
		if f.P99 != 0 {
			delay = fmt.Sprintf("%.1f / %.1f", f.P50, f.P99)
		}
		if f.PeakRSSMiB != 0 {
			peak = fmt.Sprintf("%.0f", f.PeakRSSMiB)
		}
		fmt.Fprintf(&b, "| `%s` | %s %s | %s | %s | %s | %s |\n", f.Name, thousands(f.Value), f.Unit, ratio, delay, peak, f.Note)
	}
	return b.String()
}

// thousands prints a figure so that it can be read at a glance: 12,345 or 6.78.
func thousands(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.2f", v)
	}
	digits := fmt.Sprintf("%.0f", v)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}
