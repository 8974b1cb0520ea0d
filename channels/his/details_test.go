package his

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/filetest"
	"github.com/clearward/clearward/ledger"
)

// The sample's rows with the repeated one, its payments and refunds in fen.
const (
	sampleRows     = 50
	samplePaid     = 1879332
	sampleRefunded = 274433
)

var flags = channels.Expect{Hospital: "H1", Counted: true, Rows: sampleRows, Sum: samplePaid - sampleRefunded}

func sample(t testing.TB) string {
	t.Helper()
	return string(filetest.Sample(t, "his.csv"))
}

func withTrailer(t testing.TB) string {
	return sample(t) + fmt.Sprintf("#%d,%d,%d\n", sampleRows, samplePaid, sampleRefunded)
}

// asJSON writes the CSV sample as JSON lines, the amount as a number.
func asJSON(t testing.TB) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(sample(t)), "\n")
	names := strings.Split(strings.TrimRight(lines[0], "\r"), ",")
	var out strings.Builder
	for _, line := range lines[1:] {
		row := map[string]any{}
		for i, v := range strings.Split(strings.TrimRight(line, "\r"), ",") {
			row[names[i]] = v
			if names[i] == "amount_fen" {
				row[names[i]] = json.Number(v)
			}
		}
		b, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(b, '\n'))
	}
	return out.String()
}

func read(file string, want channels.Expect) ([]channels.HISLine, channels.FileSummary, error) {
	return filetest.Rows(func(emit func(*channels.HISLine) error) (channels.FileSummary, error) {
		return ReadDetails(strings.NewReader(file), want, emit)
	})
}

func TestTheSampleDayComesToItsDocumentedSums(t *testing.T) {
	lines, sum, err := read(sample(t), flags)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Hospital != "H1" || sum.Day != 20260915 || sum.Rows != sampleRows ||
		sum.Totals["pay_amount"] != samplePaid || sum.Totals["refund_amount"] != sampleRefunded {
		t.Errorf("summary %+v", sum)
	}
	// The README counts by cashier close, with the repeated row once.
	byClose, seen := map[string]ledger.Money{}, map[string]bool{}
	for _, l := range lines {
		if key := string(l.Kind) + l.BillNo; !seen[key] {
			seen[key] = true
			if l.Kind == channels.Refund {
				byClose[l.CloseNo] -= l.Amount
			} else {
				byClose[l.CloseNo] += l.Amount
			}
		}
	}
	if byClose["C03-20260915-1"] != 1400652 || byClose["C03-20260915-2"] != 189387 || byClose["C03-20260915-3"] != 2000 {
		t.Errorf("by close: %v", byClose)
	}
	want := channels.HISLine{
		Row: 2, Hospital: "H1", BillNo: "BW000001", Kind: channels.Pay, Channel: channels.WeChat, OrderNo: "HP2026091500000001",
		Amount: 1250, At: lines[0].At, Operator: "C03", BizType: "REGISTRATION", Tender: "WECHAT", ReceiptNo: "2600000001",
		CloseNo: "C03-20260915-1", Patient: "P1edcf4ad6d3e1b0b",
	}
	if lines[0] != want || lines[0].At.Format("2006-01-02T15:04:05Z07:00") != "2026-09-15T07:58:11+08:00" {
		t.Errorf("got  %+v\nwant %+v", lines[0], want)
	}
	repeated := 0
	for _, l := range lines {
		if l.BillNo == "BW000007" {
			repeated++
		}
	}
	if repeated != 2 {
		t.Errorf("the repeated row was handed on %d times", repeated)
	}
}

func TestEveryFormSaysTheSame(t *testing.T) {
	lines, _, err := read(sample(t), flags)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(withTrailer(t))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	jsonTrailer := asJSON(t) + fmt.Sprintf("#%d,%d,%d\n", sampleRows, samplePaid, sampleRefunded)
	quoted := strings.Replace(withTrailer(t), ",C03,", `,"C03",`, 1)
	for name, file := range map[string]string{
		"trailer": withTrailer(t), "gzip": packed.String(), "JSON": jsonTrailer, "quoted": quoted,
		"other line ends": "\ufeff" + strings.ReplaceAll(strings.ReplaceAll(withTrailer(t), "\r", ""), "\n", "\r\n"),
	} {
		same, _, err := read(file, channels.Expect{})
		for i := range same {
			same[i].Row = lines[i].Row
		}
		if err != nil || !slices.Equal(same, lines) {
			t.Errorf("%s: %d rows, %v", name, len(same), err)
		}
	}
}

