package recon_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/sandbox"
)

var smallDay = sandbox.Config{Seed: 5, Payments: 160, Hospitals: 2}

// TestEveryStageCounts switches off one stage of the matcher at a time: what is
// found is then not what was planted.
func TestEveryStageCounts(t *testing.T) {
	for _, stage := range []string{"", "S1", "S5", "S6", "S7", "S8", "S10", "TWICE", "F9"} {
		t.Run("without "+stage, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			dir, plan := generate(t, smallDay)
			h.load(dir, plan)
			h.feedDay(dir, plan.Days[0].Files)
			h.engine.SwitchOff(stage)
			d, err := h.engine.Run(t.Context(), plan.Days[0].Day)
			if err != nil {
				if stage == "" {
					t.Fatal(err)
				}
				t.Log("the run refuses the day:", err)
				return
			}
			if lines := differ(planned(plan.Days[0].Cases), found(d)); (len(lines) == 0) != (stage == "") {
				t.Errorf("%d rows differ: %s", len(lines), strings.Join(lines, "\n"))
			}
		})
	}
}

// TestEveryPlantedFaultCounts drops each planted case from the plan, doubles it,
// and plants one fault of every code less: each time the comparison is red.
func TestEveryPlantedFaultCounts(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	dir, plan := generate(t, smallDay)
	h.load(dir, plan)
	h.feedDay(dir, plan.Days[0].Files)
	got, want := found(h.run(plan.Days[0].Day)), planned(plan.Days[0].Cases)
	if lines := differ(want, got); len(lines) > 0 {
		t.Fatal(strings.Join(lines, "\n"))
	}
	for i := range want {
		if len(differ(slices.Delete(slices.Clone(want), i, i+1), got)) == 0 || len(differ(append(slices.Clone(want), want[i]), got)) == 0 {
			t.Errorf("nobody misses %s", want[i])
		}
	}
	for _, code := range slices.Sorted(maps.Keys(plan.Days[0].Planted)) {
		cfg := smallDay
		cfg.Faults = sandbox.DefaultFaults(2, 1)
		if cfg.Faults[code]--; cfg.Faults[code] < 0 || slices.Contains([]string{"MIDNIGHT", "KEY_BILL", "VOID_RECHARGE", "REFUND_GROUP"}, code) {
			continue // nothing planted, or a shape that matches silently
		}
		_, less := generate(t, cfg)
		if len(differ(planned(less.Days[0].Cases), got)) == 0 {
			t.Errorf("one %s less makes no difference", code)
		}
	}
}

// variant is a change to a generated day that must change nothing of its result.
type variant struct {
	name   string
	change func(t *testing.T, name string, text []byte) []byte // of a file, unpacked
	files  func([]sandbox.File) []sandbox.File                 // the order of feeding
	back   func(state string) string                           // turns the state back
}

// TestInvariance: renaming every order and refund, shuffling rows and files,
// feeding everything twice, and adding a clean payment change nothing else.
func TestInvariance(t *testing.T) {
	dir, plan := generate(t, smallDay)
	same := func(state string) string { return state }
	inOrder := func(files []sandbox.File) []sandbox.File { return files }
	var base string
	t.Run("as it is", func(t *testing.T) {
		base = stateOf(t, dir, plan, variant{change: func(_ *testing.T, _ string, text []byte) []byte { return text }, files: inOrder, back: same})
	})
	for _, v := range []variant{
		{"every order and refund renamed", func(_ *testing.T, _ string, text []byte) []byte { return rename(text) }, inOrder,
			func(state string) string { return string(renameBack([]byte(state))) }},
		{"rows and files shuffled, everything fed twice", shuffleRows, func(files []sandbox.File) []sandbox.File {
			files = append(slices.Clone(files), files...)
			rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
			return files
		}, same},
		{"a clean payment added", addClean, inOrder, withoutClean},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			sameState(t, v.name, withoutClean(base), withoutClean(v.back(stateOf(t, dir, plan, v))))
		})
	}
}

