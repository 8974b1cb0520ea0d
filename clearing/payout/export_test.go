package payout

import "github.com/clearward/clearward/channels"

// After is the state machine of answers as text: the state, "+" where the money
// goes back.
func After(from State, says channels.TransferState, query, absent, refusedBefore bool) string {
	to, does := after(from, &heard{answer: channels.TransferAnswer{State: says}, query: query, absent: absent}, refusedBefore)
	if does == failed {
		return string(to) + "+"
	}
	return string(to)
}
