package lane

import (
	"sync/atomic"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
)

// drawnSpan is what the programs write of a request that is to have a span.
const drawnSpan = 0x500

// TestDrawn: a request that the programs have drawn is known until it is read, also behind the
// end of its lane.
func TestDrawn(t *testing.T) {
	r := newRig(t, 1)
	if r.ride.Drawn(codec.Header{ID: 7}, nil).Span {
		t.Error("a request is drawn where there is no lane")
	}
	l, _ := r.open()
	draw := func(id uint64) {
		f := &r.memory.Flights[int(l.Number)*lane.Flights+int(id%lane.Flights)]
		atomic.StoreUint64(&f.Start, id+1)
		atomic.StoreUint32(&f.End, drawnSpan)
	}
	drawn := func(id uint64) bool {
		l := r.ride.Drawn(codec.Header{ID: id, Flags: lane.Hessian2}, nil)
		if l.Target != 0 || l.Endpoint.IsValid() {
			t.Errorf("request %d leads to %d, %s", id, l.Target, l.Endpoint)
		}
		return l.Span
	}
	draw(7)
	if drawn(8) || !drawn(7) || drawn(7) {
		t.Error("another request is drawn, or this one twice")
	}
	draw(9)
	r.lanes.Use(r.memory, handoff.LaneOff)
	<-l.Done()
	if drawn(7) || !drawn(9) {
		t.Error("what was drawn is forgotten with the lane")
	}
}
