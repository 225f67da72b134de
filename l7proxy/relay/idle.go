package relay

import (
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
)

// shortest is how often a connection is looked at, however short its time is.
const shortest = 10 * time.Millisecond

// idle is how long a connection may be silent; 0: for ever.
func (o *Opaque) idle(protocol rpc.Protocol) time.Duration {
	if l := o.listener(protocol); l != nil {
		return l.TCPIdle
	}
	return 0
}

// expire ends both sides when nothing has moved on either for a time, as if each peer
// had ended its own. It returns when done is closed.
func expire(limit time.Duration, done <-chan struct{}, sides ...*sock.Conn) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-timer.C:
		}
		silent := sides[0].Silence()
		for _, c := range sides[1:] {
			silent = min(silent, c.Silence())
		}
		if silent >= limit {
			for _, c := range sides {
				_ = c.TCP().CloseRead()
			}
			return
		}
		timer.Reset(max(limit-silent, shortest))
	}
}
