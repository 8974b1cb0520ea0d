package clearing

import "github.com/clearward/clearward/channels"

// channelNames are the channels that a merchant number may be of: POS is card
// acquiring, AGG a bank's aggregated acquiring.
var channelNames = []string{channels.WeChat, channels.Alipay, channels.UnionPay, "POS", "AGG"}
