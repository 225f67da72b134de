package original

import (
	"net/netip"
	"testing"
)

// TestBook: an address has one value, as long as it is in use.
func TestBook(t *testing.T) {
	busy := make(map[*int]bool)
	kind := &Kind[int]{
		Make: func(a netip.AddrPort) *int { n := int(a.Port()); return &n },
		Busy: func(n *int) bool { return busy[n] },
	}
	at := func(port int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(port))
	}
	var b Book[int]
	first, second := b.Of(at(1), kind), b.Of(at(2), kind)
	if *first != 1 || b.Of(at(1), kind) != first || first == second {
		t.Errorf("%d, %d", *first, *second)
	}
	busy[first] = true
	for port := range 20_000 {
		b.Of(at(10+port), kind)
	}
	if n := len(b.All()); n > 4*SweepMin {
		t.Errorf("%d are kept", n)
	}
	if b.Of(at(1), kind) != first || b.Of(at(2), kind) == second {
		t.Error("what is busy was dropped, or what is not was kept")
	}
	if n := testing.AllocsPerRun(100, func() { b.Of(at(1), kind) }); n != 0 {
		t.Errorf("%v allocations for a known address", n)
	}
}
