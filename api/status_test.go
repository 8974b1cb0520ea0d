package api

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/api/jobs"
	"github.com/clearward/clearward/clearing/payout"
)

// What waits is counted, and what is due.
func TestStatusCountsWhatWaits(t *testing.T) {
	w := newWorld(t)
	waits := w.ask("qr", "B1", 4500)
	waits.Way, waits.AuthCode = "QR", ""
	if _, err := w.pay.CreatePayment(t.Context(), waits); err != nil {
		t.Fatal(err)
	}
	st, err := w.Status(t.Context())
	if err != nil || st.API != "" || st.Well() || len(st.Days) != 0 || st.Queues[0].Name != "payments" || st.Queues[0].Waiting != 1 || st.Queues[0].Due != 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if got := readiness(t.Context(), strings.TrimPrefix(w.url, "http://")); got != "ok" {
		t.Errorf("who serves says %q", got)
	}
}

func TestStatusSaysWhatIsPausedAndWhichDaysAreOpen(t *testing.T) {
	w, ctx := open(t, folder(t)), t.Context()
	takenSample(t, w)
	if _, err := jobs.Open(ctx, w.DB, noon, w.log, jobs.Job{Name: "breaks", Cron: "@every 5s", Run: func(context.Context, time.Time) (int, error) { return 0, ErrRefused }}); err != nil {
		t.Fatal(err)
	}
	if err := w.manage(ctx, "孙运营", "pause", "breaks"); err != nil {
		t.Fatal(err)
	}
	all, err := w.payouts()
	if err == nil {
		_, err = all.Pause(ctx, payout.Person{Name: "孙运营", Role: "OPERATOR"}, "银行维护")
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := w.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	st.API, st.Ready = "127.0.0.1:8350", "ok"
	if st.Well() {
		t.Error("what is paused asks for nobody")
	}
	for lang, says := range map[string][]string{
		"zh": {"服务地址：127.0.0.1:8350（ok）", "任务：1 个，1 个暂停", "出款已暂停：孙运营", "支付查询", "2026-09-15", "H1", "是"},
		"en": {"calls are answered at 127.0.0.1:8350 (ok)", "jobs: 1, 1 paused", "payouts are paused by 孙运营", "notices to apps", "2026-09-15", "yes"},
	} {
		var out bytes.Buffer
		WriteStatus(&out, &st, lang)
		for _, text := range says {
			if !strings.Contains(out.String(), text) {
				t.Errorf("%s: %q is not in\n%s", lang, text, out.String())
			}
		}
	}
}
