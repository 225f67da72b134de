package snapshot

import (
	"iter"
	"maps"
	"time"
)

// Fault is a fault filter: a share of requests is delayed, and a share of them is
// aborted. Its pointer is an identity, as that of Limit is.
type Fault struct {
	Name string // the filter's, by which a route replaces it
	// Delay is for the share Delayed of requests, in millionths.
	Delay   time.Duration
	Delayed uint32
	// Abort is for the share Aborted, behind their delay; nil: none.
	Abort   *Abort
	Aborted uint32
	Headers []HeaderMatch // all must hold
	Cluster string        // the one that the request's route has chosen; "" for any
	// Most bounds the requests of one workload that are delayed by filters of this
	// name at the same time: beyond it, nothing happens to a request.
	Most  uint32
	Needs Needs // of Headers
}

// Idle tells whether the filter does nothing to any request.
func (f *Fault) Idle() bool {
	return (f.Delay == 0 || f.Delayed == 0) && (f.Abort == nil || f.Aborted == 0)
}

// Abort is what a consumer gets in its provider's stead.
type Abort struct {
	// Status is Dubbo's. For one that throws it is what a consumer gets whose
	// serialization cannot be written.
	Status byte
	// Class is the exception that is thrown, by its Java name; "" for none. Code is
	// that of an RpcException.
	Class   string
	Code    byte
	Message string // "" for the mesh's own words
}

// Delays tells whether one of some filters may delay a request, which is then held
// whole.
func Delays(list iter.Seq[*Fault]) bool {
	for f := range list {
		if f.Delay > 0 && f.Delayed > 0 {
			return true
		}
	}
	return false
}

// Faults lists every fault filter of the snapshot; one that several routes share is
// listed as often.
func (s *Snapshot) Faults() iter.Seq[*Fault] {
	return func(yield func(*Fault) bool) {
		for _, l := range s.Listeners {
			for _, f := range l.Faults {
				if !yield(f) {
					return
				}
			}
		}
		for _, rc := range s.Routes {
			for _, vh := range rc.VirtualHosts {
				for _, r := range vh.Routes {
					if r.Policies == nil {
						continue
					}
					for f := range maps.Values(r.Policies.Faults) {
						if !yield(f) {
							return
						}
					}
				}
			}
		}
	}
}
