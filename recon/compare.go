package recon

import (
	"context"
	"fmt"
	"slices"

	"github.com/clearward/clearward/ledger"
)

// Compare matches a hospital's day from what is stored, order by order as Run
// does, and books nothing. It tells how many lines it read and how many legs got
// which code before orders are compared with one another.
func (e *Engine) Compare(ctx context.Context, hospital string, day ledger.Day) (lines int, legs map[Code]int, err error) {
	dir, err := e.directory(ctx)
	if err != nil {
		return 0, nil, err
	}
	known, ok := dir.Hospital(hospital)
	if !ok {
		return 0, nil, fmt.Errorf("hospital %q is not known", hospital)
	}
	h, err := e.prepare(ctx, dir, known, day)
	if err != nil {
		return 0, nil, err
	}
	legs = map[Code]int{}
	err = groups(h.sources(ctx), func(orderNo string, all []Line) error {
		all = slices.DeleteFunc(all, func(l Line) bool { return l.stored != nil })
		lines += len(all)
		if orderNo == "" {
			return nil // no side names the order: nothing is compared by its number
		}
		for _, leg := range matchOrder(h.rules, all) {
			legs[leg.Code]++
		}
		return nil
	})
	return lines, legs, err
}
