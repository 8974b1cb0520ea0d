package recon_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
	"github.com/clearward/clearward/recon/feed"
)

// pauses makes people hold back what is released, and what becomes the hospital's own.
func (h *house) pauses(release, settle bool) {
	h.engine.Paused = func(context.Context, pgx.Tx) (bool, bool, error) { return release, settle, nil }
}

// resumes ends every pause and does what was left for the jobs.
func (h *house) resumes() {
	h.t.Helper()
	h.pauses(false, false)
	_, err := h.engine.Release(h.t.Context())
	h.must(err)
	_, err = h.engine.Settle(h.t.Context())
	h.must(err)
}

// movesOn does the two jobs, which are to move the money of so many merchant numbers.
func (h *house) movesOn(released, settled int) {
	h.t.Helper()
	got, err := h.engine.Release(h.t.Context())
	h.must(err)
	owned, err := h.engine.Settle(h.t.Context())
	h.must(err)
	if got != released || owned != settled {
		h.t.Errorf("%d merchant numbers were released and %d settled, want %d and %d", got, owned, released, settled)
	}
	h.verify()
}

// counts says how many entries of a journal there are.
func (h *house) counts(journal string) string {
	h.t.Helper()
	return h.column(`SELECT COUNT(*)::TEXT FROM entries WHERE kind = $1`, journal)[0]
}

// onItsWay is the balances and what is open by reference, subsidies by settlement
// among them.
func (h *house) onItsWay() string {
	h.t.Helper()
	return trialOf(h.trial()) + strings.Join(h.open(append(suspenseFamilies, "2242.")...), "\n")
}

// G08: a run that nobody paused leaves the jobs nothing to do.
func TestTheJobsFindNothingAfterAnOrdinaryRun(t *testing.T) {
	t.Parallel()
	h := decidedSample(t)
	written := h.written()
	h.movesOn(0, 0)
	if got := h.written(); got != written {
		t.Errorf("the jobs wrote %s, there was %s", got, written)
	}
}

// TestWhatIsHeldBackIsPostedOnceAndEndsAsWithoutIt: J25 or J28c are held back, or both,
// while the day is run, and a case decided: nothing is released or becomes the
// hospital's own, the books prove themselves, and once it is resumed the jobs post it,
// once, to where the same day ends that nobody held back.
func TestWhatIsHeldBackIsPostedOnceAndEndsAsWithoutIt(t *testing.T) {
	decided := func(h *house) {
		h.t.Helper()
		if c := h.settle(h.caseOf(sampleDay, recon.I1, "").ID, "HIS_BOOKS"); c.State != recon.CaseClosed {
			h.t.Errorf("the case is %s", c.State)
		}
		h.verify()
	}
	plain := decidedSample(t)
	decided(plain)
	if got := -plain.trial()[avail]; got != 6450 {
		t.Errorf("AVAIL is %s, want 64.50: released by the decision, not yet the hospital's own", got)
	}
	plain.movesOn(0, 1)
	want := plain.onItsWay()

	for name, c := range map[string]struct {
		release, settle   bool
		j25, j28c         string // posted while it is held back
		avail             ledger.Money
		released, settled int
	}{
		"release": {true, false, "0", "0", 0, 2, 2},
		"settle":  {false, true, "3", "0", 1578258 + 6450, 0, 2},
		"both":    {true, true, "0", "0", 0, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := sampleHouse(t)
			h.pauses(c.release, c.settle)
			h.feedSample(sampleFeeds...)
			h.expect(h.run(sampleDay))
			decided(h)
			written := h.written()
			h.idle(sampleDay)
			if c.release {
				h.movesOn(0, 0)
			}
			if got := h.written(); got != written {
				t.Errorf("while it was held back %s was written, there was %s", got, written)
			}
			if j25, j28c := h.counts("J25"), h.counts("J28c"); j25 != c.j25 || j28c != c.j28c {
				t.Errorf("while it was held back there were %s J25 and %s J28c, want %s and %s", j25, j28c, c.j25, c.j28c)
			}
			if got := -h.trial()[avail]; got != c.avail {
				t.Errorf("AVAIL is %s while it is held back, want %s", got, c.avail)
			}
			h.pauses(false, false)
			h.movesOn(c.released, c.settled)
			sameState(t, "once it is resumed", want, h.onItsWay())
			h.idle(sampleDay)
			h.movesOn(0, 0)
			sameState(t, "the jobs again", want, h.onItsWay())
		})
	}
}

