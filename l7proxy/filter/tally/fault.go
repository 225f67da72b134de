package tally

import "github.com/dubway/dubway/l7proxy/snapshot"

// Injected is what became of a request that a fault is for.
type Injected uint8

// What may become of one.
const (
	Delayed    Injected = iota // it waits, or has waited
	Aborted                    // it is answered in its provider's stead
	Overflowed                 // nothing, because too many are delayed already
)

// results are the words for labels.
var results = [...]string{Delayed: "delayed", Aborted: "aborted", Overflowed: "overflowed"}

// Fault returns the counter of what a fault filter does. It allocates only when a
// filter comes for the first time.
func (t *Tally) Fault(f *snapshot.Fault, what Injected) *Counter {
	list := load(&t.faults, f)
	if list == nil {
		made := make(counters, len(results)) // a variable of its own: its address is kept
		for i, result := range results {
			made[i] = t.counter(Labels{Kind: KindFault, Filter: f.Name, Result: result})
		}
		t.faults.Store(f, &made)
		list = made
	}
	return list[what]
}
