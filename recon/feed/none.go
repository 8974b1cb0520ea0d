package feed

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/clearward/clearward/channels"
	"github.com/clearward/clearward/ledger"
	"github.com/clearward/clearward/recon"
)

// FeedNone sends what a channel says of a day without trades: that it has no bill.
// It counts as a bill without rows, not as one that is missing (spec/channels.md A.3).
func (p *Producer) FeedNone(ctx context.Context, source recon.Source, channel, merchantNo string, day ledger.Day) (Fed, error) {
	began := p.now()
	if source != recon.SourceBill && source != recon.SourceFund {
		return Fed{}, fmt.Errorf("%w: only a channel has no bill of a day, %s is none of its files", ErrFile, source)
	}
	s, err := p.slice(fileSort{source: source, channel: channel}, channels.FileSummary{MerchantNo: merchantNo, Day: day})
	if err != nil {
		return Fed{}, err
	}
	m := &recon.Manifest{Slice: s, Part: recon.PartAll, SHA256: sha256.Sum256(nil), Name: "no bill of " + day.String(), FedAt: feedTime(began)}
	m.File = recon.FileID(s, m.Part, m.SHA256)
	new(recon.Tally).Close(m, channels.FileSummary{})
	out := outbox{producer: p, topic: p.kafka.topic(topicOf(source)), key: keyOf(s), name: m.Name}
	if err := out.add(ctx, recon.FeedRecord{Manifest: m}); err != nil {
		return Fed{}, err
	}
	return Fed{File: m.File, Slice: s, Part: m.Part, Name: m.Name, Totals: m.Totals, Duration: p.now().Sub(began)}, out.flush(ctx)
}
