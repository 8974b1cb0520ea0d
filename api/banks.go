package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/bank"
	"github.com/clearward/clearward/clearing"
)

// banks is how the banks of accounts are reached: by the links of the master data,
// with the secrets that they refer to. A connection is kept, since it knows whether
// its circuit is open.
type banks struct {
	s    *Server
	mu   sync.Mutex
	open map[clearing.BankLink]channels.BankGateway
}

// Bank implements payout.Outside.
func (b *banks) Bank(account string) (channels.BankGateway, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readWiring)
	defer cancel()
	w, err := b.s.wiring(ctx)
	if err != nil {
		return nil, err
	}
	for _, link := range w.Banks {
		if link.Account == account {
			return b.of(link)
		}
	}
	return nil, fmt.Errorf("%w: account %s has no connection to its bank", ErrNotConnected, account)
}

func (b *banks) of(link clearing.BankLink) (channels.BankGateway, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if is, ok := b.open[link]; ok {
		return is, nil
	}
	is, err := b.connect(link)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", link.Account, err)
	}
	b.open[link] = is
	return is, nil
}

// bankKey stands before the id of a key of the bank in the settings of a link, so
// that the next key can stand there before the bank changes it.
const bankKey = "bank_key."

// connect opens a connection: customer, bic, key_id and private_key are ours,
// bank_key.ID each key of the bank, environment is PRODUCTION unless it is SANDBOX.
func (b *banks) connect(link clearing.BankLink) (channels.BankGateway, error) {
	settings, err := bankSettings(link)
	if err == nil {
		err = fits(link.URL, settings["environment"])
	}
	if err != nil {
		return nil, err
	}
	key, err := channels.Secret(settings["private_key"])
	if err != nil {
		return nil, err
	}
	c := bank.Config{URL: link.URL, Customer: settings["customer"], BIC: settings["bic"], KeyID: settings["key_id"], Key: key,
		BankKeys: map[string]string{}, Now: b.s.now}
	for name, reference := range settings {
		if id, ok := strings.CutPrefix(name, bankKey); ok {
			if c.BankKeys[id], err = channels.Secret(reference); err != nil {
				return nil, err
			}
		}
	}
	return bank.New(c)
}

// fits refuses an address that is not of its environment: a sandbox listens on
// loopback, a bank is never reached unencrypted.
func fits(address, environment string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	ip := net.ParseIP(u.Hostname())
	sandbox := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if sandbox != (environment == "SANDBOX") || !sandbox && u.Scheme != "https" {
		return fmt.Errorf("%w: the environment is %s and the address %q", ErrEnvironment, environment, address)
	}
	return nil
}

// checkBanks refuses to serve with a link whose address is not of its environment.
func checkBanks(w *clearing.Wiring) error {
	for _, link := range w.Banks {
		settings, err := bankSettings(link)
		if err == nil {
			err = fits(link.URL, settings["environment"])
		}
		if err != nil {
			return fmt.Errorf("account %s: %w", link.Account, err)
		}
	}
	return nil
}

func bankSettings(link clearing.BankLink) (settings map[string]string, err error) {
	settings = map[string]string{}
	if err := json.Unmarshal([]byte(link.Settings), &settings); err != nil {
		return nil, fmt.Errorf("%w: its settings cannot be read: %w", ErrNotConnected, err)
	}
	if settings == nil {
		settings = map[string]string{} // JSON null, where the link says nothing
	}
	settings["environment"] = cmp.Or(settings["environment"], "PRODUCTION")
	return settings, nil
}
