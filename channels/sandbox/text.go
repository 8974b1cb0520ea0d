package sandbox

import (
	"strconv"

	"golang.org/x/text/encoding/simplifiedchinese"
)

const daySeconds = 24 * 60 * 60

// appendDigits appends n with leading zeros up to the width; a larger n is
// written whole.
func appendDigits(b []byte, n uint64, width int) []byte {
	var digits [20]byte
	text := strconv.AppendUint(digits[:0], n, 10)
	for i := len(text); i < width; i++ {
		b = append(b, '0')
	}
	return append(b, text...)
}

// appendYuan appends fen as yuan with two decimals.
func appendYuan(b []byte, fen int64) []byte {
	if fen < 0 {
		b, fen = append(b, '-'), -fen
	}
	b = strconv.AppendInt(b, fen/100, 10)
	return append(b, '.', byte('0'+fen%100/10), byte('0'+fen%10))
}

func yuan(fen int64) string { return string(appendYuan(nil, fen)) }

// appendTime appends "2026-09-15 08:30:00" for seconds from the first day's
// midnight.
func (g *generator) appendTime(b []byte, at int) []byte {
	b = append(b, g.dates[at/daySeconds]...)
	s := at % daySeconds
	h, m, s := s/3600, s/60%60, s%60
	return append(b, ' ', byte('0'+h/10), byte('0'+h%10), ':', byte('0'+m/10), byte('0'+m%10), ':', byte('0'+s/10), byte('0'+s%10))
}

func (g *generator) timeText(at int) string { return string(g.appendTime(nil, at)) }

// gbk is a text in the encoding of Alipay's files. Only the constant texts of
// this package are turned, all of which GBK has.
func gbk(text string) []byte {
	b, err := simplifiedchinese.GBK.NewEncoder().Bytes([]byte(text))
	if err != nil {
		panic("sandbox: " + text + " is not in GBK: " + err.Error())
	}
	return b
}
