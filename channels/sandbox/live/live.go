// Package live is the outside world as servers on loopback: WeChat Pay and Alipay
// with their real paths, signatures and certificates, from books of its own that survive a
// kill, with faults for whoever asks for them.
//
// It shares neither sums nor fee arithmetic with clearing and reconciliation, so
// that its books are an independent witness. Amounts are fen.
package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/channels/sandbox/journal"
	"github.com/clearward/clearward/channels/sandbox/livebank"
	"github.com/clearward/clearward/channels/sandbox/livehis"
	"github.com/clearward/clearward/ledger"
)

// ErrRefused is wrapped by every reason why the sandbox does not do as it is told.
var ErrRefused = errors.New("sandbox refuses")

// Config says who has accounts in the sandbox, and where it listens.
type Config struct {
	Dir       string                `yaml:"-"` // journal, keys and bills; made where missing
	Now       func() time.Time      `yaml:"-"`
	SetClock  func(time.Time) error `yaml:"-"` // nil: the clock cannot be set
	Merchants []Merchant            `yaml:"merchants"`
	HIS       []livehis.Hospital    `yaml:"his"`  // hospitals with a HIS, each below its code
	Bank      livebank.Config       `yaml:"bank"` // without accounts there is none
	Listen    Addresses             `yaml:"listen"`
	TLS       bool                  `yaml:"tls"` // reversals and refunds of V2 then need the merchant's certificate

	FreeFen    int64 `yaml:"free_fen"`     // up to here no password is asked for; 0 = 100,000
	FreePerDay int   `yaml:"free_per_day"` // and so often a day for one payer; 0 = 5
	EnterIn    int64 `yaml:"enter_in"`     // seconds until a payer has entered the password; 0 = 10
}

// Addresses are where the servers listen; an empty one is a free port of loopback.
type Addresses struct {
	WeChat string `yaml:"wechat" json:"wechat"`
	Alipay string `yaml:"alipay" json:"alipay"`
	Bank   string `yaml:"bank" json:"bank,omitempty"`
	HIS    string `yaml:"his" json:"his,omitempty"` // not served where no hospital has one
	Admin  string `yaml:"admin" json:"admin"`
}

// Merchant is one merchant number.
type Merchant struct {
	No          string   `yaml:"no"`      // of Alipay the PID, with 0156 behind it where the master data have it so
	Channel     string   `yaml:"channel"` // WECHAT or ALIPAY
	Apps        []string `yaml:"apps"`
	FeeRate     string   `yaml:"fee_rate"`     // "0.0060", at most four decimals
	BankAccount string   `yaml:"bank_account"` // where settlements go
	RetainedFen int64    `yaml:"retained_fen"`
	OpeningFen  int64    `yaml:"opening_fen"`
	Tails       string   `yaml:"tails"` // "amount" or "code": what the last two digits of it ask for happens; "" = off
}

// Server is a running sandbox.
type Server struct {
	// Addresses are where it listens, with scheme.
	Addresses Addresses

	cfg     Config
	keys    *platformKeys
	client  *http.Client
	journal *journal.Journal
	his     *livehis.Server
	bank    *livebank.Server // nil where nobody has an account
	stop    context.CancelFunc
	running sync.WaitGroup
	servers []*http.Server

	mu         sync.Mutex
	merchants  map[string]*merchant
	numbers    []string
	apps       map[string]*merchant // of Alipay, where an app belongs to one merchant number
	bySeq      []*order
	texts      map[string]string
	due        queue
	bills      map[string]*heldBill // of v3, by the token of their address
	probed     bool                 // the first notice of v3 of this run has been preceded by a probe
	faults     control.Waiting[Fault]
	notices    map[int64]*notice
	sending    []*notice
	lastOrder  int64
	lastRefund int64
	lastNotice int64
}

// ReadConfig reads a YAML file; a field that is not known is refused.
func ReadConfig(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("sandbox config: %w", err)
	}
	var c Config
	in := yaml.NewDecoder(bytes.NewReader(text))
	in.KnownFields(true)
	if err := in.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("%w: %s: %w", ErrRefused, path, err)
	}
	return c, nil
}