// TestWhatIsHeldBackInModeB: nothing is available for a payout, and nothing becomes
// the hospital's own by us.
func TestWhatIsHeldBackInModeB(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.setupSampleB()
	h.pauses(true, true)
	h.feedSample(sampleFeeds[:5]...)
	h.feed(feed.Options{}, custodyStatement(t))
	h.expect(h.run(sampleDay))
	h.verify()
	if got := h.trial()[avail]; got != 0 {
		t.Errorf("AVAIL is %s while it is held back", -got)
	}
	h.pauses(false, false)
	h.movesOn(2, 0)
	h.expectBalances(sampleTrialB)
	h.idle(sampleDay)
}

// TestTwoProcessesMoveTheSameMoneyOnce: the jobs of two processes, of which one took
// over from the other, meet at the same merchant numbers, and a run besides.
func TestTwoProcessesMoveTheSameMoneyOnce(t *testing.T) {
	t.Parallel()
	h := sampleHouse(t)
	h.pauses(true, true)
	h.feedSample(sampleFeeds...)
	h.run(sampleDay)
	h.pauses(false, false)
	other, err := ledger.NewCommitter(t.Context(), h.db, ledger.Options{Now: h.engine.Now})
	h.must(err)
	defer other.Close()
	second := *h.engine
	second.Committer = other
	for _, job := range []func(*recon.Engine) (int, error){
		func(e *recon.Engine) (int, error) { return e.Release(t.Context()) },
		func(e *recon.Engine) (int, error) { return e.Settle(t.Context()) },
	} {
		var done atomic.Int32
		var all sync.WaitGroup
		for _, e := range []*recon.Engine{h.engine, &second, h.engine, &second} {
			all.Go(func() {
				n, err := job(e)
				if err != nil {
					t.Error(err)
				}
				done.Add(int32(n))
			})
		}
		all.Wait()
		if done.Load() != 2 {
			t.Errorf("%d merchant numbers were moved, want 2 once each", done.Load())
		}
	}
	if j25, j28c := h.counts("J25"), h.counts("J28c"); j25 != "2" || j28c != "2" {
		t.Errorf("%s J25 and %s J28c", j25, j28c)
	}
	h.expectTrial()
	h.verify()
}

// TestTheReferencesOfTheJobsSayWhatTheyCover: day, merchant number and from which sum
// to which; the subsidy of J28c stands under the settlement, as a run writes it.
func TestTheReferencesOfTheJobsSayWhatTheyCover(t *testing.T) {
	t.Parallel()
	h := sampleHouse(t)
	h.pauses(true, false)
	h.feedSample(sampleFeeds...)
	h.run(sampleDay)
	h.pauses(false, false)
	h.movesOn(2, 2)
	got := strings.Join(h.column(`SELECT kind || ' ' || ref || ' ' || value_day::TEXT FROM entries WHERE kind IN ('J25', 'J28c') ORDER BY kind, ref`), "\n")
	want := strings.Join([]string{
		"J25 rel_20260917_1900000109_0_1072156 20260917", "J25 rel_20260917_20880000000000020156_0_506102 20260917",
		"J28c stl_20260915_1900000109 20260917", "J28c stl_20260915_20880000000000020156 20260917",
	}, "\n")
	sameState(t, "references", want, got)
}
