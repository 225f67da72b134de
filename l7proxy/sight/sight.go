// Package sight tells which snapshot each workload sees. It asks for none.
package sight

import (
	"sync"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Sight is what each workload sees. Safe for concurrent use.
type Sight struct {
	mu    sync.Mutex
	cells map[string]*atomic.Pointer[snapshot.Snapshot] // by UID
	all   atomic.Pointer[snapshot.Snapshot]             // Of those that are not in cells
	views atomic.Pointer[[]snapshot.View]
	puts  atomic.Uint64
}

// New returns a Sight in which everybody sees an empty snapshot, of generation 0.
func New() *Sight {
	s := &Sight{cells: make(map[string]*atomic.Pointer[snapshot.Snapshot])}
	s.all.Store((&snapshot.Snapshot{}).Seal())
	s.views.Store(&[]snapshot.View{})
	return s
}

// Of returns what follows the snapshots of a workload, without a lock.
func (s *Sight) Of(uid string) func() *snapshot.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cell := s.cells[uid]; cell != nil {
		return cell.Load
	}
	return s.all.Load
}

// Now returns what a workload sees at the moment.
func (s *Sight) Now(uid string) *snapshot.Snapshot { return s.Of(uid)() }

// Changes counts the calls of Put that are over.
func (s *Sight) Changes() uint64 { return s.puts.Load() }

// Views returns the views.
func (s *Sight) Views() []snapshot.View { return *s.views.Load() }

// Put makes workloads see what views say, and returns what those saw before that see
// something else now. A workload that is in no view any more keeps its last one, for what
// is left of its connections.
func (s *Sight) Put(views []snapshot.View) (before map[string]*snapshot.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.puts.Add(1)
	before = make(map[string]*snapshot.Snapshot)
	s.views.Store(&views)
	live := make(map[string]bool)
	for _, v := range views {
		if v.Workloads == nil {
			before[""] = s.all.Swap(v.Snapshot)
		}
		for _, uid := range v.Workloads {
			live[uid] = true
			cell := s.cells[uid]
			if cell == nil {
				cell = new(atomic.Pointer[snapshot.Snapshot])
				s.cells[uid] = cell
			}
			if old := cell.Swap(v.Snapshot); old != nil && old != v.Snapshot {
				before[uid] = old
			}
		}
	}
	for uid := range s.cells {
		if !live[uid] {
			delete(s.cells, uid)
		}
	}
	return before
}
