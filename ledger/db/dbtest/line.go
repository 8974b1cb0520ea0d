package dbtest

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Line is a way to a database that can be cut in the one moment that matters:
// after COMMIT was sent and before its answer came.
type Line struct {
	URL string // leads to the database over this line

	network, address string
	cut              atomic.Int32
}

// What happens to the next COMMIT.
const (
	passes int32 = iota
	lostOnTheWay
	lostOnTheWayBack
)

// NewLine opens a line to the database of url, which is not encrypted.
func NewLine(t testing.TB, databaseURL string) *Line {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Line{}
	l.network, l.address = pgconn.NetworkAddress(config.Host, config.Port)
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: listener.Addr().String(),
		Path: "/" + config.Database, RawQuery: "sslmode=disable"}
	l.URL = u.String()
	var open sync.WaitGroup
	open.Go(func() { l.accept(listener, &open) })
	t.Cleanup(func() {
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
		open.Wait() // the pools on this line are closed before it
	})
	return l
}

// CutNextCommit loses the next COMMIT: with committed, its answer, so that the
// transaction stands; else the COMMIT itself, so that it does not.
func (l *Line) CutNextCommit(committed bool) {
	if committed {
		l.cut.Store(lostOnTheWayBack)
	} else {
		l.cut.Store(lostOnTheWay)
	}
}

func (l *Line) accept(listener net.Listener, open *sync.WaitGroup) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(l.network, l.address)
		if err != nil {
			_ = client.Close()
			continue
		}
		var mute atomic.Bool // the server's next words are lost
		open.Go(func() { l.forward(client, server, &mute) })
		open.Go(func() { answer(client, server, &mute) })
	}
}

// forward carries what the client says, one message or more at a time.
func (l *Line) forward(client, server net.Conn, mute *atomic.Bool) {
	defer func() { _ = server.Close() }() // so that the other direction ends too
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if bytes.Contains(bytes.ToLower(buffer[:n]), []byte("commit")) {
			switch l.cut.Swap(passes) {
			case lostOnTheWay:
				_ = client.Close()
				return
			case lostOnTheWayBack:
				mute.Store(true)
			}
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// answer carries what the server says until it is mute.
func answer(client, server net.Conn, mute *atomic.Bool) {
	defer func() { _ = client.Close() }()
	_, _ = io.Copy(writerFunc(func(p []byte) (int, error) {
		if mute.Load() {
			return 0, net.ErrClosed // it has answered, so it has committed
		}
		return client.Write(p)
	}), server)
}

type writerFunc func(p []byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
