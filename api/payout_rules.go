package api

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/clearing/payout"
)

// SetPayoutRules stores limits of roles, how many approve an amount, and when banks
// take transfers, from a file. A role gets a limit only for what it may do at all.
func (s *Server) SetPayoutRules(ctx context.Context, path string) (rules *payout.Rules, added int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	if rules, err = payout.ReadRules(file); err == nil {
		err = mayAtAll(rules)
	}
	if err == nil {
		added, err = rules.Store(ctx, s.DB)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return rules, added, nil
}

func mayAtAll(rules *payout.Rules) error {
	acts := map[string]auth.Action{"REQUEST": auth.PayoutRequest, "APPROVE": auth.PayoutApprove}
	for _, l := range rules.Limits {
		if err := auth.Allow(auth.Principal{Name: "whoever", Kind: auth.Person, Role: auth.Role(l.Role)}, acts[l.Act]); err != nil {
			return fmt.Errorf("%w: the limit of %s to %s: %w", payout.ErrRules, l.Role, l.Act, err)
		}
	}
	return nil
}
