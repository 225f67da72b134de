package lane

import "sync/atomic"

// TakeFrom is Take of a request that was sent to an end: what another end says of it is
// not its answer.
func (m *Memory) TakeFrom(lane uint32, id uint64, end uint32) (f Flight, ok bool) {
	at := m.at(lane, id)
	if atomic.LoadUint64(&at.Key) != id+1 || atomic.LoadUint32(&at.End) != end {
		return f, false
	}
	return m.Take(lane, id)
}
