// Package gauge counts requests in flight that the proxy and the lanes' programs send to the
// same place. It knows neither whose they are nor what becomes of them.
package gauge

import (
	"sync"
	"sync/atomic"
)

// A word is a number in two halves, in memory that the programs see: below, the requests in
// flight of lanes, which they and who ends such requests count, and above, those of the
// proxy. See bpf/lane_limit.h.
const (
	half  = 32
	lower = 1<<half - 1
)

// Gauge is one count. The zero value is ready. Safe for concurrent use.
type Gauge struct {
	own  atomic.Int64
	word atomic.Pointer[word] // nil: nobody else counts

	mu sync.Mutex // of Share and Unshare
}

// word is where programs count, for as long as at is there.
type word struct {
	mu sync.Mutex
	at *uint64
}

// Add counts requests of the proxy's.
func (g *Gauge) Add(n int64) {
	g.own.Add(n)
	if w := g.word.Load(); w != nil {
		w.show(&g.own)
	}
}

// Own is the number of the proxy's requests in flight.
func (g *Gauge) Own() int64 { return g.own.Load() }

// Load is the number of requests in flight, those of lanes too.
func (g *Gauge) Load() int64 {
	n := g.own.Load()
	if w := g.word.Load(); w != nil {
		n += w.lanes()
	}
	return n
}

// Share makes the programs see what is in flight, and counts what is in flight of lanes: in a
// word, whose upper half is the Gauge's alone until Unshare.
func (g *Gauge) Share(at *uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.word.Load(); w != nil {
		if w.at == at {
			return
		}
		w.end()
	}
	w := &word{at: at}
	g.word.Store(w)
	w.show(&g.own)
}

// Unshare ends Share of a word, which is not touched any more. Others it leaves alone.
func (g *Gauge) Unshare(at *uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w := g.word.Load(); w != nil && w.at == at {
		g.word.Store(nil)
		w.end()
	}
}

// show sets the upper half. Whoever shows last has seen what all before him have added.
func (w *word) show(own *atomic.Int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at != nil {
		w.set(uint64(max(own.Load(), 0)))
	}
}

func (w *word) set(n uint64) {
	for {
		old := atomic.LoadUint64(w.at)
		if atomic.CompareAndSwapUint64(w.at, old, old&lower|n<<half) {
			return
		}
	}
}

func (w *word) lanes() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at == nil {
		return 0
	}
	return int64(atomic.LoadUint64(w.at) & lower)
}

func (w *word) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(0)
	w.at = nil
}
