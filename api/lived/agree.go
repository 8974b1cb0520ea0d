package lived

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	reconv1 "github.com/clearward/clearward/proto/clearward/recon/v1"
)

// books is what one side says of the day's money: fen by what it was for, such as
// "PAY HP2026…" or "REFUND HP2026… HR2026…".
type books map[string]int64

// own is what the driver was told by the API as it paid and refunded.
func (l *life) own() books {
	b := books{}
	for _, v := range l.done {
		b["PAY "+v.order] = v.fen
		for _, r := range v.refunds {
			if v.fault != nil && v.fault.keeps {
				continue // the channel closed it: nobody has given anything back
			}
			b["REFUND "+v.order+" "+r.no] = r.fen
		}
	}
	return b
}

// platform is what the standard bill files of the hospitals say.
func (l *life) platform(ctx context.Context) (books, error) {
	b := books{}
	for _, h := range hospitals {
		stream, err := l.calls.recon.DownloadDaily(ctx, &reconv1.DownloadDailyRequest{Hospital: h.code, Day: lifeDay.String()})
		if err != nil {
			return nil, err
		}
		var file bytes.Buffer
		for stream.Receive() {
			file.Write(stream.Msg().GetChunk())
		}
		if err := stream.Err(); err != nil {
			return nil, fmt.Errorf("daily file of %s: %w", h.code, err)
		}
		rows := csv.NewReader(&file)
		rows.FieldsPerRecord, rows.Comment = -1, '#'
		all, err := rows.ReadAll()
		if err != nil {
			return nil, fmt.Errorf("daily file of %s: %w", h.code, err)
		}
		at := map[string]int{}
		for i, name := range all[0] {
			at[name] = i
		}
		for _, row := range all[1:] {
			if row[at["status"]] != "SUCCESS" {
				continue
			}
			fen, err := strconv.ParseInt(row[at["amount_fen"]], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("daily file of %s: %w", h.code, err)
			}
			name := row[at["kind"]] + " " + row[at["order_no"]]
			if row[at["kind"]] == "REFUND" {
				name += " " + row[at["refund_no"]]
			}
			b[name] = fen
		}
	}
	return b, nil
}

// channels is what the books of the sandbox say.
func (l *life) channels(ctx context.Context) (books, error) {
	b, ours, others := books{}, map[string]bool{}, map[string]bool{}
	for _, f := range l.faults {
		for _, c := range f.found {
			name := strings.TrimSpace(c.Kind + " " + c.OrderNo + " " + c.RefundNo)
			ours[name], others[name] = ours[name] || c.PlatformFen != nil, true
		}
	}
	for _, h := range hospitals {
		for _, n := range h.numbers {
			var orders []struct {
				Order   string
				Fen     int64
				Refunds []struct {
					Refund, State string
					Fen           int64
				}
			}
			if err := l.ask(ctx, "/orders", url.Values{"merchant": {n.no}, "day": {lifeDay.String()}}, &orders); err != nil {
				return nil, err
			}
			for _, o := range orders {
				b["PAY "+o.Order] = o.Fen
				for _, r := range o.Refunds {
					if r.State != "CLOSED" {
						b["REFUND "+o.Order+" "+r.Refund] = r.Fen
					}
				}
			}
		}
	}
	maps.DeleteFunc(b, func(name string, _ int64) bool { return others[name] && !ours[name] })
	return b, nil
}

// ask reads something of the sandbox's books.
func (l *life) ask(ctx context.Context, path string, of url.Values, answer any) error {
	return l.read(ctx, path, of, func(said io.Reader) error { return json.NewDecoder(said).Decode(answer) })
}

// read hands on what the sandbox says of its books; a refusal is an error.
func (l *life) read(ctx context.Context, path string, of url.Values, take func(said io.Reader) error) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.where.Admin+path+"?"+of.Encode(), nil)
	if err != nil {
		return err
	}
	said, err := adminClient.Do(r)
	if err != nil {
		return err
	}
	defer said.Body.Close()
	if said.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: the sandbox answers %s with %s", ErrDemo, path, said.Status)
	}
	return take(said.Body)
}

// agree compares what the client, the platform and the channels say of every
// payment and refund of the day: nothing acknowledged is lost, nothing is doubled.
func (l *life) agree(ctx context.Context) error {
	platform, err := l.platform(ctx)
	if err != nil {
		return err
	}
	channels, err := l.channels(ctx)
	if err != nil {
		return err
	}
	own := l.own()
	l.differ("the client was told", own, "the platform's file", platform)
	l.differ("the platform's file", platform, "the channels' books", channels)
	return nil
}

// differ names what stands on one side alone, or with another amount.
func (l *life) differ(one string, a books, other string, b books) {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if b[name] != a[name] {
			l.wrong("%s: %s has %d fen, %s %d", name, one, a[name], other, b[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if _, known := a[name]; !known {
			l.wrong("%s: %s has %d fen, %s nothing", name, other, b[name], one)
		}
	}
}
