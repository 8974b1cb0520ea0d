package ledger

import (
	"errors"
	"fmt"
	"math"

	"github.com/shopspring/decimal"
)

// Money is an amount of Chinese yuan in integer fen (1 yuan = 100 fen). It is
// signed: differences and net sums may be negative, a posting may not.
type Money int64

// ErrMoney is wrapped by every error about the form or the range of an amount.
var ErrMoney = errors.New("not an amount")

// ParseYuan reads yuan text with at most two decimals that are not zero:
// "12.50", "-0.02", "7", and the five-decimal fee columns of WeChat bills such
// as "0.08000". Anything below a fen, a sign without digits, a thousands
// separator or an exponent is refused: an amount is never rounded on the way in.
func ParseYuan[T ~string | ~[]byte](text T) (Money, error) {
	i, negative := 0, false
	if i < len(text) && (text[i] == '-' || text[i] == '+') {
		negative = text[i] == '-'
		i++
	}
	var fen int64
	digits, decimals := 0, -1
	for ; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '.' && decimals < 0 && digits > 0:
			decimals = 0
			continue
		case c < '0' || c > '9':
			return 0, fmt.Errorf("%w: %q is not yuan with two decimals", ErrMoney, string(text))
		case decimals >= 2 && c != '0':
			return 0, fmt.Errorf("%w: %q has a part smaller than one fen", ErrMoney, string(text))
		case decimals >= 2:
			decimals++
			continue
		}
		if fen > (math.MaxInt64/100-9)/10 {
			return 0, fmt.Errorf("%w: %q is too large", ErrMoney, string(text))
		}
		fen = fen*10 + int64(c-'0')
		digits++
		if decimals >= 0 {
			decimals++
		}
	}
	if digits == 0 || decimals == 0 {
		return 0, fmt.Errorf("%w: %q is not yuan with two decimals", ErrMoney, string(text))
	}
	for d := max(decimals, 0); d < 2; d++ {
		fen *= 10
	}
	if negative {
		fen = -fen
	}
	return Money(fen), nil
}

// String prints yuan with two decimals and no separator: "-1234.05".
func (m Money) String() string {
	sign, abs := "", uint64(m)
	if m < 0 {
		sign, abs = "-", -uint64(m)
	}
	return fmt.Sprintf("%s%d.%02d", sign, abs/100, abs%100)
}

// Add returns m + n, or an error where the sum leaves 64 bits.
func (m Money) Add(n Money) (Money, error) {
	sum := m + n
	if (n > 0 && sum < m) || (n < 0 && sum > m) {
		return 0, fmt.Errorf("%w: %d + %d fen leaves 64 bits", ErrMoney, m, n)
	}
	return sum, nil
}

// Abs returns the amount without its sign.
func (m Money) Abs() Money {
	if m < 0 {
		return -m
	}
	return m
}

// Times returns m × rate rounded half-up (away from zero) to the fen, which is
// how WeChat and Alipay round the fee of one row (spec/channels.md H).
func (m Money) Times(rate decimal.Decimal) Money {
	return Money(decimal.NewFromInt(int64(m)).Mul(rate).Round(0).IntPart())
}

// Split divides m by weights so that the parts sum to m exactly: each part is
// rounded towards zero and the fen left over go one by one to the first parts.
// It panics on negative weights or weights that sum to zero, which only a
// programmer can cause.
func (m Money) Split(weights ...int64) []Money {
	var total int64
	for _, w := range weights {
		if w < 0 {
			panic("ledger: Split with a negative weight")
		}
		total += w
	}
	if total == 0 {
		panic("ledger: Split with weights that sum to zero")
	}
	parts, left := make([]Money, len(weights)), m
	for i, w := range weights {
		share := decimal.NewFromInt(int64(m)).Mul(decimal.NewFromInt(w)).Div(decimal.NewFromInt(total))
		parts[i] = Money(share.Truncate(0).IntPart())
		left -= parts[i]
	}
	for i := 0; left != 0; i = (i + 1) % len(parts) {
		if weights[i] == 0 {
			continue
		}
		step := Money(1)
		if left < 0 {
			step = -1
		}
		parts[i] += step
		left -= step
	}
	return parts
}