func TestAFileCutOffAnywhereIsRefused(t *testing.T) {
	counted := channels.Expect{Counted: true, Rows: sampleRows, Sum: samplePaid - sampleRefunded}
	jsonFile := asJSON(t)
	for _, c := range []struct {
		name, file string
		want       channels.Expect
		whole      int
	}{
		{"trailer", withTrailer(t), channels.Expect{}, len(withTrailer(t)) - 1},
		{"flags", sample(t), counted, len(sample(t))},
		{"JSON", jsonFile, counted, len(jsonFile) - 1},
	} {
		for n := range c.whole {
			if near := c.whole-n < 400 || c.file[n] == '\n'; !near && n%11 != 0 {
				continue // every line, and every byte of the end
			}
			if _, _, err := read(c.file[:n], c.want); err == nil {
				t.Fatalf("%s: accepted the first %d of %d bytes", c.name, n, len(c.file))
			}
		}
		if _, _, err := read(c.file, c.want); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	_, _, err := read(sample(t), channels.Expect{})
	filetest.Refused(t, "no totals at all", err, "#rows,pay_fen,refund_fen", "manifest", "--rows")
}

func TestAMissingLineAndAChangedDigitAreRefused(t *testing.T) {
	lines := strings.SplitAfter(withTrailer(t), "\n")
	for i, line := range lines[:len(lines)-1] {
		_, _, err := read(strings.Join(slices.Delete(slices.Clone(lines), i, i+1), ""), channels.Expect{})
		filetest.Refused(t, "without "+line, err)
		values := strings.Split(line, ",")
		at := 6
		if i == 0 {
			continue
		} else if i == len(lines)-2 {
			at = 0
		}
		for v := at; v < len(values) && (v == at || at == 0); v++ {
			for d, digit := range []byte(values[v]) {
				if digit < '0' || digit > '9' {
					continue
				}
				b := []byte(values[v])
				b[d] = '0' + (digit-'0'+1)%10
				changed := slices.Clone(values)
				changed[v] = string(b)
				out := slices.Clone(lines)
				out[i] = strings.Join(changed, ",")
				_, _, err := read(strings.Join(out, ""), channels.Expect{})
				filetest.Refused(t, out[i], err)
			}
		}
	}
}

func TestRefusalsNameLineColumnAndRule(t *testing.T) {
	for _, c := range []struct {
		old, new string
		words    []string
	}{
		{"patient_ref", "patient_ref,patient_name", []string{"line 1", "patient_name", "unknown column"}},
		{",close_no", "", []string{"line 1", "close_no", "missing"}},
		{"H1,BW000003", "H2,BW000003", []string{"line 6", "hospital", "H2", "H1"}},
		{"H1,BW000003", "H1,", []string{"line 6", "his_bill_no", "empty"}},
		{"BW000003,PAY", "BW000003,PAID", []string{"line 6", "kind", "PAID"}},
		{"PAY,WECHAT,HP2026091500000003", "PAY,WEIXIN,HP2026091500000003", []string{"line 6", "channel", "WEIXIN"}},
		{",50000,", ",500.00,", []string{"line 6", "amount_fen", "500.00"}},
		{",50000,", ",0,", []string{"line 6", "amount_fen"}},
		{",50000,", ",-50000,", []string{"line 6", "amount_fen"}},
		{"2026-09-15 08:05:30", "2026-09-15T08:05:30", []string{"line 6", "occurred_at"}},
		{"2600000003,C03-20260915-1", "2600000003,C03-20260914-1", []string{"line 6", "close_no", "2026-09-14", "2026-09-15"}},
		{"2600000003,C03-20260915-1", "2600000003,C03-1", []string{"line 6", "close_no", "C03-1"}},
		{"BW000003,PAY", "BW000002,PAY", []string{"line 6", "his_bill_no", "BW000002", "line 4"}},
		{"HP2026091500000003,,50000", "HP2026091500000003,R1,50000", []string{"line 6", "refund_no"}},
		{"H1,BW000003,", `H1,"BW000003,`, []string{"line 6", "quote"}},
		{"H1,BW000003,", "H1,BW000003,,", []string{"line 6", "16 values under 15 columns"}},
		{"P991467e64043b0b7", "P\xff", []string{"line 6", "UTF-8"}},
		{"P991467e64043b0b7", "P\x01", []string{"line 6", "patient_ref", "control"}},
	} {
		_, _, err := read(strings.Replace(withTrailer(t), c.old, c.new, 1), channels.Expect{})
		filetest.Refused(t, c.new, err, c.words...)
	}
	for words, want := range map[string]channels.Expect{
		"hospital H2":  {Hospital: "H2"},
		"2026-09-14":   {Day: 20260914},
		"49 rows":      {Counted: true, Rows: 49, Sum: samplePaid - sampleRefunded},
		"less refunds": {Counted: true, Rows: sampleRows, Sum: samplePaid},
		"not the one":  {SHA256: strings.Repeat("0", 64)},
	} {
		_, _, err := read(withTrailer(t), want)
		filetest.Refused(t, words, err, words)
	}
	_, _, err := read(withTrailer(t)+"H1,X\n", channels.Expect{})
	filetest.Refused(t, "after the trailer", err, "nothing may follow")
}

func TestJSONRowsAreAsStrictAsCSV(t *testing.T) {
	row := strings.SplitN(asJSON(t), "\n", 2)[0]
	counted := channels.Expect{Counted: true, Rows: 1, Sum: 1250}
	if _, _, err := read(row, counted); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		old, new string
		words    []string
	}{
		{`"kind":`, `"Kind":`, []string{"Kind", "unknown field"}},
		{`{`, `{"patient_name":"x",`, []string{"patient_name", "unknown field"}},
		{`{`, `{"kind":"PAY",`, []string{"kind", "twice"}},
		{`"close_no":"C03-20260915-1",`, ``, []string{"close_no", "missing"}},
		{`:1250`, `:[1250]`, []string{"amount_fen"}},
		{`:1250`, `:12.5`, []string{"amount_fen", "12.5"}},
		{`}`, `} {}`, []string{"follows"}},
	} {
		_, _, err := read(strings.Replace(row, c.old, c.new, 1), counted)
		filetest.Refused(t, c.new, err, append(c.words, "line 1")...)
	}
}

