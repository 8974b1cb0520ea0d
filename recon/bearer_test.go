package recon_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels/sandbox"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon/feed"
)

// borneBy is the house of the sample day, fed, with other words in its master data.
func borneBy(t *testing.T, setup, statement string, words ...string) *house {
	t.Helper()
	h := newHouse(t)
	h.setup(reworded(t, setup, words...))
	h.importFile(filepath.Join(sampleDir, "platform.csv"))
	h.feedSample(sampleFeeds[:5]...)
	h.feed(feed.Options{}, statement)
	return h
}

// reworded is a copy of a file with other words.
func reworded(t *testing.T, path string, words ...string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		path = filepath.Join(t.TempDir(), "reworded.yaml")
		err = os.WriteFile(path, []byte(strings.NewReplacer(words...).Replace(string(text))), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	sampleSetup     = filepath.Join(sampleDir, "setup.yaml")
	sampleStatement = filepath.Join(sampleDir, sampleFeeds[5])
)

// borneByHospital is what the trial becomes where the hospital bears the fees: no
// subsidy is owed, what is pending is less by what no bill has settled yet, and what
// is no money of the hospital's stays what it was.
func borneByHospital(trial map[string]ledger.Money) map[string]ledger.Money {
	out := maps.Clone(trial)
	delete(out, "6601.H1")
	delete(out, "2242.H1")
	delete(out, "2206.WX.1900000109")
	out["2206.WX.1900000109.HOSP"], out[pend] = -12, -9500+12
	return out
}

// TestOnlyWhatIsProvedBecomesTheHospitalsOwnWhereItBearsTheFee: J04b has made what is
// pending net, so J25 and J30 move net: what has arrived beside it is a patient's, or
// nobody knows whose (69.51), and stays so (spec/accounting.md, J30).
func TestOnlyWhatIsProvedBecomesTheHospitalsOwnWhereItBearsTheFee(t *testing.T) {
	t.Parallel()
	h := borneBy(t, sampleSetup, sampleStatement, "fee_bearer: PLATFORM", "fee_bearer: HOSPITAL")
	h.expect(h.run(sampleDay))
	h.expectBalances(borneByHospital(sampleTrial))
	if j28c, j30 := h.counts("J28c"), h.counts("J30"); j28c != "0" || j30 != "2" {
		t.Errorf("%s J28c and %s J30", j28c, j30)
	}
	h.idle(sampleDay)
	h.movesOn(0, 0)
}

// TestAFeeThatIsKnownLateTakesNoPatientsMoney: the statement comes after the bills, so
// the first run releases before it knows the fee. The next one makes no more the
// hospital's own for that, and what was released too early is left of AVAIL for the
// next day's release.
func TestAFeeThatIsKnownLateTakesNoPatientsMoney(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.setup(reworded(t, sampleSetup, "fee_bearer: PLATFORM", "fee_bearer: HOSPITAL"))
	h.importFile(filepath.Join(sampleDir, "platform.csv"))
	h.feedSample(sampleFeeds[:5]...)
	h.run(sampleDay)
	h.verify()
	h.feed(feed.Options{}, sampleStatement)
	h.expect(h.run(sampleDay))
	want := borneByHospital(sampleTrial)
	want[pend], want[avail] = want[pend]+9513, -9513
	h.expectBalances(want)
	h.verify()
}

// TestAPayoutIsNetWhereTheHospitalBearsTheFee: custody has no more than the net.
func TestAPayoutIsNetWhereTheHospitalBearsTheFee(t *testing.T) {
	t.Parallel()
	h := borneBy(t, modeB(t, sampleSetup), custodyStatement(t), "fee_bearer: PLATFORM", "fee_bearer: HOSPITAL")
	h.expect(h.run(sampleDay))
	want := borneByHospital(sampleTrialB)
	want[avail] += 9513
	want["1998.H1"], want["2998.H1"] = 1200, -1200
	h.expectBalances(want)
	h.verify()
}

// TestTheDayBeforeTheBearerChangesIsThatOfTheOldBearer: the money of the 15th arrives
// on the 16th, from which on the hospital bears the fees. What is held back over that
// ends there too.
func TestTheDayBeforeTheBearerChangesIsThatOfTheOldBearer(t *testing.T) {
	t.Parallel()
	words := []string{`retained_fen: 0}`, `retained_fen: 0, rates: [{from: "2026-09-16", fee_rate: "0.0060", fee_bearer: HOSPITAL}]}`,
		`retained_fen: 800000}`, `retained_fen: 800000, rates: [{from: "2026-09-16", fee_rate: "0.0060", fee_bearer: HOSPITAL}]}`}
	for _, held := range []bool{false, true} {
		h := borneBy(t, sampleSetup, sampleStatement, words...)
		h.pauses(held, held)
		h.expect(h.run(sampleDay))
		h.resumes()
		h.expectTrial()
		h.verify()
		h.idle(sampleDay)
	}
}

// TestTwoDaysHeldBackEndAsWithoutIt: two generated days with every fault, whose money
// is held back over both, or over the first, end with every balance as if it had not
// been; also where the hospitals bear the fees from the second day on, and what the
// platform owes of the first is then still owed by it.
func TestTwoDaysHeldBackEndAsWithoutIt(t *testing.T) {
	dir, plan := generate(t, sandbox.Config{Seed: 5, Payments: 400, Hospitals: 2, Days: 2})
	setup := ""
	for _, f := range plan.Days[0].Files {
		if f.Source == sandbox.SourceSetup {
			setup = filepath.Join(dir, f.Path)
		}
	}
	days := []ledger.Day{plan.Days[0].Day, plan.Days[1].Day}
	changing := reworded(t, setup, "fee_bearer: PLATFORM", "fee_bearer: PLATFORM, rates: [{from: \""+days[1].String()+"\", fee_rate: \"0.0060\", fee_bearer: HOSPITAL}]")
	for name, path := range map[string]string{"one bearer": setup, "the bearer changes": changing} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := ""
			for _, held := range [][2]bool{{false, false}, {true, true}, {true, false}} {
				h := newHouse(t)
				h.setup(path)
				for n, day := range plan.Days {
					for _, f := range day.Files {
						if f.Source == sandbox.SourcePlatform {
							h.importFile(filepath.Join(dir, f.Path))
						}
					}
					h.feedDay(dir, day.Files)
					h.pauses(held[n], held[n])
					h.run(day.Day)
					h.verify()
				}
				h.resumes()
				h.verify()
				h.idle(days...)
				got := trialOf(h.trial())
				if want == "" {
					want = got
				}
				sameState(t, fmt.Sprint("held back ", held), want, got)
			}
		})
	}
}
