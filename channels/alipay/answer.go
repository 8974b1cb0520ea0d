package alipay

import (
	"bytes"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrAnswer is wrapped where a text is not an answer of the gateway.
var ErrAnswer = errors.New("not an answer of the gateway")

// Answer is an answer of the gateway taken apart, its node as it was received: the
// signature covers these bytes, with their spaces, order and escapes, and not what
// a reader makes of them (spec/channels.md D.3).
type Answer struct {
	Name   string // of the node: alipay_trade_pay_response, error_response
	Node   []byte // an object, or with encryption a quoted text, quotes included
	CertSN string // of the certificate that signed, "" in key mode
	Sign   string // "" where the answer is not signed, as some failures are
}

// ErrorResponse is the name of the node where the gateway itself refuses a call.
const ErrorResponse = "error_response"

// NodeName is the name of the node in the answer to a method.
func NodeName(method string) string { return strings.ReplaceAll(method, ".", "_") + "_response" }

// ParseAnswer takes an answer apart. One with two nodes, a name that is there
// twice, or anything behind its end is refused: two readers might see two answers.
func ParseAnswer(body []byte) (Answer, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return Answer{}, fmt.Errorf("%w: it is no object", ErrAnswer)
	}
	var a Answer
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, isText := t.(string)
		var value json.RawMessage
		if err != nil || !isText || d.Decode(&value) != nil {
			return Answer{}, fmt.Errorf("%w: it is broken at byte %d", ErrAnswer, d.InputOffset())
		}
		if seen[name] {
			return Answer{}, fmt.Errorf("%w: it has two of %q", ErrAnswer, name)
		}
		seen[name] = true
		if err := a.take(name, value); err != nil {
			return Answer{}, err
		}
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return Answer{}, fmt.Errorf("%w: it is cut off", ErrAnswer)
	}
	if _, err := d.Token(); err != io.EOF {
		return Answer{}, fmt.Errorf("%w: there is more behind its end", ErrAnswer)
	}
	if a.Name == "" {
		return Answer{}, fmt.Errorf("%w: it has no response node", ErrAnswer)
	}
	return a, nil
}

func (a *Answer) take(name string, value json.RawMessage) error {
	switch {
	case name == "sign" || name == "alipay_cert_sn":
		var text string
		if err := json.Unmarshal(value, &text); err != nil {
			return fmt.Errorf("%w: %s is no text", ErrAnswer, name)
		}
		if name == "sign" {
			a.Sign = text
		} else {
			a.CertSN = text
		}
	case strings.HasSuffix(name, "_response"):
		if a.Name != "" {
			return fmt.Errorf("%w: it has two response nodes", ErrAnswer)
		}
		if value[0] != '{' && value[0] != '"' {
			return fmt.Errorf("%w: its node is neither an object nor an encrypted text", ErrAnswer)
		}
		a.Name, a.Node = name, value
	}
	return nil
}

// Verify checks the signature over the node; ErrSignature where it is missing or
// wrong.
func (a Answer) Verify(key *rsa.PublicKey) error {
	if a.Sign == "" {
		return fmt.Errorf("%w: the answer is not signed", ErrSignature)
	}
	return Verify(key, string(a.Node), a.Sign)
}

// Content is the node as JSON, decrypted with the content key where it is
// encrypted.
func (a Answer) Content(key string) ([]byte, error) {
	if a.Node[0] == '{' {
		return a.Node, nil
	}
	var secret string
	if err := json.Unmarshal(a.Node, &secret); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	plain, err := DecryptContent(key, secret)
	if err != nil {
		return nil, err
	}
	return []byte(plain), nil
}
