package api

import (
	"context"
	"fmt"
	"slices"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/clearing"
)

// HIS implements pay.Outside: the connection of the hospital's link. A hospital
// whose app calls HIS (his_calls APP) may have one too, for its details.
func (o *outside) HIS(hospital string) (channels.HISGateway, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readWiring)
	defer cancel()
	w, err := o.s.wiring(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(w.HIS, func(l clearing.HISLink) bool { return l.Hospital == hospital })
	if i < 0 {
		return nil, fmt.Errorf("%w: the HIS of hospital %s has no address", ErrNotConnected, hospital)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	link := w.HIS[i]
	if open := o.his[link]; open != nil {
		return open, nil
	}
	secret, err := channels.Secret(link.Secret)
	if err != nil {
		return nil, fmt.Errorf("HIS of hospital %s: %w", hospital, err)
	}
	open, err := his.New(his.Config{Hospital: hospital, BaseURL: link.URL, Format: his.Format(link.Format), Secret: secret, Now: o.s.now})
	if err != nil {
		return nil, fmt.Errorf("HIS of hospital %s: %w", hospital, err)
	}
	if o.his == nil {
		o.his = map[clearing.HISLink]channels.HISGateway{}
	}
	o.his[link] = open
	return open, nil
}
