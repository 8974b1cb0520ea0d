package sdk_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/clearward/clearward/api/sdk"
	reconv1 "github.com/clearward/clearward/proto/clearward/recon/v1"
	"github.com/clearward/clearward/proto/clearward/recon/v1/reconv1connect"
)

// platform sends a bill file in parts of so many bytes.
type platform struct {
	reconv1connect.UnimplementedReconServiceHandler
	file string
	part int
}

func (p *platform) DownloadDaily(_ context.Context, _ *reconv1.DownloadDailyRequest, out *connect.ServerStream[reconv1.DownloadDailyResponse]) error {
	for text := p.file; text != ""; {
		n := min(p.part, len(text))
		if err := out.Send(&reconv1.DownloadDailyResponse{Chunk: []byte(text[:n])}); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

var testKey = sdk.Prefix + base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))

// C05, G06: a bill file counts where its last line is the checksum of all before it.
func TestABillFileThatIsNotWholeIsRefused(t *testing.T) {
	body := "#CLEARWARD-DAILY,1,H1,2026-09-15\nPAY,SUCCESS,WECHAT\n#END,1\n"
	sum := sha256.Sum256([]byte(body))
	whole := body + "#SHA256," + hex.EncodeToString(sum[:]) + "\n"
	for name, c := range map[string]struct {
		file string
		good bool
	}{
		"whole":                 {whole, true},
		"without its last line": {body, false},
		"cut in the last line":  {whole[:len(whole)-9], false},
		"a changed row":         {strings.Replace(whole, "PAY,", "PAX,", 1), false},
		"a row after the end":   {whole + "PAY,SUCCESS\n", false},
		"nothing":               {"", false},
	} {
		for _, part := range []int{1, 7, 1 << 10} {
			mux := http.NewServeMux()
			mux.Handle(reconv1connect.NewReconServiceHandler(&platform{file: c.file, part: part}))
			h := httptest.NewServer(mux)
			app, err := sdk.NewApp(h.URL, testKey, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			err = app.Daily(t.Context(), "H1", "2026-09-15", &got)
			if c.good && (err != nil || got.String() != c.file) || !c.good && !errors.Is(err, sdk.ErrDaily) {
				t.Errorf("%s in parts of %d: %v\n%s", name, part, err, got.String())
			}
			h.Close()
		}
	}
}

// A notice is handed on where the platform signed it, and acknowledged once it is kept.
func TestANoticeIsAcknowledgedOnceItIsKept(t *testing.T) {
	public, pair, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 9, 16, 4, 0, 0, 0, time.UTC)
	body := []byte(`{"kind":"PAID","version":3,"order_no":"HP1","amount_fen":4500}`)
	for name, c := range map[string]struct {
		key  ed25519.PrivateKey
		at   time.Time
		full bool
		want int
	}{
		"signed":              {pair, now, false, http.StatusOK},
		"signed by another":   {other, now, false, http.StatusBadRequest},
		"seven minutes old":   {pair, now.Add(-7 * time.Minute), false, http.StatusBadRequest},
		"the app cannot keep": {pair, now, true, http.StatusBadRequest},
	} {
		var kept []sdk.Notice
		h := sdk.Notices(base64.RawURLEncoding.EncodeToString(public), func() time.Time { return now }, func(n sdk.Notice) error {
			if c.full {
				return errors.New("the disk is full")
			}
			kept = append(kept, n)
			return nil
		})
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set(sdk.NoticeHeader, sdk.SignNotice(c.key, body, c.at))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want || (w.Code == http.StatusOK) != (len(kept) == 1 && kept[0].OrderNo == "HP1" && kept[0].Version == 3) {
			t.Errorf("%s: %d, kept %+v", name, w.Code, kept)
		}
	}
}
