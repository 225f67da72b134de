package tally

import (
	"github.com/dubway/dubway/l7proxy/filter/global"
	"github.com/dubway/dubway/l7proxy/snapshot"
)

// Global returns the counter of what comes of a global rate limit's answers. It
// allocates only when a filter comes for the first time.
func (t *Tally) Global(g *snapshot.Global, d global.Decision) *Counter {
	list := load(&t.globals, g)
	if list == nil {
		made := make(counters, global.Decisions) // a variable of its own: its address is kept
		for i := range made {
			made[i] = t.counter(Labels{Kind: KindGlobal, Filter: g.Name, Prefix: g.Prefix, Result: global.Decision(i).String()})
		}
		t.globals.Store(g, &made)
		list = made
	}
	return list[d]
}
