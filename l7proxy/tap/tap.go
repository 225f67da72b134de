// Package tap lets operators look at the node's requests while they happen: one
// by one (a tap), or added up (top). It sees the Record of each request, and
// never makes the data path wait: what a reader is too slow for is dropped,
// counted and told to the reader.
//
// While nobody looks, a request costs one atomic load at its end, and a read of
// a consumer's connection another. Bodies are copied for a tap that asks for
// them alone, of the requests alone that its filter takes as far as it can be
// known before the answer, and within a bound. The proxy never decodes them:
// whoever decodes what pods send may fall over it, and that is to be dubwayctl.
package tap

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// maxWatchers bounds how many operators look at a time.
const maxWatchers = 8

// The reasons for which nobody may join.
var (
	errMany  = errors.New("eight operators look already: end one of their commands")
	errTaken = errors.New("another tap reads bodies: one may at a time, since it holds the node's memory")
)

// watcher sees the records of all requests. Observe must neither wait nor keep
// the Record; it is called by many goroutines.
type watcher interface {
	observe(rec *rpc.Record)
	// aggregate is told of calls that took the lane, and tell of some of them once more.
	aggregate(call *rpc.Call, a *rpc.Aggregate)
	tell(rec *rpc.Record)
}

// Hub knows who looks. The zero Hub is ready, and so is a nil one, at which
// nobody can look. Safe for concurrent use.
type Hub struct {
	mu sync.Mutex
	// Collect is called before each report of a top: then Aggregate has been told of every
	// call that ended before. Nil: there is nothing to collect. It is set before anybody looks.
	Collect func()

	watchers atomic.Pointer[[]watcher] // copied when it changes; nil: nobody looks
	reader   atomic.Pointer[watch]     // the tap that asks for bodies
}

// Watched tells whether anybody looks: then Observe wants the records.
func (h *Hub) Watched() bool { return h != nil && h.watchers.Load() != nil }

// Observe shows a request that ended to whoever looks.
func (h *Hub) Observe(rec *rpc.Record) {
	if all := h.watchers.Load(); all != nil {
		for _, w := range *all {
			w.observe(rec)
		}
	}
}

// Aggregate shows calls that took the lane to whoever adds up.
func (h *Hub) Aggregate(call *rpc.Call, a *rpc.Aggregate) {
	if all := h.watchers.Load(); all != nil {
		for _, w := range *all {
			w.aggregate(call, a)
		}
	}
}

// Tell shows one of those calls, which nobody counts again.
func (h *Hub) Tell(rec *rpc.Record) {
	if all := h.watchers.Load(); all != nil {
		for _, w := range *all {
			w.tell(rec)
		}
	}
}

// Bodies tells whether a tap asks for bodies: then Capture wants the requests.
func (h *Hub) Bodies() bool { return h != nil && h.reader.Load() != nil }

// Capture copies the beginning of a request's frame of size bytes for the tap
// that asks for bodies, or returns nil. What it returns belongs in the request's
// Record.
func (h *Hub) Capture(call *rpc.Call, frame []byte, size int) rpc.Capture {
	w := h.reader.Load()
	if w == nil || !w.filter.call(call) {
		return nil
	}
	c := w.capture(frame, size)
	if c == nil {
		return nil
	}
	return c
}

// join adds a watcher until leave.
func (h *Hub) join(w watcher) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []watcher
	if now := h.watchers.Load(); now != nil {
		all = *now
	}
	if len(all) == maxWatchers {
		return errMany
	}
	if reader, ok := w.(*watch); ok && reader.bodies && !h.reader.CompareAndSwap(nil, reader) {
		return errTaken
	}
	all = append(slices.Clone(all), w)
	h.watchers.Store(&all)
	return nil
}

func (h *Hub) leave(w watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if reader, ok := w.(*watch); ok {
		h.reader.CompareAndSwap(reader, nil)
	}
	left := slices.DeleteFunc(slices.Clone(*h.watchers.Load()), func(other watcher) bool { return other == w })
	if len(left) == 0 {
		h.watchers.Store(nil)
		return
	}
	h.watchers.Store(&left)
}
