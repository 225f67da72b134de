// Package exchange is a request between its consumer's connection and its
// provider's: where it goes, what was tried, and how it ends. It holds no connection
// and sends nothing.
package exchange

import (
	"net/netip"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/export"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/postscript"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/sock"
)

// Edge is what the requests of one kind to one endpoint have in common. It is
// made by the consumer's side once and kept there.
type Edge struct {
	Protocol *codec.Protocol
	Endpoint herald.Endpoint
	Remote   *rpc.Call // when the endpoint was reached over the network
	SameNode *rpc.Call // when the short cut was used
	// Downstream is the consumer's address, for records.
	Downstream netip.AddrPort
	// Export lets a request go to another endpoint if this one's provider does not
	// know its interface yet. Nil: it must not.
	Export *export.Export
	// Retry lets a request be sent again. Nil: it is not.
	Retry *snapshot.Retry
	// Direct is the answer where the route answers by itself.
	Direct *snapshot.Abort
	// Answers is what becomes of answers, as far as it is the same for all of them; nil:
	// they stay as they are.
	Answers *postscript.Edits
}

// Call returns the Call for a way.
func (e *Edge) Call(sameNode bool) *rpc.Call {
	if sameNode {
		return e.SameNode
	}
	return e.Remote
}

// Consumer is a consumer's connection as what waits for answers.
type Consumer interface {
	// Deliver writes whole answer frames.
	Deliver(frames ...[]byte) error
	// Stream returns the connection for one answer that is too large to be
	// held: the caller acquires it, writes pieces and is done.
	Stream() sock.Streamer
	// Settled says that n requests are no longer pending.
	Settled(n int)
	// Again routes a request anew whose connection could not be made, or, with Last
	// set, whose try has failed. Frame is the owner's to keep.
	Again(r Request)
	// Refuse answers a request in the provider's stead, records it and settles it.
	Refuse(r Refusal)
}
