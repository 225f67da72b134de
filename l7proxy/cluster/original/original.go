// Package original remembers what was dialled, for clusters whose endpoints are just that,
// as long as it is in use. It knows nothing of endpoints.
package original

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// SweepMin is the number of dialled addresses that are kept without question.
const SweepMin = 256

// Book has one E for each dialled address. The zero Book has none. Safe for concurrent use.
type Book[E any] struct {
	mu    sync.RWMutex
	known map[netip.AddrPort]*entry[E]
	sweep int // number of addresses that makes the next one sweep
}

type entry[E any] struct {
	value *E
	used  atomic.Bool // since the last sweep
}

// Kind makes the E of an address, and tells whether one is in use; neither may wait.
type Kind[E any] struct {
	Make func(netip.AddrPort) *E
	Busy func(*E) bool
}

// Of returns what an address has. It allocates only for a new one.
func (b *Book[E]) Of(addr netip.AddrPort, kind *Kind[E]) *E {
	b.mu.RLock()
	e := b.known[addr]
	b.mu.RUnlock()
	if e == nil {
		e = b.add(addr, kind)
	}
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.value
}

func (b *Book[E]) add(addr netip.AddrPort, kind *Kind[E]) *entry[E] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.known[addr]; e != nil {
		return e
	}
	if b.known == nil {
		b.known = make(map[netip.AddrPort]*entry[E])
	}
	if len(b.known) >= max(b.sweep, SweepMin) {
		b.forget(kind)
	}
	e := &entry[E]{value: kind.Make(addr)}
	b.known[addr] = e
	return e
}

// forget drops what was not used since the last sweep and puts the next one off
// until as many again have come, so that sweeping costs little per address.
func (b *Book[E]) forget(kind *Kind[E]) {
	for addr, e := range b.known {
		if !e.used.Swap(false) && !kind.Busy(e.value) {
			delete(b.known, addr)
		}
	}
	b.sweep = 2 * len(b.known)
}

// All returns what all addresses have.
func (b *Book[E]) All() []*E {
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := make([]*E, 0, len(b.known))
	for _, e := range b.known {
		list = append(list, e.value)
	}
	return list
}
