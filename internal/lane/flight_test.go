package lane

import (
	"sync/atomic"
	"testing"
)

// TestDrawn: what the programs have drawn is told once, of the very request and lane.
func TestDrawn(t *testing.T) {
	m := &Memory{Flights: make([]Flight, 3*Flights)}
	draw := func(lane uint32, id uint64) {
		at := m.at(lane, id)
		atomic.StoreUint64(&at.Start, id+1)
		atomic.StoreUint32(&at.End, uint32(drawnAny|drawnSpan))
	}
	draw(1, 700)
	if m.Drawn(1, 700+Flights)|m.Drawn(1, 701)|m.Drawn(2, 700)|m.Drawn(0, 0) != 0 {
		t.Error("another request is drawn")
	}
	if _, led := m.Drawn(1, 700).Share(); led || m.Drawn(1, 700) != 0 {
		t.Error("it is told once")
	}
	draw(1, 5)
	at := m.at(1, 5) // a request took its place
	atomic.StoreUint64(&at.Key, 6+Flights)
	if m.Drawn(1, 5) != 0 {
		t.Error("a flight is taken for a request that was drawn")
	}
	for _, id := range []uint64{0, 9, 3 * Flights} {
		draw(2, id)
	}
	atomic.StoreUint32(&m.at(2, 9).End, uint32(drawnAny|drawnLed|3))
	got := m.Undraw(2)
	if number, led := got[9].Share(); len(got) != 2 || !got[3*Flights].Span() || got[9].Span() || !led || number != 3 { // 0 had its place
		t.Errorf("%v are left", got)
	}
	if got := m.Undraw(2); got != nil || m.Drawn(2, 9) != 0 {
		t.Errorf("%v are left after the last time", got)
	}
}
