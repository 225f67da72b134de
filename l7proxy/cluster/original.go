package cluster

import (
	"net/netip"
	"sync"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// originals is the endpoints of an ORIGINAL_DST cluster: whatever was dialled.
type originals struct {
	mu    sync.RWMutex
	known map[netip.AddrPort]*Endpoint
	sweep int // number of endpoints that makes the next one sweep
}

// sweepMin is the number of dialled addresses that are kept without question.
const sweepMin = 256

func (o *originals) pick(c *Choice) *Endpoint {
	if !c.Original.IsValid() {
		return nil
	}
	o.mu.RLock()
	e := o.known[c.Original]
	o.mu.RUnlock()
	if e == nil {
		e = o.add(c.Original)
	}
	if !e.health.used.Load() {
		e.health.used.Store(true)
	}
	if !c.admits(e) {
		return nil
	}
	return e
}

func (o *originals) add(addr netip.AddrPort) *Endpoint {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e := o.known[addr]; e != nil {
		return e
	}
	if o.known == nil {
		o.known = make(map[netip.AddrPort]*Endpoint)
	}
	if len(o.known) >= max(o.sweep, sweepMin) {
		o.forget()
	}
	e := newEndpoint(addr, &snapshot.Endpoint{Address: addr, Port: addr.Port(), Weight: 1, Healthy: true}, &health{})
	o.known[addr] = e
	return e
}

// forget drops what was not used since the last sweep and puts the next one off
// until as many again have come, so that sweeping costs little per endpoint.
func (o *originals) forget() {
	for addr, e := range o.known {
		if !e.health.used.Swap(false) && e.Active() == 0 {
			delete(o.known, addr)
		}
	}
	o.sweep = 2 * len(o.known)
}

func (o *originals) all() []*Endpoint {
	o.mu.RLock()
	defer o.mu.RUnlock()
	list := make([]*Endpoint, 0, len(o.known))
	for _, e := range o.known {
		list = append(list, e)
	}
	return list
}