// stateOf reconciles the changed day and returns its state. The bank's statement
// is left out: its settlement is one sum, which another payment changes.
func stateOf(t *testing.T, dir string, plan *sandbox.Plan, v variant) string {
	t.Helper()
	changed := t.TempDir()
	files := slices.DeleteFunc(slices.Clone(plan.Days[0].Files), func(f sandbox.File) bool { return f.Source == sandbox.SourceBank })
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(dir, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		change := func(text []byte) []byte { return v.change(t, f.Source+" "+f.Path, text) }
		if strings.HasSuffix(f.Path, ".zip") {
			raw = repack(t, raw, change)
		} else {
			raw = change(raw)
		}
		if err := os.WriteFile(filepath.Join(changed, f.Path), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := newHouse(t)
	h.load(changed, plan)
	h.feedDay(changed, v.files(files))
	day := plan.Days[0].Day
	d := h.run(day)
	h.verify()
	h.casesCarry(day)
	out := slices.Clone(found(d))
	trial := h.trial()
	out = append(append(out, h.open(suspenseFamilies...)...), strings.Split(trialOf(trial), "\n")...)
	for _, leg := range h.legs(day) {
		if strings.HasPrefix(leg, "leg") {
			out = append(out, leg)
		}
	}
	text := regexp.MustCompile(`(case|rf)_\d{8}_[0-9a-f]+`).ReplaceAllString(strings.Join(out, "\n"), "·")
	return text
}

// repack changes the files inside an archive.
func repack(t *testing.T, raw []byte, change func([]byte) []byte) []byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range in.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		to, err := w.CreateHeader(&zip.FileHeader{Name: f.Name, NonUTF8: f.NonUTF8, Method: f.Method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(change(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var (
	oursRE  = regexp.MustCompile(`\b(HPA|HP|HR)(2026\d{4})(\d{7,8})\b`)
	theirRE = regexp.MustCompile(`\b(AXA|AX|AR)(2027\d{4})(\d{7,8})\b`)
)

// rename gives every order and refund of ours another number, one to one, and
// keeps which of two is the smaller.
func rename(text []byte) []byte {
	return oursRE.ReplaceAllFunc(text, func(no []byte) []byte {
		return append([]byte(strings.NewReplacer("HPA2026", "AXA2027", "HP2026", "AX2027", "HR2026", "AR2027").Replace(string(no[:len(no)-1]))), no[len(no)-1])
	})
}

func renameBack(text []byte) []byte {
	return theirRE.ReplaceAllFunc(text, func(no []byte) []byte {
		return []byte(strings.NewReplacer("AXA2027", "HPA2026", "AX2027", "HP2026", "AR2027", "HR2026").Replace(string(no)))
	})
}

// shuffleRows shuffles the rows of what has no running balance. In platform.csv
// an order's rows stay in their order: a refund follows its payment.
func shuffleRows(_ *testing.T, name string, text []byte) []byte {
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	tail := 0
	switch {
	case strings.HasPrefix(name, sandbox.SourceTrade) && strings.Contains(name, "wechat"):
		tail = 2
	case strings.HasPrefix(name, sandbox.SourceHIS):
		tail = 1
	case !strings.HasPrefix(name, sandbox.SourcePlatform):
		return text
	}
	rows := lines[1 : len(lines)-tail]
	rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	if tail == 0 {
		slices.SortStableFunc(rows, func(a, b string) int { return kindRank(a) - kindRank(b) })
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

func kindRank(row string) int {
	if strings.Contains(row, ","+string(channels.Pay)+",") {
		return 0
	}
	return 1
}

const cleanOrder = "HP2026091588888888"

// addClean adds a clean payment of 12.34 at the first hospital's first number to
// the platform, HIS and the channel, with the totals that follow.
func addClean(t *testing.T, name string, text []byte) []byte {
	t.Helper()
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	n := len(lines)
	switch {
	case strings.HasPrefix(name, sandbox.SourcePlatform):
		lines = append(lines, "H1,1900000109,WECHAT,PAY,"+cleanOrder+",,T8,1234,2026-09-15 10:00:00,SUCCESS,B8,OUTPATIENT,MP,1234,2026-09-15 10:00:00,P8")
	case strings.HasSuffix(name, "his-H1.csv"):
		var rows, pays, backs int
		if _, err := fmt.Sscanf(lines[n-1], "#%d,%d,%d", &rows, &pays, &backs); err != nil {
			t.Fatal(err)
		}
		lines = append(lines[:n-1], "H1,B8,PAY,WECHAT,"+cleanOrder+",,1234,2026-09-15 10:00:00,C01,OUTPATIENT,WECHAT,2699999999,C01-20260915-1,,P8",
			fmt.Sprintf("#%d,%d,%d", rows+1, pays+1234, backs))
	case strings.HasPrefix(name, sandbox.SourceTrade) && strings.Contains(string(text), "`1900000109,"):
		row := strings.Split(lines[1], ",")
		header := strings.Split(strings.TrimPrefix(lines[0], "\ufeff"), ",")
		for i, column := range header {
			if value, ok := map[string]string{"交易时间": "2026-09-15 10:00:00", "微信订单号": "4200008888", "商户订单号": cleanOrder, "交易状态": "SUCCESS",
				"应结订单金额": "12.34", "代金券金额": "0.00", "微信退款单号": "0", "商户退款单号": "0", "退款金额": "0.00", "充值券退款金额": "0.00", "退款类型": "", "退款状态": "",
				"手续费": "0.07000", "订单金额": "12.34", "申请退款金额": "0.00"}[column]; ok {
				row[i] = "`" + value
			}
		}
		totals := strings.Split(lines[n-1], ",")
		totals[0] = "`" + fmt.Sprint(number(t, totals[0])+1)
		for i, add := range map[int]int64{1: 1234_000, 4: 7_000, 5: 1234_000} {
			totals[i] = fmt.Sprintf("`%d.%05d", (number(t, totals[i])+add)/100_000, (number(t, totals[i])+add)%100_000)
			if i != 4 {
				totals[i] = totals[i][:len(totals[i])-3]
			}
		}
		lines = append(lines[:n-2], strings.Join(row, ","), lines[n-2], strings.Join(totals, ","))
	default:
		return text
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// number reads a cell of the trailer: a count, or yuan in units of 0.00001.
func number(t *testing.T, cell string) int64 {
	t.Helper()
	whole, fraction, _ := strings.Cut(strings.Trim(cell, "`\r"), ".")
	if fraction != "" {
		fraction = (fraction + "00000")[:5]
	}
	var n int64
	if _, err := fmt.Sscan(whole+fraction, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// withoutClean leaves out the clean payment's own leg and the accounts on which a
// payment that all sides know stands.
func withoutClean(state string) string {
	lines := strings.Split(state, "\n")
	slices.Sort(lines)
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		return strings.Contains(line, cleanOrder) || regexp.MustCompile(`^(1122\.WX\.1900000109|2206\.WX\.1900000109|2202\.H1\..*|1998\.H1|2998\.H1|6601\.H1) `).MatchString(line)
	}), "\n")
}
