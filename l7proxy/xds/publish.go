package xds

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/snapshot"
	"github.com/dubway/dubway/l7proxy/snapshot/table"
	"github.com/dubway/dubway/l7proxy/xds/shelf"
)

// Stats are the counters of a Source or a Store, for metrics.
type Stats struct {
	Reloads    uint64         // times that resources were read
	Published  uint64         // snapshots published; the current one's generation
	Rejections uint64         // rejections so far, each counted when it first appears
	Resources  map[string]int // resources in the current snapshot, by kind
}

// publisher makes snapshots of tables and tells of them. What it exports is safe for
// concurrent use; its owner calls the rest one at a time.
type publisher struct {
	logger  *slog.Logger
	library *Library
	current atomic.Pointer[snapshot.Snapshot]
	change  func(*snapshot.Snapshot)
	joined  *shelf.Joined // what current is of

	mu       sync.Mutex // what follows
	rejected []Rejection
	stats    Stats
}

// start makes the current snapshot an empty one, of generation 0.
func (p *publisher) start(library *Library, logger *slog.Logger) {
	p.library, p.logger, p.joined = library, logger, shelf.Nothing()
	p.current.Store(p.joined.Snapshot)
}

// OnChange sets the function that is called with each new snapshot, one call
// at a time, in the order of their generations; Snapshot already returns it
// then. Set it before anything is read. It must not have anything read.
func (p *publisher) OnChange(f func(*snapshot.Snapshot)) { p.change = f }

// Snapshot returns the current snapshot, never nil.
func (p *publisher) Snapshot() *snapshot.Snapshot { return p.current.Load() }

// Rejections returns what is not applied of what was read last: of files in the order of
// the files and of the resources in them, else in that of kinds and names.
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

// advance makes a snapshot of next if the resources differ. The first call always makes
// one, with generation 1.
func (p *publisher) advance(next shelf.Tables) {
	last := p.joined
	if last.Snapshot.Generation > 0 && next == last.Tables {
		return
	}
	p.joined = p.library.shelf.Join(last, next)
	made := p.joined.Snapshot
	p.mu.Lock()
	p.stats.Published = made.Generation
	p.stats.Resources = next.Sizes()
	p.mu.Unlock()
	p.current.Store(made)
	total, added, removed := 0, 0, 0
	for at := range shelf.Kinds {
		total += next.Entries[at].Len()
		for _, c := range table.Diff(last.Tables.Entries[at], next.Entries[at]) {
			switch {
			case c.Old == nil:
				added++
			case c.New == nil:
				removed++
			}
		}
	}
	p.logger.Info("xds applied", "generation", made.Generation, "resources", total, "added", added, "removed", removed)
	if p.change != nil {
		p.change(made)
	}
}

// list keeps what is rejected now.
func (p *publisher) list(rejected []Rejection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rejected = rejected
}

// took counts a time that resources were read, and tells of what is newly rejected.
func (p *publisher) took(news []Rejection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Reloads++
	p.stats.Rejections += uint64(len(news))
	for i := range news {
		r := &news[i]
		p.logger.Warn("xds rejected; its last good version stays",
			"file", r.File, "kind", r.Kind, "name", r.Name, "field", r.Field, "reason", r.Reason, "more", len(r.More))
	}
}
