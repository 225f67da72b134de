// Package fault decides which faults are injected into a request, as Envoy's HTTP
// fault filter does, and counts what a workload has of them at the moment. It neither
// waits nor answers: the consumer's connection does.
package fault

import (
	"math/bits"
	"sync"
	"time"

	"github.com/dubway/dubway/l7proxy/condition"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Injection is what one filter does to a request: it waits for Delay, and then it is
// aborted, unless Abort is nil.
type Injection struct {
	Filter *snapshot.Fault // nil: nothing happens
	Delay  time.Duration   // 0: none
	Abort  *snapshot.Abort
}

// Subject is a request, and what the filters look at beside it.
type Subject struct {
	Values   *condition.Values
	Cluster  string // that the route has chosen
	Workload string // UID of the consumer
	Random   uint64 // one for each filter and request
	// Abort is what an abort is on the request's route; nil: what the filter says.
	Abort *snapshot.Abort
}

// Of decides what a filter does to a request.
func Of(f *snapshot.Fault, s *Subject) Injection {
	if f.Cluster != "" && f.Cluster != s.Cluster {
		return Injection{}
	}
	for i := range f.Headers {
		if !s.Values.Matches(&f.Headers[i]) {
			return Injection{}
		}
	}
	var in Injection
	if f.Delay > 0 && snapshot.Hit(f.Delayed, s.Random) {
		in.Filter, in.Delay = f, f.Delay
	}
	if f.Abort != nil && snapshot.Hit(f.Aborted, bits.RotateLeft64(s.Random, 32)) { // other bits than the delay's
		in.Filter, in.Abort = f, f.Abort
		if s.Abort != nil {
			in.Abort = s.Abort
		}
	}
	return in
}

// Active counts the requests that are being delayed. Its zero value has none. Safe for
// concurrent use.
type Active struct {
	mu sync.Mutex
	by map[key]uint32
}

type key struct{ workload, filter string }

// Full tells whether a workload has as many requests in a filter as it may.
func (a *Active) Full(workload string, f *snapshot.Fault) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.by[key{workload, f.Name}] >= f.Most
}

// Begin counts one more, unless the workload has as many as it may.
func (a *Active) Begin(workload string, f *snapshot.Fault) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := key{workload, f.Name}
	if a.by[k] >= f.Most {
		return false
	}
	if a.by == nil {
		a.by = make(map[key]uint32)
	}
	a.by[k]++
	return true
}

// End ends what Begin began.
func (a *Active) End(workload string, f *snapshot.Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := key{workload, f.Name}
	if a.by[k]--; a.by[k] == 0 {
		delete(a.by, k)
	}
}
