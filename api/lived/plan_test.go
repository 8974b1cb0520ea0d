package lived

import (
	"fmt"
	"slices"
	"testing"

	"github.com/clearward/clearward/channels"
)

// The codes of spec/reconciliation.md 2.5 that a lived day can show, and how often each
// is planted among 5,000 payments.
var plantedCodes = map[string]int{"F1": 2, "F2": 1, "F3": 2, "F4": 4, "F5": 1, "F6": 3, "F7": 3, "F9": 4, "F11": 2, "F12": 1,
	"I1": 2, "I2": 1, "I3": 1, "I4": 2, "I5": 3, "I6": 2, "I7": 2, "I8": 2, "BACKFILL": 5, "PHANTOM": 2, "DUP_ROW": 2, "PENDING": 1, "SWEEP": 1, "PAID_TWICE": 1, "RESTATED": 1, "NET_ZERO": 1}

func TestEveryKindOfDifferenceIsPlantedAmongFiveThousandPayments(t *testing.T) {
	for seed := range uint64(200) {
		got := map[string]int{}
		for _, f := range plant(seed, 5000) {
			got[f.kind.code]++
		}
		if fmt.Sprint(got) != fmt.Sprint(plantedCodes) {
			t.Errorf("seed %d plants %v, want %v", seed, got, plantedCodes)
		}
	}
	if n := len(plant(1, fewest())); n != len(kinds) {
		t.Errorf("the smallest day with faults has %d, want %d", n, len(kinds))
	}
	if n := len(plant(1, fewest()-1)); n != 0 {
		t.Errorf("a smaller day has %d faults", n)
	}
	if n := len(plant(1, 200_000)); n != 40*len(kinds) {
		t.Errorf("200,000 payments have %d faults, want %d", n, 40*len(kinds))
	}
}

// A fault is told from everything else by its amount, and happens where it can.
func TestAFaultHappensWhereItCanAndHasAnAmountOfItsOwn(t *testing.T) {
	const payments = 5000
	for seed := range uint64(20) {
		faults := plant(seed, payments)
		fens, backs := map[int64]bool{}, map[int64]bool{}
		for n, f := range faults {
			v := draft(seed, n)
			f.shape(v)
			switch {
			case fens[v.fen]:
				t.Errorf("seed %d: %s has the amount of another", seed, f.kind.name)
			case f.kind.of != nil && !slices.Contains(f.kind.of, slices.IndexFunc(hospitals, func(h hospital) bool { return h.code == v.hospital.code })):
				t.Errorf("seed %d: %s happens at %s", seed, f.kind.name, v.hospital.code)
			case !slices.Contains(v.number.ways, v.way) || v.number.channel != channels.WeChat:
				t.Errorf("seed %d: %s cannot be paid by %s at %s", seed, f.kind.name, v.way, v.number.no)
			case f.kind.back != (len(v.backs) == 1) || len(v.backs) == 1 && (backs[v.backs[0]] || f.kind.all != (v.backs[0] == v.fen) || v.backs[0] > v.fen):
				t.Errorf("seed %d: %s gives %v of %d back", seed, f.kind.name, v.backs, v.fen)
			}
			fens[v.fen] = true
			for _, fen := range v.backs {
				backs[fen] = true
			}
		}
		for n := len(faults); n < payments; n++ {
			if v := draft(seed, n); fens[v.fen] {
				t.Errorf("seed %d: visit %d has the amount %d of a fault", seed, n, v.fen)
			}
		}
	}
}
