package features_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox/live"
	"github.com/clearward/clearward/ledger"
)

// How many clients pay at the sandbox, and how often it is killed under them.
const (
	sandboxPayers = 8
	sandboxKills  = 8
)

// island is a sandbox as a process of its own that is killed and started again on
// the same directory and addresses.
type island struct {
	shore
	binary string
	config string
	log    *os.File
	cmd    *exec.Cmd
	done   chan struct{} // one for each visit that came to its end
	admin  http.Client
}

// newIsland writes the config with addresses that are free now.
func newIsland(t *testing.T) *island {
	t.Helper()
	dir := t.TempDir()
	s := &island{shore: shore{t: t, dir: filepath.Join(dir, "sandbox"), now: time.Now, patience: 5 * time.Second, notify: "http://127.0.0.1:9/"},
		binary: binary(t), done: make(chan struct{}, 1_000_000), config: filepath.Join(dir, "sandbox.yaml"), admin: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }() // the sandbox takes it
		return l.Addr().String()
	}
	at := live.Addresses{WeChat: free(), Alipay: free(), Admin: free()}
	text, err := yaml.Marshal(live.Config{Merchants: merchants(), Listen: at, FreeFen: 1_000_000, FreePerDay: 255})
	if err == nil {
		err = os.WriteFile(s.config, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.at = live.Addresses{WeChat: "http://" + at.WeChat, Alipay: "http://" + at.Alipay, Admin: "http://" + at.Admin}
	// A file, and no pipe: nobody waits for its end.
	if s.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		_ = s.log.Close()
	})
	return s
}

// start starts the process and waits until it answers.
func (s *island) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "sandbox", "--dir", s.dir, "--config", s.config)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ticker, give := time.NewTicker(10*time.Millisecond), time.After(time.Minute)
	defer ticker.Stop()
	for {
		answer, err := s.admin.Get(s.at.Admin + "/faults")
		if err == nil {
			_ = answer.Body.Close()
			return
		}
		select {
		case <-ticker.C:
		case <-give:
			said, _ := os.ReadFile(s.log.Name())
			s.t.Fatalf("the sandbox does not answer: %v\n%s", err, said)
		}
	}
}

// served waits until so many more visits came to their ends.
func (s *island) served(n int) {
	s.t.Helper()
	give := time.After(time.Minute)
	for range n {
		select {
		case <-s.done:
		case <-give:
			s.t.Fatal("nobody is served")
		}
	}
}

// kill is kill -9.
func (s *island) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may be dead already
	_ = s.cmd.Wait()         // it was killed: that is its error
	s.cmd = nil
}

// books are the sums of the sandbox's books of today, and yesterday if the night
// fell on the test.
func (s *island) books(no string, since ledger.Day) (sums live.Sums) {
	s.t.Helper()
	for day := since; day <= ledger.DayOf(time.Now()); day = day.Add(1) {
		answer, err := s.admin.Get(s.at.Admin + "/books?merchant=" + no + "&day=" + day.String())
		if err != nil {
			s.t.Fatal(err)
		}
		var one live.Sums
		err = json.NewDecoder(answer.Body).Decode(&one)
		_ = answer.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		sums.Payments, sums.PayFen, sums.Refunds, sums.RefundFen = sums.Payments+one.Payments, sums.PayFen+one.PayFen, sums.Refunds+one.Refunds, sums.RefundFen+one.RefundFen
	}
	return sums
}

// visit is one payment with its refund, as its payer knows it.
type visit struct {
	no         string
	amount     ledger.Money
	paid, back bool // acknowledged
	sent       bool // at least once: the outcome may be unknown
	last       channels.Reason
}

// patron pays and gives back at one adapter, one visit after the other.
type patron struct {
	name    string
	way     channels.Way
	connect func(*shore) (channels.Gateway, error)
	visits  []*visit
}

// work pays until the sandbox is dead; what is not known is asked for first.
func (p *patron) work(ctx context.Context, s *island) {
	g, err := p.connect(&s.shore)
	if err != nil {
		s.t.Error(err)
		return
	}
	for _, v := range p.visits {
		p.settle(ctx, s, g, v)
	}
	for ctx.Err() == nil {
		v := &visit{no: fmt.Sprintf("%s%06d", p.name, len(p.visits)), amount: ledger.Money(1000 + len(p.visits))}
		p.visits = append(p.visits, v)
		p.settle(ctx, s, g, v)
		if !v.back {
			return // it is dead
		}
		s.done <- struct{}{}
	}
}

