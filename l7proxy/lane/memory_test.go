package lane

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/lane/tally"
)

// TestScarce: without memory for what is moved there no lane begins, and one that is there ends,
// behind what is in flight, whose answers take TCP.
func TestScarce(t *testing.T) {
	r := newRig(t, 1)
	r.kernel.flags.Store(lane.Scarce)
	r.come(worthRate)
	r.eventually("the lane was given up", func() bool { return !r.ride.Busy() })
	if len(r.kernel.bound) > 0 {
		t.Errorf("bound %x", r.kernel.bound)
	}
	_ = (<-r.accepted).Close() // its provider was dialled

	r.kernel.flags.Store(0)
	r.ride.next = time.Time{} // not so soon
	r.lanes.Use(nil, "")      // and what was learned of the provider is forgotten
	r.use()
	l, providers := r.open()
	r.fly(l, 4, 0)
	r.kernel.flags.Store(lane.Scarce)
	_, _ = providers[0].Write(answer(4, 10))
	if h := r.gets(); h.ID != 4 {
		t.Errorf("the consumer gets %d", h.ID)
	}
	<-l.Done()
	if r.at(l).Flags != 0 || r.tally.closed[len(r.tally.closed)-1] != tally.Memory {
		t.Errorf("flags %d, closed %v", atomic.LoadUint32(&r.at(l).Flags), r.tally.closed)
	}
}
