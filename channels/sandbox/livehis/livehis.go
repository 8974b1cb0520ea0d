// Package livehis is a hospital's HIS as a server on loopback: bills that are
// opened, booked and voided, by the contract of channels/his, in JSON and XML, from
// books of its own that survive a kill, with faults for whoever asks for them.
//
// It shares no sums with clearing and reconciliation, so that its books are an
// independent witness. Amounts are fen.
package livehis

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/clearward/clearward/channels/his"
	"github.com/clearward/clearward/channels/sandbox/control"
	"github.com/clearward/clearward/channels/sandbox/journal"
	"github.com/clearward/clearward/ledger"
)

// ErrRefused is wrapped by every reason why the sandbox does not do as it is told.
var ErrRefused = errors.New("sandbox HIS refuses")

// Hospital is one hospital with a HIS.
type Hospital struct {
	Code   string     `yaml:"hospital"`
	Format his.Format `yaml:"format"` // JSON or XML; "" = both
}

// Config says who has a HIS in the sandbox.
type Config struct {
	Dir       string // of his.journal and keys/his-HOSPITAL.key; made where missing
	Now       func() time.Time
	Hospitals []Hospital
}

// Server is the HIS of several hospitals: each below its code, as in
// http://127.0.0.1:8080/H1.
type Server struct {
	cfg     Config
	journal *journal.Journal

	mu        sync.Mutex
	hospitals map[string]*hospital
	faults    control.Waiting[Fault]
}

// hospital is one HIS with its books.
type hospital struct {
	Hospital
	secret string
	bills  map[string]*bill
	orders map[string]*bill     // booked, by our order number
	voids  map[string]*void     // by the refund number with which the void was asked
	keys   map[string]string    // of writes, with the sum of what they asked
	rows   map[ledger.Day][]row // in the order of booking
	last   int64                // receipt number
}

// Open opens the books; it does not listen.
func Open(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, hospitals: map[string]*hospital{}, faults: control.NewWaiting((*Fault).count)}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "keys"), 0o700); err != nil {
		return nil, fmt.Errorf("sandbox HIS: %w", err)
	}
	for _, h := range cfg.Hospitals {
		if h.Code == "" || strings.ContainsAny(h.Code, "/. ") || s.hospitals[h.Code] != nil {
			return nil, fmt.Errorf("%w: hospital %q is empty, no code, or there twice", ErrRefused, h.Code)
		}
		if h.Format != "" && h.Format != his.JSON && h.Format != his.XML {
			return nil, fmt.Errorf("%w: hospital %s: format %q is neither JSON nor XML", ErrRefused, h.Code, h.Format)
		}
		secret, err := openSecret(filepath.Join(cfg.Dir, "keys", "his-"+h.Code+".key"))
		if err != nil {
			return nil, err
		}
		s.hospitals[h.Code] = &hospital{Hospital: h, secret: secret, bills: map[string]*bill{}, orders: map[string]*bill{}, voids: map[string]*void{},
			keys: map[string]string{}, rows: map[ledger.Day][]row{}}
	}
	var err error
	s.journal, err = journal.Open(filepath.Join(cfg.Dir, "his.journal"), journal.Kinds{
		"bill":  journal.Of(s.applyBill),
		"void":  journal.Of(s.applyVoid),
		"fault": journal.Of(func(f Fault) error { s.faults.Apply(f); return nil }),
	})
	return s, err
}

// openSecret reads the secret that HIS and platform share, or makes it.
func openSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		var raw [32]byte
		_, _ = rand.Read(raw[:]) // never fails
		text = []byte(hex.EncodeToString(raw[:]))
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("sandbox HIS key: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// Close closes the books. Killing the process does no harm either.
func (s *Server) Close() error { return s.journal.Close() }

// Handler serves the contract.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, work := range calls {
		mux.HandleFunc("POST /{hospital}"+path, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, strings.TrimPrefix(path, "/"), work) })
	}
	mux.HandleFunc("GET /{hospital}"+his.PathDetails, s.serveDetails)
	return mux
}

// call is one call under way, checked.
type call struct {
	h         *hospital
	signature string
	format    his.Format
	body      []byte
}

// enter reads and checks a request; what is wrong is answered, unsigned.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) *call {
	h := s.hospitals[r.PathValue("hospital")]
	if h == nil {
		http.Error(w, "no such hospital", http.StatusNotFound)
		return nil
	}
	c := &call{h: h, signature: r.Header.Get(his.HeaderSignature), format: his.JSON}
	if r.Header.Get("Content-Type") == his.XML.ContentType() {
		c.format = his.XML
	}
	if h.Format != "" && c.format != h.Format {
		http.Error(w, "this HIS speaks "+string(h.Format), http.StatusUnsupportedMediaType)
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	at, atErr := strconv.ParseInt(r.Header.Get(his.HeaderTimestamp), 10, 64)
	want := his.SignRequest(h.secret, r.Method, r.URL.RequestURI(), r.Header.Get(his.HeaderTimestamp), his.BodySum(body))
	switch {
	case err != nil || atErr != nil || !his.SameSignature(want, c.signature):
		http.Error(w, "not signed", http.StatusUnauthorized)
		return nil
	case s.cfg.Now().Sub(time.Unix(at, 0)).Abs() > 5*time.Minute:
		http.Error(w, "the clock is more than five minutes away", http.StatusUnauthorized)
		return nil
	}
	c.body = body
	return c
}

// serve answers one of the five calls.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, api string, work func(*Server, *hospital, *his.Request) *his.Answer) {
	c := s.enter(w, r)
	if c == nil {
		return
	}
	var in his.Request
	if err := c.format.Decode(c.body, &in); err != nil || in.Hospital != c.h.Code {
		s.say(w, c, &Fault{}, refuse(his.CodeField, "the request cannot be read, or is for another hospital"))
		return
	}
	s.mu.Lock()
	f := s.take(api, &in)
	if f == nil {
		f = &Fault{}
	}
	var said *his.Answer
	if control.Works(f.Do, f.Commit) {
		said = work(s, c.h, &in)
	}
	s.mu.Unlock()
	if err := s.journal.Durable(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if control.Strike(w, r, f.Do, f.Millis) {
		return
	}
	if f.Do == control.Error {
		said = f.refusal()
	}
	s.say(w, c, f, said)
}

// say writes a signed answer.
func (s *Server) say(w http.ResponseWriter, c *call, f *Fault, said *his.Answer) {
	text, err := c.format.Encode(said)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if f.Do == control.Garbage {
		text = text[:len(text)/2]
	}
	w.Header().Set("Content-Type", c.format.ContentType())
	s.sign(w, c, f, his.BodySum(text))
	_, _ = w.Write(text) // a client that went away is no fault of ours
}

func (s *Server) sign(w http.ResponseWriter, c *call, f *Fault, bodySum string) {
	secret := c.h.secret
	if f.Do == control.BadSign {
		secret = "another-secret-another-secret"
	}
	w.Header().Set(his.HeaderSignature, his.SignAnswer(secret, c.signature, "200", bodySum))
}

func refuse(code, text string, args ...any) *his.Answer {
	return &his.Answer{Result: his.ResultRefused, Code: code, Text: fmt.Sprintf(text, args...)}
}
