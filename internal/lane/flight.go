package lane

import "sync/atomic"

// at is where the flight of a request id is.
func (m *Memory) at(lane uint32, id uint64) *Flight {
	return &m.Flights[uint64(lane)*Flights+id%Flights]
}

// load reads a flight that others may take and use again meanwhile.
func (f *Flight) load() Flight {
	return Flight{
		Key: atomic.LoadUint64(&f.Key), Start: atomic.LoadUint64(&f.Start), Route: atomic.LoadUint32(&f.Route),
		Bytes: atomic.LoadUint32(&f.Bytes), End: atomic.LoadUint32(&f.End), Series: atomic.LoadUint32(&f.Series),
	}
}

// Take ends the request id of a lane, if it is in flight: what was known of it is
// returned once, to the program that had its answer or to the one caller here.
func (m *Memory) Take(lane uint32, id uint64) (f Flight, ok bool) {
	at := m.at(lane, id)
	if atomic.LoadUint64(&at.Key) != id+1 {
		return f, false
	}
	f = at.load()
	if !atomic.CompareAndSwapUint64(&at.Key, id+1, 0) {
		return f, false
	}
	return f, true
}

// InFlight calls f with the requests in flight of a lane, until it returns false. They may end meanwhile.
func (m *Memory) InFlight(lane uint32, f func(id uint64, flight Flight) bool) {
	all := m.Flights[uint64(lane)*Flights:][:Flights]
	for i := range all {
		if key := atomic.LoadUint64(&all[i].Key); key != 0 {
			if !f(key-1, all[i].load()) {
				return
			}
		}
	}
}

// Drawn returns, once, what the programs drew for a request of a lane that went to the proxy.
func (m *Memory) Drawn(lane uint32, id uint64) Drawn {
	at := m.at(lane, id)
	d := atomic.LoadUint32(&at.End)
	if Drawn(d)&drawnAny == 0 || atomic.LoadUint64(&at.Start) != id+1 || atomic.LoadUint64(&at.Key) != 0 ||
		!atomic.CompareAndSwapUint32(&at.End, d, 0) {
		return 0
	}
	return Drawn(d)
}

// Undraw returns all that Drawn would return, for the last time, by id.
func (m *Memory) Undraw(lane uint32) map[uint64]Drawn {
	var all map[uint64]Drawn
	for i := range uint64(Flights) {
		id := atomic.LoadUint64(&m.at(lane, i).Start) - 1
		d := m.Drawn(lane, id)
		if d == 0 {
			continue
		}
		if all == nil {
			all = make(map[uint64]Drawn)
		}
		all[id] = d
	}
	return all
}
