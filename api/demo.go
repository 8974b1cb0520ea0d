package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"

	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// DemoOptions say what is shown.
type DemoOptions struct {
	Payments, Hospitals int // of the generated day; no hospitals: 3
	Seed                uint64
	Restate             bool // a bill of the generated day is handed in again with other rows, and the day is run again
	Keep                bool
	Lang                string
}

// ErrDemo says that the demo did not find what it must.
var ErrDemo = errors.New("the demo does not find what it must")

var demoWords = map[string]map[string]string{
	"zh": {"start": "启动数据库与消息队列", "sample": "示例日：海天示范医院 2026-09-15", "generated": "生成日：%d 家医院，%d 笔支付",
		"expected": "与 expected.csv 逐行一致（%d 行）。", "unexpected": "与 expected.csv 不一致：", "balances": "科目余额与会计手册 3.7 一致到分。",
		"off": "科目余额与会计手册 3.7 不一致：", "kept": "数据目录：%s"},
	"en": {"start": "start database and broker", "sample": "The sample day: 海天示范医院 2026-09-15", "generated": "A generated day: %d hospitals, %d payments",
		"expected": "Equal to expected.csv, row by row (%d rows).", "unexpected": "Not equal to expected.csv:", "balances": "The balances equal the accounting manual 3.7 to the fen.",
		"off": "The balances are not those of the accounting manual 3.7:", "kept": "data directory: %s"},
}

// SampleDemo takes the sample day from its files to the published batch, in a new
// data directory, and prints what a person wants to read. It fails when anything is
// not as it must be.
func SampleDemo(ctx context.Context, c Config, o DemoOptions, out io.Writer, m *Meter) error {
	return inNewDirectory(ctx, c, o, out, "sample", func(c Config) error { return sampleDemo(ctx, c, o, out, m) })
}

// GeneratedDemo takes a generated day in the same way, and compares what was planted
// with what was found.
func GeneratedDemo(ctx context.Context, c Config, o DemoOptions, out io.Writer, m *Meter) error {
	if o.Hospitals == 0 {
		o.Hospitals = 3
	}
	return inNewDirectory(ctx, c, o, out, "generated", func(c Config) error {
		fmt.Fprintf(out, "\n"+words(demoWords, o.Lang)["generated"]+"\n\n", o.Hospitals, o.Payments)
		s, err := openStage(ctx, c, o, out)
		if err != nil {
			return err
		}
		t, err := RunGeneratedDay(ctx, s, DayConfig{
			Config: sandbox.Config{Seed: o.Seed, Hospitals: o.Hospitals, Payments: o.Payments},
			Dir:    filepath.Join(c.Local.DataDir, "files"), Restate: o.Restate, Meter: m,
			Done: func(stage Stage) { WriteStage(out, stage, o.Lang) },
		})
		if err == nil {
			t.Write(out, o.Lang)
			err = s.provenBooks(ctx, out, o.Lang, false)
			if len(t.Wrong) > 0 {
				err = errors.Join(err, fmt.Errorf("%w: %d rows of the generated day differ", ErrDemo, len(t.Wrong)))
			}
		}
		return errors.Join(err, s.Close())
	})
}

// inNewDirectory runs one part of the demo in a data directory of its own, which
// is removed unless it is to be kept. Where the database or the broker are not
// ours, the part gets a database of its own on the one and topics of its own on
// the other, so that nothing of the demo meets what is there.
func inNewDirectory(ctx context.Context, c Config, o DemoOptions, out io.Writer, part string, run func(Config) error) (err error) {
	name := "clearward_" + part + "_" + strings.ToLower(rand.Text()[:10])
	c.Local.DataDir, c.Topics = filepath.Join(os.TempDir(), name), name+"."
	var undo []func(ctx context.Context) error
	defer func() {
		if o.Keep {
			fmt.Fprintf(out, words(demoWords, o.Lang)["kept"]+"\n", c.Local.DataDir)
			return
		}
		for _, f := range append(undo, func(context.Context) error { return os.RemoveAll(c.Local.DataDir) }) {
			err = errors.Join(err, f(context.WithoutCancel(ctx)))
		}
	}()
	if base := c.Local.DatabaseURL; base != "" {
		if c.Local.DatabaseURL, err = scratchDatabase(ctx, base, name); err != nil {
			return err
		}
		undo = append(undo, func(ctx context.Context) error { return administer(ctx, base, `DROP DATABASE `+name) })
	}
	if brokers := c.Local.Brokers; brokers != "" {
		undo = append(undo, func(ctx context.Context) error { return dropTopics(ctx, brokers, c.Topics) })
	} else {
		c.Topics = "" // the broker goes with the data directory
	}
	return run(c)
}

