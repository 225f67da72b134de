package lane

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/dubway/dubway/internal/handoff"
	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/lane/life"
	"github.com/dubway/dubway/l7proxy/rpc"
	"github.com/dubway/dubway/l7proxy/sock"
	"github.com/dubway/dubway/l7proxy/upstream"
)

// heir plans what the rig's planner does.
type heir struct {
	planner

	forgot int
}

func (h *heir) Forget() { h.forgot++ }

func (h *heir) Edge(codec.Header, []byte) (*upstream.Edge, rpc.Why) {
	return h.verdict().Shares[0].Ends[0].Edge, rpc.WhyNone
}

// leftNumber is that of the lane that newEstate's proxy has left, leftClass that of its routes.
const (
	leftNumber = 1
	leftClass  = 7
)

// estate is what a proxy has left: a lane to one provider, with a request in flight there and
// one at an end that is gone, and a part read of a frame of the consumer's and of the provider's.
type estate struct {
	*rig

	said     handoff.Lane
	conns    []*sock.Conn
	provider net.Conn
}

const (
	unread = 10 // bytes that are to come of the consumer's frame
	late   = 4  // and of the provider's
)

func newEstate(t *testing.T) *estate {
	t.Helper()
	e := &estate{rig: newRig(t, 1)}
	e.lanes.Use(nil, handoff.LaneOff)
	c, err := net.Dial("tcp", e.address[0].String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := sock.New(c.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	e.provider = <-e.accepted
	t.Cleanup(func() { _, _ = b.Close(), e.provider.Close() })
	e.conns = []*sock.Conn{e.conn, b}
	e.said = handoff.Lane{
		Number: leftNumber, Workload: e.source.Workload.UID, Destination: e.source.Original, Consumer: e.source.Remote,
		Ends: []handoff.LaneEnd{{Number: 0, Address: e.address[0]}},
	}

	at := &e.memory.Lanes[leftNumber]
	at.Flags, at.Class = lane.Requests|lane.Answers, leftClass
	at.Course.Resume, at.Reading = lane.At(seq-6), lane.At(seq+unread)
	at.Ends[0] = lane.End{Flags: lane.EndOpen, Course: lane.Course{Resume: lane.At(seq - 20)}}
	at.EndsReading[0] = seq + late
	at.Ends[5].Flags = lane.EndOpen
	var route lane.Route
	if err := route.Name(leftClass, lane.Hessian2, []byte("\x052.0.2\x04Echo\x050.0.0\x04echo")); err != nil {
		t.Fatal(err)
	}
	e.memory.Put(2, &route)
	for id, end := range map[uint64]uint32{5: 0, 6: 5} {
		e.memory.Flights[leftNumber*lane.Flights+id] = lane.Flight{Key: id + 1, Start: e.kernel.Now(), Route: 2, Bytes: 100, End: end}
	}
	e.use()
	return e
}

// inherit takes the lane over, as a session does.
func (e *estate) inherit() (*life.Lane, *heir) {
	e.t.Helper()
	from, err := e.lanes.Inherit(&e.said, e.conns)
	if err != nil {
		e.t.Fatal(err)
	}
	h := &heir{planner: planner{e.rig}}
	e.ride.Adopt(from, h)
	l := e.ride.get()
	if l == nil || l.Number != leftNumber {
		e.t.Fatalf("lane %+v", l)
	}
	return l, h
}

// TestInherit: a lane goes on where the proxy before has left it. What that one had read a part
// of is passed over, at both ends, a request in flight gets its answer, and one whose end is
// gone is refused; what nobody takes ends.
func TestInherit(t *testing.T) {
	r := newEstate(t)
	l, h := r.inherit()
	if h.forgot != 1 {
		t.Errorf("the heir has forgotten %d times", h.forgot)
	}
	if _, err := r.consumer.Write(make([]byte, unread)); err != nil {
		t.Fatal(err)
	}
	if !r.ride.Catch() {
		t.Error("there is no lane to go on with")
	}
	at := r.at(l)
	if got, want := atomic.LoadUint64(&at.Course.Resume), lane.At(seq+unread); got != want {
		t.Errorf("resume %x, want %x", got, want)
	}
	_, _ = r.provider.Write(append(make([]byte, late), answer(5, 10)...))
	if got := r.gets(); got.ID != 5 {
		t.Errorf("the consumer gets %d", got.ID)
	}
	r.eventually("one is answered, the other refused", func() bool {
		records, refusals, pending := r.counts()
		return records == 1 && refusals == 1 && pending == 0
	})
	if refusal := r.refusals[0]; refusal.ID != 6 || refusal.Why != rpc.WhyUpstreamClosed {
		t.Errorf("%+v", refusal)
	}
	if len(r.flying(l)) > 0 || atomic.LoadUint32(&at.Ends[5].Flags) != 0 || atomic.LoadUint32(&at.Class) != leftClass {
		t.Errorf("%+v, in flight %d", at, r.flying(l))
	}
	r.come(1) // the session goes on
	if list := r.lanes.List(); len(list) != 1 || list[0].State != "open" || list[0].Providers[0].Address != r.address[0].String() {
		t.Errorf("%+v", list)
	}
	if _, err := r.lanes.Inherit(&r.said, r.conns); !errors.Is(err, ErrNotLeft) {
		t.Errorf("it is inherited twice: %v", err)
	}
}

// TestInheritOff: a lane that was left while lanes are switched off ends behind what is in
// flight, and the connection goes on.
func TestInheritOff(t *testing.T) {
	r := newEstate(t)
	r.lanes.Use(r.memory, handoff.LaneOff)
	l, _ := r.inherit()
	if _, err := r.consumer.Write(make([]byte, unread)); err != nil {
		t.Fatal(err)
	}
	if !r.ride.Catch() {
		t.Error("there is no lane to go on with")
	}
	_, _ = r.provider.Write(append(make([]byte, late), answer(5, 10)...))
	if got := r.gets(); got.ID != 5 {
		t.Errorf("the consumer gets %d", got.ID)
	}
	<-l.Done()
	if err := r.conn.Send(answer(7, 10)); err != nil || r.gets().ID != 7 {
		t.Errorf("behind the lane: %v", err)
	}
}

// TestNotInherited: what cannot be gone on with stays left, and ends with the rest of it.
func TestNotInherited(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*estate, *lane.Lane)
		want   error
	}{
		"another number":   {func(e *estate, _ *lane.Lane) { e.said.Number = 0 }, ErrNotLeft},
		"another count":    {func(e *estate, _ *lane.Lane) { e.said.Ends = nil }, ErrNotLeft},
		"closing":          {func(_ *estate, at *lane.Lane) { at.Flags = lane.Requests }, errInAnswer},
		"within an answer": {func(_ *estate, at *lane.Lane) { at.Flags |= lane.Paused }, errInAnswer},
		"within a header":  {func(_ *estate, at *lane.Lane) { at.Reading = lane.At(seq - 6) }, errInFrame},
		"never read":       {func(_ *estate, at *lane.Lane) { at.Reading = 0 }, errInFrame},
		"too large":        {func(_ *estate, at *lane.Lane) { at.Reading = lane.At(seq + 17<<20) }, errInFrame},
		"consumer gone":    {func(e *estate, _ *lane.Lane) { e.kernel.strange.Store(true) }, errDeparted},
	} {
		t.Run(name, func(t *testing.T) {
			r := newEstate(t)
			at := &r.memory.Lanes[leftNumber]
			c.change(r, at)
			if _, err := r.lanes.Inherit(&r.said, r.conns); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			r.lanes.Settle()
			r.eventually("it is nobody's", func() bool { return r.settled() })
			if r.memory.Taken(leftNumber) || r.memory.Routes[2].Hash != 0 {
				t.Errorf("%+v", at)
			}
			r.kernel.strange.Store(false)
			r.said.Number = leftNumber
			if _, err := r.lanes.Inherit(&r.said, r.conns); !errors.Is(err, ErrNotLeft) {
				t.Errorf("after the end: %v", err)
			}
		})
	}
}

// TestDropped: a lane that was inherited and is given up after all ends its connections, and
// its number may be used again once its requests in flight are forgotten.
func TestDropped(t *testing.T) {
	r := newEstate(t)
	from, err := r.lanes.Inherit(&r.said, r.conns)
	if err != nil {
		t.Fatal(err)
	}
	r.lanes.Settle()
	if r.settled() {
		t.Error("it is settled while somebody takes a lane")
	}
	r.lanes.Drop(from)
	r.eventually("it is nobody's", func() bool { return r.settled() })
	for what, c := range map[string]net.Conn{"consumer": r.consumer, "provider": r.provider} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("the %s's connection goes on", what)
		}
	}
}

// settled tells whether nothing is left.
func (e *estate) settled() bool {
	e.lanes.node.Mu.Lock()
	defer e.lanes.node.Mu.Unlock()
	n := 0
	e.memory.InFlight(leftNumber, func(uint64, lane.Flight) bool {
		n++
		return true
	})
	return e.lanes.left == nil && n == 0
}
