package sandbox

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Restatement says what a restated bill changes.
type Restatement struct {
	File    string // the restated bill, relative to the run's folder
	Removed Case   // the row that is gone: matched before, now open
	Added   Case   // the row that nobody knows
}

// Restate writes a second edition of one WeChat trade bill into the folder
// "restated": one matched row is taken out and one that no platform knows put
// in. Both have the same amount and fee, so the bill's own totals and the fund
// bill stay right. The first edition stays where it is.
func Restate(dir string, plan *Plan) (*Restatement, error) {
	target := plan.Restatable
	if target == nil {
		return nil, fmt.Errorf("%w: the day has no row to take out", ErrConfig)
	}
	text, err := readMaybeGzip(filepath.Join(dir, target.File))
	if err != nil {
		return nil, err
	}
	order := target.OrderNo[:10] + "99999999"
	trade := target.TradeNo[:18] + "9999999999"
	restated := bytes.Replace(text, []byte("`"+target.TradeNo+",`"+target.OrderNo+","), []byte("`"+trade+",`"+order+","), 1)
	if bytes.Equal(restated, text) {
		return nil, fmt.Errorf("%w: %s has no row of %s", ErrConfig, target.File, target.OrderNo)
	}
	r := &Restatement{File: filepath.Join("restated", filepath.Base(target.File)), Removed: target.Case}
	r.Added = target.Case
	r.Added.Code, r.Added.Polarity, r.Added.OrderNo = "F1", "long", order
	r.Added.HisFen, r.Added.PlatformFen, r.Added.ChannelFen = nil, nil, r.Removed.PlatformFen
	r.Added.AmountFen = -r.Removed.AmountFen
	r.Added.Variant = "row put into the bill"
	path := filepath.Join(dir, r.File)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if strings.HasSuffix(path, ".gz") {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := w.Write(restated); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		restated = packed.Bytes()
	}
	return r, os.WriteFile(path, restated, 0o644)
}

// readMaybeGzip reads a whole bill: a test restates small days only.
func readMaybeGzip(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !strings.HasSuffix(path, ".gz") {
		return io.ReadAll(f)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
