package wechat

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clearward/clearward/channels"
)

// A number of v3 with a key of V2 sends codes and reversals by V2, and everything
// else by v3.
func TestCodesGoByV2AndEverythingElseByV3(t *testing.T) {
	p := newPlatform(t)
	p.says(200, paid3)
	cfg := Config{MerchantNo: "1900000109", AppID: "wxd678efh567hg6787", BaseURL: p.URL, NotifyURL: "https://pay.hospital.example/notify/wx", Key: apiKey, V3Key: v3Key,
		SerialNo: "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB", PrivateKey: pemText(t, "wechat_merchant_TEST.pem"), Now: func() time.Time { return vectorTime }}
	b, err := NewBoth(cfg)
	if err != nil {
		t.Fatal(err)
	}
	order := channels.PayRequest{OrderNo: "HP2026091500000002", Amount: 100, Subject: channels.SubjectOutpatient, ClientIP: "127.0.0.1", AuthCode: "130000000000000001", Payer: "openid1"}
	way := func(w channels.Way) channels.PayRequest { order.Way = w; return order }
	b.Pay(t.Context(), way(channels.WayCode))
	b.Pay(t.Context(), way(channels.WayQR))
	b.Reverse(t.Context(), order.OrderNo)
	if a := b.Query(t.Context(), order.OrderNo); a.Outcome != channels.OutcomeSucceeded {
		t.Errorf("%+v", a)
	}
	b.Close(t.Context(), order.OrderNo)
	var paths []string
	for i := 0; i < len(p.sent); i += 2 {
		if path, _, _ := strings.Cut(p.sent[i], " "); path != "/v3/certificates" {
			paths = append(paths, path)
		}
	}
	want := "/pay/micropay /v3/pay/transactions/native /secapi/pay/reverse /v3/pay/transactions/out-trade-no/HP2026091500000002 /v3/pay/transactions/out-trade-no/HP2026091500000002/close"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	cfg.Key = ""
	if _, err := NewBoth(cfg); !errors.Is(err, ErrConfig) {
		t.Errorf("without a key of V2: %v", err)
	}
}

// The two interfaces have circuits of their own.
func TestOneOrderWithoutAnAnswerIsNoOutageOfWeChatAndManyAre(t *testing.T) {
	s := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	p := newPlatform(t)
	p.answering = s
	for name, g := range map[string]channels.Gateway{"V2": s.v2(t, nil), "V3": p.v3(nil)} {
		is := func(order string, want channels.ReasonKind) {
			t.Helper()
			pay, back := codePay(), refund()
			if pay.OrderNo, back.OrderNo, back.TradeNo = order, order, "42"+order; name == "V3" {
				pay.Way = channels.WayQR
			}
			for i, reason := range []channels.Reason{g.Pay(t.Context(), pay).Reason, g.Query(t.Context(), order).Reason, g.Close(t.Context(), order).Reason,
				g.Refund(t.Context(), back).Reason, g.QueryRefund(t.Context(), back).Reason} {
				if reason.Kind != want {
					t.Errorf("%s, %s, call %d: %+v, not %s", name, order, i, reason, want)
				}
			}
		}
		for range 10 {
			is("HP2026091500000001", channels.ReasonNetwork)
		}
		for i := range 8 {
			is("HP202609150000001"+strconv.Itoa(i), channels.ReasonNetwork)
		}
		g.Query(t.Context(), "HP2026091500000099")
		is("HP2026091500000001", channels.ReasonBreaker)
	}
}

// A notice is read by its form, and one reply suits both interfaces.
func TestNoticesOfBothInterfacesAreRead(t *testing.T) {
	p := newPlatform(t)
	b, err := NewBoth(Config{MerchantNo: "10000100", AppID: "wx2421b1c4370ec43b", BaseURL: p.URL, Key: apiKey, SignType: SignMD5, V3Key: v3Key,
		SerialNo: "1", PrivateKey: pemText(t, "wechat_merchant_TEST.pem"), Now: func() time.Time { return vectorTime }})
	if err != nil {
		t.Fatal(err)
	}
	old := signed(Message{"out_trade_no": "O1", "transaction_id": "42", "total_fee": "100", "time_end": "20260915080005"})
	if n, err := b.ParseNotice(http.Header{}, old.XML()); err != nil || n.Payment.OrderNo != "O1" || n.Payment.Outcome != channels.OutcomeSucceeded {
		t.Errorf("%+v, %v", n, err)
	}
	foreign := signed(Message{"mch_id": "10000101", "out_trade_no": "O1", "transaction_id": "42", "total_fee": "100", "time_end": "20260915080005"})
	if _, err := b.ParseNotice(http.Header{}, foreign.XML()); !errors.Is(err, channels.ErrForeign) || !errors.Is(err, channels.ErrNotice) {
		t.Errorf("of another merchant number: %v", err)
	}
	if _, err := b.ParseNotice(http.Header{}, []byte(`{"id":"1"}`)); !errors.Is(err, channels.ErrNotice) || errors.Is(err, channels.ErrForeign) {
		t.Errorf("unsigned JSON: %v", err)
	}
	if r := b.NoticeReply(nil); r.Status != 200 || !strings.Contains(r.Body, "SUCCESS") {
		t.Errorf("taken: %+v", r)
	}
	if r := b.NoticeReply(channels.ErrNotice); r.Status/100 == 2 {
		t.Errorf("not taken: %+v", r)
	}
}
