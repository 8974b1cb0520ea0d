package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// toFetch is a file of a day that the program fetches by itself, with how it is
// opened. What is fetched goes the way of every file that is fed.
type toFetch struct {
	slice recon.Slice // without its day
	kind  FeedKind
	open  func(ctx context.Context, day ledger.Day) (io.ReadCloser, error)
}

// How many files are fetched at a time, and how long one may take to its last byte.
const (
	fetchAtOnce = 4
	fetchFor    = 2 * time.Minute
)

// fetchHIS fetches the charge details of the day before from every HIS that has an
// address (R01), until they are there.
func (s *Server) fetchHIS(ctx context.Context, due time.Time) (int, error) {
	w, err := s.wiring(ctx)
	if err != nil {
		return 0, err
	}
	var list []toFetch
	for _, link := range w.HIS {
		list = append(list, toFetch{recon.Slice{Source: recon.SourceHIS, Hospital: link.Hospital}, FeedHIS,
			func(ctx context.Context, day ledger.Day) (io.ReadCloser, error) {
				g, err := s.house.Outside.HIS(link.Hospital)
				if err != nil {
					return nil, err
				}
				return g.Details(ctx, link.Hospital, day)
			}})
	}
	return s.fetch(ctx, due, list)
}

// fetchBills fetches the trade and fund bills of the day before of every merchant
// number that is connected, until they are there.
func (s *Server) fetchBills(ctx context.Context, due time.Time) (int, error) {
	w, err := s.wiring(ctx)
	if err != nil {
		return 0, err
	}
	dir, err := s.directory(ctx)
	if err != nil {
		return 0, err
	}
	var list []toFetch
	for _, g := range w.Gateways {
		m, ok := dir.Merchant(g.Channel, g.MerchantNo)
		if !ok {
			continue
		}
		for source, kind := range map[recon.Source]channels.BillKind{recon.SourceBill: channels.BillTrade, recon.SourceFund: channels.BillFund} {
			list = append(list, toFetch{recon.Slice{Source: source, Hospital: m.Hospital, Channel: m.Channel, Account: m.No}, FeedChannel,
				func(ctx context.Context, day ledger.Day) (io.ReadCloser, error) {
					open, err := s.house.Outside.Gateway(m.Channel, m.No)
					if err != nil {
						return nil, err
					}
					return open.FetchBill(ctx, kind, day)
				}})
		}
	}
	return s.fetch(ctx, due, list)
}

// fetch fetches what is not there of the days that are over, and says how many
// files it took. One that fails does not keep the others back; one that is not made
// yet is asked for again when the job is due again.
func (s *Server) fetch(ctx context.Context, due time.Time, list []toFetch) (int, error) {
	last := ledger.DayOf(s.now()).Add(-1)
	there, err := s.fedSlices(ctx, last.Add(-lateDays), last)
	if err != nil {
		return 0, err
	}
	var missing []toFetch
	for day := last.Add(-lateDays); day <= last; day = day.Add(1) {
		for _, f := range list {
			slice := f.slice
			slice.Day = day
			// Of the days before the due one only those of which something has come.
			if !there.whole(slice) && (day >= ledger.DayOf(due).Add(-1) || there.some(slice)) {
				f.slice = slice
				missing = append(missing, f)
			}
		}
	}
	var wait sync.WaitGroup
	slots, took, errs := make(chan struct{}, fetchAtOnce), make([]int, len(missing)), make([]error, len(missing))
	for i, f := range missing {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if took[i], errs[i] = s.fetchOne(ctx, f); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", f.name(), errs[i])
			}
		})
	}
	wait.Wait()
	done := 0
	for _, n := range took {
		done += n
	}
	return done, errors.Join(errs...)
}

// name is that of the file, by whose day it is.
func (f *toFetch) name() string {
	words := []string{strings.ToLower(string(f.slice.Source)), f.slice.Hospital, f.slice.Channel, f.slice.Account, f.slice.Day.Compact()}
	return strings.Join(strings.Fields(strings.Join(words, " ")), "_")
}

// fetchOne fetches a file and feeds it, and says whether it was taken.
func (s *Server) fetchOne(ctx context.Context, f toFetch) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchFor)
	defer cancel()
	in, err := f.open(ctx, f.slice.Day)
	switch {
	case errors.Is(err, channels.ErrBillNotReady):
		return 0, nil
	case errors.Is(err, channels.ErrNoBill):
		return 1, s.feedNone(ctx, f.slice)
	case err != nil:
		return 0, err
	}
	return s.feedFetched(ctx, f, in)
}

// feedFetched feeds what comes in, by way of a file: it is read twice.
func (s *Server) feedFetched(ctx context.Context, f toFetch, in io.ReadCloser) (n int, err error) {
	dir, err := os.MkdirTemp("", "clearward-fetch-*")
	if err != nil {
		return 0, errors.Join(err, in.Close())
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, f.name())
	if err := errors.Join(save(path, in), in.Close()); err != nil {
		return 0, err
	}
	o := feed.Options{MerchantNo: f.slice.Account, Hospital: f.slice.Hospital, Day: f.slice.Day}
	verdicts, err := s.Feed(ctx, f.kind, []FileToFeed{{path, o}}, nil)
	if err == nil {
		err = verdicts[0].Refused
	}
	if err != nil {
		return 0, err
	}
	return 1, nil
}

// save writes a file whole or says why not.
func save(path string, in io.Reader) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// feedNone feeds that the channel has no bill of the day.
func (s *Server) feedNone(ctx context.Context, slice recon.Slice) error {
	producer, err := s.producer(ctx)
	if err != nil {
		return err
	}
	fed, err := producer.FeedNone(ctx, slice.Source, slice.Channel, slice.Account, slice.Day)
	if err = errors.Join(err, producer.Close()); err != nil {
		return err
	}
	if err := s.CaughtUp(ctx); err != nil {
		return err
	}
	verdicts := []Verdict{{Path: fed.Name}}
	verdicts[0].File.File = fed.File
	if err := s.judge(ctx, verdicts); err != nil {
		return err
	}
	return verdicts[0].Refused
}

// fedSlices is how many parts of which files count, by slice.
type fedSlices map[recon.Slice]int

// whole tells whether nothing is missing of the slice; a trade bill has two parts.
func (f fedSlices) whole(s recon.Slice) bool {
	if s.Source == recon.SourceBill {
		return f[s] == 2
	}
	return f[s] > 0
}

// some tells whether anything has come of the hospital's day.
func (f fedSlices) some(s recon.Slice) bool {
	for other := range f {
		if other.Hospital == s.Hospital && other.Day == s.Day {
			return true
		}
	}
	return false
}

func (s *Server) fedSlices(ctx context.Context, from, to ledger.Day) (fedSlices, error) {
	found := fedSlices{}
	err := s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT source, hospital, channel, account, day FROM feed_parts WHERE day BETWEEN $1 AND $2`, from, to)
		if err != nil {
			return err
		}
		clear(found)
		var one recon.Slice
		_, err = pgx.ForEachRow(rows, []any{&one.Source, &one.Hospital, &one.Channel, &one.Account, &one.Day}, func() error { found[one]++; return nil })
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what was fed: %w", err)
	}
	return found, nil
}
