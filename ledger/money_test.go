package ledger

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

var anyMoney = rapid.Custom(func(t *rapid.T) Money { return Money(rapid.Int64().Draw(t, "fen")) })

func TestEveryAmountIsReadBackAsPrinted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Money(rapid.Int64Range(-9e16, 9e16).Draw(t, "fen"))
		zeros := strings.Repeat("0", rapid.IntRange(0, 3).Draw(t, "zeros"))
		if got, err := ParseYuan(m.String() + zeros); err != nil || got != m {
			t.Fatalf("%v%s is read as %v, %v", m, zeros, got, err)
		}
	})
}

func TestYuan(t *testing.T) {
	good := map[string]Money{
		"0": 0, "0.00": 0, "-0.00": 0, "7": 700, "+7.5": 750, "0.05": 5, "-0.02": -2, "0.08000": 8, "00012.50": 1250,
		"900000000000000.00": 9e16,
	}
	for text, want := range good {
		if got, err := ParseYuan([]byte(text)); err != nil || got != want {
			t.Errorf("%q is read as %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-", "+", ".", ".5", "5.", "1,000.00", "1e2", "0.001", "0.0801", "--1", "1.2.3", " 1", "1 ", "１", "¥1",
		"92233720368547758.08", "99999999999999999999", "1.00-", "0x10", "NaN"} {
		if got, err := ParseYuan(text); !errors.Is(err, ErrMoney) {
			t.Errorf("%q is read as %v, %v", text, got, err)
		}
	}
	for m, want := range map[Money]string{math.MinInt64: "-92233720368547758.08", math.MaxInt64: "92233720368547758.07", -5: "-0.05"} {
		if m.String() != want {
			t.Errorf("%d is printed as %v", int64(m), m)
		}
	}
}

func TestASumIsExactOrRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyMoney.Draw(t, "a"), anyMoney.Draw(t, "b")
		exact := new(big.Int).Add(big.NewInt(int64(a)), big.NewInt(int64(b)))
		got, err := a.Add(b)
		if exact.IsInt64() != (err == nil) || err == nil && int64(got) != exact.Int64() {
			t.Fatalf("%d + %d is %d, %v", a, b, got, err)
		}
	})
}

func TestPartsSumToTheWholeAndAreNearTheirShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Money(rapid.Int64Range(-1e15, 1e15).Draw(t, "fen"))
		weights := rapid.SliceOfN(rapid.Int64Range(0, 1e6), 1, 8).Draw(t, "weights")
		var total int64
		for _, w := range weights {
			total += w
		}
		if total == 0 {
			weights, total = append(weights, 1), 1
		}
		var sum Money
		for i, part := range m.Split(weights...) {
			sum += part
			off := new(big.Int).Sub(new(big.Int).Mul(big.NewInt(int64(part)), big.NewInt(total)), new(big.Int).Mul(big.NewInt(int64(m)), big.NewInt(weights[i])))
			if off.CmpAbs(big.NewInt(total)) > 0 || weights[i] == 0 && part != 0 || part.Abs() != part && m > 0 {
				t.Fatalf("%v by %v: part %d is %v", m, weights, i, part)
			}
		}
		if sum != m {
			t.Fatalf("%v by %v sums to %v", m, weights, sum)
		}
	})
}

func TestSplitPanicsOnWeightsThatDivideNothing(t *testing.T) {
	for _, weights := range [][]int64{{}, {0, 0}, {1, -1}, {2, -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("no panic for %v", weights)
				}
			}()
			Money(1).Split(weights...)
		}()
	}
}

func TestAFeeIsRoundedHalfUp(t *testing.T) {
	cases := []struct {
		m    Money
		rate string
		want Money
	}{{10000, "0.006", 60}, {8800, "0.006", 53}, {250, "0.006", 2}, {249, "0.006", 1}, {-250, "0.006", -2}, {-249, "0.006", -1}, {0, "0.006", 0}, {3000, "0", 0}}
	for _, test := range cases {
		if got := test.m.Times(decimal.RequireFromString(test.rate)); got != test.want {
			t.Errorf("%v × %s is %v, want %v", test.m, test.rate, got, test.want)
		}
	}
}
