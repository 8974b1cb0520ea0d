// Package local starts what Clearward needs and the machine does not offer: a
// database and a Kafka broker, on loopback, in one data directory, as children
// of the process that came first. Whatever ends that process, the directory can
// be started again with nothing lost.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Config says what is there already. FromEnv fills it.
type Config struct {
	DataDir     string    // CLEARWARD_DATA_DIR; empty: a folder in the home of the person
	DatabaseURL string    // CLEARWARD_DATABASE_URL; empty: a database of our own
	Brokers     string    // CLEARWARD_KAFKA_BROKERS, host:port separated by commas; empty: a broker of our own
	API         string    // address of the API if this process becomes the holder, for those that join
	Durable     bool      // survive a loss of power, not only a kill; false is for tests
	Log         io.Writer // what a person should know while it starts; nil: nowhere
}

// FromEnv reads the environment. COCKROACH_BINARY is read where the binary is
// looked for.
func FromEnv() Config {
	return Config{
		DataDir:     os.Getenv("CLEARWARD_DATA_DIR"),
		DatabaseURL: os.Getenv("CLEARWARD_DATABASE_URL"),
		Brokers:     os.Getenv("CLEARWARD_KAFKA_BROKERS"),
		Durable:     true,
		Log:         os.Stderr,
	}
}

// ErrOtherStack says that the process which holds the data directory works on
// another database or broker than this one is told to.
var ErrOtherStack = errors.New("the process that holds the data directory works on another database or broker")

// Stack is a database and a broker that are ready.
type Stack struct {
	DatabaseURL string // of the owner; db.App is stepped into from it
	Brokers     []string
	API         string // of the holder, empty when it has none
	DataDir     string // empty when nothing of ours runs
	Holder      bool   // nobody else of this data directory runs: consumers are this process's task

	lock     *os.File
	broker   *kfake.Cluster
	stopData func() error
}

// database is the name of the database in a server of our own.
const database = "clearward"

// patience is how long a start waits for a process that comes or goes.
const patience = 2 * time.Minute

// Start returns a database and a broker. When a living process holds the data
// directory, its ones are used; else this process takes the directory and
// starts them. Only one process can hold a directory.
func Start(ctx context.Context, c Config) (*Stack, error) {
	if c.Log == nil {
		c.Log = io.Discard
	}
	if c.DatabaseURL != "" && c.Brokers != "" {
		return &Stack{DatabaseURL: c.DatabaseURL, Brokers: splitBrokers(c.Brokers), API: c.API, Holder: true}, nil
	}
	dir, err := c.dataDir()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		lock, err := lockDir(dir)
		if err != nil {
			return nil, err
		}
		if lock != nil {
			return hold(ctx, c, dir, lock)
		}
		if run, ok := readRun(dir); ok {
			return join(c, dir, run)
		}
		// Somebody holds it and is still starting, or is about to end.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("data directory %s is held by another process, which is not ready: %w", dir, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// join uses what the holder runs.
func join(c Config, dir string, run runFile) (*Stack, error) {
	if c.DatabaseURL != "" && c.DatabaseURL != run.Database ||
		c.Brokers != "" && c.Brokers != strings.Join(run.Brokers, ",") {
		return nil, fmt.Errorf("%w: process %d, data directory %s", ErrOtherStack, run.PID, dir)
	}
	return &Stack{DatabaseURL: run.Database, Brokers: run.Brokers, API: run.API, DataDir: dir}, nil
}

// hold starts what is missing and publishes it. What a holder before us left
// behind is not alive, since its lock is ours now.
func hold(ctx context.Context, c Config, dir string, lock *os.File) (s *Stack, err error) {
	s = &Stack{DatabaseURL: c.DatabaseURL, Brokers: splitBrokers(c.Brokers), API: c.API, DataDir: dir, Holder: true, lock: lock}
	defer func() {
		if err != nil {
			s, err = nil, errors.Join(err, s.Close())
		}
	}()
	if err := removeIfThere(runPath(dir)); err != nil {
		return s, err
	}
	if s.DatabaseURL == "" {
		if err := s.startDatabase(ctx, c); err != nil {
			return s, err
		}
	}
	if len(s.Brokers) == 0 {
		if s.broker, err = startBroker(filepath.Join(dir, "kafka"), c.Durable, c.Log); err != nil {
			return s, err
		}
		s.Brokers = s.broker.ListenAddrs()
	}
	run := runFile{Database: s.DatabaseURL, Brokers: s.Brokers, API: s.API, PID: os.Getpid(), Started: startOf(os.Getpid())}
	return s, run.write(dir)
}

// startDatabase starts the database that the directory already holds, else
// CockroachDB where there is a binary, else PostgreSQL.
func (s *Stack) startDatabase(ctx context.Context, c Config) error {
	binary, err := findCockroach()
	if err != nil {
		return err
	}
	postgresDir, cockroachDir := filepath.Join(s.DataDir, "postgres"), filepath.Join(s.DataDir, "cockroach")
	useCockroach := binary != ""
	switch {
	case isFile(filepath.Join(postgresDir, "data", "PG_VERSION")):
		useCockroach = false
	case isDir(filepath.Join(cockroachDir, "store")):
		useCockroach = true
	}
	if useCockroach {
		node, err := StartCockroach(ctx, cockroachDir)
		if err != nil {
			return err
		}
		s.stopData, s.DatabaseURL = node.Stop, node.URL(database)
		fmt.Fprintf(c.Log, "database: CockroachDB, %s\n", s.DatabaseURL)
		return createDatabase(ctx, node.URL("defaultdb"), database)
	}
	server, err := StartPostgres(ctx, postgresDir, c.Durable)
	if err != nil {
		return err
	}
	s.stopData, s.DatabaseURL = server.Stop, server.URL(database)
	fmt.Fprintf(c.Log, "database: PostgreSQL, %s\n", s.DatabaseURL)
	return createDatabase(ctx, server.URL("postgres"), database)
}

// Close stops what this process started, the broker before the database, and
// gives the data directory back. Closing a joined stack does nothing.
func (s *Stack) Close() error {
	var errs []error
	if s.lock != nil {
		errs = append(errs, removeIfThere(runPath(s.DataDir))) // first: nobody may join any more
	}
	if s.broker != nil {
		s.broker.Close() // writes what it holds
		forgetBrokers()
	}
	if s.stopData != nil {
		errs = append(errs, s.stopData())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	s.lock, s.broker, s.stopData = nil, nil, nil
	return errors.Join(errs...)
}

func splitBrokers(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
