// Package lived lives a day with the whole house: patients pay at three
// hospitals through the API, channels, HIS and bank answer from the sandbox, some
// of it goes wrong, and on the next mornings the program fetches what the others
// say, reconciles it, settles and pays out. At the end everything that was
// planted must have been found, and nothing else.
//
// The driver is an outsider: it knows the API, the sandbox and what it has been
// told by them. Amounts are fen.
package lived

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/clearward/clearward/api"
	"github.com/clearward/clearward/ledger"
)

// ErrDemo says that the day that was lived is not what it must be.
var ErrDemo = errors.New("the lived day is not what it must be")

// Options say how the day is lived.
type Options struct {
	Config   api.Config
	Binary   string // of this program, which runs as sandbox and server
	Payments int    // by channels and cash together
	Seed     uint64
	Kills    int  // how often the server is killed while patients pay
	Stay     bool // everything is left running at the end, until the context ends
	Keep     bool // the data directory stays
	Lang     string
	Out      io.Writer
	Meter    *api.Meter
}

// lifeDay is a Monday: banks work on the mornings after it.
const lifeDay ledger.Day = 20260914

// Live lives the day and the mornings after it.
func Live(ctx context.Context, o Options) (err error) {
	dir, err := os.MkdirTemp("", "clearward_lived_")
	if err != nil {
		return err
	}
	defer func() {
		if o.Keep {
			fmt.Fprintf(o.Out, words(o.Lang)["kept"]+"\n", dir)
		} else {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	l := &life{o: o, began: time.Now()}
	l.say("title")
	return errors.Join(l.in(ctx, filepath.Clean(dir)), l.closing())
}

// in lives in a directory.
func (l *life) in(ctx context.Context, dir string) error {
	err := l.stage("start", func() (n int, err error) {
		l.house, err = openHouse(ctx, l.o, dir, at(lifeDay, 6, 0, 0))
		if err == nil {
			err = l.settle(ctx)
		}
		if err == nil {
			err = l.serve(ctx)
		}
		return len(hospitals), err
	})
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		live func(ctx context.Context) (int, error)
	}{
		{"draw", l.draw}, {"day", l.day}, {"morning", l.morning}, {"settled", l.settled}, {"subsidies", l.subsidies}, {"payout", l.payout}, {"check", l.check},
	} {
		if err := l.stage(part.name, func() (int, error) { return part.live(ctx) }); err != nil {
			return err
		}
	}
	if err := l.report(ctx); err != nil || !l.o.Stay {
		return err
	}
	l.say("stay", l.url(), l.keys[auditor], l.url(), l.where.Admin, l.dir)
	<-ctx.Done()
	return nil
}

// stage does a part and prints how long it took.
func (l *life) stage(name string, do func() (int, error)) error {
	began := time.Now()
	n, err := do()
	l.o.Meter.Clear()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	l.took(name, n, time.Since(began))
	return nil
}