func TestARowWithoutACloseCountsOnItsOwnDay(t *testing.T) {
	file := strings.SplitAfter(sample(t), "\n")[0] + "H1,B1,PAY,CASH,,,5,2026-09-15 23:55:00,C03,OUTPATIENT,CASH,,,,\n#1,5,0\n"
	lines, sum, err := read(file, channels.Expect{})
	if err != nil || sum.Day != 20260915 || lines[0].Channel != "CASH" {
		t.Fatalf("%+v %v", sum, err)
	}
	file = strings.Replace(file, "CASH,,,,", "CASH,,C03-20260916-1,,", 1)
	if _, sum, err = read(file, channels.Expect{}); err != nil || sum.Day != 20260916 {
		t.Errorf("a close after midnight: %+v %v", sum, err)
	}
}

func TestAnEmptyFileNamesHospitalAndDay(t *testing.T) {
	header := strings.SplitAfter(sample(t), "\n")[0]
	_, sum, err := read(header+"#0,0,0\n", channels.Expect{Hospital: "H1", Day: 20260915})
	if err != nil || sum.Hospital != "H1" || sum.Day != 20260915 || sum.Rows != 0 {
		t.Errorf("%+v %v", sum, err)
	}
	_, _, err = read(header+"#0,0,0\n", channels.Expect{Day: 20260915})
	filetest.Refused(t, "no hospital", err, "--hospital")
	_, _, err = read(header+"#0,0,0\n", channels.Expect{Hospital: "H1"})
	filetest.Refused(t, "no day", err, "--day")
	_, _, err = read("", channels.Expect{})
	filetest.Refused(t, "nothing", err, "empty")
}

