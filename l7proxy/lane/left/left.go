// Package left reads what a proxy that died has left in the memory of lanes, where calls go
// on. It takes nothing over and knows no socket.
package left

import (
	"iter"
	"sync/atomic"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
)

// State is what there is.
type State struct {
	Lanes map[uint32]bool // numbers that somebody had
	Class uint32          // the highest
}

// Read finds out. Nobody else writes the memory.
func Read(m *lane.Memory) State {
	s := State{Lanes: make(map[uint32]bool)}
	for number := range uint32(len(m.Lanes)) {
		if m.Taken(number) {
			s.Lanes[number] = true
			s.Class = max(s.Class, atomic.LoadUint32(&m.Lanes[number].Class))
		}
	}
	for i := range m.Routes {
		s.Class = max(s.Class, m.Routes[i].Class) // of those that are removed too: requests may be in flight by them
	}
	return s
}

// Routes are the places of the routes of a lane's class, and those of its requests in flight
// whose routes are removed.
func Routes(m *lane.Memory, number uint32) iter.Seq[uint32] {
	class, used := atomic.LoadUint32(&m.Lanes[number].Class), make(map[uint32]bool)
	m.InFlight(number, func(_ uint64, f lane.Flight) bool {
		used[f.Route] = true
		return true
	})
	return func(yield func(uint32) bool) {
		for place := range uint32(len(m.Routes)) {
			r := &m.Routes[place]
			if r.Class == class && (used[place] || atomic.LoadUint64(&r.Hash) != 0) && !yield(place) {
				return
			}
		}
	}
}

// Same tells whether requests go the same ways, and are counted alike, by two routes of the same
// names.
func Same(a, b *lane.Route) bool {
	if a.Count != b.Count || a.Flags != b.Flags || a.Sampled != b.Sampled ||
		a.Bounds != b.Bounds || a.Actives != b.Actives || a.Candidates != b.Candidates {
		return false
	}
	for i := range a.Count {
		one, other := a.Shares[i], b.Shares[i]
		one.Cursor, other.Cursor = 0, 0
		if one != other {
			return false
		}
	}
	return true
}

// Request is one that the programs would take for a route's, as far as they look at it:
// it has the names, and nothing behind them.
func Request(r *lane.Route) (h codec.Header, body []byte) {
	body = append(body, r.Prefix[:min(int(r.Length), lane.Prefix)]...)
	return codec.Header{
		Flags: codec.FlagRequest | codec.FlagTwoWay | r.Serialization, Head: headerLen, Body: len(body),
	}, body
}

// headerLen is that of Dubbo's header, which the programs read.
const headerLen = 16

// Clear makes a lane nobody's. What is in flight in it stays until Forget.
func Clear(m *lane.Memory, number uint32) {
	l := &m.Lanes[number]
	atomic.StoreUint32(&l.Flags, 0)
	for i := range l.Ends {
		atomic.StoreUint32(&l.Ends[i].Flags, 0)
	}
	atomic.StoreUint32(&l.Class, 0)
}

// Forget drops the requests in flight of a lane that nobody waits for any more, and tells of each.
func Forget(m *lane.Memory, number uint32, gone func(lane.Flight)) {
	m.InFlight(number, func(id uint64, _ lane.Flight) bool {
		if f, ok := m.Take(number, id); ok {
			gone(f)
		}
		return true
	})
}
