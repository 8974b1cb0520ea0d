package ledger

import (
	"errors"
	"fmt"
	"time"
)

// Day is a business day in Beijing time, written as the number yyyymmdd: it is
// what files, bills, periods and sums are dated by. The zero Day is no day.
type Day int32

// ErrDay is wrapped by every error about a day that does not exist.
var ErrDay = errors.New("not a day")

// Beijing is the time zone of every business day. China has kept UTC+8 without
// daylight saving since 1991, so a fixed zone needs no zone file.
var Beijing = time.FixedZone("Asia/Shanghai", 8*60*60)

// DayOf returns the business day on which t falls.
func DayOf(t time.Time) Day {
	y, m, d := t.In(Beijing).Date()
	return Day(y*10000 + int(m)*100 + d)
}

// ParseDay reads "2026-09-15" or "20260915".
func ParseDay(text string) (Day, error) {
	for _, layout := range []string{time.DateOnly, "20060102"} {
		if t, err := time.ParseInLocation(layout, text, Beijing); err == nil {
			return DayOf(t), nil
		}
	}
	return 0, fmt.Errorf("%w: %q is not a date like 2026-09-15", ErrDay, text)
}

// Start returns the first instant of the day.
func (d Day) Start() time.Time {
	return time.Date(int(d)/10000, time.Month(int(d)/100%100), int(d)%100, 0, 0, 0, 0, Beijing)
}

// Add returns the day n calendar days later.
func (d Day) Add(n int) Day { return DayOf(d.Start().AddDate(0, 0, n)) }

// String prints "2026-09-15".
func (d Day) String() string {
	return fmt.Sprintf("%04d-%02d-%02d", int(d)/10000, int(d)/100%100, int(d)%100)
}

// Compact prints "20260915", the form in file names and numbers.
func (d Day) Compact() string { return fmt.Sprintf("%08d", int(d)) }
