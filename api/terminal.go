package api

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/clearward/clearward/recon"
)

func pad(text string, n int) string { return text + strings.Repeat(" ", max(n-recon.Width(text), 0)) }

// table prints rows under their heads. A head that begins with ">" is a column
// of numbers, which stand to the right.
type table struct {
	heads []string
	rows  [][]string
}

func newTable(heads ...string) *table { return &table{heads: heads} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) {
	widths := make([]int, len(t.heads))
	heads := make([]string, len(t.heads))
	for i, head := range t.heads {
		heads[i] = strings.TrimPrefix(head, ">")
	}
	all := append([][]string{heads}, t.rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], recon.Width(cell))
		}
	}
	for _, row := range all {
		var line strings.Builder
		line.WriteString(" ")
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-recon.Width(cell))
			if strings.HasPrefix(t.heads[i], ">") {
				line.WriteString(" " + gap + cell)
			} else {
				line.WriteString(" " + cell + gap)
			}
			line.WriteString(" ")
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// Meter shows on a terminal how far a work has come, in one line that is written
// anew; where there is no terminal it is silent.
type Meter struct {
	out  io.Writer
	mu   sync.Mutex
	last time.Time
}

// NewMeter returns a Meter on out.
func NewMeter(out io.Writer) *Meter {
	if file, ok := out.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return &Meter{out: out}
		}
	}
	return &Meter{}
}

// redraw is how often the line is written at most.
const redraw = 100 * time.Millisecond

func (m *Meter) show(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out == nil || time.Since(m.last) < redraw {
		return
	}
	m.last = time.Now()
	fmt.Fprintf(m.out, "\r\x1b[K  "+format, args...)
}

// Count shows a number that grows.
func (m *Meter) Count(what string, done int) { m.show("%s %d", what, done) }

// Of shows a part of a known whole.
func (m *Meter) Of(what string) func(done, total int) {
	return func(done, total int) { m.show("%s %d / %d", what, done, total) }
}

// Clear takes the line away.
func (m *Meter) Clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out != nil && !m.last.IsZero() {
		fmt.Fprint(m.out, "\r\x1b[K")
		m.last = time.Time{}
	}
}
