package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	hospitalv1 "github.com/clearward/clearward/proto/clearward/hospital/v1"
)

// hospitalService shows what is set up, and sets up.
type hospitalService struct{ s *Server }

// ListHospitals implements the call.
func (h hospitalService) ListHospitals(ctx context.Context, r *hospitalv1.ListHospitalsRequest) (*hospitalv1.ListHospitalsResponse, error) {
	dir, err := h.s.directory(ctx)
	if err != nil {
		return nil, err
	}
	w, err := h.s.wiring(ctx)
	if err != nil {
		return nil, err
	}
	out := &hospitalv1.ListHospitalsResponse{}
	for i := range dir.Hospitals {
		if one := &dir.Hospitals[i]; r.GetHospital() == "" || r.GetHospital() == one.Code {
			out.Hospitals = append(out.Hospitals, hospitalMessage(one, dir, w))
		}
	}
	if r.GetHospital() != "" && len(out.Hospitals) == 0 {
		return nil, fmt.Errorf("%w: %q", clearing.ErrUnknownHospital, r.GetHospital())
	}
	return out, nil
}

func hospitalMessage(h *clearing.Hospital, dir *clearing.Directory, w *clearing.Wiring) *hospitalv1.Hospital {
	out := &hospitalv1.Hospital{Code: h.Code, Name: h.Name, Ownership: string(h.Ownership), HisCalls: h.HISCalls}
	for _, m := range dir.Merchants {
		if m.Hospital != h.Code {
			continue
		}
		one := &hospitalv1.Merchant{Channel: m.Channel, MerchantNo: m.No, Kind: m.Kind, SettleMode: string(m.Mode)}
		if i := slices.IndexFunc(w.Gateways, func(g clearing.Gateway) bool { return g.Channel == m.Channel && g.MerchantNo == m.No }); i >= 0 {
			one.Api, one.Environment = w.Gateways[i].API, w.Gateways[i].Environment
		}
		out.Merchants = append(out.Merchants, one)
	}
	for _, b := range dir.Banks {
		if b.Hospital == h.Code {
			out.BankAccounts = append(out.BankAccounts, &hospitalv1.BankAccount{Account: b.Account, Name: b.Name, Bank: b.Bank, Role: string(b.Role),
				Connected: slices.ContainsFunc(w.Banks, func(l clearing.BankLink) bool { return l.Account == b.Account })})
		}
	}
	for _, p := range w.Policies {
		if p.Hospital == h.Code {
			out.RefundPolicies = append(out.RefundPolicies, &hospitalv1.RefundPolicy{FromDay: p.From.String(), CashierLimitFen: int64(p.CashierLimit),
				HeadLimitFen: int64(p.HeadLimit), RefundOrder: p.Order})
		}
	}
	return out
}

// ListApps implements the call.
func (h hospitalService) ListApps(ctx context.Context, _ *hospitalv1.ListAppsRequest) (*hospitalv1.ListAppsResponse, error) {
	w, err := h.s.wiring(ctx)
	if err != nil {
		return nil, err
	}
	out := &hospitalv1.ListAppsResponse{}
	for _, a := range w.Apps {
		out.Apps = append(out.Apps, &hospitalv1.App{Name: a.Name, NotifyUrl: a.NotifyURL, Hospitals: a.Hospitals})
	}
	return out, nil
}

// SetUp implements the call.
func (h hospitalService) SetUp(ctx context.Context, r *hospitalv1.SetUpRequest) (*hospitalv1.SetUpResponse, error) {
	if err := h.s.note(ctx, caller(ctx).Name, "setup", ledger.DayOf(h.s.now()).String(), fmt.Sprintf("%d bytes by %s", len(r.GetFile()), caller(ctx).Key)); err != nil {
		return nil, err
	}
	done, err := clearing.Setup(ctx, h.s.DB, strings.NewReader(r.GetFile()))
	if err != nil {
		return nil, err
	}
	h.s.setUpAgain()
	return &hospitalv1.SetUpResponse{Hospitals: int32(done.Hospitals), Merchants: int32(done.Merchants), Rates: int32(done.Rates),
		BankAccounts: int32(done.Banks), Changed: int32(done.Changed)}, nil
}
