package steering

import (
	"slices"
	"sync"

	"github.com/dubway/dubway/internal/handoff/lack"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// everybody is in place of a UID for what all workloads see.
const everybody = ""

// force is what the agent has acknowledged, by UID. Safe for concurrent use.
type force struct {
	mu      sync.Mutex
	in      map[string]place
	refused map[string]bool // and not acknowledged since
	again   map[string]bool // refused of what is being told
}

// place is where a workload is: in which table, and what that was made of.
type place struct {
	table uint32
	of    sort
}

func newForce() *force {
	return &force{in: make(map[string]place), refused: make(map[string]bool), again: make(map[string]bool)}
}

// clear forgets everything.
func (f *force) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.in)
	clear(f.refused)
	clear(f.again)
}

// put notes that a table is in force. Who was in it and is no longer has none.
func (f *force) put(t *steered) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for uid, at := range f.in {
		if _, stays := slices.BinarySearch(t.table.Workloads, uid); at.table == t.table.Table && !stays {
			delete(f.in, uid)
		}
	}
	if t.seen == nil {
		return // it is nobody's
	}
	at := place{t.table.Table, like(t.seen)}
	for _, uid := range t.table.Workloads {
		f.in[uid] = at
		delete(f.refused, uid)
		delete(f.again, uid)
	}
	if t.sort.all {
		f.in[everybody] = at
		delete(f.refused, everybody)
		delete(f.again, everybody)
	}
}

// refuse notes that the agent refused a table, or that there was no room for it.
func (f *force) refuse(t *steered) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, uid := range t.table.Workloads {
		f.refused[uid], f.again[uid] = true, true
	}
	if t.sort.all {
		f.refused[everybody], f.again[everybody] = true, true
	}
}

// settle ends what is being told: what was refused before and was not now is not refused.
func (f *force) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused, f.again = f.again, make(map[string]bool)
}

// InForce says what a workload lacks until connects are steered by a snapshot that it
// sees: lack.None, lack.Table or lack.Refused.
func (s *Steering) InForce(uid string, seen *snapshot.Snapshot) lack.Lack {
	if !s.opts.Viewed {
		uid = everybody
	}
	f := s.force
	f.mu.Lock()
	defer f.mu.Unlock()
	switch at, ok := f.in[uid]; {
	case ok && at.of == like(seen):
		return lack.None
	case f.refused[uid]:
		return lack.Refused
	default:
		return lack.Table
	}
}
