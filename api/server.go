// Package api is every way into Clearward, and the place where its parts are put
// together: a command, a test and the demo open the same Server. It decides who
// may come in (api/auth) and hands on; what money means is decided below it.
package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/api/auth"
	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/clearing/pay"
	"github.com/clearward/clearward/clearing/payout"
	"github.com/clearward/clearward/deploy/local"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// schemas are all tables, in the order of imports.
var schemas = []db.Schema{ledger.Schema, clearing.Schema, payout.Schema, recon.Schema, auth.Schema, jobs.Schema}

// Config says where the program runs.
type Config struct {
	Local  local.Config
	Now    func() time.Time // nil: the clock of the machine
	Log    *slog.Logger     // nil: silent
	Master string           // reference of the master key (channels.Secret); "": a file of the data directory
	Topics string           // stands before every topic, where several programs share a broker
}

// FromEnv reads the environment. Unless it is asked for more (CLEARWARD_LOG),
// the log tells only what goes wrong: a command prints what a person wants.
func FromEnv(getenv func(string) string, log io.Writer) (Config, error) {
	c := Config{Master: getenv("CLEARWARD_MASTER_KEY"), Local: local.FromEnv()}
	level := slog.LevelWarn
	if text := getenv("CLEARWARD_LOG"); text != "" {
		if err := level.UnmarshalText([]byte(text)); err != nil {
			return c, fmt.Errorf("CLEARWARD_LOG: %q is none of debug, info, warn, error", text)
		}
	}
	c.Local.Log = nil
	if level <= slog.LevelInfo {
		c.Local.Log = log
	}
	c.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level}))
	return c, nil
}

// Server is the program, open on its database and broker.
type Server struct {
	DB     *db.DB
	Engine *recon.Engine
	Kafka  feed.Kafka

	stack     *local.Stack
	masterRef string
	house     *pay.House
	wired     wired
	banks     *banks
	now       func() time.Time
	wall      func() time.Time // this machine's clock, whatever now is
	log       *slog.Logger
	committer *ledger.Committer
	consumer  *feed.Consumer // only in the process that holds the data directory
	events    *relay         // likewise
	metrics   *metrics

	reconciling sync.Mutex // one run at a time: two of one day would only meet each other's changes
}

// Open starts the stack, or joins the process that runs it, brings the tables up
// to date and starts the committer. The process that holds the data directory
// also stores what is fed and publishes events; the others rely on it.
func Open(ctx context.Context, c Config) (s *Server, err error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s = &Server{masterRef: c.Master, now: c.Now, wall: time.Now, log: c.Log}
	defer func() {
		if err != nil {
			s, err = nil, errors.Join(err, s.Close())
		}
	}()
	if s.stack, err = local.Start(ctx, c.Local); err != nil {
		return s, err
	}
	// A command that joins may come before the holder is through with these two;
	// both are safe to do twice.
	if err := db.Migrate(ctx, s.stack.DatabaseURL, schemas...); err != nil {
		return s, err
	}
	s.Kafka = feed.Kafka{Brokers: s.stack.Brokers, Prefix: c.Topics}
	if err := local.EnsureTopics(ctx, s.Kafka.Brokers, s.Kafka.Topics()); err != nil {
		return s, err
	}
	if s.DB, err = db.Open(ctx, s.stack.DatabaseURL, db.App); err != nil {
		return s, err
	}
	if s.committer, err = ledger.NewCommitter(ctx, s.DB, ledger.Options{Now: s.now}); err != nil {
		return s, err
	}
	s.metrics = newMetrics(&s.committer.Counts)
	s.metrics.alarm(s.skew)
	s.house = &pay.House{DB: s.DB, Committer: s.committer, Now: s.now, Outside: &outside{s: s, open: map[clearing.Gateway]channels.Gateway{}}}
	s.banks = &banks{s: s, open: map[clearing.BankLink]channels.BankGateway{}}
	s.Engine = &recon.Engine{DB: s.DB, Committer: s.committer, Now: s.now, House: s.house, Paused: pausedMoney}
	if s.stack.Holder {
		// Both are ended by Close, in its order, and not by the caller's interrupt.
		lasting := context.WithoutCancel(ctx)
		s.consumer = feed.StartConsumer(lasting, s.Kafka, s.DB, s.now, s.log)
		s.events = startRelay(lasting, s.DB, s.Kafka, s.log)
	}
	return s, nil
}

// Close ends what Open started: whoever writes before that on which it is
// written. What was acknowledged is kept.
func (s *Server) Close() error {
	var errs []error
	if s.consumer != nil {
		errs = append(errs, s.consumer.Stop())
	}
	if s.committer != nil {
		s.committer.Close()
	}
	if s.events != nil {
		errs = append(errs, s.events.stop())
	}
	if s.DB != nil {
		s.DB.Close()
	}
	if s.stack != nil {
		errs = append(errs, s.stack.Close())
	}
	s.consumer, s.committer, s.events, s.DB, s.stack = nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// ErrHolderGone says that the process which ran database and broker has ended
// while this one relied on them.
var ErrHolderGone = errors.New("the process that holds the data directory has ended")

// CaughtUp waits until everything that was fed before is stored.
func (s *Server) CaughtUp(ctx context.Context) error {
	if s.consumer != nil {
		return s.consumer.CaughtUp(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for ticker := time.NewTicker(time.Second); ; {
			select {
			case <-ctx.Done():
				ticker.Stop()
				return
			case <-ticker.C:
			}
			if err := s.DB.Pool.Ping(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%w: %w", ErrHolderGone, err))
			}
		}
	}()
	err := s.Kafka.CaughtUp(ctx)
	if cause := context.Cause(ctx); errors.Is(cause, ErrHolderGone) {
		return cause
	}
	return err
}

// directory reads all master data.
func (s *Server) directory(ctx context.Context) (dir *clearing.Directory, err error) {
	err = s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		dir, err = clearing.LoadMerchants(ctx, tx)
		return err
	})
	return dir, err
}
