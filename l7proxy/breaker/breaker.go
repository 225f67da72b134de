// Package breaker counts what a workload has in flight to a cluster, against the
// cluster's thresholds (Envoy's circuit breakers). Each workload of the node has its
// own count, as if it had a sidecar of its own. It refuses nothing: its callers do.
package breaker

import (
	"sync"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/gauge"
	"github.com/dubway/dubway/l7proxy/herald"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// Breakers are those of all workloads and clusters that have thresholds. The zero
// value is ready. Safe for concurrent use.
type Breakers struct {
	mu  sync.Mutex
	all map[key]*Breaker
}

type key struct{ workload, cluster string }

// Breaker is one workload's count of one cluster. Safe for concurrent use.
type Breaker struct {
	requests    gauge.Gauge
	connections atomic.Int64
}

// Of returns the breaker of a workload, by its UID, and a cluster.
func (b *Breakers) Of(workload, cluster string) *Breaker {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := key{workload, cluster}
	found := b.all[k]
	if found == nil {
		if b.all == nil {
			b.all = make(map[key]*Breaker)
		}
		found = &Breaker{}
		b.all[k] = found
	}
	return found
}

// Forget drops what a workload had that is gone. What it still has in flight is
// counted by who has it.
func (b *Breakers) Forget(workload string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.all {
		if k.workload == workload {
			delete(b.all, k)
		}
	}
}

// Full tells whether no more request may be begun beside those that are in flight and
// others that are about to be. A nil limit is none.
func (b *Breaker) Full(limit *uint32, others int) bool {
	return limit != nil && b.requests.Load()+int64(others) >= int64(*limit)
}

// Connect counts one more connection; false, and nothing is counted, if there are as
// many as may be. A nil limit is none. Every Connect that was true needs a Disconnect.
func (b *Breaker) Connect(limit *uint32) bool {
	if n := b.connections.Add(1); limit != nil && n > int64(*limit) {
		b.connections.Add(-1)
		return false
	}
	return true
}

// Disconnect undoes Connect.
func (b *Breaker) Disconnect() { b.connections.Add(-1) }

// Requests is the number of requests in flight, but for those of lanes.
func (b *Breaker) Requests() int64 { return b.requests.Own() }

// Share makes lanes' programs see what is in flight, and counts what is in flight of lanes: in
// a word that is the Breaker's alone until Unshare. See package gauge.
func (b *Breaker) Share(at *uint64) { b.requests.Share(at) }

// Unshare ends Share of a word. Others it leaves alone.
func (b *Breaker) Unshare(at *uint64) { b.requests.Unshare(at) }

// Guarded is an endpoint whose requests a Breaker counts too.
type Guarded struct {
	herald.Endpoint

	Breaker *Breaker
}

var _ herald.Endpoint = (*Guarded)(nil)

// Begin is part of herald.Endpoint.
func (g *Guarded) Begin() {
	g.Breaker.requests.Add(1)
	g.Endpoint.Begin()
}

// End is part of herald.Endpoint.
func (g *Guarded) End(o rpc.Outcome) {
	g.Breaker.requests.Add(-1)
	g.Endpoint.End(o)
}
