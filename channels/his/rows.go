package his

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
)

func (d *reader) readCSV(text []byte) error {
	values, err := d.splitCSV(text)
	if err != nil {
		return err
	}
	if len(values) != d.cols.Len() {
		return d.refuse("", "the row has %d values under %d columns", len(values), d.cols.Len())
	}
	for slot := range d.row {
		d.row[slot] = ""
		if d.cols.Has(slot) {
			d.row[slot] = values[d.cols.At(slot)]
		}
	}
	return nil
}

// splitCSV cuts a line at its commas. A value may stand in double quotes, with a
// quote inside doubled; a line end inside a value is not read.
func (d *reader) splitCSV(line []byte) ([]string, error) {
	rest, values := string(line), d.values[:0]
	for {
		value, more := "", false
		if strings.HasPrefix(rest, `"`) {
			end := 1
			for end < len(rest) && (rest[end] != '"' || (end+1 < len(rest) && rest[end+1] == '"')) {
				if rest[end] == '"' {
					end++
				}
				end++
			}
			if end >= len(rest) || (end+1 < len(rest) && rest[end+1] != ',') {
				return nil, d.refuse("", "a quote is not closed before the end of the value")
			}
			value = strings.ReplaceAll(rest[1:end], `""`, `"`)
			more = end+1 < len(rest)
			rest = strings.TrimPrefix(rest[end+1:], ",")
		} else {
			value, rest, more = strings.Cut(rest, ",")
		}
		values = append(values, value)
		if !more {
			d.values = values
			return values, nil
		}
	}
}

// readJSON reads one flat object with the names of the columns as fields. Token
// by token: the same field twice, or in other letters, must not pass.
func (d *reader) readJSON(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	bad := func(err error) error { return d.refuse("", "the row is no flat JSON object (%v)", err) }
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return bad(err)
	}
	d.row = [hisCols]string{}
	var has [hisCols]bool
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return bad(err)
		}
		value, err := dec.Token()
		if err != nil {
			return bad(err)
		}
		name, _ := key.(string)
		slot := slotOf(name)
		switch {
		case slot < 0:
			return d.refuse(strconv.Quote(name), "unknown field: the layout is not one that can be read")
		case has[slot]:
			return d.refuse(name, "the field is there twice")
		}
		has[slot] = true
		switch v := value.(type) {
		case nil:
		case string:
			d.row[slot] = v
		case json.Number:
			d.row[slot] = v.String()
		default:
			return d.refuse(name, "a value is a text or a number")
		}
	}
	if _, err := dec.Token(); err != nil {
		return bad(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return bad(errors.New("something follows the object"))
	}
	for _, slot := range needed {
		if !has[slot] {
			return d.refuse(hisColumns[slot].Name, "the field is missing")
		}
	}
	return nil
}

func slotOf(name string) int {
	for _, c := range hisColumns {
		if c.Name == name {
			return c.Slot
		}
	}
	return -1
}
