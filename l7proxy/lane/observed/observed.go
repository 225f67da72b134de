// Package observed is lanes that nobody has: it learns which names consumers call, and counts
// the requests that would have taken a lane. It writes to no memory that a program sees, and
// changes nothing of any request.
package observed

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/lane/verdict"
	"github.com/dubway/dubway/l7proxy/rpc"
)

// As many names and endpoints as lanes have room for, unless told otherwise, and how often it
// is looked whether what was learned still stands.
const (
	routes    = 2048
	endpoints = 1024
	every     = 100 * time.Millisecond
)

// Observer observes one node. Safe for concurrent use. The zero value and nil observe nothing.
type Observer struct {
	on           atomic.Bool
	taken, other atomic.Uint64

	mu     sync.Mutex
	book   *learned.Book // nil: it observes nothing
	looked time.Time
}

// Observe begins, or ends and forgets what was learned.
func (o *Observer) Observe(on bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case on && o.book == nil:
		o.book = learned.New(&lane.Memory{
			Sizes: lane.Sizes{Routes: routes}, Routes: make([]lane.Route, routes), Active: make([]uint64, endpoints),
		}, endless{})
	case !on && o.book != nil:
		o.book.Close()
		o.book = nil
	}
	o.on.Store(on)
}

// On tells whether it observes.
func (o *Observer) On() bool { return o != nil && o.on.Load() }

// Planner says whether requests like the one that it planned last may take a lane.
type Planner interface {
	Lane(h codec.Header, body []byte) verdict.Verdict
}

// Request is one that was sent on.
type Request struct {
	Key      learned.Key
	Protocol *codec.Protocol
	Header   codec.Header
	Body     []byte
	// Worth says that its connection is worth a lane.
	Worth bool
}

// Seen is what is known of one connection: that it would have a lane. One goroutine uses it.
type Seen bool

// Came counts a request, behind its plan.
func (o *Observer) Came(s *Seen, p Planner, r *Request) {
	a := learned.Asked{Header: r.Header, Body: r.Body, Now: time.Now()}
	var state codec.State
	placed := false
	if a.Prefix, state = r.Protocol.Requests.Prefix(r.Header, a.Body); state == codec.Complete && !a.Prefix.Generic && r.Header.TwoWay() {
		placed = o.learn(p, r.Key, &a)
	}
	switch {
	case placed && bool(*s):
		o.taken.Add(1)
		return
	case placed && r.Worth:
		*s = true // from the next one on
	}
	o.other.Add(1)
}

// learn tells whether requests like one may take a lane.
func (o *Observer) learn(p Planner, key learned.Key, a *learned.Asked) bool {
	o.mu.Lock()
	b := o.book
	if b == nil {
		o.mu.Unlock()
		return false
	}
	if a.Now.Sub(o.looked) >= every {
		o.looked = a.Now
		b.Look(false) // whoever taps calls is asked by each verdict
		b.Tidy(a.Now)
		b.Rested(b.Rest(), func(uint32) bool { return false })
	}
	placed, known := b.Known(key, a)
	o.mu.Unlock()
	if known {
		return placed
	}
	v := p.Lane(a.Header, a.Body)
	o.mu.Lock()
	defer o.mu.Unlock()
	return b == o.book && b.Learn(key, a, &v, false)
}

// Counts returns how many requests would have taken a lane so far, and how many others there
// were.
func (o *Observer) Counts() (taken, other uint64) { return o.taken.Load(), o.other.Load() }

// Names lists what was learned, as lanes do.
func (o *Observer) Names() []admin.LearnedName {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.book == nil {
		return nil
	}
	return o.book.List()
}

// endless has room for every series: nothing is counted by them.
type endless struct{}

var _ learned.Series = endless{}

func (endless) Put(*rpc.Call, uint8) (uint32, bool) { return 0, true }
func (endless) Drop(uint32)                         {}
