package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/clearward/clearward/api/sdk"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// AppAct is what a person at a terminal has a business app do, through the SDK.
type AppAct struct {
	URL, Key string
	Do       string // pay, query, close, refund, daily, hear
	Request  string // pay, refund: the request as JSON
	Hospital string
	Order    string
	Day      string
	Listen   string // hear: host:port of loopback
}

// Act does one thing as a business app and prints what it came to.
func (a AppAct) Act(ctx context.Context, now func() time.Time, out io.Writer) error {
	if now == nil {
		now = time.Now
	}
	app, err := sdk.NewApp(a.URL, a.Key, now)
	if err != nil {
		return err
	}
	var answer proto.Message
	switch a.Do {
	case "pay":
		r := &payv1.CreatePaymentRequest{}
		if err = a.read(r); err == nil {
			answer, err = app.Pay(ctx, r)
		}
	case "refund":
		r := &payv1.CreateRefundRequest{}
		if err = a.read(r); err == nil {
			answer, err = app.Refund(ctx, r)
		}
	case "query":
		answer, err = app.Query(ctx, a.Hospital, a.Order)
	case "await":
		answer, err = a.await(ctx, app)
	case "close":
		answer, err = app.Close(ctx, a.Hospital, a.Order)
	case "daily":
		return app.Daily(ctx, a.Hospital, a.Day, out)
	default:
		return a.hear(ctx, app, now, out)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, protojson.Format(answer))
	return nil
}

func (a AppAct) read(into proto.Message) error {
	if err := protojson.Unmarshal([]byte(a.Request), into); err != nil {
		return ErrField.Because("request", "%v", err)
	}
	return nil
}

// awaitEvery is how often a payment under way is asked for.
const awaitEvery = 2 * time.Second

func (a AppAct) await(ctx context.Context, app *sdk.App) (*payv1.Payment, error) {
	p, err := app.Query(ctx, a.Hospital, a.Order)
	if err != nil {
		return nil, err
	}
	return app.Await(ctx, p, awaitEvery)
}

// hear prints the notices of the platform until ctx ends.
func (a AppAct) hear(ctx context.Context, app *sdk.App, now func() time.Time, out io.Writer) error {
	public, err := app.NoticeKey(ctx)
	if err != nil {
		return err
	}
	door, err := listen(ctx, ServeOptions{Listen: a.Listen})
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, Handler: sdk.Notices(public, now, func(n sdk.Notice) error {
		_, err := fmt.Fprintf(out, "%s %s %s%s %s %s fen, version %d\n", n.At.Format(time.RFC3339), n.Kind, n.OrderNo, spaced(n.RefundNo), n.Status, fmt.Sprint(n.AmountFen), n.Version)
		return err
	})}
	fmt.Fprintf(out, "notices are heard on http://%s\n", door.Addr())
	return serveUntil(ctx, server, door)
}

func spaced(text string) string {
	if text == "" {
		return ""
	}
	return " " + text
}

// serveUntil serves until ctx ends.
func serveUntil(ctx context.Context, server *http.Server, door net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // Serve says that it was closed
	defer stop()
	if err := server.Serve(door); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