// scratchDatabase makes an empty database on the server of base.
func scratchDatabase(ctx context.Context, base, name string) (string, error) {
	to, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("CLEARWARD_DATABASE_URL: %w", err)
	}
	to.Path = "/" + name
	return to.String(), administer(ctx, base, `CREATE DATABASE `+name)
}

// administer carries out one statement outside of any transaction.
func administer(ctx context.Context, base, statement string) error {
	conn, err := pgx.Connect(ctx, base)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// dropTopics removes the topics that a part of the demo had on another's broker.
func dropTopics(ctx context.Context, brokers, prefix string) error {
	k := feed.Kafka{Brokers: strings.Split(brokers, ","), Prefix: prefix}
	// The connections that are kept ask for their topics now and then, which makes
	// them anew on a broker that makes topics by itself.
	if kept, ok := kafka.DefaultTransport.(*kafka.Transport); ok {
		kept.CloseIdleConnections()
	}
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(k.Brokers...), Timeout: 10 * time.Second, Transport: transport}
	done, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: slices.Sorted(maps.Keys(k.Topics()))})
	if err != nil {
		return fmt.Errorf("remove the topics of the demo: %w", err)
	}
	for topic, err := range done.Errors {
		if err != nil && !errors.Is(err, kafka.UnknownTopicOrPartition) {
			return fmt.Errorf("remove topic %s: %w", topic, err)
		}
	}
	return nil
}

// openStage opens the program and prints how long that took.
func openStage(ctx context.Context, c Config, o DemoOptions, out io.Writer) (*Server, error) {
	began := time.Now()
	s, err := Open(ctx, c)
	if err == nil {
		fmt.Fprintf(out, "  %s %8s  %6.1f s\n", pad(words(demoWords, o.Lang)["start"], 32), "", time.Since(began).Seconds())
	}
	return s, err
}

// sampleDemo takes the sample day through.
func sampleDemo(ctx context.Context, c Config, o DemoOptions, out io.Writer, m *Meter) error {
	fmt.Fprintf(out, "%s\n\n", words(demoWords, o.Lang)["sample"])
	s, err := openStage(ctx, c, o, out)
	if err != nil {
		return err
	}
	day, err := s.takeSample(ctx, filepath.Join(c.Local.DataDir, "files"), m, func(stage Stage) { WriteStage(out, stage, o.Lang) })
	if err == nil {
		fmt.Fprintln(out)
		err = day.Write(out, recon.FormatTable, o.Lang)
	}
	if err == nil {
		err = errors.Join(sampleFound(out, day, o.Lang), s.provenBooks(ctx, out, o.Lang, true))
	}
	return errors.Join(err, s.Close())
}

// provenBooks prints the trial balance and what Verify says; those of the sample
// day must be the manual's.
func (s *Server) provenBooks(ctx context.Context, out io.Writer, lang string, sample bool) error {
	all, err := s.TrialBalance(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out)
	if sample {
		WriteBalances(out, all, lang)
		err = sampleBooks(out, all, lang)
	}
	found, verifying := s.Verify(ctx)
	if verifying != nil {
		return errors.Join(err, verifying)
	}
	WriteFindings(out, found, lang)
	if len(found) > 0 {
		err = errors.Join(err, fmt.Errorf("%w: the books break %d rules", ErrDemo, len(found)))
	}
	return err
}
