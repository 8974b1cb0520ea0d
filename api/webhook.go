package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/clearing/pay"
)

// maxNotice is the longest notice of a channel that is read, in bytes.
const maxNotice = 256 << 10

// webhook takes a channel's notice for one merchant number. Nobody is let in by a
// key: what counts is the channel's own signature, and what it says is compared
// with what was asked for. The answer is in the channel's own words.
func (s *Server) webhook(w http.ResponseWriter, r *http.Request) {
	channel, no := r.PathValue("channel"), r.PathValue("merchant")
	gateway, err := s.house.Outside.Gateway(channel, no)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNotice))
	if err == nil {
		err = s.takeNotice(r.Context(), gateway, channel, no, r.Header, body)
	}
	state := "taken"
	switch {
	case errors.Is(err, channels.ErrForeign), errors.Is(err, pay.ErrForeign):
		state = "foreign"
	case errors.Is(err, channels.ErrNotice):
		state = "forged"
	case err != nil:
		state = "failed"
	}
	s.metrics.notices.WithLabelValues(channel, state).Inc()
	if err != nil {
		s.log.Warn("a channel's notice changes nothing", "channel", channel, "merchant_no", no, "state", state, "error", err)
	}
	reply := gateway.NoticeReply(err)
	w.Header().Set("Content-Type", reply.ContentType)
	w.WriteHeader(reply.Status)
	_, _ = io.WriteString(w, reply.Body) // a channel that went away sends it again
}

// takeNotice verifies a notice and lets it act. One that is sealed but not signed is
// only a hint: the channel is asked before anything is booked.
func (s *Server) takeNotice(ctx context.Context, g channels.Gateway, channel, no string, header http.Header, body []byte) error {
	n, err := g.ParseNotice(header, body)
	if errors.Is(err, channels.ErrForeign) { // its signature is right: a person should know
		return errors.Join(err, s.house.NoteForeign(ctx, channel, no, err.Error()))
	}
	if err != nil {
		return err
	}
	if n.Kind == channels.NoticeRefund {
		return s.refundNotice(ctx, channel, no, n)
	}
	if n.Unsigned {
		return fmt.Errorf("%w: a payment's notice must be signed", channels.ErrNotice)
	}
	_, err = s.payments().Notice(ctx, channel, no, n)
	return err
}

func (s *Server) refundNotice(ctx context.Context, channel, no string, n channels.Notice) error {
	if !n.Unsigned {
		_, err := s.refunds().Notice(ctx, channel, no, n)
		return err
	}
	dir, err := s.directory(ctx)
	if err != nil {
		return err
	}
	m, ok := dir.Merchant(channel, no)
	if named, known := dir.Merchant(channel, n.MerchantNo); !ok || n.MerchantNo != "" && (!known || named != m) {
		return pay.ErrForeign.Because("merchant_no", "the notice is for %q, it came for %s", n.MerchantNo, no)
	}
	_, err = s.refunds().Query(ctx, m.Hospital, n.Refund.RefundNo)
	return err
}
