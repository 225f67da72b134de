package lane

import (
	"sync/atomic"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
)

// TestDrawn: a request that the programs have drawn is known until it is read, also behind the
// end of its lane.
func TestDrawn(t *testing.T) {
	r := newRig(t, 1)
	if r.ride.Drawn(7) {
		t.Error("a request is drawn where there is no lane")
	}
	l, _ := r.open()
	draw := func(id uint64) {
		f := &r.memory.Flights[int(l.number)*lane.Flights+int(id%lane.Flights)]
		atomic.StoreUint64(&f.Start, id+1)
		atomic.StoreUint32(&f.End, 256)
	}
	draw(7)
	if r.ride.Drawn(8) || !r.ride.Drawn(7) || r.ride.Drawn(7) {
		t.Error("another request is drawn, or this one twice")
	}
	draw(9)
	r.lanes.Use(r.memory, handoff.LaneOff)
	<-l.done
	if r.ride.Drawn(7) || !r.ride.Drawn(9) {
		t.Error("what was drawn is forgotten with the lane")
	}
}
