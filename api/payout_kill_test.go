package api

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/clearward/clearward/deploy/local"
)

// The environment of a process that sends what is due in a data directory, at a
// time, and is killed meanwhile.
const (
	sendIn = "CW_TEST_SEND_IN"
	sendAt = "CW_TEST_SEND_AT"
)

// TestMain is also that process.
func TestMain(m *testing.M) {
	dir := os.Getenv(sendIn)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := sendOnce(dir, os.Getenv(sendAt)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func sendOnce(dir, text string) error {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return err
	}
	s, err := Open(context.Background(), Config{Local: local.Config{DataDir: dir}, Now: func() time.Time { return at }})
	if err != nil {
		return err
	}
	_, err = s.sendPayouts(context.Background(), at)
	return err
}

// K04: the bank has the transfer, its answer is on the way, and the process is
// killed. The next one asks and sends nothing.
func TestAKillBetweenSendingAndAnswerSendsNothingTwice(t *testing.T) {
	h := openBank(t)
	h.plant(`{"do":"DELAY","api":"transfer","commit":true,"millis":600000}`)
	number := h.approved(30000)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), sendIn+"="+h.stack.DataDir, sendAt+"="+h.now().Format(time.RFC3339))
	child.Stderr = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for there := 0; there == 0; {
		select {
		case err := <-ended:
			t.Fatal("the process ended by itself:", err)
		case <-look.C:
		}
		list, err := h.bank.Transfers(thursday.String())
		if err != nil {
			t.Fatal(err)
		}
		there = len(list)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the process ended well although it was killed")
	}
	h.is(number, "SENDING")
	h.job(h.sendPayouts, 0)
	h.is(number, "SENDING")
	h.after(11 * time.Second)
	h.job(h.sendPayouts, 0)
	h.job(h.pollPayouts, 1)
	h.is(number, "SUCCEEDED")
	h.available(t.Context(), t, 70000)
	h.atBank(70000, 1)
}
