package limit

import (
	"sync"
	"time"

	"github.com/dubway/dubway/l7proxy/filter/subject"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Workloads has the buckets of all workloads. Safe for concurrent use.
type Workloads struct {
	mu    sync.Mutex
	byUID map[string]*Workload
}

// Workload has the buckets of one. Safe for concurrent use.
type Workload struct {
	buckets sync.Map // *snapshot.Bucket to *bucket
}

// Of returns a workload's, made on first use. A connection asks once and keeps it.
func (ws *Workloads) Of(uid string) *Workload {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.byUID[uid]
	if w == nil {
		if ws.byUID == nil {
			ws.byUID = make(map[string]*Workload)
		}
		w = new(Workload)
		ws.byUID[uid] = w
	}
	return w
}

// Forget lets the buckets of a workload that is gone go. Its connections may still
// use theirs.
func (ws *Workloads) Forget(uid string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.byUID, uid)
}

// Keep lets the buckets go that are in none of the snapshots. A bucket of a resource that did
// not change stays as full as it was.
func (ws *Workloads) Keep(all ...*snapshot.Snapshot) {
	kept := make(map[*snapshot.Bucket]bool)
	for l := range snapshot.Each(all, (*snapshot.Snapshot).Limits) {
		kept[l.Bucket] = true
		for i := range l.Descriptors {
			kept[l.Descriptors[i].Bucket] = true
		}
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.byUID {
		w.buckets.Range(func(key, _ any) bool {
			if b, ok := key.(*snapshot.Bucket); ok && !kept[b] {
				w.buckets.Delete(b)
			}
			return true
		})
	}
}

// take takes a token of a bucket.
func (w *Workload) take(b *snapshot.Bucket, s *subject.Subject) bool {
	return w.bucket(b, s.Now).take(b, s.Now)
}

func (w *Workload) bucket(b *snapshot.Bucket, now time.Time) *bucket {
	known, ok := w.buckets.Load(b)
	if !ok {
		known, _ = w.buckets.LoadOrStore(b, newBucket(b, now))
	}
	k, ok := known.(*bucket)
	if !ok { // not reached: nothing else is stored
		return newBucket(b, now)
	}
	return k
}