// settle brings a visit as far as it goes. The same numbers are sent again as often
// as nobody answered for them.
func (p *patron) settle(ctx context.Context, s *island, g channels.Gateway, v *visit) {
	if !v.paid && v.sent {
		v.paid = g.Query(ctx, v.no).Outcome == channels.OutcomeSucceeded
	}
	if !v.paid {
		v.sent = true
		r := channels.PayRequest{OrderNo: v.no, Way: p.way, Amount: v.amount, Subject: channels.SubjectOutpatient, Terminal: "T1", ClientIP: "127.0.0.1"}
		if p.way == channels.WayCode {
			r.AuthCode = fmt.Sprintf("13%016d", rand.Int64N(1e16))
			if p.name[0] == 'A' {
				r.AuthCode = fmt.Sprintf("28%016d", rand.Int64N(1e16))
			}
		}
		a := g.Pay(ctx, r)
		v.last = a.Reason
		if v.paid = a.Outcome == channels.OutcomeSucceeded; a.Outcome == channels.OutcomePending && s.pay(wechatNo, v.no) {
			v.paid = g.Query(ctx, v.no).Outcome == channels.OutcomeSucceeded
		}
	}
	if v.paid && !v.back {
		r := channels.RefundRequest{OrderNo: v.no, RefundNo: "R" + v.no, Total: v.amount, Amount: v.amount / 2, Cause: channels.CauseItem}
		a := g.Refund(ctx, r)
		if a.Outcome == channels.OutcomeUnknown { // Alipay says of a repeated number only that nothing moved now
			a = g.QueryRefund(ctx, r)
		}
		v.back, v.last = a.Outcome == channels.OutcomeSucceeded || a.Outcome == channels.OutcomePending, a.Reason
	}
}

// pay is the payer of a prepay order.
func (s *island) pay(merchant, no string) bool {
	text, err := json.Marshal(map[string]string{"merchant": merchant, "order": no})
	if err != nil {
		return false
	}
	answer, err := s.admin.Post(s.at.Admin+"/pay", "application/json", bytes.NewReader(text))
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// TestTheSandboxIsKilledAtAnyMoment kills the sandbox under clients of every
// adapter. What it acknowledged is there after each start; numbers that are sent
// again pay and refund once; and its books are what the clients know, to the fen.
func TestTheSandboxIsKilledAtAnyMoment(t *testing.T) {
	s, since := newIsland(t), ledger.DayOf(time.Now())
	var patrons []*patron
	for i := range sandboxPayers {
		p := &patron{name: fmt.Sprintf("W%d", i), way: channels.WayCode, connect: (*shore).wechatV2}
		switch i % 6 {
		case 1:
			p.name, p.connect = fmt.Sprintf("A%d", i), (*shore).alipayKeys
		case 2:
			p.way, p.connect = channels.WayQR, (*shore).wechatV3
		case 4:
			p.name, p.connect = fmt.Sprintf("A%d", i), (*shore).alipayCertificates
		case 5:
			p.way, p.connect = channels.WayQR, (*shore).wechatPublic
		}
		patrons = append(patrons, p)
	}
	through := func(until func()) {
		s.start()
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		for _, p := range patrons {
			running.Go(func() { p.work(ctx, s) })
		}
		until()
		s.kill()
		stop()
		running.Wait()
	}
	for range sandboxKills {
		through(func() {
			s.served(1 + rand.IntN(40))
		})
	}
	s.start()
	all := 0
	for _, p := range patrons {
		g, err := p.connect(&s.shore)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range p.visits {
			if v.paid && g.Query(t.Context(), v.no).Amount != v.amount {
				t.Errorf("%s was paid, and the sandbox has forgotten it", v.no)
			} else if v.back && g.QueryRefund(t.Context(), channels.RefundRequest{OrderNo: v.no, RefundNo: "R" + v.no, Total: v.amount, Amount: v.amount / 2}).Outcome != channels.OutcomeSucceeded {
				t.Errorf("R%s was given back, and the sandbox has forgotten it", v.no)
			}
			if p.settle(t.Context(), s, g, v); !v.paid || !v.back {
				t.Errorf("%s does not come to its end: paid %t, given back %t, %+v", v.no, v.paid, v.back, v.last)
			}
		}
		all += len(p.visits)
	}
	s.tie(patrons, since)
	t.Logf("%d payments, each with its refund, through %d kills", all, sandboxKills)
}

// tie compares the sandbox's books with what the clients know.
func (s *island) tie(patrons []*patron, since ledger.Day) {
	s.t.Helper()
	want := map[string]*live.Sums{wechatNo: {}, alipayNo: {}}
	for _, p := range patrons {
		sums := want[wechatNo]
		if p.name[0] == 'A' {
			sums = want[alipayNo]
		}
		for _, v := range p.visits {
			sums.Payments, sums.PayFen = sums.Payments+1, sums.PayFen+int64(v.amount)
			sums.Refunds, sums.RefundFen = sums.Refunds+1, sums.RefundFen+int64(v.amount/2)
		}
	}
	for no, w := range want {
		got := s.books(no, since)
		if got.Payments != w.Payments || got.PayFen != w.PayFen || got.Refunds != w.Refunds || got.RefundFen != w.RefundFen {
			s.t.Errorf("%s: the books have %+v, the clients know of %+v", no, got, *w)
		}
	}
}