// Start opens the books and listens.
func Start(cfg Config) (*Server, error) {
	if cfg.FreeFen == 0 {
		cfg.FreeFen = 100_000
	}
	if cfg.FreePerDay == 0 {
		cfg.FreePerDay = 5
	}
	if cfg.EnterIn == 0 {
		cfg.EnterIn = 10
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("sandbox folder: %w", err)
	}
	s := &Server{cfg: cfg, faults: control.NewWaiting((*Fault).count), merchants: map[string]*merchant{}, apps: map[string]*merchant{}, texts: map[string]string{}, notices: map[int64]*notice{}, bills: map[string]*heldBill{},
		client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
	var err error
	if s.keys, err = openKeys(cfg.Dir); err != nil {
		return nil, err
	}
	for _, m := range cfg.Merchants {
		if err := s.addMerchant(m); err != nil {
			return nil, err
		}
	}
	if s.journal, err = journal.Open(filepath.Join(cfg.Dir, "books.journal"), s.kinds()); err != nil {
		return nil, err
	}
	if s.his, err = livehis.Open(livehis.Config{Dir: cfg.Dir, Now: cfg.Now, Hospitals: cfg.HIS}); err != nil {
		return nil, errors.Join(err, s.journal.Close())
	}
	if err := s.openBank(); err != nil {
		return nil, errors.Join(err, s.journal.Close(), s.his.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.running.Go(func() { s.tick(ctx) })
	err = errors.Join(
		s.listen(cfg.Listen.WeChat, &s.Addresses.WeChat, s.wechat(), cfg.TLS),
		s.listen(cfg.Listen.Alipay, &s.Addresses.Alipay, s.alipay(), cfg.TLS),
		s.listenHIS(),
		s.listenBank(),
		s.listen(cfg.Listen.Admin, &s.Addresses.Admin, s.admin(), false))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// listenHIS serves the HIS of the hospitals that have one; its secret signs, and it
// speaks no TLS.
func (s *Server) listenHIS() error {
	if len(s.cfg.HIS) == 0 {
		return nil
	}
	return s.listen(s.cfg.Listen.HIS, &s.Addresses.HIS, s.his.Handler(), false)
}

func (s *Server) addMerchant(config Merchant) error {
	rate, ok := strings.CutPrefix(config.FeeRate, "0.")
	points, err := strconv.ParseInt((rate + "0000")[:4], 10, 64)
	switch {
	case config.No == "" || strings.ContainsAny(config.No, "/. ") || s.merchants[config.No] != nil:
		return fmt.Errorf("%w: merchant number %q is empty, no number, or there twice", ErrRefused, config.No)
	case config.Channel == channels.Alipay && !alipayNo.MatchString(config.No):
		return fmt.Errorf("%w: merchant %s: a number of Alipay is 2088 and 12 digits, with 0156 behind them or not", ErrRefused, config.No)
	case config.Channel == channels.Alipay && slices.ContainsFunc(config.Apps, func(app string) bool { return s.apps[app] != nil }):
		return fmt.Errorf("%w: merchant %s: an app of Alipay belongs to one merchant number", ErrRefused, config.No)
	case config.Channel != channels.WeChat && config.Channel != channels.Alipay:
		return fmt.Errorf("%w: merchant %s: channel %q is not served", ErrRefused, config.No, config.Channel)
	case !ok || err != nil || len(rate) > 4:
		return fmt.Errorf("%w: merchant %s: fee_rate %q is not like 0.0060", ErrRefused, config.No, config.FeeRate)
	case !slices.Contains([]string{"", "amount", "code"}, config.Tails):
		return fmt.Errorf("%w: merchant %s: tails %q is neither amount nor code", ErrRefused, config.No, config.Tails)
	case len(config.Apps) == 0:
		return fmt.Errorf("%w: merchant %s has no app", ErrRefused, config.No)
	}
	m := &merchant{Merchant: config, rate: points, balance: config.OpeningFen, orders: map[string]*order{}, refunds: map[string]*refund{},
		rows: map[ledger.Day][]row{}, closed: map[ledger.Day][]*refund{}, net: map[ledger.Day]int64{}, paidOut: map[ledger.Day]int64{}, free: map[uint32]uint8{}}
	if m.keys, err = s.keys.merchant(config.No, config.Channel); err != nil {
		return err
	}
	for _, app := range config.Apps {
		if config.Channel == channels.Alipay {
			s.apps[app] = m
		}
	}
	s.merchants[m.No] = m
	s.numbers = append(s.numbers, m.No)
	return nil
}

// listen serves on an address of loopback.
func (s *Server) listen(address string, at *string, handler http.Handler, secure bool) error {
	if address == "" {
		address = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%w: %q is no address of loopback", ErrRefused, address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	s.servers = append(s.servers, server)
	*at = "http://" + l.Addr().String()
	serve := func() error { return server.Serve(l) }
	if secure {
		*at, server.TLSConfig = "https://"+l.Addr().String(), s.keys.tls()
		serve = func() error { return server.ServeTLS(l, "", "") }
	}
	s.running.Go(func() { _ = serve() }) // ends with Close, by an error that says so
	return nil
}

// tick lets happen what is due although nobody calls, and sends notices.
func (s *Server) tick(ctx context.Context) {
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			s.mu.Lock()
			s.advance()
			send := s.sending
			s.sending = nil
			s.mu.Unlock()
			for _, n := range send {
				s.running.Go(func() { s.send(ctx, n) })
			}
		}
	}
}

// Close ends the servers and closes the books. Killing the process does no harm
// either.
func (s *Server) Close() error {
	s.stop()
	var err error
	for _, server := range s.servers {
		err = errors.Join(err, server.Close())
	}
	s.running.Wait()
	return errors.Join(err, s.journal.Close(), s.his.Close(), s.closeBank())
}
