package recon

import (
	"strings"
	"testing"
)

// TestNotesAreReadInTheReadersLanguage: every kind of note has words in both
// languages for the values that are put into it, and no kind is left as it is kept.
func TestNotesAreReadInTheReadersLanguage(t *testing.T) {
	for kind, words := range noteWords {
		if strings.Count(words[0], "%s") != strings.Count(words[1], "%s") {
			t.Errorf("%s: the languages say another number of values", kind)
		}
	}
	for _, c := range []struct{ kept, zh, en string }{
		{note(noteRestated, string(F3)), "账单重出前已结算，现为：银行漏单（渠道无款）", "settled before the bill was restated, now missing at the channel"},
		{join(note(noteSettlement, "2026-09-15"), note(noteSuggested, "stl_1")), "2026-09-15 的结算款；疑似：stl_1", "settlement of 2026-09-15; suggested: stl_1"},
		{join(note(noteStandIn), note(noteReversal)), "有文件未齐，以平台数代替；撤销", "the platform stands in for a feed that is not complete; reversal"},
		{note(noteEqualRows, "3", "5"), "同一文件第 3 行与第 5 行相同", "rows 3 and 5 of one file are equal"},
		{"payer=P1", "付款人 P1，终端 ", "payer P1, terminal "}, // less than is said is no reason to fail
		{"HIS_VOIDS seen the receipt", "HIS_VOIDS seen the receipt", "HIS_VOIDS seen the receipt"},
		{"", "", ""},
	} {
		if zh, en := NoteWords(c.kept, "zh"), NoteWords(c.kept, "en"); zh != c.zh || en != c.en {
			t.Errorf("%q reads %q and %q", c.kept, zh, en)
		}
	}
}
