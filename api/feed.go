package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// FeedKind says whose files are fed.
type FeedKind string

// The kinds of feeds, as the command names them.
const (
	FeedChannel FeedKind = "channel"
	FeedHIS     FeedKind = "his"
	FeedBank    FeedKind = "bank"
)

// ErrRefused says that at least one file was not taken.
var ErrRefused = errors.New("refused")

// Verdict is what became of one file.
type Verdict struct {
	Path    string
	File    recon.FedFile // what is stored of it
	Refused error         // why it was not sent, or not taken
}

// FileToFeed is a file with what the person who feeds it says of it.
type FileToFeed struct {
	Path string
	feed.Options
}

// Feed sends files and waits until they are stored. A file that is refused does
// not keep the others back; err is what kept the work from being done at all.
func (s *Server) Feed(ctx context.Context, kind FeedKind, files []FileToFeed, progress func(name string, lines int)) ([]Verdict, error) {
	producer, err := s.producer(ctx)
	if err != nil {
		return nil, err
	}
	producer.Progress = progress
	send := map[FeedKind]func(context.Context, string, feed.Options) (feed.Fed, error){
		FeedChannel: producer.FeedChannel, FeedHIS: producer.FeedHIS, FeedBank: producer.FeedBank,
	}[kind]
	verdicts := make([]Verdict, len(files))
	for i, f := range files {
		verdicts[i].Path = f.Path
		told, err := f.Options, error(nil)
		if kind == FeedHIS {
			told, err = withManifest(f.Path, told)
		}
		var fed feed.Fed
		if err == nil {
			fed, err = send(ctx, f.Path, told)
		}
		switch {
		case err == nil:
			verdicts[i].File.File = fed.File
		case isRefusal(err):
			verdicts[i].Refused = err
		default:
			return nil, errors.Join(err, producer.Close())
		}
	}
	if err := producer.Close(); err != nil {
		return nil, fmt.Errorf("send to the broker: %w", err)
	}
	if err := s.CaughtUp(ctx); err != nil {
		return nil, err
	}
	return verdicts, s.judge(ctx, verdicts)
}

// withManifest adds what FILE.manifest.json says of a HIS file, where there is one.
func withManifest(path string, o feed.Options) (feed.Options, error) {
	beside := path + ".manifest.json"
	file, err := os.Open(beside)
	if errors.Is(err, fs.ErrNotExist) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	defer file.Close()
	said := channels.Expect{Hospital: o.Hospital, Day: o.Day, Counted: o.Counted, Rows: o.Rows, Sum: o.Sum}
	if said, err = his.ReadManifest(file, said); err != nil {
		return o, fmt.Errorf("%s: %w", filepath.Base(beside), err)
	}
	o.Hospital, o.Day, o.Counted, o.Rows, o.Sum, o.SHA256 = said.Hospital, said.Day, said.Counted, said.Rows, said.Sum, said.SHA256
	return o, nil
}

// isRefusal tells a bad file from a broken road.
func isRefusal(err error) bool {
	var file *channels.FileError
	var path *fs.PathError
	return errors.As(err, &file) || errors.As(err, &path) ||
		errors.Is(err, feed.ErrFile) || errors.Is(err, feed.ErrUnknownOwner) || errors.Is(err, feed.ErrChanged)
}

