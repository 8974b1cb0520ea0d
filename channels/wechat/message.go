package wechat

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// SignType is how a V2 message is signed.
type SignType string

// The sign types of V2. MD5 is what the channel takes where none is sent.
const (
	SignMD5  SignType = "MD5"
	SignHMAC SignType = "HMAC-SHA256"
)

// Message is one V2 message: the elements below the root with their text. Its
// order means nothing.
type Message map[string]string

// maxFields bounds the elements of a message; an order query with twenty coupons
// has about a hundred.
const maxFields = 1000

// Why a V2 message is not taken.
var (
	ErrXML  = errors.New("not a flat XML message")
	ErrSign = errors.New("wrong signature")
)

// ParseXML reads a V2 message: one root with elements that hold text, in any
// order, escaped or as CDATA. Anything else wraps ErrXML: a document type (and with
// it every entity of its own), an element inside another, a name that comes twice
// (two readers could take different ones), text after the end.
func ParseXML(text []byte) (Message, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	if err := toRoot(d); err != nil {
		return nil, err
	}
	m := Message{}
	for {
		token, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrXML, err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			value, err := leaf(d)
			if err != nil {
				return nil, fmt.Errorf("%w: %s", err, t.Name.Local)
			}
			if _, twice := m[t.Name.Local]; twice || t.Name.Space != "" || len(m) == maxFields {
				return nil, fmt.Errorf("%w: %s comes twice, has a namespace, or is one element too many", ErrXML, t.Name.Local)
			}
			m[t.Name.Local] = value
		case xml.EndElement:
			return m, toEnd(d)
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, fmt.Errorf("%w: text between the elements", ErrXML)
			}
		default:
			return nil, fmt.Errorf("%w: %T between the elements", ErrXML, t)
		}
	}
}

// toRoot reads up to the root element.
func toRoot(d *xml.Decoder) error {
	for {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrXML, err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			return nil
		case xml.Directive:
			return fmt.Errorf("%w: a document type is not taken", ErrXML)
		case xml.CharData:
			if len(bytes.TrimSpace(bytes.TrimPrefix(t, []byte("\ufeff")))) > 0 {
				return fmt.Errorf("%w: text before the root", ErrXML)
			}
		}
	}
}

// leaf reads the text of an element up to its end.
func leaf(d *xml.Decoder) (string, error) {
	var value []byte
	for {
		token, err := d.Token()
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrXML, err)
		}
		switch t := token.(type) {
		case xml.CharData:
			value = append(value, t...)
		case xml.EndElement:
			return string(value), nil
		default:
			return "", fmt.Errorf("%w: an element holds more than text", ErrXML)
		}
	}
}

func toEnd(d *xml.Decoder) error {
	for {
		token, err := d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrXML, err)
		}
		if t, text := token.(xml.CharData); !text || len(bytes.TrimSpace(t)) > 0 {
			return fmt.Errorf("%w: something after the end", ErrXML)
		}
	}
}

// XML writes the message with every value as CDATA, sorted by name.
func (m Message) XML() []byte {
	b := []byte("<xml>")
	for _, name := range slices.Sorted(maps.Keys(m)) {
		value := strings.ReplaceAll(m[name], "]]>", "]]]]><![CDATA[>")
		b = fmt.Appendf(b, "<%s><![CDATA[%s]]></%s>", name, value, name)
	}
	return append(b, "</xml>"...)
}

// Sign returns the signature of the message under the merchant's API key
// (API密钥): over the fields that are not empty, without sign, sorted by name, with
// the key at the end (spec/channels.md A.2).
func (m Message) Sign(kind SignType, key string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if value := m[name]; value != "" && name != "sign" {
			b.WriteString(name + "=" + value + "&")
		}
	}
	b.WriteString("key=" + key)
	if kind == SignHMAC {
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(b.String()))
		return strings.ToUpper(hex.EncodeToString(h.Sum(nil)))
	}
	sum := md5.Sum([]byte(b.String()))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// Verify checks the message's own sign; ErrSign says that it is missing or wrong,
// or that the message names another sign type than the one agreed on.
func (m Message) Verify(kind SignType, key string) error {
	if named := m["sign_type"]; named != "" && named != string(kind) {
		return fmt.Errorf("%w: signed with %s, agreed on %s", ErrSign, named, kind)
	}
	if !hmac.Equal([]byte(m["sign"]), []byte(m.Sign(kind, key))) {
		return ErrSign
	}
	return nil
}

// BringJSAPI returns the fields that the page or mini-program hands to
// WeixinJSBridge (V2).
func BringJSAPI(appID, prepayID, nonce string, at int64, kind SignType, key string) map[string]string {
	m := Message{"appId": appID, "timeStamp": strconv.FormatInt(at, 10), "nonceStr": nonce, "package": "prepay_id=" + prepayID, "signType": string(kind)}
	m["paySign"] = m.Sign(kind, key)
	return m
}

// BringApp returns the fields that the hospital's app hands to the OpenSDK (V2).
// The SDK carries no sign type: it is that of the order.
func BringApp(appID, merchantNo, prepayID, nonce string, at int64, kind SignType, key string) map[string]string {
	m := Message{"appid": appID, "partnerid": merchantNo, "prepayid": prepayID, "package": "Sign=WXPay", "noncestr": nonce, "timestamp": strconv.FormatInt(at, 10)}
	m["sign"] = m.Sign(kind, key)
	return m
}
