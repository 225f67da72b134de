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

// Drawn tells, once, whether a request of a lane went to the proxy because the programs drew it
// for a span.
func (m *Memory) Drawn(lane uint32, id uint64) bool {
	at := m.at(lane, id)
	return atomic.LoadUint32(&at.End) == drawn && atomic.LoadUint64(&at.Start) == id+1 &&
		atomic.LoadUint64(&at.Key) == 0 && atomic.CompareAndSwapUint32(&at.End, drawn, 0)
}

// Undraw returns the ids for which Drawn would be true, for the last time.
func (m *Memory) Undraw(lane uint32) (ids []uint64) {
	for i := range m.Flights[uint64(lane)*Flights:][:Flights] {
		at := m.at(lane, uint64(i))
		if id := atomic.LoadUint64(&at.Start) - 1; m.Drawn(lane, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
