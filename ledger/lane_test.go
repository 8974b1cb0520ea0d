package ledger

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clearward/clearward/ledger/db"
	"github.com/clearward/clearward/ledger/db/dbtest"
	"github.com/jackc/pgx/v5"
)

func payment(t testing.TB, ref string) Entry {
	return entry(t, "J01", ref, 20260915, bank.For(ref), owed.For(ref), 100)
}

// expire lets a lane's lease run out, as when its owner has stopped for a while
// without noticing.
func expire(t testing.TB, d *db.DB, lane int16) {
	t.Helper()
	if err := asOwner(t, d, `UPDATE lanes SET expires_at = '1970-01-01' WHERE lane = $1`, lane); err != nil {
		t.Fatal(err)
	}
}

func TestAFormerOwnerIsKeptOut(t *testing.T) {
	d := dbtest.New(t, Schema)
	open(t, d, bank, owed)
	former, err := NewCommitter(t.Context(), d, Options{Now: clock(), Lanes: []int16{0, 1}, Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer former.Close()
	if out := submit(t, former, Request{}, payment(t, "a")); out.Entry.Lane != 0 || out.Entry.Seq != 2 {
		t.Errorf("the first entry is %v, the batch before it is the claim", out.Entry)
	}
	expire(t, d, 0)
	next := newCommitter(t, d, 0)
	if out := submit(t, next, Request{}, payment(t, "b")); out.Entry.Lane != 0 || out.Entry.Seq != 4 {
		t.Errorf("the next owner posts %v", out.Entry)
	}
	if out := submit(t, former, Request{}, payment(t, "c")); out.Entry.Lane != 1 {
		t.Errorf("the former owner posts %v", out.Entry)
	}
	if got := former.Claims.Load(); got != 2 {
		t.Errorf("the former owner claimed %d lanes", got)
	}
	sound(t, d)
}

func TestALaneLostInTheMiddleOfABatch(t *testing.T) {
	d := dbtest.New(t, Schema)
	open(t, d, bank, owed)
	former, err := NewCommitter(t.Context(), d, Options{Now: clock(), Lanes: []int16{0, 1}, Lease: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer former.Close()
	var once sync.Once
	slow := &Verb[[]Entry]{Name: "slow", Run: func(ctx context.Context, b *Batch, cmds [][]Entry) []Outcome {
		once.Do(func() {
			expire(t, d, 0)
			newCommitter(t, d, 0)
		})
		return post.Run(ctx, b, cmds)
	}}
	out, err := Submit(t.Context(), former, slow, Request{Scope: "s", Key: "k"}, []Entry{payment(t, "a")})
	if err != nil || out.Err != nil || out.Entry.Lane != 1 || out.Replayed {
		t.Errorf("outcome %+v, %v", out, err)
	}
	if n := number(t, d, `SELECT count(*) FROM entries`); n != 1 {
		t.Errorf("%d entries", n)
	}
	sound(t, d)
}

func TestNoLaneIsFree(t *testing.T) {
	d, _ := newBooks(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := NewCommitter(ctx, d, Options{Now: clock(), Lanes: []int16{0}, Lease: lease})
	if !errors.Is(err, errNoLane) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}

func TestTheLaneOfADeadProcessIsTakenOver(t *testing.T) {
	d, dead := newBooks(t, bank, owed)
	submit(t, dead, Request{}, payment(t, "a"))
	dead.cancel() // it stops renewing and never gives the lane back
	next := newCommitter(t, d, 0)
	if out := submit(t, next, Request{}, payment(t, "b")); out.Entry.Lane != 0 || out.Entry.Seq != 4 {
		t.Errorf("the next owner posts %v", out.Entry)
	}
	sound(t, d)
}

// A cut is where the wire between committer and database breaks.
type cut int

const (
	whole       cut = iota
	beforeWrite     // the last pipeline never reaches the database
	afterCommit     // it is carried out, the answer is lost
	heldBack        // it reaches the database only after the doubt was settled
)

// wire is a proxy before the database that breaks once where it is told to.
type wire struct {
	t      *testing.T
	target string
	mu     sync.Mutex
	next   cut
	held   chan struct{} // closed when what is held back may go on
	passed chan struct{} // closed when what was held back was refused
}

func newWire(t *testing.T, owner string) (*wire, string) {
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	host, port := u.Hostname(), u.Port()
	if dir := query.Get("host"); dir != "" {
		host = dir
	}
	if p := query.Get("port"); p != "" {
		port = p
	}
	if port == "" {
		port = "5432"
	}
	w := &wire{t: t, target: filepath.Join(host, ".s.PGSQL."+port), held: make(chan struct{}), passed: make(chan struct{})}
	if !strings.HasPrefix(host, "/") {
		w.target = net.JoinHostPort(host, port)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go w.carry(client)
		}
	}()
	_, listening, _ := net.SplitHostPort(listener.Addr().String())
	query.Del("host")
	query.Del("port")
	query.Set("sslmode", "disable")
	u.Host, u.RawQuery = "127.0.0.1:"+listening, query.Encode()
	return w, u.String()
}

func (w *wire) carry(client net.Conn) {
	network := "tcp"
	if strings.HasPrefix(w.target, "/") {
		network = "unix"
	}
	server, err := net.Dial(network, w.target)
	if err != nil {
		w.t.Error(err)
		return
	}
	answers := make(chan cut, 1) // what the other direction is to do from now on
	go w.back(client, server, answers)
	defer func() { _ = server.Close() }()
	buf := make([]byte, 1<<20)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		now := w.next
		w.next = whole
		w.mu.Unlock()
		switch now {
		case beforeWrite:
			_ = client.Close()
			return
		case afterCommit:
			answers <- now
		case heldBack:
			answers <- now
			_ = client.Close()
			<-w.held
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
		if now == heldBack {
			<-w.passed
			return
		}
	}
}

// back carries the database's answers.
func (w *wire) back(client, server net.Conn, change <-chan cut) {
	defer func() { _ = client.Close() }()
	buf := make([]byte, 1<<20)
	var seen []byte
	for {
		n, err := server.Read(buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return
		}
		select {
		case now := <-change:
			for seen = append(seen, buf[:n]...); ; seen = append(seen, buf[:n]...) {
				if now == afterCommit && bytes.Contains(seen, []byte("COMMIT\x00")) {
					return
				}
				if now == heldBack && bytes.Contains(seen, []byte("batches_key")) {
					close(w.passed)
					return
				}
				if n, err = server.Read(buf); err != nil {
					return
				}
			}
		default:
		}
		if _, werr := client.Write(buf[:n]); werr != nil || err != nil {
			return
		}
	}
}

// TestALostAnswerToCommitIsSettled cuts the wire at COMMIT: whatever became of
// the batch, its commands are carried out once and the lane has no gap.
func TestALostAnswerToCommitIsSettled(t *testing.T) {
	cases := []struct {
		name    string
		cut     cut
		batches int // of the lane at the end: claim, batch, and what settling added
	}{
		{"not committed", beforeWrite, 3},
		{"committed", afterCommit, 2},
		{"sent, and refused when it arrives late", heldBack, 3},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			owner := dbtest.URL(t, Schema)
			w, through := newWire(t, owner)
			d, err := db.Open(t.Context(), through, db.App)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			open(t, d, bank, owed)
			c, err := NewCommitter(t.Context(), d, Options{Now: clock(), Lease: time.Hour}) // no renewal meets the cut
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			// The statements are prepared, so that the last pipeline is one message.
			cutting := cutBy(w, test.cut)
			before := submit(t, c, Request{}, payment(t, "first"))
			out, err := Submit(t.Context(), c, cutting, Request{}, []Entry{payment(t, "a")})
			if err != nil || out.Err != nil || out.Entry.Seq <= before.Entry.Seq {
				t.Errorf("outcome %+v, %v", out, err)
			}
			if test.cut == heldBack {
				close(w.held)
				<-w.passed
			}
			submit(t, c, Request{}, payment(t, "last"))
			if n := number(t, d, `SELECT count(*) FROM entries`); n != 3 {
				t.Errorf("%d entries", n)
			}
			if n := number(t, d, `SELECT count(*) FROM batches`); n != test.batches+2 {
				t.Errorf("%d batches", n)
			}
			if n := c.Settled.Load(); n != 1 {
				t.Errorf("%d doubts were settled", n)
			}
			sound(t, d)
		})
	}
}

// cutBy is post by a verb whose first run tells the wire to break.
func cutBy(w *wire, where cut) *Verb[[]Entry] {
	var once sync.Once
	return &Verb[[]Entry]{Name: "cut", Run: func(ctx context.Context, b *Batch, cmds [][]Entry) []Outcome {
		outs := post.Run(ctx, b, cmds)
		once.Do(func() {
			w.mu.Lock()
			w.next = where
			w.mu.Unlock()
		})
		return outs
	}}
}

func TestALostConnectionIsReplaced(t *testing.T) {
	d, c := newBooks(t, bank, owed)
	for i, ref := range []string{"a", "b", "c"} {
		if out := submit(t, c, Request{Scope: "s", Key: ref}, payment(t, ref)); out.Err != nil {
			t.Errorf("outcome %+v", out)
		}
		for _, link := range []*pgx.Conn{c.link, c.reader} {
			if err := link.PgConn().Conn().Close(); err != nil {
				t.Fatal(err)
			}
		}
		if n := number(t, d, `SELECT count(*) FROM entries`); n != i+1 {
			t.Errorf("%d entries", n)
		}
	}
	sound(t, d)
}
