package channels

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// ErrPayload is wrapped where a call was not sent because its payload holds what
// looks like a patient's data.
var ErrPayload = errors.New("the payload holds what no payment channel may be told")

var subjects = []Subject{SubjectRegistration, SubjectOutpatient, SubjectDeposit, SubjectDischarge, SubjectCheckup, SubjectOther}

var causes = []Cause{CauseCancelled, CauseItem, CauseInsurance, CauseDischarge, CauseDuplicate, CauseOther}

// Known tells whether the subject is on the list.
func (s Subject) Known() bool { return slices.Contains(subjects, s) }

// Known tells whether the cause is on the list (W04).
func (c Cause) Known() bool { return slices.Contains(causes, c) }

// ScanPayload names what in a payload looks like a patient's data: a visit number,
// an insured mark, an ID card or phone number, a field for a name, a diagnosis, or
// any Chinese text that is not from our fixed lists. It reads XML, JSON, forms and
// forms holding JSON; text that is none of these is looked at as a whole. A finding
// names the kind and the field and never repeats the value
// (spec/regulation-and-volumes.md L7).
func ScanPayload(text string) []string {
	s := scanner{}
	s.text("", text, 0)
	slices.Sort(s.found)
	return slices.Compact(s.found)
}

type scanner struct{ found []string }

func (s *scanner) finding(kind, field string) {
	if field != "" {
		kind += " in " + field
	}
	s.found = append(s.found, kind)
}

// text looks at a text in whichever form it has.
func (s *scanner) text(field, text string, depth int) {
	trimmed := strings.TrimSpace(text)
	switch {
	case depth > 4:
		s.value(field, text)
	case strings.HasPrefix(trimmed, "<") && s.xml(trimmed, depth), strings.HasPrefix(trimmed, "{") && s.json(trimmed, depth),
		strings.HasPrefix(trimmed, "[") && s.json(trimmed, depth), depth == 0 && s.form(trimmed, depth):
	default:
		s.value(field, text)
	}
}

func (s *scanner) xml(text string, depth int) bool {
	d := xml.NewDecoder(strings.NewReader(text))
	inner, field := scanner{}, ""
	for {
		token, err := d.Token()
		switch t := token.(type) {
		case xml.StartElement:
			field = t.Name.Local
			for _, a := range t.Attr {
				inner.text(a.Name.Local, a.Value, depth+1)
			}
		case xml.CharData:
			inner.text(field, string(t), depth+1)
		case xml.Comment:
			inner.text("a comment", string(t), depth+1)
		}
		if err == io.EOF {
			s.found = append(s.found, inner.found...)
			return true
		}
		if err != nil {
			return false
		}
	}
}

func (s *scanner) json(text string, depth int) bool {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var whole any
	if d.Decode(&whole) != nil || d.More() {
		return false
	}
	s.tree("", whole, depth)
	return true
}

func (s *scanner) tree(field string, node any, depth int) {
	switch n := node.(type) {
	case map[string]any:
		for name, child := range n {
			s.tree(name, child, depth)
		}
	case []any:
		for _, child := range n {
			s.tree(field, child, depth)
		}
	case string:
		s.text(field, n, depth+1)
	case json.Number:
		s.name(field, n.String())
	}
}

func (s *scanner) form(text string, depth int) bool {
	if !formShape.MatchString(text) {
		return false
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return false
	}
	for name, list := range values {
		for _, value := range list {
			s.text(name, value, depth+1)
		}
	}
	return true
}

var formShape = regexp.MustCompile(`^[A-Za-z_]\w*=[^=\s]*=*(&[A-Za-z_]\w*=[^=\s]*=*)*$`)

// shapes are fields whose values are numbers or random text of a fixed shape: a
// value of that shape is not looked at, since by chance it may look like anything.
var shapes = shapesOf(map[string]string{
	`[A-Za-z0-9+/=_-]{16,}`:    "sign signature paysign nonce_str nonce noncestr ciphertext token app_cert_sn alipay_root_cert_sn alipay_cert_sn",
	`[0-9A-Za-z_-]{6,64}`:      "openid sub_openid sp_openid buyer_id buyer_open_id user_id op_app_id",
	`[1-3]\d{15,23}`:           "auth_code",
	`\d{16,64}`:                "transaction_id refund_id trade_no",
	`\d{1,12}(\.\d{1,2})?`:     "total_fee refund_fee total refund total_amount refund_amount",
	`[0-9A-Za-z]{6,32}`:        "mch_id mchid sub_mch_id sub_mchid sp_mchid appid app_id sub_appid sp_appid seller_id",
	`https?://[^?#\s\p{Han}]+`: "notify_url return_url",
})

