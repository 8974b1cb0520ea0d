package his

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
)

// manifest is the form of FILE.manifest.json.
type manifest struct {
	Hospital  string `json:"hospital"`
	Day       string `json:"day"`
	Rows      *int   `json:"rows"`
	PayFen    *int64 `json:"pay_fen"`
	RefundFen *int64 `json:"refund_fen"`
	SHA256    string `json:"sha256"`
}

// ReadManifest reads FILE.manifest.json, {"hospital": "H1", "day": "2026-09-15",
// "rows": 52, "pay_fen": …, "refund_fen": …, "sha256": "…"}, of which rows, pay_fen
// and refund_fen must be there, and adds it to what is known of the file.
func ReadManifest(r io.Reader, want channels.Expect) (channels.Expect, error) {
	var m manifest
	dec := json.NewDecoder(io.LimitReader(r, 64<<10))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return want, refuseManifest("", fmt.Sprintf("is no JSON object with hospital, day, rows, pay_fen, refund_fen, sha256 (%v)", err))
	}
	if m.Rows == nil || m.PayFen == nil || m.RefundFen == nil {
		return want, refuseManifest("", "rows, pay_fen and refund_fen must be there")
	}
	sum := ledger.Money(*m.PayFen - *m.RefundFen)
	if want.Counted && (want.Rows != *m.Rows || want.Sum != sum) {
		return want, refuseManifest("rows", fmt.Sprintf("says %d rows and %d fen, the command %d and %d", *m.Rows, int64(sum), want.Rows, int64(want.Sum)))
	}
	want.Counted, want.Rows, want.Sum = true, *m.Rows, sum
	if m.Hospital != "" {
		if want.Hospital != "" && want.Hospital != m.Hospital {
			return want, refuseManifest("hospital", fmt.Sprintf("is of hospital %q, expected was %s", m.Hospital, want.Hospital))
		}
		want.Hospital = m.Hospital
	}
	if m.Day != "" {
		day, err := ledger.ParseDay(m.Day)
		if err != nil {
			return want, refuseManifest("day", err.Error())
		}
		if want.Day != 0 && want.Day != day {
			return want, refuseManifest("day", fmt.Sprintf("is of %s, expected was %s", day, want.Day))
		}
		want.Day = day
	}
	if m.SHA256 != "" {
		want.SHA256 = m.SHA256
	}
	return want, nil
}

func refuseManifest(field, rule string) error {
	return &channels.FileError{File: "manifest", Column: field, Rule: rule}
}
