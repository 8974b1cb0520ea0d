package channels

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLinesAreTheSameWhateverTheReaderGives(t *testing.T) {
	text := "\ufeffone\r\n\ntwo\n" + strings.Repeat("x", MaxLine-1) + "\nlast"
	for name, r := range map[string]io.Reader{
		"at once": strings.NewReader(text), "in halves": iotest.HalfReader(strings.NewReader(text)), "with the error": iotest.DataErrReader(strings.NewReader(text)),
	} {
		lines := NewLines(r)
		var got []string
		for lines.Next() {
			got = append(got, string(lines.Text()))
		}
		if lines.Err() != nil || len(got) != 5 || got[0] != "one" || got[1] != "" || got[2] != "two" || got[4] != "last" || lines.Ended() || lines.Number() != 5 {
			t.Errorf("%s: %d lines, %v", name, len(got), lines.Err())
		}
	}
}

func TestALineThatIsTooLongIsRefusedAndAFailingReaderIsNot(t *testing.T) {
	lines := NewLines(strings.NewReader("a\n" + strings.Repeat("x", 3*MaxLine)))
	for lines.Next() {
	}
	var refused *FileError
	if !errors.As(lines.Err(), &refused) || refused.Line != 2 {
		t.Errorf("got %v", lines.Err())
	}
	broken := errors.New("broken")
	lines = NewLines(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)))
	for lines.Next() {
	}
	if !errors.Is(lines.Err(), broken) || errors.As(lines.Err(), &refused) || lines.Number() != 1 {
		t.Errorf("line %d, %v", lines.Number(), lines.Err())
	}
}

func TestGzipIsToldByItsMagicAndDamageIsRefused(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte("some text that is long enough to be packed, some text")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	unpack := func(b []byte) (string, error) {
		r, err := Gunzip(bytes.NewReader(b))
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(r)
		return string(text), err
	}
	if text, err := unpack(packed.Bytes()); err != nil || !strings.HasPrefix(text, "some text") {
		t.Errorf("%q %v", text, err)
	}
	if text, err := unpack([]byte("plain")); err != nil || text != "plain" {
		t.Errorf("%q %v", text, err)
	}
	if text, err := unpack(nil); err != nil || text != "" {
		t.Errorf("%q %v", text, err)
	}
	for n := 2; n < packed.Len(); n++ {
		changed := bytes.Clone(packed.Bytes())
		changed[n] ^= 0x10
		_, cut := unpack(packed.Bytes()[:n])
		text, bad := unpack(changed)
		if !errors.As(cut, new(*FileError)) {
			t.Errorf("cut at %d: %v", n, cut)
		}
		if n >= 10 && !errors.As(bad, new(*FileError)) { // before stands what no checksum covers
			t.Errorf("changed at %d: %q %v", n, text, bad)
		}
	}
}

func TestColumnsAreBoundByName(t *testing.T) {
	known := []Column{{"金额", 0}, {"总金额", 0}, {"时间", 1}, {"备注", Unread}}
	cols, err := BindColumns(3, []string{"备注", "时间", "总金额"}, known)
	if err != nil || cols.At(0) != 2 || cols.At(1) != 1 || cols.Name(0) != "总金额" || cols.Len() != 3 || cols.Need(0, 1) != nil {
		t.Fatalf("%+v %v", cols, err)
	}
	for want, header := range map[string][]string{
		"line 3, column 姓名: unknown column: the layout is not one that can be read": {"金额", "姓名"},
		"line 3, column 备注: the column is there twice":                              {"备注", "备注"},
		"line 3, column 总金额: the column is there twice, also as 金额":                 {"金额", "总金额"},
	} {
		if _, err := BindColumns(3, header, known); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	cols, err = BindColumns(3, []string{"备注", "时间"}, known)
	if err != nil || cols.Has(0) || cols.Need(0).Error() != "line 3, column 金额: the column is missing" {
		t.Errorf("%+v %v", cols, err)
	}
}

func TestARefusalSaysFileLineColumnAndRule(t *testing.T) {
	for want, err := range map[string]FileError{
		"a.csv, line 7, column 手续费: rule": {File: "a.csv", Line: 7, Column: "手续费", Rule: "rule"},
		"line 7: rule":                    {Line: 7, Rule: "rule"},
		"column Bal: rule":                {Column: "Bal", Rule: "rule"},
		"rule":                            {Rule: "rule"},
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err.Error(), want)
		}
	}
}

func TestTheOneMerchantIsTheOneWithItsAliases(t *testing.T) {
	e := Expect{MerchantNos: []string{"M1", "A1"}, Aliases: map[string]string{"A1": "M1"}}
	if no, err := e.OnlyMerchant(); no != "M1" || err != nil {
		t.Errorf("%q %v", no, err)
	}
	if no, ok := e.Merchant("A1"); no != "M1" || !ok {
		t.Errorf("%q %v", no, ok)
	}
	if _, ok := e.Merchant("M2"); ok {
		t.Error("M2 may appear")
	}
	e.MerchantNos = append(e.MerchantNos, "M2")
	if _, err := e.OnlyMerchant(); err == nil {
		t.Error("two merchants are one")
	}
}