func shapesOf(list map[string]string) map[string]*regexp.Regexp {
	byField := map[string]*regexp.Regexp{}
	for shape, fields := range list {
		for _, field := range strings.Fields(fields) {
			byField[field] = regexp.MustCompile(`^(?:` + shape + `)$`)
		}
	}
	return byField
}

// personal are fields that hold a person's data whatever stands in them.
var personal = regexp.MustCompile(`^(?:(?:patient|real|user|payer|buyer|cert|true|contact|child|guardian|id)?name|xm|(?:id|identity|patient|insurance|medical|health|bank)?card(?:no|num|number|id)?|idno|idnumber|certno|certid|` +
	`(?:user|patient|contact)?(?:phone|mobile|tel|telephone)(?:no|num|number)?|birthday|birthdate|sex|gender|address|patient(?:id|no)?|mrn|` +
	`(?:visit|admission|outpatient|inpatient|clinic|case|medicalrecord)(?:no|id|num|number)|diag(?:nosis|nose)?(?:name|code)?|icd(?:10)?(?:code)?|drug(?:name|s)?|medicine|prescription|disease|department|dept|doctor|` +
	`insured|insurance(?:type|no)?|姓名|患者|患者姓名|身份证|身份证号|手机|手机号|电话|就诊号|门诊号|住院号|病案号|诊断|科室)$`)

// unmarked takes out of a field's name what only divides it.
var unmarked = strings.NewReplacer("_", "", "-", "", ".", "", " ", "")

// named remembers of the short names of fields whether they are personal: those that
// we send are few.
var named sync.Map

func (s *scanner) name(field, value string) {
	if value == "" || field == "" {
		return
	}
	known, ok := named.Load(field)
	if !ok {
		known = personal.MatchString(unmarked.Replace(strings.ToLower(field)))
		named.Store(strings.Clone(field), known)
	}
	if known.(bool) {
		s.finding("a field for personal data", field)
	}
}

// mark is what a value of one kind looks like. A text of ASCII alone can only look so
// where it has one of the letters of among, if there are any, and so many digits.
type mark struct {
	kind   string
	among  string
	digits int
	form   *regexp.Regexp
}

func (m *mark) finds(value string, ascii bool, digits int) bool {
	if ascii && (digits < m.digits || m.among != "" && !strings.ContainsAny(value, m.among)) {
		return false
	}
	return m.form.MatchString(value)
}

// marks are what values look like. A digit run counts only where no letter or digit
// stands beside it.
var marks = []mark{
	{"a visit number", "OoIiEeMmZzGgJj", 1, regexp.MustCompile(`(?i)(?:^|[^A-Z0-9])(?:OP|IP|ER|MZ|ZY|GH|JZ|MRN)(?:[|:#=_ -]\s?\d|\d{4,})|(?:就诊|门诊|住院|病案|病历|病床|床)号?[:：#|]?\s*[A-Za-z]{0,3}\d`)},
	{"an insured mark", "IYS", 0, regexp.MustCompile(`(?:^|[|,;:/ =_-])(?:INS|YB|INSURED|SELFPAY|医保|自费|统筹|个账|公费)(?:$|[|,;:/ =_-])`)},
	{"an ID card number", "", 17, regexp.MustCompile(`(?:^|[^0-9A-Za-z])[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?:$|[^0-9A-Za-z])`)},
	{"a phone number", "", 11, regexp.MustCompile(`(?:^|[^0-9A-Za-z])(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?:$|[^0-9A-Za-z])`)},
	{"a diagnosis", ".", 3, regexp.MustCompile(`(?:^|[^0-9A-Za-z])[A-TV-Z]\d{2}\.\d{1,3}(?:$|[^0-9A-Za-z])|诊断|处方|病史|癌|肿瘤|肺炎|糖尿病|高血压|艾滋|妊娠|流产`)},
	{"a name", ":=", 0, regexp.MustCompile(`姓名|患者|病人|(?i:patient|realname)\s*[:=]`)},
}

var han = regexp.MustCompile(`\p{Han}`)

// value looks at one value: its field's name, then what it looks like.
func (s *scanner) value(field, value string) {
	value = strings.TrimSpace(value)
	if value == "" || Subject(value).Known() || Cause(value).Known() {
		return
	}
	s.name(field, value)
	if shape := shapes[strings.ToLower(field)]; shape != nil && shape.MatchString(value) {
		return
	}
	ascii, digits := true, 0
	for i := range len(value) {
		ascii = ascii && value[i] < utf8.RuneSelf
		if '0' <= value[i] && value[i] <= '9' {
			digits++
		}
	}
	for i := range marks {
		if marks[i].finds(value, ascii, digits) {
			s.finding(marks[i].kind, field)
		}
	}
	if !ascii && han.MatchString(value) {
		s.finding("Chinese text that is on no list", field)
	}
}
