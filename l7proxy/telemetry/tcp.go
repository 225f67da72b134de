package telemetry

import (
	"sync"
	"time"

	"github.com/dubway/dubway/l7proxy/report"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/telemetry/names"
	"github.com/dubway/dubway/l7proxy/telemetry/shape"
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
	of                             report.Set // of those counted when one closes
	change                         *report.Change
	changed                        time.Time
}

// tcpStore counts opaque connections. They are rare next to requests: a mutex
// will do.
type tcpStore struct {
	mu     sync.Mutex
	counts map[tcpKey]*tcpCounts
}

func newTCPStore() *tcpStore { return &tcpStore{counts: make(map[tcpKey]*tcpCounts)} }

// count adds a connection to the series of each part of it.
func (r *Recorder) count(c *rpc.Connection) {
	id := r.identify(c.Call, names.Verdict{})
	// Whatever the bytes looked like, they were treated as TCP.
	id.protocol = rpc.ProtocolTCP.String()
	for _, p := range shape.Parts(c.Call) {
		r.tcp.add(r.as(id, &p, c.Call.Source), &p, c)
	}
}

func (s *tcpStore) add(id identity, p *shape.Part, c *rpc.Connection) {
	key := tcpKey{identity: id, reporter: p.Reporter, flags: c.Why.Flag()}
	if p.Change != nil {
		shape.Clear(p.Change, map[string]*string{"response_flags": &key.flags})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := s.counts[key]
	if counts == nil {
		counts = &tcpCounts{change: p.Change}
		s.counts[key] = counts
	}
	counts.changed = time.Now()
	if !c.Closed {
		counts.opened += one(p.Of.Has(report.Opened))
		return
	}
	counts.closed += one(p.Of.Has(report.Closed))
	counts.of |= p.Of
	if p.Of.Has(report.Sent) {
		counts.sent += uint64(max(c.Sent, 0))
	}
	if p.Of.Has(report.Received) {
		counts.received += uint64(max(c.Received, 0))
	}
}

// one is 1 for true.
func one(is bool) uint64 {
	if is {
		return 1
	}
	return 0
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
