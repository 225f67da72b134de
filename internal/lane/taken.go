package lane

import "sync/atomic"

// Taken tells whether a lane is somebody's: it has flags, a class or an end. A proxy gives
// one back by clearing them.
func (m *Memory) Taken(number uint32) bool {
	l := &m.Lanes[number]
	if atomic.LoadUint32(&l.Flags)|atomic.LoadUint32(&l.Class) != 0 {
		return true
	}
	for i := range l.Ends {
		if atomic.LoadUint32(&l.Ends[i].Flags) != 0 {
			return true
		}
	}
	return false
}
