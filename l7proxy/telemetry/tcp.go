package telemetry

import (
	"sync"
	"time"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// tcpKey is what connections with equal labels have in common.
type tcpKey struct {
	identity identity
	reporter rpc.Reporter
	flags    string
}

// tcpCounts are the counters of opaque connections.
type tcpCounts struct {
	opened, closed, sent, received uint64
	changed                        time.Time
}

// tcpStore counts opaque connections. They are rare next to requests: a mutex
// will do.
type tcpStore struct {
	mu     sync.Mutex
	counts map[tcpKey]*tcpCounts
}

func newTCPStore() *tcpStore { return &tcpStore{counts: make(map[tcpKey]*tcpCounts)} }

func (s *tcpStore) add(id identity, c *rpc.Connection) {
	// Whatever the bytes looked like, they were treated as TCP.
	id.protocol = rpc.ProtocolTCP.String()
	key := tcpKey{identity: id, reporter: c.Call.Reporter, flags: c.Why.Flag()}
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := s.counts[key]
	if counts == nil {
		counts = &tcpCounts{}
		s.counts[key] = counts
	}
	counts.changed = time.Now()
	if !c.Closed {
		counts.opened++
		return
	}
	counts.closed++
	counts.sent += uint64(max(c.Sent, 0))
	counts.received += uint64(max(c.Received, 0))
}

// sweep returns a copy of the counts, after it has dropped the idle ones.
func (s *tcpStore) sweep(now time.Time) map[tcpKey]tcpCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	copied := make(map[tcpKey]tcpCounts, len(s.counts))
	for key, counts := range s.counts {
		if now.Sub(counts.changed) > idle {
			delete(s.counts, key)
			continue
		}
		copied[key] = *counts
	}
	return copied
}
