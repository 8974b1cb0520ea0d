package lived

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/clearward/clearward/api"
)

var (
	seed     = flag.Uint64("lived.seed", 7, "the seed of the lived days")
	payments = flag.Int("lived.payments", 700, "payments of each lived day")
)

// live lives a day with this program as sandbox and server.
func live(t *testing.T, kills int) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "clearward")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../..").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	var out bytes.Buffer
	o := Options{Binary: binary, Payments: *payments, Seed: *seed, Kills: kills, Lang: "en", Out: &out, Meter: api.NewMeter(&out)}
	if err := Live(t.Context(), o); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

// Issue: the day that was lived is reconciled the next morning by itself, and what
// was planted is found, with the three amounts.
func TestADayIsLivedAndEverythingPlantedIsFoundAndNothingElse(t *testing.T) {
	out := live(t, 0)
	if !bytes.Contains([]byte(out), []byte("things planted; all of them found with the same amounts")) {
		t.Error(out)
	}
}

// Kill -9 of the server twenty times while patients pay: nothing acknowledged is
// lost or doubled, and planted = found still.
func TestTheServerIsKilledTwentyTimesWhilePatientsPay(t *testing.T) {
	if out := live(t, 20); !bytes.Contains([]byte(out), []byte("killed -9 20 times")) {
		t.Error(out)
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}
