package learned

import (
	"sync"

	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
)

// Planner says whether requests like the one that it planned last may take a lane.
type Planner interface {
	Lane(h codec.Header, body []byte) verdict.Verdict
}

// Desk is where requests are asked about as they come: a Book and the lock of whoever has it.
type Desk struct {
	Mu   sync.Mutex
	Book *Book // nil: nothing is learned
}

// Learn finds what becomes of requests like one that a planner has just planned, and tells
// whether they may take a lane. None may where closed says so, when its verdict is there.
func (d *Desk) Learn(p Planner, key Key, a *Asked, closed func() bool) bool {
	d.Mu.Lock()
	b := d.Book
	if b == nil {
		d.Mu.Unlock()
		return false
	}
	placed, known := b.Known(key, a)
	d.Mu.Unlock()
	if known {
		return placed
	}
	v := p.Lane(a.Header, a.Body)
	d.Mu.Lock()
	defer d.Mu.Unlock()
	return b == d.Book && b.Learn(key, a, &v, closed())
}
