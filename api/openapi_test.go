package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/clearward/clearward/api/auth"
)

var record = flag.Bool("record", false, "write the description of the calls anew (make proto does)")

func TestTheDescriptionOfTheCallsIsFresh(t *testing.T) {
	const file = "openapi.json"
	text, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *record {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := os.ReadFile(file); err != nil || !bytes.Equal(kept, text) {
		t.Errorf("%s is not what the calls are; run make proto (%v)", file, err)
	}
	var doc struct {
		Paths      map[string]json.RawMessage
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Type, Format string }
			}
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, call := range everyProcedure() {
		streams := strings.HasSuffix(call, "/DownloadDaily")
		if _, ok := doc.Paths[call]; ok == streams {
			t.Errorf("%s: described is %v", call, ok)
		}
	}
	if fen := doc.Components.Schemas["clearward.ledger.v1.Balance"].Properties["balanceFen"]; fen.Type != "string" || fen.Format != "int64" {
		t.Errorf("an amount is a %+v", fen)
	}
	// What is referred to is there.
	for part := range strings.SplitSeq(string(text), `"$ref": "#/components/schemas/`) {
		name, _, _ := strings.Cut(part, `"`)
		if _, ok := doc.Components.Schemas[name]; !ok && name != "" && !strings.HasPrefix(part, "{") {
			t.Errorf("schema %q is missing", name)
		}
	}
}

func TestTheDescriptionOfTheCallsIsForWhoeverMayCall(t *testing.T) {
	s := open(t, folder(t))
	h := served(t, s)
	for key, want := range map[string]int{"": http.StatusUnauthorized, newKey(t, s, "软件供应商", auth.Supplier): http.StatusForbidden,
		newKey(t, s, "周审计", auth.Auditor): http.StatusOK} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.URL+openAPIPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		if key != "" {
			request.Header.Set("Authorization", "Bearer "+key)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != want || (want == http.StatusOK) != bytes.Contains(body, []byte(`"openapi": "3.1.0"`)) {
			t.Errorf("%d, want %d: %.200s %v", answer.StatusCode, want, body, err)
		}
	}
}
