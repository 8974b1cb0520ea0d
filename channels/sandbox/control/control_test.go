package control_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/channels/sandbox/journal"
)

type fault struct {
	id    int64
	times int
	at    string
}

func (f *fault) count() (id *int64, times *int) { return &f.id, &f.times }

func TestAFaultStrikesAsOftenAsItSaysTheOthersInBetween(t *testing.T) {
	waiting := control.NewWaiting((*fault).count)
	if list := waiting.List(); list == nil || len(list) != 0 {
		t.Errorf("of none: %#v", list) // [] and not null
	}
	waiting.Apply(fault{id: 7, times: 0, at: "struck before the start"})
	for _, f := range []fault{{at: "pay", times: 2}, {at: "query"}, {at: "pay"}} {
		waiting.Add(f)
	}
	if list := fmt.Sprint(waiting.List()); list != "[{8 2 pay} {9 1 query} {10 1 pay}]" {
		t.Errorf("planted: %s", list)
	}
	var struck []int64
	for range 4 {
		if f := waiting.First(func(f *fault) bool { return f.at == "pay" }); f != nil {
			times := f.times
			if image := waiting.Use(f); f.times != times || image.times != times-1 || image.id != f.id {
				t.Errorf("%v became %v", f, image)
			}
			struck = append(struck, f.id)
		}
	}
	if got := fmt.Sprint(struck, waiting.List()); got != "[8 10 8] [{9 1 query}]" {
		t.Errorf("struck, and left: %s", got)
	}
}

func TestOnlyAFaultOfTheAnswerLeavesTheWorkDone(t *testing.T) {
	for fault, want := range map[string]bool{"": true, control.Delay: true, control.BadSign: true, control.Drop: false, control.HTTP500: false,
		control.Garbage: false, control.Error: false} {
		if got := control.Works(fault, false); got != want || !control.Works(fault, true) {
			t.Errorf("%q: %t", fault, got)
		}
	}
}

func TestAFaultStrikesTheAnswerThatItNames(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !control.Strike(w, r, r.FormValue("do"), 1) {
			_, _ = io.WriteString(w, "the channel's")
		}
	}))
	defer server.Close()
	for fault, want := range map[string]string{"": "200 the channel's", control.Delay: "200 the channel's", control.BadSign: "200 the channel's",
		control.HTTP500: "502 <html>502 Bad Gateway</html>\n", control.Drop: "broken"} {
		got := "broken"
		if answer, err := http.Get(server.URL + "?do=" + fault); err == nil {
			text, err := io.ReadAll(answer.Body)
			if got = fmt.Sprint(answer.StatusCode, " ", string(text)); errors.Join(err, answer.Body.Close()) != nil {
				t.Error(err)
			}
		}
		if got != want {
			t.Errorf("%q: %s", fault, got)
		}
	}
}

func TestTheAdminAPIAnswersWhatIsOnDiskOrSaysWhyNot(t *testing.T) {
	books, err := journal.Open(filepath.Join(t.TempDir(), "journal"), nil)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refuses")
	a := control.Admin{Books: books, Refused: refused}
	strict := a
	strict.Strict = true
	work := func(in struct{ Fen int64 }) (int64, error) {
		if in.Fen < 0 {
			return 0, refused
		}
		return in.Fen + 1, nil
	}
	tell := func(handler http.HandlerFunc, body, want string) {
		t.Helper()
		w := httptest.NewRecorder()
		handler(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if got := fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String())); got != want || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	tell(control.Post(a, work), `{"fen":1,"other":2}`, "200 2")
	tell(control.Post(a, work), `{"fen":-1}`, `409 {"error":"refuses"}`)
	tell(control.Post(a, work), ``, `409 {"error":"refuses: EOF"}`)
	tell(control.Post(strict, work), `{"fen":1,"other":2}`, `409 {"error":"refuses: json: unknown field \"other\""}`)
	tell(a.Ask(func(r *http.Request) (any, error) { return r.Method, nil }), ``, `200 "POST"`)
	books.Fail(errors.New("the disk is full"))
	tell(control.Post(a, work), `{"fen":1}`, `409 {"error":"the disk is full"}`)
	if err := books.Close(); err != nil {
		t.Error(err)
	}
}
