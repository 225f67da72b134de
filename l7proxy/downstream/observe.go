package downstream

import (
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/observed"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// observeLane has it counted whether a request would have taken a lane, where that is
// observed.
func (s *Session) observeLane(h codec.Header, frame []byte) {
	o := s.env.Observer
	if !o.On() || s.in.Inbound || s.protocol.Name != rpc.ProtocolDubbo {
		return
	}
	o.Came(&s.seen, &s.plans, &observed.Request{
		Key:      learned.Key{Workload: s.in.Workload.UID, Original: s.in.Original},
		Protocol: s.protocol, Header: h, Body: frame[h.Head:], Worth: s.ride.Worth(),
	})
}
