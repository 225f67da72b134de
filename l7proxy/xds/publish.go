package xds

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Stats are the counters of a Source or a Store, for metrics.
type Stats struct {
	Reloads    uint64         // times that resources were read
	Published  uint64         // snapshots published; the current one's generation
	Rejections uint64         // rejections so far, each counted when it first appears
	Resources  map[string]int // resources in the current snapshot, by kind
}

// publisher makes snapshots of sets and tells of them. What it exports is safe for
// concurrent use; its owner calls the rest one at a time.
type publisher struct {
	logger  *slog.Logger
	current atomic.Pointer[snapshot.Snapshot]
	change  func(*snapshot.Snapshot)
	set     *set // what current was made of

	mu       sync.Mutex // what follows
	rejected []Rejection
	stats    Stats
}

// start makes the current snapshot an empty one, of generation 0.
func (p *publisher) start(logger *slog.Logger) {
	p.logger, p.set = logger, new(set)
	p.current.Store((&snapshot.Snapshot{}).Seal())
}

// OnChange sets the function that is called with each new snapshot, one call
// at a time, in the order of their generations; Snapshot already returns it
// then. Set it before anything is read. It must not have anything read.
func (p *publisher) OnChange(f func(*snapshot.Snapshot)) { p.change = f }

// Snapshot returns the current snapshot, never nil.
func (p *publisher) Snapshot() *snapshot.Snapshot { return p.current.Load() }

// Rejections returns what was not applied of what was read last, in the order
// of the files and of the resources in them.
func (p *publisher) Rejections() []Rejection {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.rejected)
}

// Stats returns the counters.
func (p *publisher) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats // Resources is replaced, never changed
}

// advance makes next the current set, and a snapshot of it if its resources
// differ. The first call always makes one, with generation 1.
func (p *publisher) advance(next *set) {
	generation := p.current.Load().Generation
	old := p.set
	p.set = next
	if generation > 0 && next.equal(old) {
		return
	}
	p.publish(next.join(generation+1), old)
}

// publish makes a snapshot the current one and tells of it.
func (p *publisher) publish(next *snapshot.Snapshot, old *set) {
	resources := make(map[string]int)
	for _, k := range p.set.order {
		resources[k.kind]++
	}
	p.mu.Lock()
	p.stats.Published = next.Generation
	p.stats.Resources = resources
	p.mu.Unlock()
	p.current.Store(next)
	added, removed := 0, 0
	for _, k := range p.set.order {
		if old.entries[k] == nil {
			added++
		}
	}
	for _, k := range old.order {
		if p.set.entries[k] == nil {
			removed++
		}
	}
	p.logger.Info("xds applied", "generation", next.Generation, "resources", len(p.set.order), "added", added, "removed", removed)
	if p.change != nil {
		p.change(next)
	}
}

// report keeps the rejections and logs those that are new.
func (p *publisher) report(rejected []Rejection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Reloads++
	known := make(map[[5]string]bool, len(p.rejected))
	for i := range p.rejected {
		known[p.rejected[i].said()] = true
	}
	for i := range rejected {
		r := &rejected[i]
		if known[r.said()] {
			continue
		}
		p.stats.Rejections++
		p.logger.Warn("xds rejected; its last good version stays",
			"file", r.File, "kind", r.Kind, "name", r.Name, "field", r.Field, "reason", r.Reason, "more", len(r.More))
	}
	p.rejected = rejected
}
