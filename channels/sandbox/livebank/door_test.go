package livebank_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/bank"
	"github.com/clearward/clearward/channels/sandbox/livebank"
)

// keep is a door on the way to the bank that keeps what passes.
type keep struct{ last *http.Request }

func (k *keep) RoundTrip(r *http.Request) (*http.Response, error) {
	k.last = r.Clone(context.WithoutCancel(r.Context()))
	return http.DefaultTransport.RoundTrip(r)
}

func TestTheBankAnswersNobodyButItsCustomerAndNoRequestTwice(t *testing.T) {
	w := start(t, 0)
	key, err := os.ReadFile(filepath.Join(w.dir, "keys", "bank", "customer_key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	way := &keep{}
	now := w.now()
	mine := bank.Config{URL: w.door.URL, Customer: "C1", KeyID: livebank.CustomerKey, Key: string(key), HTTP: &http.Client{Transport: way}, Now: func() time.Time { return now }}
	ask := func(says string, want int, change func(*bank.Config)) {
		t.Helper()
		c := mine
		change(&c)
		g, err := bank.New(c)
		if err != nil {
			t.Fatal(err)
		}
		if a := g.QueryTransfer(t.Context(), "HB1"); a.State != channels.TransferUnknown || a.Exchange.Status != want {
			t.Errorf("%s: %s, status %d", says, a.State, a.Exchange.Status)
		}
	}
	ask("another customer", http.StatusUnauthorized, func(c *bank.Config) { c.Customer = "C2" })
	ask("another key", http.StatusUnauthorized, func(c *bank.Config) { c.KeyID = "customer-2" })
	ask("a clock seven minutes off", http.StatusUnauthorized, func(c *bank.Config) { c.Now = func() time.Time { return now.Add(7 * time.Minute) } })
	ask("the bank's key is not known here", http.StatusOK, func(*bank.Config) {})
	played, err := http.DefaultTransport.RoundTrip(way.last)
	if err != nil || played.StatusCode != http.StatusUnauthorized {
		t.Errorf("the same request again: %v, %v", played, err)
	}
	way.last.Header.Set(bank.HeaderNonce, "another")
	changed, err := http.DefaultTransport.RoundTrip(way.last)
	if err != nil || changed.StatusCode != http.StatusUnauthorized {
		t.Errorf("a changed request: %v, %v", changed, err)
	}
	if err := errors.Join(played.Body.Close(), changed.Body.Close()); err != nil {
		t.Error(err)
	}
}
