package left

import (
	"maps"
	"slices"
	"testing"

	"github.com/dubway/dubway/internal/lane"
	"github.com/dubway/dubway/l7proxy/codec"
	"github.com/dubway/dubway/l7proxy/codec/dubbo/seam"
)

const names = "\x052.0.2\x17org.example.EchoService\x050.0.0\x04echo"

// memory is one in which lane 2 is somebody's, of class 7, with a route at place 1; that at
// place 3 is removed and used; that at 5 is removed and not; that at 0 is of another class.
func memory(t *testing.T) *lane.Memory {
	t.Helper()
	m := &lane.Memory{Lanes: make([]lane.Lane, 4), Flights: make([]lane.Flight, 4*lane.Flights), Routes: make([]lane.Route, 8)}
	for place, class := range map[uint32]uint32{0: 9, 1: 7, 3: 7, 5: 7} {
		if err := m.Routes[place].Name(class, lane.Hessian2, []byte(names)); err != nil {
			t.Fatal(err)
		}
	}
	m.Remove(3)
	m.Remove(5)
	m.Lanes[2].Class, m.Lanes[2].Flags = 7, lane.Requests|lane.Answers
	m.Flights[2*lane.Flights+4] = lane.Flight{Key: 5, Route: 3}
	return m
}

func TestRead(t *testing.T) {
	m := memory(t)
	s := Read(m)
	if !maps.Equal(s.Lanes, map[uint32]bool{2: true}) || s.Class != 9 {
		t.Errorf("%+v", s)
	}
	if got := slices.Collect(Routes(m, 2)); !slices.Equal(got, []uint32{1, 3}) {
		t.Errorf("routes %v", got)
	}
	Clear(m, 2)
	forgotten := 0
	Forget(m, 2, func(lane.Flight) { forgotten++ })
	if forgotten == 0 {
		t.Error("nothing is told to be forgotten")
	}
	if m.Taken(2) {
		t.Error("it is somebody's")
	}
	m.InFlight(2, func(id uint64, _ lane.Flight) bool {
		t.Errorf("%d is in flight", id)
		return true
	})
}

// TestRequest: what is made of a route has its names.
func TestRequest(t *testing.T) {
	m := memory(t)
	h, body := Request(&m.Routes[1])
	p, state := seam.Protocol().Requests.Prefix(h, body)
	if state != codec.Complete || p.Path != "org.example.EchoService" || p.Method != "echo" || string(body[:p.End]) != names {
		t.Errorf("%+v %v", p, state)
	}
	if !h.Request() || !h.TwoWay() || h.Event() || h.Serialization() != lane.Hessian2 {
		t.Errorf("%+v", h)
	}
}

func TestSame(t *testing.T) {
	a := lane.Route{Count: 1, Shares: [lane.Shares]lane.Share{{UpTo: 1, Count: 2, Cursor: 5}, {UpTo: 9}}}
	b := a
	b.Shares[0].Cursor, b.Shares[1].UpTo, b.Class, b.Series[3] = 77, 8, 3, 4
	if !Same(&a, &b) {
		t.Error("how far it has gone round, and what is beyond its shares, counts")
	}
	for name, change := range map[string]func(*lane.Route){
		"choices": func(r *lane.Route) { r.Shares[0].Choices[1] = 1 }, "weight": func(r *lane.Route) { r.Shares[0].UpTo = 2 },
		"policy": func(r *lane.Route) { r.Shares[0].Policy = lane.Random }, "flags": func(r *lane.Route) { r.Flags = lane.CountsActive },
		"shares": func(r *lane.Route) { r.Count = 2 }, "spans": func(r *lane.Route) { r.Sampled = 1 },
		"who has a limit": func(r *lane.Route) { r.Bounds[1] = 1 }, "who is counted": func(r *lane.Route) { r.Actives[1] = 1 },
		"who is compared": func(r *lane.Route) { r.Candidates[1].Active = 1 },
	} {
		b := a
		if change(&b); Same(&a, &b) {
			t.Errorf("%s does not count", name)
		}
	}
}
