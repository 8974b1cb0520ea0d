package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Refusal is the answer no: a rule was broken, nothing was posted, and asking
// again changes nothing. It is an Outcome, not a failure. Two refusals are the
// same for errors.Is when their codes are, also after a replay.
type Refusal struct {
	Code  string // stable, for programs, such as "FLOOR"
	Field string // the field that broke the rule, "" where it is the whole request
	Rule  string // the rule and the values, a sentence for a person
}

// The ledger's own refusals.
var (
	ErrAccountUnknown = Refusal{Code: "ACCOUNT_UNKNOWN"}  // a posting names an account that is not open
	ErrFloor          = Refusal{Code: "FLOOR"}            // a balance would fall below its floor
	ErrReversed       = Refusal{Code: "ALREADY_REVERSED"} // an entry is reversed once
	ErrKeyConflict    = Refusal{Code: "KEY_CONFLICT"}     // the key was used for another request
	ErrKeyExpired     = Refusal{Code: "KEY_EXPIRED"}      // the key is older than answers are kept
)

// Because returns the refusal with the field and the rule, in words, that a
// person needs to put it right.
func (r Refusal) Because(field, rule string, args ...any) Refusal {
	return Refusal{Code: r.Code, Field: field, Rule: fmt.Sprintf(rule, args...)}
}

// Error prints "amount: 2202.H1.AVAIL has 120.00, 150.00 was asked".
func (r Refusal) Error() string {
	switch {
	case r.Rule == "":
		return r.Code
	case r.Field == "":
		return r.Rule
	}
	return r.Field + ": " + r.Rule
}

// Is compares codes only.
func (r Refusal) Is(target error) bool {
	other, ok := target.(Refusal)
	return ok && other.Code == r.Code
}

// Outcome is what became of a command. A refusal is an outcome.
type Outcome struct {
	Err      error   // a Refusal, nil when the command was carried out
	Body     string  // the verb's answer, kept with the request
	Entry    EntryID // the entry or event that answers it, zero where none
	Replayed bool    // the answer was given before, to the same request
}

// Request is the identity of a command for which the same answer must be given
// again. The zero Request is for commands that are keyed by the state they
// change, such as a compare-and-set from paying to paid: they store no answer.
type Request struct {
	Scope string // whose keys these are, such as the name of the API caller
	Key   string // one request of that scope; ours carry their day, "pay_20260915…"
	Form  int16  // version of the canonical form
	Canon []byte // the canonical request: what must be equal when the key is used again, a JSON object
	// Internal says that nobody waits who could take a new key: a refusal is then
	// not kept, and the same key may succeed later.
	Internal bool
	// Older gives the canonical request in an older form, nil for a form it cannot
	// give; it is needed only after a form has been replaced.
	Older func(form int16) []byte
}

func (r *Request) zero() bool { return r.Scope == "" && r.Key == "" }

// requestKey is the primary key of requests.
type requestKey struct{ scope, key string }

// answer is a row of requests: what was answered to a key, and for which request.
type answer struct {
	requestKey
	form    int16
	hash    []byte
	outcome string
	body    string
	entry   EntryID
}

// answered is the outcome of a request that was carried out.
const answered = "OK"

// freeze returns outcome and body as they are kept.
func freeze(out Outcome) (outcome, body string) {
	var refusal Refusal
	if !errors.As(out.Err, &refusal) {
		return answered, out.Body
	}
	kept, err := json.Marshal([]string{refusal.Field, refusal.Rule, out.Body})
	if err != nil {
		panic(err) // three strings
	}
	return refusal.Code, string(kept)
}

// replay returns the outcome that was given to the key before, or a refusal when
// it was given to another request.
func (a answer) replay(req *Request) Outcome {
	canon := req.Canon
	if a.form != req.Form && req.Older != nil {
		canon = req.Older(a.form)
	}
	if hash := requestHash(canon); !bytes.Equal(hash, a.hash) {
		return Outcome{Err: conflict(req, canon, a.hash)}
	}
	out := Outcome{Body: a.body, Entry: a.entry, Replayed: true}
	if a.outcome == answered {
		return out
	}
	var kept [3]string
	if err := json.Unmarshal([]byte(a.body), &kept); err != nil {
		kept[1] = a.body
	}
	out.Err, out.Body = Refusal{Code: a.outcome, Field: kept[0], Rule: kept[1]}, kept[2]
	return out
}

// conflict names the fields in which the request differs from the one that the
// key was used for.
func conflict(req *Request, canon, kept []byte) Refusal {
	var differ []string
	for name, field := range fieldsOf(canon) {
		if !hasMark(kept, mark(field)) {
			differ = append(differ, name)
		}
	}
	if len(differ) == 0 {
		return ErrKeyConflict.Because("key", "%s was used before for another request: take a new key", req.Key)
	}
	return ErrKeyConflict.Because(strings.Join(differ, ", "), "%s was used before with another %s: take a new key", req.Key, strings.Join(differ, ", "))
}

// markSize is the bytes of a field's hash: enough to name the field that differs.
// Whether anything differs is decided by the whole SHA-256.
const markSize = 4

// requestHash is the SHA-256 of the canonical request, then a mark of each field.
func requestHash(canon []byte) []byte {
	sum := sha256.Sum256(canon)
	hash := append(make([]byte, 0, sha256.Size+8*markSize), sum[:]...)
	for _, field := range fieldsOf(canon) {
		m := mark(field)
		hash = append(hash, m[:]...)
	}
	return hash
}

func mark(field []byte) [markSize]byte {
	sum := sha256.Sum256(field)
	return [markSize]byte(sum[:markSize])
}

func hasMark(hash []byte, m [markSize]byte) bool {
	for at := sha256.Size; at+markSize <= len(hash); at += markSize {
		if [markSize]byte(hash[at:at+markSize]) == m {
			return true
		}
	}
	return false
}

// fieldsOf yields each field of a JSON object without spaces, `"name":value`,
// with its name. Of anything else it yields nothing.
func fieldsOf(canon []byte) func(yield func(name string, field []byte) bool) {
	return func(yield func(string, []byte) bool) {
		depth, start, quoted := 0, 1, false
		for i := 0; i < len(canon); i++ {
			switch c := canon[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case quoted:
			case c == '{' || c == '[':
				depth++
			case (c == ',' && depth == 1) || (c == '}' && depth == 1):
				name, _, ok := bytes.Cut(canon[start:i], []byte(`":`))
				if !ok || !bytes.HasPrefix(name, []byte(`"`)) || !yield(string(name[1:]), canon[start:i]) {
					return
				}
				if start = i + 1; c == '}' {
					return
				}
			case c == '}' || c == ']':
				depth--
			}
		}
	}
}

// keyDay is the day that a key carries: eight digits after its first underscore.
func keyDay(key string) (Day, bool) {
	_, rest, ok := strings.Cut(key, "_")
	if !ok || len(rest) < len("20060102") {
		return 0, false
	}
	day, err := ParseDay(rest[:len("20060102")])
	return day, err == nil
}
