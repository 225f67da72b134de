// Package observed is lanes that nobody has: it learns which names consumers call, and counts
// the requests that would have taken a lane. It writes to no memory that a program sees, and
// changes nothing of any request.
package observed

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/dubway/dubway/internal/admin"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/learned"
	"github.com/dubway/dubway/l7proxy/plan"
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

	desk   learned.Desk // without a Book it observes nothing
	looked time.Time    // guarded by the desk's Mu
}

// Observe begins, or ends and forgets what was learned.
func (o *Observer) Observe(on bool) {
	o.desk.Mu.Lock()
	defer o.desk.Mu.Unlock()
	switch {
	case on && o.desk.Book == nil:
		o.desk.Book = learned.New(&lane.Memory{
			Sizes: lane.Sizes{Routes: routes}, Routes: make([]lane.Route, routes), Active: make([]uint64, endpoints),
		}, endless{})
	case !on && o.desk.Book != nil:
		o.desk.Book.Close()
		o.desk.Book = nil
	}
	o.on.Store(on)
}

// On tells whether it observes.
func (o *Observer) On() bool { return o != nil && o.on.Load() }

// Pace tells of a connection whether it is worth a lane, and counts the requests by which it is.
type Pace interface{ Worth() bool }

// Seen is a consumer's connection as it is observed. Its methods are its reading goroutine's.
type Seen struct {
	observer *Observer
	source   *plan.Source
	pace     Pace
	joined   bool // it would have a lane
}

// Init makes s the part of a connection.
func (s *Seen) Init(o *Observer, source *plan.Source, p Pace) {
	s.observer, s.source, s.pace = o, source, p
}

// Came counts a request of a protocol, behind its plan.
func (s *Seen) Came(p learned.Planner, of *codec.Protocol, h codec.Header, frame []byte) {
	o := s.observer
	if !o.On() || s.source.Inbound || of.Name != rpc.ProtocolDubbo {
		return
	}
	a := learned.Asked{Header: h, Body: frame[h.Head:], Now: time.Now()}
	var state codec.State
	here, worth := 0.0, s.pace.Worth()
	if a.Prefix, state = of.Requests.Prefix(h, a.Body); state == codec.Complete && !a.Prefix.Generic && h.TwoWay() {
		here = o.learn(p, learned.Key{Workload: s.source.Workload.UID, Original: s.source.Original}, &a)
	}
	switch {
	case here > 0 && s.joined:
		if rand.Float64() < here { // what is drawn for endpoints elsewhere does not
			o.taken.Add(1)
			return
		}
	case here > 0 && worth:
		s.joined = true // from the next one on
	}
	o.other.Add(1)
}

// learn returns the part of requests like one that may take a lane.
func (o *Observer) learn(p learned.Planner, key learned.Key, a *learned.Asked) float64 {
	o.look(a.Now)
	// Whoever taps calls is asked by each verdict.
	if !o.desk.Learn(p, key, a, func() bool { return false }) {
		return 0
	}
	o.desk.Mu.Lock()
	defer o.desk.Mu.Unlock()
	if o.desk.Book == nil {
		return 0
	}
	return o.desk.Book.Here(key, a)
}

// look looks, at times, whether what was learned still stands.
func (o *Observer) look(now time.Time) {
	o.desk.Mu.Lock()
	defer o.desk.Mu.Unlock()
	if b := o.desk.Book; b != nil && now.Sub(o.looked) >= every {
		o.looked = now
		b.Look(now, false)
		b.Tidy(now)
		b.Rested(b.Rest(), func(uint32) bool { return false })
	}
}

// Counts returns how many requests would have taken a lane so far, and how many others there
// were.
func (o *Observer) Counts() (taken, other uint64) { return o.taken.Load(), o.other.Load() }

// Names lists what was learned, as lanes do.
func (o *Observer) Names(count learned.Ways) []admin.LearnedName {
	o.desk.Mu.Lock()
	defer o.desk.Mu.Unlock()
	if o.desk.Book == nil {
		return nil
	}
	return o.desk.Book.List(count)
}

// endless has room for every series: nothing is counted by them.
type endless struct{}

var _ learned.Series = endless{}

func (endless) Put(*rpc.Call, uint8, func(uint64)) (uint32, bool) { return 0, true }
func (endless) Drop(uint32)                                       {}

func (endless) Adopt(uint32, *rpc.Call, uint8, func(uint64)) bool { return false }