// judge reads what is stored of the files that were sent.
func (s *Server) judge(ctx context.Context, verdicts []Verdict) error {
	var ids []int64
	for _, v := range verdicts {
		if v.Refused == nil {
			ids = append(ids, v.File.File)
		}
	}
	stored := map[int64]recon.FedFile{}
	err := s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		files, err := recon.Files(ctx, tx, ids...)
		for _, f := range files {
			stored[f.File] = f
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := range verdicts {
		v := &verdicts[i]
		if v.Refused != nil {
			continue
		}
		f, known := stored[v.File.File]
		switch {
		case !known, f.Stored < f.Lines:
			v.Refused = fmt.Errorf("%w: lines of it went to the dead letters: `clearward feed dead` names them", ErrRefused)
		case f.State == recon.FileRejected:
			v.Refused = fmt.Errorf("%w: what is stored is not what the manifest says: %s", ErrRefused, f.Reason)
		}
		if known {
			v.File = f
		}
	}
	return nil
}

func (s *Server) producer(ctx context.Context) (*feed.Producer, error) {
	dir, err := s.directory(ctx)
	if err != nil {
		return nil, err
	}
	owners := make([]feed.Owner, 0, len(dir.Merchants))
	for _, m := range dir.Merchants {
		owners = append(owners, feed.Owner{Hospital: m.Hospital, Channel: m.Channel, MerchantNo: m.No, Aliases: m.Aliases, Account: m.SettlesTo})
	}
	for i := range dir.Banks {
		if b := &dir.Banks[i]; b.Role == clearing.OwnAccount {
			owners = append(owners, feed.Owner{Account: b.Account})
		}
	}
	producer := feed.NewProducer(s.Kafka, owners, s.now)
	producer.Listed = listed(dir)
	return producer, nil
}

// listed says whether a bank line's counterparty is on the channel list. Any
// other may be a person, whose name does not leave the file.
func listed(dir *clearing.Directory) func(*channels.StatementLine) bool {
	return func(l *channels.StatementLine) bool {
		for _, c := range dir.Counterparties {
			if l.Counterparty == c.Name || c.Account != "" && l.CounterpartyAcc == c.Account {
				return true
			}
		}
		return false
	}
}

// WriteVerdicts prints one line for each file and returns ErrRefused if one was
// not taken.
func WriteVerdicts(w io.Writer, verdicts []Verdict) error {
	refused := 0
	for _, v := range verdicts {
		name := filepath.Base(v.Path)
		if v.Refused != nil {
			refused++
			// The producer names the file too; once is enough.
			fmt.Fprintf(w, "REJECTED   %s: %s\n", name, strings.TrimPrefix(v.Refused.Error(), name+": "))
			continue
		}
		f := v.File
		owner := strings.Join(strings.Fields(f.Slice.Hospital+" "+f.Slice.Channel+" "+f.Slice.Account), " ")
		fmt.Fprintf(w, "%s %s: %s %s, %d rows, %s\n", pad(string(f.State), 10), name, owner, f.Slice.Day, f.Rows, sums(f.Slice.Source, f.Totals))
	}
	if refused > 0 {
		return fmt.Errorf("%w: %d of %d files; nothing of a refused file counts", ErrRefused, refused, len(verdicts))
	}
	return nil
}

// sums says what a file adds up to.
func sums(source recon.Source, t recon.Totals) string {
	yuan := func(name string) string { return ledger.Money(t[name]).String() }
	counted := func(word, name string) string {
		return fmt.Sprintf("%s %d / %s", word, t[name+".count"], yuan(name+".amount"))
	}
	switch source {
	case recon.SourceHIS:
		return counted("payments", "pay") + ", " + counted("refunds", "refund")
	case recon.SourceBill:
		text := counted("payments", "pay") + ", " + counted("refunds", "refund")
		if t["reverse.count"] > 0 {
			text += ", " + counted("reversals", "reverse")
		}
		return text + ", fees " + ledger.Money(t["pay.fee"]-t["refund.fee"]-t["reverse.fee"]).String()
	case recon.SourceFund:
		return "opening " + yuan("opening") + ", trade " + yuan("trade") + ", refunds " + yuan("refund") + ", fees " +
			ledger.Money(t["fee"]+t["fee_return"]).String() + ", withdrawn " + yuan("withdrawn") + ", closing " + yuan("closing")
	}
	return fmt.Sprintf("opening %s, credits %d / %s, debits %d / %s, closing %s", yuan("opening"), t["credit.count"], yuan("credit"),
		t["debit.count"], yuan("debit"), yuan("closing"))
}

// DeadLetters lists what could not be stored.
func (s *Server) DeadLetters(ctx context.Context) ([]feed.Letter, error) {
	return feed.DeadLetters(ctx, s.Kafka, s.DB)
}

// Replay sends dead letters back, those named or all that were not sent back
// before, and waits until they are stored. It returns those that were sent.
func (s *Server) Replay(ctx context.Context, ids ...string) ([]feed.Letter, error) {
	sent, err := feed.Replay(ctx, s.Kafka, s.DB, s.now(), len(ids) > 0, ids...)
	if err != nil {
		return sent, err
	}
	return sent, s.CaughtUp(ctx)
}

// WriteLetters prints dead letters, one line each and its reason below.
func WriteLetters(w io.Writer, letters []feed.Letter) {
	for _, l := range letters {
		fmt.Fprintf(w, "%s  %s  %s/%d/%d  %s\n    %s\n", l.ID, l.At.In(ledger.Beijing).Format("2006-01-02 15:04:05"),
			l.Topic, l.Partition, l.Offset, l.Preview, l.Reason)
		if !l.Whole {
			fmt.Fprintln(w, "    too large to be kept whole: feed its file again")
		}
		if l.Replayed > 0 {
			fmt.Fprintf(w, "    sent back %d times\n", l.Replayed)
		}
	}
}
