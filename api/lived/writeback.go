package lived

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/channels/his"
	payv1 "github.com/clearward/clearward/proto/clearward/pay/v1"
)

// mishap is what becomes of one call to HIS that tells it of a payment or a refund:
// the call or its answer is lost, or HIS puts it off. The same call comes through
// when it is repeated.
type mishap struct {
	name, zh string
	of       int // a thousand
	fault    map[string]any
}

var mishaps = []mishap{
	{"lost on the way to HIS", "途中丢失，HIS 未收到", 10, map[string]any{"do": "DROP"}},
	{"done by HIS, and its answer is lost", "HIS 已办理，应答丢失", 10, map[string]any{"do": "DROP", "commit": true}},
	{"no answer of HIS (HTTP 502)", "应答不是 HIS 的（HTTP 502）", 5, map[string]any{"do": "HTTP_500"}},
	{"done by HIS, and its answer is cut off", "HIS 已办理，应答残缺", 5, map[string]any{"do": "GARBAGE", "commit": true}},
	{"done by HIS, and its answer is wrongly signed", "HIS 已办理，应答签名不符", 5, map[string]any{"do": "BAD_SIGN"}},
	{"put off by HIS", "HIS 繁忙，推迟", 5, map[string]any{"do": "ERROR", "code": "AGAIN"}},
}

// untilThen is the hour after which every call to HIS goes through, so that what is
// repeated by plan is done before midnight.
const untilThen = 21

// missed is a payment or a refund of which HIS did not hear at once.
type missed struct {
	v        *visit
	refundNo string // of a refund
}

// misses plants what becomes of the first call of a kind to HIS about a visit, or about
// its nth refund, where the day has something in store for it, and says whether. It does
// so before there is anything to tell: the platform calls when it pleases. A visit with a
// fault of its own is left alone.
func (l *life) misses(ctx context.Context, path string, v *visit, nth int) (bool, error) {
	if v.fault != nil || !l.clock.Now().Before(at(lifeDay, untilThen, 0, 0)) {
		return false, nil
	}
	call := slices.Index([]string{his.PathAcknowledge, his.PathCancel, his.PathWriteBack}, path)
	pick := rand.New(rand.NewPCG(l.o.Seed^1<<60, uint64(v.n)<<8|uint64(3*nth+call))).IntN(1000)
	for _, one := range mishaps {
		if pick >= one.of {
			pick -= one.of
			continue
		}
		f := maps.Clone(one.fault)
		f["api"], f["hospital"], f["bill_no"] = strings.TrimPrefix(path, "/"), v.hospital.code, v.bill()
		l.mu.Lock()
		l.mishaps[one.name]++
		l.mu.Unlock()
		return true, l.admin(ctx, "/his/faults", f, nil)
	}
	return false, nil
}

// miss keeps what HIS did not hear of at once.
func (l *life) miss(v *visit, refundNo string) {
	l.mu.Lock()
	l.missed = append(l.missed, missed{v, refundNo})
	l.mu.Unlock()
}

// untilHeard repeats a call to HIS, which is the same however often, until HIS has
// said yes or no.
func untilHeard(call func() channels.HISAnswer) channels.HISAnswer {
	const most = 5
	word := call()
	for n := 1; n < most && word.Outcome == channels.OutcomeUnknown; n++ {
		word = call()
	}
	return word
}

// heardByHIS looks, when the day's last payment is made, whether everything that did
// not come through at once has come through: it stands in the details of HIS, and the
// platform knows it.
func (l *life) heardByHIS(ctx context.Context) error {
	var waiting []struct {
		Do    string
		Bill  string    `json:"bill_no"`
		Until time.Time `json:"until"`
	}
	if err := l.ask(ctx, "/his/faults", nil, &waiting); err != nil {
		return err
	}
	for _, f := range waiting {
		if f.Until.IsZero() {
			l.wrong("HIS was never called about bill %s: %s waits still", f.Bill, f.Do)
		}
	}
	told := map[string]bool{}
	for _, h := range hospitals {
		if err := l.detailsOf(ctx, h.code, told); err != nil {
			return err
		}
	}
	for _, m := range l.missed {
		if !told[m.v.order+" "+m.refundNo] {
			l.wrong("HIS has not heard of %s %s, which was told again", m.v.order, m.refundNo)
		}
	}
	const asked = 1_000 // of a long day that is enough
	return eachOf(ctx, l.missed[:min(len(l.missed), asked)], func(ctx context.Context, m missed) error {
		answer, err := answered(ctx, func() (*payv1.GetPaymentResponse, error) {
			return l.calls.pay.GetPayment(ctx, &payv1.GetPaymentRequest{Hospital: m.v.hospital.code, OrderNo: m.v.order})
		})
		if fen := answer.GetPayment().GetAcknowledgedFen(); err == nil && fen != m.v.fen {
			l.wrong("HIS has booked %s, and the platform knows of %d fen", m.v.order, fen)
		}
		return err
	})
}

// detailsOf adds order and refund numbers of the day's rows in a hospital's HIS.
func (l *life) detailsOf(ctx context.Context, hospital string, told map[string]bool) error {
	return l.read(ctx, "/his/details", url.Values{"hospital": {hospital}, "day": {lifeDay.String()}}, func(said io.Reader) error {
		rows := bufio.NewScanner(said)
		for rows.Scan() {
			var row struct {
				Order  string `json:"order_no"`
				Refund string `json:"refund_no"`
			}
			if text := rows.Bytes(); len(text) > 0 && text[0] == '{' {
				if err := json.Unmarshal(text, &row); err != nil {
					return fmt.Errorf("details of %s: %w", hospital, err)
				}
				told[row.Order+" "+row.Refund] = true
			}
		}
		return rows.Err()
	})
}

// reportMissed prints what went wrong when HIS was told, and what became of it.
func (l *life) reportMissed() {
	l.say("missed")
	for _, m := range mishaps {
		name := m.name
		if l.o.Lang == "zh" {
			name = m.zh
		}
		fmt.Fprintf(l.o.Out, "  %8d  %s\n", l.mishaps[m.name], name)
	}
	late := 0
	for _, f := range l.faults {
		if f.kind.late {
			late += len(f.found) / 2 // the case, and the match of the day after
		}
	}
	l.say("heard", len(l.missed), late)
}
