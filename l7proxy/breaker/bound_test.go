package breaker

import (
	"sync/atomic"
	"testing"

	"github.com/dubway/dubway/l7proxy/rpc"
)

// TestShare: lanes and the proxy have one count while they share a bound, and what either
// adds is not the other's when that ends.
func TestShare(t *testing.T) {
	var all Breakers
	b, limit := all.Of("shop/a", "c"), uint32(5)
	g := &Guarded{Endpoint: &endpoint{}, Breaker: b}
	g.Begin()
	g.Begin()
	var one, other uint64
	atomic.AddUint64(&one, 2) // of lanes
	b.Share(&one)
	if one != 2<<32|2 || b.Full(&limit, 0) || !b.Full(&limit, 1) || b.Requests() != 2 {
		t.Errorf("bound %x, %d of the proxy", one, b.Requests())
	}
	g.Begin()
	if !b.Full(&limit, 0) || one != 3<<32|2 {
		t.Errorf("bound %x: there is room", one)
	}
	atomic.AddUint64(&one, ^uint64(0))
	if b.Full(&limit, 0) {
		t.Error("a request of a lane has ended, and counts")
	}
	g.End(rpc.OutcomeOK)
	b.Share(&one) // again
	if one != 2<<32|1 {
		t.Errorf("bound %x", one)
	}
	b.Share(&other) // another memory
	if one != 1 || other != 2<<32 {
		t.Errorf("bounds %x and %x", one, other)
	}
	b.Unshare(&one)
	g.Begin()
	if other != 3<<32 {
		t.Errorf("bound %x", other)
	}
	b.Unshare(&other)
	g.End(rpc.OutcomeOK)
	if other != 0 || b.Full(&limit, 2) || b.Requests() != 2 {
		t.Errorf("bound %x, %d of the proxy", other, b.Requests())
	}
}
