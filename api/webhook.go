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

// takeNotice verifies a notice and lets it act.
func (s *Server) takeNotice(ctx context.Context, g channels.Gateway, channel, no string, header http.Header, body []byte) error {
	n, err := g.ParseNotice(header, body)
	if errors.Is(err, channels.ErrForeign) { // its signature is right: a person should know
		return errors.Join(err, s.house.NoteForeign(ctx, channel, no, err.Error()))
	}
	if err != nil {
		return err
	}
	switch {
	case n.Kind == channels.NoticeRefund:
		_, err = s.refunds().Notice(ctx, channel, no, n)
	case n.Unsigned:
		err = fmt.Errorf("%w: a payment's notice must be signed", channels.ErrNotice)
	default:
		_, err = s.payments().Notice(ctx, channel, no, n)
	}
	return err
}
