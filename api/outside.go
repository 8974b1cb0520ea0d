package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
)

// ErrNotConnected is wrapped where nothing says how the outside is reached.
var ErrNotConnected = errors.New("not connected")

// ErrEnvironment is wrapped where a merchant number's environment and its address
// do not belong together: real money is never sent to a sandbox, nor the reverse.
var ErrEnvironment = errors.New("production and sandbox do not mix")

// outside is how channels are reached: from the master data, with the secrets that
// it refers to. A connection is kept, since it knows whether its circuit is open.
type outside struct {
	s    *Server
	mu   sync.Mutex
	open map[clearing.Gateway]channels.Gateway
	his  map[clearing.HISLink]channels.HISGateway
}

// wired is the last reading of who may ask and where the outside is.
type wired struct {
	mu   sync.Mutex
	is   *clearing.Wiring
	read time.Time // by the machine's clock
}

// keepWiring is for how long it is believed: every call of the API asks for it.
const keepWiring = 2 * time.Second

// wiring is who may ask and where the outside is.
func (s *Server) wiring(ctx context.Context) (*clearing.Wiring, error) {
	s.wired.mu.Lock()
	defer s.wired.mu.Unlock()
	if s.wired.is != nil && time.Since(s.wired.read) < keepWiring {
		return s.wired.is, nil
	}
	read := time.Now()
	err := s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		s.wired.is, err = clearing.LoadWiring(ctx, tx)
		return err
	})
	if err != nil {
		s.wired.is = nil
		return nil, err
	}
	s.wired.read = read
	return s.wired.is, nil
}

// setUpAgain makes the next call read the master data again.
func (s *Server) setUpAgain() {
	s.wired.mu.Lock()
	s.wired.is = nil
	s.wired.mu.Unlock()
	s.house.Reload()
}

// readWiring is how long the reading of connections may take.
const readWiring = 5 * time.Second

// Gateway implements pay.Outside.
func (o *outside) Gateway(channel, merchantNo string) (channels.Gateway, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readWiring)
	defer cancel()
	w, err := o.s.wiring(ctx)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range w.Gateways {
		if g.Channel != channel || g.MerchantNo != merchantNo {
			continue
		}
		if o.open[g] == nil {
			if o.open[g], err = o.s.connect(g); err != nil {
				delete(o.open, g)
				return nil, fmt.Errorf("merchant number %s: %w", merchantNo, err)
			}
		}
		return o.open[g], nil
	}
	return nil, fmt.Errorf("%w: merchant number %s of %s has no connection", ErrNotConnected, merchantNo, channel)
}

// checkEnvironments refuses to serve with a merchant number whose address is not
// that of its environment (scenario 37).
func (s *Server) checkEnvironments(ctx context.Context) error {
	w, err := s.wiring(ctx)
	if err != nil {
		return err
	}
	for _, g := range w.Gateways {
		if _, err := s.connect(g); errors.Is(err, ErrEnvironment) {
			return fmt.Errorf("merchant number %s: %w", g.MerchantNo, err)
		}
	}
	return checkBanks(w)
}