func TestAManifestAddsWhatIsKnownOfTheFile(t *testing.T) {
	sha := sha256.Sum256([]byte(sample(t)))
	text := fmt.Sprintf(`{"hospital":"H1","day":"2026-09-15","rows":%d,"pay_fen":%d,"refund_fen":%d,"sha256":"%s"}`,
		sampleRows, samplePaid, sampleRefunded, hex.EncodeToString(sha[:]))
	want, err := ReadManifest(strings.NewReader(text), channels.Expect{})
	if err != nil || want.Hospital != "H1" || want.Day != 20260915 || !want.Counted || want.Rows != sampleRows || want.Sum != samplePaid-sampleRefunded {
		t.Fatalf("%+v %v", want, err)
	}
	if _, _, err := read(sample(t), want); err != nil {
		t.Error(err)
	}
	_, _, err = read(strings.Replace(sample(t), "P991467e64043b0b7", "P991467e64043b0b8", 1), want)
	filetest.Refused(t, "another file", err, "sha256")
	for text, words := range map[string]string{
		`{"rows":1}`: "must be there",
		`{"rows":1,"pay_fen":1,"refund_fen":0,"x":1}`:              "unknown field",
		`{"rows":1,"pay_fen":1,"refund_fen":0,"hospital":"H2"}`:    "H2",
		`{"rows":1,"pay_fen":1,"refund_fen":0,"day":"2026-09-14"}`: "2026-09-14",
		`{"rows":1,"pay_fen":1,"refund_fen":0,"day":"2026-02-30"}`: "2026-02-30",
		`{"rows":2,"pay_fen":1,"refund_fen":0`:                     "JSON",
	} {
		_, err := ReadManifest(strings.NewReader(text), channels.Expect{Hospital: "H1", Day: 20260915})
		filetest.Refused(t, text, err, "manifest", words)
	}
	_, err = ReadManifest(strings.NewReader(`{"rows":2,"pay_fen":1,"refund_fen":0}`), channels.Expect{Counted: true, Rows: 1, Sum: 1})
	filetest.Refused(t, "other flags", err, "says 2 rows")
}

func FuzzDetails(f *testing.F) {
	f.Add(withTrailer(f))
	f.Add(asJSON(f) + fmt.Sprintf("#%d,%d,%d\n", sampleRows, samplePaid, sampleRefunded))
	f.Add(strings.Replace(withTrailer(f), ",C03,", `,"C""03",`, 1))
	f.Fuzz(func(t *testing.T, file string) {
		lines, sum, err := read(file, channels.Expect{Hospital: "H1", Day: 20260915})
		if err != nil {
			if !errors.As(err, new(*channels.FileError)) {
				t.Errorf("%v is no refusal", err)
			}
			return
		}
		var paid, refunded ledger.Money
		for _, l := range lines {
			if l.Hospital != "H1" || l.BillNo == "" || l.Amount <= 0 || l.At.IsZero() {
				t.Errorf("line %+v", l)
			}
			if l.Kind == channels.Pay {
				paid += l.Amount
			} else {
				refunded += l.Amount
			}
		}
		if len(lines) != sum.Rows || int64(paid) != sum.Totals["pay_amount"] || int64(refunded) != sum.Totals["refund_amount"] {
			t.Errorf("%d lines, %d and %d, %+v", len(lines), paid, refunded, sum)
		}
	})
}

func BenchmarkDetails(b *testing.B) {
	const rows = 200_000
	var file bytes.Buffer
	file.WriteString("hospital,his_bill_no,kind,channel,order_no,refund_no,amount_fen,occurred_at,operator,biz_type,tender,receipt_no,close_no,original_bill_no,patient_ref\n")
	for i := range rows {
		fmt.Fprintf(&file, "H1,BW%08d,PAY,WECHAT,HP20260915%08d,,1250,2026-09-15 07:58:11,C03,OUTPATIENT,WECHAT,26%08d,C03-20260915-1,,P%016x\n", i, i, i, i)
	}
	fmt.Fprintf(&file, "#%d,%d,0\n", rows, rows*1250)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ReadDetails(bytes.NewReader(file.Bytes()), channels.Expect{}, func(*channels.HISLine) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
