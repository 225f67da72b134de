package cluster

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/dubway/dubway/l7proxy/snapshot"
)

func TestOriginalDestination(t *testing.T) {
	s := setOf(t, &snapshot.Cluster{Name: "c", Kind: snapshot.ClusterOriginalDst})
	e := pick(t, s, Choice{Original: address(1)})
	if e.Address != address(1) || e.Info.Address != address(1) || e != pick(t, s, Choice{Original: address(1)}) {
		t.Errorf("picked %v", e.Address)
	}
	if _, err := s.Pick(Choice{}); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("pick without an address: %v", err)
	}
	all := func(netip.AddrPort) bool { return true }
	if _, err := s.Pick(Choice{Original: address(1), Exclude: all}); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("pick of an excluded address: %v", err)
	}
	e.Failed()
	if pick(t, s, Choice{Original: address(1)}) != e {
		t.Error("a failed address is not itself any more")
	}
}

// A consumer that dials ever new addresses does not make the set grow for ever,
// and what is in use is never forgotten.
func TestOriginalDestinationsAreForgotten(t *testing.T) {
	s := setOf(t, &snapshot.Cluster{Name: "c", Kind: snapshot.ClusterOriginalDst})
	busy, quiet := pick(t, s, Choice{Original: address(1)}), pick(t, s, Choice{Original: address(2)})
	busy.Begin()
	quiet.Failed()
	for i := range 20_000 {
		pick(t, s, Choice{Original: address(10 + i)})
	}
	if n := len(s.originals.all()); n > 4*sweepMin {
		t.Errorf("%d addresses are kept", n)
	}
	if pick(t, s, Choice{Original: address(1)}) != busy {
		t.Error("an address in use was forgotten")
	}
	if pick(t, s, Choice{Original: address(2)}) == quiet {
		t.Error("an address out of use was kept")
	}
}
